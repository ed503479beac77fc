//! The connections of a core, by the shell's dense index.

use tern_wire::opening::Opening;
use tern_wire::request::{PushWindow, Request};

use super::session::Session;
use crate::entry::Author;
use crate::reply::ConnId;
use crate::tokens::Access;

/// One connection.
#[derive(Debug, Default)]
pub(super) struct Conn {
    /// Tells it from those that had its place before.
    pub(super) generation: u32,
    pub(super) opening: Opening,
    pub(super) in_flight: u32,
    pub(super) in_flight_bytes: u32,
    /// When it was opened, and as which of its process.
    pub(super) opened_ms: u64,
    pub(super) number: u64,
    pub(super) received_ms: u64,
    pub(super) window: PushWindow,
    /// The end has been said; what still comes is not read.
    pub(super) closing: bool,
    /// The peer sends no more: what it asked for is answered, then the connection ends.
    pub(super) finished: bool,
    /// Its requests wait.
    pub(super) pause: Option<Box<Pause>>,
    pub(super) session: Option<Box<Session>>,
}

// For connections are many, and memory comes in such sizes.
const _: () = assert!(size_of::<Conn>() == 64);

/// Why the requests of a connection wait, and which do; the window bounds them.
#[derive(Debug)]
pub(super) struct Pause {
    pub(super) why: Why,
    pub(super) waiting: Vec<(Waiter, Request)>,
}

/// What the requests of a connection wait for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Why {
    /// Its `Login`: whether it may stand for its device, its user's owner says.
    LogsIn(Access, Waiter),
    /// It follows its user: what it has asked for before is answered first.
    FallsStill,
    /// Whatever its user's owner has told it is to come before it goes.
    SaysGoodbye,
    /// It has followed its user, or could not: what it was not told meanwhile, the owner says.
    Arrives,
}

impl Pause {
    /// Nothing waits yet.
    pub(super) fn new(why: Why) -> Box<Self> {
        Box::new(Self { why, waiting: Vec::new() })
    }

    /// The device that the connection is about to stand for.
    pub(super) fn logs_in(&self) -> Option<Author> {
        match self.why {
            Why::LogsIn(access, _) => Some(access.author),
            Why::FallsStill | Why::SaysGoodbye | Why::Arrives => None,
        }
    }
}

/// A request, and what it holds of its connection's window until it is answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    /// The connection.
    pub(super) conn: ConnId,
    /// The request's id; 0 wants no response.
    pub(super) request: u64,
    /// Bytes of the request's frame.
    pub(super) bytes: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Conns {
    /// Boxed, so that room for more costs little.
    slots: Vec<Option<Box<Conn>>>,
    count: usize,
    swept: usize,
}

impl Conns {
    /// The connection, unless it has gone.
    pub(super) fn get(&mut self, id: ConnId) -> Option<&mut Conn> {
        match self.slots.get_mut(id.index as usize) {
            Some(Some(conn)) if conn.generation == id.generation => Some(conn),
            _ => None,
        }
    }

    /// The session of a connection, unless either has gone or the end has been said.
    pub(super) fn session(&mut self, id: ConnId) -> Option<&mut Session> {
        self.get(id).filter(|conn| !conn.closing)?.session.as_deref_mut()
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// How many are logged in, and have not been told to go.
    pub(super) fn sessions(&self) -> usize {
        self.slots.iter().flatten().filter(|conn| conn.session.is_some() && !conn.closing).count()
    }

    /// All of them.
    pub(super) fn ids(&self) -> Vec<ConnId> {
        let id = |(index, slot): (usize, &Option<Box<Conn>>)| {
            let generation = slot.as_ref()?.generation;
            Some(ConnId { index: index as u32, generation })
        };
        self.slots.iter().enumerate().filter_map(id).collect()
    }

    pub(super) fn insert(&mut self, id: ConnId, conn: Conn) {
        let index = id.index as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        assert!(self.slots[index].is_none(), "the shell reuses an index only after Closed or move_to");
        self.slots[index] = Some(Box::new(Conn { generation: id.generation, ..conn }));
        self.count += 1;
    }

    pub(super) fn remove(&mut self, id: ConnId) -> Option<Conn> {
        self.get(id)?;
        self.count -= 1;
        self.slots[id.index as usize].take().map(|conn| *conn)
    }

    /// The next part of all connections, so that each is seen about once a second at ten calls a second.
    pub(super) fn sweep(&mut self) -> Vec<ConnId> {
        let part = self.slots.len() / 10 + 1;
        let (from, to) = (self.swept, (self.swept + part).min(self.slots.len()));
        self.swept = if to == self.slots.len() { 0 } else { to };
        let id = |index: usize| {
            Some(ConnId { index: index as u32, generation: self.slots[index].as_ref()?.generation })
        };
        (from..to).filter_map(id).collect()
    }
}
