//! What drives the lanes: it takes what the ports have submitted, asks for tickets, and hears what became of what was asked. It has no
//! thread and no clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::client::{Caller, Client, Code, Found, Outcome, Request, Token, Version, Want};
use super::codes::{Meaning, meaning};
use super::health::{Health, Seen, Sight, Waiting};
use super::lane::Lane;
use super::options::{
    BACKOFF_MAX, FdbOptions, KEY_BYTES_END, TICKET_AGE_MAX, TICKET_REFRESH, TICKET_REFRESH_IDLE,
    VALUE_BYTES_END,
};
use super::ports::Ports;
use super::statistics::Statistics;
use super::tickets::Tickets;
use crate::commits::{Link, Submission};
use crate::engine::{Direction, Rows, ScanLimit, StoreError};
use crate::keys::{self, Key};
use crate::parker::Turn;
use crate::records::{NumberRecord, OwnerRecord};
use crate::slots::{Epoch, Slot};

/// What a request was for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    /// A ticket, asked for at this time.
    Ticket(Duration),
    /// All epochs.
    Epochs(Duration),
    /// A lane's transaction.
    Commit(u16),
    /// A lane's record.
    Record(u16, Duration),
}

/// What the engine's parts share with whoever asks how it does.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) statistics: Statistics,
    pub(super) health: Health,
    pub(super) seen: Seen,
}

/// What the lanes stand on.
pub(super) struct Ground {
    pub(super) process: u32,
    pub(super) options: FdbOptions,
    pub(super) ports: Ports,
    pub(super) tickets: Tickets,
    pub(super) statistics: StatisticsOf,
    /// A lane can't go on without a newer ticket.
    pub(super) wants_ticket: bool,
    /// What was found that ends everything.
    pub(super) failed: Option<StoreError>,
    pub(super) now: Duration,
    client: Arc<dyn Client>,
    caller: Box<dyn Caller>,
    asked: BTreeMap<Token, Asked>,
    /// A ticket, or what it takes, is asked for.
    ticket_comes: bool,
    /// Since when one is wanted that has not come.
    ticket_asked: Option<Duration>,
    no_ticket_before: Duration,
    waiting: Waiting,
    sight: Sight,
}

/// The statistics of the engine.
pub(super) struct StatisticsOf(Arc<Shared>);

impl std::ops::Deref for StatisticsOf {
    type Target = Statistics;

    fn deref(&self) -> &Statistics {
        &self.0.statistics
    }
}

/// See the module.
pub(super) struct Driver {
    ground: Ground,
    lanes: Vec<Lane>,
    outcomes: Vec<(Token, Outcome)>,
    /// When there was last anything to do.
    worked: Option<Duration>,
}

impl Driver {
    /// One for a process that has taken the store over.
    pub(super) fn new(
        client: Arc<dyn Client>,
        caller: Box<dyn Caller>,
        process: u32,
        options: FdbOptions,
        shared: Arc<Shared>,
    ) -> Self {
        let lanes = (0..options.lanes.max(1)).map(|number| Lane::new(number, options.ack_p99)).collect();
        let ground = Ground {
            process,
            options,
            ports: Ports::default(),
            tickets: Tickets::new(),
            statistics: StatisticsOf(shared),
            wants_ticket: false,
            failed: None,
            now: Duration::ZERO,
            client,
            caller,
            asked: BTreeMap::new(),
            ticket_comes: false,
            ticket_asked: None,
            no_ticket_before: Duration::ZERO,
            waiting: Waiting::default(),
            sight: Sight::default(),
        };
        Self { ground, lanes, outcomes: Vec::new(), worked: None }
    }

    /// Serves a new port.
    pub(super) fn link(&mut self, link: Link) {
        self.ground.ports.link(link);
    }

    /// Does what there is to do.
    pub(super) fn turn(&mut self, now: Duration) -> Turn {
        self.ground.now = now;
        let heard = self.hear();
        let taken = self.take();
        let mut next: Vec<Duration> = Vec::new();
        let Self { ground, lanes, .. } = self;
        next.extend(lanes.iter_mut().filter_map(|lane| lane.proceed(ground)));
        let waits_since = lanes.iter().filter_map(Lane::waits_since).chain(ground.ticket_asked).min();
        if lanes.iter().any(Lane::has_work) {
            self.worked = Some(now);
        }
        let is_busy = self.worked.is_some_and(|then| now.saturating_sub(then) < TICKET_AGE_MAX);
        next.extend(ground.ask_for_ticket(is_busy));
        next.extend(ground.look(waits_since));
        ground.ports.wake();
        match next.into_iter().min() {
            _ if heard || taken => Turn::Worked,
            Some(when) => Turn::IdleFor(when.saturating_sub(now).max(Duration::from_micros(1))),
            None => Turn::Idle,
        }
    }

    /// Nothing is waited for any more: who waits is told that nobody knows.
    pub(super) fn give_up(&mut self) {
        self.ground.fail("the store is closing, and FoundationDB has not answered".to_owned());
        let Self { ground, lanes, .. } = self;
        for lane in lanes {
            let _ = lane.proceed(ground);
        }
        ground.ports.wake();
    }

    /// Whether a lane has anything to do.
    pub(super) fn has_work(&self) -> bool {
        self.lanes.iter().any(Lane::has_work)
    }

    /// Takes what the ports have submitted.
    fn take(&mut self) -> bool {
        let Self { ground, lanes, .. } = self;
        let now = ground.now;
        ground.ports.take(lanes.len(), |lane, port, submission| {
            let unfit = unfit_row(&submission);
            lanes[lane].submitted(port, submission, unfit, now);
        })
    }

    /// Hears what became of what was asked. `true`: FoundationDB has done something.
    fn hear(&mut self) -> bool {
        self.ground.caller.poll(&mut self.outcomes);
        let mut any = false;
        for (token, outcome) in std::mem::take(&mut self.outcomes) {
            let asked = self.ground.asked.remove(&token).expect("what ends was asked for");
            any |= !matches!(outcome, Outcome::Failed(_));
            self.heard(asked, outcome);
        }
        any
    }

    fn heard(&mut self, asked: Asked, outcome: Outcome) {
        let Self { ground, lanes, .. } = self;
        if ground.failed.is_some() {
            // All that waited for it has been told.
            return;
        }
        match (asked, outcome) {
            (Asked::Ticket(since), Outcome::Read(version, found)) => {
                ground.statistics.ticket.took(ground.now.saturating_sub(since));
                ground.ticket_comes = false;
                let mut found = found.into_iter();
                ground.learned(version, &mut found, since);
            }
            (Asked::Epochs(since), Outcome::Read(version, found)) => {
                ground.ticket_comes = false;
                ground.learned_epochs(version, found, since);
            }
            (Asked::Ticket(_) | Asked::Epochs(_), Outcome::Failed(code)) => {
                ground.ticket_comes = false;
                ground.no_ticket_before = ground.now + BACKOFF_MAX;
                ground.read_failed(code);
            }
            (Asked::Commit(lane), Outcome::Committed(version)) => {
                lanes[usize::from(lane)].committed(ground, version);
            }
            (Asked::Commit(lane), Outcome::Failed(code)) => lanes[usize::from(lane)].failed(ground, code),
            (Asked::Record(lane, since), Outcome::Read(version, found)) => {
                let mut found = found.into_iter();
                ground.learned(version, &mut found, since);
                let record = found.next().expect("all that was asked for is found");
                if ground.failed.is_none() {
                    lanes[usize::from(lane)].record_read(ground, version, record);
                }
            }
            (Asked::Record(lane, _), Outcome::Failed(code)) => {
                lanes[usize::from(lane)].record_not_read(ground);
                ground.read_failed(code);
            }
            (Asked::Commit(_), Outcome::Read(..)) => unreachable!("a commit reads nothing"),
            (Asked::Ticket(_) | Asked::Epochs(_) | Asked::Record(..), Outcome::Committed(_)) => {
                unreachable!("a read commits nothing")
            }
        }
    }
}

impl Ground {
    /// Asks FoundationDB for something.
    pub(super) fn start(&mut self, request: Request, asked: Asked) {
        let token = self.caller.start(request);
        self.asked.insert(token, asked);
    }

    /// FoundationDB has done something.
    pub(super) fn done(&mut self) {
        self.waiting.done();
    }

    /// FoundationDB has said why it does not.
    pub(super) fn not_done(&mut self, code: Code) {
        self.waiting.not_done(code);
    }

    /// A version is known.
    pub(super) fn saw(&mut self, version: Version) {
        self.sight.see(&self.statistics.0.seen, version, self.now);
    }

    /// Something could not be read.
    fn read_failed(&mut self, code: Code) {
        self.not_done(code);
        if meaning(code) == Meaning::Broken {
            self.broken(code);
        }
    }

    /// FoundationDB's client says what it never should.
    pub(super) fn broken(&mut self, code: Code) {
        let reason = format!("FoundationDB's client says error {}, which ends everything", code.0);
        self.fail(reason);
    }

    /// Nothing goes on from here.
    fn fail(&mut self, reason: String) {
        self.statistics.0.health.fail(&reason);
        self.failed.get_or_insert(StoreError::Failed { reason });
    }

    /// What is stored is not what was written.
    pub(super) fn damaged(&mut self, what: &str) {
        self.fail(format!("{what} can't be read: `ternctl check` says what is whole"));
    }

    /// Asks for a ticket if one is needed. Gives when to look again.
    fn ask_for_ticket(&mut self, is_busy: bool) -> Option<Duration> {
        let wanted = std::mem::take(&mut self.wants_ticket);
        let age = if is_busy { TICKET_REFRESH } else { TICKET_REFRESH_IDLE };
        let refresh = self.tickets.asked().map_or(self.now, |asked| asked + age);
        if self.ticket_comes || self.failed.is_some() {
            return None;
        }
        let due = if wanted { self.no_ticket_before } else { refresh.max(self.no_ticket_before) };
        if due > self.now {
            return Some(due);
        }
        self.ticket_comes = true;
        self.ticket_asked.get_or_insert(self.now);
        self.statistics.tickets.add(1);
        let wants = vec![Want::Value(keys::owner()), Want::Value(keys::epochs_version())];
        self.start(Request::Read { at: None, wants }, Asked::Ticket(self.now));
        None
    }

    /// At a version, the owner and the count of epochs were these.
    fn learned(&mut self, version: Version, found: &mut impl Iterator<Item = Found>, since: Duration) {
        let mut value = || found.next().expect("all that was asked for is found").value();
        let (owner, count) = (value(), value());
        self.saw(version);
        if !self.is_owned(owner) {
            return;
        }
        let Some(count) = number(count) else { return self.damaged("the count of epochs (m epochs)") };
        if self.tickets.learn(version, count, (since, self.now)) {
            self.ticket_asked = None;
            self.waiting.done();
        } else if !self.ticket_comes {
            self.ticket_comes = true;
            let all = ScanLimit { rows: usize::MAX, bytes: usize::MAX };
            let wants = vec![
                Want::Value(keys::owner()),
                Want::Value(keys::epochs_version()),
                Want::Rows(keys::epochs(), Direction::Forwards, all),
            ];
            self.start(Request::Read { at: Some(version), wants }, Asked::Epochs(since));
        }
    }

    fn learned_epochs(&mut self, version: Version, found: Vec<Found>, since: Duration) {
        let mut found = found.into_iter();
        let mut next = || found.next().expect("all that was asked for is found");
        let (owner, count, rows) = (next().value(), next().value(), next().rows());
        if !self.is_owned(owner) {
            return;
        }
        match (number(count), epochs_of(&rows)) {
            (Some(count), Some(epochs)) => {
                self.tickets.learn_epochs(version, count, epochs.into_iter(), (since, self.now));
                self.ticket_asked = None;
                self.waiting.done();
            }
            _ => self.damaged("a slot's epoch (s)"),
        }
    }

    /// Whether the store is still this process's: if not, everything ends.
    fn is_owned(&mut self, owner: Option<Bytes>) -> bool {
        let owner = owner.and_then(|value| OwnerRecord::decode(value).ok());
        match owner {
            Some(owner) if owner.process == self.process => true,
            Some(owner) => {
                self.fail(format!(
                    "another ternd, process {}, has taken the store over from this one, process {}",
                    owner.process, self.process
                ));
                false
            }
            None => {
                self.damaged("the store's owner (m owner)");
                false
            }
        }
    }

    /// Looks for what takes long. Gives when to look again.
    fn look(&mut self, waits_since: Option<Duration>) -> Option<Duration> {
        let Self { waiting, statistics, client, sight, now, .. } = self;
        let silent = waiting.look(&statistics.0.health, waits_since, || client.silence(), *now);
        let old = sight.look(&statistics.0.seen, *now);
        silent.into_iter().chain(old).min()
    }
}

/// A row that FoundationDB does not take, if the batch has one.
fn unfit_row(submission: &Submission) -> Option<StoreError> {
    let unfit = |(key, value): &(&[u8], Option<&[u8]>)| {
        key.len() >= KEY_BYTES_END || value.is_some_and(|value| value.len() >= VALUE_BYTES_END)
    };
    let (key, value) = submission.batch.ops().find(unfit)?;
    let (place, bytes) = (keys::describe(key), value.map_or(0, <[u8]>::len));
    let reason = format!("FoundationDB takes no row of {bytes} bytes ({place})");
    Some(StoreError::Unreachable { reason })
}

/// A number's row, 0 if there is none; `None` if it is not what was written.
pub(super) fn number(value: Option<Bytes>) -> Option<u64> {
    let record = value.map_or(Ok(NumberRecord::default()), NumberRecord::decode);
    record.ok().map(|record| record.number)
}

/// The epochs in these rows; `None` if they are not what was written.
fn epochs_of(rows: &Rows) -> Option<Vec<(Slot, Epoch)>> {
    let epoch = |(key, value): &(Bytes, Bytes)| {
        Some((Key::from_raw(key).slot()?, Epoch(number(Some(value.clone()))?)))
    };
    rows.rows.iter().map(epoch).collect()
}
