//! A core's end of the engine: rings to the threads and back, and the counts that keep them from overflowing.

use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};

use super::applier::Backlog;
use super::options::EmbeddedOptions;
use super::reader::{self, Question, Wanted};
use crate::batch::{Batch, Fence};
use crate::commits::{Commits, Link};
use crate::engine::{Busy, CommitId, Completion, Direction, Port, ReadId, ScanLimit, Wake};
use crate::keys::{self, Key, KeyRange};
use crate::lanes::Lane;
use crate::parker::Parker;
use crate::records::NumberRecord;
use crate::slots::{Epoch, Slot};

/// See [`Port`].
pub(super) struct EmbeddedPort {
    commits: Commits,
    questions: Producer<Question>,
    reads: Consumer<Completion>,
    reader: Arc<Parker<reader::Link>>,
    backlog: Arc<Backlog>,
    reads_made: u64,
    reads_in_flight: usize,
}

impl EmbeddedPort {
    pub(super) fn open(
        options: &EmbeddedOptions,
        wake: Arc<dyn Wake>,
        committer: Arc<Parker<Link>>,
        reader: Arc<Parker<reader::Link>>,
        backlog: Arc<Backlog>,
    ) -> Self {
        let (questions, asked) = RingBuffer::new(options.reads_in_flight_max);
        let (answers, reads) = RingBuffer::new(options.reads_in_flight_max);
        let commits = Commits::open(options.commits_in_flight_max, wake.clone(), committer);
        reader.link(reader::Link::new(asked, answers, wake));
        Self { commits, questions, reads, reader, backlog, reads_made: 0, reads_in_flight: 0 }
    }

    pub(super) fn submit_raising(
        &mut self,
        batch: (Lane, Batch, Fence),
        raise: Option<(Slot, Epoch)>,
    ) -> Result<CommitId, Busy<(Batch, Fence)>> {
        self.commits.submit(batch, raise)
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
        self.commits.poll(completions);
        while let Ok(completion) = self.reads.pop() {
            self.reads_in_flight -= 1;
            completions.push(completion);
        }
    }

    fn has_completions(&self) -> bool {
        self.commits.has_completions() || !self.reads.is_empty()
    }
}

/// The batch that raises a slot's epoch.
pub(super) fn raising(slot: Slot, epoch: Epoch) -> Batch {
    let mut batch = Batch::default();
    batch.put_record(&keys::epoch(slot), &NumberRecord { number: epoch.0 });
    batch
}
