//! What is lost with the owner of a member of a log: that it watches the log, what it was told, and what it was asked.

use std::sync::Arc;

use tern_storage::{LogId, Slot};
use tern_wire::ids::{Seq, UserId};

use super::append::Tried;
use super::{Cx, Log, Logs, member_of};
use crate::entry::{Author, Entry, members_of};
use crate::message::{LogOp, Standing, UserOp};
use crate::mutations::{Mutation, is};
use crate::slots::Taken;

impl Log {
    /// Where it stands, for a member.
    fn standing(&mut self, id: LogId, user: UserId) -> Standing {
        let marks = self.members.iter().map(|member| (member.user, member.marks));
        let marks = marks.filter(|(_, marks)| *marks != Default::default()).collect();
        let devices: Vec<_> =
            member_of(self, user).devices.iter().map(|device| (device.id, device.position)).collect();
        let told = devices.into_iter().filter_map(|(device, position)| {
            let newest = self.newest_of_others(Author { user, device });
            (newest > position).then_some((device, newest))
        });
        Standing { log: id, behind: told.collect(), marks }
    }

    /// The newest durable entry that a device did not write itself, as far as is known: never one before it.
    fn newest_of_others(&self, device: Author) -> Seq {
        let durable = self.durable.seq();
        let others = |entry: &&Arc<Entry>| entry.seq <= durable && entry.author != device;
        match (self.tail.iter().rev().find(others), self.tail.front()) {
            (Some(entry), _) => entry.seq,
            (None, Some(oldest)) => Seq(oldest.seq.0 - 1).min(durable),
            (None, None) => durable,
        }
    }
}

impl Logs {
    /// Owners of users are gone: those in their place are told by the logs in memory that they are in use, and where they stand, and
    /// are asked what was asked.
    pub(crate) fn owners_gone(&mut self, cx: &mut Cx, taken: &Taken) {
        if is(Mutation::ForgetWatch) {
            return;
        }
        let mut concerned = Vec::new();
        self.logs.each_key(|id| {
            let of_taken = |user: &UserId| taken.has(Slot::of_user(user.get()));
            concerned.extend(members_of(*id).filter(of_taken).map(|user| (*id, user)));
        });
        for (id, user) in concerned {
            self.watch_again(cx, id, user);
        }
    }

    fn watch_again(&mut self, cx: &mut Cx, id: LogId, user: UserId) {
        cx.tell_user(user, UserOp::Watch(id));
        self.told(cx, id, LogOp::Recover(user));
        if self.pinned(id).held.is_known() {
            self.ask_again(cx, id);
        }
    }

    /// Says where a log stands, for its member's owner may not know.
    pub(super) fn stands(&mut self, cx: &mut Cx, id: LogId, user: UserId) {
        let standing = self.known(id).standing(id, user);
        cx.tell_user(user, UserOp::Stands(Box::new(standing)));
    }

    /// The message at the head of the queue asks again whether it may be appended; an answer to the first time finds nobody.
    fn ask_again(&mut self, cx: &mut Cx, id: LogId) {
        let Some(mut send) = self.known(id).sends.pop_front_if(|send| send.permits.asked.is_some()) else {
            return;
        };
        send.permits.asked = None;
        if self.try_append(cx, id, send) == Tried::Settled {
            self.append_waiting(cx, id);
        }
    }
}
