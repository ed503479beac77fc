//! What comes from one network is counted together, whichever cores it comes to, and whatever slots move meanwhile: no connection
//! renews it, no other network pays for it, and what is said of the wait is true.

#![allow(clippy::print_stdout, reason = "it says how a fault was found")]

#[allow(dead_code, reason = "the node serves other tests as well")]
mod node;

use std::collections::BTreeMap;

use fastrand::Rng;
use node::{Link, Node};
use tern_proto::v1::{self, Reason, client_frame::Request, server_frame::Message};
use tern_shard::admin::Provisioned;
use tern_shard::limits::Limits;
use tern_storage::memory::Memory;
use tern_storage::{SLOTS, Slot};

const CORES: u16 = 4;
const PER_MINUTE: u32 = 60;
const BURST: u32 = 96;
const START_MS: u64 = 1_000_000;

/// Where connections come from.
const BUSY: u8 = 1;
const QUIET: u8 = 2;

struct World {
    rng: Rng,
    node: Node,
    people: Vec<Provisioned>,
    links: Vec<(Link, u8)>,
    requests: u64,
    /// Requests that were taken up, by network, since the start.
    taken: BTreeMap<u8, u64>,
}

fn limits() -> Limits {
    Limits {
        address_requests_per_minute_max: PER_MINUTE,
        address_requests_burst: BURST,
        lazy_ms: 0,
        idle_timeout_ms: 86_400_000,
        ..Limits::default()
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut node = Node::start(&Memory::new(), CORES, &limits(), START_MS);
        let people = (0..6).map(|number| node.provision(&format!("+1555{number:04}"), &mut rng)).collect();
        Self { rng, node, people, links: Vec::new(), requests: 10, taken: BTreeMap::new() }
    }

    /// `Hello` and `Login` at once, as real clients may not, and as the protocol allows. Gives the link if both were taken up.
    fn come(&mut self, network: u8) -> Result<Link, u32> {
        self.node.come_from(network);
        let who = self.rng.usize(..self.people.len());
        let core = self.rng.u16(..CORES);
        let link = self.node.log_in(core, &self.people[who].access_token.clone());
        // What follows a Login goes with it to another core, and is answered there.
        self.requests += 1;
        let behind = self.requests;
        self.node.request(link, behind, Request::Ping(v1::Ping {}));
        self.node.settle(&mut self.rng);
        let frames = self.node.receive(link).unwrap_or_default();
        let mut refused_ms = None;
        for request in [1, 2, behind] {
            let answer = frames.iter().find(|frame| frame.id == request).and_then(|it| it.message.as_ref());
            match answer {
                Some(Message::Refused(refused)) if refused.reason() == Reason::RateLimited => {
                    refused_ms = refused_ms.or(Some(refused.retry_after_ms));
                }
                // Behind one that was refused, the next is out of order, and was taken up to find that out.
                Some(_) => *self.taken.entry(network).or_default() += 1,
                None => {
                    assert!(refused_ms.is_some() || !self.node.stands(link), "each is answered: {request}")
                }
            }
        }
        match refused_ms {
            Some(wait_ms) => {
                self.node.disconnect(link);
                Err(wait_ms)
            }
            None => {
                self.links.push((link, network));
                Ok(link)
            }
        }
    }

    /// So many pings at once on a connection. Gives how many were taken up, and what was said of the wait.
    fn ping(&mut self, link: Link, network: u8, times: u64) -> (u64, Option<u32>) {
        self.node.come_from(network);
        let first = self.requests + 1;
        self.requests += times;
        for request in first..=self.requests {
            self.node.request(link, request, Request::Ping(v1::Ping {}));
        }
        self.node.settle(&mut self.rng);
        let frames = self.node.receive(link).unwrap_or_default();
        let (mut taken, mut wait_ms) = (0, None);
        let mut next = first;
        for frame in frames.into_iter().filter(|frame| frame.id >= first) {
            assert_eq!(frame.id, next, "answered in order");
            next += 1;
            match frame.message {
                Some(Message::Pong(_)) => taken += 1,
                Some(Message::Refused(refused)) => {
                    assert_eq!(refused.reason(), Reason::RateLimited);
                    wait_ms = Some(refused.retry_after_ms);
                }
                other => panic!("a ping was answered by {other:?}"),
            }
        }
        assert!(next > self.requests || !self.node.stands(link), "each is answered");
        *self.taken.entry(network).or_default() += taken;
        (taken, wait_ms)
    }

    fn check(&self) {
        let given = u64::from(BURST) + (self.node.now_ms - START_MS) * u64::from(PER_MINUTE) / 60_000;
        let taken = self.taken.get(&BUSY).copied().unwrap_or_default();
        // On each core one may have gone with its Login before there was one for it.
        let owed = u64::from(CORES);
        assert!(taken <= given + owed, "{taken} requests were taken up, and the limit gives {given}");
    }

    fn step(&mut self) {
        match self.rng.u32(..10) {
            0..=2 => {
                let _ = self.come(BUSY);
            }
            3..=5 if !self.links.is_empty() => {
                let (link, network) = self.links[self.rng.usize(..self.links.len())];
                let times = self.rng.u64(1..20);
                if self.node.stands(link) && network == BUSY {
                    self.ping(link, network, times);
                }
            }
            6 if !self.links.is_empty() => {
                let (link, _) = self.links.swap_remove(self.rng.usize(..self.links.len()));
                self.node.disconnect(link);
            }
            7 => {
                let slot = Slot::new(self.rng.u16(..SLOTS)).expect("a slot");
                let to = self.rng.u16(..CORES);
                let slot = if self.rng.bool() { Slot::of_address(&address(BUSY)) } else { slot };
                self.node.move_slot(slot, to);
            }
            _ => {
                self.node.settle(&mut self.rng);
                let ms = self.rng.u64(1..3_000);
                self.node.tick(ms);
                self.node.settle(&mut self.rng);
            }
        }
    }
}

fn address(network: u8) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, network]
}

/// Lives for a while with connections that come, ask, break and come again on all cores.
fn live(seed: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..150 {
        world.step();
        world.check();
    }
    world
}

#[test]
fn a_network_is_taken_up_no_more_than_its_limit_gives_whatever_its_connections_do() {
    let seeds: Vec<u64> = match std::env::var("TERN_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => (1..60).collect(),
    };
    for seed in seeds {
        println!("TERN_SEED={seed}");
        let world = live(seed);
        assert!(world.taken[&BUSY] > 0);
    }
}

#[test]
fn what_is_there_can_be_used_on_every_core_and_the_wait_is_true() {
    let mut world = World::new(7);
    let mut links = Vec::new();
    let wait_ms = loop {
        match world.come(BUSY) {
            Ok(link) => links.push(link),
            Err(wait_ms) => break wait_ms,
        }
        assert!(links.len() < 100, "there is a limit");
    };
    // Whatever lies leased on other cores, at least half of the burst has been used.
    assert!(world.taken[&BUSY] >= u64::from(BURST) / 2, "{:?}", world.taken);
    assert!((1..=1_000).contains(&wait_ms), "one a second: {wait_ms}");
    let link = *links.iter().rev().find(|link| world.node.stands(**link)).expect("one stands");
    let mut refused = None;
    while refused.is_none() {
        (_, refused) = world.ping(link, BUSY, 8);
    }
    let wait_ms = refused.expect("it was just looked at");
    world.node.tick(u64::from(wait_ms) - 1);
    assert_eq!(world.ping(link, BUSY, 1).0, 0, "not before");
    world.node.tick(1);
    assert_eq!(world.ping(link, BUSY, 1), (1, None), "it was worth waiting");
    world.check();
}

#[test]
fn another_network_does_not_pay_for_it_and_one_that_is_not_known_is_not_counted() {
    let mut world = World::new(8);
    while world.come(BUSY).is_ok() {}
    let link = world.come(QUIET).expect("it has asked for nothing yet");
    assert_eq!(world.ping(link, QUIET, 20), (20, None));
    assert!(world.come(BUSY).is_err());
    // A balancer's connections come from nowhere.
    let mut node = Node::start(&Memory::new(), 2, &limits(), START_MS);
    let who = node.provision("+15550001", &mut world.rng);
    let link = node.log_in(0, &who.access_token);
    for request in 10..10 + u64::from(2 * BURST) {
        node.request(link, request, Request::Ping(v1::Ping {}));
        node.settle(&mut world.rng);
    }
    let refused = |frame: &v1::ServerFrame| matches!(frame.message, Some(Message::Refused(_)));
    assert!(!node.receive(link).expect("it stands").iter().any(refused));
}

#[test]
fn what_is_leased_and_not_used_is_given_back() {
    let mut world = World::new(9);
    let link = world.come(BUSY).expect("all is there");
    world.node.disconnect(link);
    for _ in 0..200 {
        world.node.tick(1_000);
        world.node.settle(&mut world.rng);
    }
    let mut taken = 0;
    let link = world.come(BUSY).expect("all is there again");
    loop {
        let (more, refused) = world.ping(link, BUSY, 8);
        taken += more;
        if refused.is_some() {
            break;
        }
    }
    // All that came to one core: nothing of the burst lies anywhere else. Three were taken up as it came.
    assert!(taken + 3 >= u64::from(BURST) - 3, "{taken}");
}

/// The owner of a network is gone with what it was asked: a limit is no reason to be away.
#[test]
fn without_a_word_of_the_owner_requests_are_taken_up_in_the_end() {
    let mut world = World::new(10);
    let owner = world.node.owner(Slot::of_address(&address(BUSY)));
    let core = (owner + 1) % CORES;
    world.node.come_from(BUSY);
    let link = world.node.connect(core);
    let hello = v1::Hello { version_min: 1, version_max: 1, ..v1::Hello::default() };
    world.node.request(link, 1, Request::Hello(hello));
    assert!(world.node.receive(link).expect("it stands").is_empty(), "it waits for the owner's word");
    for _ in 0..11 {
        world.node.tick(100);
    }
    let frames = world.node.receive(link).expect("it stands");
    assert!(matches!(frames[..], [v1::ServerFrame { message: Some(Message::Welcome(_)), .. }]), "{frames:?}");
}

#[cfg(feature = "mutations")]
#[test]
fn each_fault_of_the_brain_is_found_by_its_seeds() {
    node::find_each_fault("shard/tests/address_limits.rs", live);
}
