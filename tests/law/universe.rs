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
use proptest::{
    collection::vec,
    prelude::*,
    sample::{select, subsequence},
};
use serde_json::json;
use timescaledb_policy_operator::{
    api::{
        APPROVE_ANNOTATION, CompressionPolicy, ContinuousAggregate, FINALIZER, Hypertable, MADE_BY, RetentionPolicy,
        TimescaleDatabase,
        compression_policy::{
            CompressionPolicySpec, CompressionPolicyStatus, OrderBy, SparseIndex as SparseIndexSpec, SparseIndexKind,
        },
        continuous_aggregate::{AggregateDeletion, ContinuousAggregateSpec, QueryChange, RefreshPolicy},
        hypertable::{HypertableSpec, Reorder, SpacePartition},
        index::{Index as IndexSpec, IndexColumn, IndexMethod},
        retention_policy::{RetentionPolicySpec, RetentionPolicyStatus},
        status::TargetStatus,
        timescale_database::Defaults,
        types::{
            DatabaseRef, Interval, IntervalText, LabelOperator, LabelRequirement, Nulls, Order, PolicyDeletion,
            Relation, Schedule, Span, SpanText, SqlName, TargetKind, TargetRef, TargetSelector,
        },
    },
    catalog::{
        Age, Aggregate, Attachments, Catalog, Columnstore, Dimension, Drops, Grant, Hypertable as LiveHypertable,
        Index, IndexKey, Job, Loss, Partitioning, Policy, Privilege, RefreshOptions, RelationKind, Server, SortColumn,
        SparseIndex, Table, statistics::JobStatistics,
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
        let World { catalog, tables, drops, histories, definitions, predicates: _, errors: _, attachments } =
            &self.world;
        let Resources { database, hypertables, aggregates, compression, retention } = &self.resources;
        let fixture = json!({"catalog": catalog, "tables": tables, "drops": drops, "definitions": definitions, "histories": histories, "attachments": attachments});
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
/// The namespaces of the resources: that of the database, and for the fourth of each kind another.
const NAMESPACES: [&str; 4] = ["factory", "factory", "factory", "office"];

/// The names in play: relations, columns and the extension's schema. Some are meant to break whoever forgets to quote.
#[derive(Clone, Debug)]
struct Names {
    tables: Vec<Relation>,
    aggregates: Vec<Relation>,
    /// The first is the time column.
    columns: Vec<SqlName>,
    extension: SqlName,
}

impl Names {
    /// A function that says what time it is now.
    fn clock(&self) -> Relation {
        Relation { schema: self.tables[0].schema.clone(), name: self.columns[1].clone() }
    }

    fn tablespaces(&self) -> Vec<SqlName> {
        self.columns.clone()
    }
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

fn names() -> BoxedStrategy<Names> {
    let schemas = (name("s"), name("S"));
    let relations = (name("0"), name("1"), name("2"), name("3"), name("4"), name("5"));
    let columns = (name("c0"), name("c1"), name("c2"));
    (schemas, relations, columns, prop_oneof![Just("public".parse().expect("a name")), name("x")])
        .prop_map(|((s, u), (a, b, c, d, e, f), (x, y, z), extension)| {
            let relation = |schema: &SqlName, name| Relation { schema: schema.clone(), name };
            Names {
                tables: vec![relation(&s, a), relation(&s, b), relation(&u, c)],
                aggregates: vec![relation(&s, d), relation(&s, e), relation(&u, f)],
                columns: vec![x, y, z],
                extension,
            }
        })
        .boxed()
}

/// Of interlocking lengths: some are equal in other words.
const AGES: [&str; 6] = ["1 day", "7 days", "1 week", "30 days", "1 month", "40 days"];

fn age() -> impl Strategy<Value = &'static str> {
    select(AGES.to_vec())
}

fn length() -> impl Strategy<Value = Interval> {
    age().prop_map(|text| text.parse().expect("an interval"))
}

/// The same age in a column of integers: a unit is a day.
fn units(interval: Interval) -> i64 {
    i64::try_from(interval.total_micros() / 86_400_000_000).expect("a small number")
}

/// An age as written: now and then not an interval.
fn written() -> impl Strategy<Value = IntervalText> {
    prop_oneof![20 => age().prop_map(Into::into), 1 => Just("7 dayz".into()), 1 => Just("0 days".into())]
}

/// A span as written: mostly of time, as most hypertables are by time.
fn written_span() -> BoxedStrategy<SpanText> {
    prop_oneof![
        4 => written().prop_map(|text| SpanText::Interval(text.0)),
        1 => length().prop_map(|interval| SpanText::Integer(units(interval))),
    ]
    .boxed()
}

fn start() -> impl Strategy<Value = Timestamp> {
    select(vec![0_i64, 1_767_225_600]).prop_map(|second| Timestamp::from_second(second).expect("a time"))
}

fn zone() -> impl Strategy<Value = String> {
    select(vec!["Europe/Berlin".to_owned(), "it's".to_owned()])
}

pub fn case() -> BoxedStrategy<Case> {
    names()
        .prop_flat_map(|names| {
            let names = Arc::new(names);
            (world(names.clone()), resources(names)).prop_map(|(world, resources)| Case { world, resources })
        })
        .boxed()
}

// The database.

#[derive(Clone, Debug)]
enum State {
    Absent,
    Table(Table),
    Hypertable(LiveHypertable),
}

fn table(names: &Arc<Names>) -> BoxedStrategy<Table> {
    let columns: Vec<_> = names.columns.clone();
    let kind = prop_oneof![12 => Just(RelationKind::Table), 1 => Just(RelationKind::View)];
    let locked = proptest::bool::weighted(0.1);
    let time = prop_oneof![4 => Just("timestamp with time zone"), 1 => Just("smallint")];
    (kind, locked, select(vec![0_i64, 8192, 1 << 30]), any::<bool>(), time)
        .prop_map(move |(kind, locked, bytes, narrow_key, time)| {
            let types = [time, "integer", "text"].map(str::to_owned);
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
        })
        .boxed()
}

fn live_hypertable(names: &Arc<Names>, id: i32) -> BoxedStrategy<LiveHypertable> {
    let time = prop_oneof![
        4 => length().prop_map(|interval| (Partitioning::Range(interval), false)),
        1 => any::<bool>().prop_map(|clock| (Partitioning::IntegerRange(7), clock)),
    ];
    let names = names.clone();
    let by = prop_oneof![10 => Just(TIME), 1 => Just(1)];
    let more = (
        proptest::option::of(length().prop_map(Span::Time)),
        vec(select(names.tablespaces()), 0..2),
        vec(select(names.columns.clone()), 0..2),
    );
    let behind = (columnstore(&names), live_indexes(&names, "Hypertable"));
    (time, by, proptest::option::of(1..4_i32), behind, more)
        .prop_map(
            move |((time, clock), by, hash, (columnstore, indexes), (merge_interval, tablespaces, chunk_skipping))| {
                let mut dimensions =
                    vec![Dimension { column: names.columns[by].clone(), type_: None, partitioning: time }];
                dimensions.extend(hash.map(|n| Dimension {
                    column: names.columns[2].clone(),
                    type_: None,
                    partitioning: Partitioning::Hash(n),
                }));
                LiveHypertable {
                    id,
                    owner: Some("owner".to_owned()),
                    dimensions,
                    integer_now: clock.then(|| names.clock()),
                    merge_interval,
                    tablespaces,
                    chunk_skipping: chunk_skipping.into_iter().collect(),
                    columnstore,
                    indexes,
                }
            },
        )
        .boxed()
}

fn columnstore(names: &Arc<Names>) -> BoxedStrategy<Option<Columnstore>> {
    let settings = (
        proptest::option::of(vec(select(names.columns[1..].to_vec()), 0..2)),
        proptest::option::of(vec(sort_column(names), 1..3)),
        proptest::option::of(vec(live_sparse_index(names), 0..2)),
    );
    let settings = settings.prop_map(|(segment_by, order_by, sparse_indexes)| {
        let sparse_indexes = sparse_indexes.map(BTreeSet::from_iter);
        Columnstore { segment_by, order_by, sparse_indexes }
    });
    proptest::option::of(settings).boxed()
}

fn live_sparse_index(names: &Arc<Names>) -> impl Strategy<Value = SparseIndex> + use<> {
    let kind = select(vec![SparseIndexKind::Bloom, SparseIndexKind::MinMax]);
    (kind, select(names.columns.clone()))
        .prop_map(|(kind, column)| SparseIndex { kind, columns: vec![column].into_iter().collect() })
}

fn index_name(i: usize) -> SqlName {
    format!("index \"{i}\"").parse().expect("a name")
}

fn sort_column(names: &Arc<Names>) -> impl Strategy<Value = SortColumn> + use<> {
    let sort = |(column, descending, nulls_first)| SortColumn { column, descending, nulls_first };
    (select(names.columns.clone()), any::<bool>(), any::<bool>()).prop_map(sort)
}

/// How the names of indexes begin while they are built.
pub const BUILDING: &str = "tsdbop_building_";

/// Two indexes that resources may speak of, one that they may have spoken of, and what an interrupted build has left.
fn live_indexes(names: &Arc<Names>, kind: &'static str) -> BoxedStrategy<BTreeMap<SqlName, Index>> {
    let left_over = format!("{BUILDING}0123456789abcdef").parse().expect("a name");
    let all = [index_name(0), index_name(1), index_name(2), left_over];
    let index = proptest::option::of((live_index(names), proptest::bool::weighted(0.8), comment(kind)));
    vec(index, all.len())
        .prop_map(move |indexes| {
            let with_names = all.iter().zip(indexes).filter_map(|(name, index)| {
                let (index, valid, comment) = index?;
                let comment = comment.filter(|_| !name.as_str().starts_with(BUILDING));
                Some((name.clone(), Index { valid: valid || index.constraint, comment, ..index }))
            });
            with_names.collect()
        })
        .boxed()
}

/// What the comment says of an object that was made for the resource of this number.
pub fn made_for(kind: &str, number: usize) -> String {
    format!("{MADE_BY}{kind} {}/r{number}", NAMESPACES[number])
}

/// A comment that a person wrote, or one of this operator.
fn comment(kind: &'static str) -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        1 => Just(None),
        1 => Just(Some("made by hand".to_owned())),
        4 => (0..3_usize).prop_map(move |i| Some(made_for(kind, i))),
    ]
}

fn live_index(names: &Arc<Names>) -> BoxedStrategy<Index> {
    let predicate = proptest::option::of(select(vec!["(1 > 0)".to_owned(), "true".to_owned()]));
    let method = prop_oneof![4 => Just("btree"), 1 => Just("brin")];
    let constraint = proptest::bool::weighted(0.1);
    (vec(select(names.columns.clone()), 1..3), method, predicate, proptest::bool::weighted(0.2), constraint)
        .prop_map(|(columns, method, predicate, unique, constraint)| Index {
            method: method.to_owned(),
            columns: columns
                .into_iter()
                .map(|column| IndexKey {
                    column: column.to_string(),
                    descending: false,
                    nulls_first: false,
                    opclass: None,
                    collation: None,
                })
                .collect(),
            include: Vec::new(),
            predicate,
            unique: unique || constraint,
            constraint,
            comment: None,
            valid: true,
        })
        .boxed()
}

/// Ids that only the world gives.
const ANOTHER_HYPERTABLE: i32 = 99;

fn job(policy: impl Strategy<Value = Policy> + 'static) -> BoxedStrategy<Job> {
    let runs = prop_oneof![4 => Just((true, false)), 1 => Just((false, false)), 1 => Just((false, true))];
    let owner = prop_oneof![1 => Just(None), 8 => Just(Some("owner".to_owned())), 1 => Just(Some("other".to_owned()))];
    let config = prop_oneof![1 => Just(None), 8 => Just(Some(0)), 1 => Just(Some(ANOTHER_HYPERTABLE))];
    let unreadable = prop_oneof![10 => Just(Vec::new()), 1 => Just(vec!["drop_after".to_owned()])];
    let odd = (owner, config, unreadable);
    (policy, length(), -1..3_i32, runs, proptest::option::of(start()), proptest::option::of(zone()), odd)
        .prop_map(|(policy, length, max_retries, (scheduled, gave_up), initial_start, timezone, odd)| Job {
            id: 0,
            hypertable_id: 0,
            policy,
            owner: odd.0,
            config_hypertable_id: odd.1,
            unreadable: odd.2,
            schedule_interval: length,
            max_runtime: Interval::from_seconds(0),
            max_retries,
            retry_period: length,
            scheduled,
            gave_up,
            fixed_schedule: initial_start.is_some(),
            initial_start,
            timezone,
            statistics: JobStatistics::default(),
        })
        .boxed()
}

/// The job as it is on this hypertable: in its measure.
fn on(job: Job, host: &LiveHypertable) -> Job {
    let by_integer = matches!(host.chunk_interval(), Some(Span::Integer(_)));
    let span = |span: Span| match span {
        Span::Time(interval) if by_integer => Span::Integer(units(interval)),
        other => other,
    };
    let age = |after: Option<Age>| {
        after.map(|age| match age {
            Age::OlderThan(value) => Age::OlderThan(span(value)),
            created @ Age::CreatedBefore(_) => created,
        })
    };
    let policy = match job.policy {
        Policy::Compression { after } => Policy::Compression { after: age(after) },
        Policy::Retention { after } => Policy::Retention { after: age(after) },
        Policy::Refresh { start_offset, end_offset, options } => {
            Policy::Refresh { start_offset: start_offset.map(span), end_offset: end_offset.map(span), options }
        }
        reorder @ Policy::Reorder { .. } => reorder,
    };
    let config_hypertable_id =
        job.config_hypertable_id.map(|id| if id == ANOTHER_HYPERTABLE { ANOTHER_HYPERTABLE } else { host.id });
    Job { hypertable_id: host.id, policy, config_hypertable_id, ..job }
}

/// `None`: one that cannot be read.
fn some_age() -> impl Strategy<Value = Option<Age>> {
    prop_oneof![
        8 => length().prop_map(|age| Some(Age::OlderThan(age.into()))),
        1 => length().prop_map(|age| Some(Age::CreatedBefore(age))),
        1 => Just(None),
    ]
}

/// Compression, retention and reorder of one hypertable.
fn policies() -> BoxedStrategy<Vec<Job>> {
    let index = proptest::option::of((0..2_usize).prop_map(index_name));
    (
        proptest::option::of(job(some_age().prop_map(|after| Policy::Compression { after }))),
        proptest::option::of(job(some_age().prop_map(|after| Policy::Retention { after }))),
        proptest::option::weighted(0.2, job(index.prop_map(|index| Policy::Reorder { index }))),
    )
        .prop_map(|(compression, retention, reorder)| compression.into_iter().chain(retention).chain(reorder).collect())
        .boxed()
}

fn refresh_options() -> BoxedStrategy<RefreshOptions> {
    let flag = || proptest::option::weighted(0.2, any::<bool>());
    let number = || proptest::option::weighted(0.2, 0..3_i32);
    (flag(), number(), number(), flag())
        .prop_map(|(include_tiered_data, buckets_per_batch, max_batches_per_execution, refresh_newest_first)| {
            RefreshOptions { include_tiered_data, buckets_per_batch, max_batches_per_execution, refresh_newest_first }
        })
        .boxed()
}

fn refresh_job() -> BoxedStrategy<Job> {
    let start = prop_oneof![8 => length().prop_map(Some), 1 => Just(None)];
    let end = proptest::option::of(Just(Interval::from_seconds(3600)));
    job((start, end, refresh_options()).prop_map(|(start_offset, end_offset, options)| Policy::Refresh {
        start_offset: start_offset.map(Span::Time),
        end_offset: end_offset.map(Span::Time),
        options,
    }))
    .boxed()
}

/// A live aggregate before it is known what its source is.
#[derive(Clone, Debug)]
struct SomeAggregate {
    /// A table, or else the aggregate before.
    source: Option<usize>,
    materialized_only: bool,
    hourly: bool,
    /// The query that it was made with; `None`: the one that it is asked about.
    made_with: Option<usize>,
    jobs: Vec<Job>,
    columnstore: Option<Columnstore>,
    indexes: BTreeMap<SqlName, Index>,
    comment: Option<String>,
    attachments: Attachments,
    loss: Option<Loss>,
}

fn live_aggregate(names: &Arc<Names>) -> BoxedStrategy<SomeAggregate> {
    let source = prop_oneof![3 => (0..TABLES).prop_map(Some), 1 => Just(None)];
    let jobs = (vec(refresh_job(), 0..3), policies()).prop_map(|(refresh, others)| {
        let others = others.into_iter().filter(|job| !matches!(job.policy, Policy::Reorder { .. }));
        refresh.into_iter().chain(others).collect()
    });
    let of = (source, any::<bool>(), any::<bool>(), proptest::option::of(0..2_usize));
    let behind = (columnstore(names), live_indexes(names, "ContinuousAggregate"));
    let loss = proptest::option::weighted(0.3, Just(()));
    (of, jobs, behind, comment("ContinuousAggregate"), attachments(names), loss)
        .prop_map(
            |(
                (source, materialized_only, hourly, made_with),
                jobs,
                (columnstore, indexes),
                comment,
                attachments,
                loss,
            )| {
                let loss = loss.map(|()| Loss {
                    from: Timestamp::UNIX_EPOCH,
                    to: Timestamp::from_second(86_400).expect("a time"),
                });
                SomeAggregate {
                    source,
                    materialized_only,
                    hourly,
                    made_with,
                    jobs,
                    columnstore,
                    indexes,
                    comment,
                    attachments,
                    loss,
                }
            },
        )
        .boxed()
}

fn attachments(names: &Arc<Names>) -> BoxedStrategy<Attachments> {
    let grantee = proptest::option::of(select(names.columns.clone()));
    let grant = (grantee, select(vec![Privilege::Select, Privilege::Maintain]), any::<bool>())
        .prop_map(|(grantee, privilege, grantable)| Grant { grantee, privilege, grantable });
    let dependents = prop_oneof![8 => Just(Vec::new()), 1 => Just(vec!["view s.dependent".to_owned()])];
    (vec(grant, 0..2), dependents, comment("ContinuousAggregate"))
        .prop_map(|(grants, dependents, comment)| Attachments {
            owner: "owner".to_owned(),
            comment,
            grants,
            dependents,
        })
        .boxed()
}

fn server(extension: &SqlName) -> BoxedStrategy<Server> {
    let extension = extension.clone();
    let version = prop_oneof![
        4 => Just("2.23.1"),
        3 => Just("2.28.3"),
        1 => Just("2.15.0"),
    ];
    let license = prop_oneof![40 => Just("timescale"), 1 => Just("apache")];
    (version, license, proptest::bool::weighted(0.02))
        .prop_map(move |(version, license, read_only)| {
            let extension = json!({"version": version, "schema": extension.as_str()});
            Server {
                version_num: 170_005,
                extension: serde_json::from_value(extension).expect("an extension"),
                license: Some(license.to_owned()),
                read_only,
                restoring: false,
                monitoring: Vec::new(),
            }
        })
        .boxed()
}

/// What an interrupted rebuild has left: under which name, over which table, with which comment.
fn left_overs() -> BoxedStrategy<Vec<(&'static str, usize, Option<String>)>> {
    let name = select(vec!["tsdbop_rebuild_0123456789abcdef", "tsdbop_replaced_0123456789abcdef"]);
    vec((name, 0..TABLES, comment("ContinuousAggregate")), 0..2).boxed()
}

fn world(names: Arc<Names>) -> BoxedStrategy<World> {
    let state = |i: i32| {
        prop_oneof![
            1 => Just(State::Absent),
            2 => table(&names).prop_map(State::Table),
            4 => live_hypertable(&names, 10 + i).prop_map(State::Hypertable),
        ]
    };
    let tables = (state(0), state(1), state(2));
    let aggregate = proptest::option::of(live_aggregate(&names));
    let drops = (0..=4_i64, select(vec![None, Some(0), Some(86_400)]));
    (
        server(&names.extension),
        tables,
        vec(policies(), TABLES),
        vec(aggregate, AGGREGATES),
        vec(drops, TABLES + AGGREGATES),
        left_overs(),
    )
        .prop_map(move |(server, tables, policies, aggregates, drops, left_overs)| {
            let mut world = World { catalog: Catalog { server, ..Catalog::default() }, ..World::default() };
            let mut jobs = Vec::new();
            for ((relation, state), policies) in names.tables.iter().zip([tables.0, tables.1, tables.2]).zip(policies) {
                match state {
                    State::Absent => {}
                    State::Table(table) => drop(world.tables.insert(relation.clone(), table)),
                    State::Hypertable(live) => {
                        jobs.extend(policies.into_iter().map(|job| on(job, &live)));
                        world.catalog.hypertables.insert(relation.clone(), live);
                    }
                }
            }
            for (i, aggregate) in aggregates.into_iter().enumerate() {
                let Some(some) = aggregate else { continue };
                let source = match some.source {
                    Some(table) => &names.tables[table],
                    None if i > 0 => &names.aggregates[i - 1],
                    None => continue,
                };
                let relation = &names.aggregates[i];
                let id = 20 + i32::try_from(i).expect("a small number");
                let Some(aggregate) = behind(&world.catalog, &names, source, id, &some) else { continue };
                jobs.extend(some.jobs.into_iter().map(|job| on(job, &aggregate.hypertable)));
                world.catalog.aggregates.insert(relation.clone(), aggregate);
                world.definitions.extend(some.made_with.map(|which| (relation.clone(), query(source, which))));
                world.attachments.insert(relation.clone(), some.attachments);
                world.histories.extend(some.loss.map(|loss| (relation.clone(), loss)));
            }
            for (i, (name, table, comment)) in left_overs.into_iter().enumerate() {
                let id = 30 + i32::try_from(i).expect("a small number");
                let nothing = SomeAggregate {
                    source: None,
                    materialized_only: true,
                    hourly: false,
                    made_with: None,
                    jobs: Vec::new(),
                    columnstore: None,
                    indexes: BTreeMap::new(),
                    comment,
                    attachments: Attachments::default(),
                    loss: None,
                };
                let schema = names.aggregates[0].schema.clone();
                let relation = Relation { schema, name: name.parse().expect("a name") };
                let source = &names.tables[table];
                if let Some(aggregate) = behind(&world.catalog, &names, source, id, &nothing) {
                    world.definitions.insert(relation.clone(), query(source, 0));
                    world.catalog.aggregates.insert(relation, aggregate);
                }
            }
            world.catalog.jobs = jobs.into_iter().zip(1000..).map(|(job, id)| Job { id, ..job }).collect();
            for (relation, (chunks, oldest)) in names.tables.iter().chain(&names.aggregates).zip(drops) {
                let oldest = oldest.map(|second| Timestamp::from_second(second).expect("a time"));
                world
                    .drops
                    .insert(relation.clone(), Drops { chunks, of: 4, oldest, newest: oldest, ..Drops::default() });
            }
            world
        })
        .boxed()
}

/// The aggregate with the hypertable behind it, if it has a source.
fn behind(catalog: &Catalog, names: &Names, source: &Relation, id: i32, some: &SomeAggregate) -> Option<Aggregate> {
    let source = catalog.host(source)?;
    let by_integer = matches!(source.chunk_interval(), Some(Span::Integer(_)));
    let (partitioning, bucket) = if by_integer {
        (Partitioning::IntegerRange(70), Span::Integer(1))
    } else {
        (Partitioning::Range(Interval::from_days(70)), Span::Time(Interval::from_seconds(3600)))
    };
    let hypertable = LiveHypertable {
        id,
        owner: Some("owner".to_owned()),
        dimensions: vec![Dimension { column: names.columns[TIME].clone(), type_: None, partitioning }],
        columnstore: some.columnstore.clone(),
        indexes: some.indexes.clone(),
        ..LiveHypertable::default()
    };
    Some(Aggregate {
        hypertable,
        materialization: super::fixture::world::materialization(id),
        source_id: source.id,
        materialized_only: some.materialized_only,
        fingerprint: "f".to_owned(),
        bucket: some.hourly.then_some(bucket),
        comment: some.comment.clone(),
    })
}

/// One of two queries over this source, or one that no aggregate can have.
fn query(source: &Relation, which: usize) -> String {
    let rows = ["count(*)", "max(1)", "random()"][which];
    let source = sql::quote_relation(source);
    format!("SELECT time_bucket('1 hour', 1) AS bucket, {rows} AS rows FROM {source} GROUP BY bucket")
}

// The resources.

/// What Kubernetes knows of a resource besides its spec.
#[derive(Clone, Debug)]
struct Meta {
    created: i64,
    deleted: bool,
    finalizer: bool,
    approval: Option<String>,
    label: Option<&'static str>,
}

fn meta() -> BoxedStrategy<Meta> {
    let approval = prop_oneof![8 => Just(None), 1 => Just(Some("0123456789ab, ba9876543210".to_owned()))];
    let label = proptest::option::of(select(vec!["hot", "cold"]));
    (0..3_i64, proptest::bool::weighted(0.2), proptest::bool::weighted(0.7), approval, label)
        .prop_map(|(created, deleted, finalizer, approval, label)| Meta {
            created,
            deleted,
            finalizer,
            approval,
            label,
        })
        .boxed()
}

fn metadata(name: usize, meta: Meta) -> ObjectMeta {
    let time = |second: i64| Time(Timestamp::from_second(second).expect("a time"));
    ObjectMeta {
        name: Some(format!("r{name}")),
        namespace: Some(NAMESPACES[name].to_owned()),
        creation_timestamp: Some(time(meta.created)),
        deletion_timestamp: meta.deleted.then(|| time(100)),
        finalizers: meta.finalizer.then(|| vec![FINALIZER.to_owned()]),
        annotations: meta.approval.map(|digest| BTreeMap::from([(APPROVE_ANNOTATION.to_owned(), digest)])),
        labels: meta.label.map(|label| BTreeMap::from([("tier".to_owned(), label.to_owned())])),
        ..ObjectMeta::default()
    }
}

fn schedule(interval: bool) -> BoxedStrategy<Schedule> {
    let every = written().prop_map(Some);
    let every = if interval { every.boxed() } else { proptest::option::of(written()).boxed() };
    let start = proptest::option::of(start().prop_map(|t| t.to_string()));
    (
        every,
        start,
        proptest::option::of(zone()),
        proptest::option::weighted(0.3, written()),
        proptest::option::of(-1..3_i32),
        proptest::option::weighted(0.3, written()),
    )
        .prop_map(|(interval, initial_start, timezone, max_runtime, max_retries, retry_period)| Schedule {
            interval,
            initial_start,
            timezone,
            max_runtime,
            max_retries,
            retry_period,
        })
        .boxed()
}

fn order() -> impl Strategy<Value = (Order, Option<Nulls>)> {
    (select(vec![Order::Asc, Order::Desc]), proptest::option::of(select(vec![Nulls::First, Nulls::Last])))
}

fn database_ref(name: usize) -> DatabaseRef {
    let namespace = (NAMESPACES[name] != NAMESPACES[0]).then(|| NAMESPACES[0].to_owned());
    DatabaseRef { name: "plant".to_owned(), namespace }
}

fn target_kind() -> impl Strategy<Value = TargetKind> {
    prop_oneof![3 => Just(TargetKind::Hypertable), 1 => Just(TargetKind::ContinuousAggregate)]
}

fn selector() -> BoxedStrategy<TargetSelector> {
    let labels = prop_oneof![Just(BTreeMap::new()), Just(BTreeMap::from([("tier".to_owned(), "hot".to_owned())])),];
    let requirement = (select(vec![LabelOperator::In, LabelOperator::NotIn, LabelOperator::Exists]), any::<bool>())
        .prop_map(|(operator, hot)| {
            let values = if operator == LabelOperator::Exists {
                Vec::new()
            } else {
                vec![if hot { "hot" } else { "cold" }.to_owned()]
            };
            LabelRequirement { key: "tier".to_owned(), operator, values }
        });
    (target_kind(), labels, vec(requirement, 0..2))
        .prop_map(|(kind, match_labels, match_expressions)| TargetSelector { kind, match_labels, match_expressions })
        .boxed()
}

/// A target by name, or several by their labels.
fn leads_to() -> BoxedStrategy<(Option<TargetRef>, Option<TargetSelector>)> {
    prop_oneof![
        3 => (target_kind(), 0..4_usize).prop_map(|(kind, name)| (Some(TargetRef { kind, name: format!("r{name}") }), None)),
        1 => selector().prop_map(|selector| (None, Some(selector))),
    ].boxed()
}

/// An age by either measure, both, or left to the database's default.
fn ages() -> BoxedStrategy<(Option<SpanText>, Option<IntervalText>)> {
    prop_oneof![
        12 => written_span().prop_map(|age| (Some(age), None)),
        2 => written().prop_map(|age| (None, Some(age))),
        2 => Just((None, None)),
        1 => (written_span(), written()).prop_map(|(age, created)| (Some(age), Some(created))),
    ]
    .boxed()
}

/// Up to two indexes.
fn indexes(names: &Arc<Names>) -> BoxedStrategy<Vec<IndexSpec>> {
    let columns: Vec<_> = names.columns.iter().map(ToString::to_string).collect();
    let index = |i: usize| {
        let columns = columns.clone();
        let predicate = select(vec!["1 > 0 -- remark".to_owned(), "true".to_owned()]);
        let method = prop_oneof![4 => Just(IndexMethod::Btree), 1 => Just(IndexMethod::Brin)];
        let parts = (vec((select(columns.clone()), order()), 1..3), method, select(columns), any::<bool>());
        proptest::option::of((parts, proptest::option::of(predicate), proptest::bool::weighted(0.3)).prop_map(
            move |((columns, method, other, include), predicate, unique)| {
                let is_btree = method == IndexMethod::Btree;
                let column = |(name, (order, nulls))| {
                    let (order, nulls) = if is_btree { (order, nulls) } else { (Order::Asc, None) };
                    IndexColumn { name, order, nulls }
                };
                IndexSpec {
                    name: index_name(i).to_string(),
                    method,
                    unique: unique && is_btree,
                    columns: columns.into_iter().map(column).collect(),
                    include: (include && is_btree).then_some(other).into_iter().collect(),
                    predicate,
                }
            },
        ))
    };
    (index(0), index(1)).prop_map(|(first, second)| first.into_iter().chain(second).collect()).boxed()
}

fn hypertable(names: &Arc<Names>) -> BoxedStrategy<HypertableSpec> {
    let names = names.clone();
    let by = prop_oneof![10 => Just(TIME), 1 => Just(1)];
    let space = proptest::option::of((1..3_usize, 1..4_i32));
    let reorder = ((0..2_usize).prop_map(|i| index_name(i).to_string()), schedule(false), any::<bool>())
        .prop_map(|(index, schedule, paused)| Reorder { index, schedule, paused });
    let texts: Vec<_> = names.columns.iter().map(ToString::to_string).collect();
    let list = || proptest::option::weighted(0.3, subsequence(texts.clone(), 0..3));
    let clock = proptest::bool::weighted(0.2);
    let more = (list(), list(), proptest::option::weighted(0.2, reorder), clock);
    (0..TABLES, by, proptest::option::of(written_span()), space, any::<bool>(), indexes(&names), more)
        .prop_map(
            move |(
                table,
                by,
                chunk_interval,
                space,
                migrate_data,
                indexes,
                (chunk_skipping, tablespaces, reorder, clock),
            )| {
                let column = |i: usize| names.columns[i].to_string();
                HypertableSpec {
                    database_ref: database_ref(0),
                    schema: names.tables[table].schema.to_string(),
                    table: names.tables[table].name.to_string(),
                    time_column: column(by),
                    chunk_interval,
                    integer_now_function: clock.then(|| names.clock().to_string()),
                    space_partitions: space
                        .into_iter()
                        .map(|(i, partitions)| SpacePartition { column: column(i), partitions })
                        .collect(),
                    migrate_data,
                    chunk_skipping,
                    tablespaces,
                    indexes,
                    reorder,
                }
            },
        )
        .boxed()
}

fn compression(names: &Arc<Names>) -> BoxedStrategy<CompressionPolicySpec> {
    let columns: Vec<_> = names.columns.iter().map(ToString::to_string).collect();
    let order_by = vec(
        (select(columns.clone()), order()).prop_map(|(column, (order, nulls))| OrderBy { column, order, nulls }),
        1..3,
    );
    let segment_by = vec(select(columns[1..].to_vec()), 0..2);
    let kind = select(vec![SparseIndexKind::Bloom, SparseIndexKind::MinMax, SparseIndexKind::FirstLast]);
    let sparse = (kind, vec(select(columns), 1..3)).prop_map(|(kind, columns)| SparseIndexSpec { kind, columns });
    let merge = prop_oneof![2 => written_span(), 1 => Just(SpanText::Interval("0 seconds".to_owned()))];
    let settings = (
        proptest::option::of(segment_by),
        proptest::option::of(order_by),
        proptest::option::weighted(0.2, merge),
        proptest::option::weighted(0.2, vec(sparse, 0..2)),
    );
    (leads_to(), ages(), settings, schedule(false), any::<bool>(), policy_deletion())
        .prop_map(
            |((target_ref, target_selector), (after, created_before), settings, schedule, paused, deletion_policy)| {
                let (segment_by, order_by, merge_interval, sparse_indexes) = settings;
                CompressionPolicySpec {
                    target_ref,
                    target_selector,
                    compress_after: after,
                    compress_created_before: created_before,
                    segment_by,
                    order_by,
                    merge_interval,
                    sparse_indexes,
                    schedule,
                    paused,
                    deletion_policy,
                }
            },
        )
        .boxed()
}

fn policy_deletion() -> impl Strategy<Value = PolicyDeletion> {
    prop_oneof![3 => Just(PolicyDeletion::Delete), 1 => Just(PolicyDeletion::Retain)]
}

fn retention() -> BoxedStrategy<RetentionPolicySpec> {
    let paused = proptest::bool::weighted(0.2);
    (leads_to(), ages(), schedule(false), paused, policy_deletion())
        .prop_map(|((target_ref, target_selector), (after, created_before), schedule, paused, deletion_policy)| {
            RetentionPolicySpec {
                target_ref,
                target_selector,
                drop_after: after,
                drop_created_before: created_before,
                schedule,
                paused,
                deletion_policy,
            }
        })
        .boxed()
}

fn aggregate(names: &Arc<Names>) -> BoxedStrategy<ContinuousAggregateSpec> {
    let names = names.clone();
    let deletion = select(vec![AggregateDeletion::Retain, AggregateDeletion::Delete]);
    let end = prop_oneof![4 => Just(SpanText::from("1 hour")), 1 => Just(SpanText::Integer(0))];
    let refresh = (
        proptest::option::weighted(0.9, written_span()),
        proptest::option::of(end),
        refresh_options(),
        schedule(true),
        any::<bool>(),
    )
        .prop_map(|(start_offset, end_offset, options, schedule, paused)| RefreshPolicy {
            start_offset,
            end_offset,
            include_tiered_data: options.include_tiered_data,
            buckets_per_batch: options.buckets_per_batch,
            max_batches_per_execution: options.max_batches_per_execution,
            refresh_newest_first: options.refresh_newest_first,
            schedule,
            paused,
        });
    // Mostly over a table; the others over another aggregate, in either direction of the names.
    let source = prop_oneof![4 => (0..TABLES).prop_map(Ok), 1 => (0..AGGREGATES).prop_map(Err)];
    let which = prop_oneof![8 => Just(0), 4 => Just(1), 1 => Just(2_usize)];
    let change = select(vec![QueryChange::Refuse, QueryChange::Rebuild]);
    let flag = || proptest::option::of(any::<bool>());
    let more = (flag(), flag(), proptest::option::weighted(0.2, written_span()), indexes(&names));
    (0..AGGREGATES, source, which, change, more, proptest::option::weighted(0.8, refresh), deletion)
        .prop_map(move |(relation, source, which, on_query_change, more, refresh_policy, deletion_policy)| {
            let relation = &names.aggregates[relation];
            let source = match source {
                Ok(table) => &names.tables[table],
                Err(aggregate) => &names.aggregates[aggregate],
            };
            let (real_time, create_group_indexes, chunk_interval, indexes) = more;
            ContinuousAggregateSpec {
                database_ref: database_ref(0),
                schema: relation.schema.to_string(),
                name: relation.name.to_string(),
                query: query(source, which),
                on_query_change,
                real_time,
                create_group_indexes,
                chunk_interval,
                indexes,
                refresh_policy,
                deletion_policy,
            }
        })
        .boxed()
}

fn database() -> BoxedStrategy<TimescaleDatabase> {
    let percent = select(vec![0, 25, 50, 100]);
    let default = || proptest::option::of(written_span());
    let all = any::<bool>();
    (percent, proptest::bool::weighted(0.1), default(), default(), default(), all)
        .prop_map(|(percent, orphan, chunk_interval, compress_after, drop_after, all)| {
            let spec = json!({
                "connection": {"secretRef": {"name": "plant-db"}},
                "guards": {"maxImmediateDropPercent": percent},
                "deletionPolicy": if orphan { "Orphan" } else { "Delete" },
                "allowedNamespaces": {"from": if all { "All" } else { "Same" }},
            });
            let mut database = TimescaleDatabase::new("plant", serde_json::from_value(spec).expect("a spec"));
            database.spec.defaults = Some(Defaults { chunk_interval, compress_after, drop_after });
            database.metadata.namespace = Some(NAMESPACES[0].to_owned());
            database
        })
        .boxed()
}

fn resources(names: Arc<Names>) -> BoxedStrategy<Resources> {
    let hypertables = vec((meta(), hypertable(&names)), 0..5);
    let aggregates = vec((meta(), aggregate(&names)), 0..5);
    let compression = vec((meta(), compression(&names)), 0..5);
    let retention = vec((meta(), retention()), 0..5);
    (database(), hypertables, aggregates, compression, retention)
        .prop_map(move |(database, hypertables, aggregates, compression, retention)| {
            let hypertables = hypertables.into_iter().enumerate().map(|(i, (meta, mut spec))| {
                spec.database_ref = database_ref(i);
                Arc::new(Hypertable { metadata: metadata(i, meta), spec, status: None })
            });
            let aggregates = aggregates.into_iter().enumerate().map(|(i, (meta, mut spec))| {
                spec.database_ref = database_ref(i);
                Arc::new(ContinuousAggregate { metadata: metadata(i, meta), spec, status: None })
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
                let status = CompressionPolicyStatus { target: Some(recorded(i)), ..Default::default() };
                Arc::new(CompressionPolicy { metadata: metadata(i, meta), spec, status: Some(status) })
            });
            let retention = retention.into_iter().enumerate().map(|(i, (meta, spec))| {
                let status = RetentionPolicyStatus { target: Some(recorded(i)), ..Default::default() };
                Arc::new(RetentionPolicy { metadata: metadata(i, meta), spec, status: Some(status) })
            });
            Resources {
                database,
                hypertables: hypertables.collect(),
                aggregates: aggregates.collect(),
                compression: compression.collect(),
                retention: retention.collect(),
            }
        })
        .boxed()
}

/// Every name that may stand in a statement.
pub fn names_in(world: &World, resources: &Resources) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    names.insert("_timescaledb_internal".to_owned());
    let mut relation = |relation: &Relation| names.extend([relation.schema.to_string(), relation.name.to_string()]);
    world.catalog.hypertables.values().filter_map(|live| live.integer_now.as_ref()).for_each(&mut relation);
    world
        .tables
        .keys()
        .chain(world.catalog.hypertables.keys())
        .chain(world.catalog.aggregates.keys())
        .for_each(&mut relation);
    let index_names = |indexes: &[IndexSpec]| {
        let mut names = Vec::new();
        for index in indexes {
            names.push(index.name.clone());
            names.extend(index.columns.iter().map(|c| c.name.clone()));
            names.extend(index.include.clone());
        }
        names
    };
    for aggregate in &resources.aggregates {
        names.extend([aggregate.spec.schema.clone(), aggregate.spec.name.clone()]);
        names.extend(index_names(&aggregate.spec.indexes));
    }
    for hypertable in &resources.hypertables {
        let spec = &hypertable.spec;
        names.extend([spec.schema.clone(), spec.table.clone(), spec.time_column.clone()]);
        names.extend(spec.space_partitions.iter().map(|p| p.column.clone()));
        names.extend(index_names(&spec.indexes));
        let clock = spec.integer_now_function.as_ref().and_then(|text| text.parse::<Relation>().ok());
        names.extend(clock.into_iter().flat_map(|clock| [clock.schema.to_string(), clock.name.to_string()]));
    }
    for policy in &resources.compression {
        names.extend(policy.spec.segment_by.iter().flatten().cloned());
        names.extend(policy.spec.order_by.iter().flatten().map(|o| o.column.clone()));
        names.extend(policy.spec.sparse_indexes.iter().flatten().flat_map(|index| index.columns.clone()));
    }
    let hosts = || {
        let behind = world.catalog.aggregates.values().map(|aggregate| &aggregate.hypertable);
        world.catalog.hypertables.values().chain(behind)
    };
    names.extend(hosts().flat_map(|live| &live.dimensions).map(|d| d.column.to_string()));
    names.extend(hosts().flat_map(|live| live.indexes.keys()).map(ToString::to_string));
    for settings in hosts().filter_map(|live| live.columnstore.as_ref()) {
        names.extend(settings.segment_by.iter().flatten().map(ToString::to_string));
        names.extend(settings.order_by.iter().flatten().map(|sort| sort.column.to_string()));
        names.extend(settings.sparse_indexes.iter().flatten().flat_map(|i| &i.columns).map(ToString::to_string));
    }
    for attachments in world.attachments.values() {
        names.insert(attachments.owner.clone());
        names.extend(attachments.grants.iter().filter_map(|g| g.grantee.as_ref()).map(ToString::to_string));
    }
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
            Edit::DropAfter(age) => {
                spec.drop_after = Some(age.as_str().into());
                spec.drop_created_before = None;
            }
            Edit::Interval(interval) => spec.schedule.interval = Some(interval.as_str().into()),
            Edit::MaxRetries(retries) => spec.schedule.max_retries = Some(*retries),
            Edit::Paused => spec.paused = true,
        }
    }
}

/// Whether the annotation of the resource holds this digest.
pub fn approves(resources: &Resources, id: &ClaimId, digest: &str) -> bool {
    fn of<K: ResourceExt>(resources: &[Arc<K>], name: &str) -> Option<String> {
        resources.iter().find(|r| r.name_any() == name)?.annotations().get(APPROVE_ANNOTATION).cloned()
    }
    let text = match id.resource.kind {
        Kind::Hypertable => of(&resources.hypertables, &id.resource.name),
        Kind::ContinuousAggregate => of(&resources.aggregates, &id.resource.name),
        Kind::CompressionPolicy => of(&resources.compression, &id.resource.name),
        Kind::RetentionPolicy => of(&resources.retention, &id.resource.name),
    };
    text.is_some_and(|text| text.contains(digest))
}

/// What the comment says of an object that was made for the resource of this claim.
pub fn made_for_claim(id: &ClaimId) -> String {
    let namespace = id.resource.namespace.as_deref().unwrap_or(NAMESPACES[0]);
    format!("{MADE_BY}{} {namespace}/{}", id.resource.kind.as_str(), id.resource.name)
}
