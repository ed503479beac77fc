//! Slots: the unit of ownership. Every user, phone and log lies in exactly one of them.
//!
//! The hashes are persisted by what they place, so they must never change: xxh3 with no seed, of the bytes given
//! here.

use xxhash_rust::xxh3::xxh3_64;

use crate::keys::LogId;

/// How many slots there are. A slot number is 12 bits.
pub const SLOTS: u16 = 4096;

/// One of the [`SLOTS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(u16);

impl Slot {
    /// The slot of this number; `None` from [`SLOTS`] on.
    pub fn new(number: u16) -> Option<Self> {
        (number < SLOTS).then_some(Self(number))
    }

    /// 0 to [`SLOTS`] - 1.
    pub fn number(self) -> u16 {
        self.0
    }

    /// A user's slot: the low bits of the id, which was given out by that slot.
    pub fn of_user(user: u64) -> Self {
        Self((user % u64::from(SLOTS)) as u16)
    }

    /// A phone's slot, by its digits without the plus sign. A user is made in the slot of the first phone.
    pub fn of_phone(digits: &str) -> Self {
        Self::of_hash(xxh3_64(digits.as_bytes()))
    }

    /// A log's slot.
    pub fn of_log(log: LogId) -> Self {
        Self::of_hash(xxh3_64(&log.to_bytes()))
    }

    /// The slot that counts what one network address does.
    pub fn of_address(address: &[u8]) -> Self {
        Self::of_hash(xxh3_64(address))
    }

    fn of_hash(hash: u64) -> Self {
        Self((hash % u64::from(SLOTS)) as u16)
    }
}

/// Counts the owners of a slot: a commit that names an older epoch than the store's is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Epoch(pub u64);
