//! `Hypertable`: a table is a hypertable.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{
    index::Index,
    status::{HealthStatus, JobStatus, PendingPlan},
    types::{DatabaseRef, Schedule, SpanText},
};

/// A table is a hypertable, with these dimensions and indexes. The table itself is the migrations' to create.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "timescaledb-policy.io",
    version = "v1alpha1",
    kind = "Hypertable",
    namespaced,
    status = "HypertableStatus",
    derive = "PartialEq",
    shortname = "ht",
    category = "timescaledb",
    selectable = ".spec.databaseRef.name",
    doc = "Hypertable says that an existing table is a TimescaleDB hypertable with these dimensions and indexes.",
    printcolumn(name = "Database", type_ = "string", json_path = ".spec.databaseRef.name"),
    printcolumn(name = "Table", type_ = "string", json_path = ".spec.table"),
    printcolumn(name = "Interval", type_ = "string", json_path = ".status.chunkInterval"),
    printcolumn(name = "Chunks", type_ = "integer", json_path = ".status.chunks"),
    printcolumn(name = "Size", type_ = "string", json_path = ".status.size"),
    printcolumn(name = "Compressed", type_ = "string", json_path = ".status.compressed"),
    printcolumn(name = "Ratio", type_ = "string", json_path = ".status.compressionRatio"),
    printcolumn(name = "Health", type_ = "string", json_path = ".status.health.word"),
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
    validation = Rule::new("self.databaseRef == oldSelf.databaseRef").message("databaseRef is immutable; delete the resource and create it anew (the hypertable stays)").field_path(".databaseRef"),
    validation = Rule::new("self.schema == oldSelf.schema").message("schema is immutable; delete the resource and create it anew (the hypertable stays)").field_path(".schema"),
    validation = Rule::new("self.table == oldSelf.table").message("table is immutable; delete the resource and create it anew (the hypertable stays)").field_path(".table"),
    validation = Rule::new("self.timeColumn == oldSelf.timeColumn").message("timeColumn is immutable: TimescaleDB cannot change the time dimension of a hypertable").field_path(".timeColumn"),
    validation = Rule::new("!has(self.chunkSkipping) || self.chunkSkipping.all(c, self.chunkSkipping.filter(d, d == c).size() == 1)").message("chunkSkipping names a column twice").field_path(".chunkSkipping"),
    validation = Rule::new("!has(self.tablespaces) || self.tablespaces.all(t, self.tablespaces.filter(u, u == t).size() == 1)").message("tablespaces names one twice").field_path(".tablespaces"),
    validation = Rule::new("!has(self.spacePartitions) || self.spacePartitions.all(p, p.column != self.timeColumn)").message("spacePartitions must not name the time column").field_path(".spacePartitions")
)]
#[serde(rename_all = "camelCase")]
pub struct HypertableSpec {
    /// The database the table is in.
    pub database_ref: DatabaseRef,
    /// Schema of the table, as PostgreSQL stores it (not quoted).
    #[serde(default = "default_schema")]
    #[schemars(length(min = 1, max = 63))]
    pub schema: String,
    /// Name of the table, as PostgreSQL stores it (not quoted).
    #[schemars(length(min = 1, max = 63))]
    pub table: String,
    /// Column of the time dimension: `timestamptz`, `timestamp`, `date`, or an integer (`smallint`, `integer`, `bigint`).
    #[schemars(length(min = 1, max = 63))]
    pub time_column: String,
    /// Time range of one chunk (`set_chunk_time_interval`), for an integer time column a number of its units. A change holds for chunks made later.
    /// Left out: the `TimescaleDatabase`'s `defaults.chunkInterval`; without one TimescaleDB's choice, not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_interval: Option<SpanText>,
    /// For an integer time column: the function that says what time it is now in its units (`set_integer_now_func`), as `schema.function`, without arguments and `STABLE`.
    /// Policies need it. Left out: not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 260))]
    pub integer_now_function: Option<String>,
    /// Hash dimensions. A changed number of partitions holds for chunks made later; a dimension cannot be removed. Left out: not managed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["column".into()]))]
    #[schemars(length(max = 8))]
    pub space_partitions: Vec<SpacePartition>,
    /// Whether rows already in the table are moved into chunks. That locks the table until it is done; without it a table with rows is refused.
    #[serde(default)]
    pub migrate_data: bool,
    /// Columns with chunk skipping (`enable_chunk_skipping`, TimescaleDB 2.16 and later): queries that filter on them leave out compressed chunks by their smallest and largest value.
    /// It is disabled for columns that are not listed. Left out: not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 63)))]
    pub chunk_skipping: Option<Vec<String>>,
    /// Tablespaces that new chunks are spread over (`attach_tablespace`). Those that are not listed are detached; chunks stay where they are. Left out: not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    pub tablespaces: Option<Vec<String>>,
    /// Indexes that must exist. They are built chunk by chunk, so writes go on, save unique ones. One that is taken off the list, or whose definition
    /// changes, is dropped or replaced only if this resource made it (its comment in the database says so). Others in the database are left alone.
    /// When at least one is listed, TimescaleDB's own default index on the time column is not created with the hypertable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 64))]
    pub indexes: Vec<Index>,
    /// The policy that reorders chunks by an index. Left out: not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reorder: Option<Reorder>,
}

fn default_schema() -> String {
    "public".to_owned()
}

/// One hash dimension (`by_hash`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SpacePartition {
    /// The column whose hash chooses the partition.
    #[schemars(length(min = 1, max = 63))]
    pub column: String,
    /// Number of partitions (`set_number_partitions`).
    #[schemars(range(min = 1, max = 32767))]
    pub partitions: i32,
}

/// The policy that reorders chunks by an index (`add_reorder_policy`): each chunk once, when two newer ones exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reorder {
    /// Name of the index whose order the rows are put in.
    #[schemars(length(min = 1, max = 63))]
    pub index: String,
    /// When the job runs.
    #[serde(default)]
    pub schedule: Schedule,
    /// Keeps the policy in the database and its job from running.
    #[serde(default)]
    pub paused: bool,
}

/// What was seen of the hypertable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HypertableStatus {
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
    /// The reorder job in `timescaledb_information.jobs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reorder_job_id: Option<i32>,
    /// What TimescaleDB's scheduler says of the job that reorders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobStatus>,
    /// How the hypertable does, in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthStatus>,
    /// Chunks of the hypertable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks: Option<i64>,
    /// Size on disk with indexes and compressed data, rounded, in binary units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Share of the chunks that are compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compressed: Option<String>,
    /// Size of the compressed chunks before compression, over their size after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression_ratio: Option<String>,
}
