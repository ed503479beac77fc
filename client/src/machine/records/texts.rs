//! What is searched for: how messages read, and by which words they are found.
//!
//! A message is found by what it says now, which its newest edit has the last word on: as text, or beside what else it is (a
//! caption, a name, a question). The tables have the terms of that, no longer than the message stands there and says it, and don't keep
//! them otherwise: what they are told to take out is what is in them, so whatever changes how a message reads goes through
//! [`Records::rephrase`].

use std::collections::BTreeSet;

use tern_proto::v1;
use tern_search::{Query, Term, terms};
use tern_wire::message::{is_message, text_of};

use super::Records;
use crate::error::Error;
use crate::machine::rows::EntryRow;
use crate::machine::tables::{Change, Moment, Tables, Which};

/// Places that are asked for at once, first; each time twice as many.
const PLACES_FIRST: u32 = 64;

/// Entries that are read at once.
const ENTRIES_AT_ONCE: u32 = 256;

/// The message at a place as it reads now; `None` if none is there.
fn standing<S: Tables>(tables: &S, chat: u64, seq: u64) -> Result<Option<EntryRow>, Error> {
    let entry = tables.entry(chat, seq)?.filter(|entry| is_message(entry.kind));
    let Some(mut message) = entry else { return Ok(None) };
    if !message.erased
        && let Some(edit) = tables.newest_edit(chat, seq)?
    {
        message.body = edit.body;
    }
    Ok(Some(message))
}

/// By what the message at a place is found, with its time; `None`: by nothing.
fn terms_at<S: Tables>(tables: &S, chat: u64, seq: u64) -> Result<Option<(u64, Vec<Term>)>, Error> {
    let message = standing(tables, chat, seq)?.filter(|message| !message.erased);
    let said = message.and_then(|message| Some((message.time_ms, text_of(message.kind, &message.body)?)));
    let found = said.map(|(time_ms, text)| (time_ms, terms(&text)));
    Ok(found.filter(|(_, terms)| !terms.is_empty()))
}

/// Has the message at a place be found by what it says now. It was not found.
fn index<S: Tables>(tables: &mut S, chat: u64, seq: u64) -> Result<(), Error> {
    match terms_at(tables, chat, seq)? {
        Some((time_ms, terms)) => tables.change(Change::Found { chat, seq, time_ms, terms: &terms }),
        None => Ok(()),
    }
}

/// Has the message at a place not be found, before it says something else.
fn forget<S: Tables>(tables: &mut S, chat: u64, seq: u64) -> Result<(), Error> {
    match terms_at(tables, chat, seq)? {
        Some((_, terms)) => tables.change(Change::NotFound { chat, seq, terms: &terms }),
        None => Ok(()),
    }
}

/// The same for all that is kept: for tables that were made before there was anything to search.
pub(crate) fn index_all<S: Tables>(tables: &mut S) -> Result<(), Error> {
    for log in tables.logs(Which::All(None), u32::MAX)? {
        let mut after = 0;
        loop {
            let page = tables.entries(log.chat, after, i64::MAX as u64, ENTRIES_AT_ONCE)?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            for entry in page {
                index(tables, log.chat, entry.seq)?;
            }
        }
    }
    Ok(())
}

/// Messages that match, as they read now, each with its chat: the newest first, of one chat or of all, before a moment; only those
/// that are to be shown. At most `limit`, and whether there are more.
pub(crate) fn search<S: Tables>(
    tables: &S,
    query: &Query,
    chat: Option<u64>,
    mut before: Option<Moment>,
    limit: usize,
    mut is_shown: impl FnMut(u64, &EntryRow) -> Result<bool, Error>,
) -> Result<(Vec<(u64, EntryRow)>, bool), Error> {
    let needed = query.needed();
    let (mut found, mut at_once) = (Vec::new(), PLACES_FIRST);
    loop {
        let places = tables.places(&needed, chat, before, at_once)?;
        for (_, chat, seq) in &places {
            let Some(message) = standing(tables, *chat, *seq)? else { continue };
            let text = text_of(message.kind, &message.body);
            if !text.is_some_and(|text| query.matches(&text)) || !is_shown(*chat, &message)? {
                continue;
            }
            if found.len() == limit {
                return Ok((found, true));
            }
            found.push((*chat, message));
        }
        if (places.len() as u64) < u64::from(at_once) {
            return Ok((found, false));
        }
        before = places.last().copied();
        at_once = at_once.saturating_mul(2);
    }
}

impl<S: Tables> Records<S> {
    /// Makes a change to how a message reads, and has it be found by what it says then.
    pub(super) fn rephrase(
        &mut self,
        chat: u64,
        seq: u64,
        change: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.changed = true;
        forget(&mut self.tables, chat, seq)?;
        change(self)?;
        index(&mut self.tables, chat, seq)
    }

    /// The same where all entries of a chat beyond a seq go.
    pub(super) fn rephrase_beyond(
        &mut self,
        chat: u64,
        upto: u64,
        change: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.changed = true;
        let (mut said, mut after) = (BTreeSet::new(), upto);
        loop {
            let page = self.tables.entries(chat, after, i64::MAX as u64, ENTRIES_AT_ONCE)?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            said.extend(page.iter().map(said_by));
        }
        said.iter().try_for_each(|message| forget(&mut self.tables, chat, *message))?;
        change(self)?;
        said.range(..=upto).try_for_each(|message| index(&mut self.tables, chat, *message))
    }
}

/// Erases what has ended by now, in ms since the Unix epoch.
pub(crate) fn end<S: Tables>(tables: &mut S, now_ms: u64) -> Result<(), Error> {
    let ending = tables.ending(now_ms)?;
    let said: BTreeSet<_> = ending.iter().map(|(chat, entry)| (*chat, said_by(entry))).collect();
    said.iter().try_for_each(|(chat, message)| forget(tables, *chat, *message))?;
    tables.change(Change::End(now_ms))?;
    // Of a message whose edit alone has ended something is left.
    said.iter().try_for_each(|(chat, message)| index(tables, *chat, *message))
}

/// The message of which an entry says how it reads: itself, or the one that it edits.
pub(super) fn said_by(row: &EntryRow) -> u64 {
    if row.kind == i32::from(v1::Kind::Edit) { row.envelope.about } else { row.seq }
}
