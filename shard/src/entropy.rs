//! The brain's randomness: a stream cipher under a seed that the shell draws (or a test chooses).

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tern_wire::limits::NONCE_BYTES;

/// One-time codes and nonces.
pub struct Entropy(ChaCha20Rng);

/// Shows no state.
impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entropy").finish_non_exhaustive()
    }
}

impl Entropy {
    /// The stream of a seed.
    pub fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha20Rng::from_seed(seed))
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

    /// The nonce of a device's first refresh token.
    pub fn nonce(&mut self) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        self.0.fill_bytes(&mut nonce);
        nonce
    }
}
