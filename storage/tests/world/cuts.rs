//! Merges of tables whose directories can't be synced, or that end in the middle; then a start, which may end in the middle as
//! well; then a power cut. What the first process had committed is there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tern_storage::embedded::{EmbeddedOptions, OpenError, Step, Stepped, SteppedEngine};
use tern_storage::medium::SimulatedMedium;
use tern_storage::medium::simulated::{Fault, Odds};
use tern_storage::medium::stream::Stream;
use tern_storage::{Batch, Completion, Engine as _, Fence, keys};

use super::Quiet;

const USERS: u64 = 12;

const VALUE_BYTES: usize = 2500;

fn open(medium: &SimulatedMedium) -> Result<SteppedEngine, OpenError> {
    let options = EmbeddedOptions {
        free_bytes_min: 0,
        flush_bytes: 4 << 10,
        segment_bytes: 4 << 10,
        ..EmbeddedOptions::default()
    };
    SteppedEngine::open(medium, Path::new("store"), options, 7)
}

/// Has these do what there is to do now.
fn run(engine: &SteppedEngine, steps: &[Step]) {
    let does = |step: &Step| engine.step(*step, Duration::ZERO) == Stepped::Did;
    while steps.iter().filter(|step| does(step)).count() > 0 {}
}

/// One run. Most hold without any care, so there are many.
pub fn live(seed: u64) {
    let mut random = Stream::named(seed, "cuts");
    let medium = SimulatedMedium::new(seed, Odds::POWER_CUTS);
    let engine = open(&medium).expect("nothing fails yet");
    let mut port = engine.port(Arc::new(Quiet));
    for user in 1..=USERS {
        let mut batch = Batch::default();
        batch.put(&keys::user(user), vec![user as u8; VALUE_BYTES]);
        port.submit(batch, Fence::default()).expect("there is room");
        run(&engine, &[Step::Commit, Step::Apply, Step::Flush]);
        let mut completions = Vec::new();
        port.poll(&mut completions);
        assert!(matches!(completions[..], [Completion::Committed(_)]), "nothing fails yet");
    }

    if random.below(2) == 0 {
        medium.set_odds(Odds::POWER_CUTS.with(Fault::DirectorySyncFails, 400_000));
        engine.step(Step::Merge, Duration::ZERO);
        medium.set_odds(Odds::POWER_CUTS);
    }
    medium.cut_after(random.below(20));
    run(&engine, &[Step::Merge, Step::Flush]);
    drop((port, engine));
    if random.below(2) == 0 {
        medium.kill();
    } else {
        medium.crash();
    }

    medium.cut_after(random.below(20));
    match open(&medium) {
        Err(error) if !medium.is_cut() => panic!("a start says: {error}"),
        _ => medium.crash(),
    }
    let engine = open(&medium).unwrap_or_else(|error| panic!("a start after a power cut says: {error}"));
    for user in 1..=USERS {
        let value = engine.get_blocking(&keys::user(user)).expect("readable");
        assert_eq!(value.as_deref(), Some(&vec![user as u8; VALUE_BYTES][..]), "user {user}");
    }
}
