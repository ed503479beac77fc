//! The way to the store: what is written in one turn goes as one batch, and what follows lies with who asked.
//!
//! [`Store`] is a core's: the open batch, and the commits under way. A [`Desk`] is a department's: what it does when a commit is
//! durable or undone, and what each of its reads is for. Nothing that depends on a write leaves before its
//! [`tern_storage::engine::Durable`] proof.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message;
use tern_storage::{Batch, Busy, CommitId, Direction, Fence, Key, KeyRange, ReadId, SLOTS, ScanLimit, Slot};

use crate::effects::Effects;
use crate::limits::{BATCH_ANSWERS_MAX, READS_WAITING_MAX};
use crate::maps::{Hashing, Map};
use crate::slots::SlotTable;

/// A core's open batch, and its commits under way.
#[derive(Debug)]
pub(crate) struct Store {
    open: Batch,
    /// What follows the open batch, by number, all desks together.
    follows: usize,
    in_flight: VecDeque<CommitId>,
    /// The slots that decided the open batch: a bit each, and a list of them.
    is_decided_by: Box<[u64]>,
    deciding: Vec<Slot>,
}

impl Store {
    /// Nothing open.
    pub(crate) fn new() -> Self {
        Self {
            open: Batch::default(),
            follows: 0,
            in_flight: VecDeque::new(),
            is_decided_by: vec![0; usize::from(SLOTS) / 64].into(),
            deciding: Vec::new(),
        }
    }

    /// Writes a record. `by` is the slot whose owner decided so, whoever's the key is.
    pub(crate) fn put(&mut self, by: Slot, key: Key, record: &impl Message) {
        self.put_bytes(by, key, record.encode_to_vec().into());
    }

    /// Writes a value.
    pub(crate) fn put_bytes(&mut self, by: Slot, key: Key, value: Bytes) {
        self.decided_by(by);
        self.open.put(key, value);
    }

    /// Removes a key.
    pub(crate) fn delete(&mut self, by: Slot, key: Key) {
        self.decided_by(by);
        self.open.delete(key);
    }

    /// Whether a request may write so many bytes: the store may be busy, and the batch stay open. `bytes_max` bounds it but for
    /// what follows from requests that were taken.
    pub(crate) fn has_room(&self, bytes: usize, bytes_max: usize) -> bool {
        self.open.bytes() + bytes <= bytes_max && self.follows < BATCH_ANSWERS_MAX
    }

    /// Commits that the store has not completed.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether nothing waits for the store.
    pub(crate) fn is_quiet(&self) -> bool {
        self.open.is_empty() && self.follows == 0 && self.in_flight.is_empty()
    }

    /// Submits the open batch, and gives the commit's number. If the store is busy it stays open, and grows no further than its bound.
    pub(crate) fn submit(&mut self, table: &SlotTable, fx: &mut dyn Effects) -> Option<CommitId> {
        if self.open.is_empty() && self.follows == 0 {
            return None;
        }
        match fx.submit(std::mem::take(&mut self.open), self.fence(table)) {
            Ok(commit) => {
                self.in_flight.push_back(commit);
                self.begin_batch();
                Some(commit)
            }
            Err(Busy((batch, _))) => {
                self.open = batch;
                None
            }
        }
    }

    /// The oldest commit has ended.
    ///
    /// # Panics
    /// If the store completes commits out of order.
    pub(crate) fn ended(&mut self, commit: CommitId) {
        let oldest = self.in_flight.pop_front().expect("the store completes only what was submitted");
        assert_eq!(oldest, commit, "a port's commits complete in the order of their submission");
    }

    /// Discards the open batch: it was decided on a state that did not become durable.
    pub(crate) fn discard_open(&mut self) {
        self.open = Batch::default();
        self.begin_batch();
    }

    fn begin_batch(&mut self) {
        self.follows = 0;
        for slot in self.deciding.drain(..) {
            self.is_decided_by[usize::from(slot.number() / 64)] = 0;
        }
    }

    fn decided_by(&mut self, slot: Slot) {
        let (word, bit) = (usize::from(slot.number() / 64), 1 << (slot.number() % 64));
        if self.is_decided_by[word] & bit == 0 {
            self.is_decided_by[word] |= bit;
            self.deciding.push(slot);
        }
    }

    fn fence(&self, table: &SlotTable) -> Fence {
        self.deciding.iter().map(|slot| (*slot, table.epoch(*slot))).collect()
    }
}

/// What a department waits for from the store: what follows a write (`A`), and what a get (`G`) and a scan (`S`) are for.
#[derive(Debug)]
pub(crate) struct Desk<A, G, S> {
    follows: Vec<A>,
    in_flight: VecDeque<(CommitId, Vec<A>)>,
    gets: Map<ReadId, G>,
    scans: Map<ReadId, S>,
    waiting: VecDeque<Ask<G, S>>,
}

#[derive(Debug)]
enum Ask<G, S> {
    Get(Key, G),
    Scan(KeyRange, Direction, ScanLimit, S),
}

impl<A, G, S> Desk<A, G, S> {
    /// Nothing is waited for.
    pub(crate) fn new(hashing: Hashing) -> Self {
        Self {
            follows: Vec::new(),
            in_flight: VecDeque::new(),
            gets: Map::with_hasher(hashing),
            scans: Map::with_hasher(hashing),
            waiting: VecDeque::new(),
        }
    }

    /// Has `after` happen when what was written so far is durable.
    pub(crate) fn then(&mut self, store: &mut Store, after: A) {
        store.follows += 1;
        self.follows.push(after);
    }

    /// The open batch was submitted.
    pub(crate) fn submitted(&mut self, commit: CommitId) {
        if !self.follows.is_empty() {
            self.in_flight.push_back((commit, std::mem::take(&mut self.follows)));
        }
    }

    /// What follows a commit that has ended.
    pub(crate) fn ended(&mut self, commit: CommitId) -> Vec<A> {
        match self.in_flight.pop_front_if(|(oldest, _)| *oldest == commit) {
            Some((_, follows)) => follows,
            None => Vec::new(),
        }
    }

    /// What would have followed the open batch.
    pub(crate) fn discard_open(&mut self) -> Vec<A> {
        std::mem::take(&mut self.follows)
    }

    /// Whether a request may ask for something. What follows from requests that were taken is read in any case: it is a few
    /// reads for each of them.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < READS_WAITING_MAX
    }

    /// Reads one key.
    pub(crate) fn get(&mut self, fx: &mut dyn Effects, key: Key, purpose: G) {
        self.ask(fx, Ask::Get(key, purpose));
    }

    /// Reads a range.
    pub(crate) fn scan(
        &mut self,
        fx: &mut dyn Effects,
        range: KeyRange,
        direction: Direction,
        limit: ScanLimit,
        purpose: S,
    ) {
        self.ask(fx, Ask::Scan(range, direction, limit, purpose));
    }

    /// What a get that has ended was for, if it is this department's.
    pub(crate) fn got(&mut self, read: ReadId) -> Option<G> {
        self.gets.remove(&read)
    }

    /// What a scan that has ended was for, if it is this department's.
    pub(crate) fn scanned(&mut self, read: ReadId) -> Option<S> {
        self.scans.remove(&read)
    }

    /// Asks again for what the store had no room for.
    pub(crate) fn retry(&mut self, fx: &mut dyn Effects) {
        while let Some(ask) = self.waiting.pop_front() {
            if let Err(ask) = self.try_ask(fx, ask) {
                self.waiting.push_front(ask);
                return;
            }
        }
    }

    fn ask(&mut self, fx: &mut dyn Effects, ask: Ask<G, S>) {
        if !self.waiting.is_empty() {
            self.waiting.push_back(ask);
        } else if let Err(ask) = self.try_ask(fx, ask) {
            self.waiting.push_back(ask);
        }
    }

    fn try_ask(&mut self, fx: &mut dyn Effects, ask: Ask<G, S>) -> Result<(), Ask<G, S>> {
        match ask {
            Ask::Get(key, purpose) => match fx.get(key) {
                Ok(read) => drop(self.gets.insert(read, purpose)),
                Err(Busy(key)) => return Err(Ask::Get(key, purpose)),
            },
            Ask::Scan(range, direction, limit, purpose) => match fx.scan(range, direction, limit) {
                Ok(read) => drop(self.scans.insert(read, purpose)),
                Err(Busy(range)) => return Err(Ask::Scan(range, direction, limit, purpose)),
            },
        }
        Ok(())
    }
}
