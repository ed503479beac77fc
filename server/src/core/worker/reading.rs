//! Reading: what has come, opened and cut into frames for the brain.

use tern_shard::reply::ConnId;
use tern_shard::{Arrival, Input, Shard};
use tern_wire::errors::{Farewell, Reason};
use tern_wire::frame::{FrameBuffer, FrameError};
use tern_wire::tls::{Opened, Records, TlsError};

use super::super::conn::{Conn, Moved, Queue, Tls};
use super::super::io::Io;
use super::super::life::{Bytes, Ended, Event, Life};
use super::super::strangers::STRANGER_FRAMES_AT_ONCE;
use super::Worker;
use tern_uring::Lease;

/// Bytes of answers to key updates that wait behind a send. Beyond, the connection is ended.
const KEY_ANSWERS_BYTES_MAX: usize = 4096;

/// Frames that one connection has read in a turn, if others wait.
const FRAMES_PER_TURN: u32 = 256;

/// Frames that a turn reads from those who have had theirs already, of 1 to 2 us each: so long waits everybody else.
const QUEUED_FRAMES_PER_TURN: u64 = 256;

impl Worker {
    pub(super) fn received(&mut self, id: ConnId, lease: Lease, armed: bool) {
        self.io.on(id, Event::Received { armed });
        self.io.touch(id);
        self.io.tracer.received();
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        bytes.extend_from_slice(self.io.ring.leased(&lease));
        self.io.ring.recycle(lease);
        self.io.metrics().bytes_in.add(bytes.len() as u64);
        if self.io.waits_its_turn(id) {
            self.io.on(id, Event::TurnOver);
        }
        let conn = self.io.conns.get(id).expect("a connection outlives its operations");
        match conn.life.bytes() {
            Bytes::Records => {
                let records = conn.take_records();
                Open::new(&mut self.shard, &mut self.io, id).receive(records, &mut bytes);
            }
            // It was received before the receive had ended, or waits its turn: at most what one turn takes.
            Bytes::Keep => self.io.keep_sealed(id, &bytes),
            Bytes::Heading => self.heading(id, &bytes),
            // Those who are there go before those who come; what was begun is finished.
            Bytes::Greeting => self.hello(id, &bytes),
            Bytes::Handshake => self.shake_hands(id, &bytes),
            Bytes::Drop => {}
        }
        self.scratch = bytes;
        self.io.on(id, Event::Read);
    }

    pub(super) fn receive_ended(&mut self, id: ConnId, why: &tern_uring::Ended) {
        let why = match why {
            tern_uring::Ended::NoBuffers => {
                self.io.metrics().buffers_exhausted.add(1);
                Ended::NoBuffers
            }
            tern_uring::Ended::Cancelled => Ended::Cancelled,
            tern_uring::Ended::Readable => Ended::Readable,
            tern_uring::Ended::Eof => Ended::Eof,
            tern_uring::Ended::Failed(_) => Ended::Failed,
        };
        self.io.on(id, Event::ReceiveEnded(why));
    }

    /// Reads what came before, first opened, then sealed.
    pub(super) fn read_on(
        &mut self,
        id: ConnId,
        records: Box<Records>,
        plaintext: &[u8],
        mut ciphertext: Vec<u8>,
    ) {
        let mut open = Open::new(&mut self.shard, &mut self.io, id);
        open.frames(plaintext);
        open.receive(records, &mut ciphertext);
    }

    /// Goes on with those who have had a turn.
    pub(super) fn take_queue(&mut self) {
        let upto = self.io.frames_read + QUEUED_FRAMES_PER_TURN;
        while self.io.frames_read < upto
            && let Some(id) = self.io.queue.pop_front()
        {
            self.go_on_reading(id, Event::Turn);
        }
    }

    /// Goes on with a connection to which enough has been sent, or whose turn it is.
    pub(super) fn go_on_reading(&mut self, id: ConnId, why: Event) {
        if !self.io.conns.get(id).is_some_and(|conn| conn.life.is_held()) {
            return;
        }
        self.io.on(id, why);
        let Some(conn) = self.io.conns.get(id).filter(|conn| conn.life.reads()) else { return };
        let records = conn.take_records();
        let unread = self.io.unread.remove(&id).unwrap_or_default();
        self.read_on(id, records, &unread.plaintext, unread.ciphertext);
        self.io.on(id, Event::Read);
    }

    /// Both halves of a connection have come from another core.
    pub(super) fn moved_here(&mut self, slot: u32, moved: Moved) {
        let Moved { records, frames, queue, unread, arrival, is_stranger, stranger, proxied, .. } = moved;
        let mut conn = Conn::new(slot, Tls::Gone, Life::arrived(self.io.now));
        conn.frames = frames;
        let brings_some = queue.is_some();
        conn.queue = queue.map(|queue| Box::new(Queue { lazy: false, ..*queue }));
        conn.stranger = is_stranger;
        let id = self.io.conns.insert(conn);
        if let Some(stranger) = stranger {
            self.io.take_over(id, stranger);
        }
        if !is_stranger {
            self.io.welcome(id, slot, proxied);
        }
        self.io.metrics().connections_taken.add(1);
        if brings_some {
            self.io.on(id, Event::Queued);
        }
        self.arrived(id, arrival);
        self.read_on(id, records, &unread.plaintext, unread.ciphertext);
        self.io.on(id, Event::Read);
    }

    /// The brain hears of a connection that has come from another core, or could not go there.
    pub(super) fn arrived(&mut self, id: ConnId, arrival: Arrival) {
        self.input(Input::Arrived(id, arrival));
        if self.draining.is_some() {
            let farewell = Farewell::new(Reason::ShuttingDown, "this server is stopping");
            self.input(Input::Broken(id, farewell));
        }
    }
}

/// The work of opening what one connection has sent. Its record layer is out of the connection meanwhile, so that the
/// brain can queue answers to it.
struct Open<'a> {
    shard: &'a mut Shard,
    io: &'a mut Io,
    id: ConnId,
    /// Frames that it may still have read in this turn.
    left: u32,
    /// Plaintext behind a frame after which the connection is not read any more.
    rest: Vec<u8>,
}

impl<'a> Open<'a> {
    fn new(shard: &'a mut Shard, io: &'a mut Io, id: ConnId) -> Self {
        let is_stranger = io.conns.get(id).is_some_and(|conn| conn.stranger);
        let left = if is_stranger { STRANGER_FRAMES_AT_ONCE } else { FRAMES_PER_TURN };
        Self { shard, io, id, left, rest: Vec::new() }
    }

    fn receive(&mut self, mut records: Box<Records>, bytes: &mut [u8]) {
        let mut out = Vec::new();
        let opened = if !bytes.is_empty() && !self.io.reads(self.id) {
            // It moves on, or waits, from the frames before: what follows stays sealed.
            self.io.keep_sealed(self.id, bytes);
            Ok(Opened::Open)
        } else {
            records.open(bytes, &mut out, &mut |plaintext| self.frames(plaintext))
        };
        let rest = std::mem::take(&mut self.rest);
        self.io.keep_opened(self.id, rest);
        self.put_back(records, out);
        self.opened(opened);
    }

    /// Puts the record layer back, and queues what it has to say.
    fn put_back(&mut self, records: Box<Records>, mut out: Vec<u8>) {
        let conn = self.io.conns.get(self.id).expect("it ends at the end of the turn, if it does");
        conn.tls = Tls::Open(records);
        if out.is_empty() {
            return;
        }
        let queue = conn.queue();
        queue.sealed.append(&mut out);
        let floods = queue.sealed.len() > KEY_ANSWERS_BYTES_MAX && !conn.life.says_farewell();
        self.io.on(self.id, Event::Queued);
        if floods {
            // It updates its keys on and on, and takes none of the answers.
            self.io.on(self.id, Event::Abort);
        }
    }

    /// What the record layer says of what it has opened.
    fn opened(&mut self, opened: Result<Opened, TlsError>) {
        match opened {
            Ok(Opened::Open) => {}
            Ok(Opened::Closed) => self.io.on(self.id, Event::PeerEnded),
            Err(error) => {
                tracing::debug!(core = self.io.core.0, conn = self.id.index, %error, "a TLS connection failed");
                self.io.on(self.id, Event::End);
            }
        }
    }

    /// Hands the frames of a piece of plaintext to the brain.
    fn frames(&mut self, plaintext: &[u8]) {
        if !self.io.reads(self.id) {
            return self.rest.extend_from_slice(plaintext);
        }
        let conn = self.io.conns.get(self.id).expect("it is read from");
        let mut buffer = conn.frames.take().map_or_else(FrameBuffer::default, |buffer| *buffer);
        let mut frames = buffer.read(plaintext);
        loop {
            if self.left == 0 && !frames.is_empty() {
                self.io.on(self.id, Event::TurnOver);
            }
            if !self.io.reads(self.id) {
                self.rest = frames.into_rest();
                break;
            }
            let now_ms = self.io.shared.clock.now_ms();
            match frames.next(self.shard.frame_bytes_max(self.id)) {
                Ok(Some(_))
                    if self.io.conns.get(self.id).is_some_and(|conn| conn.stranger)
                        && self.io.asks_too_much(self.id) =>
                {
                    let farewell = Farewell {
                        reconnect_after_ms: 1000,
                        ..Farewell::new(Reason::RateLimited, "too much was asked for without a Login")
                    };
                    self.shard.handle(now_ms, Input::Broken(self.id, farewell), self.io);
                    break;
                }
                Ok(Some(frame)) => {
                    self.left = self.left.saturating_sub(1);
                    self.io.frames_read += 1;
                    self.io.metrics().frames_in.add(1);
                    self.shard.handle(now_ms, Input::Frame(self.id, frame), self.io);
                }
                Ok(None) => break,
                Err(FrameError::TooLarge { .. }) => {
                    let farewell =
                        Farewell::new(Reason::FrameTooLarge, "a frame is longer than Limits allow");
                    self.shard.handle(now_ms, Input::Broken(self.id, farewell), self.io);
                    break;
                }
            }
        }
        if let Some(conn) = self.io.conns.get(self.id) {
            conn.frames = (!buffer.is_empty()).then(|| Box::new(buffer));
        }
    }
}
