//! A logged-in device: its requests, and its pushes.
//!
//! One mechanism brings a device up to date, whatever kept it behind (it was away, it reads slowly, its credit is used
//! up): the log is noted as *behind* with what is wanted of it, and its owner is asked for page after page until
//! one says that nothing follows. While a log is behind, what is appended to it is not pushed, for a page will bring
//! it; as a page's last word and the next append come from the same core in order, nothing falls between.
//!
//! What a device lacks of a log is decided from its inbox and its own word together, whatever comes first: no log is asked
//! for before the inbox has been read past it, and what is wanted later only adds. So the pushes of a log never go
//! back within a connection, but where the device itself goes back.

use std::collections::{BTreeMap, BTreeSet, VecDeque, btree_map};
use std::sync::Arc;

use tern_proto::v1::{self, server_frame};
use tern_storage::{Direction, LogId, Row, ScanLimit, Slot, StoreError, keys};
use tern_wire::errors::{Farewell, Reason, Refusal};
use tern_wire::ids::{Seq, UserId};
use tern_wire::request::{Acknowledge, Credit, History, Lookup, PushWindow, Request, Resume, Send};

use super::ScanFor;
use crate::Cx;
use crate::effects::Stage;
use crate::entry::{Author, Entry, peer_of};
use crate::limits::{INBOX_LOGS_MAX, LAG_LOGS_MAX, PULLS_MAX};
use crate::message::{
    Claim, LogOp, Message, Page, PhoneOp, Pull, Shown, Unreadable, UserAsk, UserOp, Want, Watermarks,
};
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
}

/// What a device lacks. Sorted maps: their keys are a stranger's choice, and nobody can make them slow.
#[derive(Debug, Default)]
struct Lag {
    behind: BTreeMap<LogId, Behind>,
    /// Those that have no pull under way, each once.
    ready: VecDeque<LogId>,
    /// Damaged ones: they are left out, and tried again when something happens to them.
    stuck: BTreeMap<LogId, Behind>,
    /// Those that the inbox has not been read past.
    unscanned: BTreeSet<LogId>,
    /// The inbox has been read up to here.
    scanned: Option<LogId>,
    /// A step of the inbox is being read.
    scanning: bool,
}

/// How far the pushes have come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    /// `Resume` has not come: nothing is pushed.
    Silent,
    /// The inbox is being read from the store.
    ReadingInbox,
    /// What the device lacks is known, and on its way.
    CatchingUp,
    /// `CaughtUp` has been pushed.
    CaughtUp,
}

/// A log that the device is behind in.
#[derive(Clone, Copy, Debug)]
struct Behind {
    want: Want,
    /// What was wanted when the pull that is under way began.
    asked: Option<Want>,
    /// The device's inbox holds the log's mark, if anything is missing.
    marked: bool,
    /// It began behind the last acknowledgement, and nothing was pushed since.
    clean: bool,
    /// The peer's watermarks as the device knows them.
    known: Option<Watermarks>,
    /// The device has not heard of its own user's watermarks.
    owes_own: bool,
}

/// Beyond the last entry of any log: nothing is missing but the watermarks.
const NO_ENTRY: Seq = Seq(u64::MAX);

/// What is behind the device's position.
const UNREAD: Want = Want { from: None, claim: None };

pub(crate) const INBOX_UNREADABLE: Farewell =
    Farewell::new(Reason::Unavailable, "the device's inbox can't be read");

impl Want {
    /// Adds a position that the device says it has. It goes before "behind the last acknowledgement", which nothing was
    /// pushed by yet: once something was, a place to go on from is known.
    fn add_position(&mut self, claim: Claim) {
        let from = Seq(claim.upto.0.saturating_add(1));
        self.from = Some(self.from.map_or(from, |known| known.min(from)));
        self.claim = Some(match self.claim {
            Some(other) => {
                Claim { upto: other.upto.max(claim.upto), trusted: other.trusted && claim.trusted }
            }
            None => claim,
        });
    }

    /// Adds an entry that was not pushed. "Behind the last acknowledgement" holds it already.
    fn add_entry(&mut self, seq: Seq) {
        self.from = self.from.map(|known| known.min(seq));
    }
}

impl Behind {
    fn new(want: Want) -> Self {
        let clean = want == UNREAD;
        Self { want, asked: None, marked: false, clean, known: None, owes_own: false }
    }

    /// Adds the peer's watermarks as the device knows them.
    fn add_known(&mut self, marks: Watermarks) {
        self.known = Some(self.known.map_or(marks, |known| Watermarks {
            delivered: known.delivered.min(marks.delivered),
            read: known.read.min(marks.read),
        }));
    }
}

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
        }
    }

    /// The device that it stands for.
    pub fn author(&self) -> Author {
        self.author
    }

    fn is_behind(&self, log: LogId) -> bool {
        self.lag.as_deref().is_some_and(|lag| lag.behind.contains_key(&log) || lag.stuck.contains_key(&log))
    }

    fn logs_behind(&self) -> usize {
        self.lag.as_deref().map_or(0, |lag| lag.behind.len())
    }

    fn has_credit(&self) -> bool {
        let within = |max: u32, pushed: u64, credited: u64| max == 0 || pushed - credited < u64::from(max);
        within(self.window.frames, self.pushed.0, self.credited.0)
            && within(self.window.bytes, self.pushed.1, self.credited.1)
    }

    /// Whether the inbox has been read past a log.
    fn is_scanned(&self, log: LogId) -> bool {
        let passed = || self.lag.as_deref().and_then(|lag| lag.scanned).is_some_and(|upto| log <= upto);
        self.progress != Progress::ReadingInbox || passed()
    }

    /// The log among those that the device is behind in; if it is not there, it is added with this want.
    fn behind(&mut self, log: LogId, want: Want) -> &mut Behind {
        let is_scanned = self.is_scanned(log);
        let lag = self.lag.get_or_insert_default();
        if let Some(behind) = lag.stuck.remove(&log) {
            lag.behind.insert(log, behind);
            lag.ready.push_back(log);
        }
        match lag.behind.entry(log) {
            btree_map::Entry::Occupied(behind) => behind.into_mut(),
            btree_map::Entry::Vacant(vacant) => {
                if is_scanned {
                    lag.ready.push_back(log);
                } else {
                    lag.unscanned.insert(log);
                }
                vacant.insert(Behind::new(want))
            }
        }
    }

    /// The device says what it has of a log.
    fn add_position(&mut self, log: LogId, claim: Claim, known: Watermarks) {
        let mut want = UNREAD;
        want.add_position(claim);
        let behind = self.behind(log, want);
        behind.want.add_position(claim);
        behind.clean = false;
        behind.add_known(known);
    }

    /// The inbox has been read up to a log, or whole: what it has not been read past before can be asked for.
    fn scanned(&mut self, upto: Option<LogId>) {
        let lag = self.lag.get_or_insert_default();
        lag.scanning = false;
        lag.scanned = upto;
        let rest = match upto {
            Some(upto) => {
                let mut passed = std::mem::take(&mut lag.unscanned);
                let mut rest = passed.split_off(&upto);
                if rest.remove(&upto) {
                    passed.insert(upto);
                }
                lag.ready.extend(passed);
                rest
            }
            None => {
                lag.ready.extend(std::mem::take(&mut lag.unscanned));
                BTreeSet::new()
            }
        };
        lag.unscanned = rest;
        if upto.is_none() {
            self.progress = Progress::CatchingUp;
        }
    }

    /// Whether the next step of the inbox is to be read, and where it begins. Not before most of the last one is done with, so
    /// that a long inbox is never in memory whole.
    fn next_scan(&mut self, under_way_max: usize) -> Option<Option<LogId>> {
        if self.progress != Progress::ReadingInbox {
            return None;
        }
        let lag = self.lag.get_or_insert_default();
        let under_way = lag.behind.len() - lag.unscanned.len();
        let is_due = !lag.scanning && under_way <= under_way_max;
        is_due.then(|| {
            lag.scanning = true;
            lag.scanned
        })
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
            Request::Resume(resume) => self.resume(cx, origin, &resume),
            Request::Lookup(lookup) => self.lookup(cx, origin, author.user, lookup),
            Request::Chats(chats) => self.chats(cx, origin, author.user, chats),
            Request::Devices => self.list_devices(cx, origin, author.user),
            Request::EndDevice(device) => self.end_device(cx, origin, author.user, device),
            Request::Rename(rename) => self.rename(cx, origin, author, rename),
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
        if let Err(refusal) = self.budgets.send(author.user, cx.now_ms) {
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
        if let Err(refusal) = self.budgets.look_up(asker, cx.now_ms) {
            return self.respond(cx, origin, Reply::Refused(refusal));
        }
        match lookup {
            Lookup::Phone(phone) => self.ask_phone(cx, origin, phone, PhoneOp::Lookup(origin, asker)),
            Lookup::User(peer) if peer == asker => {
                let shown = Shown { name: true, phone: true };
                self.tell_user(cx, UserOp { user: asker, ask: UserAsk::Describe(origin, shown) });
            }
            Lookup::User(peer) => {
                let describe = LogOp::Describe { origin, reader: asker, by_phone: false };
                self.ask_log(cx, origin, asker, peer, describe);
            }
        }
    }

    fn ask_log(&mut self, cx: &mut Cx, origin: Origin, user: UserId, peer: UserId, op: LogOp) {
        let log = LogId::direct(user.get(), peer.get());
        let owner = self.slots.owner(Slot::of_log(log));
        self.ask(cx, owner, origin, Message::Log(log, op));
    }

    /// Starts the pushes. A further `Resume` asks again for the logs that it lists; each is followed by `CaughtUp`.
    fn resume(&mut self, cx: &mut Cx, origin: Origin, resume: &Resume) {
        let Some(session) = self.conns.session(origin.conn) else { return };
        if session.logs_behind() + resume.positions.len() > INBOX_LOGS_MAX {
            let refusal = self.overloaded();
            return self.respond(cx, origin, Reply::Refused(refusal));
        }
        let named = !resume.generations.is_empty();
        let trusted = named && self.identity.knows(&resume.generations);
        let rewound = !trusted && (named || !resume.positions.is_empty());
        let (author, first) = (session.author, session.progress == Progress::Silent);
        let inbox = if first { self.users.inbox(author) } else { None };
        let Some(session) = self.conns.session(origin.conn) else { return };
        match session.progress {
            Progress::Silent => session.progress = Progress::ReadingInbox,
            Progress::CaughtUp => session.progress = Progress::CatchingUp,
            Progress::ReadingInbox | Progress::CatchingUp => {}
        }
        for position in &resume.positions {
            let log = LogId::direct(author.user.get(), position.peer.get());
            let known = Watermarks { delivered: position.delivered_upto, read: position.read_upto };
            session.add_position(log, Claim { upto: position.upto, trusted }, known);
        }
        self.respond(cx, origin, Reply::Resumed { rewound });
        match inbox {
            Some(logs) => self.inbox_read(cx, origin.conn, logs, true, None),
            None => self.advance(cx, origin.conn),
        }
    }

    /// Reads a step of a device's inbox from the store: its marks, or all logs of the user if the device is new.
    fn read_inbox(&mut self, cx: &mut Cx, conn: ConnId, author: Author, after: Option<LogId>) {
        if !self.reads.has_room() {
            return self.farewell(cx, conn, INBOX_UNREADABLE);
        }
        let (user, device) = (author.user.get(), author.device.get());
        let range = if self.users.is_new(author) {
            keys::memberships(user, after)
        } else {
            keys::inbox_marks(user, device, after)
        };
        let limit = ScanLimit { rows: self.limits.inbox_step_rows, bytes: usize::MAX };
        self.reads.scan(cx.fx, range, Direction::Forwards, limit, ScanFor::Inbox(conn));
    }

    /// A step of a device's inbox has been read.
    pub(crate) fn inbox_step_read(&mut self, cx: &mut Cx, conn: ConnId, rows: &[Row], more: bool) {
        let Some(session) = self.conns.session(conn) else { return };
        let author = session.author;
        let logs: Option<Vec<_>> = rows.iter().map(|(key, _)| keys::log_of(key)).collect();
        let Some(logs) = logs else {
            let slot = Slot::of_user(author.user.get()).number();
            let place = format!("a key of an inbox in slot {slot}");
            self.trouble.read_failed(cx, &StoreError::Corrupt { place });
            return self.farewell(cx, conn, INBOX_UNREADABLE);
        };
        let upto = logs.last().copied().filter(|_| more);
        self.users.learn(author, &logs);
        let marked = !self.users.is_new(author);
        self.inbox_read(cx, conn, logs, marked, upto);
    }

    /// A part of the device's inbox is known: these logs are behind, and up to `upto`, or if there is none at all, no others.
    fn inbox_read(&mut self, cx: &mut Cx, id: ConnId, logs: Vec<LogId>, marked: bool, upto: Option<LogId>) {
        let Some(session) = self.conns.session(id) else { return };
        for log in logs {
            session.behind(log, UNREAD).marked |= marked;
        }
        session.scanned(upto);
        self.advance(cx, id);
    }

    /// Pushes an entry to a device, or notes that it is behind.
    pub(crate) fn push_entry(&mut self, cx: &mut Cx, id: ConnId, entry: &Arc<Entry>) {
        let Some(session) = self.conns.session(id).filter(|s| s.progress != Progress::Silent) else { return };
        let reader = session.author.user;
        if session.is_behind(entry.log) || !session.is_scanned(entry.log) {
            // Of a log that the inbox has not been read past it is not known what the device has.
            let is_stuck = session.lag.as_deref().is_some_and(|lag| lag.stuck.contains_key(&entry.log));
            session.behind(entry.log, UNREAD).want.add_entry(entry.seq);
            if is_stuck {
                self.advance(cx, id);
            }
            self.bound_lag(cx, id);
        } else if self.may_push(cx, id) {
            self.push(cx, id, server_frame::Message::Entry(entry.view(reader, false)));
            cx.fx.passed(entry.author, entry.client_id, Stage::Delivered);
        } else if let Some(session) = self.conns.session(id) {
            session.behind(entry.log, Want { from: Some(entry.seq), claim: None });
            self.bound_lag(cx, id);
        }
    }

    /// A device that is behind in so many chats is shown out: it comes back for what its inbox says, step by step.
    fn bound_lag(&mut self, cx: &mut Cx, id: ConnId) {
        if self.conns.session(id).is_some_and(|session| session.logs_behind() > LAG_LOGS_MAX) {
            let farewell = Farewell::new(Reason::TooSlow, "the pushes of too many chats wait");
            self.farewell(cx, id, farewell);
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
        let is_own = member == session.author.user;
        if session.is_behind(log) {
            // The last page brings them.
            session.behind(log, UNREAD).owes_own |= is_own;
        } else if self.may_push(cx, id) {
            self.push_watermarks(cx, id, log, member, marks);
        } else if let Some(session) = self.conns.session(id) {
            let behind = session.behind(log, Want { from: Some(NO_ENTRY), claim: None });
            behind.owes_own |= is_own;
            self.bound_lag(cx, id);
        }
    }

    /// A page has come: push what it holds as far as may be, and go on from there.
    pub(crate) fn page(&mut self, cx: &mut Cx, id: ConnId, page: &Page) {
        let Some(session) = self.conns.session(id) else { return };
        session.pulls -= 1;
        let (author, log) = (session.author, page.log);
        let lag = session.lag.as_deref_mut().expect("a log stays behind until its page has come");
        match page.failed {
            Some(Unreadable::ForNow) => {
                let farewell = Farewell::new(Reason::Unavailable, "a log can't be read now");
                return self.farewell(cx, id, farewell);
            }
            Some(Unreadable::Damaged) => {
                // Coming back would not help, and would keep the device from all others.
                let behind = lag.behind.remove(&log).expect("a log stays behind until its page has come");
                lag.stuck.insert(log, Behind { asked: None, ..behind });
                return self.advance(cx, id);
            }
            None => {}
        }
        let behind = lag.behind.get_mut(&log).expect("a log stays behind until its page has come");
        if behind.asked.take() != Some(behind.want) {
            // More was wanted since: nothing of this page is pushed, so that nothing goes back.
            lag.ready.push_back(log);
            return self.advance(cx, id);
        }
        let mut behind = *behind;
        let done = self.push_page(cx, id, author.user, page, &mut behind);
        let Some(session) = self.conns.session(id) else { return };
        let lag = session.lag.as_deref_mut().expect("a log stays behind until its page has come");
        if done {
            lag.behind.remove(&log);
            // What was pushed stays in the inbox until it is acknowledged; a mark may have stood for nothing.
            if behind.clean {
                self.users.acknowledged(author, log, NO_ENTRY);
            } else {
                self.users.pushed(author, log, page.head);
            }
        } else {
            lag.behind.insert(log, behind);
            lag.ready.push_back(log);
        }
        self.advance(cx, id);
    }

    /// Pushes a page as far as may be, and notes what is left. `true` if nothing is.
    fn push_page(&mut self, cx: &mut Cx, id: ConnId, user: UserId, page: &Page, behind: &mut Behind) -> bool {
        let (log, peer) = (page.log, peer_of(page.log, user));
        if let Some(upto) = page.rewound {
            if !self.may_push(cx, id) {
                return false;
            }
            let rewound = v1::Rewound { peer: peer.get(), upto: upto.0, head: page.head.0 };
            self.push(cx, id, server_frame::Message::Rewound(rewound));
            // What it knew of the watermarks may never have been so in this store.
            behind.known = None;
            behind.owes_own = true;
        }
        behind.clean &= page.entries.is_empty();
        behind.want = Want { from: Some(page.next), claim: None };
        for entry in &page.entries {
            if !self.may_push(cx, id) {
                behind.want.from = Some(entry.seq);
                return false;
            }
            self.push(cx, id, server_frame::Message::Entry(entry.view(user, false)));
        }
        if page.next <= page.head {
            return false;
        }
        if page.peer != behind.known.unwrap_or_default() {
            if !self.may_push(cx, id) {
                return false;
            }
            self.push_watermarks(cx, id, log, peer, page.peer);
            behind.known = Some(page.peer);
        }
        if behind.owes_own && peer != user && page.own != Watermarks::default() {
            if !self.may_push(cx, id) {
                return false;
            }
            self.push_watermarks(cx, id, log, user, page.own);
        }
        true
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
            if let Some(after) = session.next_scan(self.limits.inbox_step_rows) {
                self.read_inbox(cx, id, author, after);
                continue;
            }
            if session.logs_behind() == 0 && session.progress != Progress::ReadingInbox {
                let is_whole =
                    session.lag.take_if(|lag| lag.stuck.is_empty()).is_some() || session.lag.is_none();
                if session.progress == Progress::CatchingUp && may_push {
                    session.progress = Progress::CaughtUp;
                    let message = Some(server_frame::Message::CaughtUp(v1::CaughtUp {}));
                    cx.fx.send(id, &v1::ServerFrame { id: 0, message });
                    if is_whole {
                        self.first_caught_up(author);
                    }
                }
                return;
            }
            if !may_push || session.pulls >= PULLS_MAX {
                return;
            }
            let Some(lag) = session.lag.as_deref_mut() else { return };
            let Some(log) = lag.ready.pop_front() else { return };
            let behind = lag.behind.get_mut(&log).expect("what is ready is behind");
            behind.asked = Some(behind.want);
            let (want, marked) = (behind.want, behind.marked);
            session.pulls += 1;
            let pull = Pull { core: self.core, conn: id, author, want, marked, writes_mark: true };
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
