//! What goes wrong ten times a second, or could.

use std::time::Duration;

use tern_shard::slots::{CoreId, SlotTable};
use tern_storage::{LogId, Slot};

use super::{Event, World};
use crate::node::{Comes, Node};
use crate::trouble::Trouble;

impl World {
    pub(super) fn tenth(&mut self) {
        if self.is_over {
            return;
        }
        self.at(self.now + Node::TICK, Event::Tenth);
        self.faults_of_node();
        let at = self.life.below(self.devices.len() as u64) as usize;
        self.faults_of_device(at);
    }

    /// Whether a fault falls on the whole node now.
    fn falls(&mut self, trouble: Trouble) -> bool {
        let falls = self.troubles.hits(trouble);
        if falls {
            let under_way = self.under_way();
            self.tally.fell(trouble.name(), 1, &under_way);
        }
        falls
    }

    fn faults_of_node(&mut self) {
        if self.node.is_some() {
            if self.falls(Trouble::Kill) {
                self.die(false);
            } else if self.falls(Trouble::PowerCut) {
                let writes = self.troubles.below(Trouble::PowerCut, 20);
                if !self.ground.cut_after(writes) {
                    self.die(true);
                }
            }
        }
        if self.falls(Trouble::Move) {
            self.move_slot();
        }
        if self.falls(Trouble::Pause) {
            let pause = Duration::from_millis(self.troubles.below(Trouble::Pause, 2000));
            self.pause(pause);
        }
        if self.falls(Trouble::ClockJump) {
            let by_ms = self.jump(Trouble::ClockJump);
            self.note(|| format!("the node's clock jumps by {by_ms} ms"));
            self.wall.jump(by_ms);
        }
        if self.falls(Trouble::Busy) {
            self.busy();
        }
        for trouble in [Trouble::NoBuffers, Trouble::SendFull, Trouble::Crowded] {
            if self.falls(trouble) {
                self.exhaust(trouble);
            }
        }
    }

    /// By how much a clock jumps: seconds, minutes or hours, forwards or back.
    fn jump(&mut self, trouble: Trouble) -> i64 {
        let most_ms = [2_000, 60_000, 600_000, 7_200_000][self.troubles.below(trouble, 4) as usize];
        let by_ms = self.troubles.below(trouble, most_ms) as i64;
        if self.troubles.below(trouble, 2) == 0 { by_ms } else { -by_ms }
    }

    /// A core has run out of something for a while.
    fn exhaust(&mut self, trouble: Trouble) {
        let until = self.now + Duration::from_millis(1 + self.troubles.below(trouble, 2000));
        let Some(node) = &mut self.node else { return };
        let core = CoreId(self.troubles.below(trouble, u64::from(node.cores())) as u16);
        match trouble {
            Trouble::NoBuffers => node.starve(core, until),
            Trouble::SendFull => node.mute(core, until),
            _ => node.crowd(core, until),
        }
        self.note(|| format!("{core:?} has run out: {}", trouble.name()));
        // Whatever else wakes it before, it must be woken then.
        self.at(until, Event::Turn(self.process, core));
    }

    fn faults_of_device(&mut self, at: usize) {
        let under_way = self.devices[at].under_way();
        let mut falls = |trouble: Trouble| {
            let falls = self.troubles.hits(trouble);
            if falls {
                self.tally.fell(trouble.name(), 1, &under_way);
            }
            falls
        };
        let (slow, disk) = (falls(Trouble::SlowReader), falls(Trouble::DeviceDisk));
        let (clock, crash) = (falls(Trouble::DeviceClock), falls(Trouble::DeviceCrash));
        if slow {
            let slow = Duration::from_millis(self.troubles.below(Trouble::SlowReader, 5000));
            self.devices[at].reads_from = self.now + slow;
        }
        if clock {
            let by_ms = self.jump(Trouble::DeviceClock);
            self.devices[at].clock.wall.jump(by_ms);
        }
        let fails_after = disk.then(|| self.troubles.below(Trouble::DeviceDisk, 5) as u32);
        if let Some(machine) = self.devices[at].machine() {
            machine.tables().fail_after(fails_after);
        }
        if crash {
            self.crash(at);
        }
    }

    /// A device's process dies. What it has sent may still be on its way, for longer than the next process needs to be there.
    pub(super) fn crash(&mut self, at: usize) {
        if let Some(id) = self.devices[at].link {
            let late = Duration::from_millis(self.troubles.below(Trouble::DeviceCrash, 3000));
            let of_link = |event: &Event| matches!(event, Event::Up(link, _) if *link == id);
            let sent: Vec<_> = self.queue.extract_if(.., |_, event| of_link(event)).collect();
            for ((when, number), event) in sent {
                self.queue.insert((when + late, number), event);
            }
            if let Some(link) = self.links.get_mut(&id) {
                link.up += late;
            }
        }
        self.leave(at);
        self.devices[at].crash(self.now);
        self.note(|| format!("device {at} starts anew"));
        self.wake_device(at, 500_000);
    }

    /// A slot of somebody, or of a chat, becomes another core's.
    fn move_slot(&mut self) {
        let mut user = || self.devices[self.chance.below(self.devices.len() as u64) as usize].user;
        let (one, other) = (user(), user());
        let groups = &self.record.groups;
        let slot = match self.chance.below(5) {
            0 if !groups.is_empty() => {
                let group = groups[self.chance.below(groups.len() as u64) as usize];
                Slot::of_log(LogId::Group(group))
            }
            0..3 => Slot::of_log(LogId::direct(one, other)),
            _ => Slot::of_user(one),
        };
        let Some(node) = self.node.as_mut() else { return };
        let cores = node.cores();
        let to = CoreId(self.chance.below(u64::from(cores)) as u16);
        let Some(table) = node.moves(slot, to) else { return };
        for core in (0..cores).map(CoreId) {
            // One that has much to do looks late.
            let late = [0, 0, 500, 20_000][self.chance.below(4) as usize];
            let when = self.now + Duration::from_micros(self.chance.below(late + 1));
            self.at(when, Event::Table(self.process, core, table.clone()));
        }
        if self.chance.below(2) == 0 {
            self.busy();
        }
        // Whatever step it has come to by then.
        if self.troubles.below(Trouble::Move, 40) == 0 {
            self.tally.fell(Trouble::Kill.name(), 1, &self.under_way());
            let when = self.now + Duration::from_micros(self.troubles.below(Trouble::Move, 30_000));
            self.at(when, Event::Kill(self.process));
        }
    }

    /// Some cores have a long turn.
    fn busy(&mut self) {
        let Some(cores) = self.node.as_ref().map(Node::cores) else { return };
        for core in (0..cores).map(CoreId) {
            if self.troubles.below(Trouble::Busy, 2) == 0 {
                let for_us = [500, 20_000][self.troubles.below(Trouble::Busy, 2) as usize];
                let until = self.now + Duration::from_micros(self.troubles.below(Trouble::Busy, for_us));
                self.keep_busy(core, until);
            }
        }
    }

    /// A core hears of a move, if the process lives that has begun it.
    pub(super) fn table_comes(&mut self, process: u64, core: CoreId, table: SlotTable) {
        if let Some(node) = self.node.as_mut().filter(|_| process == self.process) {
            node.comes(core, Comes::Table(table));
            self.wake(core);
        }
    }

    /// The node stands still: what was to happen in it happens later.
    fn pause(&mut self, pause: Duration) {
        let of_node = |event: &Event| {
            matches!(event, Event::Turn(..) | Event::Store(..) | Event::Tick(_) | Event::Table(..))
        };
        let late: Vec<_> = self.queue.extract_if(.., |_, event| of_node(event)).collect();
        for ((when, number), event) in late {
            self.queue.insert((when.max(self.now + pause), number), event);
        }
    }
}
