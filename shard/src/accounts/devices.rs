//! What a user does with their own account: the list of devices, the end of one, the ring of one, other names.

use bytes::Bytes;
use tern_proto::v1;
use tern_storage::keys;
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::{DeviceId, UserId};
use tern_wire::request::Rename;

use super::pictures::{Renaming, write_picture};
use super::profiles::Parts;
use super::push::end_address;
use super::waits::{After, Then};
use super::{Accounts, Cx, slot_of};
use crate::entry::Author;
use crate::limits::DAY_MS;
use crate::media::cites::SeenMedium;
use crate::message::{FrontOp, Notice};
use crate::reply::{Origin, Reply};

const NO_SUCH_DEVICE: Refusal = Refusal::new(Reason::InvalidArgument, "the account has had no such device");

const NO_LIVING_DEVICE: Refusal = Refusal::new(Reason::InvalidArgument, "the account has no such device");

impl Accounts {
    /// Writes what is in memory of a device.
    pub(super) fn write_device(&mut self, cx: &mut Cx, author: Author, then: Then) {
        let Author { user, device } = author;
        let record = &self.user(user).devices.get_mut(&device).expect("it has just been changed").record;
        cx.put(slot_of(user), keys::device(user.get(), device.get()), record);
        self.after(cx, After::of_user(user, then));
    }

    /// Lists the devices of a user, those that have not ended.
    pub(super) fn list_devices(&mut self, cx: &mut Cx, origin: Origin, user: UserId) {
        let devices = self.living(user).map(|(id, device)| v1::Device {
            device_id: id.get(),
            device_name: device.record.name.clone(),
            created_ms: device.record.created_ms,
            seen_ms: u64::from(device.record.seen_day) * DAY_MS,
            connected: device.place.is_some(),
        });
        let devices = devices.collect();
        let has_pin = self.record(user).is_some_and(|record| !record.pin_mac.is_empty());
        let list = v1::DeviceList { devices, has_pin };
        cx.reply(origin, Reply::DeviceList(list));
    }

    /// Ends a device of the user who asks.
    pub(super) fn end_device(&mut self, cx: &mut Cx, origin: Origin, user: UserId, device: DeviceId) {
        let made = self.record(user).map_or(0, |record| record.devices_made);
        if device.get() > made {
            return cx.refuse(origin, NO_SUCH_DEVICE);
        }
        // Answered first: it may be the connection that asks which ends.
        self.after(cx, After::of_user(user, Then::Reply(origin, Reply::DeviceEnded)));
        self.end_session(cx, Author { user, device });
    }

    /// Has a device of the user ring if it is connected, for another one. Nobody remembers it.
    pub(super) fn ring_device(&mut self, cx: &mut Cx, origin: Origin, by: Author, rung: DeviceId) {
        if let Err(refusal) = self.budgets.ring(by.user, cx.now_ms) {
            return cx.refuse(origin, refusal);
        }
        // The one that asks may have gone since.
        let name = self.device_record(by).map_or_else(String::new, |record| record.name.clone());
        let rung = self.device(Author { user: by.user, device: rung }).filter(|device| device.lives());
        let Some(device) = rung else { return cx.refuse(origin, NO_LIVING_DEVICE) };
        device.tell(cx, FrontOp::Notice(Notice::Ring { by: by.device, name }));
        let connected = device.place.is_some();
        cx.reply(origin, Reply::DeviceRung { connected });
    }

    /// Writes that a device's session has ended. `false` if it had, or is not known.
    pub(super) fn end_session(&mut self, cx: &mut Cx, author: Author) -> bool {
        let living = self.device_record(author).filter(|record| record.revoked_ms == 0);
        let Some(record) = living else { return false };
        record.revoked_ms = cx.now_ms.max(1);
        if std::mem::take(&mut record.pushed_since_ms) > 0 {
            end_address(cx, author);
        }
        self.write_device(cx, author, Then::Devices);
        true
    }

    /// A device wants another name for itself or for its user, or says what else others see of the user.
    pub(super) fn want_rename(&mut self, cx: &mut Cx, renaming: Renaming) {
        match self.budgets.rename(renaming.author.user, cx.now_ms) {
            Ok(()) => self.rename_in_order(cx, renaming),
            Err(refusal) => cx.refuse(renaming.origin, refusal),
        }
    }

    /// Gives a user or a device another name, or what else others see of the user.
    pub(super) fn rename(
        &mut self,
        cx: &mut Cx,
        origin: Origin,
        author: Author,
        (rename, seen): (Rename, Option<SeenMedium>),
    ) {
        let user = author.user;
        let Rename { name, device_name, about, picture } = rename;
        if let Some(record) = self.device_record(author)
            && let Some(device_name) = device_name
        {
            record.name = device_name;
            self.write_device(cx, author, Then::Noted);
        }
        if let Some(record) = self.record(user) {
            let name = name.filter(|name| name.as_str() != record.name);
            let about = about.filter(|about| *about != record.about);
            let picture = picture.filter(|picture| *picture != record.picture);
            let changed = Parts { name: name.is_some(), about: about.is_some(), picture: picture.is_some() };
            if let Some(name) = name {
                name.as_str().clone_into(&mut record.name);
                record.names += 1;
            }
            if let Some(about) = about {
                (record.about, record.abouts) = (about, record.abouts + 1);
            }
            if let Some(picture) = picture {
                // Of the frame that it came in nothing else is to stay in memory.
                let before = std::mem::replace(&mut record.picture, Bytes::copy_from_slice(&picture));
                record.pictures += 1;
                write_picture(cx, user, &before, seen, record.pictures);
            }
            if changed.any() {
                cx.put(slot_of(user), keys::user(user.get()), record);
                self.after(cx, After::of_user(user, Then::Renamed(changed)));
            }
        }
        self.after(cx, After::of_user(user, Then::Reply(origin, Reply::Renamed)));
    }

    /// A device was added, durably: the others that are here are told.
    pub(super) fn device_joined(&mut self, cx: &mut Cx, id: UserId, device: DeviceId) {
        self.devices_changed(cx, id);
        // It may have been ended since.
        let Some(record) = self.device_record(Author { user: id, device }) else { return };
        let (name, time_ms) = (record.name.clone(), record.created_ms);
        self.tell_attached(cx, id, |other| {
            let added = Notice::DeviceAdded { device, name: name.clone(), time_ms };
            (other != device).then_some(FrontOp::Notice(added))
        });
    }
}
