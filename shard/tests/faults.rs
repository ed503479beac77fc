//! The brain under random traffic, faults and crashes, in one thread and by seeds: what was acknowledged stays, once and in
//! its place; what was refused is nowhere; a retry changes nothing.
//!
//! `TERN_SEED=N` repeats one run.

#![allow(clippy::print_stdout, reason = "a failed run is repeated with the seed that it printed")]

#[allow(dead_code, reason = "the node serves other tests as well")]
mod node;

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use node::{Link, Node, Weather};
use tern_proto::v1::{self, client_frame::Request, server_frame::Message};
use tern_shard::limits::Limits;
use tern_shard::message::{self, LogOp, Unreadable};
use tern_storage::faults::Faults;
use tern_storage::memory::Memory;
use tern_storage::{LogId, Slot};
use tern_wire::ids::UserId;

const DEVICES: usize = 6;
const STEPS: usize = 1500;
const SEEDS: u64 = 100;

/// One of a person's messages.
#[derive(Clone, Debug)]
struct Said {
    peer: u64,
    client_id: u64,
    body: String,
    seq: Option<u64>,
    /// It was sent so many times without an answer, and refused at least once.
    unanswered: u32,
    refused: bool,
    /// All its attempts were refused, and there will be no other.
    given_up: bool,
}

/// One device.
struct Device {
    user: u64,
    token: String,
    link: Option<Link>,
    /// The id of the connection's `Login`.
    login: Option<u64>,
    resumed: bool,
    said: Vec<Said>,
    requests: u64,
    /// Requests under way: which message each is about.
    waiting: BTreeMap<u64, usize>,
    /// What it has of each chat, by seq.
    has: BTreeMap<u64, BTreeMap<u64, Vec<u8>>>,
    /// Its request for a list of chats, and the heads that it knew then.
    listing: Option<(u64, BTreeMap<u64, u64>)>,
    /// The last entries that lists of chats have shown, by peer and seq.
    shown: BTreeMap<(u64, u64), Vec<u8>>,
}

impl Device {
    fn new(node: &mut Node, phone: u8, rng: &mut Rng) -> Self {
        let made = node.provision(&format!("+1555000000{phone}"), rng);
        Self {
            user: made.user.get(),
            token: made.access_token,
            link: None,
            login: None,
            resumed: false,
            said: Vec::new(),
            requests: 0,
            waiting: BTreeMap::new(),
            has: BTreeMap::new(),
            listing: None,
            shown: BTreeMap::new(),
        }
    }
}

fn bodies_of(entries: &[v1::Entry]) -> Vec<(u64, Vec<u8>)> {
    entries.iter().map(|entry| (entry.seq, entry.body.to_vec())).collect()
}

struct World {
    seed: u64,
    rng: Rng,
    store: Memory,
    node: Node,
    limits: Limits,
    faults: Faults,
    devices: Vec<Device>,
    /// What was said with devices that are no more.
    gone: Vec<(u64, Said)>,
    crashes: u64,
    refused: u64,
    /// Users that left the memory.
    left: u64,
    /// Chats that lists have shown while things failed.
    listed: u64,
    /// Slots that moved.
    moves: u64,
    /// Nothing fails any more.
    fair: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let store = Memory::faulty(Faults::default());
        let limits = Limits {
            // Small enough for everything to leave the memory now and then.
            logs_cached_max: rng.usize(0..8),
            users_cached_max: rng.usize(0..4),
            tail_entries_max: rng.usize(1..8),
            mark_quiet_ms: 500,
            lookups_per_minute_max: 0,
            ..Limits::default()
        };
        let mut node = Node::start(&store, rng.u16(1..4), &limits, 1_000_000);
        // Two of the devices belong to one person.
        let devices = [0, 1, 2, 3, 4, 4].map(|number| Device::new(&mut node, number, &mut rng)).into();
        let faults = Faults { seed, full_per_mille: 30, broken_per_mille: 6 };
        let mut world = Self {
            seed,
            rng,
            store,
            node,
            limits,
            faults,
            devices,
            gone: Vec::new(),
            crashes: 0,
            refused: 0,
            left: 0,
            listed: 0,
            moves: 0,
            fair: false,
        };
        world.crash(faults);
        world
    }

    /// The process dies; another one starts on what is on the medium.
    fn crash(&mut self, faults: Faults) {
        let weather = Weather {
            reads_fail_per_mille: if faults.full_per_mille > 0 { self.rng.u16(..80) } else { 0 },
            busy_per_mille: self.rng.u16(..200),
            slow_readers: self.rng.bool(),
        };
        self.crashes += 1;
        self.store = self.store.recover(Faults { seed: self.seed ^ self.crashes << 32, ..faults });
        if self.rng.u8(..4) > 0 {
            self.store.hold();
        }
        self.node = Node::start(&self.store, self.rng.u16(1..4), &self.limits, self.node.now_ms);
        self.node.weather(weather);
        for device in &mut self.devices {
            (device.link, device.resumed) = (None, false);
            device.waiting.clear();
        }
    }

    fn request(&mut self, at: usize, request: Request) -> u64 {
        let device = &mut self.devices[at];
        device.requests += 1;
        if let Some(link) = device.link {
            self.node.request(link, device.requests, request);
        }
        device.requests
    }

    fn connect(&mut self, at: usize) {
        if self.devices[at].link.is_some() {
            return;
        }
        let link = self.node.connect(0);
        self.devices[at].link = Some(link);
        let hello = v1::Hello { version_min: 1, version_max: 1, ..v1::Hello::default() };
        self.request(at, Request::Hello(hello));
        let access_token = self.devices[at].token.clone();
        self.devices[at].login = Some(self.request(at, Request::Login(v1::Login { access_token })));
        self.node.settle(&mut self.rng);
    }

    /// What is on its way to a device is lost with its connection, mostly.
    fn disconnect(&mut self, at: usize) {
        if self.rng.u8(..4) == 0 {
            self.take(at);
        }
        let device = &mut self.devices[at];
        device.resumed = false;
        device.waiting.clear();
        if let Some(link) = device.link.take() {
            self.node.disconnect(link);
        }
    }

    fn resume(&mut self, at: usize) {
        let device = &mut self.devices[at];
        if device.link.is_some() && !std::mem::replace(&mut device.resumed, true) {
            self.request(at, Request::Resume(v1::Resume::default()));
        }
    }

    fn say(&mut self, at: usize) {
        let me = self.devices[at].user;
        let others: Vec<u64> =
            self.devices.iter().map(|device| device.user).filter(|user| *user != me).collect();
        let peer = others[self.rng.usize(..others.len())];
        let number = self.devices[at].said.len();
        let body = format!("{at} says {number} with device {}", self.gone.len());
        let (client_id, seq) = (number as u64 + 1, None);
        let said = Said { peer, client_id, body, seq, unanswered: 0, refused: false, given_up: false };
        self.devices[at].said.push(said);
        self.send(at, number);
    }

    /// Sends a message, for the first time or once more.
    fn send(&mut self, at: usize, number: usize) {
        let Said { peer, client_id, body, .. } = self.devices[at].said[number].clone();
        let send = v1::Send {
            chat: peer,
            client_id,
            body: body.into(),
            kind: v1::Kind::Text.into(),
            ..Default::default()
        };
        let id = self.request(at, Request::Send(send));
        let device = &mut self.devices[at];
        device.said[number].unanswered += u32::from(device.link.is_some());
        device.waiting.insert(id, number);
    }

    fn send_again(&mut self, at: usize) {
        if !self.devices[at].said.is_empty() {
            let number = self.rng.usize(..self.devices[at].said.len());
            self.send(at, number);
        }
    }

    /// Acknowledges what it has of one chat without holes.
    fn acknowledge(&mut self, at: usize) {
        let device = &self.devices[at];
        let peers: Vec<u64> = device.has.keys().copied().collect();
        if peers.is_empty() {
            return;
        }
        let peer = peers[self.rng.usize(..peers.len())];
        let upto = (1..).find(|seq| !device.has[&peer].contains_key(seq)).unwrap_or(1) - 1;
        let acknowledge = v1::Acknowledge { chat: peer, delivered_upto: upto, read_upto: upto / 2 };
        self.request(at, Request::Acknowledge(acknowledge));
    }

    /// Asks for the list of chats, or a part of it.
    fn list(&mut self, at: usize) {
        let heads = |has: &BTreeMap<u64, Vec<u8>>| has.keys().next_back().copied().unwrap_or(0);
        let known = self.devices[at].has.iter().map(|(peer, has)| (*peer, heads(has))).collect();
        let after = self.devices[self.rng.usize(..DEVICES)].user;
        let after = if self.rng.bool() { after } else { 0 };
        let chats = v1::Chats { after, limit: self.rng.u32(..4), known: Vec::new() };
        let id = self.request(at, Request::Chats(chats));
        self.devices[at].listing = Some((id, known));
    }

    /// Takes what has come to a device.
    fn take(&mut self, at: usize) {
        let seed = self.seed;
        let device = &mut self.devices[at];
        let Some(link) = device.link else { return };
        let Some(frames) = self.node.receive(link) else {
            device.link = None;
            device.resumed = false;
            device.waiting.clear();
            return;
        };
        let mut shown_out = false;
        for frame in frames {
            match frame.message.expect("a frame has a message") {
                Message::Sent(sent) => {
                    let Some(number) = device.waiting.remove(&frame.id) else { continue };
                    let said = &mut device.said[number];
                    said.unanswered -= 1;
                    let before = said.seq.replace(sent.seq);
                    assert!(
                        before.is_none_or(|before| before == sent.seq),
                        "seed {seed}: a retry got another seq"
                    );
                    let has = device.has.entry(said.peer).or_default();
                    let body = said.body.clone().into_bytes();
                    let other = has.insert(sent.seq, body.clone());
                    assert!(other.is_none_or(|other| other == body), "seed {seed}: a seq has two bodies");
                }
                Message::Entry(entry) => {
                    let has = device.has.entry(entry.chat).or_default();
                    let other = has.insert(entry.seq, entry.body.to_vec());
                    assert!(
                        other.is_none_or(|other| other == entry.body),
                        "seed {seed}: a seq has two bodies"
                    );
                }
                Message::ChatsPage(page) => {
                    let Some((_, known)) = device.listing.take_if(|(id, _)| *id == frame.id) else {
                        continue;
                    };
                    for chat in page.chats.into_iter().filter(|chat| !chat.unavailable) {
                        let knew = known.get(&chat.id).copied().unwrap_or(0);
                        assert!(
                            chat.head >= knew,
                            "seed {seed}: a list of chats is behind what was told before"
                        );
                        let last = chat.last.expect("a chat in the list has a last entry");
                        let other = device.shown.insert((chat.id, chat.head), last.body.to_vec());
                        assert!(
                            other.is_none_or(|other| other == last.body),
                            "seed {seed}: a seq has two bodies"
                        );
                        self.listed += 1;
                    }
                }
                Message::Refused(_) => {
                    self.refused += 1;
                    if let Some(number) = device.waiting.remove(&frame.id) {
                        let said = &mut device.said[number];
                        (said.unanswered, said.refused) = (said.unanswered - 1, true);
                    }
                    // Without a login the connection is of no use.
                    shown_out |= device.login == Some(frame.id);
                }
                Message::GoAway(bye) if self.fair => {
                    panic!("seed {seed}: shown out though nothing fails: {bye:?}")
                }
                Message::GoAway(_) => shown_out = true,
                _ => {}
            }
        }
        if shown_out {
            device.resumed = false;
            device.waiting.clear();
            if let Some(link) = device.link.take() {
                self.node.disconnect(link);
            }
        }
    }

    /// Somebody gets a new device, which has nothing, in place of one whose messages were all acknowledged.
    fn replace_device(&mut self) {
        let settled = |device: &Device| device.said.iter().all(|said| said.seq.is_some());
        if settled(&self.devices[DEVICES - 1]) {
            // On a medium without faults, for the node makes the device or the test ends.
            self.disconnect(DEVICES - 1);
            self.crash(Faults::default());
            let said = std::mem::take(&mut self.devices[DEVICES - 1].said);
            self.gone.extend(said.into_iter().map(|said| (self.devices[DEVICES - 1].user, said)));
            self.devices[DEVICES - 1] = Device::new(&mut self.node, 4, &mut self.rng);
            self.crash(self.faults);
        }
    }

    fn anything(&mut self) {
        let at = self.rng.usize(..DEVICES);
        match self.rng.u8(..100) {
            0..5 => self.connect(at),
            5..7 => self.disconnect(at),
            7..13 => self.resume(at),
            13..30 => self.say(at),
            30..36 => self.send_again(at),
            36..42 => self.acknowledge(at),
            42..49 => self.take(at),
            49 => self.list(at),
            50..52 => self.node.tick(200),
            53 => self.move_slot(),
            54 => self.doubt(),
            52 if self.rng.bool() => self.let_be(),
            52 => match self.rng.u8(..15) {
                0..3 => self.crash(self.faults),
                3 => self.replace_device(),
                _ => {}
            },
            _ => drop(self.node.step(&mut self.rng)),
        }
        if self.node.has_failed() {
            self.fail();
        }
    }

    /// The medium is broken: the process ends, not without last words that some hear.
    fn fail(&mut self) {
        for _ in 0..self.rng.usize(..40) {
            self.node.step(&mut self.rng);
        }
        for at in 0..DEVICES {
            if self.rng.bool() {
                self.take(at);
            }
        }
        self.crash(self.faults);
    }

    /// A slot of a chat or of a person moves.
    fn move_slot(&mut self) {
        let user = |world: &mut Self| world.devices[world.rng.usize(..DEVICES)].user;
        let (one, other) = (user(self), user(self));
        let is_log = self.rng.bool();
        let slot = if is_log { Slot::of_log(LogId::direct(one, other)) } else { Slot::of_user(one) };
        self.moves += u64::from(self.node.move_slot(slot, self.rng.u16(..4)));
    }

    /// A chat hears that a person of it can't be read just now: it is of no use before that is over, whatever is under way.
    fn doubt(&mut self) {
        let user = |world: &mut Self| world.devices[world.rng.usize(..DEVICES)].user;
        let (one, other) = (user(self), user(self));
        let (log, member) = (LogId::direct(one, other), UserId::new(one).expect("a person"));
        self.node.tell(0, message::Message::Log(log, LogOp::Unreadable(member, Unreadable::ForNow)));
    }

    /// Nothing is said for three seconds: whoever is not needed leaves the memory, and the others are packed.
    fn let_be(&mut self) {
        let before = self.node.users();
        (0..30).for_each(|_| self.node.tick(100));
        self.left += before.saturating_sub(self.node.users()) as u64;
    }

    /// The weather clears: everybody comes back, and says again what was not acknowledged.
    fn clear_up(&mut self) {
        if self.rng.bool() {
            self.crash(Faults::default());
        } else {
            // What the node remembers must serve as well as what it reads again.
            self.node.settle(&mut self.rng);
            if self.node.has_failed() {
                self.crash(Faults::default());
            }
            self.store.heal();
            self.node.weather(Weather::default());
        }
        for at in 0..DEVICES {
            // It may have been shown out.
            self.take(at);
            self.connect(at);
            for number in 0..self.devices[at].said.len() {
                let said = &mut self.devices[at].said[number];
                let is_refused = said.unanswered == 0 && said.refused;
                if said.seq.is_none() && is_refused && self.rng.bool() {
                    said.given_up = true;
                } else if said.seq.is_none() {
                    self.send(at, number);
                    self.node.settle(&mut self.rng);
                    self.take(at);
                }
            }
        }
        for at in 0..DEVICES {
            self.disconnect(at);
            self.connect(at);
            self.resume(at);
        }
        self.fair = true;
        self.node.settle(&mut self.rng);
        (0..DEVICES).for_each(|at| self.take(at));
    }

    /// The answer to a request while nothing fails.
    fn ask(&mut self, at: usize, request: Request) -> Message {
        let id = self.request(at, request);
        self.node.settle(&mut self.rng);
        let link = self.devices[at].link.expect("connected");
        let frames = self.node.receive(link).expect("connected");
        let answer = frames.into_iter().find(|frame| frame.id == id).and_then(|frame| frame.message);
        answer.unwrap_or_else(|| panic!("seed {}: no answer", self.seed))
    }

    fn history(&mut self, at: usize, peer: u64) -> Vec<v1::Entry> {
        let mut entries: Vec<v1::Entry> = Vec::new();
        loop {
            let from = entries.last().map_or(0, |entry| entry.seq);
            let page =
                self.ask(at, Request::History(v1::History { chat: peer, from, forwards: true, limit: 0 }));
            let Message::HistoryPage(page) = page else {
                panic!("seed {}: no page, but {page:?}", self.seed)
            };
            entries.extend(page.entries);
            if !page.more {
                return entries;
            }
        }
    }

    fn chats(&mut self, at: usize) -> BTreeMap<u64, v1::Chat> {
        let (mut chats, mut after) = (BTreeMap::new(), 0);
        loop {
            let request = v1::Chats { after, limit: self.rng.u32(..4), known: Vec::new() };
            let page = self.ask(at, Request::Chats(request));
            let Message::ChatsPage(page) = page else { panic!("seed {}: no page, but {page:?}", self.seed) };
            chats.extend(page.chats.into_iter().map(|chat| (chat.id, chat)));
            if page.next == 0 {
                return chats;
            }
            after = page.next;
        }
    }

    /// The list of chats says what the histories say, and whatever it has shown was true.
    fn check_chats(&mut self, at: usize, histories: &BTreeMap<u64, Vec<v1::Entry>>) {
        let seed = self.seed;
        let chats = self.chats(at);
        let spoken = histories.iter().filter(|(_, entries)| !entries.is_empty());
        assert_eq!(
            chats.keys().collect::<Vec<_>>(),
            spoken.map(|(peer, _)| peer).collect::<Vec<_>>(),
            "seed {seed}: the list has each chat"
        );
        for (peer, chat) in &chats {
            let history = &histories[peer];
            let unread = history
                .iter()
                .filter(|entry| entry.seq > chat.own_read_upto && entry.sender != self.devices[at].user);
            assert_eq!(chat.unread, unread.count() as u64, "seed {seed}: unread is what history says");
            let last = chat.last.as_ref().map(|last| (last.seq, last.body.clone()));
            let expected = history.last().map(|last| (last.seq, last.body.clone()));
            assert_eq!(
                (chat.head, last),
                (history.len() as u64, expected),
                "seed {seed}: the head is the last"
            );
        }
        for ((peer, seq), body) in &self.devices[at].shown {
            let stays = histories[peer].iter().any(|entry| entry.seq == *seq && entry.body == *body);
            assert!(stays, "seed {seed}: a list of chats has shown what was not durable");
        }
    }

    fn check(&mut self) {
        let seed = self.seed;
        let mut bodies = BTreeSet::new();
        for at in 0..DEVICES {
            let peers: BTreeSet<u64> = self.devices.iter().map(|device| device.user).collect();
            let me = self.devices[at].user;
            let mut histories = BTreeMap::new();
            for peer in peers.into_iter().filter(|peer| *peer != me) {
                let entries = self.history(at, peer);
                let seqs: Vec<u64> = entries.iter().map(|entry| entry.seq).collect();
                assert_eq!(
                    seqs,
                    (1..=entries.len() as u64).collect::<Vec<_>>(),
                    "seed {seed}: seqs are dense"
                );
                let history = bodies_of(&entries);
                let other = self.devices.iter().position(|device| device.user == peer).expect("a device");
                let theirs = bodies_of(&self.history(other, me));
                assert_eq!(history, theirs, "seed {seed}: both read the same");
                let has = self.devices[at].has.get(&peer).cloned().unwrap_or_default();
                assert_eq!(
                    history,
                    has.into_iter().collect::<Vec<_>>(),
                    "seed {seed}: device {at} has it all"
                );
                bodies.extend(history.into_iter().map(|(seq, body)| (me.min(peer), me.max(peer), seq, body)));
                histories.insert(peer, entries);
            }
            self.check_chats(at, &histories);
        }
        let mut said = BTreeSet::new();
        let now = self.devices.iter().flat_map(|device| device.said.iter().map(|said| (device.user, said)));
        let all = now.chain(self.gone.iter().map(|(user, said)| (*user, said)));
        for (user, Said { peer, body, seq, .. }) in all.filter(|(_, said)| !said.given_up) {
            let seq = seq.unwrap_or_else(|| panic!("seed {seed}: {body:?} was never acknowledged"));
            said.insert((user.min(*peer), user.max(*peer), seq, body.clone().into_bytes()));
        }
        assert_eq!(bodies, said, "seed {seed}: all that was said is there, in its place, and nothing else");
    }
}

/// One world.
fn live(seed: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.anything();
    }
    world.clear_up();
    world.check();
    world
}

#[test]
fn faults_and_crashes_lose_double_and_reorder_nothing() {
    let one = std::env::var("TERN_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let begin = one.unwrap_or_else(|| fastrand::u64(..1 << 40));
    let (mut crashes, mut refused, mut left, mut listed, mut moves, mut said) = (0, 0, 0, 0, 0, 0);
    let mut given_up = 0;
    for seed in begin..begin + if one.is_some() { 1 } else { SEEDS } {
        println!("repeat with TERN_SEED={seed}");
        let world = live(seed);
        crashes += world.crashes;
        refused += world.refused;
        left += world.left;
        listed += world.listed;
        moves += world.moves;
        said += world.devices.iter().map(|device| device.said.len()).sum::<usize>();
        let all = || world.devices.iter().flat_map(|device| &device.said);
        given_up += all().filter(|said| said.given_up).count() as u64;
    }
    println!(
        "{said} messages, {refused} refusals, {crashes} crashes, {left} users left the memory, {listed} chats listed, {moves} slots moved, {given_up} given up"
    );
    assert!(
        one.is_some()
            || (crashes > 2 * SEEDS
                && refused > SEEDS
                && left > 0
                && listed > SEEDS
                && moves > SEEDS
                && given_up > SEEDS
                && said > 0),
        "the weather was too fair"
    );
}

/// Each fault that can be put into the brain, and lies in the reach of these worlds, is found.
#[cfg(feature = "mutations")]
#[test]
fn each_fault_is_found_by_its_seeds() {
    node::find_each_fault("shard/tests/faults.rs", live);
}
