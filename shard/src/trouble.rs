//! What operators are told of a store that refuses or gives what was never written: once when it begins and once when it
//! ends, and of each damaged log once. A disk that fills up under load fails thousands of batches a second.

use std::collections::BTreeSet;

use tern_storage::{LogId, Slot, StoreError};

use crate::Cx;
use crate::limits::{DAMAGE_QUIET_MS, DAMAGE_TOLD_MAX};

/// See the module.
#[derive(Debug, Default)]
pub struct Trouble {
    /// Batches that failed since one last went well.
    failed: u64,
    /// Until when failing reads are not told of.
    quiet_until_ms: u64,
    damaged: BTreeSet<LogId>,
}

impl Trouble {
    /// A batch failed.
    pub fn commit_failed(&mut self, cx: &mut Cx, error: &StoreError) {
        self.failed += 1;
        // After a failure of the medium the node stops: that is always said.
        if self.failed == 1 || matches!(error, StoreError::Failed { .. }) {
            cx.fx.store_trouble(error);
        }
    }

    /// A batch went well.
    pub fn committed(&mut self, cx: &mut Cx) {
        if self.failed > 0 {
            cx.fx.store_recovered(std::mem::take(&mut self.failed));
        }
    }

    /// A read failed.
    pub fn read_failed(&mut self, cx: &mut Cx, error: &StoreError) {
        if matches!(error, StoreError::Failed { .. }) {
            cx.fx.store_trouble(error);
        } else if cx.now_ms >= self.quiet_until_ms || self.quiet_until_ms - cx.now_ms > DAMAGE_QUIET_MS {
            self.quiet_until_ms = cx.now_ms + DAMAGE_QUIET_MS;
            cx.fx.store_trouble(error);
        }
    }

    /// What the store gave of a log is not what was written.
    pub fn damaged(&mut self, cx: &mut Cx, log: LogId) {
        let error = StoreError::Corrupt { place: format!("a log in slot {}", Slot::of_log(log).number()) };
        if self.damaged.contains(&log) {
            return;
        }
        if self.damaged.len() < DAMAGE_TOLD_MAX {
            self.damaged.insert(log);
            cx.fx.store_trouble(&error);
        } else {
            self.read_failed(cx, &error);
        }
    }
}
