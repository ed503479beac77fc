//! Whoever deletes their account, against a real server of several cores: nobody is let in, it can be taken back, and then the store has
//! nothing of theirs.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tern_proto::v1::{self, Kind, Reason, client_frame::Request, server_frame::Message};
use tern_storage::embedded::{Embedded, EmbeddedOptions};
use tern_storage::engine::{Completion, Engine as _, Wake};
use tern_storage::keys::{self, KeyRange};
use tern_storage::{Direction, Key, LogId, ScanLimit};
use tern_testkit::person::{Person, people};
use tern_testkit::{Raw, Ternd, TerndOptions, TestUser, program};

const PIN: &str = "135790";

fn start(limits: &[&str]) -> Ternd {
    let arguments = limits.iter().flat_map(|limit| ["--limit".to_owned(), (*limit).to_owned()]).collect();
    Ternd::start_with(TerndOptions { cores: 3, arguments, ..TerndOptions::default() })
}

fn delete(connection: &mut Raw, pin: &str) -> Message {
    let delete = v1::DeleteAccount { pin: pin.to_owned() };
    connection.ask(Request::DeleteAccount(delete)).expect("it is answered")
}

fn reason(answer: &Message) -> Reason {
    match answer {
        Message::Refused(refused) => refused.reason(),
        other => panic!("{other:?}"),
    }
}

fn deletions(server: &Ternd) -> Vec<Value> {
    let answers = server.admin(&json!({ "ask": "deletions" }));
    answers.into_iter().map(|answer| answer["ok"].clone()).filter(|row| row.get("done").is_none()).collect()
}

/// Waits until nothing is left to be done for anybody.
fn await_none(server: &Ternd) {
    while !deletions(server).is_empty() {
        std::thread::yield_now();
    }
}

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// All rows of a store that no server has open.
fn rows(store: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let store = Embedded::open(store, EmbeddedOptions::default()).expect("it opens");
    let mut port = store.port(Arc::new(NoWake));
    let mut all = Vec::new();
    let (mut start, end) = (Key::from_raw(&[0]), Key::from_raw(&[255]));
    loop {
        let range = KeyRange { start: start.clone(), end: end.clone() };
        let limit = ScanLimit { rows: 10_000, bytes: usize::MAX };
        assert!(port.scan(range, Direction::Forwards, limit).is_ok(), "there is room");
        let mut completions = Vec::new();
        while completions.is_empty() {
            port.poll(&mut completions);
            std::thread::yield_now();
        }
        let Some(Completion::Rows { result: Ok(page), .. }) = completions.pop() else { panic!("rows") };
        all.extend(page.rows.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
        match page.rows.last().filter(|_| page.more) {
            Some((key, _)) => start = Key::from_raw(&[&key[..], &[0]].concat()),
            None => return all,
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn nobody_is_let_in_and_whoever_proves_the_phone_keeps_the_account() {
    let mut server = start(&["deletion_round_ms=100"]);
    let [mut bob] = people(&server);
    let session = Raw::registered(&server, "+15557770001", "Ann");
    let seq = bob.say(session.user_id, "before");
    let mut connection = Raw::logged_in(&server, &session.access_token);
    let set = Request::SetPin(v1::SetPin { pin: PIN.to_owned() });
    assert!(matches!(connection.ask(set), Some(Message::PinSet(_))));
    assert_eq!(reason(&delete(&mut connection, "")), Reason::PinNeeded);
    assert_eq!(reason(&delete(&mut connection, "135791")), Reason::PinWrong);
    assert_eq!(reason(&delete(&mut connection, "x")), Reason::InvalidArgument, "that is no PIN");
    assert!(deletions(&server).is_empty(), "nothing has changed");
    let Message::AccountEnds(ends) = delete(&mut connection, PIN) else { panic!("it ends") };
    let farewell = connection.farewell().expect("a reason");
    assert_eq!(farewell.reason(), Reason::AccountEnds);
    for round in ["at once", "after a start"] {
        let answer = Raw::login(&server, &session.access_token);
        assert_eq!(reason(&answer), Reason::AccountEnds, "{round}");
        let refresh = Request::Refresh(v1::Refresh {
            refresh_token: session.refresh_token.clone(),
            nonce: vec![7; 16].into(),
        });
        assert_eq!(Raw::welcomed(&server).refusal(refresh).reason(), Reason::AccountEnds, "{round}");
        let waiting = deletions(&server);
        assert_eq!(waiting.len(), 1, "{round}");
        assert_eq!(waiting[0]["due_ms"], ends.at_ms, "{round}");
        server.kill_and_restart();
    }
    let who = session.user_id.to_string();
    let user = server.admin(&json!({ "ask": "user", "who": who })).remove(0);
    assert_eq!(user["ok"]["ends_ms"], ends.at_ms);

    // The code alone is not enough: there is a PIN.
    let verify = |registration, pin: &str| {
        Request::Verify(v1::Verify {
            phone: "+15557770001".to_owned(),
            code: server.code_of("+15557770001"),
            device_name: "phone".to_owned(),
            registration,
            pin: pin.to_owned(),
            ..v1::Verify::default()
        })
    };
    let mut person = Raw::welcomed(&server);
    let registration = person.register("+15557770001").registration;
    assert_eq!(person.refusal(verify(registration, "")).reason(), Reason::PinNeeded);
    let Some(Message::Session(kept)) = person.ask(verify(registration, PIN)) else { panic!("it is kept") };
    assert_eq!(kept.user_id, session.user_id);
    assert!(deletions(&server).is_empty());
    // Its other device is one again, and what was said is there.
    let mut device = Raw::logged_in(&server, &session.access_token);
    let history = v1::History { chat: bob.user.id, ..v1::History::default() };
    let Some(Message::HistoryPage(page)) = device.ask(Request::History(history)) else { panic!("a page") };
    assert_eq!(page.entries.last().map(|entry| entry.seq), Some(seq));

    // An operator keeps one as well.
    let Message::AccountEnds(_) = delete(&mut device, PIN) else { panic!("it ends") };
    let ternctl = |arguments: &[&str]| {
        let mut ternctl = std::process::Command::new(program("ternctl"));
        let output =
            ternctl.arg("--data-dir").arg(server.data_dir()).args(arguments).output().expect("it runs");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert!(ternctl(&["deletions"]).1.contains(&format!("user {who}: ends at ")));
    assert!(ternctl(&["user", &who]).1.contains("ENDS at "));
    assert_eq!(ternctl(&["user", "keep", &who]), (true, "kept\n".to_owned()));
    assert!(!ternctl(&["user", "keep", &who]).0, "it is not about to end any more");
    assert!(ternctl(&["deletions"]).1.contains("no account is about to end"));
    assert!(matches!(Raw::login(&server, &session.access_token), Message::LoggedIn(_)));
}

/// Of one who had said things everywhere, a scan of the store finds nothing but the tombstone and what others have, whatever was killed.
#[test]
fn nothing_is_left_in_the_store_of_one_who_is_gone() {
    let mut server = start(&["deletion_round_ms=100", "deletion_delay_ms=1000", "search_run_entries=4"]);
    let [mut bob, mut cyd] = people(&server);
    let phone = "+15557770002";
    let session = Raw::registered(&server, phone, "Anastasia");
    let user = TestUser { id: session.user_id, phone: phone.to_owned(), token: session.access_token.clone() };
    let mut ann = Person::new(&server, user);
    for number in 0..30 {
        ann.say(bob.user.id, &format!("to Bob, {number}"));
        bob.say(ann.user.id, &format!("to Ann, {number}"));
        ann.say(ann.user.id, &format!("to myself, {number}"));
    }
    let group = ann.make("friends", vec![bob.user.id, cyd.user.id], v1::GroupSettings::default());
    ann.say(group, "to all");
    cyd.say(ann.user.id, "from Cyd");
    let about = v1::Rename { about: Some("my own words".to_owned()), ..v1::Rename::default() };
    assert!(matches!(ann.ask(Request::Rename(about)), Message::Renamed(_)));
    let said = |what| prost::Message::encode_to_vec(&v1::Private { what: Some(what) });
    let private = [
        v1::private::What::Contacts(v1::Contacts {
            contacts: vec![v1::Contact {
                user_id: bob.user.id,
                name: "Bobby".into(),
                ..v1::Contact::default()
            }],
        }),
        v1::private::What::Blocked(v1::Blocked { user_id: cyd.user.id, off: false }),
        v1::private::What::Chat(v1::ChatSettings {
            chat: group,
            archived: true,
            ..v1::ChatSettings::default()
        }),
    ];
    for what in private {
        ann.sends(1 << 43, Kind::Private, 0, &said(what));
    }
    let mut other = Raw::logged_in(&server, &session.access_token);
    assert!(matches!(delete(&mut other, ""), Message::AccountEnds(_)));
    for slot in (0..4096).step_by(64) {
        server.admin(&json!({ "ask": "move_slot", "slot": slot, "to": slot / 64 % 3 }));
    }
    for _ in 0..3 {
        server.kill_and_restart();
        std::thread::yield_now();
    }
    await_none(&server);
    let gone = ann.user.id;
    let refused = Raw::login(&server, &session.access_token);
    assert!(matches!(reason(&refused), Reason::TokenInvalid | Reason::SessionRevoked), "{refused:?}");
    // Others have what was said, and see that whoever said it has left.
    let mut bob = Person::new(&server, bob.user.clone());
    assert_eq!(bob.history(gone).entries.len(), 60);
    let members = bob.about(group).members;
    assert!(members.iter().all(|member| member.user_id != gone), "{members:?}");
    assert_eq!(
        bob.refused(Request::Lookup(v1::Lookup {
            by: Some(v1::lookup::By::Phone(phone.to_owned())),
            ..v1::Lookup::default()
        })),
        Reason::UnknownUser
    );
    assert_eq!(bob.may_not_send(gone, Kind::Text, 0, b"are you there?"), Reason::UnknownUser);
    // The phone is somebody else's now.
    let next = Raw::registered(&server, phone, "Somebody");
    assert_ne!(next.user_id, gone);
    let mut connection = Raw::logged_in(&server, &next.access_token);
    assert!(matches!(delete(&mut connection, ""), Message::AccountEnds(_)));
    await_none(&server);

    assert!(server.terminate().success());
    let (id, digits) = (gone.to_be_bytes(), &phone.as_bytes()[1..]);
    let mut tombstones = 0;
    for (key, value) in rows(&server.data_dir().join("store")) {
        let place = keys::describe(&key);
        for word in [digits, b"Anastasia", b"my own words", b"Bobby", b"to myself"] {
            assert!(!contains(&key, word) && !contains(&value, word), "{place}");
        }
        if !contains(&key, &id) {
            continue;
        }
        let log = |at: usize| key.get(at..at + 17).and_then(LogId::from_bytes);
        match (key[0], log(if key[0] == b't' { 11 } else { 3 })) {
            (b'u', _) => tombstones += 1,
            (b'l' | b'e' | b'x' | b'w' | b'f' | b't', Some(LogId::Direct(one, other))) => {
                assert!(one != other, "{place} is of a chat with oneself");
                let is_own = matches!(key[0], b'x' | b'w') && key.get(20..28) == Some(&id);
                assert!(!is_own, "{place} is of the one who is gone");
            }
            // The chat is one of theirs.
            (b'g' | b'a' | b'i', _) => assert_ne!(key[3..11], id, "{place}"),
            _ => panic!("{place} is left"),
        }
    }
    assert_eq!(tombstones, 1);
    let mut check = std::process::Command::new(program("ternctl"));
    let checked = check.arg("check").arg(server.data_dir()).output().expect("it runs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}
