//! A story was seen: all devices of whoever has seen it agree on that, and whoever posted it can tell, unless one of the two hides what they
//! read.
//!
//! Its author's owner notes it first, then that of whoever has seen it, who is answered then. Both may do so twice.

use bytes::Bytes;
use prost::Message as _;
use tern_proto::v1;
use tern_storage::keys::{self, StoryRow};
use tern_storage::records::{FeedRecord, StoryRecord, ViewerRecord};
use tern_storage::{Key, Rows};
use tern_wire::ids::UserId;
use tern_wire::story::StoryId;

use super::feed::page_of;
use super::work::{Step, Work};
use super::{
    Accounts, Cx, NO_SUCH_STORY, StoryScan, StoryThen, UNREADABLE, after, answer, end_row, note_due, scan,
    scan_key, slot_of,
};
use crate::entry::Author;
use crate::message::{Notice, StoryOp, Unreadable, UserOp, Viewed};
use crate::mutations::{Mutation, is};
use crate::reply::{Origin, Reply};

/// Those who have seen a story, while they are read for its author.
#[derive(Clone, Debug)]
pub(crate) struct Viewers {
    origin: Origin,
    pub(super) story: StoryId,
    after: Option<UserId>,
    limit: usize,
    /// The author is not told what others have read.
    hides: bool,
    /// The story was read to be there.
    is_there: bool,
}

impl Accounts {
    pub(super) fn see_story(&mut self, cx: &mut Cx, by: Author, origin: Origin, story: StoryId) {
        let Author { user: viewer, device } = by;
        let circle = &self.user(viewer).circle;
        let (blocks, hides) = (circle.blocks(story.author), circle.hides_reads());
        if story.author == viewer || blocks {
            let reply = if blocks { Err(NO_SUCH_STORY) } else { Ok(Reply::StoryMarked) };
            return answer(cx, origin, reply);
        }
        let viewed = Viewed { origin, device, viewer, story, expires_ms: 0 };
        let range = keys::in_feed_and_seen(viewer.get(), story.author.get(), story.number);
        scan(cx, range, 2, StoryScan::Seen(Box::new(viewed), hides));
    }

    /// What the viewer has of the story is known.
    pub(super) fn seen_story_read(
        &mut self,
        cx: &mut Cx,
        viewed: Viewed,
        hides: bool,
        rows: Result<Rows, Unreadable>,
    ) {
        let Ok(rows) = rows else { return cx.refuse(viewed.origin, UNREADABLE) };
        let (mut record, mut is_seen) = (None, false);
        for (key, value) in &rows.rows {
            match keys::story_row(key) {
                Some((_, StoryRow::InFeed(..))) => record = FeedRecord::decode(&value[..]).ok(),
                Some((_, StoryRow::Seen(..))) => is_seen = true,
                _ => {}
            }
        }
        let Some(record) = record.filter(|record| record.expires_ms > cx.now_ms) else {
            return cx.refuse(viewed.origin, NO_SUCH_STORY);
        };
        if is_seen {
            return cx.reply(viewed.origin, Reply::StoryMarked);
        }
        let viewed = Viewed { expires_ms: record.expires_ms, ..viewed };
        if hides && !is(Mutation::ShowHiddenViewer) {
            return self.note_seen_story(cx, viewed);
        }
        let op = UserOp::Story(Box::new(StoryOp::Viewed(viewed)));
        cx.tell_user(viewed.story.author, op);
    }

    /// Somebody has seen a story of a user's, who is known.
    pub(super) fn story_viewed(&mut self, cx: &mut Cx, id: UserId, viewed: Viewed) {
        let circle = &self.user(id).circle;
        let hides = circle.hides_reads() || circle.blocks(viewed.viewer);
        if hides && !is(Mutation::ShowHiddenViewer) || self.record(id).is_none() {
            return self.view_noted(cx, viewed);
        }
        let key = keys::story_viewer(id.get(), viewed.story.number, viewed.viewer.get());
        scan_key(cx, &key, StoryScan::Viewed(Box::new(viewed), false));
    }

    /// Whether they are known to have seen it. What counts is when they did so first.
    pub(super) fn viewer_read(&mut self, cx: &mut Cx, viewed: Box<Viewed>, rows: Result<Rows, Unreadable>) {
        let Ok(rows) = rows else { return cx.refuse(viewed.origin, UNREADABLE) };
        if !rows.rows.is_empty() {
            return self.view_noted(cx, *viewed);
        }
        let key = keys::story(viewed.story.author.get(), viewed.story.number);
        scan_key(cx, &key, StoryScan::Viewed(viewed, true));
    }

    /// That story is known.
    pub(super) fn viewed_story_read(&mut self, cx: &mut Cx, viewed: Viewed, rows: Result<Rows, Unreadable>) {
        let StoryId { author, number } = viewed.story;
        let slot = slot_of(author);
        let Ok(rows) = rows else { return cx.refuse(viewed.origin, UNREADABLE) };
        let record = rows.rows.first().and_then(|(_, value)| StoryRecord::decode(&value[..]).ok());
        // It may have been deleted since it was read.
        let is_gone = |work: &Work| work.step.is_recall() || matches!(work.step, Step::Deletes);
        let ends = self.stories.works.get(&viewed.story).is_some_and(is_gone);
        let is_there = |record: &StoryRecord| !record.deleted && record.expires_ms > cx.now_ms && !ends;
        let Some(record) = record.filter(is_there) else { return self.view_noted(cx, viewed) };
        if !cx.is_here(slot) || !cx.may_write(0) {
            let refusal = cx.overloaded();
            return cx.refuse(viewed.origin, refusal);
        }
        let row = ViewerRecord { time_ms: cx.now_ms };
        cx.put(slot, keys::story_viewer(author.get(), number, viewed.viewer.get()), &row);
        cx.put_bytes(slot, end_row(author, viewed.story, record.expires_ms), &[]);
        after(cx, self, StoryThen::Viewed(viewed));
    }

    /// Whoever posted it knows, or may not.
    pub(super) fn view_noted(&mut self, cx: &mut Cx, viewed: Viewed) {
        note_due(cx, viewed.story.author, viewed.expires_ms);
        cx.tell_user(viewed.viewer, UserOp::Story(Box::new(StoryOp::Noted(viewed))));
    }

    /// The same of whoever has seen it.
    pub(super) fn note_seen_story(&mut self, cx: &mut Cx, viewed: Viewed) {
        let Viewed { viewer, story, expires_ms, .. } = viewed;
        if !cx.may_write(0) {
            let refusal = cx.overloaded();
            return cx.refuse(viewed.origin, refusal);
        }
        let slot = slot_of(viewer);
        cx.put_bytes(slot, keys::story_seen(viewer.get(), story.author.get(), story.number), &[]);
        cx.put_bytes(slot, end_row(viewer, story, expires_ms), &[]);
        after(cx, self, StoryThen::Noted(viewed));
    }

    /// That is durable: whoever said so is answered, and their other devices are told.
    pub(super) fn seen_noted(&mut self, cx: &mut Cx, viewed: Viewed) {
        let Viewed { origin, device, viewer, story, expires_ms } = viewed;
        note_due(cx, viewer, expires_ms);
        cx.reply(origin, Reply::StoryMarked);
        self.tell_devices_of(cx, viewer, Some(device), &Notice::StorySeen(story));
    }

    pub(super) fn list_viewers(
        &mut self,
        cx: &mut Cx,
        origin: Origin,
        story: StoryId,
        (after, limit): (Option<UserId>, u32),
    ) {
        if let Err(refusal) = self.budgets.look_up(story.author, cx.now_ms) {
            return cx.refuse(origin, refusal);
        }
        let hides = self.user(story.author).circle.hides_reads() && !is(Mutation::ShowHiddenViewer);
        let viewers = Viewers { origin, story, after, limit: page_of(limit), hides, is_there: false };
        let key = keys::story(story.author.get(), story.number);
        scan_key(cx, &key, StoryScan::Viewers(Box::new(viewers)));
    }

    /// The story is known, or then who has seen it.
    pub(super) fn viewers_read(cx: &mut Cx, mut viewers: Box<Viewers>, rows: Result<Rows, Unreadable>) {
        let Ok(rows) = rows else { return cx.refuse(viewers.origin, UNREADABLE) };
        if viewers.is_there {
            let page = page(cx, &rows);
            return cx.reply(viewers.origin, Reply::ViewersPage(Box::new(page)));
        }
        let record = rows.rows.first().and_then(|(_, value)| StoryRecord::decode(&value[..]).ok());
        if record.is_none_or(|record| record.deleted || record.expires_ms <= cx.now_ms) {
            return cx.refuse(viewers.origin, NO_SUCH_STORY);
        }
        if viewers.hides {
            return cx.reply(viewers.origin, Reply::ViewersPage(Box::default()));
        }
        viewers.is_there = true;
        let StoryId { author, number } = viewers.story;
        let range = keys::story_viewers(author.get(), number, viewers.after.map(UserId::get));
        let limit = viewers.limit;
        scan(cx, range, limit, StoryScan::Viewers(viewers));
    }
}

fn page(cx: &mut Cx, rows: &Rows) -> v1::ViewersPage {
    let viewer =
        |(key, value): &(Bytes, Bytes)| match (keys::story_row(key), ViewerRecord::decode(&value[..])) {
            (Some((_, StoryRow::Viewer(_, user_id))), Ok(record)) => {
                Some(v1::Viewer { user_id, time_ms: record.time_ms })
            }
            _ => {
                cx.damaged("who has seen a story", &Key::from_raw(key));
                None
            }
        };
    let viewers: Vec<_> = rows.rows.iter().filter_map(viewer).collect();
    let next = viewers.last().filter(|_| rows.more).map_or(0, |last| last.user_id);
    v1::ViewersPage { viewers, next }
}
