//! Previews of media that others have uploaded: how large a picture is and a small one of it, how long a voice note is and how loud in
//! each part, how many pages a document has.
//!
//! What always holds:
//! - The bytes of a medium are read by the program `tern-preview` alone: one process for each, which can't do anything but read them,
//!   use its memory and answer ([`sandbox`]). Whatever they make it do, it is over after that, and the next one begins anew.
//! - What it answers is read as bytes of a stranger: it is bounded, and checked.
//! - A thumbnail is encoded anew: nothing of the file is in it but what is to be seen.
//! - Nothing of a file's content is in an error.
//!
//! It refuses to know: where media lie, to whom they belong, and what is done with a preview.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]
#![forbid(unsafe_code)]

pub mod answer;
mod check;
mod error;
pub mod exit;
pub mod kinds;
pub mod limits;
mod making;
mod pool;
mod preview;
pub mod sandbox;

pub use check::CheckError;
pub use error::{How, PreviewError};
pub use limits::Limits;
pub use making::preview_of;
pub use pool::Previews;
pub use preview::{Malformed, Preview, Refusal, TooLarge};
