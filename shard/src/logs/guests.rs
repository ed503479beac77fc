//! Who comes into a group, and devices that are not known in it yet: their users' owners are asked, and watched for as long as what was
//! asked for is not durable, so that no device falls between.

use tern_storage::records::MEMBERS_PER_ROW;
use tern_storage::{LogId, keys};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::group::Change;
use tern_wire::ids::{DeviceId, Seq, UserId};

use super::append::{Follows, Tried};
use super::group::{Newcomer, UNKNOWN_GROUP};
use super::invitations::UNKNOWN_INVITATION;
use super::{After, Cx, Logs, REVOKED, UNREADABLE, page_failed};
use crate::entry::KIND_GROUP;
use crate::limits::GROUP_NEWCOMERS_MAX;
use crate::message::{LogOp, Permits, Pull, Send, Unreadable, UserOp};
use crate::mutations::{Mutation, is};

/// Of those who do not let one, and of those who are not there: in the same words.
const DECLINED: Refusal =
    Refusal::new(Reason::NotAllowed, "one of them is not there, or does not let one take them into groups");

/// Whether a message is by somebody who comes by an invitation, or asks to be let in.
pub(super) fn may_come(send: &Send) -> bool {
    matches!(change_of(send), Ok(Some(Change::Joined(_) | Change::Asked(_))))
}

/// What a message wants to become of its group. It was looked at when it came.
fn change_of(send: &Send) -> Result<Option<Change>, Refusal> {
    if send.kind == KIND_GROUP { Change::parse(&send.body).map(Some) } else { Ok(None) }
}

impl Logs {
    /// Something for a group that is not there: it is made, or refused.
    pub(super) fn create(&mut self, cx: &mut Cx, id: LogId, send: Box<Send>) -> Tried {
        let made = match change_of(&send) {
            Ok(Some(Change::Made(made))) => made,
            Ok(Some(Change::Joined(_) | Change::Asked(_))) => {
                cx.refuse(send.asker, UNKNOWN_INVITATION);
                return Tried::Settled;
            }
            _ => {
                cx.refuse(send.asker, UNKNOWN_GROUP);
                return Tried::Settled;
            }
        };
        let mut users = made.members.clone();
        if !users.contains(&send.author.user) {
            users.push(send.author.user);
        }
        if users.len() > tern_wire::limits::GROUP_MEMBERS_MAX {
            let refusal = Refusal::new(Reason::TooManyMembers, "a group has at most 1024 members");
            cx.refuse(send.asker, refusal);
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
            cx.refuse(send.asker, REVOKED);
            return Tried::Settled;
        }
        let limited = cx.limits().groups_per_day_max > 0 && !send.permits.granted;
        if limited && self.all_come(id, &users).is_ok() {
            let ask = UserOp::MayMakeGroup(id, self.next_ask());
            self.ask_first(cx, id, send, (author.user, ask));
            return Tried::Held;
        }
        let send = match self.all_come(id, &users) {
            Ok(()) => match self.may_go(cx, id, send) {
                Ok(send) => send,
                Err(Tried::Settled) => {
                    self.forget_guests(id);
                    return Tried::Settled;
                }
                Err(Tried::Held) => return Tried::Held,
            },
            Err(_) => send,
        };
        self.append_with_guests(cx, id, *send, &users, Change::Made(made));
        Tried::Settled
    }

    /// A message of a member that is no retry.
    pub(super) fn append_in_group(&mut self, cx: &mut Cx, id: LogId, send: Box<Send>) -> Tried {
        let change = change_of(&send);
        let allowed = change.and_then(|change| {
            self.known(id).may(send.author.user, send.kind, change.as_ref(), cx.now_ms)?;
            Ok(change)
        });
        match allowed {
            Err(refusal) => {
                self.known(id).group().guests.clear();
                cx.refuse(send.asker, refusal);
            }
            Ok(Some(Change::Added(users))) if !send.permits.guests => {
                return self.ask_guests(cx, id, users, Box::new(Send { permits: guests(&send), ..*send }));
            }
            Ok(Some(Change::Joined(_) | Change::Asked(_))) if !send.permits.guests => {
                let users = vec![send.author.user];
                return self.ask_guests(cx, id, users, Box::new(Send { permits: guests(&send), ..*send }));
            }
            Ok(Some(change @ (Change::Joined(_) | Change::Asked(_)))) => {
                self.append_guest(cx, id, *send, change);
            }
            Ok(Some(Change::Added(users))) => {
                self.append_with_guests(cx, id, *send, &users.clone(), Change::Added(users));
            }
            Ok(change) => return self.append_considered(cx, id, send, change.map(Box::new)),
        }
        Tried::Settled
    }

    /// Appends that these come, if there are such users.
    fn append_with_guests(&mut self, cx: &mut Cx, id: LogId, send: Send, users: &[UserId], change: Change) {
        match self.all_come(id, users) {
            Ok(()) => {
                let follows = Follows { change: Some(Box::new(change)), ..Follows::default() };
                self.append_new(cx, id, send, follows);
            }
            Err(refusal) => cx.refuse(send.asker, refusal),
        }
        self.forget_guests(id);
    }

    /// Whether there are such users, and all of them come.
    fn all_come(&mut self, id: LogId, users: &[UserId]) -> Result<(), Refusal> {
        let group = self.known(id).group();
        let is_there =
            |user: &UserId| group.guests.iter().any(|(guest, devices)| guest == user && devices.is_some());
        if group.is_declined || !users.iter().all(is_there) { Err(DECLINED) } else { Ok(()) }
    }

    /// What was asked about those who come is settled.
    pub(super) fn forget_guests(&mut self, id: LogId) {
        let group = self.known(id).group();
        group.is_declined = false;
        group.guests.clear();
    }

    /// Somebody who is no member, or with a device that is not known here, comes by an invitation or asks: whether that is a retry, the
    /// store says.
    pub(super) fn come(&mut self, cx: &mut Cx, id: LogId, send: Box<Send>) -> Tried {
        if send.permits.met {
            return self.append_in_group(cx, id, send);
        }
        self.maybe_retry(cx, id, Box::new(Send { permits: Permits { met: true, ..send.permits }, ..*send }))
    }

    /// Appends what somebody says who is no member yet, if the device is one of theirs.
    fn append_guest(&mut self, cx: &mut Cx, id: LogId, send: Send, change: Change) {
        let guests = std::mem::take(&mut self.known(id).group().guests);
        let devices = guests.iter().find(|(user, _)| *user == send.author.user);
        let is_known =
            devices.is_some_and(|(_, devices)| devices.iter().flatten().any(|id| *id == send.author.device));
        if !is_known {
            return cx.refuse(send.asker, REVOKED);
        }
        self.known(id).group().guests = guests;
        self.append_new(cx, id, send, Follows { change: Some(Box::new(change)), ..Follows::default() });
        self.known(id).group().guests.clear();
    }

    /// A device of a member sends that is not known here.
    pub(super) fn meet_author(&mut self, cx: &mut Cx, id: LogId, mut send: Box<Send>) -> Tried {
        let user = send.author.user;
        if self.known(id).seen_member(user).is_none() {
            let refused = change_of(&send)
                .and_then(|change| self.known(id).may(user, send.kind, change.as_ref(), cx.now_ms));
            cx.refuse(send.asker, refused.expect_err("nobody but a member may do anything"));
            return Tried::Settled;
        }
        send.permits.met = true;
        self.ask_guests(cx, id, vec![user], send)
    }

    /// Asks for the devices of users, and of those whom somebody else brings whether they come. The message waits at the head of the
    /// queue.
    fn ask_guests(&mut self, cx: &mut Cx, id: LogId, users: Vec<UserId>, mut send: Box<Send>) -> Tried {
        send.permits.waits_for_guests = true;
        let by = send.author.user;
        let log = self.known(id);
        log.sends.push_front(send);
        let group = log.group();
        group.is_declined = false;
        let asks = |user: &&UserId| **user != by && group.invitations.may_decline(**user).is_err();
        let asked: Vec<_> = users.iter().filter(asks).map(|user| (*user, by)).collect();
        for (user, by) in &asked {
            cx.tell_user(*user, UserOp::MayCome(id, *by));
        }
        group.consents = asked;
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

    /// A device that is not known in the group wants something: it waits until it is known, once.
    pub(super) fn meet_newcomer(&mut self, cx: &mut Cx, id: LogId, newcomer: Newcomer) {
        if self.known(id).group().newcomers.len() >= GROUP_NEWCOMERS_MAX {
            let refusal = cx.overloaded();
            return turn_away(cx, id, newcomer, refusal);
        }
        let user = newcomer.user();
        self.known(id).group().newcomers.push(newcomer);
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
        self.take_devices(cx, id, user, devices.clone());
        let group = self.known(id).group();
        if group.watched.contains(&user) {
            group.guests.retain(|(guest, _)| *guest != user);
            group.guests.push((user, devices));
        }
        self.guest_came(cx, id, user);
    }

    /// A member has these devices from here on. One that is new is written down before it is told anything: what is appended marks the
    /// devices that are known.
    fn take_devices(&mut self, cx: &mut Cx, id: LogId, user: UserId, devices: Option<Vec<DeviceId>>) {
        let log = self.known(id);
        let (slot, head) = (log.slot, log.head);
        let Some(member) = log.member(user) else { return };
        let Some(part) = member.part.as_deref() else { return };
        let (number, before) = (part.number, Seq(part.joined.0 - 1));
        let known: Vec<_> = member.devices.iter().map(|device| device.id).collect();
        member.lives = devices.is_some();
        member.set_devices(&devices.unwrap_or_default(), true);
        member.begins_behind(before);
        let has_more = member.devices.iter().any(|device| !known.contains(&device.id));
        let has_less = member.devices.len() < known.len();
        if has_more {
            let row = number / MEMBERS_PER_ROW;
            cx.put(slot, keys::members_row(id, row), &log.members_row(row, head));
            self.after(cx, After::Marked(id));
            self.mark_new_devices(cx, id, user);
        } else if has_less {
            log.group().touch(number);
            self.gather(cx, id, false);
        }
    }

    /// Somebody can't be read: what waits for that is refused.
    pub(super) fn guest_unreadable(&mut self, cx: &mut Cx, id: LogId, user: UserId) {
        let group = self.known(id).group();
        group.awaited.retain(|awaited| *awaited != user);
        group.consents.clear();
        for newcomer in self.newcomers_of(id, user) {
            turn_away(cx, id, newcomer, UNREADABLE);
        }
        if let Some(send) = self.known(id).sends.pop_front_if(|send| send.permits.waits_for_guests) {
            cx.refuse(send.asker, UNREADABLE);
            self.append_waiting(cx, id);
        }
        self.part_from_guests(cx, id);
    }

    fn newcomers_of(&mut self, id: LogId, user: UserId) -> Vec<Newcomer> {
        self.known(id).group().newcomers.extract_if(.., |newcomer| newcomer.user() == user).collect()
    }

    /// Somebody has said whether they come.
    pub(super) fn guest_answered(
        &mut self,
        cx: &mut Cx,
        id: LogId,
        asked: (UserId, UserId),
        comes: Result<bool, ()>,
    ) {
        // One that was forgotten, or is in doubt, asks again.
        let Some(log) = self.logs.get_mut(&id).filter(|log| log.held.is_known()) else { return };
        let Some(group) = log.group.as_deref_mut() else { return };
        let Some(place) = group.consents.iter().position(|consent| *consent == asked) else { return };
        group.consents.swap_remove(place);
        match comes {
            Ok(comes) => {
                group.is_declined |= !comes && !is(Mutation::BringAnybody);
                self.guest_came(cx, id, asked.0);
            }
            Err(()) => self.guest_unreadable(cx, id, asked.0),
        }
    }

    /// Goes on with what has waited for somebody.
    fn guest_came(&mut self, cx: &mut Cx, id: LogId, user: UserId) {
        for newcomer in self.newcomers_of(id, user) {
            // One of them may have brought the log into doubt.
            match newcomer {
                Newcomer::Pull(pull) => self.told(cx, id, LogOp::Pull(Box::new(Pull { met: true, ..*pull }))),
                Newcomer::Acknowledge(origin, author, upto) if self.known(id).device(author).is_some() => {
                    self.told(cx, id, LogOp::Acknowledge { origin, author, upto });
                }
                Newcomer::Acknowledge(origin, ..) => cx.refuse(origin, REVOKED),
            }
        }
        let Some(log) = self.logs.get_mut(&id).filter(|log| log.held.is_known()) else { return };
        if log.group().awaited.is_empty()
            && log.group().consents.is_empty()
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
        let known = self.logs.get_mut(&id).filter(|log| log.held.is_known() && log.group.is_some());
        let Some(log) = known else { return };
        let is_over = log.durable.seq() == log.head && log.sends.is_empty() && log.group().is_still();
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

/// Something that a device wanted can't be done now.
fn turn_away(cx: &mut Cx, id: LogId, newcomer: Newcomer, refusal: Refusal) {
    match newcomer {
        Newcomer::Pull(pull) => page_failed(cx, id, *pull, Unreadable::ForNow),
        Newcomer::Acknowledge(origin, ..) => cx.refuse(origin, refusal),
    }
}
