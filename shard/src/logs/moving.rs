//! Logs on their way to another core.

use tern_storage::{LogId, Slot};

use super::{Cx, Log, Logs};

/// The logs of a slot.
#[derive(Debug)]
pub(crate) struct Taken(Slot, Vec<(LogId, Box<Log>)>);

impl Logs {
    /// Whether nothing of a slot is under way.
    pub(crate) fn is_still(&self, slot: Slot) -> bool {
        self.logs.all_of(slot, |log| log.is_idle())
    }

    /// Lets go of a slot, which is still.
    pub(crate) fn let_go(&mut self, slot: Slot) -> Taken {
        self.agenda.forget(slot);
        self.dispatching.forget(slot);
        Taken(slot, self.logs.take(slot))
    }

    /// Takes up a slot that another core has let go.
    pub(crate) fn take_up(&mut self, cx: &mut Cx, Taken(slot, logs): Taken) {
        self.agenda.note(slot, cx.now_ms);
        for (id, mut log) in logs {
            log.index.moved();
            self.remember_to_evict(id, log.born);
            if log.in_quiet {
                self.quiet.insert((cx.now_ms + log.quiet_ms(cx.limits().mark_quiet_ms), id));
            }
            if log.is_gathering() {
                self.gathering.push((cx.now_ms, id));
            }
            if !log.exists {
                self.empty.push(id);
            }
            self.logs.insert(id, log);
        }
    }
}
