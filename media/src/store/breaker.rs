//! Whether something that is elsewhere is asked at all: what has failed again and again is left alone for a while, and then tried by one
//! alone. Knows no clock.

use std::time::Duration;

/// Failures in a row after which nobody asks.
const FAILURES_MAX: u32 = 5;

/// How long nobody does, the first time; then twice as long each time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// See the module. Times are durations since some beginning.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: u32,
    /// Until when nobody asks, and how long that is in all.
    closed: Option<(Duration, Duration)>,
    /// Since when one asks whether it is well again.
    tried: Option<Duration>,
}

/// What has become of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Became {
    /// It is as it was.
    Same,
    /// From now on nobody asks for so long.
    Away(Duration),
    /// It is well again.
    Well,
}

impl Breaker {
    /// Whether one may ask now. `Err`: in how long, at the earliest.
    pub(crate) fn may_ask(&mut self, now: Duration) -> Result<(), Duration> {
        let Some((until, pause)) = self.closed else { return Ok(()) };
        if now < until {
            return Err(until - now);
        }
        // One that tries, and never says how it was, is not waited for for ever.
        match self.tried {
            Some(since) if now < since + LONGEST_PAUSE => Err(pause.min(since + LONGEST_PAUSE - now)),
            _ => {
                self.tried = Some(now);
                Ok(())
            }
        }
    }

    /// Whether nobody asks, or one alone that tries.
    pub(crate) fn is_away(&self) -> bool {
        self.closed.is_some()
    }

    /// It was asked, and that went well or not.
    pub(crate) fn asked(&mut self, now: Duration, is_well: bool) -> Became {
        if is_well {
            let was_away = self.closed.is_some();
            *self = Self::default();
            return if was_away { Became::Well } else { Became::Same };
        }
        self.failures = self.failures.saturating_add(1);
        let pause = match (self.closed, self.tried) {
            (None, _) if self.failures >= FAILURES_MAX => FIRST_PAUSE,
            (Some((_, pause)), Some(_)) => (2 * pause).min(LONGEST_PAUSE),
            // Those that had asked before.
            _ => return Became::Same,
        };
        (self.closed, self.tried) = (Some((now + pause, pause)), None);
        Became::Away(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn failed(breaker: &mut Breaker, now: Duration) -> Became {
        breaker.asked(now, false)
    }

    #[test]
    fn what_fails_again_and_again_is_left_alone_and_then_tried_by_one() {
        let mut breaker = Breaker::default();
        for _ in 1..FAILURES_MAX {
            assert_eq!(failed(&mut breaker, S), Became::Same);
            assert_eq!(breaker.may_ask(S), Ok(()));
        }
        assert_eq!(failed(&mut breaker, S), Became::Away(FIRST_PAUSE));
        assert_eq!(failed(&mut breaker, S), Became::Same, "that had asked before");
        assert_eq!(breaker.may_ask(S), Err(FIRST_PAUSE));
        assert_eq!(breaker.may_ask(2 * S), Ok(()));
        assert!(breaker.may_ask(2 * S).is_err(), "one tries");
        assert_eq!(failed(&mut breaker, 3 * S), Became::Away(2 * S));
        assert_eq!(breaker.may_ask(4 * S), Err(S));
        assert_eq!(breaker.may_ask(5 * S), Ok(()));
        assert_eq!(breaker.asked(5 * S, true), Became::Well);
        assert_eq!(failed(&mut breaker, 5 * S), Became::Same, "what has failed before is forgotten");
    }

    #[test]
    fn pauses_grow_to_a_bound_and_one_that_tries_and_vanishes_is_not_waited_for_for_ever() {
        let (mut breaker, mut now) = (Breaker::default(), S);
        for _ in 0..FAILURES_MAX {
            failed(&mut breaker, now);
        }
        for _ in 0..10 {
            now += breaker.may_ask(now).expect_err("it is away");
            assert_eq!(breaker.may_ask(now), Ok(()));
            assert!(matches!(failed(&mut breaker, now), Became::Away(pause) if pause <= LONGEST_PAUSE));
        }
        now += LONGEST_PAUSE;
        assert_eq!(breaker.may_ask(now), Ok(()));
        assert!(breaker.may_ask(now + LONGEST_PAUSE - S).is_err());
        assert_eq!(breaker.may_ask(now + LONGEST_PAUSE), Ok(()));
    }
}
