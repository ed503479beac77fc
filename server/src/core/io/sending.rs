//! What is queued to connections, on its way out. A send's buffer belongs to its operation until that has ended.

use tern_shard::reply::ConnId;

use super::super::conn::{Conn, Queue, Tls, token};
use super::super::life::{Action, Event, Sent};
use super::Io;

/// Send buffers kept for the next send.
const SPARE_BUFFERS_MAX: usize = 64;

/// Bytes of a send buffer that is kept.
const SPARE_BUFFER_BYTES_MAX: usize = 64 << 10;

impl Io {
    /// Sends what connections have queued.
    pub(in crate::core) fn flush(&mut self) {
        while let Some(id) = self.dirty.pop() {
            self.flush_one(id);
        }
    }

    /// Seals what a connection has queued, and hands it to the kernel, unless that still has something of it.
    pub(super) fn flush_one(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id).filter(|conn| conn.life.may_send()) else { return };
        if conn.life.takes_its_queue_along() {
            return self.on(id, Event::Emptied);
        }
        if conn.life.takes_frames() && conn.queue.as_deref().is_some_and(|queue| queue.lazy) {
            // Its time comes, or something that does not wait.
            return;
        }
        if conn.life.says_farewell() && seal_farewell(conn).is_err() {
            return self.on(id, Event::Abort);
        }
        let queue = conn.queue.take().filter(|queue| queue.has_some());
        let Some(queue) = queue else { return self.on(id, Event::Emptied) };
        let Queue { plain, mut sealed, .. } = *queue;
        if !plain.is_empty() {
            if sealed.capacity() == 0 {
                sealed = self.spare.pop().unwrap_or_default();
            }
            let Tls::Open(records) = &mut conn.tls else {
                unreachable!("frames are queued to what is open, and flushed when nobody is at work on it")
            };
            if records.seal(&plain, &mut sealed).is_err() {
                return self.on(id, Event::Abort);
            }
        }
        conn.sending = sealed.len() as u32;
        let actions = conn.life.on(self.now, Event::Submitted);
        debug_assert!(actions.is_none(), "nothing follows from a send before it has ended");
        let (slot, is_stranger) = (conn.slot, conn.stranger);
        keep(&mut self.spare, plain);
        self.metrics().bytes_out.add(sealed.len() as u64);
        self.send_from(id, (slot, is_stranger), sealed, 0);
        self.touch(id);
    }

    fn send_from(&mut self, id: ConnId, (slot, is_stranger): (u32, bool), buffer: Vec<u8>, from: usize) {
        if is_stranger {
            self.ring.send_small(token(id), slot, buffer, from);
        } else {
            self.ring.send(token(id), slot, buffer, from);
        }
    }

    /// A send has ended.
    pub(in crate::core) fn sent(&mut self, id: ConnId, buffer: Vec<u8>, upto: usize, failed: bool) {
        let conn = self.conns.get(id).expect("a connection outlives its operations");
        let how = match upto < buffer.len() {
            _ if failed => Sent::Failed,
            true => Sent::Part,
            false => Sent::All,
        };
        let actions = conn.life.on(self.now, Event::Sent(how));
        if actions.has(Action::SendRest) {
            let how = (conn.slot, conn.stranger);
            self.metrics().short_sends.add(1);
            self.send_from(id, how, buffer, upto);
        } else {
            conn.sending = 0;
            keep(&mut self.spare, buffer);
        }
        self.act(id, actions);
        self.resume_reading(id);
    }
}

/// Seals the last frames, and behind them the end of the stream, or the alert that says why. The record layer is needed no more.
fn seal_farewell(conn: &mut Conn) -> Result<(), tern_wire::tls::TlsError> {
    if let Tls::Open(mut records) = std::mem::replace(&mut conn.tls, Tls::Gone) {
        let Queue { plain, sealed, .. } = conn.queue();
        records.seal(plain, sealed)?;
        plain.clear();
        records.close(sealed);
    }
    Ok(())
}

fn keep(spare: &mut Vec<Vec<u8>>, mut buffer: Vec<u8>) {
    if spare.len() < SPARE_BUFFERS_MAX && (1..=SPARE_BUFFER_BYTES_MAX).contains(&buffer.capacity()) {
        buffer.clear();
        spare.push(buffer);
    }
}
