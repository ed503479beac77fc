//! What can happen to a connection, and what can be done.

use std::fmt;

/// What has happened. A closed set: whoever adds one says in the table what it means in every phase.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    // What newcomers go through.
    /// It is known where it comes from, and it has a place.
    Admitted {
        /// It comes from a balancer, who says first where the client is.
        by_balancer: bool,
    },
    /// It is not known where it comes from, or it has no place.
    Refused,
    /// The balancer has said where the client is.
    Headed,
    /// The first flight of its handshake has been answered.
    Answered,
    /// The handshake is over: the brain is told by whoever says this.
    Established,

    // What the kernel has done.
    /// Bytes have come.
    Received {
        /// More will come without being asked for.
        armed: bool,
    },
    /// Receiving, or watching, has ended without bytes.
    ReceiveEnded(Ended),
    /// A send has ended.
    Sent(Sent),
    /// A shutdown has ended.
    ShutDown,
    /// The descriptor has been given to the other core, or has found no room there.
    Given {
        /// It has.
        arrived: bool,
    },

    // What the loop does.
    /// All that had come has been read, as far as it is read now.
    Read,
    /// The peer has said in TLS that it sends no more.
    PeerEnded,
    /// Receive buffers have been given back: those that had none try again.
    BuffersBack,
    /// Something was queued to it.
    Queued,
    /// What was queued is with the kernel.
    Submitted,
    /// Nothing is queued to it; or it moves, and nothing that is queued is sent from here.
    Emptied,
    /// More is unsent to it than it may have unsent and still be read from.
    Crowded,
    /// Enough has left.
    Uncrowded,
    /// It is read on, for enough has left.
    Resumed,
    /// It has had its turn.
    TurnOver,
    /// It has its next turn.
    Turn,
    /// Nothing came or went for long.
    Silent,
    /// A deadline of an earlier [`Action`] is over.
    Deadline,
    /// The node stops.
    Drain,

    // What is wanted of it.
    /// It ends when what is queued has left: the brain says so, or what came was no TLS.
    End,
    /// It ends at once.
    Abort,
    /// The brain sends it to another core.
    Move,
    /// The brain wants to be told when nothing is queued.
    NotifyDrained,
}

/// Why receiving has ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ended {
    /// The peer sends no more.
    Eof,
    /// There was no buffer.
    NoBuffers,
    /// It was cancelled.
    Cancelled,
    /// It was watched, and there is something to receive.
    Readable,
    /// The connection has failed.
    Failed,
}

/// How a send has ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Sent {
    /// All has left.
    All,
    /// Some of it has.
    Part,
    /// The connection has failed.
    Failed,
}

macro_rules! actions {
    ($($(#[$help:meta])* $name:ident,)*) => {
        /// What is to be done. Several are done in this order.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum Action {
            $($(#[$help])* $name,)*
        }

        impl Action {
            const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

actions! {
    /// Receive until told otherwise.
    Arm,
    /// Wait in its place until there is something to receive, which costs the kernel less.
    Watch,
    /// Cancel either.
    Stop,
    /// Send the rest of what was sent in part.
    SendRest,
    /// Shut the sending half down.
    ShutHalf,
    /// Shut both halves down, which ends receives and sends.
    ShutBoth,
    /// Give the descriptor to the core that it moves to.
    Give,
    /// Tell the brain that it has come here after all, for the other core has no room.
    StayHere,
    /// Give the other core all else of it.
    HandOver,
    /// Close the descriptor, and free all that is kept of it but its place.
    Close,
    /// Its place is free: nobody knows of it.
    Release,
    /// Tell the brain that the peer sends no more.
    TellFinished,
    /// Tell the brain that nothing is queued.
    TellDrained,
    /// Tell the brain that it has gone, then its place is free.
    TellClosed,
    /// Note it among those with something to send.
    List,
    /// Send what is queued, now.
    Flush,
    /// [`Event::Deadline`] is due when [`FLUSH_TIMEOUT`](super::FLUSH_TIMEOUT) is over.
    WaitFlush,
    /// [`Event::Deadline`] is due when [`LINGER`](super::LINGER) is over.
    WaitLinger,
    /// Note it among those that wait for a receive buffer, for [`Event::BuffersBack`] at the end of the turn.
    Starve,
    /// Note it among those that wait for their turn, for [`Event::Turn`].
    Queue,
    /// Note it among those that are read on, for [`Event::Resumed`].
    Resume,
}

/// A set of actions, in the order in which they are done.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[must_use = "what is not done leaves the connection where it is"]
pub struct Actions(u32);

const _: () = assert!(Action::ALL.len() <= 32);

impl Actions {
    /// Nothing is to be done.
    pub const NONE: Self = Self(0);

    /// One is.
    #[inline]
    pub const fn of(action: Action) -> Self {
        Self(1 << action as u32)
    }

    /// This one as well.
    #[inline]
    pub const fn and(self, action: Action) -> Self {
        Self(self.0 | 1 << action as u32)
    }

    /// These as well.
    #[inline]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether this one is among them.
    #[inline]
    pub const fn has(self, action: Action) -> bool {
        self.0 & (1 << action as u32) != 0
    }

    /// Whether nothing is to be done.
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl Iterator for Actions {
    type Item = Action;

    #[inline]
    fn next(&mut self) -> Option<Action> {
        let action = *Action::ALL.get(self.0.trailing_zeros() as usize)?;
        self.0 &= self.0 - 1;
        Some(action)
    }
}

impl fmt::Debug for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(*self).finish()
    }
}
