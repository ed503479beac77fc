//! What is being done about stories by their author's owner, step by step: at a time one thing about each.
//!
//! A row (`t`) says that there is something to do until it is done, so a work may end at any time: what is left of it is found again.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message as _;
use tern_storage::records::StoryRecord;
use tern_storage::{Rows, keys};
use tern_wire::ids::UserId;
use tern_wire::story::StoryId;

use super::recalling::Recall;
use super::telling::Telling;
use super::{Accounts, Cx, StoryGet, StoryThen, after, note_due, slot_of, tell_row};
use crate::accounts::waits::GetFor;
use crate::limits::{STORIES_TOLD_MAX, STORY_AGAIN_MS, STORY_STEP_MS};
use crate::message::{Hides, StoryDue, StoryDuty, StoryNews, StoryOp, StoryTold, Unreadable, UserOp};

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
    /// Who could not be told is being looked for.
    Late(Box<Telling>),
    /// Who is to be told next is being written.
    Notes(Box<Telling>),
    /// These are told, and have not answered.
    Tells(Box<Telling>, Asked),
    /// Who of them could not be told is being written.
    Noted(Box<Telling>),
    /// It is deleted: who was told is being read.
    Recalls(Recall),
    /// These hear that it is gone, of the step of this number, and have not answered.
    Gone(Recall, u32, Asked),
    /// Who has seen it is being read.
    Views(Recall),
    /// Rows are being removed, and others follow.
    Clears(Recall),
    /// It is to go on at this time, in ms since the Unix epoch: that is being written.
    Later(u64),
    /// Nobody is to be told any more: the row that says so is being removed.
    Over,
    /// Its author deletes it.
    Deletes,
    /// Its time has come, and it is being read.
    Ends,
    /// What there is beside it is being read, and removed with it, if that is all.
    EndsWith(Option<Box<StoryRecord>>),
}

impl Step {
    /// What is told, and to whom, while that is so.
    pub(super) fn telling(&mut self) -> Option<&mut Telling> {
        match self {
            Self::Blocks(telling)
            | Self::Last(telling)
            | Self::Looks(telling)
            | Self::Late(telling)
            | Self::Notes(telling)
            | Self::Tells(telling, _)
            | Self::Noted(telling) => Some(telling),
            _ => None,
        }
    }

    /// Whether all hear that the story is gone, which is deleted, or have heard.
    pub(super) fn is_recall(&self) -> bool {
        matches!(self, Self::Recalls(_) | Self::Gone(..) | Self::Views(_) | Self::Clears(_))
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
    pub(super) fn new(left: BTreeSet<UserId>) -> Self {
        Self { left, failed: BTreeSet::new() }
    }

    /// Who has not heard, when nobody answers any more.
    fn not_told(self) -> BTreeSet<UserId> {
        self.left.into_iter().chain(self.failed).collect()
    }
}

impl Accounts {
    /// Something is due about a story.
    pub(super) fn story_due(&mut self, cx: &mut Cx, id: UserId, due: StoryDue) {
        let StoryDue { story, at_ms, what } = due;
        match what {
            StoryDuty::Hide => Self::hide_stories(cx, Hides { reader: story.author, by: id, at_ms }),
            StoryDuty::End if id != story.author => Self::end_in_feed(cx, id, story, at_ms),
            StoryDuty::End => self.end_story(cx, story, at_ms),
            StoryDuty::Tell => match self.stories.works.get(&story) {
                Some(work) => {
                    let of = (story, work.number);
                    self.go_on_if_late(cx, of);
                }
                None => self.tell_of_story(cx, story, at_ms),
            },
        }
    }

    /// Whoever was told may be gone: it goes on without them.
    fn go_on_if_late(&mut self, cx: &mut Cx, of: (StoryId, u64)) {
        let now_ms = cx.now_ms;
        // The clock may have been set back.
        let is_late = |work: &mut Work| now_ms.abs_diff(work.since_ms) >= STORY_STEP_MS;
        let waits = |work: &mut Work| matches!(work.step, Step::Tells(..) | Step::Gone(..));
        if self.work(of).is_some_and(|work| waits(work) && is_late(work)) {
            self.all_have_answered(cx, of);
        }
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
            Step::Tells(telling, asked) => self.told(cx, of, telling, &asked.not_told()),
            Step::Gone(recall, step, asked) => self.step_has_heard(cx, of, (recall, step), asked.not_told()),
            _ => self.drop_work(of),
        }
    }

    /// Somebody could not be told: it goes on after a while, which is longer the longer it has gone on, since this time, in ms since the Unix
    /// epoch.
    pub(super) fn go_on_later(&mut self, cx: &mut Cx, of: (StoryId, u64), since_ms: u64) {
        let Some(at_ms) = self.work(of).map(|work| work.at_ms) else { return };
        let wait_ms = (cx.now_ms.saturating_sub(since_ms) / 2).clamp(STORY_AGAIN_MS.0, STORY_AGAIN_MS.1);
        let (slot, next_ms) = (slot_of(of.0.author), cx.now_ms + wait_ms);
        cx.delete(slot, tell_row(of.0, at_ms));
        cx.put_bytes(slot, tell_row(of.0, next_ms), keys::TO_TELL);
        self.step_is_written(cx, of, Step::Later(next_ms));
    }

    /// Nobody is to be told any more.
    pub(super) fn telling_over(&mut self, cx: &mut Cx, of: (StoryId, u64)) {
        let Some(at_ms) = self.work(of).map(|work| work.at_ms) else { return };
        if !cx.may_write(0) {
            return self.drop_work(of);
        }
        cx.delete(slot_of(of.0.author), tell_row(of.0, at_ms));
        self.step_is_written(cx, of, Step::Over);
    }

    /// Others are to be told what has become of a story, as a row of this time says; unless that is under way, or too much is.
    pub(super) fn tell_of_story(&mut self, cx: &mut Cx, story: StoryId, at_ms: u64) {
        let has_room = self.stories.works.len() < STORIES_TOLD_MAX && cx.may_read();
        if has_room && let Some(number) = self.begin_work(cx, story, at_ms, Step::Begins) {
            read_story(cx, (story, number));
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
            Some(record) if record.deleted => {
                self.recall(cx, of, Recall::since(record.deleted_ms));
            }
            Some(record) if record.expires_ms > cx.now_ms => self.begin_telling(cx, of, &record),
            _ => self.telling_over(cx, of),
        }
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
            Step::Late(telling) => self.late_read(cx, of, telling, &rows),
            Step::Recalls(recall) => self.told_read(cx, of, recall, &rows),
            Step::Views(recall) => self.views_read(cx, of, recall, &rows),
            Step::EndsWith(record) => self.end_with(cx, of, record.as_deref(), &rows),
            _ => self.drop_work(of),
        }
    }

    /// What a step has written is durable.
    pub(super) fn story_step_written(&mut self, cx: &mut Cx, of: (StoryId, u64)) {
        let Some(work) = self.work(of) else { return };
        match std::mem::replace(&mut work.step, Step::Over) {
            Step::Notes(telling) => self.tell_readers(cx, of, telling, false),
            Step::Noted(telling) => self.go_on_telling(cx, of, telling),
            Step::Clears(recall) => self.recall(cx, of, recall),
            step => {
                let at_ms = work.at_ms;
                self.drop_work(of);
                match step {
                    // There may be more of it.
                    Step::EndsWith(_) => self.end_story(cx, of.0, at_ms),
                    Step::Later(next_ms) => note_due(cx, of.0.author, next_ms),
                    _ => {}
                }
            }
        }
    }
}

/// Reads the story that a work is about.
pub(super) fn read_story(cx: &mut Cx, (story, number): (StoryId, u64)) {
    let key = keys::story(story.author.get(), story.number);
    cx.get(key, GetFor::Story(StoryGet::Work(story, number)));
}

/// Tells all of these something of a story, as a step of its work.
pub(super) fn tell_all(
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
