//! The bounds of the engine, with what they are unless somebody says otherwise.

use std::time::Duration;

/// Bounds of the engine.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// Bytes of keys and values in one group; its last batch may exceed it.
    pub group_bytes_max: usize,
    /// Commits of one port under way. Beyond: busy.
    pub commits_in_flight_max: usize,
    /// Reads of one port under way. Beyond: busy.
    pub reads_in_flight_max: usize,
    /// Bytes that the disk must have free: below, batches fail with [`crate::StoreError::Full`].
    pub free_bytes_min: u64,
    /// Bytes of table blocks kept in memory.
    pub cache_bytes: u64,
    /// Bytes written to the tables' memory from which on it is flushed. Larger parts cost memory, and fewer merges.
    pub flush_bytes: u64,
    /// Bytes of a segment of the log, unless one group is longer.
    pub segment_bytes: u64,
    /// Threads that read.
    pub readers: usize,
    /// Within this, 99 of 100 batches are to be durable: what syncs leave of it is used to gather larger groups. Zero:
    /// every group is written at once.
    pub ack_p99: Duration,
    /// Bytes of segments of the log that are kept for a backup which does not take them. Beyond, it is given up.
    pub backup_log_bytes_max: u64,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            group_bytes_max: 8 << 20,
            commits_in_flight_max: 64,
            reads_in_flight_max: 1024,
            free_bytes_min: 256 << 20,
            cache_bytes: 256 << 20,
            flush_bytes: 64 << 20,
            segment_bytes: 32 << 20,
            readers: 2,
            ack_p99: Duration::ZERO,
            backup_log_bytes_max: 4 << 30,
        }
    }
}
