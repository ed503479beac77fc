//! A core's end of the engine: its way to the lanes, and reads of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::client::{Caller, Outcome, Request, Token, Want};
use super::driver::Shared;
use super::options::FdbOptions;
use crate::batch::{Batch, Fence};
use crate::commits::{Commits, Link};
use crate::engine::{Busy, CommitId, Completion, Direction, Port, ReadId, ScanLimit, StoreError, Wake};
use crate::keys::{Key, KeyRange};
use crate::lanes::Lane;
use crate::parker::Parker;

/// See [`Port`].
pub(super) struct FdbPort {
    commits: Commits,
    caller: Box<dyn Caller>,
    shared: Arc<Shared>,
    reads: BTreeMap<Token, Reading>,
    reads_made: u64,
    reads_in_flight_max: usize,
    outcomes: Vec<(Token, Outcome)>,
}

#[derive(Clone, Copy)]
enum Reading {
    Value(ReadId),
    Rows(ReadId),
}

impl FdbPort {
    pub(super) fn open(
        options: &FdbOptions,
        wake: Arc<dyn Wake>,
        caller: Box<dyn Caller>,
        committer: Arc<Parker<Link>>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            commits: Commits::open(options.commits_in_flight_max, wake, committer),
            caller,
            shared,
            reads: BTreeMap::new(),
            reads_made: 0,
            reads_in_flight_max: options.reads_in_flight_max,
            outcomes: Vec::new(),
        }
    }

    fn has_room(&self) -> bool {
        self.reads.len() < self.reads_in_flight_max
    }

    /// Reads at the newest version that this process knows of; what other processes write too, at one that FoundationDB gives.
    fn read(&mut self, want: Want, reading: impl FnOnce(ReadId) -> Reading) -> ReadId {
        let at = match &want {
            Want::Rows(range, ..) if is_written_by_others(&range.start) => None,
            Want::Rows(..) | Want::Value(_) => self.shared.seen.version(),
        };
        let token = self.caller.start(Request::Read { at, wants: vec![want] });
        self.reads_made += 1;
        let read = ReadId(self.reads_made);
        self.reads.insert(token, reading(read));
        read
    }
}

/// Inbox marks and memberships lie in a user's slot, and logs write them that lie elsewhere.
fn is_written_by_others(key: &Key) -> bool {
    matches!(key.as_ref().first(), Some(b'i' | b'g'))
}

impl Port for FdbPort {
    fn submit_in(
        &mut self,
        lane: Lane,
        batch: Batch,
        deciding: Fence,
    ) -> Result<CommitId, Busy<(Batch, Fence)>> {
        self.commits.submit((lane, batch, deciding), None)
    }

    fn get(&mut self, key: Key) -> Result<ReadId, Busy<Key>> {
        if !self.has_room() {
            return Err(Busy(key));
        }
        Ok(self.read(Want::Value(key), Reading::Value))
    }

    fn scan(
        &mut self,
        range: KeyRange,
        direction: Direction,
        limit: ScanLimit,
    ) -> Result<ReadId, Busy<KeyRange>> {
        if !self.has_room() {
            return Err(Busy(range));
        }
        Ok(self.read(Want::Rows(range, direction, limit), Reading::Rows))
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        self.commits.poll(completions);
        self.caller.poll(&mut self.outcomes);
        for (token, outcome) in self.outcomes.drain(..) {
            let reading = self.reads.remove(&token).expect("what ends was asked for");
            let found = match outcome {
                Outcome::Read(version, mut found) => {
                    self.shared.seen.read_at(version);
                    self.shared.statistics.reads.add(1);
                    Ok(found.pop().expect("all that was asked for is found"))
                }
                Outcome::Failed(code) => {
                    self.shared.statistics.reads_failed.add(1);
                    Err(StoreError::Unreachable { reason: format!("FoundationDB: error {}", code.0) })
                }
                Outcome::Committed(_) => unreachable!("a read commits nothing"),
            };
            completions.push(match reading {
                Reading::Value(read) => Completion::Value { read, result: found.map(|found| found.value()) },
                Reading::Rows(read) => Completion::Rows { read, result: found.map(|found| found.rows()) },
            });
        }
    }

    fn has_completions(&self) -> bool {
        self.commits.has_completions() || self.caller.has_outcomes()
    }
}
