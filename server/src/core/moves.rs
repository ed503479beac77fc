//! Moves of slots from core to core, one at a time: the table that says so goes to every core, and the next one when that move is over
//! on all of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tern_shard::effects::MoveStep;

/// How often who waits for a move looks whether the node stops meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// What the cores say of the move that is under way.
#[derive(Debug)]
pub(super) struct Moves {
    began: Instant,
    /// By core: the newest table that has come there, with nothing of its move left to be done.
    settled: Box<[AtomicU64]>,
    /// When the last owner has let go, and the next one has taken up: ns since `began`.
    left_ns: AtomicU64,
    taken_ns: AtomicU64,
    /// Who waits for the end.
    waits: Mutex<Option<Thread>>,
}

impl Moves {
    pub(super) fn new(cores: u16) -> Self {
        Self {
            began: Instant::now(),
            settled: (0..cores).map(|_| AtomicU64::new(0)).collect(),
            left_ns: AtomicU64::new(0),
            taken_ns: AtomicU64::new(0),
            waits: Mutex::new(None),
        }
    }

    /// A slot has come so far.
    pub(super) fn step(&self, step: MoveStep) {
        let now_ns = self.began.elapsed().as_nanos() as u64;
        match step {
            MoveStep::Left => self.left_ns.store(now_ns, Ordering::Release),
            MoveStep::Taken => self.taken_ns.store(now_ns, Ordering::Release),
        }
    }

    /// A core has nothing left to do for the move of this table.
    pub(super) fn is_settled(&self, core: u16, version: u64) {
        self.settled[usize::from(core)].store(version, Ordering::Release);
        if let Some(waits) = &*self.waits.lock().unwrap_or_else(PoisonError::into_inner) {
            waits.unpark();
        }
    }

    /// Waits until the move of a table is over. Gives for how long what was asked of the slot has waited; `None`: the node stops.
    pub(super) fn wait(&self, version: u64, stops: impl Fn() -> bool) -> Option<Duration> {
        *self.waits.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current());
        while self.settled.iter().any(|settled| settled.load(Ordering::Acquire) < version) {
            if stops() {
                return None;
            }
            thread::park_timeout(LOOK);
        }
        let (left, taken) = (self.left_ns.load(Ordering::Acquire), self.taken_ns.load(Ordering::Acquire));
        Some(Duration::from_nanos(taken.saturating_sub(left)))
    }
}
