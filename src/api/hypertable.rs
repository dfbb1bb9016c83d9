//! `Hypertable`: a table is a hypertable.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{
    status::PendingPlan,
    types::{DatabaseRef, IntervalText, Nulls, Order},
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
    printcolumn(name = "Interval", type_ = "string", json_path = ".spec.chunkInterval"),
    printcolumn(name = "Chunks", type_ = "integer", json_path = ".status.chunks"),
    printcolumn(name = "Size", type_ = "string", json_path = ".status.size"),
    printcolumn(name = "Compressed", type_ = "string", json_path = ".status.compressed"),
    printcolumn(name = "Ratio", type_ = "string", json_path = ".status.compressionRatio"),
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
    validation = Rule::new("self.databaseRef == oldSelf.databaseRef").message("databaseRef is immutable; delete the resource and create it anew (the hypertable stays)").field_path(".databaseRef"),
    validation = Rule::new("self.schema == oldSelf.schema").message("schema is immutable; delete the resource and create it anew (the hypertable stays)").field_path(".schema"),
    validation = Rule::new("self.table == oldSelf.table").message("table is immutable; delete the resource and create it anew (the hypertable stays)").field_path(".table"),
    validation = Rule::new("self.timeColumn == oldSelf.timeColumn").message("timeColumn is immutable: TimescaleDB cannot change the time dimension of a hypertable").field_path(".timeColumn"),
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
    /// Column of the time dimension: `timestamptz`, `timestamp` or `date`.
    #[schemars(length(min = 1, max = 63))]
    pub time_column: String,
    /// Time range of one chunk (`set_chunk_time_interval`). A change holds for chunks made later. Left out: TimescaleDB's choice, not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_interval: Option<IntervalText>,
    /// Hash dimensions. A changed number of partitions holds for chunks made later; a dimension cannot be removed. Left out: not managed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["column".into()]))]
    #[schemars(length(max = 8))]
    pub space_partitions: Vec<SpacePartition>,
    /// Whether rows already in the table are moved into chunks. That locks the table until it is done; without it a table with rows is refused.
    #[serde(default)]
    pub migrate_data: bool,
    /// Indexes that must exist. They are built chunk by chunk, so writes go on. Others in the database are left alone.
    /// When at least one is listed, TimescaleDB's own default index on the time column is not created with the hypertable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 64))]
    pub indexes: Vec<Index>,
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

/// One index of the hypertable (`CREATE INDEX … WITH (timescaledb.transaction_per_chunk)`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Name of the index, in the schema of the table.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Key columns, in order.
    #[schemars(length(min = 1, max = 32))]
    pub columns: Vec<IndexColumn>,
    /// Columns stored in the index without being part of the key (`INCLUDE`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 31), inner(length(min = 1, max = 63)))]
    pub include: Vec<String>,
    /// Which rows are in the index: one boolean SQL expression over the table's columns (`WHERE`).
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub predicate: Option<String>,
}

/// One key column of an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IndexColumn {
    /// Name of the column.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Direction.
    #[serde(default)]
    pub order: Order,
    /// Where NULLs sort. Left out: last when ascending, first when descending, as PostgreSQL does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nulls: Option<Nulls>,
}

/// What was seen of the hypertable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HypertableStatus {
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
