//! Reading a log into memory: its record, its newest entries, its members' records, and their devices, which their
//! users' owners know.

use bytes::Bytes;
use prost::Message as _;
use tern_storage::records::MemberRecord;
use tern_storage::{Direction, LogId, Row, ScanLimit, Slot, StoreError, keys};
use tern_wire::ids::{DeviceId, Seq, UserId};

use super::{Log, UNREADABLE};
use crate::Cx;
use crate::commits::After;
use crate::durable::DurableHead;
use crate::entry::{Entry, members_of};
use crate::message::{LogOp, UserAsk, UserOp, Watermarks};
use crate::reads::{LogPart, ReadFor};
use crate::shard::Shard;

impl Shard {
    pub(super) fn load_log(&mut self, cx: &mut Cx, id: LogId, op: LogOp) {
        let mut log = Log::new(id);
        // The record and the tail, and for each member its record and its devices.
        log.missing = 2 + 2 * log.members.len() as u8;
        log.waiting.push_back(op);
        self.logs.logs.insert(id, Box::new(log));
        self.logs.clock.push_back(id);
        let tail = ScanLimit { rows: self.limits.tail_entries_max, bytes: self.limits.tail_bytes_max };
        let all = keys::entries(id, 1, u64::MAX);
        self.reads.get(cx.fx, keys::log(id), ReadFor::Log(id, LogPart::Record));
        self.reads.scan(cx.fx, all, Direction::Backwards, tail, ReadFor::Log(id, LogPart::Tail));
        for user in members_of(id) {
            let part = LogPart::Member(user);
            self.reads.get(cx.fx, keys::member(id, user.get()), ReadFor::Log(id, part));
            self.tell_user(cx, UserOp { user, ask: UserAsk::Watch(id) });
        }
    }

    pub(crate) fn log_record_read(&mut self, cx: &mut Cx, id: LogId, value: Option<Bytes>) {
        let Some(log) = self.logs.logs.get_mut(&id) else { return };
        log.exists = value.is_some();
        self.log_part_known(cx, id);
    }

    pub(crate) fn tail_read(&mut self, cx: &mut Cx, id: LogId, rows: Vec<Row>) {
        let entries: Option<Vec<_>> = rows.into_iter().map(|row| entry_of(id, row)).collect();
        let Some(entries) = entries else {
            report_damage(cx, id);
            return self.log_part_failed(cx, id);
        };
        let Some(log) = self.logs.logs.get_mut(&id) else { return };
        if let Some(newest) = entries.first() {
            (log.head, log.last_time_ms) = (newest.seq, newest.time_ms);
            log.durable = DurableHead::recovered(newest.seq);
        }
        for entry in entries.into_iter().rev() {
            log.remember(entry.into());
        }
        self.log_part_known(cx, id);
    }

    pub(crate) fn member_read(&mut self, cx: &mut Cx, id: LogId, user: UserId, value: Option<Bytes>) {
        let record = value.map_or(Ok(MemberRecord::default()), MemberRecord::decode);
        let Ok(record) = record else {
            report_damage(cx, id);
            return self.log_part_failed(cx, id);
        };
        let Some(member) = self.logs.logs.get_mut(&id).and_then(|log| log.member(user)) else { return };
        member.marks = Watermarks { delivered: Seq(record.delivered_upto), read: Seq(record.read_upto) };
        for device in &mut member.devices {
            let stored = record.positions.iter().find(|position| position.device == device.id.get());
            device.position = Seq(stored.map_or(0, |position| position.upto));
        }
        member.stored = record.positions;
        member.wrote = record.wrote.then_some(Seq(0));
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
        let Some(log) = self.logs.logs.get_mut(&id) else { return };
        let (loading, exists) = (log.missing > 0, log.exists);
        let Some(member) = log.member(user) else { return };
        let first = loading && !member.devices_known;
        member.devices_known = true;
        member.lives = devices.is_some();
        // Whether the log exists may not be known yet, so only a log that was read says that there is nothing.
        member.set_devices(&devices.unwrap_or_default(), loading || exists);
        if first {
            self.log_part_known(cx, id);
        } else if exists {
            self.mark_new_devices(id, user);
        }
    }

    /// What was appended before a device was known has left no mark for it.
    fn mark_new_devices(&mut self, id: LogId, user: UserId) {
        let Some(log) = self.logs.logs.get_mut(&id) else { return };
        let head = log.head;
        let Some(member) = log.member(user) else { return };
        for device in &mut member.devices {
            if !device.marked && device.position < head {
                device.marked = true;
                self.commits.put_bytes(keys::inbox_mark(user.get(), device.id.get(), id), Bytes::new());
            }
        }
        self.then(After::Marked(id));
    }

    fn log_part_known(&mut self, cx: &mut Cx, id: LogId) {
        let Some(log) = self.logs.logs.get_mut(&id) else { return };
        log.missing -= 1;
        if log.missing > 0 {
            return;
        }
        if log.unreadable {
            return self.forget_log(cx, id, UNREADABLE);
        }
        // A store of before knows it of the newest entries alone.
        for member in log.members.iter_mut().filter(|member| member.wrote.is_none()) {
            let own = log.tail.iter().find(|entry| entry.author.user == member.user);
            member.wrote = own.map(|entry| entry.seq);
        }
        // A log without entries has no retries either.
        if !log.exists {
            for device in log.members.iter_mut().flat_map(|member| &mut member.devices) {
                device.highest = super::Highest::None;
            }
        }
        for op in std::mem::take(&mut log.waiting) {
            self.log_known(cx, id, op);
        }
    }

    /// A member can't be read: the log is of no use before that is over.
    pub(super) fn member_unreadable(&mut self, cx: &mut Cx, id: LogId, user: UserId) {
        let Some(log) = self.logs.logs.get_mut(&id) else { return };
        let loading = log.missing > 0;
        let Some(member) = log.member(user) else { return };
        if !loading {
            self.forget_log(cx, id, UNREADABLE);
        } else if !std::mem::replace(&mut member.devices_known, true) {
            self.log_part_failed(cx, id);
        } else {
            log.unreadable = true;
        }
    }

    /// A part of a log can't be read: whoever waits for it is refused, and the next one tries again.
    pub(crate) fn log_part_failed(&mut self, cx: &mut Cx, id: LogId) {
        if let Some(log) = self.logs.logs.get_mut(&id) {
            log.unreadable = true;
        }
        self.log_part_known(cx, id);
    }
}

/// A row of a log is not what was written: an operator must know.
pub(super) fn report_damage(cx: &mut Cx, id: LogId) {
    let place = format!("a log in slot {}", Slot::of_log(id).number());
    cx.fx.store_trouble(&StoreError::Corrupt { place });
}

/// The entry of a row; `None` if the row is not what was written.
pub(super) fn entry_of(log: LogId, (key, value): Row) -> Option<Entry> {
    Entry::from_record(log, keys::number_of(&key)?, value)
}
