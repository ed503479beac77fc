//! The node: a process with cores, each a brain in a small shell, over the store on a simulated medium.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tern_shard::admin::{AdminRequest, AdminResponse};
use tern_shard::effects::{Push, Pushed};
use tern_shard::identity::StoreIdentity;
use tern_shard::limits::Limits;
use tern_shard::media::MediaDoor;
use tern_shard::message::Message;
use tern_shard::reply::ConnId;
use tern_shard::slots::{CoreId, ProcessId, SlotTable};
use tern_shard::tokens::{Keys, KeysRecord};
use tern_shard::{Arrival, Input, Setup, Shard};
use tern_storage::embedded::Step;
use tern_storage::medium::stream::Stream;
use tern_storage::records::StoreRecord;
use tern_storage::{Batch, Engine as _, Slot, keys};
use tern_wire::errors::{Farewell, Reason};
use tern_wire::frame::FrameBuffer;
use tern_wire::ids::MediaId;
use tern_wire::limits::SERVER_FRAME_BYTES_MAX;
use tern_wire::links::Links;

pub(crate) use self::gate::Token;
use self::gate::{Proven, Talk, Unproven};
use self::hands::{Hands, NoWake};
use crate::books::Books;
use crate::kept::Wrote;
use crate::pushes::Pushes;
use crate::shape::Shape;
use crate::store::Store;
use crate::world::LinkId;

mod gate;
mod hands;

/// How long what is queued to a connection that ends may take to leave, as in the server.
const FLUSH_MAX: Duration = Duration::from_secs(10);

/// What comes to a core.
#[derive(Debug)]
pub(crate) enum Comes {
    /// A connection, of a device or of a stranger.
    Opened(LinkId, bool),
    Bytes(LinkId, Vec<u8>),
    /// The peer sends no more, or the connection broke.
    Gone(LinkId),
    /// So many bytes of a connection have left.
    Left(LinkId, usize),
    Moved(Box<Moved>),
    Asked(u64, AdminRequest),
    Pushed(Pushed),
    Table(SlotTable),
    Tick,
}

/// A connection on its way to another core.
#[derive(Debug)]
pub(crate) struct Moved {
    conn: Conn,
    arrival: Arrival,
    unread: Vec<u8>,
}

/// A connection, as the shell has it.
#[derive(Debug)]
struct Conn {
    link: LinkId,
    frames: FrameBuffer,
    out: Vec<u8>,
    /// Bytes that were sent and have not left.
    under_way: usize,
    wants_drained: bool,
    is_closing: bool,
    /// What was asked and said; of strangers, whose requests make no sense, nothing is noted.
    talk: Option<Talk>,
}

/// What a turn of a core has done to the world.
#[derive(Debug)]
pub(crate) enum Does {
    /// These bytes go to a connection.
    Send(LinkId, Vec<u8>),
    /// A connection is closed: nothing more comes from it, or goes to it.
    Close(LinkId),
    /// Another core has something to do.
    Wake(CoreId),
    /// An operator's question is answered.
    Answer(u64, AdminResponse),
    /// The bytes of a medium are to be removed.
    Remove(MediaId),
    /// A device is to be told by a push service.
    Push(Push),
    /// A part of the store has something to do.
    Store(Step),
    /// A connection stands for a device of this user, by the clock of the node at that moment.
    LoggedIn(LinkId, u64),
    /// A code goes to a phone.
    Code(String, String),
    /// A refresh token comes or goes.
    Token(Token),
    /// Entries are written, or cut off: told where not all are kept.
    Wrote(Vec<Wrote>),
    /// Something must not be.
    Wrong(String),
    /// The store is broken: the process ends.
    Broken,
}

struct Core {
    shard: Shard,
    hands: Hands,
    inbox: VecDeque<Comes>,
    /// Until then it has no buffers to receive into, its sends find no room, other cores' rings are full to it.
    starves_until: Duration,
    mute_until: Duration,
    crowded_until: Duration,
    /// Connections that end, and until when what is queued to them may leave.
    flushing: VecDeque<(Duration, ConnId)>,
    /// Connections that had each index, and indices that are free.
    generations: Vec<u32>,
    free: Vec<u32>,
}

/// See the module. Dropped, it is killed.
pub(crate) struct Node {
    pub(crate) engine: Store,
    cores: Vec<Core>,
    /// The rings between cores, in order pair by pair.
    rings: BTreeMap<(CoreId, CoreId), VecDeque<Message>>,
    table: SlotTable,
    /// Where each connection is.
    places: BTreeMap<LinkId, (CoreId, ConnId)>,
    /// To where each connection is on its way that is on none.
    in_transit: BTreeMap<LinkId, CoreId>,
    /// Cores that have not got the newest table.
    tables_under_way: usize,
    shape: Shape,
    limits: Limits,
}

/// Where media are had.
fn media_door() -> MediaDoor {
    MediaDoor { url: "https://media".to_owned(), links: Links::new(&[4; 32]) }
}

impl Node {
    /// Starts a process on what the medium holds; `None`: it can't, now.
    /// `books` says what the store holds, if that could be read.
    pub(crate) fn start(
        engine: Store,
        books: Option<&Books>,
        cores: u16,
        shape: &Shape,
        stream: &mut Stream,
    ) -> Option<Self> {
        let record = match engine.get_blocking(&keys::store_identity()).ok()? {
            Some(value) => StoreRecord::decode(value).expect("what was written"),
            None => StoreIdentity::new_store(stream.seed()),
        };
        let record = StoreIdentity::started(record, false, stream.seed());
        let mut batch = Batch::default();
        batch.put_record(&keys::store_identity(), &record);
        engine.commit_blocking(batch).ok()?;
        let identity = StoreIdentity::from_record(&record).expect("a good record");
        let table = SlotTable::even(cores);
        let proven = Proven::begin(books);
        let limits = shape.limits(stream);
        let core = |core| Core {
            shard: Shard::new(Setup {
                process: ProcessId::default(),
                core: CoreId(core),
                slots: table.clone(),
                // Of a store of one process's, as in ternd.
                lanes: 1,
                limits: limits.clone(),
                identity: identity.clone(),
                keys: Keys::new(&KeysRecord::generate([1; 32], [2; 32], [3; 32])).expect("good keys"),
                seed: stream.seed(),
                development: true,
            })
            .with_media(shape.has_media.then(media_door))
            .with_pushes(shape.has_pushes.then(Pushes::pushing)),
            hands: Hands {
                port: engine.port(Arc::new(NoWake)),
                conns: BTreeMap::new(),
                tells: Vec::new(),
                moves: Vec::new(),
                closing: Vec::new(),
                written: Vec::new(),
                does: Vec::new(),
                unproven: Unproven::default(),
                proven: proven.clone(),
                crowded: Vec::new(),
                is_for_ever: shape.history_ms == 0,
            },
            inbox: VecDeque::new(),
            starves_until: Duration::ZERO,
            mute_until: Duration::ZERO,
            crowded_until: Duration::ZERO,
            flushing: VecDeque::new(),
            generations: Vec::new(),
            free: Vec::new(),
        };
        let cores = (0..cores).map(core).collect();
        Some(Self {
            engine,
            cores,
            rings: BTreeMap::new(),
            table,
            places: BTreeMap::new(),
            in_transit: BTreeMap::new(),
            tables_under_way: 0,
            shape: shape.clone(),
            limits,
        })
    }

    pub(crate) fn cores(&self) -> u16 {
        self.cores.len() as u16
    }

    pub(crate) fn table(&self) -> &SlotTable {
        &self.table
    }

    /// Something comes to a core.
    pub(crate) fn comes(&mut self, core: CoreId, what: Comes) {
        self.cores[usize::from(core.0)].inbox.push_back(what);
    }

    /// Something comes on a connection, to the core that has it; `None` if it has gone.
    pub(crate) fn comes_on(&mut self, link: LinkId, what: Comes) -> Option<CoreId> {
        let place = self.places.get(&link).map(|(core, _)| *core);
        let core = place.or_else(|| self.in_transit.get(&link).copied())?;
        self.comes(core, what);
        Some(core)
    }

    /// A slot is to be another core's: the next table, unless that is so, or the last move is not over on every core.
    pub(crate) fn moves(&mut self, slot: Slot, to: CoreId) -> Option<SlotTable> {
        let is_moving =
            self.tables_under_way > 0 || self.cores.iter().any(|core| core.shard.slots_moving() > 0);
        if is_moving || self.table.owner(slot) == to {
            return None;
        }
        self.tables_under_way = self.cores.len();
        self.table = self.table.with_moved(slot, to);
        Some(self.table.clone())
    }

    /// Whether the store has completed something for a core.
    pub(crate) fn has_completions(&self, core: CoreId) -> bool {
        self.cores[usize::from(core.0)].hands.port.has_completions()
    }

    /// Nothing is received by a core for a while.
    pub(crate) fn starve(&mut self, core: CoreId, until: Duration) {
        self.cores[usize::from(core.0)].starves_until = until;
    }

    /// Nothing leaves a core for a while.
    pub(crate) fn mute(&mut self, core: CoreId, until: Duration) {
        self.cores[usize::from(core.0)].mute_until = until;
    }

    /// Nothing more is to be asked of a core for a while.
    pub(crate) fn crowd(&mut self, core: CoreId, until: Duration) {
        self.cores[usize::from(core.0)].crowded_until = until;
    }

    /// One turn of a core: what other cores say, in any order of the rings, what has come, what the store has completed.
    pub(crate) fn turn(&mut self, at: CoreId, now: Duration, now_ms: u64, stream: &mut Stream) -> Vec<Does> {
        self.note_crowded(at, now);
        self.take_from_rings(at, now_ms, stream);
        self.take_from_inbox(at, now, now_ms);
        let mut completions = Vec::new();
        self.cores[usize::from(at.0)].hands.port.poll(&mut completions);
        for completion in completions {
            self.cores[usize::from(at.0)].hands.completed(&completion);
            self.input(at, now_ms, Input::Completed(completion));
        }
        self.abort(at, now, now_ms);
        let Core { shard, hands, .. } = &mut self.cores[usize::from(at.0)];
        shard.end_turn(now_ms, hands);
        self.bounds(at);
        self.after(at, now);
        std::mem::take(&mut self.cores[usize::from(at.0)].hands.does)
    }

    /// Ends connections whose peers have not taken in time what was still to be sent.
    fn abort(&mut self, at: CoreId, now: Duration, now_ms: u64) {
        let flushing = &mut self.cores[usize::from(at.0)].flushing;
        let late = flushing.partition_point(|(by, _)| *by <= now);
        for (_, id) in flushing.drain(..late).collect::<Vec<_>>() {
            // It may have ended by itself.
            if self.cores[usize::from(at.0)].hands.conns.contains_key(&id) {
                self.end(at, now_ms, id);
            }
        }
    }

    /// A core looks which others it asks no more of.
    fn note_crowded(&mut self, at: CoreId, now: Duration) {
        let is_crowded = |to: &CoreId| {
            let waiting = self.rings.get(&(at, *to)).map_or(0, VecDeque::len);
            waiting >= self.shape.congested_max || self.cores[usize::from(to.0)].crowded_until > now
        };
        let crowded = (0..self.cores()).map(CoreId).filter(|to| *to != at && is_crowded(to)).collect();
        self.cores[usize::from(at.0)].hands.crowded = crowded;
    }

    fn take_from_rings(&mut self, at: CoreId, now_ms: u64, stream: &mut Stream) {
        let mut others: Vec<CoreId> = (0..self.cores()).map(CoreId).filter(|core| *core != at).collect();
        while !others.is_empty() {
            let from = others.swap_remove(stream.below(others.len() as u64) as usize);
            let ring = self.rings.entry((from, at)).or_default();
            // Perhaps not all of it: the rest is there the next time.
            let taken =
                if stream.below(4) == 0 { stream.below(ring.len() as u64 + 1) as usize } else { ring.len() };
            let messages: Vec<Message> = ring.drain(..taken).collect();
            if !ring.is_empty() {
                self.cores[usize::from(at.0)].hands.does.push(Does::Wake(at));
            }
            for message in messages {
                self.input(at, now_ms, Input::Told(message));
            }
        }
    }

    /// What has come. While there are no buffers, bytes stay in the kernel, and so does the news of their end.
    fn take_from_inbox(&mut self, at: CoreId, now: Duration, now_ms: u64) {
        let is_starving = self.cores[usize::from(at.0)].starves_until > now;
        let mut stays = VecDeque::new();
        while let Some(what) = self.cores[usize::from(at.0)].inbox.pop_front() {
            if is_starving && matches!(what, Comes::Bytes(..) | Comes::Gone(_)) {
                stays.push_back(what);
            } else {
                self.has_come(at, now_ms, what);
            }
        }
        // A connection that has left meanwhile takes along what is still to be read of it.
        for what in stays {
            let has_left = match &what {
                Comes::Bytes(link, _) | Comes::Gone(link) => !self.is_at(at, *link),
                _ => false,
            };
            if has_left {
                self.has_come(at, now_ms, what);
            } else {
                self.comes(at, what);
            }
        }
    }

    fn is_at(&self, at: CoreId, link: LinkId) -> bool {
        self.places.get(&link).is_some_and(|(core, _)| *core == at)
    }

    /// Nothing that a core keeps is beyond its bound.
    fn bounds(&mut self, at: CoreId) {
        let Core { shard, hands, .. } = &mut self.cores[usize::from(at.0)];
        let (limits, store) = (&self.limits, &self.shape.store);
        let commits = hands.unproven.count();
        if commits > store.commits_in_flight_max || commits != shard.commits_in_flight() {
            let said = shard.commits_in_flight();
            hands.does.push(Does::Wrong(format!("{commits} commits are under way, the brain says {said}")));
        }
        // What exceeds the bound is the one frame after which it was looked at, and the end that is said then.
        let queue_max = limits.send_queue_bytes_hard_max + 2 * SERVER_FRAME_BYTES_MAX;
        let written = hands.written.iter().filter_map(|id| hands.conns.get(id));
        let long = written
            .map(|conn| (conn.link, conn.out.len() + conn.under_way))
            .find(|(_, bytes)| *bytes > queue_max);
        if let Some((link, bytes)) = long {
            hands.does.push(Does::Wrong(format!("{bytes} bytes wait for {link:?}")));
        }
    }

    /// When all is quiet: nobody waits for an answer, and what is in memory is within its bounds.
    pub(crate) fn is_quiet(&self) -> Result<(), String> {
        let limits = &self.limits;
        let logs: usize = self.cores.iter().map(|core| core.shard.in_memory().1).sum();
        let conns: usize = self.cores.iter().map(|core| core.hands.conns.len()).sum();
        // Beside those that are kept there are those that are connected, on any core, and those whose logs are in memory, on any.
        let users_max = limits.users_cached_max + conns + 2 * logs;
        for (number, Core { shard, hands, .. }) in self.cores.iter().enumerate() {
            let mut talks = hands.conns.values().filter_map(|conn| Some((conn.link, conn.talk.as_ref()?)));
            if let Some((link, talk)) = talks.find(|(_, talk)| talk.unanswered() > 0) {
                return Err(format!("{} requests of {link:?} are not answered", talk.unanswered()));
            }
            let (users, logs) = shard.in_memory();
            if users > users_max || logs > limits.logs_cached_max {
                let logs_max = limits.logs_cached_max;
                return Err(format!(
                    "core {number} has {users} users and {logs} logs in memory, beyond {users_max} and {logs_max}"
                ));
            }
            if shard.slots_moving() > 0 || !shard.is_quiet() {
                return Err(format!("on core {number} something is under way"));
            }
        }
        Ok(())
    }

    fn input(&mut self, at: CoreId, now_ms: u64, input: Input<'_>) {
        let Core { shard, hands, .. } = &mut self.cores[usize::from(at.0)];
        shard.handle(now_ms, input, hands);
        self.shell(at);
    }

    /// What the shell does at once: connections move, with what they have of a frame.
    fn shell(&mut self, at: CoreId) {
        for (id, to, arrival) in std::mem::take(&mut self.cores[usize::from(at.0)].hands.moves) {
            let conn = self.cores[usize::from(at.0)].hands.conns.get_mut(&id).expect("what moves is here");
            let unread = std::mem::take(&mut conn.frames).read(&[]).into_rest();
            self.move_out(at, id, to, arrival, unread);
        }
    }

    fn move_out(&mut self, at: CoreId, id: ConnId, to: CoreId, arrival: Arrival, unread: Vec<u8>) {
        let core = &mut self.cores[usize::from(at.0)];
        let conn = core.hands.conns.remove(&id).expect("what moves is here");
        core.free.push(id.index);
        core.hands.does.push(Does::Wake(to));
        self.places.remove(&conn.link);
        self.in_transit.insert(conn.link, to);
        self.comes(to, Comes::Moved(Box::new(Moved { conn, arrival, unread })));
    }

    /// Where a connection is on this core. What has come for one that has moved goes after it.
    fn here(&mut self, at: CoreId, link: LinkId, what: Comes) -> Option<(ConnId, Comes)> {
        let elsewhere = match self.places.get(&link) {
            Some((core, conn)) if *core == at => return Some((*conn, what)),
            Some((core, _)) => Some(*core),
            None => self.in_transit.get(&link).copied(),
        };
        if let Some(core) = elsewhere {
            self.comes(core, what);
            self.cores[usize::from(at.0)].hands.does.push(Does::Wake(core));
        }
        None
    }

    fn place(&mut self, at: CoreId, link: LinkId) -> ConnId {
        let core = &mut self.cores[usize::from(at.0)];
        let index = core.free.pop().unwrap_or_else(|| {
            core.generations.push(0);
            core.generations.len() as u32 - 1
        });
        let generation = &mut core.generations[index as usize];
        *generation += 1;
        let conn = ConnId { index, generation: *generation };
        self.places.insert(link, (at, conn));
        self.in_transit.remove(&link);
        conn
    }

    fn has_come(&mut self, at: CoreId, now_ms: u64, what: Comes) {
        match what {
            Comes::Opened(link, is_device) => {
                let id = self.place(at, link);
                let conn = Conn {
                    link,
                    frames: FrameBuffer::default(),
                    out: Vec::new(),
                    under_way: 0,
                    wants_drained: false,
                    is_closing: false,
                    talk: is_device.then(Talk::default),
                };
                self.cores[usize::from(at.0)].hands.conns.insert(id, conn);
                self.input(at, now_ms, Input::Opened(id, link.0));
            }
            Comes::Moved(moved) => {
                let Moved { conn, arrival, unread } = *moved;
                let id = self.place(at, conn.link);
                let hands = &mut self.cores[usize::from(at.0)].hands;
                if !conn.out.is_empty() {
                    hands.written.push(id);
                }
                hands.conns.insert(id, conn);
                self.input(at, now_ms, Input::Arrived(id, arrival));
                self.read(at, now_ms, id, &unread);
            }
            Comes::Bytes(link, _) | Comes::Gone(link) | Comes::Left(link, _) => {
                let Some((conn, what)) = self.here(at, link, what) else { return };
                match what {
                    Comes::Bytes(_, bytes) => self.read(at, now_ms, conn, &bytes),
                    Comes::Left(_, bytes) => self.left(at, now_ms, conn, bytes),
                    _ => self.end(at, now_ms, conn),
                }
            }
            Comes::Asked(question, request) => self.input(at, now_ms, Input::Asked(question, request)),
            Comes::Pushed(pushed) => self.input(at, now_ms, Input::Pushed(pushed)),
            Comes::Table(table) => {
                self.tables_under_way -= 1;
                self.input(at, now_ms, Input::Slots(table));
            }
            Comes::Tick => self.input(at, now_ms, Input::Tick),
        }
    }

    /// Cuts what has come into frames, as far as the connection stays here.
    fn read(&mut self, at: CoreId, now_ms: u64, id: ConnId, bytes: &[u8]) {
        let core = &mut self.cores[usize::from(at.0)];
        let Some(conn) = core.hands.conns.get_mut(&id).filter(|conn| !conn.is_closing) else { return };
        let mut buffer = std::mem::take(&mut conn.frames);
        let mut frames = buffer.read(bytes);
        loop {
            let core = &mut self.cores[usize::from(at.0)];
            let bytes_max = core.shard.frame_bytes_max(id);
            match frames.next(bytes_max) {
                Ok(Some(frame)) => {
                    core.hands.frame_came(id, frame);
                    core.shard.handle(now_ms, Input::Frame(id, frame), &mut core.hands);
                }
                Ok(None) => break,
                Err(_) => {
                    let farewell = Farewell::new(Reason::Malformed, "no frames");
                    core.shard.handle(now_ms, Input::Broken(id, farewell), &mut core.hands);
                    break;
                }
            }
            if let Some((_, to, arrival)) = core.hands.moves.pop() {
                let rest = frames.into_rest();
                return self.move_out(at, id, to, arrival, rest);
            }
        }
        if let Some(conn) = self.cores[usize::from(at.0)].hands.conns.get_mut(&id) {
            conn.frames = buffer;
        }
    }

    fn left(&mut self, at: CoreId, now_ms: u64, id: ConnId, bytes: usize) {
        let conn = self.cores[usize::from(at.0)].hands.conns.get_mut(&id).expect("it is here");
        conn.under_way = conn.under_way.checked_sub(bytes).expect("what leaves was sent");
        if conn.out.is_empty() && conn.under_way == 0 {
            if conn.is_closing {
                self.end(at, now_ms, id);
            } else if std::mem::take(&mut conn.wants_drained) {
                self.input(at, now_ms, Input::Drained(id));
            }
        }
    }

    /// A connection has gone: the brain hears of it, and its index is free.
    fn end(&mut self, at: CoreId, now_ms: u64, id: ConnId) {
        let core = &mut self.cores[usize::from(at.0)];
        let conn = core.hands.conns.remove(&id).expect("it is here");
        self.places.remove(&conn.link);
        core.hands.does.push(Does::Close(conn.link));
        self.input(at, now_ms, Input::Closed(id));
        self.cores[usize::from(at.0)].free.push(id.index);
    }

    /// A turn is over: what was said to others is in the rings, and what was queued is sent.
    fn after(&mut self, at: CoreId, now: Duration) {
        let Core { hands, flushing, mute_until, .. } = &mut self.cores[usize::from(at.0)];
        let is_mute = *mute_until > now;
        let mut woken = Vec::new();
        for (to, message) in hands.tells.drain(..) {
            self.rings.entry((at, to)).or_default().push_back(message);
            woken.push(to);
        }
        woken.sort_unstable();
        woken.dedup();
        hands.does.extend(woken.into_iter().map(Does::Wake));
        for id in std::mem::take(&mut hands.closing) {
            if let Some(conn) = hands.conns.get_mut(&id) {
                conn.is_closing = true;
                flushing.push_back((now + FLUSH_MAX, id));
                if conn.out.is_empty() && conn.under_way == 0 {
                    hands.does.push(Does::Send(conn.link, Vec::new()));
                }
            }
        }
        if is_mute {
            return;
        }
        for id in std::mem::take(&mut hands.written) {
            // It may have gone meanwhile.
            let Some(conn) = hands.conns.get_mut(&id).filter(|conn| !conn.out.is_empty()) else { continue };
            let bytes = std::mem::take(&mut conn.out);
            conn.under_way += bytes.len();
            hands.does.push(Does::Send(conn.link, bytes));
        }
    }

    /// The longest that a core may sleep.
    pub(crate) const TICK: Duration = Duration::from_millis(100);
}
