//! What a user does with their own account: the list of devices, the end of one, other names.

use tern_proto::v1;
use tern_storage::keys;
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::{DeviceId, Phone, UserId};
use tern_wire::request::Rename;

use super::After;
use crate::Cx;
use crate::accounts::people::DAY_MS;
use crate::admin::AdminResponse;
use crate::entry::Author;
use crate::reply::{Origin, Reply};
use crate::shard::Shard;

const NO_SUCH_DEVICE: Refusal = Refusal::new(Reason::InvalidArgument, "the account has had no such device");

impl Shard {
    /// Lists the devices of a connected user, those that have not ended.
    pub(crate) fn list_devices(&mut self, cx: &mut Cx, origin: Origin, user: UserId) {
        let living = self.users.living(user);
        let devices = living.map(|(id, device)| v1::Device {
            device_id: id.get(),
            device_name: device.record.name.clone(),
            created_ms: device.record.created_ms,
            seen_ms: u64::from(device.record.seen_day) * DAY_MS,
            connected: device.conn.is_some(),
        });
        let list = v1::DeviceList { devices: devices.collect() };
        self.respond(cx, origin, Reply::DeviceList(list));
    }

    /// Ends a device of a connected user.
    pub(crate) fn end_device(&mut self, cx: &mut Cx, origin: Origin, user: UserId, device: DeviceId) {
        if !self.commits.has_room(0, self.limits.batch_bytes_max) {
            let refusal = self.overloaded();
            return self.respond(cx, origin, Reply::Refused(refusal));
        }
        let made = self.users.record(user).map_or(0, |record| record.devices_made);
        if device.get() > made {
            return self.respond(cx, origin, Reply::Refused(NO_SUCH_DEVICE));
        }
        // Answered first: it may be the connection that asks which ends.
        self.then(After::User(origin, user, Reply::DeviceEnded));
        self.end_session(cx, Author { user, device });
    }

    /// Writes that a device's session has ended. `false` if it had, or is not known.
    pub(crate) fn end_session(&mut self, cx: &mut Cx, author: Author) -> bool {
        let living = self.users.device_record(author).filter(|record| record.revoked_ms == 0);
        let Some(record) = living else { return false };
        record.revoked_ms = cx.now_ms.max(1);
        self.commits.put(keys::device(author.user.get(), author.device.get()), record);
        self.then(After::Devices(author.user));
        true
    }

    /// Ends a device because an operator says so.
    pub(super) fn end_for_operator(&mut self, cx: &mut Cx, question: u64, user: UserId, device: DeviceId) {
        let phone = self.users.record(user).and_then(|record| Phone::parse(&record.phone));
        let Some(phone) = phone.filter(|_| self.end_session(cx, Author { user, device })) else {
            return cx.fx.answer(question, AdminResponse::DeviceEnded(false));
        };
        self.then(After::Answer(question, phone, Some(user), AdminResponse::DeviceEnded(true)));
    }

    /// Gives a connected user or its device another name.
    pub(crate) fn rename(&mut self, cx: &mut Cx, origin: Origin, author: Author, rename: Rename) {
        let Author { user, device } = author;
        if !self.commits.has_room(0, self.limits.batch_bytes_max) {
            let refusal = self.overloaded();
            return self.respond(cx, origin, Reply::Refused(refusal));
        }
        if let Err(refusal) = self.budgets.rename(user, cx.now_ms) {
            return self.respond(cx, origin, Reply::Refused(refusal));
        }
        let Rename { name, device_name } = rename;
        if let Some(record) = self.users.device_record(author)
            && let Some(device_name) = device_name
        {
            record.name = device_name;
            self.commits.put(keys::device(user.get(), device.get()), record);
        }
        if let Some(record) = self.users.record(user)
            && let Some(name) = name.filter(|name| name.as_str() != record.name)
        {
            name.as_str().clone_into(&mut record.name);
            self.commits.put(keys::user(user.get()), record);
            self.then(After::Renamed(user));
        }
        self.then(After::User(origin, user, Reply::Renamed));
    }
}
