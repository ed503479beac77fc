//! The machine's chance: a stream cipher under a seed that its shell draws, or a test chooses.

use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use tern_wire::limits::NONCE_BYTES;

/// See the module.
pub(crate) struct Entropy(ChaCha20Rng);

impl Entropy {
    /// The stream of a seed.
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha20Rng::from_seed(seed))
    }

    /// Any number below this one.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        // The ends that are asked for are powers of two: nothing is likelier than the rest.
        self.0.next_u64() % end
    }

    /// The nonce of a refresh.
    pub(crate) fn nonce(&mut self) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        self.0.fill_bytes(&mut nonce);
        nonce
    }

    /// Full jitter: anything up to a bound.
    pub(crate) fn jitter(&mut self, bound: Duration) -> Duration {
        bound.mul_f64(f64::from(self.0.next_u32()) / f64::from(u32::MAX))
    }
}

/// Shows no state.
impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entropy").finish_non_exhaustive()
    }
}
