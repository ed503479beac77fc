//! A stranger's attempts to find out, by any request, who is here: which numbers have accounts, which ids, which groups there are. Of
//! those who hide, all that is said is what is said of those who do not exist, to the last byte, but for the ids and numbers that the
//! stranger has brought along. What is done for the answer is compared in shard/tests/harvest.rs.

use prost::Message as _;
use serde_json::json;
use tern_proto::v1::{
    self, Audience, Kind, Reason, client_frame::Request, group_change::Change, lookup::By, private::What,
    server_frame::Message,
};
use tern_testkit::person::{Person, create, people};
use tern_testkit::{Raw, Ternd, TerndOptions, hash_of};

const PRIVATE: u64 = 1 << 43;

/// Somebody whom the stranger tries to find, by an id and a phone that may be anybody's.
#[derive(Clone, Debug)]
struct Target {
    what: &'static str,
    id: u64,
    phone: String,
}

/// What came: the answer to a request, and what was pushed until the answer to one that is asked behind it, of another owner too; and of
/// what was missed all.
fn comes(raw: &mut Raw, request: Request) -> Vec<Message> {
    let catches_up = matches!(request, Request::Resume(_));
    let id = raw.send(request);
    let (mut come, mut behind) = (Vec::new(), None);
    loop {
        let frame = raw.receive().expect("the connection stands");
        if behind == Some(frame.id) {
            return come;
        }
        let message = frame.message.expect("a frame says something");
        let is_caught_up = matches!(message, Message::CaughtUp(_));
        if if catches_up { is_caught_up } else { frame.id == id } {
            behind = Some(raw.send(Request::Lookup(v1::Lookup { by: Some(By::UserId(1)), group: 0 })));
        }
        come.push(message);
    }
}

/// The same without what is another each time, without what becomes of the stranger's own chats meanwhile, and without what the stranger has brought along.
fn told(raw: &mut Raw, request: Request, target: &Target) -> String {
    let is_own = |message: &Message| match message {
        Message::Receipt(receipt) => receipt.chat != target.id,
        Message::CaughtUp(_) => true,
        _ => false,
    };
    let come = comes(raw, request).into_iter().filter(|message| !is_own(message));
    let come = come.map(|message| match message {
        Message::Sent(sent) => Message::Sent(v1::Sent { seq: 0, time_ms: 0, ..sent }),
        Message::Entry(entry) => Message::Entry(v1::Entry { seq: 0, time_ms: 0, client_id: 0, ..entry }),
        Message::CodeSent(sent) => {
            Message::CodeSent(v1::CodeSent { registration: 0, expires_in_ms: 0, ..sent })
        }
        Message::Refused(refused) if refused.reason() == Reason::RateLimited => {
            Message::Refused(v1::Refused { retry_after_ms: 1, ..refused })
        }
        message => message,
    });
    let told = format!("{:?}", come.collect::<Vec<_>>());
    told.replace(&target.id.to_string(), "ID").replace(&target.phone, "PHONE")
}

fn lookup(by: By, group: u64) -> Request {
    Request::Lookup(v1::Lookup { by: Some(by), group })
}

fn send(chat: u64, kind: Kind, about: u64, body: Vec<u8>) -> Request {
    static CLIENT_IDS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1_000);
    let client_id = CLIENT_IDS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    Request::Send(v1::Send {
        chat,
        client_id,
        kind: kind.into(),
        about,
        body: body.into(),
        ..v1::Send::default()
    })
}

fn change(chat: u64, change: Change) -> Request {
    send(chat, Kind::Group, 0, v1::GroupChange { change: Some(change) }.encode_to_vec())
}

fn says(what: What) -> Request {
    send(PRIVATE, Kind::Private, 0, v1::Private { what: Some(what) }.encode_to_vec())
}

fn acknowledge(chat: u64, upto: u64) -> Request {
    Request::Acknowledge(v1::Acknowledge { chat, delivered_upto: upto, read_upto: upto })
}

fn resume(chat: u64) -> Request {
    let position = v1::Position { chat, upto: 3, delivered_upto: 2, read_upto: 1 };
    Request::Resume(v1::Resume { positions: vec![position], generations: Vec::new() })
}

/// All that a stranger, who has a group, can ask about somebody, but to write to them.
fn about(target: &Target, own_group: u64, foreign_group: u64) -> Vec<Request> {
    let Target { id, phone, .. } = target.clone();
    let role = Change::Role(v1::RoleGiven { user_id: id, role: v1::Role::Admin.into() });
    let added = || Change::Added(v1::Members { user_ids: vec![id] });
    let contact = |off| v1::Contact { user_id: id, name: "somebody".into(), off };
    let contacts = |off| says(What::Contacts(v1::Contacts { contacts: vec![contact(off)] }));
    let shows =
        |user_ids: Vec<u64>, groups| Request::Subscribe(v1::Subscribe { user_ids, groups, away: false });
    let known = vec![v1::KnownChat { id, version: 1 }];
    vec![
        lookup(By::Phone(phone.clone()), 0),
        lookup(By::UserId(id), 0),
        lookup(By::Card(v1::Card { user_id: id, secret: vec![7; 16].into() }), 0),
        lookup(By::UserId(id), own_group),
        lookup(By::UserId(id), foreign_group),
        Request::Discover(v1::Discover { hashes: vec![hash_of(&phone).into()] }),
        Request::Discover(v1::Discover {
            hashes: ["+19990001", &phone, "+19990002"].map(|phone| hash_of(phone).into()).to_vec(),
        }),
        Request::History(v1::History { chat: id, from: 0, forwards: false, limit: 0 }),
        Request::History(v1::History { chat: id, from: 1, forwards: true, limit: 5 }),
        Request::Search(v1::Search { query: "hello".into(), chat: id, ..v1::Search::default() }),
        acknowledge(id, 0),
        acknowledge(id, 1),
        Request::Chats(v1::Chats { after: id - 1, limit: 0, known }),
        shows(vec![id], Vec::new()),
        shows(vec![id], vec![own_group]),
        Request::Activity(v1::Activity { chat: id, doing: v1::Doing::Typing.into(), sender: 0 }),
        create(7_000_000 + id, "harvest", vec![id], v1::GroupSettings::default()),
        change(own_group, added()),
        change(own_group, Change::Removed(id)),
        change(own_group, Change::Declined(id)),
        change(own_group, role),
        change(foreign_group, added()),
        change(foreign_group, Change::Removed(id)),
        contacts(false),
        lookup(By::Phone(phone.clone()), 0),
        shows(Vec::new(), Vec::new()),
        shows(vec![id], Vec::new()),
        create(8_000_000 + id, "harvest", vec![id], v1::GroupSettings::default()),
        contacts(true),
        says(What::Blocked(v1::Blocked { user_id: id, off: false })),
        lookup(By::Phone(phone), 0),
        says(What::Blocked(v1::Blocked { user_id: id, off: true })),
        resume(id),
        Request::Chats(v1::Chats::default()),
    ]
}

fn hide(person: &mut Person) {
    let nobody = Audience::Nobody.into();
    let privacy = v1::Privacy {
        last_seen: nobody,
        online: nobody,
        picture: nobody,
        about: nobody,
        groups: nobody,
        found_by_phone: nobody,
        hides_reads: true,
    };
    let body = v1::Private { what: Some(What::Privacy(privacy)) }.encode_to_vec();
    person.sends(PRIVATE, Kind::Private, 0, &body);
}

/// A server on which one is a stranger to the others, all of whom hide: one is here, one is away, one blocks the stranger, one was deleted;
/// and then what is nobody's. And a group of theirs.
fn hidden(server: &Ternd) -> (Person, Vec<Person>, Vec<Target>, u64) {
    let [stranger, mut here, mut away, mut blocks, mut gone] = people(server);
    [&mut here, &mut away, &mut blocks, &mut gone].into_iter().for_each(hide);
    assert!(matches!(here.ask(Request::NewCard(v1::NewCard::default())), Message::Card(_)));
    let blocked = What::Blocked(v1::Blocked { user_id: stranger.user.id, off: false });
    blocks.sends(PRIVATE, Kind::Private, 0, &v1::Private { what: Some(blocked) }.encode_to_vec());
    let group = here.make("ours", Vec::new(), v1::GroupSettings::default());
    let target =
        |what, person: &Person| Target { what, id: person.user.id, phone: person.user.phone.clone() };
    let targets = vec![
        target("one who is here", &here),
        target("one who is away", &away),
        target("one who blocks the stranger", &blocks),
        target("one who was deleted", &gone),
        Target { what: "nobody", id: here.user.id ^ 1 << 20, phone: "+19995550123".to_owned() },
    ];
    let deleted = server.admin(&json!({ "ask": "delete_user", "phone": gone.user.phone }));
    assert_eq!(deleted[0]["ok"]["deleted"], true, "{deleted:?}");
    drop(away);
    (stranger, vec![here, blocks], targets, group)
}

#[test]
fn of_those_who_hide_no_request_says_more_than_of_those_who_are_not_there() {
    let limits = ["lookups_per_minute_max=0", "subscriptions_per_minute_max=0"];
    let arguments = limits.iter().flat_map(|limit| ["--limit".to_owned(), (*limit).to_owned()]).collect();
    let mut server = Ternd::start_with(TerndOptions { cores: 4, arguments, ..TerndOptions::default() });
    let (mut stranger, _others, targets, foreign) = hidden(&server);
    let own = stranger.make("mine", Vec::new(), v1::GroupSettings::default());
    for round in ["from memory", "after a start"] {
        let mut of_nobody: Vec<String> = Vec::new();
        for target in targets.iter().rev() {
            for (place, request) in about(target, own, foreign).into_iter().enumerate() {
                let asked = format!("{request:?}");
                let told = told(&mut stranger.raw, request, target);
                if target.what == "nobody" {
                    of_nobody.push(told);
                } else {
                    assert_eq!(told, of_nobody[place], "{round}, of {}: {asked}", target.what);
                }
            }
        }
        // Whoever hides nothing is found by the same questions.
        let phone = "+15554000001".to_owned();
        let id = Raw::registered(&server, &phone, "").user_id;
        let open = Target { what: "one who hides nothing", id, phone };
        let asked = about(&open, own, foreign);
        let told = asked.into_iter().map(|request| told(&mut stranger.raw, request, &open));
        let found = told.zip(&of_nobody).filter(|(told, of_nobody)| told != *of_nobody).count();
        assert!(found > 5, "{found}");
        server.kill_and_restart();
        let sent = stranger.sent;
        stranger = Person { sent, ..Person::new(&server, stranger.user) };
    }
}

/// What may be asked before one has logged in.
#[test]
fn whoever_has_no_account_is_told_nothing_either() {
    let server = Ternd::start(3);
    let (_stranger, _others, targets, _) = hidden(&server);
    let mut of_nobody: Vec<String> = Vec::new();
    for target in targets.iter().rev() {
        let Target { id, phone, .. } = target.clone();
        let secret = vec![7; 16].into();
        let verify = v1::Verify { phone: phone.clone(), code: "123456".into(), ..v1::Verify::default() };
        let requests = [
            Request::Register(v1::Register { phone: phone.clone() }),
            Request::Verify(v1::Verify { registration: 1, ..verify.clone() }),
            Request::Verify(v1::Verify { registration: 1, pin: "2468".into(), ..verify }),
            Request::Link(v1::Link { user_id: id, secret, device_name: String::new() }),
            lookup(By::Phone(phone.clone()), 0),
            Request::Discover(v1::Discover { hashes: vec![hash_of(&phone).into()] }),
        ];
        for (place, request) in requests.into_iter().enumerate() {
            let (asked, mut raw) = (format!("{request:?}"), Raw::welcomed(&server));
            let told = told(&mut raw, request, target);
            if target.what == "nobody" {
                of_nobody.push(told);
            } else {
                assert_eq!(told, of_nobody[place], "of {}: {asked}", target.what);
            }
        }
    }
}

/// Which groups there are, one learns by being in them.
#[test]
fn a_group_that_one_is_not_in_is_as_one_that_is_not_there() {
    let server = Ternd::start(3);
    let (mut stranger, _others, targets, group) = hidden(&server);
    let asks = |group: u64| {
        let secret = vec![9; 16];
        let about = |secret: Vec<u8>| v1::AboutGroup { chat: group, secret: secret.into() };
        let invitation = v1::Invitation { hash: vec![1; 32].into(), ..v1::Invitation::default() };
        vec![
            Request::AboutGroup(about(Vec::new())),
            Request::AboutGroup(about(secret.clone())),
            Request::History(v1::History { chat: group, from: 0, forwards: false, limit: 0 }),
            Request::Search(v1::Search { query: "hello".into(), chat: group, ..v1::Search::default() }),
            acknowledge(group, 0),
            acknowledge(group, 1),
            send(group, Kind::Text, 0, b"hello".to_vec()),
            send(group, Kind::Reaction, 1, b"+".to_vec()),
            change(group, Change::Joined(secret.clone().into())),
            change(group, Change::Asked(secret.into())),
            change(group, Change::Added(v1::Members { user_ids: vec![targets[0].id] })),
            change(group, Change::Left(v1::Left {})),
            change(group, Change::Name("mine".into())),
            change(group, Change::Invitation(invitation)),
            Request::Subscribe(v1::Subscribe { user_ids: Vec::new(), groups: vec![group], away: false }),
            Request::Activity(v1::Activity { chat: group, doing: v1::Doing::Typing.into(), sender: 0 }),
            lookup(By::UserId(targets[0].id), group),
            resume(group),
            Request::Chats(v1::Chats::default()),
        ]
    };
    let no_group = group ^ 1 << 20;
    for (of_group, of_none) in asks(group).into_iter().zip(asks(no_group)) {
        let asked = format!("{of_group:?}");
        let named = |id| Target { what: "a group", id, phone: "+".to_owned() };
        let of_none = told(&mut stranger.raw, of_none, &named(no_group));
        assert_eq!(told(&mut stranger.raw, of_group, &named(group)), of_none, "{asked}");
    }
}

/// Anybody may be written to by whoever has their id. To guess one costs what it costs to write to somebody.
#[test]
fn whoever_guesses_at_ids_guesses_no_more_often_than_they_may_write_to_strangers() {
    let arguments = ["--limit".to_owned(), "strangers_per_hour_max=4".to_owned()].to_vec();
    let server = Ternd::start_with(TerndOptions { cores: 3, arguments, ..TerndOptions::default() });
    let (mut stranger, _others, targets, _) = hidden(&server);
    let guess = |number: u64| targets[0].id ^ (number + 1) << 12;
    let refusal = |answer: Message| match answer {
        Message::Refused(refused) => (refused.reason(), refused.detail),
        other => panic!("{other:?}"),
    };
    let kinds = [(Kind::Text, 0), (Kind::Reaction, 1), (Kind::Edit, 1), (Kind::Text, 0)];
    for (number, (kind, about)) in (0..).zip(kinds) {
        let said = stranger.ask(send(guess(number), kind, about, b"hello?".to_vec()));
        assert_eq!(refusal(said).0, Reason::UnknownUser);
    }
    let over = refusal(stranger.ask(send(guess(9), Kind::Text, 0, b"hello?".to_vec())));
    assert_eq!(over.0, Reason::RateLimited);
    for target in &targets {
        for (kind, about) in [(Kind::Text, 0), (Kind::Reaction, 1), (Kind::Deletion, 1)] {
            let body = if kind == Kind::Deletion { Vec::new() } else { b"hello?".to_vec() };
            assert_eq!(refusal(stranger.ask(send(target.id, kind, about, body))), over, "{target:?}");
        }
    }
}
