//! Those are told of a story who may see it.
//!
//! The author's contacts are gone through, and for everyone the author's direct chats: some at a time. Who is told together is written
//! before they are; the last such row says where to go on. Whoever is told answers when they have it durably. Nobody waits for one who can't
//! be told now, or does not answer: their row says so, and they are told again when all others have been, later each time.

use std::collections::BTreeSet;
use std::sync::Arc;

use tern_storage::keys::{self, Relation};
use tern_storage::records::{FeedRecord, StoryRecord, StoryToldRecord};
use tern_storage::{Direction, LogId, Rows, ScanLimit};
use tern_wire::ids::UserId;
use tern_wire::story::{Audience, StoryId};

use super::walk::{Walk, step_of, users};
use super::work::{Asked, Step, tell_all};
use super::{Accounts, Cx, StoryScan, scan, slot_of};
use crate::accounts::waits::ScanFor;
use crate::circle::Circle;
use crate::entry::peer_of;
use crate::limits::STORY_STEP_ROWS;
use crate::message::{PostedStory, StoryNews};
use crate::mutations::{Mutation, is};

/// A story of which others are told.
#[derive(Debug)]
pub(super) struct Telling {
    posted: Arc<PostedStory>,
    audience: Audience,
    pub(super) circle: Circle,
    /// The number of the step in which these are told, and what its row says.
    step: u32,
    row: StoryToldRecord,
    /// The number of the next step, and where it goes on.
    next: u32,
    walk: Walk,
    late: Late,
}

/// Those who could not be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Late {
    /// There is nobody.
    Nobody,
    /// Rows may name some.
    Some,
    /// They are told again: those of the steps up to this one have been; and whether some could not be.
    Again(Option<u32>, bool),
}

/// A story as others see it.
pub(super) fn posted(story: StoryId, record: &StoryRecord) -> Arc<PostedStory> {
    let StoryRecord { time_ms, expires_ms, kind, body, media, .. } = record.clone();
    Arc::new(PostedStory { story, record: FeedRecord { time_ms, expires_ms, kind, body, media } })
}

impl Accounts {
    pub(super) fn begin_telling(
        &mut self,
        cx: &mut Cx,
        of @ (story, _): (StoryId, u64),
        record: &StoryRecord,
    ) {
        let Ok(audience) = Audience::parse(record.audience, &record.named) else {
            return self.telling_over(cx, of);
        };
        let telling = Telling {
            posted: posted(story, record),
            audience,
            circle: Circle::default(),
            step: 0,
            row: StoryToldRecord::default(),
            next: 0,
            walk: Walk::Contacts(None),
            late: Late::Nobody,
        };
        let Some(number) = self.next_step(cx, of, Step::Blocks(Box::new(telling))) else { return };
        scan(cx, keys::circle(story.author.get()), usize::MAX, StoryScan::Work(story, number));
    }

    pub(super) fn blocks_read(
        &mut self,
        cx: &mut Cx,
        of @ (story, _): (StoryId, u64),
        mut telling: Box<Telling>,
        rows: Rows,
    ) {
        let Some(circle) = Circle::of_rows(rows.rows) else { return self.drop_work(of) };
        telling.circle = circle;
        let Some(number) = self.next_step(cx, of, Step::Last(telling)) else { return };
        let range = keys::story_told_behind(story.author.get(), story.number, None);
        let one = ScanLimit { rows: 1, bytes: usize::MAX };
        cx.scan(range, Direction::Backwards, one, ScanFor::Story(StoryScan::Work(story, number)));
    }

    /// Who was told last is known: they may not have heard of it.
    pub(super) fn last_told_read(
        &mut self,
        cx: &mut Cx,
        of: (StoryId, u64),
        mut telling: Box<Telling>,
        rows: &Rows,
    ) {
        let Some(row) = rows.rows.first() else { return self.go_on_telling(cx, of, telling) };
        let Some((step, record)) = step_of(cx, row) else { return self.drop_work(of) };
        (telling.next, telling.walk, telling.late) = (step + 1, Walk::of_record(&record), Late::Some);
        let has_heard = record.has_heard;
        (telling.step, telling.row) = (step, record);
        if has_heard {
            self.go_on_telling(cx, of, telling);
        } else {
            self.tell_readers(cx, of, telling, true);
        }
    }

    /// Goes on with the next who may see it, or, when that is all, with those who could not be told.
    pub(super) fn go_on_telling(
        &mut self,
        cx: &mut Cx,
        of @ (story, _): (StoryId, u64),
        mut telling: Box<Telling>,
    ) {
        if telling.posted.record.expires_ms <= cx.now_ms {
            return self.telling_over(cx, of);
        }
        let (author, number) = (story.author.get(), story.number);
        let (range, is_late) = match (telling.walk, telling.late) {
            (Walk::Contacts(after), _) => match telling.audience.named_alone() {
                Some((first, last)) => {
                    let first = first.get().saturating_sub(1).max(after.unwrap_or(0));
                    (keys::contacts_between(author, first, last.get()), false)
                }
                None => (keys::contacts_behind(author, after), false),
            },
            (Walk::Chats(after), _) => (keys::memberships(author, after), false),
            (Walk::Over, Late::Nobody) => return self.telling_over(cx, of),
            (Walk::Over, Late::Some) if !telling.row.has_heard => {
                // Whoever begins with this row again does not tell all of it.
                telling.row.has_heard = true;
                write_row(cx, story, &telling);
                return self.step_is_written(cx, of, Step::Noted(telling));
            }
            (Walk::Over, Late::Some) => {
                telling.late = Late::Again(None, false);
                (keys::story_told_behind(author, number, None), true)
            }
            (Walk::Over, Late::Again(behind, _)) => (keys::story_told_behind(author, number, behind), true),
        };
        let step = if is_late { Step::Late(telling) } else { Step::Looks(telling) };
        let Some(work) = self.next_step(cx, of, step) else { return };
        scan(cx, range, STORY_STEP_ROWS, StoryScan::Work(story, work));
    }

    /// Some of those have come who may see it.
    pub(super) fn more_found(
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
            return self.go_on_telling(cx, of, telling);
        }
        (telling.step, telling.row) = (telling.next, telling.walk.to_record(found));
        telling.next += 1;
        write_row(cx, story, &telling);
        self.step_is_written(cx, of, Step::Notes(telling));
    }

    /// Tells those of a step, who may have been told before; or of those who could not be told, the next.
    pub(super) fn tell_readers(
        &mut self,
        cx: &mut Cx,
        of: (StoryId, u64),
        telling: Box<Telling>,
        again: bool,
    ) {
        let news = StoryNews::Posted(telling.posted.clone());
        let whom = if let Late::Again(..) = telling.late { &telling.row.late } else { &telling.row.readers };
        let blocks = |reader: &UserId| telling.circle.blocks(*reader) && !is(Mutation::TellBlockedOfStory);
        let readers: BTreeSet<_> = users(whom).filter(|reader| !blocks(reader)).collect();
        if readers.is_empty() {
            return self.told(cx, of, telling, &readers);
        }
        let step = Step::Tells(telling, Asked::new(readers.clone()));
        if let Some(work) = self.next_step(cx, of, step) {
            tell_all(cx, (of.0, work), &readers, again, &news);
        }
    }

    /// All of a step have been told, but for these.
    pub(super) fn told(
        &mut self,
        cx: &mut Cx,
        of: (StoryId, u64),
        mut telling: Box<Telling>,
        late: &BTreeSet<UserId>,
    ) {
        telling.late = match telling.late {
            Late::Again(_, before) => Late::Again(Some(telling.step), before || !late.is_empty()),
            before if late.is_empty() => before,
            _ => Late::Some,
        };
        let late: Vec<_> = late.iter().map(|reader| reader.get()).collect();
        if telling.row.late == late {
            return self.go_on_telling(cx, of, telling);
        }
        (telling.row.late, telling.row.has_heard) = (late, true);
        write_row(cx, of.0, &telling);
        self.step_is_written(cx, of, Step::Noted(telling));
    }

    /// Rows have come that may name some who could not be told.
    pub(super) fn late_read(
        &mut self,
        cx: &mut Cx,
        of: (StoryId, u64),
        mut telling: Box<Telling>,
        rows: &Rows,
    ) {
        let Late::Again(_, before) = telling.late else { return self.drop_work(of) };
        for row in &rows.rows {
            let Some((step, record)) = step_of(cx, row) else { return self.drop_work(of) };
            telling.late = Late::Again(Some(step), before);
            if !record.late.is_empty() {
                (telling.step, telling.row) = (step, record);
                return self.tell_readers(cx, of, telling, true);
            }
        }
        match (rows.more, before) {
            (true, _) => self.go_on_telling(cx, of, telling),
            (false, true) => self.go_on_later(cx, of, telling.posted.record.time_ms),
            (false, false) => self.telling_over(cx, of),
        }
    }
}

fn write_row(cx: &mut Cx, StoryId { author, number }: StoryId, telling: &Telling) {
    cx.put(slot_of(author), keys::story_told(author.get(), number, telling.step), &telling.row);
}
