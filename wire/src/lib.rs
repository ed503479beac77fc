//! Bytes to messages and back: TLS records, frames, validated requests, the order of a connection's opening, limits,
//! errors by blame.
//!
//! Invariants: no I/O, no clock, no randomness but what TLS itself draws; bytes from a peer never panic; whatever
//! passes [`request::parse`] is within the protocol's limits. This crate refuses to know sockets, storage, and what a
//! request means.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]
#![forbid(unsafe_code)]

pub mod errors;
pub mod frame;
pub mod group;
pub mod ids;
pub mod limits;
pub mod links;
pub mod media_id;
pub mod message;
pub mod opening;
pub mod private;
pub mod proxy;
pub mod push;
pub mod report;
pub mod request;
pub mod story;
pub mod tls;
