//! How much the kernel keeps for a connection.

use io_uring::types::Fixed;
use io_uring::{opcode, squeue};

use super::Ring;
use crate::token::Token;

/// The kernel's `SO_BUF_LOCK` (include/uapi/asm-generic/socket.h).
const SO_BUF_LOCK: libc::c_int = 72;

/// The kernel takes twice as much, for its own structures.
static RECEIVE_SMALL: libc::c_int = 6 << 10;
static SEND_SMALL: libc::c_int = 4 << 10;
/// What sockets begin with.
static RECEIVE_USUAL: libc::c_int = 64 << 10;
static SEND_USUAL: libc::c_int = 32 << 10;
/// Neither buffer's size was set by hand.
static UNLOCKED: libc::c_int = 0;

impl Ring {
    /// Has the kernel keep little for a connection: at most 12 KiB received and some 12 KiB to be sent.
    pub fn keep_small(&mut self, slot: u32) {
        self.set_option(slot, libc::SO_RCVBUF, &RECEIVE_SMALL);
        self.set_option(slot, libc::SO_SNDBUF, &SEND_SMALL);
    }

    /// Lets the kernel's buffers of a connection grow again as it sees fit.
    pub fn let_grow(&mut self, slot: u32) {
        self.set_option(slot, libc::SO_RCVBUF, &RECEIVE_USUAL);
        self.set_option(slot, libc::SO_SNDBUF, &SEND_USUAL);
        self.set_option(slot, SO_BUF_LOCK, &UNLOCKED);
    }

    fn set_option(&mut self, slot: u32, option: libc::c_int, value: &'static libc::c_int) {
        let (level, length) = (libc::SOL_SOCKET as u32, size_of_val(value) as u32);
        let start = (&raw const *value).cast();
        let entry = opcode::SetSockOpt::new(Fixed(slot), level, option as u32, start, length).build();
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS), Token::Option);
    }
}
