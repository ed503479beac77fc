//! The table: what each event means in each phase. It is drawn in the module above.

use super::mutations::{Mutation, makes};
use super::{
    Action, Actions, Brain, Event, FLUSH_TIMEOUT, LINGER, Life, Moment, Peer, Phase, Reading, Receive,
    Sending, Sent,
};

impl Life {
    /// Takes what has happened, and says what is to be done.
    ///
    /// # Panics
    /// If it can't have happened: an operation ends that is not under way, or a newcomer's step comes to one who is none.
    #[inline]
    pub fn on(&mut self, now: Moment, event: Event) -> Actions {
        match event {
            Event::Admitted { by_balancer } => self.admitted(now, by_balancer),
            Event::Refused => self.refused(now),
            Event::Headed => self.headed(),
            Event::Answered => self.answered(),
            Event::Established => self.established(),
            Event::Received { armed } => self.received(armed),
            Event::ReceiveEnded(why) => self.receive_ended(now, why),
            Event::Sent(how) => self.sent(now, how),
            Event::ShutDown => self.shut_down(now),
            Event::Given { arrived } => self.given(arrived),
            Event::Read => self.settle(now),
            Event::PeerEnded => self.peer_ended(),
            Event::BuffersBack => self.buffers_back(now),
            Event::Queued => self.queued(),
            Event::Submitted => self.submitted(),
            Event::Emptied => self.emptied(now),
            Event::Crowded => self.crowded(),
            Event::Uncrowded => self.uncrowded(),
            Event::Resumed => self.resumed(),
            Event::TurnOver => self.turn_over(),
            Event::Turn => self.turn(),
            Event::Silent => self.silent(),
            Event::Deadline => self.deadline(now),
            Event::Drain => self.drain(now),
            Event::End => self.end(now),
            Event::Abort => self.abort(now),
            Event::Move => self.move_away(now),
            Event::NotifyDrained => self.notify_drained(),
        }
    }

    /// What its phase wants next of receiving, and whether it is over.
    #[inline]
    pub(super) fn settle(&mut self, now: Moment) -> Actions {
        match self.phase {
            Phase::Open(Reading::Free) if self.peer != Peer::Talks => self.finish(now),
            Phase::Open(_) if self.peer != Peer::Talks && makes(Mutation::EndBeforeUnread) => {
                self.finish(now)
            }
            Phase::Heading
            | Phase::Greeting
            | Phase::Shaking
            | Phase::Open(Reading::Free)
            | Phase::HalfClosed => self.arm(),
            Phase::Open(Reading::Crowded | Reading::Resuming | Reading::Queued) => {
                if self.receive == Receive::Armed { self.stop() } else { Actions::NONE }
            }
            Phase::Moving => self.go_on_moving(),
            Phase::Lingering if self.peer == Peer::Ended => self.close_if_still(),
            Phase::Lingering => self.arm(),
            Phase::Aborting => self.close_if_still(),
            Phase::Accepting | Phase::Giving | Phase::Flushing | Phase::Closed => Actions::NONE,
        }
    }

    /// All that the peer had to say has been read: it is answered.
    fn finish(&mut self, now: Moment) -> Actions {
        self.phase = Phase::HalfClosed;
        self.until = now.after(FLUSH_TIMEOUT);
        self.arm().and(Action::WaitFlush).and(Action::TellFinished)
    }

    /// Arms the receive, unless it is, or would bring nothing.
    #[inline]
    fn arm(&mut self) -> Actions {
        let idle = match self.receive {
            Receive::Idle => true,
            Receive::Cancelling => makes(Mutation::ArmTwice),
            Receive::Starved | Receive::Armed | Receive::Watched => false,
        };
        if !idle || self.peer == Peer::Ended {
            return Actions::NONE;
        }
        self.receive = Receive::Armed;
        Actions::of(Action::Arm)
    }

    pub(super) fn stop(&mut self) -> Actions {
        self.receive = Receive::Cancelling;
        Actions::of(Action::Stop)
    }

    /// A move goes on: no receive, no send, then the descriptor.
    fn go_on_moving(&mut self) -> Actions {
        let stop = match self.receive {
            Receive::Armed | Receive::Watched => self.stop(),
            Receive::Idle | Receive::Starved | Receive::Cancelling => Actions::NONE,
        };
        if makes(Mutation::SkipCancelWait) && self.receive == Receive::Cancelling {
            self.receive = Receive::Idle;
        }
        if self.receives() || self.sending != Sending::Idle {
            return stop;
        }
        self.phase = Phase::Giving;
        stop.and(Action::Give)
    }

    /// Whether the kernel holds a receive, or a watch.
    #[inline]
    pub(super) fn receives(&self) -> bool {
        matches!(self.receive, Receive::Armed | Receive::Watched | Receive::Cancelling)
    }

    /// Closes what the kernel holds nothing of any more.
    fn close_if_still(&mut self) -> Actions {
        let shuts_down = self.shutdowns > 0 && !makes(Mutation::CloseInShutdown);
        if self.receives() || self.sending == Sending::UnderWay || shuts_down || self.asking {
            return Actions::NONE;
        }
        self.phase = Phase::Closed;
        let close = Actions::of(Action::Close);
        match self.brain {
            Brain::Knows if makes(Mutation::ReuseAtClose) => {
                close.and(Action::Release).and(Action::TellClosed)
            }
            Brain::Ignorant if makes(Mutation::TellStranger) => close.and(Action::TellClosed),
            Brain::Knows => close.and(Action::TellClosed),
            Brain::Ignorant | Brain::Forgot => close.and(Action::Release),
        }
    }
}

/// Newcomers.
impl Life {
    fn admitted(&mut self, now: Moment, by_balancer: bool) -> Actions {
        assert!(self.phase == Phase::Accepting && self.asking, "only who is asked where it is has a place");
        self.asking = false;
        self.phase = if by_balancer { Phase::Heading } else { Phase::Greeting };
        self.settle(now)
    }

    fn refused(&mut self, now: Moment) -> Actions {
        assert!(self.asking, "only who is asked where it is can be refused");
        self.asking = false;
        self.abort(now)
    }

    fn headed(&mut self) -> Actions {
        assert!(self.phase == Phase::Heading, "a balancer speaks first, and once");
        self.phase = Phase::Greeting;
        Actions::NONE
    }

    fn answered(&mut self) -> Actions {
        match self.phase {
            Phase::Greeting | Phase::Shaking => self.phase = Phase::Shaking,
            _ => unreachable!("only a handshake is answered"),
        }
        Actions::NONE
    }

    fn established(&mut self) -> Actions {
        match self.phase {
            Phase::Greeting | Phase::Shaking => {
                self.phase = Phase::Open(Reading::Free);
                self.brain = Brain::Knows;
            }
            _ => unreachable!("only a handshake is completed"),
        }
        Actions::NONE
    }
}

/// Sending.
impl Life {
    #[inline]
    pub(super) fn queued(&mut self) -> Actions {
        match self.sending {
            Sending::Idle => {
                self.sending = Sending::Due;
                Actions::of(Action::List)
            }
            Sending::Due | Sending::UnderWay => Actions::NONE,
        }
    }

    fn submitted(&mut self) -> Actions {
        assert!(self.sending == Sending::Due, "one send at a time is under way");
        self.sending = Sending::UnderWay;
        Actions::NONE
    }

    fn sent(&mut self, now: Moment, how: Sent) -> Actions {
        let in_hand = self.sending == Sending::UnderWay || makes(Mutation::FreeAtCancel);
        assert!(in_hand, "only a send that is under way ends");
        if self.phase == Phase::Aborting {
            self.sending = Sending::Idle;
            return self.settle(now);
        }
        match how {
            Sent::All => {
                self.sending = Sending::Due;
                Actions::of(Action::Flush)
            }
            Sent::Part => Actions::of(Action::SendRest),
            Sent::Failed => {
                self.sending = Sending::Idle;
                self.abort(now)
            }
        }
    }

    #[inline]
    fn emptied(&mut self, now: Moment) -> Actions {
        self.sending = Sending::Idle;
        if self.phase == Phase::Moving {
            return self.settle(now);
        }
        let drained = if std::mem::take(&mut self.tell_drained) {
            Actions::of(Action::TellDrained)
        } else {
            Actions::NONE
        };
        drained.with(match self.phase {
            Phase::Flushing => self.flushed(now),
            Phase::Accepting
            | Phase::Heading
            | Phase::Greeting
            | Phase::Shaking
            | Phase::Open(_)
            | Phase::HalfClosed
            | Phase::Moving
            | Phase::Giving
            | Phase::Lingering
            | Phase::Aborting
            | Phase::Closed => Actions::NONE,
        })
    }

    /// All that was to be said has left.
    fn flushed(&mut self, now: Moment) -> Actions {
        self.phase = Phase::Lingering;
        if self.peer == Peer::Ended {
            return self.settle(now);
        }
        self.until = now.after(LINGER);
        self.shutdowns += 1;
        self.settle(now).and(Action::ShutHalf).and(Action::WaitLinger)
    }

    fn notify_drained(&mut self) -> Actions {
        self.tell_drained = true;
        self.queued()
    }
}
