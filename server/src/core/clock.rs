//! The brain's time: the wall clock at the start, carried on by the monotonic one, so that it never falls.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One node's clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    started_unix: Duration,
}

impl Clock {
    /// A clock that starts at the wall clock's time.
    pub fn start() -> Self {
        let started_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_unix }
    }

    /// Ms since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        (self.started_unix + self.started.elapsed()).as_millis() as u64
    }
}
