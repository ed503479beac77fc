//! Slots move from core to core while people talk, in one thread and by seeds: nobody notices. Nothing is refused, lost, doubled or
//! out of order, and no connection ends.
//!
//! `TERN_SEED=N` repeats one run.

#![allow(clippy::print_stdout, reason = "a failed run is repeated with the seed that it printed")]

#[allow(dead_code, reason = "the node serves other tests as well")]
mod node;

use std::collections::BTreeMap;

use fastrand::Rng;
use node::{Link, Node, Weather};
use prost::Message as _;
use tern_proto::v1::{self, client_frame::Request, server_frame::Message};
use tern_shard::limits::Limits;
use tern_storage::faults::Faults;
use tern_storage::memory::Memory;
use tern_storage::records::EntryRecord;
use tern_storage::{Engine as _, LogId, Slot, keys};

const PEOPLE: usize = 5;
const STEPS: usize = 1200;
const SEEDS: u64 = 80;

struct Person {
    user: u64,
    link: Link,
    requests: u64,
    /// What it has said to each, by client id, and what was acknowledged: client ids rising with seqs.
    said: u64,
    acknowledged: BTreeMap<u64, Vec<u64>>,
    waiting: BTreeMap<u64, (u64, u64)>,
    /// The last seq that it knows of each chat, its own included, and what it has acknowledged.
    knows: BTreeMap<u64, Vec<u64>>,
    /// The last entry of each chat that it was pushed.
    pushed: BTreeMap<u64, u64>,
}

struct World {
    seed: u64,
    rng: Rng,
    store: Memory,
    node: Node,
    people: Vec<Person>,
    moves: usize,
    /// How many connections have moved to log in.
    logged_in: u64,
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
            strangers_per_hour_max: if rng.bool() { 60 } else { 0 },
            groups_per_day_max: 1_000_000,
            ..Limits::default()
        };
        let mut node = Node::start(&store, rng.u16(2..5), &limits, 1_000_000);
        let cores = rng.u16(..4);
        let person = |number: usize| {
            let made = node.provision(&format!("+1555000000{number}"), &mut rng);
            let link = node.log_in(cores % 2, &made.access_token);
            node.settle(&mut rng);
            node.request(link, 3, Request::Resume(v1::Resume::default()));
            node.settle(&mut rng);
            Person {
                user: made.user.get(),
                link,
                requests: 10,
                said: 0,
                acknowledged: BTreeMap::new(),
                waiting: BTreeMap::new(),
                knows: BTreeMap::new(),
                pushed: BTreeMap::new(),
            }
        };
        let people = (0..PEOPLE).map(person).collect();
        node.weather(Weather { busy_per_mille: rng.u16(..200), ..Weather::default() });
        store.hold();
        let logged_in = node.connections_moved;
        Self { seed, rng, store, node, people, moves: 0, logged_in }
    }

    fn request(&mut self, at: usize, request: Request) -> u64 {
        let person = &mut self.people[at];
        person.requests += 1;
        self.node.request(person.link, person.requests, request);
        person.requests
    }

    fn say(&mut self, at: usize) {
        let peer = self.people[self.rng.usize(..PEOPLE)].user;
        let person = &mut self.people[at];
        person.said += 1;
        let client_id = person.said;
        let send = v1::Send {
            chat: peer,
            client_id,
            body: format!("{at} {client_id}").into(),
            kind: 0,
            ..Default::default()
        };
        let id = self.request(at, Request::Send(send));
        self.people[at].waiting.insert(id, (peer, client_id));
    }

    fn acknowledge(&mut self, at: usize) {
        let knows = &self.people[at].knows;
        let Some((peer, seqs)) = knows.iter().nth(self.rng.usize(..PEOPLE)) else { return };
        // A hole is there while an answer to what was said itself is on its way.
        let upto = (1..).find(|seq| !seqs.contains(seq)).expect("there is an end") - 1;
        let acknowledge = v1::Acknowledge { chat: *peer, delivered_upto: upto, read_upto: upto };
        self.request(at, Request::Acknowledge(acknowledge));
    }

    fn move_one(&mut self) {
        let [one, other] = [(); 2].map(|()| self.people[self.rng.usize(..PEOPLE)].user);
        let is_log = self.rng.bool();
        let slot = if is_log { Slot::of_log(LogId::direct(one, other)) } else { Slot::of_user(one) };
        self.moves += usize::from(self.node.move_slot(slot, self.rng.u16(..5)));
    }

    fn take(&mut self, at: usize) {
        let seed = self.seed;
        let person = &mut self.people[at];
        let frames = self.node.receive(person.link).expect("no connection ends");
        for frame in frames {
            match frame.message.expect("a message") {
                Message::Sent(sent) => {
                    let (peer, client_id) = person.waiting.remove(&frame.id).expect("it was asked, once");
                    let before = person.acknowledged.entry(peer).or_default();
                    assert!(
                        before.last().is_none_or(|before| *before < client_id),
                        "seed {seed}: what one device says to one chat is in order"
                    );
                    before.push(client_id);
                    let knows = person.knows.entry(peer).or_default();
                    if !knows.contains(&sent.seq) {
                        knows.push(sent.seq);
                    }
                }
                Message::Entry(entry) => {
                    let pushed = person.pushed.entry(entry.chat).or_default();
                    assert!(*pushed < entry.seq, "seed {seed}: an entry is pushed once, and in order");
                    *pushed = entry.seq;
                    // A page brings what the device has sent itself, too.
                    let knows = person.knows.entry(entry.chat).or_default();
                    if entry.sender_device == 0 || !knows.contains(&entry.seq) {
                        knows.push(entry.seq);
                    }
                }
                Message::Refused(refused) => panic!("seed {seed}: {at} was refused: {refused:?}"),
                Message::GoAway(bye) => panic!("seed {seed}: {at} was shown out: {bye:?}"),
                _ => {}
            }
        }
    }

    fn check(&mut self) {
        let seed = self.seed;
        self.node.settle(&mut self.rng);
        assert!(self.node.has_moved(), "seed {seed}: every move ends");
        for at in 0..PEOPLE {
            self.take(at);
            assert!(self.people[at].waiting.is_empty(), "seed {seed}: every request is answered");
        }
        for person in &self.people {
            for (peer, knows) in &person.knows {
                let mut seqs = knows.clone();
                seqs.sort_unstable();
                let whole: Vec<_> = (1..=seqs.len() as u64).collect();
                assert_eq!(seqs, whole, "seed {seed}: whoever is here has all");
                let other = self.people.iter().find(|other| other.user == *peer).expect("somebody");
                let theirs = other.knows.get(&person.user).map_or(0, Vec::len);
                assert_eq!(theirs, seqs.len(), "seed {seed}: both have as much");
            }
        }
    }
}

/// One world: how many messages, moves, and connections that followed their users.
fn live(seed: u64) -> (u64, usize, u64) {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        let at = world.rng.usize(..PEOPLE);
        match world.rng.u8(..40) {
            0..6 => world.say(at),
            6..8 => world.acknowledge(at),
            8..10 => world.take(at),
            10..13 => world.move_one(),
            13 | 14 => world.node.tick(200),
            _ => drop(world.node.step(&mut world.rng)),
        }
    }
    world.check();
    let said = world.people.iter().map(|person| person.said).sum();
    (said, world.moves, world.node.connections_moved - world.logged_in)
}

#[test]
fn nobody_notices_that_a_slot_moves() {
    let one = std::env::var("TERN_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let begin = one.unwrap_or_else(|| fastrand::u64(..1 << 40));
    let (mut moves, mut said, mut followed) = (0, 0, 0);
    for seed in begin..begin + if one.is_some() { 1 } else { SEEDS } {
        println!("repeat with TERN_SEED={seed}");
        let (more_said, more_moves, more_followed) = live(seed);
        (said, moves, followed) = (said + more_said, moves + more_moves, followed + more_followed);
    }
    println!("{said} messages, {moves} moves, {followed} connections followed");
    assert!(one.is_some() || moves as u64 > 3 * SEEDS, "too few moves: {moves}");
    assert!(one.is_some() || followed > SEEDS / 2, "too few connections followed: {followed}");
}

/// `tern-sim --seed 549255 --devices 150 --devices-each 3 --groups 20 --seconds 20`: a slot was handed over before its new owner had the
/// table that says so, and when that looked at what is due it took the slot for another core's, and forgot it.
fn end_on_the_move(seed: u64) {
    let mut world = World::new(seed);
    let (one, other) = (world.people[0].user, world.people[1].user);
    let log = LogId::direct(one, other);
    let timer = v1::Timer { after_ms: 5_000 }.encode_to_vec();
    for (kind, body) in [(v1::Kind::Timer, timer), (v1::Kind::Text, b"it ends".to_vec())] {
        let person = &mut world.people[0];
        person.said += 1;
        let (chat, client_id) = (other, person.said);
        let send = v1::Send { chat, client_id, body: body.into(), kind: kind.into(), ..Default::default() };
        world.request(0, Request::Send(send));
        world.node.settle(&mut world.rng);
    }
    world.node.weather(Weather::default());
    let to = (0..2).find(|to| world.node.move_slot(Slot::of_log(log), *to)).expect("there are two cores");
    world.node.settle_without_table_of(to, &mut world.rng);
    world.node.tick(50);
    world.node.settle(&mut world.rng);
    for _ in 0..100 {
        world.node.tick(100);
        world.node.settle(&mut world.rng);
    }
    let entry = world.store.get_blocking(&keys::entry(log, 2)).expect("readable").expect("it is there");
    let entry = EntryRecord::decode(entry).expect("what was written");
    assert!(entry.erased && entry.body.is_empty(), "seed {seed}: a message has outlived its time");
}

#[test]
fn what_is_due_in_a_slot_moves_along() {
    (1..20).for_each(end_on_the_move);
}

/// Each fault that can be put into a move is found.
#[cfg(feature = "mutations")]
#[test]
fn each_fault_is_found_by_its_seeds() {
    node::find_each_fault("shard/tests/moves.rs", |seed| {
        end_on_the_move(seed);
        live(seed)
    });
}
