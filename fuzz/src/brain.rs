//! A brain over a real store whose rows are damaged: it answers, or says that it can't, and never writes over what is there.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use prost::Message as _;
use tern_proto::v1::{self, client_frame::Request, server_frame};
use tern_shard::admin::AdminResponse;
use tern_shard::effects::Stage;
use tern_shard::entry::Author;
use tern_shard::identity::StoreIdentity;
use tern_shard::limits::Limits;
use tern_shard::message::Message;
use tern_shard::reply::ConnId;
use tern_shard::slots::{CoreId, ProcessId, SlotTable};
use tern_shard::{Arrival, Effects, Input, Setup, Shard};
use tern_storage::embedded::fuzzing;
use tern_storage::memory::Memory;
use tern_storage::records::{DeviceRecord, StoreRecord};
use tern_storage::{
    Batch, Busy, CommitId, Direction, Engine as _, Fence, Key, KeyRange, Lane, LogId, Port, ReadId,
    ScanLimit, StoreError, Wake, keys,
};
use tern_wire::ids::{ClientMessageId, Phone};

use crate::fixtures::{self, SEGMENTS};
use crate::script::Script;

type Row = (Vec<u8>, Vec<u8>);

/// What the real server had stored: the rows without those of the whole store, and the store's identity.
static STORE: LazyLock<(Vec<Row>, StoreRecord)> = LazyLock::new(|| {
    let mut rows = BTreeMap::new();
    for segment in SEGMENTS {
        for (key, value) in
            fuzzing::islands(segment, fixtures::first_of(segment)).into_iter().flat_map(|group| group.ops)
        {
            match value {
                Some(value) => drop(rows.insert(key, value)),
                None => drop(rows.remove(&key)),
            }
        }
    }
    let identity = rows.get(&b"mstore"[..]).expect("the fixture's store has an identity");
    let identity = StoreRecord::decode(&identity[..]).expect("it is whole");
    (rows.into_iter().filter(|(key, _)| !b"ms".contains(&key[0])).collect(), identity)
});

/// When the fixture was made, in ms since the Unix epoch: its access tokens are good then.
static MADE_MS: LazyLock<u64> = LazyLock::new(|| {
    let devices = STORE.0.iter().filter(|(key, _)| key[0] == b'd');
    let made = devices.filter_map(|(_, value)| Some(DeviceRecord::decode(&value[..]).ok()?.created_ms));
    made.max().expect("the fixture has devices") + 1000
});

/// The users of the fixture, and one who is nobody.
static USERS: LazyLock<Vec<u64>> = LazyLock::new(|| {
    let users = STORE.0.iter().filter(|(key, _)| key[0] == b'u');
    let id = |(key, _): &Row| keys::number_of(key).expect("a user's key ends with the user");
    users.map(id).chain([4097]).collect()
});

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// What the brain has done to the world.
struct Hands {
    port: Box<dyn Port>,
    said: Vec<(ConnId, v1::ServerFrame)>,
    closing: Vec<ConnId>,
    drained: Vec<ConnId>,
}

impl Effects for Hands {
    fn send(&mut self, conn: ConnId, frame: &v1::ServerFrame) -> usize {
        self.said.push((conn, frame.clone()));
        frame.encoded_len()
    }

    fn backlog(&mut self, _conn: ConnId) -> usize {
        0
    }

    fn notify_drained(&mut self, conn: ConnId) {
        self.drained.push(conn);
    }

    fn close(&mut self, conn: ConnId) {
        self.closing.push(conn);
    }

    fn move_to(&mut self, _conn: ConnId, _core: CoreId, _arrival: Arrival) {
        unreachable!("there is one core");
    }

    fn peer_address(&mut self, _conn: ConnId) -> [u8; 16] {
        [0; 16]
    }

    fn tell(&mut self, _core: CoreId, _message: Message) {
        unreachable!("there is one core");
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
        self.port.submit_in(lane, batch, deciding)
    }

    fn get(&mut self, key: Key) -> Result<ReadId, Busy<Key>> {
        self.port.get(key)
    }

    fn scan(
        &mut self,
        range: KeyRange,
        direction: Direction,
        limit: ScanLimit,
    ) -> Result<ReadId, Busy<KeyRange>> {
        self.port.scan(range, direction, limit)
    }

    fn deliver_code(&mut self, _phone: &Phone, _code: &str, _expires_ms: u64) -> bool {
        true
    }

    fn answer(&mut self, _question: u64, _response: AdminResponse) {}

    fn passed(&mut self, _author: Author, _client_id: ClientMessageId, _stage: Stage) {}

    fn store_trouble(&mut self, _error: &StoreError) {}

    fn store_recovered(&mut self, _refused: u64) {}
}

/// One core, and its store.
struct Node {
    shard: Shard,
    hands: Hands,
    store: Memory,
    now_ms: u64,
    /// The connection that asks, and whose it is.
    conn: Option<ConnId>,
    user: u64,
    /// The last group that was made.
    group: u64,
    connections: u32,
    requests: u64,
}

/// Script: how many rows are damaged, and how; then what the users of the store ask for.
pub fn brain(data: &[u8]) {
    let mut script = Script::new(data);
    let mut node = Node::new(damaged(&mut script));
    while !script.is_done() {
        node.act(&mut script);
    }
}

fn damaged(script: &mut Script) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let all = &STORE.0;
    let mut rows: BTreeMap<_, _> = all.iter().cloned().collect();
    for _ in 0..script.byte() % 8 {
        let (key, value) = &all[script.below(all.len())];
        let mut changed = value.clone();
        let at = script.below(value.len() + 1);
        match script.byte() % 6 {
            0 => {
                rows.remove(key);
                continue;
            }
            1 => changed = script.piece().to_vec(),
            2 => {
                if let Some(byte) = changed.get_mut(at) {
                    *byte ^= script.byte();
                }
            }
            3 => changed.truncate(at),
            4 => changed = all[script.below(all.len())].1.clone(),
            _ => {
                let mut other = key.clone();
                *other.last_mut().expect("no key is empty") ^= script.byte();
                rows.insert(other, changed);
                continue;
            }
        }
        rows.insert(key.clone(), changed);
    }
    rows
}

impl Node {
    fn new(rows: BTreeMap<Vec<u8>, Vec<u8>>) -> Self {
        let store = Memory::new();
        let mut batch = Batch::default();
        for (key, value) in rows {
            batch.put(&Key::from_raw(&key), value);
        }
        store.commit_blocking(batch).expect("a store in memory takes it");
        let shard = Shard::new(Setup {
            process: ProcessId::default(),
            core: CoreId(0),
            slots: SlotTable::even(1),
            lanes: 1,
            limits: Limits { lazy_ms: 0, ..Limits::default() },
            identity: StoreIdentity::from_record(&STORE.1).expect("the fixture's identity is whole"),
            keys: fixtures::keys(),
            seed: [7; 32],
            development: false,
        });
        let port = store.port(Arc::new(NoWake));
        let hands = Hands { port, said: Vec::new(), closing: Vec::new(), drained: Vec::new() };
        let now_ms = *MADE_MS;
        Self { shard, hands, store, now_ms, conn: None, user: 0, group: 0, connections: 0, requests: 0 }
    }

    /// One input, and all that comes of it.
    fn input(&mut self, input: Input<'_>) {
        self.shard.handle(self.now_ms, input, &mut self.hands);
        loop {
            self.shard.end_turn(self.now_ms, &mut self.hands);
            let mut completions = Vec::new();
            self.hands.port.poll(&mut completions);
            let drained = std::mem::take(&mut self.hands.drained);
            if completions.is_empty() && drained.is_empty() {
                break;
            }
            for completion in completions {
                self.shard.handle(self.now_ms, Input::Completed(completion), &mut self.hands);
            }
            for conn in drained {
                self.shard.handle(self.now_ms, Input::Drained(conn), &mut self.hands);
            }
        }
        for conn in std::mem::take(&mut self.hands.closing) {
            if self.conn.take_if(|open| *open == conn).is_some() {
                self.shard.handle(self.now_ms, Input::Closed(conn), &mut self.hands);
            }
        }
    }

    /// Asks, and gives the answer.
    fn ask(&mut self, request: Request) -> Option<server_frame::Message> {
        let conn = self.conn?;
        self.requests += 1;
        let id = self.requests;
        self.hands.said.clear();
        let frame = v1::ClientFrame { id, request: Some(request) }.encode_to_vec();
        self.input(Input::Frame(conn, &frame));
        if !self.hands.said.iter().any(|(to, frame)| *to == conn && frame.id == id) {
            // What is acknowledged in a group is gathered.
            self.now_ms += 1000;
            self.input(Input::Tick);
        }
        let mut answers = self.hands.said.iter().filter(|(to, frame)| *to == conn && frame.id == id);
        let answer = answers.next().and_then(|(_, frame)| frame.message.clone());
        assert!(answers.next().is_none(), "a request was answered twice");
        assert!(answer.is_some() || self.conn.is_none(), "a request was not answered");
        answer
    }

    fn act(&mut self, script: &mut Script) {
        let kind = script.byte() % 18;
        let places = USERS.len() + usize::from(self.group != 0);
        let chat = USERS.get(script.below(places)).copied().unwrap_or(self.group);
        match kind {
            0 | 1 => self.come(script),
            2 => {
                let positions = (0..script.byte() % 4).map(|_| v1::Position {
                    chat: USERS[script.below(USERS.len())],
                    upto: script.byte().into(),
                    delivered_upto: script.byte().into(),
                    read_upto: script.byte().into(),
                });
                let positions = positions.collect();
                let generations =
                    if script.byte().is_multiple_of(2) { STORE.1.generations.clone() } else { vec![1, 2] };
                drop(self.ask(Request::Resume(v1::Resume { positions, generations })));
            }
            3 => {
                let (from, limit) = (script.byte().into(), script.byte().into());
                let forwards = script.byte().is_multiple_of(2);
                drop(self.ask(Request::History(v1::History { chat, from, forwards, limit })));
            }
            4 | 5 => self.send(chat, script.piece()),
            6 => {
                let (delivered_upto, read_upto) = (script.byte().into(), script.byte().into());
                drop(self.ask(Request::Acknowledge(v1::Acknowledge { chat, delivered_upto, read_upto })));
            }
            14 => self.make_group(script),
            15..=17 => self.change_group(script),
            7 => {
                let by = Some(v1::lookup::By::UserId(chat));
                drop(self.ask(Request::Lookup(v1::Lookup { by, group: 0 })));
            }
            8 => {
                if let Some(conn) = self.conn {
                    self.input(Input::Frame(conn, script.piece()));
                }
            }
            9 => {
                self.now_ms += u64::from(script.word());
                self.input(Input::Tick);
            }
            10 => {
                let known = (0..script.byte() % 4)
                    .map(|_| v1::KnownChat { id: script.word().into(), version: script.byte().into() });
                let mut known: Vec<_> = known.collect();
                known.sort_by_key(|chat| chat.id);
                let (after, limit) = (script.byte().into(), script.byte().into());
                drop(self.ask(Request::Chats(v1::Chats { after, limit, known })));
            }
            11 => {
                drop(self.ask(Request::Devices(v1::Devices {})));
                let shows = v1::Subscribe { user_ids: vec![7, 9], groups: Vec::new(), away: false };
                drop(self.ask(Request::Subscribe(shows)));
                drop(self.ask(Request::Activity(v1::Activity { chat: 7, ..Default::default() })));
                drop(self.ask(Request::RingDevice(v1::RingDevice { device_id: 1 })));
            }
            12 => {
                let device_id = script.byte().into();
                drop(self.ask(Request::EndDevice(v1::EndDevice { device_id })));
            }
            _ => {
                let mut text = || Some(String::from_utf8_lossy(script.piece()).into_owned());
                let (name, device_name) = (text(), text());
                drop(self.ask(Request::Rename(v1::Rename { name, device_name, ..v1::Rename::default() })));
            }
        }
    }

    fn make_group(&mut self, script: &mut Script) {
        let members = USERS.iter().copied().take(script.below(USERS.len())).collect();
        let name = "a group".to_owned();
        let made = v1::GroupMade { name, members, ..v1::GroupMade::default() };
        let client_id = script.byte().into();
        let create = Request::CreateGroup(v1::CreateGroup { client_id, group: Some(made) });
        if let Some(server_frame::Message::GroupCreated(created)) = self.ask(create) {
            self.group = created.chat;
        }
    }

    fn change_group(&mut self, script: &mut Script) {
        use v1::group_change::Change;
        let (user, chat) = (USERS[script.below(USERS.len())], self.group);
        let change = match script.byte() % 8 {
            0 | 1 => Change::Added(v1::Members { user_ids: vec![user] }),
            2 | 3 => Change::Removed(user),
            4 => Change::Left(v1::Left {}),
            5 => Change::Role(v1::RoleGiven { user_id: user, role: script.byte().into() }),
            6 => Change::Settings(v1::GroupSettings { senders: 1, ..v1::GroupSettings::default() }),
            _ => return drop(self.ask(Request::AboutGroup(v1::AboutGroup { chat, ..Default::default() }))),
        };
        let body = v1::GroupChange { change: Some(change) }.encode_to_vec().into();
        let (client_id, kind) = (script.byte().into(), v1::Kind::Group.into());
        drop(self.ask(Request::Send(v1::Send { chat, client_id, body, kind, ..Default::default() })));
    }

    /// Another connection comes in the place of this one, and logs in with one of the tokens.
    fn come(&mut self, script: &mut Script) {
        if let Some(conn) = self.conn.take() {
            self.input(Input::Closed(conn));
        }
        self.connections += 1;
        let conn = ConnId { index: self.connections, generation: 1 };
        self.conn = Some(conn);
        self.input(Input::Opened(conn, u64::from(self.connections)));
        let hello = v1::Hello { version_min: 1, version_max: 1, ..v1::Hello::default() };
        drop(self.ask(Request::Hello(hello)));
        let tokens = fixtures::tokens();
        let token = tokens[script.below(tokens.len())].to_owned();
        if script.byte().is_multiple_of(8) {
            let refresh = v1::Refresh { refresh_token: token.clone(), nonce: vec![1; 16].into() };
            drop(self.ask(Request::Refresh(refresh)));
        }
        if let Some(server_frame::Message::LoggedIn(done)) =
            self.ask(Request::Login(v1::Login { access_token: token }))
        {
            self.user = done.user_id;
        }
    }

    /// What is acknowledged has a place where nothing was.
    fn send(&mut self, chat: u64, body: &[u8]) {
        let log = if chat == self.group { LogId::Group(chat) } else { LogId::direct(self.user, chat) };
        let before: Vec<bool> = (0..64).map(|seq| self.has(log, seq)).collect();
        // Above all that was used.
        let client_id = (1 << 50) + self.requests;
        let send = v1::Send { chat, client_id, body: body.to_vec().into(), kind: 0, ..Default::default() };
        if let Some(server_frame::Message::Sent(sent)) = self.ask(Request::Send(send)) {
            let there = before.get(sent.seq as usize).is_some_and(|there| *there);
            assert!(!there, "a message was acknowledged in the place of another");
            assert!(self.has(log, sent.seq), "a message was acknowledged and is not there");
        }
    }

    fn has(&self, log: LogId, seq: u64) -> bool {
        self.store.get_blocking(&keys::entry(log, seq)).expect("a store in memory reads").is_some()
    }
}
