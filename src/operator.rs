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
    args::{Election, Run},
    client,
    controller::{self, Health, Settings, scope::Scope},
    error::chain,
    leader::{self, End},
    metrics::Metrics,
    monitoring::Board,
    server::{self, monitoring},
    telemetry,
};

/// Runs the operator until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start: no kubeconfig, a port that is taken, a log filter that does not parse.
pub async fn run(options: Run) -> Result<(), String> {
    let Run {
        listen,
        monitoring,
        concurrency,
        log,
        log_format,
        instance,
        watch_namespaces,
        database_selector,
        defaults,
        election,
    } = options;
    telemetry::start(&log, log_format)?;
    let client = client().await?;
    let election = election.leader_elect.then(|| lease(election, &instance, &client)).transpose()?;
    let listener = TcpListener::bind(listen).await.map_err(|e| format!("--listen {listen}: {e}"))?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let api = monitoring::Api::open(monitoring).await?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), listen = %address, "started");

    let (stop, stopping) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| e.to_string())?;
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        stop.send_replace(true);
    });

    let board = Board::default();
    let metrics = Metrics::new(board.clone());
    let health = Arc::new(Health::default());
    let http = tokio::spawn(server::serve(listener, health.clone(), metrics.clone(), stopping.clone()));
    let scope = Scope { namespaces: watch_namespaces, databases: database_selector.unwrap_or_default() };
    let settings = Settings { concurrency, instance, scope, defaults: defaults.into() };
    let (lead, leading) = watch::channel(election.is_none());
    let api = api.map(|api| {
        let (client, board, health) = (client.clone(), board.clone(), health.clone());
        tokio::spawn(api.serve(client, board, health, leading.clone(), stopping.clone()))
    });
    let run = controller::run(client.clone(), settings, metrics, board, health, leading, stopping);
    match election {
        None => run.await,
        Some(lease) => {
            // Told to stop when all passes have ended: the lease is renewed until then.
            let (ended, has_ended) = watch::channel(false);
            let mut election = tokio::spawn(leader::elect(client, lease, lead, has_ended));
            let end = tokio::select! {
                () = run => {
                    ended.send_replace(true);
                    election.await
                }
                end = &mut election => end,
            };
            match end {
                Ok(End::Stopped) => {}
                Ok(End::Lost(why)) => return Err(format!("{why}; this instance stops, so that two never act")),
                Err(error) => return Err(format!("the leader election broke: {error}")),
            }
        }
    }
    tracing::info!("stopped");
    for served in [Some(http), api].into_iter().flatten() {
        // A scrape under way must not hold up the end.
        if let Ok(Ok(Err(error))) = tokio::time::timeout(Duration::from_secs(1), served).await {
            return Err(format!("the HTTP endpoints failed: {error}"));
        }
    }
    Ok(())
}

/// The lease to hold while acting.
fn lease(options: Election, instance: &str, client: &Client) -> Result<leader::Settings, String> {
    let Election { leader_elect: _, lease_name, lease_namespace, lease_duration, renew_deadline, retry_period } =
        options;
    if renew_deadline >= lease_duration || retry_period >= renew_deadline {
        return Err(format!(
            "--retry-period {retry_period:?} must be less than --renew-deadline {renew_deadline:?}, and that less than --lease-duration {lease_duration:?}"
        ));
    }
    Ok(leader::Settings {
        namespace: lease_namespace.unwrap_or_else(|| client.default_namespace().to_owned()),
        name: lease_name,
        // A container that is started again in the same pod is another instance.
        identity: format!("{instance}_{:08x}", fastrand::u32(..)),
        duration: lease_duration,
        renew_deadline,
        retry_period,
    })
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
    client::connect(config).map_err(|e| format!("no client for the cluster: {}", chain(&e)))
}
