//! The brain of one core: a router and its departments.
//!
//! It takes an input to the department that it is for, and lets effects out. All that comes in one turn of the shell is decided
//! one after another; [`Shard::end_turn`] then submits what was written as one batch. Messages to the own core are handled in the
//! same turn, in order, like those from others.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tern_storage::{CommitId, Completion, ReadId, Rows, Slot, StoreError};
use tern_wire::errors::{Reason, Refusal};

use crate::accounts::Accounts;
use crate::admin::{AdminRequest, AdminResponse, CoreStatus};
use crate::cx::{Cx, DeskOf, Ground};
use crate::desk::{Desk, Store};
use crate::effects::{Effects, Filtering, MoveStep, Pushing};
use crate::entropy::Entropy;
use crate::front::Front;
use crate::identity::StoreIdentity;
use crate::input::Input;
use crate::limits::Limits;
use crate::load::{Load, Loads, Work};
use crate::logs::Logs;
use crate::media::{Media, MediaDoor};
use crate::message::{HandOver, Message, OfPushes, Unreadable, UserOp};
use crate::moving::{Moving, Way};
use crate::mutations::{Mutation, is};
use crate::reply::{ConnId, Undone};
use crate::slots::{CoreId, ProcessId, SlotTable, Taken};
use crate::tokens::Keys;
use crate::trouble::Trouble;
use crate::volatile::Volatile;

/// What a brain is made of.
#[derive(Debug)]
pub struct Setup {
    /// Of which process it is.
    pub process: ProcessId,
    /// Which core of it.
    pub core: CoreId,
    /// Who owns which slot.
    pub slots: SlotTable,
    /// The store's lanes that it writes in: what fails in one is nothing to what is written in another.
    pub lanes: u16,
    /// Its bounds.
    pub limits: Limits,
    /// Which store it is, and which of its runs.
    pub identity: StoreIdentity,
    /// The installation's keys.
    pub keys: Keys,
    /// 32 bytes of entropy, of its own.
    pub seed: [u8; 32],
    /// One-time codes may be shown to operators.
    pub development: bool,
}

/// One core's brain.
#[derive(Debug)]
pub struct Shard {
    ground: Ground,
    front: Front,
    front_desk: DeskOf<Front>,
    accounts: Accounts,
    accounts_desk: DeskOf<Accounts>,
    logs: Logs,
    logs_desk: DeskOf<Logs>,
    volatile: Volatile,
    volatile_desk: DeskOf<Volatile>,
    media: Media,
    media_desk: DeskOf<Media>,
}

/// What a department's handlers get, of a brain.
macro_rules! cx {
    ($shard:ident, $now_ms:expr, $desk:ident, $fx:expr) => {
        &mut Cx::new($now_ms, &mut $shard.ground, &mut $shard.$desk, $fx)
    };
}

impl Shard {
    /// A brain that remembers nothing.
    pub fn new(setup: Setup) -> Self {
        let Setup { process, core, slots, lanes, limits, identity, keys, seed, development } = setup;
        let mut entropy = Entropy::new(seed);
        let hashing = entropy.hashing();
        let keys = Arc::new(keys);
        Self {
            front: Front::new(identity, keys.clone(), hashing),
            front_desk: Desk::new(lanes, hashing),
            accounts: Accounts::new((process, core), keys, development, &limits, hashing),
            accounts_desk: Desk::new(lanes, hashing),
            logs: Logs::new(core, hashing),
            logs_desk: Desk::new(lanes, hashing),
            volatile: Volatile::new(hashing),
            volatile_desk: Desk::new(lanes, hashing),
            media: Media::default(),
            media_desk: Desk::new(lanes, hashing),
            ground: Ground {
                process,
                core,
                moving: Moving::new(core, slots),
                limits,
                filtering: None,
                pushing: None,
                media: None,
                entropy,
                store: Store::new(lanes),
                trouble: Trouble::default(),
                loads: Loads::new(),
                local: VecDeque::new(),
                put_off: VecDeque::new(),
            },
        }
    }

    /// The same, with a content filter that looks at what is said.
    pub fn with_filter(mut self, filtering: Option<Filtering>) -> Self {
        self.ground.filtering = filtering;
        self
    }

    /// The same, which has devices told by push services.
    pub fn with_pushes(mut self, pushing: Option<Pushing>) -> Self {
        self.ground.pushing = pushing;
        self
    }

    /// The same, which takes media.
    pub fn with_media(mut self, media: Option<MediaDoor>) -> Self {
        self.ground.media = media;
        self
    }

    /// Takes one input. `now_ms` is ms since the Unix epoch and never falls.
    pub fn handle(&mut self, now_ms: u64, input: Input<'_>, fx: &mut dyn Effects) {
        match input {
            Input::Told(message) => self.told(now_ms, message, fx),
            Input::Completed(completion) => self.completed(now_ms, completion, fx),
            Input::Seen(log, number, verdict) => {
                self.logs.seen(cx!(self, now_ms, logs_desk, fx), log, number, verdict);
            }
            Input::Pushed(pushed) => {
                // Its user may be another core's by now.
                let op = UserOp::OfPushes(Box::new(OfPushes::Pushed(pushed)));
                let cx: &mut Cx<'_, Accounts> = cx!(self, now_ms, accounts_desk, fx);
                cx.tell_user(pushed.device.user, op);
            }
            Input::Asked(question, AdminRequest::Status) => {
                fx.answer(question, AdminResponse::Status(self.status()));
            }
            Input::Asked(question, AdminRequest::MediumRemoved(medium)) => {
                Media::removed(cx!(self, now_ms, media_desk, fx), question, medium);
            }
            Input::Asked(question, AdminRequest::IsMedium(medium)) => {
                Media::is(cx!(self, now_ms, media_desk, fx), question, medium);
            }
            Input::Asked(question, request) => {
                self.accounts.asked(cx!(self, now_ms, accounts_desk, fx), question, request);
            }
            Input::Tick => {
                self.accounts.tick(cx!(self, now_ms, accounts_desk, fx));
                self.front.tick(cx!(self, now_ms, front_desk, fx));
                self.logs.tick(cx!(self, now_ms, logs_desk, fx));
                self.media.tick(cx!(self, now_ms, media_desk, fx));
            }
            Input::Drain => {
                self.front.farewell_to_all(cx!(self, now_ms, front_desk, fx));
                self.logs.ends(cx!(self, now_ms, logs_desk, fx));
                self.accounts.pushes_end(cx!(self, now_ms, accounts_desk, fx));
            }
            Input::Slots(table) => self.table_came(now_ms, table, fx),
            input => self.of_connection(now_ms, input, fx),
        }
        self.tell_itself(now_ms, fx);
        self.drain(fx);
    }

    fn tell_itself(&mut self, now_ms: u64, fx: &mut dyn Effects) {
        while let Some(message) = self.ground.local.pop_front() {
            self.told(now_ms, message, fx);
        }
    }

    fn of_connection(&mut self, now_ms: u64, input: Input<'_>, fx: &mut dyn Effects) {
        let cx = cx!(self, now_ms, front_desk, fx);
        match input {
            Input::Opened(conn, number) => self.front.opened(cx, conn, number),
            Input::Arrived(conn, arrival) => self.front.arrived(cx, conn, arrival),
            Input::Frame(conn, bytes) => self.front.frame(cx, conn, bytes),
            Input::Broken(conn, farewell) => self.front.farewell(cx, conn, farewell),
            Input::Finished(conn) => self.front.finished(cx, conn),
            Input::Drained(conn) => self.front.drained(cx, conn),
            Input::Closed(conn) => self.front.closed(cx, conn),
            Input::Lost(arrival) => Front::lost(cx, &arrival),
            Input::Told(_)
            | Input::Completed(_)
            | Input::Asked(..)
            | Input::Seen(..)
            | Input::Pushed(_)
            | Input::Slots(_)
            | Input::Drain
            | Input::Tick => unreachable!("these are of no connection"),
        }
    }

    /// A table has come: what is said from here on goes to the owners that it names. What was asked of those who are gone is asked
    /// again before anything newer is.
    fn table_came(&mut self, now_ms: u64, table: SlotTable, fx: &mut dyn Effects) {
        let taken = self.ground.moving.taken(&table);
        let was_draining = self.ground.moving.is_draining();
        if taken.is_empty() {
            self.front.slot_moved();
        }
        for (core, marker) in self.ground.moving.change(table) {
            self.ground.tell(core, marker, fx);
        }
        for slot in self.ground.moving.draining().into_iter().filter(|_| !was_draining) {
            fx.slot_moves(slot, MoveStep::Left);
        }
        if !taken.is_empty() {
            let taken = Taken::new(taken);
            self.logs.owners_gone(cx!(self, now_ms, logs_desk, fx), &taken);
            self.accounts.owners_gone(&taken);
            self.front.owners_gone(cx!(self, now_ms, front_desk, fx), &taken);
        }
    }

    /// Ends a turn: what was written goes to the store, unless nobody waits for it yet, and reads that found no room are tried
    /// again.
    pub fn end_turn(&mut self, now_ms: u64, fx: &mut dyn Effects) {
        if self.volatile.has_more() {
            self.volatile.go_on(cx!(self, now_ms, volatile_desk, fx));
            self.tell_itself(now_ms, fx);
        }
        if self.ground.moving.is_draining() {
            // What is written of a slot that is to be let go is waited for.
            self.ground.store.hurry();
        }
        if self.ground.store.is_due(now_ms, self.ground.limits.lazy_ms) {
            for lane in self.ground.store.lanes() {
                if let Some(commit) = self.ground.store.submit(lane, self.ground.moving.table(), fx) {
                    self.accounts_desk.submitted(lane, commit);
                    self.logs_desk.submitted(lane, commit);
                    self.media_desk.submitted(lane, commit);
                }
            }
            self.ground.store.submitted();
        }
        self.accounts_desk.retry(fx);
        self.logs_desk.retry(fx);
        self.media_desk.retry(fx);
    }

    /// Within how many ms the core must have another turn for what was written and nobody waits for, if there is such; or at once, for
    /// many are to be told something.
    pub fn lazy_for_ms(&self, now_ms: u64) -> Option<u64> {
        if self.volatile.has_more() {
            return Some(0);
        }
        self.ground.store.lazy_for_ms(now_ms, self.ground.limits.lazy_ms)
    }

    /// Whether nothing waits for the store: a draining node may stop then.
    pub fn is_quiet(&self) -> bool {
        self.ground.store.is_quiet()
    }

    /// Commits that the store has not completed.
    pub fn commits_in_flight(&self) -> usize {
        self.ground.store.in_flight()
    }

    /// Users and logs whose state is in memory.
    pub fn in_memory(&self) -> (usize, usize) {
        (self.accounts.count(), self.logs.count())
    }

    /// What connections of this core have asked of owners and is not answered, and how many answers came late, or once more.
    pub fn asks(&self) -> (usize, u64) {
        self.front.asks()
    }

    /// The longest frame that a connection may send now, in bytes without the length prefix.
    pub fn frame_bytes_max(&mut self, conn: ConnId) -> usize {
        self.front.frame_bytes_max(conn)
    }

    /// What the core holds now.
    pub fn status(&self) -> CoreStatus {
        CoreStatus {
            core: self.ground.core.0,
            slots: self.ground.moving.table().owned_by(self.ground.core),
            connections: self.front.connections(),
            sessions: self.front.sessions(),
            logs: self.logs.count(),
            users: self.accounts.count(),
            commits_in_flight: self.ground.store.in_flight(),
        }
    }

    /// What this core has done for each slot since it began.
    pub fn loads(&self) -> &[Load] {
        self.ground.loads.all()
    }

    /// The version of the newest table that has come.
    pub fn slots_version(&self) -> u64 {
        self.ground.moving.table().version()
    }

    /// Slots on their way from core to core, as far as this core has to do with them.
    pub fn slots_moving(&self) -> usize {
        self.ground.moving.count()
    }

    fn told(&mut self, now_ms: u64, message: Message, fx: &mut dyn Effects) {
        let Some(slot) = message.slot() else { return self.told_core(now_ms, message, fx) };
        match self.ground.moving.came(slot, message) {
            Way::To(core, message) if core == self.ground.core => {
                self.ground.loads.count(slot, Work::Decided);
                self.decide(now_ms, message, fx);
            }
            Way::To(core, message) => self.ground.tell(core, message, fx),
            Way::ToLast(..) => unreachable!("what has come is not said by this core"),
            Way::Waits => {}
            Way::Full(message) => self.refuse(now_ms, message, fx),
        }
    }

    /// A message for this core, or for a connection of it.
    fn told_core(&mut self, now_ms: u64, message: Message, fx: &mut dyn Effects) {
        match message {
            Message::Front(conn, op) => self.front.told(cx!(self, now_ms, front_desk, fx), conn, op),
            Message::Slot(taken) => self.take_up(now_ms, *taken, fx),
            Message::Passed(slot) => {
                let (owner, held) = self.ground.moving.passed(slot);
                for message in held {
                    self.ground.tell(owner, message, fx);
                }
            }
            Message::Flush { slot, from } => fx.tell(from, Message::Flushed(slot)),
            Message::Flushed(slot) => self.flushed(slot, fx),
            Message::Refuse(message) => self.refuse(now_ms, *message, fx),
            Message::Users(all) => {
                for (user, op) in all {
                    self.told(now_ms, Message::User(user, op), fx);
                }
            }
            Message::Volatiles(all) => {
                for (subject, op) in all {
                    self.told(now_ms, Message::Volatile(subject, op), fx);
                }
            }
            Message::Marker { .. }
            | Message::Network(..)
            | Message::Phone(..)
            | Message::User(..)
            | Message::Volatile(..)
            | Message::Log(..) => unreachable!("these are for the owner of a slot"),
        }
    }

    /// A message for a slot of this core.
    fn decide(&mut self, now_ms: u64, message: Message, fx: &mut dyn Effects) {
        match message {
            Message::Log(log, op) => self.logs.told(cx!(self, now_ms, logs_desk, fx), log, op),
            Message::Volatile(subject, op) => {
                self.volatile.told(cx!(self, now_ms, volatile_desk, fx), subject, op);
            }
            Message::User(user, op) => {
                self.accounts.user_told(cx!(self, now_ms, accounts_desk, fx), user, op);
            }
            Message::Phone(phone, op) => {
                self.accounts.phone_told(cx!(self, now_ms, accounts_desk, fx), phone, op);
            }
            Message::Network(network, op) => {
                self.accounts.network_told(cx!(self, now_ms, accounts_desk, fx), network, op);
            }
            Message::Marker { slot, from, .. } => self.ground.tell(from, Message::Passed(slot), fx),
            Message::Front(..)
            | Message::Slot(_)
            | Message::Passed(_)
            | Message::Flush { .. }
            | Message::Flushed(_)
            | Message::Users(_)
            | Message::Volatiles(_)
            | Message::Refuse(_) => unreachable!("these are of no slot"),
        }
    }

    /// A request has to wait for a slot that moves, and too much does.
    fn refuse(&mut self, now_ms: u64, message: Message, fx: &mut dyn Effects) {
        let cx = cx!(self, now_ms, accounts_desk, fx);
        let refusal = cx.overloaded();
        match message {
            Message::User(user, op) => Accounts::refuse_user(cx, user, op, refusal),
            Message::Phone(_, op) => Accounts::refuse_phone(cx, op, refusal),
            Message::Network(network, op) => Accounts::refuse_network(cx, network, op, refusal),
            Message::Log(log, op) => Logs::refuse(cx!(self, now_ms, logs_desk, fx), log, op, refusal),
            Message::Front(..)
            | Message::Slot(_)
            | Message::Marker { .. }
            | Message::Passed(_)
            | Message::Flush { .. }
            | Message::Flushed(_)
            | Message::Users(_)
            | Message::Volatile(..)
            | Message::Volatiles(_)
            | Message::Refuse(_) => unreachable!("only requests are refused"),
        }
    }

    /// Goes on with the slots that this core is to let go: when nothing of one is under way, all that was said of it is flushed.
    fn drain(&mut self, fx: &mut dyn Effects) {
        for slot in self.ground.moving.draining() {
            if !self.is_still(slot) {
                continue;
            }
            if is(Mutation::SkipFlush) {
                self.hand_over(slot, fx);
            } else {
                for core in self.ground.moving.flush(slot) {
                    fx.tell(core, Message::Flush { slot, from: self.ground.core });
                }
            }
        }
    }

    /// All that was said of a slot has come. If nothing has come to be under way meanwhile, it is handed over.
    fn flushed(&mut self, slot: Slot, fx: &mut dyn Effects) {
        if self.ground.moving.flushed(slot) && self.is_still(slot) {
            self.hand_over(slot, fx);
        }
    }

    fn hand_over(&mut self, slot: Slot, fx: &mut dyn Effects) {
        let (accounts, logs) = (self.accounts.let_go(slot), self.logs.let_go(slot));
        let volatile = self.volatile.let_go(slot);
        let (owner, waited) = self.ground.moving.let_go(slot);
        fx.tell(owner, Message::Slot(Box::new(HandOver { slot, accounts, logs, volatile })));
        for message in waited {
            fx.tell(owner, message);
        }
    }

    fn is_still(&self, slot: Slot) -> bool {
        // What is being read for somebody is answered by whoever has asked the store for it.
        let answers = self.accounts_desk.scans(|scan| scan.answers_of() == Some(slot));
        let is_still = !answers
            && self.ground.store.is_still(slot)
            && self.accounts.is_still(slot)
            && self.logs.is_still(slot);
        is_still || is(Mutation::MoveBesideWrites)
    }

    fn take_up(&mut self, now_ms: u64, taken: HandOver, fx: &mut dyn Effects) {
        let HandOver { slot, accounts, logs, volatile } = taken;
        self.volatile.take_up(volatile);
        self.accounts.take_up(cx!(self, now_ms, accounts_desk, fx), accounts);
        self.logs.take_up(cx!(self, now_ms, logs_desk, fx), logs);
        for message in self.ground.moving.taken_up(slot) {
            self.decide(now_ms, message, fx);
        }
        fx.slot_moves(slot, MoveStep::Taken);
    }

    fn completed(&mut self, now_ms: u64, completion: Completion, fx: &mut dyn Effects) {
        match completion {
            Completion::Committed(proof) => {
                let commit = proof.commit();
                self.ground.store.ended(commit);
                self.ground.committed(fx);
                for after in self.logs_desk.ended(commit) {
                    self.logs.written(cx!(self, now_ms, logs_desk, fx), &proof, after);
                }
                for after in self.accounts_desk.ended(commit) {
                    self.accounts.written(cx!(self, now_ms, accounts_desk, fx), after);
                }
                for after in self.media_desk.ended(commit) {
                    Media::written(cx!(self, now_ms, media_desk, fx), after);
                }
            }
            Completion::CommitFailed { commit, error } => self.commit_failed(now_ms, commit, &error, fx),
            Completion::Value { read, result } => {
                let result = result.map_err(|error| self.read_failed(now_ms, &error, fx));
                self.value_came(now_ms, read, result, fx);
            }
            Completion::Rows { read, result } => {
                let result = result.map_err(|error| self.read_failed(now_ms, &error, fx));
                self.rows_came(now_ms, read, result, fx);
            }
        }
    }

    fn value_came(
        &mut self,
        now_ms: u64,
        read: ReadId,
        result: Result<Option<Bytes>, Unreadable>,
        fx: &mut dyn Effects,
    ) {
        if let Some(purpose) = self.logs_desk.got(read) {
            self.logs.got(cx!(self, now_ms, logs_desk, fx), purpose, result);
        } else {
            let purpose = self.accounts_desk.got(read).expect("the store completes only what was asked for");
            self.accounts.got(cx!(self, now_ms, accounts_desk, fx), purpose, result);
        }
    }

    fn rows_came(
        &mut self,
        now_ms: u64,
        read: ReadId,
        result: Result<Rows, Unreadable>,
        fx: &mut dyn Effects,
    ) {
        if let Some(purpose) = self.logs_desk.scanned(read) {
            self.logs.scanned(cx!(self, now_ms, logs_desk, fx), purpose, result);
        } else if let Some(purpose) = self.media_desk.scanned(read) {
            self.media.scanned(cx!(self, now_ms, media_desk, fx), purpose, result);
        } else {
            let purpose =
                self.accounts_desk.scanned(read).expect("the store completes only what was asked for");
            self.accounts.scanned(cx!(self, now_ms, accounts_desk, fx), purpose, result);
        }
    }

    /// A batch is not in the store, or nobody knows. The engine then fails all that this core submitted in its lane before it could
    /// know, so the state in memory is ahead of the store from that batch on: what follows from it is undone, what it came
    /// from is read again when no write of it is under way. Other lanes go on.
    fn commit_failed(&mut self, now_ms: u64, commit: CommitId, error: &StoreError, fx: &mut dyn Effects) {
        let lane = self.ground.store.ended(commit);
        self.ground.commit_failed(fx, error);
        self.ground.store.discard_open(lane);
        let undone = match error {
            StoreError::Full => {
                Undone::Refused(Refusal::for_now(Reason::StorageFull, 10_000, "the store is full"))
            }
            StoreError::Unreachable { .. } | StoreError::Fenced { .. } | StoreError::Corrupt { .. } => {
                Undone::Refused(Refusal::for_now(Reason::Unavailable, 1000, "the store did not take it"))
            }
            StoreError::Failed { .. } if is(Mutation::RefuseUnknown) => {
                Undone::Refused(Refusal::for_now(Reason::Unavailable, 1000, "the store has failed"))
            }
            StoreError::Failed { .. } => Undone::Unknown,
        };
        let mut of_logs = self.logs_desk.ended(commit);
        of_logs.append(&mut self.logs_desk.discard_open(lane));
        let mut of_accounts = self.accounts_desk.ended(commit);
        of_accounts.append(&mut self.accounts_desk.discard_open(lane));
        let mut of_media = self.media_desk.ended(commit);
        of_media.append(&mut self.media_desk.discard_open(lane));
        for after in of_logs {
            self.logs.undone(cx!(self, now_ms, logs_desk, fx), after, undone);
        }
        for after in of_accounts {
            self.accounts.undone(cx!(self, now_ms, accounts_desk, fx), after, undone);
        }
        for after in of_media {
            Media::undone(cx!(self, now_ms, media_desk, fx), after);
        }
    }

    fn read_failed(&mut self, now_ms: u64, error: &StoreError, fx: &mut dyn Effects) -> Unreadable {
        self.ground.read_failed(now_ms, fx, error);
        match error {
            StoreError::Corrupt { .. } => Unreadable::Damaged,
            StoreError::Full
            | StoreError::Unreachable { .. }
            | StoreError::Fenced { .. }
            | StoreError::Failed { .. } => Unreadable::ForNow,
        }
    }
}
