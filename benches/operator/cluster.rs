//! An API server with the definitions, and the administrator's view of it.

use futures::{StreamExt, TryStreamExt, stream};
use http::{Method, Request};
use serde_json::{Value, json};
use std::collections::BTreeMap;

use crate::support::{Result, api_server::ApiServer};

const API: &str = "/apis/timescaledb-policy.io/v1alpha1";
/// The namespace of all that the operator looks after.
pub const NAMESPACE: &str = "bench";
/// Requests of the benchmark that are under way at once; as many as the operator's writes for one database.
const CONCURRENT: usize = 8;

pub struct Cluster {
    pub api: ApiServer,
    client: kube::Client,
}

impl Cluster {
    pub async fn start() -> Result<Self> {
        let api = ApiServer::start().await?;
        let definitions = concat!(env!("CARGO_MANIFEST_DIR"), "/crds/");
        for arguments in [
            &["apply", "--server-side", "-f", definitions][..],
            &["wait", "--for=condition=Established", "--timeout=60s", "-f", definitions],
        ] {
            let output = tokio::process::Command::from(api.kubectl(arguments.iter().copied())).output().await?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
            }
        }
        let cluster = Self { client: api.client().await?, api };
        for namespace in [NAMESPACE, "bare"] {
            let manifest = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            cluster.request(Method::POST, "/api/v1/namespaces", "application/json", &manifest).await?;
        }
        Ok(cluster)
    }

    /// A new client, after the server was started anew.
    pub async fn renew(&mut self) -> Result<()> {
        self.client = self.api.client().await?;
        Ok(())
    }

    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    pub async fn request(&self, method: Method, path: &str, content: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request::builder().method(method).uri(path).header("content-type", content).body(body)?;
        Ok(self.client.request(request).await?)
    }

    fn path(namespace: &str, kind: &str, name: &str) -> String {
        format!("{API}/namespaces/{namespace}/{kind}/{name}")
    }

    /// Writes the secret of a database.
    pub async fn secret(&self, name: &str, keys: &Value) -> Result<()> {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": keys});
        let path = format!("/api/v1/namespaces/{NAMESPACE}/secrets/{name}?fieldManager=bench&force=true");
        self.request(Method::PATCH, &path, "application/apply-patch+yaml", &secret).await.map(drop)
    }

    /// Creates a `TimescaleDatabase` whose secret has its name.
    pub async fn create_database(&self, name: &str, resync: &str) -> Result<()> {
        let manifest = json!({
            "apiVersion": "timescaledb-policy.io/v1alpha1", "kind": "TimescaleDatabase", "metadata": {"name": name},
            "spec": {"connection": {"secretRef": {"name": name}}, "resyncInterval": resync},
        });
        self.create(NAMESPACE, [("timescaledatabases", manifest)]).await
    }

    /// Creates all of these.
    pub async fn create(&self, namespace: &str, all: impl IntoIterator<Item = (&'static str, Value)>) -> Result<()> {
        let create = async |(kind, manifest): (&'static str, Value)| {
            let path = format!("{API}/namespaces/{namespace}/{kind}");
            self.request(Method::POST, &path, "application/json", &manifest).await.map(drop)
        };
        stream::iter(all).map(create).buffer_unordered(CONCURRENT).try_collect::<()>().await
    }

    /// Applies these statuses, by kind and name.
    pub async fn apply_statuses(&self, namespace: &str, all: &[(&'static str, Value)]) -> Result<()> {
        let apply = async |(kind, object): &(&'static str, Value)| {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let path = format!("{}/status?fieldManager=bench&force=true", Self::path(namespace, kind, name));
            let body = json!({
                "apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": {"name": name},
                "status": object["status"],
            });
            self.request(Method::PATCH, &path, "application/apply-patch+yaml", &body).await.map(drop)
        };
        stream::iter(all).map(apply).buffer_unordered(CONCURRENT).try_collect::<()>().await
    }

    pub async fn get(&self, kind: &str, name: &str) -> Result<Value> {
        self.request(Method::GET, &Self::path(NAMESPACE, kind, name), "application/json", &Value::Null).await
    }

    /// All objects of these kinds, a page at a time.
    pub async fn list(&self, kinds: &[&'static str]) -> Result<Vec<(&'static str, Value)>> {
        let mut objects = Vec::new();
        for kind in kinds {
            let mut next = String::new();
            loop {
                let path = format!("{API}/namespaces/{NAMESPACE}/{kind}?limit=500&continue={next}");
                let mut list = self.request(Method::GET, &path, "application/json", &Value::Null).await?;
                if let Value::Array(mut items) = list["items"].take() {
                    for item in &mut items {
                        item["apiVersion"] = list["apiVersion"].clone();
                        item["kind"] = list["kind"].as_str().unwrap_or_default().trim_end_matches("List").into();
                    }
                    objects.extend(items.into_iter().map(|item| (*kind, item)));
                }
                next = list["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
                if next.is_empty() {
                    break;
                }
            }
        }
        Ok(objects)
    }

    /// A merge patch of the spec. Returns the new generation.
    pub async fn patch(&self, kind: &str, name: &str, spec: Value) -> Result<i64> {
        let (path, patch) = (Self::path(NAMESPACE, kind, name), json!({"spec": spec}));
        let now = self.request(Method::PATCH, &path, "application/merge-patch+json", &patch).await?;
        now["metadata"]["generation"].as_i64().ok_or_else(|| "no generation".into())
    }

    /// Requests that the server has answered, by verb and resource: for our kinds, secrets and events.
    pub async fn requests(&self) -> Result<Requests> {
        let text = self.client.request_text(Request::get("/metrics").body(Vec::new())?).await?;
        let mut requests = Requests::default();
        for line in text.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
            let Some((labels, count)) = line.rsplit_once(' ') else { continue };
            let label = |name: &str| {
                let (_, rest) = labels.split_once(&format!("{name}=\""))?;
                rest.split_once('"').map(|(value, _)| value.to_owned())
            };
            let (verb, group) = (label("verb").unwrap_or_default(), label("group").unwrap_or_default());
            let resource = label("resource").unwrap_or_default();
            if group == "timescaledb-policy.io" || ["events", "secrets"].contains(&resource.as_str()) {
                let subresource = label("subresource").unwrap_or_default();
                *requests.0.entry((verb, resource, subresource)).or_default() += count.parse::<f64>()? as u64;
            }
        }
        Ok(requests)
    }
}

/// Counts by verb, resource and subresource.
#[derive(Clone, Debug, Default)]
pub struct Requests(BTreeMap<(String, String, String), u64>);

impl Requests {
    /// What came since.
    pub fn since(&self, before: &Self) -> Self {
        let since = |(key, count): (&(String, String, String), &u64)| {
            let more = count - before.0.get(key).copied().unwrap_or_default();
            (more > 0).then(|| (key.clone(), more))
        };
        Self(self.0.iter().filter_map(since).collect())
    }

    pub fn all(&self) -> u64 {
        self.0.values().sum()
    }

    /// Lists of our kinds.
    pub fn lists(&self) -> u64 {
        let lists = self.0.iter().filter(|((verb, resource, _), _)| verb == "LIST" && resource != "secrets");
        lists.map(|(_, count)| count).sum()
    }

    pub fn writes(&self) -> u64 {
        let writes = ["APPLY", "PATCH", "POST", "PUT", "DELETE"];
        self.0.iter().filter(|((verb, _, _), _)| writes.contains(&verb.as_str())).map(|(_, count)| count).sum()
    }
}
