//! The logs of a core's slots: who is a member, where the head is, what waits.
//!
//! A log is read once, then decided on in memory: see [`crate::held`] for where it stands meanwhile. A log with writes under way is
//! never forgotten and never read.

mod acknowledge;
mod agenda;
mod append;
mod concern;
mod counted;
mod due;
mod eviction;
mod filter;
mod gather;
mod glance;
mod group;
mod guests;
mod invitations;
mod load;
mod log;
pub(crate) mod media;
mod moving;
mod parting;
mod people;
mod read;
mod recovery;
mod reports;
mod retention;
mod room;
mod schedule;
mod waits;
mod words;

use std::collections::{BTreeSet, VecDeque};

use tern_storage::{LogId, Slot};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::{ChatId, UserId};

use self::agenda::Agenda;
use self::counted::Counted;
use self::filter::Looking;
use self::group::Newcomer;
use self::log::{Highest, Log, Member};
pub(crate) use self::moving::Taken;
use self::parting::parted;
use self::retention::Round;
use self::schedule::Dispatching;
use self::waits::{After, GetFor, ScanFor};
use self::words::Words;
use crate::by_slot::BySlot;
use crate::cx::{Cx as AnyCx, Department, KnowsWords, Later};
use crate::effects::Stage;
use crate::entry::{chat_of, members_of};
use crate::held::{Admitted, Doubt, Load, Loads};
use crate::limits::LOG_WAITING_MAX;
use crate::maps::Hashing;
use crate::message::{
    FrontOp, Glance, Glancer, LogOp, Message, Page, Pull, Subject, Unreadable, UserOp, found, tell_glance,
};
use crate::mutations::{Mutation, is};
use crate::reply::Undone;
use crate::slots::CoreId;

/// The logs in memory.
#[derive(Debug)]
pub(crate) struct Logs {
    logs: BySlot<LogId, Box<Log>>,
    loads: Loads,
    /// The order in which idle logs are considered for leaving, each with its first load: those that were forgotten since are
    /// passed over.
    clock: VecDeque<(LogId, Load)>,
    /// Logs with marks of devices that have caught up, and when to look at them.
    quiet: BTreeSet<(u64, LogId)>,
    /// Groups of which something is to be written, and when.
    gathering: Vec<(u64, LogId)>,
    /// Logs that have been read and in which nothing was ever said.
    empty: Vec<LogId>,
    /// Asks whether a message may be appended.
    asks_made: u64,
    agenda: Agenda,
    dispatching: Dispatching,
    round: Round,
    counted: Counted,
    words: Words,
    looking: Looking,
}

impl Department for Logs {
    type After = After;
    type Get = GetFor;
    type Scan = ScanFor;
}

impl KnowsWords for Logs {}

type Cx<'a> = AnyCx<'a, Logs>;

const UNKNOWN_USER: Refusal = Refusal::new(Reason::UnknownUser, "there is no such user");
const REVOKED: Refusal = Refusal::new(Reason::SessionRevoked, "the session has ended: register again");
const UNREADABLE: Refusal = Refusal::for_now(Reason::Unavailable, 1000, "the log can't be read");

/// Why a log is there.
const PINNED: &str = "a log stays in memory while something of it is under way";

impl Logs {
    /// None.
    pub(crate) fn new(core: CoreId, hashing: Hashing) -> Self {
        Self {
            logs: BySlot::new(hashing),
            loads: Loads::new(core),
            clock: VecDeque::new(),
            quiet: BTreeSet::new(),
            gathering: Vec::new(),
            empty: Vec::new(),
            asks_made: 0,
            agenda: Agenda::new(),
            dispatching: Dispatching::default(),
            round: Round::default(),
            counted: Counted::default(),
            words: Words::new(hashing),
            looking: Looking::default(),
        }
    }

    /// How many are in memory.
    pub(crate) fn count(&self) -> usize {
        self.logs.len()
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, cx: &mut Cx) {
        self.write_gathered(cx);
        self.clear_marks(cx);
        self.end_overdue_looks(cx);
        self.look_at_what_is_due(cx);
        self.go_round(cx);
        self.write_counted_in_time(cx);
        self.evict(cx);
    }

    /// Something is asked of a log, or told to it.
    pub(crate) fn told(&mut self, cx: &mut Cx, id: LogId, op: LogOp) {
        match op {
            LogOp::Devices(user, devices, terms) => {
                return self.devices_known(cx, id, user, devices, terms);
            }
            LogOp::Comes(user, by, comes) => return self.guest_answered(cx, id, (user, by), comes),
            LogOp::Terms(user, told) => return self.terms_came(cx, id, user, *told),
            LogOp::Unreadable(user, why) => return self.member_unreadable(cx, id, user, why),
            LogOp::Permit(ask, answer) => return self.permitted(cx, id, ask, answer),
            LogOp::DueAt(at_ms) => return self.agenda.note(Slot::of_log(id), at_ms),
            _ => {}
        }
        let Some(log) = self.logs.get_mut(&id) else { return self.load_for(cx, id, op) };
        log.used = true;
        match log.held.admit(op, LOG_WAITING_MAX) {
            Admitted::Now(op) => self.decide(cx, id, op),
            Admitted::Waits => {}
            Admitted::Full(op) => {
                let refusal = cx.overloaded();
                Self::refuse(cx, id, op, refusal);
            }
        }
    }

    /// Something is asked of a log that is known.
    fn decide(&mut self, cx: &mut Cx, id: LogId, op: LogOp) {
        let log = self.known(id);
        if op.shows() && (log.is_changing() || log.is_being_cut()) {
            // What is not durable is not told.
            return self.after(cx, After::Ask(id, Box::new(op)));
        }
        match op {
            LogOp::Send(send) => {
                cx.passed(send.author, send.client_id, Stage::Routed);
                self.append(cx, id, send);
            }
            LogOp::Acknowledge { origin, author, upto } => self.acknowledge(cx, id, origin, author, upto),
            LogOp::History(history) => self.read_history(cx, id, history),
            LogOp::Report(reporting) => self.report(cx, id, reporting),
            LogOp::GetMedium(wanted) => self.get_medium(cx, id, wanted),
            LogOp::Pull(pull) => self.pull(cx, id, *pull),
            LogOp::Describe { origin, reader, by_phone } => {
                self.describe_peer(cx, id, origin, reader, by_phone);
            }
            LogOp::About(origin, reader, hash) => self.about_group(cx, id, origin, reader, hash),
            LogOp::DescribeMember(origin, reader, user) => self.describe_member(cx, id, origin, reader, user),
            LogOp::Recover(user) => self.stands(cx, id, user),
            LogOp::Changed(user, version) => self.member_changed(cx, id, user, version),
            LogOp::DevicesChanged(user, devices) => self.guest_known(cx, id, user, devices),
            LogOp::Glance(asker) => self.glance(cx, id, asker),
            LogOp::Look(looker) => self.look(cx, id, looker),
            LogOp::Act(acts) => self.act(cx, id, *acts),
            LogOp::Cut => self.cut(cx, id),
            LogOp::Part(parting) => self.part(cx, id, parting),
            LogOp::Search(search) => self.search(cx, id, search),
            LogOp::CleanWords(rows) => self.clean_words(cx, id, rows),
            LogOp::Due(due) => self.fall_due(cx, id, due),
            LogOp::Dispatched(dispatched) => self.dispatched(cx, *dispatched),
            LogOp::Devices(..)
            | LogOp::Terms(..)
            | LogOp::Comes(..)
            | LogOp::Unreadable(..)
            | LogOp::DueAt(_)
            | LogOp::Permit(..) => {
                unreachable!("taken before the log is looked at")
            }
        }
    }

    /// Something can't be done for now: whoever waits is told.
    pub(crate) fn refuse(cx: &mut Cx, id: LogId, op: LogOp, refusal: Refusal) {
        match op {
            LogOp::Send(send) => cx.refuse(send.asker, refusal),
            LogOp::Acknowledge { origin, .. } | LogOp::Describe { origin, .. } => cx.refuse(origin, refusal),
            LogOp::About(origin, ..) | LogOp::DescribeMember(origin, ..) => cx.refuse(origin, refusal),
            LogOp::History(history) => cx.refuse(history.origin, refusal),
            LogOp::Search(search) => found(cx, &search, Err(refusal)),
            LogOp::Report(reporting) => cx.refuse(reporting.origin, refusal),
            LogOp::GetMedium(wanted) => cx.refuse(wanted.origin, refusal),
            LogOp::Pull(pull) => page_failed(cx, id, *pull, Unreadable::ForNow),
            LogOp::Glance(asker) => glance_failed(cx, id, asker, Unreadable::ForNow),
            // Nobody waits for these. The first are hints, or come again; the others are answers to a log that is not here.
            LogOp::Act(acts) => {
                if let Some(origin) = acts.origin {
                    cx.refuse(origin, refusal);
                }
            }
            LogOp::Part(parting) => parted(cx, parting, false),
            LogOp::Recover(_) => cx.put_off(Later::Owner(Message::Log(id, op))),
            LogOp::Look(looker) => {
                if let ChatId::Group(group) = chat_of(id, looker.device.user) {
                    let again = FrontOp::LookAgain(Some(Subject::Group(group)));
                    cx.put_off(Later::Front(looker.place, again));
                }
            }
            LogOp::Changed(..)
            | LogOp::Due(_)
            | LogOp::CleanWords(_)
            | LogOp::Cut
            | LogOp::Dispatched(..)
            | LogOp::DevicesChanged(..)
            | LogOp::Devices(..)
            | LogOp::Terms(..)
            | LogOp::Comes(..)
            | LogOp::Unreadable(..)
            | LogOp::DueAt(_)
            | LogOp::Permit(..) => {}
        }
    }

    /// A log of which something is under way.
    fn pinned(&mut self, id: LogId) -> &mut Log {
        self.logs.get_mut(&id).expect(PINNED)
    }

    /// A log that is decided on: whoever asks has been let in by [`Logs::told`].
    fn known(&mut self, id: LogId) -> &mut Log {
        let log = self.pinned(id);
        debug_assert!(log.held.is_known(), "nothing is decided on a log that is not known");
        log
    }

    /// The log that is being read by this load.
    fn loading(&mut self, id: LogId, load: Load) -> &mut Log {
        let log = self.pinned(id);
        assert!(log.held.is_loading_by(load), "a log that is being read is not forgotten, nor read again");
        log
    }

    /// The log as this load has read it, unless it is doubted or another one.
    fn known_by(&mut self, id: LogId, load: Load) -> Option<&mut Log> {
        let log = self.logs.get_mut(&id)?;
        log.held.is_known_by(load).then_some(log)
    }

    /// Has `after` happen when what was written so far is durable. The log stays in memory until then: read again meanwhile, it
    /// would be older than what was decided on.
    fn after(&mut self, cx: &mut Cx, after: After) {
        let slot = self.unsettle(after.log());
        cx.after(slot, after);
    }

    /// The same, and nobody waits for it.
    fn after_lazily(&mut self, cx: &mut Cx, after: After) {
        let slot = self.unsettle(after.log());
        cx.after_lazily(slot, after);
    }

    fn unsettle(&mut self, id: LogId) -> Slot {
        let log = self.pinned(id);
        log.held.unsettle();
        log.slot
    }

    /// What is in memory of a log may not be what is in the store: it is read again, when no write of it is under way. What
    /// waits goes on then; messages that were being told from retries are `undone`.
    fn doubt(&mut self, cx: &mut Cx, id: LogId, undone: Undone) {
        self.words.forget(id);
        let log = self.pinned(id);
        let mut newcomers = Vec::new();
        if log.held.doubt() {
            for send in std::mem::take(&mut log.sends) {
                cx.reply(send.asker, undone.into());
            }
            if let Some(group) = log.group.as_deref_mut() {
                for acknowledged in std::mem::take(&mut group.acknowledged) {
                    cx.reply(acknowledged.origin, undone.into());
                }
                newcomers = std::mem::take(&mut group.newcomers);
            }
        }
        self.settled(cx, id);
        for newcomer in newcomers {
            let op = match newcomer {
                Newcomer::Pull(pull) => LogOp::Pull(pull),
                Newcomer::Acknowledge(origin, author, upto) => LogOp::Acknowledge { origin, author, upto },
            };
            self.told(cx, id, op);
        }
    }

    /// Reads a doubted log again, or forgets it, once no write of it is under way.
    fn settled(&mut self, cx: &mut Cx, id: LogId) {
        match self.pinned(id).held.doubted() {
            Doubt::None => {}
            Doubt::Idle => drop(self.forget(cx, id)),
            Doubt::Wanted => self.load_again(cx, id),
        }
    }

    /// A log leaves the memory: its members' owners are told.
    fn forget(&mut self, cx: &mut Cx, id: LogId) -> Box<Log> {
        let log = self.logs.remove(&id).expect(PINNED);
        let watched = log.group.as_deref().map_or(&[][..], |group| &group.watched);
        for user in members_of(id).chain(watched.iter().copied()) {
            cx.tell_user(user, UserOp::Unwatch(id));
        }
        log
    }
}

/// A page goes the way that entries and watermarks go, by the user's owner: so it comes behind those from before it, and before those from
/// after it, wherever the connection is.
fn tell_page(cx: &mut Cx, pull: &Pull, page: Page) {
    if is(Mutation::PageAside) {
        return cx.tell_front(pull.origin.place, FrontOp::Page(pull.origin.ask, Box::new(page)));
    }
    cx.tell_user(pull.author.user, UserOp::Page(pull.origin, Box::new(page)));
}

fn page_failed(cx: &mut Cx, id: LogId, pull: Pull, why: Unreadable) {
    tell_page(cx, &pull, Page::failed(id, why));
}

fn glance_failed(cx: &mut Cx, id: LogId, asker: Glancer, why: Unreadable) {
    tell_glance(cx, Box::new(Glance::failed(asker, id, why)));
}

/// The member of a log that somebody says to be one.
fn member_of(log: &mut Log, user: UserId) -> &mut Member {
    log.member(user).expect("a log is asked about its members alone")
}
