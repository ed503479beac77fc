//! The bounds of the index, each with what happens when it is reached.

/// Bytes of a term. A longer word is cut at the last character that ends within them, in texts and queries alike, so that it is
/// still found, together with those that differ from it further on.
pub const TERM_BYTES_MAX: usize = 32;

/// Distinct terms of a text. What follows the last of them is not found.
pub const TEXT_TERMS_MAX: usize = 512;

/// Bytes of a query. Beyond: `TooLong`.
pub const QUERY_BYTES_MAX: usize = 256;

/// Words of a query. Beyond: `TooLong`.
pub const QUERY_WORDS_MAX: usize = 16;

/// Characters of a query's word. Below: `TooShort`.
pub const WORD_CHARACTERS_MIN: usize = 2;

/// Terms that are looked up for a query, beside the prefix: the longest, which are the rarest. Whether the text has the others is
/// seen when it is read.
pub const NEEDED_TERMS_MAX: usize = 16;

/// Bytes of a page. A segment has as many pages as it takes.
pub const PAGE_BYTES_MAX: usize = 4096;

/// How much longer the runs of each level are than those of the first. The last is never merged: a log has as many of these as it takes.
/// [`Levels`](crate::Levels) says why these.
pub const LEVEL_TIMES: [u64; 3] = [1, 16, 64];

/// Entries of the longest run. Beyond: no [`Run`](crate::Run).
pub const RUN_ENTRIES_MAX: u64 = 16_384;

/// Bytes before the first entry of a page, at most: the format, and the two numbers of the run.
const HEADER_BYTES_MAX: usize = 1 + 10 + 3;

/// Bytes of a term in a page beside the term and its entries, at most: the head, two lengths, and what a bitmap begins with.
const OVERHEAD_BYTES_MAX: usize = 3 + 2;

// A page holds at least one term, whatever its entries are: they take at most a bit for each entry of the run.
const _: () = assert!(
    HEADER_BYTES_MAX + OVERHEAD_BYTES_MAX + TERM_BYTES_MAX + RUN_ENTRIES_MAX as usize / 8 <= PAGE_BYTES_MAX
);
// Every run of a level is a whole number of those below.
const _: () = assert!(LEVEL_TIMES[0] == 1 && LEVEL_TIMES[2].is_multiple_of(LEVEL_TIMES[1]));
