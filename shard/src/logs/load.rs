//! Reading a log into memory: its record, its newest entries, its members' records, and their devices, which their
//! users' owners know.

use bytes::Bytes;
use prost::Message as _;
use tern_storage::records::{LogRecord, MemberRecord, MembersRecord, ToldRecord};
use tern_storage::{Direction, LogId, Row, Rows, ScanLimit, keys};
use tern_wire::ids::{DeviceId, Seq, UserId};

use super::{
    After, Cx, GetFor, Highest, Log, Logs, ScanFor, UNREADABLE, glance_failed, member_of, page_failed,
};
use crate::durable::DurableHead;
use crate::entry::{Entry, members_of};
use crate::held::{Held, Load};
use crate::limits::{GROUP_TAIL_MIN, LOG_WAITING_MAX};
use crate::message::{LogOp, Terms, TermsTold, Unreadable, UserOp, Watermarks};
use crate::mutations::{Mutation, is, unless_garbage};
use crate::reply::Undone;

impl Logs {
    /// Reads a log that is not in memory, for somebody.
    pub(super) fn load_for(&mut self, cx: &mut Cx, id: LogId, op: LogOp) {
        if !cx.may_read() {
            let refusal = cx.overloaded();
            return Self::refuse(cx, id, op, refusal);
        }
        let load = self.loads.next();
        let mut held = Held::loading(load, parts(id));
        held.admit(op, LOG_WAITING_MAX);
        self.remember_to_evict(id, load);
        self.logs.insert(id, Box::new(Log::new(id, held)));
        Self::read(cx, id, load);
    }

    /// Reads a doubted log again.
    pub(super) fn load_again(&mut self, cx: &mut Cx, id: LogId) {
        let load = self.loads.next();
        let log = self.pinned(id);
        for user in
            log.group.as_deref_mut().map(|group| std::mem::take(&mut group.watched)).unwrap_or_default()
        {
            cx.tell_user(user, UserOp::Unwatch(id));
        }
        let mut held = std::mem::replace(&mut log.held, Held::made(load));
        held.load_again(load, parts(id));
        *log = Log { born: log.born, ..Log::new(id, held) };
        Self::read(cx, id, load);
    }

    fn read(cx: &mut Cx, id: LogId, load: Load) {
        let limits = cx.limits();
        let mut tail = ScanLimit { rows: limits.tail_entries_max, bytes: limits.tail_bytes_max };
        if matches!(id, LogId::Group(_)) {
            tail.rows = tail.rows.max(GROUP_TAIL_MIN.0);
            tail.bytes = tail.bytes.max(GROUP_TAIL_MIN.1);
            let all = ScanLimit { rows: usize::MAX, bytes: usize::MAX };
            cx.scan(keys::members(id), Direction::Forwards, all, ScanFor::Members(id, load));
        }
        let all = keys::entries(id, 1, u64::MAX);
        cx.get(keys::log(id), GetFor::Record(id, load));
        cx.scan(all, Direction::Backwards, tail, ScanFor::Tail(id, load));
        for user in members_of(id) {
            cx.get(keys::member(id, user.get()), GetFor::Member(id, load, user));
            cx.tell_user(user, UserOp::Watch(id));
        }
    }

    pub(super) fn record_read(&mut self, cx: &mut Cx, id: LogId, load: Load, value: Option<Bytes>) {
        let log = self.loading(id, load);
        log.exists = value.is_some();
        let is_whole = match value.map(LogRecord::decode) {
            None => true,
            Some(Err(_)) => false,
            Some(Ok(record)) => log.take_record(record).is_some(),
        };
        self.part_came(cx, id, if is_whole { Ok(()) } else { Err(Unreadable::Damaged) });
    }

    /// The members of a group, by rows.
    pub(super) fn members_read(&mut self, cx: &mut Cx, id: LogId, load: Load, rows: Vec<Row>) {
        let log = self.loading(id, load);
        let whole = rows.into_iter().try_for_each(|(key, value)| {
            let row = keys::number_of(&key).and_then(|row| row.try_into().ok())?;
            log.take_members_row(row, MembersRecord::decode(value).ok()?)
        });
        self.part_came(cx, id, whole.ok_or(Unreadable::Damaged));
    }

    pub(super) fn tail_read(&mut self, cx: &mut Cx, id: LogId, load: Load, rows: Rows) {
        let log = self.loading(id, load);
        let more = rows.more;
        let mut rows = rows.rows;
        if is(Mutation::ReuseSeq) && rows.len() > 1 {
            rows.remove(0);
        }
        if is(Mutation::TakeForAbsent) {
            rows.retain(|row| entry_of(id, row.clone()).is_some());
        }
        let entries: Option<Vec<_>> = rows.into_iter().map(|row| entry_of(id, row)).collect();
        let whole =
            entries.filter(|entries| entries.windows(2).all(|pair| pair[1].seq.next() == pair[0].seq));
        log.tail_is_all = !more;
        let Some(entries) = whole else {
            return self.part_came(cx, id, Err(Unreadable::Damaged));
        };
        if let Some(newest) = entries.first() {
            (log.head, log.last_time_ms, log.messages) = (newest.seq, newest.time_ms, newest.messages);
            log.durable = DurableHead::recovered(newest.seq);
        }
        for entry in entries.into_iter().rev() {
            log.remember(entry.into());
        }
        self.part_came(cx, id, Ok(()));
    }

    pub(super) fn member_read(
        &mut self,
        cx: &mut Cx,
        id: LogId,
        load: Load,
        user: UserId,
        value: Option<Bytes>,
    ) {
        let log = self.loading(id, load);
        let value = unless_garbage::<MemberRecord>(value);
        let Ok(record) = value.map_or(Ok(MemberRecord::default()), MemberRecord::decode) else {
            return self.part_came(cx, id, Err(Unreadable::Damaged));
        };
        let member = member_of(log, user);
        member.marks = Watermarks { delivered: Seq(record.delivered_upto), read: Seq(record.read_upto) };
        member.shown = member.marks;
        let told =
            |told: ToldRecord| Watermarks { delivered: Seq(told.delivered_upto), read: Seq(told.read_upto) };
        member.told = record.told.map_or(member.marks, told);
        member.told_shown = member.told;
        member.take_stored(record.positions);
        member.wrote = record.wrote.then_some(Seq(0));
        member.delivered_bytes = record.delivered_bytes;
        self.part_came(cx, id, Ok(()));
    }

    /// A member's devices have come: the first time as a part of reading the log, later because they changed.
    pub(super) fn devices_known(
        &mut self,
        cx: &mut Cx,
        id: LogId,
        user: UserId,
        devices: Option<Vec<DeviceId>>,
        terms: Terms,
    ) {
        // Whoever forgets a log says so, but word may be on its way; a doubted one asks again.
        let Some(log) = self.logs.get_mut(&id).filter(|log| !log.held.is_doubted()) else { return };
        let (is_known, exists) = (log.held.is_known(), log.exists);
        if log.group.is_some() {
            // What is being read asks again for those whom it needs.
            return if is_known {
                self.guest_known(cx, id, user, devices)
            };
        }
        let member = member_of(log, user);
        let first = !is_known && !member.devices_known;
        member.devices_known = true;
        member.lives = devices.is_some();
        member.terms = terms;
        // Whether the log exists may not be known yet, so only a log that was read says that there is nothing.
        member.set_devices(&devices.unwrap_or_default(), !is_known || exists);
        if first {
            self.part_came(cx, id, Ok(()));
        } else if exists && is_known {
            self.mark_new_devices(cx, id, user);
        }
    }

    /// What a member of a direct chat says of the other is not as before. Whoever has said so is told when it holds here.
    pub(super) fn terms_came(&mut self, cx: &mut Cx, id: LogId, user: UserId, told: TermsTold) {
        let TermsTold { terms, then } = told;
        if let Some(member) = self.logs.get_mut(&id).and_then(|log| log.member(user)) {
            member.terms = terms;
        }
        if let Some((asker, reply)) = then {
            cx.reply(asker, reply);
        }
    }

    /// What was appended before a device was known has left no mark for it.
    pub(super) fn mark_new_devices(&mut self, cx: &mut Cx, id: LogId, user: UserId) {
        let log = self.known(id);
        let (head, slot) = (log.head, log.slot);
        let Some(member) = log.member(user) else { return };
        let head = member.visible(head);
        let lacks = |device: &&mut super::log::Device| !device.marked && !device.has_all(head);
        let mut marked = false;
        for device in member.devices.iter_mut().filter(lacks) {
            (device.marked, marked) = (true, true);
            cx.put_bytes(slot, keys::inbox_mark(user.get(), device.id.get(), id), &[]);
        }
        if marked {
            self.after(cx, After::Marked(id));
        }
    }

    /// A part of a log that is being read has come, or can't be read.
    fn part_came(&mut self, cx: &mut Cx, id: LogId, part: Result<(), Unreadable>) {
        let log = self.pinned(id);
        let Some(whole) = log.held.part_came(part) else { return };
        let is_whole = log.recover_group() && !log.is_damaged();
        let whole = whole.and(if is_whole { Ok(()) } else { Err(Unreadable::Damaged) });
        if let Err(why) = whole {
            return self.load_failed(cx, id, why);
        }
        // A store of before knows it of the newest entries alone.
        for member in log.members.iter_mut().filter(|member| member.wrote.is_none()) {
            let own = log.tail.iter().find(|entry| entry.author.user == member.user);
            member.wrote = own.map(|entry| entry.seq);
        }
        if log.group.is_none() {
            log.recover_room();
        }
        // A log without entries has no retries either.
        let exists = log.exists;
        if !exists {
            for device in log.members.iter_mut().flat_map(|member| &mut member.devices) {
                device.highest = Highest::None;
            }
        }
        let waited = log.held.now_known();
        if !exists {
            self.empty.push(id);
        }
        for op in waited {
            // One of them may have brought the log into doubt.
            self.told(cx, id, op);
        }
    }

    /// A log can't be read: whoever waits for it is told, and the next one tries again.
    fn load_failed(&mut self, cx: &mut Cx, id: LogId, why: Unreadable) {
        if why == Unreadable::Damaged {
            cx.damaged("a log", &keys::log(id));
        }
        for op in self.forget(cx, id).held.give_up() {
            match op {
                LogOp::Pull(pull) => page_failed(cx, id, *pull, why),
                LogOp::Glance(asker) => glance_failed(cx, id, asker, why),
                // What is damaged is not read again and again.
                LogOp::Recover(_) | LogOp::Look(_) if why == Unreadable::Damaged => {}
                op => Self::refuse(cx, id, op, UNREADABLE),
            }
        }
    }

    /// A member can't be read: the log is of no use before that is over.
    pub(super) fn member_unreadable(&mut self, cx: &mut Cx, id: LogId, user: UserId, why: Unreadable) {
        let why = if is(Mutation::TakeForDamage) { Unreadable::Damaged } else { why };
        // One that was forgotten has said so, but word may be on its way; a doubted one asks again.
        let Some(log) = self.logs.get_mut(&id).filter(|log| !log.held.is_doubted()) else { return };
        if log.group.is_some() {
            return if log.held.is_known() {
                self.guest_unreadable(cx, id, user)
            };
        }
        if log.held.is_known() {
            return self.doubt(cx, id, Undone::Refused(UNREADABLE));
        }
        if std::mem::replace(&mut member_of(log, user).devices_known, true) {
            log.held.part_lost(why);
        } else {
            self.part_came(cx, id, Err(why));
        }
    }

    /// A part of a log can't be read.
    pub(super) fn part_failed(&mut self, cx: &mut Cx, id: LogId, load: Load, why: Unreadable) {
        self.loading(id, load);
        self.part_came(cx, id, Err(why));
    }
}

/// What a load reads: the record and the tail, and for each member of a direct chat its record and its devices; of a group the rows of
/// its members.
fn parts(id: LogId) -> u32 {
    match id {
        LogId::Direct(..) | LogId::Private(_) => 2 + 2 * members_of(id).count() as u32,
        LogId::Group(_) => 3,
    }
}

/// The entry of a row; `None` if the row is not what was written.
pub(super) fn entry_of(log: LogId, (key, value): Row) -> Option<Entry> {
    Entry::from_record(log, keys::number_of(&key)?, value)
}
