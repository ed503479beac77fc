//! Where devices are told: as each says of itself, until it ends, or its service says that the address is no more.

use prost::Message as _;
use tern_proto::v1;
use tern_storage::records::{OutboxRecord, PushTokenRecord, QuietRecord};
use tern_storage::{Direction, LogId, Rows, ScanLimit, keys};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::UserId;
use tern_wire::push::{Address, PushService, SetPush};

use super::deciding::zone;
use super::{Accounts, Cx};
use crate::accounts::attach::REVOKED;
use crate::accounts::slot_of;
use crate::accounts::users::UNREADABLE;
use crate::accounts::waits::{After, GetFor, ScanFor, Then};
use crate::entry::Author;
use crate::limits::PUSH_CHATS_AT_ONCE;
use crate::message::Unreadable;
use crate::mutations::{Mutation, is};
use crate::reply::{Origin, Reply};

const NO_SERVICE: Refusal =
    Refusal::new(Reason::NoSuchPushService, "this server tells no device by that service");
const NO_ZONE: Refusal = Refusal::new(Reason::InvalidArgument, "there is no such time zone");

impl Accounts {
    /// A device says where it is told.
    pub(in crate::accounts) fn set_push(
        &mut self,
        cx: &mut Cx,
        origin: Origin,
        author: Author,
        set: &SetPush,
    ) {
        let service = set.service();
        let is_served = cx.pushing().is_some_and(|pushing| pushing.services.contains(&service));
        if set.address.is_some() && !is_served {
            return cx.refuse(origin, NO_SERVICE);
        }
        if set.settings.quiet.as_ref().is_some_and(|quiet| zone(&quiet.time_zone).is_none()) {
            return cx.refuse(origin, NO_ZONE);
        }
        let Author { user, device } = author;
        let is_first = !self.living(user).any(|(_, device)| device.record.pushed_since_ms > 0);
        if let Err(refusal) = self.budgets.set_push(user, is_first, cx.now_ms) {
            return cx.refuse(origin, refusal);
        }
        let Some(record) = self.device_record(author) else { return cx.refuse(origin, REVOKED) };
        // Of two addresses of a device the later one has the higher number, whatever the clock says.
        let since_ms = if set.address.is_some() { cx.now_ms.max(record.pushed_since_ms + 1) } else { 0 };
        record.pushed_since_ms = since_ms;
        self.write_device(cx, author, Then::Noted);
        match &set.address {
            Some(address) => {
                let key = keys::push_token(user.get(), device.get());
                cx.put(slot_of(user), key, &record_of(address, set, since_ms));
            }
            None => end_address(cx, author),
        }
        if set.address.is_some() && is_first {
            // From here on it is known what is unread. The row stands for all chats, until each has one.
            let all = keys::outbox(user.get(), LogId::Private(user.get()));
            cx.put(slot_of(user), all, &OutboxRecord::default());
            self.wakes.round.is_wanted();
        }
        self.after(cx, After::of_user(user, Then::Reply(origin, Reply::PushSet)));
    }

    /// A user is told by a push service for the first time: each of their chats is noted to be looked at.
    pub(super) fn note_chats(&mut self, cx: &mut Cx, id: UserId) {
        if cx.may_read() && self.wakes.listing.insert(id) {
            read_chats(cx, id, None);
        }
    }

    /// Some of them are known.
    pub(crate) fn chats_for_pushes_read(&mut self, cx: &mut Cx, id: UserId, rows: Result<Rows, Unreadable>) {
        let Some(rows) = rows.ok().filter(|_| cx.is_here(slot_of(id)) && cx.may_write(0)) else {
            // The row is still there: a later round begins again.
            self.wakes.listing.remove(&id);
            return;
        };
        let logs: Vec<_> = rows.rows.iter().filter_map(|(key, _)| keys::log_of(key)).collect();
        for log in logs.iter().filter(|log| !matches!(log, LogId::Private(_))) {
            cx.put_lazily(slot_of(id), keys::outbox_count(id.get(), *log), &OutboxRecord::default());
        }
        if let Some(last) = logs.last().filter(|_| rows.more) {
            return read_chats(cx, id, Some(*last));
        }
        self.wakes.listing.remove(&id);
        cx.delete_lazily(slot_of(id), keys::outbox(id.get(), LogId::Private(id.get())));
        self.wakes.round.is_wanted();
    }

    /// A device asks where it could be told, and is.
    pub(in crate::accounts) fn about_push(cx: &mut Cx, origin: Origin, author: Author) {
        let key = keys::push_token(author.user.get(), author.device.get());
        cx.get(key, GetFor::AboutPush(origin));
    }

    /// It is read.
    pub(crate) fn about_push_read(
        cx: &mut Cx,
        origin: Origin,
        value: Result<Option<bytes::Bytes>, Unreadable>,
    ) {
        let Ok(record) = value.map(|value| value.and_then(|value| PushTokenRecord::decode(value).ok()))
        else {
            return cx.refuse(origin, UNREADABLE);
        };
        let pushing = cx.pushing().cloned().unwrap_or_default();
        let record = record.unwrap_or_default();
        let quiet = record.quiet.map(|quiet| {
            let QuietRecord { from_min, to_min, time_zone } = quiet;
            v1::QuietHours { from_min, to_min, time_zone }
        });
        let settings = (record.since_ms > 0).then_some(v1::PushSettings { previews: record.previews, quiet });
        let places = v1::PushPlaces {
            services: pushing.services.into_iter().map(i32::from).collect(),
            web_push_key: pushing.web_push_key,
            service: record.service,
            since_ms: record.since_ms,
            settings,
        };
        cx.reply(origin, Reply::PushPlaces(Box::new(places)));
    }

    /// A service says that an address is no more, and its user is known: it goes, unless the device has said another one since.
    pub(in crate::accounts) fn end_address_of(&mut self, cx: &mut Cx, author: Author, since_ms: u64) {
        let Some(record) = self.device_record(author) else { return };
        if record.pushed_since_ms == since_ms || is(Mutation::EndNewAddress) {
            record.pushed_since_ms = 0;
            self.write_device(cx, author, Then::Noted);
            end_address(cx, author);
        }
    }
}

/// A device is told nothing from now on.
pub(in crate::accounts) fn end_address(cx: &mut Cx, Author { user, device }: Author) {
    cx.delete(slot_of(user), keys::push_token(user.get(), device.get()));
}

fn read_chats(cx: &mut Cx, id: UserId, after: Option<LogId>) {
    let limit = ScanLimit { rows: PUSH_CHATS_AT_ONCE, bytes: usize::MAX };
    cx.scan(keys::memberships(id.get(), after), Direction::Forwards, limit, ScanFor::PushChats(id));
}

fn record_of(address: &Address, set: &SetPush, since_ms: u64) -> PushTokenRecord {
    let quiet = set.settings.quiet.clone().map(|quiet| {
        let v1::QuietHours { from_min, to_min, time_zone } = quiet;
        QuietRecord { from_min, to_min, time_zone }
    });
    let record = PushTokenRecord {
        service: set.service().into(),
        since_ms,
        previews: set.settings.previews,
        quiet,
        ..PushTokenRecord::default()
    };
    match address.clone() {
        Address::Apns(v1::ApnsAddress { token, calls_token }) => {
            PushTokenRecord { token, calls_token, ..record }
        }
        Address::Fcm(v1::FcmAddress { token }) | Address::Webhook(v1::WebhookAddress { address: token }) => {
            PushTokenRecord { token, ..record }
        }
        Address::WebPush(v1::WebPushAddress { endpoint, p256dh, auth }) => {
            // Of the frame that they came in nothing else is to stay in memory.
            let copy = |bytes: bytes::Bytes| bytes::Bytes::copy_from_slice(&bytes);
            PushTokenRecord { token: endpoint, p256dh: copy(p256dh), auth: copy(auth), ..record }
        }
    }
}

// The protocol's numbers are the store's.
const _: () = assert!(PushService::Unknown as i32 == 0);
