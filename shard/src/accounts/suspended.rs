//! Accounts that operators have suspended: for a while, or until they are freed. Nothing of such an account is lost; but nobody is let in
//! who proves to be its person, its connections end, and what it had scheduled waits.
//!
//! It stands in the user's record, so it moves and restarts with the user. [`Suspended`] is what the path of a message looks at: those
//! who are in memory.

use std::collections::BTreeMap;

use tern_storage::records::UserRecord;
use tern_storage::{LogId, Slot, keys};
use tern_wire::errors::{Farewell, Reason, Refusal};
use tern_wire::ids::UserId;

use super::waits::{After, Then};
use super::{Accounts, Cx, slot_of};
use crate::admin::AdminResponse;
use crate::limits::SUSPENDED_AGAIN_MS;
use crate::message::{FrontOp, LogOp, Send};
use crate::mutations::{Mutation, is};

const DETAIL: &str = "the operators of this server have suspended the account";

/// The suspended users of a core that are in memory, and until when, in ms since the Unix epoch; 0: until they are freed.
#[derive(Debug, Default)]
pub(super) struct Suspended {
    until_ms: BTreeMap<UserId, u64>,
}

impl Suspended {
    /// Whether a user is, as far as this core knows: then what it asks for is refused so.
    pub(super) fn bars(&self, user: UserId, now_ms: u64) -> Result<(), Refusal> {
        // As a rule nobody is.
        let until_ms = self.until_ms.get(&user).copied();
        until_ms.map_or(Ok(()), |until_ms| refusal(until_ms, now_ms).map_or(Ok(()), Err))
    }

    /// A user has come into memory, or has another record.
    pub(super) fn note(&mut self, user: UserId, record: Option<&UserRecord>) {
        match record.filter(|record| record.suspended_ms > 0 && !record.suspended_over) {
            Some(record) => drop(self.until_ms.insert(user, record.suspended_until_ms)),
            None => drop(self.until_ms.remove(&user)),
        }
    }

    /// A slot is another core's.
    pub(super) fn let_go(&mut self, slot: Slot) {
        self.until_ms.retain(|user, _| slot_of(*user) != slot);
    }

    /// Forgets those of whom this is not true any more, and gives those whose time is over.
    fn retain(&mut self, is_so: impl Fn(UserId) -> bool, now_ms: u64) -> Vec<UserId> {
        self.until_ms.retain(|user, _| is_so(*user));
        let over = self.until_ms.iter().filter(|(_, until_ms)| refusal(**until_ms, now_ms).is_none());
        over.map(|(user, _)| *user).collect()
    }
}

fn refusal(until_ms: u64, now_ms: u64) -> Option<Refusal> {
    match until_ms {
        0 => Some(Refusal::new(Reason::Suspended, DETAIL)),
        until_ms if until_ms <= now_ms => None,
        until_ms => Some(Refusal::after(Reason::Suspended, until_ms - now_ms, DETAIL)),
    }
}

/// Whether an account is suspended now: then whoever asks for it is refused so.
pub(super) fn suspension(record: &UserRecord, now_ms: u64) -> Option<Refusal> {
    if record.suspended_ms == 0 || record.suspended_over || is(Mutation::LetSuspendedIn) {
        return None;
    }
    refusal(record.suspended_until_ms, now_ms)
}

impl Accounts {
    /// Whether somebody is suspended, of a user who is known.
    pub(super) fn suspension(&mut self, id: UserId, now_ms: u64) -> Option<Refusal> {
        self.record(id).and_then(|record| suspension(record, now_ms))
    }

    /// Suspends an account for an operator; `for_ms` 0: until it is freed. One that is suspended is from now on as was said last.
    pub(super) fn suspend(&mut self, cx: &mut Cx, question: u64, id: UserId, reason: String, for_ms: u64) {
        let now_ms = cx.now_ms;
        let Some(record) = self.record(id) else {
            return cx.answer(question, AdminResponse::Refused("there is no such account".to_owned()));
        };
        record.suspended_ms = now_ms.max(1);
        record.suspended_until_ms = if for_ms == 0 { 0 } else { now_ms.saturating_add(for_ms) };
        (record.suspended_why, record.suspended_over) = (reason, false);
        let until_ms = record.suspended_until_ms;
        cx.put(slot_of(id), keys::user(id.get()), record);
        self.note_suspension(id);
        self.after(cx, After::of_user(id, Then::Suspended));
        let answer = AdminResponse::Suspended { user: id, until_ms };
        self.after(cx, After::of_user(id, Then::Answer(question, answer)));
    }

    /// Frees an account for an operator.
    pub(super) fn free(&mut self, cx: &mut Cx, question: u64, id: UserId) {
        let was_suspended = self.suspension(id, cx.now_ms).is_some();
        self.suspended_no_longer(cx, id);
        self.after(cx, After::of_user(id, Then::Answer(question, AdminResponse::Freed(was_suspended))));
    }

    /// A suspension is over, if there is one: also by a clock that is set back later.
    fn suspended_no_longer(&mut self, cx: &mut Cx, id: UserId) {
        let now_ms = cx.now_ms;
        let is_noted = |record: &&mut UserRecord| record.suspended_ms > 0 && !record.suspended_over;
        let Some(record) = self.record(id).filter(is_noted) else { return };
        record.suspended_over = true;
        // It was for so long: what has ended meanwhile has not.
        if record.suspended_until_ms == 0 || record.suspended_until_ms > now_ms {
            record.suspended_until_ms = now_ms.max(1);
        }
        cx.put(slot_of(id), keys::user(id.get()), record);
        self.after(cx, After::of_user(id, Then::Noted));
        self.note_suspension(id);
    }

    /// What this core knows of who is suspended follows from a record that has come or changed.
    pub(super) fn note_suspension(&mut self, id: UserId) {
        let record = self.users.get(id).and_then(|user| user.record.as_ref());
        self.suspended.note(id, record);
    }

    /// That an account is suspended is durable: its connections end, and nobody is here by them.
    pub(super) fn suspension_holds(&mut self, cx: &mut Cx, id: UserId) {
        // It may have been freed since.
        let Some(Refusal { reason, retry_after_ms, detail }) = self.suspension(id, cx.now_ms) else { return };
        let farewell = Farewell { reason, reconnect_after_ms: retry_after_ms, detail };
        for (_, device) in self.user(id).devices.iter_mut() {
            device.tell(cx, FrontOp::End(farewell));
            device.detach();
        }
        self.look_who_is_here(cx, id);
    }

    /// What a user has scheduled is to be sent, by way of here: while the account is suspended it waits.
    pub(super) fn dispatch(&mut self, cx: &mut Cx, id: UserId, log: LogId, send: Box<Send>) {
        match self.suspension(id, cx.now_ms) {
            Some(Refusal { reason, retry_after_ms, detail }) => {
                // It may be freed at any time.
                let wait_ms = match retry_after_ms {
                    0 => SUSPENDED_AGAIN_MS,
                    until_ms => until_ms.min(SUSPENDED_AGAIN_MS),
                };
                cx.refuse(send.asker, Refusal::for_now(reason, wait_ms, detail));
            }
            None => cx.tell_log(log, LogOp::Send(send)),
        }
    }

    /// Forgets those who have left the memory, and writes of whom the time is over that it is.
    pub(super) fn end_suspensions(&mut self, cx: &mut Cx) {
        let users = &self.users;
        for user in self.suspended.retain(|user| users.contains(user), cx.now_ms) {
            if cx.may_write(0) {
                self.suspended_no_longer(cx, user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspension_ends_by_itself_or_when_it_is_said() {
        let mut record = UserRecord::default();
        assert_eq!(suspension(&record, 5_000), None);
        record.suspended_ms = 1_000;
        assert_eq!(suspension(&record, 5_000).map(|refusal| refusal.retry_after_ms), Some(0));
        record.suspended_until_ms = 6_000;
        let refusal = suspension(&record, 5_000).expect("it is");
        assert_eq!((refusal.reason, refusal.retry_after_ms), (Reason::Suspended, 1_000));
        assert_eq!(suspension(&record, 6_000), None);
        record.suspended_over = true;
        assert_eq!(suspension(&record, 1_000), None, "by whatever clock");
        record.suspended_over = false;
        record.suspended_until_ms = u64::MAX;
        assert_eq!(suspension(&record, 5_000).map(|refusal| refusal.retry_after_ms), Some(u32::MAX));
        let user = UserId::new(7).expect("a user");
        let mut suspended = Suspended::default();
        suspended.note(user, Some(&record));
        assert!(suspended.bars(user, 5_000).is_err());
        suspended.note(user, None);
        assert!(suspended.bars(user, 5_000).is_ok());
    }
}
