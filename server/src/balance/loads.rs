//! What each slot costs: what was done for it on any core, weighed so that the sum is what the cores have used.

use std::time::{Duration, Instant};

use tern_shard::load::{KINDS, Load};
use tern_storage::SLOTS;

use crate::control::CoreLoad;

/// Over how long what is seen is averaged: to a third after this long.
const WINDOW: Duration = Duration::from_secs(30);

/// What an operation of each kind takes, in ns, by its order (`tern_shard::load::Work`): a frame that comes is opened and parsed, one
/// that goes is encoded and sealed, with their parts of the ring's work. Only how they compare matters: together they take what the core
/// has used.
const WEIGHTS_NS: [u64; KINDS] = [3_000, 3_000, 1_000, 800];

/// What a core has used is not laid on few operations: when it is idle, it uses most of it for itself.
const OVERHEAD_MAX: u64 = 4;

/// What is seen of a slot, a second.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Rate {
    /// ns of CPU.
    pub(super) load_ns: f64,
    /// By kind.
    pub(super) operations: [f64; KINDS],
    /// Of rows that were written.
    pub(super) bytes: f64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Loads {
    /// What the cores had done when they were looked at last, and when that was.
    before: Option<(Instant, Vec<CoreLoad>)>,
    by_slot: Vec<Rate>,
    /// CPU a second of each core, in ns.
    by_core: Vec<f64>,
    /// How much of what there is to see has been seen: 1 after long.
    seen: f64,
}

/// What operations weigh, in ns.
fn weight(load: &Load) -> u64 {
    load.operations.iter().zip(WEIGHTS_NS).map(|(count, ns)| count * ns).sum()
}

impl Loads {
    pub(super) fn new(cores: u16) -> Self {
        Self {
            before: None,
            by_slot: vec![Rate::default(); SLOTS.into()],
            by_core: vec![0.0; cores.into()],
            seen: 0.0,
        }
    }

    /// Takes what the cores have done so far.
    pub(super) fn take(&mut self, now: Instant, cores: Vec<CoreLoad>) {
        let Some((then, before)) = self.before.take() else {
            self.before = Some((now, cores));
            return;
        };
        let since = now.saturating_duration_since(then);
        let seconds = since.as_secs_f64().max(1e-3);
        let mut sums = vec![Rate::default(); SLOTS.into()];
        let mut by_core = vec![0.0; self.by_core.len()];
        for ((sum, load), before) in by_core.iter_mut().zip(&cores).zip(&before) {
            *sum = load.cpu_ns.saturating_sub(before.cpu_ns) as f64 / seconds;
            add(&mut sums, load, before, seconds);
        }
        self.before = Some((now, cores));
        let share = 1.0 - (-since.as_secs_f64() / WINDOW.as_secs_f64()).exp();
        self.seen += share * (1.0 - self.seen);
        let mix = |old: &mut f64, new: f64| *old += share * (new - *old);
        for (rate, sum) in self.by_slot.iter_mut().zip(&sums) {
            mix(&mut rate.load_ns, sum.load_ns);
            mix(&mut rate.bytes, sum.bytes);
            rate.operations.iter_mut().zip(sum.operations).for_each(|(old, new)| mix(old, new));
        }
        self.by_core.iter_mut().zip(by_core).for_each(|(old, new)| mix(old, new));
    }

    /// What a slot takes. What was seen for a short while only is not taken for less.
    pub(super) fn of_slot(&self, number: u16) -> Rate {
        let Rate { load_ns, operations, bytes } = self.by_slot[usize::from(number)];
        let seen = self.seen.max(1e-9);
        Rate {
            load_ns: load_ns / seen,
            operations: operations.map(|count| count / seen),
            bytes: bytes / seen,
        }
    }

    /// What a core uses, in ns of CPU a second.
    pub(super) fn of_core(&self, core: u16) -> f64 {
        self.by_core[usize::from(core)] / self.seen.max(1e-9)
    }
}

/// Adds what a core has done for each slot since it was looked at last.
fn add(sums: &mut [Rate], load: &CoreLoad, before: &CoreLoad, seconds: f64) {
    let done: Vec<_> = load.slots.iter().zip(&before.slots).map(|(now, before)| now.since(before)).collect();
    let all: u64 = done.iter().map(weight).sum();
    let used = load.cpu_ns.saturating_sub(before.cpu_ns).min(all.saturating_mul(OVERHEAD_MAX));
    for (sum, done) in sums.iter_mut().zip(&done).filter(|(_, done)| !done.is_none()) {
        sum.load_ns += used as f64 * weight(done) as f64 / all.max(1) as f64 / seconds;
        sum.bytes += done.bytes as f64 / seconds;
        sum.operations
            .iter_mut()
            .zip(done.operations)
            .for_each(|(sum, count)| *sum += count as f64 / seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A core that has done so much for slot 7, and twice that for slot 9.
    fn core(times: u64, cpu_ns: u64) -> CoreLoad {
        let mut slots = vec![Load::default(); SLOTS.into()];
        slots[7] = Load { operations: [times; KINDS], bytes: 100 * times };
        slots[9] = Load { operations: [2 * times; KINDS], bytes: 0 };
        CoreLoad { cpu_ns, slots: slots.into(), commits_us: Vec::new(), turns_us: Vec::new() }
    }

    #[test]
    fn what_slots_cost_is_together_what_the_cores_have_used() {
        let (mut loads, begin) = (Loads::new(2), Instant::now());
        for second in 0..120 {
            // 1,000 operations of each kind a second; 6 ms of CPU for them on one core, half as much on the other.
            let now = begin + Duration::from_secs(second);
            let cores =
                vec![core(1000 * second, 6_000_000 * second), core(1000 * second, 3_000_000 * second)];
            loads.take(now, cores);
        }
        let [light, heavy, idle] = [7, 9, 8].map(|slot| loads.of_slot(slot));
        let near = |is: f64, to: f64| assert!((is - to).abs() < to / 1000.0, "{is} and not {to}");
        near(light.load_ns, 3_000_000.0);
        near(heavy.load_ns, 6_000_000.0);
        near(light.operations[0], 2000.0);
        near(light.bytes, 200_000.0);
        assert_eq!(idle.load_ns, 0.0);
        near(loads.of_core(0), 6_000_000.0);
    }

    #[test]
    fn what_was_seen_for_a_moment_is_not_taken_for_less_and_what_is_over_is_forgotten() {
        let (mut loads, begin) = (Loads::new(1), Instant::now());
        loads.take(begin, vec![core(0, 0)]);
        loads.take(begin + Duration::from_secs(1), vec![core(1000, 6_000_000)]);
        assert!((loads.of_slot(9).operations[0] - 2000.0).abs() < 1.0);
        loads.take(begin + 4 * WINDOW, vec![core(1000, 6_000_000)]);
        assert!(loads.of_slot(9).operations[0] < 100.0, "it is over");
        // An idle core uses something for itself.
        let few = core(1001, 6_000_000 + 500_000_000);
        loads.take(begin + 5 * WINDOW, vec![few]);
        assert!(loads.of_slot(9).load_ns < 100_000.0, "{}", loads.of_slot(9).load_ns);
    }
}
