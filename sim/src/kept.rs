//! What was ever written of the entries of the logs: in worlds whose servers keep messages for some time alone, what is cut off can be
//! told by nothing else. It is read from the cores' batches, not from the brain.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use tern_proto::v1::Kind;
use tern_storage::records::EntryRecord;
use tern_storage::{Batch, LogId, keys};

use crate::books::log_in;
use crate::model::Group;

/// What a batch does to an entry.
#[derive(Debug)]
pub(crate) enum Wrote {
    Put(LogId, Box<EntryRecord>),
    Cut(LogId, u64),
}

/// What a batch does to entries.
pub(crate) fn wrote(batch: &Batch) -> Vec<Wrote> {
    let ops = batch.ops().filter(|(key, _)| key.first() == Some(&b'e'));
    let wrote = ops.map(|(key, value)| {
        let log = log_in(key).expect("it is an entry's key");
        match value {
            Some(value) => {
                let entry = EntryRecord::decode(value).expect("it was just encoded");
                Wrote::Put(log, Box::new(entry))
            }
            None => Wrote::Cut(log, keys::number_of(key).expect("it is an entry's key")),
        }
    });
    wrote.collect()
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Kept {
    /// For how long what all have received is kept, in ms; 0: for ever.
    pub(crate) history_ms: u64,
    logs: BTreeMap<LogId, BTreeMap<u64, EntryRecord>>,
    /// What changes of groups and timers said.
    changes: BTreeMap<(LogId, u64), Bytes>,
}

impl Kept {
    pub(crate) fn new(history_ms: u64) -> Self {
        Self { history_ms, logs: BTreeMap::new(), changes: BTreeMap::new() }
    }

    /// Whether anything is ever cut off.
    pub(crate) fn is_for_ever(&self) -> bool {
        self.history_ms == 0
    }

    /// Whether what is of this time is kept no longer, at a time.
    pub(crate) fn is_old(&self, time_ms: u64, now_ms: u64) -> bool {
        !self.is_for_ever() && now_ms.saturating_sub(time_ms) >= self.history_ms
    }

    pub(crate) fn put(&mut self, log: LogId, entry: EntryRecord) {
        if [Kind::Group, Kind::Timer].map(i32::from).contains(&entry.kind) && !entry.erased {
            self.changes.insert((log, entry.seq), entry.body.clone());
        }
        self.logs.entry(log).or_default().insert(entry.seq, entry);
    }

    /// An entry as it was written last.
    pub(crate) fn entry(&self, log: LogId, seq: u64) -> Option<&EntryRecord> {
        self.logs.get(&log)?.get(&seq)
    }

    /// All before an entry, without a gap. `None`: they were not written.
    pub(crate) fn before(&self, log: LogId, first: u64) -> Option<Vec<EntryRecord>> {
        (1..first).map(|seq| self.entry(log, seq).cloned()).collect()
    }

    /// A group as all that was written makes it.
    pub(crate) fn group(&self, log: LogId) -> Result<Group, String> {
        self.group_of(log, self.logs.get(&log).into_iter().flat_map(BTreeMap::values))
    }

    /// A group as these entries make it, of which those may be erased that are kept no longer.
    pub(crate) fn group_of<'a>(
        &self,
        log: LogId,
        entries: impl Iterator<Item = &'a EntryRecord>,
    ) -> Result<Group, String> {
        Group::of(&entries.map(|entry| self.whole(log, entry)).collect::<Vec<_>>())
    }

    /// An entry with what it said if it is of those that what follows depends on.
    pub(crate) fn whole(&self, log: LogId, entry: &EntryRecord) -> EntryRecord {
        match self.changes.get(&(log, entry.seq)) {
            Some(body) if entry.erased => EntryRecord { body: body.clone(), ..entry.clone() },
            _ => entry.clone(),
        }
    }

    /// A log ends here: what was written behind it was lost before it was durable.
    pub(crate) fn ends(&mut self, log: LogId, head: u64) {
        if let Some(entries) = self.logs.get_mut(&log) {
            entries.retain(|seq, _| *seq <= head);
        }
    }
}
