//! What SQLite alone does: another session, and older layouts. What the records mean is tested over both kinds of tables, with the
//! machine's records.

use super::*;
use crate::machine::rows::EntryRow;
use crate::machine::tables::{Change, Which};
use crate::message::{Envelope, Message};
use tern_proto::v1;
use tern_search::{Query, terms};

const ME: u64 = 7;
const PEER: u64 = 9;

fn session(user_id: u64, device_id: u32) -> v1::Session {
    v1::Session { user_id, device_id, ..v1::Session::default() }
}

fn seqs_of(store: &Store, word: &str) -> Vec<u64> {
    let needed = Query::parse(word).expect("a query").needed();
    let places = store.places(&needed, None, None, 9).expect("read");
    places.into_iter().map(|(_, _, seq)| seq).collect()
}

fn bodies(messages: Vec<Message>) -> Vec<(u64, String)> {
    let body = |message: Message| (message.seq, String::from_utf8(message.body).expect("text"));
    messages.into_iter().map(body).collect()
}

#[test]
fn a_new_session_empties_what_belonged_to_the_one_before() {
    let mut store = Store::in_memory().expect("a store");
    store.register("+15550001", &session(ME, 1), b"store").expect("registered");
    for (user, device, id) in [(ME, 2, &b"store"[..]), (8, 1, b"store"), (8, 1, b"other")] {
        let entry = |body| EntryRow {
            seq: 1,
            sender: PEER,
            time_ms: 10,
            kind: 0,
            body: bytes::Bytes::from_static(body),
            ..EntryRow::default()
        };
        for change in [
            Change::Generation(5),
            Change::Outgoing(&Outgoing {
                client_id: 1,
                chat: PEER,
                kind: 0,
                body: b"waits".to_vec(),
                envelope: Envelope::default(),
            }),
            Change::Entry(PEER, &entry(b"one")),
            Change::Doubt { chat: PEER, above: 0, told: 0 },
            Change::Entry(PEER, &entry(b"other")),
            Change::Found { chat: PEER, seq: 1, time_ms: 10, terms: &terms("other") },
            Change::Log(LogState { chat: PEER, position: 1, top: 1, ..LogState::default() }),
            Change::Person(&Person {
                user_id: PEER,
                name: String::new(),
                phone: "+1".into(),
                ..Person::default()
            }),
        ] {
            store.change(change).expect("changed");
        }
        store.commit().expect("changed");
        assert_eq!(seqs_of(&store, "other"), [1]);
        store.register("+15550001", &session(user, device), id).expect("registered again");
        assert!(store.outbox().expect("read").is_empty());
        assert!(store.generations().expect("read").is_empty());
        assert!(store.kept_newest(PEER, 10).expect("read").is_empty());
        assert!(!store.is_in_doubt().expect("read"));
        assert!(store.logs(Which::All(None), 9).expect("read").is_empty());
        assert!(store.person(PEER).expect("read").is_none());
        assert!(seqs_of(&store, "other").is_empty() && store.count_terms() == 0);
        let row = store.device().expect("read").expect("registered");
        assert_eq!((row.account.store, row.next_client_id, row.newest_device), (id.to_vec(), 1, device));
    }
}

#[test]
fn what_is_gone_is_shown_in_the_order_of_its_places() {
    let mut store = Store::in_memory().expect("a store");
    store.register("+15550001", &session(ME, 1), b"store").expect("registered");
    for seq in 1..=6 {
        let body = format!("old {seq}").into_bytes().into();
        let entry = EntryRow { seq, sender: PEER, time_ms: seq * 10, body, ..EntryRow::default() };
        store.change(Change::Entry(PEER, &entry)).expect("kept");
    }
    store.change(Change::Doubt { chat: PEER, above: 3, told: 0 }).expect("put back");
    store.commit().expect("kept");
    assert!(store.gone(PEER, 9).expect("read").is_empty(), "it is only in doubt");
    store.change(Change::GoneForGood).expect("gone");
    store.commit().expect("gone");
    let gone: Vec<_> = [4, 5, 6].map(|seq| (seq, format!("old {seq}"))).into();
    assert_eq!(bodies(store.gone(PEER, 9).expect("read")), gone);
    assert_eq!(bodies(store.gone(PEER, 2).expect("read")), gone[1..], "the newest");
    assert_eq!(store.kept(PEER, 1, 9, 9).expect("read").len(), 2);
}

#[test]
fn a_profile_of_the_first_layout_is_brought_to_this_one() {
    let db = Connection::open_in_memory().expect("a database");
    db.execute_batch(MIGRATIONS[0]).expect("made");
    db.execute_batch(
        "INSERT INTO account VALUES (1, '+1', 7, 1, 'a', 0, 'r', NULL, 4);
         INSERT INTO logs (peer, position, acked) VALUES (9, 1, 1);
         INSERT INTO entries VALUES (9, 1, 9, 10, 0, x'6f6e65');",
    )
    .expect("filled");
    let store = Store::prepare(db, None).expect("brought up");
    let log = store.log(PEER).expect("read");
    assert_eq!((log.position, log.told, log.top), (1, 1, 1));
    assert_eq!(bodies(store.kept_newest(PEER, 9).expect("read")), [(1, "one".to_owned())]);
    assert!(store.account().expect("read").expect("registered").store.is_empty());
    assert_eq!(seqs_of(&store, "one"), [1]);
    // Once more, after an older `tern` has had it.
    store.outdate_words();
    let store = Store::prepare(store.db, None).expect("brought up again");
    assert_eq!(seqs_of(&store, "one"), [1]);
    assert_eq!(store.count_terms(), 1);
}
