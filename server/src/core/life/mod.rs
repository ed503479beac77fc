//! The life of one connection, as a table: what has happened goes in as an [`Event`], what is to be done comes out as
//! [`Actions`].
//!
//! It is pure: no ring, no bytes, no memory of its own, and the time is an argument. So the core's loop, the simulator and the
//! tests of all orders of events run the very same table. It refuses to know what a connection says: of TLS it
//! knows only whether a handshake is over, of the brain whether it knows of the connection.
//!
//! What always holds:
//! - At most one receive (or a watch in its place) and one send of a connection are with the kernel, and two shutdowns.
//! - A descriptor is closed once, and when the kernel holds no operation on it: the kernel looks some of them up by the
//!   descriptor's number on a thread of its own, and closed before, that number may be another connection's.
//! - The place is used again when the brain has been told of the end, if it knows of the connection; and it is told once.
//! - Whatever waits for the other end has a deadline, but for an open connection: of that the brain minds the time.
//!
//! # The phases
//! | Phase | It waits for | and goes on to |
//! |---|---|---|
//! | accepting | where it comes from, and a place among the strangers | heading, greeting; aborting |
//! | heading | a balancer's word of where the client is | greeting |
//! | greeting | the first flight, and its turn | shaking, open |
//! | shaking | the rest of the handshake | open |
//! | open | frames; read as they come, or held ([`Reading`]) | half closed, moving, flushing |
//! | half closed | the brain's answers to what was asked before the peer's end | flushing, moving |
//! | moving | the end of the turn, of receiving, and of a send under way; what is queued goes along | giving |
//! | giving | the descriptor's arrival at the other core | closed; open, if there is no room |
//! | flushing | what is queued to leave, the farewell last | lingering |
//! | lingering | the peer's end, so that what was sent is not lost to a reset | closed, aborting |
//! | aborting | the operations under way, after a shutdown of both halves | closed |
//!
//! # What ends them
//! | | peer's end | end asked for | failure, flood | deadline | the node drains |
//! |---|---|---|---|---|---|
//! | accepting | - | aborting | aborting | aborting | aborting |
//! | heading, greeting, shaking | flushing | flushing | aborting | aborting | aborting |
//! | open | half closed, when all before it is read | flushing | aborting | (the brain's) | (the brain's) |
//! | half closed | - | flushing | aborting | flushing | (the brain's) |
//! | moving | goes on: the other core sees it too | aborting | aborting | aborting | goes on |
//! | giving | - | goes on | goes on | goes on | goes on |
//! | flushing | noted: it does not linger | - | aborting | aborting | aborting, unless the brain knows it |
//! | lingering | closed | - | aborting | aborting | aborting, unless the brain knows it |
//! | aborting | closed, when the last operation has ended | - | - | - | - |
//!
//! # The receive
//! | State | What comes of it |
//! |---|---|
//! | idle | armed as soon as what comes is wanted: not while it is held, moves or flushes, nor after the peer's end |
//! | starved | there was no buffer: armed at the end of the turn |
//! | armed | bytes; cancelled when the connection is held or moves, or was silent for long |
//! | watched | silent: the kernel tells when something comes, and it is armed |
//! | cancelling | bytes may still come, and are kept; with its end the connection is watched, or moves on, or stays idle |

mod actions;
mod ending;
pub mod mutations;
mod places;
mod receiving;
mod table;
#[cfg(test)]
mod tests;

use std::time::Duration;

use mutations::Mutation;

pub use actions::{Action, Actions, Ended, Event, Sent};
pub use places::Places;

/// How long what is queued to a connection that ends, or what is being sent to one that moves, may take to leave; and how long the answers to one whose peer
/// sends no more.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection that sends no more waits for its peer to close.
pub const LINGER: Duration = Duration::from_secs(2);

/// A time of the loop's clock in ms, which wraps: deadlines are at most minutes away, so that two of them can be compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Moment(u32);

impl Moment {
    /// So long after the clock's beginning.
    pub fn since_start(elapsed: Duration) -> Self {
        Self(elapsed.as_millis() as u32)
    }

    /// So much later.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.wrapping_add(time.as_millis() as u32))
    }

    /// How long it is until a later time; nothing if that has come.
    pub fn until(self, later: Self) -> Duration {
        if self.has_reached(later) {
            return Duration::ZERO;
        }
        Duration::from_millis(u64::from(later.0.wrapping_sub(self.0)))
    }

    /// Whether a deadline has come.
    pub fn has_reached(self, deadline: Self) -> bool {
        self.0.wrapping_sub(deadline.0) <= u32::MAX / 2
    }
}

/// How far a life has come. See the module for what each waits for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Phase {
    /// It is asked where it comes from.
    Accepting,
    /// Before its handshake a balancer says where the client is.
    Heading,
    /// The first flight of its handshake comes, or waits for its turn.
    Greeting,
    /// Its handshake has been answered.
    Shaking,
    /// Its frames are read.
    Open(Reading),
    /// The peer sends no more: what it asked for is answered, then it ends.
    HalfClosed,
    /// It moves to another core: what the kernel does for it ends, what is queued goes along.
    Moving,
    /// Its descriptor is on the way.
    Giving,
    /// What is queued leaves, then it ends.
    Flushing,
    /// It sends no more, and waits for the peer to do the same.
    Lingering,
    /// It has been shut down: only its operations are still to end.
    Aborting,
    /// Its descriptor has been closed.
    Closed,
}

/// Whether an open connection's frames are read as they come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reading {
    /// They are.
    Free,
    /// Too much is unsent to it: that leaves first.
    Crowded,
    /// Enough has left: it is read on in this turn.
    Resuming,
    /// It has had its turn, and waits in the queue for the next one.
    Queued,
}

/// What the kernel holds to receive with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Receive {
    Idle,
    Starved,
    Armed,
    Watched,
    /// Armed or watched, and asked to end.
    Cancelling,
}

/// What is to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Sending {
    /// Nothing is queued.
    Idle,
    /// Something is, and leaves at the end of the turn.
    Due,
    /// The kernel has some of it; more may be queued behind.
    UnderWay,
}

/// What the peer still sends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Peer {
    Talks,
    /// Nothing that counts: it has said so in TLS. The stream's own end follows.
    HasSaidItsEnd,
    Ended,
}

/// Whether the brain is to be told of the end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Brain {
    /// It has not heard of the connection.
    Ignorant,
    Knows,
    /// It has sent the connection to another core.
    Forgot,
}

/// Where the bytes go that have just come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bytes {
    /// To what a balancer says.
    Heading,
    /// To the first flight, which waits for its turn.
    Greeting,
    /// To the handshake.
    Handshake,
    /// To the record layer, and so to the brain.
    Records,
    /// They are kept until the connection is read on, here or on another core.
    Keep,
    /// Nobody wants them: it ends.
    Drop,
}

/// One connection's life.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Life {
    /// When the time of this phase is over, if its time is bounded here.
    until: Moment,
    phase: Phase,
    receive: Receive,
    sending: Sending,
    peer: Peer,
    brain: Brain,
    /// The brain wants to be told once when nothing is queued.
    tell_drained: bool,
    /// The question where it comes from is under way.
    asking: bool,
    /// Shutdowns under way.
    shutdowns: u8,
}

// It lies in each connection, of which there are many.
const _: () = assert!(size_of::<Life>() == 12);
const _: () = assert!(size_of::<Event>() <= 2);

impl Life {
    /// One that was accepted, and is asked where it comes from. Its handshake may take until then.
    pub fn accepted(until: Moment) -> Self {
        Self::new(Phase::Accepting, Brain::Ignorant, until)
    }

    /// One that has come from another core. [`Event::Read`] follows when what came with it has been read.
    pub fn arrived(now: Moment) -> Self {
        Self::new(Phase::Open(Reading::Free), Brain::Knows, now)
    }

    fn new(phase: Phase, brain: Brain, until: Moment) -> Self {
        Self {
            until,
            phase,
            receive: Receive::Idle,
            sending: Sending::Idle,
            peer: Peer::Talks,
            brain,
            tell_drained: false,
            asking: phase == Phase::Accepting,
            shutdowns: 0,
        }
    }

    /// How far it has come.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether the next frame may go to the brain, as far as it is for the connection itself.
    #[inline]
    pub fn reads(&self) -> bool {
        self.phase == Phase::Open(Reading::Free)
    }

    /// Whether it is open, and what comes is kept for later.
    #[inline]
    pub fn is_held(&self) -> bool {
        matches!(self.phase, Phase::Open(Reading::Crowded | Reading::Resuming | Reading::Queued))
    }

    /// Whether too much is unsent to it for more to be read.
    #[inline]
    pub fn is_crowded(&self) -> bool {
        self.phase == Phase::Open(Reading::Crowded)
    }

    /// Whether it is open, read from or held.
    #[inline]
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    /// Whether the brain's frames are sent to it.
    #[inline]
    pub fn takes_frames(&self) -> bool {
        matches!(self.phase, Phase::Open(_) | Phase::HalfClosed)
    }

    /// Whether its handshake is still to be done.
    #[inline]
    pub fn is_shaking(&self) -> bool {
        matches!(self.phase, Phase::Accepting | Phase::Heading | Phase::Greeting | Phase::Shaking)
    }

    /// Whether it waits for what a newcomer has to say first.
    #[inline]
    pub fn is_accepting(&self) -> bool {
        self.phase == Phase::Accepting
    }

    /// Whether something is queued to it, and nothing of it is with the kernel. Not if nothing is to leave any more.
    #[inline]
    pub fn may_send(&self) -> bool {
        self.sending == Sending::Due && self.phase != Phase::Aborting
    }

    /// Whether what is queued goes along to another core, and is not sent from here.
    #[inline]
    pub fn takes_its_queue_along(&self) -> bool {
        self.phase == Phase::Moving
    }

    /// Whether the farewell goes behind what is queued: nothing else follows.
    #[inline]
    pub fn says_farewell(&self) -> bool {
        self.phase == Phase::Flushing
    }

    /// Where the bytes go that have come.
    #[inline]
    pub fn bytes(&self) -> Bytes {
        match self.phase {
            Phase::Open(Reading::Free) => Bytes::Records,
            Phase::Open(Reading::Crowded | Reading::Resuming | Reading::Queued)
                if mutations::makes(Mutation::DropUnread) =>
            {
                Bytes::Drop
            }
            Phase::Open(Reading::Crowded | Reading::Resuming | Reading::Queued) | Phase::Moving => {
                Bytes::Keep
            }
            Phase::Heading => Bytes::Heading,
            Phase::Greeting => Bytes::Greeting,
            Phase::Shaking => Bytes::Handshake,
            Phase::Accepting | Phase::Giving => unreachable!("nothing is received in this phase"),
            Phase::HalfClosed | Phase::Flushing | Phase::Lingering | Phase::Aborting | Phase::Closed => {
                Bytes::Drop
            }
        }
    }
}
