//! Those are told of a story who may see it, or, once it is deleted, those who were told.
//!
//! The author's contacts are gone through, and for everyone the author's direct chats: some at a time. Who is told together is written
//! before they are; the last such row says where to go on, and who of those before could not be told by then. When a story is deleted, these
//! rows say who has it, and go when they have heard that it is gone. Whoever is told answers when they have it durably. Nobody waits for one
//! who can't be told now, or does not answer: those are told again when all others have been, later each time. A row (`t`) says that there is
//! something to be told, until all have been.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use tern_storage::keys::{self, Relation, StoryRow};
use tern_storage::records::{FeedRecord, StoryRecord, StoryToldRecord};
use tern_storage::{Direction, Key, LogId, Rows, ScanLimit};
use tern_wire::ids::UserId;
use tern_wire::story::{Audience, StoryId};

use super::{Accounts, Cx, StoryGet, StoryScan, StoryThen, after, scan, slot_of, tell_row};
use crate::accounts::waits::{GetFor, ScanFor};
use crate::circle::Circle;
use crate::entry::peer_of;
use crate::limits::{DUE_AGAIN_MS, STORIES_TOLD_MAX, STORY_ROWS_AT_ONCE, STORY_STEP_MS, STORY_STEP_ROWS};
use crate::message::{
    Hides, PostedStory, StoryDue, StoryDuty, StoryNews, StoryOp, StoryTold, Unreadable, UserOp,
};
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
    /// All have been told but those who could not be: they are told again after a while.
    Waits(Box<Telling>),
    /// It is deleted: who was told is being read.
    Recalls(Recall),
    /// These hear that it is gone, of the step of this number, and have not answered.
    Gone(Recall, u32, Asked),
    /// The same of a story that is gone.
    WaitsGone(Recall),
    /// Who has seen it is being read, and then removed.
    Views,
    /// Rows are being removed, and others follow.
    Clears(Recall),
    /// Nobody is to be told any more: the row that says so is being removed.
    Over,
    /// Its author deletes it.
    Deletes,
    /// Its time has come, and it is being read.
    Ends,
    /// What there is beside it is being read, and removed with it, if that is all.
    EndsWith(Box<StoryRecord>),
}

impl Step {
    /// What is told, and to whom, while that is so.
    pub(super) fn telling(&mut self) -> Option<&mut Telling> {
        match self {
            Self::Blocks(telling)
            | Self::Last(telling)
            | Self::Looks(telling)
            | Self::Notes(telling, _)
            | Self::Tells(telling, _)
            | Self::Waits(telling) => Some(telling),
            _ => None,
        }
    }

    /// Whether all hear that the story is gone, which is deleted, or have heard.
    pub(super) fn is_recall(&self) -> bool {
        matches!(self, Self::Recalls(_) | Self::Gone(..) | Self::WaitsGone(_) | Self::Views | Self::Clears(_))
    }
}

/// Who was told.
#[derive(Debug)]
pub(super) struct Asked {
    /// They have not answered.
    left: BTreeSet<UserId>,
    /// They could not be told.
    failed: BTreeSet<UserId>,
}

impl Asked {
    fn new(left: BTreeSet<UserId>) -> Self {
        Self { left, failed: BTreeSet::new() }
    }

    /// Who has not heard, when nobody answers any more.
    fn not_told(self) -> BTreeSet<UserId> {
        self.left.into_iter().chain(self.failed).collect()
    }
}

/// A story of which others are told.
#[derive(Debug)]
pub(super) struct Telling {
    posted: Arc<PostedStory>,
    audience: Audience,
    pub(super) circle: Circle,
    /// The number of the next step.
    step: u32,
    /// Where it goes on.
    walk: Walk,
    /// Who could not be told so far, and how often that was tried again.
    late: BTreeSet<UserId>,
    tries: u32,
}

/// A story that is gone, as others hear of it.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Recall {
    /// Those of the steps up to this one have heard, but for some who are to hear it again; and how often that was tried.
    behind: Option<u32>,
    has_late: bool,
    tries: u32,
}

/// After how long those are told again who could not be, in ms: longer each time.
fn wait_ms(tries: u32) -> u64 {
    STORY_STEP_MS.min(DUE_AGAIN_MS << tries.min(16))
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

    fn to_record(self, readers: &[UserId], late: &BTreeSet<UserId>) -> StoryToldRecord {
        let readers = readers.iter().map(|reader| reader.get()).collect();
        let late = late.iter().map(|reader| reader.get()).collect();
        let (contact, chat_low, chat_high) = match self {
            Self::Contacts(after) => (after.unwrap_or(0), 0, 0),
            Self::Chats(Some(LogId::Direct(low, high))) => (0, low, high),
            Self::Chats(_) => (0, 0, 0),
            Self::Over => (0, u64::MAX, u64::MAX),
        };
        StoryToldRecord { readers, contact, chat_low, chat_high, late }
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
        let StoryDue { story, at_ms, what } = due;
        match what {
            StoryDuty::Hide => Self::hide_stories(cx, Hides { reader: story.author, by: id, at_ms }),
            StoryDuty::End if id != story.author => Self::end_in_feed(cx, id, story, at_ms),
            StoryDuty::End => {
                // Those who could not be told so far are not told any more.
                let waits = |work: &Work| matches!(work.step, Step::Waits(_) | Step::WaitsGone(_));
                if self.stories.works.get(&story).is_some_and(waits) {
                    self.stories.works.remove(&story);
                }
                self.end_story(cx, story, at_ms);
            }
            StoryDuty::Tell => match self.stories.works.get(&story) {
                Some(work) => {
                    let of = (story, work.number);
                    self.go_on_if_late(cx, of);
                }
                None => self.tell_of_story(cx, story, at_ms),
            },
        }
    }

    /// Whoever was told may be gone, or be there again.
    fn go_on_if_late(&mut self, cx: &mut Cx, of: (StoryId, u64)) {
        let now_ms = cx.now_ms;
        let Some(work) = self.work(of) else { return };
        // The clock may have been set back.
        let waits_ms = now_ms.abs_diff(work.since_ms);
        let is_late = match &work.step {
            Step::Tells(..) | Step::Gone(..) => waits_ms >= STORY_STEP_MS,
            Step::Waits(telling) => waits_ms >= wait_ms(telling.tries),
            Step::WaitsGone(recall) => waits_ms >= wait_ms(recall.tries),
            _ => false,
        };
        if !is_late {
            return;
        }
        match std::mem::replace(&mut work.step, Step::Over) {
            Step::Waits(telling) => self.tell_late(cx, of, telling),
            Step::WaitsGone(recall) => {
                let tries = recall.tries + 1;
                self.recall(cx, of, Recall { tries, ..Recall::default() });
            }
            step => {
                work.step = step;
                self.all_have_answered(cx, of);
            }
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
            Some(record) if record.deleted => self.recall(cx, of, Recall::default()),
            Some(record) if record.expires_ms > cx.now_ms => self.begin_telling(cx, of, &record),
            _ => self.telling_over(cx, of),
        }
    }

    fn begin_telling(&mut self, cx: &mut Cx, of @ (story, _): (StoryId, u64), record: &StoryRecord) {
        let Ok(audience) = Audience::parse(record.audience, &record.named) else {
            return self.telling_over(cx, of);
        };
        let telling = Telling {
            posted: posted(story, record),
            audience,
            circle: Circle::default(),
            step: 0,
            walk: Walk::Contacts(None),
            late: BTreeSet::new(),
            tries: 0,
        };
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
            Step::Recalls(recall) => self.told_read(cx, of, recall, &rows),
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
        let readers = users(&record.readers).into_iter().chain(users(&record.late)).collect();
        self.tell_readers(cx, of, telling, readers, true);
    }

    fn look_for_more(&mut self, cx: &mut Cx, of @ (story, _): (StoryId, u64), telling: Box<Telling>) {
        if telling.posted.record.expires_ms <= cx.now_ms {
            return self.telling_over(cx, of);
        }
        let author = story.author.get();
        let range = match telling.walk {
            // So many wait that no more are told until some of them have been.
            _ if telling.late.len() >= STORY_STEP_ROWS => return self.wait_for_late(cx, of, telling),
            Walk::Contacts(after) => match telling.audience.named_alone() {
                Some((first, last)) => {
                    let first = first.get().saturating_sub(1).max(after.unwrap_or(0));
                    keys::contacts_between(author, first, last.get())
                }
                None => keys::contacts_behind(author, after),
            },
            Walk::Chats(after) => keys::memberships(author, after),
            Walk::Over if !telling.late.is_empty() => return self.wait_for_late(cx, of, telling),
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
        cx.put(slot_of(story.author), key, &telling.walk.to_record(&readers, &telling.late));
        telling.step += 1;
        self.step_is_written(cx, of, Step::Notes(telling, readers));
    }

    /// What a step has written is durable.
    pub(super) fn story_step_written(&mut self, cx: &mut Cx, of: (StoryId, u64)) {
        let Some(work) = self.work(of) else { return };
        match std::mem::replace(&mut work.step, Step::Over) {
            Step::Notes(telling, readers) => {
                let readers = readers.into_iter().collect();
                self.tell_readers(cx, of, telling, readers, false);
            }
            Step::Clears(recall) => self.recall(cx, of, recall),
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

    /// Tells some of a story, who may have been told before. When all have answered, it goes on.
    fn tell_readers(
        &mut self,
        cx: &mut Cx,
        of: (StoryId, u64),
        telling: Box<Telling>,
        mut readers: BTreeSet<UserId>,
        again: bool,
    ) {
        let news = StoryNews::Posted(telling.posted.clone());
        readers.retain(|reader| !telling.circle.blocks(*reader) || is(Mutation::TellBlockedOfStory));
        if readers.is_empty() {
            return self.look_for_more(cx, of, telling);
        }
        let step = Step::Tells(telling, Asked::new(readers.clone()));
        if let Some(work) = self.next_step(cx, of, step) {
            tell_all(cx, (of.0, work), &readers, again, &news);
        }
    }

    /// Those who could not be told are told again after a while.
    fn wait_for_late(&mut self, cx: &mut Cx, of: (StoryId, u64), telling: Box<Telling>) {
        self.next_step(cx, of, Step::Waits(telling));
    }

    fn tell_late(&mut self, cx: &mut Cx, of: (StoryId, u64), mut telling: Box<Telling>) {
        if telling.posted.record.expires_ms <= cx.now_ms {
            return self.telling_over(cx, of);
        }
        telling.tries += 1;
        let late = std::mem::take(&mut telling.late);
        self.tell_readers(cx, of, telling, late, true);
    }

    /// The story is deleted: the next of those who were told hear of that, until there is nobody more.
    fn recall(&mut self, cx: &mut Cx, of @ (story, _): (StoryId, u64), recall: Recall) {
        let Some(number) = self.next_step(cx, of, Step::Recalls(recall)) else { return };
        let range = keys::story_told_behind(story.author.get(), story.number, recall.behind);
        scan(cx, range, 1, StoryScan::Work(story, number));
    }

    fn told_read(&mut self, cx: &mut Cx, of @ (story, _): (StoryId, u64), recall: Recall, rows: &Rows) {
        let Some((key, value)) = rows.rows.first() else {
            if recall.has_late {
                self.next_step(cx, of, Step::WaitsGone(recall));
                return;
            }
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
        if let Some(work) = self.next_step(cx, of, Step::Gone(recall, step, Asked::new(asked.clone()))) {
            tell_all(cx, (story, work), &asked, true, &StoryNews::Gone);
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
        self.step_is_written(cx, of, Step::Clears(Recall::default()));
    }

    /// Somebody knows of a story by now, or could not be told.
    pub(super) fn story_heard(&mut self, cx: &mut Cx, of: (StoryId, u64), reader: UserId, has: bool) {
        let Some(work) = self.work(of) else { return };
        let (Step::Tells(_, asked) | Step::Gone(.., asked)) = &mut work.step else { return };
        if !asked.left.remove(&reader) {
            return;
        }
        if !has {
            asked.failed.insert(reader);
        }
        if asked.left.is_empty() {
            self.all_have_answered(cx, of);
        }
    }

    /// All who were told have answered, or do not any more: it goes on with others.
    fn all_have_answered(&mut self, cx: &mut Cx, of: (StoryId, u64)) {
        let can = cx.may_write(0);
        let Some(work) = self.work(of).filter(|_| can) else { return self.drop_work(of) };
        match std::mem::replace(&mut work.step, Step::Over) {
            Step::Tells(mut telling, asked) => {
                telling.late.extend(asked.not_told());
                if telling.late.is_empty() {
                    telling.tries = 0;
                }
                self.look_for_more(cx, of, telling);
            }
            Step::Gone(recall, step, asked) => {
                let StoryId { author, number } = of.0;
                let key = keys::story_told(author.get(), number, step);
                let late: Vec<_> = asked.not_told().into_iter().collect();
                let has_late = recall.has_late || !late.is_empty();
                match late.is_empty() {
                    true => cx.delete(slot_of(author), key),
                    false => cx.put(slot_of(author), key, &Walk::Over.to_record(&late, &BTreeSet::new())),
                }
                self.step_is_written(cx, of, Step::Clears(Recall { behind: Some(step), has_late, ..recall }));
            }
            _ => self.drop_work(of),
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
}

fn tell_all(
    cx: &mut Cx,
    (story, work): (StoryId, u64),
    all: &BTreeSet<UserId>,
    again: bool,
    news: &StoryNews,
) {
    let told = |reader: &UserId| {
        let told = StoryTold { story, work, again, news: news.clone() };
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
            let record = walk.to_record(&[reader], &BTreeSet::new());
            assert_eq!((Walk::of_record(&record), users(&record.readers)), (walk, vec![reader]));
        }
        assert_eq!(Walk::Contacts(Some(7)).next(&Audience::Everyone), Walk::Chats(None));
        assert_eq!(Walk::Contacts(None).next(&Audience::Contacts), Walk::Over);
        assert_eq!(Walk::Chats(None).next(&Audience::Everyone), Walk::Over);
    }
}
