//! What is to move, so that no core has much more to do than others.
//!
//! From the core with most to do goes the slot whose load is nearest to half of what it has more than the core with least, again and
//! again; each slot moves once at most. It begins only where a core has more than [`Aim::begin`] of the mean, goes on until none has
//! more than [`Aim::end`], and stops when a move gains less than [`Aim::gain_min`]: so what is balanced stays as it is, and what is
//! planned again a moment later is not planned back. A core that is drained gives all that it has.

use std::cmp::Reverse;

use tern_storage::Slot;

/// What a slot that nobody uses counts as, in ns of CPU a second: idle slots are dealt out by their number.
pub const IDLE_NS: u64 = 2_000;

/// A slot, and what it costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placed {
    /// Which.
    pub slot: Slot,
    /// Who has it.
    pub core: u16,
    /// What it takes, in ns of CPU a second.
    pub load_ns: u64,
    /// It has moved a short while ago, and stays, unless its core is drained.
    pub rests: bool,
}

/// A move of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Move {
    /// Which.
    pub slot: Slot,
    /// From whom.
    pub from: u16,
    /// To whom.
    pub to: u16,
    /// What it takes, in ns of CPU a second.
    pub load_ns: u64,
}

/// When it is worth moving anything. Shares of the mean load of those that take slots.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Aim {
    /// Below this nothing moves.
    pub begin: f64,
    /// Up to this it is gone on.
    pub end: f64,
    /// A move that takes away less than this share of what the busiest core has beyond the mean is not made.
    pub gain_min: f64,
    /// Moves of a plan.
    pub moves_max: usize,
}

impl Default for Aim {
    fn default() -> Self {
        Self { begin: 1.2, end: 1.1, gain_min: 0.0002, moves_max: 4096 }
    }
}

/// See the module.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Plan {
    /// In the order in which they are to be made: those that gain most first; but what is drained comes before all.
    pub moves: Vec<Move>,
    /// The busiest core by the mean of those that take slots, before and after; 1 if there is no load.
    pub skew: (f64, f64),
}

/// What each core has, while a plan is made.
struct Cores {
    /// By core: its load with that of idle slots.
    loads: Vec<u64>,
    takes: Vec<bool>,
    /// Its slots that may move, by their loads, rising.
    slots: Vec<Vec<Placed>>,
}

/// What is to move. `drained`: cores that are to have no slots.
///
/// # Panics
/// If a slot lies with no core of `cores`.
pub fn plan(placed: &[Placed], cores: u16, drained: &[u16], aim: Aim) -> Plan {
    let mut all = Cores::new(placed, cores, drained);
    let before = all.skew();
    let mut moves = all.drain(drained, aim.moves_max);
    if before > aim.begin || !moves.is_empty() {
        while moves.len() < aim.moves_max && all.skew() > aim.end {
            let Some(next) = all.next(aim.gain_min) else { break };
            moves.push(next);
        }
    }
    Plan { moves, skew: (before, all.skew()) }
}

fn cost(placed: &Placed) -> u64 {
    placed.load_ns + IDLE_NS
}

impl Cores {
    fn new(placed: &[Placed], cores: u16, drained: &[u16]) -> Self {
        let mut all = Self {
            loads: vec![0; cores.into()],
            takes: (0..cores).map(|core| !drained.contains(&core)).collect(),
            slots: vec![Vec::new(); cores.into()],
        };
        for one in placed {
            let core = usize::from(one.core);
            all.loads[core] += cost(one);
            if !one.rests || !all.takes[core] {
                all.slots[core].push(*one);
            }
        }
        all.slots.iter_mut().for_each(|slots| slots.sort_by_key(|one| (cost(one), one.slot)));
        all
    }

    fn taking(&self) -> impl Iterator<Item = usize> {
        (0..self.loads.len()).filter(|core| self.takes[*core])
    }

    /// The busiest core that takes slots by the mean of those.
    fn skew(&self) -> f64 {
        let (count, sum) = self.mean();
        let most = self.taking().map(|core| self.loads[core]).max().unwrap_or(0);
        if sum == 0 { 1.0 } else { most as f64 * count as f64 / sum as f64 }
    }

    /// How many cores take slots, and what they have together.
    fn mean(&self) -> (usize, u64) {
        (self.taking().count(), self.taking().map(|core| self.loads[core]).sum())
    }

    /// All slots of cores that are drained, the heaviest first, each to whoever has least.
    fn drain(&mut self, drained: &[u16], moves_max: usize) -> Vec<Move> {
        let mut leave: Vec<Placed> = drained
            .iter()
            .flat_map(|core| self.slots.get(usize::from(*core)).cloned().unwrap_or_default())
            .collect();
        leave.sort_by_key(|one| (Reverse(cost(one)), one.slot));
        let mut moves = Vec::new();
        for one in leave.into_iter().take(moves_max) {
            let Some(to) = self.taking().min_by_key(|core| self.loads[*core]) else { break };
            self.slots[usize::from(one.core)].retain(|other| other.slot != one.slot);
            moves.push(self.makes(one, to));
        }
        moves
    }

    /// The next slot that moves from the core with most to the one with least.
    fn next(&mut self, gain_min: f64) -> Option<Move> {
        let most = self.taking().max_by_key(|core| (self.loads[*core], Reverse(*core)))?;
        let least = self.taking().min_by_key(|core| (self.loads[*core], *core))?;
        let differs = self.loads[most] - self.loads[least];
        let half = differs / 2;
        let slots = &self.slots[most];
        // The nearest on either side; what is as heavy as the difference only changes places.
        let above = slots.partition_point(|one| cost(one) < half);
        let near = [above.checked_sub(1), Some(above)].into_iter().flatten();
        let at = near
            .filter(|at| slots.get(*at).is_some_and(|one| cost(one) < differs))
            .min_by_key(|at| cost(&slots[*at]).abs_diff(half))?;
        let gains = cost(&slots[at]).min(differs - cost(&slots[at]));
        let (count, sum) = self.mean();
        let beyond = self.loads[most] as f64 - sum as f64 / count as f64;
        if (gains as f64) < gain_min * beyond {
            return None;
        }
        let one = self.slots[most].remove(at);
        Some(self.makes(one, least))
    }

    fn makes(&mut self, one: Placed, to: usize) -> Move {
        self.loads[usize::from(one.core)] -= cost(&one);
        self.loads[to] += cost(&one);
        Move { slot: one.slot, from: one.core, to: to as u16, load_ns: one.load_ns }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use fastrand::Rng;
    use tern_storage::SLOTS;

    use super::*;

    /// Slots over cores at random, of which some are hot.
    fn any(rng: &mut Rng) -> (Vec<Placed>, u16) {
        let cores = rng.u16(1..20);
        let hot = rng.u64(1..200);
        let one = |rng: &mut Rng, number: u16| {
            let load_ns = match rng.u64(..hot) {
                0 => rng.u64(..200_000_000),
                1..4 => rng.u64(..2_000_000),
                _ => 0,
            };
            let slot = Slot::new(number).expect("a slot");
            Placed { slot, core: rng.u16(..cores).min(rng.u16(..cores)), load_ns, rests: rng.u8(..10) == 0 }
        };
        ((0..rng.u16(1..SLOTS)).map(|number| one(rng, number)).collect(), cores)
    }

    /// What there is after a plan was carried out.
    fn after(placed: &[Placed], plan: &Plan) -> Vec<Placed> {
        let mut placed = placed.to_vec();
        for step in &plan.moves {
            let one = placed.iter_mut().find(|one| one.slot == step.slot).expect("it is there");
            assert_eq!((one.core, one.load_ns), (step.from, step.load_ns), "it moves from where it is");
            one.core = step.to;
        }
        placed
    }

    fn load_of(placed: &[Placed], core: u16) -> u64 {
        placed.iter().filter(|one| one.core == core).map(cost).sum()
    }

    #[test]
    fn a_plan_ends_never_makes_it_worse_and_leaves_alone_what_rests_or_is_balanced() {
        let mut rng = Rng::with_seed(11);
        for _ in 0..2_000 {
            let (placed, cores) = any(&mut rng);
            let first = plan(&placed, cores, &[], Aim::default());
            let moved: BTreeSet<_> = first.moves.iter().map(|step| step.slot.number()).collect();
            assert_eq!(moved.len(), first.moves.len(), "each moves once");
            let rests = |step: &Move| placed.iter().any(|one| one.slot == step.slot && one.rests);
            assert!(!first.moves.iter().any(rests));
            assert!(first.skew.1 <= first.skew.0, "{:?}", first.skew);
            let most = |placed: &[Placed]| (0..cores).map(|core| load_of(placed, core)).max();
            let then = after(&placed, &first);
            assert!(most(&then) <= most(&placed), "no core has more to do than the busiest had");
            if first.skew.0 <= Aim::default().begin {
                assert_eq!(first.moves, [], "what is balanced stays");
            }
            // It is at its end: what has moved rests, and without that nothing is left to gain but what other slots may.
            let rested: Vec<_> = then
                .iter()
                .map(|one| Placed { rests: one.rests || moved.contains(&one.slot.number()), ..*one })
                .collect();
            let second = plan(&rested, cores, &[], Aim::default());
            assert!(
                second.skew.0 <= first.skew.1 + 1e-9 && second.moves.len() <= 1,
                "{:?} {:?}",
                first.skew,
                second
            );
        }
    }

    #[test]
    fn what_can_be_balanced_is_with_few_moves() {
        let mut rng = Rng::with_seed(5);
        for _ in 0..200 {
            // All that is hot lies with one core, in pieces of which each is a small part of it.
            let cores = rng.u16(2..16);
            let placed: Vec<_> = (0..SLOTS)
                .map(|number| {
                    let hot = number.is_multiple_of(32);
                    let core = if hot { 0 } else { number % cores };
                    let load_ns = if hot { rng.u64(5_000_000..10_000_000) } else { 0 };
                    Placed { slot: Slot::new(number).expect("a slot"), core, load_ns, rests: false }
                })
                .collect();
            let found = plan(&placed, cores, &[], Aim::default());
            assert!(found.skew.1 <= 1.1, "{cores} cores: {:?}", found.skew);
            let hot = usize::from(SLOTS / 32);
            assert!(found.moves.len() <= hot, "{} moves of {hot} that are hot", found.moves.len());
        }
    }

    #[test]
    fn a_core_that_is_drained_gives_all_and_gets_nothing() {
        let mut rng = Rng::with_seed(3);
        for _ in 0..500 {
            let (placed, cores) = any(&mut rng);
            let drained: Vec<u16> = (0..cores).filter(|_| rng.u8(..4) == 0).collect();
            let aim = Aim { moves_max: usize::MAX, ..Aim::default() };
            let found = plan(&placed, cores, &drained, aim);
            assert!(!found.moves.iter().any(|step| drained.contains(&step.to)));
            let left = after(&placed, &found).iter().filter(|one| drained.contains(&one.core)).count();
            let can_leave = drained.len() < usize::from(cores);
            assert!(left == 0 || !can_leave, "{left} are left");
            if !can_leave {
                assert_eq!(found.moves, [], "there is nobody to take them");
            }
        }
    }

    #[test]
    fn idle_slots_are_dealt_out_by_number_and_a_plan_is_bounded() {
        let placed: Vec<_> = (0..SLOTS)
            .map(|number| Placed {
                slot: Slot::new(number).expect("a slot"),
                core: 0,
                load_ns: 0,
                rests: false,
            })
            .collect();
        let found = plan(&placed, 4, &[], Aim { moves_max: 100, ..Aim::default() });
        assert_eq!(found.moves.len(), 100);
        let all = plan(&placed, 4, &[], Aim { moves_max: usize::MAX, ..Aim::default() });
        let counts: Vec<_> =
            (0..4).map(|core| after(&placed, &all).iter().filter(|one| one.core == core).count()).collect();
        assert!(counts.iter().all(|count| (900..=1127).contains(count)), "{counts:?}");
    }
}
