//! What was acknowledged is there, once and in order, whatever happens to the server: it is killed, or stops for a
//! while, at random moments under load.
//!
//! `TERN_STORM_SEED=N` repeats the moments and the traffic of a run, as far as the machine's timing allows.

#![allow(clippy::print_stdout, reason = "a failed run is repeated with the seed that it printed")]

mod people;
mod storm;

use storm::storm;
use tern_testkit::TerndOptions;

fn options() -> TerndOptions {
    TerndOptions { cores: 4, ..TerndOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_kills_in_thirty_seconds_lose_double_and_reorder_nothing() {
    storm(options(), &mut |server, _| server.kill_and_restart()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_pauses_in_thirty_seconds_lose_double_and_reorder_nothing() {
    storm(options(), &mut |server, lasts| {
        server.pause();
        std::thread::sleep(lasts);
        server.go_on();
    })
    .await;
}
