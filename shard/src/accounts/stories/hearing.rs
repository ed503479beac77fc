//! Who is told of a story by its author's owner, or that it is gone: it comes into their feed if they want it, and goes from there.
//!
//! Whoever has not the author as a contact, nor a direct chat with them, or blocks them, does not get it, and is answered for as if they had:
//! nobody learns who does.

use tern_storage::keys::{self, Relation};
use tern_storage::{LogId, Rows};
use tern_wire::ids::UserId;
use tern_wire::story::StoryId;

use super::ending::forget;
use super::{Accounts, Cx, StoryScan, StoryThen, after, end_row, note_due, scan, scan_key, slot_of};
use crate::limits::STORY_ROWS_AT_ONCE;
use crate::message::{Notice, StoryNews, StoryOp, StoryTold, Unreadable, UserOp};
use crate::mutations::{Mutation, is};

/// Somebody who is told of a story, while it is read whether they may see it.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    /// How often they are.
    reads: u32,
    /// They have heard since that it is gone.
    is_gone: bool,
}

/// What somebody hears of a story.
#[derive(Clone, Debug)]
pub(crate) struct HearsOf {
    pub(super) reader: UserId,
    pub(super) told: StoryTold,
    step: Step,
}

/// What is asked of the store for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// Whether the reader blocks the author.
    Blocks,
    /// Whether the author is a contact.
    Contact,
    /// Whether there is a direct chat.
    Chat,
    /// Whether the reader has the story, which is gone.
    Has,
    /// Nothing: the reader has it from here on, or has not; and knows of that.
    Knows(bool),
}

/// Tells the author's owner that somebody knows of a story, or could not be told now.
pub(super) fn answer(cx: &mut Cx, reader: UserId, (story, work): (StoryId, u64), has: bool) {
    let heard = StoryOp::Heard(story, work, reader, has);
    cx.tell_user(story.author, UserOp::Story(Box::new(heard)));
}

impl Accounts {
    /// A user is told of a story, or that it is gone.
    pub(super) fn hear_of_story(&mut self, cx: &mut Cx, reader: UserId, told: StoryTold) {
        let step = match told.news {
            StoryNews::Posted(_) => {
                self.stories.hearing.entry((reader, told.story)).or_default().reads += 1;
                Step::Blocks
            }
            StoryNews::Gone => {
                if let Some(hearing) = self.stories.hearing.get_mut(&(reader, told.story)) {
                    hearing.is_gone = true;
                }
                Step::Has
            }
        };
        ask(cx, Box::new(HearsOf { reader, told, step }));
    }

    /// What was asked of the store for that has come.
    pub(super) fn hears_read(
        &mut self,
        cx: &mut Cx,
        mut hears: Box<HearsOf>,
        rows: Result<Rows, Unreadable>,
    ) {
        let is_there = match rows {
            Ok(rows) => !rows.rows.is_empty(),
            // What is damaged is not read again and again.
            Err(why) => return self.hears_not(cx, &hears, why == Unreadable::Damaged),
        };
        let is_ignored = is(Mutation::TakeAnyStory);
        match (hears.step, is_there) {
            (Step::Blocks, true) => self.hears_not(cx, &hears, true),
            (Step::Blocks, false) if is_ignored => self.take_story(cx, hears),
            (Step::Blocks, false) => {
                hears.step = Step::Contact;
                ask(cx, hears);
            }
            (Step::Contact, false) => {
                hears.step = Step::Chat;
                ask(cx, hears);
            }
            (Step::Contact | Step::Chat, true) => self.take_story(cx, hears),
            (Step::Chat, false) => self.hears_not(cx, &hears, true),
            (Step::Has, had) => self.lose_story(cx, hears, had),
            (Step::Knows(_), _) => unreachable!("nothing is read for it"),
        }
    }

    /// Nothing more is read for somebody who is told of a story. Gives whether they have heard since that it is gone.
    fn hearing_over(&mut self, hears: &HearsOf) -> bool {
        let key = (hears.reader, hears.told.story);
        let Some(hearing) = self.stories.hearing.get_mut(&key) else { return false };
        let is_gone = hearing.is_gone;
        if let StoryNews::Posted(_) = hears.told.news {
            hearing.reads -= 1;
            if hearing.reads == 0 {
                self.stories.hearing.remove(&key);
            }
        }
        is_gone
    }

    /// They do not get it, or (`false`) could not be told now.
    fn hears_not(&mut self, cx: &mut Cx, hears: &HearsOf, has: bool) {
        self.hearing_over(hears);
        answer(cx, hears.reader, (hears.told.story, hears.told.work), has);
    }

    /// They may see it: it comes into their feed.
    fn take_story(&mut self, cx: &mut Cx, mut hears: Box<HearsOf>) {
        let StoryTold { story, work, ref news } = hears.told;
        let StoryNews::Posted(posted) = news else { return };
        let (reader, slot) = (hears.reader, slot_of(hears.reader));
        let is_gone = self.hearing_over(&hears) || posted.record.expires_ms <= cx.now_ms;
        if is_gone || !cx.is_here(slot) || !cx.may_write(posted.record.body.len()) {
            return answer(cx, reader, (story, work), is_gone);
        }
        let key = keys::in_feed(reader.get(), story.author.get(), story.number);
        cx.put(slot, key, &posted.record);
        cx.put_bytes(slot, end_row(reader, story, posted.record.expires_ms), &[]);
        hears.step = Step::Knows(true);
        after(cx, self, StoryThen::Heard(hears));
    }

    /// It is gone: it goes from their feed, whether it had come there or is about to.
    fn lose_story(&mut self, cx: &mut Cx, mut hears: Box<HearsOf>, had: bool) {
        let StoryTold { story, work, .. } = hears.told;
        if !cx.is_here(slot_of(hears.reader)) || !cx.may_write(0) {
            return answer(cx, hears.reader, (story, work), false);
        }
        forget(cx, hears.reader, story);
        hears.step = Step::Knows(had);
        after(cx, self, StoryThen::Heard(hears));
    }

    /// What somebody has heard is durable: their devices are told.
    pub(super) fn heard(&mut self, cx: &mut Cx, hears: &HearsOf) {
        let StoryTold { story, work, ref news } = hears.told;
        let is_new = matches!(hears.step, Step::Knows(true));
        let notice = match news {
            StoryNews::Posted(posted) => {
                note_due(cx, hears.reader, posted.record.expires_ms);
                Notice::StoryPosted(posted.clone())
            }
            StoryNews::Gone => Notice::StoryGone(story),
        };
        if is_new {
            self.tell_devices_of(cx, hears.reader, None, &notice);
        }
        answer(cx, hears.reader, (story, work), true);
    }

    /// Somebody blocks a user, who sees none of their stories from here on.
    pub(super) fn lose_stories_of(&mut self, cx: &mut Cx, reader: UserId, author: UserId) {
        for ((by, story), hearing) in &mut self.stories.hearing {
            hearing.is_gone |= (*by, story.author) == (reader, author);
        }
        let range = keys::in_feed_of(reader.get(), author.get());
        scan(cx, range, STORY_ROWS_AT_ONCE, StoryScan::Hidden(reader));
    }

    /// Their stories are known, as far as the user has them.
    pub(super) fn hidden_read(&mut self, cx: &mut Cx, reader: UserId, rows: Result<Rows, Unreadable>) {
        // Those that stay end by the clock.
        let Ok(rows) = rows else { return };
        if !cx.is_here(slot_of(reader)) || !cx.may_write(0) {
            return;
        }
        for (key, _) in &rows.rows {
            let Some((_, keys::StoryRow::InFeed(author, number))) = keys::story_row(key) else { continue };
            let Some(author) = UserId::new(author) else { continue };
            let story = StoryId { author, number };
            forget(cx, reader, story);
            self.tell_devices_of(cx, reader, None, &Notice::StoryGone(story));
        }
    }
}

/// Asks the store for the next thing that must be known.
fn ask(cx: &mut Cx, hears: Box<HearsOf>) {
    let (reader, StoryId { author, number }) = (hears.reader.get(), hears.told.story);
    let key = match hears.step {
        Step::Blocks => keys::relation(reader, Relation::Blocked(author.get())),
        Step::Contact => keys::relation(reader, Relation::Contact(author.get())),
        Step::Chat => keys::membership(reader, LogId::direct(reader, author.get())),
        Step::Has | Step::Knows(_) => keys::in_feed(reader, author.get(), number),
    };
    scan_key(cx, &key, StoryScan::Hears(hears));
}
