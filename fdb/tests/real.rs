//! The engine over a real FoundationDB, wherever `fdbserver` is on PATH: what it promises, whatever befalls the server.

#![allow(clippy::print_stdout, reason = "a run that fails is repeated with the seed that it printed")]

#[allow(dead_code, reason = "the model serves other engines as well")]
#[path = "../../storage/tests/world/model.rs"]
mod model;
#[allow(dead_code, reason = "the suite serves other engines as well")]
#[path = "../../storage/tests/suite/mod.rs"]
mod suite;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use model::{Core, Heard, Rows, State, Written, heard};
use suite::{Caller, conforms, put};
use tern_fdb::{FdbClient, OpenError, Place, Tls};
use tern_storage::fdb::{Fdb, FdbOptions};
use tern_storage::medium::stream::Stream;
use tern_storage::{
    Batch, Completion, Direction, Engine as _, Fence, Key, Lane, ScanLimit, StatisticValue, StoreError, keys,
};
use tern_testkit::FoundationDb;

/// Each store of a test has keys of its own.
fn place(cluster_file: PathBuf) -> Place {
    static STORES: AtomicU64 = AtomicU64::new(0);
    Place {
        cluster_file,
        prefix: format!("test {}/", STORES.fetch_add(1, Ordering::Relaxed)).into_bytes(),
        datacenter_id: String::new(),
        machine_id: String::new(),
        tls: Tls::default(),
    }
}

fn open(place: &Place, options: FdbOptions) -> Fdb {
    let client = FdbClient::open(place.clone()).expect("a client");
    Fdb::open(Arc::new(client), options, fastrand::u64(..), |why| println!("it waits: {why}"))
        .expect("it is there")
}

#[test]
fn foundationdb_conforms() {
    let Some(fdb) = FoundationDb::start() else { return };
    for lanes in [1, 3] {
        conforms(|| {
            Box::new(open(&place(fdb.cluster_file()), FdbOptions { lanes, ..FdbOptions::default() }))
        });
    }
}

/// Longer scans than FoundationDB gives at once, with limits within and at the ends of its pieces.
#[test]
fn a_long_scan_is_whole_and_stops_where_it_is_told_to() {
    let Some(fdb) = FoundationDb::start() else { return };
    let engine = open(&place(fdb.cluster_file()), FdbOptions::default());
    let mut caller = Caller::new(&engine);
    let log = tern_storage::LogId::direct(1, 2);
    let body = vec![7; 1_000];
    for first in (1..=2_000u64).step_by(100) {
        let mut batch = Batch::default();
        (first..first + 100).for_each(|seq| batch.put(&keys::entry(log, seq), &body));
        caller.commit(batch);
    }
    let range = || keys::entries(log, 1, 5_000);
    let seqs = |rows: &tern_storage::Rows| -> Vec<u64> {
        rows.rows.iter().map(|(key, _)| keys::number_of(key).expect("an entry")).collect()
    };
    for (rows, bytes) in
        [(usize::MAX, usize::MAX), (2_000, usize::MAX), (1_999, usize::MAX), (usize::MAX, 700_000), (1, 1)]
    {
        let forwards = caller.scan(range(), Direction::Forwards, ScanLimit { rows, bytes });
        let count = forwards.rows.len() as u64;
        assert_eq!(seqs(&forwards), (1..=count).collect::<Vec<_>>());
        assert_eq!(forwards.more, count < 2_000, "{rows} {bytes}");
        let row_bytes = forwards.rows.iter().map(|(key, value)| key.len() + value.len()).collect::<Vec<_>>();
        let before_last: usize = row_bytes[..row_bytes.len() - 1].iter().sum();
        assert!(before_last < bytes && count as usize <= rows);
        let backwards = caller.scan(range(), Direction::Backwards, ScanLimit { rows, bytes });
        assert_eq!(seqs(&backwards), (2_001 - count..=2_000).rev().collect::<Vec<_>>());
    }
}

#[test]
fn whoever_takes_a_store_over_fences_the_one_before() {
    let Some(fdb) = FoundationDb::start() else { return };
    let place = place(fdb.cluster_file());
    let first = open(&place, FdbOptions::default());
    let mut of_first = Caller::new(&first);
    of_first.commit(put(&[(keys::user(1), "one")]));
    let second = open(&place, FdbOptions::default());
    assert_eq!(second.process(), first.process() + 1);
    of_first.submit(put(&[(keys::user(1), "of one that was"), (keys::user(2), "the same")]));
    match of_first.next() {
        Completion::CommitFailed { error: StoreError::Failed { reason }, .. } => {
            assert!(reason.contains("has taken the store over"), "{reason}");
        }
        other => panic!("a process that has lost its store commits: {other:?}"),
    }
    let mut of_second = Caller::new(&second);
    // What a start does behind others' backs comes before this, in the one lane.
    of_second.commit(put(&[(keys::user(3), "three")]));
    let all = ScanLimit { rows: usize::MAX, bytes: usize::MAX };
    let left = of_second.scan(keys::lane_records_before(second.process()), Direction::Forwards, all);
    assert!(left.rows.is_empty(), "nothing is left of those before");
    assert_eq!(of_second.get(keys::user(1)).as_deref(), Some(&b"one"[..]));
    assert_eq!(of_second.get(keys::user(2)), None);
}

#[test]
fn a_cluster_file_that_is_none_is_told() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("fdb.cluster");
    for (text, expected) in
        [(None, "No such file"), (Some(""), "no line such as"), (Some("nonsense"), "no line such as")]
    {
        if let Some(text) = text {
            std::fs::write(&file, text).expect("written");
        }
        match FdbClient::open(place(file.clone())) {
            Err(error @ OpenError::ClusterFile(..)) => {
                assert!(error.to_string().contains(expected), "{error}")
            }
            other => panic!("{text:?}: {other:?}"),
        }
    }
}

/// FoundationDB is not there: a start says so, and goes on when it comes.
#[test]
fn a_start_waits_for_foundationdb_and_says_so() {
    let Some(mut fdb) = FoundationDb::start() else { return };
    let place = place(fdb.cluster_file());
    fdb.kill();
    let said = AtomicBool::new(false);
    thread::scope(|scope| {
        let opening = scope.spawn(|| {
            let client = FdbClient::open(place.clone()).expect("a client needs no server");
            let waits = |why: &str| {
                // Whatever it says, the other thread goes on.
                said.store(true, Ordering::Release);
                assert!(why.contains("127.0.0.1") && why.contains("fdb.cluster"), "{why}");
            };
            Fdb::open(Arc::new(client), FdbOptions::default(), 1, waits).expect("it comes")
        });
        while !said.load(Ordering::Acquire) {
            thread::yield_now();
        }
        fdb.run();
        let engine = opening.join().expect("no panic");
        Caller::new(&engine).commit(put(&[(keys::user(1), "there")]));
    });
}

/// What befalls the server, one after another.
#[derive(Clone, Copy, Debug)]
enum Nemesis {
    Kill,
    Freeze,
    Lock,
}

const CORES: usize = 4;

/// Writers, a store each, and what must be there of each.
struct Writing {
    cores: Vec<Core>,
    heard: Heard,
}

/// Writes until it is told to stop, then until all is answered.
fn write(engine: &Fdb, stop: &AtomicBool, seed: u64) -> Writing {
    let mut random = Stream::named(seed, "what is written");
    let mut writing =
        Writing { cores: (0..CORES).map(|index| Core::new(index, 1)).collect(), heard: Heard::default() };
    let mut caller = Caller::new(engine);
    let mut under_way = 0;
    loop {
        let is_over = stop.load(Ordering::Acquire);
        if !is_over && under_way < 40 {
            let core = &mut writing.cores[random.below(CORES as u64) as usize];
            let ops = core.next(&mut random);
            let mut batch = Batch::default();
            for (key, value) in &ops {
                match value {
                    Some(value) => batch.put(key, value),
                    None => batch.delete(key),
                }
            }
            let submitted = caller.port.submit_in(Lane(core.index as u16), batch, Fence::default());
            let commit = submitted.expect("within the bounds");
            let (number, knew) = (core.made, core.failures());
            core.written.push(Written { commit, number, ops, stale: false, knew, state: State::UnderWay });
            under_way += 1;
        } else if under_way > 0 {
            let completion = caller.next();
            let core =
                writing.cores.iter_mut().find(|core| core.waits_for(&completion)).expect("somebody waits");
            heard(core, completion, &mut writing.heard);
            under_way -= 1;
        } else {
            return writing;
        }
    }
}

/// All that was committed is there, in whole batches, in their order, and nothing else.
fn check(engine: &Fdb, writing: &Writing) {
    for core in &writing.cores {
        let read = |key: &Key| Some(engine.get_blocking(key).expect("readable")?.to_vec());
        let entries = (0..=core.made).map(|number| keys::entry(core.log(), number));
        let all: Vec<Key> =
            entries.chain((0..12).map(|number| core.row(number))).chain([core.head()]).collect();
        let found: Rows = all.iter().filter_map(|key| Some((key.as_ref().to_vec(), read(key)?))).collect();
        let count = core.count_upto(found.get(core.head().as_ref()).map(|value| &value[..]));
        assert_eq!(count, core.seen, "core {}: so many were committed", core.index);
        assert_eq!(found, core.after(count), "core {}", core.index);
    }
}

/// Waits until operators are told this.
fn is_told(engine: &Fdb, what: &str) {
    let since = Instant::now();
    while engine.trouble().is_none_or(|trouble| !trouble.contains(what)) {
        assert!(
            since.elapsed() < Duration::from_secs(60),
            "operators are not told: {what}; but {:?}",
            engine.trouble()
        );
        thread::yield_now();
    }
}

fn counters(engine: &Fdb) -> BTreeMap<&'static str, u64> {
    let counter = |statistic: tern_storage::Statistic| match statistic.value {
        StatisticValue::Counter(value) => Some((statistic.name, value)),
        StatisticValue::Gauge(_) | StatisticValue::Histogram(..) => None,
    };
    engine.statistics().into_iter().filter_map(counter).collect()
}

#[test]
fn kills_freezes_and_locks_of_foundationdb_lose_double_and_reorder_nothing() {
    let Some(mut fdb) = FoundationDb::start() else { return };
    let seed = std::env::var("TERN_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    println!("repeat with TERN_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let engine = Arc::new(open(&place(fdb.cluster_file()), FdbOptions::default()));
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        // One that fails does not wait for it.
        let (engine, stop) = (engine.clone(), stop.clone());
        thread::spawn(move || write(&engine, &stop, seed))
    };
    for nemesis in [Nemesis::Kill, Nemesis::Freeze, Nemesis::Lock].repeat(3) {
        // It commits before, and it commits after.
        let goes_on = |what: &str| {
            let before = counters(&engine)["fdb_commits"];
            let since = Instant::now();
            while counters(&engine)["fdb_commits"] < before + 20 {
                assert!(since.elapsed() < Duration::from_secs(90), "{what}: nothing is committed any more");
                thread::yield_now();
            }
        };
        goes_on("before");
        let lasts = Duration::from_millis(rng.u64(50..2_500));
        match nemesis {
            Nemesis::Kill => {
                fdb.kill();
                thread::sleep(lasts / 2);
                fdb.run();
            }
            Nemesis::Freeze => {
                fdb.pause();
                thread::sleep(lasts);
                // Half of them until operators are told.
                if rng.bool() {
                    is_told(&engine, "does not answer");
                }
                fdb.go_on();
            }
            Nemesis::Lock => {
                fdb.lock();
                is_told(&engine, "locked");
                fdb.unlock();
            }
        }
        goes_on(&format!("after {nemesis:?}"));
    }
    stop.store(true, Ordering::Release);
    let writing = writer.join().expect("what must hold holds");
    println!("{:?}, {:?}", writing.heard, counters(&engine));
    assert_eq!((writing.heard.refused, writing.heard.unknown), (0, 0), "nothing is given up");
    let met = counters(&engine);
    assert!(
        met["fdb_unknown"] + met["fdb_conflicts"] + met["fdb_locked"] > 0,
        "nothing was in the way: {met:?}"
    );
    check(&engine, &writing);
    assert_eq!(engine.trouble(), None);
}
