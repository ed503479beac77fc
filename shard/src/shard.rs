//! The brain of one core: takes an input, changes its state, lets effects out.
//!
//! All that comes in one turn of the shell is decided one after another; [`Shard::end_turn`] then submits what was
//! written as one batch. Messages to the own core are handled in the same turn, in order, like those from others.

use std::collections::VecDeque;

use tern_storage::{CommitId, Completion, LogId, Slot, StoreError};
use tern_wire::errors::{Reason, Refusal};

use crate::Cx;
use crate::accounts;
use crate::accounts::addresses::Addresses;
use crate::accounts::budgets::Budgets;
use crate::accounts::phones::Phones;
use crate::accounts::tokens::Keys;
use crate::accounts::users::Users;
use crate::accounts::waiting::Waiting;
use crate::admin::{AdminRequest, AdminResponse, CoreStatus};
use crate::commits::Commits;
use crate::effects::Effects;
use crate::entropy::Entropy;
use crate::front::{self, Conns, Listings};
use crate::identity::StoreIdentity;
use crate::input::Input;
use crate::limits::Limits;
use crate::logs::{self, Logs};
use crate::message::{LogOp, Message, PhoneQuestion, Unreadable, UserOp};
use crate::reads::Reads;
use crate::reply::Undone;
use crate::slots::{CoreId, SlotMap};
use crate::trouble::Trouble;

/// A choice of departments, into which each department's own type goes.
macro_rules! by_department {
    ($(#[$doc:meta])* $whole:ident { $($department:ident($part:ty)),+ }) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) enum $whole {
            $($department($part)),+
        }

        $(impl From<$part> for $whole {
            fn from(part: $part) -> Self {
                Self::$department(part)
            }
        })+
    };
}

by_department! {
    /// What follows a write.
    After { Logs(logs::After), Accounts(accounts::After) }
}

by_department! {
    /// What a get is for.
    GetFor { Logs(logs::GetFor), Accounts(accounts::GetFor) }
}

by_department! {
    /// What a scan is for.
    ScanFor { Logs(logs::ScanFor), Accounts(accounts::ScanFor), Front(front::ScanFor) }
}

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
    pub(crate) commits: Commits<After>,
    pub(crate) reads: Reads<GetFor, ScanFor>,
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
    pub(crate) fn then(&mut self, after: impl Into<After>) {
        let after = after.into();
        match &after {
            After::Logs(after) => self.logs.unsettle(after.log()),
            After::Accounts(after) => self.count_unsettled(after, 1),
        }
        self.commits.then(after);
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
                    match after {
                        After::Logs(after) => self.log_written(cx, &proof, after),
                        After::Accounts(after) => self.account_written(cx, after),
                    }
                }
            }
            Completion::CommitFailed { commit, error } => self.commit_failed(cx, commit, &error),
            Completion::Value { read, result } => {
                let result = result.map_err(|error| self.read_failed(cx, &error));
                match self.reads.got(read) {
                    GetFor::Logs(purpose) => self.log_got(cx, purpose, result),
                    GetFor::Accounts(purpose) => self.account_got(cx, purpose, result),
                }
            }
            Completion::Rows { read, result } => {
                let result = result.map_err(|error| self.read_failed(cx, &error));
                match self.reads.scanned(read) {
                    ScanFor::Logs(purpose) => self.log_scanned(cx, purpose, result),
                    ScanFor::Accounts(purpose) => self.account_scanned(cx, purpose, result),
                    ScanFor::Front(purpose) => self.front_scanned(cx, purpose, result),
                }
            }
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
            match after {
                After::Logs(after) => self.log_undone(cx, after, undone),
                After::Accounts(after) => self.account_undone(cx, after, undone),
            }
        }
    }

    fn read_failed(&mut self, cx: &mut Cx, error: &StoreError) -> Unreadable {
        self.trouble.read_failed(cx, error);
        match error {
            StoreError::Corrupt { .. } => Unreadable::Damaged,
            StoreError::Full
            | StoreError::Unreachable { .. }
            | StoreError::Fenced { .. }
            | StoreError::Failed { .. } => Unreadable::ForNow,
        }
    }
}
