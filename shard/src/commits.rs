//! The core's open batch, and what follows when it is durable.
//!
//! Whatever the brain writes in one turn becomes one batch. Nothing that depends on it leaves before its
//! [`tern_storage::engine::Durable`] proof: it waits beside the batch, as what its department will do then.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message;
use tern_storage::{Batch, Busy, CommitId, Epoch, Fence, Key, SLOTS, Slot};

use crate::effects::Effects;
use crate::limits::BATCH_ANSWERS_MAX;

/// The open batch and those under way, and what follows each, an `A` at a time.
#[derive(Debug)]
pub struct Commits<A> {
    open: Batch,
    then: Vec<A>,
    in_flight: VecDeque<(CommitId, Vec<A>)>,
    /// The epochs in which this core owns its slots.
    epochs: Box<[Epoch]>,
    /// The slots that the open batch touches: a bit each, and a list of them.
    is_touched: Box<[u64]>,
    touched: Vec<Slot>,
}

/// Nothing open; every slot in its first epoch.
impl<A> Default for Commits<A> {
    fn default() -> Self {
        Self {
            open: Batch::default(),
            then: Vec::new(),
            in_flight: VecDeque::new(),
            epochs: vec![Epoch::default(); usize::from(SLOTS)].into(),
            is_touched: vec![0; usize::from(SLOTS) / 64].into(),
            touched: Vec::new(),
        }
    }
}

impl<A> Commits<A> {
    /// Writes a record.
    pub fn put(&mut self, key: Key, record: &impl Message) {
        self.put_bytes(key, record.encode_to_vec().into());
    }

    /// Writes a value.
    pub fn put_bytes(&mut self, key: Key, value: Bytes) {
        self.touch(&key);
        self.open.put(key, value);
    }

    /// Removes a key.
    pub fn delete(&mut self, key: Key) {
        self.touch(&key);
        self.open.delete(key);
    }

    /// Has `after` happen when what was written so far is durable.
    pub fn then(&mut self, after: A) {
        self.then.push(after);
    }

    /// Whether a request may write so many bytes: the store may be busy, and the batch stay open. `bytes_max` bounds it but for
    /// what follows from requests that were taken.
    pub fn has_room(&self, bytes: usize, bytes_max: usize) -> bool {
        self.open.bytes() + bytes <= bytes_max && self.then.len() < BATCH_ANSWERS_MAX
    }

    /// Commits that the store has not completed.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether nothing waits for the store.
    pub fn is_quiet(&self) -> bool {
        self.open.is_empty() && self.then.is_empty() && self.in_flight.is_empty()
    }

    /// Submits the open batch. If the store is busy it stays open, and grows no further than its bound.
    pub fn submit(&mut self, fx: &mut dyn Effects) {
        if self.open.is_empty() && self.then.is_empty() {
            return;
        }
        match fx.submit(std::mem::take(&mut self.open), self.fence()) {
            Ok(commit) => {
                self.in_flight.push_back((commit, std::mem::take(&mut self.then)));
                self.untouch();
            }
            Err(Busy((batch, _))) => self.open = batch,
        }
    }

    /// What follows the oldest commit, which has ended.
    ///
    /// # Panics
    /// If the store completes commits out of order.
    pub fn ended(&mut self, commit: CommitId) -> Vec<A> {
        let (oldest, then) = self.in_flight.pop_front().expect("the store completes only what was submitted");
        assert_eq!(oldest, commit, "a port's commits complete in the order of their submission");
        then
    }

    /// Discards the open batch: it was decided on a state that did not become durable.
    pub fn discard_open(&mut self) -> Vec<A> {
        self.open = Batch::default();
        self.untouch();
        std::mem::take(&mut self.then)
    }

    fn touch(&mut self, key: &Key) {
        if let Some(slot) = key.slot() {
            let (word, bit) = (usize::from(slot.number() / 64), 1 << (slot.number() % 64));
            if self.is_touched[word] & bit == 0 {
                self.is_touched[word] |= bit;
                self.touched.push(slot);
            }
        }
    }

    fn untouch(&mut self) {
        for slot in self.touched.drain(..) {
            self.is_touched[usize::from(slot.number() / 64)] = 0;
        }
    }

    fn fence(&self) -> Fence {
        self.touched.iter().map(|slot| (*slot, self.epochs[usize::from(slot.number())])).collect()
    }
}
