//! How much waits for a user who is away. Kept by the user's owner, out of what the logs have **reserved**.
//!
//! A log knows from its entries and watermarks how many bytes wait in it for each member. A little is free; beyond, the log
//! reserves room with the member's owner before it appends, in large steps, and writes what it has reserved into the
//! member's `g` row, in the batch of the entry. It gives the room back in the batch of the acknowledgement that empties it. So the
//! sum follows from the store alone: it is read when it is first asked for, and kept up by asks and releases.

use std::collections::BTreeMap;

use prost::Message as _;
use tern_storage::records::MembershipRecord;
use tern_storage::{Direction, LogId, Row, ScanLimit, keys};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::UserId;

use super::{Accounts, Cx, ScanFor};
use crate::by_slot::BySlot;
use crate::held::{Admitted, Held};
use crate::limits::{USER_WAITING_MAX, WAITING_RETRY_MS, WAITING_USERS_MAX};
use crate::maps::Hashing;
use crate::message::{LogOp, Reserve};

/// The users for whom much waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) users: BySlot<UserId, Reserved>,
}

impl Waiting {
    /// Nothing is known to wait.
    pub(super) fn new(hashing: Hashing) -> Self {
        Self { users: BySlot::new(hashing) }
    }
}

/// What the logs of a user have reserved.
#[derive(Debug)]
pub(super) struct Reserved {
    logs: BTreeMap<LogId, u64>,
    sum: u64,
    /// Where it stands, and what waits for it to be known.
    pub(super) held: Held<Reserve>,
    /// Given back while it was being read: what the store says of them is over.
    released: Vec<LogId>,
}

const FULL: Refusal =
    Refusal::for_now(Reason::InboxFull, WAITING_RETRY_MS, "as much waits for that person as may");
const UNREADABLE: Refusal =
    Refusal::for_now(Reason::Unavailable, 1000, "what waits for that person can't be read");

impl Reserved {
    /// Reserves room for a log, in place of what it had.
    fn reserve(&mut self, ask: Reserve, max: u64) -> Result<u64, Refusal> {
        let others = self.sum - self.logs.get(&ask.log).copied().unwrap_or(0);
        let room = max.saturating_sub(others);
        if ask.least > room {
            return Err(FULL);
        }
        let granted = ask.wanted.min(room);
        self.set(ask.log, granted);
        Ok(granted)
    }

    fn set(&mut self, log: LogId, bytes: u64) {
        let before =
            if bytes == 0 { self.logs.remove(&log) } else { self.logs.insert(log, bytes) }.unwrap_or(0);
        self.sum = self.sum - before + bytes;
    }
}

impl Accounts {
    /// A log wants to append more than is free for a user who may be away.
    pub(super) fn reserve(&mut self, cx: &mut Cx, user: UserId, ask: Reserve) {
        let Some(reserved) = self.waiting.users.get_mut(&user) else {
            return self.load_reserved(cx, user, ask);
        };
        let answer = match reserved.held.admit(ask, USER_WAITING_MAX) {
            Admitted::Now(ask) => reserved.reserve(ask, cx.limits().waiting_bytes_max),
            Admitted::Waits => return,
            Admitted::Full(_) => Err(cx.overloaded()),
        };
        cx.tell_log(ask.log, LogOp::Permit(ask.number, answer.map(Some)));
    }

    fn load_reserved(&mut self, cx: &mut Cx, user: UserId, ask: Reserve) {
        if self.waiting.users.len() >= WAITING_USERS_MAX {
            // They are read again when they are asked for.
            self.waiting.users.retain(|_, reserved| !reserved.held.is_still());
        }
        if self.waiting.users.len() >= WAITING_USERS_MAX {
            let refusal = cx.overloaded();
            return cx.tell_log(ask.log, LogOp::Permit(ask.number, Err(refusal)));
        }
        let mut held = Held::loading(self.loads.next(), 1);
        held.admit(ask, USER_WAITING_MAX);
        let reserved = Reserved { logs: BTreeMap::new(), sum: 0, held, released: Vec::new() };
        self.waiting.users.insert(user, reserved);
        read_reserved(cx, user, None);
    }

    /// A log has given back what it had reserved.
    pub(super) fn released(&mut self, user: UserId, log: LogId) {
        // If the sum is not in memory, the store says so.
        let Some(reserved) = self.waiting.users.get_mut(&user) else { return };
        reserved.set(log, 0);
        if reserved.held.is_loading() {
            reserved.released.push(log);
        } else if reserved.sum == 0 {
            self.waiting.users.remove(&user);
        }
    }

    /// A step of what the logs of a user have reserved has been read.
    pub(super) fn reserved_read(&mut self, cx: &mut Cx, user: UserId, rows: Vec<Row>, more: bool) {
        let reserved = self.waiting.users.get_mut(&user).expect(READ);
        let mut last = None;
        for (key, value) in rows {
            let (log, record) = (keys::log_of(&key), MembershipRecord::decode(value));
            let (Some(log), Ok(record)) = (log, record) else {
                cx.damaged("a membership", &keys::user(user.get()));
                return self.reserved_unreadable(cx, user);
            };
            last = Some(log);
            if !reserved.released.contains(&log) {
                reserved.set(log, record.reserved_bytes);
            }
        }
        if more && last.is_some() {
            return read_reserved(cx, user, last);
        }
        reserved.released = Vec::new();
        reserved.held.part_came(Ok(())).expect("it has one part").expect("it was read");
        for ask in reserved.held.now_known() {
            self.reserve(cx, user, ask);
        }
    }

    /// Nobody knows how much waits: whoever asked is refused for now.
    pub(super) fn reserved_unreadable(&mut self, cx: &mut Cx, user: UserId) {
        for ask in self.waiting.users.remove(&user).expect(READ).held.give_up() {
            cx.tell_log(ask.log, LogOp::Permit(ask.number, Err(UNREADABLE)));
        }
    }
}

const READ: &str = "what is being read is not forgotten";

fn read_reserved(cx: &mut Cx, user: UserId, after: Option<LogId>) {
    let limit = ScanLimit { rows: cx.limits().inbox_step_rows, bytes: usize::MAX };
    let range = keys::memberships(user.get(), after);
    cx.scan(range, Direction::Forwards, limit, ScanFor::Reserved(user));
}
