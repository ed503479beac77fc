//! That a device which lacks something has a mark in its inbox, whatever is in memory of it: else it is not told when it comes back.

#![allow(clippy::print_stdout, reason = "it says how a fault was found")]

#[allow(dead_code, reason = "the node serves other tests as well")]
mod node;

use fastrand::Rng;
use node::{Link, Node};
use tern_proto::v1::{self, client_frame::Request, server_frame::Message};
use tern_shard::admin::Provisioned;
use tern_shard::limits::Limits;
use tern_storage::StoreError;
use tern_storage::memory::Memory;

const QUIET_MS: u64 = 1_000;

struct World {
    rng: Rng,
    store: Memory,
    node: Node,
    now_ms: u64,
    limits: Limits,
}

impl World {
    fn new() -> Self {
        let store = Memory::new();
        let now_ms = 1_000_000;
        let (limits, rng) = (limits(), Rng::with_seed(3));
        Self { rng, node: Node::start(&store, 1, &limits, now_ms), store, now_ms, limits }
    }

    fn provision(&mut self, phone: &str) -> Provisioned {
        self.node.provision(phone, &mut self.rng)
    }

    /// The process ends, and another one is started.
    fn restart(&mut self) {
        self.node = Node::start(&self.store, 1, &self.limits, self.now_ms);
    }

    /// A device comes, which has so much of the chat with a peer.
    fn come(&mut self, who: &Provisioned, has: Option<(&Provisioned, u64)>) -> Link {
        let link = self.node.log_in(0, &who.access_token);
        let position = |(peer, upto): (&Provisioned, u64)| v1::Position {
            chat: peer.user.get(),
            upto,
            ..v1::Position::default()
        };
        let positions = has.map(position).into_iter().collect();
        self.node.request(link, 3, Request::Resume(v1::Resume { positions, ..v1::Resume::default() }));
        self.node.settle(&mut self.rng);
        link
    }

    fn say(&mut self, from: Link, to: &Provisioned, client_id: u64) {
        let send = v1::Send {
            chat: to.user.get(),
            client_id,
            body: "something".into(),
            kind: 0,
            ..Default::default()
        };
        self.node.request(from, 100 + client_id, Request::Send(send));
        self.node.settle(&mut self.rng);
    }

    fn acknowledge(&mut self, from: Link, peer: &Provisioned, upto: u64) {
        let acknowledge = v1::Acknowledge { chat: peer.user.get(), delivered_upto: upto, read_upto: upto };
        self.node.request(from, 7, Request::Acknowledge(acknowledge));
        self.node.settle(&mut self.rng);
    }

    fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        self.node.tick(ms);
        self.node.settle(&mut self.rng);
    }

    /// The seqs of the entries that a device was pushed.
    fn pushed(&mut self, link: Link) -> Vec<u64> {
        let frames = self.node.receive(link).expect("it stands");
        let seq = |frame: v1::ServerFrame| match frame.message {
            Some(Message::Entry(entry)) => Some(entry.seq),
            _ => None,
        };
        frames.into_iter().filter_map(seq).collect()
    }
}

fn limits() -> Limits {
    Limits { mark_quiet_ms: QUIET_MS, logs_cached_max: 0, lazy_ms: 0, ..Limits::default() }
}

/// `tern-sim --seed 10436 --devices 10 --seconds 15`: the device is thought to have a mark because its inbox in memory says so, which holds
/// what it was pushed until it acknowledges. Its own message is not acknowledged, and after the log has left the memory it lacks that.
#[test]
fn what_is_in_memory_of_an_inbox_is_not_taken_for_a_mark() {
    let mut world = World::new();
    let [ann, bob] = ["+15550001", "+15550002"].map(|phone| world.provision(phone));
    let (of_ann, of_bob) = (world.come(&ann, None), world.come(&bob, None));
    world.say(of_ann, &bob, 1);
    world.acknowledge(of_bob, &ann, 1);
    world.say(of_bob, &ann, 2);
    world.acknowledge(of_bob, &ann, 2);

    world.restart();
    let (of_ann, of_bob) = (world.come(&ann, Some((&bob, 2))), world.come(&bob, Some((&ann, 2))));
    world.say(of_bob, &ann, 3);
    // The mark is cleared, and the log leaves the memory.
    (0..4).for_each(|_| world.wait(QUIET_MS));
    assert_eq!(world.node.logs(), 0);

    world.node.disconnect(of_bob);
    world.come(&bob, Some((&ann, 2)));
    world.say(of_ann, &bob, 4);
    world.restart();
    let of_bob = world.come(&bob, None);
    assert_eq!(world.pushed(of_bob), [3, 4], "what it was pushed and has not acknowledged is pushed again");
}

/// `tern-sim --seed 536854 --devices 150 --devices-each 3 --groups 20 --seconds 20`: a store that takes nothing is still read, so a new
/// device gets what it lacks without a mark. If it then is no longer new, nothing tells what it has not acknowledged.
#[test]
fn a_new_device_that_was_pushed_something_without_a_mark_stays_new() {
    let mut world = World::new();
    let [ann, bob] = ["+15550001", "+15550002"].map(|phone| world.provision(phone));
    let of_bob = world.come(&bob, None);
    world.say(of_bob, &ann, 1);
    // The log is not in memory, or it would have marked the device as soon as that was made.
    world.restart();
    let second = world.provision("+15550001");
    world.store.fail_next(StoreError::Full);
    let link = world.come(&second, None);
    assert_eq!(world.pushed(link), [1], "a store that takes nothing is still read");
    world.restart();
    let link = world.come(&second, None);
    assert_eq!(world.pushed(link), [1], "what it has not acknowledged is pushed again");
}

/// `tern-sim --seed 800590 --devices 150 --devices-each 3 --groups 20 --seconds 20`: logs heard that a device has ended, and the store had no
/// room for its end. So it had not, and lacked what was written meanwhile without a mark.
#[test]
fn a_device_whose_end_was_undone_is_told_of_what_was_written_meanwhile() {
    let mut world = World::new();
    let [ann, bob, second] = ["+15550001", "+15550002", "+15550002"].map(|phone| world.provision(phone));
    let (of_ann, of_bob) = (world.come(&ann, None), world.come(&bob, None));
    let of_second = world.come(&second, None);
    // It has caught up, and is new no more.
    world.wait(QUIET_MS);
    world.node.disconnect(of_second);
    world.node.settle(&mut world.rng);
    world.store.hold();
    world.store.fail_next(StoreError::Full);
    let end = v1::EndDevice { device_id: second.device.get() };
    world.node.request(of_bob, 5, Request::EndDevice(end));
    world.node.settle_without_store(&mut world.rng);
    let send = v1::Send {
        chat: bob.user.get(),
        client_id: 1,
        body: "something".into(),
        kind: 0,
        ..Default::default()
    };
    world.node.request(of_ann, 101, Request::Send(send.clone()));
    world.node.settle_without_store(&mut world.rng);
    // If it comes now it is not told that it has ended: nobody knows yet.
    let early = world.node.log_in(0, &second.access_token);
    world.node.settle(&mut world.rng);
    let frames = world.node.receive(early).unwrap_or_default();
    let is_end = |frame: &v1::ServerFrame| match &frame.message {
        Some(Message::GoAway(bye)) => bye.reason() == v1::Reason::SessionRevoked,
        Some(Message::Refused(refused)) => refused.reason() == v1::Reason::SessionRevoked,
        _ => false,
    };
    assert!(!frames.iter().any(is_end), "{frames:?}");
    world.node.request(of_ann, 102, Request::Send(send));
    world.node.settle(&mut world.rng);
    world.restart();
    let of_second = world.come(&second, None);
    assert_eq!(world.pushed(of_second), [1], "its end was undone");
}

/// `tern-sim --fdb --seed 10604`: by a clock that was ahead the oldest messages were too old. A device came, and was told where the chat begins
/// then; that was never durable, for the process ended. By the right clock they are there, and it did not ask for them again.
#[test]
fn where_a_log_begins_is_told_when_it_is_durable() {
    let mut world = World::new();
    world.limits.history_ms = 60_000;
    world.restart();
    let [ann, bob, second] = ["+15550001", "+15550002", "+15550002"].map(|phone| world.provision(phone));
    let (of_ann, of_bob, of_second) =
        (world.come(&ann, None), world.come(&bob, None), world.come(&second, None));
    world.wait(QUIET_MS);
    world.node.disconnect(of_second);
    for client_id in 1..4 {
        world.say(of_ann, &bob, client_id);
    }
    world.acknowledge(of_bob, &ann, 3);
    let true_ms = world.now_ms;
    world.store.hold();
    for _ in 0..20 {
        world.now_ms += 10_000;
        world.node.tick(10_000);
        world.node.settle_without_store(&mut world.rng);
    }
    let early = world.node.log_in(0, &second.access_token);
    world.node.request(early, 3, Request::Resume(v1::Resume::default()));
    world.node.settle_without_store(&mut world.rng);
    assert_eq!(world.pushed(early), [], "what is not durable is not told");
    world.now_ms = true_ms;
    world.store = world.store.crash(0);
    world.restart();
    let of_second = world.come(&second, None);
    assert_eq!(world.pushed(of_second), [1, 2, 3]);
    // In its time they go, and whoever comes then is told so.
    for _ in 0..20 {
        world.wait(10_000);
    }
    let late = world.come(&second, None);
    assert_eq!(world.pushed(late), [3]);
}

/// `tern-sim --fdb --seed 4454`: a device that was new caught up while an entry, and its mark of it, were on their way into the store. That it
/// was new no more was durable before they were, for cores commit beside each other, and the process ended: nothing told what it lacked.
#[test]
fn a_new_device_catches_up_when_what_was_written_before_is_durable() {
    let mut world = World::new();
    let [ann, bob, second] = ["+15550001", "+15550002", "+15550002"].map(|phone| world.provision(phone));
    let of_ann = world.come(&ann, None);
    world.say(of_ann, &bob, 1);
    let of_second = world.node.log_in(0, &second.access_token);
    world.node.settle(&mut world.rng);
    world.store.hold();
    let body = "something".into();
    let send = v1::Send { chat: bob.user.get(), client_id: 2, body, ..v1::Send::default() };
    world.node.request(of_ann, 102, Request::Send(send));
    world.node.settle_without_store(&mut world.rng);
    world.node.request(of_second, 3, Request::Resume(v1::Resume::default()));
    world.node.settle_without_store(&mut world.rng);
    let frames = world.node.receive(of_second).expect("it stands");
    let has_caught_up = |frame: &v1::ServerFrame| matches!(frame.message, Some(Message::CaughtUp(_)));
    assert!(!frames.iter().any(has_caught_up), "its marks are not durable: {frames:?}");
    world.node.settle(&mut world.rng);
    assert_eq!(world.pushed(of_second), [1, 2], "then it has all");
}

/// The faults that can be put into the brain are found.
#[cfg(feature = "mutations")]
#[test]
fn each_fault_is_found() {
    use tern_shard::mutations::hunt;
    use tern_storage::mutations::panic_of;
    // Nothing here is left to a seed.
    let all = || {
        what_is_in_memory_of_an_inbox_is_not_taken_for_a_mark();
        a_new_device_that_was_pushed_something_without_a_mark_stays_new();
        a_device_whose_end_was_undone_is_told_of_what_was_written_meanwhile();
        where_a_log_begins_is_told_when_it_is_durable();
        a_new_device_catches_up_when_what_was_written_before_is_durable();
    };
    for found in hunt("shard/tests/marks.rs", |_| panic_of(all)) {
        println!("{found}");
    }
}
