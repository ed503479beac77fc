//! `tern push`: a device says where it is told while it sleeps, and is told there; what the server does not have is said in words.

mod profiles;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;

use profiles::Profile;
use serde_json::{Value, json};
use tern_testkit::{Ternd, TerndOptions};

/// The next thing that a program of the operator's is told.
fn told(listener: &TcpListener) -> Value {
    let (socket, _) = listener.accept().expect("a connection");
    let mut request = BufReader::new(socket);
    let (mut line, mut length) = (String::new(), 0);
    while request.read_line(&mut line).expect("a line") > 2 {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        line.clear();
    }
    let mut body = vec![0; length];
    request.read_exact(&mut body).expect("a body");
    let answer = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
    request.get_mut().write_all(answer).expect("answered");
    serde_json::from_slice(&body).expect("JSON")
}

#[test]
fn a_terminal_says_where_it_is_told_and_is_until_it_says_otherwise() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let key = dir.path().join("key");
    std::fs::write(&key, "0123456789abcdef\n").expect("written");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let key = key.to_str().expect("UTF-8");
    let arguments = ["--push-webhook-url", &url, "--push-webhook-key-file", key].map(str::to_owned).into();
    let server = Ternd::start_with(TerndOptions { cores: 2, arguments, ..TerndOptions::default() });
    let ann = Profile::register(&server, dir.path(), "+15550001", "Ann");
    let bob = Profile::register(&server, dir.path(), "+15550002", "Bob");
    ann.json(&["send", "+15550002", "hello Bob", "--json"]);
    let nowhere = ann.json(&["push", "--json"]).remove(0);
    assert_eq!((&nowhere["service"], &nowhere["services"]), (&Value::Null, &json!(["webhook"])));

    let set =
        ["push", "webhook", "anns-terminal", "--previews", "--quiet", "02:00-02:01", "--zone", "Etc/UTC"];
    let set = ann.json(&[&set[..], &["--json"]].concat()).remove(0);
    assert_eq!((&set["service"], &set["previews"]), (&json!("webhook"), &json!(true)));
    assert_eq!(set["quiet"], json!({ "from_min": 120, "to_min": 121, "time_zone": "Etc/UTC" }));
    let shown = String::from_utf8(ann.run(&["push"]).stdout).expect("text");
    assert!(shown.contains("by webhook, with what is said") && shown.contains("02:00 to 02:01"), "{shown}");

    bob.json(&["send", "+15550001", "hello Ann", "--json"]);
    let told = told(&listener);
    assert_eq!(
        (&told["to"], &told["kind"], &told["badge"]),
        (&json!("anns-terminal"), &json!("message"), &json!(1))
    );

    assert!(ann.refusal(&["push", "fcm", "token"]).contains("tells no device by that service"));
    assert!(ann.refusal(&["push", "webhook"]).contains("webhook takes address"));
    let nonsense = ["push", "webhook", "x", "--quiet", "22:00-07:00", "--zone", "Mars/Olympus"];
    assert!(ann.refusal(&nonsense).contains("there is no such time zone"));
    assert_eq!(ann.json(&["push", "off", "--json"]).remove(0)["service"], Value::Null);
}
