//! Lanes: what a port keeps in order, and what fails together.
//!
//! A batch was decided on a state that those before it in its lane had made. If one of them is not in the store, neither may
//! those be that follow it, until their author has heard of the failure. What lies in another lane was decided without it.

use std::collections::{BTreeMap, VecDeque};

use crate::engine::StoreError;

/// A lane of a port, by a number of the owner's choice: a slot's, for example.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Lane(pub u16);

/// An engine's side of a port's lanes: those in which something has failed.
#[derive(Default, Debug)]
pub(crate) struct Failures(BTreeMap<Lane, Failed>);

#[derive(Debug)]
struct Failed {
    count: u64,
    last: StoreError,
}

impl Failures {
    /// A batch of this lane is not in the store.
    pub(crate) fn add(&mut self, lane: Lane, error: StoreError) {
        let count = self.0.get(&lane).map_or(0, |failed| failed.count) + 1;
        self.0.insert(lane, Failed { count, last: error });
    }

    /// Why a batch must fail because one before it in its lane did, of which its author had not heard. `seen`: the failures of
    /// the lane that the author knew of.
    pub(crate) fn follows(&self, lane: Lane, seen: u64) -> Option<StoreError> {
        self.0.get(&lane).filter(|failed| seen < failed.count).map(|failed| failed.last.clone())
    }
}

/// The owner's side: the lanes of what is under way, and the failures that the owner has been told of.
#[derive(Default, Debug)]
pub(crate) struct Told {
    under_way: VecDeque<Lane>,
    failures: BTreeMap<Lane, u64>,
}

impl Told {
    /// For so many commits under way at most.
    #[cfg(any(feature = "embedded", feature = "fdb-core"))]
    pub(crate) fn new(commits_in_flight_max: usize) -> Self {
        Self { under_way: VecDeque::with_capacity(commits_in_flight_max), failures: BTreeMap::new() }
    }

    /// Commits under way.
    pub(crate) fn in_flight(&self) -> usize {
        self.under_way.len()
    }

    /// The failures of a lane that its owner knows of.
    pub(crate) fn seen(&self, lane: Lane) -> u64 {
        self.failures.get(&lane).copied().unwrap_or(0)
    }

    /// A batch was taken.
    pub(crate) fn submitted(&mut self, lane: Lane) {
        self.under_way.push_back(lane);
    }

    /// The owner is told of the end of the oldest batch under way.
    pub(crate) fn ended(&mut self, failed: bool) {
        let lane = self.under_way.pop_front().expect("what ends was submitted");
        if failed {
            *self.failures.entry(lane).or_default() += 1;
        }
    }
}
