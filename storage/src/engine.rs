//! What an engine is to its callers: ports that take batches and reads without blocking, and give completions.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::{Batch, Fence};
use crate::keys::{Key, KeyRange};
use crate::lanes::Lane;
use crate::slots::{Epoch, Slot};

/// Tells a port's owner that completions wait. Called from the engine's threads; must not block.
pub trait Wake: Send + Sync {
    /// Wakes the owner.
    fn wake(&self);
}

/// A store. Shared by the whole node; each core has a port of its own.
pub trait Engine: Send + Sync {
    /// Opens a port; `wake` is called when it has completions to poll.
    fn port(&self, wake: Arc<dyn Wake>) -> Box<dyn Port>;

    /// Reads one value, blocking: for start-up and tools, never for a core.
    fn get_blocking(&self, key: &Key) -> Result<Option<Bytes>, StoreError>;

    /// Commits one batch, blocking: for start-up and tools, never for a core.
    fn commit_blocking(&self, batch: Batch) -> Result<(), StoreError>;

    /// Raises a slot's epoch, durably. Batches fenced with a lower one fail from here on.
    fn raise_epoch(&self, slot: Slot, epoch: Epoch) -> Result<(), StoreError>;

    /// Counters and latencies for the operators' metrics, with stable names.
    fn statistics(&self) -> Vec<Statistic>;

    /// What ended the store without anybody having asked for anything: the node must stop. `None`: nothing.
    fn failed(&self) -> Option<String> {
        None
    }

    /// What keeps the store from doing what it is asked, for the operators: meanwhile what is asked waits, and nothing is lost. `None`: nothing.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Has backups go on from here, which they did before. Once for each opening; an engine that makes none does nothing.
    #[cfg(feature = "embedded")]
    fn serve_backups(&self, _surroundings: crate::embedded::backup::Surroundings) -> Result<(), StoreError> {
        Ok(())
    }

    /// Its backups, if it makes any.
    #[cfg(feature = "embedded")]
    fn backups(&self) -> Option<&crate::embedded::backup::Backups> {
        None
    }

    /// Finishes what was submitted, then stops the engine's threads. Later submissions are refused as busy.
    fn close(&self);
}

/// One number of an engine, for the operators' metrics.
#[derive(Clone, PartialEq, Debug)]
pub struct Statistic {
    /// With its unit at the end, if it has one: seconds or bytes.
    pub name: &'static str,
    /// What it counts, in a sentence.
    pub help: &'static str,
    /// Its value now.
    pub value: StatisticValue,
}

/// What kind of number it is.
#[derive(Clone, PartialEq, Debug)]
pub enum StatisticValue {
    /// It only rises.
    Counter(u64),
    /// It rises and falls.
    Gauge(u64),
    /// How often a value lay below which bound and above the bound before; the last bound is without end. And the sum of all.
    Histogram(Vec<(f64, u64)>, f64),
}

/// One core's way to the store. Never blocks, and never holds more than its bounds allow.
pub trait Port: Send {
    /// Takes a batch to be committed atomically, after all that this port submitted in its lane before. If one of those is not
    /// in the store, neither is this one, unless its failure was polled before this call. `Busy` gives the batch back.
    fn submit_in(
        &mut self,
        lane: Lane,
        batch: Batch,
        deciding: Fence,
    ) -> Result<CommitId, Busy<(Batch, Fence)>>;

    /// The same, in the one lane of those who need no more.
    fn submit(&mut self, batch: Batch, deciding: Fence) -> Result<CommitId, Busy<(Batch, Fence)>> {
        self.submit_in(Lane::default(), batch, deciding)
    }

    /// Reads one key. Sees every batch of this port that had completed before.
    fn get(&mut self, key: Key) -> Result<ReadId, Busy<Key>>;

    /// Reads the keys of a range in order. Sees every batch of this port that had completed before.
    fn scan(
        &mut self,
        range: KeyRange,
        direction: Direction,
        limit: ScanLimit,
    ) -> Result<ReadId, Busy<KeyRange>>;

    /// Moves what has completed to the end of `completions`: commits in the order of their submission, reads in any.
    fn poll(&mut self, completions: &mut Vec<Completion>);

    /// Whether [`Port::poll`] would give anything now. For the check between announcing sleep and sleeping.
    fn has_completions(&self) -> bool;
}

/// A bound is reached: try again after the next completion. Gives back what was not taken.
#[derive(Debug)]
pub struct Busy<T>(pub T);

/// Counts a port's commits: dense, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CommitId(pub u64);

/// Names a read of a port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReadId(pub u64);

/// Proof that a batch is durable: it can't be made outside this crate, and an acknowledgement can't be made without it.
#[derive(Debug)]
pub struct Durable {
    commit: CommitId,
}

impl Durable {
    /// For engines alone.
    pub(crate) fn new(commit: CommitId) -> Self {
        Self { commit }
    }

    /// Which commit it proves.
    pub fn commit(&self) -> CommitId {
        self.commit
    }
}

/// The end of something that a port took.
#[derive(Debug)]
pub enum Completion {
    /// A batch is durable.
    Committed(Durable),
    /// A batch is not in the store, or (after [`StoreError::Failed`]) nobody can tell until the store is opened again.
    CommitFailed {
        /// Which commit.
        commit: CommitId,
        /// Why.
        error: StoreError,
    },
    /// A [`Port::get`] has ended.
    Value {
        /// Which read.
        read: ReadId,
        /// The key's value, if it has one.
        result: Result<Option<Bytes>, StoreError>,
    },
    /// A [`Port::scan`] has ended.
    Rows {
        /// Which read.
        read: ReadId,
        /// The rows found.
        result: Result<Rows, StoreError>,
    },
}

/// The way a scan goes through its range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Rising keys.
    Forwards,
    /// Falling keys.
    Backwards,
}

/// Where a scan stops before the end of its range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScanLimit {
    /// At most this many rows.
    pub rows: usize,
    /// No further row once keys and values together have reached this many bytes. The first row always comes.
    pub bytes: usize,
}

/// A key and its value.
pub type Row = (Bytes, Bytes);

/// What a scan found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Rows {
    /// In the direction of the scan.
    pub rows: Vec<Row>,
    /// The limit ended it: the range holds more.
    pub more: bool,
}

impl Rows {
    /// The last key, if there are more behind it: from there on the next scan goes.
    pub fn goes_on_behind(&self) -> Option<Key> {
        self.rows.last().filter(|_| self.more).map(|(key, _)| Key::from_raw(key))
    }
}

/// Why the store did not do something, by what can be done about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreError {
    /// The operator makes room; nothing was written.
    Full,
    /// The system did not let it be done for now (no descriptors, no permission, a read that failed): nothing is known to
    /// be damaged, and it may go well the next time. Nothing was written.
    Unreachable {
        /// What the system said, and where.
        reason: String,
    },
    /// Another node owns a slot of the batch now; nothing was written.
    Fenced {
        /// Which slot.
        slot: Slot,
    },
    /// Stored bytes don't match their checksum. They are not served.
    Corrupt {
        /// Where, in the words of the engine: keys or files, never values.
        place: String,
    },
    /// The medium failed (an fsync, a write): nothing more is committed until the store is opened again.
    Failed {
        /// What the system said.
        reason: String,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(f, "the store's disk is full: make room, nothing was written"),
            Self::Unreachable { reason } => write!(f, "the store can't be reached for now ({reason})"),
            Self::Fenced { slot } => write!(f, "slot {} belongs to another node now", slot.number()),
            Self::Corrupt { place } => {
                write!(f, "stored data is damaged at {place}: `ternctl check` says what is whole")
            }
            Self::Failed { reason } => {
                write!(f, "the store's disk failed ({reason}): check the disk, then restart")
            }
        }
    }
}

impl std::error::Error for StoreError {}
