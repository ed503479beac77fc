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
    let open =
        ["pairs", "--pairs", "8", "--rate", "400", "--seconds", "2", "--warmup", "1", "--threads", "2"];
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
