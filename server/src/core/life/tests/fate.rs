//! What follows when the other end does no more: every life must end.

use super::super::{Ended, Phase, Sent};
use super::choices::{Choice, QUIET, Step};
use super::kernel::Receiving;
use super::world::{BrainKnows, World, Wrong};

/// What is left of a world when the other end does no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// The peer has closed: what is received ends, what is sent leaves.
    PeerCloses,
    /// The connection is reset.
    Reset,
    /// Nothing comes, and nothing leaves: only time passes.
    Silence,
}

impl World {
    /// Whether it ends in a bounded number of steps when the other end does no more.
    pub(super) fn ends_by(mut self, fate: Fate) -> Result<(), Wrong> {
        const STEPS_MAX: usize = 64;
        let began = self.clone();
        for _ in 0..STEPS_MAX {
            if self.is_over() {
                return Ok(());
            }
            let Some(choice) = self.next_by(fate) else {
                return Err(format!("nothing follows by {fate:?} from\n{began:?}\nin\n{self:?}"));
            };
            self.take(choice)?;
        }
        Err(format!("no end by {fate:?} in {STEPS_MAX} steps from\n{began:?}\nbut\n{self:?}"))
    }

    fn next_by(&self, fate: Fate) -> Option<Choice> {
        if self.tell_closed {
            return Some(Choice::TellClosed);
        }
        self.completes_by(fate).or_else(|| self.loops()).or_else(|| {
            // At last time passes: the brain gives up what is silent, and answers what has asked.
            let brain_waits = matches!(self.brain, BrainKnows::Open | BrainKnows::Finished);
            if brain_waits && self.life.takes_frames() && fate == Fate::Silence {
                return Some(Choice::BrainEnds);
            }
            (!self.deadlines.is_empty()).then_some(Choice::TimePasses)
        })
    }

    fn completes_by(&self, fate: Fate) -> Option<Choice> {
        let kernel = &self.kernel;
        let moves = fate != Fate::Silence || kernel.dead;
        let failed = fate == Fate::Reset || kernel.dead;
        if kernel.shut_half {
            return Some(Choice::ShutDownHalf);
        }
        if kernel.shut_both {
            return Some(Choice::ShutDownBoth);
        }
        if kernel.ask {
            return Some(Choice::Asked(None));
        }
        if kernel.give {
            return Some(Choice::Given(fate == Fate::Reset));
        }
        if kernel.cancel {
            return Some(Choice::ReceiveEnds(Ended::Cancelled));
        }
        if kernel.send && moves {
            return Some(Choice::SendEnds(if failed { Sent::Failed } else { Sent::All }));
        }
        match kernel.receiving {
            Receiving::Not => None,
            Receiving::Receive if moves && fate == Fate::Reset => Some(Choice::ReceiveEnds(Ended::Failed)),
            Receiving::Receive if moves => Some(Choice::ReceiveEnds(Ended::Eof)),
            Receiving::Watch if moves => Some(Choice::ReceiveEnds(Ended::Readable)),
            Receiving::Receive | Receiving::Watch => None,
        }
    }

    fn loops(&self) -> Option<Choice> {
        let lists = [
            (self.starved, Choice::BuffersBack),
            (self.resumable, Choice::Resume(QUIET)),
            (self.in_queue, Choice::Turn(QUIET)),
            (self.tell_finished, Choice::TellFinished),
            (self.dirty, Choice::Flush),
            (self.hello && self.life.phase() == Phase::Greeting, Choice::TakeHello(Step::More)),
        ];
        lists.into_iter().find(|(is, _)| *is).map(|(_, choice)| choice)
    }
}
