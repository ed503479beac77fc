//! Devices that come back resume their TLS session: at any core, after a start, and as long as the server has the keys of their
//! tickets. Where it has not they make a full handshake, and notice nothing.

use tern_testkit::{Raw, Ternd, TerndOptions, Tls};
use tern_wire::tls::ALPN;

/// A device comes, says hello, and goes. `true` if it resumed.
fn come(server: &Ternd, device: &Tls) -> bool {
    let mut raw = Raw::connect_with(server.address(), device).expect("a TLS connection");
    raw.hello();
    raw.resumed()
}

fn device(server: &Ternd) -> Tls {
    Tls::new(&server.ca_file(), &[ALPN])
}

fn with(arguments: &[&str]) -> TerndOptions {
    TerndOptions {
        cores: 4,
        arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        ..TerndOptions::default()
    }
}

#[test]
fn who_comes_back_resumes_at_any_core_and_is_counted() {
    let server = Ternd::start_with(with(&[]));
    let (device, other) = (device(&server), device(&server));
    assert!(!come(&server, &device), "nobody knows it yet");
    for _ in 0..40 {
        assert!(come(&server, &device));
    }
    assert!(!come(&server, &other), "a ticket is its device's own");
    assert_eq!(server.metric("tern_handshakes_total"), 42);
    assert_eq!(server.metric("tern_handshakes_resumed_total"), 40);
}

#[test]
fn who_comes_back_after_a_start_resumes() {
    let mut server = Ternd::start_with(with(&[]));
    let device = device(&server);
    assert!(!come(&server, &device));
    server.terminate();
    server.start_again();
    assert!(come(&server, &device), "after an orderly end");
    server.kill_and_restart();
    assert!(come(&server, &device), "after a crash");
    // With other cores, and a certificate that is read again.
    server.restart_with(TerndOptions { cores: 2, ..with(&[]) });
    server.admin(&serde_json::json!({"ask": "reload"}));
    assert!(come(&server, &device));
}

#[test]
fn where_the_keys_are_gone_the_handshake_is_a_full_one() {
    let mut server = Ternd::start_with(with(&[]));
    let device = device(&server);
    assert!(!come(&server, &device));
    assert!(come(&server, &device));
    server.terminate();
    std::fs::remove_dir_all(server.data_dir().join("store")).expect("removed");
    server.start_again();
    assert!(!come(&server, &device), "another store has other keys");
    assert!(come(&server, &device), "and gives tickets of its own");
    assert_eq!(server.metric("tern_handshake_failures_total"), 0);
}

#[test]
fn without_tickets_nobody_resumes_and_their_keys_go() {
    let mut server = Ternd::start_with(with(&[]));
    let device = device(&server);
    assert!(!come(&server, &device));
    server.restart_with(with(&["--limit", "ticket_valid_ms=0"]));
    assert!(!come(&server, &device));
    assert!(!come(&server, &device));
    server.restart_with(with(&[]));
    assert!(!come(&server, &device), "the keys of its ticket are gone");
    assert!(come(&server, &device));
}

#[test]
fn a_ticket_of_another_server_is_no_reason_to_refuse_a_device() {
    let (server, mut other) = (Ternd::start_with(with(&[])), Ternd::start_with(with(&[])));
    // So that the device takes both for the same one.
    for file in ["cert.pem", "key.pem"] {
        std::fs::copy(server.data_dir().join(file), other.data_dir().join(file)).expect("copied");
    }
    other.kill_and_restart();
    let device = device(&server);
    assert!(!come(&server, &device));
    assert!(!come(&other, &device), "the ticket says nothing there");
    assert!(come(&other, &device));
    assert_eq!(other.metric("tern_handshake_failures_total"), 0);
}
