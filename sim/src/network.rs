//! Connections between devices and the node: two pipes of bytes each, in order, which take their time and may break.

use std::collections::VecDeque;
use std::time::Duration;

/// A connection, by a number that is never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct LinkId(pub(crate) u64);

/// See the module.
#[derive(Debug)]
pub(crate) struct Link {
    /// Whose it is, and of which of its runs.
    pub(crate) device: usize,
    pub(crate) run: u64,
    /// The machine's number of it.
    pub(crate) number: u64,
    /// When the last bytes sent each way will be there: later ones come after.
    pub(crate) up: Duration,
    pub(crate) down: Duration,
    /// Nothing comes through any more, and nobody knows.
    pub(crate) is_dead: bool,
    /// What has come to a device that does not read, in order.
    pub(crate) held: VecDeque<Vec<u8>>,
    /// The device has ended it.
    pub(crate) is_left: bool,
}

impl Link {
    /// When bytes that are sent now arrive, if they take so long.
    pub(crate) fn arrival(&mut self, is_up: bool, now: Duration, takes: Duration) -> Duration {
        let last = if is_up { &mut self.up } else { &mut self.down };
        *last = (*last).max(now + takes);
        *last
    }
}
