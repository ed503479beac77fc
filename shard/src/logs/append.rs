//! Appending to a log: told from a retry, numbered, written with its marks, and acknowledged when it is durable.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use tern_storage::records::{ClientMessageRecord, LogRecord};
use tern_storage::{Direction, Durable, LogId, Row, ScanLimit, keys};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::ClientMessageId;

use super::load::report_damage;
use super::{Highest, UNKNOWN_USER};
use crate::Cx;
use crate::commits::After;
use crate::effects::Stage;
use crate::entry::{Author, Entry, fingerprint, members_of, peer_of};
use crate::limits::LOG_WAITING_MAX;
use crate::message::{UserAsk, UserOp};
use crate::reads::{LogPart, ReadFor};
use crate::reply::{Origin, Reply};
use crate::shard::Shard;

/// A message on its way into a log.
#[derive(Clone)]
pub(crate) struct Send {
    /// Who waits for the acknowledgement.
    pub(crate) origin: Origin,
    /// Who sends.
    pub(crate) author: Author,
    /// The device's number of it.
    pub(crate) client_id: ClientMessageId,
    /// The body's kind.
    pub(crate) kind: i32,
    /// The body.
    pub(crate) body: Bytes,
}

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tried {
    /// It was appended, answered or refused.
    Settled,
    /// It is at the head of the queue until the store has answered.
    Held,
}

/// Shows no content.
impl std::fmt::Debug for Send {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Send {{ {:?}, {:?}, {} bytes }}", self.author, self.client_id, self.body.len())
    }
}

const REUSED: Refusal = Refusal::new(Reason::ClientIdReused, "that client id stands for another message");
const REVOKED: Refusal = Refusal::new(Reason::SessionRevoked, "the session has ended: register again");

impl Shard {
    pub(super) fn append(&mut self, cx: &mut Cx, id: LogId, send: Send) {
        let Some(log) = self.logs.logs.get_mut(&id) else { return };
        if log.sends.is_empty() {
            self.try_append(cx, id, send);
        } else if log.sends.len() < LOG_WAITING_MAX {
            log.sends.push_back(send);
        } else {
            let refusal = self.overloaded();
            self.refuse(cx, send.origin, refusal);
        }
    }

    /// Appends a message, answers a retry, or puts the message at the head of the log's queue and asks the store
    /// which of both it is; those behind it wait, so that a device's messages keep their order.
    fn try_append(&mut self, cx: &mut Cx, id: LogId, send: Send) -> Tried {
        let Some(log) = self.logs.logs.get_mut(&id) else { return Tried::Settled };
        let peer = peer_of(id, send.author.user);
        if !log.member(peer).is_some_and(|member| member.lives) {
            self.refuse(cx, send.origin, UNKNOWN_USER);
            return Tried::Settled;
        }
        let Some(device) = log.device(send.author) else {
            self.refuse(cx, send.origin, REVOKED);
            return Tried::Settled;
        };
        match device.highest {
            Highest::Unknown => self.ask_highest(cx, id, send),
            Highest::Id(highest) if send.client_id <= highest => return self.maybe_retry(cx, id, send),
            Highest::Id(_) | Highest::None => {
                self.append_new(cx, id, send);
                return Tried::Settled;
            }
        }
        Tried::Held
    }

    fn ask_highest(&mut self, cx: &mut Cx, id: LogId, send: Send) {
        let Author { user, device } = send.author;
        let range = keys::client_messages(id, user.get(), device.get());
        let one = ScanLimit { rows: 1, bytes: usize::MAX };
        let purpose = ReadFor::Log(id, LogPart::HighestClientId);
        self.reads.scan(cx.fx, range, Direction::Backwards, one, purpose);
        self.hold(id, send);
    }

    pub(crate) fn highest_read(&mut self, cx: &mut Cx, id: LogId, rows: &[Row]) {
        let Some(log) = self.logs.logs.get_mut(&id) else { return };
        let Some(send) = log.sends.pop_front() else { return };
        if let Some(device) = log.device(send.author) {
            let highest = rows.first().and_then(|(key, _)| keys::number_of(key));
            device.highest = highest.map_or(Highest::None, |id| Highest::Id(ClientMessageId(id)));
        }
        if self.try_append(cx, id, send) == Tried::Settled {
            self.append_waiting(cx, id);
        }
    }

    /// The number is not above all others: it is a retry, or came out of order. The tail knows the newest messages,
    /// the store all others.
    fn maybe_retry(&mut self, cx: &mut Cx, id: LogId, send: Send) -> Tried {
        let Some(log) = self.logs.logs.get_mut(&id) else { return Tried::Settled };
        let same = |entry: &&Arc<Entry>| entry.author == send.author && entry.client_id == send.client_id;
        if let Some(entry) = log.tail.iter().find(same).cloned() {
            if entry.kind != send.kind || entry.body != send.body {
                self.refuse(cx, send.origin, REUSED);
                return Tried::Settled;
            }
            match log.durable.prove(entry.seq, entry.time_ms) {
                Some(proof) => self.reply(cx, send.origin, Reply::Sent(proof, send.client_id)),
                None => self.then(After::Again(send.origin, entry)),
            }
            return Tried::Settled;
        }
        let Author { user, device } = send.author;
        let key = keys::client_message(id, user.get(), device.get(), send.client_id.0);
        self.reads.get(cx.fx, key, ReadFor::Log(id, LogPart::ClientMessage));
        self.hold(id, send);
        Tried::Held
    }

    pub(crate) fn client_message_read(&mut self, cx: &mut Cx, id: LogId, value: Option<Bytes>) {
        let Some(log) = self.logs.logs.get_mut(&id) else { return };
        let Some(send) = log.sends.pop_front() else { return };
        let Some(value) = value else {
            self.append_new(cx, id, send);
            return self.append_waiting(cx, id);
        };
        let Ok(record) = ClientMessageRecord::decode(value) else {
            report_damage(cx, id);
            self.refuse(cx, send.origin, super::UNREADABLE);
            return self.append_waiting(cx, id);
        };
        let proof = log.durable.prove(tern_wire::ids::Seq(record.seq), record.time_ms);
        match proof {
            _ if record.fingerprint != fingerprint(send.kind, &send.body) => {
                self.refuse(cx, send.origin, REUSED)
            }
            Some(proof) => self.reply(cx, send.origin, Reply::Sent(proof, send.client_id)),
            None => self.refuse(cx, send.origin, super::UNREADABLE),
        }
        self.append_waiting(cx, id);
    }

    /// Whether the message at the head of the queue is a retry can't be read.
    pub(crate) fn send_undecided(&mut self, cx: &mut Cx, id: LogId) {
        if let Some(send) = self.logs.logs.get_mut(&id).and_then(|log| log.sends.pop_front()) {
            self.refuse(cx, send.origin, super::UNREADABLE);
            self.append_waiting(cx, id);
        }
    }

    fn hold(&mut self, id: LogId, send: Send) {
        if let Some(log) = self.logs.logs.get_mut(&id) {
            log.sends.push_front(send);
        }
    }

    /// The head of the queue has been dealt with: go on with those behind it, up to the next that must be asked for.
    fn append_waiting(&mut self, cx: &mut Cx, id: LogId) {
        while let Some(next) = self.logs.logs.get_mut(&id).and_then(|log| log.sends.pop_front()) {
            if self.try_append(cx, id, next) == Tried::Held {
                return;
            }
        }
    }

    fn append_new(&mut self, cx: &mut Cx, id: LogId, send: Send) {
        if self.commits.open_bytes() + send.body.len() > self.limits.batch_bytes_max {
            let refusal = self.overloaded();
            return self.refuse(cx, send.origin, refusal);
        }
        let Some(log) = self.logs.logs.get_mut(&id) else { return };
        let Send { origin, author, client_id, kind, body } = send;
        let (before, seq) = (log.head, log.head.next());
        let time_ms = cx.now_ms.max(log.last_time_ms);
        let entry = Arc::new(Entry { log: id, seq, author, client_id, time_ms, kind, body });
        let (user, device) = (author.user.get(), author.device.get());

        if !log.exists {
            log.exists = true;
            self.commits.put(keys::log(id), &LogRecord { created_ms: time_ms });
            for member in members_of(id) {
                self.commits.put_bytes(keys::membership(member.get(), id), Bytes::new());
            }
        }
        self.commits.put(keys::entry(id, seq.0), &entry.to_record());
        let message = ClientMessageRecord { seq: seq.0, fingerprint: entry.fingerprint(), time_ms };
        self.commits.put(keys::client_message(id, user, device, client_id.0), &message);

        for member in &mut log.members {
            for state in &mut member.devices {
                let is_author = Author { user: member.user, device: state.id } == author;
                if is_author {
                    let highest = Highest::Id(client_id);
                    state.highest = match state.highest {
                        Highest::Id(before) if before > client_id => Highest::Id(before),
                        _ => highest,
                    };
                }
                if is_author && state.position == before {
                    // It has what it sent, and nothing before it is missing.
                    state.position = seq;
                } else if !state.marked {
                    state.marked = true;
                    let mark = keys::inbox_mark(member.user.get(), state.id.get(), id);
                    self.commits.put_bytes(mark, Bytes::new());
                }
            }
        }
        if let Some(member) = log.member(author.user).filter(|member| member.wrote.is_none()) {
            member.wrote = Some(seq);
            self.commits.put(keys::member(id, user), &member.record());
        }
        (log.head, log.last_time_ms, log.appended_ms) = (seq, time_ms, cx.now_ms);
        log.remember(entry.clone());
        cx.fx.passed(author, client_id, Stage::Batched);
        self.then(After::Append(origin, entry));
    }

    /// An entry is durable: acknowledge it, then push it to the members.
    pub(crate) fn appended(&mut self, cx: &mut Cx, proof: &Durable, origin: Origin, entry: Arc<Entry>) {
        let limits = (self.limits.tail_entries_max, self.limits.tail_bytes_max);
        let Some(log) = self.logs.logs.get_mut(&entry.log) else { return };
        log.durable.advance(proof, entry.seq);
        log.trim_tail(limits.0, limits.1);
        let proven = log.durable.prove(entry.seq, entry.time_ms).expect("the head is at or above it now");
        cx.fx.passed(entry.author, entry.client_id, Stage::Committed);
        self.reply(cx, origin, Reply::Sent(proven, entry.client_id));
        for user in members_of(entry.log) {
            self.tell_user(cx, UserOp { user, ask: UserAsk::Appended(entry.clone()) });
        }
    }

    /// The entry of a retry is durable too, for it was in this batch or one before.
    pub(crate) fn sent_again(&mut self, cx: &mut Cx, origin: Origin, entry: &Entry) {
        let log = self.logs.logs.get(&entry.log);
        match log.and_then(|log| log.durable.prove(entry.seq, entry.time_ms)) {
            Some(proof) => self.reply(cx, origin, Reply::Sent(proof, entry.client_id)),
            None => self.refuse(cx, origin, super::UNREADABLE),
        }
    }
}
