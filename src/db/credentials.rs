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

/// Where an endpoint was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A `TimescaleDatabase` and its secrets.
    Resource,
    /// A connection string and libpq's environment variables.
    Url,
}

/// All that a connection depends on. A session is kept for as long as this stays equal.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host, port, database, user and password.
    pub config: Config,
    /// What is demanded of the server.
    pub tls: TlsMode,
    /// The certificate authority in PEM; `None`: the system's.
    pub ca: Option<Vec<u8>>,
    /// Who said so: where a person corrects it.
    pub origin: Origin,
}

/// Reads the endpoint from a secret, as CloudNativePG, Crunchy PGO, Zalando's operator, Service Binding or Crossplane's
/// provider-sql write it, or with a URI alone. What `spec.connection` gives overrides what the secret holds; of the secret,
/// user, password and database of single keys override the `uri`, whose host and port override single ones. Of two URIs the
/// one with the fully qualified host (`fqdn-uri`) is taken, because the operator need not run in the database's namespace.
/// Keys that lead to a pooler (Crunchy's `pgbouncer-…`) are not read: a session has to keep what it sets.
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
                let text = text.trim_end_matches(['\r', '\n']);
                // Crossplane writes its keys before it has values for them.
                if !text.is_empty() {
                    return Ok(Some(text.to_owned()));
                }
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
    let single_host = text(&["host", "endpoint"])?.filter(|_| config.get_hosts().is_empty());
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
    let missing: Vec<_> = [
        ("host", Some("spec.connection.host"), config.get_hosts().is_empty()),
        ("username", None, config.get_user().is_none()),
        // CloudNativePG's secret of the superuser is for every database: it names none of them, but "*".
        ("dbname", Some("spec.connection.database"), config.get_dbname().is_none_or(|name| name == "*")),
    ]
    .into_iter()
    .filter_map(|(key, field, missing)| missing.then_some((key, field)))
    .collect();
    if !missing.is_empty() {
        return Err(Failure::new(Class::User, Reason::SecretNotFound, format!("secret {name}: {}", lacks(&missing))));
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
    Ok(Endpoint { config, tls: connection.tls.mode, ca, origin: Origin::Resource })
}

/// The URI without its `ssl…` parameters: `spec.connection.tls` says how much is demanded of the server.
fn without_tls(uri: &str) -> String {
    let Some((address, parameters)) = uri.split_once('?') else { return uri.to_owned() };
    let kept: Vec<_> = parameters.split('&').filter(|pair| !pair.starts_with("ssl")).collect();
    if kept.is_empty() { address.to_owned() } else { format!("{address}?{}", kept.join("&")) }
}

/// What is missing, with every way to give it: a key of the secret, a uri, or the field of the resource, where there is one.
fn lacks(missing: &[(&str, Option<&str>)]) -> String {
    let keys: Vec<_> = missing.iter().map(|(key, _)| *key).collect();
    let fields: Vec<_> = missing.iter().filter_map(|(_, field)| *field).collect();
    let (plural, them) = if keys.len() == 1 { ("", "it") } else { ("s", "them") };
    let mut message = format!(
        "it has no {}; add the key{plural} {}, or a uri that holds {them}",
        keys.join(" and no "),
        keys.join(" and ")
    );
    if !fields.is_empty() {
        message.push_str(", or set ");
        message.push_str(&fields.join(" and "));
    }
    message
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

    /// Host, port, database, user and password that are found.
    fn found(connection: &Connection, pairs: &[(&str, &str)]) -> (String, u16, String, String, String) {
        let config = endpoint(connection, &secret(pairs), None).unwrap().config;
        let [Host::Tcp(host)] = config.get_hosts() else { panic!("not one host: {:?}", config.get_hosts()) };
        let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
        let password = String::from_utf8(config.get_password().unwrap_or_default().to_vec()).unwrap();
        let port = config.get_ports().first().copied().unwrap_or_default();
        (host.clone(), port, text(config.get_dbname()), text(config.get_user()), password)
    }

    fn is(host: &str, port: u16, database: &str, user: &str, password: &str) -> (String, u16, String, String, String) {
        (host.to_owned(), port, database.to_owned(), user.to_owned(), password.to_owned())
    }

    #[test]
    fn cloudnative_pg_s_secret_is_read_with_the_qualified_host() {
        let keys = [
            ("username", "app"),
            ("user", "app"),
            ("password", "s3cret\n"),
            ("dbname", "factory"),
            ("host", "ms5-rw"),
            ("port", "5432"),
            ("pgpass", "ms5-rw:5432:factory:app:s3cret\n"),
            ("uri", "postgresql://app:s3cret@ms5-rw.factory:5432/factory"),
            ("jdbc-uri", "jdbc:postgresql://ms5-rw.factory:5432/factory?password=s3cret&user=app"),
            ("fqdn-uri", "postgresql://app:s3cret@ms5-rw.factory.svc.cluster.local:5432/factory"),
            (
                "fqdn-jdbc-uri",
                "jdbc:postgresql://ms5-rw.factory.svc.cluster.local:5432/factory?password=s3cret&user=app",
            ),
        ];
        let expected = is("ms5-rw.factory.svc.cluster.local", 5432, "factory", "app", "s3cret");
        assert_eq!(found(&connection(), &keys), expected);
        // Versions that write no URI with the qualified host yet.
        let expected = is("ms5-rw.factory", 5432, "factory", "app", "s3cret");
        assert_eq!(found(&connection(), &keys[..9]), expected);
    }

    #[test]
    fn cloudnative_pg_s_superuser_is_for_every_database_and_the_spec_names_one() {
        let keys = [
            ("username", "postgres"),
            ("password", "p"),
            ("dbname", "*"),
            ("host", "ms5-rw"),
            ("port", "5432"),
            ("uri", "postgresql://postgres:p@ms5-rw.factory:5432/*"),
        ];
        let failure = endpoint(&connection(), &secret(&keys), None).err().unwrap();
        assert!(failure.message.contains("it has no dbname; add the key dbname"), "{}", failure.message);
        let spec = Connection { database: Some("factory".into()), ..connection() };
        assert_eq!(found(&spec, &keys), is("ms5-rw.factory", 5432, "factory", "postgres", "p"));
    }

    #[test]
    fn crunchy_s_secret_is_read_without_its_pooler() {
        let keys = [
            ("dbname", "hippo"),
            ("host", "hippo-primary.postgres-operator.svc"),
            ("jdbc-uri", "jdbc:postgresql://hippo-primary.postgres-operator.svc:5432/hippo?password=a%2Fb&user=rhino"),
            ("password", "a/b"),
            ("pgbouncer-host", "hippo-pgbouncer.postgres-operator.svc"),
            (
                "pgbouncer-jdbc-uri",
                "jdbc:postgresql://hippo-pgbouncer.postgres-operator.svc:6432/hippo?prepareThreshold=0",
            ),
            ("pgbouncer-port", "6432"),
            ("pgbouncer-uri", "postgresql://rhino:a%2Fb@hippo-pgbouncer.postgres-operator.svc:6432/hippo"),
            ("port", "5432"),
            ("uri", "postgresql://rhino:a%2Fb@hippo-primary.postgres-operator.svc:5432/hippo"),
            ("user", "rhino"),
            ("verifier", "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy"),
        ];
        let expected = is("hippo-primary.postgres-operator.svc", 5432, "hippo", "rhino", "a/b");
        assert_eq!(found(&connection(), &keys), expected);
        let without_uri: Vec<_> = keys.into_iter().filter(|(key, _)| *key != "uri").collect();
        assert_eq!(found(&connection(), &without_uri), expected);
        // A secret of the pooler alone leads nowhere, and least of all there.
        let pooler: Vec<_> = keys.into_iter().filter(|(key, _)| key.starts_with("pgbouncer-")).collect();
        let failure = endpoint(&connection(), &secret(&pooler), None).err().unwrap();
        assert!(failure.message.contains("it has no host and no username and no dbname"), "{}", failure.message);
    }

    #[test]
    fn zalando_s_secret_needs_host_and_database_of_the_spec() {
        let keys = [("username", "foo_user"), ("password", "p")];
        let failure = endpoint(&connection(), &secret(&keys), None).err().unwrap();
        assert_eq!((failure.class, failure.reason), (Class::User, Reason::SecretNotFound));
        assert_eq!(
            failure.message,
            "secret app: it has no host and no dbname; add the keys host and dbname, or a uri that holds them, or set spec.connection.host and spec.connection.database"
        );
        let spec =
            Connection { host: Some("acid-minimal.default.svc".into()), database: Some("foo".into()), ..connection() };
        assert_eq!(found(&spec, &keys), is("acid-minimal.default.svc", 0, "foo", "foo_user", "p"));
    }

    #[test]
    fn a_service_binding_is_read_with_and_without_its_uri() {
        let keys = [
            ("type", "postgresql"),
            ("provider", "example"),
            ("host", "db.example.com"),
            ("port", "5433"),
            ("database", "factory"),
            ("username", "app"),
            ("password", "p"),
            ("uri", "postgresql://app:p@db.example.com:5433/factory?sslmode=require"),
        ];
        let expected = is("db.example.com", 5433, "factory", "app", "p");
        assert_eq!(found(&connection(), &keys), expected);
        assert_eq!(found(&connection(), &keys[..7]), expected);
    }

    #[test]
    fn provider_sql_s_secret_calls_its_host_endpoint_and_needs_the_database_of_the_spec() {
        let keys =
            [("username", "app"), ("password", "p"), ("endpoint", "db.eu-1.rds.amazonaws.com"), ("port", "5432")];
        let failure = endpoint(&connection(), &secret(&keys), None).err().unwrap();
        assert!(failure.message.ends_with("or set spec.connection.database"), "{}", failure.message);
        let spec = Connection { database: Some("factory".into()), ..connection() };
        assert_eq!(found(&spec, &keys), is("db.eu-1.rds.amazonaws.com", 5432, "factory", "app", "p"));
        // Crossplane writes the keys at once and their values when the server is there.
        let early = [("username", "app"), ("password", ""), ("endpoint", ""), ("port", "")];
        let failure = endpoint(&spec, &secret(&early), None).err().unwrap();
        assert!(failure.message.contains("it has no host; add the key host"), "{}", failure.message);
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
