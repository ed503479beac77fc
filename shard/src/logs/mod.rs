//! The logs of a core's slots: who is a member, where the head is, what waits.
//!
//! A log is read once, then decided on in memory: `head` counts what has been appended, `durable` what is proven. What
//! is not durable is never shown. A log whose commit failed is forgotten and read again.

pub mod acknowledge;
pub mod append;
pub mod load;
pub mod read;

use std::collections::VecDeque;
use std::sync::Arc;

use tern_storage::LogId;
use tern_storage::records::{DevicePosition, MemberRecord};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::{ClientMessageId, DeviceId, Seq, UserId};

use crate::Cx;
use crate::durable::DurableHead;
use crate::effects::Stage;
use crate::entry::{Author, Entry, members_of, peer_of};
use crate::limits::LOG_WAITING_MAX;
use crate::maps::Map;
use crate::message::{LogOp, Page, Shown, UserAsk, UserOp, Watermarks};
use crate::reply::Origin;
use crate::shard::Shard;

/// The logs in memory.
#[derive(Debug, Default)]
pub struct Logs {
    logs: Map<LogId, Box<Log>>,
    /// The order in which idle logs are considered for leaving.
    clock: VecDeque<LogId>,
    /// Logs with marks of devices that have caught up, and when to look at them.
    quiet: VecDeque<(u64, LogId)>,
    /// Reads of entries under way.
    readers: Map<u64, read::Reader>,
    readers_made: u64,
}

/// One log.
#[derive(Debug)]
struct Log {
    /// What is missing until it is known.
    missing: u8,
    /// A part of it could not be read.
    unreadable: bool,
    /// Writes of it under way.
    unsettled: i32,
    /// What waits for it to be known.
    waiting: VecDeque<LogOp>,
    /// Messages that wait for the first of them to be told from a retry.
    sends: VecDeque<append::Send>,
    /// It has been made: its record is in the store or in a batch.
    exists: bool,
    head: Seq,
    durable: DurableHead,
    last_time_ms: u64,
    members: Vec<Member>,
    /// The newest entries, those that are not durable included.
    tail: VecDeque<Arc<Entry>>,
    tail_bytes: usize,
    appended_ms: u64,
    in_quiet: bool,
    used: bool,
}

/// A member of a log.
#[derive(Debug)]
struct Member {
    user: UserId,
    /// There is such a user.
    lives: bool,
    /// Its owner has told the devices.
    devices_known: bool,
    marks: Watermarks,
    /// The first entry known to be the member's, 0 if the store says that there is one; `None`: it has written nothing.
    wrote: Option<Seq>,
    devices: Vec<Device>,
    /// Positions as stored, of devices that may not be known yet.
    stored: Vec<DevicePosition>,
}

/// A device of a member.
#[derive(Debug)]
struct Device {
    id: DeviceId,
    /// It has everything up to here.
    position: Seq,
    /// Its inbox is known to hold the mark of this log. A mark may be there without being known: it is then written
    /// once more, or found when the device asks for what it lacks.
    marked: bool,
    /// Its inbox may hold a mark that is not known: to be removed when the log is quiet and nothing is missing.
    stale: bool,
    highest: Highest,
}

/// The highest client id that a device has used in a log: any above it is new, without a look into the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Highest {
    Unknown,
    None,
    Id(ClientMessageId),
}

const UNKNOWN_USER: Refusal = Refusal::new(Reason::UnknownUser, "there is no such user");
const UNREADABLE: Refusal = Refusal::for_now(Reason::Unavailable, 1000, "the log can't be read");

impl Logs {
    /// How many are in memory.
    pub fn count(&self) -> usize {
        self.logs.len()
    }

    /// Notes that writes of a log have been made (1) or have ended (-1).
    pub fn count_unsettled(&mut self, id: LogId, change: i32) {
        if let Some(log) = self.logs.get_mut(&id) {
            log.unsettled += change;
        }
    }
}

impl Log {
    fn new(log: LogId) -> Self {
        let member = |user| Member {
            user,
            lives: false,
            devices_known: false,
            marks: Watermarks::default(),
            wrote: None,
            devices: Vec::new(),
            stored: Vec::new(),
        };
        Self {
            missing: 0,
            unreadable: false,
            unsettled: 0,
            waiting: VecDeque::new(),
            sends: VecDeque::new(),
            exists: false,
            head: Seq(0),
            durable: DurableHead::recovered(Seq(0)),
            last_time_ms: 0,
            members: members_of(log).map(member).collect(),
            tail: VecDeque::new(),
            tail_bytes: 0,
            appended_ms: 0,
            in_quiet: false,
            used: true,
        }
    }

    fn member(&mut self, user: UserId) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.user == user)
    }

    fn device(&mut self, author: Author) -> Option<&mut Device> {
        self.member(author.user)?.devices.iter_mut().find(|device| device.id == author.device)
    }

    /// Whether a member has written in the log, durably.
    fn has_written(&self, user: UserId) -> bool {
        let member = self.members.iter().find(|member| member.user == user);
        member.and_then(|member| member.wrote).is_some_and(|seq| seq <= self.durable.seq())
    }

    fn marks_of(&self, user: UserId) -> Watermarks {
        self.members.iter().find(|member| member.user == user).map(|member| member.marks).unwrap_or_default()
    }

    /// Nothing waits, and everything is durable.
    fn is_idle(&self) -> bool {
        self.missing == 0
            && self.unsettled <= 0
            && self.waiting.is_empty()
            && self.sends.is_empty()
            && self.durable.seq() == self.head
    }

    fn remember(&mut self, entry: Arc<Entry>) {
        self.tail_bytes += entry.body.len();
        self.tail.push_back(entry);
    }

    /// Drops the oldest durable entries of the tail beyond its bounds.
    fn trim_tail(&mut self, entries_max: usize, bytes_max: usize) {
        while let Some(oldest) = self.tail.front()
            && (self.tail.len() > entries_max || self.tail_bytes > bytes_max)
            && oldest.seq <= self.durable.seq()
        {
            self.tail_bytes -= oldest.body.len();
            self.tail.pop_front();
        }
    }
}

impl Member {
    fn record(&self) -> MemberRecord {
        let known = self
            .devices
            .iter()
            .map(|device| DevicePosition { device: device.id.get(), upto: device.position.0 });
        MemberRecord {
            delivered_upto: self.marks.delivered.0,
            read_upto: self.marks.read.0,
            positions: known.collect(),
            wrote: self.wrote.is_some(),
        }
    }

    /// Takes over the devices that the user has now. One that is new lacks everything.
    fn set_devices(&mut self, ids: &[DeviceId], log_exists: bool) {
        self.devices.retain(|device| ids.contains(&device.id));
        for id in ids {
            if !self.devices.iter().any(|device| device.id == *id) {
                let stored = self.stored.iter().find(|position| position.device == id.get());
                self.devices.push(Device {
                    id: *id,
                    position: Seq(stored.map_or(0, |position| position.upto)),
                    marked: false,
                    stale: false,
                    highest: if log_exists { Highest::Unknown } else { Highest::None },
                });
            }
        }
    }
}

impl Shard {
    pub(crate) fn log_op(&mut self, cx: &mut Cx, id: LogId, op: LogOp) {
        match op {
            LogOp::Devices(user, devices) => return self.devices_known(cx, id, user, devices),
            LogOp::Unreadable(user) => return self.member_unreadable(cx, id, user),
            _ => {}
        }
        let Some(log) = self.logs.logs.get_mut(&id) else { return self.load_log(cx, id, op) };
        log.used = true;
        if log.missing == 0 {
            self.log_known(cx, id, op);
        } else if log.waiting.len() < LOG_WAITING_MAX {
            log.waiting.push_back(op);
        } else {
            let refusal = self.overloaded();
            self.refuse_log_op(cx, id, op, refusal);
        }
    }

    fn log_known(&mut self, cx: &mut Cx, id: LogId, op: LogOp) {
        match op {
            LogOp::Send { origin, author, client_id, kind, body } => {
                cx.fx.passed(author, client_id, Stage::Routed);
                self.append(cx, id, append::Send { origin, author, client_id, kind, body });
            }
            LogOp::Acknowledge { origin, author, upto } => self.acknowledged(cx, id, origin, author, upto),
            LogOp::History { origin, reader, from, forwards, limit } => {
                self.read_history(cx, id, read::Wanted { origin, reader, from, forwards, limit });
            }
            LogOp::Pull(pull) => self.pull(cx, id, pull),
            LogOp::Describe { origin, reader, by_phone } => {
                self.describe_peer(cx, id, origin, reader, by_phone);
            }
            LogOp::Changed(user) => self.member_changed(cx, id, user),
            LogOp::Devices(..) | LogOp::Unreadable(_) => unreachable!("taken before the log is looked at"),
        }
    }

    /// Tells a member of a direct chat who the other is. What the one who asks has written proves nothing: the other must have
    /// written too, or be asked for by phone.
    fn describe_peer(&mut self, cx: &mut Cx, id: LogId, origin: Origin, reader: UserId, by_phone: bool) {
        let Some(log) = self.logs.logs.get(&id) else { return };
        let peer = peer_of(id, reader);
        let shown = Shown { name: log.has_written(peer) && log.has_written(reader), phone: true };
        if by_phone || log.has_written(peer) {
            self.tell_user(cx, UserOp { user: peer, ask: UserAsk::Describe(origin, shown) });
        } else {
            self.refuse(cx, origin, UNKNOWN_USER);
        }
    }

    fn member_changed(&mut self, cx: &mut Cx, id: LogId, user: UserId) {
        let peer = peer_of(id, user);
        if self.logs.logs.get(&id).is_some_and(|log| log.has_written(peer) && log.has_written(user)) {
            self.tell_user(cx, UserOp { user: peer, ask: UserAsk::PersonChanged(user) });
        }
    }

    fn refuse_log_op(&mut self, cx: &mut Cx, id: LogId, op: LogOp, refusal: Refusal) {
        match op {
            LogOp::Send { origin, .. }
            | LogOp::Acknowledge { origin, .. }
            | LogOp::History { origin, .. }
            | LogOp::Describe { origin, .. } => self.refuse(cx, origin, refusal),
            LogOp::Pull(pull) => {
                let page = Page {
                    log: id,
                    rewound: None,
                    entries: Vec::new(),
                    next: Seq(0),
                    head: Seq(0),
                    peer: Watermarks::default(),
                    own: Watermarks::default(),
                    failed: true,
                };
                self.tell(cx, pull.core, crate::message::Message::Page(pull.conn, Box::new(page)));
            }
            LogOp::Devices(..) | LogOp::Unreadable(_) | LogOp::Changed(_) => {}
        }
    }

    /// What is in memory of a log did not become durable: it is read again when it is needed.
    pub(crate) fn forget_log(&mut self, cx: &mut Cx, id: LogId, refusal: Refusal) {
        if self.logs.logs.get(&id).is_none_or(|log| log.missing > 0) {
            return; // It is being read again already.
        }
        let Some(log) = self.logs.logs.remove(&id) else { return };
        for op in log.waiting {
            self.refuse_log_op(cx, id, op, refusal);
        }
        for send in log.sends {
            self.refuse(cx, send.origin, refusal);
        }
        self.unwatch(cx, id);
    }

    fn unwatch(&mut self, cx: &mut Cx, id: LogId) {
        for user in members_of(id) {
            self.tell_user(cx, UserOp { user, ask: UserAsk::Unwatch(id) });
        }
    }

    /// Lets logs leave that nothing waits for.
    pub(crate) fn evict_logs(&mut self, cx: &mut Cx) {
        for _ in 0..self.logs.count().saturating_sub(self.limits.logs_cached_max) {
            let Some(id) = self.logs.clock.pop_front() else { return };
            let Some(log) = self.logs.logs.get_mut(&id) else { continue };
            let read = self.logs.readers.values().any(|reader| reader.log() == id);
            if std::mem::take(&mut log.used) || !log.is_idle() || log.in_quiet || read {
                self.logs.clock.push_back(id);
            } else {
                self.logs.logs.remove(&id);
                self.unwatch(cx, id);
            }
        }
    }
}
