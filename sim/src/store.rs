//! What a world's node stores in, and what that lies on: the embedded engine on a simulated medium, or the FoundationDB engine over a
//! simulated FoundationDB.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tern_storage::embedded::{Step, Stepped, SteppedEngine};
use tern_storage::fdb::SteppedFdb;
use tern_storage::fdb::simulated::{self as foundationdb, SimFdb};
use tern_storage::medium::simulated::{Fault, Odds, SimulatedMedium};
use tern_storage::medium::stream::Stream;
use tern_storage::{
    Batch, Completion, Direction, Engine, Epoch, Key, KeyRange, Port, Row, ScanLimit, Slot, Statistic,
    StoreError, Wake, keys,
};

use crate::shape::Shape;

/// What stays when a process ends.
pub(crate) enum Ground {
    Disk(SimulatedMedium),
    Fdb(SimFdb),
}

/// The store of a process. Dropped, it is killed.
pub(crate) enum Store {
    Disk(Box<SteppedEngine>),
    Fdb(Box<SteppedFdb>, SimFdb),
}

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

impl Ground {
    /// An empty one, on which nothing goes wrong.
    pub(crate) fn new(seed: u64, is_fdb: bool) -> Self {
        if is_fdb {
            Self::Fdb(SimFdb::new(seed, foundationdb::Odds::default()))
        } else {
            Self::Disk(SimulatedMedium::new(seed, Odds::NONE))
        }
    }

    /// Opens the store for another process; `None`: it can't be, now.
    pub(crate) fn open(&self, shape: &Shape, number: u64, now: Duration) -> Option<Store> {
        match self {
            Self::Disk(medium) => {
                let engine =
                    SteppedEngine::open(medium, Path::new("/store"), shape.store.clone(), number).ok()?;
                Some(Store::Disk(Box::new(engine)))
            }
            Self::Fdb(fdb) => {
                let engine = SteppedFdb::open(fdb, shape.fdb(), number, now).ok()?;
                Some(Store::Fdb(Box::new(engine), fdb.clone()))
            }
        }
    }

    /// Things go wrong from now on, as the seed has it.
    pub(crate) fn trouble(&self, seed: u64) {
        match self {
            Self::Disk(medium) => medium.set_odds(disk(&mut Stream::named(seed, "disk"))),
            Self::Fdb(fdb) => fdb.set_odds(of_foundationdb(&mut Stream::named(seed, "disk"))),
        }
    }

    /// Nothing goes wrong any more.
    pub(crate) fn calm(&self) {
        match self {
            Self::Disk(medium) => medium.set_odds(Odds::NONE),
            Self::Fdb(fdb) => fdb.heal(),
        }
    }

    /// The power fails after so many of the next writes; `false`: it is for whoever asks to have it fail.
    pub(crate) fn cut_after(&self, writes: u64) -> bool {
        match self {
            Self::Disk(medium) => {
                medium.cut_after(writes);
                true
            }
            Self::Fdb(_) => false,
        }
    }

    /// Whether the power has failed.
    pub(crate) fn is_cut(&self) -> bool {
        match self {
            Self::Disk(medium) => medium.is_cut(),
            Self::Fdb(_) => false,
        }
    }

    /// A process has ended, and with it perhaps the power.
    pub(crate) fn die(&self, power: bool) {
        match self {
            Self::Disk(medium) if power => medium.crash(),
            Self::Disk(medium) => medium.kill(),
            Self::Fdb(_) => {}
        }
    }

    /// What its last steps have taken.
    pub(crate) fn take_time(&self) -> Duration {
        match self {
            Self::Disk(medium) => medium.take_time(),
            Self::Fdb(_) => Duration::ZERO,
        }
    }

    /// The parts that have to do with one of these.
    pub(crate) fn steps<'a>(&self, steps: &'a [Step]) -> &'a [Step] {
        match self {
            Self::Disk(_) => steps,
            // It has one part.
            Self::Fdb(_) => &[Step::Commit],
        }
    }

    /// How often what went wrong.
    pub(crate) fn counts(&self) -> Vec<(&'static str, u64)> {
        match self {
            Self::Disk(medium) => {
                medium.counts().into_iter().map(|(fault, count)| (name_of(fault), count)).collect()
            }
            Self::Fdb(fdb) => fdb.counts().into_iter().map(|(fault, count)| (fault.name(), count)).collect(),
        }
    }
}

impl Store {
    /// A part does what there is to do.
    pub(crate) fn step(&self, step: Step, now: Duration) -> Stepped {
        match self {
            Self::Disk(engine) => engine.step(step, now),
            Self::Fdb(engine, _) => {
                let when = engine.step(now).into_iter().chain(engine.next()).min();
                when.map_or(Stepped::Nothing, Stepped::Later)
            }
        }
    }

    /// All rows of a table, in order; `None`: they can't be read now.
    pub(crate) fn table(&self, table: u8, now: Duration) -> Option<Vec<Row>> {
        match self {
            Self::Disk(engine) => read_table(engine, table, now),
            Self::Fdb(_, fdb) => {
                let rows = fdb.rows().into_iter().filter(|(key, _)| key.as_ref().first() == Some(&table));
                Some(rows.map(|(key, value)| (Bytes::copy_from_slice(key.as_ref()), value)).collect())
            }
        }
    }

    /// Whether it can be read now. What is durable is applied.
    pub(crate) fn is_readable(&self) -> bool {
        match self {
            Self::Disk(engine) => engine.get_blocking(&keys::store_identity()).is_ok(),
            Self::Fdb(..) => true,
        }
    }

    fn engine(&self) -> &dyn Engine {
        match self {
            Self::Disk(engine) => &**engine,
            Self::Fdb(engine, _) => &**engine,
        }
    }
}

impl Engine for Store {
    fn port(&self, wake: Arc<dyn Wake>) -> Box<dyn Port> {
        self.engine().port(wake)
    }

    fn get_blocking(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.engine().get_blocking(key)
    }

    fn commit_blocking(&self, batch: Batch) -> Result<(), StoreError> {
        self.engine().commit_blocking(batch)
    }

    fn raise_epoch(&self, slot: Slot, epoch: Epoch) -> Result<(), StoreError> {
        self.engine().raise_epoch(slot, epoch)
    }

    fn statistics(&self) -> Vec<Statistic> {
        self.engine().statistics()
    }

    fn close(&self) {
        self.engine().close();
    }
}

/// The rows of a table, in the order of their keys; `None` if it can't be read.
fn read_table(engine: &SteppedEngine, table: u8, now: Duration) -> Option<Vec<tern_storage::Row>> {
    let range = KeyRange { start: Key::from_raw(&[table]), end: Key::from_raw(&[table + 1]) };
    let limit = ScanLimit { rows: usize::MAX, bytes: usize::MAX };
    let mut port = engine.port(Arc::new(NoWake));
    port.scan(range, Direction::Forwards, limit).expect("a new port has room");
    let mut completions = Vec::new();
    engine.step(Step::Read, now);
    port.poll(&mut completions);
    match completions.pop()? {
        Completion::Rows { result, .. } => result.ok().map(|rows| rows.rows),
        Completion::Value { .. } | Completion::Committed(_) | Completion::CommitFailed { .. } => {
            unreachable!("nothing else was asked")
        }
    }
}

/// What the disk of a world is like: each may lose what is not synced; some fail, are full or slow now and then.
fn disk(stream: &mut Stream) -> Odds {
    let mut odds = Odds::POWER_CUTS;
    for (fault, per_million) in [
        (Fault::NoRoom, 10_000),
        (Fault::WriteFails, 100),
        (Fault::SyncFails, 200),
        (Fault::DirectorySyncFails, 100),
        (Fault::SlowSync, 5_000),
    ] {
        if stream.below(2) == 0 {
            odds = odds.with(fault, per_million);
        }
    }
    odds
}

/// As the medium's faults stand in tables.
fn name_of(fault: Fault) -> &'static str {
    match fault {
        Fault::NoRoom => "no-room",
        Fault::WriteFails => "bad-write",
        Fault::SyncFails => "bad-sync",
        Fault::DirectorySyncFails => "bad-dir",
        Fault::ReadFails => "bad-read",
        Fault::SlowSync => "slow-sync",
        Fault::LostWrite => "lost-write",
        Fault::TornWrite => "torn-write",
        Fault::LostName => "lost-name",
        Fault::Rot => "rot",
    }
}

/// What the FoundationDB of a world is like: of each fault there is little in some worlds, and nothing in others.
fn of_foundationdb(stream: &mut Stream) -> foundationdb::Odds {
    use foundationdb::Fault as Of;
    let mut odds = foundationdb::Odds::default();
    for (fault, per_million) in [
        (Of::Conflict, 10_000),
        (Of::UnknownIn, 10_000),
        (Of::UnknownOut, 10_000),
        (Of::Late, 10_000),
        (Of::Recovery, 1_000),
        (Of::Throttled, 10_000),
        (Of::ReadFails, 1_000),
        (Of::Locked, 1_000),
        (Of::StandsStill, 2_000),
    ] {
        if stream.below(2) == 0 {
            odds = odds.with(fault, per_million);
        }
    }
    odds
}
