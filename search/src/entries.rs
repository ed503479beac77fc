//! The terms of a page with their entries, one after the other, as [`page`](crate::page) lays them out. A term is cut out whole, and
//! so are its entries; that terms rise, and what the entries are, is for the caller to see.

use crate::limits::TERM_BYTES_MAX;
use crate::postings::{self, Postings};
use crate::run::Run;
use crate::term::Term;
use crate::varint;

/// What the head of a term can say of the bytes that it shares, and of those that it doesn't. If all bits are set, a byte follows with
/// what is beyond.
const SHARED_MAX: u8 = 7;
const OTHERS_MAX: u8 = 15;

/// Where the head says it.
const IS_ONE: u8 = 1 << 3;
const OTHERS_SHIFT: u32 = 4;

/// Reads terms from bytes.
pub(crate) struct Entries<'a> {
    rest: &'a [u8],
    end: u32,
    term: Vec<u8>,
}

impl<'a> Entries<'a> {
    /// The terms that follow the header of a page.
    pub(crate) fn new(rest: &'a [u8], run: Run) -> Self {
        Self { rest, end: run.offsets_end(), term: Vec::with_capacity(TERM_BYTES_MAX) }
    }

    /// Is there no further term?
    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next term and the entries that have it; `None` if the bytes are damaged, or at their end.
    pub(crate) fn next(&mut self) -> Option<(&[u8], Postings<'a>)> {
        let head = varint::take_byte(&mut self.rest)?;
        let shared = self.take_length(head & SHARED_MAX, SHARED_MAX)?;
        let others = self.take_length(head >> OTHERS_SHIFT, OTHERS_MAX)? + 1;
        let fits = shared <= self.term.len() && shared + others <= TERM_BYTES_MAX;
        fits.then_some(())?;
        self.term.truncate(shared);
        self.term.extend_from_slice(varint::take_bytes(&mut self.rest, others)?);
        let postings = postings::take(&mut self.rest, head & IS_ONE != 0, self.end)?;
        Some((&self.term, postings))
    }

    fn take_length(&mut self, in_head: u8, max: u8) -> Option<usize> {
        let beyond = if in_head == max { varint::take_byte(&mut self.rest)? } else { 0 };
        Some(usize::from(in_head) + usize::from(beyond))
    }
}

/// Appends a term and the offsets of its entries, at least one. `before` is the term before it in the page, if there is one.
pub(crate) fn put(out: &mut Vec<u8>, before: Option<&Term>, term: &Term, offsets: &[u32], run: Run) {
    let before = before.map_or(&[][..], Term::as_bytes);
    let shared = before.iter().zip(term.as_bytes()).take_while(|(one, other)| one == other).count();
    let others = &term.as_bytes()[shared..];
    let (shared, shared_beyond) = length(shared, SHARED_MAX);
    let (length, length_beyond) = length(others.len() - 1, OTHERS_MAX);
    let is_one = if offsets.len() == 1 { IS_ONE } else { 0 };
    out.push(length << OTHERS_SHIFT | is_one | shared);
    out.extend(shared_beyond);
    out.extend(length_beyond);
    out.extend_from_slice(others);
    postings::put(out, offsets, run.offsets_end());
}

/// What the head says of a length, and what is beyond it.
fn length(length: usize, max: u8) -> (u8, Option<u8>) {
    let length = u8::try_from(length).expect("a term is short");
    (length.min(max), length.checked_sub(max))
}
