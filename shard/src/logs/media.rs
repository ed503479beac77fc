//! Media that go with entries: an entry says which, and a row beside each medium (`o`) says that the entry has it, written with the entry
//! and removed with what it says. So a medium stays for as long as anything has it, and nothing is ever to be counted. A group's picture is
//! had by the group, from the entry that says so to the one that says otherwise, whatever becomes of these.
//!
//! The rows are the log's, though they lie with the media: nobody else writes them. Whether there is such a medium is read before, when
//! nothing else is in the way of the message; whoever removes media that nothing has waits longer than it takes from there to the
//! entry's commit ([decision 58](../../../docs/decisions/0058-what-has-a-medium-says-so-beside-it.md)).

use bytes::Bytes;
use tern_storage::{Direction, LogId, ScanLimit, Slot, keys};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::group::Change;
use tern_wire::ids::{MediaId, Seq};
use tern_wire::message::Envelope;

use super::append::{ASKER, Tried};
use super::group::{NOT_A_MEMBER, UNKNOWN_GROUP};
use super::log::Log;
use super::read::Purpose;
use super::schedule::scheduled_in;
use super::{Cx, GetFor, Logs};
use crate::entry::{Entry, KIND_GROUP};
use crate::held::Load;
use crate::media::NO_MEDIA;
use crate::media::cites::{
    self, NO_SUCH_MEDIUM, NO_SUCH_PICTURE, PICTURE, SeenMedium, cite, picture_of, there, uncite_picture,
};
use crate::message::{MediumWanted, Send};
use crate::mutations::{Mutation, is};
use crate::reply::Reply;

const NO_SUCH_MESSAGE: Refusal = Refusal::new(
    Reason::NoSuchMessage,
    "there is no such message in the chat, or that medium does not go with it",
);
const DELETED: Refusal = Refusal::new(Reason::MessageDeleted, "that message is deleted");

/// Media that a message was seen to be there, for a while.
#[derive(Clone, Debug, Default)]
pub(crate) struct SeenMedia {
    /// When the first of them was, in ms since the Unix epoch.
    since_ms: u64,
    media: Vec<SeenMedium>,
}

impl SeenMedia {
    fn has(&self, medium: MediaId) -> bool {
        self.media.iter().any(|(seen, _)| *seen == medium)
    }
}

/// The media that what is said in a log has: its own, or those of what it says is to be sent.
fn media_in(log: LogId, body: &[u8], envelope: Option<&Envelope>) -> Vec<MediaId> {
    let of = |envelope: &Envelope| envelope.media.clone();
    match scheduled_in(log, body) {
        Some((_, send)) => send.envelope.as_deref().map_or(Vec::new(), of),
        None => envelope.map_or(Vec::new(), of),
    }
}

/// The media that a message is to have, or that is to be its group's picture.
fn media_wanted(log: LogId, send: &Send) -> Vec<MediaId> {
    if send.kind != KIND_GROUP {
        return media_in(log, &send.body, send.envelope.as_deref());
    }
    let picture = match Change::parse(&send.body) {
        Ok(Change::Made(made)) => made.picture,
        Ok(Change::Picture(picture)) => picture,
        _ => return Vec::new(),
    };
    picture_of(&picture).into_iter().collect()
}

/// The media that an entry has.
pub(super) fn media_of(entry: &Entry) -> Vec<MediaId> {
    media_in(entry.log, &entry.body, entry.envelope.as_deref())
}

/// Writes what becomes of media by an entry: it has some, and others of the log have theirs no more.
pub(super) fn write_media(
    cx: &mut Cx,
    by: Slot,
    entry: &Entry,
    seen: &SeenMedia,
    uncited: &[(Seq, Vec<MediaId>)],
) {
    let seq = if entry.kind == KIND_GROUP { PICTURE } else { entry.seq };
    for medium in &seen.media {
        cite(cx, by, (entry.log, seq), *medium);
    }
    for (seq, media) in uncited {
        uncite(cx, by, (entry.log, *seq), media);
    }
}

/// Writes that an entry does not have these any more.
pub(super) fn uncite(cx: &mut Cx, by: Slot, (log, seq): (LogId, Seq), media: &[MediaId]) {
    for medium in media {
        cites::uncite(cx, by, (log, seq), *medium);
    }
}

/// Writes that a group does not have the picture any more that it had, by its entry of this seq.
pub(super) fn uncite_picture_of(cx: &mut Cx, log: &Log, id: LogId, before: &[u8], by: Seq) {
    uncite_picture(cx, log.slot, id, before, by.0);
}

impl Logs {
    /// Gives a message back whose media are there. Any other one is refused, or waits at the head of the queue until that is read.
    pub(super) fn with_media(
        &mut self,
        cx: &mut Cx,
        id: LogId,
        mut send: Box<Send>,
    ) -> Result<Box<Send>, Tried> {
        if cx.now_ms.abs_diff(send.media.since_ms) > cx.limits().media_removed_after_ms / 2 {
            send.media = SeenMedia { since_ms: cx.now_ms, media: Vec::new() };
        }
        let unseen = media_wanted(id, &send).into_iter().find(|medium| !send.media.has(*medium));
        let Some(medium) = unseen else { return Ok(send) };
        if !cx.may_read() {
            let refusal = cx.overloaded();
            cx.refuse(send.asker, refusal);
            return Err(Tried::Settled);
        }
        let log = self.known(id);
        let purpose = GetFor::Medium(id, log.held.load(), medium);
        log.sends.push_front(send);
        cx.get(keys::medium(medium.as_bytes()), purpose);
        Err(Tried::Held)
    }

    /// It is known whether there is a medium that the message at the head of the queue is to have.
    pub(super) fn medium_read(
        &mut self,
        cx: &mut Cx,
        (id, load): (LogId, Load),
        medium: MediaId,
        value: Option<Bytes>,
    ) {
        // Of a log that came into doubt, whoever waited has been answered.
        let Some(log) = self.known_by(id, load) else { return };
        let is_new_group = log.group.is_some() && !log.exists;
        let mut send = log.sends.pop_front().expect(ASKER);
        let tried = match there(cx, medium, value) {
            Some(record) => {
                send.media.media.push((medium, record.look_ms));
                if is_new_group { self.create(cx, id, send) } else { self.append_or_ask(cx, id, send) }
            }
            None => {
                cx.refuse(send.asker, NO_SUCH_MEDIUM);
                if is_new_group {
                    self.forget_guests(id);
                }
                Tried::Settled
            }
        };
        if tried == Tried::Settled {
            self.append_waiting(cx, id);
        }
        self.part_from_guests(cx, id);
    }

    /// Somebody wants a link to a medium that goes with an entry which they see.
    pub(super) fn get_medium(&mut self, cx: &mut Cx, id: LogId, wanted: Box<MediumWanted>) {
        let log = self.known(id);
        let durable = log.durable.seq();
        let Some(member) = log.seen_member(wanted.reader) else {
            return cx.refuse(wanted.origin, UNKNOWN_GROUP);
        };
        if let (PICTURE, Some(group)) = (wanted.seq, log.group.as_deref()) {
            let sees = member.is_present() || is(Mutation::LinkHiddenPicture);
            let is_it = picture_of(&group.picture) == Some(wanted.medium);
            return match (sees, is_it) {
                (false, _) => cx.refuse(wanted.origin, NOT_A_MEMBER),
                (true, false) => cx.refuse(wanted.origin, NO_SUCH_PICTURE),
                (true, true) => {
                    let row = keys::cite(wanted.medium.as_bytes(), id, PICTURE.0);
                    cx.get(row, GetFor::Picture(wanted.origin, wanted.medium));
                }
            };
        }
        let (oldest, head) = (log.first_of(member.first()), member.visible(durable));
        let seq = wanted.seq;
        if seq < oldest || seq > head {
            return cx.refuse(wanted.origin, NO_SUCH_MESSAGE);
        }
        let one = ScanLimit { rows: 1, bytes: usize::MAX };
        let purpose = Purpose::Medium(wanted);
        self.read_entries(cx, id, (seq.0, seq.0 + 1), Direction::Forwards, one, purpose);
    }

    /// The entry is read.
    pub(super) fn medium_found(cx: &mut Cx, wanted: MediumWanted, entry: &Entry) {
        let MediumWanted { origin, reader, medium, .. } = wanted;
        let hides = entry.is_withheld_from(reader) && !is(Mutation::LinkWithheld);
        if !hides && entry.is_gone(cx.now_ms) {
            return cx.refuse(origin, DELETED);
        }
        if hides || !media_of(entry).contains(&medium) {
            return cx.refuse(origin, NO_SUCH_MESSAGE);
        }
        match cx.link(medium) {
            Some(link) => cx.reply(origin, Reply::MediumLink(link)),
            None => cx.refuse(origin, NO_MEDIA),
        }
    }
}
