//! Entries whose time has come: they are erased, by the clock of the log's owner, or say what is to be sent. See [`super::agenda`].

use std::sync::Arc;

use bytes::Bytes;
use tern_storage::{LogId, keys};
use tern_wire::ids::{Seq, UserId};

use super::append::number_record;
use super::log::Log;
use super::media::{media_of, uncite};
use super::schedule::scheduled;
use super::{After, Cx, GetFor, Logs};
use crate::effects::Gone;
use crate::entry::{Author, Entry};
use crate::held::Load;
use crate::message::Unreadable;

/// Beyond every head: what is rewritten by time, and by no entry.
const BY_TIME: Seq = Seq(u64::MAX);

impl Log {
    pub(super) fn lives(&self, user: UserId) -> bool {
        self.seen_member(user).is_some_and(|member| member.lives)
    }

    /// That an entry was erased by time is durable: it is shown so.
    fn show_erased(&mut self, seq: Seq) {
        self.show(|by, entry| by == BY_TIME && entry.seq == seq);
    }
}

impl Logs {
    /// Something is to be done about entries. What can't be done now is told again.
    pub(super) fn fall_due(&mut self, cx: &mut Cx, id: LogId, due: Vec<(u64, Seq)>) {
        for (at_ms, seq) in due {
            let log = self.known(id);
            // What waits may rest on an entry as it was read; and what is not durable may never have been.
            if log.is_deciding() || seq > log.durable.seq() || log.is_being_cut() {
                return;
            }
            if seq < log.first || !log.exists {
                self.end_entry(cx, id, at_ms, seq, None);
            } else if let Some(entry) = log.newest_of(seq).cloned() {
                self.end_entry(cx, id, at_ms, seq, Some(&entry));
            } else if cx.may_read() {
                log.reading += 1;
                let purpose = GetFor::Due(id, log.held.load(), at_ms, seq);
                cx.get(keys::entry(id, seq.0), purpose);
            } else {
                return;
            }
        }
    }

    /// An entry has come of which something is due.
    pub(super) fn due_entry_read(
        &mut self,
        cx: &mut Cx,
        (id, load): (LogId, Load),
        at_ms: u64,
        seq: Seq,
        value: Result<Option<Bytes>, Unreadable>,
    ) {
        let Some(log) = self.logs.get_mut(&id).filter(|log| log.held.load() == load) else { return };
        log.reading -= 1;
        // Since it was read, somebody may have said something about it.
        if !log.held.is_known() || log.is_deciding() || log.is_being_cut() {
            return;
        }
        let Ok(value) = value else { return };
        if seq < log.first || !log.exists {
            return self.end_entry(cx, id, at_ms, seq, None);
        }
        let read = value.map(|value| Entry::from_record(id, seq.0, value));
        let newest = log.newest_of(seq).map(|entry| (**entry).clone());
        match (newest, read) {
            (Some(entry), _) | (None, Some(Some(entry))) => self.end_entry(cx, id, at_ms, seq, Some(&entry)),
            (None, Some(None)) => cx.damaged("an entry", &keys::entry(id, seq.0)),
            (None, None) => self.end_entry(cx, id, at_ms, seq, None),
        }
    }

    /// Erases an entry whose time has come, unless that was done; or sends what it says.
    fn end_entry(&mut self, cx: &mut Cx, id: LogId, at_ms: u64, seq: Seq, entry: Option<&Entry>) {
        let is_schedule = match entry.and_then(|entry| Some((entry, scheduled(entry)?.1))) {
            Some((entry, send)) if self.known(id).lives(entry.author.user) => {
                return self.dispatch(cx, entry, send);
            }
            // An account that has ended sends nothing any more.
            Some(_) => true,
            None => false,
        };
        if !cx.may_write(0) {
            return;
        }
        self.dispatching.end((id, seq));
        let log = self.known(id);
        let slot = log.slot;
        let is_over = |entry: &&Entry| entry.expires_ms() == at_ms || is_schedule;
        let ends = entry.filter(is_over).filter(|entry| !entry.is_erased());
        if let Some(entry) = ends {
            let words = erase(cx, log, entry);
            self.look_at_words(cx, id, words);
            cx.gone(Gone::Ended, 1);
        }
        cx.delete_lazily(slot, keys::due(at_ms, id, seq.0));
        self.after_lazily(cx, After::Erased(id, seq));
    }

    /// It is durable.
    pub(super) fn erased(&mut self, id: LogId, seq: Seq) {
        self.pinned(id).show_erased(seq);
    }
}

/// Erases an entry, and by what a retry of it was told. Gives when its words are to be taken out of the index, if it leaves any there.
#[must_use]
pub(super) fn erase(cx: &mut Cx, log: &mut Log, entry: &Entry) -> Option<u64> {
    let words = log.words_gone(cx, entry.log, entry.seq);
    let erased = entry.erased();
    uncite(cx, log.slot, (entry.log, entry.seq), &media_of(entry));
    let Entry { log: id, seq, author: Author { user, device }, client_id, .. } = erased;
    let number = keys::client_message(id, user.get(), device.get(), client_id.0);
    cx.put_lazily(log.slot, keys::entry(id, seq.0), &erased.to_record());
    cx.put_lazily(log.slot, number, &number_record(&erased));
    log.rewritten.push((BY_TIME, Arc::new(erased)));
    words
}
