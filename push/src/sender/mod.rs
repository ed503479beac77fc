//! The sender: takes notices, brings them to their services, and says what has become of each.
//!
//! A lane per service (lane.rs) decides what is sent when; a task per lane (run.rs) gives it the time and sends. What is held is bounded, from
//! the offer until the outcome is taken: beyond, the offer is refused, and whoever made it keeps its durable row and tries again.

mod backoff;
pub(crate) mod breaker;
mod counters;
mod lane;
#[cfg(test)]
mod lane_tests;
mod outcome;
mod pauses;
mod run;

use std::fmt;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use tokio::sync::{mpsc, watch};

pub use self::backoff::Backoff;
pub use self::breaker::{BreakerState, Pauses};
use self::counters::Tally;
pub use self::counters::{Counters, LaneSnapshot};
use self::lane::Bounds;
pub use self::outcome::{Order, Outcome, Outcomes, Report};
use self::run::Runner;
use crate::service::Service;
use crate::token::TokenKind;
use crate::wall::Wall;

/// What an operator may set, of each lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Notices that are held. Beyond, an offer is refused.
    pub held_max: usize,
    /// Requests in flight: one at least. Beyond, notices wait.
    pub in_flight_max: usize,
    /// How often a notice is tried. Beyond, it is a dead letter.
    pub tries_max: u32,
    /// How long it waits between.
    pub backoff: Backoff,
    /// Failures of a service in a row. Beyond, its notices wait, and one tries from time to time.
    pub failures_max: u32,
    /// How long they wait.
    pub pauses: Pauses,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            held_max: 65_536,
            in_flight_max: 512,
            tries_max: 5,
            backoff: Backoff::default(),
            failures_max: 10,
            pauses: Pauses::default(),
        }
    }
}

/// Why a notice was not taken. It has no outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotTaken {
    /// The lane holds as many as it may: try again when outcomes have been taken.
    Full,
    /// There is no such service here.
    NoService(TokenKind),
    /// The sender has been stopped.
    Stopped,
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the queue of the push service is full: try again when outcomes have been taken",
            Self::NoService(_) => "no push service is configured for such a token",
            Self::Stopped => "the sender of pushes has been stopped",
        })
    }
}

impl std::error::Error for NotTaken {}

/// Takes notices. When the last one is dropped, it is as if it was stopped.
#[derive(Clone)]
pub struct Sender(Arc<Desk>);

struct Desk {
    lanes: Vec<Way>,
    held_max: usize,
    /// Whether to stop. It is closed when the last sender is dropped.
    stop: watch::Sender<bool>,
}

/// The way to a lane.
struct Way {
    service: TokenKind,
    name: &'static str,
    orders: mpsc::UnboundedSender<Order>,
    tally: Arc<Tally>,
}

impl Sender {
    /// Begins, with a task for each service; of several for one kind of token the first is used. It is to be called on a runtime of tokio's.
    /// `rng` decides how long tries wait for one another.
    pub fn start(
        settings: Settings,
        services: Vec<Arc<dyn Service>>,
        wall: &Wall,
        mut rng: ChaCha8Rng,
    ) -> (Self, Outcomes) {
        let (to_caller, reports) = mpsc::unbounded_channel();
        let (stop, is_stopped) = watch::channel(false);
        let mut lanes = Vec::new();
        for service in services {
            let (orders, coming) = mpsc::unbounded_channel();
            let tally = Arc::new(Tally::default());
            lanes.push(Way { service: service.kind(), name: service.name(), orders, tally: tally.clone() });
            let rng = ChaCha8Rng::seed_from_u64(rng.next_u64());
            let runner = Runner::new(&settings, service, wall.clone(), rng, tally, to_caller.clone());
            tokio::spawn(runner.run(coming, is_stopped.clone()));
        }
        (Self(Arc::new(Desk { lanes, held_max: settings.held_max, stop })), Outcomes { reports })
    }

    /// Takes a notice, from any thread, and does not wait. Of notices for the same device and collapse key the one that is offered last is the
    /// newest.
    ///
    /// # Errors
    /// It was not taken.
    pub fn offer(&self, order: Order) -> Result<(), NotTaken> {
        let kind = order.token.kind();
        let lane = self.0.lanes.iter().find(|lane| lane.service == kind).ok_or(NotTaken::NoService(kind))?;
        if !lane.tally.hold(self.0.held_max) {
            return Err(NotTaken::Full);
        }
        lane.orders.send(order).map_err(|_| {
            lane.tally.let_go();
            NotTaken::Stopped
        })
    }

    /// How the lanes are.
    pub fn snapshot(&self) -> Vec<LaneSnapshot> {
        self.0.lanes.iter().map(|lane| lane.tally.snapshot(lane.service, lane.name)).collect()
    }

    /// Takes nothing more. What is in flight is waited for; all else is [`Outcome::Stopped`]. When that is done, [`Outcomes::next`] gives
    /// `None`.
    pub fn stop(&self) {
        self.0.stop.send_replace(true);
    }
}

impl Settings {
    fn bounds(&self) -> Bounds {
        Bounds { in_flight_max: self.in_flight_max.max(1), tries_max: self.tries_max, backoff: self.backoff }
    }
}
