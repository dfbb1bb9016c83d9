//! What psql is told, a URL and libpq's environment variables, → where to connect and as whom. Pure.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use tokio_postgres::config::{Config, SslMode};

use super::credentials::{APPLICATION_NAME, Endpoint, Origin};
use crate::{
    api::{status::Reason, timescale_database::TlsMode},
    error::{Class, Failure},
};

/// A connection as psql takes it. The certificate authority is still to be read.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// Host, port, database, user and password.
    pub config: Config,
    /// `sslmode`; `allow` is taken for `prefer`.
    pub tls: TlsMode,
    /// `sslrootcert`: file of the certificate authority; `None`: the system's.
    pub root_certificate: Option<String>,
}

impl Address {
    /// Reads a connection string, `postgresql://user:password@host:port/database?sslmode=…` or `host=… dbname=…`, and fills what
    /// it leaves out from libpq's environment variables (`PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD`, `PGDATABASE`,
    /// `PGSSLMODE`, `PGSSLROOTCERT`), and then as libpq does: this machine, port 5432, the user's own name
    /// (<https://www.postgresql.org/docs/current/libpq-connect.html>).
    ///
    /// # Errors
    /// When it does not parse. The message does not quote it: it may hold a password.
    pub fn read(text: Option<&str>, environment: &BTreeMap<String, String>) -> Result<Self, Failure> {
        let variable = |name: &str| environment.get(name).filter(|value| !value.is_empty()).map(String::as_str);
        let (address, mut tls) = text.map_or_else(|| Ok((String::new(), BTreeMap::new())), without_tls)?;
        let mut config: Config = if address.is_empty() {
            Config::new()
        } else {
            Config::from_str(&address).map_err(|_| invalid("the connection string does not parse; write postgresql://user:password@host:port/database or \"host=… dbname=… user=…\""))?
        };
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host(variable("PGHOST").unwrap_or("localhost"));
        }
        if config.get_ports().is_empty()
            && let Some(port) = variable("PGPORT")
        {
            config.port(port.parse().map_err(|_| invalid(&format!("PGPORT is not a port: {port}")))?);
        }
        if config.get_user().is_none() {
            let user = variable("PGUSER").or_else(|| variable("USER"));
            config.user(user.ok_or_else(|| invalid("no user: add it to --database-url, or set PGUSER"))?);
        }
        if config.get_password().is_none()
            && let Some(password) = variable("PGPASSWORD")
        {
            config.password(password);
        }
        if config.get_dbname().is_none() {
            let user = config.get_user().unwrap_or_default().to_owned();
            config.dbname(variable("PGDATABASE").unwrap_or(&user));
        }
        let mut option =
            |name: &str, fallback: &str| tls.remove(name).or_else(|| variable(fallback).map(str::to_owned));
        let root_certificate = option("sslrootcert", "PGSSLROOTCERT").filter(|path| path != "system");
        let mode = option("sslmode", "PGSSLMODE");
        let mode = match mode.as_deref() {
            None | Some("prefer" | "allow") => TlsMode::Prefer,
            Some("disable") => TlsMode::Disable,
            // With an authority at hand libpq verifies it.
            Some("require") if root_certificate.is_some() => TlsMode::VerifyCa,
            Some("require") => TlsMode::Require,
            Some("verify-ca") => TlsMode::VerifyCa,
            Some("verify-full") => TlsMode::VerifyFull,
            Some(other) => {
                let message =
                    format!("sslmode {other:?} is none of disable, allow, prefer, require, verify-ca and verify-full");
                return Err(invalid(&message));
            }
        };
        if let Some(name) = tls.keys().next() {
            return Err(invalid(&format!("{name} is not supported; of TLS, sslmode and sslrootcert are")));
        }
        config
            .application_name(format!("{APPLICATION_NAME} command line"))
            .connect_timeout(Duration::from_secs(10))
            .keepalives_idle(Duration::from_secs(30))
            .ssl_mode(match mode {
                TlsMode::Disable => SslMode::Disable,
                TlsMode::Prefer => SslMode::Prefer,
                TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
            });
        Ok(Self { config, tls: mode, root_certificate })
    }

    /// With the certificate authority, in PEM.
    pub fn with_authority(self, authority: Option<Vec<u8>>) -> Endpoint {
        Endpoint { config: self.config, tls: self.tls, ca: authority, origin: Origin::Url }
    }
}

/// The connection string without its parameters of TLS, and those. The driver knows only some of them.
fn without_tls(text: &str) -> Result<(String, BTreeMap<String, String>), Failure> {
    let mut tls = BTreeMap::new();
    let mut take = |pair: &str| match pair.split_once('=') {
        Some((name, value)) if name.starts_with("ssl") => {
            tls.insert(name.to_owned(), value.trim_matches('\'').to_owned());
            false
        }
        _ => true,
    };
    let is_url = ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme));
    if !is_url && text.contains("://") {
        return Err(invalid("the connection string begins with another scheme than postgresql://"));
    }
    let rest = if is_url {
        match text.split_once('?') {
            None => text.to_owned(),
            Some((address, parameters)) => {
                let kept: Vec<_> = parameters.split('&').filter(|pair| take(pair)).collect();
                if kept.is_empty() { address.to_owned() } else { format!("{address}?{}", kept.join("&")) }
            }
        }
    } else {
        text.split(' ').filter(|pair| take(pair)).collect::<Vec<_>>().join(" ")
    };
    Ok((rest, tls))
}

fn invalid(problem: &str) -> Failure {
    Failure::new(Class::User, Reason::InvalidSpec, problem)
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::Host;

    use super::*;

    fn read(text: Option<&str>, environment: &[(&str, &str)]) -> Result<Address, String> {
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Address::read(text, &environment).map_err(|failure| failure.message)
    }

    fn of(address: &Address) -> (String, Vec<u16>, &str, &str) {
        let config = &address.config;
        let [Host::Tcp(host)] = config.get_hosts() else { panic!("not one host: {:?}", config.get_hosts()) };
        let (user, database) = (config.get_user().unwrap(), config.get_dbname().unwrap());
        (host.clone(), config.get_ports().to_vec(), user, database)
    }

    #[test]
    fn a_url_is_read_as_psql_reads_it() {
        let address =
            read(Some("postgres://app:s3cret@db:6432/ms5?sslmode=verify-full&sslrootcert=/ca.crt"), &[]).unwrap();
        assert_eq!(of(&address), ("db".to_owned(), vec![6432], "app", "ms5"));
        assert_eq!(address.tls, TlsMode::VerifyFull);
        assert_eq!(address.root_certificate.as_deref(), Some("/ca.crt"));
        assert_eq!(address.config.get_password(), Some(&b"s3cret"[..]));
        let address = read(Some("host=db user=app sslmode=disable dbname=ms5"), &[]).unwrap();
        assert_eq!(of(&address), ("db".to_owned(), vec![], "app", "ms5"));
        assert_eq!(address.tls, TlsMode::Disable);
    }

    #[test]
    fn the_environment_fills_what_the_url_leaves_out() {
        let environment = [
            ("PGHOST", "other"),
            ("PGPORT", "7432"),
            ("PGUSER", "me"),
            ("PGPASSWORD", "pw"),
            ("PGDATABASE", "mine"),
            ("PGSSLMODE", "require"),
            ("PGSSLROOTCERT", ""),
        ];
        let address = read(None, &environment).unwrap();
        assert_eq!(of(&address), ("other".to_owned(), vec![7432], "me", "mine"));
        assert_eq!((address.tls, address.config.get_password()), (TlsMode::Require, Some(&b"pw"[..])));
        let address = read(Some("postgres://app@db/ms5?sslmode=prefer"), &environment).unwrap();
        assert_eq!(of(&address), ("db".to_owned(), vec![5432], "app", "ms5"), "PGPORT is another host's");
        assert_eq!(address.tls, TlsMode::Prefer);
        let address = read(Some("postgres://db"), &[("USER", "me")]).unwrap();
        assert_eq!(of(&address), ("db".to_owned(), vec![5432], "me", "me"), "libpq's own defaults");
    }

    #[test]
    fn an_authority_at_hand_is_verified() {
        let address = read(Some("postgres://a@db/x?sslmode=require&sslrootcert=ca.crt"), &[]).unwrap();
        assert_eq!(address.tls, TlsMode::VerifyCa);
    }

    #[test]
    fn what_does_not_parse_is_said_without_the_password() {
        for text in
            ["postgres://app:s3cret@db:port/x", "mysql://app:s3cret@db/x", "postgres://app:s3cret@db/x?sslmode=s3"]
        {
            let message = read(Some(text), &[]).err().unwrap();
            assert!(!message.contains("s3cret"), "{message}");
        }
        let refused = |text| read(Some(text), &[("USER", "me")]).err().unwrap();
        assert!(refused("postgres://db/x?sslcert=mine.crt").contains("sslcert is not supported"));
        assert!(refused("postgres://db/x?sslmode=always").contains("none of disable"));
        assert!(read(None, &[]).err().unwrap().contains("no user"));
    }
}
