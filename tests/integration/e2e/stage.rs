//! A namespace with an operator that looks after it, and kubectl.

use std::{
    fmt::Write as _,
    process::Stdio,
    sync::{Mutex, PoisonError},
};

use http::{Method, Request};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    sync::{OnceCell, Semaphore, SemaphorePermit},
};

use super::{database::Database, eventually, manifests, operator::Operator};
use crate::support::{Result, api_server::ApiServer};

const API: &str = "/apis/timescaledb-policy.io/v1alpha1";
const EVENTS: &str = "/apis/events.k8s.io/v1";
/// Every kind, by the name that kubectl and the API have for many of it.
pub const KINDS: [&str; 5] =
    ["timescaledatabases", "hypertables", "continuousaggregates", "compressionpolicies", "retentionpolicies"];

/// What most tests share.
struct Shared {
    api: ApiServer,
    operator: Operator,
}

static SHARED: OnceCell<Shared> = OnceCell::const_new();
/// API servers that a test has left clean, for the next one.
static CLEAN: Mutex<Vec<ApiServer>> = Mutex::new(Vec::new());
/// API servers that may run at once besides the shared one.
static ROOM: Semaphore = Semaphore::const_new(2);
/// All passwords that were in secrets.
static PASSWORDS: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[allow(clippy::large_enum_variant, reason = "there are few")]
enum Home {
    Shared(&'static Shared),
    Own { api: Option<ApiServer>, operator: Option<Operator>, _room: SemaphorePermit<'static> },
}

/// A namespace, with all that a test does in it.
pub struct Stage {
    home: Home,
    namespace: String,
    client: kube::Client,
    ended: bool,
}

impl Stage {
    /// A namespace of this name, looked after by the operator that most tests share.
    pub async fn shared(namespace: &str) -> Result<Self> {
        let start = async || {
            let api = ApiServer::start().await?;
            define(&api).await?;
            let operator = Operator::start(&api, "info").await?;
            Ok::<_, crate::support::Error>(Shared { api, operator })
        };
        let home = Home::Shared(SHARED.get_or_try_init(start).await?);
        Self::new(home, namespace).await
    }

    /// A namespace of this name on an API server of its own, with the definitions, without an operator.
    pub async fn own(namespace: &str) -> Result<Self> {
        let room = ROOM.acquire().await?;
        let clean = CLEAN.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let api = match clean {
            Some(api) => api,
            None => {
                let api = ApiServer::start().await?;
                define(&api).await?;
                api
            }
        };
        Self::new(Home::Own { api: Some(api), operator: None, _room: room }, namespace).await
    }

    async fn new(home: Home, namespace: &str) -> Result<Self> {
        let client = home.api()?.client().await?;
        let stage = Self { home, namespace: namespace.to_owned(), client, ended: false };
        let manifest = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        stage.request(Method::POST, "/api/v1/namespaces", Some(manifest)).await?;
        Ok(stage)
    }

    pub fn api(&self) -> Result<&ApiServer> {
        self.home.api()
    }

    // ---- the operator

    /// Starts the operator of a stage of its own.
    pub async fn start_operator(&mut self) -> Result<()> {
        self.start_operator_logging("info").await
    }

    pub async fn start_operator_logging(&mut self, log: &str) -> Result<()> {
        let started = Operator::start(self.home.api()?, log).await?;
        if let Home::Own { operator, .. } = &mut self.home {
            *operator = Some(started);
        }
        Ok(())
    }

    /// Starts the operator of a stage of its own with the permissions of whoever the kubeconfig says.
    pub async fn start_operator_as(&mut self, kubeconfig: &std::path::Path) -> Result<()> {
        let started = Operator::start_as(kubeconfig, "info").await?;
        if let Home::Own { operator, .. } = &mut self.home {
            *operator = Some(started);
        }
        Ok(())
    }

    /// Starts the operator of a stage of its own with more options.
    pub async fn start_operator_with(&mut self, options: &[&str]) -> Result<()> {
        let started = Operator::start_with(self.home.api()?.kubeconfig_path(), "info", options).await?;
        if let Home::Own { operator, .. } = &mut self.home {
            *operator = Some(started);
        }
        Ok(())
    }

    pub fn operator(&self) -> Result<&Operator> {
        match &self.home {
            Home::Shared(shared) => Ok(&shared.operator),
            Home::Own { operator, .. } => Ok(operator.as_ref().ok_or("the operator does not run")?),
        }
    }

    /// Gives a stage of its own the operator that looks after it from now on.
    pub fn put_operator(&mut self, started: Operator) {
        if let Home::Own { operator, .. } = &mut self.home {
            *operator = Some(started);
        }
    }

    /// Takes the operator of a stage of its own, to end it.
    pub fn take_operator(&mut self) -> Result<Operator> {
        match &mut self.home {
            Home::Shared(_) => Err("others need the operator too".into()),
            Home::Own { operator, .. } => Ok(operator.take().ok_or("the operator does not run")?),
        }
    }

    // ---- kubectl

    /// Runs kubectl with these words, in the namespace.
    pub async fn kubectl(&self, words: &str) -> Result<String> {
        self.kubectl_with(&words.split_whitespace().collect::<Vec<_>>(), "").await
    }

    /// Runs kubectl with these arguments, in the namespace, and gives it this to read.
    pub async fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        self.kubectl_in(&self.namespace, arguments, input).await
    }

    /// The same in another namespace.
    pub async fn kubectl_in(&self, namespace: &str, arguments: &[&str], input: &str) -> Result<String> {
        let all = ["-n", namespace].into_iter().chain(arguments.iter().copied());
        let mut command = tokio::process::Command::from(self.api()?.kubectl(all));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        let output = child.wait_with_output().await?;
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout)?);
        }
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Err(format!("kubectl {}: {err}{out}", arguments.join(" ")).into())
    }

    /// `kubectl apply` of these documents in one go.
    pub async fn apply(&self, documents: &[String]) -> Result<()> {
        self.kubectl_with(&["apply", "-f", "-"], &documents.concat()).await.map(drop)
    }

    /// `kubectl delete` of these documents in one go, and waits until all are gone.
    pub async fn delete(&self, documents: &[String]) -> Result<()> {
        self.kubectl_with(&["delete", "--timeout=120s", "-f", "-"], &documents.concat()).await.map(drop)
    }

    /// `kubectl patch` of the spec, with a JSON merge patch.
    pub async fn patch(&self, object: &str, spec: &str) -> Result<()> {
        let patch = format!(r#"{{"spec": {spec}}}"#);
        self.kubectl_with(&["patch", object, "--type=merge", "-p", &patch], "").await.map(drop)
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Waits until what is created next is younger than the object: the API server counts in seconds.
    pub async fn older(&self, object: &str) -> Result<()> {
        let created: jiff::Timestamp =
            self.get(object).await?["metadata"]["creationTimestamp"].as_str().unwrap_or("").parse()?;
        let now = || jiff::Timestamp::now().as_second();
        eventually("the next second", async || Ok((now() > created.as_second()).then_some(()))).await
    }

    /// Runs the command of a message that says `…: kubectl …`.
    pub async fn obey(&self, message: &str) -> Result<()> {
        let (_, command) = message.rsplit_once(": kubectl ").ok_or_else(|| message.to_owned())?;
        self.kubectl(command).await.map(drop)
    }

    /// `kubectl wait` until all these objects are Ready.
    pub async fn ready(&self, objects: &str) -> Result<()> {
        self.kubectl(&format!("wait --for=condition=Ready --timeout=120s {objects}")).await.map(drop)
    }

    // ---- the secret

    /// Writes the secret of the database `plant`, with CloudNativePG's keys.
    pub async fn secret(&self, database: &Database) -> Result<()> {
        let (_, port, _) = database.address()?;
        self.secret_named("plant", database, port).await
    }

    /// Writes a secret that leads to the database by another port.
    pub async fn secret_named(&self, name: &str, database: &Database, port: u16) -> Result<()> {
        let (host, _, dbname) = database.address()?;
        let keys = [
            ("username", database.user()),
            ("password", database.password()?),
            ("host", host),
            ("port", &port.to_string()),
            ("dbname", dbname),
        ];
        self.secret_of(name, &keys).await
    }

    /// Writes a secret with these keys and no others.
    pub async fn secret_of(&self, name: &str, keys: &[(&str, &str)]) -> Result<()> {
        let passwords = keys.iter().filter(|(key, _)| *key == "password").map(|(_, password)| (*password).to_owned());
        PASSWORDS.lock().unwrap_or_else(PoisonError::into_inner).extend(passwords);
        let data: serde_json::Map<_, _> = keys.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let secret =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}).to_string();
        // Not `apply`: it would leave the keys of before.
        if self.kubectl_with(&["replace", "-f", "-"], &secret).await.is_err() {
            self.kubectl_with(&["create", "-f", "-"], &secret).await?;
        }
        Ok(())
    }

    /// The database `plant` with its secret and all the documents, all Ready.
    pub async fn manage(&self, database: &Database, documents: &[String]) -> Result<()> {
        self.secret(database).await?;
        self.apply(&[&[manifests::database("plant", "")], documents].concat()).await?;
        self.ready(&format!("--all {}", KINDS.join(","))).await
    }

    // ---- what the API server has

    async fn request(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let body = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
        let request = Request::builder().method(method).uri(path).header("content-type", kind).body(body)?;
        Ok(self.client.request(request).await?)
    }

    fn path(&self, object: &str) -> Result<String> {
        let (kind, name) = object.split_once('/').ok_or_else(|| format!("not kind/name: {object}"))?;
        let plural = match kind.strip_suffix('y') {
            Some(stem) => format!("{stem}ies"),
            None => format!("{kind}s"),
        };
        Ok(format!("{API}/namespaces/{}/{plural}/{name}", self.namespace))
    }

    /// The object (`retentionpolicy/name`), if it exists.
    pub async fn find(&self, object: &str) -> Result<Option<Value>> {
        let request = Request::get(self.path(object)?).body(Vec::new())?;
        match self.client.request(request).await {
            Ok(found) => Ok(Some(found)),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The object, which exists.
    pub async fn get(&self, object: &str) -> Result<Value> {
        self.find(object).await?.ok_or_else(|| format!("{object} does not exist").into())
    }

    /// All resources of the namespace.
    pub async fn objects(&self) -> Result<Vec<Value>> {
        let mut objects = Vec::new();
        for plural in KINDS {
            let path = format!("{API}/namespaces/{}/{plural}", self.namespace);
            let mut list = self.request(Method::GET, &path, None).await?;
            if let Value::Array(items) = list["items"].take() {
                objects.extend(items);
            }
        }
        Ok(objects)
    }

    /// The versions of all resources of the namespace: what is written moves one.
    pub async fn versions(&self) -> Result<Vec<String>> {
        let version = |object: &Value| {
            let metadata = &object["metadata"];
            format!("{}/{} {}", object["kind"], metadata["name"], metadata["resourceVersion"])
        };
        Ok(self.objects().await?.iter().map(version).collect())
    }

    /// Waits until the object is so.
    pub async fn until(&self, object: &str, what: &str, so: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = Value::Null;
        let seen = eventually(&format!("{object}: {what}"), async || {
            let found = self.get(object).await?;
            last = found.clone();
            Ok(so(&found).then_some(found))
        })
        .await;
        match seen {
            Ok(found) => Ok(found),
            Err(error) => Err(format!("{error}; it says {:#}", last["status"]).into()),
        }
    }

    /// Waits until the object gives this reason for the generation at hand, and returns its message.
    pub async fn says(&self, object: &str, reason: &str) -> Result<String> {
        let found = self.until(object, reason, |found| {
            let ready = condition(found, "Ready");
            ready["reason"] == reason && ready["observedGeneration"] == found["metadata"]["generation"]
        });
        Ok(condition(&found.await?, "Ready")["message"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits until every hypertable and aggregate says how large it is: the sizes may come a pass after `Ready`, and are the
    /// last thing that a resource says while nothing changes.
    pub async fn sizes_told(&self) -> Result<()> {
        let is_told = |object: &Value| match object["kind"].as_str() {
            Some("Hypertable") => object["status"]["size"].is_string(),
            Some("ContinuousAggregate") => object["status"]["health"].is_object(),
            _ => true,
        };
        eventually("sizes", async || Ok(self.objects().await?.iter().all(is_told).then_some(()))).await
    }

    /// Waits until the object is gone.
    pub async fn gone(&self, object: &str) -> Result<()> {
        eventually(&format!("{object} is gone"), async || Ok(self.find(object).await?.is_none().then_some(()))).await
    }

    /// The notes of the events of this reason on the object, the oldest first.
    pub async fn events(&self, object: &str, reason: &str) -> Result<Vec<String>> {
        let list = self.request(Method::GET, &format!("{EVENTS}/namespaces/{}/events", self.namespace), None).await?;
        let mut events: Vec<_> = list["items"].as_array().cloned().unwrap_or_default();
        events.retain(|event| {
            let regarding = &event["regarding"];
            let of = format!("{}/{}", regarding["kind"], regarding["name"]).replace('"', "");
            let (kind, name) = of.split_once('/').unwrap_or_default();
            event["reason"] == reason && format!("{}/{name}", kind.to_lowercase()) == object
        });
        events.sort_by_key(|event| event["eventTime"].to_string());
        Ok(events.iter().map(|event| event["note"].as_str().unwrap_or_default().to_owned()).collect())
    }

    /// Waits for an event of this reason on the object.
    pub async fn event(&self, object: &str, reason: &str) -> Result<String> {
        eventually(&format!("an event {reason} of {object}"), async || {
            Ok(self.events(object, reason).await?.into_iter().next())
        })
        .await
    }

    // ---- the end

    /// Deletes everything, ends an operator of its own, and looks whether anybody told a secret.
    pub async fn end(mut self) -> Result<()> {
        let statuses = self.objects().await?;
        self.sweep().await?;
        let log = self.operator()?.log();
        let told = self.request(Method::GET, &format!("{EVENTS}/namespaces/{}/events", self.namespace), None).await?;
        let told = [&log[..], &statuses, &[told]].concat().iter().fold(String::new(), |mut all, line| {
            let _ = writeln!(all, "{line}");
            all
        });
        let passwords = PASSWORDS.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for password in passwords {
            if let Some(line) = told.lines().find(|line| line.contains(&password)) {
                return Err(format!("the operator tells the password {password}: {line}").into());
            }
        }
        for line in &log {
            if !line.is_object() {
                return Err(format!("a line of the log is not JSON: {line}").into());
            }
            if ["NotConverging", "InternalError"].iter().any(|reason| line["reason"] == *reason) {
                return Err(format!("the operator reports a bug of its own: {line}").into());
            }
        }
        if matches!(self.home, Home::Own { .. }) {
            let status = self.take_operator()?.terminate().await?;
            if !status.success() {
                return Err(format!("the operator ended with {status}").into());
            }
        }
        self.ended = true;
        if let Home::Own { api, .. } = &mut self.home {
            CLEAN.lock().unwrap_or_else(PoisonError::into_inner).extend(api.take());
        }
        Ok(())
    }

    /// Deletes all resources, each database first told to let go, and waits until they are gone.
    async fn sweep(&self) -> Result<()> {
        let orphan = json!({"spec": {"deletionPolicy": "Orphan"}});
        for object in self.objects().await? {
            if object["kind"] == "TimescaleDatabase" {
                let path =
                    self.path(&format!("timescaledatabase/{}", object["metadata"]["name"].as_str().unwrap_or("")))?;
                self.request(Method::PATCH, &path, Some(orphan.clone())).await?;
            }
        }
        for plural in KINDS {
            let path = format!("{API}/namespaces/{}/{plural}", self.namespace);
            self.request(Method::DELETE, &path, None).await?;
        }
        eventually("everything is deleted", async || {
            let left = self.objects().await?;
            if left.is_empty() { Ok(Some(())) } else { Err(format!("{left:#?}").into()) }
        })
        .await
    }
}

impl Home {
    fn api(&self) -> Result<&ApiServer> {
        match self {
            Self::Shared(shared) => Ok(&shared.api),
            Self::Own { api, .. } => Ok(api.as_ref().ok_or("the stage has ended")?),
        }
    }
}

impl Drop for Stage {
    /// A test that failed shows what there was.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let arguments = ["get", "-n", &self.namespace, &KINDS.join(","), "-o", "wide"];
        if let Ok(output) = self.home.api().map(|api| api.kubectl(arguments).output()) {
            eprintln!(
                "{}",
                output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
            );
        }
        let log = self.operator().map(Operator::log).unwrap_or_default();
        let others = |line: &Value| line["namespace"].as_str().is_some_and(|namespace| namespace != self.namespace);
        let mine: Vec<_> = log.iter().filter(|line| !others(line)).collect();
        let mut last = "";
        for line in &mine[mine.len().saturating_sub(200)..] {
            let message = line["message"].as_str().unwrap_or_default();
            if message != last {
                eprintln!("{} {} {} {message}", line["timestamp"], line["level"], line["reason"]);
            }
            last = message;
        }
    }
}

/// Applies the definitions of the resources.
pub async fn define(api: &ApiServer) -> Result<()> {
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

/// The condition of this type, or null.
pub fn condition(object: &Value, type_: &str) -> Value {
    let conditions = object["status"]["conditions"].as_array();
    conditions.and_then(|all| all.iter().find(|c| c["type"] == type_)).cloned().unwrap_or_default()
}

/// Whether the object holds the operator's finalizer.
pub fn has_finalizer(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|all| {
        all.iter().any(|finalizer| finalizer.as_str().is_some_and(|name| name.starts_with("timescaledb-policy.io/")))
    })
}
