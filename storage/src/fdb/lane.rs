//! A lane: one transaction under way, and what waits to be the next one.
//!
//! ```text
//!                      .----------- settled ------------------------------.
//!                      v                                                  |
//!   Idle --taken--> Sends --ticket--> Sent --committed--------------------+
//!                      ^ ^              |                                 |
//!                      | '---put off----+--conflict, unknown-> Settles    |
//!                      |                                          |       |
//!                      '-- it is not there --- Reads <-- asked ---'       |
//!                                                '----- it is there ------'
//! ```
//!
//! An attempt of which nobody knows may land until a version is read at which the lane's record does not tell of it; the next attempt
//! rests on that very version, so that one of the two conflicts with the other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;

use super::client::{Code, Found, Request, Transaction, Version, Want};
use super::codes::{Meaning, TOO_OLD, meaning};
use super::driver::{Asked, Ground};
use super::options::{BACKOFF_MAX, BACKOFF_MIN, FENCED_SLOTS_MAX, PLACES};
use super::ports::PortId;
use crate::batch::Batch;
use crate::commits::Submission;
use crate::engine::StoreError;
use crate::keys::{self, Key, KeyRange};
use crate::mutations::{Mutation, is};
use crate::records::LaneRecord;
use crate::slots::Slot;
use crate::window::Window;

/// See the module.
pub(super) struct Lane {
    number: u16,
    /// The number of the next transaction.
    next: u64,
    waiting: VecDeque<Waiting>,
    /// The version of the newest transaction of each place, or a later one.
    made: [Version; PLACES],
    group: Option<Group>,
    step: Step,
    /// Nothing is sent before.
    not_before: Duration,
    backoff: Duration,
    window: Window,
    /// Since when there has been something to be gathered.
    opened: Option<Duration>,
}

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Idle,
    Sends,
    Sent,
    Settles,
    Reads,
}

/// A batch on its way.
struct Waiting {
    port: PortId,
    /// Without its batch.
    submission: Submission,
    batch: Arc<Batch>,
    since: Duration,
    /// Why it can't be stored at all.
    unfit: Option<StoreError>,
}

/// What one transaction is made of.
struct Group {
    number: u64,
    batches: Vec<Grouped>,
    /// So many attempts were made.
    attempts: u32,
    /// An attempt was made of which nobody knows: the next one rests on a version at which the record was read.
    is_unknown: bool,
    /// That version.
    pinned: Option<Version>,
    /// The next attempt rests on no version before this one.
    at_least: Version,
    /// What the last attempt rests on, and when it was made.
    at: Version,
    sent: Duration,
    /// When the transaction was made.
    begun: Duration,
}

struct Grouped {
    waiting: Waiting,
    /// Why it is not in the store, and from which attempt on.
    failed: Option<(u32, StoreError)>,
}

impl Lane {
    /// One in which nothing has happened.
    pub(super) fn new(number: u16, ack_p99: Duration) -> Self {
        Self {
            number,
            next: 1,
            waiting: VecDeque::new(),
            made: [Version::default(); PLACES],
            group: None,
            step: Step::Idle,
            not_before: Duration::ZERO,
            backoff: BACKOFF_MIN,
            window: Window::new(ack_p99),
            opened: None,
        }
    }

    /// Whether there is anything to be done in it.
    pub(super) fn has_work(&self) -> bool {
        self.group.is_some() || !self.waiting.is_empty()
    }

    /// Since when the oldest of what is to be committed waits.
    pub(super) fn waits_since(&self) -> Option<Duration> {
        let begun = self.group.as_ref().map(|group| group.begun);
        begun.or_else(|| self.waiting.front().map(|waiting| waiting.since))
    }

    /// A batch waits for its turn; `unfit` says why it can't be stored, if it can't.
    pub(super) fn submitted(
        &mut self,
        port: PortId,
        mut submission: Submission,
        unfit: Option<StoreError>,
        now: Duration,
    ) {
        let batch = Arc::new(std::mem::take(&mut submission.batch));
        self.waiting.push_back(Waiting { port, submission, batch, since: now, unfit });
    }

    /// Does what can be done now. Gives when there may be more to do, unless something else must come first.
    pub(super) fn proceed(&mut self, ground: &mut Ground) -> Option<Duration> {
        loop {
            if ground.failed.is_some() {
                self.fail(ground);
                return None;
            }
            if self.step == Step::Idle {
                if let Some(until) = self.gathers(ground)? {
                    return Some(until);
                }
                self.take(ground);
            }
            if self.not_before > ground.now {
                return Some(self.not_before);
            }
            match self.step {
                Step::Idle | Step::Sent | Step::Reads => return None,
                Step::Sends => {
                    if !self.send(ground) {
                        return None;
                    }
                }
                Step::Settles => self.ask_for_record(ground),
            }
        }
    }

    /// When the next transaction is to be made: `None`: there is nothing for it.
    fn gathers(&mut self, ground: &Ground) -> Option<Option<Duration>> {
        let first = self.waiting.front()?;
        let opened = *self.opened.get_or_insert(first.since);
        let until = opened + self.window.length();
        Some((until > ground.now).then_some(until))
    }

    /// Makes a transaction of what waits.
    fn take(&mut self, ground: &Ground) {
        self.opened = None;
        let (mut bytes, mut rows) = (0, 0);
        let mut batches = Vec::new();
        while bytes < ground.options.group_bytes_max
            && rows < ground.options.group_rows_max
            && let Some(waiting) = self.waiting.pop_front()
        {
            bytes += waiting.batch.bytes();
            rows += waiting.batch.len();
            ground.statistics.lane.took(ground.now.saturating_sub(waiting.since));
            batches.push(Grouped { waiting, failed: None });
        }
        self.group = Some(Group {
            number: self.next,
            batches,
            attempts: 0,
            is_unknown: false,
            pinned: None,
            // Or else the record of this place would have changed since.
            at_least: self.made[place_of(self.next)],
            at: Version::default(),
            sent: ground.now,
            begun: ground.now,
        });
        self.step = Step::Sends;
    }

    /// Makes an attempt. `false`: there is no version that it may rest on.
    fn send(&mut self, ground: &mut Ground) -> bool {
        let group = self.group.as_mut().expect("something is to be sent");
        let at = match group.pinned {
            Some(version) => ground.tickets.is_verified(version).then_some(version),
            None => ground.tickets.usable(ground.now, group.at_least),
        };
        let Some(at) = at else {
            ground.wants_ticket = true;
            return false;
        };
        group.attempts += 1;
        (group.at, group.sent) = (at, ground.now);
        group.admit(ground);
        let is_nothing = group.content().all(|batch| batch.is_empty());
        if is_nothing && !group.is_unknown {
            // All before it is settled, and there is nothing to be written.
            let attempt = group.attempts;
            self.settled(ground, attempt, None);
            return true;
        }
        let record = keys::lane_record(ground.process, self.number, place_of(group.number) as u8);
        let transaction = group.transaction(at, &record);
        ground.start(Request::Commit(Box::new(transaction)), Asked::Commit(self.number));
        self.step = Step::Sent;
        true
    }

    fn ask_for_record(&mut self, ground: &mut Ground) {
        let group = self.group.as_ref().expect("something is to be settled");
        let record = keys::lane_record(ground.process, self.number, place_of(group.number) as u8);
        let wants =
            vec![Want::Value(keys::owner()), Want::Value(keys::epochs_version()), Want::Value(record)];
        ground.start(Request::Read { at: None, wants }, Asked::Record(self.number, ground.now));
        self.step = Step::Reads;
    }

    /// An attempt was committed, and has made this version.
    pub(super) fn committed(&mut self, ground: &mut Ground, version: Version) {
        let attempt = self.group.as_ref().expect("it was sent").attempts;
        ground.saw(version);
        ground.done();
        if is(Mutation::OwnVersionAsTicket) {
            ground.tickets.learn(version, 0, (ground.now, ground.now));
        }
        self.settled(ground, attempt, Some(version));
    }

    /// An attempt was not committed, or nobody knows.
    pub(super) fn failed(&mut self, ground: &mut Ground, code: Code) {
        ground.not_done(code);
        let group = self.group.as_mut().expect("it was sent");
        match meaning(code) {
            Meaning::Conflict => {
                ground.statistics.conflicts.add(1);
                self.step = Step::Settles;
                return;
            }
            Meaning::Unknown if is(Mutation::AcknowledgeUnknown) => {
                let attempt = group.attempts;
                return self.settled(ground, attempt, None);
            }
            Meaning::Unknown => {
                ground.statistics.unknown.add(1);
                group.is_unknown = true;
            }
            Meaning::Again => ground.statistics.refused.add(1),
            Meaning::Locked => {
                ground.statistics.locked.add(1);
                self.backoff = BACKOFF_MAX;
            }
            Meaning::Broken => return ground.broken(code),
        }
        // If the record has to be looked at, the next attempt rests on a version at which it was.
        self.step = if group.is_unknown || group.pinned.is_some() { Step::Settles } else { Step::Sends };
        if code == TOO_OLD {
            group.at_least = group.at_least.max(Version(group.at.0 + 1));
        }
        self.not_before = ground.now + self.backoff;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }

    /// The lane's record was read at this version: it tells whether an attempt is there.
    pub(super) fn record_read(&mut self, ground: &mut Ground, version: Version, record: Found) {
        let group = self.group.as_mut().expect("its record was asked for");
        let Some(record) = record.value().map_or(Ok(LaneRecord::default()), LaneRecord::decode).ok() else {
            return ground.damaged("a lane's record (m lane)");
        };
        if record.number == group.number {
            ground.statistics.unknown_was_in.add(usize::from(group.is_unknown));
            return self.settled(ground, record.attempt, Some(version));
        }
        group.pinned = Some(version);
        self.step = Step::Sends;
    }

    /// The lane's record can't be read now.
    pub(super) fn record_not_read(&mut self, ground: &mut Ground) {
        self.step = Step::Settles;
        self.not_before = ground.now + BACKOFF_MAX;
    }

    /// This attempt is there, by this version, or needs not be there; all others of the transaction will never be.
    fn settled(&mut self, ground: &mut Ground, attempt: u32, version: Option<Version>) {
        let group = self.group.take().expect("it was to be settled");
        if let Some(version) = version {
            self.made[place_of(group.number)] = version;
            let took = ground.now.saturating_sub(group.sent);
            self.window.synced(took);
            group.count(ground, took);
        }
        for Grouped { waiting: Waiting { port, submission, .. }, failed } in group.batches {
            let result = failed.filter(|(from, _)| *from <= attempt).map_or(Ok(()), |(_, error)| Err(error));
            ground.ports.complete(port, (submission.lane, submission.commit), result);
        }
        self.next += 1;
        (self.step, self.backoff, self.not_before) = (Step::Idle, BACKOFF_MIN, Duration::ZERO);
    }

    /// The engine does nothing any more.
    fn fail(&mut self, ground: &mut Ground) {
        let error = ground.failed.clone().expect("it was just looked at");
        let grouped = self.group.take().into_iter().flat_map(|group| group.batches);
        let all: Vec<_> = grouped.map(|grouped| grouped.waiting).chain(self.waiting.drain(..)).collect();
        for Waiting { port, submission, .. } in all {
            ground.ports.complete(port, (submission.lane, submission.commit), Err(error.clone()));
        }
        self.step = Step::Idle;
    }
}

impl Group {
    /// Decides which batches are in the next attempt. Of a port's lane none is that follows one that is not.
    fn admit(&mut self, ground: &Ground) {
        for at in 0..self.batches.len() {
            let (before, rest) = self.batches.split_at(at);
            let Waiting { port, submission, .. } = &rest[0].waiting;
            if rest[0].failed.is_some() {
                continue;
            }
            let same = |other: &&Grouped| {
                (other.waiting.port, other.waiting.submission.lane) == (*port, submission.lane)
            };
            let follows = before.iter().filter(same).find_map(|other| other.failed.as_ref());
            let error = follows.map(|(_, error)| error.clone());
            let error = error.or_else(|| ground.ports.follows_failure(*port, submission));
            let error = error.or_else(|| rest[0].waiting.unfit.clone());
            let error = error.or_else(|| {
                let behind = ground.tickets.behind(submission.fence.epochs());
                behind.map(|slot| StoreError::Fenced { slot })
            });
            ground.statistics.fenced.add(usize::from(matches!(error, Some(StoreError::Fenced { .. }))));
            self.batches[at].failed = error.map(|error| (self.attempts, error));
        }
    }

    /// The batches of the next attempt.
    fn content(&self) -> impl Iterator<Item = &Arc<Batch>> {
        let admitted = self.batches.iter().filter(|grouped| grouped.failed.is_none());
        admitted.map(|grouped| &grouped.waiting.batch)
    }

    /// The slots that have decided the batches of the next attempt.
    fn slots(&self) -> Vec<Slot> {
        let admitted = self.batches.iter().filter(|grouped| grouped.failed.is_none());
        let mut slots: Vec<Slot> = if is(Mutation::FenceByKeysSlot) {
            self.content()
                .flat_map(|batch| batch.ops())
                .filter_map(|(key, _)| Key::from_raw(key).slot())
                .collect()
        } else {
            let fences = admitted.flat_map(|grouped| grouped.waiting.submission.fence.epochs());
            fences.map(|(slot, _)| *slot).collect()
        };
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    fn transaction(&self, at: Version, record: &Key) -> Transaction {
        let slots = self.slots();
        let mut unchanged = vec![KeyRange::of_key(&keys::owner())];
        if is(Mutation::ForgetOwner) {
            unchanged.clear();
        }
        if slots.len() > FENCED_SLOTS_MAX {
            unchanged.push(keys::epochs());
        } else {
            unchanged.extend(slots.into_iter().map(|slot| KeyRange::of_key(&keys::epoch(slot))));
        }
        let mut guarded = Vec::new();
        if !is(Mutation::SkipLaneRecord) {
            unchanged.push(KeyRange::of_key(record));
            let value = LaneRecord { number: self.number, attempt: self.attempts };
            guarded.push((record.clone(), value.encode_to_vec().into()));
        }
        Transaction { at, unchanged, guarded, batches: self.content().cloned().collect() }
    }

    fn count(&self, ground: &Ground, took: Duration) {
        let batches = || self.content().filter(|batch| !batch.is_empty());
        ground.statistics.commits.add(1);
        ground.statistics.batches.add(batches().count());
        ground.statistics.rows.add(batches().map(|batch| batch.len()).sum());
        ground.statistics.bytes.add(batches().map(|batch| batch.bytes()).sum());
        ground.statistics.commit.took(took);
    }
}

fn place_of(number: u64) -> usize {
    (number % PLACES as u64) as usize
}
