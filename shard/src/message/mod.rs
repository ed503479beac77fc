//! What departments say to each other, on one core or between cores.
//!
//! A message is for the owner of one slot, or for one connection of a core. It is spelled here alone: the one who asks makes it, the
//! router finds its way by it, and the department that it is for takes it, holds it while it can't decide, and answers it.

mod accounts;
mod front;
mod logs;

use tern_storage::{LogId, Slot};
use tern_wire::ids::{Phone, UserId};

pub use self::accounts::{Attach, InboxAsk, NetworkOp, PhoneOp, PhoneQuestion, Reserve, Shown, UserOp};
pub use self::front::{Attached, FrontOp, Glance, InboxStep, LogsPage, Notice, Page};
pub use self::logs::{Claim, Glancer, LogOp, Permits, Pull, ReadHistory, Send, Want};
use crate::network::Network;
use crate::reply::ConnId;
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
}

impl Message {
    /// The slot whose owner it is for; `None` if it is for a connection.
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Self::Front(..) => None,
            Self::Network(network, _) => Some(Slot::of_address(network.bytes())),
            Self::Phone(phone, _) => Some(Slot::of_phone(phone.digits())),
            Self::User(user, _) => Some(Slot::of_user(user.get())),
            Self::Log(log, _) => Some(Slot::of_log(*log)),
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
    /// The higher of both, each for itself.
    pub fn max(self, other: Self) -> Self {
        Self { delivered: self.delivered.max(other.delivered), read: self.read.max(other.read) }
    }
}
