//! The node: a process with cores, each a brain in a small shell, over the store on a simulated medium.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tern_proto::v1;
use tern_shard::admin::{AdminRequest, AdminResponse};
use tern_shard::effects::Stage;
use tern_shard::entry::Author;
use tern_shard::identity::StoreIdentity;
use tern_shard::limits::Limits;
use tern_shard::message::Message;
use tern_shard::reply::ConnId;
use tern_shard::slots::{CoreId, ProcessId, SlotTable};
use tern_shard::tokens::{Keys, KeysRecord};
use tern_shard::{Arrival, Effects, Input, Setup, Shard};
use tern_storage::embedded::EmbeddedOptions;
use tern_storage::embedded::SteppedEngine;
use tern_storage::medium::simulated::SimulatedMedium;
use tern_storage::medium::stream::Stream;
use tern_storage::records::StoreRecord;
use tern_storage::{
    Batch, Busy, CommitId, Direction, Engine as _, Fence, Key, KeyRange, Lane, Port, ReadId, ScanLimit,
    StoreError, Wake, keys,
};
use tern_wire::errors::{Farewell, Reason};
use tern_wire::frame::{self, FrameBuffer};
use tern_wire::ids::{ClientMessageId, Phone};

use crate::network::LinkId;

/// What comes to a core.
#[derive(Debug)]
pub(crate) enum Comes {
    Opened(LinkId),
    Bytes(LinkId, Vec<u8>),
    /// The peer sends no more, or the connection broke.
    Gone(LinkId),
    /// So many bytes of a connection have left.
    Left(LinkId, usize),
    Moved(Box<Moved>),
    Asked(u64, AdminRequest),
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
    Answer(AdminResponse),
    /// The store must be given steps.
    Store,
    /// The store is broken: the process ends.
    Broken,
}

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// The bounds of a node: of every other one so small that what is in memory leaves it, and what is pushed waits.
fn limits(stream: &mut Stream) -> Limits {
    let (sends_per_minute_max, strangers_per_hour_max, lookups_per_minute_max) = (0, 0, 0);
    let large =
        Limits { sends_per_minute_max, strangers_per_hour_max, lookups_per_minute_max, ..Limits::default() };
    if stream.below(2) == 0 {
        return large;
    }
    let mut small = |min: u64, more: u64| (min + stream.below(more)) as usize;
    Limits {
        logs_cached_max: small(0, 8),
        users_cached_max: small(0, 4),
        tail_entries_max: small(1, 8),
        inbox_step_rows: small(1, 4),
        send_queue_bytes_max: small(50, 4000),
        mark_quiet_ms: 500,
        ..large
    }
}

/// One core's shell.
struct Hands {
    port: Box<dyn Port>,
    conns: BTreeMap<ConnId, Conn>,
    /// Messages to others, until the turn ends.
    tells: Vec<(CoreId, Message)>,
    moves: Vec<(ConnId, CoreId, Arrival)>,
    closing: Vec<ConnId>,
    does: Vec<Does>,
}

impl Effects for Hands {
    fn send(&mut self, conn: ConnId, frame: &v1::ServerFrame) -> usize {
        match self.conns.get_mut(&conn) {
            Some(conn) => frame::encode(frame, &mut conn.out),
            None => frame.encoded_len(),
        }
    }

    fn backlog(&mut self, conn: ConnId) -> usize {
        self.conns.get(&conn).map_or(0, |conn| conn.out.len() + conn.under_way)
    }

    fn notify_drained(&mut self, conn: ConnId) {
        if let Some(conn) = self.conns.get_mut(&conn) {
            conn.wants_drained = true;
        }
    }

    fn close(&mut self, conn: ConnId) {
        self.closing.push(conn);
    }

    fn move_to(&mut self, conn: ConnId, core: CoreId, arrival: Arrival) {
        self.moves.push((conn, core, arrival));
    }

    fn peer_address(&mut self, _: ConnId) -> [u8; 16] {
        [0; 16]
    }

    fn tell(&mut self, core: CoreId, message: Message) {
        self.tells.push((core, message));
    }

    fn congested(&self, _: CoreId) -> bool {
        false
    }

    fn submit(
        &mut self,
        lane: Lane,
        batch: Batch,
        deciding: Fence,
    ) -> Result<CommitId, Busy<(Batch, Fence)>> {
        self.does.push(Does::Store);
        self.port.submit_in(lane, batch, deciding)
    }

    fn get(&mut self, key: Key) -> Result<ReadId, Busy<Key>> {
        self.does.push(Does::Store);
        self.port.get(key)
    }

    fn scan(
        &mut self,
        range: KeyRange,
        direction: Direction,
        limit: ScanLimit,
    ) -> Result<ReadId, Busy<KeyRange>> {
        self.does.push(Does::Store);
        self.port.scan(range, direction, limit)
    }

    fn deliver_code(&mut self, _: &Phone, _: &str, _: u64) -> bool {
        true
    }

    fn answer(&mut self, _: u64, response: AdminResponse) {
        self.does.push(Does::Answer(response));
    }

    fn passed(&mut self, _: Author, _: ClientMessageId, _: Stage) {}

    fn store_trouble(&mut self, error: &StoreError) {
        if matches!(error, StoreError::Failed { .. }) {
            self.does.push(Does::Broken);
        }
    }

    fn store_recovered(&mut self, _: u64) {}
}

struct Core {
    shard: Shard,
    hands: Hands,
    inbox: VecDeque<Comes>,
    /// Connections that had each index, and indices that are free.
    generations: Vec<u32>,
    free: Vec<u32>,
}

/// See the module. Dropped, it is killed.
pub(crate) struct Node {
    pub(crate) engine: SteppedEngine,
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
}

impl Node {
    /// Starts a process on what the medium holds; `None`: it can't, now.
    pub(crate) fn start(medium: &SimulatedMedium, cores: u16, stream: &mut Stream) -> Option<Self> {
        let options = EmbeddedOptions {
            free_bytes_min: 0,
            flush_bytes: 16 << 10,
            segment_bytes: 8 << 10,
            ..EmbeddedOptions::default()
        };
        let engine = SteppedEngine::open(medium, Path::new("/store"), options, stream.number()).ok()?;
        let record = match engine.get_blocking(&keys::store_identity()).ok()? {
            Some(value) => StoreRecord::decode(value).expect("what was written"),
            None => StoreIdentity::new_store(stream.seed()),
        };
        let record = StoreIdentity::started(record, false, stream.seed());
        let mut batch = Batch::default();
        batch.put(keys::store_identity(), record.encode_to_vec());
        engine.commit_blocking(batch).ok()?;
        let identity = StoreIdentity::from_record(&record).expect("a good record");
        let table = SlotTable::even(cores);
        let limits = limits(stream);
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
            }),
            hands: Hands {
                port: engine.port(Arc::new(NoWake)),
                conns: BTreeMap::new(),
                tells: Vec::new(),
                moves: Vec::new(),
                closing: Vec::new(),
                does: Vec::new(),
            },
            inbox: VecDeque::new(),
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

    /// The next table, if every core is done with the last one.
    pub(crate) fn moves(&mut self, table: SlotTable) -> bool {
        let is_moving =
            self.tables_under_way > 0 || self.cores.iter().any(|core| core.shard.slots_moving() > 0);
        if is_moving {
            return false;
        }
        self.tables_under_way = self.cores.len();
        self.table = table;
        true
    }

    /// Whether the store has completed something for a core.
    pub(crate) fn has_completions(&self, core: CoreId) -> bool {
        self.cores[usize::from(core.0)].hands.port.has_completions()
    }

    /// One turn of a core: what other cores say, in any order of the rings, what has come, what the store has completed.
    pub(crate) fn turn(&mut self, at: CoreId, now_ms: u64, stream: &mut Stream) -> Vec<Does> {
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
        while let Some(what) = self.cores[usize::from(at.0)].inbox.pop_front() {
            self.has_come(at, now_ms, what);
        }
        let mut completions = Vec::new();
        self.cores[usize::from(at.0)].hands.port.poll(&mut completions);
        for completion in completions {
            self.input(at, now_ms, Input::Completed(completion));
        }
        let Core { shard, hands, .. } = &mut self.cores[usize::from(at.0)];
        shard.end_turn(now_ms, hands);
        self.after(at);
        std::mem::take(&mut self.cores[usize::from(at.0)].hands.does)
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
            Comes::Opened(link) => {
                let id = self.place(at, link);
                let conn = Conn {
                    link,
                    frames: FrameBuffer::default(),
                    out: Vec::new(),
                    under_way: 0,
                    wants_drained: false,
                    is_closing: false,
                };
                self.cores[usize::from(at.0)].hands.conns.insert(id, conn);
                self.input(at, now_ms, Input::Opened(id));
            }
            Comes::Moved(moved) => {
                let Moved { conn, arrival, unread } = *moved;
                let id = self.place(at, conn.link);
                self.cores[usize::from(at.0)].hands.conns.insert(id, conn);
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
                Ok(Some(frame)) => core.shard.handle(now_ms, Input::Frame(id, frame), &mut core.hands),
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
    fn after(&mut self, at: CoreId) {
        let hands = &mut self.cores[usize::from(at.0)].hands;
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
                if conn.out.is_empty() && conn.under_way == 0 {
                    hands.does.push(Does::Send(conn.link, Vec::new()));
                }
            }
        }
        for conn in hands.conns.values_mut().filter(|conn| !conn.out.is_empty()) {
            let bytes = std::mem::take(&mut conn.out);
            conn.under_way += bytes.len();
            hands.does.push(Does::Send(conn.link, bytes));
        }
    }

    /// The longest that a core may sleep.
    pub(crate) const TICK: Duration = Duration::from_millis(100);
}
