//! What the owners of logs are asked and told.

use std::sync::Arc;

use bytes::Bytes;
use tern_proto::v1;
use tern_search::Query;
use tern_storage::{Epoch, LogId};
use tern_wire::errors::Refusal;
use tern_wire::group::InvitationHash;
use tern_wire::ids::{ClientMessageId, DeviceId, MediaId, Seq, UserId};
use tern_wire::message::Envelope;
use tern_wire::report::Report;
use tern_wire::request::{Doing, FoundUpTo};

use super::{Looker, Unreadable, Watermarks};
use crate::effects::Verdict;
use crate::entry::{Author, Entry};
use crate::logs::media::SeenMedia;
use crate::reply::{Asker, Origin, Parting, Reply, Scheduled};

/// What is asked of a log's owner, or told to it.
#[derive(Debug)]
pub enum LogOp {
    /// Append an entry.
    Send(Box<Send>),
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
    History(ReadHistory),
    /// Find messages by words.
    Search(Box<Search>),
    /// Attach messages that a member reports, and file the report.
    Report(Box<Reporting>),
    /// Give a link to a medium that goes with an entry.
    GetMedium(Box<MediumWanted>),
    /// Read what a device lacks.
    Pull(Box<Pull>),
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
    /// Say what a group is, and who its members are; or, to whoever has an invitation, what it is called.
    About(Origin, UserId, Option<InvitationHash>),
    /// Say who a member of a group is: for another one, about one.
    DescribeMember(Origin, UserId, UserId),
    /// A device wants to show who does what in a group.
    Look(Looker),
    /// A member of a group does something in it just now.
    Act(Box<Acts>),
    /// Something of entries is due, each since a time in ms since the Unix epoch. It is told again for as long as it is not done.
    Due(Vec<(u64, Seq)>),
    /// Take the words of entries that are gone out of the index, each due since a time. It is told again for as long as it is not done.
    CleanWords(Vec<(u64, Seq)>),
    /// Something is due in the log's slot at this time, in ms since the Unix epoch: a row says so, which the log's owner has not written.
    DueAt(u64),
    /// Cut off what is kept no longer. It is told again in the next round of the job.
    Cut,
    /// Do without a user whose account has ended. Answered by [`UserOp::Parted`](super::UserOp::Parted).
    Part(Parting),
    /// In a private log: what has become of a message that one of its entries says was to be sent: its place and time.
    Dispatched(Box<Dispatched>),
    /// What the owner of a member was told is lost, or what it was to be told: say where the log stands.
    Recover(UserId),
    /// A member is not as before: the other one is told, if both have written.
    Changed(UserId, u64),
    /// The answer to an ask for the message at the head of the queue: that it may go to a stranger, or name more people (`None`); or how
    /// many bytes may wait for its peer.
    Permit(u64, Result<Option<u64>, Refusal>),
    /// The devices of a member; `None` if there is no such user. And what it says of the other member of a direct chat.
    Devices(UserId, Option<Vec<DeviceId>>, Terms),
    /// What a member of a direct chat says of the other is not as before.
    Terms(UserId, Box<TermsTold>),
    /// Somebody lets themselves be taken into a group by this one, or not; `Err`: that can't be read.
    Comes(UserId, UserId, Result<bool, ()>),
    /// A member can't be read: for now, or ever.
    Unreadable(UserId, Unreadable),
    /// The devices of a member of a group are not as before; `None`: there is no such user any more.
    DevicesChanged(UserId, Option<Vec<DeviceId>>),
}

impl LogOp {
    /// Whether somebody waits for an answer, so that it may be refused.
    pub fn is_request(&self) -> bool {
        match self {
            Self::Act(acts) => acts.origin.is_some(),
            Self::Send(_)
            | Self::Acknowledge { .. }
            | Self::History(_)
            | Self::Search(_)
            | Self::Report(_)
            | Self::GetMedium(_)
            | Self::Pull(_)
            | Self::Glance(_)
            | Self::Describe { .. }
            | Self::About(..)
            | Self::DescribeMember(..) => true,
            Self::Recover(_)
            | Self::Changed(..)
            | Self::Look(_)
            | Self::Due(_)
            | Self::CleanWords(_)
            | Self::DueAt(_)
            | Self::Cut
            | Self::Part(_)
            | Self::Dispatched(..)
            | Self::DevicesChanged(..)
            | Self::Permit(..)
            | Self::Devices(..)
            | Self::Terms(..)
            | Self::Comes(..)
            | Self::Unreadable(..) => false,
        }
    }

    /// Whether somebody is shown something of the log.
    pub(crate) fn shows(&self) -> bool {
        match self {
            Self::History(_)
            | Self::Search(_)
            | Self::Report(_)
            | Self::GetMedium(_)
            | Self::Pull(_)
            | Self::Glance(_)
            | Self::About(..)
            | Self::DescribeMember(..)
            | Self::Recover(_) => true,
            Self::Send(_)
            | Self::Acknowledge { .. }
            | Self::Describe { .. }
            | Self::Changed(..)
            | Self::Look(_)
            | Self::Act(_)
            | Self::Due(_)
            | Self::CleanWords(_)
            | Self::DueAt(_)
            | Self::Cut
            | Self::Part(_)
            | Self::Dispatched(..)
            | Self::Permit(..)
            | Self::Devices(..)
            | Self::Terms(..)
            | Self::Comes(..)
            | Self::Unreadable(..)
            | Self::DevicesChanged(..) => false,
        }
    }

    /// Whether the log has asked for it: it is taken also while the log waits for nothing else.
    pub fn is_answer(&self) -> bool {
        matches!(
            self,
            Self::Permit(..) | Self::Devices(..) | Self::Terms(..) | Self::Comes(..) | Self::Unreadable(..)
        )
    }
}

/// What a member of a group does just now.
#[derive(Debug)]
pub struct Acts {
    /// Who waits for the answer.
    pub origin: Option<Origin>,
    /// Who does it.
    pub user: UserId,
    /// What.
    pub doing: Doing,
    /// Who is not told of it: whom the member blocks.
    pub not: Vec<u64>,
}

/// What a member of a direct chat has said of the other.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Terms {
    /// It blocks the other.
    pub blocks: bool,
    /// It does not tell what it reads, and is not told.
    pub hides_reads: bool,
}

/// Such, as they are from here on.
#[derive(Debug)]
pub struct TermsTold {
    /// What they are.
    pub terms: Terms,
    /// Who has said so, and is answered when they hold.
    pub then: Option<(Asker, Reply)>,
}

/// What has become of a message that was scheduled.
#[derive(Clone, Copy, Debug)]
pub struct Dispatched {
    /// Which.
    pub of: Scheduled,
    /// Its place, and when it was committed.
    pub sent: Result<(Seq, u64), Refusal>,
}

/// A message on its way into a log.
#[derive(Clone)]
pub struct Send {
    /// Who waits for the acknowledgement.
    pub asker: Asker,
    /// Who sends.
    pub author: Author,
    /// The device's number of it.
    pub client_id: ClientMessageId,
    /// The body's kind.
    pub kind: i32,
    /// It was asked before, of an owner that is gone.
    pub again: bool,
    /// The epoch of the log's slot, as the one who asks knows it.
    pub epoch: Epoch,
    /// The body.
    pub body: Bytes,
    /// What else is said of it.
    pub envelope: Option<Box<Envelope>>,
    /// What it has been allowed.
    pub permits: Permits,
    /// What its log has read for it: what it is about, and what goes with that.
    pub(crate) read: Vec<Entry>,
    /// Which of its media its log has seen to be there.
    pub(crate) media: SeenMedia,
}

impl Send {
    /// A message that has been allowed nothing yet, of which nothing else is said.
    pub fn new(
        asker: impl Into<Asker>,
        author: Author,
        client_id: ClientMessageId,
        kind: i32,
        body: Bytes,
    ) -> Self {
        Self {
            asker: asker.into(),
            author,
            client_id,
            kind,
            again: false,
            epoch: Epoch(0),
            body,
            envelope: None,
            permits: Permits::default(),
            read: Vec::new(),
            media: SeenMedia::default(),
        }
    }
}

/// Shows no content.
impl std::fmt::Debug for Send {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Send {{ {:?}, {:?}, {} bytes }}", self.author, self.client_id, self.body.len())
    }
}

/// What a message has been allowed by the owners of its users, and what was asked last. Its log fills it in.
#[derive(Clone, Copy, Default, Debug)]
pub struct Permits {
    /// It may go to somebody who has not written; make a group; in a private log, name more people.
    pub(crate) granted: bool,
    /// So many bytes may wait for the peer.
    pub(crate) reserved: Option<u64>,
    /// The number of the ask under way.
    pub(crate) asked: Option<u64>,
    /// In a group: its author's devices have been asked for.
    pub(crate) met: bool,
    /// Those whom it brings into a group have been asked for.
    pub(crate) guests: bool,
    /// It waits for one of these.
    pub(crate) waits_for_guests: bool,
    /// How far it is with the content filter.
    pub(crate) look: Look,
    /// It is at the head of the queue, and waits for that.
    pub(crate) waits_for_look: bool,
}

/// How far a message is with the content filter.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Look {
    /// It was not asked.
    #[default]
    Not,
    /// It was, under this number.
    Asked(u64),
    /// It says this.
    Seen(Verdict),
    /// Operators are to see the message, and its author's owner is asked whether there is room for it. It is allowed all else.
    Flagging,
    /// Operators are to see it; `false`: they have enough of its author's.
    Flagged(bool),
}

/// A wish for a page of what is found in a log.
#[derive(Clone, Debug)]
pub struct Search {
    /// Who waits for it.
    pub origin: Origin,
    /// For whom.
    pub reader: UserId,
    /// What.
    pub query: Arc<Query>,
    /// Behind what was found before.
    pub after: Option<FoundUpTo>,
    /// What is older is not wanted, in ms since the Unix epoch.
    pub floor_ms: u64,
    /// How many, at most.
    pub limit: usize,
}

/// Bytes of the bodies of what was found.
pub(crate) fn bytes_of_hit(hit: &v1::Hit) -> usize {
    [&hit.message, &hit.edit].into_iter().flatten().map(|entry| entry.body.len()).sum()
}

/// What was found in a log.
pub struct FoundPage {
    /// In which.
    pub log: LogId,
    /// The newest first.
    pub hits: Vec<(FoundUpTo, v1::Hit)>,
    /// Up to here all is given, and there may be more behind; `None`: there is not.
    pub goes_on: Option<FoundUpTo>,
}

/// Shows no content.
impl std::fmt::Debug for FoundPage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FoundPage {{ {:?}, {} hits }}", self.log, self.hits.len())
    }
}

/// A wish for a page of history.
#[derive(Clone, Copy, Debug)]
pub struct ReadHistory {
    /// Who waits for it.
    pub origin: Origin,
    /// For whom.
    pub reader: UserId,
    /// Before or after which entry.
    pub from: Seq,
    /// After it.
    pub forwards: bool,
    /// How many entries at most, at least 1.
    pub limit: usize,
}

/// A device's wish for the entries that it lacks.
#[derive(Clone, Copy, Debug)]
pub struct Pull {
    /// The connection.
    pub origin: Origin,
    /// For which device.
    pub author: Author,
    /// What it lacks.
    pub want: Want,
    /// The device's inbox holds the log's mark, if anything is missing.
    pub marked: bool,
    /// If something is missing and there is no mark, one is to be written first: what is pushed could be lost with the
    /// connection, and only the mark would tell. `false`: that was tried, and the store takes nothing.
    pub writes_mark: bool,
    /// All that was written of the log when it was asked for is durable, its marks too. A store may make what one core writes durable
    /// before what another one wrote earlier: that a device is new no more must not come before the marks that it then relies on.
    pub flushed: bool,
    /// In a group: the device has been asked for.
    pub met: bool,
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

/// Who wants to know how a chat of a user is.
#[derive(Clone, Copy, Debug)]
pub enum GlanceFor {
    /// A connection, which lists chats.
    List(Origin),
    /// The user's owner, by the look of this number, to have devices told; with the name of the other one?
    Pushes {
        /// The number.
        number: u64,
        /// With it.
        named: bool,
    },
}

/// See [`GlanceFor`].
#[derive(Clone, Copy, Debug)]
pub struct Glancer {
    /// Who.
    pub asker: GlanceFor,
    /// Whose chats.
    pub reader: UserId,
}

/// A wish for a link to a medium that goes with an entry, or is a picture.
#[derive(Clone, Copy, Debug)]
pub struct MediumWanted {
    /// Who waits for it.
    pub origin: Origin,
    /// For whom.
    pub reader: UserId,
    /// With which entry it goes; 0: it is the picture.
    pub seq: Seq,
    /// Which.
    pub medium: MediaId,
}

/// A report of messages of a log.
#[derive(Clone, Debug)]
pub struct Reporting {
    /// Who waits for the answer.
    pub origin: Origin,
    /// Who reports.
    pub reporter: UserId,
    /// The messages, rising.
    pub seqs: Vec<Seq>,
    /// All else.
    pub report: Report,
}
