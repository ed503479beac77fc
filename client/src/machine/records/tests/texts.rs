//! What is found: the same over SQLite, over memory, and by looking at everything.

use std::time::{Duration, Instant};

use tern_search::Query;
use tern_wire::message::text_of;

use super::*;
use crate::machine::records::search;
use crate::machine::tables::Moment;

#[path = "../../../../../search/examples/corpus/mod.rs"]
mod corpus;

const GROUP: u64 = PEER + 1;

fn query(typed: &str) -> Query {
    Query::parse(typed).unwrap_or_else(|bad| panic!("{typed}: {bad}"))
}

/// The moments of a page, and whether there are more.
fn page<S: Tables>(
    tables: &S,
    typed: &str,
    chat: Option<u64>,
    before: Option<Moment>,
    limit: usize,
) -> (Vec<Moment>, bool) {
    let (found, more) =
        search(tables, &query(typed), chat, before, limit, |_, _| Ok(true)).expect("searched");
    (found.into_iter().map(|(chat, message)| (message.time_ms, chat, message.seq)).collect(), more)
}

/// All that is found, page by page.
fn all<S: Tables>(tables: &S, typed: &str, chat: Option<u64>, limit: usize) -> Vec<Moment> {
    let mut found = Vec::new();
    loop {
        let (moments, more) = page(tables, typed, chat, found.last().copied(), limit);
        assert!(moments.len() == limit || !more, "a page is full if there are more");
        found.extend(moments);
        if !more {
            return found;
        }
    }
}

fn seqs<S: Tables>(store: &Records<S>, typed: &str) -> Vec<u64> {
    all(store.tables(), typed, None, 2).into_iter().map(|(_, _, seq)| seq).collect()
}

fn about(seq: u64, kind: v1::Kind, about: u64, text: &str) -> v1::Entry {
    v1::Entry { kind: kind.into(), about, ..entry(seq, text) }
}

fn words<S: Tables>(tables: impl Fn() -> S) {
    let (mut store, me) = registered(tables);
    let media =
        v1::Media { name: "x.jpg".into(), caption: "Ångström in Łódź".into(), ..Default::default() };
    let poll = v1::Poll { question: "Where shall we meet?".into(), ..Default::default() };
    let place = v1::Location { name: "明日東京へ行く".into(), ..Default::default() };
    let card = v1::ContactCard { name: "Ёлка".into(), ..Default::default() };
    let of_kind = |seq, kind: v1::Kind, body: Vec<u8>| v1::Entry {
        kind: kind.into(),
        body: body.into(),
        ..entry(seq, "")
    };
    let entries = [
        entry(1, "In der Straße"),
        entry(2, "Straßenbahn"),
        of_kind(3, v1::Kind::Media, prost::Message::encode_to_vec(&media)),
        of_kind(4, v1::Kind::Poll, prost::Message::encode_to_vec(&poll)),
        of_kind(5, v1::Kind::Location, prost::Message::encode_to_vec(&place)),
        of_kind(6, v1::Kind::Contact, prost::Message::encode_to_vec(&card)),
        of_kind(7, v1::Kind::Text, b"strasse \xff".to_vec()),
        about(8, v1::Kind::Reaction, 1, "strasse"),
        v1::Entry { kind: v1::Kind::Withheld.into(), ..entry(9, "") },
    ];
    for entry in &entries {
        store.take(entry, &me, 1).expect("taken");
    }
    let check = |typed: &str, expect: &[u64]| assert_eq!(seqs(&store, typed), expect, "{typed}");
    check("strasse", &[2, 1]);
    check("STRASSE ", &[1]);
    check("der strasse", &[1]);
    check("angstrom", &[3]);
    check("jpg", &[]);
    check("where meet", &[4]);
    check("東京", &[5]);
    check("京東", &[]);
    check("елка", &[6]);
}

over_both!(words, a_message_is_found_by_its_words_whatever_their_case_and_marks);

fn edited<S: Tables>(tables: impl Fn() -> S) {
    for seed in 0..20 {
        let (mut store, me) = registered(&tables);
        let entries = [
            entry(1, "the first word"),
            about(2, v1::Kind::Edit, 1, "a second one"),
            entry(3, "nothing of it"),
            about(4, v1::Kind::Edit, 1, "the third"),
            about(5, v1::Kind::Deletion, 3, ""),
        ];
        for seq in shuffled(seed, (1..=5).collect()) {
            store.take(&entries[seq as usize - 1], &me, 1).expect("taken");
        }
        let check = |store: &Records<S>, typed: &str, expect: &[u64]| {
            assert_eq!(seqs(store, typed), expect, "seed {seed}: {typed}");
        };
        check(&store, "third", &[1]);
        for gone in ["first", "second", "nothing"] {
            check(&store, gone, &[]);
        }
        // The server goes back behind the newest edit, then behind all.
        store.rewind(PEER, 3).expect("put back");
        check(&store, "third", &[]);
        check(&store, "second", &[1]);
        store.rewind(PEER, 1).expect("put back");
        check(&store, "first", &[1]);
        store.take(&v1::Entry { expires_ms: 100, ..entry(2, "for a while") }, &me, 1).expect("taken");
        check(&store, "while", &[2]);
        store.end(100).expect("it ends");
        check(&store, "while", &[]);
        store.rewind(PEER, 0).expect("put back");
        check(&store, "first", &[]);
    }
}

over_both!(edited, a_message_is_found_by_what_it_says_now_in_whatever_order_that_comes);

/// What is found by looking at everything.
fn looked_at(store: &Memory, query: &Query, chat: Option<u64>) -> Vec<Moment> {
    let mut found = Vec::new();
    for log in store.logs(Which::All(None), 9).expect("read") {
        let entries = store.entries(log.chat, 0, u64::MAX, 1000).expect("read");
        let messages = entries.iter().map(|entry| entry.clone().into_message(log.chat, ME));
        for message in messages.clone().filter(|message| message.kind.is_message() && !message.erased) {
            let mut standing = crate::Standing::new(message);
            messages.clone().for_each(|about| _ = standing.take(&about));
            let message = standing.message;
            let text = text_of(message.kind.number(), &message.body).unwrap_or_default();
            if query.matches(&text) && chat.is_none_or(|chat| chat == log.chat) {
                found.push((message.time_ms, log.chat, message.seq));
            }
        }
    }
    found.sort_unstable_by(|one, other| other.cmp(one));
    found
}

/// Something that may happen, by the same words again and again.
fn happens<S: Tables>(records: &mut Records<S>, me: &Account, random: &mut fastrand::Rng) {
    let (chat, seq) = ([PEER, GROUP][random.usize(..2)], random.u64(1..30));
    let text = ["hello there", "Hellö", "bonjour there", "東京 hello", "京 東"][random.usize(..5)];
    let kind = [v1::Kind::Text, v1::Kind::Text, v1::Kind::Text, v1::Kind::Edit, v1::Kind::Deletion];
    let kind = kind[random.usize(..5)];
    let of = if kind == v1::Kind::Text { 0 } else { random.u64(0..seq) };
    // A server that keeps to the protocol has an edit end with its message.
    let expires_ms = if random.u8(..4) == 0 { random.u64(1..500) } else { 0 };
    // Some times are the same.
    let at = v1::Entry { time_ms: seq / 3, chat, expires_ms, ..about(seq, kind, of, text) };
    match random.u8(..20) {
        0 => records.rewind(chat, seq).expect("put back"),
        1 => records.end(random.u64(..300)).expect("ended"),
        2 => drop(records.take(&v1::Entry { erased: true, ..at }, me, 1).expect("taken")),
        _ => drop(records.take(&at, me, 1).expect("taken")),
    }
}

#[test]
fn both_find_what_looking_at_everything_finds() {
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let ((mut store, me), (mut memory, _)) = (registered(sqlite), registered(memory));
        for _ in 0..60 {
            let step = random.fork().get_seed();
            happens(&mut store, &me, &mut fastrand::Rng::with_seed(step));
            happens(&mut memory, &me, &mut fastrand::Rng::with_seed(step));
            if random.u8(..10) == 0 {
                store.roll_back();
                memory.roll_back();
            } else if random.bool() {
                store.commit().expect("committed");
                memory.commit().expect("committed");
            }
            let (typed, limit) =
                (["hello", "th", "東京", "hello there"][random.usize(..4)], random.usize(1..9));
            for chat in [None, Some(PEER), Some(GROUP)] {
                let expect = looked_at(memory.tables(), &query(typed), chat);
                assert_eq!(all(memory.tables(), typed, chat, limit), expect, "seed {seed}: {typed}, memory");
                assert_eq!(all(store.tables(), typed, chat, limit), expect, "seed {seed}: {typed}, SQLite");
            }
            assert_eq!(
                store.tables().count_terms(),
                memory.tables().count_terms(),
                "seed {seed}: no more and no less"
            );
        }
    }
}

/// Messages of the measurement, and the chats that they are in.
const MEASURED: u64 = 100_000;
const CHATS: u64 = 100;

/// `cargo test --release -p tern-client --lib what_the_index_costs -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stdout, reason = "it is what it is for")]
fn what_the_index_costs() {
    let time = |work: &mut dyn FnMut()| {
        let started = Instant::now();
        work();
        started.elapsed()
    };
    for language in &corpus::LANGUAGES {
        let messages = language.messages(MEASURED as usize);
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut store = Store::open(dir.path()).expect("a store");
        store.change(Change::Device(&device())).expect("registered");
        Tables::commit(&mut store).expect("registered");
        let (mut store, me) = Records::open(store).expect("registered");
        let bytes: usize = messages.iter().map(String::len).sum();
        println!("{}: {MEASURED} messages, each of {} bytes", language.name, bytes as u64 / MEASURED);
        let kept = time(&mut || {
            for (at, text) in (0..).zip(&messages) {
                let (chat, seq) = (PEER + at % CHATS, 1 + at / CHATS);
                let time_ms = 1_700_000_000_000 + at * 1000;
                store.take(&v1::Entry { chat, time_ms, ..entry(seq, text) }, &me, 1).expect("taken");
                if at % 100 == 0 {
                    store.commit().expect("committed");
                }
            }
            store.commit().expect("committed");
        });
        println!("  to keep one: {:?}", kept / MEASURED as u32);
        for (table, bytes) in store.tables().table_bytes() {
            println!("  {table}: {:.1} bytes a message", bytes as f64 / MEASURED as f64);
        }
        let longest =
            |text: &String| text.split(' ').max_by_key(|word| word.chars().count()).map(str::to_owned);
        let rare = longest(&messages[500]).expect("a word");
        let common = messages[500].split(' ').find(|word| word.chars().count() >= 2);
        let common = common.map_or_else(|| messages[500].chars().take(2).collect(), str::to_owned);
        let start: String = common.chars().take(2).collect();
        for typed in [format!("{common} "), format!("{rare} "), start, format!("{common} {rare}")] {
            for chat in [None, Some(PEER)] {
                let mut count = 0;
                let page = |count: &mut usize| *count = page(store.tables(), &typed, chat, None, 50).0.len();
                page(&mut count);
                let took = (0..5).map(|_| time(&mut || page(&mut count))).min().unwrap_or(Duration::ZERO);
                let all =
                    store.tables().places(&query(&typed).needed(), chat, None, u32::MAX).expect("read").len();
                println!("  {typed:?} in {chat:?}: {count} of {all} in {took:?}");
            }
        }
        let erased = time(&mut || {
            for at in 0..1000 {
                let (chat, seq) = (PEER + at % CHATS, 1 + at / CHATS);
                store.rephrase(chat, seq, |store| store.change(Change::Erase { chat, seq })).expect("erased");
                store.commit().expect("committed");
            }
        });
        println!("  to erase one: {:?}", erased / 1000);
        store.tables().outdate_words();
        drop(store);
        let indexed = time(&mut || drop(Store::open(dir.path()).expect("a store")));
        println!("  to make the index anew: {indexed:?}");
    }
}
