//! What devices are still to be told, and nobody is at: found by a round. A crash leaves such rows, and so do a slot that goes from process
//! to process, services that take nothing, and chats in which something has come while there was no room to look at them.

use prost::Message as _;
use tern_storage::records::OutboxRecord;
use tern_storage::{Direction, Key, LogId, Rows, ScanLimit, keys};
use tern_wire::ids::{Seq, UserId};

use super::{Accounts, Cx, News};
use crate::accounts::slot_of;
use crate::accounts::waits::ScanFor;
use crate::limits::{PUSH_OUTBOX_ROWS, PUSH_WAKES_MAX};
use crate::message::Unreadable;
use crate::mutations::{Mutation, is};

impl Accounts {
    /// Begins a round, if it is time.
    pub(super) fn look_through_outbox(&mut self, cx: &mut Cx) {
        let (now_ms, every_ms, may_read) = (cx.now_ms, cx.limits().push_round_ms, cx.may_read());
        if self.wakes.round.begins(now_ms, every_ms, may_read) {
            read_outbox(cx, None);
        }
    }

    /// Some rows are known: those of this core of which nothing is under way.
    pub(crate) fn outbox_read(&mut self, cx: &mut Cx, rows: Result<Rows, Unreadable>) {
        self.wakes.round.is_read(false);
        let Ok(rows) = rows else { return };
        for (key, value) in &rows.rows {
            let Some((user, log)) = keys::outbox_of(key) else { continue };
            let Some(id) = UserId::new(user) else { continue };
            let Ok(row) = OutboxRecord::decode(&value[..]) else { continue };
            if !cx.is_here(slot_of(id)) {
                continue;
            }
            if self.wakes.get(id, log).is_some() {
                self.row_is_known(cx, id, log);
            } else {
                self.take_up_row(cx, id, log, row);
            }
        }
        let has_room = self.wakes.len() < PUSH_WAKES_MAX / 2;
        if let Some(last) = rows.goes_on_behind().filter(|_| has_room && cx.may_read()) {
            self.wakes.round.is_read(true);
            read_outbox(cx, Some(&last));
        }
    }

    /// What nobody is at is looked at with the next tick.
    fn take_up_row(&mut self, cx: &mut Cx, id: UserId, log: LogId, row: OutboxRecord) {
        if self.wakes.len() >= PUSH_WAKES_MAX || is(Mutation::ForgetOutbox) {
            return;
        }
        let news = News {
            upto: Seq(row.upto),
            first: Seq(row.upto),
            mentioned: row.mentioned,
            again: true,
            since_ms: cx.now_ms,
        };
        let wake = self.wakes.entry(id, log);
        wake.come(news);
        wake.is_in_outbox = true;
        self.wakes.set_due(id, log, cx.now_ms);
    }
}

fn read_outbox(cx: &mut Cx, after: Option<&Key>) {
    let limit = ScanLimit { rows: PUSH_OUTBOX_ROWS, bytes: usize::MAX };
    cx.scan(keys::all_outboxes(after), Direction::Forwards, limit, ScanFor::Outbox);
}
