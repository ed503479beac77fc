//! How long something took, for the operators' metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::engine::{Statistic, StatisticValue};

/// Buckets: 64 us and so on, doubled each time up to 2 s, and all beyond.
const BUCKETS: usize = 17;

/// The upper bound of the first of them.
const FIRST_BOUND_US: u64 = 64;

/// A histogram. It has one writer.
#[derive(Default)]
pub(crate) struct Times {
    us_total: AtomicU64,
    us: [AtomicU64; BUCKETS],
}

impl Times {
    /// Something took so long.
    pub(crate) fn took(&self, took: Duration) {
        let micros = took.as_micros() as u64;
        self.us_total.fetch_add(micros, Ordering::Relaxed);
        self.us[bucket_of(micros)].fetch_add(1, Ordering::Relaxed);
    }

    /// For the operators.
    pub(crate) fn statistic(&self, name: &'static str, help: &'static str) -> Statistic {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let buckets = self.us.iter().enumerate().map(|(at, count)| (bound_s(at), get(count)));
        let sum = get(&self.us_total) as f64 / 1e6;
        Statistic { name, help, value: StatisticValue::Histogram(buckets.collect(), sum) }
    }
}

fn bucket_of(micros: u64) -> usize {
    let doubled = micros.div_ceil(FIRST_BOUND_US).next_power_of_two().trailing_zeros() as usize;
    doubled.min(BUCKETS - 1)
}

fn bound_s(bucket: usize) -> f64 {
    if bucket == BUCKETS - 1 { f64::INFINITY } else { (FIRST_BOUND_US << bucket) as f64 / 1e6 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_lies_in_the_bucket_that_bounds_it() {
        for micros in [0, 1, 63, 64, 65, 128, 129, 5000, 2_097_152, 2_097_153, u64::MAX / 2] {
            let bucket = bucket_of(micros);
            let seconds = micros as f64 / 1e6;
            assert!(seconds <= bound_s(bucket), "{micros} in {bucket}");
            assert!(bucket == 0 || seconds > bound_s(bucket - 1), "{micros} in {bucket}");
        }
    }
}
