//! The brain of one core: slots, sessions, logs, inboxes, receipts, accounts.
//!
//! Deterministic: [`Shard::handle`] takes the time and an input, and lets effects out through a sink; randomness comes
//! from a seed. It knows no socket, no TLS, no clock and no thread. It knows the store's keys, records and proofs, but no
//! engine.
//!
//! A router (`shard`) takes each input to a department: `front` (who is here), `accounts` (who exists), `logs` (what was said), `volatile` (who
//! shows whom, and what is done just now). A
//! department's state is its own, and it is reached by [`message`]s alone.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]
#![forbid(unsafe_code)]

mod accounts;
pub mod admin;
pub mod asks;
mod by_slot;
mod circle;
pub mod counts;
pub mod course;
mod cx;
mod days;
mod desk;
pub mod durable;
pub mod effects;
pub mod entropy;
pub mod entry;
mod front;
mod held;
pub mod identity;
pub mod input;
pub mod limits;
pub mod load;
mod logs;
mod maps;
pub mod media;
pub mod message;
mod moving;
pub mod mutations;
pub mod network;
pub mod reply;
mod rounds;
pub mod shard;
pub mod slots;
pub mod tokens;
mod trouble;
mod volatile;

pub use effects::Effects;
pub use front::Arrival;
pub use input::Input;
pub use shard::{Setup, Shard};
