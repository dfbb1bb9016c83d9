//! The operator as a process: client, HTTP endpoints, signals, controller.

use std::{sync::Arc, time::Duration};

use http::header::{HeaderValue, USER_AGENT};
use kube::{Client, Config};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    args::Run,
    controller::{self, Health, Settings},
    error::chain,
    metrics::Metrics,
    monitoring::Board,
    server, telemetry,
};

/// Runs the operator until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start: no kubeconfig, a port that is taken, a log filter that does not parse.
pub async fn run(options: Run) -> Result<(), String> {
    let Run { listen, concurrency, log, log_format, instance } = options;
    telemetry::start(&log, log_format)?;
    let client = client().await?;
    let listener = TcpListener::bind(listen).await.map_err(|e| format!("--listen {listen}: {e}"))?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), listen = %address, "started");

    let (stop, stopping) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| e.to_string())?;
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        stop.send_replace(true);
    });

    let metrics = Metrics::default();
    let health = Arc::new(Health::default());
    let http = tokio::spawn(server::serve(listener, health.clone(), metrics.clone(), stopping.clone()));
    let board = Board::default();
    controller::run(client, Settings { concurrency, instance }, metrics, board, health, stopping).await;
    tracing::info!("stopped");
    // A scrape under way must not hold up the end.
    match tokio::time::timeout(Duration::from_secs(1), http).await {
        Ok(Ok(Err(error))) => Err(format!("the HTTP endpoints failed: {error}")),
        _ => Ok(()),
    }
}

/// A client with what kube leaves out: a bound on reads, and a name for the server's audit log and managed fields.
async fn client() -> Result<Client, String> {
    let mut config = Config::infer().await.map_err(|e| format!("no cluster to talk to: {}", chain(&e)))?;
    // Longer than the server keeps a watch open without a word (bookmarks come every minute).
    config.read_timeout = Some(Duration::from_secs(295));
    config.headers.push((
        USER_AGENT,
        HeaderValue::from_static(concat!("timescaledb-policy-operator/", env!("CARGO_PKG_VERSION"))),
    ));
    Client::try_from(config).map_err(|e| format!("no client for the cluster: {}", chain(&e)))
}
