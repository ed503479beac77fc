//! What a profile keeps, without a server: over SQLite and over memory.

use super::*;
use crate::client::Sent;
use crate::machine::Memory;
use crate::machine::entropy::Entropy;
use crate::machine::rows::{EntryRow, KeyRow, LogState, Outgoing, Person};
use crate::machine::tables::{KEYS_MAX, Which};
use crate::message::{Envelope, Message, NewMessage};
use crate::store::Store;
use crate::stories::StoryId;
use bytes::Bytes;
use tern_proto::v1;
use tern_search::{Query, terms};
use tern_wire::ids::PRIVATE;
use tern_wire::limits::NUMBERS_END;

const ME: u64 = 7;
const PEER: u64 = 9;

fn device() -> DeviceRow {
    let session = v1::Session { user_id: ME, device_id: 1, ..v1::Session::default() };
    DeviceRow::new(Account::new("+15550001", &session, b"store"))
}

fn sqlite() -> Store {
    let mut store = Store::in_memory().expect("a store");
    store.change(Change::Device(&device())).expect("registered");
    Tables::commit(&mut store).expect("registered");
    store
}

fn memory() -> Memory {
    Memory::registered(device())
}

/// Runs a test over both kinds of tables.
macro_rules! over_both {
    ($test:ident, $name:ident) => {
        #[test]
        fn $name() {
            $test(sqlite);
            $test(memory);
        }
    };
}

mod texts;

fn registered<S: Tables>(tables: impl Fn() -> S) -> (Records<S>, Account) {
    Records::open(tables()).expect("registered")
}

fn entry(seq: u64, body: &str) -> v1::Entry {
    let body = body.as_bytes().to_vec().into();
    v1::Entry { chat: PEER, seq, time_ms: seq * 10, body, ..v1::Entry::default() }
}

fn bodies(messages: Vec<(Message, bool)>) -> Vec<(u64, String)> {
    let body = |(message, _): (Message, bool)| (message.seq, String::from_utf8(message.body).expect("text"));
    messages.into_iter().map(body).collect()
}

fn gone<S: Tables>(store: &Records<S>) -> Vec<(u64, String)> {
    let mut gone: Vec<_> =
        store.gone_untold(0, 9).expect("read").into_iter().map(|(_, message)| (message, true)).collect();
    gone.sort_by_key(|(message, _)| message.seq);
    bodies(gone)
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

fn message(chat: u64, body: &[u8], key: Option<&str>) -> NewMessage {
    NewMessage { key: key.map(str::to_owned), ..NewMessage::text(chat, body) }
}

fn enqueue<S: Tables>(store: &mut Records<S>) -> u64 {
    new(store.enqueue(&message(PEER, b"x", None)))
}

fn new(enqueued: Result<Enqueued, Error>) -> u64 {
    match enqueued.expect("kept") {
        Enqueued::New(client_id) => client_id,
        Enqueued::Waiting(_) | Enqueued::Sent(_) => panic!("it is new"),
    }
}

fn never_again<S: Tables>(tables: impl Fn() -> S) {
    for seed in 0..50 {
        let mut entropy = Entropy::new([seed; 32]);
        let (mut store, me) = registered(&tables);
        store.raise_client_id(&mut entropy).expect("raised");
        let used: Vec<_> = (0..100).map(|_| enqueue(&mut store)).collect();
        // Back to the state of before that start.
        let (mut store, _) = registered(&tables);
        store.raise_client_id(&mut entropy).expect("raised");
        let again: Vec<_> = (0..100).map(|_| enqueue(&mut store)).collect();
        assert!(again.iter().all(|id| !used.contains(id) && *id < NUMBERS_END));
        // And whatever it has seen of its own stays below.
        let last = *again.last().expect("some");
        let own = v1::Entry { sender: ME, sender_device: 1, client_id: last + 1000, ..entry(1, "mine") };
        store.take(&own, &me, 1).expect("taken");
        assert_eq!(enqueue(&mut store), last + 1001);
    }
}

over_both!(never_again, a_profile_that_went_back_never_takes_a_client_id_again);

fn numbers_end<S: Tables>(tables: impl Fn() -> S) {
    let (mut store, me) = registered(tables);
    let last = v1::Entry { sender: ME, sender_device: 1, client_id: NUMBERS_END - 1, ..entry(1, "mine") };
    store.take(&last, &me, 1).expect("taken");
    assert!(matches!(store.enqueue(&message(PEER, b"x", None)), Err(Error::Store(_))));
}

over_both!(numbers_end, numbers_of_the_protocol_end_before_2_to_53);

fn below_a_gap<S: Tables>(tables: impl Fn() -> S) {
    for seed in 0..50 {
        let (mut store, me) = registered(&tables);
        let mut here = std::collections::BTreeSet::new();
        for seq in shuffled(seed, (1..=40).chain(5..=20).collect()) {
            let took = store.take(&entry(seq, "x"), &me, 1).expect("taken");
            assert!(!took.rewound);
            here.insert(seq);
            let upto = (1..).take_while(|seq| here.contains(seq)).last().unwrap_or(0);
            assert_eq!(took.log.position, upto, "seed {seed}");
            assert_eq!(took.log.top, *here.last().expect("some"), "seed {seed}");
        }
        assert_eq!(store.kept_and_seen(PEER, 0, 40, 100).expect("read").len(), 40);
        assert!(store.logs(Which::Gaps).expect("read").is_empty());
    }
}

over_both!(below_a_gap, every_entry_is_kept_once_and_the_position_stays_below_a_gap_whatever_the_arrival);

fn beyond_a_gap<S: Tables>(tables: impl Fn() -> S) {
    let (mut store, me) = registered(tables);
    for seq in 2..=6000 {
        store.take(&entry(seq, "x"), &me, 1).expect("taken");
    }
    assert_eq!(store.logs(Which::Gaps).expect("read").len(), 1);
    assert_eq!(store.take(&entry(1, "x"), &me, 1).expect("taken").log.position, 6000);
}

over_both!(beyond_a_gap, more_than_ever_fits_into_memory_is_kept_beyond_a_gap);

fn back_again<S: Tables>(tables: impl Fn() -> S) {
    let (mut store, me) = registered(tables);
    for seq in 1..=6 {
        store.take(&entry(seq, &format!("old {seq}")), &me, 1).expect("taken");
    }
    store.told(&[(PEER, 5)]).expect("told");
    store.acknowledged(PEER, 5, 4).expect("acknowledged");
    store.others_marks(PEER, 6, 6, 1).expect("marked");
    store.rewind(PEER, 2).expect("put back");
    let log = store.log(PEER).expect("read");
    assert_eq!((log.position, log.told, log.acked, log.others_delivered, log.others_read), (2, 2, 2, 2, 2));
    assert!(gone(&store).is_empty(), "it is only in doubt");
    store.take(&entry(3, "old 3"), &me, 2).expect("taken");
    store.take(&entry(4, "new 4"), &me, 2).expect("taken");
    assert!(store.caught_up(2).expect("settled"));
    assert_eq!(store.generations().expect("read"), [2]);
    let expected: Vec<_> = [4, 5, 6].map(|seq| (seq, format!("old {seq}"))).into();
    assert_eq!(gone(&store), expected);
    let kept = store.kept_and_seen(PEER, 2, 9, 9).expect("read");
    // The third was told before and is not told again, the fourth is.
    let seen: Vec<_> = kept.iter().map(|(_, seen)| *seen).collect();
    assert_eq!(seen, [true, false]);
    assert_eq!(bodies(kept), [(3, "old 3".to_owned()), (4, "new 4".to_owned())]);
    store.told(&[(PEER, 2)]).expect("told");
    assert_eq!(store.log(PEER).expect("read").told, 3);
    let untold = store.gone_untold(0, 9).expect("read");
    assert_eq!(untold.len(), 3);
    store.gone_told(untold[2].0).expect("told");
    assert!(store.gone_untold(0, 9).expect("read").is_empty());
}

over_both!(back_again, what_comes_again_after_the_store_went_back_stays_and_the_rest_is_gone);

fn another_content<S: Tables>(tables: impl Fn() -> S) {
    let (mut store, me) = registered(tables);
    for seq in 1..=4 {
        store.take(&entry(seq, &format!("old {seq}")), &me, 1).expect("taken");
    }
    assert!(!store.take(&entry(3, "old 3"), &me, 1).expect("taken").rewound);
    let took = store.take(&entry(3, "new 3"), &me, 1).expect("taken");
    assert!(took.rewound);
    assert_eq!((took.log.position, took.log.top), (3, 3));
    assert!(store.settle().expect("settled"));
    assert_eq!(gone(&store).len(), 2);
}

over_both!(another_content, another_content_at_a_known_place_puts_the_log_back);

/// `tern-sim --fdb --seed 10037`: what replaced an entry had been replaced itself by the time that a device heard of it.
fn replaced_twice<S: Tables>(tables: impl Fn() -> S) {
    let (mut store, me) = registered(tables);
    let private = |seq, about, erased, body: &str| {
        let (chat, kind) = (PRIVATE, v1::Kind::Private.into());
        v1::Entry { chat, sender: ME, sender_device: 2, kind, about, erased, ..entry(seq, body) }
    };
    store.take(&private(1, 0, false, "first"), &me, 1).expect("taken");
    store.take(&private(2, 1, true, ""), &me, 1).expect("taken");
    store.take(&private(3, 2, false, "third"), &me, 1).expect("taken");
    let kept = store.kept_and_seen(PRIVATE, 0, 9, 9).expect("read");
    let left: Vec<_> = kept.iter().map(|(message, _)| (message.seq, message.body.len())).collect();
    assert_eq!(left, [(1, 0), (2, 0), (3, 5)]);
}

over_both!(replaced_twice, what_was_replaced_twice_while_a_device_was_away_is_erased_there);

/// What ended in a commit that failed has not ended: it ends with the next one.
#[test]
fn what_ends_ends_though_a_commit_failed_in_between() {
    let (mut store, me) = registered(memory);
    let ends = v1::Entry { expires_ms: 1000, ..entry(1, "for a while") };
    store.take(&ends, &me, 1).expect("taken");
    store.commit().expect("committed");
    store.end(2000).expect("it has ended");
    store.tables().fail_after(Some(0));
    store.commit().expect_err("it was made to fail");
    store.tables().fail_after(None);
    assert!(store.ends_ms() <= 2000, "it is looked at again");
    store.end(2000).expect("it has ended");
    store.commit().expect("committed");
    assert_eq!(store.tables().next_end().expect("read"), None);
}

fn deleted<S: Tables>(tables: impl Fn() -> S) {
    let about =
        |seq, kind: v1::Kind, about, text: &str| v1::Entry { kind: kind.into(), about, ..entry(seq, text) };
    for seed in 0..20 {
        let (mut store, me) = registered(&tables);
        let entries = [
            entry(1, "a secret"),
            entry(2, "no secret"),
            about(3, v1::Kind::Edit, 1, "another secret"),
            about(4, v1::Kind::Deletion, 1, ""),
            about(5, v1::Kind::Text, 1, "a reply"),
        ];
        // Whatever comes first, and once more.
        for seq in shuffled(seed, (1..=5).chain(1..=5).collect()) {
            assert!(!store.take(&entries[seq as usize - 1], &me, 1).expect("taken").rewound);
        }
        let kept = store.kept_and_seen(PEER, 0, 9, 9).expect("read");
        let erased: Vec<_> = kept.iter().map(|(message, _)| message.erased).collect();
        assert_eq!(erased, [true, false, true, false, false], "seed {seed}");
        let expected = ["", "no secret", "", "", "a reply"].map(str::to_owned);
        assert_eq!(bodies(kept).into_iter().map(|(_, text)| text).collect::<Vec<_>>(), expected);
        // The server has it no more either.
        let gone = v1::Entry { erased: true, ..entry(1, "") };
        assert!(!store.take(&gone, &me, 1).expect("taken").rewound);
    }
}

over_both!(deleted, what_is_deleted_for_everyone_is_kept_nowhere_in_whatever_order_it_comes);

fn damage<S: Tables>(tables: impl Fn() -> S) {
    let (mut store, me) = registered(tables);
    store.take(&entry(1, "one"), &me, 1).expect("taken");
    for seq in 1..=2 {
        let lost = v1::Entry { kind: v1::Kind::Lost.into(), time_ms: 1, ..entry(seq, "") };
        assert!(!store.take(&lost, &me, 1).expect("taken").rewound);
    }
    let kept = store.kept_and_seen(PEER, 0, 9, 9).expect("read");
    assert_eq!((kept[0].0.kind, &kept[0].0.body[..]), (crate::Kind::Text, &b"one"[..]));
    assert_eq!(kept[1].0.kind, crate::Kind::Lost);
}

over_both!(damage, what_the_server_lost_to_damage_is_kept_here_and_shown_as_lost_elsewhere);

fn phones<S: Tables>(tables: impl Fn() -> S) {
    let (mut store, _) = registered(tables);
    let person = |user_id, name: &str, phone: &str| Person {
        user_id,
        name: name.into(),
        phone: phone.into(),
        ..Person::default()
    };
    store.put_person(&person(1, "", "+1")).expect("kept");
    store.put_person(&person(1, "Ann", "")).expect("kept");
    assert_eq!(store.person_by_phone("+1").expect("read"), Some(person(1, "Ann", "+1")));
    store.put_person(&person(2, "", "+1")).expect("kept");
    assert_eq!(store.person_by_phone("+1").expect("read"), Some(person(2, "", "+1")));
    assert_eq!(store.person(1).expect("read"), Some(person(1, "Ann", "")));
    store.forget_phone_of(2).expect("forgotten");
    assert_eq!(store.person_by_phone("+1").expect("read"), None);
}

over_both!(phones, a_phone_is_one_persons_and_what_was_told_once_stays);

fn keys<S: Tables>(tables: impl Fn() -> S, skip: impl Fn(&mut S, u64)) {
    let (mut store, _) = registered(tables);
    let id = new(store.enqueue(&message(PEER, b"echo", Some("k"))));
    assert!(
        matches!(store.enqueue(&message(PEER, b"echo", Some("k"))), Ok(Enqueued::Waiting(again)) if again == id)
    );
    assert!(matches!(store.enqueue(&message(PEER, b"other", Some("k"))), Err(Error::KeyReused)));
    assert!(matches!(store.enqueue(&message(PEER + 1, b"echo", Some("k"))), Err(Error::KeyReused)));
    store.dequeue(id).expect("written");
    let sent = Sent { chat: PEER, seq: 7, time_ms: 8 };
    store.note_sent(id, sent).expect("written");
    assert!(
        matches!(store.enqueue(&message(PEER, b"echo", Some("k"))), Ok(Enqueued::Sent(before)) if before == sent)
    );
    assert!(store.tables().outbox().expect("read").is_empty());
    // That of a message that was refused is free again.
    let id = new(store.enqueue(&message(PEER, b"no", Some("r"))));
    store.dequeue(id).expect("written");
    store.note_not_sent(id).expect("written");
    new(store.enqueue(&message(PEER, b"yes", Some("r"))));
    // One that was given up with its session, and whose key stayed, is free again too.
    let id = new(store.enqueue(&message(PEER, b"given up", Some("g"))));
    store.dequeue(id).expect("written");
    new(store.enqueue(&message(PEER, b"again", Some("g"))));
    // They are bounded, and those of messages that are not sent stay.
    skip(&mut store.tables, KEYS_MAX);
    new(store.enqueue(&message(PEER, b"new", Some("n"))));
    assert!(new(store.enqueue(&message(PEER, b"other", Some("k")))) > 0, "it is forgotten");
    assert!(matches!(store.enqueue(&message(PEER, b"yes", Some("r"))), Ok(Enqueued::Waiting(_))));
}

#[test]
fn a_message_of_a_known_key_is_the_one_that_was_kept_before() {
    keys(sqlite, Store::skip_keys);
    keys(memory, Memory::skip_keys);
}

/// What all reads say.
fn everything<S: Tables>(tables: &S) -> String {
    let all = [Which::All(None), Which::All(Some(2)), Which::Unacknowledged, Which::ToResume];
    let all = all.into_iter().chain([Which::Marked, Which::Untold, Which::Gaps]);
    let logs: Vec<_> = all.map(|which| (tables.logs(which, 100), tables.logs(which, 2))).collect();
    let each = 1..5;
    let entries: Vec<_> = each
        .clone()
        .map(|chat| {
            let some = (
                tables.entries(chat, 0, 9, 100),
                tables.entries(chat, 2, 4, 2),
                tables.entry(chat, 3),
                tables.is_deleted(chat, 2),
            );
            let seqs = (tables.joined(chat, 0), tables.joined(chat, 2), tables.first_unseen(chat, 1));
            (some, seqs, tables.has_written(chat), tables.log(chat), tables.person(chat))
        })
        .collect();
    let gone = (tables.gone_untold(0, 100), tables.gone_untold(2, 2), tables.is_in_doubt());
    let like: Vec<_> = each.map(|chat| tables.gone_like(chat, &row(chat, 3, 1))).collect();
    let people = (tables.person_by_phone("+1"), tables.person_by_phone("+2"));
    let outbox = (tables.outbox(), tables.outgoing(2));
    let keys = (tables.key("1"), tables.key("2"), tables.private_seq("3"));
    let rest = (tables.device(), tables.generations());
    let needed = Query::parse("wo some").expect("a query").needed();
    let found = [None, Some((3, 2, 3))].map(|before| {
        (tables.places(&needed, None, before, 100), tables.places(&needed, Some(2), before, 2))
    });
    let edits = (tables.newest_edit(2, 1), tables.newest_edit(3, 2), tables.ending(3));
    // Their `Debug` shows no content.
    let bodies: Vec<_> = (1..5).map(|chat| tables.entries(chat, 0, 9, 100)).collect();
    let bodies: Vec<_> =
        bodies.iter().flatten().flatten().map(|entry| (&entry.body, &entry.envelope, entry.erased)).collect();
    let digest = tables.key("1").expect("read").map(|key| (key.key, key.digest));
    let body = tables.outgoing(2).expect("read").map(|outgoing| (outgoing.body, outgoing.envelope));
    let nonce = tables.device().expect("read").and_then(|device| device.nonce);
    let content = (bodies, digest, body, nonce);
    format!(
        "{logs:?}\n{entries:?}\n{gone:?}\n{like:?}\n{people:?}\n{outbox:?}\n{keys:?}\n{rest:?}\n{found:?}\n{edits:?}\n{content:?}"
    )
}

fn row(chat: u64, seq: u64, text: u8) -> EntryRow {
    let sender = if text.is_multiple_of(2) { chat } else { ME };
    // Some are edits of the first two, and mention somebody.
    let kind = [v1::Kind::Text, v1::Kind::Edit, v1::Kind::Deletion][usize::from(text) % 3].into();
    let envelope = Envelope {
        about: u64::from(text % 3),
        forwards: 0,
        mentions: vec![u64::from(text)],
        media: Vec::new(),
        story: text.is_multiple_of(3).then_some(StoryId { user_id: chat, number: seq }),
    };
    let body = Bytes::from(vec![text]);
    EntryRow { seq, sender, time_ms: seq, kind, body, envelope, ..EntryRow::default() }
}

/// Makes one change, drawn at random, to both.
fn change_both(seed: u64, random: &mut fastrand::Rng, store: &mut Store, memory: &mut Memory) {
    let (chat, seq, small) = (random.u64(1..5), random.u64(1..8), random.u64(0..6));
    let is_free = memory.entry(chat, seq).expect("read").is_none();
    let is_new = memory.outgoing(small).expect("read").is_none();
    let is_not_found = !memory.is_found(chat, seq);
    let is_unknown = memory.key(&small.to_string()).expect("read").is_none();
    let mut both = |change: Change<'_>| {
        store.change(change).expect("changed");
        memory.change(change).expect("changed");
        assert_eq!(everything(store), everything(memory), "seed {seed}: {change:?}");
    };
    match random.u32(0..23) {
        0 => both(Change::Device(&DeviceRow { next_client_id: small, newest_device: 3, ..device() })),
        1 => both(Change::Generation(small + 1)),
        2 => both(Change::ForgetGenerations((small > 0).then_some(small))),
        3 | 4 => {
            let mut number = || random.u64(0..8);
            let (position, acked, told, top) = (number(), number(), number(), number());
            let (read_upto, read_acked, last_own) = (number(), number(), number());
            let (others_delivered, others_read) = (number(), number());
            let log = LogState {
                chat,
                position,
                acked,
                read_upto,
                read_acked,
                others_delivered,
                others_read,
                last_own,
                told,
                top,
            };
            both(Change::Log(log));
        }
        5 => both(Change::ForgetMarks),
        6..9 => {
            if is_free {
                let seen = random.bool();
                both(Change::Entry(chat, &EntryRow { seen, ..row(chat, seq, small as u8) }));
            }
        }
        9 => both(Change::Doubt { chat, above: seq - 1, told: small }),
        10 => both(Change::NotGone(small)),
        11 => both(Change::GoneForGood),
        12 => both(Change::GoneTold(small)),
        13 => {
            let phone = format!("+{chat}");
            both(Change::Person(&Person {
                user_id: chat,
                name: small.to_string(),
                phone,
                ..Person::default()
            }));
        }
        14 => {
            if is_new {
                both(Change::Outgoing(&Outgoing {
                    client_id: small,
                    chat,
                    kind: 0,
                    body: vec![1],
                    envelope: Envelope::about(small),
                }));
            }
        }
        15 => both(Change::Done(small)),
        16 => both(Change::Seen { chat, seq, time_ms: seq }),
        17 => both(Change::Erase { chat, seq }),
        18 => both(Change::Private(&small.to_string(), seq)),
        20 | 21 => {
            let terms = terms(["some words", "words of some", "some other"][(chat + seq) as usize % 3]);
            if is_not_found {
                both(Change::Found { chat, seq, time_ms: small, terms: &terms });
            } else {
                both(Change::NotFound { chat, seq, terms: &terms });
            }
        }
        19 => both(Change::Doubt { chat: PRIVATE, above: seq - 1, told: small }),
        _ => {
            let key = small.to_string();
            if is_unknown {
                both(Change::Key(&KeyRow { key, client_id: small, digest: vec![1], sent: None }));
            } else if random.bool() {
                both(Change::KeySent(small, Sent { chat: 0, seq, time_ms: 5 }));
            } else {
                both(Change::ForgetKey(small));
            }
        }
    }
}

/// The simulator's tables are the product's: whatever is changed, committed and rolled back, both say the same.
#[test]
fn sqlite_and_memory_never_differ() {
    for seed in 0..8 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut store, mut memory) = (sqlite(), memory());
        for _ in 0..80 {
            change_both(seed, &mut random, &mut store, &mut memory);
            match random.u32(0..12) {
                0 => {
                    Tables::roll_back(&mut store);
                    memory.roll_back();
                    assert_eq!(everything(&store), everything(&memory), "seed {seed}: after a roll-back");
                }
                1..4 => {
                    Tables::commit(&mut store).expect("committed");
                    memory.commit().expect("committed");
                }
                _ => {}
            }
        }
    }
}

/// Memory's whole content comes back, what no read shows among it.
#[test]
fn a_failed_commit_leaves_memory_as_it_was() {
    for seed in 0..6 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut store, mut memory) = (sqlite(), memory());
        for _ in 0..20 {
            let before = memory.clone();
            for _ in 0..random.u32(0..10) {
                change_both(seed, &mut random, &mut store, &mut memory);
            }
            if random.bool() {
                memory.fail_after(Some(0));
                memory.commit().expect_err("it was made to fail");
                memory.fail_after(None);
                Tables::roll_back(&mut store);
                assert!(memory.has_same(&before), "seed {seed}");
            } else {
                memory.commit().expect("committed");
                Tables::commit(&mut store).expect("committed");
            }
        }
    }
}
