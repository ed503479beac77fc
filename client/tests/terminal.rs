//! The `tern` program against the real ternd, as a person at a shell uses it.

mod live;
mod profiles;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use profiles::{Listener, Profile};
use tern_client::{Client, Event};
use tern_testkit::{Raw, Ternd};

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
    // The other commands go through it; two that read the events do not go together.
    assert_eq!(bob.json(&["send", "+15550001", "hello", "--json"])[0]["seq"], 2);
    assert_eq!(bob.json(&["history", "+15550001", "--json"])[0]["head"], 2);
    let busy = bob.refusal(&["listen"]);
    let pid = format!("({})", listener.child.id());
    assert!(busy.contains("in use by another process") && busy.contains(&pid), "{busy}");
    assert_eq!(listener.until("message")["text"], "hello", "it hears what was sent through it");
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
    let wrong = ann.run(&["send", "15550002", "hello"]);
    let said = String::from_utf8_lossy(&wrong.stderr);
    assert!(
        wrong.status.code() == Some(2) && said.contains("15550002") && said.contains("plus sign"),
        "{said}"
    );
    assert!(ann.refusal(&["chat", "+15550002"]).contains("needs a terminal"));
    assert!(
        ann.refusal(&["--system", "listen", "--once"]).contains("trust") || cfg!(not(target_os = "linux"))
    );
    let wrong = "00".repeat(32);
    let refused = ann.refusal(&["--fingerprint", &wrong, "send", "+15550002", "x"]);
    assert!(refused.contains("not the pinned one") && refused.contains("--fingerprint"), "{refused}");
    // It says which certificate came, so that a person can compare it and trust it.
    let came =
        refused.split("SHA-256 ").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("64 digits");
    let trusted = ann.json(&["--fingerprint", came, "history", "+15550001", "--json"]);
    assert_eq!(trusted[0]["head"], 0);
    let refused = ann.refusal(&["--server", "127.0.0.1:1", "send", "+15550002", "x"]);
    assert!(
        refused.contains("can't be reached") && refused.contains("127.0.0.1:1 is what --server says"),
        "{refused}"
    );
    let refused = ann.refusal(&["--server", "nowhere.invalid", "send", "+15550002", "x"]);
    assert!(refused.contains("nowhere.invalid:7443"), "{refused}");
    let code = ["register", "+15550001", "--code", "000000", "--name", "Ann"];
    let refused = ann.refusal(&code);
    assert!(refused.contains("CODE_"), "{refused}");
}

/// F6: the other account's tokens and history were gone, without a word.
#[test]
fn register_never_overwrites_another_accounts_profile() {
    let server = Ternd::start(1);
    let other_server = Ternd::start(1);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    Profile::register(&server, dir.path(), "+15550002", "Bob");
    ann.json(&["send", "+15550002", "hello Bob", "--json"]);
    let code = ["register", "+15550003", "--code", "000000"];
    let refused = ann.refusal(&code);
    assert!(refused.contains("is a device of +15550001") && refused.contains("--replace"), "{refused}");
    assert!(ann.refusal(&["register", "+15550003"]).contains("--replace"), "no code is asked for either");
    let (address, ca) = (other_server.address().to_string(), other_server.ca_file());
    let elsewhere = ["--server", &address, "--ca", ca.to_str().expect("text")];
    let refused = ann.refusal(&[&elsewhere[..], &["register", "+15550001"]].concat());
    assert!(refused.contains("not, or no longer, this server"), "{refused}");
    assert_eq!(ann.json(&["send", "+15550002", "still me", "--json"])[0]["seq"], 2, "nothing was lost by it");
    // With --replace it becomes another's, and nothing of the old one is left.
    Profile::register_with(&server, dir.path(), "+15550003", "Ann", &["--replace"]);
    assert!(ann.refusal(&["history", "+15550002", "--local"]).contains("nothing of +15550002"));
    assert_eq!(ann.json(&["history", "+15550002", "--json"])[0]["head"], 0);
    // The same account again, on a new device, needs no more than the code.
    Profile::register(&server, dir.path(), "+15550003", "Ann");
}

/// F15: the second line looked like one of the program's own.
#[test]
fn a_message_of_several_lines_is_one_message() {
    let server = Ternd::start(1);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let bob = Profile::register(&server, dir.path(), "+15550002", "Bob");
    ann.json(&[
        "send",
        "+15550002",
        "ok\n    26  00:33  me: I owe Ann 100 euros ✓✓ read\n00:33 to Ann: yes",
        "--json",
    ]);
    for arguments in
        [&["history", "+15550001"][..], &["listen", "--once"], &["history", "+15550001", "--local"]]
    {
        let shown = String::from_utf8(bob.run(arguments).stdout).expect("text");
        let forged = |line: &&str| line.trim_start().starts_with("26  00:33") || line.starts_with("00:33 to");
        assert!(!shown.lines().any(|line| forged(&line)), "{arguments:?}: {shown}");
        assert!(shown.contains("100 euros"), "{arguments:?}: {shown}");
    }
}

/// F14: they panicked.
#[test]
fn a_reader_that_has_gone_ends_a_program_quietly() {
    let server = Ternd::start(1);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    ann.json(&["send", "+15550001", "a note", "--json"]);
    let tool = |name: &str, arguments: &[&str]| {
        let mut command = std::process::Command::new(tern_testkit::program(name));
        command.args(arguments);
        command
    };
    let data = server.data_dir();
    let data = data.to_str().expect("text");
    let commands = [
        ann.tern(&["history", "+15550001"]),
        ann.tern(&["history", "+15550001", "--local", "--json"]),
        ann.tern(&["send", "+15550001", "another"]),
        ann.tern(&["listen"]),
        tool("ternctl", &["--data-dir", data, "status"]),
        tool("ternctl", &["--data-dir", data, "user", "+15550001", "--json"]),
        tool("ternd", &["--print-config"]),
        ann.tern(&["--help"]),
    ];
    for mut command in commands {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{command:?}: {said}");
        assert_ne!(output.status.code(), Some(101), "{command:?}");
    }
}

/// S12: whoever had chatted with somebody who then registered again heard UNKNOWN_USER for ever.
#[test]
fn a_person_who_registers_again_is_found_again() {
    let server = Ternd::start(2);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let bob = Profile::register(&server, dir.path(), "+15550002", "Bob");
    ann.json(&["send", "+15550002", "hello Bob", "--json"]);
    server.admin(&serde_json::json!({ "ask": "delete_user", "phone": "+15550002" }));
    assert!(ann.refusal(&["send", "+15550002", "are you there?"]).contains("UNKNOWN_USER"));
    Profile::register(&server, dir.path(), "+15550002", "Bob");
    let sent = ann.run(&["send", "+15550002", "welcome back"]);
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    let events = bob.json(&["listen", "--once", "--json"]);
    assert_eq!(profiles::texts(&events, "message"), [(1, "welcome back".to_owned())]);
    // And the same at once, when the profile still takes the old account for hers.
    server.admin(&serde_json::json!({ "ask": "delete_user", "phone": "+15550002" }));
    Profile::register(&server, dir.path(), "+15550002", "Bob");
    let sent = ann.run(&["send", "+15550002", "and again"]);
    assert!(String::from_utf8_lossy(&sent.stderr).contains("has another account now"));
    let events = bob.json(&["listen", "--once", "--json"]);
    assert_eq!(profiles::texts(&events, "message"), [(1, "and again".to_owned())]);
}

async fn name_of(client: &Client, user: u64) -> String {
    client.lookup_user(user).await.expect("known").name
}

/// S12, S13: names came never or stayed as they were, and nobody heard of a device of one's account.
#[tokio::test(flavor = "multi_thread")]
async fn names_come_when_they_are_known_and_changes_of_people_are_told() {
    let server = Ternd::start(2);
    let (ann, mut anns) = live::join(&server, "+15550001", "Ann").await;
    let (bob, mut bobs) = live::join(&server, "+15550002", "Bob").await;
    let found = ann.lookup_phone("+15550002").await.expect("found");
    assert_eq!(found.name, "", "they have not written to each other");
    let (to_bob, to_ann) = (found.user_id, ann.account().user_id);
    ann.send(to_bob, "who are you?").await.expect("durable");
    live::messages(&mut anns, 1).await;
    assert_eq!(name_of(&ann, to_bob).await, "");
    bob.send(to_ann, "Bob").await.expect("durable");
    live::messages(&mut anns, 1).await;
    assert_eq!(name_of(&ann, to_bob).await, "Bob", "now both have");

    let renamed = tokio::task::block_in_place(|| Raw::registered(&server, "+15550002", "Robert"));
    assert_eq!(renamed.device_id, 2);
    let changed = |event: &Event| match event {
        Event::PersonChanged(person) => Some((person.user_id, person.name.clone())),
        _ => None,
    };
    assert_eq!(live::until(&mut anns, changed).await, (to_bob, "Robert".to_owned()));
    assert_eq!(name_of(&ann, to_bob).await, "Robert");
    let added = live::until(&mut bobs, |event| match event {
        Event::DeviceAdded { device_id, device_name, .. } => Some((*device_id, device_name.clone())),
        _ => None,
    })
    .await;
    assert_eq!(added, (2, "test".to_owned()));
    server.admin(&serde_json::json!({ "ask": "delete_user", "phone": "+15550002" }));
    assert_eq!(live::until(&mut anns, changed).await, (to_bob, String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_not_found_rings() {
    let server = Ternd::start(3);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (_phone, mut events) = live::join(&server, "+15550001", "Ann").await;
    let laptop = tokio::task::block_in_place(|| Profile::register(&server, dir.path(), "+15550001", "Ann"));
    let rung = tokio::task::block_in_place(|| laptop.json(&["devices", "--ring", "1", "--json"]).remove(0));
    assert_eq!(rung, serde_json::json!({ "device_id": 1, "connected": true }));
    let heard = live::until(&mut events, |event| match event {
        Event::Ring { device_id, device_name } => Some((*device_id, device_name.clone())),
        _ => None,
    })
    .await;
    assert_eq!(heard, (2, "terminal".to_owned()));
    tokio::task::block_in_place(|| {
        assert!(laptop.refusal(&["devices", "--ring", "9"]).contains("no such device"));
        let away = Profile::register(&server, &dir.path().join("other"), "+15550001", "Ann");
        let said = String::from_utf8(laptop.run(&["devices", "--ring", "3"]).stdout).expect("text");
        assert_eq!(said, "device 3 is not connected: it does not ring\n");
        let events = away.json(&["listen", "--once", "--json"]);
        assert!(events.iter().all(|event| event["event"] != "ring"), "nobody has kept it: {events:?}");
    });
}

#[test]
fn a_device_that_was_added_while_one_was_away_is_told_once() {
    let server = Ternd::start(1);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let added = || {
        let events = ann.json(&["listen", "--once", "--json"]);
        let added = events.iter().find(|event| event["event"] == "device_added");
        added.map(|event| event["device_id"].as_u64().expect("a number"))
    };
    assert_eq!(added(), None);
    Raw::registered(&server, "+15550001", "");
    // A command that tells nothing keeps it for the one that does.
    ann.json(&["send", "+15550001", "a note", "--json"]);
    assert_eq!(added(), Some(2));
    assert_eq!(added(), None);
}

/// A code that was mistyped cost another one, and after three the phone was shut out for an hour.
#[test]
fn a_mistyped_code_is_asked_for_again() {
    let server = Ternd::start(1);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile { dir: dir.path().join("ann") };
    let (address, ca) = (server.address().to_string(), server.ca_file());
    let mut child = ann
        .tern(&[
            "--server",
            &address,
            "--ca",
            ca.to_str().expect("text"),
            "register",
            "+1 555 0001",
            "--name",
            "Ann",
        ])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tern runs");
    let mut prompts = BufReader::new(child.stderr.take().expect("piped"));
    let mut stdin = child.stdin.take().expect("piped");
    let mut asked = |wanted: &str| {
        let mut said = Vec::new();
        while !String::from_utf8_lossy(&said).contains(wanted) {
            assert!(
                prompts.read_until(b':', &mut said).expect("a prompt") > 0,
                "{}",
                String::from_utf8_lossy(&said)
            );
        }
    };
    asked("a code of 6 digits was sent to +15550001");
    let code = server.code_of("+15550001");
    let wrong = if code == "111111" { "222222" } else { "111111" };
    writeln!(stdin, "{wrong}").expect("typed");
    asked("2 more tries");
    writeln!(stdin, "12345").expect("typed");
    asked("six digits");
    writeln!(stdin, "{code}").expect("typed");
    assert!(child.wait().expect("it ends").success());
    assert_eq!(ann.json(&["whoami", "--json"])[0]["name"], "Ann");
}

#[test]
fn a_lost_device_is_ended_and_one_that_logs_out_leaves_nothing() {
    let server = Ternd::start(2);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let lost = Profile::register_with(
        &server,
        &dir.path().join("other"),
        "+15550001",
        "Ann",
        &["--device", "phone"],
    );
    let bob = Profile::register(&server, dir.path(), "+15550002", "Bob");
    bob.json(&["send", "+15550001", "hello Ann", "--json"]);
    let devices = ann.json(&["devices", "--json"]).remove(0);
    let names: Vec<_> =
        devices["devices"].as_array().expect("a list").iter().map(|device| &device["device_name"]).collect();
    assert_eq!(names, ["terminal", "phone"]);
    let shown = String::from_utf8(ann.run(&["devices"]).stdout).expect("text");
    assert!(shown.contains("this one") && shown.lines().count() == 2, "{shown}");
    ann.json(&["devices", "--end", "2", "--json"]);
    assert!(lost.refusal(&["history", "+15550002"]).contains("SESSION_REVOKED"));
    assert!(ann.refusal(&["devices", "--end", "9"]).contains("no such device"));

    // What is not sent is not thrown away unasked.
    let outbox = ann.run(&["--server", "127.0.0.1:1", "send", "+15550002", "later", "--timeout", "0"]);
    assert_eq!(outbox.status.code(), Some(4), "Bob is not known here: {outbox:?}");
    ann.json(&["chats", "--json"]);
    let kept = ann.run(&["--server", "127.0.0.1:1", "send", "+15550002", "later", "--timeout", "0"]);
    assert_eq!(kept.status.code(), Some(3), "{kept:?}");
    assert!(ann.refusal(&["logout", "--local"]).contains("a message that has not been sent"));
    ann.json(&["logout", "--json"]);
    assert!(ann.refusal(&["whoami"]).contains("not registered"));
    assert!(ann.refusal(&["history", "+15550002", "--local"]).contains("nothing of"));
    // The account lives on, for a device that comes later.
    let again = Profile::register(&server, dir.path(), "+15550001", "Ann");
    assert_eq!(again.json(&["history", "+15550002", "--json"])[0]["head"], 2, "what was kept was sent first");
    assert_eq!(again.json(&["devices", "--json"])[0]["devices"].as_array().map(Vec::len), Some(1));
}

#[test]
fn the_list_of_chats_says_what_is_new_and_reading_says_it_to_all_devices() {
    let server = Ternd::start(3);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let bob = Profile::register(&server, dir.path(), "+15550002", "Bob");
    let carol = Profile::register(&server, dir.path(), "+15550003", "Carol");
    assert!(String::from_utf8_lossy(&ann.run(&["chats"]).stdout).contains("no chats yet"));
    bob.json(&["send", "+15550001", "one", "--json"]);
    bob.json(&["send", "+15550001", "two", "--json"]);
    ann.json(&["send", "+15550003", "hello Carol", "--json"]);
    let chats = ann.json(&["chats", "--json"]).remove(0);
    let facts = |chat: &serde_json::Value| {
        (chat["phone"].clone(), chat["unread"].clone(), chat["last"]["text"].clone())
    };
    let listed: Vec<_> = chats["chats"].as_array().expect("a list").iter().map(facts).collect();
    assert_eq!(
        listed,
        [
            // Carol has not written: her phone is what was typed here.
            ("+15550003".into(), 0.into(), "hello Carol".into()),
            ("+15550002".into(), 2.into(), "two".into()),
        ]
    );
    ann.json(&["read", "+15550002", "--upto", "1", "--json"]);
    assert_eq!(ann.json(&["chats", "--unread", "--json"])[0]["chats"][0]["unread"], 1);
    ann.json(&["read", "+15550002", "--json"]);
    assert!(String::from_utf8_lossy(&ann.run(&["chats", "--unread"]).stdout).contains("everything is read"));
    assert_eq!(bob.json(&["history", "+15550001", "--json"])[0]["read_upto"], 2, "Bob sees it");
    // What was read in the list is still received.
    let heard = ann.json(&["listen", "--once", "--json"]);
    assert_eq!(heard.iter().filter(|event| event["event"] == "message").count(), 3);
    let told = carol.json(&["chats", "--json"]);
    assert_eq!(told[0]["chats"][0]["name"], "", "a name is seen when both have written");
    server_is_killed_and_the_list_is_the_same(server, &ann);
}

fn server_is_killed_and_the_list_is_the_same(mut server: Ternd, ann: &Profile) {
    let before = ann.json(&["chats", "--json"]);
    server.kill_and_restart();
    assert_eq!(ann.json(&["chats", "--json"]), before, "versions too");
}

#[test]
fn completions_and_man_pages_tell_all_commands() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let profile = Profile { dir: dir.path().join("nobody") };
    for shell in ["bash", "zsh", "fish"] {
        let script = String::from_utf8(profile.run(&["completions", shell]).stdout).expect("text");
        assert!(script.contains("devices") && script.contains("mark-read"), "{shell}");
    }
    let pages = dir.path().join("man");
    std::fs::create_dir(&pages).expect("made");
    assert!(profile.run(&["man-pages", pages.to_str().expect("text")]).status.success());
    for page in ["tern.1", "tern-send.1", "tern-rpc.1"] {
        assert!(std::fs::read_to_string(pages.join(page)).expect(page).contains(".TH"), "{page}");
    }
}

/// It stayed as it was, with the tokens and all messages: the server refused the login that was to end the device.
#[test]
fn a_device_that_was_ended_elsewhere_logs_out_all_the_same() {
    let server = Ternd::start(1);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let lost = Profile::register(&server, &dir.path().join("other"), "+15550001", "Ann");
    ann.json(&["devices", "--end", "2", "--json"]);
    assert_eq!(lost.json(&["logout", "--json"])[0]["device_id"], 2);
    assert!(lost.refusal(&["whoami"]).contains("not registered"));
}

#[test]
fn a_new_name_is_known_at_once_and_an_empty_one_is_a_name() {
    let server = Ternd::start(2);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let bob = Profile::register(&server, dir.path(), "+15550002", "Bob");
    ann.json(&["send", "+15550002", "one", "--json"]);
    bob.json(&["send", "+15550001", "two", "--json"]);
    ann.json(&["listen", "--once", "--json"]);
    bob.json(&["listen", "--once", "--json"]);
    ann.json(&["rename", "Anna", "--json"]);
    assert_eq!(ann.json(&["whoami", "--json"])[0]["name"], "Anna");
    assert_eq!(bob.json(&["chats", "--json"])[0]["chats"][0]["name"], "Anna");
    ann.json(&["rename", "", "--json"]);
    assert_eq!(ann.json(&["whoami", "--json"])[0]["name"], "");
    assert_eq!(bob.json(&["chats", "--json"])[0]["chats"][0]["name"], "");
}

/// Settings outlive a logout; the CA file may have moved meanwhile. The profile then trusted the system's roots.
#[test]
fn a_profile_that_registers_again_trusts_whom_it_trusted() {
    let server = Ternd::start(1);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (ca, address) = (dir.path().join("ca.pem"), server.address().to_string());
    std::fs::copy(server.ca_file(), &ca).expect("copied");
    let ann = Profile { dir: dir.path().join("ann") };
    let register = |more: &[&str]| {
        let mut child = ann
            .tern(&[more, &["register", "+15550001"]].concat())
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tern runs");
        let mut said = Vec::new();
        let mut prompts = BufReader::new(child.stderr.take().expect("piped"));
        prompts.read_until(b':', &mut said).expect("a prompt");
        writeln!(child.stdin.take().expect("piped"), "{}", server.code_of("+15550001")).expect("typed");
        assert!(child.wait().expect("it ends").success(), "{}", String::from_utf8_lossy(&said));
    };
    register(&["--server", &address, "--ca", ca.to_str().expect("text")]);
    std::fs::remove_file(&ca).expect("removed");
    ann.json(&["logout", "--json"]);
    register(&[]);
    assert_eq!(ann.json(&["chats", "--json"])[0]["chats"], serde_json::json!([]));
}
