//! The operators' tool against the real ternd.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use serde_json::Value;
use tern_testkit::{Ternd, TerndOptions, program};

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
    assert!(refusal(&ternctl(&server, &["user", "+15559000007"])).contains("no account has that phone"));

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
    assert_eq!(std::fs::read_to_string(&out).expect("written").lines().count(), 2);
}

#[test]
fn a_ternd_that_is_not_there_is_said_plainly() {
    let nowhere = tempfile::tempdir().expect("a temporary directory");
    let output =
        Command::new(program("ternctl")).arg("--data-dir").arg(nowhere.path()).arg("status").output();
    let said = refusal(&output.expect("ternctl runs"));
    assert!(said.contains("no ternd answers at") && said.contains("ternd.sock"), "{said}");
}
