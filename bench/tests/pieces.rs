//! `tern-bench pieces`: every piece is measured, and instructions are counted so that two runs can be compared. Nothing
//! here is about speed.

use std::process::{Command, Output};

use serde_json::Value;

fn pieces(arguments: &[&str]) -> Output {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_tern-bench"));
    bench.args(["pieces", "--json", "--rounds", "3"]).args(arguments).output().expect("tern-bench runs")
}

fn report(arguments: &[&str]) -> Value {
    let output = pieces(arguments);
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}:\n{said}\n{complained}");
    serde_json::from_str(said.lines().last().expect("a line")).expect("one JSON object")
}

#[test]
fn no_piece_goes_unmeasured() {
    let report = report(&[]);
    assert_eq!(report["scenario"], "pieces");
    let pieces = report["pieces"].as_object().expect("an object");
    let mut expected: Vec<_> = tern_bench::pieces::ALL.iter().map(|kind| kind.name).collect();
    expected.sort_unstable();
    assert_eq!(pieces.keys().collect::<Vec<_>>(), expected);
    for (name, figures) in pieces {
        assert!(figures["ns"].as_f64().is_some_and(|ns| ns > 0.0), "{name}: {figures}");
        assert!(figures["instructions"].is_null(), "{name} was counted without being asked for");
    }
}

#[test]
#[allow(clippy::print_stdout, reason = "whoever reads the test's output learns that nothing was compared")]
fn the_same_code_takes_the_same_instructions() {
    if !valgrind_is_there() {
        println!("skipped: valgrind is not installed");
        return;
    }
    let count = || {
        let report = report(&["--instructions", "frame_parse"]);
        assert_eq!(report["pieces"].as_object().map(|pieces| pieces.len()), Some(1), "{report}");
        report["pieces"]["frame_parse"]["instructions"].as_f64().expect("a count")
    };
    let (one, other) = (count(), count());
    assert!(one > 100.0 && (one - other).abs() < 0.02 * one, "{one} and {other} instructions");
}

#[test]
fn what_is_missing_or_unknown_is_said_in_words() {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_tern-bench"));
    bench.args(["pieces", "--instructions", "frame_parse"]).env("PATH", "/nowhere");
    let output = bench.output().expect("tern-bench runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("valgrind is not installed"), "{said}");

    let output = pieces(&["frame_purse"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("frame_parse"), "{said}");
}

fn valgrind_is_there() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success())
}
