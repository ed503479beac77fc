//! That the simulation finds what is wrong: each fault that can be put into the code is caught within so many seeds.

#![allow(clippy::print_stdout, reason = "it says which seed caught what")]

mod world;

use tern_storage::mutations::{hunt, panic_of};
use world::{World, cuts};

/// What a seed finds, in its words.
fn finds(seed: u64) -> Option<String> {
    panic_of(|| {
        for trouble in [false, true] {
            World::new(seed).live(trouble);
        }
        World::new(seed).rot(&|path| !path.ends_with("lock"));
    })
}

#[test]
fn each_fault_of_the_code_is_found_by_its_seeds() {
    for found in hunt("storage/tests/mutations.rs", finds) {
        println!("{found}");
    }
    assert_eq!((0..20).find_map(finds), None, "without a fault nothing is found");
}

#[test]
fn each_fault_of_what_files_name_is_found_by_its_seeds() {
    let finds = |seed| panic_of(|| cuts::live(seed));
    for found in hunt("storage/tests/world/cuts.rs", finds) {
        println!("{found}");
    }
}
