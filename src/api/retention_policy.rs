//! `RetentionPolicy`: when chunks are dropped.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{
    status::{JobStatus, PendingPlan, SelectedTarget, TargetStatus},
    types::{IntervalText, PolicyDeletion, Schedule, SpanText, TargetRef, TargetSelector},
};

/// The policy that drops old chunks of a hypertable or a continuous aggregate.
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
    doc = "RetentionPolicy says when the chunks of hypertables and continuous aggregates are dropped.",
    printcolumn(name = "Database", type_ = "string", json_path = ".status.target.database"),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.targetRef.name"),
    printcolumn(name = "Matched", type_ = "integer", json_path = ".status.matched"),
    printcolumn(name = "After", type_ = "string", json_path = ".status.dropAfter"),
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
    validation = Rule::new("!(has(self.dropAfter) && has(self.dropCreatedBefore))").message("only one of dropAfter and dropCreatedBefore can be given").field_path(".dropCreatedBefore")
)]
#[serde(rename_all = "camelCase")]
pub struct RetentionPolicySpec {
    /// The hypertable or continuous aggregate that the policy is for. Either this or `targetSelector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// All hypertables or continuous aggregates in this namespace with these labels. Either this or `targetRef`.
    /// One that is not selected any more keeps its policy in the database, no longer managed; an event says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_selector: Option<TargetSelector>,
    /// Chunks whose whole range is older than this are dropped (`drop_after`); for an integer time column a number of its units.
    /// Left out, and `dropCreatedBefore` too: the `TimescaleDatabase`'s `defaults.dropAfter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drop_after: Option<SpanText>,
    /// Chunks that were created longer ago than this are dropped (`drop_created_before`), whatever the age of their rows. Instead of `dropAfter`. TimescaleDB 2.26.3 and later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drop_created_before: Option<IntervalText>,
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
    /// The age from which chunks are dropped: this resource's, or the `TimescaleDatabase`'s default. Absent where selected targets have different ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drop_after: Option<String>,
    /// The job in `timescaledb_information.jobs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<i32>,
    /// What TimescaleDB's scheduler says of the job; absent with a `targetSelector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobStatus>,
}
