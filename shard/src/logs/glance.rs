//! A log at a glance: what a list of chats shows of it.

use std::sync::Arc;

use tern_storage::{Direction, LogId, ScanLimit};
use tern_wire::ids::{DeviceId, Seq, UserId};

use super::read::Purpose;
use super::{Cx, Log, Logs, glance_failed};
use crate::entry::{Entry, peer_of};
use crate::message::{Glance, GlanceFor, Glancer, Shown, Unreadable, UserOp, tell_glance};

impl Log {
    /// The newest durable entry. It is never trimmed.
    fn newest(&self) -> Option<&std::sync::Arc<Entry>> {
        self.in_tail(self.durable.seq())
    }

    /// Up to where each device of a member has acknowledged, for whoever has them told.
    fn positions(&self, asker: Glancer) -> Vec<(DeviceId, Seq)> {
        let GlanceFor::Pushes { .. } = asker.asker else { return Vec::new() };
        let devices = self.seen_member(asker.reader).into_iter().flat_map(|member| &member.devices);
        devices.map(|device| (device.id, device.position)).collect()
    }

    /// The entry that says how much was read: the one at a watermark, or the first that is left.
    fn read_or_first(&self, read: Seq) -> Seq {
        if self.first > Seq(1) { read.max(self.first) } else { read }
    }

    /// How many durable messages of the peer's are beyond a member's read watermark, at which this entry stands. Where one was lost that
    /// is not always known: then all entries that are beyond it count.
    fn unread(&self, reader: UserId, read: Option<&Entry>) -> u64 {
        let (head, upto) = (self.durable.seq(), read.map_or(Seq(0), |entry| entry.seq));
        // If what was read is gone, the entry is the first one that is left, and is unread itself.
        let itself = u64::from(read.is_some() && upto > self.shown_of(reader).read);
        let beyond = head.0 - upto.0 + itself;
        let others = |entry: &Entry| entry.messages_of_others(reader);
        let is_new =
            itself * read.map_or(0, |entry| u64::from(entry.counts() && entry.author.user != reader));
        let all = self.newest().map_or(0, |newest| others(newest));
        (all + is_new).checked_sub(read.map_or(0, others)).unwrap_or(beyond).min(beyond)
    }
}

impl Logs {
    pub(super) fn glance(&mut self, cx: &mut Cx, id: LogId, asker: Glancer) {
        let log = self.known(id);
        if log.group.is_some() {
            return self.glance_at_group(cx, id, asker);
        }
        let read = log.read_or_first(log.shown_of(asker.reader).read);
        if read == Seq(0) || read >= log.durable.seq() || log.in_tail(read).is_some() {
            let read = log.in_tail(read.min(log.durable.seq())).cloned();
            return self.glanced(cx, id, asker, read.as_deref());
        }
        let limit = ScanLimit { rows: 1, bytes: usize::MAX };
        let range = (read.0, read.0 + 1);
        self.read_entries(cx, id, range, Direction::Forwards, limit, Purpose::Glance(asker));
    }

    /// The entry at the read watermark is known, if there is one.
    pub(super) fn glanced(&mut self, cx: &mut Cx, id: LogId, asker: Glancer, read: Option<&Entry>) {
        let log = self.known(id);
        let reader = asker.reader;
        let Some(peer) = peer_of(id, reader) else { return self.group_glanced(cx, id, asker, read) };
        let both = log.has_written(peer) && log.has_written(reader);
        let glance = Glance {
            asker,
            log: id,
            head: log.durable.seq(),
            last: log.newest().cloned(),
            unread: if peer == reader { 0 } else { log.unread(reader, read) },
            others: log.shown_of_others(id, reader),
            own: log.shown_of(reader),
            timer_ms: log.timer_ms,
            left: false,
            shown: Shown { to: reader, name: both, phone: log.has_written(peer), picture: None },
            name: String::new(),
            phone: String::new(),
            positions: log.positions(asker),
            failed: None,
        };
        match asker.asker {
            GlanceFor::Pushes { named: false, .. } => tell_glance(cx, Box::new(glance)),
            _ => cx.tell_user(peer, UserOp::Introduce(Box::new(glance))),
        }
    }
}

impl Logs {
    /// What counts as unread follows from the entry at the read watermark; of a group that was left, the last entry is shown.
    fn glance_at_group(&mut self, cx: &mut Cx, id: LogId, asker: Glancer) {
        let log = self.known(id);
        let durable = log.durable.seq();
        let Some(member) = log.seen_member(asker.reader) else {
            return glance_failed(cx, id, asker, Unreadable::Damaged);
        };
        let (is_present, read, visible) = (member.is_present(), member.shown.read, member.visible(durable));
        // Of what was before the beginning nothing is shown: what is there now is not for whoever has left.
        let wanted = if is_present { log.read_or_first(read) } else { visible };
        if wanted < log.joined(asker.reader)
            || wanted < log.first
            || wanted > durable
            || log.in_tail(wanted).is_some()
        {
            let read = log.in_tail(wanted).cloned();
            return self.group_glanced(cx, id, asker, read.as_deref());
        }
        let limit = ScanLimit { rows: 1, bytes: usize::MAX };
        let range = (wanted.0, wanted.0 + 1);
        self.read_entries(cx, id, range, Direction::Forwards, limit, Purpose::Glance(asker));
    }

    /// The entry at the read watermark is known, if there is one; of a group that was left, the last one.
    fn group_glanced(&mut self, cx: &mut Cx, id: LogId, asker: Glancer, at: Option<&Entry>) {
        let log = self.known(id);
        let reader = asker.reader;
        let (head, first) = (log.visible_to(reader, log.durable.seq()), log.first);
        let (newest, others, own) =
            (log.newest().cloned(), log.shown_of_others(id, reader), log.shown_of(reader));
        let Some(member) = log.seen_member(reader) else {
            return glance_failed(cx, id, asker, Unreadable::Damaged);
        };
        let is_present = member.is_present();
        // If what was read is gone, the entry is the first one that is left, and is unread itself.
        let counted_before = |entry: &Entry| {
            let is_unread = entry.seq > own.read && entry.counts();
            entry.messages - u64::from(is_unread && is_present)
        };
        let before = at.map_or(member.part.as_ref().map_or(0, |part| part.counted_before), counted_before);
        let is_left = |own: &&Seq| **own <= head && **own >= first;
        let of_own = member.part.as_ref().map_or(0, |part| part.own.iter().filter(is_left).count());
        let counted = newest.as_ref().map_or(0, |newest| newest.messages);
        let unread = counted.saturating_sub(before).saturating_sub(of_own as u64);
        let glance = Glance {
            asker,
            log: id,
            head,
            last: if is_present { newest } else { at.cloned().map(Arc::new) },
            unread: if is_present { unread } else { 0 },
            others,
            own,
            timer_ms: log.timer_ms,
            left: !is_present,
            shown: Shown { to: reader, name: false, phone: false, picture: None },
            name: log.group().name.clone(),
            phone: String::new(),
            positions: log.positions(asker),
            failed: None,
        };
        tell_glance(cx, Box::new(glance));
    }
}
