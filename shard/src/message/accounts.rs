//! What the owners of networks, phones and users are asked and told.

use std::sync::Arc;

use tern_storage::LogId;
use tern_storage::records::ReportRecord;
use tern_wire::ids::{DeviceId, GroupId, MediaId, Name, Phone, PhoneHash, Seq, UserId};
use tern_wire::push::SetPush;
use tern_wire::report::Report;
use tern_wire::request::{Doing, Link, Lookup, Pin, Refresh, Rename, Verify};

use super::{Glance, Looker, Page, Search, Sees, Send, StoryOp, Watermarks};
use crate::effects::Pushed;
use crate::entry::{Author, Entry};
use crate::network::Network;
use crate::reply::{Asker, Origin, Parting, Place, Reply};

/// What is asked of a network's owner: may it? If so, the phone's owner goes on.
#[derive(Debug)]
pub enum NetworkOp {
    /// Ask for a code for this phone?
    Register(Origin, Phone),
    /// Try a code?
    Verify(Origin, Box<Verify>),
    /// Take up so many requests at once, whatever they are? For the core of this connection.
    Lease(Place, u32),
    /// So many of those were not made.
    GiveBack(u32),
}

impl NetworkOp {
    /// Whether somebody waits for an answer, so that it may be refused.
    pub(crate) fn is_request(&self) -> bool {
        match self {
            Self::Register(..) | Self::Verify(..) | Self::Lease(..) => true,
            Self::GiveBack(_) => false,
        }
    }
}

/// What is asked of a phone's owner.
#[derive(Debug)]
pub enum PhoneOp {
    /// Send a one-time code. From this network.
    Register(Origin, Network),
    /// Check a code and add a device. From this network.
    Verify(Origin, Network, Box<Verify>),
    /// An operator's question, answered under its number.
    Admin(u64, PhoneQuestion),
    /// End the account of this user, if it is the phone's: work of this number.
    End(UserId, u64),
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

/// What is asked of a user's owner, or told to it.
#[derive(Debug)]
pub enum UserOp {
    /// A connection has proven to be a device of the user: may it stand for it?
    Attach(Box<Attach>),
    /// The connection stands for the device no more.
    Detach(DeviceId, Place),
    /// A connection of a device shows these from now on: may it?
    Subscribe(Option<Origin>, Box<Subscribing>),
    /// Whether somebody looks at the device: otherwise the user is not here by it.
    Appears(DeviceId, Place, bool),
    /// Somebody wants to see whether the user is here.
    LookedAt(Box<LookedAt>),
    /// Somebody looks at the user, or nobody any more: whether the user is here is told to whoever shows it.
    IsLookedAt(bool),
    /// A device of the user shows this one, who lets others see something else than before.
    LookAgain(Looker, UserId),
    /// The user does something in a chat just now.
    Act(Option<Origin>, LogId, Doing),
    /// The peer does something in the direct chat with the user just now.
    PeerActs(UserId, Doing),
    /// The connection is about to follow the user to its owner's core: may it go?
    Leave(Origin, DeviceId),
    /// A connection asks for a step of its device's inbox.
    Inbox(InboxAsk),
    /// A connection was pushed all of a log up to an entry, which stays in the inbox until it is acknowledged.
    Pushed(DeviceId, LogId, Seq),
    /// A connection lacked nothing of a log, which was in the inbox, up to an entry.
    LackedNothing(DeviceId, LogId, Seq),
    /// The connection has been pushed all that its device lacked.
    CaughtUp(DeviceId, Place),
    /// The device is here, on another day than before.
    Seen(DeviceId),
    /// Exchange a refresh token.
    Refresh(Origin, DeviceId, Box<Refresh>),
    /// May the user send a message? Then it goes on to the log.
    Send(LogId, Box<Send>),
    /// The user tells the operators of somebody.
    Report(Origin, Box<Report>),
    /// Somebody tells the operators of the user.
    File(Origin, Box<Filed>),
    /// What the user has scheduled is to be sent to a log.
    Dispatch(LogId, Box<Send>),
    /// Makes a group, as a message of the user's. Its log is found here.
    CreateGroup(Box<Send>),
    /// Whom the user looks up.
    LookUp(Origin, Lookup),
    /// Who of the user's address book is here.
    Discover(Origin, Box<[PhoneHash]>),
    /// A part of the user's logs, for a page of chats: those behind a log, so many.
    ListLogs(Origin, Option<LogId>, usize),
    /// The same for a search in all of them, which counts as one.
    SearchLogs(Origin, Option<LogId>, usize),
    /// A search in one of the user's logs. It was asked for alone, so it counts.
    Search(LogId, Box<Search>),
    /// The user's devices.
    ListDevices(Origin),
    /// Ends a device of the user: for the one that asks, the other.
    EndDevice(Origin, DeviceId, DeviceId),
    /// What the device that asks carries elsewhere.
    Issue(Origin, DeviceId, Issued),
    /// The user's card, or another one, for the device that asks.
    NewCard(Origin, DeviceId, bool),
    /// Adds a device by such a code.
    Link(Origin, Box<Link>),
    /// Has a device of the user ring: for the one that asks, the other.
    RingDevice(Origin, DeviceId, DeviceId),
    /// Gives the user, or the device that asks, another name.
    Rename(Origin, DeviceId, Box<Rename>),
    /// Have the account otherwise.
    Set(Origin, DeviceId, Box<Setting>),
    /// Something has become of what devices of the user are told.
    OfPushes(Box<OfPushes>),
    /// A log of the user is in use: tell its owner the user's devices now and when they change.
    Watch(LogId),
    /// It is in use no more.
    Unwatch(LogId),
    /// The user's devices are not as before: tell these groups.
    TellDevices(Vec<LogId>),
    /// A page for a device that catches up, on its way to its connection.
    Page(Origin, Box<Page>),
    /// A retry is answered, with how far the others are: as a page is, and for the same reason.
    SentAgain(Origin, Box<(Reply, LogId, Watermarks)>),
    /// Where a log of the user stands, of which something may be lost.
    Stands(Box<Standing>),
    /// An entry of a log of the user is durable.
    Appended(Arc<Entry>),
    /// The same, where the devices were not told of what is before it from this entry on, for it is withheld. `None`: nobody knows from
    /// where on, or the user has come into a group by it.
    Grown(Arc<Entry>, Option<Seq>),
    /// What the user has said of others, or of what they may see, is durable.
    Said(Box<Said>),
    /// All others in a group of the user have got so far, durably.
    OthersAdvanced(LogId, Watermarks),
    /// A device of the user has a log up to an entry, and knows what was read of it, durably.
    Acknowledged(DeviceId, LogId, Seq),
    /// A member's watermarks in a log of the user are durable. By this device; and whether there is more that its other ones are
    /// to know as read.
    Advanced(LogId, Author, Watermarks, bool),
    /// Say who the user is, so far as it may be shown.
    Describe(Origin, Shown),
    /// Say who the user is to the one who lists chats, so far as it may be shown.
    Introduce(Box<Glance>),
    /// May the user write this, by its fingerprint, to somebody who has not written? Answered by
    /// [`LogOp::Permit`](super::LogOp::Permit) with this number.
    MayWriteToStranger(LogId, u64, u64),
    /// May the user make a group? Answered by [`LogOp::Permit`](super::LogOp::Permit) with this number.
    MayMakeGroup(LogId, u64),
    /// Is there room for one more message of the user's that the content filter has operators see? Answered by
    /// [`LogOp::Permit`](super::LogOp::Permit) with this number: with some room, or none.
    MayFlag(LogId, u64),
    /// May this one take the user into a group? Answered by [`LogOp::Comes`](super::LogOp::Comes).
    MayCome(LogId, UserId),
    /// May the user name so many more people as contacts, or as blocked? Answered by [`LogOp::Permit`](super::LogOp::Permit) with this
    /// number.
    MayName(LogId, u64, Named),
    /// May more wait for the user in a log?
    Reserve(Reserve),
    /// A log has given back what it had reserved for the user.
    Released(LogId),
    /// A log does without the user, whose account has ended, or could not do so now.
    Parted(Parting, bool),
    /// The other member of a log is not as before: somebody of the user's who is here may have to know.
    /// With the version of what the user sees of them.
    PeerChanged(LogId, u64),
    /// A person with whom the user has a chat that both wrote in is not as before, but of this version.
    PersonChanged(UserId, u64),
    /// Of the user's stories, or of those that the user may see.
    Story(Box<StoryOp>),
}

/// How a device wants an account to be.
#[derive(Debug)]
pub enum Setting {
    /// With this PIN, or none.
    Pin(Pin),
    /// Itself told so by a push service, or not any more.
    Push(SetPush),
    /// At its end, after a while, if this is its PIN.
    End(Pin),
}

/// What a device gets to carry elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issued {
    /// A code by which another device is added.
    Link,
    /// Where it uploads media, and its token.
    AboutMedia,
    /// Which push services there are, and which one tells it.
    AboutPush,
}

/// What has become of something that devices are told by push services.
#[derive(Debug)]
pub enum OfPushes {
    /// Of the look of this number: how the chat is.
    Glanced(u64, Box<Glance>),
    /// Of a notice.
    Pushed(Pushed),
}

impl UserOp {
    /// The log whose owner says so, of what follows from what is under way there.
    pub(crate) fn said_by(&self) -> Option<LogId> {
        match self {
            Self::Watch(log)
            | Self::Unwatch(log)
            | Self::Acknowledged(_, log, _)
            | Self::Advanced(log, ..)
            | Self::OthersAdvanced(log, _)
            | Self::MayWriteToStranger(log, ..)
            | Self::MayMakeGroup(log, _)
            | Self::MayFlag(log, _)
            | Self::MayName(log, ..)
            | Self::MayCome(log, _)
            | Self::Released(log) => Some(*log),
            Self::Appended(entry) | Self::Grown(entry, _) => Some(entry.log),
            Self::Said(said) => Some(said.entry.log),
            Self::Reserve(reserve) => Some(reserve.log),
            Self::Stands(standing) => Some(standing.log),
            Self::Parted(parting, _) => Some(parting.log),
            Self::Page(_, page) => Some(page.log),
            Self::SentAgain(_, again) => Some(again.1),
            Self::Attach(_)
            | Self::Detach(..)
            | Self::Leave(..)
            | Self::Inbox(_)
            | Self::Pushed(..)
            | Self::LackedNothing(..)
            | Self::CaughtUp(..)
            | Self::Seen(_)
            | Self::Subscribe(..)
            | Self::Appears(..)
            | Self::LookedAt(_)
            | Self::IsLookedAt(_)
            | Self::LookAgain(..)
            | Self::Act(..)
            | Self::PeerActs(..)
            | Self::Refresh(..)
            | Self::Send(..)
            | Self::Report(..)
            | Self::File(..)
            | Self::Dispatch(..)
            | Self::CreateGroup(_)
            | Self::LookUp(..)
            | Self::Discover(..)
            | Self::ListLogs(..)
            | Self::SearchLogs(..)
            | Self::Search(..)
            | Self::ListDevices(_)
            | Self::EndDevice(..)
            | Self::Issue(..)
            | Self::NewCard(..)
            | Self::Link(..)
            | Self::RingDevice(..)
            | Self::Rename(..)
            | Self::Set(..)
            | Self::OfPushes(_)
            | Self::TellDevices(_)
            | Self::Describe(..)
            | Self::Introduce(_) => None,
            // It is of no log.
            Self::PeerChanged(..) | Self::PersonChanged(..) | Self::Story(_) => None,
        }
    }

    /// Whether somebody waits for an answer, so that it may be refused.
    pub fn is_request(&self) -> bool {
        match self {
            Self::Subscribe(origin, _) | Self::Act(origin, ..) => origin.is_some(),
            Self::Story(op) => op.is_request(),
            Self::Attach(_)
            | Self::Inbox(_)
            | Self::Refresh(..)
            | Self::Send(..)
            | Self::Report(..)
            | Self::File(..)
            | Self::Dispatch(..)
            | Self::CreateGroup(_)
            | Self::LookUp(..)
            | Self::Discover(..)
            | Self::ListLogs(..)
            | Self::SearchLogs(..)
            | Self::Search(..)
            | Self::ListDevices(_)
            | Self::EndDevice(..)
            | Self::Issue(..)
            | Self::NewCard(..)
            | Self::Link(..)
            | Self::RingDevice(..)
            | Self::Rename(..)
            | Self::Set(..)
            | Self::Watch(_)
            | Self::Describe(..)
            | Self::Introduce(_)
            | Self::MayWriteToStranger(..)
            | Self::MayMakeGroup(..)
            | Self::MayFlag(..)
            | Self::MayName(..)
            | Self::MayCome(..)
            | Self::Reserve(_) => true,
            Self::Detach(..)
            | Self::OfPushes(_)
            | Self::Leave(..)
            | Self::Pushed(..)
            | Self::LackedNothing(..)
            | Self::CaughtUp(..)
            | Self::Seen(_)
            | Self::Appears(..)
            | Self::LookedAt(_)
            | Self::IsLookedAt(_)
            | Self::LookAgain(..)
            | Self::PeerActs(..)
            | Self::Unwatch(_)
            | Self::TellDevices(_)
            | Self::Page(..)
            | Self::SentAgain(..)
            | Self::Stands(_)
            | Self::Appended(_)
            | Self::Grown(..)
            | Self::Said(_)
            | Self::Acknowledged(..)
            | Self::Advanced(..)
            | Self::OthersAdvanced(..)
            | Self::Released(_)
            | Self::Parted(..) => false,
            Self::PeerChanged(..) | Self::PersonChanged(..) => false,
        }
    }
}

/// Where a log stands, durably.
#[derive(Debug)]
pub struct Standing {
    /// Which.
    pub log: LogId,
    /// The devices of the user that have not acknowledged it up to the newest entry that they did not write themselves, and that entry.
    pub behind: Vec<(DeviceId, Seq)>,
    /// The watermarks of the user (where that is not the peer), and (`None`) of all others.
    pub marks: Vec<(Option<UserId>, Watermarks)>,
}

/// A connection that has proven whose it is.
#[derive(Debug)]
pub struct Attach {
    /// The connection.
    pub origin: Origin,
    /// Which device it has proven to be.
    pub author: Author,
    /// The session that its token names; `None`: it has stood for the device, and its user's owner has come to be another one.
    pub session: Option<u64>,
    /// Its number in its process: of two, the one with the higher one was opened later, and stays.
    pub number: u64,
}

/// A wish for a step of an inbox.
#[derive(Clone, Copy, Debug)]
pub struct InboxAsk {
    /// The connection.
    pub origin: Origin,
    /// Its device.
    pub device: DeviceId,
    /// The first step; the steps after it begin behind this log.
    pub after: Option<LogId>,
}

/// A log's wish that more may wait in it for a member. Answered by [`LogOp::Permit`](super::LogOp::Permit).
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

/// What a connection of a device is to show beside what it shows.
#[derive(Clone, Debug)]
pub struct Subscribing {
    /// The device, and its connection.
    pub looker: Looker,
    /// People.
    pub users: Vec<UserId>,
    /// Groups.
    pub groups: Vec<GroupId>,
}

/// A wish to see whether a user is here.
#[derive(Clone, Copy, Debug)]
pub struct LookedAt {
    /// Whose.
    pub looker: Looker,
    /// What the one who looks lets the user see: nobody sees of others what they hide.
    pub shares: Sees,
}

/// How many people somebody names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Named {
    /// As contacts.
    Contacts(usize),
    /// One, whose stories are muted.
    Muted,
    /// One, as blocked.
    Blocked,
}

/// An entry of a user's private log that says something of others.
#[derive(Debug)]
pub struct Said {
    /// The entry.
    pub entry: Arc<Entry>,
    /// Who is answered when what it says holds.
    pub asker: Asker,
    /// With what.
    pub reply: Reply,
}

/// What somebody tells the operators of a user.
#[derive(Clone, Debug)]
pub struct Filed {
    /// Who.
    pub reporter: UserId,
    /// Under which number of the reporter.
    pub number: u64,
    /// What: all but when.
    pub record: ReportRecord,
}

/// What of a person may be shown to the one who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shown {
    /// To whom.
    pub to: UserId,
    /// The display name.
    pub name: bool,
    /// The phone.
    pub phone: bool,
    /// In place of all that: a link to this medium, if it is the picture, and they may see that.
    pub picture: Option<MediaId>,
}
