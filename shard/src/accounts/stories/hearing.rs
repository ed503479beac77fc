//! Who is told of a story by its author's owner, or that it is gone: it comes into their feed if they want it, and goes from there.
//!
//! Whoever has not the author as a contact, nor a direct chat with them, or blocks them, does not get it, and is answered for as if they had:
//! nobody learns who does.

use prost::Message as _;
use tern_storage::keys::{self, Relation};
use tern_storage::records::FeedRecord;
use tern_storage::{LogId, Rows};
use tern_wire::ids::UserId;
use tern_wire::story::StoryId;

use super::ending::forget;
use super::{Accounts, Cx, StoryScan, StoryThen, after, end_row, note_due, scan_key, slot_of};
use crate::message::{Notice, StoryNews, StoryOp, StoryTold, Unreadable, UserOp};
use crate::mutations::{Mutation, is};

/// Somebody who is told of a story, while it is read whether they may see it, and written.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    /// How often they are.
    count: u32,
    /// They have heard since that it is gone, or have been blocked.
    pub(super) is_gone: bool,
    /// It is being written to their feed.
    pub(super) is_written: bool,
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
    /// Whether the reader has the story already, having been told before.
    HasAlready,
    /// Whether the reader blocks the author.
    Blocks,
    /// Whether the author is a contact.
    Contact,
    /// Whether there is a direct chat.
    Chat,
    /// Whether the reader has the story, which is gone; or it was being written.
    Has(bool),
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
                self.stories.hearing.entry((reader, told.story)).or_default().count += 1;
                if told.again { Step::HasAlready } else { Step::Blocks }
            }
            StoryNews::Gone => {
                let hearing = self.stories.hearing.get_mut(&(reader, told.story));
                let is_written = hearing.is_some_and(|hearing| {
                    hearing.is_gone = true;
                    hearing.is_written
                });
                Step::Has(is_written)
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
        let (is_there, is_it) = match rows {
            Ok(rows) => (!rows.rows.is_empty(), rows.rows.first().is_some_and(|row| is_posted(&hears, row))),
            // What is damaged is not read again and again.
            Err(why) => return self.hears_not(cx, &hears, why == Unreadable::Damaged),
        };
        let is_ignored = is(Mutation::TakeAnyStory);
        match (hears.step, is_there) {
            (Step::HasAlready, _) if is_it => self.hears_not(cx, &hears, true),
            (Step::HasAlready, _) => {
                hears.step = Step::Blocks;
                ask(cx, hears);
            }
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
            (Step::Has(is_written), had) => self.lose_story(cx, hears, had || is_written),
            (Step::Knows(_), _) => unreachable!("nothing is read for it"),
        }
    }

    /// Nothing more is done for somebody who is told of a story.
    fn hearing_over(&mut self, hears: &HearsOf) {
        let key = (hears.reader, hears.told.story);
        if let StoryNews::Posted(_) = hears.told.news
            && let Some(hearing) = self.stories.hearing.get_mut(&key)
        {
            hearing.is_written &= !matches!(hears.step, Step::Knows(_));
            hearing.count -= 1;
            if hearing.count == 0 {
                self.stories.hearing.remove(&key);
            }
        }
    }

    /// They do not get it, or have it, or (`false`) could not be told now.
    pub(super) fn hears_not(&mut self, cx: &mut Cx, hears: &HearsOf, has: bool) {
        self.hearing_over(hears);
        answer(cx, hears.reader, (hears.told.story, hears.told.work), has);
    }

    /// They may see it: it comes into their feed.
    fn take_story(&mut self, cx: &mut Cx, mut hears: Box<HearsOf>) {
        let StoryTold { story, ref news, .. } = hears.told;
        let StoryNews::Posted(posted) = news else { return };
        let (reader, slot) = (hears.reader, slot_of(hears.reader));
        let can = cx.is_here(slot) && cx.may_write(posted.record.body.len());
        let Some(hearing) = self.stories.hearing.get_mut(&(reader, story)) else { return };
        let is_gone = hearing.is_gone || posted.record.expires_ms <= cx.now_ms;
        if is_gone || hearing.is_written || !can {
            return self.hears_not(cx, &hears, is_gone);
        }
        hearing.is_written = true;
        let since = self.stories.hiding.iter_mut();
        let since = since.filter(|(hides, _)| (hides.reader, hides.by) == (reader, story.author));
        since.for_each(|(_, told)| _ = told.insert(story.number));
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
        self.hearing_over(hears);
        let StoryTold { story, work, ref news, .. } = hears.told;
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
}

/// Whether a row is what a reader is told of, and not another story of that number.
fn is_posted(hears: &HearsOf, (_, value): &(bytes::Bytes, bytes::Bytes)) -> bool {
    let StoryNews::Posted(posted) = &hears.told.news else { return false };
    FeedRecord::decode(&value[..]).is_ok_and(|record| record == posted.record)
}

/// Asks the store for the next thing that must be known.
fn ask(cx: &mut Cx, hears: Box<HearsOf>) {
    let (reader, StoryId { author, number }) = (hears.reader.get(), hears.told.story);
    let key = match hears.step {
        Step::Blocks => keys::relation(reader, Relation::Blocked(author.get())),
        Step::Contact => keys::relation(reader, Relation::Contact(author.get())),
        Step::Chat => keys::membership(reader, LogId::direct(reader, author.get())),
        Step::HasAlready | Step::Has(_) | Step::Knows(_) => keys::in_feed(reader, author.get(), number),
    };
    scan_key(cx, &key, StoryScan::Hears(hears));
}
