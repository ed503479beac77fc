//! That the worlds find what is wrong: each fault that can be put into the brain, and those of the store that lie in their reach, is
//! caught within so many seeds.

#![allow(clippy::print_stdout, reason = "it says which seed caught what")]

use std::time::Duration;

use tern_shard::mutations::{self as of_brain, Mutation as OfBrain};
use tern_sim::{Options, finds, shrink};
use tern_storage::mutations::{self as of_store, quietly};

const HERE: &str = "sim/tests/mutations.rs";

fn options() -> Options {
    Options { devices: 8, talks: Duration::from_secs(10), ..Options::default() }
}

#[test]
fn each_fault_of_the_brain_is_found_by_its_seeds() {
    for found in of_brain::hunt(HERE, |seed| finds(seed, options())) {
        println!("{found}");
    }
}

#[test]
fn each_fault_of_the_store_is_found_by_its_seeds() {
    for found in of_store::hunt(HERE, |seed| finds(seed, options())) {
        println!("{found}");
    }
}

/// What fails is shortened to what fails too.
#[test]
fn a_world_that_fails_is_made_shorter() {
    of_brain::put(Some(OfBrain::ForgetRetries));
    let shorter = quietly(|| shrink(1, options()));
    let (found, before) = (quietly(|| finds(1, shorter)), options());
    of_brain::put(None);
    assert!(
        found.is_some() && shorter.devices <= before.devices && shorter.talks < before.talks,
        "{shorter:?}"
    );
    println!("{shorter:?}: {found:?}");
}

/// docs/TESTING.md says of each fault what it is, and which seeds of which tests find it.
#[test]
fn each_fault_stands_in_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/TESTING.md");
    let docs = std::fs::read_to_string(path).expect("it is there");
    let row = |what: &str, name: String, found_by: Vec<(&str, std::ops::Range<u64>)>| {
        let found_by = found_by.into_iter().map(|(test, seeds)| {
            let name = test.trim_end_matches(".rs").replace("/tests", "");
            format!("[{name}](../{test}) {} to {}", seeds.start, seeds.end - 1)
        });
        format!("| `{name}` | {what} | {} |", found_by.collect::<Vec<_>>().join(", "))
    };
    let of_brain = OfBrain::ALL.iter().map(|it| row(it.what(), format!("{it:?}"), it.found_by()));
    let of_store = of_store::Mutation::ALL.iter().map(|it| row(it.what(), format!("{it:?}"), it.found_by()));
    let missing: Vec<_> = of_brain.chain(of_store).filter(|row| !docs.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "docs/TESTING.md lacks these rows:\n{}", missing.join("\n"));
}
