//! A map whose keys lie in slots, so that all of a slot can be let go and taken up as one thing.

use std::hash::Hash;

use tern_storage::{LogId, SLOTS, Slot};
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

/// See the module. A slot that holds nothing costs two bytes. Where a slot's contents lie is looked up by its number, without
/// hashing: it is on the way of each message, several times.
#[derive(Debug)]
pub(crate) struct BySlot<K, V> {
    /// By slot: its place in `slots`, or [`NOWHERE`]. Empty before anything was put in.
    places: Vec<u16>,
    /// Those that hold something, in no order.
    slots: Vec<(Slot, Contents<K, V>)>,
    len: usize,
    hashing: Hashing,
}

/// The place of a slot that holds nothing.
const NOWHERE: u16 = u16::MAX;

const _: () = assert!(SLOTS < NOWHERE);

impl<K: InSlot + Eq + Hash, V> BySlot<K, V> {
    /// Empty.
    pub(crate) fn new(hashing: Hashing) -> Self {
        Self { places: Vec::new(), slots: Vec::new(), len: 0, hashing }
    }

    /// How many there are, all slots together.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        match self.contents(key.slot())? {
            Contents::Few(few) => few.iter().find(|(known, _)| known == key).map(|(_, value)| value),
            Contents::Many(many) => many.get(key),
        }
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let place = self.place(key.slot())?;
        match &mut self.slots[place].1 {
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
        let place = self.place(key.slot()).unwrap_or_else(|| self.begin(key.slot()));
        let contents = &mut self.slots[place].1;
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
        let place = self.place(key.slot())?;
        let (removed, is_empty) = match &mut self.slots[place].1 {
            Contents::Few(few) => {
                let place = few.iter().position(|(known, _)| known == key)?;
                (few.swap_remove(place).1, few.is_empty())
            }
            Contents::Many(many) => (many.remove(key)?, many.is_empty()),
        };
        if is_empty {
            self.end(place);
        }
        self.len -= 1;
        Some(removed)
    }

    /// Goes through the keys.
    pub(crate) fn each_key(&self, mut each: impl FnMut(&K)) {
        for (_, contents) in &self.slots {
            match contents {
                Contents::Few(few) => few.iter().for_each(|(key, _)| each(key)),
                Contents::Many(many) => many.keys().for_each(&mut each),
            }
        }
    }

    /// Keeps those of which this is true.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.len = 0;
        for place in (0..self.slots.len()).rev() {
            let left = match &mut self.slots[place].1 {
                Contents::Few(few) => {
                    few.retain_mut(|(key, value)| keep(key, value));
                    few.len()
                }
                Contents::Many(many) => {
                    many.retain(&mut keep);
                    many.len()
                }
            };
            self.len += left;
            if left == 0 {
                self.end(place);
            }
        }
    }

    /// Whether this is true of all that lies in a slot.
    pub(crate) fn all_of(&self, slot: Slot, mut is_so: impl FnMut(&V) -> bool) -> bool {
        match self.contents(slot) {
            None => true,
            Some(Contents::Few(few)) => few.iter().all(|(_, value)| is_so(value)),
            Some(Contents::Many(many)) => many.values().all(is_so),
        }
    }

    /// Takes out all that lies in a slot.
    pub(crate) fn take(&mut self, slot: Slot) -> Vec<(K, V)> {
        let Some(place) = self.place(slot) else { return Vec::new() };
        let taken: Vec<_> = match self.end(place) {
            Contents::Few(few) => few,
            Contents::Many(many) => many.into_iter().collect(),
        };
        self.len -= taken.len();
        taken
    }

    fn place(&self, slot: Slot) -> Option<usize> {
        let place = *self.places.get(usize::from(slot.number()))?;
        (place != NOWHERE).then_some(usize::from(place))
    }

    fn contents(&self, slot: Slot) -> Option<&Contents<K, V>> {
        self.place(slot).map(|place| &self.slots[place].1)
    }

    /// A slot is to hold something.
    fn begin(&mut self, slot: Slot) -> usize {
        if self.places.is_empty() {
            self.places.resize(usize::from(SLOTS), NOWHERE);
        }
        let place = self.slots.len();
        self.places[usize::from(slot.number())] = place as u16;
        self.slots.push((slot, Contents::Few(Vec::new())));
        place
    }

    /// A slot holds nothing any more: the last one takes its place.
    fn end(&mut self, place: usize) -> Contents<K, V> {
        let (slot, contents) = self.slots.swap_remove(place);
        self.places[usize::from(slot.number())] = NOWHERE;
        if let Some((moved, _)) = self.slots.get(place) {
            self.places[usize::from(moved.number())] = place as u16;
        }
        contents
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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
