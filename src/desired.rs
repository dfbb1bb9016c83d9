//! Resources to claims: parse, do not validate.
//!
//! [`collect`] takes one `TimescaleDatabase` and the resources attached to it and says what each wants of the database,
//! in types that cannot hold nonsense. What cannot be parsed, and what another resource has claimed before, becomes a
//! [`Rejection`]: a value like any other, so that one bad resource never hides the rest.

use std::{collections::BTreeMap, fmt, sync::Arc};

use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    api::{
        APPROVE_ANNOTATION, CompressionPolicy, ContinuousAggregate, FINALIZER, Hypertable, RetentionPolicy,
        TimescaleDatabase,
        continuous_aggregate::AggregateDeletion,
        hypertable,
        status::{Reason, TargetStatus},
        timescale_database::{DatabaseDeletion, Mode},
        types::{Interval, IntervalText, PolicyDeletion, Relation, Schedule, SqlName},
    },
    catalog::{IndexKey, Policy, PolicyKind, SortColumn},
};

/// The kinds of resource that claim database objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `Hypertable`
    Hypertable,
    /// `ContinuousAggregate`
    ContinuousAggregate,
    /// `CompressionPolicy`
    CompressionPolicy,
    /// `RetentionPolicy`
    RetentionPolicy,
}

impl Kind {
    /// The `kind` of the resource.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hypertable => "Hypertable",
            Self::ContinuousAggregate => "ContinuousAggregate",
            Self::CompressionPolicy => "CompressionPolicy",
            Self::RetentionPolicy => "RetentionPolicy",
        }
    }
}

/// Names one resource within the namespace of its database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.as_str(), self.name)
    }
}

/// Why a resource is not carried out, for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The reason shown.
    pub reason: Reason,
    /// The object, the value found, the value wanted, and what to do.
    pub message: String,
}

impl Rejection {
    /// A rejection with this reason and message.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    fn field(field: &str, problem: impl fmt::Display) -> Self {
        Self::new(Reason::InvalidSpec, format!("spec.{field}: {problem}"))
    }
}

/// The digest of a plan, as shown in status and given back in the annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanDigest(pub String);

/// What one resource wants of the database.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The resource.
    pub id: ResourceId,
    /// What it wants.
    pub intent: Intent,
    /// The plan that the resource's annotation approves.
    pub approval: Option<PlanDigest>,
}

/// Whether a resource holds its object or lets go of it.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly all claims are Ensure")]
pub enum Intent {
    /// The object must be as the resource says.
    Ensure(Target),
    /// The resource is being deleted.
    Release(Release),
}

/// The object that a resource wants, parsed.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// A hypertable.
    Hypertable(HypertableTarget),
    /// A continuous aggregate.
    Aggregate(AggregateTarget),
    /// A compression policy with its settings.
    Compression(CompressionTarget),
    /// A retention policy.
    Retention(RetentionTarget),
}

/// A hypertable as wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct HypertableTarget {
    /// The table.
    pub relation: Relation,
    /// The column of the time dimension.
    pub time_column: SqlName,
    /// Range of one chunk; `None`: not managed.
    pub chunk_interval: Option<Interval>,
    /// Hash dimensions with their numbers of partitions; empty: not managed.
    pub space: Vec<(SqlName, i32)>,
    /// Rows in the table may be moved.
    pub migrate_data: bool,
    /// Indexes that must exist.
    pub indexes: Vec<IndexTarget>,
}

/// An index as wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexTarget {
    /// Its name.
    pub name: SqlName,
    /// Key columns.
    pub columns: Vec<SortColumn>,
    /// Columns that are stored only.
    pub include: Vec<SqlName>,
    /// Predicate, as the resource has it.
    pub predicate: Option<String>,
}

impl IndexTarget {
    /// The key columns as the catalog has them.
    pub fn keys(&self) -> Vec<IndexKey> {
        let key = |c: &SortColumn| IndexKey {
            column: c.column.as_str().to_owned(),
            descending: c.descending,
            nulls_first: c.nulls_first,
        };
        self.columns.iter().map(key).collect()
    }
}

/// A policy job as wanted. What is `None` is not managed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobTarget {
    /// What it does.
    pub policy: Policy,
    /// `schedule_interval`
    pub schedule_interval: Option<Interval>,
    /// `initial_start`; given, it makes the schedule a fixed one.
    pub initial_start: Option<Timestamp>,
    /// `timezone`
    pub timezone: Option<String>,
    /// `max_runtime`
    pub max_runtime: Option<Interval>,
    /// `max_retries`
    pub max_retries: Option<i32>,
    /// `retry_period`
    pub retry_period: Option<Interval>,
    /// The scheduler must not run it.
    pub paused: bool,
}

/// Compression settings and policy as wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct CompressionTarget {
    /// The `Hypertable` resource.
    pub target: ResourceId,
    /// The hypertable.
    pub relation: Relation,
    /// Columns to group by; `None`: not managed.
    pub segment_by: Option<Vec<SqlName>>,
    /// Columns to sort by; `None`: not managed.
    pub order_by: Option<Vec<SortColumn>>,
    /// The job.
    pub job: JobTarget,
}

/// A retention policy as wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct RetentionTarget {
    /// The `Hypertable` resource.
    pub target: ResourceId,
    /// The hypertable.
    pub relation: Relation,
    /// Age from which chunks are dropped: the same as in the job's policy.
    pub drop_after: Interval,
    /// The job.
    pub job: JobTarget,
}

/// A continuous aggregate as wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateTarget {
    /// The view.
    pub relation: Relation,
    /// The query, as the resource has it.
    pub query: String,
    /// Queries see only what is materialised; `None`: not managed.
    pub materialized_only: Option<bool>,
    /// The refresh policy; `None`: not managed.
    pub refresh: Option<JobTarget>,
}

/// What the deletion of a resource undoes in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release {
    /// Remove the policy of this kind from the relation.
    RemovePolicy(PolicyKind, Relation),
    /// Drop the aggregate with all that it materialised.
    DropAggregate(Relation),
    /// Nothing.
    Nothing,
}

/// One part of a database object that exactly one resource can own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ObjectKey {
    relation: Relation,
    part: Kind,
}

/// What a `TimescaleDatabase` says about everything attached to it, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Whether differences are corrected.
    pub mode: Mode,
    /// Share of chunks (percent) that a retention policy may drop at once without approval.
    pub max_immediate_drop_percent: i32,
}

/// What all resources attached to one database want of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// One for each resource that is carried out, in the order they are planned: kinds in dependency order, then by name.
    pub claims: Vec<Claim>,
    /// The resources that are not carried out.
    pub rejected: BTreeMap<ResourceId, Rejection>,
}

/// The resources attached to one database.
#[derive(Clone, Debug, Default)]
pub struct Attached {
    /// In any order.
    pub hypertables: Vec<Arc<Hypertable>>,
    /// In any order.
    pub aggregates: Vec<Arc<ContinuousAggregate>>,
    /// Each with the hypertable it targets; in any order.
    pub compression: Vec<(Arc<CompressionPolicy>, PolicyTarget)>,
    /// Each with the hypertable it targets; in any order.
    pub retention: Vec<(Arc<RetentionPolicy>, PolicyTarget)>,
}

/// Where a policy's `targetRef` leads.
#[derive(Clone, Debug)]
pub enum PolicyTarget {
    /// To a resource.
    Resource(Arc<Hypertable>),
    /// The resource is gone and the policy is being deleted: to the object that it was last resolved to.
    Recorded(TargetStatus),
}

impl PolicyTarget {
    fn relation(&self) -> Result<Relation, Rejection> {
        let (schema, table) = match self {
            Self::Resource(hypertable) => (&hypertable.spec.schema, &hypertable.spec.table),
            Self::Recorded(target) => (&target.schema, &target.table),
        };
        relation(schema, table, "table")
            .map_err(|e| Rejection::new(Reason::TargetNotReady, format!("the target: {}", e.message)))
    }
}

/// Whether deleting this policy undoes anything in the database.
pub fn policy_needs_release(deletion: PolicyDeletion) -> bool {
    match deletion {
        PolicyDeletion::Delete => true,
        PolicyDeletion::Retain => false,
    }
}

/// Whether deleting this aggregate undoes anything in the database.
pub fn aggregate_needs_release(deletion: AggregateDeletion) -> bool {
    match deletion {
        AggregateDeletion::Delete => true,
        AggregateDeletion::Retain => false,
    }
}

/// What the database's spec says about everything attached to it.
pub fn rules(database: &TimescaleDatabase) -> Rules {
    Rules { mode: database.spec.mode, max_immediate_drop_percent: database.spec.guards.max_immediate_drop_percent }
}

/// How often a database is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Time between two checks for drift.
    pub resync: Interval,
    /// Time between two reads of sizes.
    pub statistics: Interval,
}

impl Default for Pace {
    /// What a spec that does not parse is looked at with, until it is corrected.
    fn default() -> Self {
        Self { resync: Interval::from_seconds(30), statistics: Interval::from_seconds(300) }
    }
}

/// How often the database is looked at, by its spec.
///
/// # Errors
/// When an interval does not parse, or is not between a second and a day.
pub fn pace(database: &TimescaleDatabase) -> Result<Pace, Rejection> {
    let bounded = |text: &IntervalText, field: &str| {
        let value = interval(text, field)?;
        if (Interval::from_seconds(1)..=Interval::from_days(1)).contains(&value) {
            return Ok(value);
        }
        Err(Rejection::field(field, format!("\"{}\" must be between 1 second and 1 day", text.0)))
    };
    Ok(Pace {
        resync: bounded(&database.spec.resync_interval, "resyncInterval")?,
        statistics: bounded(&database.spec.statistics_interval, "statisticsInterval")?,
    })
}

struct Candidate {
    id: ResourceId,
    created: Option<Timestamp>,
    /// The object, known even where the rest of the spec cannot be read: an edit that breaks a resource hands its object
    /// to no other, and its deletion takes none away from another.
    key: Option<ObjectKey>,
    /// It is not being deleted.
    stays: bool,
    claim: Result<Claim, Rejection>,
}

/// What the attached resources want of the database. Of several that claim the same object, the oldest (then the first
/// by name) has it; the others are `Conflicted`. A resource being deleted releases the object only if no other claims it.
pub fn collect(database: &TimescaleDatabase, attached: &Attached) -> Desired {
    let orphan = database.spec.deletion_policy == DatabaseDeletion::Orphan;
    let mut candidates = Vec::new();
    for resource in &attached.hypertables {
        let object = relation(&resource.spec.schema, &resource.spec.table, "table");
        candidates
            .push(candidate(&**resource, Kind::Hypertable, object, hypertable_target(resource), |_| Release::Nothing));
    }
    for resource in &attached.aggregates {
        let object = relation(&resource.spec.schema, &resource.spec.name, "name");
        let release = |relation| {
            let drops = aggregate_needs_release(resource.spec.deletion_policy);
            if drops { Release::DropAggregate(relation) } else { Release::Nothing }
        };
        candidates.push(candidate(&**resource, Kind::ContinuousAggregate, object, aggregate_target(resource), release));
    }
    for (resource, on) in &attached.compression {
        let release = policy_release(resource.spec.deletion_policy, PolicyKind::Compression);
        let target = compression_target(resource, on);
        candidates.push(candidate(&**resource, Kind::CompressionPolicy, on.relation(), target, release));
    }
    for (resource, on) in &attached.retention {
        let release = policy_release(resource.spec.deletion_policy, PolicyKind::Retention);
        let target = retention_target(resource, on);
        candidates.push(candidate(&**resource, Kind::RetentionPolicy, on.relation(), target, release));
    }
    resolve(candidates, orphan)
}

fn policy_release(deletion: PolicyDeletion, kind: PolicyKind) -> impl FnOnce(Relation) -> Release {
    move |relation| {
        if policy_needs_release(deletion) { Release::RemovePolicy(kind, relation) } else { Release::Nothing }
    }
}

fn candidate<K: ResourceExt>(
    resource: &K,
    kind: Kind,
    object: Result<Relation, Rejection>,
    target: Result<Target, Rejection>,
    release: impl FnOnce(Relation) -> Release,
) -> Candidate {
    let id = ResourceId { kind, name: resource.name_any() };
    let approval = resource.annotations().get(APPROVE_ANNOTATION).map(|digest| PlanDigest(digest.trim().to_owned()));
    let object = object.ok();
    let stays = resource.meta().deletion_timestamp.is_none();
    // Only a resource seen with a deletion timestamp releases anything, and only one that holds our finalizer ever owned it.
    let intent = if stays {
        target.map(Intent::Ensure)
    } else {
        let owned = resource.finalizers().iter().any(|f| f == FINALIZER);
        Ok(Intent::Release(object.clone().filter(|_| owned).map_or(Release::Nothing, release)))
    };
    Candidate {
        created: resource.creation_timestamp().map(|t| t.0),
        key: object.map(|relation| ObjectKey { relation, part: kind }),
        stays,
        claim: intent.map(|intent| Claim { id: id.clone(), intent, approval }),
        id,
    }
}

fn resolve(candidates: Vec<Candidate>, orphan: bool) -> Desired {
    let mut desired = Desired::default();
    let mut owners: BTreeMap<ObjectKey, (Option<Timestamp>, ResourceId)> = BTreeMap::new();
    for Candidate { id, created, key, stays, .. } in &candidates {
        if let (Some(key), true) = (key, stays) {
            let rank = (*created, id.clone());
            owners.entry(key.clone()).and_modify(|owner| *owner = rank.clone().min(owner.clone())).or_insert(rank);
        }
    }
    for Candidate { id, key, claim, .. } in candidates {
        let mut claim = match claim {
            Ok(claim) => claim,
            Err(rejection) => {
                desired.rejected.insert(id, rejection);
                continue;
            }
        };
        let owner = key.as_ref().and_then(|key| owners.get(key)).map(|(_, id)| id);
        match (&mut claim.intent, owner) {
            (Intent::Ensure(_), Some(owner)) if *owner != claim.id => {
                let message = format!(
                    "{owner} claims the same object of the database and is older; delete one of the two (deleting this one changes nothing in the database)"
                );
                desired.rejected.insert(claim.id, Rejection::new(Reason::Conflicted, message));
                continue;
            }
            (Intent::Release(release), owner) if orphan || owner.is_some() => *release = Release::Nothing,
            _ => {}
        }
        desired.claims.push(claim);
    }
    desired.claims.sort_by(|a, b| a.id.cmp(&b.id));
    desired
}

fn relation(schema: &str, name: &str, field: &str) -> Result<Relation, Rejection> {
    Ok(Relation { schema: sql_name(schema, "schema")?, name: sql_name(name, field)? })
}

fn sql_name(text: &str, field: &str) -> Result<SqlName, Rejection> {
    text.parse().map_err(|e| Rejection::field(field, e))
}

fn sql_names(texts: &[String], field: &str) -> Result<Vec<SqlName>, Rejection> {
    texts.iter().enumerate().map(|(i, text)| sql_name(text, &format!("{field}[{i}]"))).collect()
}

fn interval(text: &IntervalText, field: &str) -> Result<Interval, Rejection> {
    text.0.parse().map_err(|e| Rejection::field(field, e))
}

/// An interval that must be longer than nothing.
fn positive(text: &IntervalText, field: &str) -> Result<Interval, Rejection> {
    let interval = interval(text, field)?;
    if !interval.is_positive() {
        return Err(Rejection::field(field, format!("\"{}\" must be longer than nothing", text.0)));
    }
    Ok(interval)
}

fn optional<T>(
    text: Option<&IntervalText>,
    field: &str,
    parse: impl Fn(&IntervalText, &str) -> Result<T, Rejection>,
) -> Result<Option<T>, Rejection> {
    text.map(|text| parse(text, field)).transpose()
}

fn hypertable_target(resource: &Hypertable) -> Result<Target, Rejection> {
    let spec = &resource.spec;
    let relation = relation(&spec.schema, &spec.table, "table")?;
    let space = spec.space_partitions.iter().enumerate().map(|(i, partition)| {
        Ok((sql_name(&partition.column, &format!("spacePartitions[{i}].column"))?, partition.partitions))
    });
    let indexes = spec.indexes.iter().enumerate().map(|(i, index)| index_target(index, &format!("indexes[{i}]")));
    let target = HypertableTarget {
        relation,
        time_column: sql_name(&spec.time_column, "timeColumn")?,
        chunk_interval: optional(spec.chunk_interval.as_ref(), "chunkInterval", positive)?,
        space: space.collect::<Result<_, _>>()?,
        migrate_data: spec.migrate_data,
        indexes: indexes.collect::<Result<_, _>>()?,
    };
    Ok(Target::Hypertable(target))
}

fn index_target(index: &hypertable::Index, field: &str) -> Result<IndexTarget, Rejection> {
    let columns = index.columns.iter().enumerate().map(|(i, column)| {
        let name = sql_name(&column.name, &format!("{field}.columns[{i}].name"))?;
        Ok(SortColumn::new(name, column.order, column.nulls))
    });
    let predicate = index.predicate.as_deref().map(|text| sql_text(text, &format!("{field}.where"))).transpose()?;
    Ok(IndexTarget {
        name: sql_name(&index.name, &format!("{field}.name"))?,
        columns: columns.collect::<Result<_, _>>()?,
        include: sql_names(&index.include, &format!("{field}.include"))?,
        predicate,
    })
}

/// A text that the server's parser judges later. A trailing semicolon is what people paste from psql.
fn sql_text(text: &str, field: &str) -> Result<String, Rejection> {
    let trimmed = text.trim().trim_end_matches(';').trim_end();
    if trimmed.is_empty() {
        return Err(Rejection::field(field, "it is empty"));
    }
    if trimmed.contains('\0') {
        return Err(Rejection::field(field, "it must not hold a NUL character"));
    }
    Ok(trimmed.to_owned())
}

fn job_target(policy: Policy, schedule: &Schedule, paused: bool, field: &str) -> Result<JobTarget, Rejection> {
    let Schedule { interval: every, initial_start, timezone, max_runtime, max_retries, retry_period } = schedule;
    let at = |name: &str| format!("{field}.{name}");
    let initial_start = initial_start
        .as_ref()
        .map(|text| {
            text.parse::<Timestamp>().map_err(|e| {
                Rejection::field(
                    &at("initialStart"),
                    format!("\"{text}\" is not an RFC 3339 time such as 2026-01-01T02:00:00Z: {e}"),
                )
            })
        })
        .transpose()?;
    let max_runtime = optional(max_runtime.as_ref(), &at("maxRuntime"), |text, field| {
        let value = interval(text, field)?;
        if value < Interval::from_seconds(0) {
            return Err(Rejection::field(field, format!("\"{}\" must not be negative", text.0)));
        }
        Ok(value)
    })?;
    Ok(JobTarget {
        policy,
        schedule_interval: optional(every.as_ref(), &at("interval"), positive)?,
        initial_start,
        timezone: timezone.clone(),
        max_runtime,
        max_retries: *max_retries,
        retry_period: optional(retry_period.as_ref(), &at("retryPeriod"), positive)?,
        paused,
    })
}

fn policy_target_id(name: &str) -> ResourceId {
    ResourceId { kind: Kind::Hypertable, name: name.to_owned() }
}

fn compression_target(resource: &CompressionPolicy, on: &PolicyTarget) -> Result<Target, Rejection> {
    let spec = &resource.spec;
    let relation = on.relation()?;
    let compress_after = positive(&spec.compress_after, "compressAfter")?;
    let order_by = spec.order_by.as_ref().map(|columns| {
        let column = |(i, o): (usize, &crate::api::compression_policy::OrderBy)| {
            Ok(SortColumn::new(sql_name(&o.column, &format!("orderBy[{i}].column"))?, o.order, o.nulls))
        };
        columns.iter().enumerate().map(column).collect::<Result<_, Rejection>>()
    });
    let target = CompressionTarget {
        target: policy_target_id(&spec.target_ref.name),
        relation,
        segment_by: spec.segment_by.as_ref().map(|names| sql_names(names, "segmentBy")).transpose()?,
        order_by: order_by.transpose()?,
        job: job_target(
            Policy::Compression { compress_after: Some(compress_after) },
            &spec.schedule,
            spec.paused,
            "schedule",
        )?,
    };
    Ok(Target::Compression(target))
}

fn retention_target(resource: &RetentionPolicy, on: &PolicyTarget) -> Result<Target, Rejection> {
    let spec = &resource.spec;
    let relation = on.relation()?;
    let drop_after = positive(&spec.drop_after, "dropAfter")?;
    let target = RetentionTarget {
        target: policy_target_id(&spec.target_ref.name),
        relation,
        drop_after,
        job: job_target(Policy::Retention { drop_after: Some(drop_after) }, &spec.schedule, spec.paused, "schedule")?,
    };
    Ok(Target::Retention(target))
}

fn aggregate_target(resource: &ContinuousAggregate) -> Result<Target, Rejection> {
    let spec = &resource.spec;
    let relation = relation(&spec.schema, &spec.name, "name")?;
    let refresh = spec.refresh_policy.as_ref().map(|policy| {
        let start_offset = optional(policy.start_offset.as_ref(), "refreshPolicy.startOffset", interval)?;
        let end_offset = optional(policy.end_offset.as_ref(), "refreshPolicy.endOffset", interval)?;
        if let (Some(start), Some(end)) = (start_offset, end_offset)
            && start <= end
        {
            let problem = format!("startOffset ({start}) must be longer ago than endOffset ({end})");
            return Err(Rejection::field("refreshPolicy", problem));
        }
        if policy.schedule.interval.is_none() {
            return Err(Rejection::field(
                "refreshPolicy.schedule.interval",
                "it is missing; write for example \"1 hour\"",
            ));
        }
        job_target(
            Policy::Refresh { start_offset, end_offset },
            &policy.schedule,
            policy.paused,
            "refreshPolicy.schedule",
        )
    });
    let target = AggregateTarget {
        relation,
        query: sql_text(&spec.query, "query")?,
        materialized_only: spec.real_time.map(|real_time| !real_time),
        refresh: refresh.transpose()?,
    };
    Ok(Target::Aggregate(target))
}
