//! The bounds of the engine, with what they are unless somebody says otherwise.

use std::time::Duration;

use crate::FDB_BATCH_BYTES_MAX;

/// FoundationDB takes no value of this many bytes.
pub const VALUE_BYTES_END: usize = 100_000;

/// tern's keys are shorter than this, with a prefix: FoundationDB takes 10,000 bytes, and is slow with long ones.
pub const KEY_BYTES_END: usize = 200;

/// FoundationDB refuses transactions of 10 MB, and is slow with those beyond 1 MB, conflict ranges included.
const TRANSACTION_BYTES_MAX: usize = 900 << 10;

/// Bounds of the engine.
#[derive(Clone, Debug)]
pub struct FdbOptions {
    /// Transactions under way at once, each the next one of its lane.
    pub lanes: u16,
    /// Bytes of keys and values in a transaction; its last batch may exceed it.
    pub group_bytes_max: usize,
    /// Rows in a transaction; its last batch may exceed it.
    pub group_rows_max: usize,
    /// Commits of one port under way. Beyond: busy.
    pub commits_in_flight_max: usize,
    /// Reads of one port under way. Beyond: busy.
    pub reads_in_flight_max: usize,
    /// Within this, 99 of 100 batches are to be durable: what commits leave of it is used to gather larger transactions. Zero: as soon as
    /// a lane is free.
    pub ack_p99: Duration,
}

impl Default for FdbOptions {
    fn default() -> Self {
        Self {
            lanes: 1,
            group_bytes_max: 512 << 10,
            group_rows_max: 4_000,
            commits_in_flight_max: 64,
            reads_in_flight_max: 1024,
            ack_p99: Duration::ZERO,
        }
    }
}

const _: () = assert!((512 << 10) + FDB_BATCH_BYTES_MAX < TRANSACTION_BYTES_MAX);

/// Transactions of a lane whose records are there.
pub(super) const PLACES: usize = 64;

/// Above so many slots that have decided a transaction, it rests on the epochs of all.
pub(super) const FENCED_SLOTS_MAX: usize = 64;

/// A ticket is replaced when it is so old, while there is work.
pub(super) const TICKET_REFRESH: Duration = Duration::from_millis(100);

/// And while there is none: whoever has lost the store is to notice, a silence is to be told, and the first commit after a while not to wait
/// for a ticket.
pub(super) const TICKET_REFRESH_IDLE: Duration = Duration::from_millis(500);

/// With an older ticket lanes wait: FoundationDB throttles where versions are given out, and tickets must not go around that
/// (apple/foundationdb#1310). It has long been given back when FoundationDB forgets it, after 5 s.
pub(super) const TICKET_AGE_MAX: Duration = Duration::from_secs(1);

/// Before something is tried again: at first, doubled each time, and at most.
pub(super) const BACKOFF_MIN: Duration = Duration::from_millis(1);

/// See [`BACKOFF_MIN`].
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// When nothing is heard for so long, operators are told.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(5);
