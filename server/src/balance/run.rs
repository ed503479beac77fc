//! A plan that is being carried out.

use std::time::{Duration, Instant};

use tern_cluster::plan::{Move, Plan};

/// How it has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    Done,
    Cancelled,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) plan: String,
    pub(super) moves: Vec<Move>,
    /// The next one.
    next: usize,
    /// One is being made.
    pub(super) is_moving: bool,
    pub(super) done: usize,
    /// Those that were not there any more where the plan had them.
    pub(super) left_out: usize,
    /// Moves a second.
    pub(super) rate: f64,
    pub(super) paused: bool,
    /// Acknowledgements take much longer than before: moves wait until they do not.
    pub(super) held: bool,
    /// How long each slot that has moved did not answer.
    pub(super) pauses: Vec<Duration>,
    pub(super) began: Instant,
    /// When the last one was begun.
    last: Option<Instant>,
    pub(super) ended: Option<Ended>,
    pub(super) took: Option<Duration>,
    pub(super) skew: (f64, f64),
}

impl Run {
    pub(super) fn new(id: String, plan: Plan, rate: f64) -> Self {
        let mut run = Self {
            plan: id,
            moves: plan.moves,
            next: 0,
            is_moving: false,
            done: 0,
            left_out: 0,
            rate,
            paused: false,
            held: false,
            pauses: Vec::new(),
            began: Instant::now(),
            last: None,
            ended: None,
            took: None,
            skew: plan.skew,
        };
        if run.moves.is_empty() {
            run.end(Ended::Done);
        }
        run
    }

    /// Whether slots are on their way, or will be.
    pub(super) fn moves(&self) -> bool {
        self.ended.is_none() && !self.paused
    }

    /// How long until the next move may begin.
    pub(super) fn wait(&self) -> Duration {
        let between = Duration::from_secs_f64(1.0 / self.rate);
        match self.last {
            _ if self.held || self.paused || self.ended.is_some() => Duration::from_secs(1),
            None => Duration::ZERO,
            Some(last) => between.saturating_sub(last.elapsed()),
        }
    }

    /// The next move, if its time has come, and whose it is.
    pub(super) fn next(&mut self) -> Option<(Move, String)> {
        if !self.wait().is_zero() {
            return None;
        }
        let step = *self.moves.get(self.next)?;
        (self.next, self.last, self.is_moving) = (self.next + 1, Some(Instant::now()), true);
        Some((step, self.plan.clone()))
    }

    /// A move was made, with this pause, or left out.
    pub(super) fn made(&mut self, pause: Option<Duration>) {
        self.is_moving = false;
        match pause {
            Some(pause) => {
                self.done += 1;
                self.pauses.push(pause);
            }
            None => self.left_out += 1,
        }
        if self.next == self.moves.len() && self.ended.is_none() {
            self.end(Ended::Done);
        }
    }

    pub(super) fn end(&mut self, how: Ended) {
        (self.ended, self.took) = (Some(how), Some(self.began.elapsed()));
    }

    /// Half of the pauses, all but one of a hundred, and all were no longer.
    pub(super) fn pauses(&self) -> [Duration; 3] {
        let mut sorted = self.pauses.clone();
        sorted.sort_unstable();
        let at = |share: f64| {
            let place = (sorted.len() as f64 * share).ceil() as usize;
            sorted.get(place.saturating_sub(1)).copied().unwrap_or_default()
        };
        [at(0.5), at(0.99), at(1.0)]
    }
}
