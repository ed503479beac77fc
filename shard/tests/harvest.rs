//! What is done for an answer tells no more than the answer: as much is read, and as much is said between cores, for somebody who hides
//! as for one who is not there, whether or not they are in memory, and no more is in memory afterwards. server/tests/harvest.rs compares
//! what is said.

#![allow(clippy::print_stdout, reason = "it says how a fault was found")]

#[allow(dead_code, reason = "the node serves other tests as well")]
mod node;

use fastrand::Rng;
use node::{Link, Node, Traffic};
use prost::Message as _;
use tern_proto::v1::{
    self, Audience, Kind, Reason, client_frame::Request, lookup::By, private::What, server_frame::Message,
};
use tern_shard::admin::{AdminResponse, Provisioned};
use tern_shard::limits::Limits;
use tern_storage::memory::Memory;
use tern_wire::ids::{Phone, PhoneHash};

const PRIVATE: u64 = 1 << 43;

struct World {
    rng: Rng,
    store: Memory,
    node: Node,
    requests: u64,
}

/// Somebody, or nobody.
struct Target {
    what: &'static str,
    id: u64,
    phone: Phone,
}

/// What was done for an answer, and what more is in memory then: logs, and users.
#[derive(PartialEq, Debug)]
struct Done {
    answer: Message,
    traffic: Traffic,
    more: (usize, usize),
}

fn limits() -> Limits {
    Limits { users_cached_max: 0, logs_cached_max: 0, lazy_ms: 0, ..Limits::default() }
}

impl World {
    fn new(seed: u64, cores: u16) -> Self {
        let store = Memory::new();
        let node = Node::start(&store, cores, &limits(), 1_000_000);
        Self { rng: Rng::with_seed(seed), store, node, requests: 10 }
    }

    /// A connection at the core of its user, where it would have moved.
    fn come(&mut self, who: &Provisioned) -> Link {
        let link = self.node.log_in(0, &who.access_token);
        self.node.request(link, 3, Request::Resume(v1::Resume::default()));
        self.node.settle(&mut self.rng);
        self.node.receive(link);
        link
    }

    fn ask(&mut self, link: Link, request: Request) -> Message {
        self.requests += 1;
        self.node.request(link, self.requests, request);
        self.node.settle(&mut self.rng);
        let frames = self.node.receive(link).expect("it stands");
        let answer = frames.into_iter().find(|frame| frame.id == self.requests).expect("it is answered");
        answer.message.expect("it says something")
    }

    fn hide(&mut self, link: Link, found_by_phone: Audience) {
        let nobody = Audience::Nobody.into();
        let found_by_phone = found_by_phone.into();
        let privacy = v1::Privacy { groups: nobody, found_by_phone, ..v1::Privacy::default() };
        let body = v1::Private { what: Some(What::Privacy(privacy)) }.encode_to_vec().into();
        let (client_id, kind) = (self.requests, Kind::Private.into());
        let send = v1::Send { chat: PRIVATE, client_id, body, kind, ..v1::Send::default() };
        assert!(matches!(self.ask(link, Request::Send(send)), Message::Sent(_)));
    }

    fn done(&mut self, link: Link, request: Request) -> Done {
        let before = (self.node.logs(), self.node.users());
        self.node.traffic();
        let answer = self.ask(link, request);
        let more = (self.node.logs() - before.0, self.node.users() - before.1);
        Done { answer, traffic: self.node.traffic(), more }
    }
}

fn lookup(by: By) -> Request {
    Request::Lookup(v1::Lookup { by: Some(by), group: 0 })
}

fn by_phone(target: &Target) -> Vec<Request> {
    let hash = |phone: &Phone| PhoneHash::of(phone).as_bytes().to_vec().into();
    let other = Phone::parse("+16660001").expect("a phone");
    vec![
        lookup(By::Phone(target.phone.as_str().to_owned())),
        Request::Discover(v1::Discover { hashes: vec![hash(&target.phone)] }),
        Request::Discover(v1::Discover { hashes: vec![hash(&other), hash(&target.phone)] }),
        lookup(By::UserId(target.id)),
        lookup(By::Card(v1::Card { user_id: target.id, secret: vec![7; 16].into() })),
    ]
}

/// Somebody who asks, and those whom they ask for: who hide and are here or away, who have been deleted, and nobody.
fn populated(seed: u64, cores: u16) -> (World, Link, Vec<Target>) {
    let mut world = World::new(seed, cores);
    let whats = ["away", "deleted", "here", "here, and known to contacts"];
    let mut targets = Vec::new();
    let phone = |number: usize| format!("+1555{number:04}");
    for (number, what) in whats.into_iter().enumerate() {
        let who = world.node.provision(&phone(number), &mut world.rng);
        let link = world.come(&who);
        let is_for_contacts = what == "here, and known to contacts";
        if number % 2 == 0 {
            let card = world.ask(link, Request::NewCard(v1::NewCard::default()));
            assert!(matches!(card, Message::Card(_)), "{card:?}");
        }
        world.hide(link, if is_for_contacts { Audience::Contacts } else { Audience::Nobody });
        targets.push((what, who));
    }
    let deleted = world.node.delete(&phone(1), &mut world.rng);
    assert!(matches!(deleted, AdminResponse::Deleted(true)), "{deleted:?}");
    // Nothing but what they have said stays, and some of them come again.
    let now_ms = world.node.now_ms;
    world.node = Node::start(&world.store, cores, &limits(), now_ms);
    let here: Vec<_> = targets[2..].iter().map(|(_, who)| who.clone()).collect();
    for who in &here {
        world.come(who);
    }
    let asker = world.node.provision("+15559999", &mut world.rng);
    let link = world.come(&asker);
    let of = |(what, who): (&'static str, Provisioned)| Target { what, id: who.user.get(), phone: who.phone };
    let mut targets: Vec<_> = targets.into_iter().map(of).collect();
    let phone = Phone::parse("+16669999").expect("a phone");
    targets.push(Target { what: "nobody", id: targets[0].id ^ 1 << 20, phone });
    (world, link, targets)
}

fn live(seed: u64) {
    for cores in [1, 3] {
        let (mut world, link, targets) = populated(seed, cores);
        for round in 0..2 {
            let mut of_nobody: Vec<Done> = Vec::new();
            for target in targets.iter().rev() {
                for (place, request) in by_phone(target).into_iter().enumerate() {
                    let asked = format!("{request:?}");
                    let done = world.done(link, request);
                    assert_eq!(done.more, (0, 0), "nothing of it stays in memory: {asked}");
                    match of_nobody.get(place) {
                        None => of_nobody.push(done),
                        Some(of_nobody) => {
                            let what = target.what;
                            assert_eq!(done, *of_nobody, "seed {seed}, {what}, round {round}: {asked}");
                        }
                    }
                }
            }
            // It is not that nothing is done at all.
            let reads = |done: &Done| done.traffic.reads.values().sum::<u64>();
            assert_eq!(of_nobody.iter().map(reads).collect::<Vec<_>>(), [4, 4, 8, 1, 1]);
        }
    }
}

#[test]
fn as_much_is_done_for_whoever_hides_as_for_nobody_wherever_they_are() {
    (1..20).for_each(live);
}

/// What a group asks those who are to come into it.
#[test]
fn as_much_is_read_for_whoever_lets_nobody_take_them_into_groups_as_for_nobody() {
    for seed in 1..20 {
        let (mut world, link, targets) = populated(seed, 1);
        let mut take = |target: &Target| {
            let (members, client_id) = (vec![target.id], 1_000_000 + target.id);
            let group = v1::GroupMade { name: "harvest".to_owned(), members, ..v1::GroupMade::default() };
            let create = v1::CreateGroup { client_id, group: Some(group) };
            let done = world.done(link, Request::CreateGroup(create));
            let Message::Refused(refused) = &done.answer else { panic!("{done:?}") };
            assert_eq!(refused.reason(), Reason::NotAllowed);
            (done.answer, done.traffic)
        };
        let of_nobody = take(targets.last().expect("nobody"));
        for what in ["away", "deleted"] {
            let target = targets.iter().find(|target| target.what == what).expect("they are there");
            assert_eq!(take(target), of_nobody, "seed {seed}, {what}");
        }
    }
}

#[cfg(feature = "mutations")]
#[test]
fn each_fault_is_found() {
    node::find_each_fault("shard/tests/harvest.rs", live);
}
