//! Which core owns which slot.

use tern_storage::{SLOTS, Slot};

/// A core of this node, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CoreId(pub u16);

/// A process of the installation: one run of ternd. A number is never given out again. The default is for a store of one machine,
/// which one process has at a time: nobody else holds places of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ProcessId(pub u32);

/// The owner of every slot.
#[derive(Clone, Debug)]
pub struct SlotMap {
    owners: Box<[CoreId]>,
}

impl SlotMap {
    /// All slots dealt out evenly to the cores of one node.
    ///
    /// # Panics
    /// If `cores` is 0 or more than there are slots.
    pub fn even(cores: u16) -> Self {
        assert!((1..=SLOTS).contains(&cores), "a node has between one core and one a slot");
        Self { owners: (0..SLOTS).map(|slot| CoreId(slot % cores)).collect() }
    }

    /// The core that owns `slot`.
    pub fn owner(&self, slot: Slot) -> CoreId {
        self.owners[usize::from(slot.number())]
    }

    /// How many slots `core` owns.
    pub fn owned_by(&self, core: CoreId) -> usize {
        self.owners.iter().filter(|owner| **owner == core).count()
    }
}
