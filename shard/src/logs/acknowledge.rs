//! Positions and watermarks: how far each device and each member has got.

use tern_storage::{LogId, Slot, keys};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::{DeviceId, UserId};

use super::log::{Advance, Device};
use super::waits::Acknowledged;
use super::{After, Cx, Logs, REVOKED, member_of};
use crate::entry::{Author, members_of, peer_of};
use crate::message::{UserOp, Watermarks};
use crate::mutations::{Mutation, is};
use crate::reply::{Origin, Reply};

/// A position is beyond all that there is, or that the member may see.
pub(super) const NO_SUCH_ENTRY: Refusal =
    Refusal::new(Reason::InvalidArgument, "the chat has no entry of that number");

/// Whether anybody else writes in a log, so that one has something to read.
fn has_others(id: LogId, user: UserId) -> bool {
    match id {
        LogId::Direct(..) => peer_of(id, user) != Some(user),
        LogId::Group(_) => true,
        LogId::Private(_) => false,
    }
}

/// Puts marks of a log into the inboxes of devices.
pub(super) fn mark(cx: &mut Cx, slot: Slot, id: LogId, user: UserId, devices: Vec<DeviceId>) {
    for device in devices {
        cx.put_bytes_lazily(slot, keys::inbox_mark(user.get(), device.get(), id), &[]);
    }
}

impl Logs {
    pub(super) fn acknowledge(
        &mut self,
        cx: &mut Cx,
        id: LogId,
        origin: Origin,
        author: Author,
        told: Watermarks,
    ) {
        if !cx.may_write(0) {
            let refusal = cx.overloaded();
            return cx.refuse(origin, refusal);
        }
        if matches!(id, LogId::Group(_)) {
            return self.acknowledge_in_group(cx, id, origin, author, told);
        }
        let upto = told.of_person();
        let log = self.known(id);
        if upto.delivered > log.durable.seq() {
            return cx.refuse(origin, NO_SUCH_ENTRY);
        }
        let (head, slot) = (log.head, log.slot);
        let written = log.written_upto(author.user, log.marks_of(author.user).delivered.max(upto.delivered));
        let hush = log.hush(id, author.user);
        let member = member_of(log, author.user);
        let Some(advance) = member.advance(author.device, told, head, has_others(id, author.user)) else {
            return cx.refuse(origin, REVOKED);
        };
        let Advance { position, marks: advanced, .. } = advance;
        member.delivered_bytes = member.delivered_bytes.max(written);
        if advanced.is_some() {
            member.tell(hush);
        }
        let told = member.told;
        if advance.changed {
            cx.put_lazily(slot, keys::member(id, author.user.get()), &member.record());
        }
        if advanced.is_some() {
            self.release_room(cx, id, author.user);
        }
        mark(cx, slot, id, author.user, advance.unmarked);
        let acknowledged = Acknowledged { origin, log: id, author, position, advanced, told };
        self.after_lazily(cx, After::Acknowledged(acknowledged));
        if advance.caught_up {
            self.look_when_quiet(cx, id);
        }
    }

    /// A device has got further in a direct chat, durably: the members' owners are told, and the device.
    pub(super) fn acknowledged(&mut self, cx: &mut Cx, acknowledged: Acknowledged) {
        let Acknowledged { origin, log, author, position, advanced, told } = acknowledged;
        if let Some(position) = position {
            cx.tell_user(author.user, UserOp::Acknowledged(author.device, log, position));
        }
        if let Some((marks, is_read)) = advanced {
            let member = member_of(self.pinned(log), author.user);
            member.shown = member.shown.max(marks);
            let told = member.told_shown.max(told);
            let tells = std::mem::replace(&mut member.told_shown, told) != told;
            for user in members_of(log).filter(|user| *user == author.user || tells) {
                let marks = if user == author.user { marks } else { told };
                cx.tell_user(user, UserOp::Advanced(log, author, marks, is_read));
            }
        }
        cx.reply(origin, Reply::Acknowledged);
    }

    /// The mark of a device that has caught up is cleared only when its log has been quiet for a while: a busy chat
    /// would write and clear it with every message.
    pub(super) fn look_when_quiet(&mut self, cx: &Cx, id: LogId) {
        let quiet_ms = cx.limits().mark_quiet_ms;
        let log = self.known(id);
        let due_ms = cx.now_ms + log.quiet_ms(quiet_ms);
        if !std::mem::replace(&mut log.in_quiet, true) {
            self.quiet.insert((due_ms, id));
        }
    }

    /// Clears the marks of logs that have been quiet.
    pub(super) fn clear_marks(&mut self, cx: &mut Cx) {
        while let Some((due_ms, id)) = self.quiet.first().copied()
            && cx.may_write(0)
        {
            let mark_quiet_ms = cx.limits().mark_quiet_ms;
            // One that was forgotten, or is in doubt, may leave marks: they are found when the device asks for what it lacks.
            let Some(log) = self.logs.get_mut(&id).filter(|log| log.held.is_known()) else {
                self.quiet.pop_first();
                continue;
            };
            let quiet_ms = log.quiet_ms(mark_quiet_ms);
            // The clock may have been set back: then it is due as well.
            if due_ms > cx.now_ms && due_ms - cx.now_ms <= quiet_ms {
                return;
            }
            self.quiet.pop_first();
            log.appended_ms = log.appended_ms.min(cx.now_ms);
            if log.appended_ms + quiet_ms > cx.now_ms || log.is_gathering() || !cx.is_here(log.slot) {
                self.quiet.insert((cx.now_ms + quiet_ms, id));
                continue;
            }
            log.in_quiet = false;
            let (head, slot) = (log.head, log.slot);
            let mut cleared = false;
            for member in &mut log.members {
                let user = member.user;
                let visible = member.visible(head);
                let over = |device: &&mut Device| {
                    let has_all = device.has_all(visible) || is(Mutation::ClearMarkEarly);
                    (device.marked || device.stale) && has_all
                };
                for device in member.devices.iter_mut().filter(over) {
                    (device.marked, device.stale, cleared) = (false, false, true);
                    cx.delete_lazily(slot, keys::inbox_mark(user.get(), device.id.get(), id));
                }
            }
            if cleared {
                self.after_lazily(cx, After::Marked(id));
            }
        }
    }
}
