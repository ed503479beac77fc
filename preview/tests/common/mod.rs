//! The program, and files of which it makes previews.

#![allow(dead_code, reason = "each test uses some of it")]

pub mod bombs;
pub mod pdf;
pub mod pictures;
pub mod voice;

use std::fs::File;
use std::io::{Seek as _, Write as _};

use tern_preview::{Limits, Preview, PreviewError, Previews};

/// The program, with these limits.
pub fn previews(limits: Limits) -> Previews {
    Previews::new(env!("CARGO_BIN_EXE_tern-preview").into(), limits)
}

/// A file that has these bytes, and is read from its start.
pub fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("there is room");
    file.write_all(bytes).expect("there is room");
    file.rewind().expect("it is a file");
    file
}

/// The preview that the program makes with the limits that are usual.
pub async fn preview_of(of: &str, bytes: &[u8]) -> Result<Preview, PreviewError> {
    previews(Limits::default()).make(of, file_of(bytes)).await
}
