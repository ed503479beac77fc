//! A logged-in device: its requests, and its pushes.
//!
//! One mechanism brings a device up to date, whatever kept it behind (it was away, it reads slowly, its credit is used
//! up): the log is noted as *behind* with the place to go on from, and its owner is asked for page after page until
//! one says that nothing follows. While a log is behind, what is appended to it is not pushed, for a page will bring
//! it; as a page's last word and the next append come from the same core in order, nothing falls between.

use std::collections::VecDeque;
use std::sync::Arc;

use tern_proto::v1::{self, server_frame};
use tern_storage::{LogId, Slot};
use tern_wire::errors::{Farewell, Reason, Refusal};
use tern_wire::ids::{Seq, UserId};
use tern_wire::request::{Acknowledge, Credit, History, Lookup, Position, PushWindow, Request, Send};

use crate::Cx;
use crate::effects::Stage;
use crate::entry::{Author, Entry, peer_of};
use crate::limits::{INBOX_LOGS_MAX, LOOKUP_WINDOW_MS, PULLS_MAX};
use crate::maps::Map;
use crate::message::{LogOp, Message, Page, PhoneOp, Pull, Watermarks};
use crate::reply::{ConnId, Origin, Reply};
use crate::shard::Shard;

/// The state of one logged-in connection.
#[derive(Debug)]
pub struct Session {
    author: Author,
    window: PushWindow,
    /// Totals of pushed frames and bytes, and of those that the client has confirmed.
    pushed: (u64, u64),
    credited: (u64, u64),
    progress: Progress,
    /// What the device lacks; there only while it lacks something.
    lag: Option<Box<Lag>>,
    pulls: u32,
    lookups: u32,
    /// When the counted lookups began, in seconds since the Unix epoch.
    lookups_since_s: u32,
}

/// Logs that a device is behind in.
#[derive(Debug, Default)]
struct Lag {
    behind: Map<LogId, Behind>,
    /// Those that have no pull under way, each once.
    ready: VecDeque<LogId>,
}

/// How far the pushes have come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    /// `Resume` has not come: nothing is pushed.
    Silent,
    /// The inbox is being read from the store. Every log counts as behind.
    ReadingInbox,
    /// The logs that were behind at `Resume` are being brought up to date.
    CatchingUp,
    /// `CaughtUp` has been pushed.
    CaughtUp,
}

/// A log that the device is behind in.
#[derive(Clone, Copy, Debug)]
struct Behind {
    /// Where to go on; `None`: behind the device's last acknowledgement.
    from: Option<Seq>,
    /// The device's inbox holds the log's mark, if anything is missing.
    marked: bool,
    /// It began behind the last acknowledgement, and nothing was pushed since.
    clean: bool,
    /// The peer's watermarks as the device knows them.
    known: Option<Watermarks>,
}

/// Beyond the last entry of any log: nothing is missing but the watermarks.
const NO_ENTRY: Seq = Seq(u64::MAX);

impl Session {
    /// A session that pushes nothing yet.
    pub fn new(author: Author, window: PushWindow) -> Self {
        Self {
            author,
            window,
            pushed: (0, 0),
            credited: (0, 0),
            progress: Progress::Silent,
            lag: None,
            pulls: 0,
            lookups: 0,
            lookups_since_s: 0,
        }
    }

    /// The device that it stands for.
    pub fn author(&self) -> Author {
        self.author
    }

    fn is_behind(&self, log: LogId) -> bool {
        self.lag.as_deref().is_some_and(|lag| lag.behind.contains_key(&log))
    }

    fn logs_behind(&self) -> usize {
        self.lag.as_deref().map_or(0, |lag| lag.behind.len())
    }

    fn has_credit(&self) -> bool {
        let within = |max: u32, pushed: u64, credited: u64| max == 0 || pushed - credited < u64::from(max);
        within(self.window.frames, self.pushed.0, self.credited.0)
            && within(self.window.bytes, self.pushed.1, self.credited.1)
    }

    /// Notes that the device lacks entries of a log from `from` on.
    fn fall_behind(&mut self, log: LogId, from: Option<Seq>, known: Option<Watermarks>, marked: bool) {
        let lag = self.lag.get_or_insert_default();
        match lag.behind.entry(log) {
            hashbrown::hash_map::Entry::Occupied(mut behind) => {
                let behind = behind.get_mut();
                // What the client said, or what is known by now, goes before "behind the last acknowledgement".
                behind.from = behind.from.map(|one| from.map_or(one, |other| one.min(other)));
                behind.marked |= marked;
            }
            hashbrown::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(Behind { from, known, marked, clean: from.is_none() });
                lag.ready.push_back(log);
            }
        }
    }
}

impl Shard {
    /// A request that only a logged-in connection may make.
    pub(crate) fn session_request(&mut self, cx: &mut Cx, origin: Origin, request: Request) {
        let Some(session) = self.conns.session(origin.conn) else { return };
        let author = session.author;
        match request {
            Request::Send(send) => self.send(cx, origin, author, send),
            Request::Acknowledge(acknowledge) => self.acknowledge(cx, origin, author, acknowledge),
            Request::History(history) => self.history(cx, origin, author.user, history),
            Request::Resume(positions) => self.resume(cx, origin, &positions),
            Request::Lookup(lookup) => self.lookup(cx, origin, author.user, lookup),
            Request::Hello(_)
            | Request::Register(_)
            | Request::Verify(_)
            | Request::Refresh(_)
            | Request::Login(_)
            | Request::Credit(_)
            | Request::Ping => unreachable!("handled before, or not admitted in this state"),
        }
    }

    fn send(&mut self, cx: &mut Cx, origin: Origin, author: Author, send: Send) {
        if send.body.len() > self.limits.body_bytes_max {
            let refusal = Refusal::new(Reason::BodyTooLarge, "the body is longer than Limits.body_bytes_max");
            return self.respond(cx, origin, Reply::Refused(refusal));
        }
        let Send { peer, client_id, kind, body } = send;
        cx.fx.passed(author, client_id, Stage::Decrypted);
        self.ask_log(cx, origin, author.user, peer, LogOp::Send { origin, author, client_id, kind, body });
    }

    fn acknowledge(&mut self, cx: &mut Cx, origin: Origin, author: Author, acknowledge: Acknowledge) {
        let Acknowledge { peer, delivered_upto, read_upto } = acknowledge;
        let upto = Watermarks { delivered: delivered_upto, read: read_upto };
        self.ask_log(cx, origin, author.user, peer, LogOp::Acknowledge { origin, author, upto });
    }

    fn history(&mut self, cx: &mut Cx, origin: Origin, reader: UserId, history: History) {
        let History { peer, from, forwards, limit } = history;
        let max = self.limits.history_entries_max;
        let limit = if limit == 0 { max } else { max.min(limit as usize) };
        self.ask_log(cx, origin, reader, peer, LogOp::History { origin, reader, from, forwards, limit });
    }

    fn lookup(&mut self, cx: &mut Cx, origin: Origin, asker: UserId, lookup: Lookup) {
        let Some(session) = self.conns.session(origin.conn) else { return };
        let until_ms = |since_s: u32| u64::from(since_s) * 1000 + LOOKUP_WINDOW_MS;
        if cx.now_ms >= until_ms(session.lookups_since_s) {
            (session.lookups, session.lookups_since_s) = (0, cx.now_ms.div_ceil(1000) as u32);
        }
        session.lookups += 1;
        if session.lookups > self.limits.lookups_per_minute_max {
            let wait_ms = (until_ms(session.lookups_since_s) - cx.now_ms) as u32;
            let refusal = Refusal::for_now(Reason::RateLimited, wait_ms, "too many lookups in a minute");
            return self.respond(cx, origin, Reply::Refused(refusal));
        }
        match lookup {
            Lookup::Phone(phone) => self.ask_phone(cx, origin, phone, PhoneOp::Lookup(origin)),
            Lookup::User(peer) => {
                self.ask_log(cx, origin, asker, peer, LogOp::Describe { origin, reader: asker })
            }
        }
    }

    fn ask_log(&mut self, cx: &mut Cx, origin: Origin, user: UserId, peer: UserId, op: LogOp) {
        let log = LogId::direct(user.get(), peer.get());
        let owner = self.slots.owner(Slot::of_log(log));
        self.ask(cx, owner, origin, Message::Log(log, op));
    }

    /// Starts the pushes. A second `Resume` asks again for the logs that it lists.
    fn resume(&mut self, cx: &mut Cx, origin: Origin, positions: &[Position]) {
        let Some(session) = self.conns.session(origin.conn) else { return };
        if session.logs_behind() + positions.len() > INBOX_LOGS_MAX {
            let refusal = self.overloaded();
            return self.respond(cx, origin, Reply::Refused(refusal));
        }
        for position in positions {
            let log = LogId::direct(session.author.user.get(), position.peer.get());
            let known = Watermarks { delivered: position.delivered_upto, read: position.read_upto };
            session.fall_behind(log, Some(Seq(position.upto.0.saturating_add(1))), Some(known), false);
        }
        let (author, first) = (session.author, session.progress == Progress::Silent);
        self.respond(cx, origin, Reply::Resumed);
        if first {
            match self.users.inbox(author) {
                Some(logs) => self.inbox_read(cx, origin.conn, logs, true, true),
                None => {
                    if let Some(session) = self.conns.session(origin.conn) {
                        session.progress = Progress::ReadingInbox;
                    }
                    self.read_inbox(cx, origin.conn, author, None);
                }
            }
        } else {
            self.advance(cx, origin.conn);
        }
    }

    /// A part of the device's inbox is known: these logs are behind.
    pub(crate) fn inbox_read(
        &mut self,
        cx: &mut Cx,
        id: ConnId,
        logs: Vec<LogId>,
        marked: bool,
        whole: bool,
    ) {
        let Some(session) = self.conns.session(id) else { return };
        for log in logs {
            session.fall_behind(log, None, None, marked);
        }
        if whole {
            session.progress = Progress::CatchingUp;
        }
        self.advance(cx, id);
    }

    /// Pushes an entry to a device, or notes that it is behind.
    pub(crate) fn push_entry(&mut self, cx: &mut Cx, id: ConnId, entry: &Arc<Entry>) {
        let Some(session) = self.conns.session(id).filter(|s| s.progress != Progress::Silent) else { return };
        if session.progress == Progress::ReadingInbox && !session.is_behind(entry.log) {
            // What the device has of this log is not known yet: go on from its acknowledgement.
            session.fall_behind(entry.log, None, None, false);
            return;
        }
        let (reader, is_behind) = (session.author.user, session.is_behind(entry.log));
        if is_behind || !self.may_push(cx, id) {
            let Some(session) = self.conns.session(id) else { return };
            session.fall_behind(entry.log, Some(entry.seq), None, false);
        } else {
            self.push(cx, id, server_frame::Message::Entry(entry.view(reader, false)));
            cx.fx.passed(entry.author, entry.client_id, Stage::Delivered);
        }
    }

    /// Pushes a member's watermarks, or notes that the device is behind.
    pub(crate) fn push_receipt(
        &mut self,
        cx: &mut Cx,
        id: ConnId,
        log: LogId,
        member: UserId,
        marks: Watermarks,
    ) {
        let Some(session) = self.conns.session(id).filter(|s| s.progress != Progress::Silent) else { return };
        if session.is_behind(log) {
            return; // The last page brings them.
        }
        if self.may_push(cx, id) {
            self.push_watermarks(cx, id, log, member, marks);
        } else if let Some(session) = self.conns.session(id) {
            session.fall_behind(log, Some(NO_ENTRY), None, false);
        }
    }

    /// A page has come: push what it holds as far as may be, and go on from there.
    pub(crate) fn page(&mut self, cx: &mut Cx, id: ConnId, page: &Page) {
        let Some(session) = self.conns.session(id) else { return };
        session.pulls -= 1;
        if page.failed {
            let farewell = Farewell::new(Reason::Unavailable, "a log can't be read");
            return self.farewell(cx, id, farewell);
        }
        let (user, log) = (session.author.user, page.log);
        let mut next = page.next;
        for entry in &page.entries {
            if !self.may_push(cx, id) {
                next = entry.seq;
                break;
            }
            self.push(cx, id, server_frame::Message::Entry(entry.view(user, false)));
        }
        let pushed_all = next == page.next;
        let Some(session) = self.conns.session(id) else { return };
        let author = session.author;
        let Some(lag) = session.lag.as_deref_mut() else { return };
        let Some(behind) = lag.behind.get_mut(&log) else { return };
        let known = behind.known;
        behind.clean &= page.entries.is_empty();
        let clean = behind.clean;
        if behind.from.is_some_and(|from| from < page.first) {
            // Something was appended after the page had been asked for, before where it began.
            lag.ready.push_back(log);
        } else if page.done && pushed_all {
            lag.behind.remove(&log);
            // What was pushed stays in the inbox until it is acknowledged; a mark may have stood for nothing.
            let newest = Seq(page.next.0.saturating_sub(1));
            if clean {
                self.users.acknowledged(author, log, NO_ENTRY);
            } else {
                self.users.pushed(author, log, newest);
            }
            if page.peer != known.unwrap_or_default() {
                self.push_watermarks(cx, id, log, peer_of(log, user), page.peer);
            }
        } else {
            behind.from = Some(next);
            lag.ready.push_back(log);
        }
        self.advance(cx, id);
    }

    /// The client has confirmed pushes.
    pub(crate) fn credit(&mut self, cx: &mut Cx, id: ConnId, credit: Credit) {
        let Some(session) = self.conns.session(id) else { return };
        let (frames, bytes) = session.pushed;
        let (had_frames, had_bytes) = session.credited;
        session.credited = (credit.frames.clamp(had_frames, frames), credit.bytes.clamp(had_bytes, bytes));
        self.advance(cx, id);
    }

    /// Goes on with what a device lacks, as far as its queue and credit allow.
    pub(crate) fn advance(&mut self, cx: &mut Cx, id: ConnId) {
        loop {
            let may_push = self.may_push(cx, id);
            let Some(session) = self.conns.session(id) else { return };
            let author = session.author;
            if session.logs_behind() == 0 {
                session.lag = None;
                if session.progress == Progress::CatchingUp && may_push {
                    session.progress = Progress::CaughtUp;
                    let message = Some(server_frame::Message::CaughtUp(v1::CaughtUp {}));
                    cx.fx.send(id, &v1::ServerFrame { id: 0, message });
                    self.first_caught_up(author);
                }
                return;
            }
            if !may_push || session.pulls >= PULLS_MAX {
                return;
            }
            let Some(lag) = session.lag.as_deref_mut() else { return };
            let Some(log) = lag.ready.pop_front() else { return };
            let (from, marked) =
                lag.behind.get(&log).map_or((None, false), |behind| (behind.from, behind.marked));
            session.pulls += 1;
            let pull = Pull { core: self.core, conn: id, author, from, marked, writes_mark: true };
            self.tell(cx, self.slots.owner(Slot::of_log(log)), Message::Log(log, LogOp::Pull(pull)));
        }
    }

    /// Whether a push may leave now. If the queue forbids it, it goes on when the queue is empty; if the credit does,
    /// when the client confirms.
    fn may_push(&mut self, cx: &mut Cx, id: ConnId) -> bool {
        let full = cx.fx.backlog(id) > self.limits.send_queue_bytes_max;
        if full {
            cx.fx.notify_drained(id);
        }
        !full && self.conns.session(id).is_some_and(|session| session.has_credit())
    }

    fn push_watermarks(&mut self, cx: &mut Cx, id: ConnId, log: LogId, member: UserId, marks: Watermarks) {
        let Some(session) = self.conns.session(id) else { return };
        let peer = peer_of(log, session.author.user);
        let receipt = v1::Receipt {
            peer: peer.get(),
            delivered_upto: marks.delivered.0,
            read_upto: marks.read.0,
            member: if member == peer { 0 } else { member.get() },
        };
        self.push(cx, id, server_frame::Message::Receipt(receipt));
    }

    fn push(&mut self, cx: &mut Cx, id: ConnId, message: server_frame::Message) {
        let bytes = cx.fx.send(id, &v1::ServerFrame { id: 0, message: Some(message) });
        if let Some(session) = self.conns.session(id) {
            session.pushed = (session.pushed.0 + 1, session.pushed.1 + bytes as u64);
        }
    }
}
