//! The server's TLS configuration.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, UnbufferedServerConnection};
use rustls::{ServerConfig, version};

use super::secrets::Capture;
use super::{ALPN, Handshake, Tickets, TlsError};

/// Begins handshakes: one for a whole node.
#[derive(Clone)]
pub struct TlsServer(Arc<ServerConfig>);

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer").finish_non_exhaustive()
    }
}

impl TlsServer {
    /// TLS 1.3 and [`ALPN`] alone, without early data; and without tickets, unless there are [some](Self::with_tickets).
    ///
    /// `chain` begins with the server's own certificate, for an ECDSA P-256 or Ed25519 key.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, TlsError> {
        let bad = |error: rustls::Error| TlsError::BadCertificate(error.to_string());
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(bad)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(bad)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.ignore_client_order = true;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.enable_secret_extraction = true;
        config.key_log = Arc::new(Capture);
        Ok(Self(Arc::new(config)))
    }

    /// The same with another certificate, and with the tickets of this one: who has a ticket still resumes.
    pub fn with_certificate(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        let Self(config) = Self::new(chain, key)?;
        let mut renewed = (*config).clone();
        renewed.ticketer = self.0.ticketer.clone();
        renewed.send_tls13_tickets = self.0.send_tls13_tickets;
        Ok(Self(Arc::new(renewed)))
    }

    /// The same with tickets, or with others: who comes back with one resumes.
    #[must_use]
    pub fn with_tickets(&self, tickets: Tickets) -> Self {
        let mut config = (*self.0).clone();
        config.ticketer = Arc::new(tickets);
        // One is what one return needs.
        config.send_tls13_tickets = 1;
        Self(Arc::new(config))
    }

    /// Begins a handshake with a client that has just connected.
    pub fn handshake(&self) -> Result<Handshake, TlsError> {
        Ok(Handshake::new(UnbufferedServerConnection::new(self.0.clone())?))
    }
}

/// The cipher suites in the server's order. The first has a hash that processors know (SHA-256; SHA-384 takes an eighth of a
/// handshake's time), and is the one that RFC 8446, section 9.1, has every client offer.
fn provider() -> CryptoProvider {
    use aws_lc_rs::cipher_suite::{
        TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    };
    let cipher_suites =
        vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256];
    CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() }
}
