//! Messages that a member reports to the operators: attached as the reporter sees them, by the owner of the log, so that nobody can
//! forge what another one has said.

use tern_storage::records::{ReportRecord, ReportedMessage};
use tern_storage::{Direction, LogId, ScanLimit};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::UserId;
use tern_wire::message::{Deed, is_message};

use super::group::UNKNOWN_GROUP;
use super::read::Purpose;
use super::{Cx, Logs};
use crate::entry::Entry;
use crate::limits::REPORTED_BODY_BYTES_MAX;
use crate::message::{Filed, Message, Reporting, UserOp};
use crate::mutations::{Mutation, is};

const NO_SUCH_MESSAGE: Refusal =
    Refusal::new(Reason::NoSuchMessage, "there is no such message in the chat for this to be about");
const DELETED: Refusal = Refusal::new(Reason::MessageDeleted, "that message is deleted");
const OWN: Refusal = Refusal::new(Reason::InvalidArgument, "one does not report oneself");
const SEVERAL: Refusal = Refusal::new(Reason::InvalidArgument, "the messages of a report are of one author");

impl Logs {
    /// Reads messages that a member reports, if they are for that member to see.
    pub(super) fn report(&mut self, cx: &mut Cx, id: LogId, reporting: Box<Reporting>) {
        let log = self.known(id);
        let durable = log.durable.seq();
        let Some(member) = log.seen_member(reporting.reporter) else {
            return cx.refuse(reporting.origin, UNKNOWN_GROUP);
        };
        let (oldest, head) = (log.first_of(member.first()), member.visible(durable));
        let seqs = &reporting.seqs;
        let (first, last) = (seqs[0], seqs[seqs.len() - 1]);
        if first < oldest || last > head {
            return cx.refuse(reporting.origin, NO_SUCH_MESSAGE);
        }
        let all = ScanLimit { rows: usize::MAX, bytes: usize::MAX };
        let range = (first.0, last.0 + 1);
        self.read_entries(cx, id, range, Direction::Forwards, all, Purpose::Report(reporting));
    }

    /// They are read: their author's owner files the report.
    pub(super) fn reported(&mut self, cx: &mut Cx, id: LogId, reporting: Reporting, entries: &[Entry]) {
        let Reporting { origin, reporter, seqs, report } = reporting;
        let named = entries.iter().filter(|entry| seqs.contains(&entry.seq));
        let now_ms = cx.now_ms;
        let messages: Result<Vec<_>, Refusal> = named.map(|entry| seen(entry, reporter, now_ms)).collect();
        let (author, messages) = match messages.and_then(of_one) {
            Ok((author, _)) if author == reporter => return cx.refuse(origin, OWN),
            Ok(found) => found,
            Err(refusal) => return cx.refuse(origin, refusal),
        };
        let group = match id {
            LogId::Group(group) => group,
            LogId::Direct(..) | LogId::Private(_) => 0,
        };
        let (category, comment) = (report.category.into(), report.comment);
        let record = ReportRecord { category, comment, group, messages, ..ReportRecord::default() };
        let filed = Filed { reporter, number: report.client_id.0, record };
        cx.ask(origin, Message::User(author, UserOp::File(origin, Box::new(filed))));
    }
}

/// A message as its reader sees it, with its author.
fn seen(entry: &Entry, reader: UserId, now_ms: u64) -> Result<(UserId, ReportedMessage), Refusal> {
    let is_said = is_message(entry.kind) || Deed::of(entry.kind) == Some(Deed::Edit);
    let is_seen = !entry.is_withheld_from(reader) || is(Mutation::AttachWithheld);
    if !is_said || !is_seen {
        return Err(NO_SUCH_MESSAGE);
    }
    if entry.is_gone(now_ms) {
        return Err(DELETED);
    }
    let body = entry.body.slice(..entry.body.len().min(REPORTED_BODY_BYTES_MAX));
    let about = entry.envelope.as_ref().map_or(0, |envelope| envelope.about.0);
    let (seq, time_ms, kind, bytes) = (entry.seq.0, entry.time_ms, entry.kind, entry.body.len() as u32);
    Ok((entry.author.user, ReportedMessage { seq, time_ms, kind, body, bytes, about }))
}

/// The author of all of them.
fn of_one(messages: Vec<(UserId, ReportedMessage)>) -> Result<(UserId, Vec<ReportedMessage>), Refusal> {
    let author = messages.first().map(|(author, _)| *author).ok_or(NO_SUCH_MESSAGE)?;
    if messages.iter().any(|(other, _)| *other != author) {
        return Err(SEVERAL);
    }
    Ok((author, messages.into_iter().map(|(_, message)| message).collect()))
}
