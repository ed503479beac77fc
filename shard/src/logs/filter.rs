//! What a content filter outside must have seen before it is appended. It is asked last, when nothing else is in the way; the message
//! waits at the head of its log's queue, and all is decided anew when the answer has come. Those behind it wait, so that a chat keeps its
//! order, and are asked about meanwhile: so one slow answer holds up a chat once, and not once a message. Other logs do not wait.
//!
//! An answer belongs to a log and a number. One that comes late, or for a log that was read again, finds nobody. The filter is asked
//! about what the server can read: a body that says nothing in words, or is none that clients can read, passes unasked.

use std::collections::VecDeque;

use prost::Message as _;
use tern_proto::v1::{self, Category, Kind};
use tern_storage::records::{ReportRecord, ReportedMessage};
use tern_storage::{LogId, Slot, keys};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::group::Change;
use tern_wire::limits::NUMBERS_END;
use xxhash_rust::xxh3::Xxh3;

use super::append::Tried;
use super::{Cx, Log, Logs};
use crate::effects::{Filtering, Question, Verdict};
use crate::entry::{Entry, peer_of};
use crate::limits::{REPORTED_BODY_BYTES_MAX, UNSEEN_RETRY_MS};
use crate::message::{Look, Send, UserOp};
use crate::mutations::{Mutation, is};

const FILTERED: Refusal = Refusal::new(Reason::Filtered, "the operators of this server do not let that pass");
const UNSEEN: Refusal = Refusal::for_now(
    Reason::Unavailable,
    UNSEEN_RETRY_MS,
    "what is said here is looked at before, and that can't be done now",
);

/// What the filter of a core is asked about and has not answered for, as far as is known: since when, the oldest first.
#[derive(Default, Debug)]
pub(super) struct Looking {
    asked: u64,
    under_way: VecDeque<(u64, LogId, u64)>,
}

impl Log {
    /// The message at the head of the queue is being decided on, and may rest on what was read. One that waits for the filter does not.
    pub(super) fn is_deciding(&self) -> bool {
        self.sends.front().is_some_and(|send| !send.permits.waits_for_look)
    }

    /// What a message says in words, if anything: all that a client would show of it.
    fn said_by(&self, send: &Send) -> Option<String> {
        let kind = Kind::try_from(send.kind).ok()?;
        let said = match kind {
            Kind::Text => lossy(&send.body),
            Kind::Reaction => lossy(&send.body).filter(|text| text.contains(char::is_alphabetic)),
            Kind::Media => in_media(&send.body),
            Kind::Location => v1::Location::decode(&send.body[..]).ok().map(|place| place.name),
            // Not the numbers.
            Kind::Contact => v1::ContactCard::decode(&send.body[..]).ok().map(|card| card.name),
            Kind::Poll => {
                v1::Poll::decode(&send.body[..]).ok().map(|poll| lines(&poll.question, &poll.answers))
            }
            Kind::Edit if is(Mutation::PassUnasked) => None,
            Kind::Edit => match self.kind_of_edited(send) {
                Some(Kind::Media) => in_media(&send.body).or_else(|| lossy(&send.body)),
                _ => lossy(&send.body),
            },
            Kind::Group => match Change::parse(&send.body).ok()? {
                Change::Made(made) => Some(lines(&made.name, &[made.description])),
                Change::Name(text) | Change::Description(text) => Some(text),
                _ => None,
            },
            Kind::Lost
            | Kind::Call
            | Kind::Deletion
            | Kind::Vote
            | Kind::Pin
            | Kind::Unpin
            | Kind::Private
            | Kind::Timer
            | Kind::Withheld => None,
        };
        said.filter(|text| !text.trim().is_empty())
    }

    fn kind_of_edited(&self, send: &Send) -> Option<Kind> {
        let about = send.envelope.as_ref()?.about;
        let read = || send.read.iter().find(|entry| entry.seq == about);
        let edited = self.newest_of(about).map(|entry| &**entry).or_else(read)?;
        Kind::try_from(edited.kind).ok()
    }
}

/// What is no UTF-8 is shown so.
fn lossy(body: &[u8]) -> Option<String> {
    Some(String::from_utf8_lossy(body).into_owned())
}

fn in_media(body: &[u8]) -> Option<String> {
    v1::Media::decode(body).ok().map(|media| lines(&media.caption, &[media.name]))
}

fn lines(first: &str, others: &[String]) -> String {
    let others = others.iter().map(String::as_str);
    let said: Vec<_> = [first].into_iter().chain(others).filter(|line| !line.is_empty()).collect();
    said.join("\n")
}

/// Whether the filter is asked about what somebody says in a log.
fn is_asked_about(filtering: Filtering, id: LogId, send: &Send) -> bool {
    match id {
        LogId::Private(_) => false,
        LogId::Group(_) => filtering.groups,
        // What one notes for oneself nobody else sees.
        LogId::Direct(..) => filtering.direct && peer_of(id, send.author.user) != Some(send.author.user),
    }
}

/// Names a message, and says nothing of it.
fn name_of(id: LogId, send: &Send) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(keys::log(id).as_ref());
    hasher.update(&send.author.user.get().to_le_bytes());
    hasher.update(&send.author.device.get().to_le_bytes());
    hasher.update(&send.client_id.0.to_le_bytes());
    hasher.digest()
}

impl Logs {
    /// Gives a message back that may be appended as far as the filter goes. Any other one is refused, or waits at the head of the queue.
    pub(super) fn looked_at(
        &mut self,
        cx: &mut Cx,
        id: LogId,
        mut send: Box<Send>,
    ) -> Result<Box<Send>, Tried> {
        let Some(filtering) = cx.filtering() else { return Ok(send) };
        if send.permits.look == Look::Not {
            self.ask_filter(cx, filtering, id, &mut send);
        }
        let passes_unanswered = filtering.passes_unanswered || is(Mutation::PassUnanswered);
        let refusal = match send.permits.look {
            Look::Not | Look::Seen(Verdict::Pass) | Look::Flagged(_) => return Ok(send),
            Look::Seen(Verdict::Unanswered) if passes_unanswered => return Ok(send),
            Look::Seen(Verdict::Unanswered) => UNSEEN,
            Look::Seen(Verdict::Refuse) => FILTERED,
            // Who was asked for room may be gone: then it is asked again.
            Look::Seen(Verdict::Report) | Look::Flagging => {
                send.permits.look = Look::Flagging;
                let author = send.author.user;
                let ask = UserOp::MayFlag(id, self.next_ask());
                self.ask_first(cx, id, send, (author, ask));
                return Err(Tried::Held);
            }
            Look::Asked(_) => {
                // Meanwhile what was read of what it is about grows old.
                send.read.clear();
                send.permits.waits_for_look = true;
                self.known(id).sends.push_front(send);
                return Err(Tried::Held);
            }
        };
        cx.refuse(send.asker, refusal);
        Err(Tried::Settled)
    }

    /// A message waits behind others: it is looked at meanwhile. What an edit is about is not known yet.
    pub(super) fn look_ahead(&mut self, cx: &mut Cx, id: LogId, mut send: Box<Send>) -> Box<Send> {
        let is_edit = send.kind == i32::from(Kind::Edit);
        if let Some(filtering) = cx.filtering().filter(|_| !is_edit) {
            self.ask_filter(cx, filtering, id, &mut send);
            if send.permits.look == Look::Seen(Verdict::Unanswered) {
                // Its turn is later.
                send.permits.look = Look::Not;
            }
        }
        send
    }

    /// Asks about a message, if it is to be asked about.
    fn ask_filter(&mut self, cx: &mut Cx, filtering: Filtering, id: LogId, send: &mut Send) {
        if !is_asked_about(filtering, id, send) {
            return;
        }
        let Some(text) = self.known(id).said_by(send) else { return };
        self.looking.asked += 1;
        let (number, sender) = (self.looking.asked, send.author.user);
        let question = Question { log: id, number, id: name_of(id, send), sender, kind: send.kind, text };
        send.permits.look = if cx.look_at(question) {
            self.looking.under_way.push_back((cx.now_ms, id, number));
            Look::Asked(number)
        } else {
            Look::Seen(Verdict::Unanswered)
        };
    }

    /// The filter has answered, or does not. If the log came into doubt meanwhile, its message has been answered too.
    pub(crate) fn seen(&mut self, cx: &mut Cx, id: LogId, number: u64, verdict: Verdict) {
        let Some(log) = self.logs.get_mut(&id).filter(|log| log.held.is_known()) else { return };
        let is_asked = |send: &&mut Box<Send>| send.permits.look == Look::Asked(number);
        let Some(send) = log.sends.iter_mut().find(is_asked) else { return };
        send.permits.look = Look::Seen(verdict);
        let goes_on =
            |send: &mut Box<Send>| send.permits.waits_for_look && matches!(send.permits.look, Look::Seen(_));
        let Some(mut send) = log.sends.pop_front_if(goes_on) else { return };
        send.permits.waits_for_look = false;
        if self.try_append(cx, id, send) == Tried::Settled {
            self.append_waiting(cx, id);
        }
        self.part_from_guests(cx, id);
    }

    /// What the filter has not answered for in time, it says nothing about.
    pub(super) fn end_overdue_looks(&mut self, cx: &mut Cx) {
        let Some(filtering) = cx.filtering() else { return };
        while let Some((asked_ms, id, number)) = self.looking.under_way.front_mut() {
            // The clock may have been set back: what is ahead of it counts as now.
            *asked_ms = (*asked_ms).min(cx.now_ms);
            if cx.now_ms - *asked_ms < filtering.timeout_ms {
                return;
            }
            let (id, number) = (*id, *number);
            self.looking.under_way.pop_front();
            self.seen(cx, id, number, Verdict::Unanswered);
        }
    }
}

/// Has operators see an entry: a report by the server, in the batch of the entry, so that there is none without the other.
pub(super) fn write_flag(cx: &mut Cx, by: Slot, entry: &Entry) {
    let author = entry.author.user.get();
    let mut hasher = Xxh3::new();
    hasher.update(keys::entry(entry.log, entry.seq.0).as_ref());
    let number = hasher.digest() % NUMBERS_END;
    let body = entry.body.slice(..entry.body.len().min(REPORTED_BODY_BYTES_MAX));
    let message = ReportedMessage {
        seq: entry.seq.0,
        time_ms: entry.time_ms,
        kind: entry.kind,
        body,
        bytes: entry.body.len() as u32,
        about: entry.about().0,
    };
    let record = ReportRecord {
        created_ms: cx.now_ms,
        category: Category::Filtered.into(),
        group: if let LogId::Group(group) = entry.log { group } else { 0 },
        messages: vec![message],
        ..ReportRecord::default()
    };
    // Nobody reports oneself: it is the server's word.
    cx.put(by, keys::report(author, author, number), &record);
}
