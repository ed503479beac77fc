//! Stories: what somebody shows for a day, and to whom ([decision 62](../../../../docs/decisions/0062-a-story-lies-with-whoever-may-see-it.md)).
//!
//! A story lies with its author (a row of table `j`), and once more with each who may see it, so that a feed is read with one range read. What
//! it takes to tell them, and to take it from them again, is done by the author's owner in steps ([`telling`]): each step is written before
//! anybody is told, so that whoever was told is known for as long as the story is there. Rows of what is due (`t`) say that somebody is still
//! to be told, and that a story ends, here and with each who may see it; whoever writes a row of a story writes the one by which it is found.
//! So a crash, a move or a write that failed leave nothing but what is found and done again.

mod ending;
mod feed;
mod hearing;
mod hiding;
mod posting;
mod recalling;
mod seen;
mod telling;
mod walk;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use tern_storage::{Direction, Key, KeyRange, LogId, Rows, ScanLimit, Slot, keys};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::{DeviceId, MediaId, UserId};
use tern_wire::story::{StoryId, StoryRequest};

use self::feed::Listing;
use self::hearing::{Hearing, HearsOf};
use self::posting::Posting;
use self::seen::Viewers;
use self::work::Work;
use super::users::Ask;
use super::waits::{After, Then};
use super::{Accounts, Cx, slot_of};
use crate::entry::Author;
use crate::message::{FrontOp, Hides, LogOp, Notice, StoryOp, Unreadable, UserOp, Viewed};
use crate::reply::{Origin, Reply, Undone};

const NO_SUCH_STORY: Refusal =
    Refusal::new(Reason::NoSuchStory, "there is no such story, or not for you to see, or not any more");
const UNREADABLE: Refusal = Refusal::for_now(Reason::Unavailable, 1000, "the story can't be read");

/// What of stories is under way.
#[derive(Debug, Default)]
pub(super) struct Stories {
    /// Those that are about to be posted, by account and in order: the first of them is being looked at, or written.
    postings: BTreeMap<UserId, VecDeque<Posting>>,
    /// What is being done about stories of users of this core: one thing at a time about each.
    works: BTreeMap<StoryId, Work>,
    /// The number of the last work, or of its last step.
    number: u64,
    /// Users who are being told of a story, while it is read whether they may see it.
    hearing: BTreeMap<(UserId, StoryId), Hearing>,
    /// Users who are losing the stories of those who block them, with the numbers of those that they were told of since: these stay.
    hiding: BTreeMap<Hides, BTreeSet<u64>>,
}

impl Stories {
    /// Whether nothing of a slot is under way that its next owner would not find.
    pub(super) fn is_still(&self, slot: Slot) -> bool {
        !self.postings.keys().any(|user| slot_of(*user) == slot)
    }

    /// A slot is another core's.
    pub(super) fn let_go(&mut self, slot: Slot) {
        self.works.retain(|story, _| slot_of(story.author) != slot);
        self.hearing.retain(|(reader, _), _| slot_of(*reader) != slot);
        self.hiding.retain(|hides, _| slot_of(hides.reader) != slot);
    }
}

/// What a get of a story's is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum StoryGet {
    /// The story that a work of this number is about.
    Work(StoryId, u64),
    /// The story that a user is about to post, which may be there already.
    Own(UserId),
    /// A medium of it, asked for at this time.
    Medium(UserId, MediaId, u64),
}

/// What a scan of stories is for.
#[derive(Clone, Debug)]
pub(crate) enum StoryScan {
    /// A user's stories, who is about to post one.
    Own(UserId),
    /// The next step of a work of this number.
    Work(StoryId, u64),
    /// A story that its author wants to be deleted.
    Deleted(Origin, StoryId),
    /// A story that a user may see, and that ends at this time, in ms since the Unix epoch.
    Ends(UserId, StoryId, u64),
    /// Whether somebody who is told of a story may see it, or has it.
    Hears(Box<HearsOf>),
    /// Whether somebody blocks another one still.
    Blocks(Hides),
    /// Stories of somebody whom the reader is to have none of, and those that were being written then.
    Hidden(Hides, BTreeSet<StoryId>),
    /// Stories for a page.
    Page(Box<Listing>),
    /// A story that somebody has seen, in their feed; and whether they hide what they read.
    Seen(Box<Viewed>, bool),
    /// Whether whoever posted it knows of that already; or then (`true`) the story.
    Viewed(Box<Viewed>, bool),
    /// Who has seen a story, or first, the story.
    Viewers(Box<Viewers>),
}

impl StoryScan {
    /// The slot whose owner answers somebody with what is read; `None`: whoever has the slot begins again.
    pub(super) fn answers_of(&self) -> Option<Slot> {
        let user = match self {
            Self::Own(user) => *user,
            Self::Blocks(hides) => hides.by,
            Self::Hidden(hides, _) => hides.reader,
            Self::Deleted(_, story) => story.author,
            Self::Ends(reader, ..) => *reader,
            Self::Hears(hears) => hears.reader,
            Self::Page(listing) => listing.reader,
            Self::Seen(viewed, _) => viewed.viewer,
            Self::Viewed(viewed, _) => viewed.story.author,
            Self::Viewers(viewers) => viewers.story.author,
            Self::Work(..) => return None,
        };
        Some(slot_of(user))
    }
}

/// What follows a write of a story's.
#[derive(Debug)]
pub(crate) enum StoryThen {
    /// A user has posted one: the first that was about to be.
    Posted(UserId),
    /// A story is deleted; and whoever asked for that is answered.
    Deleted(StoryId, Option<Origin>),
    /// A step of the work of this number.
    Work(StoryId, u64),
    /// Somebody has heard of a story.
    Heard(Box<HearsOf>),
    /// Somebody who is blocked has these no more.
    Hidden(Hides, BTreeSet<StoryId>),
    /// What somebody has seen is noted, with whoever posted it.
    Viewed(Viewed),
    /// With whoever has seen it.
    Noted(Viewed),
}

impl StoryThen {
    /// Whose owner has written it.
    pub(super) fn user(&self) -> UserId {
        match self {
            Self::Posted(user) => *user,
            Self::Deleted(story, _) | Self::Work(story, _) => story.author,
            Self::Heard(hears) => hears.reader,
            Self::Hidden(hides, _) => hides.reader,
            Self::Viewed(viewed) => viewed.story.author,
            Self::Noted(viewed) => viewed.viewer,
        }
    }
}

impl Accounts {
    /// Something is asked of a user's owner of stories, or told to it.
    pub(super) fn story_told(&mut self, cx: &mut Cx, id: UserId, op: StoryOp) {
        match op {
            StoryOp::Asked(..) | StoryOp::Viewed(_) => {
                self.ask_user(cx, id, Ask::Told(UserOp::Story(Box::new(op))));
            }
            StoryOp::Due(due) => self.story_due(cx, id, due),
            StoryOp::Told(told) => self.hear_of_story(cx, id, told),
            StoryOp::Heard(story, work, reader, has) => self.story_heard(cx, (story, work), reader, has),
            StoryOp::Noted(viewed) => self.note_seen_story(cx, viewed),
            StoryOp::Hidden(hides) => self.lose_stories_of(cx, hides),
            StoryOp::Hid(hides) => Self::hidden(cx, hides),
        }
    }

    /// The same, of a user who is known.
    pub(super) fn story_of_known(&mut self, cx: &mut Cx, id: UserId, op: StoryOp) {
        match op {
            StoryOp::Asked(origin, device, asked) => {
                self.story_asked(cx, Author { user: id, device }, origin, asked);
            }
            StoryOp::Viewed(viewed) => self.story_viewed(cx, id, viewed),
            _ => unreachable!("done without the user's record"),
        }
    }

    fn story_asked(&mut self, cx: &mut Cx, author: Author, origin: Origin, asked: StoryRequest) {
        let user = author.user;
        if !self.device(author).is_some_and(|device| device.lives()) {
            let refusal = self.ended(user);
            return cx.refuse(origin, refusal);
        }
        match asked {
            StoryRequest::Post(post) => self.want_to_post(cx, author, origin, *post),
            StoryRequest::Delete(number) => {
                self.want_story_deleted(cx, origin, StoryId { author: user, number });
            }
            StoryRequest::List(after, limit) => self.list_stories(cx, user, origin, (after, limit)),
            StoryRequest::See(story) => self.see_story(cx, author, origin, story),
            StoryRequest::Viewers(number, after, limit) => {
                let story = StoryId { author: user, number };
                self.list_viewers(cx, origin, story, (after, limit));
            }
        }
    }

    /// What is asked of stories can't be done for now: whoever waits is told.
    pub(super) fn refuse_story(cx: &mut Cx, id: UserId, op: StoryOp, refusal: Refusal) {
        match op {
            StoryOp::Asked(origin, ..) => cx.refuse(origin, refusal),
            StoryOp::Viewed(viewed) | StoryOp::Noted(viewed) => cx.refuse(viewed.origin, refusal),
            StoryOp::Told(told) => hearing::answer(cx, id, (told.story, told.work), false),
            // What is due is told again; what comes of the others is found out when it is asked for.
            StoryOp::Due(_) | StoryOp::Heard(..) | StoryOp::Hidden(_) | StoryOp::Hid(_) => {}
        }
    }

    /// A get has ended.
    pub(super) fn story_got(&mut self, cx: &mut Cx, get: StoryGet, value: Result<Option<Bytes>, Unreadable>) {
        match get {
            StoryGet::Work(story, number) => self.story_of_work_read(cx, (story, number), value),
            StoryGet::Own(user) => self.own_story_read(cx, user, value),
            StoryGet::Medium(user, medium, asked_ms) => {
                self.story_medium_read(cx, user, (medium, asked_ms), value);
            }
        }
    }

    /// A scan has ended.
    pub(super) fn story_scanned(&mut self, cx: &mut Cx, scan: StoryScan, rows: Result<Rows, Unreadable>) {
        match scan {
            StoryScan::Own(user) => self.own_stories_read(cx, user, rows),
            StoryScan::Work(story, number) => self.story_step_read(cx, (story, number), rows),
            StoryScan::Deleted(origin, story) => self.deleted_story_read(cx, origin, story, rows),
            StoryScan::Ends(reader, story, at_ms) => {
                self.ending_in_feed_read(cx, (reader, story, at_ms), rows);
            }
            StoryScan::Hears(hears) => self.hears_read(cx, hears, rows),
            StoryScan::Blocks(hides) => self.block_read(cx, hides, rows),
            StoryScan::Hidden(hides, stories) => self.hidden_read(cx, hides, stories, rows),
            StoryScan::Page(listing) => Self::page_of_stories_read(cx, listing, rows),
            StoryScan::Seen(viewed, hides) => self.seen_story_read(cx, *viewed, hides, rows),
            StoryScan::Viewed(viewed, false) => self.viewer_read(cx, viewed, rows),
            StoryScan::Viewed(viewed, true) => self.viewed_story_read(cx, *viewed, rows),
            StoryScan::Viewers(viewers) => Self::viewers_read(cx, viewers, rows),
        }
    }

    /// A write is durable.
    pub(super) fn story_written(&mut self, cx: &mut Cx, then: StoryThen) {
        match then {
            StoryThen::Posted(user) => self.story_posted(cx, user),
            StoryThen::Deleted(story, origin) => self.story_deleted(cx, story, origin),
            StoryThen::Work(story, number) => self.story_step_written(cx, (story, number)),
            StoryThen::Heard(hears) => self.heard(cx, &hears),
            StoryThen::Hidden(hides, stories) => self.some_hidden(cx, hides, stories),
            StoryThen::Viewed(viewed) => self.view_noted(cx, viewed),
            StoryThen::Noted(viewed) => self.seen_noted(cx, viewed),
        }
    }

    /// A write did not become durable.
    pub(super) fn story_undone(&mut self, cx: &mut Cx, then: StoryThen, undone: Undone) {
        match then {
            StoryThen::Posted(user) => self.answer_posting(cx, user, undone.into()),
            StoryThen::Deleted(story, origin) => {
                self.stories.works.remove(&story);
                if let Some(origin) = origin {
                    cx.reply(origin, undone.into());
                }
            }
            StoryThen::Work(story, number) => self.drop_work((story, number)),
            StoryThen::Heard(hears) => self.hears_not(cx, &hears, false),
            StoryThen::Hidden(hides, _) => self.hides_not(hides),
            StoryThen::Viewed(viewed) | StoryThen::Noted(viewed) => cx.reply(viewed.origin, undone.into()),
        }
    }

    /// Tells the devices of a user that are here, but for one of them.
    fn tell_devices_of(&mut self, cx: &mut Cx, id: UserId, but: Option<DeviceId>, notice: &Notice) {
        let tells = |device| (Some(device) != but).then(|| FrontOp::Notice(notice.clone()));
        self.tell_attached(cx, id, tells);
    }
}

/// Has something follow what was written of stories so far.
fn after(cx: &mut Cx, accounts: &mut Accounts, then: StoryThen) {
    accounts.after(cx, After { user: None, phone: None, then: Then::Story(Box::new(then)) });
}

/// A row says that something is due in a user's slot from a time on: whoever looks for that is to know.
fn note_due(cx: &mut Cx, user: UserId, at_ms: u64) {
    cx.tell_log(LogId::Private(user.get()), LogOp::DueAt(at_ms));
}

fn scan(cx: &mut Cx, range: KeyRange, rows: usize, purpose: StoryScan) {
    let limit = ScanLimit { rows, bytes: usize::MAX };
    cx.scan(range, Direction::Forwards, limit, super::waits::ScanFor::Story(purpose));
}

fn scan_key(cx: &mut Cx, key: &Key, purpose: StoryScan) {
    scan(cx, KeyRange::of_key(key), 1, purpose);
}

/// The row by which the end of a story is found.
fn end_row(user: UserId, story: StoryId, expires_ms: u64) -> Key {
    keys::story_due(expires_ms, user.get(), story.author.get(), story.number)
}

/// The row by which it is found who is to be told of a story that was posted at this time.
fn tell_row(story: StoryId, time_ms: u64) -> Key {
    keys::story_to_tell(time_ms, story.author.get(), story.number)
}

/// An answer to whoever asked, or why there is none.
fn answer(cx: &mut Cx, origin: Origin, answer: Result<Reply, Refusal>) {
    cx.reply(origin, answer.unwrap_or_else(Reply::Refused));
}
