//! What is measured.

pub mod churn;
#[cfg(feature = "fdb")]
pub mod fdb;
pub mod group;
pub mod idle;
pub mod lasting;
pub mod limits;
pub mod media;
pub mod mixed;
mod others;
pub mod pairs;
pub mod pieces;
pub mod presence;
pub mod push;
pub mod rebalance;
pub mod resume;
pub mod search;
pub mod soak;
pub mod storm;
pub mod strangers;
pub mod why_slow;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tern_testkit::TestUser;

use crate::arguments;
use crate::latency::{self, Latencies};
use crate::load::{Habits, Live, Tally, Traffic};
use crate::target::Target;

/// Where the latencies of each interval go.
#[derive(Clone, Debug, clap::Args)]
pub struct LogArgs {
    /// Write the latencies of each interval to this file (HdrHistogram's interval log, version 2)
    #[arg(long, value_name = "FILE", value_parser = arguments::writable)]
    log: Option<PathBuf>,
    /// Seconds of an interval
    #[arg(long, default_value_t = 1.0, value_parser = arguments::positive)]
    interval: f64,
}

impl LogArgs {
    fn interval(&self) -> Duration {
        Duration::from_secs_f64(self.interval.max(0.01))
    }

    /// Writes latencies that are counted from `begun` on.
    fn write(&self, begun: Instant, kinds: &[(&str, &Latencies)]) -> Result<(), String> {
        let Some(path) = &self.log else { return Ok(()) };
        latency::write_log(path, SystemTime::now() - begun.elapsed(), kinds)
            .map_err(|error| format!("{}: {error}", path.display()))
    }
}

/// Traffic of pairs of users, on threads of its own.
struct Load<'a> {
    target: &'a Target,
    users: &'a [TestUser],
    /// Rates of all threads together.
    habits: Habits,
    threads: u32,
    measured: Range<Duration>,
    interval: Duration,
    sample_every: u64,
}

impl Load<'_> {
    /// Connects all, and does what `act` says from a common begin on. Gives what all threads have counted.
    fn run(&self, act: &(dyn Fn(&mut Traffic) -> Result<(), String> + Sync)) -> Result<Tally, String> {
        let pairs: Vec<&[TestUser]> = self.users.chunks_exact(2).collect();
        let threads = self.threads.clamp(1, pairs.len().max(1) as u32);
        let (connected, begin) = (Barrier::new(threads as usize), OnceLock::new());
        let (live, over) = (Arc::new(Live::default()), AtomicBool::new(false));
        let one = |thread: u32| {
            let mine: Vec<_> =
                pairs.iter().copied().skip(thread as usize).step_by(threads as usize).collect();
            let traffic = self.connect(thread, threads, &mine, live.clone());
            connected.wait();
            let mut traffic = traffic?;
            traffic.begin(*begin.get_or_init(Instant::now), self.measured.clone());
            act(&mut traffic)?;
            traffic.end()
        };
        thread::scope(|scope| {
            let one = &one;
            let lasts = (self.measured.end < Duration::MAX).then_some(self.measured.end);
            let (live, over) = (&live, &over);
            scope.spawn(move || live.show(lasts, over));
            let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || one(thread))).collect();
            let ended: Vec<_> = running.into_iter().map(thread::ScopedJoinHandle::join).collect();
            over.store(true, Ordering::Release);
            let mut sum = Tally::every(self.interval);
            for tally in ended {
                sum.add(tally.map_err(|_| "a generator thread has panicked".to_owned())??);
            }
            Ok(sum)
        })
    }

    fn connect(
        &self,
        thread: u32,
        threads: u32,
        pairs: &[&[TestUser]],
        live: Arc<Live>,
    ) -> Result<Traffic, String> {
        let mut habits = self.habits.clone();
        habits.rate = habits.rate.map(|(rate, arrivals)| (rate / f64::from(threads), arrivals));
        let mut traffic =
            Traffic::connect(habits, self.target, pairs, thread, (Tally::every(self.interval), live))?;
        traffic.sample_every(self.sample_every);
        Ok(traffic)
    }
}
