//! That calm worlds find what is wrong with moves: nobody comes back, so nothing is made good that was lost or doubled on the way.

#![cfg(feature = "mutations")]
#![allow(clippy::print_stdout, reason = "it says which seed caught what")]

use std::time::Duration;

use tern_shard::mutations::hunt;
use tern_sim::trouble::{Trouble, Without};
use tern_sim::{Options, finds};

/// What has connections and processes end.
const ENDS: [Trouble; 9] = [
    Trouble::Reset,
    Trouble::HalfOpen,
    Trouble::Kill,
    Trouble::PowerCut,
    Trouble::Pause,
    Trouble::DeviceCrash,
    Trouble::DeviceDisk,
    Trouble::ClockJump,
    Trouble::DeviceClock,
];

#[test]
fn each_fault_of_a_move_is_found_by_its_seeds() {
    let without = ENDS.into_iter().fold(Without::default(), Without::and);
    let options = Options { devices: 8, talks: Duration::from_secs(10), without, ..Options::default() };
    for found in hunt("sim/tests/moves.rs", |seed| finds(seed, options)) {
        println!("{found}");
    }
}
