//! `tern-bench`: load and measurements against the real `ternd`.
//!
//! A scenario of load starts a `ternd` of its own in a temporary directory, unless `--server` names one. With `--json` the
//! last line of stdout is one JSON object.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

mod arguments;
mod latency;
mod load;
mod measure;
mod plot;
mod report;
mod scenarios;
mod setup;
mod stop;
mod target;

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{CommandFactory as _, Parser, Subcommand};
#[cfg(feature = "fdb")]
use scenarios::fdb;
use scenarios::{
    churn, group, idle, limits, media, mixed, pairs, pieces, presence, push, rebalance, resume, search, soak,
    storm, strangers, why_slow,
};
use serde::Serialize;
use setup::Setup;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit codes beside 0. 2 is a wrong command line.
const NOT_CORRECT: u8 = 1;
const INTERRUPTED: u8 = 130;

/// Load and measurements against the real ternd.
#[derive(Parser)]
#[command(
    name = "tern-bench",
    args_override_self = true,
    version = tern_version::VERSION,
    after_help = "Exit codes: 0 done and correct, 1 not, 2 the command line is wrong, 130 stopped by the user; of compare: 0 \
                  nothing is worse, 1 something is, 3 the reports can't be compared."
)]
struct Arguments {
    /// Print one JSON object as the last line of stdout
    #[arg(long, global = true)]
    json: bool,
    /// Say nothing before the end
    #[arg(long, short, global = true)]
    quiet: bool,
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
    /// Groups of many in which some talk: how long until the last member has a message, and what it costs the server
    Group(group::GroupArgs),
    /// People who type, come and go, and those who look at them: how long until these are told, and what a subscription takes of memory
    Presence(presence::PresenceArgs),
    /// Uploads and downloads: how fast, what they cost, and what people who write to each other notice; nginx beside it where it is there
    Media(media::MediaArgs),
    /// Devices that are asleep are told, by a mock of APNs that refuses some at first: how many a second, and whether each is told once
    Push(push::PushArgs),
    /// Somebody searches among very many messages: how long until the newest hits are there, and what the index takes of the store
    Search(search::SearchArgs),
    /// A day of people: writes, ten times as many reads, large messages, a peak of ten times the usual
    Mixed(mixed::MixedArgs),
    /// Slots of people who write to each other move from core to core: what the others notice, and how long a slot does not answer
    Rebalance(rebalance::RebalanceArgs),
    /// The FoundationDB engine beside a bare client that commits the same rows, in alternating rounds
    #[cfg(feature = "fdb")]
    Fdb(fdb::FdbArgs),
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
    /// Print what a shell needs to complete this program's command lines
    Completions {
        /// For which shell
        shell: tern_version::Shell,
    },
    /// Write the man pages of this program into a folder
    #[command(hide = true)]
    ManPages {
        /// Where to
        folder: std::path::PathBuf,
    },
}

static QUIET: AtomicBool = AtomicBool::new(false);

/// Whether nothing is said before the end.
fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// A progress line, for people who wait.
fn progress(line: &str) {
    if !is_quiet() {
        let clear = if std::io::stderr().is_terminal() { load::CLEAR } else { "" };
        eprintln!("{clear}tern-bench: {line}");
    }
}

/// What a run found, with what it was made with.
#[derive(Serialize)]
struct Found<'a, T> {
    #[serde(flatten)]
    report: &'a T,
    /// The user has stopped it: figures are of the time until then.
    interrupted: bool,
    setup: Setup,
}

/// Prints what a run found.
fn print(json: bool, report: &impl Serialize, line: &str) -> Result<(), String> {
    let found = Found { report, interrupted: stop::asked(), setup: Setup::now() };
    let interrupted =
        if found.interrupted { "INTERRUPTED: figures are of the time until then\n" } else { "" };
    let text = format!("{}\n\n{interrupted}{line}\n", found.setup.lines());
    say(json, &found, &text)
}

/// Prints a text for people, and with `--json` an object behind it.
fn say(json: bool, object: &impl Serialize, text: &str) -> Result<(), String> {
    let mut text = text.to_owned();
    if json {
        text += &serde_json::to_string(object).map_err(|error| error.to_string())?;
        text.push('\n');
    }
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever has read enough closes the pipe.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        said => said.map_err(|error| format!("stdout: {error}")),
    }
}

/// Runs a scenario, and gives the program's exit code.
fn run(Arguments { json, scenario, .. }: Arguments) -> Result<u8, String> {
    // One expression for each kind of report: what runs it, and whether what it found is correct.
    macro_rules! found {
        ($module:ident, $arguments:expr, $correct:expr) => {{
            let report = $module::run(&$arguments)?;
            print(json, &report, &report.line())?;
            let correct: fn(&_) -> bool = $correct;
            Ok(if correct(&report) { 0 } else { NOT_CORRECT })
        }};
    }
    match scenario {
        Scenario::Limits(arguments) => found!(limits, arguments, |_: &limits::LimitsReport| true),
        Scenario::Idle(arguments) => found!(idle, arguments, idle::IdleReport::is_correct),
        Scenario::Pairs(arguments) => found!(pairs, arguments, pairs::PairsReport::is_correct),
        Scenario::Storm(arguments) => found!(storm, arguments, storm::StormReport::is_correct),
        Scenario::Strangers(arguments) => {
            found!(strangers, arguments, strangers::StrangersReport::is_correct)
        }
        Scenario::Resume(arguments) => found!(resume, arguments, resume::ResumeReport::is_correct),
        Scenario::Group(arguments) => found!(group, arguments, group::GroupReport::is_correct),
        Scenario::Presence(arguments) => {
            found!(presence, arguments, presence::PresenceReport::is_correct)
        }
        Scenario::Media(arguments) => found!(media, arguments, media::MediaReport::is_correct),
        Scenario::Push(arguments) => found!(push, arguments, push::PushReport::is_correct),
        Scenario::Search(arguments) => found!(search, arguments, search::SearchReport::is_correct),
        Scenario::Mixed(arguments) => found!(mixed, arguments, mixed::MixedReport::is_correct),
        Scenario::Rebalance(arguments) => {
            found!(rebalance, arguments, rebalance::RebalanceReport::is_correct)
        }
        #[cfg(feature = "fdb")]
        Scenario::Fdb(arguments) => found!(fdb, arguments, fdb::FdbReport::is_correct),
        Scenario::Churn(arguments) => found!(churn, arguments, churn::ChurnReport::is_correct),
        Scenario::Soak(arguments) => found!(soak, arguments, soak::SoakReport::is_correct),
        Scenario::WhySlow(arguments) => found!(why_slow, arguments, why_slow::WhySlowReport::is_correct),
        Scenario::Pieces(arguments) => found!(pieces, arguments, |_: &pieces::PiecesReport| true),
        Scenario::Report(arguments) => {
            let written = report::run(&arguments)?;
            say(json, &written, &format!("{}\n", written.line()))?;
            Ok(if written.errors == 0 { 0 } else { NOT_CORRECT })
        }
        Scenario::Compare(arguments) => {
            let compared = report::compare(&arguments)?;
            say(json, &compared, &format!("{}\n", compared.line()))?;
            Ok(compared.exit_code())
        }
        Scenario::Piece(arguments) => pieces::run_one(&arguments).map(|()| 0),
        Scenario::Completions { shell } => {
            tern_version::print_completions(Arguments::command(), shell);
            Ok(0)
        }
        Scenario::ManPages { folder } => {
            let written = tern_version::write_man_pages(Arguments::command(), &folder);
            written.map(|()| 0).map_err(|error| format!("{}: {error}", folder.display()))
        }
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
    let arguments = Arguments::parse();
    QUIET.store(arguments.quiet, Ordering::Relaxed);
    match run(arguments) {
        Ok(_) if stop::asked() => ExitCode::from(INTERRUPTED),
        Ok(code) => ExitCode::from(code),
        Err(why) => {
            eprintln!("tern-bench: {why}");
            ExitCode::from(NOT_CORRECT)
        }
    }
}
