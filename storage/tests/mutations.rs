//! That the simulation finds what is wrong: each fault that can be put into the code is caught within so many seeds.

#![allow(clippy::print_stdout, reason = "it says which seed caught what")]

mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use tern_storage::mutations::{self, Mutation};
use world::World;

/// Within how many seeds each is caught.
const SEEDS: [(Mutation, u64); Mutation::ALL.len()] = [
    (Mutation::CompleteBeforeSync, 5),
    (Mutation::IgnoreFailedSync, 20),
    (Mutation::AcknowledgeBeforeSync, 20),
    (Mutation::ReadTooEarly, 20),
    (Mutation::ReleaseBeforeFlush, 5),
    (Mutation::ManifestBeforeTables, 20),
    (Mutation::UnsyncedManifest, 20),
    (Mutation::UnsyncedSegment, 20),
    (Mutation::AcceptTornTail, 20),
    (Mutation::TrustWhatIsRead, 20),
    (Mutation::ForgetFailure, 5),
];

/// What a seed finds, in its words.
fn finds(seed: u64) -> Option<String> {
    let run = || [false, true].iter().for_each(|trouble| World::new(seed).live(*trouble));
    let panic = catch_unwind(AssertUnwindSafe(run)).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    Some(text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
}

#[test]
fn each_fault_of_the_code_is_caught_within_its_seeds() {
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for (mutation, seeds) in SEEDS {
        mutations::put(Some(mutation));
        let caught = (0..1000).find_map(|seed| Some((seed, finds(seed)?)));
        mutations::put(None);
        match caught {
            Some((seed, what)) => {
                println!("{mutation:?}: seed {seed}: {what}");
                if seed >= seeds {
                    missed.push((mutation, seed));
                }
            }
            None => missed.push((mutation, u64::MAX)),
        }
    }
    drop(std::panic::take_hook());
    assert!(missed.is_empty(), "not caught within their seeds: {missed:?}");
    assert_eq!((0..20).find_map(finds), None, "without a fault nothing is found");
}
