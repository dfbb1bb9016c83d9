//! `CompressionPolicy`: how a hypertable is compressed, and when.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    status::{JobStatus, PendingPlan, SelectedTarget, TargetStatus},
    types::{IntervalText, Nulls, Order, PolicyDeletion, Schedule, SpanText, TargetRef, TargetSelector},
};

/// Columnstore settings of a hypertable or a continuous aggregate and the policy that compresses its chunks.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "timescaledb-policy.io",
    version = "v1alpha1",
    kind = "CompressionPolicy",
    plural = "compressionpolicies",
    namespaced,
    status = "CompressionPolicyStatus",
    derive = "PartialEq",
    shortname = "comppol",
    category = "timescaledb",
    doc = "CompressionPolicy says how the chunks of hypertables and continuous aggregates are compressed, and after which time.",
    printcolumn(name = "Database", type_ = "string", json_path = ".status.target.database"),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.targetRef.name"),
    printcolumn(name = "Matched", type_ = "integer", json_path = ".status.matched"),
    printcolumn(name = "After", type_ = "string", json_path = ".status.compressAfter"),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule.interval"),
    printcolumn(name = "Paused", type_ = "boolean", json_path = ".spec.paused"),
    printcolumn(name = "Job", type_ = "integer", json_path = ".status.jobId"),
    printcolumn(
        name = "JobHealthy",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="JobHealthy")].status"#
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    ),
    printcolumn(
        name = "JobMessage",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="JobHealthy")].message"#,
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("has(self.targetRef) != has(self.targetSelector)").message("one of targetRef and targetSelector is needed"),
    validation = Rule::new("has(self.targetRef) == has(oldSelf.targetRef) && (!has(self.targetRef) || self.targetRef == oldSelf.targetRef)").message("targetRef is immutable; create another policy for the other target").field_path(".targetRef"),
    validation = Rule::new("!(has(self.compressAfter) && has(self.compressCreatedBefore))").message("only one of compressAfter and compressCreatedBefore can be given").field_path(".compressCreatedBefore"),
    validation = Rule::new("!has(self.segmentBy) || self.segmentBy.all(s, self.segmentBy.filter(t, t == s).size() == 1)").message("segmentBy names a column twice").field_path(".segmentBy"),
    validation = Rule::new("!has(self.orderBy) || self.orderBy.all(o, self.orderBy.filter(p, p.column == o.column).size() == 1)").message("orderBy names a column twice").field_path(".orderBy"),
    validation = Rule::new("!has(self.segmentBy) || !has(self.orderBy) || self.orderBy.all(o, !(o.column in self.segmentBy))").message("a column cannot be in both segmentBy and orderBy").field_path(".orderBy")
)]
#[serde(rename_all = "camelCase")]
pub struct CompressionPolicySpec {
    /// The hypertable or continuous aggregate that the policy is for. Either this or `targetSelector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// All hypertables or continuous aggregates in this namespace with these labels. Either this or `targetRef`.
    /// One that is not selected any more keeps its policy in the database, no longer managed; an event says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_selector: Option<TargetSelector>,
    /// Chunks whose whole range is older than this are compressed (`compress_after`); for an integer time column a number of its units.
    /// Left out, and `compressCreatedBefore` too: the `TimescaleDatabase`'s `defaults.compressAfter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compress_after: Option<SpanText>,
    /// Chunks that were created longer ago than this are compressed (`compress_created_before`), whatever the age of their rows. Instead of `compressAfter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compress_created_before: Option<IntervalText>,
    /// Columns that compressed rows are grouped by (`compress_segmentby`): the ones queries filter on. An empty list means explicitly none.
    /// A change holds for chunks compressed later. Left out: TimescaleDB's choice, not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 63)))]
    pub segment_by: Option<Vec<String>>,
    /// Columns that compressed rows are sorted by (`compress_orderby`). TimescaleDB appends the time column where it is missing.
    /// A change holds for chunks compressed later. Left out: TimescaleDB's choice, not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub order_by: Option<Vec<OrderBy>>,
    /// Chunks are merged into compressed ones of this range (`compress_chunk_time_interval`), a multiple of the chunk interval; for an integer time column a number of its units.
    /// `0 seconds` (0 for integers) means none. Left out: not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge_interval: Option<SpanText>,
    /// Sparse indexes over compressed chunks (`sparse_index`, TimescaleDB 2.22 and later), besides those TimescaleDB makes for `orderBy` itself; they need `orderBy`. An empty list means none.
    /// Hypertables only.
    /// A change holds for chunks compressed later. Left out: not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub sparse_indexes: Option<Vec<SparseIndex>>,
    /// When the job runs.
    #[serde(default)]
    pub schedule: Schedule,
    /// Keeps the policy in the database and its job from running.
    #[serde(default)]
    pub paused: bool,
    /// What becomes of the policy when this resource is deleted. Chunks stay as they are, compressed or not.
    #[serde(default)]
    pub deletion_policy: PolicyDeletion,
}

/// One sparse index over the batches of compressed chunks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("self.kind == 'Bloom' || self.columns.size() == 1").message("only a Bloom index can have several columns").field_path(".columns"))]
#[serde(rename_all = "camelCase")]
pub struct SparseIndex {
    /// What is kept of each batch.
    pub kind: SparseIndexKind,
    /// The columns.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 63)))]
    pub columns: Vec<String>,
}

/// What a sparse index keeps of each batch of compressed rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SparseIndexKind {
    /// A bloom filter: for equality.
    Bloom,
    /// The smallest and the largest value: for ranges.
    MinMax,
    /// The first and the last value in the order of `orderBy` (TimescaleDB 2.28 and later).
    FirstLast,
}

/// One column of `orderBy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderBy {
    /// Name of the column.
    #[schemars(length(min = 1, max = 63))]
    pub column: String,
    /// Direction.
    #[serde(default)]
    pub order: Order,
    /// Where NULLs sort. Left out: last when ascending, first when descending, as PostgreSQL does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nulls: Option<Nulls>,
}

/// What was seen of the policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CompressionPolicyStatus {
    /// The generation of the spec that was evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`; `JobHealthy` where there is a job; and while they hold `Reconciling`, `Stalled` or `Drifted`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// What would be done and is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PendingPlan>,
    /// The database object the policy is on; absent with a `targetSelector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetStatus>,
    /// Targets that the `targetSelector` selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched: Option<i64>,
    /// Selected targets whose policy is as this resource says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched_in_sync: Option<i64>,
    /// The selected targets, those that need attention first; at most 50 of them. One whose resource is deleted stays on the list as `TargetNotFound`:
    /// the policy is still on its table, and is removed from there when this resource is deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kind".into(), "name".into()]))]
    #[schemars(length(max = 50))]
    pub targets: Vec<SelectedTarget>,
    /// The age from which chunks are compressed: this resource's, or the `TimescaleDatabase`'s default. Absent where selected targets have different ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compress_after: Option<String>,
    /// The job in `timescaledb_information.jobs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<i32>,
    /// What TimescaleDB's scheduler says of the job; absent with a `targetSelector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobStatus>,
}
