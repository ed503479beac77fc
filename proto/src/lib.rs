//! The protocol schema and the types generated from it; nothing else.
//!
//! `schema/tern.proto` is the source. `src/generated.rs` is made from it by this crate's `current` test and checked
//! in, so that building tern needs no protobuf compiler. To regenerate after a change of the schema:
//! `TERN_REGENERATE=1 cargo test -p tern-proto`.

#![forbid(unsafe_code)]

/// Protocol version 1.
#[allow(missing_docs, reason = "the generator copies the schema's comments, and not everything has one")]
#[allow(clippy::all, reason = "generated")]
#[rustfmt::skip]
pub mod v1 {
    include!("generated.rs");
}

impl v1::Reason {
    /// Its name as documents, logs and metrics have it: as in the schema, without the prefix.
    pub fn name(self) -> &'static str {
        let name = self.as_str_name();
        name.strip_prefix("REASON_").unwrap_or(name)
    }
}

/// The schema's text, for tools that generate code in other languages.
pub const SCHEMA: &str = include_str!("../schema/tern.proto");
