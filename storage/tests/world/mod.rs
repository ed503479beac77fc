//! A store on a simulated medium, the ports of some cores, and what must hold of it whatever happens: one seed decides what
//! is written, in which order the engine's parts take their steps, what goes wrong, and when the power is cut.

pub mod cuts;
mod model;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::model::{Core, Heard, Rows, State, Written, batch_of, heard};
use tern_storage::embedded::{EmbeddedOptions, OpenError, Step, Stepped, SteppedEngine};
use tern_storage::medium::SimulatedMedium;
use tern_storage::medium::simulated::{Fault, Odds};
use tern_storage::medium::stream::Stream;
use tern_storage::{
    Completion, Direction, Engine as _, Epoch, Fence, Lane, Port, ScanLimit, Slot, StoreError, Wake, keys,
};

/// Lanes, of which two lie on one port.
const LANES: usize = 3;
const PORTS: usize = 2;
const LIVES: usize = 5;
const STORE: &str = "node/store";
const ALL: ScanLimit = ScanLimit { rows: usize::MAX, bytes: usize::MAX };

/// The slot that decides everything. It has had two owners.
fn slot() -> Slot {
    Slot::of_user(1)
}

/// Nobody sleeps.
pub struct Quiet;

impl Wake for Quiet {
    fn wake(&self) {}
}

/// What went on in a run, for the tests that ask whether anything did.
#[derive(Default, Debug)]
pub struct Tally {
    pub crashes: u64,
    pub kills: u64,
    pub closes: u64,
    pub heard: Heard,
    pub told_of_rot: u64,
    pub faults: BTreeMap<Fault, u64>,
}

/// See the module.
pub struct World {
    random: Stream,
    medium: SimulatedMedium,
    engine: Option<SteppedEngine>,
    ports: Vec<Box<dyn Port>>,
    cores: Vec<Core>,
    now: Duration,
    was_killed: bool,
    pub tally: Tally,
}

impl World {
    /// An empty medium.
    pub fn new(seed: u64) -> Self {
        Self {
            random: Stream::named(seed, "the world"),
            medium: SimulatedMedium::new(seed, Odds::POWER_CUTS),
            engine: None,
            ports: Vec::new(),
            cores: (0..LANES).map(|index| Core::new(index, PORTS)).collect(),
            now: Duration::ZERO,
            was_killed: false,
            tally: Tally::default(),
        }
    }

    /// Some lives of a process, each ended by a power cut, a kill, or in order. `trouble` has the medium fail now and then
    /// otherwise too.
    pub fn live(&mut self, trouble: bool) {
        self.begin();
        for _ in 0..LIVES {
            let mut odds = Odds::POWER_CUTS.with(Fault::SlowSync, 50_000);
            if trouble {
                let troubles =
                    [Fault::NoRoom, Fault::WriteFails, Fault::SyncFails, Fault::DirectorySyncFails];
                for fault in troubles {
                    odds = odds.with(fault, 1 << self.random.below(14));
                }
                let often = troubles[self.random.below(4) as usize];
                odds = odds.with(often, 1 << (14 + self.random.below(4)));
            }
            self.medium.set_odds(odds);
            if self.random.below(3) > 0 {
                // What a kill has left unsynced is soon synced by what follows.
                let least = if self.was_killed { 0 } else { 4 };
                let most = 1 << (least + self.random.below(6));
                self.medium.cut_after(self.random.below(most));
            }
            self.run();
            self.end();
            self.open();
        }
        self.tally.faults = self.medium.counts().into_iter().collect();
    }

    /// One life, a kill, and a bit that flips in one of these files.
    pub fn rot(&mut self, chosen: &dyn Fn(&Path) -> bool) {
        self.begin();
        self.run();
        self.engine = None;
        self.medium.kill();
        let Some(path) = self.medium.rot(chosen) else { return };
        match self.try_open() {
            Ok(()) => self.verify(true),
            Err(OpenError::Damaged { findings, .. }) => {
                assert!(!findings.is_empty(), "nothing is said of where");
                self.tally.told_of_rot += 1;
            }
            Err(error) => panic!("a bit of {} flipped, and that is told as: {error}", path.display()),
        }
    }

    fn begin(&mut self) {
        self.open();
        self.engine().raise_epoch(slot(), Epoch(2)).expect("nothing fails yet");
    }

    fn options(&mut self) -> EmbeddedOptions {
        EmbeddedOptions {
            group_bytes_max: 1 << (8 + self.random.below(6)),
            commits_in_flight_max: 16,
            free_bytes_min: 0,
            flush_bytes: 4 << 10,
            segment_bytes: 4 << 10,
            ack_p99: Duration::from_millis(self.random.below(2) * 5),
            ..EmbeddedOptions::default()
        }
    }

    fn try_open(&mut self) -> Result<(), OpenError> {
        let (options, seed) = (self.options(), self.random.number());
        let engine = SteppedEngine::open(&self.medium, Path::new(STORE), options, seed)?;
        self.ports = (0..PORTS).map(|_| engine.port(Arc::new(Quiet))).collect();
        self.engine = Some(engine);
        Ok(())
    }

    /// Opens the store on a medium that does nothing wrong meanwhile but being cut off, and looks whether all is there.
    fn open(&mut self) {
        loop {
            self.medium.set_odds(Odds::POWER_CUTS);
            if self.random.below(4) == 0 {
                self.medium.cut_after(self.random.below(60));
            }
            let opened = self.try_open();
            if self.medium.is_cut() {
                self.engine = None;
                self.medium.crash();
                self.tally.crashes += 1;
                continue;
            }
            opened.unwrap_or_else(|error| panic!("nothing but the power failed, and a start says: {error}"));
            self.medium.cut_after(u64::MAX);
            return self.verify(false);
        }
    }

    fn engine(&self) -> &SteppedEngine {
        self.engine.as_ref().expect("it runs")
    }

    /// Random steps, until the power is cut or it is enough.
    fn run(&mut self) {
        for _ in 0..self.random.below(600) {
            match self.random.below(10) {
                0..4 => self.submit(),
                4 => self.read(),
                5 => self.poll(),
                _ => {
                    let step = Step::ALL[self.random.below(Step::ALL.len() as u64) as usize];
                    self.step(step);
                }
            }
            if self.medium.is_cut() {
                return;
            }
        }
    }

    fn step(&mut self, step: Step) -> Stepped {
        self.now += Duration::from_micros(self.random.below(2000));
        let stepped = self.engine().step(step, self.now);
        self.now += self.medium.take_time();
        stepped
    }

    fn submit(&mut self) {
        let index = self.random.below(LANES as u64) as usize;
        let core = &mut self.cores[index];
        let ops = core.next(&mut self.random);
        let batch = batch_of(&ops);
        let (stale, knew) = (self.random.below(40) == 0, core.failures());
        let fence = Fence::from_iter([(slot(), Epoch(if stale { 1 } else { 2 }))]);
        let port = &mut self.ports[core.port()];
        if let Ok(commit) = port.submit_in(Lane(index as u16), batch, fence) {
            let state = State::UnderWay;
            core.written.push(Written { commit, number: core.made, ops, stale, knew, state });
        }
    }

    fn read(&mut self) {
        let index = self.random.below(LANES as u64) as usize;
        let core = &mut self.cores[index];
        let (key, range) = (core.head(), keys::entries(core.log(), 0, u64::MAX));
        let committed = |core: &Core| {
            let last = core.written.iter().rposition(|written| written.state == State::Committed);
            let upto = &core.written[..last.map_or(0, |last| last + 1)];
            upto.iter().filter(|written| written.state != State::Refused).count()
        };
        let must_see = committed(core);
        let port = &mut self.ports[core.port()];
        let read = match self.random.below(2) {
            0 => port.get(key).ok(),
            _ => port.scan(range, Direction::Forwards, ALL).ok(),
        };
        core.reads.extend(read.map(|read| (read, must_see)));
    }

    fn poll(&mut self) {
        for (index, port) in self.ports.iter_mut().enumerate() {
            let mut completions = Vec::new();
            port.poll(&mut completions);
            for completion in completions {
                let mut cores = self.cores.iter_mut().filter(|core| core.port() == index);
                let core =
                    cores.find(|core| core.waits_for(&completion)).expect("what completes was asked for");
                heard(core, completion, &mut self.tally.heard);
            }
        }
    }

    /// The end of a life.
    fn end(&mut self) {
        if !self.medium.is_cut() && self.random.below(3) == 0 {
            self.engine().close();
            if !self.medium.is_cut() {
                self.poll();
                self.closed();
            }
        }
        self.ports.clear();
        self.cores.iter_mut().for_each(|core| core.reads.clear());
        self.engine = None;
        // What ended in the middle of something may have been the process alone.
        self.was_killed = self.random.below(3) == 0;
        if self.was_killed {
            self.medium.kill();
            self.tally.kills += 1;
        } else {
            self.medium.crash();
            self.tally.crashes += 1;
        }
    }

    /// A store that was closed in order, and had no trouble, has nothing in its log.
    fn closed(&mut self) {
        self.tally.closes += 1;
        let mut written = self.cores.iter().flat_map(|core| &core.written);
        if written.all(|written| written.state == State::Committed) {
            let had_trouble = self.medium.counts().iter().any(|(fault, count)| {
                let known = [Fault::LostWrite, Fault::TornWrite, Fault::LostName, Fault::SlowSync];
                *count > 0 && !known.contains(fault)
            });
            let is_segment = |path: &Path| path.extension().is_some_and(|extension| extension == "log");
            let segments = self.medium.files().into_iter().filter(|(path, _)| is_segment(path)).count();
            assert!(segments == 0 || had_trouble, "a store that was closed in order has {segments} segments");
        }
    }

    /// Reads everything, and compares it with what was written: all that was completed or seen is there, in whole batches,
    /// in their order. What can't be read, rot may have hit.
    fn verify(&mut self, has_rotten: bool) {
        for index in 0..LANES {
            let found = self.read_all(index);
            let core = &mut self.cores[index];
            let damaged = found.iter().filter(|(_, value)| value.is_none()).count();
            self.tally.told_of_rot += u64::from(damaged > 0);
            assert!(
                damaged == 0 || has_rotten,
                "core {index}: {damaged} rows are damaged, and no bit flipped"
            );
            let head = found.get(core.head().as_ref());
            let count = match head {
                // The newest entry says it too.
                Some(None) => {
                    let newest = found.keys().filter(|key| key.first() == Some(&b'e')).max();
                    let number =
                        newest.and_then(|key| keys::number_of(key)).expect("with a head there is an entry");
                    core.count_upto(Some(&number.to_le_bytes()))
                }
                head => core.count_upto(head.and_then(|value| value.as_deref())),
            };
            assert!(count >= core.seen, "core {index}: {} batches were there, and {count} are", core.seen);
            let mut expected = core.after(count);
            if has_rotten {
                expected.retain(|key, _| found.get(key) != Some(&None));
            }
            let whole = found.into_iter().filter_map(|(key, value)| Some((key, value?)));
            let found: Rows = whole.collect();
            if found != expected {
                let differs = |key: &&Vec<u8>| found.get(*key) != expected.get(*key);
                let keys = found.keys().chain(expected.keys()).filter(differs);
                let keys: Vec<_> = keys.map(|key| keys::describe(key)).collect();
                panic!("core {index}: of {count} batches these rows are not as they were written: {keys:?}");
            }
            core.base = found;
            core.written.clear();
            core.seen = 0;
        }
    }

    /// All rows of a core; `None` for those that are told to be damaged. What a scan gives is what gets give.
    fn read_all(&mut self, index: usize) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        let core = &self.cores[index];
        let engine = self.engine.as_ref().expect("it runs");
        let entries = (0..=core.made).map(|number| keys::entry(core.log(), number));
        let rows = (0..12).map(|number| core.row(number));
        let mut found = BTreeMap::new();
        for key in entries.chain(rows).chain([core.head()]) {
            match engine.get_blocking(&key) {
                Ok(Some(value)) => drop(found.insert(key.as_ref().to_vec(), Some(value.to_vec()))),
                Ok(None) => {}
                Err(StoreError::Corrupt { .. }) => drop(found.insert(key.as_ref().to_vec(), None)),
                Err(error) => panic!("core {index}: a read says {error}"),
            }
        }
        let range = keys::entries(core.log(), 0, u64::MAX);
        let within = |key: &[u8]| *key >= *range.start.as_ref() && *key < *range.end.as_ref();
        let got: Vec<_> = found.iter().filter(|(key, _)| within(key)).collect();
        let port = &mut self.ports[core.port()];
        port.scan(range.clone(), Direction::Forwards, ALL).expect("there is room for one");
        while self.engine.as_ref().expect("it runs").step(Step::Read, self.now) == Stepped::Waits {
            self.engine.as_ref().expect("it runs").step(Step::Apply, self.now);
        }
        let mut completions = Vec::new();
        port.poll(&mut completions);
        match completions.pop() {
            Some(Completion::Rows { result: Ok(rows), .. }) => {
                let scanned = rows.rows.iter().map(|(key, value)| (key.to_vec(), Some(value.to_vec())));
                let scanned: BTreeMap<_, _> = scanned.collect();
                assert!(scanned.iter().eq(got), "core {index}: a scan and gets give different entries");
            }
            Some(Completion::Rows { result: Err(StoreError::Corrupt { .. }), .. }) => {
                assert!(
                    got.iter().any(|(_, value)| value.is_none()),
                    "a scan tells of damage that no get finds"
                );
            }
            other => panic!("core {index}: a scan ends as {other:?}"),
        }
        found
    }
}
