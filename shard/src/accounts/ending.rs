//! The end of devices and of users.

use tern_storage::keys;
use tern_storage::records::UserRecord;
use tern_wire::errors::{Farewell, Reason};
use tern_wire::ids::{Phone, UserId};

use super::groups::read_groups;
use super::waits::{After, Then};
use super::{Accounts, Cx, slot_of};
use crate::admin::AdminResponse;
use crate::message::FrontOp;

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

    /// Ends a user: the record stays as a tombstone, so that the id is never given out again. `false` if there is none.
    pub(super) fn end_user(&mut self, cx: &mut Cx, id: UserId) -> bool {
        let user = self.user(id);
        let Some(record) = user.record.take() else { return false };
        self.fading.forget(id);
        Self::forget_hash(cx, id, &record.phone);
        Self::count_end(cx, id);
        let user = self.user(id);
        let tombstone = UserRecord {
            created_ms: record.created_ms,
            deleted_ms: cx.now_ms.max(1),
            devices_made: record.devices_made,
            ..UserRecord::default()
        };
        cx.put(slot_of(id), keys::user(id.get()), &tombstone);
        for device in user.devices.keys() {
            cx.delete(slot_of(id), keys::device(id.get(), device.get()));
        }
        self.after(cx, After::of_user(id, Then::Deleted));
        true
    }
}
