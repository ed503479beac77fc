//! The part of the table that is about receiving, and about whose turn it is to be read.

use super::{Action, Actions, Ended, Life, Moment, Peer, Phase, Reading, Receive};

/// Receiving.
impl Life {
    #[inline]
    pub(super) fn received(&mut self, armed: bool) -> Actions {
        assert!(self.receives(), "only what is armed receives");
        // If a cancel has found nothing, it is tried again.
        self.receive = if armed { Receive::Armed } else { Receive::Idle };
        Actions::NONE
    }

    pub(super) fn receive_ended(&mut self, now: Moment, why: Ended) -> Actions {
        assert!(self.receives(), "only what is armed ends");
        let was_cancelled = why == Ended::Cancelled && self.receive == Receive::Cancelling;
        self.receive = Receive::Idle;
        match why {
            Ended::NoBuffers => self.starved(now),
            Ended::Cancelled if was_cancelled && self.may_be_watched() => {
                self.receive = Receive::Watched;
                Actions::of(Action::Watch)
            }
            Ended::Cancelled | Ended::Readable => self.settle(now),
            Ended::Eof => self.stream_ended(now),
            Ended::Failed => self.abort(now),
        }
    }

    /// There was no buffer: whoever still reads tries again when the turn has given some back.
    fn starved(&mut self, now: Moment) -> Actions {
        match self.phase {
            Phase::Heading
            | Phase::Greeting
            | Phase::Shaking
            | Phase::Open(_)
            | Phase::HalfClosed
            | Phase::Lingering => {
                self.receive = Receive::Starved;
                Actions::of(Action::Starve)
            }
            Phase::Accepting
            | Phase::Moving
            | Phase::Giving
            | Phase::Flushing
            | Phase::Aborting
            | Phase::Closed => self.settle(now),
        }
    }

    pub(super) fn buffers_back(&mut self, now: Moment) -> Actions {
        if self.receive != Receive::Starved {
            return Actions::NONE;
        }
        self.receive = Receive::Idle;
        self.settle(now)
    }

    fn stream_ended(&mut self, now: Moment) -> Actions {
        self.peer = Peer::Ended;
        match self.phase {
            // Nobody has asked anything yet.
            Phase::Heading | Phase::Greeting | Phase::Shaking => self.end(now),
            // What is held is read first.
            Phase::Open(_)
            | Phase::HalfClosed
            | Phase::Moving
            | Phase::Flushing
            | Phase::Lingering
            | Phase::Aborting => self.settle(now),
            Phase::Accepting | Phase::Giving | Phase::Closed => {
                unreachable!("nothing is received in this phase")
            }
        }
    }

    pub(super) fn peer_ended(&mut self) -> Actions {
        if self.peer == Peer::Talks {
            self.peer = Peer::HasSaidItsEnd;
        }
        Actions::NONE
    }

    /// Whether it is enough to be told when something comes.
    fn may_be_watched(&self) -> bool {
        matches!(self.phase, Phase::Open(Reading::Free) | Phase::HalfClosed) && self.peer != Peer::Ended
    }

    pub(super) fn silent(&mut self) -> Actions {
        if self.receive == Receive::Armed && self.may_be_watched() { self.stop() } else { Actions::NONE }
    }
}

/// Whose turn it is to be read.
impl Life {
    pub(super) fn crowded(&mut self) -> Actions {
        if self.phase == Phase::Open(Reading::Free) {
            self.phase = Phase::Open(Reading::Crowded);
        }
        Actions::NONE
    }

    pub(super) fn uncrowded(&mut self) -> Actions {
        if self.phase != Phase::Open(Reading::Crowded) {
            return Actions::NONE;
        }
        self.phase = Phase::Open(Reading::Resuming);
        Actions::of(Action::Resume)
    }

    pub(super) fn resumed(&mut self) -> Actions {
        if self.phase == Phase::Open(Reading::Resuming) {
            self.phase = Phase::Open(Reading::Free);
        }
        Actions::NONE
    }

    pub(super) fn turn_over(&mut self) -> Actions {
        match self.phase {
            Phase::Open(Reading::Free | Reading::Crowded | Reading::Resuming) => {
                self.phase = Phase::Open(Reading::Queued);
                Actions::of(Action::Queue)
            }
            Phase::Open(Reading::Queued)
            | Phase::Accepting
            | Phase::Heading
            | Phase::Greeting
            | Phase::Shaking
            | Phase::HalfClosed
            | Phase::Moving
            | Phase::Giving
            | Phase::Flushing
            | Phase::Lingering
            | Phase::Aborting
            | Phase::Closed => Actions::NONE,
        }
    }

    pub(super) fn turn(&mut self) -> Actions {
        if self.phase == Phase::Open(Reading::Queued) {
            self.phase = Phase::Open(Reading::Free);
        }
        Actions::NONE
    }
}
