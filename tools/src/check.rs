//! `ternctl check`: the one command that reads a store itself, offline.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use tern_storage::embedded::EmbeddedOptions;
use tern_storage::embedded::check::{self, Report};

/// Goes through a store, and writes what is whole to a new one if that is wanted.
pub fn run(dir: &Path, salvage: Option<&Path>, json: bool) -> ExitCode {
    let inside = dir.join("store");
    let store = if inside.is_dir() { &inside } else { dir };
    let checked = match salvage {
        Some(to) => check::salvage(store, to, EmbeddedOptions::default()),
        None => check::check(store),
    };
    match checked {
        Ok(report) => {
            if json {
                print_json(&report, salvage)
            } else {
                print(&report, store, salvage)
            }
            if report.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            crate::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn print(report: &Report, store: &Path, salvage: Option<&Path>) {
    for finding in &report.findings {
        say!("{finding}");
    }
    if report.more > 0 {
        say!("and {} more", report.more);
    }
    let rows: u64 = report.rows.values().sum();
    let table = |(table, rows): (&char, &u64)| format!("{table} {rows} of {} bytes", report.bytes[table]);
    let tables: Vec<_> = report.rows.iter().map(table).collect();
    say!(
        "{}: {rows} whole rows ({}), {} of {} files whole, {} groups in the log",
        store.display(),
        tables.join(", "),
        report.files_whole,
        report.files,
        report.groups
    );
    match (report.is_whole(), salvage) {
        (true, _) => say!("nothing is damaged or missing"),
        (false, Some(to)) => say!("what is whole is in {}", to.display()),
        (false, None) => say!("--salvage DIR writes what is whole to a new store"),
    }
}

fn print_json(report: &Report, salvage: Option<&Path>) {
    let by_table = |counts: &BTreeMap<char, u64>| -> serde_json::Map<_, _> {
        counts.iter().map(|(table, count)| (table.to_string(), json!(count))).collect()
    };
    let report = json!({
        "whole": report.is_whole(),
        "findings": report.findings,
        "more_findings": report.more,
        "rows": by_table(&report.rows),
        "bytes": by_table(&report.bytes),
        "files": report.files,
        "files_whole": report.files_whole,
        "log_groups": report.groups,
        "salvaged_to": salvage,
    });
    say!("{report}");
}
