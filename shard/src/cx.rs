//! What a handler of a department has at hand: the time, the core's ground, its department's desk at the store, and the way out.
//!
//! A department gets nothing else: it can't name another's state. What only some may do to the world (frames, codes) has methods for
//! those alone.

use std::collections::VecDeque;
use std::time::Duration;

use tern_proto::v1;
use tern_storage::{Direction, Epoch, Key, KeyRange, LogId, ScanLimit, Slot, StoreError};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::{ClientMessageId, MediaId, Phone, UserId};

use crate::admin::AdminResponse;
use crate::desk::{Desk, Store, Urgency};
use crate::effects::{Effects, Filtering, Gone, Push, Pushing, Question, Stage};
use crate::entropy::Entropy;
use crate::entry::Author;
use crate::limits::{Limits, PUT_OFF_MAX, PUT_OFF_MS};
use crate::load::{Loads, Work};
use crate::media::MediaDoor;
use crate::message::{Dispatched, FrontOp, LogOp, Message, PhoneOp, Subject, UserOp, VolatileOp};
use crate::moving::{Moving, Way};
use crate::reply::{Asker, ConnId, Origin, Place, Reply};
use crate::slots::{CoreId, ProcessId};
use crate::trouble::Trouble;

/// A part of the brain with a state of its own.
pub(crate) trait Department {
    /// What follows a write.
    type After: std::fmt::Debug;
    /// What a get is for.
    type Get: std::fmt::Debug;
    /// What a scan is for.
    type Scan: std::fmt::Debug;
}

/// A department that may do something to connections.
pub(crate) trait KnowsFrames: Department {}

/// A department that answers operators, and the parts of the server beside the cores.
pub(crate) trait AnswersQuestions: Department {}

/// A department that makes codes, tokens and ids.
pub(crate) trait KnowsPeople: Department {}

/// A department that has media removed.
pub(crate) trait KnowsMedia: Department {}

/// A department that has a content filter look at what is said.
pub(crate) trait KnowsWords: Department {}

/// The desk of a department.
pub(crate) type DeskOf<D> = Desk<<D as Department>::After, <D as Department>::Get, <D as Department>::Scan>;

/// For a department that has no such thing.
#[derive(Debug)]
pub(crate) enum Never {}

/// What all departments of a core stand on.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) process: ProcessId,
    pub(crate) core: CoreId,
    pub(crate) moving: Moving,
    pub(crate) limits: Limits,
    /// What a content filter is asked about, if there is one.
    pub(crate) filtering: Option<Filtering>,
    /// Which push services there are, if any.
    pub(crate) pushing: Option<Pushing>,
    /// Where media are had, if the server takes any.
    pub(crate) media: Option<MediaDoor>,
    pub(crate) entropy: Entropy,
    pub(crate) store: Store,
    pub(crate) trouble: Trouble,
    pub(crate) loads: Loads,
    /// Messages to this very core: handled in the same turn, in order, like those from others.
    pub(crate) local: VecDeque<Message>,
    /// What nobody waits for, could not be decided on, and is said again from a time on (ms since the Unix epoch).
    pub(crate) put_off: VecDeque<(u64, Later)>,
}

/// What is said again.
#[derive(Debug)]
pub(crate) enum Later {
    /// To an owner.
    Owner(Message),
    /// To a connection, wherever it is, if it is still there.
    Front(Place, FrontOp),
}

/// See the module.
pub(crate) struct Cx<'a, D: Department> {
    /// Ms since the Unix epoch; never falls.
    pub(crate) now_ms: u64,
    ground: &'a mut Ground,
    desk: &'a mut DeskOf<D>,
    fx: &'a mut dyn Effects,
}

const OVERLOADED: &str = "too much is under way, try again";

impl<'a, D: Department> Cx<'a, D> {
    pub(crate) fn new(
        now_ms: u64,
        ground: &'a mut Ground,
        desk: &'a mut DeskOf<D>,
        fx: &'a mut dyn Effects,
    ) -> Self {
        Self { now_ms, ground, desk, fx }
    }

    /// The bounds of this core.
    pub(crate) fn limits(&self) -> &Limits {
        &self.ground.limits
    }

    /// The place of a connection of this core.
    pub(crate) fn place(&self, conn: ConnId) -> Place {
        Place { process: self.ground.process, core: self.ground.core, conn }
    }

    /// Whether the server takes media.
    pub(crate) fn has_media(&self) -> bool {
        self.ground.media.is_some()
    }

    /// Whether devices are told by push services.
    pub(crate) fn has_pushes(&self) -> bool {
        self.ground.pushing.is_some()
    }

    /// The URL under which media are had; empty: there are none.
    pub(crate) fn media_url(&self) -> String {
        self.ground.media.as_ref().map_or(String::new(), |media| media.url.clone())
    }

    /// A link to a medium, for whoever may have it.
    pub(crate) fn link(&self, medium: MediaId) -> Option<Box<v1::MediumLink>> {
        let media = self.ground.media.as_ref()?;
        let valid = Duration::from_millis(self.ground.limits.media_link_valid_ms);
        let (path, end_s) = media.links.sign(medium, self.now_ms / 1000, valid);
        Some(Box::new(v1::MediumLink { url: format!("{}{path}", media.url), until_ms: end_s * 1000 }))
    }

    /// The core that owns a slot.
    pub(crate) fn owner(&self, slot: Slot) -> CoreId {
        self.ground.moving.table().owner(slot)
    }

    /// The epoch of a slot.
    pub(crate) fn epoch(&self, slot: Slot) -> Epoch {
        self.ground.moving.table().epoch(slot)
    }

    /// Whether this core owns a slot.
    pub(crate) fn owns(&self, slot: Slot) -> bool {
        self.owner(slot) == self.ground.core
    }

    /// Whether what is said to a slot goes to its owner, and nowhere else.
    pub(crate) fn is_settled(&self, slot: Slot) -> bool {
        self.ground.moving.is_settled(slot)
    }

    /// Whether a slot is this core's, and does not move.
    pub(crate) fn is_here(&self, slot: Slot) -> bool {
        self.ground.moving.is_here(slot)
    }

    /// A refusal for now, for some bound is reached.
    pub(crate) fn overloaded(&self) -> Refusal {
        Refusal::for_now(Reason::Overloaded, self.ground.limits.overloaded_retry_after_ms, OVERLOADED)
    }

    // ---- messages

    /// Tells the owner of what a message is about. Gives it back if it has to wait for a slot that moves, and too much does.
    fn tell(&mut self, slot: Slot, message: Message) -> Option<Message> {
        match self.ground.moving.way(slot, message) {
            Way::To(core, message) => self.ground.tell(core, message, self.fx),
            Way::ToLast(core, message) => {
                let marker = self.ground.moving.marker(slot);
                self.ground.tell(core, message, self.fx);
                self.ground.tell(core, marker, self.fx);
            }
            Way::Waits => {}
            Way::Full(message) => return Some(message),
        }
        None
    }

    /// Tells a connection, wherever it is. An answer to an earlier process finds nobody.
    pub(crate) fn tell_front(&mut self, place: Place, op: FrontOp) {
        if place.process == self.ground.process {
            self.ground.tell(place.core, Message::Front(place.conn, op), self.fx);
        }
    }

    /// Tells a user's owner.
    pub(crate) fn tell_user(&mut self, user: UserId, op: UserOp) {
        self.tell_owner(Slot::of_user(user.get()), Message::User(user, op));
    }

    /// Tells many users' owners what follows from one thing: one message a core.
    pub(crate) fn tell_users(&mut self, all: impl Iterator<Item = (UserId, UserOp)>) {
        self.tell_owners(all, |user| Slot::of_user(user.get()), Message::User, Message::Users);
    }

    /// Tells the owner of a person or a group of those who show it.
    pub(crate) fn tell_volatile(&mut self, subject: Subject, op: VolatileOp) {
        self.tell_owner(subject.slot(), Message::Volatile(subject, op));
    }

    /// The same for many: one message a core.
    pub(crate) fn tell_volatiles(&mut self, all: impl Iterator<Item = (Subject, VolatileOp)>) {
        self.tell_owners(all, |subject| subject.slot(), Message::Volatile, Message::Volatiles);
    }

    /// Tells the owners of many slots: one message a core, but for slots that move, each of which has its own.
    fn tell_owners<K, Op>(
        &mut self,
        all: impl Iterator<Item = (K, Op)>,
        slot_of: impl Fn(&K) -> Slot,
        one: impl Fn(K, Op) -> Message,
        many: impl Fn(Vec<(K, Op)>) -> Message,
    ) {
        let mut by_core: Vec<(CoreId, Vec<(K, Op)>)> = Vec::new();
        for (whose, op) in all {
            let slot = slot_of(&whose);
            if !self.ground.moving.is_settled(slot) {
                self.tell_owner(slot, one(whose, op));
                continue;
            }
            let owner = self.owner(slot);
            match by_core.iter_mut().find(|(core, _)| *core == owner) {
                Some((_, told)) => told.push((whose, op)),
                None => by_core.push((owner, vec![(whose, op)])),
            }
        }
        for (core, told) in by_core {
            self.ground.tell(core, many(told), self.fx);
        }
    }

    /// Tells a log's owner.
    pub(crate) fn tell_log(&mut self, log: LogId, op: LogOp) {
        self.tell_owner(Slot::of_log(log), Message::Log(log, op));
    }

    /// Tells the owner of a slot. What can't wait for one that moves is refused by this core, as if it were the owner's word.
    pub(crate) fn tell_owner(&mut self, slot: Slot, message: Message) {
        if let Some(message) = self.tell(slot, message) {
            self.ground.local.push_back(Message::Refuse(Box::new(message)));
        }
    }

    /// Has something said after a while, for an owner could not decide: what it is about can't be read now. Beyond so many the
    /// oldest are not said.
    pub(crate) fn put_off(&mut self, what: Later) {
        let put_off = &mut self.ground.put_off;
        put_off.push_back((self.now_ms + PUT_OFF_MS, what));
        if put_off.len() > PUT_OFF_MAX {
            put_off.pop_front();
        }
    }

    /// Says what was put off and is due.
    pub(crate) fn say_put_off(&mut self) {
        // What was put off meanwhile is not due; and a clock that was set back is not waited for.
        let all = self.ground.put_off.len();
        for _ in 0..all {
            let Some((due_ms, what)) = self.ground.put_off.pop_front() else { return };
            if due_ms > self.now_ms && due_ms <= self.now_ms + PUT_OFF_MS {
                self.ground.put_off.push_back((due_ms, what));
                continue;
            }
            match what {
                Later::Owner(message) => {
                    let slot = message.slot().expect("it is said to an owner");
                    self.tell_owner(slot, message);
                }
                Later::Front(place, op) => self.tell_front(place, op),
            }
        }
    }

    /// Sends a request on to the owner of what it is about, unless so much waits there that it is refused.
    pub(crate) fn ask(&mut self, origin: Origin, message: Message) {
        let slot = message.slot().expect("a request goes on to an owner");
        self.ask_in(slot, origin, message);
    }

    /// See [`Cx::ask`].
    pub(crate) fn ask_phone(&mut self, origin: Origin, phone: Phone, op: PhoneOp) {
        self.ask(origin, Message::Phone(phone, op));
    }

    /// See [`Cx::ask`]. For those who know the slot.
    pub(crate) fn ask_in(&mut self, slot: Slot, asker: impl Into<Asker>, message: Message) {
        let owner = self.owner(slot);
        if owner != self.ground.core && self.fx.congested(owner) {
            let refusal = self.overloaded();
            return self.refuse(asker, refusal);
        }
        self.tell_owner(slot, message);
    }

    /// See [`Cx::ask`].
    pub(crate) fn ask_log(&mut self, origin: Origin, log: LogId, op: LogOp) {
        self.ask(origin, Message::Log(log, op));
    }

    /// Answers a request, wherever who asks is.
    pub(crate) fn reply(&mut self, asker: impl Into<Asker>, reply: Reply) {
        match (asker.into(), reply) {
            (Asker::Connection(origin), reply) => {
                self.tell_front(origin.place, FrontOp::Reply(origin.ask, reply));
            }
            (Asker::Schedule(of), Reply::Sent(proof, ..)) => {
                let sent = Ok((proof.seq(), proof.time_ms()));
                self.tell_log(of.log(), LogOp::Dispatched(Box::new(Dispatched { of, sent })));
            }
            (Asker::Schedule(of), Reply::Refused(refusal)) => {
                let sent = Err(refusal);
                self.tell_log(of.log(), LogOp::Dispatched(Box::new(Dispatched { of, sent })));
            }
            // It has left, or had before.
            (
                Asker::Parting(parting),
                Reply::Sent(..)
                | Reply::Refused(Refusal { reason: Reason::NotAMember | Reason::UnknownGroup, .. }),
            ) => self.tell_log(parting.log, LogOp::Part(parting)),
            (Asker::Parting(parting), _) => self.tell_user(parting.user, UserOp::Parted(parting, false)),
            // What is not known is asked again.
            (Asker::Schedule(..) | Asker::Nobody, _) => {}
        }
    }

    /// Refuses a request, wherever who asks is.
    pub(crate) fn refuse(&mut self, asker: impl Into<Asker>, refusal: Refusal) {
        self.reply(asker, Reply::Refused(refusal));
    }

    // ---- the store

    /// Writes a record. `by` is the slot whose owner decided so.
    pub(crate) fn put(&mut self, by: Slot, key: Key, record: &impl prost::Message) {
        self.write(by, |store| store.put_record(by, &key, record, Urgency::Urgent));
    }

    /// The same for what can be lost, or made again, without harm: nobody waits for it.
    pub(crate) fn put_lazily(&mut self, by: Slot, key: Key, record: &impl prost::Message) {
        let lazy = Urgency::Lazy(self.now_ms);
        self.write(by, |store| store.put_record(by, &key, record, lazy));
    }

    /// Writes a value.
    pub(crate) fn put_bytes(&mut self, by: Slot, key: Key, value: &[u8]) {
        self.write(by, |store| store.put(by, &key, value, Urgency::Urgent));
    }

    /// See [`Cx::put_lazily`].
    pub(crate) fn put_bytes_lazily(&mut self, by: Slot, key: Key, value: &[u8]) {
        let lazy = Urgency::Lazy(self.now_ms);
        self.write(by, |store| store.put(by, &key, value, lazy));
    }

    /// Removes a key.
    pub(crate) fn delete(&mut self, by: Slot, key: Key) {
        self.write(by, |store| store.delete(by, key, Urgency::Urgent));
    }

    /// See [`Cx::put_lazily`].
    pub(crate) fn delete_lazily(&mut self, by: Slot, key: Key) {
        let lazy = Urgency::Lazy(self.now_ms);
        self.write(by, |store| store.delete(by, key, lazy));
    }

    /// Writes a row for a slot, and counts it.
    fn write(&mut self, by: Slot, write: impl FnOnce(&mut Store) -> usize) {
        let bytes = write(&mut self.ground.store);
        self.ground.loads.count_row(by, bytes);
    }

    /// Has `after` happen when what a slot's owner decided so far is durable.
    pub(crate) fn after(&mut self, by: Slot, after: D::After) {
        self.desk.then(&mut self.ground.store, by, after, Urgency::Urgent);
    }

    /// The same, and nobody waits for it.
    pub(crate) fn after_lazily(&mut self, by: Slot, after: D::After) {
        self.desk.then(&mut self.ground.store, by, after, Urgency::Lazy(self.now_ms));
    }

    /// Whether a request may write so many bytes.
    pub(crate) fn may_write(&self, bytes: usize) -> bool {
        self.ground.store.has_room(bytes, self.ground.limits.batch_bytes_max)
    }

    /// Whether a request may read.
    pub(crate) fn may_read(&self) -> bool {
        self.desk.has_room()
    }

    /// Reads one key.
    pub(crate) fn get(&mut self, key: Key, purpose: D::Get) {
        self.desk.get(self.fx, key, purpose);
    }

    /// Reads a range.
    pub(crate) fn scan(&mut self, range: KeyRange, direction: Direction, limit: ScanLimit, purpose: D::Scan) {
        self.desk.scan(self.fx, range, direction, limit, purpose);
    }

    /// What the store gave of a record is not what was written: an operator must know. Whose it is, nobody is told.
    pub(crate) fn damaged(&mut self, what: &'static str, key: &Key) {
        if let Some(error) = self.ground.trouble.damaged(self.now_ms, what, key) {
            self.fx.store_trouble(&error);
        }
    }

    /// The number of a part of what is counted of a day: it says nothing.
    pub(crate) fn part_of_counts(&mut self) -> u64 {
        self.ground.entropy.part()
    }

    /// So many entries are kept no longer.
    pub(crate) fn gone(&mut self, how: Gone, entries: u64) {
        self.fx.gone(how, entries);
    }

    /// A message has reached a station of its way.
    pub(crate) fn passed(&mut self, author: Author, client_id: ClientMessageId, stage: Stage) {
        self.fx.passed(author, client_id, stage);
    }
}

impl<D: AnswersQuestions> Cx<'_, D> {
    /// Answers a question.
    pub(crate) fn answer(&mut self, question: u64, response: AdminResponse) {
        self.fx.answer(question, response);
    }
}

impl<D: KnowsPeople> Cx<'_, D> {
    /// Has a one-time code delivered; `false` if the way to the deliverer is full.
    pub(crate) fn deliver_code(&mut self, phone: &Phone, code: &str, expires_ms: u64) -> bool {
        self.fx.deliver_code(phone, code, expires_ms)
    }

    /// Which push services there are, if any.
    pub(crate) fn pushing(&self) -> Option<&Pushing> {
        self.ground.pushing.as_ref()
    }

    /// Has a device told by one; `false` if that can't be done now.
    pub(crate) fn push(&mut self, push: Push) -> bool {
        self.fx.push(push)
    }

    /// The core's randomness.
    pub(crate) fn entropy(&mut self) -> &mut Entropy {
        &mut self.ground.entropy
    }
}

impl<D: KnowsMedia> Cx<'_, D> {
    /// Has the bytes of a medium removed: it is said when they are gone.
    pub(crate) fn remove_medium(&mut self, medium: MediaId) {
        self.fx.remove_medium(medium);
    }
}

impl<D: KnowsWords> Cx<'_, D> {
    /// What a content filter is asked about, if there is one.
    pub(crate) fn filtering(&self) -> Option<Filtering> {
        self.ground.filtering
    }

    /// Has it look at something; `false` if that can't be done now.
    pub(crate) fn look_at(&mut self, question: Question) -> bool {
        self.fx.look_at(question)
    }
}

impl<D: KnowsFrames> Cx<'_, D> {
    /// The shell: frames, and all else that is done to connections.
    pub(crate) fn fx(&mut self) -> &mut dyn Effects {
        self.fx
    }

    /// Something is done for the user of a connection.
    pub(crate) fn count(&mut self, user: UserId, work: Work) {
        self.ground.loads.count(Slot::of_user(user.get()), work);
    }

    /// The owner of a slot has not answered in time: an operator must know.
    pub(crate) fn unanswered(&mut self, slot: Slot) {
        if self.ground.trouble.unanswered(self.now_ms) {
            let owner = self.owner(slot);
            self.fx.unanswered(owner, slot);
        }
    }
}

/// For the router: what became of a read or a write is told to operators in one place.
impl Ground {
    /// Tells a core.
    pub(crate) fn tell(&mut self, core: CoreId, message: Message, fx: &mut dyn Effects) {
        if core == self.core {
            self.local.push_back(message);
        } else {
            fx.tell(core, message);
        }
    }

    pub(crate) fn commit_failed(&mut self, fx: &mut dyn Effects, error: &StoreError) {
        if self.trouble.commit_failed(error) {
            fx.store_trouble(error);
        }
    }

    pub(crate) fn committed(&mut self, fx: &mut dyn Effects) {
        if let Some(refused) = self.trouble.committed() {
            fx.store_recovered(refused);
        }
    }

    pub(crate) fn read_failed(&mut self, now_ms: u64, fx: &mut dyn Effects, error: &StoreError) {
        if self.trouble.read_failed(now_ms, error) {
            fx.store_trouble(error);
        }
    }
}
