//! What stands between the operator and the Kubernetes API: plain HTTP towards the operator, the administrator's client
//! towards the server. It shows the operator one namespace, counts its writes, and can show it the past.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::Request,
    response::Response,
};
use futures::{Stream, StreamExt, stream};
use http::{Method, StatusCode, header};
use kube::Client;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::AbortHandle};

use super::operator::{Crash, Operator};
use crate::support::{Error, Result};

/// The API of the operator's kinds.
pub const API: &str = "/apis/timescaledb-policy.io/v1alpha1";
/// Every kind, by its name in the API.
pub const KINDS: [&str; 5] =
    ["timescaledatabases", "hypertables", "continuousaggregates", "compressionpolicies", "retentionpolicies"];

/// A way to the API server.
pub struct ApiProxy {
    port: u16,
    shared: Arc<Shared>,
    serving: AbortHandle,
}

struct Shared {
    client: Client,
    operator: Arc<Operator>,
    /// The only one that the operator sees, so that operators of several tests share a server without meeting.
    namespace: String,
    ledger: Mutex<Ledger>,
    /// What watches tell.
    events: watch::Sender<Events>,
}

#[derive(Default)]
struct Ledger {
    crash: Crash,
    /// Writes that were carried out, without events.
    writes: Vec<String>,
    /// Secrets that were read: the operator reads one at the beginning of every pass.
    secrets_read: usize,
    /// Lists to be given instead of the server's, by path.
    past: HashMap<String, Bytes>,
    delay: Option<(&'static str, Duration)>,
}

#[derive(Clone, Copy, Default)]
struct Events {
    held: bool,
    /// Watches that were opened before this many losses will hear no more than that they are too old.
    losses: usize,
}

/// Lists that the API gave, to be given again.
pub struct Past(HashMap<String, Bytes>);

impl ApiProxy {
    pub async fn to(client: Client, namespace: &str, operator: Arc<Operator>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            client,
            operator,
            namespace: namespace.to_owned(),
            ledger: Mutex::default(),
            events: watch::Sender::default(),
        });
        let state = shared.clone();
        let answer = move |request: Request| {
            let shared = state.clone();
            async move { shared.answer(request).await }
        };
        let serving = tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        Ok(Self { port, shared, serving: serving.abort_handle() })
    }

    /// A kubeconfig that leads here.
    pub fn kubeconfig(&self) -> String {
        let server = format!("http://127.0.0.1:{}", self.port);
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "proxy", "cluster": {"server": server}}],
            "users": [{"name": "proxy", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
            "current-context": "proxy",
        })
        .to_string()
    }

    pub fn crash(&self, crash: Crash) {
        self.ledger().crash = crash;
    }

    /// The writes so far, as `METHOD path`.
    pub fn writes(&self) -> Vec<String> {
        self.ledger().writes.clone()
    }

    /// How many passes have begun.
    pub fn passes(&self) -> usize {
        self.ledger().secrets_read
    }

    /// From here on no watch tells anything, until [`Self::tell`] or [`Self::lose`].
    pub fn hold(&self) {
        self.shared.events.send_modify(|events| events.held = true);
    }

    /// Watches tell what happened meanwhile.
    pub fn tell(&self) {
        self.shared.events.send_modify(|events| events.held = false);
    }

    /// What happened meanwhile is lost: every watch says that its version is too old, so that the operator lists again.
    pub fn lose(&self) {
        self.shared.events.send_modify(|events| *events = Events { held: false, losses: events.losses + 1 });
    }

    /// The lists as the server has them now.
    pub async fn record(&self) -> Result<Past> {
        let mut past = HashMap::new();
        for kind in KINDS {
            let path = format!("{API}/namespaces/{}/{kind}", self.shared.namespace);
            let request = http::Request::get(&path).body(Vec::new())?;
            past.insert(path, self.shared.client.request_text(request).await?.into());
        }
        Ok(Past(past))
    }

    /// Lists of this kind take so long.
    pub fn delay(&self, kind: &'static str, by: Duration) {
        self.ledger().delay = Some((kind, by));
    }

    /// Gives the old lists, and holds back what watches would tell.
    pub fn go_back(&self, past: &Past) {
        self.hold();
        self.ledger().past.clone_from(&past.0);
    }

    /// The present: watches tell all that happened since.
    pub fn catch_up(&self) {
        self.ledger().past.clear();
        self.tell();
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.shared.ledger()
    }
}

impl Drop for ApiProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request) -> Response {
        self.forward(request).await.unwrap_or_else(|error| {
            let mut response = Response::new(Body::from(error.to_string()));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        })
    }

    async fn forward(&self, request: Request) -> Result<Response> {
        let (mut head, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await?;
        let path = self.within_namespace(head.uri.path());
        let query = head.uri.query().map_or_else(String::new, |query| format!("?{query}"));
        let watches = query.contains("watch=true") || query.contains("watch=1");
        head.uri = format!("{path}{query}").parse()?;
        head.headers.remove(header::HOST);
        head.headers.remove(header::CONTENT_LENGTH);

        if path.contains("/secrets/") {
            self.ledger().secrets_read += 1;
        }
        let lists = head.method == Method::GET && !watches;
        let delay = self.ledger().delay.filter(|(kind, _)| lists && path.ends_with(kind));
        if let Some((_, delay)) = delay {
            tokio::time::sleep(delay).await;
        }
        let past = self.ledger().past.get(&path).filter(|_| lists).cloned();
        if let Some(past) = past {
            return Ok(Response::builder().header(header::CONTENT_TYPE, "application/json").body(Body::from(past))?);
        }
        let losses = self.events.borrow().losses;
        let method = head.method.clone();
        let answer = self.client.send(http::Request::from_parts(head, body.to_vec().into())).await?;
        let (head, body) = answer.into_parts();
        if watches && head.status.is_success() {
            let told = told(Body::new(body).into_data_stream(), self.events.subscribe(), losses);
            return Ok(Response::builder().status(head.status).body(Body::from_stream(told))?);
        }
        let body = to_bytes(Body::new(body), usize::MAX).await?;
        if method != Method::GET && head.status.is_success() && !path.contains("/events") {
            let mut ledger = self.ledger();
            ledger.writes.push(format!("{method} {path}"));
            if ledger.crash.is_due(ledger.writes.len()) {
                self.operator.kill();
            }
        }
        let content = head.headers.get(header::CONTENT_TYPE).cloned();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = head.status;
        response.headers_mut().extend(content.map(|content| (header::CONTENT_TYPE, content)));
        Ok(response)
    }

    /// What is asked of all namespaces is asked of the one.
    fn within_namespace(&self, path: &str) -> String {
        match path.strip_prefix(API).and_then(|rest| rest.strip_prefix('/')) {
            Some(kind) if KINDS.contains(&kind) => format!("{API}/namespaces/{}/{kind}", self.namespace),
            _ => path.to_owned(),
        }
    }
}

/// The events of a watch, held back and lost as it is asked for.
fn told(
    events: impl Stream<Item = Result<Bytes, axum::Error>> + Send + Unpin + 'static,
    state: watch::Receiver<Events>,
    losses: usize,
) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static {
    stream::unfold(Some((events, state, losses)), async |watching| {
        let (mut events, mut state, losses) = watching?;
        let mut next = None;
        loop {
            let Events { held, losses: now } = *state.borrow_and_update();
            if now != losses {
                return Some((Ok(too_old()), None));
            }
            if !held && let Some(next) = next {
                return Some((Ok(next), Some((events, state, losses))));
            }
            tokio::select! {
                changed = state.changed() => changed.ok()?,
                event = events.next(), if next.is_none() => next = Some(event?.ok()?),
            }
        }
    })
}

fn too_old() -> Bytes {
    let status: Value = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "too old resource version", "reason": "Expired", "code": 410,
    });
    format!("{}\n", json!({"type": "ERROR", "object": status})).into()
}
