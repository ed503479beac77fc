//! That the worlds find what is wrong: each fault that can be put into the brain, and those of the store that lie in their reach, is
//! caught within so many seeds.

#![allow(clippy::print_stdout, reason = "it says which seed caught what")]

use std::time::Duration;

use tern_shard::mutations::{self as of_brain, Mutation as OfBrain};
use tern_sim::{Options, finds, shrink};
use tern_storage::mutations::{self as of_store, Mutation as OfStore};

/// Within how many seeds each is caught.
const SEEDS_MAX: u64 = 150;

/// Those of moves alone are caught by shard/tests/moves.rs, which sees the order of what is pushed.
const BRAINS: [OfBrain; 4] =
    [OfBrain::ForgetRetries, OfBrain::ForgetMark, OfBrain::LoseAtMove, OfBrain::ForgetConnected];

const STORES: [OfStore; 3] =
    [OfStore::CompleteBeforeSync, OfStore::AcceptTornTail, OfStore::ReleaseBeforeFlush];

fn options() -> Options {
    Options { devices: 8, talks: Duration::from_secs(10), ..Options::default() }
}

fn first(name: &str, missed: &mut Vec<String>) {
    match (1..=SEEDS_MAX).find_map(|seed| Some((seed, finds(seed, options())?))) {
        Some((seed, what)) => println!("{name}: seed {seed}: {what}"),
        None => missed.push(name.to_owned()),
    }
}

#[test]
fn each_fault_of_the_code_is_caught_within_its_seeds() {
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for mutation in BRAINS {
        of_brain::put(Some(mutation));
        first(&format!("{mutation:?}"), &mut missed);
        of_brain::put(None);
    }
    for mutation in STORES {
        of_store::put(Some(mutation));
        first(&format!("{mutation:?}"), &mut missed);
        of_store::put(None);
    }
    drop(std::panic::take_hook());
    assert!(missed.is_empty(), "not caught within {SEEDS_MAX} seeds: {missed:?}");
    assert_eq!((1..20).find_map(|seed| finds(seed, options())), None, "without a fault nothing is found");
}

/// What fails is shortened to what fails too.
#[test]
fn a_world_that_fails_is_made_shorter() {
    std::panic::set_hook(Box::new(|_| {}));
    of_brain::put(Some(OfBrain::ForgetRetries));
    let shorter = shrink(1, options());
    let (found, before) = (finds(1, shorter), options());
    of_brain::put(None);
    drop(std::panic::take_hook());
    assert!(
        found.is_some() && shorter.devices <= before.devices && shorter.talks < before.talks,
        "{shorter:?}"
    );
    println!("{shorter:?}: {found:?}");
}
