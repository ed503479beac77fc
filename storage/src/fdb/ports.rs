//! The ports that the engine serves, and which lane each has.

use std::collections::BTreeMap;

use crate::commits::{Link, Submission};
use crate::engine::{CommitId, StoreError};
use crate::lanes::Lane;

/// Names a port: counted from 0, never given out again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct PortId(u64);

struct Served {
    link: Link,
    /// Batches that were taken from it, and of whose end it has not been told.
    under_way: usize,
}

/// See the module.
#[derive(Default)]
pub(super) struct Ports {
    served: BTreeMap<PortId, Served>,
    opened: u64,
}

impl Ports {
    /// Serves a new port.
    pub(super) fn link(&mut self, link: Link) {
        self.served.insert(PortId(self.opened), Served { link, under_way: 0 });
        self.opened += 1;
    }

    /// Takes what waits: each batch with its port, in order, and the lane of the port among so many. Ports that are gone are forgotten.
    pub(super) fn take(&mut self, lanes: usize, mut gets: impl FnMut(usize, PortId, Submission)) -> bool {
        let mut any = false;
        for (id, served) in &mut self.served {
            while let Some(submission) = served.link.take() {
                served.under_way += 1;
                any = true;
                gets((id.0 % lanes as u64) as usize, *id, submission);
            }
        }
        // What was submitted before a port went is taken the next time.
        self.served.retain(|_, Served { link, under_way }| {
            *under_way > 0 || !link.is_abandoned() || !link.is_empty()
        });
        any
    }

    /// Why a batch must fail because one before it did, of which its author did not know.
    pub(super) fn follows_failure(&self, port: PortId, submission: &Submission) -> Option<StoreError> {
        self.served[&port].link.follows_failure(submission)
    }

    /// Tells a port what became of its oldest batch under way.
    pub(super) fn complete(
        &mut self,
        port: PortId,
        (lane, commit): (Lane, CommitId),
        result: Result<(), StoreError>,
    ) {
        let served = self.served.get_mut(&port).expect("one with something under way is not forgotten");
        served.under_way -= 1;
        served.link.complete(lane, commit, result);
    }

    /// Wakes the owners of those that were told something.
    pub(super) fn wake(&mut self) {
        self.served.values_mut().for_each(|served| served.link.wake());
    }
}
