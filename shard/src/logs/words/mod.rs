//! The full-text index of the logs, and what is searched for in it.
//!
//! The words of a log's messages lie in runs of its entries ([`tern_search`]), each as soon as there are so many entries that are not yet
//! in one; whoever searches reads those that are in none. Nothing waits for the index: it is written lazily, behind the entries, and
//! where it lags more texts are read. It is never believed: what it names is read and looked at before it is shown.
//!
//! A core works for one log at a time: it writes a run ([`indexing`]), or takes out what was erased ([`cleaning`]). Both go in pieces,
//! each in a batch of its own; what a piece leaves that was the last one before a crash is written over, or taken out.

mod cleaning;
mod indexing;
mod lookup;
mod searching;

use std::collections::VecDeque;

use bytes::Bytes;
use tern_proto::v1::Kind;
use tern_search::{Levels, Page, Run};
use tern_storage::records::IndexedRecord;
use tern_storage::{LogId, Rows, Slot, keys};
use tern_wire::ids::Seq;
use tern_wire::message::text_of;

use self::cleaning::Cleaning;
use self::indexing::Indexing;
use self::searching::{Read as SearchRead, Searching};
use super::log::Log;
use super::{After, Cx, Logs};
use crate::entry::Entry;
use crate::held::Load;
use crate::limits::{INDEX_RUN_BYTES_MAX, INDEX_TEXT_BYTES_MAX};
use crate::maps::{Hashing, Map};
use crate::message::Unreadable;
use crate::mutations::{Mutation, is};

/// What a `t` row says of an entry that is gone, but whose words may be in the index.
pub(super) const WORDS: &[u8] = &[1];

/// What is under way for the index, and in it.
#[derive(Debug)]
pub(super) struct Words {
    work: Option<Box<Work>>,
    /// Logs in which a run is full.
    waiting: VecDeque<LogId>,
    searches: Map<u64, Box<Searching>>,
    /// Searches so far.
    asked: u64,
}

/// What a core does for one log.
#[derive(Debug)]
struct Work {
    log: LogId,
    load: Load,
    what: What,
}

#[derive(Debug)]
enum What {
    Indexing(Indexing),
    Cleaning(Cleaning),
}

/// What is read of a log for its index, or in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WordsRead {
    /// The entries of a run that is to be written.
    Fresh,
    /// The pages of a run that becomes part of it: the how manieth.
    Merged(usize),
    /// What an attempt before has left of it.
    Left,
    /// Pages in which there may be something that is gone.
    Cleaned,
    /// For a search of this number.
    Search(u64, SearchRead),
}

/// How far the index of a log goes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Index {
    /// The lengths of its runs; `None`: it has none yet.
    levels: Option<Levels>,
    /// Entries before this one are in it, as was decided.
    upto: u64,
    /// The same, durably.
    durable: u64,
    /// The log is waiting for a run to be written.
    waits: bool,
}

impl Words {
    /// Whether the index of a log is being written.
    pub(super) fn works_on(&self, log: LogId) -> bool {
        self.work.as_ref().is_some_and(|work| work.log == log)
    }

    pub(super) fn new(hashing: Hashing) -> Self {
        Self { work: None, waiting: VecDeque::new(), searches: Map::with_hasher(hashing), asked: 0 }
    }

    /// The work for a log as this load has read it.
    fn work_for(&mut self, log: LogId, load: Load) -> Option<&mut What> {
        let work = self.work.as_deref_mut().filter(|work| work.log == log && work.load == load)?;
        Some(&mut work.what)
    }

    /// What is done for a log that came into doubt is of no use.
    pub(super) fn forget(&mut self, log: LogId) {
        self.work.take_if(|work| work.log == log);
    }
}

impl Index {
    pub(super) fn take_record(record: Option<IndexedRecord>) -> Self {
        let Some(record) = record else { return Self::default() };
        let levels = Levels::of(record.run.into());
        Self { levels, upto: record.upto, durable: record.upto, waits: false }
    }

    pub(super) fn record(&self) -> Option<IndexedRecord> {
        let run = u32::try_from(self.levels?.first()).expect("a run is short");
        Some(IndexedRecord { upto: self.upto, run })
    }

    /// The slot's next owner has no list of those that wait.
    pub(super) fn moved(&mut self) {
        self.waits = false;
    }
}

/// What an entry says in words, as [`text_of`] has them of its body. What an edit says may be a text, or what its message is beside its
/// caption: it is found by both, and looked at.
fn texts_of(entry: &Entry) -> impl Iterator<Item = String> {
    let kinds = match Kind::try_from(entry.kind) {
        Ok(Kind::Edit) => [Some(Kind::Text.into()), Some(Kind::Media.into())],
        _ => [Some(entry.kind), None],
    };
    kinds.into_iter().flatten().filter_map(|kind| text_of(kind, &entry.body))
}

/// A run in keys.
fn place(run: Run) -> (u64, u32) {
    (run.first(), u32::try_from(run.count()).expect("a run is short"))
}

/// Bytes that the pages of a run may take. One with more has none: all its texts are read.
fn bytes_max(run: Run) -> usize {
    let of_texts = usize::try_from(run.count()).unwrap_or(usize::MAX).saturating_mul(INDEX_TEXT_BYTES_MAX);
    of_texts.min(INDEX_RUN_BYTES_MAX)
}

/// What is stored of a run.
#[derive(Debug)]
enum Stored {
    Pages(Vec<Page>),
    /// Its words are not there: all its texts are to be read.
    Unknown,
}

/// The pages of some rows of a run. One that is damaged is told of, and stands for all that the index does not know.
fn pages_of(cx: &mut Cx, log: LogId, rows: &[(Bytes, Bytes)]) -> Stored {
    let mut pages = Vec::with_capacity(rows.len());
    for (_, value) in rows {
        if value.is_empty() {
            return Stored::Unknown;
        }
        let Ok(page) = Page::decode(value) else {
            cx.damaged("the index of a log", &keys::log(log));
            return Stored::Unknown;
        };
        pages.push(page);
    }
    Stored::Pages(pages)
}

impl Log {
    /// An entry is gone: if its words may be in the index, or are about to come there, they are to be taken out.
    pub(super) fn words_gone(&self, cx: &mut Cx, id: LogId, seq: Seq) -> Option<u64> {
        let levels = self.levels(cx.limits().search_run_entries)?;
        // What is being written may have been read before.
        let end = self.next_run(levels).saturating_add(levels.first());
        if seq.0 >= end || is(Mutation::KeepWords) {
            return None;
        }
        let every_ms = cx.limits().words_erased_every_ms;
        // All that goes until then goes at once: to take something out of a run is to write its pages anew.
        let at_ms = (cx.now_ms / every_ms + 1).saturating_mul(every_ms);
        cx.put_bytes_lazily(self.slot, keys::due(at_ms, id, seq.0), WORDS);
        Some(at_ms)
    }
}

impl Logs {
    /// Entries before the beginning are gone, which was here before: so are runs, or parts of them.
    pub(super) fn words_cut(&mut self, cx: &mut Cx, id: LogId, first_before: Seq) {
        let log = self.known(id);
        let Some(levels) = log.index.levels else { return };
        let (first, upto) = (log.first.0, log.index.upto);
        let cut = levels.runs(first_before.0, upto).into_iter().filter(|run| run.first() < first);
        let gone: Vec<_> = cut.map(|run| log.words_gone(cx, id, Seq(run.first().max(1)))).collect();
        self.look_at_words(cx, id, gone.into_iter().flatten().max());
    }

    /// Words of a log are to be taken out of its index at this time. Not before the row that says so is there is it looked for.
    pub(super) fn look_at_words(&mut self, cx: &mut Cx, id: LogId, at_ms: Option<u64>) {
        if let Some(at_ms) = at_ms {
            self.after_lazily(cx, After::Due(id, at_ms));
        }
    }

    /// What was read of a log for its index, or in it, has come.
    pub(super) fn words_read(
        &mut self,
        cx: &mut Cx,
        (id, load): (LogId, Load),
        read: WordsRead,
        rows: Result<Rows, Unreadable>,
    ) {
        if let Some(log) = self.logs.get_mut(&id).filter(|log| log.held.load() == load) {
            log.reading -= 1;
        }
        if let WordsRead::Search(number, read) = read {
            return self.search_read(cx, number, read, rows);
        }
        let is_known = self.known_by(id, load).is_some();
        match (rows, self.words.work_for(id, load), is_known) {
            (Ok(rows), Some(What::Indexing(_)), true) => self.index_part_came(cx, id, read, &rows),
            (Ok(rows), Some(What::Cleaning(_)), true) => self.clean_pages(cx, id, &rows),
            // What can't be read now is tried again when somebody writes there, or when it is looked again at what is due.
            (_, Some(_), _) => self.end_work(cx),
            (_, None, _) => {}
        }
    }

    /// A piece of the work for a log is written.
    fn words_after(&mut self, cx: &mut Cx, id: LogId) {
        let upto = self.known(id).index.upto;
        self.after_lazily(cx, After::Words(id, upto));
    }

    /// It is durable.
    pub(super) fn words_written(&mut self, cx: &mut Cx, id: LogId, upto: u64) {
        let log = self.pinned(id);
        log.index.durable = log.index.durable.max(upto);
        let load = log.held.load();
        let is_here = self.known_by(id, load).is_some() && cx.is_here(Slot::of_log(id));
        match self.words.work_for(id, load) {
            Some(_) if !is_here => self.end_work(cx),
            Some(What::Indexing(_)) => self.index_written(cx, id),
            Some(What::Cleaning(_)) => self.clean_next(cx, id),
            None => {}
        }
    }

    /// The work is done, or given up: on to the next log.
    fn end_work(&mut self, cx: &mut Cx) {
        self.words.work = None;
        self.index_next(cx);
    }
}
