//! What nobody waits for, or what something will follow at once: it is queued to a connection, and leaves with the next frame that
//! somebody waits for, or a little later. So a receipt costs no send of its own in a chat that goes on, nor does each answer of a login.

use std::time::Duration;

use tern_shard::reply::ConnId;

use super::super::life::Moment;
use super::Io;

impl Io {
    /// All that is queued to a connection may wait, from now on.
    pub(super) fn wait_lazily(&mut self, id: ConnId) {
        self.lazy.push_back((self.now.after(self.shared.lazy_for), id));
    }

    /// How long until something that waits has waited enough, if anything does.
    pub(in crate::core) fn lazy_until(&self, now: Moment) -> Option<Duration> {
        self.lazy.front().map(|(due, _)| now.until(*due))
    }

    /// Has what has waited enough leave at the end of this turn, and with it what soon will have: one turn for many.
    pub(in crate::core) fn end_waits(&mut self) {
        if self.lazy.front().is_none_or(|(due, _)| !self.now.has_reached(*due)) {
            return;
        }
        let soon = self.now.after(self.shared.lazy_for / 2);
        while let Some((_, id)) = self.lazy.pop_front_if(|(due, _)| soon.has_reached(*due)) {
            // Some have left with another frame, or have gone.
            if let Some(queue) = self.conns.get(id).and_then(|conn| conn.queue.as_deref_mut())
                && std::mem::take(&mut queue.lazy)
            {
                self.dirty.push(id);
            }
        }
    }
}
