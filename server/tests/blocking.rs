//! Contacts, blocks and privacy settings, against a real server of several cores: who is blocked is not seen and learns nothing, through
//! kills too; all of one's devices agree; what a setting does not allow is not had by any way.

use prost::Message as _;
use tern_proto::v1::{
    self, Audience, Kind, Reason, client_frame::Request, lookup::By, private::What, server_frame::Message,
};
use tern_testkit::person::{Person, added, create, people};
use tern_testkit::{Raw, Ternd, TestUser};

const PRIVATE: u64 = 1 << 43;

fn body(what: What) -> Vec<u8> {
    v1::Private { what: Some(what) }.encode_to_vec()
}

fn says(person: &mut Person, what: What) -> u64 {
    person.sends(PRIVATE, Kind::Private, 0, &body(what))
}

fn block(person: &mut Person, user_id: u64, off: bool) -> u64 {
    says(person, What::Blocked(v1::Blocked { user_id, off }))
}

fn device(server: &Ternd, phone: &str) -> Person {
    let session = Raw::registered(server, phone, "");
    let user = TestUser { id: session.user_id, phone: phone.to_owned(), token: session.access_token };
    Person::new(server, user)
}

fn again(server: &Ternd, person: Person) -> Person {
    let sent = person.sent;
    Person { sent, ..Person::new(server, person.user) }
}

/// What of a chat somebody sees: each entry's kind, and whether it says anything.
fn seen(person: &mut Person, chat: u64) -> Vec<(Kind, bool)> {
    person.history(chat).entries.iter().map(|entry| (entry.kind(), !entry.body.is_empty())).collect()
}

#[test]
fn who_is_blocked_is_not_seen_and_is_told_nothing() {
    let mut server = Ternd::start(4);
    let (mut bob, mut tablet) = (device(&server, "+15550002"), device(&server, "+15550002"));
    let mut ann = device(&server, "+15550001");
    let (of_ann, of_bob) = (ann.user.id, bob.user.id);
    ann.say(of_bob, "hello");
    bob.hears(of_ann, 1);
    bob.acknowledges(of_ann, 1, 1);
    ann.is_told(of_bob, 1, 1);
    bob.say(of_ann, "yes?");
    ann.hears(of_bob, 2);

    let said = block(&mut bob, of_ann, false);
    tablet.hears(PRIVATE, said);
    // It is taken as ever, under any retry, with all that follows from it.
    let heard = ann.new_send(of_bob, Kind::Text, 0, b"are you there?");
    let Message::Sent(sent) = ann.ask(heard.clone()) else { panic!("it is taken") };
    let Message::Sent(retried) = ann.ask(heard) else { panic!("it is taken") };
    assert_eq!((sent.seq, retried.seq), (3, 3));
    ann.sends(of_bob, Kind::Reaction, 2, "👍".as_bytes());
    ann.sends(of_bob, Kind::Edit, 1, b"hello, Bob");
    assert_eq!(bob.may_not_send(of_ann, Kind::Text, 0, b"no"), Reason::Blocked);
    bob.acknowledges(of_ann, 2, 2);
    assert_eq!(bob.listed(of_ann).expect("a chat").unread, 0);
    for round in 0..2 {
        let page = ann.history(of_bob);
        assert_eq!((page.delivered_upto, page.read_upto), (1, 1), "how far he has got since is not told");
        assert!(page.entries.iter().all(|entry| !entry.body.is_empty()), "she sees her own");
        for device in [&mut bob, &mut tablet] {
            let (text, withheld) = ((Kind::Text, true), (Kind::Withheld, false));
            assert_eq!(seen(device, of_ann), [text, text, withheld, withheld, withheld]);
        }
        if round == 0 {
            server.kill_and_restart();
            [ann, bob, tablet] = [ann, bob, tablet].map(|person| again(&server, person));
        }
    }

    // From then on all is as ever, and what was withheld stays so.
    block(&mut bob, of_ann, true);
    let shown = ann.say(of_bob, "hello again");
    bob.hears(of_ann, shown);
    tablet.hears(of_ann, shown);
    assert_eq!(seen(&mut bob, of_ann)[4..], [(Kind::Withheld, false), (Kind::Text, true)]);
    assert_eq!(tablet.listed(of_ann).expect("a chat").unread, 1);
    bob.acknowledges(of_ann, shown, shown);
    ann.is_told(of_bob, shown, shown);
    bob.say(of_ann, "well");
}

#[test]
fn a_chat_of_which_nothing_is_to_be_seen_is_not_there() {
    let mut server = Ternd::start(3);
    let [mut ann, mut bob] = people(&server);
    let (of_ann, of_bob) = (ann.user.id, bob.user.id);
    block(&mut bob, of_ann, false);
    ann.say(of_bob, "hear me");
    ann.say(of_bob, "hear me!");
    server.kill_and_restart();
    [ann, bob] = [ann, bob].map(|person| again(&server, person));
    assert!(bob.listed(of_ann).is_none());
    assert_eq!(ann.listed(of_bob).expect("hers").head, 2);
    block(&mut bob, of_ann, true);
    let shown = ann.say(of_bob, "at last");
    bob.hears(of_ann, shown);
    assert_eq!(bob.listed(of_ann).expect("a chat").unread, 1);
}

#[test]
fn what_a_setting_does_not_allow_is_had_by_no_way_and_what_can_not_be_is_refused() {
    let server = Ternd::start(3);
    let [mut ann, mut bob, cat] = people(&server);
    let (of_bob, phone) = (bob.user.id, bob.user.phone.clone());
    let find = |ann: &mut Person| {
        let by = Some(By::Phone(phone.clone()));
        match ann.ask(Request::Lookup(v1::Lookup { by, group: 0 })) {
            Message::Person(person) => Ok(person.user_id),
            Message::Refused(refused) => Err(refused),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(find(&mut ann), Ok(of_bob));
    let contacts: i32 = Audience::Contacts.into();
    let privacy = v1::Privacy { groups: contacts, found_by_phone: contacts, ..v1::Privacy::default() };
    says(&mut bob, What::Privacy(privacy));
    let nobody = Some(By::Phone("+15559999".to_owned()));
    let Message::Refused(nobody) = ann.ask(Request::Lookup(v1::Lookup { by: nobody, group: 0 })) else {
        panic!("nobody has that phone")
    };
    assert_eq!(find(&mut ann), Err(nobody), "he is as one who is not there, to the last word");
    assert_eq!(ann.refused(create(900, "friends", vec![of_bob], Default::default())), Reason::NotAllowed);
    let group = ann.make("friends", vec![cat.user.id], v1::GroupSettings::default());
    assert_eq!(ann.may_not(group, added(&[&bob])), Reason::NotAllowed);

    let contact = v1::Contact { user_id: ann.user.id, name: "Ann".into(), off: false };
    says(&mut bob, What::Contacts(v1::Contacts { contacts: vec![contact] }));
    assert_eq!(find(&mut ann), Ok(of_bob));
    ann.changes(group, added(&[&bob]));

    let mut bad = |what: What| bob.may_not_send(PRIVATE, Kind::Private, 0, &body(what));
    let contact = |user_id| v1::Contact { user_id, ..v1::Contact::default() };
    let contacts = |contacts| What::Contacts(v1::Contacts { contacts });
    for what in [
        What::Blocked(v1::Blocked { user_id: of_bob, off: false }),
        What::Blocked(v1::Blocked::default()),
        contacts(vec![]),
        contacts(vec![contact(of_bob)]),
        contacts((1..=257).map(contact).collect()),
        What::Privacy(v1::Privacy { last_seen: 3, ..v1::Privacy::default() }),
    ] {
        assert_eq!(bad(what), Reason::InvalidArgument);
    }
    assert_eq!(bob.may_not_send(ann.user.id, Kind::Withheld, 0, b""), Reason::InvalidArgument);
}
