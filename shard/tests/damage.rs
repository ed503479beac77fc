//! Rows that are not what was written: a chat that has lost some is unavailable, and told once. It is never an empty one
//! that begins again, and the others go on.

#![allow(clippy::print_stdout, reason = "it says how a fault was found")]

#[allow(dead_code, reason = "the node serves other tests as well")]
mod node;

use fastrand::Rng;
use node::{Link, Node};
use tern_proto::v1::{self, Reason, client_frame::Request, server_frame::Message};
use tern_shard::admin::Provisioned;
use tern_shard::limits::Limits;
use tern_storage::faults::Faults;
use tern_storage::memory::Memory;
use tern_storage::{Batch, Engine as _, Key, LogId, StoreError, keys};

struct World {
    rng: Rng,
    store: Memory,
    node: Node,
    limits: Limits,
    ann: Provisioned,
    bob: Provisioned,
    carol: Provisioned,
    requests: u64,
}

const SAID: u64 = 10;

impl World {
    /// Ann has said ten things to Bob, who has acknowledged two, and one to Carol.
    fn new() -> Self {
        let mut rng = Rng::with_seed(5);
        let store = Memory::faulty(Faults::default());
        let limits = Limits { tail_entries_max: 3, ..Limits::default() };
        let mut node = Node::start(&store, 2, &limits, 1_000_000);
        let [ann, bob, carol] =
            ["+15550001", "+15550002", "+15550003"].map(|phone| node.provision(phone, &mut rng));
        let mut world = Self { rng, store, node, limits, ann, bob, carol, requests: 0 };
        let link = world.connect(world.ann.clone());
        for number in 1..=SAID {
            assert_eq!(world.say(link, world.bob.user.get(), number), Ok(number));
        }
        let bobs = world.connect(world.bob.clone());
        let acknowledge = v1::Acknowledge { chat: world.ann.user.get(), delivered_upto: 2, read_upto: 0 };
        assert!(matches!(world.ask(bobs, Request::Acknowledge(acknowledge)), Message::Acknowledged(_)));
        let carols = world.connect(world.carol.clone());
        assert_eq!(world.say(carols, world.bob.user.get(), 1), Ok(1));
        world
    }

    fn log(&self) -> LogId {
        LogId::direct(self.ann.user.get(), self.bob.user.get())
    }

    /// Changes a row behind the node's back, which then starts again.
    fn with(mut self, change: impl FnOnce(&mut Batch, LogId)) -> Self {
        let mut batch = Batch::default();
        change(&mut batch, self.log());
        self.store.commit_blocking(batch).expect("written");
        self.node = Node::start(&self.store, 2, &self.limits, self.node.now_ms);
        self
    }

    fn ask(&mut self, link: Link, request: Request) -> Message {
        self.requests += 1;
        self.node.request(link, self.requests, request);
        self.node.settle(&mut self.rng);
        let frames = self.node.receive(link).expect("it stands");
        let answer = frames.into_iter().find(|frame| frame.id == self.requests);
        answer.and_then(|frame| frame.message).expect("an answer")
    }

    fn connect(&mut self, who: Provisioned) -> Link {
        let link = self.node.connect(0);
        let hello = v1::Hello { version_min: 1, version_max: 1, ..v1::Hello::default() };
        self.ask(link, Request::Hello(hello));
        self.ask(link, Request::Login(v1::Login { access_token: who.access_token }));
        link
    }

    fn say(&mut self, link: Link, peer: u64, client_id: u64) -> Result<u64, Reason> {
        let send = v1::Send {
            chat: peer,
            client_id,
            body: format!("said {client_id}").into(),
            kind: 0,
            ..Default::default()
        };
        match self.ask(link, Request::Send(send)) {
            Message::Sent(sent) => Ok(sent.seq),
            Message::Refused(refused) => Err(refused.reason()),
            other => panic!("Send was answered by {other:?}"),
        }
    }

    fn history(&mut self, link: Link, peer: u64, from: u64) -> Result<Vec<u64>, Reason> {
        let history = v1::History { chat: peer, from, forwards: true, limit: 0 };
        match self.ask(link, Request::History(history)) {
            Message::HistoryPage(page) => Ok(page.entries.iter().map(|entry| entry.seq).collect()),
            Message::Refused(refused) => Err(refused.reason()),
            other => panic!("History was answered by {other:?}"),
        }
    }

    /// What Bob's device is pushed after `Resume`: of Ann, of Carol, and whether it has caught up.
    fn pushed(&mut self, link: Link) -> (Vec<u64>, Vec<u64>, bool) {
        self.requests += 1;
        self.node.request(link, self.requests, Request::Resume(v1::Resume::default()));
        self.node.settle(&mut self.rng);
        self.taken(link)
    }

    fn taken(&mut self, link: Link) -> (Vec<u64>, Vec<u64>, bool) {
        let (mut anns, mut carols, mut caught_up) = (Vec::new(), Vec::new(), false);
        for frame in self.node.receive(link).expect("the connection stands") {
            match frame.message.expect("a message") {
                Message::Entry(entry) if entry.chat == self.ann.user.get() => anns.push(entry.seq),
                Message::Entry(entry) => carols.push(entry.seq),
                Message::CaughtUp(_) => caught_up = true,
                Message::GoAway(bye) => panic!("one log's damage ends the connection: {bye:?}"),
                _ => {}
            }
        }
        (anns, carols, caught_up)
    }

    /// How often operators were told of damage.
    fn told(&self) -> usize {
        let (troubles, _) = self.node.told_operators();
        assert!(troubles.iter().all(|trouble| matches!(trouble, StoreError::Corrupt { .. })), "{troubles:?}");
        troubles.len()
    }

    /// The whole log is unavailable, it alone, and that is told once.
    fn check_unavailable(mut self, what: &str) {
        let (ann, bob, carol) = (self.ann.clone(), self.bob.clone(), self.carol.clone());
        let anns = self.connect(ann.clone());
        for number in [SAID, SAID + 1] {
            assert_eq!(self.say(anns, bob.user.get(), number), Err(Reason::Unavailable), "{what}");
        }
        assert_eq!(self.history(anns, bob.user.get(), 0), Err(Reason::Unavailable), "{what}");
        let bobs = self.connect(bob.clone());
        assert_eq!(self.pushed(bobs), (vec![], vec![1], true), "{what}");
        assert_eq!(self.told(), 1, "{what}");
        let carols = self.connect(carol);
        assert_eq!(self.say(carols, bob.user.get(), 2), Ok(2), "{what}");
        assert_eq!(self.taken(bobs), (vec![], vec![2], false), "{what}");
        let lost = self.with(|_, _| {});
        assert_eq!(lost.told(), 0, "{what}");
    }
}

const NONSENSE: &[u8] = b"\xff\xff\xff";

#[test]
fn a_log_that_has_lost_what_it_must_have_is_unavailable_and_never_begins_again() {
    let all = |batch: &mut Batch, log: LogId| (1..=SAID).for_each(|seq| batch.delete(&keys::entry(log, seq)));
    World::new().with(all).check_unavailable("all entries");
    World::new().with(|batch, log| batch.delete(&keys::log(log))).check_unavailable("its record");
    let both = |batch: &mut Batch, log: LogId| {
        all(batch, log);
        batch.delete(&keys::log(log));
    };
    World::new()
        .with(both)
        .check_unavailable("its record and all entries, but not who has acknowledged them");
    let newest =
        |batch: &mut Batch, log: LogId| (2..=SAID).for_each(|seq| batch.delete(&keys::entry(log, seq)));
    World::new().with(newest).check_unavailable("entries that somebody has acknowledged");
    let in_the_tail = |batch: &mut Batch, log: LogId| batch.delete(&keys::entry(log, SAID - 1));
    World::new().with(in_the_tail).check_unavailable("an entry among the newest");
}

#[test]
fn what_can_not_be_decoded_is_not_taken_for_absent() {
    let bob = World::new().bob.user.get();
    type KeyOf = fn(LogId, u64) -> Key;
    let rows: [(&str, KeyOf); 3] = [
        ("the log's record", |log, _| keys::log(log)),
        ("a member's record", keys::member),
        ("the newest entry", |log, _| keys::entry(log, SAID)),
    ];
    for (what, key) in rows {
        let change = |batch: &mut Batch, log: LogId| batch.put(&key(log, bob), NONSENSE);
        World::new().with(change).check_unavailable(what);
    }
}

#[test]
fn an_entry_that_is_missing_makes_unavailable_what_needs_it_and_nothing_else() {
    for (what, lost) in [("at the begin", 3), ("in the middle", 5), ("at the end of what is read", 7)] {
        let mut world = World::new().with(|batch, log| batch.delete(&keys::entry(log, lost)));
        let (ann, bob) = (world.ann.clone(), world.bob.clone());
        let anns = world.connect(ann.clone());
        assert_eq!(
            world.say(anns, bob.user.get(), SAID + 1),
            Ok(SAID + 1),
            "{what}: nobody needs it for that"
        );
        assert_eq!(world.history(anns, bob.user.get(), 0), Err(Reason::Unavailable), "{what}");
        assert_eq!(
            world.history(anns, bob.user.get(), lost).map(|seqs| seqs.len()),
            Ok((SAID + 1 - lost) as usize)
        );
        let bobs = world.connect(bob.clone());
        assert_eq!(world.pushed(bobs), (vec![], vec![1], true), "{what}: Bob lacks it");
        assert_eq!(world.say(anns, bob.user.get(), SAID + 2), Ok(SAID + 2), "{what}");
        assert_eq!(world.taken(bobs), (vec![], vec![], false), "{what}: nothing is pushed past a hole");
        assert_eq!(world.told(), 1, "{what}");
    }
}

#[test]
fn a_retry_that_can_not_be_told_is_refused_and_not_taken_for_a_new_message() {
    let mut world = World::new().with(|batch, log| {
        assert!(matches!(log, LogId::Direct(..)));
        batch.delete(&keys::log(log));
        batch.put(&keys::log(log), Vec::new());
    });
    let (ann, bob, log) = (world.ann.clone(), world.bob.clone(), world.log());
    let anns = world.connect(ann.clone());
    assert_eq!(world.say(anns, bob.user.get(), SAID), Ok(SAID), "an empty record is a whole one");
    // The newest of its numbers are gone from the store; the entries are there.
    let mut world = world.with(|batch, _| {
        for number in 1..=SAID {
            batch.delete(&keys::client_message(log, ann.user.get(), ann.device.get(), number));
        }
    });
    let anns = world.connect(ann.clone());
    assert_eq!(world.say(anns, bob.user.get(), SAID), Err(Reason::Unavailable));
    assert_eq!(world.say(anns, bob.user.get(), SAID + 1), Err(Reason::Unavailable));
    assert_eq!(world.told(), 1);
    // One that is there, and says what can't be.
    let mut world = World::new().with(|batch, log| {
        batch.put(&keys::client_message(log, ann.user.get(), ann.device.get(), 2), NONSENSE);
    });
    let (ann, bob) = (world.ann.clone(), world.bob.clone());
    let anns = world.connect(ann);
    assert_eq!(world.say(anns, bob.user.get(), 2), Err(Reason::Unavailable));
    assert_eq!(world.say(anns, bob.user.get(), 3), Ok(3), "the others can be told");
}

/// Each fault that can be put into the brain, and takes damage for something else, is found.
#[cfg(feature = "mutations")]
#[test]
fn each_fault_is_found() {
    use tern_shard::mutations::hunt;
    use tern_storage::mutations::panic_of;
    // Nothing here is left to a seed.
    let finds = |_| panic_of(what_can_not_be_decoded_is_not_taken_for_absent);
    for found in hunt("shard/tests/damage.rs", finds) {
        println!("{found}");
    }
}
