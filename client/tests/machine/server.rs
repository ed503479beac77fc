//! A small model of the server: as much of it as decides what a client must do. Everything is durable at once; what makes it hard is the
//! world around it. It says what a client has done wrong by panicking.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use prost::Message as _;
use tern_proto::v1::{self, client_frame::Request, server_frame::Message as M};
use tern_wire::errors::Reason;
use tern_wire::frame::{self, FrameBuffer};

/// One user's device.
pub type DeviceId = (u64, u32);

/// A chat, by its people's ids, the lower one first.
type Chat = (u64, u64);

pub const IDLE_MS: u32 = 120_000;

const TOKEN_MS: u64 = 90_000;

/// All chats that there may be fit into one `Resume`.
pub const POSITIONS_MAX: u32 = 8;

fn chat(a: u64, b: u64) -> Chat {
    (a.min(b), a.max(b))
}

fn is_in(chat: Chat, user: u64) -> bool {
    chat.0 == user || chat.1 == user
}

/// With whom a chat is, for one of its two.
fn peer(chat: Chat, me: u64) -> u64 {
    if chat.0 == me { chat.1 } else { chat.0 }
}

/// Where each device was told that a chat begins, at the latest.
#[derive(Default)]
struct Began(BTreeMap<(DeviceId, Chat), u64>);

impl Began {
    fn note(&mut self, device: DeviceId, chat: Chat, from: u64) {
        let latest = self.0.entry((device, chat)).or_default();
        *latest = from.max(*latest);
    }

    /// Notes what a device is pushed.
    fn push(&mut self, device: DeviceId, chat: Chat, from: u64) -> M {
        self.note(device, chat, from);
        M::Begins(v1::Begins { chat: peer(chat, device.0), from })
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    pub sender: u64,
    pub device: u32,
    pub client_id: u64,
    pub time_ms: u64,
    pub body: Bytes,
}

#[derive(Clone, Default)]
struct Log {
    entries: Vec<Entry>,
    /// Up to where each user has received and read it.
    marks: BTreeMap<u64, (u64, u64)>,
    /// Up to where each device has acknowledged it.
    acked: BTreeMap<DeviceId, u64>,
    /// What is before this is kept no longer; 0: nothing was cut off.
    first: u64,
}

impl Log {
    fn head(&self) -> u64 {
        self.entries.len() as u64
    }

    fn acked(&self, device: DeviceId) -> u64 {
        self.acked.get(&device).copied().unwrap_or(0)
    }

    fn marks(&self, user: u64) -> (u64, u64) {
        self.marks.get(&user).copied().unwrap_or((0, 0))
    }

    fn entry(&self, seq: u64, me: u64, chat: Chat) -> v1::Entry {
        let entry = &self.entries[seq as usize - 1];
        let peer = peer(chat, me);
        v1::Entry {
            chat: peer,
            seq,
            time_ms: entry.time_ms,
            body: entry.body.clone(),
            sender: if entry.sender == peer { 0 } else { entry.sender },
            sender_device: if entry.sender == me { entry.device } else { 0 },
            client_id: if entry.sender == me { entry.client_id } else { 0 },
            ..Default::default()
        }
    }
}

/// What a copy of the store holds.
#[derive(Clone, Default)]
struct Content {
    logs: BTreeMap<Chat, Log>,
    /// Where each device's message of a number stands.
    sent: BTreeMap<(DeviceId, u64), (Chat, u64)>,
    generations: BTreeSet<u64>,
}

/// A device's tokens; these are never put back, so that the devices live on.
struct Tokens {
    access: String,
    expires_ms: u64,
    refresh: String,
    /// The refresh token before, and the nonce with which it was exchanged.
    before: Option<(String, Bytes)>,
    count: u32,
}

/// A connection, as the server sees it.
#[derive(Default)]
struct Connection {
    buffer: FrameBuffer,
    device: Option<DeviceId>,
    resumed: bool,
    window: (u64, u64),
    pushed: (u64, u64),
    credited: (u64, u64),
    /// What is to be pushed when there is credit.
    pushes: VecDeque<M>,
    /// Up to where each chat was pushed, or will be by `pushes`.
    upto: BTreeMap<Chat, u64>,
    out: Vec<u8>,
    ends: bool,
}

/// How often, of a thousand, something goes wrong.
#[derive(Clone, Copy, Default)]
pub struct Troubles {
    pub refuses: u32,
    pub goes_away: u32,
    /// Another message comes just before one, and is cut off before it is pushed. 0: no chat is ever cut.
    pub cuts: u32,
}

pub struct Server {
    content: Content,
    copy: Option<Content>,
    generation: u64,
    tokens: BTreeMap<DeviceId, Tokens>,
    connections: BTreeMap<u64, Connection>,
    random: fastrand::Rng,
    pub troubles: Troubles,
    pub positions_max: u32,
    pub now_ms: u64,
    /// How often it was put back from a copy.
    pub put_backs: u32,
    /// Each message's number, and where it ever stood.
    pub numbers: BTreeMap<(DeviceId, Vec<u8>), u64>,
    ever: BTreeSet<(Chat, u64, Vec<u8>)>,
    /// What is before that, a device need not have.
    began: Began,
    /// What was just acknowledged on a connection: (connection, peer, from, upto). For the world to compare.
    pub acknowledged: Vec<(u64, u64, u64, u64)>,
    /// Connections of devices that another connection has replaced.
    pub replaced: Vec<u64>,
}

impl Server {
    pub fn new(seed: u64) -> Self {
        let content = Content { generations: [1].into(), ..Content::default() };
        Self {
            content,
            copy: None,
            generation: 1,
            tokens: BTreeMap::new(),
            connections: BTreeMap::new(),
            random: fastrand::Rng::with_seed(seed),
            troubles: Troubles::default(),
            positions_max: POSITIONS_MAX,
            now_ms: 0,
            put_backs: 0,
            numbers: BTreeMap::new(),
            ever: BTreeSet::new(),
            began: Began::default(),
            acknowledged: Vec::new(),
            replaced: Vec::new(),
        }
    }

    /// Makes a device, and its session.
    pub fn register(&mut self, device: DeviceId) -> v1::Session {
        let tokens =
            Tokens { access: String::new(), expires_ms: 0, refresh: String::new(), before: None, count: 0 };
        self.tokens.insert(device, tokens);
        self.new_tokens(device)
    }

    fn new_tokens(&mut self, device: DeviceId) -> v1::Session {
        let now_ms = self.now_ms;
        let tokens = self.tokens.get_mut(&device).expect("it is registered");
        tokens.count += 1;
        let (user, number, count) = (device.0, device.1, tokens.count);
        tokens.access = format!("access {user} {number} {count}");
        tokens.refresh = format!("refresh {user} {number} {count}");
        tokens.expires_ms = now_ms + TOKEN_MS;
        self.session(device)
    }

    fn session(&self, device: DeviceId) -> v1::Session {
        let tokens = &self.tokens[&device];
        v1::Session {
            phone: String::new(),
            user_id: device.0,
            device_id: device.1,
            access_token: tokens.access.clone(),
            access_expires_ms: tokens.expires_ms,
            refresh_token: tokens.refresh.clone(),
            refresh_expires_ms: u64::MAX >> 11,
        }
    }

    /// Where a user's chats end, and up to where a device has acknowledged each.
    pub fn heads(&self, device: DeviceId) -> Vec<(u64, u64, u64)> {
        let logs = self.content.logs.iter().filter(|(chat, log)| is_in(**chat, device.0) && log.head() > 0);
        logs.map(|(chat, log)| (peer(*chat, device.0), log.head(), log.acked(device))).collect()
    }

    pub fn entry(&self, me: u64, peer: u64, seq: u64) -> Option<&Entry> {
        self.content.logs.get(&chat(me, peer))?.entries.get(seq as usize - 1)
    }

    /// What of a chat is before this, a device need not have.
    pub fn began(&self, device: DeviceId, peer: u64) -> u64 {
        self.began.0.get(&(device, chat(device.0, peer))).copied().unwrap_or(1)
    }

    /// How often a text stands in its chat.
    pub fn times(&self, me: u64, peer: u64, text: &[u8]) -> usize {
        let log = self.content.logs.get(&chat(me, peer));
        log.map_or(0, |log| log.entries.iter().filter(|entry| entry.body == text).count())
    }

    /// Whether a text ever stood at a place.
    pub fn was_at(&self, me: u64, peer: u64, seq: u64, text: &[u8]) -> bool {
        self.ever.contains(&(chat(me, peer), seq, text.to_vec()))
    }

    /// Up to where a user has received a chat.
    pub fn delivered(&self, me: u64, peer: u64) -> u64 {
        self.content.logs.get(&chat(me, peer)).map_or(0, |log| log.marks(me).0)
    }

    /// Starts again, with everything that was durable. A copy of the stopped store may be taken.
    pub fn restart(&mut self) {
        if self.random.bool() {
            self.copy = Some(self.content.clone());
        }
        self.connections.clear();
        self.generation += 1;
        self.content.generations.insert(self.generation);
    }

    /// Takes a copy of the running store. Put back, it knows no generation: its operator says `--restored`.
    pub fn take_copy(&mut self) {
        self.copy = Some(Content { generations: BTreeSet::new(), ..self.content.clone() });
    }

    /// Starts again with the copy, if one was taken.
    pub fn put_back(&mut self) {
        if let Some(copy) = self.copy.take() {
            self.content = copy;
            // What comes behind the copy is of another past, and is there for everybody.
            for ((_, place), began) in &mut self.began.0 {
                let head = self.content.logs.get(place).map_or(0, Log::head);
                *began = (*began).min(head + 1);
            }
            self.put_backs += 1;
            self.restart();
        }
    }

    /// A device that is nowhere in this test writes.
    pub fn write(&mut self, from: u64, to: u64, body: &[u8]) {
        self.append((from, 99), to, self.now_ms, body.to_vec().into());
    }

    /// Some chat is cut at its beginning. Whoever was to be pushed what is gone hears where the chat begins now.
    pub fn cut(&mut self) {
        if self.troubles.cuts == 0 {
            return;
        }
        let logs = self.content.logs.iter().filter(|(_, log)| log.head() > 0);
        let logs: Vec<_> = logs.map(|(place, log)| (*place, log.first.max(1), log.head())).collect();
        if let Some((place, first, head)) = self.random.choice(logs) {
            let first = self.random.u64(first..=head);
            self.cut_at(place, first);
        }
    }

    fn cut_at(&mut self, place: Chat, first: u64) {
        self.content.logs.get_mut(&place).expect("it is there").first = first;
        for of in self.connections.values_mut() {
            let Some(device) = of.device.filter(|(me, _)| is_in(place, *me)) else { continue };
            let with = peer(place, device.0);
            let is_gone =
                |push: &M| matches!(push, M::Entry(entry) if entry.chat == with && entry.seq < first);
            if let Some(at) = of.pushes.iter().position(is_gone) {
                of.pushes[at] = self.began.push(device, place, first);
                of.pushes.retain(|push| !is_gone(push));
                // Its own are no reason to push: it is told of them.
                let own = (with, device.1);
                let is_own = |push: &mut M| matches!(push, M::Entry(entry) if (entry.chat, entry.sender_device) == own);
                while of.pushes.pop_back_if(is_own).is_some() {}
            }
        }
    }

    pub fn connected(&mut self, connection: u64) {
        self.connections.insert(connection, Connection::default());
    }

    pub fn lost(&mut self, connection: u64) {
        self.connections.remove(&connection);
    }

    pub fn is_there(&self, connection: u64) -> bool {
        self.connections.contains_key(&connection)
    }

    /// Bytes come.
    pub fn received(&mut self, connection: u64, bytes: &[u8]) {
        let Some(of) = self.connections.get_mut(&connection) else { return };
        let mut frames = of.buffer.read(bytes);
        let mut whole = Vec::new();
        while let Some(frame) = frames.next(64 * 1024).expect("a client's frames are short") {
            whole.push(v1::ClientFrame::decode(frame).expect("a client's frames are whole"));
        }
        for frame in whole {
            self.request(connection, frame.id, frame.request.expect("a client's requests are known"));
        }
    }

    /// What is to be sent to whom, and whether that is the last.
    pub fn take_out(&mut self) -> Vec<(u64, Vec<u8>, bool)> {
        let mut out = Vec::new();
        for (id, of) in &mut self.connections {
            of.push();
            if !of.out.is_empty() {
                out.push((*id, std::mem::take(&mut of.out), of.ends));
            }
        }
        self.connections.retain(|_, of| !of.ends);
        out
    }

    fn of(&mut self, connection: u64) -> &mut Connection {
        self.connections.get_mut(&connection).expect("it was there when its bytes came")
    }

    fn answer(&mut self, connection: u64, id: u64, message: M) {
        self.of(connection).frame(id, message);
    }

    fn refuse(&mut self, connection: u64, id: u64, reason: Reason, retry_after_ms: u32) {
        let detail = "the model says so".to_owned();
        let refused = v1::Refused { reason: reason.into(), retry_after_ms, detail, ..Default::default() };
        self.answer(connection, id, M::Refused(refused));
    }

    fn go_away(&mut self, connection: u64, reason: Reason, after_ms: u32) {
        let bye = v1::GoAway { reason: reason.into(), reconnect_after_ms: after_ms, detail: String::new() };
        let of = self.of(connection);
        of.frame(0, M::GoAway(bye));
        of.ends = true;
    }

    fn request(&mut self, connection: u64, id: u64, request: Request) {
        if self.of(connection).ends {
            return;
        }
        if self.random.u32(0..1000) < self.troubles.goes_away {
            let reasons = [Reason::Unavailable, Reason::ShuttingDown, Reason::TooSlow];
            let after_ms = self.random.u32(0..3) * 400;
            let reason = reasons[self.random.usize(0..3)];
            return self.go_away(connection, reason, after_ms);
        }
        match request {
            Request::Hello(hello) => self.hello(connection, id, &hello),
            Request::Refresh(refresh) => self.refresh(connection, id, refresh),
            Request::Login(login) => self.login(connection, id, &login.access_token),
            Request::Credit(credit) => {
                let of = self.of(connection);
                assert!((credit.frames, credit.bytes) <= of.pushed, "credit for what was not pushed");
                of.credited = (credit.frames, credit.bytes);
            }
            request => {
                let device = self.of(connection).device.expect("a client logs in first");
                if !matches!(request, Request::Ping(_)) && self.random.u32(0..1000) < self.troubles.refuses {
                    let retry_after_ms = self.random.u32(1..800);
                    return self.refuse(connection, id, Reason::Overloaded, retry_after_ms);
                }
                self.logged_in(connection, device, id, request);
            }
        }
    }

    fn logged_in(&mut self, connection: u64, device: DeviceId, id: u64, request: Request) {
        match request {
            Request::Ping(_) => self.answer(connection, id, M::Pong(v1::Pong { time_ms: self.now_ms })),
            Request::Resume(resume) => self.resume(connection, device, id, resume),
            Request::Send(send) => self.send(connection, device, id, send),
            Request::Acknowledge(acknowledge) => self.acknowledge(connection, device, id, &acknowledge),
            Request::History(history) => self.history(connection, device, id, &history),
            Request::Lookup(lookup) => {
                let Some(v1::lookup::By::UserId(user_id)) = lookup.by else {
                    return self.refuse(connection, id, Reason::UnknownUser, 0);
                };
                let name = format!("user {user_id}");
                self.answer(connection, id, M::Person(v1::Person { user_id, name, ..v1::Person::default() }));
            }
            _ => self.refuse(connection, id, Reason::Unimplemented, 0),
        }
    }

    fn hello(&mut self, connection: u64, id: u64, hello: &v1::Hello) {
        let window = (u64::from(hello.push_frames_max), u64::from(hello.push_bytes_max));
        self.of(connection).window = window;
        let limits = v1::Limits {
            body_bytes_max: 1000,
            frame_bytes_max: 64 * 1024,
            frame_bytes_max_before_login: 4096,
            requests_in_flight_max: 8,
            request_bytes_in_flight_max: 4000,
            history_entries_max: 7,
            positions_max: self.positions_max,
            idle_timeout_ms: IDLE_MS,
            ..Default::default()
        };
        let welcome = v1::Welcome {
            version: 1,
            limits: Some(limits),
            time_ms: self.now_ms,
            store: Bytes::from_static(b"the store"),
            generation: self.generation,
            ..Default::default()
        };
        self.answer(connection, id, M::Welcome(welcome));
    }

    fn refresh(&mut self, connection: u64, id: u64, refresh: v1::Refresh) {
        let used = (refresh.refresh_token, refresh.nonce);
        let found = self.tokens.iter().find(|(_, tokens)| {
            tokens.refresh == used.0 || tokens.before.as_ref().is_some_and(|(token, _)| *token == used.0)
        });
        let (device, tokens) = found.expect("a client never loses a token that it was given");
        let device = *device;
        let session = if tokens.refresh == used.0 {
            self.tokens.get_mut(&device).expect("it was found").before = Some(used);
            self.new_tokens(device)
        } else {
            assert_eq!(tokens.before.as_ref(), Some(&used), "a token is exchanged under one nonce");
            self.session(device)
        };
        self.answer(connection, id, M::Session(session));
    }

    fn login(&mut self, connection: u64, id: u64, token: &str) {
        let found = self.tokens.iter().find(|(_, tokens)| tokens.access == token);
        let Some(device) = found.filter(|(_, tokens)| tokens.expires_ms > self.now_ms).map(|(id, _)| *id)
        else {
            return self.refuse(connection, id, Reason::TokenExpired, 0);
        };
        let before = self.connections.iter().find(|(_, of)| of.device == Some(device) && !of.ends);
        if let Some(before) = before.map(|(id, _)| *id) {
            self.go_away(before, Reason::Replaced, 0);
            self.replaced.push(before);
        }
        self.of(connection).device = Some(device);
        let name = format!("user {}", device.0);
        let logged_in = v1::LoggedIn { user_id: device.0, device_id: device.1, name, newest_device_id: 1 };
        self.answer(connection, id, M::LoggedIn(logged_in));
    }

    fn resume(&mut self, connection: u64, device: DeviceId, id: u64, resume: v1::Resume) {
        let v1::Resume { positions, generations } = resume;
        assert!(
            positions.len() <= self.positions_max as usize && generations.len() <= 16,
            "a client keeps to the limits"
        );
        let unknown = generations.iter().any(|known| !self.content.generations.contains(known));
        let rewound = unknown || generations.is_empty() && !positions.is_empty();
        self.answer(connection, id, M::Resumed(v1::Resumed { rewound }));
        let first = !std::mem::replace(&mut self.of(connection).resumed, true);
        let me = device.0;
        let mut listed = BTreeMap::new();
        for position in positions {
            listed.insert(chat(me, position.chat), position);
        }
        let mut chats: BTreeSet<_> = listed.keys().copied().collect();
        if first {
            chats.extend(self.content.logs.keys().filter(|chat| is_in(**chat, me)));
        }
        let of = self.connections.get_mut(&connection).expect("it has just been answered");
        for place in chats {
            let empty = Log::default();
            let log = self.content.logs.get(&place).unwrap_or(&empty);
            let peer = peer(place, me);
            let believed = if rewound { log.acked(device) } else { log.head() };
            let mut from = of.upto.get(&place).copied().unwrap_or(log.acked(device));
            let mut marks = None;
            if let Some(position) = listed.get(&place) {
                marks = Some((position.delivered_upto, position.read_upto));
                from = position.upto.min(believed);
                if position.upto > believed {
                    of.pushes.push_back(M::Rewound(v1::Rewound { chat: peer, upto: from, head: log.head() }));
                    marks = Some((0, 0));
                }
            }
            if from + 1 < log.first {
                from = log.first - 1;
                of.pushes.push_back(self.began.push(device, place, log.first));
            }
            for seq in from + 1..=log.head() {
                of.pushes.push_back(M::Entry(log.entry(seq, me, place)));
            }
            of.upto.insert(place, log.head());
            let (delivered_upto, read_upto) = log.marks(peer);
            if marks.is_some_and(|marks| marks.0 < delivered_upto || marks.1 < read_upto) {
                let receipt = v1::Receipt { chat: peer, delivered_upto, read_upto, member: peer };
                of.pushes.push_back(M::Receipt(receipt));
            }
        }
        of.pushes.push_back(M::CaughtUp(v1::CaughtUp {}));
    }

    fn send(&mut self, connection: u64, device: DeviceId, id: u64, send: v1::Send) {
        let v1::Send { chat: peer, client_id, body, .. } = send;
        let known = *self.numbers.entry((device, body.to_vec())).or_insert(client_id);
        assert_eq!(known, client_id, "a message has one number for its life");
        let sent = match self.content.sent.get(&(device, client_id)) {
            Some((place, seq)) => {
                let entry = &self.content.logs[place].entries[*seq as usize - 1];
                assert_eq!(entry.body, body, "a number is one message's");
                v1::Sent { seq: *seq, time_ms: entry.time_ms, expires_ms: 0 }
            }
            None if peer > 100 => return self.refuse(connection, id, Reason::UnknownUser, 0),
            None if self.random.u32(0..1000) < self.troubles.refuses => {
                let reasons = [Reason::InboxFull, Reason::RateLimited, Reason::StorageFull];
                let reason = reasons[self.random.usize(0..3)];
                let retry_after_ms = self.random.u32(1..2000);
                return self.refuse(connection, id, reason, retry_after_ms);
            }
            None => {
                let time_ms = self.now_ms;
                let is_cut = self.random.u32(0..1000) < self.troubles.cuts;
                if is_cut {
                    self.append((peer, 99), device.0, time_ms, Bytes::from_static(b"cut off"));
                }
                let seq = self.append(device, peer, time_ms, body);
                self.content.sent.insert((device, client_id), (chat(device.0, peer), seq));
                let log = self.content.logs.get_mut(&chat(device.0, peer)).expect("it was appended to");
                log.entries[seq as usize - 1].client_id = client_id;
                if log.acked(device) + 1 == seq {
                    log.acked.insert(device, seq);
                }
                if is_cut {
                    self.cut_at(chat(device.0, peer), seq);
                }
                v1::Sent { seq, time_ms, expires_ms: 0 }
            }
        };
        self.answer(connection, id, M::Sent(sent));
    }

    fn append(&mut self, device: DeviceId, to: u64, time_ms: u64, body: Bytes) -> u64 {
        let place = chat(device.0, to);
        let log = self.content.logs.entry(place).or_default();
        let (sender, number) = device;
        log.entries.push(Entry { sender, device: number, client_id: 0, time_ms, body: body.clone() });
        let seq = log.head();
        self.ever.insert((place, seq, body.to_vec()));
        for of in self.connections.values_mut() {
            let Some(other) = of.device.filter(|_| of.resumed) else { continue };
            // Its own entries are pushed to a device where they are caught up with.
            let is_for = is_in(place, other.0);
            if is_for && (other != device || of.is_behind(to)) {
                of.pushes.push_back(M::Entry(log.entry(seq, other.0, place)));
                of.upto.insert(place, seq);
            }
        }
        seq
    }

    fn acknowledge(&mut self, connection: u64, device: DeviceId, id: u64, acknowledge: &v1::Acknowledge) {
        let v1::Acknowledge { chat: peer, delivered_upto, read_upto } = *acknowledge;
        let me = device.0;
        let log = self.content.logs.entry(chat(me, peer)).or_default();
        if delivered_upto > log.head() || read_upto > log.head() {
            return self.refuse(connection, id, Reason::InvalidArgument, 0);
        }
        let acked = log.acked(device);
        if delivered_upto > acked {
            log.acked.insert(device, delivered_upto);
            self.acknowledged.push((connection, peer, acked, delivered_upto));
        }
        let before = log.marks(me);
        let marks = (before.0.max(delivered_upto), before.1.max(read_upto));
        log.marks.insert(me, marks);
        self.answer(connection, id, M::Acknowledged(v1::Acknowledged {}));
        if marks == before {
            return;
        }
        for of in self.connections.values_mut().filter(|of| of.resumed) {
            let Some(other) = of.device.filter(|other| *other != device) else { continue };
            let to_peer = (other.0 == peer).then_some((me, marks.0));
            let to_self = (other.0 == me && marks.1 > before.1).then_some((peer, 0));
            if let Some((peer, delivered_upto)) = to_peer.or(to_self) {
                let receipt = v1::Receipt { chat: peer, delivered_upto, read_upto: marks.1, member: me };
                of.pushes.push_back(M::Receipt(receipt));
            }
        }
    }

    fn history(&mut self, connection: u64, device: DeviceId, id: u64, history: &v1::History) {
        let place = chat(device.0, history.chat);
        let empty = Log::default();
        let log = self.content.logs.get(&place).unwrap_or(&empty);
        assert!(history.forwards, "this client reads no history backwards by itself");
        let begin = (history.from + 1).max(log.first);
        let end = (begin + 6).min(log.head());
        let entry = |seq| v1::Entry { chat: 0, ..log.entry(seq, device.0, place) };
        let entries = (begin..=end).map(entry).collect();
        let (head, more) = (log.head(), end < log.head());
        let first = if log.first > 1 { log.first } else { 0 };
        if first > 0 {
            self.began.note(device, place, first);
        }
        let page = v1::HistoryPage { entries, more, head, first, ..Default::default() };
        self.answer(connection, id, M::HistoryPage(page));
    }
}

impl Connection {
    fn frame(&mut self, id: u64, message: M) -> usize {
        frame::encode(&v1::ServerFrame { id, message: Some(message) }, &mut self.out)
    }

    /// Whether something of a chat is not pushed yet.
    fn is_behind(&self, with: u64) -> bool {
        self.pushes.iter().any(|push| match push {
            M::Entry(v1::Entry { chat: peer, .. }) | M::Rewound(v1::Rewound { chat: peer, .. }) => {
                *peer == with
            }
            _ => false,
        })
    }

    /// Pushes as far as the client takes it.
    fn push(&mut self) {
        let has_room = |of: &Self| {
            of.pushed.0 - of.credited.0 < of.window.0 && of.pushed.1 - of.credited.1 < of.window.1
        };
        while has_room(self)
            && let Some(push) = self.pushes.pop_front()
        {
            let counts = matches!(push, M::Entry(_) | M::Receipt(_) | M::Rewound(_) | M::Begins(_));
            let bytes = self.frame(0, push) as u64;
            if counts {
                self.pushed = (self.pushed.0 + 1, self.pushed.1 + bytes);
            }
        }
    }
}
