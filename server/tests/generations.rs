//! A server whose data went back in time, or was made anew: it says so, and no position of another past is believed.

use std::fs;

use tern_proto::v1::{self, Reason, client_frame::Request, server_frame::Message};
use tern_testkit::{Raw, Ternd, TerndOptions, TestUser};

fn hello(raw: &mut Raw, push_frames_max: u32) -> v1::Welcome {
    let hello = v1::Hello { version_min: 1, version_max: 1, push_frames_max, ..v1::Hello::default() };
    match raw.ask(Request::Hello(hello)) {
        Some(Message::Welcome(welcome)) => welcome,
        other => panic!("Hello was answered by {other:?}"),
    }
}

/// A connection that is logged in, and what the server said of itself.
fn connect(server: &Ternd, user: &TestUser, push_frames_max: u32) -> (Raw, v1::Welcome) {
    let mut raw = Raw::connect(server);
    let welcome = hello(&mut raw, push_frames_max);
    assert!(matches!(raw.ask(login(user)), Some(Message::LoggedIn(_))));
    (raw, welcome)
}

fn login(user: &TestUser) -> Request {
    Request::Login(v1::Login { access_token: user.token.clone() })
}

fn say(raw: &mut Raw, chat: u64, client_id: u64, text: &str) -> u64 {
    let send = v1::Send { chat, client_id, body: text.to_owned().into(), kind: 0, ..Default::default() };
    match raw.ask(Request::Send(send)) {
        Some(Message::Sent(sent)) => sent.seq,
        other => panic!("Send was answered by {other:?}"),
    }
}

fn acknowledge(raw: &mut Raw, chat: u64, delivered_upto: u64) {
    let acknowledge = v1::Acknowledge { chat, delivered_upto, read_upto: 0 };
    assert!(matches!(raw.ask(Request::Acknowledge(acknowledge)), Some(Message::Acknowledged(_))));
}

fn resume(positions: &[(u64, u64)], generations: &[u64]) -> Request {
    let position =
        |(chat, upto): &(u64, u64)| v1::Position { chat: *chat, upto: *upto, ..Default::default() };
    Request::Resume(v1::Resume {
        positions: positions.iter().map(position).collect(),
        generations: generations.to_vec(),
    })
}

/// Resumes, and gives what comes up to `CaughtUp`, in few words.
fn resumed(raw: &mut Raw, resume: Request) -> (bool, Vec<String>) {
    let id = raw.send(resume);
    let rewound = match raw.receive().expect("an answer") {
        v1::ServerFrame { id: answered, message: Some(Message::Resumed(resumed)) } if answered == id => {
            resumed.rewound
        }
        other => panic!("Resume was answered by {other:?}"),
    };
    let mut words = Vec::new();
    while let Some(word) = next(raw) {
        words.push(word);
    }
    (rewound, words)
}

/// The next push, in few words; `None` for `CaughtUp`.
fn next(raw: &mut Raw) -> Option<String> {
    match raw.receive().expect("the connection lives").message.expect("a message") {
        Message::Entry(entry) => {
            Some(format!("{} {}", entry.seq, std::str::from_utf8(&entry.body).expect("text")))
        }
        Message::Rewound(rewound) => Some(format!("rewound to {} of {}", rewound.upto, rewound.head)),
        Message::Receipt(receipt) => {
            let whose = if receipt.member == 0 { "their" } else { "our" };
            Some(format!("{whose} {}", receipt.delivered_upto))
        }
        Message::CaughtUp(_) => None,
        other => panic!("unexpected: {other:?}"),
    }
}

/// A server, and Ann and Bob, who has acknowledged three messages of hers; and the first generation.
fn three_said() -> (Ternd, TestUser, TestUser, v1::Welcome) {
    let server = Ternd::start(3);
    let [ann, bob] = server.provision(2).try_into().expect("two users");
    let (mut from, _) = connect(&server, &ann, 0);
    (1..=3).for_each(|number| assert_eq!(say(&mut from, bob.id, number, &format!("said {number}")), number));
    let (mut to, welcome) = connect(&server, &bob, 0);
    assert_eq!(
        resumed(&mut to, resume(&[], &[])),
        (false, vec!["1 said 1".into(), "2 said 2".into(), "3 said 3".into()])
    );
    acknowledge(&mut to, ann.id, 3);
    (server, ann, bob, welcome)
}

#[test]
fn a_copy_that_is_put_back_rewinds_devices_to_what_it_knows_they_have() {
    let (mut server, ann, bob, first) = three_said();
    assert!(server.terminate().success());
    let copy = server.copy_data();

    // It runs on: Bob gets and acknowledges what is lost later.
    server.start_again();
    let (mut from, _) = connect(&server, &ann, 0);
    (4..=9).for_each(|number| assert_eq!(say(&mut from, bob.id, number, &format!("lost {number}")), number));
    let (mut to, second) = connect(&server, &bob, 0);
    let (rewound, pushed) = resumed(&mut to, resume(&[(ann.id, 3)], &[first.generation]));
    assert!(!rewound && pushed.len() == 6, "{pushed:?}");
    acknowledge(&mut to, ann.id, 9);
    assert!(server.terminate().success());

    server.put_back(&copy);
    server.start_again();
    let (mut from, _) = connect(&server, &ann, 0);
    (4..=6).for_each(|n| assert_eq!(say(&mut from, bob.id, n + 100, &format!("other {n}")), n));
    let (mut to, third) = connect(&server, &bob, 0);
    assert_eq!((&third.store, &second.store), (&first.store, &first.store));
    assert!(third.generation != first.generation && third.generation != second.generation);
    let known = [first.generation, second.generation];
    assert_eq!(
        resumed(&mut to, resume(&[(ann.id, 9)], &known)),
        (
            true,
            vec![
                "rewound to 3 of 6".into(),
                "4 other 4".into(),
                "5 other 5".into(),
                "6 other 6".into(),
                "our 3".into()
            ]
        )
    );
    // A log without new entries is told too, whenever it is listed.
    assert_eq!(resumed(&mut to, resume(&[(bob.id, 7)], &known)), (true, vec!["rewound to 0 of 0".into()]));
    acknowledge(&mut to, ann.id, 6);
    // From then on this past is the device's own.
    let (mut to, _) = connect(&server, &bob, 0);
    assert_eq!(
        resumed(&mut to, resume(&[(ann.id, 5)], &[third.generation])),
        (false, vec!["6 other 6".into()])
    );
}

#[test]
fn a_server_that_only_stopped_or_was_killed_trusts_positions_as_before() {
    let (mut server, ann, bob, first) = three_said();
    let (mut from, _) = connect(&server, &ann, 0);
    say(&mut from, bob.id, 4, "said 4");
    say(&mut from, bob.id, 5, "said 5");
    server.kill_and_restart();
    let (mut to, second) = connect(&server, &bob, 0);
    // It has 4 without having acknowledged it.
    assert_eq!(
        resumed(&mut to, resume(&[(ann.id, 4)], &[first.generation])),
        (false, vec!["5 said 5".into()])
    );
    server.kill_and_restart();
    let (mut to, _) = connect(&server, &bob, 0);
    let both = [first.generation, second.generation];
    assert_eq!(resumed(&mut to, resume(&[(ann.id, 5)], &both)), (false, vec![]));
}

#[test]
fn a_position_beyond_the_head_is_told() {
    let (server, ann, bob, welcome) = three_said();
    let (mut to, _) = connect(&server, &bob, 0);
    let (rewound, pushed) = resumed(&mut to, resume(&[(ann.id, 100)], &[welcome.generation]));
    assert!(!rewound, "the store has had that run");
    assert_eq!(pushed, ["rewound to 3 of 3", "our 3"]);
    let (mut to, _) = connect(&server, &bob, 0);
    let (_, pushed) = resumed(&mut to, resume(&[(ann.id, u64::MAX)], &[welcome.generation]));
    assert_eq!(pushed, ["rewound to 3 of 3", "our 3"], "and the greatest number is one");
}

#[test]
fn positions_from_nowhere_are_not_trusted_and_no_positions_need_no_trust() {
    let (server, ann, bob, welcome) = three_said();
    let check = |positions: &[(u64, u64)], generations: &[u64], expect: (bool, &[&str])| {
        let (mut to, _) = connect(&server, &bob, 0);
        let (rewound, pushed) = resumed(&mut to, resume(positions, generations));
        assert_eq!(
            (rewound, &pushed[..]),
            (expect.0, &expect.1.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()[..])
        );
    };
    check(&[], &[], (false, &[]));
    check(&[(ann.id, 3)], &[], (true, &[]));
    check(&[(ann.id, 2)], &[], (true, &["3 said 3"]));
    check(&[(ann.id, 4)], &[], (true, &["rewound to 3 of 3", "our 3"]));
    check(&[], &[welcome.generation, 7], (true, &[]));
    check(&[(ann.id, 2)], &[welcome.generation], (false, &["3 said 3"]));
}

#[test]
fn rewinding_waits_for_credit_like_all_pushes() {
    let (server, ann, bob, welcome) = three_said();
    let (mut to, _) = connect(&server, &bob, 1);
    to.ask(resume(&[(ann.id, 9), (bob.id, 9)], &[welcome.generation]));
    let mut pushed = Vec::new();
    for frames in 1..=3 {
        pushed.push(next(&mut to).expect("not caught up yet"));
        assert!(to.answers());
        to.send_as(0, Request::Credit(v1::Credit { frames, bytes: 0 }));
    }
    assert_eq!(next(&mut to), None, "{pushed:?}");
    pushed.sort();
    assert_eq!(pushed, ["our 3", "rewound to 0 of 0", "rewound to 3 of 3"]);
}

#[test]
fn a_copy_of_a_running_store_is_said_to_be_one_and_nothing_before_it_is_trusted() {
    let (mut server, ann, bob, first) = three_said();
    let restored = TerndOptions { cores: 3, arguments: vec!["--restored".to_owned()], ..Default::default() };
    server.restart_with(restored);
    let (mut to, second) = connect(&server, &bob, 0);
    assert_eq!(second.store, first.store);
    assert_eq!(
        resumed(&mut to, resume(&[(ann.id, 5)], &[first.generation])),
        (true, vec!["rewound to 3 of 3".into(), "our 3".into()])
    );
}

#[test]
fn a_store_that_was_made_anew_is_another_one() {
    let (mut server, _, bob, first) = three_said();
    assert!(server.terminate().success());
    fs::remove_dir_all(server.data_dir()).expect("removed");
    server.start_again();
    let mut raw = Raw::connect(&server);
    let second = hello(&mut raw, 0);
    assert_eq!((first.store.len(), second.store.len()), (16, 16));
    assert_ne!(first.store, second.store);
    assert!((1..1 << 53).contains(&second.generation) && second.generation != first.generation);
    assert_eq!(raw.refusal(login(&bob)).reason(), Reason::TokenInvalid);
}
