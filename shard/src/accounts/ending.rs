//! The end of devices and of users.

use tern_storage::keys;
use tern_storage::records::{EndRecord, UserRecord};
use tern_wire::errors::{Farewell, Reason};
use tern_wire::ids::{Phone, UserId};
use tern_wire::request::Pin;

use super::groups::read_groups;
use super::pictures::write_picture;
use super::pin::Entrance;
use super::waits::{After, Then};
use super::{Accounts, Cx, slot_of};
use crate::admin::AdminResponse;
use crate::message::FrontOp;
use crate::mutations::{Mutation, is};
use crate::reply::{Origin, Reply};

impl Accounts {
    /// The devices of a user have changed, durably.
    pub(super) fn devices_changed(&mut self, cx: &mut Cx, id: UserId) {
        self.tell_watchers(cx, id);
        read_groups(cx, id, None);
        let user = self.user(id);
        let lives = user.record.is_some();
        let devices = user.devices.iter_mut();
        for (_, device) in devices.filter(|(_, device)| !lives || device.record.revoked_ms != 0) {
            let farewell = Farewell::new(Reason::SessionRevoked, "the session has ended: register again");
            device.tell(cx, FrontOp::End(farewell));
        }
        self.look_who_is_here(cx, id);
    }

    /// Deletes a user for an operator, and frees the phone.
    pub(super) fn delete(&mut self, cx: &mut Cx, question: u64, id: UserId, phone: Phone) {
        if !self.end_user(cx, id) {
            return cx.answer(question, AdminResponse::Deleted(false));
        }
        self.free_phone(cx, &phone);
        let then = Then::Answer(question, AdminResponse::Deleted(true));
        self.after(cx, After { user: Some(id), phone: Some(phone), then });
    }

    /// A user says that the account is to end: it does after a while, unless somebody proves its phone before.
    pub(super) fn ask_to_end(&mut self, cx: &mut Cx, origin: Origin, id: UserId, pin: &Pin) {
        if let Err(refusal) = self.budgets.rename(id, cx.now_ms) {
            return cx.refuse(origin, refusal);
        }
        match self.pin_of_device(id, pin, cx.now_ms) {
            Entrance::Open | Entrance::Known | Entrance::Silent => {}
            Entrance::Wrong => return self.wrong_pin(cx, id, origin),
            Entrance::Refused(refusal) => return cx.refuse(origin, refusal),
        }
        let due_ms = (cx.now_ms + cx.limits().deletion_delay_ms).max(1);
        let Some(record) = self.record(id) else { return };
        record.ends_ms = due_ms;
        self.write_user(cx, id);
        cx.put(slot_of(id), keys::end(id.get()), &EndRecord { due_ms, ..EndRecord::default() });
        self.note_bar(id);
        self.after(cx, After::of_user(id, Then::Reply(origin, Reply::AccountEnds(due_ms))));
        self.after(cx, After::of_user(id, Then::Barred));
    }

    /// An account that is to end does not. Whoever says so writes its record. `false`: it was not to.
    pub(super) fn keep_account(&mut self, cx: &mut Cx, id: UserId) -> bool {
        let Some(record) = self.record(id).filter(|record| record.ends_ms > 0) else { return false };
        if is(Mutation::EndAnyway) {
            return true;
        }
        record.ends_ms = 0;
        cx.delete(slot_of(id), keys::end(id.get()));
        self.note_bar(id);
        true
    }

    /// The same, for an operator.
    pub(super) fn keep(&mut self, cx: &mut Cx, question: u64, id: UserId) {
        let was_to_end = self.keep_account(cx, id);
        if was_to_end {
            self.write_user(cx, id);
        }
        self.after(cx, After::of_user(id, Then::Answer(question, AdminResponse::Kept(was_to_end))));
    }

    /// Ends a user: the record stays as a tombstone, so that the id is never given out again. `false` if there is none.
    pub(super) fn end_user(&mut self, cx: &mut Cx, id: UserId) -> bool {
        let user = self.user(id);
        let Some(record) = user.record.take() else { return false };
        self.fading.forget(id);
        Self::forget_hash(cx, id, &record.phone);
        Self::count_end(cx, id);
        write_picture(cx, id, &record.picture, None, record.pictures + 1);
        let tombstone = UserRecord {
            created_ms: record.created_ms,
            deleted_ms: cx.now_ms.max(1),
            devices_made: record.devices_made,
            ..UserRecord::default()
        };
        cx.put(slot_of(id), keys::user(id.get()), &tombstone);
        let (due_ms, ended_ms) = (tombstone.deleted_ms, tombstone.deleted_ms);
        let row = EndRecord { due_ms, ended_ms, ..EndRecord::default() };
        cx.put(slot_of(id), keys::end(id.get()), &row);
        self.note_bar(id);
        let user = self.user(id);
        for device in user.devices.keys() {
            cx.delete(slot_of(id), keys::device(id.get(), device.get()));
            cx.delete(slot_of(id), keys::push_token(id.get(), device.get()));
        }
        self.after(cx, After::of_user(id, Then::Deleted));
        true
    }
}
