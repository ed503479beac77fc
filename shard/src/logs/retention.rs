//! What is kept for so long and no longer: a background job that goes through the logs of the core's slots, and cuts off what is too old.
//!
//! A log is cut at its beginning, a bounded piece at a time: the rows of its oldest entries go in the batch that writes where it begins
//! now. So a crash leaves a log that is whole, and the next round goes on where it begins. The newest entries stay, as places without
//! bodies: a log's head is known from them, and what follows of a group's members ([`GROUP_KEPT`]).

use prost::Message as _;
use tern_storage::records::LogRecord;
use tern_storage::{Direction, LogId, Rows, SLOTS, ScanLimit, Slot, keys};
use tern_wire::ids::Seq;

use super::due::erase;
use super::load::entry_of;
use super::log::{Log, Member};
use super::media::{media_of, uncite};
use super::{After, Cx, Logs, ScanFor};
use crate::effects::Gone;
use crate::entry::{Author, Entry};
use crate::held::Load;
use crate::limits::{CUT_ENTRIES_MAX, GROUP_TAIL_MIN, RETENTION_LOGS_MAX, RETENTION_ROUND_MS};
use crate::message::{LogOp, Unreadable};
use crate::mutations::{Mutation, is};

/// Bytes that are read of a log to see whether there is anything to do.
const OLDEST_BYTES_MAX: usize = 64 << 10;

/// The newest entries of a group that are never cut off.
const GROUP_KEPT: u64 = 2 * GROUP_TAIL_MIN.0 as u64;

/// How many of the newest entries of a log are never cut off.
fn stay(log: LogId) -> u64 {
    if matches!(log, LogId::Group(_)) { GROUP_KEPT } else { 1 }
}

/// How long it takes from the end of a round to the next one.
fn between_ms(history_ms: u64) -> u64 {
    (history_ms / 24).clamp(500, RETENTION_ROUND_MS)
}

/// Whether an entry has what could be erased.
fn says_something(entry: &Entry) -> bool {
    !entry.is_erased() && !entry.body.is_empty()
}

/// Where the job stands.
#[derive(Default, Debug)]
pub(super) struct Round {
    /// When the next round begins, in ms since the Unix epoch.
    next_ms: u64,
    /// The round goes on behind this key of the table of logs, or at this slot.
    at: Option<At>,
    /// Logs are being read for it.
    is_reading: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    Slot(u16),
    Behind(LogId),
}

/// What becomes of a log's oldest entries.
#[derive(Default, Debug)]
struct Cut {
    /// These are removed: from the first on, without a gap.
    removed: Vec<Entry>,
    /// These lose their bodies, for their places must stay.
    erased: Vec<Entry>,
}

impl Log {
    /// The first entry that somebody may see and that is there.
    pub(super) fn first_of(&self, member_first: Seq) -> Seq {
        member_first.max(self.first)
    }

    /// Whether its oldest entries may be looked at to be cut off: whoever reads has begun where the log began then, and what waits may
    /// be about an old entry.
    pub(super) fn may_be_cut(&self) -> bool {
        let is_still = self.reading == 0 && !self.is_deciding() && self.durable.seq() == self.head;
        is_still && !self.is_being_cut()
    }

    /// Whether an entry is kept no longer.
    fn is_too_old(&self, entry: &Entry, now_ms: u64, (history_ms, undelivered_ms): (u64, u64)) -> bool {
        let age_ms = now_ms.saturating_sub(entry.time_ms);
        // Whoever has sent it has it, and need not say so; from whom it is withheld never gets it.
        let gets =
            |member: &&Member| member.user != entry.author.user && !entry.is_withheld_from(member.user);
        let mut others = self.members.iter().filter(gets);
        let is_delivered = others.all(|member| !member.is_present() || member.shown.delivered >= entry.seq);
        age_ms >= history_ms && (is_delivered || is(Mutation::CutUnreceived) || age_ms >= undelivered_ms)
    }

    /// Of its oldest entries, those that are kept no longer.
    fn cut_of(&self, id: LogId, entries: Vec<Entry>, now_ms: u64, keep: (u64, u64)) -> Cut {
        let last = self.durable.seq().0.saturating_sub(stay(id));
        let mut cut = Cut::default();
        for entry in entries {
            if !self.is_too_old(&entry, now_ms, keep) {
                break;
            }
            match entry.seq.0 <= last {
                true => cut.removed.push(entry),
                false if says_something(&entry) => cut.erased.push(entry),
                false => {}
            }
        }
        cut
    }
}

impl Logs {
    /// Goes on with the job, if anything is to be kept for some time alone.
    pub(super) fn go_round(&mut self, cx: &mut Cx) {
        let history_ms = cx.limits().history_ms;
        if history_ms == 0 || self.round.is_reading || !cx.may_read() {
            return;
        }
        let Some(at) = self.round.at else {
            // The clock may have been set back.
            if self.round.next_ms <= cx.now_ms || self.round.next_ms > cx.now_ms + between_ms(history_ms) {
                self.round.at = Some(At::Slot(0));
            }
            return;
        };
        let range = match at {
            At::Slot(number) => {
                keys::all_logs_from(Slot::new(number).expect("it is below their number"), None)
            }
            At::Behind(log) => keys::all_logs_from(Slot::of_log(log), Some(log)),
        };
        self.round.is_reading = true;
        let limit = ScanLimit { rows: RETENTION_LOGS_MAX, bytes: usize::MAX };
        cx.scan(range, Direction::Forwards, limit, ScanFor::Round);
    }

    /// Some logs have come: of each the oldest entries are looked at.
    pub(super) fn round_read(&mut self, cx: &mut Cx, rows: Result<Rows, Unreadable>) {
        self.round.is_reading = false;
        // What can't be read is tried again.
        let Ok(rows) = rows else { return };
        let mut last = None;
        for (key, value) in &rows.rows {
            let Some(id) = keys::log_of(key) else { continue };
            last = Some(id);
            let is_kept_apart = matches!(id, LogId::Private(_));
            if !is_kept_apart && cx.is_here(Slot::of_log(id)) && cx.may_read() {
                let first = LogRecord::decode(&value[..]).map_or(1, |record| record.first.max(1));
                let range = keys::entries(id, first, u64::MAX);
                let limit = ScanLimit { rows: stay(id) as usize + 1, bytes: OLDEST_BYTES_MAX };
                cx.scan(range, Direction::Forwards, limit, ScanFor::Oldest(id));
            }
        }
        self.round.at = match last {
            Some(id) if !cx.owns(Slot::of_log(id)) => {
                // Straight to the next slot that is this core's.
                let next = (Slot::of_log(id).number() + 1..SLOTS)
                    .find(|number| Slot::new(*number).is_some_and(|slot| cx.owns(slot)));
                next.filter(|_| rows.more).map(At::Slot)
            }
            last => last.filter(|_| rows.more).map(At::Behind),
        };
        if self.round.at.is_none() {
            self.round.next_ms = cx.now_ms + between_ms(cx.limits().history_ms);
        }
    }

    /// The oldest entries of a log have come: those that stay, and one more. A log of which all is done is not loaded.
    pub(super) fn oldest_read(&mut self, cx: &mut Cx, id: LogId, rows: Result<Rows, Unreadable>) {
        // The slot may have moved since.
        if !cx.is_here(Slot::of_log(id)) {
            return;
        }
        let Ok(Rows { rows, more }) = rows else { return };
        let entries: Vec<_> = rows.into_iter().map_while(|row| entry_of(id, row)).collect();
        let (now_ms, history_ms) = (cx.now_ms, cx.limits().history_ms);
        let is_old = |entry: &Entry| now_ms.saturating_sub(entry.time_ms) >= history_ms;
        // Behind one that is not too old nothing is: its time may lie ahead, from before the clock was set right.
        let mut old = entries.iter().take_while(|entry| is_old(entry)).peekable();
        let is_removable = (more || entries.len() as u64 > stay(id)) && old.peek().is_some();
        if is_removable || old.any(says_something) {
            self.told(cx, id, LogOp::Cut);
        }
    }

    /// Reads the oldest entries of a log, to be cut off.
    pub(super) fn cut(&mut self, cx: &mut Cx, id: LogId) {
        let may_read = cx.may_read();
        let log = self.known(id);
        if !log.exists || !log.may_be_cut() || !may_read {
            return;
        }
        log.reading += 1;
        let (first, end, load) = (log.first.0, log.head.0 + 1, log.held.load());
        let limit = ScanLimit { rows: CUT_ENTRIES_MAX, bytes: usize::MAX };
        cx.scan(keys::entries(id, first, end), Direction::Forwards, limit, ScanFor::Cut(id, load));
    }

    /// The oldest entries of a log have come.
    pub(super) fn cut_read(&mut self, cx: &mut Cx, id: LogId, load: Load, rows: Result<Rows, Unreadable>) {
        let Some(log) = self.logs.get_mut(&id).filter(|log| log.held.load() == load) else { return };
        log.reading -= 1;
        let is_still = log.held.is_known() && log.reading == 0 && !log.is_deciding();
        let (Ok(rows), true, true) = (rows, is_still, cx.may_write(0)) else { return };
        // What is not whole is found by who reads it.
        let entries: Vec<_> = rows.rows.into_iter().map_while(|row| entry_of(id, row)).collect();
        if entries.first().is_none_or(|oldest| oldest.seq != log.first) {
            return;
        }
        let keep = (cx.limits().history_ms, cx.limits().undelivered_ms);
        let cut = log.cut_of(id, entries, cx.now_ms, keep);
        let (removed, erased) = (cut.removed.len() as u64, cut.erased.len() as u64);
        if removed + erased == 0 {
            return;
        }
        let first_before = log.first;
        for entry in &cut.removed {
            remove(cx, log, entry);
        }
        if let Some(last) = cut.removed.last() {
            log.begin_at(last.seq.next());
            cx.put_lazily(log.slot, keys::log(id), &log.record());
        }
        let words: Vec<_> = cut.erased.iter().map(|entry| erase(cx, log, entry)).collect();
        self.look_at_words(cx, id, words.into_iter().flatten().max());
        self.words_cut(cx, id, first_before);
        cx.gone(Gone::Removed, removed);
        cx.gone(Gone::Erased, erased);
        let seqs = cut.erased.iter().map(|entry| entry.seq).collect();
        let goes_on = removed as usize == CUT_ENTRIES_MAX;
        let first = self.pinned(id).first;
        self.after_lazily(cx, After::Cut(id, first, seqs, goes_on));
    }

    /// It is durable.
    pub(super) fn was_cut(&mut self, cx: &mut Cx, id: LogId, first: Seq, erased: &[Seq], goes_on: bool) {
        self.pinned(id).was_cut(first);
        for seq in erased {
            self.erased(id, *seq);
        }
        if goes_on {
            self.told(cx, id, LogOp::Cut);
        }
    }
}

/// Removes an entry, with the number that its device gave it, and with what is due of it.
pub(super) fn remove(cx: &mut Cx, log: &Log, entry: &Entry) {
    let Entry { log: id, seq, author: Author { user, device }, client_id, .. } = *entry;
    cx.delete_lazily(log.slot, keys::entry(id, seq.0));
    uncite(cx, log.slot, (id, seq), &media_of(entry));
    cx.delete_lazily(log.slot, keys::client_message(id, user.get(), device.get(), client_id.0));
    if entry.expires_ms() > 0 {
        cx.delete_lazily(log.slot, keys::due(entry.expires_ms(), id, seq.0));
    }
}
