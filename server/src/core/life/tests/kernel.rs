//! What the kernel holds of a connection, and whether an action may be done to that.

use std::time::Duration;

use super::super::{Action, Actions, FLUSH_TIMEOUT, LINGER};
use super::world::{BrainKnows, World, Wrong};

/// What the kernel holds to receive with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Receiving {
    Not,
    Receive,
    Watch,
}

/// What the kernel holds of a descriptor.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Kernel {
    pub(super) receiving: Receiving,
    /// A cancel of that is under way.
    pub(super) cancel: bool,
    /// A send, and with it its buffer.
    pub(super) send: bool,
    pub(super) shut_half: bool,
    pub(super) shut_both: bool,
    pub(super) ask: bool,
    pub(super) give: bool,
    /// Both halves are shut down.
    pub(super) dead: bool,
    /// The peer's end has been received.
    pub(super) end_received: bool,
    pub(super) closed: bool,
}

impl World {
    pub(super) fn act(&mut self, actions: Actions) -> Result<(), Wrong> {
        for action in actions {
            self.act_one(action)?;
        }
        Ok(())
    }

    pub(super) fn act_one(&mut self, action: Action) -> Result<(), Wrong> {
        match action {
            Action::Arm => self.arm(Receiving::Receive),
            Action::Watch => self.arm(Receiving::Watch),
            Action::Stop => match self.kernel.receiving {
                Receiving::Not => Err("what is not under way is cancelled".to_owned()),
                Receiving::Receive | Receiving::Watch => {
                    self.kernel.cancel = true;
                    Ok(())
                }
            },
            Action::SendRest => self.submit(),
            Action::ShutHalf => once(&mut self.kernel.shut_half, "two shutdowns of a half are under way"),
            Action::ShutBoth => {
                once(&mut self.kernel.shut_both, "two shutdowns of both halves are under way")
            }
            Action::Give => {
                self.is_still("given away")?;
                once(&mut self.kernel.give, "a connection is given away twice")
            }
            Action::StayHere => match self.brain {
                // If it was told of the peer's end, it is told again.
                BrainKnows::SentAway => {
                    (self.brain, self.stayed, self.tell_finished) = (BrainKnows::Open, true, false);
                    Ok(())
                }
                other => Err(format!("what stays is told to a brain that has it as {other:?}")),
            },
            Action::HandOver => {
                (self.unread, self.queued) = (0, false);
                self.is_still("handed over")
            }
            Action::Close => self.close(),
            Action::Release => self.release(),
            Action::TellFinished => match self.unread {
                0 => once(&mut self.tell_finished, "the brain is told of the peer's end twice"),
                _ => Err("the brain is told of the peer's end before what came earlier".to_owned()),
            },
            Action::TellDrained if self.queued => Err("the brain hears that nothing is queued".to_owned()),
            Action::TellDrained => Ok(()),
            Action::TellClosed => {
                let knows =
                    matches!(self.brain, BrainKnows::Open | BrainKnows::Finished | BrainKnows::Closing);
                if !knows {
                    return Err(format!("the brain is told of an end, and has it as {:?}", self.brain));
                }
                once(&mut self.tell_closed, "the brain is told of the end twice")
            }
            Action::List => once(&mut self.dirty, "it is twice among those with something to send"),
            Action::Flush => self.flush(),
            Action::WaitFlush => self.wait(FLUSH_TIMEOUT),
            Action::WaitLinger => self.wait(LINGER),
            Action::Starve => once(&mut self.starved, "it is twice among those without a buffer"),
            // One that was to move, and stays, may be there from before: then its turn comes once more, for nothing.
            Action::Queue => {
                self.in_queue = true;
                Ok(())
            }
            Action::Resume => {
                self.resumable = true;
                Ok(())
            }
        }
    }

    pub(super) fn arm(&mut self, what: Receiving) -> Result<(), Wrong> {
        if self.kernel.receiving != Receiving::Not {
            return Err(format!("{what:?} is armed while {:?} is", self.kernel.receiving));
        }
        self.kernel.receiving = what;
        Ok(())
    }

    pub(super) fn wait(&mut self, time: Duration) -> Result<(), Wrong> {
        let until = self.now.after(time);
        let later = self.deadlines.iter().position(|other| !until.has_reached(*other));
        self.deadlines.insert(later.unwrap_or(self.deadlines.len()), until);
        Ok(())
    }

    pub(super) fn is_still(&self, what: &str) -> Result<(), Wrong> {
        let kernel = &self.kernel;
        if kernel.receiving != Receiving::Not
            || kernel.send
            || kernel.shut_half
            || kernel.shut_both
            || kernel.ask
            || kernel.give
        {
            return Err(format!("a descriptor is {what} while the kernel holds {kernel:?}"));
        }
        Ok(())
    }

    pub(super) fn close(&mut self) -> Result<(), Wrong> {
        self.is_still("closed")?;
        // What is kept of it is freed: its queue, what is unread.
        (self.unread, self.queued) = (0, false);
        once(&mut self.kernel.closed, "a descriptor is closed twice")
    }

    pub(super) fn release(&mut self) -> Result<(), Wrong> {
        if !self.kernel.closed {
            return Err("a place is free whose descriptor is open".to_owned());
        }
        if matches!(self.brain, BrainKnows::Open | BrainKnows::Finished | BrainKnows::Closing) {
            return Err(format!("a place is free before the brain knows: it has it as {:?}", self.brain));
        }
        once(&mut self.released, "a place is released twice")
    }
}

fn once(flag: &mut bool, wrong: &str) -> Result<(), Wrong> {
    if std::mem::replace(flag, true) { Err(wrong.to_owned()) } else { Ok(()) }
}
