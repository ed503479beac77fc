//! Strangers: those who keep to no protocol.

use std::time::Duration;

use super::link::{LinkId, Owner};
use super::{Event, World};
use crate::node::Comes;
use crate::stranger::Stranger;
use crate::work::Work;

/// Strangers that are there at a time.
const STRANGERS_MAX: usize = 6;

impl World {
    /// Somebody connects who keeps to no protocol.
    pub(super) fn stranger_comes(&mut self) {
        if self.strangers.len() < STRANGERS_MAX {
            let stranger = Stranger::new(&self.strangers_token, &mut self.life);
            let id = self.make_link(Owner::Stranger);
            self.strangers.insert(id, stranger);
            self.tally.begun(Work::Stranger);
        }
    }

    pub(super) fn stranger_begins(&mut self, id: LinkId) {
        let stranger = self.strangers.get_mut(&id).expect("its connection was not there before it stood");
        let bytes = stranger.begins();
        self.sends_up(id, &bytes);
        self.stranger_later(id);
    }

    fn stranger_later(&mut self, id: LinkId) {
        let wait = Duration::from_millis(1 + self.network.below(1000));
        self.at(self.now + wait, Event::Stranger(id));
    }

    /// It sends something more, or goes.
    pub(super) fn stranger_goes_on(&mut self, id: LinkId) {
        let Some(stranger) = self.strangers.get_mut(&id) else { return };
        let bytes = stranger.next();
        if self.is_over || self.network.below(10) == 0 {
            self.strangers.remove(&id);
            self.tally.done(Work::Stranger);
            return self.is_left(id);
        }
        self.sends_up(id, &bytes);
        self.stranger_later(id);
    }

    pub(super) fn stranger_gets(&mut self, id: LinkId, bytes: &[u8]) -> Result<(), String> {
        let Some(stranger) = self.strangers.get_mut(&id).filter(|stranger| stranger.reads) else {
            return Ok(());
        };
        stranger.received(bytes)?;
        self.node_gets(id, Comes::Left(id, bytes.len()));
        Ok(())
    }
}
