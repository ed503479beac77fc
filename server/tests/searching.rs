//! What the server finds by words, against a real one of several cores: all that one may see and that says so now, the newest first, and
//! nothing else, whatever of it is in the index; through kills.

use prost::Message as _;
use tern_proto::v1::{self, Kind, Reason, client_frame::Request, private::What, server_frame::Message};
use tern_testkit::person::{Person, people};
use tern_testkit::{Raw, Ternd, TerndOptions, TestUser};

const PRIVATE: u64 = 1 << 43;

/// A server whose index has runs so short that they are filled, and become longer ones.
fn server(limits: &[&str]) -> Ternd {
    let limits = ["search_run_entries=4", "words_erased_every_ms=1000", "searches_per_minute_max=0"]
        .iter()
        .chain(limits);
    let arguments = limits.flat_map(|limit| ["--limit".to_owned(), (*limit).to_owned()]).collect();
    Ternd::start_with(TerndOptions { cores: 4, arguments, ..TerndOptions::default() })
}

fn search(query: &str, chat: u64, after: Option<v1::FoundUpTo>, limit: u32) -> Request {
    Request::Search(v1::Search { query: query.to_owned(), chat, after, limit })
}

/// All that somebody finds, by pages of so many: what it says.
fn finds_by(person: &mut Person, query: &str, chat: u64, limit: u32) -> Vec<String> {
    let (mut texts, mut after) = (Vec::new(), None);
    loop {
        let Message::Found(found) = person.ask(search(query, chat, after, limit)) else { panic!("nothing") };
        for v1::Hit { message, edit } in found.hits {
            let message = message.expect("a hit has a message");
            assert!(chat == 0 || message.chat == chat);
            let says = edit.as_ref().unwrap_or(&message);
            texts.push(String::from_utf8(says.body.to_vec()).expect("a text"));
        }
        after = found.next;
        if after.is_none() {
            return texts;
        }
    }
}

fn finds(person: &mut Person, query: &str, chat: u64) -> Vec<String> {
    let all = finds_by(person, query, chat, 0);
    assert_eq!(finds_by(person, query, chat, 2), all, "whatever a page has");
    all
}

#[test]
fn messages_are_found_by_words_in_a_chat_and_in_all_the_newest_first_and_after_a_kill() {
    let mut server = server(&[]);
    let [mut ann, mut bob, mut cyd] = people(&server);
    let settings = v1::GroupSettings { shows_history: true, ..v1::GroupSettings::default() };
    let group = ann.make("friends", vec![bob.user.id], settings);
    for number in 0..40 {
        let chat = if number % 2 == 0 { group } else { bob.user.id };
        ann.say(chat, &format!("Straße number{number} Ångström"));
    }
    ann.say(group, "at the strand");
    let check = |bob: &mut Person, cyd: &mut Person| {
        let all = finds(bob, "strasse", 0);
        assert_eq!(all.len(), 40);
        let of_group = finds(bob, "strasse angs", group);
        let expected = (0..20).rev().map(|at| format!("Straße number{} Ångström", 2 * at));
        assert_eq!(of_group, expected.collect::<Vec<_>>(), "the newest first");
        assert_eq!(finds(bob, "stra", group).len(), 21, "the beginning of a word");
        assert_eq!(finds(bob, "strasse", ann.user.id).len(), 20);
        assert_eq!(finds(bob, "number17 ", 0), ["Straße number17 Ångström"]);
        assert_eq!(finds(bob, "number17 strand", 0), [""; 0]);
        assert_eq!(finds(bob, "nowhere", 0), [""; 0]);
        // Who is no member of the group finds nothing of it.
        assert_eq!(finds(cyd, "strasse", 0), [""; 0]);
        assert_eq!(finds(cyd, "strasse", ann.user.id), [""; 0], "they have no chat");
        assert_eq!(cyd.refused(search("strasse", group, None, 0)), Reason::UnknownGroup);
    };
    check(&mut bob, &mut cyd);
    server.kill_and_restart();
    let (mut bob, mut cyd) = (Person::new(&server, bob.user), Person::new(&server, cyd.user));
    check(&mut bob, &mut cyd);
}

#[test]
fn what_was_deleted_has_ended_reads_otherwise_or_is_blocked_is_not_found() {
    let server = server(&[]);
    let [mut ann, mut bob, mut cyd, mut dan] = people(&server);
    let (to_bob, of_ann) = (bob.user.id, ann.user.id);
    let deleted = ann.say(to_bob, "treasure one");
    let edited = ann.say(to_bob, "treasure two");
    ann.say(to_bob, "treasure three");
    for number in 0..20 {
        ann.say(to_bob, &format!("of no interest {number}"));
    }
    assert_eq!(finds(&mut bob, "treasure", 0).len(), 3);
    ann.sends(to_bob, Kind::Deletion, deleted, b"");
    assert_eq!(finds(&mut bob, "treasure", 0), ["treasure three", "treasure two"], "at once");
    ann.sends(to_bob, Kind::Edit, edited, b"nothing of it");
    assert_eq!(finds(&mut bob, "treasure", of_ann), ["treasure three"]);
    assert_eq!(finds(&mut bob, "nothing of", of_ann), ["nothing of it"], "by its newest edit");
    let blocked = v1::Blocked { user_id: of_ann, off: false };
    let blocks = v1::Private { what: Some(What::Blocked(blocked)) }.encode_to_vec();
    bob.sends(PRIVATE, Kind::Private, 0, &blocks);
    ann.say(to_bob, "treasure four");
    ann.sends(to_bob, Kind::Edit, edited, b"treasure five");
    assert_eq!(finds(&mut bob, "treasure", 0), ["treasure three"], "what is withheld is nothing to them");
    assert_eq!(finds(&mut bob, "nothing of", of_ann), ["nothing of it"]);
    assert_eq!(finds(&mut ann, "treasure", 0), ["treasure five", "treasure four", "treasure three"]);
    cyd.sends(dan.user.id, Kind::Timer, 0, &v1::Timer { after_ms: 1000 }.encode_to_vec());
    cyd.say(dan.user.id, "treasure six");
    while !finds_by(&mut dan, "treasure", 0, 2).is_empty() {
        std::thread::yield_now();
    }
}

#[test]
fn who_comes_later_finds_what_they_may_see_and_who_is_gone_nothing_new() {
    let server = server(&[]);
    let [mut ann, mut bob, mut cyd] = people(&server);
    let group = ann.make("friends", vec![bob.user.id], v1::GroupSettings::default());
    for number in 0..20 {
        ann.say(group, &format!("before {number}"));
    }
    ann.changes(group, tern_testkit::person::added(&[&cyd]));
    for number in 0..20 {
        ann.say(group, &format!("after {number}"));
    }
    assert_eq!(finds(&mut cyd, "before", group), [""; 0], "the group shows no history");
    assert_eq!(finds(&mut cyd, "after", 0).len(), 20);
    ann.changes(group, v1::group_change::Change::Removed(bob.user.id));
    ann.say(group, "behind bob's back");
    assert_eq!(finds(&mut bob, "behind", 0), [""; 0]);
    assert_eq!(finds(&mut bob, "before", 0).len(), 20, "what they saw they find");
    assert_eq!(finds(&mut cyd, "behind", 0).len(), 1);
}

#[test]
fn bad_queries_are_refused_with_a_reason() {
    let server = server(&["searches_per_minute_max=30"]);
    let [mut ann, bob] = people(&server);
    let long = "x".repeat(257);
    for query in ["", "a", "x yz", "?!", long.as_str(), &"ab ".repeat(17)] {
        assert_eq!(ann.refused(search(query, 0, None, 0)), Reason::InvalidArgument, "{query:?}");
    }
    assert_eq!(ann.refused(search("text", PRIVATE, None, 0)), Reason::InvalidArgument);
    let nowhere = v1::FoundUpTo { time_ms: u64::MAX, chat: 0, seq: 7 };
    assert_eq!(ann.refused(search("text", 0, Some(nowhere), 0)), Reason::InvalidArgument);
    // What is well-formed, and of nothing that is there, finds nothing.
    for (time_ms, seq) in [(0, 0), (u64::MAX, u64::MAX), (1, u64::MAX)] {
        let after = v1::FoundUpTo { time_ms, chat: bob.user.id, seq };
        let answer = ann.ask(search("text", bob.user.id, Some(after), u32::MAX));
        assert!(matches!(answer, Message::Found(found) if found == v1::Found::default()));
    }
    // An account has so many pages, on all its connections together.
    let token = Raw::registered(&server, &ann.user.phone, "").access_token;
    let mut again = Person::new(&server, TestUser { token, ..ann.user.clone() });
    let mut pages = 3;
    while let Message::Found(_) = [&mut ann, &mut again][pages % 2].ask(search("text", 0, None, 0)) {
        pages += 1;
    }
    assert_eq!(pages, 30);
    for connection in [&mut ann, &mut again] {
        assert_eq!(connection.refused(search("text", 0, None, 0)), Reason::RateLimited);
    }
}

#[test]
fn a_server_of_encrypted_chats_does_not_search() {
    let server = server(&["search_run_entries=0"]);
    let [mut ann, bob] = people(&server);
    ann.say(bob.user.id, "hello");
    assert_eq!(ann.refused(search("hello", 0, None, 0)), Reason::Unimplemented);
}
