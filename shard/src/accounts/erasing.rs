//! What is left of accounts that have ended: a job that goes on over crashes and moves until no row of theirs is left but the tombstone, and
//! what others keep ([decision 56](../../../docs/decisions/0056-an-account-ends-in-steps.md)).
//!
//! A row (`b`) says which accounts are to end, and which have ended and are not all gone. Whoever owns the user's slot finds it, and works
//! on one user at a time, step by step: each step removes what it has read, and says so in the row, in one batch. So a crash, a move or a
//! failed write leave a job that begins its step again, and every step may be done twice.

use std::collections::{BTreeSet, VecDeque};

use prost::Message as _;
use tern_proto::v1;
use tern_storage::keys::{self, RestTable};
use tern_storage::records::EndRecord;
use tern_storage::{Direction, Key, LogId, Row, Rows, ScanLimit, Slot};
use tern_wire::ids::{ClientMessageId, Phone, UserId};

use super::operators::may_read_for;
use super::users::Ask;
use super::waits::{After, ScanFor, Then};
use super::{Accounts, Cx, slot_of};
use crate::admin::AdminResponse;
use crate::entry::{Author, KIND_GROUP};
use crate::limits::{ENDED_CHATS_AT_ONCE, ENDED_DUE_MAX, ENDED_ROUNDS_MIN, ENDED_ROWS_AT_ONCE, ENDS_STEP_MS};
use crate::message::{LogOp, PhoneOp, Send, Unreadable};
use crate::mutations::{Mutation, is};
use crate::reply::{Asker, Parting};
use crate::rounds::Round;

/// The number under which the server leaves a group for somebody whose account has ended.
const LEAVES: ClientMessageId = ClientMessageId(u64::MAX);

/// The tables with rows of the user's own, in the order in which they are emptied.
const TABLES: [RestTable; 7] = [
    RestTable::Pushes,
    RestTable::Outbox,
    RestTable::ChatSettings,
    RestTable::Inbox,
    RestTable::Relations,
    RestTable::Media,
    RestTable::Stories,
];

/// The job of a core.
#[derive(Debug, Default)]
pub(super) struct Erasing {
    /// The rows are looked for.
    round: Round,
    /// Accounts that are due, as far as there is room; the others are found in later rounds.
    due: VecDeque<(UserId, EndRecord)>,
    work: Option<Work>,
    /// The number of the last step.
    number: u64,
}

/// The work on one user.
#[derive(Debug)]
struct Work {
    user: UserId,
    /// Of this step: what comes for another one came too late.
    number: u64,
    /// As it is in the store, when what is under way is.
    row: EndRecord,
    /// When this step began, in ms since the Unix epoch.
    since_ms: u64,
    step: Step,
    /// A chat could not be left: what is done is done, and the rest in another round.
    has_failed: bool,
}

#[derive(Debug)]
enum Step {
    /// The account is being ended.
    Ends,
    /// It is being taken out of chats, those behind this one.
    Chats { after: Option<LogId>, asked: BTreeSet<LogId>, left: Vec<LogId> },
    /// Its private log is being erased.
    Private,
    /// Its stories are being ended.
    Stories,
    /// It is seen whether all have heard of that.
    StoriesHeard,
    /// A table is being emptied.
    Rest(usize),
    /// Its row is being removed.
    Over,
}

impl Erasing {
    /// Some account has ended, or is due: it is looked for with the next tick.
    pub(super) fn look_soon(&mut self) {
        self.round.is_wanted();
    }

    /// A slot is another core's.
    pub(super) fn let_go(&mut self, slot: Slot) {
        self.due.retain(|(user, _)| slot_of(*user) != slot);
        self.work.take_if(|work| slot_of(work.user) == slot);
    }

    /// The work comes to another step. Gives its number.
    fn begin(&mut self, step: Step, now_ms: u64) -> Option<u64> {
        let work = self.work.as_mut()?;
        self.number += 1;
        (work.number, work.since_ms, work.step) = (self.number, now_ms, step);
        Some(self.number)
    }

    /// The work on a user, if its step of this number is still under way.
    fn work(&mut self, user: UserId, number: u64) -> Option<&mut Work> {
        self.work.as_mut().filter(|work| (work.user, work.number) == (user, number))
    }
}

impl Accounts {
    /// Time has passed.
    pub(super) fn go_on_erasing(&mut self, cx: &mut Cx) {
        let (now_ms, erasing) = (cx.now_ms, &mut self.erasing);
        // Whoever was asked may be gone; and the clock may have been set back.
        let is_late = |since_ms: u64| now_ms.abs_diff(since_ms) >= ENDS_STEP_MS;
        erasing.work.take_if(|work| is_late(work.since_ms));
        if erasing.round.begins(now_ms, cx.limits().deletion_round_ms, cx.may_read()) {
            look_for_ends(cx, None, ScanFor::Ends);
        }
        self.erase_next(cx);
    }

    /// Accounts that are to end are known: those are noted that are due and this core's.
    pub(super) fn ends_read(&mut self, cx: &mut Cx, rows: Result<Rows, Unreadable>) {
        self.erasing.round.is_read(false);
        let Ok(rows) = rows else { return };
        let (now_ms, erasing) = (cx.now_ms, &mut self.erasing);
        for (user, row) in rows.rows.iter().filter_map(end_of) {
            let is_known = erasing.work.as_ref().is_some_and(|work| work.user == user)
                || erasing.due.iter().any(|(known, _)| *known == user);
            let is_due = row.ended_ms > 0 || row.due_ms <= now_ms;
            let has_room = erasing.due.len() < ENDED_DUE_MAX;
            if is_due && has_room && !is_known && cx.is_here(slot_of(user)) {
                erasing.due.push_back((user, row));
            }
        }
        if let Some(last) = rows.goes_on_behind().filter(|_| cx.may_read()) {
            self.erasing.round.is_read(true);
            look_for_ends(cx, Some(&last), ScanFor::Ends);
        }
        self.erase_next(cx);
    }

    fn erase_next(&mut self, cx: &mut Cx) {
        while self.erasing.work.is_none() {
            let Some((user, row)) = self.erasing.due.pop_front() else { return };
            if !cx.is_here(slot_of(user)) {
                continue;
            }
            let (since_ms, step) = (cx.now_ms, Step::Ends);
            self.erasing.work = Some(Work { user, number: 0, row, since_ms, step, has_failed: false });
            if row.ended_ms > 0 {
                self.leave_chats(cx, user, None);
            } else if let Some(number) = self.erasing.begin(Step::Ends, cx.now_ms) {
                self.ask_user(cx, user, Ask::EndDue(number));
            }
        }
    }

    /// Begins another step of the work on a user, unless the slot is about to be another core's, which finds it then.
    fn begin_step(&mut self, cx: &mut Cx, user: UserId, step: Step) -> Option<u64> {
        if !cx.is_here(slot_of(user)) {
            self.erase_later(cx);
            return None;
        }
        self.erasing.begin(step, cx.now_ms)
    }

    /// The work on a user can't go on now: it is found again.
    fn erase_later(&mut self, cx: &mut Cx) {
        self.erasing.work = None;
        self.erase_next(cx);
    }

    /// An account that is to end is known: it may have been kept since.
    pub(super) fn end_due(&mut self, cx: &mut Cx, user: UserId, number: u64) {
        if self.erasing.work(user, number).is_none() {
            return;
        }
        let phone = self.phone_of_due(cx, user);
        match phone {
            Some(phone) => self.phone_told(cx, phone, PhoneOp::End(user, number)),
            None => self.erase_later(cx),
        }
    }

    /// The phone of an account whose end is due.
    fn phone_of_due(&mut self, cx: &Cx, user: UserId) -> Option<Phone> {
        let is_due = |ends_ms: u64| ends_ms > 0 && ends_ms <= cx.now_ms;
        let record = self.record(user).filter(|record| is_due(record.ends_ms))?;
        Phone::parse(&record.phone)
    }

    /// The phone of such an account is known.
    pub(super) fn end_of_phone(&mut self, cx: &mut Cx, phone: Phone, user: UserId, number: u64) {
        if self.phones.state(&phone).record.user == user.get() {
            self.ask_user(cx, user, Ask::EndNow(phone, number));
        } else {
            self.erase_later(cx);
        }
    }

    /// The account and its phone are known: it ends.
    pub(super) fn end_now(&mut self, cx: &mut Cx, user: UserId, phone: Phone, number: u64) {
        let is_still_due = self.phone_of_due(cx, user).as_ref() == Some(&phone);
        let is_phone_known = self.phones.known(&phone).is_some();
        let Some(work) = self.erasing.work(user, number) else { return };
        if !is_still_due || !is_phone_known || !cx.may_write(0) {
            return self.erase_later(cx);
        }
        work.row.ended_ms = cx.now_ms.max(1);
        let then = Then::Erased(user, number);
        self.end_user(cx, user);
        self.free_phone(cx, &phone);
        self.after(cx, After { user: Some(user), phone: Some(phone), then });
    }

    /// A step is durable.
    pub(super) fn erased(&mut self, cx: &mut Cx, user: UserId, number: u64) {
        let Some(work) = self.erasing.work(user, number) else { return };
        match &work.step {
            Step::Ends => self.leave_chats(cx, user, None),
            Step::Chats { after, .. } => {
                let after = *after;
                self.leave_chats(cx, user, after);
            }
            Step::Private | Step::Stories => self.end_all_stories(cx, user),
            Step::StoriesHeard => self.empty_table(cx, user, 0),
            Step::Rest(table) => {
                let table = *table;
                self.empty_table(cx, user, table);
            }
            Step::Over => self.erase_later(cx),
        }
    }

    /// A step did not become durable.
    pub(super) fn not_erased(&mut self, cx: &mut Cx, user: UserId, number: u64) {
        if self.erasing.work(user, number).is_some() {
            self.erase_later(cx);
        }
    }

    /// Goes on with the chats behind one.
    fn leave_chats(&mut self, cx: &mut Cx, user: UserId, after: Option<LogId>) {
        let step = Step::Chats { after, asked: BTreeSet::new(), left: Vec::new() };
        let Some(number) = self.begin_step(cx, user, step) else { return };
        let limit = ScanLimit { rows: ENDED_CHATS_AT_ONCE, bytes: usize::MAX };
        let purpose = ScanFor::ChatsOfEnded(user, number);
        cx.scan(keys::memberships(user.get(), after), Direction::Forwards, limit, purpose);
    }

    /// Some of its chats are known: each is asked to do without it.
    pub(super) fn chats_of_ended_read(
        &mut self,
        cx: &mut Cx,
        (user, number): (UserId, u64),
        rows: Result<Rows, Unreadable>,
    ) {
        let Some(Work { step: Step::Chats { after, asked, .. }, .. }) = self.erasing.work(user, number)
        else {
            return;
        };
        let Ok(rows) = rows else { return self.erase_later(cx) };
        let logs: Vec<_> = rows.rows.iter().filter_map(|(key, _)| keys::log_of(key)).collect();
        let Some(last) = logs.last() else { return self.erase_private(cx, user) };
        *after = Some(*last);
        asked.extend(&logs);
        for log in logs {
            part(cx, Parting { user, log, number });
        }
    }

    /// A chat does without the user, or could not.
    pub(super) fn parted(&mut self, cx: &mut Cx, parting: Parting, has: bool) {
        let Parting { user, log, number } = parting;
        let Some(work) = self.erasing.work(user, number) else { return };
        work.has_failed |= !has;
        let (asked, left) = match &mut work.step {
            Step::Chats { asked, left, .. } => (asked, left),
            Step::Private if log == LogId::Private(user.get()) => return self.end_all_stories(cx, user),
            _ => return,
        };
        if !asked.remove(&log) {
            // It has said so before.
            return;
        }
        left.extend(has.then_some(log));
        if !asked.is_empty() {
            return;
        }
        let left = std::mem::take(left);
        if left.is_empty() {
            return self.erased(cx, user, number);
        }
        if !cx.may_write(0) {
            return self.erase_later(cx);
        }
        work.row.chats += left.len() as u64;
        let slot = slot_of(user);
        for log in left {
            cx.delete(slot, keys::membership(user.get(), log));
        }
        self.step_written(cx);
    }

    /// What the user kept for their own devices goes, whether a row says that there is such a log or not.
    fn erase_private(&mut self, cx: &mut Cx, user: UserId) {
        let Some(number) = self.begin_step(cx, user, Step::Private) else { return };
        part(cx, Parting { user, log: LogId::Private(user.get()), number });
    }

    /// Those who have stories of the user's are to have them no more.
    fn end_all_stories(&mut self, cx: &mut Cx, user: UserId) {
        self.end_stories_behind(cx, user, None);
    }

    fn end_stories_behind(&mut self, cx: &mut Cx, user: UserId, last: Option<&Key>) {
        let Some(number) = self.begin_step(cx, user, Step::Stories) else { return };
        let limit = ScanLimit { rows: ENDED_ROWS_AT_ONCE, bytes: usize::MAX };
        let range = keys::stories_of(user.get(), last);
        cx.scan(range, Direction::Forwards, limit, ScanFor::RestOfEnded(user, number));
    }

    /// The stories are known: those that are there end. When none is, it is seen whether all have heard of that.
    fn stories_of_ended_read(&mut self, cx: &mut Cx, user: UserId, rows: &Rows) {
        if !cx.may_write(0) {
            return self.erase_later(cx);
        }
        if self.end_stories_of(cx, rows) > 0 {
            // Who has them hears of it, which takes a while.
            return self.erase_later(cx);
        }
        if let Some(last) = rows.goes_on_behind() {
            // Those that are deleted stay until they would have ended.
            return self.end_stories_behind(cx, user, Some(&last));
        }
        let Some(number) = self.begin_step(cx, user, Step::StoriesHeard) else { return };
        let limit = ScanLimit { rows: ENDED_ROWS_AT_ONCE, bytes: usize::MAX };
        let range = keys::all_of_stories(user.get());
        cx.scan(range, Direction::Forwards, limit, ScanFor::RestOfEnded(user, number));
    }

    /// Goes on with a table.
    fn empty_table(&mut self, cx: &mut Cx, user: UserId, table: usize) {
        let Some(which) = TABLES.get(table) else { return self.erase_row(cx, user) };
        if *which == RestTable::Inbox && is(Mutation::LeaveInbox) {
            return self.empty_table(cx, user, table + 1);
        }
        let Some(number) = self.begin_step(cx, user, Step::Rest(table)) else { return };
        let limit = ScanLimit { rows: ENDED_ROWS_AT_ONCE, bytes: usize::MAX };
        let purpose = ScanFor::RestOfEnded(user, number);
        cx.scan(keys::rest_of(user.get(), *which), Direction::Forwards, limit, purpose);
    }

    /// Some rows of a table are known: they go.
    pub(super) fn rest_of_ended_read(
        &mut self,
        cx: &mut Cx,
        (user, number): (UserId, u64),
        rows: Result<Rows, Unreadable>,
    ) {
        let Some(work) = self.erasing.work(user, number) else { return };
        let step = &work.step;
        let Ok(rows) = rows else { return self.erase_later(cx) };
        let table = match step {
            Step::Rest(table) => *table,
            Step::Stories => return self.stories_of_ended_read(cx, user, &rows),
            Step::StoriesHeard if rows.more || rows.rows.iter().any(|(key, _)| says_who_has_story(key)) => {
                return self.erase_later(cx);
            }
            Step::StoriesHeard => return self.empty_table(cx, user, 0),
            _ => return,
        };
        if rows.rows.is_empty() {
            return self.empty_table(cx, user, table + 1);
        }
        work.row.rows += rows.rows.len() as u64;
        if !cx.may_write(0) {
            return self.erase_later(cx);
        }
        for (key, _) in &rows.rows {
            cx.delete(slot_of(user), Key::from_raw(key));
        }
        self.step_written(cx);
    }

    /// Nothing is left but the row that says so.
    fn erase_row(&mut self, cx: &mut Cx, user: UserId) {
        // Somebody may have written to the user when the account ended, who had not heard of that.
        let quiet_ms = ENDED_ROUNDS_MIN * cx.limits().deletion_round_ms;
        let is_early = |row: EndRecord| cx.now_ms < row.ended_ms.saturating_add(quiet_ms);
        let work = self.erasing.work.as_ref();
        if work.is_none_or(|work| work.has_failed || is_early(work.row)) || !cx.may_write(0) {
            return self.erase_later(cx);
        }
        let Some(number) = self.begin_step(cx, user, Step::Over) else { return };
        let then = Then::Erased(user, number);
        cx.delete(slot_of(user), keys::end(user.get()));
        self.after(cx, After { user: None, phone: None, then });
    }

    /// The rows of a step are being removed: that goes with them.
    fn step_written(&mut self, cx: &mut Cx) {
        let Some(Work { user, number, row, .. }) = self.erasing.work.as_ref() else { return };
        let then = Then::Erased(*user, *number);
        cx.put(slot_of(*user), keys::end(user.get()), row);
        self.after(cx, After { user: None, phone: None, then });
    }

    /// An operator wants to see a page of the accounts that are to end, or of which something is left.
    pub(super) fn list_ends(cx: &mut Cx, question: u64, after: Option<&Key>) {
        if may_read_for(cx, question) {
            look_for_ends(cx, after, ScanFor::EndsFor(question));
        }
    }

    /// It is read.
    pub(super) fn ends_listed(cx: &mut Cx, question: u64, rows: Result<Rows, Unreadable>) {
        let Ok(rows) = rows else {
            let why = "that can't be read: see the log".to_owned();
            return cx.answer(question, AdminResponse::Refused(why));
        };
        let ends = rows.rows.iter().filter_map(end_of).collect();
        cx.answer(question, AdminResponse::Ends { ends, next: rows.goes_on_behind() });
    }
}

/// Has a chat do without a user who is no more.
fn part(cx: &mut Cx, parting: Parting) {
    let Parting { user, log, .. } = parting;
    let LogId::Group(_) = log else { return cx.tell_log(log, LogOp::Part(parting)) };
    // As if the user had left, which all members see.
    let left = v1::GroupChange { change: Some(v1::group_change::Change::Left(v1::Left {})) };
    let (by, body) = (Author::server_for(user), left.encode_to_vec().into());
    let send = Send::new(Asker::Parting(parting), by, LEAVES, KIND_GROUP, body);
    let send = Send { epoch: cx.epoch(Slot::of_log(log)), ..send };
    cx.tell_log(log, LogOp::DevicesChanged(user, None));
    cx.tell_log(log, LogOp::Send(Box::new(send)));
}

fn look_for_ends(cx: &mut Cx, after: Option<&Key>, purpose: ScanFor) {
    let limit = ScanLimit { rows: ENDED_ROWS_AT_ONCE, bytes: usize::MAX };
    cx.scan(keys::all_ends(after), Direction::Forwards, limit, purpose);
}

/// Whose row it is, and what it says.
fn end_of((key, value): &Row) -> Option<(UserId, EndRecord)> {
    Some((UserId::new(keys::user_of_end(key)?)?, EndRecord::decode(&value[..]).ok()?))
}

/// Whether a row says who has a story of a user's, so that they are still to hear that it is gone.
fn says_who_has_story(key: &[u8]) -> bool {
    matches!(keys::story_row(key), Some((_, keys::StoryRow::Told(..))))
}
