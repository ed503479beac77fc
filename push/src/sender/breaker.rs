//! Whether a service is asked at all. A state machine that knows no clock: times are in ms since any moment.
//!
//! ```text
//! Closed --failures in a row--> Open --pause is over--> Probing --answered--> Closed
//!                                ^                        |
//!                                +-- failed: twice the pause
//! ```

use std::time::Duration;

/// How long nothing is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pauses {
    /// At first.
    pub first: Duration,
    /// At most: it doubles until then.
    pub max: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), max: Duration::from_secs(60) }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Breaker {
    failures_max: u32,
    pauses: Pauses,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Closed { failures: u32 },
    Open { until_ms: u64, pause_ms: u64 },
    Probing { pause_ms: u64 },
}

/// What others see of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BreakerState {
    /// Everything is sent.
    #[default]
    Closed,
    /// Nothing is.
    Open,
    /// One notice tries whether the service is back.
    HalfOpen,
}

/// Whether something may be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Admission {
    Send,
    /// This one alone, which tries.
    Probe,
    /// Until then, in ms; or until the probe's answer.
    Wait(Option<u64>),
}

impl Breaker {
    pub fn new(failures_max: u32, pauses: Pauses) -> Self {
        Self { failures_max, pauses, state: State::Closed { failures: 0 } }
    }

    /// Whether something may be sent, which then is.
    pub fn admit(&mut self, now_ms: u64) -> Admission {
        match self.state {
            State::Closed { .. } => Admission::Send,
            State::Open { until_ms, pause_ms } if now_ms >= until_ms => {
                self.state = State::Probing { pause_ms };
                Admission::Probe
            }
            State::Open { until_ms, .. } => Admission::Wait(Some(until_ms)),
            State::Probing { .. } => Admission::Wait(None),
        }
    }

    /// The service has answered, whatever it said. While it is taken for down, the probe's answer alone counts.
    pub fn answered(&mut self, is_probe: bool) {
        match self.state {
            State::Closed { .. } => self.state = State::Closed { failures: 0 },
            State::Probing { .. } if is_probe => self.state = State::Closed { failures: 0 },
            State::Probing { .. } | State::Open { .. } => {}
        }
    }

    /// The service is down, or could not be reached. `true`: it is taken for down from now on.
    pub fn failed(&mut self, now_ms: u64, is_probe: bool) -> bool {
        match self.state {
            State::Closed { failures } if failures + 1 < self.failures_max => {
                self.state = State::Closed { failures: failures + 1 };
                false
            }
            State::Closed { .. } => {
                self.open(now_ms, millis(self.pauses.first));
                true
            }
            State::Probing { pause_ms } if is_probe => {
                self.open(now_ms, (pause_ms * 2).min(millis(self.pauses.max)));
                false
            }
            State::Probing { .. } | State::Open { .. } => false,
        }
    }

    /// What was to be sent was not: another one is the probe.
    pub fn unsent(&mut self, now_ms: u64, is_probe: bool) {
        if let (State::Probing { pause_ms }, true) = (self.state, is_probe) {
            self.state = State::Open { until_ms: now_ms, pause_ms };
        }
    }

    pub fn state(&self) -> BreakerState {
        match self.state {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::Probing { .. } => BreakerState::HalfOpen,
        }
    }

    /// When something may be sent again, in ms. `None`: now, or it depends on the probe.
    pub fn until_ms(&self) -> Option<u64> {
        if let State::Open { until_ms, .. } = self.state { Some(until_ms) } else { None }
    }

    /// Whether there is nothing to remember.
    pub fn is_well(&self) -> bool {
        self.state == State::Closed { failures: 0 }
    }

    fn open(&mut self, now_ms: u64, pause_ms: u64) {
        self.state = State::Open { until_ms: now_ms + pause_ms, pause_ms };
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(3, Pauses { first: Duration::from_millis(100), max: Duration::from_millis(350) })
    }

    #[test]
    fn failures_in_a_row_open_it_and_pauses_grow_until_a_probe_is_answered() {
        let mut breaker = breaker();
        assert!(!breaker.failed(0, false) && !breaker.failed(0, false));
        breaker.answered(false);
        assert!(!breaker.failed(0, false) && !breaker.failed(0, false), "they were not in a row");
        assert!(breaker.failed(0, false));
        let mut now_ms = 0;
        for pause_ms in [100, 200, 350, 350] {
            assert_eq!(breaker.admit(now_ms + pause_ms - 1), Admission::Wait(Some(now_ms + pause_ms)));
            now_ms += pause_ms;
            assert_eq!(breaker.admit(now_ms), Admission::Probe);
            assert_eq!(breaker.admit(now_ms), Admission::Wait(None));
            breaker.failed(now_ms, true);
        }
        now_ms += 350;
        assert_eq!(breaker.admit(now_ms), Admission::Probe);
        breaker.answered(false);
        assert_eq!(breaker.state(), BreakerState::HalfOpen, "an answer from before says nothing");
        breaker.answered(true);
        assert!(breaker.is_well() && breaker.admit(now_ms) == Admission::Send);
    }

    #[test]
    fn a_probe_that_was_not_sent_leaves_its_place_to_another() {
        let mut breaker = breaker();
        (0..3).for_each(|_| assert!(breaker.failed(0, false) == breaker.until_ms().is_some()));
        assert_eq!(breaker.admit(100), Admission::Probe);
        breaker.unsent(100, true);
        assert_eq!(breaker.admit(100), Admission::Probe);
    }

    proptest! {
        /// However answers come, one probe at most is under way, and nothing is sent besides it.
        #[test]
        fn one_probe_at_most_is_under_way(steps in prop::collection::vec((0_u8..4, 0_u64..200), 0..200)) {
            let (mut breaker, mut now_ms, mut probes) = (breaker(), 0, 0);
            for (step, ms) in steps {
                now_ms += ms;
                match step {
                    0 => match breaker.admit(now_ms) {
                        Admission::Probe => probes += 1,
                        Admission::Send => prop_assert_eq!(probes, 0),
                        Admission::Wait(until_ms) => prop_assert!(until_ms.is_none_or(|until_ms| until_ms > now_ms)),
                    },
                    1 => prop_assert!(!breaker.failed(now_ms, false) || breaker.until_ms().is_some()),
                    2 => breaker.answered(false),
                    _ if probes > 0 => {
                        probes -= 1;
                        if ms % 2 == 0 { breaker.answered(true) } else { assert!(!breaker.failed(now_ms, true), "it was open") }
                    }
                    _ => {}
                }
                prop_assert!(probes <= 1);
            }
        }
    }
}
