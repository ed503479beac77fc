//! Devices: what comes to them, and what they want done.

use std::time::Duration;

use tern_client::machine::{Action, Input};

use super::link::{Link, LinkId, Owner};
use super::{Event, World};
use crate::trouble::Trouble;
use crate::work::Work;

impl World {
    pub(super) fn device(&mut self, at: usize, input: Input) -> Result<(), String> {
        self.note(|| format!("device {at} takes {input:?}"));
        let actions = self.devices[at].turn(self.now, input, &mut self.record, &mut self.tally)?;
        self.acts(at, actions);
        Ok(())
    }

    /// A code comes to all devices of a phone.
    pub(super) fn code_comes(&mut self, phone: &str, code: &str) {
        for at in 0..self.devices.len() {
            if self.devices[at].phone == phone {
                self.note(|| format!("device {at} is sent a code"));
                let actions = self.devices[at].code_came(code, self.now, &mut self.record);
                self.acts(at, actions);
            }
        }
    }

    /// Does what a device wants done.
    fn acts(&mut self, at: usize, actions: Vec<Action>) {
        for action in actions {
            self.note(|| format!("device {at} wants {action:?}"));
            match action {
                Action::Connect(number) => self.connect(at, number),
                Action::Send(_, bytes) => {
                    if let Some(link) = self.devices[at].link {
                        self.sends_up(link, &bytes);
                        self.may_die_while_it_logs_in(at);
                    }
                }
                Action::Close { .. } => self.leave(at),
                Action::Tell { .. } | Action::Status(_) | Action::Answer(..) | Action::Over => {}
            }
        }
        let device = &mut self.devices[at];
        let (run, clock) = (device.run, device.clock);
        let when = device.wake_at().map(|monotonic| clock.moment(monotonic).max(self.now));
        if let Some(when) = when.filter(|when| Some(*when) != device.wakes_at) {
            device.wakes_at = Some(when);
            self.at(when, Event::Wake(at, run));
        }
    }

    /// While it logs in is when its death is worst.
    fn may_die_while_it_logs_in(&mut self, at: usize) {
        let under_way = self.devices[at].under_way();
        if under_way.contains(&Work::Login) && self.troubles.hits(Trouble::DeviceCrash) {
            self.tally.fell(Trouble::DeviceCrash.name(), 1, &under_way);
            let run = self.devices[at].run;
            self.soon(10_000, Event::Crash(at, run));
        }
    }

    /// A device has just started.
    pub(super) fn wake_device(&mut self, at: usize, us_max: u64) {
        let when = self.now + Duration::from_micros(1 + self.life.below(us_max));
        let device = &mut self.devices[at];
        device.wakes_at = Some(when);
        let run = device.run;
        self.at(when, Event::Wake(at, run));
    }

    fn connect(&mut self, at: usize, number: u64) {
        self.leave(at);
        let owner = Owner::Device { at, run: self.devices[at].run, number };
        let id = self.make_link(owner);
        self.devices[at].link = Some(id);
    }

    /// A connection that stands after a while.
    pub(super) fn make_link(&mut self, owner: Owner) -> LinkId {
        self.links_made += 1;
        let id = LinkId(self.links_made);
        self.links.insert(id, Link::new(owner, self.now));
        if let Some(arrival) = self.arrival(id, true) {
            self.at(arrival, Event::Stands(id));
        }
        id
    }

    /// A device ends its connection.
    pub(super) fn leave(&mut self, at: usize) {
        if let Some(id) = self.devices[at].link.take() {
            self.is_left(id);
        }
    }
}
