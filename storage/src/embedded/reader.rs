//! The threads that read, so that no core waits for the disk.

use std::sync::Arc;

use rtrb::{Consumer, Producer};

use super::applier::Backlog;
use super::parker::{Turn, Work};
use super::statistics::Statistics;
use super::tables::Tables;
use crate::engine::{Completion, Direction, ReadId, ScanLimit, StoreError, Wake};
use crate::keys::{Key, KeyRange};

/// A read on its way.
pub(super) struct Question {
    pub(super) read: ReadId,
    pub(super) wanted: Wanted,
    /// The newest group that it must see.
    pub(super) sees: u64,
}

/// What is read.
pub(super) enum Wanted {
    Value(Key),
    Rows(KeyRange, Direction, ScanLimit),
}

/// The reader's side of one port.
pub(super) struct Link {
    questions: Consumer<Question>,
    answers: Producer<Completion>,
    wake: Arc<dyn Wake>,
}

impl Link {
    pub(super) fn new(
        questions: Consumer<Question>,
        answers: Producer<Completion>,
        wake: Arc<dyn Wake>,
    ) -> Self {
        Self { questions, answers, wake }
    }
}

/// Reads answered of one port before the next is looked at.
const TURN_READS_MAX: usize = 32;

/// See the module.
pub(super) struct Reader {
    tables: Tables,
    backlog: Arc<Backlog>,
    statistics: Arc<Statistics>,
    links: Vec<Link>,
}

impl Reader {
    pub(super) fn new(tables: Tables, backlog: Arc<Backlog>, statistics: Arc<Statistics>) -> Self {
        Self { tables, backlog, statistics, links: Vec::new() }
    }
}

impl Work<Link> for Reader {
    fn link(&mut self, link: Link) {
        self.links.push(link);
    }

    fn turn(&mut self) -> Turn {
        let mut any = false;
        for link in &mut self.links {
            let mut answered = 0;
            while answered < TURN_READS_MAX
                && let Ok(Question { read, wanted, sees }) = link.questions.pop()
            {
                answered += 1;
                let there = self.backlog.wait_for(sees).map_err(|reason| StoreError::Failed { reason });
                let completion = match wanted {
                    Wanted::Value(key) => {
                        Completion::Value { read, result: there.and_then(|()| self.tables.get(&key)) }
                    }
                    Wanted::Rows(range, direction, limit) => {
                        let result = there.and_then(|()| self.tables.scan(&range, direction, limit));
                        Completion::Rows { read, result }
                    }
                };
                let full = link.answers.push(completion).is_err();
                assert!(!full || link.answers.is_abandoned(), "an answer has a place reserved");
            }
            if answered > 0 {
                any = true;
                self.statistics.reads(answered);
                link.wake.wake();
            }
        }
        if !any {
            self.links.retain(|link| !link.questions.is_abandoned());
        }
        if any { Turn::Worked } else { Turn::Idle }
    }
}
