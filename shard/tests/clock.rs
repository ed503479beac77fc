//! A clock that was wrong and is set right: what was done at the wrong time counts as done now.

#![allow(clippy::print_stdout, reason = "it says how a fault was found")]

#[allow(dead_code, reason = "the node serves other tests as well")]
mod node;

use fastrand::Rng;
use node::{Link, Node};
use prost::Message as _;
use tern_proto::v1::{self, client_frame::Request, server_frame::Message};
use tern_shard::limits::Limits;
use tern_storage::faults::Faults;
use tern_storage::memory::Memory;
use tern_storage::records::EntryRecord;
use tern_storage::{Engine as _, LogId, StoreError, keys};
use tern_wire::ids::PRIVATE;

const TRUE_MS: u64 = 1_700_000_000_000;
const DAYS_60_MS: u64 = 60 * 24 * 3_600_000;

fn connect(node: &mut Node, token: &str, rng: &mut Rng) -> Link {
    let link = node.connect(0);
    let hello = v1::Hello { version_min: 1, version_max: 1, ..v1::Hello::default() };
    let login = v1::Login { access_token: token.to_owned() };
    for (id, request) in (1..).zip([Request::Hello(hello), Request::Login(login)]) {
        node.request(link, id, request);
        node.settle(rng);
    }
    link
}

fn send(node: &mut Node, link: Link, chat: u64, client_id: u64, kind: v1::Kind, body: Vec<u8>) {
    let (body, kind) = (body.into(), kind.into());
    let send = v1::Send { chat, client_id, body, kind, ..Default::default() };
    node.request(link, 100 + client_id, Request::Send(send));
}

/// The time of a message that is sent now.
fn sent_at(node: &mut Node, link: Link, peer: u64, client_id: u64, rng: &mut Rng) -> u64 {
    send(node, link, peer, client_id, v1::Kind::Text, b"hello".to_vec());
    node.settle(rng);
    let time = |frame: v1::ServerFrame| match frame.message {
        Some(Message::Sent(sent)) => Some(sent.time_ms),
        _ => None,
    };
    node.receive(link).expect("it stands").into_iter().find_map(time).expect("it was sent")
}

#[test]
fn times_are_true_again_once_the_clock_is() {
    let mut rng = Rng::with_seed(1);
    let store = Memory::faulty(Faults::default());
    // It was started with a clock that is 60 days ahead.
    let mut node = Node::start(&store, 1, &Limits::default(), TRUE_MS + DAYS_60_MS);
    let [ann, bob] = ["+15550001", "+15550002"].map(|phone| node.provision(phone, &mut rng));
    let link = connect(&mut node, &ann.access_token, &mut rng);
    let peer = bob.user.get();
    assert_eq!(sent_at(&mut node, link, peer, 1, &mut rng), TRUE_MS + DAYS_60_MS);
    // A short step back: times wait for the clock, and never fall.
    node.now_ms -= 30_000;
    assert_eq!(sent_at(&mut node, link, peer, 2, &mut rng), TRUE_MS + DAYS_60_MS);
    // It is set right.
    node.now_ms = TRUE_MS;
    assert_eq!(sent_at(&mut node, link, peer, 3, &mut rng), TRUE_MS);
    // By then what was counted on the wrong day is written, which nobody waits for.
    node.now_ms = TRUE_MS + 500;
    assert_eq!(sent_at(&mut node, link, peer, 4, &mut rng), TRUE_MS + 500);
}

#[test]
fn a_connection_of_a_wrong_time_has_no_more_time_for_it() {
    let mut rng = Rng::with_seed(2);
    let store = Memory::faulty(Faults::default());
    let limits = Limits::default();
    let mut node = Node::start(&store, 1, &limits, TRUE_MS + DAYS_60_MS);
    let silent = node.connect(0);
    node.now_ms = TRUE_MS;
    // Ten ticks see every connection once, and time passes.
    for _ in 0..limits.login_timeout_ms / 100 + 20 {
        node.tick(100);
        node.settle(&mut rng);
    }
    let frames = node.receive(silent);
    let told = frames
        .is_none_or(|frames| frames.iter().any(|frame| matches!(frame.message, Some(Message::GoAway(_)))));
    assert!(told, "no Login came in time, by the true clock");
}

/// Its device may have gone without a word: of two connections the one stays that was opened later, whatever the clock said then.
#[test]
fn a_connection_of_a_wrong_time_does_not_keep_its_device_out() {
    let mut rng = Rng::with_seed(3);
    let store = Memory::faulty(Faults::default());
    let mut node = Node::start(&store, 1, &Limits::default(), TRUE_MS + DAYS_60_MS);
    let ann = node.provision("+15550001", &mut rng);
    let silent = connect(&mut node, &ann.access_token, &mut rng);
    node.now_ms = TRUE_MS;
    let link = connect(&mut node, &ann.access_token, &mut rng);
    let has = |frames: Option<Vec<v1::ServerFrame>>, wanted: fn(&Message) -> bool| {
        frames.is_some_and(|frames| frames.iter().filter_map(|frame| frame.message.as_ref()).any(wanted))
    };
    assert!(
        has(node.receive(link), |message| matches!(message, Message::LoggedIn(_))),
        "it is the newer one"
    );
    assert!(has(node.receive(silent), |message| matches!(message, Message::GoAway(_))), "the older one ends");
}

/// `tern-sim --fdb --seed 2598`: by a clock that was an hour ahead a message was over, and could not be erased just then. It was to be looked at
/// again half a second later, by that clock.
#[test]
fn what_could_not_be_done_by_a_wrong_clock_is_done_by_the_right_one() {
    let mut rng = Rng::with_seed(4);
    let store = Memory::new();
    let limits = Limits { batch_bytes_max: 10_000, ..Limits::default() };
    let mut node = Node::start(&store, 1, &limits, TRUE_MS);
    let [ann, bob, carl] =
        ["+15550001", "+15550002", "+15550003"].map(|phone| node.provision(phone, &mut rng));
    let link = connect(&mut node, &ann.access_token, &mut rng);
    let log = LogId::direct(ann.user.get(), bob.user.get());
    let timer = v1::Timer { after_ms: 5_000 }.encode_to_vec();
    for (client_id, kind, body) in [(1, v1::Kind::Timer, timer), (2, v1::Kind::Text, b"it ends".to_vec())] {
        send(&mut node, link, bob.user.get(), client_id, kind, body);
        node.settle(&mut rng);
    }
    // The store takes no more for now.
    store.hold();
    for client_id in 3..100 {
        send(&mut node, link, carl.user.get(), client_id, v1::Kind::Text, vec![b'x'; 1_000]);
        node.settle_without_store(&mut rng);
    }
    node.now_ms += 3_600_000;
    for _ in 0..3 {
        node.tick(100);
        node.settle_without_store(&mut rng);
    }
    node.now_ms = TRUE_MS + 500;
    node.settle(&mut rng);
    for _ in 0..100 {
        node.tick(100);
        node.settle(&mut rng);
    }
    let entry = store.get_blocking(&keys::entry(log, 2)).expect("readable").expect("it is there");
    let entry = EntryRecord::decode(entry).expect("what was written");
    assert!(entry.erased && entry.body.is_empty(), "a message has outlived its time");
}

/// `tern-sim --fdb --seed 2598 --seconds 55` without half the faults, before what could not be done was looked at again by the right clock: by
/// a clock that was ahead the time of a scheduled message had come, and the store did not take it just then. When to try again stood in
/// its row, by that clock.
#[test]
fn what_was_put_off_by_a_wrong_clock_is_sent_by_the_right_one() {
    let mut rng = Rng::with_seed(5);
    let store = Memory::new();
    let mut node = Node::start(&store, 1, &Limits::default(), TRUE_MS);
    let [ann, bob] = ["+15550001", "+15550002"].map(|phone| node.provision(phone, &mut rng));
    let link = connect(&mut node, &ann.access_token, &mut rng);
    let log = LogId::direct(ann.user.get(), bob.user.get());
    let message = v1::Send { chat: bob.user.get(), body: "later".into(), ..Default::default() };
    let scheduled = v1::Scheduled { at_ms: TRUE_MS + 5_000, send: Some(message) };
    let private = v1::Private { what: Some(v1::private::What::Scheduled(scheduled)) };
    send(&mut node, link, PRIVATE, 1, v1::Kind::Private, private.encode_to_vec());
    node.settle(&mut rng);
    node.now_ms += 3_600_000;
    store.fail_next(StoreError::Full);
    for _ in 0..20 {
        node.tick(100);
        node.settle(&mut rng);
    }
    let is_there = || store.get_blocking(&keys::entry(log, 1)).expect("readable").is_some();
    assert!(!is_there(), "it was refused for some seconds");
    node.now_ms = TRUE_MS + 6_000;
    for _ in 0..20 {
        node.tick(100);
        node.settle(&mut rng);
    }
    assert!(is_there(), "it waits for the wrong clock");
    assert!(store.get_blocking(&keys::entry(log, 2)).expect("readable").is_none(), "and is sent once");
}

/// Each fault that can be put into the brain is found.
#[cfg(feature = "mutations")]
#[test]
fn each_fault_is_found() {
    use tern_shard::mutations::hunt;
    use tern_storage::mutations::panic_of;
    // Nothing here is left to a seed.
    let finds = |_| {
        panic_of(|| {
            what_could_not_be_done_by_a_wrong_clock_is_done_by_the_right_one();
            what_was_put_off_by_a_wrong_clock_is_sent_by_the_right_one();
        })
    };
    for found in hunt("shard/tests/clock.rs", finds) {
        println!("{found}");
    }
}
