//! One connection of a core, as bytes: its descriptor, its TLS state, what is on its way in and out.

use std::time::Instant;

use tern_shard::Arrival;
use tern_shard::reply::ConnId;
use tern_shard::slots::CoreId;
use tern_wire::frame::FrameBuffer;
use tern_wire::tls::{Handshake, Records};

use super::strangers::Stranger;
use tern_uring::{ConnToken, TransferId};

/// See the module.
#[derive(Debug)]
pub(super) struct Conn {
    /// Its direct descriptor.
    pub(super) slot: u32,
    pub(super) tls: Tls,
    /// The beginning of a frame, while it is partial.
    pub(super) frames: Option<Box<FrameBuffer>>,
    /// What is to be sent; there only while there is something.
    pub(super) queue: Option<Box<Queue>>,
    /// Bytes of the send under way; 0 if there is none.
    pub(super) sending: u32,
    /// The peer sends no more.
    pub(super) eof: bool,
    /// A receive is armed, or a watch in its place.
    pub(super) receiving: bool,
    /// It is among those that are watched when they are silent.
    pub(super) drowsy: bool,
    /// It was silent: it is watched, or about to be, and not received from.
    pub(super) dozing: bool,
    /// Shutdowns under way. The kernel does them on a thread of its own, and looks the descriptor up there: closed before,
    /// it may have become another connection's.
    pub(super) shutdowns: u8,
    /// Something has come or gone since it was looked at last.
    pub(super) active: bool,
    /// It is among those whose keys are expanded.
    pub(super) awake: bool,
    /// The first flight of its handshake has been taken up.
    pub(super) greeted: bool,
    /// It is in the list of those with something to send.
    pub(super) dirty: bool,
    /// The brain wants to know when everything has been sent.
    pub(super) tell_drained: bool,
    /// The brain knows it.
    pub(super) known: bool,
    /// It has not logged in.
    pub(super) stranger: bool,
    /// Nothing more is read from it for now: before what is unsent has left, or before others have had their turn.
    pub(super) paused: bool,
    /// It has had its turn, and waits for the next one.
    pub(super) queues: bool,
    /// The peer sends no more, and the brain has been told.
    pub(super) finished: bool,
    pub(super) end: End,
    /// The brain has ended it while its record layer was at work.
    pub(super) end_when_put_back: bool,
    pub(super) moving: Option<Box<Moving>>,
}

/// What is to be sent to a connection.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Frames to be sealed.
    pub(super) plain: Vec<u8>,
    /// Sealed bytes, which go first.
    pub(super) sealed: Vec<u8>,
}

/// The state of a connection's TLS.
#[derive(Debug)]
pub(super) enum Tls {
    /// Boxed, for a connection is in it but for a moment.
    Handshake(Box<Shaking>),
    /// Before its handshake a balancer says where the client is.
    Heading(Box<Heading>),
    Open(Box<Records>),
    /// In the hands of whoever is at work on it, or failed.
    Gone,
}

/// A handshake under way.
#[derive(Debug)]
pub(super) struct Shaking {
    pub(super) accepted: Instant,
    pub(super) handshake: Handshake,
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

/// How far a connection's end has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// It goes on.
    None,
    /// What is queued leaves, then it ends.
    Flushing,
    /// It sends no more, and waits for the peer to do the same, so that what was sent is not lost to a reset.
    Lingering,
    /// It has been shut down: only its operations are still to end.
    Aborting,
}

/// A connection on its way to another core.
#[derive(Debug)]
pub(super) struct Moving {
    pub(super) to: CoreId,
    pub(super) arrival: Arrival,
    pub(super) transfer: TransferId,
    /// Opened, but not yet read as frames.
    pub(super) plaintext: Vec<u8>,
    /// Received, but not yet opened.
    pub(super) ciphertext: Vec<u8>,
    pub(super) asked_to_stop: bool,
    pub(super) given: bool,
}

/// What a connection is, on its way between cores.
#[derive(Debug)]
pub struct Moved {
    pub(super) transfer: TransferId,
    pub(super) records: Box<Records>,
    pub(super) frames: Option<Box<FrameBuffer>>,
    pub(super) plaintext: Vec<u8>,
    pub(super) ciphertext: Vec<u8>,
    pub(super) arrival: Arrival,
    pub(super) stranger: Option<Stranger>,
}

impl Conn {
    pub(super) fn new(slot: u32, tls: Tls) -> Self {
        Self {
            slot,
            tls,
            frames: None,
            queue: None,
            sending: 0,
            eof: false,
            receiving: false,
            drowsy: false,
            dozing: false,
            shutdowns: 0,
            active: false,
            awake: false,
            greeted: false,
            dirty: false,
            tell_drained: false,
            known: false,
            stranger: false,
            paused: false,
            queues: false,
            finished: false,
            end: End::None,
            end_when_put_back: false,
            moving: None,
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

    /// Nothing of it is with the kernel.
    pub(super) fn is_still(&self) -> bool {
        let given = self.moving.as_deref().is_some_and(|moving| moving.given);
        !self.receiving && self.sending == 0 && self.shutdowns == 0 && !given
    }

    /// Whether what it receives is still read.
    pub(super) fn reads(&self) -> bool {
        self.goes_on() && !self.paused
    }

    /// Whether what it receives is read, now or later.
    pub(super) fn goes_on(&self) -> bool {
        self.end == End::None && !self.end_when_put_back && self.moving.is_none()
    }

    /// Whether its TLS handshake is still to be done.
    pub(super) fn is_shaking(&self) -> bool {
        matches!(self.tls, Tls::Handshake(_) | Tls::Heading(_))
    }
}

/// The connections of a core, by index and generation.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Boxed, so that room for more costs little.
    conns: Vec<(u32, Option<Box<Conn>>)>,
    free: Vec<u32>,
    count: usize,
}

impl Table {
    pub(super) fn insert(&mut self, conn: Conn) -> ConnId {
        self.count += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.conns.push((0, None));
            self.conns.len() as u32 - 1
        });
        let (generation, place) = &mut self.conns[index as usize];
        *generation = generation.wrapping_add(1);
        *place = Some(Box::new(conn));
        ConnId { index, generation: *generation }
    }

    /// Removes a connection. Its index is not given to another one before [`Table::release`].
    pub(super) fn remove(&mut self, id: ConnId) -> Option<Box<Conn>> {
        let (_, place) =
            self.conns.get_mut(id.index as usize).filter(|(generation, _)| *generation == id.generation)?;
        let conn = place.take()?;
        self.count -= 1;
        Some(conn)
    }

    /// A removed connection's index is free: the brain knows of it no more.
    pub(super) fn release(&mut self, id: ConnId) {
        self.free.push(id.index);
    }

    pub(super) fn get(&mut self, id: ConnId) -> Option<&mut Conn> {
        let (generation, conn) = self.conns.get_mut(id.index as usize)?;
        if *generation == id.generation { conn.as_deref_mut() } else { None }
    }

    /// The connection that an operation was for, unless it has gone.
    pub(super) fn id_of(&self, token: ConnToken) -> Option<ConnId> {
        let (generation, conn) = self.conns.get(token.index as usize)?;
        let lives = conn.is_some() && token.is_of(*generation);
        lives.then_some(ConnId { index: token.index, generation: *generation })
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn ids(&self) -> Vec<ConnId> {
        let lives = self.conns.iter().enumerate().filter(|(_, (_, conn))| conn.is_some());
        lives
            .map(|(index, (generation, _))| ConnId { index: index as u32, generation: *generation })
            .collect()
    }
}

/// The token of a connection's operations.
pub(super) fn token(id: ConnId) -> ConnToken {
    ConnToken::new(id.index, id.generation)
}
