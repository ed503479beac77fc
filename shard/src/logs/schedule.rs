//! Messages that are to be sent when their time has come: entries of a private log, of which its owner sends what they say to the log that
//! it is for. What became of it is an entry of the private log, too, which replaces the first.

use std::collections::BTreeMap;

use prost::Message as _;
use tern_proto::v1::{self, private::What};
use tern_storage::{LogId, Slot};
use tern_wire::ids::{ClientMessageId, Seq};
use tern_wire::message::{self, Envelope};
use tern_wire::private::Private;

use super::{Cx, Logs};
use crate::entry::{Author, Entry, KIND_PRIVATE, log_of};
use crate::limits::{DISPATCH_AGAIN_MS, DISPATCHING_MAX, DUE_AGAIN_MS};
use crate::message::{Dispatched, Send, UserOp};
use crate::mutations::{Mutation, is};
use crate::reply::{Asker, Scheduled};

/// What is on its way to other logs, and since when: until it is answered, or has been lost with another log's owner, it is not sent again.
#[derive(Default, Debug)]
pub(super) struct Dispatching {
    under_way: BTreeMap<(LogId, Seq), u64>,
    put_off: BTreeMap<(LogId, Seq), PutOff>,
}

/// What was refused for now. Its row says since when it is due, and stays: what is to be done after a while, by a clock that may be set back
/// then, is nothing for the store.
#[derive(Clone, Copy, Debug)]
struct PutOff {
    since_ms: u64,
    by_ms: u64,
}

impl Dispatching {
    /// Whether something may be sent now: it is then.
    fn begin(&mut self, place: (LogId, Seq), now_ms: u64) -> bool {
        let may = match self.under_way.get(&place) {
            Some(since_ms) => now_ms.abs_diff(*since_ms) >= DISPATCH_AGAIN_MS,
            None => self.under_way.len() < DISPATCHING_MAX && self.waits_ms(place, now_ms).is_none(),
        };
        if may {
            self.put_off.remove(&place);
            self.under_way.insert(place, now_ms);
        }
        may
    }

    /// It is not sent for a while, or until somebody else owns its log. If too many wait already, it is tried when the agenda comes by.
    fn put_off(&mut self, place: (LogId, Seq), now_ms: u64, by_ms: u64) {
        if self.put_off.len() < DISPATCHING_MAX {
            self.put_off.insert(place, PutOff { since_ms: now_ms, by_ms });
        }
    }

    /// For how long something is not sent yet, if it was put off.
    pub(super) fn waits_ms(&self, place: (LogId, Seq), now_ms: u64) -> Option<u64> {
        let PutOff { since_ms, by_ms } = *self.put_off.get(&place)?;
        let waited_ms = match now_ms.checked_sub(since_ms) {
            Some(waited_ms) => waited_ms,
            None if is(Mutation::PutOffByClock) => return Some(since_ms + by_ms - now_ms),
            // A clock that was set back is not waited for.
            None => return None,
        };
        by_ms.checked_sub(waited_ms).filter(|left_ms| *left_ms > 0)
    }

    /// It is answered, or nobody waits for that. Gives whether anybody did.
    pub(super) fn end(&mut self, place: (LogId, Seq)) -> bool {
        self.put_off.remove(&place);
        self.under_way.remove(&place).is_some()
    }

    /// A slot is another core's.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.under_way.retain(|(log, _), _| Slot::of_log(*log) != slot);
        self.put_off.retain(|(log, _), _| Slot::of_log(*log) != slot);
    }
}

/// When an entry says that something is to be sent, and what.
pub(super) fn scheduled(entry: &Entry) -> Option<(u64, message::Send)> {
    if entry.is_erased() { None } else { scheduled_in(entry.log, &entry.body) }
}

/// The same of what is said in a log.
pub(super) fn scheduled_in(log: LogId, body: &[u8]) -> Option<(u64, message::Send)> {
    match matches!(log, LogId::Private(_)).then(|| Private::parse(body)) {
        Some(Ok(Private::Scheduled(at_ms, send))) => Some((at_ms, *send)),
        _ => None,
    }
}

impl Logs {
    /// The time of a message has come that an entry of a private log says is to be sent.
    pub(super) fn dispatch(&mut self, cx: &mut Cx, entry: &Entry, send: message::Send) {
        let message::Send { chat, kind, body, envelope, .. } = send;
        let (user, seq) = (entry.author.user, entry.seq);
        if !self.dispatching.begin((entry.log, seq), cx.now_ms) {
            return;
        }
        let by = Author::server_for(user);
        // Whatever is lost on the way: under this number it is appended once.
        let number = ClientMessageId(seq.0);
        let asker = Asker::Schedule(Scheduled { user, seq, chat: chat.get() });
        let to = log_of(user, chat);
        let epoch = cx.epoch(Slot::of_log(to));
        let send = Send { envelope, epoch, ..Send::new(asker, by, number, kind, body) };
        // The user's owner knows whether the account is suspended.
        cx.tell_user(user, UserOp::Dispatch(to, Box::new(send)));
    }

    /// A message that was scheduled is sent, or was refused: for now, then it is tried again; or for good.
    pub(super) fn dispatched(&mut self, cx: &mut Cx, Dispatched { of, sent }: Dispatched) {
        let (log, Scheduled { user, seq, chat }) = (of.log(), of);
        let is_waited_for = self.dispatching.end((log, seq));
        if !self.known(log).lives(user) {
            // Nobody is told any more.
            return;
        }
        let outcome = match sent {
            Ok((seq, time_ms)) => v1::Dispatched { chat, seq: seq.0, time_ms, reason: 0 },
            // Another try was answered before this one.
            Err(refusal) if refusal.retry_after_ms > 0 && !is_waited_for => return,
            Err(refusal) if refusal.retry_after_ms > 0 => {
                // The agenda comes by soon, for it is due, and hears how long it waits.
                let by_ms = u64::from(refusal.retry_after_ms).max(DUE_AGAIN_MS);
                return self.dispatching.put_off((log, seq), cx.now_ms, by_ms);
            }
            Err(refusal) => v1::Dispatched { chat, reason: refusal.reason.into(), ..Default::default() },
        };
        let body = v1::Private { what: Some(What::Dispatched(outcome)) }.encode_to_vec().into();
        let envelope = Envelope { about: seq, ..Envelope::default() }.if_any();
        let (by, number) = (Author::server_for(user), ClientMessageId(seq.0));
        let send = Send { envelope, ..Send::new(Asker::Nobody, by, number, KIND_PRIVATE, body) };
        self.append(cx, log, Box::new(send));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_its_way_is_not_sent_again_before_it_may_be_lost() {
        let (mut under_way, place) = (Dispatching::default(), (LogId::Private(7), Seq(3)));
        assert!(under_way.begin(place, 1_000));
        assert!(!under_way.begin(place, 1_000 + DISPATCH_AGAIN_MS - 1));
        assert!(under_way.begin((LogId::Private(7), Seq(4)), 1_001));
        assert!(under_way.begin(place, 1_000 + DISPATCH_AGAIN_MS));
        under_way.forget(Slot::of_log(LogId::Private(7)));
        assert!(under_way.begin(place, 1_001), "another owner begins anew");
        for number in 8.. {
            if !under_way.begin((LogId::Private(number), Seq(1)), 1_000) {
                break;
            }
        }
        assert_eq!(under_way.under_way.len(), DISPATCHING_MAX);
    }

    #[test]
    fn what_was_put_off_does_not_wait_for_a_clock_that_was_set_back() {
        let (mut dispatching, place) = (Dispatching::default(), (LogId::Private(7), Seq(3)));
        assert!(dispatching.begin(place, 1_000_000));
        dispatching.end(place);
        dispatching.put_off(place, 1_000_000, 60_000);
        assert_eq!(dispatching.waits_ms(place, 1_000_100), Some(59_900));
        assert!(!dispatching.begin(place, 1_059_999));
        assert_eq!(dispatching.waits_ms(place, 1_060_000), None);
        assert_eq!(dispatching.waits_ms(place, 900_000), None, "the clock was set back");
        assert!(dispatching.begin(place, 900_000));
        assert!(!dispatching.begin(place, 900_001), "it is under way");
        dispatching.put_off(place, 900_001, 60_000);
        dispatching.forget(Slot::of_log(LogId::Private(7)));
        assert!(dispatching.begin(place, 900_002), "another owner begins anew");
    }
}
