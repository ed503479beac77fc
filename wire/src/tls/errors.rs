//! What goes wrong in TLS, by blame.

use std::fmt;

/// Why a TLS connection can't go on. Never shows what a peer sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TlsError {
    /// The peer does not speak TLS at all: plain text on the TLS port.
    NotTls,
    /// The peer speaks TLS, but has nothing in common with this server (version, cipher, ALPN).
    PeerIncompatible(String),
    /// The peer broke the protocol.
    PeerMisbehaved(&'static str),
    /// A record was changed on its way, or sealed with other keys.
    BadRecord,
    /// The peer ended the connection with this alert (RFC 8446, section 6.2).
    Alert(u8),
    /// The certificate or its key can't be used.
    BadCertificate(String),
    /// A mistake of this server.
    Internal(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTls => write!(f, "the peer does not speak TLS"),
            Self::PeerIncompatible(what) => write!(f, "the peer's TLS is not supported: {what}"),
            Self::PeerMisbehaved(what) => write!(f, "the peer broke the TLS protocol: {what}"),
            Self::BadRecord => write!(f, "a TLS record is not what the peer sealed"),
            Self::Alert(number) => write!(f, "the peer ended TLS with alert {number}"),
            Self::BadCertificate(why) => write!(f, "the certificate can't be used: {why}"),
            Self::Internal(why) => write!(f, "TLS failed: {why}"),
        }
    }
}

impl std::error::Error for TlsError {}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        use rustls::Error as E;
        match error {
            E::PeerIncompatible(_) | E::NoApplicationProtocol => Self::PeerIncompatible(error.to_string()),
            E::AlertReceived(alert) => Self::Alert(alert.into()),
            E::DecryptError => Self::BadRecord,
            E::InvalidMessage(_) => Self::PeerMisbehaved("a handshake message is malformed"),
            E::PeerMisbehaved(_)
            | E::InappropriateMessage { .. }
            | E::InappropriateHandshakeMessage { .. } => {
                Self::PeerMisbehaved("a handshake message is out of order")
            }
            E::PeerSentOversizedRecord => Self::PeerMisbehaved("a record is too long"),
            other => Self::Internal(other.to_string()),
        }
    }
}
