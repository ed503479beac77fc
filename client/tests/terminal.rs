//! The `tern` program against the real ternd, as a person at a shell uses it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tern_testkit::{Ternd, program};

struct Profile {
    dir: PathBuf,
}

impl Profile {
    fn tern(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("tern"));
        command.arg("--profile").arg(&self.dir).args(arguments).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.tern(arguments).output().expect("tern runs")
    }

    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout).expect("text");
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn refusal(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).expect("text")
    }

    /// Registers, with the code typed at the prompt.
    fn register(server: &Ternd, dir: &Path, phone: &str, name: &str) -> Self {
        let profile = Self { dir: dir.join(name) };
        let address = server.address().to_string();
        let ca = server.ca_file();
        let trust = ["--server", &address, "--ca", ca.to_str().expect("text")];
        let mut child = profile
            .tern(&[&trust[..], &["register", phone, "--name", name]].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tern runs");
        let mut prompt = BufReader::new(child.stderr.take().expect("piped"));
        let mut asked = Vec::new();
        prompt.read_until(b':', &mut asked).expect("a prompt");
        assert!(String::from_utf8_lossy(&asked).contains("a code of 6 digits was sent"));
        writeln!(child.stdin.take().expect("piped"), "{}", server.code_of(phone)).expect("typed");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        profile
    }
}

#[test]
fn two_people_register_send_listen_and_read_history() {
    let server = Ternd::start(4);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let bob = Profile::register(&server, dir.path(), "+15550002", "Bob");
    let sent = ann.run(&["send", "+15550002", "hello Bob"]);
    assert_eq!(String::from_utf8_lossy(&sent.stdout), "seq 1\n");
    let sent = ann.json(&["send", "+15550002", "are you there?", "--json"]);
    assert_eq!(sent[0]["seq"], 2);

    // What comes while Bob only sends is still new to him when he listens.
    bob.json(&["send", "+15550001", "hello Ann", "--json"]);
    let events = bob.json(&["listen", "--once", "--mark-read", "--json"]);
    let kinds: Vec<_> = events.iter().map(|event| event["event"].as_str().expect("a kind")).collect();
    assert_eq!(kinds, ["connected", "message", "message", "message", "caught_up"]);
    let texts: Vec<_> = events[1..4].iter().map(|event| event["text"].as_str().expect("text")).collect();
    assert_eq!(texts, ["hello Bob", "are you there?", "hello Ann"]);
    assert_eq!((events[1]["name"].as_str(), events[1]["own"].as_bool()), (Some("Ann"), Some(false)));
    assert_eq!(events[3]["own"], true);
    assert!(bob.json(&["listen", "--once", "--json"]).iter().all(|event| event["event"] != "message"));

    let page = &ann.json(&["history", "+15550002", "--json"])[0];
    assert_eq!((&page["head"], &page["read_upto"], &page["more"]), (&3.into(), &2.into(), &false.into()));
    let page = &ann.json(&["history", "+15550002", "--before", "3", "--limit", "1", "--json"])[0];
    assert_eq!((&page["messages"][0]["seq"], &page["more"]), (&2.into(), &true.into()));
    let shown = ann.run(&["history", "+15550002"]).stdout;
    let shown = String::from_utf8(shown).expect("text");
    assert!(shown.contains("me: hello Bob ✓✓ read") && shown.contains("Bob: hello Ann"), "{shown}");
}

/// A listener at its prompt, with its lines.
struct Listener {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Listener {
    fn start(profile: &Profile) -> Self {
        let mut child =
            profile.tern(&["listen", "--json"]).stdout(Stdio::piped()).spawn().expect("tern runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, lines }
    }

    fn until(&mut self, kind: &str) -> Value {
        loop {
            let line = self.lines.next().expect("it goes on").expect("text");
            let event: Value = serde_json::from_str(&line).expect("JSON");
            if event["event"] == kind {
                return event;
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_listener_outlives_the_server_and_hears_what_comes_after() {
    let mut server = Ternd::start(2);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let bob = Profile::register(&server, dir.path(), "+15550002", "Bob");
    let mut listener = Listener::start(&bob);
    listener.until("caught_up");
    ann.json(&["send", "+15550002", "before", "--json"]);
    assert_eq!(listener.until("message")["text"], "before");
    let busy = bob.refusal(&["send", "+15550001", "hello"]);
    assert!(busy.contains("in use by another process"), "{busy}");
    server.kill_and_restart();
    listener.until("disconnected");
    listener.until("caught_up");
    ann.json(&["send", "+15550002", "after", "--json"]);
    assert_eq!(listener.until("message")["text"], "after");
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&listener.child),
        rustix::process::Signal::INT,
    )
    .expect("it is this test's own child");
    assert!(listener.child.wait().expect("it ends").success(), "an interrupt ends it in order");
}

#[test]
fn what_goes_wrong_is_said_in_words() {
    let server = Ternd::start(1);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let nobody = Profile { dir: dir.path().join("nobody") };
    assert!(nobody.refusal(&["send", "+15550001", "hello"]).contains("not registered"));
    assert!(!nobody.dir.exists(), "a command on a profile that is not there makes none");
    assert!(ann.refusal(&["send", "+15550002", "hello"]).contains("UNKNOWN_USER"));
    let refused = ann.refusal(&["send", "15550002", "hello"]);
    assert!(refused.contains("PHONE"), "{refused}");
    assert!(ann.refusal(&["chat", "+15550002"]).contains("needs a terminal"));
    assert!(
        ann.refusal(&["--system", "listen", "--once"]).contains("trust") || cfg!(not(target_os = "linux"))
    );
    let wrong = "00".repeat(32);
    assert!(ann.refusal(&["--fingerprint", &wrong, "send", "+15550002", "x"]).contains("not the pinned one"));
    assert!(ann.refusal(&["--server", "127.0.0.1:1", "send", "+15550002", "x"]).contains("can't be reached"));
    assert!(ann.refusal(&["--server", "nowhere", "send", "+15550002", "x"]).contains("HOST:PORT"));
    let code = ["register", "+15550001", "--code", "000000", "--name", "Ann"];
    let refused = ann.refusal(&code);
    assert!(refused.contains("CODE_"), "{refused}");
}
