//! What a lane has done and how it is, for whoever wants to look.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::breaker::BreakerState;
use super::outcome::Outcome;
use crate::token::TokenKind;

/// What a lane has done since it began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Requests that were sent and have come back, with an answer or without; those again among them.
    pub sent: u64,
    /// Of them those that were sent again.
    pub retried: u64,
    /// Notices by their outcome.
    pub delivered: u64,
    /// The same.
    pub replaced: u64,
    /// The same: tokens that are no more.
    pub dead: u64,
    /// The same.
    pub expired: u64,
    /// The same.
    pub refused: u64,
    /// The same: those that were tried as often as they may be.
    pub dead_letters: u64,
    /// The same: those that had no outcome when the sender was stopped.
    pub stopped: u64,
    /// How often the breaker has opened.
    pub opened: u64,
}

impl Counters {
    pub(super) fn count(&mut self, outcome: &Outcome) {
        let counter = match outcome {
            Outcome::Delivered => &mut self.delivered,
            Outcome::Replaced => &mut self.replaced,
            Outcome::Dead(_) => &mut self.dead,
            Outcome::Expired => &mut self.expired,
            Outcome::Refused(_) => &mut self.refused,
            Outcome::GaveUp => &mut self.dead_letters,
            Outcome::Stopped => &mut self.stopped,
        };
        *counter += 1;
    }
}

/// How a lane is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaneSnapshot {
    /// Its service.
    pub service: TokenKind,
    /// What the service is called.
    pub name: &'static str,
    /// What it has done.
    pub counters: Counters,
    /// Whether its service is asked.
    pub breaker: BreakerState,
    /// Notices that wait for a place, a time, or an older one of theirs.
    pub waiting: usize,
    /// Requests in flight.
    pub in_flight: usize,
    /// Notices without an outcome that was taken: its queue.
    pub held: usize,
}

/// What a lane writes and others read.
#[derive(Default)]
pub(super) struct Tally {
    /// See [`LaneSnapshot::held`].
    held: AtomicUsize,
    seen: Mutex<Seen>,
}

/// How a lane was when it last did something.
#[derive(Clone, Copy, Default)]
pub(super) struct Seen {
    pub counters: Counters,
    pub breaker: BreakerState,
    pub waiting: usize,
    pub in_flight: usize,
}

impl Tally {
    /// Takes a place. `false`: there is none.
    pub fn hold(&self, held_max: usize) -> bool {
        let next = |held| (held < held_max).then_some(held + 1);
        self.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).is_ok()
    }

    /// Gives a place back.
    pub fn let_go(&self) {
        self.held.fetch_sub(1, Ordering::AcqRel);
    }

    pub fn set(&self, seen: Seen) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }

    pub fn snapshot(&self, service: TokenKind, name: &'static str) -> LaneSnapshot {
        let Seen { counters, breaker, waiting, in_flight } =
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.held.load(Ordering::Acquire);
        LaneSnapshot { service, name, counters, breaker, waiting, in_flight, held }
    }
}
