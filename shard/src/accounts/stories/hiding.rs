//! Somebody blocks another one, who sees none of their stories from here on: those that the other has, go.
//!
//! What says that they block them is written with a row (`t`), by which the owner of whoever blocks is told of it until the other's owner has
//! answered that nothing is left. So it is not lost in a crash, nor in a move, nor where there is no place for it now. If they do not block
//! them any more when it is looked at, nothing goes: what is told since stays.

use std::collections::BTreeSet;

use tern_storage::Rows;
use tern_storage::keys::{self, Relation, StoryRow};
use tern_wire::ids::UserId;
use tern_wire::private::Private;
use tern_wire::story::StoryId;

use super::ending::forget;
use super::work::Step;
use super::{Accounts, Cx, StoryScan, StoryThen, after, note_due, scan, scan_key, slot_of};
use crate::limits::STORY_ROWS_AT_ONCE;
use crate::message::{Hides, Notice, StoryOp, Unreadable, UserOp};
use crate::mutations::{Mutation, is};

impl Accounts {
    /// What a user says of another one is durable. A row says so too, which is to be looked at now.
    pub(in crate::accounts) fn look_whom_to_hide_from(cx: &mut Cx, id: UserId, private: &Private) {
        if let Private::Blocked(_, true) = private {
            note_due(cx, id, cx.now_ms);
        }
    }

    /// Somebody has blocked another one, as a row says.
    pub(super) fn hide_stories(cx: &mut Cx, hides: Hides) {
        let key = keys::relation(hides.by.get(), Relation::Blocked(hides.reader.get()));
        scan_key(cx, &key, StoryScan::Blocks(hides));
    }

    /// Whether they do so still is known.
    pub(super) fn block_read(&mut self, cx: &mut Cx, hides: Hides, rows: Result<Rows, Unreadable>) {
        // What can't be read is looked at again.
        let Ok(rows) = rows else { return };
        if rows.rows.is_empty() {
            return Self::hidden(cx, hides);
        }
        let known = self.users.get(hides.by).filter(|user| user.held.is_known());
        if known.is_some_and(|user| !user.circle.blocks(hides.reader)) {
            // What was read may be older than that.
            return;
        }
        let is_of = |story: &StoryId| story.author == hides.by;
        // What is being read of whom they block may be older: that is done again.
        self.stories.works.retain(|story, work| !is_of(story) || !matches!(work.step, Step::Blocks(_)));
        let blocked = Private::Blocked(hides.reader, true);
        for (_, work) in self.stories.works.iter_mut().filter(|(story, _)| is_of(story)) {
            if let Some(telling) = work.step.telling() {
                telling.circle.say(&blocked);
            }
        }
        cx.tell_user(hides.reader, UserOp::Story(Box::new(StoryOp::Hidden(hides))));
    }

    /// The other has none of their stories any more, durably.
    pub(super) fn hidden(cx: &mut Cx, Hides { by, reader, at_ms }: Hides) {
        if cx.is_here(slot_of(by)) && cx.may_write(0) {
            cx.delete(slot_of(by), keys::story_hidden(at_ms, by.get(), reader.get()));
        }
    }

    /// A user is to have no stories of somebody's any more.
    pub(super) fn lose_stories_of(&mut self, cx: &mut Cx, hides: Hides) {
        if self.stories.hiding.contains_key(&hides) {
            return;
        }
        let mut stories = BTreeSet::new();
        for ((reader, story), hearing) in &mut self.stories.hearing {
            if (*reader, story.author) == (hides.reader, hides.by) {
                hearing.is_gone = true;
                // No read shows it yet.
                stories.extend(hearing.is_written.then_some(*story));
            }
        }
        self.stories.hiding.insert(hides, BTreeSet::new());
        look(cx, hides, stories);
    }

    /// Their stories are known, as far as the user has them, and those that were just being written.
    pub(super) fn hidden_read(
        &mut self,
        cx: &mut Cx,
        hides: Hides,
        mut stories: BTreeSet<StoryId>,
        rows: Result<Rows, Unreadable>,
    ) {
        let can = cx.is_here(slot_of(hides.reader)) && cx.may_write(0);
        let (Ok(rows), true) = (rows, can) else { return self.hides_not(hides) };
        let of_row = |(key, _): &(bytes::Bytes, bytes::Bytes)| match keys::story_row(key) {
            Some((_, StoryRow::InFeed(_, number) | StoryRow::Seen(_, number))) => {
                Some(StoryId { author: hides.by, number })
            }
            _ => None,
        };
        stories.extend(rows.rows.iter().filter_map(of_row));
        if let Some(since) = self.stories.hiding.get(&hides) {
            stories.retain(|story| !since.contains(&story.number));
        }
        if stories.is_empty() || is(Mutation::LeaveHidden) {
            self.hides_not(hides);
            let done = UserOp::Story(Box::new(StoryOp::Hid(hides)));
            return cx.tell_user(hides.by, done);
        }
        for story in &stories {
            forget(cx, hides.reader, *story);
        }
        after(cx, self, StoryThen::Hidden(hides, stories));
    }

    /// These went, durably: the user's devices are told, and it is seen whether there are more.
    pub(super) fn some_hidden(&mut self, cx: &mut Cx, hides: Hides, stories: BTreeSet<StoryId>) {
        for story in stories {
            self.tell_devices_of(cx, hides.reader, None, &Notice::StoryGone(story));
        }
        look(cx, hides, BTreeSet::new());
    }

    /// It is over, or can't go on now: whoever blocks asks again, if it is not answered.
    pub(super) fn hides_not(&mut self, hides: Hides) {
        self.stories.hiding.remove(&hides);
    }
}

fn look(cx: &mut Cx, hides: Hides, stories: BTreeSet<StoryId>) {
    let range = keys::in_feed_of(hides.reader.get(), hides.by.get());
    scan(cx, range, STORY_ROWS_AT_ONCE, StoryScan::Hidden(hides, stories));
}
