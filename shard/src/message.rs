//! What cores say to each other. Each message is for the owner of one slot, or for one connection of a core.

use std::sync::Arc;

use bytes::Bytes;
use tern_storage::LogId;
use tern_wire::errors::Refusal;
use tern_wire::ids::{ClientMessageId, DeviceId, Name, Phone, Seq, UserId};
use tern_wire::request::{Refresh, Verify};

use crate::entry::{Author, Entry};
use crate::reply::{ConnId, Origin, Reply};
use crate::slots::CoreId;

/// One message.
#[derive(Debug)]
pub enum Message {
    /// To the owner of a network address: may it ask for a code? Goes on to the phone's owner.
    Register {
        /// Who asks.
        origin: Origin,
        /// From where.
        address: [u8; 16],
        /// For which phone.
        phone: Phone,
    },
    /// To the owner of a network address: may it try a code? Goes on to the phone's owner.
    Verify {
        /// Who asks.
        origin: Origin,
        /// From where.
        address: [u8; 16],
        /// The phone and the code.
        verify: Box<Verify>,
    },
    /// To the owner of a phone.
    Phone(Phone, PhoneOp),
    /// To the owner of a user.
    User(UserOp),
    /// To the owner of a log.
    Log(LogId, LogOp),
    /// To the core of a connection: the response to a request of it.
    Reply(Origin, Reply),
    /// To the core of a connection: what a [`LogOp::Pull`] gave.
    Page(ConnId, Box<Page>),
    /// To the core of a connection: what a [`LogOp::Glance`] gave.
    Glance(Box<Glance>),
}

impl Message {
    /// The request to an account that this is, if it is one that may be refused when there is no room for it.
    pub fn account_request(&self) -> Option<Origin> {
        match self {
            Self::Register { origin, .. } | Self::Verify { origin, .. } => Some(*origin),
            Self::Phone(_, op) => match op {
                PhoneOp::Register(origin, ..) | PhoneOp::Verify(origin, ..) | PhoneOp::Lookup(origin, ..) => {
                    Some(*origin)
                }
                PhoneOp::Admin(..) => None,
            },
            Self::User(UserOp {
                ask: UserAsk::Refresh(origin, ..) | UserAsk::Describe(origin, _), ..
            }) => Some(*origin),
            Self::User(_) | Self::Log(..) | Self::Reply(..) | Self::Page(..) | Self::Glance(_) => None,
        }
    }
}

/// What is asked of a phone's owner.
#[derive(Debug)]
pub enum PhoneOp {
    /// Send a one-time code. From this network.
    Register(Origin, [u8; 16]),
    /// Check a code and add a device. From this network.
    Verify(Origin, [u8; 16], Box<Verify>),
    /// Who has it? For this user.
    Lookup(Origin, UserId),
    /// An operator's question, answered under its number.
    Admin(u64, PhoneQuestion),
}

/// What an operator asks of a phone.
#[derive(Debug)]
pub enum PhoneQuestion {
    /// The one-time code.
    Code,
    /// The account.
    User,
    /// Forget how often codes were asked for.
    ResetCodes,
    /// Delete the account.
    Delete,
    /// Make an account or add a device, under a display name.
    Provision(Name),
}

/// What is asked of a user's owner.
#[derive(Debug)]
pub struct UserOp {
    /// Which user.
    pub user: UserId,
    /// What.
    pub ask: UserAsk,
}

/// See [`UserOp`].
#[derive(Debug)]
pub enum UserAsk {
    /// A log of the user is in use: tell its owner the user's devices now and when they change.
    Watch(LogId),
    /// It is in use no more.
    Unwatch(LogId),
    /// An entry of a log of the user is durable.
    Appended(Arc<Entry>),
    /// A member's watermarks in a log of the user are durable.
    Advanced(LogId, Author, Watermarks),
    /// Exchange a refresh token.
    Refresh(Origin, DeviceId, Box<Refresh>),
    /// Say who the user is, so far as it may be shown.
    Describe(Origin, Shown),
    /// Say who the user is to the one who lists chats, so far as it may be shown.
    Introduce(Box<Glance>),
    /// May the user write to somebody who has not written? Answered by [`LogOp::Permit`] with this number.
    MayWriteToStranger(LogId, u64),
    /// May more wait for the user in a log?
    Reserve(Reserve),
    /// A log has given back what it had reserved for the user.
    Released(LogId),
    /// The other member of a log is not as before: somebody of the user's who is here may have to know.
    PeerChanged(LogId),
    /// A person with whom the user has a chat that both wrote in is not as before.
    PersonChanged(UserId),
}

/// A log's wish that more may wait in it for a member. Answered by [`LogOp::Permit`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reserve {
    /// Which log.
    pub log: LogId,
    /// The number of the ask.
    pub number: u64,
    /// Bytes that it needs at least, all that waits in it already included.
    pub least: u64,
    /// Bytes that would spare it the next asks.
    pub wanted: u64,
}

/// What of a person may be shown to the one who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shown {
    /// The display name.
    pub name: bool,
    /// The phone.
    pub phone: bool,
}

/// What is asked of a log's owner.
#[derive(Debug)]
pub enum LogOp {
    /// Append an entry.
    Send {
        /// Who waits for the acknowledgement.
        origin: Origin,
        /// Who sends.
        author: Author,
        /// The device's number of it.
        client_id: ClientMessageId,
        /// The body's kind.
        kind: i32,
        /// The body.
        body: Bytes,
    },
    /// Move a device's position and its user's watermarks.
    Acknowledge {
        /// Who waits for the response, if the request's id is not 0.
        origin: Origin,
        /// Whose device.
        author: Author,
        /// Where to.
        upto: Watermarks,
    },
    /// Read a page of history.
    History {
        /// Who waits for it.
        origin: Origin,
        /// For whom.
        reader: UserId,
        /// Before or after which entry.
        from: Seq,
        /// After it.
        forwards: bool,
        /// How many entries at most, at least 1.
        limit: usize,
    },
    /// Read what a device lacks.
    Pull(Pull),
    /// Show the log at a glance.
    Glance(Glancer),
    /// Say who the peer of a member is, so far as the log lets it be known.
    Describe {
        /// Who waits for it.
        origin: Origin,
        /// The member who asks.
        reader: UserId,
        /// By the peer's phone, which proves no acquaintance and needs none.
        by_phone: bool,
    },
    /// A member is not as before: the other one is told, if both have written.
    Changed(UserId),
    /// The answer to an ask for the message at the head of the queue: that it may go to a stranger (`None`), or how many bytes
    /// may wait for its peer.
    Permit(u64, Result<Option<u64>, Refusal>),
    /// The devices of a member; `None` if there is no such user.
    Devices(UserId, Option<Vec<DeviceId>>),
    /// A member can't be read.
    Unreadable(UserId),
}

/// A device's wish for the entries that it lacks.
#[derive(Clone, Copy, Debug)]
pub struct Pull {
    /// The core that holds the connection.
    pub core: CoreId,
    /// The connection.
    pub conn: ConnId,
    /// For which device.
    pub author: Author,
    /// What it lacks.
    pub want: Want,
    /// The device's inbox holds the log's mark, if anything is missing.
    pub marked: bool,
    /// If something is missing and there is no mark, one is to be written first: what is pushed could be lost with the
    /// connection, and only the mark would tell.
    pub writes_mark: bool,
}

/// What a device lacks of a log, as far as its connection knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Want {
    /// From which entry on; `None`: behind the device's position.
    pub from: Option<Seq>,
    /// What the device says of itself, if that must be looked at.
    pub claim: Option<Claim>,
}

/// A device says that it has everything up to here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Up to here.
    pub upto: Seq,
    /// The store has had all runs under which the device stored it.
    pub trusted: bool,
}

/// Entries for a device that is catching up.
#[derive(Debug)]
pub struct Page {
    /// Of which log.
    pub log: LogId,
    /// What the device claimed can't be so: its position is here.
    pub rewound: Option<Seq>,
    /// Rising and dense.
    pub entries: Vec<Arc<Entry>>,
    /// Where the next page begins.
    pub next: Seq,
    /// The newest entry when the page was made.
    pub head: Seq,
    /// The peer's watermarks.
    pub peer: Watermarks,
    /// The device's own user's.
    pub own: Watermarks,
    /// The log could not be read: there is nothing else in the page.
    pub failed: Option<Unreadable>,
}

impl Page {
    /// In place of a page of a log that can't be read.
    pub fn failed(log: LogId, why: Unreadable) -> Self {
        Self {
            log,
            rewound: None,
            entries: Vec::new(),
            next: Seq(0),
            head: Seq(0),
            peer: Watermarks::default(),
            own: Watermarks::default(),
            failed: Some(why),
        }
    }
}

/// Who lists the chats of a user.
#[derive(Clone, Copy, Debug)]
pub struct Glancer {
    /// The core that holds the connection.
    pub core: CoreId,
    /// The connection.
    pub conn: ConnId,
    /// Which page of it.
    pub number: u64,
    /// Whose chats.
    pub reader: UserId,
}

/// A chat at a glance.
#[derive(Debug)]
pub struct Glance {
    /// For whom.
    pub asker: Glancer,
    /// Which log.
    pub log: LogId,
    /// Its newest entry's seq.
    pub head: Seq,
    /// Its newest entry.
    pub last: Option<Arc<Entry>>,
    /// Entries of the peer's that the reader has not read.
    pub unread: u64,
    /// The peer's watermarks.
    pub peer: Watermarks,
    /// The reader's own.
    pub own: Watermarks,
    /// What the reader may see of the peer.
    pub shown: Shown,
    /// The peer's display name, if it may be seen.
    pub name: String,
    /// The peer's phone, if it may be seen.
    pub phone: String,
    /// The log could not be read: nothing else of it is known.
    pub failed: Option<Unreadable>,
}

impl Glance {
    /// In place of one at a log that can't be read.
    pub fn failed(asker: Glancer, log: LogId, why: Unreadable) -> Self {
        Self {
            asker,
            log,
            head: Seq(0),
            last: None,
            unread: 0,
            peer: Watermarks::default(),
            own: Watermarks::default(),
            shown: Shown { name: false, phone: false },
            name: String::new(),
            phone: String::new(),
            failed: Some(why),
        }
    }
}

/// Why a log can't be read.
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
