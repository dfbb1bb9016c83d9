//! `ContinuousAggregate`: a view that TimescaleDB keeps materialised.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    status::PendingPlan,
    types::{DatabaseRef, IntervalText, Schedule},
};

/// A continuous aggregate and the policy that refreshes it. It is created without data; the policy fills it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "timescaledb-policy.io",
    version = "v1alpha1",
    kind = "ContinuousAggregate",
    namespaced,
    status = "ContinuousAggregateStatus",
    derive = "PartialEq",
    shortname = "cagg",
    category = "timescaledb",
    selectable = ".spec.databaseRef.name",
    doc = "ContinuousAggregate says that a view is kept materialised by TimescaleDB, and how it is refreshed.",
    printcolumn(name = "Database", type_ = "string", json_path = ".spec.databaseRef.name"),
    printcolumn(name = "View", type_ = "string", json_path = ".spec.name"),
    printcolumn(name = "RealTime", type_ = "boolean", json_path = ".spec.realTime"),
    printcolumn(name = "Refresh", type_ = "string", json_path = ".spec.refreshPolicy.schedule.interval"),
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
    validation = Rule::new("self.databaseRef == oldSelf.databaseRef").message("databaseRef is immutable; delete the resource and create it anew (the aggregate stays)").field_path(".databaseRef"),
    validation = Rule::new("self.schema == oldSelf.schema").message("schema is immutable; delete the resource and create it anew (the aggregate stays)").field_path(".schema"),
    validation = Rule::new("self.name == oldSelf.name").message("name is immutable; delete the resource and create it anew (the aggregate stays)").field_path(".name")
)]
#[serde(rename_all = "camelCase")]
pub struct ContinuousAggregateSpec {
    /// The database the view is in.
    pub database_ref: DatabaseRef,
    /// Schema of the view, as PostgreSQL stores it (not quoted).
    #[serde(default = "default_schema")]
    #[schemars(length(min = 1, max = 63))]
    pub schema: String,
    /// Name of the view, as PostgreSQL stores it (not quoted).
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The query: one SELECT with `time_bucket` and GROUP BY. Unqualified names are looked up in `pg_catalog`, the extension's schema and `schema`, in this order.
    /// TimescaleDB cannot change it in place: a changed query is refused and the difference shown.
    #[schemars(length(min = 1, max = 65536))]
    pub query: String,
    /// Whether queries also see rows that are not materialised yet (`materialized_only = false`). Left out: not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub real_time: Option<bool>,
    /// The policy that refreshes the aggregate. Left out: not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_policy: Option<RefreshPolicy>,
    /// What becomes of the view when this resource is deleted.
    #[serde(default)]
    pub deletion_policy: AggregateDeletion,
}

fn default_schema() -> String {
    "public".to_owned()
}

/// The window that each run refreshes, relative to the run's time, and when it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefreshPolicy {
    /// Start of the window (`start_offset`). Must be shorter than any retention on the source. Left out: from the beginning, which is refused where the source has retention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_offset: Option<IntervalText>,
    /// End of the window (`end_offset`). Left out: up to the newest row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_offset: Option<IntervalText>,
    /// When the job runs. `interval` is needed.
    pub schedule: Schedule,
    /// Keeps the policy in the database and its job from running.
    #[serde(default)]
    pub paused: bool,
}

/// What becomes of a continuous aggregate when its resource is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AggregateDeletion {
    /// View, materialised data and refresh policy stay as they are, no longer managed.
    #[default]
    Retain,
    /// The view is dropped, with all that it materialised and with its policies.
    Delete,
}

/// What was seen of the aggregate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContinuousAggregateStatus {
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
    /// The refresh job in `timescaledb_information.jobs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<i32>,
}
