//! The server's handshake: rustls over buffers of our own, ended by taking its secrets over.

use std::fmt;

use rustls::HandshakeKind;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};

use super::client::TicketTaker;
use super::records::Records;
use super::secrets::Secrets;
use super::{ALPN, HANDSHAKE_BYTES_MAX, TlsError, alert, content};

/// A handshake under way.
pub struct Handshake {
    tls: Box<UnbufferedServerConnection>,
    secrets: Secrets,
    incoming: Vec<u8>,
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("incoming", &self.incoming.len()).finish_non_exhaustive()
    }
}

/// Where a handshake stands.
#[derive(Debug)]
pub enum Progress {
    /// It needs more from the client.
    Continue(Handshake),
    /// It is complete.
    Done(Established),
}

/// A complete handshake.
#[derive(Debug)]
pub struct Established {
    /// The record layer from here on.
    pub records: Box<Records>,
    /// What the client sent behind its part of the handshake, opened already.
    pub plaintext: Vec<u8>,
    /// The same, still sealed: to be opened by `records`.
    pub ciphertext: Vec<u8>,
    /// The client has come back with a ticket.
    pub resumed: bool,
    /// Of a client's end alone: takes its tickets.
    pub tickets: Option<TicketTaker>,
}

impl Handshake {
    pub(super) fn new(tls: UnbufferedServerConnection) -> Self {
        Self { tls: Box::new(tls), secrets: Secrets::default(), incoming: Vec::new() }
    }

    /// Takes what the client sent, and appends to `out` what it must be sent: on an error the alert that says why.
    pub fn receive(mut self, ciphertext: &[u8], out: &mut Vec<u8>) -> Result<Progress, TlsError> {
        self.incoming.extend_from_slice(ciphertext);
        if self.incoming.first().is_some_and(|first| *first != content::HANDSHAKE) && !self.has_begun() {
            return Err(TlsError::NotTls);
        }
        let is_old = is_of_an_old_version(&self.incoming);
        let mut plaintext = Vec::new();
        loop {
            let UnbufferedStatus { discard, state, .. } = self.tls.process_tls_records(&mut self.incoming);
            let step = match state {
                Ok(state) => step(state, &mut plaintext, out),
                Err(error) => Err(error.into()),
            };
            self.secrets.listen();
            self.incoming.drain(..discard);
            match step {
                Ok(Step::Again) if self.is_complete() => return self.finish(plaintext, out),
                Ok(Step::Again) => {}
                Ok(Step::Blocked) if self.is_complete() => return self.finish(plaintext, out),
                Ok(Step::Blocked) if self.incoming.len() > HANDSHAKE_BYTES_MAX => {
                    return Err(TlsError::PeerMisbehaved("the handshake is too long"));
                }
                Ok(Step::Blocked) => return Ok(Progress::Continue(self)),
                Err(error) => {
                    let begin = out.len();
                    self.send_alert(out);
                    if is_old && let Some(description) = out[begin..].last_mut() {
                        // rustls says handshake_failure to those who know no extensions.
                        *description = alert::PROTOCOL_VERSION;
                    }
                    return Err(error);
                }
            }
        }
    }

    fn has_begun(&self) -> bool {
        self.tls.negotiated_cipher_suite().is_some()
    }

    fn is_complete(&self) -> bool {
        !self.tls.is_handshaking() && !self.tls.wants_write()
    }

    /// Takes rustls' secrets over. A client that has not asked for [`ALPN`] is told so now, for rustls lets it pass.
    fn finish(self, plaintext: Vec<u8>, out: &mut Vec<u8>) -> Result<Progress, TlsError> {
        let speaks_tern = self.tls.alpn_protocol() == Some(ALPN);
        let resumed = self.tls.handshake_kind() == Some(HandshakeKind::Resumed);
        let (extracted, _) = self.tls.dangerous_into_kernel_connection()?;
        let mut records = Box::new(Records::new(extracted, self.secrets, false)?);
        if !speaks_tern {
            records.fatal(alert::NO_APPLICATION_PROTOCOL, out);
            return Err(TlsError::PeerIncompatible("the client does not ask for ALPN tern/1".to_owned()));
        }
        let ciphertext = self.incoming;
        Ok(Progress::Done(Established { records, plaintext, ciphertext, resumed, tickets: None }))
    }

    /// rustls queues the alert that belongs to its error, behind what was to be sent before. It must not be asked for
    /// more than that: it would read on in input that it has already refused.
    fn send_alert(&mut self, out: &mut Vec<u8>) {
        while self.tls.wants_write() {
            let UnbufferedStatus { discard, state, .. } = self.tls.process_tls_records(&mut self.incoming);
            let encoded = match state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, out).is_ok(),
                Ok(_) | Err(_) => false,
            };
            self.incoming.drain(..discard);
            if !encoded {
                return;
            }
        }
    }
}

/// Whether a handshake begins with a ClientHello of TLS 1.1 or older: those have a lower version where all newer ones say 1.2
/// (RFC 8446, section 4.1.2).
fn is_of_an_old_version(incoming: &[u8]) -> bool {
    const CLIENT_HELLO: u8 = 1;
    matches!(*incoming, [content::HANDSHAKE, _, _, _, _, CLIENT_HELLO, _, _, _, 3, 0..=2, ..])
}

pub(super) enum Step {
    Again,
    Blocked,
}

pub(super) fn step<Data>(
    state: ConnectionState<'_, '_, Data>,
    plaintext: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<Step, TlsError> {
    match state {
        ConnectionState::EncodeTlsData(mut data) => {
            encode(&mut data, out)?;
            Ok(Step::Again)
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(Step::Again)
        }
        ConnectionState::ReadTraffic(mut data) => {
            while let Some(record) = data.next_record() {
                plaintext.extend_from_slice(record?.payload);
            }
            Ok(Step::Again)
        }
        ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) => Ok(Step::Blocked),
        ConnectionState::PeerClosed | ConnectionState::Closed => {
            Err(TlsError::PeerMisbehaved("the connection was closed within the handshake"))
        }
        // Early data is not offered, so a client that sends it has been refused by rustls.
        _ => Err(TlsError::PeerMisbehaved("early data was sent")),
    }
}

fn encode<Data>(data: &mut EncodeTlsData<'_, Data>, out: &mut Vec<u8>) -> Result<(), TlsError> {
    let at = out.len();
    let mut room = 4096;
    loop {
        out.resize(at + room, 0);
        match data.encode(&mut out[at..]) {
            Ok(written) => {
                out.truncate(at + written);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(needed)) => room = needed.required_size,
            Err(error @ EncodeError::AlreadyEncoded) => {
                out.truncate(at);
                return Err(TlsError::Internal(error.to_string()));
            }
        }
    }
}
