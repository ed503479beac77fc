//! Bytes on their way, and what befalls them.

use std::sync::Arc;
use std::time::Duration;

use tern_client::Error;
use tern_client::machine::Input;
use tern_shard::slots::CoreId;

use super::link::{LinkId, Owner};
use super::{Event, World};
use crate::node::Comes;
use crate::trouble::Trouble;
use crate::work::Work;

impl World {
    pub(super) fn node_gets(&mut self, link: LinkId, what: Comes) {
        if let Some(core) = self.node.as_mut().and_then(|node| node.comes_on(link, what)) {
            self.wake(core);
        }
    }

    /// When what is sent now arrives; `None` if the connection is not there any more.
    pub(super) fn arrival(&mut self, link: LinkId, is_up: bool) -> Option<Duration> {
        let mut takes = Duration::from_micros(200 + self.network.below(20_000));
        if self.troubles.hits(Trouble::Delay) {
            self.fell_on(link, Trouble::Delay);
            takes += Duration::from_millis(self.troubles.below(Trouble::Delay, 3000));
        }
        let now = self.now;
        Some(self.links.get_mut(&link)?.arrival(is_up, now, takes))
    }

    /// A fault has fallen on a connection.
    fn fell_on(&mut self, link: LinkId, trouble: Trouble) {
        let under_way = match self.links.get(&link).map(|link| link.owner) {
            Some(Owner::Device { at, .. }) => self.devices[at].under_way(),
            Some(Owner::Stranger) => vec![Work::Stranger],
            None => Vec::new(),
        };
        self.tally.fell(trouble.name(), 1, &under_way);
    }

    /// What befalls a connection on which something is sent. Gives how much of it comes through.
    fn befalls(&mut self, id: LinkId, length: usize) -> usize {
        if length > 0 && self.troubles.hits(Trouble::Reset) {
            self.note(|| format!("{id:?} is reset"));
            self.fell_on(id, Trouble::Reset);
            let through = self.troubles.below(Trouble::Reset, length as u64 + 1) as usize;
            self.soon(30_000, Event::Broken(id));
            self.soon(30_000, Event::Ended(id));
            self.dies(id);
            return through;
        }
        if self.troubles.hits(Trouble::HalfOpen) {
            self.note(|| format!("{id:?} is half open"));
            self.fell_on(id, Trouble::HalfOpen);
            self.dies(id);
        }
        length
    }

    fn dies(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.is_dead = true;
        }
    }

    pub(super) fn sends_down(&mut self, id: LinkId, bytes: Vec<u8>) {
        let is_dead = self.links.get(&id).is_none_or(|link| link.is_dead);
        if is_dead {
            // The kernel takes it, and nobody gets it.
            return;
        }
        let mut rest = &bytes[..];
        loop {
            let part = if self.troubles.hits(Trouble::ShortSend) {
                self.fell_on(id, Trouble::ShortSend);
                self.troubles.below(Trouble::ShortSend, rest.len() as u64 + 1) as usize
            } else {
                rest.len()
            };
            let through = self.befalls(id, part);
            if let Some(arrival) = self.arrival(id, false) {
                self.at(arrival, Event::Down(id, rest[..through].to_vec()));
            }
            rest = &rest[part..];
            if rest.is_empty() || through < part {
                return;
            }
        }
    }

    pub(super) fn sends_up(&mut self, link: LinkId, bytes: &[u8]) {
        let is_dead = self.links.get(&link).is_none_or(|link| link.is_dead);
        if is_dead {
            return;
        }
        let through = self.befalls(link, bytes.len());
        if let Some(arrival) = self.arrival(link, true) {
            self.at(arrival, Event::Up(link, bytes[..through].to_vec()));
        }
    }

    pub(super) fn arrives_down(&mut self, id: LinkId, bytes: Vec<u8>) -> Result<(), String> {
        let Some(link) = self.links.get_mut(&id).filter(|link| !link.is_left) else { return Ok(()) };
        let Owner::Device { at, run, number } = link.owner else { return self.stranger_gets(id, &bytes) };
        if self.devices[at].run != run {
            return Ok(());
        }
        let reads_from = self.devices[at].reads_from;
        if reads_from > self.now || !link.held.is_empty() {
            link.held.push_back(bytes);
            if link.held.len() == 1 {
                self.at(reads_from, Event::Reads(id));
            }
            return Ok(());
        }
        self.is_read(id, at, number, bytes)
    }

    /// A device reads what has come meanwhile, unless it is still slow.
    pub(super) fn reads(&mut self, id: LinkId) -> Result<(), String> {
        let Some(link) = self.links.get_mut(&id) else { return Ok(()) };
        let Owner::Device { at, run, number } = link.owner else { return Ok(()) };
        let reads_from = self.devices[at].reads_from;
        if reads_from > self.now {
            self.at(reads_from, Event::Reads(id));
            return Ok(());
        }
        for bytes in std::mem::take(&mut link.held) {
            if self.devices[at].run == run && self.devices[at].link == Some(id) {
                self.is_read(id, at, number, bytes)?;
            }
        }
        Ok(())
    }

    fn is_read(&mut self, id: LinkId, at: usize, number: u64, bytes: Vec<u8>) -> Result<(), String> {
        self.node_gets(id, Comes::Left(id, bytes.len()));
        if bytes.is_empty() { Ok(()) } else { self.device(at, Input::Received(number, bytes)) }
    }

    pub(super) fn arrives_up(&mut self, id: LinkId, bytes: Vec<u8>) {
        self.node_gets(id, Comes::Bytes(id, bytes));
    }

    pub(super) fn stands(&mut self, id: LinkId) -> Result<(), String> {
        let Some(link) = self.links.get(&id).filter(|link| !link.is_left && !link.is_dead) else {
            return Ok(());
        };
        let owner = link.owner;
        if let Owner::Device { at, run, .. } = owner
            && self.devices[at].run != run
        {
            return Ok(());
        }
        let Some(node) = &mut self.node else { return self.broken(id) };
        let core = CoreId(self.network.below(u64::from(node.cores())) as u16);
        node.comes(core, Comes::Opened(id, owner != Owner::Stranger));
        self.wake(core);
        match owner {
            Owner::Device { at, number, .. } => self.device(at, Input::Connected(number)),
            Owner::Stranger => {
                self.stranger_begins(id);
                Ok(())
            }
        }
    }

    /// The other end hears that its connection is no more.
    pub(super) fn broken(&mut self, id: LinkId) -> Result<(), String> {
        let Some(link) = self.links.remove(&id) else { return Ok(()) };
        self.node_gets(id, Comes::Gone(id));
        let Owner::Device { at, run, number } = link.owner else {
            self.strangers.remove(&id);
            return Ok(());
        };
        let device = &mut self.devices[at];
        if device.run != run || link.is_left {
            return Ok(());
        }
        device.link = None;
        let error = Error::Connection(Arc::new(std::io::ErrorKind::ConnectionReset.into()));
        self.device(at, Input::Lost(number, error))
    }

    /// Somebody ends a connection: the node hears so, unless it is dead.
    pub(super) fn is_left(&mut self, id: LinkId) {
        let arrival = self.arrival(id, true);
        if let Some(link) = self.links.get_mut(&id) {
            link.is_left = true;
            if !link.is_dead
                && let Some(arrival) = arrival
            {
                self.at(arrival, Event::Ended(id));
            }
        }
    }
}
