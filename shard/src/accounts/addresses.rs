//! How often networks ask for codes, and try them; and how much they ask for at all. Kept in memory alone: a restart forgives.

use tern_storage::Slot;

use super::bucket::{Buckets, Rate};
use crate::limits::{ADDRESSES_MAX, BUCKETS_SWEPT_EVERY_MS, HOUR_MS, Limits, MINUTE_MS};
use crate::maps::{Hashing, Map};
use crate::network::Network;

/// The networks of a core's slots, counted within the current hour.
#[derive(Debug)]
pub(super) struct Addresses {
    counts: Map<(Asked, Network), u32>,
    since_ms: u64,
    requests: (Option<Rate>, Buckets<Network>),
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Asked {
    /// `Register`.
    ForCode,
    /// `Verify`.
    ToVerify,
}

impl Addresses {
    /// Nothing has been counted.
    pub(super) fn new(limits: &Limits, hashing: Hashing) -> Self {
        let Limits { address_requests_per_minute_max: max, address_requests_burst: burst, .. } = *limits;
        let requests = (Rate::new(max, MINUTE_MS, burst), Buckets::new(hashing));
        Self { counts: Map::with_hasher(hashing), since_ms: 0, requests }
    }

    /// How many of so many requests may be made from a network now. `Err` gives the milliseconds after which there is one.
    pub(super) fn lease(&mut self, network: Network, wanted: u32, now_ms: u64) -> Result<u32, u64> {
        let (rate, buckets) = &mut self.requests;
        buckets.take_of(network, *rate, now_ms, 1..=wanted)
    }

    /// So many of those were not made.
    pub(super) fn give_back(&mut self, network: Network, unused: u32) {
        let (rate, buckets) = &mut self.requests;
        buckets.give_back(&network, *rate, unused);
    }

    /// Forgets the networks that have asked for little enough.
    pub(super) fn rest(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.requests.1.swept_ms()) >= BUCKETS_SWEPT_EVERY_MS {
            self.requests.1.sweep(now_ms);
        }
    }

    /// Counts one request of a network, of `max` in an hour (0: any number). `Err` gives the milliseconds after which it may
    /// ask again. One that is not known is not counted.
    pub(super) fn count(&mut self, asked: Asked, network: Network, max: u32, now_ms: u64) -> Result<(), u64> {
        if max == 0 || network == Network::UNKNOWN {
            return Ok(());
        }
        // The clock may have been set back: what is ahead of it counts as now.
        self.since_ms = self.since_ms.min(now_ms);
        if now_ms - self.since_ms >= HOUR_MS {
            self.counts.clear();
            self.since_ms = now_ms;
        }
        if self.counts.len() >= ADDRESSES_MAX {
            // Those that are near their limit are remembered the longest.
            self.counts.retain(|_, count| count.saturating_mul(2) >= max);
        }
        if self.counts.len() >= ADDRESSES_MAX {
            self.counts.clear();
        }
        let count = self.counts.entry((asked, network)).or_default();
        if *count >= max {
            return Err(HOUR_MS.saturating_sub(now_ms.saturating_sub(self.since_ms)).max(1));
        }
        *count += 1;
        Ok(())
    }

    /// Takes out what was counted of a slot's networks.
    pub(super) fn take(&mut self, slot: Slot) -> Counts {
        let of_slot = |(_, network): &(Asked, Network)| Slot::of_address(network.bytes()) == slot;
        let counts = self.counts.extract_if(|counted, _| of_slot(counted)).collect();
        let requests = self.requests.1.take_some(|network| Slot::of_address(network.bytes()) == slot);
        Counts { counts, since_ms: self.since_ms, requests }
    }

    /// What was counted elsewhere. It is of the hour that has begun there; it counts until this core's ends.
    pub(super) fn put_back(&mut self, taken: Counts, now_ms: u64) {
        self.requests.1.put_back(taken.requests);
        if now_ms.saturating_sub(taken.since_ms) < HOUR_MS {
            self.counts.extend(taken.counts);
        }
    }
}

/// What was counted of networks, since when.
#[derive(Debug)]
pub(super) struct Counts {
    counts: Vec<((Asked, Network), u32)>,
    since_ms: u64,
    requests: Vec<(Network, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_waits_for_the_next_hour_and_no_other_with_it() {
        let mut addresses = Addresses::new(&Limits::default(), Hashing::new(1, 2));
        let start = HOUR_MS * 10;
        for _ in 0..3 {
            assert_eq!(addresses.count(Asked::ForCode, Network::of([1; 16]), 3, start), Ok(()));
        }
        assert_eq!(
            addresses.count(Asked::ForCode, Network::of([1; 16]), 3, start + 1000),
            Err(HOUR_MS - 1000)
        );
        assert_eq!(addresses.count(Asked::ForCode, Network::of([2; 16]), 3, start + 1000), Ok(()));
        assert_eq!(addresses.count(Asked::ForCode, Network::of([1; 16]), 3, start + HOUR_MS), Ok(()));
    }

    #[test]
    fn a_limit_of_a_wrong_time_ends_by_the_true_one() {
        let mut addresses = Addresses::new(&Limits::default(), Hashing::new(1, 2));
        let (wrong, right) = (HOUR_MS * 2000, HOUR_MS * 10);
        assert_eq!(addresses.count(Asked::ForCode, Network::of([1; 16]), 1, wrong), Ok(()));
        assert_eq!(addresses.count(Asked::ForCode, Network::of([1; 16]), 1, right), Err(HOUR_MS));
        assert_eq!(addresses.count(Asked::ForCode, Network::of([1; 16]), 1, right + HOUR_MS), Ok(()));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_one_of_ipv4_is_many() {
        let mut addresses = Addresses::new(&Limits::default(), Hashing::new(1, 2));
        let v6 = |host| std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, 2, host, 0, 0, host).octets();
        assert_eq!(addresses.count(Asked::ForCode, Network::of(v6(1)), 1, 0), Ok(()));
        assert!(addresses.count(Asked::ForCode, Network::of(v6(2)), 1, 0).is_err());
        let v4 = |host| std::net::Ipv4Addr::new(192, 0, 2, host).to_ipv6_mapped().octets();
        assert_eq!(addresses.count(Asked::ForCode, Network::of(v4(1)), 1, 0), Ok(()));
        assert_eq!(addresses.count(Asked::ForCode, Network::of(v4(2)), 1, 0), Ok(()));
    }

    #[test]
    fn many_addresses_do_not_wash_away_one_that_has_reached_its_limit() {
        let mut addresses = Addresses::new(&Limits::default(), Hashing::new(1, 2));
        for _ in 0..3 {
            assert_eq!(addresses.count(Asked::ForCode, Network::of([1; 16]), 3, 0), Ok(()));
        }
        for number in 0..2 * ADDRESSES_MAX as u64 {
            let mut address = [2; 16];
            address[..8].copy_from_slice(&number.to_be_bytes());
            let _ = addresses.count(Asked::ForCode, Network::of(address), 3, 0);
        }
        assert!(addresses.count(Asked::ForCode, Network::of([1; 16]), 3, 0).is_err());
    }
}
