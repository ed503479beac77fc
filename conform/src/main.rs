//! `tern-conform`: holds a client to the duties that docs/PROTOCOL.md, section 13, gives it. It is the server, and misbehaves on purpose;
//! the client is any program that can be told to send and says what it shows (docs/CONFORM.md).

#![cfg_attr(not(test), warn(clippy::too_many_lines))]
#![forbid(unsafe_code)]

mod cases;
mod client;
mod door;
mod run;
mod world;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use clap::Parser;
use serde_json::json;

use cases::{CASES, Case};
use client::{Client, Program};
use run::Run;
use world::{CODE, PHONE};

/// The duties, as docs/PROTOCOL.md, section 13, counts them.
const DUTIES: [&str; 14] = [
    "tern/1 over TLS 1.3, and the certificate checked",
    "the server's limits kept",
    "messages stored before they are sent, and sent until Sent under one number",
    "shown as sent only after Sent",
    "stored before acknowledged or credited",
    "each entry once, in order, gaps closed, the position as section 7 says",
    "watermarks cumulative, but for Rewound",
    "the nonce stored before Refresh, one refresh at a time",
    "full jitter, waits heeded, away after REPLACED",
    "pings in time, and a dead connection closed",
    "what is unknown ignored",
    "neither bodies nor phones nor codes nor tokens logged",
    "store and generations",
    "what is deleted for everyone erased, whatever the order",
];

/// Holds a client to its duties: a tern server that misbehaves on purpose.
#[derive(Parser)]
#[command(
    name = "tern-conform",
    version = tern_version::VERSION,
    after_help = "The client is a program that connects to the server which TERN_CONFORM_SERVER and TERN_CONFORM_CA name, keeps its state in \
    TERN_CONFORM_STATE, registers TERN_CONFORM_PHONE with TERN_CONFORM_CODE, does what lines of JSON on its standard input say, and says \
    what it shows on its standard output: docs/CONFORM.md.\n\
    Exit codes: 0 all duties that were tried are kept, 1 some are not, 2 the command line is wrong."
)]
struct Arguments {
    /// Only these cases
    #[arg(long = "case", short = 'c', value_name = "NAME")]
    only: Vec<String>,
    /// Say what the cases are, and end
    #[arg(long)]
    list: bool,
    /// Print JSON: an object a case, then one of all duties
    #[arg(long, short)]
    json: bool,
    /// Try so many cases at a time, each with a client of its own: mostly they wait
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=32))]
    jobs: u8,
    /// The client's command
    #[arg(trailing_var_arg = true, value_name = "COMMAND", required_unless_present = "list")]
    command: Vec<String>,
}

/// Prints a line. If nobody reads it any more the program ends, quietly.
fn say(line: &str) {
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(1);
    }
}

/// What a case has shown: of each duty that is broken, how.
fn try_case(program: &Program, case: &Case) -> Vec<(u8, String)> {
    let mut run = match Run::new(program) {
        Ok(run) => run,
        Err(why) => return vec![(case.duties[0], why)],
    };
    let done = (case.run)(&mut run);
    let mut broken = std::mem::take(&mut run.world.broken);
    if let Err(why) = done {
        broken.push((case.duties[0], why));
    }
    let said = run.client.as_ref().map(Client::complaints).unwrap_or_default() + &run.complaints;
    let bodies = run.world.log.iter().map(|stored| String::from_utf8_lossy(&stored.body).into_owned());
    let secrets = [PHONE, CODE, "access-token-", "refresh-token-"].map(str::to_owned);
    // A short body may stand in any text.
    let told =
        bodies.filter(|body| body.len() > 8).chain(secrets).find(|secret| said.contains(secret.as_str()));
    if told.is_some() {
        broken.push((12, "its standard error has a body, a phone, a code or a token".to_owned()));
    }
    broken.dedup();
    broken
}

/// Tries cases, so many at a time, and tells of each in their order, as soon as those before it have been told.
fn try_cases(
    program: &Program,
    cases: &[&'static Case],
    jobs: u8,
    mut tell: impl FnMut(&'static Case, Vec<(u8, String)>),
) {
    let next = AtomicUsize::new(0);
    let (tried, results) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs {
            let (next, tried) = (&next, tried.clone());
            scope.spawn(move || {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let _ = tried.send((case.name, try_case(program, case)));
                }
            });
        }
        drop(tried);
        let mut waiting = BTreeMap::new();
        for case in cases.iter().copied() {
            let broken = loop {
                if let Some(broken) = waiting.remove(case.name) {
                    break broken;
                }
                waiting.extend([results.recv().expect("each case that is left is tried by somebody")]);
            };
            tell(case, broken);
        }
    });
}

fn main() -> ExitCode {
    let Arguments { only, list, json, jobs, command } = Arguments::parse();
    if let Some(unknown) = only.iter().find(|name| !CASES.iter().any(|case| case.name == name.as_str())) {
        let _ = writeln!(
            std::io::stderr(),
            "tern-conform: there is no case {unknown}: --list says what there is"
        );
        return ExitCode::from(2);
    }
    let chosen = || CASES.iter().filter(|case| only.is_empty() || only.iter().any(|name| name == case.name));
    if list {
        for case in chosen() {
            let duties: Vec<_> = case.duties.iter().map(u8::to_string).collect();
            say(&format!("{:<14}duties {:<9}the server {}", case.name, duties.join(", "), case.what));
        }
        return ExitCode::SUCCESS;
    }
    let program = Program { command };
    // Of each duty: whether it was tried, and what broke it in which case.
    let mut duties: BTreeMap<u8, Vec<(&str, String)>> = BTreeMap::new();
    try_cases(&program, &chosen().collect::<Vec<_>>(), jobs, |case, broken| {
        // In every case it is looked at what the client logs.
        for duty in case.duties.iter().chain([&12]) {
            duties.entry(*duty).or_default();
        }
        let why: Vec<_> = broken.iter().map(|(duty, why)| json!({ "duty": duty, "why": why })).collect();
        match (json, broken.is_empty()) {
            (true, _) => {
                say(&json!({ "case": case.name, "kept": broken.is_empty(), "broken": why }).to_string())
            }
            (false, true) => say(&format!("kept    {:<14}the server {}", case.name, case.what)),
            (false, false) => {
                say(&format!("BROKEN  {:<14}the server {}", case.name, case.what));
                broken.iter().for_each(|(duty, why)| say(&format!("        duty {duty}: {why}")));
            }
        }
        for (duty, why) in broken {
            duties.entry(duty).or_default().push((case.name, why));
        }
    });
    tell_duties(&duties, json);
    if duties.values().all(Vec::is_empty) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What became of each duty.
fn tell_duties(duties: &BTreeMap<u8, Vec<(&str, String)>>, json: bool) {
    if json {
        let duty = |(duty, broken): (&u8, &Vec<(&str, String)>)| {
            let cases: Vec<_> = broken.iter().map(|(case, _)| *case).collect();
            json!({ "duty": duty, "what": DUTIES[usize::from(*duty) - 1], "kept": broken.is_empty(), "broken_in": cases })
        };
        say(&json!({ "duties": duties.iter().map(duty).collect::<Vec<_>>() }).to_string());
    } else {
        say("");
        for (number, what) in (1..).zip(DUTIES) {
            let state = match duties.get(&number) {
                None => "not tried".to_owned(),
                Some(broken) if broken.is_empty() => "kept".to_owned(),
                Some(broken) => {
                    let mut cases: Vec<_> = broken.iter().map(|(case, _)| *case).collect();
                    cases.dedup();
                    format!("BROKEN in {}", cases.join(", "))
                }
            };
            say(&format!("{number:>2}  {what}: {state}"));
        }
    }
}
