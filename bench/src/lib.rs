//! What `tern-bench` and the Criterion benches share: the server's hot pieces by themselves, and TLS in memory.
//!
//! Nothing here opens a socket or starts a thread. [`pieces`] alone knows insides of the server: it does what a core
//! does with a message, with the core's own types.

#![forbid(unsafe_code)]

pub mod crypto;
pub mod pieces;
