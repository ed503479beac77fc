//! Whom the client trusts to be the server.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tern_wire::tls::Pinned;

use crate::error::Error;

/// Whom to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The certificates of this PEM file.
    CaFile(PathBuf),
    /// The system's roots.
    System,
    /// The one certificate with this SHA-256.
    Fingerprint([u8; 32]),
}

impl Trust {
    /// A fingerprint as hexadecimal digits, with or without colons.
    pub fn fingerprint(text: &str) -> Result<Self, Error> {
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        let bad = || {
            Error::Config("a fingerprint is 64 hexadecimal digits (SHA-256 of the certificate)".to_owned())
        };
        if digits.len() != 64 || !digits.is_ascii() {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| bad())?;
        }
        Ok(Self::Fingerprint(bytes))
    }

    /// The TLS configuration: 1.3 and `tern/1` alone.
    pub(crate) fn tls(&self) -> Result<ClientConfig, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let tls = |error: rustls::Error| Error::Tls(error.to_string());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls)?;
        let builder = match self {
            Self::CaFile(path) => {
                let unreadable = |error| Error::Config(format!("the CA file {}: {error}", path.display()));
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
                    roots.add(certificate.map_err(unreadable)?).map_err(tls)?;
                }
                let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
                let verifier =
                    verifier.map_err(|error| Error::Config(format!("{}: {error}", path.display())))?;
                builder.with_webpki_verifier(verifier)
            }
            Self::System => builder.with_platform_verifier().map_err(tls)?,
            Self::Fingerprint(sha256) => {
                let verifier = Arc::new(Pinned::new(*sha256, provider));
                builder.dangerous().with_custom_certificate_verifier(verifier)
            }
        };
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![tern_wire::tls::ALPN.to_vec()];
        Ok(config)
    }
}
