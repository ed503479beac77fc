//! One suite for every engine: what a store promises to the brain.

#[allow(dead_code, reason = "the suite serves other engines as well")]
mod suite;

#[cfg(feature = "fdb-core")]
use std::sync::Arc;
#[cfg(feature = "fdb-core")]
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(feature = "fdb-core")]
use std::thread;

use suite::{Caller, conforms, put};
use tern_storage::embedded::{Embedded, EmbeddedOptions, OpenError};
use tern_storage::faults::Faults;
use tern_storage::memory::Memory;
use tern_storage::{Completion, Engine as _, Epoch, Fence, Slot, StoreError, keys};

#[test]
fn memory_conforms() {
    conforms(|| Box::new(Memory::new()));
}

#[test]
fn a_faulty_medium_without_faults_conforms() {
    conforms(|| Box::new(Memory::faulty(Faults::default())));
}

/// What completed is there after a crash, in its order; of the rest at most the write that broke the medium.
#[test]
fn whatever_breaks_and_when_a_completed_batch_is_there_after_the_crash() {
    for seed in 0..300 {
        let faults = Faults { seed, full_per_mille: 50, broken_per_mille: 20 };
        let mut store = Memory::faulty(faults);
        let mut there = std::collections::BTreeMap::new();
        for crash in 0..4 {
            let mut caller = Caller::new(&store);
            let mut torn = None;
            for user in 0..100 {
                let value = format!("{crash} {user}");
                caller.submit(put(&[(keys::user(user), &value), (keys::user(user + 1000), &value)]));
                match caller.next() {
                    Completion::Committed(_) => drop(there.insert(user, value)),
                    Completion::CommitFailed { error: StoreError::Full, .. } => {}
                    Completion::CommitFailed { error: StoreError::Failed { .. }, .. } => {
                        torn.get_or_insert((user, value));
                    }
                    other => panic!("seed {seed}: {other:?}"),
                }
            }
            store = store.recover(Faults { seed: seed + 1000 * (crash + 1), ..faults });
            for user in 0..100 {
                let read = |user| {
                    store.get_blocking(&keys::user(user)).expect("readable").map(|value| value.to_vec())
                };
                let (found, twin) = (read(user), read(user + 1000));
                assert_eq!(found, twin, "seed {seed}: a batch is there in part");
                if found.as_deref() != there.get(&user).map(|value| value.as_bytes()) {
                    let (broke, value) = torn.clone().expect("only a broken medium leaves something else");
                    assert_eq!((user, found.as_deref()), (broke, Some(value.as_bytes())), "seed {seed}");
                    there.insert(user, value);
                }
            }
        }
    }
}

#[test]
fn embedded_conforms() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let made = std::cell::Cell::new(0);
    conforms(|| {
        made.set(made.get() + 1);
        Box::new(
            Embedded::open(dir.path().join(made.get().to_string()), EmbeddedOptions::default())
                .expect("opens"),
        )
    });
}

/// The time of simulated FoundationDBs goes as the clock does, until this is dropped.
#[cfg(feature = "fdb-core")]
#[derive(Default)]
struct Going(Arc<AtomicBool>);

#[cfg(feature = "fdb-core")]
impl Going {
    fn go(&self, fdb: tern_storage::fdb::simulated::SimFdb) {
        let (ends, began) = (self.0.clone(), std::time::Instant::now());
        thread::spawn(move || {
            while !ends.load(Ordering::Acquire) {
                fdb.run_until(began.elapsed());
                thread::park_timeout(std::time::Duration::from_micros(100));
            }
        });
    }
}

#[cfg(feature = "fdb-core")]
impl Drop for Going {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[cfg(feature = "fdb-core")]
#[test]
fn foundationdb_simulated_conforms() {
    use tern_storage::fdb::simulated::{Odds, SimFdb};
    use tern_storage::fdb::{Fdb, FdbOptions};
    let going = Going::default();
    for lanes in [1, 3] {
        conforms(|| {
            let fdb = SimFdb::new(7, Odds::default());
            going.go(fdb.clone());
            let options = FdbOptions { lanes, ..FdbOptions::default() };
            Box::new(Fdb::open(Arc::new(fdb), options, 1, |_| {}).expect("nothing is in the way"))
        });
    }
}

#[test]
fn an_embedded_store_opened_again_has_all_that_was_committed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = Embedded::open(dir.path(), EmbeddedOptions::default()).expect("opens");
    Caller::new(&store).commit(put(&[(keys::user(7), "seven")]));
    store.raise_epoch(Slot::of_user(7), Epoch(3)).expect("raised");
    drop(store);
    let store = Embedded::open(dir.path(), EmbeddedOptions::default()).expect("opens again");
    let mut caller = Caller::new(&store);
    assert_eq!(caller.get(keys::user(7)).as_deref(), Some(&b"seven"[..]));
    let stale = Fence::from_iter([(Slot::of_user(7), Epoch(2))]);
    caller.port.submit(put(&[(keys::user(7), "stale")]), stale).expect("within the bounds");
    assert!(matches!(caller.next(), Completion::CommitFailed { error: StoreError::Fenced { .. }, .. }));
}

#[test]
fn a_store_in_use_is_not_opened_twice() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let _store = Embedded::open(dir.path(), EmbeddedOptions::default()).expect("opens");
    match Embedded::open(dir.path(), EmbeddedOptions::default()) {
        Err(error @ OpenError::InUse { pid, .. }) => {
            assert_eq!(pid, Some(std::process::id()));
            assert!(error.to_string().contains("another running ternd"), "{error}");
        }
        other => panic!("expected the lock to hold, got {other:?}"),
    }
}

#[test]
fn a_full_disk_is_told_and_touches_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = EmbeddedOptions { free_bytes_min: u64::MAX, ..EmbeddedOptions::default() };
    let store = Embedded::open(dir.path(), options).expect("opens");
    let mut caller = Caller::new(&store);
    caller.submit(put(&[(keys::user(1), "x")]));
    assert!(matches!(caller.next(), Completion::CommitFailed { error: StoreError::Full, .. }));
    drop(caller);
    drop(store);
    let store = Embedded::open(dir.path(), EmbeddedOptions::default()).expect("opens with room");
    let mut caller = Caller::new(&store);
    assert_eq!(caller.get(keys::user(1)), None);
    caller.commit(put(&[(keys::user(1), "x")]));
}

#[test]
fn a_store_of_another_layout_is_left_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    // What a store of layout 2 had: another engine's files.
    std::fs::create_dir(dir.path().join("fjall")).expect("made");
    match Embedded::open(dir.path(), EmbeddedOptions::default()) {
        Err(OpenError::Layout { found, .. }) => assert_eq!(found, 2),
        other => panic!("expected the layout to be refused, got {other:?}"),
    }
    assert!(!dir.path().join("manifest").exists(), "nothing was made of it");
}

#[test]
fn after_a_power_cut_a_prefix_of_what_was_under_way_is_there() {
    for survivors in 0..=3 {
        let store = Memory::held();
        let mut caller = Caller::new(&store);
        caller.submit(put(&[(keys::user(1), "committed")]));
        assert!(store.step());
        for user in 2..=4 {
            caller.submit(put(&[(keys::user(user), "under way")]));
        }
        let image = store.crash(survivors);
        assert_eq!(image.len(), 1 + survivors);
        assert!(image.get_blocking(&keys::user(1)).expect("readable").is_some());
    }
}
