//! Which database a command looks at, and which cluster.

use std::path::PathBuf;

use clap::Args;
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::{
    api::{TimescaleDatabase, status::Reason},
    client,
    db::{Session, credentials::Endpoint, url::Address},
    error::{Class, Failure, chain},
    metrics::Metrics,
    monitoring::Board,
    secret,
};

/// Options that name one database.
#[derive(Clone, Debug, Default, Args)]
pub struct Connection {
    /// The database as psql takes it: `postgresql://user@host/database?sslmode=verify-full`, or `"host=… dbname=…"`. What it
    /// leaves out is taken from PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE and PGSSLROOTCERT. Left out: the
    /// environment variable `DATABASE_URL`, which also keeps a password out of the list of processes.
    #[arg(long, value_name = "URL", conflicts_with_all = ["context", "kubeconfig"])]
    pub database_url: Option<String>,
    /// Name of a TimescaleDatabase of the cluster, whose connection secret is used. With --database-url: which one of the
    /// manifests that is.
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,
    /// The cluster.
    #[command(flatten)]
    pub cluster: Cluster,
}

/// Options that name a cluster, as kubectl has them.
#[derive(Clone, Debug, Default, Args)]
pub struct Cluster {
    /// Context of the kubeconfig. Left out: its current one.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// The kubeconfig. Left out: `KUBECONFIG`, else `~/.kube/config`, else the pod's own account.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace. Left out: the context's; with --database-url `default`.
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
}

impl Connection {
    /// A session on the database.
    ///
    /// # Errors
    /// When none is named, or it cannot be reached.
    pub async fn open(&self) -> Result<Session, Failure> {
        connect(&self.endpoint().await?).await
    }

    /// Where the database is, and as whom to connect.
    pub async fn endpoint(&self) -> Result<Endpoint, Failure> {
        if let Some(name) = self.database.as_ref().filter(|_| self.database_url.is_none()) {
            let client = self.cluster.client().await?;
            let namespace = self.cluster.namespace(&client);
            let database = find(&client, &namespace, name).await?;
            return secret::endpoint(&database, &namespace, &client).await;
        }
        self.address()?.ok_or_else(|| {
            let message = "no database is named: give --database-url postgresql://user@host/database, set DATABASE_URL or PGHOST, or name a TimescaleDatabase of the cluster with --database NAME -n NAMESPACE";
            Failure::new(Class::User, Reason::InvalidSpec, message)
        })
    }

    /// Where the database is that the options or the environment name directly, if they do.
    pub fn address(&self) -> Result<Option<Endpoint>, Failure> {
        let environment: std::collections::BTreeMap<_, _> = std::env::vars().collect();
        let url = self.database_url.as_ref().or_else(|| environment.get("DATABASE_URL").filter(|url| !url.is_empty()));
        let names_host = |name| environment.get(name).is_some_and(|value| !value.is_empty());
        // What is said on the command line goes before the environment.
        let in_cluster = self.database.is_some() || self.cluster.context.is_some() || self.cluster.kubeconfig.is_some();
        if self.database_url.is_none() && (in_cluster || (url.is_none() && !names_host("PGHOST"))) {
            return Ok(None);
        }
        let address = Address::read(url.map(String::as_str), &environment)?;
        let authority = match &address.root_certificate {
            None => None,
            Some(path) => Some(std::fs::read(path).map_err(|error| {
                Failure::new(Class::User, Reason::CertificateInvalid, format!("sslrootcert {path}: {error}"))
            })?),
        };
        Ok(Some(address.with_authority(authority)))
    }
}

/// A session of the command line.
pub async fn connect(endpoint: &Endpoint) -> Result<Session, Failure> {
    Session::connect(endpoint, &Metrics::new(Board::default())).await
}

/// The `TimescaleDatabase` of this name.
pub async fn find(client: &Client, namespace: &str, name: &str) -> Result<TimescaleDatabase, Failure> {
    let found = Api::<TimescaleDatabase>::namespaced(client.clone(), namespace).get_opt(name).await;
    found.map_err(|error| cluster_failure(&format!("reading TimescaleDatabase {namespace}/{name}"), &error))?.ok_or_else(
        || {
            let message = format!(
                "there is no TimescaleDatabase {name} in namespace {namespace}; kubectl get timescaledatabases -A lists all"
            );
            Failure::new(Class::User, Reason::TargetNotFound, message)
        },
    )
}

/// What went wrong with the cluster.
pub fn cluster_failure(doing: &str, error: &kube::Error) -> Failure {
    let (class, reason) = match error {
        kube::Error::Api(status) if status.is_forbidden() => (Class::User, Reason::PermissionDenied),
        kube::Error::Api(_) => (Class::User, Reason::InvalidSpec),
        _ => (Class::Transient, Reason::Retrying),
    };
    let said = match error {
        kube::Error::Api(status) => status.message.clone(),
        other => chain(other),
    };
    Failure::new(class, reason, format!("{doing}: {said}"))
}

impl Cluster {
    /// A client for the cluster.
    ///
    /// # Errors
    /// When there is no kubeconfig, or it cannot be read.
    pub async fn client(&self) -> Result<Client, Failure> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let config = match &self.kubeconfig {
            Some(path) => match Kubeconfig::read_from(path) {
                Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|e| chain(&e)),
                Err(error) => Err(chain(&error)),
            },
            None if self.context.is_some() => Config::from_kubeconfig(&options).await.map_err(|e| chain(&e)),
            None => Config::infer().await.map_err(|e| chain(&e)),
        };
        let problem = |why: String| {
            let message = format!(
                "no cluster to talk to: {why}; give --kubeconfig and --context as to kubectl, or a database with --database-url"
            );
            Failure::new(Class::User, Reason::InvalidSpec, message)
        };
        let config = config.map_err(problem)?;
        client::connect(config).map_err(|error| problem(chain(&error)))
    }

    /// The namespace that is meant.
    pub fn namespace(&self, client: &Client) -> String {
        self.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned())
    }
}
