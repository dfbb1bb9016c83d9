//! One database: connecting, reading its catalog, carrying out steps. The only module that speaks to PostgreSQL.

pub mod apply;
pub mod ask;
mod check;
pub mod credentials;
mod history;
mod import;
pub mod observe;
pub mod privileges;
pub mod sqlstate;
mod statistics;
mod tls;
pub mod url;

use std::{fmt, sync::atomic::AtomicBool, time::Duration};

use tokio::sync::{Mutex, OnceCell};
use tokio_postgres::{
    CancelToken, Client, Row, Statement,
    types::{ToSql, Type},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    api::status::Reason,
    error::{Class, Failure, chain},
    metrics::Metrics,
};
use credentials::{Endpoint, Origin};
use observe::Seen;

/// The advisory lock that keeps a second operator (or a CLI `apply`) from interleaving with this one. PostgreSQL counts
/// advisory locks per database; the number is "tsdbpoli" in ASCII.
const ADVISORY_LOCK: i64 = 0x7473_6462_706f_6c69;

/// How long one statement may wait and run.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `lock_timeout`: after that the statement gives up, so that it never queues in front of the application's.
    pub lock: Duration,
    /// `statement_timeout`; zero means without limit.
    pub statement: Duration,
}

/// Reads, and steps that take no time.
const QUICK: Limits = Limits { lock: Duration::from_secs(2), statement: Duration::from_secs(30) };

/// Steps that move rows or build indexes: they run as long as they run, but wait for no lock.
const LONG: Limits = Limits { lock: Duration::from_secs(2), statement: Duration::ZERO };

/// The longest a round trip may take beyond what the server's own timeouts allow: a peer that vanished without a word.
const UNANSWERED: Duration = Duration::from_secs(45);

/// A setting of our own. A session that does not find it as it was left is not one session: a pooler hands its statements
/// to one server process after the other.
const MARK: &str = "timescaledb_policy_operator.session";

/// Lets the server notice that this client is gone: while it runs a statement, and while it waits for one. Without that a
/// statement goes on for as long as it takes after the operator has died, and the lock of an operator whose machine has
/// died is held for two hours. Not every platform has the first.
const NOTICE_A_GONE_CLIENT: [&str; 2] = [
    "SET client_connection_check_interval = '2s'",
    "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3; SET tcp_user_timeout = '60s'",
];

const REFUSED: &str = "the database refused";

/// A connection with pinned settings.
///
/// Dropping it closes the connection; PostgreSQL then rolls back and releases what it held.
pub struct Session {
    client: Client,
    metrics: Metrics,
    /// What [`MARK`] was set to.
    mark: String,
    /// Something was committed that may not be on the disk yet.
    to_be_flushed: AtomicBool,
    /// What the last observation has read.
    seen: Mutex<Seen>,
    /// The question about a definition, once it was asked: to plan it takes longer than to answer it.
    definition: OnceCell<Statement>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("closed", &self.client.is_closed()).finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}

impl Session {
    /// Connects and pins the session's settings: nothing that a role or a database sets can change what the statements
    /// mean (`search_path`), how values print, or how long a statement waits. To compile a query (`jit`) takes longer than
    /// to carry it out.
    pub async fn connect(endpoint: &Endpoint, metrics: &Metrics) -> Result<Self, Failure> {
        let tls = MakeRustlsConnect::new(tls::client_config(endpoint.tls, endpoint.ca.as_deref())?);
        let connecting = tokio::time::timeout(Duration::from_secs(15), endpoint.config.connect(tls)).await;
        let (client, connection) = match connecting {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return Err(connect_failure(endpoint, &error)),
            Err(_) => {
                let message = format!("{} does not answer within 15 seconds", address(endpoint));
                return Err(Failure::new(Class::Transient, Reason::DatabaseUnreachable, message));
            }
        };
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = chain(&error), "connection ended");
            }
        });
        metrics.connections.inc();
        let mark = format!("{:016x}", fastrand::u64(..));
        let pinned = format!(
            "SET {MARK} = '{mark}'; SET search_path = pg_catalog, pg_temp; SET IntervalStyle = postgres; SET TimeZone = 'UTC'; SET DateStyle = ISO; SET client_min_messages = warning; SET default_transaction_isolation = 'read committed'; SET jit = off; {}",
            set_limits("SET", QUICK)
        );
        let session = Self {
            client,
            metrics: metrics.clone(),
            mark,
            to_be_flushed: AtomicBool::new(false),
            seen: Mutex::default(),
            definition: OnceCell::new(),
        };
        let [running, waiting] = NOTICE_A_GONE_CLIENT;
        let (pinned, running, waiting) =
            futures::join!(session.execute(&pinned), session.execute(running), session.execute(waiting));
        pinned?;
        for optional in [running, waiting] {
            match optional {
                Err(failure) if failure.reason == Reason::DatabaseUnreachable => return Err(failure),
                Err(failure) => tracing::debug!("{failure}"),
                Ok(()) => {}
            }
        }
        Ok(session)
    }

    /// What the server says of [`MARK`] must be what was set, or the settings and the lock are those of another session.
    fn must_be_marked(&self, found: Option<&str>) -> Result<(), Failure> {
        if found == Some(&self.mark) {
            return Ok(());
        }
        let message = "the session does not keep its settings: a pooler in transaction mode (pool_mode = transaction) stands between the operator and the server, where neither the advisory lock nor the timeouts hold. Connect to the server itself, or to a pooler with pool_mode = session";
        Err(Failure::new(Class::User, Reason::TransactionPooling, message))
    }

    /// Takes this operator's lock on the database for as long as the session lives, or says who holds it.
    pub async fn lock(&self) -> Result<(), Failure> {
        // In a process that is not the session's own the lock would be left behind.
        let take = format!(
            "SELECT current_setting('{MARK}', true), CASE WHEN current_setting('{MARK}', true) = $1 THEN pg_try_advisory_lock($2) END"
        );
        let rows = self.query(&take, &[(&self.mark, Type::TEXT), (&ADVISORY_LOCK, Type::INT8)]).await?;
        let row = rows.first();
        self.must_be_marked(row.and_then(|row| row.get(0)))?;
        if row.and_then(|row| row.get(1)) == Some(true) {
            return Ok(());
        }
        let holder =
            self.query(include_str!("../../sql/catalog/lock_holder.sql"), &[(&ADVISORY_LOCK, Type::INT8)]).await?;
        let holder = holder.first().map_or_else(|| "another session".to_owned(), |row| row.get(0));
        let mut message = format!(
            "{holder} holds the advisory lock of this operator on the database; only one operator may manage a database, and this one waits"
        );
        if !holder.starts_with(credentials::APPLICATION_NAME) {
            message.push_str(". By its name that is no operator: maybe a connection of a pooler in transaction mode, where an operator left the lock behind");
        }
        Err(Failure::new(Class::Transient, Reason::DatabaseLocked, message))
    }

    /// What ends the statement under way, wherever the session itself is busy.
    pub fn canceller(&self) -> Canceller {
        Canceller(self.client.cancel_token())
    }

    /// The connection is gone.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// One statement with parameters, by the extended protocol: the server takes exactly one.
    async fn query(&self, text: &str, parameters: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>, Failure> {
        self.metrics.statements.inc();
        self.answered(self.client.query_typed(text, parameters)).await
    }

    /// Has the server plan a statement, to be asked again and again.
    async fn prepare(&self, text: &str) -> Result<Statement, Failure> {
        self.answered(self.client.prepare(text)).await
    }

    /// A prepared statement with its parameters.
    async fn query_prepared(
        &self,
        statement: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failure> {
        self.metrics.statements.inc();
        self.answered(self.client.query(statement, parameters)).await
    }

    /// One complete statement, by the extended protocol: the server takes exactly one.
    async fn statement(&self, text: &str, limits: Limits) -> Result<Vec<Row>, Failure> {
        self.metrics.statements.inc();
        let statement = self.client.query_typed(text, &[]);
        if limits.statement.is_zero() {
            return statement.await.map_err(|e| sqlstate::failure(REFUSED, &e));
        }
        self.answered(statement).await
    }

    /// Settings and transaction control of our own, by the simple protocol.
    async fn execute(&self, text: &str) -> Result<(), Failure> {
        self.answered(self.client.batch_execute(text)).await
    }

    async fn answered<T>(
        &self,
        round_trip: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Failure> {
        let Ok(result) = tokio::time::timeout(UNANSWERED, round_trip).await else {
            let message = format!("no answer from the database within {} seconds", UNANSWERED.as_secs());
            return Err(Failure::new(Class::Transient, Reason::DatabaseUnreachable, message));
        };
        result.map_err(|e| sqlstate::failure(REFUSED, &e))
    }
}

/// Ends the statement that a session runs (`pg_cancel_backend` by the protocol).
#[derive(Clone)]
pub struct Canceller(CancelToken);

impl Canceller {
    /// Asks the server to end it; the statement then fails, and its transaction is rolled back.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn cancel(&self, endpoint: &Endpoint) -> Result<(), Failure> {
        let tls = MakeRustlsConnect::new(tls::client_config(endpoint.tls, endpoint.ca.as_deref())?);
        self.0.cancel_query(tls).await.map_err(|error| connect_failure(endpoint, &error))
    }
}

/// Both timeouts, as settings of the session (`SET`) or of the transaction (`SET LOCAL`).
fn set_limits(set: &str, limits: Limits) -> String {
    format!(
        "{set} lock_timeout = {}; {set} statement_timeout = {}",
        limits.lock.as_millis(),
        limits.statement.as_millis()
    )
}

fn address(endpoint: &Endpoint) -> String {
    let host = match endpoint.config.get_hosts().first() {
        Some(tokio_postgres::config::Host::Tcp(name)) => name.clone(),
        Some(tokio_postgres::config::Host::Unix(path)) => path.display().to_string(),
        None => "the database".to_owned(),
    };
    let port = endpoint.config.get_ports().first().map_or_else(String::new, |port| format!(":{port}"));
    format!("{host}{port}")
}

fn connect_failure(endpoint: &Endpoint, error: &tokio_postgres::Error) -> Failure {
    let doing =
        format!("cannot connect to {} as {}", address(endpoint), endpoint.config.get_user().unwrap_or_default());
    let failure = sqlstate::failure(&doing, error);
    let origin = endpoint.origin;
    if error.as_db_error().is_some() {
        if failure.reason != Reason::AuthenticationFailed {
            return failure;
        }
        let remedy = match origin {
            Origin::Resource => "Check user and password in the connection secret; it is read again at every attempt",
            Origin::Url => "Check user and password in the connection string, or in PGUSER and PGPASSWORD",
        };
        return Failure { message: format!("{}. {remedy}", failure.message), ..failure };
    }
    // A certificate does not become valid by itself, and TLS is not turned on by itself; a name that does not resolve or a
    // closed port may pass.
    if let Some(remedy) = certificate_remedy(&failure.message, origin) {
        let message = format!("{}. {remedy}", failure.message);
        return Failure::new(Class::User, Reason::CertificateInvalid, message);
    }
    if failure.message.contains("server does not support TLS") {
        let (field, modes) = match origin {
            Origin::Resource => ("spec.connection.tls.mode", "the mode Prefer or Disable"),
            Origin::Url => ("sslmode", "sslmode=prefer or sslmode=disable"),
        };
        let message = format!(
            "{doing}: the server does not support TLS, and {field} demands it; turn it on at the server (ssl = on), or set {modes}"
        );
        return Failure::new(Class::User, Reason::InvalidSpec, message);
    }
    let io = std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
    if !io && endpoint.config.get_password().is_none() {
        let remedy = match origin {
            Origin::Resource => "The secret has no password: add the key password, or a uri that holds it",
            Origin::Url => "No password is given: add it to the connection string, or set PGPASSWORD",
        };
        return Failure::new(Class::User, Reason::SecretNotFound, format!("{}. {remedy}", failure.message));
    }
    failure
}

/// What to do about a certificate that was refused, if that is what the message says.
fn certificate_remedy(message: &str, origin: Origin) -> Option<&'static str> {
    let (_, refusal) = message.split_once("invalid peer certificate: ")?;
    let (untrusted, misnamed, expired, other) = match origin {
        Origin::Resource => (
            "No authority that spec.connection.tls trusts has signed it: put the server's authority into the secret of spec.connection.tls.caSecretRef",
            "Connect by a name that is in it (spec.connection.host), or set spec.connection.tls.mode: VerifyCA",
            "Renew it at the server; spec.connection.tls is as it should be",
            "Check spec.connection.tls: mode, authority and host name must fit the server's certificate",
        ),
        Origin::Url => (
            "No authority that is trusted has signed it: name the file of the server's authority with sslrootcert=FILE, or PGSSLROOTCERT",
            "Connect by a name that is in it, or with sslmode=verify-ca",
            "Renew it at the server",
            "sslmode, sslrootcert and the host name must fit the server's certificate",
        ),
    };
    Some(if refusal.starts_with("UnknownIssuer") || refusal.starts_with("BadSignature") {
        untrusted
    } else if refusal.contains("not valid for name") {
        misnamed
    } else if refusal.contains("expired") {
        expired
    } else {
        other
    })
}
