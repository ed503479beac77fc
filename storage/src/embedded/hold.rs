//! What the store keeps for a backup: segments of the log that are not archived yet, and files of the tables that are still to be
//! copied. It has a bound. Beyond, the backup is given up, never the commits.

use std::fmt;
use std::sync::{Mutex, MutexGuard};

use super::tables::Pin;
use crate::mutations::{self, Mutation};

/// See the module.
pub(super) struct Hold {
    state: Mutex<State>,
    /// Bytes of segments that are kept for the backup alone.
    log_bytes_max: u64,
    /// Bytes that the disk must have free.
    free_bytes_min: u64,
}

struct State {
    /// Groups up to this one are archived; `None` without a backup.
    archived: Option<u64>,
    /// What keeps the files of a base where they are, until each is copied.
    pins: Vec<Option<Pin>>,
    given_up: Option<String>,
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").field("archived", &self.archived()).finish_non_exhaustive()
    }
}

impl Hold {
    /// `archived`: of the backup that goes on from before.
    pub(super) fn new(archived: Option<u64>, log_bytes_max: u64, free_bytes_min: u64) -> Self {
        let state = Mutex::new(State { archived, pins: Vec::new(), given_up: None });
        Self { state, log_bytes_max, free_bytes_min }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds this")
    }

    /// Which segments may go: those with groups up to this one.
    pub(super) fn archived(&self) -> u64 {
        let archived = self.lock().archived.filter(|_| !mutations::is(Mutation::ArchiveAfterRelease));
        archived.unwrap_or(u64::MAX)
    }

    /// Whether anything is kept for a backup.
    pub(super) fn is_on(&self) -> bool {
        let state = self.lock();
        state.archived.is_some() || !state.pins.is_empty()
    }

    /// A chain begins behind a group.
    pub(super) fn begin(&self, archived: u64) {
        let mut state = self.lock();
        (state.archived, state.given_up) = (Some(archived), None);
    }

    /// Groups up to this one are archived. Of a chain that was given up this changes nothing: what it needs may be gone.
    pub(super) fn advance(&self, archived: u64) {
        let mut state = self.lock();
        if state.given_up.is_none() {
            state.archived = Some(archived);
        }
    }

    /// There is no backup any more.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        (state.archived, state.given_up) = (None, None);
        state.pins.clear();
    }

    /// The files of a base stay where they are.
    pub(super) fn pin(&self, pins: Vec<Pin>) {
        self.lock().pins = pins.into_iter().map(Some).collect();
    }

    /// One of them may go.
    pub(super) fn unpin(&self, index: usize) {
        let pin = self.lock().pins.get_mut(index).and_then(Option::take);
        drop(pin);
    }

    /// All of them may go.
    pub(super) fn unpin_all(&self) {
        let pins = std::mem::take(&mut self.lock().pins);
        drop(pins);
    }

    /// How many files are kept for the backup alone, if they were merged.
    pub(super) fn pinned(&self) -> usize {
        self.lock().pins.iter().flatten().count()
    }

    /// Holds to the bounds, with so many bytes of segments kept, and so many free: the files go first, then the log.
    pub(super) fn bound(&self, kept_bytes: u64, free_bytes: u64) {
        if mutations::is(Mutation::DelayForTarget) {
            return;
        }
        let why = if kept_bytes > self.log_bytes_max {
            format!("the log that it did not take has grown to {kept_bytes} bytes")
        } else if free_bytes < self.free_bytes_min {
            format!("the store's disk has {free_bytes} bytes free")
        } else {
            return;
        };
        let mut state = self.lock();
        let pins = std::mem::take(&mut state.pins);
        // Where nothing is kept for it, to give it up makes no room.
        if pins.iter().flatten().next().is_none() && state.archived.is_some() && kept_bytes > 0 {
            state.archived = None;
            state.given_up = Some(why);
        }
        drop(state);
        drop(pins);
    }

    /// Bytes that the store's disk must have free, or what is kept goes.
    pub(super) fn free_bytes_min(&self) -> u64 {
        self.free_bytes_min
    }

    /// Why the chain was given up, if it was.
    pub(super) fn given_up(&self) -> Option<String> {
        self.lock().given_up.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_its_bounds_files_go_first_then_the_log_and_nothing_brings_it_back_but_a_new_chain() {
        let hold = Hold::new(Some(5), 100, 10);
        hold.pin(vec![Box::new(()), Box::new(())]);
        hold.unpin(0);
        hold.bound(100, 10);
        assert_eq!((hold.archived(), hold.pinned()), (5, 1), "within its bounds nothing goes");
        hold.bound(101, 10);
        assert_eq!((hold.archived(), hold.pinned()), (5, 0));
        hold.bound(0, 9);
        assert_eq!(hold.archived(), 5, "no room comes of it");
        hold.bound(1, 9);
        assert_eq!(hold.archived(), u64::MAX);
        assert!(hold.given_up().is_some_and(|why| why.contains("9 bytes free")));
        hold.advance(7);
        assert_eq!(hold.archived(), u64::MAX, "what it needs may be gone");
        hold.begin(9);
        hold.advance(11);
        assert_eq!((hold.archived(), hold.given_up()), (11, None));
    }
}
