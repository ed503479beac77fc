//! Users and their devices: who is attached, what each device's inbox holds, who watches the list of devices.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use tern_proto::v1;
use tern_storage::records::{DeviceRecord, UserRecord};
use tern_storage::{Direction, LogId, Row, ScanLimit, Slot, keys};
use tern_wire::errors::{Farewell, Reason, Refusal};
use tern_wire::ids::{DeviceId, Name, Phone, Seq, UserId};
use tern_wire::request::{Refresh, Verify};

use super::{After, GetFor, ScanFor};
use crate::Cx;
use crate::accounts::codes::Proof;
use crate::accounts::kept::{Device, Inbox, Kept, User};
use crate::accounts::people::{DAY_MS, day_of};
use crate::accounts::report_damage;
use crate::accounts::tokens::{Access, RefreshToken, token_hash};
use crate::admin::{AdminResponse, DeviceView, UserView};
use crate::entry::{Author, Entry};
use crate::limits::USER_WAITING_MAX;
use crate::maps::{Few, Hashing};
use crate::message::{Glance, LogOp, Message, Shown, UserAsk, UserOp, Watermarks};
use crate::reply::{ConnId, Origin, Reply};
use crate::shard::Shard;

/// The users of a core's slots that are in memory.
#[derive(Debug)]
pub struct Users {
    kept: Kept,
}

/// The newest entry of a log that is not known yet.
const SOME_ENTRY: Seq = Seq(u64::MAX);

/// What waits for a user to be read.
#[derive(Debug)]
pub(super) enum Waiting {
    Attach(ConnId),
    Watch(LogId),
    Refresh(Origin, DeviceId, Box<Refresh>),
    Describe(Origin, Shown),
    Introduce(Box<Glance>),
    AddDevice(AddDevice),
    View(u64),
    EndDevice(u64, DeviceId),
    Delete(u64, Phone),
}

/// A proven phone asks for a device of its user.
#[derive(Debug)]
pub struct AddDevice {
    /// Who waits for the session.
    pub by: Asker,
    /// The proven phone.
    pub phone: Phone,
    /// By which code; `None` by an operator's word.
    pub proof: Option<Proof>,
    /// The display name; empty leaves it.
    pub name: Name,
    /// The device's name.
    pub device_name: String,
    /// The user is one that its phone has just made.
    pub fresh: bool,
    /// The account is to take the place of this one, whose devices have all stayed away.
    pub instead: Option<UserId>,
    /// The id that was drawn for it.
    pub anew: Option<UserId>,
}

/// A connection that has begun to stand for a device.
#[derive(Debug)]
pub struct Attached {
    /// The user's name.
    pub name: String,
    /// The highest device number that the user has given out.
    pub newest_device: u32,
    /// The connection that stood for the device before.
    pub older: Option<ConnId>,
}

/// Who waits for a session.
#[derive(Clone, Copy, Debug)]
pub enum Asker {
    /// A client.
    Client(Origin),
    /// An operator, by the number of the question.
    Operator(u64),
}

impl AddDevice {
    /// For a client that has sent the right code.
    pub fn verified(origin: Origin, verify: Verify, proof: Proof) -> Self {
        let Verify { phone, name, device_name, .. } = verify;
        Self {
            by: Asker::Client(origin),
            phone,
            proof: Some(proof),
            name,
            device_name,
            fresh: false,
            instead: None,
            anew: None,
        }
    }

    /// For an operator, whose word is enough.
    pub fn provisioned(question: u64, phone: Phone, name: Name) -> Self {
        Self {
            by: Asker::Operator(question),
            phone,
            proof: None,
            name,
            device_name: "provisioned".to_owned(),
            fresh: false,
            instead: None,
            anew: None,
        }
    }
}

const REVOKED: Refusal =
    Refusal::new(Reason::SessionRevoked, "the session or its account has ended: register again");

impl Users {
    /// Nobody.
    pub fn new(hashing: Hashing) -> Self {
        Self { kept: Kept::new(hashing) }
    }

    /// How many are in memory.
    pub fn count(&self) -> usize {
        self.kept.len()
    }

    /// Notes that writes of a user have been made (1) or have ended (-1).
    pub fn count_unsettled(&mut self, id: UserId, change: i32) {
        if let Some(user) = self.kept.get(id) {
            user.unsettled += change;
        }
    }

    /// Lets a connection stand for a device.
    pub fn attach(&mut self, access: Access, conn: ConnId) -> Result<Attached, Refusal> {
        let Access { author, session } = access;
        let user = self.kept.get(author.user).ok_or(REVOKED)?;
        let record = user.record.as_ref().ok_or(REVOKED)?;
        let (name, newest_device) = (record.name.clone(), record.devices_made);
        let device = user.devices.get_mut(&author.device).filter(|device| device.stands_for(session));
        let device = device.ok_or(REVOKED)?;
        if matches!(device.inbox, Inbox::Learning(_)) {
            device.inbox = Inbox::Unknown;
        }
        Ok(Attached { name, newest_device, older: device.conn.replace(conn) })
    }

    /// A connection no longer stands for its device.
    pub fn detach(&mut self, author: Author, conn: ConnId) {
        if let Some(device) = self.device(author)
            && device.conn == Some(conn)
        {
            device.conn = None;
            if matches!(device.inbox, Inbox::Learning(_)) {
                device.inbox = Inbox::Unknown;
            }
        }
    }

    /// The logs with entries that a device has not acknowledged; `None`: ask the store, and tell what it says.
    pub fn inbox(&mut self, author: Author) -> Option<Vec<LogId>> {
        let device = self.device(author)?;
        let Inbox::Known(inbox) = &device.inbox else {
            device.inbox = Inbox::Learning(BTreeMap::new());
            return None;
        };
        let mut logs: Vec<_> = inbox.keys().copied().collect();
        logs.sort_unstable();
        Some(logs)
    }

    /// A device has acknowledged a log up to a seq.
    pub fn acknowledged(&mut self, author: Author, log: LogId, upto: Seq) {
        if let Some(inbox) = self.device(author).and_then(|device| device.inbox.logs())
            && inbox.get(&log).is_some_and(|newest| *newest <= upto)
        {
            inbox.remove(&log);
        }
    }

    /// A device's inbox holds these logs, says the store.
    pub(crate) fn learn(&mut self, author: Author, logs: &[LogId]) {
        let Some(device) = self.device(author) else { return };
        for log in logs {
            if device.inbox.logs().is_some_and(|known| !known.contains_key(log)) {
                device.inbox.insert(*log, SOME_ENTRY);
            }
        }
    }

    /// A device was pushed all of a log up to an entry.
    pub fn pushed(&mut self, author: Author, log: LogId, upto: Seq) {
        if let Some(newest) = self.device(author).and_then(|device| device.inbox.logs()?.get_mut(&log))
            && (*newest == SOME_ENTRY || *newest < upto)
        {
            *newest = upto;
        }
    }

    /// Whether a user is in memory, as somebody or as nobody.
    pub fn is_known(&self, id: UserId) -> bool {
        self.kept.contains(id)
    }

    /// The connected devices of a user.
    pub(super) fn attached(&mut self, id: UserId) -> Vec<(DeviceId, ConnId)> {
        let devices = self.kept.get(id).into_iter().flat_map(|user| user.devices.iter());
        devices.filter_map(|(device, state)| Some((*device, state.conn?))).collect()
    }

    /// A user, if it lives.
    pub(super) fn record(&mut self, id: UserId) -> Option<&mut UserRecord> {
        self.kept.get(id)?.record.as_mut()
    }

    /// A device of a user that lives.
    pub(super) fn device_record(&mut self, author: Author) -> Option<&mut DeviceRecord> {
        let user = self.kept.get(author.user).filter(|user| user.record.is_some())?;
        Some(&mut user.devices.get_mut(&author.device)?.record)
    }

    /// The devices of a user whose sessions have not ended.
    pub(super) fn living(&mut self, id: UserId) -> impl Iterator<Item = (&DeviceId, &Device)> {
        let user = self.kept.get(id).filter(|user| user.record.is_some());
        let devices = user.into_iter().flat_map(|user| user.devices.iter());
        devices.filter(|(_, device)| device.record.revoked_ms == 0)
    }

    fn device(&mut self, author: Author) -> Option<&mut Device> {
        self.kept.get(author.user)?.devices.get_mut(&author.device)
    }

    pub(crate) fn is_new(&mut self, author: Author) -> bool {
        self.device(author).is_some_and(|device| device.record.new)
    }
}

impl Shard {
    pub(crate) fn user_op(&mut self, cx: &mut Cx, op: UserOp) {
        let UserOp { user, ask } = op;
        match ask {
            UserAsk::Watch(log) => self.when_user_known(cx, user, Waiting::Watch(log)),
            UserAsk::Unwatch(log) => {
                if let Some(user) = self.users.kept.get(user) {
                    user.watched.remove(&log);
                }
            }
            UserAsk::Refresh(origin, device, refresh) => {
                self.when_user_known(cx, user, Waiting::Refresh(origin, device, refresh));
            }
            UserAsk::Describe(origin, shown) => {
                self.when_user_known(cx, user, Waiting::Describe(origin, shown));
            }
            UserAsk::Introduce(glance) => self.when_user_known(cx, user, Waiting::Introduce(glance)),
            UserAsk::MayWriteToStranger(log, ask) => self.may_write_to_stranger(cx, user, log, ask),
            UserAsk::Reserve(ask) => self.reserve(cx, user, ask),
            UserAsk::Released(log) => self.released(user, log),
            UserAsk::PeerChanged(log) => self.peer_changed(cx, user, log),
            UserAsk::PersonChanged(changed) => self.tell_of_person(cx, user, changed),
            UserAsk::Appended(entry) => self.user_appended(cx, user, &entry),
            UserAsk::Advanced(log, by, marks) => self.user_advanced(cx, user, log, by, marks),
        }
    }

    pub(crate) fn attach_when_loaded(&mut self, cx: &mut Cx, user: UserId, conn: ConnId) {
        self.when_user_known(cx, user, Waiting::Attach(conn));
    }

    pub(crate) fn add_device(&mut self, cx: &mut Cx, user: UserId, add: AddDevice) {
        self.when_user_known(cx, user, Waiting::AddDevice(add));
    }

    /// Makes a user, in the batch of its phone's record and number: nobody has had that id before.
    pub(crate) fn make_user(&mut self, cx: &mut Cx, id: UserId, add: AddDevice) {
        if self.users.kept.get(id).is_none() {
            self.users.kept.insert(id, User::default());
        }
        self.device_added(cx, id, AddDevice { fresh: true, ..add });
    }

    pub(crate) fn view_user(&mut self, cx: &mut Cx, user: UserId, question: u64) {
        self.when_user_known(cx, user, Waiting::View(question));
    }

    pub(crate) fn end_device_of(&mut self, cx: &mut Cx, user: UserId, device: DeviceId, question: u64) {
        self.when_user_known(cx, user, Waiting::EndDevice(question, device));
    }

    pub(crate) fn delete_user(&mut self, cx: &mut Cx, user: UserId, question: u64, phone: Phone) {
        self.when_user_known(cx, user, Waiting::Delete(question, phone));
    }

    fn when_user_known(&mut self, cx: &mut Cx, id: UserId, waiting: Waiting) {
        if let Some(user) = self.users.kept.get(id) {
            if user.missing > 0 && user.waiting.len() >= USER_WAITING_MAX {
                let refusal = self.overloaded();
                return self.refuse_one_waiting(cx, id, waiting, refusal);
            }
            if user.missing > 0 {
                user.waiting.push(waiting);
                return;
            }
        } else {
            let user = User { missing: 2, waiting: vec![waiting], ..User::default() };
            self.users.kept.insert(id, user);
            return self.read_user(cx, id);
        }
        self.go_on(cx, id, waiting);
    }

    fn read_user(&mut self, cx: &mut Cx, id: UserId) {
        let all = ScanLimit { rows: usize::MAX, bytes: usize::MAX };
        self.reads.get(cx.fx, keys::user(id.get()), GetFor::User(id));
        self.reads.scan(cx.fx, keys::devices(id.get()), Direction::Forwards, all, ScanFor::Devices(id));
    }

    pub(crate) fn user_read(&mut self, cx: &mut Cx, id: UserId, value: Option<Bytes>) {
        let Some(user) = self.users.kept.get(id) else { return };
        match value.map(UserRecord::decode).transpose() {
            Ok(record) => {
                user.record = record.filter(|record| record.deleted_ms == 0);
                self.user_part_read(cx, id);
            }
            Err(_) => self.user_damaged(cx, id),
        }
    }

    pub(crate) fn devices_read(&mut self, cx: &mut Cx, id: UserId, rows: Vec<Row>) {
        let Some(user) = self.users.kept.get(id) else { return };
        for (key, value) in rows {
            let device = keys::device_of(&key).and_then(DeviceId::new);
            let (Some(device), Ok(record)) = (device, DeviceRecord::decode(value)) else {
                return self.user_damaged(cx, id);
            };
            user.devices.or_default(device).record = record;
        }
        self.user_part_read(cx, id);
    }

    /// A record of a user is not what was written. It is not taken for absent: nobody is logged out, made anew or joined by it.
    fn user_damaged(&mut self, cx: &mut Cx, id: UserId) {
        report_damage(cx, "an account", Slot::of_user(id.get()));
        self.user_part_failed(cx, id);
    }

    fn user_part_read(&mut self, cx: &mut Cx, id: UserId) {
        let Some(user) = self.users.kept.get(id) else { return };
        user.missing -= 1;
        if user.missing == 0 && user.unreadable {
            self.refuse_waiting(cx, id);
        } else if user.missing == 0 {
            for waiting in std::mem::take(&mut user.waiting) {
                self.go_on(cx, id, waiting);
            }
        }
    }

    /// A part of a user can't be read: whoever waits is refused, and the next one tries again.
    pub(crate) fn user_part_failed(&mut self, cx: &mut Cx, id: UserId) {
        if let Some(user) = self.users.kept.get(id) {
            user.unreadable = true;
        }
        self.user_part_read(cx, id);
    }

    fn refuse_waiting(&mut self, cx: &mut Cx, id: UserId) {
        let Some(user) = self.users.kept.remove(id) else { return };
        let refusal = Refusal::for_now(Reason::Unavailable, 1000, "the account can't be read");
        for conn in user.devices.values().filter_map(|device| device.conn) {
            self.farewell(cx, conn, Farewell::new(refusal.reason, refusal.detail));
        }
        for log in user.watched {
            self.tell_log(cx, log, LogOp::Unreadable(id));
        }
        for waiting in user.waiting {
            self.refuse_one_waiting(cx, id, waiting, refusal);
        }
    }

    fn refuse_one_waiting(&mut self, cx: &mut Cx, id: UserId, waiting: Waiting, refusal: Refusal) {
        match waiting {
            Waiting::Attach(conn) => self.attach_refused(cx, conn, refusal),
            Waiting::Watch(log) => self.tell_log(cx, log, LogOp::Unreadable(id)),
            Waiting::Refresh(origin, ..) | Waiting::Describe(origin, _) => self.refuse(cx, origin, refusal),
            // Who it is can be asked for later.
            Waiting::Introduce(glance) => self.tell(cx, glance.asker.core, Message::Glance(glance)),
            Waiting::AddDevice(add) => self.refuse_device(cx, add, refusal),
            Waiting::View(question) | Waiting::EndDevice(question, _) | Waiting::Delete(question, _) => {
                cx.fx.answer(question, AdminResponse::Refused(refusal.detail.to_owned()));
            }
        }
    }

    fn go_on(&mut self, cx: &mut Cx, id: UserId, waiting: Waiting) {
        match waiting {
            Waiting::Attach(conn) => self.attach(cx, conn),
            Waiting::Watch(log) => self.watch(cx, id, log),
            Waiting::Refresh(origin, device, refresh) => {
                self.refresh(cx, origin, Author { user: id, device }, &refresh)
            }
            Waiting::Describe(origin, shown) => self.describe(cx, origin, id, shown),
            Waiting::Introduce(glance) => self.introduce(cx, id, glance),
            Waiting::AddDevice(add) => self.device_added(cx, id, add),
            Waiting::View(question) => self.answer_view(cx, question, id),
            Waiting::EndDevice(question, device) => self.end_for_operator(cx, question, id, device),
            Waiting::Delete(question, phone) => self.deleted(cx, question, id, phone),
        }
    }

    fn watch(&mut self, cx: &mut Cx, id: UserId, log: LogId) {
        let devices = self.living_devices(id);
        if let Some(user) = self.users.kept.get(id) {
            user.watched.insert(log);
        }
        self.tell_log(cx, log, LogOp::Devices(id, devices));
    }

    /// The devices of a user that may be pushed to; `None` if there is no such user.
    fn living_devices(&mut self, id: UserId) -> Option<Vec<DeviceId>> {
        self.users.record(id)?;
        Some(self.users.living(id).map(|(device, _)| *device).collect())
    }

    /// Tells the logs of a user that are in memory which devices it has now.
    fn tell_watchers(&mut self, cx: &mut Cx, id: UserId) {
        let devices = self.living_devices(id);
        let watched: Vec<_> =
            self.users.kept.get(id).into_iter().flat_map(|user| &user.watched).copied().collect();
        for log in watched {
            self.tell_log(cx, log, LogOp::Devices(id, devices.clone()));
        }
    }

    fn user_appended(&mut self, cx: &mut Cx, id: UserId, entry: &Arc<Entry>) {
        let Some(user) = self.users.kept.get(id) else { return };
        let mut attached = Vec::new();
        for (device, state) in user.devices.iter_mut() {
            if (Author { user: id, device: *device }) == entry.author {
                continue;
            }
            state.inbox.insert(entry.log, entry.seq);
            attached.extend(state.conn);
        }
        for conn in attached {
            self.push_entry(cx, conn, entry);
        }
    }

    /// A member of a log of the user has got further: its peer's devices see it, and its own other ones what was read.
    fn user_advanced(&mut self, cx: &mut Cx, id: UserId, log: LogId, by: Author, marks: Watermarks) {
        let Some(user) = self.users.kept.get(id) else { return };
        let others = user.devices.iter().filter(|(device, _)| (Author { user: id, device: **device }) != by);
        let attached: Vec<_> = others.filter_map(|(_, state)| state.conn).collect();
        for conn in attached {
            self.push_receipt(cx, conn, log, by.user, marks);
        }
    }

    /// A device has caught up: what it lacks is known from here on, and it is no longer new.
    pub(crate) fn first_caught_up(&mut self, author: Author) {
        let Some(device) = self.users.device(author) else { return };
        device.inbox = match std::mem::take(&mut device.inbox) {
            Inbox::Learning(logs) => Inbox::Known(logs),
            other => other,
        };
        if device.record.new {
            device.record.new = false;
            self.commits.put(keys::device(author.user.get(), author.device.get()), &device.record);
            self.then(After::Noted(author.user));
        }
    }

    fn device_added(&mut self, cx: &mut Cx, id: UserId, add: AddDevice) {
        let (nonce, session) = (self.entropy.nonce(), self.entropy.session());
        let devices_max = self.limits.devices_max;
        if let Err(refusal) = self.phones.may_add(&add, id) {
            return self.refuse_device(cx, add, refusal);
        }
        let Some(user) = self.users.kept.get(id) else { return };
        if user.record.is_none() && !add.fresh {
            // It was deleted while this waited.
            let refusal = Refusal::for_now(Reason::Unavailable, 1000, "the account has just been deleted");
            return self.refuse_device(cx, add, refusal);
        }
        if matches!(add.by, Asker::Client(_)) && !add.fresh && self.is_idle(cx, id) {
            return self.begin_anew(cx, id, add);
        }
        let Some(user) = self.users.kept.get(id) else { return };
        let replaced = match make_room(&user.devices, devices_max) {
            Ok(replaced) => replaced,
            Err(refusal) => return self.refuse_device(cx, add, refusal),
        };
        // Nothing is refused from here on, and nothing was changed before.
        self.phones.device_added(&add, id);
        self.write_phone(&add.phone);
        let Some(user) = self.users.kept.get(id) else { return };
        if let Some(replaced) = replaced {
            user.devices.remove(&replaced);
            self.commits.delete(keys::device(id.get(), replaced.get()));
        }
        let record = user.record.get_or_insert_with(|| UserRecord {
            phone: add.phone.as_str().to_owned(),
            created_ms: cx.now_ms,
            ..UserRecord::default()
        });
        record.devices_made += 1;
        let renamed = !add.name.as_str().is_empty() && record.name != add.name.as_str();
        if renamed {
            add.name.as_str().clone_into(&mut record.name);
        }
        let renamed = renamed && !add.fresh;
        let device = DeviceId::new(record.devices_made).expect("counted from 1");
        let author = Author { user: id, device };
        self.commits.put(keys::user(id.get()), record);
        // The first device of a user lacks nothing that its inbox does not tell.
        let new = record.devices_made > 1;
        let expires_ms = cx.now_ms + self.limits.refresh_token_valid_ms;
        let refresh = RefreshToken { author, session, generation: 0, expires_ms };
        let token = self.keys.refresh_token(refresh, &nonce);
        let record = DeviceRecord {
            name: add.device_name,
            created_ms: cx.now_ms,
            refresh_hash: token_hash(&token),
            refresh_expires_ms: expires_ms,
            new,
            session,
            seen_day: day_of(cx.now_ms),
            ..DeviceRecord::default()
        };
        self.commits.put(keys::device(id.get(), device.get()), &record);
        user.devices.insert(device, Device { record, conn: None, inbox: Inbox::Unknown });
        let session = self.session_of(cx, Access { author, session }, token, expires_ms);
        self.then(After::Joined(id, device));
        if renamed {
            self.then(After::Renamed(id));
        }
        self.phones.proof_ended(&add.phone);
        self.then(match add.by {
            Asker::Client(origin) => {
                After::Account(origin, add.phone, Some(id), Reply::Session(Box::new(session)))
            }
            Asker::Operator(question) => {
                let provisioned = AdminResponse::Provisioned(crate::admin::Provisioned {
                    phone: add.phone.clone(),
                    user: id,
                    device,
                    access_token: session.access_token,
                    access_expires_ms: session.access_expires_ms,
                    refresh_token: session.refresh_token,
                    refresh_expires_ms: session.refresh_expires_ms,
                });
                After::Answer(question, add.phone, Some(id), provisioned)
            }
        });
    }

    /// Whether none of an account's devices has been here for so long that its phone may have changed hands.
    fn is_idle(&mut self, cx: &Cx, id: UserId) -> bool {
        let (today, days_max) = (day_of(cx.now_ms), self.limits.account_idle_days);
        let Some(user) = self.users.kept.get(id).filter(|_| days_max > 0) else { return false };
        let refreshed = |device: &Device| {
            day_of(device.record.refresh_expires_ms.saturating_sub(self.limits.refresh_token_valid_ms))
        };
        let seen = |device: &Device| device.record.seen_day.max(refreshed(device));
        let made = user.record.as_ref().map_or(0, |record| day_of(record.created_ms));
        let last = user.devices.values().map(seen).fold(made, u32::max).min(today);
        !user.devices.values().any(|device| device.conn.is_some()) && today - last >= days_max
    }

    /// The phone of an idle account is proven: by a person who is new to it, for carriers give numbers out again. The account
    /// ends, and another one begins, under an id that has to be drawn first.
    fn begin_anew(&mut self, cx: &mut Cx, idle: UserId, add: AddDevice) {
        match add.anew.filter(|anew| !self.users.is_known(*anew)) {
            Some(anew) => {
                self.end_user(cx, idle);
                self.make_user(cx, anew, add);
            }
            None => self.draw_id(cx, AddDevice { instead: Some(idle), ..add }),
        }
    }

    /// A device is not added, and nothing has changed.
    pub(crate) fn refuse_device(&mut self, cx: &mut Cx, add: AddDevice, refusal: Refusal) {
        self.phones.proof_ended(&add.phone);
        match add.by {
            Asker::Client(origin) => self.refuse(cx, origin, refusal),
            Asker::Operator(question) => {
                cx.fx.answer(question, AdminResponse::Refused(refusal.detail.to_owned()))
            }
        }
    }

    fn session_of(
        &self,
        cx: &Cx,
        access: Access,
        refresh_token: String,
        refresh_expires_ms: u64,
    ) -> v1::Session {
        let access_expires_ms = cx.now_ms + self.limits.access_token_valid_ms;
        v1::Session {
            user_id: access.author.user.get(),
            device_id: access.author.device.get(),
            access_token: self.keys.access_token(access, access_expires_ms),
            access_expires_ms,
            refresh_token,
            refresh_expires_ms,
        }
    }

    /// Exchanges a refresh token. A token that was exchanged before is refused, and ends the session, unless it comes
    /// with the nonce of that exchange: then it is the retry of a client that has not seen the answer. One that is ahead of the
    /// record was made by exchanges that the store has lost since, put back from a copy: it is the newest there is.
    fn refresh(&mut self, cx: &mut Cx, origin: Origin, author: Author, refresh: &Refresh) {
        let token = match self.keys.read_refresh_token(&refresh.token) {
            Ok(token) => token,
            Err(refusal) => return self.refuse(cx, origin, refusal),
        };
        let lives = self.users.kept.get(author.user).is_some_and(|user| user.record.is_some());
        let device = self.users.device(author).filter(|device| lives && device.stands_for(token.session));
        let Some(device) = device else { return self.refuse(cx, origin, REVOKED) };
        let record = &mut device.record;
        let session = record.session;
        if token_hash(&refresh.token) == record.refresh_hash || token.generation > record.generation {
            if cx.now_ms >= token.expires_ms {
                let refusal =
                    Refusal::new(Reason::TokenExpired, "the refresh token has ended: register again");
                return self.refuse(cx, origin, refusal);
            }
            record.generation = token.generation.saturating_add(1);
            record.seen_day = day_of(cx.now_ms);
            record.refresh_expires_ms = cx.now_ms + self.limits.refresh_token_valid_ms;
            let expires_ms = record.refresh_expires_ms;
            let next = self.keys.refresh_token(
                RefreshToken { author, session, generation: record.generation, expires_ms },
                &refresh.nonce,
            );
            record.refresh_hash = token_hash(&next);
            self.commits.put(keys::device(author.user.get(), author.device.get()), record);
            let session = self.session_of(cx, Access { author, session }, next, expires_ms);
            return self.then(After::User(origin, author.user, Reply::Session(Box::new(session))));
        }
        let expires_ms = record.refresh_expires_ms;
        let current = RefreshToken { author, session, generation: record.generation, expires_ms };
        let again = self.keys.refresh_token(current, &refresh.nonce);
        if token.generation.checked_add(1) == Some(record.generation)
            && token_hash(&again) == record.refresh_hash
        {
            let session = self.session_of(cx, Access { author, session }, again, expires_ms);
            return self.then(After::User(origin, author.user, Reply::Session(Box::new(session))));
        }
        self.revoke(cx, origin, author);
    }

    fn revoke(&mut self, cx: &mut Cx, origin: Origin, author: Author) {
        let refusal =
            Refusal::new(Reason::TokenReused, "the refresh token was used before: the session has ended");
        // Answered first: it may be the device's own connection, which ends.
        self.then(After::User(origin, author.user, Reply::Refused(refusal)));
        self.end_session(cx, author);
    }

    /// The devices of a user have changed, durably.
    pub(crate) fn devices_changed(&mut self, cx: &mut Cx, id: UserId) {
        self.tell_watchers(cx, id);
        let Some(user) = self.users.kept.get(id) else { return };
        let lives = user.record.is_some();
        let ended = user.devices.values().filter(|device| !lives || device.record.revoked_ms != 0);
        let ended: Vec<_> = ended.filter_map(|device| device.conn).collect();
        for conn in ended {
            self.farewell(
                cx,
                conn,
                Farewell::new(Reason::SessionRevoked, "the session has ended: register again"),
            );
        }
    }

    fn answer_view(&mut self, cx: &mut Cx, question: u64, id: UserId) {
        let slot = Slot::of_user(id.get());
        let core = self.slots.owner(slot).0;
        let view = self.users.kept.get(id).and_then(|user| {
            let record = user.record.as_ref()?;
            let device = |(device, state): (&DeviceId, &Device)| DeviceView {
                device: *device,
                name: state.record.name.clone(),
                created_ms: state.record.created_ms,
                seen_ms: u64::from(state.record.seen_day) * DAY_MS,
                connected: state.conn.is_some(),
                revoked: state.record.revoked_ms != 0,
            };
            Some(UserView {
                user: id,
                phone: record.phone.clone(),
                name: record.name.clone(),
                slot: slot.number(),
                core,
                created_ms: record.created_ms,
                devices: user.devices.iter().map(device).collect(),
            })
        });
        cx.fx.answer(question, AdminResponse::User(view));
    }

    /// Deletes a user, and frees the phone.
    fn deleted(&mut self, cx: &mut Cx, question: u64, id: UserId, phone: Phone) {
        if !self.end_user(cx, id) {
            return cx.fx.answer(question, AdminResponse::Deleted(false));
        }
        self.free_phone(&phone);
        self.then(After::Answer(question, phone, Some(id), AdminResponse::Deleted(true)));
    }

    /// Ends a user: the record stays as a tombstone, so that the id is never given out again. `false` if there is none.
    fn end_user(&mut self, cx: &mut Cx, id: UserId) -> bool {
        let Some(user) = self.users.kept.get(id) else { return false };
        let Some(record) = user.record.take() else { return false };
        let tombstone =
            UserRecord { phone: String::new(), name: String::new(), deleted_ms: cx.now_ms.max(1), ..record };
        self.commits.put(keys::user(id.get()), &tombstone);
        for device in user.devices.keys() {
            self.commits.delete(keys::device(id.get(), device.get()));
        }
        self.then(After::Deleted(id));
        true
    }

    /// What is in memory of a user did not become durable: it is read again. Those attached stay so.
    pub(crate) fn read_user_again(&mut self, cx: &mut Cx, id: UserId) {
        let Some(user) = self.users.kept.get(id) else { return };
        if user.missing == 0 {
            user.missing = 2;
            user.devices.retain(|device| device.conn.is_some());
            self.read_user(cx, id);
        }
    }

    /// Packs users that are silent, and lets those leave that nobody needs.
    pub(crate) fn rest_users(&mut self) {
        self.users.kept.pack_some(self.limits.users_cached_max);
    }
}

/// Which device has to go for a new one: ended ones first, then the oldest that is not connected.
fn make_room(devices: &Few<DeviceId, Device>, max: usize) -> Result<Option<DeviceId>, Refusal> {
    if devices.len() < max {
        return Ok(None);
    }
    let idle = devices.iter().filter(|(_, device)| device.conn.is_none());
    let oldest = idle.min_by_key(|(_, device)| (device.record.revoked_ms == 0, device.record.created_ms));
    let refusal = Refusal::new(Reason::TooManyDevices, "the account has as many connected devices as it may");
    oldest.map(|(device, _)| Some(*device)).ok_or(refusal)
}
