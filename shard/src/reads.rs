//! Reads under way: what each is for, and those that the store had no room for yet.

use std::collections::VecDeque;

use tern_storage::{Busy, Direction, Key, KeyRange, ReadId, ScanLimit};

use crate::effects::Effects;
use crate::limits::READS_WAITING_MAX;
use crate::maps::{Hashing, Map};

#[derive(Debug)]
enum Ask<G, S> {
    Get(Key, G),
    Scan(KeyRange, Direction, ScanLimit, S),
}

/// The reads of a core: gets, each for a `G`, and scans, each for an `S`.
#[derive(Debug)]
pub(crate) struct Reads<G, S> {
    gets: Map<ReadId, G>,
    scans: Map<ReadId, S>,
    waiting: VecDeque<Ask<G, S>>,
}

impl<G, S> Reads<G, S> {
    /// None.
    pub(crate) fn new(hashing: Hashing) -> Self {
        Self { gets: Map::with_hasher(hashing), scans: Map::with_hasher(hashing), waiting: VecDeque::new() }
    }

    /// Reads one key.
    pub(crate) fn get(&mut self, fx: &mut dyn Effects, key: Key, purpose: impl Into<G>) {
        self.ask(fx, Ask::Get(key, purpose.into()));
    }

    /// Reads a range.
    pub(crate) fn scan(
        &mut self,
        fx: &mut dyn Effects,
        range: KeyRange,
        direction: Direction,
        limit: ScanLimit,
        purpose: impl Into<S>,
    ) {
        self.ask(fx, Ask::Scan(range, direction, limit, purpose.into()));
    }

    /// Whether a request may ask for something. What follows from requests that were taken is read in any case: it is a few
    /// reads for each of them.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < READS_WAITING_MAX
    }

    /// What the get that has ended was for.
    ///
    /// # Panics
    /// If the store completes a get that was never asked for.
    pub(crate) fn got(&mut self, read: ReadId) -> G {
        self.gets.remove(&read).expect("the store completes only what was asked for")
    }

    /// What the scan that has ended was for.
    ///
    /// # Panics
    /// If the store completes a scan that was never asked for.
    pub(crate) fn scanned(&mut self, read: ReadId) -> S {
        self.scans.remove(&read).expect("the store completes only what was asked for")
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
