//! What has a medium: an entry of a log, by its seq, or a user or a group, as its picture. A row beside the medium (`o`) says so; whoever
//! owns what has it writes the row, in the batch in which it comes to have it, and removes it in the one in which it has it no more.
//!
//! A user has a picture under their private log, a group under its own, both in place of an entry before the first
//! ([decision 60](../../../docs/decisions/0060-a-picture-is-a-medium.md)).

use bytes::Bytes;
use prost::Message as _;
use tern_storage::records::MediumRecord;
use tern_storage::{LogId, Slot, keys};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::{MediaId, Seq};

use crate::cx::{Cx, Department};
use crate::message::Unreadable;
use crate::mutations::{Mutation, is};
use crate::reply::{Origin, Reply};

/// In place of an entry: the picture of the user, or of the group.
pub(crate) const PICTURE: Seq = Seq(keys::PICTURE);

/// Of what a row says that it is to be looked at, since a picture has become another for this time: no entry's number is in its way.
const PICTURES_FROM: u64 = 1 << 63;

pub(crate) const NO_SUCH_MEDIUM: Refusal =
    Refusal::new(Reason::NoSuchMedium, "there is no such medium, or not any more: upload it again");
pub(crate) const NO_SUCH_PICTURE: Refusal =
    Refusal::new(Reason::NoSuchMessage, "that is not the picture, or not for you to see");

/// A medium that was read to be there, for what is to have it: with when it is looked at, if nothing has it until then; 0: something has.
pub(crate) type SeenMedium = (MediaId, u64);

/// The medium that what a client says of a picture names; `None`: the picture is none, or the clients' own affair.
pub(crate) fn picture_of(said: &[u8]) -> Option<MediaId> {
    MediaId::from_slice(said)
}

/// The record of a medium that something may come to have: it is there, and not about to be removed.
pub(crate) fn there<D: Department>(
    cx: &mut Cx<D>,
    medium: MediaId,
    value: Option<Bytes>,
) -> Option<MediumRecord> {
    let Ok(record) = value.map(MediumRecord::decode).transpose() else {
        cx.damaged("a medium", &keys::medium(medium.as_bytes()));
        return None;
    };
    record.filter(|record| record.ends_ms == 0 || is(Mutation::CiteEnding))
}

/// Writes that this has a medium.
pub(crate) fn cite<D: Department>(cx: &mut Cx<D>, by: Slot, (log, seq): (LogId, Seq), seen: SeenMedium) {
    let is_forgotten = if seq == PICTURE { Mutation::ForgetPicture } else { Mutation::ForgetCite };
    if is(is_forgotten) {
        return;
    }
    let (medium, look_ms) = seen;
    cx.put_bytes(by, keys::cite(medium.as_bytes(), log, seq.0), &[]);
    if look_ms > 0 {
        cx.delete(by, keys::look(look_ms, medium.as_bytes(), None));
    }
}

/// Writes that this does not have a medium any more.
pub(crate) fn uncite<D: Department>(cx: &mut Cx<D>, by: Slot, (log, seq): (LogId, Seq), medium: MediaId) {
    uncite_since(cx, by, (log, seq), medium, seq.0);
}

/// Writes that a user or a group does not have the picture any more that it had. `changes`: of how many of its pictures this can be said by
/// now; the same one may come, and go, again.
pub(crate) fn uncite_picture<D: Department>(
    cx: &mut Cx<D>,
    by: Slot,
    log: LogId,
    before: &[u8],
    changes: u64,
) {
    let Some(medium) = picture_of(before).filter(|_| !is(Mutation::KeepPicture)) else { return };
    uncite_since(cx, by, (log, PICTURE), medium, PICTURES_FROM | changes);
}

/// The row by which it is found is like no other one of the medium: whoever has looked, and removes it, removes no later one.
fn uncite_since<D: Department>(
    cx: &mut Cx<D>,
    by: Slot,
    (log, seq): (LogId, Seq),
    medium: MediaId,
    since: u64,
) {
    cx.delete_lazily(by, keys::cite(medium.as_bytes(), log, seq.0));
    cx.put_bytes_lazily(by, keys::look(cx.now_ms, medium.as_bytes(), Some((log, since))), &[]);
}

/// Answers whoever wants a link to a picture that they may see, when it is read whether the medium is had as that: what was said before
/// pictures were media may be as long as a medium's id.
pub(crate) fn link_picture<D: Department>(
    cx: &mut Cx<D>,
    origin: Origin,
    medium: MediaId,
    row: Result<Option<Bytes>, Unreadable>,
) {
    let reply = match row {
        Ok(Some(_)) => cx.link(medium).map(Reply::MediumLink).ok_or(super::NO_MEDIA),
        Ok(None) => Err(NO_SUCH_MEDIUM),
        Err(_) => Err(Refusal::for_now(Reason::Unavailable, 1000, "the picture can't be read")),
    };
    cx.reply(origin, reply.unwrap_or_else(Reply::Refused));
}
