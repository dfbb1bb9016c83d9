//! `CompressionPolicy`: how a hypertable is compressed, and when.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{
    status::{PendingPlan, TargetStatus},
    types::{IntervalText, Nulls, Order, PolicyDeletion, Schedule, TargetRef},
};

/// Columnstore settings of a hypertable and the policy that compresses its chunks.
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
    doc = "CompressionPolicy says how a hypertable's chunks are compressed, and after which time.",
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.targetRef.name"),
    printcolumn(name = "After", type_ = "string", json_path = ".spec.compressAfter"),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule.interval"),
    printcolumn(name = "Paused", type_ = "boolean", json_path = ".spec.paused"),
    printcolumn(name = "Job", type_ = "integer", json_path = ".status.jobId"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("self.targetRef == oldSelf.targetRef").message("targetRef is immutable; create another policy for the other target").field_path(".targetRef"),
    validation = Rule::new("!has(self.segmentBy) || self.segmentBy.all(s, self.segmentBy.filter(t, t == s).size() == 1)").message("segmentBy names a column twice").field_path(".segmentBy"),
    validation = Rule::new("!has(self.orderBy) || self.orderBy.all(o, self.orderBy.filter(p, p.column == o.column).size() == 1)").message("orderBy names a column twice").field_path(".orderBy"),
    validation = Rule::new("!has(self.segmentBy) || !has(self.orderBy) || self.orderBy.all(o, !(o.column in self.segmentBy))").message("a column cannot be in both segmentBy and orderBy").field_path(".orderBy")
)]
#[serde(rename_all = "camelCase")]
pub struct CompressionPolicySpec {
    /// The hypertable that is compressed.
    pub target_ref: TargetRef,
    /// Chunks whose whole range is older than this are compressed (`compress_after`).
    pub compress_after: IntervalText,
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
    /// `Ready`, and while they hold `Reconciling`, `Stalled` or `Drifted`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// What would be done and is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PendingPlan>,
    /// The database object the policy is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetStatus>,
    /// The job in `timescaledb_information.jobs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<i32>,
}
