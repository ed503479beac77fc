//! An account's PIN: whoever has proven its phone is let in with it, or when none of its devices has been in use for so long that it
//! begins anew.

use tern_storage::keys;
use tern_storage::records::UserRecord;
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::UserId;
use tern_wire::request::Pin;

use super::adding::{AddDevice, Asker};
use super::waits::{After, Then};
use super::{Accounts, Cx, slot_of};
use crate::limits::{DAY_MS, PIN_TRIES_PER_DAY_MAX};
use crate::mutations::{Mutation, is};
use crate::reply::{Origin, Reply};
use crate::tokens::Keys;

/// What an account's PIN says to a proven phone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entrance {
    /// The account has none.
    Open,
    /// It was given: this is whose account it is.
    Known,
    /// It was not, and is not needed any more: the account begins anew.
    Silent,
    /// It is another one: that is to be written.
    Wrong,
    /// It is needed, or may not be tried now.
    Refused(Refusal),
}

const WRONG: Refusal = Refusal::new(Reason::PinWrong, "that is not the account's PIN");

/// Whether a PIN may be tried now; if not, after how many ms. A try of a time ahead of the clock counts as of now.
fn may_try(record: &UserRecord, now_ms: u64) -> Result<(), u64> {
    let since_ms = now_ms.saturating_sub(record.pin_tried_ms);
    let is_full = record.pin_tries >= PIN_TRIES_PER_DAY_MAX;
    if is_full && since_ms < DAY_MS { Err(DAY_MS - since_ms) } else { Ok(()) }
}

/// A wrong one was tried.
fn note_wrong(record: &mut UserRecord, now_ms: u64) {
    if now_ms.saturating_sub(record.pin_tried_ms) >= DAY_MS {
        (record.pin_tries, record.pin_tried_ms) = (0, now_ms);
    }
    record.pin_tries += 1;
}

/// What an account's PIN says to one that was given.
fn try_pin(keys: &Keys, id: UserId, record: &UserRecord, pin: &str, now_ms: u64) -> Entrance {
    if let Err(wait_ms) = may_try(record, now_ms) {
        let detail = "the PIN was tried too often";
        return Entrance::Refused(Refusal::after(Reason::RateLimited, wait_ms, detail));
    }
    if keys.is_pin(id, pin, &record.pin_mac) { Entrance::Known } else { Entrance::Wrong }
}

impl Accounts {
    /// What the PIN says to whoever has proven the phone.
    pub(super) fn entrance(&mut self, cx: &Cx, id: UserId, add: &AddDevice) -> Entrance {
        let silence_days = cx.limits().pin_silence_days;
        let silent_for = self.silent_days(cx, id);
        let is_silent = silence_days > 0 && silent_for.is_some_and(|days| days >= silence_days);
        let keys = self.keys.clone();
        let Some(record) = self.record(id).filter(|record| !record.pin_mac.is_empty()) else {
            return Entrance::Open;
        };
        let Some(pin) = add.pin.get() else {
            if is(Mutation::IgnorePin) {
                return Entrance::Open;
            }
            let days_left = silence_days.saturating_sub(silent_for.unwrap_or(0)).max(1);
            let left_ms = u64::from(days_left) * DAY_MS;
            return match silence_days {
                _ if is_silent => Entrance::Silent,
                0 => Entrance::Refused(Refusal::new(Reason::PinNeeded, "the account has a PIN")),
                _ => Entrance::Refused(Refusal::after(Reason::PinNeeded, left_ms, "the account has a PIN")),
            };
        };
        try_pin(&keys, id, record, pin, cx.now_ms)
    }

    /// What the PIN says to a device of the account.
    pub(super) fn pin_of_device(&mut self, id: UserId, pin: &Pin, now_ms: u64) -> Entrance {
        let keys = self.keys.clone();
        let Some(record) = self.record(id).filter(|record| !record.pin_mac.is_empty()) else {
            return Entrance::Open;
        };
        let needed = Entrance::Refused(Refusal::new(Reason::PinNeeded, "the account has a PIN"));
        pin.get().map_or(needed, |pin| try_pin(&keys, id, record, pin, now_ms))
    }

    /// A wrong PIN is counted before that is told.
    pub(super) fn pin_was_wrong(&mut self, cx: &mut Cx, id: UserId, add: &AddDevice) {
        self.phones.proof_ended(&add.phone);
        if let Asker::Client(origin) = add.by {
            self.wrong_pin(cx, id, origin);
        }
    }

    /// A wrong PIN is counted before whoever gave it is told.
    pub(super) fn wrong_pin(&mut self, cx: &mut Cx, id: UserId, origin: Origin) {
        let now_ms = cx.now_ms;
        if let Some(record) = self.record(id) {
            note_wrong(record, now_ms);
        }
        self.write_user(cx, id);
        self.after(cx, After::of_user(id, Then::Reply(origin, Reply::Refused(WRONG))));
    }

    /// Sets a user's PIN, or another one, or none.
    pub(super) fn set_pin(&mut self, cx: &mut Cx, origin: Origin, id: UserId, pin: &Pin) {
        if let Err(refusal) = self.budgets.rename(id, cx.now_ms) {
            return cx.refuse(origin, refusal);
        }
        let mac = pin.get().map(|pin| self.keys.pin_mac(id, pin)).unwrap_or_default();
        if let Some(record) = self.record(id) {
            (record.pin_mac, record.pin_tries, record.pin_tried_ms) = (mac, 0, 0);
        }
        self.write_user(cx, id);
        self.after(cx, After::of_user(id, Then::Reply(origin, Reply::PinSet)));
    }

    pub(super) fn write_user(&mut self, cx: &mut Cx, id: UserId) {
        if let Some(record) = self.record(id) {
            cx.put(slot_of(id), keys::user(id.get()), record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_tried_a_few_times_a_day_and_no_clock_that_is_set_gives_more() {
        let mut record = UserRecord::default();
        let begin_ms = 100 * DAY_MS;
        for tried in 0..u64::from(PIN_TRIES_PER_DAY_MAX) {
            assert_eq!(may_try(&record, begin_ms + tried), Ok(()));
            note_wrong(&mut record, begin_ms + tried);
        }
        assert_eq!(may_try(&record, begin_ms + 10), Err(DAY_MS - 10));
        assert_eq!(may_try(&record, begin_ms - DAY_MS), Err(DAY_MS), "the clock was set back");
        assert_eq!(may_try(&record, begin_ms + DAY_MS), Ok(()));
        note_wrong(&mut record, begin_ms + DAY_MS);
        assert_eq!((record.pin_tries, record.pin_tried_ms), (1, begin_ms + DAY_MS));
    }
}
