//! What is counted of a day. Whoever decides that an account is here, made or ended writes a part of the day's counts in the same batch,
//! under a number that says nothing; the owner of the day's slot adds the parts up, so that no row but one is read before it is written
//! ([decision 54](../../../docs/decisions/0054-counts-are-parts-that-are-added-up.md)).

use std::collections::BTreeSet;

use tern_storage::records::{CountsRecord, DeviceRecord};
use tern_storage::{Direction, Epoch, Key, Rows, ScanLimit, Slot, keys};
use tern_wire::ids::UserId;

use super::operators::may_read_for;
use super::waits::{After, ScanFor, Then};
use super::{Accounts, Cx, slot_of};
use crate::admin::AdminResponse;
use crate::counts::{self, BEFORE, of_row};
use crate::days::day_of;
use crate::entry::Author;
use crate::limits::{COUNTS_ADDED_ROWS, COUNTS_PAGE_ROWS, COUNTS_ROUND_MS, DAYS_COUNTED};
use crate::message::Unreadable;
use crate::mutations::{Mutation, is};
use crate::rounds::Round;

/// The job that adds up what was counted, of days whose slots are this core's.
#[derive(Debug, Default)]
pub(super) struct Counting {
    /// When the newest days were looked at last; 0: never.
    newest_ms: u64,
    /// All of them are looked at.
    round: Round,
    /// Days that have parts, or are kept no longer.
    days: BTreeSet<u32>,
    /// The day that is being added up, from the read to the write, and the epoch of its slot when that began.
    adds: Option<(u32, Epoch)>,
}

impl Counting {
    /// Whether something of a slot's day is under way.
    pub(super) fn is_still(&self, slot: Slot) -> bool {
        self.adds.is_none_or(|(day, _)| Slot::of_day(day) != slot)
    }
}

impl Accounts {
    /// A device of a user is about to be noted as here today: also that its account is, if none was yet.
    pub(super) fn count_here(&mut self, cx: &mut Cx, id: UserId, registered: bool) {
        let today = day_of(cx.now_ms);
        let counts_anew = is(Mutation::CountEachDevice) || is(Mutation::CountAgain);
        let last = self.last_day(id).filter(|_| !counts_anew);
        let made = self.user(id).record.as_ref().map_or(today, |record| day_of(record.created_ms));
        let counts = CountsRecord { registered: registered.into(), ..counts::here(today, last, made) };
        count(cx, slot_of(id), today, &counts);
    }

    /// Notes in memory that a device is here today, and counts it. `false`: that was noted before, or it has gone. Whoever asks writes the
    /// device's record.
    pub(super) fn is_here_today(&mut self, cx: &mut Cx, author: Author) -> bool {
        let today = day_of(cx.now_ms);
        let is_new = |record: &&mut DeviceRecord| record.seen_day < today;
        let is_new = self.device_record(author).filter(is_new).is_some();
        if is_new || is(Mutation::CountAgain) {
            self.count_here(cx, author.user, false);
        }
        if let Some(record) = self.device_record(author).filter(|_| is_new) {
            record.seen_day = today;
        }
        is_new
    }

    /// The newest day on which a device of a user was here.
    pub(super) fn last_day(&mut self, id: UserId) -> Option<u32> {
        self.user(id).devices.values().map(|device| device.record.seen_day).max()
    }

    /// An account ends.
    pub(super) fn count_end(cx: &mut Cx, id: UserId) {
        let ended = CountsRecord { deleted: 1, ..CountsRecord::default() };
        let today = day_of(cx.now_ms);
        count(cx, slot_of(id), today, &ended);
    }

    /// Time has passed: what was counted is added up.
    pub(super) fn add_counts_up(&mut self, cx: &mut Cx) {
        let (now_ms, counting) = (cx.now_ms, &mut self.counting);
        // The clock may have been set back: what is ahead of it counts as now.
        counting.newest_ms = counting.newest_ms.min(now_ms);
        let every_ms = cx.limits().counted_every_ms;
        if counting.newest_ms == 0 || now_ms - counting.newest_ms >= every_ms {
            counting.newest_ms = now_ms;
            let today = day_of(now_ms);
            counting.days.extend(today.saturating_sub(1)..=today);
        }
        if counting.round.begins(now_ms, COUNTS_ROUND_MS, cx.may_read()) {
            read_counts(cx, None, ScanFor::AllDays);
        }
        self.add_next_up(cx);
    }

    /// Some days are known: those are noted that are to be added up here.
    pub(super) fn all_days_read(&mut self, cx: &mut Cx, rows: Result<Rows, Unreadable>) {
        self.counting.round.is_read(false);
        let Ok(rows) = rows else { return };
        for (key, _) in &rows.rows {
            let Some((day, part)) = keys::day_of_counts(key) else { continue };
            if cx.is_here(Slot::of_day(day)) && (part != 0 || is_old(day, cx.now_ms)) {
                self.counting.days.insert(day);
            }
        }
        let last = rows.goes_on_behind();
        if let Some(last) = last.filter(|_| cx.may_read()) {
            self.counting.round.is_read(true);
            read_counts(cx, Some(&last), ScanFor::AllDays);
        }
        self.add_next_up(cx);
    }

    fn add_next_up(&mut self, cx: &mut Cx) {
        while self.counting.adds.is_none() && cx.may_read() {
            let Some(day) = self.counting.days.pop_first() else { return };
            let slot = Slot::of_day(day);
            if cx.is_here(slot) {
                self.counting.adds = Some((day, cx.epoch(slot)));
                let limit = ScanLimit { rows: COUNTS_ADDED_ROWS, bytes: usize::MAX };
                cx.scan(keys::counts_of(day), Direction::Forwards, limit, ScanFor::Day(day));
            }
        }
    }

    /// The parts of a day are read. What is added up comes first of them.
    pub(super) fn day_read(&mut self, cx: &mut Cx, day: u32, rows: Result<Rows, Unreadable>) {
        let slot = Slot::of_day(day);
        // The slot may have been another's meanwhile, who has added up what was read.
        let is_same = self.counting.adds == Some((day, cx.epoch(slot))) && cx.is_here(slot);
        let more = rows.as_ref().is_ok_and(|rows| rows.more);
        let rows = rows.ok().filter(|_| is_same && cx.may_write(0));
        if rows.is_some_and(|rows| write_sum(cx, day, &rows)) {
            self.after(cx, After { user: None, phone: None, then: Then::AddedUp(day, more) });
        } else {
            self.added_up(cx, None);
        }
    }

    /// Parts of a day are added up, durably; or they are not, and a later look finds them.
    pub(super) fn added_up(&mut self, cx: &mut Cx, more: Option<u32>) {
        self.counting.adds = None;
        self.counting.days.extend(more);
        self.add_next_up(cx);
    }

    /// An operator wants to see a page of what was counted.
    pub(super) fn list_counts(cx: &mut Cx, question: u64, after: Option<&Key>) {
        if may_read_for(cx, question) {
            read_counts(cx, after, ScanFor::Counts(question));
        }
    }

    /// It is read.
    pub(super) fn counts_listed(cx: &mut Cx, question: u64, rows: Result<Rows, Unreadable>) {
        let unreadable = || AdminResponse::Refused("the counts can't be read: see the log".to_owned());
        let Ok(rows) = rows else { return cx.answer(question, unreadable()) };
        let next = rows.goes_on_behind();
        let days =
            rows.rows.iter().map(|(key, value)| of_row(key, value).map(|(day, _, counts)| (day, counts)));
        let answer = match days.collect::<Option<Vec<_>>>() {
            Some(days) => AdminResponse::Counts { days, next },
            None => unreadable(),
        };
        cx.answer(question, answer);
    }
}

/// Counts something of today, as a slot's owner has decided.
fn count(cx: &mut Cx, by: Slot, today: u32, counts: &CountsRecord) {
    let key = keys::counts(today, cx.part_of_counts());
    cx.put(by, key, counts);
}

/// Whether a day is kept no longer.
fn is_old(day: u32, now_ms: u64) -> bool {
    day != BEFORE && day.saturating_add(DAYS_COUNTED) < day_of(now_ms)
}

fn read_counts(cx: &mut Cx, after: Option<&Key>, purpose: ScanFor) {
    let limit = ScanLimit { rows: COUNTS_PAGE_ROWS, bytes: usize::MAX };
    cx.scan(keys::all_counts(after), Direction::Forwards, limit, purpose);
}

/// Writes the sum of what was read of a day in place of it: under the day, or under the one for all that are kept no longer. `false` if there
/// is nothing to add, or a part is not what was written: then all stay.
fn write_sum(cx: &mut Cx, day: u32, rows: &Rows) -> bool {
    let (slot, is_old) = (Slot::of_day(day), is_old(day, cx.now_ms));
    let (mut sum, mut parts) = (CountsRecord::default(), Vec::new());
    for (key, value) in &rows.rows {
        let Some((_, part, counts)) = of_row(key, value) else {
            cx.damaged("what was counted of a day", &Key::from_raw(key));
            return false;
        };
        counts::add(&mut sum, &counts);
        if part != 0 || is_old {
            parts.push(part);
        }
    }
    if parts.is_empty() {
        return false;
    }
    for part in parts.into_iter().filter(|_| !is(Mutation::AddUpAgain)) {
        cx.delete(slot, keys::counts(day, part));
    }
    if is_old {
        count(cx, slot, BEFORE, &counts::outliving(sum));
    } else {
        cx.put(slot, keys::counts(day, 0), &sum);
    }
    true
}
