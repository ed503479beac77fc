//! A search finds each message that one may see and that says what is searched for, whatever the index has of it, and no other: none that
//! was deleted, has ended, was edited so that it says something else, was withheld, or is kept no longer. Their words leave the index too.

#![allow(clippy::print_stdout, reason = "it says how a fault was found")]

#[allow(dead_code, reason = "the node serves other tests as well")]
mod node;

use std::collections::BTreeSet;

use fastrand::Rng;
use node::{Link, Node};
use prost::Message as _;
use tern_proto::v1::{self, Kind, client_frame::Request, private::What, server_frame::Message};
use tern_search::{Page, Query};
use tern_shard::admin::Provisioned;
use tern_shard::limits::Limits;
use tern_storage::memory::Memory;
use tern_storage::{LogId, Slot};

const PRIVATE: u64 = 1 << 43;

/// Of these a message has some, so that they share words and the beginnings of words.
const WORDS: [&str; 8] = ["east", "easter", "eastern", "west", "Weste", "東京", "größe", "we're"];

struct Person {
    who: Provisioned,
    link: Link,
    requests: u64,
}

struct World {
    rng: Rng,
    store: Memory,
    node: Node,
    limits: Limits,
    cores: u16,
    people: Vec<Person>,
    groups: Vec<u64>,
    client_ids: u64,
    /// Each message has a word of its own.
    words: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let limits = Limits {
            search_run_entries: *rng.choice(&[4, 5, 16]).expect("there are some"),
            words_erased_every_ms: 2_000,
            history_ms: if rng.u8(..3) == 0 { 20_000 } else { 0 },
            undelivered_ms: 20_000,
            logs_cached_max: 0,
            mark_quiet_ms: 500,
            lazy_ms: 5,
            sends_per_minute_max: 0,
            strangers_per_hour_max: 0,
            groups_per_day_max: 1_000_000,
            lookups_per_minute_max: 0,
            searches_per_minute_max: 0,
            ..Limits::default()
        };
        let (store, cores) = (Memory::new(), rng.u16(1..4));
        let mut node = Node::start(&store, cores, &limits, 1_000_000);
        let mut person = |phone: &str| {
            let who = node.provision(phone, &mut rng);
            Person { link: node.log_in(0, &who.access_token), who, requests: 10 }
        };
        let people = vec![person("+15550001"), person("+15550002"), person("+15550003")];
        let (groups, client_ids, words) = (Vec::new(), 0, 0);
        let mut world = Self { rng, store, node, limits, cores, people, groups, client_ids, words };
        world.settle();
        for shows_history in [true, false] {
            world.make_group(shows_history);
        }
        world
    }

    fn settle(&mut self) {
        self.node.settle(&mut self.rng);
        for person in &self.people {
            self.node.receive(person.link).expect("it stands");
        }
    }

    fn ask(&mut self, at: usize, request: Request) -> u64 {
        let person = &mut self.people[at];
        person.requests += 1;
        self.node.request(person.link, person.requests, request);
        person.requests
    }

    /// Asks, and waits for the answer.
    fn answer(&mut self, at: usize, request: Request) -> Message {
        let id = self.ask(at, request);
        self.node.settle(&mut self.rng);
        let frames = self.node.receive(self.people[at].link).expect("it stands");
        frames
            .into_iter()
            .find(|frame| frame.id == id)
            .and_then(|frame| frame.message)
            .expect("it is answered")
    }

    fn user(&self, at: usize) -> u64 {
        self.people[at].who.user.get()
    }

    fn make_group(&mut self, shows_history: bool) {
        self.client_ids += 1;
        let settings = Some(v1::GroupSettings { shows_history, ..v1::GroupSettings::default() });
        let group = v1::GroupMade {
            name: "group".to_owned(),
            settings,
            members: vec![self.user(1)],
            ..v1::GroupMade::default()
        };
        let request = v1::CreateGroup { client_id: self.client_ids, group: Some(group) };
        match self.answer(0, Request::CreateGroup(request)) {
            Message::GroupCreated(made) => self.groups.push(made.chat),
            other => panic!("{other:?}"),
        }
    }

    /// One of the chats that somebody may have.
    fn chat(&mut self, at: usize) -> u64 {
        let others = (0..self.people.len()).map(|other| self.user(other));
        let chats: Vec<u64> = others.chain(self.groups.iter().copied()).collect();
        let _ = at;
        // Most is said in one.
        if self.rng.u8(..3) == 0 { chats[self.rng.usize(..chats.len())] } else { self.groups[0] }
    }

    fn text(&mut self) -> String {
        self.words += 1;
        let mut words = vec![format!("own{}", self.words)];
        for _ in 0..self.rng.usize(1..4) {
            words.push(WORDS[self.rng.usize(..WORDS.len())].to_owned());
        }
        self.rng.shuffle(&mut words);
        words.join(" ")
    }

    fn send(&mut self, at: usize, send: v1::Send) {
        self.client_ids += 1;
        self.ask(at, Request::Send(v1::Send { client_id: self.client_ids, ..send }));
    }

    fn say(&mut self, at: usize) {
        let (chat, text) = (self.chat(at), self.text());
        if self.rng.u8(..8) == 0 {
            let body = v1::Media { caption: text, bytes: 1, ..v1::Media::default() }.encode_to_vec().into();
            return self.send(at, v1::Send { chat, body, kind: Kind::Media.into(), ..v1::Send::default() });
        }
        self.send(at, v1::Send { chat, body: text.into(), ..v1::Send::default() });
    }

    /// Edits or deletes something that somebody has said.
    fn amend(&mut self, at: usize) {
        let chat = self.chat(at);
        let Some(page) = self.history(at, chat) else { return };
        let own = self.user(at);
        let mine: Vec<_> = page
            .into_iter()
            .filter(|entry| {
                entry.sender == own && !entry.erased && matches!(entry.kind(), Kind::Text | Kind::Media)
            })
            .collect();
        let Some(entry) = self.rng.choice(mine) else { return };
        let text = self.text();
        let (kind, body) = match (self.rng.bool(), entry.kind()) {
            (true, _) => (Kind::Deletion, Vec::new()),
            (false, Kind::Media) => {
                (Kind::Edit, v1::Media { caption: text, bytes: 1, ..v1::Media::default() }.encode_to_vec())
            }
            (false, _) => (Kind::Edit, text.into_bytes()),
        };
        self.send(
            at,
            v1::Send { chat, body: body.into(), kind: kind.into(), about: entry.seq, ..v1::Send::default() },
        );
    }

    fn set_timer(&mut self, at: usize) {
        let chat = self.chat(at);
        let after_ms = *self.rng.choice(&[0, 3_000, 8_000]).expect("there are some");
        let body = v1::Timer { after_ms }.encode_to_vec().into();
        self.send(at, v1::Send { chat, body, kind: Kind::Timer.into(), ..v1::Send::default() });
    }

    fn block(&mut self, at: usize) {
        let blocked = v1::Blocked { user_id: self.user((at + 1) % 3), off: self.rng.bool() };
        let body = v1::Private { what: Some(What::Blocked(blocked)) }.encode_to_vec().into();
        self.send(at, v1::Send { chat: PRIVATE, body, kind: Kind::Private.into(), ..v1::Send::default() });
    }

    fn change_members(&mut self) {
        let (chat, third) = (self.groups[self.rng.usize(..2)], self.user(2));
        let change = if self.rng.u8(..4) == 0 {
            v1::group_change::Change::Removed(third)
        } else {
            v1::group_change::Change::Added(v1::Members { user_ids: vec![third] })
        };
        let body = v1::GroupChange { change: Some(change) }.encode_to_vec().into();
        self.send(0, v1::Send { chat, body, kind: Kind::Group.into(), ..v1::Send::default() });
    }

    /// All entries of a chat that somebody may see; `None` where that is none of theirs.
    fn history(&mut self, at: usize, chat: u64) -> Option<Vec<v1::Entry>> {
        let (mut all, mut from) = (Vec::new(), 0);
        loop {
            let history = v1::History { chat, from, forwards: true, limit: 0 };
            let page = match self.answer(at, Request::History(history)) {
                Message::HistoryPage(page) => page,
                Message::Refused(refused) => {
                    assert_eq!(refused.reason(), v1::Reason::UnknownGroup, "{}", refused.detail);
                    return None;
                }
                other => panic!("{other:?}"),
            };
            all.extend(page.entries);
            match all.last().filter(|_| page.more) {
                Some(last) => from = last.seq,
                None => return Some(all),
            }
        }
    }

    /// What somebody is to find: (time, chat, seq of what says so, seq of the message).
    fn expected(&mut self, at: usize, query: &Query, chats: &[u64]) -> Vec<(u64, u64, u64, u64)> {
        let mut found = Vec::new();
        for chat in chats {
            for (message, says) in self.messages(at, *chat) {
                let text = match message.kind() {
                    Kind::Media => v1::Media::decode(&says.body[..]).expect("a body").caption,
                    _ => String::from_utf8(says.body.to_vec()).expect("a text"),
                };
                if query.matches(&text) {
                    found.push((says.time_ms, *chat, says.seq, message.seq));
                }
            }
        }
        found.sort_by_key(|(time_ms, chat, seq, _)| {
            (std::cmp::Reverse(*time_ms), *chat, std::cmp::Reverse(*seq))
        });
        found
    }

    /// The messages of a chat, each with the entry that has what it says now.
    fn messages(&mut self, at: usize, chat: u64) -> Vec<(v1::Entry, v1::Entry)> {
        let entries = self.history(at, chat).unwrap_or_default();
        let now_ms = self.node.now_ms;
        let is_there =
            |entry: &&v1::Entry| !entry.erased && (entry.expires_ms == 0 || entry.expires_ms > now_ms);
        let messages =
            entries.iter().filter(is_there).filter(|entry| matches!(entry.kind(), Kind::Text | Kind::Media));
        let with_edit = messages.map(|message| {
            // Who has left a group does not see what was edited since.
            let is_edit = |entry: &&v1::Entry| entry.kind() == Kind::Edit && entry.about == message.seq;
            let edit = entries.iter().rfind(is_edit);
            (message.clone(), edit.unwrap_or(message).clone())
        });
        with_edit.collect()
    }

    fn search(&mut self, at: usize, typed: &str, chat: u64) -> Vec<(u64, u64, u64, u64)> {
        let (mut all, mut after) = (Vec::new(), None);
        let limit = self.rng.u32(1..5);
        loop {
            let search = v1::Search { query: typed.to_owned(), chat, after, limit };
            let found = match self.answer(at, Request::Search(search)) {
                Message::Found(found) => found,
                Message::Refused(refused) => {
                    assert_eq!(refused.reason(), v1::Reason::UnknownGroup, "{}", refused.detail);
                    return Vec::new();
                }
                other => panic!("{other:?}"),
            };
            assert!(found.hits.len() <= limit as usize);
            for hit in found.hits {
                let message = hit.message.expect("a hit has a message");
                let says = hit.edit.as_ref().unwrap_or(&message);
                all.push((says.time_ms, message.chat, says.seq, message.seq));
            }
            after = found.next;
            if after.is_none() {
                return all;
            }
        }
    }

    fn typed(&mut self) -> String {
        let own = self.rng.u64(..self.words + 1);
        match self.rng.u8(..10) {
            0 => format!("own{own} "),
            1 => "own".to_owned(),
            2 => "easter we".to_owned(),
            3 => "e\u{301}".to_owned(),
            _ => {
                let mut typed = WORDS[self.rng.usize(..WORDS.len())].to_owned();
                if self.rng.bool() {
                    typed.push(' ');
                }
                typed
            }
        }
    }

    /// At rest, everybody finds what there is to be found.
    fn check(&mut self) {
        self.settle();
        let (at, typed) = (self.rng.usize(..3), self.typed());
        let Ok(query) = Query::parse(&typed) else { return };
        let others = (0..self.people.len()).map(|other| self.user(other));
        let chats: Vec<u64> = others.chain(self.groups.iter().copied()).collect();
        let chat = if self.rng.bool() { 0 } else { self.chat(at) };
        let of = if chat == 0 { chats } else { vec![chat] };
        let expected = self.expected(at, &query, &of);
        let found = self.search(at, &typed, chat);
        if found != expected {
            for (key, value) in self.store.rows() {
                if let Some((log, run)) = tern_storage::keys::run_of_words(&key) {
                    let page = Page::decode(&value).ok();
                    let hits = page.map(|page| {
                        query.needed().iter().map(|needed| page.lookup(needed)).collect::<Vec<_>>()
                    });
                    println!("  {log:?} {run:?} {:?}: {hits:?}", String::from_utf8_lossy(&key[32..]));
                }
                if key[0] == b'l' {
                    println!(
                        "  {:?} {:?}",
                        tern_storage::keys::log_of(&key),
                        tern_storage::records::LogRecord::decode(&value[..])
                            .ok()
                            .map(|r| (r.indexed, r.first))
                    );
                }
            }
        }
        assert_eq!(found, expected, "{at} searches for {typed:?} in {chat}, at {}", self.node.now_ms);
    }

    /// When all that was erased has left the index, no word of it is in it.
    fn check_index(&mut self) {
        self.settle();
        // Whether anything is left to be taken out, the rows of what is due say. What is kept for some time ends meanwhile.
        for second in 0.. {
            assert!(second < 90, "what is gone is taken out of the index in time");
            self.node.tick(1_000);
            self.settle();
            let is_due = |(key, value): &(Vec<u8>, _)| key[0] == b't' && !bytes::Bytes::is_empty(value);
            if second > 45 && !self.store.rows().iter().any(is_due) {
                break;
            }
        }
        let mut logs: Vec<LogId> = self.groups.iter().map(|group| LogId::Group(*group)).collect();
        for one in 0..3 {
            logs.extend((one..3).map(|other| LogId::direct(self.user(one), self.user(other))));
        }
        let pages: Vec<(LogId, Page)> = self
            .store
            .rows()
            .into_iter()
            .filter_map(|(key, value)| {
                let (log, _) = tern_storage::keys::run_of_words(&key)?;
                Some((log, Page::decode(&value).ok()?))
            })
            .collect();
        for log in logs {
            let live: BTreeSet<u64> = self
                .store
                .rows()
                .into_iter()
                .filter_map(|(key, value)| {
                    let is_entry = key[0] == b'e' && key[3..20] == log.to_bytes();
                    let record =
                        tern_storage::records::EntryRecord::decode(value).ok().filter(|_| is_entry)?;
                    (!record.erased).then_some(record.seq)
                })
                .collect();
            for (_, page) in pages.iter().filter(|(of, _)| *of == log) {
                for typed in ["ea", "we", "own", "東京", "gr"] {
                    for needed in Query::parse(typed).expect("a query").needed() {
                        for seq in page.lookup(&needed) {
                            assert!(
                                live.contains(&seq),
                                "{log:?}: {seq} is gone, and has words in the index"
                            );
                        }
                    }
                }
            }
        }
    }

    /// The process ends and another begins, of which nobody remembers anything.
    fn restart(&mut self) {
        self.settle();
        let now_ms = self.node.now_ms;
        self.node = Node::start(&self.store, self.cores, &self.limits, now_ms);
        for person in &mut self.people {
            let core = self.rng.u16(..self.cores);
            person.link = self.node.log_in(core, &person.who.access_token);
        }
        self.settle();
    }

    fn live(&mut self) {
        for _ in 0..160 {
            let at = self.rng.usize(..3);
            match self.rng.u8(..50) {
                0..26 => self.say(at),
                26..32 => self.amend(at),
                32 => self.set_timer(at),
                33 => self.block(at),
                34 => self.change_members(),
                35..38 => self.node.tick(300),
                38..41 => {
                    let slot = Slot::of_log(LogId::Group(self.groups[0]));
                    self.node.move_slot(slot, self.rng.u16(..));
                }
                41 => self.restart(),
                42..47 => self.check(),
                47 => self.node.tick(4_000),
                _ => self.settle(),
            }
            for _ in 0..self.rng.usize(..30) {
                self.node.step(&mut self.rng);
            }
        }
        self.check();
        self.check_index();
        for _ in 0..4 {
            self.check();
        }
    }
}

fn live(seed: u64) {
    World::new(seed).live();
}

/// Of runs whose texts have many words not all pages are read, but those that are needed.
#[test]
fn texts_of_very_many_words_are_found_wherever_their_pages_lie() {
    const ENTRIES: u64 = 250;
    let mut world = World::new(16);
    world.limits.search_run_entries = 16;
    world.limits.history_ms = 0;
    world.restart();
    let chat = world.groups[0];
    for at in 0..ENTRIES {
        let random = |rng: &mut Rng| -> String { (0..12).map(|_| rng.lowercase()).collect() };
        let mut words: Vec<String> = (0..65).map(|_| random(&mut world.rng)).collect();
        words.push(format!("own{at}"));
        world.send(0, v1::Send { chat, body: words.join(" ").into(), ..v1::Send::default() });
        if at % 8 == 0 {
            world.settle();
        }
    }
    world.settle();
    let mut pages = std::collections::BTreeMap::<_, usize>::new();
    for (key, value) in world.store.rows() {
        if let Some((log, (first, _))) = tern_storage::keys::run_of_words(&key) {
            assert!(!value.is_empty(), "no run has too many words: its pages are read");
            *pages.entry((log, first)).or_default() += 1;
        }
    }
    assert_eq!(pages.len(), 15);
    assert!(pages.values().sum::<usize>() > tern_shard::limits::SEARCH_PAGES_AT_ONCE, "{pages:?}");
    for at in [0, 17, 100, 200, 239, 249] {
        assert_eq!(world.search(1, &format!("own{at} "), chat).len(), 1, "{at}");
    }
    for beginning in ["own", "own2", "ab", "zz", "qa"] {
        let expected = world.expected(1, &Query::parse(beginning).expect("a query"), &[chat]);
        assert!(expected.len() > 10);
        assert_eq!(world.search(1, beginning, chat), expected, "{beginning}");
    }
}

#[test]
fn what_may_be_seen_and_says_so_is_found_and_nothing_else() {
    node::live_with_seeds("searching", 150, live);
}

#[cfg(feature = "mutations")]
#[test]
fn each_fault_is_found() {
    node::find_each_fault("shard/tests/searching.rs", live);
}
