//! What one tells one's own devices, against a real server of several cores: it reaches all of them and nobody else, those that were away
//! too, and the list of chats says it.

use prost::Message as _;
use tern_proto::v1::{self, Kind, Reason, client_frame::Request, private::What, server_frame::Message};
use tern_testkit::person::Person;
use tern_testkit::{Raw, Ternd, TestUser};

const PRIVATE: u64 = 1 << 43;

/// A new device of a phone.
fn device(server: &Ternd, phone: &str) -> Person {
    let session = Raw::registered(server, phone, "");
    let user = TestUser { id: session.user_id, phone: phone.to_owned(), token: session.access_token };
    Person::new(server, user)
}

fn body(what: What) -> Vec<u8> {
    v1::Private { what: Some(what) }.encode_to_vec()
}

fn archived(chat: u64, archived: bool) -> v1::ChatSettings {
    v1::ChatSettings { chat, archived, muted_until_ms: 5, ..v1::ChatSettings::default() }
}

fn listed(person: &mut Person, chat: u64) -> Option<v1::ChatSettings> {
    person.listed(chat).expect("a chat").settings
}

#[test]
fn what_one_device_says_of_a_chat_all_others_know_and_the_list_says_it() {
    let mut server = Ternd::start(3);
    let (mut phone, mut laptop) = (device(&server, "+15550001"), device(&server, "+15550001"));
    let mut bob = device(&server, "+15550002");
    let (me, chat) = (phone.user.id, bob.user.id);
    let group = phone.make("friends", vec![chat], v1::GroupSettings::default());
    bob.say(me, "hello");
    let before = phone.listed(chat).expect("a chat");
    assert_eq!(before.settings, None);
    let first = phone.sends(PRIVATE, Kind::Private, 0, &body(What::Chat(archived(chat, true))));
    let muted = v1::ChatSettings { notify: v1::Notify::Mentions.into(), ..archived(group, false) };
    phone.sends(PRIVATE, Kind::Private, 0, &body(What::Chat(muted)));
    laptop.hears(PRIVATE, first);
    let heard = laptop.entries[&PRIVATE].first().expect("it has come");
    assert_eq!(
        (heard.kind(), heard.sender, &heard.body[..]),
        (Kind::Private, me, &body(What::Chat(archived(chat, true)))[..])
    );
    // A version is another one when how one has it is.
    assert_ne!(laptop.listed(chat).expect("a chat").version, before.version);
    let second = laptop.sends(PRIVATE, Kind::Private, first, &body(What::Chat(archived(chat, false))));
    for round in 0..2 {
        assert_eq!(listed(&mut phone, chat), Some(v1::ChatSettings { chat: 0, ..archived(chat, false) }));
        assert_eq!(listed(&mut laptop, group).map(|settings| settings.notify()), Some(v1::Notify::Mentions));
        assert_eq!(listed(&mut bob, me), None, "that is nobody else's");
        let page = phone.history(PRIVATE);
        let seqs: Vec<_> = page.entries.iter().map(|entry| (entry.seq, entry.erased)).collect();
        assert_eq!(seqs, [(first, true), (2, false), (second, false)], "what was replaced is erased");
        if round == 0 {
            server.kill_and_restart();
            [phone, laptop, bob] = [phone, laptop, bob].map(|person| {
                let sent = person.sent;
                Person { sent, ..Person::new(&server, person.user) }
            });
        }
    }
    // A device that comes now has all of it, and it is no chat.
    let mut tablet = device(&server, "+15550001");
    tablet.hears(PRIVATE, second);
    let Message::ChatsPage(chats) = tablet.ask(Request::Chats(v1::Chats::default())) else {
        panic!("a page")
    };
    assert_eq!(chats.chats.iter().map(|chat| chat.id).collect::<Vec<_>>(), [chat, group]);
}

#[test]
fn a_private_log_takes_nothing_but_what_is_private_and_nothing_else_does() {
    let server = Ternd::start(2);
    let (mut ann, bob) = (device(&server, "+15550001"), device(&server, "+15550002"));
    let star = body(What::Star(v1::Star { chat: bob.user.id, seq: 1, off: false }));
    let bad = Reason::InvalidArgument;
    assert_eq!(ann.may_not_send(PRIVATE, Kind::Text, 0, b"hello"), bad);
    assert_eq!(ann.may_not_send(PRIVATE, Kind::Private, 0, b"hello"), bad);
    assert_eq!(ann.may_not_send(bob.user.id, Kind::Private, 0, &star), bad);
    assert_eq!(ann.may_not_send(PRIVATE + 1, Kind::Private, 0, &star), bad);
    assert_eq!(
        ann.may_not_send(PRIVATE, Kind::Private, 1, &star),
        Reason::NoSuchMessage,
        "there is nothing to replace"
    );
    assert_eq!(ann.may_not_send(PRIVATE, Kind::Private, 0, &body(What::Chat(archived(PRIVATE, true)))), bad);
    let first = ann.sends(PRIVATE, Kind::Private, 0, &star);
    // Two devices replace the same: the second does no harm.
    ann.sends(PRIVATE, Kind::Private, first, &star);
    ann.sends(PRIVATE, Kind::Private, first, &star);
    assert_eq!(ann.history(PRIVATE).head, 3);
}
