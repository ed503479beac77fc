//! What is measured.

pub mod idle;
pub mod limits;
pub mod pairs;

use std::time::Duration;

use crate::load::{Happened, LinkId, Pool};

/// How long a connection may take to be logged in.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// Turns a pool until so many connections are ready that were not before.
fn until_ready(pool: &mut Pool, mut count: usize) -> Result<(), String> {
    let begin = std::time::Instant::now();
    while count > 0 {
        let mut lost = None;
        let mut happen = |_: LinkId, happened: Happened| match happened {
            Happened::Ready => count -= 1,
            Happened::Frame(_) => {}
            Happened::Lost(why) => lost = Some(why),
        };
        let turned = pool.turn(Duration::from_millis(100), &mut happen);
        turned.map_err(|error| format!("the ring has failed: {error}"))?;
        if let Some(why) = lost {
            return Err(format!("a connection was lost: {why}"));
        }
        if begin.elapsed() > READY_TIMEOUT {
            return Err(format!("{count} connections are not ready after {} s", READY_TIMEOUT.as_secs()));
        }
    }
    Ok(())
}
