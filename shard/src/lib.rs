//! The brain of one core: slots, sessions, logs, inboxes, receipts, accounts.
//!
//! Deterministic: time, seeds and input are arguments, effects leave through a sink. It knows no socket, no TLS, no
//! clock and no randomness of its own.

#![forbid(unsafe_code)]

pub mod admin;
pub mod limits;
pub mod slots;
