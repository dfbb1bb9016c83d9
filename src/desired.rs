//! Resources to claims: parse, do not validate.
//!
//! [`collect`] takes one `TimescaleDatabase` and the resources attached to it and says what each wants of the database,
//! in types that cannot hold nonsense. What cannot be parsed, and what another resource has claimed before, becomes a
//! [`Rejection`]: a value like any other, so that one bad resource never hides the rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    api::{
        APPROVE_ANNOTATION, CompressionPolicy, ContinuousAggregate, FINALIZER, Hypertable, RetentionPolicy,
        TimescaleDatabase, compression_policy,
        continuous_aggregate::{AggregateDeletion, QueryChange},
        index::{Index, IndexMethod},
        status::{Reason, SelectedTarget, TargetStatus},
        timescale_database::{self, DatabaseDeletion, DefaultSource, EffectiveDefault, EffectiveDefaults, Mode},
        types::{
            Interval, IntervalError, IntervalText, PolicyDeletion, Relation, Schedule, Span, SpanText, SqlName,
            TargetKind, TargetRef, TargetSelector,
        },
    },
    catalog::{Age, IndexKey, Policy, PolicyKind, RefreshOptions, SortColumn, SparseIndex},
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

/// Names one resource that is attached to a database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace, where that is not the database's.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl ResourceId {
    /// The resource of this kind, namespace and name, seen from a database in `home`.
    pub fn seen_from(home: &str, kind: Kind, namespace: &str, name: &str) -> Self {
        let namespace = Some(namespace).filter(|namespace| *namespace != home).map(str::to_owned);
        Self { kind, namespace, name: name.to_owned() }
    }
}

impl ResourceId {
    /// How it is named to the owner of another resource, who may be in another namespace than the database's, `home`.
    pub fn seen_by(&self, other: &Self, home: &str) -> String {
        match &self.namespace {
            None if other.namespace.is_some() => format!("{self} in namespace {home}"),
            namespace if *namespace == other.namespace => format!("{}/{}", self.kind.as_str(), self.name),
            _ => self.to_string(),
        }
    }
}

/// `Kind/name`, or `Kind/namespace/name` where the namespace is not the database's.
impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.kind.as_str())?;
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

/// Names one claim: a resource has one, a policy with a `targetSelector` one for each target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId {
    /// The resource.
    pub resource: ResourceId,
    /// The selected target.
    pub target: Option<TargetId>,
}

/// Names a target that a policy selects, in the policy's own namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId {
    /// Its kind.
    pub kind: TargetKind,
    /// Its name.
    pub name: String,
}

impl TargetId {
    /// Whether this names the target that a status speaks of.
    pub fn is_of(&self, listed: &SelectedTarget) -> bool {
        self.kind == listed.kind && self.name == listed.name
    }
}

impl SelectedTarget {
    /// The target and the database object that it means.
    pub fn id_and_object(&self) -> (TargetId, TargetStatus) {
        (TargetId { kind: self.kind, name: self.name.clone() }, self.object.clone())
    }
}

impl From<ResourceId> for ClaimId {
    fn from(resource: ResourceId) -> Self {
        Self { resource, target: None }
    }
}

impl fmt::Display for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.resource.fmt(f)?;
        match &self.target {
            Some(target) => write!(f, " on {}/{}", target.kind.as_str(), target.name),
            None => Ok(()),
        }
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
    /// Whose it is.
    pub id: ClaimId,
    /// What it wants.
    pub intent: Intent,
    /// The plans that the resource's annotation approves.
    pub approvals: Vec<PlanDigest>,
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

impl Target {
    /// The kind of job that it has, and on what.
    pub const fn job(&self) -> Option<(PolicyKind, &Relation)> {
        match self {
            Self::Hypertable(HypertableTarget { relation, reorder: Some(_), .. }) => {
                Some((PolicyKind::Reorder, relation))
            }
            Self::Aggregate(AggregateTarget { relation, refresh: Some(_), .. }) => {
                Some((PolicyKind::Refresh, relation))
            }
            Self::Compression(target) => Some((PolicyKind::Compression, &target.on.relation)),
            Self::Retention(target) => Some((PolicyKind::Retention, &target.on.relation)),
            Self::Hypertable(_) | Self::Aggregate(_) => None,
        }
    }
}

/// A hypertable as wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct HypertableTarget {
    /// The table.
    pub relation: Relation,
    /// The column of the time dimension.
    pub time_column: SqlName,
    /// Range of one chunk; `None`: not managed.
    pub chunk_interval: Option<ChunkInterval>,
    /// The function that says what time it is now in an integer time column; `None`: not managed.
    pub integer_now: Option<Relation>,
    /// Hash dimensions with their numbers of partitions; empty: not managed.
    pub space: Vec<(SqlName, i32)>,
    /// Rows in the table may be moved.
    pub migrate_data: bool,
    /// Columns with chunk skipping; `None`: not managed.
    pub chunk_skipping: Option<BTreeSet<SqlName>>,
    /// Tablespaces of new chunks; `None`: not managed.
    pub tablespaces: Option<Vec<SqlName>>,
    /// Indexes that must exist.
    pub indexes: Vec<IndexTarget>,
    /// The reorder policy; `None`: not managed.
    pub reorder: Option<JobTarget>,
}

/// A chunk interval as wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkInterval {
    /// The range of one chunk.
    pub span: Span,
    /// It is the database's default, which is meant only for dimensions of its measure.
    pub is_default: bool,
}

/// An index as wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexTarget {
    /// Its name.
    pub name: SqlName,
    /// How it is organised.
    pub method: IndexMethod,
    /// No two rows have the same key.
    pub unique: bool,
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
            opclass: None,
            collation: None,
        };
        self.columns.iter().map(key).collect()
    }
}

/// A policy job as wanted. What is `None` is not managed.
#[derive(Clone, Debug, PartialEq)]
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
    /// What it is on.
    pub on: PolicyObject,
    /// Columns to group by; `None`: not managed.
    pub segment_by: Option<Vec<SqlName>>,
    /// Columns to sort by; `None`: not managed.
    pub order_by: Option<Vec<SortColumn>>,
    /// Range that compressed chunks are merged up to; `None`: not managed.
    pub merge_interval: Option<Span>,
    /// Sparse indexes; `None`: not managed.
    pub sparse_indexes: Option<BTreeSet<SparseIndex>>,
    /// The job.
    pub job: JobTarget,
}

/// What a policy is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyObject {
    /// The resource that describes it.
    pub target: TargetId,
    /// The hypertable or the aggregate.
    pub relation: Relation,
}

/// A retention policy as wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct RetentionTarget {
    /// What it is on.
    pub on: PolicyObject,
    /// Age from which chunks are dropped: the same as in the job's policy.
    pub after: Age,
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
    /// What becomes of a query that differs from the live one.
    pub on_query_change: QueryChange,
    /// Queries see only what is materialised; `None`: not managed.
    pub materialized_only: Option<bool>,
    /// TimescaleDB makes its own indexes when it creates the aggregate; `None`: its choice.
    pub create_group_indexes: Option<bool>,
    /// Range of one chunk of what is materialised; `None`: not managed.
    pub chunk_interval: Option<Span>,
    /// Indexes that must exist.
    pub indexes: Vec<IndexTarget>,
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
    /// Namespace of the `TimescaleDatabase`.
    pub home: String,
    /// Whether differences are corrected.
    pub mode: Mode,
    /// Share of chunks (percent) that a retention policy may drop at once without approval.
    pub max_immediate_drop_percent: i32,
}

/// Values for fields that resources leave out, not parsed yet.
#[derive(Clone, Copy, Debug, Default)]
struct Defaults<'a> {
    /// The `TimescaleDatabase`.
    database: &'a str,
    chunk_interval: Option<&'a SpanText>,
    compress_after: Option<&'a SpanText>,
    drop_after: Option<&'a SpanText>,
}

impl<'a> Defaults<'a> {
    fn of(database: &'a TimescaleDatabase) -> Self {
        let spec = database.spec.defaults.as_ref();
        Self {
            database: database.metadata.name.as_deref().unwrap_or_default(),
            chunk_interval: spec.and_then(|d| d.chunk_interval.as_ref()),
            compress_after: spec.and_then(|d| d.compress_after.as_ref()),
            drop_after: spec.and_then(|d| d.drop_after.as_ref()),
        }
    }

    fn span(&self, text: &SpanText, field: &str) -> Result<Span, Rejection> {
        positive_span(text, field).map_err(|Rejection { reason, message }| {
            let message = message.replacen("spec.", "spec.defaults.", 1);
            Rejection::new(reason, format!("TimescaleDatabase {}: {message}", self.database))
        })
    }
}

/// What all resources attached to one database want of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// What is carried out, in the order it is planned: kinds in dependency order, then by name.
    pub claims: Vec<Claim>,
    /// What is not carried out.
    pub rejected: BTreeMap<ClaimId, Rejection>,
    /// Selected targets for which another policy is used that names them: no fault of either.
    pub overridden: BTreeMap<ClaimId, ResourceId>,
}

impl Desired {
    /// The hypertables and aggregates whose indexes some resource says something about.
    pub fn with_indexes(&self) -> Vec<&Relation> {
        let indexed = self.claims.iter().filter_map(|claim| match &claim.intent {
            Intent::Ensure(Target::Hypertable(target)) if !target.indexes.is_empty() => Some(&target.relation),
            Intent::Ensure(Target::Aggregate(target)) if !target.indexes.is_empty() => Some(&target.relation),
            _ => None,
        });
        indexed.collect()
    }
}

/// The resources attached to one database.
#[derive(Clone, Debug, Default)]
pub struct Attached {
    /// In any order.
    pub hypertables: Vec<Arc<Hypertable>>,
    /// In any order.
    pub aggregates: Vec<Arc<ContinuousAggregate>>,
    /// Each with its targets in this database; in any order.
    pub compression: Vec<(Arc<CompressionPolicy>, Vec<PolicyTarget>)>,
    /// Each with its targets in this database; in any order.
    pub retention: Vec<(Arc<RetentionPolicy>, Vec<PolicyTarget>)>,
    /// Labels of other namespaces that the resources above are in.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

impl Attached {
    /// These are the very same versions of the same resources, with the same targets.
    pub fn is_same(&self, other: &Self) -> bool {
        fn all<T>(ours: &[T], theirs: &[T], is_same: impl Fn(&T, &T) -> bool) -> bool {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(our, their)| is_same(our, their))
        }
        fn policies<P>(ours: &[(Arc<P>, Vec<PolicyTarget>)], theirs: &[(Arc<P>, Vec<PolicyTarget>)]) -> bool {
            all(ours, theirs, |our, their| {
                Arc::ptr_eq(&our.0, &their.0) && all(&our.1, &their.1, PolicyTarget::is_same)
            })
        }
        all(&self.hypertables, &other.hypertables, Arc::ptr_eq)
            && all(&self.aggregates, &other.aggregates, Arc::ptr_eq)
            && policies(&self.compression, &other.compression)
            && policies(&self.retention, &other.retention)
            && self.namespaces == other.namespaces
    }
}

/// Where a policy's `targetRef` or `targetSelector` leads.
#[derive(Clone, Debug)]
pub enum PolicyTarget {
    /// To a `Hypertable`.
    Hypertable(Arc<Hypertable>),
    /// To a `ContinuousAggregate`.
    Aggregate(Arc<ContinuousAggregate>),
    /// The resource is gone and the policy is being deleted: to the object that it was last resolved to.
    Recorded(TargetId, TargetStatus),
}

impl PolicyTarget {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Hypertable(ours), Self::Hypertable(theirs)) => Arc::ptr_eq(ours, theirs),
            (Self::Aggregate(ours), Self::Aggregate(theirs)) => Arc::ptr_eq(ours, theirs),
            (Self::Recorded(our_id, ours), Self::Recorded(their_id, theirs)) => our_id == their_id && ours == theirs,
            _ => false,
        }
    }

    /// The target's own name.
    pub fn id(&self) -> TargetId {
        match self {
            Self::Hypertable(hypertable) => TargetId { kind: TargetKind::Hypertable, name: hypertable.name_any() },
            Self::Aggregate(aggregate) => {
                TargetId { kind: TargetKind::ContinuousAggregate, name: aggregate.name_any() }
            }
            Self::Recorded(id, _) => id.clone(),
        }
    }

    /// Schema and name of the database object, as written.
    pub fn object(&self) -> (&str, &str) {
        match self {
            Self::Hypertable(hypertable) => (&hypertable.spec.schema, &hypertable.spec.table),
            Self::Aggregate(aggregate) => (&aggregate.spec.schema, &aggregate.spec.name),
            Self::Recorded(_, target) => (&target.schema, &target.table),
        }
    }

    fn on(&self) -> Result<PolicyObject, Rejection> {
        let (schema, table) = self.object();
        let relation = relation(schema, table, "table")
            .map_err(|e| Rejection::new(Reason::TargetNotReady, format!("the target: {}", e.message)))?;
        Ok(PolicyObject { target: self.id(), relation })
    }
}

/// A policy, as far as what it is for goes.
pub trait Targeting {
    /// The target it names.
    fn target_ref(&self) -> Option<&TargetRef>;
    /// The targets it selects.
    fn target_selector(&self) -> Option<&TargetSelector>;
}

impl Targeting for CompressionPolicy {
    fn target_ref(&self) -> Option<&TargetRef> {
        self.spec.target_ref.as_ref()
    }

    fn target_selector(&self) -> Option<&TargetSelector> {
        self.spec.target_selector.as_ref()
    }
}

impl Targeting for RetentionPolicy {
    fn target_ref(&self) -> Option<&TargetRef> {
        self.spec.target_ref.as_ref()
    }

    fn target_selector(&self) -> Option<&TargetSelector> {
        self.spec.target_selector.as_ref()
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
    Rules {
        home: database.metadata.namespace.clone().unwrap_or_default(),
        mode: database.spec.mode,
        max_immediate_drop_percent: database.spec.guards.max_immediate_drop_percent,
    }
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
    id: ClaimId,
    created: Option<Timestamp>,
    /// The object, known even where the rest of the spec cannot be read: an edit that breaks a resource hands its object
    /// to no other, and its deletion takes none away from another.
    key: Option<ObjectKey>,
    /// It is not being deleted.
    stays: bool,
    claim: Result<Claim, Rejection>,
}

/// What the attached resources want of the database. Of several that claim the same object, the one that names it goes
/// before those that select it, then the oldest, then the first by name; the others are `Conflicted`. A resource being
/// deleted releases the object only if no other claims it. Of a database that is being deleted nothing is wanted any more;
/// what is being released still is.
pub fn collect(database: &TimescaleDatabase, attached: &Attached) -> Desired {
    let orphan = database.spec.deletion_policy == DatabaseDeletion::Orphan;
    let home = database.metadata.namespace.as_deref().unwrap_or_default();
    let defaults = Defaults::of(database);
    let Attached { hypertables, aggregates, compression, retention, namespaces: _ } = attached;
    let policies = compression.iter().map(|(_, on)| on.len()).chain(retention.iter().map(|(_, on)| on.len()));
    let mut candidates = Vec::with_capacity(hypertables.len() + aggregates.len() + policies.sum::<usize>());
    for resource in hypertables {
        let object = relation(&resource.spec.schema, &resource.spec.table, "table");
        let id = claim_id(home, Kind::Hypertable, &**resource, None);
        candidates
            .push(candidate(&**resource, id, object, hypertable_target(resource, &defaults), |_| Release::Nothing));
    }
    for resource in aggregates {
        let object = relation(&resource.spec.schema, &resource.spec.name, "name");
        let release = |relation| {
            let drops = aggregate_needs_release(resource.spec.deletion_policy);
            if drops { Release::DropAggregate(relation) } else { Release::Nothing }
        };
        let id = claim_id(home, Kind::ContinuousAggregate, &**resource, None);
        candidates.push(candidate(&**resource, id, object, aggregate_target(resource), release));
    }
    for (resource, targets) in compression {
        for on in targets {
            let release = policy_release(resource.spec.deletion_policy, PolicyKind::Compression);
            let id = claim_id(home, Kind::CompressionPolicy, &**resource, Some((&**resource, on)));
            let object = on.on().map(|on| on.relation);
            let target = on.on().and_then(|on| compression_target(resource, on, &defaults));
            candidates.push(candidate(&**resource, id, object, target, release));
        }
    }
    for (resource, targets) in retention {
        for on in targets {
            let release = policy_release(resource.spec.deletion_policy, PolicyKind::Retention);
            let id = claim_id(home, Kind::RetentionPolicy, &**resource, Some((&**resource, on)));
            let object = on.on().map(|on| on.relation);
            let target = on.on().and_then(|on| retention_target(resource, on, &defaults));
            candidates.push(candidate(&**resource, id, object, target, release));
        }
    }
    let lets_in =
        |namespace: &str| database.spec.allowed_namespaces.lets_in(namespace, home, attached.namespaces.get(namespace));
    for candidate in &mut candidates {
        if let Some(namespace) = candidate.id.resource.namespace.as_deref().filter(|namespace| !lets_in(namespace)) {
            let message = format!(
                "TimescaleDatabase {home}/{} does not let in resources of namespace {namespace}; its spec.allowedNamespaces says from where it does",
                database.metadata.name.as_deref().unwrap_or_default()
            );
            // It has no claim on anything; when it is deleted there is nothing it may undo.
            candidate.key = None;
            candidate.claim = match &candidate.claim {
                Ok(claim) if !candidate.stays => {
                    Ok(Claim { intent: Intent::Release(Release::Nothing), ..claim.clone() })
                }
                _ => Err(Rejection::new(Reason::NotAllowed, message)),
            };
        }
    }
    let mut desired = resolve(candidates, home, orphan);
    if database.metadata.deletion_timestamp.is_some() {
        desired.claims.retain(|claim| matches!(claim.intent, Intent::Release(_)));
        desired.rejected.clear();
        desired.overridden.clear();
    }
    desired
}

fn claim_id<K: ResourceExt>(
    home: &str,
    kind: Kind,
    resource: &K,
    on: Option<(&dyn Targeting, &PolicyTarget)>,
) -> ClaimId {
    let resource_id =
        ResourceId::seen_from(home, kind, &resource.namespace().unwrap_or_default(), &resource.name_any());
    let selected = on.filter(|(policy, _)| policy.target_ref().is_none()).map(|(_, target)| target.id());
    ClaimId { resource: resource_id, target: selected }
}

fn policy_release(deletion: PolicyDeletion, kind: PolicyKind) -> impl FnOnce(Relation) -> Release {
    move |relation| {
        if policy_needs_release(deletion) { Release::RemovePolicy(kind, relation) } else { Release::Nothing }
    }
}

fn candidate<K: ResourceExt>(
    resource: &K,
    id: ClaimId,
    object: Result<Relation, Rejection>,
    target: Result<Target, Rejection>,
    release: impl FnOnce(Relation) -> Release,
) -> Candidate {
    let approvals = approvals(resource);
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
        key: object.map(|relation| ObjectKey { relation, part: id.resource.kind }),
        stays,
        claim: intent.map(|intent| Claim { id: id.clone(), intent, approvals }),
        id,
    }
}

/// The plans that the annotation approves: one digest, or several with commas between them.
fn approvals<K: ResourceExt>(resource: &K) -> Vec<PlanDigest> {
    let text = resource.annotations().get(APPROVE_ANNOTATION).map_or("", String::as_str);
    let digests = text.split([',', ' ']).map(str::trim).filter(|digest| !digest.is_empty());
    digests.map(|digest| PlanDigest(digest.to_owned())).collect()
}

/// The order in which claims on one object go: what names it, the oldest, the first by name.
type Rank<'a> = (bool, Option<Timestamp>, &'a ClaimId);

fn resolve(candidates: Vec<Candidate>, home: &str, orphan: bool) -> Desired {
    let mut desired = Desired { claims: Vec::with_capacity(candidates.len()), ..Desired::default() };
    let mut owners: BTreeMap<ObjectKey, Rank<'_>> = BTreeMap::new();
    for Candidate { id, created, key, stays, .. } in &candidates {
        if let (Some(key), true) = (key, stays) {
            let rank = (id.target.is_some(), *created, id);
            owners.entry(key.clone()).and_modify(|owner| *owner = rank.min(*owner)).or_insert(rank);
        }
    }
    let owners: BTreeMap<_, _> = owners.into_iter().map(|(key, (_, _, id))| (key, id.clone())).collect();
    for Candidate { id, key, claim, .. } in candidates {
        let mut claim = match claim {
            Ok(claim) => claim,
            Err(rejection) => {
                desired.rejected.insert(id, rejection);
                continue;
            }
        };
        let owner = key.as_ref().and_then(|key| owners.get(key));
        match (&mut claim.intent, owner) {
            (Intent::Ensure(_), Some(owner)) if *owner != claim.id => {
                if claim.id.target.is_some() && owner.target.is_none() {
                    desired.overridden.insert(claim.id, owner.resource.clone());
                    continue;
                }
                let message = format!(
                    "{} claims the same object of the database and is older; delete one of the two (deleting this one changes nothing in the database)",
                    owner.resource.seen_by(&claim.id.resource, home)
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

fn span(text: &SpanText, field: &str) -> Result<Span, Rejection> {
    match text {
        SpanText::Integer(units) => Ok(Span::Integer(*units)),
        SpanText::Interval(text) => text.parse().map(Span::Time).map_err(|e: IntervalError| {
            let number = matches!(e, IntervalError::NoUnit(_));
            let hint = if number { "; for an integer time column write the number without quotes" } else { "" };
            Rejection::field(field, format!("{e}{hint}"))
        }),
    }
}

/// A span that must be longer than nothing.
fn positive_span(text: &SpanText, field: &str) -> Result<Span, Rejection> {
    let span = span(text, field)?;
    if !span.is_positive() {
        return Err(Rejection::field(field, format!("\"{text}\" must be longer than nothing")));
    }
    Ok(span)
}

fn optional<S, T>(
    text: Option<&S>,
    field: &str,
    parse: impl Fn(&S, &str) -> Result<T, Rejection>,
) -> Result<Option<T>, Rejection> {
    text.map(|text| parse(text, field)).transpose()
}

fn hypertable_target(resource: &Hypertable, defaults: &Defaults<'_>) -> Result<Target, Rejection> {
    let spec = &resource.spec;
    let relation = relation(&spec.schema, &spec.table, "table")?;
    let space = spec.space_partitions.iter().enumerate().map(|(i, partition)| {
        Ok((sql_name(&partition.column, &format!("spacePartitions[{i}].column"))?, partition.partitions))
    });
    let own = optional(spec.chunk_interval.as_ref(), "chunkInterval", positive_span)?;
    let own = own.map(|span| ChunkInterval { span, is_default: false });
    let default = || -> Result<_, Rejection> {
        let span = defaults.chunk_interval.map(|text| defaults.span(text, "chunkInterval")).transpose()?;
        Ok(span.map(|span| ChunkInterval { span, is_default: true }))
    };
    let integer_now = spec.integer_now_function.as_ref().map(|text| {
        text.parse().map_err(|e| Rejection::field("integerNowFunction", format!("{e}; write schema.function")))
    });
    let names = |texts: &Option<Vec<String>>, field: &str| texts.as_ref().map(|t| sql_names(t, field)).transpose();
    let reorder = spec.reorder.as_ref().map(|reorder| {
        let policy = Policy::Reorder { index: Some(sql_name(&reorder.index, "reorder.index")?) };
        job_target(policy, &reorder.schedule, reorder.paused, "reorder.schedule")
    });
    let target = HypertableTarget {
        relation,
        time_column: sql_name(&spec.time_column, "timeColumn")?,
        chunk_interval: match own {
            Some(own) => Some(own),
            None => default()?,
        },
        integer_now: integer_now.transpose()?,
        space: space.collect::<Result<_, _>>()?,
        migrate_data: spec.migrate_data,
        chunk_skipping: names(&spec.chunk_skipping, "chunkSkipping")?.map(BTreeSet::from_iter),
        tablespaces: names(&spec.tablespaces, "tablespaces")?,
        indexes: index_targets(&spec.indexes)?,
        reorder: reorder.transpose()?,
    };
    Ok(Target::Hypertable(target))
}

fn index_targets(indexes: &[Index]) -> Result<Vec<IndexTarget>, Rejection> {
    indexes.iter().enumerate().map(|(i, index)| index_target(index, &format!("indexes[{i}]"))).collect()
}

fn index_target(index: &Index, field: &str) -> Result<IndexTarget, Rejection> {
    let columns = index.columns.iter().enumerate().map(|(i, column)| {
        let name = sql_name(&column.name, &format!("{field}.columns[{i}].name"))?;
        Ok(SortColumn::new(name, column.order, column.nulls))
    });
    let predicate = index.predicate.as_deref().map(|text| sql_text(text, &format!("{field}.where"))).transpose()?;
    Ok(IndexTarget {
        name: sql_name(&index.name, &format!("{field}.name"))?,
        method: index.method,
        unique: index.unique,
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

/// The age that a policy goes by: its own, or the database's default.
fn age(
    older_than: Option<&SpanText>,
    created_before: Option<&IntervalText>,
    default: Option<&SpanText>,
    defaults: &Defaults<'_>,
    fields: [&str; 2],
) -> Result<Age, Rejection> {
    let [older_field, created_field] = fields;
    match (older_than, created_before) {
        (Some(text), None) => positive_span(text, older_field).map(Age::OlderThan),
        (None, Some(text)) => positive(text, created_field).map(Age::CreatedBefore),
        (Some(_), Some(_)) => {
            Err(Rejection::field(created_field, format!("only one of {older_field} and {created_field} can be given")))
        }
        (None, None) => {
            let missing = || {
                let database = defaults.database;
                let message = format!(
                    "it is missing, and TimescaleDatabase {database} has no default for it; set it here, or {created_field}, or spec.defaults.{older_field} there"
                );
                Rejection::field(older_field, message)
            };
            defaults.span(default.ok_or_else(missing)?, older_field).map(Age::OlderThan)
        }
    }
}

/// The age that a compression policy goes by.
fn compress_age(spec: &compression_policy::CompressionPolicySpec, defaults: &Defaults<'_>) -> Result<Age, Rejection> {
    let fields = ["compressAfter", "compressCreatedBefore"];
    age(spec.compress_after.as_ref(), spec.compress_created_before.as_ref(), defaults.compress_after, defaults, fields)
}

/// The age that a retention policy goes by.
fn drop_age(
    spec: &crate::api::retention_policy::RetentionPolicySpec,
    defaults: &Defaults<'_>,
) -> Result<Age, Rejection> {
    let fields = ["dropAfter", "dropCreatedBefore"];
    age(spec.drop_after.as_ref(), spec.drop_created_before.as_ref(), defaults.drop_after, defaults, fields)
}

fn compression_target(
    resource: &CompressionPolicy,
    on: PolicyObject,
    defaults: &Defaults<'_>,
) -> Result<Target, Rejection> {
    let spec = &resource.spec;
    let after = compress_age(spec, defaults)?;
    let order_by = spec.order_by.as_ref().map(|columns| {
        let column = |(i, o): (usize, &compression_policy::OrderBy)| {
            Ok(SortColumn::new(sql_name(&o.column, &format!("orderBy[{i}].column"))?, o.order, o.nulls))
        };
        columns.iter().enumerate().map(column).collect::<Result<_, Rejection>>()
    });
    let sparse_indexes = spec.sparse_indexes.as_ref().map(|indexes| {
        let index = |(i, index): (usize, &compression_policy::SparseIndex)| {
            let columns = sql_names(&index.columns, &format!("sparseIndexes[{i}].columns"))?;
            Ok(SparseIndex { kind: index.kind, columns: columns.into_iter().collect() })
        };
        indexes.iter().enumerate().map(index).collect::<Result<_, Rejection>>()
    });
    let target = CompressionTarget {
        on,
        segment_by: spec.segment_by.as_ref().map(|names| sql_names(names, "segmentBy")).transpose()?,
        order_by: order_by.transpose()?,
        merge_interval: optional(spec.merge_interval.as_ref(), "mergeInterval", span)?,
        sparse_indexes: sparse_indexes.transpose()?,
        job: job_target(Policy::Compression { after: Some(after) }, &spec.schedule, spec.paused, "schedule")?,
    };
    Ok(Target::Compression(target))
}

fn retention_target(
    resource: &RetentionPolicy,
    on: PolicyObject,
    defaults: &Defaults<'_>,
) -> Result<Target, Rejection> {
    let spec = &resource.spec;
    let after = drop_age(spec, defaults)?;
    let target = RetentionTarget {
        on,
        after,
        job: job_target(Policy::Retention { after: Some(after) }, &spec.schedule, spec.paused, "schedule")?,
    };
    Ok(Target::Retention(target))
}

fn aggregate_target(resource: &ContinuousAggregate) -> Result<Target, Rejection> {
    let spec = &resource.spec;
    let relation = relation(&spec.schema, &spec.name, "name")?;
    let refresh = spec.refresh_policy.as_ref().map(|policy| {
        let start_offset = optional(policy.start_offset.as_ref(), "refreshPolicy.startOffset", span)?;
        let end_offset = optional(policy.end_offset.as_ref(), "refreshPolicy.endOffset", span)?;
        if let (Some(start), Some(end)) = (start_offset, end_offset)
            && start.partial_cmp(&end) != Some(std::cmp::Ordering::Greater)
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
        let options = RefreshOptions {
            include_tiered_data: policy.include_tiered_data,
            buckets_per_batch: policy.buckets_per_batch,
            max_batches_per_execution: policy.max_batches_per_execution,
            refresh_newest_first: policy.refresh_newest_first,
        };
        job_target(
            Policy::Refresh { start_offset, end_offset, options },
            &policy.schedule,
            policy.paused,
            "refreshPolicy.schedule",
        )
    });
    let target = AggregateTarget {
        relation,
        query: sql_text(&spec.query, "query")?,
        on_query_change: spec.on_query_change,
        materialized_only: spec.real_time.map(|real_time| !real_time),
        create_group_indexes: spec.create_group_indexes,
        chunk_interval: optional(spec.chunk_interval.as_ref(), "chunkInterval", positive_span)?,
        indexes: index_targets(&spec.indexes)?,
        refresh: refresh.transpose()?,
    };
    Ok(Target::Aggregate(target))
}

/// The age that a compression policy goes by, as its status shows it.
pub fn effective_compress_after(policy: &CompressionPolicy, database: &TimescaleDatabase) -> Option<String> {
    compress_age(&policy.spec, &Defaults::of(database)).ok().map(|age| age.to_string())
}

/// A default of the operator's own.
///
/// # Errors
/// When it is no span, or not longer than nothing.
pub fn operator_default(text: &str) -> Result<SpanText, String> {
    let text = text.trim().parse().map_or_else(|_| SpanText::Interval(text.to_owned()), SpanText::Integer);
    positive_span(&text, "").map_err(|rejection| rejection.message.trim_start_matches("spec.: ").to_owned())?;
    Ok(text)
}

/// The database as it is looked after: what its defaults leave out, the operator's say. Also which of them those are.
pub fn with_operator_defaults(
    database: &Arc<TimescaleDatabase>,
    operator: &timescale_database::Defaults,
) -> (Arc<TimescaleDatabase>, timescale_database::Defaults) {
    let own = database.spec.defaults.clone().unwrap_or_default();
    let missing = |own: &Option<SpanText>, operator: &Option<SpanText>| operator.clone().filter(|_| own.is_none());
    let filled = timescale_database::Defaults {
        chunk_interval: missing(&own.chunk_interval, &operator.chunk_interval),
        compress_after: missing(&own.compress_after, &operator.compress_after),
        drop_after: missing(&own.drop_after, &operator.drop_after),
    };
    if filled == timescale_database::Defaults::default() {
        return (database.clone(), filled);
    }
    let mut whole = (**database).clone();
    whole.spec.defaults = Some(timescale_database::Defaults {
        chunk_interval: own.chunk_interval.or_else(|| filled.chunk_interval.clone()),
        compress_after: own.compress_after.or_else(|| filled.compress_after.clone()),
        drop_after: own.drop_after.or_else(|| filled.drop_after.clone()),
    });
    (Arc::new(whole), filled)
}

/// The defaults in force, with their layers: of a database that [`with_operator_defaults`] has made whole.
pub fn effective_defaults(
    whole: &TimescaleDatabase,
    filled: &timescale_database::Defaults,
) -> Option<EffectiveDefaults> {
    let all = whole.spec.defaults.as_ref()?;
    let of = |value: &Option<SpanText>, filled: &Option<SpanText>| {
        let source = if filled.is_some() { DefaultSource::Operator } else { DefaultSource::Database };
        value.as_ref().map(|value| EffectiveDefault { value: value.to_string(), source })
    };
    Some(EffectiveDefaults {
        chunk_interval: of(&all.chunk_interval, &filled.chunk_interval),
        compress_after: of(&all.compress_after, &filled.compress_after),
        drop_after: of(&all.drop_after, &filled.drop_after),
    })
}

/// The age that a retention policy goes by, as its status shows it.
pub fn effective_drop_after(policy: &RetentionPolicy, database: &TimescaleDatabase) -> Option<String> {
    drop_age(&policy.spec, &Defaults::of(database)).ok().map(|age| age.to_string())
}
