//! A batch: writes that become durable together or not at all.

use bytes::Bytes;

use crate::keys::Key;
use crate::slots::{Epoch, Slot};

/// One write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Sets the key's value.
    Put(Key, Bytes),
    /// Removes the key; nothing happens if it is not there.
    Delete(Key),
}

/// Writes in order; a later one of the same key wins.
#[derive(Clone, Default, Debug)]
pub struct Batch {
    ops: Vec<Op>,
    bytes: usize,
}

impl Batch {
    /// Empty, with room for so many writes.
    pub fn with_capacity(writes: usize) -> Self {
        Self { ops: Vec::with_capacity(writes), bytes: 0 }
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: Key, value: impl Into<Bytes>) {
        let value = value.into();
        self.bytes += key.as_ref().len() + value.len();
        self.ops.push(Op::Put(key, value));
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: Key) {
        self.bytes += key.as_ref().len();
        self.ops.push(Op::Delete(key));
    }

    /// The writes in order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Bytes of keys and values together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many writes.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether it has no writes. An empty batch is still committed in its turn: it proves that those before it are.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}

/// The slots that a batch touches, with the epochs in which its author owns them.
#[derive(Clone, Default, Debug)]
pub struct Fence {
    epochs: Vec<(Slot, Epoch)>,
}

impl FromIterator<(Slot, Epoch)> for Fence {
    fn from_iter<I: IntoIterator<Item = (Slot, Epoch)>>(epochs: I) -> Self {
        Self { epochs: epochs.into_iter().collect() }
    }
}

impl Fence {
    /// Demands that `slot` is still in `epoch` when the batch commits.
    pub fn require(&mut self, slot: Slot, epoch: Epoch) {
        if !self.epochs.contains(&(slot, epoch)) {
            self.epochs.push((slot, epoch));
        }
    }

    /// What is demanded.
    pub fn epochs(&self) -> &[(Slot, Epoch)] {
        &self.epochs
    }
}
