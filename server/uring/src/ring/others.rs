//! What goes between rings, and from plain threads to a ring: wake-ups, and descriptors.

use std::os::fd::RawFd;

use io_uring::types::{DestinationSlot, Fd, Fixed};
use io_uring::{opcode, squeue};

use super::Ring;
use crate::token::{ConnToken, Token, TransferId};

/// A ring, as others see it: where to send wake-ups and descriptors.
#[derive(Clone, Copy, Debug)]
pub struct RingHandle(pub(super) RawFd);

impl Ring {
    /// Wakes another ring.
    pub fn wake(&mut self, other: RingHandle) {
        let entry = opcode::MsgRingData::new(Fd(other.0), 0, Token::Wake.pack(), None).build();
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS), Token::Cancel);
    }

    /// Gives a descriptor to another ring, which gets [`Event::Taken`](super::Event::Taken). Here [`Event::Given`](super::Event::Given) follows.
    pub fn give(&mut self, conn: ConnToken, slot: u32, other: RingHandle, transfer: TransferId) {
        let (to, place) = (Fd(other.0), DestinationSlot::auto_target());
        let entry = opcode::MsgRingSendFd::new(to, Fixed(slot), place, Token::Take(transfer).pack()).build();
        self.push(entry, Token::Give(conn));
    }

    /// Reads the waker's eventfd: whoever writes to it wakes the ring.
    pub(super) fn watch_waker(&mut self) {
        let Some(waker) = &self.waker else { return };
        let fd = waker.fd();
        let into: *mut u64 = &raw mut *self.notified;
        let entry = opcode::Read::new(Fd(fd), into.cast(), size_of::<u64>() as u32).build();
        self.push(entry, Token::Notify);
    }
}
