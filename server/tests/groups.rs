//! Groups, against a real server of several cores: who is a member, what members see, who may do what.

use std::collections::{BTreeMap, BTreeSet};

use tern_proto::v1::{self, Reason, client_frame::Request, group_change::Change, server_frame::Message};
use tern_testkit::person::{Person, added, create, people, role};
use tern_testkit::{Raw, Ternd};

#[test]
fn what_is_said_in_a_group_reaches_all_its_members_and_nobody_else() {
    let server = Ternd::start(4);
    let [mut ann, mut bob, mut cyd, mut eve] = people(&server);
    let group = ann.make("friends", vec![bob.user.id, cyd.user.id], v1::GroupSettings::default());
    assert!(group >= 1 << 42, "groups have numbers of their own");
    let hello = ann.say(group, "hello");
    assert_eq!(hello, 2);
    for person in [&mut bob, &mut cyd] {
        person.hears(group, hello);
        assert_eq!(person.seqs(group), [1, 2], "from the entry that made it on");
        let entry = &person.entries[&group][1];
        assert_eq!((entry.sender, &entry.body[..]), (ann.user.id, &b"hello"[..]));
    }
    let answer = cyd.say(group, "hello all");
    ann.hears(group, answer);
    let about = bob.about(group);
    let roles: Vec<_> = about.members.iter().map(|member| (member.user_id, member.role())).collect();
    assert_eq!(about.name, "friends");
    assert_eq!(
        roles.iter().copied().collect::<BTreeSet<_>>(),
        BTreeSet::from([
            (ann.user.id, v1::Role::Creator),
            (bob.user.id, v1::Role::Member),
            (cyd.user.id, v1::Role::Member)
        ])
    );
    // A stranger learns not even that there is one.
    let text = eve.text(group, "let me in");
    assert_eq!(eve.refused(text), Reason::UnknownGroup);
    let history = Request::History(v1::History { chat: group, ..v1::History::default() });
    assert_eq!(eve.refused(history), Reason::UnknownGroup);
    assert_eq!(
        eve.refused(Request::AboutGroup(v1::AboutGroup { chat: group, ..Default::default() })),
        Reason::UnknownGroup
    );
    assert_eq!(eve.may_not(group, Change::Left(v1::Left {})), Reason::UnknownGroup);
    assert_eq!(eve.seqs(group), [0u64; 0]);
    // Members learn what others are called, and strangers do not.
    let lookup = |user: &Person| {
        let by = Some(v1::lookup::By::UserId(user.user.id));
        Request::Lookup(v1::Lookup { by, group })
    };
    let (of_cyd, of_eve) = (lookup(&cyd), lookup(&eve));
    assert!(matches!(bob.ask(of_cyd.clone()), Message::Person(person) if person.phone.is_empty()));
    assert_eq!(bob.refused(of_eve), Reason::UnknownUser);
    assert_eq!(eve.refused(of_cyd), Reason::UnknownGroup);
}

#[test]
fn a_retry_makes_no_second_group() {
    let server = Ternd::start(3);
    let [mut ann, bob] = people(&server);
    let made = |members: Vec<u64>| create(7, "friends", members, v1::GroupSettings::default());
    let Message::GroupCreated(first) = ann.ask(made(vec![bob.user.id])) else { panic!("it is made") };
    let Message::GroupCreated(again) = ann.ask(made(vec![bob.user.id])) else { panic!("it is there") };
    assert_eq!(first, again);
    assert_eq!(ann.refused(made(vec![])), Reason::ClientIdReused);
    let mut server = server;
    server.kill_and_restart();
    let mut ann = Person::new(&server, ann.user);
    let Message::GroupCreated(later) = ann.ask(made(vec![bob.user.id])) else { panic!("it is there") };
    assert_eq!(first, later);
    assert_eq!(ann.about(first.chat).members.len(), 2);
}

#[test]
fn who_is_removed_hears_and_reads_nothing_more() {
    let server = Ternd::start(4);
    let [mut ann, mut bob, mut cyd] = people(&server);
    let group = ann.make("friends", vec![bob.user.id, cyd.user.id], v1::GroupSettings::default());
    let before = ann.say(group, "before");
    bob.hears(group, before);
    let removal = ann.changes(group, Change::Removed(bob.user.id));
    let after = ann.say(group, "after");
    cyd.hears(group, after);
    bob.hears(group, removal);
    // Whatever was under way has come when the answer to this has, for it goes by the same owners.
    let text = bob.text(group, "still here?");
    assert_eq!(bob.refused(text), Reason::NotAMember);
    assert_eq!(bob.seqs(group), [1, before, removal], "the removal is the last that is heard");
    let page = bob.history(group);
    assert_eq!((page.head, page.entries.last().map(|entry| entry.seq)), (removal, Some(removal)));
    let forwards = v1::History { chat: group, from: removal, forwards: true, limit: 0 };
    let Message::HistoryPage(page) = bob.ask(Request::History(forwards)) else { panic!("a page") };
    assert_eq!((page.entries.len(), page.more), (0, false));
    assert_eq!(
        bob.refused(Request::AboutGroup(v1::AboutGroup { chat: group, ..Default::default() })),
        Reason::NotAMember
    );
    let listed = bob.listed(group).expect("one has been in it");
    assert!(listed.left && listed.head == removal && listed.unread == 0, "{listed:?}");
    // Nor on another connection, whatever it claims.
    let mut again = Raw::logged_in(&server, &bob.user.token);
    let positions = vec![v1::Position { chat: group, upto: after, ..v1::Position::default() }];
    let id = again.send(Request::Resume(v1::Resume { positions, generations: Vec::new() }));
    loop {
        let frame = again.receive().expect("the connection stands");
        match frame.message {
            Some(Message::Entry(entry)) => assert!(entry.chat != group || entry.seq <= removal),
            Some(Message::CaughtUp(_)) => break,
            _ => assert!(frame.id == 0 || frame.id == id),
        }
    }
    // One who comes again sees what comes from then on.
    let mut bob = Person::new(&server, bob.user);
    let back = cyd_cannot_then_ann_adds(&mut cyd, &mut ann, &bob, group);
    bob.hears(group, back);
    assert_eq!(bob.begins[&group], back);
    let page = bob.history(group);
    assert_eq!((page.first, page.entries[0].seq), (back, back));
    let said = bob.say(group, "here again");
    cyd.hears(group, said);
}

/// Members may add, in this group; whoever is a member already may not be added.
fn cyd_cannot_then_ann_adds(cyd: &mut Person, ann: &mut Person, bob: &Person, group: u64) -> u64 {
    assert_eq!(cyd.may_not(group, Change::Removed(ann.user.id)), Reason::NotAllowed);
    let back = ann.changes(group, added(&[bob]));
    assert_eq!(cyd.may_not(group, added(&[bob])), Reason::AlreadyAMember);
    back
}

#[test]
fn what_a_newcomer_sees_is_a_setting() {
    let server = Ternd::start(3);
    let [mut ann, mut bob, mut cyd] = people(&server);
    let open = v1::GroupSettings { shows_history: true, ..v1::GroupSettings::default() };
    for (settings, first) in [(v1::GroupSettings::default(), 3), (open, 1)] {
        let group = ann.make("group", vec![], settings);
        ann.say(group, "early");
        let came = ann.changes(group, added(&[&bob]));
        let later = ann.say(group, "late");
        bob.hears(group, later);
        assert_eq!(bob.seqs(group), [came, later], "what was said before is not pushed");
        assert_eq!(bob.begins[&group], came);
        let page = bob.history(group);
        assert_eq!(page.entries.first().map(|entry| entry.seq), Some(first));
        assert_eq!(page.first, if first > 1 { first } else { 0 });
        assert!(!page.more);
        let listed = bob.listed(group).expect("it is one of the chats");
        assert_eq!((listed.unread, listed.name.as_str()), (1, "group"), "what came from then on counts");
    }
    // Two come at once, one of whom is nobody: neither comes.
    let group = ann.make("group", vec![], v1::GroupSettings::default());
    let nobody = Change::Added(v1::Members { user_ids: vec![cyd.user.id, 4096 * 77] });
    assert_eq!(ann.may_not(group, nobody), Reason::NotAllowed);
    assert_eq!(ann.about(group).members.len(), 1);
    assert_eq!(cyd.listed(group), None);
}

#[test]
fn each_may_do_what_the_roles_and_settings_say() {
    let server = Ternd::start(3);
    let [mut ann, mut bob, mut cyd, dan] = people(&server);
    let group = ann.make("g", vec![bob.user.id, cyd.user.id], v1::GroupSettings::default());
    let admins = v1::Who::Admins.into();
    let closed = v1::GroupSettings { senders: admins, editors: admins, adders: admins, shows_history: false };
    bob.changes(group, Change::Name("of all".into()));
    assert_eq!(bob.may_not(group, Change::Settings(closed)), Reason::NotAllowed);
    ann.changes(group, Change::Settings(closed));
    let text = bob.text(group, "hello");
    assert_eq!(bob.refused(text), Reason::NotAllowed);
    assert_eq!(bob.may_not(group, Change::Name("of mine".into())), Reason::NotAllowed);
    assert_eq!(bob.may_not(group, Change::Description("x".into())), Reason::NotAllowed);
    assert_eq!(bob.may_not(group, added(&[&dan])), Reason::NotAllowed);
    assert_eq!(bob.may_not(group, role(&bob, v1::Role::Admin)), Reason::NotAllowed);
    ann.changes(group, role(&bob, v1::Role::Admin));
    bob.say(group, "hello");
    bob.changes(group, Change::Description("what we do".into()));
    bob.changes(group, Change::Picture(b"picture".to_vec().into()));
    bob.changes(group, added(&[&dan]));
    // Nobody removes or demotes who made it, or makes another such one.
    assert_eq!(bob.may_not(group, Change::Removed(ann.user.id)), Reason::NotAllowed);
    assert_eq!(bob.may_not(group, role(&ann, v1::Role::Member)), Reason::NotAllowed);
    assert_eq!(bob.may_not(group, role(&bob, v1::Role::Creator)), Reason::InvalidArgument);
    assert_eq!(bob.may_not(group, Change::Removed(4096 * 77)), Reason::NotAMember);
    let about = cyd.about(group);
    assert_eq!((about.name.as_str(), about.description.as_str()), ("of all", "what we do"));
    assert_eq!(&about.picture[..], b"picture");
    assert_eq!(about.settings, Some(closed));
    // When all who may have gone, the one may who came first.
    ann.changes(group, Change::Left(v1::Left {}));
    ann_is_out(&mut ann, group);
    bob.changes(group, Change::Left(v1::Left {}));
    let about = cyd.about(group);
    let roles: BTreeMap<_, _> = about.members.iter().map(|member| (member.user_id, member.role())).collect();
    assert_eq!(roles[&cyd.user.id], v1::Role::Admin);
    assert_eq!(roles[&dan.user.id], v1::Role::Member);
}

fn ann_is_out(ann: &mut Person, group: u64) {
    let text = ann.text(group, "one more thing");
    assert_eq!(ann.refused(text), Reason::NotAMember);
    assert_eq!(ann.may_not(group, Change::Left(v1::Left {})), Reason::NotAMember);
}

#[test]
fn nonsense_makes_and_changes_nothing() {
    let server = Ternd::start(2);
    let [mut ann, bob] = people(&server);
    let settings = v1::GroupSettings::default();
    let unknown = create(1, "g", vec![4096 * 77], settings);
    assert_eq!(ann.refused(unknown), Reason::NotAllowed);
    assert_eq!(ann.refused(create(2, "", vec![], settings)), Reason::InvalidArgument);
    assert_eq!(ann.refused(create(3, "g", vec![bob.user.id; 2], settings)), Reason::InvalidArgument);
    assert_eq!(ann.refused(create(4, "g", (1..=1025).collect(), settings)), Reason::TooManyMembers);
    let others: Vec<_> = (1..=1024).map(|id| id * 4096 + 1).collect();
    assert_eq!(ann.refused(create(5, "g", others, settings)), Reason::TooManyMembers, "and oneself");
    let nowhere = (1 << 42) + 5;
    ann.sent = 10;
    let text = ann.text(nowhere, "hello");
    assert_eq!(ann.refused(text), Reason::UnknownGroup);
    assert_eq!(ann.may_not(nowhere, added(&[&bob])), Reason::UnknownGroup);
    // A group is not changed by what is said to a person, nor made by what is said in it.
    assert_eq!(ann.may_not(bob.user.id, Change::Name("x".into())), Reason::InvalidArgument);
    let group = ann.make("g", vec![], settings);
    let made = v1::GroupMade { name: "again".into(), ..v1::GroupMade::default() };
    assert_eq!(ann.may_not(group, Change::Made(made)), Reason::InvalidArgument);
    let body = "no change".into();
    let send =
        v1::Send { chat: group, client_id: 99, body, kind: v1::Kind::Group.into(), ..Default::default() };
    assert_eq!(ann.refused(Request::Send(send)), Reason::InvalidArgument);
    let beyond = v1::Acknowledge { chat: group, delivered_upto: 9, read_upto: 0 };
    assert_eq!(ann.refused(Request::Acknowledge(beyond)), Reason::InvalidArgument);
    let elsewhere = v1::Acknowledge { chat: nowhere, delivered_upto: 1, read_upto: 0 };
    assert_eq!(ann.refused(Request::Acknowledge(elsewhere)), Reason::UnknownGroup);
    assert_eq!(ann.history(group).head, 1);
}

#[test]
fn an_author_hears_when_all_have_received_and_when_all_have_read() {
    let server = Ternd::start(4);
    let [mut ann, mut bob, mut cyd] = people(&server);
    let group = ann.make("friends", vec![bob.user.id, cyd.user.id], v1::GroupSettings::default());
    let seq = ann.say(group, "who is there?");
    bob.hears(group, seq);
    bob.acknowledges(group, seq, seq);
    let about = ann.about(group);
    let marks = |about: &v1::Group, user: u64| {
        let member = about.members.iter().find(|member| member.user_id == user).expect("a member");
        (member.delivered_upto, member.read_upto)
    };
    assert_eq!(marks(&about, bob.user.id), (seq, seq), "who has what is told on request");
    assert!(marks(&about, cyd.user.id) < (seq, seq));
    cyd.hears(group, seq);
    cyd.acknowledges(group, seq, 0);
    ann.is_told(group, seq, 0);
    cyd.acknowledges(group, seq, seq);
    ann.is_told(group, seq, seq);
    assert!(ann.receipts.iter().all(|receipt| receipt.member == 0), "never of one member");
    assert!(bob.receipts.is_empty(), "who has said nothing hears nothing");
    // One who lags and is removed is waited for no more.
    let seq = ann.say(group, "and now?");
    bob.hears(group, seq);
    bob.acknowledges(group, seq, seq);
    ann.changes(group, Change::Removed(cyd.user.id));
    ann.is_told(group, seq, seq);
}

#[test]
fn a_group_is_the_same_after_a_crash() {
    let mut server = Ternd::start(3);
    let [mut ann, mut bob, mut cyd] = people(&server);
    let admins = v1::Who::Admins.into();
    let settings = v1::GroupSettings { adders: admins, ..v1::GroupSettings::default() };
    let group = ann.make("friends", vec![bob.user.id, cyd.user.id], settings);
    // More than stays in memory, and than is read with the group: what is unread is counted all the same.
    let mut last = 0;
    for number in 0..50 {
        let author = if number % 10 == 3 { &mut bob } else { &mut ann };
        last = author.say(group, "something");
    }
    bob.acknowledges(group, 20, 20);
    cyd.acknowledges(group, last, 30);
    ann.changes(group, role(&bob, v1::Role::Admin));
    ann.changes(group, Change::Removed(cyd.user.id));
    let unread = |bob: &mut Person| bob.listed(group).expect("a chat").unread;
    let before = (bob.about(group), unread(&mut bob), bob.history(group));
    // Bob has said three of those from 21 on: 13 to 53 by tens, and two.
    assert_eq!(before.1, u64::from(51 - 20 - bobs_from(21)));
    server.kill_and_restart();
    let [mut ann, mut bob, mut cyd] = [ann, bob, cyd].map(|person| Person::new(&server, person.user));
    assert_eq!((bob.about(group), unread(&mut bob), bob.history(group)), before);
    let text = cyd.text(group, "let me in again");
    assert_eq!(cyd.refused(text), Reason::NotAMember);
    bob.sent = 100;
    let said = bob.say(group, "still an admin");
    ann.hears(group, said);
}

/// How many of the fifty entries from 2 on that Bob has said stand at a seq or behind it.
fn bobs_from(seq: u64) -> u32 {
    (0..50u64).filter(|number| number % 10 == 3 && number + 2 >= seq).count() as u32
}
