//! Whether a new message may be appended: how many people who have not answered its author writes to, and how much waits for its
//! peer. The owners of those users know; the message is at the head of the log's queue until they have said so.

use bytes::Bytes;
use prost::Message as _;
use tern_storage::records::MembershipRecord;
use tern_storage::{LogId, keys};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::{Seq, UserId};
use tern_wire::message::Deed;
use tern_wire::private::Private;

use super::append::Tried;
use super::{Cx, Log, Logs, Member};
use crate::entry::{Entry, KIND_PRIVATE, fingerprint, peer_of};
use crate::limits::{CHECKPOINT_BYTES, CHECKPOINTS_MAX, WAITING_FREE_BYTES, WAITING_STEP_BYTES};
use crate::message::{Look, Named, Reserve, Send, UserOp};

const BLOCKED: Refusal = Refusal::new(Reason::Blocked, "one blocks that person: end that first");
const ONESELF: Refusal = Refusal::new(Reason::InvalidArgument, "one can't name oneself");

/// What had been written up to an entry that is no longer in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checkpoint {
    seq: Seq,
    author: UserId,
    sender_bytes: u64,
    other_bytes: u64,
}

impl Checkpoint {
    fn of(entry: &Entry) -> Self {
        let Entry { seq, author, sender_bytes, other_bytes, .. } = *entry;
        Self { seq, author: author.user, sender_bytes, other_bytes }
    }

    /// The bytes that had been written for a member.
    fn written_for(self, user: UserId) -> u64 {
        if self.author == user { self.other_bytes } else { self.sender_bytes }
    }
}

impl Log {
    /// The bytes that have been written for a member, by the others.
    fn written_for(&self, user: UserId) -> u64 {
        self.members.iter().filter(|member| member.user != user).map(|member| member.written).sum()
    }

    /// The bytes that wait for a member.
    fn waits_for(&self, user: UserId) -> u64 {
        let member = self.members.iter().find(|member| member.user == user);
        self.written_for(user).saturating_sub(member.map_or(0, |member| member.delivered_bytes))
    }

    /// The bytes that had been written for a member up to an entry, as far as is known: never too many.
    pub(super) fn written_upto(&self, user: UserId, seq: Seq) -> u64 {
        if seq == self.head {
            return self.written_for(user);
        }
        let before = self.checkpoints.iter().rev().find(|checkpoint| checkpoint.seq <= seq);
        let known = self.in_tail(seq).map(|entry| Checkpoint::of(entry)).or(before.copied());
        known.map_or(0, |checkpoint| checkpoint.written_for(user))
    }

    /// Notes now and then how much has been written, for the time when the entry has left the memory. The farther the members are
    /// behind, the coarser: so the notes stay few.
    pub(super) fn note_written(&mut self, entry: &Entry) {
        let total = |checkpoint: &Checkpoint| checkpoint.sender_bytes + checkpoint.other_bytes;
        let noted = self.checkpoints.back().map_or(0, total);
        let checkpoint = Checkpoint::of(entry);
        if total(&checkpoint) < noted + CHECKPOINT_BYTES {
            return;
        }
        let delivered = self.members.iter().map(|member| member.marks.delivered).min().unwrap_or_default();
        while self.checkpoints.get(1).is_some_and(|second| second.seq <= delivered) {
            self.checkpoints.pop_front();
        }
        if self.checkpoints.len() >= CHECKPOINTS_MAX {
            let mut odd = false;
            self.checkpoints.retain(|_| {
                odd = !odd;
                odd
            });
        }
        self.checkpoints.push_back(checkpoint);
    }

    /// What the log knows of bytes from its newest entry, when it has been read.
    pub(super) fn recover_room(&mut self) {
        let Some(newest) = self.tail.back().cloned() else { return };
        for member in &mut self.members {
            let own = member.user == newest.author.user;
            member.written = if own { newest.sender_bytes } else { newest.other_bytes };
            let others = newest.messages_of_others(member.user);
            member.messages = newest.messages.saturating_sub(others);
        }
        for place in 0..self.members.len() {
            let waits = self.waits_for(self.members[place].user);
            self.members[place].may_be_reserved = waits > WAITING_FREE_BYTES / 2;
        }
    }

    /// Counts a body of a member: the bytes that it and the others have written, and how many messages it has, for the entry.
    pub(super) fn count_written(
        &mut self,
        author: UserId,
        bytes: usize,
        is_message: bool,
    ) -> (u64, u64, u64) {
        let others = self.written_for(author);
        let Some(member) = self.member(author) else { return (0, others, 0) };
        member.written += bytes as u64;
        member.messages += u64::from(is_message);
        (member.written, others, member.messages)
    }

    /// Whether somebody may say something at all: whom one blocks, one does not write to. What erases one's own may come.
    fn bars(&self, send: &Send) -> Result<(), Refusal> {
        let author = send.author.user;
        let blocks = self.seen_member(author).is_some_and(|member| member.terms.blocks);
        if blocks && Deed::of(send.kind) != Some(Deed::Delete) {
            return Err(BLOCKED);
        }
        if send.kind != KIND_PRIVATE {
            return Ok(());
        }
        match Private::parse(&send.body) {
            Ok(Private::Blocked(other, _) | Private::StoriesMuted(other, _)) if other == author => {
                Err(ONESELF)
            }
            Ok(Private::Contacts(people)) if people.iter().any(|(user, _)| *user == author) => Err(ONESELF),
            _ => Ok(()),
        }
    }

    fn is_first_to_stranger(&self, author: UserId, peer: UserId) -> bool {
        peer != author && self.members.iter().all(|member| member.wrote.is_none())
    }
}

/// How many more people an entry of a private log names.
fn named(id: LogId, send: &Send) -> Option<Named> {
    let said = matches!(id, LogId::Private(_)).then(|| Private::parse(&send.body))?;
    match said {
        Ok(Private::Contacts(contacts)) => {
            let added = contacts.iter().filter(|(_, is_one)| *is_one).count();
            (added > 0).then_some(Named::Contacts(added))
        }
        Ok(Private::Blocked(_, true)) => Some(Named::Blocked),
        Ok(Private::StoriesMuted(_, true)) => Some(Named::Muted),
        _ => None,
    }
}

impl Member {
    /// The member's `g` row.
    pub(super) fn membership(&self) -> Bytes {
        MembershipRecord { reserved_bytes: self.reserved }.encode_to_vec().into()
    }
}

impl Logs {
    /// Appends a message that is no retry, or asks first whether it may be.
    pub(super) fn append_or_ask(&mut self, cx: &mut Cx, id: LogId, send: Box<Send>) -> Tried {
        if matches!(id, LogId::Group(_)) {
            return self.append_in_group(cx, id, send);
        }
        if let Err(refusal) = self.known(id).bars(&send) {
            cx.refuse(send.asker, refusal);
            return Tried::Settled;
        }
        let Some(lacks) = self.lacks(cx, id, &send) else {
            return self.append_considered(cx, id, send, None);
        };
        self.ask_first(cx, id, send, lacks);
        Tried::Held
    }

    /// The number of the next ask.
    pub(super) fn next_ask(&self) -> u64 {
        self.asks_made + 1
    }

    /// Has a message wait at the head of the queue until a user's owner has answered the next ask.
    pub(super) fn ask_first(
        &mut self,
        cx: &mut Cx,
        id: LogId,
        mut send: Box<Send>,
        (user, ask): (UserId, UserOp),
    ) {
        self.asks_made = self.next_ask();
        send.permits.asked = Some(self.asks_made);
        self.known(id).sends.push_front(send);
        cx.tell_user(user, ask);
    }

    /// What a message to somebody who is not there, or may not be, must be allowed first: whoever makes ids up guesses no more often than
    /// they may write to strangers.
    pub(super) fn is_guess(&mut self, cx: &Cx, id: LogId, send: &Send) -> Option<(UserId, UserOp)> {
        let (number, author) = (self.next_ask(), send.author.user);
        let peer = peer_of(id, author)?;
        let limits = cx.limits();
        let is_any = limits.strangers_per_hour_max > 0 || limits.same_text_per_hour_max > 0;
        let limited = is_any && !send.permits.granted;
        let is_first = limited && self.known(id).is_first_to_stranger(author, peer);
        is_first.then(|| {
            let text = fingerprint(send.kind, &send.body, None);
            (author, UserOp::MayWriteToStranger(id, number, text))
        })
    }

    /// What a message must be allowed first, and by whose owner.
    fn lacks(&mut self, cx: &Cx, id: LogId, send: &Send) -> Option<(UserId, UserOp)> {
        let (number, guess) = (self.next_ask(), self.is_guess(cx, id, send));
        let log = self.known(id);
        let author = send.author.user;
        let peer = peer_of(id, author)?;
        let names = if send.permits.granted { None } else { named(id, send) };
        let ask = if let Some(named) = names {
            (author, UserOp::MayName(id, number, named))
        } else if let Some(guess) = guess {
            guess
        } else {
            let max = cx.limits().waiting_bytes_max;
            let least = log.waits_for(peer) + send.body.len() as u64;
            let had = log.members.iter().find(|member| member.user == peer)?.reserved;
            let reserved = send.permits.reserved.unwrap_or(had);
            if peer == author || max == 0 || least <= WAITING_FREE_BYTES.min(max).max(reserved) {
                return None;
            }
            let wanted = least.next_multiple_of(WAITING_STEP_BYTES);
            (peer, UserOp::Reserve(Reserve { log: id, number, least, wanted }))
        };
        Some(ask)
    }

    /// An ask was answered. If the log came into doubt meanwhile, its message has been answered too.
    pub(super) fn permitted(
        &mut self,
        cx: &mut Cx,
        id: LogId,
        number: u64,
        answer: Result<Option<u64>, Refusal>,
    ) {
        let Some(log) = self.logs.get_mut(&id).filter(|log| log.held.is_known()) else { return };
        let asked = |send: &mut Box<Send>| send.permits.asked == Some(number);
        let Some(mut send) = log.sends.pop_front_if(asked) else { return };
        send.permits.asked = None;
        match answer {
            Ok(room) if send.permits.look == Look::Flagging => {
                send.permits.look = Look::Flagged(room.is_some())
            }
            Ok(None) => send.permits.granted = true,
            Ok(reserved) => send.permits.reserved = reserved,
            Err(refusal) => {
                cx.refuse(send.asker, refusal);
                if matches!(id, LogId::Group(_)) {
                    self.forget_guests(id);
                }
                self.append_waiting(cx, id);
                return self.part_from_guests(cx, id);
            }
        }
        // The devices may have changed meanwhile, and what is first to a stranger.
        if self.try_append(cx, id, send) == Tried::Settled {
            self.append_waiting(cx, id);
        }
        self.part_from_guests(cx, id);
    }

    /// A member has acknowledged: what was reserved for it and is needed no more is given back, in the same batch.
    pub(super) fn release_room(&mut self, cx: &mut Cx, id: LogId, user: UserId) {
        let log = self.known(id);
        let slot = log.slot;
        if log.waits_for(user) > WAITING_FREE_BYTES / 2 {
            return;
        }
        let Some(member) = log.member(user).filter(|member| member.reserved > 0 || member.may_be_reserved)
        else {
            return;
        };
        (member.reserved, member.may_be_reserved) = (0, false);
        cx.put_bytes_lazily(slot, keys::membership(user.get(), id), &[]);
        cx.tell_user(user, UserOp::Released(id));
    }
}
