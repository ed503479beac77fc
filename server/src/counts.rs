//! What was counted of each day (`ternctl stats`, `/metrics`): read by any core from the store, which holds the counts of all nodes.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tern_shard::admin::{AdminRequest, AdminResponse};
use tern_shard::counts::{ACTIVE_DAYS_MAX, Counts, RETURN_DAYS};
use tern_shard::limits::DAY_MS;
use tern_storage::records::CountsRecord;

use crate::control::{Control, ask_page};
use crate::core::Clock;
use crate::metrics::Metrics;
use crate::threads;

/// A cohort of fewer is not shown where machines read it: it would tell of single people.
pub const COHORT_MIN: u64 = 5;

/// The longest and the shortest time between two looks for `/metrics`.
const LOOKS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_millis(250));

/// Reads all that was counted.
///
/// # Errors
/// Why a core does not say, for an operator.
pub fn read(control: &dyn Control) -> Result<Counts, String> {
    let (mut counts, mut after) = (Counts::default(), None);
    loop {
        let (days, next) = ask_page(control, AdminRequest::Counts(after), |answer| match answer {
            AdminResponse::Counts { days, next } => Some((days, next)),
            _ => None,
        })?;
        for (day, part) in days {
            counts.add(day, &part);
        }
        if next.is_none() {
            return Ok(counts);
        }
        after = next;
    }
}

/// The day of a time, counted from the Unix epoch.
pub fn day_of(now_ms: u64) -> u32 {
    (now_ms / DAY_MS).try_into().unwrap_or(u32::MAX)
}

/// What `/metrics` shows.
#[derive(Clone, PartialEq, Debug)]
pub struct Shown {
    /// Of all days; never less than was shown before, though parts are just being added up.
    pub total: CountsRecord,
    /// Accounts that there are.
    pub accounts: u64,
    /// Accounts that are here today, in the last 7 days, in the last 30.
    pub active: [u64; 3],
    /// Of those who registered, the share that was here 1, 7 and 30 days after: of the newest cohort whose day is over. `None`: it is too small.
    pub returned: [Option<f64>; 3],
}

/// The times of [`Shown::active`], in days.
pub const ACTIVE_DAYS: [u32; 3] = [1, 7, ACTIVE_DAYS_MAX];

impl Shown {
    /// Of what was counted up to this day.
    pub fn of(counts: &Counts, today: u32) -> Self {
        let returned = |after: usize| {
            // The day on which they were to be here again is over.
            let cohort = today.checked_sub(1 + RETURN_DAYS[after])?;
            let registered = counts.day(cohort).registered;
            let share = counts.returned(cohort, after) as f64 / registered as f64;
            (registered >= COHORT_MIN).then_some(share)
        };
        Self {
            total: counts.total(),
            accounts: counts.accounts(),
            active: ACTIVE_DAYS.map(|days| counts.active(today, days)),
            returned: [returned(0), returned(1), returned(2)],
        }
    }

    /// The same, where what only rises has risen.
    fn after(mut self, before: Option<&Self>) -> Self {
        let Some(before) = before else { return self };
        let (now, was) = (&mut self.total, &before.total);
        now.registered = now.registered.max(was.registered);
        now.deleted = now.deleted.max(was.deleted);
        now.direct = now.direct.max(was.direct);
        now.group = now.group.max(was.group);
        now.groups = now.groups.max(was.groups);
        self
    }
}

/// Reads what was counted, for `/metrics`, and starts the thread that does it again and again. What can't be read stays as it was.
pub fn mind(
    control: Arc<dyn Control>,
    metrics: Arc<Metrics>,
    clock: Clock,
    every: Duration,
) -> std::io::Result<()> {
    let every = every.clamp(LOOKS.1, LOOKS.0);
    let look = move || {
        if let Ok(counts) = read(&*control) {
            metrics.counts.show(Shown::of(&counts, day_of(clock.now_ms())));
        }
    };
    look();
    threads::spawn("tern-counts", move || {
        loop {
            thread::sleep(every);
            look();
        }
    })?;
    Ok(())
}

/// What was read last, for `/metrics`.
#[derive(Debug, Default)]
pub struct SharedCounts(Mutex<Option<Shown>>);

impl SharedCounts {
    fn show(&self, shown: Shown) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = shown.after(last.as_ref());
        *last = Some(shown);
    }

    /// What was read last; `None`: nothing yet.
    pub fn get(&self) -> Option<Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registered(count: u64) -> CountsRecord {
        CountsRecord { active: vec![count], registered: count, ..CountsRecord::default() }
    }

    #[test]
    fn a_cohort_that_would_tell_of_single_people_is_not_shown_to_machines() {
        let mut counts = Counts::default();
        counts.add(100, &registered(COHORT_MIN));
        counts.add(102, &registered(COHORT_MIN - 1));
        let back = CountsRecord { active: vec![0, 2], returned: vec![2], ..CountsRecord::default() };
        counts.add(101, &back);
        counts.add(103, &back);
        // On the day itself they may still come.
        assert_eq!(Shown::of(&counts, 101).returned, [None; 3]);
        assert_eq!(Shown::of(&counts, 102).returned, [Some(0.4), None, None]);
        assert_eq!(Shown::of(&counts, 104).returned, [None; 3]);
        // Who came back is one of those.
        assert_eq!(Shown::of(&counts, 104).active, [0, 9, 9]);
    }

    #[test]
    fn what_only_rises_does_though_parts_are_just_being_added_up() {
        let shared = SharedCounts::default();
        let mut counts = Counts::default();
        counts.add(100, &registered(7));
        shared.show(Shown::of(&counts, 100));
        shared.show(Shown::of(&Counts::default(), 100));
        let shown = shared.get().expect("it was read");
        assert_eq!((shown.total.registered, shown.active[0]), (7, 0));
    }
}
