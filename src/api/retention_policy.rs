//! `RetentionPolicy`: when a hypertable's chunks are dropped.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{
    status::{PendingPlan, TargetStatus},
    types::{IntervalText, PolicyDeletion, Schedule, TargetRef},
};

/// The policy that drops old chunks of a hypertable.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "timescaledb-policy.io",
    version = "v1alpha1",
    kind = "RetentionPolicy",
    plural = "retentionpolicies",
    namespaced,
    status = "RetentionPolicyStatus",
    derive = "PartialEq",
    shortname = "retpol",
    category = "timescaledb",
    doc = "RetentionPolicy says when a hypertable's chunks are dropped.",
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.targetRef.name"),
    printcolumn(name = "After", type_ = "string", json_path = ".spec.dropAfter"),
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
#[x_kube(validation = Rule::new("self.targetRef == oldSelf.targetRef").message("targetRef is immutable; create another policy for the other target").field_path(".targetRef"))]
#[serde(rename_all = "camelCase")]
pub struct RetentionPolicySpec {
    /// The hypertable whose chunks are dropped.
    pub target_ref: TargetRef,
    /// Chunks whose whole range is older than this are dropped (`drop_after`).
    pub drop_after: IntervalText,
    /// When the job runs.
    #[serde(default)]
    pub schedule: Schedule,
    /// Keeps the policy in the database and its job from running.
    #[serde(default)]
    pub paused: bool,
    /// What becomes of the policy when this resource is deleted. A policy that is retained goes on dropping chunks.
    #[serde(default)]
    pub deletion_policy: PolicyDeletion,
}

/// What was seen of the policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionPolicyStatus {
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
