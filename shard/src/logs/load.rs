//! Reading a log into memory: its record, its newest entries, its members' records, and their devices, which their
//! users' owners know.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message as _;
use tern_storage::records::{LogRecord, MemberRecord};
use tern_storage::{Direction, LogId, Row, Rows, ScanLimit, keys};
use tern_wire::ids::{DeviceId, Seq, UserId};

use super::{After, GetFor, ScanFor};
use super::{Log, PINNED, Phase, UNREADABLE};
use crate::Cx;
use crate::durable::DurableHead;
use crate::entry::{Entry, members_of};
use crate::message::{LogOp, Unreadable, UserAsk, UserOp, Watermarks};
use crate::reply::Undone;
use crate::shard::Shard;

impl Shard {
    pub(super) fn load_log(&mut self, cx: &mut Cx, id: LogId, op: LogOp) {
        if self.reads.has_room() {
            self.begin_load(cx, id, VecDeque::from([op]));
        } else {
            let refusal = self.overloaded();
            self.refuse_log_op(cx, id, op, refusal);
        }
    }

    /// Reads a log that is not in memory, or of which no write is under way.
    pub(super) fn begin_load(&mut self, cx: &mut Cx, id: LogId, waiting: VecDeque<LogOp>) {
        self.logs.loads += 1;
        let load = self.logs.loads;
        let before = self.logs.logs.remove(&id);
        assert!(before.as_ref().is_none_or(|log| log.unsettled == 0), "a write of the log is under way");
        let mut log = Log::new(id);
        // The record and the tail, and for each member its record and its devices.
        log.phase = Phase::Loading { missing: 2 + 2 * log.members.len(), unreadable: None };
        (log.load, log.born, log.waiting) = (load, before.as_ref().map_or(load, |log| log.born), waiting);
        if before.is_none() {
            self.logs.remember_to_evict(id, load);
        }
        self.logs.logs.insert(id, Box::new(log));
        let tail = ScanLimit { rows: self.limits.tail_entries_max, bytes: self.limits.tail_bytes_max };
        let all = keys::entries(id, 1, u64::MAX);
        self.reads.get(cx.fx, keys::log(id), GetFor::Record(id, load));
        self.reads.scan(cx.fx, all, Direction::Backwards, tail, ScanFor::Tail(id, load));
        for user in members_of(id) {
            self.reads.get(cx.fx, keys::member(id, user.get()), GetFor::Member(id, load, user));
            self.tell_user(cx, UserOp { user, ask: UserAsk::Watch(id) });
        }
    }

    pub(crate) fn log_record_read(&mut self, cx: &mut Cx, id: LogId, load: u64, value: Option<Bytes>) {
        let Some(log) = self.logs.loading(id, load) else { return };
        log.exists = value.is_some();
        if value.is_some_and(|value| LogRecord::decode(value).is_err()) {
            return self.log_part_failed(cx, id, load, Unreadable::Damaged);
        }
        self.log_part_known(cx, id);
    }

    pub(crate) fn tail_read(&mut self, cx: &mut Cx, id: LogId, load: u64, rows: Rows) {
        let Some(log) = self.logs.loading(id, load) else { return };
        let more = rows.more;
        let entries: Option<Vec<_>> = rows.rows.into_iter().map(|row| entry_of(id, row)).collect();
        let whole = entries.filter(|entries| {
            let dense = entries.windows(2).all(|pair| pair[1].seq.next() == pair[0].seq);
            dense && (more || entries.last().is_none_or(|oldest| oldest.seq == Seq(1)))
        });
        let Some(entries) = whole else {
            return self.log_part_failed(cx, id, load, Unreadable::Damaged);
        };
        if let Some(newest) = entries.first() {
            (log.head, log.last_time_ms) = (newest.seq, newest.time_ms);
            log.durable = DurableHead::recovered(newest.seq);
        }
        for entry in entries.into_iter().rev() {
            log.remember(entry.into());
        }
        self.log_part_known(cx, id);
    }

    pub(crate) fn member_read(
        &mut self,
        cx: &mut Cx,
        id: LogId,
        load: u64,
        user: UserId,
        value: Option<Bytes>,
    ) {
        let Some(log) = self.logs.loading(id, load) else { return };
        let Ok(record) = value.map_or(Ok(MemberRecord::default()), MemberRecord::decode) else {
            return self.log_part_failed(cx, id, load, Unreadable::Damaged);
        };
        let member = log.member(user).expect("only members are read");
        member.marks = Watermarks { delivered: Seq(record.delivered_upto), read: Seq(record.read_upto) };
        for device in &mut member.devices {
            let stored = record.positions.iter().find(|position| position.device == device.id.get());
            device.position = Seq(stored.map_or(0, |position| position.upto));
        }
        member.stored = record.positions;
        member.wrote = record.wrote.then_some(Seq(0));
        member.delivered_bytes = record.delivered_bytes;
        self.log_part_known(cx, id);
    }

    /// A member's devices have come: the first time as a part of reading the log, later because they changed.
    pub(super) fn devices_known(
        &mut self,
        cx: &mut Cx,
        id: LogId,
        user: UserId,
        devices: Option<Vec<DeviceId>>,
    ) {
        // Whoever forgets a log says so, but word may be on its way; a doubted one asks again.
        let Some(log) = self.logs.logs.get_mut(&id).filter(|log| log.phase != Phase::Doubted) else { return };
        let (loading, exists) = (log.phase != Phase::Known, log.exists);
        let member = log.member(user).expect("a log watches its members alone");
        let first = loading && !member.devices_known;
        member.devices_known = true;
        member.lives = devices.is_some();
        // Whether the log exists may not be known yet, so only a log that was read says that there is nothing.
        member.set_devices(&devices.unwrap_or_default(), loading || exists);
        if first {
            self.log_part_known(cx, id);
        } else if exists && !loading {
            self.mark_new_devices(id, user);
        }
    }

    /// What was appended before a device was known has left no mark for it.
    fn mark_new_devices(&mut self, id: LogId, user: UserId) {
        let log = self.logs.known(id);
        let head = log.head;
        let member = log.member(user).expect("a log watches its members alone");
        let lacks = |device: &&mut super::Device| !device.marked && device.position < head;
        let mut marked = false;
        for device in member.devices.iter_mut().filter(lacks) {
            (device.marked, marked) = (true, true);
            self.commits.put_bytes(keys::inbox_mark(user.get(), device.id.get(), id), Bytes::new());
        }
        if marked {
            self.then(After::Marked(id));
        }
    }

    /// One part less is missing.
    fn log_part_known(&mut self, cx: &mut Cx, id: LogId) {
        let log = self.logs.pinned(id);
        let Phase::Loading { missing, unreadable } = &mut log.phase else {
            unreachable!("parts come while a log is being read")
        };
        *missing -= 1;
        if *missing > 0 {
            return;
        }
        let unreadable = unreadable.or(log.is_damaged().then_some(Unreadable::Damaged));
        if let Some(why) = unreadable {
            return self.load_failed(cx, id, why);
        }
        log.phase = Phase::Known;
        // A store of before knows it of the newest entries alone.
        for member in log.members.iter_mut().filter(|member| member.wrote.is_none()) {
            let own = log.tail.iter().find(|entry| entry.author.user == member.user);
            member.wrote = own.map(|entry| entry.seq);
        }
        log.recover_room();
        // A log without entries has no retries either.
        if !log.exists {
            for device in log.members.iter_mut().flat_map(|member| &mut member.devices) {
                device.highest = super::Highest::None;
            }
        }
        let waiting = std::mem::take(&mut log.waiting);
        if !log.exists {
            self.logs.empty.push(id);
        }
        for op in waiting {
            // One of them may have brought the log into doubt.
            self.log_op(cx, id, op);
        }
    }

    /// A log can't be read: whoever waits for it is told, and the next one tries again.
    fn load_failed(&mut self, cx: &mut Cx, id: LogId, why: Unreadable) {
        if why == Unreadable::Damaged {
            self.trouble.damaged(cx, id);
        }
        let log = self.logs.logs.remove(&id).expect(PINNED);
        self.unwatch(cx, id);
        for op in log.waiting {
            match op {
                LogOp::Pull(pull) => self.page_failed(cx, id, pull, why),
                LogOp::Glance(asker) => self.glance_failed(cx, id, asker, why),
                op => self.refuse_log_op(cx, id, op, UNREADABLE),
            }
        }
    }

    /// A member can't be read: the log is of no use before that is over.
    pub(super) fn member_unreadable(&mut self, cx: &mut Cx, id: LogId, user: UserId) {
        let Some(log) = self.logs.logs.get_mut(&id) else { return };
        match log.phase {
            Phase::Known => self.doubt_log(cx, id, Undone::Refused(UNREADABLE)),
            // It asks again.
            Phase::Doubted => {}
            Phase::Loading { .. } => {
                let load = log.load;
                let member = log.member(user).expect("a log watches its members alone");
                if std::mem::replace(&mut member.devices_known, true) {
                    self.log_unreadable(id, Unreadable::Damaged);
                } else {
                    self.log_part_failed(cx, id, load, Unreadable::Damaged);
                }
            }
        }
    }

    fn log_unreadable(&mut self, id: LogId, why: Unreadable) {
        if let Phase::Loading { unreadable, .. } = &mut self.logs.pinned(id).phase {
            *unreadable = (*unreadable).max(Some(why));
        }
    }

    /// A part of a log can't be read.
    pub(crate) fn log_part_failed(&mut self, cx: &mut Cx, id: LogId, load: u64, why: Unreadable) {
        if self.logs.loading(id, load).is_some() {
            self.log_unreadable(id, why);
            self.log_part_known(cx, id);
        }
    }
}

/// The entry of a row; `None` if the row is not what was written.
pub(super) fn entry_of(log: LogId, (key, value): Row) -> Option<Entry> {
    Entry::from_record(log, keys::number_of(&key)?, value)
}
