//! The embedded engine: a log, tables behind it, and the threads that serve both.
//!
//! Invariants: one group of batches is one write of the log and one sync, and is completed only after both; it goes into
//! the tables after that, so what a reader sees has been synced, and a read sees all that had completed before it was
//! asked for; a segment of the log goes when all that it holds is in flushed tables, which the manifest names; no core
//! ever waits for the disk or for the tables. Ports talk to the threads through wait-free rings.
//!
//! The parts (committer, applier, keeper, reader) know no thread and no clock; `threads` drives them in the product, and
//! [`SteppedEngine`] in a simulation.
//! They lie on a [`Medium`](crate::medium::Medium), and but for the trees' own files so does all that they write.

mod applier;
pub mod backup;
pub mod check;
mod committer;
mod engine;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod hold;
mod keeper;
mod log;
mod manifest;
mod open_error;
mod opening;
mod options;
mod port;
mod reader;
mod recovery;
mod statistics;
mod stepped;
mod tables;
mod threads;
mod watermark;

pub use self::engine::Embedded;
pub use self::open_error::OpenError;
pub use self::options::EmbeddedOptions;
pub use self::stepped::{Step, Stepped, SteppedEngine};
pub use crate::keys::LAYOUT;

/// The log's directory within the store's.
const LOG: &str = "log";

/// A file that is there while a store is being restored.
const RESTORING: &str = "restoring";
