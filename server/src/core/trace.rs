//! Sampled messages on their way, and where a core's CPU time goes. Both only while `trace.every` is set.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::time::{ClockId, clock_gettime};
use tern_shard::effects::Stage;
use tern_shard::entry::Author;
use tern_wire::ids::ClientMessageId;

/// Stations that wait to be read. Beyond, the oldest are forgotten.
const PASSED_MAX: usize = 1 << 18;

/// A sampled message has reached a station.
#[derive(Clone, Copy, Debug)]
struct Passed {
    author: Author,
    client_id: ClientMessageId,
    station: &'static str,
    /// Of the machine's monotonic clock.
    at_ns: u64,
}

/// What all cores have seen, until somebody reads it; and which messages they look at.
#[derive(Debug, Default)]
pub struct Traces {
    passed: Mutex<VecDeque<Passed>>,
    /// Stations that were forgotten because nobody read them in time.
    lost: AtomicU64,
    every: AtomicU64,
}

impl Traces {
    /// Follows each message whose client id is a multiple of `every`; none with 0.
    pub fn every(every: u64) -> Self {
        Self { every: every.into(), ..Self::default() }
    }

    /// Follows others from now on. Gives which were followed before.
    pub fn follow(&self, every: u64) -> u64 {
        self.every.swap(every, Ordering::Relaxed)
    }

    fn put(&self, passed: &mut Vec<Passed>) {
        // Nothing panics while it holds this; and what is lost is a sample.
        let mut kept = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(passed.drain(..));
        let over = kept.len().saturating_sub(PASSED_MAX);
        kept.drain(..over);
        self.lost.fetch_add(over as u64, Ordering::Relaxed);
    }

    /// How many stations were forgotten since this was asked last.
    pub fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    /// Takes all, a line each: the sender's user id, the client id, the station, ns of the machine's monotonic clock, the sender's
    /// device.
    pub fn take(&self) -> String {
        let taken = std::mem::take(&mut *self.passed.lock().unwrap_or_else(PoisonError::into_inner));
        let mut text = String::new();
        for Passed { author: Author { user, device }, client_id, station, at_ns } in taken {
            // A string takes whatever is written to it.
            let _ = writeln!(text, "{} {} {station} {at_ns} {}", user.get(), client_id.0, device.get());
        }
        text
    }
}

/// One core's view.
#[derive(Debug, Default)]
pub(super) struct Tracer {
    /// As it was at the beginning of the turn.
    every: u64,
    /// When what is being handled was received.
    received_ns: u64,
    passed: Vec<Passed>,
    /// In the open batch.
    batched: Vec<(Author, ClientMessageId)>,
    /// Queued to connections, and not yet with the ring.
    queued: Vec<(Author, ClientMessageId, &'static str)>,
}

impl Tracer {
    pub(super) fn is_on(&self) -> bool {
        self.every > 0
    }

    /// Bytes have come, and are handled next.
    pub(super) fn received(&mut self) {
        if self.is_on() {
            self.received_ns = monotonic_ns();
        }
    }

    /// A message has reached a station.
    pub(super) fn passed(&mut self, author: Author, client_id: ClientMessageId, stage: Stage) {
        if !self.is_on() || !client_id.0.is_multiple_of(self.every) {
            return;
        }
        match stage {
            Stage::Decrypted => {
                self.note(author, client_id, "received", self.received_ns);
                self.note(author, client_id, "decrypted", monotonic_ns());
            }
            Stage::Routed => self.note(author, client_id, "routed", monotonic_ns()),
            Stage::Batched => {
                self.batched.push((author, client_id));
                self.note(author, client_id, "batched", monotonic_ns());
            }
            Stage::Committed => self.note(author, client_id, "committed", monotonic_ns()),
            Stage::Acknowledged => self.queued.push((author, client_id, "acknowledged")),
            Stage::Delivered => self.queued.push((author, client_id, "delivered")),
        }
    }

    fn note(&mut self, author: Author, client_id: ClientMessageId, station: &'static str, at_ns: u64) {
        self.passed.push(Passed { author, client_id, station, at_ns });
    }

    /// The open batch has gone to the store.
    pub(super) fn submitted(&mut self) {
        for (author, client_id) in std::mem::take(&mut self.batched) {
            self.note(author, client_id, "submitted", monotonic_ns());
        }
    }

    /// Everything that was queued is sealed and with the ring.
    pub(super) fn flushed(&mut self) {
        for (author, client_id, station) in std::mem::take(&mut self.queued) {
            self.note(author, client_id, station, monotonic_ns());
        }
    }

    /// Hands what was seen to whoever reads it, and hears what to look at.
    pub(super) fn hand_over(&mut self, traces: &Traces) {
        if !self.passed.is_empty() {
            traces.put(&mut self.passed);
        }
        self.every = traces.every.load(Ordering::Relaxed);
    }
}

fn ns_of(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// CPU time of this thread, in ns.
pub(super) fn thread_cpu_ns() -> u64 {
    ns_of(ClockId::ThreadCPUTime)
}

fn monotonic_ns() -> u64 {
    ns_of(ClockId::Monotonic)
}

/// The CPU time of this thread since the last look.
#[derive(Debug, Default)]
pub(super) struct CpuTime {
    on: bool,
    last_ns: u64,
}

impl CpuTime {
    /// A turn begins, which somebody wants to know the time of, or nobody.
    pub(super) fn turn(&mut self, on: bool) {
        if on && !self.on {
            self.last_ns = ns_of(ClockId::ThreadCPUTime);
        }
        self.on = on;
    }

    /// Ns since the last call; 0 if nobody wants to know.
    pub(super) fn lap(&mut self) -> u64 {
        if !self.on {
            return 0;
        }
        let now = ns_of(ClockId::ThreadCPUTime);
        now.saturating_sub(std::mem::replace(&mut self.last_ns, now))
    }
}

#[cfg(test)]
mod tests {
    use tern_wire::ids::{DeviceId, UserId};

    use super::*;

    #[test]
    fn stations_that_nobody_reads_are_bounded() {
        let traces = Traces::default();
        let one = |client_id| Passed {
            author: Author {
                user: UserId::new(7).expect("a user id"),
                device: DeviceId::new(1).expect("a device"),
            },
            client_id: ClientMessageId(client_id),
            station: "routed",
            at_ns: 1,
        };
        for round in 0..3 {
            traces.put(&mut (0..PASSED_MAX as u64 / 2).map(|n| one(round * PASSED_MAX as u64 + n)).collect());
        }
        let text = traces.take();
        assert_eq!(text.lines().count(), PASSED_MAX);
        assert!(text.lines().next().is_some_and(|line| line == format!("7 {PASSED_MAX} routed 1 1")));
        assert_eq!(traces.take_lost(), PASSED_MAX as u64 / 2, "and it is told how many there were");
        assert_eq!(traces.take(), "");
    }
}
