//! Random databases and random resources over few names.

#![allow(clippy::expect_used, reason = "constants that are right")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt;
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::json;
use timescaledb_policy_operator::{
    api::{
        APPROVE_ANNOTATION, CompressionPolicy, ContinuousAggregate, FINALIZER, Hypertable, RetentionPolicy,
        TimescaleDatabase,
        compression_policy::{CompressionPolicySpec, CompressionPolicyStatus, OrderBy},
        continuous_aggregate::{AggregateDeletion, ContinuousAggregateSpec, RefreshPolicy},
        hypertable::{HypertableSpec, Index as IndexSpec, IndexColumn, SpacePartition},
        retention_policy::{RetentionPolicySpec, RetentionPolicyStatus},
        status::TargetStatus,
        types::{
            DatabaseRef, Interval, IntervalText, Nulls, Order, PolicyDeletion, Relation, Schedule, SqlName, TargetKind,
            TargetRef,
        },
    },
    catalog::{
        Aggregate, Catalog, Columnstore, Dimension, Drops, Hypertable as LiveHypertable, Index, IndexKey, Job,
        Partitioning, Policy, RelationKind, Server, SortColumn, Table,
    },
    desired::{ClaimId, Kind},
    sql,
};

use super::fixture::{resources::Resources, world::World};

/// A database and the resources that meet it.
#[derive(Clone)]
pub struct Case {
    pub world: World,
    pub resources: Resources,
}

/// As a scenario file has it, more or less.
impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let World { catalog, tables, drops, histories: _, definitions, predicates: _, errors: _ } = &self.world;
        let Resources { database, hypertables, aggregates, compression, retention } = &self.resources;
        let fixture = json!({"catalog": catalog, "tables": tables, "drops": drops, "definitions": definitions});
        let mut all = vec![json!(database)];
        all.extend(hypertables.iter().map(|r| json!(**r)));
        all.extend(aggregates.iter().map(|r| json!(**r)));
        all.extend(compression.iter().map(|r| json!(**r)));
        all.extend(retention.iter().map(|r| json!(**r)));
        let text = serde_saphyr::to_string(&json!({"database": fixture, "resources": all})).map_err(|_| fmt::Error)?;
        write!(f, "\n{text}")
    }
}

const TABLES: usize = 3;
const AGGREGATES: usize = 3;
const TIME: usize = 0;

/// The names in play: relations, columns and the extension's schema. Some are meant to break whoever forgets to quote.
#[derive(Clone, Debug)]
struct Names {
    tables: Vec<Relation>,
    aggregates: Vec<Relation>,
    /// The first is the time column.
    columns: Vec<SqlName>,
    extension: SqlName,
}

/// A name of every sort, distinct from its neighbours by its ending.
fn name(ending: &'static str) -> impl Strategy<Value = SqlName> {
    let odd = "[^\0]{1,8}";
    let text = prop_oneof![
        2 => select(vec!["t", "Weird", "a.b", "it's", "say \"x\"", "größe", "back\\slash", "a; DROP TABLE b --", "/*", "$$", " "]).prop_map(str::to_owned),
        1 => odd.prop_map(|text| text),
    ];
    text.prop_filter_map("not a name", move |text| format!("{text}{ending}").parse().ok())
}

fn names() -> impl Strategy<Value = Names> {
    let schemas = (name("s"), name("S"));
    let relations = (name("0"), name("1"), name("2"), name("3"), name("4"), name("5"));
    let columns = (name("c0"), name("c1"), name("c2"));
    (schemas, relations, columns, prop_oneof![Just("public".parse().expect("a name")), name("x")]).prop_map(
        |((s, u), (a, b, c, d, e, f), (x, y, z), extension)| {
            let relation = |schema: &SqlName, name| Relation { schema: schema.clone(), name };
            Names {
                tables: vec![relation(&s, a), relation(&s, b), relation(&u, c)],
                aggregates: vec![relation(&s, d), relation(&s, e), relation(&u, f)],
                columns: vec![x, y, z],
                extension,
            }
        },
    )
}

/// Of interlocking lengths: some are equal in other words.
const AGES: [&str; 6] = ["1 day", "7 days", "1 week", "30 days", "1 month", "40 days"];

fn age() -> impl Strategy<Value = &'static str> {
    select(AGES.to_vec())
}

fn length() -> impl Strategy<Value = Interval> {
    age().prop_map(|text| text.parse().expect("an interval"))
}

/// An age as written: now and then not an interval.
fn written() -> impl Strategy<Value = IntervalText> {
    prop_oneof![20 => age().prop_map(Into::into), 1 => Just("7 dayz".into()), 1 => Just("0 days".into())]
}

fn start() -> impl Strategy<Value = Timestamp> {
    select(vec![0_i64, 1_767_225_600]).prop_map(|second| Timestamp::from_second(second).expect("a time"))
}

fn zone() -> impl Strategy<Value = String> {
    select(vec!["Europe/Berlin".to_owned(), "it's".to_owned()])
}

pub fn case() -> impl Strategy<Value = Case> {
    names().prop_flat_map(|names| {
        let names = Arc::new(names);
        (world(names.clone()), resources(names)).prop_map(|(world, resources)| Case { world, resources })
    })
}

// The database.

#[derive(Clone, Debug)]
enum State {
    Absent,
    Table(Table),
    Hypertable(LiveHypertable),
}

fn table(names: &Arc<Names>) -> impl Strategy<Value = Table> + use<> {
    let columns: Vec<_> = names.columns.clone();
    let kind = prop_oneof![12 => Just(RelationKind::Table), 1 => Just(RelationKind::View)];
    let locked = proptest::bool::weighted(0.1);
    (kind, locked, select(vec![0_i64, 8192, 1 << 30]), any::<bool>()).prop_map(
        move |(kind, locked, bytes, narrow_key)| {
            let types = ["timestamp with time zone", "integer", "text"].map(str::to_owned);
            let key: Vec<_> = columns.iter().take(if narrow_key { 1 } else { 3 }).map(ToString::to_string).collect();
            Table {
                indexes: BTreeSet::default(),
                kind,
                locked,
                bytes,
                obstacles: Vec::new(),
                columns: columns.iter().cloned().zip(types).collect(),
                unique_indexes: BTreeMap::from([("key".parse().expect("a name"), key)]),
            }
        },
    )
}

fn live_hypertable(names: &Arc<Names>, id: i32) -> impl Strategy<Value = LiveHypertable> + use<> {
    let time = prop_oneof![
        8 => length().prop_map(Partitioning::Range),
        1 => Just(Partitioning::IntegerRange(1000)),
    ];
    let names = names.clone();
    let by = prop_oneof![10 => Just(TIME), 1 => Just(1)];
    let columnstore = proptest::option::of((
        proptest::option::of(vec(select(names.columns[1..].to_vec()), 0..2)),
        proptest::option::of(vec(sort_column(&names), 1..3)),
    ));
    let indexes = vec(proptest::option::of((live_index(&names), proptest::bool::weighted(0.7))), 2);
    (time, by, proptest::option::of(1..4_i32), columnstore, indexes).prop_map(
        move |(time, by, hash, columnstore, indexes)| {
            let mut dimensions = vec![Dimension { column: names.columns[by].clone(), type_: None, partitioning: time }];
            dimensions.extend(hash.map(|n| Dimension {
                column: names.columns[2].clone(),
                type_: None,
                partitioning: Partitioning::Hash(n),
            }));
            let indexes = indexes.into_iter().enumerate().filter_map(|(i, index)| {
                let (index, valid) = index?;
                Some((index_name(i), Index { valid, ..index }))
            });
            LiveHypertable {
                id,
                dimensions,
                columnstore: columnstore.map(|(segment_by, order_by)| Columnstore { segment_by, order_by }),
                indexes: indexes.collect(),
            }
        },
    )
}

fn index_name(i: usize) -> SqlName {
    format!("index \"{i}\"").parse().expect("a name")
}

fn sort_column(names: &Arc<Names>) -> impl Strategy<Value = SortColumn> + use<> {
    let sort = |(column, descending, nulls_first)| SortColumn { column, descending, nulls_first };
    (select(names.columns.clone()), any::<bool>(), any::<bool>()).prop_map(sort)
}

fn live_index(names: &Arc<Names>) -> impl Strategy<Value = Index> + use<> {
    let predicate = proptest::option::of(select(vec!["(1 > 0)".to_owned(), "true".to_owned()]));
    (select(names.columns.clone()), predicate, any::<bool>()).prop_map(|(column, predicate, unique)| Index {
        method: "btree".to_owned(),
        columns: vec![IndexKey { column: column.to_string(), descending: false, nulls_first: false }],
        include: Vec::new(),
        predicate,
        unique,
        valid: true,
    })
}

fn job(policy: impl Strategy<Value = Policy>) -> impl Strategy<Value = Job> {
    let runs = prop_oneof![4 => Just((true, false)), 1 => Just((false, false)), 1 => Just((false, true))];
    (policy, length(), -1..3_i32, runs, proptest::option::of(start()), proptest::option::of(zone())).prop_map(
        |(policy, length, max_retries, (scheduled, gave_up), initial_start, timezone)| Job {
            id: 0,
            hypertable_id: 0,
            owner: None,
            config_hypertable_id: None,
            unreadable: Vec::new(),
            policy,
            schedule_interval: length,
            max_runtime: Interval::from_seconds(0),
            max_retries,
            retry_period: length,
            scheduled,
            gave_up,
            fixed_schedule: initial_start.is_some(),
            initial_start,
            timezone,
        },
    )
}

/// `None`: by another measure than age, or without limit.
fn perhaps() -> impl Strategy<Value = Option<Interval>> {
    prop_oneof![8 => length().prop_map(Some), 1 => Just(None)]
}

/// `None`: one that cannot be read.
fn some_age() -> impl Strategy<Value = Option<Age>> {
    prop_oneof![
        8 => length().prop_map(|age| Some(Age::OlderThan(age.into()))),
        1 => length().prop_map(|age| Some(Age::CreatedBefore(age))),
        1 => Just(None),
    ]
}

fn world(names: Arc<Names>) -> impl Strategy<Value = World> {
    let state = |i: i32| {
        prop_oneof![
            1 => Just(State::Absent),
            2 => table(&names).prop_map(State::Table),
            4 => live_hypertable(&names, 10 + i).prop_map(State::Hypertable),
        ]
    };
    let tables = (state(0), state(1), state(2));
    let policies = (
        proptest::option::of(job(some_age().prop_map(|compress_after| Policy::Compression { after: compress_after }))),
        proptest::option::of(job(some_age().prop_map(|drop_after| Policy::Retention { after: drop_after }))),
    );
    let refresh = job((perhaps(), proptest::option::of(Just(Interval::from_seconds(3600)))).prop_map(
        |(start_offset, end_offset)| Policy::Refresh {
            start_offset: start_offset.map(Span::Time),
            end_offset: end_offset.map(Span::Time),
            options: RefreshOptions::default(),
        },
    ));
    let aggregate = proptest::option::of((0..TABLES, any::<bool>(), any::<bool>(), any::<bool>(), vec(refresh, 0..3)));
    let drops = (0..=4_i64, select(vec![None, Some(0), Some(86_400)]));
    (tables, vec(policies, TABLES), vec(aggregate, AGGREGATES), vec(drops, TABLES)).prop_map(
        move |(tables, policies, aggregates, drops)| {
            let extension = json!({"version": "2.23.1", "schema": names.extension.as_str()});
            let extension = serde_json::from_value(extension).expect("an extension");
            let server = Server {
                version_num: 170_005,
                extension: Some(extension),
                license: Some("timescale".into()),
                ..Server::default()
            };
            let mut world = World { catalog: Catalog { server, ..Catalog::default() }, ..World::default() };
            let mut jobs = Vec::new();
            for ((relation, state), (compression, retention)) in
                names.tables.iter().zip([tables.0, tables.1, tables.2]).zip(policies)
            {
                match state {
                    State::Absent => {}
                    State::Table(table) => drop(world.tables.insert(relation.clone(), table)),
                    State::Hypertable(live) => {
                        jobs.extend(
                            compression.into_iter().chain(retention).map(|job| Job { hypertable_id: live.id, ..job }),
                        );
                        world.catalog.hypertables.insert(relation.clone(), live);
                    }
                }
            }
            for (i, aggregate) in aggregates.into_iter().enumerate() {
                let Some((source, materialized_only, hourly, as_wanted, refresh)) = aggregate else { continue };
                let source = &names.tables[source];
                let Some(source_id) = world.catalog.hypertables.get(source).map(|live| live.id) else { continue };
                let hypertable_id = 20 + i32::try_from(i).expect("a small number");
                let bucket = hourly.then(|| Interval::from_seconds(3600));
                let fingerprint = "f".to_owned();
                let relation = names.aggregates[i].clone();
                if !as_wanted {
                    world.definitions.insert(relation.clone(), query(source));
                }
                world.catalog.aggregates.insert(relation.clone(), aggregate);
                jobs.extend(refresh.into_iter().map(|job| Job { hypertable_id, ..job }));
            }
            world.catalog.jobs = jobs.into_iter().zip(1000..).map(|(job, id)| Job { id, ..job }).collect();
            for (relation, (chunks, oldest)) in names.tables.iter().zip(drops) {
                let oldest = oldest.map(|second| Timestamp::from_second(second).expect("a time"));
                world
                    .drops
                    .insert(relation.clone(), Drops { chunks, of: 4, oldest, newest: oldest, ..Drops::default() });
            }
            world
        },
    )
}

fn query(source: &Relation) -> String {
    format!(
        "SELECT time_bucket('1 hour', 1) AS bucket, count(*) AS rows FROM {} GROUP BY bucket",
        sql::quote_relation(source)
    )
}

// The resources.

/// What Kubernetes knows of a resource besides its spec.
#[derive(Clone, Debug)]
struct Meta {
    created: i64,
    deleted: bool,
    finalizer: bool,
    approval: Option<String>,
}

fn meta() -> impl Strategy<Value = Meta> {
    let approval = prop_oneof![8 => Just(None), 1 => Just(Some("0123456789ab".to_owned()))];
    (0..3_i64, proptest::bool::weighted(0.2), proptest::bool::weighted(0.7), approval)
        .prop_map(|(created, deleted, finalizer, approval)| Meta { created, deleted, finalizer, approval })
}

fn metadata(name: usize, meta: Meta) -> ObjectMeta {
    let time = |second: i64| Time(Timestamp::from_second(second).expect("a time"));
    ObjectMeta {
        name: Some(format!("r{name}")),
        namespace: Some("factory".to_owned()),
        creation_timestamp: Some(time(meta.created)),
        deletion_timestamp: meta.deleted.then(|| time(100)),
        finalizers: meta.finalizer.then(|| vec![FINALIZER.to_owned()]),
        annotations: meta.approval.map(|digest| BTreeMap::from([(APPROVE_ANNOTATION.to_owned(), digest)])),
        ..ObjectMeta::default()
    }
}

fn schedule(interval: bool) -> impl Strategy<Value = Schedule> {
    let every = written().prop_map(Some);
    let every = if interval { every.boxed() } else { proptest::option::of(written()).boxed() };
    let start = proptest::option::of(start().prop_map(|t| t.to_string()));
    (
        every,
        start,
        proptest::option::of(zone()),
        proptest::option::of(written()),
        proptest::option::of(-1..3_i32),
        proptest::option::of(written()),
    )
        .prop_map(|(interval, initial_start, timezone, max_runtime, max_retries, retry_period)| Schedule {
            interval,
            initial_start,
            timezone,
            max_runtime,
            max_retries,
            retry_period,
        })
}

fn order() -> impl Strategy<Value = (Order, Option<Nulls>)> {
    (select(vec![Order::Asc, Order::Desc]), proptest::option::of(select(vec![Nulls::First, Nulls::Last])))
}

fn database_ref() -> DatabaseRef {
    DatabaseRef { name: "plant".to_owned(), namespace: None }
}

fn target_ref() -> impl Strategy<Value = TargetRef> {
    (0..4_usize).prop_map(|name| TargetRef { kind: TargetKind::Hypertable, name: format!("r{name}") })
}

fn hypertable(names: &Arc<Names>) -> impl Strategy<Value = HypertableSpec> + use<> {
    let names = names.clone();
    let by = prop_oneof![10 => Just(TIME), 1 => Just(1)];
    let space = proptest::option::of((1..3_usize, 1..4_i32));
    let columns: Vec<_> = names.columns.iter().map(ToString::to_string).collect();
    let index = |i: usize| {
        let predicate = select(vec!["1 > 0 -- remark".to_owned(), "true".to_owned()]);
        let parts = (select(columns.clone()), order(), select(columns.clone()), any::<bool>());
        proptest::option::of((parts, proptest::option::of(predicate)).prop_map(
            move |((name, (order, nulls), other, include), predicate)| IndexSpec {
                name: index_name(i).to_string(),
                columns: vec![IndexColumn { name, order, nulls }],
                include: include.then_some(other).into_iter().collect(),
                predicate,
            },
        ))
    };
    let indexes = (index(0), index(1)).prop_map(|(first, second)| first.into_iter().chain(second).collect());
    (0..TABLES, by, proptest::option::of(written()), space, any::<bool>(), indexes).prop_map(
        move |(table, by, chunk_interval, space, migrate_data, indexes)| {
            let column = |i: usize| names.columns[i].to_string();
            HypertableSpec {
                database_ref: database_ref(),
                schema: names.tables[table].schema.to_string(),
                table: names.tables[table].name.to_string(),
                time_column: column(by),
                chunk_interval,
                space_partitions: space
                    .into_iter()
                    .map(|(i, partitions)| SpacePartition { column: column(i), partitions })
                    .collect(),
                migrate_data,
                indexes,
            }
        },
    )
}

fn compression(names: &Arc<Names>) -> impl Strategy<Value = CompressionPolicySpec> + use<> {
    let columns: Vec<_> = names.columns.iter().map(ToString::to_string).collect();
    let order_by = vec(
        (select(columns.clone()), order()).prop_map(|(column, (order, nulls))| OrderBy { column, order, nulls }),
        1..3,
    );
    let segment_by = vec(select(columns[1..].to_vec()), 0..2);
    let parts =
        (target_ref(), written(), proptest::option::of(segment_by), proptest::option::of(order_by), schedule(false));
    (parts, any::<bool>(), policy_deletion()).prop_map(
        |((target_ref, compress_after, segment_by, order_by, schedule), paused, deletion_policy)| {
            CompressionPolicySpec {
                target_ref,
                compress_after,
                segment_by,
                order_by,
                schedule,
                paused,
                deletion_policy,
            }
        },
    )
}

fn policy_deletion() -> impl Strategy<Value = PolicyDeletion> {
    prop_oneof![3 => Just(PolicyDeletion::Delete), 1 => Just(PolicyDeletion::Retain)]
}

fn retention() -> impl Strategy<Value = RetentionPolicySpec> {
    let paused = proptest::bool::weighted(0.2);
    (target_ref(), written(), schedule(false), paused, policy_deletion()).prop_map(
        |(target_ref, drop_after, schedule, paused, deletion_policy)| RetentionPolicySpec {
            target_ref,
            drop_after,
            schedule,
            paused,
            deletion_policy,
        },
    )
}

fn aggregate(names: &Arc<Names>) -> impl Strategy<Value = ContinuousAggregateSpec> + use<> {
    let names = names.clone();
    let deletion = select(vec![AggregateDeletion::Retain, AggregateDeletion::Delete]);
    let refresh = (
        proptest::option::weighted(0.9, written()),
        proptest::option::of(Just("1 hour".into())),
        schedule(true),
        any::<bool>(),
    )
        .prop_map(|(start_offset, end_offset, schedule, paused)| RefreshPolicy {
            start_offset,
            end_offset,
            schedule,
            paused,
        });
    // Mostly over a table; the others over another aggregate, in either direction of the names.
    let source = prop_oneof![4 => (0..TABLES).prop_map(Ok), 1 => (0..AGGREGATES).prop_map(Err)];
    (0..AGGREGATES, source, proptest::option::of(any::<bool>()), proptest::option::weighted(0.8, refresh), deletion)
        .prop_map(move |(relation, source, real_time, refresh_policy, deletion_policy)| {
            let relation = &names.aggregates[relation];
            let source = match source {
                Ok(table) => &names.tables[table],
                Err(aggregate) => &names.aggregates[aggregate],
            };
            ContinuousAggregateSpec {
                database_ref: database_ref(),
                schema: relation.schema.to_string(),
                name: relation.name.to_string(),
                query: query(source),
                real_time,
                refresh_policy,
                deletion_policy,
            }
        })
}

fn database() -> impl Strategy<Value = TimescaleDatabase> {
    let percent = select(vec![0, 25, 50, 100]);
    (percent, proptest::bool::weighted(0.1)).prop_map(|(percent, orphan)| {
        let spec = json!({
            "connection": {"secretRef": {"name": "plant-db"}},
            "guards": {"maxImmediateDropPercent": percent},
            "deletionPolicy": if orphan { "Orphan" } else { "Delete" },
        });
        let mut database = TimescaleDatabase::new("plant", serde_json::from_value(spec).expect("a spec"));
        database.metadata.namespace = Some("factory".to_owned());
        database
    })
}

fn resources(names: Arc<Names>) -> impl Strategy<Value = Resources> {
    let hypertables = vec((meta(), hypertable(&names)), 0..4);
    let aggregates = vec((meta(), aggregate(&names)), 0..4);
    let compression = vec((meta(), compression(&names)), 0..4);
    let retention = vec((meta(), retention()), 0..4);
    (database(), hypertables, aggregates, compression, retention).prop_map(
        move |(database, hypertables, aggregates, compression, retention)| {
            let hypertables = hypertables.into_iter().enumerate().map(|(i, (meta, spec))| Hypertable {
                metadata: metadata(i, meta),
                spec,
                status: None,
            });
            let aggregates = aggregates.into_iter().enumerate().map(|(i, (meta, spec))| ContinuousAggregate {
                metadata: metadata(i, meta),
                spec,
                status: None,
            });
            let recorded = |i: usize| {
                let relation = &names.tables[i % TABLES];
                TargetStatus {
                    database: "plant".to_owned(),
                    database_namespace: None,
                    schema: relation.schema.to_string(),
                    table: relation.name.to_string(),
                }
            };
            let compression = compression.into_iter().enumerate().map(|(i, (meta, spec))| {
                let mut policy = CompressionPolicy {
                    metadata: metadata(i, meta),
                    spec,
                    status: Some(CompressionPolicyStatus::default()),
                };
                policy.status.as_mut().expect("a status").target = Some(recorded(i));
                Arc::new(policy)
            });
            let retention = retention.into_iter().enumerate().map(|(i, (meta, spec))| {
                let mut policy = RetentionPolicy {
                    metadata: metadata(i, meta),
                    spec,
                    status: Some(RetentionPolicyStatus::default()),
                };
                policy.status.as_mut().expect("a status").target = Some(recorded(i));
                Arc::new(policy)
            });
            Resources {
                database,
                hypertables: hypertables.map(Arc::new).collect(),
                aggregates: aggregates.map(Arc::new).collect(),
                compression: compression.collect(),
                retention: retention.collect(),
            }
        },
    )
}

/// Every name that may stand in a statement.
pub fn names_in(world: &World, resources: &Resources) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut relation = |relation: &Relation| names.extend([relation.schema.to_string(), relation.name.to_string()]);
    world
        .tables
        .keys()
        .chain(world.catalog.hypertables.keys())
        .chain(world.catalog.aggregates.keys())
        .for_each(&mut relation);
    for aggregate in &resources.aggregates {
        names.extend([aggregate.spec.schema.clone(), aggregate.spec.name.clone()]);
    }
    for hypertable in &resources.hypertables {
        let spec = &hypertable.spec;
        names.extend([spec.schema.clone(), spec.table.clone(), spec.time_column.clone()]);
        names.extend(spec.space_partitions.iter().map(|p| p.column.clone()));
        for index in &spec.indexes {
            names.insert(index.name.clone());
            names.extend(index.columns.iter().map(|c| c.name.clone()));
            names.extend(index.include.clone());
        }
    }
    for policy in &resources.compression {
        names.extend(policy.spec.segment_by.iter().flatten().cloned());
        names.extend(policy.spec.order_by.iter().flatten().map(|o| o.column.clone()));
    }
    let dimensions = world.catalog.hypertables.values().flat_map(|live| &live.dimensions);
    names.extend(dimensions.map(|d| d.column.to_string()));
    names.extend(world.catalog.server.extension.iter().map(|e| e.schema.to_string()));
    names
}

// Changes of a resource.

fn annotate<K: ResourceExt + Clone>(resources: &mut [Arc<K>], name: Option<&str>, digest: Option<&str>) {
    for resource in resources.iter_mut().filter(|r| name.is_none_or(|name| r.name_any() == name)) {
        let annotations = Arc::make_mut(resource).annotations_mut();
        match digest {
            Some(digest) => drop(annotations.insert(APPROVE_ANNOTATION.to_owned(), digest.to_owned())),
            None => drop(annotations.remove(APPROVE_ANNOTATION)),
        }
    }
}

/// Takes all approvals away.
pub fn disapprove(resources: &mut Resources) {
    annotate(&mut resources.hypertables, None, None);
    annotate(&mut resources.aggregates, None, None);
    annotate(&mut resources.compression, None, None);
    annotate(&mut resources.retention, None, None);
}

/// Approves the plan with this digest.
pub fn approve(resources: &mut Resources, id: &ClaimId, digest: &str) {
    let (name, digest) = (Some(id.resource.name.as_str()), Some(digest));
    match id.resource.kind {
        Kind::Hypertable => annotate(&mut resources.hypertables, name, digest),
        Kind::ContinuousAggregate => annotate(&mut resources.aggregates, name, digest),
        Kind::CompressionPolicy => annotate(&mut resources.compression, name, digest),
        Kind::RetentionPolicy => annotate(&mut resources.retention, name, digest),
    }
}

/// Something about a retention policy that a person changes.
#[derive(Clone, Debug)]
pub enum Edit {
    DropAfter(String),
    Interval(String),
    MaxRetries(i32),
    Paused,
}

pub fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        "[0-9]{1,3} days".prop_map(Edit::DropAfter),
        "[1-9] days".prop_map(Edit::Interval),
        (0..5).prop_map(Edit::MaxRetries),
        Just(Edit::Paused),
    ]
}

/// Changes a retention policy.
pub fn apply(resources: &mut Resources, id: &ClaimId, edit: &Edit) {
    for policy in resources
        .retention
        .iter_mut()
        .filter(|r| id.resource.kind == Kind::RetentionPolicy && r.name_any() == id.resource.name)
    {
        let spec = &mut Arc::make_mut(policy).spec;
        match edit {
            Edit::DropAfter(age) => spec.drop_after = Some(age.as_str().into()),
            Edit::Interval(interval) => spec.schedule.interval = Some(interval.as_str().into()),
            Edit::MaxRetries(retries) => spec.schedule.max_retries = Some(*retries),
            Edit::Paused => spec.paused = true,
        }
    }
}

/// The approval that a resource carries.
pub fn approval(resources: &Resources, id: &ClaimId) -> Option<String> {
    fn of<K: ResourceExt>(resources: &[Arc<K>], name: &str) -> Option<String> {
        resources.iter().find(|r| r.name_any() == name)?.annotations().get(APPROVE_ANNOTATION).cloned()
    }
    match id.resource.kind {
        Kind::Hypertable => of(&resources.hypertables, &id.resource.name),
        Kind::ContinuousAggregate => of(&resources.aggregates, &id.resource.name),
        Kind::CompressionPolicy => of(&resources.compression, &id.resource.name),
        Kind::RetentionPolicy => of(&resources.retention, &id.resource.name),
    }
}
