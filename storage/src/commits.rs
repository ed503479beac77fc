//! A port's way to whoever commits for it: rings there and back, the counts that keep them from overflowing, and what has failed in
//! which lane.

#![cfg_attr(
    not(all(feature = "embedded", feature = "fdb-core")),
    allow(dead_code, reason = "each engine uses its part of it")
)]

use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};

use crate::batch::{Batch, Fence};
use crate::engine::{Busy, CommitId, Completion, Durable, StoreError, Wake};
use crate::lanes::{Failures, Lane, Told};
use crate::mutations::{self, Mutation};
use crate::parker::Parker;
use crate::slots::{Epoch, Slot};

/// A batch on its way.
pub(crate) struct Submission {
    pub(crate) commit: CommitId,
    pub(crate) batch: Batch,
    pub(crate) fence: Fence,
    /// A slot's epoch, to be raised with this batch.
    pub(crate) raise: Option<(Slot, Epoch)>,
    pub(crate) lane: Lane,
    /// Failed commits of the lane that the port's owner knew of when it submitted this.
    pub(crate) failures_seen: u64,
}

/// The side of whoever commits.
pub(crate) struct Link {
    submissions: Consumer<Submission>,
    completions: Producer<Completion>,
    wake: Arc<dyn Wake>,
    failures: Failures,
    completed: bool,
}

impl Link {
    /// The next batch, if one waits.
    pub(crate) fn take(&mut self) -> Option<Submission> {
        self.submissions.pop().ok()
    }

    /// Whether no batch waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.submissions.is_empty()
    }

    /// Whether its port is gone.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.submissions.is_abandoned()
    }

    /// Why a batch must fail because one before it in its lane did.
    pub(crate) fn follows_failure(&self, submission: &Submission) -> Option<StoreError> {
        if mutations::is(Mutation::ForgetFailure) {
            return None;
        }
        self.failures.follows(submission.lane, submission.failures_seen)
    }

    /// Tells the port what became of its oldest batch under way.
    pub(crate) fn complete(&mut self, lane: Lane, commit: CommitId, result: Result<(), StoreError>) {
        let completion = match result {
            Ok(()) => Completion::Committed(Durable::new(commit)),
            Err(error) => {
                self.failures.add(lane, error.clone());
                Completion::CommitFailed { commit, error }
            }
        };
        self.completed = true;
        // The port counts the room for every completion. An abandoned port is not told.
        let full = self.completions.push(completion).is_err();
        assert!(!full || self.completions.is_abandoned(), "a completion has a place reserved");
    }

    /// Wakes the port's owner, if it was told anything since the last call.
    pub(crate) fn wake(&mut self) {
        if std::mem::take(&mut self.completed) {
            self.wake.wake();
        }
    }
}

/// The port's side.
pub(crate) struct Commits {
    submissions: Producer<Submission>,
    completions: Consumer<Completion>,
    committer: Arc<Parker<Link>>,
    made: u64,
    told: Told,
}

impl Commits {
    /// A way to a committer for so many commits under way.
    pub(crate) fn open(in_flight_max: usize, wake: Arc<dyn Wake>, committer: Arc<Parker<Link>>) -> Self {
        let (submissions, taken) = RingBuffer::new(in_flight_max);
        let (completed, completions) = RingBuffer::new(in_flight_max);
        committer.link(Link {
            submissions: taken,
            completions: completed,
            wake,
            failures: Failures::default(),
            completed: false,
        });
        Self { submissions, completions, committer, made: 0, told: Told::new(in_flight_max) }
    }

    /// See [`Port::submit_in`](crate::Port::submit_in); `raise` is a slot's epoch, to be raised with the batch.
    pub(crate) fn submit(
        &mut self,
        (lane, batch, fence): (Lane, Batch, Fence),
        raise: Option<(Slot, Epoch)>,
    ) -> Result<CommitId, Busy<(Batch, Fence)>> {
        // Room for the completion is what is counted: a completion never finds its ring full.
        if self.told.in_flight() == self.completions.buffer().capacity() || self.committer.is_closed() {
            return Err(Busy((batch, fence)));
        }
        let commit = CommitId(self.made + 1);
        let failures_seen = self.told.seen(lane);
        let submission = Submission { commit, batch, fence, raise, lane, failures_seen };
        match self.submissions.push(submission) {
            Ok(()) => {
                self.made += 1;
                self.told.submitted(lane);
                self.committer.wake();
                Ok(commit)
            }
            Err(rtrb::PushError::Full(submission)) => Err(Busy((submission.batch, submission.fence))),
        }
    }

    /// Moves what has ended to the end of `completions`.
    pub(crate) fn poll(&mut self, completions: &mut Vec<Completion>) {
        while let Ok(completion) = self.completions.pop() {
            self.told.ended(matches!(completion, Completion::CommitFailed { .. }));
            completions.push(completion);
        }
    }

    /// Whether [`Self::poll`] would give anything.
    pub(crate) fn has_completions(&self) -> bool {
        !self.completions.is_empty()
    }
}
