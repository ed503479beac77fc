//! Messages that disappear, against a real server of several cores: by the clock of their chat's owner, wherever they lie, through kills.

use prost::Message as _;
use tern_proto::v1::{self, Kind, Reason, client_frame::Request, server_frame::Message};
use tern_testkit::Ternd;
use tern_testkit::person::{Person, people};

const AFTER_MS: u64 = 1_000;

fn timer(after_ms: u64) -> Vec<u8> {
    v1::Timer { after_ms }.encode_to_vec()
}

/// Says something, and gives what it is answered with.
fn sent(person: &mut Person, chat: u64, kind: Kind, about: u64, body: &str) -> v1::Sent {
    let send = person.new_send(chat, kind, about, body.as_bytes());
    match person.ask(send) {
        Message::Sent(sent) => sent,
        other => panic!("{other:?}, and not sent"),
    }
}

/// All that a chat has, by seq.
fn all(person: &mut Person, chat: u64) -> Vec<v1::Entry> {
    let history = v1::History { chat, from: 0, forwards: true, limit: 0 };
    match person.ask(Request::History(history)) {
        Message::HistoryPage(page) => page.entries,
        other => panic!("{other:?} and no page"),
    }
}

/// Asks until an entry is erased.
fn until_erased(person: &mut Person, chat: u64, seqs: &[u64]) {
    loop {
        let all = all(person, chat);
        let erased = |seq: &u64| all.iter().any(|entry| entry.seq == *seq && entry.erased);
        if seqs.iter().all(erased) {
            assert!(all.iter().filter(|entry| entry.erased).all(|entry| entry.body.is_empty()));
            return;
        }
        std::thread::yield_now();
    }
}

#[test]
fn what_disappears_is_erased_with_its_edits_and_reactions_and_what_was_said_before_stays() {
    let server = Ternd::start(3);
    let [mut ann, mut bob, cyd] = people(&server);
    let group = ann.make("friends", vec![bob.user.id, cyd.user.id], v1::GroupSettings::default());
    for (chat, from) in [(bob.user.id, ann.user.id), (group, group)] {
        let stays = ann.say(chat, "this stays");
        let set = bob.sends(from, Kind::Timer, 0, &timer(AFTER_MS));
        let said = sent(&mut ann, chat, Kind::Text, 0, "a secret");
        assert_eq!(said.expires_ms, said.time_ms + AFTER_MS);
        let edit = sent(&mut ann, chat, Kind::Edit, said.seq, "another secret");
        let reaction = sent(&mut bob, from, Kind::Reaction, said.seq, "!");
        assert_eq!([edit.expires_ms, reaction.expires_ms], [said.expires_ms; 2], "they end with the message");
        // What is about a message that stays, stays.
        let late = sent(&mut bob, from, Kind::Reaction, stays, "?");
        assert_eq!(late.expires_ms, 0);
        bob.hears(from, said.seq);
        let heard = bob.entries[&from].iter().find(|entry| entry.seq == said.seq).expect("it has come");
        assert_eq!(heard.expires_ms, said.expires_ms);
        until_erased(&mut bob, from, &[said.seq, edit.seq, reaction.seq]);
        assert_eq!(bob.may_not_send(from, Kind::Reaction, said.seq, b"!"), Reason::MessageDeleted);
        for entry in all(&mut bob, from) {
            let stays = [stays, set, late.seq].contains(&entry.seq) || entry.kind() == Kind::Group;
            assert_eq!(entry.erased, !stays, "{entry:?}");
        }
        // A retry is known by its number alone.
        let again = v1::Send { chat, client_id: ann.sent - 1, body: "a secret".into(), ..Default::default() };
        let Message::Sent(again) = ann.ask(Request::Send(again)) else { panic!("it was sent") };
        assert_eq!(again, said);
    }
}

#[test]
fn what_was_due_while_the_server_was_away_is_erased_when_it_is_back() {
    let mut server = Ternd::start(3);
    let [mut ann, mut bob] = people(&server);
    let (to_bob, to_ann) = (bob.user.id, ann.user.id);
    ann.sends(to_bob, Kind::Timer, 0, &timer(AFTER_MS));
    let seqs: Vec<_> = (0..50).map(|_| ann.say(to_bob, "a secret")).collect();
    server.kill_and_restart();
    [ann, bob] = [ann, bob].map(|person| Person::new(&server, person.user));
    until_erased(&mut bob, to_ann, &seqs);
    // So much later that none of them is in memory; and that they are gone does not change what is unread.
    assert_eq!(bob.listed(to_ann).expect("a chat").unread, 50);
    server.kill_and_restart();
    ann = Person::new(&server, ann.user);
    assert!(all(&mut ann, to_bob).iter().filter(|entry| seqs.contains(&entry.seq)).all(|entry| entry.erased));
}

#[test]
fn the_timer_is_told_and_set_by_those_who_may_and_ends_with_off() {
    let server = Ternd::start(3);
    let [mut ann, mut bob, mut eve] = people(&server);
    let editors = v1::Who::Admins.into();
    let settings = v1::GroupSettings { editors, ..v1::GroupSettings::default() };
    let group = ann.make("friends", vec![bob.user.id], settings);
    const DAY_MS: u64 = 86_400_000;
    assert_eq!(bob.may_not_send(group, Kind::Timer, 0, &timer(DAY_MS)), Reason::NotAllowed);
    assert_eq!(eve.may_not_send(group, Kind::Timer, 0, &timer(DAY_MS)), Reason::UnknownGroup);
    for body in [timer(1), timer(366 * DAY_MS), b"\xff".to_vec()] {
        assert_eq!(ann.may_not_send(group, Kind::Timer, 0, &body), Reason::InvalidArgument);
    }
    assert_eq!(sent(&mut bob, group, Kind::Text, 0, "it stays").expires_ms, 0, "nothing has changed");
    ann.sends(group, Kind::Timer, 0, &timer(DAY_MS));
    assert_eq!((bob.about(group).timer_ms, bob.listed(group).expect("a chat").timer_ms), (DAY_MS, DAY_MS));
    let said = sent(&mut bob, group, Kind::Text, 0, "it goes");
    assert_eq!(said.expires_ms, said.time_ms + DAY_MS);
    // A chat may begin with it.
    eve.sends(ann.user.id, Kind::Timer, 0, &timer(DAY_MS));
    assert_eq!(ann.listed(eve.user.id).expect("a chat").timer_ms, DAY_MS);
    assert!(sent(&mut ann, eve.user.id, Kind::Text, 0, "hi").expires_ms > 0);
    ann.sends(group, Kind::Timer, 0, &timer(0));
    assert_eq!((bob.about(group).timer_ms, bob.listed(group).expect("a chat").timer_ms), (0, 0));
    assert_eq!(sent(&mut bob, group, Kind::Text, 0, "it stays").expires_ms, 0);
}
