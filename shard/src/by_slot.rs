//! A map whose keys lie in slots, so that all of a slot can be let go and taken up as one thing.

use std::hash::Hash;

use tern_storage::{LogId, Slot};
use tern_wire::ids::{Phone, UserId};

use crate::maps::{Hashing, Map};

/// What lies in a slot.
pub(crate) trait InSlot {
    /// Which.
    fn slot(&self) -> Slot;
}

impl InSlot for LogId {
    fn slot(&self) -> Slot {
        Slot::of_log(*self)
    }
}

impl InSlot for UserId {
    fn slot(&self) -> Slot {
        Slot::of_user(self.get())
    }
}

impl InSlot for Phone {
    fn slot(&self) -> Slot {
        Slot::of_phone(self.digits())
    }
}

/// What lies in one slot. Few things are looked through: a table would take four times their memory, and of few users a slot has one.
#[derive(Debug)]
enum Contents<K, V> {
    Few(Vec<(K, V)>),
    Many(Box<Map<K, V>>),
}

/// As many are few.
const FEW_MAX: usize = 8;

/// See the module. A slot that holds nothing costs nothing.
#[derive(Debug)]
pub(crate) struct BySlot<K, V> {
    slots: Map<Slot, Contents<K, V>>,
    len: usize,
    hashing: Hashing,
}

impl<K: InSlot + Eq + Hash, V> BySlot<K, V> {
    /// Empty.
    pub(crate) fn new(hashing: Hashing) -> Self {
        Self { slots: Map::with_hasher(hashing), len: 0, hashing }
    }

    /// How many there are, all slots together.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        match self.slots.get(&key.slot())? {
            Contents::Few(few) => few.iter().find(|(known, _)| known == key).map(|(_, value)| value),
            Contents::Many(many) => many.get(key),
        }
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        match self.slots.get_mut(&key.slot())? {
            Contents::Few(few) => few.iter_mut().find(|(known, _)| known == key).map(|(_, value)| value),
            Contents::Many(many) => many.get_mut(key),
        }
    }

    /// Puts a value in, in place of the one that was there.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        if let Some(known) = self.get_mut(&key) {
            *known = value;
            return;
        }
        self.len += 1;
        let contents = self.slots.entry(key.slot()).or_insert(Contents::Few(Vec::new()));
        match contents {
            Contents::Few(few) if few.len() < FEW_MAX => {
                few.reserve_exact(1);
                few.push((key, value));
            }
            Contents::Few(few) => {
                let mut many = Map::with_hasher(self.hashing);
                many.extend(few.drain(..));
                many.insert(key, value);
                *contents = Contents::Many(Box::new(many));
            }
            Contents::Many(many) => drop(many.insert(key, value)),
        }
    }

    /// Takes a value out.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let slot = key.slot();
        let contents = self.slots.get_mut(&slot)?;
        let (removed, is_empty) = match contents {
            Contents::Few(few) => {
                let place = few.iter().position(|(known, _)| known == key)?;
                (few.swap_remove(place).1, few.is_empty())
            }
            Contents::Many(many) => (many.remove(key)?, many.is_empty()),
        };
        if is_empty {
            self.slots.remove(&slot);
        }
        self.len -= 1;
        Some(removed)
    }

    /// Goes through the keys.
    pub(crate) fn each_key(&self, mut each: impl FnMut(&K)) {
        for contents in self.slots.values() {
            match contents {
                Contents::Few(few) => few.iter().for_each(|(key, _)| each(key)),
                Contents::Many(many) => many.keys().for_each(&mut each),
            }
        }
    }

    /// Keeps those of which this is true.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        let mut len = 0;
        self.slots.retain(|_, contents| {
            let left = match contents {
                Contents::Few(few) => {
                    few.retain_mut(|(key, value)| keep(key, value));
                    few.len()
                }
                Contents::Many(many) => {
                    many.retain(&mut keep);
                    many.len()
                }
            };
            len += left;
            left > 0
        });
        self.len = len;
    }

    /// Whether this is true of all that lies in a slot.
    pub(crate) fn all_of(&self, slot: Slot, mut is_so: impl FnMut(&V) -> bool) -> bool {
        match self.slots.get(&slot) {
            None => true,
            Some(Contents::Few(few)) => few.iter().all(|(_, value)| is_so(value)),
            Some(Contents::Many(many)) => many.values().all(is_so),
        }
    }

    /// Takes out all that lies in a slot.
    pub(crate) fn take(&mut self, slot: Slot) -> Vec<(K, V)> {
        let taken = match self.slots.remove(&slot) {
            None => Vec::new(),
            Some(Contents::Few(few)) => few,
            Some(Contents::Many(many)) => many.into_iter().collect(),
        };
        self.len -= taken.len();
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tern_storage::SLOTS;

    use super::*;

    fn user(number: u64) -> UserId {
        UserId::new(number).expect("not 0")
    }

    /// Random calls, beside a plain map: of a slot with few things, of one with many, and of one between.
    #[test]
    fn it_is_a_map_and_a_slot_is_taken_out_whole() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut map = BySlot::new(Hashing::new(1, 2));
        let mut plain: BTreeMap<u64, u64> = BTreeMap::new();
        for value in 0..20_000 {
            let (slot, most) = [(1, 3), (2, 100), (3, 12)][rng.usize(..3)];
            let number = slot + u64::from(SLOTS) * rng.u64(..most);
            match rng.u8(..10) {
                0..5 => {
                    map.insert(user(number), value);
                    plain.insert(number, value);
                }
                5..8 => assert_eq!(map.remove(&user(number)), plain.remove(&number)),
                8 if value % 50 == 0 => {
                    map.retain(|_, value| *value % 3 > 0);
                    plain.retain(|_, value| *value % 3 > 0);
                }
                8 => assert_eq!(map.get_mut(&user(number)).copied(), plain.get(&number).copied()),
                _ if value % 50 == 0 => {
                    let slot = user(number).slot();
                    let mut taken: Vec<_> =
                        map.take(slot).into_iter().map(|(user, value)| (user.get(), value)).collect();
                    taken.sort_unstable();
                    let of_slot = plain.extract_if(.., |number, _| user(*number).slot() == slot);
                    assert_eq!(taken, of_slot.collect::<Vec<_>>());
                }
                _ => assert_eq!(map.contains_key(&user(number)), plain.contains_key(&number)),
            }
            assert_eq!(map.len(), plain.len());
            let in_first = plain.iter().filter(|(number, _)| **number % u64::from(SLOTS) == 1);
            let all = in_first.map(|(_, value)| *value).all(|value| value > 5);
            assert_eq!(map.all_of(user(1).slot(), |value| *value > 5), all);
        }
    }
}
