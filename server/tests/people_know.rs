//! What people learn of each other, and what of it somebody can make by themselves: nothing.

use serde_json::json;
use tern_proto::v1::{self, Reason, client_frame::Request, lookup::By, server_frame::Message};
use tern_testkit::{Raw, Ternd, TestUser};

fn lookup(by: By) -> Request {
    Request::Lookup(v1::Lookup { by: Some(by), group: 0 })
}

fn person(answer: Option<Message>) -> v1::Person {
    match answer {
        Some(Message::Person(person)) => person,
        other => panic!("expected a person, got {other:?}"),
    }
}

fn say(raw: &mut Raw, chat: u64, client_id: u64) {
    let send =
        v1::Send { chat, client_id, body: "hello".into(), kind: v1::Kind::Text.into(), ..Default::default() };
    assert!(matches!(raw.ask(Request::Send(send)), Some(Message::Sent(_))));
}

fn resume(raw: &mut Raw) {
    assert!(matches!(raw.ask(Request::Resume(v1::Resume::default())), Some(Message::Resumed(_))));
}

/// Takes pushes until one is what is looked for. The test hangs, and says so, if none comes.
fn pushed<T>(raw: &mut Raw, wanted: impl Fn(&Message) -> Option<T>) -> T {
    loop {
        let frame = raw.receive().expect("the connection stands");
        if let Some(found) = frame.message.as_ref().and_then(&wanted) {
            return found;
        }
    }
}

fn changed(message: &Message) -> Option<u64> {
    match message {
        Message::PersonChanged(changed) => Some(changed.user_id),
        _ => None,
    }
}

/// What has come before the answer to a ping that is asked for now.
fn until_now(raw: &mut Raw) -> Vec<Message> {
    let id = raw.send(Request::Ping(v1::Ping {}));
    let mut come = Vec::new();
    loop {
        let frame = raw.receive().expect("the connection stands");
        if frame.id == id {
            return come;
        }
        come.extend(frame.message);
    }
}

fn three(server: &Ternd) -> [(TestUser, Raw); 3] {
    let users: [TestUser; 3] = server.provision(3).try_into().expect("three");
    users.map(|user| {
        let mut raw = Raw::logged_in(server, &user.token);
        resume(&mut raw);
        (user, raw)
    })
}

/// C4: one entry, which the asker can write, was enough for name and phone of anybody whose id one could count to.
#[test]
fn what_the_asker_has_written_alone_shows_nothing() {
    let server = Ternd::start(3);
    let [(ann, mut ann_raw), (bob, mut bob_raw), _] = three(&server);
    assert_eq!(ann_raw.refusal(lookup(By::UserId(bob.id))).reason(), Reason::UnknownUser);
    say(&mut ann_raw, bob.id, 1);
    assert_eq!(
        ann_raw.refusal(lookup(By::UserId(bob.id))).reason(),
        Reason::UnknownUser,
        "Bob has not written"
    );
    let found = person(ann_raw.ask(lookup(By::Phone(bob.phone.clone()))));
    assert_eq!((found.user_id, found.name.as_str(), &found.phone), (bob.id, "", &bob.phone));
    // She has written to him: he may call her, but has not answered, so he is not told what she calls herself.
    let seen = person(bob_raw.ask(lookup(By::UserId(ann.id))));
    assert_eq!((seen.name.as_str(), &seen.phone), ("", &ann.phone));
    say(&mut bob_raw, ann.id, 1);
    for (raw, other, name) in [(&mut ann_raw, &bob, "test 1"), (&mut bob_raw, &ann, "test 0")] {
        for by in [By::UserId(other.id), By::Phone(other.phone.clone())] {
            let found = person(raw.ask(lookup(by)));
            assert_eq!((found.user_id, found.name.as_str(), &found.phone), (other.id, name, &other.phone));
        }
    }
    let own = person(ann_raw.ask(lookup(By::UserId(ann.id))));
    assert_eq!((own.name.as_str(), &own.phone), ("test 0", &ann.phone));
    // It is in the store, and not in memory alone.
    let mut server = server;
    server.kill_and_restart();
    let mut ann_raw = Raw::logged_in(&server, &ann.token);
    assert_eq!(person(ann_raw.ask(lookup(By::UserId(bob.id)))).name, "test 1");
}

/// S12: a new name was never seen, and whoever registered again stayed UNKNOWN_USER.
#[test]
fn whoever_chats_with_a_person_is_told_that_they_have_changed_and_nobody_else_is() {
    let server = Ternd::start(3);
    let [(ann, mut ann_raw), (bob, mut bob_raw), (carol, mut carol_raw)] = three(&server);
    say(&mut ann_raw, bob.id, 1);
    say(&mut bob_raw, ann.id, 1);
    say(&mut carol_raw, bob.id, 1);
    let renamed = Raw::registered(&server, &bob.phone, "Robert");
    assert_eq!((renamed.user_id, renamed.device_id), (bob.id, 2));
    assert_eq!(pushed(&mut ann_raw, changed), bob.id);
    assert_eq!(person(ann_raw.ask(lookup(By::UserId(bob.id)))).name, "Robert");
    let added = pushed(&mut bob_raw, |message| match message {
        Message::DeviceAdded(added) => Some(added.clone()),
        _ => None,
    });
    assert_eq!((added.device_id, added.device_name.as_str()), (2, "test"));
    let deleted = server.admin(&json!({ "ask": "delete_user", "phone": bob.phone }));
    assert_eq!(deleted[0]["ok"]["deleted"], true, "{deleted:?}");
    assert_eq!(pushed(&mut ann_raw, changed), bob.id);
    assert_eq!(ann_raw.refusal(lookup(By::UserId(bob.id))).reason(), Reason::UnknownUser);
    let again = Raw::registered(&server, &bob.phone, "Robert");
    assert_ne!(again.user_id, bob.id);
    assert_eq!(person(ann_raw.ask(lookup(By::Phone(bob.phone.clone())))).user_id, again.user_id);
    let told = until_now(&mut carol_raw);
    assert!(told.iter().all(|message| changed(message).is_none()), "{} has heard {told:?}", carol.id);
}

#[test]
fn a_device_that_was_away_learns_that_another_was_added() {
    let server = Ternd::start(2);
    let first = Raw::registered(&server, "+15550001", "Ann");
    let newest = || {
        let login = v1::Login { access_token: first.access_token.clone() };
        match Raw::welcomed(&server).ask(Request::Login(login)) {
            Some(Message::LoggedIn(login)) => login.newest_device_id,
            other => panic!("Login was answered by {other:?}"),
        }
    };
    assert_eq!(newest(), 1);
    Raw::registered(&server, "+15550001", "");
    assert_eq!(newest(), 2);
}

#[test]
fn names_that_change_what_stands_around_them_are_taken_from_nobody() {
    let server = Ternd::start(2);
    let mut raw = Raw::welcomed(&server);
    let registration = raw.register("+15550001").registration;
    let code = server.code_of("+15550001");
    for (name, device) in [("Ann\u{202e}", ""), ("\u{2066}Ann", ""), ("Ann", "\u{200f}"), ("An\u{1b}n", "")] {
        let verify = v1::Verify {
            phone: "+15550001".to_owned(),
            code: code.clone(),
            name: name.to_owned(),
            device_name: device.to_owned(),
            registration,
            pin: String::new(),
        };
        assert_eq!(raw.refusal(Request::Verify(verify)).reason(), Reason::InvalidArgument, "{name:?}");
    }
    for name in ["\u{1b}[2J".to_owned(), "\u{202e}".to_owned(), "x".repeat(99)] {
        let question = json!({ "ask": "provision", "count": 1, "first": "+15550009", "name": name });
        let answer = server.admin(&question).remove(0);
        assert!(answer["error"].as_str().is_some_and(|why| why.contains("name")), "{answer}");
    }
}
