//! What is written together, and what fails together: lazy writes ride with urgent ones, and a lane that fails leaves others alone.

#[allow(dead_code, reason = "the node serves other tests as well")]
mod node;

use fastrand::Rng;
use node::{LANES, Link, Node};
use tern_proto::v1::{self, Reason, client_frame::Request, server_frame::Message};
use tern_shard::admin::Provisioned;
use tern_shard::limits::Limits;
use tern_storage::memory::Memory;
use tern_storage::{Engine as _, Epoch, LogId, SLOTS, Slot};

const LAZY_MS: u64 = 20;

struct World {
    rng: Rng,
    store: Memory,
    node: Node,
    said: u64,
}

impl World {
    fn new() -> Self {
        let store = Memory::new();
        let limits = Limits { lazy_ms: LAZY_MS, ..Limits::default() };
        let node = Node::start(&store, 1, &limits, 1_000_000);
        Self { rng: Rng::with_seed(3), store, node, said: 0 }
    }

    fn person(&mut self, number: u32) -> (Provisioned, Link) {
        let person = self.node.provision(&format!("+1555{number:04}"), &mut self.rng);
        let link = self.node.log_in(0, &person.access_token);
        self.node.request(link, 3, Request::Resume(v1::Resume::default()));
        self.node.settle(&mut self.rng);
        self.node.receive(link);
        (person, link)
    }

    fn say(&mut self, from: Link, to: &Provisioned) -> u64 {
        self.said += 1;
        let (peer, client_id) = (to.user.get(), self.said);
        let send =
            v1::Send { chat: peer, client_id, body: "something".into(), kind: 0, ..Default::default() };
        self.node.request(from, 100 + client_id, Request::Send(send));
        client_id
    }

    /// The turn ends, and the store does what it was given. No time passes.
    fn turn(&mut self) {
        self.node.end_turns();
        while self.store.step() {}
        self.node.hear();
    }

    fn come(&mut self, link: Link) -> Vec<Message> {
        let frames = self.node.receive(link).expect("it stands");
        frames.into_iter().filter_map(|frame| frame.message).collect()
    }
}

fn acknowledge(peer: &Provisioned, upto: u64) -> Request {
    Request::Acknowledge(v1::Acknowledge { chat: peer.user.get(), delivered_upto: upto, read_upto: upto })
}

#[test]
fn what_nobody_waits_for_leaves_with_what_somebody_does_or_when_its_time_is_over() {
    let mut world = World::new();
    let ((ann, of_ann), (bob, of_bob)) = (world.person(1), world.person(2));
    world.say(of_ann, &bob);
    world.node.settle(&mut world.rng);
    world.come(of_ann);
    world.come(of_bob);

    world.node.request(of_bob, 7, acknowledge(&ann, 1));
    world.turn();
    assert_eq!(world.come(of_bob), [], "nothing urgent is written");
    world.say(of_ann, &bob);
    world.turn();
    assert!(world.come(of_bob).contains(&Message::Acknowledged(v1::Acknowledged {})));
    let receipt = |message: &Message| matches!(message, Message::Receipt(receipt) if receipt.read_upto == 1);
    assert!(world.come(of_ann).iter().any(receipt));

    world.node.request(of_bob, 8, acknowledge(&ann, 2));
    world.turn();
    world.node.now_ms += LAZY_MS - 1;
    world.turn();
    assert_eq!(world.come(of_bob), []);
    world.node.now_ms += 1;
    world.turn();
    assert!(world.come(of_bob).contains(&Message::Acknowledged(v1::Acknowledged {})));
}

/// `tern-sim --seed 2415 --devices 10 --seconds 15`: nothing was written in a quiet chat for as long as the clock was set back by, and
/// devices that waited for the answer to an `Acknowledge` ended their connections again and again.
#[test]
fn what_nobody_waits_for_does_not_wait_for_a_clock_that_was_set_back() {
    let mut world = World::new();
    let ((ann, of_ann), (bob, of_bob)) = (world.person(1), world.person(2));
    world.say(of_ann, &bob);
    world.node.settle(&mut world.rng);
    world.come(of_bob);
    world.node.request(of_bob, 7, acknowledge(&ann, 1));
    world.turn();
    assert_eq!(world.come(of_bob), []);
    world.node.now_ms -= 500_000;
    world.turn();
    assert!(world.come(of_bob).contains(&Message::Acknowledged(v1::Acknowledged {})));
}

/// Two people with whose chats with somebody lie in different lanes.
fn in_two_lanes(world: &mut World, ann: &Provisioned) -> [Provisioned; 2] {
    let lane = |slot: Slot| slot.number() * LANES / SLOTS;
    let of = |peer: &Provisioned| Slot::of_log(LogId::direct(ann.user.get(), peer.user.get()));
    let (bob, _) = world.person(2);
    let carl = (3..50).map(|number| world.person(number).0).find(|carl| lane(of(carl)) != lane(of(&bob)));
    [bob, carl.expect("one of many lies elsewhere")]
}

#[test]
fn a_slot_that_another_process_has_taken_fails_alone_with_its_lane() {
    let mut world = World::new();
    let (ann, of_ann) = world.person(1);
    let [bob, carl] = in_two_lanes(&mut world, &ann);
    for peer in [&bob, &carl] {
        world.say(of_ann, peer);
    }
    world.node.settle(&mut world.rng);
    world.come(of_ann);
    let taken = Slot::of_log(LogId::direct(ann.user.get(), bob.user.get()));
    world.store.raise_epoch(taken, Epoch(1)).expect("the store takes it");
    world.store.hold();
    let fenced: Vec<u64> = (0..2).map(|_| (world.say(of_ann, &bob), world.node.end_turns()).0).collect();
    let taken_on: Vec<u64> = (0..2).map(|_| (world.say(of_ann, &carl), world.node.end_turns()).0).collect();
    world.node.settle(&mut world.rng);
    let frames = world.node.receive(of_ann).expect("it stands");
    let answer = |id: u64| {
        let mut answers = frames.iter().filter(|frame| frame.id == 100 + id);
        match answers.next().and_then(|frame| frame.message.clone()) {
            Some(Message::Sent(sent)) => Ok(sent.seq),
            Some(Message::Refused(refused)) => Err(refused.reason()),
            other => panic!("no answer: {other:?}"),
        }
    };
    assert_eq!(fenced.iter().map(|id| answer(*id)).collect::<Vec<_>>(), [Err(Reason::Unavailable); 2]);
    assert_eq!(taken_on.iter().map(|id| answer(*id)).collect::<Vec<_>>(), [Ok(2), Ok(3)]);
}
