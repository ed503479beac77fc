//! By which words messages are found: their terms, in an index of SQLite's FTS5. Which message a row of it is says the table `texts`.
//!
//! What FTS5 sees as a text is a message's terms with spaces between. Each byte of a term is written as a character that FTS5's
//! tokenizer for ASCII takes for a letter and does not fold, so its words are these terms, and a word begins with another exactly where
//! the terms do. The index alone has the terms (`content`), and FTS5 is told by whoever takes a message out of it which they were: to
//! keep them beside took more than twice as much as all the rest. It leaves nothing of what is taken out (`secure-delete`, which the
//! tables with `contentless_delete` don't have). As a message is searched for by terms alone, it has neither their places in a text
//! (`detail`) nor the lengths of texts (`columnsize`).
//!
//! Terms that `tern-search` makes otherwise one day need a new version of the profile's layout, by which the index is made anew: once more
//! with [`LAYOUT`].

use rusqlite::params;
use rusqlite::types::ToSql;
use tern_search::{Needed, Term};

use super::Store;
use crate::error::Error;
use crate::machine::tables::Moment;

/// The tables, empty. They may be there: an older `tern` that opens a profile says that its layout is older again, and keeps no words.
pub(super) const LAYOUT: &str = "
DROP TABLE IF EXISTS texts;
DROP TABLE IF EXISTS words;
CREATE TABLE texts (
    id INTEGER PRIMARY KEY, chat INTEGER NOT NULL, seq INTEGER NOT NULL, time_ms INTEGER NOT NULL,
    UNIQUE (chat, seq));
CREATE VIRTUAL TABLE words USING fts5 (
    terms, content = '', detail = 'none', columnsize = 0, tokenize = 'ascii');
INSERT INTO words (words, rank) VALUES ('secure-delete', 1);
";

/// Forgets them all.
pub(super) const EMPTY: &str = "INSERT INTO words (words) VALUES ('delete-all'); DELETE FROM texts;";

impl Store {
    /// Has a message be found by these terms.
    pub(super) fn add_words(&self, (time_ms, chat, seq): Moment, terms: &[Term]) -> Result<(), Error> {
        let sql = "INSERT INTO texts (chat, seq, time_ms) VALUES (?, ?, ?)";
        self.run(sql, [chat, seq, time_ms].map(|number| number as i64))?;
        let sql = "INSERT INTO words (rowid, terms) VALUES (last_insert_rowid(), ?)";
        self.run(sql, [text_of(terms)])
    }

    /// Has the message at a place, which is found by these terms, not be found any more.
    pub(super) fn remove_words(&self, chat: u64, seq: u64, terms: &[Term]) -> Result<(), Error> {
        let sql = "INSERT INTO words (words, rowid, terms)
             SELECT 'delete', id, ?3 FROM texts WHERE chat = ?1 AND seq = ?2";
        self.run(sql, params![chat as i64, seq as i64, text_of(terms)])?;
        self.run("DELETE FROM texts WHERE chat = ? AND seq = ?", [chat as i64, seq as i64])
    }

    /// The messages that are found by all of this, the newest first.
    pub(super) fn places_of(
        &self,
        needed: &[Needed],
        chat: Option<u64>,
        before: Option<Moment>,
        limit: u32,
    ) -> Result<Vec<Moment>, Error> {
        let wanted = needed.iter().map(wanted).collect::<Vec<_>>().join(" AND ");
        let (time_ms, of, seq) = before.unwrap_or((i64::MAX as u64, 0, 0));
        let sql = "SELECT time_ms, chat, seq FROM words JOIN texts ON id = words.rowid
             WHERE words MATCH ?1 AND (?2 IS NULL OR chat = ?2) AND (time_ms, chat, seq) < (?3, ?4, ?5)
             ORDER BY time_ms DESC, chat DESC, seq DESC LIMIT ?6";
        let mut query = self.db.prepare_cached(sql)?;
        let numbers = [time_ms, of, seq].map(|number| number.min(i64::MAX as u64) as i64);
        let values: [&dyn ToSql; 6] =
            [&wanted, &chat.map(|chat| chat as i64), &numbers[0], &numbers[1], &numbers[2], &limit];
        let rows = query.query_map(values, |row| {
            let number = |at| row.get::<_, i64>(at).map(|number| number as u64);
            Ok((number(0)?, number(1)?, number(2)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
impl Store {
    /// How many terms the index has, of all messages.
    pub(crate) fn count_terms(&self) -> usize {
        self.run("INSERT INTO words (words) VALUES ('integrity-check')", []).expect("the index is whole");
        let sql =
            "CREATE VIRTUAL TABLE IF NOT EXISTS temp.vocabulary USING fts5vocab (main, words, instance)";
        self.run(sql, []).expect("made");
        let count = self.db.query_row("SELECT count(*) FROM temp.vocabulary", [], |row| row.get::<_, i64>(0));
        count.expect("read") as usize
    }

    /// Has the words be made anew when it is opened again.
    pub(crate) fn outdate_words(&self) {
        self.db.pragma_update(None, "user_version", super::WORDS_SINCE - 1).expect("written");
    }

    /// How many bytes each table and index takes.
    pub(crate) fn table_bytes(&self) -> Vec<(String, u64)> {
        self.db.execute_batch("PRAGMA wal_checkpoint (TRUNCATE)").expect("written");
        let sql = "SELECT name, sum(pgsize) FROM dbstat GROUP BY name HAVING sum(pgsize) > 65536";
        let mut query = self.db.prepare(sql).expect("a query");
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)));
        rows.expect("read").collect::<Result<_, _>>().expect("read")
    }
}

/// A message as FTS5 sees it.
fn text_of(terms: &[Term]) -> String {
    terms.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// A term as FTS5 sees it.
fn word(term: &Term) -> String {
    let letter = |byte: &u8| match byte {
        b'a'..=b'z' | b'0'..=b'9' => char::from(*byte),
        byte => char::from_u32(0x100 + u32::from(*byte)).expect("it is below the surrogates"),
    };
    term.as_bytes().iter().map(letter).collect()
}

/// What is needed, as FTS5's language has it.
fn wanted(needed: &Needed) -> String {
    let star = if matches!(needed, Needed::Prefix(_)) { " *" } else { "" };
    format!("\"{}\"{star}", word(needed.term()))
}
