//! One connection in a small world: a model of the kernel, the peer, the brain and the loop around the real [`Life`].
//!
//! [`World::choices`] gives everything that can happen next, in any order that the kernel may choose, and [`World::take`] has one
//! of it happen. Each action is checked against what the kernel holds at that time.

use super::super::{Action, Actions, Bytes, Ended, Event, FLUSH_TIMEOUT, LINGER, Life, Moment, Phase, Sent};
use std::time::Duration;

/// How long a handshake may take here: none of the other times, so that deadlines of different phases mix.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Chunks that may lie unread at once: one shows whether the order is kept.
const UNREAD_MAX: u8 = 1;

/// Why a world is not as it must be.
pub(super) type Wrong = String;

/// What the kernel holds to receive with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Receiving {
    Not,
    Receive,
    Watch,
}

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

/// What the kernel holds of a descriptor.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Kernel {
    receiving: Receiving,
    /// A cancel of that is under way.
    cancel: bool,
    /// A send, and with it its buffer.
    send: bool,
    shut_half: bool,
    shut_both: bool,
    ask: bool,
    give: bool,
    /// Both halves are shut down.
    dead: bool,
    /// The peer's end has been received.
    end_received: bool,
    closed: bool,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct World {
    pub(super) life: Life,
    now: Moment,
    kernel: Kernel,
    pub(super) brain: BrainKnows,
    /// Chunks of the peer's stream that were received, and not yet given to the brain.
    unread: u8,
    /// Something is queued to be sent.
    queued: bool,
    /// The farewell is sealed.
    farewell_said: bool,
    /// More than it may have unsent.
    crowded: bool,
    /// The lists of the loop that it is in.
    dirty: bool,
    starved: bool,
    resumable: bool,
    in_queue: bool,
    tell_finished: bool,
    tell_closed: bool,
    /// Its first flight waits.
    hello: bool,
    /// When it must be looked at, in order of time.
    deadlines: Vec<Moment>,
    /// Its place may be another one's.
    pub(super) released: bool,
}

/// What a piece of what was received leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    /// All of it is read.
    No,
    Crowded,
    TurnOver,
    End,
    Move,
}

/// What its record layer says at the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tail {
    Nothing,
    PeerEnded,
    Broken,
    Flood,
}

/// How a reading goes: an answer is queued or not, the brain stops it or not, and how it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Script {
    answers: bool,
    stop: Stop,
    tail: Tail,
}

/// What a handshake's bytes lead to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    More,
    Answered,
    Done(Script),
    Fails,
}

/// What comes of received bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Come {
    /// Nobody looks into them, or they wait.
    Blind,
    HeadingIncomplete,
    Headed,
    HeadingWrong,
    HelloTooLong,
    Shake(Step),
    Read(Script),
}

/// What happens next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Choice {
    Asked(Option<bool>),
    Received(bool, Come),
    ReceiveEnds(Ended),
    CancelFindsNothing,
    SendEnds(Sent),
    ShutDownHalf,
    ShutDownBoth,
    Given(bool),
    TakeHello(Step),
    Flush,
    BuffersBack,
    Resume(Script),
    Turn(Script),
    TellFinished,
    TellClosed,
    Silent,
    TimePasses,
    Drain,
    ShownOut,
    BrainSends,
    BrainSendsMuch,
    BrainEnds,
    BrainMoves,
    BrainWantsDrained,
}

const QUIET: Script = Script { answers: false, stop: Stop::No, tail: Tail::Nothing };

fn scripts() -> impl Iterator<Item = Script> {
    let stops = [Stop::No, Stop::Crowded, Stop::TurnOver, Stop::End, Stop::Move];
    let tails = [Tail::Nothing, Tail::PeerEnded, Tail::Broken, Tail::Flood];
    stops.into_iter().flat_map(move |stop| {
        tails.into_iter().flat_map(move |tail| {
            [false, true].into_iter().map(move |answers| Script { answers, stop, tail })
        })
    })
}

fn steps() -> impl Iterator<Item = Step> {
    let others = [Step::More, Step::Answered, Step::Fails];
    others.into_iter().chain(scripts().map(Step::Done))
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

    /// Everything that can happen next.
    pub(super) fn choices(&self) -> Vec<Choice> {
        let mut choices = Vec::new();
        if self.tell_closed {
            choices.push(Choice::TellClosed);
        }
        if self.kernel.closed {
            return choices;
        }
        self.kernel_choices(&mut choices);
        self.loop_choices(&mut choices);
        self.brain_choices(&mut choices);
        choices
    }

    fn kernel_choices(&self, choices: &mut Vec<Choice>) {
        let kernel = &self.kernel;
        if kernel.ask {
            choices.push(Choice::Asked(None));
            if self.life.is_accepting() {
                choices.extend([Choice::Asked(Some(false)), Choice::Asked(Some(true))]);
            }
        }
        match kernel.receiving {
            Receiving::Not => {}
            Receiving::Receive => {
                let ends = [Ended::Eof, Ended::Failed, Ended::NoBuffers];
                choices.extend(ends.map(Choice::ReceiveEnds));
                if !kernel.end_received && !kernel.dead {
                    for armed in [false, true] {
                        choices.extend(self.comings().map(|come| Choice::Received(armed, come)));
                    }
                }
            }
            Receiving::Watch => {
                choices.extend([Ended::Readable, Ended::Failed].map(Choice::ReceiveEnds));
            }
        }
        if kernel.cancel {
            choices.extend([Choice::ReceiveEnds(Ended::Cancelled), Choice::CancelFindsNothing]);
        }
        if kernel.send {
            choices.extend([Sent::All, Sent::Part, Sent::Failed].map(Choice::SendEnds));
        }
        if kernel.shut_half {
            choices.push(Choice::ShutDownHalf);
        }
        if kernel.shut_both {
            choices.push(Choice::ShutDownBoth);
        }
        if kernel.give {
            choices.extend([Choice::Given(true), Choice::Given(false)]);
        }
    }

    /// What bytes that come now may be.
    fn comings(&self) -> Box<dyn Iterator<Item = Come>> {
        let some = |all: &'static [Come]| Box::new(all.iter().copied());
        match self.life.phase() {
            Phase::Heading => some(&[Come::HeadingIncomplete, Come::Headed, Come::HeadingWrong]),
            Phase::Greeting => some(&[Come::Blind, Come::HelloTooLong]),
            Phase::Shaking => Box::new(steps().map(Come::Shake)),
            _ if self.life.reads() => Box::new(scripts().map(Come::Read)),
            // More say no more than these.
            _ if self.unread >= UNREAD_MAX => some(&[]),
            _ => some(&[Come::Blind]),
        }
    }

    fn loop_choices(&self, choices: &mut Vec<Choice>) {
        if self.hello && self.life.phase() == Phase::Greeting {
            choices.extend(steps().map(Choice::TakeHello));
        }
        let lists = [
            (self.dirty, Choice::Flush),
            (self.starved, Choice::BuffersBack),
            (self.tell_finished, Choice::TellFinished),
            (!self.deadlines.is_empty(), Choice::TimePasses),
        ];
        choices.extend(lists.into_iter().filter(|(is, _)| *is).map(|(_, choice)| choice));
        if self.resumable {
            choices.extend(scripts().map(Choice::Resume));
        }
        if self.in_queue {
            choices.extend(scripts().map(Choice::Turn));
        }
        choices.extend([Choice::Silent, Choice::Drain, Choice::ShownOut]);
    }

    fn brain_choices(&self, choices: &mut Vec<Choice>) {
        if matches!(self.brain, BrainKnows::Open | BrainKnows::Finished) {
            choices.extend([Choice::BrainSends, Choice::BrainSendsMuch, Choice::BrainWantsDrained]);
            choices.extend([Choice::BrainEnds, Choice::BrainMoves]);
        }
    }

    /// Has something happen.
    pub(super) fn take(&mut self, choice: Choice) -> Result<(), Wrong> {
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

    fn brain_takes(&mut self, choice: Choice) -> Result<(), Wrong> {
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
            Choice::BrainMoves => {
                self.brain = BrainKnows::SentAway;
                self.on(Event::Move)
            }
            Choice::BrainWantsDrained => self.on(Event::NotifyDrained),
            other => unreachable!("{other:?} is not the brain's"),
        }
    }

    /// The loop's way of receiving: see `received` in worker/reading.rs.
    fn received(&mut self, armed: bool, come: Come) -> Result<(), Wrong> {
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

    fn shake(&mut self, step: Step) -> Result<(), Wrong> {
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

    fn go_on_reading(&mut self, why: Event, script: Script) -> Result<(), Wrong> {
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
    fn read(&mut self, script: Script) -> Result<(), Wrong> {
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

    fn send(&mut self, much: bool) -> Result<(), Wrong> {
        if !self.life.takes_frames() {
            return Ok(());
        }
        self.crowded |= much;
        self.queue()
    }

    fn queue(&mut self) -> Result<(), Wrong> {
        self.queued = true;
        self.on(Event::Queued)
    }

    /// The loop's way of sending: see `flush_one` in io/sending.rs.
    fn flush(&mut self) -> Result<(), Wrong> {
        if self.kernel.closed || !self.life.may_send() {
            return Ok(());
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

    fn submit(&mut self) -> Result<(), Wrong> {
        if std::mem::replace(&mut self.kernel.send, true) {
            return Err("two sends are under way".to_owned());
        }
        Ok(())
    }

    fn look_at_crowd(&mut self) -> Result<(), Wrong> {
        if self.kernel.closed || !self.life.is_crowded() || (self.crowded && self.kernel.send) {
            return Ok(());
        }
        self.crowded = false;
        self.on(Event::Uncrowded)
    }

    fn on(&mut self, event: Event) -> Result<(), Wrong> {
        if self.kernel.closed {
            // It has gone: the loop finds it no more.
            return Ok(());
        }
        let actions = self.life.on(self.now, event);
        self.act(actions)
    }

    fn act(&mut self, actions: Actions) -> Result<(), Wrong> {
        for action in actions {
            self.act_one(action)?;
        }
        Ok(())
    }

    fn act_one(&mut self, action: Action) -> Result<(), Wrong> {
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
                if self.queued {
                    return Err("a connection is given away before what is queued has left".to_owned());
                }
                once(&mut self.kernel.give, "a connection is given away twice")
            }
            Action::SayNoRoom => {
                self.queued = true;
                Ok(())
            }
            Action::HandOver => {
                self.unread = 0;
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
            Action::Queue => once(&mut self.in_queue, "it is twice in the queue"),
            Action::Resume => {
                self.resumable = true;
                Ok(())
            }
        }
    }

    fn arm(&mut self, what: Receiving) -> Result<(), Wrong> {
        if self.kernel.receiving != Receiving::Not {
            return Err(format!("{what:?} is armed while {:?} is", self.kernel.receiving));
        }
        self.kernel.receiving = what;
        Ok(())
    }

    fn wait(&mut self, time: Duration) -> Result<(), Wrong> {
        let until = self.now.after(time);
        let later = self.deadlines.iter().position(|other| !until.has_reached(*other));
        self.deadlines.insert(later.unwrap_or(self.deadlines.len()), until);
        Ok(())
    }

    fn is_still(&self, what: &str) -> Result<(), Wrong> {
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

    fn close(&mut self) -> Result<(), Wrong> {
        self.is_still("closed")?;
        // What is kept of it is freed: its queue, what is unread.
        (self.unread, self.queued) = (0, false);
        once(&mut self.kernel.closed, "a descriptor is closed twice")
    }

    fn release(&mut self) -> Result<(), Wrong> {
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
