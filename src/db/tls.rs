//! libpq's `sslmode` on rustls.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};

use crate::{
    api::{status::Reason, timescale_database::TlsMode},
    error::{Class, Failure},
};

/// The TLS configuration for a mode and a certificate authority (PEM; `None`: the system's).
pub fn client_config(mode: TlsMode, ca: Option<&[u8]>) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| Failure::new(Class::Bug, Reason::InternalError, format!("TLS: {e}")))?;
    let verifier: Arc<dyn ServerCertVerifier> = match mode {
        TlsMode::VerifyFull | TlsMode::VerifyCa => {
            let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(ca)?), provider)
                .build()
                .map_err(|e| invalid_ca(&e.to_string()))?;
            Arc::new(Signed { inner, own: certificates(ca)?, any_name: mode == TlsMode::VerifyCa })
        }
        TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => Arc::new(Unchecked(provider)),
    };
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

fn invalid_ca(problem: &str) -> Failure {
    Failure::new(Class::User, Reason::InvalidSpec, format!("spec.connection.tls.caSecretRef: {problem}"))
}

fn roots(ca: Option<&[u8]>) -> Result<RootCertStore, Failure> {
    let mut store = RootCertStore::empty();
    if ca.is_some() {
        for certificate in certificates(ca)? {
            store.add(certificate).map_err(|e| invalid_ca(&e.to_string()))?;
        }
        if store.is_empty() {
            return Err(invalid_ca("it holds no certificate"));
        }
    } else {
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if store.is_empty() {
            let message = "the operator's image has no system certificates; name the authority in caSecretRef";
            return Err(invalid_ca(message));
        }
    }
    Ok(store)
}

fn certificates(pem: Option<&[u8]>) -> Result<Vec<CertificateDer<'static>>, Failure> {
    CertificateDer::pem_slice_iter(pem.unwrap_or_default())
        .map(|certificate| certificate.map_err(|e| invalid_ca(&format!("not a PEM certificate: {e:?}"))))
        .collect()
}

/// `require`: encrypted, whoever the server is. libpq does the same.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

/// `verify-full` and `verify-ca`: the authority must have signed the certificate, for this host or for whatever name.
#[derive(Debug)]
struct Signed {
    inner: Arc<WebPkiServerVerifier>,
    /// The certificates given as authorities. One that the server shows itself is as good as signed by it: that is how a
    /// self-signed certificate is trusted. rustls takes none for a server's that is marked as an authority's, as
    /// `openssl req -x509` marks them.
    own: Vec<CertificateDer<'static>>,
    any_name: bool,
}

impl ServerCertVerifier for Signed {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use rustls::{CertificateError, Error};
        match self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.any_name => Ok(ServerCertVerified::assertion()),
            // Here it is readable and within its period: what is neither has been refused for that before its marks count.
            Err(Error::InvalidCertificate(CertificateError::Other(_)))
                if self.own.iter().any(|own| own == end_entity) =>
            {
                let certificate = ParsedCertificate::try_from(end_entity)?;
                if !self.any_name {
                    verify_server_name(&certificate, server_name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `openssl x509 -req -signkey` makes it without a file of extensions: version 1, which rustls does not read.
    const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----
MIIBJDCBywIUQiV6QK4p+vED7Ahp3Y+E8IVo2CgwCgYIKoZIzj0EAwIwFDESMBAG
A1UEAwwJMTI3LjAuMC4xMCAXDTI2MTEyMTExMjgxMVoYDzIxMjYxMDI4MTEyODEx
WjAUMRIwEAYDVQQDDAkxMjcuMC4wLjEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AAQkhPH1cvyl5HradYW/SMnWx/cIFFTfH4kPfK64WF4aLqUnFOt4qRhy2D2IoxAt
XJTOji4pQc9VicaKpc113kq6MAoGCCqGSM49BAMCA0gAMEUCIC1HtrhR/Hh9cqlQ
1EJ1g9mXJZ5MVycQh3HlBj7p5yeXAiEAtLxvz+BIqZIu1UE+rMqtHtC+ez4ooyyu
Jl+OOz092yw=
-----END CERTIFICATE-----
";

    /// Of a certificate that cannot be read nobody knows until when it is valid.
    #[test]
    fn a_certificate_that_rustls_cannot_read_is_refused_although_it_is_its_own_authority() {
        let own = certificates(Some(VERSION_1.as_bytes())).unwrap();
        for any_name in [true, false] {
            let provider = Arc::new(ring::default_provider());
            let roots = Arc::new(roots(Some(VERSION_1.as_bytes())).unwrap());
            let inner = WebPkiServerVerifier::builder_with_provider(roots, provider).build().unwrap();
            let verifier = Signed { inner, own: own.clone(), any_name };
            let name = ServerName::try_from("127.0.0.1").unwrap();
            let error = verifier.verify_server_cert(&own[0], &[], &name, &[], UnixTime::now()).unwrap_err();
            assert!(error.to_string().contains("UnsupportedCertVersion"), "{error}");
        }
    }
}
