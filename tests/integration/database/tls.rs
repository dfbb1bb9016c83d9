//! TLS in the terms of libpq's `sslmode`: which servers are spoken to, and what is said about the others.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use timescaledb_policy_operator::{
    api::{status::Reason, timescale_database::TlsMode},
    db::Session,
    error::{Class, Failure},
    metrics::Metrics,
};

use super::{
    driver::{assert_says, endpoint},
    stand_in::{Answer, StandIn},
};
use crate::support::Result;

use TlsMode::{Disable, Prefer, Require, VerifyCa, VerifyFull};

/// A certificate authority.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// A server with a certificate of this authority for the name.
    fn server(&self, name: &str) -> Result<StandIn> {
        self.server_until(name, 2036)
    }

    fn server_until(&self, name: &str, year: i32) -> Result<StandIn> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate()?;
        start(params.signed_by(&key, &self.issuer)?.der().clone(), &key)
    }
}

fn start(certificate: rustls::pki_types::CertificateDer<'static>, key: &KeyPair) -> Result<StandIn> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    StandIn::start(Some(Arc::new(config)), Answer::Welcome)
}

async fn connect(server: &StandIn, host: &str, mode: TlsMode, ca: Option<&str>) -> Result<Session, Failure> {
    let mut endpoint = endpoint(&server.uri(host));
    endpoint.tls = mode;
    endpoint.ca = ca.map(|pem| pem.as_bytes().to_vec());
    endpoint.config.ssl_mode(match mode {
        Disable => tokio_postgres::config::SslMode::Disable,
        Prefer => tokio_postgres::config::SslMode::Prefer,
        Require | VerifyCa | VerifyFull => tokio_postgres::config::SslMode::Require,
    });
    Session::connect(&endpoint, &Metrics::default()).await
}

/// The refusal of a certificate: a person has to do something, and is told what.
fn assert_refused(result: Result<Session, Failure>, says: &str) {
    let failure = result.expect_err("the connection was made");
    assert_eq!((failure.class, failure.reason), (Class::User, Reason::CertificateInvalid), "{failure}");
    assert_says(&failure.message, &["cannot connect to 127.0.0.1", "certificate", says, "spec.connection.tls"]);
    assert!(!failure.message.contains("hunter2"), "{failure}");
}

#[tokio::test]
async fn a_certificate_for_the_host_by_the_given_authority_satisfies_every_mode() -> Result<()> {
    let authority = Authority::new("ours")?;
    let server = authority.server("127.0.0.1")?;
    for mode in [Prefer, Require, VerifyCa, VerifyFull] {
        connect(&server, "127.0.0.1", mode, Some(&authority.pem)).await?;
    }
    assert_eq!(server.seen(), ["tls"; 4]);
    // Also by name, and also when the authority is one of several in the file.
    let server = authority.server("localhost")?;
    let bundle = Authority::new("another")?.pem + &authority.pem;
    connect(&server, "localhost", VerifyFull, Some(&bundle)).await?;
    Ok(())
}

#[tokio::test]
async fn another_authority_is_refused_where_the_authority_counts() -> Result<()> {
    let (ours, theirs) = (Authority::new("ours")?, Authority::new("theirs")?);
    let server = theirs.server("127.0.0.1")?;
    for mode in [VerifyCa, VerifyFull] {
        let result = connect(&server, "127.0.0.1", mode, Some(&ours.pem)).await;
        assert_refused(result, "put the server's authority into the secret of spec.connection.tls.caSecretRef");
    }
    assert_eq!(server.seen(), [""; 0], "nothing is said to such a server, least of all a password");
    connect(&server, "127.0.0.1", Require, Some(&ours.pem)).await?;
    Ok(())
}

#[tokio::test]
async fn another_host_name_is_refused_by_verify_full_alone() -> Result<()> {
    let authority = Authority::new("ours")?;
    let server = authority.server("db.example")?;
    assert_refused(connect(&server, "127.0.0.1", VerifyFull, Some(&authority.pem)).await, "db.example");
    assert_refused(connect(&server, "127.0.0.1", VerifyFull, Some(&authority.pem)).await, "spec.connection.host");
    for mode in [Prefer, Require, VerifyCa] {
        connect(&server, "127.0.0.1", mode, Some(&authority.pem)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_expired_certificate_is_refused_where_certificates_count() -> Result<()> {
    let authority = Authority::new("ours")?;
    let server = authority.server_until("127.0.0.1", 2021)?;
    for mode in [VerifyCa, VerifyFull] {
        assert_refused(connect(&server, "127.0.0.1", mode, Some(&authority.pem)).await, "expired");
    }
    connect(&server, "127.0.0.1", Require, None).await?;
    Ok(())
}

/// Also where it is its own authority, and however it is marked.
#[tokio::test]
async fn a_self_signed_certificate_is_trusted_within_its_period_alone() -> Result<()> {
    for is_ca in [IsCa::NoCa, IsCa::ExplicitNoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        for (from, to, says) in [(2020, 2021, Some("expired")), (2035, 2036, Some("not valid yet")), (2020, 2036, None)]
        {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
            params.is_ca = is_ca;
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(to, 1, 1);
            let certificate = params.self_signed(&key)?;
            let server = start(certificate.der().clone(), &key)?;
            for mode in [VerifyCa, VerifyFull] {
                let result = connect(&server, "127.0.0.1", mode, Some(&certificate.pem())).await;
                match says {
                    Some(says) => assert_refused(result, says),
                    None => drop(result?),
                }
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_self_signed_certificate_is_enough_for_require_and_is_its_own_authority() -> Result<()> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.self_signed(&key)?;
    let server = start(certificate.der().clone(), &key)?;
    for mode in [Prefer, Require] {
        connect(&server, "127.0.0.1", mode, None).await?;
    }
    connect(&server, "127.0.0.1", VerifyFull, Some(&certificate.pem())).await?;
    assert_refused(
        connect(&server, "127.0.0.1", VerifyFull, Some(&Authority::new("ours")?.pem)).await,
        "UnknownIssuer",
    );
    Ok(())
}

/// `openssl req -x509`, which PostgreSQL's manual tells people to use, marks such a certificate as an authority's.
#[tokio::test]
async fn a_self_signed_certificate_as_openssl_makes_it_is_its_own_authority_too() -> Result<()> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key)?;
    let server = start(certificate.der().clone(), &key)?;
    for mode in [VerifyCa, VerifyFull] {
        connect(&server, "127.0.0.1", mode, Some(&certificate.pem())).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_demanded() -> Result<()> {
    let server = StandIn::start(None, Answer::Welcome)?;
    let authority = Authority::new("ours")?;
    for mode in [Require, VerifyCa, VerifyFull] {
        let failure =
            connect(&server, "127.0.0.1", mode, Some(&authority.pem)).await.expect_err("the connection was made");
        assert_eq!((failure.class, failure.reason), (Class::User, Reason::InvalidSpec), "{failure}");
        let says = ["127.0.0.1", "the server does not support TLS", "spec.connection.tls.mode", "ssl = on", "Prefer"];
        assert_says(&failure.message, &says);
    }
    assert_eq!(server.seen(), [""; 0]);
    connect(&server, "127.0.0.1", Prefer, None).await?;
    connect(&server, "127.0.0.1", Disable, None).await?;
    assert_eq!(server.seen(), ["plain"; 2]);
    Ok(())
}

/// A host may be called what it likes: only a certificate that was refused is one.
#[tokio::test]
async fn a_host_whose_name_speaks_of_certificates_is_unreachable_for_now() -> Result<()> {
    let mut endpoint = endpoint("postgresql://someone:hunter2@certificate.invalid:5432/somewhere");
    endpoint.tls = VerifyFull;
    endpoint.ca = Some(Authority::new("ours")?.pem.into_bytes());
    let failure = Session::connect(&endpoint, &Metrics::default()).await.expect_err("the connection was made");
    assert_eq!((failure.class, failure.reason), (Class::Transient, Reason::DatabaseUnreachable), "{failure}");
    Ok(())
}

#[tokio::test]
async fn tls_that_is_offered_is_not_used_when_it_is_disabled() -> Result<()> {
    let server = Authority::new("ours")?.server("127.0.0.1")?;
    connect(&server, "127.0.0.1", Disable, None).await?;
    assert_eq!(server.seen(), ["plain"]);
    Ok(())
}

#[tokio::test]
async fn an_authority_that_is_no_certificate_is_named_as_the_mistake() -> Result<()> {
    let server = Authority::new("ours")?.server("127.0.0.1")?;
    let broken = "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n";
    for text in ["", "not PEM at all", broken, "-----BEGIN CERTIFICATE-----\n***\n-----END CERTIFICATE-----\n"] {
        let failure = connect(&server, "127.0.0.1", VerifyFull, Some(text)).await.expect_err("the connection was made");
        assert_eq!((failure.class, failure.reason), (Class::User, Reason::InvalidSpec), "{text}: {failure}");
        assert_says(&failure.message, &["spec.connection.tls.caSecretRef"]);
    }
    Ok(())
}
