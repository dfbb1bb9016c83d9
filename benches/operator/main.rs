//! What the operator costs, beside the raw cost, in one run: `make bench`.
//!
//! A real Kubernetes API server, a real TimescaleDB and the release binary. The jobs of all policies start in the year
//! 2100, so that nothing but the operator works. On a native server (`TIMESCALEDB_URL`) the report goes to
//! `docs/benchmarks.md` and its plots beside it; without one, few resources are measured on WebAssembly, and the report is
//! printed.

#![allow(clippy::pedantic, reason = "written to be read")]
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that fails has no figures")]

#[path = "../../tests/support/mod.rs"]
mod support;

mod catalog;
mod changes;
mod cluster;
mod database;
mod fleet;
mod growth;
mod long;
mod ms5;
mod operator;
mod plots;
mod relay;
mod report;
mod workload;

use std::time::{Duration, Instant};

use support::Result;

/// How long one thing is waited for.
const PATIENCE: Duration = Duration::from_mins(10);

/// Looks again and again, with these pauses, until there is something to see.
async fn eventually<T>(what: &str, pause: Duration, mut look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look().await? {
            return Ok(seen);
        }
        if Instant::now() > deadline {
            return Err(format!("not seen within {PATIENCE:?}: {what}").into());
        }
        tokio::time::sleep(pause).await;
    }
}

/// What is measured. The environment says how much of it.
pub struct Extent {
    /// Numbers of resources.
    pub sizes: Vec<usize>,
    /// Changes whose latency is measured, for each distribution.
    pub changes: usize,
    /// Databases of the fleet, with a hundred resources each. None: no fleet.
    pub fleet: usize,
    /// Chunks of the large catalogs. None: no such.
    pub chunks: Vec<usize>,
    /// Rows that a long statement is about. None: no long statements.
    pub long_rows: usize,
    /// Rows of the factory's largest table in a second. None: no factory.
    pub ms5_rate: usize,
}

impl Extent {
    fn from_environment(native: bool) -> Result<Self> {
        let numbers = |variable: &str, native_default: &str, default: &str| -> Result<Vec<usize>> {
            let text = std::env::var(variable).unwrap_or(if native { native_default } else { default }.to_owned());
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.map(|part| part.parse().map_err(|error| format!("{variable}={text}: {error}").into())).collect()
        };
        let one = |numbers: Vec<usize>| numbers.first().copied().unwrap_or_default();
        Ok(Self {
            sizes: numbers("BENCH_SIZES", "10,100,1000,10000", "10,100")?,
            changes: one(numbers("BENCH_CHANGES", "200", "20")?),
            fleet: one(numbers("BENCH_FLEET", "100", "0")?),
            chunks: numbers("BENCH_CHUNKS", "10000,100000", "")?,
            long_rows: one(numbers("BENCH_LONG_ROWS", "5000000", "0")?),
            ms5_rate: one(numbers("BENCH_MS5_RATE", "20", "0")?),
        })
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    // `cargo test --benches` runs it too, only to see that it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let native = std::env::var_os("TIMESCALEDB_URL").is_some();
    let extent = Extent::from_environment(native)?;
    let mut report = report::Report::begin(native).await?;
    for size in &extent.sizes {
        let grown = growth::measure(*size, &extent).await.map_err(|error| format!("{size} resources: {error}"))?;
        report.grown.push(grown);
        report.save(native)?;
    }
    if extent.fleet > 0 {
        report.fleet = Some(fleet::measure(extent.fleet, extent.changes).await?);
        report.save(native)?;
    }
    // WebAssembly has one session, and a long statement would hold it.
    if native && extent.long_rows > 0 {
        report.long = Some(long::measure(extent.long_rows, extent.changes).await?);
        report.save(native)?;
    }
    if native && extent.ms5_rate > 0 {
        report.ms5 = Some(ms5::measure(extent.ms5_rate).await?);
        report.save(native)?;
    }
    for chunks in &extent.chunks {
        report.catalogs.push(catalog::measure(*chunks).await?);
        report.save(native)?;
    }
    report.print(native);
    Ok(())
}
