//! What devices are still to be told, and nobody is at: found by a round. A crash leaves such rows, and so do a slot that goes from process
//! to process, services that take nothing, and chats in which something has come while there was no room to look at them.

use prost::Message as _;
use tern_storage::records::OutboxRecord;
use tern_storage::{Direction, Key, LogId, Rows, ScanLimit, keys};
use tern_wire::ids::{Seq, UserId};

use super::{Accounts, Cx, News};
use crate::accounts::slot_of;
use crate::accounts::waits::ScanFor;
use crate::limits::PUSH_OUTBOX_ROWS;
use crate::message::Unreadable;
use crate::mutations::{Mutation, is};

impl Accounts {
    /// Begins a round, if it is time.
    pub(super) fn look_through_outbox(&mut self, cx: &mut Cx) {
        let (now_ms, every_ms, may_read) = (cx.now_ms, cx.limits().push_round_ms, cx.may_read());
        if !self.wakes.ends && self.wakes.round.begins(now_ms, every_ms, may_read) {
            let at = self.wakes.round_at.take();
            read_outbox(cx, at.as_ref());
        }
    }

    /// Some rows are known: those of this core of which nothing is under way.
    pub(crate) fn outbox_read(&mut self, cx: &mut Cx, rows: Result<Rows, Unreadable>) {
        self.wakes.round.is_read(false);
        let Ok(rows) = rows else { return };
        for (key, value) in &rows.rows {
            let Some((user, log, counts)) = keys::outbox_of(key) else { continue };
            let Some(id) = UserId::new(user) else { continue };
            let Ok(row) = OutboxRecord::decode(&value[..]) else { continue };
            if !cx.is_here(slot_of(id)) {
                continue;
            }
            if matches!(log, LogId::Private(_)) {
                self.note_chats(cx, id);
            } else if counts {
                self.take_up_count(cx, id, log);
            } else if self.wakes.get(id, log).is_some() {
                self.row_is_known(cx, id, log);
            } else {
                self.take_up_row(cx, id, log, row);
            }
        }
        let Some(last) = rows.goes_on_behind() else { return };
        if self.wakes.has_room(cx.limits()) && cx.may_read() {
            self.wakes.round.is_read(true);
            read_outbox(cx, Some(&last));
        } else {
            // The next round goes on there.
            self.wakes.round_at = Some(last);
        }
    }

    /// It is to be seen how much is unread.
    fn take_up_count(&mut self, cx: &mut Cx, id: UserId, log: LogId) {
        if !self.wakes.has_room(cx.limits()) {
            return;
        }
        let wake = self.wakes.entry(id, log);
        if std::mem::replace(&mut wake.is_noted, true) {
            // It has had its turn, and its notices are on their way.
            return;
        }
        wake.come(News { since_ms: cx.now_ms, ..News::default() });
        if wake.look.is_none() {
            let due_ms = wake.rests_until_ms(cx.now_ms).max(cx.now_ms);
            self.wakes.set_due(id, log, due_ms);
        }
    }

    /// What nobody is at is looked at with the next tick.
    fn take_up_row(&mut self, cx: &mut Cx, id: UserId, log: LogId, row: OutboxRecord) {
        if !self.wakes.has_room(cx.limits()) || is(Mutation::ForgetOutbox) {
            return;
        }
        let news = News {
            upto: Seq(row.upto),
            first: Seq(row.upto),
            mentioned: row.mentioned,
            call: Seq(row.call),
            rings_until_ms: row.rings_until_ms,
            again: true,
            missed: false,
            erased: Seq(0),
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
