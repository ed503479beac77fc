//! Accounts in the brain, in one thread: records that do not decode, and what a code is good for.

#![allow(clippy::print_stdout, reason = "it says how a fault was found")]

#[allow(dead_code, reason = "the node serves other tests as well")]
mod node;

use std::sync::Arc;

use fastrand::Rng;
use node::{Link, Node};
use tern_proto::v1::{self, Reason, client_frame::Request, server_frame::Message};
use tern_shard::admin::AdminResponse;
use tern_shard::limits::Limits;
use tern_storage::faults::Faults;
use tern_storage::memory::Memory;
use tern_storage::{Batch, Engine as _, Fence, Key, Wake, keys};

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// Writes over a row.
fn put(store: &Memory, key: Key, value: &'static [u8]) {
    let mut batch = Batch::default();
    batch.put(&key, value);
    store.port(Arc::new(NoWake)).submit(batch, Fence::default()).expect("there is room");
}

/// What no record decodes from: a field of 127 bytes that has none.
const GARBAGE: &[u8] = &[0x0a, 0x7f];

fn start(store: &Memory) -> Node {
    Node::start(store, 2, &Limits::default(), 1_000_000)
}

fn ask(node: &mut Node, link: Link, request: Request, rng: &mut Rng) -> Message {
    node.request(link, 77, request);
    node.settle(rng);
    let answer = node.receive(link).expect("it stands").into_iter().find(|frame| frame.id == 77);
    answer.and_then(|frame| frame.message).expect("an answer")
}

fn welcomed(node: &mut Node, rng: &mut Rng) -> Link {
    let link = node.connect(0);
    let hello = v1::Hello { version_min: 1, version_max: 1, ..v1::Hello::default() };
    assert!(matches!(ask(node, link, Request::Hello(hello), rng), Message::Welcome(_)));
    link
}

fn login(token: &str) -> Request {
    Request::Login(v1::Login { access_token: token.to_owned() })
}

/// G3, C10: whoever registered next joined the account, or overwrote it.
#[test]
fn a_damaged_record_of_an_account_is_unavailable_and_is_not_taken_for_none() {
    let phone = "+15550001";
    let mut rng = Rng::with_seed(3);
    for table in ['p', 'u', 'd'] {
        let store = Memory::faulty(Faults::default());
        let made = start(&store).provision(phone, &mut rng);
        let (user, device) = (made.user.get(), made.device.get());
        let key = match table {
            'p' => keys::phone(&phone[1..]),
            'u' => keys::user(user),
            _ => keys::device(user, device),
        };
        put(&store, key.clone(), GARBAGE);
        let mut node = start(&store);
        let answer = node.try_provision(phone, &mut rng);
        assert!(matches!(answer, AdminResponse::Refused(_)), "{table}: {answer:?}");
        assert!(node.told_of_damage(), "{table}: the operator is told");
        let link = welcomed(&mut node, &mut rng);
        if table != 'p' {
            node.request(link, 9, login(&made.access_token));
            node.settle(&mut rng);
            let frames = node.receive(link);
            let unavailable = |frame: &v1::ServerFrame| match &frame.message {
                Some(Message::GoAway(bye)) => bye.reason() == Reason::Unavailable,
                Some(Message::Refused(refused)) => refused.reason() == Reason::Unavailable,
                _ => false,
            };
            assert!(frames.is_none_or(|frames| frames.iter().any(unavailable)), "{table}");
        }
        // The record itself is as it was, for whoever mends the store.
        let read = store.get_blocking(&key).expect("readable");
        assert_eq!(read.as_deref(), Some(GARBAGE), "{table}: nothing was written over it");
        // Others are none the worse.
        node.provision("+15550002", &mut rng);
    }
}

/// Each fault that can be put into the brain, and takes damage for something else, is found.
#[cfg(feature = "mutations")]
#[test]
fn each_fault_is_found() {
    use tern_shard::mutations::hunt;
    use tern_storage::mutations::panic_of;
    // Nothing here is left to a seed.
    let finds = |_| panic_of(a_damaged_record_of_an_account_is_unavailable_and_is_not_taken_for_none);
    for found in hunt("shard/tests/accounts.rs", finds) {
        println!("{found}");
    }
}
