//! What a device is pushed when it comes back, whatever it asks for and in which order: whole, in order, and no more than
//! it lacks.

use std::collections::BTreeMap;

use tern_proto::v1::{self, client_frame::Request, server_frame::Message};
use tern_testkit::{Raw, Ternd, TestUser};

fn hello(push_frames_max: u32) -> Request {
    Request::Hello(v1::Hello { version_min: 1, version_max: 1, push_frames_max, ..v1::Hello::default() })
}

fn login(user: &TestUser) -> Request {
    Request::Login(v1::Login { access_token: user.token.clone() })
}

fn connect(server: &Ternd, user: &TestUser, push_frames_max: u32) -> (Raw, u64) {
    let mut raw = Raw::connect(server);
    let Some(Message::Welcome(welcome)) = raw.ask(hello(push_frames_max)) else { panic!("no welcome") };
    assert!(matches!(raw.ask(login(user)), Some(Message::LoggedIn(_))));
    (raw, welcome.generation)
}

/// Everybody but the first says so many things to the first.
fn say(server: &Ternd, users: &[TestUser], count: u64) {
    for user in &users[1..] {
        let (mut raw, _) = connect(server, user, 0);
        let say = |number: u64| v1::Send {
            chat: users[0].id,
            client_id: number,
            body: number.to_string().into(),
            kind: 0,
            ..Default::default()
        };
        let ids: Vec<_> = (1..=count).map(|number| raw.send(Request::Send(say(number)))).collect();
        for id in ids {
            assert!(matches!(raw.response(id), Some(Message::Sent(_))));
        }
    }
}

fn resume(positions: impl Iterator<Item = (u64, u64)>, generation: u64) -> Request {
    let position = |(chat, upto)| v1::Position { chat, upto, ..v1::Position::default() };
    let positions = positions.map(position).collect();
    Request::Resume(v1::Resume { positions, generations: vec![generation] })
}

/// The seqs that are pushed of each chat until so many Resumes have been answered and `CaughtUp` has come after the last;
/// each push is confirmed.
fn pushed(raw: &mut Raw, mut resumes: u32) -> BTreeMap<u64, Vec<u64>> {
    let (mut pushed, mut frames) = (BTreeMap::<u64, Vec<u64>>::new(), 0);
    loop {
        match raw.receive().expect("the connection lives").message.expect("a message") {
            Message::Resumed(_) => resumes -= 1,
            Message::CaughtUp(_) if resumes == 0 => return pushed,
            Message::CaughtUp(_) => {}
            Message::Entry(entry) => {
                pushed.entry(entry.chat).or_default().push(entry.seq);
                frames += 1;
                raw.send_as(0, Request::Credit(v1::Credit { frames, bytes: 1 << 40 }));
            }
            Message::Receipt(_) => {
                frames += 1;
                raw.send_as(0, Request::Credit(v1::Credit { frames, bytes: 1 << 40 }));
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
}

/// `Welcome` waits for `LoggedIn` and `Resumed` for what is pushed, to leave with it: no end overtakes them.
#[test]
fn the_answers_to_a_login_come_though_the_client_says_no_more() {
    let server = Ternd::start(2);
    for (user, with_fin) in server.provision(20).iter().zip([false, true].into_iter().cycle()) {
        let mut raw = Raw::connect(&server);
        raw.send_last([hello(0), login(user), Request::Resume(v1::Resume::default())], with_fin);
        let answers = std::iter::from_fn(|| raw.receive()).filter(|frame| frame.id > 0);
        let answers: Vec<_> = answers.map(|frame| frame.message.expect("a message")).collect();
        assert!(
            matches!(answers[..], [Message::Welcome(_), Message::LoggedIn(_), Message::Resumed(_)]),
            "{answers:?}"
        );
    }
}

#[test]
fn a_resume_behind_another_one_adds_to_it_and_loses_nothing() {
    let server = Ternd::start(3);
    let users = server.provision(41);
    say(&server, &users, 20);
    let (mut raw, generation) = connect(&server, &users[0], 8);
    let peers = || users[1..].iter().map(|user| user.id);
    // In one record: where something was pushed before it says that it has nothing, a log would begin again.
    raw.send_together([
        resume(std::iter::empty(), generation),
        resume(peers().map(|chat| (chat, 0)), generation),
    ]);
    let all: BTreeMap<u64, Vec<u64>> = peers().map(|chat| (chat, (1..=20).collect())).collect();
    assert_eq!(pushed(&mut raw, 2), all, "all chats whole, each once, in order");
    // The same when all has been acknowledged, and the device has lost it.
    for chat in peers() {
        let acknowledge = v1::Acknowledge { chat, delivered_upto: 20, read_upto: 0 };
        assert!(matches!(raw.ask(Request::Acknowledge(acknowledge)), Some(Message::Acknowledged(_))));
    }
    let (mut raw, generation) = connect(&server, &users[0], 8);
    raw.send_together([
        resume(std::iter::empty(), generation),
        resume(peers().map(|chat| (chat, 0)), generation),
    ]);
    assert_eq!(pushed(&mut raw, 2), all);
}

#[test]
fn a_position_is_kept_to_though_the_inbox_is_read_later() {
    let mut server = Ternd::start(3);
    let users = server.provision(12);
    say(&server, &users, 10);
    for _ in 0..5 {
        // The inbox is in the store alone, and nothing in it was ever acknowledged.
        server.kill_and_restart();
        let (mut raw, generation) = connect(&server, &users[0], 16);
        let peers = || users[1..].iter().map(|user| user.id);
        raw.send(resume(peers().take(6).map(|chat| (chat, 5)), generation));
        let expected: BTreeMap<u64, Vec<u64>> = peers()
            .enumerate()
            .map(|(at, chat)| (chat, (if at < 6 { 6 } else { 1 }..=10).collect()))
            .collect();
        assert_eq!(pushed(&mut raw, 1), expected);
    }
}
