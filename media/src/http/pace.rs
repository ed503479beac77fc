//! How fast bytes of uploads may come, all together.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// What was not taken of it is had later for so long, and no longer.
const CREDIT: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Debug)]
pub(super) struct Pace {
    /// 0: any number.
    bytes_per_s: u64,
    /// From when on the next may be taken. Whoever waits first is served first: all have the same share, piece by piece.
    next: Mutex<Instant>,
}

impl Pace {
    /// So many bytes a second; 0: as they come.
    pub(super) fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s, next: Mutex::new(Instant::now()) }
    }

    /// Comes back when so many bytes more may be taken.
    pub(super) async fn take(&self, bytes: u64) {
        if self.bytes_per_s == 0 {
            return;
        }
        let mut next = self.next.lock().await;
        let from = (*next).max(Instant::now().checked_sub(CREDIT).unwrap_or(*next));
        sleep_until(from).await;
        *next = from + Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_come_as_fast_as_they_may_and_what_was_not_taken_for_long_is_not_made_up_for() {
        let begun = Instant::now();
        let pace = Pace::new(1_000);
        for _ in 0..10 {
            pace.take(100).await;
        }
        // The last is taken when those before it have had their time.
        assert_eq!(begun.elapsed(), Duration::from_millis(900));
        tokio::time::advance(Duration::from_secs(60)).await;
        let again = Instant::now();
        for _ in 0..10 {
            pace.take(100).await;
        }
        assert_eq!(again.elapsed(), Duration::from_millis(900) - CREDIT);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_bound_nobody_waits() {
        let (begun, pace) = (Instant::now(), Pace::new(0));
        pace.take(u64::MAX).await;
        pace.take(1).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
