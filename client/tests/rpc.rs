//! `tern rpc`: programs on one account, and the other commands beside it.

mod live;
mod profiles;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use profiles::{Listener, Profile};
use serde_json::{Value, json};
use tern_client::Event;
use tern_testkit::Ternd;

/// A process that serves a profile, on a socket.
struct Serving {
    child: Child,
    socket: PathBuf,
}

impl Serving {
    fn start(profile: &Profile) -> Self {
        let mut child = profile.tern(&["rpc", "--socket"]).stderr(Stdio::piped()).spawn().expect("tern runs");
        let mut said = String::new();
        BufReader::new(child.stderr.take().expect("piped")).read_line(&mut said).expect("a line");
        assert!(said.contains("serving"), "{said}");
        Self { child, socket: profile.dir.join("rpc.sock") }
    }

    fn connect(&self) -> Program {
        Program::over(UnixStream::connect(&self.socket).expect("it listens"))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program at the other end of a socket.
struct Program {
    stream: UnixStream,
    lines: std::io::Lines<BufReader<UnixStream>>,
    asked: u64,
}

impl Program {
    fn over(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        let lines = BufReader::new(stream.try_clone().expect("a copy")).lines();
        Self { stream, lines, asked: 0 }
    }

    fn write(&mut self, line: &str) {
        writeln!(self.stream, "{line}").expect("written");
    }

    fn line(&mut self) -> Value {
        let line = self.lines.next().expect("a line").expect("text");
        serde_json::from_str(&line).expect("JSON")
    }

    fn ask(&mut self, method: &str, params: Value) -> u64 {
        self.asked += 1;
        let id = self.asked;
        self.write(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string());
        id
    }

    /// Asks, and gives the answer, which comes before any event that is not dealt with here.
    fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.ask(method, params);
        loop {
            let line = self.line();
            if line["id"] == id {
                return line;
            }
        }
    }

    fn result(&mut self, method: &str, params: Value) -> Value {
        let answer = self.call(method, params);
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// The next message that is told, with its id.
    fn message(&mut self) -> Value {
        loop {
            let line = self.line();
            if line["method"] == "event" && line["params"]["event"] == "message" {
                return line["params"].clone();
            }
        }
    }
}

#[test]
fn the_commands_of_a_profile_go_through_the_process_that_has_it() {
    let server = Ternd::start(2);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let bob = Profile::register(&server, dir.path(), "+15550002", "Bob");
    ann.json(&["send", "+15550002", "one", "--json"]);
    let serving = Serving::start(&bob);
    let through = |arguments: &[&str]| bob.json(&[arguments, &["--json"]].concat()).remove(0);
    assert_eq!(through(&["send", "+1 555 0001", "two"])["seq"], 2);
    assert_eq!(through(&["history", "+15550001"])["messages"][0]["text"], "one");
    let chats = through(&["chats"]);
    assert_eq!((&chats["chats"][0]["name"], &chats["chats"][0]["unread"]), (&"Ann".into(), &1.into()));
    assert_eq!(through(&["read", "+15550001"])["read_upto"], 2);
    assert_eq!(through(&["chats", "--unread"])["chats"], json!([]));
    assert_eq!(through(&["rename", "Robert", "--device", "phone"])["name"], "Robert");
    let me = through(&["whoami"]);
    assert_eq!(
        (&me["name"], &me["phone"], &me["connected"]),
        (&"Robert".into(), &"+15550002".into(), &true.into())
    );
    assert_eq!(through(&["devices"])["devices"][0]["device_name"], "phone");
    // What is refused is refused as without it.
    let refused = bob.run(&["send", "+15559999", "nobody"]);
    assert_eq!(refused.status.code(), Some(5), "{refused:?}");
    let busy = bob.refusal(&["listen"]);
    assert!(busy.contains("in use"), "{busy}");
    // Killed, it leaves a socket that stands in nobody's way.
    drop(serving);
    assert_eq!(bob.json(&["send", "+15550001", "three", "--json"])[0]["seq"], 3);
    assert_eq!(
        bob.json(&["listen", "--once", "--json"]).iter().filter(|event| event["event"] == "message").count(),
        3
    );
}

#[test]
fn a_program_is_told_what_is_wrong_with_what_it_asks() {
    let server = Ternd::start(1);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    // On standard input and output, until the input ends.
    let requests = [
        "not JSON",
        "[]",
        "7",
        r#"{"id":1,"method":"whoami"}"#,
        r#"{"jsonrpc":"2.0","id":{},"method":"whoami"}"#,
        r#"{"jsonrpc":"2.0","id":2,"method":"nonsense"}"#,
        r#"{"jsonrpc":"2.0","id":3,"method":"send","params":{"phone":"+15550001"}}"#,
        r#"{"jsonrpc":"2.0","id":4,"method":"send","params":{"phone":"x","text":"y"}}"#,
        r#"{"jsonrpc":"2.0","id":5,"method":"chats","params":{"nonsense":1}}"#,
        r#"{"jsonrpc":"2.0","id":6,"method":"ack","params":{"upto":99}}"#,
        "",
        r#"{"jsonrpc":"2.0","method":"send","params":{"phone":"+15550001","text":"nobody is told"}}"#,
        r#"[{"jsonrpc":"2.0","id":"a","method":"whoami"},{"jsonrpc":"2.0","method":"chats"},{"jsonrpc":"2.0","id":"b","method":"x"}]"#,
    ];
    let mut child =
        ann.tern(&["rpc"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("tern runs");
    child.stdin.take().expect("piped").write_all(requests.join("\n").as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "the end of the input is its end: {output:?}");
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .expect("text")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let code = |id: u64| {
        let answer = lines.iter().find(|line| line["id"] == id).unwrap_or_else(|| panic!("{id}: {lines:?}"));
        answer["error"]["code"].clone()
    };
    let nameless =
        |code: i64| lines.iter().filter(|line| line["id"].is_null() && line["error"]["code"] == code).count();
    assert_eq!(nameless(-32700), 1);
    assert_eq!(nameless(-32600), 4, "{lines:?}");
    assert_eq!(code(2), -32601);
    (3..=6).for_each(|id| assert_eq!(code(id), -32602, "{id}"));
    let batch = lines.iter().find_map(Value::as_array).expect("a batch is answered as one");
    assert_eq!(batch.len(), 2, "{batch:?}");
    assert!(batch[0]["result"]["phone"] == "+15550001" && batch[1]["error"]["code"] == -32601, "{batch:?}");
    // Nobody was told, but it was done.
    assert_eq!(ann.json(&["history", "+15550001", "--json"])[0]["messages"][0]["text"], "nobody is told");
}

#[test]
fn what_was_not_acknowledged_is_told_again_and_a_key_sends_once() {
    let server = Ternd::start(2);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let bob = Profile::register(&server, dir.path(), "+15550002", "Bob");
    for text in ["one", "two", "three", "four"] {
        ann.json(&["send", "+15550002", text, "--json"]);
    }
    let serving = Serving::start(&bob);
    let mut first = serving.connect();
    first.result("subscribe", json!({}));
    let told: Vec<_> = (0..4).map(|_| first.message()).collect();
    assert_eq!(told[3]["text"], "four");
    // In any order: the second waits for the first.
    first.result("ack", json!({ "event": told[1]["id"] }));
    first.result("ack", json!({ "event": told[0]["id"] }));
    let send = json!({ "phone": "+15550001", "text": "answer", "key": "k" });
    let sent = first.result("send", send.clone());
    // A second reader takes over, and is told what the first has not acknowledged.
    let mut second = serving.connect();
    second.result("subscribe", json!({}));
    assert_eq!(second.message()["text"], "three");
    assert_eq!(second.message()["text"], "four");
    loop {
        match first.line()["method"].as_str() {
            Some("replaced") => break,
            Some("event") => {}
            other => panic!("expected to be replaced, got {other:?}"),
        }
    }
    assert_eq!(second.result("send", send.clone()), sent, "it is the one that was sent");
    let other = second.call("send", json!({ "phone": "+15550001", "text": "another", "key": "k" }));
    assert_eq!(other["error"]["data"]["kind"], "key_reused", "{other}");
    second.result("ack", json!({ "upto": told[2]["id"] }));
    // Killed, and started again: the same, but for what it had told the server.
    while ann.json(&["history", "+15550002", "--json"])[0]["delivered_upto"] != 3 {}
    drop((serving, first, second));
    let serving = Serving::start(&bob);
    let mut third = serving.connect();
    third.result("subscribe", json!({}));
    let again = third.message();
    assert_eq!(again["text"], "four", "three was acknowledged, or is told again: {again}");
    assert_eq!(third.result("send", send), sent);
    assert_eq!(ann.json(&["history", "+15550002", "--json"])[0]["head"], 5);
}

/// A supervisor keeps the pipe, and asks it to end.
#[test]
fn it_ends_when_it_is_asked_to_though_its_input_stays_open() {
    let server = Ternd::start(1);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let mut child =
        ann.tern(&["rpc"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("tern runs");
    let mut stdin = child.stdin.take().expect("piped");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    writeln!(stdin, "{}", json!({ "jsonrpc": "2.0", "id": 1, "method": "whoami" })).expect("written");
    assert!(lines.next().expect("a line").expect("text").contains("+15550001"));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is this test's own child");
    assert!(child.wait().expect("it ends").success());
    // And when the session ends, with that as its exit code.
    let mut child =
        ann.tern(&["rpc"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("tern runs");
    let mut stdin = child.stdin.take().expect("piped");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    writeln!(
        stdin,
        "{}",
        json!({ "jsonrpc": "2.0", "id": 1, "method": "end_device", "params": { "device_id": 1 } })
    )
    .expect("written");
    assert!(lines.next().expect("a line").expect("text").contains("device_id"));
    assert_eq!(child.wait().expect("it ends").code(), Some(5));
}

/// Whoever waits in it for an acknowledgement is told that the message is kept, or has it sent by its key: never twice.
#[test]
fn a_message_that_goes_through_a_process_that_ends_is_sent_once() {
    let server = Ternd::start(1);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let _bob = Profile::register(&server, dir.path(), "+15550002", "Bob");
    ann.json(&["send", "+15550002", "known from here on", "--json"]);
    for (signal, text) in [(rustix::process::Signal::TERM, "one"), (rustix::process::Signal::KILL, "two")] {
        let serving = Serving::start(&ann);
        server.pause();
        let mut send = ann.tern(&["send", "+15550002", text, "--timeout", "20"]);
        let sending = send.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("tern runs");
        // It is kept when another request of the same process, behind it, says so.
        let mut program = serving.connect();
        while program.result("whoami", json!({}))["unsent"] != 1 {}
        let pid = rustix::process::Pid::from_child(&serving.child);
        rustix::process::kill_process(pid, signal).expect("it is this test's own child");
        server.go_on();
        let done = sending.wait_with_output().expect("it ends");
        assert!(matches!(done.status.code(), Some(0 | 3)), "{done:?}");
        drop((program, serving));
    }
    ann.json(&["send", "+15550002", "last", "--json"]);
    let page = ann.json(&["history", "+15550002", "--json"]).remove(0);
    let texts: Vec<_> =
        page["messages"].as_array().expect("messages").iter().map(|message| &message["text"]).collect();
    assert_eq!(texts, ["known from here on", "one", "two", "last"]);
}

/// Two lists at once through one process: one was refused.
#[test]
fn lists_go_one_after_another() {
    let server = Ternd::start(2);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let serving = Serving::start(&ann);
    let mut program = serving.connect();
    let asked: Vec<_> = (0..20).map(|_| program.ask("chats", json!({}))).collect();
    for _ in asked {
        let answer = program.line();
        assert!(answer["error"].is_null(), "{answer}");
    }
}

/// The names in backticks.
#[test]
fn what_was_answered_before_the_session_ended_is_written_to_whoever_still_reads_it() {
    const PAGES: usize = 100;
    let server = Ternd::start(1);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let bob = Profile::register(&server, dir.path(), "+15550002", "Bob");
    // More than a socket holds of what nobody reads.
    ann.json(&["send", "+15550002", &"long ".repeat(3000), "--json"]);
    let serving = Serving::start(&bob);
    let (mut slow, mut other) = (serving.connect(), serving.connect());
    other.result("subscribe", json!({}));
    for _ in 0..PAGES {
        slow.ask("history", json!({ "phone": "+15550001" }));
    }
    // Behind them at the server.
    other.result("history", json!({ "phone": "+15550001" }));
    other.result("end_device", json!({ "device_id": 1 }));
    // To its end: the session has ended.
    while other.lines.next().is_some_and(|line| line.is_ok()) {}
    let answers = slow.lines.map(|line| serde_json::from_str::<Value>(&line.expect("text")).expect("JSON"));
    assert_eq!(answers.count(), PAGES, "each is answered");
}

fn named(text: &str) -> BTreeSet<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_methods_that_are_documented_take_and_give_what_the_page_says() {
    let server = Ternd::start(1);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let bob = Profile::register(&server, dir.path(), "+15550002", "Bob");
    bob.json(&["send", "+15550001", "hello", "--json"]);
    let serving = Serving::start(&ann);
    let mut program = serving.connect();
    let page = include_str!("../../docs/CLIENT.md");
    let (_, table) = page.split_once("| method | parameters | result |").expect("the page has the table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let bobs_card = bob.json(&["card", "--json"])[0]["link"].clone();
    let (mut documented, mut group, mut link) = (BTreeSet::new(), 0, String::new());
    let me = program.result("whoami", json!({}))["user_id"].clone();
    let (picture, mut with_medium) = (dir.path().join("picture.png"), 0);
    std::fs::write(&picture, include_bytes!("../../preview/src/check.png")).expect("it is written");
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let (method, params, results) = (cells[0].trim_matches('`'), named(cells[1]), named(cells[2]));
        documented.insert(method);
        // What it takes: it says so of a parameter that it does not.
        let answer = program.call(method, json!({ "nonsense": 1 }));
        let said = answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{method}: {answer}"));
        if !matches!(method, "subscribe" | "ack") {
            let taken: BTreeSet<_> = named(said).into_iter().filter(|name| *name != "nonsense").collect();
            assert_eq!(taken, params, "{method}: {said}");
        }
        // What it gives.
        let params = match method {
            "send" => json!({ "phone": "+15550002", "text": "hello" }),
            "message" | "star" => json!({ "phone": "+15550002", "seq": 1 }),
            "search" => json!({ "text": "hello" }),
            "set_chat" => json!({ "phone": "+15550002", "archived": true }),
            "hide" => json!({ "phone": "+15550002", "seqs": [9] }),
            "set_contacts" => json!({ "contacts": [{ "phone": "+15550002", "name": "B." }] }),
            "export" => json!({ "file": dir.path().join("ann.zip") }),
            "discover" => json!({ "phones": ["+15550002"] }),
            "report" => json!({ "phone": "+15550002", "category": "spam", "comment": "it is one" }),
            "block" => json!({ "phone": "+15550002", "is_blocked": false }),
            "set_privacy" => json!({ "groups": "contacts" }),
            "show" => json!({ "chats": [5] }),
            "act" => json!({ "phone": "+15550002", "doing": "typing" }),
            "schedule" => json!({ "phone": "+15550002", "text": "hello", "at_ms": 1u64 << 50 }),
            "unschedule" => json!({ "seq": 1 }),
            "upload" => json!({ "path": picture }),
            "save" => json!({ "phone": "+15550002", "seq": with_medium, "path": dir.path().join("saved") }),
            "set_pin" => json!({ "pin": "2468" }),
            "post_story" => json!({ "text": "look", "number": 5 }),
            "see_story" => json!({ "user_id": me, "number": 5 }),
            "story_viewers" | "delete_story" => json!({ "number": 5 }),
            "mute_stories" => json!({ "phone": "+15550002" }),
            "history" | "read" | "lookup" => json!({ "phone": "+15550002" }),
            "card" => json!({ "renew": false }),
            "add" => json!({ "link": bobs_card }),
            "set_profile" => json!({ "about": "at sea" }),
            "end_device" | "ring_device" => json!({ "device_id": 1 }),
            "rename" => json!({ "name": "Anna" }),
            "ack" => json!({ "upto": 1 }),
            "create_group" => json!({ "name": "friends", "members": { "phones": ["+15550002"] } }),
            "group" | "invite" => json!({ "chat": group }),
            "preview" | "join" => json!({ "link": link }),
            "change_group" => json!({ "chat": group, "name": "good friends" }),
            _ => json!({}),
        };
        if method == "end_device" || method == "delete_account" {
            continue;
        }
        let mut result = program.result(method, params.clone());
        // What was sent before is on its way.
        while result["found"] == json!([]) {
            result = program.result(method, params.clone());
        }
        if method == "create_group" {
            group = result["chat"].as_u64().expect("a number");
        }
        if method == "upload" {
            let sent = program.result("send", json!({ "phone": "+15550002", "text": "", "medium": result }));
            with_medium = sent["seq"].as_u64().expect("a number");
        }
        if method == "invite" {
            link = result["link"].as_str().expect("a link").to_owned();
        }
        // Of lists also what is in them.
        let within = [
            "found",
            "chats",
            "devices",
            "members",
            "invitations",
            "starred",
            "scheduled",
            "contacts",
            "stories",
        ]
        .iter()
        .filter_map(|key| result[*key].get(0));
        let objects = [&result].into_iter().chain(within).filter_map(Value::as_object);
        let given: BTreeSet<_> = objects.flat_map(|object| object.keys()).map(String::as_str).collect();
        assert!(given.is_subset(&results), "{method} gives {given:?}, and the page says {results:?}");
        // These are told only where they say something.
        let sometimes = BTreeSet::from([
            "moved",
            "timeout_ms",
            "queued",
            "why",
            "message",
            "unavailable",
            "asked",
            "hash",
            "expires_ms",
            "uses_left",
            "wants_approval",
        ]);
        let missing: Vec<_> = results.difference(&given).filter(|name| !sometimes.contains(*name)).collect();
        assert!(missing.is_empty(), "{method} does not give {missing:?}: {result}");
    }
    let methods = ["send", "history", "chats", "read", "lookup", "whoami", "devices", "end_device", "rename"];
    let own = [
        "new_link",
        "invite",
        "preview",
        "join",
        "set_chat",
        "star",
        "starred",
        "hide",
        "set_pin",
        "set_push",
        "about_push",
        "export",
        "delete_account",
    ];
    let later = ["search", "schedule", "scheduled", "unschedule"];
    let more = [
        "upload",
        "save",
        "message",
        "create_group",
        "group",
        "change_group",
        "ring_device",
        "subscribe",
        "ack",
    ];
    let people = ["show", "act", "contacts", "set_contacts", "discover", "block", "blocked", "report"];
    let privacy = ["privacy", "set_privacy", "profile", "set_profile", "card", "add"];
    let stories = ["post_story", "stories", "see_story", "story_viewers", "delete_story", "mute_stories"];
    assert_eq!(
        documented,
        methods
            .into_iter()
            .chain(more)
            .chain(own)
            .chain(later)
            .chain(people)
            .chain(privacy)
            .chain(stories)
            .collect()
    );
    program.result("end_device", json!({ "device_id": 1 }));
}

#[test]
fn who_is_shown_is_told_of_and_typing_is_seen() {
    let server = Ternd::start(3);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let bob = Profile::register(&server, dir.path(), "+15550002", "Bob");
    bob.json(&["send", "+15550001", "hello", "--json"]);
    let mut listening = Listener::start_with(&ann, &["--show", "+15550002"]);
    listening.until("caught_up");
    // Bob's program is there for as long as it serves.
    let serving = Serving::start(&bob);
    let mut program = serving.connect();
    while listening.until("presence")["online"] != json!(true) {}
    program.result("act", json!({ "phone": "+15550001", "doing": "typing" }));
    let activity = listening.until("activity");
    assert_eq!((&activity["doing"], &activity["phone"]), (&json!("typing"), &json!("+15550002")));
    let answer = program.call("act", json!({ "phone": "+15550001", "doing": "dancing" }));
    assert!(answer["error"]["message"].as_str().expect("text").contains("recording"), "{answer}");
    program.result("set_privacy", json!({ "online": "nobody", "last_seen": "nobody" }));
    while listening.until("presence")["online"] != Value::Null {}
}

/// Messages that the bot is to answer.
const MESSAGES: usize = 10_000;

fn bot(socket: &Path) -> Child {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/bots/echo.py");
    Command::new("python3").arg(script).arg(socket).stderr(Stdio::null()).spawn().expect("python3 runs")
}

fn kill(child: &mut Child) {
    child.kill().expect("it is this test's own child");
    child.wait().expect("it ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
async fn a_bot_of_twenty_lines_answers_everything_once_whoever_is_killed() {
    let probe = Command::new("python3").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("TERN_REQUIRE_PYTHON").is_none(), "python3 is required, but not there");
        return eprintln!("SKIPPED: python3 is not there");
    }
    let script = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/bots/echo.py"))
        .expect("the bot");
    let code = script.lines().filter(|line| !line.trim().is_empty() && !line.starts_with(['#', '"'])).count();
    assert!(code <= 20, "{code} lines");
    let mut server = Ternd::start(2);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (ann, mut events) = live::join(&server, "+15550001", "Ann").await;
    let profile = Profile::register(&server, dir.path(), "+15550002", "Bot");
    let serving = Serving::start(&profile);
    let mut bot_now = bot(&serving.socket);
    let chat = ann.lookup_phone("+15550002").await.expect("found").user_id;
    let sender = ann.clone();
    let sending = tokio::spawn(async move {
        for number in 0..MESSAGES {
            sender.keep(chat, format!("message {number}")).await.expect("kept");
        }
    });
    let (mut answers, mut kills, mut restarts) = (BTreeMap::<String, usize>::new(), 0, 0);
    let mut answered = 0;
    while answered < MESSAGES {
        let event = live::next(&mut events).await;
        let Event::Message(message) = event else { continue };
        if message.own {
            continue;
        }
        *answers.entry(String::from_utf8(message.body).expect("text")).or_default() += 1;
        answered += 1;
        if answered % (MESSAGES / 11) == 0 && kills < 10 {
            kill(&mut bot_now);
            bot_now = bot(&serving.socket);
            kills += 1;
        }
        if answered % (MESSAGES / 3) == 0 && restarts < 2 {
            server.kill_and_restart();
            restarts += 1;
        }
    }
    sending.await.expect("all are kept");
    kill(&mut bot_now);
    assert_eq!((kills, restarts), (10, 2));
    assert_eq!(answers.len(), MESSAGES, "none is lost");
    // And nothing comes behind them: each was answered once, by the seqs of the chat.
    let newest = ann.history(chat, 0, false, 1).await.expect("read");
    assert_eq!(newest.head as usize, 2 * MESSAGES, "none is doubled");
    assert_eq!(newest.messages.len(), 1);
}
