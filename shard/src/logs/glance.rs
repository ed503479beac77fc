//! A log at a glance: what a list of chats shows of it.

use tern_storage::{Direction, LogId, ScanLimit};
use tern_wire::ids::{Seq, UserId};

use super::read::Purpose;
use super::{Cx, Log, Logs};
use crate::entry::{Entry, peer_of};
use crate::message::{Glance, Glancer, Shown, UserOp};

impl Log {
    /// The newest durable entry. It is never trimmed.
    fn newest(&self) -> Option<&std::sync::Arc<Entry>> {
        self.in_tail(self.durable.seq())
    }

    /// How many durable entries of the peer's are beyond a member's read watermark, at which this entry stands. In a store of before
    /// that is not always known: then all that are beyond it count.
    fn unread(&self, reader: UserId, read: Option<&Entry>) -> u64 {
        let (head, upto) = (self.durable.seq(), read.map_or(Seq(0), |entry| entry.seq));
        let beyond = head.0 - upto.0;
        let others = |entry: &Entry| entry.count_of_others(reader);
        let counted = self.newest().and_then(|newest| others(newest)).and_then(|all| {
            let before = read.map_or(Some(0), others)?;
            all.checked_sub(before)
        });
        counted.unwrap_or(beyond).min(beyond)
    }
}

impl Logs {
    pub(super) fn glance(&mut self, cx: &mut Cx, id: LogId, asker: Glancer) {
        let log = self.known(id);
        let read = log.shown_of(asker.reader).read;
        if read == Seq(0) || read >= log.durable.seq() || log.in_tail(read).is_some() {
            let read = log.in_tail(read.min(log.durable.seq())).cloned();
            return self.glanced(cx, id, asker, read.as_deref());
        }
        let limit = ScanLimit { rows: 1, bytes: usize::MAX };
        let range = (read.0, read.0 + 1);
        self.read_entries(cx, id, range, Direction::Forwards, limit, Purpose::Glance(asker));
    }

    /// The entry at the read watermark is known, if there is one.
    pub(super) fn glanced(&mut self, cx: &mut Cx, id: LogId, asker: Glancer, read: Option<&Entry>) {
        let log = self.known(id);
        let (reader, peer) = (asker.reader, peer_of(id, asker.reader));
        let both = log.has_written(peer) && log.has_written(reader);
        let glance = Glance {
            asker,
            log: id,
            head: log.durable.seq(),
            last: log.newest().cloned(),
            unread: if peer == reader { 0 } else { log.unread(reader, read) },
            peer: log.shown_of(peer),
            own: log.shown_of(reader),
            shown: Shown { name: both, phone: log.has_written(peer) },
            name: String::new(),
            phone: String::new(),
            failed: None,
        };
        cx.tell_user(peer, UserOp::Introduce(Box::new(glance)));
    }
}
