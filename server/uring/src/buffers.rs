//! The buffers that a ring receives into, lent to the kernel through a provided buffer ring.
//!
//! A buffer is either the kernel's (offered) or leased to the caller with what was received; a [`Lease`] can't be copied,
//! and giving it back ends it, so nothing is read after the kernel has the buffer again.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

/// The one buffer group of a ring.
pub(super) const GROUP: u16 = 0;

const PAGE: usize = 4096;

/// A buffer with received bytes. Give it back with [`Ring::recycle`](super::Ring::recycle).
#[derive(Debug)]
#[must_use = "a lease that is not given back is a buffer lost"]
pub struct Lease {
    pub(super) buffer: u16,
    pub(super) bytes: u32,
}

/// The buffers of one ring. Their memory is never freed: the kernel may write to it until the ring is gone for good.
pub(super) struct Buffers {
    ring: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    count: u16,
    bytes: u32,
    tail: u16,
}

impl Buffers {
    /// Registers `count` buffers (a power of two, at most 32,768) of `bytes` each, and offers all of them.
    pub(super) fn new(uring: &IoUring, count: u16, bytes: u32) -> io::Result<Self> {
        if !count.is_power_of_two() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the number of receive buffers is no power of two",
            ));
        }
        let ring = pages(usize::from(count) * size_of::<BufRingEntry>()).cast();
        let memory = pages(usize::from(count) * bytes as usize);
        // SAFETY: `ring` is page-aligned, zeroed memory for `count` entries, and is never freed, so it outlives the ring.
        unsafe { uring.submitter().register_buf_ring_with_flags(ring.as_ptr() as u64, count, GROUP, 0)? };
        let mut buffers = Self { ring, memory, count, bytes, tail: 0 };
        for buffer in 0..count {
            buffers.offer(buffer);
        }
        Ok(buffers)
    }

    /// What a lease holds.
    pub(super) fn leased(&mut self, lease: &Lease) -> &mut [u8] {
        assert!(
            lease.buffer < self.count && lease.bytes <= self.bytes,
            "the kernel names its buffers rightly"
        );
        // SAFETY: the buffer lies within `memory`, which is never freed. The lease is the proof that the kernel has given
        // it up: it was made from a completion, and `recycle` consumes it. `&mut self` keeps a second slice away.
        unsafe {
            let start = self.memory.add(usize::from(lease.buffer) * self.bytes as usize);
            std::slice::from_raw_parts_mut(start.as_ptr(), lease.bytes as usize)
        }
    }

    /// Gives a buffer back to the kernel.
    pub(super) fn recycle(&mut self, lease: Lease) {
        assert!(lease.buffer < self.count, "the kernel names its buffers rightly");
        self.offer(lease.buffer);
    }

    fn offer(&mut self, buffer: u16) {
        let place = usize::from(self.tail & (self.count - 1));
        // SAFETY: `place` is below `count`, so the entry lies within the ring's memory, and so does the buffer within
        // `memory`. The kernel does not read an entry before the tail has passed it, which happens below. The first
        // entry's last field is the tail itself, which these setters leave alone.
        unsafe {
            let entry = &mut *self.ring.add(place).as_ptr();
            entry.set_addr(self.memory.add(usize::from(buffer) * self.bytes as usize).as_ptr() as u64);
            entry.set_len(self.bytes);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `ring` is the address of the first entry, whose tail field the kernel reads with acquire semantics; it
        // is aligned for a u16, lives as long as the ring, and is written by this thread alone.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.ring.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

/// Zeroed, page-aligned memory that is never freed.
fn pages(bytes: usize) -> NonNull<u8> {
    let layout =
        Layout::from_size_align(bytes.max(1).next_multiple_of(PAGE), PAGE).expect("far below isize::MAX");
    // SAFETY: the layout's size is not 0.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}
