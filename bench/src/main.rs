//! `tern-bench`: load and measurements against the real `ternd`.
//!
//! A scenario of load starts a `ternd` of its own in a temporary directory, unless `--server` names one. With `--json` the
//! last line of stdout is one JSON object. Exit codes: 0 done and correct, 1 not, 2 the command line is wrong.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

mod latency;
mod load;
mod measure;
mod plot;
mod report;
mod scenarios;
mod stop;
mod target;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use scenarios::{churn, idle, limits, mixed, pairs, pieces, resume, soak, storm, strangers, why_slow};
use serde::Serialize;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Load and measurements against the real ternd.
#[derive(Parser)]
#[command(name = "tern-bench", version)]
struct Arguments {
    /// Print one JSON object as the last line of stdout
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// What this machine can do at all: handshakes, records, bare echoes, the disk
    Limits(limits::LimitsArgs),
    /// Connections that are logged in and silent: what they take of memory, and whether they live
    Idle(idle::IdleArgs),
    /// People who write to each other, at a rate or with a window; every message is checked at its recipient
    Pairs(pairs::PairsArgs),
    /// Many devices lose their connections and come back at once, while others write to each other
    Storm(storm::StormArgs),
    /// A crowd that does not log in asks for all it can: what it takes of memory, and how long a login takes beside it
    Strangers(strangers::StrangersArgs),
    /// Devices that come back: with nothing new, and with messages that they have missed
    Resume(resume::ResumeArgs),
    /// A day of people: writes, ten times as many reads, large messages, a peak of ten times the usual
    Mixed(mixed::MixedArgs),
    /// Devices that come and go without end
    Churn(churn::ChurnArgs),
    /// A long time of everything: nothing may be lost, grow or become slower
    Soak(soak::SoakArgs),
    /// Run everything, and write a dated folder with a page, plots and raw data
    Report(report::ReportArgs),
    /// Two reports side by side, with their spread
    Compare(report::CompareArgs),
    /// Follow sampled messages from station to station: where the slow ones lose their time, and where CPU time goes
    WhySlow(why_slow::WhySlowArgs),
    /// The server's hot pieces, each by itself: nanoseconds, and instructions
    Pieces(pieces::PiecesArgs),
    #[command(hide = true)]
    Piece(pieces::PieceArgs),
}

/// A progress line, for people who wait.
fn progress(line: &str) {
    eprintln!("tern-bench: {line}");
}

fn print(json: bool, report: &impl Serialize, line: &str) -> Result<(), String> {
    let mut text = format!("{line}\n");
    if json {
        text += &serde_json::to_string(report).map_err(|error| error.to_string())?;
        text.push('\n');
    }
    // Whoever has read enough closes the pipe.
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| format!("stdout: {error}"))
}

fn run(Arguments { json, scenario }: Arguments) -> Result<bool, String> {
    match scenario {
        Scenario::Limits(arguments) => {
            let report = limits::run(&arguments)?;
            print(json, &report, &report.line())?;
            Ok(true)
        }
        Scenario::Idle(arguments) => {
            let report = idle::run(&arguments)?;
            print(json, &report, &report.line())?;
            Ok(report.errors == 0 && report.pings_answered == report.connections)
        }
        Scenario::Pairs(arguments) => {
            let report = pairs::run(&arguments)?;
            print(json, &report, &report.line())?;
            Ok(report.is_correct())
        }
        Scenario::Storm(arguments) => {
            let report = storm::run(&arguments)?;
            print(json, &report, &report.line())?;
            Ok(report.is_correct())
        }
        Scenario::Strangers(arguments) => {
            let report = strangers::run(&arguments)?;
            print(json, &report, &report.line())?;
            Ok(report.is_correct())
        }
        Scenario::Resume(arguments) => {
            let report = resume::run(&arguments)?;
            print(json, &report, &report.line())?;
            Ok(report.is_correct())
        }
        Scenario::Mixed(arguments) => {
            let report = mixed::run(&arguments)?;
            print(json, &report, &report.line())?;
            Ok(report.is_correct())
        }
        Scenario::Churn(arguments) => {
            let report = churn::run(&arguments)?;
            print(json, &report, &report.line())?;
            Ok(report.is_correct())
        }
        Scenario::Soak(arguments) => {
            let report = soak::run(&arguments)?;
            print(json, &report, &report.line())?;
            Ok(report.is_correct())
        }
        Scenario::Report(arguments) => {
            let written = report::run(&arguments)?;
            print(json, &written, &written.line())?;
            Ok(written.errors == 0)
        }
        Scenario::Compare(arguments) => {
            let compared = report::compare(&arguments)?;
            print(json, &compared, &compared.line())?;
            Ok(true)
        }
        Scenario::WhySlow(arguments) => {
            let report = why_slow::run(&arguments)?;
            print(json, &report, &report.line())?;
            Ok(report.is_correct())
        }
        Scenario::Pieces(arguments) => {
            let report = pieces::run(&arguments)?;
            print(json, &report, &report.line())?;
            Ok(true)
        }
        Scenario::Piece(arguments) => pieces::run_one(&arguments).map(|()| true),
    }
}

fn main() -> ExitCode {
    // The generator's connections are direct descriptors, and a ring may have as many as a process may open files.
    if let Err(error) = tern_uring::raise_open_files() {
        progress(&format!("the limit of open files can't be raised: {error}"));
    }
    if let Err(error) = tern_uring::use_small_pages() {
        progress(&format!("memory may come in huge pages: {error}"));
    }
    if let Err(error) = stop::listen() {
        progress(&format!("signals are not listened to: {error}"));
    }
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("tern-bench: {why}");
            ExitCode::FAILURE
        }
    }
}
