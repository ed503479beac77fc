//! A proven phone: its user gets a device, or is made first, under an id that nobody has had.

use bytes::Bytes;
use tern_storage::keys;
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::UserId;

use super::adding::AddDevice;
use super::kept::User;
use super::users::Ask;
use super::{Accounts, Cx, GetFor, slot_of_phone};
use crate::held::Held;
use crate::message::Unreadable;

/// What was decided on of a phone is not in the store.
pub(super) const FORGOTTEN: Refusal =
    Refusal::for_now(Reason::Unavailable, 1000, "the phone's record has to be read again");

impl Accounts {
    /// Adds a device to the user of a proven phone, who is made if there is none.
    pub(super) fn phone_proven(&mut self, cx: &mut Cx, add: AddDevice) {
        match UserId::new(self.phones.state(&add.phone).record.user) {
            Some(user) => self.ask_user(cx, user, Ask::AddDevice(Box::new(add))),
            None => self.draw_id(cx, add),
        }
    }

    /// Draws an id for a new user, and asks the store whether somebody has, or has had, it.
    pub(super) fn draw_id(&mut self, cx: &mut Cx, add: AddDevice) {
        let slot = slot_of_phone(&add.phone);
        let id = loop {
            let id = cx.entropy().user(slot);
            if !self.users.contains(id) && !self.phones.making.contains_key(&id) {
                break id;
            }
        };
        self.phones.making.insert(id, add);
        cx.get(keys::user(id.get()), GetFor::NewUser(id));
    }

    /// Whether an id is free is known, or can't be read: then nobody is made. Somebody may have asked for that user meanwhile: then
    /// another one is drawn.
    pub(super) fn new_user_read(
        &mut self,
        cx: &mut Cx,
        id: UserId,
        result: Result<Option<Bytes>, Unreadable>,
    ) {
        let add = self.phones.making.remove(&id).expect("an id is drawn once at a time");
        let Ok(value) = result else {
            let refusal = Refusal::for_now(Reason::Unavailable, 1000, "the store can't be read");
            return self.refuse_device(cx, add, refusal);
        };
        let Some(state) = self.phones.known(&add.phone) else {
            return self.refuse_device(cx, add, FORGOTTEN);
        };
        let user = UserId::new(state.record.user);
        let is_free = value.is_none() && !self.users.contains(id);
        match user {
            // Two proofs of one phone came together, and the first has made the user.
            Some(user) if add.instead != Some(user) => {
                self.ask_user(cx, user, Ask::AddDevice(Box::new(AddDevice { instead: None, ..add })));
            }
            _ if !is_free => self.draw_id(cx, add),
            Some(user) => {
                self.ask_user(cx, user, Ask::AddDevice(Box::new(AddDevice { anew: Some(id), ..add })));
            }
            None => self.make_user(cx, id, add),
        }
    }

    /// Makes a user, in the batch of its phone's record: nobody has had that id before.
    pub(super) fn make_user(&mut self, cx: &mut Cx, id: UserId, add: AddDevice) {
        let load = self.loads.next();
        self.users.insert(id, User::new(Held::made(load)));
        self.add_device(cx, id, AddDevice { fresh: true, ..add });
    }
}
