//! Registrations in the brain, in one thread: whose code is whose, and what a refusal leaves behind.

#[allow(dead_code, reason = "the node serves other tests as well")]
mod node;

use std::collections::BTreeSet;

use fastrand::Rng;
use node::{Link, Node};
use tern_proto::v1::{self, Reason, client_frame::Request, server_frame::Message};
use tern_shard::limits::Limits;
use tern_storage::faults::Faults;
use tern_storage::memory::Memory;

const PHONE: &str = "+15550001";

struct World {
    node: Node,
    store: Memory,
    rng: Rng,
    limits: Limits,
}

impl World {
    fn new(limits: Limits) -> Self {
        let store = Memory::faulty(Faults::default());
        let node = Node::start(&store, 3, &limits, 1_000_000_000);
        Self { node, store, rng: Rng::with_seed(5), limits }
    }

    fn restart(&mut self) {
        self.store = self.store.recover(Faults::default());
        self.node = Node::start(&self.store, 2, &self.limits, self.node.now_ms);
    }

    fn connect(&mut self, network: u8) -> Link {
        self.node.come_from(network);
        let link = self.node.connect(u16::from(network) % 2);
        let hello = v1::Hello { version_min: 1, version_max: 1, ..v1::Hello::default() };
        self.node.request(link, 1, Request::Hello(hello));
        link
    }

    fn answer(&mut self, link: Link, id: u64) -> Message {
        self.node.settle(&mut self.rng);
        let frames = self.node.receive(link).expect("it stands");
        frames.into_iter().find(|frame| frame.id == id).and_then(|frame| frame.message).expect("an answer")
    }

    fn ask(&mut self, link: Link, request: Request) -> Message {
        self.node.request(link, 9, request);
        self.answer(link, 9)
    }

    /// Asks for a code from a network: the registration and the code.
    fn register(&mut self, network: u8) -> Result<(u64, String), v1::Refused> {
        let link = self.connect(network);
        match self.ask(link, register()) {
            Message::CodeSent(sent) => Ok((sent.registration, self.node.codes().pop().expect("it was sent"))),
            Message::Refused(refused) => Err(refused),
            other => panic!("Register was answered by {other:?}"),
        }
    }

    fn verify(&mut self, network: u8, code: &(u64, String)) -> Result<v1::Session, Reason> {
        self.verify_with(network, code, "").map_err(|refused| refused.reason())
    }

    /// The same with a PIN.
    fn verify_with(
        &mut self,
        network: u8,
        (registration, code): &(u64, String),
        pin: &str,
    ) -> Result<v1::Session, v1::Refused> {
        let link = self.connect(network);
        match self.ask(link, verify(*registration, code, pin)) {
            Message::Session(session) => Ok(session),
            Message::Refused(refused) => Err(refused),
            other => panic!("Verify was answered by {other:?}"),
        }
    }

    /// A device sets the account's PIN.
    fn set_pin(&mut self, session: &v1::Session, pin: &str) {
        let link = self.log_in(session);
        let set = Request::SetPin(v1::SetPin { pin: pin.to_owned() });
        assert!(matches!(self.ask(link, set), Message::PinSet(_)));
    }

    fn log_in(&mut self, session: &v1::Session) -> Link {
        let link = self.connect(200);
        let login = v1::Login { access_token: session.access_token.clone() };
        assert!(matches!(self.ask(link, Request::Login(login)), Message::LoggedIn(_)));
        link
    }
}

fn register() -> Request {
    Request::Register(v1::Register { phone: PHONE.to_owned() })
}

fn verify(registration: u64, code: &str, pin: &str) -> Request {
    Request::Verify(v1::Verify {
        phone: PHONE.to_owned(),
        code: code.to_owned(),
        name: "Ann".to_owned(),
        device_name: "test".to_owned(),
        registration,
        pin: pin.to_owned(),
    })
}

/// C6: the first answer delivered the second code, the second was OVERLOADED.
#[test]
fn two_registers_at_once_get_a_code_each_and_both_are_good() {
    let mut world = World::new(Limits::default());
    let link = world.connect(1);
    world.node.request(link, 2, register());
    world.node.request(link, 3, register());
    world.node.settle(&mut world.rng);
    let frames = world.node.receive(link).expect("it stands");
    let sent: Vec<u64> = frames
        .into_iter()
        .filter_map(|frame| match frame.message {
            Some(Message::CodeSent(sent)) => Some(sent.registration),
            _ => None,
        })
        .collect();
    let codes = world.node.codes();
    assert_eq!((sent.len(), codes.len()), (2, 2));
    assert_ne!(sent[0], sent[1]);
    for proof in sent.into_iter().zip(codes) {
        world.verify(1, &proof).expect("each is good with its own registration");
    }
}

/// S4: the code was used up by a refusal.
#[test]
fn a_refused_verify_leaves_the_code_good() {
    let mut world = World::new(Limits { devices_max: 1, ..Limits::default() });
    let first = world.register(1).expect("a code");
    let session = world.verify(1, &first).expect("the first device");
    world.log_in(&session);
    let second = world.register(1).expect("a code");
    for _ in 0..5 {
        assert_eq!(world.verify(1, &second), Err(Reason::TooManyDevices));
    }
    world.restart();
    world.verify(1, &second).expect("the code is as good as before");
    assert_eq!(world.verify(1, &second), Err(Reason::CodeExpired), "and is used up now");
    world.restart();
    assert_eq!(world.verify(1, &second), Err(Reason::CodeExpired), "for good");
}

/// C7: two proofs by one code, both under way before the first is written.
#[test]
fn a_code_adds_one_device_however_often_it_is_sent_at_once() {
    for seed in 0..20 {
        let mut world = World::new(Limits::default());
        world.rng = Rng::with_seed(seed);
        let (registration, code) = world.register(1).expect("a code");
        let links: Vec<_> = (0..4).map(|network| world.connect(network)).collect();
        for link in &links {
            world.node.request(*link, 2, verify(registration, &code, ""));
        }
        let answers: Vec<_> = links.iter().map(|link| world.answer(*link, 2)).collect();
        let sessions = answers.iter().filter(|answer| matches!(answer, Message::Session(_))).count();
        assert_eq!(sessions, 1, "seed {seed}: {answers:?}");
    }
}

/// S5: two `Register`s of a stranger voided hers and locked her out.
#[test]
fn strangers_neither_void_a_code_nor_keep_its_owner_out() {
    let mut world = World::new(Limits::default());
    let first = world.register(1).expect("a code");
    world.verify(1, &first).expect("she has been here before");
    let hers = world.register(1).expect("a code");
    let taken = (10..60).filter(|network| world.register(*network).is_ok()).count();
    assert_eq!(taken, 12, "all strangers together");
    let refused = world.register(99).expect_err("too many");
    assert_eq!(refused.reason(), Reason::RateLimited);
    assert!((1..=3_600_000).contains(&refused.retry_after_ms));
    for _ in 0..9 {
        assert_eq!(world.verify(99, &(hers.0 ^ 1, "000000".to_owned())), Err(Reason::CodeExpired));
    }
    world.verify(1, &hers).expect("hers is good");
    world.node.now_ms += u64::from(refused.retry_after_ms);
    world.register(99).expect("the wait was true");
}

#[test]
fn an_operator_lifts_the_limits_of_a_phone() {
    let mut world = World::new(Limits::default());
    let sent: Vec<_> = (0..3).map(|_| world.register(1).expect("a code")).collect();
    assert!(world.register(1).is_err());
    world.node.reset_codes(PHONE, &mut world.rng);
    world.register(1).expect("a code");
    world.verify(1, &sent[0]).expect("what was sent is good still");
}

/// The way to the deliverer is full: the code waits, and is answered when it has gone.
#[test]
fn a_code_waits_for_the_deliverer_and_is_told_when_it_has_gone() {
    let mut world = World::new(Limits::default());
    world.node.refuse_codes(true);
    let link = world.connect(1);
    world.node.request(link, 2, register());
    world.node.settle(&mut world.rng);
    let answered = |world: &mut World| {
        world.node.receive(link).expect("it stands").into_iter().any(|frame| frame.id == 2)
    };
    assert!(!answered(&mut world), "nothing is said of what has not happened");
    world.node.tick(100);
    world.node.settle(&mut world.rng);
    assert!(!answered(&mut world));
    world.node.refuse_codes(false);
    world.node.tick(100);
    let Message::CodeSent(sent) = world.answer(link, 2) else { panic!("the code has gone") };
    let code = world.node.codes().pop().expect("it was sent");
    world.verify(1, &(sent.registration, code)).expect("it is good");
}

#[test]
fn a_code_that_never_went_was_never_asked_for() {
    let mut world = World::new(Limits::default());
    world.node.refuse_codes(true);
    let links: Vec<_> = (0..3).map(|_| world.connect(1)).collect();
    for link in &links {
        world.node.request(*link, 2, register());
    }
    world.node.settle(&mut world.rng);
    world.node.tick(Limits::default().code_valid_ms);
    for link in &links {
        let Message::Refused(refused) = world.answer(*link, 2) else { panic!("it has ended") };
        assert_eq!(refused.reason(), Reason::Overloaded);
    }
    world.node.refuse_codes(false);
    for _ in 0..3 {
        world.register(1).expect("none of the three counts");
    }
}

#[test]
fn codes_that_find_no_room_are_refused_before_anything_is_written() {
    let limits = Limits { address_code_requests_per_hour_max: 0, ..Limits::default() };
    let mut world = World::new(limits);
    world.node.refuse_codes(true);
    let link = world.connect(1);
    let mut reasons = BTreeSet::new();
    for number in 0..5000u64 {
        let phone = format!("+1555{number:07}");
        world.node.request(link, 10 + number, Request::Register(v1::Register { phone }));
        if number % 100 == 0 {
            world.node.settle(&mut world.rng);
        }
    }
    world.node.settle(&mut world.rng);
    for frame in world.node.receive(link).expect("it stands") {
        if let Some(Message::Refused(refused)) = frame.message {
            assert!(refused.retry_after_ms > 0);
            reasons.insert(refused.reason().name());
        }
    }
    assert_eq!(reasons, BTreeSet::from(["OVERLOADED"]));
}

const DAY_MS: u64 = 24 * 3_600_000;

/// S13: the new owner of a number read all that the old one wrote, and went on as the same person.
#[test]
fn a_number_that_changes_hands_leads_to_a_new_account() {
    let mut world = World::new(Limits { refresh_token_valid_ms: 365 * DAY_MS, ..Limits::default() });
    let first = world.register(1).expect("a code");
    let old = world.verify(1, &first).expect("the old owner");
    world.node.now_ms += 44 * DAY_MS;
    let second = world.register(1).expect("a code");
    let same = world.verify(1, &second).expect("the same person");
    assert_eq!(same.user_id, old.user_id, "44 days are no change of hands");
    world.node.now_ms += 46 * DAY_MS;
    let third = world.register(3).expect("a code");
    let new = world.verify(3, &third).expect("the new owner");
    assert_ne!(new.user_id, old.user_id);
    assert_eq!(new.device_id, 1);
    for restarted in [false, true] {
        if restarted {
            world.restart();
        }
        let link = world.connect(1);
        let refresh = v1::Refresh { refresh_token: same.refresh_token.clone(), nonce: vec![1; 16].into() };
        match world.ask(link, Request::Refresh(refresh)) {
            Message::Refused(refused) => assert_eq!(refused.reason(), Reason::SessionRevoked),
            other => panic!("the old owner's account has ended: {other:?}"),
        }
        world.log_in(&new);
    }
}

/// Whoever is connected is here, though no token was exchanged for long.
#[test]
fn an_account_whose_device_is_here_is_joined_however_old_its_tokens_are() {
    let mut world = World::new(Limits { idle_timeout_ms: DAY_MS, ..Limits::default() });
    let first = world.register(1).expect("a code");
    let session = world.verify(1, &first).expect("a device");
    let link = world.log_in(&session);
    for _ in 0..60 {
        world.node.now_ms += DAY_MS;
        assert!(matches!(world.ask(link, Request::Ping(v1::Ping {})), Message::Pong(_)));
    }
    let second = world.register(1).expect("a code");
    assert_eq!(world.verify(1, &second).expect("another device").user_id, session.user_id);
    // The node ends without a word; it knows when the devices were here all the same.
    world.node.now_ms += 40 * DAY_MS;
    world.restart();
    let third = world.register(1).expect("a code");
    assert_eq!(world.verify(1, &third).expect("another device").user_id, session.user_id);
}

/// An account with a PIN, whose devices are not connected any more.
fn with_pin() -> (World, v1::Session) {
    let limits = Limits {
        refresh_token_valid_ms: 365 * DAY_MS,
        code_requests_per_hour_max: 0,
        phone_code_requests_per_hour_max: 0,
        ..Limits::default()
    };
    let mut world = World::new(limits);
    let first = world.register(1).expect("a code");
    let session = world.verify(1, &first).expect("a device");
    world.set_pin(&session, "2468");
    world.restart();
    (world, session)
}

/// SMS alone: whoever has the number of the phone for a day has not the account.
#[test]
fn an_account_with_a_pin_is_had_by_a_code_alone_only_after_seven_days_of_silence_and_then_begins_anew() {
    let (mut world, session) = with_pin();
    world.node.now_ms += 6 * DAY_MS;
    let code = world.register(3).expect("a code");
    let refused = world.verify_with(3, &code, "").expect_err("the PIN is needed");
    assert_eq!((refused.reason(), refused.retry_after_ms), (Reason::PinNeeded, DAY_MS as u32));
    // The same code is good with the PIN: then it is the same person, however long it has been.
    let same = world.verify_with(3, &code, "2468").expect("the owner");
    assert_eq!(same.user_id, session.user_id);
    world.node.now_ms += 60 * DAY_MS;
    let code = world.register(3).expect("a code");
    assert_eq!(world.verify_with(3, &code, "2468").expect("the owner").user_id, session.user_id);
    world.node.now_ms += 7 * DAY_MS;
    let code = world.register(4).expect("a code");
    let new = world.verify(4, &code).expect("nobody has been here for seven days");
    assert_ne!(new.user_id, session.user_id, "nothing of the old account is had by that");
    let code = world.register(5).expect("a code");
    assert_eq!(world.verify(5, &code).expect("the new account has no PIN").user_id, new.user_id);
}

#[test]
fn a_device_that_is_here_keeps_everybody_out_who_has_not_the_pin() {
    let (mut world, session) = with_pin();
    let link = world.log_in(&session);
    for _ in 0..30 {
        // Often enough to stay connected.
        for _ in 0..480 {
            world.node.now_ms += DAY_MS / 480;
            assert!(matches!(world.ask(link, Request::Ping(v1::Ping {})), Message::Pong(_)));
        }
    }
    let code = world.register(3).expect("a code");
    let refused = world.verify_with(3, &code, "").expect_err("the PIN is needed");
    assert_eq!((refused.reason(), refused.retry_after_ms), (Reason::PinNeeded, 7 * DAY_MS as u32));
}

#[test]
fn a_pin_is_guessed_five_times_a_day_whoever_restarts_the_server() {
    let (mut world, session) = with_pin();
    let code = world.register(3).expect("a code");
    for tried in 0..5 {
        if tried == 3 {
            world.restart();
        }
        let refused =
            world.verify_with(3, &code, &format!("{tried}{tried}{tried}{tried}")).expect_err("wrong");
        assert_eq!(refused.reason(), Reason::PinWrong);
    }
    world.restart();
    let refused = world.verify_with(3, &code, "2468").expect_err("the right one may not be tried either");
    assert_eq!(refused.reason(), Reason::RateLimited);
    assert!((1..=DAY_MS as u32).contains(&refused.retry_after_ms));
    // Who has a device is not kept from changing it.
    world.set_pin(&session, "");
    let same = world.verify(3, &code).expect("there is no PIN any more");
    assert_eq!(same.user_id, session.user_id);
}
