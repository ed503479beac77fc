//! A model of the wake protocol: in every interleaving, a core that sleeps with a message waiting is woken.

#[path = "../src/mesh/sleep.rs"]
mod sleep;

mod atomics {
    pub(super) use loom::sync::atomic::{AtomicBool, Ordering, fence};
}

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use sleep::Sleeper;

/// `senders` cores push a message each; the receiver sleeps as a core does.
fn no_wake_up_is_lost(senders: usize, preemptions_max: Option<usize>) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = preemptions_max;
    model.check(move || {
        let sleeper = Arc::new(Sleeper::default());
        let messages = Arc::new(AtomicUsize::new(0));
        let wakes = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..senders)
            .map(|_| {
                let (sleeper, messages, wakes) = (sleeper.clone(), messages.clone(), wakes.clone());
                thread::spawn(move || {
                    messages.fetch_add(1, Ordering::Release);
                    if sleeper.claim() {
                        wakes.fetch_add(1, Ordering::Release);
                    }
                })
            })
            .collect();
        sleeper.announce();
        let slept_with = messages.load(Ordering::Acquire);
        let sleeps = slept_with == 0;
        if !sleeps {
            sleeper.retract();
        }
        for thread in threads {
            thread.join().expect("no panic");
        }
        if sleeps {
            assert_eq!(wakes.load(Ordering::Acquire), 1, "asleep with messages: woken, and once");
        }
    });
}

#[test]
fn one_sender_wakes_a_sleeping_core() {
    no_wake_up_is_lost(1, None);
}

#[test]
fn two_senders_wake_a_sleeping_core_once() {
    // Without a bound the model takes a minute, and finds no more.
    no_wake_up_is_lost(2, Some(3));
}
