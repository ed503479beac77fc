//! Messages that the server sends later, against a real server of several cores: once, to whom they are for, whatever was killed meanwhile;
//! and why not, if they may not be sent.

use prost::Message as _;
use tern_proto::v1::{self, Kind, Reason, client_frame::Request, private::What, server_frame::Message};
use tern_testkit::person::{Person, people};
use tern_testkit::{Raw, Ternd, TestUser};

const PRIVATE: u64 = 1 << 43;

/// The device by which the server sends.
const SERVER: u32 = u32::MAX;

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("after 1970").as_millis() as u64
}

fn body(scheduled: v1::Scheduled) -> Vec<u8> {
    v1::Private { what: Some(What::Scheduled(scheduled)) }.encode_to_vec()
}

fn later(at_ms: u64, chat: u64, text: &str) -> Vec<u8> {
    let send = v1::Send { chat, body: text.to_owned().into(), ..v1::Send::default() };
    body(v1::Scheduled { at_ms, send: Some(send) })
}

/// What became of a message that was scheduled, when it is said.
fn outcome(person: &mut Person, scheduled: u64) -> v1::Dispatched {
    loop {
        let of_it = |entry: &&v1::Entry| entry.about == scheduled && entry.sender_device == SERVER;
        if let Some(entry) = person.entries.get(&PRIVATE).and_then(|all| all.iter().find(of_it)) {
            let said = v1::Private::decode(&entry.body[..]).expect("a private entry").what;
            let Some(What::Dispatched(dispatched)) = said else { panic!("{said:?}") };
            return dispatched;
        }
        assert!(matches!(person.ask(Request::Ping(v1::Ping {})), Message::Pong(_)));
    }
}

fn texts(person: &mut Person, chat: u64) -> Vec<String> {
    let entries = person.history(chat).entries.into_iter().filter(|entry| entry.kind() == Kind::Text);
    entries.map(|entry| String::from_utf8_lossy(&entry.body).into_owned()).collect()
}

#[test]
fn what_is_scheduled_comes_when_its_time_has_come_and_all_own_devices_know() {
    let server = Ternd::start(3);
    let [mut ann, mut bob, cyd] = people(&server);
    let session = Raw::registered(&server, &ann.user.phone, "");
    let user = TestUser { token: session.access_token, ..ann.user.clone() };
    let mut laptop = Person::new(&server, user);
    let group = ann.make("friends", vec![bob.user.id, cyd.user.id], v1::GroupSettings::default());
    for (chat, from) in [(bob.user.id, ann.user.id), (group, group)] {
        let at_ms = now_ms() + 300;
        let scheduled = ann.sends(PRIVATE, Kind::Private, 0, &later(at_ms, chat, "good morning"));
        let sent = outcome(&mut laptop, scheduled);
        assert_eq!((sent.chat, sent.reason()), (chat, Reason::Unspecified));
        assert!(sent.time_ms >= at_ms, "not before its time");
        assert_eq!(outcome(&mut ann, scheduled), sent);
        // It is everybody's, that of the device that scheduled it too.
        for (person, chat) in [(&mut ann, chat), (&mut laptop, chat), (&mut bob, from)] {
            person.hears(chat, sent.seq);
            let heard =
                person.entries[&chat].iter().find(|entry| entry.seq == sent.seq).expect("it has come");
            assert_eq!(&heard.body[..], b"good morning");
        }
        let own = laptop.entries[&chat].iter().find(|entry| entry.seq == sent.seq).expect("it has come");
        assert_eq!(
            (own.sender, own.sender_device, own.client_id),
            (ann.user.id, SERVER, scheduled),
            "and says by what it was scheduled"
        );
        let before = ann.history(PRIVATE).entries;
        let before = before.iter().find(|entry| entry.seq == scheduled).expect("its place");
        assert!(before.erased && before.body.is_empty());
    }
}

#[test]
fn what_was_due_while_the_server_was_away_is_sent_once_when_it_is_back() {
    let mut server = Ternd::start(3);
    let [mut ann, mut bob] = people(&server);
    let (to_bob, to_ann) = (bob.user.id, ann.user.id);
    let due_ms = now_ms() + 400;
    let scheduled: Vec<_> = (0..20)
        .map(|number| {
            ann.sends(PRIVATE, Kind::Private, 0, &later(due_ms, to_bob, &format!("number {number}")))
        })
        .collect();
    for _ in 0..3 {
        // Somewhere between before they are due, and while they are sent.
        server.kill_and_restart();
    }
    [ann, bob] = [ann, bob].map(|person| Person::new(&server, person.user));
    for seq in scheduled {
        assert_eq!(outcome(&mut ann, seq).reason(), Reason::Unspecified);
    }
    let mut texts = texts(&mut bob, to_ann);
    texts.sort_by_key(|text| text[7..].parse::<u32>().expect("a number"));
    let all: Vec<_> = (0..20).map(|number| format!("number {number}")).collect();
    assert_eq!(texts, all);
}

#[test]
fn what_is_taken_back_or_replaced_is_not_sent_and_what_may_not_be_says_why() {
    let server = Ternd::start(3);
    let [mut ann, mut bob] = people(&server);
    let (to_bob, to_ann) = (bob.user.id, ann.user.id);
    let soon = now_ms() + 500;
    let taken_back = ann.sends(PRIVATE, Kind::Private, 0, &later(soon, to_bob, "regretted"));
    ann.sends(PRIVATE, Kind::Private, taken_back, &body(v1::Scheduled::default()));
    let replaced = ann.sends(PRIVATE, Kind::Private, 0, &later(soon, to_bob, "helo"));
    let instead = ann.sends(PRIVATE, Kind::Private, replaced, &later(soon, to_bob, "hello"));
    let group = bob.make("without her", vec![], v1::GroupSettings::default());
    let foreign = ann.sends(PRIVATE, Kind::Private, 0, &later(soon, group, "let me in"));
    assert_eq!(outcome(&mut ann, instead).reason(), Reason::Unspecified);
    let refused = outcome(&mut ann, foreign);
    assert_eq!((refused.chat, refused.seq, refused.reason()), (group, 0, Reason::UnknownGroup));
    assert_eq!(texts(&mut bob, to_ann), ["hello"]);
    // Of a time that is past: at once.
    let past = ann.sends(PRIVATE, Kind::Private, 0, &later(1, to_bob, "late"));
    assert!(outcome(&mut ann, past).seq > 0);
    // What no server takes.
    let edit =
        v1::Send { chat: to_bob, kind: Kind::Edit.into(), about: 1, body: "x".into(), ..Default::default() };
    let dispatched = v1::Private { what: Some(What::Dispatched(v1::Dispatched::default())) }.encode_to_vec();
    for wrong in [later(0, to_bob, "x"), body(v1::Scheduled { at_ms: 1, send: Some(edit) }), dispatched] {
        assert_eq!(ann.may_not_send(PRIVATE, Kind::Private, 0, &wrong), Reason::InvalidArgument);
    }
    let wrong = v1::Send { chat: to_bob, client_id: 77, body: "x".into(), ..Default::default() };
    assert!(matches!(ann.ask(Request::Send(wrong)), Message::Sent(_)), "and its numbers are its own");
}
