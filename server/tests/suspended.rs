//! Accounts that operators suspend, against a real server of several cores: nobody is let in, nothing is sent, nothing is lost; and all is as
//! it was when they are free.

use prost::Message as _;
use serde_json::{Value, json};
use tern_proto::v1::{self, Kind, Reason, client_frame::Request, private::What, server_frame::Message};
use tern_testkit::person::{Person, people};
use tern_testkit::{Raw, Ternd, TerndOptions};

const PRIVATE: u64 = 1 << 43;

fn ask(server: &Ternd, question: &Value) -> Value {
    let answer = server.admin(question).remove(0);
    assert!(answer.get("ok").is_some(), "{question}: {answer}");
    answer["ok"].clone()
}

fn suspend(server: &Ternd, user: u64, for_ms: u64) -> Value {
    let who = user.to_string();
    ask(server, &json!({ "ask": "suspend", "who": who, "reason": "it was tested", "for_ms": for_ms }))
}

fn free(server: &Ternd, user: u64) -> Value {
    ask(server, &json!({ "ask": "free", "who": user.to_string() }))
}

fn refused(answer: Option<Message>) -> v1::Refused {
    match answer {
        Some(Message::Refused(refused)) => refused,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nobody_is_let_in_by_any_way_and_all_is_there_when_they_are_free() {
    let mut server = Ternd::start(3);
    let [mut ann, bob, cyd] = people(&server);
    let session = Raw::registered(&server, &bob.user.phone, "");
    let seq = ann.say(bob.user.id, "before");
    let mut connection = Raw::logged_in(&server, &session.access_token);
    let link = match connection.ask(Request::NewLink(v1::NewLink {})) {
        Some(Message::LinkCode(code)) => code,
        other => panic!("{other:?}"),
    };
    suspend(&server, bob.user.id, 0);
    assert_eq!(
        connection.farewell().map(|bye| (bye.reason(), bye.reconnect_after_ms)),
        Some((Reason::Suspended, 0))
    );
    for round in ["at once", "after a start"] {
        for token in [&session.access_token, &bob.user.token] {
            assert_eq!(refused(Some(Raw::login(&server, token))).reason(), Reason::Suspended, "{round}");
        }
        let refresh = || {
            let (refresh_token, nonce) = (session.refresh_token.clone(), vec![7; 16].into());
            Request::Refresh(v1::Refresh { refresh_token, nonce })
        };
        assert_eq!(refused(Raw::welcomed(&server).ask(refresh())).reason(), Reason::Suspended);
        let mut registering = Raw::welcomed(&server);
        let registration = registering.register(&bob.user.phone).registration;
        let verify = v1::Verify {
            phone: bob.user.phone.clone(),
            code: server.code_of(&bob.user.phone),
            registration,
            ..v1::Verify::default()
        };
        assert_eq!(refused(registering.ask(Request::Verify(verify))).reason(), Reason::Suspended);
        if round == "at once" {
            let (user_id, secret) = (bob.user.id, link.secret.clone());
            let linked = v1::Link { user_id, secret, ..v1::Link::default() };
            assert_eq!(
                refused(Raw::welcomed(&server).ask(Request::Link(linked))).reason(),
                Reason::Suspended
            );
            server.kill_and_restart();
            let sent = ann.sent;
            ann = Person::new(&server, ann.user.clone());
            ann.sent = sent;
        }
    }
    // Others write to them as before, and others' accounts are as before.
    let waits = ann.say(bob.user.id, "meanwhile");
    assert_eq!(waits, seq + 1);
    assert!(matches!(Raw::login(&server, &cyd.user.token), Message::LoggedIn(_)));
    let view = ask(&server, &json!({ "ask": "user", "who": bob.user.id.to_string() }));
    assert_eq!(view["suspended"]["reason"], "it was tested");
    assert_eq!(view["suspended"]["until_ms"], 0);

    free(&server, bob.user.id);
    let again = server.admin(&json!({ "ask": "free", "who": bob.user.id.to_string() })).remove(0);
    assert_eq!(again["error"], "the account is not suspended");
    let refresh_token = session.refresh_token.clone();
    let refresh = Request::Refresh(v1::Refresh { refresh_token, nonce: vec![8; 16].into() });
    let renewed = match Raw::welcomed(&server).ask(refresh) {
        Some(Message::Session(session)) => session,
        other => panic!("nothing was used up: {other:?}"),
    };
    assert!(matches!(Raw::login(&server, &renewed.access_token), Message::LoggedIn(_)));
    let mut bob = Person::new(&server, bob.user.clone());
    bob.hears(ann.user.id, waits);
    assert!(bob.say(ann.user.id, "back") > waits);
    let audit = std::fs::read_to_string(server.data_dir().join("audit.jsonl")).expect("it is there");
    let acts: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of_bob = acts.iter().filter(|act| act["what"]["user"] == bob.user.id);
    let of_bob: Vec<_> = of_bob.map(|act| (act["act"].as_str(), act["outcome"].as_str())).collect();
    let not = Some("the account is not suspended");
    let done = Some("done");
    let wanted = [(Some("suspend a user"), done), (Some("free a user"), done), (Some("free a user"), not)];
    assert_eq!(of_bob, wanted);
}

#[test]
fn a_suspension_ends_by_itself_and_what_was_scheduled_waits_for_that() {
    let server = Ternd::start(3);
    let [ann, mut bob, _] = people(&server);
    let view = |server: &Ternd| ask(server, &json!({ "ask": "user", "who": ann.user.id.to_string() }));
    let now_ms =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
    let mut connection = Raw::logged_in(&server, &ann.user.token);
    let send = v1::Send { chat: bob.user.id, body: "later".into(), ..v1::Send::default() };
    let scheduled = v1::Scheduled { at_ms: now_ms as u64 + 1_000, send: Some(send) };
    let body = v1::Private { what: Some(What::Scheduled(scheduled)) }.encode_to_vec().into();
    let private =
        v1::Send { chat: PRIVATE, client_id: 77, kind: Kind::Private.into(), body, ..v1::Send::default() };
    assert!(matches!(connection.ask(Request::Send(private)), Some(Message::Sent(_))));
    let until_ms = suspend(&server, ann.user.id, 4_000)["until_ms"].as_u64().expect("a time");
    let bye = connection.farewell().expect("it says why");
    assert_eq!(bye.reason(), Reason::Suspended);
    assert!((1..=4_000).contains(&bye.reconnect_after_ms), "{bye:?}");
    let wait = refused(Some(Raw::login(&server, &ann.user.token)));
    assert!((1..=4_000).contains(&wait.retry_after_ms), "{wait:?}");
    // It is due long before, and comes when its author is free.
    bob.hears(ann.user.id, 1);
    let entry = bob.entries[&ann.user.id].first().expect("it has come").clone();
    assert_eq!(&entry.body[..], b"later");
    assert!(entry.time_ms >= until_ms, "{} is before {until_ms}", entry.time_ms);
    assert!(matches!(Raw::login(&server, &ann.user.token), Message::LoggedIn(_)));
    assert!(view(&server)["suspended"].is_null());
}

#[test]
fn one_who_is_suspended_is_not_here() {
    let arguments = ["--limit", "presence_grace_ms=0"].map(str::to_owned).to_vec();
    let server = Ternd::start_with(TerndOptions { cores: 3, arguments, ..TerndOptions::default() });
    let [mut ann, bob, _] = people(&server);
    let chat = ann.say(bob.user.id, "hello");
    assert!(chat > 0);
    let mut bob_here = Raw::logged_in(&server, &bob.user.token);
    let answer = bob_here.ask(Request::Send(v1::Send {
        chat: ann.user.id,
        client_id: 1,
        body: "hello".into(),
        ..v1::Send::default()
    }));
    assert!(matches!(answer, Some(Message::Sent(_))));
    let mut looker = Raw::logged_in(&server, &ann.user.token);
    let shows = v1::Subscribe { user_ids: vec![bob.user.id], groups: vec![], away: false };
    let id = looker.send(Request::Subscribe(shows));
    let mut is_here = None;
    let mut answered = false;
    let mut hears = |is_here: &mut Option<bool>, answered: &mut bool| {
        let frame = looker.receive().expect("it stands");
        *answered |= frame.id == id;
        if let Some(Message::Presence(presence)) = frame.message {
            *is_here = presence.online;
        }
    };
    while !(answered && is_here == Some(true)) {
        hears(&mut is_here, &mut answered);
    }
    suspend(&server, bob.user.id, 0);
    while is_here != Some(false) {
        hears(&mut is_here, &mut answered);
    }
}

#[test]
fn who_can_not_be_suspended_is_said() {
    let server = Ternd::start(2);
    let users = server.provision(1);
    let suspend = |who: &str, reason: &str| {
        server.admin(&json!({ "ask": "suspend", "who": who, "reason": reason })).remove(0)
    };
    assert!(suspend("12345", "spam")["error"].as_str().is_some_and(|why| why.contains("no such account")));
    let id = users[0].id.to_string();
    for reason in ["", "  ", &"x".repeat(257)] {
        assert!(suspend(&id, reason)["error"].as_str().is_some_and(|why| why.contains("a reason is needed")));
    }
    assert!(matches!(Raw::login(&server, &users[0].token), Message::LoggedIn(_)), "nothing has changed");
}
