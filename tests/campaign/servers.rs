//! The real parts: an API server, the operator's process, databases.

use std::{
    collections::BTreeSet,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
};

use http::{Method, Request};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_postgres::Client;

use super::eventually;
use crate::support::{
    Error, Result,
    api_server::ApiServer,
    process::{Folder, Guarded},
    timescaledb::{TimescaleDb, connect},
};

const API: &str = "/apis/timescaledb-policy.io/v1alpha1";

/// What an answer of the API server says when it is a refusal.
#[derive(Debug)]
pub struct Refusal(pub String);

/// How a change is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Server-side apply of the whole spec.
    Apply,
    /// `PUT`.
    Replace,
    /// `kubectl apply`.
    Kubectl,
}

pub struct Cluster {
    api: ApiServer,
    client: kube::Client,
    operator: Mutex<Guarded>,
    pid: u32,
    address: String,
    /// What the error oracle has told of already.
    told: Mutex<BTreeSet<String>>,
    _folder: Folder,
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
        let folder = Folder::new("operator")?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_timescaledb-policy-operator"));
        command
            .args(["run", "--listen", "127.0.0.1:0", "--log-format", "json", "--log", "info"])
            .env("KUBECONFIG", api.kubeconfig_path())
            .env("RUST_BACKTRACE", "1");
        let mut process = Guarded::start("operator", &command, folder.path())?;
        let address = eventually("the operator listens", async || {
            process.check()?;
            let lines: Vec<Value> = process.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            let started = lines.iter().find(|line| line["message"] == "started");
            Ok(started.and_then(|line| line["listen"].as_str()).map(str::to_owned))
        })
        .await?;
        let (client, pid) = (api.client().await?, process.pid());
        Ok(Self { api, client, operator: Mutex::new(process), pid, address, told: Mutex::default(), _folder: folder })
    }

    /// The error oracle: the operator is the process that was started, and says nothing of a bug of its own.
    pub async fn trouble(&self) -> Result<Vec<String>> {
        let mut trouble = Vec::new();
        let log = {
            let mut operator = self.operator.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = operator.check() {
                trouble.push(format!("the operator has ended: {error}"));
            }
            if operator.pid() != self.pid {
                trouble.push("the operator is another process".into());
            }
            operator.log()
        };
        let end = log.rfind('\n').map_or(0, |end| end + 1);
        for line in log[..end].lines() {
            let Ok(entry) = serde_json::from_str::<Value>(line) else {
                trouble.push(format!("a line of the log is not JSON: {line}"));
                continue;
            };
            let bug = ["NotConverging", "InternalError"].iter().any(|reason| entry["reason"] == *reason);
            let panic = ["panicked", "backtrace", "stack trace"].iter().any(|word| line.contains(word));
            if bug || panic || entry["level"] == "ERROR" {
                trouble.push(format!("the operator reports a bug of its own: {line}"));
            }
        }
        for path in ["/livez", "/readyz"] {
            let status = self.http(path).await?;
            if status != 200 {
                trouble.push(format!("{path} answers {status}"));
            }
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        // The same line comes again with every pass.
        let what =
            |text: &String| text.split_once("\"message\"").map_or_else(|| text.clone(), |(_, rest)| rest.to_owned());
        trouble.retain(|text| told.insert(what(text)));
        Ok(trouble)
    }

    async fn http(&self, path: &str) -> Result<u16> {
        let mut stream = TcpStream::connect(&self.address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("no HTTP status")?)
    }

    pub async fn request(&self, method: Method, path: &str, kind: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request::builder().method(method).uri(path).header("content-type", kind).body(body)?;
        Ok(self.client.request(request).await?)
    }

    pub async fn create(&self, path: &str, body: &Value) -> Result<()> {
        self.request(Method::POST, path, "application/json", body).await.map(drop)
    }

    pub async fn namespace(&self, name: &str, labels: &Value) -> Result<()> {
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        self.create("/api/v1/namespaces", &body).await
    }

    /// Sends the object. `Ok(Err(…))`: the API server refuses it.
    pub async fn send(&self, object: &Value, way: Way) -> Result<Result<Value, Refusal>> {
        let (path, name) = address_of(object);
        let path = format!("{path}/{name}");
        let sent = match way {
            Way::Apply => {
                let path = format!("{path}?fieldManager=campaign&force=true&fieldValidation=Strict");
                self.request(Method::PATCH, &path, "application/apply-patch+yaml", object).await
            }
            Way::Replace => {
                let mut object = object.clone();
                let Some(found) = self.find(&object).await? else {
                    let created = self.request(Method::POST, &address_of(&object).0, "application/json", &object).await;
                    return answer(created);
                };
                object["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"].clone();
                // What others have put there stays.
                object["metadata"]["finalizers"] = found["metadata"]["finalizers"].clone();
                let path = format!("{path}?fieldValidation=Strict");
                match self.request(Method::PUT, &path, "application/json", &object).await {
                    // The operator's finalizer may have come in between.
                    Err(error) if error.to_string().contains("the object has been modified") => {
                        let found = self.find(&object).await?.unwrap_or_default();
                        object["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"].clone();
                        object["metadata"]["finalizers"] = found["metadata"]["finalizers"].clone();
                        self.request(Method::PUT, &path, "application/json", &object).await
                    }
                    result => result,
                }
            }
            Way::Kubectl => {
                let folder = Folder::new("manifest")?;
                let file = folder.path().join("object.json");
                std::fs::write(&file, object.to_string())?;
                let words = ["apply", "-o", "json", "-f", file.to_str().ok_or("path")?];
                let output = tokio::process::Command::from(self.api.kubectl(words)).output().await?;
                if output.status.success() {
                    return Ok(Ok(serde_json::from_slice(&output.stdout)?));
                }
                return Ok(Err(Refusal(String::from_utf8_lossy(&output.stderr).into_owned())));
            }
        };
        answer(sent)
    }

    /// The object of this name as the API server has it.
    pub async fn find(&self, object: &Value) -> Result<Option<Value>> {
        let (path, name) = address_of(object);
        match self.request(Method::GET, &format!("{path}/{name}"), "application/json", &Value::Null).await {
            Ok(found) => Ok(Some(found)),
            Err(error) => match error.downcast_ref::<kube::Error>() {
                Some(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
                _ => Err(error),
            },
        }
    }

    pub async fn annotate(&self, object: &Value, value: &Value) -> Result<()> {
        let (path, name) = address_of(object);
        let body = json!({"metadata": {"annotations": {"timescaledb-policy.io/approve": value}}});
        self.request(Method::PATCH, &format!("{path}/{name}"), "application/merge-patch+json", &body).await.map(drop)
    }

    pub async fn delete(&self, object: &Value) -> Result<()> {
        let (path, name) = address_of(object);
        if self.find(object).await?.is_some() {
            self.request(Method::DELETE, &format!("{path}/{name}"), "application/json", &Value::Null).await?;
        }
        eventually(&format!("{path}/{name} is gone"), async || Ok(self.find(object).await?.is_none().then_some(())))
            .await
    }
}

/// What the API server says of an object: it takes it, or refuses it.
fn answer(sent: Result<Value>) -> Result<Result<Value, Refusal>> {
    match sent {
        Ok(object) => Ok(Ok(object)),
        Err(error) => match error.downcast_ref::<kube::Error>() {
            // Server-side apply answers 500 to a value of another type.
            Some(kube::Error::Api(status)) if status.code < 500 || status.message.contains("typed patch") => {
                Ok(Err(Refusal(status.message.clone())))
            }
            _ => Err(error),
        },
    }
}

/// Where the API server has objects of this kind and namespace, and the object's name.
fn address_of(object: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = text(&object["kind"]).to_lowercase();
    let plural = kind.strip_suffix('y').map_or_else(|| format!("{kind}s"), |stem| format!("{stem}ies"));
    let metadata = &object["metadata"];
    (format!("{API}/namespaces/{}/{plural}", text(&metadata["namespace"])), text(&metadata["name"]))
}

/// A database with its `TimescaleDatabase`'s connection.
pub struct Plant {
    server: Option<TimescaleDb>,
    admin: Client,
    owner: Client,
    tablespaces: Vec<String>,
}

impl Plant {
    pub async fn start() -> Result<Arc<Self>> {
        let server = TimescaleDb::start().await?;
        server.create_roles().await?;
        let admin = server.connect().await?;
        admin.batch_execute(include_str!("helpers.sql")).await?;
        if server.is_native() {
            // Nothing runs by itself, as on the WebAssembly server: rows go only when a test says so.
            admin.batch_execute("SELECT _timescaledb_functions.stop_background_workers()").await?;
        }
        let mut tablespaces = Vec::new();
        for name in ["fast", "slow"] {
            let name = format!("{name}_{}", server.dbname());
            let create = format!("CREATE TABLESPACE {name} OWNER {} LOCATION ''", server.owner());
            admin.batch_execute("SET allow_in_place_tablespaces = on").await?;
            match admin.batch_execute(&create).await {
                Ok(()) => tablespaces.push(name),
                Err(error) => eprintln!("no tablespaces here: {error:?}"),
            }
        }
        let owner = connect(&server.url_as(&server.owner()).parse()?).await?;
        Ok(Arc::new(Self { server: Some(server), admin, owner, tablespaces }))
    }

    pub fn server(&self) -> Result<&TimescaleDb> {
        self.server.as_ref().ok_or_else(|| "the database has ended".into())
    }

    /// The keys of a secret that leads here.
    pub fn secret(&self, namespace: &str, name: &str) -> Result<Value> {
        let server = self.server()?;
        Ok(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace},
            "stringData": {
            "username": server.operator(), "password": server.password_of_roles(), "host": server.host(),
            "port": server.port().to_string(), "dbname": server.dbname(),
        }}))
    }

    /// Statements, as the owner of the tables.
    pub async fn run(&self, statements: &str) -> Result<()> {
        let run = self.owner.batch_execute(statements).await;
        run.map_err(|error| Error::from(format!("{error:?}\n{statements}")))
    }

    /// What the catalog says of a schema.
    pub async fn dump(&self, schema: &str) -> Result<Value> {
        let mut failures = 0;
        let rows = loop {
            match self.admin.query(include_str!("dump.sql"), &[&schema]).await {
                Ok(rows) => break rows,
                // What is dropped while it is read.
                Err(_) if failures < 3 => failures += 1,
                Err(error) => return Err(format!("{error:?}").into()),
            }
            tokio::time::sleep(super::POLL).await;
        };
        Ok(rows.first().ok_or("no dump")?.try_get(0)?)
    }

    /// Ends the server, with what the whole server has of it.
    pub async fn end(mut self: Arc<Self>) -> Result<()> {
        let Some(this) = Arc::get_mut(&mut self) else { return Ok(()) };
        let tablespaces = std::mem::take(&mut this.tablespaces);
        if let Some(server) = this.server.take() {
            server.stop().await?;
        }
        if let Ok(url) = std::env::var("TIMESCALEDB_URL") {
            let admin = connect(&url.parse()?).await?;
            for name in tablespaces {
                admin.batch_execute(&format!("DROP TABLESPACE IF EXISTS {name}")).await?;
            }
        }
        Ok(())
    }
}
