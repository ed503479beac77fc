//! The kernel interface: one io_uring a core, behind an API without unsafe code.
//!
//! Invariants: an operation owns its memory until its completion has arrived (sends in a slab, receives in the buffer
//! ring), whoever lost interest meanwhile; connections are direct descriptors, so they cost the process no file
//! numbers; a [`Ring`] stays on the thread that made it. All unsafe code of the project is in this folder. It refuses to
//! know TLS, frames and what a connection is for.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]
#![allow(unsafe_code, reason = "the one place for it: each block says why it is sound")]

mod buffers;
mod ring;
mod system;
mod token;

pub use buffers::Lease;
pub use ring::{Ended, Event, Missing, Ring, RingHandle, RingOptions};
pub use system::{
    Waker, eventfd_waker, listen, pin_to_cpu, raise_open_files, socket_from, stop_listening, use_small_pages,
};
pub use token::{ConnToken, TransferId};
