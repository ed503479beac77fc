//! Owners that are gone with all that they knew, were asked and had to say, as when their process dies, while people talk: in one
//! thread and by seeds. Whoever is connected elsewhere notices nothing but time: every request is answered once, what was
//! acknowledged is there once, in order, and at the seq that a retry is told, and every device gets all.
//!
//! `TERN_SEED=N` repeats one run.

#![allow(clippy::print_stdout, reason = "a failed run is repeated with the seed that it printed")]

#[allow(dead_code, reason = "the node serves other tests as well")]
mod node;

use std::collections::BTreeMap;

use fastrand::Rng;
use node::{Link, Node, Weather};
use tern_proto::v1::{self, Reason, client_frame::Request, server_frame::Message};
use tern_shard::limits::Limits;
use tern_storage::faults::Faults;
use tern_storage::memory::Memory;
use tern_storage::{LogId, Slot};

const DEVICES: usize = 6;
const STEPS: usize = 2500;
const SEEDS: u64 = 60;

/// One of a device's messages.
#[derive(Clone)]
struct Said {
    peer: u64,
    body: Vec<u8>,
    seq: Option<u64>,
}

struct Device {
    user: u64,
    token: String,
    link: Option<Link>,
    /// The connection is logged in.
    ready: bool,
    requests: u64,
    /// By client id, from 1.
    said: Vec<Said>,
    /// The requests of this connection that are not answered; of a `Send`, which message it is.
    waiting: BTreeMap<u64, Option<usize>>,
    /// A request of this connection is not to be asked again: its answer may be the end.
    renaming: Option<u64>,
    /// What it has of each chat, by seq.
    has: BTreeMap<u64, BTreeMap<u64, Vec<u8>>>,
    /// The last entry of each chat that this connection was pushed, and how often that went back.
    pushed: BTreeMap<u64, (u64, u64)>,
    /// How many owners were gone when it connected.
    gone: u64,
}

struct World {
    seed: u64,
    rng: Rng,
    node: Node,
    devices: Vec<Device>,
    tally: Tally,
}

/// What a run has seen.
#[derive(Debug, Default)]
struct Tally {
    said: u64,
    moves: u64,
    gone: u64,
    /// Connections that outlived the owner of their user.
    stayed: u64,
    /// Connections that ended, for they had asked for what is not to be asked again.
    ended: u64,
    fenced: u64,
    late: u64,
}

impl Tally {
    fn add(&mut self, world: &Self) {
        self.said += world.said;
        self.moves += world.moves;
        self.gone += world.gone;
        self.stayed += world.stayed;
        self.ended += world.ended;
        self.fenced += world.fenced;
        self.late += world.late;
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let store = Memory::faulty(Faults::default());
        let limits = Limits {
            logs_cached_max: rng.usize(0..8),
            users_cached_max: rng.usize(0..4),
            tail_entries_max: rng.usize(1..8),
            mark_quiet_ms: 500,
            sends_per_minute_max: 0,
            lookups_per_minute_max: 0,
            strangers_per_hour_max: if rng.bool() { 1000 } else { 0 },
            groups_per_day_max: 1_000_000,
            login_timeout_ms: 3_600_000,
            idle_timeout_ms: 3_600_000,
            answer_timeout_ms: 3_600_000,
            ..Limits::default()
        };
        let mut node = Node::start(&store, rng.u16(2..5), &limits, 1_000_000);
        // Two of the devices belong to one person.
        let device = |number: u8| {
            let made = node.provision(&format!("+1555000000{number}"), &mut rng);
            Device {
                user: made.user.get(),
                token: made.access_token,
                link: None,
                ready: false,
                requests: 0,
                said: Vec::new(),
                waiting: BTreeMap::new(),
                renaming: None,
                has: BTreeMap::new(),
                pushed: BTreeMap::new(),
                gone: 0,
            }
        };
        let devices = [0, 1, 2, 3, 4, 4].map(device).into();
        let weather =
            Weather { busy_per_mille: rng.u16(..200), slow_readers: rng.bool(), ..Weather::default() };
        node.weather(weather);
        store.hold();
        let mut world = Self { seed, rng, node, devices, tally: Tally::default() };
        (0..DEVICES).for_each(|at| world.connect(at));
        world
    }

    fn request(&mut self, at: usize, request: Request, about: Option<usize>) -> u64 {
        let device = &mut self.devices[at];
        device.requests += 1;
        device.waiting.insert(device.requests, about);
        self.node.request(device.link.expect("it has connected"), device.requests, request);
        device.requests
    }

    /// Connects. Its login may take the connection to another core, so what follows waits for it.
    fn connect(&mut self, at: usize) {
        let core = self.rng.u16(..8) % 2;
        let device = &mut self.devices[at];
        device.link = Some(self.node.connect(core));
        (device.ready, device.renaming) = (false, None);
        (device.waiting, device.pushed) = (BTreeMap::new(), BTreeMap::new());
        device.gone = self.tally.gone;
        let hello = v1::Hello { version_min: 1, version_max: 1, ..v1::Hello::default() };
        let access_token = device.token.clone();
        self.request(at, Request::Hello(hello), None);
        self.request(at, Request::Login(v1::Login { access_token }), None);
    }

    /// The connection is logged in: what was not acknowledged is said again, in the old order.
    fn resume(&mut self, at: usize) {
        self.request(at, Request::Resume(v1::Resume::default()), None);
        for number in 0..self.devices[at].said.len() {
            if self.devices[at].said[number].seq.is_none() {
                self.send(at, number);
            }
        }
    }

    /// Whoever has lost the connection comes back.
    fn come_back(&mut self, at: usize) {
        if !self.node.stands(self.devices[at].link.expect("it has connected")) {
            self.take(at);
            self.connect(at);
        }
    }

    fn send(&mut self, at: usize, number: usize) {
        let Said { peer, body, .. } = self.devices[at].said[number].clone();
        let send = v1::Send {
            chat: peer,
            client_id: number as u64 + 1,
            body: body.into(),
            kind: 0,
            ..Default::default()
        };
        self.request(at, Request::Send(send), Some(number));
    }

    fn say(&mut self, at: usize) {
        let peer = self.devices[self.rng.usize(..DEVICES)].user;
        let number = self.devices[at].said.len();
        let mut body = format!("{at} {number}").into_bytes();
        if self.rng.u8(..8) == 0 {
            // So much that its log has to reserve room.
            body.resize(20 << 10, b'.');
        }
        self.devices[at].said.push(Said { peer, body, seq: None });
        self.send(at, number);
        self.tally.said += 1;
    }

    fn acknowledge(&mut self, at: usize) {
        let has = &self.devices[at].has;
        let Some((peer, seqs)) = has.iter().nth(self.rng.usize(..DEVICES)) else { return };
        // A hole is there while an answer to what was said itself is on its way.
        let upto = (1..).find(|seq| !seqs.contains_key(seq)).expect("there is an end") - 1;
        let acknowledge = v1::Acknowledge { chat: *peer, delivered_upto: upto, read_upto: upto };
        self.request(at, Request::Acknowledge(acknowledge), None);
    }

    /// Something that is read, or not to be asked again.
    fn ask(&mut self, at: usize) {
        let peer = self.devices[self.rng.usize(..DEVICES)].user;
        let request = match self.rng.u8(..10) {
            0..2 => Request::History(v1::History { chat: peer, from: 0, forwards: false, limit: 3 }),
            2..4 => Request::Chats(v1::Chats { after: 0, limit: 2, known: Vec::new() }),
            4 => Request::Devices(v1::Devices {}),
            5..9 => Request::Ping(v1::Ping {}),
            _ if self.devices[at].renaming.is_some() => return,
            _ => {
                let name = Some(format!("name {}", self.rng.u8(..)));
                Request::Rename(v1::Rename { name, ..v1::Rename::default() })
            }
        };
        let is_rename = matches!(request, Request::Rename(_));
        let is_list = matches!(request, Request::Chats(_));
        if is_list && self.devices[at].waiting.values().any(|about| *about == Some(usize::MAX)) {
            return;
        }
        let id = self.request(at, request, is_list.then_some(usize::MAX));
        if is_rename {
            self.devices[at].renaming = Some(id);
        }
    }

    fn slot(&mut self) -> Slot {
        let [one, other] = [(); 2].map(|()| self.devices[self.rng.usize(..DEVICES)].user);
        if self.rng.bool() { Slot::of_log(LogId::direct(one, other)) } else { Slot::of_user(one) }
    }

    fn move_one(&mut self) {
        let slot = self.slot();
        self.tally.moves += u64::from(self.node.move_slot(slot, self.rng.u16(..5)));
    }

    /// The owner of a user or a log is lost: mostly one with batches under way, or whose user is connected elsewhere.
    fn lose_owner(&mut self) {
        let slot = self.slot();
        let core = self.node.owner(slot);
        if self.node.commits_in_flight(core) == 0 && self.rng.u8(..4) > 0 {
            return;
        }
        let stays = |world: &Self, device: &Device| {
            let at = world.node.core_of(device.link.expect("it has connected"));
            at.is_some_and(|at| at != core) && world.node.owner(Slot::of_user(device.user)) == core
        };
        let stayed = self.devices.iter().filter(|device| stays(self, device)).count();
        if self.node.lose_brain(core, &mut self.rng) {
            self.tally.gone += 1;
            self.tally.stayed += stayed as u64;
        }
    }

    fn take(&mut self, at: usize) {
        let (seed, gone) = (self.seed, self.tally.gone);
        let device = &mut self.devices[at];
        let Some(frames) = self.node.receive(device.link.expect("it has connected")) else { return };
        let was_ready = device.ready;
        for frame in frames {
            let about = (frame.id > 0).then(|| device.waiting.remove(&frame.id));
            assert!(about != Some(None), "seed {seed}: a request is answered once: {frame:?}");
            if device.renaming == Some(frame.id) {
                device.renaming = None;
            }
            match frame.message.expect("a message") {
                Message::Sent(sent) => {
                    let number = about.flatten().flatten().expect("it was a message");
                    let said = &mut device.said[number];
                    assert!(
                        said.seq.is_none_or(|seq| seq == sent.seq),
                        "seed {seed}: a retry is told the seq of the first"
                    );
                    said.seq = Some(sent.seq);
                    let (peer, body) = (said.peer, said.body.clone());
                    let other = device.has.entry(peer).or_default().insert(sent.seq, body.clone());
                    assert!(other.is_none_or(|other| other == body), "seed {seed}: a seq has two bodies");
                }
                Message::Entry(entry) => {
                    let body = entry.body.to_vec();
                    let other = device.has.entry(entry.chat).or_default().insert(entry.seq, body.clone());
                    assert!(other.is_none_or(|other| other == body), "seed {seed}: a seq has two bodies");
                    let (newest, backs) = device.pushed.entry(entry.chat).or_default();
                    *backs += u64::from(entry.seq <= std::mem::replace(newest, entry.seq));
                    // Once for the user's owner, once for the log's; one may have been gone before the connection was there.
                    let most = if gone == 0 { 0 } else { 2 * (gone + 1 - device.gone) };
                    assert!(
                        *backs <= most,
                        "seed {seed}: pushes go back only when an owner is gone: {at} was pushed {} of {}, {backs} times back",
                        entry.seq,
                        entry.chat
                    );
                }
                Message::LoggedIn(_) => device.ready = true,
                Message::GoAway(bye) => {
                    assert!(
                        device.renaming.is_some() && bye.reason() == Reason::Unavailable,
                        "seed {seed}: {at} was shown out: {bye:?}"
                    );
                    self.tally.ended += 1;
                }
                Message::Refused(refused) => panic!("seed {seed}: {at} was refused: {refused:?}"),
                _ => {}
            }
        }
        if !was_ready && self.devices[at].ready {
            self.resume(at);
        }
    }

    /// All that was lost comes back, and what is known then holds.
    fn check(&mut self) {
        let seed = self.seed;
        for _ in 0..6 {
            for at in 0..DEVICES {
                self.come_back(at);
                self.take(at);
            }
            self.node.tick(200);
            self.node.settle(&mut self.rng);
        }
        assert!(self.node.has_moved(), "seed {seed}: every move ends");
        for at in 0..DEVICES {
            self.take(at);
            let stands = self.node.stands(self.devices[at].link.expect("it has connected"));
            assert!(stands && self.devices[at].ready, "seed {seed}: whoever comes back is let in");
            assert!(self.devices[at].waiting.is_empty(), "seed {seed}: every request is answered");
        }
        let (open, late) = self.node.asks();
        assert_eq!(open, 0, "seed {seed}: nothing is left open");
        self.tally.late = late;
        self.tally.fenced = self.node.fenced() as u64;
        for at in 0..DEVICES {
            self.check_device(at);
        }
    }

    fn check_device(&mut self, at: usize) {
        let seed = self.seed;
        let device = &self.devices[at];
        for peer in self.devices.iter().map(|device| device.user) {
            let has = device.has.get(&peer).cloned().unwrap_or_default();
            let dense = has.keys().copied().eq(1..=has.len() as u64);
            assert!(dense, "seed {seed}: {at} has all of its chats: {:?}", has.keys());
            let other = self.devices.iter().find(|other| other.user == peer).expect("somebody");
            let theirs = other.has.get(&device.user).cloned().unwrap_or_default();
            assert_eq!(has.len(), theirs.len(), "seed {seed}: both have as much");
            let said = device.said.iter().filter(|said| said.peer == peer);
            let seqs: Vec<_> = said.clone().map(|said| said.seq.expect("it was acknowledged")).collect();
            assert!(
                seqs.is_sorted_by(|one, other| one < other),
                "seed {seed}: what {at} says to {peer} is in order: {seqs:?}"
            );
            for said in said {
                let times = has.values().filter(|body| **body == said.body).count();
                assert_eq!(times, 1, "seed {seed}: what was said is there once");
                assert_eq!(has.get(&said.seq.expect("acknowledged")), Some(&said.body), "seed {seed}");
            }
        }
    }
}

fn live(seed: u64) -> Tally {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        let at = world.rng.usize(..DEVICES);
        match world.rng.u8(..60) {
            0..12 if world.devices[at].ready => match world.rng.u8(..9) {
                0..6 => world.say(at),
                6..8 => world.acknowledge(at),
                _ => world.ask(at),
            },
            12..15 => world.take(at),
            15..18 => world.come_back(at),
            18..21 => world.move_one(),
            21..24 => world.lose_owner(),
            24 if world.rng.bool() => world.node.tick(200),
            _ => drop(world.node.step(&mut world.rng)),
        }
    }
    world.check();
    world.tally
}

#[test]
fn nobody_notices_that_an_owner_is_gone() {
    let one = std::env::var("TERN_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let seeds = std::env::var("TERN_SEEDS").ok().and_then(|seeds| seeds.parse::<u64>().ok()).unwrap_or(SEEDS);
    let begin = one.unwrap_or_else(|| fastrand::u64(..1 << 40));
    let mut all = Tally::default();
    let lived = |seed: u64, all: &mut Tally| {
        println!("repeat with TERN_SEED={seed}");
        all.add(&live(seed));
    };
    (begin..begin + if one.is_some() { 1 } else { seeds }).for_each(|seed| lived(seed, &mut all));
    println!("{all:?}");
    if one.is_some() {
        return;
    }
    // A connection ends for want of an owner in one world of eight, so that it is waited for.
    let mut more = begin + seeds..begin + 4 * seeds;
    while all.ended == 0 {
        lived(more.next().expect("some connection ends in four times as many worlds"), &mut all);
    }
    let Tally { moves, gone, stayed, fenced, late, .. } = all;
    assert!(gone > seeds && moves > seeds && stayed > seeds && fenced > 0 && late > 0, "too little happened");
}

/// An owner that never answers: who asked it is shown out, an operator is told once, and the answer that comes after all is dropped.
#[test]
fn who_waits_too_long_for_an_owner_is_shown_out() {
    let mut rng = Rng::with_seed(5);
    let store = Memory::faulty(Faults::default());
    let mut node = Node::start(&store, 2, &Limits::default(), 1_000_000);
    let [ann, bob] = ["+15550000001", "+15550000002"].map(|phone| node.provision(phone, &mut rng));
    let links = [3, 4, 5].map(|number| {
        let made = node.provision(&format!("+1555000000{number}"), &mut rng);
        let link = node.connect(0);
        let hello = v1::Hello { version_min: 1, version_max: 1, ..v1::Hello::default() };
        node.request(link, 1, Request::Hello(hello));
        node.request(link, 2, Request::Login(v1::Login { access_token: made.access_token }));
        node.settle(&mut rng);
        node.receive(link).expect("it is logged in");
        link
    });
    store.hold();
    for (link, peer) in links.into_iter().zip([ann.user, bob.user, ann.user]).take(2) {
        let send =
            v1::Send { chat: peer.get(), client_id: 1, body: "hello".into(), kind: 0, ..Default::default() };
        node.request(link, 3, Request::Send(send));
    }
    // The store does not complete what it has taken.
    node.settle_without_store(&mut rng);
    assert_eq!(node.asks(), (2, 0));
    node.tick(29_000);
    assert!(links.iter().all(|link| node.receive(*link).is_some_and(|frames| frames.is_empty())));
    node.tick(2_000);
    for link in &links[..2] {
        let frames = node.receive(*link).expect("it was told");
        let [frame] = &frames[..] else { panic!("one frame, not {frames:?}") };
        let Some(Message::GoAway(bye)) = &frame.message else { panic!("a farewell, not {frame:?}") };
        assert_eq!(bye.reason(), Reason::Unavailable);
    }
    assert_eq!(node.receive(links[2]), Some(Vec::new()), "who asked nothing stays");
    let told = node.told_unanswered().len();
    assert!((1..=2).contains(&told), "each core says so once, not {told} times");
    assert_eq!(node.asks(), (0, 0));
    node.settle(&mut rng);
    let (open, late) = node.asks();
    assert_eq!((open, late), (0, 2), "the answers that come after all find nobody");
}

/// Each fault that can be put into what is done when an owner is gone is found by its seeds.
#[cfg(feature = "mutations")]
#[test]
fn each_fault_is_found_by_its_seeds() {
    node::find_each_fault("shard/tests/owner_gone.rs", live);
}
