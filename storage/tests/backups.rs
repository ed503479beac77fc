//! What becomes of a backup when the power is cut, the process killed, the store put back, or the backup's medium fails: hundreds of
//! worlds, each known by its seed.
//!
//! What was told to be in a backup is; each point of it is exactly what the store was; a bit that flips is told of; and the store
//! is never held up by it.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a failed run is repeated with the seed that it printed"
)]

#[path = "world/backup.rs"]
mod world;

use world::{Kind, Tally, World};

/// Runs some seeds, or the one that is asked for.
fn run(count: u64) -> Vec<(u64, Tally)> {
    let asked = |name: &str| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let seeds = match asked("TERN_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..asked("TERN_SEEDS").unwrap_or(count),
    };
    let run = |seed| {
        let _seed = Seed(seed);
        let mut world = World::new(seed);
        world.live();
        (seed, world.tally)
    };
    seeds.map(run).collect()
}

/// Says how to repeat a run that panics.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat with TERN_SEED={} cargo test -p tern-storage --test backups", self.0);
        }
    }
}

#[test]
fn what_a_backup_was_told_to_hold_is_restored_to_each_of_its_points() {
    let tallies = run(120);
    if tallies.len() < 100 {
        return;
    }
    let sum = |of: &dyn Fn(&Tally) -> u64| tallies.iter().map(|(_, tally)| of(tally)).sum::<u64>();
    println!(
        "{} restores, {} points, {} refused, {} times, {} with reuse, {} chains given up, {} told of rot, {} put back",
        sum(&|tally| tally.restores),
        sum(&|tally| tally.points),
        sum(&|tally| tally.refused),
        sum(&|tally| tally.times),
        sum(&|tally| u64::from(tally.reused > 0)),
        sum(&|tally| tally.given_up),
        sum(&|tally| tally.told_of_rot),
        sum(&|tally| tally.put_back),
    );
    assert!(sum(&|tally| tally.restores) > 500, "hardly anything was restored");
    assert!(sum(&|tally| tally.points) > 200, "hardly any point was");
    assert!(sum(&|tally| tally.times) > 100, "hardly any time was");
    assert!(sum(&|tally| tally.given_up) > 5, "hardly any chain was given up");
    assert!(sum(&|tally| tally.told_of_rot) > 20, "hardly anything rotted");
    assert!(sum(&|tally| tally.put_back) > 10, "hardly any store was put back");
    let with_bases =
        tallies.iter().filter(|(seed, tally)| Kind::of(*seed) == Kind::Operators && tally.bases > 1);
    assert!(with_bases.count() > 5, "hardly any store had a second base");
}

#[cfg(feature = "mutations")]
#[test]
fn each_fault_of_backups_is_found_by_its_seeds() {
    use tern_storage::mutations::{hunt, panic_of};

    for found in hunt("storage/tests/backups.rs", |seed| panic_of(|| World::new(seed).live())) {
        println!("{found}");
    }
}
