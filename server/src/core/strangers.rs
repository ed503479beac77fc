//! Those who have not logged in: how many there may be, of a network and of the node.
//!
//! What one of them may take is bounded by the limits before login ([`STRANGER_BYTES`]); so their number bounds the memory
//! of all. A network (an IPv4 address, the first half of an IPv6 one) has a bounded number of places, shared by all cores.
//! It is counted in a table of fixed size, at a place that a keyed hash gives: two networks may share one, and nobody can
//! tell which.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tern_shard::network::Network;

/// Bytes that a stranger takes at most, the kernel's included: measured by `hostile_strangers_take_little` in
/// server/tests/strangers.rs.
pub const STRANGER_BYTES: usize = 64 << 10;

/// Bytes unsent to a stranger beyond which nothing more is read from it, until they have left.
pub(super) const STRANGER_UNSENT_BYTES_MAX: usize = 4 << 10;

/// Frames from a stranger that are read as they come: a login takes two, a registration a handful. What it asks beyond them
/// waits for everybody else, so many at a time.
pub(super) const STRANGER_FRAMES_AT_ONCE: u32 = 8;

/// Frames from a stranger. Beyond: `GoAway(RATE_LIMITED)`. To log in takes two, to register a handful.
pub(super) const STRANGER_FRAMES_MAX: u32 = 1024;

/// How long a stranger has its place for sure. After that it makes room for a newcomer when there is no other place.
const GRACE: Duration = Duration::from_secs(5);

/// Places of the table.
const TABLE: usize = 1 << 16;

/// The node's count.
#[derive(Debug)]
pub(super) struct Strangers {
    networks: Box<[AtomicU32]>,
    all: AtomicUsize,
    hasher: RandomState,
    network_max: u32,
    max: usize,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Stranger {
    /// Where it is: IPv6, or IPv4 mapped into it.
    pub(super) address: [u8; 16],
    /// A balancer has said so.
    pub(super) proxied: bool,
    /// Its place in the table, if its network is counted.
    place: Option<u32>,
    pub(super) since: Instant,
    /// Frames that have come from it.
    pub(super) frames: u32,
    /// Which client program it says that it is: counted when it has logged in, so that nobody else fills the table of names.
    pub(super) client: Box<str>,
}

/// Why a newcomer has no place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Crowded {
    /// Its network has as many as it may.
    Network,
    /// The node has.
    Node,
}

impl Strangers {
    /// `network_max` 0: networks are not counted.
    pub(super) fn new(max: usize, network_max: u32) -> Self {
        Self {
            networks: (0..TABLE).map(|_| AtomicU32::new(0)).collect(),
            all: AtomicUsize::new(0),
            hasher: RandomState::new(),
            network_max,
            max,
        }
    }

    /// A newcomer. A balancer's own connections, and those of which it has not told yet, are of no network.
    pub(super) fn enter(
        &self,
        address: [u8; 16],
        proxied: bool,
        has_network: bool,
    ) -> Result<Stranger, Crowded> {
        let place = if has_network && self.network_max > 0 {
            let place = (self.hasher.hash_one(Network::of(address)) % TABLE as u64) as u32;
            let before = self.networks[place as usize].fetch_add(1, Ordering::AcqRel);
            if before >= self.network_max {
                self.networks[place as usize].fetch_sub(1, Ordering::AcqRel);
                return Err(Crowded::Network);
            }
            Some(place)
        } else {
            None
        };
        let stranger =
            Stranger { address, proxied, place, since: Instant::now(), frames: 0, client: Box::default() };
        if self.all.fetch_add(1, Ordering::AcqRel) >= self.max {
            self.leave(&stranger);
            return Err(Crowded::Node);
        }
        Ok(stranger)
    }

    /// It has logged in, or gone.
    pub(super) fn leave(&self, stranger: &Stranger) {
        self.all.fetch_sub(1, Ordering::AcqRel);
        if let Some(place) = stranger.place {
            self.networks[place as usize].fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Stranger {
    /// Whether it has had its time, and makes room for another one.
    pub(super) fn may_go(&self) -> bool {
        self.since.elapsed() >= GRACE
    }
}

/// A range of addresses: `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressRange {
    first: u128,
    /// Of the mapped form.
    prefix: u32,
}

impl TryFrom<String> for AddressRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<AddressRange> for String {
    fn from(AddressRange { first, prefix }: AddressRange) -> Self {
        let address = Ipv6Addr::from(first);
        match address.to_ipv4_mapped().filter(|_| prefix >= 96) {
            Some(address) => format!("{address}/{}", prefix - 96),
            None => format!("{address}/{prefix}"),
        }
    }
}

impl AddressRange {
    /// Whether an address, in the mapped form, is in it.
    pub fn holds(&self, address: [u8; 16]) -> bool {
        let mask = u128::MAX.checked_shl(128 - self.prefix).unwrap_or(0);
        u128::from_be_bytes(address) & mask == self.first & mask
    }
}

impl std::str::FromStr for AddressRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is no range of addresses like 10.0.0.0/8 or 2001:db8::/32");
        let (address, prefix) = match text.trim().split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u32>().map_err(|_| bad())?)),
            None => (text.trim(), None),
        };
        let (first, bits, mapped) = match address.parse::<IpAddr>().map_err(|_| bad())? {
            IpAddr::V4(address) => (address.to_ipv6_mapped().octets(), 32, 96),
            IpAddr::V6(address) => (address.octets(), 128, 0),
        };
        let prefix = prefix.unwrap_or(bits);
        if prefix > bits {
            return Err(bad());
        }
        Ok(Self { first: u128::from_be_bytes(first), prefix: mapped + prefix })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn four(last: u8) -> [u8; 16] {
        Ipv4Addr::new(192, 0, 2, last).to_ipv6_mapped().octets()
    }

    #[test]
    fn a_network_and_the_node_have_so_many_places_and_each_is_given_back() {
        let strangers = Strangers::new(5, 2);
        let first = strangers.enter(four(1), false, true).expect("a place");
        strangers.enter(four(1), false, true).expect("a place");
        assert_eq!(strangers.enter(four(1), false, true).expect_err("full"), Crowded::Network);
        strangers.enter(four(2), false, true).expect("another network");
        strangers.leave(&first);
        strangers.enter(four(1), false, true).expect("given back");
        for _ in 0..2 {
            strangers.enter(four(3), false, false).expect("of no network");
        }
        assert_eq!(strangers.enter(four(4), false, true).expect_err("full"), Crowded::Node);
        strangers.leave(&first);
        strangers.enter(four(4), false, true).expect("what was refused has taken no place");
    }

    #[test]
    fn all_addresses_of_half_an_ipv6_address_are_one_network() {
        let strangers = Strangers::new(100, 1);
        let six = |text: &str| text.parse::<Ipv6Addr>().expect("an address").octets();
        strangers.enter(six("2001:db8:0:1::1"), false, true).expect("a place");
        assert!(strangers.enter(six("2001:db8:0:1:ffff::2"), false, true).is_err());
        assert!(strangers.enter(six("2001:db8:0:2::1"), false, true).is_ok());
    }

    #[test]
    fn a_range_holds_its_addresses_and_no_others() {
        let range = |text: &str| text.parse::<AddressRange>();
        assert!(range("192.0.2.0/24").expect("one").holds(four(77)));
        assert!(!range("192.0.2.0/28").expect("one").holds(four(77)));
        assert!(range("192.0.2.77").expect("one").holds(four(77)));
        assert!(range("0.0.0.0/0").expect("one").holds(four(77)));
        assert!(!range("0.0.0.0/0").expect("one").holds([0x20; 16]));
        assert!(range("::/0").expect("one").holds(four(77)));
        assert!(!range("2001:db8::/32").expect("one").holds(four(77)));
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "x", "::/129", "10.0.0.0/-1"] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }
}
