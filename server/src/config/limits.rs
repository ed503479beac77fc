//! Every limit that can be set: its key, what it is by itself, what it may be, what it bounds. Those of the brain are told by it.

use serde::{Deserialize, Serialize};
use tern_shard::limits::Limits;
use tern_shard::with_limits;

use super::{Config, ConfigError, EngineKind};

macro_rules! limits_table {
    ($($key:ident: $type:ty = $default:expr, $range:expr, $help:literal;)*) => {
        /// Every limit that can be set.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct LimitsTable {
            $(#[doc = $help] pub $key: $type,)*
        }

        impl Default for LimitsTable {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }

        impl LimitsTable {
            /// Each limit: its key, what it bounds, what it may be.
            pub fn help() -> Vec<(&'static str, &'static str, std::ops::RangeInclusive<u64>)> {
                vec![$((stringify!($key), $help, $range),)*]
            }

            pub(super) fn check(&self) -> Result<(), ConfigError> {
                $({
                    let (value, range) = (self.$key as u64, $range);
                    if !range.contains(&value) {
                        let allowed = format!("{} to {}", range.start(), range.end());
                        return Err(ConfigError::OutOfRange { key: concat!("limits.", stringify!($key)), value, allowed });
                    }
                })*
                Ok(())
            }

            pub(super) fn set(&mut self, key: &str, value: u64) -> bool {
                match key {
                    $(stringify!($key) => match value.try_into() {
                        Ok(value) => self.$key = value,
                        Err(_) => return false,
                    },)*
                    _ => return false,
                }
                true
            }
        }
    };
}

/// No number is larger, so that TOML, whose numbers have a sign, can hold it.
pub const NUMBER_MAX: u64 = 1 << 60;

with_limits! { limits_table! {
    connections_max: u32 = 16_000, 1..=1_000_000, "Connections of one core; the limit of open files bounds them too.";
    media_image_bytes_max: u64 = 16 << 20, 1..=1 << 40, "Bytes of a picture. Beyond: 413, before a byte comes.";
    media_audio_bytes_max: u64 = 16 << 20, 1..=1 << 40, "Bytes of a recording. Beyond: 413.";
    media_video_bytes_max: u64 = 100 << 20, 1..=1 << 40, "Bytes of a video. Beyond: 413.";
    media_document_bytes_max: u64 = 100 << 20, 1..=1 << 40, "Bytes of a document, and of what is encrypted. Beyond: 413.";
    media_connections_max: usize = 4_096, 1..=1_000_000, "Connections of the listener for media. Beyond, new ones wait.";
    media_network_connections_max: usize = 256, 0..=1_000_000, "Of one network: an IPv4 address, or the first half of an IPv6 one. Beyond, a new one ends at once. 0: any number.";
    media_account_uploads_max: usize = 16, 0..=1_000_000, "Uploads at once of one account. Beyond: 503. 0: any number.";
    media_upload_bytes_per_s: u64 = 32 << 20, 0..=1 << 40, "Bytes of uploads a second, all together: what is beyond waits where it is, for uploads and messages share the disk. 0: any number.";
    media_idle_timeout_ms: u64 = 30_000, 100..=3_600_000, "How long less than 4 KiB may come of an upload, or nothing be taken of a download. Beyond, its connection ends; what has come stays.";
    upload_valid_ms: u64 = tern_shard::limits::DAY_MS, 60_000..=30 * tern_shard::limits::DAY_MS, "How long an upload stays to which nothing comes.";
    media_sweep_ms: u64 = 300_000, 10..=tern_shard::limits::DAY_MS, "How often the server looks for bytes of media of which nobody knows, at one of 256 parts each time.";
    handshake_timeout_ms: u64 = 10_000, 100..=600_000, "Time for a TLS handshake.";
    ticket_valid_ms: u64 = tern_shard::limits::DAY_MS, 0..=7 * tern_shard::limits::DAY_MS, "How long a TLS session ticket is good: a client that comes back with one resumes. 0: none is given, and the keys of those that were are removed.";
    unsent_bytes_max: usize = 1 << 20, 1_024..=1 << 30, "Bytes unsent to a logged-in connection beyond which nothing more is read from it, until they have left.";
    strangers_max: usize = 8_192, 16..=100_000_000, "Connections of the node that have not logged in; each takes at most 64 KiB. Beyond, one that has had five seconds goes, or the newcomer.";
    strangers_per_network_max: u32 = 1_024, 0..=100_000_000, "Connections of an IPv4 address, or of the first half of an IPv6 one, that have not logged in. Beyond, the newcomer is closed. 0: networks are not counted.";
    ring_entries: u32 = 1_024, 64..=32_768, "Submissions in a core's ring.";
    receive_buffers: u16 = 1_024, 2..=32_768, "Receive buffers of a core: a power of two.";
    receive_buffer_bytes: u32 = 4_096, 512..=1_048_576, "Bytes of a receive buffer.";
    mesh_ring_messages: usize = 4_096, 2..=1_048_576, "Messages in the ring of each pair of cores.";
    mesh_backlog_max: usize = 8_192, 1..=1_048_576, "Messages waiting for a core beyond which requests for it are refused.";
    commit_group_bytes_max: usize = 8 << 20, 131_072..=1 << 30, "Bytes written in one group commit.";
    commits_in_flight_max: usize = 64, 1..=65_536, "Batches of a core that the store has not completed.";
    reads_in_flight_max: usize = 1_024, 16..=65_536, "Reads of a core that the store has not completed.";
    free_bytes_min: u64 = 256 << 20, 0..=NUMBER_MAX, "Free disk space below which nothing is taken.";
    backup_log_bytes_max: u64 = 4 << 30, 67_108_864..=1 << 44, "Bytes of the log that are kept for a backup which does not take them. Beyond, its chain is given up, and begins anew when it can.";
    store_cache_bytes: u64 = 256 << 20, 1_048_576..=1 << 40, "Bytes of the store's blocks in memory.";
} }

macro_rules! brain_limits {
    ($from:expr, $($key:ident: $type:ty = $default:expr, $range:expr, $help:literal;)*) => {
        Limits { $($key: $from.$key,)* }
    };
}

impl Config {
    /// The brain's part of the limits.
    pub fn shard_limits(&self) -> Limits {
        let limits = with_limits! { brain_limits! { self.limits, } };
        // FoundationDB takes no larger transactions.
        let batch_bytes_max = match self.engine {
            EngineKind::Fdb => limits.batch_bytes_max.min(tern_storage::FDB_BATCH_BYTES_MAX),
            EngineKind::Embedded | EngineKind::Memory => limits.batch_bytes_max,
        };
        Limits { batch_bytes_max, ..limits }
    }
}
