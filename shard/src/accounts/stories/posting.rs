//! A story is posted: those of an account one after the other, so that each knows of those before it.

use bytes::Bytes;
use prost::Message as _;
use tern_proto::v1;
use tern_storage::records::StoryRecord;
use tern_storage::{LogId, Rows, keys};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::{MediaId, Seq, UserId};
use tern_wire::story::{PostStory, StoryId};
use xxhash_rust::xxh3::Xxh3;

use super::super::attach::REVOKED;
use super::telling::posted;
use super::{
    Accounts, Cx, StoryGet, StoryScan, StoryThen, UNREADABLE, after, end_row, note_due, scan, slot_of,
    tell_row,
};
use crate::accounts::waits::GetFor;
use crate::entry::Author;
use crate::limits::POSTINGS_MAX;
use crate::media::NO_MEDIA;
use crate::media::cites::{NO_SUCH_MEDIUM, SeenMedium, cite, there};
use crate::message::{Notice, Unreadable};
use crate::mutations::{Mutation, is};
use crate::reply::{Origin, Reply};

const REUSED: Refusal = Refusal::new(Reason::ClientIdReused, "that number stands for another story");
const TOO_MANY: Refusal =
    Refusal::new(Reason::TooManyStories, "as many stories of the account are there as may be");

/// A story that is about to be posted.
#[derive(Debug)]
pub(super) struct Posting {
    origin: Origin,
    by: Author,
    post: PostStory,
    /// Its media that were read to be there, and when the first of them was asked for, in ms since the Unix epoch.
    seen: Vec<SeenMedium>,
    since_ms: u64,
    /// It counts as one of those that the account may post in an hour.
    counts: bool,
    /// As it was written.
    written: Option<StoryRecord>,
}

impl Posting {
    fn story(&self) -> StoryId {
        StoryId { author: self.by.user, number: self.post.number }
    }
}

/// xxh3 of all that is posted, but for its number. Persisted: it never changes.
fn fingerprint(post: &PostStory) -> u64 {
    let mut hasher = Xxh3::new();
    let (audience, named) = post.audience.to_raw();
    hasher.update(&post.kind.to_le_bytes());
    hasher.update(&audience.to_le_bytes());
    hasher.update(&(named.len() as u64).to_le_bytes());
    named.iter().for_each(|user| hasher.update(&user.to_le_bytes()));
    hasher.update(&(post.media.len() as u64).to_le_bytes());
    post.media.iter().for_each(|medium| hasher.update(medium.as_bytes()));
    hasher.update(&post.body);
    hasher.digest()
}

/// Under which number a story has its media.
pub(super) fn cited_as(story: StoryId) -> (LogId, Seq) {
    (LogId::Private(story.author.get()), Seq(keys::STORY_FROM | story.number))
}

impl Accounts {
    pub(super) fn want_to_post(&mut self, cx: &mut Cx, by: Author, origin: Origin, post: PostStory) {
        if let Some(refusal) = self.bar(by.user, cx.now_ms) {
            return cx.refuse(origin, refusal);
        }
        if !post.media.is_empty() && !cx.has_media() {
            return cx.refuse(origin, NO_MEDIA);
        }
        let postings = self.stories.postings.entry(by.user).or_default();
        if postings.len() >= POSTINGS_MAX {
            let refusal = cx.overloaded();
            return cx.refuse(origin, refusal);
        }
        let (seen, since_ms) = (Vec::new(), cx.now_ms);
        postings.push_back(Posting { origin, by, post, seen, since_ms, counts: false, written: None });
        if postings.len() == 1 {
            self.post_next(cx, by.user);
        }
    }

    /// The first that is about to be posted by an account is looked at.
    fn post_next(&mut self, cx: &mut Cx, id: UserId) {
        if self.stories.postings.get(&id).is_none_or(|postings| postings.is_empty()) {
            self.stories.postings.remove(&id);
            return;
        }
        let Some(story) = self.posting(id).map(|posting| posting.story()) else { return };
        cx.get(keys::story(id.get(), story.number), GetFor::Story(StoryGet::Own(id)));
    }

    /// Whoever wanted to post the first is answered, and the next one's turn has come.
    pub(super) fn answer_posting(&mut self, cx: &mut Cx, id: UserId, reply: Reply) {
        if let Some(posting) = self.stories.postings.get_mut(&id).and_then(|postings| postings.pop_front()) {
            if posting.counts && is_for_now(&reply) {
                self.budgets.did_not_post_story(id);
            }
            cx.reply(posting.origin, reply);
        }
        self.post_next(cx, id);
    }

    fn posting(&mut self, id: UserId) -> Option<&mut Posting> {
        self.stories.postings.get_mut(&id)?.front_mut()
    }

    /// It is known whether the first that is to be posted is there already. If it is not, it counts, and those of the account are read.
    pub(super) fn own_story_read(
        &mut self,
        cx: &mut Cx,
        id: UserId,
        value: Result<Option<Bytes>, Unreadable>,
    ) {
        let Some(posting) = self.posting(id) else { return };
        let (story, posted) = (posting.story(), fingerprint(&posting.post));
        let reply = match value.map(|value| value.map(StoryRecord::decode).transpose()) {
            Ok(Ok(None)) if self.stories.works.contains_key(&story) => {
                // One that had this number is just ending.
                Reply::Refused(cx.overloaded())
            }
            Ok(Ok(None)) => match self.budgets.post_story(id, cx.now_ms) {
                Ok(()) => {
                    if let Some(posting) = self.posting(id) {
                        posting.counts = true;
                    }
                    let rows = cx.limits().stories_max;
                    return scan(cx, keys::stories_of(id.get(), None), rows, StoryScan::Own(id));
                }
                Err(refusal) => Reply::Refused(refusal),
            },
            // It ends now, and then the number stands for nothing.
            Ok(Ok(Some(record))) if record.expires_ms <= cx.now_ms => Reply::Refused(cx.overloaded()),
            Ok(Ok(Some(record))) if record.fingerprint == posted => Reply::StoryMade(made(&record)),
            Ok(Ok(Some(_))) => Reply::Refused(REUSED),
            Ok(Err(_)) => {
                cx.damaged("a story", &keys::story(id.get(), story.number));
                Reply::Refused(UNREADABLE)
            }
            Err(_) => Reply::Refused(UNREADABLE),
        };
        self.answer_posting(cx, id, reply);
    }

    /// The stories of an account are known, of which there is to be one more.
    pub(super) fn own_stories_read(&mut self, cx: &mut Cx, id: UserId, rows: Result<Rows, Unreadable>) {
        let refusal = match rows {
            Ok(rows) if rows.rows.len() < cx.limits().stories_max => return self.look_at_media(cx, id),
            Ok(_) => TOO_MANY,
            Err(_) => UNREADABLE,
        };
        self.answer_posting(cx, id, Reply::Refused(refusal));
    }

    /// Reads the next medium of the first that is to be posted, or posts it.
    fn look_at_media(&mut self, cx: &mut Cx, id: UserId) {
        let now_ms = cx.now_ms;
        let Some(posting) = self.posting(id) else { return };
        if posting.seen.is_empty() {
            posting.since_ms = now_ms;
        }
        let is_unseen = |medium: &&MediaId| !posting.seen.iter().any(|(seen, _)| seen == *medium);
        match posting.post.media.iter().find(is_unseen).copied() {
            Some(medium) => {
                let purpose = GetFor::Story(StoryGet::Medium(id, medium, posting.since_ms));
                cx.get(keys::medium(medium.as_bytes()), purpose);
            }
            None => self.post_now(cx, id),
        }
    }

    /// A medium of it is known.
    pub(super) fn story_medium_read(
        &mut self,
        cx: &mut Cx,
        id: UserId,
        (medium, asked_ms): (MediaId, u64),
        value: Result<Option<Bytes>, Unreadable>,
    ) {
        if cx.now_ms.abs_diff(asked_ms) > cx.limits().media_removed_after_ms / 2 {
            // It may have been removed since: all are read again.
            if let Some(posting) = self.posting(id) {
                posting.seen.clear();
            }
            return self.look_at_media(cx, id);
        }
        match value.map(|value| there(cx, medium, value)) {
            Ok(Some(record)) if record.owner == id.get() => {
                if let Some(posting) = self.posting(id) {
                    posting.seen.push((medium, record.look_ms));
                }
                self.look_at_media(cx, id);
            }
            Ok(_) => self.answer_posting(cx, id, Reply::Refused(NO_SUCH_MEDIUM)),
            Err(_) => self.answer_posting(cx, id, Reply::Refused(UNREADABLE)),
        }
    }

    /// Writes the first that is to be posted, with what says that it ends, and that others are to be told.
    fn post_now(&mut self, cx: &mut Cx, id: UserId) {
        let has_ended = self.users.get(id).is_some_and(|user| user.held.is_known() && user.record.is_none());
        let Some(posting) = self.posting(id) else { return };
        if has_ended {
            return self.answer_posting(cx, id, Reply::Refused(REVOKED));
        }
        let (story, bytes) = (posting.story(), posting.post.body.len());
        // One that had this number may be about to end since it was looked for.
        if self.stories.works.contains_key(&story) || !cx.may_write(bytes) {
            let refusal = cx.overloaded();
            return self.answer_posting(cx, id, Reply::Refused(refusal));
        }
        let Some(posting) = self.posting(id) else { return };
        let slot = slot_of(id);
        let (audience, named) = posting.post.audience.to_raw();
        let expires_ms = cx.now_ms + cx.limits().story_valid_ms;
        let record = StoryRecord {
            time_ms: cx.now_ms,
            expires_ms,
            kind: posting.post.kind,
            body: posting.post.body.clone(),
            media: posting.post.media.iter().map(MediaId::to_bytes).collect(),
            audience,
            named,
            fingerprint: fingerprint(&posting.post),
            deleted: false,
            deleted_ms: 0,
        };
        cx.put(slot, keys::story(id.get(), story.number), &record);
        cx.put_bytes(slot, end_row(id, story, expires_ms), &[]);
        if !is(Mutation::ForgetToTell) {
            cx.put_bytes(slot, tell_row(story, record.time_ms), keys::TO_TELL);
        }
        for seen in &posting.seen {
            cite(cx, slot, cited_as(story), *seen);
        }
        posting.written = Some(record);
        after(cx, self, StoryThen::Posted(id));
    }

    /// It is durable: whoever posted it is answered, and then those are told who may see it.
    pub(super) fn story_posted(&mut self, cx: &mut Cx, id: UserId) {
        let Some(posting) = self.posting(id) else { return };
        let (story, device) = (posting.story(), posting.by.device);
        let Some(record) = posting.written.take() else { return };
        self.answer_posting(cx, id, Reply::StoryMade(made(&record)));
        let notice = Notice::StoryPosted(posted(story, &record));
        self.tell_devices_of(cx, id, Some(device), &notice);
        note_due(cx, id, record.time_ms);
        note_due(cx, id, record.expires_ms);
        self.tell_of_story(cx, story, record.time_ms);
    }
}

/// Whether the same is to be asked again.
fn is_for_now(reply: &Reply) -> bool {
    match reply {
        Reply::StoryMade(_) => false,
        Reply::Refused(refusal) => refusal.retry_after_ms > 0,
        _ => true,
    }
}

fn made(record: &StoryRecord) -> v1::StoryMade {
    v1::StoryMade { time_ms: record.time_ms, expires_ms: record.expires_ms }
}
