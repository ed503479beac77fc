//! The client's side of a handshake, ended in the same lean records: for programs that hold many connections, such as
//! load generators. Applications take the client library, which leaves all of TLS to rustls.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::{
    ClientConnectionData, ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
    UnbufferedClientConnection,
};
use rustls::crypto::aws_lc_rs;
use rustls::kernel::KernelConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::unbuffered::UnbufferedStatus;
use rustls::{ClientConfig, HandshakeKind, NamedGroup, version};

use super::handshake::{Established, Step, step};
use super::pinned::Pinned;
use super::records::Records;
use super::secrets::{Capture, Secrets};
use super::{ALPN, HANDSHAKE_BYTES_MAX, TlsError};

/// Begins handshakes with one server.
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient").finish_non_exhaustive()
    }
}

impl TlsClient {
    /// TLS 1.3 and [`ALPN`] alone, with the one server that has this certificate; full handshakes, each time.
    pub fn pinned(certificate: CertificateDer<'static>) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned::of(&certificate, provider)))
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_secret_extraction = true;
        config.key_log = Arc::new(Capture);
        let name = ServerName::try_from("localhost").expect("a name");
        Ok(Self { config: Arc::new(config), name })
    }

    /// The same as one device that comes back: it keeps the newest ticket that it was given, and resumes with it, once.
    #[must_use]
    pub fn returning(&self) -> Self {
        let mut config = (*self.config).clone();
        config.resumption = Resumption::store(Arc::new(Newest::default()));
        Self { config: Arc::new(config), name: self.name.clone() }
    }

    /// Begins a handshake, and appends to `out` what the server must be sent first.
    pub fn handshake(&self, out: &mut Vec<u8>) -> Result<ClientHandshake, TlsError> {
        let tls = Box::new(UnbufferedClientConnection::new(self.config.clone(), self.name.clone())?);
        match (ClientHandshake { tls, secrets: Secrets::default(), incoming: Vec::new() })
            .receive(&[], out)?
        {
            ClientProgress::Continue(handshake) => Ok(handshake),
            ClientProgress::Done(_) => Err(TlsError::Internal("a handshake was complete at once".to_owned())),
        }
    }
}

/// A handshake under way.
pub struct ClientHandshake {
    tls: Box<UnbufferedClientConnection>,
    secrets: Secrets,
    incoming: Vec<u8>,
}

impl fmt::Debug for ClientHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHandshake").field("incoming", &self.incoming.len()).finish_non_exhaustive()
    }
}

/// Where a handshake stands.
#[derive(Debug)]
pub enum ClientProgress {
    /// It needs more from the server.
    Continue(ClientHandshake),
    /// It is complete.
    Done(Established),
}

impl ClientHandshake {
    /// Takes what the server sent, and appends to `out` what it must be sent.
    pub fn receive(mut self, ciphertext: &[u8], out: &mut Vec<u8>) -> Result<ClientProgress, TlsError> {
        self.incoming.extend_from_slice(ciphertext);
        let mut plaintext = Vec::new();
        loop {
            let UnbufferedStatus { discard, state, .. } = self.tls.process_tls_records(&mut self.incoming);
            let step = match state {
                Ok(state) => step(state, &mut plaintext, out),
                Err(error) => Err(error.into()),
            };
            self.secrets.listen();
            self.incoming.drain(..discard);
            let blocked = matches!(step?, Step::Blocked);
            if !self.tls.is_handshaking() && !self.tls.wants_write() {
                let resumed = self.tls.handshake_kind() == Some(HandshakeKind::Resumed);
                let (extracted, rest) = self.tls.dangerous_into_kernel_connection()?;
                let records = Box::new(Records::new(extracted, self.secrets, true)?);
                return Ok(ClientProgress::Done(Established {
                    records,
                    plaintext,
                    ciphertext: self.incoming,
                    resumed,
                    tickets: Some(TicketTaker(Box::new(rest))),
                }));
            }
            if blocked && self.incoming.len() > HANDSHAKE_BYTES_MAX {
                return Err(TlsError::PeerMisbehaved("the handshake is too long"));
            }
            if blocked {
                return Ok(ClientProgress::Continue(self));
            }
        }
    }
}

/// Takes the tickets that come on a connection, for the next one: what rustls keeps of the handshake, several hundred bytes.
pub struct TicketTaker(Box<KernelConnection<ClientConnectionData>>);

impl fmt::Debug for TicketTaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketTaker").finish_non_exhaustive()
    }
}

impl TicketTaker {
    /// Takes a NewSessionTicket message, its header included, as [`Records::open_with_tickets`] gives it.
    pub fn take(&mut self, message: &[u8]) -> Result<(), TlsError> {
        const HEADER_BYTES: usize = 4;
        let payload = message.get(HEADER_BYTES..).unwrap_or_default();
        Ok(self.0.handle_new_session_ticket(payload)?)
    }
}

/// The newest ticket of one device.
#[derive(Default)]
struct Newest(Mutex<Option<Box<Tls13ClientSessionValue>>>);

impl fmt::Debug for Newest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Newest").finish_non_exhaustive()
    }
}

impl ClientSessionStore for Newest {
    fn set_kx_hint(&self, _server: ServerName<'static>, _group: NamedGroup) {}

    fn kx_hint(&self, _server: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _server: ServerName<'static>, _value: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _server: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _server: ServerName<'static>, value: Tls13ClientSessionValue) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(value));
    }

    fn take_tls13_ticket(&self, _server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().map(|value| *value)
    }
}
