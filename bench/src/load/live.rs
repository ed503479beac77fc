//! What a run says of itself while it runs: a line on the terminal that is written again each second.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Begins the line anew.
pub const CLEAR: &str = "\r\x1b[K";

/// What has been counted since the last look. Threads add to it.
#[derive(Debug, Default)]
pub struct Live {
    acknowledged: AtomicU64,
    errors: AtomicU64,
    slowest_us: AtomicU64,
}

impl Live {
    /// A message was acknowledged after so long.
    pub fn acknowledged(&self, after: Duration) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        self.slowest_us.fetch_max(after.as_micros() as u64, Ordering::Relaxed);
    }

    /// Something went wrong.
    pub fn error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Shows the line until it is over, on a terminal; `lasts` is how long that will be, if it is known.
    pub fn show(&self, lasts: Option<Duration>, over: &AtomicBool) {
        if crate::is_quiet() || !std::io::stderr().is_terminal() {
            return;
        }
        let (begin, mut looked) = (Instant::now(), Instant::now());
        while !over.load(Ordering::Acquire) {
            thread::park_timeout(Duration::from_millis(200));
            if looked.elapsed() < Duration::from_secs(1) {
                continue;
            }
            let rate = self.acknowledged.swap(0, Ordering::Relaxed) as f64 / looked.elapsed().as_secs_f64();
            let slowest_ms = self.slowest_us.swap(0, Ordering::Relaxed) as f64 / 1000.0;
            let (at, errors) = (begin.elapsed().as_secs(), self.errors.load(Ordering::Relaxed));
            let of = lasts.map(|lasts| format!(" of {}", lasts.as_secs())).unwrap_or_default();
            looked = Instant::now();
            // A terminal that has gone is no reason to stop.
            let _ = write!(
                std::io::stderr(),
                "{CLEAR}{at}{of} s   {rate:.0}/s acknowledged   slowest {slowest_ms:.1} ms   {errors} errors"
            );
        }
        let _ = write!(std::io::stderr(), "{CLEAR}");
    }
}
