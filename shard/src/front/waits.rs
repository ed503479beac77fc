//! What the front waits for from the store. It writes nothing.

use tern_storage::Rows;

use super::session::INBOX_UNREADABLE;
use crate::Cx;
use crate::message::Unreadable;
use crate::reply::ConnId;
use crate::shard::Shard;

/// What a scan of the front's is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ScanFor {
    /// A step of a device's inbox, for a connection.
    Inbox(ConnId),
    /// The logs of this page of chats, for a connection.
    Chats(ConnId, u64),
}

impl Shard {
    pub(crate) fn front_scanned(&mut self, cx: &mut Cx, purpose: ScanFor, result: Result<Rows, Unreadable>) {
        match (purpose, result) {
            (ScanFor::Inbox(conn), Ok(rows)) => self.inbox_step_read(cx, conn, &rows.rows, rows.more),
            (ScanFor::Inbox(conn), Err(_)) => self.farewell(cx, conn, INBOX_UNREADABLE),
            (ScanFor::Chats(conn, page), rows) => self.chats_read(cx, conn, page, rows),
        }
    }
}
