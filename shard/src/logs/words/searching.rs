//! A search in one log: the newest texts, which are in no run yet, then the runs, the newest first. What the index names is read from the
//! log, and looked at before it counts: whether it is there and for whoever asks to see, and whether it says so now.
//!
//! A page ends when it has enough, or when it has looked at so much that others should have their turn: it says where to go on.

use std::cmp::Reverse;

use tern_proto::v1;
use tern_search::{Levels, Needed, Query};
use tern_storage::{Direction, LogId, Rows, ScanLimit, keys};
use tern_wire::ids::{ChatId, Seq, UserId};
use tern_wire::limits::PAGE_BYTES_MAX;
use tern_wire::message::{is_message, text_of};
use tern_wire::request::FoundUpTo;

use super::lookup::Lookups;
use super::{WordsRead, texts_of};
use crate::entry::{Entry, chat_of};
use crate::held::Load;
use crate::limits::{SEARCH_ENTRIES_AT_FIRST, SEARCH_ENTRIES_AT_ONCE, SEARCH_ENTRIES_MAX, SEARCHES_MAX};
use crate::logs::group::UNKNOWN_GROUP;
use crate::logs::load::entry_of;
use crate::logs::log::Log;
use crate::logs::{After, Cx, Logs, ScanFor, UNREADABLE};
use crate::message::{FoundPage, LogOp, Search, Unreadable, bytes_of_hit, found};
use crate::mutations::{Mutation, is};

const KIND_EDIT: i32 = v1::Kind::Edit as i32;

/// What is read for a search.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Read {
    /// An entry, to find where a time is.
    Time,
    /// The newest entries.
    Tail,
    /// Of the how manieth run the page that has the how manieth term, and for the beginning of one those behind it.
    Page(usize, usize),
    Beginning(usize, usize),
    /// The pages of the short runs.
    Runs,
    /// The how manieth entry that is to be looked at.
    Entry(usize),
    /// The message that it edits.
    Message(usize),
    /// What has edited it since.
    Later(usize),
}

/// A search under way.
#[derive(Debug)]
pub(super) struct Searching {
    log: LogId,
    load: Load,
    ask: Box<Search>,
    needed: Vec<Needed>,
    /// Entries from here on may be seen.
    first: u64,
    /// Where the log begins.
    begin: Seq,
    /// Beyond the newest of them.
    head: u64,
    /// Beyond those that are yet to be looked at.
    end: u64,
    levels: Option<Levels>,
    /// How far the index goes.
    indexed: u64,
    /// Reads under way, and whether one has failed.
    missing: usize,
    failed: Option<Unreadable>,
    /// Where a time is: not before the first, not behind the second.
    time: Option<(u64, u64)>,
    runs: Lookups,
    /// The run whose entries are looked at begins here.
    run: Option<u64>,
    /// Entries that the index names, rising: the last is looked at next.
    named: Vec<u64>,
    looked: Vec<Looked>,
    /// How many of them are looked at next, at most.
    at_once: usize,
    /// How many entries are still looked at for this page.
    left: usize,
    page: FoundPage,
    bytes: usize,
}

/// An entry that is looked at.
#[derive(Debug)]
struct Looked {
    seq: u64,
    entry: Option<Entry>,
    /// What it is an edit of, as far as that was asked for, and is there.
    message: Option<Option<Entry>>,
    /// What has edited it since, as far as that was asked for.
    later: Option<Vec<Entry>>,
}

impl Searching {
    /// Whether an entry is behind all that was found before.
    fn is_behind(&self, entry: &Entry) -> bool {
        self.ask.after.is_none_or(|after| order(entry, self.ask.reader) > after)
    }

    /// Whether somebody who asks sees an entry at all.
    fn sees(&self, entry: &Entry, now_ms: u64) -> bool {
        let is_shown = !entry.is_gone(now_ms) || is(Mutation::FindErased);
        is_shown && !entry.is_withheld_from(self.ask.reader) && (self.first..self.head).contains(&entry.seq.0)
    }

    /// The edits of a message after an entry that says what it is, as far as whoever asks may know: who has left a group does not know of
    /// what was edited since.
    fn later_edits(&self, message: &Entry, said_by: u64) -> impl Iterator<Item = Seq> {
        let head = self.head;
        let edits = message.edits().to_vec().into_iter();
        edits.filter(move |edit| said_by < edit.0 && edit.0 < head)
    }

    /// Whether a message reads as an entry says that was looked at. Edits that are not for whoever asks to see do not count.
    fn is_current(&self, message: &Entry, looked: &Looked) -> bool {
        let later = looked.later.as_deref().unwrap_or_default();
        let is_withheld = |edit: Seq| {
            later.iter().any(|entry| entry.seq == edit && entry.is_withheld_from(self.ask.reader))
        };
        self.later_edits(message, looked.seq).all(is_withheld)
    }

    /// The edits that are to be read before it is known how a message reads: those that may not be for whoever asks to see.
    fn unknown_edits(&self, looked: &Looked) -> Vec<Seq> {
        let Some(entry) = looked.entry.as_ref().filter(|_| looked.later.is_none()) else { return Vec::new() };
        let message = if entry.kind == KIND_EDIT {
            looked.message.as_ref().and_then(|m| m.as_ref())
        } else {
            Some(entry)
        };
        let may_hide = |message: &&Entry| {
            matches!(self.log, LogId::Direct(..)) && message.author.user != self.ask.reader
        };
        let message = message.filter(may_hide).filter(|message| says(&self.ask.query, message.kind, entry));
        message.map_or(Vec::new(), |message| self.later_edits(message, looked.seq).collect())
    }

    /// What is found by an entry: a message that says what is searched for, and the edit by which it does, if there is one.
    fn hit(&self, looked: &Looked, now_ms: u64) -> Option<v1::Hit> {
        let entry =
            looked.entry.as_ref().filter(|entry| self.is_behind(entry) && self.sees(entry, now_ms))?;
        let reader = self.ask.reader;
        if entry.kind == KIND_EDIT {
            let message = looked.message.as_ref()?.as_ref().filter(|message| self.sees(message, now_ms))?;
            (self.is_current(message, looked) && says(&self.ask.query, message.kind, entry)).then_some(())?;
            let edit = Some(entry.view(reader, true));
            return Some(v1::Hit { message: Some(message.view(reader, false)), edit });
        }
        let is_current = is_message(entry.kind) && self.is_current(entry, looked);
        (is_current && says(&self.ask.query, entry.kind, entry)).then_some(())?;
        Some(v1::Hit { message: Some(entry.view(reader, false)), edit: None })
    }
}

/// Whether the body of an entry, of a message of this kind, says what is searched for.
fn says(query: &Query, kind: i32, entry: &Entry) -> bool {
    text_of(kind, &entry.body).is_some_and(|text| query.matches(&text))
}

/// Where what an entry says stands among all that is found.
fn order(entry: &Entry, reader: UserId) -> FoundUpTo {
    let chat = chat_of(entry.log, reader);
    FoundUpTo { time_ms: Reverse(entry.time_ms), chat, seq: Reverse(entry.seq) }
}

impl Logs {
    /// A search begins.
    pub(in crate::logs) fn search(&mut self, cx: &mut Cx, id: LogId, ask: Box<Search>) {
        if self.words.searches.len() >= SEARCHES_MAX || !cx.may_read() {
            let refusal = cx.overloaded();
            return found(cx, &ask, Err(refusal));
        }
        let run_entries = cx.limits().search_run_entries;
        let log = self.known(id);
        if log.index.upto != log.index.durable {
            // Runs are about to take the place of others.
            return self.after(cx, After::Ask(id, Box::new(LogOp::Search(ask))));
        }
        let Some(member) = log.seen_member(ask.reader) else {
            return found(cx, &ask, Err(UNKNOWN_GROUP));
        };
        let first = log.first_of(member.first()).0;
        let head = member.visible(log.durable.seq()).0 + 1;
        if log.last_time_ms < ask.floor_ms {
            // All that is wanted of it was given: nothing.
            let goes_on =
                FoundUpTo { time_ms: Reverse(ask.floor_ms), chat: ChatId::Private, seq: Reverse(Seq(0)) };
            let page = FoundPage { log: id, hits: Vec::new(), goes_on: Some(goes_on) };
            return found(cx, &ask, Ok(page));
        }
        let searching = Searching {
            log: id,
            load: log.held.load(),
            needed: ask.query.needed(),
            first,
            begin: log.first,
            head,
            end: head,
            levels: log.levels(run_entries),
            indexed: log.index.durable,
            missing: 0,
            failed: None,
            time: time_of(log, id, &ask, first, head),
            runs: Lookups::default(),
            run: None,
            named: Vec::new(),
            looked: Vec::new(),
            at_once: if ask.floor_ms == 0 { SEARCH_ENTRIES_AT_ONCE } else { SEARCH_ENTRIES_AT_FIRST },
            left: SEARCH_ENTRIES_MAX,
            page: FoundPage { log: id, hits: Vec::new(), goes_on: None },
            bytes: 0,
            ask,
        };
        self.words.asked += 1;
        let number = self.words.asked;
        self.words.searches.insert(number, Box::new(searching));
        self.search_on(cx, number);
        // A log in which nobody has written for long may never have been indexed.
        if self.logs.contains_key(&id) {
            self.note_words(cx, id);
        }
    }

    /// Something has come that was read for a search.
    pub(super) fn search_read(
        &mut self,
        cx: &mut Cx,
        number: u64,
        read: Read,
        rows: Result<Rows, Unreadable>,
    ) {
        let Some(searching) = self.words.searches.get_mut(&number) else { return };
        searching.missing -= 1;
        match rows {
            Ok(rows) => searching.take(cx, read, rows),
            Err(why) => searching.failed = Some(why),
        }
        if searching.missing > 0 {
            return;
        }
        let (id, load, failed) = (searching.log, searching.load, searching.failed);
        let (indexed, begin) = (searching.indexed, searching.begin);
        let is_as_before = self.known_by(id, load).is_some_and(|log| {
            let is_same = log.index.upto == indexed && log.first == begin;
            is_same && !log.is_changing() && !log.is_being_cut()
        });
        match failed {
            Some(why) => self.search_failed(cx, number, why),
            None if is_as_before => self.search_on(cx, number),
            // The log came into doubt, or is about to be another one; or runs went that were to be looked at. It may be another core's
            // by now, too.
            None => {
                let searching = self.words.searches.remove(&number).expect("it has just been looked at");
                cx.tell_log(id, LogOp::Search(searching.ask));
            }
        }
    }

    fn search_failed(&mut self, cx: &mut Cx, number: u64, why: Unreadable) {
        let Some(searching) = self.words.searches.remove(&number) else { return };
        if why == Unreadable::Damaged {
            cx.damaged("a log", &keys::log(searching.log));
        }
        found(cx, &searching.ask, Err(UNREADABLE));
    }

    /// Goes on with a search of which nothing is being read.
    fn search_on(&mut self, cx: &mut Cx, number: u64) {
        let searching = self.words.searches.get_mut(&number).expect("a search goes on until it ends");
        searching.look(cx.now_ms);
        let reads = match searching.next() {
            Next::Reads(reads) => reads,
            Next::Ends => {
                let searching = self.words.searches.remove(&number).expect("it has just been looked at");
                let Searching { ask, page, .. } = *searching;
                return found(cx, &ask, Ok(page));
            }
        };
        let (id, load) = (searching.log, searching.load);
        searching.missing = reads.len();
        self.known(id).reading += reads.len();
        for (range, direction, limit, read) in reads {
            cx.scan(range, direction, limit, ScanFor::Words((id, load), WordsRead::Search(number, read)));
        }
    }
}

/// What is read next: a range each.
pub(super) type Reads = Vec<(tern_storage::KeyRange, Direction, ScanLimit, Read)>;

enum Next {
    Reads(Reads),
    Ends,
}

impl Searching {
    /// Takes in what has come.
    fn take(&mut self, cx: &mut Cx, read: Read, rows: Rows) {
        let log = self.log;
        let one = |rows: Rows| rows.rows.into_iter().next().and_then(|row| entry_of(log, row));
        match read {
            Read::Time => match one(rows) {
                Some(entry) => self.narrow(&entry),
                None => self.failed = Some(Unreadable::Damaged),
            },
            Read::Tail => {
                if rows.rows.is_empty() {
                    self.failed = Some(Unreadable::Damaged);
                }
                for row in rows.rows {
                    let Some(entry) = entry_of(log, row) else {
                        self.failed = Some(Unreadable::Damaged);
                        return;
                    };
                    self.looked.push(Looked {
                        seq: entry.seq.0,
                        entry: Some(entry),
                        message: None,
                        later: None,
                    });
                }
            }
            Read::Page(run, term) => self.runs.take(cx, log, run, (term, &self.needed[term]), &rows.rows),
            Read::Beginning(run, term) if rows.more => self.runs.take_unknown(run, term),
            Read::Beginning(run, term) => {
                self.runs.take(cx, log, run, (term, &self.needed[term]), &rows.rows)
            }
            Read::Runs => self.runs.take_all(cx, log, &self.needed, &rows),
            // One that has gone since is not found.
            Read::Entry(at) => self.looked[at].entry = one(rows),
            Read::Later(at) => self.looked[at].later.get_or_insert_default().extend(one(rows)),
            Read::Message(at) => self.looked[at].message = Some(one(rows)),
        }
    }

    /// An entry says on which side of it the time is.
    fn narrow(&mut self, entry: &Entry) {
        let Some((low, high)) = self.time else { return };
        self.time = Some(if self.is_behind(entry) { (entry.seq.0 + 1, high) } else { (low, entry.seq.0) });
    }

    /// Looks at what has come, unless messages of edits are yet to come.
    fn look(&mut self, now_ms: u64) {
        let lacks = |looked: &Looked| {
            let lacks_message = looked.message.is_none() && self.edits(looked).is_some();
            lacks_message || !self.unknown_edits(looked).is_empty()
        };
        if self.looked.iter().any(lacks) {
            return;
        }
        for looked in std::mem::take(&mut self.looked) {
            if self.page.goes_on.is_some() {
                return;
            }
            self.end = looked.seq;
            self.left = self.left.saturating_sub(1);
            let place = looked.entry.as_ref().map(|entry| order(entry, self.ask.reader));
            let hit = self.hit(&looked, now_ms);
            if let (Some(place), Some(hit)) = (place, hit) {
                self.bytes += bytes_of_hit(&hit);
                self.page.hits.push((place, hit));
            }
            let is_full = self.page.hits.len() >= self.ask.limit || self.bytes >= PAGE_BYTES_MAX;
            let is_enough =
                is_full || self.left == 0 || place.is_some_and(|place| place.time_ms.0 < self.ask.floor_ms);
            if is_enough && self.end > self.first {
                self.page.goes_on = place;
            }
        }
    }

    /// The message that an entry edits, if that says what is searched for.
    fn edits(&self, looked: &Looked) -> Option<Seq> {
        let entry = looked.entry.as_ref().filter(|entry| entry.kind == KIND_EDIT && !entry.is_erased())?;
        (self.is_behind(entry) && texts_of(entry).any(|text| self.ask.query.matches(&text)))
            .then(|| entry.about())
    }

    /// What is to be read next.
    fn next(&mut self) -> Next {
        if let Some((low, high)) = self.time {
            if low < high {
                let middle = low + (high - low) / 2;
                return Next::Reads(vec![(self.entry(middle), Direction::Forwards, ONE, Read::Time)]);
            }
            self.time = None;
            self.end = self.end.min(low);
        }
        let edits: Reads = self
            .looked
            .iter()
            .enumerate()
            .filter_map(|(at, looked)| {
                let about = self.edits(looked).filter(|_| looked.message.is_none())?;
                Some((self.entry(about.0), Direction::Forwards, ONE, Read::Message(at)))
            })
            .collect();
        if !edits.is_empty() {
            return Next::Reads(edits);
        }
        let looked = self.looked.iter().enumerate();
        let later = looked
            .flat_map(|(at, looked)| self.unknown_edits(looked).into_iter().map(move |edit| (at, edit)));
        let later: Vec<_> = later.collect();
        if !later.is_empty() {
            let read =
                |(at, edit): (usize, Seq)| (self.entry(edit.0), Direction::Forwards, ONE, Read::Later(at));
            return Next::Reads(later.into_iter().map(read).collect());
        }
        if self.page.goes_on.is_some() || self.end <= self.first {
            return Next::Ends;
        }
        let tail = self.indexed.max(self.first);
        if self.end > tail {
            let rows = SEARCH_ENTRIES_MAX.min(self.left);
            let range = keys::entries(self.log, tail, self.end);
            let limit = ScanLimit { rows, bytes: PAGE_BYTES_MAX };
            return Next::Reads(vec![(range, Direction::Backwards, limit, Read::Tail)]);
        }
        self.next_of_index()
    }

    /// The same where the entries are in the index.
    fn next_of_index(&mut self) -> Next {
        loop {
            if !self.named.is_empty() {
                let at = self.named.len().saturating_sub(self.at_once.min(self.left));
                self.at_once = SEARCH_ENTRIES_AT_ONCE;
                let seqs = self.named.split_off(at);
                self.looked = seqs
                    .into_iter()
                    .rev()
                    .map(|seq| Looked { seq, entry: None, message: None, later: None })
                    .collect();
                let reads =
                    self.looked.iter().enumerate().map(|(at, looked)| {
                        (self.entry(looked.seq), Direction::Forwards, ONE, Read::Entry(at))
                    });
                return Next::Reads(reads.collect());
            }
            if let Some(first) = self.run.take() {
                self.end = self.end.min(first);
            }
            let cut = self.runs.look_up_cut(self.log, &self.needed);
            if !cut.is_empty() {
                return Next::Reads(cut);
            }
            match self.runs.pop() {
                Some(lookup) => {
                    self.run = Some(lookup.first());
                    self.named = lookup.named(self.first, self.end);
                }
                None => match self.look_up() {
                    reads if reads.is_empty() => return Next::Ends,
                    reads => return Next::Reads(reads),
                },
            }
        }
    }

    /// Looks the next runs up.
    fn look_up(&mut self) -> Reads {
        let Some(levels) = self.levels else { return Reads::new() };
        self.runs = Lookups::before(self.end, levels, self.first..self.indexed, self.needed.len());
        self.runs.look_up(self.log, &self.needed)
    }

    fn entry(&self, seq: u64) -> tern_storage::KeyRange {
        keys::entries(self.log, seq, seq + 1)
    }
}

pub(super) const ONE: ScanLimit = ScanLimit { rows: 1, bytes: usize::MAX };

/// Between which entries those begin that are behind what was found before, where the log does not know that by itself.
fn time_of(log: &Log, id: LogId, ask: &Search, first: u64, head: u64) -> Option<(u64, u64)> {
    let after = ask.after?;
    let (mut low, mut high) = (first, head);
    if chat_of(id, ask.reader) == after.chat {
        let place = after.seq.0.0.min(head);
        return Some((place, place));
    }
    for entry in log.tail.iter().filter(|entry| (first..head).contains(&entry.seq.0)) {
        match order(entry, ask.reader) > after {
            true => low = low.max(entry.seq.0 + 1),
            false => high = high.min(entry.seq.0),
        }
    }
    Some((low, high.max(low)))
}
