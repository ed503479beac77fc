//! Connections between devices and the node: two pipes of bytes each, in order, which take their time and may break.

use std::collections::VecDeque;
use std::time::Duration;

/// A connection, by a number that is never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct LinkId(pub(crate) u64);

/// Who is at the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owner {
    /// A device in one of its runs; `number` is its own of the connection.
    Device { at: usize, run: u64, number: u64 },
    /// Somebody who keeps to no protocol.
    Stranger,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) owner: Owner,
    /// When the last bytes sent each way will be there: later ones come after.
    pub(super) up: Duration,
    pub(super) down: Duration,
    /// Nothing comes through any more, and nobody knows.
    pub(super) is_dead: bool,
    /// What has come to a device that does not read, in order.
    pub(super) held: VecDeque<Vec<u8>>,
    /// The other end has ended it.
    pub(super) is_left: bool,
}

impl Link {
    /// One that is being made.
    pub(super) fn new(owner: Owner, now: Duration) -> Self {
        Self { owner, up: now, down: now, is_dead: false, held: VecDeque::new(), is_left: false }
    }

    /// When bytes that are sent now arrive, if they take so long.
    pub(super) fn arrival(&mut self, is_up: bool, now: Duration, takes: Duration) -> Duration {
        let last = if is_up { &mut self.up } else { &mut self.down };
        *last = (*last).max(now + takes);
        *last
    }
}
