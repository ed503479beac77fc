//! What happens to a log while writes of it are under way: step by step, with a store that does one thing at a time.

#![allow(clippy::print_stdout, reason = "it says how a fault was found")]

#[allow(dead_code, reason = "the node serves other tests as well")]
mod node;

use fastrand::Rng;
use node::{Link, Node};
use prost::Message as _;
use tern_proto::v1::{self, Reason, client_frame::Request, server_frame::Message};
use tern_shard::admin::Provisioned;
use tern_shard::limits::Limits;
use tern_shard::message::{self, LogOp, Unreadable};
use tern_storage::faults::Faults;
use tern_storage::memory::Memory;
use tern_storage::{LogId, StoreError};

struct World {
    rng: Rng,
    store: Memory,
    node: Node,
    ann: Provisioned,
    bob: Provisioned,
    link: Link,
}

/// Ann has said one thing to Bob. From here on the store waits to be stepped.
fn one_said() -> World {
    let mut rng = Rng::with_seed(3);
    let store = Memory::faulty(Faults::default());
    let mut node = Node::start(&store, 1, &Limits::default(), 1_000_000);
    let [ann, bob] = ["+15550001", "+15550002"].map(|phone| node.provision(phone, &mut rng));
    let link = node.log_in(0, &ann.access_token);
    node.settle(&mut rng);
    let mut world = World { rng, store, node, ann, bob, link };
    world.say(1);
    world.node.settle(&mut world.rng);
    assert_eq!(world.answers(), [(1, Ok(1))]);
    world.store.hold();
    world
}

impl World {
    fn say(&mut self, number: u64) {
        let body = format!("said {number}").into();
        let send =
            v1::Send { chat: self.bob.user.get(), client_id: number, body, kind: 0, ..Default::default() };
        self.node.request(self.link, 100 + number, Request::Send(send));
        self.node.end_turns();
    }

    /// The answers to what was said, by its number: its seq, or why not.
    fn answers(&mut self) -> Vec<(u64, Result<u64, Reason>)> {
        let frames = self.node.receive(self.link).unwrap_or_default();
        let answer = |frame: v1::ServerFrame| match frame.message.expect("a message") {
            Message::Sent(sent) => Some((frame.id - 100, Ok(sent.seq))),
            Message::Refused(refused) => Some((frame.id - 100, Err(refused.reason()))),
            Message::GoAway(bye) => Some((0, Err(bye.reason()))),
            _ => None,
        };
        frames.into_iter().filter_map(answer).collect()
    }
}

#[test]
fn a_log_that_comes_into_doubt_is_not_read_again_before_its_writes_have_ended() {
    let mut world = one_said();
    world.say(2);
    // Bob's account can't be read just now, and the log is of no use before that is over.
    let log = LogId::direct(world.ann.user.get(), world.bob.user.get());
    world.node.tell(0, message::Message::Log(log, LogOp::Unreadable(world.bob.user, Unreadable::ForNow)));
    // Read now, the log would end with 1, and this become another 2.
    world.say(3);
    world.node.hear();
    world.node.end_turns();
    world.node.hear();
    assert_eq!(world.answers(), []);
    world.node.settle(&mut world.rng);
    assert_eq!(world.answers(), [(2, Ok(2)), (3, Ok(3))]);
    world.say(2);
    world.node.settle(&mut world.rng);
    assert_eq!(world.answers(), [(2, Ok(2))], "a retry finds what was acknowledged");
}

#[test]
fn a_batch_that_was_refused_is_told_once_and_all_after_it_are_told_again() {
    let mut world = one_said();
    world.store.fail_next(StoreError::Full);
    (2..6).for_each(|number| world.say(number));
    world.node.settle(&mut world.rng);
    let full = |number| (number, Err(Reason::StorageFull));
    assert_eq!(world.answers(), [full(2), full(3), full(4), full(5)]);
    (2..6).for_each(|number| world.say(number));
    world.node.settle(&mut world.rng);
    assert_eq!(world.answers(), [(2, Ok(2)), (3, Ok(3)), (4, Ok(4)), (5, Ok(5))]);
    assert_eq!(
        world.node.told_operators(),
        (vec![StoreError::Full], vec![4]),
        "once as it begins, once as it ends"
    );
}

#[test]
fn a_write_of_unknown_result_ends_the_connection_and_is_never_refused() {
    let mut world = one_said();
    world.store.fail_next(StoreError::Failed { reason: "an fsync".to_owned() });
    (2..5).for_each(|number| world.say(number));
    world.node.settle(&mut world.rng);
    assert_eq!(world.answers(), [(0, Err(Reason::Unavailable))]);
    assert_eq!(world.node.receive(world.link), None, "the connection has ended");
}

/// A device that lost what it knew says again what it had said: it did not know to ask how far Bob is, and is told with the answer.
/// While a timer is on its way into the store nobody is told that, and the answer waits.
#[test]
fn a_retry_beside_a_change_is_answered_behind_it_with_how_far_the_other_is() {
    let mut world = one_said();
    let bob = world.node.log_in(0, &world.bob.access_token);
    let acknowledge = v1::Acknowledge { chat: world.ann.user.get(), delivered_upto: 1, read_upto: 1 };
    world.node.request(bob, 3, Request::Resume(v1::Resume::default()));
    world.node.settle(&mut world.rng);
    world.node.request(bob, 4, Request::Acknowledge(acknowledge));
    world.node.settle(&mut world.rng);
    world.link = world.node.log_in(0, &world.ann.access_token);
    world.node.request(world.link, 3, Request::Resume(v1::Resume::default()));
    world.node.settle(&mut world.rng);
    world.answers();
    let body = v1::Timer { after_ms: 60_000 }.encode_to_vec().into();
    let kind = v1::Kind::Timer.into();
    let timer = v1::Send { chat: world.ann.user.get(), client_id: 1, body, kind, ..Default::default() };
    world.node.request(bob, 5, Request::Send(timer));
    world.node.end_turns();
    world.node.hear();
    world.say(1);
    world.node.hear();
    world.node.end_turns();
    world.node.hear();
    assert_eq!(world.answers(), []);
    world.node.settle(&mut world.rng);
    let frames = world.node.receive(world.link).unwrap_or_default();
    let told: Vec<_> = frames.into_iter().filter_map(|frame| frame.message).collect();
    let receipt = |message: &Message| matches!(message, Message::Receipt(receipt) if (receipt.delivered_upto, receipt.read_upto) == (1, 1));
    assert!(told.iter().any(receipt), "{told:?}");
    assert!(told.iter().any(|message| matches!(message, Message::Sent(sent) if sent.seq == 1)), "{told:?}");
}

/// Each fault that can be put into the brain, and is of what is under way, is found.
#[cfg(feature = "mutations")]
#[test]
fn each_fault_is_found() {
    use tern_shard::mutations::hunt;
    use tern_storage::mutations::panic_of;
    // Nothing here is left to a seed.
    let finds = |_| {
        panic_of(|| {
            a_log_that_comes_into_doubt_is_not_read_again_before_its_writes_have_ended();
            a_write_of_unknown_result_ends_the_connection_and_is_never_refused();
            a_retry_beside_a_change_is_answered_behind_it_with_how_far_the_other_is();
        })
    };
    for found in hunt("shard/tests/in_flight.rs", finds) {
        println!("{found}");
    }
}
