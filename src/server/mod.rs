//! The operator's own HTTP endpoints: probes and metrics here, the monitoring API on a port of its own.

pub mod monitoring;

use std::{convert::Infallible, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use futures::stream;
use tokio::{net::TcpListener, sync::watch};

use crate::{controller::Health, metrics::Metrics};

#[derive(Clone)]
struct App {
    health: Arc<Health>,
    metrics: Metrics,
}

/// Serves `/livez`, `/readyz` and `/metrics` until told to stop.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    health: Arc<Health>,
    metrics: Metrics,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let app = Router::new()
        .route(
            "/livez",
            get(async |State(app): State<App>| probe(app.health.is_alive(), "the control loop does not turn")),
        )
        .route(
            "/readyz",
            get(async |State(app): State<App>| probe(app.health.is_ready(), "the stores are not filled yet")),
        )
        .route(
            "/metrics",
            get(async |State(app): State<App>| {
                let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                let pieces = app.metrics.pieces();
                let length = pieces.iter().map(String::len).sum::<usize>();
                let headers =
                    [(header::CONTENT_TYPE, openmetrics.to_owned()), (header::CONTENT_LENGTH, length.to_string())];
                (headers, Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, Infallible>))))
            }),
        )
        .with_state(App { health, metrics });
    let stopped = async move {
        // An error means that whoever could say stop is gone, which says the same.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    axum::serve(listener, app).with_graceful_shutdown(stopped).await
}

fn probe(good: bool, problem: &'static str) -> impl IntoResponse {
    if good { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, problem) }
}
