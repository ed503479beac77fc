//! Those are told of a story who may see it, or, once it is deleted, those who were told.
//!
//! The author's contacts are gone through, and for everyone the author's direct chats: some at a time. Who is told together is written
//! before they are; the last such row says where to go on. When a story is deleted, these rows say who has it, and go when they have heard
//! that it is gone. Whoever is told answers when they have it durably: what is not answered in time is told again, from the store. A row
//! (`t`) says that there is something to be told, until all have been.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use tern_storage::keys::{self, Relation, StoryRow};
use tern_storage::records::{FeedRecord, StoryRecord, StoryToldRecord};
use tern_storage::{Direction, Key, LogId, Rows, ScanLimit};
use tern_wire::ids::UserId;
use tern_wire::private::Private;
use tern_wire::story::{Audience, StoryId};

use super::{Accounts, Cx, StoryGet, StoryScan, StoryThen, after, scan, slot_of, tell_row};
use crate::accounts::waits::{GetFor, ScanFor};
use crate::circle::Circle;
use crate::entry::peer_of;
use crate::limits::{STORIES_TOLD_MAX, STORY_ROWS_AT_ONCE, STORY_STEP_MS, STORY_STEP_ROWS};
use crate::message::{PostedStory, StoryDue, StoryNews, StoryOp, StoryTold, Unreadable, UserOp};
use crate::mutations::{Mutation, is};

/// What is being done about a story.
#[derive(Debug)]
pub(super) struct Work {
    /// Of this step: what comes for another one came too late.
    pub(super) number: u64,
    /// When this step began, in ms since the Unix epoch.
    since_ms: u64,
    /// Of which time the row is that says so, in ms since the Unix epoch.
    pub(super) at_ms: u64,
    pub(super) step: Step,
}

/// What of it is under way.
#[derive(Debug)]
pub(super) enum Step {
    /// The story is being read, of which others are to be told.
    Begins,
    /// Whom its author blocks is being read.
    Blocks(Box<Telling>),
    /// Who was told last is being read.
    Last(Box<Telling>),
    /// More who may see it are being looked for.
    Looks(Box<Telling>),
    /// Who is to be told next is being written.
    Notes(Box<Telling>, Vec<UserId>),
    /// These are told, and have not answered.
    Tells(Box<Telling>, Asked),
    /// It is deleted: who was told is being read.
    Recalls,
    /// These hear that it is gone, of the step of this number, and have not answered.
    Gone(u32, Asked),
    /// Who has seen it is being read, and then removed.
    Views,
    /// Rows are being removed, and others follow.
    Clears,
    /// Nobody is to be told any more: the row that says so is being removed.
    Over,
    /// Its author deletes it.
    Deletes,
    /// Its time has come, and it is being read.
    Ends,
    /// What there is beside it is being read, and removed with it, if that is all.
    EndsWith(Box<StoryRecord>),
}

/// Who was told.
#[derive(Debug)]
pub(super) struct Asked {
    left: BTreeSet<UserId>,
    /// Somebody could not be told now.
    has_failed: bool,
}

/// A story of which others are told.
#[derive(Debug)]
pub(super) struct Telling {
    posted: Arc<PostedStory>,
    audience: Audience,
    circle: Circle,
    /// The number of the next step.
    step: u32,
    /// Where it goes on.
    walk: Walk,
}

/// Who is looked through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Walk {
    /// The contacts behind this one.
    Contacts(Option<u64>),
    /// The direct chats behind this one.
    Chats(Option<LogId>),
    /// Nobody any more.
    Over,
}

impl Walk {
    /// Where those go on of whom there is no more.
    fn next(self, audience: &Audience) -> Self {
        match (self, audience) {
            (Self::Contacts(_), Audience::Everyone) => Self::Chats(None),
            _ => Self::Over,
        }
    }

    fn to_record(self, readers: &[UserId]) -> StoryToldRecord {
        let readers = readers.iter().map(|reader| reader.get()).collect();
        let (contact, chat_low, chat_high) = match self {
            Self::Contacts(after) => (after.unwrap_or(0), 0, 0),
            Self::Chats(Some(LogId::Direct(low, high))) => (0, low, high),
            Self::Chats(_) => (0, 0, 0),
            Self::Over => (0, u64::MAX, u64::MAX),
        };
        StoryToldRecord { readers, contact, chat_low, chat_high }
    }

    fn of_record(record: &StoryToldRecord) -> Self {
        match (record.contact, record.chat_low) {
            (0, 0) => Self::Chats(None),
            (0, u64::MAX) => Self::Over,
            (0, low) => Self::Chats(Some(LogId::direct(low, record.chat_high))),
            (contact, _) => Self::Contacts(Some(contact)),
        }
    }
}

/// A story as others see it.
pub(super) fn posted(story: StoryId, record: &StoryRecord) -> Arc<PostedStory> {
    let StoryRecord { time_ms, expires_ms, kind, body, media, .. } = record.clone();
    Arc::new(PostedStory { story, record: FeedRecord { time_ms, expires_ms, kind, body, media } })
}

fn users(ids: &[u64]) -> Vec<UserId> {
    ids.iter().filter_map(|id| UserId::new(*id)).collect()
}

impl Accounts {
    /// Something is due about a story.
    pub(super) fn story_due(&mut self, cx: &mut Cx, id: UserId, due: StoryDue) {
        let StoryDue { story, at_ms, is_to_tell } = due;
        if id != story.author {
            return self.end_in_feed(cx, id, story, at_ms);
        }
        let now_ms = cx.now_ms;
        // Whoever was told may be gone; and the clock may have been set back.
        let is_late = |work: &mut Work| {
            let waits = matches!(work.step, Step::Tells(..) | Step::Gone(..));
            waits && now_ms.abs_diff(work.since_ms) >= STORY_STEP_MS
        };
        if self.stories.works.get_mut(&story).is_some_and(is_late) {
            self.stories.works.remove(&story);
        }
        if is_to_tell {
            self.tell_of_story(cx, story, at_ms);
        } else {
            self.end_story(cx, story, at_ms);
        }
    }

    /// Others are to be told what has become of a story, as a row of this time says; unless that is under way, or too much is.
    pub(super) fn tell_of_story(&mut self, cx: &mut Cx, story: StoryId, at_ms: u64) {
        let has_room = self.stories.works.len() < STORIES_TOLD_MAX && cx.may_read();
        if has_room && let Some(number) = self.begin_work(cx, story, at_ms, Step::Begins) {
            cx.get(
                keys::story(story.author.get(), story.number),
                GetFor::Story(StoryGet::Work(story, number)),
            );
        }
    }

    /// Begins to do something about a story, unless something is done already, or the slot is about to be another core's, which finds it.
    /// Gives the number of the step.
    pub(super) fn begin_work(&mut self, cx: &Cx, story: StoryId, at_ms: u64, step: Step) -> Option<u64> {
        if self.stories.works.contains_key(&story) || !cx.is_here(slot_of(story.author)) {
            return None;
        }
        self.stories.number += 1;
        let (number, since_ms) = (self.stories.number, cx.now_ms);
        self.stories.works.insert(story, Work { number, since_ms, at_ms, step });
        Some(number)
    }

    /// The work of this step, if it is still under way.
    pub(super) fn work(&mut self, (story, number): (StoryId, u64)) -> Option<&mut Work> {
        self.stories.works.get_mut(&story).filter(|work| work.number == number)
    }

    /// It can't go on now, or is over: what is left to do is found again.
    pub(super) fn drop_work(&mut self, of: (StoryId, u64)) {
        if self.work(of).is_some() {
            self.stories.works.remove(&of.0);
        }
    }

    /// The work comes to another step. Gives its number.
    pub(super) fn next_step(&mut self, cx: &Cx, (story, number): (StoryId, u64), step: Step) -> Option<u64> {
        if !cx.is_here(slot_of(story.author)) {
            self.drop_work((story, number));
            return None;
        }
        self.stories.number += 1;
        let (next, since_ms) = (self.stories.number, cx.now_ms);
        let work = self.stories.works.get_mut(&story).filter(|work| work.number == number)?;
        (work.number, work.since_ms, work.step) = (next, since_ms, step);
        Some(next)
    }

    /// Writes what a step has decided: the next one follows when it is durable.
    pub(super) fn step_is_written(&mut self, cx: &mut Cx, of: (StoryId, u64), step: Step) {
        if let Some(number) = self.next_step(cx, of, step) {
            after(cx, self, StoryThen::Work(of.0, number));
        }
    }

    /// The story is known, that a work is about.
    pub(super) fn story_of_work_read(
        &mut self,
        cx: &mut Cx,
        of @ (story, _): (StoryId, u64),
        value: Result<Option<Bytes>, Unreadable>,
    ) {
        let Some(work) = self.work(of) else { return };
        let ends = matches!(work.step, Step::Ends);
        let Ok(value) = value else { return self.drop_work(of) };
        let Ok(record) = value.map(StoryRecord::decode).transpose() else {
            cx.damaged("a story", &keys::story(story.author.get(), story.number));
            return self.drop_work(of);
        };
        if ends {
            return self.ending_story_read(cx, of, record);
        }
        match record {
            Some(record) if record.deleted => self.recall(cx, of),
            Some(record) if record.expires_ms > cx.now_ms => self.begin_telling(cx, of, &record),
            _ => self.telling_over(cx, of),
        }
    }

    fn begin_telling(&mut self, cx: &mut Cx, of @ (story, _): (StoryId, u64), record: &StoryRecord) {
        let Ok(audience) = Audience::parse(record.audience, &record.named) else {
            return self.telling_over(cx, of);
        };
        let (circle, walk) = (Circle::default(), Walk::Contacts(None));
        let telling = Telling { posted: posted(story, record), audience, circle, step: 0, walk };
        let Some(number) = self.next_step(cx, of, Step::Blocks(Box::new(telling))) else { return };
        scan(cx, keys::circle(story.author.get()), usize::MAX, StoryScan::Work(story, number));
    }

    /// What a step has asked the store for has come.
    pub(super) fn story_step_read(
        &mut self,
        cx: &mut Cx,
        of: (StoryId, u64),
        rows: Result<Rows, Unreadable>,
    ) {
        if self.work(of).is_none() {
            return;
        }
        let (Ok(rows), true) = (rows, cx.may_write(0)) else { return self.drop_work(of) };
        let Some(work) = self.work(of) else { return };
        match std::mem::replace(&mut work.step, Step::Over) {
            Step::Blocks(telling) => self.blocks_read(cx, of, telling, rows),
            Step::Last(telling) => self.last_told_read(cx, of, telling, &rows),
            Step::Looks(telling) => self.more_found(cx, of, telling, &rows),
            Step::Recalls => self.told_read(cx, of, &rows),
            Step::Views => self.views_read(cx, of, &rows),
            Step::EndsWith(record) => self.end_with(cx, of, *record, &rows),
            _ => self.drop_work(of),
        }
    }

    fn blocks_read(
        &mut self,
        cx: &mut Cx,
        of @ (story, _): (StoryId, u64),
        mut telling: Box<Telling>,
        rows: Rows,
    ) {
        let Some(circle) = Circle::of_rows(rows.rows) else { return self.drop_work(of) };
        telling.circle = circle;
        let Some(number) = self.next_step(cx, of, Step::Last(telling)) else { return };
        let range = keys::all_story_told(story.author.get(), story.number);
        let one = ScanLimit { rows: 1, bytes: usize::MAX };
        cx.scan(range, Direction::Backwards, one, ScanFor::Story(StoryScan::Work(story, number)));
    }

    /// Who was told last is known: they may not have heard of it.
    fn last_told_read(&mut self, cx: &mut Cx, of: (StoryId, u64), mut telling: Box<Telling>, rows: &Rows) {
        let Some((key, value)) = rows.rows.first() else { return self.look_for_more(cx, of, telling) };
        let (Some((_, StoryRow::Told(_, step))), Ok(record)) =
            (keys::story_row(key), StoryToldRecord::decode(&value[..]))
        else {
            cx.damaged("who was told of a story", &Key::from_raw(key));
            return self.drop_work(of);
        };
        (telling.step, telling.walk) = (step + 1, Walk::of_record(&record));
        self.tell_readers(cx, of, telling, users(&record.readers));
    }

    fn look_for_more(&mut self, cx: &mut Cx, of @ (story, _): (StoryId, u64), telling: Box<Telling>) {
        if telling.posted.record.expires_ms <= cx.now_ms {
            return self.telling_over(cx, of);
        }
        let author = story.author.get();
        let range = match telling.walk {
            Walk::Contacts(after) => keys::contacts_behind(author, after),
            Walk::Chats(after) => keys::memberships(author, after),
            Walk::Over => return self.telling_over(cx, of),
        };
        let Some(number) = self.next_step(cx, of, Step::Looks(telling)) else { return };
        scan(cx, range, STORY_STEP_ROWS, StoryScan::Work(story, number));
    }

    /// Some of those have come who may see it.
    fn more_found(
        &mut self,
        cx: &mut Cx,
        of @ (story, _): (StoryId, u64),
        mut telling: Box<Telling>,
        rows: &Rows,
    ) {
        let mut found = BTreeSet::new();
        let mut is_over = !rows.more;
        for (key, _) in &rows.rows {
            let other = match telling.walk {
                Walk::Contacts(_) => match Relation::of(key) {
                    Some(Relation::Contact(other)) => {
                        telling.walk = Walk::Contacts(Some(other));
                        UserId::new(other).filter(|other| telling.audience.has_contact(*other))
                    }
                    _ => None,
                },
                // Direct chats come before all others.
                _ => match keys::log_of(key) {
                    Some(log @ LogId::Direct(..)) => {
                        telling.walk = Walk::Chats(Some(log));
                        peer_of(log, story.author)
                    }
                    _ => {
                        is_over = true;
                        break;
                    }
                },
            };
            let is_other = |other: &UserId| {
                *other != story.author && (!telling.circle.blocks(*other) || is(Mutation::TellBlockedOfStory))
            };
            found.extend(other.filter(is_other));
        }
        if is_over {
            telling.walk = telling.walk.next(&telling.audience);
        }
        if found.is_empty() {
            return self.look_for_more(cx, of, telling);
        }
        let readers: Vec<_> = found.into_iter().collect();
        let key = keys::story_told(story.author.get(), story.number, telling.step);
        cx.put(slot_of(story.author), key, &telling.walk.to_record(&readers));
        telling.step += 1;
        self.step_is_written(cx, of, Step::Notes(telling, readers));
    }

    /// What a step has written is durable.
    pub(super) fn story_step_written(&mut self, cx: &mut Cx, of: (StoryId, u64)) {
        let Some(work) = self.work(of) else { return };
        match std::mem::replace(&mut work.step, Step::Over) {
            Step::Notes(telling, readers) => self.tell_readers(cx, of, telling, readers),
            Step::Clears => self.recall(cx, of),
            step => {
                let at_ms = work.at_ms;
                self.drop_work(of);
                if let Step::EndsWith(_) = step {
                    // There is more of it.
                    self.end_story(cx, of.0, at_ms);
                }
            }
        }
    }

    /// Tells some of a story. When all have heard, it goes on.
    fn tell_readers(&mut self, cx: &mut Cx, of: (StoryId, u64), telling: Box<Telling>, readers: Vec<UserId>) {
        let news = StoryNews::Posted(telling.posted.clone());
        let asked: BTreeSet<_> = readers
            .into_iter()
            .filter(|reader| !telling.circle.blocks(*reader) || is(Mutation::TellBlockedOfStory))
            .collect();
        if asked.is_empty() {
            return self.look_for_more(cx, of, telling);
        }
        let step = Step::Tells(telling, Asked { left: asked.clone(), has_failed: false });
        if let Some(work) = self.next_step(cx, of, step) {
            tell_all(cx, of.0, work, &asked, &news);
        }
    }

    /// The story is deleted: the first of those who were told hear of that, until there is nobody more.
    fn recall(&mut self, cx: &mut Cx, of @ (story, _): (StoryId, u64)) {
        let Some(number) = self.next_step(cx, of, Step::Recalls) else { return };
        let range = keys::all_story_told(story.author.get(), story.number);
        scan(cx, range, 1, StoryScan::Work(story, number));
    }

    fn told_read(&mut self, cx: &mut Cx, of @ (story, _): (StoryId, u64), rows: &Rows) {
        let Some((key, value)) = rows.rows.first() else {
            let Some(number) = self.next_step(cx, of, Step::Views) else { return };
            let range = keys::story_viewers(story.author.get(), story.number, None);
            return scan(cx, range, STORY_ROWS_AT_ONCE, StoryScan::Work(story, number));
        };
        let (Some((_, StoryRow::Told(_, step))), Ok(record)) =
            (keys::story_row(key), StoryToldRecord::decode(&value[..]))
        else {
            cx.damaged("who was told of a story", &Key::from_raw(key));
            return self.drop_work(of);
        };
        let asked: BTreeSet<_> = users(&record.readers).into_iter().collect();
        let left = Asked { left: asked.clone(), has_failed: false };
        if let Some(work) = self.next_step(cx, of, Step::Gone(step, left)) {
            tell_all(cx, story, work, &asked, &StoryNews::Gone);
        }
    }

    /// Of a story that is deleted, who has seen it is kept no longer.
    fn views_read(&mut self, cx: &mut Cx, of: (StoryId, u64), rows: &Rows) {
        if rows.rows.is_empty() {
            return self.telling_over(cx, of);
        }
        for (key, _) in &rows.rows {
            cx.delete(slot_of(of.0.author), Key::from_raw(key));
        }
        self.step_is_written(cx, of, Step::Clears);
    }

    /// Somebody knows of a story by now, or could not be told.
    pub(super) fn story_heard(&mut self, cx: &mut Cx, of: (StoryId, u64), reader: UserId, has: bool) {
        let Some(work) = self.work(of) else { return };
        let (Step::Tells(_, asked) | Step::Gone(_, asked)) = &mut work.step else { return };
        asked.has_failed |= !has;
        if !asked.left.remove(&reader) || !asked.left.is_empty() {
            return;
        }
        if asked.has_failed || !cx.may_write(0) {
            return self.drop_work(of);
        }
        match std::mem::replace(&mut work.step, Step::Over) {
            Step::Tells(telling, _) => self.look_for_more(cx, of, telling),
            Step::Gone(step, _) => {
                let StoryId { author, number } = of.0;
                cx.delete(slot_of(author), keys::story_told(author.get(), number, step));
                self.step_is_written(cx, of, Step::Clears);
            }
            _ => unreachable!("it was one of these"),
        }
    }

    /// Nobody is to be told any more.
    fn telling_over(&mut self, cx: &mut Cx, of: (StoryId, u64)) {
        let Some(at_ms) = self.work(of).map(|work| work.at_ms) else { return };
        if !cx.may_write(0) {
            return self.drop_work(of);
        }
        cx.delete(slot_of(of.0.author), tell_row(of.0, at_ms));
        self.step_is_written(cx, of, Step::Over);
    }

    /// Somebody blocks another one, who sees none of their stories from here on: those that they have go, as far as this is heard, and who is
    /// being told of one is looked at anew.
    pub(in crate::accounts) fn hide_stories(&mut self, cx: &mut Cx, id: UserId, other: UserId) {
        let blocked = Private::Blocked(other, true);
        let is_of = |story: &StoryId| story.author == id;
        // What is being read of whom they block may be older: that is done again.
        self.stories.works.retain(|story, work| !is_of(story) || !matches!(work.step, Step::Blocks(_)));
        for (_, work) in self.stories.works.iter_mut().filter(|(story, _)| is_of(story)) {
            if let Step::Last(telling)
            | Step::Looks(telling)
            | Step::Notes(telling, _)
            | Step::Tells(telling, _) = &mut work.step
            {
                telling.circle.say(&blocked);
            }
        }
        cx.tell_user(other, UserOp::Story(Box::new(StoryOp::Hidden(id))));
    }
}

fn tell_all(cx: &mut Cx, story: StoryId, work: u64, all: &BTreeSet<UserId>, news: &StoryNews) {
    let told = |reader: &UserId| {
        let told = StoryTold { story, work, news: news.clone() };
        (*reader, UserOp::Story(Box::new(StoryOp::Told(told))))
    };
    cx.tell_users(all.iter().map(told));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_story_goes_on_to_be_told_is_read_as_it_was_written() {
        let reader = UserId::new(9).expect("a user");
        for walk in
            [Walk::Contacts(Some(7)), Walk::Chats(None), Walk::Chats(Some(LogId::direct(7, 9))), Walk::Over]
        {
            let record = walk.to_record(&[reader]);
            assert_eq!((Walk::of_record(&record), users(&record.readers)), (walk, vec![reader]));
        }
        assert_eq!(Walk::Contacts(Some(7)).next(&Audience::Everyone), Walk::Chats(None));
        assert_eq!(Walk::Contacts(None).next(&Audience::Contacts), Walk::Over);
        assert_eq!(Walk::Chats(None).next(&Audience::Everyone), Walk::Over);
    }
}
