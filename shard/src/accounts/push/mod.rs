//! How devices that are not connected are told that something has come, by push services
//! ([decision 61](../../../../docs/decisions/0061-who-is-asleep-is-told-by-their-owner.md)).
//!
//! ```text
//! an entry is durable, or was read elsewhere
//!   -> a wake of the user's chat: at once; where all devices are connected, after a while
//!   -> a look: where the devices are told, how much is unread in the chat and beside it, how the user has the chat
//!   -> notices to the services, and a row of the outbox (`z`), lazily
//!   -> what has become of them -> the row goes
//! ```
//!
//! What always holds:
//! - Of a chat one look is under way at a time, and none begins before [`PUSH_GAP_MS`] have passed since the last one.
//! - A row of the outbox goes only when nothing of its chat is under way; what a crash or a move leaves of it, a round finds.
//! - What devices are told of as unread is what their user's list of chats says.

mod addresses;
mod deciding;
mod looking;
mod outbox;

pub(super) use self::addresses::end_address;

use std::collections::{BTreeMap, BTreeSet};

use tern_proto::v1::Kind;
use tern_storage::records::{ChatSettingsRecord, OutboxRecord, PushTokenRecord, UnreadRecord};
use tern_storage::{Key, LogId, Slot, keys};
use tern_wire::ids::{DeviceId, Seq, UserId};

use super::kept::{Device, User};
use super::users::Ask;
use super::{Accounts, Cx, slot_of};
use crate::by_slot::BySlot;
use crate::effects::{PushFate, Pushed};
use crate::entry::{Entry, KIND_GROUP};
use crate::limits::{Limits, PUSH_AGAIN_MS, PUSH_GAP_MS, PUSH_LOOK_MS, PUSH_LOOKS_MAX, PUSH_LOST_MS};
use crate::maps::Hashing;
use crate::message::{Glance, OfPushes};
use crate::mutations::{Mutation, is};
use crate::rounds::Round;
use crate::slots::CoreId;

/// What is under way of the chats of a core's users.
#[derive(Debug)]
pub(super) struct Wakes {
    users: BySlot<UserId, Waking>,
    /// Chats of users by when something is to be done about them, in ms since the Unix epoch.
    due: BTreeSet<(u64, UserId, LogId)>,
    /// Chats that are being looked at.
    looking: BTreeSet<(UserId, LogId)>,
    /// Users whose chats are being noted, each to be looked at.
    listing: BTreeSet<UserId>,
    /// The number of the last look, or notice: those of two cores differ.
    number: u64,
    round: Round,
    /// Where a round goes on that found no room.
    round_at: Option<Key>,
    /// The process ends: what comes is the next one's.
    ends: bool,
}

/// What is under way of a user.
#[derive(Default, Debug)]
struct Waking {
    chats: BTreeMap<LogId, Wake>,
    /// What was written of how much is unread, and may not be read yet; `None`: nothing is.
    written: BTreeMap<LogId, Option<UnreadRecord>>,
}

/// What is under way of a chat of a user.
#[derive(Default, Debug)]
struct Wake {
    /// What has come, and is not looked at.
    news: Option<News>,
    look: Option<Box<Look>>,
    /// Notices with the services, by their numbers.
    out: Vec<(u64, DeviceId)>,
    /// What they are of, and what is to be told in their place.
    sent: News,
    /// The call that devices were told of last.
    rings: Option<Ring>,
    /// Devices that were not told what the others were: they were connected, and had not acknowledged what had come; or no service took it.
    untold: Vec<DeviceId>,
    /// When something is to be done about it; 0: nothing is.
    due_ms: u64,
    /// When it was looked at last.
    looked_ms: u64,
    /// There is a row of the outbox, or is about to be; and one that says that it is to be seen how much is unread.
    is_in_outbox: bool,
    is_noted: bool,
    /// Devices of which no service took what they were to be told.
    unsent: Vec<DeviceId>,
    /// How long it waits before that is tried again.
    again_ms: u64,
}

/// A call that devices were told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ring {
    call: Seq,
    /// In ms since the Unix epoch.
    until_ms: u64,
}

/// What has come in a chat.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct News {
    /// The newest message; 0: how much is unread is another number.
    upto: Seq,
    /// The oldest that has not been looked at.
    first: Seq,
    /// One of them mentions the user.
    mentioned: bool,
    /// One of them is a call: the newest; and until when it rings, in ms since the Unix epoch. 0: none is.
    call: Seq,
    rings_until_ms: u64,
    /// This message was deleted for everyone; 0: none was.
    erased: Seq,
    /// Devices may have been told, or not: they are told.
    again: bool,
    /// It came while a call rang, and was not told: it is told now.
    missed: bool,
    /// Since when that is there, in ms since the Unix epoch.
    since_ms: u64,
}

/// Whether a call rings until then, in ms since the Unix epoch. The clock may have been set back since: it rings for no longer.
fn is_ringing(until_ms: u64, now_ms: u64, rings_ms: u64) -> bool {
    (1..=rings_ms).contains(&until_ms.saturating_sub(now_ms))
}

impl News {
    /// Both.
    fn and(self, other: Self) -> Self {
        // What says of no message says nothing of when one came.
        let first = match (self.upto, other.upto) {
            (Seq(0), _) => other,
            (_, Seq(0)) => self,
            _ if other.first < self.first => other,
            _ => self,
        };
        let erased = self.erased.max(other.erased);
        // One that is deleted rings no more.
        let calls =
            [self, other].into_iter().filter(|news| ![self.erased, other.erased].contains(&news.call));
        let call = calls.max_by_key(|news| news.call).unwrap_or_default();
        Self {
            upto: self.upto.max(other.upto),
            first: first.first,
            mentioned: self.mentioned || other.mentioned,
            call: call.call,
            rings_until_ms: call.rings_until_ms,
            erased,
            again: self.again || other.again,
            missed: self.missed || other.missed,
            since_ms: first.since_ms,
        }
    }

    fn row(self) -> OutboxRecord {
        let Self { upto, mentioned, call, rings_until_ms, .. } = self;
        OutboxRecord { upto: upto.0, mentioned, call: call.0, rings_until_ms }
    }
}

/// A look at a chat of a user, whose parts come one after another.
#[derive(Debug)]
struct Look {
    number: u64,
    news: News,
    /// Where devices are told.
    to: Vec<(DeviceId, PushTokenRecord)>,
    /// How much is unread in each chat, as they were told.
    unread: BTreeMap<LogId, UnreadRecord>,
    settings: Option<ChatSettingsRecord>,
    /// Whether the other one is a contact, if that counts.
    is_contact: Option<bool>,
    glance: Option<Box<Glance>>,
}

/// On its way to another core.
#[derive(Debug)]
pub(crate) struct TakenWakes(Vec<(UserId, Waking)>);

impl Wakes {
    /// Nothing is under way.
    pub(super) fn new(core: CoreId, hashing: Hashing) -> Self {
        let number = u64::from(core.0) << 48;
        let (due, looking, listing, round) = Default::default();
        let users = BySlot::new(hashing);
        Self { users, due, looking, listing, number, round, round_at: None, ends: false }
    }

    /// Whether something may be done about one more chat. Those of which notices are with the services have their place there.
    fn has_room(&self, limits: &Limits) -> bool {
        self.due.len() < limits.push_waiting_max
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn get(&mut self, user: UserId, log: LogId) -> Option<&mut Wake> {
        self.users.get_mut(&user)?.chats.get_mut(&log)
    }

    /// What is under way of a chat; what is new of it is `None`.
    fn entry(&mut self, user: UserId, log: LogId) -> &mut Wake {
        if !self.users.contains_key(&user) {
            self.users.insert(user, Waking::default());
        }
        let waking = self.users.get_mut(&user).expect("it has just been put there");
        waking.chats.entry(log).or_default()
    }

    /// Nothing is under way of it any more.
    fn remove(&mut self, user: UserId, log: LogId) {
        let Some(waking) = self.users.get_mut(&user) else { return };
        let Some(wake) = waking.chats.remove(&log) else { return };
        let is_last = waking.chats.is_empty();
        self.due.remove(&(wake.due_ms, user, log));
        self.looking.remove(&(user, log));
        if is_last {
            self.users.remove(&user);
        }
    }

    /// What was written of a user's chats and may not have been read.
    fn add_written(&mut self, user: UserId, read: &mut BTreeMap<LogId, UnreadRecord>) {
        for (log, written) in self.users.get(&user).into_iter().flat_map(|waking| &waking.written) {
            match written {
                Some(record) => drop(read.insert(*log, *record)),
                None => drop(read.remove(log)),
            }
        }
    }

    fn note_written(&mut self, user: UserId, log: LogId, written: Option<UnreadRecord>) {
        if let Some(waking) = self.users.get_mut(&user) {
            waking.written.insert(log, written);
        }
    }

    /// Something is to be done about it at this time, and not at another one.
    fn set_due(&mut self, user: UserId, log: LogId, due_ms: u64) {
        let wake = self.users.get_mut(&user).and_then(|waking| waking.chats.get_mut(&log));
        let Some(wake) = wake else { return };
        if wake.due_ms != due_ms {
            self.due.remove(&(wake.due_ms, user, log));
            wake.due_ms = due_ms;
        }
        self.due.insert((due_ms, user, log));
    }

    /// Nothing is to be done about it until something comes.
    fn rest(&mut self, user: UserId, log: LogId) {
        if let Some(wake) = self.users.get_mut(&user).and_then(|waking| waking.chats.get_mut(&log)) {
            self.due.remove(&(std::mem::take(&mut wake.due_ms), user, log));
        }
    }

    /// A look has come to nothing: what it was to find out is news again.
    fn end_look(&mut self, user: UserId, log: LogId) {
        self.looking.remove(&(user, log));
        if let Some(wake) = self.get(user, log) {
            wake.end_look();
        }
    }

    /// Takes out all of a slot. What is looked at is to be looked at again.
    pub(super) fn take(&mut self, slot: Slot) -> TakenWakes {
        let mut taken = self.users.take(slot);
        for (user, waking) in &mut taken {
            for (log, wake) in &mut waking.chats {
                self.due.remove(&(wake.due_ms, *user, *log));
                self.looking.remove(&(*user, *log));
                wake.end_look();
            }
        }
        TakenWakes(taken)
    }

    /// Puts back what another core has taken out.
    pub(super) fn put_back(&mut self, taken: TakenWakes, now_ms: u64) {
        for (user, waking) in taken.0 {
            let logs: Vec<_> = waking.chats.keys().copied().collect();
            self.users.insert(user, waking);
            for log in logs {
                self.set_due(user, log, now_ms);
            }
        }
        // What was written of the slot by those before.
        self.round.is_wanted();
    }
}

impl Wake {
    /// The call that rings now, of those that devices were told of.
    fn ringing(&self, now_ms: u64, rings_ms: u64) -> Option<Ring> {
        self.rings.filter(|ring| is_ringing(ring.until_ms, now_ms, rings_ms))
    }

    /// A look has come to nothing: what it was to find out is news again.
    fn end_look(&mut self) {
        if let Some(look) = self.look.take() {
            self.come(look.news);
        }
    }

    fn come(&mut self, news: News) {
        self.news = Some(self.news.map_or(news, |before| before.and(news)));
    }

    /// Until when it is not looked at.
    fn rests_until_ms(&self, now_ms: u64) -> u64 {
        // The clock may have been set back.
        if self.looked_ms == 0 { 0 } else { self.looked_ms.min(now_ms) + PUSH_GAP_MS }
    }

    /// Whether nothing of it is under way.
    fn is_over(&self) -> bool {
        self.news.is_none() && self.look.is_none() && self.out.is_empty()
    }
}

impl User {
    /// Whether some device is told by a push service; and whether all such are connected.
    fn told_by_pushes(&mut self) -> (bool, bool) {
        let is_told = |device: &&mut Device| device.record.pushed_since_ms > 0 && device.lives();
        let mut told = self.devices.iter_mut().map(|(_, device)| device).filter(is_told).peekable();
        (told.peek().is_some(), told.all(|device| device.place.is_some()))
    }
}

impl Accounts {
    /// An entry of a log of a user's is durable.
    pub(super) fn wake_for(&mut self, cx: &mut Cx, id: UserId, entry: &Entry) {
        if !cx.has_pushes() || matches!(entry.log, LogId::Private(_)) {
            return;
        }
        let is_own = entry.author.user == id;
        let news = if entry.counts() && !is_own {
            let is_call = entry.kind == i32::from(Kind::Call);
            News {
                upto: entry.seq,
                first: entry.seq,
                mentioned: entry.mentions().contains(&id),
                call: if is_call { entry.seq } else { Seq(0) },
                rings_until_ms: if is_call { entry.time_ms + cx.limits().call_rings_ms } else { 0 },
                ..News::default()
            }
        } else if entry.kind == i32::from(Kind::Deletion) {
            News { erased: entry.about(), ..News::default() }
        } else if entry.kind == KIND_GROUP {
            // Who is out of it has nothing unread there.
            News::default()
        } else {
            return;
        };
        self.wake(cx, id, entry.log, news);
    }

    /// A device of the user's has read something.
    pub(super) fn wake_for_read(&mut self, cx: &mut Cx, id: UserId, log: LogId) {
        if cx.has_pushes() && !is(Mutation::KeepBadge) {
            self.wake(cx, id, log, News::default());
        }
    }

    /// Something has come in a chat of a user's.
    fn wake(&mut self, cx: &mut Cx, id: UserId, log: LogId, news: News) {
        let known = self.users.get(id).filter(|user| user.held.is_known());
        // Of whom nothing is in memory, it is read.
        let (is_told, all_here) = known.map_or((true, false), User::told_by_pushes);
        if !is_told {
            return;
        }
        let now_ms = cx.now_ms;
        let news = News { since_ms: now_ms, ..news };
        let is_known = self.wakes.get(id, log).is_some();
        if self.wakes.ends || !is_known && !self.wakes.has_room(cx.limits()) {
            return note_for_later(cx, id, log, news);
        }
        let wait_ms = if all_here { cx.limits().push_wait_ms } else { 0 };
        let wake = self.wakes.entry(id, log);
        wake.come(news);
        if wake.look.is_some() {
            // It is looked at again afterwards.
            return;
        }
        let due_ms = (now_ms + wait_ms).max(wake.rests_until_ms(now_ms));
        // What has come before is not put off by what comes now.
        let due_ms = if wake.due_ms > now_ms { due_ms.min(wake.due_ms) } else { due_ms };
        self.wakes.set_due(id, log, due_ms);
        if due_ms <= now_ms {
            self.go_on_due(cx);
        }
    }

    /// Time has passed.
    pub(super) fn go_on_pushing(&mut self, cx: &mut Cx) {
        if !cx.has_pushes() {
            return;
        }
        self.go_on_due(cx);
        self.look_through_outbox(cx);
    }

    /// Something may be done about chats that are due.
    fn go_on_due(&mut self, cx: &mut Cx) {
        while let Some((due_ms, id, log)) = self.wakes.due.first().copied() {
            // The clock may have been set back: nothing is due later than this.
            let latest_ms = cx.now_ms + cx.limits().push_wait_ms.max(PUSH_AGAIN_MS.1) + PUSH_LOOK_MS;
            let is_early = due_ms > cx.now_ms && due_ms <= latest_ms;
            if is_early || self.wakes.ends || !cx.may_read() || !cx.may_write(0) {
                return;
            }
            if self.wakes.looking.len() >= PUSH_LOOKS_MAX && !self.wakes.looking.contains(&(id, log)) {
                return;
            }
            self.go_on_with(cx, id, log);
        }
    }

    /// Something is to be done about a chat now.
    fn go_on_with(&mut self, cx: &mut Cx, id: UserId, log: LogId) {
        // What has not come in time does not come any more.
        self.wakes.end_look(id, log);
        let Some(wake) = self.wakes.get(id, log) else { return };
        if wake.news.is_some() {
            return self.look_at_chat(cx, id, log);
        }
        if wake.is_over() {
            self.wakes.remove(id, log);
        } else {
            self.wakes.rest(id, log);
        }
    }

    /// Something has become of a look, or of a notice.
    pub(super) fn of_pushes(&mut self, cx: &mut Cx, id: UserId, what: OfPushes) {
        match what {
            OfPushes::Glanced(number, glance) => self.chat_glanced(cx, id, number, glance),
            OfPushes::Pushed(pushed) => self.push_ended(cx, id, pushed),
        }
    }

    /// A notice has come to its end.
    fn push_ended(&mut self, cx: &mut Cx, id: UserId, pushed: Pushed) {
        let Pushed { device, log, number, since_ms, fate } = pushed;
        if fate == PushFate::Dead {
            self.ask_user(cx, id, Ask::EndAddress(device.device, since_ms));
        }
        let Some(wake) = self.wakes.get(id, log) else { return };
        wake.out.retain(|out| *out != (number, device.device));
        if fate == PushFate::Unsent {
            wake.unsent.push(device.device);
        }
        self.settle_wake(cx, id, log);
    }

    /// If nothing of a chat is under way, its row goes, or it is begun again.
    fn settle_wake(&mut self, cx: &mut Cx, id: UserId, log: LogId) {
        let now_ms = cx.now_ms;
        let is_still = |wake: &&mut Wake| wake.look.is_none() && wake.out.is_empty();
        let Some(wake) = self.wakes.get(id, log).filter(is_still) else { return };
        if wake.unsent.is_empty() {
            if !wake.is_over() {
                return;
            }
            wake.again_ms = 0;
            if std::mem::take(&mut wake.is_in_outbox) {
                cx.delete_lazily(slot_of(id), keys::outbox(id.get(), log));
            }
            if std::mem::take(&mut wake.is_noted) {
                cx.delete_lazily(slot_of(id), keys::outbox_count(id.get(), log));
            }
            // Until then nothing else is looked at.
            let due_ms = wake.rests_until_ms(now_ms);
            return self.wakes.set_due(id, log, due_ms);
        }
        let unsent = std::mem::take(&mut wake.unsent);
        wake.untold.extend(unsent);
        wake.come(News { since_ms: now_ms, ..wake.sent });
        wake.again_ms = (2 * wake.again_ms).clamp(PUSH_AGAIN_MS.0, PUSH_AGAIN_MS.1);
        let due_ms = now_ms + wake.again_ms;
        self.wakes.set_due(id, log, due_ms);
    }

    /// There is a row of something that is under way: of notices of which nothing was heard for too long nothing is heard any more.
    fn row_is_known(&mut self, cx: &mut Cx, id: UserId, log: LogId) {
        let now_ms = cx.now_ms;
        let is_lost =
            |wake: &&mut Wake| !wake.out.is_empty() && now_ms.abs_diff(wake.looked_ms) >= PUSH_LOST_MS;
        if let Some(wake) = self.wakes.get(id, log).filter(is_lost) {
            let lost = wake.out.drain(..).map(|(_, device)| device);
            wake.unsent.extend(lost);
            self.settle_wake(cx, id, log);
        }
    }

    /// The process ends: what was to be looked at is written, for the next one.
    pub(crate) fn pushes_end(&mut self, cx: &mut Cx) {
        self.wakes.ends = true;
        let mut left = Vec::new();
        self.wakes.users.retain(|id, waking| {
            for (log, wake) in &mut waking.chats {
                wake.end_look();
                left.extend(wake.news.map(|news| (*id, *log, news.and(wake.sent))));
            }
            true
        });
        for (id, log, news) in left {
            note_for_later(cx, id, log, news);
        }
    }
}

/// Has a chat looked at when there is room for it, or by the next process. What says of no message does not take the place of what says of
/// one.
fn note_for_later(cx: &mut Cx, id: UserId, log: LogId, news: News) {
    let is_message = news.upto > Seq(0);
    let key = if is_message { keys::outbox } else { keys::outbox_count };
    cx.put(slot_of(id), key(id.get(), log), &news.row());
}
