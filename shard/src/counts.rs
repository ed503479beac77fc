//! What is counted of each day: accounts that were here, were made and came back, devices, messages. Pure; who it was, nothing here knows.
//!
//! An account counts once a day, by how many days before it had been here last: so the accounts that were here in any days that follow each
//! other can be told from the counts alone, for each is counted on the first of them on which it was here.

use std::collections::BTreeMap;

use prost::Message as _;
use tern_storage::keys;
use tern_storage::records::CountsRecord;

/// The longest time, in days, of which it can be told how many accounts were here.
pub const ACTIVE_DAYS_MAX: u32 = 30;

/// After so many days it is counted who of those who registered are here.
pub const RETURN_DAYS: [u32; 3] = [1, 7, 30];

/// The day that stands for all that are kept no longer.
pub const BEFORE: u32 = 0;

/// A device is here: what that adds to the day, by its account's `last` day before (`None`: never) and the day on which that was `made`.
pub(crate) fn here(today: u32, last: Option<u32>, made: u32) -> CountsRecord {
    let mut counts = CountsRecord { devices: 1, ..CountsRecord::default() };
    if last.is_some_and(|last| last >= today) {
        return counts;
    }
    let gap = last.map_or(0, |last| today - last);
    let gap = if gap < ACTIVE_DAYS_MAX { gap as usize } else { 0 };
    counts.active = vec![0; gap + 1];
    counts.active[gap] = 1;
    if let Some(after) = RETURN_DAYS.iter().position(|days| made.checked_add(*days) == Some(today)) {
        counts.returned = vec![0; after + 1];
        counts.returned[after] = 1;
    }
    counts
}

/// Adds a part.
pub fn add(sum: &mut CountsRecord, part: &CountsRecord) {
    let CountsRecord { active, registered, deleted, devices, direct, group, groups, returned } = part;
    add_each(&mut sum.active, active, ACTIVE_DAYS_MAX as usize);
    add_each(&mut sum.returned, returned, RETURN_DAYS.len());
    for (sum, more) in [
        (&mut sum.registered, registered),
        (&mut sum.deleted, deleted),
        (&mut sum.devices, devices),
        (&mut sum.direct, direct),
        (&mut sum.group, group),
        (&mut sum.groups, groups),
    ] {
        *sum = sum.saturating_add(*more);
    }
}

fn add_each(sums: &mut Vec<u64>, parts: &[u64], max: usize) {
    let parts = &parts[..parts.len().min(max)];
    sums.resize(sums.len().max(parts.len()), 0);
    for (sum, part) in sums.iter_mut().zip(parts) {
        *sum = sum.saturating_add(*part);
    }
}

/// What of a day outlives it: sums, but not who was here.
pub(crate) fn outliving(counts: CountsRecord) -> CountsRecord {
    CountsRecord { active: Vec::new(), returned: Vec::new(), ..counts }
}

/// The day and the part that a row is of, and what it says; `None` if it is not what was written.
pub fn of_row(key: &[u8], value: &[u8]) -> Option<(u32, u64, CountsRecord)> {
    let (day, part) = keys::day_of_counts(key)?;
    Some((day, part, CountsRecord::decode(value).ok()?))
}

/// What was counted of all days that are kept.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Counts(BTreeMap<u32, CountsRecord>);

impl Counts {
    /// Adds what a row says of a day.
    pub fn add(&mut self, day: u32, part: &CountsRecord) {
        add(self.0.entry(day).or_default(), part);
    }

    /// What was counted of a day.
    pub fn day(&self, day: u32) -> CountsRecord {
        self.0.get(&day).cloned().unwrap_or_default()
    }

    /// The days of which something was counted, but for [`BEFORE`].
    pub fn days(&self) -> impl DoubleEndedIterator<Item = u32> + '_ {
        self.0.keys().copied().filter(|day| *day != BEFORE)
    }

    /// All days together; of accounts that were here it says nothing.
    pub fn total(&self) -> CountsRecord {
        let mut total = CountsRecord::default();
        self.0.values().for_each(|day| add(&mut total, day));
        outliving(total)
    }

    /// Accounts that there are, of those that were made since it is counted.
    pub fn accounts(&self) -> u64 {
        let total = self.total();
        total.registered.saturating_sub(total.deleted)
    }

    /// Accounts that were here on a day, or one of the days before it: so many days in all, up to [`ACTIVE_DAYS_MAX`].
    pub fn active(&self, day: u32, days: u32) -> u64 {
        let days = days.clamp(1, ACTIVE_DAYS_MAX);
        let first = (day.saturating_add(1)).saturating_sub(days).clamp(BEFORE + 1, day.max(BEFORE + 1));
        // Who had been here on a day between was counted then.
        let since = |(at, counts): (&u32, &CountsRecord)| {
            let (never, gaps) = counts.active.split_first().unwrap_or((&0, &[]));
            never + gaps.iter().skip((at - first) as usize).sum::<u64>()
        };
        self.0.range(first..).take_while(|(at, _)| **at <= day).map(since).sum()
    }

    /// How many of those who registered on a day were here again on the day so many after it, by their place in [`RETURN_DAYS`].
    pub fn returned(&self, day: u32, after: usize) -> u64 {
        let at = day.saturating_add(RETURN_DAYS[after]);
        self.0.get(&at).and_then(|counts| counts.returned.get(after)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// People who are here on days at random, by counts and by looking.
    #[test]
    fn active_accounts_of_any_days_are_those_that_were_here_then() {
        let mut rng = fastrand::Rng::with_seed(3);
        let (first, last) = (20_000, 20_120);
        let mut counts = Counts::default();
        let mut seen: Vec<Vec<u32>> = Vec::new();
        for _ in 0..200 {
            let (often, made) = (rng.u32(1..60), rng.u32(first..last));
            let mut days = vec![made];
            days.extend((made + 1..=last).filter(|_| rng.u32(..often) == 0));
            for (place, day) in days.iter().enumerate() {
                let before = place.checked_sub(1).map(|before| days[before]);
                counts.add(*day, &here(*day, before, made));
                // Another device on the same day.
                counts.add(*day, &here(*day, Some(*day), made));
            }
            counts.add(made, &CountsRecord { registered: 1, ..CountsRecord::default() });
            seen.push(days);
        }
        for day in first..=last {
            for days in [1, 2, 7, 29, 30] {
                let were_here = |all: &&Vec<u32>| all.iter().any(|at| (day + 1 - days..=day).contains(at));
                let expected = seen.iter().filter(were_here).count() as u64;
                assert_eq!(counts.active(day, days), expected, "{days} days up to {day}");
            }
            for (place, after) in RETURN_DAYS.iter().enumerate() {
                let again = |all: &&Vec<u32>| all[0] == day && all.contains(&(day + after));
                assert_eq!(counts.returned(day, place), seen.iter().filter(again).count() as u64);
            }
            assert_eq!(counts.day(day).devices, 2 * counts.active(day, 1));
        }
        assert_eq!(counts.accounts(), 200);
    }

    #[test]
    fn a_clock_that_was_set_back_counts_nobody_again() {
        assert_eq!(here(20_000, Some(20_001), 19_000).active, Vec::<u64>::new());
        assert_eq!(here(20_000, Some(20_000), 19_999).returned, Vec::<u64>::new());
    }

    #[test]
    fn what_is_wrong_in_a_record_makes_no_sum_longer() {
        let mut sum = CountsRecord::default();
        let wrong = CountsRecord { active: vec![1; 5_000], returned: vec![1; 9], ..CountsRecord::default() };
        add(&mut sum, &wrong);
        assert_eq!((sum.active.len(), sum.returned.len()), (30, 3));
    }
}
