//! Whether a connection is read from now: not before what is unsent to it has left, nor before others have had their turn.

use tern_shard::reply::ConnId;

use super::super::conn::Conn;
use super::super::life::{Bytes, Event};
use super::super::strangers::STRANGER_UNSENT_BYTES_MAX;
use super::Io;

impl Io {
    /// Whether frames of a connection go to the brain now. Not if it does not take what is sent to it: then nothing more is
    /// read until that has left.
    pub(in crate::core) fn reads(&mut self, id: ConnId) -> bool {
        let unsent_max = self.shared.unsent_bytes_max;
        let Some(conn) = self.conns.get(id).filter(|conn| conn.life.reads()) else { return false };
        if has_room(conn, unsent_max) {
            return true;
        }
        self.on(id, Event::Crowded);
        self.metrics().reading_paused.add(1);
        false
    }

    /// Has a connection read from again if enough has left.
    pub(super) fn resume_reading(&mut self, id: ConnId) {
        let unsent_max = self.shared.unsent_bytes_max;
        if self.conns.get(id).is_some_and(|conn| conn.life.is_crowded() && has_room(conn, unsent_max)) {
            self.on(id, Event::Uncrowded);
        }
    }

    /// Keeps what was received until the connection is read on, if it ever is.
    pub(in crate::core) fn keep_sealed(&mut self, id: ConnId, bytes: &[u8]) {
        if self.keeps(id) {
            self.unread.entry(id).or_default().ciphertext.extend_from_slice(bytes);
        }
    }

    /// The same of what was opened already.
    pub(in crate::core) fn keep_opened(&mut self, id: ConnId, plaintext: Vec<u8>) {
        if self.keeps(id) && !plaintext.is_empty() {
            self.unread.entry(id).or_default().plaintext = plaintext;
        }
    }

    fn keeps(&mut self, id: ConnId) -> bool {
        self.conns.get(id).is_some_and(|conn| conn.life.bytes() == Bytes::Keep)
    }
}

fn has_room(conn: &Conn, unsent_max: usize) -> bool {
    conn.backlog() <= if conn.stranger { STRANGER_UNSENT_BYTES_MAX } else { unsent_max }
}
