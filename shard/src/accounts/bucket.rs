//! A token bucket: how often something may be done, and when again. Pure: the time is an argument.
//!
//! The state is one number, the time up to which what was done is paid for (the generic cell rate algorithm, ITU-T I.371, with a
//! burst). A full bucket is paid for up to now, so it need not be kept at all.

use std::ops::RangeInclusive;

use crate::limits::BUCKETS_MAX;
use crate::maps::{Hashing, Map};

/// How often: so many in a window on the average, and so many at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rate {
    /// What one takes, in microseconds.
    interval_us: u64,
    burst: u64,
}

impl Rate {
    /// `max` in each `window_ms`, and up to `burst` at once, at least 1; `None` if `max` is 0, which sets no limit.
    pub(super) fn new(max: u32, window_ms: u64, burst: u32) -> Option<Self> {
        let interval_us = (window_ms * 1000).checked_div(u64::from(max))?;
        // Rounded up, so that it is never more.
        let rest = u64::from(!(window_ms * 1000).is_multiple_of(u64::from(max)));
        Some(Self { interval_us: (interval_us + rest).max(1), burst: u64::from(burst.max(1)) })
    }

    /// Takes from a bucket as many as there are of so many, if it has the least of them: no more than its burst, and at least one. `Err`:
    /// nothing is taken, and after so many milliseconds, and not before, there are as many.
    fn take(self, paid_us: &mut u64, now_ms: u64, of: RangeInclusive<u32>) -> Result<u32, u64> {
        let now_us = now_ms.saturating_mul(1000);
        let whole_us = self.interval_us.saturating_mul(self.burst);
        // Emptier than empty is a bucket only if the time has gone back: what was taken then counts no more.
        let over = *paid_us > now_us.saturating_add(whole_us);
        let paid = if over { now_us } else { now_us.max(*paid_us) };
        let end_us = now_us.saturating_add(whole_us);
        let (least, most) = (u64::from((*of.start()).max(1)), u64::from((*of.end()).max(1)));
        let over_us = paid.saturating_add(self.interval_us.saturating_mul(least)).saturating_sub(end_us);
        if over_us > 0 {
            return Err(over_us.div_ceil(1000));
        }
        let taken = ((end_us - paid) / self.interval_us).min(most);
        *paid_us = paid.saturating_add(taken * self.interval_us);
        Ok(taken as u32)
    }
}

/// The buckets of many, of one rate. One that is full takes no room.
#[derive(Debug)]
pub(super) struct Buckets<K> {
    paid_us: Map<K, u64>,
    swept_ms: u64,
}

impl<K: Eq + std::hash::Hash> Buckets<K> {
    /// All full.
    pub(super) fn new(hashing: Hashing) -> Self {
        Self { paid_us: Map::with_hasher(hashing), swept_ms: 0 }
    }

    /// Takes one of somebody's; without a rate there is no limit. `Err`: nothing is taken, and after so many milliseconds there is one.
    pub(super) fn take(&mut self, whose: K, rate: Option<Rate>, now_ms: u64) -> Result<(), u64> {
        self.take_of(whose, rate, now_ms, 1..=1).map(drop)
    }

    /// The same for as many as there are of so many, if the least of them are there.
    pub(super) fn take_of(
        &mut self,
        whose: K,
        rate: Option<Rate>,
        now_ms: u64,
        of: RangeInclusive<u32>,
    ) -> Result<u32, u64> {
        let Some(rate) = rate else { return Ok(*of.end()) };
        if let Some(paid_us) = self.paid_us.get_mut(&whose) {
            return rate.take(paid_us, now_ms, of);
        }
        let mut paid_us = 0;
        let taken = rate.take(&mut paid_us, now_ms, of)?;
        if self.has_room(now_ms) {
            self.paid_us.insert(whose, paid_us);
        }
        Ok(taken)
    }

    /// So many were taken of somebody's and not used.
    pub(super) fn give_back(&mut self, whose: &K, rate: Option<Rate>, unused: u32) {
        if let (Some(rate), Some(paid_us)) = (rate, self.paid_us.get_mut(whose)) {
            *paid_us = paid_us.saturating_sub(rate.interval_us.saturating_mul(u64::from(unused)));
        }
    }

    /// When those that are full were forgotten last.
    pub(super) fn swept_ms(&self) -> u64 {
        self.swept_ms
    }

    /// Takes for full what somebody has used up.
    pub(super) fn forget(&mut self, whose: &K) {
        self.paid_us.remove(whose);
    }

    /// Whether one more may be kept. If so many are not full that there is no room, those who come are not counted: those
    /// that are near their limit stay known.
    fn has_room(&mut self, now_ms: u64) -> bool {
        if self.paid_us.len() >= BUCKETS_MAX && self.swept_ms != now_ms {
            self.sweep(now_ms);
        }
        self.paid_us.len() < BUCKETS_MAX
    }

    /// Takes out some: whose they are, and up to when each is paid for, in microseconds.
    pub(super) fn take_some(&mut self, is_one: impl Fn(&K) -> bool) -> Vec<(K, u64)> {
        self.paid_us.extract_if(|whose, _| is_one(whose)).collect()
    }

    /// Puts in what was taken out elsewhere, as far as there is room.
    pub(super) fn put_back(&mut self, taken: Vec<(K, u64)>) {
        let room = BUCKETS_MAX.saturating_sub(self.paid_us.len());
        self.paid_us.extend(taken.into_iter().take(room));
    }

    /// Forgets those that are full.
    pub(super) fn sweep(&mut self, now_ms: u64) {
        self.swept_ms = now_ms;
        let now_us = now_ms.saturating_mul(1000);
        self.paid_us.retain(|_, paid_us| *paid_us > now_us);
        if self.paid_us.is_empty() {
            self.paid_us.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_and_then_one_at_a_time() {
        let rate = Rate::new(60, 60_000, 3);
        let mut buckets = Buckets::new(Hashing::new(1, 2));
        for _ in 0..3 {
            assert_eq!(buckets.take("ann", rate, 1_000_000), Ok(()));
        }
        assert_eq!(buckets.take("ann", rate, 1_000_000), Err(1000));
        assert_eq!(buckets.take("ann", rate, 1_000_400), Err(600));
        assert_eq!(buckets.take("bob", rate, 1_000_400), Ok(()));
        assert_eq!(buckets.take("ann", rate, 1_001_000), Ok(()));
        assert_eq!(buckets.paid_us.len(), 2);
        buckets.sweep(1_001_400);
        assert_eq!(buckets.paid_us.len(), 1, "a full one takes no room");
        assert_eq!(Rate::new(0, 60_000, 3), None);
    }

    #[test]
    fn many_are_taken_together_or_not_at_all() {
        let rate = Rate::new(60, 60_000, 10);
        let mut buckets = Buckets::new(Hashing::new(1, 2));
        assert_eq!(buckets.take_of("ann", rate, 1_000_000, 7..=7), Ok(7));
        assert_eq!(buckets.take_of("ann", rate, 1_000_000, 5..=5), Err(2000), "three are left, and stay");
        assert_eq!(buckets.take_of("ann", rate, 1_000_000, 3..=3), Ok(3));
        assert_eq!(buckets.take_of("ann", rate, 1_009_999, 10..=10), Err(1));
        assert_eq!(buckets.take_of("ann", rate, 1_010_000, 10..=10), Ok(10));
    }

    #[test]
    fn those_near_their_limit_stay_known_when_there_are_too_many() {
        let rate = Rate::new(60, 60_000, 1);
        let mut buckets = Buckets::new(Hashing::new(1, 2));
        for number in 0..BUCKETS_MAX + 10 {
            assert_eq!(buckets.take(number, rate, 5_000), Ok(()));
        }
        assert_eq!(buckets.paid_us.len(), BUCKETS_MAX);
        assert!(buckets.take(7, rate, 5_000).is_err());
        assert_eq!(buckets.take(BUCKETS_MAX + 20, rate, 6_000), Ok(()));
        assert_eq!(buckets.paid_us.len(), 1, "all of them are full by now");
    }

    #[test]
    fn what_is_leased_and_not_used_is_there_again_and_no_more() {
        let rate = Rate::new(60, 60_000, 10);
        let mut buckets = Buckets::new(Hashing::new(1, 2));
        assert_eq!(buckets.take_of("ann", rate, 1_000_000, 1..=8), Ok(8));
        assert_eq!(buckets.take_of("ann", rate, 1_000_000, 1..=8), Ok(2), "what there is");
        assert_eq!(buckets.take_of("ann", rate, 1_000_000, 1..=8), Err(1000));
        buckets.give_back(&"ann", rate, 5);
        assert_eq!(buckets.take_of("ann", rate, 1_000_000, 1..=8), Ok(5));
        buckets.give_back(&"ann", rate, 1_000_000);
        buckets.give_back(&"bob", rate, 1_000_000);
        assert_eq!(buckets.take_of("ann", rate, 1_000_000, 1..=100), Ok(10), "never more than the burst");
        assert_eq!(buckets.take_of("bob", rate, 1_000_000, 1..=100), Ok(10));
    }

    proptest! {
        /// Whatever is asked when: never more than the burst and the rate give, and what is said of the wait is true.
        #[test]
        fn never_more_than_burst_and_rate_and_every_wait_is_true(
            max in 1u32..2000,
            window_ms in prop::sample::select(vec![60_000u64, 3_600_000]),
            burst in 1u32..400,
            steps in prop::collection::vec((0u64..5_000, 1u32..40), 1..60),
        ) {
            let rate = Rate::new(max, window_ms, burst).expect("a limit");
            let (start_ms, mut now_ms, mut paid_us, mut taken) = (1_000_000u64, 1_000_000u64, 0, 0u64);
            for (pause_ms, asks) in steps {
                now_ms += pause_ms;
                for _ in 0..asks {
                    match rate.take(&mut paid_us, now_ms, 1..=1) {
                        Ok(_) => taken += 1,
                        Err(wait_ms) => {
                            let (mut early, mut due) = (paid_us, paid_us);
                            prop_assert!(rate.take(&mut early, now_ms + wait_ms - 1, 1..=1).is_err());
                            prop_assert!(rate.take(&mut due, now_ms + wait_ms, 1..=1).is_ok());
                        }
                    }
                }
                let given = u64::from(burst) + (now_ms - start_ms) * u64::from(max) / window_ms;
                prop_assert!(taken <= given, "{taken} of {given}");
            }
        }

        /// Whoever has used a bucket up waits for one interval, wherever the clock has gone meanwhile.
        #[test]
        fn a_clock_that_goes_back_shuts_nobody_out(
            burst in 1u32..50,
            times in prop::collection::vec(0u64..10_000_000_000, 1..80),
        ) {
            let rate = Rate::new(60, 60_000, burst).expect("a limit");
            let mut paid_us = 0;
            for now_ms in times {
                match rate.take(&mut paid_us, now_ms, 1..=1) {
                    Ok(_) => {}
                    Err(wait_ms) => prop_assert!(wait_ms <= 1000, "an empty bucket has one after a second: {wait_ms}"),
                }
            }
        }
    }
}
