//! Writing the index of a log: a run as soon as its entries are there, and longer ones in place of those that fill them.
//!
//! The pages of a run are written a few at a time. They count from the batch on that says so in the log's record, and that removes the
//! runs which they take the place of. So the runs of a log follow from how far its index goes.

use std::vec;

use tern_search::{Levels, Merge, Page, Segment, Step, Term, terms};
use tern_storage::{Direction, Key, LogId, Rows, ScanLimit, Slot, keys};

use super::{Stored, What, WordsRead, Work, bytes_max, pages_of, place, texts_of};
use crate::entry::Entry;
use crate::limits::INDEX_PAGES_AT_ONCE;
use crate::logs::load::entry_of;
use crate::logs::log::Log;
use crate::logs::{Cx, Logs, ScanFor};

/// A run that is being written.
#[derive(Debug)]
pub(super) struct Indexing {
    step: Step,
    /// Reads under way.
    missing: usize,
    /// The entries whose words are in no run.
    fresh: Vec<Entry>,
    /// What is stored of the runs that become part of it, as far as it has come.
    merged: Vec<Option<Stored>>,
    /// The rows that go as soon as it counts: those of the runs that it takes the place of.
    old: Vec<Key>,
    /// Rows of an attempt before.
    left: Vec<Key>,
    writing: Option<Writing>,
}

/// Where writing goes on.
enum Writing {
    Pages(vec::IntoIter<Page>),
    Merge(Box<Merge>),
    /// The run has no pages: its texts are read.
    Unknown,
    /// All is written, and counts as soon as it is durable.
    Done,
}

impl std::fmt::Debug for Writing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writing")
    }
}

/// The words of an entry.
fn terms_of(entry: &Entry) -> Vec<Term> {
    texts_of(entry).flat_map(|text| terms(&text)).collect()
}

impl Log {
    /// The lengths of the runs that it has, or is to have.
    pub(super) fn levels(&self, run_entries: u64) -> Option<Levels> {
        let wanted = Levels::of(run_entries)?;
        (!self.goes).then(|| self.index.levels.unwrap_or(wanted))
    }

    /// Where the next run begins: what was before the beginning comes into none any more.
    pub(super) fn next_run(&self, levels: Levels) -> u64 {
        let begin = self.first.0;
        self.index.upto.max(begin - begin % levels.first())
    }

    /// Whether the next run is full, and nobody has been told so.
    pub(in crate::logs) fn has_full_run(&self, run_entries: u64) -> bool {
        let is_full = |levels: Levels| self.durable.seq().0 + 1 >= self.next_run(levels) + levels.first();
        !self.index.waits && self.levels(run_entries).is_some_and(is_full)
    }

    /// The next step for its index, if there is one.
    fn next_step(&self, run_entries: u64) -> Option<Step> {
        let levels = self.levels(run_entries)?;
        levels.next_step(self.first.0, self.next_run(levels), self.durable.seq().0 + 1)
    }
}

impl Logs {
    /// A run of a log may be full.
    pub(in crate::logs) fn note_words(&mut self, cx: &mut Cx, id: LogId) {
        let run_entries = cx.limits().search_run_entries;
        let log = self.pinned(id);
        if matches!(id, LogId::Private(_)) || !log.has_full_run(run_entries) {
            return;
        }
        log.index.waits = true;
        self.words.waiting.push_back(id);
        self.index_next(cx);
    }

    /// Begins the next run, if nothing else is worked on.
    pub(super) fn index_next(&mut self, cx: &mut Cx) {
        while self.words.work.is_none() {
            let Some(id) = self.words.waiting.pop_front() else { return };
            let Some(log) = self.logs.get_mut(&id) else { continue };
            log.index.waits = false;
            if log.held.is_known() && cx.is_here(Slot::of_log(id)) && cx.may_read() {
                self.begin_run(cx, id);
            }
        }
    }

    fn begin_run(&mut self, cx: &mut Cx, id: LogId) {
        let run_entries = cx.limits().search_run_entries;
        let log = self.known(id);
        let Some(step) = log.next_step(run_entries) else { return };
        let load = log.held.load();
        let first = step.fresh.first().max(log.first.0);
        let missing = 2 + step.merged.len();
        log.reading += missing;
        let all = ScanLimit { rows: usize::MAX, bytes: usize::MAX };
        let mut scan = |range, read| {
            cx.scan(range, Direction::Forwards, all, ScanFor::Words((id, load), read));
        };
        scan(keys::entries(id, first, step.fresh.end()), WordsRead::Fresh);
        scan(keys::words_of_run(id, place(step.into), None), WordsRead::Left);
        for (at, run) in step.merged.iter().enumerate() {
            scan(keys::words_of_run(id, place(*run), None), WordsRead::Merged(at));
        }
        let merged = step.merged.iter().map(|_| None).collect();
        let (fresh, old, left, writing) = Default::default();
        let what = What::Indexing(Indexing { step, missing, fresh, merged, old, left, writing });
        self.words.work = Some(Box::new(Work { log: id, load, what }));
    }

    fn indexing(&mut self) -> &mut Indexing {
        match self.words.work.as_deref_mut() {
            Some(Work { what: What::Indexing(indexing), .. }) => indexing,
            _ => unreachable!("it has just been looked at"),
        }
    }

    /// A part of what is to become a run has come.
    pub(super) fn index_part_came(&mut self, cx: &mut Cx, id: LogId, read: WordsRead, rows: &Rows) {
        let keys = || rows.rows.iter().map(|(key, _)| Key::from_raw(key));
        match read {
            WordsRead::Merged(at) => {
                let stored = pages_of(cx, id, &rows.rows);
                let indexing = self.indexing();
                indexing.old.extend(keys());
                indexing.merged[at] = Some(stored);
            }
            WordsRead::Left => self.indexing().left.extend(keys()),
            // One that is not whole is found by who reads it.
            _ => {
                self.indexing().fresh = rows.rows.iter().filter_map(|row| entry_of(id, row.clone())).collect()
            }
        }
        let indexing = self.indexing();
        indexing.missing -= 1;
        if indexing.missing == 0 {
            indexing.writing = Some(indexing.compose());
            for key in std::mem::take(&mut self.indexing().left) {
                cx.delete_lazily(Slot::of_log(id), key);
            }
            self.write_pages(cx, id);
        }
    }

    /// Writes some pages.
    fn write_pages(&mut self, cx: &mut Cx, id: LogId) {
        let slot = Slot::of_log(id);
        let indexing = self.indexing();
        let run = place(indexing.step.into);
        let writing = indexing.writing.as_mut().expect("it was composed");
        let pages: Vec<Page> = match writing {
            Writing::Pages(pages) => pages.take(INDEX_PAGES_AT_ONCE).collect(),
            Writing::Merge(merge) => merge.take(INDEX_PAGES_AT_ONCE).collect(),
            Writing::Unknown => {
                cx.put_bytes_lazily(slot, keys::words(id, run, &[]), &[]);
                Vec::new()
            }
            Writing::Done => Vec::new(),
        };
        for page in &pages {
            cx.put_bytes_lazily(slot, keys::words(id, run, page.first_term().as_bytes()), page.bytes());
        }
        if pages.len() < INDEX_PAGES_AT_ONCE {
            *writing = Writing::Done;
            let (upto, levels_of) = (indexing.step.fresh.end(), cx.limits().search_run_entries);
            for key in std::mem::take(&mut indexing.old) {
                cx.delete_lazily(slot, key);
            }
            let log = self.known(id);
            log.index.levels = log.levels(levels_of);
            log.index.upto = upto;
            cx.put_lazily(slot, keys::log(id), &log.record());
        }
        self.words_after(cx, id);
    }

    /// Some pages are durable.
    pub(super) fn index_written(&mut self, cx: &mut Cx, id: LogId) {
        let indexing = self.indexing();
        if !matches!(indexing.writing, Some(Writing::Done)) {
            return self.write_pages(cx, id);
        }
        self.words.work = None;
        // Others first: a log that is far behind waits in its turn.
        self.note_words(cx, id);
        self.index_next(cx);
    }
}

impl Indexing {
    /// The pages of the run, of all that has come.
    fn compose(&mut self) -> Writing {
        let fresh = std::mem::take(&mut self.fresh);
        let texts =
            fresh.iter().filter(|entry| !entry.is_erased()).map(|entry| (entry.seq.0, terms_of(entry)));
        let fresh = Segment::build(self.step.fresh, texts);
        let mut bytes = bytes_of(fresh.pages());
        let mut segments = Vec::with_capacity(self.merged.len() + 1);
        for (run, stored) in self.step.merged.iter().zip(std::mem::take(&mut self.merged)) {
            let Some(Stored::Pages(pages)) = stored else { return Writing::Unknown };
            bytes += bytes_of(&pages);
            let Ok(segment) = Segment::of_pages(*run, pages) else { return Writing::Unknown };
            segments.push(segment);
        }
        if bytes > bytes_max(self.step.into) {
            return Writing::Unknown;
        }
        if self.step.into == self.step.fresh {
            return Writing::Pages(fresh.into_pages().into_iter());
        }
        segments.push(fresh);
        Writing::Merge(Box::new(Merge::new(self.step.into, segments)))
    }
}

fn bytes_of(pages: &[Page]) -> usize {
    pages.iter().map(|page| page.bytes().len()).sum()
}
