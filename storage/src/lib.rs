//! Atomic batches and reads behind one small trait, and the key layout.
//!
//! Invariants: a [`Durable`] exists only for a batch that survives a power cut; the batches of a port's lane take effect and
//! complete in the order of their submission; no call blocks. docs/STORAGE.md comes before the code here: layout,
//! versions, failure cases, what is assumed of the medium. This crate refuses to know the protocol, sockets and clocks.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]
#![forbid(unsafe_code)]

pub mod batch;
#[cfg(any(feature = "embedded", feature = "fdb-core"))]
mod commits;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod engine;
pub mod faults;
#[cfg(feature = "fdb-core")]
pub mod fdb;
pub mod keys;
pub mod lanes;
pub mod medium;
pub mod memory;
#[doc(hidden)]
pub mod mutations;
mod ordered;
mod parker;
pub mod records;
pub mod slots;
#[cfg(any(feature = "embedded", feature = "fdb-core"))]
mod times;
#[cfg(any(feature = "embedded", feature = "fdb-core"))]
mod waiter;
#[cfg(any(feature = "embedded", feature = "fdb-core"))]
mod window;

pub use batch::{Batch, Fence, Op};
pub use engine::{
    Busy, CommitId, Completion, Direction, Durable, Engine, Port, ReadId, Row, Rows, ScanLimit, Statistic,
    StatisticValue, StoreError, Wake,
};
pub use keys::{Key, KeyRange, LogId};
pub use lanes::Lane;
pub use slots::{Epoch, SLOTS, Slot};

/// The longest batch that FoundationDB takes, in bytes of keys and values: half of what it may have in a transaction.
pub const FDB_BATCH_BYTES_MAX: usize = 256 << 10;
