//! What a profile keeps, without a server.

use super::*;

const ME: u64 = 7;
const PEER: u64 = 9;

fn session(user_id: u64, device_id: u32) -> v1::Session {
    v1::Session { user_id, device_id, ..v1::Session::default() }
}

fn registered() -> (Store, Account) {
    let store = Store::in_memory().expect("a store");
    store.register("+15550001", &session(ME, 1), b"store").expect("registered");
    let account = store.account().expect("read").expect("registered");
    (store, account)
}

fn entry(seq: u64, body: &str) -> v1::Entry {
    let body = body.as_bytes().to_vec().into();
    v1::Entry { peer: PEER, seq, time_ms: seq * 10, body, ..v1::Entry::default() }
}

fn bodies(messages: Vec<Message>) -> Vec<(u64, String)> {
    let body = |message: Message| (message.seq, String::from_utf8(message.body).expect("text"));
    messages.into_iter().map(body).collect()
}

/// A small generator: the order of arrival is the test's only randomness.
fn shuffled(seed: u64, mut seqs: Vec<u64>) -> Vec<u64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for at in (1..seqs.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seqs.swap(at, (state >> 33) as usize % (at + 1));
    }
    seqs
}

#[test]
fn a_new_session_empties_what_belonged_to_the_one_before() {
    let (store, me) = registered();
    for (user, device, id) in [(ME, 2, &b"store"[..]), (8, 1, b"store"), (8, 1, b"other")] {
        store.enqueue(PEER, b"waits", None).expect("kept");
        store.take(&entry(1, "one"), &me, 5).expect("taken");
        store.rewind(PEER, 0).expect("put back");
        store.take(&entry(1, "other"), &me, 5).expect("taken");
        store.put_person(&Person { user_id: PEER, name: String::new(), phone: "+1".into() }).expect("kept");
        store.register("+15550001", &session(user, device), id).expect("registered again");
        assert!(store.outbox().expect("read").is_empty());
        assert!(store.generations().expect("read").is_empty());
        assert!(store.kept_newest(PEER, 10).expect("read").is_empty());
        assert!(!store.caught_up(5).expect("nothing is in doubt"));
        assert_eq!(store.log(PEER).expect("read"), LogState { peer: PEER, ..LogState::default() });
        assert!(store.person(PEER).expect("read").is_none());
        assert_eq!(store.account().expect("read").expect("registered").store, id);
    }
}

#[test]
fn a_profile_that_went_back_never_takes_a_client_id_again() {
    for _ in 0..100 {
        let (store, me) = registered();
        store.raise_client_id().expect("raised");
        let used: Vec<_> = (0..100).map(|_| enqueue(&store)).collect();
        // Back to the state of before that start.
        let (store, _) = registered();
        store.raise_client_id().expect("raised");
        let again: Vec<_> = (0..100).map(|_| enqueue(&store)).collect();
        assert!(again.iter().all(|id| !used.contains(id) && *id < NUMBERS_END));
        // And whatever it has seen of its own stays below.
        let last = *again.last().expect("some");
        let own = v1::Entry { sender: ME, sender_device: 1, client_id: last + 1000, ..entry(1, "mine") };
        store.take(&own, &me, 1).expect("taken");
        assert_eq!(enqueue(&store), last + 1001);
    }
}

#[test]
fn numbers_of_the_protocol_end_before_2_to_53() {
    let (store, me) = registered();
    let last = v1::Entry { sender: ME, sender_device: 1, client_id: NUMBERS_END - 1, ..entry(1, "mine") };
    store.take(&last, &me, 1).expect("taken");
    assert!(matches!(store.enqueue(PEER, b"x", None), Err(Error::Store(_))));
}

#[test]
fn every_entry_is_kept_once_and_the_position_stays_below_a_gap_whatever_the_arrival() {
    for seed in 0..50 {
        let (store, me) = registered();
        let mut here = std::collections::BTreeSet::new();
        for seq in shuffled(seed, (1..=40).chain(5..=20).collect()) {
            let took = store.take(&entry(seq, "x"), &me, 1).expect("taken");
            assert!(!took.rewound);
            here.insert(seq);
            let upto = (1..).take_while(|seq| here.contains(seq)).last().unwrap_or(0);
            assert_eq!(took.log.position, upto, "seed {seed}");
            assert_eq!(took.log.top, *here.last().expect("some"), "seed {seed}");
        }
        assert_eq!(store.kept(PEER, 0, 40, 100).expect("read").len(), 40);
        assert!(store.gaps().expect("read").is_empty());
    }
}

#[test]
fn more_than_ever_fits_into_memory_is_kept_beyond_a_gap() {
    let (store, me) = registered();
    for seq in 2..=6000 {
        store.take(&entry(seq, "x"), &me, 1).expect("taken");
    }
    assert_eq!(store.gaps().expect("read").len(), 1);
    assert_eq!(store.take(&entry(1, "x"), &me, 1).expect("taken").log.position, 6000);
}

#[test]
fn what_comes_again_after_the_store_went_back_stays_and_the_rest_is_gone() {
    let (store, me) = registered();
    for seq in 1..=6 {
        store.take(&entry(seq, &format!("old {seq}")), &me, 1).expect("taken");
    }
    store.told(&[(PEER, 5)], 0).expect("told");
    store.acknowledged(PEER, 5, 4).expect("acknowledged");
    store.peer_marks(PEER, 6, 6, 1).expect("marked");
    store.rewind(PEER, 2).expect("put back");
    let log = store.log(PEER).expect("read");
    assert_eq!((log.position, log.told, log.acked, log.peer_delivered, log.peer_read), (2, 2, 2, 2, 2));
    assert!(store.gone(PEER, 9).expect("read").is_empty(), "it is only in doubt");
    store.take(&entry(3, "old 3"), &me, 2).expect("taken");
    store.take(&entry(4, "new 4"), &me, 2).expect("taken");
    assert!(store.caught_up(2).expect("settled"));
    assert_eq!(store.generations().expect("read"), [2]);
    let gone: Vec<_> = [4, 5, 6].map(|seq| (seq, format!("old {seq}"))).into();
    assert_eq!(bodies(store.gone(PEER, 9).expect("read")), gone);
    let kept = bodies(store.kept(PEER, 2, 9, 9).expect("read"));
    assert_eq!(kept, [(3, "old 3".to_owned()), (4, "new 4".to_owned())]);
    // The third was told before and is not told again, the fourth is.
    let seen: Vec<_> =
        store.kept_and_seen(PEER, 2, 4, 9).expect("read").into_iter().map(|(_, seen)| seen).collect();
    assert_eq!(seen, [true, false]);
    store.told(&[(PEER, 2)], 0).expect("told");
    assert_eq!(store.log(PEER).expect("read").told, 3);
    let untold = store.gone_untold(0, 9).expect("read");
    assert_eq!(untold.len(), 3);
    store.told(&[], untold[2].0).expect("told");
    assert!(store.gone_untold(0, 9).expect("read").is_empty());
}

#[test]
fn another_content_at_a_known_place_puts_the_log_back() {
    let (store, me) = registered();
    for seq in 1..=4 {
        store.take(&entry(seq, &format!("old {seq}")), &me, 1).expect("taken");
    }
    assert!(!store.take(&entry(3, "old 3"), &me, 1).expect("taken").rewound);
    let took = store.take(&entry(3, "new 3"), &me, 1).expect("taken");
    assert!(took.rewound);
    assert_eq!((took.log.position, took.log.top), (3, 3));
    assert!(store.settle().expect("settled"));
    assert_eq!(store.gone(PEER, 9).expect("read").len(), 2);
}

#[test]
fn what_the_server_lost_to_damage_is_kept_here_and_shown_as_lost_elsewhere() {
    let (store, me) = registered();
    store.take(&entry(1, "one"), &me, 1).expect("taken");
    for seq in 1..=2 {
        let lost = v1::Entry { kind: v1::Kind::Lost.into(), time_ms: 1, ..entry(seq, "") };
        assert!(!store.take(&lost, &me, 1).expect("taken").rewound);
    }
    let kept = store.kept(PEER, 0, 9, 9).expect("read");
    assert_eq!((kept[0].kind, &kept[0].body[..]), (crate::Kind::Text, &b"one"[..]));
    assert_eq!(kept[1].kind, crate::Kind::Lost);
}

#[test]
fn a_phone_is_one_persons_and_what_was_told_once_stays() {
    let (store, _) = registered();
    let person =
        |user_id, name: &str, phone: &str| Person { user_id, name: name.into(), phone: phone.into() };
    store.put_person(&person(1, "", "+1")).expect("kept");
    store.put_person(&person(1, "Ann", "")).expect("kept");
    assert_eq!(store.person_by_phone("+1").expect("read"), Some(person(1, "Ann", "+1")));
    store.put_person(&person(2, "", "+1")).expect("kept");
    assert_eq!(store.person_by_phone("+1").expect("read"), Some(person(2, "", "+1")));
    assert_eq!(store.person(1).expect("read"), Some(person(1, "Ann", "")));
    store.forget_phone_of(2).expect("forgotten");
    assert_eq!(store.person_by_phone("+1").expect("read"), None);
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
}

fn enqueue(store: &Store) -> u64 {
    match store.enqueue(PEER, b"x", None).expect("kept") {
        Enqueued::New(client_id) => client_id,
        Enqueued::Waiting(_) | Enqueued::Sent(_) => panic!("it has no key"),
    }
}

#[test]
fn a_message_of_a_known_key_is_the_one_that_was_kept_before() {
    let (store, _) = registered();
    let Enqueued::New(id) = store.enqueue(PEER, b"echo", Some("k")).expect("kept") else { panic!("new") };
    assert!(matches!(store.enqueue(PEER, b"echo", Some("k")), Ok(Enqueued::Waiting(again)) if again == id));
    assert!(matches!(store.enqueue(PEER, b"other", Some("k")), Err(Error::KeyReused)));
    assert!(matches!(store.enqueue(PEER + 1, b"echo", Some("k")), Err(Error::KeyReused)));
    store.dequeue(id).expect("written");
    let sent = Sent { seq: 7, time_ms: 8 };
    store.note_sent(id, sent).expect("written");
    assert!(matches!(store.enqueue(PEER, b"echo", Some("k")), Ok(Enqueued::Sent(before)) if before == sent));
    assert_eq!(store.outbox_len().expect("read"), 0);
    // That of a message that was refused is free again.
    let Enqueued::New(id) = store.enqueue(PEER, b"no", Some("r")).expect("kept") else { panic!("new") };
    store.dequeue(id).expect("written");
    store.note_not_sent(id).expect("written");
    assert!(matches!(store.enqueue(PEER, b"yes", Some("r")), Ok(Enqueued::New(_))));
    // One that was given up with its session, and whose key stayed, is free again too.
    let Enqueued::New(id) = store.enqueue(PEER, b"given up", Some("g")).expect("kept") else { panic!("new") };
    store.dequeue(id).expect("written");
    assert!(matches!(store.enqueue(PEER, b"again", Some("g")), Ok(Enqueued::New(_))));
    // They are bounded, and those of messages that are not sent stay.
    store
        .db
        .execute("UPDATE sqlite_sequence SET seq = seq + ? WHERE name = 'keys'", [KEYS_MAX as i64])
        .expect("written");
    assert!(matches!(store.enqueue(PEER, b"new", Some("n")), Ok(Enqueued::New(_))));
    assert!(matches!(store.enqueue(PEER, b"other", Some("k")), Ok(Enqueued::New(_))), "it is forgotten");
    assert!(matches!(store.enqueue(PEER, b"yes", Some("r")), Ok(Enqueued::Waiting(_))));
}
