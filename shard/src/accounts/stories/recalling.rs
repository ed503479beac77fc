//! A story is deleted: those hear of that who were told of it, as the rows say that were written before they were; and these rows go.
//!
//! Whoever can't be told now stays in their row alone, and hears of it when all others have, later each time.

use std::collections::BTreeSet;

use tern_storage::keys;
use tern_storage::records::StoryToldRecord;
use tern_storage::{Key, Rows};
use tern_wire::ids::UserId;
use tern_wire::story::StoryId;

use super::walk::{step_of, users};
use super::work::{Asked, Step, tell_all};
use super::{Accounts, Cx, StoryScan, scan, slot_of};
use crate::limits::STORY_ROWS_AT_ONCE;
use crate::message::StoryNews;

/// A story that is gone, as others hear of it.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Recall {
    /// When it was deleted, in ms since the Unix epoch.
    since_ms: u64,
    /// Those of the steps up to this one have heard of it, or could not be told.
    behind: Option<u32>,
    has_late: bool,
}

impl Recall {
    /// Nobody has heard of it.
    pub(super) fn since(since_ms: u64) -> Self {
        Self { since_ms, ..Self::default() }
    }
}

impl Accounts {
    /// The next of those who were told hear that it is gone, until there is nobody more.
    pub(super) fn recall(&mut self, cx: &mut Cx, of @ (story, _): (StoryId, u64), recall: Recall) {
        let Some(number) = self.next_step(cx, of, Step::Recalls(recall)) else { return };
        let range = keys::story_told_behind(story.author.get(), story.number, recall.behind);
        scan(cx, range, 1, StoryScan::Work(story, number));
    }

    pub(super) fn told_read(
        &mut self,
        cx: &mut Cx,
        of @ (story, _): (StoryId, u64),
        recall: Recall,
        rows: &Rows,
    ) {
        let Some(row) = rows.rows.first() else {
            let Some(number) = self.next_step(cx, of, Step::Views(recall)) else { return };
            let range = keys::story_viewers(story.author.get(), story.number, None);
            return scan(cx, range, STORY_ROWS_AT_ONCE, StoryScan::Work(story, number));
        };
        let Some((step, record)) = step_of(cx, row) else { return self.drop_work(of) };
        let asked: BTreeSet<_> = users(&record.readers).collect();
        if let Some(work) = self.next_step(cx, of, Step::Gone(recall, step, Asked::new(asked.clone()))) {
            tell_all(cx, (story, work), &asked, true, &StoryNews::Gone);
        }
    }

    /// Those of a step have heard that it is gone, but for these.
    pub(super) fn step_has_heard(
        &mut self,
        cx: &mut Cx,
        of: (StoryId, u64),
        (recall, step): (Recall, u32),
        late: BTreeSet<UserId>,
    ) {
        let StoryId { author, number } = of.0;
        let key = keys::story_told(author.get(), number, step);
        let has_late = recall.has_late || !late.is_empty();
        if late.is_empty() {
            cx.delete(slot_of(author), key);
        } else {
            let readers = late.into_iter().map(UserId::get).collect();
            cx.put(slot_of(author), key, &StoryToldRecord { readers, ..StoryToldRecord::default() });
        }
        self.step_is_written(cx, of, Step::Clears(Recall { behind: Some(step), has_late, ..recall }));
    }

    /// Of a story that is deleted, who has seen it is kept no longer.
    pub(super) fn views_read(&mut self, cx: &mut Cx, of: (StoryId, u64), recall: Recall, rows: &Rows) {
        for (key, _) in &rows.rows {
            cx.delete(slot_of(of.0.author), Key::from_raw(key));
        }
        match (rows.rows.is_empty(), recall.has_late) {
            (false, _) => self.step_is_written(cx, of, Step::Clears(recall)),
            (true, true) => self.go_on_later(cx, of, recall.since_ms),
            (true, false) => self.telling_over(cx, of),
        }
    }
}
