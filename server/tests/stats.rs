//! What is counted of days, against a real server of several cores: nothing is lost or counted twice by a kill, a start and slots that
//! move, but for messages of the last moments before a kill; and `ternctl stats` and `/metrics` say it.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tern_proto::v1::{self, Kind, server_frame::Message};
use tern_testkit::person::{Person, people};
use tern_testkit::{Raw, Ternd, TerndOptions, program};

/// How long what was counted may take to be shown.
const HANG: Duration = Duration::from_secs(60);

fn start() -> Ternd {
    let arguments = ["--limit", "counted_every_ms=100"].map(str::to_owned).into();
    Ternd::start_with(TerndOptions { cores: 4, arguments, ..TerndOptions::default() })
}

fn ctl(server: &Ternd, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(program("ternctl"))
        .arg("--data-dir")
        .arg(server.data_dir())
        .args(arguments)
        .output()
        .expect("ternctl runs");
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(said).expect("text"))
}

fn stats(server: &Ternd) -> Value {
    let (done, said) = ctl(server, &["stats", "--days", "3", "--json"]);
    assert!(done, "{said}");
    serde_json::from_str(&said).expect("JSON")
}

/// A number of the last days together: a test may run over midnight.
fn sum(stats: &Value, name: &str) -> u64 {
    stats["days"].as_array().expect("days").iter().map(|day| day[name].as_u64().expect("a number")).sum()
}

/// Waits until the counts of messages are these.
fn await_messages(server: &Ternd, direct: u64, group: u64) {
    let begin = Instant::now();
    loop {
        let stats = stats(server);
        let counted = (sum(&stats, "direct"), sum(&stats, "group"));
        if counted == (direct, group) {
            return;
        }
        assert!(begin.elapsed() < HANG && counted.0 <= direct && counted.1 <= group, "{counted:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until a metric has a value.
fn await_metric(server: &Ternd, name: &str, value: u64) {
    let begin = Instant::now();
    let line = format!("{name} {value}");
    loop {
        let (_, text) = server.http("/metrics");
        if text.lines().any(|found| found == line) {
            return;
        }
        assert!(begin.elapsed() < HANG, "{line} is not in\n{text}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn accounts_and_messages_are_counted_once_through_a_kill_a_start_and_moves() {
    let mut server = start();
    let [mut ann, bob, cyd] = people(&server);
    let group = ann.make("us", vec![bob.user.id, cyd.user.id], v1::GroupSettings::default());
    for text in ["one", "two", "three"] {
        ann.say(bob.user.id, text);
    }
    ann.say(group, "all");
    await_messages(&server, 3, 1);
    let before = stats(&server);
    assert_eq!((&before["accounts"], sum(&before, "registered")), (&3.into(), 3));
    assert_eq!((sum(&before, "devices"), sum(&before, "groups")), (3, 1));
    assert_eq!(before["days"][0]["active_30"], 3);

    // Slots of people, and of the days, go from core to core; then the process is killed, and starts again.
    for slot in (0..4096).step_by(16) {
        server.admin(&json!({ "ask": "move_slot", "slot": slot, "to": slot / 16 % 4 }));
    }
    server.kill_and_restart();
    for user in [&ann.user, &bob.user, &cyd.user] {
        Raw::logged_in(&server, &user.token);
    }
    let after = stats(&server);
    for name in ["registered", "devices", "deleted", "direct", "group", "groups"] {
        assert_eq!(sum(&after, name), sum(&before, name), "{name}");
    }
    assert_eq!(after["days"][0]["active_30"], 3);

    // A server that is told to end writes what it has counted to the last message.
    let sent = ann.sent;
    ann = Person::new(&server, ann.user.clone());
    ann.sent = sent;
    for number in 0..20 {
        ann.say(bob.user.id, &format!("message {number}"));
    }
    assert!(server.terminate().success());
    server.start_again();
    let ended = stats(&server);
    assert_eq!((sum(&ended, "direct"), sum(&ended, "group")), (23, 1));

    let answer = server.admin(&json!({ "ask": "delete_user", "who": cyd.user.id.to_string() })).remove(0);
    assert!(answer.get("ok").is_some(), "{answer}");
    let ended = stats(&server);
    assert_eq!((&ended["accounts"], sum(&ended, "deleted")), (&2.into(), 1));
}

#[test]
fn metrics_and_the_operators_tool_show_what_was_counted_and_nobody() {
    let server = start();
    let [mut ann, bob] = people(&server);
    let entry = ann.new_send(bob.user.id, Kind::Text, 0, b"hello");
    let (first, again) = (ann.ask(entry.clone()), ann.ask(entry));
    assert!(matches!((&first, &again), (Message::Sent(_), Message::Sent(_))), "{first:?} {again:?}");
    for (name, value) in [
        ("tern_messages_sent_total{chat=\"direct\"}", 1),
        ("tern_messages_sent_total{chat=\"group\"}", 0),
        ("tern_accounts_registered_total", 2),
        ("tern_accounts_deleted_total", 0),
        ("tern_accounts", 2),
        ("tern_accounts_active{days=\"30\"}", 2),
        ("tern_accounts_active{days=\"7\"}", 2),
    ] {
        await_metric(&server, name, value);
    }
    let (_, metrics) = server.http("/metrics");
    assert!(
        metrics.contains("tern_accounts_returned_ratio{after_days=\"1\"} NaN"),
        "nobody can have come back yet"
    );

    let (done, page) = ctl(&server, &["stats"]);
    assert!(
        done && page.starts_with("2 accounts; 2 registered, 0 deleted\n1 messages in direct chats"),
        "{page}"
    );
    let (_, all) = ctl(&server, &["stats", "--json"]);
    for user in [&ann.user, &bob.user] {
        for text in [&metrics, &page, &all] {
            assert!(!text.contains(&user.id.to_string()) && !text.contains(&user.phone[1..]), "{text}");
        }
    }
    for days in ["0", "401"] {
        assert!(!ctl(&server, &["stats", "--days", days]).0);
        let days: u32 = days.parse().expect("a number");
        let answer = server.admin(&json!({ "ask": "stats", "days": days })).remove(0);
        assert!(answer["error"].as_str().is_some_and(|why| why.contains("1 to 400")), "{answer}");
    }
    let audit = std::fs::read_to_string(server.data_dir().join("audit.jsonl")).unwrap_or_default();
    assert!(!audit.contains("stats"), "{audit}");
}
