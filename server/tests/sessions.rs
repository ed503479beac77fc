//! A device's session: its tokens, their exchange, their theft, and their end.

mod people;

use people::{Person, next_message, until};
use serde_json::json;
use tern_client::Event;
use tern_proto::v1::{self, Reason, client_frame::Request, server_frame::Message};
use tern_testkit::{Raw, Ternd, TerndOptions};

fn register(server: &Ternd, phone: &str) -> v1::Session {
    Raw::registered(server, phone, "Ann")
}

fn session(answer: Option<Message>) -> v1::Session {
    match answer {
        Some(Message::Session(session)) => session,
        other => panic!("expected a session, got {other:?}"),
    }
}

fn refresh(token: &str, nonce: u8) -> Request {
    Request::Refresh(v1::Refresh { refresh_token: token.to_owned(), nonce: vec![nonce; 16].into() })
}

fn login(token: &str) -> Request {
    Request::Login(v1::Login { access_token: token.to_owned() })
}

#[test]
fn a_refresh_is_repeatable_and_replaces_the_token_before() {
    let mut server = Ternd::start(3);
    let first = register(&server, "+15550001");
    let mut raw = Raw::welcomed(&server);
    let second = session(raw.ask(refresh(&first.refresh_token, 1)));
    assert_ne!(second.refresh_token, first.refresh_token);
    let again = session(raw.ask(refresh(&first.refresh_token, 1)));
    assert_eq!(again.refresh_token, second.refresh_token, "the retry of a lost response");
    server.kill_and_restart();
    let mut raw = Raw::welcomed(&server);
    let again = session(raw.ask(refresh(&first.refresh_token, 1)));
    assert_eq!(again.refresh_token, second.refresh_token, "after a crash too");
    let third = session(raw.ask(refresh(&second.refresh_token, 2)));
    assert!(matches!(raw.ask(login(&third.access_token)), Some(Message::LoggedIn(_))));
}

#[test]
fn a_stolen_refresh_token_ends_the_session_when_it_is_used() {
    let server = Ternd::start(3);
    let first = register(&server, "+15550001");
    let mut owner = Raw::welcomed(&server);
    let second = session(owner.ask(refresh(&first.refresh_token, 1)));
    assert!(matches!(owner.ask(login(&second.access_token)), Some(Message::LoggedIn(_))));
    let mut thief = Raw::welcomed(&server);
    assert_eq!(thief.refusal(refresh(&first.refresh_token, 9)).reason(), Reason::TokenReused);
    let farewell = owner.farewell().expect("the owner's connection is told");
    assert_eq!(farewell.reason(), Reason::SessionRevoked);
    for token in [&second.refresh_token, &first.refresh_token] {
        let reason = thief.refusal(refresh(token, 3)).reason();
        assert!(matches!(reason, Reason::SessionRevoked | Reason::TokenReused), "{reason:?}");
    }
    assert_eq!(thief.refusal(login(&second.access_token)).reason(), Reason::SessionRevoked);
    let other = register(&server, "+15550001");
    assert_ne!(other.device_id, first.device_id, "registering again helps");
}

/// The connection was ended before it was told why: a client could not warn of a thief.
#[test]
fn who_uses_a_token_twice_on_a_connection_of_its_own_is_told_before_that_ends() {
    let server = Ternd::start(3);
    let first = register(&server, "+15550001");
    let mut raw = Raw::welcomed(&server);
    let second = session(raw.ask(refresh(&first.refresh_token, 1)));
    assert!(matches!(raw.ask(login(&second.access_token)), Some(Message::LoggedIn(_))));
    assert_eq!(raw.refusal(refresh(&first.refresh_token, 9)).reason(), Reason::TokenReused);
    assert_eq!(raw.farewell().map(|bye| bye.reason()), Some(Reason::SessionRevoked));
}

#[test]
fn the_eleventh_device_takes_the_place_of_the_oldest_that_is_away() {
    let server = Ternd::start(2);
    let question = json!({ "ask": "provision", "count": 1, "first": "+15550001", "name": "Ann" });
    let add = || server.admin(&question).remove(0);
    let token = || add()["ok"]["access_token"].as_str().expect("a device").to_owned();
    let tokens: Vec<_> = (0..10).map(|_| token()).collect();
    let mut first = Raw::logged_in(&server, &tokens[0]);
    let eleventh = token();
    assert!(first.answers(), "the oldest of all is connected");
    assert_eq!(Raw::welcomed(&server).refusal(login(&tokens[1])).reason(), Reason::SessionRevoked);
    let held: Vec<_> =
        tokens[2..].iter().chain([&eleventh]).map(|token| Raw::logged_in(&server, token)).collect();
    let refused = add();
    assert!(
        refused["error"].as_str().is_some_and(|why| why.contains("as many connected devices")),
        "{refused}"
    );
    assert!(held.into_iter().all(|mut raw| raw.answers()));
}

/// S4: the refusal had used the code up.
#[test]
fn a_verify_that_finds_no_place_may_be_sent_again_when_there_is_one() {
    let server = Ternd::start(2);
    let question = json!({ "ask": "provision", "count": 1, "first": "+15550001", "name": "Ann" });
    let token = || server.admin(&question)[0]["ok"]["access_token"].as_str().expect("a device").to_owned();
    let mut held: Vec<_> = (0..10).map(|_| Raw::logged_in(&server, &token())).collect();
    let mut raw = Raw::welcomed(&server);
    let registration = raw.register("+15550001").registration;
    let verify = v1::Verify {
        phone: "+15550001".to_owned(),
        code: server.code_of("+15550001"),
        name: "Somebody else".to_owned(),
        device_name: "eleventh".to_owned(),
        registration,
        pin: String::new(),
    };
    let verify = || Request::Verify(verify.clone());
    assert_eq!(raw.refusal(verify()).reason(), Reason::TooManyDevices);
    assert!(held.iter_mut().all(Raw::answers), "nothing has happened");
    held.pop();
    // The server learns of the end in its own time.
    let session = loop {
        match raw.ask(verify()) {
            Some(Message::Refused(refused)) => assert_eq!(refused.reason(), Reason::TooManyDevices),
            answer => break session(answer),
        }
    };
    assert_eq!(session.device_id, 11);
    assert_eq!(raw.refusal(verify()).reason(), Reason::CodeExpired);
}

/// What comes before the answer to a request, and the answer.
fn until_answered(raw: &mut Raw, request: Request) -> (Vec<Message>, Message) {
    let id = raw.send(request);
    let mut pushed = Vec::new();
    loop {
        let frame = raw.receive().expect("the connection stands");
        let message = frame.message.expect("a message");
        if frame.id == id {
            return (pushed, message);
        }
        pushed.push(message);
    }
}

fn ring(device_id: u32) -> Request {
    Request::RingDevice(v1::RingDevice { device_id })
}

/// Whether the other device heard that it was to ring.
fn rings(looks: &mut Raw, device_id: u32) -> bool {
    match until_answered(looks, ring(device_id)).1 {
        Message::DeviceRung(rung) => rung.connected,
        other => panic!("RingDevice was answered by {other:?}"),
    }
}

#[test]
fn a_device_rings_if_it_is_there_and_nobody_remembers_it() {
    let server = Ternd::start(3);
    let [laptop, phone] = [(); 2].map(|()| register(&server, "+15550001"));
    let stranger = register(&server, "+15550002");
    let mut laptop = Raw::logged_in(&server, &laptop.access_token);
    let mut stranger = Raw::logged_in(&server, &stranger.access_token);
    assert!(!rings(&mut laptop, 2), "it is not there");
    let mut found = Raw::logged_in(&server, &phone.access_token);
    let ping = || Request::Ping(v1::Ping {});
    assert!(until_answered(&mut found, ping()).0.is_empty(), "nobody has kept the ring for it");
    assert!(rings(&mut laptop, 2));
    let rung = v1::Ring { device_id: 1, device_name: "test".to_owned() };
    assert_eq!(found.receive().and_then(|frame| frame.message), Some(Message::Ring(rung.clone())));
    // Its own rings too, before it is answered.
    let (pushed, answer) = until_answered(&mut laptop, ring(1));
    assert_eq!(
        (pushed, answer),
        (vec![Message::Ring(rung)], Message::DeviceRung(v1::DeviceRung { connected: true }))
    );
    // Devices are counted for each account: the other one's has no second.
    assert_eq!(stranger.refusal(ring(2)).reason(), Reason::InvalidArgument);
    assert!(until_answered(&mut stranger, ping()).0.is_empty());
    drop(found);
    let connected = |raw: &mut Raw| match until_answered(raw, Request::Devices(v1::Devices {})).1 {
        Message::DeviceList(list) => list.devices[1].connected,
        other => panic!("Devices was answered by {other:?}"),
    };
    while connected(&mut laptop) {}
    assert!(!rings(&mut laptop, 2));
    let end = Request::EndDevice(v1::EndDevice { device_id: 2 });
    assert!(matches!(laptop.ask(end), Some(Message::DeviceEnded(_))));
    assert_eq!(laptop.refusal(ring(2)).reason(), Reason::InvalidArgument, "it has ended");
}

#[test]
fn rings_are_limited_by_account() {
    let server = Ternd::start(2);
    let [first, second] = [(); 2].map(|()| register(&server, "+15550001"));
    let [mut first, mut second] =
        [first, second].map(|session| Raw::logged_in(&server, &session.access_token));
    let rung =
        (1..=20).take_while(|_| matches!(until_answered(&mut first, ring(2)).1, Message::DeviceRung(_)));
    assert_eq!(rung.count(), 10);
    let refused = second.refusal(ring(1));
    assert_eq!(refused.reason(), Reason::RateLimited, "all its devices together");
    assert!(refused.retry_after_ms > 0);
}

#[test]
fn an_access_token_ends_after_its_time() {
    let arguments = vec!["--limit".to_owned(), "access_token_valid_ms=1000".to_owned()];
    let server = Ternd::start_with(TerndOptions { arguments, ..TerndOptions::default() });
    let session = register(&server, "+15550001");
    let mut raw = Raw::welcomed(&server);
    assert!(matches!(raw.ask(login(&session.access_token)), Some(Message::LoggedIn(_))));
    // Until the server refuses it: that it does is what is tested.
    loop {
        let mut raw = Raw::welcomed(&server);
        match raw.ask(login(&session.access_token)) {
            Some(Message::LoggedIn(_)) => {}
            Some(Message::Refused(refused)) => {
                assert_eq!(refused.reason(), Reason::TokenExpired);
                break;
            }
            other => panic!("Login was answered by {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_does_not_notice_that_its_tokens_are_exchanged() {
    // Each token is about to end when it is made, so every connection exchanges it first.
    let arguments = vec!["--limit".to_owned(), "access_token_valid_ms=5000".to_owned()];
    let mut server = Ternd::start_with(TerndOptions { arguments, ..TerndOptions::default() });
    let (mut ann, bob) = people::pair(&server).await;
    for round in 1..=5u64 {
        tokio::task::block_in_place(|| server.kill_and_restart());
        let sent = bob.client.send(ann.id(), format!("round {round}")).await.expect("durable");
        assert_eq!(sent.seq, round);
        assert_eq!(next_message(&mut ann.events).await.seq, round);
        ann = Person::return_with(ann.leave().await).await;
        until(&mut ann.events, |event| matches!(event, Event::CaughtUp).then_some(())).await;
    }
}
