//! Who comes into a group, and devices that are not known in it yet: their users' owners are asked, and watched for as long as what was
//! asked for is not durable, so that no device falls between.

use tern_storage::LogId;
use tern_wire::errors::{Reason, Refusal};
use tern_wire::group::Change;
use tern_wire::ids::{DeviceId, UserId};

use super::append::Tried;
use super::group::{NOBODY, UNKNOWN_GROUP};
use super::{Cx, Logs, UNREADABLE, page_failed};
use crate::entry::KIND_GROUP;
use crate::limits::GROUP_PULLS_MAX;
use crate::message::{LogOp, Pull, Send, Unreadable, UserOp};

const REVOKED: Refusal = Refusal::new(Reason::SessionRevoked, "the session has ended: register again");

/// What a message wants to become of its group. It was looked at when it came.
fn change_of(send: &Send) -> Result<Option<Change>, Refusal> {
    if send.kind == KIND_GROUP { Change::parse(&send.body).map(Some) } else { Ok(None) }
}

impl Logs {
    /// Something for a group that is not there: it is made, or refused.
    pub(super) fn create(&mut self, cx: &mut Cx, id: LogId, send: Box<Send>) -> Tried {
        let made = match change_of(&send) {
            Ok(Some(Change::Made(made))) => made,
            _ => {
                cx.refuse(send.origin, UNKNOWN_GROUP);
                return Tried::Settled;
            }
        };
        let mut users = made.members.clone();
        if !users.contains(&send.author.user) {
            users.push(send.author.user);
        }
        if users.len() > tern_wire::limits::GROUP_MEMBERS_MAX {
            let refusal = Refusal::new(Reason::TooManyMembers, "a group has at most 1024 members");
            cx.refuse(send.origin, refusal);
            return Tried::Settled;
        }
        if !send.permits.guests {
            return self.ask_guests(cx, id, users, Box::new(Send { permits: guests(&send), ..*send }));
        }
        let author = send.author;
        let devices = self.known(id).group().guests.iter().find(|(user, _)| *user == author.user);
        let is_known =
            devices.is_some_and(|(_, devices)| devices.iter().flatten().any(|id| *id == author.device));
        if !is_known {
            self.known(id).group().guests.clear();
            cx.refuse(send.origin, REVOKED);
            return Tried::Settled;
        }
        self.append_with_guests(cx, id, send, users, Change::Made(made));
        Tried::Settled
    }

    /// A message of a member that is no retry.
    pub(super) fn append_in_group(&mut self, cx: &mut Cx, id: LogId, send: Box<Send>) -> Tried {
        let change = change_of(&send);
        let allowed = change.and_then(|change| {
            self.known(id).may(send.author.user, change.as_ref())?;
            Ok(change)
        });
        match allowed {
            Err(refusal) => {
                self.known(id).group().guests.clear();
                cx.refuse(send.origin, refusal);
            }
            Ok(Some(Change::Added(users))) if !send.permits.guests => {
                return self.ask_guests(cx, id, users, Box::new(Send { permits: guests(&send), ..*send }));
            }
            Ok(Some(Change::Added(users))) => {
                self.append_with_guests(cx, id, send, users.clone(), Change::Added(users));
            }
            Ok(change) => self.append_new(cx, id, *send, change),
        }
        Tried::Settled
    }

    /// Appends that these come, if there are such users.
    fn append_with_guests(
        &mut self,
        cx: &mut Cx,
        id: LogId,
        send: Box<Send>,
        users: Vec<UserId>,
        change: Change,
    ) {
        let guests = &self.known(id).group().guests;
        let is_there =
            |user: &UserId| guests.iter().any(|(guest, devices)| guest == user && devices.is_some());
        if users.iter().all(is_there) {
            self.append_new(cx, id, *send, Some(change));
        } else {
            cx.refuse(send.origin, NOBODY);
        }
        self.known(id).group().guests.clear();
    }

    /// A device of a member sends that is not known here.
    pub(super) fn meet_author(&mut self, cx: &mut Cx, id: LogId, mut send: Box<Send>) -> Tried {
        let user = send.author.user;
        if self.known(id).seen_member(user).is_none() {
            let refused = change_of(&send).and_then(|change| self.known(id).may(user, change.as_ref()));
            cx.refuse(send.origin, refused.expect_err("nobody but a member may do anything"));
            return Tried::Settled;
        }
        send.permits.met = true;
        self.ask_guests(cx, id, vec![user], send)
    }

    /// Asks for the devices of users. The message waits at the head of the queue.
    fn ask_guests(&mut self, cx: &mut Cx, id: LogId, users: Vec<UserId>, mut send: Box<Send>) -> Tried {
        send.permits.waits_for_guests = true;
        self.known(id).sends.push_front(send);
        for user in users {
            self.await_guest(cx, id, user);
        }
        Tried::Held
    }

    fn await_guest(&mut self, cx: &mut Cx, id: LogId, user: UserId) {
        let group = self.known(id).group();
        if group.awaited.contains(&user) {
            return;
        }
        group.awaited.push(user);
        if !group.watched.contains(&user) {
            group.watched.push(user);
        }
        cx.tell_user(user, UserOp::Watch(id));
    }

    /// A device that is not known in the group wants what it lacks: it waits until it is known, once.
    pub(super) fn meet_reader(&mut self, cx: &mut Cx, id: LogId, mut pull: Box<Pull>) {
        if self.known(id).group().pulls.len() >= GROUP_PULLS_MAX {
            return page_failed(cx, id, *pull, Unreadable::ForNow);
        }
        let user = pull.author.user;
        pull.met = true;
        self.known(id).group().pulls.push(pull);
        self.await_guest(cx, id, user);
    }

    /// The devices of somebody who is in the group, or about to come into it.
    pub(super) fn guest_known(
        &mut self,
        cx: &mut Cx,
        id: LogId,
        user: UserId,
        devices: Option<Vec<DeviceId>>,
    ) {
        let log = self.known(id);
        if log.group.is_none() {
            return;
        }
        log.group().awaited.retain(|awaited| *awaited != user);
        if let Some(member) = log.member(user) {
            member.lives = devices.is_some();
            member.set_devices(&devices.clone().unwrap_or_default(), true);
            let joined = member.part.as_ref().map_or(1, |part| part.joined.0);
            for device in &mut member.devices {
                device.position.0 = device.position.0.max(joined - 1);
            }
        }
        let group = log.group();
        if group.watched.contains(&user) {
            group.guests.retain(|(guest, _)| *guest != user);
            group.guests.push((user, devices));
        }
        if log.exists {
            self.mark_new_devices(cx, id, user);
        }
        self.guest_came(cx, id, user);
    }

    /// Somebody can't be read: what waits for that is refused.
    pub(super) fn guest_unreadable(&mut self, cx: &mut Cx, id: LogId, user: UserId) {
        let group = self.known(id).group();
        group.awaited.retain(|awaited| *awaited != user);
        let (failed, others) =
            std::mem::take(&mut group.pulls).into_iter().partition(|pull| pull.author.user == user);
        group.pulls = others;
        let failed: Vec<Box<Pull>> = failed;
        for pull in failed {
            page_failed(cx, id, *pull, Unreadable::ForNow);
        }
        if let Some(send) = self.known(id).sends.pop_front_if(|send| send.permits.waits_for_guests) {
            cx.refuse(send.origin, UNREADABLE);
            self.append_waiting(cx, id);
        }
        self.part_from_guests(cx, id);
    }

    /// Goes on with what has waited for somebody.
    fn guest_came(&mut self, cx: &mut Cx, id: LogId, user: UserId) {
        let group = self.known(id).group();
        let (pulls, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut group.pulls).into_iter().partition(|pull| pull.author.user == user);
        group.pulls = others;
        for pull in pulls {
            // One of them may bring the log into doubt.
            self.told(cx, id, LogOp::Pull(pull));
        }
        let Some(log) = self.logs.get_mut(&id).filter(|log| log.held.is_known()) else { return };
        if log.group().awaited.is_empty()
            && let Some(mut send) = log.sends.pop_front_if(|send| send.permits.waits_for_guests)
        {
            send.permits.waits_for_guests = false;
            if self.try_append(cx, id, send) == Tried::Settled {
                self.append_waiting(cx, id);
            }
        }
        self.part_from_guests(cx, id);
    }

    /// What was asked for is over, and durable: nobody is watched any more.
    pub(super) fn part_from_guests(&mut self, cx: &mut Cx, id: LogId) {
        let Some(log) = self.logs.get_mut(&id).filter(|log| log.held.is_known()) else { return };
        let is_over = log.durable.seq() == log.head && log.sends.is_empty() && log.group().awaited.is_empty();
        if is_over {
            for user in std::mem::take(&mut log.group().watched) {
                cx.tell_user(user, UserOp::Unwatch(id));
            }
            log.group().guests.clear();
        }
    }
}

fn guests(send: &Send) -> crate::message::Permits {
    crate::message::Permits { guests: true, ..send.permits }
}
