//! The bounds of the brain, each with what happens when it is reached. The protocol's own are in [`tern_wire::limits`].

use tern_wire::limits;
pub use tern_wire::limits::{BODY_BYTES_MAX, HISTORY_ENTRIES_MAX};

/// A day, in milliseconds.
pub const DAY_MS: u64 = 24 * HOUR_MS;

/// Gives every limit of the brain that an operator can set to a macro, behind what else that gets: its key and type, what it is by
/// itself, what it may be, and what it bounds with what happens beyond. Durations are in milliseconds. It is said here alone:
/// [`Limits`] is made of it, and so are the shell's configuration, its checks and its help.
#[macro_export]
macro_rules! with_limits {
    ($then:ident! { $($before:tt)* }) => {
        $then! {
            $($before)*
            login_timeout_ms: u64 = 30_000, 100..=3_600_000,
                "Time from connecting to Login. Beyond: GoAway(UNAUTHENTICATED).";
            idle_timeout_ms: u64 = 300_000, 1_000..=$crate::limits::DAY_MS,
                "Time without a byte from the client. Beyond: GoAway(IDLE).";
            answer_timeout_ms: u64 = 30_000, 1_000..=3_600_000,
                "Time for those who own a user, a phone or a chat to answer what a connection asks of them. Beyond: GoAway(UNAVAILABLE), and the operator is told.";
            body_bytes_max: usize = $crate::limits::BODY_BYTES_MAX, 1..=$crate::limits::BODY_BYTES_MAX as u64,
                "Bytes of a message's body. Beyond: BODY_TOO_LARGE.";
            history_entries_max: usize = $crate::limits::HISTORY_ENTRIES_MAX, 1..=$crate::limits::HISTORY_ENTRIES_MAX as u64,
                "Entries of a history page; more asked for are cut to this.";
            requests_in_flight_max: u32 = 256, 1..=65_536,
                "Unanswered requests of a connection. Beyond: OVERLOADED.";
            request_bytes_in_flight_max: u32 = 1 << 20, 131_072..=1 << 30,
                "Bytes of a connection's unanswered requests. Beyond: OVERLOADED.";
            send_queue_bytes_max: usize = 256 << 10, 1_024..=1 << 30,
                "Bytes queued to a connection beyond which nothing is pushed: it catches up from the log when it has read on.";
            send_queue_bytes_hard_max: usize = 4 << 20, 1_048_576..=1 << 30,
                "Bytes queued to a connection. Beyond: GoAway(TOO_SLOW).";
            code_valid_ms: u64 = 300_000, 1_000..=$crate::limits::DAY_MS,
                "Life of a one-time code.";
            code_attempts_max: u32 = 3, 1..=100,
                "Wrong tries of a one-time code. Beyond: TOO_MANY_ATTEMPTS, a new code is needed.";
            code_requests_per_hour_max: u32 = 3, 0..=$crate::limits::PHONE_CODES_MAX as u64,
                "One-time codes for a phone from one network in an hour. Beyond: RATE_LIMITED. 0: any number.";
            phone_code_requests_per_hour_max: u32 = 12, 0..=$crate::limits::PHONE_CODES_MAX as u64,
                "One-time codes for a phone in an hour from all networks that have never proven it. Beyond: RATE_LIMITED for those. 0: any number.";
            address_code_requests_per_hour_max: u32 = 100, 0..=100_000_000,
                "One-time codes for a network in an hour. Beyond: RATE_LIMITED. 0: any number.";
            address_requests_per_minute_max: u32 = 1_000, 0..=100_000_000,
                "Requests from a network in a minute, on the average, all its connections together. Beyond: RATE_LIMITED. 0: any number.";
            address_requests_burst: u32 = 3_000, 1..=100_000_000,
                "Requests that may come from a network at once when it has been quiet.";
            lookups_per_minute_max: u32 = 120, 0..=1_000_000,
                "Lookups of people, and pages of its chats, by an account in a minute. Beyond: RATE_LIMITED. 0: any number.";
            searches_per_minute_max: u32 = 60, 0..=1_000_000,
                "Pages of what an account searches for in a minute. Beyond: RATE_LIMITED. 0: any number.";
            search_run_entries: u64 = 256, 0..=256,
                "Messages of a chat after which their words come into its index; whoever searches reads those after the last of these. What a chat has it keeps. 0: nothing is indexed, and Search is UNIMPLEMENTED.";
            words_erased_every_ms: u64 = 600_000, 1_000..=$crate::limits::DAY_MS,
                "How often the words of messages that are gone are taken out of the index. They are not found meanwhile.";
            discovered_per_day_max: u32 = 2_000, 0..=10_000_000,
                "Numbers of address books that an account may ask about in a day, on the average. Beyond: RATE_LIMITED. 0: any number.";
            discovered_burst: u32 = 5_000, 64..=10_000_000,
                "Numbers of address books that an account may ask about at once when it has not for long: its first address book.";
            sends_per_minute_max: u32 = 100, 0..=10_000_000,
                "Messages sent by an account in a minute, on the average. Beyond: RATE_LIMITED. 0: any number.";
            sends_burst: u32 = 300, 1..=10_000_000,
                "Messages that an account may send at once when it has been quiet.";
            strangers_per_hour_max: u32 = 60, 0..=1_000_000,
                "People who have not written to an account and to whom it may write in an hour. Beyond: RATE_LIMITED. 0: any number.";
            same_text_per_hour_max: u32 = 10, 0..=1_000_000,
                "People who have not written to an account and to whom it may write the same in an hour. Beyond: RATE_LIMITED for a minute, and twice as long each time; and operators are told. 0: any number.";
            groups_per_day_max: u32 = 10, 0..=1_000_000,
                "Groups that an account may make in a day. Beyond: RATE_LIMITED. 0: any number.";
            reports_per_day_max: u32 = 20, 0..=1_000_000,
                "Reports that an account may make to the operators in a day. Beyond: RATE_LIMITED. 0: any number.";
            reports_kept_ms: u64 = 90 * $crate::limits::DAY_MS, 0..=36_500 * $crate::limits::DAY_MS,
                "For how long reports are kept that operators are done with. Beyond: a background job removes them.";
            counted_every_ms: u64 = 60_000, 100..=3_600_000,
                "How often what is counted of a day (ternctl stats) is added up, and the messages that a core has counted are written. A crash loses those that were counted since; of accounts it loses none.";
            subscriptions_per_minute_max: u32 = 1_000, 0..=1_000_000,
                "People whom an account's devices begin to show in a minute, to be told whether they are here. Beyond: RATE_LIMITED. 0: any number.";
            presence_grace_ms: u64 = 10_000, 0..=600_000,
                "For how long a user still counts as here whose last connection has ended; and nobody is told that somebody is not after a start.";
            waiting_bytes_max: u64 = 64 << 20, 0..=1 << 40,
                "Bytes of bodies that wait for one user, beside 64 KiB a chat. Beyond: INBOX_FULL to those who send. 0: any number.";
            account_idle_days: u32 = 45, 0..=36_500,
                "Days without any of its devices after which an account is not joined by whoever proves its phone, but ends. 0: never.";
            pin_silence_days: u32 = 7, 0..=36_500,
                "Days without any of its devices after which an account with a PIN begins anew for whoever proves its phone without the PIN. 0: never.";
            edit_window_ms: u64 = 900_000, 0..=365 * $crate::limits::DAY_MS,
                "For how long a message may be edited. Beyond: TOO_LATE.";
            deletion_window_ms: u64 = 3_600_000, 0..=365 * $crate::limits::DAY_MS,
                "For how long a message may be deleted for everyone. Beyond: TOO_LATE.";
            history_ms: u64 = 0, 0..=36_500 * $crate::limits::DAY_MS,
                "For how long messages are kept that all have received. Beyond: a background job removes them. 0: for ever.";
            undelivered_ms: u64 = 30 * $crate::limits::DAY_MS, 0..=36_500 * $crate::limits::DAY_MS,
                "For how long messages are kept that somebody has not received, if that is longer than history_ms, and history_ms is not 0.";
            deletion_delay_ms: u64 = 7 * $crate::limits::DAY_MS, 0..=365 * $crate::limits::DAY_MS,
                "After how long an account ends whose person has said that it is to. Until then whoever proves its phone keeps it. 0: at once.";
            deletion_round_ms: u64 = 10_000, 100..=3_600_000,
                "How often the server looks for accounts that are to end. What is left of one that has ended goes in some of these rounds.";
            link_valid_ms: u64 = 120_000, 1_000..=$crate::limits::DAY_MS,
                "Life of a code by which a device is linked.";
            devices_max: usize = 10, 1..=64,
                "Devices of a user. Beyond: the oldest that is not connected goes, or TOO_MANY_DEVICES.";
            uploads_per_hour_max: u32 = 50, 0..=1_000_000,
                "Media that an account may upload in an hour. Beyond: 429. 0: any number.";
            uploaded_bytes_max: u64 = 10 << 30, 0..=1 << 50,
                "Bytes of media that an account may have uploaded and that are still there. Beyond: 507. 0: any number.";
            media_unsent_ms: u64 = $crate::limits::DAY_MS, 1_000..=365 * $crate::limits::DAY_MS,
                "For how long a medium stays that was uploaded, and that nothing has.";
            media_removed_after_ms: u64 = 600_000, 1_000..=$crate::limits::DAY_MS,
                "After how long a medium is removed that nothing has any more. No new message may have it meanwhile.";
            media_round_ms: u64 = 60_000, 100..=3_600_000,
                "How often the server looks for media that nothing has.";
            media_waiting_max: usize = 65_536, 1..=16_000_000,
                "Media of a core that wait at once to be removed. Beyond, they have their turn when those before them are gone.";
            media_link_valid_ms: u64 = 3_600_000, 60_000..=7 * $crate::limits::DAY_MS,
                "For how long a link to a medium is good, at least; it ends with a full hour.";
            call_rings_ms: u64 = 60_000, 5_000..=300_000,
                "For how long a call rings.";
            push_wait_ms: u64 = 5_000, 0..=600_000,
                "How long a device that is connected may take to acknowledge before it is told by its push service.";
            push_valid_ms: u64 = 7 * $crate::limits::DAY_MS, 1_000..=28 * $crate::limits::DAY_MS,
                "For how long a push service keeps what it can't bring to a device.";
            push_waiting_max: usize = 65_536, 1..=16_000_000,
                "Chats of a core that wait at once to be looked at for devices that are to be told. Beyond, they have their turn with a later round.";
            push_round_ms: u64 = 30_000, 100..=3_600_000,
                "How often the server looks for devices that are still to be told something by their push services.";
            stories_per_hour_max: u32 = 30, 0..=1_000_000,
                "Stories that an account may post in an hour. Beyond: RATE_LIMITED. 0: any number.";
            stories_max: usize = 100, 1..=1_000,
                "Stories of an account whose time has not come, those that it has deleted included. Beyond: TOO_MANY_STORIES.";
            story_valid_ms: u64 = $crate::limits::DAY_MS, 1_000..=7 * $crate::limits::DAY_MS,
                "For how long a story is there.";
            access_token_valid_ms: u64 = 3_600_000, 1_000..=$crate::limits::DAY_MS,
                "Life of an access token.";
            refresh_token_valid_ms: u64 = 7 * $crate::limits::DAY_MS, 1_000..=365 * $crate::limits::DAY_MS,
                "Life of a refresh token.";
            logs_cached_max: usize = 100_000, 16..=100_000_000,
                "Logs in one core's memory; the longest unused leave.";
            users_cached_max: usize = 100_000, 16..=100_000_000,
                "Users in one core's memory, beside the connected ones; the longest unused leave.";
            tail_entries_max: usize = 32, 1..=10_000,
                "Newest entries of a log in memory, by number.";
            tail_bytes_max: usize = 64 << 10, 1..=1 << 30,
                "Newest entries of a log in memory, by bytes of their bodies.";
            batch_bytes_max: usize = 4 << 20, 131_072..=1 << 30,
                "Bytes in a core's open batch. Beyond, requests that write: OVERLOADED.";
            lazy_ms: u64 = 20, 0..=1_000,
                "How long what nobody waits for (watermarks, receipts, cleared marks) may wait for something urgent to leave with, in the store's batch and again on a connection; and an answer for what follows it (Welcome for LoggedIn, Resumed for the first page). 0: not at all.";
            overloaded_retry_after_ms: u32 = 100, 1..=60_000,
                "What a refused client is told to wait.";
            inbox_step_rows: usize = 1_000, 1..=100_000,
                "Inbox marks read in one step: the next is read when most of these logs are done with.";
            mark_quiet_ms: u64 = 10_000, 1..=3_600_000,
                "Quiet time of a log after which marks of devices that have it all are cleared.";
        }
    };
}

macro_rules! limits_struct {
    ($($key:ident: $type:ty = $default:expr, $range:expr, $help:literal;)*) => {
        /// What an operator can set of the brain. Durations are in milliseconds.
        #[derive(Clone, Debug)]
        pub struct Limits {
            $(#[doc = $help] pub $key: $type,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }
    };
}

with_limits! { limits_struct! {} }

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
            edit_window_ms: self.edit_window_ms,
            deletion_window_ms: self.deletion_window_ms,
            call_rings_ms: self.call_rings_ms,
        }
    }
}

/// How long nothing else is told of a chat by push services, in milliseconds: what comes meanwhile is one notice.
pub const PUSH_GAP_MS: u64 = 1_000;

/// After how long it is looked again at a chat that could not be looked at, or of which push services took nothing, in milliseconds: at first,
/// and at the most.
pub const PUSH_AGAIN_MS: (u64, u64) = (5_000, 300_000);

/// Chats of a core that are looked at at once to tell devices of them. Others wait.
pub const PUSH_LOOKS_MAX: usize = 256;

/// How long a look at a chat may take, in milliseconds. Beyond, it begins again.
pub const PUSH_LOOK_MS: u64 = 10_000;

/// After how long a notice counts as lost of which nothing was heard, in milliseconds: of one that waits for its service that is heard too.
pub const PUSH_LOST_MS: u64 = 12 * HOUR_MS;

/// Rows of a user that are read to know where their devices are told, and how much is unread. What is beyond does not count.
pub const PUSH_ROWS_MAX: usize = 4_096;

/// Rows of what is still to be told that are read at once.
pub const PUSH_OUTBOX_ROWS: usize = 512;

/// Chats of a user that are noted at once to be looked at.
pub const PUSH_CHATS_AT_ONCE: usize = 256;

/// Bytes of a message that a push service is given to be shown. It shortens it as it wants.
pub const PUSH_PREVIEW_BYTES_MAX: usize = 1_000;

/// How often an account may say in an hour where its devices are told. Beyond: `RATE_LIMITED`.
pub const PUSHES_SET_PER_HOUR_MAX: u32 = 60;

/// What the first address of an account counts there.
pub const PUSHES_SET_FIRST: u32 = 10;

// A batch of numbers fits the bucket of an account at its smallest.
const _: () = assert!(limits::DISCOVERED_MAX <= 64);

/// Rows of what is to be looked at of media that are read at once, and media that are looked at at once.
pub const MEDIA_ROWS_AT_ONCE: usize = 256;
/// See there.
pub const MEDIA_LOOKS_AT_ONCE: usize = 64;

/// Rows of what an account has uploaded that are read at once to be added up.
pub const KEPT_ROWS_AT_ONCE: usize = 1_000;

/// After how long an upload that did not come to its end counts no more.
pub const UPLOAD_ABANDONED_MS: u64 = 2 * DAY_MS;

/// How often the logs are gone through for what is kept no longer, at the most, in milliseconds.
pub const RETENTION_ROUND_MS: u64 = HOUR_MS;

/// Logs that are looked at together for that, in a tick.
pub const RETENTION_LOGS_MAX: usize = 64;

/// Entries that are cut off a log in one batch.
pub const CUT_ENTRIES_MAX: usize = 128;

/// Rows of what is due that are read of a slot at once.
pub const DUE_ROWS_MAX: usize = 256;

/// After how long it is looked again at a slot in which something was due, in milliseconds: what its log could not do is told again.
pub const DUE_AGAIN_MS: u64 = 500;

/// After how long a scheduled message is sent again that nobody has answered for, in milliseconds.
pub const DISPATCH_AGAIN_MS: u64 = 10_000;

/// Scheduled messages of a core under way. Beyond, others wait until it is looked again.
pub const DISPATCHING_MAX: usize = 4096;

/// Slots that a core looks at in a tick for what is due.
pub const DUE_LOOKS_PER_TICK: usize = 64;

/// Own messages of a member of a group beyond what it has said to have read. Beyond, the oldest of them is taken for read, with what is
/// before it.
pub const GROUP_OWN_MAX: usize = 128;

/// People who ask to be let into a group. Beyond: `TOO_MANY_MEMBERS`.
pub const ASKING_MAX: usize = 256;

/// Edits of one message. Beyond: `TOO_MANY_EDITS`.
pub const EDITS_MAX: usize = 32;

/// People who have ever been members of a group. Beyond, nobody new comes: `TOO_MANY_MEMBERS`.
pub const GROUP_PEOPLE_MAX: usize = 4 * tern_wire::limits::GROUP_MEMBERS_MAX;

/// Entries of a group, and bytes of their bodies, after which the rows of their authors are written at the latest: what follows from so
/// many is made again when the group is read, from at least twice as many.
pub const GROUP_UNWRITTEN_MAX: (usize, usize) = (16, 64 << 10);

/// The newest entries of a group that are read with it, at least.
pub const GROUP_TAIL_MIN: (usize, usize) = (2 * GROUP_UNWRITTEN_MAX.0, 4 * GROUP_UNWRITTEN_MAX.1);

/// The marks of a group's devices are cleared after so many times the quiet time of a direct chat, one more for each eight members, at
/// most: to set and clear them all costs the more the more there are.
pub const QUIET_TIMES_MAX: u64 = 1 + GROUP_PEOPLE_MAX as u64 / 8;

/// How long the acknowledgements of a group are gathered, for each row of its members.
pub const GATHER_MS: u64 = 100;

/// Acknowledgements of a group that leave together, at most. Beyond: `OVERLOADED`. They leave with the next tick when each member has
/// acknowledged twice.
pub const GROUP_ACKNOWLEDGED_MAX: usize = 1 << 16;

/// No fewer acknowledgements of a group are written before it is time.
pub const GROUP_GATHERED_MIN: usize = 256;

/// What devices of a group want that wait to be known.
pub const GROUP_NEWCOMERS_MAX: usize = 4096;

/// Pulls of one session under way; the other logs that it is behind in wait.
pub const PULLS_MAX: u32 = 4;

/// Connections of a core that set out in a tick to follow their users to other cores. The others do so later.
pub const FOLLOWING_PER_TICK: usize = 64;

/// Notices that wait for a connection on its way to its user's core. Beyond, they are not told.
pub const NOTICES_MISSED_MAX: usize = 16;

/// Entries in one page of catching up. Small, so that one device's backlog does not hold up the others' pushes.
pub const PULL_ENTRIES_MAX: usize = 64;

/// Bytes of bodies in one page of catching up; its last entry may exceed it.
pub const PULL_BYTES_MAX: usize = 64 << 10;

/// What one core has asked of owners and is not answered. Beyond, requests: `OVERLOADED`; what a session asks for itself is bounded by
/// its pulls and its list of chats.
pub const ASKS_MAX: usize = 1 << 19;

/// Logs that a core asks for at each tick where they stand, whose owner has come to be another one.
pub const RECOVERED_PER_TICK: usize = 256;

/// For how long owners that do not answer are not told of again, in milliseconds.
pub const UNANSWERED_QUIET_MS: u64 = 10_000;

/// Messages that wait, at one core, for a slot that moves. Beyond, requests: `OVERLOADED`.
pub const MOVING_WAITING_MAX: usize = 4096;

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

/// Wrong PINs of an account in a day. Beyond: `RATE_LIMITED`.
pub const PIN_TRIES_PER_DAY_MAX: u32 = 5;

/// Changes of names, or of the PIN, by one account in an hour. Beyond: `RATE_LIMITED`. Of as many changes of who may see what others are told.
pub const RENAMES_PER_HOUR_MAX: u32 = 20;

/// Rings that an account asks of its devices in a minute. Beyond: `RATE_LIMITED`.
pub const RINGS_PER_MINUTE_MAX: u32 = 10;

/// Codes by which devices are linked, and cards, that an account asks for in a minute. Beyond: `RATE_LIMITED`.
pub const LINKS_PER_MINUTE_MAX: u32 = 20;

/// The window of the limits that count an hour, in milliseconds.
pub const HOUR_MS: u64 = 3_600_000;

/// Operations that wait for one log's state. Beyond: `OVERLOADED`.
pub const LOG_WAITING_MAX: usize = 4096;

/// Messages that wait for a log's content filter, which is asked about all of them at once. Beyond: `OVERLOADED`. So few that a slot that
/// is to move does not wait for long.
pub const LOG_LOOKED_AT_MAX: usize = 128;

/// What a sender is told to wait when the content filter says nothing, and what it has not seen does not pass, in milliseconds.
pub const UNSEEN_RETRY_MS: u32 = 2_000;

/// Phones kept in memory by one core; all of which nothing is under way leave when there are more. If none can: `OVERLOADED`.
pub const PHONES_CACHED_MAX: usize = 10_000;

/// Operations that wait for one phone's record. Beyond: `OVERLOADED`.
pub const PHONE_WAITING_MAX: usize = 256;

/// Devices that one user, or one group, is shown by. Beyond, those who come are told nothing.
pub const LOOKERS_MAX: usize = 100_000;

/// Devices that are told of a user in a turn; those beyond are told in the next ones.
pub const TOLD_PER_TURN_MAX: usize = 512;

/// For how many rounds after the end of an account what is left of it is looked for at least: what was under way then is in the store.
pub const ENDED_ROUNDS_MIN: u64 = 3;

/// How long a step of what is done for them may take, in ms. Beyond, it begins again.
pub const ENDS_STEP_MS: u64 = 30_000;

/// Accounts that a core knows to be due at once. Others wait for a later round.
pub const ENDED_DUE_MAX: usize = 256;

/// Chats that an account which has ended is taken out of at once.
pub const ENDED_CHATS_AT_ONCE: usize = 16;

/// Rows that are removed at once of what is left of such an account.
pub const ENDED_ROWS_AT_ONCE: usize = 256;

/// For how long what could not be decided on is put off, in ms, and how much of it a core keeps. Beyond, the oldest is not said any more.
pub const PUT_OFF_MS: u64 = 1000;
/// See there.
pub const PUT_OFF_MAX: usize = 1 << 16;

/// Users of a core who have gone a short while ago. Beyond, the first of them do not count as here any more.
pub const FADING_MAX: usize = 1 << 20;

/// How often others are told what somebody does in a chat: in a minute, and at once.
pub const ACTS_PER_MINUTE_MAX: u32 = 20;
/// See there.
pub const ACTS_BURST: u32 = 2;

/// How often somebody's calls ring at another one's: in an hour, and at once. Beyond, they are messages like any other.
pub const CALLS_PER_HOUR_MAX: u32 = 12;
/// See there.
pub const CALLS_BURST: u32 = 3;

/// People whom an account blocks. Beyond: `TOO_MANY_PEOPLE`.
pub const BLOCKED_MAX: usize = 1_000;

/// People whose stories an account mutes. Beyond: `TOO_MANY_PEOPLE`.
pub const MUTED_MAX: usize = 1_000;

/// Stories of an account that are about to be posted. Beyond: `OVERLOADED`.
pub const POSTINGS_MAX: usize = 16;

/// Stories of a core of which people are being told. Others wait until what is due is looked at again.
pub const STORIES_TOLD_MAX: usize = 256;

/// People who are told of a story in one step, or contacts that are looked through for them.
pub const STORY_STEP_ROWS: usize = 64;

/// How long those who are told may take to answer, in ms. Beyond, others are told before they are again.
pub const STORY_STEP_MS: u64 = 2_000;

/// After how long those are told again who could not be told of a story, in ms: at first, and at the most.
pub const STORY_AGAIN_MS: (u64, u64) = (1_000, 60_000);

/// Rows that are removed at once of a story that has ended.
pub const STORY_ROWS_AT_ONCE: usize = 256;

/// Stories of a page, and of those who have seen one. More asked for are cut to this.
pub const STORIES_PAGE_MAX: usize = 64;

/// Bytes of records that are read for a page of stories; the last one may exceed it.
pub const STORIES_PAGE_BYTES_MAX: usize = 96 << 10;

// A page goes into a frame, with its links.
const _: () = assert!(
    STORIES_PAGE_BYTES_MAX
        + 2 * 10 * limits::STORY_NAMED_MAX
        + STORIES_PAGE_MAX * limits::STORY_MEDIA_MAX * 512
        <= limits::SERVER_FRAME_BYTES_MAX
);

/// Contacts of an account. Beyond: `TOO_MANY_PEOPLE`.
pub const CONTACTS_MAX: usize = 10_000;

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

/// Texts of accounts that went to strangers of late, in one core's memory. Beyond, those that went to the fewest are forgotten.
pub const TEXTS_MAX: usize = 1 << 16;

/// How long a text is held back that has gone to as many strangers as it may, at first, in milliseconds; and at the most.
pub const SAME_TEXT_WAIT_MS: (u64, u64) = (MINUTE_MS, HOUR_MS);

/// Reports of one user that are kept. Beyond, those that come are answered as if they were: operators have enough to decide on.
pub const REPORTS_OF_ONE_MAX: usize = 100;

/// Bytes of the body of a message that is reported; the rest is cut off.
pub const REPORTED_BODY_BYTES_MAX: usize = 4_000;

/// Reports that are read at once, for operators.
pub const REPORTS_PAGE_ROWS: usize = 256;

/// How often reports are gone through for those that are kept no longer, in milliseconds.
pub const REPORTS_ROUND_MS: u64 = HOUR_MS;

/// Days of which it is kept what was counted. What is older is added to day 0, but for who was here.
pub const DAYS_COUNTED: u32 = 400;

/// Parts of a day that are added up in one batch.
pub const COUNTS_ADDED_ROWS: usize = 512;

/// Counts that are read at once, for operators, and to find days that are to be added up or are kept no longer.
pub const COUNTS_PAGE_ROWS: usize = 1024;

/// How often such days are looked for, in milliseconds. The newest two are added up more often.
pub const COUNTS_ROUND_MS: u64 = HOUR_MS;

// A record of a report fits into every store's.
const _: () = assert!(
    limits::REPORTED_MAX * (REPORTED_BODY_BYTES_MAX + 64) + limits::COMMENT_BYTES_MAX + 1024 < 100_000
);

/// After how long a scheduled message of an account that is suspended is tried again, at the most, in milliseconds.
pub const SUSPENDED_AGAIN_MS: u32 = 60_000;

/// How long a core keeps what it has leased of a network from which nothing comes, in milliseconds. Then it gives it back.
pub const LEASE_IDLE_MS: u64 = 10_000;

/// How long what comes from a network waits for the word of its owner whether it may, in milliseconds. Beyond, it is taken up.
pub const LEASE_WAIT_MS: u64 = 1_000;

/// How often a core looks for such, in milliseconds.
pub const LEASE_SWEPT_EVERY_MS: u64 = 1_000;

/// Network addresses counted by one core; the counts start anew when there are more.
pub const ADDRESSES_MAX: usize = 100_000;

/// Bytes of the index a message, beyond which a run of a chat's has none, and its texts are read by whoever searches.
pub const INDEX_TEXT_BYTES_MAX: usize = 1024;

/// The same of the whole run.
pub const INDEX_RUN_BYTES_MAX: usize = 4 << 20;

/// Pages of the index that are written in one batch, or read at once to be cleaned.
pub const INDEX_PAGES_AT_ONCE: usize = 16;

/// Searches of a core under way. Beyond: `OVERLOADED`.
pub const SEARCHES_MAX: usize = 4096;

/// Entries that are looked at for one page of what is found in a log. Beyond, the page ends.
pub const SEARCH_ENTRIES_MAX: usize = 512;

/// Entries that the index names, and that are read at once.
pub const SEARCH_ENTRIES_AT_ONCE: usize = 32;

/// The same at first, where the first of them may say that all are too old.
pub const SEARCH_ENTRIES_AT_FIRST: usize = 2;

/// Runs that are looked up at once.
pub const SEARCH_RUNS_AT_ONCE: usize = 16;

/// Pages of short runs that are read at once, whatever they have. Of runs beyond them those are read that are needed.
pub const SEARCH_PAGES_AT_ONCE: usize = 48;

/// Pages of a run that are read for words that begin with something. Where there are more, the index does not know.
pub const SEARCH_PREFIX_PAGES_MAX: usize = 64;

/// Chats of a user that are listed at once to be searched in.
pub const SEARCH_LOGS_MAX: usize = 1024;

/// Chats of a connection that are searched at once.
pub const SEARCH_LOGS_AT_ONCE: usize = 16;

/// Messages of a page of what was found. More asked for are cut to this.
pub const SEARCH_HITS_MAX: usize = 64;

/// How far the newest time of a log may be ahead of the clock, which never falls by less. Beyond, the clock was wrong then, and
/// that time counts as now.
pub(crate) const AHEAD_MS_MAX: u64 = 60_000;
