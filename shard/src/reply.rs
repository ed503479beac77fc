//! Responses, and the way back to the request that each answers.

use tern_proto::v1::{self, server_frame::Message};
use tern_storage::LogId;
use tern_wire::errors::{Farewell, Reason, Refusal};
use tern_wire::ids::{ClientMessageId, Seq, UserId};
use tern_wire::request::VERSIONS;

use crate::asks::AskId;
use crate::durable::DurableSeq;
use crate::slots::{CoreId, ProcessId};

/// A connection of one core: the shell's dense index and a generation, so that what comes late finds nobody.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId {
    /// Index of the connection on its core.
    pub index: u32,
    /// Counts the connections that had this index.
    pub generation: u32,
}

/// Where a connection is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    /// The process that holds it.
    pub process: ProcessId,
    /// The core of it.
    pub core: CoreId,
    /// The connection.
    pub conn: ConnId,
}

/// Where an ask came from: its answer goes there, and carries its number back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The connection.
    pub place: Place,
    /// The number, among those of the connection's core.
    pub ask: AskId,
}

/// Who waits for what becomes of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asker {
    /// A connection.
    Connection(Origin),
    /// A private log, of which an entry says that it was to be sent.
    Schedule(Scheduled),
    /// The owner of a user whose account has ended, and who leaves a group.
    Parting(Parting),
    /// Nobody.
    Nobody,
}

/// A user whose account has ended is to leave a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parting {
    /// Who.
    pub user: UserId,
    /// Which log.
    pub log: LogId,
    /// The number of the user's owner's work.
    pub number: u64,
}

/// Something that was to be sent when its time had come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scheduled {
    /// Whose private log says so.
    pub user: UserId,
    /// By which of its entries.
    pub seq: Seq,
    /// To which chat, as the user names it.
    pub chat: u64,
}

impl Scheduled {
    /// The private log.
    pub fn log(&self) -> LogId {
        LogId::Private(self.user.get())
    }
}

impl From<Origin> for Asker {
    fn from(origin: Origin) -> Self {
        Self::Connection(origin)
    }
}

/// The end of a connection that waits for a write of unknown result.
pub(crate) const UNKNOWN: Farewell =
    Farewell::new(Reason::Unavailable, "whether it was written is not known: ask again");

/// A response.
#[derive(Debug)]
pub enum Reply {
    /// To `Hello`.
    Welcome(Box<v1::Welcome>),
    /// To `Hello`, when there is no common version.
    VersionUnsupported,
    /// To `Register`.
    CodeSent(v1::CodeSent),
    /// To `Verify` and `Refresh`.
    Session(Box<v1::Session>),
    /// To `Login`.
    LoggedIn(v1::LoggedIn),
    /// To `Lookup`.
    Person(Box<v1::Person>),
    /// To `Discover`: users, in the order of their numbers; 0: nobody.
    Discovered(Vec<u64>),
    /// To `Send`: the acknowledgement, and when the entry ends, in ms since the Unix epoch; 0: never.
    Sent(DurableSeq, ClientMessageId, u64),
    /// To `CreateGroup`: the acknowledgement, and which group it is.
    GroupCreated(DurableSeq, ClientMessageId, u64),
    /// To `Subscribe`.
    Subscribed,
    /// To `Activity`.
    ActivityTold,
    /// To `AboutGroup`.
    Group(Box<v1::Group>),
    /// To `Acknowledge`.
    Acknowledged,
    /// To `Resume`.
    Resumed {
        /// What the device says of its positions comes from runs that this store has not had.
        rewound: bool,
    },
    /// To `History`.
    HistoryPage(Box<v1::HistoryPage>),
    /// To `Search`.
    Found(Box<v1::Found>),
    /// To `Chats`.
    ChatsPage(v1::ChatsPage),
    /// To `Devices`.
    DeviceList(v1::DeviceList),
    /// To `NewLink`.
    LinkCode(v1::LinkCode),
    /// To `NewCard`.
    Card(v1::Card),
    /// To `EndDevice`.
    DeviceEnded,
    /// To `RingDevice`.
    DeviceRung {
        /// The device has a connection, which is told.
        connected: bool,
    },
    /// To `Rename`.
    Renamed,
    /// To `Report`.
    Reported,
    /// To `AboutMedia`.
    MediaPlace(Box<v1::MediaPlace>),
    /// To `GetMedium`.
    MediumLink(Box<v1::MediumLink>),
    /// To `PostStory`.
    StoryMade(v1::StoryMade),
    /// To `DeleteStory`.
    StoryDeleted,
    /// To `ListStories`.
    StoriesPage(Box<v1::StoriesPage>),
    /// To `SeeStory`.
    StoryMarked,
    /// To `ListViewers`.
    ViewersPage(Box<v1::ViewersPage>),
    /// To `SetPin`.
    PinSet,
    /// To `SetPush`.
    PushSet,
    /// To `AboutPush`.
    PushPlaces(Box<v1::PushPlaces>),
    /// To `DeleteAccount`: when it ends, in ms since the Unix epoch.
    AccountEnds(u64),
    /// To `Ping`.
    Pong(v1::Pong),
    /// To any request.
    Refused(Refusal),
    /// In place of an answer: whether it has happened is not known. The connection ends, and a retry tells.
    Unknown,
}

/// What is known of a write that did not become durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Undone {
    /// Nothing of it is in the store.
    Refused(Refusal),
    /// It may be in the store or not: nobody can tell before it is opened again.
    Unknown,
}

impl From<Undone> for Reply {
    fn from(undone: Undone) -> Self {
        match undone {
            Undone::Refused(refusal) => Self::Refused(refusal),
            Undone::Unknown => Self::Unknown,
        }
    }
}

impl Reply {
    /// The frame that answers request `id`.
    pub fn into_frame(self, id: u64) -> v1::ServerFrame {
        let message = match self {
            Self::Welcome(welcome) => Message::Welcome(*welcome),
            Self::VersionUnsupported => Message::Refused(v1::Refused {
                reason: Reason::VersionUnsupported.into(),
                detail: "there is no common protocol version".to_owned(),
                version_min: *VERSIONS.start(),
                version_max: *VERSIONS.end(),
                ..Default::default()
            }),
            Self::CodeSent(sent) => Message::CodeSent(sent),
            Self::Session(session) => Message::Session(*session),
            Self::LoggedIn(login) => Message::LoggedIn(login),
            Self::Person(person) => Message::Person(*person),
            Self::Discovered(user_ids) => Message::Discovered(v1::Discovered { user_ids }),
            Self::Sent(proof, _, expires_ms) => {
                Message::Sent(v1::Sent { seq: proof.seq().0, time_ms: proof.time_ms(), expires_ms })
            }
            Self::GroupCreated(proof, _, chat) => {
                Message::GroupCreated(v1::GroupCreated { chat, seq: proof.seq().0, time_ms: proof.time_ms() })
            }
            Self::Group(group) => Message::Group(group),
            Self::Subscribed => Message::Subscribed(v1::Subscribed {}),
            Self::ActivityTold => Message::ActivityTold(v1::ActivityTold {}),
            Self::Acknowledged => Message::Acknowledged(v1::Acknowledged {}),
            Self::Resumed { rewound } => Message::Resumed(v1::Resumed { rewound }),
            Self::HistoryPage(page) => Message::HistoryPage(*page),
            Self::Found(found) => Message::Found(*found),
            Self::ChatsPage(page) => Message::ChatsPage(page),
            Self::DeviceList(list) => Message::DeviceList(list),
            Self::LinkCode(code) => Message::LinkCode(code),
            Self::Card(card) => Message::Card(card),
            Self::DeviceEnded => Message::DeviceEnded(v1::DeviceEnded {}),
            Self::DeviceRung { connected } => Message::DeviceRung(v1::DeviceRung { connected }),
            Self::Renamed => Message::Renamed(v1::Renamed {}),
            Self::Reported => Message::Reported(v1::Reported {}),
            Self::MediaPlace(place) => Message::MediaPlace(*place),
            Self::MediumLink(link) => Message::MediumLink(*link),
            Self::StoryMade(made) => Message::StoryMade(made),
            Self::StoryDeleted => Message::StoryDeleted(v1::StoryDeleted {}),
            Self::StoriesPage(page) => Message::StoriesPage(*page),
            Self::StoryMarked => Message::StoryMarked(v1::StoryMarked {}),
            Self::ViewersPage(page) => Message::ViewersPage(*page),
            Self::PinSet => Message::PinSet(v1::PinSet {}),
            Self::PushSet => Message::PushSet(v1::PushSet {}),
            Self::PushPlaces(places) => Message::PushPlaces(*places),
            Self::AccountEnds(at_ms) => Message::AccountEnds(v1::AccountEnds { at_ms }),
            Self::Pong(pong) => Message::Pong(pong),
            Self::Refused(refusal) => Message::Refused(refusal.into()),
            Self::Unknown => {
                return v1::ServerFrame { id: 0, message: Some(Message::GoAway(UNKNOWN.into())) };
            }
        };
        v1::ServerFrame { id, message: Some(message) }
    }
}
