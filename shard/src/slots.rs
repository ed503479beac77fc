//! Which core owns which slot.

use std::sync::Arc;

use tern_storage::{Epoch, SLOTS, Slot};

/// A core of this node, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CoreId(pub u16);

/// A process of the installation: one run of ternd. A number is never given out again. The default is for a store of one machine,
/// which one process has at a time: nobody else holds places of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ProcessId(pub u32);

/// The owner of every slot, and the epoch in which the process owns it. A value: who changes it makes another one, of the next
/// version, which every core gets as an input. Copies share their memory.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotTable {
    version: u64,
    cores: u16,
    owners: Arc<[Owner]>,
}

/// Shows its version: the rest is long.
impl std::fmt::Debug for SlotTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlotTable").field("version", &self.version).finish_non_exhaustive()
    }
}

/// Of one slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Owner {
    core: CoreId,
    epoch: Epoch,
}

impl SlotTable {
    /// The first version: all slots dealt out evenly to the cores of one node, each in its first epoch.
    ///
    /// # Panics
    /// If `cores` is 0 or more than there are slots.
    pub fn even(cores: u16) -> Self {
        assert!((1..=SLOTS).contains(&cores), "a node has between one core and one a slot");
        let owner = |slot| Owner { core: CoreId(slot % cores), epoch: Epoch::default() };
        Self { version: 1, cores, owners: (0..SLOTS).map(owner).collect() }
    }

    /// The next version, in which a slot is another core's. The epoch stays: it counts processes.
    ///
    /// # Panics
    /// If there is no such core.
    pub fn with_moved(&self, slot: Slot, to: CoreId) -> Self {
        assert!(to.0 < self.cores, "a slot moves to a core of the node");
        let mut owners = self.owners.to_vec();
        owners[usize::from(slot.number())].core = to;
        Self { version: self.version + 1, cores: self.cores, owners: owners.into() }
    }

    /// The next version, in which other processes have taken slots over, each in its next epoch: whoever had them is gone, with all that
    /// it was asked, or has let go of them.
    ///
    /// # Panics
    /// If there is no such core.
    pub fn with_taken(&self, slots: impl IntoIterator<Item = (Slot, CoreId)>) -> Self {
        let mut owners = self.owners.to_vec();
        for (slot, core) in slots {
            assert!(core.0 < self.cores, "a slot is taken by a core of the node");
            let owner = &mut owners[usize::from(slot.number())];
            *owner = Owner { core, epoch: Epoch(owner.epoch.0 + 1) };
        }
        Self { version: self.version + 1, cores: self.cores, owners: owners.into() }
    }

    /// The cores of the node.
    pub fn cores(&self) -> impl Iterator<Item = CoreId> + use<> {
        (0..self.cores).map(CoreId)
    }

    /// Counts the tables.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The core that owns `slot`.
    pub fn owner(&self, slot: Slot) -> CoreId {
        self.owners[usize::from(slot.number())].core
    }

    /// The epoch in which the process owns `slot`.
    pub fn epoch(&self, slot: Slot) -> Epoch {
        self.owners[usize::from(slot.number())].epoch
    }

    /// How many slots `core` owns.
    pub fn owned_by(&self, core: CoreId) -> usize {
        self.owners.iter().filter(|owner| owner.core == core).count()
    }

    /// The slots whose core is another one in `next`, of the same process.
    pub(crate) fn moved(&self, next: &Self) -> Vec<Slot> {
        self.differ(next, |before, after| before.core != after.core && before.epoch == after.epoch)
    }

    /// The slots that other processes have taken over in `next`.
    pub(crate) fn taken(&self, next: &Self) -> Vec<Slot> {
        self.differ(next, |before, after| before.epoch != after.epoch)
    }

    fn differ(&self, next: &Self, differs: impl Fn(&Owner, &Owner) -> bool) -> Vec<Slot> {
        let pairs = self.owners.iter().zip(next.owners.iter()).enumerate();
        let differing = pairs.filter(|(_, (before, after))| differs(before, after));
        differing
            .map(|(number, _)| Slot::new(number as u16).expect("there are as many owners as slots"))
            .collect()
    }
}

/// Slots whose owner is gone, with what it was asked: another process has taken them over.
#[derive(Debug)]
pub(crate) struct Taken {
    slots: Vec<Slot>,
    is_taken: Box<[u64]>,
}

impl Taken {
    /// These, rising.
    pub(crate) fn new(slots: Vec<Slot>) -> Self {
        let mut is_taken = vec![0; usize::from(SLOTS) / 64].into_boxed_slice();
        for slot in &slots {
            is_taken[usize::from(slot.number() / 64)] |= 1 << (slot.number() % 64);
        }
        Self { slots, is_taken }
    }

    /// Whether a slot is one of them.
    pub(crate) fn has(&self, slot: Slot) -> bool {
        self.is_taken[usize::from(slot.number() / 64)] & 1 << (slot.number() % 64) != 0
    }

    /// All of them, rising.
    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }
}
