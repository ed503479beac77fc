//! Every limit that can be set: its key, what it is by itself, what it may be, what it bounds.

use serde::{Deserialize, Serialize};
use tern_shard::limits::{Limits, PHONE_CODES_MAX};
use tern_wire::limits;

use super::{Config, ConfigError};

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

const DAY_MS: u64 = 24 * 3_600_000;

limits_table! {
    connections_max: u32 = 16_000, 1..=1_000_000, "Connections of one core; the limit of open files bounds them too.";
    handshake_timeout_ms: u64 = 10_000, 100..=600_000, "Time for a TLS handshake.";
    login_timeout_ms: u64 = 30_000, 100..=3_600_000, "Time from connecting to Login.";
    idle_timeout_ms: u64 = 300_000, 1_000..=DAY_MS, "Time without a byte from the client.";
    body_bytes_max: usize = limits::BODY_BYTES_MAX, 1..=limits::BODY_BYTES_MAX as u64, "Bytes of a message's body.";
    history_entries_max: usize = limits::HISTORY_ENTRIES_MAX, 1..=limits::HISTORY_ENTRIES_MAX as u64, "Entries of a history page.";
    requests_in_flight_max: u32 = 256, 1..=65_536, "Unanswered requests of a connection.";
    request_bytes_in_flight_max: u32 = 1 << 20, 131_072..=1 << 30, "Bytes of a connection's unanswered requests.";
    send_queue_bytes_max: usize = 256 << 10, 1_024..=1 << 30, "Bytes queued to a connection beyond which it is not pushed to.";
    unsent_bytes_max: usize = 1 << 20, 1_024..=1 << 30, "Bytes unsent to a logged-in connection beyond which nothing more is read from it, until they have left.";
    strangers_max: usize = 8_192, 16..=100_000_000, "Connections of the node that have not logged in; each takes at most 64 KiB. Beyond, one that has had five seconds goes, or the newcomer.";
    strangers_per_network_max: u32 = 1_024, 0..=100_000_000, "Connections of an IPv4 address, or of the first half of an IPv6 one, that have not logged in. Beyond, the newcomer is closed. 0: networks are not counted.";
    send_queue_bytes_hard_max: usize = 4 << 20, 1_048_576..=1 << 30, "Bytes queued to a connection beyond which it is closed.";
    code_valid_ms: u64 = 300_000, 1_000..=DAY_MS, "Life of a one-time code.";
    code_attempts_max: u32 = 3, 1..=100, "Wrong tries of a one-time code.";
    code_requests_per_hour_max: u32 = 3, 0..=PHONE_CODES_MAX as u64, "One-time codes for a phone from one network in an hour; 0: any number.";
    phone_code_requests_per_hour_max: u32 = 12, 0..=PHONE_CODES_MAX as u64, "One-time codes for a phone in an hour from all networks that have never proven it; 0: any number.";
    address_code_requests_per_hour_max: u32 = 100, 0..=100_000_000, "One-time codes for a network in an hour; 0: any number.";
    lookups_per_minute_max: u32 = 120, 0..=1_000_000, "Lookups by an account in a minute; 0: any number.";
    sends_per_minute_max: u32 = 100, 0..=10_000_000, "Messages sent by an account in a minute; 0: any number.";
    sends_burst: u32 = 300, 1..=10_000_000, "Messages that an account may send at once when it has been quiet.";
    strangers_per_hour_max: u32 = 60, 0..=1_000_000, "People who have not written to an account and to whom it may write in an hour; 0: any number.";
    waiting_bytes_max: u64 = 64 << 20, 0..=1 << 40, "Bytes of bodies that wait for one user; 0: any number.";
    account_idle_days: u32 = 45, 0..=36_500, "Days without any of its devices after which an account is not joined by whoever proves its phone, but ends; 0: never.";
    devices_max: usize = 8, 1..=64, "Devices of a user.";
    access_token_valid_ms: u64 = 3_600_000, 1_000..=DAY_MS, "Life of an access token.";
    refresh_token_valid_ms: u64 = 7 * DAY_MS, 1_000..=365 * DAY_MS, "Life of a refresh token.";
    logs_cached_max: usize = 100_000, 16..=100_000_000, "Logs in one core's memory.";
    users_cached_max: usize = 100_000, 16..=100_000_000, "Users in one core's memory, beside the connected ones.";
    tail_entries_max: usize = 32, 1..=10_000, "Newest entries of a log in memory.";
    tail_bytes_max: usize = 64 << 10, 1..=1 << 30, "Bytes of the newest entries of a log in memory.";
    batch_bytes_max: usize = 4 << 20, 131_072..=1 << 30, "Bytes in a core's open batch.";
    overloaded_retry_after_ms: u32 = 100, 1..=60_000, "What a refused client is told to wait.";
    mark_quiet_ms: u64 = 10_000, 1..=3_600_000, "Quiet time of a log after which marks of devices that have it all are cleared.";
    ring_entries: u32 = 1_024, 64..=32_768, "Submissions in a core's ring.";
    receive_buffers: u16 = 1_024, 2..=32_768, "Receive buffers of a core: a power of two.";
    receive_buffer_bytes: u32 = 4_096, 512..=1_048_576, "Bytes of a receive buffer.";
    mesh_ring_messages: usize = 4_096, 2..=1_048_576, "Messages in the ring of each pair of cores.";
    mesh_backlog_max: usize = 8_192, 1..=1_048_576, "Messages waiting for a core beyond which requests for it are refused.";
    commit_group_bytes_max: usize = 8 << 20, 131_072..=1 << 30, "Bytes written in one group commit.";
    commits_in_flight_max: usize = 64, 1..=65_536, "Batches of a core that the store has not completed.";
    reads_in_flight_max: usize = 1_024, 16..=65_536, "Reads of a core that the store has not completed.";
    free_bytes_min: u64 = 256 << 20, 0..=NUMBER_MAX, "Free disk space below which nothing is taken.";
    store_cache_bytes: u64 = 256 << 20, 1_048_576..=1 << 40, "Bytes of the store's blocks in memory.";
}

impl Config {
    /// The brain's part of the limits.
    pub fn shard_limits(&self) -> Limits {
        let table = &self.limits;
        Limits {
            body_bytes_max: table.body_bytes_max,
            history_entries_max: table.history_entries_max,
            requests_in_flight_max: table.requests_in_flight_max,
            request_bytes_in_flight_max: table.request_bytes_in_flight_max,
            send_queue_bytes_max: table.send_queue_bytes_max,
            send_queue_bytes_hard_max: table.send_queue_bytes_hard_max,
            login_timeout_ms: table.login_timeout_ms,
            idle_timeout_ms: table.idle_timeout_ms,
            code_valid_ms: table.code_valid_ms,
            code_attempts_max: table.code_attempts_max,
            code_requests_per_hour_max: table.code_requests_per_hour_max,
            phone_code_requests_per_hour_max: table.phone_code_requests_per_hour_max,
            address_code_requests_per_hour_max: table.address_code_requests_per_hour_max,
            lookups_per_minute_max: table.lookups_per_minute_max,
            sends_per_minute_max: table.sends_per_minute_max,
            sends_burst: table.sends_burst,
            strangers_per_hour_max: table.strangers_per_hour_max,
            waiting_bytes_max: table.waiting_bytes_max,
            account_idle_days: table.account_idle_days,
            devices_max: table.devices_max,
            access_token_valid_ms: table.access_token_valid_ms,
            refresh_token_valid_ms: table.refresh_token_valid_ms,
            logs_cached_max: table.logs_cached_max,
            users_cached_max: table.users_cached_max,
            tail_entries_max: table.tail_entries_max,
            tail_bytes_max: table.tail_bytes_max,
            batch_bytes_max: table.batch_bytes_max,
            overloaded_retry_after_ms: table.overloaded_retry_after_ms,
            mark_quiet_ms: table.mark_quiet_ms,
            inbox_step_rows: Limits::default().inbox_step_rows,
        }
    }
}
