//! What is said about messages, through `tern` and the library, against a real server: it reaches both sides, and what is deleted is in
//! nobody's profile any more.

#[path = "profiles/mod.rs"]
mod profiles;

use profiles::Profile;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tern_testkit::{Ternd, TerndOptions};

fn two(server: &Ternd, dir: &std::path::Path) -> (Profile, Profile) {
    let ann = Profile::register(server, dir, "+15550001", "Ann");
    let bob = Profile::register(server, dir, "+15550002", "Bob");
    (ann, bob)
}

/// Does something, and gives its seq.
fn seq(profile: &Profile, arguments: &[&str]) -> u64 {
    let arguments: Vec<_> = arguments.iter().copied().chain(["--json"]).collect();
    let answer = profile.json(&arguments).remove(0);
    answer["seq"].as_u64().unwrap_or_else(|| panic!("{arguments:?}: {answer}"))
}

fn refused(profile: &Profile, arguments: &[&str]) -> Value {
    let arguments: Vec<_> = arguments.iter().copied().chain(["--json"]).collect();
    let output = profile.run(&arguments);
    assert_eq!(output.status.code(), Some(5), "{arguments:?}: {output:?}");
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    told["error"]["reason"].clone()
}

#[test]
fn replies_edits_reactions_and_polls_are_seen_by_both() {
    let server = Ternd::start(3);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (ann, bob) = two(&server, dir.path());
    let (to_bob, to_ann) = ("+15550002", "+15550001");
    let first = seq(&ann, &["send", to_bob, "helo"]).to_string();
    let reply = seq(&bob, &["send", to_ann, "hello?", "--reply-to", &first]);
    let edit = seq(&ann, &["edit", to_bob, &first, "hello"]);
    seq(&bob, &["react", to_ann, &first, "👍"]);
    seq(&bob, &["pin", to_ann, &first]);
    // Whoever has received nothing is told by the server, whoever has knows all of it.
    let of_server = bob.json(&["message", to_ann, &first, "--json"]).remove(0);
    assert_eq!(
        (&of_server["message"]["text"], of_server["message"]["edited_by"].as_u64()),
        (&json!("hello"), Some(edit))
    );
    let heard = bob.json(&["listen", "--once", "--json"]);
    let at = |seq: u64| heard.iter().find(|event| event["seq"] == seq).expect("it has come");
    assert_eq!(
        (&at(edit)["kind"], &at(edit)["text"], at(edit)["about"].to_string()),
        (&json!("edit"), &json!("hello"), first.clone())
    );
    let own = bob.json(&["whoami", "--json"])[0]["user_id"].to_string();
    let kept = bob.json(&["message", to_ann, &first, "--json"]).remove(0);
    assert_eq!((&kept["message"]["text"], &kept["pinned"]), (&json!("hello"), &json!(true)));
    assert_eq!(kept["reactions"], json!({ own.as_str(): "👍" }));
    seq(&bob, &["react", to_ann, &first]);
    seq(&bob, &["pin", to_ann, &first, "--off"]);
    let poll = seq(&bob, &["poll", to_ann, "when?", "now", "later", "never"]).to_string();
    seq(&ann, &["vote", to_bob, &poll, "2"]);
    ann.json(&["listen", "--once", "--json"]);
    let stands = ann.json(&["message", to_bob, &poll, "--json"]).remove(0);
    assert_eq!(stands["votes"].as_object().expect("votes").values().collect::<Vec<_>>(), [&json!([1])]);
    assert_eq!(stands["message"]["poll"]["answers"], json!(["now", "later", "never"]));
    let stands = ann.json(&["message", to_bob, &first, "--json"]).remove(0);
    assert_eq!((&stands["reactions"], &stands["pinned"]), (&json!({}), &json!(false)));
    let shown = String::from_utf8(ann.run(&["history", to_bob]).stdout).expect("text");
    let line = |text: &str| shown.lines().any(|line| line.contains(text));
    for text in
        [&format!("(to {first}) hello?"), &format!("(instead of {first}) hello"), "? when?", "2) later"]
    {
        assert!(line(text), "{text} in {shown}");
    }
    assert_eq!(refused(&bob, &["edit", to_ann, &first, "mine"]), "NOT_ALLOWED");
    assert_eq!(refused(&bob, &["vote", to_ann, &reply.to_string(), "1"]), "NO_SUCH_MESSAGE");
    assert_eq!(refused(&bob, &["react", to_ann, "999", "?"]), "NO_SUCH_MESSAGE");
}

#[test]
fn what_is_deleted_for_everyone_is_in_no_profile_any_more() {
    let server = Ternd::start(2);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (ann, bob) = two(&server, dir.path());
    let (to_bob, to_ann) = ("+15550002", "+15550001");
    let said = seq(&ann, &["send", to_bob, "a secret"]).to_string();
    seq(&ann, &["edit", to_bob, &said, "another secret"]);
    // Both are in Bob's profile, and told.
    assert_eq!(
        bob.json(&["listen", "--once", "--json"]).iter().filter(|event| event["text"].is_string()).count(),
        2
    );
    seq(&ann, &["delete", to_bob, &said]);
    bob.json(&["listen", "--once", "--json"]);
    for (profile, to) in [(&ann, to_bob), (&bob, to_ann)] {
        for arguments in [vec!["history", to], vec!["history", to, "--local"]] {
            let shown = String::from_utf8(profile.run(&arguments).stdout).expect("text");
            assert!(!shown.contains("secret") && shown.contains("(deleted)"), "{arguments:?}: {shown}");
        }
        let stands = profile.json(&["message", to, &said, "--json"]).remove(0);
        assert_eq!((&stands["message"]["erased"], &stands["message"]["text"]), (&json!(true), &json!("")));
    }
    assert_eq!(refused(&ann, &["edit", to_bob, &said, "again"]), "MESSAGE_DELETED");
}

#[test]
fn what_disappears_is_in_no_profile_any_more_be_it_heard_before_or_after() {
    let server = Ternd::start(2);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (ann, bob) = two(&server, dir.path());
    let (to_bob, to_ann) = ("+15550002", "+15550001");
    let stays = seq(&ann, &["send", to_bob, "this stays"]);
    for wrong in ["1", "0s", "366d", "soon"] {
        assert_eq!(ann.run(&["timer", to_bob, wrong]).status.code(), Some(2), "{wrong}");
    }
    seq(&ann, &["timer", to_bob, "1s"]);
    let said = seq(&ann, &["send", to_bob, "a secret"]);
    let heard = bob.json(&["listen", "--once", "--json"]);
    let at = |seq: u64| heard.iter().find(|event| event["seq"] == seq).expect("it has come");
    assert_eq!((&at(said - 1)["kind"], &at(said - 1)["timer"]), (&json!("timer"), &json!(1000)));
    let ends_ms = at(said)["expires_ms"].as_u64().expect("it ends");
    assert_eq!(ends_ms, at(said)["time_ms"].as_u64().expect("a time") + 1000);
    assert_eq!(at(stays)["expires_ms"], Value::Null);
    // The server's clock is this one.
    loop {
        let shown = String::from_utf8(ann.run(&["history", to_bob]).stdout).expect("text");
        if !shown.contains("secret") {
            assert!(shown.contains("this stays") && shown.contains("(disappeared)"), "{shown}");
            assert!(shown.contains("(messages disappear after 1s from here on)"), "{shown}");
            break;
        }
    }
    for (profile, to) in [(&ann, to_bob), (&bob, to_ann)] {
        let shown = String::from_utf8(profile.run(&["history", to, "--local"]).stdout).expect("text");
        assert!(!shown.contains("secret") && shown.contains("this stays"), "{shown}");
    }
    seq(&bob, &["timer", to_ann, "off"]);
    let chats = ann.json(&["chats", "--json"]).remove(0);
    assert_eq!(chats["chats"][0]["timer_ms"], json!(0), "{chats}");
}

#[test]
fn what_is_scheduled_is_sent_without_its_device() {
    let server = Ternd::start(2);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (ann, bob) = two(&server, dir.path());
    let (to_bob, to_ann) = ("+15550002", "+15550001");
    for wrong in ["soon", "25:00", "0s"] {
        assert_eq!(ann.run(&["schedule", to_bob, wrong, "x"]).status.code(), Some(2), "{wrong}");
    }
    let tomorrow = seq(&ann, &["schedule", to_bob, "1d", "good morning"]);
    let taken_back = seq(&ann, &["schedule", to_bob, "2d", "regretted"]);
    let soon = seq(&ann, &["schedule", to_bob, "1s", "a moment ago"]);
    seq(&ann, &["unschedule", &taken_back.to_string()]);
    // Ann's device is away until it is there.
    let said = loop {
        let page = bob.json(&["history", to_ann, "--json"]).remove(0);
        if let Some(said) = page["messages"].as_array().and_then(|all| all.first()) {
            break said.clone();
        }
    };
    assert_eq!((&said["text"], &said["own"]), (&json!("a moment ago"), &json!(false)));
    let heard = ann.json(&["listen", "--once", "--json"]);
    let outcome = heard.iter().find_map(|event| event["private"]["dispatched"].as_object()).expect("told");
    assert_eq!((&outcome["scheduled"], &outcome["seq"]), (&json!(soon), &said["seq"]));
    assert_eq!(outcome["reason"], Value::Null);
    let left = ann.json(&["scheduled", "--json"]).remove(0);
    let left = left["scheduled"].as_array().expect("a list");
    assert_eq!(left.iter().map(|one| &one["seq"]).collect::<Vec<_>>(), [&json!(tomorrow)]);
    let shown = String::from_utf8(ann.run(&["scheduled"]).stdout).expect("text");
    assert!(shown.contains("good morning") && !shown.contains("regretted"), "{shown}");
}

#[test]
fn an_account_that_is_locked_wants_its_pin() {
    let server = Ternd::start(2);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (ann, _) = two(&server, dir.path());
    let lock = |arguments: &[&str], typed: &str| {
        let mut child =
            ann.tern(&[&["lock"], arguments].concat()).stdin(Stdio::piped()).spawn().expect("it runs");
        writeln!(child.stdin.take().expect("piped"), "{typed}").expect("typed");
        assert!(child.wait().expect("it ends").success());
    };
    lock(&[], "135790");
    assert_eq!(ann.json(&["devices", "--json"])[0]["has_pin"], json!(true));
    let register = |pin: &[&str]| {
        let (address, ca) = (server.address().to_string(), server.ca_file());
        let laptop = Profile { dir: dir.path().join("laptop") };
        let trust = ["--server", &address, "--ca", ca.to_str().expect("text")];
        let arguments = ["register", "+15550001", "--code", &server.code_of("+15550001"), "--json"];
        laptop.run(&[&trust[..], &arguments, pin].concat())
    };
    let reason = |output: std::process::Output| {
        let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        told["error"]["reason"].clone()
    };
    // A code is sent, and not given: by a profile that goes on with it.
    let mut asks = Profile { dir: dir.path().join("laptop") }
        .tern(&["--server", &server.address().to_string(), "--ca", server.ca_file().to_str().expect("text")])
        .args(["register", "+15550001"])
        .spawn()
        .expect("it runs");
    assert_eq!(asks.wait().expect("it ends").code(), Some(1), "nothing was typed");
    assert_eq!(reason(register(&[])), "PIN_NEEDED");
    assert_eq!(reason(register(&["--pin", "135791"])), "PIN_WRONG");
    assert!(register(&["--pin", "135790"]).status.success());
    lock(&["--off"], "");
    assert_eq!(ann.json(&["devices", "--json"])[0]["has_pin"], json!(false));
}

#[test]
fn a_place_a_card_and_what_was_forwarded_say_what_they_are() {
    let server = Ternd::start(2);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (ann, bob) = two(&server, dir.path());
    let (to_bob, to_ann) = ("+15550002", "+15550001");
    let place = seq(&ann, &["send", to_bob, "the gate", "--location", "52.5163,13.3777"]);
    seq(&ann, &["send", to_bob, "Carol", "--contact", "+1 555 0003"]);
    let carol = Profile::register(&server, dir.path(), "+15550003", "Carol");
    seq(&bob, &["forward", to_ann, &place.to_string(), "+15550003"]);
    let heard = carol.json(&["listen", "--once", "--json"]);
    let forwarded = heard.iter().find(|event| event["event"] == "message").expect("it has come");
    assert_eq!((&forwarded["kind"], &forwarded["forwards"]), (&json!("location"), &json!(1)));
    assert_eq!(forwarded["location"]["name"], "the gate");
    let shown = String::from_utf8(bob.run(&["history", to_ann]).stdout).expect("text");
    assert!(
        shown.contains("⌖ 52.51630, 13.37770 the gate") && shown.contains("☎ Carol +15550003"),
        "{shown}"
    );
    let output = ann.run(&["send", to_bob, "x", "--location", "91,0"]);
    assert_eq!(output.status.code(), Some(2), "there is no such place");
}

#[test]
fn a_file_is_sent_and_saved() {
    let server = Ternd::start(3);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (ann, bob) = two(&server, dir.path());
    let cyd = Profile::register(&server, dir.path(), "+15550003", "Cyd");
    let bytes: Vec<u8> =
        b"%PDF-1.7\n".iter().copied().chain((0..400_000).map(|at| (at % 251) as u8)).collect();
    let file = dir.path().join("report.pdf");
    std::fs::write(&file, &bytes).expect("it is written");
    let path = file.to_str().expect("UTF-8");
    let place = seq(&ann, &["send", "+15550002", "the report", "--file", path]).to_string();
    let heard = bob.json(&["listen", "--once", "--json"]);
    let told = heard.iter().find(|event| event["kind"] == "media").expect("it has come");
    assert_eq!(told["media"]["name"], "report.pdf");
    assert_eq!(
        (&told["media"]["type"], &told["media"]["bytes"]),
        (&json!("application/pdf"), &json!(400_009))
    );
    assert_eq!(told["media_ids"].as_array().map(Vec::len), Some(1));
    // In a folder it is called as its sender calls it; what is there is not overwritten.
    let folder = dir.path().join("saved");
    std::fs::create_dir(&folder).expect("a folder");
    let to = folder.to_str().expect("UTF-8");
    bob.json(&["save", "+15550001", &place, "--to", to, "--json"]);
    assert_eq!(std::fs::read(folder.join("report.pdf")).expect("it is there"), bytes);
    let again = bob.run(&["save", "+15550001", &place, "--to", to]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    // What the disk does not take is said at once, and nothing by half is left.
    let full = folder.join("full.pdf");
    let save = bob.tern(&["save", "+15550001", &place, "--to", full.to_str().expect("UTF-8")]);
    let mut limited = Command::new("bash");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 350; exec \"$0\" \"$@\""]).arg(save.get_program());
    let output = limited.args(save.get_args()).output().expect("bash runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("full.pdf: "), "{output:?}");
    assert!(!full.exists());
    // What is sent on is cited: whoever gets it saves the same, also when the first message is gone.
    seq(&bob, &["forward", "+15550001", &place, "+15550003"]);
    seq(&ann, &["delete", "+15550002", &place]);
    let gone = bob.run(&["save", "+15550001", &place, "--to", "gone"]);
    assert_eq!(gone.status.code(), Some(1), "{gone:?}");
    let other = folder.join("other.pdf");
    cyd.json(&["save", "+15550002", "1", "--to", other.to_str().expect("UTF-8"), "--json"]);
    assert_eq!(std::fs::read(other).expect("it is there"), bytes);
    // What servers take no such file of is said before anything is uploaded.
    let odd = dir.path().join("odd.bin");
    std::fs::write(&odd, [0, 159, 146, 150]).expect("it is written");
    let output = ann.run(&["send", "+15550002", "--file", odd.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn what_is_archived_muted_starred_or_hidden_is_so_on_all_devices() {
    let server = Ternd::start(3);
    let (here, there) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let (ann, bob) = two(&server, here.path());
    let laptop = Profile::register(&server, there.path(), "+15550001", "Ann");
    let to_bob = "+15550002";
    let said = seq(&bob, &["send", "+15550001", "look at this"]);
    let more = seq(&bob, &["send", "+15550001", "and at that"]);
    seq(&ann, &["set", to_bob, "--archive", "yes", "--mute", "always"]);
    seq(&ann, &["star", to_bob, &said.to_string()]);
    seq(&ann, &["hide", to_bob, &more.to_string()]);
    // What is not said stays; the list says it to all, the rest comes with what is received.
    seq(&laptop, &["set", to_bob, "--unread", "yes"]);
    for profile in [&ann, &laptop] {
        profile.json(&["listen", "--once", "--json"]);
        assert_eq!(profile.json(&["chats", "--json"])[0]["chats"], json!([]), "it is put aside");
        let listed = profile.json(&["chats", "--archived", "--json"]).remove(0);
        let settings = &listed["chats"][0]["settings"];
        assert_eq!((&settings["archived"], &settings["marked_unread"]), (&json!(true), &json!(true)));
        assert_eq!(settings["muted_until_ms"], json!(tern_client::FOR_EVER_MS));
        let starred = profile.json(&["starred", "--json"]).remove(0);
        assert_eq!(starred["starred"][0]["seq"], json!(said));
        for arguments in [vec!["history", to_bob, "--json"], vec!["history", to_bob, "--local", "--json"]] {
            let shown = profile.json(&arguments).remove(0);
            let texts: Vec<_> = shown["messages"]
                .as_array()
                .expect("messages")
                .iter()
                .map(|message| &message["text"])
                .collect();
            assert_eq!(texts, ["look at this"], "{arguments:?}");
        }
    }
    // Nobody else sees any of it.
    let shown = String::from_utf8(bob.run(&["history", "+15550001"]).stdout).expect("text");
    assert!(shown.contains("and at that"), "{shown}");
    let output = ann.run(&["set", to_bob, "--mute", "soon"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn who_is_blocked_is_not_heard_and_all_devices_know_it() {
    let server = Ternd::start(3);
    let (here, there) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let (ann, bob) = two(&server, here.path());
    let laptop = Profile::register(&server, there.path(), "+15550001", "Ann");
    let (to_ann, to_bob) = ("+15550001", "+15550002");
    seq(&bob, &["send", to_ann, "hello"]);
    ann.json(&["contacts", to_bob, "--name", "B. from work", "--json"]);
    seq(&ann, &["block", to_bob]);
    seq(&bob, &["send", to_ann, "are you there?"]);
    assert!(ann.refusal(&["send", to_bob, "no"]).contains("blocks that person"));
    let privacy = ann.json(&["privacy", "--groups", "contacts", "--read-receipts", "no", "--json"]).remove(0);
    assert_eq!((&privacy["groups"], &privacy["read_receipts"]), (&json!("contacts"), &json!(false)));
    for profile in [&ann, &laptop] {
        let listened = profile.run(&["listen", "--once"]);
        let listened = String::from_utf8(listened.stdout).expect("text");
        assert!(!listened.contains("are you there?"), "{listened}");
        let contacts = profile.json(&["contacts", "--json"]).remove(0);
        assert_eq!(contacts["contacts"][0]["name"], json!("B. from work"));
        let blocked = profile.json(&["block", "--json"]).remove(0);
        assert_eq!(blocked["blocked"], json!([contacts["contacts"][0]["chat"]]));
        assert_eq!(profile.json(&["privacy", "--json"])[0]["groups"], json!("contacts"));
        for arguments in [vec!["history", to_bob, "--json"], vec!["history", to_bob, "--local", "--json"]] {
            let shown = profile.json(&arguments).remove(0);
            assert_eq!(shown["messages"].as_array().expect("messages").len(), 1, "{shown}");
        }
    }
    seq(&ann, &["unblock", to_bob]);
    seq(&bob, &["send", to_ann, "and now?"]);
    let shown = laptop.json(&["history", to_bob, "--json"]).remove(0);
    let texts: Vec<_> =
        shown["messages"].as_array().expect("messages").iter().map(|said| &said["text"]).collect();
    assert_eq!(texts, ["hello", "and now?"]);
    ann.json(&["contacts", to_bob, "--remove", "--json"]);
    assert_eq!(ann.json(&["contacts", "--json"])[0]["contacts"], json!([]));
    assert!(ann.refusal(&["block", to_ann]).contains("oneself"));
}

#[test]
fn what_one_says_of_oneself_is_seen_where_one_lets_it_and_in_no_profile_afterwards() {
    let server = Ternd::start(3);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (ann, bob) = two(&server, dir.path());
    let (boat, saved) = (dir.path().join("boat.png"), dir.path().join("saved.png"));
    std::fs::write(&boat, include_bytes!("../../preview/src/check.png")).expect("it is written");
    let (boat, saved) = (boat.to_str().expect("a path"), saved.to_str().expect("a path"));
    let own = bob.json(&["profile", "--about", "at sea", "--picture", boat, "--json"]).remove(0);
    assert_eq!((&own["name"], &own["about"]), (&json!("Bob"), &json!("at sea")));
    let seen = ann.json(&["profile", "+15550002", "--json"]).remove(0);
    assert_eq!((&seen["about"], &seen["medium"]), (&json!("at sea"), &own["medium"]));
    assert!(own["medium"].is_string(), "{own}");
    assert_eq!((&seen["version"], &seen["name"]), (&json!(2), &json!("")), "he has not written to her");
    let said = String::from_utf8(ann.run(&["profile", "+15550002"]).stdout).expect("text");
    assert!(said.contains("about    at sea") && said.contains("picture  tern save @"), "{said}");
    ann.json(&["save", "+15550002", "--picture", "--to", saved, "--json"]);
    assert_eq!(std::fs::read(saved).expect("saved"), std::fs::read(boat).expect("a picture"));

    bob.json(&["privacy", "--about", "nobody", "--json"]);
    let seen = ann.json(&["profile", "+15550002", "--json"]).remove(0);
    assert_eq!((&seen["about"], &seen["medium"]), (&json!(""), &own["medium"]));
    bob.json(&["profile", "--no-picture", "--json"]);
    let own = bob.json(&["profile", "--json"]).remove(0);
    assert_eq!(
        (&own["about"], &own["picture"], &own["medium"]),
        (&json!("at sea"), &json!(""), &json!(null))
    );
    assert!(bob.refusal(&["profile", "--about", &"x".repeat(141)]).contains("140 characters"));
    assert!(ann.refusal(&["save", "+15550002", "--picture"]).contains("no picture"));

    let group = bob.json(&["group", "new", "sailors", "--json"])[0]["chat"].to_string();
    let group = format!("@{group}");
    bob.json(&["group", "set", &group, "--picture", boat, "--json"]);
    assert!(bob.json(&["group", "show", &group, "--json"])[0]["medium"].is_string());
    std::fs::remove_file(saved).expect("removed");
    bob.json(&["save", &group, "--picture", "--to", saved, "--json"]);
    assert_eq!(std::fs::read(saved).expect("saved"), std::fs::read(boat).expect("a picture"));
    bob.json(&["group", "set", &group, "--no-picture", "--json"]);
    assert_eq!(bob.json(&["group", "show", &group, "--json"])[0]["medium"], json!(null));
}

#[test]
fn who_passes_on_a_card_is_added_without_a_number() {
    let server = Ternd::start(3);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (ann, bob) = two(&server, dir.path());
    let link = |profile: &Profile, arguments: &[&str]| {
        let shown = profile.json(&[&["card", "--json"], arguments].concat()).remove(0);
        shown["link"].as_str().expect("a link").to_owned()
    };
    let first = link(&bob, &[]);
    assert_eq!(link(&bob, &[]), first, "it stays the same");
    let added = ann.json(&["add", &first, "--json"]).remove(0);
    assert_eq!((&added["name"], &added["phone"]), (&json!("Bob"), &json!("")));
    let contacts = ann.json(&["contacts", "--json"]).remove(0);
    assert_eq!(
        (&contacts["contacts"][0]["chat"], &contacts["contacts"][0]["name"]),
        (&added["chat"], &json!("Bob"))
    );
    seq(&ann, &["send", &format!("@{}", added["chat"]), "hello"]);

    let second = link(&bob, &["--renew"]);
    assert_ne!(first, second);
    let carol = Profile::register(&server, dir.path(), "+15550003", "Carol");
    assert!(carol.refusal(&["add", &first]).contains("UNKNOWN_USER"), "it was renewed");
    carol.json(&["add", &second, "--name", "B.", "--json"]);
    assert_eq!(carol.json(&["contacts", "--json"])[0]["contacts"][0]["name"], json!("B."));
    let shown = String::from_utf8(bob.run(&["card"]).stdout).expect("text");
    assert!(shown.contains(&second) && shown.lines().count() > 10, "with its QR code: {shown}");
}

#[test]
fn an_address_book_is_looked_through_and_what_is_too_much_is_left() {
    let limits = ["--limit", "discovered_burst=100", "--limit", "discovered_per_day_max=24"];
    let arguments = limits.map(str::to_owned).to_vec();
    let server = Ternd::start_with(TerndOptions { cores: 3, arguments, ..TerndOptions::default() });
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (ann, bob) = two(&server, dir.path());
    let carol = Profile::register(&server, dir.path(), "+15550003", "Carol");
    let chat_of = |profile: &Profile| profile.json(&["whoami", "--json"])[0]["user_id"].clone();
    carol.json(&["privacy", "--found-by-phone", "nobody", "--json"]);
    // Bob is on the second page of it, Carol hides, and one line is no number.
    let mut lines: Vec<_> = (0..90).map(|number| format!("+1999555{number:04} somebody")).collect();
    lines.insert(3, "+15550003 Carol".to_owned());
    lines.insert(4, "her birthday is in May".to_owned());
    lines.insert(70, "+15550002 Bob".to_owned());
    let book = dir.path().join("book");
    std::fs::write(&book, lines[..10].join("\n")).expect("written");
    let book = book.to_str().expect("text");
    assert_eq!(ann.json(&["discover", "--from", book, "--json"])[0]["found"], json!([]));
    let found = ann.json(&["discover", "+15550002", "+15550003", "+15550002", "--json"]).remove(0);
    assert_eq!(found["found"], json!([{ "phone": "+15550002", "chat": chat_of(&bob) }]));
    assert_eq!((&found["left"], &found["retry_after_ms"]), (&json!([]), &json!(0)));
    ann.json(&["contacts", &format!("@{}", found["found"][0]["chat"]), "--name", "B.", "--json"]);
    assert_eq!(ann.json(&["contacts", "--json"])[0]["contacts"][0]["chat"], chat_of(&bob));

    std::fs::write(book, lines.join("\n")).expect("written");
    let found = ann.json(&["discover", "--from", book, "--json"]).remove(0);
    assert_eq!((found["found"].clone(), found["left"].as_array().map(Vec::len)), (json!([]), Some(28)));
    assert!(found["retry_after_ms"].as_u64().is_some_and(|wait_ms| wait_ms > 5_000), "{found}");
    let found = bob.json(&["discover", "--from", book, "--json"]).remove(0);
    let own = json!([{ "phone": "+15550002", "chat": chat_of(&bob) }]);
    assert_eq!((&found["found"], &found["left"]), (&own, &json!([])), "it fits, and he is in it");
    let said = String::from_utf8(carol.run(&["discover", "+15550002"]).stdout).expect("text");
    assert_eq!(said.trim(), format!("+15550002 @{}", chat_of(&bob)));
}

#[test]
fn a_link_leads_into_a_group_at_once_or_when_somebody_lets_one_in() {
    let server = Ternd::start(3);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (ann, bob) = two(&server, dir.path());
    let carol = Profile::register(&server, dir.path(), "+15550003", "Carol");
    let group = ann.json(&["group", "new", "friends", "--json"])[0]["chat"].as_u64().expect("a number");
    let group = format!("@{group}");
    ann.json(&["send", &group, "before", "--json"]);
    let invite = |arguments: &[&str]| {
        let arguments: Vec<_> = [&["group", "invite", &group], arguments, &["--json"]].concat();
        ann.json(&arguments)[0]["link"].as_str().expect("a link").to_owned()
    };
    let link = invite(&["--expires", "24", "--uses", "5"]);
    let preview = bob.json(&["group", "join", &link, "--preview", "--json"]).remove(0);
    assert_eq!(
        (&preview["name"], &preview["size"], &preview["member"]),
        (&json!("friends"), &json!(1), &json!(false))
    );
    let shown = String::from_utf8(bob.run(&["group", "join", &link]).stdout).expect("text");
    assert!(shown.contains("friends") && shown.contains("you are in it"), "{shown}");
    seq(&bob, &["send", &group, "hello"]);
    let said = seq(&ann, &["send", &group, "welcome"]);
    let heard = bob.json(&["listen", "--once", "--json"]);
    let seqs: Vec<_> =
        heard.iter().filter(|event| event["event"] == "message").map(|event| &event["seq"]).collect();
    // From the entry by which he came on, and nothing before it.
    assert_eq!(seqs, [said - 2, said - 1, said]);
    // One that wants approval: Carol asks, and is let in.
    let link = invite(&["--approval"]);
    let asked = carol.json(&["group", "join", &link, "--json"]).remove(0);
    assert_eq!((&asked["asked"], &asked["member"]), (&json!(true), &json!(false)));
    assert_eq!(carol.json(&["chats", "--json"])[0]["chats"], json!([]), "it is no chat of hers yet");
    let about = ann.json(&["group", "show", &group, "--json"]).remove(0);
    let carols = about["asking"][0].as_u64().expect("a user");
    ann.json(&["group", "add", &group, &format!("@{carols}"), "--json"]);
    carol.json(&["listen", "--once", "--json"]);
    assert!(seq(&carol, &["send", &group, "thanks"]) > said);
    // An invitation that was ended leads nowhere.
    let hash =
        about["invitations"].as_array().expect("invitations")[1]["hash"].as_str().expect("a hash").to_owned();
    ann.json(&["group", "uninvite", &group, &hash, "--json"]);
    let told = bob.json(&["group", "join", &link, "--preview", "--json"]).remove(0);
    assert_eq!(told["member"], json!(true), "a member is told all the same");
    let dan = Profile::register(&server, dir.path(), "+15550004", "Dan");
    assert_eq!(refused(&dan, &["group", "join", &link]), "INVITATION_UNKNOWN");
    let output = dan.run(&["group", "join", "tern:join/nonsense"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_device_is_linked_by_what_another_one_shows() {
    let server = Ternd::start(2);
    let (here, there) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let (ann, bob) = two(&server, here.path());
    seq(&bob, &["send", "+15550001", "hello"]);
    let shown = String::from_utf8(ann.run(&["devices", "--add"]).stdout).expect("text");
    let link = shown.lines().find(|line| line.starts_with("tern:link/")).expect("a link as text").to_owned();
    assert!(shown.lines().filter(|line| line.contains('█')).count() > 10, "and as a code:\n{shown}");
    let (address, ca) = (server.address().to_string(), server.ca_file());
    let trust = ["--server", &address, "--ca", ca.to_str().expect("text")];
    let laptop = Profile { dir: there.path().join("laptop") };
    let linked =
        laptop.json(&[&trust[..], &["link", &link, "--device", "laptop", "--json"]].concat()).remove(0);
    assert_eq!((&linked["phone"], &linked["device_id"]), (&json!("+15550001"), &json!(2)));
    let heard = laptop.json(&["listen", "--once", "--json"]);
    assert!(heard.iter().any(|event| event["text"] == "hello"), "it has all chats: {heard:?}");
    let again = Profile { dir: there.path().join("again") };
    assert_eq!(refused(&again, &[&trust[..], &["link", &link]].concat()), "LINK_USED");
    let output = laptop.run(&["link", &link, "--json"]);
    assert_eq!(output.status.code(), Some(1), "a profile that is registered stays so");
}

#[test]
fn an_account_that_is_deleted_lets_nobody_in_until_its_phone_is_registered_again() {
    let server = Ternd::start(2);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (ann, bob) = two(&server, dir.path());
    seq(&bob, &["send", "+15550001", "hello"]);
    let output = ann.run(&["delete-account"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && told.contains("--yes"), "{told}");
    let ends = ann.json(&["delete-account", "--yes", "--json"]).remove(0);
    assert!(ends["ends_ms"].as_u64().is_some_and(|at_ms| at_ms > 0), "{ends}");
    let output = ann.run(&["devices"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && told.contains("whoever registers its phone before keeps it"),
        "{told}"
    );
    let again = Profile::register(&server, dir.path(), "+15550001", "Ann again");
    let history = again.json(&["history", "+15550002", "--json"]);
    assert_eq!(history[0]["messages"][0]["text"], "hello", "{history:?}");
    // The profile from before is a device of the account as it was.
    assert!(ann.run(&["devices"]).status.success());
}
