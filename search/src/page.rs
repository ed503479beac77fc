//! A page: some terms of a run, sorted, each with the entries that have it.
//!
//! ```text
//! page      format (u8), first seq of the run (number), entries of the run - 1 (number), then terms, at least one
//! term      head (u8): in bits 0 to 2 the bytes that it shares with the term before (of the page; the first shares none),
//!                      bit 3 is set if one entry has it, in bits 4 to 7 its other bytes - 1
//!           bytes shared - 7 (u8), if bits 0 to 2 are all set
//!           other bytes - 16 (u8), if bits 4 to 7 are all set
//!           the other bytes (term.rs says what they are)
//!           entries
//! entries   if one entry has it: its offset, in a byte where the run has at most 256 entries, otherwise in two (little-endian)
//!           else a number, by whose bit 0 they have one of two forms:
//!             0    a list: how many (2 or more), above the bit; then the first offset, and for each other how many entries lie
//!                  between it and the one before (numbers)
//!             1    a bitmap: how many bytes, above the bit; then these, the entry of offset 0 in bit 0 of the first. The last byte
//!                  is not 0
//! number    LEB128, in as few bytes as possible
//! ```
//! An offset is a seq less the first of the run. A bitmap is written where it is shorter than a list.
//!
//! Terms rise within a page, and from a page to the next of its segment. A page is sufficient for itself: whoever has it needs
//! neither the others nor the key under which it lies.

use std::fmt;
use std::ops::ControlFlow;

use crate::entries::Entries;
use crate::limits::PAGE_BYTES_MAX;
use crate::postings::Postings;
use crate::query::Needed;
use crate::run::Run;
use crate::term::Term;
use crate::varint;
use crate::writer::Writer;

/// The first byte of every page: this layout, and terms that are made as this version makes them.
pub(crate) const FORMAT: u8 = 1;

/// Bytes that are no page: the store's rows are damaged, or were written by a later version. The index can be built anew from the
/// texts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damaged;

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a page of the search index is damaged: build the index of the log anew")
    }
}

impl std::error::Error for Damaged {}

/// A page whose bytes are whole.
#[derive(Clone, PartialEq, Eq)]
pub struct Page {
    run: Run,
    first_term: Term,
    last_term: Term,
    bytes: Vec<u8>,
}

impl Page {
    /// Goes through all of the bytes.
    ///
    /// # Errors
    /// They are not what [`Page::bytes`] of any page gives.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        check(bytes).ok_or(Damaged)
    }

    /// What the writer has written.
    pub(crate) fn written(run: Run, first_term: Term, last_term: Term, bytes: Vec<u8>) -> Self {
        debug_assert!(check(&bytes).is_some(), "what is written can be read");
        Self { run, first_term, last_term, bytes }
    }

    /// As it is stored: at most [`PAGE_BYTES_MAX`].
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The run of its segment.
    pub fn run(&self) -> Run {
        self.run
    }

    /// The first of its terms. It may be in the key of the page, which is then another one once the term is erased.
    pub fn first_term(&self) -> &Term {
        &self.first_term
    }

    /// The last of its terms.
    pub fn last_term(&self) -> &Term {
        &self.last_term
    }

    /// The seqs of the entries that have what is needed, in rising order, as far as they are in this page.
    pub fn lookup(&self, needed: &Needed) -> Vec<u64> {
        let (mut found, mut terms) = (Vec::new(), 0);
        self.walk(|term, postings| {
            if needed.is_met_by(term) {
                self.each(postings, |offset| found.push(self.run.seq(offset)));
                terms += 1;
            } else if needed.is_before(term) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        if terms > 1 {
            found.sort_unstable();
            found.dedup();
        }
        found
    }

    /// The page without these entries, as it would have been written if they had never been: nothing in its bytes is of them. `None`:
    /// nothing is left. All of a segment's pages are to be erased in which the terms of the entries may be: that is, where their texts
    /// are not known any more, all pages.
    pub fn erase(&self, is_gone: &dyn Fn(u64) -> bool) -> Option<Self> {
        let mut writer = Writer::new(self.run);
        for (term, mut offsets) in self.postings() {
            offsets.retain(|offset| !is_gone(self.run.seq(*offset)));
            let full = writer.put(&term, &offsets);
            // What the next term no longer shares with one that is gone, that one had; and fewer entries take no more bytes.
            assert!(full.is_none(), "a page with less in it is not longer");
        }
        writer.end()
    }

    /// Its terms, each with the offsets of the entries that have it.
    pub(crate) fn postings(&self) -> Vec<(Term, Vec<u32>)> {
        let mut all = Vec::new();
        self.walk(|term, postings| {
            let mut offsets = Vec::new();
            self.each(postings, |offset| offsets.push(offset));
            all.push((Term::from_bytes(term), offsets));
            ControlFlow::Continue(())
        });
        all
    }

    fn walk(&self, mut visit: impl FnMut(&[u8], Postings<'_>) -> ControlFlow<()>) {
        let (_, mut entries) = open(&self.bytes).expect("a page's bytes are whole");
        while !entries.is_at_end() {
            let (term, postings) = entries.next().expect("a page's bytes are whole");
            if visit(term, postings).is_break() {
                return;
            }
        }
    }

    fn each(&self, postings: Postings<'_>, visit: impl FnMut(u32)) {
        postings.each(self.run.offsets_end(), visit).expect("a page's bytes are whole");
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Page({:?}, {} bytes)", self.run, self.bytes.len())
    }
}

/// What a page begins with.
pub(crate) fn put_header(out: &mut Vec<u8>, run: Run) {
    out.push(FORMAT);
    varint::put(out, run.first());
    varint::put(out, run.count() - 1);
}

/// Reads what a page begins with.
fn open(bytes: &[u8]) -> Option<(Run, Entries<'_>)> {
    let mut rest = bytes;
    (varint::take_byte(&mut rest)? == FORMAT).then_some(())?;
    let first = varint::take(&mut rest)?;
    let end = varint::take(&mut rest)?.checked_add(1)?.checked_add(first)?;
    let run = Run::new(first, end)?;
    Some((run, Entries::new(rest, run)))
}

/// The page of these bytes, if they are one's.
fn check(bytes: &[u8]) -> Option<Page> {
    (bytes.len() <= PAGE_BYTES_MAX).then_some(())?;
    let (run, mut entries) = open(bytes)?;
    let mut terms: Option<(Term, Term)> = None;
    while !entries.is_at_end() {
        let (term, postings) = entries.next()?;
        postings.each(run.offsets_end(), |_| ())?;
        let term = Term::from_bytes(term);
        let (first, last) = *terms.get_or_insert((term, Term::EMPTY));
        (last < term).then_some(())?;
        terms = Some((first, term));
    }
    let (first_term, last_term) = terms?;
    Some(Page { run, first_term, last_term, bytes: bytes.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page of the run of 300 entries from 5 on, with these terms.
    fn page(terms: &[u8]) -> Vec<u8> {
        [&[FORMAT, 5, 0xab, 2], terms].concat()
    }

    #[test]
    fn a_page_is_laid_out_as_this_file_says() {
        let run = Run::new(5, 305).expect("a short run");
        let mut writer = Writer::new(run);
        for (word, offsets) in
            [("to", &[1, 40][..]), ("tomorrow", &[299]), ("tomorrowland", &[0, 1, 2, 3, 4, 5])]
        {
            assert_eq!(writer.put(&Term::of(word), offsets), None);
        }
        let written = writer.end().expect("terms were put");
        let terms = b"\x10to\x04\x01\x26\x5amorrow\x2b\x01\x37\x01land\x03\x3f";
        assert_eq!(written.bytes(), page(terms));
        assert_eq!(Page::decode(written.bytes()), Ok(written));
    }

    #[test]
    fn bytes_that_are_no_page_are_damaged() {
        let check =
            |what: &str, bytes: &[u8], is_page| assert_eq!(Page::decode(bytes).is_ok(), is_page, "{what}");
        check("one term", &page(b"\x18to\x07\x00"), true);
        check("nothing", b"", false);
        check("no term", &page(b""), false);
        check("another format", b"\x02\x05\x63\x18to\x07", false);
        check("a run of 256 is one byte an offset", b"\x01\x05\xff\x01\x18to\x07", true);
        check("a run too long", b"\x01\x05\x80\x80\x01\x18to\x07\x00", false);
        check("a run without end", b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00\x18t\x00", false);
        check("an entry behind the run", &page(b"\x18to\x2c\x01"), false);
        check("two terms", &page(b"\x18to\x07\x00\x18up\x07\x00"), true);
        check("a term twice", &page(b"\x18to\x07\x00\x09o\x07\x00"), false);
        check("a term that falls", &page(b"\x18to\x07\x00\x09a\x07\x00"), false);
        check("more shared than there is", &page(b"\x18to\x07\x00\x0bo\x07\x00"), false);
        check("a term too long", &page(&[&[0xf8, 17][..], &[b'a'; 33], &[7, 0]].concat()), false);
        check("the longest term", &page(&[&[0xf8, 16][..], &[b'a'; 32], &[7, 0]].concat()), true);
        check("a byte behind", &page(b"\x18to\x07\x00\x00"), false);
        let long: Vec<u8> =
            (0..=u16::MAX).flat_map(|term| [&b"\x28a"[..], &term.to_be_bytes(), &[7, 0]].concat()).collect();
        check("a long page", &page(&long[..682 * 6]), true);
        check("a page too long", &page(&long[..683 * 6]), false);
    }
}
