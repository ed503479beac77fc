//! The atomics of the wake protocol. The loom model puts its own in their place.

pub(super) use std::sync::atomic::{AtomicBool, Ordering, fence};
