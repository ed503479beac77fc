//! The brain's time: the machine's monotonic clock, set by its wall clock, whose steps it follows.
//!
//! Between two looks at the wall clock it goes with the monotonic one, so it is even. A step forward is followed at once.
//! A step back by no more than [`SLOW_MS_MAX`] is followed without ever falling: the clock goes at half speed until the
//! wall clock has caught up, for no longer than twice the step. A longer one is followed at once, and the clock falls: that
//! happens when it was set wrongly before, and what has seen the wrong time counts it as now.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often [`Clock::follow`] should be called.
pub const FOLLOW: Duration = Duration::from_secs(1);

/// The longest step back that is followed by going slowly.
const SLOW_MS_MAX: i64 = 60_000;

/// Less is no step: two reads of two clocks.
const STEP_MS: i64 = 100;

/// One node's clock.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    /// One is read, and the other one written before it is read in its place: a second later at the earliest.
    courses: [Course; 2],
    current: AtomicUsize,
}

/// How the clock goes.
#[derive(Debug, Default)]
struct Course {
    /// What is added to the ms since the start.
    offset_ms: AtomicI64,
    /// From when on it goes at half speed, in ms since the start, and how much that is to take away.
    slow_from_ms: AtomicU64,
    slow_ms: AtomicI64,
}

fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

impl Clock {
    /// A clock that starts at the wall clock's time.
    pub fn start() -> Self {
        let inner =
            Inner { started: Instant::now(), courses: Default::default(), current: AtomicUsize::new(0) };
        inner.go(wall_ms(), 0, 0);
        Self(Arc::new(inner))
    }

    /// Ms since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        self.0.at(self.0.started.elapsed().as_millis() as u64)
    }

    /// Looks at the wall clock, and follows it. Gives by how many ms it has stepped, if it has. For one thread alone.
    pub fn follow(&self) -> Option<i64> {
        self.0.follow(self.0.started.elapsed().as_millis() as u64, wall_ms())
    }
}

impl Inner {
    fn course(&self) -> &Course {
        &self.courses[self.current.load(Ordering::Acquire) % 2]
    }

    fn go(&self, offset_ms: i64, slow_from_ms: u64, slow_ms: i64) {
        let next = self.current.load(Ordering::Acquire) + 1;
        let course = &self.courses[next % 2];
        course.offset_ms.store(offset_ms, Ordering::Release);
        course.slow_from_ms.store(slow_from_ms, Ordering::Release);
        course.slow_ms.store(slow_ms, Ordering::Release);
        self.current.store(next, Ordering::Release);
    }

    fn at(&self, elapsed_ms: u64) -> u64 {
        let course = self.course();
        let gone = elapsed_ms.saturating_sub(course.slow_from_ms.load(Ordering::Acquire)) as i64;
        let taken = (gone / 2).min(course.slow_ms.load(Ordering::Acquire));
        (elapsed_ms as i64 + course.offset_ms.load(Ordering::Acquire) - taken).max(0) as u64
    }

    fn follow(&self, elapsed_ms: u64, wall_ms: i64) -> Option<i64> {
        let course = self.course();
        // Where it is to be: where it is once it has been slow for long enough.
        let aim = elapsed_ms as i64 + course.offset_ms.load(Ordering::Acquire)
            - course.slow_ms.load(Ordering::Acquire);
        let step = wall_ms - aim;
        if step.abs() < STEP_MS {
            return None;
        }
        let now = self.at(elapsed_ms) as i64;
        let ahead = now - wall_ms;
        if (1..=SLOW_MS_MAX).contains(&ahead) {
            self.go(now - elapsed_ms as i64, elapsed_ms, ahead);
        } else {
            self.go(wall_ms - elapsed_ms as i64, 0, 0);
        }
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(wall_ms: i64) -> Inner {
        let Clock(inner) = Clock::start();
        let inner = Arc::into_inner(inner).expect("nobody else has it");
        inner.go(wall_ms, 0, 0);
        inner
    }

    #[test]
    fn a_step_forward_is_followed_at_once() {
        let clock = clock(1_000_000);
        assert_eq!(clock.follow(1_000, 1_001_050), None, "two reads of two clocks");
        assert_eq!(clock.follow(2_000, 1_502_000), Some(500_000));
        assert_eq!(clock.at(2_500), 1_502_500);
    }

    #[test]
    fn a_short_step_back_is_followed_in_twice_its_time_and_the_clock_never_falls() {
        let clock = clock(1_000_000);
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
        let clock = clock(1_000_000 + DAYS_60_MS);
        assert_eq!(clock.follow(1_000, 1_001_000), Some(-DAYS_60_MS));
        assert_eq!(clock.at(1_500), 1_001_500);
    }
}
