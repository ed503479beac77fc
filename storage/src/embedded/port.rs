//! A core's end of the engine: rings to the threads and back, and the counts that keep them from overflowing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};

use rtrb::{Consumer, Producer, RingBuffer};

use super::applier::Backlog;
use super::committer::{self, Submission};
use super::options::EmbeddedOptions;
use super::parker::Parker;
use super::reader::{self, Question, Wanted};
use crate::batch::{Batch, Fence};
use crate::engine::{Busy, CommitId, Completion, Direction, Port, ReadId, ScanLimit, Wake};
use crate::keys::{self, Key, KeyRange};
use crate::lanes::{Lane, Told};
use crate::records::NumberRecord;
use crate::slots::{Epoch, Slot};

/// See [`Port`].
pub(super) struct EmbeddedPort {
    submissions: Producer<Submission>,
    questions: Producer<Question>,
    commits: Consumer<Completion>,
    reads: Consumer<Completion>,
    committer: Arc<Parker<committer::Link>>,
    reader: Arc<Parker<reader::Link>>,
    backlog: Arc<Backlog>,
    commits_made: u64,
    reads_made: u64,
    reads_in_flight: usize,
    told: Told,
}

impl EmbeddedPort {
    pub(super) fn open(
        options: &EmbeddedOptions,
        wake: Arc<dyn Wake>,
        committer: Arc<Parker<committer::Link>>,
        reader: Arc<Parker<reader::Link>>,
        backlog: Arc<Backlog>,
    ) -> Self {
        let (submissions, taken) = RingBuffer::new(options.commits_in_flight_max);
        let (completed, commits) = RingBuffer::new(options.commits_in_flight_max);
        let (questions, asked) = RingBuffer::new(options.reads_in_flight_max);
        let (answers, reads) = RingBuffer::new(options.reads_in_flight_max);
        committer.link(committer::Link::new(taken, completed, wake.clone()));
        reader.link(reader::Link::new(asked, answers, wake));
        Self {
            submissions,
            questions,
            commits,
            reads,
            committer,
            reader,
            backlog,
            commits_made: 0,
            reads_made: 0,
            reads_in_flight: 0,
            told: Told::new(options.commits_in_flight_max),
        }
    }

    pub(super) fn submit_raising(
        &mut self,
        (lane, batch, fence): (Lane, Batch, Fence),
        raise: Option<(Slot, Epoch)>,
    ) -> Result<CommitId, Busy<(Batch, Fence)>> {
        // Room for the completion is what is counted: a completion never finds its ring full.
        if self.told.in_flight() == self.commits.buffer().capacity() || self.committer.is_closed() {
            return Err(Busy((batch, fence)));
        }
        let commit = CommitId(self.commits_made + 1);
        let failures_seen = self.told.seen(lane);
        let submission = Submission { commit, batch, fence, raise, lane, failures_seen };
        match self.submissions.push(submission) {
            Ok(()) => {
                self.commits_made += 1;
                self.told.submitted(lane);
                self.committer.wake();
                Ok(commit)
            }
            Err(rtrb::PushError::Full(submission)) => Err(Busy((submission.batch, submission.fence))),
        }
    }

    fn ask(&mut self, wanted: Wanted) -> Result<ReadId, Wanted> {
        if self.reads_in_flight == self.reads.buffer().capacity() || self.reader.is_closed() {
            return Err(wanted);
        }
        let read = ReadId(self.reads_made + 1);
        match self.questions.push(Question { read, wanted, sees: self.backlog.newest() }) {
            Ok(()) => {
                self.reads_made += 1;
                self.reads_in_flight += 1;
                self.reader.wake();
                Ok(read)
            }
            Err(rtrb::PushError::Full(question)) => Err(question.wanted),
        }
    }
}

impl Port for EmbeddedPort {
    fn submit_in(
        &mut self,
        lane: Lane,
        batch: Batch,
        deciding: Fence,
    ) -> Result<CommitId, Busy<(Batch, Fence)>> {
        self.submit_raising((lane, batch, deciding), None)
    }

    fn get(&mut self, key: Key) -> Result<ReadId, Busy<Key>> {
        self.ask(Wanted::Value(key)).map_err(|wanted| match wanted {
            Wanted::Value(key) => Busy(key),
            Wanted::Rows(..) => unreachable!("it is given back as it was"),
        })
    }

    fn scan(
        &mut self,
        range: KeyRange,
        direction: Direction,
        limit: ScanLimit,
    ) -> Result<ReadId, Busy<KeyRange>> {
        self.ask(Wanted::Rows(range, direction, limit)).map_err(|wanted| match wanted {
            Wanted::Rows(range, ..) => Busy(range),
            Wanted::Value(_) => unreachable!("it is given back as it was"),
        })
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        while let Ok(completion) = self.commits.pop() {
            self.told.ended(matches!(completion, Completion::CommitFailed { .. }));
            completions.push(completion);
        }
        while let Ok(completion) = self.reads.pop() {
            self.reads_in_flight -= 1;
            completions.push(completion);
        }
    }

    fn has_completions(&self) -> bool {
        !self.commits.is_empty() || !self.reads.is_empty()
    }
}

/// Waits for a port of the own thread.
pub(super) struct Waiter(Arc<Unpark>);

struct Unpark {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Waiter {
    /// Waits until the port has been woken since the last call.
    pub(super) fn wait(&self) {
        while !self.0.woken.swap(false, Ordering::AcqRel) {
            thread::park();
        }
    }
}

/// A port for a thread that may block.
pub(super) fn blocking_port(open: impl FnOnce(Arc<dyn Wake>) -> EmbeddedPort) -> (EmbeddedPort, Waiter) {
    let unpark = Arc::new(Unpark { thread: thread::current(), woken: AtomicBool::new(false) });
    (open(unpark.clone()), Waiter(unpark))
}

/// The batch that raises a slot's epoch.
pub(super) fn raising(slot: Slot, epoch: Epoch) -> Batch {
    let mut batch = Batch::default();
    batch.put_record(&keys::epoch(slot), &NumberRecord { number: epoch.0 });
    batch
}
