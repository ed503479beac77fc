//! A store whose files are damaged, in the hands of an operator: what the real ternd and ternctl say and serve.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tern_proto::v1::client_frame::Request;
use tern_proto::v1::server_frame::Message;
use tern_proto::v1::{self, Reason};
use tern_testkit::{Raw, Ternd, TerndOptions, TestUser, program};

/// Enough large messages for several files of the tables.
const LARGE: u64 = 1200;
const LARGE_BYTES: usize = 60_000;
const SMALL: u64 = 50;

fn body(client_id: u64, bytes: usize) -> Vec<u8> {
    format!("message {client_id} ").into_bytes().into_iter().cycle().take(bytes).collect()
}

fn send(raw: &mut Raw, chat: &TestUser, messages: u64, bytes: usize) {
    for client_id in 1..=messages {
        let body = body(client_id, bytes).into();
        let send =
            v1::Send { chat: chat.id, client_id, body, kind: v1::Kind::Text.into(), ..Default::default() };
        match raw.ask(Request::Send(send)) {
            Some(Message::Sent(sent)) => assert_eq!(sent.seq, client_id),
            other => panic!("expected Sent, got {other:?}"),
        }
    }
}

/// How many messages of a chat are as they were sent; all others are refused as unavailable, or said to be lost.
fn read(server: &Ternd, reader: &TestUser, chat: &TestUser, messages: u64, bytes: usize) -> u64 {
    let mut raw = Raw::logged_in(server, &reader.token);
    let mut whole = 0;
    for seq in 1..=messages {
        let history = v1::History { chat: chat.id, from: seq - 1, forwards: true, limit: 1 };
        match raw.ask(Request::History(history)) {
            Some(Message::HistoryPage(page)) => {
                assert_eq!((page.entries.len(), page.head), (1, messages), "at {seq}");
                let entry = &page.entries[0];
                assert_eq!(entry.seq, seq);
                if entry.kind() != v1::Kind::Lost {
                    assert!(entry.body[..] == body(seq, bytes), "at {seq}");
                    whole += 1;
                }
            }
            Some(Message::Refused(refused)) => assert_eq!(refused.reason(), Reason::Unavailable, "at {seq}"),
            other => panic!("expected a page, got {other:?}"),
        }
    }
    whole
}

fn ternctl(arguments: &[&Path]) -> (Output, String) {
    let output =
        Command::new(program("ternctl")).arg("check").args(arguments).output().expect("ternctl runs");
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    (output, String::from_utf8(said).expect("text"))
}

fn largest_values(server: &Ternd) -> PathBuf {
    let dir = server.data_dir().join("store/tables/entries/blobs");
    let paths = std::fs::read_dir(dir).expect("listed").map(|entry| entry.expect("listed").path());
    paths.max_by_key(|path| path.metadata().expect("there").len()).expect("a file of values")
}

#[test]
fn damage_takes_what_it_covers_and_is_told_checked_and_left_behind_by_a_salvage() {
    // So much may wait for one who is away.
    let arguments = ["--limit", "waiting_bytes_max=0"].map(str::to_owned).into();
    let mut server = Ternd::start_with(TerndOptions { cores: 2, arguments, ..TerndOptions::default() });
    let users = server.provision(4);
    send(&mut Raw::logged_in(&server, &users[0].token), &users[1], LARGE, LARGE_BYTES);
    send(&mut Raw::logged_in(&server, &users[2].token), &users[3], SMALL, 100);
    let data = server.data_dir();
    let (output, said) = ternctl(&[&data]);
    assert!(!output.status.success() && said.contains("another running ternd"), "{said}");
    assert!(server.terminate().success());
    let (output, said) = ternctl(&[&data]);
    assert!(output.status.success() && said.contains("nothing is damaged or missing"), "{said}");

    let damaged = largest_values(&server);
    let file = std::fs::OpenOptions::new().write(true).open(&damaged).expect("opened");
    file.write_all_at(&vec![0; 2 << 20], 1024).expect("written");
    let (output, said) = ternctl(&[&data]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(&damaged.display().to_string()) && said.contains("checksum"), "{said}");
    server.start_again();
    let whole = read(&server, &users[1], &users[0], LARGE, LARGE_BYTES);
    assert!((LARGE - 80..LARGE).contains(&whole), "2 MiB are some 35 messages: {whole} are there");
    assert_eq!(read(&server, &users[3], &users[2], SMALL, 100), SMALL);

    assert!(server.terminate().success());
    let (salvaged, store) = (data.join("salvaged"), data.join("store"));
    let (output, said) = ternctl(&[&data, Path::new("--salvage"), &salvaged]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("what is whole is in"), "{said}");
    std::fs::remove_dir_all(&store).expect("removed");
    std::fs::rename(&salvaged, &store).expect("renamed");
    server.start_again();
    assert_eq!(read(&server, &users[1], &users[0], LARGE, LARGE_BYTES), whole);
    assert_eq!(read(&server, &users[3], &users[2], SMALL, 100), SMALL);
}

#[test]
fn a_store_that_lost_a_file_is_not_served_as_an_empty_one() {
    let mut server = Ternd::start(1);
    let users = server.provision(2);
    send(&mut Raw::logged_in(&server, &users[0].token), &users[1], 5, 100);
    assert!(server.terminate().success());
    let temporary = server.temporary();
    let store = server.data_dir().join("store");
    for file in ["tables/rows/current", "tables/entries/current", "manifest"] {
        let aside = store.join("aside");
        std::fs::rename(store.join(file), &aside).expect("moved");
        let said = Ternd::fail_to_start(Default::default(), &temporary, "127.0.0.1:0");
        assert!(
            said.contains("is damaged") && said.contains(file) && said.contains("it is missing"),
            "{said}"
        );
        let (output, said) = ternctl(&[&store]);
        assert!(!output.status.success() && said.contains(file), "{said}");
        std::fs::rename(&aside, store.join(file)).expect("moved back");
    }
    server.start_again();
    assert_eq!(read(&server, &users[1], &users[0], 5, 100), 5);
}
