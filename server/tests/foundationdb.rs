//! `ternd --engine fdb` over a real FoundationDB, wherever `fdbserver` is on PATH: nothing is lost, whatever is killed, stands still or is
//! locked; and what operators are told.

#![allow(clippy::print_stdout, reason = "a failed run is repeated with the seed that it printed")]

mod people;
mod storm;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use storm::storm;
use tern_testkit::{FoundationDb, Ternd, TerndOptions};

fn options(fdb: &FoundationDb) -> TerndOptions {
    let cluster_file = fdb.cluster_file().display().to_string();
    let arguments = ["--engine", "fdb", "--fdb-cluster-file", &cluster_file].map(str::to_owned).to_vec();
    TerndOptions { cores: 4, arguments, ..TerndOptions::default() }
}

/// The database is locked for a while, and then it is not.
fn lock(fdb: &FoundationDb, lasts: Duration) {
    fdb.lock();
    std::thread::sleep(lasts);
    fdb.unlock();
}

fn freeze(fdb: &FoundationDb, lasts: Duration) {
    fdb.pause();
    std::thread::sleep(lasts);
    fdb.go_on();
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_ternd_and_of_foundationdb_lose_double_and_reorder_nothing() {
    let Some(mut fdb) = FoundationDb::start() else { return };
    let mut turn = 0;
    storm(options(&fdb), &mut |server, lasts| {
        turn += 1;
        match turn % 3 {
            0 => server.kill_and_restart(),
            1 => {
                fdb.kill();
                std::thread::sleep(lasts / 2);
                fdb.run();
            }
            // Both: ternd comes back first, and waits.
            _ => {
                fdb.kill();
                std::thread::scope(|scope| {
                    scope.spawn(|| server.kill_and_restart());
                    std::thread::sleep(lasts);
                    fdb.run();
                });
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foundationdb_that_stands_still_or_is_locked_loses_doubles_and_reorders_nothing() {
    let Some(fdb) = FoundationDb::start() else { return };
    let mut rng = Rng::new();
    storm(options(&fdb), &mut |_, lasts| if rng.bool() { freeze(&fdb, lasts) } else { lock(&fdb, lasts) })
        .await;
}

/// FoundationDB's own client makes trouble: it delays, reorders and forgets as it may.
#[tokio::test(flavor = "multi_thread")]
async fn what_foundationdbs_client_does_at_its_worst_loses_doubles_and_reorders_nothing() {
    let Some(fdb) = FoundationDb::start() else { return };
    let set = |(name, value): (&str, &str)| (format!("FDB_NETWORK_OPTION_{name}"), value.to_owned());
    let environment = [
        ("CLIENT_BUGGIFY_ENABLE", ""),
        ("CLIENT_BUGGIFY_SECTION_ACTIVATED_PROBABILITY", "50"),
        ("CLIENT_BUGGIFY_SECTION_FIRED_PROBABILITY", "20"),
    ];
    let environment = environment.into_iter().map(set).collect();
    storm(TerndOptions { environment, ..options(&fdb) }, &mut |server, _| server.kill_and_restart()).await;
}

/// `ternd` starts without FoundationDB, says what is missing, and serves as soon as it is there; later it says that it is not ready.
#[test]
fn ternd_says_that_foundationdb_is_missing_and_goes_on_when_it_comes() {
    let Some(mut fdb) = FoundationDb::start() else { return };
    fdb.kill();
    let options = options(&fdb);
    let server = std::thread::scope(|scope| {
        let starting = scope.spawn(|| Ternd::start_with(options));
        // It waits for as long as that takes; what it says is looked at when it runs.
        std::thread::sleep(Duration::from_secs(7));
        fdb.run();
        starting.join().expect("it starts in the end")
    });
    let said = server.said("waits for its store");
    assert!(said.contains("FoundationDB does not answer") && said.contains("127.0.0.1"), "{said}");
    assert_eq!(server.http("/readyz").0, 200);
    fdb.pause();
    assert!(becomes(&server, 503).contains("FoundationDB does not answer"));
    fdb.go_on();
    becomes(&server, 200);
    fdb.lock();
    assert!(becomes(&server, 503).contains("FoundationDB is locked"));
    fdb.unlock();
    becomes(&server, 200);
}

/// Waits until it is ready, or is not, and gives what it says.
fn becomes(server: &Ternd, status: u16) -> String {
    let since = Instant::now();
    loop {
        let (is, says) = server.http("/readyz");
        if is == status {
            return says;
        }
        assert!(since.elapsed() < Duration::from_secs(60), "it stays {is}: {says}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Another `ternd` on the same keys takes the store over: the first one ends, and says so.
#[test]
fn a_second_ternd_takes_the_store_over_and_the_first_one_ends() {
    let Some(fdb) = FoundationDb::start() else { return };
    let mut first = Ternd::start_with(options(&fdb));
    let data = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let second = Ternd::start_in(options(&fdb), &data).expect("it takes the store over");
    assert_eq!(second.http("/readyz").0, 200);
    let said = first.said("has taken the store over");
    assert!(said.contains("another ternd"), "{said}");
    assert!(!first.wait().success());
}

/// Without its files nothing starts, and it is said what is missing.
#[test]
fn a_cluster_file_that_is_missing_is_told() {
    let arguments =
        ["--engine", "fdb", "--fdb-cluster-file", "/nowhere/fdb.cluster"].map(str::to_owned).to_vec();
    let said =
        Ternd::try_start(TerndOptions { arguments, ..TerndOptions::default() }).expect_err("it can't start");
    assert!(said.contains("/nowhere/fdb.cluster") && said.contains("--fdb-cluster-file"), "{said}");
}
