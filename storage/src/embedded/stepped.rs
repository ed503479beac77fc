//! The engine without threads, on a simulated medium: a simulation says which part does its next step, and what the time is.
//!
//! The parts are the product's: the committer, the applier, the keeper, the reader, their ports, and the opening. Only
//! [threads](super::threads) is not, and of the tables the trees. Dropping the engine is the end of its process, without a
//! word; [`Engine::close`] ends it in order.
//!
//! Once the medium's power is cut ([`SimulatedMedium::is_cut`]) the process is gone: what its parts say then, nobody hears.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;

use super::applier::{Applier, Backlog};
use super::backup::{self, Backup, BackupState, BackupStatus, Key, Of, Start};
use super::committer::{Committer, Taking};
use super::keeper::{FlushPart, Keeper};
use super::open_error::OpenError;
use super::opening::{self, Parts};
use super::options::EmbeddedOptions;
use super::port::{EmbeddedPort, raising};
use super::reader::{self, Answering, Reader};
use super::statistics::Statistics;
use super::tables::Tables as _;
use super::tables::simulated::SimulatedTables;
use super::threads::{RETRY, pause_after};
use crate::batch::{Batch, Fence};
use crate::commits::Link;
use crate::engine::{Completion, Engine, Port, Statistic, StoreError, Wake};
use crate::keys::{self, Key as RowKey};
use crate::lanes::Lane;
use crate::medium::simulated::{SimulatedLock, SimulatedMedium};
use crate::parker::Parker;
use crate::slots::{Epoch, Slot};

/// What may do a step.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Step {
    /// The committer takes what waits as a group; the next time writes and syncs it; the next time completes it.
    Commit,
    /// The applier brings what is durable into the tables, and seals them in time.
    Apply,
    /// The keeper flushes what is sealed; the next time writes the manifest; the next time lets segments go.
    Flush,
    /// The keeper merges tables.
    Merge,
    /// The reader answers what was asked.
    Read,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Commit, Self::Apply, Self::Flush, Self::Merge, Self::Read];
}

/// What came of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stepped {
    /// Something was done. How long it took, the medium says ([`SimulatedMedium::take_time`]).
    Did,
    /// There was nothing to do.
    Nothing,
    /// There is something, for this time or later.
    Later(Duration),
    /// Another part must do something before.
    Waits,
    /// This part has failed, and does nothing any more.
    Failed,
}

/// See the module.
pub struct SteppedEngine {
    options: EmbeddedOptions,
    committer: Arc<Parker<Link>>,
    reader: Arc<Parker<reader::Link>>,
    backlog: Arc<Backlog>,
    statistics: Arc<Statistics>,
    state: Mutex<State>,
}

struct State {
    tables: SimulatedTables,
    committer: Committer<SimulatedMedium>,
    committing: Committing,
    applier: Applier<SimulatedTables>,
    applier_failed: bool,
    keeper: Arc<Keeper<SimulatedTables>>,
    flushing: Option<(u64, FlushPart)>,
    reader: Reader<SimulatedTables>,
    /// What a backup begins with, until one is served.
    begins: Option<(Of<SimulatedTables>, Option<BackupState>)>,
    backup: Option<Backup<SimulatedTables>>,
    now: Duration,
    /// What clocks said when the backup did its last step.
    now_ms: u64,
    closed: bool,
    _lock: SimulatedLock,
}

/// What the committer does next with a group.
#[derive(Clone, Copy)]
enum Committing {
    Take,
    Write,
    /// It began to write at this time.
    Complete(Duration),
}

impl std::fmt::Debug for SteppedEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SteppedEngine").field("options", &self.options).finish_non_exhaustive()
    }
}

impl SteppedEngine {
    /// Opens the store in a directory of a medium; `seed` is a random number of this opening.
    pub fn open(
        medium: &SimulatedMedium,
        path: &Path,
        options: EmbeddedOptions,
        seed: u64,
    ) -> Result<Self, OpenError> {
        let parts: Parts<SimulatedTables> = opening::open(medium, path, &options, seed)?;
        let Parts { tables, committer, applier, keeper, backlog, statistics, .. } = parts;
        let Parts { backup, lock, .. } = parts;
        let reader = Reader::new(tables.clone(), backlog.clone(), statistics.clone());
        let state = State {
            tables,
            committer,
            committing: Committing::Take,
            applier,
            applier_failed: false,
            keeper,
            flushing: None,
            reader,
            begins: Some(backup),
            backup: None,
            now: Duration::ZERO,
            now_ms: 0,
            closed: false,
            _lock: lock,
        };
        let (committer, reader) = (Arc::default(), Arc::default());
        Ok(Self { options, committer, reader, backlog, statistics, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a step that panics ends the simulation")
    }

    /// Has a part do its next step, at a time, which does not fall.
    pub fn step(&self, step: Step, now: Duration) -> Stepped {
        let mut state = self.state();
        state.now = state.now.max(now);
        match step {
            Step::Commit => self.commit(&mut state),
            Step::Apply => self.apply(&mut state),
            Step::Flush => state.flush(),
            Step::Merge => state.merge(),
            Step::Read => {
                self.reader.new_links().into_iter().for_each(|link| state.reader.link(link));
                match state.reader.answer() {
                    Answering::Answered => Stepped::Did,
                    Answering::WaitsFor(_) => Stepped::Waits,
                    Answering::Nothing => Stepped::Nothing,
                }
            }
        }
    }

    /// Serves backups onto another medium from now on. `keys` has those that are named by their files; `random` gives what was never
    /// given before.
    pub fn serve_backups(
        &self,
        target: &SimulatedMedium,
        random: Box<dyn FnMut() -> [u8; 32] + Send>,
        read_key: &dyn Fn(&Path) -> std::io::Result<Key>,
    ) {
        let mut state = self.state();
        let begins = state.begins.take().expect("once for each opening");
        let id = state.tables.get(&keys::store_identity()).ok().flatten();
        state.backup = Some(Backup::new(begins, backup::store_id(id), target.clone(), random, read_key));
    }

    /// Has the backup do its next step.
    pub fn step_backup(&self, now: Duration, now_ms: u64) -> Stepped {
        let mut state = self.state();
        (state.now, state.now_ms) = (state.now.max(now), now_ms);
        let now = state.now;
        state.backup.as_mut().map_or(Stepped::Nothing, |backup| backup.step(now, now_ms))
    }

    /// Has a backup begin, or go on with other settings.
    pub fn start_backup(&self, start: Start) -> Result<(), String> {
        let mut state = self.state();
        let now = state.now;
        state.backup.as_mut().expect("backups are served").start(start, now)
    }

    /// Has the backup end when what is durable now is archived.
    pub fn stop_backup(&self) {
        self.state().backup.as_mut().expect("backups are served").stop();
    }

    /// What the backup is doing.
    pub fn backup_status(&self) -> BackupStatus {
        self.state().backup.as_mut().expect("backups are served").status()
    }

    /// The newest group.
    pub fn newest(&self) -> u64 {
        self.backlog.newest()
    }

    fn commit(&self, state: &mut State) -> Stepped {
        self.committer.new_links().into_iter().for_each(|link| state.committer.link(link));
        match state.committing {
            Committing::Take => {
                match self.backlog.has_room() {
                    Ok(true) => {}
                    Ok(false) => return Stepped::Waits,
                    Err(reason) => state.committer.fail(reason),
                }
                match state.committer.take(state.now) {
                    Taking::Taken => state.committing = Committing::Write,
                    Taking::Later(wait) => return Stepped::Later(wait),
                    Taking::Nothing => return Stepped::Nothing,
                }
            }
            Committing::Write => {
                state.committer.write();
                state.committing = Committing::Complete(state.now);
            }
            Committing::Complete(began) => {
                state.committer.complete(state.now - began);
                state.committing = Committing::Take;
            }
        }
        Stepped::Did
    }

    fn apply(&self, state: &mut State) -> Stepped {
        if state.applier_failed {
            return Stepped::Failed;
        }
        let applied = state.applier.settle().and_then(|settled| {
            if !settled {
                return Ok(Stepped::Waits);
            }
            let groups = self.backlog.take_now();
            if groups.is_empty() {
                return Ok(Stepped::Nothing);
            }
            state.applier.apply(&groups);
            state.applier.settle()?;
            Ok(Stepped::Did)
        });
        applied.unwrap_or_else(|why| {
            state.applier_failed = true;
            self.backlog.fail(why);
            Stepped::Failed
        })
    }

    /// Has these parts do what there is, in turns, until none has anything to do that it can do now.
    fn run(&self, steps: &[Step]) {
        loop {
            let mut any = false;
            for step in steps {
                match self.step(*step, Duration::ZERO) {
                    Stepped::Did => any = true,
                    Stepped::Later(wait) if *step == Step::Commit => {
                        self.state().now += wait;
                        any = true;
                    }
                    Stepped::Nothing | Stepped::Later(_) | Stepped::Waits | Stepped::Failed => {}
                }
            }
            if !any {
                return;
            }
        }
    }

    fn open_port(&self, wake: Arc<dyn Wake>) -> EmbeddedPort {
        let (committer, reader) = (self.committer.clone(), self.reader.clone());
        EmbeddedPort::open(&self.options, wake, committer, reader, self.backlog.clone())
    }

    /// Commits at once, with all that waits.
    fn submit_now(&self, batch: Batch, raise: Option<(Slot, Epoch)>) -> Result<(), StoreError> {
        let mut port = self.open_port(Arc::new(NoWake));
        let closing = StoreError::Failed { reason: "the store is closing".to_owned() };
        port.submit_raising((Lane::default(), batch, Fence::default()), raise)
            .map_err(|_| closing.clone())?;
        self.run(&[Step::Commit, Step::Apply, Step::Flush, Step::Merge]);
        let mut completions = Vec::new();
        port.poll(&mut completions);
        match completions.pop() {
            Some(Completion::Committed(_)) => Ok(()),
            Some(Completion::CommitFailed { error, .. }) => Err(error),
            Some(Completion::Value { .. } | Completion::Rows { .. }) => unreachable!("nothing was read"),
            // The tables wait for their disk, and the committer for them. Nobody knows whether it is in the log.
            None => Err(StoreError::Failed { reason: "the tables wait for their disk".to_owned() }),
        }
    }
}

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

impl State {
    fn flush(&mut self) -> Stepped {
        if self.keeper.failed().is_some() {
            return Stepped::Failed;
        }
        let next = self.flushing.or_else(|| Some((self.keeper.next_flush()?, FlushPart::Tables)));
        let Some((number, part)) = next else { return Stepped::Nothing };
        match self.keeper.flush(number, part) {
            Ok(part) => {
                self.flushing = part.map(|part| (number, part));
                Stepped::Did
            }
            Err(error) => {
                self.flushing = None;
                if self.keeper.flush_failed(&error) { Stepped::Later(RETRY) } else { Stepped::Failed }
            }
        }
    }

    fn merge(&mut self) -> Stepped {
        if !self.keeper.wants_to_compact() {
            return Stepped::Nothing;
        }
        match self.keeper.compact() {
            Ok(()) => Stepped::Did,
            Err(remedy) => Stepped::Later(pause_after(remedy)),
        }
    }
}

impl Engine for SteppedEngine {
    fn port(&self, wake: Arc<dyn Wake>) -> Box<dyn Port> {
        Box::new(self.open_port(wake))
    }

    /// Applies what is durable, and reads at once.
    fn get_blocking(&self, key: &RowKey) -> Result<Option<Bytes>, StoreError> {
        self.run(&[Step::Apply, Step::Flush, Step::Merge]);
        match self.backlog.has_applied(self.backlog.newest()) {
            Ok(true) => self.state().tables.get(key),
            Ok(false) => Err(StoreError::Unreachable { reason: "the tables wait for their disk".to_owned() }),
            Err(reason) => Err(StoreError::Failed { reason }),
        }
    }

    fn commit_blocking(&self, batch: Batch) -> Result<(), StoreError> {
        self.submit_now(batch, None)
    }

    fn raise_epoch(&self, slot: Slot, epoch: Epoch) -> Result<(), StoreError> {
        self.submit_now(raising(slot, epoch), Some((slot, epoch)))
    }

    fn statistics(&self) -> Vec<Statistic> {
        self.statistics.list(self.backlog.bytes() as u64)
    }

    fn close(&self) {
        if std::mem::replace(&mut self.state().closed, true) {
            return;
        }
        self.committer.close();
        self.run(&Step::ALL);
        self.reader.close();
        let mut state = self.state();
        if !state.applier_failed {
            state.applier.finish();
        }
        state.keeper.close();
        while state.flush() == Stepped::Did {}
        let (now, now_ms) = (state.now, state.now_ms);
        if let Some(backup) = &mut state.backup {
            while backup.finish(now, now_ms) {}
        }
        state.keeper.let_all_go(self.backlog.newest());
    }
}
