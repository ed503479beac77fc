//! Keys of tests: made anew for each.

use std::sync::Arc;

use rcgen::{Certificate, CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::http::Roots;

/// A certificate of 127.0.0.1 and localhost, and its key: whom mocks are.
pub struct Identity {
    certificate: Certificate,
    key: KeyPair,
}

impl Default for Identity {
    fn default() -> Self {
        let key = KeyPair::generate().expect("a key");
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let parameters = CertificateParams::new(names).expect("they are names");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        Self { certificate, key }
    }
}

impl Identity {
    /// What trusts it alone.
    pub fn roots(&self) -> Roots {
        Roots::from_pem(&self.pem()).expect("it is one")
    }

    /// Its certificate, as an operator gives one.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// What a listener needs that speaks these protocols.
    pub(super) fn server(&self, protocols: &[&[u8]]) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("they are there")
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.der().clone()], key)
            .expect("the key is the certificate's");
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }
}

/// A key of P-256: as PEM, and its point.
pub(super) fn p256() -> (String, Vec<u8>) {
    let key = KeyPair::generate().expect("a key");
    (key.serialize_pem(), key.public_key_raw().to_vec())
}

/// A key of RSA with 2,048 bits: as PEM, and its public part in PKCS#1.
pub(super) fn rsa() -> (String, Vec<u8>) {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("a key");
    (key.serialize_pem(), key.public_key_raw().to_vec())
}
