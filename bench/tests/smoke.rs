//! Each scenario for a moment, against the real ternd: what it reports is complete and correct. Nothing here is about speed.

use std::process::Command;

use serde_json::Value;
use tern_testkit::program;

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

#[test]
fn limits_are_all_measured() {
    let report = bench(&["limits", "--seconds", "0.3"]);
    assert_eq!(report["scenario"], "limits");
    for key in ["handshakes_per_s_per_core", "tcp_echo_cpu_us", "tls_echo_cpu_us", "grouped_log_writes_per_s"]
    {
        assert!(number(&report, key) > 0.0, "{key}");
    }
    percentiles(&report, "fdatasync_ms");
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
            (&"pairs".into(), &2.into(), &1.into())
        );
        for key in ["errors", "missing", "duplicates", "out_of_order"] {
            assert_eq!(report[key], 0, "{key}");
        }
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
    percentiles(&report, "live_ack_ms_before");
    percentiles(&report, "live_ack_ms_during");
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
    for svg in ["percentiles", "over-time", "throughput", "targets", "memory", "cpu", "storm"] {
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
    let folder = folder.to_str().expect("text");
    let compared = bench(&["compare", folder, folder]);
    let figures = compared["figures"].as_array().expect("figures");
    assert!(figures.len() > 10, "{compared}");
    assert!(figures.iter().all(|figure| figure["verdict"] == "within the noise"), "{compared}");
}

#[test]
fn what_is_wrong_is_said_in_words() {
    let run = |arguments: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_tern-bench")).args(arguments).output().expect("tern-bench runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run(&["pairs", "--size", "3"]);
    assert!(code == Some(1) && said.contains("--size is at least"), "{said}");
    let (code, said) = run(&["idle", "--server", "127.0.0.1:1"]);
    assert!(code == Some(2) && said.contains("--ca"), "{said}");
    let (code, said) =
        run(&["idle", "--server", "127.0.0.1:1", "--ca", "/nowhere.pem", "--user-file", "/nowhere.json"]);
    assert!(code == Some(1) && said.contains("/nowhere"), "{said}");
}
