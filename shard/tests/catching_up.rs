//! What a device lacks, under any mixture of Resumes, slow reads of its inbox, small windows, and messages meanwhile: within
//! a connection the pushes of each log are contiguous and never go back, but where the device itself did, and `CaughtUp` is
//! true.
//!
//! `TERN_SEED=N` repeats one run.

#![allow(clippy::print_stdout, reason = "a failed run is repeated with the seed that it printed")]

#[allow(dead_code, reason = "the node serves other tests as well")]
mod node;

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use node::{Link, Node, Weather};
use tern_proto::v1::{self, client_frame::Request, server_frame::Message};
use tern_shard::admin::Provisioned;
use tern_shard::limits::Limits;
use tern_storage::faults::Faults;
use tern_storage::memory::Memory;

const PEERS: u8 = 7;
const CONNECTIONS: usize = 12;
const SEEDS: u64 = 60;
/// A generation that no store has had.
const NEVER: u64 = 12345;

/// One of the device's chats.
#[derive(Default)]
struct Chat {
    /// What has been said for certain, by seq: whether by the device itself.
    said: BTreeMap<u64, bool>,
    /// Up to where the device's core has heard of it too.
    arrived: u64,
    /// What the device has stored.
    has: BTreeSet<u64>,
    /// The last that was pushed on this connection.
    pushed: Option<u64>,
    /// Where the device said on this connection that it is.
    claimed: Vec<u64>,
    /// The lowest of these, if the first `Resume` listed the chat.
    listed_first: Option<u64>,
    /// The device has lost what it had acknowledged, and says so until it has it again.
    lost: bool,
}

impl Chat {
    fn position(&self) -> u64 {
        (1..).find(|seq| !self.has.contains(seq)).expect("an end") - 1
    }

    /// Whether all between two seqs are the device's own.
    fn all_own(&self, after: u64, before: u64) -> bool {
        (after + 1..before).all(|seq| self.said.get(&seq) == Some(&true))
    }
}

/// A person at the other end.
struct Peer {
    person: Provisioned,
    link: Option<Link>,
    messages: u64,
    requests: u64,
}

struct World {
    seed: u64,
    rng: Rng,
    store: Memory,
    node: Node,
    limits: Limits,
    me: Provisioned,
    peers: Vec<Peer>,
    chats: BTreeMap<u64, Chat>,
    link: Option<Link>,
    requests: u64,
    messages: u64,
    /// Own messages under way: which request is to whom.
    saying: BTreeMap<u64, u64>,
    /// Resumes on this connection that have not been answered, and how much each chat must have at the next `CaughtUp`.
    resumed: bool,
    /// One of them was answered by "rewound", and no `CaughtUp` has come that counts.
    untrusted: bool,
    resumes: BTreeSet<u64>,
    /// Those that name a past which never was.
    untrusted_resumes: BTreeSet<u64>,
    owed: BTreeMap<u64, u64>,
    window: u64,
    pushed: u64,
    credited: u64,
    caught_up: u64,
    generation: u64,
    rewound: u64,
    went_back: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let store = Memory::faulty(Faults::default());
        let limits = Limits {
            logs_cached_max: rng.usize(0..8),
            users_cached_max: rng.usize(0..4),
            tail_entries_max: rng.usize(1..6),
            inbox_step_rows: rng.usize(1..4),
            send_queue_bytes_max: rng.usize(50..1000),
            mark_quiet_ms: 300,
            ..Limits::default()
        };
        let mut node = Node::start(&store, rng.u16(1..4), &limits, 1_000_000);
        let me = node.provision("+15550000000", &mut rng);
        let mut peer = |number| Peer {
            person: node.provision(&format!("+1555000000{number}"), &mut rng),
            link: None,
            messages: 0,
            requests: 0,
        };
        let peers: Vec<_> = (1..=PEERS).map(&mut peer).collect();
        let chats = peers.iter().map(|peer| (peer.person.user.get(), Chat::default())).collect();
        Self {
            seed,
            rng,
            store,
            node,
            limits,
            me,
            peers,
            chats,
            link: None,
            requests: 0,
            messages: 0,
            saying: BTreeMap::new(),
            resumed: false,
            untrusted: false,
            resumes: BTreeSet::new(),
            untrusted_resumes: BTreeSet::new(),
            owed: BTreeMap::new(),
            window: 0,
            pushed: 0,
            credited: 0,
            caught_up: 0,
            generation: 0,
            rewound: 0,
            went_back: 0,
        }
    }

    fn chat(&mut self, peer: u64) -> &mut Chat {
        self.chats.get_mut(&peer).expect("one of the peers")
    }

    fn request(&mut self, request: Request) -> u64 {
        self.requests += 1;
        if let Some(link) = self.link {
            self.node.request(link, self.requests, request);
        }
        self.requests
    }

    /// The node starts again on the same store, and reads all inboxes anew.
    fn restart(&mut self) {
        self.store = self.store.recover(Faults::default());
        if self.rng.bool() {
            self.store.hold();
        }
        self.node = Node::start(&self.store, self.rng.u16(1..4), &self.limits, self.node.now_ms);
        for peer in &mut self.peers {
            peer.link = None;
        }
    }

    /// A peer says something, and waits until that is acknowledged.
    fn hear(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        let id = peer.person.user.get();
        let link = *peer.link.get_or_insert_with(|| {
            let link = self.node.connect(0);
            let hello = v1::Hello { version_min: 1, version_max: 1, ..v1::Hello::default() };
            self.node.request(link, 1, Request::Hello(hello));
            let access_token = peer.person.access_token.clone();
            self.node.request(link, 2, Request::Login(v1::Login { access_token }));
            peer.requests = 2;
            link
        });
        (peer.messages, peer.requests) = (peer.messages + 1, peer.requests + 1);
        let body = peer.messages.to_string().into();
        let send = v1::Send {
            chat: self.me.user.get(),
            client_id: peer.messages,
            body,
            kind: 0,
            ..Default::default()
        };
        let request = peer.requests;
        self.wait_for_login(link);
        self.node.request(link, request, Request::Send(send));
        self.wait_for(link, request, id);
    }

    fn wait_for_login(&mut self, link: Link) {
        // Logging in moves a connection to another core.
        for _ in 0..200 {
            self.node.step(&mut self.rng);
        }
        assert!(self.node.stands(link));
    }

    fn wait_for(&mut self, link: Link, request: u64, chat: u64) {
        loop {
            self.node.step(&mut self.rng);
            for frame in self.node.receive(link).expect("it stands") {
                match frame.message {
                    Some(Message::Sent(sent)) if frame.id == request => {
                        self.chat(chat).said.insert(sent.seq, false);
                        return;
                    }
                    Some(Message::Refused(refused)) => panic!("seed {}: {refused:?}", self.seed),
                    _ => {}
                }
            }
        }
    }

    fn connect(&mut self) {
        let link = self.node.connect(0);
        self.link = Some(link);
        self.window = [0, 1, 2, 5][self.rng.usize(..4)];
        (self.pushed, self.credited) = (0, 0);
        self.resumes.clear();
        self.owed.clear();
        self.saying.clear();
        for chat in self.chats.values_mut() {
            chat.pushed = None;
            chat.claimed.clear();
            chat.listed_first = None;
        }
        (self.resumed, self.untrusted) = (false, false);
        let push_frames_max = self.window as u32;
        let hello = v1::Hello { version_min: 1, version_max: 1, push_frames_max, ..v1::Hello::default() };
        self.request(Request::Hello(hello));
        let access_token = self.me.access_token.clone();
        self.request(Request::Login(v1::Login { access_token }));
        self.wait_for_login(link);
        self.take();
    }

    /// A Resume that lists some chats: with what the device has, or less where it lost some, or under a past that never was.
    fn resume(&mut self) {
        self.take();
        let mut positions = Vec::new();
        let untrusted = self.rng.u8(..6) == 0;
        for (peer, chat) in &mut self.chats {
            if self.rng.u8(..3) > 0 && !chat.lost {
                continue;
            }
            if self.rng.u8(..5) == 0 {
                let keeps = self.rng.u64(..=chat.position());
                chat.has.split_off(&(keeps + 1));
                chat.lost = true;
            }
            let upto = chat.position();
            chat.claimed.push(upto);
            chat.listed_first =
                if self.resumed { chat.listed_first.map(|claimed| claimed.min(upto)) } else { Some(upto) };
            positions.push(v1::Position { chat: *peer, upto, delivered_upto: 0, read_upto: 0 });
        }
        let generations = vec![if untrusted { NEVER } else { self.generation }];
        let id = self.request(Request::Resume(v1::Resume { positions, generations }));
        self.resumes.insert(id);
        if untrusted {
            self.untrusted_resumes.insert(id);
        }
        self.resumed = true;
        for (peer, chat) in &self.chats {
            self.owed.insert(*peer, chat.arrived);
        }
    }

    fn say(&mut self) {
        let peer = self.peers[self.rng.usize(..self.peers.len())].person.user.get();
        self.messages += 1;
        let (body, client_id) = (format!("own {}", self.messages).into(), self.messages);
        let id = self.request(Request::Send(v1::Send {
            chat: peer,
            client_id,
            body,
            kind: 0,
            ..Default::default()
        }));
        self.saying.insert(id, peer);
    }

    fn acknowledge(&mut self) {
        self.take();
        if !self.resumes.is_empty() || self.untrusted {
            return;
        }
        let peer = self.peers[self.rng.usize(..self.peers.len())].person.user.get();
        let delivered_upto = self.chat(peer).position();
        let acknowledge = v1::Acknowledge { chat: peer, delivered_upto, read_upto: 0 };
        self.request(Request::Acknowledge(acknowledge));
    }

    fn credit(&mut self) {
        self.credited = self.pushed;
        let link = self.link.expect("connected");
        self.node.request(link, 0, Request::Credit(v1::Credit { frames: self.pushed, bytes: 1 << 40 }));
    }

    /// Takes what has come to the device, and checks it.
    fn take(&mut self) {
        let seed = self.seed;
        let Some(link) = self.link else { return };
        for frame in self.node.receive(link).expect("it stands") {
            match frame.message.expect("a message") {
                Message::Welcome(welcome) => self.generation = welcome.generation,
                Message::Entry(entry) => {
                    self.count_push();
                    let own = entry.sender != 0;
                    let chat = self.chat(entry.chat);
                    let seq = entry.seq;
                    chat.said.insert(seq, own);
                    if let Some(pushed) = chat.pushed {
                        if seq <= pushed {
                            let place = chat.claimed.iter().position(|upto| upto + 1 == seq);
                            let place = place.unwrap_or_else(|| {
                                panic!(
                                    "seed {seed}: {seq} after {pushed} in {}, which nobody asked for",
                                    entry.chat
                                )
                            });
                            chat.claimed.swap_remove(place);
                            self.went_back += 1;
                        } else {
                            assert!(chat.all_own(pushed, seq), "seed {seed}: {seq} after {pushed}");
                        }
                    } else if let Some(claimed) = chat.listed_first {
                        assert!(seq > claimed, "seed {seed}: {seq}, though the device said {claimed}");
                    }
                    let chat = self.chat(entry.chat);
                    let position = chat.position();
                    assert!(
                        seq <= position || chat.all_own(position, seq),
                        "seed {seed}: {seq} to a device that has {position}"
                    );
                    chat.pushed = Some(seq);
                    chat.has.insert(seq);
                }
                Message::Rewound(rewound) => {
                    self.count_push();
                    self.rewound += 1;
                    let chat = self.chat(rewound.chat);
                    assert!(
                        chat.claimed.iter().any(|upto| *upto > rewound.upto),
                        "seed {seed}: {} is no step back for anybody",
                        rewound.upto
                    );
                    chat.has.split_off(&(rewound.upto + 1));
                    chat.pushed = Some(rewound.upto);
                    chat.claimed.retain(|upto| *upto < rewound.upto);
                }
                Message::Sent(sent) => {
                    let peer = self.saying.remove(&frame.id).expect("it was sent");
                    let chat = self.chat(peer);
                    chat.said.insert(sent.seq, true);
                    chat.has.insert(sent.seq);
                }
                Message::Receipt(_) => self.count_push(),
                Message::Resumed(resumed) => {
                    assert!(self.resumes.remove(&frame.id), "seed {seed}");
                    let untrusted = self.untrusted_resumes.remove(&frame.id);
                    assert_eq!(
                        resumed.rewound, untrusted,
                        "seed {seed}: a past that never was is not believed"
                    );
                    self.untrusted |= resumed.rewound;
                }
                Message::CaughtUp(_) if self.resumes.is_empty() => {
                    self.untrusted = false;
                    self.caught_up += 1;
                    for (peer, upto) in std::mem::take(&mut self.owed) {
                        self.chat(peer).lost = false;
                        let position = self.chat(peer).position();
                        assert!(
                            position >= upto,
                            "seed {seed}: caught up with {position} of {upto} of {peer}"
                        );
                    }
                }
                Message::CaughtUp(_) | Message::LoggedIn(_) | Message::Acknowledged(_) => {}
                other => panic!("seed {seed}: {other:?}"),
            }
        }
    }

    fn count_push(&mut self) {
        self.pushed += 1;
        let seed = self.seed;
        assert!(
            self.window == 0 || self.pushed - self.credited <= self.window,
            "seed {seed}: beyond the window"
        );
    }

    /// When no core has anything to tell another, all that was acknowledged has arrived.
    fn note_arrived(&mut self) {
        if self.node.is_told() {
            for chat in self.chats.values_mut() {
                chat.arrived = chat.said.keys().max().copied().unwrap_or(0);
            }
        }
    }

    fn anything(&mut self) {
        self.note_arrived();
        match self.rng.u8(..60) {
            0 => self.resume(),
            1..4 => {
                let at = self.rng.usize(..self.peers.len());
                self.hear(at);
            }
            4 => self.say(),
            5 => self.acknowledge(),
            6..9 => self.take(),
            9..11 => {
                self.take();
                self.credit();
            }
            11 => self.node.tick(200),
            _ => drop(self.node.step(&mut self.rng)),
        }
    }

    /// A connection, from its login to its end, with all that comes of it.
    fn connection(&mut self) {
        if self.rng.u8(..3) > 0 {
            self.restart();
        }
        let weather = Weather {
            reads_fail_per_mille: 0,
            busy_per_mille: self.rng.u16(..300),
            slow_readers: self.rng.bool(),
        };
        self.node.weather(weather);
        self.note_arrived();
        self.connect();
        (0..self.rng.usize(1..4)).for_each(|_| self.resume());
        (0..self.rng.usize(..300)).for_each(|_| self.anything());
        if self.rng.u8(..3) > 0 {
            let before = self.caught_up;
            self.resume();
            loop {
                self.node.settle(&mut self.rng);
                self.take();
                if self.pushed == self.credited && self.resumes.is_empty() && self.owed.is_empty() {
                    break;
                }
                self.credit();
            }
            assert!(self.caught_up > before, "seed {}: never caught up", self.seed);
        }
        let link = self.link.take().expect("connected");
        self.node.disconnect(link);
        self.settle_own();
    }

    /// What the device said and did not hear of is in its chats all the same.
    fn settle_own(&mut self) {
        self.node.settle(&mut self.rng);
        for at in 0..self.peers.len() {
            self.hear(at);
            let peer = &mut self.peers[at];
            let (link, id) = (peer.link.expect("connected"), peer.person.user.get());
            peer.requests += 1;
            let (request, me) = (peer.requests, self.me.user.get());
            let mut entries = Vec::new();
            let history = v1::History { chat: me, from: 0, forwards: true, limit: 0 };
            self.node.request(link, request, Request::History(history));
            self.node.settle(&mut self.rng);
            for frame in self.node.receive(link).expect("it stands") {
                if let Some(Message::HistoryPage(page)) = frame.message {
                    assert!(!page.more, "few enough for one page");
                    entries = page.entries;
                }
            }
            let chat = self.chat(id);
            chat.said = entries.iter().map(|entry| (entry.seq, entry.sender == 0)).collect();
            // It says again what was not acknowledged, and hears the seq.
            chat.has.extend(chat.said.iter().filter(|(_, own)| **own).map(|(seq, _)| seq));
        }
    }
}

/// One world.
fn live(seed: u64) -> World {
    let mut world = World::new(seed);
    (0..CONNECTIONS).for_each(|_| world.connection());
    world
}

#[test]
fn pushes_are_contiguous_and_caught_up_is_true() {
    let one = std::env::var("TERN_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let begin = one.unwrap_or_else(|| fastrand::u64(..1 << 40));
    let (mut caught_up, mut rewound, mut went_back) = (0, 0, 0);
    for seed in begin..begin + if one.is_some() { 1 } else { SEEDS } {
        println!("repeat with TERN_SEED={seed}");
        let world = live(seed);
        caught_up += world.caught_up;
        rewound += world.rewound;
        went_back += world.went_back;
    }
    println!("{caught_up} times caught up, {rewound} rewound, {went_back} went back as asked");
    assert!(one.is_some() || (caught_up > SEEDS && rewound > 0 && went_back > 0), "too little happened");
}

/// Each fault that can be put into the brain, and changes the order of what is pushed, is found.
#[cfg(feature = "mutations")]
#[test]
fn each_fault_is_found_by_its_seeds() {
    node::find_each_fault("shard/tests/catching_up.rs", live);
}
