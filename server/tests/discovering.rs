//! Finding who of an address book is here, against a real server of several cores: those who let one find them and nobody else, within a
//! budget of the account, through kills, and not once somebody is gone.

use prost::Message as _;
use serde_json::json;
use tern_proto::v1::{
    self, Audience, Kind, Reason, client_frame::Request, lookup::By, private::What, server_frame::Message,
};
use tern_testkit::person::{Person, people};
use tern_testkit::{Raw, Ternd, TerndOptions, TestUser, hash_of};

const PRIVATE: u64 = 1 << 43;

fn discover(phones: &[&str]) -> Request {
    Request::Discover(v1::Discover { hashes: phones.iter().map(|phone| hash_of(phone).into()).collect() })
}

fn found(person: &mut Person, phones: &[&str]) -> Vec<u64> {
    match person.ask(discover(phones)) {
        Message::Discovered(found) => found.user_ids,
        other => panic!("{other:?}"),
    }
}

fn hide(person: &mut Person, found_by_phone: Audience) {
    let privacy = v1::Privacy { found_by_phone: found_by_phone.into(), ..v1::Privacy::default() };
    let body = v1::Private { what: Some(What::Privacy(privacy)) }.encode_to_vec();
    person.sends(PRIVATE, Kind::Private, 0, &body);
}

fn knows(person: &mut Person, user_id: u64, off: bool) {
    let contacts = vec![v1::Contact { user_id, name: "a friend".into(), off }];
    let body = v1::Private { what: Some(What::Contacts(v1::Contacts { contacts })) }.encode_to_vec();
    person.sends(PRIVATE, Kind::Private, 0, &body);
}

fn again(server: &Ternd, person: Person) -> Person {
    let sent = person.sent;
    Person { sent, ..Person::new(server, person.user) }
}

#[test]
fn who_lets_one_is_found_in_their_place_and_nobody_else_through_kills() {
    let mut server = Ternd::start(4);
    let mut all: [Person; 5] = people(&server);
    let phones: Vec<_> = all.iter().map(|person| person.user.phone.clone()).collect();
    let ids: Vec<_> = all.iter().map(|person| person.user.id).collect();
    // Her own number is in her address book, and one that nobody has.
    let book: Vec<_> = phones.iter().map(String::as_str).chain(["+19995550000"]).collect();
    let of = |places: &[usize]| {
        let mut due = vec![0; book.len()];
        places.iter().for_each(|place| due[*place] = ids[*place]);
        due
    };
    let ann = |all: &mut [Person; 5]| found(&mut all[0], &book);
    assert_eq!(ann(&mut all), of(&[0, 1, 2, 3, 4]));
    hide(&mut all[0], Audience::Nobody);
    hide(&mut all[1], Audience::Nobody);
    hide(&mut all[2], Audience::Contacts);
    hide(&mut all[3], Audience::Contacts);
    knows(&mut all[3], ids[0], false);
    assert_eq!(ann(&mut all), of(&[0, 3, 4]), "she finds herself, and whoever has her as a contact");
    server.kill_and_restart();
    all = all.map(|person| again(&server, person));
    assert_eq!(ann(&mut all), of(&[0, 3, 4]));
    knows(&mut all[3], ids[0], true);
    all[2].say(ids[0], "it is me");
    assert_eq!(ann(&mut all), of(&[0, 2, 4]), "whoever has written is found");
    assert_eq!(found(&mut all[4], &book), of(&[4]));
    hide(&mut all[1], Audience::Everyone);
    assert_eq!(ann(&mut all), of(&[0, 1, 2, 4]));
}

#[test]
fn who_is_gone_is_not_found_and_who_comes_after_them_is() {
    let server = Ternd::start(3);
    let [mut ann, bob] = people(&server);
    let phone = bob.user.phone.clone();
    assert_eq!(found(&mut ann, &[&phone]), [bob.user.id]);
    let deleted = server.admin(&json!({ "ask": "delete_user", "phone": phone }));
    assert_eq!(deleted[0]["ok"]["deleted"], true, "{deleted:?}");
    assert_eq!(found(&mut ann, &[&phone]), [0]);
    let session = Raw::registered(&server, &phone, "Bert");
    assert_ne!(session.user_id, bob.user.id);
    assert_eq!(found(&mut ann, &[&phone]), [session.user_id]);
}

#[test]
fn numbers_are_the_accounts_all_or_none_and_no_connection_or_device_renews_them() {
    let arguments = ["discovered_per_day_max=24", "discovered_burst=64"];
    let arguments = arguments.iter().flat_map(|limit| ["--limit".to_owned(), (*limit).to_owned()]).collect();
    let server = Ternd::start_with(TerndOptions { cores: 3, arguments, ..TerndOptions::default() });
    let [mut ann, mut bob] = people(&server);
    let phones: Vec<_> = (0..50).map(|number| format!("+1999555{number:04}")).collect();
    let book: Vec<_> = phones.iter().map(String::as_str).collect();
    assert_eq!(found(&mut ann, &book), vec![0; 50]);
    let Message::Refused(refused) = ann.ask(discover(&book)) else { panic!("it is too much") };
    assert_eq!(refused.reason(), Reason::RateLimited);
    // 36 are too many, one an hour.
    assert!((35 * 3_600_000..=36 * 3_600_000).contains(&refused.retry_after_ms), "{refused:?}");
    assert_eq!(found(&mut ann, &book[..14]), vec![0; 14], "what was refused was not counted");
    let session = Raw::registered(&server, &ann.user.phone, "");
    let user = TestUser { id: session.user_id, phone: ann.user.phone.clone(), token: session.access_token };
    for mut other in [Person::new(&server, user), again(&server, ann)] {
        assert_eq!(other.refused(discover(&book[..1])), Reason::RateLimited);
        let by = Some(By::Phone(bob.user.phone.clone()));
        assert!(matches!(other.ask(Request::Lookup(v1::Lookup { by, group: 0 })), Message::Person(_)));
    }
    assert_eq!(found(&mut bob, &book), vec![0; 50], "others may");
}

#[test]
fn a_batch_that_is_none_is_refused_and_counts_nothing() {
    let arguments = ["--limit".to_owned(), "discovered_burst=64".to_owned()].to_vec();
    let server = Ternd::start_with(TerndOptions { cores: 2, arguments, ..TerndOptions::default() });
    let [mut ann] = people(&server);
    let hashes =
        |count: u32| (0..count).map(|number| hash_of(&format!("+1999555{number:04}")).into()).collect();
    let whole = hash_of("+15550001");
    let some = |hashes: &[&[u8]]| hashes.iter().map(|hash| hash.to_vec().into()).collect();
    for hashes in [Vec::new(), hashes(65), some(&[&whole, &whole]), some(&[&whole[1..]]), some(&[&[]])] {
        assert_eq!(ann.refused(Request::Discover(v1::Discover { hashes })), Reason::InvalidArgument);
    }
    assert!(matches!(
        ann.ask(Request::Discover(v1::Discover { hashes: hashes(64) })),
        Message::Discovered(_)
    ));
    let mut stranger = Raw::welcomed(&server);
    assert_eq!(stranger.refusal(discover(&["+15550001"])).reason(), Reason::Unauthenticated);
}
