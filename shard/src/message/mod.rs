//! What departments say to each other, on one core or between cores.
//!
//! A message is for the owner of one slot, or for one connection of a core. It is spelled here alone: the one who asks makes it, the
//! router finds its way by it, and the department that it is for takes it, holds it while it can't decide, and answers it.

mod accounts;
mod front;
mod logs;
mod stories;
mod volatile;

use tern_storage::{LogId, Slot};
use tern_wire::errors::Refusal;
use tern_wire::ids::{Phone, UserId};

pub use self::accounts::{
    Attach, Filed, InboxAsk, Issued, LookedAt, Named, NetworkOp, OfPushes, PhoneOp, PhoneQuestion, Reserve,
    Said, Setting, Shown, Standing, Subscribing, UserOp,
};
pub use self::front::{Attached, FrontOp, Glance, InboxStep, LogsPage, Missed, MissedOf, Notice, Page};
pub use self::logs::{
    Acts, Claim, Dispatched, FoundPage, GlanceFor, Glancer, LogOp, MediumWanted, Permits, Pull, ReadHistory,
    Reporting, Search, Send, Terms, TermsTold, Want,
};
pub(crate) use self::logs::{Look, bytes_of_hit};
pub use self::stories::{Hides, PostedStory, StoryDue, StoryDuty, StoryNews, StoryOp, StoryTold, Viewed};
pub use self::volatile::{Looker, Sees, Subject, VolatileOp, Whereabouts};
use crate::cx::{Cx, Department};
use crate::network::Network;
use crate::reply::ConnId;
use crate::slots::CoreId;
use tern_wire::ids::Seq;

/// One message.
#[derive(Debug)]
pub enum Message {
    /// To a connection of the core.
    Front(ConnId, FrontOp),
    /// To the owner of a network, who counts what comes from there.
    Network(Network, NetworkOp),
    /// To the owner of a phone.
    Phone(Phone, PhoneOp),
    /// To the owner of a user.
    User(UserId, UserOp),
    /// To the owner of a log.
    Log(LogId, LogOp),
    /// To the owner of a person or a group, of those who show it.
    Volatile(Subject, VolatileOp),
    /// To the owners of users, who are one core: what follows from one thing for many, in order.
    Users(Vec<(UserId, UserOp)>),
    /// The same of those who show people and groups.
    Volatiles(Vec<(Subject, VolatileOp)>),
    /// To the next owner of a slot: all that the last one held of it.
    Slot(Box<HandOver>),
    /// To the last owner of a slot and on to the next: this core has said all that it had to say to the last one.
    Marker {
        /// Which slot.
        slot: Slot,
        /// The version of the table in which it has moved.
        version: u64,
        /// Who says so.
        from: CoreId,
    },
    /// To the core that a marker came from: it has passed.
    Passed(Slot),
    /// To every core, from one that is about to let a slot go: all that it has said of it has come.
    Flush {
        /// Which slot.
        slot: Slot,
        /// Who says so.
        from: CoreId,
    },
    /// The answer to that.
    Flushed(Slot),
    /// To the core that could not keep it until a slot has moved: it is refused.
    Refuse(Box<Message>),
}

// A message goes by value from hand to hand, a dozen times: what is large and rare, or as large as a `Send`, is boxed.
const _: () = assert!(size_of::<Message>() <= 96);

/// What a core held of a slot.
#[derive(Debug)]
pub struct HandOver {
    pub(crate) slot: Slot,
    pub(crate) accounts: crate::accounts::Taken,
    pub(crate) logs: crate::logs::Taken,
    pub(crate) volatile: crate::volatile::Taken,
}

impl Message {
    /// The slot whose owner it is for; `None` if it is for a connection, or about a move.
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Self::Front(..)
            | Self::Slot(_)
            | Self::Passed(_)
            | Self::Flush { .. }
            | Self::Flushed(_)
            | Self::Users(_)
            | Self::Volatiles(_)
            | Self::Refuse(_) => None,
            Self::Marker { slot, .. } => Some(*slot),
            Self::Network(network, _) => Some(Slot::of_address(network.bytes())),
            Self::Phone(phone, _) => Some(Slot::of_phone(phone.digits())),
            Self::User(user, _) => Some(Slot::of_user(user.get())),
            Self::Log(log, _) => Some(Slot::of_log(*log)),
            Self::Volatile(subject, _) => Some(subject.slot()),
        }
    }
}

impl Message {
    /// Whether somebody waits for an answer, so that it may be refused.
    pub fn is_request(&self) -> bool {
        match self {
            Self::Front(..)
            | Self::Slot(_)
            | Self::Marker { .. }
            | Self::Passed(_)
            | Self::Flush { .. }
            | Self::Flushed(_)
            | Self::Users(_)
            | Self::Volatile(..)
            | Self::Volatiles(_)
            | Self::Refuse(_) => false,
            Self::Phone(..) => true,
            Self::Network(_, op) => op.is_request(),
            Self::User(_, op) => op.is_request(),
            Self::Log(_, op) => op.is_request(),
        }
    }
}

/// Why something can't be read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Unreadable {
    /// The store does not give it now.
    ForNow,
    /// What the store gives is not what was written: trying again does not help.
    Damaged,
}

/// How far a member of a log has got.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Watermarks {
    /// Some device has everything up to here.
    pub delivered: Seq,
    /// The member has read up to here.
    pub read: Seq,
}

impl Watermarks {
    /// What a device says, for its person: what is read is delivered to them, if not to this device.
    pub fn of_person(self) -> Self {
        Self { delivered: self.delivered.max(self.read), read: self.read }
    }

    /// The lower of both, each for itself.
    pub fn min(self, other: Self) -> Self {
        Self { delivered: self.delivered.min(other.delivered), read: self.read.min(other.read) }
    }

    /// The higher of both, each for itself.
    pub fn max(self, other: Self) -> Self {
        Self { delivered: self.delivered.max(other.delivered), read: self.read.max(other.read) }
    }
}

/// Answers whoever searches in a log.
pub(crate) fn found<D: Department>(cx: &mut Cx<'_, D>, asked: &Search, page: Result<FoundPage, Refusal>) {
    cx.tell_front(asked.origin.place, FrontOp::Found(asked.origin.ask, page.map(Box::new)));
}

/// Tells how a chat is to who wants to know.
pub(crate) fn tell_glance<D: Department>(cx: &mut Cx<'_, D>, glance: Box<Glance>) {
    match glance.asker.asker {
        GlanceFor::List(origin) => cx.tell_front(origin.place, FrontOp::Glance(glance)),
        GlanceFor::Pushes { number, .. } => {
            let reader = glance.asker.reader;
            cx.tell_user(reader, UserOp::OfPushes(Box::new(OfPushes::Glanced(number, glance))));
        }
    }
}
