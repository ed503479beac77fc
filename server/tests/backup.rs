//! A server is backed up while people talk, and restored: what was acknowledged before the backup ended is there, each once and in order;
//! and the backup goes on whatever becomes of the server.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tern_testkit::person::{Person, people};
use tern_testkit::{Ternd, TestUser};

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

fn directory(server: &Ternd) -> PathBuf {
    server.data_dir().with_file_name("backup")
}

fn start(server: &Ternd, more: &Value) {
    let mut question = json!({ "ask": "backup_start", "dir": directory(server) });
    question.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let answer = server.admin(&question).remove(0);
    assert!(answer["ok"].is_object(), "{answer}");
}

fn stop(server: &Ternd) -> Value {
    server.admin(&json!({ "ask": "backup_stop" }));
    server.backup_until(|status| status["phase"] == "off")
}

/// A base is there, and none is being copied.
fn has_base(status: &Value) -> bool {
    assert!(status["trouble"].is_null(), "{status}");
    status["base"].is_object() && status["copying"].is_null()
}

/// Somebody who says one thing after another to somebody else, until it is enough.
struct Talk {
    users: [TestUser; 2],
    /// So many are acknowledged.
    acknowledged: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Talk {
    fn begin(mut one: Person, other: Person, enough: &Arc<AtomicBool>) -> Self {
        let users = [one.user.clone(), other.user.clone()];
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (enough, count) = (enough.clone(), acknowledged.clone());
        let thread = thread::spawn(move || {
            let to = other.user.id;
            while !enough.load(Ordering::Acquire) {
                let number = count.load(Ordering::Acquire) + 1;
                // The server may be killed meanwhile.
                let request = one.text(to, &format!("number {number}"));
                let id = one.raw.send(request);
                let Some(message) = one.raw.response(id) else { return };
                assert_eq!(tern_testkit::person::seq_of(message), number);
                count.store(number, Ordering::Release);
            }
        });
        Self { users, acknowledged, thread }
    }

    fn count(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    /// What was said is there, in order, each once, and at least so much of it.
    fn is_there(&self, server: &Ternd, at_least: u64) -> u64 {
        let mut one = Person::new(server, self.users[0].clone());
        let to = self.users[1].id;
        let mut number = 0;
        loop {
            let page = history(&mut one, to, number);
            for entry in &page.entries {
                number += 1;
                let said = format!("number {number}");
                assert_eq!((entry.seq, &entry.body[..]), (number, said.as_bytes()), "in order, each once");
            }
            assert!(page.head >= at_least, "{at_least} were acknowledged, and {} are there", page.head);
            if number == page.head {
                return number;
            }
        }
    }
}

fn history(one: &mut Person, chat: u64, from: u64) -> tern_proto::v1::HistoryPage {
    use tern_proto::v1::{History, client_frame::Request, server_frame::Message};
    let history = History { chat, from, forwards: true, limit: 0 };
    match one.ask(Request::History(history)) {
        Message::HistoryPage(page) => page,
        other => panic!("expected a page, got {other:?}"),
    }
}

fn talks(server: &Ternd, enough: &Arc<AtomicBool>) -> Vec<Talk> {
    let all: [Person; 8] = people(server);
    let mut all = all.into_iter();
    let mut talks = Vec::new();
    while let (Some(one), Some(other)) = (all.next(), all.next()) {
        talks.push(Talk::begin(one, other, enough));
    }
    talks
}

fn counts(talks: &[Talk]) -> Vec<u64> {
    talks.iter().map(Talk::count).collect()
}

/// Waits until each has said so much more.
fn say_more(talks: &[Talk], more: u64) {
    let before = counts(talks);
    while talks.iter().zip(&before).any(|(talk, before)| talk.count() < before + more) {
        thread::yield_now();
    }
}

fn end(talks: &mut [Talk], enough: &AtomicBool) {
    enough.store(true, Ordering::Release);
    for talk in talks {
        std::mem::replace(&mut talk.thread, thread::spawn(|| {})).join().expect("it was answered");
    }
}

fn check(dir: &Path, whole: bool) -> Value {
    let mut verify = std::process::Command::new(tern_testkit::program("ternctl"));
    let done = verify.args(["backup", "verify", "--json"]).arg(dir).output().expect("ternctl runs");
    let found: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!((done.status.success(), &found["whole"]), (whole, &json!(whole)), "{found}");
    found
}

#[test]
fn a_restore_of_a_backup_taken_under_load_holds_every_message_acknowledged_before_it_ended() {
    let mut server = Ternd::start(2);
    let enough = Arc::new(AtomicBool::new(false));
    let mut talks = talks(&server, &enough);
    say_more(&talks, 20);
    start(&server, &json!({}));
    server.backup_until(has_base);
    say_more(&talks, 50);
    // It may be gone through while it is written.
    check(&directory(&server), true);
    let before = counts(&talks);
    let ended = stop(&server);
    let after = counts(&talks);
    say_more(&talks, 20);
    end(&mut talks, &enough);
    assert!(ended["trouble"].is_null(), "{ended}");
    check(&directory(&server), true);
    server.terminate();
    let restored = server.restore(&directory(&server), &[]);
    assert!(restored["groups"].as_u64().expect("a number") > 0, "some of it came from the log: {restored}");
    server.start_again();
    for (talk, (before, after)) in talks.iter().zip(before.iter().zip(after)) {
        let there = talk.is_there(&server, *before);
        assert!(there <= after + 1, "{there} are there, and {after} were said by its end");
    }
    // It goes on as any other.
    let seq = talks[0].is_there(&server, 0) + 1;
    let mut one = Person::new(&server, talks[0].users[0].clone());
    one.sent = seq;
    assert_eq!(one.say(talks[0].users[1].id, "afterwards"), seq);
}

#[test]
fn a_backup_of_a_server_that_was_killed_holds_what_it_was_told_to_and_goes_on() {
    let mut server = Ternd::start(2);
    let enough = Arc::new(AtomicBool::new(false));
    let mut talks = talks(&server, &enough);
    start(&server, &json!({}));
    server.backup_until(has_base);
    say_more(&talks, 50);
    let (before, then) = (counts(&talks), now_ms());
    let told = server.backup_until(|status| status["covers_ms"].as_u64() > Some(then));
    enough.store(true, Ordering::Release);
    server.kill_and_restart();
    // Those who asked just then have no answer.
    end(&mut talks, &enough);
    let status = server.backup_until(has_base);
    assert_eq!(status["chain"], told["chain"], "it goes on where it was");
    start(&server, &json!({ "base": true }));
    let status = server.backup_until(|status| status["base"]["number"] == 2 && has_base(status));
    assert_eq!(status["chain"], told["chain"]);
    server.terminate();
    check(&directory(&server), true);
    server.restore(&directory(&server), &[]);
    server.start_again();
    for (talk, before) in talks.iter().zip(before) {
        talk.is_there(&server, before);
    }
    // The restored store knows of no backup: the next one begins anew beside it.
    assert_eq!(server.backup_until(|_| true)["phase"], "off");
    start(&server, &json!({}));
    let anew = server.backup_until(has_base);
    assert!(anew["chain"].as_u64() > told["chain"].as_u64(), "{anew}");
}

#[test]
fn a_restore_to_a_time_holds_nothing_later() {
    let mut server = Ternd::start(2);
    let [mut ann, bob] = people(&server);
    start(&server, &json!({}));
    server.backup_until(has_base);
    let said: Vec<_> = (1..=3).map(|number| ann.say(bob.user.id, &format!("number {number}"))).collect();
    assert_eq!(said, [1, 2, 3]);
    // The log has a time now and then: of the next one on, what was said is within it.
    let then = now_ms();
    server.backup_until(|status| status["covers_ms"].as_u64() > Some(then));
    let between = now_ms();
    // Times of the log are those of the server's clock, read just before.
    while now_ms() < between + 250 {
        thread::yield_now();
    }
    ann.say(bob.user.id, "too late");
    stop(&server);
    server.terminate();
    let to = jiff::Timestamp::from_millisecond(between as i64).expect("a time").to_string();
    server.restore(&directory(&server), &["--to", &to]);
    server.start_again();
    let mut ann = Person::new(&server, ann.user.clone());
    let page = history(&mut ann, bob.user.id, 0);
    assert_eq!(page.head, 3, "up to {to}");
}

#[test]
fn a_directory_that_can_not_be_written_to_delays_nobody_and_is_told() {
    let server = Ternd::start(2);
    let [mut ann, bob] = people(&server);
    // Where a file lies there can be no directory.
    std::fs::write(directory(&server), "in the way").expect("written");
    start(&server, &json!({}));
    let status = server.backup_until(|status| status["trouble"].is_string());
    assert_eq!(status["phase"], "waiting");
    let seq = ann.say(bob.user.id, "as ever");
    assert_eq!(seq, 1);
    let status = server.admin(&json!({ "ask": "status" })).remove(0)["ok"]["node"].clone();
    let alarms = status["alarms"].to_string();
    assert!(alarms.contains("the backup is in trouble"), "{alarms}");
    assert_eq!(status["ready"], true, "clients are served");
    assert!(server.metric("tern_store_backup_failures_total") > 0);
    // It goes on by itself.
    std::fs::remove_file(directory(&server)).expect("removed");
    server.backup_until(|status| status["base"].is_object());
    assert_eq!(server.metric("tern_store_backup_running"), 1);
}

#[test]
fn what_is_wrong_with_a_question_is_said_and_nothing_begins() {
    let server = Ternd::start(1);
    let dir = directory(&server);
    for (question, why) in [
        (json!({ "ask": "backup_start", "dir": "relative" }), "absolute"),
        (json!({ "ask": "backup_start", "dir": dir, "rate": 1 }), "bytes a second"),
        (json!({ "ask": "backup_start", "dir": dir, "keep": 0 }), "can be kept"),
        (json!({ "ask": "backup_start", "dir": dir, "key_file": "/nowhere/key" }), "No such file"),
        (json!({ "ask": "backup_start", "dir": dir, "speed": 1 }), "not a question"),
        (json!({ "ask": "backup_rate", "rate": 33_554_432 }), "no backup goes on"),
    ] {
        let answer = server.admin(&question).remove(0);
        assert!(answer["error"].as_str().is_some_and(|error| error.contains(why)), "{question}: {answer}");
    }
    assert_eq!(server.backup_until(|_| true)["phase"], "off");
    assert!(!dir.exists());
}

#[test]
fn a_directory_with_something_else_in_it_is_left_alone() {
    let server = Ternd::start(1);
    let other = directory(&server).join("2024");
    std::fs::create_dir_all(&other).expect("made");
    start(&server, &json!({}));
    let status = server.backup_until(|status| status["trouble"].is_string());
    assert!(status["trouble"].to_string().contains("something else"), "{status}");
    stop(&server);
    assert!(other.is_dir());
}
