//! Slots: the unit of ownership. Every user, phone and log lies in exactly one of them.
//!
//! What is said here is persisted by what it places, so it must never change. Hashes are xxh3 with no seed, of the bytes given here.

use xxhash_rust::xxh3::xxh3_64;

use crate::keys::{LogId, MEDIUM_BYTES};

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

    /// The slot in which it lies who is found by the hash of a phone.
    pub fn of_phone_hash(hash: &[u8; 32]) -> Self {
        Self::of_hash(xxh3_64(hash))
    }

    /// A user's slot: the low bits of the id, which was given out by that slot.
    pub fn of_user(user: u64) -> Self {
        Self((user % u64::from(SLOTS)) as u16)
    }

    /// A phone's slot, by its digits without the plus sign. A user is made in the slot of the first phone.
    pub fn of_phone(digits: &str) -> Self {
        Self::of_hash(xxh3_64(digits.as_bytes()))
    }

    /// A log's slot: a direct chat lies with one of its two, so that what one says to the other goes from core to core once at most.
    /// Which of them, a bit of their ids says, so that of the chats of a user with many half lie elsewhere.
    pub fn of_log(log: LogId) -> Self {
        let (low, high) = match log {
            LogId::Direct(low, high) => (low, high),
            LogId::Group(number) | LogId::Private(number) => return Self::of_user(number),
        };
        let is_odd = (low ^ high) / u64::from(SLOTS) % 2 == 1;
        Self::of_user(if is_odd { high } else { low })
    }

    /// The slot that counts what one network address does.
    pub fn of_address(address: &[u8]) -> Self {
        Self::of_hash(xxh3_64(address))
    }

    /// The slot that adds up what was counted of a day, by its number since the Unix epoch: neighbours lie beside each other.
    pub fn of_day(day: u32) -> Self {
        Self((day % u32::from(SLOTS)) as u16)
    }

    /// A medium's slot, by its id.
    pub fn of_medium(medium: &[u8; MEDIUM_BYTES]) -> Self {
        Self::of_hash(xxh3_64(medium))
    }

    fn of_hash(hash: u64) -> Self {
        Self((hash % u64::from(SLOTS)) as u16)
    }
}

/// Counts the owners of a slot: a commit that names an older epoch than the store's is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Epoch(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_lies_with_one_of_its_two_and_half_of_somebodys_chats_lie_elsewhere() {
        let mut rng = fastrand::Rng::with_seed(5);
        let mut id = || rng.u64(1..1 << 42);
        let ann = id();
        let chats = 10_000;
        let mut with_ann = 0;
        for peer in (0..chats).map(|_| id()) {
            let slot = Slot::of_log(LogId::direct(ann, peer));
            assert!([ann, peer].map(Slot::of_user).contains(&slot));
            with_ann += u32::from(slot == Slot::of_user(ann));
        }
        assert!((chats * 9 / 20..=chats * 11 / 20).contains(&with_ann), "{with_ann} of {chats}");
        assert_eq!(Slot::of_log(LogId::direct(ann, ann)), Slot::of_user(ann));
    }
}
