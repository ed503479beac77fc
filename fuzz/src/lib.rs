//! What is fuzzed, one function a target: it takes any bytes, and panics if a property does not hold.
//!
//! The programs of `fuzz_targets/` give them to libFuzzer; `tests/corpora.rs` runs them over the corpora and over mutations
//! of those. Nothing here knows which.

#![forbid(unsafe_code)]

mod backup;
mod brain;
mod fixtures;
mod frames;
mod handshake;
mod log;
mod opening;
mod proxy;
mod records;
mod requests;
mod script;
mod stored;
mod tokens;

pub use backup::{backup, backup_input};
pub use brain::brain;
pub use frames::frames;
pub use handshake::handshake;
pub use log::{log, segment};
pub use opening::opening;
pub use proxy::proxy;
pub use records::records;
pub use requests::requests;
pub use stored::{keys, stored};
pub use tokens::tokens;

/// A target: its name, which its corpus has as well, and what runs it.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 13] = [
    ("backup", backup),
    ("brain", brain),
    ("frames", frames),
    ("handshake", handshake),
    ("keys", keys),
    ("log", log),
    ("opening", opening),
    ("proxy", proxy),
    ("records", records),
    ("requests", requests),
    ("segment", segment),
    ("stored", stored),
    ("tokens", tokens),
];
