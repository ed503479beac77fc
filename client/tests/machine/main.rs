//! The client's machine alone, against a model of the server: one thread, one seed. Connections break at any byte, both sides crash, stores
//! fail, tokens end, a server is put back from a copy, chats are cut at their beginning, a copied device takes over; and all the time what
//! must hold of a client holds.
//!
//! `TERN_SEED=7 cargo test -p tern-client --test machine` runs one seed, and shows all that happened in it if it fails.

mod device;
mod server;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use world::World;

const SEEDS: u64 = 200;

#[test]
#[allow(clippy::print_stderr, reason = "what a failed run did")]
fn whatever_goes_wrong_a_device_keeps_its_promises_and_catches_up() {
    let seed = std::env::var("TERN_SEED").ok().map(|seed| seed.parse().expect("TERN_SEED is a number"));
    let is_one = seed.is_some();
    let mut replaced = 0;
    for seed in seed.map_or(0..SEEDS, |seed| seed..seed + 1) {
        let mut world = World::new(seed, is_one);
        let Err(failure) = catch_unwind(AssertUnwindSafe(|| world.run())) else {
            replaced += world.replaced();
            continue;
        };
        for line in world.trace.iter().flatten() {
            eprintln!("{line}");
        }
        eprintln!("seed {seed} failed; TERN_SEED={seed} cargo test -p tern-client --test machine shows how");
        std::panic::resume_unwind(failure);
    }
    assert!(is_one || replaced > 0, "no device was replaced by another in any of these worlds");
}
