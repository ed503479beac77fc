//! What ends a suspension ends it for good, whatever the clock says later.

#[allow(dead_code, reason = "the node serves other tests as well")]
mod node;

use fastrand::Rng;
use node::{Link, Node};
use tern_proto::v1::{Reason, server_frame::Message};
use tern_shard::admin::{AdminRequest, AdminResponse};
use tern_shard::limits::Limits;
use tern_storage::faults::Faults;
use tern_storage::memory::Memory;
use tern_wire::ids::UserId;

const PHONE: &str = "+15550001";
const BEGIN_MS: u64 = 1_000_000_000;
const HOUR_MS: u64 = 3_600_000;

struct World {
    rng: Rng,
    store: Memory,
    node: Node,
    user: UserId,
    token: String,
}

impl World {
    fn new() -> Self {
        let mut rng = Rng::with_seed(1);
        let store = Memory::faulty(Faults::default());
        let mut node = Node::start(&store, 2, &limits(), BEGIN_MS);
        let made = node.provision(PHONE, &mut rng);
        Self { rng, store, node, user: made.user, token: made.access_token }
    }

    fn suspend(&mut self, for_ms: u64) {
        let user = self.user;
        let suspend = |_| AdminRequest::Suspend(user, "a test".to_owned(), for_ms);
        let answer = self.node.question(PHONE, &mut self.rng, suspend);
        assert!(matches!(answer, AdminResponse::Suspended { .. }), "{answer:?}");
    }

    fn free(&mut self) -> bool {
        let user = self.user;
        match self.node.question(PHONE, &mut self.rng, |_| AdminRequest::Free(user)) {
            AdminResponse::Freed(was_suspended) => was_suspended,
            other => panic!("{other:?}"),
        }
    }

    /// Another process, and another clock.
    fn restart(&mut self, now_ms: u64) {
        self.store = self.store.recover(Faults::default());
        self.node = Node::start(&self.store, 2, &limits(), now_ms);
    }

    fn is_let_in(&mut self) -> bool {
        let link: Link = self.node.log_in(0, &self.token);
        self.node.settle(&mut self.rng);
        let answers = self.node.receive(link).expect("the connection stands");
        match answers.into_iter().find(|frame| frame.id == 2).and_then(|frame| frame.message) {
            Some(Message::LoggedIn(_)) => true,
            Some(Message::Refused(refused)) if refused.reason() == Reason::Suspended => false,
            other => panic!("{other:?}"),
        }
    }
}

fn limits() -> Limits {
    Limits { access_token_valid_ms: 100 * HOUR_MS, ..Limits::default() }
}

#[test]
fn who_was_freed_is_not_suspended_again_by_a_clock_that_is_set_back() {
    for for_ms in [0, HOUR_MS] {
        let mut world = World::new();
        world.suspend(for_ms);
        assert!(!world.is_let_in());
        assert!(world.free());
        world.restart(BEGIN_MS - HOUR_MS);
        assert!(world.is_let_in(), "{for_ms}");
        assert!(!world.free(), "there is nothing to be freed of");
    }
}

#[test]
fn what_an_operator_frees_when_its_time_is_over_is_over_by_any_clock() {
    let mut world = World::new();
    world.suspend(HOUR_MS);
    // Nobody comes until it is over: it is an operator who asks first.
    world.restart(BEGIN_MS + 2 * HOUR_MS);
    assert!(!world.free(), "it was not suspended any more");
    world.restart(BEGIN_MS);
    assert!(world.is_let_in());
}

#[test]
fn a_suspension_that_was_over_does_not_come_back_with_the_clock() {
    let mut world = World::new();
    world.suspend(HOUR_MS);
    world.node.tick(2 * HOUR_MS);
    world.node.settle(&mut world.rng);
    assert!(world.is_let_in());
    world.restart(BEGIN_MS);
    assert!(world.is_let_in());
    // And another one holds.
    world.suspend(HOUR_MS);
    world.restart(BEGIN_MS + 1);
    assert!(!world.is_let_in());
}
