//! Positions and watermarks: how far each device and each member has got.

use tern_storage::{LogId, keys};
use tern_wire::errors::{Reason, Refusal};

use super::After;
use super::Phase;
use crate::Cx;
use crate::entry::{Author, members_of};
use crate::message::{UserAsk, UserOp, Watermarks};
use crate::reply::Origin;
use crate::shard::Shard;

impl Shard {
    pub(super) fn acknowledged(
        &mut self,
        cx: &mut Cx,
        id: LogId,
        origin: Origin,
        author: Author,
        told: Watermarks,
    ) {
        if !self.commits.has_room(0, self.limits.batch_bytes_max) {
            let refusal = self.overloaded();
            return self.refuse(cx, origin, refusal);
        }
        // What is read is delivered to the person, if not to this device.
        let upto = Watermarks { delivered: told.delivered.max(told.read), read: told.read };
        let log = self.logs.known(id);
        if upto.delivered > log.durable.seq() {
            let refusal = Refusal::new(Reason::InvalidArgument, "the chat has no entry of that number");
            return self.refuse(cx, origin, refusal);
        }
        let head = log.head;
        let written = log.written_upto(author.user, log.marks_of(author.user).delivered.max(upto.delivered));
        let member = log.member(author.user).expect("the asker's own chat");
        let Some(device) = member.devices.iter_mut().find(|device| device.id == author.device) else {
            let refusal = Refusal::new(Reason::SessionRevoked, "the session has ended: register again");
            return self.refuse(cx, origin, refusal);
        };
        let (position, marks) = (device.position.max(told.delivered), member.marks.max(upto));
        let (moved, advanced) = (position > device.position, marks != member.marks);
        device.position = position;
        let caught_up = (device.marked || device.stale) && position == head;
        member.marks = marks;
        member.delivered_bytes = member.delivered_bytes.max(written);
        if moved || advanced {
            self.commits.put(keys::member(id, author.user.get()), &member.record());
        }
        if advanced {
            self.release_room(cx, id, author.user);
            self.then(After::Advance(id, author, marks));
        }
        self.then(After::Acknowledged(origin, id, position));
        if caught_up {
            self.look_when_quiet(cx, id);
        }
    }

    /// A member has got further, durably: the members' devices are told.
    pub(crate) fn advanced(&mut self, cx: &mut Cx, log: LogId, by: Author, marks: Watermarks) {
        for user in members_of(log) {
            self.tell_user(cx, UserOp { user, ask: UserAsk::Advanced(log, by, marks) });
        }
    }

    /// The mark of a device that has caught up is cleared only when its log has been quiet for a while: a busy chat
    /// would write and clear it with every message.
    pub(super) fn look_when_quiet(&mut self, cx: &Cx, id: LogId) {
        let due_ms = cx.now_ms + self.limits.mark_quiet_ms;
        let log = self.logs.known(id);
        if !std::mem::replace(&mut log.in_quiet, true) {
            self.logs.quiet.push_back((due_ms, id));
        }
    }

    /// Clears the marks of logs that have been quiet.
    pub(crate) fn clear_marks(&mut self, cx: &mut Cx) {
        while let Some((due_ms, id)) = self.logs.quiet.front().copied()
            // The clock may have been set back: then it is due as well.
            && (due_ms <= cx.now_ms || due_ms - cx.now_ms > self.limits.mark_quiet_ms)
            && self.commits.has_room(0, self.limits.batch_bytes_max)
        {
            self.logs.quiet.pop_front();
            // One that was forgotten, or is in doubt, may leave marks: they are found when the device asks for what it lacks.
            let Some(log) = self.logs.logs.get_mut(&id).filter(|log| log.phase == Phase::Known) else {
                continue;
            };
            log.appended_ms = log.appended_ms.min(cx.now_ms);
            if log.appended_ms + self.limits.mark_quiet_ms > cx.now_ms {
                self.logs.quiet.push_back((cx.now_ms + self.limits.mark_quiet_ms, id));
                continue;
            }
            log.in_quiet = false;
            let head = log.head;
            let mut cleared = false;
            for member in &mut log.members {
                let user = member.user;
                let over =
                    |device: &&mut super::Device| (device.marked || device.stale) && device.position == head;
                for device in member.devices.iter_mut().filter(over) {
                    (device.marked, device.stale, cleared) = (false, false, true);
                    self.commits.delete(keys::inbox_mark(user.get(), device.id.get(), id));
                }
            }
            if cleared {
                self.then(After::Marked(id));
            }
        }
    }
}
