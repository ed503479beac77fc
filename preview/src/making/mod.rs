//! Makes a preview of bytes: pure, as the program calls it from within its sandbox, and a fuzzer without.

mod document;
mod picture;
mod sound;
mod thumbnail;

use crate::kinds::Kind;
use crate::limits::Limits;
use crate::preview::{Preview, Refusal, TooLarge};

/// The preview of a file of this type, as RFC 6838 names it.
///
/// What a decoder allocates is bounded only as far as it bounds itself: the rest is for the sandbox, as is the time that it takes.
pub fn preview_of(of: &str, bytes: &[u8], limits: &Limits) -> Result<Preview, Refusal> {
    let kind = Kind::named(of).ok_or(Refusal::Unsupported)?;
    if bytes.len() as u64 > limits.file_bytes_max {
        return Err(Refusal::TooLarge(TooLarge::Bytes));
    }
    match kind {
        Kind::Picture(format) => picture::preview_of(format, bytes, limits),
        Kind::Sound => sound::preview_of(bytes),
        Kind::Document => document::preview_of(bytes),
    }
}
