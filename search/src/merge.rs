//! The segments of several runs become that of a longer one, page by page: a core that has other things to do takes one page at a time.
//!
//! Each segment is read from its first page to its last, one page of it in memory as terms.

use std::iter::Peekable;
use std::vec;

use crate::page::Page;
use crate::run::Run;
use crate::segment::Segment;
use crate::term::Term;
use crate::writer::Writer;

/// Gives the pages of the segment that segments are merged into.
pub struct Merge {
    into: Run,
    sources: Vec<Source>,
    writer: Option<Writer>,
}

/// What is still to be read of a segment.
struct Source {
    run: Run,
    pages: vec::IntoIter<Page>,
    postings: Peekable<vec::IntoIter<(Term, Vec<u32>)>>,
}

impl Merge {
    /// Of the segments of runs that lie in `into`, in the order of their runs. Entries between them have no text.
    ///
    /// # Panics
    /// If they are not in order, or not within `into`.
    pub fn new(into: Run, segments: Vec<Segment>) -> Self {
        let mut free = into.first();
        for run in segments.iter().map(Segment::run) {
            assert!(free <= run.first() && run.end() <= into.end(), "{run:?} can't be merged into {into:?}");
            free = run.end();
        }
        let sources = segments.into_iter().map(Source::new).collect();
        Self { into, sources, writer: Some(Writer::new(into)) }
    }

    /// The offsets of a term from all that have it as their next.
    fn gather(&mut self, term: &Term) -> Vec<u32> {
        let mut offsets = Vec::new();
        for source in &mut self.sources {
            let shift = self.into.offset(source.run.first());
            let found = source.take(term).into_iter().flatten();
            offsets.extend(found.map(|offset| offset + shift));
        }
        offsets
    }
}

impl Iterator for Merge {
    type Item = Page;

    fn next(&mut self) -> Option<Page> {
        while let Some(term) = self.sources.iter_mut().filter_map(Source::peek).min().copied() {
            let offsets = self.gather(&term);
            let full = self.writer.as_mut().and_then(|writer| writer.put(&term, &offsets));
            if full.is_some() {
                return full;
            }
        }
        self.writer.take()?.end()
    }
}

impl Source {
    fn new(segment: Segment) -> Self {
        let run = segment.run();
        Self { run, pages: segment.into_pages().into_iter(), postings: Vec::new().into_iter().peekable() }
    }

    /// The next term.
    fn peek(&mut self) -> Option<&Term> {
        if self.postings.peek().is_none() {
            self.postings = self.pages.next()?.postings().into_iter().peekable();
        }
        self.postings.peek().map(|(term, _)| term)
    }

    /// Its offsets, if it is this one.
    fn take(&mut self, term: &Term) -> Option<Vec<u32>> {
        let (_, offsets) = self.postings.next_if(|(next, _)| next == term)?;
        Some(offsets)
    }
}
