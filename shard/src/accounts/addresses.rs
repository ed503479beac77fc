//! How often network addresses ask for codes. Kept in memory alone: a restart forgives.

use crate::limits::{ADDRESSES_MAX, HOUR_MS};
use crate::maps::Map;

/// The network addresses of a core's slots, counted within the current hour.
#[derive(Debug, Default)]
pub struct Addresses {
    counts: Map<[u8; 16], u32>,
    since_ms: u64,
}

impl Addresses {
    /// Counts one request of `address`. `Err` gives the milliseconds after which it may ask again.
    pub fn count(&mut self, address: [u8; 16], max: u32, now_ms: u64) -> Result<(), u64> {
        let elapsed_ms = now_ms.saturating_sub(self.since_ms);
        if elapsed_ms >= HOUR_MS || self.counts.len() >= ADDRESSES_MAX {
            self.counts.clear();
            self.since_ms = now_ms;
        }
        let count = self.counts.entry(address).or_default();
        if *count >= max {
            return Err(HOUR_MS.saturating_sub(now_ms.saturating_sub(self.since_ms)).max(1));
        }
        *count += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_waits_for_the_next_hour_and_no_other_with_it() {
        let mut addresses = Addresses::default();
        let start = HOUR_MS * 10;
        for _ in 0..3 {
            assert_eq!(addresses.count([1; 16], 3, start), Ok(()));
        }
        assert_eq!(addresses.count([1; 16], 3, start + 1000), Err(HOUR_MS - 1000));
        assert_eq!(addresses.count([2; 16], 3, start + 1000), Ok(()));
        assert_eq!(addresses.count([1; 16], 3, start + HOUR_MS), Ok(()));
    }
}
