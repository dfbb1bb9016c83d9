//! What is read of a database only for the check, beside its catalog and statistics (`sql/check/`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::rule::Rule;
use crate::{
    api::types::{Relation, SqlName},
    catalog::ExtensionVersion,
};

/// Tables with fewer rows are not looked at.
pub const LEAST_ROWS: i64 = 10_000;

/// What was read.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The server.
    pub server: ServerFacts,
    /// What the role may do. Empty where the database has no TimescaleDB.
    pub privileges: Privileges,
    /// By the name that applications use: hypertables by table, continuous aggregates by view.
    pub hypertables: BTreeMap<Relation, HypertableFacts>,
    /// Indexes of hypertables and continuous aggregates.
    pub indexes: BTreeMap<(Relation, SqlName), IndexUsage>,
    /// Ordinary tables with a column of time and at least [`LEAST_ROWS`] rows.
    pub tables: BTreeMap<Relation, TableFacts>,
    /// What could not be read, and why.
    pub unread: BTreeMap<Part, String>,
}

/// What is read at once: where that fails, the rules that go by it are not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `sql/statistics/`
    Statistics,
    /// `sql/check/privileges.sql`
    Privileges,
    /// `sql/check/hypertables.sql`
    Hypertables,
    /// Indexes with the catalog, and `sql/check/index_usage.sql`
    Indexes,
    /// `sql/check/tables.sql`, and what is asked about the tables in it
    Tables,
}

impl Part {
    /// The rules that go by it.
    pub const fn rules(self) -> &'static [Rule] {
        match self {
            Self::Statistics => &[
                Rule::SchedulerNotRunning,
                Rule::TooFewBackgroundWorkers,
                Rule::TooFewWorkerProcesses,
                Rule::NoCompression,
                Rule::CompressionBacklog,
                Rule::RetentionBacklog,
                Rule::AggregateNeverRefreshed,
                Rule::AggregateBehind,
                Rule::TooManyChunks,
                Rule::ChunksTooSmall,
                Rule::ChunksTooLarge,
                Rule::MissingIndex,
            ],
            Self::Privileges => &[Rule::RoleNotOwner, Rule::RoleLacksPrivilege, Rule::OwnerWithoutLogin],
            Self::Hypertables => {
                &[Rule::SegmentByTooFine, Rule::SegmentBySingleValue, Rule::MissingIndex, Rule::ForeignKeyWithoutIndex]
            }
            Self::Indexes => &[Rule::IndexInvalid, Rule::IndexDuplicate, Rule::IndexRedundant, Rule::IndexUnused],
            Self::Tables => &[Rule::ShouldBeHypertable, Rule::ConversionBlocked],
        }
    }
}

/// The server, as far as a database depends on it.
#[derive(Clone, Debug, Deserialize)]
pub struct ServerFacts {
    /// The server's time.
    pub now: Timestamp,
    /// Name of the database.
    pub database: String,
    /// The role whose privileges are judged.
    pub role: String,
    /// It is a standby: no job runs there.
    pub in_recovery: bool,
    /// The version that `ALTER EXTENSION timescaledb UPDATE` would lead to.
    pub available_version: Option<ExtensionVersion>,
    /// `max_worker_processes`
    pub max_worker_processes: i64,
    /// `max_parallel_workers`
    pub max_parallel_workers: i64,
    /// `shared_buffers`, in bytes.
    pub shared_buffers: i64,
    /// Databases for which a TimescaleDB scheduler runs.
    pub schedulers: i64,
    /// Since when the server counts scans, at least. Absent where that is not known.
    pub counted_since: Option<Timestamp>,
    /// The role may connect to the database.
    pub can_connect: bool,
    /// The role may make temporary objects.
    pub can_make_temporary: bool,
}

/// What a role may do with what TimescaleDB manages.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Privileges {
    /// Who owns hypertables and continuous aggregates, one entry for each schema.
    pub owners: Vec<Owner>,
    /// The schemas that these are in.
    pub schemas: Vec<SchemaPrivilege>,
}

/// The owner of relations in one schema.
#[derive(Clone, Debug, Deserialize)]
pub struct Owner {
    /// The owner.
    pub role: String,
    /// The role that is judged can act as it.
    pub member: bool,
    /// It may log in.
    pub login: bool,
    /// The schema.
    pub schema: SqlName,
    /// How many hypertables and aggregates it owns there.
    pub relations: i64,
}

/// Whether the role can create in a schema.
#[derive(Clone, Debug, Deserialize)]
pub struct SchemaPrivilege {
    /// The schema.
    pub schema: SqlName,
    /// CREATE and USAGE.
    pub create: bool,
}

/// One hypertable or continuous aggregate.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct HypertableFacts {
    /// The session may read it, and so what ANALYZE has found.
    pub readable: bool,
    /// Sequential scans of its chunks.
    pub sequential_scans: i64,
    /// Rows that these have read.
    pub sequential_rows: i64,
    /// Index scans of its chunks.
    pub index_scans: i64,
    /// Rows that were compressed with the settings of today.
    pub compressed_rows: i64,
    /// Batches that they were put into, each of one segment and at most 1000 rows.
    pub batches: i64,
    /// The newest chunks that ANALYZE has seen with rows in them, newest first.
    pub samples: Vec<Sample>,
    /// Foreign keys that no index serves.
    pub foreign_keys: Vec<ForeignKey>,
}

/// What ANALYZE has found in a chunk.
#[derive(Clone, Debug, Deserialize)]
pub struct Sample {
    /// Rows of the chunk.
    pub rows: i64,
    /// Columns that compression segments by.
    pub columns: BTreeMap<SqlName, SampledColumn>,
}

/// What ANALYZE has found in a column of a chunk.
#[derive(Clone, Debug, Deserialize)]
pub struct SampledColumn {
    /// Different values.
    pub distinct: i64,
    /// The digest of the value where there is one only.
    pub only: Option<String>,
}

/// A foreign key.
#[derive(Clone, Debug, Deserialize)]
pub struct ForeignKey {
    /// Name of the constraint.
    pub name: SqlName,
    /// Its columns.
    pub columns: Vec<SqlName>,
    /// The table that it refers to, quoted where needed.
    pub references: String,
}

/// One index, over all chunks.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct IndexUsage {
    /// Scans since [`ServerFacts::counted_since`].
    pub scans: i64,
    /// Size on disk.
    pub bytes: i64,
}

/// An ordinary table.
#[derive(Clone, Debug, Deserialize)]
pub struct TableFacts {
    /// The session may read it, and so what ANALYZE has found.
    pub readable: bool,
    /// Rows, as estimated by VACUUM and ANALYZE.
    pub rows: i64,
    /// Size on disk with indexes.
    pub bytes: i64,
    /// Rows inserted since the server counts.
    pub inserted: i64,
    /// Rows updated.
    pub updated: i64,
    /// Rows deleted.
    pub deleted: i64,
    /// Columns of type `timestamptz`, `timestamp` or `date`, in the order of the table.
    pub time_columns: Vec<TimeColumn>,
}

/// A column of time.
#[derive(Clone, Debug, Deserialize)]
pub struct TimeColumn {
    /// The column.
    pub column: SqlName,
    /// `NOT NULL`
    pub not_null: bool,
    /// `pg_stats.correlation`: 1 where the rows lie on disk in the order of the column. Absent before ANALYZE.
    pub correlation: Option<f64>,
}
