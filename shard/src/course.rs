//! How the time that a brain is given follows a wall clock, which may be set: pure, both clocks are arguments.
//!
//! Between two looks at the wall clock it goes with the monotonic one, so it is even. A step forward is followed at once.
//! A step back by no more than `SLOW_MS_MAX` is followed without ever falling: the time goes at half speed until the
//! wall clock has caught up, for no longer than twice the step. A longer one is followed at once, and the time falls: that
//! happens when the clock was set wrongly before, and what has seen the wrong time counts it as now.

/// The longest step back that is followed by going slowly.
const SLOW_MS_MAX: i64 = 60_000;

/// Less is no step: two reads of two clocks.
const STEP_MS: i64 = 100;

/// How the time goes, from some look at the wall clock on. Moments are ms since the start of a monotonic clock.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Course {
    /// What is added to the ms since the start.
    pub offset_ms: i64,
    /// From when on it goes at half speed, and how much that is to take away.
    pub slow_from_ms: u64,
    /// See `slow_from_ms`.
    pub slow_ms: i64,
}

impl Course {
    /// The time is the wall clock's.
    pub fn of_wall(elapsed_ms: u64, wall_ms: i64) -> Self {
        Self { offset_ms: wall_ms - elapsed_ms as i64, slow_from_ms: 0, slow_ms: 0 }
    }

    /// The time at a moment, in ms since the Unix epoch.
    pub fn at(&self, elapsed_ms: u64) -> u64 {
        let gone = elapsed_ms.saturating_sub(self.slow_from_ms) as i64;
        let taken = (gone / 2).min(self.slow_ms);
        (elapsed_ms as i64 + self.offset_ms - taken).max(0) as u64
    }

    /// The wall clock says this at a moment: how the time goes from here on, and by how many ms the wall clock has stepped. `None`: as
    /// before.
    pub fn follow(&self, elapsed_ms: u64, wall_ms: i64) -> Option<(Self, i64)> {
        // Where it is to be: where it is once it has been slow for long enough.
        let aim = elapsed_ms as i64 + self.offset_ms - self.slow_ms;
        let step = wall_ms - aim;
        if step.abs() < STEP_MS {
            return None;
        }
        let now = self.at(elapsed_ms) as i64;
        let ahead = now - wall_ms;
        let next = if (1..=SLOW_MS_MAX).contains(&ahead) {
            Self { offset_ms: now - elapsed_ms as i64, slow_from_ms: elapsed_ms, slow_ms: ahead }
        } else {
            Self::of_wall(elapsed_ms, wall_ms)
        };
        Some((next, step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that follows.
    struct Clock(Course);

    impl Clock {
        fn follow(&mut self, elapsed_ms: u64, wall_ms: i64) -> Option<i64> {
            let (next, step) = self.0.follow(elapsed_ms, wall_ms)?;
            self.0 = next;
            Some(step)
        }

        fn at(&self, elapsed_ms: u64) -> u64 {
            self.0.at(elapsed_ms)
        }
    }

    fn clock(wall_ms: i64) -> Clock {
        Clock(Course::of_wall(0, wall_ms))
    }

    #[test]
    fn a_step_forward_is_followed_at_once() {
        let mut clock = clock(1_000_000);
        assert_eq!(clock.follow(1_000, 1_001_050), None, "two reads of two clocks");
        assert_eq!(clock.follow(2_000, 1_502_000), Some(500_000));
        assert_eq!(clock.at(2_500), 1_502_500);
    }

    #[test]
    fn a_short_step_back_is_followed_in_twice_its_time_and_the_clock_never_falls() {
        let mut clock = clock(1_000_000);
        assert_eq!(clock.follow(10_000, 1_010_000 - 20_000), Some(-20_000));
        let times: Vec<_> = (10_000..60_000).map(|elapsed| clock.at(elapsed)).collect();
        assert!(times.is_sorted());
        assert_eq!(clock.at(50_000), 1_030_000, "40 s later it is where the wall clock is");
        assert_eq!(clock.at(60_000), 1_040_000);
        assert_eq!(clock.follow(60_000, 1_040_000), None);
        // Another one while it still follows the first.
        assert_eq!(clock.follow(70_000, 1_040_000), Some(-10_000));
        assert_eq!(clock.follow(75_000, 1_035_000), Some(-10_000));
        let times: Vec<_> = (75_000..130_000).map(|elapsed| clock.at(elapsed)).collect();
        assert!(times.is_sorted());
        assert_eq!(clock.at(130_000), 1_090_000);
    }

    #[test]
    fn a_long_step_back_is_followed_at_once() {
        const DAYS_60_MS: i64 = 60 * 24 * 3_600_000;
        let mut clock = clock(1_000_000 + DAYS_60_MS);
        assert_eq!(clock.follow(1_000, 1_001_000), Some(-DAYS_60_MS));
        assert_eq!(clock.at(1_500), 1_001_500);
    }
}
