//! Logs: one line per event on standard error, text or JSON.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// What is left out whatever the filter: the client prints whole response bodies, which can hold what is secret, its
/// runtime repeats what the controller says of a watch, and the driver the server's notices.
const LEFT_OUT: [&str; 3] = ["kube_client=error", "kube_runtime=error", "tokio_postgres=warn"];

/// What is logged whatever the filter: who has read what from the monitoring API.
const ALWAYS: &str = "audit=info";

/// Starts logging with a filter in `tracing`'s syntax, for example `info,timescaledb_policy_operator=debug`.
///
/// # Errors
/// When the filter does not parse.
pub fn start(filter: &str, format: LogFormat) -> Result<(), String> {
    let mut filter = EnvFilter::try_new(filter).map_err(|e| format!("--log {filter}: {e}"))?;
    for directive in LEFT_OUT.into_iter().chain([ALWAYS]) {
        filter = filter.add_directive(directive.parse().map_err(|e| format!("{directive}: {e}"))?);
    }
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            registry.with(fmt::layer().with_writer(std::io::stderr).with_ansi(colours).with_target(false)).init();
        }
        LogFormat::Json => registry.with(fmt::layer().with_writer(std::io::stderr).json().flatten_event(true)).init(),
    }
    Ok(())
}
