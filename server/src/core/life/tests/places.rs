//! Random lives that follow each other on the same places.

use std::collections::{BTreeMap, BTreeSet};

use tern_shard::reply::ConnId;

use super::super::Places;
use super::world::{BrainKnows, World};

/// Lives at once. Few, so that places are used again at once.
const LIVES_MAX: usize = 3;

/// One core's connections, and what its brain thinks of their places.
#[derive(Default)]
struct Core {
    places: Places<World>,
    /// Closed, and the brain is to be told.
    leaving: BTreeMap<u32, (ConnId, World)>,
    /// Places that the brain has for somebody's.
    known: BTreeSet<u32>,
    had: BTreeSet<(u32, u32)>,
    begun: usize,
}

impl Core {
    fn begin(&mut self, rng: &mut fastrand::Rng) {
        let beginnings = World::beginnings().expect("every beginning is right");
        let world = rng.choice(beginnings).expect("there are some");
        self.begun += 1;
        let knows = matches!(world.brain, BrainKnows::Open | BrainKnows::Closing);
        let id = self.places.insert(world);
        assert!(self.had.insert((id.index, id.generation)), "{id:?} was somebody else's");
        assert!(!self.known.contains(&id.index), "{id:?} is still another one's to the brain");
        assert!(!self.leaving.contains_key(&id.index), "{id:?} has not been left");
        if knows {
            self.known.insert(id.index);
        }
        self.leave_if_closed(id);
    }

    /// Has something happen to one of those that are there.
    fn step(&mut self, rng: &mut fastrand::Rng) {
        let Some(id) = rng.choice(self.places.ids()) else { return };
        let world = self.places.get(id).expect("it is there");
        let choice = rng.choice(world.choices()).expect("something can happen to all that live");
        world.take(choice).unwrap_or_else(|wrong| panic!("{wrong} by {choice:?}"));
        match world.brain {
            BrainKnows::NotYet | BrainKnows::Gone | BrainKnows::SentAway => self.known.remove(&id.index),
            BrainKnows::Open | BrainKnows::Finished | BrainKnows::Closing => self.known.insert(id.index),
        };
        self.leave_if_closed(id);
    }

    fn leave_if_closed(&mut self, id: ConnId) {
        if !self.places.get(id).is_some_and(|world| world.is_closed()) {
            return;
        }
        let world = self.places.vacate(id).expect("it is there");
        assert!(self.places.get(id).is_none(), "who has gone is found");
        if world.released {
            self.places.release(id);
            assert!(self.places.generation(id.index).is_none(), "a free place is nobody's");
        } else {
            self.leaving.insert(id.index, (id, *world));
        }
    }

    /// The brain hears of one that has gone.
    fn tell(&mut self, rng: &mut fastrand::Rng) {
        let Some(index) = rng.choice(self.leaving.keys().copied().collect::<Vec<_>>()) else { return };
        let (id, mut world) = self.leaving.remove(&index).expect("it is there");
        for choice in world.choices() {
            world.take(choice).unwrap_or_else(|wrong| panic!("{wrong} by {choice:?}"));
        }
        assert!(world.is_over(), "the brain has been told, and {id:?} is not free");
        self.known.remove(&index);
        self.places.release(id);
    }
}

#[test]
fn a_place_is_anothers_only_when_the_brain_has_heard_of_the_end() {
    let seed: Option<u64> = std::env::var("TERN_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = seed.map_or_else(|| (0..200).map(|_| fastrand::u64(..)).collect(), |seed| vec![seed]);
    let mut begun = 0;
    for seed in seeds {
        println!("repeat with TERN_SEED={seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut core = Core::default();
        for _ in 0..500 {
            match rng.u8(..) {
                0..32 if core.places.len() < LIVES_MAX => core.begin(&mut rng),
                32..40 => core.tell(&mut rng),
                _ => core.step(&mut rng),
            }
        }
        begun += core.begun;
        assert!(core.had.iter().map(|(index, _)| index).max().is_none_or(|index| *index < 64));
    }
    assert!(seed.is_some() || begun > 200, "places are used again: {begun} lives");
}
