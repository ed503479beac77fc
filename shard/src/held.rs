//! What is held in memory of the store's, and what waits until it is known.
//!
//! Users, phones, logs and sums are read once and decided on in memory. Each has one of these, which says where it stands:
//!
//! ```text
//!            all parts have come                 a write was undone, or a part can't be read any more
//! Loading -----------------------> Known ------------------------------------------------------> Doubted
//!    |  ^                                                                                           |
//!    |  |    a part can't be read                                     no write of it is under way:  |
//!    v  +---- (gone)  <----------------------------------------------- nobody waits  or  [`Load`] --+
//!  (gone)
//! ```
//!
//! What is doubted is not read before its writes have ended: what would be read is older than what was decided on. A read
//! carries the number of the load that asked for it, and is nobody's when there is another one. What comes meanwhile waits, in
//! order, up to a bound.

use std::collections::VecDeque;

use crate::message::Unreadable;
use crate::mutations::{Mutation, is};
use crate::slots::CoreId;

/// The number of a load. A department counts its own, above the number of its core: what it holds may have been read by another.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Load(u64);

/// Gives out the numbers of loads.
#[derive(Debug)]
pub(crate) struct Loads(u64);

impl Loads {
    /// Those of a core.
    pub(crate) fn new(core: CoreId) -> Self {
        Self(u64::from(core.0) << 48)
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> Load {
        self.0 += 1;
        Load(self.0)
    }
}

/// See the module. `Op` is what waits.
#[derive(Debug)]
pub(crate) struct Held<Op> {
    phase: Phase,
    /// The load that reads it, or has read it.
    load: Load,
    /// Writes of it under way.
    unsettled: u32,
    waiting: VecDeque<Op>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Loading {
        /// Parts that have not come.
        missing: u32,
        /// A part could not be read.
        unreadable: Option<Unreadable>,
    },
    Known,
    Doubted,
}

/// What becomes of something that is asked of what is held.
#[derive(Debug)]
pub(crate) enum Admitted<Op> {
    /// It is known: go on.
    Now(Op),
    /// It waits.
    Waits,
    /// As much waits as may.
    Full(Op),
}

/// What is to be done with something that is doubted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// It is not doubted, or its writes have not ended.
    None,
    /// It may be forgotten, or read again: nobody waits.
    Idle,
    /// It is to be read again, for somebody waits.
    Wanted,
}

impl<Op> Held<Op> {
    /// Something that this load reads, in so many parts.
    pub(crate) fn loading(load: Load, parts: u32) -> Self {
        let phase = Phase::Loading { missing: parts, unreadable: None };
        Self { phase, load, unsettled: 0, waiting: VecDeque::new() }
    }

    /// Something that was made here, and is not in the store.
    pub(crate) fn made(load: Load) -> Self {
        Self { phase: Phase::Known, load, unsettled: 0, waiting: VecDeque::new() }
    }

    /// Reads it again. What waits goes on waiting.
    ///
    /// # Panics
    /// If a write of it is under way, or it is being read.
    pub(crate) fn load_again(&mut self, load: Load, parts: u32) {
        let is_settled = self.unsettled == 0 || is(Mutation::ReadBesideWrites);
        assert!(is_settled, "what is written is not read before the write has ended");
        assert!(!self.is_loading(), "it is read once at a time");
        (self.phase, self.load) = (Phase::Loading { missing: parts, unreadable: None }, load);
    }

    pub(crate) fn is_known(&self) -> bool {
        self.phase == Phase::Known
    }

    pub(crate) fn is_doubted(&self) -> bool {
        self.phase == Phase::Doubted
    }

    pub(crate) fn is_loading(&self) -> bool {
        matches!(self.phase, Phase::Loading { .. })
    }

    /// The load that reads it, or has read it.
    pub(crate) fn load(&self) -> Load {
        self.load
    }

    /// Whether it is known, and by this load.
    pub(crate) fn is_known_by(&self, load: Load) -> bool {
        self.is_known() && self.load == load
    }

    /// Whether this load is under way.
    pub(crate) fn is_loading_by(&self, load: Load) -> bool {
        self.is_loading() && self.load == load
    }

    /// Whether it is known, nothing waits for it, and no write of it is under way.
    pub(crate) fn is_still(&self) -> bool {
        self.is_known() && self.unsettled == 0 && self.waiting.is_empty()
    }

    /// Lets something through if it is known, or has it wait behind at most `max - 1` others.
    pub(crate) fn admit(&mut self, op: Op, max: usize) -> Admitted<Op> {
        if self.is_known() {
            Admitted::Now(op)
        } else if self.waiting.len() < max {
            self.waiting.push_back(op);
            Admitted::Waits
        } else {
            Admitted::Full(op)
        }
    }

    /// Takes back what waits and fits: whoever asked wants it no more.
    pub(crate) fn withdraw(&mut self, fits: impl Fn(&Op) -> bool) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|op| !fits(op));
        self.waiting.len() < before
    }

    /// A part has come, or can't be read. Gives what is known of the whole when none is missing.
    ///
    /// # Panics
    /// If it is not being read.
    pub(crate) fn part_came(&mut self, part: Result<(), Unreadable>) -> Option<Result<(), Unreadable>> {
        let Phase::Loading { missing, unreadable } = &mut self.phase else {
            panic!("a part comes while it is being read")
        };
        *unreadable = (*unreadable).max(part.err());
        *missing = missing.checked_sub(1).expect("a part comes once");
        (*missing == 0).then_some(unreadable.map_or(Ok(()), Err))
    }

    /// A part that has come before turned out to be unreadable.
    pub(crate) fn part_lost(&mut self, why: Unreadable) {
        if let Phase::Loading { unreadable, .. } = &mut self.phase {
            *unreadable = (*unreadable).max(Some(why));
        }
    }

    /// All parts have come: it is known. What waited goes on now, in order.
    pub(crate) fn now_known(&mut self) -> VecDeque<Op> {
        self.phase = Phase::Known;
        std::mem::take(&mut self.waiting)
    }

    /// It can't be known: what waited is to be told.
    pub(crate) fn give_up(self) -> VecDeque<Op> {
        self.waiting
    }

    /// A write of it was made: until that has ended it is neither read nor forgotten.
    pub(crate) fn unsettle(&mut self) {
        self.unsettled += 1;
    }

    /// A write of it has ended, one way or the other.
    pub(crate) fn settle(&mut self) {
        self.unsettled = self.unsettled.checked_sub(1).expect("a write ends once");
    }

    /// What is in memory may not be what is in the store. `true` if it was thought to be.
    pub(crate) fn doubt(&mut self) -> bool {
        let was_known = self.is_known();
        if was_known {
            self.phase = Phase::Doubted;
        }
        was_known
    }

    /// What is to be done if it is doubted.
    pub(crate) fn doubted(&self) -> Doubt {
        match self.phase {
            Phase::Doubted if self.unsettled > 0 && !is(Mutation::ReadBesideWrites) => Doubt::None,
            Phase::Doubted if self.waiting.is_empty() => Doubt::Idle,
            Phase::Doubted => Doubt::Wanted,
            Phase::Loading { .. } | Phase::Known => Doubt::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(held: &mut Held<u32>, op: u32) -> &'static str {
        match held.admit(op, 3) {
            Admitted::Now(_) => "now",
            Admitted::Waits => "waits",
            Admitted::Full(_) => "full",
        }
    }

    #[test]
    fn what_comes_before_it_is_known_waits_in_order_up_to_the_bound() {
        let mut held = Held::loading(Loads::new(CoreId(0)).next(), 2);
        let came: Vec<_> = (1..=4).map(|op| admit(&mut held, op)).collect();
        assert_eq!(came, ["waits", "waits", "waits", "full"]);
        assert!(held.withdraw(|op| *op == 2) && !held.withdraw(|op| *op == 9));
        assert_eq!(held.part_came(Ok(())), None);
        assert_eq!(held.part_came(Ok(())), Some(Ok(())));
        assert_eq!(held.now_known(), [1, 3]);
        assert_eq!(admit(&mut held, 5), "now");
    }

    #[test]
    fn one_part_that_is_damaged_damages_the_whole() {
        let mut held: Held<u32> = Held::loading(Loads::new(CoreId(0)).next(), 3);
        held.part_came(Err(Unreadable::Damaged));
        held.part_came(Err(Unreadable::ForNow));
        assert_eq!(held.part_came(Ok(())), Some(Err(Unreadable::Damaged)));
    }

    #[test]
    fn what_is_doubted_is_not_read_before_its_writes_have_ended() {
        let mut loads = Loads::new(CoreId(0));
        let mut held = Held::made(loads.next());
        held.unsettle();
        held.unsettle();
        held.settle();
        assert!(held.doubt() && !held.doubt());
        assert_eq!(admit(&mut held, 1), "waits");
        assert_eq!(held.doubted(), Doubt::None);
        held.settle();
        assert_eq!(held.doubted(), Doubt::Wanted);
        let (before, again) = (held.load(), loads.next());
        held.load_again(again, 1);
        assert!(!held.is_loading_by(before) && held.is_loading_by(again));
        assert_eq!(held.part_came(Ok(())), Some(Ok(())));
        assert_eq!(held.now_known(), [1]);
        assert!(held.is_still() && held.is_known_by(again) && held.doubted() == Doubt::None);
    }

    #[test]
    #[should_panic(expected = "not read before the write has ended")]
    fn reading_beside_a_write_is_a_bug() {
        let mut loads = Loads::new(CoreId(0));
        let mut held: Held<u32> = Held::made(loads.next());
        held.unsettle();
        held.doubt();
        held.load_again(loads.next(), 1);
    }
}
