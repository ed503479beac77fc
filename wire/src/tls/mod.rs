//! TLS 1.3 as ciphertext in, plaintext out (RFC 8446), without a socket.
//!
//! rustls makes the handshake ([`Handshake`]). Then its secrets are taken over by [`Records`], a lean record layer: keys,
//! IVs and sequence numbers, no buffers but for a record that is partial. rustls stays behind this module's types.

mod client;
mod errors;
mod handshake;
mod pinned;
mod records;
mod secrets;
mod server;
mod tickets;

pub use client::{ClientHandshake, ClientProgress, TicketTaker, TlsClient};
pub use errors::TlsError;
pub use handshake::{Established, Handshake, Progress};
pub use pinned::{Pinned, fingerprint};
pub use records::{Opened, Records};
pub use server::TlsServer;
pub use tickets::{Now, TICKET_KEY_BYTES, TICKET_VALID_S_MAX, TicketKey, Tickets};

/// The protocol's name in ALPN (RFC 7301).
pub const ALPN: &[u8] = b"tern/1";

/// Bytes of a handshake's input that are kept until it can be read. A ClientHello takes a few hundred.
pub const HANDSHAKE_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a record's plaintext (RFC 8446, section 5.1).
pub const PLAINTEXT_BYTES_MAX: usize = 1 << 14;

/// Bytes of a record behind its header (RFC 8446, section 5.2).
const CIPHERTEXT_BYTES_MAX: usize = PLAINTEXT_BYTES_MAX + 256;

/// Bytes of a record's header.
const HEADER_BYTES: usize = 5;

/// The types of records and of what they hold (RFC 8446, appendix B.1).
mod content {
    pub(super) const ALERT: u8 = 21;
    pub(super) const HANDSHAKE: u8 = 22;
    pub(super) const APPLICATION_DATA: u8 = 23;
}

/// Alerts (RFC 8446, section 6).
mod alert {
    pub(super) const CLOSE_NOTIFY: u8 = 0;
    pub(super) const UNEXPECTED_MESSAGE: u8 = 10;
    pub(super) const BAD_RECORD_MAC: u8 = 20;
    pub(super) const RECORD_OVERFLOW: u8 = 22;
    pub(super) const PROTOCOL_VERSION: u8 = 70;
    pub(super) const INTERNAL_ERROR: u8 = 80;
    pub(super) const NO_APPLICATION_PROTOCOL: u8 = 120;
}
