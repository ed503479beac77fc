//! What a port's lane has written, and what must hold of it whatever happens: all that was completed is there, in order, and reads see it.

use std::collections::BTreeMap;

use tern_storage::medium::stream::Stream;
use tern_storage::{Batch, CommitId, Completion, Key, LogId, ReadId, StoreError, keys};

/// What a store holds: by key.
pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// The batch that does this.
pub fn batch_of(ops: &[(Key, Option<Vec<u8>>)]) -> Batch {
    let mut batch = Batch::default();
    for (key, value) in ops {
        match value {
            Some(value) => batch.put(key, value),
            None => batch.delete(key),
        }
    }
    batch
}

/// What ports have said.
#[derive(Default, Debug)]
pub struct Heard {
    pub committed: u64,
    pub refused: u64,
    pub unknown: u64,
    pub reads: u64,
}

/// One batch of a port, in the order of their submission.
pub struct Written {
    pub commit: CommitId,
    pub number: u64,
    pub ops: Vec<(Key, Option<Vec<u8>>)>,
    /// Its slot has another owner.
    pub stale: bool,
    /// How many failures its author knew of.
    pub knew: usize,
    pub state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    UnderWay,
    Committed,
    /// It is not in the store.
    Refused,
    /// The store has failed: nobody knows.
    Unknown,
}

/// What one core, or one of two that share a port, has of the store: a lane.
pub struct Core {
    pub index: usize,
    /// How many ports there are.
    pub ports: usize,
    /// What was there when the store was opened, and all that was submitted since.
    pub base: Rows,
    pub written: Vec<Written>,
    pub made: u64,
    /// Of what was submitted, so many (refused ones aside) were known to be there when something was read or completed.
    pub seen: usize,
    /// Reads under way, with how many batches each must see.
    pub reads: BTreeMap<ReadId, usize>,
}

impl Core {
    /// One that has written nothing.
    pub fn new(index: usize, ports: usize) -> Self {
        Self {
            index,
            ports,
            base: Rows::new(),
            written: Vec::new(),
            made: 0,
            seen: 0,
            reads: BTreeMap::new(),
        }
    }

    pub fn port(&self) -> usize {
        self.index % self.ports
    }

    pub fn waits_for(&self, completion: &Completion) -> bool {
        let wrote = |commit| self.written.iter().any(|written| written.commit == commit);
        match completion {
            Completion::Committed(proof) => wrote(proof.commit()),
            Completion::CommitFailed { commit, .. } => wrote(*commit),
            Completion::Value { read, .. } | Completion::Rows { read, .. } => self.reads.contains_key(read),
        }
    }

    pub fn log(&self) -> LogId {
        LogId::direct(self.index as u64 + 1, 1000)
    }

    pub fn head(&self) -> Key {
        keys::log(self.log())
    }

    pub fn row(&self, number: u64) -> Key {
        keys::user(self.index as u64 * 100 + number)
    }

    /// The next batch: an entry, the log's head, and rows that are written again and again, or removed.
    pub fn next(&mut self, random: &mut Stream) -> Vec<(Key, Option<Vec<u8>>)> {
        self.made += 1;
        let text = format!("core {} batch {} ", self.index, self.made).into_bytes();
        let length = match random.below(20) {
            0 => 9000,
            1..=4 => 1500,
            _ => 60,
        };
        let body: Vec<u8> = text.iter().copied().cycle().take(random.below(length) as usize + 20).collect();
        let mut ops = vec![
            (keys::entry(self.log(), self.made), Some(body)),
            (self.head(), Some(self.made.to_le_bytes().to_vec())),
        ];
        for _ in 0..random.below(4) {
            let value = (random.below(3) > 0).then(|| text.clone());
            ops.push((self.row(random.below(12)), value));
        }
        ops
    }

    /// What there is after the first so many of those that were not refused.
    pub fn after(&self, count: usize) -> Rows {
        let mut rows = self.base.clone();
        let written = self.written.iter().filter(|written| written.state != State::Refused);
        for (key, value) in written.take(count).flat_map(|written| &written.ops) {
            match value {
                Some(value) => rows.insert(key.as_ref().to_vec(), value.clone()),
                None => rows.remove(key.as_ref()),
            };
        }
        rows
    }

    /// How many of those that were not refused there are, by the number of the last.
    pub fn count_upto(&self, head: Option<&[u8]>) -> usize {
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("a number was written"));
        let (head, base) = (head.map(number), self.base.get(self.head().as_ref()).map(|bytes| number(bytes)));
        if head == base {
            return 0;
        }
        let mut written = self.written.iter().filter(|written| written.state != State::Refused);
        let found = written.position(|written| Some(written.number) == head);
        found.unwrap_or_else(|| panic!("core {}: its newest batch {head:?} is none of this port", self.index))
            + 1
    }

    pub fn failures(&self) -> usize {
        let failed = |written: &&Written| matches!(written.state, State::Refused | State::Unknown);
        self.written.iter().filter(failed).count()
    }

    pub fn submitted(&self) -> usize {
        self.written.iter().filter(|written| written.state != State::Refused).count()
    }

    pub fn completed(&mut self, commit: CommitId, state: State) {
        let next = self.written.iter().position(|written| written.state == State::UnderWay);
        let written = &mut self.written[next.expect("what completes was submitted")];
        assert_eq!(written.commit, commit, "core {}: commits complete in their order", self.index);
        written.state = state;
        if state == State::Committed {
            assert!(!written.stale, "core {}: a fenced batch is committed", self.index);
            let (knew, failures) = (written.knew, self.failures());
            assert_eq!(
                knew, failures,
                "core {}: a batch is committed that follows one that is not",
                self.index
            );
            let upto = next.expect("just found") + 1;
            let there = self.written[..upto].iter().filter(|written| written.state != State::Refused);
            self.seen = self.seen.max(there.count());
        }
    }
}

/// Checks what a port has said.
pub fn heard(core: &mut Core, completion: Completion, tally: &mut Heard) {
    match completion {
        Completion::Committed(proof) => {
            tally.committed += 1;
            core.completed(proof.commit(), State::Committed);
        }
        Completion::CommitFailed { commit, error: StoreError::Failed { .. } } => {
            tally.unknown += 1;
            core.completed(commit, State::Unknown);
        }
        Completion::CommitFailed { commit, .. } => {
            tally.refused += 1;
            core.completed(commit, State::Refused);
        }
        Completion::Value { read, result } => {
            tally.reads += 1;
            let must_see = core.reads.remove(&read).expect("it was asked for");
            let Ok(value) = result else { return };
            let count = core.count_upto(value.as_deref());
            assert!(count >= must_see, "core {}: a read saw {count} batches of {must_see}", core.index);
            core.seen = core.seen.max(count);
        }
        Completion::Rows { read, result } => {
            tally.reads += 1;
            let must_see = core.reads.remove(&read).expect("it was asked for");
            let Ok(rows) = result else { return };
            let found: Vec<_> = rows.rows.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
            let range = keys::entries(core.log(), 0, u64::MAX);
            let is_there = |count: &usize| {
                let rows = core.after(*count).into_iter();
                let rows =
                    rows.filter(|(key, _)| key[..] >= *range.start.as_ref() && key[..] < *range.end.as_ref());
                rows.eq(found.iter().cloned())
            };
            let counts = must_see..=core.submitted();
            let count = counts.clone().find(is_there);
            let count = count.unwrap_or_else(|| {
                panic!("core {}: a scan saw what {counts:?} batches do not leave", core.index)
            });
            core.seen = core.seen.max(count);
        }
    }
}
