//! Adding a device to a user whose phone is proven.

use tern_proto::v1;
use tern_storage::keys;
use tern_storage::records::{DeviceRecord, UserRecord};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::{DeviceId, Name, Phone, UserId};
use tern_wire::request::{Pin, Verify};

use super::codes::{self, Proof};
use super::kept::Device;
use super::making::FORGOTTEN;
use super::pin::Entrance;
use super::profiles::Parts;
use super::waits::{After, Then};
use super::{Accounts, Cx, slot_of};
use crate::admin::{AdminResponse, Provisioned};
use crate::days::day_of;
use crate::entry::Author;
use crate::maps::Few;
use crate::reply::{Origin, Reply};
use crate::tokens::{Access, RefreshToken, token_hash};

/// A proven phone asks for a device of its user.
#[derive(Debug)]
pub(super) struct AddDevice {
    /// Who waits for the session.
    pub(super) by: Asker,
    /// The proven phone.
    pub(super) phone: Phone,
    /// By which code; `None` by an operator's word.
    pub(super) proof: Option<Proof>,
    /// The display name; empty leaves it.
    pub(super) name: Name,
    /// The device's name.
    pub(super) device_name: String,
    /// The account's PIN, if it was given.
    pub(super) pin: Pin,
    /// The user is one that its phone has just made.
    pub(super) fresh: bool,
    /// The account is to take the place of this one, whose devices have all stayed away.
    pub(super) instead: Option<UserId>,
    /// The id that was drawn for it.
    pub(super) anew: Option<UserId>,
}

/// Who waits for a session.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    /// A client.
    Client(Origin),
    /// An operator, by the number of the question.
    Operator(u64),
}

const DELETED: Refusal = Refusal::for_now(Reason::Unavailable, 1000, "the account has just been deleted");

impl AddDevice {
    /// For a client that has sent the right code.
    pub(super) fn verified(origin: Origin, verify: Verify, proof: Proof) -> Self {
        let Verify { phone, name, device_name, pin, .. } = verify;
        let by = Asker::Client(origin);
        let proof = Some(proof);
        Self { by, phone, proof, name, device_name, pin, fresh: false, instead: None, anew: None }
    }

    /// For an operator, whose word is enough.
    pub(super) fn provisioned(question: u64, phone: Phone, name: Name) -> Self {
        let (by, device_name) = (Asker::Operator(question), "provisioned".to_owned());
        let pin = Pin::default();
        Self { by, phone, proof: None, name, device_name, pin, fresh: false, instead: None, anew: None }
    }
}

impl Accounts {
    /// Adds a device, unless something stands in the way: then nothing has changed.
    pub(super) fn add_device(&mut self, cx: &mut Cx, id: UserId, add: AddDevice) {
        if let Err(refusal) = self.may_add(&add, id) {
            return self.refuse_device(cx, add, refusal);
        }
        if self.user(id).record.is_none() && !add.fresh {
            // It was deleted while this waited.
            return self.refuse_device(cx, add, DELETED);
        }
        // One that is about to end is kept by this.
        if let Some(refusal) = self.suspension(id, cx.now_ms) {
            return self.refuse_device(cx, add, refusal);
        }
        if matches!(add.by, Asker::Client(_)) && !add.fresh {
            match self.entrance(cx, id, &add) {
                Entrance::Open if self.is_idle(cx, id) => return self.begin_anew(cx, id, add),
                Entrance::Open | Entrance::Known => {}
                Entrance::Silent => return self.begin_anew(cx, id, add),
                Entrance::Wrong => return self.pin_was_wrong(cx, id, &add),
                Entrance::Refused(refusal) => return self.refuse_device(cx, add, refusal),
            }
        }
        match make_room(&self.user(id).devices, cx.limits().devices_max) {
            Ok(replaced) => self.device_is_added(cx, id, add, replaced),
            Err(refusal) => self.refuse_device(cx, add, refusal),
        }
    }

    /// Whether a device may be added for a proven phone, which must still be the user's.
    fn may_add(&mut self, add: &AddDevice, user: UserId) -> Result<(), Refusal> {
        let state = self.phones.known(&add.phone).ok_or(FORGOTTEN)?;
        let owner = UserId::new(state.record.user);
        if owner.is_some_and(|owner| owner != user && add.instead != Some(owner)) {
            return Err(FORGOTTEN);
        }
        add.proof.map_or(Ok(()), |proof| codes::is_good(&state.record, proof))
    }

    /// The code is used up, the phone is the user's, and the device is written, all in one batch. Nothing is refused any more.
    fn device_is_added(&mut self, cx: &mut Cx, id: UserId, add: AddDevice, replaced: Option<DeviceId>) {
        let phone = self.phones.state(&add.phone);
        phone.record.user = id.get();
        if let Some(proof) = add.proof {
            codes::use_up(&mut phone.record, proof);
        }
        self.write_phone(cx, &add.phone);
        self.phones.proof_ended(&add.phone);
        let record = self.user(id).record.get_or_insert_with(|| UserRecord {
            phone: add.phone.as_str().to_owned(),
            created_ms: cx.now_ms,
            ..UserRecord::default()
        });
        let is_renamed = !add.name.as_str().is_empty() && record.name != add.name.as_str();
        if is_renamed {
            add.name.as_str().clone_into(&mut record.name);
            record.names += 1;
        }
        self.keep_account(cx, id);
        self.note_hash(cx, id);
        let (device, session) = self.make_device(cx, id, replaced, add.device_name);
        if is_renamed && !add.fresh {
            self.after(cx, After::of_user(id, Then::Renamed(Parts::NAME)));
        }
        let then = match add.by {
            Asker::Client(origin) => Then::Reply(origin, Reply::Session(Box::new(session))),
            Asker::Operator(question) => {
                let provisioned = provisioned(add.phone.clone(), Author { user: id, device }, session);
                Then::Answer(question, AdminResponse::Provisioned(provisioned))
            }
        };
        self.after(cx, After { user: Some(id), phone: Some(add.phone), then });
    }

    /// Gives a user another device, in place of one if that has to go. All of the user's record is written.
    pub(super) fn make_device(
        &mut self,
        cx: &mut Cx,
        id: UserId,
        replaced: Option<DeviceId>,
        name: String,
    ) -> (DeviceId, v1::Session) {
        let is_first = self.record(id).is_some_and(|record| record.devices_made == 0);
        // Before one goes: by it the account may have been here today.
        let last = self.last_day(id);
        self.count_here(cx, id, is_first);
        let (slot, user) = (slot_of(id), self.user(id));
        if let Some(replaced) = replaced {
            user.devices.remove(&replaced);
            cx.delete(slot, keys::device(id.get(), replaced.get()));
        }
        let record = user.record.as_mut().expect("whoever is given a device is a user");
        record.devices_made += 1;
        let device = DeviceId::new(record.devices_made).expect("counted from 1");
        cx.put(slot, keys::user(id.get()), record);
        // The first device of a user lacks nothing that its inbox does not tell.
        let is_new = record.devices_made > 1;
        // Not before the account's last day, whatever the clock: an account counts once a day.
        let seen_day = day_of(cx.now_ms).max(last.unwrap_or(0));
        let record = DeviceRecord { name, new: is_new, seen_day, ..DeviceRecord::default() };
        let session = self.write_new_device(cx, Author { user: id, device }, record);
        self.after(cx, After::of_user(id, Then::Joined(device)));
        (device, session)
    }

    /// Writes a new device, and gives its session.
    fn write_new_device(&mut self, cx: &mut Cx, author: Author, record: DeviceRecord) -> v1::Session {
        let Author { user, device } = author;
        let (nonce, session) = (cx.entropy().nonce(), cx.entropy().session());
        let expires_ms = cx.now_ms + cx.limits().refresh_token_valid_ms;
        let refresh = RefreshToken { author, session, generation: 0, expires_ms };
        let token = self.keys.refresh_token(refresh, &nonce);
        let record = DeviceRecord {
            created_ms: cx.now_ms,
            refresh_hash: token_hash(&token),
            refresh_expires_ms: expires_ms,
            session,
            ..record
        };
        cx.put(slot_of(user), keys::device(user.get(), device.get()), &record);
        let state = Device { record, ..Device::default() };
        self.user(user).devices.insert(device, state);
        self.session_of(cx, Access { author, session }, token, expires_ms)
    }

    /// Whether none of an account's devices has been here for so long that its phone may have changed hands.
    fn is_idle(&mut self, cx: &Cx, id: UserId) -> bool {
        let days_max = cx.limits().account_idle_days;
        days_max > 0 && self.silent_days(cx, id).is_some_and(|days| days >= days_max)
    }

    /// For how many days none of an account's devices has been here; `None`: one is.
    pub(super) fn silent_days(&mut self, cx: &Cx, id: UserId) -> Option<u32> {
        let today = day_of(cx.now_ms);
        let user = self.user(id);
        let valid_ms = cx.limits().refresh_token_valid_ms;
        let refreshed = |device: &Device| day_of(device.record.refresh_expires_ms.saturating_sub(valid_ms));
        let seen = |device: &Device| device.record.seen_day.max(refreshed(device));
        // Nobody could be here while the account was suspended.
        let made =
            user.record.as_ref().map_or(0, |record| day_of(record.created_ms.max(record.suspended_until_ms)));
        let last = user.devices.values().map(seen).fold(made, u32::max).min(today);
        let is_here = user.devices.values().any(|device| device.place.is_some());
        (!is_here).then_some(today - last)
    }

    /// The phone of an idle account is proven: by a person who is new to it, for carriers give numbers out again. The account
    /// ends, and another one begins, under an id that has to be drawn first.
    fn begin_anew(&mut self, cx: &mut Cx, idle: UserId, add: AddDevice) {
        match add.anew.filter(|anew| !self.users.contains(*anew)) {
            Some(anew) => {
                self.end_user(cx, idle);
                self.make_user(cx, anew, add);
            }
            None => self.draw_id(cx, AddDevice { instead: Some(idle), ..add }),
        }
    }

    /// A device is not added, and nothing has changed.
    pub(super) fn refuse_device(&mut self, cx: &mut Cx, add: AddDevice, refusal: Refusal) {
        self.phones.proof_ended(&add.phone);
        match add.by {
            Asker::Client(origin) => cx.refuse(origin, refusal),
            Asker::Operator(question) => {
                cx.answer(question, AdminResponse::Refused(refusal.detail.to_owned()));
            }
        }
    }
}

fn provisioned(phone: Phone, author: Author, session: v1::Session) -> Provisioned {
    Provisioned {
        phone,
        user: author.user,
        device: author.device,
        access_token: session.access_token,
        access_expires_ms: session.access_expires_ms,
        refresh_token: session.refresh_token,
        refresh_expires_ms: session.refresh_expires_ms,
    }
}

/// Which device has to go for a new one: ended ones first, then the oldest that is not connected.
fn make_room(devices: &Few<DeviceId, Device>, max: usize) -> Result<Option<DeviceId>, Refusal> {
    if devices.len() < max {
        return Ok(None);
    }
    let idle = devices.iter().filter(|(_, device)| device.place.is_none());
    let oldest = idle.min_by_key(|(_, device)| (device.record.revoked_ms == 0, device.record.created_ms));
    let refusal = Refusal::new(Reason::TooManyDevices, "the account has as many connected devices as it may");
    oldest.map(|(device, _)| Some(*device)).ok_or(refusal)
}
