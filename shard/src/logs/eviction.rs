//! Which logs leave the memory.

use tern_storage::LogId;

use super::{Cx, Logs};
use crate::held::Load;
use crate::mutations::{Mutation, is};

impl Logs {
    /// A log has come into memory.
    pub(super) fn remember_to_evict(&mut self, id: LogId, born: Load) {
        // Logs that can't be read come and go.
        if self.clock.len() > 2 * self.logs.len() + 64 {
            let logs = &self.logs;
            self.clock.retain(|(id, born)| logs.get(id).is_some_and(|log| log.born == *born));
        }
        self.clock.push_back((id, born));
    }

    /// Lets logs leave that nothing waits for: those that do not exist at once, for they were only asked about.
    pub(super) fn evict(&mut self, cx: &mut Cx) {
        for id in std::mem::take(&mut self.empty) {
            let Some(log) = self.logs.get(&id).filter(|log| !log.exists) else { continue };
            if log.is_idle() && !log.in_quiet && cx.is_here(log.slot) {
                self.forget(cx, id);
            } else {
                self.empty.push(id);
            }
        }
        for _ in 0..self.logs.len().saturating_sub(cx.limits().logs_cached_max) {
            let Some((id, born)) = self.clock.pop_front() else { return };
            let Some(log) = self.logs.get_mut(&id).filter(|log| log.born == born) else { continue };
            let is_idle = log.is_idle() || is(Mutation::ForgetBesideWrites);
            // If its slot is about to be handed over, what it said now might not be flushed.
            let is_here = cx.is_here(log.slot) || is(Mutation::ForgetAtMove);
            let is_used = std::mem::take(&mut log.used) || log.in_quiet || log.is_gathering();
            if is_used || !is_idle || !is_here {
                self.clock.push_back((id, born));
            } else {
                self.forget(cx, id);
            }
        }
    }
}
