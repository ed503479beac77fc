//! What is known of a backup while it goes on, for the operators.

use std::path::PathBuf;

/// What it is doing.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum BackupPhase {
    /// There is none.
    #[default]
    Off,
    /// Its directory is looked at.
    Opening,
    /// The log is followed, and its first base is being copied.
    Base,
    /// The log is followed.
    Following,
    /// It is tried again after a while.
    Waiting,
    /// What is durable is archived, then it ends.
    Stopping,
}

/// See the module. Groups are counted from the store's first one; bytes are those of the tables' files, unless it says otherwise.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct BackupStatus {
    /// What it is doing.
    pub phase: BackupPhase,
    /// Where it lies.
    pub dir: PathBuf,
    /// The chain that is written; 0 before the first.
    pub chain: u32,
    /// What names its key; 0 if it is not encrypted.
    pub key_id: u64,
    /// Bytes a second at most.
    pub rate: u64,
    /// Groups up to this one are in it, durably.
    pub archived: u64,
    /// The newest group of the store.
    pub newest: u64,
    /// It holds all that was durable at this time, in ms since the Unix epoch; 0 if nobody knows.
    pub covers_ms: u64,
    /// Bytes of segments that the store keeps for it alone.
    pub kept_bytes: u64,
    /// Files of the tables that stay where they are for it.
    pub pinned: usize,
    /// The base that is being copied.
    pub copying: Option<CopyStatus>,
    /// The newest base that is complete.
    pub base: Option<BaseStatus>,
    /// What is in its way.
    pub trouble: Option<String>,
    /// Times that something failed.
    pub failures: u64,
    /// Chains that were given up.
    pub broken: u64,
    /// Bytes that were written to it.
    pub bytes: u64,
}

/// A base that is being copied.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CopyStatus {
    /// Its number in its chain.
    pub number: u32,
    /// Files of the tables, those that are there, and the bytes of both.
    pub files: usize,
    /// See `files`.
    pub files_done: usize,
    /// See `files`.
    pub bytes: u64,
    /// See `files`.
    pub bytes_done: u64,
    /// Of those that are there, what an earlier base had.
    pub bytes_reused: u64,
}

/// A base that is complete.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct BaseStatus {
    /// Its number in its chain.
    pub number: u32,
    /// When it was begun, in ms since the Unix epoch.
    pub time_ms: u64,
    /// The first group at which the store can be restored from it.
    pub whole_at: u64,
    /// Bytes of the tables' files.
    pub bytes: u64,
}
