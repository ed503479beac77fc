//! What people tell the operators of others: a row for each report, with the reported user, until an operator is done with it and for a
//! while after. Whoever is reported learns nothing, and whoever reports learns nothing but that it was noted.

use bytes::Bytes;
use prost::Message as _;
use tern_storage::records::ReportRecord;
use tern_storage::{Direction, Key, LogId, Row, Rows, ScanLimit, Slot, keys};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::UserId;
use tern_wire::report::{About, Report};

use super::operators::may_read_for;
use super::relations::UNKNOWN_USER;
use super::users::Ask;
use super::waits::{After, GetFor, ScanFor, Then};
use super::{Accounts, Cx, slot_of};
use crate::admin::{AdminResponse, ReportId, ReportView};
use crate::entry::log_of;
use crate::limits::{REPORTS_OF_ONE_MAX, REPORTS_PAGE_ROWS, REPORTS_ROUND_MS};
use crate::message::{Filed, LogOp, Message, Reporting, Unreadable, UserOp};
use crate::reply::{Origin, Reply};

const OWN: Refusal = Refusal::new(Reason::InvalidArgument, "one does not report oneself");
const UNREADABLE: Refusal = Refusal::for_now(Reason::Unavailable, 1000, "the reports can't be read");

impl Accounts {
    /// A user tells the operators of somebody. Where the messages are, it is known whose they are.
    pub(super) fn report(&mut self, cx: &mut Cx, id: UserId, origin: Origin, report: Report) {
        if let Err(refusal) = self.budgets.report(id, cx.now_ms) {
            return cx.refuse(origin, refusal);
        }
        match &report.about {
            About::Person(reported) if *reported == id => cx.refuse(origin, OWN),
            About::Person(reported) => {
                let (reported, number) = (*reported, report.client_id.0);
                let (category, comment) = (report.category.into(), report.comment);
                let record = ReportRecord { category, comment, ..ReportRecord::default() };
                let filed = Filed { reporter: id, number, record };
                cx.ask(origin, Message::User(reported, UserOp::File(origin, Box::new(filed))));
            }
            About::Messages(chat, seqs) => {
                let (log, seqs) = (log_of(id, *chat), seqs.clone());
                let reporting = Reporting { origin, reporter: id, seqs, report };
                cx.ask_log(origin, log, LogOp::Report(Box::new(reporting)));
            }
        }
    }

    /// Somebody tells the operators of a user who is known: it may have been said before.
    pub(super) fn file(&mut self, cx: &mut Cx, id: UserId, origin: Origin, filed: Box<Filed>) {
        if self.record(id).is_none() {
            return cx.refuse(origin, UNKNOWN_USER);
        }
        let limit = ScanLimit { rows: REPORTS_OF_ONE_MAX, bytes: usize::MAX };
        let range = keys::reports_of(id.get());
        cx.scan(range, Direction::Forwards, limit, ScanFor::Reports(id, origin, filed));
    }

    /// The reports of a user are read, of whom there is another one.
    pub(super) fn reports_read(
        &mut self,
        cx: &mut Cx,
        id: UserId,
        (origin, filed): (Origin, Box<Filed>),
        rows: Result<Rows, Unreadable>,
    ) {
        let Ok(rows) = rows else { return cx.refuse(origin, UNREADABLE) };
        let key = keys::report(id.get(), filed.reporter.get(), filed.number);
        let is_there = rows.rows.iter().any(|(other, _)| other[..] == *key.as_ref());
        if is_there || rows.rows.len() >= REPORTS_OF_ONE_MAX {
            return cx.reply(origin, Reply::Reported);
        }
        self.ask_user(cx, id, Ask::File(origin, filed));
    }

    /// The content filter has operators see something of a user's: is there room for it? Its log writes it, with the message.
    pub(super) fn may_flag(cx: &mut Cx, id: UserId, log: LogId, number: u64) {
        let limit = ScanLimit { rows: REPORTS_OF_ONE_MAX, bytes: usize::MAX };
        let range = keys::reports_of(id.get());
        cx.scan(range, Direction::Forwards, limit, ScanFor::Flags(id, log, number));
    }

    /// The reports of a user are read.
    pub(super) fn flags_read(cx: &mut Cx, log: LogId, number: u64, rows: Result<Rows, Unreadable>) {
        let room = rows.map(|rows| (rows.rows.len() < REPORTS_OF_ONE_MAX).then_some(1));
        cx.tell_log(log, LogOp::Permit(number, room.map_err(|_| UNREADABLE)));
    }

    /// Notes a report of a user who is known.
    pub(super) fn note_report(&mut self, cx: &mut Cx, id: UserId, origin: Origin, filed: &Filed) {
        if !cx.may_write(0) {
            let refusal = cx.overloaded();
            return cx.refuse(origin, refusal);
        }
        let record = ReportRecord { created_ms: cx.now_ms, ..filed.record.clone() };
        cx.put(slot_of(id), keys::report(id.get(), filed.reporter.get(), filed.number), &record);
        self.after(cx, After::of_user(id, Then::Reply(origin, Reply::Reported)));
    }

    /// An operator wants to see a page of all reports, whose slots they may be: what is durable anybody reads.
    pub(super) fn list_reports(cx: &mut Cx, question: u64, after: Option<&Key>, open: bool) {
        if !may_read_for(cx, question) {
            return;
        }
        let limit = ScanLimit { rows: REPORTS_PAGE_ROWS, bytes: usize::MAX };
        let range = keys::all_reports(after);
        cx.scan(range, Direction::Forwards, limit, ScanFor::AllReports(question, open));
    }

    /// They are read.
    pub(super) fn reports_listed(cx: &mut Cx, question: u64, open: bool, rows: Result<Rows, Unreadable>) {
        let Ok(rows) = rows else { return cx.answer(question, unreadable()) };
        let next = rows.goes_on_behind();
        let views: Option<Vec<_>> = rows.rows.into_iter().map(view).collect();
        let answer = match views {
            Some(mut reports) => {
                reports.retain(|report| !open || report.record.resolved_ms == 0);
                AdminResponse::Reports { reports, next }
            }
            None => unreadable(),
        };
        cx.answer(question, answer);
    }

    /// An operator wants to see a report, or is done with it: that it is, so.
    pub(super) fn read_report(cx: &mut Cx, question: u64, id: ReportId, resolved_as: Option<String>) {
        if may_read_for(cx, question) {
            cx.get(id.key(), GetFor::Report(question, id, resolved_as));
        }
    }

    /// It is read.
    pub(super) fn report_read(
        &mut self,
        cx: &mut Cx,
        (question, id, resolved_as): (u64, ReportId, Option<String>),
        value: Result<Option<Bytes>, Unreadable>,
    ) {
        let Ok(value) = value else { return cx.answer(question, unreadable()) };
        let Some(record) = value.map(ReportRecord::decode) else {
            return cx.answer(question, AdminResponse::Report(None));
        };
        match (record, resolved_as) {
            (Err(_), _) => {
                cx.damaged("a report", &id.key());
                cx.answer(question, unreadable());
            }
            (Ok(record), None) => {
                cx.answer(question, AdminResponse::Report(Some(Box::new(ReportView { id, record }))));
            }
            (Ok(record), Some(resolved_as)) => {
                let resolved = ReportRecord { resolved_ms: cx.now_ms.max(1), resolved_as, ..record };
                self.ask_user(cx, id.reported, Ask::Resolve(question, id, Box::new(resolved)));
            }
        }
    }

    /// Notes that an operator is done with a report. Its user is in memory, whether it lives or not.
    pub(super) fn note_resolved(&mut self, cx: &mut Cx, question: u64, id: ReportId, record: ReportRecord) {
        let slot = slot_of(id.reported);
        if !cx.is_here(slot) || !cx.may_write(0) {
            let why = "that account is another core's, or too much is under way: ask again".to_owned();
            return cx.answer(question, AdminResponse::Refused(why));
        }
        cx.put(slot, id.key(), &record);
        let view = AdminResponse::Report(Some(Box::new(ReportView { id, record })));
        self.after(cx, After::of_user(id.reported, Then::Answer(question, view)));
    }

    /// Time has passed: reports that are kept no longer are looked for, now and then.
    pub(super) fn go_round_reports(&mut self, cx: &mut Cx) {
        if self.reports_round.begins(cx.now_ms, REPORTS_ROUND_MS, cx.may_read()) {
            look_for_old(cx, None);
        }
    }

    /// Some of them are read.
    pub(super) fn old_reports_read(&mut self, cx: &mut Cx, rows: Result<Rows, Unreadable>) {
        let kept_ms = cx.limits().reports_kept_ms;
        self.reports_round.is_read(false);
        let Ok(rows) = rows else { return };
        let last = rows.goes_on_behind();
        for row in rows.rows {
            let Some(ReportView { id, record }) = view(row) else { continue };
            let slot: Slot = slot_of(id.reported);
            let is_old = record.resolved_ms > 0 && record.resolved_ms.saturating_add(kept_ms) <= cx.now_ms;
            if is_old && cx.is_here(slot) && cx.may_write(0) {
                cx.delete_lazily(slot, id.key());
            }
        }
        if let Some(last) = last.filter(|_| cx.may_read()) {
            self.reports_round.is_read(true);
            look_for_old(cx, Some(&last));
        }
    }
}

fn look_for_old(cx: &mut Cx, after: Option<&Key>) {
    let limit = ScanLimit { rows: REPORTS_PAGE_ROWS, bytes: usize::MAX };
    cx.scan(keys::all_reports(after), Direction::Forwards, limit, ScanFor::OldReports);
}

fn unreadable() -> AdminResponse {
    AdminResponse::Refused("the reports can't be read: see the log".to_owned())
}

/// A report as a row says it; `None` if it is not what was written.
fn view((key, value): Row) -> Option<ReportView> {
    let (reported, reporter, number) = keys::report_of(&key)?;
    let id = ReportId { reported: UserId::new(reported)?, reporter: UserId::new(reporter)?, number };
    Some(ReportView { id, record: ReportRecord::decode(value).ok()? })
}
