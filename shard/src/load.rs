//! What each slot costs a core: operations, by kind, and bytes. They are counted on the way of each message, without a clock; what they
//! weigh is for whoever looks at them to say.

use tern_storage::{SLOTS, Slot};

/// Something that is done for a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Work {
    /// A frame has come from a device of its users.
    Came,
    /// A frame goes to one.
    Sent,
    /// Its owner decides on something that it was asked or told.
    Decided,
    /// Its owner writes a row.
    Written,
}

/// How many kinds there are.
pub const KINDS: usize = 4;

/// How much was done for a slot since the process began.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Load {
    /// By kind, as [`Work`] has them.
    pub operations: [u64; KINDS],
    /// Of rows that were written: keys and values.
    pub bytes: u64,
}

/// Of all slots, as one core has worked for them: whoever has them, and whoever has the connections of their users.
#[derive(Debug)]
pub(crate) struct Loads(Box<[Load]>);

impl Load {
    /// Whether nothing was done.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// What was done since an earlier look, at the same core.
    pub fn since(&self, before: &Self) -> Self {
        let mut operations = self.operations;
        operations
            .iter_mut()
            .zip(before.operations)
            .for_each(|(now, before)| *now = now.wrapping_sub(before));
        Self { operations, bytes: self.bytes.wrapping_sub(before.bytes) }
    }

    /// Another core's is added.
    pub fn add(&mut self, other: &Self) {
        self.operations.iter_mut().zip(other.operations).for_each(|(sum, more)| *sum += more);
        self.bytes += other.bytes;
    }
}

impl Loads {
    pub(crate) fn new() -> Self {
        Self(vec![Load::default(); usize::from(SLOTS)].into())
    }

    /// Something is done for a slot.
    pub(crate) fn count(&mut self, slot: Slot, work: Work) {
        let count = &mut self.0[usize::from(slot.number())].operations[work as usize];
        *count = count.wrapping_add(1);
    }

    /// A row of so many bytes is written for it.
    pub(crate) fn count_row(&mut self, slot: Slot, bytes: usize) {
        self.count(slot, Work::Written);
        let load = &mut self.0[usize::from(slot.number())];
        load.bytes = load.bytes.wrapping_add(bytes as u64);
    }

    /// By slot.
    pub(crate) fn all(&self) -> &[Load] {
        &self.0
    }
}
