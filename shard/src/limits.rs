//! The bounds of the brain, each with what happens when it is reached. The protocol's own are in [`tern_wire::limits`].

use tern_wire::limits;

/// What an operator can set. Durations are in milliseconds.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a message's body. Beyond: `BODY_TOO_LARGE`. At most [`limits::BODY_BYTES_MAX`].
    pub body_bytes_max: usize,
    /// Entries of a history page; more asked for are cut to this. At most [`limits::HISTORY_ENTRIES_MAX`].
    pub history_entries_max: usize,
    /// Unanswered requests of a connection. Beyond: `OVERLOADED`.
    pub requests_in_flight_max: u32,
    /// Bytes of a connection's unanswered requests. Beyond: `OVERLOADED`.
    pub request_bytes_in_flight_max: u32,
    /// Bytes queued to a connection beyond which nothing is pushed: it catches up from the log when it has read on.
    pub send_queue_bytes_max: usize,
    /// Bytes queued to a connection beyond which it is closed: `GoAway(TOO_SLOW)`.
    pub send_queue_bytes_hard_max: usize,
    /// A connection that has not logged in after this is closed: `GoAway(UNAUTHENTICATED)`.
    pub login_timeout_ms: u64,
    /// A connection from which nothing came for this long is closed: `GoAway(IDLE)`.
    pub idle_timeout_ms: u64,
    /// How long a one-time code is good.
    pub code_valid_ms: u64,
    /// How many wrong codes may be tried. Beyond: `TOO_MANY_ATTEMPTS`, a new code is needed.
    pub code_attempts_max: u32,
    /// Codes for one phone asked for from one network in an hour. Beyond: `RATE_LIMITED`. 0: any number.
    pub code_requests_per_hour_max: u32,
    /// Codes for one phone asked for in an hour from all networks together from which it was never proven. Beyond: `RATE_LIMITED` for
    /// those. 0: any number.
    pub phone_code_requests_per_hour_max: u32,
    /// Codes asked for from one network in an hour, for all phones. Beyond: `RATE_LIMITED`. 0: any number.
    pub address_code_requests_per_hour_max: u32,
    /// Lookups of people and pages of its chats by one account in a minute. Beyond: `RATE_LIMITED`. 0: any number.
    pub lookups_per_minute_max: u32,
    /// Messages sent by one account in a minute, on the average. Beyond: `RATE_LIMITED`. 0: any number.
    pub sends_per_minute_max: u32,
    /// Messages that an account may send at once when it has been quiet.
    pub sends_burst: u32,
    /// People who have not written to an account and to whom it may write in an hour. Beyond: `RATE_LIMITED`. 0: any number.
    pub strangers_per_hour_max: u32,
    /// Bytes of bodies that wait for one user, beside [`WAITING_FREE_BYTES`] a chat. Beyond: `INBOX_FULL` to those who send. 0: any number.
    pub waiting_bytes_max: u64,
    /// Days after which a phone's account, none of whose devices has been here, is not joined by whoever proves the phone: it ends, and
    /// the phone gets a new one. 0: never.
    pub account_idle_days: u32,
    /// Devices of one user. Beyond: `TOO_MANY_DEVICES`.
    pub devices_max: usize,
    /// How long an access token is good.
    pub access_token_valid_ms: u64,
    /// How long a refresh token is good.
    pub refresh_token_valid_ms: u64,
    /// Logs kept in memory by one core; the longest unused leave.
    pub logs_cached_max: usize,
    /// Users kept in memory by one core, beside the connected ones; the longest unused leave.
    pub users_cached_max: usize,
    /// Newest entries of a log kept in memory, by number.
    pub tail_entries_max: usize,
    /// Newest entries of a log kept in memory, by bytes of their bodies.
    pub tail_bytes_max: usize,
    /// Bytes in a core's open batch. Beyond, requests that write: `OVERLOADED`.
    pub batch_bytes_max: usize,
    /// What a refused client is told to wait when this core is overloaded.
    pub overloaded_retry_after_ms: u32,
    /// Inbox marks read in one step: the next is read when most of these logs are done with.
    pub inbox_step_rows: usize,
    /// A caught-up device's inbox mark is cleared when its log has been quiet for this long.
    pub mark_quiet_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const MINUTE_MS: u64 = 60_000;
        const HOUR_MS: u64 = 60 * MINUTE_MS;
        Self {
            body_bytes_max: limits::BODY_BYTES_MAX,
            history_entries_max: limits::HISTORY_ENTRIES_MAX,
            requests_in_flight_max: 256,
            request_bytes_in_flight_max: 1 << 20,
            send_queue_bytes_max: 256 << 10,
            send_queue_bytes_hard_max: 4 << 20,
            login_timeout_ms: 30_000,
            idle_timeout_ms: 5 * MINUTE_MS,
            code_valid_ms: 5 * MINUTE_MS,
            code_attempts_max: 3,
            code_requests_per_hour_max: 3,
            phone_code_requests_per_hour_max: 12,
            address_code_requests_per_hour_max: 100,
            lookups_per_minute_max: 120,
            sends_per_minute_max: 100,
            sends_burst: 300,
            strangers_per_hour_max: 60,
            waiting_bytes_max: 64 << 20,
            account_idle_days: 45,
            devices_max: 8,
            access_token_valid_ms: HOUR_MS,
            refresh_token_valid_ms: 7 * 24 * HOUR_MS,
            logs_cached_max: 100_000,
            users_cached_max: 100_000,
            tail_entries_max: 32,
            tail_bytes_max: 64 << 10,
            batch_bytes_max: 4 << 20,
            overloaded_retry_after_ms: 100,
            inbox_step_rows: 1000,
            mark_quiet_ms: 10_000,
        }
    }
}

impl Limits {
    /// What a client is told of them in `Welcome`.
    pub fn for_clients(&self) -> tern_proto::v1::Limits {
        tern_proto::v1::Limits {
            body_bytes_max: self.body_bytes_max as u32,
            frame_bytes_max: limits::FRAME_BYTES_MAX as u32,
            frame_bytes_max_before_login: limits::FRAME_BYTES_MAX_BEFORE_LOGIN as u32,
            requests_in_flight_max: self.requests_in_flight_max,
            request_bytes_in_flight_max: self.request_bytes_in_flight_max,
            history_entries_max: self.history_entries_max as u32,
            positions_max: limits::POSITIONS_MAX as u32,
            idle_timeout_ms: self.idle_timeout_ms as u32,
        }
    }
}

/// Pulls of one session under way; the other logs that it is behind in wait.
pub const PULLS_MAX: u32 = 4;

/// Entries in one page of catching up. Small, so that one device's backlog does not hold up the others' pushes.
pub const PULL_ENTRIES_MAX: usize = 64;

/// Bytes of bodies in one page of catching up; its last entry may exceed it.
pub const PULL_BYTES_MAX: usize = 64 << 10;

/// Reads that wait for the store to have room. Beyond, requests that would read: `OVERLOADED`.
pub const READS_WAITING_MAX: usize = 16_384;

/// Answers that wait for a core's open batch. Beyond, requests that write: `OVERLOADED`.
pub const BATCH_ANSWERS_MAX: usize = 65_536;

/// Damaged logs that an operator has been told of. Beyond, others are told of at most once in [`DAMAGE_QUIET_MS`].
pub const DAMAGE_TOLD_MAX: usize = 1024;

/// For how long failing reads are not told of again, in milliseconds.
pub const DAMAGE_QUIET_MS: u64 = 10_000;

/// Logs in a device's inbox in memory; beyond, the inbox is read from the store at the next `Resume`.
pub const INBOX_LOGS_MAX: usize = 10_000;

/// Logs that a connected device is behind in: those of its inbox, those that its `Resume`s list, and those in which something was
/// appended while it did not read. Beyond: `GoAway(TOO_SLOW)`.
pub const LAG_LOGS_MAX: usize = 3 * INBOX_LOGS_MAX;

/// Logs of an inbox that is kept with a silent user; beyond, the store is asked at the next `Resume`.
pub const INBOX_PACKED_LOGS_MAX: usize = 256;

/// The window of the limits that count a minute, in milliseconds.
pub const MINUTE_MS: u64 = 60_000;

/// Accounts of a core that have used up some of one limit. Beyond, those who come are not counted until others have done without.
pub const BUCKETS_MAX: usize = 1 << 18;

/// How often accounts that have not are forgotten, in milliseconds.
pub const BUCKETS_SWEPT_EVERY_MS: u64 = 10_000;

/// Bytes of bodies that may wait in a chat for one of its members whatever else waits for them. So a chat that is acknowledged in time
/// asks nobody.
pub const WAITING_FREE_BYTES: u64 = 64 << 10;

/// The steps in which a chat reserves more.
pub const WAITING_STEP_BYTES: u64 = 1 << 20;

/// Bytes between two notes of how much has been written in a log.
pub const CHECKPOINT_BYTES: u64 = WAITING_FREE_BYTES / 4;

/// Such notes of one log. Beyond, every other one is dropped.
pub const CHECKPOINTS_MAX: usize = 32;

/// What a sender is told to wait when too much waits for the peer: nobody knows when they come back.
pub const WAITING_RETRY_MS: u32 = 60_000;

/// Users of a core of whom it is kept in memory how much waits; beyond, it is read from the store again.
pub const WAITING_USERS_MAX: usize = 10_000;

/// Changes of names by one account in an hour. Beyond: `RATE_LIMITED`.
pub const RENAMES_PER_HOUR_MAX: u32 = 20;

/// The window of the limits that count an hour, in milliseconds.
pub const HOUR_MS: u64 = 3_600_000;

/// Operations that wait for one log's state. Beyond: `OVERLOADED`.
pub const LOG_WAITING_MAX: usize = 4096;

/// Phones kept in memory by one core; all of which nothing is under way leave when there are more. If none can: `OVERLOADED`.
pub const PHONES_CACHED_MAX: usize = 10_000;

/// Operations that wait for one phone's record. Beyond: `OVERLOADED`.
pub const PHONE_WAITING_MAX: usize = 256;

/// Operations that wait for one user's records. Beyond: `OVERLOADED`, and logs of that user are unreadable for now.
pub const USER_WAITING_MAX: usize = 4096;

/// Codes of a phone outstanding that were asked for from one network. Beyond: `RATE_LIMITED` until the first has ended.
pub const NETWORK_CODES_MAX: u32 = 8;

/// Codes of a phone outstanding that were asked for from networks from which it was never proven. Beyond: as above, for those.
pub const STRANGERS_CODES_MAX: u32 = 24;

/// Networks from which a phone was proven that are remembered; the newest stay.
pub const PROVEN_NETWORKS_MAX: usize = 4;

/// Requests for a code that a phone's record remembers; beyond, the oldest are forgiven. More than the limits count, unless they
/// are off.
pub const ASKED_KEPT_MAX: usize = 1024;

/// The highest value of the limits of codes for a phone that can be set.
pub const PHONE_CODES_MAX: u32 = 200;

// Strangers and all proven networks together, each at the highest limit, are remembered.
const _: () = assert!(PHONE_CODES_MAX as usize * (1 + PROVEN_NETWORKS_MAX) <= ASKED_KEPT_MAX);

/// One-time codes of a core that wait for the way to the deliverer. Beyond: `OVERLOADED`, before anything is written.
pub const CODES_WAITING_MAX: usize = 1024;

/// Network addresses counted by one core; the counts start anew when there are more.
pub const ADDRESSES_MAX: usize = 100_000;

/// How far the newest time of a log may be ahead of the clock, which never falls by less. Beyond, the clock was wrong then, and
/// that time counts as now.
pub(crate) const AHEAD_MS_MAX: u64 = 60_000;
