//! Connections that are made, and how a connection ends, whoever made it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::opcode;
use io_uring::types::{CancelBuilder, Fixed};

use super::{Event, Ring, positive};
use crate::system::SocketAddress;
use crate::token::{ConnToken, Token};

pub(super) struct ConnectOp {
    conn: ConnToken,
    address: Box<SocketAddress>,
}

impl Ring {
    /// Takes a socket over as the direct descriptor `slot`, which must be free.
    pub fn adopt(&mut self, slot: u32, socket: &OwnedFd) -> io::Result<()> {
        self.uring().submitter().register_files_update(slot, &[socket.as_raw_fd()]).map(drop)
    }

    /// Connects a socket that was adopted. [`Event::Connected`] follows.
    pub fn connect(&mut self, conn: ConnToken, slot: u32, server: SocketAddr) {
        let address = Box::new(SocketAddress::new(server));
        let (start, length) = (address.as_ptr(), address.length());
        // The box moves into the slab, what is in it stays where it is until the completion takes it out again.
        let place = self.connects.insert(ConnectOp { conn, address });
        let entry = opcode::Connect::new(Fixed(slot), start, length).build();
        self.push(entry, Token::Connect(place as u32));
    }

    pub(super) fn connected(&mut self, place: u32, result: i32) -> Event {
        let ConnectOp { conn, address } = self.connects.remove(place as usize);
        drop(address);
        Event::Connected { conn, result: positive(result).map(drop) }
    }

    /// Ends the sending half of a connection, or both. [`Event::ShutDown`] follows; the descriptor must stay open until
    /// then, for the kernel looks it up only on the thread that does this.
    pub fn shutdown(&mut self, conn: ConnToken, slot: u32, both: bool) {
        let how = if both { libc::SHUT_RDWR } else { libc::SHUT_WR };
        let entry = opcode::Shutdown::new(Fixed(slot), how).build();
        self.push(entry, Token::Shutdown(conn));
    }

    /// Ends a connection at once, with the receive that is under way on it, whose completion follows, and closes its descriptor: whoever
    /// only closes it leaves the socket to a receive that holds it. [`Event::Closed`] follows. What else is under way (`is_busy`: it
    /// sends, or connects) is ended too, for which the kernel looks through all that the ring has under way.
    pub fn hang_up(&mut self, conn: ConnToken, slot: u32, is_busy: bool) {
        if is_busy {
            let which = CancelBuilder::fd(Fixed(slot)).all();
            self.push(opcode::AsyncCancel2::new(which).build(), Token::Cancel);
        } else {
            self.stop_receiving(conn);
        }
        self.close(slot);
    }

    /// Closes a descriptor. [`Event::Closed`] follows.
    pub fn close(&mut self, slot: u32) {
        let entry = opcode::Close::new(Fixed(slot)).build();
        self.push(entry, Token::Close);
    }
}
