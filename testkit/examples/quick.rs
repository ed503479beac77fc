//! Quick figures of the real `ternd` in a process of its own: messages a second and their acknowledgement, and the memory
//! of idle connections. A first look, not a bench: the load shares the machine with the server.
//!
//! ```sh
//! cargo run --release -p tern-testkit --example quick -- pairs PAIRS WINDOW SECONDS
//! cargo run --release -p tern-testkit --example quick -- idle CONNECTIONS
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tern_proto::v1::{self, client_frame::Request, server_frame::Message};
use tern_testkit::{Raw, Ternd, TerndOptions};

/// Bytes of a message.
const BODY_BYTES: usize = 200;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse::<u64>().ok());
    match (arguments.first().map(String::as_str), number(1), number(2), number(3)) {
        (Some("pairs"), Some(count), Some(window @ 1..), Some(seconds)) => {
            pairs(count as u32, window, seconds)
        }
        (Some("idle"), Some(connections), ..) => idle(connections as u32),
        _ => {
            eprintln!("usage: quick pairs PAIRS WINDOW SECONDS | quick idle CONNECTIONS");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Pairs of a sender, which keeps a window of messages unacknowledged, and a recipient, which counts what comes.
fn pairs(count: u32, window: u64, seconds: u64) {
    let server = Ternd::start_with(TerndOptions::default());
    let users = server.provision(2 * count);
    let (stop, delivered) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut cpu = cpu_seconds(server.pid());
    let begin = Instant::now();
    let mut latencies: Vec<Duration> = thread::scope(|scope| {
        let (server, stop, delivered) = (&server, &stop, &delivered);
        let mut senders = Vec::new();
        for pair in users.chunks(2) {
            let (sender, recipient) = (&pair[0], &pair[1]);
            let mut inbox = Raw::logged_in(server, &recipient.token);
            inbox.ask(Request::Resume(v1::Resume::default()));
            let sent = scope
                .spawn(move || send(&mut Raw::logged_in(server, &sender.token), recipient.id, window, stop));
            scope.spawn(move || receive(&mut inbox, delivered));
            senders.push(sent);
        }
        thread::sleep(Duration::from_secs(seconds));
        stop.store(true, Ordering::Release);
        let latencies: Vec<_> =
            senders.into_iter().flat_map(|sender| sender.join().expect("no panic")).collect();
        while delivered.load(Ordering::Acquire) < latencies.len() as u64 {
            thread::sleep(Duration::from_millis(10));
        }
        cpu = cpu_seconds(server.pid()) - cpu;
        server.ask_to_end();
        latencies
    });
    let took = begin.elapsed().as_secs_f64().min(seconds as f64);
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_micros();
    println!(
        "{count} pairs, {window} in flight, {BODY_BYTES} bytes: {:.0} messages/s acknowledged, {} of {} delivered; \
         acknowledgement p50 {} us, p99 {} us, p99.9 {} us",
        latencies.len() as f64 / took,
        delivered.load(Ordering::Acquire),
        latencies.len(),
        at(0.5),
        at(0.99),
        at(0.999),
    );
    println!("server CPU: {:.1} us a message", cpu * 1e6 / latencies.len() as f64);
}

fn send(raw: &mut Raw, peer: u64, window: u64, stop: &AtomicBool) -> Vec<Duration> {
    let mut under_way = HashMap::new();
    let mut latencies = Vec::new();
    for client_id in 1.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let body = vec![b'x'; BODY_BYTES].into();
        let kind = v1::Kind::Text.into();
        let id = raw.send(Request::Send(v1::Send { peer, client_id, body, kind }));
        under_way.insert(id, Instant::now());
        if under_way.len() as u64 >= window {
            acknowledged(raw, &mut under_way, &mut latencies);
        }
    }
    while !under_way.is_empty() {
        acknowledged(raw, &mut under_way, &mut latencies);
    }
    latencies
}

fn acknowledged(raw: &mut Raw, under_way: &mut HashMap<u64, Instant>, latencies: &mut Vec<Duration>) {
    let frame = raw.receive().expect("the server lives");
    match (under_way.remove(&frame.id), frame.message) {
        (Some(sent), Some(Message::Sent(_))) => latencies.push(sent.elapsed()),
        (_, other) => panic!("expected an acknowledgement, got {other:?}"),
    }
}

fn receive(raw: &mut Raw, delivered: &AtomicU64) {
    let mut seq = 0;
    while let Some(frame) = raw.receive() {
        if let Some(Message::Entry(entry)) = frame.message {
            assert_eq!(entry.seq, seq + 1, "in order, and each once");
            seq = entry.seq;
            delivered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Connections that are logged in and silent; all answer a ping at the end.
fn idle(count: u32) {
    let server = Ternd::start_with(TerndOptions::default());
    let users = server.provision(count);
    // What the accounts take of the server's memory is there before; one connection warms up what all share.
    let mut held = vec![Raw::logged_in(&server, &users[0].token)];
    let (user_before, kernel_before) = (anonymous_bytes(server.pid()), slab_bytes());
    let begin = Instant::now();
    for user in &users[1..] {
        held.push(Raw::logged_in(&server, &user.token));
    }
    let took = begin.elapsed().as_secs_f64();
    let (user_after, kernel_after) = (anonymous_bytes(server.pid()), slab_bytes());
    let made = (held.len() - 1) as f64;
    println!("{} connections made in {took:.1} s", held.len());
    println!("server, user space: {:.0} bytes a connection", (user_after as f64 - user_before as f64) / made);
    println!(
        "kernel, both ends: {:.0} bytes a connection",
        (kernel_after as f64 - kernel_before as f64) / made
    );
    let answered = held.iter_mut().filter_map(|raw| raw.answers().then_some(())).count();
    println!("{answered} answered a ping");
}

/// A process's private memory.
fn anonymous_bytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("a process of ours");
    kilobytes(&text, "Anonymous:") * 1024
}

/// The kernel's small objects: sockets, files, io_uring requests.
fn slab_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("Linux");
    kilobytes(&text, "Slab:") * 1024
}

fn kilobytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(name)).expect("there is such a line");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process of ours");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
    // utime and stime, in hundredths of a second.
    (ticks(11) + ticks(12)) as f64 / 100.0
}
