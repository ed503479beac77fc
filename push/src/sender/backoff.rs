//! How long a notice waits for its next try: full jitter (AWS, "Exponential Backoff And Jitter"), or as long as the service asks.

use std::time::Duration;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// The longest wait behind the first try. It doubles with each.
    pub base: Duration,
    /// The longest one behind any.
    pub cap: Duration,
    /// The longest one that a service may ask for. What it asks beyond is not waited for.
    pub asked_max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        let (base, cap) = (Duration::from_millis(500), Duration::from_secs(60));
        Self { base, cap, asked_max: Duration::from_secs(3600) }
    }
}

impl Backoff {
    /// How long to wait behind so many tries, in ms; `asked` is what the service said, `random` any number.
    pub(super) fn wait_ms(&self, tries: u32, asked: Option<Duration>, random: u64) -> u64 {
        let doubled = self.base.as_millis().saturating_mul(1 << tries.saturating_sub(1).min(32));
        let longest = doubled.min(self.cap.as_millis());
        let jittered = ((u128::from(random) * (longest + 1)) >> 64) as u64;
        let asked = asked.unwrap_or_default().min(self.asked_max);
        // A fraction of a second that is asked for is waited for, not cut.
        jittered.max(asked.as_millis() as u64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_to_a_cap_and_what_is_asked_for_beats_them_to_an_hour() {
        let backoff = Backoff::default();
        let longest = |tries| backoff.wait_ms(tries, None, u64::MAX);
        assert_eq!(
            [1, 2, 3, 4, 7, 8, 9, 99].map(longest),
            [500, 1000, 2000, 4000, 32_000, 60_000, 60_000, 60_000]
        );
        assert_eq!(backoff.wait_ms(9, None, 0), 0);
        let asked = |s| backoff.wait_ms(1, Some(Duration::from_secs(s)), u64::MAX);
        assert_eq!([0, 7, 3600, 86_400].map(asked), [500, 7000, 3_600_000, 3_600_000]);
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_the_longest(tries in 0_u32..100, asked_s in prop::option::of(0_u64..u64::MAX), random: u64) {
            let asked = asked_s.map(Duration::from_secs);
            let wait_ms = Backoff::default().wait_ms(tries, asked, random);
            prop_assert!(wait_ms <= 3_600_000);
            let asked_ms = asked_s.unwrap_or(0).min(3600) * 1000;
            prop_assert!(wait_ms >= asked_ms);
        }
    }
}
