//! `ContinuousAggregate`: a view that TimescaleDB keeps materialised.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    index::Index,
    status::{HealthStatus, JobStatus, PendingPlan},
    types::{DatabaseRef, Schedule, SpanText},
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
    printcolumn(name = "Paused", type_ = "boolean", json_path = ".spec.refreshPolicy.paused", priority = 1),
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
    validation = Rule::new("self.databaseRef == oldSelf.databaseRef").message("databaseRef is immutable; delete the resource and create it anew (the aggregate stays)").field_path(".databaseRef"),
    validation = Rule::new("self.schema == oldSelf.schema").message("schema is immutable; delete the resource and create it anew (the aggregate stays)").field_path(".schema"),
    validation = Rule::new("self.name == oldSelf.name").message("name is immutable; delete the resource and create it anew (the aggregate stays)").field_path(".name"),
    validation = Rule::new("has(self.createGroupIndexes) == has(oldSelf.createGroupIndexes) && (!has(self.createGroupIndexes) || self.createGroupIndexes == oldSelf.createGroupIndexes)").message("createGroupIndexes only works when the aggregate is created; list indexes instead").field_path(".createGroupIndexes")
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
    /// TimescaleDB cannot change it in place; see `onQueryChange`.
    #[schemars(length(min = 1, max = 65536))]
    pub query: String,
    /// What becomes of a changed query.
    #[serde(default)]
    pub on_query_change: QueryChange,
    /// Whether queries also see rows that are not materialised yet (`materialized_only = false`). Left out: not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub real_time: Option<bool>,
    /// Whether TimescaleDB makes an index on each column of GROUP BY when it creates the aggregate (`create_group_indexes`). Left out: TimescaleDB's choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_group_indexes: Option<bool>,
    /// Time range of one chunk of what is materialised (`set_chunk_time_interval`), over an integer time column a number of its units. A change holds for chunks made later. Left out: not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_interval: Option<SpanText>,
    /// Indexes that must exist on what is materialised, as for a hypertable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 64))]
    pub indexes: Vec<Index>,
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
    /// Start of the window (`start_offset`), over an integer time column a number of its units. Must be shorter than any retention on the source. Left out: from the beginning, which is refused where the source has retention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_offset: Option<SpanText>,
    /// End of the window (`end_offset`). Left out: up to the newest row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_offset: Option<SpanText>,
    /// Refresh tiered data too (`include_tiered_data`, TimescaleDB 2.18 and later). Left out: not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_tiered_data: Option<bool>,
    /// Buckets refreshed in one transaction (`buckets_per_batch`, TimescaleDB 2.19 and later); 0 means all at once. Left out: not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub buckets_per_batch: Option<i32>,
    /// Batches of one run (`max_batches_per_execution`, TimescaleDB 2.19 and later); 0 means all. Left out: not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_batches_per_execution: Option<i32>,
    /// Refresh the newest batches first (`refresh_newest_first`, TimescaleDB 2.20 and later). Left out: not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_newest_first: Option<bool>,
    /// When the job runs. `interval` is needed.
    pub schedule: Schedule,
    /// Keeps the policy in the database and its job from running.
    #[serde(default)]
    pub paused: bool,
}

/// What becomes of a query that differs from the one the aggregate was created with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum QueryChange {
    /// It is refused, and the difference shown.
    #[default]
    Refuse,
    /// A second aggregate is created beside the first and filled; then it takes the first one's name, comment, grants and policies in one transaction, and the first is dropped.
    /// Where the rows behind old buckets are gone, or other views read the aggregate, that needs approval or is refused.
    Rebuild,
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
    /// `Ready`; `JobHealthy` where there is a job; and while they hold `Reconciling`, `Stalled` or `Drifted`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// What would be done and is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PendingPlan>,
    /// Range of a chunk made now, as the live catalog has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_interval: Option<String>,
    /// The refresh job in `timescaledb_information.jobs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<i32>,
    /// What TimescaleDB's scheduler says of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobStatus>,
    /// How the aggregate does, in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthStatus>,
}
