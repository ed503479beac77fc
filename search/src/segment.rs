//! A segment: what the index has of one run, as pages.

use std::collections::BTreeMap;

use crate::merge::Merge;
use crate::page::{Damaged, Page};
use crate::query::Needed;
use crate::run::Run;
use crate::term::Term;
use crate::writer::Writer;

/// The pages of a run, sorted by their terms; none, if no entry has a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    run: Run,
    pages: Vec<Page>,
}

impl Segment {
    /// From the terms of the texts of a run, each with its entry's seq, in any order.
    ///
    /// # Panics
    /// If an entry is not within the run.
    pub fn build(run: Run, texts: impl IntoIterator<Item = (u64, Vec<Term>)>) -> Self {
        let mut postings: BTreeMap<Term, Vec<u32>> = BTreeMap::new();
        for (seq, terms) in texts {
            let offset = run.offset(seq);
            terms.into_iter().for_each(|term| postings.entry(term).or_default().push(offset));
        }
        Self::of_postings(run, postings)
    }

    fn of_postings(run: Run, postings: BTreeMap<Term, Vec<u32>>) -> Self {
        let mut writer = Writer::new(run);
        let mut pages = Vec::new();
        for (term, mut offsets) in postings {
            offsets.sort_unstable();
            offsets.dedup();
            pages.extend(writer.put(&term, &offsets));
        }
        pages.extend(writer.end());
        Self { run, pages }
    }

    /// From what is stored of a run, in the order of the pages' first terms.
    ///
    /// # Errors
    /// A page is of another run, or they are not in order.
    pub fn of_pages(run: Run, pages: Vec<Page>) -> Result<Self, Damaged> {
        let is_of_run = pages.iter().all(|page| page.run() == run);
        let is_sorted = pages.array_windows().all(|[one, next]| one.last_term() < next.first_term());
        if is_of_run && is_sorted { Ok(Self { run, pages }) } else { Err(Damaged) }
    }

    /// From the segments of runs that lie in `into`, in the order of their runs. [`Merge`] does the same page by page.
    ///
    /// # Panics
    /// If they are not in order, or not within `into`.
    pub fn merge(into: Run, segments: Vec<Self>) -> Self {
        Self { run: into, pages: Merge::new(into, segments).collect() }
    }

    /// The run that it is of.
    pub fn run(&self) -> Run {
        self.run
    }

    /// Its pages, sorted by their terms.
    pub fn pages(&self) -> &[Page] {
        &self.pages
    }

    /// The same, to be kept.
    pub fn into_pages(self) -> Vec<Page> {
        self.pages
    }

    /// The seqs of the entries that have all that is needed, in rising order: those at which a query has to look.
    pub fn find(&self, needed: &[Needed]) -> Vec<u64> {
        let mut lists = needed.iter().map(|needed| self.lookup(needed));
        let Some(mut found) = lists.next() else { return Vec::new() };
        for list in lists {
            found.retain(|seq| list.binary_search(seq).is_ok());
        }
        found
    }

    /// The same of one thing.
    pub fn lookup(&self, needed: &Needed) -> Vec<u64> {
        let start = self.pages.partition_point(|page| page.last_term() < needed.term());
        let pages =
            self.pages[start..].iter().take_while(|page| !needed.is_before(page.first_term().as_bytes()));
        let mut found: Vec<u64> = pages.flat_map(|page| page.lookup(needed)).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The segment without these entries: nothing in it is of them.
    #[must_use]
    pub fn erase(&self, is_gone: &dyn Fn(u64) -> bool) -> Self {
        Self { run: self.run, pages: self.pages.iter().filter_map(|page| page.erase(is_gone)).collect() }
    }

    /// Its terms in their order, each with the seqs of the entries that have it.
    pub fn postings(&self) -> impl Iterator<Item = (Term, Vec<u64>)> {
        let postings = self.pages.iter().flat_map(Page::postings);
        postings
            .map(|(term, offsets)| (term, offsets.into_iter().map(|offset| self.run.seq(offset)).collect()))
    }
}
