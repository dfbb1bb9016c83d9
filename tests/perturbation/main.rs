//! The operator under the three perturbations of Sieve (Sun et al., OSDI 2022), as a black box.
//!
//! Between the operator and its servers stand two proxies: one knows PostgreSQL's protocol and counts statements, the
//! other knows HTTP and counts writes to the Kubernetes API. They need nothing of the operator but its binary:
//!
//! - [`crashes`]: the operator is killed right after the n-th statement, or the n-th write to the API, was carried out and
//!   before it heard of that; then it is started again. Whatever n is, the end must be the one of an undisturbed run, and
//!   what was committed must be the same statements, each as often.
//! - [`stale`]: an operator sees the cluster as it was a while ago. It must not undo or tighten anything for a resource
//!   that says otherwise by now.
//! - [`unobserved`]: changes that no watch ever tells. The operator must come to what is there now.
//!
//! `cargo test` takes a few points of the first; `PERTURBATION=all` takes every one (`make perturbation`), and a list of
//! points takes those (`PERTURBATION=sql:17,api:3`).

#![allow(clippy::pedantic, reason = "tests are written to be read")]
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail like tests")]

#[path = "../support/mod.rs"]
mod support;

mod api_proxy;
mod operator;
mod plant;
mod sql_proxy;
mod state;
mod workload;

mod crashes;
mod stale;
mod unobserved;

use std::time::{Duration, Instant};

use support::Result;

/// How long a test waits for what must happen: long enough for two cores that do something else at the same time.
const PATIENCE: Duration = Duration::from_mins(2);
/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(25);

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
