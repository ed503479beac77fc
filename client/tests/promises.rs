//! What the help texts of `tern` promise about messages that can't be delivered now, and what a reader is promised.

mod live;
mod profiles;

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Output, Stdio};
use std::time::{Duration, Instant};

use profiles::{Profile, texts};
use serde_json::Value;
use tern_client::{Event, Reason};
use tern_testkit::{Raw, Ternd, TerndOptions};

/// How long a message that is kept is tried for in these tests.
const SHORTLY: &str = "1";

/// Runs a command with something on its standard input.
fn piped(profile: &Profile, arguments: &[&str], text: &[u8]) -> Output {
    let mut command = profile.tern(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("tern runs");
    // One that does not want it all may have ended.
    let _ = child.stdin.take().expect("piped").write_all(text);
    child.wait_with_output().expect("it ends")
}

#[test]
fn programs_pipe_text_in_and_get_errors_as_json_and_codes_that_tell_them_apart() {
    let mut server = Ternd::start(2);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let bob = Profile::register(&server, dir.path(), "+15550002", "Bob");
    for (arguments, text) in [
        (&["send", "+15550002", "-", "-j"][..], "dash\n"),
        (&["-j", "send", "+15550002"], "two\n\tlines\n"),
        (&["send", "--json", "+15550002"], "no end"),
    ] {
        let output = piped(&ann, arguments, text.as_bytes());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let page = bob.json(&["-j", "history", "+15550001", "-n", "9"]).remove(0);
    let texts: Vec<_> = page["messages"]
        .as_array()
        .expect("messages")
        .iter()
        .map(|message| message["text"].clone())
        .collect();
    assert_eq!(texts, ["dash", "two\n\tlines", "no end"]);
    for wrong in [&b""[..], &[0xff; 4], &[b'x'; 70_000]] {
        assert_eq!(piped(&ann, &["send", "+15550002", "-"], wrong).status.code(), Some(1));
    }

    let error = |profile: &Profile, arguments: &[&str]| {
        let output = profile.run(&[arguments, &["--json"]].concat());
        let last = String::from_utf8(output.stdout).expect("text");
        let told: Value = serde_json::from_str(last.lines().last().expect("a line")).expect("JSON");
        assert!(told["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{told}");
        (output.status.code().expect("it ended"), told["error"].clone())
    };
    let (code, told) = error(&Profile { dir: dir.path().join("nobody") }, &["history", "+15550002"]);
    assert_eq!((code, &told["kind"]), (1, &"not_registered".into()));
    let (code, told) = error(&ann, &["send", "+15559999", "hello"]);
    assert_eq!((code, &told["kind"], &told["reason"]), (5, &"refused".into(), &"UNKNOWN_USER".into()));
    server.terminate();
    let (code, told) = error(&ann, &["history", "+15550002"]);
    assert_eq!((code, &told["kind"]), (4, &"offline".into()));
    let said = told["message"].as_str().expect("text");
    assert!(said.contains(&server.address().to_string()), "it says which server: {said}");
    assert_eq!(ann.run(&["history", "+15550002", "--limit", "many"]).status.code(), Some(2));
}

/// S19: it failed after 0.0 s, and the message was not kept, against the help.
#[test]
fn a_message_sent_while_the_server_is_down_is_kept_and_the_next_command_sends_it() {
    let mut server = Ternd::start(2);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let bob = Profile::register(&server, dir.path(), "+15550002", "Bob");
    ann.json(&["send", "+15550002", "up", "--json"]);
    server.terminate();
    for (text, json) in [("down 1", false), ("down 2", true)] {
        let more: &[&str] = if json { &["--json"] } else { &[] };
        let output = ann.run(&[&["send", "+15550002", text, "--timeout", SHORTLY], more].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("it is kept, and sent by the next command"), "{said}");
        assert!(said.contains("can't be reached"), "it says why: {said}");
        let stdout = String::from_utf8(output.stdout).expect("text");
        assert_eq!(stdout.contains("\"queued\":true"), json, "{stdout}");
    }
    // Whom this profile does not know can't be asked for: nothing is kept, and that is another exit code.
    assert!(ann.refusal(&["send", "+15550003", "who?", "--timeout", SHORTLY]).contains("can't be reached"));
    server.start_again();
    ann.json(&["history", "+15550002", "--json"]);
    let events = bob.json(&["listen", "--once", "--json"]);
    let expected = [(1, "up".to_owned()), (2, "down 1".to_owned()), (3, "down 2".to_owned())];
    assert_eq!(texts(&events, "message"), expected);
    assert_eq!(ann.json(&["send", "+15550002", "again", "--json"])[0]["seq"], 4, "they are sent once");
}

/// F10: it took 10.1 s for `--timeout 4`, and did not say what had become of the message.
#[test]
fn a_server_that_never_answers_costs_no_more_than_the_timeout() {
    let mut server = Ternd::start(1);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let bob = Profile::register(&server, dir.path(), "+15550002", "Bob");
    ann.json(&["send", "+15550002", "up", "--json"]);
    server.terminate();
    // It takes connections, as the kernel does, and says nothing.
    let silent = TcpListener::bind(server.address()).expect("its port is free");
    let begin = Instant::now();
    let output = ann.run(&["send", "+15550002", "into the dark", "--timeout", SHORTLY]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("it is kept"));
    assert!(begin.elapsed() < Duration::from_secs(9), "it waited for more than it was told to");
    let refused = ann.refusal(&["send", "+15550003", "who?", "--timeout", SHORTLY]);
    assert!(refused.contains("not kept"), "{refused}");
    drop(silent);
    server.start_again();
    // The next `send` delivers in the order in which they were given.
    assert_eq!(ann.json(&["send", "+15550002", "and more", "--json"])[0]["seq"], 3);
    let events = bob.json(&["listen", "--once", "--json"]);
    assert_eq!(texts(&events, "message")[1..], [(2, "into the dark".to_owned()), (3, "and more".to_owned())]);
}

/// S14: 10 of 500 entries had reached the reader, and all were acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_is_told_again_what_it_had_not_read_whoever_of_the_two_is_killed() {
    const COUNT: u64 = 500;
    let server = Ternd::start(2);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let bob = Profile::register(&server, dir.path(), "+15550002", "Bob");
    let (ann, _events) = live::join(&server, "+15550001", "").await;
    let to_bob = ann.lookup_phone("+15550002").await.expect("found").user_id;
    for number in 1..=COUNT {
        ann.send(to_bob, format!("message {number}")).await.expect("durable");
    }
    let delivered = async || ann.history(to_bob, 0, false, 1).await.expect("read").delivered_upto;

    // The reader takes ten, and ends; so the listener does.
    let mut listener = Unbuffered::start(&bob);
    assert_eq!(listener.seqs(10), (1..=10).collect::<Vec<_>>());
    drop(listener.lines);
    listener.child.wait().expect("it ends by itself");
    let known = delivered().await;
    assert!(known <= 10, "{known} are told as delivered, and 10 were read");

    // The listener is killed when the reader has taken some more.
    let mut listener = Unbuffered::start(&bob);
    let again = listener.seqs(30);
    assert!(again[0] <= 11, "what was not read comes again: {again:?}");
    listener.child.kill().expect("it is this test's own child");
    listener.child.wait().expect("it was started");
    let (read, known) = (again[29], delivered().await);
    assert!(known <= read, "{known} are told as delivered, and {read} were read");

    // One that reads everything is told everything, once.
    let events = tokio::task::block_in_place(|| bob.json(&["listen", "--once", "--json"]));
    let seqs: Vec<_> = texts(&events, "message").into_iter().map(|(seq, _)| seq).collect();
    assert!(seqs[0] <= read + 1 && seqs.is_sorted_by(|one, next| one + 1 == *next), "{seqs:?}");
    assert_eq!(seqs.last(), Some(&COUNT));
    assert_eq!(delivered().await, COUNT);
    let events = tokio::task::block_in_place(|| bob.json(&["listen", "--once", "--json"]));
    assert!(texts(&events, "message").is_empty());
}

/// One who is away, and for whom too much waits, held up what was for others, and nobody heard why.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_inbox_holds_up_nobody_else_and_the_person_is_told_why() {
    let arguments = vec!["--limit".to_owned(), "waiting_bytes_max=1000000".to_owned()];
    let server = Ternd::start_with(TerndOptions { arguments, ..TerndOptions::default() });
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dora = Profile::register(&server, dir.path(), "+15550004", "Dora");
    let (ann, mut anns) = live::join(&server, "+15550001", "Ann").await;
    let (carol, mut carols) = live::join(&server, "+15550003", "Carol").await;
    let bob = Raw::registered(&server, "+15550002", "Bob").user_id;
    for _ in 0..40 {
        ann.keep(bob, vec![b'x'; 60_000]).await.expect("kept");
    }
    let delayed = |event: &Event| match event {
        Event::Delayed { chat, reason, .. } => Some((*chat, *reason)),
        _ => None,
    };
    assert_eq!(live::until(&mut anns, delayed).await, (bob, Reason::InboxFull));
    ann.send(carol.account().user_id, "not held up").await.expect("durable");
    assert_eq!(live::messages(&mut carols, 1).await, [(1, "not held up".to_owned())]);
    tokio::task::block_in_place(|| {
        let text = "x".repeat(60_000);
        loop {
            let output = dora.run(&["send", "+15550002", &text, "--timeout", SHORTLY]);
            let said = String::from_utf8(output.stderr).expect("text");
            match output.status.code() {
                Some(3) if said.contains("too much waits for this person") => break,
                // On a busy machine a message that is taken may not be so in time.
                Some(3) if said.contains("not acknowledged in 1 s") => {}
                Some(0) => {}
                other => panic!("exit code {other:?}: {said}"),
            }
        }
    });
}

/// A listener whose reader takes a byte at a time, so that nothing is read that it did not want.
struct Unbuffered {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Unbuffered {
    fn start(profile: &Profile) -> Self {
        let mut child =
            profile.tern(&["listen", "--json"]).stdout(Stdio::piped()).spawn().expect("tern runs");
        let lines = BufReader::with_capacity(1, child.stdout.take().expect("piped")).lines();
        Self { child, lines }
    }

    /// The seqs of the next messages.
    fn seqs(&mut self, count: usize) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.len() < count {
            let line = self.lines.next().expect("it goes on").expect("text");
            let event: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            if event["event"] == "message" {
                seqs.push(event["seq"].as_u64().expect("a number"));
            }
        }
        seqs
    }
}
