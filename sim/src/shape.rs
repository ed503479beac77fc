//! How a world's node is set up: small bounds in some, so that they are reached.

use std::time::Duration;

use tern_shard::limits::Limits;

use crate::media::Media;
use crate::pushes::Pushes;
use crate::talk::{DELETION_WINDOW_MS, EDIT_WINDOW_MS};
use tern_storage::FDB_BATCH_BYTES_MAX;
use tern_storage::embedded::EmbeddedOptions;
use tern_storage::fdb::FdbOptions;
use tern_storage::medium::stream::Stream;

/// Devices of a user.
pub(crate) const DEVICES_MAX: usize = 8;

/// What is written until it is flushed, in worlds of up to ten devices.
const FLUSH_BYTES: u64 = 16 << 10;

/// In every fourth world messages that all have received are kept for so long.
const HISTORY_MS: u64 = 6_000;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    access_token_valid_ms: u64,
    pub(crate) store: EmbeddedOptions,
    /// Messages from core to core that wait; from then on new work is refused.
    pub(crate) congested_max: usize,
    /// Messages that all have received are kept for so long, in ms; 0: for ever.
    pub(crate) history_ms: u64,
    /// Transactions under way at once, in FoundationDB.
    fdb_lanes: u16,
    /// There are media.
    pub(crate) has_media: bool,
    /// There are push services.
    pub(crate) has_pushes: bool,
}

impl Shape {
    /// The shape of a seed's node.
    pub(crate) fn new(seed: u64, devices: usize) -> Self {
        let mut stream = Stream::named(seed, "node's shape");
        let mut one_of = |choices: [u64; 3]| choices[stream.below(3) as usize];
        // Flushes, merges and releases are many; but a tree of these tables is merged as a whole, so there are not more of them where
        // more is written.
        let store = EmbeddedOptions {
            free_bytes_min: 0,
            flush_bytes: FLUSH_BYTES.max(devices as u64 * FLUSH_BYTES / 10),
            segment_bytes: 8 << 10,
            commits_in_flight_max: one_of([1, 4, 64]) as usize,
            reads_in_flight_max: one_of([2, 16, 1024]) as usize,
            ack_p99: Duration::from_millis(one_of([0, 0, 5])),
            ..EmbeddedOptions::default()
        };
        let congested_max = one_of([16, 256, 4096]) as usize;
        let access_token_valid_ms = one_of([70_000, 100_000, 3_600_000]);
        let history_ms = if stream.below(4) == 0 { HISTORY_MS } else { 0 };
        let fdb_lanes = 1 + stream.below(3) as u16;
        let (has_media, has_pushes) = (Media::new(seed).are, Pushes::new(seed).are);
        Self { access_token_valid_ms, store, congested_max, history_ms, fdb_lanes, has_media, has_pushes }
    }

    /// The store's, if it is FoundationDB.
    pub(crate) fn fdb(&self) -> FdbOptions {
        FdbOptions {
            lanes: self.fdb_lanes,
            commits_in_flight_max: self.store.commits_in_flight_max,
            reads_in_flight_max: self.store.reads_in_flight_max,
            ack_p99: self.store.ack_p99,
            ..FdbOptions::default()
        }
    }

    /// The bounds of a process: of every other one so small that what is in memory leaves it, and what is pushed waits.
    pub(crate) fn limits(&self, stream: &mut Stream) -> Limits {
        let large = Limits {
            sends_per_minute_max: 0,
            strangers_per_hour_max: 0,
            same_text_per_hour_max: 0,
            // So many that nobody is refused, and is asked for.
            groups_per_day_max: 1_000_000,
            lookups_per_minute_max: 0,
            searches_per_minute_max: 0,
            // So short that runs are filled, and become longer ones.
            search_run_entries: 4,
            words_erased_every_ms: 3_000,
            counted_every_ms: 2_000,
            discovered_per_day_max: 0,
            code_requests_per_hour_max: 0,
            phone_code_requests_per_hour_max: 0,
            address_code_requests_per_hour_max: 0,
            code_valid_ms: 60_000,
            devices_max: DEVICES_MAX,
            edit_window_ms: EDIT_WINDOW_MS,
            deletion_window_ms: DELETION_WINDOW_MS,
            access_token_valid_ms: self.access_token_valid_ms,
            history_ms: self.history_ms,
            batch_bytes_max: FDB_BATCH_BYTES_MAX,
            uploads_per_hour_max: 0,
            media_unsent_ms: 10_000,
            media_removed_after_ms: 4_000,
            media_round_ms: 500,
            push_wait_ms: 2_000,
            push_round_ms: 1_000,
            ..Limits::default()
        };
        if stream.below(2) == 0 {
            return large;
        }
        let mut small = |min: u64, more: u64| (min + stream.below(more)) as usize;
        Limits {
            logs_cached_max: small(0, 8),
            users_cached_max: small(0, 4),
            tail_entries_max: small(1, 8),
            inbox_step_rows: small(1, 4),
            send_queue_bytes_max: small(50, 4000),
            mark_quiet_ms: 500,
            ..large
        }
    }
}
