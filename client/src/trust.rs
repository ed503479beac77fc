//! Whom the client trusts to be the server.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
};
use rustls_platform_verifier::Verifier;
use tern_wire::tls::Pinned;

use crate::error::Error;

/// Whom to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The certificates of this PEM file.
    CaFile(PathBuf),
    /// These certificates, as PEM.
    Pem(String),
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
        let tls = |error: rustls::Error| Error::Config(error.to_string());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls)?;
        let verifier = Arc::new(Telling(self.verifier(provider)?));
        let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        config.alpn_protocols = vec![tern_wire::tls::ALPN.to_vec()];
        Ok(config)
    }

    fn verifier(&self, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, Error> {
        let place = match self {
            Self::CaFile(path) => format!("the CA file {}", path.display()),
            Self::Pem(_) => "the certificates that the profile keeps".to_owned(),
            Self::System => "the system's roots".to_owned(),
            Self::Fingerprint(_) => "the fingerprint".to_owned(),
        };
        let unusable = |error: &dyn fmt::Display| Error::Config(format!("{place}: {error}"));
        let certificates = match self {
            Self::CaFile(path) => CertificateDer::pem_file_iter(path)
                .map_err(|error| unusable(&error))?
                .collect::<Result<Vec<_>, _>>(),
            Self::Pem(text) => CertificateDer::pem_slice_iter(text.as_bytes()).collect(),
            Self::System => {
                return Ok(Arc::new(Verifier::new(provider).map_err(|error| unusable(&error))?));
            }
            Self::Fingerprint(sha256) => return Ok(Arc::new(Pinned::new(*sha256, provider))),
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates.map_err(|error| unusable(&error))? {
            roots.add(certificate).map_err(|error| unusable(&error))?;
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        verifier.map(|verifier| verifier as _).map_err(|error| unusable(&error))
    }
}

/// A certificate that is not trusted, and why.
#[derive(Debug)]
pub(crate) struct Untrusted {
    why: rustls::Error,
    sha256: String,
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

impl std::error::Error for Untrusted {}

impl Untrusted {
    /// The error of a connection that failed with it.
    pub(crate) fn error_of(error: &rustls::Error) -> Error {
        let untrusted = match error {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => {
                other.downcast_ref::<Self>()
            }
            _ => None,
        };
        let why = untrusted.map_or(error, |untrusted| &untrusted.why).to_string();
        Error::Tls { why, sha256: untrusted.map(|untrusted| untrusted.sha256.clone()) }
    }
}

/// A verifier that tells which certificate it does not trust, so that a person can compare it.
#[derive(Debug)]
struct Telling(Arc<dyn ServerCertVerifier>);

impl ServerCertVerifier for Telling {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now).map_err(|why| {
            // As ternd says it.
            let sha256 = tern_wire::tls::fingerprint(end_entity);
            CertificateError::Other(OtherError(Arc::new(Untrusted { why, sha256 }))).into()
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
