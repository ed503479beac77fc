//! Which runs a log of a length has, and when they become a longer one.
//!
//! The newest entries, fewer than those of a run of the first level, are in no segment: whoever searches reads their texts. As soon as
//! they fill a run they are indexed; and where that fills a run of a higher level, all that lies in that becomes one segment at once,
//! which is written in the place of the others. Runs begin at multiples of their length, so that the length of the indexed part of a
//! log says which there are; nothing else has to be stored.
//!
//! **What is written.** An entry is written once for each level that its run comes to, but not in a run that is merged as soon as it
//! is full: of 16 runs of the first level 15 are written, of four of the second three. So of a long log each entry is written 2.7 times:
//! 15/16 + 3/4 + 1.
//!
//! **Why these lengths.** A longer run takes fewer bytes a message, as its terms are there once for more of them; a shorter one leaves
//! fewer entries to be read, and every level more is written once more. By `cargo run --release -p tern-search --example size`, with
//! messages of 100 bytes, of five languages the one with the least and the one with the most:
//!
//! | Entries of a run | Bytes a message |
//! |---|---|
//! | 64 | 46 to 70 |
//! | 256 | 39 to 58 |
//! | 1,024 | 35 to 51 |
//! | 4,096 | 30 to 41 |
//! | 16,384 | 24 to 32 |
//!
//! With runs of 256, 4,096 and 16,384 a log of 37,000 has 25 to 33 bytes a message at rest, and 81 to 113 were written for it. With
//! runs of 64, 1,024 and 16,384 it would be 26 to 35, and 98 to 139. `tests/size.rs` holds the first two levels to their bounds.

use crate::limits::{LEVEL_TIMES, RUN_ENTRIES_MAX};
use crate::run::Run;

/// The lengths of runs, level by level, in entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Levels([u64; 3]);

impl Levels {
    /// Those of a log that has these lengths, unless somebody wants others: 256, 4,096 and 16,384.
    pub const USUAL: Self = Self([256, 4_096, 16_384]);

    /// With runs of so many entries at the first level. `None`: none, or too many.
    pub fn of(first: u64) -> Option<Self> {
        let levels = LEVEL_TIMES.map(|times| times.saturating_mul(first));
        (first > 0 && levels[2] <= RUN_ENTRIES_MAX).then_some(Self(levels))
    }

    /// The entries of a run of the first level.
    pub fn first(self) -> u64 {
        self.0[0]
    }

    /// The entries of a run of each level, the shortest first.
    pub fn entries(self) -> [u64; 3] {
        self.0
    }

    /// The next step of a log that has the entries from `begin` up to, but without, `end`, and whose index goes up to `indexed`: a multiple
    /// of a run of the first level. `None`: the entries beyond are fewer than one.
    pub fn next_step(self, begin: u64, indexed: u64, end: u64) -> Option<Step> {
        let fresh = Run::new(indexed, indexed.checked_add(self.0[0])?)?;
        if end < fresh.end() {
            return None;
        }
        let is_filled = |entries: &&u64| fresh.end().is_multiple_of(**entries);
        let entries = self.0.iter().rev().find(is_filled).unwrap_or(&self.0[0]);
        let into = Run::new(fresh.end().saturating_sub(*entries), fresh.end())?;
        let merged = self.runs(begin.max(into.first()), indexed);
        Some(Step { fresh, merged, into })
    }

    /// The runs that the index of a log has from the entry `begin` on, which goes up to `indexed`: in their order. The first may hold
    /// entries before `begin`.
    pub fn runs(self, begin: u64, indexed: u64) -> Vec<Run> {
        let mut runs = Vec::new();
        let mut first = begin - begin % self.0[2];
        for entries in self.0.into_iter().rev() {
            while indexed.saturating_sub(first) >= entries {
                runs.extend(Run::new(first, first + entries));
                first += entries;
            }
        }
        runs.retain(|run| run.end() > begin);
        runs
    }

    /// The runs, one of each level, that an entry comes to lie in.
    pub fn runs_with(self, seq: u64) -> impl Iterator<Item = Run> {
        self.0.into_iter().filter_map(move |entries| {
            let first = seq - seq % entries;
            Run::new(first, first.checked_add(entries)?)
        })
    }
}

/// What is to be done next for the index of a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// The entries that are not yet in the index, whose texts are to be read.
    pub fresh: Run,
    /// The runs that become one with them: they are in the index until `into` is written, and then no longer. Mostly none.
    pub merged: Vec<Run>,
    /// The run that is written.
    pub into: Run,
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Levels = Levels::USUAL;
    const SMALL: u64 = USUAL.0[0];
    const MIDDLE: u64 = USUAL.0[1];
    const LARGE: u64 = USUAL.0[2];

    fn bounds(runs: &[Run]) -> Vec<(u64, u64)> {
        runs.iter().map(|run| (run.first(), run.end())).collect()
    }

    #[test]
    fn a_log_has_the_longest_runs_that_it_fills() {
        let check = |begin, indexed, expect: &[_]| assert_eq!(bounds(&USUAL.runs(begin, indexed)), expect);
        check(0, 0, &[]);
        check(0, SMALL, &[(0, SMALL)]);
        check(0, 2 * SMALL, &[(0, SMALL), (SMALL, 2 * SMALL)]);
        check(0, MIDDLE, &[(0, MIDDLE)]);
        check(0, MIDDLE + SMALL, &[(0, MIDDLE), (MIDDLE, MIDDLE + SMALL)]);
        check(0, 2 * LARGE, &[(0, LARGE), (LARGE, 2 * LARGE)]);
        check(LARGE - 1, LARGE + SMALL, &[(0, LARGE), (LARGE, LARGE + SMALL)]);
        check(LARGE, LARGE + SMALL, &[(LARGE, LARGE + SMALL)]);
        check(SMALL + 1, 3 * SMALL, &[(SMALL, 2 * SMALL), (2 * SMALL, 3 * SMALL)]);
    }

    #[test]
    fn levels_are_as_the_first_one_says() {
        assert_eq!(Levels::of(SMALL), Some(USUAL));
        assert_eq!(Levels::of(4).map(Levels::entries), Some([4, 64, 256]));
        assert_eq!((Levels::of(0), Levels::of(SMALL + 1)), (None, None));
        let all: Vec<Run> = USUAL.runs_with(LARGE + 1).collect();
        assert_eq!(bounds(&all), [(LARGE, LARGE + SMALL), (LARGE, LARGE + MIDDLE), (LARGE, 2 * LARGE)]);
    }

    #[test]
    fn a_step_waits_until_a_run_is_full() {
        let check = |indexed, end, expect| {
            assert_eq!(USUAL.next_step(0, indexed, end).is_some(), expect, "{indexed}, {end}")
        };
        check(0, 0, false);
        check(0, SMALL - 1, false);
        check(0, SMALL, true);
        check(SMALL, SMALL, false);
        check(0, 10 * LARGE, true);
        check(u64::MAX / SMALL * SMALL, u64::MAX, false);
    }

    #[test]
    fn steps_lead_from_the_runs_of_a_log_to_those_of_a_longer_one() {
        for begin in [0, 1, 5 * SMALL + 3, 3 * MIDDLE - 1, LARGE - 1] {
            let mut indexed = begin - begin % SMALL;
            let mut have = Vec::new();
            while let Some(step) = USUAL.next_step(begin, indexed, 2 * LARGE + SMALL + 1) {
                have.retain(|run| !step.merged.contains(run));
                have.push(step.into);
                indexed = step.fresh.end();
                assert_eq!(have, USUAL.runs(begin, indexed), "from {begin} to {indexed}");
                let inside = step.merged.iter().all(|run| step.into.first() <= run.first());
                assert!(inside && step.fresh.end() == step.into.end(), "{step:?}");
            }
            assert_eq!(indexed, 2 * LARGE + SMALL);
        }
    }
}
