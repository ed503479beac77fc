//! What people say of themselves, and their pictures, against a real server of several cores: seen by those who may, pushed to those who see
//! it, through kills, and gone with the account.

use prost::Message as _;
use serde_json::json;
use tern_proto::v1::{
    self, Audience, Kind, Reason, client_frame::Request, lookup::By, private::What, server_frame::Message,
};
use tern_testkit::Ternd;
use tern_testkit::person::{Person, people};

const PRIVATE: u64 = 1 << 43;

fn rename(about: Option<&str>, picture: Option<&str>) -> Request {
    let (about, picture) = (about.map(str::to_owned), picture.map(|picture| picture.to_owned().into()));
    Request::Rename(v1::Rename { about, picture, ..v1::Rename::default() })
}

fn show(person: &mut Person, about: Audience, picture: Audience) {
    let privacy = v1::Privacy { about: about.into(), picture: picture.into(), ..v1::Privacy::default() };
    let body = v1::Private { what: Some(What::Privacy(privacy)) }.encode_to_vec();
    person.sends(PRIVATE, Kind::Private, 0, &body);
}

fn knows(person: &mut Person, user_id: u64) {
    let contacts = vec![v1::Contact { user_id, ..v1::Contact::default() }];
    let body = v1::Private { what: Some(What::Contacts(v1::Contacts { contacts })) }.encode_to_vec();
    person.sends(PRIVATE, Kind::Private, 0, &body);
}

fn blocked(user_id: u64) -> Vec<u8> {
    blocks(user_id, false)
}

fn freed(user_id: u64) -> Vec<u8> {
    blocks(user_id, true)
}

fn blocks(user_id: u64, off: bool) -> Vec<u8> {
    let blocked = What::Blocked(v1::Blocked { user_id, off });
    v1::Private { what: Some(blocked) }.encode_to_vec()
}

fn look(person: &mut Person, by: By, group: u64) -> v1::Person {
    match person.ask(Request::Lookup(v1::Lookup { by: Some(by), group })) {
        Message::Person(person) => person,
        other => panic!("{other:?}"),
    }
}

/// What somebody sees of the one with this phone: about, picture, version.
fn seen(person: &mut Person, phone: &str) -> (String, Vec<u8>, u64) {
    let found = look(person, By::Phone(phone.to_owned()), 0);
    (found.about, found.picture.to_vec(), found.version)
}

/// Takes pushes until somebody is told of a change of another, and gives the version.
fn is_told(person: &mut Person, of: u64) -> u64 {
    loop {
        let frame = person.raw.receive().expect("the connection stands");
        match frame.message.expect("a push") {
            Message::PersonChanged(changed) if changed.user_id == of => return changed.version,
            _ => {}
        }
    }
}

fn again(server: &Ternd, person: Person) -> Person {
    let sent = person.sent;
    Person { sent, ..Person::new(server, person.user) }
}

#[test]
fn what_one_says_of_oneself_is_seen_by_those_who_may_on_whatever_cores() {
    let mut server = Ternd::start(4);
    let [mut ann, mut bob, mut cat] = people(&server);
    let (of_bob, phone) = (bob.user.id, bob.user.phone.clone());
    ann.say(of_bob, "hello");
    bob.say(ann.user.id, "hello");
    let group = bob.make("friends", vec![cat.user.id], v1::GroupSettings::default());
    assert!(matches!(bob.ask(rename(Some("at sea 🚢"), Some("a boat"))), Message::Renamed(_)));
    let version = is_told(&mut ann, of_bob);
    let all = ("at sea 🚢".to_owned(), b"a boat".to_vec());
    assert_eq!(seen(&mut ann, &phone), (all.0.clone(), all.1.clone(), version));
    let (_, _, of_stranger) = seen(&mut cat, &phone);
    assert_eq!(of_stranger, 2, "of what she sees, both have changed once; the name she is not told");
    assert_eq!(look(&mut cat, By::UserId(of_bob), group).about, all.0);
    assert_eq!(look(&mut bob, By::UserId(of_bob), 0).version, version);

    show(&mut bob, Audience::Contacts, Audience::Nobody);
    assert_eq!(seen(&mut ann, &phone), (String::new(), Vec::new(), version - 2));
    knows(&mut bob, ann.user.id);
    assert!(matches!(bob.ask(rename(None, Some("a ship"))), Message::Renamed(_)), "she is not told of that");
    assert!(matches!(bob.ask(rename(Some("ashore"), None)), Message::Renamed(_)));
    assert_eq!(is_told(&mut ann, of_bob), version, "one change of what she sees, and the picture is hidden");
    server.kill_and_restart();
    [ann, bob, cat] = [ann, bob, cat].map(|person| again(&server, person));
    assert_eq!(seen(&mut ann, &phone), ("ashore".to_owned(), Vec::new(), version));
    assert_eq!(seen(&mut cat, &phone), (String::new(), Vec::new(), 0));
    assert_eq!(look(&mut cat, By::UserId(of_bob), group).about, "");
    assert_eq!(seen(&mut bob, &phone), ("ashore".to_owned(), b"a ship".to_vec(), version + 2));

    bob.sends(PRIVATE, Kind::Private, 0, &blocked(ann.user.id));
    assert_eq!(seen(&mut ann, &phone).0, "", "whom one blocks sees nothing, contact or not");
}

#[test]
fn whoever_is_to_see_more_of_somebody_is_told_and_nobody_else() {
    let server = Ternd::start(4);
    let [mut ann, mut bob, mut cat, mut dan] = people(&server);
    let of_bob = bob.user.id;
    for friend in [&mut ann, &mut cat, &mut dan] {
        friend.say(of_bob, "hello");
        bob.say(friend.user.id, "hello");
    }
    knows(&mut bob, ann.user.id);
    bob.sends(PRIVATE, Kind::Private, 0, &blocked(dan.user.id));
    show(&mut bob, Audience::Nobody, Audience::Nobody);
    // As often as each other, so that a version does not say which of them is seen.
    assert!(matches!(bob.ask(rename(Some("at sea"), None)), Message::Renamed(_)));
    assert!(matches!(bob.ask(rename(None, Some("a boat"))), Message::Renamed(_)));

    // Nobody was told of anything until here, and of a change of who sees what comes no version.
    show(&mut bob, Audience::Contacts, Audience::Nobody);
    assert_eq!(is_told(&mut ann, of_bob), 0, "a contact sees more");
    assert_eq!(seen(&mut ann, &bob.user.phone).0, "at sea");
    show(&mut bob, Audience::Nobody, Audience::Contacts);
    assert_eq!(is_told(&mut ann, of_bob), 0, "something else");
    assert_eq!(seen(&mut ann, &bob.user.phone).1, b"a boat");
    show(&mut bob, Audience::Nobody, Audience::Everyone);
    assert_eq!(is_told(&mut cat, of_bob), 0, "others see what contacts saw");
    assert_eq!(seen(&mut cat, &bob.user.phone).1, b"a boat");
    // The next that each of them hears is a new name: to who sees what they saw before, or less, nothing was said.
    show(&mut bob, Audience::Nobody, Audience::Nobody);
    assert_eq!(seen(&mut cat, &bob.user.phone).1, b"");
    assert!(matches!(bob.ask(rename(Some(""), Some(""))), Message::Renamed(_)));
    show(&mut bob, Audience::Everyone, Audience::Everyone);
    let name = v1::Rename { name: Some("Robert".to_owned()), ..v1::Rename::default() };
    assert!(matches!(bob.ask(Request::Rename(name)), Message::Renamed(_)));
    bob.sends(PRIVATE, Kind::Private, 0, &freed(dan.user.id));
    let name = v1::Rename { name: Some("Rob".to_owned()), ..v1::Rename::default() };
    assert!(matches!(bob.ask(Request::Rename(name)), Message::Renamed(_)));
    for friend in [&mut ann, &mut cat, &mut dan] {
        assert_ne!(is_told(friend, of_bob), 0, "the name");
    }
}

#[test]
fn what_is_no_profile_is_refused_and_what_was_one_goes_with_the_account() {
    let server = Ternd::start(2);
    let [mut ann, mut bob] = people(&server);
    assert!(matches!(bob.ask(rename(Some("at sea"), Some("a boat"))), Message::Renamed(_)));
    for (about, picture) in [("x".repeat(141), 0), ("a\nb".to_owned(), 0), ("\u{202e}x".to_owned(), 0)]
        .into_iter()
        .chain([(String::new(), 1025)])
    {
        let picture = "p".repeat(picture);
        assert_eq!(bob.refused(rename(Some(&about), Some(&picture))), Reason::InvalidArgument);
    }
    assert_eq!(seen(&mut ann, &bob.user.phone), ("at sea".to_owned(), b"a boat".to_vec(), 2));
    let deleted = server.admin(&json!({ "ask": "delete_user", "phone": bob.user.phone }));
    assert_eq!(deleted[0]["ok"]["deleted"], true, "{deleted:?}");
    let by = Some(By::Phone(bob.user.phone.clone()));
    assert_eq!(ann.refused(Request::Lookup(v1::Lookup { by, group: 0 })), Reason::UnknownUser);
    let again = tern_testkit::Raw::registered(&server, &bob.user.phone, "Bert");
    let found = look(&mut ann, By::Phone(bob.user.phone.clone()), 0);
    assert_eq!((found.user_id, found.about.as_str(), found.version), (again.user_id, "", 0));
}
