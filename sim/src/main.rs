//! `tern-sim`: worlds by their seeds, until one does not hold.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use tern_sim::trouble::{Trouble, Without};
use tern_sim::{Options, Outcome, Sums, run, shrink};

/// Runs whole nodes and their clients in one thread, each world from a seed, with everything that goes wrong. TLS, the rings between
/// threads and the trees behind the store's tables are not in it.
#[derive(Parser, Debug)]
#[command(name = "tern-sim")]
struct Args {
    /// How many worlds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The seed of the first one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Devices in each.
    #[arg(long, default_value_t = 20)]
    devices: usize,
    /// Devices of each person; 0: of four people, one has two.
    #[arg(long, default_value_t = 0)]
    devices_each: usize,
    /// Groups that are made first.
    #[arg(long, default_value_t = 0)]
    groups: u64,
    /// Seconds of simulated time in which people talk and things go wrong.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Nothing goes wrong.
    #[arg(long)]
    fair: bool,
    /// Store in FoundationDB, with what it may do, in place of the embedded engine on a disk.
    #[arg(long)]
    fdb: bool,
    /// Leave out these faults: names with commas between.
    #[arg(long, value_delimiter = ',', value_parser = of_name)]
    without: Vec<Trouble>,
    /// Print what happens.
    #[arg(long)]
    trace: bool,
    /// Do not look for a shorter world that fails too.
    #[arg(long)]
    no_shrink: bool,
}

fn of_name(name: &str) -> Result<Trouble, String> {
    let names = Trouble::ALL.map(Trouble::name).join(", ");
    Trouble::named(name).ok_or(format!("there is no such fault: {names}"))
}

/// The command that shows how a world fails.
fn command(seed: u64, options: Options) -> String {
    let Options { devices, devices_each, groups, talks, without, fdb, .. } = options;
    let fdb = if fdb { " --fdb" } else { "" };
    let without = without.names();
    let without = if without.is_empty() { String::new() } else { format!(" --without {without}") };
    let more = match (devices_each, groups) {
        (0, 0) => String::new(),
        _ => format!(" --devices-each {devices_each} --groups {groups}"),
    };
    format!(
        "tern-sim --seed {seed} --seeds 1 --devices {devices}{more}{fdb} --seconds {}{without} --trace",
        talks.as_secs()
    )
}

/// A line for people, who may have closed what shows it: `| head`.
fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

#[allow(clippy::print_stderr, reason = "it is a program for people")]
fn main() -> ExitCode {
    let args = Args::parse();
    let options = Options {
        devices: args.devices.max(2),
        devices_each: args.devices_each,
        groups: args.groups,
        talks: Duration::from_secs(args.seconds),
        troubles: !args.fair,
        fdb: args.fdb,
        without: args.without.iter().fold(Without::default(), |all, trouble| all.and(*trouble)),
        trace: args.trace,
        ..Options::default()
    };
    let begin = Instant::now();
    let mut all = Outcome::default();
    for seed in args.seed..args.seed + args.seeds {
        // A panic of the code is told by itself, after what it was about.
        let lived = std::panic::catch_unwind(|| run(seed, options));
        let what = match lived {
            Ok(Ok(outcome)) => {
                add(&mut all, &outcome);
                continue;
            }
            Ok(Err(failure)) => {
                failure.trace.iter().for_each(say);
                failure.what
            }
            Err(_) => "the code panicked".to_owned(),
        };
        eprintln!("seed {seed}: {what}");
        eprintln!("{} shows how", command(seed, options));
        if !args.no_shrink && !args.trace {
            std::panic::set_hook(Box::new(|_| {}));
            eprintln!("and shorter: {}", command(seed, shrink(seed, options)));
        }
        return ExitCode::FAILURE;
    }
    print(&args, options, &all, begin.elapsed());
    ExitCode::SUCCESS
}

fn add(all: &mut Outcome, outcome: &Outcome) {
    all.simulated += outcome.simulated;
    all.messages += outcome.messages;
    all.events += outcome.events;
    all.tally.add(&outcome.tally);
    all.sums.committed += outcome.sums.committed;
    all.sums.delivered += outcome.sums.delivered;
    all.sums.pending += outcome.sums.pending;
}

fn print(args: &Args, options: Options, all: &Outcome, took: Duration) {
    let times = all.simulated.as_secs_f64() / took.as_secs_f64();
    say(format_args!(
        "{} seeds of {} devices, each of which does something about every {:?}",
        args.seeds,
        options.devices,
        options.pace()
    ));
    say(format_args!(
        "{:.0} s of simulated time in {:.1} s: {times:.0} times as fast as real time",
        all.simulated.as_secs_f64(),
        took.as_secs_f64()
    ));
    say(format_args!("{} messages acknowledged, {} events", all.messages, all.events));
    let Sums { committed, delivered, pending } = all.sums;
    say(format_args!(
        "in the stores at the end: {committed} entries, {delivered} times delivered, {pending} pending"
    ));
    say(format_args!("\nwhat was done, and how often a fault fell while that was under way there:"));
    all.tally.table().iter().for_each(say);
}
