//! The operators' tool against the real ternd.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use tern_proto::v1::{self, client_frame, server_frame};
use tern_testkit::{Raw, Ternd, TerndOptions, program};

fn ternctl(server: &Ternd, arguments: &[&str]) -> Output {
    let mut command = Command::new(program("ternctl"));
    command.arg("--data-dir").arg(server.data_dir()).args(arguments);
    command.output().expect("ternctl runs")
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON value")
}

fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr.clone()).expect("text")
}

#[test]
fn provisioned_users_are_shown_with_their_devices_until_they_are_deleted() {
    let server = Ternd::start(3);
    let out = server.data_dir().join("users.json");
    let file = out.to_str().expect("text");
    let made = json(&ternctl(
        &server,
        &["provision", "--count", "3000", "--first", "+15559000000", "--out", file, "--json"],
    ));
    assert_eq!(made["made"], 3000);
    assert_eq!(out.metadata().expect("written").permissions().mode() & 0o777, 0o600);
    let lines = std::fs::read_to_string(&out).expect("written");
    let users: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(users.len(), 3000);
    assert_eq!(users[2999]["phone"], "+15559002999");
    assert!(users.iter().all(|user| user["access_token"].as_str().is_some_and(|token| token.len() > 50)));

    let user = json(&ternctl(&server, &["user", "+15559000007", "--json"]));
    assert_eq!(user["user_id"], users[7]["user_id"]);
    assert_eq!(user["devices"].as_array().map(Vec::len), Some(1));
    let shown = ternctl(&server, &["user", "+15559000007"]);
    assert!(
        String::from_utf8_lossy(&shown.stdout).contains("device 1 (test): away") || shown.status.success()
    );

    let without_yes = ternctl(&server, &["user", "+15559000007", "--delete"]);
    assert_eq!(without_yes.status.code(), Some(2), "deleting needs --yes");
    json(&ternctl(&server, &["user", "+15559000007", "--delete", "--yes", "--json"]));
    assert!(refusal(&ternctl(&server, &["user", "+15559000007"])).contains("there is no such account"));

    let status = json(&ternctl(&server, &["status", "--json"]));
    let cores = status["cores"].as_array().expect("cores");
    assert_eq!(cores.len(), 3);
    assert_eq!(cores.iter().map(|core| core["slots"].as_u64().expect("a number")).sum::<u64>(), 4096);
    let page = String::from_utf8_lossy(&ternctl(&server, &["status"]).stdout).into_owned();
    assert!(page.contains("alarms       none") && page.contains("0 logged in"), "{page}");
    assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    let top =
        String::from_utf8_lossy(&ternctl(&server, &["top", "--every", "1", "-n", "2"]).stdout).into_owned();
    assert_eq!(top.matches("/s acknowledged").count(), 2, "{top}");
}

#[test]
fn the_code_is_all_that_otp_prints() {
    let server = Ternd::start(2);
    assert!(refusal(&ternctl(&server, &["otp", "+15550001"])).contains("no one-time code"));
    assert!(refusal(&ternctl(&server, &["otp", "5550001"])).contains("E.164"));
    let registering = Command::new(program("tern"))
        .arg("--profile")
        .arg(server.data_dir().join("profile"))
        .args(["--server", &server.address().to_string(), "--ca"])
        .arg(server.ca_file())
        .args(["register", "+15550001", "--name", "Ann"])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("tern runs");
    assert_eq!(registering.status.code(), Some(1), "no code was typed");
    let printed = ternctl(&server, &["otp", "+15550001"]).stdout;
    let code = String::from_utf8(printed).expect("text");
    assert!(code.len() == 7 && code[..6].bytes().all(|digit| digit.is_ascii_digit()), "{code:?}");
    let reset = |phone: &str| ternctl(&server, &["codes", "reset", phone, "--json"]);
    assert_eq!(json(&reset("+15550001"))["forgotten"], 1);
    assert_eq!(json(&reset("+15550001"))["forgotten"], 0);
    assert!(refusal(&reset("5550001")).contains("E.164"));
    assert_eq!(ternctl(&server, &["otp", "+15550001"]).stdout, code.as_bytes(), "what was sent stays good");
}

#[test]
fn test_users_are_not_made_outside_of_development() {
    let own = tempfile::tempdir().expect("a temporary directory");
    let first = Ternd::start(1);
    // A certificate of the operator's own, and codes by webhook: no development mode.
    for name in ["cert.pem", "key.pem"] {
        std::fs::copy(first.data_dir().join(name), own.path().join(name)).expect("copied");
    }
    let arguments = |more: &[&str]| {
        let path = |name| own.path().join(name).to_str().expect("text").to_owned();
        let mut arguments = vec!["--certificate".into(), path("cert.pem"), "--key".into(), path("key.pem")];
        arguments.extend(["--sms-webhook".to_owned(), "http://127.0.0.1:9/".to_owned()]);
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        arguments
    };
    let out = own.path().join("users.json");
    let provision = ["provision", "--count", "2", "--out", out.to_str().expect("text")];
    let server = Ternd::start_with(TerndOptions { arguments: arguments(&[]), ..TerndOptions::default() });
    assert!(refusal(&ternctl(&server, &provision)).contains("--allow-provision"));
    assert!(!out.exists());
    let allowed = arguments(&["--allow-provision"]);
    let server = Ternd::start_with(TerndOptions { arguments: allowed, ..TerndOptions::default() });
    assert!(ternctl(&server, &provision).status.success());
    let tokens = std::fs::read_to_string(&out).expect("written");
    assert_eq!(tokens.lines().count(), 2);
    // Tokens are not written over in silence, and who was there is not told as made.
    assert!(refusal(&ternctl(&server, &provision)).contains("--overwrite"));
    assert_eq!(std::fs::read_to_string(&out).expect("read"), tokens);
    let again = text(&ternctl(&server, &[&provision[..], &["--overwrite"]].concat()));
    assert!(again.contains("made 0 users") && again.contains("2 phones had an account already"), "{again}");
    // A wrapper has defaults, and whoever calls it has the last word.
    let twice = ["--data-dir", "nowhere", "--data-dir", server.data_dir().to_str().expect("text"), "status"]
        .map(str::to_owned);
    assert!(Command::new(program("ternctl")).args(&twice).output().expect("ternctl runs").status.success());
}

#[test]
fn a_ternd_that_is_not_there_is_said_plainly() {
    let nowhere = tempfile::tempdir().expect("a temporary directory");
    let output =
        Command::new(program("ternctl")).arg("--data-dir").arg(nowhere.path()).arg("status").output();
    let said = refusal(&output.expect("ternctl runs"));
    assert!(said.contains("no ternd answers at") && said.contains("ternd.sock"), "{said}");
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[test]
fn a_user_is_found_by_id_a_device_of_theirs_ended_and_their_limits_reset() {
    let limits = ["--limit", "sends_per_minute_max=1", "--limit", "sends_burst=1"].map(str::to_owned);
    let server =
        Ternd::start_with(TerndOptions { cores: 3, arguments: limits.to_vec(), ..TerndOptions::default() });
    let users = server.provision(2);
    let (id, chat) = (users[0].id.to_string(), users[1].id);
    let user = json(&ternctl(&server, &["user", &id, "--json"]));
    assert_eq!((&user["phone"], &user["user_id"]), (&users[0].phone.as_str().into(), &users[0].id.into()));
    assert!(text(&ternctl(&server, &["user", &users[0].phone])).contains(&format!("user {id}")));
    assert!(refusal(&ternctl(&server, &["user", "12345"])).contains("no such account"));
    assert!(refusal(&ternctl(&server, &["user", "nobody"])).contains("neither a phone"));
    // A phone that is too long is no user's id.
    assert!(refusal(&ternctl(&server, &["user", &format!("+{id:0<16}")])).contains("neither a phone"));

    let mut connection = Raw::logged_in(&server, &users[0].token);
    let mut send = |client_id: u64| {
        let send = v1::Send { chat, client_id, body: "x".into(), ..Default::default() };
        connection.ask(client_frame::Request::Send(send))
    };
    assert!(matches!(send(1), Some(server_frame::Message::Sent(_))));
    let limited = send(2);
    assert!(
        matches!(&limited, Some(server_frame::Message::Refused(refused)) if refused.reason() == v1::Reason::RateLimited),
        "{limited:?}"
    );
    text(&ternctl(&server, &["limits", "reset", &id]));
    assert!(matches!(send(2), Some(server_frame::Message::Sent(_))), "as if nothing had been sent yet");

    let suspend = |more: &[&str]| ternctl(&server, &[&["user", "suspend", &id], more].concat());
    assert!(refusal(&suspend(&["--reason", ""])).contains("a reason is needed"));
    assert_eq!(suspend(&["--reason", "spam", "--for", "7w"]).status.code(), Some(2), "no such duration");
    assert_eq!(suspend(&[]).status.code(), Some(2), "a reason is needed");
    text(&suspend(&["--reason", "spam", "--for", "7d"]));
    assert!(text(&ternctl(&server, &["user", &id])).contains("SUSPENDED since"));
    text(&ternctl(&server, &["user", "free", &id]));
    assert!(refusal(&ternctl(&server, &["user", "free", &id])).contains("not suspended"));
    assert!(!text(&ternctl(&server, &["user", &id])).contains("SUSPENDED"));
    assert_eq!(connection.farewell().map(|bye| bye.reason()), Some(v1::Reason::Suspended));
    let mut connection = Raw::logged_in(&server, &users[0].token);

    text(&ternctl(&server, &["devices", "end", &id, "1"]));
    assert_eq!(connection.farewell().map(|bye| bye.reason()), Some(v1::Reason::SessionRevoked));
    assert!(refusal(&ternctl(&server, &["devices", "end", &id, "1"])).contains("has ended before"));
    assert!(refusal(&ternctl(&server, &["devices", "end", &id, "9"])).contains("no such device"));
    assert!(text(&ternctl(&server, &["user", &id])).contains("logged out"));
    json(&ternctl(&server, &["user", &id, "--delete", "--yes", "--json"]));
    assert!(refusal(&ternctl(&server, &["user", &id])).contains("no such account"));
}

#[test]
fn reports_are_listed_shown_and_done_with() {
    let server = Ternd::start(3);
    let users = server.provision(3);
    assert!(text(&ternctl(&server, &["reports", "list", "--open"])).contains("nothing waits for you"));
    let mut bob = Raw::logged_in(&server, &users[1].token);
    let body = "\u{1b}[31mbuy this".into();
    let send = v1::Send { chat: users[0].id, client_id: 1, body, ..Default::default() };
    assert!(matches!(
        bob.ask(client_frame::Request::Send(send)),
        Some(server_frame::Message::Sent(sent)) if sent.seq == 1
    ));
    let (chat, seqs) = (users[1].id, vec![1]);
    let (category, comment) = (v1::Category::Spam.into(), "he sells\u{7}".to_owned());
    let report = v1::Report { client_id: 9, chat, seqs, category, comment, ..Default::default() };
    let mut ann = Raw::logged_in(&server, &users[0].token);
    let reported = ann.ask(client_frame::Request::Report(report));
    assert!(matches!(reported, Some(server_frame::Message::Reported(_))), "{reported:?}");
    let id = format!("{}-{}-9", users[1].id, users[0].id);
    let listed = text(&ternctl(&server, &["reports", "list", "--open"]));
    assert!(listed.contains(&id) && listed.contains("spam, 1 messages, open"), "{listed}");
    assert!(!listed.contains("buy this"), "{listed}");
    let shown = text(&ternctl(&server, &["reports", "show", &id]));
    assert!(shown.contains("buy this") && shown.contains("he sells"), "{shown}");
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{7}'), "nobody's control characters: {shown:?}");
    assert!(refusal(&ternctl(&server, &["reports", "show", "1-2-3"])).contains("no such report"));
    assert!(refusal(&ternctl(&server, &["reports", "show", "1-2"])).contains("no report's id"));
    let resolve = |more: &[&str]| ternctl(&server, &[&["reports", "resolve", &id], more].concat());
    assert_eq!(resolve(&[]).status.code(), Some(2), "what came of it is needed");
    assert_eq!(resolve(&["--as", "x", "--for", "1d"]).status.code(), Some(2), "for what?");
    text(&resolve(&["--as", "two days off", "--suspend", "--for", "2d"]));
    assert!(text(&ternctl(&server, &["user", &users[1].id.to_string()])).contains("two days off"));
    assert!(text(&ternctl(&server, &["reports", "list", "--open"])).contains("nothing waits for you"));
    let listed = json(&ternctl(&server, &["reports", "list", "--json"]));
    assert_eq!(listed["resolved_as"], "two days off", "{listed}");
    let audit = std::fs::read_to_string(server.data_dir().join("audit.jsonl")).expect("it is there");
    assert!(audit.contains("look at a report") && audit.contains("resolve a report"), "{audit}");
    assert!(!audit.contains("buy this"), "{audit}");
}

#[test]
fn the_configuration_in_force_is_shown_read_again_and_drained() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("ternd.toml");
    let write = |text: &str| std::fs::write(&file, text).expect("written");
    write("[sms]\nauthorization = \"s3cret\"\n");
    let arguments = ["--config", file.to_str().expect("text")].map(str::to_owned).to_vec();
    let mut server = Ternd::start_with(TerndOptions { arguments, ..TerndOptions::default() });
    let config = text(&ternctl(&server, &["config"]));
    assert!(config.contains("sends_per_minute_max = 0") && !config.contains("s3cret"), "{config}");
    write("[log]\nfilter = \"debug\"\n[limits]\ndevices_max = 2\n");
    let reloaded = text(&ternctl(&server, &["reload"]));
    assert!(reloaded.contains("read again: log.filter, debug"), "{reloaded}");
    assert!(reloaded.contains("needs a start: limits.devices_max"), "{reloaded}");
    assert!(text(&ternctl(&server, &["config"])).contains("filter = \"debug\""));
    write("[log]\nfiltre = \"x\"\n");
    let failed = ternctl(&server, &["reload"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("filtre"));
    let users = server.provision(1);
    let mut connection = Raw::logged_in(&server, &users[0].token);
    let drained = text(&ternctl(&server, &["drain", "--wait"]));
    assert_eq!(drained, "draining\nternd has ended\n");
    assert_eq!(connection.farewell().map(|bye| bye.reason()), Some(v1::Reason::ShuttingDown));
    assert_eq!(server.wait().code(), Some(0));
    assert!(refusal(&ternctl(&server, &["status"])).contains("no ternd answers"));
}

#[test]
fn messages_are_followed_for_as_long_as_one_asks_and_no_longer() {
    let server = Ternd::start(2);
    let users = server.provision(2);
    let mut trace = Command::new(program("ternctl"));
    trace.arg("--data-dir").arg(server.data_dir());
    let trace = trace
        .args(["trace", "--every", "1", "--seconds", "2", "--json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("ternctl runs");
    let mut connection = Raw::logged_in(&server, &users[0].token);
    let chat = users[1].id;
    let mut client_id = 0;
    let mut send = || {
        client_id += 1;
        let send = v1::Send { chat, client_id, body: "x".into(), ..Default::default() };
        assert!(matches!(
            connection.ask(client_frame::Request::Send(send)),
            Some(server_frame::Message::Sent(_))
        ));
    };
    // Until it has ended, whenever it began.
    let followed = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| trace.wait_with_output().expect("it ends"));
        while !waiting.is_finished() {
            send();
        }
        waiting.join().expect("no panic")
    });
    let followed = json(&followed);
    assert!(followed["messages"].as_u64().is_some_and(|messages| messages > 10), "{followed}");
    let steps = followed["steps"].as_object().expect("steps");
    let names: Vec<_> = steps.keys().map(String::as_str).collect();
    for name in ["decrypted", "routed", "batched", "submitted", "committed", "acknowledged"] {
        assert!(names.contains(&name), "{names:?}");
        assert!(steps[name]["count"].as_u64().is_some_and(|count| count > 10), "{name}: {followed}");
    }
    // Afterwards nothing is followed, as before, as soon as the cores have heard of it.
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        (0..200).for_each(|_| send());
        if server.http("/traces").1.is_empty() {
            break;
        }
        assert!(Instant::now() < until, "messages are still followed");
    }
}

#[test]
fn slots_are_listed_moved_and_drained_and_each_act_is_noted() {
    let server = Ternd::start(3);
    let slots_of = |core: u64| {
        let all = json(&ternctl(&server, &["cores", "list", "--json"]));
        let found = all["cores"].as_array().expect("cores").iter().find(|one| one["core"] == core).cloned();
        found.expect("there is such a core")["slots"].as_u64().expect("a number")
    };
    assert_eq!((0..3).map(slots_of).sum::<u64>(), 4096);
    let before = slots_of(2);
    let moved = json(&ternctl(&server, &["shards", "move", "17", "--to", "0", "--json"]));
    assert_eq!((&moved["slot"], &moved["from"], &moved["to"]), (&17.into(), &2.into(), &0.into()));
    assert_eq!(slots_of(2), before - 1);
    assert!(
        refusal(&ternctl(&server, &["shards", "move", "17", "--to", "0"])).contains("has the slot already")
    );
    assert!(refusal(&ternctl(&server, &["shards", "move", "17", "--to", "3"])).contains("no such core"));
    assert_eq!(ternctl(&server, &["shards", "rebalance"]).status.code(), Some(2), "what is to be done?");
    let text = |arguments: &[&str]| {
        let output = ternctl(&server, arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    assert!(text(&["shards", "explain", "17"]).contains("it came from core 2"));
    assert!(text(&["shards", "top"]).lines().all(|line| line.len() <= 90));
    // Balanced as it is: nothing is planned, and nothing is carried out.
    assert!(text(&["shards", "rebalance", "--plan"]).contains("nothing to move"));
    assert!(text(&["shards", "rebalance", "--status"]).contains("nothing was carried out"));
    assert!(refusal(&ternctl(&server, &["shards", "rebalance", "--apply", "p-9"])).contains("no such plan"));
    assert!(refusal(&ternctl(&server, &["shards", "rebalance", "--cancel"])).contains("nothing is being"));

    // A core gives all that it has, slowly at first; the terminal may look, or go.
    json(&ternctl(&server, &["cores", "drain", "1", "--json"]));
    assert_eq!(json(&ternctl(&server, &["shards", "rebalance", "--pause", "--json"]))["state"], "paused");
    assert!(text(&["shards", "rebalance", "--status"]).contains("paused"));
    let busy = refusal(&ternctl(&server, &["cores", "drain", "2"]));
    assert!(busy.contains("is being carried out"), "{busy}");
    assert!(refusal(&ternctl(&server, &["cores", "undrain", "2"])).contains("not drained"));
    json(&ternctl(&server, &["shards", "rebalance", "--rate", "1000", "--json"]));
    json(&ternctl(&server, &["shards", "rebalance", "--resume", "--json"]));
    let watched = text(&["shards", "rebalance", "--watch"]);
    assert!(watched.lines().last().is_some_and(|line| line.contains("done in")), "{watched}");
    assert_eq!((slots_of(1), slots_of(0) + slots_of(2)), (0, 4096));
    json(&ternctl(&server, &["cores", "undrain", "1", "--json"]));
    let plan = json(&ternctl(&server, &["shards", "rebalance", "--plan", "--json"]));
    assert!(
        !plan["moves"].as_array().expect("moves").is_empty(),
        "a core that has nothing is given something"
    );
    let name = plan["plan"].as_str().expect("a name");
    json(&ternctl(&server, &["shards", "rebalance", "--apply", name, "--rate", "1000", "--json"]));
    json(&ternctl(&server, &["shards", "rebalance", "--cancel", "--json"]));
    assert!(text(&["shards", "rebalance", "--watch"]).contains("cancelled"));

    let audit = std::fs::read_to_string(server.data_dir().join("audit.jsonl")).expect("written");
    let rows: Vec<Value> = audit.lines().map(|row| serde_json::from_str(row).expect("JSON")).collect();
    let acts: Vec<_> = rows.iter().map(|row| row["act"].as_str().expect("an act")).collect();
    for act in ["move", "plan", "apply", "pause", "rate", "resume", "rebalance", "cancel", "drain-core"] {
        assert!(acts.contains(&act), "{act}: {acts:?}");
    }
    assert!(rows.iter().all(|row| row["time_ms"].is_u64() && row["operator"].is_string()));
    assert_eq!(rows[0]["outcome"], "moved");
    assert!(rows[1]["outcome"].as_str().is_some_and(|outcome| outcome.contains("already")));
}
