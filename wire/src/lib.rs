//! Bytes to messages and back: TLS records, frames, validated requests, the order of a session's opening, limits,
//! errors by blame.
//!
//! Invariants: no I/O, no clock, no randomness but what TLS itself draws; bytes from a peer never panic; whatever
//! passes [`request::Request::parse`] is within its limits. This crate refuses to know sockets, storage, and what a
//! request means.

#![forbid(unsafe_code)]

pub mod frame;
pub mod ids;
pub mod limits;
