//! Which store this is, and which of its runs: what clients hold from it is proved by these.
//!
//! A store that is put back from a copy has not had the starts that came after the copy was made. A device names the
//! starts under which it stored what it has; if one of them is unknown, it has seen a future that this store has not had,
//! and its positions mean nothing.

use std::sync::Arc;

use bytes::Bytes;
use tern_storage::records::{STARTS_KEPT_MAX, StoreRecord};
use tern_wire::limits::NUMBERS_END;

/// Bytes of a store's id.
const STORE_ID_BYTES: usize = 16;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreIdentity {
    id: Bytes,
    generation: u64,
    /// All that the store remembers, sorted.
    known: Arc<[u64]>,
}

impl StoreIdentity {
    /// The identity in a store's record, and that of the run that its last start began; `None` if the record is not what was
    /// written.
    pub fn from_record(record: &StoreRecord) -> Option<Self> {
        let good = |generation: &u64| (1..NUMBERS_END).contains(generation);
        let generation = *record.generations.last()?;
        if record.id.len() != STORE_ID_BYTES || !record.generations.iter().all(good) {
            return None;
        }
        let mut known = record.generations.clone();
        known.sort_unstable();
        Some(Self { id: record.id.clone(), generation, known: known.into() })
    }

    /// A store's first record, of random bytes.
    pub fn new_store(random: [u8; 32]) -> StoreRecord {
        StoreRecord { id: Bytes::copy_from_slice(&random[..STORE_ID_BYTES]), generations: Vec::new() }
    }

    /// The record with one more start, of random bytes. A store that was put back forgets those before it, for it can't
    /// know which of them the clients saw go on.
    pub fn started(record: StoreRecord, restored: bool, random: [u8; 32]) -> StoreRecord {
        let mut generations = if restored { Vec::new() } else { record.generations };
        // Two numbers in a row are 0 once in 2^106 times; 1 stands in for it.
        let drawn = random
            .chunks_exact(8)
            .map(|bytes| u64::from_le_bytes(bytes.try_into().expect("chunks of eight bytes")) % NUMBERS_END);
        let mut drawn = drawn.filter(|number| *number != 0 && !generations.contains(number));
        let generation = drawn.next().unwrap_or(1);
        generations.push(generation);
        let forgotten = generations.len().saturating_sub(STARTS_KEPT_MAX);
        generations.drain(..forgotten);
        StoreRecord { generations, ..record }
    }

    /// Its id.
    pub fn id(&self) -> Bytes {
        self.id.clone()
    }

    /// The number of this run.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether the store has had all these runs.
    pub fn knows(&self, generations: &[u64]) -> bool {
        generations.iter().all(|generation| self.known.binary_search(generation).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(number: u8) -> [u8; 32] {
        [number; 32]
    }

    fn identity(record: &StoreRecord) -> StoreIdentity {
        StoreIdentity::from_record(record).expect("a good record")
    }

    #[test]
    fn a_copy_that_is_put_back_knows_no_start_that_came_after_it() {
        let copy = StoreIdentity::started(StoreIdentity::new_store(random(1)), false, random(2));
        let ran_on = StoreIdentity::started(copy.clone(), false, random(3));
        let put_back = StoreIdentity::started(copy.clone(), false, random(4));
        let [before, lost, now] = [&copy, &ran_on, &put_back].map(|record| identity(record).generation());
        let put_back = identity(&put_back);
        assert!(put_back.knows(&[before]) && put_back.knows(&[before, now]));
        assert!(!put_back.knows(&[lost]) && !put_back.knows(&[before, lost, now]));
        assert_eq!(put_back.id(), identity(&copy).id());
    }

    #[test]
    fn a_store_that_was_put_back_while_it_ran_knows_no_start_but_this_one() {
        let before = StoreIdentity::started(StoreIdentity::new_store(random(1)), false, random(2));
        let after = identity(&StoreIdentity::started(before.clone(), true, random(3)));
        assert!(!after.knows(&[identity(&before).generation()]));
        assert!(after.knows(&[after.generation()]));
    }

    #[test]
    fn so_many_starts_are_remembered() {
        let mut record = StoreIdentity::new_store(random(1));
        record.generations = (1..=STARTS_KEPT_MAX as u64).collect();
        let record = StoreIdentity::started(record, false, random(9));
        assert_eq!(record.generations.len(), STARTS_KEPT_MAX);
        let identity = identity(&record);
        assert!(!identity.knows(&[1]) && identity.knows(&[2]) && identity.knows(&[identity.generation()]));
    }

    #[test]
    fn a_record_that_was_not_written_so_is_refused() {
        let good = StoreIdentity::started(StoreIdentity::new_store(random(1)), false, random(2));
        assert!(StoreIdentity::from_record(&good).is_some());
        for bad in [
            StoreRecord { id: Bytes::new(), ..good.clone() },
            StoreRecord { generations: Vec::new(), ..good.clone() },
            StoreRecord { generations: vec![0], ..good.clone() },
            StoreRecord { generations: vec![NUMBERS_END], ..good },
        ] {
            assert_eq!(StoreIdentity::from_record(&bad), None);
        }
    }
}
