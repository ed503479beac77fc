//! A lane: the notices of one service, and when which of them is sent. A state machine that knows no clock, no network and no randomness:
//! times are in ms since the lane began.
//!
//! A notice is in one place, and those of the same device and collapse key take turns:
//!
//! ```text
//! offer -> Ready -> InFlight -> an outcome
//!            ^        | later
//!            |        v
//!            +----- Delayed          a newer one takes the place of one that is Ready, Delayed or Behind;
//!            +----- Behind           it is Behind while the older one is InFlight
//! ```
//! What always holds: of a turn one notice at most is in flight, and one at most waits, which is the newer one.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::backoff::Backoff;
use super::breaker::{Admission, Breaker, BreakerState};
use super::counters::Counters;
use super::outcome::{Order, Outcome, Report};
use super::pauses::DevicePauses;
use crate::notice::{CollapseKey, DeviceId, Priority};
use crate::service::{Answer, Trouble};

/// A lane's bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub in_flight_max: usize,
    pub tries_max: u32,
    pub backoff: Backoff,
}

/// Which notice, within a lane. A notice that takes the place of another takes over its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Number(u64);

/// Who is sent first: what is urgent, then what came first. A probe that failed goes behind all, so that each is the probe once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Rank {
    class: u8,
    seq: u64,
}

const HIGH: u8 = 0;
const NORMAL: u8 = 1;
const LAST: u8 = 2;

/// Those that take turns.
type TurnOf = (DeviceId, CollapseKey);

#[derive(Default)]
struct Turn {
    in_flight: Option<Number>,
    waiting: Option<Number>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Ready,
    Delayed(u64),
    Behind,
    InFlight { is_probe: bool },
}

struct Job {
    order: Arc<Order>,
    expires_ms: u64,
    tries: u32,
    was_sent: bool,
    rank: Rank,
    place: Place,
}

/// What is to be sent.
pub(super) struct Sending {
    pub number: Number,
    pub order: Arc<Order>,
}

/// See the module.
pub(super) struct Lane {
    bounds: Bounds,
    breaker: Breaker,
    jobs: HashMap<Number, Job>,
    turns: HashMap<TurnOf, Turn>,
    ready: BTreeSet<(Rank, Number)>,
    delayed: BTreeSet<(u64, Number)>,
    /// When those that are not in flight are over.
    ends: BTreeSet<(u64, Number)>,
    pauses: DevicePauses,
    /// Until when nothing is sent, as the service asks.
    busy_until_ms: u64,
    in_flight: usize,
    next_seq: u64,
    counters: Counters,
}

impl Lane {
    pub fn new(bounds: Bounds, breaker: Breaker) -> Self {
        Self {
            bounds,
            breaker,
            jobs: HashMap::new(),
            turns: HashMap::new(),
            ready: BTreeSet::new(),
            delayed: BTreeSet::new(),
            ends: BTreeSet::new(),
            pauses: DevicePauses::default(),
            busy_until_ms: 0,
            in_flight: 0,
            next_seq: 0,
            counters: Counters::default(),
        }
    }

    /// Takes a notice that is over at `expires_ms`.
    pub fn offer(&mut self, order: Order, expires_ms: u64, now_ms: u64, reports: &mut Vec<Report>) {
        if expires_ms <= now_ms {
            return self.report(&order, Outcome::Expired, reports);
        }
        let rank = self.rank_of(&order);
        let job =
            Job { order: Arc::new(order), expires_ms, tries: 0, was_sent: false, rank, place: Place::Ready };
        let turn = turn_of(&job.order).map(|turn| self.turns.entry(turn).or_default());
        let Some(turn) = turn else { return self.enter(Number(rank.seq), job) };
        if let Some(older) = turn.waiting {
            return self.replace(older, job, reports);
        }
        turn.waiting = Some(Number(rank.seq));
        let place = if turn.in_flight.is_some() { Place::Behind } else { Place::Ready };
        self.enter(Number(rank.seq), Job { place, ..job });
    }

    /// The next notice that is to be sent now. Those that are over by now are reported.
    pub fn next(&mut self, now_ms: u64, reports: &mut Vec<Report>) -> Option<Sending> {
        self.expire(now_ms, reports);
        self.wake(now_ms);
        if self.in_flight >= self.bounds.in_flight_max || self.busy_until_ms > now_ms {
            return None;
        }
        let number = self.first_ready(now_ms)?;
        match self.breaker.admit(now_ms) {
            Admission::Send => Some(self.start(number, false)),
            Admission::Probe => Some(self.start(number, true)),
            Admission::Wait(_) => None,
        }
    }

    /// The service has said this of a notice in flight. `random` is any number.
    pub fn answered(
        &mut self,
        number: Number,
        answer: Answer,
        now_ms: u64,
        random: u64,
        reports: &mut Vec<Report>,
    ) {
        let is_probe = self.land(number, &answer, now_ms);
        match answer {
            Answer::Delivered => self.finish(number, Outcome::Delivered, reports),
            Answer::Dead => {
                let token = self.job(number).order.token.clone();
                self.finish(number, Outcome::Dead(token), reports);
            }
            Answer::Refused(reason) => self.finish(number, Outcome::Refused(reason), reports),
            Answer::Later { trouble, after } => {
                let job = self.job(number);
                // A probe has tried for all: it is no try of its own.
                job.tries -= u32::from(is_probe);
                let (tries, device) = (job.tries, job.order.device);
                if tries >= self.bounds.tries_max {
                    return self.finish(number, Outcome::GaveUp, reports);
                }
                let until_ms = now_ms + self.bounds.backoff.wait_ms(tries, after, random);
                match trouble {
                    Trouble::Device => self.pauses.pause(device, until_ms, now_ms),
                    Trouble::Busy => self.busy_until_ms = self.busy_until_ms.max(until_ms),
                    Trouble::Down => {}
                }
                self.delay(number, until_ms, is_probe, reports);
            }
            Answer::Wait(wait) => {
                self.job(number).tries -= 1;
                self.delay(number, now_ms + wait.as_millis() as u64, is_probe, reports);
            }
        }
    }

    /// When there may be something to do without anything coming in, in ms. `None`: nothing is waited for.
    pub fn wake_ms(&self) -> Option<u64> {
        let first = |set: &BTreeSet<(u64, Number)>| set.first().map(|(at_ms, _)| *at_ms);
        [first(&self.delayed), first(&self.ends), self.unblocked_ms()].into_iter().flatten().min()
    }

    /// When those that are ready may be sent, if that is a matter of time: not where they wait for a place, or for the probe.
    fn unblocked_ms(&self) -> Option<u64> {
        if self.ready.is_empty() || self.in_flight >= self.bounds.in_flight_max {
            return None;
        }
        match self.breaker.state() {
            BreakerState::Closed => (self.busy_until_ms > 0).then_some(self.busy_until_ms),
            BreakerState::Open => self.breaker.until_ms().max(Some(self.busy_until_ms)),
            BreakerState::HalfOpen => None,
        }
    }

    /// Ends all that are not in flight.
    pub fn stop(&mut self, reports: &mut Vec<Report>) {
        let waiting = |(number, job): (&Number, &Job)| (!job.is_in_flight()).then_some(*number);
        let waiting: Vec<Number> = self.jobs.iter().filter_map(waiting).collect();
        for number in waiting {
            self.leave(number);
            self.finish(number, Outcome::Stopped, reports);
        }
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Notices that are not in flight.
    pub fn waiting(&self) -> usize {
        self.jobs.len() - self.in_flight
    }

    fn rank_of(&mut self, order: &Order) -> Rank {
        self.next_seq += 1;
        let class = match order.notice.priority {
            Priority::High => HIGH,
            Priority::Normal => NORMAL,
        };
        Rank { class, seq: self.next_seq }
    }

    fn job(&mut self, number: Number) -> &mut Job {
        self.jobs.get_mut(&number).expect("whoever has a number has its notice")
    }

    /// A notice that waits gets its place.
    fn enter(&mut self, number: Number, job: Job) {
        match job.place {
            Place::Ready => drop(self.ready.insert((job.rank, number))),
            Place::Delayed(until_ms) => drop(self.delayed.insert((until_ms, number))),
            Place::Behind => {}
            Place::InFlight { .. } => unreachable!("what is in flight does not wait"),
        }
        self.ends.insert((job.expires_ms, number));
        self.jobs.insert(number, job);
    }

    /// A notice that waits loses its place, and is nowhere.
    fn leave(&mut self, number: Number) {
        let job = &self.jobs[&number];
        match job.place {
            Place::Ready => drop(self.ready.remove(&(job.rank, number))),
            Place::Delayed(until_ms) => drop(self.delayed.remove(&(until_ms, number))),
            Place::Behind => {}
            Place::InFlight { .. } => unreachable!("what is in flight does not wait"),
        }
        self.ends.remove(&(job.expires_ms, number));
    }

    /// A newer notice takes the place of one that waits, and is sent no later than that would have been.
    fn replace(&mut self, number: Number, newer: Job, reports: &mut Vec<Report>) {
        self.leave(number);
        let older = self.jobs.remove(&number).expect("it waits");
        self.report(&older.order, Outcome::Replaced, reports);
        let (rank, place) = (newer.rank.min(older.rank), older.place);
        self.enter(number, Job { rank, place, ..newer });
    }

    fn expire(&mut self, now_ms: u64, reports: &mut Vec<Report>) {
        while let Some(&(at_ms, number)) = self.ends.first()
            && at_ms <= now_ms
        {
            self.leave(number);
            self.finish(number, Outcome::Expired, reports);
        }
    }

    fn wake(&mut self, now_ms: u64) {
        while let Some(&(at_ms, number)) = self.delayed.first()
            && at_ms <= now_ms
        {
            self.delayed.pop_first();
            self.make_ready(number);
        }
    }

    fn make_ready(&mut self, number: Number) {
        let job = self.job(number);
        job.place = Place::Ready;
        let rank = job.rank;
        self.ready.insert((rank, number));
    }

    /// The first that is ready. Those whose device is paused wait until it is not.
    fn first_ready(&mut self, now_ms: u64) -> Option<Number> {
        loop {
            let &(rank, number) = self.ready.first()?;
            let device = self.jobs[&number].order.device;
            let Some(until_ms) = self.pauses.until_ms(device, now_ms) else { return Some(number) };
            self.ready.remove(&(rank, number));
            self.delayed.insert((until_ms, number));
            self.job(number).place = Place::Delayed(until_ms);
        }
    }

    fn start(&mut self, number: Number, is_probe: bool) -> Sending {
        self.leave(number);
        let job = self.job(number);
        job.place = Place::InFlight { is_probe };
        job.tries += 1;
        let order = job.order.clone();
        if let Some(turn) = turn_of(&order) {
            let turn = self.turns.entry(turn).or_default();
            *turn = Turn { in_flight: Some(number), waiting: None };
        }
        self.in_flight += 1;
        Sending { number, order }
    }

    /// A request has come back, and says something of the service. Gives whether it was the probe.
    fn land(&mut self, number: Number, answer: &Answer, now_ms: u64) -> bool {
        let Place::InFlight { is_probe } = self.job(number).place else {
            unreachable!("only what was sent is answered")
        };
        self.in_flight -= 1;
        if !matches!(answer, Answer::Wait(_)) {
            let was_sent = std::mem::replace(&mut self.job(number).was_sent, true);
            self.counters.sent += 1;
            self.counters.retried += u64::from(was_sent);
        }
        match answer {
            Answer::Later { trouble: Trouble::Down, .. } => {
                self.counters.opened += u64::from(self.breaker.failed(now_ms, is_probe));
            }
            Answer::Wait(_) => self.breaker.unsent(now_ms, is_probe),
            Answer::Delivered | Answer::Dead | Answer::Refused(_) | Answer::Later { .. } => {
                self.breaker.answered(is_probe);
            }
        }
        is_probe
    }

    /// A notice that was in flight waits until then; or a newer one does, and takes its place.
    fn delay(&mut self, number: Number, until_ms: u64, is_probe: bool, reports: &mut Vec<Report>) {
        let order = self.jobs[&number].order.clone();
        let turn = turn_of(&order).and_then(|turn| self.turns.get_mut(&turn));
        let newer = turn.and_then(|turn| {
            turn.in_flight = None;
            // It waits itself, where there is no newer one.
            let newer = turn.waiting;
            turn.waiting = newer.or(Some(number));
            newer
        });
        if let Some(newer) = newer {
            self.jobs.remove(&number);
            self.report(&order, Outcome::Replaced, reports);
            self.job(newer).place = Place::Delayed(until_ms);
            self.delayed.insert((until_ms, newer));
            return;
        }
        let mut job = self.jobs.remove(&number).expect("it was in flight");
        job.place = Place::Delayed(until_ms);
        if is_probe {
            self.next_seq += 1;
            job.rank = Rank { class: LAST, seq: self.next_seq };
        }
        self.enter(number, job);
    }

    /// A notice that is nowhere has its outcome. What waits behind it is next.
    fn finish(&mut self, number: Number, outcome: Outcome, reports: &mut Vec<Report>) {
        let job = self.jobs.remove(&number).expect("it has no outcome yet");
        self.report(&job.order, outcome, reports);
        let Some(of) = turn_of(&job.order) else { return };
        let turn = self.turns.get_mut(&of).expect("whoever has a key has a turn");
        match job.place {
            Place::InFlight { .. } => turn.in_flight = None,
            Place::Ready | Place::Delayed(_) | Place::Behind => turn.waiting = None,
        }
        match (turn.in_flight, turn.waiting) {
            (None, None) => drop(self.turns.remove(&of)),
            (None, Some(next)) => self.make_ready(next),
            (Some(_), _) => {}
        }
    }

    fn report(&mut self, order: &Order, outcome: Outcome, reports: &mut Vec<Report>) {
        self.counters.count(&outcome);
        let (id, device, service) = (order.notice.id, order.device, order.token.kind());
        reports.push(Report { id, device, service, outcome });
    }
}

impl Job {
    fn is_in_flight(&self) -> bool {
        matches!(self.place, Place::InFlight { .. })
    }
}

fn turn_of(order: &Order) -> Option<TurnOf> {
    Some((order.device, order.notice.collapse.clone()?))
}
