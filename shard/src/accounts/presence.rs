//! Whether a user is here, who may see it, and what a user does just now.
//!
//! A user is here by a connected device that somebody looks at. Whoever loses the last one is still here for a while, so that
//! nobody flickers where a connection, or a server, comes back; then it is written when that was, and told to those who look. Where
//! nobody looks nothing is told.

use std::collections::VecDeque;

use tern_storage::keys::{self, Relation};
use tern_storage::records::LastSeenRecord;
use tern_storage::{Direction, LogId, Row, ScanLimit, Slot};
use tern_wire::ids::{DeviceId, UserId};
use tern_wire::request::Doing;

use super::relations::IfContact;
use super::users::{Ask, UNREADABLE, look_later};
use super::waits::ScanFor;
use super::{Accounts, Cx, slot_of};
use crate::circle::{Concern, Verdict};
use crate::entry::peer_of;
use crate::limits::{CONTACTS_MAX, FADING_MAX};
use crate::message::{
    Acts, FrontOp, LogOp, LookedAt, Looker, Notice, Sees, Subject, Subscribing, Unreadable, UserOp,
    VolatileOp, Whereabouts,
};
use crate::mutations::{Mutation, is};
use crate::reply::{Origin, Place, Reply};

/// Users whose last connection has ended a short while ago.
#[derive(Default, Debug)]
pub(super) struct Fading {
    /// In the order in which they are due: when, who, and when the connection ended.
    users: VecDeque<(u64, UserId, u64)>,
    /// Who is looked at and has not come since this core began: nobody knows yet whether they do.
    unsettled: Vec<UserId>,
    /// When this core began; 0: it has not yet.
    born_ms: u64,
}

impl Fading {
    /// Takes out those of a slot.
    pub(super) fn take(&mut self, slot: Slot) -> Faded {
        let (users, left) = self.users.drain(..).partition(|(_, user, _)| slot_of(*user) == slot);
        self.users = left;
        Faded { users, unsettled: self.unsettled.extract_if(.., |user| slot_of(*user) == slot).collect() }
    }

    /// Takes up those of a slot.
    pub(super) fn put_back(&mut self, taken: Faded) {
        self.unsettled.extend(taken.unsettled);
        if !taken.users.is_empty() {
            self.users.extend(taken.users);
            self.users.make_contiguous().sort_unstable();
        }
    }

    /// A user is no more.
    pub(super) fn forget(&mut self, user: UserId) {
        self.users.retain(|(_, other, _)| *other != user);
    }
}

/// Those of a slot.
#[derive(Debug)]
pub(super) struct Faded {
    users: VecDeque<(u64, UserId, u64)>,
    unsettled: Vec<UserId>,
}

/// What a user knows of being here.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Being {
    /// The user counts as here.
    pub(super) online: bool,
    /// When the last connection ended, in ms since the Unix epoch, while the user still counts as here.
    pub(super) left_ms: u64,
    /// Somebody looks.
    pub(super) is_looked_at: bool,
}

impl Accounts {
    /// A device has come, gone, or is looked at or not: the user may be here, or not any more.
    pub(super) fn look_who_is_here(&mut self, cx: &mut Cx, id: UserId) {
        let Some(user) = self.users.get(id) else { return };
        let is_here = user.is_here();
        let being = &mut user.being;
        match (is_here, being.online) {
            (true, was) => {
                (being.online, being.left_ms) = (true, 0);
                if !was {
                    self.tell_lookers(cx, id);
                }
            }
            // Of an account that has ended, nothing is written any more.
            (false, true) if user.record.is_none() => {
                (being.online, being.left_ms) = (false, 0);
                self.tell_lookers(cx, id);
            }
            (false, true) if being.left_ms == 0 && !is(Mutation::StayOnline) => {
                being.left_ms = cx.now_ms.max(1);
                self.fade(cx, id);
            }
            (false, _) => {}
        }
    }

    /// A user whose last connection has ended fades away.
    fn fade(&mut self, cx: &mut Cx, id: UserId) {
        if self.fading.users.len() >= FADING_MAX
            && let Some((_, first, left_ms)) = self.fading.users.pop_front()
        {
            self.has_faded(cx, first, left_ms);
        }
        self.fading.users.push_back((cx.now_ms + cx.limits().presence_grace_ms, id, cx.now_ms.max(1)));
    }

    /// Those whose time has come are gone.
    pub(super) fn let_fade(&mut self, cx: &mut Cx) {
        if self.fading.born_ms == 0 {
            self.fading.born_ms = cx.now_ms.max(1);
        }
        if !self.fading.unsettled.is_empty() && !self.is_unsettled(cx) {
            for id in std::mem::take(&mut self.fading.unsettled) {
                self.tell_lookers(cx, id);
            }
        }
        // The clock may have been set back: then it has come as well.
        let latest_ms = cx.now_ms + cx.limits().presence_grace_ms;
        while let Some((due_ms, id, left_ms)) = self.fading.users.front().copied() {
            if due_ms > cx.now_ms && due_ms <= latest_ms || !cx.is_here(slot_of(id)) {
                return;
            }
            self.fading.users.pop_front();
            self.has_faded(cx, id, left_ms);
        }
    }

    /// Whether this core has begun so short a while ago that nobody knows yet who comes back.
    fn is_unsettled(&self, cx: &Cx) -> bool {
        // The clock may have been set back: then it has not.
        cx.now_ms
            .checked_sub(self.fading.born_ms)
            .is_some_and(|age_ms| age_ms < cx.limits().presence_grace_ms)
    }

    fn has_faded(&mut self, cx: &mut Cx, id: UserId, left_ms: u64) {
        if let Some(user) = self.users.get(id) {
            // It may have gone again since; and who has left the memory meanwhile does not know when it has gone.
            let is_later = user.being.left_ms != left_ms && user.being.left_ms > 0;
            if user.is_here() || is_later {
                return;
            }
            (user.being.online, user.being.left_ms) = (false, 0);
            user.circle.last_seen_ms = left_ms;
        }
        let key = keys::relation(id.get(), Relation::LastSeen);
        cx.put_lazily(slot_of(id), key, &LastSeenRecord { time_ms: left_ms });
        self.tell_lookers(cx, id);
    }

    /// Tells those who look at a user whether it is here.
    fn tell_lookers(&mut self, cx: &mut Cx, id: UserId) {
        let now_ms = cx.now_ms;
        let Some(user) = self.users.get(id).filter(|user| user.being.is_looked_at) else { return };
        let last_seen_ms = user.circle.last_seen_ms.min(now_ms);
        let is = user.record.is_some().then_some(Whereabouts { online: user.being.online, last_seen_ms });
        cx.tell_volatile(Subject::User(id), VolatileOp::Is(is));
    }

    /// Somebody looks at a user, or nobody any more.
    pub(super) fn is_looked_at(&mut self, cx: &mut Cx, id: UserId, is_so: bool) {
        let being = &mut self.user(id).being;
        being.is_looked_at = is_so;
        let is_online = being.online;
        if !is_so {
            return;
        }
        if !is_online && self.is_unsettled(cx) && self.fading.unsettled.len() < FADING_MAX {
            self.fading.unsettled.push(id);
        } else {
            self.tell_lookers(cx, id);
        }
    }

    /// Whether somebody looks at a device is another than before.
    pub(super) fn appears(&mut self, cx: &mut Cx, id: UserId, device: DeviceId, place: Place, away: bool) {
        let Some(user) = self.users.get(id) else { return };
        let Some(device) = user.devices.get_mut(&device).filter(|device| device.place == Some(place)) else {
            return;
        };
        device.away = away;
        self.look_who_is_here(cx, id);
    }

    /// A device is to show these: each of them is asked, by who knows what its user shares.
    pub(super) fn subscribe(&mut self, cx: &mut Cx, id: UserId, origin: Option<Origin>, more: Subscribing) {
        let taken = origin.map_or(Ok(()), |_| self.budgets.subscribe(id, more.users.len(), cx.now_ms));
        if let (Err(refusal), Some(origin)) = (taken, origin) {
            return cx.refuse(origin, refusal);
        }
        if !more.users.is_empty() && self.user(id).circle.shows_to_contacts() {
            let all = ScanLimit { rows: CONTACTS_MAX, bytes: usize::MAX };
            let purpose = ScanFor::Subscribing(id, origin, Box::new(more));
            return cx.scan(keys::contacts(id.get()), Direction::Forwards, all, purpose);
        }
        self.subscribed(cx, id, origin, more, |_| false);
    }

    /// The contacts of a user are known, for what a device is to show.
    pub(super) fn contacts_of_looker_read(
        &mut self,
        cx: &mut Cx,
        id: UserId,
        (origin, more): (Option<Origin>, Subscribing),
        rows: Result<Vec<Row>, Unreadable>,
    ) {
        let rows = match (rows, origin) {
            (Ok(rows), _) => rows,
            (Err(_), Some(origin)) => return cx.refuse(origin, UNREADABLE),
            (Err(Unreadable::Damaged), None) => return,
            (Err(Unreadable::ForNow), None) => {
                return look_later(cx, id, UserOp::Subscribe(None, Box::new(more)));
            }
        };
        // Rising, as their keys are.
        let contact = |(key, _): &Row| match Relation::of(key)? {
            Relation::Contact(user) => Some(user),
            _ => None,
        };
        let contacts: Vec<_> = rows.iter().filter_map(contact).collect();
        if self.users.get(id).is_none_or(|user| !user.held.is_known()) {
            let op = UserOp::Subscribe(origin, Box::new(more));
            return self.user_told(cx, id, op);
        }
        self.subscribed(cx, id, origin, more, |user| contacts.binary_search(&user.get()).is_ok());
    }

    fn subscribed(
        &mut self,
        cx: &mut Cx,
        id: UserId,
        origin: Option<Origin>,
        more: Subscribing,
        is_contact: impl Fn(UserId) -> bool,
    ) {
        let Subscribing { looker, users, groups } = more;
        let circle = &self.user(id).circle;
        let shares = |user: UserId, concern| circle.lets(user, concern).allows(is_contact(user));
        let of = |user: UserId| Sees {
            online: shares(user, Concern::Online),
            last_seen: shares(user, Concern::LastSeen),
        };
        let others = users.into_iter().filter(|user| *user != id);
        let asks: Vec<_> = others.map(|user| (user, LookedAt { looker, shares: of(user) })).collect();
        cx.tell_users(asks.into_iter().map(|(user, asked)| (user, UserOp::LookedAt(Box::new(asked)))));
        for group in groups {
            cx.tell_log(LogId::Group(group.get()), LogOp::Look(looker));
        }
        if let Some(origin) = origin {
            cx.reply(origin, Reply::Subscribed);
        }
    }

    /// Somebody wants to see whether a user is here.
    pub(super) fn looked_at(&mut self, cx: &mut Cx, id: UserId, asked: LookedAt) {
        if self.record(id).is_none() {
            // As one who hides it.
            return;
        }
        let whose = asked.looker.device.user;
        let verdicts = [Concern::Online, Concern::LastSeen].map(|concern| self.lets(id, whose, concern));
        if verdicts.contains(&Verdict::IfContact) {
            return Self::ask_if_contact(cx, id, IfContact::Look(asked));
        }
        self.shown_to(cx, id, asked, false);
    }

    /// What of a user somebody sees is known.
    pub(super) fn shown_to(&mut self, cx: &mut Cx, id: UserId, asked: LookedAt, is_contact: bool) {
        let LookedAt { looker, shares } = asked;
        let mut sees = |concern| {
            self.lets(id, looker.device.user, concern).allows(is_contact) || is(Mutation::ShowHidden)
        };
        let (online, last_seen) = (sees(Concern::Online), sees(Concern::LastSeen));
        let sees = Sees { online: online && shares.online, last_seen: last_seen && shares.last_seen };
        cx.tell_volatile(Subject::User(id), VolatileOp::Look(looker, sees));
    }

    /// A device of a user shows somebody who lets others see something else than before.
    pub(super) fn look_again(&mut self, cx: &mut Cx, id: UserId, looker: Looker, at: UserId) {
        let more = Subscribing { looker, users: vec![at], groups: Vec::new() };
        self.user_told(cx, id, UserOp::Subscribe(None, Box::new(more)));
    }

    /// A user does something in a chat just now.
    pub(super) fn act(
        &mut self,
        cx: &mut Cx,
        id: UserId,
        origin: Option<Origin>,
        (log, doing): (LogId, Doing),
    ) {
        if let Err(refusal) = self.budgets.act(id, log, cx.now_ms) {
            if let Some(origin) = origin {
                cx.refuse(origin, refusal);
            }
            return;
        }
        let circle = &self.user(id).circle;
        if let LogId::Group(_) = log {
            let acts = Acts { origin, user: id, doing, not: circle.all_blocked().to_vec() };
            return cx.tell_log(log, LogOp::Act(Box::new(acts)));
        }
        if let Some(peer) = peer_of(log, id).filter(|peer| *peer != id && !circle.blocks(*peer)) {
            cx.tell_user(peer, UserOp::PeerActs(id, doing));
        }
        if let Some(origin) = origin {
            cx.reply(origin, Reply::ActivityTold);
        }
    }

    /// The peer of a user does something just now. If a device of the user is here that shows the peer, it is told.
    pub(super) fn peer_acts(&mut self, cx: &mut Cx, id: UserId, peer: UserId, doing: Doing) {
        let blocks = self.user(id).circle.blocks(peer) && !is(Mutation::TypeBlocked);
        if !blocks {
            let notice = Notice::Activity { subject: Subject::User(peer), user: peer, doing };
            self.tell_attached(cx, id, |_| Some(FrontOp::Notice(notice.clone())));
        }
    }

    /// The same, as it comes: nothing is read for it.
    pub(super) fn peer_acts_if_here(&mut self, cx: &mut Cx, id: UserId, peer: UserId, doing: Doing) {
        if self.is_attached(id) {
            self.ask_user(cx, id, Ask::Told(UserOp::PeerActs(peer, doing)));
        }
    }
}
