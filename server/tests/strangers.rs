//! What strangers may take: little memory each, a bounded number of places, and nobody's time. And what is unsent stops
//! what is read, before a login and after it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tern_proto::v1::{self, Reason, client_frame::Request, server_frame::Message};
use tern_testkit::{Raw, Ternd, TerndOptions, Tls};

/// How long anything may take before the test is taken to hang.
const HANG: Duration = Duration::from_secs(120);

fn with(arguments: &[&str]) -> Ternd {
    let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    Ternd::start_with(TerndOptions { arguments, ..TerndOptions::default() })
}

fn hello() -> Request {
    Request::Hello(v1::Hello { version_min: 1, version_max: 1, ..v1::Hello::default() })
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < HANG, "{what}: not yet");
        thread::sleep(Duration::from_millis(10));
    }
}

fn config(server: &Ternd) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(server.ca_file()).expect("readable") {
        roots.add(certificate.expect("PEM")).expect("a certificate");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![tern_wire::tls::ALPN.to_vec()];
    Arc::new(config)
}

/// A connection whose own kernel takes hardly anything, so that all stays with the server.
fn narrow(address: SocketAddr) -> std::io::Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    sockopt::set_socket_recv_buffer_size(&socket, 2048)?;
    connect(&socket, &address)?;
    Ok(socket.into())
}

/// A connection that sends whatever it can, and reads nothing.
struct Hostile {
    socket: TcpStream,
    tls: ClientConnection,
    /// Sealed, and not yet sent.
    out: Vec<u8>,
    sent: u64,
}

impl Hostile {
    fn new(address: SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<Self> {
        let mut socket = narrow(address)?;
        socket.set_read_timeout(Some(HANG))?;
        let name = "localhost".try_into().expect("a name");
        let mut tls = ClientConnection::new(config.clone(), name).expect("a client");
        while tls.is_handshaking() {
            tls.complete_io(&mut socket)?;
        }
        let mut frame = Vec::new();
        tern_wire::frame::encode(&v1::ClientFrame { id: 1, request: Some(hello()) }, &mut frame);
        tls.writer().write_all(&frame)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, tls, out: Vec::new(), sent: 0 })
    }

    /// Sends until the socket takes no more. Gives whether it lives.
    fn push(&mut self, frames: &[u8]) -> bool {
        loop {
            if self.out.is_empty() {
                self.tls.writer().write_all(frames).expect("buffered");
                while self.tls.wants_write() {
                    self.tls.write_tls(&mut self.out).expect("a Vec takes all");
                }
            }
            match self.socket.write(&self.out) {
                Ok(bytes) => {
                    self.sent += bytes as u64;
                    self.out.drain(..bytes);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
    }
}

/// The process's resident bytes.
fn resident(server: &Ternd) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}

/// What the kernel holds for the server's ends of its connections, by `ss`: (bytes, sockets). `None` without `ss`.
fn in_the_kernel(server: &Ternd) -> Option<(u64, u64)> {
    let filter = format!("sport = :{}", server.address().port());
    let output = Command::new("ss").args(["-tmnH", "state", "connected", &filter]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (mut bytes, mut sockets) = (0, 0);
    for memory in text.split("skmem:(").skip(1) {
        let fields = memory.split(')').next().unwrap_or_default();
        for field in fields.split(',') {
            // Received, to be sent, reserved, for options, in the backlog: all but the bounds.
            let digits = field.trim_start_matches(|letter: char| letter.is_ascii_alphabetic());
            let name = &field[..field.len() - digits.len()];
            if ["r", "t", "f", "w", "o", "bl"].contains(&name) {
                // What is to be sent is within what is queued for it.
                bytes += if name == "t" { 0 } else { digits.parse::<u64>().unwrap_or(0) };
            }
        }
        sockets += 1;
    }
    Some((bytes, sockets))
}

/// 500 connections before a login, of three kinds: those that ask on and never read, half frames, slow handshakes.
#[test]
#[allow(clippy::print_stdout, reason = "figures for whoever runs it")]
fn hostile_strangers_take_little_and_a_login_works_beside_them() {
    const COUNT: usize = 500;
    let server = with(&["--limit", "login_timeout_ms=3600000", "--limit", "handshake_timeout_ms=600000"]);
    let users = server.provision(1);
    // Whatever a first login brings into memory is there before.
    assert!(Raw::logged_in(&server, &users[0].token).answers());
    let (before, config) = (resident(&server), config(&server));
    // Requests that are refused: a Register without a phone, under the id 1; so many that a record is full.
    let refused: Vec<u8> = [0x02, 0x08, 0x01].into_iter().cycle().take(16_383).collect();
    let mut asking: Vec<_> =
        (0..COUNT * 3 / 5).map(|_| Hostile::new(server.address(), &config).expect("connected")).collect();
    let mut half: Vec<_> =
        (0..COUNT / 5).map(|_| Hostile::new(server.address(), &config).expect("connected")).collect();
    let handshakes: Vec<_> = (0..COUNT / 5)
        .map(|_| {
            let mut socket = TcpStream::connect(server.address()).expect("connected");
            // The beginning of a ClientHello of 16 KiB, of which some comes.
            socket.write_all(&[22, 3, 1, 0x40, 0x00, 1, 0, 0x3f, 0xfc]).expect("written");
            socket.write_all(&[0; 7000]).expect("written");
            socket
        })
        .collect();
    for one in &mut half {
        // A frame of 4,000 bytes, but for the last.
        let mut frame = vec![0xa0, 0x1f];
        frame.resize(4001, 0);
        one.tls.writer().write_all(&frame).expect("buffered");
        while one.tls.wants_write() {
            one.tls.write_tls(&mut one.out).expect("a Vec takes all");
        }
        let out = std::mem::take(&mut one.out);
        one.socket.write_all(&out).expect("written");
    }
    let (done, slowest_us) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut alive = 0;
    let (mut most, mut kernel) = (0, None);
    thread::scope(|scope| {
        let logins = scope.spawn(|| {
            let (tls, mut logins) = (Tls::new(&server.ca_file(), &[tern_wire::tls::ALPN]), 0);
            while !done.load(Ordering::Acquire) || logins < 20 {
                let begin = Instant::now();
                let mut raw = Raw::connect_with(server.address(), &tls).expect("a place");
                assert!(matches!(raw.ask(hello()), Some(Message::Welcome(_))));
                let login = v1::Login { access_token: users[0].token.clone() };
                assert!(matches!(raw.ask(Request::Login(login)), Some(Message::LoggedIn(_))));
                slowest_us.fetch_max(begin.elapsed().as_micros() as u64, Ordering::AcqRel);
                logins += 1;
            }
            logins
        });
        // Long enough for what is read to go round some times.
        for _ in 0..40 {
            alive = asking.iter_mut().map(|one| one.push(&refused)).filter(|lives| *lives).count();
            thread::sleep(Duration::from_millis(25));
            most = most.max(resident(&server));
            kernel = in_the_kernel(&server).max(kernel);
        }
        done.store(true, Ordering::Release);
        let logins = logins.join().expect("no panic");
        println!("{logins} logins, the slowest took {} us", slowest_us.load(Ordering::Acquire));
    });
    let own = most.saturating_sub(before) / COUNT as u64;
    let sent: u64 = asking.iter().map(|one| one.sent).sum();
    println!(
        "{own} bytes of the process for each, {} bytes sent by each that asks",
        sent / asking.len() as u64
    );
    let mut together = own;
    if let Some((bytes, sockets)) = kernel {
        println!("{} bytes of the kernel for each of {sockets}", bytes / sockets.max(1));
        together += bytes / sockets.max(1);
    }
    assert!(together < 64 << 10, "a stranger took {together} bytes");
    assert_eq!(alive, asking.len(), "who is not read from is not ended for it");
    assert!(server.metric("tern_reading_paused_total") >= asking.len() as u64);
    drop((half, handshakes));
}

#[test]
fn a_network_has_so_many_strangers_and_those_who_have_logged_in_do_not_count() {
    let server = with(&["--limit", "strangers_per_network_max=10"]);
    let users = server.provision(20);
    let logged_in: Vec<_> = users.iter().map(|user| Raw::logged_in(&server, &user.token)).collect();
    let mut strangers: Vec<_> = (0..10).map(|_| Raw::welcomed(&server)).collect();
    let tls = Tls::new(&server.ca_file(), &[tern_wire::tls::ALPN]);
    assert!(Raw::connect_with(server.address(), &tls).is_err(), "there is no place for an eleventh");
    assert!(server.metric("tern_strangers_refused_total") >= 1);
    assert!(strangers.iter_mut().all(Raw::answers));
    strangers.pop();
    until("a place is free", || Raw::connect_with(server.address(), &tls).is_ok());
    assert_eq!(logged_in.into_iter().filter_map(|mut raw| raw.answers().then_some(())).count(), 20);
}

#[test]
fn when_the_node_is_full_of_strangers_the_oldest_makes_room() {
    let server = with(&["--limit", "strangers_max=16"]);
    let users = server.provision(1);
    let strangers: Vec<_> =
        (0..16).map(|_| TcpStream::connect(server.address()).expect("connected")).collect();
    until("all are taken in", || server.metric("tern_strangers") == 16);
    let tls = Tls::new(&server.ca_file(), &[tern_wire::tls::ALPN]);
    // At once there is no place; when the oldest have had their time, there is.
    until("a newcomer gets a place", || Raw::connect_with(server.address(), &tls).is_ok());
    assert!(server.metric("tern_strangers_shown_out_total") >= 1);
    assert!(Raw::logged_in(&server, &users[0].token).answers());
    drop(strangers);
}

#[test]
fn without_a_place_on_any_core_newcomers_are_told_and_not_left_waiting() {
    let server = with(&["--limit", "connections_max=16"]);
    let users = server.provision(64);
    let mut held = Vec::new();
    let tls = Tls::new(&server.ca_file(), &[tern_wire::tls::ALPN]);
    // Two cores of 16, of which some are kept for connections that move.
    for user in &users {
        let Ok(mut raw) = Raw::connect_with(server.address(), &tls) else { break };
        if !matches!(raw.ask(hello()), Some(Message::Welcome(_))) {
            break;
        }
        let _ = raw.ask(Request::Login(v1::Login { access_token: user.token.clone() }));
        held.push(raw);
    }
    assert!(held.len() < users.len(), "there was a place for everybody");
    until("it is counted", || {
        let _ = Raw::connect_with(server.address(), &tls);
        server.metric("tern_connections_refused_total") > 0
    });
    drop(held);
    until("places are free again", || Raw::connect_with(server.address(), &tls).is_ok());
}

#[test]
fn a_refused_login_on_another_core_gives_no_more_time() {
    let server = with(&["--limit", "login_timeout_ms=3000"]);
    let user = server.provision(1).remove(0);
    // The account is deleted, its token still good: Login moves to its core, and is refused there.
    server.admin(&serde_json::json!({ "ask": "delete_user", "phone": user.phone }));
    let mut raw = Raw::welcomed(&server);
    let begin = Instant::now();
    let farewell = loop {
        let id = raw.send(Request::Login(v1::Login { access_token: user.token.clone() }));
        match raw.response(id) {
            Some(Message::Refused(_)) => thread::sleep(Duration::from_millis(50)),
            Some(other) => panic!("nobody has that token: {other:?}"),
            None => break raw.farewell(),
        }
        assert!(begin.elapsed() < HANG, "it goes on for ever");
    };
    assert!(farewell.is_none_or(|farewell| farewell.reason() == Reason::Unauthenticated));
}

#[test]
fn before_a_login_eight_requests_are_enough() {
    let server = Ternd::start(1);
    let mut raw = Raw::welcomed(&server);
    // In one record, so that none is answered before the last has come. Their phones are of any core, here the same.
    for number in 0..30 {
        raw.send(Request::Register(v1::Register { phone: format!("+1555123{number:04}") }));
    }
    let answers: Vec<_> = (0..30).map(|_| raw.receive().expect("an answer").message).collect();
    let sent = answers.iter().filter(|answer| matches!(answer, Some(Message::CodeSent(_)))).count();
    let refused = |answer: &Option<Message>| matches!(answer, Some(Message::Refused(refused)) if refused.reason() == Reason::Overloaded);
    assert!(sent >= 8 && sent + answers.iter().filter(|answer| refused(answer)).count() == 30, "{answers:?}");
    assert!(raw.answers());
}

/// Sends requests in as few records as they fit in, so that one turn has most of them, and gives the answers.
fn all_at_once(
    raw: &mut Raw,
    requests: impl IntoIterator<Item = Request>,
    ends: bool,
) -> Vec<Option<Message>> {
    let mut bytes = Vec::new();
    let ids = 1000..;
    let ids: Vec<u64> = ids
        .zip(requests)
        .map(|(id, request)| {
            tern_wire::frame::encode(&v1::ClientFrame { id, request: Some(request) }, &mut bytes);
            id
        })
        .collect();
    raw.send_bytes(&bytes);
    if ends {
        raw.close_notify(false);
    }
    let answers: Vec<_> = ids.iter().map(|_| raw.receive().expect("an answer")).collect();
    assert_eq!(answers.iter().map(|frame| frame.id).collect::<Vec<_>>(), ids, "in their order");
    answers.into_iter().map(|frame| frame.message).collect()
}

#[test]
fn who_asks_for_much_at_once_waits_for_others_and_gets_all_answers_in_order() {
    let server = Ternd::start(2);
    let users = server.provision(8);
    let pings = |count| std::iter::repeat_n(Request::Ping(v1::Ping {}), count);
    for user in &users {
        // Before the login, and behind it: of some users on another core, to which the connection moves in the middle.
        let mut raw = Raw::connect(&server);
        let registers = std::iter::repeat_n(Request::Register(v1::Register::default()), 30);
        let login = Request::Login(v1::Login { access_token: user.token.clone() });
        let opening = std::iter::once(hello()).chain(registers).chain([login]).chain(pings(500));
        let answers = all_at_once(&mut raw, opening, false);
        assert!(matches!(answers[0], Some(Message::Welcome(_))));
        assert!(answers[1..31].iter().all(|answer| matches!(answer, Some(Message::Refused(_)))));
        assert!(matches!(answers[31], Some(Message::LoggedIn(_))), "{:?}", answers[31]);
        assert!(answers[32..].iter().all(|answer| matches!(answer, Some(Message::Pong(_)))));
        // And before an end.
        let answers = all_at_once(&mut raw, pings(3000), true);
        assert!(answers.iter().all(|answer| matches!(answer, Some(Message::Pong(_)))));
        assert!(raw.receive().is_none(), "then it ends");
    }
    assert!(server.metric("tern_reading_queued_total") > users.len() as u64);
}

#[test]
fn after_a_login_what_is_unsent_stops_what_is_read_and_nothing_is_lost() {
    let server = with(&["--limit", "unsent_bytes_max=65536"]);
    let users = server.provision(2);
    let mut writer = Raw::logged_in(&server, &users[0].token);
    for client_id in 1..=20 {
        let body = vec![b'x'; 60_000].into();
        let send = v1::Send {
            chat: users[1].id,
            client_id,
            body,
            kind: v1::Kind::Text.into(),
            ..Default::default()
        };
        assert!(matches!(writer.ask(Request::Send(send)), Some(Message::Sent(_))));
    }
    let mut greedy = Raw::logged_in(&server, &users[1].token);
    // Pages of 120,000 bytes: without a stop they would be queued on and on, and the connection ended.
    let history = v1::History { chat: users[0].id, from: 1, forwards: true, limit: 2 };
    let mut ids = Vec::new();
    until("it is not read from", || {
        ids.extend((0..5).map(|_| greedy.send(Request::History(history))));
        server.metric("tern_reading_paused_total") > 0
    });
    ids.extend((0..20).map(|_| greedy.send(Request::History(history))));
    assert!(writer.answers(), "nobody else is harmed");
    for id in ids {
        match greedy.response(id) {
            Some(Message::HistoryPage(page)) => assert_eq!(page.entries.len(), 2),
            Some(Message::Refused(refused)) => assert_eq!(refused.reason(), Reason::Overloaded),
            other => panic!("expected a page, got {other:?}"),
        }
    }
    assert!(greedy.answers());
}

#[test]
fn what_was_asked_before_the_client_closed_its_half_is_answered() {
    let server = Ternd::start(2);
    let users = server.provision(2);
    for with_fin in [false, true] {
        let mut raw = Raw::logged_in(&server, &users[0].token);
        let ids: Vec<_> = (1..=100)
            .map(|number| {
                let client_id = number + if with_fin { 1000 } else { 0 };
                let body = b"hello".to_vec().into();
                raw.send(Request::Send(v1::Send {
                    chat: users[1].id,
                    client_id,
                    body,
                    kind: v1::Kind::Text.into(),
                    ..Default::default()
                }))
            })
            .collect();
        raw.close_notify(with_fin);
        for id in ids {
            assert!(
                matches!(raw.response(id), Some(Message::Sent(_))),
                "after close_notify, with_fin {with_fin}"
            );
        }
        assert!(raw.receive().is_none(), "then it ends");
    }
}

/// Wherever its user is: most connections move to another core with what they have not read, and their end moves with it.
#[test]
fn what_was_asked_right_behind_a_login_before_the_client_closed_its_half_is_answered() {
    let server = Ternd::start(4);
    for (round, user) in server.provision(8).iter().enumerate() {
        for with_fin in [false, true] {
            let mut raw = Raw::welcomed(&server);
            let login = Request::Login(v1::Login { access_token: user.token.clone() });
            let pings = (0..3).map(|_| Request::Ping(v1::Ping {}));
            let mut bytes = Vec::new();
            for (id, request) in (1000..).zip([login].into_iter().chain(pings)) {
                tern_wire::frame::encode(&v1::ClientFrame { id, request: Some(request) }, &mut bytes);
            }
            raw.send_bytes(&bytes);
            raw.close_notify(with_fin);
            let round = format!("user {round}, with_fin {with_fin}");
            assert!(matches!(raw.response(1000), Some(Message::LoggedIn(_))), "{round}");
            for id in 1001..1004 {
                assert!(matches!(raw.response(id), Some(Message::Pong(_))), "{round}, request {id}");
            }
            assert!(raw.receive().is_none(), "then it ends: {round}");
        }
    }
}

fn proxy_header(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend([0x20 | command, family]);
    bytes.extend((addresses.len() as u16).to_be_bytes());
    bytes.extend(addresses);
    bytes
}

fn from_four(last: u8) -> Vec<u8> {
    proxy_header(1, 0x11, &[192, 0, 2, last, 10, 0, 0, 1, 0x12, 0x34, 0x1c, 0x03])
}

#[test]
fn behind_a_balancer_the_clients_own_address_counts() {
    let server = with(&["--proxy-protocol-from", "127.0.0.0/8", "--limit", "strangers_per_network_max=3"]);
    let tls = Tls::new(&server.ca_file(), &[tern_wire::tls::ALPN]);
    let connect = |header: &[u8]| Raw::connect_behind(server.address(), &tls, header);
    let mut six = [0u8; 36];
    six[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    // Three of each of three networks; balancers' own connections are not counted.
    let mut held = Vec::new();
    for header in [from_four(1), from_four(2), proxy_header(1, 0x21, &six)] {
        for _ in 0..3 {
            held.push(connect(&header).expect("a place"));
        }
        assert!(connect(&header).is_err(), "a fourth of the same network has none");
    }
    for header in [proxy_header(0, 0, &[]), proxy_header(1, 0, &[])] {
        for _ in 0..5 {
            held.push(connect(&header).expect("a place"));
        }
    }
    for mut raw in held {
        assert!(matches!(raw.ask(hello()), Some(Message::Welcome(_))));
    }
}

#[test]
fn without_a_proper_header_a_balancers_connection_ends() {
    let server = with(&["--proxy-protocol-from", "127.0.0.1"]);
    let tls = Tls::new(&server.ca_file(), &[tern_wire::tls::ALPN]);
    let cut = &from_four(1)[..20];
    for bad in
        [&b""[..], b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 7171\r\n", cut, &proxy_header(1, 0x12, &[0; 12])]
    {
        assert!(Raw::connect_behind(server.address(), &tls, bad).is_err(), "{bad:?}");
    }
    assert!(server.metric("tern_proxy_failures_total") >= 3);
    // Byte by byte it is one as well.
    let mut socket = TcpStream::connect(server.address()).expect("connected");
    for byte in from_four(1) {
        socket.write_all(&[byte]).expect("written");
    }
    assert!(Raw::over(socket, &tls).is_ok());
    // From elsewhere none is read: it is no TLS.
    let server = with(&["--proxy-protocol-from", "192.0.2.0/24"]);
    let tls = Tls::new(&server.ca_file(), &[tern_wire::tls::ALPN]);
    assert!(Raw::connect_behind(server.address(), &tls, &from_four(1)).is_err());
    assert!(Raw::connect_with(server.address(), &tls).is_ok());
}

#[test]
fn shared_addresses_limit_nobody() {
    let limits =
        ["--limit", "strangers_per_network_max=3", "--limit", "address_code_requests_per_hour_max=2"];
    let server = with(&[&limits[..], &["--shared-addresses"]].concat());
    let mut held: Vec<_> = (0..10).map(|_| Raw::welcomed(&server)).collect();
    for (number, raw) in held.iter_mut().enumerate() {
        let register = Request::Register(v1::Register { phone: format!("+1555123{number:04}") });
        assert!(matches!(raw.ask(register), Some(Message::CodeSent(_))), "the {number}th");
    }
}

#[test]
fn old_versions_of_tls_are_told_which_is_wanted() {
    let server = Ternd::start(1);
    // A ClientHello of TLS 1.0 and of 1.1, without extensions: versions, random, no session, one suite, no compression.
    for minor in [1, 2] {
        let mut hello = vec![3, minor];
        hello.extend([7; 32]);
        hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
        let mut record = vec![22, 3, 1, 0, hello.len() as u8 + 4, 1, 0, 0, hello.len() as u8];
        record.extend(hello);
        let mut socket = TcpStream::connect(server.address()).expect("connected");
        socket.set_read_timeout(Some(HANG)).expect("set");
        socket.write_all(&record).expect("written");
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).expect("answered");
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, 70], "protocol_version");
    }
}
