//! The engine over a simulated FoundationDB that does whatever the real one may do: what was acknowledged is there, once, in order, and
//! nothing is that was decided by whoever had lost its slot.

#![allow(clippy::print_stdout, reason = "a failed run is repeated with the seed that it printed")]

#[path = "world/model.rs"]
mod model;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::{Core, Heard, Rows, State, Written, batch_of, heard};
use tern_storage::fdb::client::Version;
use tern_storage::fdb::simulated::{Fault, Odds, SimFdb};
use tern_storage::fdb::{FdbOptions, SteppedFdb};
use tern_storage::medium::stream::Stream;
use tern_storage::{
    Completion, Direction, Engine as _, Epoch, Fence, Key, Lane, Port, ScanLimit, Slot, StoreError, Wake,
    keys,
};

/// Cores, of which two lie on one port, and all on one or two of the engine's lanes.
const CORES: usize = 5;
const PORTS: usize = 3;
const LIVES: usize = 4;
const ALL: ScanLimit = ScanLimit { rows: usize::MAX, bytes: usize::MAX };

/// Nobody sleeps.
struct Quiet;

impl Wake for Quiet {
    fn wake(&self) {}
}

/// The slot that decides what a core writes: none that its keys lie in.
fn slot(core: usize) -> Slot {
    Slot::of_user(2_000 + core as u64)
}

/// The epochs of a core's slot.
#[derive(Default)]
struct Owned {
    /// The one in which the core owns it, as far as the core knows.
    known: u64,
    /// When each was begun by somebody else.
    begun: BTreeMap<u64, Version>,
}

struct World {
    seed: u64,
    random: Stream,
    fdb: SimFdb,
    engine: Option<SteppedFdb>,
    /// One that has lost the store, and may not know.
    last: Option<SteppedFdb>,
    ports: Vec<Box<dyn Port>>,
    cores: Vec<Core>,
    owned: Vec<Owned>,
    /// In which epoch each batch was decided, by core and number.
    decided: BTreeMap<(usize, u64), u64>,
    now: Duration,
    heard: Heard,
    thefts: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            random: Stream::named(seed, "the world"),
            fdb: SimFdb::new(seed, Odds::default()),
            engine: None,
            last: None,
            ports: Vec::new(),
            cores: (0..CORES).map(|index| Core::new(index, PORTS)).collect(),
            owned: (0..CORES).map(|_| Owned::default()).collect(),
            decided: BTreeMap::new(),
            now: Duration::ZERO,
            heard: Heard::default(),
            thefts: 0,
        }
    }

    /// Some lives of a process; at the end of all nothing is in the way, and everything is answered.
    fn live(&mut self) {
        for life in 0..LIVES {
            // Perhaps what is wrong goes on while another one takes the store over.
            if self.random.below(2) == 0 {
                self.fdb.heal();
            }
            self.open();
            self.verify();
            let odds = self.odds();
            self.fdb.set_odds(odds);
            self.run();
            if life == LIVES - 1 || self.random.below(3) == 0 {
                self.end_well();
            }
            self.die();
        }
        self.fdb.heal();
        self.open();
        self.verify();
        // What is late has landed, or never will, and whoever has lost the store knows it.
        self.pass(Duration::from_secs(10));
        if let Some(last) = self.last.take() {
            last.step(self.now);
            self.pass(Duration::from_secs(1));
            last.step(self.now);
            assert!(
                last.failed().is_some_and(|why| why.contains("taken the store over")),
                "seed {}",
                self.seed
            );
        }
        self.verify();
    }

    fn odds(&mut self) -> Odds {
        let mut odds = Odds::default();
        for fault in Fault::ALL {
            if self.random.below(2) == 0 {
                odds = odds.with(fault, 1 << (4 + self.random.below(12)));
            }
        }
        let often = [Fault::Late, Fault::UnknownIn, Fault::UnknownOut, Fault::Conflict, Fault::Throttled];
        odds.with(often[self.random.below(5) as usize], 1 << (14 + self.random.below(5)))
    }

    fn open(&mut self) {
        let options = FdbOptions {
            lanes: 1 + self.random.below(2) as u16,
            group_bytes_max: 1 << (8 + self.random.below(6)),
            commits_in_flight_max: 16,
            ack_p99: Duration::from_millis(self.random.below(2) * 20),
            ..FdbOptions::default()
        };
        let nonce = self.random.number();
        let engine = SteppedFdb::open(&self.fdb, options, nonce, self.now).expect("nothing is in the way");
        self.ports = (0..PORTS).map(|_| engine.port(Arc::new(Quiet))).collect();
        self.engine = Some(engine);
    }

    fn engine(&self) -> &SteppedFdb {
        self.engine.as_ref().expect("it runs")
    }

    /// Time passes.
    fn pass(&mut self, while_: Duration) {
        self.now += while_;
        if let Some(last) = &self.last {
            last.step(self.now);
        }
        match &self.engine {
            Some(engine) => drop(engine.step(self.now)),
            None => self.fdb.run_until(self.now),
        }
    }

    fn run(&mut self) {
        for _ in 0..self.random.below(400) {
            match self.random.below(100) {
                0..40 => self.submit(),
                40..48 => self.read(),
                48..60 => self.poll(),
                60 => self.steal(),
                61 => {
                    let long = Duration::from_micros(self.random.below(4_000_000));
                    self.pass(long);
                }
                _ => {
                    let short = Duration::from_micros(self.random.below(2_000));
                    self.pass(short);
                }
            }
        }
    }

    fn submit(&mut self) {
        let index = self.random.below(CORES as u64) as usize;
        let core = &mut self.cores[index];
        let ops = core.next(&mut self.random);
        let batch = batch_of(&ops);
        let epoch = self.owned[index].known;
        let fence = Fence::from_iter([(slot(index), Epoch(epoch))]);
        let knew = core.failures();
        match self.ports[core.port()].submit_in(Lane(index as u16), batch, fence) {
            Ok(commit) => {
                self.decided.insert((index, core.made), epoch);
                let number = core.made;
                core.written.push(Written {
                    commit,
                    number,
                    ops,
                    stale: false,
                    knew,
                    state: State::UnderWay,
                });
            }
            Err(_) => core.made -= 1,
        }
    }

    fn read(&mut self) {
        let index = self.random.below(CORES as u64) as usize;
        let is_scan = self.random.below(3) == 0;
        let core = &mut self.cores[index];
        let port = &mut self.ports[core.port()];
        let asked = if is_scan {
            port.scan(keys::entries(core.log(), 0, u64::MAX), Direction::Forwards, ALL).ok()
        } else {
            port.get(core.head()).ok()
        };
        let seen = core.seen;
        core.reads.insert(asked.expect("there is room"), seen);
    }

    fn poll(&mut self) {
        for port in 0..PORTS {
            let mut completions = Vec::new();
            self.ports[port].poll(&mut completions);
            for completion in completions {
                self.told(port, completion);
            }
        }
    }

    fn told(&mut self, port: usize, completion: Completion) {
        let of_port = |core: &&mut Core| core.port() == port && core.waits_for(&completion);
        let core = self.cores.iter_mut().find(of_port).expect("somebody waits for it");
        let index = core.index;
        let is_fenced = matches!(&completion, Completion::CommitFailed { error: StoreError::Fenced { slot: of }, .. } if *of == slot(index));
        heard(core, completion, &mut self.heard);
        if is_fenced {
            // It gets the slot back.
            let owned = &mut self.owned[index];
            owned.known = owned.begun.last_key_value().map_or(0, |(epoch, _)| *epoch);
        }
    }

    /// Another process takes a core's slot.
    fn steal(&mut self) {
        let index = self.random.below(CORES as u64) as usize;
        let owned = &mut self.owned[index];
        let epoch = owned.begun.last_key_value().map_or(0, |(epoch, _)| *epoch) + 1;
        owned.begun.insert(epoch, self.fdb.raise(slot(index), Epoch(epoch)));
        self.thefts += 1;
    }

    /// Nothing is in the way any more: all that was asked is answered.
    fn end_well(&mut self) {
        self.fdb.heal();
        for _ in 0..100_000 {
            let waits = |core: &Core| {
                !core.reads.is_empty() || core.written.iter().any(|written| written.state == State::UnderWay)
            };
            if !self.cores.iter().any(waits) {
                assert_eq!(self.engine().trouble(), None, "seed {}", self.seed);
                return;
            }
            let next = self.fdb.next().map_or(Duration::from_millis(50), |at| at.saturating_sub(self.now));
            self.pass(next.min(Duration::from_millis(50)));
            self.poll();
        }
        panic!("seed {}: something is never answered", self.seed);
    }

    /// The process ends without a word.
    fn die(&mut self) {
        self.poll();
        // Perhaps it only seems so.
        self.last = self.engine.take().filter(|_| self.random.below(2) == 0);
        self.ports.clear();
        self.cores.iter_mut().for_each(|core| core.reads.clear());
        let wait = Duration::from_micros(self.random.below(2_000_000));
        self.pass(wait);
    }

    /// What FoundationDB holds is what was written: all that was completed or seen, in whole batches, in their order; and nothing that
    /// was decided in an epoch that was over.
    fn verify(&mut self) {
        let rows: BTreeMap<Vec<u8>, Vec<u8>> =
            self.fdb.rows().into_iter().map(|(key, value)| (key.as_ref().to_vec(), value.to_vec())).collect();
        for index in 0..CORES {
            self.nothing_is_stolen(index);
            let core = &mut self.cores[index];
            let entries = (0..=core.made).map(|number| keys::entry(core.log(), number));
            let all: Vec<Key> =
                entries.chain((0..12).map(|number| core.row(number))).chain([core.head()]).collect();
            let found: Rows = all
                .iter()
                .filter_map(|key| Some((key.as_ref().to_vec(), rows.get(key.as_ref())?.clone())))
                .collect();
            let count = core.count_upto(found.get(core.head().as_ref()).map(|value| &value[..]));
            assert!(count >= core.seen, "core {index}: {} batches were there, and {count} are", core.seen);
            let expected = core.after(count);
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

    /// Each batch that is there was committed before its slot had another owner.
    fn nothing_is_stolen(&self, index: usize) {
        let core = &self.cores[index];
        for written in &core.written {
            let Some((version, _)) = self.fdb.written(&keys::entry(core.log(), written.number)) else {
                continue;
            };
            let epoch = self.decided[&(index, written.number)];
            if let Some((over, since)) = self.owned[index].begun.range(epoch + 1..).next() {
                assert!(
                    version < *since,
                    "core {index}: batch {} of epoch {epoch} is there at {version:?}, and epoch {over} began at {since:?}",
                    written.number
                );
            }
        }
    }
}

fn seeds(usual: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let first = number("TERN_SEED").unwrap_or(0);
    first..first + number("TERN_SEEDS").unwrap_or(usual)
}

#[test]
fn whatever_foundationdb_does_what_was_acknowledged_is_there_once_and_in_order() {
    let (mut heard, mut thefts, mut faults) = (Heard::default(), 0, BTreeMap::<Fault, u64>::new());
    let seeds = seeds(400);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        println!("TERN_SEED={seed} TERN_SEEDS=1 cargo test -p tern-storage --features fdb-core --test fdb");
        let mut world = World::new(seed);
        world.live();
        heard.committed += world.heard.committed;
        heard.refused += world.heard.refused;
        heard.reads += world.heard.reads;
        assert_eq!(world.heard.unknown, 0, "whatever it was, it was settled");
        thefts += world.thefts;
        for (fault, count) in world.fdb.counts() {
            *faults.entry(fault).or_default() += count;
        }
    }
    println!("{count} seeds: {heard:?}, {thefts} thefts, {faults:?}");
    if count >= 400 {
        assert!(
            heard.committed > 100 * count && heard.reads > 10 * count && heard.refused > count,
            "{heard:?}"
        );
        assert!(thefts > 5 * count, "{thefts}");
        for fault in Fault::ALL {
            assert!(faults.get(&fault).is_some_and(|times| *times > count / 10), "{fault:?}: {faults:?}");
        }
    }
}

/// Each fault that can be put into the engine is found.
#[cfg(feature = "mutations")]
#[test]
fn each_fault_of_the_engine_is_found_by_its_seeds() {
    use tern_storage::mutations::{hunt, panic_of};
    let finds = |seed| panic_of(|| World::new(seed).live());
    for found in hunt("storage/tests/fdb.rs", finds) {
        println!("{found}");
    }
    assert_eq!((0..20).find_map(finds), None, "without a fault nothing is found");
}
