//! One suite for every engine: what a store promises to the brain.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};

use tern_storage::embedded::{Embedded, EmbeddedOptions, OpenError};
use tern_storage::faults::Faults;
use tern_storage::memory::Memory;
use tern_storage::{
    Batch, CommitId, Completion, Direction, Engine, Epoch, Fence, Key, KeyRange, Lane, LogId, Port, Rows,
    ScanLimit, Slot, StoreError, Wake, keys,
};

/// A port of this thread, which may wait.
struct Caller {
    port: Box<dyn Port>,
    woken: Arc<Woken>,
    completions: Vec<Completion>,
}

struct Woken(Thread, AtomicBool);

impl Wake for Woken {
    fn wake(&self) {
        self.1.store(true, Ordering::Release);
        self.0.unpark();
    }
}

impl Caller {
    fn new(engine: &dyn Engine) -> Self {
        let woken = Arc::new(Woken(thread::current(), AtomicBool::new(false)));
        Self { port: engine.port(woken.clone()), woken, completions: Vec::new() }
    }

    fn next(&mut self) -> Completion {
        loop {
            if !self.completions.is_empty() {
                return self.completions.remove(0);
            }
            self.port.poll(&mut self.completions);
            if self.completions.is_empty() {
                while !self.woken.1.swap(false, Ordering::AcqRel) {
                    thread::park();
                }
            }
        }
    }

    fn submit(&mut self, batch: Batch) -> CommitId {
        self.port.submit(batch, Fence::default()).expect("within the bounds")
    }

    fn commit(&mut self, batch: Batch) {
        let commit = self.submit(batch);
        match self.next() {
            Completion::Committed(proof) => assert_eq!(proof.commit(), commit),
            other => panic!("expected a commit, got {other:?}"),
        }
    }

    fn get(&mut self, key: Key) -> Option<Vec<u8>> {
        let asked = self.port.get(key).expect("within the bounds");
        match self.next() {
            Completion::Value { read, result } if read == asked => {
                result.expect("readable").map(|value| value.to_vec())
            }
            other => panic!("expected a value, got {other:?}"),
        }
    }

    fn scan(&mut self, range: KeyRange, direction: Direction, limit: ScanLimit) -> Rows {
        let asked = self.port.scan(range, direction, limit).expect("within the bounds");
        match self.next() {
            Completion::Rows { read, result } if read == asked => result.expect("readable"),
            other => panic!("expected rows, got {other:?}"),
        }
    }
}

const ALL: ScanLimit = ScanLimit { rows: usize::MAX, bytes: usize::MAX };

fn put(pairs: &[(Key, &str)]) -> Batch {
    let mut batch = Batch::default();
    for (key, value) in pairs {
        batch.put(key, value.as_bytes());
    }
    batch
}

fn log() -> LogId {
    LogId::direct(4097, 8195)
}

fn a_batch_is_seen_whole_once_it_has_completed(engine: &dyn Engine) {
    let mut caller = Caller::new(engine);
    caller.commit(put(&[(keys::user(1), "one"), (keys::entry(log(), 1), "first"), (keys::user(1), "later")]));
    assert_eq!(caller.get(keys::user(1)).as_deref(), Some(&b"later"[..]), "a later write of one batch wins");
    assert_eq!(caller.get(keys::entry(log(), 1)).as_deref(), Some(&b"first"[..]));
    let mut batch = put(&[(keys::user(2), "two")]);
    batch.delete(&keys::user(1));
    caller.commit(batch);
    assert_eq!(caller.get(keys::user(1)), None);
    assert_eq!(caller.get(keys::user(2)).as_deref(), Some(&b"two"[..]));
    assert_eq!(engine.get_blocking(&keys::user(2)).expect("readable").as_deref(), Some(&b"two"[..]));
}

fn commits_complete_in_the_order_of_their_submission(engine: &dyn Engine) {
    let mut caller = Caller::new(engine);
    let submitted: Vec<_> = (0..32)
        .map(|n| {
            if n % 5 == 4 {
                caller.submit(Batch::default())
            } else {
                caller.submit(put(&[(keys::user(n), "x")]))
            }
        })
        .collect();
    for commit in submitted {
        match caller.next() {
            Completion::Committed(proof) => assert_eq!(proof.commit(), commit),
            other => panic!("expected a commit, got {other:?}"),
        }
    }
}

fn a_scan_gives_its_range_in_order_and_says_if_there_is_more(engine: &dyn Engine) {
    let mut caller = Caller::new(engine);
    let other = LogId::direct(4097, 8196);
    let mut batch = Batch::default();
    for seq in 1..=10u64 {
        batch.put(&keys::entry(log(), seq), seq.to_string().into_bytes());
        batch.put(&keys::entry(other, seq), b"other");
    }
    caller.commit(batch);
    let seqs = |rows: &Rows| {
        rows.rows.iter().map(|(key, _)| keys::number_of(key).expect("an entry's key")).collect::<Vec<_>>()
    };
    let range = || keys::entries(log(), 3, 9);

    let rows = caller.scan(range(), Direction::Forwards, ALL);
    assert_eq!((seqs(&rows), rows.more), (vec![3, 4, 5, 6, 7, 8], false));
    let rows = caller.scan(range(), Direction::Backwards, ALL);
    assert_eq!((seqs(&rows), rows.more), (vec![8, 7, 6, 5, 4, 3], false));
    let rows = caller.scan(range(), Direction::Forwards, ScanLimit { rows: 2, ..ALL });
    assert_eq!((seqs(&rows), rows.more), (vec![3, 4], true));
    let rows = caller.scan(range(), Direction::Forwards, ScanLimit { rows: 6, ..ALL });
    assert_eq!((seqs(&rows), rows.more), (vec![3, 4, 5, 6, 7, 8], false));
    let rows = caller.scan(range(), Direction::Forwards, ScanLimit { bytes: 1, ..ALL });
    assert_eq!((seqs(&rows), rows.more), (vec![3], true), "the first row always comes");
    let rows = caller.scan(keys::entries(log(), 11, 20), Direction::Forwards, ALL);
    assert_eq!((seqs(&rows), rows.more), (vec![], false));
}

fn a_port_that_takes_no_more_gives_back_what_it_was_given(engine: &dyn Engine) {
    let mut caller = Caller::new(engine);
    let mut taken = 0u64;
    // A few may complete meanwhile, so there is no exact number; but unpolled, they keep their places.
    let refused = loop {
        match caller.port.submit(put(&[(keys::user(taken), "x")]), Fence::default()) {
            Ok(_) => taken += 1,
            Err(tern_storage::Busy((batch, _))) => break batch,
        }
        assert!(taken < 1_000_000, "a port must be bounded");
    };
    assert_eq!(refused.len(), 1);
    for _ in 0..taken {
        assert!(matches!(caller.next(), Completion::Committed(_)));
    }
    caller.commit(refused);
}

fn a_fenced_batch_leaves_nothing_and_takes_those_behind_it_along(engine: &dyn Engine) {
    let mut caller = Caller::new(engine);
    let slot = Slot::of_user(1);
    engine.raise_epoch(slot, Epoch(2)).expect("raised");
    let fence = |epoch| Fence::from_iter([(slot, Epoch(epoch))]);
    let old = caller.port.submit(put(&[(keys::user(1), "old")]), fence(1)).expect("within the bounds");
    let blind =
        caller.port.submit(put(&[(keys::user(2), "blind")]), Fence::default()).expect("within the bounds");
    for expected in [old, blind] {
        match caller.next() {
            Completion::CommitFailed { commit, error } => {
                assert_eq!((commit, error), (expected, StoreError::Fenced { slot }));
            }
            other => panic!("expected a failure, got {other:?}"),
        }
    }
    assert_eq!(caller.get(keys::user(1)), None);
    assert_eq!(caller.get(keys::user(2)), None);
    caller.port.submit(put(&[(keys::user(1), "new")]), fence(2)).expect("within the bounds");
    assert!(matches!(caller.next(), Completion::Committed(_)), "who knows of the failure goes on");
    assert_eq!(caller.get(keys::user(1)).as_deref(), Some(&b"new"[..]));
}

fn a_failure_takes_along_what_follows_it_in_its_lane_and_nothing_else(engine: &dyn Engine) {
    let mut caller = Caller::new(engine);
    let slot = Slot::of_user(1);
    engine.raise_epoch(slot, Epoch(2)).expect("raised");
    let stale = || Fence::from_iter([(slot, Epoch(1))]);
    let mut submit = |lane, user, fence: Fence| {
        caller.port.submit_in(Lane(lane), put(&[(keys::user(user), "x")]), fence).expect("within the bounds")
    };
    submit(1, 11, stale());
    submit(2, 21, Fence::default());
    submit(1, 12, Fence::default());
    submit(2, 22, Fence::default());
    let ends = |caller: &mut Caller| matches!(caller.next(), Completion::Committed(_));
    assert_eq!([(); 4].map(|()| ends(&mut caller)), [false, true, false, true]);
    for user in [11, 12, 21, 22] {
        assert_eq!(caller.get(keys::user(user)).is_some(), user > 20, "user {user}");
    }
    // Who knows of the failure goes on; of another lane's failure there is nothing to know.
    caller.port.submit_in(Lane(2), put(&[(keys::user(23), "x")]), stale()).expect("within the bounds");
    caller
        .port
        .submit_in(Lane(1), put(&[(keys::user(13), "x")]), Fence::default())
        .expect("within the bounds");
    assert_eq!([(); 2].map(|()| ends(&mut caller)), [false, true]);
}

fn ports_of_many_threads_each_keep_their_order(engine: &dyn Engine) {
    thread::scope(|scope| {
        for port in 0..4u64 {
            scope.spawn(move || {
                let mut caller = Caller::new(engine);
                for n in 0..200u64 {
                    let value = n.to_string();
                    caller.submit(put(&[(keys::user(port), &value)]));
                    if n % 7 == 6 {
                        for _ in 0..7 {
                            assert!(matches!(caller.next(), Completion::Committed(_)));
                        }
                        assert_eq!(caller.get(keys::user(port)), Some(value.into_bytes()));
                    }
                }
            });
        }
    });
}

fn conforms(make: impl Fn() -> Box<dyn Engine>) {
    let suite: [fn(&dyn Engine); 7] = [
        a_batch_is_seen_whole_once_it_has_completed,
        commits_complete_in_the_order_of_their_submission,
        a_scan_gives_its_range_in_order_and_says_if_there_is_more,
        a_port_that_takes_no_more_gives_back_what_it_was_given,
        a_fenced_batch_leaves_nothing_and_takes_those_behind_it_along,
        a_failure_takes_along_what_follows_it_in_its_lane_and_nothing_else,
        ports_of_many_threads_each_keep_their_order,
    ];
    for part in suite {
        part(&*make());
    }
}

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
            Box::new(Fdb::open(Arc::new(fdb), options, 1).expect("nothing is in the way"))
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
