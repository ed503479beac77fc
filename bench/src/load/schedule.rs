//! When things are to happen, decided before it is known how fast they go (open loop): a slow answer does not put off what
//! comes after it, and latency is counted from the intended moment.

use std::time::Duration;

use fastrand::Rng;

/// How arrivals are spread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// Independent of each other, as people are.
    Poisson,
    /// At equal distances.
    Constant,
}

/// A time drawn from the exponential distribution with this mean: as long as people stay, or until the next one comes.
pub fn exponential(rng: &mut Rng, mean: f64) -> f64 {
    // The logarithm of 0 would be without end.
    -(1.0 - rng.f64()).max(f64::MIN_POSITIVE).ln() * mean
}

/// Moments since the begin, rising without end.
#[derive(Clone, Debug)]
pub struct Schedule {
    arrivals: Arrivals,
    per_s: f64,
    rng: Rng,
    next_s: f64,
}

impl Schedule {
    /// `per_s` arrivals a second on average.
    pub fn new(arrivals: Arrivals, per_s: f64, seed: u64) -> Self {
        let mut schedule = Self { arrivals, per_s, rng: Rng::with_seed(seed), next_s: 0.0 };
        schedule.next_s = schedule.gap_s();
        schedule
    }

    fn gap_s(&mut self) -> f64 {
        match self.arrivals {
            Arrivals::Constant => 1.0 / self.per_s,
            Arrivals::Poisson => exponential(&mut self.rng, 1.0 / self.per_s),
        }
    }

    /// Goes on from `now` with another rate.
    pub fn set_rate(&mut self, now: Duration, per_s: f64) {
        self.per_s = per_s;
        self.next_s = now.as_secs_f64() + self.gap_s();
    }

    /// The next moment.
    pub fn peek(&self) -> Duration {
        Duration::from_secs_f64(self.next_s)
    }

    /// Takes the next moment if it has come.
    pub fn due(&mut self, now: Duration) -> Option<Duration> {
        let next = self.peek();
        (next <= now).then(|| {
            self.next_s += self.gap_s();
            next
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_whoever_asks_late() {
        for arrivals in [Arrivals::Constant, Arrivals::Poisson] {
            let mut schedule = Schedule::new(arrivals, 1000.0, 7);
            let mut last = Duration::ZERO;
            let mut count = 0;
            // Asked only ten times a second: nothing is left out, and the moments are the intended ones.
            for tenth in 1..=1000u32 {
                while let Some(moment) = schedule.due(Duration::from_millis(100) * tenth) {
                    assert!(moment >= last);
                    (last, count) = (moment, count + 1);
                }
            }
            assert!((98_000..102_000).contains(&count), "{arrivals:?}: {count}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_moments() {
        let moments = |seed| {
            let mut schedule = Schedule::new(Arrivals::Poisson, 10.0, seed);
            (0..100).filter_map(|_| schedule.due(Duration::MAX / 2)).collect::<Vec<_>>()
        };
        assert_eq!(moments(1), moments(1));
        assert_ne!(moments(1), moments(2));
    }
}
