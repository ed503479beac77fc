//! A FoundationDB in memory that does what the real one may do, as its seed says: it finds conflicts, does not know what became of a
//! commit that was in, was not, or lands seconds later, recovers with a jump of versions, throttles, is locked, stands still.
//!
//! It is what the engine relies on, written down: versions rise; a commit lands whole, at one version, unless a guarded row of what it
//! rests on was written since its version, or that is more than five seconds old; a read sees one version. Its time is the test's.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::client::{Caller, Client, Code, Found, Outcome, Request, Token, Transaction, Version, Want};
use super::codes;
use crate::engine::{Direction, Rows, ScanLimit, Wake};
use crate::keys::{self, Key, KeyRange};
use crate::medium::stream::Stream;
use crate::ordered;
use crate::records::NumberRecord;
use crate::slots::{Epoch, Slot};

/// What a version rests on for at most, in versions.
const WINDOW: i64 = 5_000_000;

/// For how long versions stand still where nothing is committed, in versions.
const STANDS_STILL: i64 = 2_000_000;

/// By how much versions rise in a recovery.
const RECOVERY: i64 = 90_000_000;

/// What the real one's client gives up a read after.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// What may go wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Fault {
    /// A commit conflicts for no reason that anybody sees.
    Conflict,
    /// A commit of which nobody knows is there.
    UnknownIn,
    /// A commit of which nobody knows is not there.
    UnknownOut,
    /// A commit of which nobody knows lands later.
    Late,
    /// All that is under way is unknown, versions jump, and nothing is done for a while.
    Recovery,
    /// A commit is put off.
    Throttled,
    /// A read is not answered in time.
    ReadFails,
    /// An operator locks the database for a while.
    Locked,
    /// Nothing is done for a while.
    StandsStill,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Conflict,
        Self::UnknownIn,
        Self::UnknownOut,
        Self::Late,
        Self::Recovery,
        Self::Throttled,
        Self::ReadFails,
        Self::Locked,
        Self::StandsStill,
    ];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Conflict => "fdb-conflict",
            Self::UnknownIn => "fdb-unknown-in",
            Self::UnknownOut => "fdb-unknown-out",
            Self::Late => "fdb-late",
            Self::Recovery => "fdb-recovery",
            Self::Throttled => "fdb-throttled",
            Self::ReadFails => "fdb-read-fails",
            Self::Locked => "fdb-locked",
            Self::StandsStill => "fdb-stands-still",
        }
    }
}

/// How many requests in a million meet each fault.
#[derive(Clone, Default, Debug)]
pub struct Odds(BTreeMap<Fault, u32>);

impl Odds {
    /// The same, with one fault as often as this.
    #[must_use]
    pub fn with(mut self, fault: Fault, per_million: u32) -> Self {
        self.0.insert(fault, per_million);
        self
    }

    fn of(&self, fault: Fault) -> u32 {
        self.0.get(&fault).copied().unwrap_or(0)
    }
}

/// See the module. Copies are the same one.
#[derive(Clone)]
pub struct SimFdb(Arc<Mutex<State>>);

impl std::fmt::Debug for SimFdb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimFdb").finish_non_exhaustive()
    }
}

struct State {
    now: Duration,
    random: Stream,
    odds: Odds,
    counts: BTreeMap<Fault, u64>,
    newest: Version,
    /// What recoveries have added to versions.
    jumped: i64,
    /// Values of each key, by the versions since which they hold.
    rows: BTreeMap<Key, Vec<(Version, Option<Bytes>)>>,
    /// When a guarded row was last written.
    guarded: BTreeMap<Key, Version>,
    events: BTreeMap<(Duration, u64), Event>,
    events_made: u64,
    callers: Vec<Hears>,
    stands_still_until: Duration,
    locked_until: Duration,
}

/// What comes to pass.
enum Event {
    Read(Whose, Duration, Option<Version>, Vec<Want>),
    Commit(Whose, Box<Transaction>),
    /// A commit of which nobody waits for an answer any more.
    Lands(Box<Transaction>),
    Answers(Whose, Outcome),
}

/// A request of a caller.
#[derive(Clone, Copy)]
struct Whose {
    caller: usize,
    token: Token,
}

/// A caller, as long as it is there.
struct Hears {
    outcomes: VecDeque<(Token, Outcome)>,
    wake: Option<Arc<dyn Wake>>,
    asked: u64,
}

impl SimFdb {
    /// An empty one.
    pub fn new(seed: u64, odds: Odds) -> Self {
        Self(Arc::new(Mutex::new(State {
            now: Duration::ZERO,
            random: Stream::named(seed, "FoundationDB"),
            odds,
            counts: BTreeMap::new(),
            newest: Version(1),
            jumped: 0,
            rows: BTreeMap::new(),
            guarded: BTreeMap::new(),
            events: BTreeMap::new(),
            events_made: 0,
            callers: Vec::new(),
            stands_still_until: Duration::ZERO,
            locked_until: Duration::ZERO,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics while it holds this")
    }

    /// How often what goes wrong from now on.
    pub fn set_odds(&self, odds: Odds) {
        self.state().odds = odds;
    }

    /// Whatever goes wrong for a while is over.
    pub fn heal(&self) {
        let mut state = self.state();
        state.odds = Odds::default();
        state.heals();
    }

    /// How often what went wrong.
    pub fn counts(&self) -> BTreeMap<Fault, u64> {
        self.state().counts.clone()
    }

    /// When the next thing comes to pass.
    pub fn next(&self) -> Option<Duration> {
        self.state().events.first_key_value().map(|((at, _), _)| *at)
    }

    /// What comes to pass up to this time comes to pass.
    pub fn run_until(&self, now: Duration) {
        while self.next().is_some_and(|at| at <= now) {
            self.step();
        }
        let mut state = self.state();
        state.now = state.now.max(now);
    }

    /// The next thing comes to pass, whenever that is. `false`: there is nothing.
    pub fn step(&self) -> bool {
        let wake = {
            let mut state = self.state();
            let Some(((at, _), event)) = state.events.pop_first() else { return false };
            state.now = state.now.max(at);
            state.happens(event)
        };
        if let Some(wake) = wake {
            wake.wake();
        }
        true
    }

    /// Another process takes a slot over.
    pub fn raise(&self, slot: Slot, epoch: Epoch) -> Version {
        let mut state = self.state();
        let at = state.newest;
        let count = state
            .value(&keys::epochs_version(), at)
            .map_or(0, |value| NumberRecord::decode(value).expect("what was written").number);
        let value = |number| NumberRecord { number }.encode_to_vec().into();
        state.land(&Transaction {
            at,
            unchanged: Vec::new(),
            guarded: vec![(keys::epoch(slot), value(epoch.0)), (keys::epochs_version(), value(count + 1))],
            batches: Vec::new(),
        })
    }

    /// The value of a key, and the version that it is of.
    pub fn written(&self, key: &Key) -> Option<(Version, Bytes)> {
        let state = self.state();
        let (version, value) = state.rows.get(key)?.last()?;
        Some((*version, value.clone()?))
    }

    /// Every row that is there, in order.
    pub fn rows(&self) -> Vec<(Key, Bytes)> {
        let state = self.state();
        let row = |(key, values): (&Key, &Vec<(Version, Option<Bytes>)>)| {
            Some((key.clone(), values.last()?.1.clone()?))
        };
        state.rows.iter().filter_map(row).collect()
    }
}

impl State {
    fn heals(&mut self) {
        (self.stands_still_until, self.locked_until) = (Duration::ZERO, Duration::ZERO);
    }

    fn at(&mut self, when: Duration, event: Event) {
        self.events_made += 1;
        self.events.insert((when, self.events_made), event);
    }

    /// In a moment.
    fn soon(&mut self, event: Event) {
        let when = self.now + Duration::from_micros(50 + self.random.below(1_000));
        self.at(when, event);
    }

    fn hits(&mut self, fault: Fault) -> bool {
        let hits = self.random.hits(self.odds.of(fault));
        if hits {
            *self.counts.entry(fault).or_default() += 1;
        }
        hits
    }

    /// Versions rise with the time, though not without a commit, and where nothing is committed the real one makes one every few seconds.
    fn version(&mut self) -> Version {
        let by_time = self.now.as_micros() as i64 + self.jumped;
        if by_time > self.newest.0 + STANDS_STILL {
            self.newest = Version(by_time);
        }
        self.newest
    }

    /// Gives whom to wake.
    fn happens(&mut self, event: Event) -> Option<Arc<dyn Wake>> {
        match event {
            Event::Answers(whose, outcome) => {
                let hears = &mut self.callers[whose.caller];
                let wake = hears.wake.clone()?;
                hears.outcomes.push_back((whose.token, outcome));
                return Some(wake);
            }
            Event::Lands(transaction) => {
                if self.now < self.stands_still_until {
                    self.at(self.stands_still_until, Event::Lands(transaction));
                } else if self.refuses(&transaction).is_none() {
                    self.land(&transaction);
                }
            }
            Event::Read(whose, since, at, wants) => self.read(whose, since, at, wants),
            Event::Commit(whose, transaction) => self.commit(whose, transaction),
        }
        None
    }

    fn answer(&mut self, whose: Whose, outcome: Outcome) {
        self.soon(Event::Answers(whose, outcome));
    }

    /// What befalls all requests. `true`: this one is not done now.
    fn is_stopped(&mut self) -> bool {
        if self.hits(Fault::StandsStill) {
            let while_us = if self.random.below(4) == 0 { 8_000_000 } else { 500_000 };
            self.stands_still_until = self.now + Duration::from_micros(self.random.below(while_us));
        }
        if self.hits(Fault::Locked) {
            self.locked_until = self.now + Duration::from_micros(self.random.below(3_000_000));
        }
        if self.hits(Fault::Recovery) {
            self.recover();
        }
        self.now < self.stands_still_until
    }

    /// Nobody knows what became of the commits under way.
    fn recover(&mut self) {
        self.jumped += RECOVERY;
        let under_way = std::mem::take(&mut self.events);
        for (place, event) in under_way {
            match event {
                Event::Commit(whose, transaction) => {
                    if self.random.below(2) == 0 && self.refuses(&transaction).is_none() {
                        self.land(&transaction);
                    }
                    self.answer(whose, Outcome::Failed(codes::UNKNOWN_RESULT));
                }
                // It was the last that could have landed.
                Event::Lands(_) => {}
                event @ (Event::Read(..) | Event::Answers(..)) => drop(self.events.insert(place, event)),
            }
        }
        self.version();
        self.stands_still_until = self.now + Duration::from_micros(self.random.below(2_000_000));
    }

    fn read(&mut self, whose: Whose, since: Duration, at: Option<Version>, wants: Vec<Want>) {
        let gives_up = since + READ_TIMEOUT;
        if self.is_stopped() {
            if self.stands_still_until >= gives_up {
                self.at(gives_up, Event::Answers(whose, Outcome::Failed(codes::TIMED_OUT)));
            } else {
                self.at(self.stands_still_until, Event::Read(whose, since, at, wants));
            }
            return;
        }
        if self.now < self.locked_until {
            return self.answer(whose, Outcome::Failed(codes::LOCKED));
        }
        if self.hits(Fault::ReadFails) {
            return self.at(gives_up, Event::Answers(whose, Outcome::Failed(codes::TIMED_OUT)));
        }
        let newest = self.version();
        let at = at.filter(|at| at.0 + WINDOW > newest.0).unwrap_or(newest);
        assert!(at <= newest, "nobody reads at a version that is not there yet");
        let found = wants.into_iter().map(|want| match want {
            Want::Value(key) => Found::Value(self.value(&key, at)),
            Want::Rows(range, direction, limit) => Found::Rows(self.scan(&range, direction, limit, at)),
        });
        let found = found.collect();
        self.answer(whose, Outcome::Read(at, found));
    }

    fn commit(&mut self, whose: Whose, transaction: Box<Transaction>) {
        if self.is_stopped() {
            return self.at(self.stands_still_until, Event::Commit(whose, transaction));
        }
        if self.now < self.locked_until {
            return self.answer(whose, Outcome::Failed(codes::LOCKED));
        }
        if self.hits(Fault::Throttled) {
            let code = if self.random.below(2) == 0 { codes::THROTTLED } else { codes::PROXY_MEMORY };
            return self.answer(whose, Outcome::Failed(code));
        }
        let later = [codes::TIMED_OUT, codes::CLUSTER_VERSION_CHANGED, codes::CANCELLED];
        let code = later[self.random.below(3) as usize];
        if self.hits(Fault::Late) {
            let when = self.now + Duration::from_micros(self.random.below(6_000_000));
            self.at(when, Event::Lands(transaction));
            return self.answer(whose, Outcome::Failed(code));
        }
        if self.hits(Fault::UnknownOut) {
            return self.answer(whose, Outcome::Failed(codes::UNKNOWN_RESULT));
        }
        if self.hits(Fault::Conflict) {
            return self.answer(whose, Outcome::Failed(codes::NOT_COMMITTED));
        }
        if let Some(code) = self.refuses(&transaction) {
            return self.answer(whose, Outcome::Failed(code));
        }
        let version = self.land(&transaction);
        let is_unknown = self.hits(Fault::UnknownIn);
        let code = if self.random.below(2) == 0 { code } else { codes::UNKNOWN_RESULT };
        self.answer(whose, if is_unknown { Outcome::Failed(code) } else { Outcome::Committed(version) });
    }

    /// Why a transaction can't land now.
    fn refuses(&mut self, transaction: &Transaction) -> Option<Code> {
        let newest = self.version();
        if transaction.at.0 + WINDOW <= newest.0 {
            return Some(codes::TOO_OLD);
        }
        let is_changed = |range: &KeyRange| {
            let written = self.guarded.range((Bound::Included(&range.start), Bound::Excluded(&range.end)));
            written.into_iter().any(|(_, version)| *version > transaction.at)
        };
        transaction.unchanged.iter().any(is_changed).then_some(codes::NOT_COMMITTED)
    }

    fn land(&mut self, transaction: &Transaction) -> Version {
        let by_time = self.now.as_micros() as i64 + self.jumped;
        let version = Version(self.newest.0.max(by_time) + 1 + self.random.below(20) as i64);
        self.newest = version;
        // Time does not fall behind what it has made.
        self.jumped = self.jumped.max(version.0 - self.now.as_micros() as i64);
        for batch in &transaction.batches {
            for (key, value) in batch.ops() {
                self.write(Key::from_raw(key), version, value.map(Bytes::copy_from_slice));
            }
        }
        for (key, value) in &transaction.guarded {
            self.write(key.clone(), version, Some(value.clone()));
            self.guarded.insert(key.clone(), version);
        }
        version
    }

    fn write(&mut self, key: Key, version: Version, value: Option<Bytes>) {
        let values = self.rows.entry(key).or_default();
        if values.last().is_some_and(|(last, _)| *last == version) {
            values.pop();
        }
        values.push((version, value));
        // Nobody reads before the window, but the value that holds at its beginning.
        let begin = Version(version.0 - WINDOW);
        let old = values.iter().rposition(|(since, _)| *since <= begin).unwrap_or(0);
        values.drain(..old);
    }

    fn value(&self, key: &Key, at: Version) -> Option<Bytes> {
        value_at(self.rows.get(key)?, at)
    }

    fn scan(&self, range: &KeyRange, direction: Direction, limit: ScanLimit, at: Version) -> Rows {
        ordered::scan(&self.rows, range, direction, limit, |values| value_at(values, at))
    }
}

/// The value that holds at a version, of those that a row has had.
fn value_at(values: &[(Version, Option<Bytes>)], at: Version) -> Option<Bytes> {
    values.iter().rfind(|(since, _)| *since <= at)?.1.clone()
}

impl Client for SimFdb {
    fn caller(&self, wake: Arc<dyn Wake>) -> Box<dyn Caller> {
        let mut state = self.state();
        state.callers.push(Hears { outcomes: VecDeque::new(), wake: Some(wake), asked: 0 });
        Box::new(SimCaller { fdb: self.clone(), number: state.callers.len() - 1 })
    }

    fn silence(&self) -> String {
        "its seed has it stand still".to_owned()
    }

    fn busyness(&self) -> f64 {
        0.0
    }

    fn close(&self) {}
}

struct SimCaller {
    fdb: SimFdb,
    number: usize,
}

impl Caller for SimCaller {
    fn start(&mut self, request: Request) -> Token {
        let mut state = self.fdb.state();
        let hears = &mut state.callers[self.number];
        hears.asked += 1;
        let token = Token(hears.asked);
        let (whose, since) = (Whose { caller: self.number, token }, state.now);
        state.soon(match request {
            Request::Read { at, wants } => Event::Read(whose, since, at, wants),
            Request::Commit(transaction) => Event::Commit(whose, transaction),
        });
        token
    }

    fn poll(&mut self, outcomes: &mut Vec<(Token, Outcome)>) {
        outcomes.extend(self.fdb.state().callers[self.number].outcomes.drain(..));
    }

    fn has_outcomes(&self) -> bool {
        !self.fdb.state().callers[self.number].outcomes.is_empty()
    }

    /// Time passes as far as it must.
    fn wait(&mut self, _: Duration) -> bool {
        while !self.has_outcomes() {
            if !self.fdb.step() {
                // Nothing is to come but the end of what it is in the midst of.
                self.fdb.state().heals();
                return false;
            }
        }
        true
    }
}

impl Drop for SimCaller {
    fn drop(&mut self) {
        let mut state = self.fdb.state();
        let hears = &mut state.callers[self.number];
        (hears.wake, hears.outcomes) = (None, VecDeque::new());
    }
}
