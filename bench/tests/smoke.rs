//! Each scenario for a moment, against the real ternd: what it reports is complete and correct. Nothing here is about speed.

use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tern_testkit::{Ternd, TerndOptions, program};

/// The last line of stdout, and what was said on stderr.
fn bench(arguments: &[&str]) -> Value {
    // Built with this test, and the server that it starts beside it.
    program("ternd");
    let output = Command::new(env!("CARGO_BIN_EXE_tern-bench")).args(arguments).arg("--json").output();
    let output = output.expect("tern-bench runs");
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}:\n{said}\n{complained}");
    serde_json::from_str(said.lines().last().expect("a line")).expect("one JSON object")
}

fn number(report: &Value, key: &str) -> f64 {
    report[key].as_f64().unwrap_or_else(|| panic!("{key} is not in {report}"))
}

fn percentiles(report: &Value, key: &str) {
    let values = ["p50", "p99", "p999", "max"].map(|name| number(&report[key], name));
    assert!(values.is_sorted() && values[0] > 0.0, "{key}: {values:?}");
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tern-bench")).args(arguments).output().expect("tern-bench runs")
}

/// A server that is not the bench's own, and a run that loads it until it is ended.
struct Elsewhere {
    server: Ternd,
    bench: Child,
    _users: tempfile::NamedTempFile,
}

impl Elsewhere {
    fn start() -> Self {
        let limits = ["--limit", "strangers_per_network_max=0"].map(str::to_owned);
        let server = Ternd::start_with(TerndOptions { arguments: limits.into(), ..TerndOptions::default() });
        let mut users = tempfile::NamedTempFile::new().expect("a file");
        for user in server.provision(8) {
            let line =
                serde_json::json!({ "user_id": user.id, "phone": user.phone, "access_token": user.token });
            writeln!(users, "{line}").expect("written");
        }
        let bench = Command::new(env!("CARGO_BIN_EXE_tern-bench"))
            .args(["pairs", "--pairs", "4", "--rate", "200", "--seconds", "600", "--warmup", "0", "--json"])
            .args(["--server", &server.address().to_string()])
            .arg("--ca")
            .arg(server.ca_file())
            .arg("--user-file")
            .arg(users.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tern-bench runs");
        while server.metric("tern_frames_in_total") < 300 {
            std::thread::yield_now();
        }
        Self { server, bench, _users: users }
    }
}

#[test]
fn all_members_of_a_group_get_what_is_said_until_they_are_removed() {
    let report = bench(&[
        "group",
        "--groups",
        "3",
        "--members",
        "8",
        "--talking",
        "70",
        "--rate",
        "40",
        "--seconds",
        "3",
    ]);
    nothing_is_wrong(&report);
    assert_eq!(report["leaked"], 0, "{report}");
    assert!(number(&report, "messages") > 20.0 && number(&report, "row_ops_per_message") > 1.0);
    assert_eq!((number(&report, "groups"), number(&report, "members")), (3.0, 8.0));
    ["ack_ms", "first_ms", "fanout_ms"].iter().for_each(|key| percentiles(&report, key));
    assert!(
        number(&report, "server_cpu_us_per_message") > 0.0 && report["server_bytes_per_member"].is_number()
    );
}

#[test]
fn who_looks_hears_who_types_comes_and_goes_and_nobody_else_does() {
    let scene = [
        "presence",
        "--cores",
        "2",
        "--connections",
        "60",
        "--people",
        "6",
        "--lookers",
        "20",
        "--goings",
        "3",
    ];
    let report = bench(&[&scene[..], &["--rate", "30", "--seconds", "1"]].concat());
    for key in ["errors", "missing", "leaked"] {
        assert_eq!(report[key], 0, "{key}: {report}");
    }
    assert_eq!((number(&report, "connections"), number(&report, "subscriptions")), (60.0, 120.0));
    ["typing_ms", "online_ms", "offline_ms", "ping_ms"].iter().for_each(|key| percentiles(&report, key));
    assert_eq!(report["online_ms"]["count"], 60, "three came, and twenty look at each: {report}");
    assert!(report["server_bytes_per_subscription"].is_number(), "{report}");
    let few = run(&["presence", "--connections", "10", "--people", "10"]);
    assert!(
        !few.status.success() && String::from_utf8_lossy(&few.stderr).contains("0 devices are left to look")
    );
}

#[test]
fn who_searches_finds_the_newest_and_nothing_else() {
    let report = bench(&["search", "--cores", "2", "--messages", "3000", "--chats", "7", "--searches", "48"]);
    for key in ["errors", "missing", "leaked"] {
        assert_eq!(report[key], 0, "{key}: {report}");
    }
    assert_eq!((number(&report, "messages"), number(&report, "searches")), (3000.0, 48.0));
    ["search_ms", "all_chats_ms", "one_chat_ms"].iter().for_each(|key| percentiles(&report, key));
    assert!(number(&report, "hits_per_search") > 5.0 && report["page_ms"]["count"] != 0, "{report}");
    let (index, rows) =
        (number(&report, "index_bytes_per_message"), number(&report, "row_bytes_per_message"));
    assert!(index > 0.0 && rows > 50.0, "{report}");
}

#[test]
fn slots_that_move_are_counted_and_nobody_loses_anything() {
    let report = bench(&[
        "rebalance",
        "--cores",
        "2",
        "--pairs",
        "4",
        "--rate",
        "200",
        "--seconds",
        "1",
        "--moves",
        "40",
        "--moves-rate",
        "100",
        "--skew-seconds",
        "1",
    ]);
    nothing_is_wrong(&report);
    assert_eq!(report["connections_dropped"], 0, "{report}");
    assert_eq!(number(&report, "moves"), 40.0);
    assert!(number(&report, "skewed_per_s") > 0.0 && number(&report, "balanced_per_s") > 0.0, "{report}");
    assert!(number(&report, "skew_before") > number(&report, "skew_planned"), "{report}");
    ["ack_ms_before", "ack_ms_during", "pause_ms"].iter().for_each(|key| percentiles(&report, key));
    // So many that a slow disk lets no sender have more under way than it may.
    let few = ["rebalance", "--cores", "2", "--pairs", "20", "--seconds", "1", "--moves", "5"];
    let found = bench(&[&few[..], &["--skew-seconds", "0"]].concat());
    assert!(number(&found, "rate_per_s") > 0.0 && found["errors"] == 0, "a third of what it can: {found}");
    let one = run(&["rebalance", "--cores", "1", "--pairs", "2", "--rate", "50", "--seconds", "1"]);
    assert!(!one.status.success(), "one core has nowhere to move anything");
    assert!(String::from_utf8_lossy(&one.stderr).contains("--cores 2"));
}

#[cfg(feature = "fdb")]
#[test]
fn the_foundationdb_engine_and_a_bare_client_commit_the_same_rows() {
    let Some(foundationdb) = tern_testkit::FoundationDb::start() else { return };
    let file = foundationdb.cluster_file().display().to_string();
    let report =
        bench(&["fdb", "--cluster-file", &file, "--seconds", "0.5", "--rounds", "2", "--window", "8"]);
    assert_eq!(
        (number(&report, "errors"), report["rounds"].as_array().map(Vec::len)),
        (0.0, Some(2)),
        "{report}"
    );
    let keys = ["engine_rows_per_s", "bare_rows_per_s", "ratio", "p99_ratio"];
    assert!(keys.iter().all(|key| number(&report, key) > 0.0), "{report}");
    ["engine_ack_ms", "bare_ack_ms"].iter().for_each(|key| percentiles(&report, key));
}

#[test]
#[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
fn others_fan_out_beside_a_group_where_they_are_there() {
    let group = ["group", "--members", "8", "--rate", "40", "--seconds", "2", "--beside"];
    for (rival, program) in [("nats", "nats-server"), ("mqtt", "mosquitto")] {
        let without = Command::new(env!("CARGO_BIN_EXE_tern-bench"))
            .args(group)
            .arg(rival)
            .env("PATH", "")
            .output()
            .expect("tern-bench runs");
        let said = String::from_utf8_lossy(&without.stderr);
        assert!(!without.status.success() && said.contains(&format!("{program} can't be started")), "{said}");
        let paths = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&paths).any(|dir| dir.join(program).is_file()) {
            eprintln!("skipped: there is no {program} on PATH");
            continue;
        }
        let report = bench(&[&group[..], &[rival]].concat());
        let beside = &report["beside"][0];
        for key in ["errors", "missing", "duplicates"] {
            assert_eq!(beside[key], 0, "{key}: {report}");
        }
        assert_eq!(beside["messages"], report["messages"], "the same schedule: {report}");
        ["first_ms", "fanout_ms"].iter().for_each(|key| percentiles(beside, key));
    }
}

#[test]
fn an_interrupted_run_tells_what_was_until_then() {
    let Elsewhere { server, bench, _users } = Elsewhere::start();
    kill_process(Pid::from_child(&bench), Signal::INT).expect("it runs");
    let output = bench.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("INTERRUPTED") && !said.contains("NOT CORRECT"), "{said}");
    let report: Value = serde_json::from_str(said.lines().last().expect("a line")).expect("JSON");
    assert_eq!((&report["interrupted"], &report["errors"]), (&true.into(), &0.into()));
    let seconds = number(&report, "seconds");
    assert!(seconds < 300.0, "{seconds}");
    let counted = number(&report["ack_ms"], "count");
    assert!((number(&report, "acked_per_s") * seconds - counted).abs() < 1.0, "the time that passed counts");
    drop(server);
}

#[test]
fn a_server_that_goes_in_the_middle_fails_the_run() {
    let Elsewhere { server, bench, _users } = Elsewhere::start();
    drop(server);
    let output = bench.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(complained.contains("the server has gone after"), "{complained}");
}

#[test]
fn what_can_not_be_measured_is_refused_before_anything_runs() {
    let wrong = [
        "pairs --rate 0",
        "pairs --pairs 0",
        "pairs --seconds 0",
        "pairs --size 100000",
        "pairs --size 3",
        "pairs --closed --rate 100",
        "pairs --seconds 1 --log /nowhere/x.hlog",
        "soak --minutes 0",
        "idle --connections 0",
        "mixed --seconds 1",
        "why-slow --server 127.0.0.1:1",
        "limits --seconds 0",
    ];
    for line in wrong {
        let output = run(&line.split(' ').collect::<Vec<_>>());
        let complained = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {complained}");
        assert!(complained.starts_with("error: "), "{line}: {complained}");
    }
    let output = run(&["pairs", "--limit", "foo=1"]);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && complained.contains("foo"), "{complained}");
    assert!(!complained.contains("panicked"), "{complained}");
}

#[test]
fn alone_in_a_folder_it_says_what_it_needs() {
    let folder = tempfile::tempdir().expect("a folder");
    let alone = folder.path().join("tern-bench");
    std::fs::copy(env!("CARGO_BIN_EXE_tern-bench"), &alone).expect("copied");
    let output = Command::new(alone).arg("pairs").env("PATH", "/nowhere").output().expect("it runs");
    let complained = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(complained.contains("there is no ternd beside this program nor on PATH"), "{complained}");
}

#[test]
fn limits_are_all_measured() {
    let report = bench(&["limits", "--seconds", "0.3"]);
    assert_eq!(report["scenario"], "limits");
    for key in ["handshakes_per_s_per_core", "tcp_echo_cpu_us", "tls_echo_cpu_us", "grouped_log_writes_per_s"]
    {
        assert!(number(&report, key) > 0.0, "{key}");
    }
    percentiles(&report, "fdatasync_ms");
    for low in report["low_rates"].as_array().expect("a list") {
        for key in ["messages_per_s", "tls_echo_cpu_us_per_message", "sync_cpu_us"] {
            assert!(low[key].as_f64().is_some_and(|value| value > 0.0), "{key}: {low}");
        }
    }
    percentiles(&report, "tls_echo_open_loop_ms");
}

#[test]
fn idle_connections_are_held_and_all_answer() {
    let report = bench(&["idle", "--connections", "600", "--settle", "1", "--quiet"]);
    assert_eq!(report["scenario"], "idle");
    assert_eq!(
        (&report["connections"], &report["pings_answered"], &report["errors"]),
        (&600.into(), &600.into(), &0.into())
    );
    assert!(number(&report, "connected_per_s") > 0.0);
    number(&report, "server_user_bytes_per_connection");
    number(&report, "server_kernel_bytes_per_connection");
}

#[test]
fn every_message_of_a_pair_is_checked_at_its_recipient() {
    let open = [
        "pairs",
        "--pairs",
        "8",
        "--rate",
        "400",
        "--seconds",
        "2",
        "--warmup",
        "1",
        "--threads",
        "2",
        "--silent",
        "40",
        "--quiet",
    ];
    let closed = ["pairs", "--pairs", "8", "--closed", "--window", "4", "--seconds", "2", "--warmup", "1"];
    for arguments in [&open[..], &closed[..]] {
        let report = bench(arguments);
        assert_eq!(
            (&report["scenario"], &report["seconds"], &report["seed"]),
            (&"pairs".into(), &2.0.into(), &1.into())
        );
        nothing_is_wrong(&report);
        assert!(number(&report, "acked_per_s") > 0.0);
        assert_eq!(report["acked_per_s"], report["delivered_per_s"]);
        percentiles(&report, "ack_ms");
        percentiles(&report, "delivery_ms");
        number(&report, "server_cpu_us_per_message");
    }
}

/// What must be 0 wherever messages are checked.
fn nothing_is_wrong(report: &Value) {
    for key in ["errors", "missing", "duplicates", "out_of_order"] {
        assert_eq!(report[key], 0, "{key} in {report}");
    }
}

#[test]
fn all_devices_come_back_from_a_storm_and_no_message_is_lost_in_it() {
    let report =
        bench(&["storm", "--devices", "150", "--pairs", "4", "--rate", "100", "--before", "2", "--quiet"]);
    assert_eq!((&report["scenario"], &report["devices"]), (&"storm".into(), &150.into()));
    nothing_is_wrong(&report);
    assert!(number(&report, "all_back_s") > 0.0);
    assert_eq!(report["resumed"], 150, "each has its ticket");
    percentiles(&report, "live_ack_ms_before");
    percentiles(&report, "live_ack_ms_during");
}

#[test]
fn devices_come_back_with_full_handshakes_if_they_are_to() {
    let few = ["storm", "--devices", "40", "--pairs", "2", "--rate", "50", "--before", "1", "--quiet"];
    let report = bench(&[&few[..], &["--full-handshakes"]].concat());
    nothing_is_wrong(&report);
    assert_eq!(report["resumed"], 0);
}

#[test]
fn devices_that_come_back_get_what_they_missed() {
    let report = bench(&["resume", "--devices", "40", "--missed", "30", "--rate", "100"]);
    nothing_is_wrong(&report);
    percentiles(&report, "nothing_new_ms");
    percentiles(&report, "caught_up_ms");
}

#[test]
fn people_come_in_beside_a_crowd_that_does_not() {
    let report = bench(&["strangers", "--connections", "60", "--rounds", "2"]);
    assert_eq!((&report["scenario"], &report["connections"]), (&"strangers".into(), &60.into()));
    assert_eq!(report["errors"], 0);
    percentiles(&report, "login_ms_before");
    percentiles(&report, "login_ms_during");
    number(&report, "server_user_bytes_per_connection");
    number(&report, "kernel_bytes_per_connection");
}

#[test]
fn media_come_and_go_beside_texts() {
    let media = ["media", "--uploads", "3", "--downloads", "2", "--megabytes", "1", "--slow", "5"];
    let rest = ["--texts", "100", "--seconds", "1"];
    let report = bench(&[media.as_slice(), &rest].concat());
    assert_eq!(report["errors"], 0);
    for way in ["up", "down"] {
        assert!(number(&report, &format!("{way}_mb_per_s")) > 0.0, "{report}");
    }
    number(&report, "server_cpu_ms_per_mb");
    number(&report, "text_ack_ms_before");
    number(&report, "text_ack_ms_during");
    number(&report, "bytes_per_slow_upload");
}

#[test]
fn each_device_that_is_asleep_is_told_once() {
    let report = bench(&["push", "--sleepers", "200", "--devices", "500", "--refuse-one-in", "50"]);
    assert_eq!((&report["duplicates"], &report["missing"]), (&0.into(), &0.into()), "{report}");
    assert!(number(&report, "pushed_per_s") > 0.0);
    let alone = &report["sender"];
    assert_eq!((&alone["duplicates"], &alone["missing"]), (&0.into(), &0.into()), "{report}");
    assert_eq!(alone["refused"], 10);
    assert!(number(alone, "pushed_per_s") > 0.0);
}

#[test]
fn a_day_with_reads_large_messages_and_a_peak_loses_nothing() {
    let report = bench(&["mixed", "--users", "60", "--speed", "300", "--seconds", "6"]);
    nothing_is_wrong(&report);
    let part = |name: &str, key: &str| number(&report[name], key);
    assert!(part("peak", "writes_per_s") > 4.0 * part("usual", "writes_per_s"), "{report}");
    assert!(part("usual", "reads_per_s") > 4.0 * part("usual", "writes_per_s"), "{report}");
    percentiles(&report["peak"], "ack_ms");
    percentiles(&report["usual"], "read_ms");
}

#[test]
fn devices_that_come_and_go_are_all_taken() {
    let report = bench(&["churn", "--rate", "40", "--stay", "1", "--seconds", "4"]);
    assert_eq!(report["errors"], 0, "{report}");
    assert!(number(&report, "came_per_s") > 10.0);
    percentiles(&report, "login_ms");
    percentiles(&report, "ping_ms");
}

#[test]
fn a_soak_watches_the_server_all_the_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("soak.hlog");
    let log = log.to_str().expect("text");
    let report =
        bench(&["soak", "--minutes", "0.1", "--users", "20", "--come", "5", "--quiet", "--log", log]);
    nothing_is_wrong(&report);
    assert!(number(&report, "acked") > 0.0 && number(&report, "came") > 0.0);
    assert!(report["samples"].as_array().is_some_and(|samples| samples.len() > 20), "{report}");
    let text = std::fs::read_to_string(log).expect("a log");
    assert!(text.contains("[Histogram log format version 1.3]") || text.contains("Tag=ack,"), "{text}");
}

#[test]
fn a_message_is_followed_through_all_its_stations() {
    let report = bench(&["why-slow", "--pairs", "4", "--rate", "200", "--seconds", "2", "--every", "5"]);
    assert!(number(&report, "sampled") > 20.0, "{report}");
    let steps = report["steps"].as_array().expect("steps");
    let slowest = report["slowest"].as_str().expect("a step");
    assert!(steps.len() == 8 && steps.iter().any(|step| step["step"] == slowest), "{report}");
    // The steps of a message are all of its time: so are their medians, nearly.
    let sum: f64 = steps.iter().map(|step| number(step, "p50")).sum();
    assert!(sum > 0.3 * number(&report["ack_ms"], "p50"), "{report}");
    let cpu = report["cpu"].as_array().expect("parts");
    assert!(
        cpu.iter()
            .any(|part| part["part"] == "core: received frames" && number(part, "us_per_message") > 0.0)
    );
}

#[test]
fn a_report_has_its_page_its_plots_and_its_raw_data() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().to_str().expect("text");
    let written = bench(&["report", "--quick", "--out", out, "--name", "smoke"]);
    let folder = std::path::PathBuf::from(written["folder"].as_str().expect("a folder"));
    let read = |name: &str| {
        std::fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let page = read("README.md");
    for svg in [
        "percentiles",
        "over-time",
        "throughput",
        "targets",
        "memory",
        "cpu",
        "storm",
        "achieved",
        "moves",
        "dealt-out",
    ] {
        assert!(page.contains(&format!("({svg}.svg)")), "{svg} is not in {page}");
        assert!(read(&format!("{svg}.svg")).starts_with("<svg"), "{svg}");
    }
    let found: Value = serde_json::from_str(&read("report.json")).expect("JSON");
    let commands: Vec<_> =
        found["runs"].as_array().expect("runs").iter().map(|run| &run["command"]).collect();
    assert!(
        commands.iter().all(|command| command.as_str().is_some_and(|text| text.starts_with("tern-bench ")))
    );
    read("pairs-half-0.hlog");
    assert!(page.starts_with("# Quick report") && !page.contains("not met"), "it judges nothing: {page}");
    assert!(page.contains("p99 ms at 500/s"), "the rate is what was asked for: {page}");
    let folder = folder.to_str().expect("text");
    let compared = run(&["compare", folder, folder]);
    let said = String::from_utf8_lossy(&compared.stdout);
    assert!(
        compared.status.code() == Some(3) && said.contains("a quick report's figures say nothing"),
        "{said}"
    );
}

#[test]
fn what_is_wrong_is_said_in_words() {
    let run = |arguments: &[&str]| {
        let output = run(arguments);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run(&["idle", "--server", "127.0.0.1:1"]);
    assert!(code == Some(2) && said.contains("--ca"), "{said}");
    let (code, said) =
        run(&["idle", "--server", "127.0.0.1:1", "--ca", "/nowhere.pem", "--user-file", "/nowhere.json"]);
    assert!(code == Some(1) && said.contains("/nowhere"), "{said}");
}
