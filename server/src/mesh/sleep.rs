//! How a core goes to sleep without missing a message, and how it is woken once.
//!
//! The receiver announces its sleep, then looks once more for messages; a sender pushes its message, then looks for
//! the announcement. With a full fence between the two steps on either side, at least one of them sees the other.
//! Whoever claims the announcement makes the one wake-up. Proven by the model in tests/mesh_loom.rs.

use super::atomics::{AtomicBool, Ordering, fence};

/// Whether one core sleeps.
#[derive(Debug)]
pub struct Sleeper(AtomicBool);

impl Default for Sleeper {
    fn default() -> Self {
        Self(AtomicBool::new(false))
    }
}

impl Sleeper {
    /// The core is about to sleep. It must look for messages after this, and not sleep if there are any.
    pub fn announce(&self) {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The core does not sleep, or no more.
    pub fn retract(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// After a message was pushed: whether the caller must wake the core.
    #[must_use = "the core sleeps on unless it is woken"]
    pub fn claim(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::AcqRel)
    }
}
