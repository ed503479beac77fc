//! How long a group may gather before it is written, from what syncs take and what is aimed at.
//!
//! A batch that comes just after a group was closed waits for that group's sync, for its own group's window, and for its own
//! sync. So the window is what two slow syncs leave of the aim. A slow sync is the slowest one of the last few hundred,
//! forgotten little by little: a disk that becomes slow closes the window at once, one that becomes fast opens it slowly.

use std::time::Duration;

/// The share of the aim that is used; the rest is for the way to the client, and for what is slower than what was seen.
const USED_SHARE: f64 = 0.7;

/// How much of the slowest sync is forgotten with each group.
const FORGOTTEN: f64 = 1.0 / 256.0;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    aim: Duration,
    slow_sync: Duration,
}

impl Window {
    /// A window for an aim; with an aim of zero it is always closed.
    pub(crate) fn new(aim: Duration) -> Self {
        Self { aim, slow_sync: Duration::ZERO }
    }

    /// A group was written and synced in `took`.
    pub(crate) fn synced(&mut self, took: Duration) {
        self.slow_sync = self.slow_sync.mul_f64(1.0 - FORGOTTEN).max(took);
    }

    /// How long a group may gather.
    pub(crate) fn length(&self) -> Duration {
        self.aim.mul_f64(USED_SHARE).saturating_sub(self.slow_sync * 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn without_an_aim_nothing_waits() {
        assert_eq!(Window::new(Duration::ZERO).length(), Duration::ZERO);
    }

    #[test]
    fn a_slow_disk_closes_the_window_at_once_and_a_fast_one_opens_it_slowly() {
        let mut window = Window::new(ms(20));
        window.synced(ms(1));
        assert_eq!(window.length(), ms(12));
        window.synced(ms(10));
        assert_eq!(window.length(), Duration::ZERO);
        let mut last = window.length();
        for _ in 0..2000 {
            window.synced(ms(1));
            assert!(window.length() >= last && window.length() <= ms(12));
            last = window.length();
        }
        assert_eq!(last, ms(12));
    }
}
