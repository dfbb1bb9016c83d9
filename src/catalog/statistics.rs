//! What the scheduler says of jobs, and sizes, ages and backlogs. For people, metrics and health words to look at; what is
//! done to a database is never decided by them.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::types::{Interval, Relation};

/// What the scheduler remembers of a job (`_timescaledb_internal.bgw_job_stat`). A job that never started has no row there:
/// everything is then zero and absent. `CALL run_job` by hand leaves no trace in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobStatistics {
    /// When the last run began.
    pub last_start: Option<Timestamp>,
    /// When the last run ended. Absent while the first one runs.
    pub last_finish: Option<Timestamp>,
    /// When a run last ended well.
    pub last_success: Option<Timestamp>,
    /// Whether the last run ended well. While a job runs TimescaleDB has it as failed and crashed, in case it crashes.
    pub last_run_succeeded: Option<bool>,
    /// When it runs next. Absent while it runs, and when it is not planned.
    pub next_start: Option<Timestamp>,
    /// Runs begun.
    pub runs: i64,
    /// Runs that ended with an error.
    pub failures: i64,
    /// Runs whose worker went away.
    pub crashes: i64,
    /// Runs that ended with an error since the last that ended well.
    pub consecutive_failures: i64,
    /// Runs whose worker went away since the last that ended well.
    pub consecutive_crashes: i64,
}

impl JobStatistics {
    /// How long the last complete run took.
    pub fn last_duration(&self) -> Option<Duration> {
        let (start, finish) = (self.last_start?, self.last_finish?);
        Duration::try_from(finish.duration_since(start)).ok()
    }
}

/// The error that the last failed run of a job ended with (`timescaledb_information.job_errors`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// When the run ended.
    pub at: Timestamp,
    /// SQLSTATE.
    #[serde(default)]
    pub code: Option<String>,
    /// Message, at most 1000 characters.
    pub message: String,
}

/// A job that is no policy of a kind this operator manages: a user-defined action, or a policy of a kind it does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherJob {
    /// `job_id`.
    pub id: i32,
    /// `proc_schema.proc_name`
    pub procedure: String,
    /// `schedule_interval`
    pub schedule_interval: Interval,
    /// The scheduler runs it.
    pub scheduled: bool,
    /// What the scheduler remembers of it.
    #[serde(default)]
    pub statistics: JobStatistics,
}

/// One reading at the statistics interval.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// The database as a whole.
    pub database: DatabaseStatistics,
    /// By the name that applications use: hypertables by table, continuous aggregates by view.
    pub tables: BTreeMap<Relation, TableStatistics>,
    /// Jobs that are no policies of this operator's kinds.
    pub other_jobs: Vec<OtherJob>,
}

/// The database as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DatabaseStatistics {
    /// Bytes on disk (`pg_database_size`). Absent where the role may not connect to it.
    pub bytes: Option<i64>,
    /// Blocks found in the shared buffers since the server's statistics were reset (`pg_stat_database.blks_hit`).
    pub blocks_hit: i64,
    /// Blocks read from outside of them (`blks_read`).
    pub blocks_read: i64,
    /// `timescaledb.max_background_workers`: the launcher, one for each database with the extension and one for each running
    /// job.
    pub workers_limit: Option<i64>,
    /// Background workers of TimescaleDB that run on the server now, for all databases. Absent on a standby.
    pub workers_running: Option<i64>,
    /// Whether a scheduler runs for this database. Absent on a standby.
    pub scheduler: Option<bool>,
}

/// One hypertable or continuous aggregate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableStatistics {
    /// Number of chunks.
    pub chunks: i64,
    /// Chunks that are compressed.
    pub compressed_chunks: i64,
    /// Bytes on disk, with indexes and compressed data.
    pub bytes: i64,
    /// Bytes of the compressed chunks before they were compressed.
    pub before_compression_bytes: i64,
    /// Bytes of the compressed chunks after they were compressed.
    pub after_compression_bytes: i64,
    /// Where the range of the oldest chunk begins. Absent without chunks, and where time is an integer.
    pub oldest: Option<Timestamp>,
    /// Where the range of the newest chunk ends.
    pub newest: Option<Timestamp>,
    /// Chunks that the compression policy in force is to compress and that are not compressed. Absent without one, while it
    /// is paused, and where its age or the time for integers cannot be read.
    pub chunks_to_compress: Option<i64>,
    /// Chunks that the retention policy in force drops at its next run. Absent likewise.
    pub chunks_to_drop: Option<i64>,
    /// Of a continuous aggregate by time: where its newest materialised bucket ends.
    pub watermark: Option<Timestamp>,
    /// Of a continuous aggregate by time: up to where it was refreshed. After the watermark where there were no rows.
    pub refreshed_to: Option<Timestamp>,
    /// Of a continuous aggregate: ranges written to since they were materialised, which refreshes of them do again.
    pub invalidations: Option<i64>,
}

impl TableStatistics {
    /// How many times smaller compression made what is compressed. Absent where nothing is.
    pub fn compression_ratio(&self) -> Option<f64> {
        #[allow(clippy::cast_precision_loss, reason = "bytes, shown with a few digits")]
        let (before, after) = (self.before_compression_bytes as f64, self.after_compression_bytes as f64);
        (after > 0.0).then(|| before / after)
    }
}
