//! What operators are told of a store that refuses or gives what was never written: once when it begins and once when it
//! ends, and of each damaged record once. A disk that fills up under load fails thousands of batches a second. Likewise of owners
//! that do not answer.

use std::collections::BTreeSet;

use tern_storage::{Key, StoreError};

use crate::limits::{DAMAGE_QUIET_MS, DAMAGE_TOLD_MAX, UNANSWERED_QUIET_MS};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    /// Batches that failed since one last went well.
    failed: u64,
    /// Until when failing reads are not told of.
    quiet_until_ms: u64,
    damaged: BTreeSet<Key>,
    /// Since when owners do not answer, as far as was told.
    unanswered_ms: Option<u64>,
}

impl Trouble {
    /// A batch failed. Whether that is to be told.
    pub(crate) fn commit_failed(&mut self, error: &StoreError) -> bool {
        self.failed += 1;
        // After a failure of the medium the node stops: that is always said.
        self.failed == 1 || matches!(error, StoreError::Failed { .. })
    }

    /// A batch went well. If that is to be told: how many had failed.
    pub(crate) fn committed(&mut self) -> Option<u64> {
        (self.failed > 0).then(|| std::mem::take(&mut self.failed))
    }

    /// A read failed. Whether that is to be told.
    pub(crate) fn read_failed(&mut self, now_ms: u64, error: &StoreError) -> bool {
        let is_over = now_ms >= self.quiet_until_ms || self.quiet_until_ms - now_ms > DAMAGE_QUIET_MS;
        if matches!(error, StoreError::Failed { .. }) {
            return true;
        }
        if is_over {
            self.quiet_until_ms = now_ms + DAMAGE_QUIET_MS;
        }
        is_over
    }

    /// An owner has not answered in time. Whether that is to be told.
    pub(crate) fn unanswered(&mut self, now_ms: u64) -> bool {
        let is_told =
            self.unanswered_ms.is_none_or(|told_ms| now_ms.abs_diff(told_ms) >= UNANSWERED_QUIET_MS);
        if is_told {
            self.unanswered_ms = Some(now_ms);
        }
        is_told
    }

    /// What the store gave of a record is not what was written. If that is to be told: in which words.
    pub(crate) fn damaged(&mut self, now_ms: u64, what: &str, key: &Key) -> Option<StoreError> {
        let slot = key.slot().map_or_else(String::new, |slot| format!(" in slot {}", slot.number()));
        let error = StoreError::Corrupt { place: format!("{what}{slot}") };
        if self.damaged.contains(key) {
            return None;
        }
        let is_told = if self.damaged.len() < DAMAGE_TOLD_MAX {
            self.damaged.insert(key.clone())
        } else {
            self.read_failed(now_ms, &error)
        };
        is_told.then_some(error)
    }
}
