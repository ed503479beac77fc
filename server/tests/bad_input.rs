//! What peers may not do: each thing has its reason, harms nobody else, and loses nothing.

#![allow(clippy::print_stdout, reason = "a failed run is repeated with the seed that it printed")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;
use tern_proto::v1::{self, Reason, client_frame::Request, server_frame::Message};
use tern_testkit::{Raw, Ternd, TerndOptions, Tls};

fn limited(limits: &[&str]) -> Ternd {
    let arguments = limits.iter().flat_map(|limit| ["--limit".to_owned(), (*limit).to_owned()]).collect();
    Ternd::start_with(TerndOptions { arguments, ..TerndOptions::default() })
}

fn text(chat: u64, client_id: u64, body: &str) -> Request {
    Request::Send(v1::Send {
        chat,
        client_id,
        body: body.to_owned().into(),
        kind: v1::Kind::Text.into(),
        ..Default::default()
    })
}

fn sent(answer: Option<Message>) -> v1::Sent {
    match answer {
        Some(Message::Sent(sent)) => sent,
        other => panic!("expected Sent, got {other:?}"),
    }
}

fn ping() -> Request {
    Request::Ping(v1::Ping {})
}

fn hello() -> Request {
    Request::Hello(v1::Hello { version_min: 1, version_max: 1, ..v1::Hello::default() })
}

/// The connection is ended with this reason.
fn ends(raw: &mut Raw, reason: Reason) {
    let farewell = raw.farewell().unwrap_or_else(|| panic!("no GoAway, but {reason:?} was expected"));
    assert_eq!(farewell.reason(), reason, "{farewell:?}");
    assert!(!farewell.detail.is_empty(), "a developer is told why");
}

#[test]
fn a_frame_that_is_too_long_ends_the_connection_at_its_prefix() {
    let server = Ternd::start(2);
    let user = server.provision(1).remove(0);
    // 4 MiB are announced, nothing of it has come.
    let announced = [0x80, 0x80, 0x80, 0x02];
    let mut early = Raw::welcomed(&server);
    early.send_bytes(&announced);
    ends(&mut early, Reason::FrameTooLarge);
    let mut late = Raw::logged_in(&server, &user.token);
    late.send_bytes(&announced);
    ends(&mut late, Reason::FrameTooLarge);
    // What is fine after a login is too long before it.
    let mut early = Raw::welcomed(&server);
    early.send_bytes(&[0x88, 0x27]);
    ends(&mut early, Reason::FrameTooLarge);
    let mut endless = Raw::logged_in(&server, &user.token);
    endless.send_bytes(&[0xff; 12]);
    ends(&mut endless, Reason::FrameTooLarge);
}

#[test]
fn bytes_that_are_no_frame_end_the_connection() {
    let server = Ternd::start(2);
    let user = server.provision(1).remove(0);
    for garbage in [&[5, 0xff, 0xff, 0xff, 0xff, 0xff][..], &[3, 0x08, 0x80, 0x80], &[2, 0x12, 0x7f]] {
        let mut raw = Raw::logged_in(&server, &user.token);
        raw.send_bytes(garbage);
        ends(&mut raw, Reason::Malformed);
    }
    // A request that is to be answered needs an id.
    let mut raw = Raw::logged_in(&server, &user.token);
    raw.send_as(0, ping());
    ends(&mut raw, Reason::Malformed);
}

#[test]
fn random_bytes_never_harm_the_others() {
    let server = Ternd::start(2);
    let both = server.provision(2);
    let mut bystander = Raw::logged_in(&server, &both[1].token);
    let seed = std::env::var("TERN_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    println!("repeat with TERN_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..100 {
        let mut raw =
            if rng.bool() { Raw::welcomed(&server) } else { Raw::logged_in(&server, &both[0].token) };
        let mut bytes: Vec<u8> = (0..rng.usize(1..400)).map(|_| rng.u8(..)).collect();
        if rng.bool() {
            // A plausible length, so that what is inside is looked at.
            bytes[0] = bytes.len().min(127) as u8 - 1;
        }
        raw.send_bytes(&bytes);
        assert!(bystander.answers());
    }
    // The same below TLS.
    for _ in 0..50 {
        let mut socket = TcpStream::connect(server.address()).expect("connected");
        let bytes: Vec<u8> = (0..rng.usize(1..2000)).map(|_| rng.u8(..)).collect();
        socket.write_all(&bytes).expect("written");
        assert!(bystander.answers());
    }
}

#[test]
fn half_a_frame_and_an_abrupt_end_leave_nothing_behind() {
    let server = Ternd::start(2);
    let both = server.provision(2);
    let mut bystander = Raw::logged_in(&server, &both[1].token);
    for _ in 0..20 {
        let mut raw = Raw::logged_in(&server, &both[0].token);
        raw.send_bytes(&[100, 1, 2, 3]);
    }
    let connections = || {
        let status = server.admin(&json!({ "ask": "status" })).remove(0);
        let cores = status["ok"]["cores"].as_array().expect("cores").clone();
        cores.iter().map(|core| core["connections"].as_u64().expect("a number")).sum::<u64>()
    };
    // Each answered ping is another chance for the cores to notice.
    while connections() > 1 {
        assert!(bystander.answers());
    }
}

#[test]
fn the_order_of_opening_is_kept() {
    let server = Ternd::start(2);
    let user = server.provision(1).remove(0);
    let mut raw = Raw::connect(&server);
    raw.send(ping());
    ends(&mut raw, Reason::Unexpected);
    let mut raw = Raw::welcomed(&server);
    raw.send(hello());
    ends(&mut raw, Reason::Unexpected);
    let mut raw = Raw::welcomed(&server);
    assert_eq!(raw.refusal(text(user.id, 1, "hello")).reason(), Reason::Unauthenticated);
    assert_eq!(raw.refusal(Request::Resume(v1::Resume::default())).reason(), Reason::Unauthenticated);
    assert!(raw.answers(), "a refusal does not end the connection");
    let mut raw = Raw::logged_in(&server, &user.token);
    let again = Request::Login(v1::Login { access_token: user.token.clone() });
    assert_eq!(raw.refusal(again).reason(), Reason::Unexpected);
    assert!(raw.answers());
}

#[test]
fn a_version_that_is_not_spoken_is_refused_with_those_that_are() {
    let server = Ternd::start(1);
    let mut raw = Raw::connect(&server);
    let hello = v1::Hello { version_min: 7, version_max: 9, ..v1::Hello::default() };
    let refused = raw.refusal(Request::Hello(hello));
    assert_eq!(refused.reason(), Reason::VersionUnsupported);
    assert_eq!((refused.version_min, refused.version_max), (1, 1));
    assert!(raw.receive().is_none(), "and the connection closes");
}

#[test]
fn a_request_of_a_later_version_is_refused_and_the_connection_goes_on() {
    let server = Ternd::start(2);
    let user = server.provision(1).remove(0);
    let mut raw = Raw::logged_in(&server, &user.token);
    // Id 77, and field 1000 with three bytes in it.
    raw.send_bytes(&[8, 0x08, 77, 0xc2, 0x3e, 3, 1, 2, 3]);
    match raw.response(77) {
        Some(Message::Refused(refused)) => assert_eq!(refused.reason(), Reason::Unimplemented),
        other => panic!("expected a refusal, got {other:?}"),
    }
    assert!(raw.answers());
}

#[test]
fn only_tls_1_3_with_the_right_alpn_is_spoken() {
    let server = Ternd::start(2);
    for alpn in [&[&b"h2"[..]][..], &[]] {
        // A client that offers none takes its own side of the handshake for complete.
        let refused = Raw::connect_with(server.address(), &Tls::new(&server.ca_file(), alpn));
        let error = refused.map_or_else(|error| error, |mut raw| raw.end()).to_string();
        assert!(error.contains("NoApplicationProtocol"), "{error}");
    }
    let refused = Raw::connect_with(server.address(), &Tls::tls12(&server.ca_file()));
    let error = refused.expect_err("TLS 1.2 is refused").to_string();
    assert!(error.contains("ProtocolVersion"), "{error}");
    let both = Tls::new(&server.ca_file(), &[b"h2", b"tern/1"]);
    Raw::connect_with(server.address(), &both).expect("tern/1 is chosen among several");
}

#[test]
fn plain_text_gets_an_alert_and_a_closed_connection() {
    let server = Ternd::start(2);
    let mut socket = TcpStream::connect(server.address()).expect("connected");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
    socket.write_all(b"GET / HTTP/1.1\r\nHost: tern\r\n\r\n").expect("written");
    let mut answer = Vec::new();
    match socket.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    assert!(answer.is_empty() || answer[0] == 21, "a TLS alert or nothing: {answer:?}");
    Raw::welcomed(&server);
}

#[test]
fn whoever_dawdles_is_shown_out_at_every_step() {
    let server = limited(&["handshake_timeout_ms=200", "login_timeout_ms=500", "idle_timeout_ms=1000"]);
    let user = server.provision(1).remove(0);
    // Silence, and a handshake that trickles.
    for first in [&b""[..], &[0x16, 0x03, 0x01, 0x01, 0x00]] {
        let mut socket = TcpStream::connect(server.address()).expect("connected");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
        socket.write_all(first).expect("written");
        let mut answer = Vec::new();
        match socket.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    ends(&mut Raw::connect(&server), Reason::Unauthenticated);
    ends(&mut Raw::welcomed(&server), Reason::Unauthenticated);
    ends(&mut Raw::logged_in(&server, &user.token), Reason::Idle);
}

#[test]
fn a_deleted_user_is_shown_out_and_stays_out() {
    let server = Ternd::start(4);
    let both = server.provision(2);
    let mut there = Raw::logged_in(&server, &both[0].token);
    let mut other = Raw::logged_in(&server, &both[1].token);
    sent(there.ask(text(both[1].id, 1, "before")));
    server.admin(&json!({ "ask": "delete_user", "phone": both[0].phone }));
    ends(&mut there, Reason::SessionRevoked);
    let login = Request::Login(v1::Login { access_token: both[0].token.clone() });
    assert_eq!(Raw::welcomed(&server).refusal(login).reason(), Reason::SessionRevoked);
    // The owner of the chat is told by the owner of the user: what crosses that on its way is still taken.
    let mut crossed = 0;
    let refusal = loop {
        match other.ask(text(both[0].id, 1 + crossed, "after")) {
            Some(Message::Sent(_)) if crossed < 100 => crossed += 1,
            Some(Message::Refused(refusal)) => break refusal,
            answer => panic!("expected a refusal, got {answer:?}"),
        }
    };
    assert_eq!(refusal.reason(), Reason::UnknownUser);
    let again =
        server.admin(&json!({ "ask": "provision", "count": 1, "first": both[0].phone, "name": "next" }));
    assert_ne!(again[0]["ok"]["user_id"], both[0].id, "whoever has the phone next is somebody else");
    let history = v1::History { chat: both[0].id, from: 0, forwards: false, limit: 0 };
    match other.ask(Request::History(history)) {
        Some(Message::HistoryPage(page)) => {
            assert_eq!(page.entries.len() as u64, 1 + crossed, "what they had said is still there")
        }
        other => panic!("expected the chat, got {other:?}"),
    }
}

#[test]
fn tokens_that_are_none_are_refused() {
    let server = Ternd::start(2);
    let user = server.provision(1).remove(0);
    let mut forged = user.token.clone().into_bytes();
    let middle = forged.len() / 2;
    forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).expect("text");
    let long = "x".repeat(1025);
    for token in ["", "nonsense", "a.b.c", &forged, &long] {
        let login = Request::Login(v1::Login { access_token: token.to_owned() });
        let mut raw = Raw::welcomed(&server);
        assert_eq!(raw.refusal(login).reason(), Reason::TokenInvalid, "{} bytes", token.len());
        assert!(raw.answers());
    }
}

#[test]
fn a_message_that_can_not_be_taken_is_refused_and_takes_no_seq() {
    let server = Ternd::start(4);
    let both = server.provision(2);
    let mut raw = Raw::logged_in(&server, &both[0].token);
    let chat = both[1].id;
    assert_eq!(raw.refusal(text(chat, 1, &"x".repeat(64 * 1024 + 1))).reason(), Reason::BodyTooLarge);
    assert_eq!(raw.refusal(text(chat, 2, "")).reason(), Reason::InvalidArgument);
    assert_eq!(raw.refusal(text(0, 3, "nobody")).reason(), Reason::InvalidArgument);
    assert_eq!(raw.refusal(text(chat ^ 1 << 12, 4, "nobody")).reason(), Reason::UnknownUser);
    let first = sent(raw.ask(text(chat, 5, "one")));
    assert_eq!(first.seq, 1);
    assert_eq!(raw.refusal(text(chat, 5, "another")).reason(), Reason::ClientIdReused);
    assert_eq!(sent(raw.ask(text(chat, 5, "one"))), first, "the retry itself is answered as before");
    assert_eq!(sent(raw.ask(text(chat, 6, "two"))).seq, 2);
    // The same numbers after they have left the memory of a restarted server.
    let mut server = server;
    server.kill_and_restart();
    let mut raw = Raw::logged_in(&server, &both[0].token);
    assert_eq!(raw.refusal(text(chat, 5, "another")).reason(), Reason::ClientIdReused);
    assert_eq!(sent(raw.ask(text(chat, 5, "one"))), first);
    assert_eq!(sent(raw.ask(text(chat, 7, "three"))).seq, 3);
}

#[test]
fn request_ids_that_are_used_twice_confuse_nobody_but_their_sender() {
    let mut server = Ternd::start(2);
    let both = server.provision(2);
    let mut raw = Raw::logged_in(&server, &both[0].token);
    sent(raw.ask(text(both[1].id, 1, "before")));
    // A log that is not in memory: whether the first message is a retry must be read, and the others wait behind it.
    server.kill_and_restart();
    let mut raw = Raw::logged_in(&server, &both[0].token);
    let mut bytes = Vec::new();
    for client_id in 2..=5 {
        let request = Some(text(both[1].id, client_id, "same"));
        tern_wire::frame::encode(&v1::ClientFrame { id: 100, request }, &mut bytes);
    }
    raw.send_bytes(&bytes);
    let seqs: Vec<_> = (2..=5).map(|_| sent(raw.response(100)).seq).collect();
    assert_eq!(seqs, [2, 3, 4, 5]);
    let mut chat = Raw::logged_in(&server, &both[1].token);
    assert_eq!(sent(chat.ask(text(both[0].id, 1, "after"))).seq, 6);
}

#[test]
fn a_device_that_connects_twice_keeps_the_newer_connection() {
    let server = Ternd::start(4);
    let user = server.provision(1).remove(0);
    let mut older = Raw::logged_in(&server, &user.token);
    let mut newer = Raw::logged_in(&server, &user.token);
    ends(&mut older, Reason::Replaced);
    assert!(newer.answers());
}

#[test]
fn a_flood_of_requests_is_refused_and_not_stored_up() {
    let server = limited(&["requests_in_flight_max=16"]);
    let both = server.provision(2);
    let mut raw = Raw::logged_in(&server, &both[0].token);
    let ids: Vec<_> = (1..=500).map(|number| raw.send(text(both[1].id, number, "flood"))).collect();
    let (mut taken, mut refused) = (0, 0);
    for _ in ids {
        match raw.receive().and_then(|frame| frame.message) {
            Some(Message::Sent(_)) => taken += 1,
            Some(Message::Refused(refusal)) => {
                assert_eq!(refusal.reason(), Reason::Overloaded);
                assert!(refusal.retry_after_ms > 0);
                refused += 1;
            }
            other => panic!("expected an answer, got {other:?}"),
        }
    }
    assert!(taken >= 16, "{taken} taken, {refused} refused");
    assert!(raw.answers());
}

#[test]
fn codes_are_limited_by_phone_and_by_attempt() {
    let server = Ternd::start(2);
    let register = |phone: &str| Request::Register(v1::Register { phone: phone.to_owned() });
    let verify = |code: &str, registration: u64| {
        Request::Verify(v1::Verify {
            phone: "+15550001".to_owned(),
            code: code.to_owned(),
            name: "Ann".to_owned(),
            device_name: "test".to_owned(),
            registration,
            pin: String::new(),
        })
    };
    let mut raw = Raw::welcomed(&server);
    for phone in ["", "15550001", "+1555", "+1555000100000000", "+1555000a", "+05550001"] {
        assert_eq!(raw.refusal(register(phone)).reason(), Reason::InvalidPhone, "{phone:?}");
    }
    let sent: Vec<_> = (0..3).map(|_| raw.register("+15550001").registration).collect();
    let refused = raw.refusal(register("+15550001"));
    assert_eq!(refused.reason(), Reason::RateLimited);
    assert!(refused.retry_after_ms > 50 * 60_000, "an hour's limit says when: {refused:?}");
    let right = server.code_of("+15550001");
    let wrong = if right == "000000" { "000001" } else { "000000" };
    for _ in 0..2 {
        assert_eq!(raw.refusal(verify(wrong, sent[2])).reason(), Reason::CodeWrong);
    }
    assert_eq!(
        raw.refusal(verify(&right, sent[1])).reason(),
        Reason::CodeWrong,
        "each with its own registration"
    );
    for registration in [0, 1] {
        assert_eq!(raw.refusal(verify(&right, registration)).reason(), Reason::CodeExpired, "nobody's");
    }
    let last = raw.refusal(verify(wrong, sent[2])).reason();
    assert!(matches!(last, Reason::CodeWrong | Reason::TooManyAttempts), "{last:?}");
    assert_eq!(
        raw.refusal(verify(&right, sent[2])).reason(),
        Reason::TooManyAttempts,
        "the right one comes too late"
    );
}

#[test]
fn codes_are_limited_by_network_address() {
    let server = limited(&["address_code_requests_per_hour_max=5"]);
    let mut raw = Raw::welcomed(&server);
    for number in 0..5 {
        let register = Request::Register(v1::Register { phone: format!("+1555000{number:04}") });
        assert!(matches!(raw.ask(register), Some(Message::CodeSent(_))));
    }
    let mut another = Raw::welcomed(&server);
    let register = Request::Register(v1::Register { phone: "+15550009999".to_owned() });
    assert_eq!(another.refusal(register).reason(), Reason::RateLimited);
}

#[test]
fn connections_that_come_and_go_never_touch_each_other() {
    let server = Ternd::start(4);
    let users = server.provision(9);
    let mut bystander = Raw::logged_in(&server, &users[8].token);
    std::thread::scope(|scope| {
        for user in &users[..8] {
            scope.spawn(|| {
                for round in 0..40 {
                    let mut raw = Raw::logged_in(&server, &user.token);
                    assert!(
                        raw.answers(),
                        "a new connection has been ended by what was meant for an older one"
                    );
                    match round % 4 {
                        // Ends that the server learns of in different ways: at once, after garbage, with answers unread.
                        0 => {}
                        1 => raw.send_bytes(&[0xff; 8]),
                        2 => (0..50).for_each(|number| {
                            raw.send(text(user.id, number + 1, "unread"));
                        }),
                        _ => drop(Raw::logged_in(&server, &user.token)),
                    }
                }
            });
        }
        for _ in 0..200 {
            assert!(bystander.answers());
        }
    });
}

/// Every request that names somebody or something, with numbers that are nobody's: of groups, of nothing, the largest there are.
#[test]
fn numbers_that_name_nobody_are_refused_and_harm_nobody() {
    let server = limited(&["sends_per_minute_max=0", "lookups_per_minute_max=0"]);
    let session = Raw::registered(&server, "+15550001", "Ann");
    let mut raw = Raw::logged_in(&server, &session.access_token);
    let around = |number: u64| [number.wrapping_sub(1), number, number.wrapping_add(1)];
    let numbers = [0, 1 << 12, 1 << 32, 1 << 42, 1 << 43, 1 << 53, 1 << 63].into_iter().flat_map(around);
    let group = |change| v1::GroupChange { change: Some(change) };
    for (client_id, number) in (1..).zip(numbers) {
        let send = |kind: v1::Kind, body: Vec<u8>, mentions: Vec<u64>| {
            let (body, kind) = (body.into(), kind.into());
            Request::Send(v1::Send { chat: number, client_id, body, kind, mentions, ..Default::default() })
        };
        let by = Some(v1::lookup::By::UserId(number));
        let members = |user_ids| v1::group_change::Change::Added(v1::Members { user_ids });
        let made = v1::GroupMade { name: "g".to_owned(), members: vec![number], ..Default::default() };
        let position = v1::Position { chat: number, upto: number, ..Default::default() };
        let requests = [
            Request::Lookup(v1::Lookup { by: by.clone(), group: 0 }),
            Request::Lookup(v1::Lookup { by: by.clone(), group: number }),
            Request::Lookup(v1::Lookup { by, group: (1 << 42) + 1 }),
            Request::AboutGroup(v1::AboutGroup { chat: number, ..Default::default() }),
            Request::CreateGroup(v1::CreateGroup { client_id, group: Some(made) }),
            send(v1::Kind::Text, b"x".to_vec(), vec![number]),
            send(v1::Kind::Group, prost::Message::encode_to_vec(&group(members(vec![number]))), Vec::new()),
            Request::Acknowledge(v1::Acknowledge { chat: number, delivered_upto: number, read_upto: number }),
            Request::History(v1::History { chat: number, from: number, forwards: true, limit: 1 }),
            Request::Chats(v1::Chats { after: number, limit: 1, known: Vec::new() }),
            Request::EndDevice(v1::EndDevice { device_id: (number as u32).max(2) }),
            Request::RingDevice(v1::RingDevice { device_id: (number as u32).max(2) }),
            Request::Resume(v1::Resume { positions: vec![position], generations: vec![number.max(1)] }),
        ];
        for request in requests {
            let said = format!("{request:?}");
            let id = raw.send(request);
            assert!(raw.response(id).is_some(), "no answer to {said}");
        }
        let link = v1::Link { user_id: number, secret: vec![1; 16].into(), device_name: String::new() };
        let refused = Raw::welcomed(&server).refusal(Request::Link(link)).reason();
        assert!(matches!(refused, Reason::LinkUnknown | Reason::InvalidArgument), "{refused:?}");
    }
    let about = |chat| Request::AboutGroup(v1::AboutGroup { chat, ..Default::default() });
    assert_eq!(raw.refusal(about((1 << 42) + 7)).reason(), Reason::UnknownGroup, "nothing was made");
    assert!(raw.answers(), "the server is well");
}
