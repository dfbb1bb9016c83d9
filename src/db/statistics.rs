//! The live database → [`Statistics`]: sizes, ages and backlogs, a fixed number of queries.

use std::{collections::BTreeSet, time::Duration};

use tokio_postgres::types::{ToSql, Type};

use super::{
    Limits, Session,
    observe::{all, named, one},
    set_limits,
};
use crate::{
    catalog::{
        Age, Catalog, Measure, Policy, PolicyKind,
        statistics::{OtherJob, Statistics, TableStatistics},
    },
    error::Failure,
};

const TABLES: &str = include_str!("../../sql/statistics/tables.sql");
const DATABASE: &str = include_str!("../../sql/statistics/database.sql");
const OTHER_JOBS: &str = include_str!("../../sql/statistics/other_jobs.sql");
const INTEGER_NOW: &str = include_str!("../../sql/statistics/integer_now.sql");

/// A reading may take longer than an observation: nothing waits for it.
const READING: Limits = Limits { lock: Duration::from_secs(2), statement: Duration::from_secs(40) };
/// The `integer_now` functions of all hypertables together.
const CLOCKS: Limits = Limits { statement: Duration::from_secs(5), ..READING };

/// The policies in force that tell which chunks to compress and to drop, as parallel arrays, for `unnest`.
#[derive(Default)]
struct Policies {
    hypertables: Vec<i32>,
    kinds: Vec<&'static str>,
    measures: Vec<&'static str>,
    ages: Vec<String>,
    /// Hypertables by integers whose clock is needed.
    by_integer: BTreeSet<i32>,
}

impl Policies {
    fn of(catalog: &Catalog) -> Self {
        let mut policies = Self::default();
        for job in catalog.jobs.iter().filter(|job| job.is_in_force()) {
            // The job works on what its config says.
            let hypertable = job.config_hypertable_id.unwrap_or(job.hypertable_id);
            let (Policy::Compression { after: Some(after) } | Policy::Retention { after: Some(after) }) = &job.policy
            else {
                continue;
            };
            if after.measure() == Measure::Integer {
                policies.by_integer.insert(hypertable);
            }
            policies.hypertables.push(hypertable);
            policies.kinds.push(if job.policy.kind() == PolicyKind::Compression { "compression" } else { "retention" });
            policies.measures.push(after.measure().as_str());
            policies.ages.push(Age::length(*after));
        }
        policies
    }
}

impl Session {
    /// Reads sizes, ages and backlogs, by the policies in the catalog: dearer than the observation, and for a session of its
    /// own, whose settings it changes.
    pub async fn statistics(&self, catalog: &Catalog) -> Result<Statistics, Failure> {
        let policies = Policies::of(catalog);
        self.execute(&set_limits("SET", READING)).await?;
        if let Err(failure) = self.read_clocks(&policies.by_integer).await {
            // Backlogs of these hypertables are then not known.
            tracing::debug!("integer_now functions could not be called: {failure}");
        }
        let read = async {
            self.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
            let Policies { hypertables, kinds, measures, ages, .. } = &policies;
            let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
                (hypertables, Type::INT4_ARRAY),
                (kinds, Type::TEXT_ARRAY),
                (measures, Type::TEXT_ARRAY),
                (ages, Type::TEXT_ARRAY),
            ];
            let (tables, database, other_jobs) = futures::try_join!(
                self.query(TABLES, &parameters),
                self.query(DATABASE, &[]),
                self.query(OTHER_JOBS, &[])
            )?;
            let tables = named::<TableStatistics>(&tables)?.into_iter().collect();
            let other_jobs: Vec<OtherJob> = all(&other_jobs)?;
            Ok(Statistics { database: one(&database)?, tables, other_jobs })
        };
        let read = read.await;
        // Also after an error: the session must not stay in a failed transaction.
        let ended = self.execute("ROLLBACK").await;
        let statistics = read?;
        ended?;
        Ok(statistics)
    }

    /// Leaves what time it is for these hypertables in a setting of the session.
    pub(super) async fn read_clocks(&self, hypertables: &BTreeSet<i32>) -> Result<(), Failure> {
        if hypertables.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = hypertables.iter().map(i32::to_string).collect();
        self.execute(&format!("BEGIN READ ONLY; {}", set_limits("SET LOCAL", CLOCKS))).await?;
        let read = async {
            self.execute(&format!("SET timescaledb_policy_operator.integer_now = '[{}]'", ids.join(", "))).await?;
            self.statement(INTEGER_NOW, CLOCKS).await
        };
        let read = read.await;
        self.execute(if read.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
        read.map(drop)
    }
}
