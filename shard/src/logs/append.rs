//! Appending to a log: told from a retry, numbered, written with its marks, and acknowledged when it is durable.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use tern_proto::v1;
use tern_storage::keys::Relation;
use tern_storage::records::{ChatSettingsRecord, ClientMessageRecord};
use tern_storage::{Direction, Durable, LogId, Row, ScanLimit, keys};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::group::Change;
use tern_wire::ids::{ChatId, ClientMessageId, MediaId, Seq, UserId};
use tern_wire::message::timer_ms;
use tern_wire::private::Private;

use super::filter::write_flag;
use super::guests::may_come;
use super::log::{Log, Member};
use super::media::{uncite_picture_of, write_media};
use super::schedule::scheduled;
use super::{After, Cx, GetFor, Highest, Logs, REVOKED, ScanFor, UNKNOWN_USER, UNREADABLE};
use crate::circle::privacy_record;
use crate::durable::{DurableHead, DurableSeq};
use crate::effects::Stage;
use crate::entry::{
    Author, Entry, KIND_GROUP, KIND_TIMER, chat_of, fingerprint, log_of, members_of, peer_of,
};
use crate::held::Load;
use crate::limits::{GROUP_UNWRITTEN_MAX, LOG_LOOKED_AT_MAX, LOG_WAITING_MAX};
use crate::message::{LogOp, Look, Said, Send, Subject, Unreadable, UserOp, VolatileOp, Watermarks};
use crate::mutations::{Mutation, is};
use crate::reply::{Asker, Reply};

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tried {
    /// It was appended, answered or refused.
    Settled,
    /// It is at the head of the queue until the store has answered.
    Held,
}

/// What follows from a message, beside its entry.
#[derive(Default)]
pub(super) struct Follows {
    /// What becomes of its group.
    pub(super) change: Option<Box<Change>>,
    /// Entries that become so.
    pub(super) rewritten: Vec<Entry>,
    /// Media that entries have no more.
    pub(super) uncited: Vec<(Seq, Vec<MediaId>)>,
    /// When the message that it is about ends, and this with it; 0: never.
    pub(super) ends_ms: u64,
}

/// A read that tells a retry from a new message is under way for the head of the log's queue.
pub(super) const ASKER: &str = "whoever asked is at the head of the queue";

/// The fingerprint of an entry that was erased: nothing is left to tell it by.
const ERASED: u64 = 0;

const REUSED: Refusal = Refusal::new(Reason::ClientIdReused, "that client id stands for another message");

impl Logs {
    pub(super) fn append(&mut self, cx: &mut Cx, id: LogId, send: Box<Send>) {
        let max = if cx.filtering().is_some() { LOG_LOOKED_AT_MAX } else { LOG_WAITING_MAX };
        let log = self.known(id);
        if log.sends.is_empty() {
            self.try_append(cx, id, send);
        } else if log.sends.len() < max {
            let send = self.look_ahead(cx, id, send);
            self.known(id).sends.push_back(send);
        } else {
            let refusal = cx.overloaded();
            cx.refuse(send.asker, refusal);
        }
    }

    /// Appends a message, answers a retry, or puts the message at the head of the log's queue and asks the store
    /// which of both it is; those behind it wait, so that a device's messages keep their order.
    pub(super) fn try_append(&mut self, cx: &mut Cx, id: LogId, send: Box<Send>) -> Tried {
        let log = self.known(id);
        match peer_of(id, send.author.user) {
            Some(peer) if !log.member(peer).is_some_and(|member| member.lives) => {
                if let Some(guess) = self.is_guess(cx, id, &send) {
                    self.ask_first(cx, id, send, guess);
                    return Tried::Held;
                }
                cx.refuse(send.asker, UNKNOWN_USER);
                return Tried::Settled;
            }
            None if !log.exists => return self.create(cx, id, send),
            _ if send.author.is_server() && is(Mutation::DispatchAnew) => {
                return self.append_or_ask(cx, id, send);
            }
            // The store alone knows what it has sent.
            _ if send.author.is_server() => return self.maybe_retry(cx, id, send),
            None if log.device(send.author).is_none() && may_come(&send) => return self.come(cx, id, send),
            None if log.device(send.author).is_none() && !send.permits.met => {
                return self.meet_author(cx, id, send);
            }
            _ => {}
        }
        let Some(device) = log.device(send.author) else {
            cx.refuse(send.asker, REVOKED);
            return Tried::Settled;
        };
        match device.highest {
            Highest::Unknown => self.ask_highest(cx, id, send),
            Highest::Id(highest) if send.client_id <= highest && !is(Mutation::ForgetRetries) => {
                self.maybe_retry(cx, id, send)
            }
            Highest::Id(_) | Highest::None => self.append_or_ask(cx, id, send),
        }
    }

    fn ask_highest(&mut self, cx: &mut Cx, id: LogId, send: Box<Send>) -> Tried {
        if !cx.may_read() {
            let refusal = cx.overloaded();
            cx.refuse(send.asker, refusal);
            return Tried::Settled;
        }
        let Author { user, device } = send.author;
        let range = keys::client_messages(id, user.get(), device.get());
        let one = ScanLimit { rows: 1, bytes: usize::MAX };
        let log = self.known(id);
        let purpose = ScanFor::HighestClientId(id, log.held.load());
        log.sends.push_front(send);
        cx.scan(range, Direction::Backwards, one, purpose);
        Tried::Held
    }

    pub(super) fn highest_read(&mut self, cx: &mut Cx, id: LogId, load: Load, rows: &[Row]) {
        // Of a log that came into doubt, whoever waited has been answered.
        let Some(log) = self.known_by(id, load) else { return };
        let author = log.sends.front().expect(ASKER).author;
        let found = match rows.first() {
            Some((key, _)) => keys::number_of(key).map(ClientMessageId).map(Highest::Id),
            None => Some(Highest::None),
        };
        // What it has sent of late is in the tail, and each of those has its number in the store.
        let sent = log.tail.iter().filter(|entry| entry.author == author).map(|entry| entry.client_id).max();
        let found = found.filter(|highest| match (*highest, sent) {
            (Highest::Id(highest), Some(sent)) => highest >= sent,
            (Highest::None, Some(_)) => false,
            (_, None) => true,
            (Highest::Unknown, _) => unreachable!("it was read"),
        });
        let Some(highest) = found else { return self.send_undecided(cx, id, load, Unreadable::Damaged) };
        let send = log.sends.pop_front().expect(ASKER);
        if let Some(device) = log.device(author) {
            device.highest = highest;
        }
        if self.try_append(cx, id, send) == Tried::Settled {
            self.append_waiting(cx, id);
        }
    }

    /// The number is not above all others: it is a retry, or came out of order. The tail knows the newest messages,
    /// the store all others.
    pub(super) fn maybe_retry(&mut self, cx: &mut Cx, id: LogId, send: Box<Send>) -> Tried {
        let log = self.known(id);
        let same = |entry: &&Arc<Entry>| entry.author == send.author && entry.client_id == send.client_id;
        if let Some(entry) = log.tail.iter().find(same).cloned() {
            if !is_same(&entry, &send) {
                cx.refuse(send.asker, REUSED);
                return Tried::Settled;
            }
            match log.durable.prove(entry.seq, entry.time_ms) {
                Some(_) if waits_for_change(log, id, send.author) => {
                    self.after(cx, After::Ask(id, Box::new(LogOp::Send(send))));
                }
                Some(proof) => {
                    let again = sent(id, proof, send.client_id, entry.expires_ms());
                    answer_again(cx, log, (id, send.author), send.asker, again);
                }
                None if cx.may_write(0) => {
                    self.after(cx, After::Again(send.asker, entry));
                }
                None => {
                    let refusal = cx.overloaded();
                    cx.refuse(send.asker, refusal);
                }
            }
            return Tried::Settled;
        }
        if !cx.may_read() {
            let refusal = cx.overloaded();
            cx.refuse(send.asker, refusal);
            return Tried::Settled;
        }
        let Author { user, device } = send.author;
        let key = keys::client_message(id, user.get(), device.get(), send.client_id.0);
        let purpose = GetFor::ClientMessage(id, log.held.load());
        log.sends.push_front(send);
        cx.get(key, purpose);
        Tried::Held
    }

    pub(super) fn client_message_read(&mut self, cx: &mut Cx, id: LogId, load: Load, value: Option<Bytes>) {
        let Some(log) = self.known_by(id, load) else { return };
        let Some(value) = value else {
            let send = log.sends.pop_front().expect(ASKER);
            if self.append_or_ask(cx, id, send) == Tried::Settled {
                self.append_waiting(cx, id);
            }
            return;
        };
        let record = ClientMessageRecord::decode(value).ok();
        let proven =
            record.and_then(|record| Some((log.durable.prove(Seq(record.seq), record.time_ms)?, record)));
        // What the store has given is durable, so a seq beyond the head is of an entry that is not there.
        let Some((proof, ClientMessageRecord { fingerprint: expected, expires_ms, .. })) = proven else {
            return self.send_undecided(cx, id, load, Unreadable::Damaged);
        };
        let send = log.sends.pop_front().expect(ASKER);
        if expected == ERASED || expected == fingerprint(send.kind, &send.body, send.envelope.as_deref()) {
            if waits_for_change(log, id, send.author) {
                self.after(cx, After::Ask(id, Box::new(LogOp::Send(send))));
            } else {
                let again = sent(id, proof, send.client_id, expires_ms);
                answer_again(cx, log, (id, send.author), send.asker, again);
            }
        } else {
            cx.refuse(send.asker, REUSED);
        }
        self.append_waiting(cx, id);
    }

    /// Whether the message at the head of the queue is a retry can't be read.
    pub(super) fn send_undecided(&mut self, cx: &mut Cx, id: LogId, load: Load, why: Unreadable) {
        let Some(log) = self.known_by(id, load) else { return };
        let send = log.sends.pop_front().expect(ASKER);
        if why == Unreadable::Damaged {
            cx.damaged("a log", &keys::log(id));
        }
        cx.refuse(send.asker, UNREADABLE);
        self.append_waiting(cx, id);
    }

    /// The head of the queue has been dealt with: go on with those behind it, up to the next that must be asked for.
    pub(super) fn append_waiting(&mut self, cx: &mut Cx, id: LogId) {
        while let Some(next) = self.known(id).sends.pop_front() {
            if self.try_append(cx, id, next) == Tried::Held {
                return;
            }
        }
    }

    /// Appends a message, with what follows from it.
    pub(super) fn append_new(&mut self, cx: &mut Cx, id: LogId, mut send: Send, follows: Follows) {
        if !cx.may_write(send.body.len()) {
            let refusal = cx.overloaded();
            return cx.refuse(send.asker, refusal);
        }
        let (asker, permits, media) = (send.asker, send.permits, std::mem::take(&mut send.media));
        let Follows { change, rewritten, uncited, ends_ms } = follows;
        let log = self.known(id);
        let entry = Arc::new(log.next_entry(id, send, cx.now_ms, ends_ms));
        let Entry { author, client_id, seq, time_ms, .. } = *entry;
        match change {
            Some(change) => write_change(cx, log, &entry, *change),
            None if entry.kind == KIND_TIMER => write_timer(cx, log, &entry),
            None if !log.exists => write_first(cx, log, &entry),
            None => {}
        }
        if log.group.is_none() {
            write_first_seen(cx, log, &entry);
        }
        if let Some(reserved) = permits.reserved {
            write_reserved(cx, log, &entry, reserved);
        }
        write_entry(cx, log, &entry);
        write_media(cx, log.slot, &entry, &media, &uncited);
        if permits.look == Look::Flagged(true) {
            write_flag(cx, log.slot, &entry);
        }
        if let LogId::Private(_) = id {
            write_private(cx, log, &entry);
        }
        let words = rewritten.into_iter().filter_map(|rewritten| rewrite(cx, log, rewritten, seq)).max();
        if let Some(due_ms) = due_ms(&entry) {
            cx.put_bytes(log.slot, keys::due(due_ms, id, seq.0), &[]);
        }
        note_in_devices(cx, log, &entry);
        if log.group.is_some() {
            note_in_group(cx, log, &entry);
        } else if let Some(member) = log.member(author.user).filter(|member| member.wrote.is_none()) {
            member.wrote = Some(seq);
            let record = member.record();
            cx.put(log.slot, keys::member(id, author.user.get()), &record);
        }
        (log.head, log.last_time_ms, log.appended_ms) = (seq, time_ms, cx.now_ms);
        if log.group.is_none() {
            log.note_written(&entry);
        }
        log.remember(entry.clone());
        cx.passed(author, client_id, Stage::Batched);
        if is(Mutation::AcknowledgeEarly) {
            // The types ask for a proof; what is read from the store is one.
            log.durable = DurableHead::recovered(seq);
            let proven = log.durable.prove(seq, time_ms).expect("it is the head");
            cx.reply(asker, Reply::Sent(proven, client_id, entry.expires_ms()));
        }
        if is(Mutation::PushEarly) {
            tell_members(cx, log, &entry);
        }
        self.look_at_words(cx, id, words);
        if matches!(id, LogId::Group(_)) {
            self.gather(cx, id, false);
        }
        self.after(cx, After::Append(asker, entry));
    }

    /// An entry is durable: acknowledge it, then push it to the members.
    pub(super) fn appended(&mut self, cx: &mut Cx, proof: &Durable, asker: Asker, entry: Arc<Entry>) {
        let limits = (cx.limits().tail_entries_max, cx.limits().tail_bytes_max);
        let log = self.pinned(entry.log);
        log.durable.advance(proof, entry.seq);
        log.show_rewritten();
        let proven = log.durable.prove(entry.seq, entry.time_ms).expect("the head is at or above it now");
        cx.passed(entry.author, entry.client_id, Stage::Committed);
        if !is(Mutation::AcknowledgeEarly) {
            let reply = sent(entry.log, proven, entry.client_id, entry.expires_ms());
            if says_of_others(&entry) {
                let said = Said { entry: entry.clone(), asker, reply };
                cx.tell_user(entry.author.user, UserOp::Said(Box::new(said)));
            } else {
                cx.reply(asker, reply);
            }
        }
        if !is(Mutation::PushEarly) {
            tell_members(cx, log, &entry);
        }
        log.trim_tail(limits.0, limits.1);
        let (slot, is_group) = (log.slot, log.group.is_some());
        let has_full_run = log.has_full_run(cx.limits().search_run_entries);
        // Not before: a look that finds no row, for it is not there yet, would be the last one.
        if let Some(due_ms) = due_ms(&entry) {
            self.agenda.note(slot, due_ms);
        }
        if has_full_run {
            self.note_words(cx, entry.log);
        }
        self.count_entry(cx, &entry);
        if is_group {
            look_away_if_gone(cx, &entry);
            self.part_from_guests(cx, entry.log);
        }
    }

    /// The entry of a retry is durable too, for it was in this batch or one before.
    pub(super) fn sent_again(&mut self, cx: &mut Cx, asker: Asker, entry: Arc<Entry>) {
        let log = self.pinned(entry.log);
        if waits_for_change(log, entry.log, entry.author) {
            return self.after(cx, After::Again(asker, entry));
        }
        let proof = log.durable.prove(entry.seq, entry.time_ms).expect("batches become durable in order");
        let again = sent(entry.log, proof, entry.client_id, entry.expires_ms());
        answer_again(cx, log, (entry.log, entry.author), asker, again);
    }
}

/// Whether a retry is answered only when what becomes of the log is durable: until then nobody is told how far the others are, and who
/// retries would not ask.
fn waits_for_change(log: &Log, id: LogId, author: Author) -> bool {
    peer_of(id, author.user) != Some(author.user) && log.is_changing() && !is(Mutation::AnswerBesideChange)
}

/// Answers a retry. The peer may have got it, and more, while its device was away: of a chat that it did not know to have written in, it
/// has not asked how far.
fn answer_again(cx: &mut Cx, log: &Log, (id, author): (LogId, Author), asker: Asker, sent: Reply) {
    let marks = log.shown_of_others(id, author.user);
    let is_other = peer_of(id, author.user) != Some(author.user);
    let is_other = is_other && !(log.is_changing() && is(Mutation::AnswerBesideChange));
    match asker {
        Asker::Connection(origin) if is_other && marks != Watermarks::default() => {
            let again = Box::new((sent, id, marks));
            cx.tell_user(author.user, UserOp::SentAgain(origin, again));
        }
        asker => cx.reply(asker, sent),
    }
}

/// Whether a message is the one that an entry was. Of an erased one the number alone tells.
fn is_same(entry: &Entry, send: &Send) -> bool {
    entry.kind == send.kind
        && (entry.is_erased() || (entry.body == send.body && entry.envelope == send.envelope))
}

/// What a message is answered with. The first entry of a group tells which that is.
fn sent(id: LogId, proof: DurableSeq, client_id: ClientMessageId, expires_ms: u64) -> Reply {
    match id {
        LogId::Group(group) if proof.seq() == Seq(1) => Reply::GroupCreated(proof, client_id, group),
        _ => Reply::Sent(proof, client_id, expires_ms),
    }
}

/// Tells the owners of those who hear an entry.
fn tell_members(cx: &mut Cx, log: &Log, entry: &Arc<Entry>) {
    if log.group.is_none() {
        for member in log.members.iter().filter(|member| !entry.is_withheld_from(member.user)) {
            let op = match withheld_before(log, entry.seq, member.user) {
                Some(from) => UserOp::Grown(entry.clone(), from),
                None => UserOp::Appended(entry.clone()),
            };
            cx.tell_user(member.user, op);
        }
        return;
    }
    let hears = log.members.iter().filter(|member| member.hears(entry.seq));
    cx.tell_users(hears.map(|member| {
        // Who has come by it does not know where the log begins.
        let is_new = member.part.as_ref().is_some_and(|part| part.joined == entry.seq);
        let op = if is_new { UserOp::Grown(entry.clone(), None) } else { UserOp::Appended(entry.clone()) };
        (member.user, op)
    }));
}

/// From where on all before an entry is withheld from somebody, whose devices have not heard of it: `Some(None)` if that is further back
/// than is in memory, `None` if nothing is.
fn withheld_before(log: &Log, seq: Seq, user: UserId) -> Option<Option<Seq>> {
    let mut from = None;
    // The newest durable entry is in memory, until this one is durable.
    for before in (1..seq.0).rev().map(Seq) {
        match log.in_tail(before) {
            Some(entry) if entry.is_withheld_from(user) => from = Some(before),
            Some(_) => return from.map(Some),
            None => return from.map(|_| None),
        }
    }
    from.map(Some)
}

/// Whoever has left a group does not see who does what in it.
fn look_away_if_gone(cx: &mut Cx, entry: &Entry) {
    let gone = match (entry.kind == KIND_GROUP).then(|| Change::parse(&entry.body)) {
        Some(Ok(Change::Removed(user))) => user,
        Some(Ok(Change::Left)) => entry.author.user,
        _ => return,
    };
    if let ChatId::Group(group) = chat_of(entry.log, gone) {
        cx.tell_volatile(Subject::Group(group), VolatileOp::Lost(gone));
    }
}

/// Writes that a direct chat has begun.
fn write_first(cx: &mut Cx, log: &mut Log, first: &Entry) {
    (log.exists, log.created_ms) = (true, first.time_ms);
    cx.put(log.slot, keys::log(first.log), &log.record());
    for member in members_of(first.log).filter(|member| !first.is_withheld_from(*member)) {
        cx.put_bytes(log.slot, keys::membership(member.get(), first.log), &[]);
    }
}

/// Writes that somebody is a member of a chat in which nothing was to be seen by them up to now, as far as is known.
fn write_first_seen(cx: &mut Cx, log: &Log, entry: &Entry) {
    let Some(before) = log.newest_of(log.head).filter(|before| before.is_withheld()) else { return };
    let sees =
        |member: &&Member| before.is_withheld_from(member.user) && !entry.is_withheld_from(member.user);
    for member in log.members.iter().filter(sees) {
        cx.put_bytes(log.slot, keys::membership(member.user.get(), entry.log), &member.membership());
    }
}

/// Writes that messages disappear from here on, or do not any more.
fn write_timer(cx: &mut Cx, log: &mut Log, entry: &Entry) {
    (log.timer_ms, log.changed) = (timer_ms(&entry.body).expect("it was parsed when it came"), entry.seq);
    if log.exists {
        cx.put(log.slot, keys::log(entry.log), &log.record());
    } else {
        write_first(cx, log, entry);
    }
}

/// Writes an entry, and under which number of its device it stands.
fn write_entry(cx: &mut Cx, log: &Log, entry: &Entry) {
    cx.put(log.slot, keys::entry(entry.log, entry.seq.0), &entry.to_record());
    write_number(cx, log, entry);
}

/// When something is to be done about an entry, in ms since the Unix epoch: it ends, or says what is to be sent.
fn due_ms(entry: &Entry) -> Option<u64> {
    match entry.expires_ms() {
        0 => scheduled(entry).map(|(at_ms, _)| at_ms),
        expires_ms => Some(expires_ms),
    }
}

/// Writes how many bytes may wait for the peer.
fn write_reserved(cx: &mut Cx, log: &mut Log, entry: &Entry, reserved: u64) {
    let slot = log.slot;
    let Some(peer) = peer_of(entry.log, entry.author.user).and_then(|peer| log.member(peer)) else { return };
    peer.reserved = reserved;
    let key = keys::membership(peer.user.get(), entry.log);
    cx.put_bytes(slot, key, &peer.membership());
}

/// Writes apart what a user's private log says of a chat, for the list of chats, and of others.
fn write_private(cx: &mut Cx, log: &Log, entry: &Entry) {
    let user = entry.author.user;
    match Private::parse(&entry.body) {
        Ok(Private::Chat(chat, settings)) => {
            let v1::ChatSettings { archived, muted_until_ms, marked_unread, on_top, notify, .. } = settings;
            let record = ChatSettingsRecord { archived, muted_until_ms, marked_unread, on_top, notify };
            cx.put(log.slot, keys::chat_settings(user.get(), log_of(user, chat)), &record);
        }
        Ok(Private::Contacts(contacts)) => {
            for (other, is_one) in contacts {
                write_relation(cx, log, user, Relation::Contact(other.get()), is_one);
            }
        }
        Ok(Private::Blocked(other, is_blocked)) => {
            write_relation(cx, log, user, Relation::Blocked(other.get()), is_blocked);
            if is_blocked && !is(Mutation::ForgetToHide) {
                // Whatever the clock was before, it is due now.
                let at_ms = entry.time_ms.min(cx.now_ms);
                let hidden = keys::story_hidden(at_ms, user.get(), other.get());
                cx.put_bytes(log.slot, hidden, keys::TO_HIDE);
            }
        }
        Ok(Private::StoriesMuted(other, is_muted)) => {
            write_relation(cx, log, user, Relation::Muted(other.get()), is_muted);
        }
        Ok(Private::Privacy(privacy)) => {
            cx.put(log.slot, keys::relation(user.get(), Relation::Privacy), &privacy_record(privacy));
        }
        Ok(Private::Scheduled(..) | Private::Other) | Err(_) => {}
    }
}

fn write_relation(cx: &mut Cx, log: &Log, user: UserId, relation: Relation, is_so: bool) {
    let key = keys::relation(user.get(), relation);
    if is_so {
        cx.put_bytes(log.slot, key, &[]);
    } else {
        cx.delete(log.slot, key);
    }
}

/// Whether the owner of a user must hear of an entry before anybody is told that it is durable: it says something of others.
fn says_of_others(entry: &Entry) -> bool {
    let says = |body: &[u8]| {
        matches!(Private::parse(body), Ok(Private::Contacts(_) | Private::Blocked(..) | Private::Privacy(_)))
    };
    matches!(entry.log, LogId::Private(_)) && says(&entry.body)
}

/// Writes what a later entry has made of one. Nothing is left of what was erased; gives when its words are to be taken out of the index,
/// if it leaves any there.
fn rewrite(cx: &mut Cx, log: &mut Log, entry: Entry, by: Seq) -> Option<u64> {
    cx.put(log.slot, keys::entry(entry.log, entry.seq.0), &entry.to_record());
    let mut words = None;
    if entry.is_erased() {
        write_number(cx, log, &entry);
        words = log.words_gone(cx, entry.log, entry.seq);
    }
    log.rewritten.push((by, Arc::new(entry)));
    words
}

/// Writes under which number of its device an entry stands.
fn write_number(cx: &mut Cx, log: &Log, entry: &Entry) {
    let Entry { log: id, author: Author { user, device }, client_id, .. } = *entry;
    let key = keys::client_message(id, user.get(), device.get(), client_id.0);
    cx.put(log.slot, key, &number_record(entry));
}

/// What is kept under the number that an entry's device gave it.
pub(super) fn number_record(entry: &Entry) -> ClientMessageRecord {
    ClientMessageRecord {
        seq: entry.seq.0,
        fingerprint: entry.fingerprint(),
        time_ms: entry.time_ms,
        expires_ms: entry.expires_ms(),
    }
}

/// Does what an entry says of its group, and writes it with the entry.
fn write_change(cx: &mut Cx, log: &mut Log, entry: &Entry, change: Change) {
    let (id, slot, seq) = (entry.log, log.slot, entry.seq);
    let picture = log.group().picture.clone();
    log.change(entry.author.user, change, seq, entry.time_ms);
    if log.group().picture != picture {
        uncite_picture_of(cx, log, id, &picture, seq);
    }
    if !std::mem::replace(&mut log.exists, true) {
        log.created_ms = entry.time_ms;
    }
    log.changed = seq;
    cx.put(slot, keys::log(id), &log.record());
    let joined = |member: &&Member| member.part.as_ref().is_some_and(|part| part.joined == seq);
    for member in log.members.iter().filter(joined) {
        cx.put_bytes(slot, keys::membership(member.user.get(), id), &[]);
    }
    // Before its author is noted: what follows from the entry is made again when the group is read.
    write_members(cx, log, id, log.head);
}

/// Writes the rows of members that are not as in the store, with what follows from entries up to this one.
fn write_members(cx: &mut Cx, log: &mut Log, id: LogId, upto: Seq) {
    for row in std::mem::take(&mut log.group().unwritten) {
        cx.put(log.slot, keys::members_row(id, row), &log.members_row(row, upto));
    }
}

/// Notes an entry of a member's, and has what follows from it written before it leaves the memory.
fn note_in_group(cx: &mut Cx, log: &mut Log, entry: &Entry) {
    let (author, bytes) = (entry.author.user, entry.body.len());
    let Some(member) = log.member(author) else { return };
    member.wrote_entry(entry.seq, entry.counts());
    let number = member.part.as_ref().map_or(0, |part| part.number);
    let group = log.group();
    group.touch(number);
    group.since_written = (group.since_written.0 + 1, group.since_written.1 + bytes);
    if group.since_written.0 >= GROUP_UNWRITTEN_MAX.0 || group.since_written.1 >= GROUP_UNWRITTEN_MAX.1 {
        group.since_written = (0, 0);
        write_members(cx, log, entry.log, entry.seq);
    }
}

/// What an entry behind the log's head means to the devices: its author's may have it, the others get a mark in their inboxes.
fn note_in_devices(cx: &mut Cx, log: &mut Log, entry: &Entry) {
    let before = log.head;
    let hears = |member: &&mut Member| member.hears(entry.seq) && !entry.is_withheld_from(member.user);
    for member in log.members.iter_mut().filter(hears) {
        for state in &mut member.devices {
            let is_author = Author { user: member.user, device: state.id } == entry.author;
            if is_author {
                let highest = Highest::Id(entry.client_id);
                state.highest = match state.highest {
                    Highest::Id(before) if before > entry.client_id => Highest::Id(before),
                    // Who has come by this entry may have said something before.
                    Highest::Unknown => Highest::Unknown,
                    Highest::Id(_) | Highest::None => highest,
                };
            }
            if is_author && state.position == before {
                // It has what it sent, and nothing before it is missing.
                state.position = entry.seq;
            } else if !state.marked && !is(Mutation::ForgetMark) {
                state.marked = true;
                let mark = keys::inbox_mark(member.user.get(), state.id.get(), entry.log);
                cx.put_bytes(log.slot, mark, &[]);
            }
        }
    }
}
