//! A copy of the data directory put back: what was given out after it was made is never good for somebody else.

use std::path::{Path, PathBuf};

use tern_proto::v1::{self, Reason, client_frame::Request, server_frame::Message};
use tern_storage::Slot;
use tern_testkit::{Raw, Ternd};

fn register(server: &Ternd, phone: &str) -> v1::Session {
    Raw::registered(server, phone, "Ann")
}

fn session(answer: Option<Message>) -> v1::Session {
    match answer {
        Some(Message::Session(session)) => session,
        other => panic!("expected a session, got {other:?}"),
    }
}

fn login(session: &v1::Session) -> Request {
    Request::Login(v1::Login { access_token: session.access_token.clone() })
}

fn refresh(session: &v1::Session, nonce: u8) -> Request {
    let refresh_token = session.refresh_token.clone();
    Request::Refresh(v1::Refresh { refresh_token, nonce: vec![nonce; 16].into() })
}

/// A copy of the server's data as they are now; the server goes on behind it.
fn copied(server: &mut Ternd) -> PathBuf {
    server.terminate();
    let copied = server.copy_data();
    server.start_again();
    copied
}

/// Puts a copy in the place of the server's data, and starts the server on it.
fn put_back(server: &mut Ternd, copied: &Path) {
    server.terminate();
    server.put_back(copied);
    server.start_again();
}

fn phones_of_one_slot() -> [String; 2] {
    let first = "15550001";
    let other = (15_551_000u64..)
        .map(|digits| digits.to_string())
        .find(|digits| Slot::of_phone(digits) == Slot::of_phone(first));
    [first.to_owned(), other.expect("slots are few")].map(|digits| format!("+{digits}"))
}

/// G10: both had the same id, and the one's token opened the other's account.
#[test]
fn an_id_given_out_after_a_copy_was_made_is_not_given_to_another_when_it_is_put_back() {
    let [one, other] = phones_of_one_slot();
    let mut server = Ternd::start(2);
    let copied = copied(&mut server);
    let before = register(&server, &one);
    put_back(&mut server, &copied);
    let after = register(&server, &other);
    assert_ne!(after.user_id, before.user_id);
    let mut raw = Raw::welcomed(&server);
    assert_eq!(raw.refusal(login(&before)).reason(), Reason::SessionRevoked);
    assert_eq!(raw.refusal(refresh(&before, 1)).reason(), Reason::SessionRevoked);
    assert!(
        matches!(raw.ask(login(&after)), Some(Message::LoggedIn(_))),
        "nothing of it has harmed the other"
    );
}

/// Its number is given out again, for the account counts its devices; its tokens are not good for the next one.
#[test]
fn a_device_added_after_a_copy_was_made_is_not_the_next_device_of_that_number() {
    let mut server = Ternd::start(2);
    let first = register(&server, "+15550001");
    let copied = copied(&mut server);
    let lost = register(&server, "+15550001");
    put_back(&mut server, &copied);
    let next = register(&server, "+15550001");
    assert_eq!((next.user_id, next.device_id), (lost.user_id, lost.device_id), "the numbers are the same");
    let mut raw = Raw::welcomed(&server);
    assert_eq!(raw.refusal(login(&lost)).reason(), Reason::SessionRevoked);
    assert_eq!(raw.refusal(refresh(&lost, 1)).reason(), Reason::SessionRevoked);
    for session in [&first, &next] {
        let mut raw = Raw::welcomed(&server);
        assert!(matches!(raw.ask(login(session)), Some(Message::LoggedIn(_))));
    }
}

/// The exchanges are forgotten, but whoever made them has done nothing wrong.
#[test]
fn a_device_that_refreshed_after_a_copy_was_made_is_not_taken_for_a_thief() {
    let mut server = Ternd::start(2);
    let first = register(&server, "+15550001");
    let copied = copied(&mut server);
    let second = session(Raw::welcomed(&server).ask(refresh(&first, 1)));
    let third = session(Raw::welcomed(&server).ask(refresh(&second, 2)));
    put_back(&mut server, &copied);
    let mut raw = Raw::welcomed(&server);
    let fourth = session(raw.ask(refresh(&third, 3)));
    let again = session(raw.ask(refresh(&third, 3)));
    assert_eq!(again.refresh_token, fourth.refresh_token, "a retry is one all the same");
    assert!(matches!(raw.ask(login(&fourth)), Some(Message::LoggedIn(_))));
    let thief = Raw::welcomed(&server).refusal(refresh(&second, 9));
    assert_eq!(thief.reason(), Reason::TokenReused, "and an older one is still a copy");
}
