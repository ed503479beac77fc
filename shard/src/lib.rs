//! The brain of one core: slots, sessions, logs, inboxes, receipts, accounts.
//!
//! Deterministic: [`Shard::handle`] takes the time and an input, and lets effects out through a sink; randomness comes
//! from a seed. It knows no socket, no TLS, no clock and no thread. It knows the store's keys, records and proofs, but no
//! engine.

#![forbid(unsafe_code)]

pub mod accounts;
pub mod admin;
mod commits;
pub mod durable;
pub mod effects;
pub mod entropy;
pub mod entry;
mod front;
pub mod identity;
pub mod input;
pub mod limits;
pub mod logs;
mod maps;
pub mod message;
mod reads;
pub mod reply;
pub mod shard;
pub mod slots;
mod trouble;

pub use effects::{Arrival, Effects};
pub use input::Input;
pub use shard::{Setup, Shard};

/// What every handler has at hand: the time, and the sink.
pub(crate) struct Cx<'a> {
    /// Ms since the Unix epoch; never falls.
    pub(crate) now_ms: u64,
    /// The shell.
    pub(crate) fx: &'a mut dyn Effects,
}
