//! Connections that are silent: they let go of their expanded keys, and are watched in place of being received from.

use tern_shard::reply::ConnId;

use super::super::conn::Tls;
use super::super::life::Event;
use super::Io;

/// Connections of a core with expanded keys: over 1 KB each. Beyond, those that were silent for the longest let go first, and
/// make them again when they need them (some 2 us).
const AWAKE_MAX: usize = 1024;

/// Connections of a core that are received from although they were silent, while many newcomers come: beyond, the rest are watched
/// all the same. To be received from takes the kernel some hundred bytes more than to be watched.
const DROWSY_MAX: usize = 8192;

impl Io {
    /// Something has come or gone: the connection's keys are expanded, and stay so for a while.
    pub(in crate::core) fn touch(&mut self, id: ConnId) {
        // A handshake is about to be over, and has no keys of its own yet.
        let Some(conn) = self.conns.get(id).filter(|conn| !conn.life.is_shaking()) else { return };
        conn.rest.active = true;
        if !std::mem::replace(&mut conn.rest.awake, true) {
            self.awake.push_back(id);
            if self.awake.len() > AWAKE_MAX {
                self.look_at_oldest();
            }
        }
    }

    /// Has connections that were silent since the last time let go of what can be made again. In ten calls each is seen
    /// once. To watch one in place of receiving from it takes some 5 us, most of them to find its receive among thousands: while
    /// `many_come` that waits.
    pub(in crate::core) fn hibernate_some(&mut self, many_come: bool) {
        for _ in 0..self.awake.len().div_ceil(10) {
            self.look_at_oldest();
        }
        let looked_at = if many_come {
            self.drowsy.len().saturating_sub(DROWSY_MAX)
        } else {
            self.drowsy.len().div_ceil(10)
        };
        for _ in 0..looked_at {
            let Some(id) = self.drowsy.pop_front() else { return };
            let Some(conn) = self.conns.get(id) else { continue };
            if std::mem::take(&mut conn.rest.active) {
                self.drowsy.push_back(id);
            } else {
                conn.rest.drowsy = false;
                self.on(id, Event::Silent);
            }
        }
    }

    fn look_at_oldest(&mut self) {
        let Some(id) = self.awake.pop_front() else { return };
        let full = self.awake.len() >= AWAKE_MAX;
        let Some(conn) = self.conns.get(id) else { return };
        let active = std::mem::take(&mut conn.rest.active);
        if active && !full {
            return self.awake.push_back(id);
        }
        conn.rest.awake = false;
        if let Tls::Open(records) = &mut conn.tls {
            records.hibernate();
        }
        if !active {
            self.on(id, Event::Silent);
        } else if !std::mem::replace(&mut conn.rest.drowsy, true) {
            self.drowsy.push_back(id);
        }
    }
}
