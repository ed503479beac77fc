//! What can happen next to a connection.

use super::super::{Ended, Phase, Sent};
use super::kernel::Receiving;
use super::world::{BrainKnows, World};

/// Chunks that may lie unread at once: one shows whether the order is kept.
const UNREAD_MAX: u8 = 1;

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
    pub(super) answers: bool,
    pub(super) stop: Stop,
    pub(super) tail: Tail,
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

pub(super) const QUIET: Script = Script { answers: false, stop: Stop::No, tail: Tail::Nothing };

pub(super) fn scripts() -> impl Iterator<Item = Script> {
    let stops = [Stop::No, Stop::Crowded, Stop::TurnOver, Stop::End, Stop::Move];
    let tails = [Tail::Nothing, Tail::PeerEnded, Tail::Broken, Tail::Flood];
    stops.into_iter().flat_map(move |stop| {
        tails.into_iter().flat_map(move |tail| {
            [false, true].into_iter().map(move |answers| Script { answers, stop, tail })
        })
    })
}

pub(super) fn steps() -> impl Iterator<Item = Step> {
    let others = [Step::More, Step::Answered, Step::Fails];
    others.into_iter().chain(scripts().map(Step::Done))
}

impl World {
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
}
