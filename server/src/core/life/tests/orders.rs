//! Every state that one connection can come to.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::super::mutations::{Mutation, with};
use super::world::{Choice, Fate, World, Wrong};

/// What a search has found.
struct Found {
    states: usize,
    steps: usize,
    ended: usize,
}

/// Goes through all states. An error is told with the events that lead to it.
fn search() -> Result<Found, Wrong> {
    let mut worlds = Vec::new();
    let mut came: Vec<Option<(usize, Choice)>> = Vec::new();
    let mut known = HashMap::new();
    let mut next = VecDeque::new();
    let mut found = Found { states: 0, steps: 0, ended: 0 };
    for world in World::beginnings()? {
        known.insert(world.normal(), worlds.len());
        next.push_back(worlds.len());
        worlds.push(world);
        came.push(None);
    }
    let story = |came: &[Option<(usize, Choice)>], mut at: usize, last: Choice| {
        let mut events = vec![format!("{last:?}")];
        while let Some((before, choice)) = came[at] {
            events.push(format!("{choice:?}"));
            at = before;
        }
        events.reverse();
        format!("from {:?}\n  {}", at, events.join("\n  "))
    };
    while let Some(at) = next.pop_front() {
        found.ended += usize::from(worlds[at].is_over());
        for fate in [Fate::PeerCloses, Fate::Reset, Fate::Silence] {
            let end = guarded(|| worlds[at].clone().ends_by(fate));
            if let Err(wrong) = end {
                let (before, last) = came[at].ok_or_else(|| wrong.clone())?;
                return Err(format!("{wrong}\n{}", story(&came, before, last)));
            }
        }
        for choice in worlds[at].choices() {
            let mut world = worlds[at].clone();
            found.steps += 1;
            guarded(|| world.take(choice))
                .map_err(|wrong| format!("{wrong}\n{}", story(&came, at, choice)))?;
            known.entry(world.normal()).or_insert_with(|| {
                next.push_back(worlds.len());
                worlds.push(world);
                came.push(Some((at, choice)));
                worlds.len() - 1
            });
        }
    }
    found.states = worlds.len();
    Ok(found)
}

/// What the table itself finds impossible is as wrong as what the model does.
fn guarded(step: impl FnOnce() -> Result<(), Wrong>) -> Result<(), Wrong> {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<&str>().map(|said| (*said).to_owned());
        Err(said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default())
    })
}

#[test]
fn in_no_order_of_events_is_a_descriptor_a_buffer_or_a_place_let_go_early_or_a_life_without_end() {
    let found = search().unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("{} states, {} steps, {} ends", found.states, found.steps, found.ended);
    assert!(found.states > 1000, "the search goes through {} states", found.states);
    assert!(found.ended > 0, "no life ends");
}

#[test]
fn each_mistake_is_found() {
    for mutation in Mutation::ALL {
        let found = with(*mutation, search);
        let wrong = found.err().unwrap_or_else(|| panic!("{mutation:?} is not found"));
        println!("{mutation:?}: {wrong}\n");
    }
}
