//! Accounts that are out of use: operators have suspended them, for a while or until they are freed; or their person has said that they
//! are to end, and they have not yet. Nothing of such an account is lost; but nobody is let in who proves to be its person, its
//! connections end, and what it had scheduled waits.
//!
//! It stands in the user's record, so it moves and restarts with the user. [`Barred`] is what the path of a message looks at: those
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

const SUSPENDED: &str = "the operators of this server have suspended the account";
const ENDS: &str = "the account is about to end: whoever proves its phone keeps it";

/// The users of a core that are in memory and out of use.
#[derive(Debug, Default)]
pub(super) struct Barred {
    users: BTreeMap<UserId, Bar>,
}

/// Why an account is out of use, and until when, in ms since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bar {
    /// Operators have suspended it; 0: until they free it.
    Suspended(u64),
    /// It is about to end.
    Ends(u64),
}

impl Bar {
    fn of(record: &UserRecord) -> Option<Self> {
        let is_suspended = record.suspended_ms > 0 && !record.suspended_over && !is(Mutation::LetSuspendedIn);
        if is_suspended {
            return Some(Self::Suspended(record.suspended_until_ms));
        }
        (record.ends_ms > 0 && !is(Mutation::LetEndingIn)).then_some(Self::Ends(record.ends_ms))
    }

    fn refusal(self, now_ms: u64) -> Option<Refusal> {
        match self {
            Self::Suspended(0) => Some(Refusal::new(Reason::Suspended, SUSPENDED)),
            Self::Suspended(until_ms) if until_ms <= now_ms => None,
            Self::Suspended(until_ms) => {
                Some(Refusal::after(Reason::Suspended, until_ms - now_ms, SUSPENDED))
            }
            // When that is due, it ends as soon as somebody comes by.
            Self::Ends(at_ms) => {
                let wait_ms = at_ms.saturating_sub(now_ms).max(1);
                Some(Refusal::after(Reason::AccountEnds, wait_ms, ENDS))
            }
        }
    }
}

impl Barred {
    /// Whether a user is, as far as this core knows: then what it asks for is refused so.
    pub(super) fn bars(&self, user: UserId, now_ms: u64) -> Result<(), Refusal> {
        // As a rule nobody is.
        let bar = self.users.get(&user).copied();
        bar.and_then(|bar| bar.refusal(now_ms)).map_or(Ok(()), Err)
    }

    /// A user has come into memory, or has another record.
    pub(super) fn note(&mut self, user: UserId, record: Option<&UserRecord>) {
        match record.and_then(Bar::of) {
            Some(bar) => drop(self.users.insert(user, bar)),
            None => drop(self.users.remove(&user)),
        }
    }

    /// A slot is another core's.
    pub(super) fn let_go(&mut self, slot: Slot) {
        self.users.retain(|user, _| slot_of(*user) != slot);
    }

    /// Forgets those of whom this is not true any more, and gives those whose suspension is over.
    fn retain(&mut self, is_so: impl Fn(UserId) -> bool, now_ms: u64) -> Vec<UserId> {
        self.users.retain(|user, _| is_so(*user));
        let over = self.users.iter().filter(|(_, bar)| bar.refusal(now_ms).is_none());
        over.map(|(user, _)| *user).collect()
    }
}

/// The refusal of a message: it is tried again after a while, for the account may be in use again at any time.
pub(super) fn for_a_message(Refusal { reason, retry_after_ms, detail }: Refusal) -> Refusal {
    let wait_ms = if retry_after_ms == 0 { u32::MAX } else { retry_after_ms };
    Refusal::for_now(reason, wait_ms.min(SUSPENDED_AGAIN_MS), detail)
}

/// Whether an account is suspended now: then whoever asks for it is refused so.
pub(super) fn suspension(record: &UserRecord, now_ms: u64) -> Option<Refusal> {
    let is_suspension = |bar: &Bar| matches!(bar, Bar::Suspended(_));
    Bar::of(record).filter(is_suspension).and_then(|bar| bar.refusal(now_ms))
}

/// Whether an account is out of use now, for whatever reason.
pub(super) fn bar(record: &UserRecord, now_ms: u64) -> Option<Refusal> {
    Bar::of(record).and_then(|bar| bar.refusal(now_ms))
}

impl Accounts {
    /// Whether a user who is known is suspended.
    pub(super) fn suspension(&mut self, id: UserId, now_ms: u64) -> Option<Refusal> {
        self.record(id).and_then(|record| suspension(record, now_ms))
    }

    /// Whether a user who is known is out of use.
    pub(super) fn bar(&mut self, id: UserId, now_ms: u64) -> Option<Refusal> {
        self.record(id).and_then(|record| bar(record, now_ms))
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
        self.note_bar(id);
        self.after(cx, After::of_user(id, Then::Barred));
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
        self.note_bar(id);
    }

    /// What this core knows of who is out of use follows from a record that has come or changed.
    pub(super) fn note_bar(&mut self, id: UserId) {
        let record = self.users.get(id).and_then(|user| user.record.as_ref());
        self.barred.note(id, record);
    }

    /// That an account is out of use is durable: its connections end, and nobody is here by them.
    pub(super) fn bar_holds(&mut self, cx: &mut Cx, id: UserId) {
        // It may be in use again.
        let Some(Refusal { reason, retry_after_ms, detail }) = self.bar(id, cx.now_ms) else { return };
        let farewell = Farewell { reason, reconnect_after_ms: retry_after_ms, detail };
        for (_, device) in self.user(id).devices.iter_mut() {
            device.tell(cx, FrontOp::End(farewell));
            device.detach();
        }
        if reason == Reason::AccountEnds {
            // It may be due.
            self.erasing.look_soon();
        }
        self.look_who_is_here(cx, id);
    }

    /// What a user has scheduled is to be sent, by way of here: while the account is out of use it waits.
    pub(super) fn dispatch(&mut self, cx: &mut Cx, id: UserId, log: LogId, send: Box<Send>) {
        if self.record(id).is_none() {
            // The account has ended, and its private log goes.
            return;
        }
        match self.bar(id, cx.now_ms) {
            Some(refusal) => cx.refuse(send.asker, for_a_message(refusal)),
            None => cx.tell_log(log, LogOp::Send(send)),
        }
    }

    /// Forgets those who have left the memory, and writes of whom the time is over that it is.
    pub(super) fn end_suspensions(&mut self, cx: &mut Cx) {
        let users = &self.users;
        for id in self.barred.retain(|user| users.contains(user), cx.now_ms) {
            // What is in doubt is not written.
            let is_known = self.users.get(id).is_some_and(|user| user.held.is_known());
            if is_known && cx.is_here(slot_of(id)) && cx.may_write(0) {
                self.suspended_no_longer(cx, id);
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
        let mut barred = Barred::default();
        barred.note(user, Some(&record));
        assert!(barred.bars(user, 5_000).is_err());
        barred.note(user, None);
        assert!(barred.bars(user, 5_000).is_ok());
    }
}
