//! A look at a chat of a user: what it takes to tell their devices, read part by part; then they are told.

use std::collections::BTreeMap;

use prost::Message as _;
use tern_storage::keys::{self, Relation};
use tern_storage::records::{ChatSettingsRecord, PushTokenRecord, UnreadRecord};
use tern_storage::{Direction, LogId, Rows, ScanLimit};
use tern_wire::ids::{DeviceId, Seq, UserId};

use super::deciding::{Facts, words_of};
use super::{Accounts, Cx, Look, News, Ring, is_ringing};
use crate::accounts::kept::Device;
use crate::accounts::slot_of;
use crate::accounts::waits::{GetFor, ScanFor};
use crate::effects::{Push, PushKind};
use crate::entry::{Author, chat_of, peer_of};
use crate::limits::{PUSH_AGAIN_MS, PUSH_LOOK_MS, PUSH_ROWS_MAX};
use crate::message::{Glance, GlanceFor, Glancer, LogOp, Unreadable};
use crate::mutations::{Mutation, is};

impl Accounts {
    /// Begins a look at a chat in which something has come.
    pub(super) fn look_at_chat(&mut self, cx: &mut Cx, id: UserId, log: LogId) {
        let (now_ms, number) = (cx.now_ms, self.wakes.next_number());
        let Some(wake) = self.wakes.get(id, log) else { return };
        let Some(news) = wake.news.take() else { return };
        wake.looked_ms = now_ms.max(1);
        wake.look = Some(Box::new(Look {
            number,
            news,
            to: Vec::new(),
            unread: BTreeMap::new(),
            settings: None,
            is_contact: None,
            glance: None,
        }));
        self.wakes.looking.insert((id, log));
        self.wakes.set_due(id, log, now_ms + PUSH_LOOK_MS);
        let limit = ScanLimit { rows: PUSH_ROWS_MAX, bytes: usize::MAX };
        cx.scan(keys::pushes(id.get()), Direction::Forwards, limit, ScanFor::Pushes(id, log, number));
    }

    fn look(&mut self, id: UserId, log: LogId, number: u64) -> Option<&mut Look> {
        self.wakes.get(id, log)?.look.as_deref_mut().filter(|look| look.number == number)
    }

    /// Where the user's devices are told is known, and how much is unread.
    pub(crate) fn pushes_read(
        &mut self,
        cx: &mut Cx,
        (id, log, number): (UserId, LogId, u64),
        rows: Result<Rows, Unreadable>,
    ) {
        let Some(look) = self.look(id, log, number) else { return };
        let Ok(rows) = rows else { return self.look_failed(cx, id, log) };
        for (key, value) in rows.rows {
            match keys::PushRow::of(&key) {
                Some(keys::PushRow::Device(device)) => {
                    let record = PushTokenRecord::decode(value).ok();
                    look.to.extend(DeviceId::new(device).zip(record));
                }
                Some(keys::PushRow::Unread(of)) => {
                    look.unread.extend(UnreadRecord::decode(value).ok().map(|record| (of, record)));
                }
                None => {}
            }
        }
        if look.to.is_empty() {
            // Nobody is to be told.
            return self.look_is_over(cx, id, log);
        }
        let named = look.to.iter().any(|(_, to)| to.previews);
        let asker = Glancer { asker: GlanceFor::Pushes { number, named }, reader: id };
        // Whoever calls is known if they are a contact, or both have written here.
        let rings = is_ringing(look.news.rings_until_ms, cx.now_ms, cx.limits().call_rings_ms);
        match peer_of(log, id).filter(|_| rings) {
            Some(caller) => {
                let key = keys::relation(id.get(), Relation::Contact(caller.get()));
                cx.get(key, GetFor::PushContact(id, log, number));
            }
            None => look.is_contact = Some(false),
        }
        cx.get(keys::chat_settings(id.get(), log), GetFor::PushSettings(id, log, number));
        cx.tell_log(log, LogOp::Glance(asker));
    }

    /// How the user has the chat is known.
    pub(crate) fn push_settings_read(
        &mut self,
        cx: &mut Cx,
        of: (UserId, LogId, u64),
        value: Result<Option<bytes::Bytes>, Unreadable>,
    ) {
        self.part_read(cx, of, value, |look, value| {
            let settings = value.and_then(|value| ChatSettingsRecord::decode(value).ok());
            look.settings = Some(settings.unwrap_or_default());
        });
    }

    /// Whether the other one is a contact is known.
    pub(crate) fn push_contact_read(
        &mut self,
        cx: &mut Cx,
        of: (UserId, LogId, u64),
        value: Result<Option<bytes::Bytes>, Unreadable>,
    ) {
        self.part_read(cx, of, value, |look, value| look.is_contact = Some(value.is_some()));
    }

    /// One of the parts of a look is known.
    fn part_read<T>(
        &mut self,
        cx: &mut Cx,
        (id, log, number): (UserId, LogId, u64),
        value: Result<T, Unreadable>,
        keep: impl FnOnce(&mut Look, T),
    ) {
        let Some(look) = self.look(id, log, number) else { return };
        let Ok(value) = value else { return self.look_failed(cx, id, log) };
        keep(look, value);
        self.look_goes_on(cx, id, log);
    }

    /// How much is unread in the chat is known.
    pub(super) fn chat_glanced(&mut self, cx: &mut Cx, id: UserId, number: u64, glance: Box<Glance>) {
        let log = glance.log;
        let Some(look) = self.look(id, log, number) else { return };
        match glance.failed {
            None => {
                look.glance = Some(glance);
                self.look_goes_on(cx, id, log);
            }
            Some(Unreadable::ForNow) => self.look_failed(cx, id, log),
            Some(Unreadable::Damaged) => {
                self.look_is_over(cx, id, log);
            }
        }
    }

    /// Something could not be read: it is looked at again.
    fn look_failed(&mut self, cx: &mut Cx, id: UserId, log: LogId) {
        self.wakes.end_look(id, log);
        let due_ms = cx.now_ms + PUSH_AGAIN_MS.0;
        self.wakes.set_due(id, log, due_ms);
        self.go_on_due(cx);
    }

    /// A look has come to its end, and nobody is to be told.
    fn look_is_over(&mut self, cx: &mut Cx, id: UserId, log: LogId) {
        self.wakes.looking.remove(&(id, log));
        if let Some(wake) = self.wakes.get(id, log) {
            wake.look = None;
        }
        self.go_on_after_look(cx, id, log);
    }

    fn look_goes_on(&mut self, cx: &mut Cx, id: UserId, log: LogId) {
        let Some(wake) = self.wakes.get(id, log) else { return };
        let is_whole = |look: &mut Box<Look>| {
            look.settings.is_some() && look.is_contact.is_some() && look.glance.is_some()
        };
        let Some(look) = wake.look.take_if(is_whole) else { return };
        let Look {
            news,
            to,
            unread: mut all,
            settings: Some(settings),
            is_contact,
            glance: Some(glance),
            ..
        } = *look
        else {
            unreachable!("it is whole")
        };
        wake.looked_ms = cx.now_ms.max(1);
        self.wakes.looking.remove(&(id, log));
        self.wakes.add_written(id, &mut all);
        let before = all.remove(&log);
        let unread = u32::try_from(glance.unread).unwrap_or(u32::MAX);
        let knows_caller = is_contact == Some(true) || glance.shown.name;
        // One that was told as a message does not begin to ring.
        let is_new = news.again || news.call > Seq(before.map_or(0, |before| before.told));
        let may = knows_caller && unread > 0;
        let (rings, ringing) = self.rings(cx, (id, log), news, (may, is_new));
        let facts = Facts {
            before: before.unwrap_or_default(),
            unread,
            read: glance.own.read,
            news,
            settings: &settings,
            rings,
            ringing,
            now_ms: cx.now_ms,
        };
        let notices = self.tell_devices_asleep(cx, (id, log), &facts, to, &glance.positions);
        let shows = notices.iter().any(|(_, _, kind)| kind.is_shown());
        self.goes_on_ringing(cx, (id, log), &facts);
        if let Some(written) = write_unread(cx, (id, log), before, &facts, shows) {
            self.wakes.note_written(id, log, written);
        }
        let badge = all.values().fold(unread, |sum, record| sum.saturating_add(record.unread));
        self.send_notices(cx, (id, log), (news, badge), notices, &glance);
        self.go_on_after_look(cx, id, log);
    }

    /// Whether a call that has come is told as one; and which one rings already, that devices were told of.
    fn rings(
        &mut self,
        cx: &Cx,
        (id, log): (UserId, LogId),
        news: News,
        (may, is_new): (bool, bool),
    ) -> (bool, Option<Seq>) {
        let News { call, rings_until_ms, .. } = news;
        let Some(wake) = self.wakes.get(id, log) else { return (false, None) };
        let ringing = wake.ringing(cx.now_ms, cx.limits().call_rings_ms).map(|ring| ring.call);
        let is_on = is_ringing(rings_until_ms, cx.now_ms, cx.limits().call_rings_ms);
        // What was not told then, or perhaps not, is told once more.
        let is_told = ringing.is_some_and(|ringing| ringing != call);
        if call == Seq(0) || !is_on || !may || is_told {
            return (false, ringing);
        }
        let rings = ringing.is_some() || is_new && self.budgets.call_rings(id, log, cx.now_ms);
        if rings && let Some(wake) = self.wakes.get(id, log) {
            wake.rings = Some(Ring { call, until_ms: rings_until_ms });
        }
        (rings, ringing)
    }

    /// While a call rings that nobody has taken, what has come is not told: it is when the call is over, as what was missed.
    fn goes_on_ringing(&mut self, cx: &Cx, (id, log): (UserId, LogId), facts: &Facts<'_>) {
        let Some(wake) = self.wakes.get(id, log) else { return };
        let Some(ring) = wake.ringing(cx.now_ms, cx.limits().call_rings_ms) else { return };
        if facts.unread == 0 || facts.read >= ring.call || facts.news.erased == ring.call {
            wake.rings = None;
        }
        if facts.unread > 0 {
            let (call, rings_until_ms) = Default::default();
            wake.come(News { missed: true, call, rings_until_ms, erased: Seq(0), ..facts.news });
        }
    }

    /// Who is told what. Those of whom it is not known whether they sleep are looked at again after a while.
    fn tell_devices_asleep(
        &mut self,
        cx: &mut Cx,
        (id, log): (UserId, LogId),
        facts: &Facts<'_>,
        to: Vec<(DeviceId, PushTokenRecord)>,
        positions: &[(DeviceId, Seq)],
    ) -> Vec<(DeviceId, PushTokenRecord, PushKind)> {
        let (now_ms, wait_ms, news) = (cx.now_ms, cx.limits().push_wait_ms, facts.news);
        let untold = self.wakes.get(id, log).map_or_else(Vec::new, |wake| std::mem::take(&mut wake.untold));
        let (mut notices, mut waiting) = (Vec::new(), Vec::new());
        for (device, record) in to {
            let has_all = |(of, upto): &(DeviceId, Seq)| (*of == device).then_some(*upto);
            let acknowledged = positions.iter().find_map(has_all).unwrap_or(Seq(0));
            let kind = match self.is_asleep(now_ms, (id, device), &record, facts, acknowledged, wait_ms) {
                Asleep::Yes => facts.for_device(&record, acknowledged, untold.contains(&device)),
                Asleep::No if is(Mutation::PushConnected) => facts.for_device(&record, Seq(0), true),
                Asleep::No => None,
                Asleep::Perhaps => {
                    waiting.push((device, acknowledged));
                    None
                }
            };
            notices.extend(kind.map(|kind| (device, record, kind)));
        }
        if let Some(acknowledged) = waiting.iter().map(|(_, acknowledged)| *acknowledged).min()
            && let Some(wake) = self.wakes.get(id, log)
        {
            // What came before that it has: for the others it waits from now on.
            let has_first = news.upto > Seq(0) && acknowledged >= news.first;
            let first = if has_first { acknowledged.next() } else { news.first };
            let since_ms = if has_first { now_ms } else { news.since_ms };
            wake.come(News { first, since_ms, again: false, missed: false, ..news });
            wake.untold = waiting.into_iter().map(|(device, _)| device).collect();
        }
        notices
    }

    /// Whether a device is to be told by a push service: it is not connected; or it is, and has not acknowledged what it was told by one, or
    /// a message that came a while ago.
    fn is_asleep(
        &mut self,
        now_ms: u64,
        (user, device): (UserId, DeviceId),
        to: &PushTokenRecord,
        facts: &Facts<'_>,
        acknowledged: Seq,
        wait_ms: u64,
    ) -> Asleep {
        let is_known = self.users.get(user).is_some_and(|user| user.held.is_known());
        let device = self.device(Author { user, device });
        // What was read of where it is told may be old: it may have ended, or said something else since.
        let is_old = |device: &Device| !device.lives() || device.record.pushed_since_ms != to.since_ms;
        if is_known && device.as_ref().is_none_or(|device| is_old(device)) {
            return Asleep::No;
        }
        let Some(device) = device.filter(|device| device.place.is_some()) else { return Asleep::Yes };
        let news = facts.news;
        // What it was told it may never have got, though nobody knows that its connection is no more.
        let lacks_told = facts.before.shown && acknowledged.0 < facts.before.told;
        if acknowledged >= news.upto && !lacks_told {
            return Asleep::No;
        }
        // Whoever has just come is getting it.
        let is_late = now_ms.abs_diff(news.since_ms.max(device.attached_ms)) >= wait_ms;
        let lacks_first = acknowledged < news.first || news.upto == Seq(0);
        if is_late && lacks_first { Asleep::Yes } else { Asleep::Perhaps }
    }

    /// Hands notices to the services.
    fn send_notices(
        &mut self,
        cx: &mut Cx,
        (id, log): (UserId, LogId),
        (news, badge): (News, u32),
        notices: Vec<(DeviceId, PushTokenRecord, PushKind)>,
        glance: &Glance,
    ) {
        if notices.is_empty() {
            return;
        }
        let Some(wake) = self.wakes.get(id, log) else { return };
        let is_more = !wake.out.is_empty() || !wake.unsent.is_empty();
        wake.sent = if is_more { wake.sent.and(news) } else { news };
        wake.is_in_outbox = true;
        cx.put_lazily(slot_of(id), keys::outbox(id.get(), log), &wake.sent.row());
        let words = glance.last.as_ref().and_then(|last| words_of(last, id, cx.now_ms));
        // Of a stranger nothing is shown.
        let preview = words.filter(|_| !glance.name.is_empty()).map(|words| (glance.name.clone(), words));
        for (device, to, kind) in notices {
            let number = self.wakes.next_number();
            let shows = to.previews && kind.is_shown();
            // A call has no words.
            let preview = match kind {
                PushKind::Call => {
                    Some((glance.name.clone(), String::new())).filter(|(name, _)| !name.is_empty())
                }
                _ => preview.clone(),
            };
            let push = Push {
                device: Author { user: id, device },
                log,
                number,
                to,
                kind,
                badge,
                chat: chat_of(log, id).get(),
                expires_s: expires_ms(cx, kind, news) / 1000,
                preview: preview.filter(|_| shows || is(Mutation::PreviewUnasked)),
            };
            let is_taken = cx.push(push);
            let Some(wake) = self.wakes.get(id, log) else { return };
            if is_taken {
                wake.out.push((number, device));
            } else {
                wake.unsent.push(device);
            }
        }
    }

    /// A look has come to its end: there may be room for others.
    fn go_on_after_look(&mut self, cx: &mut Cx, id: UserId, log: LogId) {
        let (wait_ms, now_ms) = (cx.limits().push_wait_ms, cx.now_ms);
        if let Some(wake) = self.wakes.get(id, log)
            && let Some(news) = wake.news
            && (wake.unsent.is_empty() || !wake.out.is_empty())
        {
            let wait_ms = if wake.untold.is_empty() { 0 } else { wait_ms };
            let ringing = wake.ringing(now_ms, cx.limits().call_rings_ms);
            let rings_until_ms = ringing.map_or(0, |ring| ring.until_ms);
            let due_ms =
                wake.rests_until_ms(now_ms).max(news.since_ms.min(now_ms) + wait_ms).max(rings_until_ms);
            self.wakes.set_due(id, log, due_ms);
        } else {
            self.wakes.rest(id, log);
            self.settle_wake(cx, id, log);
        }
        self.go_on_due(cx);
    }
}

/// Until when a service is to bring it, in ms since the Unix epoch: a call, while it rings.
fn expires_ms(cx: &Cx, kind: PushKind, news: News) -> u64 {
    match kind {
        PushKind::Call => news.rings_until_ms,
        _ => cx.now_ms + cx.limits().push_valid_ms,
    }
}

/// Whether a device sleeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asleep {
    Yes,
    No,
    /// It is to be seen after a while.
    Perhaps,
}

/// Writes how much of a chat is unread, if that is another number than before; gives what was written.
fn write_unread(
    cx: &mut Cx,
    (id, log): (UserId, LogId),
    before: Option<UnreadRecord>,
    facts: &Facts<'_>,
    shows: bool,
) -> Option<Option<UnreadRecord>> {
    let after = Some(facts.after(shows)).filter(|after| after.unread > 0);
    if after == before {
        return None;
    }
    let key = keys::push_unread(id.get(), log);
    match &after {
        Some(after) => cx.put_lazily(slot_of(id), key, after),
        None => cx.delete_lazily(slot_of(id), key),
    }
    Some(after)
}
