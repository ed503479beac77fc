//! What is read on one device is known to all others after `CaughtUp`, those that were away included: against a real server of several
//! cores.

use std::collections::BTreeMap;

use tern_proto::v1::{self, client_frame::Request, server_frame::Message};
use tern_testkit::person::Person;
use tern_testkit::{Raw, Ternd, TerndOptions, TestUser};

/// How often it is tried whether marks are cleared.
const ROUNDS_MAX: usize = 100;

/// A new device of a phone.
fn device(server: &Ternd, phone: &str) -> TestUser {
    let session = Raw::registered(server, phone, "");
    TestUser { id: session.user_id, phone: phone.to_owned(), token: session.access_token }
}

/// A device that comes, what it is told of its own person's reading until it has caught up, and how many entries.
fn comes(server: &Ternd, user: &TestUser) -> (Person, BTreeMap<u64, u64>, usize) {
    let mut person = Person::new(server, user.clone());
    let (mut read, mut entries) = (BTreeMap::new(), 0);
    loop {
        match person.raw.receive().expect("it is caught up").message {
            Some(Message::CaughtUp(_)) => return (person, read, entries),
            Some(Message::Receipt(receipt)) if receipt.member == user.id => {
                read.insert(receipt.chat, receipt.read_upto);
            }
            Some(Message::Entry(_)) => entries += 1,
            _ => {}
        }
    }
}

fn acknowledges(person: &mut Person, chat: u64, delivered_upto: u64, read_upto: u64) {
    let acknowledge = v1::Acknowledge { chat, delivered_upto, read_upto };
    assert!(matches!(person.ask(Request::Acknowledge(acknowledge)), Message::Acknowledged(_)));
}

#[test]
fn a_device_that_was_away_is_told_what_was_read_until_it_says_that_it_knows() {
    let mut server = Ternd::start(3);
    let [phone, tablet] = ["+15550002", "+15550002"].map(|phone| device(&server, phone));
    let mut ann = comes(&server, &device(&server, "+15550001")).0;
    let (direct, bob) = (ann.user.id, phone.id);
    let group = ann.make("friends", vec![bob], v1::GroupSettings::default());
    for text in ["one", "two"] {
        ann.say(bob, text);
        ann.say(group, text);
    }
    // The tablet has everything, and goes away.
    let (mut away, read, entries) = comes(&server, &tablet);
    assert_eq!((read, entries), (BTreeMap::new(), 5));
    acknowledges(&mut away, direct, 2, 0);
    acknowledges(&mut away, group, 3, 0);
    drop(away);
    let (mut reader, ..) = comes(&server, &phone);
    acknowledges(&mut reader, direct, 2, 2);
    acknowledges(&mut reader, group, 3, 3);
    let both = BTreeMap::from([(direct, 2), (group, 3)]);
    for is_killed in [false, true] {
        if is_killed {
            server.kill_and_restart();
        }
        let (mut back, read, entries) = comes(&server, &tablet);
        assert_eq!((&read, entries), (&both, 0), "after a kill: {is_killed}");
        let unread: Vec<_> = [direct, group].map(|chat| back.listed(chat).expect("a chat").unread).into();
        assert_eq!(unread, [0, 0]);
        if is_killed {
            // It says that it knows of the one.
            acknowledges(&mut back, direct, 2, 2);
        }
    }
    let (mut back, read, _) = comes(&server, &tablet);
    assert_eq!(read, BTreeMap::from([(group, 3)]), "of the other it has not said so");
    acknowledges(&mut back, group, 0, 3);
    let (_, read, _) = comes(&server, &tablet);
    assert_eq!(read, BTreeMap::new());
    // Who has read it needs not be told.
    let (_, read, _) = comes(&server, &phone);
    assert_eq!(read, BTreeMap::new());
}

/// A device that comes back where nothing has happened costs reads of its account and of its inbox, and none for a chat.
#[test]
fn coming_back_to_many_quiet_groups_reads_none_of_them() {
    const GROUPS: u64 = 200;
    let arguments = ["--limit", "mark_quiet_ms=1"].map(str::to_owned).into();
    let mut server = Ternd::start_with(TerndOptions { cores: 3, arguments, ..TerndOptions::default() });
    let mut ann = comes(&server, &device(&server, "+15550001")).0;
    let phone = device(&server, "+15550002");
    let (mut bob, ..) = comes(&server, &phone);
    let make = |number| ann.make(&format!("group {number}"), vec![phone.id], v1::GroupSettings::default());
    let groups: Vec<_> = (0..GROUPS).map(make).collect();
    groups.iter().for_each(|chat| bob.hears(*chat, 1));
    let acknowledge =
        |chat: &u64| Request::Acknowledge(v1::Acknowledge { chat: *chat, delivered_upto: 1, read_upto: 1 });
    let mut waits: Vec<_> = groups.iter().map(|chat| bob.raw.send(acknowledge(chat))).collect();
    while !waits.is_empty() {
        let answered = bob.raw.receive().expect("all are answered").id;
        waits.retain(|id| *id != answered);
    }
    // Marks are cleared when a log is quiet: until then it is asked for what is missing of it.
    let mut reads = u64::MAX;
    for _ in 0..ROUNDS_MAX {
        server.kill_and_restart();
        let before = server.metric("tern_store_reads_total");
        let (_, read, entries) = comes(&server, &phone);
        assert_eq!((read, entries), (BTreeMap::new(), 0));
        reads = reads.min(server.metric("tern_store_reads_total") - before);
        if reads < GROUPS / 10 {
            return;
        }
    }
    panic!("{reads} reads at least");
}

#[test]
fn a_device_that_lacks_entries_is_told_what_was_read_of_them_behind_them() {
    let server = Ternd::start(3);
    let [phone, tablet] = ["+15550002", "+15550002"].map(|phone| device(&server, phone));
    let mut ann = comes(&server, &device(&server, "+15550001")).0;
    let (direct, bob) = (ann.user.id, phone.id);
    for number in 0..40 {
        ann.say(bob, &format!("message {number}"));
    }
    let (mut reader, ..) = comes(&server, &phone);
    acknowledges(&mut reader, direct, 40, 33);
    for _ in 0..2 {
        let (mut back, read, entries) = comes(&server, &tablet);
        assert_eq!((read, entries), (BTreeMap::from([(direct, 33)]), 40));
        assert_eq!(back.listed(direct).expect("a chat").unread, 7);
    }
    // It says that it has the entries, but not that it knows what was read: it is told that alone.
    let (mut back, ..) = comes(&server, &tablet);
    acknowledges(&mut back, direct, 40, 0);
    let (_, read, entries) = comes(&server, &tablet);
    assert_eq!((read, entries), (BTreeMap::from([(direct, 33)]), 0));
    // One that is linked later hears of it too.
    let (_, read, entries) = comes(&server, &device(&server, "+15550002"));
    assert_eq!((read, entries), (BTreeMap::from([(direct, 33)]), 40));
}
