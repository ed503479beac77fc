//! Searches: in one chat, or in all of a user's. Each log's owner gives the newest that it has found; when as many logs have answered as
//! there are, the newest of all are the page.
//!
//! A connection has one search under way at a time, in so many logs at once, so what it can have read is bounded. A log that has
//! nothing as new as what was found already says so without a look at its index.

use std::collections::BTreeMap;
use std::sync::Arc;

use tern_proto::v1;
use tern_search::Query;
use tern_storage::LogId;
use tern_wire::errors::{Reason, Refusal};
use tern_wire::limits::PAGE_BYTES_MAX;
use tern_wire::request::{FoundUpTo, Search};

use super::asking::Ask;
use super::conns::Waiter;
use super::{Cx, Front};
use crate::asks::AskId;
use crate::entry::{Author, log_of};
use crate::limits::{SEARCH_HITS_MAX, SEARCH_LOGS_AT_ONCE};
use crate::maps::{Hashing, Map};
use crate::message::{FoundPage, LogsPage, bytes_of_hit};
use crate::reply::{ConnId, Reply};

const NOT_HERE: Refusal = Refusal::new(Reason::Unimplemented, "this server does not search");

/// What is wanted of a log.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) query: Arc<Query>,
    /// Behind what was found before.
    pub(super) after: Option<FoundUpTo>,
    /// Nothing older, in ms since the Unix epoch.
    pub(super) floor_ms: u64,
    /// No more than these.
    pub(super) limit: usize,
    /// For which search.
    page: u64,
}

/// The searches under way, by their connections.
#[derive(Debug)]
pub(super) struct Searches {
    pages: Map<ConnId, Box<Page>>,
    made: u64,
}

struct Page {
    number: u64,
    waiter: Waiter,
    reader: Author,
    query: Arc<Query>,
    after: Option<FoundUpTo>,
    limit: usize,
    /// In one chat alone.
    alone: bool,
    /// What was found, the newest first: no more than the page has.
    hits: BTreeMap<FoundUpTo, v1::Hit>,
    /// Some of what was found has no place on the page.
    is_full: bool,
    /// Up to here what was found is all that there is.
    upto: Option<FoundUpTo>,
    /// Logs that are yet to be asked, and how many have not answered.
    logs: Vec<LogId>,
    missing: usize,
    /// There are more logs behind this one.
    more: Option<LogId>,
}

/// Shows no content.
impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Page").finish_non_exhaustive()
    }
}

impl Searches {
    pub(super) fn new(hashing: Hashing) -> Self {
        Self { pages: Map::with_hasher(hashing), made: 0 }
    }

    /// The connection has gone.
    pub(super) fn forget(&mut self, conn: ConnId) {
        self.pages.remove(&conn);
    }

    fn page(&mut self, conn: ConnId) -> &mut Page {
        self.pages.get_mut(&conn).expect("what is asked for a search is answered before it ends")
    }
}

impl Page {
    /// Takes in what was found in a log.
    fn take(&mut self, found: FoundPage) {
        let FoundPage { hits, goes_on, .. } = found;
        self.upto = self.upto.into_iter().chain(goes_on).min();
        self.hits.extend(hits);
        while self.hits.len() > self.limit {
            self.hits.pop_last();
            self.is_full = true;
        }
    }

    /// What is older than this has no place on the page, in ms since the Unix epoch.
    fn floor_ms(&self) -> u64 {
        let is_full = self.hits.len() == self.limit;
        self.hits.last_key_value().filter(|_| is_full).map_or(0, |(last, _)| last.time_ms.0)
    }

    fn answer(mut self) -> Reply {
        let mut found = v1::Found::default();
        let (mut bytes, mut last) = (0, None);
        while let Some((place, hit)) = self.hits.pop_first() {
            if bytes >= PAGE_BYTES_MAX {
                self.is_full = true;
                break;
            }
            if self.upto.is_some_and(|upto| place > upto) {
                break;
            }
            bytes += bytes_of_hit(&hit);
            found.hits.push(hit);
            last = Some(place);
        }
        let is_cut = self.is_full || found.hits.len() == self.limit && self.upto.is_some();
        let next = if is_cut && last.is_some() { last.into_iter().chain(self.upto).min() } else { self.upto };
        found.next = next.map(FoundUpTo::to_raw);
        Reply::Found(Box::new(found))
    }
}

impl Front {
    pub(super) fn search(&mut self, cx: &mut Cx, waiter: Waiter, reader: Author, search: Search) {
        let id = waiter.conn;
        if cx.limits().search_run_entries == 0 {
            return self.turn_down(cx, waiter, NOT_HERE);
        }
        if self.searches.pages.contains_key(&id) {
            let refusal = cx.overloaded();
            return self.turn_down(cx, waiter, refusal);
        }
        let Search { query, chat, after, limit } = search;
        let limit = if limit == 0 { SEARCH_HITS_MAX } else { SEARCH_HITS_MAX.min(limit as usize) };
        self.searches.made += 1;
        let page = Page {
            number: self.searches.made,
            waiter,
            reader,
            query: Arc::new(query),
            after,
            limit,
            alone: chat.is_some(),
            hits: BTreeMap::new(),
            is_full: false,
            upto: None,
            logs: chat.map(|chat| log_of(reader.user, chat)).into_iter().collect(),
            missing: 0,
            more: None,
        };
        self.searches.pages.insert(id, Box::new(page));
        if chat.is_some() {
            self.search_on(cx, id);
        } else {
            self.ask_for(cx, id, reader, Ask::SearchLogs(None));
        }
    }

    /// In which logs to search is known, or in which others. The connection is there.
    pub(super) fn searched_logs_came(&mut self, cx: &mut Cx, id: ConnId, logs: Result<LogsPage, Refusal>) {
        match logs {
            Ok(LogsPage { logs, more }) => {
                let page = self.searches.page(id);
                page.more = logs.last().map(|(log, _)| *log).filter(|_| more);
                page.logs = logs.into_iter().rev().map(|(log, _)| log).collect();
                self.search_on(cx, id);
            }
            Err(refusal) => self.search_refused(cx, id, refusal),
        }
    }

    fn search_refused(&mut self, cx: &mut Cx, id: ConnId, refusal: Refusal) {
        if let Some(page) = self.searches.pages.remove(&id) {
            self.turn_down(cx, page.waiter, refusal);
        }
    }

    /// Asks the next logs; when all have answered, so does the search.
    fn search_on(&mut self, cx: &mut Cx, id: ConnId) {
        loop {
            let page = self.searches.page(id);
            let (reader, alone) = (page.reader, page.alone);
            if page.missing < SEARCH_LOGS_AT_ONCE
                && let Some(log) = page.logs.pop()
            {
                page.missing += 1;
                let (query, after, limit) = (page.query.clone(), page.after, page.limit);
                let search = Wanted { query, after, floor_ms: page.floor_ms(), limit, page: page.number };
                let search = Box::new(search);
                self.ask_for(cx, id, reader, Ask::Search { log, alone, search });
                continue;
            }
            if page.missing > 0 {
                return;
            }
            if let Some(after) = page.more.take() {
                return self.ask_for(cx, id, reader, Ask::SearchLogs(Some(after)));
            }
            let page = self.searches.pages.remove(&id).expect("it has just been looked at");
            return self.respond(cx, page.waiter, page.answer());
        }
    }

    /// What was found in a log has come. The connection may have gone, and the search may have ended since, with a refusal.
    pub(super) fn found(
        &mut self,
        cx: &mut Cx,
        id: ConnId,
        ask: AskId,
        found: Result<Box<FoundPage>, Refusal>,
    ) {
        let number = self.asked(id, ask).and_then(|asked| Some(asked.search()?.page));
        if self.searches.pages.get(&id).map(|page| page.number) != number || number.is_none() {
            return;
        }
        match found {
            Ok(found) => {
                let page = self.searches.page(id);
                page.missing -= 1;
                page.take(*found);
                self.search_on(cx, id);
            }
            Err(refusal) => self.search_refused(cx, id, refusal),
        }
    }
}
