//! When a core accepts, and when it leaves that to others.

use std::io;
use std::sync::atomic::Ordering;

use super::super::io::Io;
use super::Worker;
use super::handshakes::HELLOS_MAX;
use crate::trouble;

impl Worker {
    pub(super) fn accept_ended(&mut self, error: &io::Error) {
        self.accepting = false;
        if self.accept_stopped {
            return;
        }
        self.accept_waits = true;
        self.io.metrics().accept_failures.add(1);
        let core = self.io.core.0;
        match trouble::of_accepting(error) {
            Some(advice) => tracing::warn!(core, %error, advice, "no connection can be accepted for now"),
            None => tracing::debug!(core, %error, "accepting ended"),
        }
    }

    /// Accepts, or leaves it to others, as there is room.
    pub(super) fn accept_or_not(&mut self) {
        let hellos_max = if self.accepting { HELLOS_MAX } else { HELLOS_MAX / 2 };
        let no_place = self.io.conns.len() + self.arriving.len() >= self.io.shared.accept_max;
        self.io.shared.full[usize::from(self.io.core.0)].store(no_place, Ordering::Release);
        // When no core has a place, newcomers are told so.
        let others_have = no_place && !self.io.shared.full.iter().all(|full| full.load(Ordering::Acquire));
        let full = others_have || self.hellos.len() >= hellos_max;
        if self.accepting && full && !self.accept_stopped {
            // What is accepted without room would be lost; other cores have some, perhaps.
            self.accept_stopped = true;
            self.io.ring.stop_accepting();
        } else if !self.accepting && !self.accept_waits && !full && self.draining.is_none() {
            (self.accepting, self.accept_stopped) = (true, false);
            let Io { ring, shared, .. } = &mut self.io;
            ring.accept(&shared.listener);
        }
    }
}
