//! The places of a core's connections: a dense index, and a generation that tells those apart that had it one after the other.
//!
//! A place is in use, then vacated, and free for the next one only when it is released: in between the brain is told.

use tern_shard::reply::ConnId;

/// See the module.
#[derive(Clone, Debug)]
pub struct Places<T> {
    /// Boxed, so that room for more costs little.
    places: Vec<Place<T>>,
    free: Vec<u32>,
    count: usize,
}

#[derive(Clone, Debug)]
struct Place<T> {
    /// Of who has it, or has it next.
    generation: u32,
    who: Option<Box<T>>,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new(), count: 0 }
    }
}

impl<T> Places<T> {
    /// Gives somebody a place.
    pub fn insert(&mut self, who: T) -> ConnId {
        self.count += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 1, who: None });
            self.places.len() as u32 - 1
        });
        let place = &mut self.places[index as usize];
        place.who = Some(Box::new(who));
        ConnId { index, generation: place.generation }
    }

    /// Whoever has this place, unless it has gone.
    #[inline]
    pub fn get(&mut self, id: ConnId) -> Option<&mut T> {
        let place = self.places.get_mut(id.index as usize)?;
        if place.generation == id.generation { place.who.as_deref_mut() } else { None }
    }

    /// Takes somebody out. The place is given to nobody before [`Places::release`].
    pub fn vacate(&mut self, id: ConnId) -> Option<Box<T>> {
        let place = self.places.get_mut(id.index as usize)?;
        let who = if place.generation == id.generation { place.who.take() } else { None };
        self.count -= usize::from(who.is_some());
        who
    }

    /// A vacated place is free: the brain knows of it no more.
    ///
    /// # Panics
    /// If it is free already, or in use.
    pub fn release(&mut self, id: ConnId) {
        let place = &mut self.places[id.index as usize];
        assert!(
            place.generation == id.generation && place.who.is_none(),
            "a place is released once, when it has been vacated"
        );
        place.generation = place.generation.wrapping_add(1);
        self.free.push(id.index);
    }

    /// The generation of who has a place now.
    #[inline]
    pub fn generation(&self, index: u32) -> Option<u32> {
        let place = self.places.get(index as usize)?;
        place.who.is_some().then_some(place.generation)
    }

    /// How many are in use.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Those in use.
    pub fn ids(&self) -> Vec<ConnId> {
        let used = self.places.iter().enumerate().filter(|(_, place)| place.who.is_some());
        used.map(|(index, place)| ConnId { index: index as u32, generation: place.generation }).collect()
    }
}
