//! Messages that are kept for some time alone, against a real server of several cores: what is too old goes, through kills, and leaves a
//! store that is whole; what somebody has not received stays.

use std::process::Command;

use tern_proto::v1::{self, client_frame::Request, server_frame::Message};
use tern_testkit::person::{Person, people};
use tern_testkit::{Raw, Ternd, TerndOptions, TestUser, program};

fn keeping(history_ms: u64) -> Ternd {
    let arguments = vec!["--limit".to_owned(), format!("history_ms={history_ms}")];
    Ternd::start_with(TerndOptions { cores: 3, arguments, ..TerndOptions::default() })
}

/// The page behind a seq.
fn page(person: &mut Person, chat: u64, from: u64) -> v1::HistoryPage {
    match person.ask(Request::History(v1::History { chat, from, forwards: true, limit: 0 })) {
        Message::HistoryPage(page) => page,
        other => panic!("{other:?} and no page"),
    }
}

/// Asks until a chat begins at an entry, and nothing that is left says anything.
fn until_begins(person: &mut Person, chat: u64, first: u64) {
    loop {
        let page = page(person, chat, 0);
        let is_empty = page.entries.iter().all(|entry| entry.body.is_empty());
        if page.first == first && is_empty {
            assert_eq!(page.entries.first().map(|entry| entry.seq), Some(first));
            return;
        }
        assert!(page.first <= first, "it begins at {}", page.first);
        std::thread::yield_now();
    }
}

/// A store that no server has open is whole, says the operators' tool.
fn assert_whole(server: &mut Ternd) {
    server.terminate();
    let store = server.data_dir().join("store");
    let checked = Command::new(program("ternctl")).arg("check").arg(store).output().expect("ternctl runs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    server.start_again();
}

#[test]
fn what_all_have_received_goes_when_it_is_too_old_and_what_somebody_has_not_stays() {
    let mut server = keeping(1_000);
    let [mut ann, mut bob, mut cyd] = people(&server);
    let group = ann.make("friends", vec![bob.user.id, cyd.user.id], v1::GroupSettings::default());
    let (to_bob, to_cyd, to_ann) = (bob.user.id, cyd.user.id, ann.user.id);
    let mut last = (0, 0);
    for number in 0..300 {
        last = (ann.say(to_bob, &format!("to one {number}")), ann.say(group, &format!("to all {number}")));
    }
    let kept = ann.say(to_cyd, "not received");
    bob.acknowledges(to_ann, last.0, 100);
    for person in [&mut bob, &mut cyd] {
        person.acknowledges(group, last.1, 100);
    }
    ann.acknowledges(group, last.1, 100);
    server.kill_and_restart();
    [ann, bob, cyd] = [ann, bob, cyd].map(|person| Person::new(&server, person.user));
    // The newest entry of a chat stays as a place, and as many of a group as it is made again from.
    until_begins(&mut bob, to_ann, last.0);
    until_begins(&mut bob, group, last.1 - 63);
    let page = page(&mut cyd, to_ann, 0);
    assert_eq!((page.first, page.entries.len(), page.entries[0].seq), (0, 1, kept), "it is for a month");
    // All but the newest, and but for the group's first entry as many of the group.
    let (removed, erased) =
        (server.metric("tern_entries_removed_total"), server.metric("tern_entries_erased_total"));
    assert!(
        removed <= 299 + 237 && erased <= 1 + 64,
        "{removed} removed and {erased} erased since the start"
    );
    assert_whole(&mut server);
    [ann, bob, cyd] = [ann, bob, cyd].map(|person| Person::new(&server, person.user));
    // It goes on, and what is left is counted: beyond what was read nothing is left but the newest.
    assert_eq!(bob.listed(to_ann).expect("a chat").unread, 1);
    assert_eq!(ann.say(to_bob, "and on"), last.0 + 1);
    assert_eq!(ann.say(group, "and on"), last.1 + 1);
    bob.hears(to_ann, last.0 + 1);
    assert_eq!(bob.listed(to_ann).expect("a chat").unread, 2);
    assert_eq!(cyd.listed(group).expect("a chat").unread, 64 + 1);
    // A device that comes now is told where it all begins.
    let session = Raw::registered(&server, &bob.user.phone, "");
    let user = TestUser { token: session.access_token, ..bob.user.clone() };
    let mut laptop = Person::new(&server, user);
    laptop.hears(to_ann, last.0 + 1);
    laptop.hears(group, last.1 + 1);
    assert!(laptop.begins[&to_ann] >= last.0 && laptop.seqs(to_ann)[0] == laptop.begins[&to_ann]);
    assert!(laptop.seqs(group).is_sorted());
    // What is gone can't be spoken of.
    let reply = v1::Send { chat: to_bob, client_id: 5_000, body: "x".into(), about: 5, ..Default::default() };
    assert_eq!(ann.refused(Request::Send(reply)), v1::Reason::NoSuchMessage);
}

#[test]
fn a_chat_is_cut_in_pieces_and_whole_whenever_the_server_is_killed() {
    let mut server = keeping(1_000);
    let [mut ann, mut bob] = people(&server);
    let (to_bob, to_ann) = (bob.user.id, ann.user.id);
    let mut last = 0;
    for number in 0..3_000 {
        last = ann.say(to_bob, &format!("number {number}"));
    }
    bob.acknowledges(to_ann, last, last);
    for _ in 0..6 {
        server.kill_and_restart();
        bob = Person::new(&server, bob.user);
        // It can be read from where it begins, without a hole.
        let page = page(&mut bob, to_ann, 0);
        let seqs: Vec<_> = page.entries.iter().map(|entry| entry.seq).collect();
        assert_eq!(seqs.first().copied(), Some(page.first.max(1)));
        assert!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{seqs:?}");
    }
    until_begins(&mut bob, to_ann, last);
    assert_whole(&mut server);
    bob = Person::new(&server, bob.user);
    assert_eq!(page(&mut bob, to_ann, 0).entries.len(), 1);
    assert_eq!(bob.say(to_ann, "well"), last + 1);
}
