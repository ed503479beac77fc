//! What goes wrong on a connection, by blame and remedy: a [`Refusal`] answers one request and the connection goes on, a
//! [`Farewell`] ends it. Both have the protocol's machine-readable reason, and neither ever repeats what a peer sent.

use std::fmt;

use tern_proto::v1;

pub use tern_proto::v1::Reason;

/// A request was not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// When to try again, in milliseconds; 0 if repeating it won't help.
    pub retry_after_ms: u32,
    /// English, for developers.
    pub detail: &'static str,
}

impl Refusal {
    /// A refusal that repeating the request won't change.
    pub const fn new(reason: Reason, detail: &'static str) -> Self {
        Self { reason, retry_after_ms: 0, detail }
    }

    /// A refusal for now.
    pub const fn for_now(reason: Reason, retry_after_ms: u32, detail: &'static str) -> Self {
        Self { reason, retry_after_ms, detail }
    }

    /// A refusal for so many milliseconds: at least one, and as many as can be said.
    pub fn after(reason: Reason, wait_ms: u64, detail: &'static str) -> Self {
        Self::for_now(reason, wait_ms.clamp(1, u32::MAX.into()) as u32, detail)
    }
}

impl From<Refusal> for v1::Refused {
    fn from(refusal: Refusal) -> Self {
        Self {
            reason: refusal.reason.into(),
            retry_after_ms: refusal.retry_after_ms,
            detail: refusal.detail.to_owned(),
            ..Self::default()
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused ({}): {}", self.reason.name(), self.detail)
    }
}

impl std::error::Error for Refusal {}

/// The connection ends after this.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Farewell {
    /// Why.
    pub reason: Reason,
    /// How long the client should wait before its next connection, in milliseconds.
    pub reconnect_after_ms: u32,
    /// English, for developers.
    pub detail: &'static str,
}

impl Farewell {
    /// A farewell after which the client may come back when it likes.
    pub const fn new(reason: Reason, detail: &'static str) -> Self {
        Self { reason, reconnect_after_ms: 0, detail }
    }
}

impl From<Farewell> for v1::GoAway {
    fn from(farewell: Farewell) -> Self {
        Self {
            reason: farewell.reason.into(),
            reconnect_after_ms: farewell.reconnect_after_ms,
            detail: farewell.detail.to_owned(),
        }
    }
}

impl fmt::Display for Farewell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection ended ({}): {}", self.reason.name(), self.detail)
    }
}

impl std::error::Error for Farewell {}
