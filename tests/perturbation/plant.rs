//! A namespace and a schema of the same name, with an operator that reaches both through proxies.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{
    api_proxy::{API, ApiProxy, KINDS},
    eventually,
    operator::Operator,
    sql_proxy::SqlProxy,
    state::{State, anonymous},
};
use crate::support::{Result, api_server::ApiServer, timescaledb::TimescaleDb};

/// Rows of the table `readings`, which nothing takes away.
pub const ROWS: i64 = 10;

/// WebAssembly servers that a test has left clean, for the next one: each takes seconds to start.
static CLEAN: Mutex<Vec<TimescaleDb>> = Mutex::new(Vec::new());
static NAMESPACES: AtomicUsize = AtomicUsize::new(0);

/// A database for one plant after the other.
pub async fn take_database() -> Result<TimescaleDb> {
    let clean = CLEAN.lock().unwrap_or_else(PoisonError::into_inner).pop();
    match clean {
        Some(database) => Ok(database),
        None => TimescaleDb::start().await,
    }
}

/// Gives back a database whose plants have all ended.
pub async fn give_back(database: TimescaleDb) -> Result<()> {
    if database.is_native() {
        return database.stop().await;
    }
    CLEAN.lock().unwrap_or_else(PoisonError::into_inner).push(database);
    Ok(())
}

/// One namespace with what belongs to it.
pub struct Plant<'a> {
    pub database: &'a TimescaleDb,
    pub namespace: String,
    pub sql: tokio_postgres::Client,
    pub operator: Arc<Operator>,
    pub sql_proxy: SqlProxy,
    pub api_proxy: ApiProxy,
    client: Client,
}

impl<'a> Plant<'a> {
    /// A plant with its secret and its schema, and nothing else. The operator does not run yet.
    pub async fn new(database: &'a TimescaleDb) -> Result<Self> {
        static DEFINED: OnceCell<()> = OnceCell::const_new();
        let api = ApiServer::shared().await?;
        DEFINED.get_or_try_init(|| define(api)).await?;
        let client = api.client().await?;
        // All of one length: names of one run are replaced in its texts.
        let namespace = format!("perturbed{:04}", NAMESPACES.fetch_add(1, Ordering::Relaxed));
        let operator = Arc::new(Operator::new()?);
        let plant = Self {
            sql_proxy: SqlProxy::to(format!("{}:{}", database.host(), database.port()), operator.clone()).await?,
            api_proxy: ApiProxy::to(client.clone(), &namespace, operator.clone()).await?,
            sql: database.connect().await?,
            database,
            namespace,
            operator,
            client,
        };
        let manifest = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": plant.namespace}});
        plant.request(Method::POST, "/api/v1/namespaces", Some(manifest)).await?;
        plant.secret(plant.sql_proxy.port()).await?;
        plant.run(&format!("CREATE SCHEMA {}", plant.namespace)).await?;
        Ok(plant)
    }

    /// Another operator for the same namespace, with a view of its own.
    pub async fn another_view(&self) -> Result<(Arc<Operator>, ApiProxy)> {
        let operator = Arc::new(Operator::new()?);
        let proxy = ApiProxy::to(self.client.clone(), &self.namespace, operator.clone()).await?;
        Ok((operator, proxy))
    }

    // ---- the database

    pub async fn run(&self, statements: &str) -> Result<()> {
        Ok(self.sql.batch_execute(statements).await?)
    }

    /// The one value of a query. `plant` in it stands for the schema.
    pub async fn value<T: for<'b> tokio_postgres::types::FromSql<'b>>(&self, query: &str) -> Result<T> {
        let query = query.replace("plant.", &format!("{}.", self.namespace));
        Ok(self.sql.query_one(&query, &[]).await?.try_get(0)?)
    }

    /// How many policies there are: `retention`, `compression` or `refresh_continuous_aggregate`.
    pub async fn policies(&self, kind: &str) -> Result<i64> {
        let jobs = "SELECT count(*) FROM timescaledb_information.jobs WHERE job_id >= 1000 AND proc_name";
        self.value(&format!("{jobs} = 'policy_{kind}'")).await
    }

    /// After which age the retention of the table drops, in days; nothing where there is none.
    pub async fn drops_after(&self, table: &str) -> Result<Option<i32>> {
        self.value(&format!(
            "SELECT max(extract(epoch FROM (config ->> 'drop_after')::interval) / 86400)::int \
             FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention' AND hypertable_name = '{table}'"
        ))
        .await
    }

    /// What the operator committed so far, without what names this run.
    pub fn committed(&self) -> Vec<String> {
        self.sql_proxy.committed().iter().map(|text| anonymous(text, &self.namespace)).collect()
    }

    // ---- the resources

    /// Writes the secret of the database, which leads to this port.
    pub async fn secret(&self, port: u16) -> Result<()> {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "plant"},
            "stringData": {
                "host": "127.0.0.1", "port": port.to_string(), "dbname": self.database.dbname(),
                "username": self.database.user(), "password": self.database.password(),
            },
        });
        let path = format!("/api/v1/namespaces/{}/secrets/plant?fieldManager=test&force=true", self.namespace);
        self.request(Method::PATCH, &path, Some(secret)).await.map(drop)
    }

    /// Applies a spec: creates the object, or changes the fields that are given.
    pub async fn apply(&self, kind: &str, name: &str, spec: &Value) -> Result<()> {
        let path = self.path(kind, name);
        let object = json!({"metadata": {"name": name}, "spec": spec});
        let merge = Request::patch(&path).header("content-type", "application/merge-patch+json");
        match self.client.request::<Value>(merge.body(object.to_string().into_bytes())?).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            result => return Ok(result.map(drop)?),
        }
        let mut object = object;
        object["apiVersion"] = "timescaledb-policy.io/v1alpha1".into();
        object["kind"] = kind_of(kind).into();
        let path = format!("{API}/namespaces/{}/{kind}", self.namespace);
        self.request(Method::POST, &path, Some(object)).await.map(drop)
    }

    /// Asks for the deletion; what holds a finalizer stays until the operator lets go of it.
    pub async fn delete(&self, kind: &str, name: &str) -> Result<()> {
        self.request(Method::DELETE, &self.path(kind, name), None).await.map(drop)
    }

    /// Deletes an object whatever holds it, as an impatient person does.
    pub async fn force_away(&self, kind: &str, name: &str) -> Result<()> {
        let none = json!({"metadata": {"finalizers": null}}).to_string().into_bytes();
        self.delete(kind, name).await?;
        let merge = Request::patch(self.path(kind, name)).header("content-type", "application/merge-patch+json");
        match self.client.request::<Value>(merge.body(none)?).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            result => Ok(result.map(drop)?),
        }
    }

    pub async fn get(&self, kind: &str, name: &str) -> Result<Value> {
        self.request(Method::GET, &self.path(kind, name), None).await
    }

    /// Waits until the object is gone.
    pub async fn absent(&self, kind: &str, name: &str) -> Result<()> {
        let what = format!("{kind}/{name} is gone");
        let gone = eventually(&what, async || {
            match self.client.request::<Value>(Request::get(self.path(kind, name)).body(Vec::new())?).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Some(())),
                result => Ok(result.map(|_| None)?),
            }
        });
        gone.await.map_err(|error| format!("{error}; the log:\n{}", self.end_of_log()).into())
    }

    /// All resources of the namespace.
    pub async fn objects(&self) -> Result<Vec<Value>> {
        let mut objects = Vec::new();
        for kind in KINDS {
            let path = format!("{API}/namespaces/{}/{kind}", self.namespace);
            let mut list = self.request(Method::GET, &path, None).await?;
            if let Value::Array(items) = list["items"].take() {
                objects.extend(items);
            }
        }
        Ok(objects)
    }

    pub async fn state(&self) -> Result<State> {
        State::read(&self.sql, &self.objects().await?, &self.namespace).await
    }

    fn path(&self, kind: &str, name: &str) -> String {
        format!("{API}/namespaces/{}/{kind}/{name}", self.namespace)
    }

    async fn request(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let content = if method == Method::PATCH { "application/apply-patch+yaml" } else { "application/json" };
        let body = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
        let request = Request::builder().method(method).uri(path).header("content-type", content).body(body)?;
        Ok(self.client.request(request).await?)
    }

    // ---- the operator

    pub fn start(&self) -> Result<()> {
        self.operator.start(&self.api_proxy.kubeconfig())
    }

    /// Starts the operator again if it was killed, as a kubelet does.
    pub async fn revive(&self) -> Result<()> {
        if self.operator.runs()? {
            return Ok(());
        }
        self.intact().await?;
        self.start()
    }

    /// What holds at every moment: no row is lost, and what a deletion undoes is held by a finalizer, so that no policy
    /// outlives its resource.
    pub async fn intact(&self) -> Result<()> {
        let rows: i64 = self.value("SELECT count(*) FROM plant.readings").await?;
        if rows != ROWS {
            return Err(format!("{rows} of {ROWS} rows are left").into());
        }
        let aggregates: i64 =
            self.value("SELECT count(*) FROM pg_class WHERE oid = to_regclass('plant.hourly')").await?;
        for (there, kind, name) in [
            (self.policies("retention").await?, "retentionpolicies", "readings"),
            (self.policies("compression").await?, "compressionpolicies", "readings"),
            (aggregates, "continuousaggregates", "hourly"),
        ] {
            if there > 0 && self.get(kind, name).await?["metadata"]["finalizers"].is_null() {
                return Err(format!("what {kind}/{name} made is there, and no finalizer holds it").into());
            }
        }
        Ok(())
    }

    /// Waits until all resources are Ready in their present generation, whatever happens to the operator meanwhile.
    pub async fn settled(&self) -> Result<()> {
        let mut last = Vec::new();
        let settled = eventually("every resource is Ready", async || {
            self.revive().await?;
            last = self.objects().await?;
            Ok(last.iter().all(is_ready).then_some(()))
        });
        if let Err(error) = settled.await {
            let unready: Vec<_> = last.iter().filter(|object| !is_ready(object)).collect();
            return Err(format!("{error}; {unready:#?}; the log:\n{}", self.end_of_log()).into());
        }
        Ok(())
    }

    /// Waits until every table and aggregate says its health, which comes from a reading of the sizes.
    pub async fn measured(&self) -> Result<()> {
        eventually("every table says its health", async || {
            let objects = self.objects().await?;
            let mut tables = objects.iter().filter(|object| {
                ["Hypertable", "ContinuousAggregate"].contains(&object["kind"].as_str().unwrap_or(""))
            });
            Ok(tables.all(|table| table["status"]["health"].is_object()).then_some(()))
        })
        .await
    }

    /// Waits until no resource is left.
    pub async fn gone(&self) -> Result<()> {
        let gone = eventually("every resource is gone", async || {
            self.revive().await?;
            Ok(self.objects().await?.is_empty().then_some(()))
        });
        match gone.await {
            Ok(()) => Ok(()),
            Err(error) => Err(format!("{error}; {:#?}; the log:\n{}", self.objects().await, self.end_of_log()).into()),
        }
    }

    /// Waits for so many passes more, from beginning to end, and for the beginning of the next.
    pub async fn passes(&self, more: usize) -> Result<()> {
        let goal = self.api_proxy.passes() + more + 1;
        eventually(&format!("{more} more passes"), async || Ok((self.api_proxy.passes() >= goal).then_some(()))).await
    }

    /// Ends the operator, takes the schema away, and looks for what no perturbation excuses.
    pub async fn end(self) -> Result<()> {
        self.operator.kill();
        let blunders = self.operator.blunders();
        if !blunders.is_empty() {
            return Err(format!("the operator reports defects of its own: {blunders:#?}").into());
        }
        // Whatever the operator had open is rolled back before.
        let drop_schema = format!("SET client_min_messages = error; DROP SCHEMA {} CASCADE", self.namespace);
        eventually("the schema is dropped", async || Ok(Some(self.run(&drop_schema).await?))).await?;
        let jobs = "SELECT delete_job(job_id) FROM timescaledb_information.jobs WHERE job_id >= 1000";
        self.run(jobs).await?;
        // Nobody looks after what is left in the namespace.
        for object in self.objects().await? {
            let (kind, name) = (object["kind"].as_str(), object["metadata"]["name"].as_str());
            let plural = KINDS.iter().find(|plural| Some(kind_of(plural)) == kind);
            if let (Some(plural), Some(name)) = (plural, name) {
                self.force_away(plural, name).await?;
            }
        }
        Ok(())
    }

    pub fn end_of_log(&self) -> String {
        let log = self.operator.log();
        log[log.len().saturating_sub(40)..].join("\n")
    }
}

/// A pause in which nothing is waited for.
pub async fn rest(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

/// The kind of a plural.
fn kind_of(plural: &str) -> &'static str {
    match plural {
        "timescaledatabases" => "TimescaleDatabase",
        "hypertables" => "Hypertable",
        "continuousaggregates" => "ContinuousAggregate",
        "compressionpolicies" => "CompressionPolicy",
        _ => "RetentionPolicy",
    }
}

fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let ready = conditions.and_then(|all| all.iter().find(|condition| condition["type"] == "Ready"));
    ready.is_some_and(|ready| {
        ready["status"] == "True" && ready["observedGeneration"] == object["metadata"]["generation"]
    })
}

/// Applies the definitions of the resources.
async fn define(api: &ApiServer) -> Result<()> {
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
    Ok(())
}
