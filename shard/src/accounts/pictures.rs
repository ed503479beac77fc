//! A user's picture, if it is a medium of this server's: that there is one is read before it becomes the picture, and whoever may see it
//! gets a link.
//!
//! What a user says of themselves takes effect in the order in which it was said: while a medium is being read, what comes behind it waits.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use tern_storage::{LogId, Slot, keys};
use tern_wire::ids::{MediaId, UserId};
use tern_wire::request::Rename;

use super::attach::REVOKED;
use super::users::UNREADABLE;
use super::waits::GetFor;
use super::{Accounts, Cx, slot_of};
use crate::entry::Author;
use crate::media::cites::{
    NO_SUCH_MEDIUM, NO_SUCH_PICTURE, PICTURE, SeenMedium, cite, picture_of, there, uncite_picture,
};
use crate::message::{Unreadable, UserOp};
use crate::mutations::{Mutation, is};
use crate::reply::Origin;

/// What a user says of themselves, by a device.
#[derive(Debug)]
pub(super) struct Renaming {
    pub(super) origin: Origin,
    pub(super) author: Author,
    pub(super) rename: Box<Rename>,
}

/// What waits, by user and in order: for the medium that the first of it names.
#[derive(Debug, Default)]
pub(super) struct Renamings(BTreeMap<UserId, VecDeque<Renaming>>);

/// Of one user. Beyond, whoever says more is to try again.
const RENAMINGS_MAX: usize = 16;

impl Renamings {
    /// Whether none of a slot's users waits.
    pub(super) fn is_still(&self, slot: Slot) -> bool {
        !self.0.keys().any(|user| slot_of(*user) == slot)
    }
}

impl Accounts {
    /// A user says something of themselves.
    pub(super) fn rename_in_order(&mut self, cx: &mut Cx, renaming: Renaming) {
        let (id, origin) = (renaming.author.user, renaming.origin);
        let waiting = self.renamings.0.entry(id).or_default();
        if waiting.len() >= RENAMINGS_MAX {
            let refusal = cx.overloaded();
            return cx.refuse(origin, refusal);
        }
        waiting.push_back(renaming);
        if waiting.len() == 1 {
            self.rename_waiting(cx, id);
        }
    }

    /// Goes on with what waits, up to the next medium that must be read.
    fn rename_waiting(&mut self, cx: &mut Cx, id: UserId) {
        while let Some(next) = self.renamings.0.get(&id).and_then(VecDeque::front) {
            let picture = next.rename.picture.clone();
            let is_another =
                |picture: &Bytes| self.record(id).is_some_and(|record| record.picture != *picture);
            if let Some(medium) = picture.filter(is_another).as_deref().and_then(picture_of) {
                let purpose = GetFor::NewPicture(id, medium, cx.now_ms);
                return cx.get(keys::medium(medium.as_bytes()), purpose);
            }
            let renaming = self.next_renaming(id);
            self.rename_now(cx, renaming, None);
        }
        self.renamings.0.remove(&id);
    }

    fn next_renaming(&mut self, id: UserId) -> Renaming {
        let waiting = self.renamings.0.get_mut(&id);
        waiting.and_then(VecDeque::pop_front).expect("it is at the head until it is dealt with")
    }

    /// It is known whether there was a medium, that is to be a user's picture, after it was asked for.
    pub(super) fn new_picture_read(
        &mut self,
        cx: &mut Cx,
        id: UserId,
        (medium, asked_ms): (MediaId, u64),
        value: Result<Option<Bytes>, Unreadable>,
    ) {
        if self.users.get(id).is_none_or(|user| !user.held.is_known()) {
            // It has left the memory since, or come into doubt: all is said again, in order.
            for Renaming { origin, author, rename } in self.renamings.0.remove(&id).unwrap_or_default() {
                self.user_told(cx, id, UserOp::Rename(origin, author.device, rename));
            }
            return;
        }
        if cx.now_ms.abs_diff(asked_ms) > cx.limits().media_removed_after_ms / 2 {
            // It may have been removed since: it is read again.
            return self.rename_waiting(cx, id);
        }
        let renaming = self.next_renaming(id);
        let origin = renaming.origin;
        match value.map(|value| there(cx, medium, value)) {
            Ok(Some(_)) if !cx.may_write(0) => {
                let refusal = cx.overloaded();
                cx.refuse(origin, refusal);
            }
            Ok(Some(record)) => self.rename_now(cx, renaming, Some((medium, record.look_ms))),
            Ok(None) => cx.refuse(origin, NO_SUCH_MEDIUM),
            Err(_) => cx.refuse(origin, UNREADABLE),
        }
        self.rename_waiting(cx, id);
    }

    /// Does what a device says of itself or of its user, if it still lives. The picture, if it is a medium, was `seen` to be there.
    fn rename_now(&mut self, cx: &mut Cx, renaming: Renaming, seen: Option<SeenMedium>) {
        let Renaming { origin, author, rename } = renaming;
        if self.record(author.user).is_none() {
            return cx.refuse(origin, REVOKED);
        }
        if !self.device(author).is_some_and(|device| device.lives()) {
            let refusal = self.ended(author.user);
            return cx.refuse(origin, refusal);
        }
        self.rename(cx, origin, author, (*rename, seen));
    }

    /// Somebody wants a link to this medium as the user's picture, and sees the picture, or does not: then they learn as much as if there were
    /// none.
    pub(super) fn picture_wanted(
        &mut self,
        cx: &mut Cx,
        origin: Origin,
        id: UserId,
        medium: MediaId,
        sees: bool,
    ) {
        let is_it = self.record(id).is_some_and(|record| picture_of(&record.picture) == Some(medium));
        if !is_it || !sees && !is(Mutation::LinkHiddenPicture) {
            return cx.refuse(origin, NO_SUCH_PICTURE);
        }
        let row = keys::cite(medium.as_bytes(), LogId::Private(id.get()), PICTURE.0);
        cx.get(row, GetFor::Picture(origin, medium));
    }
}

/// Writes that a user has this picture from here on, and not the one of before. `changes`: which of the user's pictures it is.
pub(super) fn write_picture(cx: &mut Cx, id: UserId, before: &[u8], seen: Option<SeenMedium>, changes: u64) {
    let (slot, log) = (slot_of(id), LogId::Private(id.get()));
    uncite_picture(cx, slot, log, before, changes);
    if let Some(seen) = seen {
        cite(cx, slot, (log, PICTURE), seen);
    }
}
