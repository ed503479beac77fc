//! What operators' machines read: the metrics by Prometheus' own tools, and the rules and the dashboard that come with
//! tern. Where promtool or prometheus is not on PATH, its tests say so; with TERN_REQUIRE_PROMETHEUS set they fail.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tern_proto::v1::{self, client_frame::Request, server_frame::Message};
use tern_testkit::{HeldPort, Raw, Ternd};

/// How long Prometheus may take to have something.
const HANG: Duration = Duration::from_secs(90);

/// Finds a program of Prometheus; `None`, and a word on it, where it is not there.
#[allow(clippy::print_stdout, reason = "whoever runs the tests learns what was left out")]
fn find(name: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).map(|dir| dir.join(name)).find(|path| path.is_file());
    if found.is_none() {
        assert!(std::env::var_os("TERN_REQUIRE_PROMETHEUS").is_none(), "{name} is not on PATH");
        println!("SKIPPED: {name} is not on PATH");
    }
    found
}

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file)
}

/// A server with some traffic: messages, refusals, an end with a reason.
fn used() -> Ternd {
    let server = Ternd::start(2);
    let users = server.provision(2);
    let mut raw = Raw::logged_in(&server, &users[0].token);
    for client_id in 1..=50 {
        let body = b"hello".to_vec().into();
        let send = v1::Send {
            chat: users[1].id,
            client_id,
            body,
            kind: v1::Kind::Text.into(),
            ..Default::default()
        };
        assert!(matches!(raw.ask(Request::Send(send)), Some(Message::Sent(_))));
    }
    let unknown = v1::Lookup { by: Some(v1::lookup::By::Phone("nonsense".to_owned())), group: 0 };
    assert!(matches!(raw.ask(Request::Lookup(unknown)), Some(Message::Refused(_))));
    raw.send_bytes(&[0xff; 64]);
    assert!(raw.farewell().is_some());
    server
}

fn metrics_of(server: &Ternd, accept: &str) -> (String, String) {
    let line = server.said("metrics on http://");
    let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
    let mut socket = TcpStream::connect(address).expect("connected");
    write!(socket, "GET /metrics?all=1 HTTP/1.1\r\naccept: {accept}\r\n\r\n").expect("asked");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP response");
    (head.to_owned(), body.to_owned())
}

#[test]
fn both_forms_say_the_same_and_promtool_has_nothing_to_say() {
    let server = used();
    let (head, classic) = metrics_of(&server, "text/plain");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let (head, open_metrics) = metrics_of(&server, "application/openmetrics-text;version=1.0.0,*/*;q=0.1");
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(open_metrics.ends_with("# EOF\n"));
    let names = |text: &str| -> BTreeSet<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.rsplit_once(' ').expect("a value").0.to_owned()).collect()
    };
    assert_eq!(names(&classic), names(&open_metrics));
    for expected in [
        "tern_messages_acknowledged_total",
        "tern_refusals_total{reason=\"invalid_phone\"} 1",
        "tern_go_aways_total{reason=\"",
        "tern_build_info{version=\"",
        "process_resident_memory_bytes",
        "tern_store_commit_seconds_bucket{le=\"+Inf\"}",
    ] {
        assert!(classic.contains(expected), "{expected} is not in\n{classic}");
    }
    let Some(promtool) = find("promtool") else { return };
    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    check.stdin.take().expect("piped").write_all(classic.as_bytes()).expect("written");
    let output = check.wait_with_output().expect("it ends");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn the_alert_rules_do_what_their_tests_say() {
    let Some(promtool) = find("promtool") else { return };
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]] {
        let output = Command::new(&promtool).args(arguments).current_dir(deploy("prometheus")).output();
        let output = output.expect("promtool runs");
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
}

/// Names of metrics in a text. (`tern_server` is a crate, whose name stands in filters of the log.)
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let is_metric =
        |word: &&str| (word.starts_with("tern_") || word.starts_with("process_")) && *word != "tern_server";
    words.filter(is_metric).map(str::to_owned).collect()
}

#[test]
fn what_dashboards_rules_and_pages_name_is_there() {
    let server = used();
    let exposed: BTreeSet<String> = metrics_of(&server, "").1.lines().flat_map(named).collect();
    let dashboard = fs::read_to_string(deploy("grafana/tern.json")).expect("a dashboard");
    let parsed: Value = serde_json::from_str(&dashboard).expect("JSON");
    let expressions = parsed["panels"].as_array().expect("panels").iter().flat_map(|panel| {
        panel["targets"].as_array().into_iter().flatten().filter_map(|target| target["expr"].as_str())
    });
    let expressions: Vec<&str> = expressions.collect();
    assert!(expressions.len() > 30, "{}", expressions.len());
    let rules = fs::read_to_string(deploy("prometheus/alerts.yml")).expect("rules");
    for name in named(&(expressions.join(" ") + &rules)) {
        assert!(exposed.contains(&name), "{name} is not exposed");
    }
    // The FoundationDB engine's are not exposed here: they stand in its list.
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("../storage/src/fdb/statistics.rs");
    let list = fs::read_to_string(list).expect("the engine's statistics");
    let is_of_foundationdb = |name: &str| {
        let own = name.strip_prefix("tern_store_").map(|own| own.trim_end_matches("_total"));
        own.is_some_and(|own| own.starts_with("fdb_") && list.contains(&format!("\"{own}\"")))
    };
    for page in ["OPERATIONS.md", "STORAGE.md"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page));
        for name in named(&text.expect("a page")) {
            // `tern_store_…` says that more follows.
            let known = exposed.contains(&name)
                || name.ends_with('_')
                || is_of_foundationdb(&name)
                || exposed.contains(&(name.clone() + "_bucket"));
            assert!(known, "{page} names {name}, which is not exposed");
        }
    }
}

/// Ended with the test.
struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn prometheus_scrapes_a_server_under_load_and_has_its_quantiles() {
    let Some(program) = find("prometheus") else { return };
    let server = Ternd::start(2);
    let users = server.provision(2);
    let line = server.said("metrics on http://");
    let target = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("prometheus.yml");
    let rules = deploy("prometheus/alerts.yml").canonicalize().expect("it is there");
    let text = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{}]\nscrape_configs:\n  - job_name: tern\n    \
         static_configs: [{{ targets: [\"{target}\"] }}]\n",
        rules.display()
    );
    fs::write(&config, text).expect("written");
    let held = HeldPort::new();
    let address = held.address();
    let _prometheus = Prometheus(
        Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus runs"),
    );
    let mut raw = Raw::logged_in(&server, &users[0].token);
    let (begin, mut client_id) = (Instant::now(), 0);
    let mut last = String::new();
    let quantile = loop {
        assert!(begin.elapsed() < HANG, "no quantile yet: {last}");
        for _ in 0..100 {
            client_id += 1;
            let body = b"hello".to_vec().into();
            let send = v1::Send {
                chat: users[1].id,
                client_id,
                body,
                kind: v1::Kind::Text.into(),
                ..Default::default()
            };
            assert!(matches!(raw.ask(Request::Send(send)), Some(Message::Sent(_))));
        }
        let query = "histogram_quantile(0.99,sum%20by%20(le)%20(rate(tern_commit_seconds_bucket[10s])))";
        last = ask(address, query);
        let answer: Value = serde_json::from_str(&last).unwrap_or_default();
        let value =
            answer["data"]["result"][0]["value"][1].as_str().and_then(|value| value.parse::<f64>().ok());
        if let Some(quantile) = value.filter(|quantile| quantile.is_finite()) {
            break quantile;
        }
    };
    assert!(quantile > 0.0 && quantile < 60.0, "{quantile}");
    let up: Value = serde_json::from_str(&ask(address, "up%7Bjob=%22tern%22%7D")).expect("JSON");
    assert_eq!(up["data"]["result"][0]["value"][1], "1", "{up}");
}

/// Asks Prometheus; empty while it is not there.
fn ask(address: SocketAddr, query: &str) -> String {
    let Ok(mut socket) = TcpStream::connect(address) else { return String::new() };
    let request = format!("GET /api/v1/query?query={query} HTTP/1.0\r\n\r\n");
    let mut answer = String::new();
    let _ = socket.write_all(request.as_bytes()).and_then(|()| socket.read_to_string(&mut answer));
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}
