//! No thread dies alone, and nothing that befalls the log, health's clients or the codes' receiver stops the service.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tern_proto::v1::{self, client_frame::Request, server_frame::Message};
use tern_testkit::{HeldPort, Raw, Ternd, TerndOptions, Tls, program};

/// How long anything may take before the test is taken to hang.
const HANG: Duration = Duration::from_secs(60);

/// A server whose stderr is a pipe that the test holds.
struct Piped {
    child: Child,
    address: SocketAddr,
    metrics: HeldPort,
    dir: tempfile::TempDir,
    stderr: Option<ChildStderr>,
}

impl Drop for Piped {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Piped {
    fn start(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let metrics = HeldPort::new();
        let mut child = Command::new(program("ternd"))
            .args([
                "--listen",
                "127.0.0.1:0",
                "--cores",
                "2",
                "--metrics",
                &metrics.address().to_string(),
                "--data-dir",
            ])
            .arg(dir.path().join("data"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ternd can be run");
        let mut ready = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut ready).expect("it is ready");
        let address = ready.trim().rsplit(' ').next().and_then(|address| address.parse().ok());
        let stderr = child.stderr.take();
        Self { child, address: address.expect("an address"), metrics, dir, stderr }
    }

    fn tls(&self) -> Tls {
        Tls::new(&self.dir.path().join("data/cert.pem"), &[tern_wire::tls::ALPN])
    }

    fn welcomed(&self) -> Raw {
        let mut raw = Raw::connect_with(self.address, &self.tls()).expect("connected");
        let hello = v1::Hello { version_min: 1, version_max: 1, ..v1::Hello::default() };
        assert!(matches!(raw.ask(Request::Hello(hello)), Some(Message::Welcome(_))));
        raw
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("it is this test's own child");
    }

    fn end(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it was started") {
                return status;
            }
            assert!(begin.elapsed() < HANG, "ternd does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn users(&self, count: u32) -> Vec<(u64, String)> {
        let mut socket =
            UnixStream::connect(self.dir.path().join("data/ternd.sock")).expect("the admin socket");
        let question = json!({ "ask": "provision", "count": count, "first": "+15553000000", "name": "test" });
        writeln!(socket, "{question}").expect("asked");
        let lines = BufReader::new(socket).lines().map(|line| line.expect("a line"));
        let lines: Vec<Value> = lines.map(|line| serde_json::from_str(&line).expect("JSON")).collect();
        let user = |line: &Value| {
            let token = line["ok"]["access_token"].as_str()?.to_owned();
            Some((line["ok"]["user_id"].as_u64()?, token))
        };
        lines.iter().filter_map(user).collect()
    }
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(address).expect("connected");
    socket.set_read_timeout(Some(HANG)).expect("set");
    write!(socket, "GET {path} HTTP/1.1\r\n\r\n").expect("asked");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("answered");
    answer
}

fn register(raw: &mut Raw, phone: &str) -> Option<Message> {
    raw.ask(Request::Register(v1::Register { phone: phone.to_owned() }))
}

#[test]
fn a_log_without_a_reader_keeps_nobody_from_codes_or_from_the_end() {
    // Every delivery fails, and is logged.
    let mut server = Piped::start(&["--sms-webhook", "http://127.0.0.1:1/"]);
    let mut raw = server.welcomed();
    assert!(matches!(register(&mut raw, "+15550001"), Some(Message::CodeSent(_))));
    drop(server.stderr.take());
    for number in 2..6 {
        let answer = register(&mut raw, &format!("+1555000{number}"));
        assert!(matches!(answer, Some(Message::CodeSent(_))), "{answer:?}");
    }
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.end().code(), Some(0), "a drain, though nobody hears of it");
}

#[test]
fn a_log_that_is_not_read_holds_up_no_chat_and_what_is_lost_is_counted() {
    // All that is said at this level is far more than a pipe holds.
    let server = Piped::start(&["--log", "trace", "--limit", "sends_per_minute_max=0"]);
    let users = server.users(2);
    let mut raw = Raw::connect_with(server.address, &server.tls()).expect("connected");
    let hello = v1::Hello { version_min: 1, version_max: 1, ..v1::Hello::default() };
    assert!(matches!(raw.ask(Request::Hello(hello)), Some(Message::Welcome(_))));
    let login = Request::Login(v1::Login { access_token: users[0].1.clone() });
    assert!(matches!(raw.ask(login), Some(Message::LoggedIn(_))));
    let lost = || {
        let metrics = get(server.metrics.address(), "/metrics");
        let line =
            metrics.lines().find(|line| line.starts_with("tern_log_lines_lost_total ")).map(str::to_owned);
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).expect("the metric")
    };
    let mut client_id = 0;
    let tls = server.tls();
    while lost() == 0 {
        // Handshakes that fail say the most.
        for _ in 0..20 {
            let mut socket = TcpStream::connect(server.address).expect("connected");
            socket.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("written");
            let _ = socket.read(&mut [0; 64]);
            let _ = Raw::connect_with(server.address, &tls);
        }
        for _ in 0..20 {
            client_id += 1;
            let body = b"hello".to_vec().into();
            let send = v1::Send {
                chat: users[1].0,
                client_id,
                body,
                kind: v1::Kind::Text.into(),
                ..Default::default()
            };
            let answer = raw.ask(Request::Send(send));
            assert!(matches!(answer, Some(Message::Sent(_))), "{answer:?}");
        }
    }
}

#[test]
fn a_full_disk_behind_the_log_is_no_trouble() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let mut child = Command::new(program("ternd"))
        .args([
            "--listen",
            "127.0.0.1:0",
            "--no-metrics",
            "--no-media",
            "--cores",
            "1",
            "--log",
            "trace",
            "--data-dir",
        ])
        .arg(dir.path().join("data"))
        .stdout(Stdio::piped())
        .stderr(full)
        .spawn()
        .expect("ternd can be run");
    let mut ready = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut ready).expect("it is ready");
    assert!(ready.starts_with("ternd ready on"), "{ready}");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
        .expect("it is this test's own child");
    assert_eq!(child.wait().expect("it was started").code(), Some(0));
}

/// Not a test of its own: the process that [`a_thread_that_dies_ends_the_process_and_says_why`] looks at.
#[test]
#[ignore = "run by another test"]
fn a_process_whose_thread_dies() {
    tern_server::threads::end_process_on_panic();
    match std::env::var("TERN_TEST_DIES_BY").as_deref() {
        Ok("panic") => drop(tern_server::threads::spawn("tern-example", || panic!("for a test"))),
        Ok("foreign") => {
            drop(std::thread::Builder::new().name("a-library".into()).spawn(|| panic!("for a test")))
        }
        _ => drop(tern_server::threads::spawn("tern-example", || {})),
    }
    std::thread::sleep(HANG);
}

#[test]
fn a_thread_that_dies_ends_the_process_and_says_why() {
    let cases = [
        ("panic", "the thread tern-example has panicked at"),
        ("foreign", "the thread a-library has panicked at"),
        ("return", "the thread tern-example has ended by itself"),
    ];
    for (how, expected) in cases {
        let output = Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", "a_process_whose_thread_dies", "--ignored", "--nocapture"])
            .env("TERN_TEST_DIES_BY", how)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{how}: {said}");
        assert!(said.contains(expected), "{how}: {said}");
    }
}

#[test]
fn health_answers_beside_silent_connections() {
    let server = Ternd::start(1);
    let line = server.said("metrics on http://");
    let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
    // As many as are served at once, and more: the oldest of them go.
    let silent: Vec<_> = (0..100).map(|_| TcpStream::connect(address).expect("connected")).collect();
    let mut slow = TcpStream::connect(address).expect("connected");
    let begin = Instant::now();
    for byte in b"GET /healthz HT" {
        slow.write_all(&[*byte]).expect("written");
        assert_eq!(server.http("/healthz").0, 200);
        assert_eq!(server.http("/readyz").0, 200);
    }
    // One of the silent ones has a few seconds, so that none was waited for.
    assert!(begin.elapsed() < Duration::from_secs(30), "answers wait for others");
    // Who sends a byte now and then does not live for ever either.
    slow.set_read_timeout(Some(HANG)).expect("set");
    while slow.write_all(b"x").is_ok() && begin.elapsed() < HANG {
        slow.set_read_timeout(Some(Duration::from_millis(100))).expect("set");
        if matches!(slow.read(&mut [0; 64]), Ok(0)) {
            break;
        }
    }
    assert!(begin.elapsed() < HANG, "a request has a deadline");
    drop(silent);
}

/// A receiver of codes that holds some phones' deliveries for ever. Gives its address and counts what it has taken.
fn receiver(status: &'static str, holds: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let url = format!("http://{}/codes", listener.local_addr().expect("an address"));
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let count = count.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(socket);
                let (mut line, mut length) = (String::new(), 0);
                while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap_or(0);
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                let _ = reader.read_exact(&mut body);
                let body = String::from_utf8_lossy(&body).into_owned();
                count.fetch_add(1, Ordering::AcqRel);
                if !holds.is_empty() && body.contains(holds) {
                    std::thread::sleep(HANG);
                }
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                let _ = reader.into_inner().write_all(answer.as_bytes());
            });
        }
    });
    (url, taken)
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < HANG, "{what}: not yet");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn with(arguments: &[&str]) -> Ternd {
    let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    Ternd::start_with(TerndOptions { arguments, ..TerndOptions::default() })
}

#[test]
fn one_slow_phone_holds_up_no_other_code() {
    let (url, taken) = receiver("200 OK", "+15550666");
    let server = Piped::start(&["--sms-webhook", &url]);
    let mut raw = server.welcomed();
    assert!(matches!(register(&mut raw, "+15550666"), Some(Message::CodeSent(_))));
    until("the slow one is under way", || taken.load(Ordering::Acquire) == 1);
    for number in 0..20 {
        assert!(matches!(register(&mut raw, &format!("+155501{number:02}")), Some(Message::CodeSent(_))));
    }
    until("the others are delivered", || taken.load(Ordering::Acquire) >= 21);
    // One after the other they would wait for its first three tries, 15 s.
    let delivered = "tern_codes_delivered_total 20";
    until("it is counted", || get(server.metrics.address(), "/metrics").contains(delivered));
}

#[test]
fn a_code_that_is_refused_is_not_sent_again_and_one_that_has_ended_neither() {
    let (url, taken) = receiver("403 Forbidden", "");
    let server = Piped::start(&["--sms-webhook", &url]);
    let mut raw = server.welcomed();
    assert!(matches!(register(&mut raw, "+15550001"), Some(Message::CodeSent(_))));
    until("it is given up", || {
        get(server.metrics.address(), "/metrics").contains("tern_codes_failed_total 1")
    });
    assert_eq!(taken.load(Ordering::Acquire), 1, "what was refused is not tried again");
    // A receiver that is never there: the code ends after a second, long before five tries.
    let server = Piped::start(&["--sms-webhook", "http://127.0.0.1:1/", "--limit", "code_valid_ms=1000"]);
    let mut raw = server.welcomed();
    assert!(matches!(register(&mut raw, "+15550001"), Some(Message::CodeSent(_))));
    until("it has ended", || {
        get(server.metrics.address(), "/metrics").contains("tern_codes_expired_total 1")
    });
}

#[test]
fn a_stop_says_how_many_codes_were_not_delivered() {
    let (url, taken) = receiver("200 OK", "+1555");
    let mut server = with(&["--sms-webhook", &url]);
    let mut raw = Raw::welcomed(&server);
    assert!(matches!(register(&mut raw, "+15550001"), Some(Message::CodeSent(_))));
    until("it is under way", || taken.load(Ordering::Acquire) > 0);
    assert_eq!(server.terminate().code(), Some(0));
    let line = server.said("were not delivered before the end");
    assert!(line.contains("codes=1"), "{line}");
}
