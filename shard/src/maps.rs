//! Maps whose order is the same in every run of a seed: the brain is deterministic. Their keys are chosen by strangers (chats,
//! phones, networks), so the seed is secret: whoever knew it could make all keys fall together, and a core slow. There is
//! no map without one.

use std::hash::BuildHasher;

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;

/// A hash map of a core. Made by [`Map::with_hasher`].
pub type Map<K, V> = hashbrown::HashMap<K, V, Hashing>;

/// How the maps of a core hash.
#[derive(Clone, Copy)]
pub struct Hashing {
    seed: u64,
    shared: &'static SharedSeed,
}

/// Shows no seed.
impl std::fmt::Debug for Hashing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hashing").finish_non_exhaustive()
    }
}

impl Hashing {
    /// By two random numbers. Keeps 48 bytes for good: a core is made once.
    pub fn new(seed: u64, shared: u64) -> Self {
        Self { seed, shared: Box::leak(Box::new(SharedSeed::from_u64(shared))) }
    }
}

impl BuildHasher for Hashing {
    type Hasher = FoldHasher<'static>;

    fn build_hasher(&self) -> FoldHasher<'static> {
        FoldHasher::with_seed(self.seed, self.shared)
    }
}

/// A map of few keys, sorted, in memory for just as many.
#[derive(Clone, Debug)]
pub struct Few<K, V>(Vec<(K, V)>);

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord + Copy, V> Few<K, V> {
    fn place(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by_key(key, |(key, _)| *key)
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let place = self.place(key).ok()?;
        Some(&mut self.0[place].1)
    }

    /// Sets a key's value.
    pub fn insert(&mut self, key: K, value: V) {
        match self.place(&key) {
            Ok(place) => self.0[place].1 = value,
            Err(place) => {
                self.0.reserve_exact(1);
                self.0.insert(place, (key, value));
            }
        }
    }

    /// The key's value, made if it is not there.
    pub fn or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        if self.place(&key).is_err() {
            self.insert(key, V::default());
        }
        self.get_mut(&key).expect("it is there now")
    }

    pub fn remove(&mut self, key: &K) {
        if let Ok(place) = self.place(key) {
            self.0.remove(place);
        }
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&V) -> bool) {
        self.0.retain(|(_, value)| keep(value));
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.0.iter_mut().map(|(key, value)| (&*key, value))
    }

    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether two chats fall together in a table of 65,536 places.
    fn fall_together(hashing: Hashing, one: u64, other: u64) -> bool {
        let place = |peer| hashing.hash_one(tern_storage::LogId::direct(1, peer)) & 0xffff;
        place(one) == place(other)
    }

    #[test]
    fn keys_that_fall_together_under_one_seed_do_not_under_another() {
        let known = Hashing::new(0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03);
        let found: Vec<_> = (3..500_000).filter(|peer| fall_together(known, 2, *peer)).collect();
        assert!(found.len() > 3, "an attacker who knows the seed finds them");
        let mut entropy = crate::entropy::Entropy::new([5; 32]);
        for seed in 0..10 {
            let unknown = entropy.hashing();
            let together = found.iter().filter(|peer| fall_together(unknown, 2, **peer)).count();
            assert!(together <= 1, "{together} of {} under {seed}", found.len());
        }
    }

    #[test]
    fn few_is_a_sorted_map() {
        let mut few = Few::default();
        for (key, value) in [(5, 'e'), (1, 'a'), (3, 'c'), (1, 'A')] {
            few.insert(key, value);
        }
        assert_eq!(few.iter().collect::<Vec<_>>(), [(&1, &'A'), (&3, &'c'), (&5, &'e')]);
        few.remove(&3);
        few.remove(&4);
        *few.or_default(4) = 'd';
        assert_eq!(few.get_mut(&4), Some(&mut 'd'));
        assert_eq!(few.get_mut(&3), None);
        assert_eq!(few.len(), 3);
        few.retain(|value| *value != 'e');
        assert_eq!(few.keys().copied().collect::<Vec<_>>(), [1, 4]);
    }
}
