//! The store in memory: for tests of the brain, and for trying things out. Deterministic; nothing survives it.
//!
//! It takes effect as it is told: at once ([`Memory::new`]), or batch by batch when the test steps it
//! ([`Memory::held`]), with failures where the test wants them, or where a seed has them ([`Memory::faulty`]).
//! [`Memory::crash`] and [`Memory::recover`] give the store that a power cut would have left.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use crate::batch::{Batch, Fence};
use crate::engine::{
    Busy, CommitId, Completion, Direction, Durable, Engine, Port, ReadId, Rows, ScanLimit, Statistic,
    StatisticValue, StoreError, Wake,
};
use crate::faults::{Faults, Medium};
use crate::keys::{Key, KeyRange};
use crate::lanes::{Failures, Lane, Told};
use crate::ordered;
use crate::slots::{Epoch, Slot};

/// Commits of one port under way. Beyond: busy.
const COMMITS_IN_FLIGHT_MAX: usize = 64;

/// See the module.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<Key, Bytes>,
    epochs: BTreeMap<Slot, Epoch>,
    ports: Vec<PortState>,
    /// Batches that wait for [`Memory::step`], oldest first.
    held: VecDeque<Submission>,
    hold: bool,
    fail_next: Option<StoreError>,
    fail_reads: Option<StoreError>,
    medium: Option<Medium>,
}

#[derive(Debug, Default)]
struct PortState {
    completions: VecDeque<Completion>,
    commits: u64,
    reads: u64,
    failures: Failures,
    told: Told,
}

#[derive(Debug)]
struct Submission {
    port: usize,
    commit: CommitId,
    batch: Batch,
    fence: Fence,
    lane: Lane,
    failures_seen: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// A store in which every batch takes effect when it is submitted.
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// A store in which batches wait for [`Memory::step`].
    pub fn held() -> Self {
        let store = Self::new();
        store.state().hold = true;
        store
    }

    /// From now on batches wait for [`Memory::step`], and what is read meanwhile is older than they are.
    pub fn hold(&self) {
        self.state().hold = true;
    }

    /// A store on a medium that fails as its seed says.
    pub fn faulty(faults: Faults) -> Self {
        let store = Self::new();
        store.state().medium = Some(Medium::new(faults));
        store
    }

    /// The store that the bytes on a faulty medium would give after a crash now, on another medium.
    ///
    /// # Panics
    /// If the store was not made by [`Memory::faulty`].
    pub fn recover(&self, faults: Faults) -> Self {
        let state = self.state();
        let medium = state.medium.as_ref().expect("a store on a faulty medium");
        let recovered = Self::new();
        {
            let mut image = recovered.state();
            image.epochs = state.epochs.clone();
            for batch in medium.replay() {
                image.apply(&batch);
            }
            image.medium = Some(medium.copy(faults));
        }
        recovered
    }

    /// A faulty medium fails no more, unless it is broken already.
    ///
    /// # Panics
    /// If the store was not made by [`Memory::faulty`].
    pub fn heal(&self) {
        self.state().medium.as_mut().expect("a store on a faulty medium").heal();
    }

    /// Commits the oldest waiting batch; `false` if there is none.
    pub fn step(&self) -> bool {
        let mut state = self.state();
        let Some(submission) = state.held.pop_front() else { return false };
        state.commit(submission);
        true
    }

    /// Has the next batch fail, and with it those that its port submitted before it could know.
    pub fn fail_next(&self, error: StoreError) {
        self.state().fail_next = Some(error);
    }

    /// From now on reads fail, or (`None`) not any more.
    pub fn fail_reads(&self, error: Option<StoreError>) {
        self.state().fail_reads = error;
    }

    /// The store after a power cut: all that was committed, and the first `survivors` of the waiting batches, which
    /// reached the disk without anybody having been told.
    pub fn crash(&self, survivors: usize) -> Self {
        let mut state = self.state();
        let image = State { rows: state.rows.clone(), epochs: state.epochs.clone(), ..State::default() };
        let image = Self(Arc::new(Mutex::new(image)));
        for submission in std::mem::take(&mut state.held).into_iter().take(survivors) {
            image.state().apply(&submission.batch);
        }
        image
    }

    /// All rows, in order.
    pub fn rows(&self) -> Vec<(Vec<u8>, Bytes)> {
        self.state()
            .rows
            .iter()
            .map(|(key, value)| (AsRef::<[u8]>::as_ref(key).to_vec(), value.clone()))
            .collect()
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.state().rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics while it holds this")
    }
}

impl State {
    fn apply(&mut self, batch: &Batch) {
        for (key, value) in batch.ops() {
            let key = Key::from_raw(key);
            match value {
                Some(value) => drop(self.rows.insert(key, Bytes::copy_from_slice(value))),
                None => drop(self.rows.remove(&key)),
            }
        }
    }

    fn commit(&mut self, submission: Submission) {
        let Submission { port, commit, batch, fence, lane, failures_seen } = submission;
        let behind = fence
            .epochs()
            .iter()
            .find(|(slot, epoch)| self.epochs.get(slot).is_some_and(|current| epoch < current));
        let fenced = behind.map(|(slot, _)| StoreError::Fenced { slot: *slot });
        let follows = self.ports[port].failures.follows(lane, failures_seen);
        let error = follows.or(fenced).or_else(|| self.fail_next.take());
        let error = error.or_else(|| self.medium.as_mut().and_then(|medium| medium.write(&batch).err()));
        let completion = match error {
            Some(error) => {
                self.ports[port].failures.add(lane, error.clone());
                Completion::CommitFailed { commit, error }
            }
            None => {
                self.apply(&batch);
                Completion::Committed(Durable::new(commit))
            }
        };
        self.ports[port].completions.push_back(completion);
    }

    fn readable(&self) -> Result<(), StoreError> {
        self.fail_reads.clone().map_or(Ok(()), Err)
    }

    fn scan(&self, range: &KeyRange, direction: Direction, limit: ScanLimit) -> Rows {
        ordered::scan(&self.rows, range, direction, limit, |value| Some(value.clone()))
    }
}

impl Engine for Memory {
    fn port(&self, _wake: Arc<dyn Wake>) -> Box<dyn Port> {
        let mut state = self.state();
        state.ports.push(PortState::default());
        Box::new(MemoryPort { store: self.clone(), port: state.ports.len() - 1 })
    }

    fn get_blocking(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        Ok(self.state().rows.get(key).cloned())
    }

    fn commit_blocking(&self, batch: Batch) -> Result<(), StoreError> {
        let mut state = self.state();
        if let Some(medium) = &mut state.medium {
            medium.write(&batch)?;
        }
        state.apply(&batch);
        Ok(())
    }

    fn raise_epoch(&self, slot: Slot, epoch: Epoch) -> Result<(), StoreError> {
        self.state().epochs.insert(slot, epoch);
        Ok(())
    }

    fn statistics(&self) -> Vec<Statistic> {
        vec![Statistic {
            name: "rows",
            help: "Rows in memory.",
            value: StatisticValue::Gauge(self.len() as u64),
        }]
    }

    fn close(&self) {}
}

struct MemoryPort {
    store: Memory,
    port: usize,
}

impl MemoryPort {
    fn read(&self, result: impl FnOnce(&State, ReadId) -> Completion) -> ReadId {
        let mut state = self.store.state();
        state.ports[self.port].reads += 1;
        let read = ReadId(state.ports[self.port].reads);
        let completion = result(&state, read);
        state.ports[self.port].completions.push_back(completion);
        read
    }
}

impl Port for MemoryPort {
    fn submit_in(
        &mut self,
        lane: Lane,
        batch: Batch,
        fence: Fence,
    ) -> Result<CommitId, Busy<(Batch, Fence)>> {
        let mut state = self.store.state();
        let port = &mut state.ports[self.port];
        if port.told.in_flight() == COMMITS_IN_FLIGHT_MAX {
            return Err(Busy((batch, fence)));
        }
        port.commits += 1;
        let (commit, failures_seen) = (CommitId(port.commits), port.told.seen(lane));
        port.told.submitted(lane);
        let submission = Submission { port: self.port, commit, batch, fence, lane, failures_seen };
        if state.hold {
            state.held.push_back(submission);
        } else {
            state.commit(submission);
        }
        Ok(commit)
    }

    fn get(&mut self, key: Key) -> Result<ReadId, Busy<Key>> {
        Ok(self.read(|state, read| {
            let result = state.readable().map(|()| state.rows.get(&key).cloned());
            Completion::Value { read, result }
        }))
    }

    fn scan(
        &mut self,
        range: KeyRange,
        direction: Direction,
        limit: ScanLimit,
    ) -> Result<ReadId, Busy<KeyRange>> {
        Ok(self.read(|state, read| {
            let result = state.readable().map(|()| state.scan(&range, direction, limit));
            Completion::Rows { read, result }
        }))
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        let mut state = self.store.state();
        let port = &mut state.ports[self.port];
        while let Some(completion) = port.completions.pop_front() {
            match completion {
                Completion::Committed(_) => port.told.ended(false),
                Completion::CommitFailed { .. } => port.told.ended(true),
                Completion::Value { .. } | Completion::Rows { .. } => {}
            }
            completions.push(completion);
        }
    }

    fn has_completions(&self) -> bool {
        !self.store.state().ports[self.port].completions.is_empty()
    }
}
