//! The operator as its users meet it: a real API server, a real TimescaleDB, the operator's process and kubectl.
//!
//! Every test has a [`stage::Stage`], that is a namespace with kubectl, and databases of its own. Most share one API
//! server with one operator; a test that reads the operator's metrics, stops it or starts it has a pair of its own. A
//! stage that ends well is swept clean, which holds for all tests what the design promises: everything can be deleted,
//! the operator ends in order, and its log, its statuses and its events hold no password.

mod database;
mod kstatus;
mod manifests;
mod operator;
mod relay;
mod stage;

mod aggregates;
mod alerts;
mod chart;
mod command_line;
mod conflicts;
mod connections;
mod costs;
mod defaults;
mod deletion;
mod examples;
mod fleet;
mod guards;
mod high_availability;
mod jobs;
mod lifecycle;
mod load;
mod metrics;
mod mistakes;
mod monitoring;
mod monitoring_api;
mod namespaces;
mod outage;
mod peers;
mod process;
mod restart;
mod scope;

use std::time::{Duration, Instant};

use crate::support::Result;

/// How long a test waits for what must happen: long enough for two cores that do something else at the same time.
const PATIENCE: Duration = Duration::from_mins(2);
/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(50);

/// Looks again and again until there is something to see.
async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(Some(seen)) => return Ok(seen),
            result if Instant::now() > deadline => {
                let error = result.err().map_or_else(String::new, |error| format!(": {error}"));
                return Err(format!("not seen within {PATIENCE:?}: {what}{error}").into());
            }
            Ok(None) | Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
