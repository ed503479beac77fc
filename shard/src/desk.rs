//! The way to the store: what is written in one turn goes as one batch a lane, and what follows lies with who asked. What nobody
//! waits for stays open until something urgent is written, or for a while, on whatever comes first.
//!
//! [`Store`] is a core's: the open batches, and the commits under way. A [`Desk`] is a department's: what it does when a commit is
//! durable or undone, and what each of its reads is for. Nothing that depends on a write leaves before its
//! [`tern_storage::engine::Durable`] proof.

use std::collections::VecDeque;

use tern_storage::{Batch, Busy, CommitId, Direction, Key, KeyRange, Lane, ReadId, SLOTS, ScanLimit, Slot};

use crate::effects::Effects;
use crate::limits::{BATCH_ANSWERS_MAX, READS_WAITING_MAX};
use crate::maps::{Hashing, Map};
use crate::slots::SlotTable;

/// Bytes of a batch that room is made for before it is written.
const NEXT_BATCH_BYTES_MAX: usize = 128 << 10;

/// A core's open batches, one a lane, and its commits under way.
///
/// A slot's writes stay in order, and fail together, with those of its lane alone ([`tern_storage::Lane`]).
#[derive(Debug)]
pub(crate) struct Store {
    /// By lane.
    open: Box<[Open]>,
    in_flight: VecDeque<UnderWay>,
    /// The slots that decided what is open: a bit each.
    is_decided_by: Box<[u64]>,
    /// Somebody waits for something that is open.
    urgent: bool,
    /// Since when what is open has been so, if nobody waits for it.
    lazy_since_ms: Option<u64>,
}

/// A commit that the store has not completed.
#[derive(Debug)]
struct UnderWay {
    commit: CommitId,
    lane: Lane,
    /// The slots that decided it.
    deciding: Vec<Slot>,
}

/// What is written in one lane, and was not submitted yet.
#[derive(Default, Debug)]
struct Open {
    batch: Batch,
    /// What follows it, by number, all desks together.
    follows: usize,
    /// The slots that decided it.
    deciding: Vec<Slot>,
}

/// Whether somebody waits for a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Urgency {
    /// It leaves at the end of the turn.
    Urgent,
    /// It can be lost or made again without harm (a watermark, a mark that is cleared): it leaves with the next one that is urgent, or
    /// some time after this, in ms since the Unix epoch.
    Lazy(u64),
}

impl Store {
    /// Nothing open, in this many lanes.
    pub(crate) fn new(lanes: u16) -> Self {
        Self {
            open: (0..lanes.max(1)).map(|_| Open::default()).collect(),
            in_flight: VecDeque::new(),
            is_decided_by: vec![0; usize::from(SLOTS) / 64].into(),
            urgent: false,
            lazy_since_ms: None,
        }
    }

    /// Writes a value. `by` is the slot whose owner decided so, whoever's the key is.
    /// Gives its bytes, as all that write do.
    pub(crate) fn put(&mut self, by: Slot, key: &Key, value: &[u8], urgency: Urgency) -> usize {
        self.write(by, urgency, |batch| batch.put(key, value))
    }

    /// Writes a record. See [`Store::put`].
    pub(crate) fn put_record(
        &mut self,
        by: Slot,
        key: &Key,
        record: &impl prost::Message,
        urgency: Urgency,
    ) -> usize {
        self.write(by, urgency, |batch| batch.put_record(key, record))
    }

    /// Removes a key.
    pub(crate) fn delete(&mut self, by: Slot, key: Key, urgency: Urgency) -> usize {
        self.write(by, urgency, |batch| batch.delete(&key))
    }

    fn write(&mut self, by: Slot, urgency: Urgency, write: impl FnOnce(&mut Batch)) -> usize {
        let batch = &mut self.decided_by(by, urgency).batch;
        let before = batch.bytes();
        write(batch);
        batch.bytes() - before
    }

    /// Whether a request may write so many bytes: the store may be busy, and the batches stay open. `bytes_max` bounds them but for
    /// what follows from requests that were taken.
    pub(crate) fn has_room(&self, bytes: usize, bytes_max: usize) -> bool {
        let open: usize = self.open.iter().map(|open| open.batch.bytes()).sum();
        open + bytes <= bytes_max && self.follows() < BATCH_ANSWERS_MAX
    }

    /// Commits that the store has not completed.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether nothing that a slot decided is open or under way, whether anything follows it or not.
    pub(crate) fn is_still(&self, slot: Slot) -> bool {
        let (word, bit) = bit_of(slot);
        self.is_decided_by[word] & bit == 0
            && self.in_flight.iter().all(|under_way| !under_way.deciding.contains(&slot))
    }

    /// Whether nothing waits for the store.
    pub(crate) fn is_quiet(&self) -> bool {
        self.open.iter().all(Open::is_empty) && self.in_flight.is_empty()
    }

    /// The lanes.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = Lane> + use<> {
        (0..self.open.len() as u16).map(Lane)
    }

    /// Whether what is open is to be submitted.
    pub(crate) fn is_due(&self, now_ms: u64, lazy_ms: u64) -> bool {
        self.urgent || self.lazy_for_ms(now_ms, lazy_ms) == Some(0) || self.follows() >= BATCH_ANSWERS_MAX / 2
    }

    /// For how many ms what nobody waits for may still stay open, if there is nothing else. What the store was too busy for waits for
    /// the store alone.
    pub(crate) fn lazy_for_ms(&self, now_ms: u64, lazy_ms: u64) -> Option<u64> {
        let since_ms = self.lazy_since_ms.filter(|_| !self.urgent)?;
        // A clock that was set back is not waited for.
        Some(now_ms.checked_sub(since_ms).map_or(0, |waited_ms| lazy_ms.saturating_sub(waited_ms)))
    }

    /// Somebody waits for what is open.
    pub(crate) fn hurry(&mut self) {
        self.urgent |= self.open.iter().any(|open| !open.is_empty());
    }

    /// Submits what is open in a lane, and gives the commit's number. If the store is busy it stays open, and grows no further than
    /// its bound.
    pub(crate) fn submit(&mut self, lane: Lane, table: &SlotTable, fx: &mut dyn Effects) -> Option<CommitId> {
        let open = &mut self.open[usize::from(lane.0)];
        if open.is_empty() {
            return None;
        }
        let fence = open.deciding.iter().map(|slot| (*slot, table.epoch(*slot))).collect();
        // The next turn will write about as much as this one.
        let next = Batch::with_capacity(open.batch.encoded().len().min(NEXT_BATCH_BYTES_MAX));
        match fx.submit(lane, std::mem::replace(&mut open.batch, next), fence) {
            Ok(commit) => {
                let deciding = self.begin_batch(lane);
                self.in_flight.push_back(UnderWay { commit, lane, deciding });
                Some(commit)
            }
            Err(Busy((batch, _))) => {
                open.batch = batch;
                None
            }
        }
    }

    /// What was open has been submitted: nobody waits for it any more, unless the store was busy.
    pub(crate) fn submitted(&mut self) {
        self.urgent = self.open.iter().any(|open| !open.is_empty());
        self.lazy_since_ms = None;
    }

    /// The oldest commit has ended. Gives its lane.
    ///
    /// # Panics
    /// If the store completes commits out of order.
    pub(crate) fn ended(&mut self, commit: CommitId) -> Lane {
        let oldest = self.in_flight.pop_front().expect("the store completes only what was submitted");
        assert_eq!(oldest.commit, commit, "a port's commits complete in the order of their submission");
        oldest.lane
    }

    /// Discards what is open in a lane: it was decided on a state that did not become durable.
    pub(crate) fn discard_open(&mut self, lane: Lane) {
        self.open[usize::from(lane.0)].batch = Batch::default();
        self.begin_batch(lane);
    }

    /// Gives the slots that decided the one before.
    fn begin_batch(&mut self, lane: Lane) -> Vec<Slot> {
        let open = &mut self.open[usize::from(lane.0)];
        open.follows = 0;
        // The next one will be decided by about as many.
        let next = Vec::with_capacity(open.deciding.len());
        let deciding = std::mem::replace(&mut open.deciding, next);
        for slot in &deciding {
            let (word, bit) = bit_of(*slot);
            self.is_decided_by[word] &= !bit;
        }
        deciding
    }

    fn follows(&self) -> usize {
        self.open.iter().map(|open| open.follows).sum()
    }

    /// The lane of a slot: neighbours have the same one.
    fn lane(&self, slot: Slot) -> usize {
        usize::from(slot.number()) * self.open.len() / usize::from(SLOTS)
    }

    fn decided_by(&mut self, slot: Slot, urgency: Urgency) -> &mut Open {
        self.is_wanted(urgency);
        let lane = self.lane(slot);
        let open = &mut self.open[lane];
        let (word, bit) = bit_of(slot);
        if self.is_decided_by[word] & bit == 0 {
            self.is_decided_by[word] |= bit;
            open.deciding.push(slot);
        }
        open
    }

    fn is_wanted(&mut self, urgency: Urgency) {
        match urgency {
            Urgency::Urgent => self.urgent = true,
            Urgency::Lazy(now_ms) => _ = self.lazy_since_ms.get_or_insert(now_ms),
        }
    }
}

/// Where a slot stands in a set of all: the word, and its bit.
fn bit_of(slot: Slot) -> (usize, u64) {
    (usize::from(slot.number() / 64), 1 << (slot.number() % 64))
}

impl Open {
    fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.follows == 0
    }
}

/// What a department waits for from the store: what follows a write (`A`), and what a get (`G`) and a scan (`S`) are for.
#[derive(Debug)]
pub(crate) struct Desk<A, G, S> {
    /// What follows what is open, by lane.
    follows: Box<[Vec<A>]>,
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
    /// Nothing is waited for, in this many lanes.
    pub(crate) fn new(lanes: u16, hashing: Hashing) -> Self {
        Self {
            follows: (0..lanes.max(1)).map(|_| Vec::new()).collect(),
            in_flight: VecDeque::new(),
            gets: Map::with_hasher(hashing),
            scans: Map::with_hasher(hashing),
            waiting: VecDeque::new(),
        }
    }

    /// Has `after` happen when what a slot's owner decided so far is durable.
    pub(crate) fn then(&mut self, store: &mut Store, by: Slot, after: A, urgency: Urgency) {
        store.is_wanted(urgency);
        let lane = store.lane(by);
        store.open[lane].follows += 1;
        self.follows[lane].push(after);
    }

    /// What was open in a lane was submitted.
    pub(crate) fn submitted(&mut self, lane: Lane, commit: CommitId) {
        let follows = &mut self.follows[usize::from(lane.0)];
        if !follows.is_empty() {
            let next = Vec::with_capacity(follows.len());
            self.in_flight.push_back((commit, std::mem::replace(follows, next)));
        }
    }

    /// What follows a commit that has ended.
    pub(crate) fn ended(&mut self, commit: CommitId) -> Vec<A> {
        match self.in_flight.pop_front_if(|(oldest, _)| *oldest == commit) {
            Some((_, follows)) => follows,
            None => Vec::new(),
        }
    }

    /// What would have followed what is open in a lane.
    pub(crate) fn discard_open(&mut self, lane: Lane) -> Vec<A> {
        std::mem::take(&mut self.follows[usize::from(lane.0)])
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

    /// Whether a scan is under way, or waits for the store to have room, of which this is true.
    pub(crate) fn scans(&self, is_so: impl Fn(&S) -> bool) -> bool {
        let waits = self.waiting.iter().any(|ask| match ask {
            Ask::Scan(.., purpose) => is_so(purpose),
            Ask::Get(..) => false,
        });
        waits || self.scans.values().any(is_so)
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
