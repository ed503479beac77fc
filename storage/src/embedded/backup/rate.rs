//! How fast a backup copies.

use std::time::Duration;

/// A bucket of bytes that fills at a rate. The log takes from it without asking, and may leave it empty for a while; a base waits for
/// its share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// Bytes a second.
    per_s: u64,
    left: f64,
    at: Duration,
    /// When a base was last given a chunk.
    given: Duration,
}

/// The least: a base gets a chunk a second, whatever the log takes.
pub const RATE_MIN: u64 = 1 << 20;

/// In this time a base gets a chunk in any case.
const STARVED: Duration = Duration::from_secs(1);

/// More than the rate gives in this time a base never waits for, however much the log took at once.
const OWED_S: f64 = 10.0;

impl Rate {
    pub(super) fn new(per_s: u64) -> Self {
        Self { per_s: per_s.max(RATE_MIN), left: 0.0, at: Duration::ZERO, given: Duration::ZERO }
    }

    pub(super) fn set(&mut self, per_s: u64) {
        self.per_s = per_s.max(RATE_MIN);
    }

    pub(super) fn per_s(&self) -> u64 {
        self.per_s
    }

    /// So many bytes were written.
    pub(super) fn took(&mut self, bytes: u64) {
        self.left = (self.left - bytes as f64).max(-OWED_S * self.per_s as f64);
    }

    /// How long a base is to wait before its next chunk; zero: not at all, and then it takes one.
    pub(super) fn wait(&mut self, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        // What was not used within a tenth of a second is gone: a burst would be no rate.
        let most = self.per_s as f64 / 10.0;
        self.left = (self.left + passed * self.per_s as f64).min(most);
        let starves = (self.given + STARVED).saturating_sub(now);
        if self.left >= 0.0 || starves.is_zero() {
            self.given = now;
            return Duration::ZERO;
        }
        Duration::from_secs_f64(-self.left / self.per_s as f64).min(starves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_keeps_to_the_rate() {
        let mut rate = Rate::new(2 << 20);
        let (mut now, mut bytes) = (Duration::ZERO, 0);
        while now < Duration::from_secs(20) {
            let wait = rate.wait(now);
            now += wait.max(Duration::from_millis(1));
            if wait.is_zero() {
                rate.took(256 << 10);
                bytes += 256 << 10;
            }
        }
        let (least, most) = (39 << 20, 41 << 20);
        assert!((least..=most).contains(&bytes), "{bytes} bytes in 20 s of 2 MiB each");
        rate.took(1 << 30);
        assert!(!rate.wait(now).is_zero());
        assert!(rate.wait(now + STARVED).is_zero(), "the log alone does not keep a base from its end");
    }
}
