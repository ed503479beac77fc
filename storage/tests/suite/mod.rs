//! What a store promises to the brain: one suite for every engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};

use tern_storage::{
    Batch, CommitId, Completion, Direction, Engine, Epoch, Fence, Key, KeyRange, Lane, LogId, Port, Rows,
    ScanLimit, Slot, StoreError, Wake, keys,
};

/// A port of this thread, which may wait.
pub struct Caller {
    pub port: Box<dyn Port>,
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
    pub fn new(engine: &dyn Engine) -> Self {
        let woken = Arc::new(Woken(thread::current(), AtomicBool::new(false)));
        Self { port: engine.port(woken.clone()), woken, completions: Vec::new() }
    }

    pub fn next(&mut self) -> Completion {
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

    pub fn submit(&mut self, batch: Batch) -> CommitId {
        self.port.submit(batch, Fence::default()).expect("within the bounds")
    }

    pub fn commit(&mut self, batch: Batch) {
        let commit = self.submit(batch);
        match self.next() {
            Completion::Committed(proof) => assert_eq!(proof.commit(), commit),
            other => panic!("expected a commit, got {other:?}"),
        }
    }

    pub fn get(&mut self, key: Key) -> Option<Vec<u8>> {
        let asked = self.port.get(key).expect("within the bounds");
        match self.next() {
            Completion::Value { read, result } if read == asked => {
                result.expect("readable").map(|value| value.to_vec())
            }
            other => panic!("expected a value, got {other:?}"),
        }
    }

    pub fn scan(&mut self, range: KeyRange, direction: Direction, limit: ScanLimit) -> Rows {
        let asked = self.port.scan(range, direction, limit).expect("within the bounds");
        match self.next() {
            Completion::Rows { read, result } if read == asked => result.expect("readable"),
            other => panic!("expected rows, got {other:?}"),
        }
    }
}

const ALL: ScanLimit = ScanLimit { rows: usize::MAX, bytes: usize::MAX };

pub fn put(pairs: &[(Key, &str)]) -> Batch {
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

/// Runs the suite, each part on a store of its own.
pub fn conforms(make: impl Fn() -> Box<dyn Engine>) {
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
