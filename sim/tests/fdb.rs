//! Whole worlds over a simulated FoundationDB, with all that it may do: what was acknowledged is there once, and everybody catches up.
//!
//! `TERN_SEED=N` runs one, with what happened in it if it fails; `TERN_SEEDS=N` so many.

#![allow(clippy::print_stdout, reason = "a failed world is replayed with the seed that it printed")]

use std::time::Duration;

use tern_sim::{Options, run};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

fn options(trace: bool) -> Options {
    Options { devices: 8, talks: Duration::from_secs(10), fdb: true, trace, ..Options::default() }
}

#[test]
fn whatever_foundationdb_does_what_was_acknowledged_is_there_once_and_everybody_catches_up() {
    let one = number("TERN_SEED");
    let seeds = number("TERN_SEEDS").unwrap_or(200);
    let (mut messages, mut unknown) = (0, 0);
    for seed in one.map_or(1..seeds + 1, |seed| seed..seed + 1) {
        match run(seed, options(one.is_some())) {
            Ok(outcome) => {
                messages += outcome.messages;
                unknown += ["fdb-late", "fdb-unknown-in", "fdb-unknown-out", "fdb-recovery"]
                    .map(|fault| outcome.tally.times(fault))
                    .iter()
                    .sum::<u64>();
            }
            Err(failure) => {
                failure.trace.iter().for_each(|line| println!("{line}"));
                panic!("seed {seed}: {failure}; TERN_SEED={seed} repeats it");
            }
        }
    }
    println!("{messages} messages, {unknown} times nobody knew");
    assert!(one.is_some() || messages > seeds * 20 && unknown > seeds / 2, "{messages}, {unknown}");
}

/// What only shows where reads fail for a while.
#[cfg(feature = "mutations")]
#[test]
fn each_fault_of_the_brain_is_found_by_its_seeds() {
    for found in tern_shard::mutations::hunt("sim/tests/fdb.rs", |seed| tern_sim::finds(seed, options(false)))
    {
        println!("{found}");
    }
}
