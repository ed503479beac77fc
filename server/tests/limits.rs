//! What an account may do how often, and how much may wait for one who is away. Neither another connection nor another device renews
//! a limit, and what is said of the wait is true.

use std::time::{Duration, Instant};

use serde_json::json;
use tern_proto::v1::{self, Reason, client_frame::Request, lookup::By, server_frame::Message};
use tern_testkit::{Raw, Ternd, TerndOptions, TestUser, Tls};

fn limited(limits: &[&str]) -> Ternd {
    let arguments = limits.iter().flat_map(|limit| ["--limit".to_owned(), (*limit).to_owned()]).collect();
    Ternd::start_with(TerndOptions { cores: 3, arguments, ..TerndOptions::default() })
}

fn message(chat: u64, client_id: u64, bytes: usize) -> Request {
    let body = vec![b'x'; bytes].into();
    Request::Send(v1::Send { chat, client_id, body, kind: v1::Kind::Text.into(), ..Default::default() })
}

fn is_sent(answer: &Option<Message>) -> bool {
    match answer {
        Some(Message::Sent(_)) => true,
        Some(Message::Refused(_)) => false,
        other => panic!("Send was answered by {other:?}"),
    }
}

/// S1: a reconnect renewed it: 1,080 phones in a tenth of a second.
#[test]
fn lookups_are_the_accounts_and_no_connection_or_device_renews_them() {
    let server = limited(&["lookups_per_minute_max=5"]);
    let users = server.provision(2);
    let lookup = || Request::Lookup(v1::Lookup { by: Some(By::Phone(users[1].phone.clone())), group: 0 });
    let mut raw = Raw::logged_in(&server, &users[0].token);
    for _ in 0..5 {
        assert!(matches!(raw.ask(lookup()), Some(Message::Person(_))));
    }
    let refused = raw.refusal(lookup());
    assert_eq!(refused.reason(), Reason::RateLimited);
    assert!((1..=12_000).contains(&refused.retry_after_ms), "one in twelve seconds: {refused:?}");
    let again = Raw::logged_in(&server, &users[0].token).refusal(lookup());
    assert_eq!(again.reason(), Reason::RateLimited);
    let other_device = server.provision(1).remove(0);
    assert_eq!(other_device.id, users[0].id);
    let mut other = Raw::logged_in(&server, &other_device.token);
    assert_eq!(other.refusal(lookup()).reason(), Reason::RateLimited);
    let mut somebody_else = Raw::logged_in(&server, &users[1].token);
    assert!(matches!(somebody_else.ask(lookup()), Some(Message::Person(_))));
}

/// S2: there was no limit: 150 MB/s.
#[test]
fn sends_are_the_accounts_and_the_wait_is_true() {
    let server = limited(&["sends_per_minute_max=60", "sends_burst=10"]);
    let users = server.provision(2);
    let begun = Instant::now();
    let mut raw = Raw::logged_in(&server, &users[0].token);
    let mut taken = (1..=30).filter(|number| is_sent(&raw.ask(message(users[1].id, *number, 1)))).count();
    let refused = raw.refusal(message(users[1].id, 40, 1));
    assert_eq!(refused.reason(), Reason::RateLimited);
    let second = server.provision(1).remove(0);
    for token in [&users[0].token, &second.token] {
        let mut again = Raw::logged_in(&server, token);
        taken += usize::from(is_sent(&again.ask(message(users[1].id, 50, 1))));
    }
    assert!(taken as u64 <= 11 + begun.elapsed().as_secs(), "{taken} were taken");
    let mut raw = Raw::logged_in(&server, &users[0].token);
    let wait_ms = loop {
        match raw.ask(message(users[1].id, 60, 1)) {
            Some(Message::Refused(refused)) => break refused.retry_after_ms,
            other => assert!(is_sent(&other)),
        }
    };
    assert!(wait_ms > 0 && wait_ms <= 1000, "one a second: {wait_ms}");
    std::thread::sleep(Duration::from_millis(u64::from(wait_ms)));
    assert!(is_sent(&raw.ask(message(users[1].id, 60, 1))), "it was worth waiting");
}

#[test]
fn strangers_are_counted_and_those_who_have_written_are_not() {
    let server = limited(&["strangers_per_hour_max=3"]);
    let users = server.provision(8);
    let mut ann = Raw::logged_in(&server, &users[0].token);
    let mut greeter = Raw::logged_in(&server, &users[7].token);
    assert!(is_sent(&greeter.ask(message(users[0].id, 1, 5))));
    // Pipelined to each: what follows the first keeps its order behind it.
    for user in &users[1..4] {
        let ids: Vec<u64> = (1..=5).map(|number| ann.send(message(user.id, number, 5))).collect();
        for (seq, id) in (1..).zip(ids) {
            match ann.response(id) {
                Some(Message::Sent(sent)) => assert_eq!(sent.seq, seq),
                other => panic!("expected Sent, got {other:?}"),
            }
        }
    }
    let refused = ann.refusal(message(users[4].id, 1, 5));
    assert_eq!(refused.reason(), Reason::RateLimited);
    assert!((1..=1_200_000).contains(&refused.retry_after_ms), "one in twenty minutes: {refused:?}");
    assert!(is_sent(&ann.ask(message(users[7].id, 1, 5))), "who has written is no stranger");
    assert!(is_sent(&ann.ask(message(users[1].id, 6, 5))), "nor is one who was written to before");
    let mut again = Raw::logged_in(&server, &server.provision(1)[0].token);
    assert_eq!(again.refusal(message(users[5].id, 1, 5)).reason(), Reason::RateLimited);
    assert!(is_sent(&again.ask(message(users[0].id, 1, 5))), "a note to oneself");
}

/// A connection of a client at this address behind a balancer, with `Hello` said; or how long it is to wait.
fn from_address(server: &Ternd, last: u8) -> Result<Raw, u32> {
    let tls = Tls::new(&server.ca_file(), &[tern_wire::tls::ALPN]);
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend([0x21, 0x11, 0, 12, 192, 0, 2, last, 10, 0, 0, 1, 0x12, 0x34, 0x1c, 0x03]);
    let mut raw = Raw::connect_behind(server.address(), &tls, &bytes).expect("a TLS connection");
    match raw.ask(Request::Hello(v1::Hello { version_min: 1, version_max: 1, ..v1::Hello::default() })) {
        Some(Message::Welcome(_)) => Ok(raw),
        Some(Message::Refused(refused)) if refused.reason() == Reason::RateLimited => {
            Err(refused.retry_after_ms)
        }
        other => panic!("Hello was answered by {other:?}"),
    }
}

/// So many pings, one after the other. Gives how many were answered, and what was said of the wait.
fn pings(raw: &mut Raw, times: u64) -> (u64, Option<u32>) {
    let ids: Vec<u64> = (0..times).map(|_| raw.send(Request::Ping(v1::Ping {}))).collect();
    let (mut answered, mut wait_ms) = (0, None);
    for id in ids {
        match raw.response(id) {
            Some(Message::Pong(_)) => answered += 1,
            Some(Message::Refused(refused)) => {
                assert_eq!(refused.reason(), Reason::RateLimited);
                wait_ms = Some(refused.retry_after_ms);
            }
            other => panic!("a ping was answered by {other:?}"),
        }
    }
    (answered, wait_ms)
}

#[test]
fn requests_of_an_address_are_counted_on_all_cores_and_no_connection_renews_them() {
    let limits = ["address_requests_per_minute_max=60", "address_requests_burst=64"];
    let mut arguments = vec!["--proxy-protocol-from".to_owned(), "127.0.0.0/8".to_owned()];
    arguments.extend(limits.iter().flat_map(|limit| ["--limit".to_owned(), (*limit).to_owned()]));
    let server = Ternd::start_with(TerndOptions { cores: 3, arguments, ..TerndOptions::default() });
    let users = server.provision(6);
    let begun = Instant::now();
    let (mut taken, mut connections, mut wait_ms) = (0, Vec::new(), None);
    // Users of all cores: each connection goes to its own.
    'all: for user in users.iter().cycle().take(60) {
        let Ok(mut raw) = from_address(&server, 1) else { break };
        taken += 1;
        let login = v1::Login { access_token: user.token.clone() };
        match raw.ask(Request::Login(login)) {
            Some(Message::LoggedIn(_)) => taken += 1,
            Some(Message::Refused(refused)) if refused.reason() == Reason::RateLimited => break 'all,
            other => panic!("Login was answered by {other:?}"),
        }
        let (answered, refused) = pings(&mut raw, 3);
        taken += answered;
        wait_ms = wait_ms.or(refused);
        connections.push(raw);
    }
    assert!(connections.len() >= 6, "the burst lets some come: {}", connections.len());
    // A retry is what a client does that is told to wait and does not.
    for _ in 0..20 {
        taken += u64::from(from_address(&server, 1).is_ok());
    }
    let last = connections.last_mut().expect("some came");
    let (answered, refused) = pings(last, 70);
    taken += answered;
    let wait_ms = refused.or(wait_ms).expect("seventy are more than there are");
    assert!((1..=1_000).contains(&wait_ms), "one a second: {wait_ms}");
    let given = 64 + begun.elapsed().as_secs() + 1;
    assert!(taken <= given, "{taken} requests of {given} were taken up");
    let mut other = from_address(&server, 2).expect("another address has asked for nothing");
    let login = v1::Login { access_token: users[0].token.clone() };
    assert!(matches!(other.ask(Request::Login(login)), Some(Message::LoggedIn(_))));
    assert_eq!(pings(&mut other, 40), (40, None));
}

#[test]
fn the_same_text_to_many_strangers_is_held_back_and_told_to_operators_without_it() {
    let server = limited(&["same_text_per_hour_max=3"]);
    let users = server.provision(8);
    let say = |raw: &mut Raw, to: &TestUser, text: &str| {
        let (chat, body) = (to.id, text.to_owned().into());
        raw.ask(Request::Send(v1::Send { chat, client_id: to.id % 1_000_003, body, ..v1::Send::default() }))
    };
    let mut ann = Raw::logged_in(&server, &users[0].token);
    for user in &users[1..4] {
        assert!(is_sent(&say(&mut ann, user, "buy this")));
    }
    let reports = || server.admin(&json!({ "ask": "reports", "open": true }));
    assert_eq!(reports().len(), 1, "three are no matter");
    // No other device or connection renews it; other texts go.
    let session = Raw::registered(&server, &users[0].phone, "");
    let second = Raw::logged_in(&server, &session.access_token);
    for mut raw in [Raw::logged_in(&server, &users[0].token), second] {
        match say(&mut raw, &users[4], "buy this") {
            Some(Message::Refused(refused)) => {
                assert_eq!(refused.reason(), Reason::RateLimited);
                assert!((1..=60_000).contains(&refused.retry_after_ms), "a minute at first: {refused:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    let mut ann = Raw::logged_in(&server, &users[0].token);
    assert!(is_sent(&say(&mut ann, &users[5], "shall we meet?")));
    let mut bob = Raw::logged_in(&server, &users[1].token);
    assert!(is_sent(&say(&mut bob, &users[6], "buy this")), "others may");
    let told = loop {
        match reports() {
            told if told.len() > 1 => break told,
            _ => std::thread::yield_now(),
        }
    };
    assert_eq!(told.len(), 2, "once, and the end: {told:?}");
    let flag = &told[0]["ok"];
    let expected = (&flag["user_id"], &flag["category"], &flag["strangers"], &flag["messages"]);
    assert_eq!(expected, (&users[0].id.into(), &"same_text".into(), &3.into(), &0.into()));
    let shown = server.admin(&json!({ "ask": "report", "id": flag["id"] })).remove(0);
    assert!(shown["ok"].is_object() && !shown.to_string().contains("buy this"), "{shown}");
}

#[test]
fn groups_of_an_account_are_counted_on_all_its_devices_and_those_that_are_not_made_are_not() {
    let server = limited(&["groups_per_day_max=2"]);
    let users = server.provision(3);
    let make = |client_id, members: &[u64]| {
        let group =
            v1::GroupMade { name: "us".into(), members: members.to_vec(), ..v1::GroupMade::default() };
        Request::CreateGroup(v1::CreateGroup { client_id, group: Some(group) })
    };
    let mut ann = Raw::logged_in(&server, &users[0].token);
    assert_eq!(ann.refusal(make(1, &[users[1].id, 12345])).reason(), Reason::NotAllowed);
    let mut made = Vec::new();
    for client_id in [2, 3] {
        match ann.ask(make(client_id, &[users[1].id])) {
            Some(Message::GroupCreated(created)) => made.push(created.chat),
            other => panic!("{other:?}"),
        }
    }
    let refused = ann.refusal(make(4, &[users[1].id]));
    assert_eq!(refused.reason(), Reason::RateLimited);
    assert!((1..=43_200_000).contains(&refused.retry_after_ms), "one in twelve hours: {refused:?}");
    // Neither another device renews it nor a new connection, on which a retry makes no other group.
    let session = Raw::registered(&server, &users[0].phone, "");
    let mut second = Raw::logged_in(&server, &session.access_token);
    assert_eq!(second.refusal(make(1, &[])).reason(), Reason::RateLimited);
    let mut again = Raw::logged_in(&server, &users[0].token);
    assert_eq!(again.refusal(make(5, &[])).reason(), Reason::RateLimited);
    match again.ask(make(3, &[users[1].id])) {
        Some(Message::GroupCreated(created)) => assert_eq!(Some(&created.chat), made.get(1)),
        other => panic!("{other:?}"),
    }
    let mut other = Raw::logged_in(&server, &users[1].token);
    assert!(matches!(other.ask(make(1, &[users[0].id])), Some(Message::GroupCreated(_))), "others may");
}

/// S2: one account filled the disk for everybody, with messages to one who was away.
#[test]
fn what_waits_for_one_who_is_away_has_an_end_and_is_taken_again_when_it_was_fetched() {
    const KIB: usize = 1024;
    let mut server = limited(&["waiting_bytes_max=1000000"]);
    let users = server.provision(3);
    let (ann, bob, carol) = (&users[0], &users[1], &users[2]);
    let fill = |raw: &mut Raw, from: u64| {
        (from..from + 100).take_while(|number| is_sent(&raw.ask(message(bob.id, *number, 50 * KIB)))).count()
    };
    let mut raw = Raw::logged_in(&server, &ann.token);
    let taken = fill(&mut raw, 1);
    assert!((15..=20).contains(&taken), "{taken} of 50 KiB");
    let refused = raw.refusal(message(bob.id, 200, 50 * KIB));
    assert_eq!(refused.reason(), Reason::InboxFull);
    assert!(refused.retry_after_ms > 0);
    // It is the inbox that is full, and not Ann's budget, nor that of one chat.
    assert!(is_sent(&raw.ask(message(carol.id, 1, 50 * KIB))));
    let mut other = Raw::logged_in(&server, &carol.token);
    let more = fill(&mut other, 1);
    assert!(more <= 2, "{more} more from somebody else: a little is free in each chat");
    // It is known after a crash.
    server.kill_and_restart();
    let mut raw = Raw::logged_in(&server, &ann.token);
    assert_eq!(raw.refusal(message(bob.id, 201, 50 * KIB)).reason(), Reason::InboxFull);
    // Bob writes himself meanwhile: that does not wait for him.
    let mut away = Raw::logged_in(&server, &bob.token);
    for number in 1..=30 {
        assert!(is_sent(&away.ask(message(carol.id, number, 50 * KIB))) || number > 15);
    }
    let acknowledge = v1::Acknowledge { chat: ann.id, delivered_upto: taken as u64, read_upto: 0 };
    assert!(matches!(away.ask(Request::Acknowledge(acknowledge)), Some(Message::Acknowledged(_))));
    let again = fill(&mut raw, 300);
    assert!(again >= 15, "{again} after it was fetched");
}

/// However far the acknowledgements are behind, a chat that is acknowledged is not taken for one that waits.
#[test]
fn a_busy_chat_that_is_acknowledged_late_is_never_full() {
    let server = limited(&["waiting_bytes_max=2000000", "tail_entries_max=4"]);
    let users = server.provision(2);
    let mut ann = Raw::logged_in(&server, &users[0].token);
    let mut bob = Raw::logged_in(&server, &users[1].token);
    for number in 1..=2000u64 {
        assert!(is_sent(&ann.ask(message(users[1].id, number, 4096))), "message {number}");
        if number % 50 == 0 && number > 100 {
            let acknowledge =
                v1::Acknowledge { chat: users[0].id, delivered_upto: number - 100, read_upto: 0 };
            assert!(matches!(bob.ask(Request::Acknowledge(acknowledge)), Some(Message::Acknowledged(_))));
        }
    }
}
