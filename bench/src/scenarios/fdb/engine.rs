//! The engine's side: threads that submit through ports, as cores do.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tern_fdb::FdbClient;
use tern_storage::fdb::{Fdb, FdbOptions};
use tern_storage::{Completion, Engine as _, Fence, Port, StatisticValue, Wake};

use super::{Done, FdbArgs, ROWS, message, took};

pub(super) struct Engine {
    fdb: Fdb,
    threads: u16,
    window: usize,
    body: Vec<u8>,
    /// Messages that each thread has made.
    made: Vec<AtomicU64>,
}

struct Unpark(Thread, AtomicBool);

impl Wake for Unpark {
    fn wake(&self) {
        self.1.store(true, Ordering::Release);
        self.0.unpark();
    }
}

impl Engine {
    pub(super) fn open(client: Arc<FdbClient>, arguments: &FdbArgs) -> Result<Self, String> {
        let options =
            FdbOptions { lanes: arguments.lanes, commits_in_flight_max: 16_384, ..FdbOptions::default() };
        let fdb = Fdb::open(client, options, fastrand::u64(..), |why| super::progress(why));
        Ok(Self {
            fdb: fdb.map_err(|error| error.to_string())?,
            threads: arguments.lanes,
            window: arguments.window.into(),
            body: vec![b'x'; arguments.size],
            made: (0..arguments.lanes).map(|_| AtomicU64::new(0)).collect(),
        })
    }

    fn transactions(&self) -> u64 {
        let count = self.fdb.statistics().into_iter().find(|statistic| statistic.name == "fdb_commits");
        match count.map(|statistic| statistic.value) {
            Some(StatisticValue::Counter(count)) => count,
            _ => 0,
        }
    }

    /// As many as the window allows, for so long.
    pub(super) fn closed(&self, lasts: Duration) -> Done {
        self.run(lasts, |_, under_way| (under_way < self.window).then(Instant::now))
    }

    /// So many messages a second, whatever becomes of those before; their times count from when they were due.
    pub(super) fn open_loop(&self, lasts: Duration, per_s: f64) -> Done {
        let every = Duration::from_secs_f64(f64::from(self.threads) / per_s.max(1.0));
        let begun = Instant::now();
        self.run(lasts, move |number, _| {
            let due = begun + every.mul_f64(number as f64);
            (due <= Instant::now()).then_some(due)
        })
    }

    /// `due` says of the next message of a thread when it was due, if it is, by its number in this run and what is under way.
    fn run(&self, lasts: Duration, due: impl Fn(u64, usize) -> Option<Instant> + Sync) -> Done {
        let (before, begun) = (self.transactions(), Instant::now());
        let done: Vec<Done> = thread::scope(|scope| {
            let one = |at: u16| {
                let due = &due;
                scope.spawn(move || self.submit(at, begun + lasts, due))
            };
            let threads: Vec<_> = (0..self.threads).map(one).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let mut done = Done::together(done.into_iter(), begun.elapsed());
        done.transactions = self.transactions() - before;
        done
    }

    fn submit(&self, at: u16, ends: Instant, due: &impl Fn(u64, usize) -> Option<Instant>) -> Done {
        let unpark = Arc::new(Unpark(thread::current(), AtomicBool::new(false)));
        let mut port: Box<dyn Port> = self.fdb.port(unpark.clone());
        let (mut done, mut under_way) = (Done::nothing(), VecDeque::new());
        let (mut completions, mut number) = (Vec::new(), 0);
        loop {
            let is_over = Instant::now() >= ends;
            while !is_over && let Some(since) = due(number, under_way.len()) {
                let made = self.made[usize::from(at)].fetch_add(1, Ordering::Relaxed);
                let batch = message(at, made + 1, &self.body);
                if port.submit(batch, Fence::default()).is_err() {
                    done.errors += 1;
                }
                under_way.push_back(since);
                number += 1;
            }
            port.poll(&mut completions);
            for completion in completions.drain(..) {
                let since = under_way.pop_front().expect("what ends was submitted");
                match completion {
                    Completion::Committed(_) => {
                        took(&mut done, since.elapsed());
                        done.rows += ROWS;
                    }
                    _ => done.errors += 1,
                }
            }
            if is_over && under_way.is_empty() {
                return done;
            }
            if !unpark.1.swap(false, Ordering::AcqRel) && !port.has_completions() {
                // The next one may be due before anything completes.
                thread::park_timeout(Duration::from_micros(200));
            }
        }
    }
}
