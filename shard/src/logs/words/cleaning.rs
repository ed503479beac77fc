//! Taking out of the index what is gone: messages that were deleted, whose time has come, or that are kept no longer.
//!
//! Whoever erases an entry that the index may have leaves a row with what is due (`t`), in the same batch. When its time has come, the
//! pages of all runs in which its words can be, whole ones and those of an attempt that a crash ended, are written without it; then the
//! row goes. Until then nobody finds it all the same, for what is found is looked at.

use std::collections::BTreeSet;

use tern_search::{Page, Run};
use tern_storage::{Direction, Key, LogId, Rows, ScanLimit, Slot, keys};
use tern_wire::ids::Seq;

use super::{What, WordsRead, Work, place};
use crate::limits::INDEX_PAGES_AT_ONCE;
use crate::logs::{Cx, Logs, ScanFor};

/// Entries that are being taken out.
#[derive(Debug)]
pub(super) struct Cleaning {
    /// The rows that say so.
    rows: Vec<(u64, Seq)>,
    /// Them, rising.
    gone: Vec<u64>,
    /// What is before this entry is gone too.
    begin: u64,
    /// Runs whose pages are yet to be looked at, the first one from just after this page on.
    runs: Vec<Run>,
    behind: Option<Key>,
    /// All has been looked at.
    done: bool,
}

impl Logs {
    /// The words of entries that are gone are to be taken out of the index. What is not done now is told again.
    pub(in crate::logs) fn clean_words(&mut self, cx: &mut Cx, id: LogId, rows: Vec<(u64, Seq)>) {
        if self.words.work.is_some() || !cx.may_read() || !cx.is_here(Slot::of_log(id)) {
            return;
        }
        let log = self.known(id);
        let gone: BTreeSet<u64> = rows.iter().map(|(_, seq)| seq.0).collect();
        let levels = log.levels(cx.limits().search_run_entries);
        let mut runs: BTreeSet<Run> = BTreeSet::new();
        if let Some(levels) = levels {
            runs.extend(gone.iter().flat_map(|seq| levels.runs_with(*seq)));
        }
        let cleaning = Cleaning {
            rows,
            gone: gone.into_iter().collect(),
            begin: log.first.0,
            runs: runs.into_iter().rev().collect(),
            behind: None,
            done: false,
        };
        let load = log.held.load();
        self.words.work = Some(Box::new(Work { log: id, load, what: What::Cleaning(cleaning) }));
        self.clean_next(cx, id);
    }

    fn cleaning(&mut self) -> &mut Cleaning {
        match self.words.work.as_deref_mut() {
            Some(Work { what: What::Cleaning(cleaning), .. }) => cleaning,
            _ => unreachable!("it has just been looked at"),
        }
    }

    /// Reads the next pages; when there are no more, the rows go that said what is to be done.
    pub(super) fn clean_next(&mut self, cx: &mut Cx, id: LogId) {
        let cleaning = self.cleaning();
        if let Some(run) = cleaning.runs.last() {
            let range = keys::words_of_run(id, place(*run), cleaning.behind.as_ref());
            let log = self.known(id);
            log.reading += 1;
            let purpose = ScanFor::Words((id, log.held.load()), WordsRead::Cleaned);
            let limit = ScanLimit { rows: INDEX_PAGES_AT_ONCE, bytes: usize::MAX };
            return cx.scan(range, Direction::Forwards, limit, purpose);
        }
        if std::mem::replace(&mut cleaning.done, true) {
            return self.end_work(cx);
        }
        for (at_ms, seq) in std::mem::take(&mut cleaning.rows) {
            cx.delete_lazily(Slot::of_log(id), keys::due(at_ms, id, seq.0));
        }
        self.words_after(cx, id);
    }

    /// Some pages have come: they are written anew without what is gone.
    pub(super) fn clean_pages(&mut self, cx: &mut Cx, id: LogId, rows: &Rows) {
        let slot = Slot::of_log(id);
        let cleaning = self.cleaning();
        let mut changed = false;
        for (key, value) in &rows.rows {
            let old = Key::from_raw(key);
            // One that says that a run has no pages stays; a damaged one is told of by who searches, and goes with its run.
            let Ok(page) = Page::decode(value) else { continue };
            let is_gone = |seq: u64| seq < cleaning.begin || cleaning.gone.binary_search(&seq).is_ok();
            let cleaned = page.erase(&is_gone);
            if cleaned.as_ref() == Some(&page) {
                continue;
            }
            changed = true;
            let new = cleaned.map(|page| {
                let run = place(page.run());
                (keys::words(id, run, page.first_term().as_bytes()), page)
            });
            if new.as_ref().is_none_or(|(key, _)| *key != old) {
                cx.delete_lazily(slot, old);
            }
            if let Some((key, page)) = new {
                cx.put_bytes_lazily(slot, key, page.bytes());
            }
        }
        cleaning.behind = rows.goes_on_behind();
        if cleaning.behind.is_none() {
            cleaning.runs.pop();
        }
        if changed { self.words_after(cx, id) } else { self.clean_next(cx, id) }
    }
}
