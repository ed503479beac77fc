//! The bare client's side: a thread for each lane, which has one transaction under way. It rests on nothing and is told of by nothing: the
//! least that commits these rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tern_fdb::FdbClient;

use super::{Done, FdbArgs, ROWS, message, took};

pub(super) struct Bare {
    client: Arc<FdbClient>,
    threads: u16,
    body: Vec<u8>,
    made: Vec<AtomicU64>,
}

impl Bare {
    pub(super) fn new(client: Arc<FdbClient>, arguments: &FdbArgs) -> Self {
        let made = (0..arguments.lanes).map(|_| AtomicU64::new(0)).collect();
        Self { client, threads: arguments.lanes, body: vec![b'x'; arguments.size], made }
    }

    /// One transaction of so many messages after another.
    pub(super) fn closed(&self, lasts: Duration, messages: u64) -> Done {
        self.run(lasts, messages, |_| Instant::now())
    }

    /// So many transactions a second; their times count from when they were due.
    pub(super) fn open_loop(&self, lasts: Duration, messages: u64, per_s: f64) -> Done {
        let every = Duration::from_secs_f64(f64::from(self.threads) / per_s.max(1.0));
        let begun = Instant::now();
        self.run(lasts, messages, move |number| {
            let due = begun + every.mul_f64(number as f64);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            due
        })
    }

    fn run(&self, lasts: Duration, messages: u64, due: impl Fn(u64) -> Instant + Sync) -> Done {
        let begun = Instant::now();
        let done: Vec<Done> = thread::scope(|scope| {
            let one = |at: u16| {
                let due = &due;
                scope.spawn(move || self.commit(at, messages, begun + lasts, due))
            };
            let threads: Vec<_> = (0..self.threads).map(one).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        Done::together(done.into_iter(), begun.elapsed())
    }

    fn commit(&self, at: u16, messages: u64, ends: Instant, due: &impl Fn(u64) -> Instant) -> Done {
        let mut done = Done::nothing();
        for number in 0.. {
            let since = due(number);
            if Instant::now() >= ends {
                break;
            }
            let first = self.made[usize::from(at)].fetch_add(messages, Ordering::Relaxed) + 1;
            let batches = (first..first + messages).map(|number| message(at, number, &self.body));
            if self.client.commit_bare(batches) {
                took(&mut done, since.elapsed());
                done.rows += messages * ROWS;
                done.transactions += 1;
            } else {
                done.errors += 1;
            }
        }
        done
    }
}
