//! The threads that read, so that no core waits for the disk.

use std::sync::Arc;

use bytes::Bytes;
use rtrb::{Consumer, Producer};

use super::Tables;
use super::applier::Backlog;
use super::parker::{Turn, Work};
use super::statistics::Statistics;
use crate::engine::{Completion, Direction, ReadId, Rows, ScanLimit, StoreError, Wake};
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
                        Completion::Value { read, result: there.and_then(|()| get(&self.tables, &key)) }
                    }
                    Wanted::Rows(range, direction, limit) => {
                        let result = there.and_then(|()| scan(&self.tables, &range, direction, limit));
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

pub(super) fn get(tables: &Tables, key: &Key) -> Result<Option<Bytes>, StoreError> {
    let value = tables.of(key.as_ref()).get(key).map_err(read_error)?;
    Ok(value.map(|value| Bytes::copy_from_slice(&value)))
}

fn scan(
    tables: &Tables,
    range: &KeyRange,
    direction: Direction,
    limit: ScanLimit,
) -> Result<Rows, StoreError> {
    let mut iter = tables.of(range.start.as_ref()).range(range.start.as_ref()..range.end.as_ref());
    let mut rows = Rows::default();
    let mut bytes = 0;
    loop {
        let next = match direction {
            Direction::Forwards => iter.next(),
            Direction::Backwards => iter.next_back(),
        };
        let Some(next) = next else { return Ok(rows) };
        if rows.rows.len() >= limit.rows || bytes >= limit.bytes {
            rows.more = true;
            return Ok(rows);
        }
        let (key, value) = next.into_inner().map_err(read_error)?;
        bytes += key.len() + value.len();
        rows.rows.push((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)));
    }
}

fn read_error(error: fjall::Error) -> StoreError {
    match error {
        fjall::Error::Io(error) => StoreError::Failed { reason: error.to_string() },
        error => StoreError::Corrupt { place: error.to_string() },
    }
}
