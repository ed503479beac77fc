//! A medium in memory that fails as its seed says: it fills up for a while, or breaks in the middle of a write.
//!
//! Batches are written to a journal of bytes, each with its length and checksum, so that a torn write is what it is on
//! a disk: bytes that end too early. What a crash leaves is read back from those bytes.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::batch::Batch;
use crate::engine::StoreError;

/// Bytes before a record's operations: their length and checksum.
const HEADER_BYTES: usize = 12;

/// How often what goes wrong. The same seed gives the same faults.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Faults {
    /// Decides which writes.
    pub seed: u64,
    /// Writes in a thousand that find the medium full; nothing is written.
    pub full_per_mille: u64,
    /// Writes in a thousand that break the medium: some of their bytes are written, perhaps all, and nothing after them.
    pub broken_per_mille: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Medium {
    faults: Faults,
    writes: u64,
    journal: Vec<u8>,
    broken: bool,
}

impl Medium {
    pub(crate) fn new(faults: Faults) -> Self {
        Self { faults, writes: 0, journal: Vec::new(), broken: false }
    }

    /// A whole medium with the records of this one.
    pub(crate) fn copy(&self, faults: Faults) -> Self {
        let mut rest = &self.journal[..];
        while take_record(&mut rest).is_some() {}
        let whole = self.journal.len() - rest.len();
        Self { journal: self.journal[..whole].to_vec(), ..Self::new(faults) }
    }

    pub(crate) fn heal(&mut self) {
        self.faults = Faults { seed: self.faults.seed, ..Faults::default() };
    }

    fn random(&self, what: u8) -> u64 {
        xxh3_64_with_seed(&[&self.writes.to_le_bytes()[..], &[what]].concat(), self.faults.seed)
    }

    /// Writes a batch, whole and synced, or says why not.
    pub(crate) fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let broken = || StoreError::Failed { reason: "the medium of this test is broken".to_owned() };
        if self.broken {
            return Err(broken());
        }
        self.writes += 1;
        let dice = self.random(0) % 1000;
        if dice < self.faults.full_per_mille {
            return Err(StoreError::Full);
        }
        let record = encode(batch);
        if dice < self.faults.full_per_mille + self.faults.broken_per_mille {
            // A write that fails may have been done whole.
            let is_whole = self.random(2).is_multiple_of(4);
            let written = if is_whole { record.len() } else { self.random(1) as usize % record.len() };
            self.journal.extend_from_slice(&record[..written]);
            self.broken = true;
            return Err(broken());
        }
        self.journal.extend_from_slice(&record);
        Ok(())
    }

    /// The batches that are there whole.
    pub(crate) fn replay(&self) -> Vec<Batch> {
        let mut rest = &self.journal[..];
        std::iter::from_fn(|| take_record(&mut rest)).collect()
    }
}

fn encode(batch: &Batch) -> Vec<u8> {
    let ops = batch.encoded();
    [&(ops.len() as u32).to_le_bytes()[..], &xxh3_64(ops).to_le_bytes(), ops].concat()
}

fn take_record(rest: &mut &[u8]) -> Option<Batch> {
    let (header, after) = rest.split_at_checked(HEADER_BYTES)?;
    let length = u32::from_le_bytes(*header.first_chunk()?) as usize;
    let checksum = u64::from_le_bytes(*header.last_chunk()?);
    let (ops, after) = after.split_at_checked(length)?;
    if xxh3_64(ops) != checksum {
        return None;
    }
    *rest = after;
    Batch::from_encoded(ops)
}
