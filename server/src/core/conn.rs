//! One connection of a core, as bytes: its descriptor, its TLS state, what is on its way in and out. What becomes of it, its
//! [`Life`] knows.

use std::time::Instant;

use tern_shard::Arrival;
use tern_shard::reply::ConnId;
use tern_shard::slots::CoreId;
use tern_wire::frame::FrameBuffer;
use tern_wire::tls::{Handshake, Records};

use super::life::Life;
use super::strangers::Stranger;
use tern_uring::{ConnToken, TransferId};

/// See the module.
#[derive(Debug)]
pub(super) struct Conn {
    /// Its direct descriptor.
    pub(super) slot: u32,
    /// Bytes of the send under way; 0 if there is none.
    pub(super) sending: u32,
    pub(super) tls: Tls,
    /// The beginning of a frame, while it is partial.
    pub(super) frames: Option<Box<FrameBuffer>>,
    /// What is to be sent; there only while there is something.
    pub(super) queue: Option<Box<Queue>>,
    /// Where it goes, while it moves.
    pub(super) moving: Option<Box<Moving>>,
    pub(super) life: Life,
    pub(super) rest: Rest,
    /// It has not logged in.
    pub(super) stranger: bool,
}

// For connections are many, and memory comes in such sizes.
const _: () = assert!(size_of::<Conn>() == 64);

/// Whether a connection is silent, and in which lists it is for that.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// Something has come or gone since it was looked at last.
    pub(super) active: bool,
    /// It is among those whose keys are expanded.
    pub(super) awake: bool,
    /// It is among those that are watched when they are silent.
    pub(super) drowsy: bool,
}

/// What is to be sent to a connection.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Frames to be sealed.
    pub(super) plain: Vec<u8>,
    /// Sealed bytes, which go first.
    pub(super) sealed: Vec<u8>,
    /// All of it may wait.
    pub(super) lazy: bool,
}

impl Queue {
    /// Whether anything is queued.
    pub(super) fn has_some(&self) -> bool {
        !self.plain.is_empty() || !self.sealed.is_empty()
    }
}

/// The state of a connection's TLS.
#[derive(Debug)]
pub(super) enum Tls {
    /// Boxed, for a connection is in it but for a moment.
    Handshake(Box<Shaking>),
    /// Before its handshake a balancer says where the client is.
    Heading(Box<Heading>),
    Open(Box<Records>),
    /// In the hands of whoever is at work on it, or over.
    Gone,
}

/// A handshake under way.
#[derive(Debug)]
pub(super) struct Shaking {
    pub(super) accepted: Instant,
    /// From when its first flight is taken up: until then a newcomer costs no TLS, whether it has a place or not.
    pub(super) handshake: Option<Handshake>,
}

/// What a balancer says, as far as it has come.
#[derive(Debug)]
pub(super) struct Heading {
    pub(super) bytes: Vec<u8>,
    pub(super) shaking: Shaking,
}

/// What was received and is not read for now.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// Opened, but not yet read as frames.
    pub(super) plaintext: Vec<u8>,
    /// Received, but not yet opened.
    pub(super) ciphertext: Vec<u8>,
}

/// Where a connection goes.
#[derive(Debug)]
pub(super) struct Moving {
    pub(super) to: CoreId,
    pub(super) arrival: Arrival,
    pub(super) transfer: TransferId,
}

/// What a connection is, on its way between cores.
#[derive(Debug)]
pub struct Moved {
    pub(super) transfer: TransferId,
    pub(super) records: Box<Records>,
    pub(super) frames: Option<Box<FrameBuffer>>,
    pub(super) queue: Option<Box<Queue>>,
    pub(super) unread: Unread,
    pub(super) arrival: Arrival,
    /// It has not logged in.
    pub(super) is_stranger: bool,
    /// Its place among those, unless somebody else has it by now.
    pub(super) stranger: Option<Stranger>,
    /// Where it is, if it has logged in, and came through a balancer.
    pub(super) proxied: Option<[u8; 16]>,
}

impl Conn {
    pub(super) fn new(slot: u32, tls: Tls, life: Life) -> Self {
        Self {
            slot,
            sending: 0,
            tls,
            frames: None,
            queue: None,
            moving: None,
            life,
            rest: Rest::default(),
            stranger: true,
        }
    }

    /// What is to be sent, to add to it.
    pub(super) fn queue(&mut self) -> &mut Queue {
        self.queue.get_or_insert_default()
    }

    /// Bytes that have not left.
    pub(super) fn backlog(&self) -> usize {
        let queued = self.queue.as_deref().map_or(0, |queue| queue.plain.len() + queue.sealed.len());
        queued + self.sending as usize
    }

    /// Takes the record layer out, to work with it while the brain queues answers.
    ///
    /// # Panics
    /// If it is out already, or there is none.
    pub(super) fn take_records(&mut self) -> Box<Records> {
        match std::mem::replace(&mut self.tls, Tls::Gone) {
            Tls::Open(records) => records,
            Tls::Handshake(_) | Tls::Heading(_) | Tls::Gone => {
                unreachable!("an open connection has its record layer, but for while it is read from")
            }
        }
    }

    /// Takes the handshake out, to go on with it.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn take_handshake(&mut self) -> Shaking {
        match std::mem::replace(&mut self.tls, Tls::Gone) {
            Tls::Handshake(shaking) => *shaking,
            Tls::Heading(_) | Tls::Open(_) | Tls::Gone => {
                unreachable!("a connection has its handshake until that is over")
            }
        }
    }
}

/// The token of a connection's operations.
pub(super) fn token(id: ConnId) -> ConnToken {
    ConnToken::new(id.index, id.generation)
}
