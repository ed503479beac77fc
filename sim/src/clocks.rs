//! The clocks of a world: none goes as another one does, and any may be set.

use std::time::Duration;

use tern_shard::course::Course;

/// When a world begins, in ms since the Unix epoch.
pub(crate) const EPOCH_MS: i64 = 1_800_000_000_000;

const MILLION: i64 = 1_000_000;

/// A machine's wall clock, which may be set, as somebody reads it at a moment of the world.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Wall {
    set_by_ms: i64,
}

impl Wall {
    /// It is set to another time.
    pub(crate) fn jump(&mut self, by_ms: i64) {
        self.set_by_ms += by_ms;
    }

    /// Ms since the Unix epoch.
    pub(crate) fn ms(self, now: Duration) -> i64 {
        EPOCH_MS + now.as_millis() as i64 + self.set_by_ms
    }
}

/// The time of a node's process: what the shell gives its brains, by the product's own rule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeClock {
    started: Duration,
    course: Course,
}

impl NodeClock {
    /// A process starts.
    pub(crate) fn start(now: Duration, wall: Wall) -> Self {
        Self { started: now, course: Course::of_wall(0, wall.ms(now)) }
    }

    fn elapsed_ms(&self, now: Duration) -> u64 {
        now.saturating_sub(self.started).as_millis() as u64
    }

    /// Ms since the Unix epoch.
    pub(crate) fn now_ms(&self, now: Duration) -> u64 {
        self.course.at(self.elapsed_ms(now))
    }

    /// Looks at the wall clock, as the minder does every second.
    pub(crate) fn follow(&mut self, now: Duration, wall: Wall) {
        if let Some((course, _)) = self.course.follow(self.elapsed_ms(now), wall.ms(now)) {
            self.course = course;
        }
    }
}

/// A device's clocks: the monotonic one goes too fast or too slow, the wall clock is what somebody has set.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct DeviceClock {
    /// By how many parts of a million it is too fast.
    pub(crate) ahead_ppm: i64,
    pub(crate) wall: Wall,
}

impl DeviceClock {
    /// Its monotonic clock, at a moment of the world.
    pub(crate) fn monotonic(self, now: Duration) -> Duration {
        scale(now, (MILLION + self.ahead_ppm) as u128, MILLION as u128)
    }

    /// The moment of the world at which its monotonic clock has come to a time.
    pub(crate) fn moment(self, monotonic: Duration) -> Duration {
        let moment = scale(monotonic, MILLION as u128, (MILLION + self.ahead_ppm) as u128);
        // What is rounded down may lie just before.
        if self.monotonic(moment) < monotonic { moment + Duration::from_nanos(2) } else { moment }
    }
}

fn scale(time: Duration, by: u128, of: u128) -> Duration {
    Duration::from_nanos((time.as_nanos() * by / of) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_woken_when_its_own_clock_says_so() {
        for ahead_ppm in [-50_000, -1, 0, 1, 333, 50_000] {
            let clock = DeviceClock { ahead_ppm, ..DeviceClock::default() };
            for ns in [0, 1, 999, 1_000_001, 123_456_789_012, 3_600_000_000_000] {
                let wanted = Duration::from_nanos(ns);
                let moment = clock.moment(wanted);
                assert!(clock.monotonic(moment) >= wanted, "{ahead_ppm} {ns}: it would be woken too early");
                assert!(clock.monotonic(moment) - wanted < Duration::from_nanos(10), "{ahead_ppm} {ns}");
            }
        }
    }

    #[test]
    fn a_node_follows_its_wall_clock_when_it_looks() {
        let (mut wall, second) = (Wall::default(), Duration::from_secs(1));
        let mut clock = NodeClock::start(second, wall);
        wall.jump(3_600_000);
        assert_eq!(clock.now_ms(2 * second), EPOCH_MS as u64 + 2000, "it has not looked yet");
        clock.follow(2 * second, wall);
        assert_eq!(clock.now_ms(3 * second), EPOCH_MS as u64 + 3000 + 3_600_000);
        wall.jump(-30_000);
        clock.follow(3 * second, wall);
        assert_eq!(
            clock.now_ms(4 * second),
            EPOCH_MS as u64 + 3500 + 3_600_000,
            "it goes slowly, and does not fall"
        );
    }
}
