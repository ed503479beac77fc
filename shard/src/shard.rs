//! The brain of one core: takes an input, changes its state, lets effects out.
//!
//! All that comes in one turn of the shell is decided one after another; [`Shard::end_turn`] then submits what was
//! written as one batch. Messages to the own core are handled in the same turn, in order, like those from others.

use std::collections::VecDeque;

use tern_storage::{CommitId, Completion, Durable, LogId, ReadId, Rows, Slot, StoreError};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::{Phone, UserId};

use crate::Cx;
use crate::accounts::addresses::Addresses;
use crate::accounts::budgets::Budgets;
use crate::accounts::phones::Phones;
use crate::accounts::tokens::Keys;
use crate::accounts::users::Users;
use crate::accounts::waiting::Waiting;
use crate::admin::{AdminRequest, AdminResponse, CoreStatus};
use crate::commits::{After, Commits};
use crate::connection::Conns;
use crate::effects::Effects;
use crate::entropy::Entropy;
use crate::identity::StoreIdentity;
use crate::input::Input;
use crate::limits::Limits;
use crate::listing::Listings;
use crate::logs::Logs;
use crate::message::{LogOp, Message, PhoneQuestion, Pull, Unreadable, UserOp};
use crate::reads::{LogPart, ReadFor, Reads};
use crate::reply::{Reply, Undone};
use crate::session::INBOX_UNREADABLE;
use crate::slots::{CoreId, SlotMap};
use crate::trouble::Trouble;

/// What a brain is made of.
#[derive(Debug)]
pub struct Setup {
    /// Which core it is.
    pub core: CoreId,
    /// Who owns which slot.
    pub slots: SlotMap,
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
    pub(crate) core: CoreId,
    pub(crate) slots: SlotMap,
    pub(crate) limits: Limits,
    pub(crate) identity: StoreIdentity,
    pub(crate) keys: Keys,
    pub(crate) entropy: Entropy,
    pub(crate) development: bool,
    pub(crate) conns: Conns,
    pub(crate) users: Users,
    pub(crate) phones: Phones,
    pub(crate) addresses: Addresses,
    pub(crate) budgets: Budgets,
    pub(crate) waiting: Waiting,
    pub(crate) listings: Listings,
    pub(crate) logs: Logs,
    pub(crate) commits: Commits,
    pub(crate) reads: Reads,
    pub(crate) trouble: Trouble,
    /// Messages to this very core.
    local: VecDeque<Message>,
}

impl Shard {
    /// A brain that remembers nothing.
    pub fn new(setup: Setup) -> Self {
        let Setup { core, slots, limits, identity, keys, seed, development } = setup;
        let mut entropy = Entropy::new(seed);
        let hashing = entropy.hashing();
        Self {
            core,
            slots,
            budgets: Budgets::new(&limits, hashing),
            limits,
            identity,
            keys,
            entropy,
            development,
            conns: Conns::default(),
            users: Users::new(hashing),
            phones: Phones::new(hashing),
            addresses: Addresses::new(hashing),
            waiting: Waiting::new(hashing),
            listings: Listings::new(hashing),
            logs: Logs::new(hashing),
            commits: Commits::default(),
            reads: Reads::new(hashing),
            trouble: Trouble::default(),
            local: VecDeque::new(),
        }
    }

    /// Takes one input. `now_ms` is ms since the Unix epoch and never falls.
    pub fn handle(&mut self, now_ms: u64, input: Input<'_>, fx: &mut dyn Effects) {
        let cx = &mut Cx { now_ms, fx };
        match input {
            Input::Opened(conn) => self.opened(cx, conn),
            Input::Arrived(conn, arrival) => self.arrived(cx, conn, arrival),
            Input::Frame(conn, bytes) => self.frame(cx, conn, bytes),
            Input::Broken(conn, farewell) => self.farewell(cx, conn, farewell),
            Input::Finished(conn) => self.finished(cx, conn),
            Input::Drained(conn) => self.advance(cx, conn),
            Input::Closed(conn) => self.closed(conn),
            Input::Told(message) => self.told(cx, message),
            Input::Completed(completion) => self.completed(cx, completion),
            Input::Asked(question, request) => self.asked(cx, question, request),
            Input::Tick => self.tick(cx),
            Input::Drain => self.farewell_to_all(cx),
        }
        while let Some(message) = self.local.pop_front() {
            self.told(cx, message);
        }
    }

    /// Ends a turn: what was written goes to the store, and reads that found no room are tried again.
    pub fn end_turn(&mut self, fx: &mut dyn Effects) {
        self.commits.submit(fx);
        self.reads.retry(fx);
    }

    /// Whether nothing waits for the store: a draining node may stop then.
    pub fn is_quiet(&self) -> bool {
        self.commits.is_quiet()
    }

    /// Commits that the store has not completed.
    pub fn commits_in_flight(&self) -> usize {
        self.commits.in_flight()
    }

    /// Users and logs whose state is in memory.
    pub fn in_memory(&self) -> (usize, usize) {
        (self.users.count(), self.logs.count())
    }

    /// What the core holds now.
    pub fn status(&self) -> CoreStatus {
        CoreStatus {
            core: self.core.0,
            slots: self.slots.owned_by(self.core),
            connections: self.conns.count(),
            sessions: self.conns.sessions(),
            logs: self.logs.count(),
            users: self.users.count(),
            commits_in_flight: self.commits.in_flight(),
        }
    }

    pub(crate) fn tell(&mut self, cx: &mut Cx, core: CoreId, message: Message) {
        if core == self.core {
            self.local.push_back(message);
        } else {
            cx.fx.tell(core, message);
        }
    }

    pub(crate) fn tell_user(&mut self, cx: &mut Cx, op: UserOp) {
        let owner = self.slots.owner(Slot::of_user(op.user.get()));
        self.tell(cx, owner, Message::User(op));
    }

    pub(crate) fn tell_log(&mut self, cx: &mut Cx, log: LogId, op: LogOp) {
        let owner = self.slots.owner(Slot::of_log(log));
        self.tell(cx, owner, Message::Log(log, op));
    }

    /// Has `after` happen when what was written so far is durable. What it came from stays in memory until then: read
    /// again meanwhile, it would be older than what was decided on.
    pub(crate) fn then(&mut self, after: After) {
        if let Some(log) = after.log() {
            self.logs.unsettle(log);
        }
        self.count_unsettled(&after, 1);
        self.commits.then(after);
    }

    fn count_unsettled(&mut self, after: &After, change: i32) {
        if let Some(user) = after.user() {
            self.users.count_unsettled(user, change);
        }
        if let Some(phone) = after.phone() {
            self.phones.count_unsettled(phone, change);
        }
    }

    /// Whether what a request to an account may read and write has room.
    fn has_room(&self) -> bool {
        self.reads.has_room() && self.commits.has_room(0, self.limits.batch_bytes_max)
    }

    fn told(&mut self, cx: &mut Cx, message: Message) {
        if let Some(origin) = message.account_request().filter(|_| !self.has_room()) {
            let refusal = self.overloaded();
            return self.refuse(cx, origin, refusal);
        }
        match message {
            Message::Register { origin, address, phone } => self.register(cx, origin, address, phone),
            Message::Verify { origin, address, verify } => self.verify_from(cx, origin, address, verify),
            Message::Phone(phone, op) => self.phone_op(cx, phone, op),
            Message::User(op) => self.user_op(cx, op),
            Message::Log(log, op) => self.log_op(cx, log, op),
            Message::Reply(origin, reply) => self.respond(cx, origin, reply),
            Message::Page(conn, page) => self.page(cx, conn, &page),
            Message::Glance(glance) => self.glance_came(cx, glance),
        }
    }

    fn asked(&mut self, cx: &mut Cx, question: u64, request: AdminRequest) {
        match request {
            AdminRequest::Status => cx.fx.answer(question, AdminResponse::Status(self.status())),
            AdminRequest::Code(phone) => self.ask_about_phone(cx, question, phone, PhoneQuestion::Code),
            AdminRequest::ResetCodes(phone) => {
                self.ask_about_phone(cx, question, phone, PhoneQuestion::ResetCodes);
            }
            AdminRequest::User(phone) => self.ask_about_phone(cx, question, phone, PhoneQuestion::User),
            AdminRequest::UserById(user) => self.view_user(cx, user, question),
            AdminRequest::EndDevice(user, device) => self.end_device_of(cx, user, device, question),
            AdminRequest::ResetLimits(user) => {
                self.budgets.forget(user);
                cx.fx.answer(question, AdminResponse::LimitsReset);
            }
            AdminRequest::DeleteUser(phone) => {
                self.ask_about_phone(cx, question, phone, PhoneQuestion::Delete)
            }
            AdminRequest::Provision { phone, name } => {
                self.ask_about_phone(cx, question, phone, PhoneQuestion::Provision(name));
            }
        }
    }

    fn tick(&mut self, cx: &mut Cx) {
        self.deliver_waiting(cx);
        self.budgets.rest(cx.now_ms);
        self.sweep_connections(cx);
        self.clear_marks(cx);
        self.evict_logs(cx);
        self.rest_users();
    }

    fn completed(&mut self, cx: &mut Cx, completion: Completion) {
        match completion {
            Completion::Committed(proof) => {
                self.trouble.committed(cx);
                for after in self.commits.ended(proof.commit()) {
                    let log = after.log();
                    log.into_iter().for_each(|log| self.logs.settle(log));
                    self.count_unsettled(&after, -1);
                    self.durable(cx, &proof, after);
                    log.into_iter().for_each(|log| self.log_settled(cx, log));
                }
            }
            Completion::CommitFailed { commit, error } => self.commit_failed(cx, commit, &error),
            Completion::Value { read, result } => match result {
                Ok(value) => self.value_read(cx, read, value),
                Err(error) => self.read_failed(cx, read, &error),
            },
            Completion::Rows { read, result } => match result {
                Ok(rows) => self.rows_read(cx, read, rows),
                Err(error) => self.read_failed(cx, read, &error),
            },
        }
    }

    fn durable(&mut self, cx: &mut Cx, proof: &Durable, after: After) {
        match after {
            After::Append(origin, entry) => self.appended(cx, proof, origin, entry),
            After::Again(origin, entry) => self.sent_again(cx, origin, &entry),
            After::Advance(log, by, marks) => self.advanced(cx, log, by, marks),
            After::Acknowledged(origin, log, _, position) => {
                self.reply(cx, origin, Reply::Acknowledged(log, position));
            }
            After::Deliver(delivery) => self.deliver_code(cx, delivery),
            After::Account(origin, _, _, reply) | After::User(origin, _, reply) => {
                self.reply(cx, origin, reply)
            }
            After::Devices(user) => self.devices_changed(cx, user),
            After::Joined(user, device) => self.device_joined(cx, user, device),
            After::Renamed(user) => {
                self.person_changed(cx, user);
                // One's own devices too.
                self.tell_of_person(cx, user, user);
            }
            After::Deleted(user) => {
                self.devices_changed(cx, user);
                self.person_changed(cx, user);
            }
            After::Answer(question, _, _, response) => cx.fx.answer(question, response),
            After::Pull(log, pull) => self.log_op(cx, log, LogOp::Pull(pull)),
            After::Noted(_) | After::Marked(_) => {}
        }
    }

    /// A batch is not in the store, or nobody knows. The engine then fails all that this core submitted before it could
    /// know, so the state in memory is ahead of the store from that batch on: what follows from it is undone, what it came
    /// from is read again when no write of it is under way.
    fn commit_failed(&mut self, cx: &mut Cx, commit: CommitId, error: &StoreError) {
        self.trouble.commit_failed(cx, error);
        let undone = match error {
            StoreError::Full => {
                Undone::Refused(Refusal::for_now(Reason::StorageFull, 10_000, "the store is full"))
            }
            StoreError::Unreachable { .. } | StoreError::Fenced { .. } | StoreError::Corrupt { .. } => {
                Undone::Refused(Refusal::for_now(Reason::Unavailable, 1000, "the store did not take it"))
            }
            StoreError::Failed { .. } => Undone::Unknown,
        };
        let mut then = self.commits.ended(commit);
        then.extend(self.commits.discard_open());
        for after in then {
            after.log().into_iter().for_each(|log| self.logs.settle(log));
            self.count_unsettled(&after, -1);
            self.undo(cx, after, undone);
        }
    }

    fn undo(&mut self, cx: &mut Cx, after: After, undone: Undone) {
        match after {
            After::Append(origin, entry) | After::Again(origin, entry) => {
                self.reply(cx, origin, undone.into());
                self.doubt_log(cx, entry.log, undone);
            }
            After::Advance(log, ..) | After::Marked(log) => self.doubt_log(cx, log, undone),
            After::Pull(log, pull) => {
                self.doubt_log(cx, log, undone);
                // A store that takes nothing must still be read.
                self.log_op(cx, log, LogOp::Pull(Pull { writes_mark: false, ..pull }));
            }
            After::Acknowledged(origin, log, ..) => {
                self.reply(cx, origin, undone.into());
                self.doubt_log(cx, log, undone);
            }
            After::Deliver(delivery) => {
                self.code_undone(cx, &delivery, undone);
            }
            After::Account(origin, phone, user, _) => {
                self.undo_account(cx, &phone, user);
                self.reply(cx, origin, undone.into());
            }
            After::User(origin, user, _) => {
                self.read_user_again(cx, user);
                self.reply(cx, origin, undone.into());
            }
            After::Devices(user)
            | After::Joined(user, _)
            | After::Renamed(user)
            | After::Deleted(user)
            | After::Noted(user) => self.read_user_again(cx, user),
            After::Answer(question, phone, user, _) => {
                self.undo_account(cx, &phone, user);
                let detail = match undone {
                    Undone::Refused(refusal) => refusal.detail,
                    Undone::Unknown => "whether it was written is not known: look again",
                };
                cx.fx.answer(question, AdminResponse::Refused(detail.to_owned()));
            }
        }
    }

    fn undo_account(&mut self, cx: &mut Cx, phone: &Phone, user: Option<UserId>) {
        self.forget_phone(phone);
        if let Some(user) = user {
            self.read_user_again(cx, user);
        }
    }

    fn value_read(&mut self, cx: &mut Cx, read: ReadId, value: Option<bytes::Bytes>) {
        match self.reads.ended(read) {
            ReadFor::Log(log, load, LogPart::Record) => self.log_record_read(cx, log, load, value),
            ReadFor::Log(log, load, LogPart::Member(user)) => self.member_read(cx, log, load, user, value),
            ReadFor::Log(log, load, LogPart::ClientMessage) => self.client_message_read(cx, log, load, value),
            ReadFor::User(user) => self.user_read(cx, user, value),
            ReadFor::Phone(phone) => self.phone_read(cx, phone, value),
            ReadFor::NewUser(user) => self.new_user_read(cx, user, value.is_none()),
            ReadFor::Log(_, _, LogPart::Tail | LogPart::HighestClientId | LogPart::Entries(_))
            | ReadFor::Devices(_)
            | ReadFor::Peers(_)
            | ReadFor::Reserved(_)
            | ReadFor::Inbox(_)
            | ReadFor::Chats(..) => unreachable!("these are scans"),
        }
    }

    fn rows_read(&mut self, cx: &mut Cx, read: ReadId, rows: Rows) {
        match self.reads.ended(read) {
            ReadFor::Log(log, load, LogPart::Tail) => self.tail_read(cx, log, load, rows),
            ReadFor::Log(log, load, LogPart::HighestClientId) => self.highest_read(cx, log, load, &rows.rows),
            ReadFor::Log(_, _, LogPart::Entries(reader)) => self.entries_read(cx, reader, Ok(rows)),
            ReadFor::Devices(user) => self.devices_read(cx, user, rows.rows),
            ReadFor::Reserved(user) => self.reserved_read(cx, user, rows.rows, rows.more),
            ReadFor::Peers(user) => self.peers_read(cx, user, &rows.rows, rows.more),
            ReadFor::Inbox(conn) => self.inbox_step_read(cx, conn, &rows.rows, rows.more),
            ReadFor::Chats(conn, page) => self.chats_read(cx, conn, page, Ok((&rows.rows, rows.more))),
            ReadFor::Log(_, _, LogPart::Record | LogPart::Member(_) | LogPart::ClientMessage)
            | ReadFor::User(_)
            | ReadFor::Phone(_)
            | ReadFor::NewUser(_) => unreachable!("these are gets"),
        }
    }

    fn read_failed(&mut self, cx: &mut Cx, read: ReadId, error: &StoreError) {
        self.trouble.read_failed(cx, error);
        let why = match error {
            StoreError::Corrupt { .. } => Unreadable::Damaged,
            StoreError::Full
            | StoreError::Unreachable { .. }
            | StoreError::Fenced { .. }
            | StoreError::Failed { .. } => Unreadable::ForNow,
        };
        match self.reads.ended(read) {
            ReadFor::Log(_, _, LogPart::Entries(reader)) => self.entries_read(cx, reader, Err(why)),
            ReadFor::Log(log, load, LogPart::HighestClientId | LogPart::ClientMessage) => {
                self.send_undecided(cx, log, load, why)
            }
            ReadFor::Log(log, load, LogPart::Record | LogPart::Tail | LogPart::Member(_)) => {
                self.log_part_failed(cx, log, load, why)
            }
            ReadFor::User(user) | ReadFor::Devices(user) => self.user_part_failed(cx, user),
            ReadFor::Phone(phone) => self.phone_unreadable(cx, &phone),
            ReadFor::NewUser(user) => self.new_user_unreadable(cx, user),
            // Whoever is not told finds out when they look.
            ReadFor::Peers(_) => {}
            ReadFor::Reserved(user) => self.reserved_unreadable(cx, user),
            ReadFor::Inbox(conn) => self.farewell(cx, conn, INBOX_UNREADABLE),
            ReadFor::Chats(conn, page) => self.chats_read(cx, conn, page, Err(error)),
        }
    }
}
