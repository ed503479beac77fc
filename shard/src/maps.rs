//! Maps whose order is the same in every run: the brain is deterministic.

use foldhash::fast::FixedState;

/// A hash map with a fixed seed.
pub type Map<K, V> = hashbrown::HashMap<K, V, FixedState>;
