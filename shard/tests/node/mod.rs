//! A whole node in one thread: brains, a mesh, a store that fails as its seed says, and time that the test sets. What
//! happens next among all that could is chosen at random: reads end late and in any order, the store is busy now and then,
//! reads fail, and readers are slow, as the [`Weather`] has it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use fastrand::Rng;
use prost::Message as _;
use tern_proto::v1::{self, client_frame::Request};
use tern_shard::admin::{AdminRequest, AdminResponse, Provisioned};
use tern_shard::effects::{Filtering, Push, PushFate, Pushed, Pushing, Question, Stage, Verdict};
use tern_shard::entry::Author;
use tern_shard::identity::StoreIdentity;
use tern_shard::limits::Limits;
use tern_shard::media::MediaDoor;
use tern_shard::message::Message;
use tern_shard::reply::ConnId;
use tern_shard::slots::{CoreId, ProcessId, SlotTable};
use tern_shard::tokens::{Keys, KeysRecord};
use tern_shard::{Arrival, Effects, Input, Setup, Shard};
use tern_storage::memory::Memory;
use tern_storage::records::StoreRecord;
use tern_storage::{
    Batch, Busy, CommitId, Completion, Direction, Engine as _, Fence, Key, KeyRange, Lane, Port, ReadId,
    SLOTS, ScanLimit, Slot, StoreError, Wake,
};
use tern_wire::ids::{ClientMessageId, MediaId, Name, Phone};
use tern_wire::links::Links;

/// What a node has to bear.
#[derive(Clone, Copy, Default, Debug)]
pub struct Weather {
    /// Reads in a thousand that find damage which is not there the next time.
    pub reads_fail_per_mille: u16,
    /// Calls in a thousand for which the store has no room.
    pub busy_per_mille: u16,
    /// What is sent stays in its queue until the test takes it.
    pub slow_readers: bool,
}

/// Those of each core.
pub const LANES: u16 = 3;

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// What one brain has done to the world.
struct Hands {
    port: Box<dyn Port>,
    weather: Weather,
    rng: Rng,
    /// Reads that the store has ended and the brain has not heard of.
    reads: Vec<Completion>,
    /// What was said to each core, with the version of the table that this one had then.
    mesh: BTreeMap<CoreId, VecDeque<(u64, Message)>>,
    /// Batches in which nothing is written: no slot has decided them.
    empty: BTreeSet<CommitId>,
    /// The version of its table.
    version: u64,
    frames: BTreeMap<ConnId, VecDeque<v1::ServerFrame>>,
    moves: VecDeque<(ConnId, CoreId, Arrival)>,
    /// Tables that the brain has not heard of.
    tables: VecDeque<SlotTable>,
    closing: VecDeque<ConnId>,
    drained: VecDeque<ConnId>,
    answers: Vec<(u64, AdminResponse)>,
    failed: bool,
    troubles: Vec<StoreError>,
    recovered: Vec<u64>,
    unanswered: Vec<Slot>,
    damage: bool,
    /// From where connections come now, and from where those that are here have come.
    address: [u8; 16],
    addresses: BTreeMap<ConnId, [u8; 16]>,
    /// The codes that were delivered.
    codes: Vec<String>,
    refuses_codes: bool,
    /// What the content filter was asked and has not been told of; and whether the way to it is full.
    questions: Vec<Question>,
    is_filter_full: bool,
    traffic: Traffic,
    /// What devices are to be told by push services; and whether the way to these is full.
    pushes: Vec<Push>,
    is_push_full: bool,
    /// Media whose bytes are to be removed.
    removals: Vec<MediaId>,
}

/// What was done: rows and ranges that were read, by the letters of their tables, and messages to other cores.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Traffic {
    pub reads: BTreeMap<char, u64>,
    pub messages: u64,
}

impl Effects for Hands {
    fn passed(&mut self, _: Author, _: ClientMessageId, _: Stage) {}

    fn send(&mut self, conn: ConnId, frame: &v1::ServerFrame) -> usize {
        if let Some(frames) = self.frames.get_mut(&conn) {
            frames.push_back(frame.clone());
        }
        frame.encoded_len()
    }

    fn backlog(&mut self, conn: ConnId) -> usize {
        let frames = self.frames.get(&conn).filter(|_| self.weather.slow_readers);
        frames.into_iter().flatten().map(|frame| frame.encoded_len()).sum()
    }

    fn notify_drained(&mut self, conn: ConnId) {
        self.drained.push_back(conn);
    }

    fn close(&mut self, conn: ConnId) {
        if !self.closing.contains(&conn) {
            self.closing.push_back(conn);
        }
    }

    fn move_to(&mut self, conn: ConnId, core: CoreId, arrival: Arrival) {
        self.moves.push_back((conn, core, arrival));
    }

    fn peer_address(&mut self, conn: ConnId) -> [u8; 16] {
        self.addresses.get(&conn).copied().unwrap_or(self.address)
    }

    fn tell(&mut self, core: CoreId, message: Message) {
        self.traffic.messages += 1;
        self.mesh.entry(core).or_default().push_back((self.version, message));
    }

    fn congested(&self, _core: CoreId) -> bool {
        false
    }

    fn submit(
        &mut self,
        lane: Lane,
        batch: Batch,
        deciding: Fence,
    ) -> Result<CommitId, Busy<(Batch, Fence)>> {
        if self.is_busy() {
            return Err(Busy((batch, deciding)));
        }
        let is_empty = batch.is_empty();
        let submitted = self.port.submit_in(lane, batch, deciding);
        if let (true, Ok(commit)) = (is_empty, &submitted) {
            self.empty.insert(*commit);
        }
        submitted
    }

    fn get(&mut self, key: Key) -> Result<ReadId, Busy<Key>> {
        if self.is_busy() {
            return Err(Busy(key));
        }
        self.note_read(&key);
        self.port.get(key)
    }

    fn scan(
        &mut self,
        range: KeyRange,
        direction: Direction,
        limit: ScanLimit,
    ) -> Result<ReadId, Busy<KeyRange>> {
        if self.is_busy() {
            return Err(Busy(range));
        }
        self.note_read(&range.start);
        self.port.scan(range, direction, limit)
    }

    fn deliver_code(&mut self, _phone: &Phone, code: &str, _expires_ms: u64) -> bool {
        if !self.refuses_codes {
            self.codes.push(code.to_owned());
        }
        !self.refuses_codes
    }

    fn look_at(&mut self, question: Question) -> bool {
        if !self.is_filter_full {
            self.questions.push(question);
        }
        !self.is_filter_full
    }

    fn push(&mut self, push: Push) -> bool {
        if !self.is_push_full {
            self.pushes.push(push);
        }
        !self.is_push_full
    }

    fn remove_medium(&mut self, medium: MediaId) {
        self.removals.push(medium);
    }

    fn answer(&mut self, question: u64, response: AdminResponse) {
        self.answers.push((question, response));
    }

    fn store_trouble(&mut self, error: &StoreError) {
        self.failed |= matches!(error, StoreError::Failed { .. });
        self.troubles.push(error.clone());
        self.damage |= matches!(error, StoreError::Corrupt { .. });
    }

    fn store_recovered(&mut self, refused: u64) {
        self.recovered.push(refused);
    }

    fn unanswered(&mut self, _owner: CoreId, slot: Slot) {
        self.unanswered.push(slot);
    }
}

impl Hands {
    fn note_read(&mut self, key: &Key) {
        let table = char::from(key.as_ref()[0]);
        *self.traffic.reads.entry(table).or_default() += 1;
    }

    fn is_busy(&mut self) -> bool {
        self.rng.u16(..1000) < self.weather.busy_per_mille
    }

    /// Some of what the store has ended: all commits, whose failures the port believes to be known once they are polled, or a
    /// read.
    fn completions(&mut self) -> Vec<Completion> {
        if self.reads.is_empty() || self.rng.bool() {
            let mut commits = Vec::new();
            self.port.poll(&mut commits);
            let is_read =
                |ended: &mut Completion| matches!(ended, Completion::Value { .. } | Completion::Rows { .. });
            self.reads.extend(commits.extract_if(.., is_read));
            if !commits.is_empty() {
                return commits;
            }
        }
        self.read().into_iter().collect()
    }

    fn read(&mut self) -> Option<Completion> {
        if self.reads.is_empty() {
            return None;
        }
        let completion = self.reads.swap_remove(self.rng.usize(..self.reads.len()));
        if self.rng.u16(..1000) >= self.weather.reads_fail_per_mille {
            return Some(completion);
        }
        let error = StoreError::Corrupt { place: "where this test says so".to_owned() };
        Some(match completion {
            Completion::Value { read, .. } => Completion::Value { read, result: Err(error) },
            Completion::Rows { read, .. } => Completion::Rows { read, result: Err(error) },
            other => other,
        })
    }
}

struct Core {
    shard: Shard,
    hands: Hands,
    connections: u32,
    /// The version of the table with which each of its brains began, rising.
    born: Vec<u64>,
    /// It has let slots go, and may still be reading for them.
    reads_for_others: bool,
    /// Of what it has said to each core, so much must come: what waited for a slot that it has let go went behind that, and what it had
    /// asked for the slot's users went to whoever owns the logs.
    owes: BTreeMap<CoreId, usize>,
}

/// A connection, wherever it has moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link(pub usize);

/// See the module.
pub struct Node {
    limits: Limits,
    identity: StoreIdentity,
    /// The version of the last table in which slots were taken over.
    taken: u64,
    /// The ports of brains that were lost, and their empty batches.
    graves: Vec<(Box<dyn Port>, BTreeSet<CommitId>)>,
    store: Memory,
    cores: Vec<Core>,
    pub now_ms: u64,
    slots: SlotTable,
    links: Vec<Option<(CoreId, ConnId)>>,
    /// What the node said before it closed a connection.
    last_words: BTreeMap<usize, VecDeque<v1::ServerFrame>>,
    /// What has come on connections that are on their way.
    unread: BTreeMap<usize, Vec<Vec<u8>>>,
    /// How often a connection has moved.
    pub connections_moved: u64,
    questions: u64,
    filtering: Option<Filtering>,
    pushing: Option<Pushing>,
}

/// Where media are had.
fn media_door() -> Option<MediaDoor> {
    Some(MediaDoor { url: "https://media".to_owned(), links: Links::new(&[4; 32]) })
}

/// The installation's keys, the same after every crash.
fn keys() -> Keys {
    Keys::new(&KeysRecord::generate([1; 32], [2; 32], [3; 32])).expect("good keys")
}

/// The identity of a store, with one more start, which one it is, and whether that could be written: a real node would not start
/// otherwise.
fn identity(store: &Memory) -> (StoreIdentity, u8, bool) {
    let key = tern_storage::keys::store_identity();
    let record = store.get_blocking(&key).expect("it can be read");
    let record = match record {
        Some(value) => StoreRecord::decode(value).expect("what was written"),
        None => StoreIdentity::new_store([9; 32]),
    };
    let random = [record.generations.len() as u8 + 1; 32];
    let record = StoreIdentity::started(record, false, random);
    let mut batch = Batch::default();
    batch.put_record(&key, &record);
    let mut written = store.commit_blocking(batch.clone());
    while written == Err(StoreError::Full) {
        written = store.commit_blocking(batch.clone());
    }
    let starts = record.generations.len() as u8;
    (StoreIdentity::from_record(&record).expect("a good record"), starts, written.is_ok())
}

impl Node {
    /// A node that has just started on a store.
    pub fn start(store: &Memory, cores: u16, limits: &Limits, now_ms: u64) -> Self {
        let slots = SlotTable::even(cores);
        let (identity, starts, has_started) = identity(store);
        // No start draws what one before has drawn.
        let seed = |core: u16| {
            let mut seed = [core as u8; 32];
            seed[0] ^= starts - 1;
            seed
        };
        let core = |core| Core {
            shard: Shard::new(Setup {
                process: ProcessId::default(),
                core: CoreId(core),
                slots: slots.clone(),
                lanes: LANES,
                limits: limits.clone(),
                identity: identity.clone(),
                keys: keys(),
                seed: seed(core),
                development: true,
            })
            .with_media(media_door()),
            hands: Hands {
                port: store.port(Arc::new(NoWake)),
                weather: Weather::default(),
                rng: Rng::with_seed(u64::from(core) ^ now_ms),
                reads: Vec::new(),
                mesh: BTreeMap::new(),
                empty: BTreeSet::new(),
                version: slots.version(),
                frames: BTreeMap::new(),
                moves: VecDeque::new(),
                tables: VecDeque::new(),
                closing: VecDeque::new(),
                drained: VecDeque::new(),
                answers: Vec::new(),
                failed: !has_started,
                troubles: Vec::new(),
                recovered: Vec::new(),
                unanswered: Vec::new(),
                damage: false,
                address: [0; 16],
                addresses: BTreeMap::new(),
                codes: Vec::new(),
                refuses_codes: false,
                questions: Vec::new(),
                is_filter_full: false,
                traffic: Traffic::default(),
                pushes: Vec::new(),
                is_push_full: false,
                removals: Vec::new(),
            },
            connections: 0,
            born: vec![slots.version()],
            reads_for_others: false,
            owes: BTreeMap::new(),
        };
        Self {
            limits: limits.clone(),
            identity: identity.clone(),
            taken: 0,
            graves: Vec::new(),
            store: store.clone(),
            cores: (0..cores).map(core).collect(),
            now_ms,
            slots,
            links: Vec::new(),
            last_words: BTreeMap::new(),
            unread: BTreeMap::new(),
            connections_moved: 0,
            questions: 0,
            filtering: None,
            pushing: None,
        }
    }

    /// What was done since it was asked last.
    pub fn traffic(&mut self) -> Traffic {
        let mut all = Traffic::default();
        for core in &mut self.cores {
            let Traffic { reads, messages } = std::mem::take(&mut core.hands.traffic);
            all.messages += messages;
            for (table, count) in reads {
                *all.reads.entry(table).or_default() += count;
            }
        }
        all
    }

    /// The weather from now on.
    pub fn weather(&mut self, weather: Weather) {
        self.cores.iter_mut().for_each(|core| core.hands.weather = weather);
    }

    /// Whether a core has found the medium broken: a real node stops then.
    pub fn has_failed(&self) -> bool {
        self.cores.iter().any(|core| core.hands.failed)
    }

    /// A content filter looks at what is said from now on.
    pub fn filter(&mut self, filtering: Filtering) {
        self.filtering = Some(filtering);
        self.begin_anew();
    }

    /// Devices are told by push services from now on.
    pub fn push_by(&mut self, pushing: Pushing) {
        self.pushing = Some(pushing);
        self.begin_anew();
    }

    /// All brains are others, which remember nothing.
    fn begin_anew(&mut self) {
        for core in 0..self.cores.len() {
            self.cores[core].shard = self.brain(CoreId(core as u16), [core as u8; 32]);
        }
    }

    fn brain(&self, core: CoreId, seed: [u8; 32]) -> Shard {
        let shard = Shard::new(Setup {
            process: ProcessId::default(),
            core,
            slots: self.slots.clone(),
            lanes: LANES,
            limits: self.limits.clone(),
            identity: self.identity.clone(),
            keys: keys(),
            seed,
            development: true,
        });
        shard.with_filter(self.filtering).with_pushes(self.pushing.clone()).with_media(media_door())
    }

    /// What devices are to be told, as was said since this was asked last, by the cores that say so.
    pub fn pushes(&mut self) -> Vec<(u16, Push)> {
        let cores = self.cores.iter_mut().zip(0..);
        let said = cores.flat_map(|(core, number)| {
            std::mem::take(&mut core.hands.pushes).into_iter().map(move |push| (number, push))
        });
        said.collect()
    }

    /// This has become of it.
    pub fn push_ends(&mut self, core: u16, push: &Push, fate: PushFate) {
        let Push { device, log, number, to, .. } = push;
        let pushed = Pushed { device: *device, log: *log, number: *number, since_ms: to.since_ms, fate };
        self.input(CoreId(core), Input::Pushed(pushed));
    }

    /// Whether the way to push services is full.
    pub fn fill_pushes(&mut self, full: bool) {
        self.cores.iter_mut().for_each(|core| core.hands.is_push_full = full);
    }

    /// What it is asked, since this was asked last: each by a core, which wants the answer.
    pub fn questions(&mut self) -> Vec<(u16, Question)> {
        let cores = self.cores.iter_mut().zip(0..);
        let asked = cores.flat_map(|(core, number)| {
            std::mem::take(&mut core.hands.questions).into_iter().map(move |question| (number, question))
        });
        asked.collect()
    }

    /// It says this.
    pub fn says(&mut self, (core, question): &(u16, Question), verdict: Verdict) {
        self.input(CoreId(*core), Input::Seen(question.log, question.number, verdict));
    }

    /// Whether the way to it is full.
    pub fn fill_filter(&mut self, full: bool) {
        self.cores.iter_mut().for_each(|core| core.hands.is_filter_full = full);
    }

    /// Connections come from this network from now on.
    pub fn come_from(&mut self, network: u8) {
        for core in &mut self.cores {
            core.hands.address = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, network];
        }
    }

    /// Whether the way to the deliverer of codes is full.
    pub fn refuse_codes(&mut self, full: bool) {
        for core in &mut self.cores {
            core.hands.refuses_codes = full;
        }
    }

    /// The codes that were delivered since the last call, oldest first.
    pub fn codes(&mut self) -> Vec<String> {
        self.cores.iter_mut().flat_map(|core| std::mem::take(&mut core.hands.codes)).collect()
    }

    /// Whether a core has found a record that is not what was written.
    pub fn told_of_damage(&self) -> bool {
        self.cores.iter().any(|core| core.hands.damage)
    }

    /// What operators were told: of trouble, and of how many batches were refused when it was over.
    pub fn told_operators(&self) -> (Vec<StoreError>, Vec<u64>) {
        let hands = || self.cores.iter().map(|core| &core.hands);
        (
            hands().flat_map(|hands| hands.troubles.clone()).collect(),
            hands().flat_map(|hands| hands.recovered.clone()).collect(),
        )
    }

    /// Says something to a core that another could have said.
    pub fn tell(&mut self, core: u16, message: Message) {
        self.input(CoreId(core), Input::Told(message));
    }

    /// Ends every core's turn: what was written goes to the store.
    pub fn end_turns(&mut self) {
        for core in 0..self.cores.len() {
            self.end_turn(core);
        }
    }

    /// The brains hear of all that the store has ended.
    pub fn hear(&mut self) {
        for core in 0..self.cores.len() {
            while self.complete(core) {}
        }
    }

    fn input(&mut self, core: CoreId, input: Input<'_>) {
        let Core { shard, hands, reads_for_others, owes, .. } = &mut self.cores[usize::from(core.0)];
        let moving = shard.slots_moving();
        shard.handle(self.now_ms, input, hands);
        if *reads_for_others && shard.slots_moving() < moving {
            owes.extend(hands.mesh.iter().map(|(to, said)| (*to, said.len())));
        }
    }

    fn new_conn(&mut self, core: CoreId) -> ConnId {
        let core = &mut self.cores[usize::from(core.0)];
        core.connections += 1;
        let conn = ConnId { index: core.connections, generation: 1 };
        core.hands.frames.insert(conn, VecDeque::new());
        core.hands.addresses.insert(conn, core.hands.address);
        conn
    }

    /// A connection with a core.
    pub fn connect(&mut self, core: u16) -> Link {
        let core = CoreId(core);
        let conn = self.new_conn(core);
        self.links.push(Some((core, conn)));
        self.input(core, Input::Opened(conn, self.links.len() as u64));
        Link(self.links.len() - 1)
    }

    /// Whether no core has anything to tell another.
    pub fn is_told(&self) -> bool {
        self.cores.iter().all(|core| core.hands.mesh.values().all(VecDeque::is_empty))
    }

    /// Whether a connection stands.
    pub fn stands(&self, link: Link) -> bool {
        self.links[link.0].is_some()
    }

    /// Sends a request; nothing happens if the connection has gone.
    pub fn request(&mut self, link: Link, id: u64, request: Request) {
        let Some((core, conn)) = self.links[link.0] else { return };
        let frame = v1::ClientFrame { id, request: Some(request) }.encode_to_vec();
        if self.cores[usize::from(core.0)].hands.moves.iter().any(|(moves, ..)| *moves == conn) {
            self.unread.entry(link.0).or_default().push(frame);
        } else {
            self.input(core, Input::Frame(conn, &frame));
        }
    }

    /// Breaks a connection.
    pub fn disconnect(&mut self, link: Link) {
        if let Some((core, conn)) = self.links[link.0].take() {
            let hands = &mut self.cores[usize::from(core.0)].hands;
            hands.frames.remove(&conn);
            self.unread.remove(&link.0);
            let moves = hands.moves.iter().position(|(moves, ..)| *moves == conn);
            match moves.and_then(|at| hands.moves.remove(at)) {
                Some((_, _, arrival)) => self.input(core, Input::Lost(arrival)),
                None => self.input(core, Input::Closed(conn)),
            }
        }
    }

    /// What has come on a connection; `None` when it has ended and all was taken.
    pub fn receive(&mut self, link: Link) -> Option<Vec<v1::ServerFrame>> {
        let Some((core, conn)) = self.links[link.0] else {
            return self.last_words.remove(&link.0).map(Vec::from);
        };
        let frames = self.cores[usize::from(core.0)].hands.frames.get_mut(&conn)?;
        Some(frames.drain(..).collect())
    }

    /// Lets one thing happen that could; `false` if there is nothing.
    pub fn step(&mut self, rng: &mut Rng) -> bool {
        const WHATS: usize = 6;
        let start = rng.usize(..self.cores.len() * WHATS);
        for offset in 0..self.cores.len() * WHATS {
            let (core, what) = ((start + offset) / WHATS % self.cores.len(), (start + offset) % WHATS);
            let happened = match what {
                0 => self.deliver(core, rng),
                1 => self.complete(core),
                2 => self.end_turn(core),
                3 => self.store.step(),
                4 => self.hear_of_table(core),
                _ => self.shell(core),
            };
            if happened {
                return true;
            }
        }
        // Nothing is left but what nobody waits for: time passes.
        let waits = self.cores.iter().filter_map(|core| core.shard.lazy_for_ms(self.now_ms)).min();
        self.now_ms += waits.unwrap_or_default();
        waits.is_some()
    }

    /// Lets everything happen. The store has room meanwhile.
    pub fn settle(&mut self, rng: &mut Rng) {
        let weather = self.cores[0].hands.weather;
        self.weather(Weather { busy_per_mille: 0, ..weather });
        let mut quiet = 0;
        // A turn's end tells nothing of whether it did something.
        while quiet < 8 {
            quiet = if self.step(rng) { 0 } else { quiet + 1 };
        }
        self.weather(weather);
    }

    /// Lets everything happen but that the store takes what it was given.
    pub fn settle_without_store(&mut self, rng: &mut Rng) {
        let cores = 0..self.cores.len();
        while cores.clone().any(|core| {
            self.deliver(core, rng)
                || self.complete(core)
                || self.end_turn(core)
                || self.shell(core)
                || self.hear_of_table(core)
        }) {}
    }

    /// Lets everything happen but that a core hears of a new table.
    pub fn settle_without_table_of(&mut self, late: u16, rng: &mut Rng) {
        let cores = 0..self.cores.len();
        while self.store.step()
            || cores.clone().any(|core| {
                self.deliver(core, rng)
                    || self.complete(core)
                    || self.end_turn(core)
                    || self.shell(core)
                    || core != usize::from(late) && self.hear_of_table(core)
            })
        {}
    }

    /// Lets everything happen but on one core, which is told nothing, and hears of nothing that it has asked for.
    pub fn settle_without_core(&mut self, silent: u16, rng: &mut Rng) {
        let cores = 0..self.cores.len();
        while self.store.step()
            || cores.clone().filter(|core| *core != usize::from(silent)).any(|core| {
                self.deliver(core, rng)
                    || self.complete(core)
                    || self.end_turn(core)
                    || self.shell(core)
                    || self.hear_of_table(core)
            })
        {}
    }

    /// A slot becomes another core's, unless one is still on its way. Each core hears of it when it comes to that.
    pub fn move_slot(&mut self, slot: Slot, to: u16) -> bool {
        let is_moving = |core: &Core| core.shard.slots_moving() > 0 || !core.hands.tables.is_empty();
        let to = CoreId(to % self.cores.len() as u16);
        if self.slots.owner(slot) == to || self.cores.iter().any(is_moving) {
            return false;
        }
        self.cores[usize::from(self.slots.owner(slot).0)].reads_for_others = true;
        self.slots = self.slots.with_moved(slot, to);
        for core in &mut self.cores {
            core.hands.tables.push_back(self.slots.clone());
        }
        true
    }

    /// A core's brain is lost, with all that it knew, was told, had to say and had not been told of by the store, and its connections,
    /// as if it had been another process's. Others take its slots over, and a new brain without slots takes its place. Not while
    /// slots are on their way, or some core has not heard of the newest table.
    pub fn lose_brain(&mut self, core: u16, rng: &mut Rng) -> bool {
        let is_behind = |core: &Core| core.shard.slots_moving() > 0 || !core.hands.tables.is_empty();
        let lost = CoreId(core % self.cores.len() as u16);
        if self.cores.len() < 2 || self.cores.iter().any(is_behind) || self.is_needed(lost) {
            return false;
        }
        let others: Vec<_> = self.slots.cores().filter(|core| *core != lost).collect();
        let owned = (0..SLOTS).filter_map(Slot::new).filter(|slot| self.slots.owner(*slot) == lost);
        let taken: Vec<_> = owned.map(|slot| (slot, others[rng.usize(..others.len())])).collect();
        self.slots = self.slots.with_taken(taken.iter().copied());
        self.taken = self.slots.version();
        for (slot, _) in taken {
            self.store.raise_epoch(slot, self.slots.epoch(slot)).expect("memory takes it");
        }
        self.bury(lost, rng);
        for core in others {
            self.cores[usize::from(core.0)].hands.tables.push_back(self.slots.clone());
        }
        true
    }

    /// Whether a core is still to answer for slots that it has let go, or what waited for them is on its way. If it were another
    /// process's, those who have them would go with it.
    fn is_needed(&mut self, core: CoreId) -> bool {
        let Core { hands, reads_for_others, owes, .. } = &mut self.cores[usize::from(core.0)];
        *reads_for_others &= !hands.reads.is_empty() || hands.port.has_completions();
        *reads_for_others || owes.values().any(|owed| *owed > 0)
    }

    fn bury(&mut self, lost: CoreId, rng: &mut Rng) {
        for core in 0..self.cores.len() {
            let moves = std::mem::take(&mut self.cores[core].hands.moves);
            let (gone, kept): (Vec<_>, Vec<_>) = moves.into_iter().partition(|(_, to, _)| *to == lost);
            self.cores[core].hands.moves = kept.into();
            let here = CoreId(core as u16);
            for link in &mut self.links {
                let is_gone = |(at, conn): (CoreId, ConnId)| {
                    at == lost || at == here && gone.iter().any(|(moving, ..)| *moving == conn)
                };
                *link = link.filter(|place| !is_gone(*place));
            }
        }
        // No brain draws what another one has drawn.
        let mut seed = [rng.u8(..); 32];
        seed[..8].copy_from_slice(&self.slots.version().to_be_bytes());
        let shard = self.brain(lost, seed);
        let port = self.store.port(Arc::new(NoWake));
        let Core { shard: brain, hands, born, .. } = &mut self.cores[usize::from(lost.0)];
        (*brain, hands.version) = (shard, self.slots.version());
        born.push(self.slots.version());
        let mut dead = std::mem::replace(&mut hands.port, port);
        dead.poll(&mut Vec::new());
        self.graves.push((dead, std::mem::take(&mut hands.empty)));
        // Its last words are cut anywhere.
        hands.mesh.values_mut().for_each(|said| said.truncate(rng.usize(..=said.len())));
        hands.reads.clear();
        hands.frames.clear();
        hands.moves.clear();
        hands.closing.clear();
        hands.drained.clear();
    }

    /// What became of the batches that lost brains had under way: how many were fenced off.
    ///
    /// # Panics
    /// If one was committed though its slots had been taken over.
    pub fn fenced(&mut self) -> usize {
        let mut fenced = 0;
        for (port, empty) in &mut self.graves {
            let mut ended = Vec::new();
            port.poll(&mut ended);
            for completion in ended {
                match completion {
                    Completion::Committed(proof) if !empty.contains(&proof.commit()) => {
                        panic!("an owner that is gone commits nothing: {proof:?}")
                    }
                    Completion::CommitFailed { error, .. } => {
                        assert!(matches!(error, StoreError::Fenced { .. }), "{error:?}");
                        fenced += 1;
                    }
                    Completion::Committed(_) | Completion::Value { .. } | Completion::Rows { .. } => {}
                }
            }
        }
        fenced
    }

    /// What connections have asked of owners and is not answered, and the answers that came late or once more.
    pub fn asks(&self) -> (usize, u64) {
        let asks = self.cores.iter().map(|core| core.shard.asks());
        asks.fold((0, 0), |(open, late), (more, more_late)| (open + more, late + more_late))
    }

    /// The slots whose owners have not answered in time, as operators were told.
    pub fn told_unanswered(&self) -> Vec<Slot> {
        self.cores.iter().flat_map(|core| core.hands.unanswered.clone()).collect()
    }

    /// Batches of a core that the store has not completed.
    pub fn commits_in_flight(&self, core: u16) -> usize {
        self.cores[usize::from(core)].shard.commits_in_flight()
    }

    /// The core that owns a slot.
    pub fn owner(&self, slot: Slot) -> u16 {
        self.slots.owner(slot).0
    }

    /// On which core a connection is, if it stands.
    pub fn core_of(&self, link: Link) -> Option<u16> {
        self.links[link.0].map(|(core, _)| core.0)
    }

    /// Whether no slot is on its way.
    pub fn has_moved(&self) -> bool {
        self.cores.iter().all(|core| core.shard.slots_moving() == 0)
    }

    fn hear_of_table(&mut self, core: usize) -> bool {
        let table = self.cores[core].hands.tables.pop_front();
        let heard = table.is_some();
        if let Some(table) = table {
            self.cores[core].hands.version = table.version();
            self.input(CoreId(core as u16), Input::Slots(table));
        }
        heard
    }

    fn deliver(&mut self, to: usize, rng: &mut Rng) -> bool {
        let to = CoreId(to as u16);
        let from = rng.usize(..self.cores.len());
        for offset in 0..self.cores.len() {
            let from = (from + offset) % self.cores.len();
            let said = self.cores[from].hands.mesh.get_mut(&to).and_then(VecDeque::pop_front);
            if let Some((version, message)) = said {
                if let Some(owed) = self.cores[from].owes.get_mut(&to) {
                    *owed = owed.saturating_sub(1);
                }
                // Whoever is behind with a table in which slots were taken over catches up before it reads on.
                while version >= self.taken && self.cores[usize::from(to.0)].hands.version < self.taken {
                    assert!(self.hear_of_table(usize::from(to.0)), "the newest table is on its way");
                }
                let (sender, receiver) = (&self.cores[from], &self.cores[usize::from(to.0)]);
                // What was said to a brain that was lost, or by it and comes when that is known, is lost too.
                let is_known = |born: &u64| version < *born && receiver.hands.version >= *born;
                let is_lost = receiver.born.iter().chain(&sender.born).any(is_known);
                if !is_lost {
                    self.input(to, Input::Told(message));
                }
                return true;
            }
        }
        false
    }

    fn complete(&mut self, core: usize) -> bool {
        let completions = self.cores[core].hands.completions();
        let happened = !completions.is_empty();
        for completion in completions {
            self.input(CoreId(core as u16), Input::Completed(completion));
        }
        happened
    }

    fn end_turn(&mut self, core: usize) -> bool {
        let Core { shard, hands, .. } = &mut self.cores[core];
        let before = shard.commits_in_flight();
        shard.end_turn(self.now_ms, hands);
        shard.commits_in_flight() != before
    }

    /// What the shell does by itself: moves, ends, drained queues.
    fn shell(&mut self, core: usize) -> bool {
        let here = CoreId(core as u16);
        let hands = &mut self.cores[core].hands;
        if let Some((conn, to, arrival)) = hands.moves.pop_front() {
            let (frames, address) = (hands.frames.remove(&conn), hands.addresses.get(&conn).copied());
            let Some(place) = self.links.iter().position(|link| *link == Some((here, conn))) else {
                return true;
            };
            let moved = self.new_conn(to);
            let there = &mut self.cores[usize::from(to.0)].hands;
            there.frames.insert(moved, frames.unwrap_or_default());
            there.addresses.extend(address.map(|address| (moved, address)));
            self.links[place] = Some((to, moved));
            self.connections_moved += 1;
            self.input(to, Input::Arrived(moved, arrival));
            for frame in self.unread.remove(&place).unwrap_or_default() {
                self.input(to, Input::Frame(moved, &frame));
            }
        } else if let Some(conn) = hands.closing.pop_front() {
            // What was queued has left.
            let frames = self.cores[core].hands.frames.remove(&conn).unwrap_or_default();
            if let Some(place) = self.links.iter().position(|link| *link == Some((here, conn))) {
                self.links[place] = None;
                self.last_words.insert(place, frames);
            }
            self.input(here, Input::Closed(conn));
        } else if let Some(place) = hands.drained.iter().position(|conn| {
            !hands.weather.slow_readers || hands.frames.get(conn).is_none_or(VecDeque::is_empty)
        }) {
            let conn = hands.drained.remove(place).expect("it is there");
            self.input(here, Input::Drained(conn));
        } else {
            return false;
        }
        true
    }

    /// How many logs are in memory.
    pub fn logs(&self) -> usize {
        self.cores.iter().map(|core| core.shard.status().logs).sum()
    }

    /// How many users are in memory.
    pub fn users(&self) -> usize {
        self.cores.iter().map(|core| core.shard.status().users).sum()
    }

    /// Time passes.
    pub fn tick(&mut self, ms: u64) {
        self.now_ms += ms;
        for core in 0..self.cores.len() {
            self.input(CoreId(core as u16), Input::Tick);
        }
    }

    /// A connection of a core, with requests 1 and 2: `Hello`, and the `Login` of a device.
    pub fn log_in(&mut self, core: u16, access_token: &str) -> Link {
        let link = self.connect(core);
        let hello = v1::Hello { version_min: 1, version_max: 1, ..v1::Hello::default() };
        self.request(link, 1, Request::Hello(hello));
        let access_token = access_token.to_owned();
        self.request(link, 2, Request::Login(v1::Login { access_token }));
        link
    }

    /// Makes a test user.
    pub fn provision(&mut self, phone: &str, rng: &mut Rng) -> Provisioned {
        match self.try_provision(phone, rng) {
            AdminResponse::Provisioned(user) => user,
            other => panic!("expected a user, got {other:?}"),
        }
    }

    /// Asks for a test user.
    pub fn try_provision(&mut self, phone: &str, rng: &mut Rng) -> AdminResponse {
        let name = Name::parse("somebody").expect("a name");
        self.question(phone, rng, |phone| AdminRequest::Provision { phone, name })
    }

    /// Deletes the account of a phone.
    pub fn delete(&mut self, phone: &str, rng: &mut Rng) -> AdminResponse {
        self.question(phone, rng, AdminRequest::DeleteUser)
    }

    /// Lifts the limits of codes of a phone.
    pub fn reset_codes(&mut self, phone: &str, rng: &mut Rng) {
        let answer = self.question(phone, rng, AdminRequest::ResetCodes);
        assert!(matches!(answer, AdminResponse::CodesReset(1..)), "{answer:?}");
    }

    /// An operator asks the owner of a phone.
    pub fn question(
        &mut self,
        phone: &str,
        rng: &mut Rng,
        request: impl FnOnce(Phone) -> AdminRequest,
    ) -> AdminResponse {
        let phone = Phone::parse(phone).expect("a phone");
        let slot = Slot::of_phone(phone.digits());
        let number = self.ask_owner(slot, request(phone));
        self.settle(rng);
        self.answer(number).expect("an answer")
    }

    /// Asks the owner of a slot something. Gives the number of the question.
    pub fn ask_owner(&mut self, slot: Slot, request: AdminRequest) -> u64 {
        self.questions += 1;
        let owner = self.slots.owner(slot);
        self.input(owner, Input::Asked(self.questions, request));
        self.questions
    }

    /// What was answered to a question, if that has come.
    pub fn answer(&mut self, number: u64) -> Option<AdminResponse> {
        self.cores.iter_mut().find_map(|core| {
            let answers = &mut core.hands.answers;
            let at = answers.iter().position(|(question, _)| *question == number)?;
            Some(answers.swap_remove(at).1)
        })
    }

    /// Media whose bytes are to be removed, as was said since this was asked last.
    pub fn removals(&mut self) -> Vec<MediaId> {
        self.cores.iter_mut().flat_map(|core| std::mem::take(&mut core.hands.removals)).collect()
    }
}

/// Has a world live with each of so many seeds, or of those that `TERN_SEED` and `TERN_SEEDS` say. Prints how to have one live again.
#[allow(clippy::print_stdout, reason = "a failed run is repeated with the seed that it printed")]
pub fn live_with_seeds(test: &str, seeds: u64, live: impl Fn(u64)) {
    let said = |name| std::env::var(name).ok().and_then(|said| said.parse().ok());
    let first = said("TERN_SEED").unwrap_or(1);
    for seed in first..first + said("TERN_SEEDS").unwrap_or(seeds) {
        println!("TERN_SEED={seed} TERN_SEEDS=1 cargo test -p tern-shard --test {test}");
        live(seed);
    }
}

/// Puts each fault that a test's file is to find into the brain, and has it live with the seeds among which one finds it. Without a
/// fault none does.
#[cfg(feature = "mutations")]
pub fn find_each_fault<R>(file: &str, live: impl Fn(u64) -> R) {
    let finds = |seed| tern_storage::mutations::panic_of(|| drop(live(seed)));
    for found in tern_shard::mutations::hunt(file, finds) {
        println!("{found}");
    }
    assert_eq!((1..20).find_map(finds), None, "without a fault nothing is found");
}
