//! One person searches, and what they are told is compared with what they were to be told.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use fastrand::Rng;
use tern_proto::v1::{self, client_frame::Request, server_frame::Message};

use super::corpus::{Corpus, Kind, Wanted};
use super::{SEARCHER, SILENCE_MAX};
use crate::latency::Latencies;
use crate::load::{Fleet, Happened, WAIT};
use crate::stop;
use crate::target::Target;

/// How often a search that finds nothing takes no fewer pages before the index is taken for whole.
const SETTLED: u32 = 20;

/// One of so many searches is read on.
const READ_ON: u32 = 10;

/// Pages of such a search.
const PAGES_MAX: u32 = 40;

/// What searches took, and found.
#[derive(Default)]
pub struct Found {
    pub all: Latencies,
    pub all_chats: Latencies,
    pub one_chat: Latencies,
    pub kinds: BTreeMap<&'static str, Latencies>,
    pub pages: Latencies,
    /// Pages that were asked for until there were hits.
    pub asked: u64,
    pub hits: u64,
    pub errors: u64,
    pub missing: u64,
    pub leaked: u64,
    pub first_error: Option<String>,
}

/// See the module.
pub struct Seeking<'a> {
    target: &'a Target,
    fleet: Fleet<'a>,
    corpus: &'a Corpus,
    rng: Rng,
    /// The device of each user.
    device_of: HashMap<u64, u32>,
    begin: Instant,
    found: Found,
}

/// A message: its chat, and its place there.
type Place = (u32, u64);

impl<'a> Seeking<'a> {
    /// Only the one who searches is connected.
    pub fn new(target: &'a Target, corpus: &'a Corpus, rng: Rng) -> Result<Self, String> {
        let mut fleet = Fleet::new(target, &target.users, 0, false)?;
        let connected = fleet.connect(SEARCHER..SEARCHER + 1)?;
        if let Some(why) = connected.first_error {
            return Err(format!("the connection was lost: {why}"));
        }
        let device_of = target.users.iter().map(|user| user.id).zip(0..).collect();
        Ok(Self { target, fleet, corpus, rng, device_of, begin: Instant::now(), found: Found::default() })
    }

    /// A search that none was before. Gives how long it took.
    pub fn first(&mut self) -> Result<Duration, String> {
        let wanted = Wanted::new(Kind::Usual, self.corpus, &mut self.rng);
        let asked = Instant::now();
        self.page(&wanted, None)?;
        Ok(asked.elapsed())
    }

    /// Waits until the index has caught up with what was said, and says how long that took: a search that finds nothing takes as few pages
    /// as before, some times over.
    pub fn settle(&mut self) -> Result<Duration, String> {
        let wanted = Wanted::new(Kind::Nothing, self.corpus, &mut self.rng);
        let (begin, mut before, mut same) = (Instant::now(), u32::MAX, 0);
        while same < SETTLED && !stop::asked() {
            let (mut pages, mut after) = (0, None);
            while let Some(page) = self.page(&wanted, after)? {
                (pages, after) = (pages + 1, page.next);
                if after.is_none() {
                    break;
                }
            }
            same = if pages >= before { same + 1 } else { 0 };
            before = before.min(pages);
        }
        Ok(begin.elapsed())
    }

    /// So many searches, one after the other: of each kind, in all chats and in one.
    pub fn seek(&mut self, searches: u32) -> Result<(), String> {
        self.begin = Instant::now();
        for number in 0..searches {
            if stop::asked() {
                return Ok(());
            }
            let kind = Kind::ALL[number as usize % Kind::ALL.len()];
            let is_one = (number as usize / Kind::ALL.len()).is_multiple_of(2);
            let chat = is_one.then(|| self.rng.u32(SEARCHER + 1..self.fleet.len()));
            let wanted = Wanted::new(kind, self.corpus, &mut self.rng).within(chat);
            self.search(kind, &wanted, number.is_multiple_of(READ_ON))?;
        }
        Ok(())
    }

    /// What was found.
    pub fn end(self) -> Found {
        self.found
    }

    /// A search, until there are hits, or further.
    fn search(&mut self, kind: Kind, wanted: &Wanted, reads_on: bool) -> Result<(), String> {
        let (mut places, mut after, mut pages) = (Vec::new(), None, 0);
        let at = self.begin.elapsed();
        loop {
            let page_at = self.begin.elapsed();
            let Some(page) = self.page(wanted, after.take())? else { return Ok(()) };
            (pages, after) = (pages + 1, page.next);
            let is_first = places.is_empty();
            places.extend(page.hits.iter().map(|hit| self.place(hit)));
            let now = self.begin.elapsed();
            if !is_first {
                self.found.pages.record(page_at, now - page_at);
            } else if !places.is_empty() || after.is_none() {
                let of_kind = self.found.kinds.entry(kind.name()).or_default();
                let of_chats = if wanted.chat().is_some() {
                    &mut self.found.one_chat
                } else {
                    &mut self.found.all_chats
                };
                for latencies in [&mut self.found.all, of_kind, of_chats] {
                    latencies.record(at, now - at);
                }
                (self.found.asked, self.found.hits) =
                    (self.found.asked + u64::from(pages), self.found.hits + places.len() as u64);
            }
            let goes_on = places.is_empty() || (reads_on && pages < PAGES_MAX);
            if after.is_none() || !goes_on || stop::asked() {
                break;
            }
        }
        self.check(wanted, &places, after.is_none());
        Ok(())
    }

    /// The chat, by its number here, and the place of a hit. What is not one's own has no such number.
    fn place(&self, hit: &v1::Hit) -> Place {
        let message = hit.message.as_ref();
        let chat = message.and_then(|message| self.device_of.get(&message.chat));
        (chat.copied().unwrap_or(SEARCHER), message.map_or(0, |message| message.seq))
    }

    /// Whether these are the newest, or if it was the end, all.
    fn check(&mut self, wanted: &Wanted, places: &[Place], is_end: bool) {
        let expected = self.corpus.hits(wanted);
        let time_of: HashMap<Place, u64> =
            expected.iter().filter_map(|said| Some(((said.chat?, said.seq), said.time_ms))).collect();
        let found: HashSet<&Place> = places.iter().collect();
        let times: Vec<u64> = places.iter().filter_map(|place| time_of.get(place).copied()).collect();
        self.found.leaked += (places.len() - times.len()) as u64 + (places.len() - found.len()) as u64;
        // What is older than the last hit comes on a later page; what is as old may.
        let oldest = if is_end { 0 } else { times.last().map_or(0, |oldest| oldest + 1) };
        let lacks = |(place, time_ms): &(&Place, &u64)| **time_ms >= oldest && !found.contains(place);
        self.found.missing += time_of.iter().filter(lacks).count() as u64;
        if !times.is_sorted_by(|newer, older| newer >= older) {
            self.failed(format!("the hits of {:?} are not in their order", wanted.query()));
        }
    }

    fn failed(&mut self, why: String) {
        self.found.errors += 1;
        self.found.first_error.get_or_insert(why);
    }

    /// One page. `None`: it was refused, which is counted.
    fn page(&mut self, wanted: &Wanted, after: Option<v1::FoundUpTo>) -> Result<Option<v1::Found>, String> {
        let chat = wanted.chat().map_or(0, |device| self.target.users[device as usize].id);
        let search = v1::Search { query: wanted.query(), chat, after, limit: 0 };
        if !self.fleet.request(SEARCHER, Request::Search(search)) {
            return Err("the one who searches is not connected".to_owned());
        }
        let (asked, mut answer) = (Instant::now(), None);
        while answer.is_none() {
            self.fleet.turn(WAIT, &mut |_, happened| match happened {
                Happened::Frame(v1::ServerFrame { message: Some(Message::Found(page)), .. }) => {
                    answer = Some(Ok(Some(page)));
                }
                Happened::Frame(v1::ServerFrame { message: Some(Message::Refused(refused)), .. }) => {
                    answer = Some(Ok(None));
                    let why = format!("{}: {}", refused.reason().name(), refused.detail);
                    self.found.errors += 1;
                    self.found.first_error.get_or_insert(why);
                }
                Happened::Lost(why) => answer = Some(Err(format!("the connection was lost: {why}"))),
                Happened::Frame(_) | Happened::Ready => {}
            })?;
            if asked.elapsed() > SILENCE_MAX {
                return Err("a search is not answered".to_owned());
            }
        }
        answer.expect("it was waited for")
    }
}
