//! The certificate of the HTTPS listener beside the cores: the same as theirs, and another one whenever that is.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tern_wire::tls::TlsError;

use crate::certificate::Certificate;

/// See the module.
#[derive(Debug)]
pub struct Https(RwLock<Arc<CertifiedKey>>);

impl Https {
    /// With this certificate.
    pub fn new(certificate: &Certificate) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self(RwLock::new(certified(certificate)?))))
    }

    /// With this one from now on.
    pub fn use_certificate(&self, certificate: &Certificate) -> Result<(), TlsError> {
        let certified = certified(certificate)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = certified;
        Ok(())
    }

    /// TLS 1.3 for HTTP/1.1.
    pub fn tls(self: &Arc<Self>) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::from)?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn certified(Certificate { chain, key }: &Certificate) -> Result<Arc<CertifiedKey>, TlsError> {
    let provider = aws_lc_rs::default_provider();
    Ok(Arc::new(CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider)?))
}

impl ResolvesServerCert for Https {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}
