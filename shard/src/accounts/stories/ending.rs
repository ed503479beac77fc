//! A story ends: its author deletes it, or its time has come, or the account ends.

use prost::Message as _;
use tern_storage::records::{FeedRecord, StoryRecord};
use tern_storage::{Key, Rows, keys};
use tern_wire::ids::{MediaId, UserId};
use tern_wire::story::StoryId;

use super::posting::cited_as;
use super::work::{Step, read_story};
use super::{
    Accounts, Cx, NO_SUCH_STORY, StoryScan, StoryThen, UNREADABLE, after, end_row, note_due, scan, scan_key,
    slot_of, tell_row,
};
use crate::limits::STORY_ROWS_AT_ONCE;
use crate::media::cites::uncite;
use crate::message::{Notice, Unreadable};
use crate::mutations::{Mutation, is};
use crate::reply::{Origin, Reply};

impl Accounts {
    pub(super) fn want_story_deleted(&mut self, cx: &mut Cx, origin: Origin, story: StoryId) {
        let key = keys::story(story.author.get(), story.number);
        scan_key(cx, &key, StoryScan::Deleted(origin, story));
    }

    /// A story that is to be deleted is known.
    pub(super) fn deleted_story_read(
        &mut self,
        cx: &mut Cx,
        origin: Origin,
        story: StoryId,
        rows: Result<Rows, Unreadable>,
    ) {
        let value = rows.map(|rows| rows.rows.into_iter().next());
        let record = value.map(|row| row.map(|(_, value)| StoryRecord::decode(value)).transpose());
        let answer = match record {
            Err(_) => Reply::Refused(UNREADABLE),
            Ok(Err(_)) => {
                cx.damaged("a story", &keys::story(story.author.get(), story.number));
                Reply::Refused(UNREADABLE)
            }
            Ok(Ok(Some(record))) if record.deleted => Reply::StoryDeleted,
            Ok(Ok(Some(record))) if record.expires_ms > cx.now_ms => {
                match self.stories.works.get(&story).map(|work| &work.step) {
                    // It was deleted since it was read.
                    Some(step) if step.is_recall() => Reply::StoryDeleted,
                    // It is being deleted, or ends.
                    Some(Step::Deletes | Step::Ends | Step::EndsWith(_)) => Reply::Refused(cx.overloaded()),
                    _ if cx.may_write(0) => {
                        // Who is being told of it is found again.
                        self.stories.works.remove(&story);
                        if self.begin_work(cx, story, 0, Step::Deletes).is_some() {
                            return self.delete_story(cx, story, &record, Some(origin));
                        }
                        Reply::Refused(cx.overloaded())
                    }
                    _ => Reply::Refused(cx.overloaded()),
                }
            }
            Ok(Ok(_)) => Reply::Refused(NO_SUCH_STORY),
        };
        cx.reply(origin, answer);
    }

    /// Deletes a story that is there, while nothing else is done about it. Nothing is left of it but that it was there, until it would have
    /// ended: a retry does not post it again.
    fn delete_story(&mut self, cx: &mut Cx, story: StoryId, record: &StoryRecord, origin: Option<Origin>) {
        let slot = slot_of(story.author);
        let StoryRecord { time_ms, expires_ms, fingerprint, .. } = *record;
        let (deleted, deleted_ms) = (true, cx.now_ms);
        let left =
            StoryRecord { time_ms, expires_ms, fingerprint, deleted, deleted_ms, ..StoryRecord::default() };
        cx.put(slot, keys::story(story.author.get(), story.number), &left);
        cx.put_bytes(slot, end_row(story.author, story, expires_ms), &[]);
        // The clock may have been set back since: it is due now.
        let at_ms = time_ms.min(cx.now_ms);
        cx.put_bytes(slot, tell_row(story, at_ms), keys::TO_TELL);
        let_media_go(cx, story, record);
        if let Some(work) = self.stories.works.get_mut(&story) {
            work.at_ms = at_ms;
        }
        after(cx, self, StoryThen::Deleted(story, origin));
    }

    /// It is durable: those hear of it who have it.
    pub(super) fn story_deleted(&mut self, cx: &mut Cx, story: StoryId, origin: Option<Origin>) {
        let work = self.stories.works.remove(&story);
        if let Some(origin) = origin {
            cx.reply(origin, Reply::StoryDeleted);
        }
        self.tell_devices_of(cx, story.author, None, &Notice::StoryGone(story));
        if let Some(work) = work {
            note_due(cx, story.author, work.at_ms);
            self.tell_of_story(cx, story, work.at_ms);
        }
    }

    /// The time of a story has come, as a row says.
    pub(super) fn end_story(&mut self, cx: &mut Cx, story: StoryId, at_ms: u64) {
        if let Some(number) = self.begin_work(cx, story, at_ms, Step::Ends) {
            read_story(cx, (story, number));
        }
    }

    pub(super) fn ending_story_read(
        &mut self,
        cx: &mut Cx,
        of @ (story, _): (StoryId, u64),
        record: Option<StoryRecord>,
    ) {
        let step = Step::EndsWith(record.map(Box::new));
        let Some(number) = self.next_step(cx, of, step) else { return };
        let range = keys::all_of_story(story.author.get(), story.number);
        scan(cx, range, STORY_ROWS_AT_ONCE, StoryScan::Work(story, number));
    }

    /// What there is beside a story whose time has come goes, and with the last of it the story, and its media. When nothing is found of it
    /// any more, the row goes that says so: what was being written when it was read is found then.
    pub(super) fn end_with(
        &mut self,
        cx: &mut Cx,
        of @ (story, _): (StoryId, u64),
        record: Option<&StoryRecord>,
        rows: &Rows,
    ) {
        let Some(at_ms) = self.work(of).map(|work| work.at_ms) else { return };
        let slot = slot_of(story.author);
        let is_another = record.is_some_and(|record| record.expires_ms > at_ms);
        if is_another || record.is_none() && rows.rows.is_empty() {
            // It may be another one, of the same number.
            cx.delete(slot, end_row(story.author, story, at_ms));
            return self.step_is_written(cx, of, Step::Over);
        }
        for (key, _) in &rows.rows {
            cx.delete(slot, Key::from_raw(key));
        }
        if let Some(record) = record.filter(|_| !rows.more) {
            let_media_go(cx, story, record);
            cx.delete(slot, keys::story(story.author.get(), story.number));
        }
        self.step_is_written(cx, of, Step::EndsWith(None));
    }

    /// The time of a story has come that a user may see.
    pub(super) fn end_in_feed(cx: &mut Cx, reader: UserId, story: StoryId, at_ms: u64) {
        let key = keys::in_feed(reader.get(), story.author.get(), story.number);
        scan_key(cx, &key, StoryScan::Ends(reader, story, at_ms));
    }

    /// It is known, as far as the user has it.
    pub(super) fn ending_in_feed_read(
        &mut self,
        cx: &mut Cx,
        (reader, story, at_ms): (UserId, StoryId, u64),
        rows: Result<Rows, Unreadable>,
    ) {
        let (Ok(rows), true) = (rows, cx.is_here(slot_of(reader)) && cx.may_write(0)) else { return };
        if self.stories.hearing.contains_key(&(reader, story)) {
            // They are being told of it, or of another one of this number: it is looked at again.
            return;
        }
        let record = rows.rows.first().and_then(|(_, value)| FeedRecord::decode(&value[..]).ok());
        if record.is_none_or(|record| record.expires_ms <= at_ms) {
            forget(cx, reader, story);
        }
        cx.delete(slot_of(reader), end_row(reader, story, at_ms));
    }

    /// Ends the stories of an account that has ended: these rows are of them. Gives how many of them were still there.
    pub(in crate::accounts) fn end_stories_of(&mut self, cx: &mut Cx, rows: &Rows) -> usize {
        let mut ended = 0;
        for (key, value) in &rows.rows {
            let Some((user, keys::StoryRow::Own(number))) = keys::story_row(key) else { continue };
            let (Some(author), Ok(record)) = (UserId::new(user), StoryRecord::decode(&value[..])) else {
                continue;
            };
            let story = StoryId { author, number };
            if record.deleted {
                continue;
            }
            ended += 1;
            let is_told = |step: &mut Step| step.telling().is_some() || matches!(step, Step::Begins);
            if self.stories.works.get_mut(&story).is_some_and(|work| is_told(&mut work.step)) {
                self.stories.works.remove(&story);
            }
            // What is being done about it otherwise is over soon, and then it is found again.
            if self.begin_work(cx, story, 0, Step::Deletes).is_some() {
                self.delete_story(cx, story, &record, None);
            }
        }
        ended
    }
}

/// What a story has of media goes.
fn let_media_go(cx: &mut Cx, story: StoryId, record: &StoryRecord) {
    if is(Mutation::KeepStoryMedia) {
        return;
    }
    for medium in record.media.iter().filter_map(|id| MediaId::from_slice(id)) {
        uncite(cx, slot_of(story.author), cited_as(story), medium);
    }
}

/// A user has a story no more, nor has seen it. The row by which its end is found stays.
pub(super) fn forget(cx: &mut Cx, reader: UserId, StoryId { author, number }: StoryId) {
    let slot = slot_of(reader);
    cx.delete(slot, keys::in_feed(reader.get(), author.get(), number));
    cx.delete(slot, keys::story_seen(reader.get(), author.get(), number));
}
