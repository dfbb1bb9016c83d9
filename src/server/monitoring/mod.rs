//! The monitoring API: what the operator has observed, as JSON, for callers that Kubernetes knows.
//!
//! ```text
//! connection (bounded, TLS) -> limits -> route -> token and access (Kubernetes) -> snapshots -> JSON -> audit line
//! ```
//!
//! No request ever reaches a database: what is answered is what the passes have left on the [`Board`].

mod access;
pub mod documents;
mod limits;
mod openapi;
mod page;
mod problem;
mod routes;
mod tls;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum_server::Handle;
use kube::Client;
use tokio::{net::TcpListener, sync::watch};

use tls::Certificate;

use crate::{args::MonitoringApi, controller::Health, monitoring::Board};

/// How long requests under way may take to end after the signal to stop.
const DRAIN: Duration = Duration::from_millis(500);

/// What the API answers from.
#[derive(Clone)]
struct App {
    board: Board,
    health: Arc<Health>,
    leading: watch::Receiver<bool>,
    gate: access::Gate,
}

/// The API, listening and not yet served.
#[derive(Debug)]
pub struct Api {
    listener: TcpListener,
    certificate: Option<Certificate>,
}

impl Api {
    /// Listens where the options say; `None` where they do not ask for an API.
    ///
    /// # Errors
    /// When the address is taken, or the certificate cannot be used.
    pub async fn open(options: MonitoringApi) -> Result<Option<Self>, String> {
        let MonitoringApi { monitoring_listen, tls_cert_file, tls_key_file } = options;
        let Some(address) = monitoring_listen else { return Ok(None) };
        let certificate = match (tls_cert_file, tls_key_file) {
            (Some(certificate), Some(key)) => Some(Certificate::read(certificate, key).await?),
            _ => None,
        };
        let listener = TcpListener::bind(address).await.map_err(|e| format!("--monitoring-listen {address}: {e}"))?;
        let (listen, tls) = (listener.local_addr().map_err(|e| e.to_string())?, certificate.is_some());
        tracing::info!(%listen, tls, "the monitoring API listens");
        if !tls && !listen.ip().is_loopback() {
            tracing::warn!("the monitoring API takes tokens in clear text: give it --tls-cert-file and --tls-key-file");
        }
        Ok(Some(Self { listener, certificate }))
    }

    /// Serves until told to stop.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(
        self,
        client: Client,
        board: Board,
        health: Arc<Health>,
        leading: watch::Receiver<bool>,
        mut stop: watch::Receiver<bool>,
    ) -> std::io::Result<()> {
        let Self { listener, certificate } = self;
        let router = routes::router(App { board, health, leading, gate: access::Gate::new(client) });
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let handle = Handle::new();
        let mut server = axum_server::Server::from_listener(listener).handle(handle.clone()).http1_only();
        limits::of_connection(server.http_builder());
        let stopped = async {
            // An error means that whoever could say stop is gone, which says the same.
            let _ = stop.wait_for(|stop| *stop).await;
            handle.graceful_shutdown(Some(DRAIN));
        };
        let bounded = limits::Bounded::new(handle.clone());
        let serving = async {
            match certificate {
                None => server.acceptor(bounded).serve(service).await,
                Some(certificate) => {
                    let acceptor = certificate.acceptor().acceptor(bounded);
                    tokio::select! {
                        result = server.acceptor(acceptor).serve(service) => result,
                        never = certificate.follow() => match never {},
                    }
                }
            }
        };
        let (result, ()) = futures::join!(serving, stopped);
        result
    }
}
