//! A user's feed: their own stories, and those of others that they may see, read with one range read.

use std::collections::BTreeSet;

use prost::Message as _;
use tern_proto::v1;
use tern_storage::keys::{self, Relation, StoryRow};
use tern_storage::records::{FeedRecord, StoryRecord};
use tern_storage::{Direction, Key, Rows, ScanLimit};
use tern_wire::ids::{MediaId, UserId};
use tern_wire::story::StoryId;

use super::{Accounts, Cx, StoryScan, UNREADABLE, scan};
use crate::accounts::waits::ScanFor;
use crate::limits::{MUTED_MAX, STORIES_PAGE_BYTES_MAX, STORIES_PAGE_MAX};
use crate::message::{PostedStory, Unreadable};
use crate::reply::{Origin, Reply};

/// A page of stories that is being read.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    pub(super) reader: UserId,
    origin: Origin,
    after: Option<StoryId>,
    limit: usize,
    /// Whom the reader blocks, rising.
    blocked: Vec<u64>,
    /// Whose stories they have muted, rising; `None`: that is being read.
    muted: Option<Vec<u64>>,
}

/// How many of a page's rows may be stories: each stands behind a row that says that it was seen.
const ROWS_PER_STORY: usize = 2;

/// So many, as is asked for.
pub(super) fn page_of(limit: u32) -> usize {
    match limit {
        0 => STORIES_PAGE_MAX,
        limit => STORIES_PAGE_MAX.min(limit as usize),
    }
}

impl Accounts {
    pub(super) fn list_stories(
        &mut self,
        cx: &mut Cx,
        reader: UserId,
        origin: Origin,
        (after, limit): (Option<StoryId>, u32),
    ) {
        if let Err(refusal) = self.budgets.look_up(reader, cx.now_ms) {
            return cx.refuse(origin, refusal);
        }
        let blocked = self.user(reader).circle.all_blocked().to_vec();
        let limit = page_of(limit);
        let listing = Listing { reader, origin, after, limit, blocked, muted: None };
        scan(cx, keys::muted(reader.get()), MUTED_MAX, StoryScan::Page(Box::new(listing)));
    }

    /// Whose stories are muted is known, or then the stories.
    pub(super) fn page_of_stories_read(
        cx: &mut Cx,
        mut listing: Box<Listing>,
        rows: Result<Rows, Unreadable>,
    ) {
        let Ok(rows) = rows else { return cx.refuse(listing.origin, UNREADABLE) };
        if let Some(muted) = &listing.muted {
            let page = page(cx, &listing, muted, &rows);
            return cx.reply(listing.origin, Reply::StoriesPage(Box::new(page)));
        }
        let muted = |(key, _): &(bytes::Bytes, bytes::Bytes)| match Relation::of(key)? {
            Relation::Muted(other) => Some(other),
            _ => None,
        };
        listing.muted = Some(rows.rows.iter().filter_map(muted).collect());
        let after = listing.after.map(|after| (after.author.get(), after.number));
        let range = keys::all_stories(listing.reader.get(), after);
        let limit = ScanLimit { rows: ROWS_PER_STORY * listing.limit, bytes: STORIES_PAGE_BYTES_MAX };
        cx.scan(range, Direction::Forwards, limit, ScanFor::Story(StoryScan::Page(listing)));
    }
}

/// What of the stories that were read is there for the reader, and where it goes on.
fn page(cx: &mut Cx, listing: &Listing, muted: &[u64], rows: &Rows) -> v1::StoriesPage {
    let mut page = v1::StoriesPage::default();
    let mut seen = BTreeSet::new();
    // What was seen stands before its story: the next page begins behind the last row of which that is known.
    let mut last = None;
    let mut before = None;
    for (key, value) in &rows.rows {
        if page.stories.len() == listing.limit {
            page.next = last;
            return page;
        }
        let Some((_, row)) = keys::story_row(key) else {
            cx.damaged("a story", &Key::from_raw(key));
            continue;
        };
        before = last;
        let (author, number) = match row {
            StoryRow::Own(number) => (listing.reader.get(), number),
            StoryRow::InFeed(author, number) => (author, number),
            StoryRow::Seen(author, number) => {
                seen.insert((author, number));
                last = Some(v1::StoryId { user_id: author, number });
                continue;
            }
            StoryRow::Told(..) | StoryRow::Viewer(..) => continue,
        };
        last = Some(v1::StoryId { user_id: author, number });
        before = last;
        let story = match row {
            StoryRow::Own(_) => own(listing.reader, number, value),
            _ => {
                of_other((author, number), value).filter(|_| listing.blocked.binary_search(&author).is_err())
            }
        };
        let Some(mut story) = story.filter(|story| story.expires_ms > cx.now_ms) else { continue };
        story.seen = seen.contains(&(author, number));
        story.muted = muted.binary_search(&author).is_ok();
        let media = story.media.iter().filter_map(|id| MediaId::from_slice(id));
        story.links = media.filter_map(|medium| cx.link(medium)).map(|link| *link).collect();
        page.stories.push(story);
    }
    if rows.more {
        page.next = before;
    }
    page
}

/// A story of one's own, unless it is deleted.
fn own(author: UserId, number: u64, value: &[u8]) -> Option<v1::Story> {
    let record = StoryRecord::decode(value).ok().filter(|record| !record.deleted)?;
    let StoryRecord { time_ms, expires_ms, kind, body, media, audience, named, .. } = record;
    let record = FeedRecord { time_ms, expires_ms, kind, body, media };
    let shown = PostedStory { story: StoryId { author, number }, record }.to_raw();
    Some(v1::Story { audience, user_ids: named, ..shown })
}

fn of_other((author, number): (u64, u64), value: &[u8]) -> Option<v1::Story> {
    let story = StoryId { author: UserId::new(author)?, number };
    Some(PostedStory { story, record: FeedRecord::decode(value).ok()? }.to_raw())
}
