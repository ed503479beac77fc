//! Those who have not logged in: who is let in, and who has asked for too much.

use std::net::{IpAddr, Ipv6Addr};

use tern_shard::reply::ConnId;

use super::super::life::Event;
use super::super::strangers::{Crowded, STRANGER_FRAMES_AT_ONCE, STRANGER_FRAMES_MAX, Stranger};
use super::Io;

impl Io {
    /// Whether there is a place for a newcomer; then it has it.
    pub(in crate::core) fn admit(
        &mut self,
        id: ConnId,
        address: [u8; 16],
        proxied: bool,
        has_network: bool,
    ) -> bool {
        let enter = |io: &Self| io.shared.strangers.enter(address, proxied, has_network);
        let entered = match enter(self) {
            Err(Crowded::Node) if self.make_room() => enter(self),
            entered => entered,
        };
        match entered {
            Ok(stranger) => self.take_over(id, stranger),
            Err(_) => {
                self.metrics().strangers_refused.add(1);
                return false;
            }
        }
        true
    }

    /// A stranger has come, with its place.
    pub(in crate::core) fn take_over(&mut self, id: ConnId, stranger: Stranger) {
        self.strangers.insert(id, stranger);
        self.strangers_in_order.push_back(id);
    }

    /// Shows the oldest stranger of this core out, if it has had its time.
    fn make_room(&mut self) -> bool {
        while let Some(oldest) = self.strangers_in_order.front().copied() {
            match self.strangers.get(&oldest) {
                Some(stranger) if !stranger.may_go() => return false,
                Some(_) => {
                    self.strangers_in_order.pop_front();
                    self.is_no_stranger(oldest);
                    self.metrics().strangers_shown_out.add(1);
                    self.on(oldest, Event::Abort);
                    return true;
                }
                None => drop(self.strangers_in_order.pop_front()),
            }
        }
        false
    }

    /// Whether all that a connection sends waits for its turn: it is a stranger who has asked for more than others do.
    pub(in crate::core) fn waits_its_turn(&mut self, id: ConnId) -> bool {
        self.conns.get(id).is_some_and(|conn| conn.stranger && conn.life.is_open())
            && self.strangers.get(&id).is_some_and(|stranger| stranger.frames >= STRANGER_FRAMES_AT_ONCE)
    }

    /// Counts a frame of a stranger. Whether it has asked for too much.
    pub(in crate::core) fn asks_too_much(&mut self, id: ConnId) -> bool {
        let Some(stranger) = self.strangers.get_mut(&id) else { return false };
        stranger.frames += 1;
        stranger.frames > STRANGER_FRAMES_MAX
    }

    /// A stranger's place is free again.
    pub(in crate::core) fn is_no_stranger(&mut self, id: ConnId) -> Option<Stranger> {
        let stranger = self.strangers.remove(&id)?;
        self.shared.strangers.leave(&stranger);
        Some(stranger)
    }

    /// Where the other end of a connection is, for the log.
    pub(in crate::core) fn peer(&self, id: ConnId) -> Option<IpAddr> {
        self.strangers.get(&id).map(|stranger| Ipv6Addr::from(stranger.address).to_canonical())
    }

    pub(super) fn tidy_strangers(&mut self) {
        while self.strangers_in_order.front().is_some_and(|oldest| !self.strangers.contains_key(oldest)) {
            self.strangers_in_order.pop_front();
        }
        if self.strangers.capacity() > 64 && self.strangers.len() * 8 < self.strangers.capacity() {
            self.strangers.shrink_to_fit();
            self.strangers_in_order.retain(|id| self.strangers.contains_key(id));
            self.strangers_in_order.shrink_to_fit();
        }
    }
}
