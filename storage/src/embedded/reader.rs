//! What reads for the cores, so that none of them waits for the disk.

use std::sync::Arc;

use rtrb::{Consumer, Producer};

use super::applier::Backlog;
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

/// What came of [`Reader::answer`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answering {
    /// Some were answered; there may be more.
    Answered,
    /// The next one must see this group, which is not in the tables yet.
    WaitsFor(u64),
    /// There was none.
    Nothing,
}

/// See the module.
pub(super) struct Reader<T: Tables> {
    tables: T,
    backlog: Arc<Backlog>,
    statistics: Arc<Statistics>,
    links: Vec<Link>,
}

impl<T: Tables> Reader<T> {
    pub(super) fn new(tables: T, backlog: Arc<Backlog>, statistics: Arc<Statistics>) -> Self {
        Self { tables, backlog, statistics, links: Vec::new() }
    }

    /// Serves a new port.
    pub(super) fn link(&mut self, link: Link) {
        self.links.push(link);
    }

    /// Answers some of what each port has asked, up to a question that must see what is not in the tables yet.
    pub(super) fn answer(&mut self) -> Answering {
        let mut any = false;
        for link in &mut self.links {
            let (answered, waits_for) = link.answer(&self.tables, &self.backlog);
            if answered > 0 {
                any = true;
                self.statistics.reads(answered);
                link.wake.wake();
            }
            if let Some(number) = waits_for {
                return Answering::WaitsFor(number);
            }
        }
        if any {
            return Answering::Answered;
        }
        self.links.retain(|link| !link.questions.is_abandoned());
        Answering::Nothing
    }
}

impl Link {
    /// Gives how many questions were answered, and the group that the next one waits for.
    fn answer<T: Tables>(&mut self, tables: &T, backlog: &Backlog) -> (usize, Option<u64>) {
        let mut answered = 0;
        while answered < TURN_READS_MAX
            && let Ok(sees) = self.questions.peek().map(|question| question.sees)
        {
            let there = match backlog.has_applied(sees) {
                Ok(true) => Ok(()),
                Ok(false) => return (answered, Some(sees)),
                Err(reason) => Err(StoreError::Failed { reason }),
            };
            let Question { read, wanted, .. } = self.questions.pop().expect("it was peeked at");
            answered += 1;
            let completion = match wanted {
                Wanted::Value(key) => {
                    Completion::Value { read, result: there.and_then(|()| tables.get(&key)) }
                }
                Wanted::Rows(range, direction, limit) => {
                    let result = there.and_then(|()| tables.scan(&range, direction, limit));
                    Completion::Rows { read, result }
                }
            };
            let full = self.answers.push(completion).is_err();
            assert!(!full || self.answers.is_abandoned(), "an answer has a place reserved");
        }
        (answered, None)
    }
}
