//! The brain's randomness: a stream cipher under a seed that the shell draws (or a test chooses).

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tern_storage::{SLOTS, Slot};
use tern_wire::ids::UserId;
use tern_wire::limits::NONCE_BYTES;

use crate::maps::Hashing;

/// Random bits of a user's id, above the 12 of the slot: together 42, which are six bytes on the wire.
const USER_BITS: u32 = 30;

/// One-time codes, nonces, ids. What names parts of counts has a stream of its own, so that what is counted changes nothing else under a
/// seed.
pub struct Entropy(ChaCha20Rng, ChaCha20Rng);

/// Shows no state.
impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entropy").finish_non_exhaustive()
    }
}

impl Entropy {
    /// The stream of a seed.
    pub fn new(seed: [u8; 32]) -> Self {
        let mut of_counts = ChaCha20Rng::from_seed(seed);
        of_counts.set_stream(1);
        Self(ChaCha20Rng::from_seed(seed), of_counts)
    }

    /// How a core's maps hash.
    pub(crate) fn hashing(&mut self) -> Hashing {
        Hashing::new(self.0.next_u64(), self.0.next_u64())
    }

    /// Six digits, each equally likely.
    pub fn code(&mut self) -> String {
        // The numbers from the last whole million on would favour the low codes.
        const FAIR: u32 = u32::MAX - u32::MAX % 1_000_000;
        loop {
            let number = self.0.next_u32();
            if number < FAIR {
                return format!("{:06}", number % 1_000_000);
            }
        }
    }

    /// An id for a user of a slot, as likely as any other; whether somebody has it already, the store must tell.
    pub fn user(&mut self, slot: Slot) -> UserId {
        loop {
            let random = u64::from(self.0.next_u32() >> (u32::BITS - USER_BITS));
            if let Some(user) = UserId::new(random * u64::from(SLOTS) + u64::from(slot.number())) {
                return user;
            }
        }
    }

    /// Names a registration: 1 to 2^53 - 1, as every number of the protocol.
    pub fn registration(&mut self) -> u64 {
        (self.0.next_u64() >> 11).max(1)
    }

    /// Names a part of what is counted of a day. Never 0, which is what is added up.
    pub fn part(&mut self) -> u64 {
        self.1.next_u64().max(1)
    }

    /// Names a device's session. Never 0, which stands for none.
    pub fn session(&mut self) -> u64 {
        self.0.next_u64().max(1)
    }

    /// The nonce of a device's first refresh token.
    pub fn nonce(&mut self) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        self.0.fill_bytes(&mut nonce);
        nonce
    }
}
