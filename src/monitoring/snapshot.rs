//! What was last seen of one database.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{job_health::JobHealth, table_health::TableHealth};
use crate::{
    api::{TimescaleDatabase, timescale_database::Defaults, types::Relation},
    catalog::{
        Catalog,
        statistics::{JobError, Statistics},
    },
    desired::Attached,
    error::Failure,
};

/// How many resources of a kind give a reason.
pub type Reasons = BTreeMap<(&'static str, &'static str), i64>;

/// What was last seen of one database. What is absent was not seen yet; what is there may be old, and says of when it is.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The last observation of the catalog that succeeded.
    pub observation: Option<Arc<Observation>>,
    /// The last reading of sizes and backlogs that succeeded.
    pub reading: Option<Arc<Reading>>,
    /// Why the last pass failed. `None`: it succeeded, so the database is up.
    pub failure: Option<Failure>,
    /// Why the last reading of statistics failed; the one at hand is then older than the statistics interval.
    pub reading_failure: Option<Failure>,
    /// How many resources of a kind give a reason.
    pub reasons: Reasons,
    /// Connections the operator may hold to the database (`maxConnections`).
    pub max_connections: u32,
    /// Connections it held when the last pass ended: the session, one for each long step, and one for a reading.
    pub connections: u32,
    /// What the last pass went by.
    pub managed: Option<Arc<Managed>>,
}

/// The resources that a pass goes by.
#[derive(Clone, Debug)]
pub struct Managed {
    /// The database's own, with the operator's defaults where it has none.
    pub database: Arc<TimescaleDatabase>,
    /// Which defaults are the operator's.
    pub operator_defaults: Defaults,
    /// Those attached to it.
    pub attached: Attached,
}

/// One observation of the catalog.
#[derive(Debug)]
pub struct Observation {
    /// When the pass that made it ended.
    pub at: Timestamp,
    /// The live catalog.
    pub catalog: Arc<Catalog>,
    /// How each policy job does, by `job_id`.
    pub jobs: Arc<BTreeMap<i32, JobReport>>,
    /// How each hypertable and continuous aggregate does.
    pub tables: Arc<BTreeMap<Relation, TableHealth>>,
}

/// How a job does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobReport {
    /// In a word, with the reason.
    pub health: JobHealth,
    /// What its last failed run ended with, where the last run failed.
    pub last_error: Option<JobError>,
}

/// One reading of statistics.
#[derive(Debug)]
pub struct Reading {
    /// When it was made.
    pub at: Timestamp,
    /// How long the database took.
    pub took: Duration,
    /// What was read.
    pub statistics: Statistics,
}
