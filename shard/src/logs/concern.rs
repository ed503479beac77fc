//! What an entry is about: an edit, a deletion, a reaction, a vote, a pin concerns a message, and is decided on with that before it. What
//! is not in memory of it is read, while the entry is at the head of the log's queue.

use bytes::Bytes;
use tern_proto::v1::Kind;
use tern_storage::{LogId, keys};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::group::{Change, Role};
use tern_wire::ids::Seq;
use tern_wire::message::{Deed, is_message};

use super::append::{Follows, Tried};
use super::log::Log;
use super::media::media_of;
use super::{Cx, GetFor, Logs};
use crate::entry::Entry;
use crate::held::Load;
use crate::limits::EDITS_MAX;
use crate::message::{Send, Unreadable};
use crate::mutations::{Mutation, is};

const NO_SUCH_MESSAGE: Refusal =
    Refusal::new(Reason::NoSuchMessage, "there is no such message in the chat for this to be about");
const DELETED: Refusal = Refusal::new(Reason::MessageDeleted, "that message is deleted");
const NOT_YOURS: Refusal = Refusal::new(Reason::NotAllowed, "that message is not yours");
const NO_TEXT: Refusal = Refusal::new(Reason::NotAllowed, "nothing but a text or a caption is edited");
const TOO_LATE: Refusal = Refusal::new(Reason::TooLate, "that message is too old for this");
const TOO_MANY_EDITS: Refusal = Refusal::new(Reason::TooManyEdits, "that message was edited too often");

/// What becomes of a message that is about another.
enum Verdict {
    /// It is appended, with what follows.
    Allowed(Follows),
    Refused(Refusal),
    /// The entry at this place must be known first.
    Unknown(Seq),
}

/// How long after a message what may be done to it.
#[derive(Clone, Copy)]
struct Windows {
    edit_ms: u64,
    deletion_ms: u64,
}

impl Log {
    /// Decides on a message with what it is about.
    fn consider(&self, send: &Send, now_ms: u64, windows: Windows) -> Verdict {
        let about = send.envelope.as_ref().map_or(Seq(0), |envelope| envelope.about);
        if about == Seq(0) {
            return Verdict::Allowed(Follows::default());
        }
        let first = self.seen_member(send.author.user).map_or(Seq(1), |member| member.first());
        let first = self.first_of(first);
        if about < first || about > self.head {
            return Verdict::Refused(NO_SUCH_MESSAGE);
        }
        // What a reply is to is shown by those who have it.
        let Some(deed) = Deed::of(send.kind) else { return Verdict::Allowed(Follows::default()) };
        let known = |seq| {
            let read = || send.read.iter().find(|entry| entry.seq == seq);
            self.newest_of(seq).map(|entry| &**entry).or_else(read)
        };
        let Some(message) = known(about) else { return Verdict::Unknown(about) };
        if deed == Deed::Replace && message.is_erased() {
            // Another device has replaced it, and hears of this one.
            return Verdict::Allowed(Follows::default());
        }
        if let Err(refusal) = self.may_do(deed, send, message, now_ms, windows) {
            return Verdict::Refused(refusal);
        }
        let media = |message: &Entry| (message.seq, media_of(message));
        let mut uncited = Vec::new();
        let rewritten = match deed {
            Deed::Remark | Deed::Vote => Vec::new(),
            Deed::Replace => {
                uncited.push(media(message));
                vec![message.erased()]
            }
            Deed::Edit => vec![message.edited(self.head.next())],
            Deed::Delete if is(Mutation::KeepEdits) => vec![message.erased()],
            Deed::Delete => {
                uncited.push(media(message));
                let mut erased = vec![message.erased()];
                for edit in message.edits() {
                    match known(*edit) {
                        Some(edit) => erased.push(edit.erased()),
                        None => return Verdict::Unknown(*edit),
                    }
                }
                erased
            }
        };
        // What has a body of its own ends with the message.
        let ends_ms = if send.body.is_empty() { 0 } else { message.expires_ms() };
        Verdict::Allowed(Follows { rewritten, uncited, ends_ms, ..Follows::default() })
    }

    fn may_do(
        &self,
        deed: Deed,
        send: &Send,
        message: &Entry,
        now_ms: u64,
        windows: Windows,
    ) -> Result<(), Refusal> {
        if (!is_message(message.kind) && deed != Deed::Replace) || message.is_withheld_from(send.author.user)
        {
            return Err(NO_SUCH_MESSAGE);
        }
        let now_ms = self.next_time_ms(now_ms);
        if message.is_gone(now_ms) {
            return Err(DELETED);
        }
        let kind = Kind::try_from(message.kind);
        let is_own = message.author.user == send.author.user;
        let age_ms = now_ms.saturating_sub(message.time_ms);
        match deed {
            // In a private log there is nothing else.
            Deed::Remark | Deed::Replace => Ok(()),
            Deed::Vote if kind == Ok(Kind::Poll) => Ok(()),
            Deed::Vote => Err(NO_SUCH_MESSAGE),
            Deed::Edit if !is_own && !is(Mutation::EditByAnybody) => Err(NOT_YOURS),
            Deed::Edit if !matches!(kind, Ok(Kind::Text | Kind::Media)) => Err(NO_TEXT),
            Deed::Edit if age_ms > windows.edit_ms => Err(TOO_LATE),
            Deed::Edit if message.edits().len() >= EDITS_MAX => Err(TOO_MANY_EDITS),
            Deed::Edit => Ok(()),
            Deed::Delete if !is_own && !self.is_admin(send) => Err(NOT_YOURS),
            Deed::Delete if age_ms > windows.deletion_ms => Err(TOO_LATE),
            Deed::Delete => Ok(()),
        }
    }

    fn is_admin(&self, send: &Send) -> bool {
        let part = self.seen_member(send.author.user).and_then(|member| member.part.as_deref());
        part.is_some_and(|part| part.role >= Role::Admin)
    }
}

impl Logs {
    /// Gives a message back that nothing outside of its log is in the way of. Any other one is refused, or waits at the head of the queue.
    pub(super) fn may_go(&mut self, cx: &mut Cx, id: LogId, send: Box<Send>) -> Result<Box<Send>, Tried> {
        let send = self.looked_at(cx, id, send)?;
        self.with_media(cx, id, send)
    }

    /// Appends a message that is no retry and may be said, if what it is about allows it.
    pub(super) fn append_considered(
        &mut self,
        cx: &mut Cx,
        id: LogId,
        send: Box<Send>,
        change: Option<Box<Change>>,
    ) -> Tried {
        if send.envelope.is_none() {
            // As most messages are: about nothing.
            let send = match self.may_go(cx, id, send) {
                Ok(send) => send,
                Err(tried) => return tried,
            };
            self.append_new(cx, id, *send, Follows { change, ..Follows::default() });
            return Tried::Settled;
        }
        let limits = cx.limits();
        let windows = Windows { edit_ms: limits.edit_window_ms, deletion_ms: limits.deletion_window_ms };
        let now_ms = cx.now_ms;
        let log = self.known(id);
        match log.consider(&send, now_ms, windows) {
            Verdict::Allowed(follows) => {
                // What it is about may be another thing when it has been looked at: it is considered again then.
                let mut send = match self.may_go(cx, id, send) {
                    Ok(send) => send,
                    Err(tried) => return tried,
                };
                send.read.clear();
                self.append_new(cx, id, *send, Follows { change, ..follows });
            }
            Verdict::Refused(refusal) => cx.refuse(send.asker, refusal),
            Verdict::Unknown(_) if !cx.may_read() => {
                let refusal = cx.overloaded();
                cx.refuse(send.asker, refusal);
            }
            Verdict::Unknown(seq) => {
                let purpose = GetFor::Considered(id, log.held.load(), seq);
                log.sends.push_front(send);
                cx.get(keys::entry(id, seq.0), purpose);
                return Tried::Held;
            }
        }
        Tried::Settled
    }

    /// An entry has come that the message at the head of the queue needs.
    pub(super) fn considered_read(
        &mut self,
        cx: &mut Cx,
        id: LogId,
        load: Load,
        seq: Seq,
        value: Option<Bytes>,
    ) {
        // Of a log that came into doubt, whoever waited has been answered.
        let Some(log) = self.known_by(id, load) else { return };
        let Some(entry) = value.and_then(|value| Entry::from_record(id, seq.0, value)) else {
            return self.send_undecided(cx, id, load, Unreadable::Damaged);
        };
        let mut send = log.sends.pop_front().expect(super::append::ASKER);
        send.read.push(entry);
        if self.append_or_ask(cx, id, send) == Tried::Settled {
            self.append_waiting(cx, id);
        }
    }
}
