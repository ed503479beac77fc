//! What waits in a brain is bounded: a store that takes nothing makes it refuse, and not grow.

#[allow(dead_code, reason = "the node serves other tests as well")]
mod node;

use std::collections::BTreeMap;

use fastrand::Rng;
use node::{Link, Node, Weather};
use tern_proto::v1::{self, Reason, client_frame::Request, server_frame::Message};
use tern_shard::admin::Provisioned;
use tern_shard::limits::{BATCH_ANSWERS_MAX, Limits, READS_WAITING_MAX};
use tern_storage::faults::Faults;
use tern_storage::memory::Memory;

struct World {
    rng: Rng,
    node: Node,
    ann: Provisioned,
    link: Link,
}

/// One person on one core, with a window for any number of requests.
fn world() -> World {
    let mut rng = Rng::with_seed(1);
    let store = Memory::faulty(Faults::default());
    let limits = Limits {
        requests_in_flight_max: u32::MAX,
        request_bytes_in_flight_max: u32::MAX,
        ..Limits::default()
    };
    let mut node = Node::start(&store, 1, &limits, 1_000_000);
    let ann = node.provision("+15550001", &mut rng);
    let link = node.connect(0);
    let hello = v1::Hello { version_min: 1, version_max: 1, ..v1::Hello::default() };
    node.request(link, 1, Request::Hello(hello));
    node.request(link, 2, Request::Login(v1::Login { access_token: ann.access_token.clone() }));
    node.settle(&mut rng);
    node.receive(link);
    World { rng, node, ann, link }
}

impl World {
    /// What came in answer, by its kind; refusals by their reason.
    fn answers(&mut self) -> BTreeMap<String, usize> {
        let mut answers = BTreeMap::new();
        for frame in self.node.receive(self.link).expect("it stands") {
            let kind = match frame.message.expect("a message") {
                Message::Refused(refused) => format!("{:?}", refused.reason()),
                Message::HistoryPage(_) => "page".to_owned(),
                Message::Sent(_) => "sent".to_owned(),
                Message::Acknowledged(_) => "acknowledged".to_owned(),
                other => panic!("{other:?}"),
            };
            *answers.entry(kind).or_default() += 1;
        }
        answers
    }
}

#[test]
fn reads_that_find_no_room_wait_up_to_a_bound_and_are_then_refused() {
    let mut world = world();
    world.node.weather(Weather { busy_per_mille: 1000, ..Weather::default() });
    let asked = READS_WAITING_MAX;
    for number in 0..asked as u64 {
        let history = v1::History { chat: 1_000_000 + number, ..v1::History::default() };
        world.node.request(world.link, 10 + number, Request::History(history));
    }
    let refused = world.answers();
    let refused = refused[&format!("{:?}", Reason::Overloaded)];
    assert!(refused > asked / 2, "each chat takes some reads, and the bound is on all: {refused}");
    world.node.weather(Weather::default());
    world.node.settle(&mut world.rng);
    assert_eq!(
        world.answers(),
        BTreeMap::from([("page".to_owned(), asked - refused)]),
        "the others are answered"
    );
}

#[test]
fn answers_that_wait_for_a_batch_are_bounded() {
    let mut world = world();
    let own = world.ann.user.get();
    let send = v1::Send { chat: own, client_id: 1, body: "a note".into(), kind: 0, ..Default::default() };
    world.node.request(world.link, 9, Request::Send(send));
    world.node.settle(&mut world.rng);
    assert_eq!(world.answers(), BTreeMap::from([("sent".to_owned(), 1)]));
    world.node.weather(Weather { busy_per_mille: 1000, ..Weather::default() });
    let asked = BATCH_ANSWERS_MAX + 1000;
    for number in 0..asked as u64 {
        let acknowledge = v1::Acknowledge { chat: own, delivered_upto: 1, read_upto: 1 };
        world.node.request(world.link, 10 + number, Request::Acknowledge(acknowledge));
    }
    let refused = world.answers()[&format!("{:?}", Reason::Overloaded)];
    assert!((1000..1100).contains(&refused), "{refused}");
    world.node.weather(Weather::default());
    world.node.settle(&mut world.rng);
    assert_eq!(world.answers(), BTreeMap::from([("acknowledged".to_owned(), asked - refused)]));
}
