//! Every state that one connection can come to.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::super::mutations::{Mutation, with};
use super::choices::Choice;
use super::fate::Fate;
use super::world::{World, Wrong};

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

/// The mistake is found, and as this.
fn is_found(mutation: Mutation, wrong: &str) {
    let told = with(mutation, search).err().unwrap_or_else(|| panic!("{mutation:?} is not found"));
    println!("{told}");
    assert!(told.contains(wrong), "{mutation:?} is found as {told}");
}

macro_rules! mistakes {
    ($($test:ident: $mutation:ident, $wrong:literal;)*) => {
        $(#[test]
        fn $test() {
            is_found(Mutation::$mutation, $wrong);
        })*

        #[test]
        fn every_mistake_has_its_test() {
            assert_eq!(Mutation::ALL, [$(Mutation::$mutation,)*]);
            let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/TESTING.md"));
            let docs = docs.expect("it is there");
            for mutation in Mutation::ALL {
                assert!(docs.contains(&format!("`{mutation:?}`")), "docs/TESTING.md has no {mutation:?}");
            }
        }
    };
}

mistakes! {
    a_move_that_does_not_wait_for_its_receive_is_found: SkipCancelWait, "only what is armed ends";
    a_buffer_that_is_freed_under_its_send_is_found: FreeAtCancel, "is closed while the kernel holds";
    a_place_that_is_used_again_early_is_found: ReuseAtClose, "a place is free before the brain knows";
    a_receive_that_is_armed_twice_is_found: ArmTwice, "is armed while";
    a_close_under_a_shutdown_is_found: CloseInShutdown, "is closed while the kernel holds";
    an_end_that_is_told_before_what_came_earlier_is_found: EndBeforeUnread, "before what came earlier";
    bytes_that_are_dropped_are_found: DropUnread, "bytes are dropped";
    a_life_without_a_deadline_is_found: FlushForever, "nothing follows by Silence";
    a_brain_that_is_told_of_a_stranger_is_found: TellStranger, "the brain is told of an end";
    a_queue_that_is_forgotten_is_found: ForgetQueued, "nobody sends what is queued";
}
