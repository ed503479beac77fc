//! The part of the table that is about moves and ends.

use super::mutations::{Mutation, makes};
use super::{Action, Actions, Brain, FLUSH_TIMEOUT, Life, Moment, Phase, Reading, Sending};

/// Moves and ends.
impl Life {
    /// It moves at the end of the turn: now its bytes may still be in somebody's hands. What ends already ends here, and the
    /// brain has forgotten it all the same.
    pub(super) fn move_away(&mut self, now: Moment) -> Actions {
        self.brain = Brain::Forgot;
        if !self.takes_frames() {
            return Actions::NONE;
        }
        self.phase = Phase::Moving;
        self.until = now.after(FLUSH_TIMEOUT);
        self.queued().and(Action::WaitFlush)
    }

    /// Its descriptor has arrived; or it stays here, where it can be served as well, and is read on.
    pub(super) fn given(&mut self, arrived: bool) -> Actions {
        assert!(self.phase == Phase::Giving, "only what is on its way arrives");
        if arrived {
            self.phase = Phase::Closed;
            return Actions::of(Action::HandOver).and(Action::Close).and(Action::Release);
        }
        (self.phase, self.brain) = (Phase::Open(Reading::Resuming), Brain::Knows);
        let stay = Actions::of(Action::StayHere).and(Action::Resume);
        // What was to go along leaves from here.
        if makes(Mutation::ForgetQueued) { stay } else { stay.with(self.queued()) }
    }

    pub(super) fn end(&mut self, now: Moment) -> Actions {
        match self.phase {
            Phase::Heading | Phase::Greeting | Phase::Shaking | Phase::Open(_) | Phase::HalfClosed => {
                self.flush(now)
            }
            // Nobody waits for it there, and the brain here has forgotten it.
            Phase::Accepting | Phase::Moving => self.abort(now),
            Phase::Giving | Phase::Flushing | Phase::Lingering | Phase::Aborting | Phase::Closed => {
                Actions::NONE
            }
        }
    }

    fn flush(&mut self, now: Moment) -> Actions {
        self.phase = Phase::Flushing;
        self.until = now.after(FLUSH_TIMEOUT);
        let list = self.queued();
        if makes(Mutation::FlushForever) { list } else { list.and(Action::WaitFlush) }
    }

    pub(super) fn abort(&mut self, now: Moment) -> Actions {
        match self.phase {
            // It is in the other core's hands.
            Phase::Giving | Phase::Closed => return Actions::NONE,
            Phase::Aborting => return self.settle(now),
            Phase::Accepting
            | Phase::Heading
            | Phase::Greeting
            | Phase::Shaking
            | Phase::Open(_)
            | Phase::HalfClosed
            | Phase::Moving
            | Phase::Flushing
            | Phase::Lingering => self.phase = Phase::Aborting,
        }
        let mut shut = Actions::NONE;
        if self.receives() || self.sending == Sending::UnderWay {
            self.shutdowns += 1;
            shut = Actions::of(Action::ShutBoth);
        }
        if makes(Mutation::FreeAtCancel) {
            self.sending = Sending::Idle;
        }
        shut.with(self.settle(now))
    }

    pub(super) fn shut_down(&mut self, now: Moment) -> Actions {
        self.shutdowns = self.shutdowns.checked_sub(1).expect("only a shutdown that is under way ends");
        self.settle(now)
    }

    /// A deadline of some time ago has come. It may be of an earlier phase.
    pub(super) fn deadline(&mut self, now: Moment) -> Actions {
        if !now.has_reached(self.until) {
            return Actions::NONE;
        }
        match self.phase {
            // It has asked and gone half, and its answers take too long.
            Phase::HalfClosed => self.end(now),
            Phase::Accepting
            | Phase::Heading
            | Phase::Greeting
            | Phase::Shaking
            | Phase::Moving
            | Phase::Flushing
            | Phase::Lingering => self.abort(now),
            Phase::Open(_) | Phase::Giving | Phase::Aborting | Phase::Closed => Actions::NONE,
        }
    }

    /// What the brain does not know has nothing to lose, and hears no farewell; unless it moves.
    pub(super) fn drain(&mut self, now: Moment) -> Actions {
        match self.phase {
            Phase::Accepting | Phase::Heading | Phase::Greeting | Phase::Shaking => self.abort(now),
            Phase::Flushing | Phase::Lingering if self.brain != Brain::Knows => self.abort(now),
            Phase::Open(_)
            | Phase::HalfClosed
            | Phase::Moving
            | Phase::Giving
            | Phase::Flushing
            | Phase::Lingering
            | Phase::Aborting
            | Phase::Closed => Actions::NONE,
        }
    }
}
