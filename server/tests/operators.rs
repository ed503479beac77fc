//! What operators meet: wrong configurations, a disk that is full or fails, drains, metrics, and a log without secrets.

mod people;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use people::{next_message, until};
use serde_json::json;
use tern_client::Event;
use tern_proto::v1::{self, Reason, client_frame::Request, server_frame::Message};
use tern_testkit::{HeldPort, Raw, Ternd, TerndOptions, program};

fn options(arguments: &[&str]) -> TerndOptions {
    let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    TerndOptions { arguments, ..TerndOptions::default() }
}

fn text(chat: u64, client_id: u64) -> Request {
    let body = format!("message {client_id}").into();
    Request::Send(v1::Send { chat, client_id, body, kind: v1::Kind::Text.into(), ..Default::default() })
}

fn seq(answer: Option<Message>) -> u64 {
    match answer {
        Some(Message::Sent(sent)) => sent.seq,
        other => panic!("expected Sent, got {other:?}"),
    }
}

#[test]
fn a_taken_port_and_a_directory_in_use_are_said_plainly() {
    let server = Ternd::start(1);
    let other = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let said = Ternd::fail_to_start(options(&[]), &other, &server.address().to_string());
    assert!(said.contains("another program listens there") && said.contains("--listen"), "{said}");
    assert!(said.contains("exit status: 1"), "{said}");
    let said = Ternd::fail_to_start(options(&[]), &server.temporary(), "127.0.0.1:0");
    assert!(said.contains("belongs to another running ternd (pid "), "{said}");
    assert!(server.http("/healthz").0 == 200, "the one that runs is not disturbed");
}

/// A ring's operations outlive their process by some milliseconds, and the one that accepts held the listener's port.
#[test]
fn a_server_that_has_ended_has_left_its_port() {
    for _ in 0..20 {
        let mut server = Ternd::start(2);
        assert!(server.terminate().success());
        TcpListener::bind(server.address()).expect("nobody listens at its port any more");
    }
}

/// One that was killed could not leave its port in order, and whoever starts it again is not sent away.
#[test]
fn a_server_waits_a_moment_for_a_port_that_is_being_left() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let port = HeldPort::new();
    let other = TcpListener::bind(port.address()).expect("it is held for this");
    let mut ternd = Command::new(program("ternd"))
        .args([
            "--no-metrics",
            "--no-media",
            "--cores",
            "1",
            "--listen",
            &port.address().to_string(),
            "--data-dir",
        ])
        .arg(dir.path().join("data"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ternd runs");
    let mut said = BufReader::new(ternd.stderr.take().expect("it is piped")).lines();
    let waits = said.any(|line| line.is_ok_and(|line| line.contains("the address is taken")));
    assert!(waits, "it says what it waits for");
    drop(other);
    let mut ready = String::new();
    BufReader::new(ternd.stdout.take().expect("it is piped")).read_line(&mut ready).expect("a line");
    assert!(ready.starts_with("ternd ready"), "{ready}");
    ternd.kill().expect("it is this test's own child");
    ternd.wait().expect("it was started");
}

#[test]
fn a_data_directory_that_can_not_be_made_is_called_what_it_is() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("file");
    std::fs::write(&file, "content").expect("written");
    for data_dir in [file.clone(), file.join("data")] {
        let output =
            Command::new(program("ternd")).arg("--data-dir").arg(&data_dir).output().expect("ternd runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("something else has that name") && said.contains("--data-dir"), "{said}");
        assert!(!said.contains("damaged"), "{said}");
    }
    assert_eq!(std::fs::read(&file).expect("it is still there"), b"content");
}

#[test]
fn too_few_open_files_for_the_rings_are_said_plainly() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let start = "ulimit -n 64 && exec \"$0\" --listen 127.0.0.1:0 --no-metrics --data-dir \"$1\"";
    let output = Command::new("sh").args(["-c", start]).arg(program("ternd")).arg(dir.path()).output();
    let output = output.expect("sh runs");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("limits.connections_max") && said.contains("ulimit -n"), "{said}");
}

#[test]
fn wrong_configurations_are_said_plainly() {
    let dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let file = dir.path().join("ternd.toml");
    std::fs::write(&file, "[limits]\nbody_bytes_maximum = 3\n").expect("written");
    let file = file.to_str().expect("text");
    let cases: [(&[&str], &str); 6] = [
        (&["--limit", "body_bytes_max=0"], "1 to 65536"),
        (&["--limit", "no_such_limit=1"], "no_such_limit"),
        (&["--config", file], "body_bytes_maximum"),
        (&["--config", "/nonexistent/ternd.toml"], "/nonexistent/ternd.toml"),
        (&["--log", "=x=y"], "log filter"),
        (&["--certificate", "a.pem"], "--key"),
    ];
    for (arguments, expected) in cases {
        let said = Ternd::fail_to_start(options(arguments), &dir, "127.0.0.1:0");
        assert!(said.contains(expected) && said.contains("exit status: 2"), "{arguments:?}: {said}");
    }
    let said = Ternd::fail_to_start(options(&[]), &dir, "0.0.0.0:0");
    assert!(said.contains("sms.webhook"), "codes must reach phones when others can connect: {said}");
}

#[test]
fn a_damaged_store_is_not_served() {
    let mut server = Ternd::start(2);
    let users = server.provision(2);
    let mut raw = Raw::logged_in(&server, &users[0].token);
    for client_id in 1..=50 {
        seq(raw.ask(text(users[1].id, client_id)));
    }
    assert!(server.terminate().success());
    let current = server.data_dir().join("store/tables/entries/current");
    let mut bytes = std::fs::read(&current).expect("read");
    bytes[3] ^= 0x10;
    std::fs::write(&current, bytes).expect("written");
    let said = Ternd::fail_to_start(options(&[]), &server.temporary(), "127.0.0.1:0");
    assert!(
        said.contains("is damaged")
            && said.contains("tables/entries/current")
            && said.contains("ternctl check")
            && said.contains("exit status: 1"),
        "{said}"
    );
}

#[test]
fn a_full_disk_refuses_for_now_and_loses_nothing() {
    let mut server = Ternd::start(2);
    let users = server.provision(2);
    let mut raw = Raw::logged_in(&server, &users[0].token);
    assert_eq!(seq(raw.ask(text(users[1].id, 1))), 1);
    server.restart_with(options(&["--limit", &format!("free_bytes_min={}", 1u64 << 60)]));
    let mut raw = Raw::logged_in(&server, &users[0].token);
    let (status, why) = server.http("/readyz");
    assert!(status == 503 && why.contains("free_bytes_min"), "readiness tells: {why}");
    assert_eq!(server.http("/healthz").0, 200, "to start it again would not help");
    for client_id in 2..=4 {
        let refused = raw.refusal(text(users[1].id, client_id));
        assert_eq!(refused.reason(), Reason::StorageFull);
        assert!(refused.retry_after_ms > 0);
    }
    let history = v1::History { chat: users[1].id, from: 0, forwards: false, limit: 0 };
    match raw.ask(Request::History(history)) {
        Some(Message::HistoryPage(page)) => assert_eq!(page.entries.len(), 1, "what is there can be read"),
        other => panic!("expected the chat, got {other:?}"),
    }
    server.restart_with(options(&[]));
    let mut raw = Raw::logged_in(&server, &users[0].token);
    assert_eq!(seq(raw.ask(text(users[1].id, 3))), 2, "what was refused took no seq");
    assert_eq!(seq(raw.ask(text(users[1].id, 2))), 3);
}

/// A library that has fsync and fdatasync fail once a file is there.
fn failing_fsync(dir: &std::path::Path) -> (PathBuf, PathBuf) {
    let (source, library, switch) = (dir.join("fail.c"), dir.join("fail.so"), dir.join("fail"));
    let code = r#"
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <errno.h>
        #include <stdlib.h>
        #include <unistd.h>
        static int broken(void) { return access(getenv("FAIL_SWITCH"), F_OK) == 0; }
        static int (*real(const char *name))(int) { return (int (*)(int)) dlsym(RTLD_NEXT, name); }
        int fsync(int fd) { if (broken()) { errno = EIO; return -1; } return real("fsync")(fd); }
        int fdatasync(int fd) { if (broken()) { errno = EIO; return -1; } return real("fdatasync")(fd); }
    "#;
    std::fs::write(&source, code).expect("written");
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl").status();
    assert!(built.expect("a C compiler").success());
    (library, switch)
}

#[test]
fn a_disk_that_fails_to_sync_ends_the_server_which_recovers_on_a_good_one() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (library, switch) = failing_fsync(dir.path());
    let path = |path: &PathBuf| path.to_str().expect("text").to_owned();
    let environment =
        vec![("LD_PRELOAD".to_owned(), path(&library)), ("FAIL_SWITCH".to_owned(), path(&switch))];
    let mut server = Ternd::start_with(TerndOptions { environment, ..TerndOptions::default() });
    let users = server.provision(2);
    let mut raw = Raw::logged_in(&server, &users[0].token);
    for client_id in 1..=20 {
        assert_eq!(seq(raw.ask(text(users[1].id, client_id))), client_id);
    }
    std::fs::write(&switch, "").expect("written");
    let id = raw.send(text(users[1].id, 21));
    match raw.response(id) {
        None => {}
        Some(Message::Refused(refused)) => assert_eq!(refused.reason(), Reason::Unavailable),
        other => panic!("nothing may be acknowledged that was not synced: {other:?}"),
    }
    let status = server.wait();
    assert_eq!(status.code(), Some(1));
    server.said("the store's disk failed; everything acknowledged is safe");
    std::fs::remove_file(&switch).expect("removed");
    server.start_again();
    let mut raw = Raw::logged_in(&server, &users[0].token);
    // Whether the message in between reached the disk is open; its retry is answered the same either way.
    for client_id in 1..=22 {
        assert_eq!(seq(raw.ask(text(users[1].id, client_id))), client_id, "a retry keeps its seq");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_tells_the_clients_finishes_what_is_under_way_and_exits_with_0() {
    let mut server = Ternd::start(4);
    let (ann, bob) = people::pair(&server).await;
    let (client, bob_id) = (ann.client.clone(), bob.id());
    let sending = tokio::spawn(async move {
        for number in 1..=300u64 {
            let sent = client.send(bob_id, format!("{number}")).await.expect("durable in the end");
            assert_eq!(sent.seq, number);
        }
    });
    let mut events = ann.events;
    until(&mut events, |event| matches!(event, Event::Message(message) if message.seq == 50).then_some(()))
        .await;
    assert_eq!(tokio::task::block_in_place(|| server.terminate()).code(), Some(0));
    let why = until(&mut events, |event| match event {
        Event::Disconnected { why, .. } => Some(why.clone()),
        _ => None,
    });
    let why = why.await;
    assert!(why.contains("SHUTTING_DOWN"), "{why}");
    tokio::task::block_in_place(|| server.start_again());
    sending.await.expect("no panic");
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut server = Ternd::start(2);
    let users = server.provision(2);
    // A client that reads nothing keeps the drain from ending soon.
    let mut raw = Raw::logged_in(&server, &users[0].token);
    raw.send(text(users[1].id, 1));
    server.ask_to_end();
    server.ask_to_end();
    let status = server.wait();
    assert!(matches!(status.code(), Some(0 | 130)) && status.signal().is_none(), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_move_to_their_users_cores() {
    let server = Ternd::start(4);
    let mut people = Vec::new();
    for number in 0..16 {
        people.push(people::join(&server, &format!("+1555400{number:04}"), "Somebody").await);
    }
    // Everyone writes to the next, so chats and people lie on all cores.
    for at in 0..people.len() {
        let to = people[(at + 1) % 16].id();
        people[at].client.send(to, "hello").await.expect("durable");
    }
    for person in &mut people {
        until(&mut person.events, |event| {
            matches!(event, Event::Message(message) if !message.own).then_some(())
        })
        .await;
    }
    let status = server.admin(&json!({ "ask": "status" })).remove(0);
    let cores = status["ok"]["cores"].as_array().expect("cores").clone();
    let connected: Vec<_> = cores.iter().map(|core| core["sessions"].as_u64().expect("a number")).collect();
    assert_eq!(connected.iter().sum::<u64>(), 16);
    assert!(connected.iter().filter(|sessions| **sessions > 0).count() >= 2, "{connected:?}");
    let (given, taken) =
        (server.metric("tern_connections_given_total"), server.metric("tern_connections_taken_total"));
    assert_eq!(given, taken);
    assert!(taken > 0, "no connection has moved");
    for number in 0..16 {
        let phone = format!("+1555400{number:04}");
        let user = server.admin(&json!({ "ask": "user", "phone": phone })).remove(0);
        assert_eq!(user["ok"]["devices"][0]["connected"], true, "a session is where its user is");
    }
}

#[test]
fn metrics_and_health_say_what_goes_on() {
    let server = Ternd::start(2);
    let users = server.provision(2);
    let mut raw = Raw::logged_in(&server, &users[0].token);
    for client_id in 1..=10 {
        seq(raw.ask(text(users[1].id, client_id)));
    }
    assert_eq!(server.http("/healthz").0, 200);
    assert_eq!(server.http("/readyz").0, 200);
    assert_eq!(server.http("/nothing").0, 404);
    assert_eq!(server.metric("tern_accepts_total"), 1);
    assert_eq!(server.metric("tern_handshakes_total"), 1);
    assert_eq!(server.metric("tern_connections"), 1);
    assert!(server.metric("tern_frames_in_total") >= 12);
    assert!(server.metric("tern_commits_total") >= 10);
    assert!(server.metric("tern_commit_seconds_count") >= 10);
    assert!(server.metric("tern_store_commit_groups_total") >= 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_content_no_phone_and_no_token_reaches_the_log() {
    let server = Ternd::start_with(options(&["--log", "trace", "--log-format", "json"]));
    let mut ann = people::join(&server, "+15557654321", "Annabella").await;
    let mut bob = people::join(&server, "+15551234567", "Bobadilla").await;
    ann.client.send(bob.id(), "xylophone in the attic").await.expect("durable");
    next_message(&mut bob.events).await;
    ann.client.lookup_phone("+15551234567").await.expect("found");
    let _ = ann.client.send(bob.id(), "quagmire".repeat(9000)).await.expect_err("too long");
    ann.client.history(bob.id(), 0, false, 0).await.expect("read");
    let tokens: Vec<String> =
        [&ann, &bob].iter().map(|person| person.person.access_token().to_owned()).collect();
    server.admin(&json!({ "ask": "user", "phone": "+15557654321" }));
    server.admin(&json!({ "ask": "delete_user", "phone": "+15557654321" }));
    until(&mut ann.events, |event| matches!(event, Event::SessionEnded(_)).then_some(())).await;
    let log = server.stderr();
    let logged: Vec<_> = log.lines().filter(|line| line.starts_with('{')).collect();
    assert!(logged.len() > 20, "there is a log at all:\n{log}");
    for line in &logged {
        serde_json::from_str::<serde_json::Value>(line).expect("each line is JSON");
    }
    let secrets = [
        "7654321",
        "1234567",
        "Annabella",
        "Bobadilla",
        "xylophone",
        "quagmire",
        &tokens[0][..40],
        &tokens[1][..40],
    ];
    for secret in secrets {
        assert!(!log.contains(secret), "{secret:?} is in the log");
    }
}

#[test]
fn codes_go_to_the_webhook_and_nowhere_else() {
    let webhook = TcpListener::bind("127.0.0.1:0").expect("bound");
    let url = format!("http://{}/codes", webhook.local_addr().expect("an address"));
    let server = Ternd::start_with(TerndOptions {
        environment: vec![("TERN_SMS_AUTHORIZATION".to_owned(), "Bearer open-sesame".to_owned())],
        ..options(&["--sms-webhook", &url, "--log", "debug"])
    });
    let mut raw = Raw::welcomed(&server);
    let registration = raw.register("+15550001").registration;
    let (socket, _) = webhook.accept().expect("a request");
    let mut request = BufReader::new(socket);
    let (mut line, mut length, mut authorization) = (String::new(), 0, String::new());
    while request.read_line(&mut line).expect("a line") > 2 {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        if line.to_lowercase().starts_with("authorization:") {
            authorization.clone_from(&line);
        }
        line.clear();
    }
    let mut body = vec![0; length];
    request.read_exact(&mut body).expect("a body");
    request.into_inner().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("answered");
    let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(body["phone"], "+15550001");
    let code = body["code"].as_str().expect("a code").to_owned();
    assert!(!server.stderr().contains(&code));
    assert!(authorization.trim_end().ends_with(": Bearer open-sesame"), "{authorization}");
    assert!(!server.stderr().contains("open-sesame"));
    let asked = server.admin(&json!({ "ask": "otp", "phone": "+15550001" })).remove(0);
    assert!(asked["error"].as_str().is_some_and(|why| why.contains("development")), "{asked}");
    let verify = v1::Verify {
        phone: "+15550001".to_owned(),
        code,
        name: "Ann".to_owned(),
        device_name: "test".to_owned(),
        registration,
        pin: String::new(),
    };
    assert!(matches!(raw.ask(Request::Verify(verify)), Some(Message::Session(_))));
}

/// The fields of the first line of a log in JSON that has this message.
fn logged(server: &Ternd, message: &str) -> serde_json::Value {
    let line = server.said(&format!("\"message\":\"{message}\""));
    serde_json::from_str::<serde_json::Value>(&line).expect("JSON")["fields"].clone()
}

#[test]
fn a_start_has_one_record_and_json_is_all_that_is_said_in_json() {
    let server = Ternd::start_with(options(&["--log-format", "json", "--limit", "devices_max=3"]));
    let started = logged(&server, "started");
    assert!(started["version"].as_str().is_some_and(|version| version.starts_with("0.")), "{started}");
    assert_eq!(started["listen"], server.address().to_string());
    assert_eq!((&started["cores"], &started["development"]), (&json!(2), &json!(true)));
    assert!(started["limits"].as_str().is_some_and(|limits| limits.contains("devices_max=3")), "{started}");
    assert_eq!(started["certificate_ends"], "4096-01-01");
    assert!(started["places"].as_u64().is_some_and(|places| places > 0), "{started}");
    // It can be asked for its metrics where the record says.
    assert_eq!(server.http("/readyz").0, 200);
    for line in server.stderr().lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line:?} is no JSON");
    }
}

#[test]
fn the_log_says_who_was_refused_and_told_to_go_and_why() {
    let server = Ternd::start_with(options(&["--log", "debug", "--log-format", "json"]));
    let users = server.provision(1);
    let mut raw = Raw::logged_in(&server, &users[0].token);
    let login = logged(&server, "logged in");
    assert_eq!(login["user"], users[0].id);
    let lookup = v1::Lookup { by: Some(v1::lookup::By::Phone("+15550".to_owned())), group: 0 };
    raw.refusal(Request::Lookup(lookup));
    let refused = logged(&server, "refused");
    assert_eq!((&refused["conn"], &refused["reason"]), (&login["conn"], &json!("INVALID_PHONE")));
    raw.send_bytes(&[0xff; 64]);
    assert!(raw.farewell().is_some());
    let told = logged(&server, "told to go");
    assert_eq!(told["conn"], login["conn"]);
    assert!(told["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{told}");
    logged(&server, "closed");
    // Who can't even shake hands is told of with an address.
    let mut socket = std::net::TcpStream::connect(server.address()).expect("connected");
    socket.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("written");
    let failed = logged(&server, "a TLS handshake failed");
    assert!(failed["peer"].as_str().is_some_and(|chat| chat.contains("127.0.0.1")), "{failed}");
}

#[test]
fn sighup_reads_the_filter_again_and_names_what_needs_a_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("ternd.toml");
    let write = |text: &str| std::fs::write(&file, text).expect("written");
    write("[log]\nfilter = \"info\"\n");
    let server =
        Ternd::start_with(options(&["--config", file.to_str().expect("text"), "--log-format", "json"]));
    let hang_up = || {
        let pid = rustix::process::Pid::from_raw(server.pid() as i32).expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::HUP)
            .expect("it is this test's own child");
    };
    write("[log]\nfilter = \"debug\"\n[limits]\ndevices_max = 2\n");
    hang_up();
    let taken = logged(&server, "SIGHUP: read again");
    assert!(taken["taken"].as_str().is_some_and(|taken| taken.contains("log.filter, debug")), "{taken}");
    let named = logged(&server, "SIGHUP: these have changed, and take effect at the next start");
    assert!(named["keys"].as_str().is_some_and(|keys| keys.contains("limits.devices_max")), "{named}");
    let users = server.provision(1);
    Raw::logged_in(&server, &users[0].token);
    logged(&server, "logged in");
    write("[log]\nfiltre = \"info\"\n");
    hang_up();
    let failed = logged(&server, "SIGHUP: this stays as it was");
    assert!(failed["failed"].as_str().is_some_and(|failed| failed.contains("filtre")), "{failed}");
    assert!(Raw::logged_in(&server, &users[0].token).answers());
}

#[test]
fn systemd_is_told_when_it_is_ready_reloads_and_stops() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).expect("bound");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("an open socket");
    let told = |expected: &str| {
        let mut bytes = [0; 256];
        loop {
            let read = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("{expected}: {error}"));
            if String::from_utf8_lossy(&bytes[..read]).contains(expected) {
                return;
            }
        }
    };
    let mut server = Ternd::start_with(TerndOptions {
        environment: vec![("NOTIFY_SOCKET".to_owned(), path.to_str().expect("text").to_owned())],
        ..options(&[])
    });
    told("READY=1");
    let pid = rustix::process::Pid::from_raw(server.pid() as i32).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("it is this test's own child");
    told("RELOADING=1");
    told("READY=1");
    assert!(server.terminate().success());
    told("STOPPING=1");
}

#[test]
fn help_and_the_printed_configuration_are_complete_and_can_be_used() {
    let run = |arguments: &[&str]| {
        let output = Command::new(program("ternd")).args(arguments).output().expect("ternd runs");
        assert!(output.status.success());
        String::from_utf8(output.stdout).expect("text")
    };
    let help = run(&["--help"]);
    let configuration = run(&["--print-config"]);
    for option in
        ["--listen", "--data-dir", "--cores", "--sms-webhook", "--log-format", "--limit", "--config"]
    {
        assert!(help.contains(option), "{option} is not in --help");
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("ternd.toml");
    std::fs::write(&file, &configuration).expect("written");
    let again = run(&["--config", file.to_str().expect("text"), "--print-config"]);
    assert_eq!(again, configuration, "what is printed can be read");
}

/// The system calls in which a core's thread may be found: none, or its ring's.
const IO_URING_ENTER: &str = "426";

/// System calls that wait for a lock, a disk, another thread or a clock, by their numbers on x86-64.
const WAITS: [(&str, &str); 9] = [
    ("202", "futex"),
    ("74", "fsync"),
    ("75", "fdatasync"),
    ("0", "read"),
    ("17", "pread"),
    ("1", "write"),
    ("18", "pwrite"),
    ("35", "nanosleep"),
    ("230", "clock_nanosleep"),
];

#[test]
#[cfg(target_arch = "x86_64")]
fn under_load_a_core_is_never_found_waiting_but_for_its_ring() {
    let server = Ternd::start(4);
    let users = server.provision(16);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("listed");
    let paths = tasks.map(|task| task.expect("listed").path());
    let is_core = |path: &PathBuf| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.starts_with("tern-core-"))
    };
    let cores: Vec<PathBuf> = paths.filter(is_core).collect();
    assert_eq!(cores.len(), 4);
    let done = std::sync::atomic::AtomicBool::new(false);
    let (mut ring, mut running) = (0, 0);
    std::thread::scope(|scope| {
        for pair in users.chunks(2) {
            let (server, done) = (&server, &done);
            scope.spawn(move || {
                let mut raw = Raw::logged_in(server, &pair[0].token);
                let mut client_id = 0;
                while !done.load(std::sync::atomic::Ordering::Acquire) {
                    let ids: Vec<_> = (0..16)
                        .map(|_| {
                            client_id += 1;
                            raw.send(text(pair[1].id, client_id))
                        })
                        .collect();
                    ids.into_iter().for_each(|id| assert!(seq(raw.response(id)) > 0));
                }
            });
        }
        for sample in 0..20_000 {
            let found =
                std::fs::read_to_string(cores[sample % 4].join("syscall")).expect("a thread of our child");
            match found.split_whitespace().next() {
                Some("running") => running += 1,
                Some(IO_URING_ENTER) => ring += 1,
                Some(number) => {
                    let wait = WAITS.iter().find(|(waits, _)| *waits == number);
                    if let Some((_, name)) = wait {
                        done.store(true, std::sync::atomic::Ordering::Release);
                        panic!("a core was found in {name}, sample {sample}");
                    }
                }
                None => {}
            }
        }
        done.store(true, std::sync::atomic::Ordering::Release);
    });
    assert!(ring + running > 19_500, "{ring} in the ring, {running} running");
}
