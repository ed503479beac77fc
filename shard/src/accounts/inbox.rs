//! What the inbox of each device holds, as far as it is in memory: the logs with entries that the device has not acknowledged. The
//! store knows all of it, and is asked where the memory does not.

use std::collections::BTreeMap;
use std::sync::Arc;

use tern_storage::{Direction, LogId, Rows, ScanLimit, keys};
use tern_wire::ids::{DeviceId, Seq, UserId};

use super::kept::Inbox;
use super::waits::{ScanFor, Then, logs_of};
use super::{Accounts, Cx};
use crate::entry::{Author, Entry, peer_of};
use crate::message::{FrontOp, InboxAsk, InboxStep, Unreadable, Watermarks};
use crate::reply::Place;

/// The newest entry of a log that is not known yet.
pub(super) const SOME_ENTRY: Seq = Seq(u64::MAX);

impl Accounts {
    /// A connection asks for a step of its device's inbox: all of it from memory, or a step from the store, which is learned on the
    /// way.
    pub(super) fn inbox(&mut self, cx: &mut Cx, id: UserId, ask: InboxAsk) {
        let device = self.user(id).devices.get_mut(&ask.device);
        let Some(device) = device.filter(|device| device.place == Some(ask.origin.place)) else {
            // Another connection stands for it by now, and this one is being ended.
            return answer(cx, ask, Err(Unreadable::ForNow));
        };
        if ask.after.is_none() {
            if let Inbox::Known(known) = &device.inbox {
                let logs = known.keys().copied().collect();
                let step = InboxStep { logs, marked: true, upto: None };
                return answer(cx, ask, Ok(Box::new(step)));
            }
            device.inbox = Inbox::Learning(BTreeMap::new());
        }
        let is_new = device.record.new;
        let range = if is_new {
            keys::memberships(id.get(), ask.after)
        } else {
            keys::inbox_marks(id.get(), ask.device.get(), ask.after)
        };
        let limit = ScanLimit { rows: cx.limits().inbox_step_rows, bytes: usize::MAX };
        cx.scan(range, Direction::Forwards, limit, ScanFor::Inbox(id, ask, !is_new));
    }

    /// A step of a device's inbox has been read: its marks, or all logs of the user if the device is new.
    pub(super) fn inbox_read(
        &mut self,
        cx: &mut Cx,
        id: UserId,
        ask: InboxAsk,
        marked: bool,
        rows: Result<Rows, Unreadable>,
    ) {
        let step = rows.and_then(|rows| {
            let Some(logs) = logs_of(&rows) else {
                cx.damaged("a key of an inbox", &keys::user(id.get()));
                return Err(Unreadable::Damaged);
            };
            let upto = logs.last().copied().filter(|_| rows.more);
            Ok(Box::new(InboxStep { logs, marked, upto }))
        });
        if let Ok(step) = &step {
            self.learn(Author { user: id, device: ask.device }, &step.logs);
        }
        answer(cx, ask, step);
    }

    /// A device's inbox holds these logs, says the store.
    fn learn(&mut self, author: Author, logs: &[LogId]) {
        // The device may be gone.
        let Some(device) = self.device(author) else { return };
        for log in logs {
            if device.inbox.logs().is_some_and(|known| !known.contains_key(log)) {
                device.inbox.insert(*log, SOME_ENTRY);
            }
        }
    }

    /// A device was pushed all of a log up to an entry.
    pub(super) fn pushed(&mut self, id: UserId, device: DeviceId, log: LogId, upto: Seq) {
        if let Some(newest) = self.in_inbox(id, device, log)
            && (*newest == SOME_ENTRY || *newest < upto)
        {
            *newest = upto;
        }
    }

    /// A device lacked nothing of a log up to an entry: a mark stood for nothing.
    pub(super) fn lacked_nothing(&mut self, id: UserId, device: DeviceId, log: LogId, upto: Seq) {
        let is_over = |newest: &mut Seq| *newest == SOME_ENTRY || *newest <= upto;
        if self.in_inbox(id, device, log).is_some_and(is_over) {
            self.leaves_inbox(id, device, log);
        }
    }

    /// A device has acknowledged a log up to an entry, durably.
    pub(super) fn acknowledged(&mut self, id: UserId, device: DeviceId, log: LogId, upto: Seq) {
        if self.in_inbox(id, device, log).is_some_and(|newest| *newest <= upto) {
            self.leaves_inbox(id, device, log);
        }
    }

    /// The newest entry of a log in a device's inbox, if both are in memory.
    fn in_inbox(&mut self, user: UserId, device: DeviceId, log: LogId) -> Option<&mut Seq> {
        self.device(Author { user, device })?.inbox.logs()?.get_mut(&log)
    }

    fn leaves_inbox(&mut self, user: UserId, device: DeviceId, log: LogId) {
        let logs = self.device(Author { user, device }).and_then(|device| device.inbox.logs());
        logs.expect("it has just been looked at").remove(&log);
    }

    /// An entry of a log of the user is durable: it is in the inbox of all devices but its author's, and those that are here are told.
    pub(super) fn appended(&mut self, cx: &mut Cx, id: UserId, entry: &Arc<Entry>) {
        self.enters_inboxes(cx, id, entry, || FrontOp::Entry(entry.clone()));
        self.wake_for(cx, id, entry);
    }

    /// Puts an entry into the inbox of all devices but its author's, and tells those that are here what is made for each.
    pub(super) fn enters_inboxes(
        &mut self,
        cx: &mut Cx,
        id: UserId,
        entry: &Entry,
        op: impl Fn() -> FrontOp,
    ) {
        // Of a user who is not in memory, nobody is here.
        let Some(user) = self.users.get(id) else { return };
        for (device, state) in user.devices.iter_mut() {
            if (Author { user: id, device: *device }) == entry.author {
                continue;
            }
            state.inbox.insert(entry.log, entry.seq);
            if state.place.is_some() {
                state.tell(cx, op());
            }
        }
    }

    /// A member of a log of the user has got further: its peer's devices see it, and its own other ones what was read.
    /// What was read stays in their inboxes until they say that they know it.
    pub(super) fn advanced(
        &mut self,
        cx: &mut Cx,
        id: UserId,
        log: LogId,
        by: Author,
        (marks, is_read): (Watermarks, bool),
    ) {
        // Of a user who is not in memory, nobody is here.
        let Some(user) = self.users.get(id) else { return };
        let whose = (peer_of(log, id) != Some(by.user)).then_some(by.user);
        for (device, state) in user.devices.iter_mut() {
            if (Author { user: id, device: *device }) == by {
                continue;
            }
            if is_read && by.user == id {
                state.inbox.holds(log, marks.read);
            }
            state.tell(cx, FrontOp::Watermarks(log, whose, marks));
        }
        if is_read && by.user == id {
            self.wake_for_read(cx, id, log);
        }
    }

    /// A device has caught up: what it lacks is known from here on, and it is no longer new.
    pub(super) fn caught_up(&mut self, cx: &mut Cx, author: Author, place: Place) {
        // Another connection may stand for it by now.
        let Some(device) = self.device(author).filter(|device| device.place == Some(place)) else { return };
        device.inbox = match std::mem::take(&mut device.inbox) {
            Inbox::Learning(logs) => Inbox::Known(logs),
            other => other,
        };
        if std::mem::take(&mut device.record.new) {
            self.write_device(cx, author, Then::Noted);
        }
    }
}

fn answer(cx: &mut Cx, ask: InboxAsk, step: Result<Box<InboxStep>, Unreadable>) {
    cx.tell_front(ask.origin.place, FrontOp::Inbox(ask.origin.ask, step));
}
