//! Cards, against a real server of several cores: whoever has one knows what its owner is called, and no number; one that is none, or no
//! more, is that of nobody, through kills too.

use serde_json::json;
use tern_proto::v1::{self, Reason, client_frame::Request, lookup::By, server_frame::Message};
use tern_testkit::person::{Person, people};
use tern_testkit::{Raw, Ternd, TerndOptions};

fn card(person: &mut Person, renew: bool) -> v1::Card {
    match person.ask(Request::NewCard(v1::NewCard { renew })) {
        Message::Card(card) => card,
        other => panic!("{other:?}"),
    }
}

fn by(card: &v1::Card) -> Request {
    Request::Lookup(v1::Lookup { by: Some(By::Card(card.clone())), group: 0 })
}

fn again(server: &Ternd, person: Person) -> Person {
    let sent = person.sent;
    Person { sent, ..Person::new(server, person.user) }
}

#[test]
fn whoever_has_a_card_knows_what_its_owner_is_called_until_it_is_renewed() {
    let mut server = Ternd::start(4);
    let [mut ann, mut bob] = people(&server);
    let first = card(&mut bob, false);
    assert_eq!((first.user_id, first.secret.len()), (bob.user.id, 16));
    for round in 0..2 {
        let Message::Person(found) = ann.ask(by(&first)) else { panic!("round {round}") };
        let named = (found.user_id, found.name.as_str(), found.phone.as_str());
        assert_eq!(named, (bob.user.id, "test 1", ""), "the name, and no phone");
        server.kill_and_restart();
        [ann, bob] = [ann, bob].map(|person| again(&server, person));
        assert_eq!(card(&mut bob, false), first, "it stays the same");
    }
    ann.say(first.user_id, "hello, by your card");
    bob.hears(ann.user.id, 1);
    let second = card(&mut bob, true);
    assert_ne!(first.secret, second.secret);
    assert_eq!(ann.refused(by(&first)), Reason::UnknownUser);
    assert!(matches!(ann.ask(by(&second)), Message::Person(_)));
    server.kill_and_restart();
    ann = again(&server, ann);
    assert_eq!(ann.refused(by(&first)), Reason::UnknownUser);
    let deleted = server.admin(&json!({ "ask": "delete_user", "phone": bob.user.phone }));
    assert_eq!(deleted[0]["ok"]["deleted"], true, "{deleted:?}");
    assert_eq!(ann.refused(by(&second)), Reason::UnknownUser);
}

#[test]
fn a_card_that_is_none_is_that_of_nobody_and_guesses_are_counted() {
    let arguments = ["--limit".to_owned(), "lookups_per_minute_max=6".to_owned()].to_vec();
    let server = Ternd::start_with(TerndOptions { cores: 3, arguments, ..TerndOptions::default() });
    let [mut ann, mut bob, cat] = people(&server);
    let good = card(&mut bob, false);
    let of = |user_id, secret: &[u8]| by(&v1::Card { user_id, secret: secret.to_vec().into() });
    let nobody = ann.ask(of(bob.user.id ^ 1 << 20, &good.secret));
    assert!(matches!(&nobody, Message::Refused(refused) if refused.reason() == Reason::UnknownUser));
    // A wrong secret, one that is all zeros, that of somebody else, and of one who has no card.
    for (user_id, secret) in [(bob.user.id, &[7; 16]), (bob.user.id, &[0; 16]), (cat.user.id, &[0; 16])] {
        assert_eq!(ann.ask(of(user_id, secret)), nobody);
    }
    for secret in [&good.secret[1..], &[]] {
        assert_eq!(ann.refused(of(bob.user.id, secret)), Reason::InvalidArgument);
    }
    assert_eq!(ann.refused(of(0, &good.secret)), Reason::InvalidArgument);
    assert_eq!(ann.ask(of(cat.user.id, &good.secret)), nobody);
    assert!(matches!(ann.ask(by(&good)), Message::Person(_)));
    assert_eq!(ann.refused(by(&good)), Reason::RateLimited, "it counts as a look-up");
    let mut stranger = Raw::welcomed(&server);
    assert_eq!(stranger.refusal(by(&good)).reason(), Reason::Unauthenticated);
}
