//! Of what there is for all at once, how much each has.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// What each of many has at once, and how much that may be.
#[derive(Clone, Debug)]
pub(super) struct Shares<K: Eq + Hash> {
    /// 0: any number.
    each_max: usize,
    had: Arc<Mutex<HashMap<K, usize>>>,
}

/// One has it, until this is dropped.
#[derive(Debug)]
pub(super) struct Share<K: Copy + Eq + Hash> {
    whose: K,
    had: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K: Copy + Eq + Hash> Shares<K> {
    pub(super) fn new(each_max: usize) -> Self {
        Self { each_max, had: Arc::default() }
    }

    /// One more; `None`: they have as many as they may.
    pub(super) fn take(&self, whose: K) -> Option<Share<K>> {
        let mut had = self.had.lock().unwrap_or_else(PoisonError::into_inner);
        let has = had.get(&whose).copied().unwrap_or(0);
        if self.each_max > 0 && has >= self.each_max {
            return None;
        }
        had.insert(whose, has + 1);
        Some(Share { whose, had: self.had.clone() })
    }
}

impl<K: Copy + Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut had = self.had.lock().unwrap_or_else(PoisonError::into_inner);
        match had.get_mut(&self.whose) {
            Some(has) if *has > 1 => *has -= 1,
            _ => drop(had.remove(&self.whose)),
        }
    }
}

/// The network of an address: it itself, or of an IPv6 one the first half, for whoever has one address with it has them all.
pub(super) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            Ipv6Addr::from(network).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_more_than_their_share_and_what_is_given_back_is_had_again() {
        let shares = Shares::new(2);
        let (first, second) = (shares.take(1), shares.take(1));
        assert!(first.is_some() && second.is_some() && shares.take(1).is_none());
        assert!(shares.take(2).is_some());
        drop(first);
        let third = shares.take(1);
        assert!(third.is_some() && shares.take(1).is_none());
        drop((second, third));
        assert!(shares.had.lock().expect("no panic").is_empty(), "nobody is remembered who has nothing");
        let any = Shares::new(0);
        let many: Vec<_> = (0..100).map(|_| any.take(1)).collect();
        assert!(many.iter().all(Option::is_some));
    }

    #[test]
    fn a_network_is_an_address_or_the_first_half_of_one() {
        let network = |address: &str| network_of(address.parse().expect("an address")).to_string();
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
        assert_eq!(network("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }
}
