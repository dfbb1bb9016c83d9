//! The observed database as plain data.
//!
//! A [`Catalog`] is one snapshot of what TimescaleDB's catalog says, read by a fixed number of queries
//! ([`crate::db`], `sql/catalog/`). What only some plans need, and only while something is about to change, is not part
//! of the snapshot: the planner asks for it as a [`Question`] and is given [`Answers`].

pub mod history;
pub mod statistics;
mod tables;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use statistics::JobStatistics;
pub use tables::{Catalogued, Jobs, Tables};

use crate::api::{
    compression_policy::SparseIndexKind,
    status::Reason,
    types::{Interval, Nulls, Order, Relation, Span, SqlName},
};

/// One snapshot of a database.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    /// The server and the extension.
    pub server: Server,
    /// Every hypertable that an application can see, that is without those behind continuous aggregates.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hypertables: Tables<Hypertable>,
    /// Every continuous aggregate.
    #[serde(default, skip_serializing_if = "is_default")]
    pub aggregates: Tables<Aggregate>,
    /// Every policy job, in the order of their ids.
    #[serde(default, skip_serializing_if = "is_default")]
    pub jobs: Jobs,
}

impl Catalog {
    /// The job of this kind for the hypertable with this id. TimescaleDB allows several refresh policies on one
    /// aggregate from 2.21 on; the one with the lowest id counts.
    pub fn job(&self, kind: PolicyKind, hypertable_id: i32) -> Option<&Job> {
        self.jobs.of(hypertable_id).find(|job| job.policy.kind() == kind)
    }

    /// The hypertable that the policies of a relation are on: itself, or the one behind an aggregate.
    pub fn host(&self, relation: &Relation) -> Option<&Hypertable> {
        self.hypertables.get(relation).or_else(|| self.aggregates.get(relation).map(|a| &a.hypertable))
    }

    /// The same, to be changed.
    pub fn host_mut(&mut self, relation: &Relation) -> Option<&mut Hypertable> {
        match self.hypertables.get_mut(relation) {
            Some(hypertable) => Some(hypertable),
            None => self.aggregates.get_mut(relation).map(|a| &mut a.hypertable),
        }
    }

    /// What people call the hypertable with this id: its own name, or that of the aggregate it is behind.
    pub fn name_of(&self, hypertable_id: i32) -> Option<&Relation> {
        self.hypertables.name_of(hypertable_id).or_else(|| self.aggregates.name_of(hypertable_id))
    }

    /// The aggregates that read the hypertable with this id.
    pub fn readers(&self, hypertable_id: i32) -> impl Iterator<Item = (&Relation, &Aggregate)> {
        self.aggregates.readers(hypertable_id)
    }
}

/// The server a database is on, and the extension in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// `server_version_num`, for example 170005.
    pub version_num: i32,
    /// The extension `timescaledb`, where it is installed in this database.
    pub extension: Option<Extension>,
    /// `timescaledb.license`: `timescale` or `apache`. Absent without the extension, and where its library is not loaded.
    #[serde(default)]
    pub license: Option<String>,
    /// The server is in recovery, or the session can only read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// `timescaledb.restoring` is on: the database is being restored and must not be touched.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restoring: bool,
    /// Where the monitoring views are installed (`sql/monitoring`), by the operator or by hand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub monitoring: Vec<MonitoringSchema>,
}

/// A schema that holds the monitoring views, which its comment says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitoringSchema {
    /// Name of the schema.
    pub schema: SqlName,
    /// Version of the views. 0 where the comment does not say one.
    pub version: u32,
    /// They are as they were installed.
    pub intact: bool,
}

impl Server {
    /// The version as people write it: `17.5`.
    pub fn postgres_version(&self) -> String {
        format!("{}.{}", self.version_num / 10_000, self.version_num % 10_000)
    }
}

/// The installed extension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Version, for example `2.23.1`.
    pub version: ExtensionVersion,
    /// The schema that TimescaleDB's functions are in.
    pub schema: SqlName,
}

/// A version of the extension. Ordered by its numbers; a suffix such as `-dev` does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtensionVersion {
    numbers: [u32; 3],
    text: String,
}

impl ExtensionVersion {
    /// At least `major.minor`.
    pub fn at_least(&self, major: u32, minor: u32) -> bool {
        (self.numbers[0], self.numbers[1]) >= (major, minor)
    }

    /// At least `major.minor.patch`.
    pub fn at_least_patch(&self, major: u32, minor: u32, patch: u32) -> bool {
        self.numbers >= [major, minor, patch]
    }

    /// Its numbers are lower than those of the other.
    pub fn is_older_than(&self, other: &Self) -> bool {
        self.numbers < other.numbers
    }
}

impl fmt::Display for ExtensionVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for ExtensionVersion {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for ExtensionVersion {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut numbers = [0; 3];
        let plain = text.split('-').next().unwrap_or_default();
        for (slot, part) in numbers.iter_mut().zip(plain.split('.')) {
            *slot = part.parse().map_err(serde::de::Error::custom)?;
        }
        Ok(Self { numbers, text })
    }
}

/// One hypertable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hypertable {
    /// `_timescaledb_catalog.hypertable.id`.
    pub id: i32,
    /// The role that owns it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Dimensions in the order they were made; the first is the time dimension.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dimensions: Vec<Dimension>,
    /// The function that says what time it is now, of an integer time dimension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integer_now: Option<Relation>,
    /// Range that compressed chunks are merged up to (`compress_chunk_time_interval`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge_interval: Option<Span>,
    /// Tablespaces that new chunks are spread over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tablespaces: Vec<SqlName>,
    /// Columns with chunk skipping.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub chunk_skipping: BTreeSet<SqlName>,
    /// The columnstore settings, where compression is enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columnstore: Option<Columnstore>,
    /// Indexes of the hypertable; read only where a resource says something about them, and where this operator made one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub indexes: BTreeMap<SqlName, Index>,
}

impl Hypertable {
    /// The time dimension.
    pub fn time(&self) -> Option<&Dimension> {
        self.dimensions.first()
    }

    /// Range of one chunk.
    pub fn chunk_interval(&self) -> Option<Span> {
        match self.time()?.partitioning {
            Partitioning::Range(interval) => Some(Span::Time(interval)),
            Partitioning::IntegerRange(units) => Some(Span::Integer(units)),
            Partitioning::Hash(_) => None,
        }
    }
}

/// One dimension of a hypertable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dimension {
    /// The column.
    pub column: SqlName,
    /// Type of the column, as `format_type` has it.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// What its values are split by.
    pub partitioning: Partitioning,
}

/// The integer types that a time column can have. TimescaleDB wants the offsets of a refresh policy in exactly that type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntegerType {
    /// `smallint`
    Smallint,
    /// `integer`
    Integer,
    /// `bigint`
    Bigint,
}

impl IntegerType {
    /// As SQL has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Smallint => "smallint",
            Self::Integer => "integer",
            Self::Bigint => "bigint",
        }
    }
}

impl Dimension {
    /// The type of an integer column; of a column whose type is not known the widest.
    pub fn integer_type(&self) -> IntegerType {
        match self.type_.as_deref() {
            Some("smallint") => IntegerType::Smallint,
            Some("integer") => IntegerType::Integer,
            _ => IntegerType::Bigint,
        }
    }
}

/// How a dimension splits the rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Partitioning {
    /// Ranges of time.
    Range(Interval),
    /// Ranges of an integer column, this many units each.
    IntegerRange(i64),
    /// Hash partitions, this many.
    Hash(i32),
}

impl fmt::Display for Partitioning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(interval) => write!(f, "ranges of {interval}"),
            Self::IntegerRange(units) => write!(f, "ranges of {units}"),
            Self::Hash(partitions) => write!(f, "{partitions} hash partitions"),
        }
    }
}

/// Columnstore (compression) settings for chunks compressed from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Columnstore {
    /// `None`: TimescaleDB chooses when it compresses. Empty: explicitly none.
    #[serde(default)]
    pub segment_by: Option<Vec<SqlName>>,
    /// `None`: TimescaleDB chooses when it compresses.
    #[serde(default)]
    pub order_by: Option<Vec<SortColumn>>,
    /// Sparse indexes that somebody asked for, without those that TimescaleDB adds itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparse_indexes: Option<BTreeSet<SparseIndex>>,
}

/// One sparse index over the batches of compressed chunks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SparseIndex {
    /// What is kept of each batch.
    pub kind: SparseIndexKind,
    /// The columns. Their order means nothing: TimescaleDB keeps them in the order of the table.
    pub columns: BTreeSet<SqlName>,
}

/// For messages: `Bloom (a, b)`.
impl fmt::Display for SparseIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<_> = self.columns.iter().map(SqlName::as_str).collect();
        write!(f, "{:?} ({})", self.kind, columns.join(", "))
    }
}

/// A column with its direction, as in ORDER BY.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SortColumn {
    /// The column.
    pub column: SqlName,
    /// Descending.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub descending: bool,
    /// NULLs before values.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nulls_first: bool,
}

impl SortColumn {
    /// A column with PostgreSQL's rule for NULLs where none is given: first when descending, last when ascending.
    pub fn new(column: SqlName, order: Order, nulls: Option<Nulls>) -> Self {
        let descending = order == Order::Desc;
        let nulls_first = nulls.map_or(descending, |n| n == Nulls::First);
        Self { column, descending, nulls_first }
    }
}

/// For messages: `ts DESC`, with NULLS only where it is not PostgreSQL's default.
impl fmt::Display for SortColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&describe_key(self.column.as_str(), self.descending, self.nulls_first))
    }
}

/// One index of a hypertable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Access method, for example `btree`.
    #[serde(default = "btree")]
    pub method: String,
    /// Key columns; an expression stands as the server prints it.
    pub columns: Vec<IndexKey>,
    /// Columns that are stored only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// The predicate as the server prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicate: Option<String>,
    /// A unique index or the index of a constraint.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unique: bool,
    /// It belongs to a constraint, and cannot be dropped alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub constraint: bool,
    /// Its comment. One that begins with [`crate::api::MADE_BY`] says which resource the index was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// `indisvalid`: false while it is being built chunk by chunk, and after that was cut off.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub valid: bool,
}

fn btree() -> String {
    "btree".to_owned()
}

const fn yes() -> bool {
    true
}

/// One key column of an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexKey {
    /// Name of the column, or the expression as the server prints it.
    pub column: String,
    /// Descending.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub descending: bool,
    /// NULLs before values.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nulls_first: bool,
    /// The operator class, where it is not the default one of the type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opclass: Option<String>,
    /// The collation, where it is not the column's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collation: Option<String>,
}

/// For messages: the definition in the words of CREATE INDEX.
impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<_> =
            self.columns.iter().map(|c| describe_key(&described(c), c.descending, c.nulls_first)).collect();
        write!(f, "{}{} ({})", if self.unique { "UNIQUE " } else { "" }, self.method, columns.join(", "))?;
        if !self.include.is_empty() {
            write!(f, " INCLUDE ({})", self.include.join(", "))?;
        }
        if let Some(predicate) = &self.predicate {
            write!(f, " WHERE {predicate}")?;
        }
        Ok(())
    }
}

fn described(key: &IndexKey) -> String {
    let collation = key.collation.as_ref().map(|name| format!(" COLLATE {name}")).unwrap_or_default();
    let opclass = key.opclass.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    format!("{}{collation}{opclass}", key.column)
}

fn describe_key(column: &str, descending: bool, nulls_first: bool) -> String {
    let nulls = match (nulls_first, descending) {
        (true, false) => " NULLS FIRST",
        (false, true) => " NULLS LAST",
        _ => "",
    };
    format!("{column}{}{nulls}", if descending { " DESC" } else { "" })
}

/// One continuous aggregate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Aggregate {
    /// The hypertable behind it; its jobs name this one.
    #[serde(flatten)]
    pub hypertable: Hypertable,
    /// Name of the hypertable behind it; its indexes are in the same schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub materialization: Option<Relation>,
    /// The hypertable it reads (for an aggregate on an aggregate: the one behind the parent).
    pub source_id: i32,
    /// Queries see only what is materialised.
    pub materialized_only: bool,
    /// Changes whenever the stored query changes.
    pub fingerprint: String,
    /// Width of a bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<Span>,
    /// Comment of the view. One that begins with [`crate::api::MADE_BY`] marks an aggregate that is being built to replace another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// The kinds of policy that this operator manages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyKind {
    /// `policy_compression`
    Compression,
    /// `policy_retention`
    Retention,
    /// `policy_refresh_continuous_aggregate`
    Refresh,
    /// `policy_reorder`
    Reorder,
}

impl PolicyKind {
    /// The procedure that the job calls, in schema `_timescaledb_functions`.
    pub const fn procedure(self) -> &'static str {
        match self {
            Self::Compression => "policy_compression",
            Self::Retention => "policy_retention",
            Self::Refresh => "policy_refresh_continuous_aggregate",
            Self::Reorder => "policy_reorder",
        }
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compression => "compression policy",
            Self::Retention => "retention policy",
            Self::Refresh => "refresh policy",
            Self::Reorder => "reorder policy",
        })
    }
}

/// How a policy tells which chunks are old enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Age {
    /// All of the chunk's range is older (`compress_after`, `drop_after`).
    OlderThan(Span),
    /// The chunk was created longer ago (`compress_created_before`, `drop_created_before`).
    CreatedBefore(Interval),
}

/// Ages of two measures cannot be compared.
impl PartialOrd for Age {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        match (self, other) {
            (Self::OlderThan(a), Self::OlderThan(b)) => a.partial_cmp(b),
            (Self::CreatedBefore(a), Self::CreatedBefore(b)) => a.partial_cmp(b),
            _ => None,
        }
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OlderThan(span) => span.fmt(f),
            Self::CreatedBefore(interval) => write!(f, "{interval} since creation"),
        }
    }
}

/// How a refresh is carried out. `None`: not given, or not managed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshOptions {
    /// `include_tiered_data`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_tiered_data: Option<bool>,
    /// `buckets_per_batch`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buckets_per_batch: Option<i32>,
    /// `max_batches_per_execution`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_batches_per_execution: Option<i32>,
    /// `refresh_newest_first`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_newest_first: Option<bool>,
}

impl RefreshOptions {
    /// These options, and those of `live` where these say nothing.
    #[must_use]
    pub fn over(self, live: Self) -> Self {
        Self {
            include_tiered_data: self.include_tiered_data.or(live.include_tiered_data),
            buckets_per_batch: self.buckets_per_batch.or(live.buckets_per_batch),
            max_batches_per_execution: self.max_batches_per_execution.or(live.max_batches_per_execution),
            refresh_newest_first: self.refresh_newest_first.or(live.refresh_newest_first),
        }
    }
}

impl fmt::Display for RefreshOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { include_tiered_data, buckets_per_batch, max_batches_per_execution, refresh_newest_first } = self;
        let mut option = |name: &str, value: Option<String>| match value {
            Some(value) => write!(f, ", {name} {value}"),
            None => Ok(()),
        };
        option("include tiered data", include_tiered_data.map(|v| v.to_string()))?;
        option("buckets per batch", buckets_per_batch.map(|v| v.to_string()))?;
        option("max batches per execution", max_batches_per_execution.map(|v| v.to_string()))?;
        option("refresh newest first", refresh_newest_first.map(|v| v.to_string()))
    }
}

/// What a policy works on: the part of a job's `config` that a resource speaks of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Compresses chunks from this age on. `None`: the live job's config holds none that can be read.
    Compression {
        /// Age from which chunks are compressed.
        after: Option<Age>,
    },
    /// Drops chunks from this age on. `None`: the live job's config holds none that can be read.
    Retention {
        /// Age from which chunks are dropped.
        after: Option<Age>,
    },
    /// Refreshes the window between the two offsets. `None`: without limit on that side.
    Refresh {
        /// Start of the window.
        start_offset: Option<Span>,
        /// End of the window.
        end_offset: Option<Span>,
        /// How.
        #[serde(default, flatten)]
        options: RefreshOptions,
    },
    /// Reorders chunks by an index.
    Reorder {
        /// Name of the index; `None`: the live job's config holds none.
        index: Option<SqlName>,
    },
}

impl Policy {
    /// The kind of the policy.
    pub const fn kind(&self) -> PolicyKind {
        match self {
            Self::Compression { .. } => PolicyKind::Compression,
            Self::Retention { .. } => PolicyKind::Retention,
            Self::Refresh { .. } => PolicyKind::Refresh,
            Self::Reorder { .. } => PolicyKind::Reorder,
        }
    }

    /// This policy, with the live one's options where it says nothing of them.
    #[must_use]
    pub fn over(&self, live: &Self) -> Self {
        match (self, live) {
            (Self::Refresh { start_offset, end_offset, options }, Self::Refresh { options: found, .. }) => {
                Self::Refresh { start_offset: *start_offset, end_offset: *end_offset, options: options.over(*found) }
            }
            _ => self.clone(),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let age =
            |after: &Option<Age>| after.map_or_else(|| "an age that cannot be read".to_owned(), |a| a.to_string());
        let offset = |o: &Option<Span>, none: &str| o.map_or_else(|| none.to_owned(), |span| span.to_string());
        match self {
            Self::Compression { after } => write!(f, "compress after {}", age(after)),
            Self::Retention { after } => write!(f, "drop after {}", age(after)),
            Self::Refresh { start_offset, end_offset, options } => {
                let (start, end) = (offset(start_offset, "the beginning"), offset(end_offset, "nothing"));
                write!(f, "refresh from {start} to {end} ago{options}")
            }
            Self::Reorder { index } => {
                write!(f, "reorder by {}", index.as_ref().map_or("no index", SqlName::as_str))
            }
        }
    }
}

/// One policy job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// `job_id`.
    pub id: i32,
    /// The hypertable it works on; for an aggregate's job the one behind the aggregate.
    pub hypertable_id: i32,
    /// What it does.
    pub policy: Policy,
    /// The role that it runs as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The hypertable that its config names: another one than `hypertable_id` when somebody has changed that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_hypertable_id: Option<i32>,
    /// Keys of its config that hold something that cannot be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
    /// `schedule_interval`
    pub schedule_interval: Interval,
    /// `max_runtime`; zero means without limit.
    pub max_runtime: Interval,
    /// `max_retries`; -1 means without end.
    pub max_retries: i32,
    /// `retry_period`
    pub retry_period: Interval,
    /// The scheduler runs it.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub scheduled: bool,
    /// TimescaleDB took it off the schedule itself after it had failed more often than `max_retries` allows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gave_up: bool,
    /// Runs are aligned to `initial_start`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fixed_schedule: bool,
    /// `initial_start`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_start: Option<Timestamp>,
    /// `timezone`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// What the scheduler remembers of it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub statistics: JobStatistics,
}

impl Job {
    /// Whether the policy is meant to act. One that TimescaleDB took off the schedule itself is; one that somebody paused is
    /// not.
    pub const fn is_in_force(&self) -> bool {
        self.scheduled || self.gave_up
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What the planner needs to know beyond the snapshot before it can decide.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// What is the relation that is not a hypertable yet?
    Table(Relation),
    /// How does the server read this query, and how the one that the aggregate was created with?
    Definition {
        /// The aggregate.
        aggregate: Relation,
        /// The query as the resource has it.
        query: String,
        /// [`Aggregate::fingerprint`] of the live aggregate, so that an answer lives as long as the view it compares with.
        fingerprint: Option<String>,
    },
    /// How does the server print this predicate of an index on the relation?
    Predicate {
        /// The indexed table.
        relation: Relation,
        /// The predicate as the resource has it.
        text: String,
    },
    /// What would a retention policy with this age drop now?
    Drops {
        /// The hypertable or the aggregate.
        relation: Relation,
        /// How the age is measured.
        measure: Measure,
        /// The age, as text.
        age: String,
    },
    /// What would a refresh of the aggregate erase?
    History {
        /// The aggregate.
        aggregate: Relation,
        /// `start_offset`, as text; `None`: from the beginning.
        start_offset: Option<String>,
    },
    /// What hangs on the aggregate that a rebuilt one must take over, or that stands in the way?
    Attachments(Relation),
}

/// How the age of a chunk is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// By the time in its rows.
    Time,
    /// By the integers in its rows.
    Integer,
    /// By the time of its creation.
    Creation,
}

impl Measure {
    /// As the query knows it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Integer => "integer",
            Self::Creation => "created",
        }
    }
}

impl Age {
    /// How the age is measured.
    pub const fn measure(self) -> Measure {
        match self {
            Self::OlderThan(Span::Time(_)) => Measure::Time,
            Self::OlderThan(Span::Integer(_)) => Measure::Integer,
            Self::CreatedBefore(_) => Measure::Creation,
        }
    }

    /// The age alone, as text.
    pub fn length(self) -> String {
        match self {
            Self::OlderThan(span) => span.to_string(),
            Self::CreatedBefore(interval) => interval.to_string(),
        }
    }
}

impl Question {
    /// What a retention policy with this age would drop.
    pub fn drops(relation: &Relation, age: Age) -> Self {
        Self::Drops { relation: relation.clone(), measure: age.measure(), age: age.length() }
    }

    /// Whether the answer depends on the question alone, so that it can be kept from one pass to the next.
    pub const fn is_lasting(&self) -> bool {
        matches!(self, Self::Definition { .. } | Self::Predicate { .. })
    }
}

/// The answer to one [`Question`].
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To [`Question::Table`]; `None` where there is no such relation.
    Table(Option<Table>),
    /// To [`Question::Definition`].
    Definition(Result<Definition, TextError>),
    /// To [`Question::Predicate`]: the predicate as the server prints it.
    Predicate(Result<String, TextError>),
    /// To [`Question::Drops`].
    Drops(Result<Drops, TextError>),
    /// To [`Question::History`].
    History(Result<Option<Loss>, TextError>),
    /// To [`Question::Attachments`].
    Attachments(Result<Attachments, TextError>),
}

impl Answer {
    /// Whether the answer is worth keeping: a text that the server does not take may be taken later, when what it names
    /// has come into being.
    pub const fn is_lasting(&self) -> bool {
        matches!(self, Self::Definition(Ok(_)) | Self::Predicate(Ok(_)))
    }
}

/// The answers at hand.
pub type Answers = BTreeMap<Question, Answer>;

/// Why the server does not take an SQL text from a resource, or does not answer a question about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextError {
    /// What kind of reason: `InvalidSpec`, `TableNotFound`, `PermissionDenied`, or one that passes.
    pub reason: Reason,
    /// The server's message.
    pub message: String,
}

/// How the server reads a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The resource's query, as the server prints it.
    pub wanted: String,
    /// The live aggregate's query, as the server prints it; absent without a live aggregate.
    pub live: Option<String>,
    /// The relations the resource's query reads.
    pub sources: Vec<Relation>,
    /// Volatile functions that the resource's query calls.
    pub volatile: Vec<String>,
}

/// What hangs on an aggregate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachments {
    /// The role that owns it.
    pub owner: String,
    /// Its comment.
    #[serde(default)]
    pub comment: Option<String>,
    /// Privileges that others hold on it.
    #[serde(default)]
    pub grants: Vec<Grant>,
    /// What reads it and would go on reading the one that is replaced: views, functions, privileges on single columns.
    #[serde(default)]
    pub dependents: Vec<String>,
}

/// One privilege on an aggregate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Grant {
    /// The role; `None`: everybody (`PUBLIC`).
    pub grantee: Option<SqlName>,
    /// For example `SELECT`.
    pub privilege: Privilege,
    /// The role may pass it on.
    #[serde(default)]
    pub grantable: bool,
}

/// A privilege on a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "PostgreSQL's own words")]
pub enum Privilege {
    Select,
    Insert,
    Update,
    Delete,
    Truncate,
    References,
    Trigger,
    Maintain,
}

impl Privilege {
    /// As GRANT has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Truncate => "TRUNCATE",
            Self::References => "REFERENCES",
            Self::Trigger => "TRIGGER",
            Self::Maintain => "MAINTAIN",
        }
    }
}

/// A relation that is not a hypertable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// What it is.
    pub kind: RelationKind,
    /// Another session holds it locked: nothing can be read of it without waiting.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub locked: bool,
    /// Size of its rows on disk; zero only when it has never held any since it was created or truncated.
    #[serde(default)]
    pub bytes: i64,
    /// What else keeps TimescaleDB from converting it, in words: a rule, inheritance, a foreign key that refers to it.
    #[serde(default)]
    pub obstacles: Vec<String>,
    /// Its columns with their types.
    pub columns: BTreeMap<SqlName, String>,
    /// Names of its indexes.
    #[serde(default)]
    pub indexes: BTreeSet<SqlName>,
    /// Unique indexes and primary keys: name and key columns.
    #[serde(default)]
    pub unique_indexes: BTreeMap<SqlName, Vec<String>>,
}

/// `pg_class.relkind`, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelationKind {
    /// An ordinary table.
    Table,
    /// A table partitioned by PostgreSQL itself.
    PartitionedTable,
    /// A view, plain or materialized.
    View,
    /// Anything else.
    Other,
}

/// What a retention policy would drop if it ran now.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Drops {
    /// Chunks that would be dropped.
    pub chunks: i64,
    /// Chunks of the hypertable.
    pub of: i64,
    /// Estimated rows in them.
    #[serde(default)]
    pub rows: i64,
    /// Bytes on disk they free.
    #[serde(default)]
    pub bytes: i64,
    /// Start of the oldest one.
    #[serde(default)]
    pub oldest: Option<Timestamp>,
    /// End of the newest one.
    #[serde(default)]
    pub newest: Option<Timestamp>,
    /// Start of the oldest one by integers.
    #[serde(default)]
    pub oldest_integer: Option<i64>,
    /// End of the newest one by integers.
    #[serde(default)]
    pub newest_integer: Option<i64>,
}

/// Buckets that are materialised and whose rows are gone from the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Start of the oldest one.
    pub from: Timestamp,
    /// Where the rows of the source begin.
    pub to: Timestamp,
}

impl Drops {
    /// Whether no more than this share of the chunks would be dropped. Counted in integers: 99 of 180 are 55 percent and no
    /// more.
    pub fn within(&self, percent: i32) -> bool {
        i128::from(self.chunks) * 100 <= i128::from(self.of) * i128::from(percent)
    }

    /// Share of the chunks that would be dropped, in percent, for people to read.
    pub fn percent(&self) -> f64 {
        if self.of == 0 {
            return 0.0;
        }
        #[allow(clippy::cast_precision_loss, reason = "a count of chunks, far below 2^52")]
        let share = self.chunks as f64 / self.of as f64;
        share * 100.0
    }
}
