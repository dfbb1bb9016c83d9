//! What the API answers with: plain functions from snapshots to JSON.
//!
//! Everything that is absent is `null`: not seen yet, or meaningless for the object.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    api::types::Relation,
    catalog::{
        self, Catalog, PolicyKind,
        statistics::{JobError, TableStatistics},
    },
    error::Failure,
    monitoring::{
        DatabaseKey,
        settings::{self, EffectiveSetting, ResourceSettings},
        snapshot::Snapshot,
        table_health::HealthWord,
    },
};

/// Unhealthy jobs that are listed for one database.
const LISTED_JOBS: usize = 50;

/// One item of a list, and how a list of one database is made.
pub trait Item: Serialize + JsonSchema + Sized {
    /// The items of a database, in any order.
    fn of(database: &DatabaseKey, snapshot: &Snapshot, now: Timestamp) -> Vec<Self>;

    /// What the item is told from the others of its database by; what lists are sorted by.
    fn key(&self) -> Vec<String>;
}

/// A list, or a part of it.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "{T}List")]
pub struct List<T> {
    /// When this answer was made.
    #[serde(rename = "generatedAt")]
    pub generated_at: Timestamp,
    /// Sorted by database, then by name.
    pub items: Vec<T>,
    /// There are more items: ask again with this as `continue`, and the same filter.
    pub r#continue: Option<String>,
}

/// Which database it is, and how old what is said of it.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// Namespace of the `TimescaleDatabase`.
    pub namespace: String,
    /// Name of the `TimescaleDatabase`.
    pub database: String,
    /// When the database was seen like this. `null`: it has not been seen yet.
    pub observed_at: Option<Timestamp>,
    /// Seconds since then.
    pub age_seconds: Option<i64>,
    /// The last attempt to see it anew failed, or none has succeeded yet.
    pub stale: bool,
}

impl Origin {
    fn new((namespace, database): &DatabaseKey, at: Option<Timestamp>, failed: bool, now: Timestamp) -> Self {
        Self {
            namespace: namespace.clone(),
            database: database.clone(),
            observed_at: at.map(whole_seconds),
            age_seconds: at.map(|at| (now.as_second() - at.as_second()).max(0)),
            stale: failed || at.is_none(),
        }
    }

    /// Of what every pass reads.
    fn of_observation(key: &DatabaseKey, snapshot: &Snapshot, now: Timestamp) -> Self {
        let at = snapshot.observation.as_ref().map(|observation| observation.at);
        Self::new(key, at, snapshot.failure.is_some(), now)
    }

    /// Of what is read at the statistics interval.
    fn of_reading(key: &DatabaseKey, snapshot: &Snapshot, now: Timestamp) -> Self {
        let at = snapshot.reading.as_ref().map(|reading| reading.at);
        Self::new(key, at, snapshot.failure.is_some() || snapshot.reading_failure.is_some(), now)
    }
}

/// A time without its fraction.
pub fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// Why something could not be done.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailureDetail {
    /// Who can do something about it: `transient` (it passes), `user`, or `bug`.
    pub class: String,
    /// The reason that the `Ready` condition of the `TimescaleDatabase` gives.
    pub reason: String,
    /// What happened, and what to do.
    pub message: String,
}

impl From<&Failure> for FailureDetail {
    fn from(failure: &Failure) -> Self {
        Self {
            class: failure.class.as_str().to_owned(),
            reason: failure.reason.as_str().to_owned(),
            message: failure.message.clone(),
        }
    }
}

/// Health in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// No threshold is crossed.
    Healthy,
    /// Look at it in working hours.
    Warning,
    /// Look at it now.
    Critical,
}

impl From<HealthWord> for Health {
    fn from(word: HealthWord) -> Self {
        match word {
            HealthWord::Healthy => Self::Healthy,
            HealthWord::Warning => Self::Warning,
            HealthWord::Critical => Self::Critical,
        }
    }
}

/// What a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TableKind {
    /// A hypertable.
    Hypertable,
    /// A continuous aggregate: the figures are those of what it has materialised.
    ContinuousAggregate,
}

impl TableKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Hypertable => "Hypertable",
            Self::ContinuousAggregate => "ContinuousAggregate",
        }
    }
}

// ---- /health

/// The operator itself.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperatorHealth {
    /// When this answer was made.
    pub generated_at: Timestamp,
    /// `ok`: the operator sees the cluster and its control loop turns. Otherwise the answer is a 503.
    pub status: String,
    /// Version of the operator.
    pub version: String,
    /// This instance acts. One that stands by has seen no database, and answers nothing else.
    pub leading: bool,
    /// Databases looked after.
    pub databases: DatabaseCounts,
}

/// Databases by how they are.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseCounts {
    /// All that have been looked at.
    pub total: usize,
    /// Those that the last pass could observe.
    pub reachable: usize,
    /// Those that it could not.
    pub unreachable: usize,
}

impl OperatorHealth {
    /// Of an operator that is well.
    pub fn of<'a>(snapshots: impl Iterator<Item = &'a Snapshot>, leading: bool, now: Timestamp) -> Self {
        let mut databases = DatabaseCounts::default();
        for snapshot in snapshots {
            databases.total += 1;
            if is_reachable(snapshot) {
                databases.reachable += 1;
            } else {
                databases.unreachable += 1;
            }
        }
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { generated_at: whole_seconds(now), status: "ok".to_owned(), version, leading, databases }
    }
}

const fn is_reachable(snapshot: &Snapshot) -> bool {
    snapshot.failure.is_none() && snapshot.observation.is_some()
}

// ---- /health/database

/// The operator's sessions with one database, and the database as a whole.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseHealth {
    /// Which, and when it was observed last.
    #[serde(flatten)]
    pub origin: Origin,
    /// The last pass could observe it.
    pub reachable: bool,
    /// Why the last pass failed.
    pub failure: Option<FailureDetail>,
    /// The operator's connections to it.
    pub connections: Connections,
    /// The reading of sizes and backlogs.
    pub statistics: StatisticsHealth,
    /// Bytes on disk.
    pub size_bytes: Option<i64>,
    /// Blocks found in the shared buffers since the server's statistics were reset.
    pub blocks_hit: Option<i64>,
    /// Blocks read from outside of them.
    pub blocks_read: Option<i64>,
}

/// The operator's connections to a database.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Connections {
    /// Open when the last pass ended: the session, and one for each long step.
    pub open: u32,
    /// `spec.maxConnections`.
    pub max: u32,
}

/// How the reading of statistics goes.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatisticsHealth {
    /// When the last one that succeeded was made.
    pub observed_at: Option<Timestamp>,
    /// Seconds since then.
    pub age_seconds: Option<i64>,
    /// The last attempt failed, or none has succeeded yet.
    pub stale: bool,
    /// Seconds that the database took for it.
    pub took_seconds: Option<f64>,
    /// Why the last attempt failed.
    pub failure: Option<FailureDetail>,
}

impl Item for DatabaseHealth {
    fn of(database: &DatabaseKey, snapshot: &Snapshot, now: Timestamp) -> Vec<Self> {
        let reading = snapshot.reading.as_deref();
        let whole = reading.map(|reading| &reading.statistics.database);
        let Origin { observed_at, age_seconds, stale, .. } = Origin::of_reading(database, snapshot, now);
        vec![Self {
            origin: Origin::of_observation(database, snapshot, now),
            reachable: is_reachable(snapshot),
            failure: snapshot.failure.as_ref().map(FailureDetail::from),
            connections: Connections { open: snapshot.connections, max: snapshot.max_connections },
            statistics: StatisticsHealth {
                observed_at,
                age_seconds,
                stale,
                took_seconds: reading.map(|reading| reading.took.as_secs_f64()),
                failure: snapshot.reading_failure.as_ref().map(FailureDetail::from),
            },
            size_bytes: whole.and_then(|database| database.bytes),
            blocks_hit: whole.map(|database| database.blocks_hit),
            blocks_read: whole.map(|database| database.blocks_read),
        }]
    }

    fn key(&self) -> Vec<String> {
        Vec::new()
    }
}

// ---- /health/timescaledb

/// TimescaleDB in one database.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimescaledbHealth {
    /// Which, and when it was observed last.
    #[serde(flatten)]
    pub origin: Origin,
    /// Version of the extension. `null`: not installed.
    pub timescaledb_version: Option<String>,
    /// Version of the server.
    pub postgres_version: Option<String>,
    /// `timescale` (community) or `apache`.
    pub license: Option<String>,
    /// The server is in recovery, or can only be read.
    pub read_only: Option<bool>,
    /// `timescaledb.restoring` is on.
    pub restoring: Option<bool>,
    /// A scheduler runs for this database. `null`: that cannot be seen.
    pub scheduler_running: Option<bool>,
    /// Background workers of TimescaleDB, for all databases of the server.
    pub background_workers: BackgroundWorkers,
    /// Jobs by how they do.
    pub jobs: JobCounts,
    /// Jobs that somebody has to look at, at most 50.
    pub unhealthy_jobs: Vec<UnhealthyJob>,
}

/// Background workers of TimescaleDB.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackgroundWorkers {
    /// Running now.
    pub running: Option<i64>,
    /// `timescaledb.max_background_workers`.
    pub limit: Option<i64>,
}

/// Jobs by how they do.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobCounts {
    /// Policy jobs.
    pub policies: usize,
    /// Policy jobs that do well.
    pub healthy: usize,
    /// Policy jobs that somebody has to look at.
    pub unhealthy: usize,
    /// Policy jobs that have not run yet, and need not have.
    pub unknown: usize,
    /// Policy jobs that somebody has paused.
    pub paused: usize,
    /// Jobs that are no policies of the kinds that the operator manages.
    pub others: usize,
}

/// A job that somebody has to look at.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnhealthyJob {
    /// `job_id`.
    pub job_id: i32,
    /// What it does.
    pub policy: PolicyName,
    /// Schema of the hypertable or aggregate.
    pub schema: Option<String>,
    /// The hypertable or aggregate.
    pub table: Option<String>,
    /// The reason that the `JobHealthy` condition gives.
    pub reason: String,
    /// What was found, and what to do.
    pub message: String,
    /// What its last failed run ended with, where the last run failed.
    pub last_error: Option<LastError>,
    /// When a run last ended well.
    pub last_success: Option<Timestamp>,
    /// When it runs next.
    pub next_start: Option<Timestamp>,
    /// Runs that ended with an error since the last that ended well.
    pub consecutive_failures: i64,
}

/// The error of a run.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// When the run ended.
    pub at: Timestamp,
    /// SQLSTATE.
    pub code: Option<String>,
    /// What PostgreSQL said.
    pub message: String,
}

impl From<&JobError> for LastError {
    fn from(error: &JobError) -> Self {
        Self { at: error.at, code: error.code.clone(), message: error.message.clone() }
    }
}

/// The kinds of policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PolicyName {
    /// Compresses chunks.
    Compression,
    /// Drops chunks.
    Retention,
    /// Refreshes a continuous aggregate.
    Refresh,
    /// Reorders chunks.
    Reorder,
}

impl From<PolicyKind> for PolicyName {
    fn from(kind: PolicyKind) -> Self {
        match kind {
            PolicyKind::Compression => Self::Compression,
            PolicyKind::Retention => Self::Retention,
            PolicyKind::Refresh => Self::Refresh,
            PolicyKind::Reorder => Self::Reorder,
        }
    }
}

impl Item for TimescaledbHealth {
    fn of(database: &DatabaseKey, snapshot: &Snapshot, now: Timestamp) -> Vec<Self> {
        let observation = snapshot.observation.as_deref();
        let server = observation.map(|observation| &observation.catalog.server);
        let statistics = snapshot.reading.as_deref().map(|reading| &reading.statistics);
        let (mut jobs, mut unhealthy_jobs) = (JobCounts::default(), Vec::new());
        jobs.others = statistics.map_or(0, |statistics| statistics.other_jobs.len());
        if let Some(observation) = observation {
            for job in &observation.catalog.jobs {
                jobs.policies += 1;
                jobs.paused += usize::from(!job.is_in_force());
                let report = observation.jobs.get(&job.id);
                match report.and_then(|report| report.health.healthy) {
                    None => jobs.unknown += 1,
                    Some(true) => jobs.healthy += 1,
                    Some(false) => jobs.unhealthy += 1,
                }
                if let Some(report) = report.filter(|report| report.health.healthy == Some(false))
                    && unhealthy_jobs.len() < LISTED_JOBS
                {
                    let relation = observation.catalog.name_of(job.hypertable_id);
                    unhealthy_jobs.push(UnhealthyJob {
                        job_id: job.id,
                        policy: job.policy.kind().into(),
                        schema: relation.map(|relation| relation.schema.to_string()),
                        table: relation.map(|relation| relation.name.to_string()),
                        reason: report.health.reason.as_str().to_owned(),
                        message: report.health.message.clone(),
                        last_error: report.last_error.as_ref().map(LastError::from),
                        last_success: job.statistics.last_success,
                        next_start: job.statistics.next_start,
                        consecutive_failures: job.statistics.consecutive_failures,
                    });
                }
            }
        }
        let whole = statistics.map(|statistics| &statistics.database);
        vec![Self {
            origin: Origin::of_observation(database, snapshot, now),
            timescaledb_version: server.and_then(|s| s.extension.as_ref()).map(|e| e.version.to_string()),
            postgres_version: server.map(catalog::Server::postgres_version),
            license: server.and_then(|server| server.license.clone()),
            read_only: server.map(|server| server.read_only),
            restoring: server.map(|server| server.restoring),
            scheduler_running: whole.and_then(|database| database.scheduler),
            background_workers: BackgroundWorkers {
                running: whole.and_then(|database| database.workers_running),
                limit: whole.and_then(|database| database.workers_limit),
            },
            jobs,
            unhealthy_jobs,
        }]
    }

    fn key(&self) -> Vec<String> {
        Vec::new()
    }
}

// ---- /status/timescaledb

/// One database at a glance, without names of tables and without messages.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimescaledbStatus {
    /// Which, and when it was observed last.
    #[serde(flatten)]
    pub origin: Origin,
    /// The last pass could observe it.
    pub reachable: bool,
    /// The reason why it could not.
    pub reason: Option<String>,
    /// The worst word of its hypertables and aggregates.
    pub health: Option<Health>,
    /// Version of the extension. `null`: not installed.
    pub timescaledb_version: Option<String>,
    /// Version of the server.
    pub postgres_version: Option<String>,
    /// `timescale` (community) or `apache`.
    pub license: Option<String>,
    /// Hypertables in the database, whether a resource manages them or not.
    pub hypertables: Option<usize>,
    /// Continuous aggregates.
    pub continuous_aggregates: Option<usize>,
    /// Compression policies.
    pub compression_policies: Option<usize>,
    /// Retention policies.
    pub retention_policies: Option<usize>,
    /// Refresh policies.
    pub refresh_policies: Option<usize>,
    /// Chunks of all hypertables and aggregates.
    pub chunks: Option<i64>,
    /// Those that are compressed.
    pub compressed_chunks: Option<i64>,
    /// Resources attached to the database, by kind and by the reason they give.
    pub resources: Vec<ResourceCount>,
}

/// How many resources of a kind give a reason.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceCount {
    /// The kind.
    pub kind: String,
    /// The reason of the `Ready` condition.
    pub reason: String,
    /// How many; each target of a policy that selects its targets counts.
    pub count: i64,
}

impl Item for TimescaledbStatus {
    fn of(database: &DatabaseKey, snapshot: &Snapshot, now: Timestamp) -> Vec<Self> {
        let observation = snapshot.observation.as_deref();
        let catalog = observation.map(|observation| &*observation.catalog);
        let server = catalog.map(|catalog| &catalog.server);
        let tables = snapshot.reading.as_deref().map(|reading| &reading.statistics.tables);
        let jobs = |kind: PolicyKind| {
            catalog.map(|catalog| catalog.jobs.iter().filter(|job| job.policy.kind() == kind).count())
        };
        let sum = |of: fn(&TableStatistics) -> i64| tables.map(|tables| tables.values().map(of).sum());
        let worst = observation.and_then(|observation| observation.tables.values().map(|table| table.word).max());
        let resources = snapshot.reasons.iter().map(|((kind, reason), count)| ResourceCount {
            kind: (*kind).to_owned(),
            reason: (*reason).to_owned(),
            count: *count,
        });
        vec![Self {
            origin: Origin::of_observation(database, snapshot, now),
            reachable: is_reachable(snapshot),
            reason: snapshot.failure.as_ref().map(|failure| failure.reason.as_str().to_owned()),
            health: worst.map(Health::from),
            timescaledb_version: server.and_then(|s| s.extension.as_ref()).map(|e| e.version.to_string()),
            postgres_version: server.map(catalog::Server::postgres_version),
            license: server.and_then(|server| server.license.clone()),
            hypertables: catalog.map(|catalog| catalog.hypertables.len()),
            continuous_aggregates: catalog.map(|catalog| catalog.aggregates.len()),
            compression_policies: jobs(PolicyKind::Compression),
            retention_policies: jobs(PolicyKind::Retention),
            refresh_policies: jobs(PolicyKind::Refresh),
            chunks: sum(|table| table.chunks),
            compressed_chunks: sum(|table| table.compressed_chunks),
            resources: resources.collect(),
        }]
    }

    fn key(&self) -> Vec<String> {
        Vec::new()
    }
}

// ---- /metrics/…

/// Which table it is, and how old its figures are.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableOrigin {
    /// Which database, and when the figures were read.
    #[serde(flatten)]
    pub origin: Origin,
    /// Schema of the table or view.
    pub schema: String,
    /// Name of the table or view.
    pub table: String,
    /// What it is.
    pub kind: TableKind,
}

impl TableOrigin {
    fn key(&self) -> Vec<String> {
        vec![self.schema.clone(), self.table.clone(), self.kind.as_str().to_owned()]
    }
}

/// One hypertable or continuous aggregate with everything that is known of it.
struct Table<'a> {
    relation: &'a Relation,
    kind: TableKind,
    /// The hypertable, or the one behind the aggregate.
    host: &'a catalog::Hypertable,
    catalog: &'a Catalog,
    figures: Option<&'a TableStatistics>,
}

impl Table<'_> {
    fn origin(&self, database: &DatabaseKey, snapshot: &Snapshot, now: Timestamp) -> TableOrigin {
        TableOrigin {
            origin: Origin::of_reading(database, snapshot, now),
            schema: self.relation.schema.to_string(),
            table: self.relation.name.to_string(),
            kind: self.kind,
        }
    }

    fn job(&self, kind: PolicyKind) -> Option<&catalog::Job> {
        self.catalog.job(kind, self.host.id)
    }

    fn figure<T>(&self, of: impl FnOnce(&TableStatistics) -> T) -> Option<T> {
        self.figures.map(of)
    }
}

/// The hypertables and aggregates of the last observation.
fn tables(snapshot: &Snapshot) -> Vec<Table<'_>> {
    let Some(observation) = snapshot.observation.as_deref() else { return Vec::new() };
    let figures = snapshot.reading.as_deref().map(|reading| &reading.statistics.tables);
    let catalog = &*observation.catalog;
    let hypertables = catalog.hypertables.iter().map(|(relation, host)| (relation, TableKind::Hypertable, host));
    let behind =
        catalog.aggregates.iter().map(|(relation, a)| (relation, TableKind::ContinuousAggregate, &a.hypertable));
    let table = |(relation, kind, host)| Table {
        relation,
        kind,
        host,
        catalog,
        figures: figures.and_then(|figures| figures.get(relation)),
    };
    hypertables.chain(behind).map(table).collect()
}

/// Before over after; `null` where nothing is compressed.
#[allow(clippy::cast_precision_loss, reason = "a ratio needs no more than 15 digits")]
fn ratio(of: i64, over: i64) -> Option<f64> {
    (over > 0).then(|| (of as f64 / over as f64 * 1000.0).round() / 1000.0)
}

/// Figures of a hypertable or continuous aggregate.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HypertableMetrics {
    /// Which, and when the figures were read.
    #[serde(flatten)]
    pub table: TableOrigin,
    /// How it does.
    pub health: Option<Health>,
    /// Why it is not healthy.
    pub health_reasons: Vec<String>,
    /// Column of the time dimension.
    pub time_column: Option<String>,
    /// Range of one chunk made now.
    pub chunk_interval: Option<String>,
    /// Chunks.
    pub chunks: Option<i64>,
    /// Chunks that are compressed.
    pub compressed_chunks: Option<i64>,
    /// Bytes on disk, with indexes and compressed data.
    pub size_bytes: Option<i64>,
    /// Where the range of the oldest chunk begins. `null` where time is an integer.
    pub oldest_data: Option<Timestamp>,
    /// Where the range of the newest chunk ends.
    pub newest_data: Option<Timestamp>,
    /// Age from which the compression policy in force compresses.
    pub compress_after: Option<String>,
    /// Age from which the retention policy in force drops.
    pub drop_after: Option<String>,
    /// Of a continuous aggregate: up to where it is materialised.
    pub materialized_until: Option<Timestamp>,
    /// Of a continuous aggregate: ranges written to since they were materialised.
    pub invalidations: Option<i64>,
}

impl Item for HypertableMetrics {
    fn of(database: &DatabaseKey, snapshot: &Snapshot, now: Timestamp) -> Vec<Self> {
        let healths = snapshot.observation.as_deref().map(|observation| &observation.tables);
        let item = |table: Table<'_>| {
            let health = healths.and_then(|healths| healths.get(table.relation));
            Self {
                table: table.origin(database, snapshot, now),
                health: health.map(|health| health.word.into()),
                health_reasons: health.map(|health| health.reasons.clone()).unwrap_or_default(),
                time_column: table.host.time().map(|dimension| dimension.column.to_string()),
                chunk_interval: table.host.chunk_interval().map(|span| span.to_string()),
                chunks: table.figure(|t| t.chunks),
                compressed_chunks: table.figure(|t| t.compressed_chunks),
                size_bytes: table.figure(|t| t.bytes),
                oldest_data: table.figure(|t| t.oldest).flatten(),
                newest_data: table.figure(|t| t.newest).flatten(),
                compress_after: table.job(PolicyKind::Compression).and_then(age),
                drop_after: table.job(PolicyKind::Retention).and_then(age),
                materialized_until: table.figure(|t| t.watermark).flatten(),
                invalidations: table.figure(|t| t.invalidations).flatten(),
            }
        };
        tables(snapshot).into_iter().map(item).collect()
    }

    fn key(&self) -> Vec<String> {
        self.table.key()
    }
}

/// The age that a live policy goes by.
fn age(job: &catalog::Job) -> Option<String> {
    match &job.policy {
        catalog::Policy::Compression { after } | catalog::Policy::Retention { after } => after.map(|a| a.to_string()),
        catalog::Policy::Refresh { .. } | catalog::Policy::Reorder { .. } => None,
    }
}

/// Compression of a hypertable or continuous aggregate for which it is enabled.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CompressionMetrics {
    /// Which, and when the figures were read.
    #[serde(flatten)]
    pub table: TableOrigin,
    /// Columns that compressed rows are grouped by. `null`: TimescaleDB chooses.
    pub segment_by: Option<Vec<String>>,
    /// Columns that compressed rows are sorted by. `null`: TimescaleDB chooses.
    pub order_by: Option<Vec<String>>,
    /// The compression policy.
    pub policy: Option<CompressionJob>,
    /// Chunks.
    pub chunks: Option<i64>,
    /// Chunks that are compressed.
    pub compressed_chunks: Option<i64>,
    /// Compressed chunks over all chunks, 0 to 1.
    pub compressed_share: Option<f64>,
    /// Chunks that the policy is to compress and that are not compressed.
    pub chunks_to_compress: Option<i64>,
    /// Bytes of the compressed chunks before they were compressed.
    pub before_bytes: Option<i64>,
    /// Bytes of the compressed chunks after they were compressed.
    pub after_bytes: Option<i64>,
    /// The one over the other: 5 means a fifth of the size.
    pub ratio: Option<f64>,
}

/// The job of a compression policy.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CompressionJob {
    /// `job_id`.
    pub job_id: i32,
    /// Age from which chunks are compressed.
    pub after: Option<String>,
    /// The scheduler runs it.
    pub scheduled: bool,
    /// Nothing to do. `null`: it has not run yet, and need not have.
    pub healthy: Option<bool>,
    /// When a run last ended well.
    pub last_success: Option<Timestamp>,
    /// When it runs next.
    pub next_start: Option<Timestamp>,
}

impl Item for CompressionMetrics {
    fn of(database: &DatabaseKey, snapshot: &Snapshot, now: Timestamp) -> Vec<Self> {
        let reports = snapshot.observation.as_deref().map(|observation| &observation.jobs);
        let item = |table: Table<'_>| {
            let columnstore = table.host.columnstore.as_ref()?;
            let policy = table.job(PolicyKind::Compression).map(|job| CompressionJob {
                job_id: job.id,
                after: age(job),
                scheduled: job.scheduled,
                healthy: reports.and_then(|reports| reports.get(&job.id)).and_then(|report| report.health.healthy),
                last_success: job.statistics.last_success,
                next_start: job.statistics.next_start,
            });
            let texts = |names: &Vec<_>| names.iter().map(ToString::to_string).collect();
            let order = |columns: &Vec<catalog::SortColumn>| columns.iter().map(ToString::to_string).collect();
            Some(Self {
                table: table.origin(database, snapshot, now),
                segment_by: columnstore.segment_by.as_ref().map(texts),
                order_by: columnstore.order_by.as_ref().map(order),
                policy,
                chunks: table.figure(|t| t.chunks),
                compressed_chunks: table.figure(|t| t.compressed_chunks),
                compressed_share: table.figure(|t| ratio(t.compressed_chunks, t.chunks)).flatten(),
                chunks_to_compress: table.figure(|t| t.chunks_to_compress).flatten(),
                before_bytes: table.figure(|t| t.before_compression_bytes),
                after_bytes: table.figure(|t| t.after_compression_bytes),
                ratio: table.figure(|t| ratio(t.before_compression_bytes, t.after_compression_bytes)).flatten(),
            })
        };
        tables(snapshot).into_iter().filter_map(item).collect()
    }

    fn key(&self) -> Vec<String> {
        self.table.key()
    }
}

/// The chunks of a hypertable or continuous aggregate, summed up.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChunkMetrics {
    /// Which, and when the figures were read.
    #[serde(flatten)]
    pub table: TableOrigin,
    /// Range of one chunk made now.
    pub chunk_interval: Option<String>,
    /// Chunks.
    pub chunks: Option<i64>,
    /// Chunks that are compressed.
    pub compressed_chunks: Option<i64>,
    /// Chunks that are not.
    pub uncompressed_chunks: Option<i64>,
    /// Chunks that the compression policy is to compress and that are not compressed.
    pub chunks_to_compress: Option<i64>,
    /// Chunks that the retention policy drops at its next run.
    pub chunks_to_drop: Option<i64>,
    /// Bytes of one chunk on the average, with indexes.
    pub average_chunk_bytes: Option<i64>,
    /// Where the range of the oldest chunk begins. `null` where time is an integer.
    pub oldest_data: Option<Timestamp>,
    /// Where the range of the newest chunk ends.
    pub newest_data: Option<Timestamp>,
}

impl Item for ChunkMetrics {
    fn of(database: &DatabaseKey, snapshot: &Snapshot, now: Timestamp) -> Vec<Self> {
        let item = |table: Table<'_>| Self {
            table: table.origin(database, snapshot, now),
            chunk_interval: table.host.chunk_interval().map(|span| span.to_string()),
            chunks: table.figure(|t| t.chunks),
            compressed_chunks: table.figure(|t| t.compressed_chunks),
            uncompressed_chunks: table.figure(|t| t.chunks - t.compressed_chunks),
            chunks_to_compress: table.figure(|t| t.chunks_to_compress).flatten(),
            chunks_to_drop: table.figure(|t| t.chunks_to_drop).flatten(),
            average_chunk_bytes: table.figure(|t| t.bytes.checked_div(t.chunks)).flatten(),
            oldest_data: table.figure(|t| t.oldest).flatten(),
            newest_data: table.figure(|t| t.newest).flatten(),
        };
        tables(snapshot).into_iter().map(item).collect()
    }

    fn key(&self) -> Vec<String> {
        self.table.key()
    }
}

// ---- /configuration

/// The settings in force of one resource.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    /// The database that the resource is attached to, and when it was observed last.
    #[serde(flatten)]
    pub origin: Origin,
    /// The resource.
    pub resource: ResourceName,
    /// One for each field, in the order of the spec.
    pub settings: Vec<Setting>,
    /// Why its settings are not in force. Empty: they are what the operator goes by.
    pub refusals: Vec<Refusal>,
}

/// A resource.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceName {
    /// Its kind.
    pub kind: String,
    /// Its namespace, which may be another than the database's.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// One setting.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Setting {
    /// The field of the spec.
    pub field: String,
    /// The value, as text. `null`: not managed, or missing.
    pub value: Option<String>,
    /// Where it came from.
    pub source: Source,
}

/// The layer that a setting came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Source {
    /// The resource says it.
    Resource,
    /// `spec.defaults` of the `TimescaleDatabase` says it.
    DatabaseDefaults,
    /// A flag of the operator says it.
    OperatorDefaults,
    /// The built-in default, whether the resource repeats it or not.
    BuiltIn,
    /// Nothing says it: what is in the database stays.
    NotManaged,
    /// It is needed and missing, or cannot be read.
    Invalid,
}

impl From<settings::Source> for Source {
    fn from(source: settings::Source) -> Self {
        match source {
            settings::Source::Resource => Self::Resource,
            settings::Source::DatabaseDefaults => Self::DatabaseDefaults,
            settings::Source::OperatorDefaults => Self::OperatorDefaults,
            settings::Source::BuiltIn => Self::BuiltIn,
            settings::Source::NotManaged => Self::NotManaged,
            settings::Source::Invalid => Self::Invalid,
        }
    }
}

/// Why settings are not in force.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// `Kind/name` of the target that a policy selects; `null`: for all that the resource is for.
    pub target: Option<String>,
    /// The reason that the `Ready` condition gives.
    pub reason: String,
    /// What to do.
    pub message: String,
}

impl Item for Configuration {
    fn of(database: &DatabaseKey, snapshot: &Snapshot, now: Timestamp) -> Vec<Self> {
        let Some(managed) = &snapshot.managed else { return Vec::new() };
        let setting = |EffectiveSetting { field, value, source }| Setting {
            field: str::to_owned(field),
            value,
            source: Source::from(source),
        };
        let item = |ResourceSettings { kind, namespace, name, settings, refusals }| Self {
            origin: Origin::of_observation(database, snapshot, now),
            resource: ResourceName { kind: kind.as_str().to_owned(), namespace, name },
            settings: settings.into_iter().map(setting).collect(),
            refusals: refusals
                .into_iter()
                .map(|settings::Refusal { target, reason, message }| Refusal {
                    target,
                    reason: reason.to_owned(),
                    message,
                })
                .collect(),
        };
        settings::effective(managed).into_iter().map(item).collect()
    }

    fn key(&self) -> Vec<String> {
        let ResourceName { kind, namespace, name } = &self.resource;
        vec![kind.clone(), namespace.clone(), name.clone()]
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use serde_json::json;

    use super::*;
    use crate::{
        api::status::Reason,
        catalog::statistics::{DatabaseStatistics, Statistics},
        error::Class,
        monitoring::{
            job_health::JobHealth,
            snapshot::{JobReport, Observation, Reading},
            table_health::TableHealth,
        },
    };

    const OBSERVED: i64 = 1_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_else(|e| panic!("{e}"))
    }

    fn key() -> DatabaseKey {
        ("factory".to_owned(), "plant".to_owned())
    }

    fn relation() -> Relation {
        "public.readings".parse().unwrap_or_else(|e| panic!("{e}"))
    }

    /// One hypertable, compressed, with this many retention jobs; each does as `healthy` says of its number.
    fn snapshot(jobs: i32, healthy: impl Fn(i32) -> Option<bool>) -> Snapshot {
        let job = |n: i32| {
            json!({
                "id": 1000 + n, "hypertable_id": 1, "policy": {"retention": {"after": {"older_than": "90 days"}}},
                "schedule_interval": "1 day", "max_runtime": "0 seconds", "max_retries": -1, "retry_period": "1 hour",
                "statistics": {"consecutive_failures": 3}
            })
        };
        let catalog = json!({
            "server": {"version_num": 170_005, "extension": {"version": "2.23.1", "schema": "public"}, "license": "timescale"},
            "hypertables": {"public.readings": {
                "id": 1, "dimensions": [{"column": "ts", "partitioning": {"range": "7 days"}}],
                "columnstore": {"segment_by": ["sensor"]}
            }},
            "jobs": (0..jobs).map(job).collect::<Vec<_>>()
        });
        let catalog: Catalog = serde_json::from_value(catalog).unwrap_or_else(|e| panic!("{e}"));
        let report = |n: i32| {
            let message = format!("job {n}");
            let error = JobError { at: at(OBSERVED - 60), code: None, message: "permission denied".to_owned() };
            let health = JobHealth { healthy: healthy(n), reason: Reason::JobFailed, message };
            (1000 + n, JobReport { health, last_error: Some(error) })
        };
        let health = TableHealth { word: HealthWord::Critical, reasons: vec!["1200 chunks".to_owned()] };
        let figures = TableStatistics {
            chunks: 8,
            compressed_chunks: 6,
            bytes: 800,
            before_compression_bytes: 1000,
            after_compression_bytes: 150,
            ..TableStatistics::default()
        };
        let database = DatabaseStatistics { bytes: Some(4096), ..DatabaseStatistics::default() };
        let statistics = Statistics { database, tables: [(relation(), figures)].into(), other_jobs: Vec::new() };
        Snapshot {
            observation: Some(Arc::new(Observation {
                at: at(OBSERVED),
                catalog: Arc::new(catalog),
                jobs: Arc::new((0..jobs).map(report).collect()),
                tables: Arc::new([(relation(), health)].into()),
            })),
            reading: Some(Arc::new(Reading { at: at(OBSERVED - 100), took: Duration::from_millis(20), statistics })),
            ..Snapshot::default()
        }
    }

    /// The one item of the database.
    fn only<T: Item>(snapshot: &Snapshot) -> T {
        let mut items = T::of(&key(), snapshot, at(OBSERVED + 30));
        assert_eq!(items.len(), 1);
        items.remove(0)
    }

    fn failure() -> Failure {
        Failure::new(Class::Transient, Reason::DatabaseUnreachable, "no route to host")
    }

    #[test]
    fn an_answer_says_how_old_it_is_and_whether_the_last_look_failed() {
        let mut seen = snapshot(0, |_| None);
        let age = |snapshot: &Snapshot| {
            let whole = only::<DatabaseHealth>(snapshot);
            let table = only::<ChunkMetrics>(snapshot).table.origin;
            [(whole.origin.age_seconds, whole.origin.stale), (table.age_seconds, table.stale)]
        };
        assert_eq!(age(&seen), [(Some(30), false), (Some(130), false)]);
        seen.reading_failure = Some(failure());
        assert_eq!(age(&seen), [(Some(30), false), (Some(130), true)]);
        seen.failure = Some(failure());
        assert_eq!(age(&seen), [(Some(30), true), (Some(130), true)]);
        let never = only::<DatabaseHealth>(&Snapshot { failure: Some(failure()), ..Snapshot::default() });
        assert_eq!((never.origin.observed_at, never.origin.stale, never.reachable), (None, true, false));
        // A clock that was set back makes nothing younger than now.
        assert_eq!(Origin::new(&key(), Some(at(OBSERVED)), false, at(OBSERVED - 5)).age_seconds, Some(0));
    }

    #[test]
    fn jobs_are_counted_by_health_and_the_ill_ones_listed_up_to_a_limit() {
        let some = only::<TimescaledbHealth>(&snapshot(6, |n| {
            [Some(true), Some(false), None][usize::try_from(n % 3).unwrap_or(0)]
        }));
        let JobCounts { policies, healthy, unhealthy, unknown, .. } = some.jobs;
        assert_eq!((policies, healthy, unhealthy, unknown), (6, 2, 2, 2));
        let first = &some.unhealthy_jobs[0];
        assert_eq!(
            (first.job_id, first.policy, first.table.as_deref()),
            (1001, PolicyName::Retention, Some("readings"))
        );
        assert_eq!((first.reason.as_str(), first.consecutive_failures), ("JobFailed", 3));
        assert_eq!(first.last_error.as_ref().map(|error| error.message.as_str()), Some("permission denied"));

        let many = only::<TimescaledbHealth>(&snapshot(200, |_| Some(false)));
        assert_eq!((many.jobs.unhealthy, many.unhealthy_jobs.len()), (200, LISTED_JOBS));
    }

    #[test]
    fn figures_of_a_table_are_what_was_read() {
        let seen = snapshot(1, |_| Some(true));
        let CompressionMetrics { compressed_share, ratio, segment_by, policy, .. } = only(&seen);
        assert_eq!((compressed_share, ratio), (Some(0.75), Some(6.667)));
        assert_eq!((segment_by, policy.is_none()), (Some(vec!["sensor".to_owned()]), true));
        let ChunkMetrics { uncompressed_chunks, average_chunk_bytes, .. } = only(&seen);
        assert_eq!((uncompressed_chunks, average_chunk_bytes), (Some(2), Some(100)));
        let HypertableMetrics { health, health_reasons, drop_after, chunk_interval, .. } = only(&seen);
        assert_eq!((health, health_reasons), (Some(Health::Critical), vec!["1200 chunks".to_owned()]));
        assert_eq!((drop_after.as_deref(), chunk_interval.as_deref()), (Some("90 days"), Some("7 days")));
        // Nothing is made up where nothing was read.
        let unread = Snapshot { reading: None, ..seen };
        let ChunkMetrics { chunks, average_chunk_bytes, table, .. } = only(&unread);
        assert_eq!((chunks, average_chunk_bytes, table.origin.stale), (None, None, true));
    }

    #[test]
    fn what_every_caller_may_read_names_no_table_and_repeats_no_message() {
        let seen = Snapshot { failure: Some(failure()), ..snapshot(3, |_| Some(false)) };
        let status = serde_json::to_string(&only::<TimescaledbStatus>(&seen)).unwrap_or_default();
        for secret in ["readings", "no route", "permission denied", "1200 chunks"] {
            assert!(!status.contains(secret), "{status}");
        }
        assert!(status.contains("\"reason\":\"DatabaseUnreachable\"") && status.contains("\"health\":\"critical\""));
        let everybody = OperatorHealth::of([&seen].into_iter(), true, at(OBSERVED));
        let everybody = serde_json::to_string(&everybody).unwrap_or_default();
        assert!(!everybody.contains("plant") && !everybody.contains("factory"), "{everybody}");
    }
}
