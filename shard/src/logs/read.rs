//! Reading a log: pages of history, and pages for devices that are catching up. Only what is durable is read.

use std::sync::Arc;

use tern_proto::v1;
use tern_storage::{Direction, LogId, Rows, ScanLimit, keys};
use tern_wire::ids::Seq;
use tern_wire::limits::PAGE_BYTES_MAX;

use super::group::{Newcomer, UNKNOWN_GROUP};
use super::load::entry_of;
use super::log::{Lacked, Log};
use super::{After, Cx, Logs, ScanFor, UNREADABLE, glance_failed, page_failed, tell_page};
use crate::entry::Entry;
use crate::held::Load;
use crate::limits::{PULL_BYTES_MAX, PULL_ENTRIES_MAX};
use crate::message::{
    Claim, Glancer, LogOp, MediumWanted, Page, Pull, ReadHistory, Reporting, Unreadable, Want,
};
use crate::mutations::{Mutation, is};
use crate::reply::Reply;

/// Where a device goes on in a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// The first entry that it lacks.
    first: Seq,
    /// Its position just before, where that is not what it claimed.
    rewound: Option<Seq>,
    /// It sees nothing of the log before this entry.
    begins: Option<Seq>,
}

/// Where a device goes on that wants this, has acknowledged the log up to `position`, and could have it up to `head`. What
/// it acknowledged of this store it has, whatever became of the store since; beyond that it is only believed what it
/// stored under runs that this store has had, and nothing that is beyond the head.
fn place_of(want: Want, position: Seq, head: Seq) -> Place {
    let Some(Claim { upto, trusted }) = want.claim else {
        return Place { first: want.from.unwrap_or(position.next()), rewound: None, begins: None };
    };
    let from = want.from.unwrap_or(position.next());
    if trusted && upto <= head {
        return Place { first: from, rewound: None, begins: None };
    }
    let first = from.min(position.next());
    Place { first, rewound: (upto > position).then_some(Seq(first.0 - 1)), begins: None }
}

/// Who waits for entries from the store.
#[derive(Debug)]
pub(crate) struct Reader {
    log: LogId,
    /// The load of the log that asked.
    load: Load,
    /// The entries that are there, from the first up to but without the end.
    range: (Seq, Seq),
    purpose: Purpose,
}

#[derive(Clone, Debug)]
pub(super) enum Purpose {
    /// A page of history.
    History(ReadHistory),
    /// A page for a device that is catching up from this place on.
    Pull(Pull, Place),
    /// The entry at a read watermark, for a list of chats.
    Glance(Glancer),
    /// Messages that a member reports.
    Report(Box<Reporting>),
    /// The entry with which a medium goes that a member wants.
    Medium(Box<MediumWanted>),
}

impl Reader {
    /// What was asked.
    fn ask(&self) -> LogOp {
        match self.purpose.clone() {
            Purpose::History(history) => LogOp::History(history),
            Purpose::Pull(pull, _) => LogOp::Pull(Box::new(pull)),
            Purpose::Glance(asker) => LogOp::Glance(asker),
            Purpose::Report(reporting) => LogOp::Report(reporting),
            Purpose::Medium(wanted) => LogOp::GetMedium(wanted),
        }
    }

    /// The entries of what was read, rising; `None` if it is not what was written. Seqs are dense: a hole, at whichever end of
    /// what was asked for, is damage.
    fn entries(&self, rows: Rows) -> Option<Vec<Entry>> {
        let (first, end) = self.range;
        let entries: Option<Vec<_>> = rows.rows.into_iter().map(|row| entry_of(self.log, row)).collect();
        let mut entries = entries?;
        let backwards = matches!(self.purpose, Purpose::History(ReadHistory { forwards: false, .. }));
        if backwards {
            entries.reverse();
        }
        let (oldest, newest) = (entries.first()?.seq, entries.last()?.seq);
        let dense = entries.windows(2).all(|pair| pair[0].seq.next() == pair[1].seq);
        let from_first = oldest == first || (backwards && rows.more);
        let to_end = newest.next() == end || (!backwards && rows.more);
        (dense && from_first && to_end).then_some(entries)
    }
}

impl Logs {
    pub(super) fn read_history(&mut self, cx: &mut Cx, id: LogId, wanted: ReadHistory) {
        let log = self.known(id);
        let durable = log.durable.seq();
        let Some(member) = log.seen_member(wanted.reader) else {
            return cx.refuse(wanted.origin, UNKNOWN_GROUP);
        };
        let (oldest, head) = (log.first_of(member.first()).0, member.visible(durable));
        let ReadHistory { from, forwards, limit, .. } = wanted;
        let (first, end) = if forwards {
            (from.0.saturating_add(1).max(oldest), head.0 + 1)
        } else {
            (oldest, if from == Seq(0) { head.0 + 1 } else { from.0.min(head.0 + 1) })
        };
        if first >= end {
            return self.history_known(cx, id, wanted, Vec::new());
        }
        let direction = if forwards { Direction::Forwards } else { Direction::Backwards };
        let limit = ScanLimit { rows: limit, bytes: PAGE_BYTES_MAX };
        self.read_entries(cx, id, (first, end), direction, limit, Purpose::History(wanted));
    }

    fn history_known(&mut self, cx: &mut Cx, id: LogId, wanted: ReadHistory, entries: Vec<Entry>) {
        let log = self.known(id);
        let head = log.visible_to(wanted.reader, log.durable.seq());
        let marks = log.shown_of_others(id, wanted.reader);
        let oldest = log.seen_member(wanted.reader).map_or(Seq(1), |member| member.first());
        let oldest = log.first_of(oldest);
        let more = if wanted.forwards {
            entries.last().is_some_and(|last| last.seq < head)
        } else {
            entries.first().is_some_and(|first| first.seq > oldest)
        };
        let page = v1::HistoryPage {
            entries: entries.iter().map(|entry| entry.view(wanted.reader, true)).collect(),
            more,
            head: head.0,
            delivered_upto: marks.delivered.0,
            read_upto: marks.read.0,
            first: if oldest > Seq(1) { oldest.min(head.next()).0 } else { 0 },
        };
        cx.reply(wanted.origin, Reply::HistoryPage(Box::new(page)));
    }

    /// Gives a device what it lacks, from memory if the tail reaches back far enough.
    pub(super) fn pull(&mut self, cx: &mut Cx, id: LogId, pull: Pull) {
        let has_room = cx.may_write(0);
        let log = self.known(id);
        let user = pull.author.user;
        let is_met = log.group.is_none() || pull.met || log.device(pull.author).is_some();
        if !is_met && log.seen_member(user).is_some() {
            return self.meet_newcomer(cx, id, Newcomer::Pull(Box::new(pull)));
        }
        if rests_on_writes(log, &pull) {
            return self.after(cx, After::Pull(id, Box::new(pull)));
        }
        let (durable, head) = (log.visible_to(user, log.durable.seq()), log.visible_to(user, log.head));
        let (slot, joined, begin) = (log.slot, log.joined(user), log.first);
        // What the device has acknowledged of this store, and so has for certain.
        let (mut position, mut caught_up) = (Seq(0), false);
        let lacks = log.lacked_by(pull.author);
        if let Some(device) = log.device(pull.author) {
            caught_up = device.has_all(head);
            // What is in memory of an inbox may be there without a mark.
            let is_sure = lacks == Some(Lacked::Others) || is(Mutation::TrustInbox);
            let needs_mark = !device.marked && pull.writes_mark;
            if caught_up || lacks == Some(Lacked::Own) && pull.marked && !is_sure && !device.lacks_read {
                device.stale |= pull.marked;
            } else if pull.marked && is_sure {
                // It has been there since before the entry of somebody else that the device lacks.
                device.marked = true;
            } else if needs_mark && !has_room {
                return page_failed(cx, id, pull, Unreadable::ForNow);
            } else if needs_mark {
                device.marked = true;
                let (user, device) = (pull.author.user.get(), pull.author.device.get());
                cx.put_bytes(slot, keys::inbox_mark(user, device, id), &[]);
                return self.after(cx, After::Pull(id, Box::new(pull)));
            }
            position = device.position.min(durable);
        }
        if caught_up {
            self.look_when_quiet(cx, id);
        }
        let mut place = place_of(pull.want, position, durable);
        if (place.first <= joined && joined > Seq(1)) || place.first < begin {
            // Whoever has left sees nothing that begins later.
            let begins = joined.max(begin).min(durable.next());
            (place.first, place.begins) = (begins, Some(begins));
        }
        let first = place.first;
        let log = self.known(id);
        if first > durable {
            return self.pulled(cx, id, pull, place, Vec::new());
        }
        if log.tail.front().is_some_and(|oldest| oldest.seq <= first) {
            let wanted = log.tail.iter().filter(|entry| entry.seq >= first && entry.seq <= durable);
            let mut bytes = 0;
            let fits = |entry: &&Arc<Entry>| {
                let fits = bytes < PULL_BYTES_MAX;
                bytes += entry.body.len();
                fits
            };
            let entries = wanted.take(PULL_ENTRIES_MAX).take_while(fits).cloned().collect();
            return self.pulled(cx, id, pull, place, entries);
        }
        let limit = ScanLimit { rows: PULL_ENTRIES_MAX, bytes: PULL_BYTES_MAX };
        let range = (first.0, durable.0 + 1);
        self.read_entries(cx, id, range, Direction::Forwards, limit, Purpose::Pull(pull, place));
    }

    fn pulled(&mut self, cx: &mut Cx, id: LogId, pull: Pull, place: Place, entries: Vec<Arc<Entry>>) {
        let log = self.known(id);
        let user = pull.author.user;
        let head = log.visible_to(user, log.durable.seq());
        let next = entries.last().map_or(place.first.min(head.next()), |last| last.seq.next());
        let lacks_read = log.device(pull.author).is_some_and(|device| device.lacks_read);
        let page = Page {
            log: id,
            rewound: place.rewound,
            begins: place.begins,
            entries,
            next,
            head,
            others: log.shown_of_others(id, user),
            own: log.shown_of(user),
            lacks_read,
            unmarked: !pull.writes_mark && !is(Mutation::CatchUpUnmarked),
            failed: None,
        };
        tell_page(cx, &pull, page);
    }

    pub(super) fn read_entries(
        &mut self,
        cx: &mut Cx,
        id: LogId,
        (first, end): (u64, u64),
        direction: Direction,
        limit: ScanLimit,
        purpose: Purpose,
    ) {
        if !cx.may_read() {
            let refusal = cx.overloaded();
            return match purpose {
                Purpose::History(wanted) => cx.refuse(wanted.origin, refusal),
                Purpose::Pull(pull, _) => page_failed(cx, id, pull, Unreadable::ForNow),
                Purpose::Glance(asker) => glance_failed(cx, id, asker, Unreadable::ForNow),
                Purpose::Report(reporting) => cx.refuse(reporting.origin, refusal),
                Purpose::Medium(wanted) => cx.refuse(wanted.origin, refusal),
            };
        }
        let log = self.known(id);
        log.reading += 1;
        let reader = Reader { log: id, load: log.held.load(), range: (Seq(first), Seq(end)), purpose };
        let range = keys::entries(id, first, end);
        cx.scan(range, direction, limit, ScanFor::Entries(Box::new(reader)));
    }

    pub(super) fn entries_read(&mut self, cx: &mut Cx, reader: Reader, rows: Result<Rows, Unreadable>) {
        let id = reader.log;
        if let Some(log) = self.logs.get_mut(&id).filter(|log| log.held.load() == reader.load) {
            log.reading -= 1;
        }
        if self.known_by(id, reader.load).is_none_or(|log| log.is_changing()) {
            // The log came into doubt meanwhile, or is about to be another one: what it says of itself is not known now. It may be
            // another core's by now, too, which the read of one that was forgotten does not keep it from.
            let ask = reader.ask();
            return if is(Mutation::AskWhereRead) { self.told(cx, id, ask) } else { cx.tell_log(id, ask) };
        }
        let entries = rows.and_then(|rows| reader.entries(rows).ok_or(Unreadable::Damaged));
        match (entries, reader.purpose) {
            (Ok(entries), Purpose::History(wanted)) => self.history_known(cx, id, wanted, entries),
            (Ok(entries), Purpose::Pull(pull, place)) => {
                self.pulled(cx, id, pull, place, entries.into_iter().map(Arc::new).collect());
            }
            (Ok(entries), Purpose::Report(reporting)) => self.reported(cx, id, *reporting, &entries),
            (Ok(entries), Purpose::Medium(wanted)) => Self::medium_found(cx, *wanted, &entries[0]),
            (Ok(entries), Purpose::Glance(asker)) => self.glanced(cx, id, asker, entries.first()),
            (Err(why), purpose) => {
                if why == Unreadable::Damaged {
                    cx.damaged("a log", &keys::log(id));
                }
                match purpose {
                    Purpose::History(wanted) => cx.refuse(wanted.origin, UNREADABLE),
                    Purpose::Pull(pull, _) => page_failed(cx, id, pull, why),
                    Purpose::Glance(asker) => glance_failed(cx, id, asker, why),
                    Purpose::Report(reporting) => cx.refuse(reporting.origin, UNREADABLE),
                    Purpose::Medium(wanted) => cx.refuse(wanted.origin, UNREADABLE),
                }
            }
        }
    }
}

/// Whether something must be durable before a device is told anything: in a group, that it is known there; of a new one, the marks that
/// it then relies on.
fn rests_on_writes(log: &mut Log, pull: &Pull) -> bool {
    let is_unsaved = log.group.is_some() && log.device(pull.author).is_some_and(|device| !device.saved);
    let is_unflushed = !pull.marked && !pull.flushed && !log.held.is_still() && !is(Mutation::PullUnflushed);
    pull.writes_mark && (is_unsaved || is_unflushed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(from: Option<u64>, claim: Option<(u64, bool)>, expect: (u64, Option<u64>)) {
        let claim = claim.map(|(upto, trusted)| Claim { upto: Seq(upto), trusted });
        let want = Want { from: from.map(Seq), claim };
        let place = place_of(want, Seq(10), Seq(30));
        assert_eq!((place.first.0, place.rewound.map(|upto| upto.0)), expect, "{want:?}");
    }

    #[test]
    fn a_claim_is_believed_up_to_what_was_acknowledged_or_as_far_as_it_is_trusted() {
        check(None, None, (11, None));
        check(Some(21), None, (21, None));
        // Trusted: as claimed, up to the head.
        check(Some(21), Some((20, true)), (21, None));
        check(Some(6), Some((5, true)), (6, None));
        check(Some(31), Some((30, true)), (31, None));
        check(Some(32), Some((31, true)), (11, Some(10)));
        // Not trusted: up to what was acknowledged.
        check(Some(21), Some((20, false)), (11, Some(10)));
        check(Some(11), Some((10, false)), (11, None));
        check(Some(6), Some((5, false)), (6, None));
        // Two claims in one: the lower place, the higher claim.
        check(Some(6), Some((31, true)), (6, Some(5)));
    }
}
