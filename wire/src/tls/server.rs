//! The server's TLS configuration.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, UnbufferedServerConnection};
use rustls::{ServerConfig, version};

use super::secrets::Capture;
use super::{ALPN, Handshake, TlsError};

/// Begins handshakes: one for a whole node.
#[derive(Clone)]
pub struct TlsServer(Arc<ServerConfig>);

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer").finish_non_exhaustive()
    }
}

impl TlsServer {
    /// TLS 1.3 and [`ALPN`] alone, with stateless tickets.
    ///
    /// `chain` begins with the server's own certificate, for an ECDSA P-256 or Ed25519 key.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, TlsError> {
        let bad = |error: rustls::Error| TlsError::BadCertificate(error.to_string());
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(bad)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(bad)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        // One ticket is what one reconnect needs.
        config.send_tls13_tickets = 1;
        config.enable_secret_extraction = true;
        config.key_log = Arc::new(Capture);
        Ok(Self(Arc::new(config)))
    }

    /// Begins a handshake with a client that has just connected.
    pub fn handshake(&self) -> Result<Handshake, TlsError> {
        Ok(Handshake::new(UnbufferedServerConnection::new(self.0.clone())?))
    }
}
