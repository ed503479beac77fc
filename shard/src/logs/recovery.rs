//! What is lost with the owner of a member of a log: that it watches the log, what it was told, and what it was asked.

use std::sync::Arc;

use tern_storage::{LogId, Slot};
use tern_wire::ids::{Seq, UserId};

use super::append::Tried;
use super::{Cx, Log, Logs};
use crate::entry::{Author, Entry, members_of, peer_of};
use crate::message::{LogOp, Standing, UserOp, Watermarks};
use crate::mutations::{Mutation, is};
use crate::slots::Taken;

impl Log {
    /// Where it stands, for a member.
    fn standing(&mut self, id: LogId, user: UserId) -> Standing {
        let others = self.shown_of_others(id, user);
        let own = self.shown_of(user);
        let marks = [(None, others), (Some(user), own)];
        let marks = marks.into_iter().filter(|(_, marks)| *marks != Watermarks::default());
        let marks = marks.filter(|(whose, _)| whose.is_none() || peer_of(id, user) != Some(user)).collect();
        let devices = self.seen_member(user).map(|member| &member.devices);
        let devices: Vec<_> =
            devices.into_iter().flatten().map(|device| (device.id, device.position)).collect();
        let told = devices.into_iter().filter_map(|(device, position)| {
            let newest = self.newest_of_others(Author { user, device });
            (newest > position).then_some((device, newest))
        });
        Standing { log: id, behind: told.collect(), marks }
    }

    /// The newest durable entry that a device did not write itself, as far as is known: never one before it.
    fn newest_of_others(&self, device: Author) -> Seq {
        let durable = self.visible_to(device.user, self.durable.seq());
        let others = |entry: &&Arc<Entry>| {
            entry.seq <= durable && entry.author != device && !entry.is_withheld_from(device.user)
        };
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
        if taken.slots().iter().any(|slot| cx.owns(*slot)) {
            self.agenda.begin_anew();
        }
        if is(Mutation::ForgetWatch) {
            return;
        }
        let (mut concerned, mut groups) = (Vec::new(), Vec::new());
        let of_taken = |user: &UserId| taken.has(Slot::of_user(user.get()));
        self.logs.each_key(|id| {
            concerned.extend(members_of(*id).filter(of_taken).map(|user| (*id, user)));
            groups.extend(matches!(id, LogId::Group(_)).then_some(*id));
        });
        for (id, user) in concerned {
            self.watch_again(cx, id, user);
        }
        for id in groups {
            self.tell_group_again(cx, id, of_taken);
        }
    }

    /// Tells members of a group whose owners are gone where it stands, and asks again for the devices of those who come.
    fn tell_group_again(&mut self, cx: &mut Cx, id: LogId, of_taken: impl Fn(&UserId) -> bool) {
        let Some(log) = self.logs.get_mut(&id).filter(|log| log.held.is_known()) else { return };
        let asked: Vec<_> = log.group().watched.iter().copied().filter(&of_taken).collect();
        let consents: Vec<_> =
            log.group().consents.iter().copied().filter(|(user, _)| of_taken(user)).collect();
        let members: Vec<_> = log.members.iter().map(|member| member.user).filter(&of_taken).collect();
        for user in asked {
            cx.tell_user(user, UserOp::Watch(id));
        }
        for (user, by) in consents {
            cx.tell_user(user, UserOp::MayCome(id, by));
        }
        for user in members {
            self.stands(cx, id, user);
        }
        // Whether who makes it may.
        if self.known(id).sends.front().is_some_and(|send| of_taken(&send.author.user)) {
            self.ask_again(cx, id);
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
        self.part_from_guests(cx, id);
    }
}
