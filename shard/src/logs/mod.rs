//! The logs of a core's slots: who is a member, where the head is, what waits.
//!
//! A log is read once, then decided on in memory: `head` counts what has been appended, `durable` what is proven. What
//! is not durable is never shown.
//!
//! ```text
//!            all parts are read            a write failed, or a member can't be read
//! Loading ------------------------> Known ------------------------------------------> Doubted
//!    |  ^                             |                                                  |
//!    |  |   a part can't be read      | idle for long                                    | no write under way:
//!    v  +-- (gone) <------------------+                                                  v
//!  (gone)                                                        Loading, if somebody waits, or gone
//! ```
//!
//! A log with writes under way is never forgotten and never read: what would be read is older than what is decided. A read
//! carries the number of the load that asked for it, and is nobody's when there is another one.

pub mod acknowledge;
pub mod append;
mod glance;
pub mod load;
pub mod read;
mod room;
mod waits;

pub(crate) use waits::{After, GetFor, ScanFor};

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
use crate::maps::{Hashing, Map};
use crate::message::{LogOp, Message, Page, Pull, Shown, Unreadable, UserAsk, UserOp, Watermarks};
use crate::reply::{Origin, Undone};
use crate::shard::Shard;

/// The logs in memory.
#[derive(Debug)]
pub struct Logs {
    logs: Map<LogId, Box<Log>>,
    /// The order in which idle logs are considered for leaving, each with its first load: those that were forgotten since are
    /// passed over.
    clock: VecDeque<(LogId, u64)>,
    /// Logs with marks of devices that have caught up, and when to look at them.
    quiet: VecDeque<(u64, LogId)>,
    /// Reads of entries under way.
    readers: Map<u64, read::Reader>,
    readers_made: u64,
    loads: u64,
    /// Logs that have been read and in which nothing was ever said.
    empty: Vec<LogId>,
    /// Asks whether a message may be appended.
    asks_made: u64,
}

/// Where a log stands: see the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Loading {
        /// Parts that have not come.
        missing: usize,
        /// A part could not be read.
        unreadable: Option<Unreadable>,
    },
    Known,
    Doubted,
}

/// One log.
#[derive(Debug)]
struct Log {
    phase: Phase,
    /// The number of the load that reads it, or has read it.
    load: u64,
    /// The number of the load that brought it into memory.
    born: u64,
    /// Writes of it under way.
    unsettled: usize,
    /// Reads of its entries under way.
    reading: usize,
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
    /// How much had been written at some entries before the tail, rising.
    checkpoints: VecDeque<room::Checkpoint>,
    appended_ms: u64,
    in_quiet: bool,
    used: bool,
    /// How many entries each member has is known: it is not in a log of before.
    counts_entries: bool,
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
    /// Bytes of all its bodies in the log.
    written: u64,
    /// How many entries of the log are its own.
    entries: u64,
    /// Bytes of the others' bodies up to its delivered watermark, or to an entry before it.
    delivered_bytes: u64,
    /// How many bytes may wait for it, where its owner was asked.
    reserved: u64,
    /// Its `g` row may say that some are reserved.
    may_be_reserved: bool,
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

/// Why a log is there.
const PINNED: &str = "a log stays in memory while something of it is under way";

impl Logs {
    /// None.
    pub fn new(hashing: Hashing) -> Self {
        Self {
            logs: Map::with_hasher(hashing),
            clock: VecDeque::new(),
            quiet: VecDeque::new(),
            readers: Map::with_hasher(hashing),
            readers_made: 0,
            loads: 0,
            empty: Vec::new(),
            asks_made: 0,
        }
    }

    /// How many are in memory.
    pub fn count(&self) -> usize {
        self.logs.len()
    }

    /// Notes that a write of a log has been made.
    pub fn unsettle(&mut self, id: LogId) {
        self.pinned(id).unsettled += 1;
    }

    /// Notes that a write of a log has ended, one way or the other.
    pub fn settle(&mut self, id: LogId) {
        let log = self.pinned(id);
        log.unsettled = log.unsettled.checked_sub(1).expect("a write ends once");
    }

    /// A log of which something is under way.
    fn pinned(&mut self, id: LogId) -> &mut Log {
        self.logs.get_mut(&id).expect(PINNED)
    }

    /// A log that is decided on: whoever asks has been let in by [`Shard::log_op`].
    fn known(&mut self, id: LogId) -> &mut Log {
        let log = self.pinned(id);
        debug_assert_eq!(log.phase, Phase::Known, "nothing is decided on a log that is not known");
        log
    }

    /// The log that is being read by this load, unless that is over.
    fn loading(&mut self, id: LogId, load: u64) -> Option<&mut Log> {
        let log = self.logs.get_mut(&id).filter(|log| log.load == load)?;
        matches!(log.phase, Phase::Loading { .. }).then_some(log)
    }

    /// The log as this load has read it, unless it is doubted or another one.
    fn known_by(&mut self, id: LogId, load: u64) -> Option<&mut Log> {
        self.logs
            .get_mut(&id)
            .filter(|log| log.load == load && log.phase == Phase::Known)
            .map(|log| &mut **log)
    }

    fn remember_to_evict(&mut self, id: LogId, born: u64) {
        // Logs that can't be read come and go.
        if self.clock.len() > 2 * self.logs.len() + 64 {
            let logs = &self.logs;
            self.clock.retain(|(id, born)| logs.get(id).is_some_and(|log| log.born == *born));
        }
        self.clock.push_back((id, born));
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
            written: 0,
            entries: 0,
            delivered_bytes: 0,
            reserved: 0,
            may_be_reserved: false,
            devices: Vec::new(),
            stored: Vec::new(),
        };
        Self {
            phase: Phase::Loading { missing: 0, unreadable: None },
            load: 0,
            born: 0,
            unsettled: 0,
            reading: 0,
            waiting: VecDeque::new(),
            sends: VecDeque::new(),
            exists: false,
            head: Seq(0),
            durable: DurableHead::recovered(Seq(0)),
            last_time_ms: 0,
            members: members_of(log).map(member).collect(),
            tail: VecDeque::new(),
            tail_bytes: 0,
            checkpoints: VecDeque::new(),
            appended_ms: 0,
            in_quiet: false,
            used: true,
            counts_entries: true,
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

    /// An entry, if it is in memory.
    fn in_tail(&self, seq: Seq) -> Option<&Arc<Entry>> {
        let first = self.tail.front()?.seq;
        self.tail.get(seq.0.checked_sub(first.0)? as usize)
    }

    fn marks_of(&self, user: UserId) -> Watermarks {
        self.members.iter().find(|member| member.user == user).map(|member| member.marks).unwrap_or_default()
    }

    /// Whether what was read can't be all that was written. A log that was made has an entry, and nobody is further than
    /// its head: absence is not taken for "never was".
    fn is_damaged(&self) -> bool {
        let beyond = |member: &Member| {
            let marks = member.marks.delivered.max(member.marks.read);
            (member.wrote.is_some() && self.head == Seq(0))
                || marks > self.head
                || member.stored.iter().any(|position| position.upto > self.head.0)
        };
        self.exists != (self.head > Seq(0)) || self.members.iter().any(beyond)
    }

    /// Nothing waits, and everything is durable.
    fn is_idle(&self) -> bool {
        self.phase == Phase::Known
            && self.unsettled == 0
            && self.reading == 0
            && self.waiting.is_empty()
            && self.sends.is_empty()
            && self.durable.seq() == self.head
    }

    fn remember(&mut self, entry: Arc<Entry>) {
        self.tail_bytes += entry.body.len();
        self.tail.push_back(entry);
    }

    /// Drops the oldest durable entries of the tail beyond its bounds, but for the newest of them.
    fn trim_tail(&mut self, entries_max: usize, bytes_max: usize) {
        while let Some(oldest) = self.tail.front()
            && (self.tail.len() > entries_max || self.tail_bytes > bytes_max)
            && oldest.seq < self.durable.seq()
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
            delivered_bytes: self.delivered_bytes,
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
            LogOp::Permit(ask, answer) => return self.permitted(cx, id, ask, answer),
            _ => {}
        }
        let Some(log) = self.logs.logs.get_mut(&id) else { return self.load_log(cx, id, op) };
        log.used = true;
        if log.phase == Phase::Known {
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
                let permits = room::Permits::default();
                self.append(cx, id, append::Send { origin, author, client_id, kind, body, permits });
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
            LogOp::Glance(asker) => self.glance(cx, id, asker),
            LogOp::Devices(..) | LogOp::Unreadable(_) | LogOp::Permit(..) => {
                unreachable!("taken before the log is looked at")
            }
        }
    }

    /// Tells a member of a direct chat who the other is. What the one who asks has written proves nothing: the other must have
    /// written too, or be asked for by phone.
    fn describe_peer(&mut self, cx: &mut Cx, id: LogId, origin: Origin, reader: UserId, by_phone: bool) {
        let log = self.logs.known(id);
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
        let log = self.logs.known(id);
        if log.has_written(peer) && log.has_written(user) {
            self.tell_user(cx, UserOp { user: peer, ask: UserAsk::PersonChanged(user) });
        }
    }

    fn refuse_log_op(&mut self, cx: &mut Cx, id: LogId, op: LogOp, refusal: Refusal) {
        match op {
            LogOp::Send { origin, .. }
            | LogOp::Acknowledge { origin, .. }
            | LogOp::History { origin, .. }
            | LogOp::Describe { origin, .. } => self.refuse(cx, origin, refusal),
            LogOp::Pull(pull) => self.page_failed(cx, id, pull, Unreadable::ForNow),
            LogOp::Glance(asker) => self.glance_failed(cx, id, asker, Unreadable::ForNow),
            // Nobody waits for it, and it is a hint.
            LogOp::Changed(_) => {}
            LogOp::Devices(..) | LogOp::Unreadable(_) | LogOp::Permit(..) => {
                unreachable!("these never wait")
            }
        }
    }

    fn page_failed(&mut self, cx: &mut Cx, id: LogId, pull: Pull, why: Unreadable) {
        self.tell(cx, pull.core, Message::Page(pull.conn, Box::new(Page::failed(id, why))));
    }

    /// What is in memory of a log may not be what is in the store: it is read again, when no write of it is under way. What
    /// waits goes on then; messages that were being told from retries are `undone`.
    pub(crate) fn doubt_log(&mut self, cx: &mut Cx, id: LogId, undone: Undone) {
        let log = self.logs.pinned(id);
        if log.phase == Phase::Known {
            log.phase = Phase::Doubted;
            for send in std::mem::take(&mut log.sends) {
                self.reply(cx, send.origin, undone.into());
            }
        }
        self.log_settled(cx, id);
    }

    /// Reads a doubted log again, or forgets it, once no write of it is under way.
    pub(crate) fn log_settled(&mut self, cx: &mut Cx, id: LogId) {
        let Some(log) = self.logs.logs.get_mut(&id) else { return };
        if log.phase != Phase::Doubted || log.unsettled > 0 {
            return;
        }
        if log.waiting.is_empty() {
            self.logs.logs.remove(&id);
            self.unwatch(cx, id);
        } else {
            let waiting = std::mem::take(&mut log.waiting);
            self.begin_load(cx, id, waiting);
        }
    }

    fn unwatch(&mut self, cx: &mut Cx, id: LogId) {
        for user in members_of(id) {
            self.tell_user(cx, UserOp { user, ask: UserAsk::Unwatch(id) });
        }
    }

    /// Lets logs leave that nothing waits for: those that do not exist at once, for they were only asked about.
    pub(crate) fn evict_logs(&mut self, cx: &mut Cx) {
        for id in std::mem::take(&mut self.logs.empty) {
            let Some(log) = self.logs.logs.get(&id).filter(|log| !log.exists) else { continue };
            if log.is_idle() && !log.in_quiet {
                self.logs.logs.remove(&id);
                self.unwatch(cx, id);
            } else {
                self.logs.empty.push(id);
            }
        }
        for _ in 0..self.logs.count().saturating_sub(self.limits.logs_cached_max) {
            let Some((id, born)) = self.logs.clock.pop_front() else { return };
            let Some(log) = self.logs.logs.get_mut(&id).filter(|log| log.born == born) else { continue };
            if std::mem::take(&mut log.used) || !log.is_idle() || log.in_quiet {
                self.logs.clock.push_back((id, born));
            } else {
                self.logs.logs.remove(&id);
                self.unwatch(cx, id);
            }
        }
    }
}
