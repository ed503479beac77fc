//! Moves wait while acknowledgements take much longer than before them. Pure.
//!
//! How long 99 of 100 acknowledgements take is estimated from what the cores count: a batch's way to its durability, and the length of
//! a turn. Over the last looks it is compared with how it was while nothing moved.

/// Moves wait while it is beyond so many times what it was, and go on below so many.
const HOLD: f64 = 3.0;
const GO_ON: f64 = 2.0;

/// Below this nobody notices, in us.
const FLOOR_US: f64 = 10_000.0;

/// What a look counts, while nothing moves and while something does.
const SHARE_BEFORE: f64 = 1.0 / 16.0;
const SHARE_NOW: f64 = 1.0 / 2.0;

/// A histogram, or what was added to it: by upper bound, rising, in us.
pub(super) type Times = Vec<(f64, u64)>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Brake {
    counted: Vec<Times>,
    before_us: Option<f64>,
    now_us: f64,
    held: bool,
}

impl Brake {
    /// Takes histograms, of all cores together, whose times follow each other on a message's way, and whether slots are being moved.
    pub(super) fn look(&mut self, counted: Vec<Times>, moves: bool) {
        let before = std::mem::replace(&mut self.counted, counted);
        if before.len() != self.counted.len() {
            return;
        }
        let parts = self.counted.iter().zip(&before).map(|(now, before)| p99_us(now, before));
        // Whoever acknowledges nothing has nothing to be careful of.
        let took_us = parts.sum::<f64>();
        if moves {
            self.now_us += SHARE_NOW * (took_us - self.now_us);
        } else {
            let before_us = self.before_us.get_or_insert(took_us);
            *before_us += SHARE_BEFORE * (took_us - *before_us);
            self.now_us = took_us;
        }
        let times = if self.held { GO_ON } else { HOLD };
        self.held = moves && self.now_us > times * self.before_us.unwrap_or(0.0).max(FLOOR_US / HOLD);
    }

    /// Whether moves are to wait.
    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// About how long 99 of 100 acknowledgements take now, and took before, in us.
    pub(super) fn us(&self) -> (f64, f64) {
        (self.now_us, self.before_us.unwrap_or(0.0))
    }
}

/// Of what was added; 0: nothing was. Within a bucket they are taken for evenly spread.
fn p99_us(now: &Times, before: &Times) -> f64 {
    let added =
        now.iter().zip(before).map(|((bound, now), (_, before))| (*bound, now.saturating_sub(*before)));
    let all: u64 = added.clone().map(|(_, count)| count).sum();
    let (mut below, mut from) = (0, 0.0);
    let wanted = all as f64 * 0.99;
    for (bound, count) in added {
        if count > 0 && (below + count) as f64 >= wanted {
            let to = if bound.is_finite() { bound } else { 2.0 * from };
            return from + (to - from) * (wanted - below as f64) / count as f64;
        }
        (below, from) = (below + count, bound);
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [f64; 6] = [1_000.0, 4_000.0, 16_000.0, 64_000.0, 256_000.0, f64::INFINITY];

    /// Looks at a node that acknowledges a thousand messages a second, each within the bound of this number.
    struct Node {
        brake: Brake,
        counts: [u64; 6],
    }

    impl Node {
        fn new() -> Self {
            let mut node = Self { brake: Brake::default(), counts: [0; 6] };
            node.look(0, false);
            node
        }

        fn look(&mut self, bucket: usize, moves: bool) -> bool {
            self.counts[bucket] += 1000;
            self.brake.look(vec![BOUNDS.into_iter().zip(self.counts).collect()], moves);
            self.brake.is_held()
        }
    }

    #[test]
    fn moves_wait_while_acknowledgements_take_much_longer_and_go_on_when_they_do_not() {
        let mut node = Node::new();
        (0..30).for_each(|_| assert!(!node.look(1, false), "nothing moves, and nothing is held"));
        (0..30).for_each(|_| assert!(!node.look(1, true), "a move that costs nothing is not held"));
        assert!((0..4).any(|_| node.look(3, true)), "ten times as long is noticed");
        assert!(node.look(3, true), "and goes on to be");
        assert!((0..8).any(|_| !node.look(1, true)), "until it is as before");
        (0..8).for_each(|_| _ = node.look(3, true));
        assert!(!node.look(3, false), "nothing is held that does not move");
    }

    #[test]
    fn what_nobody_notices_holds_nothing() {
        let mut node = Node::new();
        (0..30).for_each(|_| _ = node.look(0, false));
        (0..30).for_each(|_| assert!(!node.look(1, true), "four ms instead of one"));
    }

    #[test]
    fn a_node_that_was_slow_before_moves_its_slots_all_the_same() {
        let mut node = Node::new();
        (0..60).for_each(|_| _ = node.look(3, false));
        (0..30).for_each(|_| assert!(!node.look(3, true)));
    }

    #[test]
    fn a_node_without_messages_is_not_held() {
        let mut node = Node::new();
        (0..30).for_each(|_| _ = node.look(0, false));
        (0..8).for_each(|_| _ = node.look(4, true));
        assert!(node.brake.is_held());
        let counted = node.brake.counted.clone();
        (0..8).for_each(|_| node.brake.look(counted.clone(), true));
        assert!(!node.brake.is_held());
    }
}
