//! Connection secret → where to connect and as whom. Pure.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use k8s_openapi::ByteString;
use tokio_postgres::config::{Config, SslMode};

use crate::{
    api::{
        status::Reason,
        timescale_database::{Connection, TlsMode},
    },
    error::{Class, Failure},
};

/// How the `application_name` of every connection begins, as `pg_stat_activity` shows it.
pub const APPLICATION_NAME: &str = "timescaledb-policy-operator";

/// All that a connection depends on. A session is kept for as long as this stays equal.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host, port, database, user and password.
    pub config: Config,
    /// What is demanded of the server.
    pub tls: TlsMode,
    /// The certificate authority in PEM; `None`: the system's.
    pub ca: Option<Vec<u8>>,
}

/// Reads the endpoint from a secret. What `spec.connection` gives overrides what the secret holds; of the secret, single
/// keys (`host`, `port`, `dbname`, `username`, `password`: CloudNativePG) override the `uri`. Of two URIs the one with the
/// fully qualified host (`fqdn-uri`) is taken, because the operator need not run in the database's namespace.
pub fn endpoint(
    connection: &Connection,
    secret: &BTreeMap<String, ByteString>,
    ca: Option<Vec<u8>>,
) -> Result<Endpoint, Failure> {
    let name = &connection.secret_ref.name;
    let text = |keys: &[&str]| -> Result<Option<String>, Failure> {
        for key in keys {
            if let Some(value) = secret.get(*key) {
                let text = std::str::from_utf8(&value.0)
                    .map_err(|_| invalid(name, &format!("key {key} is not UTF-8 text")))?;
                return Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()));
            }
        }
        Ok(None)
    };
    let mut config = match text(&["fqdn-uri", "uri"])? {
        // The error is left out: it can quote the text, and the text holds the password.
        Some(uri) => Config::from_str(&without_tls(&uri)).map_err(|_| {
            invalid(name, "the uri does not parse; write postgresql://user:password@host:port/database")
        })?,
        None => Config::new(),
    };
    let single_host = text(&["host"])?.filter(|_| config.get_hosts().is_empty());
    if let Some(host) = connection.host.clone().or(single_host) {
        config = with_host(&config, &host);
    }
    if let Some(port) = connection.port {
        config =
            with_port(&config, u16::try_from(port).map_err(|_| invalid(name, "spec.connection.port is not a port"))?);
    } else if config.get_ports().is_empty()
        && let Some(port) = text(&["port"])?
    {
        config.port(port.parse().map_err(|_| invalid(name, &format!("key port is not a port: {port}")))?);
    }
    if let Some(user) = text(&["username", "user"])? {
        config.user(user);
    }
    if let Some(password) = text(&["password"])? {
        config.password(password);
    }
    if let Some(database) =
        connection.database.clone().map_or_else(|| text(&["dbname", "database"]), |d| Ok(Some(d)))?
    {
        config.dbname(database);
    }
    let missing = [
        ("host", config.get_hosts().is_empty()),
        ("username", config.get_user().is_none()),
        ("dbname", config.get_dbname().is_none()),
    ];
    if let Some((key, _)) = missing.into_iter().find(|(_, missing)| *missing) {
        let message =
            format!("it has no {key}; add the key {key}, or a uri that holds it, or set it in spec.connection");
        return Err(Failure::new(Class::User, Reason::SecretNotFound, format!("secret {name}: {message}")));
    }
    config
        .application_name(APPLICATION_NAME)
        .connect_timeout(Duration::from_secs(10))
        .tcp_user_timeout(Duration::from_secs(30))
        .keepalives_idle(Duration::from_secs(30))
        .ssl_mode(match connection.tls.mode {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
        });
    Ok(Endpoint { config, tls: connection.tls.mode, ca })
}

/// The URI without its `ssl…` parameters: `spec.connection.tls` says how much is demanded of the server.
fn without_tls(uri: &str) -> String {
    let Some((address, parameters)) = uri.split_once('?') else { return uri.to_owned() };
    let kept: Vec<_> = parameters.split('&').filter(|pair| !pair.starts_with("ssl")).collect();
    if kept.is_empty() { address.to_owned() } else { format!("{address}?{}", kept.join("&")) }
}

fn invalid(name: &str, problem: &str) -> Failure {
    Failure::new(Class::User, Reason::InvalidSpec, format!("secret {name}: {problem}"))
}

/// `Config` collects hosts and ports; replacing one means building it anew.
fn with_host(config: &Config, host: &str) -> Config {
    let mut new = without_address(config);
    new.host(host);
    for port in config.get_ports().iter().take(1) {
        new.port(*port);
    }
    new
}

fn with_port(config: &Config, port: u16) -> Config {
    let mut new = without_address(config);
    for host in config.get_hosts() {
        match host {
            tokio_postgres::config::Host::Tcp(name) => new.host(name),
            #[cfg(unix)]
            tokio_postgres::config::Host::Unix(path) => new.host_path(path),
        };
        new.port(port);
    }
    new
}

fn without_address(config: &Config) -> Config {
    let mut new = Config::new();
    if let Some(user) = config.get_user() {
        new.user(user);
    }
    if let Some(password) = config.get_password() {
        new.password(password);
    }
    if let Some(database) = config.get_dbname() {
        new.dbname(database);
    }
    new
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::Host;

    use super::*;
    use crate::api::timescale_database::{SecretRef, Tls};

    fn connection() -> Connection {
        Connection {
            secret_ref: SecretRef { name: "app".into() },
            host: None,
            port: None,
            database: None,
            tls: Tls::default(),
        }
    }

    fn secret(pairs: &[(&str, &str)]) -> BTreeMap<String, ByteString> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec()))).collect()
    }

    #[test]
    fn cloudnative_pg_s_secret_is_read_with_the_qualified_host() {
        let secret = secret(&[
            ("username", "app"),
            ("user", "app"),
            ("password", "s3cret\n"),
            ("dbname", "factory"),
            ("host", "ms5-rw"),
            ("port", "5432"),
            ("uri", "postgresql://app:s3cret@ms5-rw.factory:5432/factory"),
            ("fqdn-uri", "postgresql://app:s3cret@ms5-rw.factory.svc.cluster.local:5432/factory"),
        ]);
        let config = endpoint(&connection(), &secret, None).unwrap().config;
        assert_eq!(config.get_hosts(), [Host::Tcp("ms5-rw.factory.svc.cluster.local".into())]);
        assert_eq!(config.get_ports(), [5432]);
        assert_eq!((config.get_user(), config.get_dbname()), (Some("app"), Some("factory")));
        assert_eq!(config.get_password(), Some(&b"s3cret"[..]));
    }

    #[test]
    fn single_keys_are_enough() {
        let secret =
            secret(&[("username", "app"), ("password", "p"), ("dbname", "d"), ("host", "h"), ("port", "5433")]);
        let config = endpoint(&connection(), &secret, None).unwrap().config;
        assert_eq!((config.get_hosts(), config.get_ports()), (&[Host::Tcp("h".into())][..], &[5433][..]));
    }

    #[test]
    fn a_uri_is_enough_and_the_spec_overrides_it() {
        let secret = secret(&[("uri", "postgres://u:p@h:1/d")]);
        let spec = Connection { host: Some("other".into()), port: Some(2), database: Some("e".into()), ..connection() };
        let config = endpoint(&spec, &secret, None).unwrap().config;
        assert_eq!(config.get_hosts(), [Host::Tcp("other".into())]);
        assert_eq!((config.get_ports(), config.get_dbname(), config.get_user()), (&[2][..], Some("e"), Some("u")));
        assert_eq!(config.get_password(), Some(&b"p"[..]));
    }

    #[test]
    fn what_a_uri_says_of_tls_is_left_to_the_spec() {
        let secret = secret(&[("uri", "postgres://u:p@h/d?sslmode=verify-full&connect_timeout=3&sslrootcert=/ca")]);
        assert_eq!(endpoint(&connection(), &secret, None).unwrap().config.get_dbname(), Some("d"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let failure = endpoint(&connection(), &secret(&[("host", "h"), ("username", "u")]), None).err().unwrap();
        assert_eq!(failure.reason, Reason::SecretNotFound);
        assert!(failure.message.contains("secret app: it has no dbname"), "{}", failure.message);
    }

    #[test]
    fn a_broken_uri_is_not_repeated_because_it_holds_a_password() {
        let failure =
            endpoint(&connection(), &secret(&[("uri", "postgres://u:hunter2@h:port/d")]), None).err().unwrap();
        assert!(!failure.message.contains("hunter2"), "{}", failure.message);
    }
}
