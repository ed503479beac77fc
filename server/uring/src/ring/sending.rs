//! What is sent: a buffer goes with its operation, and comes back with the completion.

use io_uring::opcode;
use io_uring::types::Fixed;

use super::{Event, Ring, positive};
use crate::token::{ConnToken, Token};

/// Room for sends that is kept when there are none.
const SENDS_KEPT: usize = 256;

pub(super) struct SendOp {
    conn: ConnToken,
    buffer: Vec<u8>,
    from: usize,
}

impl Ring {
    /// Sends `buffer` from `from` on. It comes back with [`Event::Sent`].
    pub fn send(&mut self, conn: ConnToken, slot: u32, buffer: Vec<u8>, from: usize) {
        self.send_with(conn, slot, buffer, from, 0);
    }

    /// The same for a connection that is kept small: the kernel appends what is sent to its newest segment, up to 64 KiB, however
    /// small its buffer, unless that segment has an end.
    pub fn send_small(&mut self, conn: ConnToken, slot: u32, buffer: Vec<u8>, from: usize) {
        self.send_with(conn, slot, buffer, from, libc::MSG_EOR);
    }

    fn send_with(&mut self, conn: ConnToken, slot: u32, buffer: Vec<u8>, from: usize, flags: libc::c_int) {
        let rest = &buffer[from..];
        let (start, length) = (rest.as_ptr(), rest.len() as u32);
        let flags = flags | libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let entry = opcode::Send::new(Fixed(slot), start, length).flags(flags).build();
        // The Vec moves into the slab, its bytes stay where they are until the completion takes it out again.
        let place = self.sends.insert(SendOp { conn, buffer, from });
        self.push(entry, Token::Send(place as u32));
    }

    pub(super) fn sent(&mut self, place: u32, result: i32) -> Event {
        let SendOp { conn, buffer, from } = self.sends.remove(place as usize);
        if self.sends.is_empty() && self.sends.capacity() > SENDS_KEPT {
            self.sends.shrink_to_fit();
        }
        match positive(result) {
            Ok(sent) => Event::Sent { conn, buffer, upto: from + sent as usize, error: None },
            Err(error) => Event::Sent { conn, buffer, upto: from, error: Some(error) },
        }
    }
}
