//! What members of a log may learn of each other: the log knows who has written.

use tern_storage::LogId;
use tern_wire::group::InvitationHash;
use tern_wire::ids::{ChatId, UserId};

use super::group::{NOT_A_MEMBER, UNKNOWN_GROUP};
use super::invitations::UNKNOWN_INVITATION;
use super::{Cx, Logs, Member, UNKNOWN_USER};
use crate::entry::{chat_of, peer_of};
use crate::message::{Acts, Looker, Sees, Shown, Subject, UserOp, VolatileOp};
use crate::mutations::{Mutation, is};
use crate::reply::{Origin, Reply};

impl Logs {
    /// Tells a member of a direct chat who the other is. What the one who asks has written proves nothing: the other must have
    /// written too, or be asked for by phone.
    pub(super) fn describe_peer(
        &mut self,
        cx: &mut Cx,
        id: LogId,
        origin: Origin,
        reader: UserId,
        by_phone: bool,
    ) {
        let log = self.known(id);
        let Some(peer) = peer_of(id, reader) else { return cx.refuse(origin, UNKNOWN_USER) };
        let is_known = log.has_written(peer);
        let name = is_known && log.has_written(reader);
        let shown = Shown { to: reader, name, phone: true, picture: None };
        if by_phone || is_known {
            cx.tell_user(peer, UserOp::Describe(origin, shown));
        } else {
            cx.refuse(origin, UNKNOWN_USER);
        }
    }

    /// Tells a member of a group who another one is, or was.
    pub(super) fn describe_member(
        &mut self,
        cx: &mut Cx,
        id: LogId,
        origin: Origin,
        reader: UserId,
        user: UserId,
    ) {
        let log = self.known(id);
        if log.seen_member(reader).is_none() {
            return cx.refuse(origin, UNKNOWN_GROUP);
        }
        match log.seen_member(user) {
            Some(_) => {
                let shown = Shown { to: reader, name: true, phone: false, picture: None };
                cx.tell_user(user, UserOp::Describe(origin, shown));
            }
            None => cx.refuse(origin, UNKNOWN_USER),
        }
    }

    /// Tells a member what its group is, and who the others are; and whoever has an invitation, what it is one to.
    pub(super) fn about_group(
        &mut self,
        cx: &mut Cx,
        id: LogId,
        origin: Origin,
        reader: UserId,
        hash: Option<InvitationHash>,
    ) {
        let (now_ms, log, chat) = (cx.now_ms, self.known(id), chat_of(id, reader).get());
        match log.seen_member(reader) {
            Some(member) if member.is_present() => {
                let about = log.about(chat, reader, now_ms);
                cx.reply(origin, Reply::Group(Box::new(about)));
            }
            _ if hash.is_some_and(|_| !log.exists) => cx.refuse(origin, UNKNOWN_INVITATION),
            _ if let Some(hash) = hash => match log.about_by_invitation(chat, &hash, now_ms) {
                Ok(about) => cx.reply(origin, Reply::Group(Box::new(about))),
                Err(refusal) => cx.refuse(origin, refusal),
            },
            Some(_) => cx.refuse(origin, NOT_A_MEMBER),
            None => cx.refuse(origin, UNKNOWN_GROUP),
        }
    }

    /// A device wants to show who does what in a group, if its user is a member.
    pub(super) fn look(&mut self, cx: &mut Cx, id: LogId, looker: Looker) {
        let log = self.known(id);
        let is_member = log.seen_member(looker.device.user).is_some_and(Member::is_present);
        if let ChatId::Group(group) = chat_of(id, looker.device.user)
            && is_member
        {
            cx.tell_volatile(Subject::Group(group), VolatileOp::Look(looker, Sees::default()));
            if is(Mutation::ShowHiddenInGroup) {
                for member in &self.known(id).members {
                    let all = Sees { online: true, last_seen: true };
                    cx.tell_volatile(Subject::User(member.user), VolatileOp::Look(looker, all));
                }
            }
        }
    }

    /// Somebody does something in a group just now: those who show it are told, if it is a member.
    pub(super) fn act(&mut self, cx: &mut Cx, id: LogId, acts: Acts) {
        let Acts { origin, user, doing, not } = acts;
        let member = self.known(id).seen_member(user).map(Member::is_present);
        let reply = match (member, chat_of(id, user)) {
            (Some(true), ChatId::Group(group)) => {
                cx.tell_volatile(Subject::Group(group), VolatileOp::Acts(user, doing, not));
                Reply::ActivityTold
            }
            (Some(_), _) => Reply::Refused(NOT_A_MEMBER),
            (None, _) => Reply::Refused(UNKNOWN_GROUP),
        };
        if let Some(origin) = origin {
            cx.reply(origin, reply);
        }
    }

    /// A member is not as before.
    pub(super) fn member_changed(&mut self, cx: &mut Cx, id: LogId, user: UserId, version: u64) {
        let Some(peer) = peer_of(id, user) else { return };
        let log = self.known(id);
        let blocks = log.seen_member(user).is_some_and(|member| member.terms.blocks);
        if log.has_written(peer) && log.has_written(user) && !blocks {
            cx.tell_user(peer, UserOp::PersonChanged(user, version));
        }
    }
}
