//! The traffic secrets of a connection (RFC 8446, section 7), from which its keys come.
//!
//! rustls gives keys away, but not what the next ones are made from, unless an object of several hundred bytes stays with
//! each connection. It does tell its key log, on the thread that makes the handshake: from there they are taken.

use std::cell::RefCell;

use aws_lc_rs::hkdf::{self, HKDF_SHA256, HKDF_SHA384, Prk};
use rustls::{ConnectionTrafficSecrets, KeyLog};

use super::TlsError;

/// One direction's secret, as long as the hash of its cipher suite.
#[derive(Clone)]
pub(super) enum Secret {
    Sha256([u8; 32]),
    /// Boxed, for the server prefers the other.
    Sha384(Box<[u8; 48]>),
}

/// The secrets of both directions, as far as they are known.
#[derive(Clone, Default)]
pub(super) struct Secrets {
    pub(super) client: Option<Secret>,
    pub(super) server: Option<Secret>,
}

thread_local! {
    static TOLD: RefCell<Secrets> = RefCell::default();
}

/// The key log of every configuration.
#[derive(Debug)]
pub(super) struct Capture;

const CLIENT: &str = "CLIENT_TRAFFIC_SECRET_0";
const SERVER: &str = "SERVER_TRAFFIC_SECRET_0";

impl KeyLog for Capture {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        TOLD.with_borrow_mut(|told| match label {
            CLIENT => told.client = Secret::new(secret),
            SERVER => told.server = Secret::new(secret),
            _ => {}
        });
    }

    fn will_log(&self, label: &str) -> bool {
        matches!(label, CLIENT | SERVER)
    }
}

impl Secrets {
    /// Takes what the handshake that was just at work has told.
    pub(super) fn listen(&mut self) {
        let told = TOLD.take();
        self.client = told.client.or(self.client.take());
        self.server = told.server.or(self.server.take());
    }
}

impl Secret {
    fn new(secret: &[u8]) -> Option<Self> {
        match secret.len() {
            32 => secret.try_into().ok().map(Self::Sha256),
            48 => secret.try_into().ok().map(|secret| Self::Sha384(Box::new(secret))),
            _ => None,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) => bytes,
            Self::Sha384(bytes) => &bytes[..],
        }
    }

    /// HKDF-Expand-Label without a context (RFC 8446, section 7.1).
    fn expand(&self, label: &[u8], out: &mut [u8]) {
        let algorithm = match self {
            Self::Sha256(_) => HKDF_SHA256,
            Self::Sha384(_) => HKDF_SHA384,
        };
        let secret = Prk::new_less_safe(algorithm, self.bytes());
        let length = (out.len() as u16).to_be_bytes();
        let label_length = [b"tls13 ".len() as u8 + label.len() as u8];
        let info: [&[u8]; 5] = [&length, &label_length, b"tls13 ", label, &[0]];
        let expanded = secret.expand(&info, Length(out.len())).and_then(|bytes| bytes.fill(out));
        expanded.expect("a label's length is within HKDF's bounds");
    }

    pub(super) fn key(&self, out: &mut [u8]) {
        self.expand(b"key", out);
    }

    pub(super) fn iv(&self) -> [u8; 12] {
        let mut iv = [0; 12];
        self.expand(b"iv", &mut iv);
        iv
    }

    /// The secret after a key update.
    pub(super) fn next(&self) -> Self {
        let mut next = self.clone();
        match &mut next {
            Self::Sha256(bytes) => self.expand(b"traffic upd", bytes),
            Self::Sha384(bytes) => self.expand(b"traffic upd", &mut bytes[..]),
        }
        next
    }

    /// Whether rustls has made the same key of it: what was told is of this connection and no other.
    pub(super) fn is_of(&self, extracted: &ConnectionTrafficSecrets) -> Result<bool, TlsError> {
        let (key, iv) = key_and_iv(extracted)?;
        let mut own = [0; 32];
        let own = &mut own[..key.len()];
        self.key(own);
        Ok(own == key && self.iv() == iv)
    }
}

/// What rustls has extracted.
pub(super) fn key_and_iv(extracted: &ConnectionTrafficSecrets) -> Result<(&[u8], &[u8]), TlsError> {
    use ConnectionTrafficSecrets as Suite;
    match extracted {
        Suite::Aes128Gcm { key, iv } | Suite::Aes256Gcm { key, iv } => Ok((key.as_ref(), iv.as_ref())),
        Suite::Chacha20Poly1305 { key, iv } => Ok((key.as_ref(), iv.as_ref())),
        _ => Err(TlsError::Internal("an unknown cipher suite was agreed".to_owned())),
    }
}

/// A length for HKDF.
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}
