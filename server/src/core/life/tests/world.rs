//! One connection in a small world: a model of the kernel, the peer, the brain and the loop around the real [`Life`].
//!
//! [`World::choices`] gives everything that can happen next, in any order that the kernel may choose, and [`World::take`] has one
//! of it happen. Each action is checked against what the kernel holds at that time.

use std::time::Duration;

use super::super::{Bytes, Ended, Event, Life, Moment, Phase};
use super::choices::{Choice, Come, Script, Step, Stop, Tail, scripts};
use super::kernel::{Kernel, Receiving};

/// How long a handshake may take here: none of the other times, so that deadlines of different phases mix.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a world is not as it must be.
pub(super) type Wrong = String;

/// What the brain thinks of the connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum BrainKnows {
    NotYet,
    Open,
    /// It has heard of the peer's end.
    Finished,
    /// It has said that it ends.
    Closing,
    SentAway,
    /// It has been told that it has gone.
    Gone,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct World {
    pub(super) life: Life,
    pub(super) now: Moment,
    pub(super) kernel: Kernel,
    pub(super) brain: BrainKnows,
    /// Chunks of the peer's stream that were received, and not yet given to the brain.
    pub(super) unread: u8,
    /// Something is queued to be sent.
    pub(super) queued: bool,
    /// The farewell is sealed.
    pub(super) farewell_said: bool,
    /// More than it may have unsent.
    pub(super) crowded: bool,
    /// The lists of the loop that it is in.
    pub(super) dirty: bool,
    pub(super) starved: bool,
    pub(super) resumable: bool,
    pub(super) in_queue: bool,
    pub(super) tell_finished: bool,
    pub(super) tell_closed: bool,
    /// Its first flight waits.
    pub(super) hello: bool,
    /// When it must be looked at, in order of time.
    pub(super) deadlines: Vec<Moment>,
    /// It was to move, and the other core had no room.
    pub(super) stayed: bool,
    /// Its place may be another one's.
    pub(super) released: bool,
}

impl World {
    /// A connection that was accepted at some time.
    pub(super) fn accepted() -> Self {
        // Near where the clock wraps.
        let now = Moment(u32::MAX - 1000);
        let until = now.after(HANDSHAKE_TIMEOUT);
        let mut world = Self::new(Life::accepted(until), now, BrainKnows::NotYet);
        world.kernel.ask = true;
        world.deadlines.push(until);
        world
    }

    /// One that has come from another core, with something unread; so does its reading go.
    pub(super) fn arrived(script: Script) -> Result<Self, Wrong> {
        let now = Moment(7);
        let mut world = Self::new(Life::arrived(now), now, BrainKnows::Open);
        world.unread = 1;
        world.read(script)?;
        Ok(world)
    }

    /// All ways to begin.
    pub(super) fn beginnings() -> Result<Vec<Self>, Wrong> {
        let arrived = scripts().map(Self::arrived);
        [Ok(Self::accepted())].into_iter().chain(arrived).collect()
    }

    fn new(life: Life, now: Moment, brain: BrainKnows) -> Self {
        let kernel = Kernel {
            receiving: Receiving::Not,
            cancel: false,
            send: false,
            shut_half: false,
            shut_both: false,
            ask: false,
            give: false,
            dead: false,
            end_received: false,
            closed: false,
        };
        Self {
            life,
            now,
            kernel,
            brain,
            unread: 0,
            queued: false,
            farewell_said: false,
            crowded: false,
            dirty: false,
            starved: false,
            resumable: false,
            in_queue: false,
            tell_finished: false,
            tell_closed: false,
            hello: false,
            deadlines: Vec::new(),
            stayed: false,
            released: false,
        }
    }

    /// The same world, with the time counted from now on: two that differ in nothing else are the same.
    pub(super) fn normal(&self) -> Self {
        let mut world = self.clone();
        let by = self.now.0;
        world.now = Moment(0);
        world.life.until = Moment(self.life.until.0.wrapping_sub(by));
        if self.now.has_reached(self.life.until) {
            world.life.until = Moment(0);
        }
        for deadline in &mut world.deadlines {
            deadline.0 = deadline.0.wrapping_sub(by);
        }
        world
    }

    /// Its descriptor is closed: the loop finds it no more.
    pub(super) fn is_closed(&self) -> bool {
        self.kernel.closed
    }

    /// Its descriptor is closed, and all has been told.
    pub(super) fn is_over(&self) -> bool {
        self.kernel.closed && self.released
    }

    /// Has something happen.
    pub(super) fn take(&mut self, choice: Choice) -> Result<(), Wrong> {
        self.take_it(choice)?;
        self.somebody_sends()
    }

    fn take_it(&mut self, choice: Choice) -> Result<(), Wrong> {
        match choice {
            Choice::Asked(place) => {
                self.kernel.ask = false;
                match place {
                    Some(by_balancer) => self.on(Event::Admitted { by_balancer }),
                    None => self.on(Event::Refused),
                }
            }
            Choice::Received(armed, come) => self.received(armed, come),
            Choice::ReceiveEnds(why) => {
                self.kernel.receiving = Receiving::Not;
                self.kernel.cancel = false;
                self.kernel.end_received |= why == Ended::Eof;
                self.on(Event::ReceiveEnded(why))
            }
            Choice::CancelFindsNothing => {
                self.kernel.cancel = false;
                Ok(())
            }
            Choice::SendEnds(how) => {
                self.kernel.send = false;
                self.on(Event::Sent(how))?;
                self.look_at_crowd()
            }
            Choice::ShutDownHalf => {
                self.kernel.shut_half = false;
                self.on(Event::ShutDown)
            }
            Choice::ShutDownBoth => {
                (self.kernel.shut_both, self.kernel.dead) = (false, true);
                self.on(Event::ShutDown)
            }
            Choice::Given(arrived) => {
                self.kernel.give = false;
                self.on(Event::Given { arrived })
            }
            Choice::TakeHello(step) => {
                self.hello = false;
                self.shake(step)?;
                self.on(Event::Read)
            }
            Choice::Flush => {
                self.dirty = false;
                self.flush()
            }
            Choice::BuffersBack => {
                self.starved = false;
                self.on(Event::BuffersBack)
            }
            Choice::Resume(script) => {
                self.resumable = false;
                self.go_on_reading(Event::Resumed, script)
            }
            Choice::Turn(script) => {
                self.in_queue = false;
                self.go_on_reading(Event::Turn, script)
            }
            Choice::Silent => self.on(Event::Silent),
            Choice::TimePasses => {
                self.now = self.deadlines.remove(0);
                self.on(Event::Deadline)
            }
            Choice::Drain => self.on(Event::Drain),
            Choice::ShownOut => self.on(Event::Abort),
            Choice::TellFinished
            | Choice::TellClosed
            | Choice::BrainSends
            | Choice::BrainSendsMuch
            | Choice::BrainEnds
            | Choice::BrainMoves
            | Choice::BrainWantsDrained => self.brain_takes(choice),
        }
    }

    pub(super) fn brain_takes(&mut self, choice: Choice) -> Result<(), Wrong> {
        match choice {
            Choice::TellFinished => {
                self.tell_finished = false;
                if self.brain == BrainKnows::Open {
                    self.brain = BrainKnows::Finished;
                }
                Ok(())
            }
            Choice::TellClosed => {
                self.tell_closed = false;
                self.brain = BrainKnows::Gone;
                self.release()
            }
            Choice::BrainSends => self.send(false),
            Choice::BrainSendsMuch => self.send(true),
            Choice::BrainEnds => {
                self.brain = BrainKnows::Closing;
                self.on(Event::End)
            }
            // Once is enough to see all that follows.
            Choice::BrainMoves if self.stayed => Ok(()),
            Choice::BrainMoves => {
                self.brain = BrainKnows::SentAway;
                self.on(Event::Move)
            }
            Choice::BrainWantsDrained => self.on(Event::NotifyDrained),
            other => unreachable!("{other:?} is not the brain's"),
        }
    }

    /// The loop's way of receiving: see `received` in worker/reading.rs.
    pub(super) fn received(&mut self, armed: bool, come: Come) -> Result<(), Wrong> {
        if !armed {
            (self.kernel.receiving, self.kernel.cancel) = (Receiving::Not, false);
        }
        self.on(Event::Received { armed })?;
        match (self.life.bytes(), come) {
            (Bytes::Heading, Come::HeadingIncomplete) => {}
            (Bytes::Heading, Come::Headed) => {
                self.on(Event::Headed)?;
                self.hello = true;
            }
            (Bytes::Heading, Come::HeadingWrong) => self.on(Event::Abort)?,
            (Bytes::Greeting, Come::Blind) => self.hello = true,
            (Bytes::Greeting, Come::HelloTooLong) => self.on(Event::Abort)?,
            (Bytes::Handshake, Come::Shake(step)) => self.shake(step)?,
            (Bytes::Records, Come::Read(script)) => {
                if self.unread > 0 {
                    return Err("what came later is given to the brain before what came earlier".to_owned());
                }
                self.unread = 1;
                return self.read(script);
            }
            (Bytes::Keep, Come::Blind) => self.unread += 1,
            (Bytes::Drop, Come::Blind) => {
                let ends = matches!(
                    self.life.phase(),
                    Phase::HalfClosed | Phase::Flushing | Phase::Lingering | Phase::Aborting
                );
                if !ends {
                    return Err("bytes are dropped that the brain is to have".to_owned());
                }
            }
            (bytes, come) => return Err(format!("{come:?} was to come, and goes to {bytes:?}")),
        }
        self.on(Event::Read)
    }

    pub(super) fn shake(&mut self, step: Step) -> Result<(), Wrong> {
        match step {
            Step::More => Ok(()),
            Step::Answered => {
                self.queue()?;
                self.on(Event::Answered)
            }
            Step::Done(script) => {
                self.queue()?;
                self.on(Event::Established)?;
                self.brain = BrainKnows::Open;
                self.unread = 1;
                self.read(script)
            }
            Step::Fails => {
                self.queue()?;
                self.on(Event::End)
            }
        }
    }

    pub(super) fn go_on_reading(&mut self, why: Event, script: Script) -> Result<(), Wrong> {
        if !self.life.is_held() {
            return Ok(());
        }
        self.on(why)?;
        if !self.life.reads() {
            return Ok(());
        }
        self.read(script)
    }

    /// All that is unread goes to the brain, as far as it is read.
    pub(super) fn read(&mut self, script: Script) -> Result<(), Wrong> {
        if script.answers {
            self.send(false)?;
        }
        match script.stop {
            Stop::No => self.unread = 0,
            // The rest is kept, for now or for the other core.
            Stop::Crowded => {
                self.send(true)?;
                self.on(Event::Crowded)?;
            }
            Stop::TurnOver => self.on(Event::TurnOver)?,
            Stop::End => self.brain_takes(Choice::BrainEnds)?,
            Stop::Move => self.brain_takes(Choice::BrainMoves)?,
        }
        if self.unread > 0 && self.life.bytes() != Bytes::Keep {
            // Only what ends forgets it.
            self.unread = 0;
        }
        match script.tail {
            Tail::Nothing => {}
            Tail::PeerEnded => self.on(Event::PeerEnded)?,
            Tail::Broken => self.on(Event::End)?,
            Tail::Flood => {
                self.queue()?;
                self.on(Event::Abort)?;
            }
        }
        self.on(Event::Read)
    }

    pub(super) fn send(&mut self, much: bool) -> Result<(), Wrong> {
        if !self.life.takes_frames() {
            return Ok(());
        }
        self.crowded |= much;
        self.queue()
    }

    pub(super) fn queue(&mut self) -> Result<(), Wrong> {
        self.queued = true;
        self.on(Event::Queued)
    }

    /// The loop's way of sending: see `flush_one` in io/sending.rs.
    pub(super) fn flush(&mut self) -> Result<(), Wrong> {
        if self.kernel.closed || !self.life.may_send() {
            return Ok(());
        }
        if self.life.takes_its_queue_along() {
            return self.on(Event::Emptied);
        }
        if self.life.says_farewell() && self.brain != BrainKnows::NotYet {
            self.queued |= !std::mem::replace(&mut self.farewell_said, true);
        }
        if !std::mem::take(&mut self.queued) {
            self.crowded = false;
            return self.on(Event::Emptied);
        }
        self.submit()?;
        self.on(Event::Submitted)
    }

    /// What is queued to an open connection leaves in this turn, or behind the send under way.
    fn somebody_sends(&self) -> Result<(), Wrong> {
        let waits = self.queued && !self.kernel.closed && self.life.takes_frames();
        if waits && !self.dirty && !self.kernel.send {
            return Err("nobody sends what is queued".to_owned());
        }
        Ok(())
    }

    pub(super) fn submit(&mut self) -> Result<(), Wrong> {
        if std::mem::replace(&mut self.kernel.send, true) {
            return Err("two sends are under way".to_owned());
        }
        Ok(())
    }

    pub(super) fn look_at_crowd(&mut self) -> Result<(), Wrong> {
        if self.kernel.closed || !self.life.is_crowded() || (self.crowded && self.kernel.send) {
            return Ok(());
        }
        self.crowded = false;
        self.on(Event::Uncrowded)
    }

    pub(super) fn on(&mut self, event: Event) -> Result<(), Wrong> {
        if self.kernel.closed {
            // It has gone: the loop finds it no more.
            return Ok(());
        }
        let actions = self.life.on(self.now, event);
        self.act(actions)
    }
}
