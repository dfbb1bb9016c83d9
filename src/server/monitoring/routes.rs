//! The paths, who may read them, and what they answer.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use axum::{
    BoxError, Json, Router,
    error_handling::HandleErrorLayer,
    extract::{ConnectInfo, Query, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::get,
};
use jiff::Timestamp;
use schemars::{Schema, SchemaGenerator};
use serde::Deserialize;
use tower::{
    ServiceBuilder, limit::GlobalConcurrencyLimitLayer, load_shed::error::Overloaded, timeout::error::Elapsed,
};

use super::{
    App,
    documents::{
        ChunkMetrics, CompressionMetrics, Configuration, DatabaseHealth, HypertableMetrics, Item, List, OperatorHealth,
        TimescaledbHealth, TimescaledbStatus, whole_seconds,
    },
    limits, openapi,
    page::{DEFAULT_LIMIT, MAX_LIMIT, Place},
    problem::Problem,
};
use crate::monitoring::{DatabaseKey, snapshot::Snapshot};

/// The state of the operator itself, for everybody.
pub const HEALTH: &str = "/api/v1/monitoring/health";
/// The description of the API, for everybody.
pub const OPENAPI: &str = "/api/v1/openapi.json";
/// Longest `database`: two names of Kubernetes and the slash between them.
pub const MAX_FILTER: usize = 253 + 1 + 253;

/// Who may read a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Every caller with a token of the cluster.
    Authenticated,
    /// Callers that RBAC lets `get` this non-resource URL. It is not the path itself: the ClusterRole `system:discovery`
    /// lets every caller `get` what begins with `/api/`.
    Granted(&'static str),
}

/// A path that lists something of each database.
pub struct Endpoint {
    /// The path.
    pub path: &'static str,
    /// Who may read it.
    pub readers: Readers,
    /// What it lists, in a line.
    pub summary: &'static str,
    /// The schema of the answer.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    answer: fn(&Snapshots, &Parameters, Timestamp) -> Result<Response, Problem>,
}

type Snapshots = BTreeMap<DatabaseKey, Arc<Snapshot>>;

impl Endpoint {
    const fn of<T: Item>(path: &'static str, readers: Readers, summary: &'static str) -> Self {
        Self { path, readers, summary, schema: SchemaGenerator::subschema_for::<List<T>>, answer: list::<T> }
    }
}

/// The paths that ask for a token.
pub static ENDPOINTS: [Endpoint; 7] = [
    Endpoint::of::<DatabaseHealth>(
        "/api/v1/monitoring/health/database",
        Readers::Granted("/timescaledb-policy.io/monitoring/health/database"),
        "The operator's sessions with each database, and what failed last",
    ),
    Endpoint::of::<TimescaledbHealth>(
        "/api/v1/monitoring/health/timescaledb",
        Readers::Granted("/timescaledb-policy.io/monitoring/health/timescaledb"),
        "Versions, licence, background workers and jobs of each database",
    ),
    Endpoint::of::<HypertableMetrics>(
        "/api/v1/monitoring/metrics/hypertables",
        Readers::Granted("/timescaledb-policy.io/monitoring/metrics/hypertables"),
        "Figures of each hypertable and continuous aggregate",
    ),
    Endpoint::of::<CompressionMetrics>(
        "/api/v1/monitoring/metrics/compression",
        Readers::Granted("/timescaledb-policy.io/monitoring/metrics/compression"),
        "Compression of each hypertable and continuous aggregate for which it is enabled",
    ),
    Endpoint::of::<ChunkMetrics>(
        "/api/v1/monitoring/metrics/chunks",
        Readers::Granted("/timescaledb-policy.io/monitoring/metrics/chunks"),
        "The chunks of each hypertable and continuous aggregate, summed up",
    ),
    Endpoint::of::<TimescaledbStatus>(
        "/api/v1/monitoring/status/timescaledb",
        Readers::Authenticated,
        "Each database at a glance",
    ),
    Endpoint::of::<Configuration>(
        "/api/v1/monitoring/configuration",
        Readers::Granted("/timescaledb-policy.io/monitoring/configuration"),
        "The settings in force of each resource, and the layer that each came from",
    ),
];

/// All routes with their limits.
pub fn router(app: App) -> Router {
    let limits = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(overdue))
        .load_shed()
        .layer(GlobalConcurrencyLimitLayer::new(limits::REQUESTS))
        .timeout(limits::REQUEST_TIME);
    let mut router = Router::new().route(HEALTH, get(health)).route(OPENAPI, get(description));
    for endpoint in &ENDPOINTS {
        let answer =
            move |State(app): State<App>,
                  ConnectInfo(client): ConnectInfo<SocketAddr>,
                  headers: HeaderMap,
                  uri: Uri| async move { guarded(endpoint, &app, client, &headers, &uri).await };
        router = router.route(endpoint.path, get(answer));
    }
    router
        .fallback(async |uri: Uri| {
            Problem::new(StatusCode::NOT_FOUND, format!("there is no {}; {OPENAPI} lists the paths", uri.path()))
        })
        .method_not_allowed_fallback(async |method: Method| {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not possible, only GET and HEAD"))
        })
        .layer(limits)
        .layer(map_response(with_headers))
        .with_state(app)
}

/// What the limits answer.
async fn overdue(error: BoxError) -> Problem {
    if error.is::<Overloaded>() {
        Problem::unavailable("too many requests at once; try again")
    } else if error.is::<Elapsed>() {
        Problem::unavailable(format!("not done within {} seconds; try again", limits::REQUEST_TIME.as_secs()))
    } else {
        tracing::error!(%error, "the monitoring API");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the log of the operator says more")
    }
}

/// Answers are for whoever asked, and are what they say they are.
async fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn description() -> Json<&'static serde_json::Value> {
    Json(openapi::document())
}

async fn health(State(app): State<App>) -> Result<Json<OperatorHealth>, Problem> {
    is_up(&app)?;
    let (snapshots, leading) = (app.board.all(), *app.leading.borrow());
    Ok(Json(OperatorHealth::of(snapshots.values().map(|snapshot| &**snapshot), leading, Timestamp::now())))
}

/// The operator has something to answer with.
fn is_ready(app: &App) -> Result<(), Problem> {
    is_up(app)?;
    if !*app.leading.borrow() {
        return Err(Problem::unavailable(
            "this instance stands by, and has seen no database; the one that leads answers",
        ));
    }
    Ok(())
}

fn is_up(app: &App) -> Result<(), Problem> {
    if !app.health.is_ready() {
        return Err(Problem::unavailable("the operator has not listed all resources yet; try again"));
    }
    if !app.health.is_alive() {
        return Err(Problem::unavailable("the operator's control loop does not turn; its log says more"));
    }
    Ok(())
}

/// What a caller can say in the query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    database: Option<String>,
    limit: Option<usize>,
    r#continue: Option<String>,
}

/// Answers whoever may read the path, and leaves a line in the audit log whatever comes of it.
async fn guarded(
    endpoint: &'static Endpoint,
    app: &App,
    client: SocketAddr,
    headers: &HeaderMap,
    uri: &Uri,
) -> Response {
    let parameters = parameters(uri);
    let filter = parameters.as_ref().ok().and_then(|parameters| parameters.database.clone());
    let (user, answer) = match app.gate.caller(headers).await {
        Err(problem) => (None, Err(problem)),
        Ok(caller) => {
            let granted = match endpoint.readers {
                Readers::Authenticated => Ok(()),
                Readers::Granted(url) => app.gate.may_get(&caller, url).await,
            };
            let answer = granted.and(parameters).and_then(|parameters| {
                is_ready(app)?;
                (endpoint.answer)(&app.board.all(), &parameters, Timestamp::now())
            });
            (Some(caller), answer)
        }
    };
    let response = answer.into_response();
    let (user, client) = (user.as_ref().map(super::access::Caller::name), client.ip());
    let (path, code) = (endpoint.path, response.status().as_u16());
    tracing::info!(target: "audit", user, path, database = filter, code, %client, "monitoring API");
    response
}

/// The query, read.
fn parameters(uri: &Uri) -> Result<Parameters, Problem> {
    let Query(parameters) = Query::<Parameters>::try_from_uri(uri)
        .map_err(|rejection| Problem::new(StatusCode::BAD_REQUEST, rejection.body_text()))?;
    if parameters.database.as_ref().is_some_and(|filter| filter.is_empty() || filter.len() > MAX_FILTER) {
        return Err(Problem::parameter("database", "write the name of a TimescaleDatabase, or namespace/name"));
    }
    if parameters.limit.is_some_and(|limit| !(1..=MAX_LIMIT).contains(&limit)) {
        return Err(Problem::parameter("limit", &format!("it must be between 1 and {MAX_LIMIT}")));
    }
    Ok(parameters)
}

/// The part of a list that was asked for.
fn list<T: Item>(snapshots: &Snapshots, parameters: &Parameters, now: Timestamp) -> Result<Response, Problem> {
    Ok(Json(part::<T>(snapshots, parameters, now)?).into_response())
}

fn part<T: Item>(snapshots: &Snapshots, parameters: &Parameters, now: Timestamp) -> Result<List<T>, Problem> {
    let wanted = |(namespace, name): &DatabaseKey| match &parameters.database {
        None => true,
        Some(filter) => match filter.split_once('/') {
            Some((in_namespace, named)) => in_namespace == namespace && named == name,
            None => filter == name,
        },
    };
    if let Some(filter) = parameters.database.as_ref().filter(|_| !snapshots.keys().any(wanted)) {
        return Err(Problem::new(StatusCode::NOT_FOUND, format!("no TimescaleDatabase {filter} is looked after")));
    }
    let after = match &parameters.r#continue {
        None => None,
        Some(token) => Some(Place::of_token(token).ok_or_else(|| {
            Problem::parameter("continue", "it is not what an answer of this API gave; begin without it")
        })?),
    };
    let limit = parameters.limit.unwrap_or(DEFAULT_LIMIT);
    let (mut items, mut last, mut is_more) = (Vec::new(), None, false);
    'all: for (key, snapshot) in snapshots.iter().filter(|(key, _)| wanted(key)) {
        let (namespace, database) = key;
        if after.as_ref().is_some_and(|after| (&after.namespace, &after.database) > (namespace, database)) {
            continue;
        }
        let mut of_database: Vec<_> = T::of(key, snapshot, now).into_iter().map(|item| (item.key(), item)).collect();
        of_database.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (item_key, item) in of_database {
            let place = Place { namespace: namespace.clone(), database: database.clone(), item: item_key };
            if after.as_ref().is_some_and(|after| place <= *after) {
                continue;
            }
            if items.len() == limit {
                is_more = true;
                break 'all;
            }
            items.push(item);
            last = Some(place);
        }
    }
    let r#continue = last.filter(|_| is_more).map(|place| place.token());
    Ok(List { generated_at: whole_seconds(now), items, r#continue })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::{body::Body, extract::connect_info::MockConnectInfo, http};
    use kube::Client;
    use serde_json::{Value, json};
    use tower::{ServiceExt as _, service_fn};

    use super::{super::access::Gate, *};
    use crate::{controller::Health, monitoring::Board};

    /// Routes with an API server that answers like this.
    fn routes_with<F>(answer: impl Fn(String) -> F + Clone + Send + 'static) -> Router
    where
        F: Future<Output = Value> + Send + 'static,
    {
        let service = service_fn(move |request: http::Request<kube::client::Body>| {
            let answer = answer(request.uri().path().to_owned());
            async move { Ok::<_, BoxError>(http::Response::new(Body::from(answer.await.to_string()))) }
        });
        let gate = Gate::new(Client::new(service, "default"));
        let (_, leading) = tokio::sync::watch::channel(true);
        let app = App { board: Board::default(), health: Arc::new(Health::default()), leading, gate };
        router(app).layer(MockConnectInfo(SocketAddr::from(([127, 0, 0, 1], 1))))
    }

    fn request(path: &str, token: &str) -> http::Request<Body> {
        let request = http::Request::get(path).header(header::AUTHORIZATION, format!("Bearer {token}"));
        request.body(Body::empty()).unwrap_or_else(|e| panic!("{e}"))
    }

    async fn status(router: &Router, request: http::Request<Body>) -> u16 {
        let Ok(response) = router.clone().oneshot(request).await;
        response.status().as_u16()
    }

    fn reviewed(path: &str) -> Value {
        match path {
            "/apis/authentication.k8s.io/v1/tokenreviews" => json!({
                "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {"token": "t"},
                "status": {"authenticated": true, "user": {"username": "me"}}
            }),
            _ => json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {}, "spec": {},
                "status": {"allowed": false}
            }),
        }
    }

    #[tokio::test]
    async fn many_requests_with_one_token_are_reviewed_once() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counting = asked.clone();
        let router = routes_with(move |path| {
            counting.fetch_add(1, Ordering::Relaxed);
            async move { reviewed(&path) }
        });
        let granted = ENDPOINTS[0].path;
        let all = (0..20).map(|_| status(&router, request(granted, "t")));
        assert_eq!(futures::future::join_all(all).await, [403; 20]);
        assert_eq!(asked.load(Ordering::Relaxed), 2, "one review of the token, one of the access");
        assert_eq!(status(&router, request(granted, "another")).await, 403);
        assert_eq!(asked.load(Ordering::Relaxed), 4);
    }

    #[tokio::test]
    async fn what_is_too_much_is_refused_and_not_queued() {
        let router = routes_with(|_| std::future::pending());
        let (granted, waiting) = (ENDPOINTS[0].path, Arc::new(AtomicUsize::new(0)));
        for n in 0..limits::REQUESTS {
            let (router, waiting) = (router.clone(), waiting.clone());
            tokio::spawn(async move {
                waiting.fetch_add(1, Ordering::Relaxed);
                status(&router, request(granted, &n.to_string())).await
            });
        }
        while waiting.load(Ordering::Relaxed) < limits::REQUESTS {
            tokio::task::yield_now().await;
        }
        // The probe of a load balancer is a request like the others.
        for path in [granted, HEALTH] {
            let Ok(response) = router.clone().oneshot(request(path, "t")).await;
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap_or_else(|e| panic!("{e}"));
            assert!(String::from_utf8_lossy(&body).contains("too many requests"), "{body:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_no_review_lets_nobody_in() {
        let router = routes_with(|_| async { json!({"kind": "Status", "status": "Success"}) });
        assert_eq!(status(&router, request(ENDPOINTS[0].path, "t")).await, 503);
    }
}
