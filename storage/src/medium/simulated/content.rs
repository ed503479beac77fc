//! What is in a simulated file: as those see it who read it now, and as a power cut would leave it.

use super::faults::{Dice, Fault};

/// What a medium writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// See the module.
#[derive(Default, Debug)]
pub(super) struct Content {
    /// What is on the medium.
    durable: Vec<u8>,
    /// What is read.
    live: Vec<u8>,
    /// What was done since the last sync, in order.
    pending: Vec<Change>,
    /// Handles that are open.
    pub(super) handles: usize,
}

#[derive(Debug)]
enum Change {
    Bytes { at: usize, bytes: Vec<u8> },
    Length(usize),
}

impl Content {
    pub(super) fn live(&self) -> &[u8] {
        &self.live
    }

    /// Whether a write would make it longer.
    pub(super) fn grows(&self, at: usize, bytes: usize) -> bool {
        at + bytes > self.live.len()
    }

    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        put(&mut self.live, at, bytes);
        self.pending.push(Change::Bytes { at, bytes: bytes.to_vec() });
    }

    pub(super) fn empty(&mut self) {
        self.live.clear();
        self.pending.push(Change::Length(0));
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            match change {
                Change::Bytes { at, bytes } => put(&mut self.durable, at, &bytes),
                Change::Length(length) => self.durable.resize(length, 0),
            }
        }
    }

    /// A sync that fails: any part of what was to be synced is on the medium, and none of the rest will ever be, though it is
    /// still read.
    pub(super) fn fail_to_sync(&mut self, dice: &mut Dice) {
        for change in std::mem::take(&mut self.pending) {
            match dice.below(Fault::SyncFails, 3) {
                0 => self.land(&change),
                1 => self.tear(&change, dice, Fault::SyncFails),
                _ => {}
            }
        }
    }

    /// What a power cut leaves of it.
    pub(super) fn crash(&mut self, dice: &mut Dice) {
        for change in std::mem::take(&mut self.pending) {
            if dice.hits(Fault::LostWrite) {
                continue;
            }
            if dice.hits(Fault::TornWrite) {
                self.tear(&change, dice, Fault::TornWrite);
            } else {
                self.land(&change);
            }
        }
        self.live.clone_from(&self.durable);
        self.handles = 0;
    }

    /// All of a change comes to lie on the medium.
    fn land(&mut self, change: &Change) {
        match change {
            Change::Bytes { at, bytes } => put(&mut self.durable, *at, bytes),
            Change::Length(length) => self.durable.resize(*length, 0),
        }
    }

    /// A part of a change comes to lie on the medium: its begin, or any of its sectors.
    fn tear(&mut self, change: &Change, dice: &mut Dice, fault: Fault) {
        let (at, bytes) = match change {
            Change::Bytes { at, bytes } => (*at, bytes),
            Change::Length(_) => return,
        };
        match dice.below(fault, 3) {
            0 => {
                let end = dice.below(fault, bytes.len() as u64 + 1) as usize;
                put(&mut self.durable, at, &bytes[..end]);
            }
            1 => {
                // Up to one of the bounds of sectors within it.
                let first = at / SECTOR_BYTES;
                let last = (at + bytes.len()) / SECTOR_BYTES;
                let end = first + dice.below(fault, (last - first + 1) as u64) as usize;
                let end = (end * SECTOR_BYTES).saturating_sub(at);
                put(&mut self.durable, at, &bytes[..end]);
            }
            _ => {
                let mut begin = 0;
                while begin < bytes.len() {
                    let end = (begin + SECTOR_BYTES - (at + begin) % SECTOR_BYTES).min(bytes.len());
                    if dice.below(fault, 2) == 0 {
                        put(&mut self.durable, at + begin, &bytes[begin..end]);
                    }
                    begin = end;
                }
            }
        }
    }

    /// Bytes on the medium.
    pub(super) fn durable_bytes(&self) -> usize {
        self.durable.len()
    }

    /// Bytes on the medium up to the last that is not zero.
    pub(super) fn used_bytes(&self) -> usize {
        self.durable.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
    }

    /// A bit flips on the medium, and in what is read of it.
    pub(super) fn flip(&mut self, at: usize, bit: u32) {
        for bytes in [&mut self.durable, &mut self.live] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << bit;
            }
        }
    }
}

/// Writes over what is there, with zeros between if it ends before.
fn put(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
}
