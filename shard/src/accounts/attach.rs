//! Which connection stands for which device.

use tern_wire::errors::{Farewell, Reason, Refusal};
use tern_wire::ids::{DeviceId, UserId};

use super::kept::Inbox;
use super::users::Ask;
use super::{Accounts, Cx};
use crate::entry::Author;
use crate::message::{Attach, Attached, FrontOp, UserOp};
use crate::mutations::{Mutation, is};
use crate::reply::{Origin, Place};

pub(super) const REVOKED: Refusal =
    Refusal::new(Reason::SessionRevoked, "the session or its account has ended: register again");

const OLDER: Refusal =
    Refusal::new(Reason::Unexpected, "a connection that was opened later stands for the device");

const REPLACED: Farewell =
    Farewell::new(Reason::Replaced, "a newer connection of the same device has taken over");

impl Accounts {
    /// A connection has proven to be a device: it stands for it from now on, if both live, in place of one that was opened before it.
    pub(super) fn attach(&mut self, cx: &mut Cx, id: UserId, attach: &Attach) {
        let Attach { origin: Origin { place, ask }, author, session, number } = *attach;
        if let Some(refusal) = self.bar(id, cx.now_ms) {
            return cx.tell_front(place, FrontOp::NotAttached(ask, refusal));
        }
        let user = self.user(id);
        let device = user.devices.get_mut(&author.device).filter(|device| match session {
            Some(session) => device.stands_for(session),
            None => device.lives(),
        });
        let (Some(record), Some(device)) = (&user.record, device) else {
            let refusal = self.ended(id);
            return cx.tell_front(place, FrontOp::NotAttached(ask, refusal));
        };
        if device.place.is_some() && device.opened > number && !is(Mutation::LateLogin) {
            // The Login of a process that has died may come late: it does not end the one that lives.
            cx.tell_front(place, FrontOp::NotAttached(ask, OLDER));
            return cx.tell_front(place, FrontOp::End(REPLACED));
        }
        // Of one that has followed its user, all that it was told is known.
        let missed = device.missed.take().filter(|_| session.is_none() && device.opened == number);
        let follows = missed.is_some();
        if !follows && matches!(device.inbox, Inbox::Learning(_)) {
            device.inbox = Inbox::Unknown;
        }
        device.opened = number;
        if !follows {
            device.attached_ms = cx.now_ms;
        }
        let older = device.place.replace(place);
        // What the one before has said of itself, another connection has not.
        device.away &= follows || older == Some(place);
        let (name, newest_device) = (record.name.clone(), record.devices_made);
        let attached = Attached { device: author, name, newest_device, missed };
        if let Some(older) = older.filter(|older| *older != place && !follows) {
            cx.tell_front(older, FrontOp::End(REPLACED));
        }
        self.look_who_is_here(cx, id);
        self.note_seen(cx, author);
        self.be_found(cx, id);
        if session.is_none() && !follows {
            self.recover_watched(cx, id);
        }
        cx.tell_front(place, FrontOp::Attached(ask, Box::new(attached)));
    }

    /// A connection stands for its device no more, or wants it no more.
    pub(super) fn detach(&mut self, cx: &mut Cx, id: UserId, device: DeviceId, place: Place) {
        // The user of one that was not attached may never have been known.
        let Some(user) = self.users.get(id) else { return };
        user.held
            .withdraw(|ask| matches!(ask, Ask::Told(UserOp::Attach(attach)) if attach.origin.place == place));
        // Another connection may stand for the device by now, and the device may be gone.
        if let Some(device) = user.devices.get_mut(&device).filter(|device| device.place == Some(place)) {
            device.detach();
            self.look_who_is_here(cx, id);
        }
    }

    /// A connection is about to follow its user here. From now on it is told nothing until it has come; what it was told before comes
    /// before this answer.
    pub(super) fn leave(&mut self, cx: &mut Cx, id: UserId, origin: Origin, device: DeviceId) {
        let device = self.users.get(id).and_then(|user| user.devices.get_mut(&device));
        if let Some(device) = device.filter(|device| device.place == Some(origin.place)) {
            device.missed = Some(Box::default());
        }
        cx.tell_front(origin.place, FrontOp::MayGo(origin.ask));
    }

    /// Whether a device of a user is here.
    pub(super) fn is_attached(&mut self, id: UserId) -> bool {
        self.users.get(id).is_some_and(|user| user.devices.values().any(|device| device.place.is_some()))
    }

    /// Tells the devices of a user that are here something.
    pub(super) fn tell_attached(
        &mut self,
        cx: &mut Cx,
        id: UserId,
        op: impl Fn(DeviceId) -> Option<FrontOp>,
    ) {
        let devices = self.users.get(id).into_iter().flat_map(|user| user.devices.iter_mut());
        for (device, state) in devices {
            if let Some(op) = op(*device) {
                state.tell(cx, op);
            }
        }
    }

    /// A device is here: that is written once a day, so that an account whose devices have all stayed away can be told.
    pub(super) fn note_seen(&mut self, cx: &mut Cx, author: Author) {
        if self.is_here_today(cx, author) {
            self.write_device(cx, author, super::waits::Then::Noted);
        }
    }
}
