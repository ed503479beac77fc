//! What the front is told: answers, and what is to be pushed.

use std::collections::BTreeMap;
use std::sync::Arc;

use tern_storage::LogId;
use tern_storage::records::ChatSettingsRecord;
use tern_wire::errors::{Farewell, Refusal};
use tern_wire::ids::{DeviceId, Seq, UserId};
use tern_wire::request::Doing;
use tern_wire::story::StoryId;

use super::{FoundPage, Glancer, PostedStory, Shown, Subject, Unreadable, Watermarks};
use crate::asks::AskId;
use crate::entry::{Author, Entry};
use crate::limits::{LAG_LOGS_MAX, NOTICES_MISSED_MAX};
use crate::mutations::{Mutation, is};
use crate::network::Network;
use crate::reply::Reply;

/// What a connection is told.
#[derive(Debug)]
pub enum FrontOp {
    /// The answer to a request of it.
    Reply(AskId, Reply),
    /// The same for a message that had been sent before, and how far all others have got in its log since.
    SentAgain(AskId, Box<(Reply, LogId, Watermarks)>),
    /// It stands for a device from now on.
    Attached(AskId, Box<Attached>),
    /// It may follow its user to another core: what it was told has come, and what is to be told is noted from now on.
    MayGo(AskId),
    /// It can't stand for the device that it has proven to be.
    NotAttached(AskId, Refusal),
    /// A step of the device's inbox; `Err`: it can't be read.
    Inbox(AskId, Result<Box<InboxStep>, Unreadable>),
    /// Which logs a page of the list of chats is of; `Err`: why there is none.
    Logs(AskId, Result<LogsPage, Refusal>),
    /// What was found in a log; `Err`: why nothing was looked for.
    Found(AskId, Result<Box<FoundPage>, Refusal>),
    /// What a [`Pull`](super::Pull) gave.
    Page(AskId, Box<Page>),
    /// What a look at a chat for the list of chats gave.
    Glance(Box<Glance>),
    /// An entry of a log of its user is durable.
    Entry(Arc<Entry>),
    /// The device was not told of a log from this entry on.
    Lacks(LogId, Seq),
    /// The device has not acknowledged a log up to this entry, and what it was told of it may be lost.
    Behind(LogId, Seq),
    /// The user has got further in a log, or (`None`) all others have, durably.
    Watermarks(LogId, Option<UserId>, Watermarks),
    /// Something of interest that the device can find out otherwise.
    Notice(Notice),
    /// It asks again for whom it shows (`None`), or for this one: its user lets others see something else, or it could not be answered.
    LookAgain(Option<Subject>),
    /// To the core rather than the connection: so many more requests of this network may be taken up, or none for so many
    /// milliseconds.
    Leased(Network, Result<u32, u64>),
    /// It has to end.
    End(Farewell),
}

/// A connection stands for a device.
#[derive(Debug)]
pub struct Attached {
    /// The device.
    pub device: Author,
    /// The user's name.
    pub name: String,
    /// The highest device number that the user has given out.
    pub newest_device: u32,
    /// The connection has followed its user, and was not told this meanwhile. `None`: it has not, or nobody knows.
    pub missed: Option<Box<Missed>>,
}

/// What a connection was not told while it followed its user to another core.
#[derive(Debug, Default)]
pub struct Missed {
    /// In these logs something has happened.
    pub logs: BTreeMap<LogId, MissedOf>,
    /// These it would have been told.
    pub notices: Vec<Notice>,
}

/// The same of one log.
#[derive(Clone, Copy, Debug, Default)]
pub struct MissedOf {
    /// The first entry that it was not pushed.
    pub entry: Option<Seq>,
    /// What it was told before may be lost; the newest entry then.
    pub doubted: Option<Seq>,
    /// Watermarks, and those of its own user among them.
    pub marks: bool,
    /// See there.
    pub own_marks: bool,
}

impl Missed {
    fn note_entry(&mut self, log: LogId, seq: Seq) {
        let known = &mut self.logs.entry(log).or_default().entry;
        *known = Some(known.map_or(seq, |known| known.min(seq)));
    }

    /// Notes what a connection is not told. `false`: it is so much that all of it is to be found out otherwise.
    pub(crate) fn note(&mut self, op: FrontOp) -> bool {
        if is(Mutation::ForgetMissed) {
            return true;
        }
        match op {
            FrontOp::Entry(entry) => self.note_entry(entry.log, entry.seq),
            FrontOp::Lacks(log, from) => self.note_entry(log, from),
            FrontOp::Behind(log, newest) => {
                let known = &mut self.logs.entry(log).or_default().doubted;
                *known = (*known).max(Some(newest));
            }
            FrontOp::Watermarks(log, member, _) => {
                let of_log = self.logs.entry(log).or_default();
                of_log.marks = true;
                of_log.own_marks |= member.is_some();
            }
            FrontOp::Notice(notice) => {
                if self.notices.len() < NOTICES_MISSED_MAX {
                    self.notices.push(notice);
                }
            }
            // Whether its device may still be there it hears when it has come; and then it asks anew what it shows.
            FrontOp::End(_) | FrontOp::LookAgain(_) => {}
            FrontOp::Reply(..)
            | FrontOp::SentAgain(..)
            | FrontOp::Attached(..)
            | FrontOp::NotAttached(..)
            | FrontOp::MayGo(_)
            | FrontOp::Inbox(..)
            | FrontOp::Logs(..)
            | FrontOp::Found(..)
            | FrontOp::Page(..)
            | FrontOp::Leased(..)
            | FrontOp::Glance(_) => unreachable!("these are answers, and who has asked does not go"),
        }
        self.logs.len() <= LAG_LOGS_MAX
    }
}

/// A part of what a device's inbox holds.
#[derive(Debug)]
pub struct InboxStep {
    /// These logs, rising, have entries that the device has not acknowledged, or may have.
    pub logs: Vec<LogId>,
    /// The inbox holds a mark of each of them.
    pub marked: bool,
    /// Up to here no others; `None`: there are no others at all.
    pub upto: Option<LogId>,
}

/// A part of the logs of a user.
#[derive(Clone, Debug)]
pub struct LogsPage {
    /// Rising, each with how the user has it, if that was ever said.
    pub logs: Vec<(LogId, Option<ChatSettingsRecord>)>,
    /// There are more behind them.
    pub more: bool,
}

/// Entries for a device that is catching up.
#[derive(Debug)]
pub struct Page {
    /// Of which log.
    pub log: LogId,
    /// What the device claimed can't be so: its position is here.
    pub rewound: Option<Seq>,
    /// The log shows the device nothing before this entry, by which its user has come.
    pub begins: Option<Seq>,
    /// Rising and dense.
    pub entries: Vec<Arc<Entry>>,
    /// Where the next page begins.
    pub next: Seq,
    /// The newest entry when the page was made.
    pub head: Seq,
    /// The watermarks of the others: what all of them have reached.
    pub others: Watermarks,
    /// The device's own user's.
    pub own: Watermarks,
    /// The device has not said that it knows what its user has read.
    pub lacks_read: bool,
    /// The store took no mark: that the device lacks anything of this log may be known nowhere but where it stands as a new one.
    pub unmarked: bool,
    /// The log could not be read: there is nothing else in the page.
    pub failed: Option<Unreadable>,
}

impl Page {
    /// In place of a page of a log that can't be read.
    pub fn failed(log: LogId, why: Unreadable) -> Self {
        Self {
            log,
            rewound: None,
            begins: None,
            entries: Vec::new(),
            next: Seq(0),
            head: Seq(0),
            others: Watermarks::default(),
            own: Watermarks::default(),
            lacks_read: false,
            unmarked: false,
            failed: Some(why),
        }
    }
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
    /// Messages of others that the reader has not read.
    pub unread: u64,
    /// The watermarks of the others: what all of them have reached.
    pub others: Watermarks,
    /// The reader's own.
    pub own: Watermarks,
    /// Messages are erased so long after they were sent, in ms; 0: never.
    pub timer_ms: u64,
    /// It is a group that the reader has left.
    pub left: bool,
    /// What the reader may see of the peer.
    pub shown: Shown,
    /// The peer's display name, if it may be seen; the name of a group.
    pub name: String,
    /// The peer's phone, if it may be seen.
    pub phone: String,
    /// To have devices told: up to where each of the reader's has acknowledged.
    pub positions: Vec<(DeviceId, Seq)>,
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
            others: Watermarks::default(),
            own: Watermarks::default(),
            timer_ms: 0,
            left: false,
            shown: Shown { to: asker.reader, name: false, phone: false, picture: None },
            name: String::new(),
            phone: String::new(),
            positions: Vec::new(),
            failed: Some(why),
        }
    }
}

/// What a device is told if it reads; if it does not, it finds out when it looks, or it is too late.
#[derive(Clone, Debug)]
pub enum Notice {
    /// The user has one more device.
    DeviceAdded {
        /// Which.
        device: DeviceId,
        /// Its name.
        name: String,
        /// When, in ms since the Unix epoch.
        time_ms: u64,
    },
    /// Somebody with whom there is a chat, or the user, is not as before.
    PersonChanged(UserId, u64),
    /// Somebody whom the device shows is here, or is not; `None`: that is not for it to know, or not known.
    Presence {
        /// Who.
        user: UserId,
        /// Whether it is here.
        online: Option<bool>,
        /// When it was here last, in ms since the Unix epoch; 0: likewise.
        last_seen_ms: u64,
    },
    /// Somebody does something just now.
    Activity {
        /// In the direct chat with this one, or in this group.
        subject: Subject,
        /// Who.
        user: UserId,
        /// What.
        doing: Doing,
    },
    /// There is a story that the user may see, or their own.
    StoryPosted(Arc<PostedStory>),
    /// There is none any more, before its time.
    StoryGone(StoryId),
    /// The user has seen it, on another device.
    StorySeen(StoryId),
    /// A device of the user asks that this one rings.
    Ring {
        /// Which.
        by: DeviceId,
        /// Its name.
        name: String,
    },
}
