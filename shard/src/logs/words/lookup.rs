//! Looking words up in the runs of a log.
//!
//! Of long runs the pages are read that are needed. Short ones lie beside each other, and of each a few pages are all that there are: they
//! are read at once, whatever is looked up, for a read costs more than the bytes that it gives (perf-reports/2026-11-29-search).

use std::ops::Range;

use tern_search::{Levels, Needed, Run};
use tern_storage::{Direction, LogId, Row, Rows, ScanLimit, keys};

use super::searching::{ONE, Read, Reads};
use super::{Stored, pages_of, place};
use crate::limits::{SEARCH_PAGES_AT_ONCE, SEARCH_PREFIX_PAGES_MAX, SEARCH_RUNS_AT_ONCE};
use crate::logs::Cx;

/// Runs that are looked up, the newest last.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    runs: Vec<Lookup>,
    /// From here on they are short.
    short: usize,
    /// From here on not all pages have come of the short ones.
    cut: Option<usize>,
}

/// A run, and for each thing that is needed the entries that have it, as far as it has come; `None`: the index does not know.
#[derive(Debug)]
pub(super) struct Lookup {
    run: Run,
    found: Vec<Option<Vec<u64>>>,
}

impl Lookups {
    /// The newest of the runs of these entries that begin before an entry.
    pub(super) fn before(end: u64, levels: Levels, indexed: Range<u64>, needed: usize) -> Self {
        let runs = levels.runs(indexed.start, indexed.end);
        let left = runs.partition_point(|run| run.first() < end);
        let runs = &runs[left.saturating_sub(SEARCH_RUNS_AT_ONCE)..left];
        let short = runs.partition_point(|run| run.count() > levels.first());
        let lookup = |run: &Run| Lookup { run: *run, found: vec![Some(Vec::new()); needed] };
        Self { runs: runs.iter().map(lookup).collect(), short, cut: None }
    }

    /// The newest of them.
    pub(super) fn pop(&mut self) -> Option<Lookup> {
        self.runs.pop()
    }

    /// What is to be read of them.
    pub(super) fn look_up(&self, log: LogId, needed: &[Needed]) -> Reads {
        let mut reads = self.by_term(log, needed, 0..self.short);
        if let [first, .., last] | [first @ last] = &self.runs[self.short..] {
            let range = keys::words_of_runs(log, place(first.run), place(last.run));
            let limit = ScanLimit { rows: SEARCH_PAGES_AT_ONCE, bytes: usize::MAX };
            reads.push((range, Direction::Forwards, limit, Read::Runs));
        }
        reads
    }

    /// What is yet to be read of those whose pages were too many.
    pub(super) fn look_up_cut(&mut self, log: LogId, needed: &[Needed]) -> Reads {
        let Some(cut) = self.cut.take() else { return Reads::new() };
        self.by_term(log, needed, cut..self.runs.len())
    }

    fn by_term(&self, log: LogId, needed: &[Needed], runs: Range<usize>) -> Reads {
        let mut reads = Reads::new();
        for (at, lookup) in self.runs.iter().enumerate().take(runs.end).skip(runs.start) {
            let run = place(lookup.run);
            for (of, needed) in needed.iter().enumerate() {
                let term = needed.term().as_bytes();
                let range = keys::words_upto(log, run, term);
                reads.push((range, Direction::Backwards, ONE, Read::Page(at, of)));
                if matches!(needed, Needed::Prefix(_)) {
                    let range = keys::words_beginning(log, run, term);
                    let limit = ScanLimit { rows: SEARCH_PREFIX_PAGES_MAX, bytes: usize::MAX };
                    reads.push((range, Direction::Forwards, limit, Read::Beginning(at, of)));
                }
            }
        }
        reads
    }

    /// Takes in what a run has of something that is needed.
    pub(super) fn take(
        &mut self,
        cx: &mut Cx,
        log: LogId,
        run: usize,
        (of, needed): (usize, &Needed),
        pages: &[Row],
    ) {
        let found = &mut self.runs[run].found[of];
        match (pages_of(cx, log, pages), found.as_mut()) {
            (Stored::Pages(pages), Some(found)) => {
                found.extend(pages.iter().flat_map(|page| page.lookup(needed)));
            }
            _ => *found = None,
        }
    }

    /// What a run has of something that is needed is more than is read.
    pub(super) fn take_unknown(&mut self, run: usize, of: usize) {
        self.runs[run].found[of] = None;
    }

    /// Takes in all pages of the short runs, as far as they have come. There may be others between them: of a run that is being written.
    pub(super) fn take_all(&mut self, cx: &mut Cx, log: LogId, needed: &[Needed], rows: &Rows) {
        let run_of = |row: &Row| keys::run_of_words(&row.0).map(|(_, run)| run);
        // The last that has come may not have come whole.
        let upto = rows.rows.last().filter(|_| rows.more).and_then(run_of);
        let whole = self.runs.partition_point(|lookup| upto.is_none_or(|upto| place(lookup.run) < upto));
        self.cut = (whole < self.runs.len()).then_some(whole);
        for at in self.short..whole {
            let run = place(self.runs[at].run);
            let first = rows.rows.partition_point(|row| run_of(row) < Some(run));
            let end = rows.rows.partition_point(|row| run_of(row) <= Some(run));
            let pages = &rows.rows[first..end];
            for (of, needed) in needed.iter().enumerate() {
                self.take(cx, log, at, (of, needed), pages_with(pages, needed));
            }
        }
    }
}

impl Lookup {
    /// The run's first entry.
    pub(super) fn first(&self) -> u64 {
        self.run.first()
    }

    /// The entries of the run that have all that is needed, as far as they are among these; rising.
    pub(super) fn named(self, first: u64, end: u64) -> Vec<u64> {
        let Self { run, found } = self;
        let (first, end) = (run.first().max(first), run.end().min(end));
        let mut named: Option<Vec<u64>> = None;
        for mut of_one in found.into_iter().flatten() {
            of_one.sort_unstable();
            of_one.dedup();
            match &mut named {
                Some(named) => named.retain(|seq| of_one.binary_search(seq).is_ok()),
                None => named = Some(of_one),
            }
        }
        // What the index does not know is looked at, all of it.
        let mut named = named.unwrap_or_else(|| (first..end).collect());
        named.retain(|seq| (first..end).contains(seq));
        named
    }
}

/// Those of a run's pages that may have something that is needed: the last that begins with no higher term, and those behind it that
/// begin so.
fn pages_with<'a>(pages: &'a [Row], needed: &Needed) -> &'a [Row] {
    let term = needed.term().as_bytes();
    let behind = pages.partition_point(|(key, _)| keys::term_of_words(key) <= term);
    let is_more =
        |(key, _): &&Row| matches!(needed, Needed::Prefix(_)) && keys::term_of_words(key).starts_with(term);
    let more = pages[behind..].iter().take_while(is_more).count();
    &pages[behind.saturating_sub(1)..behind + more]
}
