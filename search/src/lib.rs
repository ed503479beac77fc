//! The full-text index of one log, as values that a key-value store can hold.
//!
//! A text is folded into [`Term`]s. The terms of a [`Run`] of entries are a [`Segment`], which is written as [`Page`]s: sorted, each
//! at most [`PAGE_BYTES_MAX`](limits::PAGE_BYTES_MAX) long, so that a lookup reads one of them. [`Levels`] says which runs a log of
//! a length has, and when they become a larger one. A [`Query`] says what to look up, and has the last word on each text.
//!
//! What always holds:
//! - The index finds every text that [`Query::matches`], and may find others: what it gives is a list of entries to look at.
//! - An entry that is erased from its pages leaves nothing in them: neither its number nor a word that it alone had.
//! - The same texts give the same bytes. Bytes from a store never panic: [`Page::decode`] goes through all of them first.
//!
//! It refuses to know: the store and its keys, which log it is, who may read what, what an entry is beside its text, the time.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]
#![forbid(unsafe_code)]

mod entries;
mod fold;
mod levels;
pub mod limits;
mod merge;
mod page;
mod postings;
mod query;
mod run;
mod segment;
mod term;
mod terms;
mod varint;
mod writer;

pub use levels::{Levels, Step};
pub use merge::Merge;
pub use page::{Damaged, Page};
pub use query::{BadQuery, Needed, Query};
pub use run::Run;
pub use segment::Segment;
pub use term::Term;
pub use terms::terms;
