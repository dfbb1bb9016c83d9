//! A real Kubernetes API server: etcd and kube-apiserver, with RBAC, without controllers.

use super::process::{Folder, Guarded};
use super::{Error, Result, installed};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use timescaledb_policy_operator::client;
use tokio::sync::OnceCell;

const ADMIN_TOKEN: &str = "admin";
/// On two cores that build something else at the same time; alone it takes 3 seconds.
const READY_WITHIN: Duration = Duration::from_mins(2);

/// Nothing that a controller manager would do happens: no garbage collection, and namespaces stay in `Terminating`.
pub struct ApiServer {
    // in the order in which they go away
    pub server: Guarded,
    pub etcd: Guarded,
    command: Command,
    url: String,
    kubeconfig: PathBuf,
    programs: PathBuf,
    folder: Folder,
}

impl ApiServer {
    /// One for all tests of a program, which then keep to namespaces of their own. It goes away with the program.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<ApiServer> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    pub async fn start() -> Result<Self> {
        let programs = installed("KUBEBUILDER_ASSETS", "kubernetes/build.sh", &["etcd", "kube-apiserver", "kubectl"])?;
        // A port that was free a moment ago may be somebody's by now.
        match Self::start_once(&programs).await {
            Err(error) if error.to_string().contains("address already in use") => Self::start_once(&programs).await,
            result => result,
        }
    }

    async fn start_once(programs: &Path) -> Result<Self> {
        let folder = Folder::new("api-server")?;
        let credentials = Credentials::create(folder.path())?;
        let [etcd_port, peer_port, port] = free_ports()?;
        let url = format!("https://127.0.0.1:{port}");
        let kubeconfig = folder.path().join("kubeconfig");
        write_kubeconfig(&kubeconfig, &url, &credentials.certificate, ADMIN_TOKEN, None)?;

        let etcd = Guarded::start("etcd", &etcd_command(programs, folder.path(), etcd_port, peer_port), folder.path())?;
        let command = server_command(programs, folder.path(), &credentials, etcd_port, port);
        let server = Guarded::start("kube-apiserver", &command, folder.path())?;
        let mut started = Self { server, etcd, command, url, kubeconfig, programs: programs.into(), folder };
        started.ready().await?;
        Ok(started)
    }

    /// Starts the server anew, with all that it keeps. Watches of before are too old for it.
    pub async fn restart(&mut self) -> Result<()> {
        self.server.kill();
        self.server = Guarded::start("kube-apiserver", &self.command, self.folder.path())?;
        self.ready().await
    }

    /// Waits for the server and for the namespace that it makes after it says that it is ready.
    async fn ready(&mut self) -> Result<()> {
        let client = self.client().await?;
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            self.etcd.check()?;
            self.server.check()?;
            let answer = client.request_text(http::Request::get("/readyz").body(Vec::new())?).await;
            if matches!(&answer, Ok(text) if text == "ok")
                && Api::<Namespace>::all(client.clone()).get_opt("default").await?.is_some()
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                let log = self.server.log_path().display();
                return Err(format!("the API server is not ready after {READY_WITHIN:?}: {answer:?}; see {log}").into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The administrator's.
    pub fn kubeconfig_path(&self) -> &Path {
        &self.kubeconfig
    }

    /// An administrator's client. Each runtime needs a client of its own: connections end with the runtime.
    pub async fn client(&self) -> Result<Client> {
        client_of(&self.kubeconfig).await
    }

    /// `kubectl` with these arguments, as the administrator.
    pub fn kubectl<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        self.kubectl_as(&self.kubeconfig, arguments)
    }

    /// `kubectl` as whoever the kubeconfig says.
    pub fn kubectl_as<'a>(&self, kubeconfig: &Path, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(self.programs.join("kubectl"));
        command.args(arguments).env("KUBECONFIG", kubeconfig).env("KUBECACHEDIR", self.folder.path().join("kubectl"));
        command
    }

    /// The requests of service accounts that have been answered, as `audit.k8s.io` events.
    pub fn audit(&self) -> Result<Vec<serde_json::Value>> {
        let log = std::fs::read_to_string(self.folder.path().join(AUDIT_LOG))?;
        let complete = log.rfind('\n').map_or("", |end| &log[..end]);
        complete.lines().map(|line| serde_json::from_str(line).map_err(Error::from)).collect()
    }

    /// A kubeconfig of the service account, which has to exist: what it may do is what RBAC gives it.
    pub async fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, namespace);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec { expiration_seconds: Some(24 * 60 * 60), ..TokenRequestSpec::default() }),
            ..TokenRequest::default()
        };
        let granted = accounts
            .create_token_request(name, &kube::api::PostParams::default(), &request)
            .await
            .map_err(|error| format!("no token for the service account {namespace}/{name}: {error}"))?;
        let token = granted.status.and_then(|status| status.token).ok_or("the API server granted no token")?;
        let path = self.folder.path().join(format!("kubeconfig-{namespace}-{name}"));
        let certificate = self.folder.path().join(CERTIFICATE);
        write_kubeconfig(&path, &self.url, &certificate, &token, Some(namespace))?;
        Ok(path)
    }
}

/// A client as whoever the kubeconfig says.
pub async fn client_of(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(client::connect(config)?)
}

fn etcd_command(programs: &Path, folder: &Path, port: u16, peer_port: u16) -> Command {
    let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer_port}"));
    let mut command = Command::new(programs.join("etcd"));
    command
        .arg(format!("--data-dir={}", folder.join("etcd").display()))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=default={peer}"))
        .arg("--unsafe-no-fsync")
        .arg("--log-level=warn");
    command
}

fn server_command(programs: &Path, folder: &Path, credentials: &Credentials, etcd_port: u16, port: u16) -> Command {
    let mut command = Command::new(programs.join("kube-apiserver"));
    command
        .arg(format!("--etcd-servers=http://127.0.0.1:{etcd_port}"))
        .arg("--bind-address=127.0.0.1")
        .arg(format!("--secure-port={port}"))
        .arg(format!("--cert-dir={}", folder.join("certificates").display()))
        .arg(format!("--tls-cert-file={}", credentials.certificate.display()))
        .arg(format!("--tls-private-key-file={}", credentials.key.display()))
        .arg(format!("--token-auth-file={}", credentials.tokens.display()))
        .arg(format!("--service-account-issuer=https://127.0.0.1:{port}"))
        .arg(format!("--service-account-signing-key-file={}", credentials.signing_key.display()))
        .arg(format!("--service-account-key-file={}", credentials.verifying_key.display()))
        .arg("--authorization-mode=RBAC")
        .arg(format!("--audit-policy-file={}", credentials.audit_policy.display()))
        .arg(format!("--audit-log-path={}", folder.join(AUDIT_LOG).display()))
        // nothing makes the default service account that this plugin would ask of every pod
        .arg("--disable-admission-plugins=ServiceAccount")
        .arg("--service-cluster-ip-range=10.0.0.0/24")
        .arg("--enable-priority-and-fairness=false")
        .arg("--max-requests-inflight=1000")
        .arg("--max-mutating-requests-inflight=1000");
    command
}

const CERTIFICATE: &str = "tls.crt";
const AUDIT_LOG: &str = "audit.log";
/// What service accounts ask for; the administrator is the test itself.
const AUDIT_POLICY: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived", "ResponseStarted"], "rules": [
    {"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}]}"#;

/// The files that the server and its clients know each other by.
struct Credentials {
    certificate: PathBuf,
    key: PathBuf,
    signing_key: PathBuf,
    verifying_key: PathBuf,
    tokens: PathBuf,
    audit_policy: PathBuf,
}

impl Credentials {
    fn create(folder: &Path) -> Result<Self> {
        let write = |name: &str, text: String| -> Result<PathBuf> {
            let path = folder.join(name);
            std::fs::write(&path, text)?;
            Ok(path)
        };
        // self-signed: the clients trust it as its own authority
        let server = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()])?;
        let accounts = rcgen::KeyPair::generate()?;
        Ok(Self {
            certificate: write(CERTIFICATE, server.cert.pem())?,
            key: write("tls.key", server.signing_key.serialize_pem())?,
            signing_key: write("service-accounts.key", accounts.serialize_pem())?,
            verifying_key: write("service-accounts.pub", accounts.public_key_pem())?,
            audit_policy: write("audit-policy.json", AUDIT_POLICY.to_owned())?,
            tokens: write("tokens.csv", format!("{ADMIN_TOKEN},admin,admin,system:masters\n"))?,
        })
    }
}

fn write_kubeconfig(path: &Path, url: &str, certificate: &Path, token: &str, namespace: Option<&str>) -> Result<()> {
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": url, "certificate-authority": certificate}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{
            "name": "test",
            "context": {"cluster": "test", "user": "test", "namespace": namespace.unwrap_or("default")},
        }],
        "current-context": "test",
    });
    std::fs::write(path, kubeconfig.to_string()).map_err(Error::from) // JSON is YAML
}

/// Different ones: all are held until all are known.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut listeners = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}
