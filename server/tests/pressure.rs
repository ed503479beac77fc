//! Bounds that are reached: few buffers, small rings, small caches, slow readers. Work gets slower or is refused, and
//! nothing is lost or mixed up.

mod people;

use std::sync::Arc;

use people::next_message;
use serde_json::json;
use tern_client::Event;
use tern_proto::v1::{self, client_frame::Request, server_frame::Message};
use tern_testkit::{Raw, Ternd, TerndOptions};

fn limited(cores: u16, limits: &[&str]) -> Ternd {
    let arguments = limits.iter().flat_map(|limit| ["--limit".to_owned(), (*limit).to_owned()]).collect();
    Ternd::start_with(TerndOptions { cores, arguments, ..TerndOptions::default() })
}

fn send(chat: u64, client_id: u64, bytes: usize) -> Request {
    let body = format!("{client_id} ").into_bytes().into_iter().cycle().take(bytes).collect::<Vec<_>>();
    Request::Send(v1::Send {
        chat,
        client_id,
        body: body.into(),
        kind: v1::Kind::Text.into(),
        ..Default::default()
    })
}

fn resume() -> Request {
    Request::Resume(v1::Resume::default())
}

#[test]
fn two_receive_buffers_are_enough_for_everybody_in_turn() {
    let server = limited(2, &["receive_buffers=2", "receive_buffer_bytes=512"]);
    let users = server.provision(8);
    std::thread::scope(|scope| {
        for (at, user) in users.iter().enumerate() {
            let (server, chat) = (&server, users[(at + 1) % 8].id);
            scope.spawn(move || {
                let mut raw = Raw::logged_in(server, &user.token);
                for round in 0..10 {
                    let ids: Vec<_> = (1..=20).map(|n| raw.send(send(chat, round * 20 + n, 3000))).collect();
                    for id in ids {
                        assert!(matches!(raw.response(id), Some(Message::Sent(_))));
                    }
                }
            });
        }
    });
    assert!(server.metric("tern_buffers_exhausted_total") > 0, "the bound was reached");
}

#[test]
fn a_reader_that_pauses_gets_everything_in_order_when_it_reads_on() {
    let server = limited(2, &["send_queue_bytes_max=4096"]);
    let users = server.provision(2);
    let mut slow = Raw::logged_in(&server, &users[1].token);
    slow.ask(resume());
    let mut raw = Raw::logged_in(&server, &users[0].token);
    // Far more than the sockets' buffers hold.
    for client_id in 1..=600 {
        assert!(matches!(raw.ask(send(users[1].id, client_id, 30_000)), Some(Message::Sent(_))));
    }
    let mut next = 1;
    while next <= 600 {
        let frame = slow.receive().expect("the connection lives");
        if let Some(Message::Entry(entry)) = frame.message {
            assert_eq!((entry.seq, entry.body.len()), (next, 30_000));
            next += 1;
        }
    }
    assert!(slow.answers());
}

#[test]
fn a_reader_that_asks_on_and_never_reads_is_shown_out() {
    let server = limited(2, &["send_queue_bytes_hard_max=8388608", "unsent_bytes_max=1073741824"]);
    let users = server.provision(2);
    let mut raw = Raw::logged_in(&server, &users[0].token);
    for client_id in 1..=100 {
        assert!(matches!(raw.ask(send(users[1].id, client_id, 60_000)), Some(Message::Sent(_))));
    }
    let mut greedy = Raw::logged_in(&server, &users[1].token);
    greedy.narrow();
    let history = v1::History { chat: users[0].id, from: 0, forwards: false, limit: 0 };
    // It is told, but more waits before that than the kernel takes: the server waits no longer than it must.
    let connections = || {
        let status = server.admin(&json!({ "ask": "status" })).remove(0);
        let cores = status["ok"]["cores"].as_array().expect("cores").clone();
        cores.iter().map(|core| core["connections"].as_u64().expect("a number")).sum::<u64>()
    };
    while connections() > 1 {
        greedy.send(Request::History(history));
        assert!(raw.answers(), "nobody else is harmed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rings_between_cores_that_are_full_lose_and_reorder_nothing() {
    let server = limited(4, &["mesh_ring_messages=2", "mesh_backlog_max=1"]);
    everybody_writes_to_everybody(&server, 12, 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_that_hold_hardly_anything_forget_nothing() {
    let limits = ["logs_cached_max=16", "users_cached_max=16", "tail_entries_max=1", "tail_bytes_max=1"];
    let server = limited(2, &limits);
    everybody_writes_to_everybody(&server, 16, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_cores_than_cpus_work() {
    let server = limited(8, &[]);
    everybody_writes_to_everybody(&server, 8, 5).await;
}

/// Each of `count` people writes `rounds` messages to each other one, all at once; everybody hears everything in order.
async fn everybody_writes_to_everybody(server: &Ternd, count: usize, rounds: u64) {
    let mut people = Vec::new();
    for number in 0..count {
        people.push(people::join(server, &format!("+1555200{number:04}"), "Somebody").await);
    }
    let ids: Arc<[u64]> = people.iter().map(people::Person::id).collect();
    let mut tasks = Vec::new();
    for person in people {
        let ids = ids.clone();
        tasks.push(tokio::spawn(async move {
            let me = person.id();
            let client = person.client.clone();
            let others: Vec<u64> = ids.iter().copied().filter(|id| *id != me).collect();
            let writer = tokio::spawn(async move {
                for round in 0..rounds {
                    for other in &others {
                        client.send(*other, format!("{me} {round}")).await.expect("durable in the end");
                    }
                }
            });
            let mut events = person.events;
            let mut next = std::collections::HashMap::new();
            for _ in 0..2 * rounds * (ids.len() as u64 - 1) {
                let message = next_message(&mut events).await;
                let next = next.entry(message.chat).or_insert(1);
                assert_eq!(message.seq, *next, "in order, and each once");
                *next += 1;
            }
            writer.await.expect("no panic");
            while let Some(event) = events.try_next() {
                assert!(!matches!(event, Event::Message(_)), "nothing more was said");
            }
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
}
