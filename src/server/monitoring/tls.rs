//! The certificate of the API's port, read again when its files change.

use std::{convert::Infallible, path::PathBuf, sync::Arc, time::Duration};

use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use sha2::{Digest, Sha256};

/// Between two looks at the files. The kubelet takes about a minute to bring a changed secret.
const LOOK: Duration = Duration::from_secs(10);
/// A client that does not get through the handshake by then is let go.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Certificate {
    files: Files,
    config: RustlsConfig,
    digest: [u8; 32],
}

#[derive(Clone, Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read or does not hold what it should, or the key is not the certificate's; the text names the file.
    pub async fn read(certificate: PathBuf, key: PathBuf) -> Result<Self, String> {
        let files = Files { certificate, key };
        let (pem, digest) = files.read().await?;
        Ok(Self { config: RustlsConfig::from_config(Arc::new(files.parse(&pem)?)), files, digest })
    }

    pub fn acceptor(&self) -> RustlsAcceptor {
        RustlsAcceptor::new(self.config.clone()).handshake_timeout(HANDSHAKE)
    }

    /// Takes over what the files hold whenever that changes. What cannot be used is said once, and the old certificate stays.
    pub async fn follow(mut self) -> Infallible {
        let mut problem = None;
        loop {
            tokio::time::sleep(LOOK).await;
            let found = match self.files.read().await {
                Ok((_, digest)) if digest == self.digest => Ok(None),
                Ok((pem, digest)) => self.files.parse(&pem).map(|config| Some((config, digest))),
                Err(error) => Err(error),
            };
            match found {
                Ok(None) => problem = None,
                Ok(Some((config, digest))) => {
                    self.config.reload_from_config(Arc::new(config));
                    self.digest = digest;
                    problem = None;
                    tracing::info!("the certificate of the monitoring API has been replaced");
                }
                Err(error) => {
                    if problem.as_ref() != Some(&error) {
                        tracing::warn!(
                            error,
                            "the new certificate of the monitoring API cannot be used; the old one stays"
                        );
                    }
                    problem = Some(error);
                }
            }
        }
    }
}

/// Certificate chain and key in PEM.
type Pem = (Vec<u8>, Vec<u8>);

impl Files {
    async fn read(&self) -> Result<(Pem, [u8; 32]), String> {
        let read = async |path: &PathBuf| tokio::fs::read(path).await.map_err(|e| format!("{}: {e}", path.display()));
        let pem = (read(&self.certificate).await?, read(&self.key).await?);
        let digest = Sha256::new().chain_update(Sha256::digest(&pem.0)).chain_update(Sha256::digest(&pem.1));
        Ok((pem, digest.finalize().into()))
    }

    fn parse(&self, (certificate, key): &Pem) -> Result<ServerConfig, String> {
        let bad = |path: &PathBuf, problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, _>>()
            .map_err(|e| bad(&self.certificate, &e))?;
        if chain.is_empty() {
            return Err(bad(&self.certificate, &"it holds no certificate in PEM"));
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| bad(&self.key, &e))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|e| bad(&self.key, &e))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap_or_else(|e| panic!("{e}"));
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[tokio::test]
    async fn what_cannot_be_used_is_named_by_its_file() {
        let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
        let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        let read = async || Certificate::read(certificate.clone(), key.clone()).await.map(drop);
        let write = |certificate_text: &str, key_text: &str| {
            let written = std::fs::write(&certificate, certificate_text).and(std::fs::write(&key, key_text));
            written.unwrap_or_else(|e| panic!("{e}"));
        };
        let ((mine, my_key), (_, other_key)) = (pair(), pair());
        assert!(read().await.is_err_and(|e| e.contains("tls.crt")));
        for (certificate_text, key_text, file) in
            [("", my_key.as_str(), "tls.crt: "), (&mine, "", "tls.key: "), (&mine, &other_key, "tls.key: ")]
        {
            write(certificate_text, key_text);
            let error = read().await.err().unwrap_or_default();
            assert!(error.contains(file), "{error}");
        }
        write(&mine, &my_key);
        assert_eq!(read().await, Ok(()));
    }
}
