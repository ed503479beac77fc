//! Where connections come from.

use std::io;

use io_uring::types::Fixed;
use io_uring::{opcode, squeue};

use super::{Event, Ring, positive};
use crate::system::SocketAddressBytes;
use crate::token::{ConnToken, Token};

pub(super) struct PeerOp {
    /// `None`: it is waited for.
    conn: Option<ConnToken>,
    address: Box<SocketAddressBytes>,
}

impl Ring {
    /// Asks where a connection comes from. [`Event::Peer`] follows.
    pub fn ask_peer(&mut self, conn: ConnToken, slot: u32, is_ipv6: bool) {
        self.push_peer(Some(conn), slot, is_ipv6);
    }

    /// The remote address of a connection, IPv4 mapped into IPv6. Takes a system call or two: for rare use.
    pub fn peer_address(&mut self, slot: u32, is_ipv6: bool) -> io::Result<[u8; 16]> {
        let waited_for = self.push_peer(None, slot, is_ipv6);
        loop {
            self.enter(1, None)?;
            let mut told = None;
            while let Some(entry) = self.next_completion() {
                if Token::unpack(entry.user_data()) == Some(Token::Peer(waited_for)) {
                    let PeerOp { address, .. } = self.peers.remove(waited_for as usize);
                    told = Some(positive(entry.result()).and_then(|_| address.ip()));
                } else if let Some(event) = self.event(&entry) {
                    self.early.push_back(event);
                }
            }
            if let Some(address) = told {
                return address;
            }
        }
    }

    fn push_peer(&mut self, conn: Option<ConnToken>, slot: u32, is_ipv6: bool) -> u32 {
        let mut address = Box::new(SocketAddressBytes::default());
        let (into, length) = (address.as_mut_ptr(), SocketAddressBytes::length(is_ipv6));
        let level = libc::SOL_SOCKET as u32;
        let entry = opcode::SetSockOpt::new(Fixed(slot), level, SO_PEERNAME, into, length).build();
        // The box moves into the slab, what is in it stays where it is until the completion takes it out again.
        let place = self.peers.insert(PeerOp { conn, address }) as u32;
        self.push(as_get_option(entry), Token::Peer(place));
        place
    }

    pub(super) fn peer_told(&mut self, place: u32, result: i32) -> Option<Event> {
        let PeerOp { conn, address } = self.peers.remove(place as usize);
        if self.peers.is_empty() {
            // A crowd that came at once leaves nothing behind.
            self.peers.shrink_to_fit();
        }
        let address = positive(result).and_then(|_| address.ip());
        // One that is waited for is taken there.
        Some(Event::Peer { conn: conn?, address })
    }
}

/// The kernel's `SO_PEERNAME` (include/uapi/asm-generic/socket.h).
const SO_PEERNAME: u32 = 28;

/// `SOCKET_URING_OP_GETSOCKOPT`, which takes what `SOCKET_URING_OP_SETSOCKOPT` takes, and is not among the crate's.
fn as_get_option(mut entry: squeue::Entry) -> squeue::Entry {
    const GET_OPTION: u32 = 2;
    const COMMAND_AT: usize = 8;
    const _: () = assert!(size_of::<squeue::Entry>() == 64);
    let bytes: *mut u8 = (&raw mut entry).cast();
    // SAFETY: an entry is `repr(C)` around the kernel's submission of 64 bytes, of which those from 8 to 12 are the number of
    // the command (include/uapi/linux/io_uring.h, `cmd_op`); the entry is owned here, and aligned to 8.
    unsafe { bytes.add(COMMAND_AT).cast::<u32>().write(GET_OPTION) };
    entry
}
