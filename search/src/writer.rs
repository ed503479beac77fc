//! Writes pages, term by term: a page ends where the next term has no room in it.

use std::mem;

use crate::entries;
use crate::limits::PAGE_BYTES_MAX;
use crate::page::{self, Page};
use crate::run::Run;
use crate::term::Term;

/// Takes the terms of a run in their order.
pub(crate) struct Writer {
    run: Run,
    open: Option<Open>,
}

/// The page that is being written: it has a term.
struct Open {
    first_term: Term,
    last_term: Term,
    bytes: Vec<u8>,
}

impl Writer {
    /// Nothing is written yet.
    pub(crate) fn new(run: Run) -> Self {
        Self { run, open: None }
    }

    /// Appends a term, which is above those before, with the rising offsets of the entries that have it; nothing, if none has. Gives
    /// the page that ends before it, if one does.
    pub(crate) fn put(&mut self, term: &Term, offsets: &[u32]) -> Option<Page> {
        if offsets.is_empty() {
            return None;
        }
        let Some(open) = &mut self.open else {
            self.open = Some(Open::new(self.run, term, offsets));
            return None;
        };
        if open.put(term, offsets, self.run) {
            return None;
        }
        let full = mem::replace(open, Open::new(self.run, term, offsets));
        Some(full.end(self.run))
    }

    /// The last page; `None` if nothing was written.
    pub(crate) fn end(self) -> Option<Page> {
        self.open.map(|open| open.end(self.run))
    }
}

impl Open {
    fn new(run: Run, term: &Term, offsets: &[u32]) -> Self {
        let mut bytes = Vec::new();
        page::put_header(&mut bytes, run);
        entries::put(&mut bytes, None, term, offsets, run);
        assert!(bytes.len() <= PAGE_BYTES_MAX, "one term fits: limits has the sum");
        Self { first_term: *term, last_term: *term, bytes }
    }

    /// Appends a term if there is room for it.
    fn put(&mut self, term: &Term, offsets: &[u32], run: Run) -> bool {
        assert!(self.last_term < *term, "terms are written in their order");
        let before = self.bytes.len();
        entries::put(&mut self.bytes, Some(&self.last_term), term, offsets, run);
        let has_room = self.bytes.len() <= PAGE_BYTES_MAX;
        if has_room {
            self.last_term = *term;
        } else {
            self.bytes.truncate(before);
        }
        has_room
    }

    fn end(self, run: Run) -> Page {
        Page::written(run, self.first_term, self.last_term, self.bytes)
    }
}
