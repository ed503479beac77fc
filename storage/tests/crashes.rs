//! What becomes of a store when the power is cut, the process killed, or the medium fails: the product's log, recovery,
//! manifest and hand-over to the tables, run step by step over a simulated medium, hundreds of times over.
//!
//! What was completed is there, whole; what was not is there whole or not at all; a port's batches are there in their order;
//! a read sees what had completed before it, and what it saw stays; and a bit that flips is told of.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a failed run is repeated with the seed that it printed"
)]

mod world;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tern_storage::embedded::{EmbeddedOptions, Step, SteppedEngine};
use tern_storage::medium::SimulatedMedium;
use tern_storage::medium::simulated::{Fault, Odds};
use tern_storage::medium::stream::MILLION;
use tern_storage::{Batch, Engine as _, Fence, keys};
use world::{Quiet, Tally, World, cuts};

/// Runs some seeds, or the one that is asked for.
fn run(test: &str, seeds: std::ops::Range<u64>, live: impl Fn(u64) -> Tally) -> Vec<Tally> {
    let asked: Option<u64> = std::env::var("TERN_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = asked.map_or(seeds, |seed| seed..seed + 1);
    let run = |seed| {
        let _seed = Seed(seed, test);
        live(seed)
    };
    seeds.map(run).collect()
}

/// Says how to repeat a run that panics.
struct Seed<'a>(u64, &'a str);

impl Drop for Seed<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "repeat with TERN_SEED={} cargo test -p tern-storage --test crashes {}",
                self.0, self.1
            );
        }
    }
}

fn seeds(count: u64) -> std::ops::Range<u64> {
    let asked = std::env::var("TERN_SEEDS").ok().and_then(|count| count.parse().ok());
    0..asked.unwrap_or(count)
}

fn sum(tallies: &[Tally], of: impl Fn(&Tally) -> u64) -> u64 {
    tallies.iter().map(of).sum()
}

fn faults(tallies: &[Tally], fault: Fault) -> u64 {
    sum(tallies, |tally| tally.faults.get(&fault).copied().unwrap_or(0))
}

#[test]
fn what_was_completed_is_there_after_power_cuts_and_kills() {
    let tallies = run("power_cuts", seeds(200), |seed| {
        let mut world = World::new(seed);
        world.live(false);
        world.tally
    });
    if tallies.len() > 100 {
        for fault in [Fault::LostWrite, Fault::TornWrite, Fault::LostName] {
            assert!(faults(&tallies, fault) > 100, "{} hardly ever happened", fault.name());
        }
        assert!(sum(&tallies, |tally| tally.heard.committed) > 5000, "hardly anything was committed");
        assert!(sum(&tallies, |tally| tally.heard.reads) > 1000, "hardly anything was read");
        assert!(sum(&tallies, |tally| tally.closes) > 50, "hardly any life ended in order");
        assert_eq!(sum(&tallies, |tally| tally.heard.unknown), 0, "nothing was in the way");
    }
}

#[test]
fn what_was_completed_is_there_though_the_medium_fails_too() {
    let tallies = run("medium_fails", seeds(200), |seed| {
        let mut world = World::new(seed);
        world.live(true);
        world.tally
    });
    if tallies.len() > 100 {
        for fault in [Fault::NoRoom, Fault::WriteFails, Fault::SyncFails, Fault::DirectorySyncFails] {
            assert!(faults(&tallies, fault) > 20, "{} hardly ever happened", fault.name());
        }
        assert!(sum(&tallies, |tally| tally.heard.unknown) > 100, "hardly any write failed");
        assert!(sum(&tallies, |tally| tally.heard.refused) > 20, "hardly any write was refused");
    }
}

#[test]
fn a_bit_that_flips_is_told_of_and_neither_served_nor_taken_for_absence() {
    let is_lock = |path: &Path| path.ends_with("lock");
    let in_log = |path: &Path| path.extension().is_some_and(|extension| extension == "log");
    let tallies = run("bit", seeds(300), |seed| {
        let mut world = World::new(seed);
        match seed % 2 {
            0 => world.rot(&|path| !is_lock(path)),
            _ => world.rot(&in_log),
        }
        world.tally
    });
    assert!(
        tallies.len() < 100 || sum(&tallies, |tally| tally.told_of_rot) > 100,
        "hardly any rot was told of"
    );
}

/// A start removed the tables that an unsynced `current` did not name any more, and a power cut brought the one before back. And a
/// merge whose last sync had failed was tried again, over the version file that `current` named by then.
#[test]
fn what_was_completed_is_there_though_merges_and_starts_end_anywhere() {
    run("end_anywhere", seeds(1000), |seed| {
        cuts::live(seed);
        Tally::default()
    });
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let live = |seed| {
        let mut world = World::new(seed);
        world.live(true);
        format!("{:?}", world.tally)
    };
    for seed in 0..10 {
        assert_eq!(live(seed), live(seed), "seed {seed}");
    }
}

/// Everything that is not synced is lost in a power cut.
const ALL_LOST: Odds = Odds::NONE.with(Fault::LostWrite, MILLION).with(Fault::LostName, MILLION);

fn open(medium: &SimulatedMedium) -> SteppedEngine {
    let options = EmbeddedOptions { free_bytes_min: 0, segment_bytes: 4 << 10, ..EmbeddedOptions::default() };
    SteppedEngine::open(medium, Path::new("data/node/store"), options, 7).expect("opens")
}

fn batch(user: u64) -> Batch {
    let mut batch = Batch::default();
    batch.put(&keys::user(user), b"there");
    batch
}

fn has(engine: &SteppedEngine, user: u64) -> bool {
    engine.get_blocking(&keys::user(user)).expect("readable").is_some()
}

/// The directories above the store's were not synced into theirs, so all that a first start had acknowledged could be gone.
#[test]
fn a_power_cut_after_the_first_start_leaves_the_directories_that_it_made() {
    let medium = SimulatedMedium::new(1, ALL_LOST);
    open(&medium).commit_blocking(batch(1)).expect("committed");
    medium.crash();
    assert!(has(&open(&medium), 1));
}

/// A process that ended between the write and the sync left a group that the next one read, served, and took for durable.
#[test]
fn what_a_start_reads_of_an_unsynced_log_is_there_after_a_power_cut() {
    let medium = SimulatedMedium::new(1, ALL_LOST);
    let engine = open(&medium);
    engine.commit_blocking(batch(1)).expect("committed");
    let mut port = engine.port(Arc::new(Quiet));
    port.submit(batch(2), Fence::default()).expect("taken");
    medium.cut_after(1);
    engine.step(Step::Commit, Duration::ZERO);
    engine.step(Step::Commit, Duration::ZERO);
    assert!(medium.is_cut(), "it ended within the sync");
    drop(engine);
    medium.kill();
    let engine = open(&medium);
    assert!(has(&engine, 2), "the system still has what was written");
    drop(engine);
    medium.crash();
    let engine = open(&medium);
    assert!(has(&engine, 1) && has(&engine, 2), "what was read is lost");
}

/// As above, and worse: after a sync that failed the system has the group, and another sync does nothing.
#[test]
fn what_a_start_reads_of_a_log_whose_sync_failed_is_there_after_a_power_cut() {
    let mut read = 0;
    for seed in 0..50 {
        let medium = SimulatedMedium::new(seed, ALL_LOST);
        let engine = open(&medium);
        engine.commit_blocking(batch(1)).expect("committed");
        medium.set_odds(ALL_LOST.with(Fault::SyncFails, MILLION));
        engine.commit_blocking(batch(2)).expect_err("its sync fails");
        medium.set_odds(ALL_LOST);
        drop(engine);
        medium.kill();
        let was_read = has(&open(&medium), 2);
        read += u64::from(was_read);
        medium.crash();
        let engine = open(&medium);
        assert!(has(&engine, 1) && has(&engine, 2) == was_read, "seed {seed}: what was read is lost");
    }
    assert!(read > 0, "nothing was read");
}
