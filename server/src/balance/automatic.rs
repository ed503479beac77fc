//! When a node balances itself, if it may. Pure.

use tern_cluster::plan::Aim;

/// So many looks in a row the cores must have been uneven: what passes by itself moves nothing.
const LOOKS: u32 = 60;

/// A node whose busiest core uses less, in ns of CPU a second, is left alone: nobody would notice.
const BUSY_NS: f64 = 0.2e9;

/// See the module.
#[derive(Debug)]
pub(super) struct Automatic {
    enabled: bool,
    uneven: u32,
}

impl Automatic {
    pub(super) fn new(enabled: bool) -> Self {
        Self { enabled, uneven: 0 }
    }

    /// A look at what the busiest core uses, and what all do on the average. `true`: it is time to plan.
    pub(super) fn look(&mut self, busiest_ns: f64, mean_ns: f64) -> bool {
        let is_uneven = busiest_ns >= BUSY_NS && busiest_ns > Aim::default().begin * mean_ns;
        self.uneven = if self.enabled && is_uneven { self.uneven + 1 } else { 0 };
        if self.uneven < LOOKS {
            return false;
        }
        self.uneven = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(automatic: &mut Automatic, count: u32, busiest_ns: f64, mean_ns: f64) -> usize {
        (0..count).filter(|_| automatic.look(busiest_ns, mean_ns)).count()
    }

    #[test]
    fn it_plans_when_a_core_has_been_busier_than_others_for_long_and_may() {
        let mut automatic = Automatic::new(true);
        assert_eq!(looks(&mut automatic, LOOKS - 1, 1e9, 0.5e9), 0);
        assert_eq!(looks(&mut automatic, 1, 1e9, 1e9), 0, "it has passed by itself");
        assert_eq!(looks(&mut automatic, 3 * LOOKS, 1e9, 0.5e9), 3, "and again after a while");
        assert_eq!(looks(&mut automatic, 3 * LOOKS, 0.1e9, 0.05e9), 0, "nobody would notice");
        assert_eq!(looks(&mut Automatic::new(false), 3 * LOOKS, 1e9, 0.5e9), 0, "it may not");
    }
}
