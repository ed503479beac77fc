//! Whole worlds, each from a seed: everything goes wrong, and all that was promised holds.
//!
//! `TERN_SEED=N` runs one, with what happened in it if it fails; `TERN_SEEDS=N` so many.

#![allow(clippy::print_stdout, reason = "a failed world is replayed with the seed that it printed")]

use std::time::Duration;

use tern_sim::{Options, run};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// Every twentieth world is a large one.
fn options(seed: u64, trace: bool) -> Options {
    let devices = if seed.is_multiple_of(20) { 100 } else { 8 };
    Options { devices, talks: Duration::from_secs(10), trace, ..Options::default() }
}

#[test]
fn whatever_goes_wrong_what_was_acknowledged_is_there_once_and_everybody_catches_up() {
    let one = number("TERN_SEED");
    let seeds = number("TERN_SEEDS").unwrap_or(200);
    let (mut messages, mut crashes, mut ends) = (0, 0, 0);
    for seed in one.map_or(1..seeds + 1, |seed| seed..seed + 1) {
        match run(seed, options(seed, one.is_some())) {
            Ok(outcome) => {
                messages += outcome.messages;
                ends += outcome.ends;
                crashes += outcome.tally.times("kill") + outcome.tally.times("power-cut");
            }
            Err(failure) => {
                failure.trace.iter().for_each(|line| println!("{line}"));
                panic!("seed {seed}: {failure}; TERN_SEED={seed} repeats it");
            }
        }
    }
    println!("{messages} messages, {crashes} crashes, {ends} accounts about to end");
    let enough = messages > seeds * 50 && crashes > seeds / 2 && ends > seeds / 10;
    assert!(one.is_some() || enough, "{messages}, {crashes}, {ends}");
}

/// The same seed is the same world.
#[test]
fn a_world_is_the_same_each_time() {
    let [one, other] = [(); 2].map(|()| run(7, options(7, false)).expect("it holds"));
    assert_eq!((one.events, one.messages, one.simulated), (other.events, other.messages, other.simulated));
    assert_eq!((one.tally, one.sums), (other.tally, other.sums));
}
