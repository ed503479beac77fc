//! What accounts wait for from the store, and what they do when it has come, was undone, or can't be had.

use bytes::Bytes;
use tern_storage::Rows;
use tern_wire::ids::{DeviceId, Phone, UserId};

use super::phones::Delivery;
use crate::Cx;
use crate::admin::AdminResponse;
use crate::message::Unreadable;
use crate::reply::{Origin, Reply, Undone};
use crate::shard::Shard;

/// What follows when a write of an account is durable; if it fails, the account is read again.
#[derive(Debug)]
pub(crate) enum After {
    /// Deliver a one-time code, and say that it was.
    Deliver(Box<Delivery>),
    /// Answer a request about a phone or its user.
    Account(Origin, Phone, Option<UserId>, Reply),
    /// Answer a request about a user.
    User(Origin, UserId, Reply),
    /// The devices of a user have changed.
    Devices(UserId),
    /// A device was added to a user.
    Joined(UserId, DeviceId),
    /// A user has another name.
    Renamed(UserId),
    /// A user is deleted.
    Deleted(UserId),
    /// Answer an operator's question about a phone.
    Answer(u64, Phone, Option<UserId>, AdminResponse),
    /// A record of a user, of no interest to anybody else, was written.
    Noted(UserId),
}

/// What a get of an account's is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum GetFor {
    /// A user's record.
    User(UserId),
    /// A phone's record.
    Phone(Phone),
    /// Whether anybody has, or has had, the id that a new user would get.
    NewUser(UserId),
}

/// What a scan of an account's is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ScanFor {
    /// A user's devices.
    Devices(UserId),
    /// A user's logs, whose other members are told that the user is not as before.
    Peers(UserId),
    /// What the logs of a user have reserved.
    Reserved(UserId),
}

impl After {
    /// The user whose state in memory is ahead of the store until this happens.
    fn user(&self) -> Option<UserId> {
        match self {
            Self::Account(_, _, user, _) | Self::Answer(_, _, user, _) => *user,
            Self::User(_, user, _)
            | Self::Devices(user)
            | Self::Joined(user, _)
            | Self::Renamed(user)
            | Self::Deleted(user)
            | Self::Noted(user) => Some(*user),
            Self::Deliver(_) => None,
        }
    }

    /// The phone whose state in memory is ahead of the store until this happens.
    fn phone(&self) -> Option<&Phone> {
        match self {
            Self::Deliver(delivery) => Some(&delivery.phone),
            Self::Account(_, phone, ..) | Self::Answer(_, phone, ..) => Some(phone),
            Self::User(..)
            | Self::Devices(_)
            | Self::Joined(..)
            | Self::Renamed(_)
            | Self::Deleted(_)
            | Self::Noted(_) => None,
        }
    }
}

impl Shard {
    /// Notes that writes of an account were made (1), or have ended (-1).
    pub(crate) fn count_unsettled(&mut self, after: &After, change: i32) {
        if let Some(user) = after.user() {
            self.users.count_unsettled(user, change);
        }
        if let Some(phone) = after.phone() {
            self.phones.count_unsettled(phone, change);
        }
    }

    pub(crate) fn account_written(&mut self, cx: &mut Cx, after: After) {
        self.count_unsettled(&after, -1);
        match after {
            After::Deliver(delivery) => self.deliver_code(cx, delivery),
            After::Account(origin, _, _, reply) | After::User(origin, _, reply) => {
                self.reply(cx, origin, reply)
            }
            After::Devices(user) => self.devices_changed(cx, user),
            After::Joined(user, device) => self.device_joined(cx, user, device),
            After::Renamed(user) => {
                self.person_changed(cx, user);
                // One's own devices too.
                self.tell_of_person(cx, user, user);
            }
            After::Deleted(user) => {
                self.devices_changed(cx, user);
                self.person_changed(cx, user);
            }
            After::Answer(question, _, _, response) => cx.fx.answer(question, response),
            After::Noted(_) => {}
        }
    }

    pub(crate) fn account_undone(&mut self, cx: &mut Cx, after: After, undone: Undone) {
        self.count_unsettled(&after, -1);
        match after {
            After::Deliver(delivery) => self.code_undone(cx, &delivery, undone),
            After::Account(origin, phone, user, _) => {
                self.undo_account(cx, &phone, user);
                self.reply(cx, origin, undone.into());
            }
            After::User(origin, user, _) => {
                self.read_user_again(cx, user);
                self.reply(cx, origin, undone.into());
            }
            After::Devices(user)
            | After::Joined(user, _)
            | After::Renamed(user)
            | After::Deleted(user)
            | After::Noted(user) => self.read_user_again(cx, user),
            After::Answer(question, phone, user, _) => {
                self.undo_account(cx, &phone, user);
                let detail = match undone {
                    Undone::Refused(refusal) => refusal.detail,
                    Undone::Unknown => "whether it was written is not known: look again",
                };
                cx.fx.answer(question, AdminResponse::Refused(detail.to_owned()));
            }
        }
    }

    fn undo_account(&mut self, cx: &mut Cx, phone: &Phone, user: Option<UserId>) {
        self.forget_phone(phone);
        if let Some(user) = user {
            self.read_user_again(cx, user);
        }
    }

    pub(crate) fn account_got(
        &mut self,
        cx: &mut Cx,
        purpose: GetFor,
        result: Result<Option<Bytes>, Unreadable>,
    ) {
        match (purpose, result) {
            (GetFor::User(user), Ok(value)) => self.user_read(cx, user, value),
            (GetFor::User(user), Err(_)) => self.user_part_failed(cx, user),
            (GetFor::Phone(phone), Ok(value)) => self.phone_read(cx, phone, value),
            (GetFor::Phone(phone), Err(_)) => self.phone_unreadable(cx, &phone),
            (GetFor::NewUser(user), Ok(value)) => self.new_user_read(cx, user, value.is_none()),
            (GetFor::NewUser(user), Err(_)) => self.new_user_unreadable(cx, user),
        }
    }

    pub(crate) fn account_scanned(
        &mut self,
        cx: &mut Cx,
        purpose: ScanFor,
        result: Result<Rows, Unreadable>,
    ) {
        match (purpose, result) {
            (ScanFor::Devices(user), Ok(rows)) => self.devices_read(cx, user, rows.rows),
            (ScanFor::Devices(user), Err(_)) => self.user_part_failed(cx, user),
            (ScanFor::Reserved(user), Ok(rows)) => self.reserved_read(cx, user, rows.rows, rows.more),
            (ScanFor::Reserved(user), Err(_)) => self.reserved_unreadable(cx, user),
            (ScanFor::Peers(user), Ok(rows)) => self.peers_read(cx, user, &rows.rows, rows.more),
            // Whoever is not told finds out when they look.
            (ScanFor::Peers(_), Err(_)) => {}
        }
    }
}
