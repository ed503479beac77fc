//! What is about a message, against a real server of several cores: replies, edits, deletions, reactions, polls, pins; and what becomes of
//! those that nobody may do.

use prost::Message as _;
use tern_proto::v1::{self, Kind, Reason, client_frame::Request, server_frame::Message};
use tern_testkit::person::{Person, people, role};
use tern_testkit::{Ternd, TerndOptions};

fn with_windows(edit_ms: u64, deletion_ms: u64) -> Ternd {
    let limits = [("edit_window_ms", edit_ms), ("deletion_window_ms", deletion_ms)];
    let arguments =
        limits.iter().flat_map(|(key, ms)| ["--limit".to_owned(), format!("{key}={ms}")]).collect();
    Ternd::start_with(TerndOptions { cores: 2, arguments, ..TerndOptions::default() })
}

/// The entry of a chat at a seq, as it is read now.
fn entry(person: &mut Person, chat: u64, seq: u64) -> v1::Entry {
    let history = v1::History { chat, from: seq - 1, forwards: true, limit: 1 };
    match person.ask(Request::History(history)) {
        Message::HistoryPage(page) => page.entries.into_iter().next().expect("it is there"),
        other => panic!("{other:?} and no page"),
    }
}

fn send(chat: u64, client_id: u64, text: &str) -> Request {
    let body = text.to_owned().into();
    Request::Send(v1::Send { chat, client_id, body, ..v1::Send::default() })
}

#[test]
fn a_reply_a_forwarded_message_and_one_that_mentions_say_so_to_everybody() {
    let server = Ternd::start(3);
    let [mut ann, mut bob, mut cyd] = people(&server);
    let group = ann.make("friends", vec![bob.user.id, cyd.user.id], v1::GroupSettings::default());
    let question = bob.say(group, "who is in?");
    let (client_id, mentions) = (ann.next_id(), vec![cyd.user.id, bob.user.id, cyd.user.id]);
    let reply = v1::Send {
        chat: group,
        client_id,
        body: "me, and these".into(),
        about: question,
        forwards: 2,
        mentions,
        ..v1::Send::default()
    };
    let Message::Sent(sent) = ann.ask(Request::Send(reply.clone())) else { panic!("it is sent") };
    let mut mentioned = vec![bob.user.id, cyd.user.id];
    mentioned.sort_unstable();
    cyd.hears(group, sent.seq);
    let heard = cyd.entries[&group].last().expect("it has come").clone();
    assert_eq!((heard.about, heard.forwards, heard.mentions.clone()), (question, 2, mentioned));
    let read = entry(&mut bob, group, sent.seq);
    assert_eq!(v1::Entry { chat: group, ..read }, heard);
    // A retry is known by all of it.
    let Message::Sent(again) = ann.ask(Request::Send(reply.clone())) else { panic!("it was sent") };
    assert_eq!(again.seq, sent.seq);
    let other = v1::Send { about: question + 1, ..reply };
    assert_eq!(ann.refused(Request::Send(other)), Reason::ClientIdReused);
    // There is nothing beyond the head to reply to.
    assert_eq!(ann.may_not_send(group, Kind::Text, sent.seq + 5, b"hm"), Reason::NoSuchMessage);
}

#[test]
fn an_edit_is_its_authors_alone_and_stays_beside_what_it_edits() {
    let server = Ternd::start(3);
    let [mut ann, mut bob] = people(&server);
    let said = ann.say(bob.user.id, "helo");
    bob.hears(ann.user.id, said);
    let edit = ann.sends(bob.user.id, Kind::Edit, said, b"hello");
    bob.hears(ann.user.id, edit);
    let heard = bob.entries[&ann.user.id].last().expect("it has come");
    assert_eq!((heard.kind(), heard.about, &heard.body[..]), (Kind::Edit, said, &b"hello"[..]));
    let read = entry(&mut bob, ann.user.id, said);
    assert_eq!((&read.body[..], read.edited_by), (&b"helo"[..], edit));
    assert_eq!(bob.may_not_send(ann.user.id, Kind::Edit, said, b"bye"), Reason::NotAllowed);
    assert_eq!(ann.may_not_send(bob.user.id, Kind::Edit, edit, b"hm"), Reason::NoSuchMessage);
    assert_eq!(ann.may_not_send(bob.user.id, Kind::Edit, edit + 1, b"hm"), Reason::NoSuchMessage);
    let poll = ann.sends(bob.user.id, Kind::Poll, 0, b"sealed");
    assert_eq!(ann.may_not_send(bob.user.id, Kind::Edit, poll, b"hm"), Reason::NotAllowed);
    for _ in 1..32 {
        ann.sends(bob.user.id, Kind::Edit, said, b"hello again");
    }
    assert_eq!(ann.may_not_send(bob.user.id, Kind::Edit, said, b"hm"), Reason::TooManyEdits);
    let head = ann.history(bob.user.id).head;
    assert_eq!(head, poll + 31, "nothing is left of what was refused");
}

#[test]
fn what_is_deleted_for_everyone_can_be_read_by_nobody_ever_after() {
    let mut server = Ternd::start(3);
    let [mut ann, mut bob] = people(&server);
    let (to_bob, to_ann) = (bob.user.id, ann.user.id);
    let retry = send(to_bob, ann.next_id(), "a secret");
    let Message::Sent(said) = ann.ask(retry.clone()) else { panic!("it is sent") };
    let edit = ann.sends(to_bob, Kind::Edit, said.seq, b"another secret");
    // So much later that neither is in memory.
    for _ in 0..40 {
        bob.say(to_ann, "well");
    }
    let second = ann.sends(to_bob, Kind::Edit, said.seq, b"a third secret");
    let deletion = ann.sends(to_bob, Kind::Deletion, said.seq, b"");
    bob.hears(to_ann, deletion);
    let heard = bob.entries[&to_ann].last().expect("it has come");
    assert_eq!((heard.kind(), heard.about, heard.body.len()), (Kind::Deletion, said.seq, 0));
    for round in 0..2 {
        for seq in [said.seq, edit, second] {
            let read = entry(&mut bob, to_ann, seq);
            assert!(read.erased && read.body.is_empty(), "{seq} in round {round}: {read:?}");
        }
        // It is deleted: nothing more is done to it.
        for kind in [Kind::Edit, Kind::Reaction] {
            assert_eq!(ann.may_not_send(to_bob, kind, said.seq, b"x"), Reason::MessageDeleted);
        }
        assert_eq!(ann.may_not_send(to_bob, Kind::Deletion, said.seq, b""), Reason::MessageDeleted);
        // A retry of the message is still the message that it was.
        let Message::Sent(again) = ann.ask(retry.clone()) else { panic!("it was sent") };
        assert_eq!((again.seq, again.time_ms), (said.seq, said.time_ms));
        if round == 0 {
            server.kill_and_restart();
            let sent = ann.sent;
            [ann, bob] = [ann, bob].map(|person| Person::new(&server, person.user));
            ann.sent = sent;
        }
    }
    // A device that comes now is not shown it either.
    bob.hears(to_ann, deletion);
    let secret = |entry: &&v1::Entry| entry.body.windows(6).any(|bytes| bytes == b"secret");
    assert_eq!(bob.entries[&to_ann].iter().find(secret), None);
}

#[test]
fn a_message_is_deleted_by_its_author_or_an_admin_of_its_group_and_by_nobody_else() {
    let server = Ternd::start(3);
    let [mut ann, mut bob, mut cyd, mut eve] = people(&server);
    let group = ann.make("friends", vec![bob.user.id, cyd.user.id], v1::GroupSettings::default());
    let said = bob.say(group, "oh");
    assert_eq!(cyd.may_not_send(group, Kind::Deletion, said, b""), Reason::NotAllowed);
    assert_eq!(eve.may_not_send(group, Kind::Deletion, said, b""), Reason::UnknownGroup);
    assert_eq!(ann.may_not_send(group, Kind::Deletion, 1, b""), Reason::NoSuchMessage, "that made the group");
    ann.changes(group, role(&cyd, v1::Role::Admin));
    cyd.sends(group, Kind::Deletion, said, b"");
    assert!(entry(&mut ann, group, said).erased);
    let said = cyd.say(group, "ah");
    assert_eq!(bob.may_not_send(group, Kind::Deletion, said, b""), Reason::NotAllowed);
    // Who may say nothing any more still takes back what was said, and reacts.
    let said = bob.say(group, "hm");
    let senders = v1::Who::Admins.into();
    let quiet = v1::GroupSettings { senders, editors: senders, ..v1::GroupSettings::default() };
    ann.changes(group, tern_proto::v1::group_change::Change::Settings(quiet));
    assert_eq!(bob.may_not_send(group, Kind::Edit, said, b"x"), Reason::NotAllowed);
    assert_eq!(bob.may_not_send(group, Kind::Pin, said, b""), Reason::NotAllowed);
    bob.sends(group, Kind::Reaction, said, "👍".as_bytes());
    cyd.sends(group, Kind::Pin, said, b"");
    bob.sends(group, Kind::Deletion, said, b"");
    let between = eve.say(ann.user.id, "between us");
    assert_eq!(ann.may_not_send(eve.user.id, Kind::Deletion, between, b""), Reason::NotAllowed);
}

#[test]
fn what_is_too_old_is_neither_edited_nor_deleted() {
    let server = with_windows(0, 0);
    let [mut ann, bob] = people(&server);
    let said = ann.say(bob.user.id, "hello");
    for kind in [Kind::Edit, Kind::Deletion] {
        let body: &[u8] = if kind == Kind::Edit { b"x" } else { b"" };
        let refused = loop {
            // Until a millisecond has passed it is not too old.
            let send = ann.new_send(bob.user.id, kind, said, body);
            match ann.ask(send) {
                Message::Refused(refused) => break refused.reason(),
                _ if kind == Kind::Deletion => panic!("a millisecond had passed"),
                _ => {}
            }
        };
        assert_eq!(refused, Reason::TooLate);
    }
    assert!(!entry(&mut ann, bob.user.id, said).erased);
    // And who asks how long it is, is told.
    let mut raw = tern_testkit::Raw::connect(&server);
    let hello = v1::Hello { version_min: 1, version_max: 1, ..v1::Hello::default() };
    let Some(Message::Welcome(welcome)) = raw.ask(Request::Hello(hello)) else { panic!("a welcome") };
    let limits = welcome.limits.expect("they are told");
    assert_eq!((limits.edit_window_ms, limits.deletion_window_ms), (0, 0));
}

#[test]
fn reactions_votes_and_pins_are_about_messages_that_are_there() {
    let server = Ternd::start(3);
    let [mut ann, mut bob] = people(&server);
    let chat = bob.user.id;
    assert_eq!(
        ann.may_not_send(chat, Kind::Reaction, 1, b"x"),
        Reason::NoSuchMessage,
        "nothing was ever said"
    );
    let poll =
        v1::Poll { question: "when?".into(), answers: vec!["now".into(), "then".into()], choices_max: 1 };
    let poll = ann.sends(chat, Kind::Poll, 0, &poll.encode_to_vec());
    let text = ann.say(chat, "well?");
    let vote = v1::Vote { answers: vec![1] }.encode_to_vec();
    let voted = bob.sends(ann.user.id, Kind::Vote, poll, &vote);
    ann.hears(chat, voted);
    let heard = ann.entries[&chat].last().expect("it has come");
    assert_eq!((heard.kind(), heard.about, &heard.body[..]), (Kind::Vote, poll, &vote[..]));
    assert_eq!(bob.may_not_send(ann.user.id, Kind::Vote, text, &vote), Reason::NoSuchMessage);
    let reaction = bob.sends(ann.user.id, Kind::Reaction, text, "🙂".as_bytes());
    assert_eq!(ann.may_not_send(chat, Kind::Reaction, reaction, b"x"), Reason::NoSuchMessage);
    assert_eq!(ann.may_not_send(chat, Kind::Pin, reaction + 9, b""), Reason::NoSuchMessage);
    bob.sends(ann.user.id, Kind::Reaction, text, b"");
    bob.sends(ann.user.id, Kind::Pin, text, b"");
    bob.sends(ann.user.id, Kind::Unpin, text, b"");
}

#[test]
fn who_came_later_does_nothing_to_what_was_said_before() {
    let server = Ternd::start(3);
    let [mut ann, bob, mut cyd] = people(&server);
    let group = ann.make("friends", vec![bob.user.id], v1::GroupSettings::default());
    let before = ann.say(group, "before");
    let came = ann.changes(group, tern_testkit::person::added(&[&cyd]));
    let after = ann.say(group, "after");
    for kind in [Kind::Reaction, Kind::Text] {
        assert_eq!(cyd.may_not_send(group, kind, before, b"x"), Reason::NoSuchMessage);
    }
    cyd.sends(group, Kind::Reaction, after, b"x");
    // Who is gone does nothing any more.
    ann.changes(group, tern_proto::v1::group_change::Change::Removed(cyd.user.id));
    assert_eq!(cyd.may_not_send(group, Kind::Reaction, after, b"x"), Reason::NotAMember);
    assert!(came < after);
}

#[test]
fn what_is_about_a_message_does_not_count_as_unread() {
    let mut server = Ternd::start(3);
    let [mut ann, mut bob] = people(&server);
    let group = ann.make("friends", vec![bob.user.id], v1::GroupSettings::default());
    for chat in [bob.user.id, group] {
        let from = if chat == group { group } else { ann.user.id };
        let first = ann.say(chat, "one");
        bob.acknowledges(from, first, first);
        bob.sends(from, Kind::Reaction, first, b"!");
        let second = ann.say(chat, "two");
        ann.sends(chat, Kind::Edit, second, b"two!");
        ann.sends(chat, Kind::Reaction, first, b"?");
        ann.sends(chat, Kind::Pin, second, b"");
        bob.say(from, "and I say");
        ann.sends(chat, Kind::Poll, 0, b"three");
        ann.sends(chat, Kind::Deletion, second, b"");
    }
    let unread = |bob: &mut Person, chat| bob.listed(chat).expect("a chat").unread;
    let chats = [ann.user.id, group];
    assert_eq!(chats.map(|chat| unread(&mut bob, chat)), [2, 2]);
    server.kill_and_restart();
    bob = Person::new(&server, bob.user);
    assert_eq!(chats.map(|chat| unread(&mut bob, chat)), [2, 2]);
}
