//! What a ring tells: what has happened, and why receiving has ended.

use std::io;

use crate::buffers::Lease;
use crate::token::{ConnToken, TransferId};

/// What has happened.
#[derive(Debug)]
pub enum Event {
    /// A connection was accepted into a direct descriptor.
    Accepted {
        /// The descriptor.
        slot: u32,
    },
    /// Accepting has ended: arm it again, at once or when there is room.
    AcceptEnded {
        /// What the system said.
        error: io::Error,
    },
    /// Where a connection comes from, as was asked with [`Ring::ask_peer`](super::Ring::ask_peer).
    Peer {
        /// Whose.
        conn: ConnToken,
        /// IPv6, or IPv4 mapped into it. An error if the connection has failed meanwhile.
        address: io::Result<[u8; 16]>,
    },
    /// A connection that was asked for stands, or can't be made.
    Connected {
        /// Which.
        conn: ConnToken,
        /// Whether it stands.
        result: io::Result<()>,
    },
    /// Bytes have come.
    Received {
        /// For whom.
        conn: ConnToken,
        /// Where they are.
        lease: Lease,
        /// Whether more will come without being asked for.
        armed: bool,
    },
    /// Receiving has ended, without bytes.
    ReceiveEnded {
        /// Whose.
        conn: ConnToken,
        /// Why.
        why: Ended,
    },
    /// A send has ended.
    Sent {
        /// Whose.
        conn: ConnToken,
        /// What was to be sent; the operation has given it back.
        buffer: Vec<u8>,
        /// Up to where it has been sent.
        upto: usize,
        /// What the system said, if it did not send all.
        error: Option<io::Error>,
    },
    /// A shutdown has ended; if the connection had failed before, that is told by its other operations.
    ShutDown {
        /// Whose.
        conn: ConnToken,
    },
    /// A descriptor has been given to another ring; it is still open in this one.
    Given {
        /// Whose.
        conn: ConnToken,
        /// Whether it arrived.
        result: io::Result<()>,
    },
    /// A descriptor has come from another ring.
    Taken {
        /// Which.
        transfer: TransferId,
        /// Where it is now.
        slot: u32,
    },
    /// A descriptor is closed: its slot is free.
    Closed,
    /// Another ring, or a plain thread, has work for this one.
    Woken,
}

/// Why receiving has ended.
#[derive(Debug)]
pub enum Ended {
    /// The peer sends no more.
    Eof,
    /// There was no buffer: arm it again when some have been given back.
    NoBuffers,
    /// It was cancelled.
    Cancelled,
    /// There is something to receive, or the peer sends no more: so says [`Ring::watch`](super::Ring::watch).
    Readable,
    /// The connection has failed.
    Failed(io::Error),
}
