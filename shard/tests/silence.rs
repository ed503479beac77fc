//! Long silence: the brain lets go of what it can, and whoever is attached still gets what is said then.

#[allow(dead_code, reason = "the node serves other tests as well")]
mod node;

use fastrand::Rng;
use node::{Link, Node};
use tern_proto::v1::{self, client_frame::Request, server_frame::Message};
use tern_shard::limits::Limits;
use tern_storage::faults::Faults;
use tern_storage::memory::Memory;

/// Longer than anything stays in memory for nothing.
fn silence(node: &mut Node, rng: &mut Rng) {
    for _ in 0..60 {
        node.tick(100);
        node.settle(rng);
    }
}

fn connect(node: &mut Node, token: &str, rng: &mut Rng) -> Link {
    let link = node.connect(0);
    let hello = v1::Hello { version_min: 1, version_max: 1, ..v1::Hello::default() };
    let login = v1::Login { access_token: token.to_owned() };
    let requests = [Request::Hello(hello), Request::Login(login), Request::Resume(v1::Resume::default())];
    for (id, request) in (1..).zip(requests) {
        node.request(link, id, request);
        node.settle(rng);
    }
    link
}

/// The bodies that have been pushed.
fn pushed(node: &mut Node, link: Link) -> Vec<String> {
    let body = |frame: v1::ServerFrame| match frame.message {
        Some(Message::Entry(entry)) => Some(String::from_utf8(entry.body.to_vec()).expect("text")),
        _ => None,
    };
    node.receive(link).expect("it stands").into_iter().filter_map(body).collect()
}

#[test]
fn whoever_was_silent_for_long_still_gets_what_is_said() {
    let mut rng = Rng::with_seed(7);
    let store = Memory::faulty(Faults::default());
    let limits = Limits { logs_cached_max: 0, users_cached_max: 0, mark_quiet_ms: 500, ..Limits::default() };
    let mut node = Node::start(&store, 3, &limits, 1_000_000);
    let [ann, bob] = ["+15550001", "+15550002"].map(|phone| node.provision(phone, &mut rng));
    let ann_link = connect(&mut node, &ann.access_token, &mut rng);
    let mut bob_link = connect(&mut node, &bob.access_token, &mut rng);
    let say = |node: &mut Node, number: u64, rng: &mut Rng| {
        let send = v1::Send {
            chat: bob.user.get(),
            client_id: number,
            body: number.to_string().into(),
            kind: v1::Kind::Text.into(),
            ..Default::default()
        };
        node.request(ann_link, 10 + number, Request::Send(send));
        node.settle(rng);
    };
    for number in 1..4 {
        silence(&mut node, &mut rng);
        assert_eq!(node.users(), 2, "those who are attached stay");
        say(&mut node, number, &mut rng);
        assert_eq!(pushed(&mut node, bob_link), [number.to_string()]);
    }
    node.disconnect(bob_link);
    silence(&mut node, &mut rng);
    assert_eq!(node.users(), 1, "whoever has gone has left the memory");
    say(&mut node, 4, &mut rng);
    silence(&mut node, &mut rng);
    bob_link = connect(&mut node, &bob.access_token, &mut rng);
    assert_eq!(pushed(&mut node, bob_link), ["1", "2", "3", "4"], "nothing was acknowledged");
}

#[test]
fn a_chat_with_oneself_tells_which_device_said_what() {
    let mut rng = Rng::with_seed(8);
    let store = Memory::faulty(Faults::default());
    let mut node = Node::start(&store, 2, &Limits::default(), 1_000_000);
    let [phone, desk] = ["+15550001"; 2].map(|phone| node.provision(phone, &mut rng));
    let me = phone.user.get();
    let phone_link = connect(&mut node, &phone.access_token, &mut rng);
    let desk_link = connect(&mut node, &desk.access_token, &mut rng);
    let send = v1::Send { chat: me, client_id: 77, body: "a note".into(), kind: 0, ..Default::default() };
    node.request(phone_link, 9, Request::Send(send));
    node.settle(&mut rng);
    let entry = |frames: Vec<v1::ServerFrame>| {
        frames.into_iter().find_map(|frame| match frame.message? {
            Message::Entry(entry) => Some(entry),
            Message::HistoryPage(page) => page.entries.first().cloned(),
            _ => None,
        })
    };
    let pushed = entry(node.receive(desk_link).expect("it stands")).expect("pushed to the other device");
    node.request(desk_link, 10, Request::History(v1::History { chat: me, ..v1::History::default() }));
    node.settle(&mut rng);
    let read = entry(node.receive(desk_link).expect("it stands")).expect("a page");
    for (entry, peer) in [(pushed, me), (read, 0)] {
        assert_eq!((entry.chat, entry.sender), (peer, me), "its own entry");
        assert_eq!((entry.sender_device, entry.client_id), (phone.device.get(), 77));
    }
}

/// S-smaller: the logs of pairs that never were stayed, and with them people who do not exist, past all bounds.
#[test]
fn whoever_names_people_who_do_not_exist_fills_no_memory() {
    let mut rng = Rng::with_seed(8);
    let store = Memory::faulty(Faults::default());
    let mut node = Node::start(&store, 3, &Limits::default(), 1_000_000);
    let ann = node.provision("+15550001", &mut rng);
    let link = connect(&mut node, &ann.access_token, &mut rng);
    for number in 0..3000u64 {
        let peer = (number + 7) << 20 | number;
        let request = match number % 3 {
            0 => Request::Acknowledge(v1::Acknowledge { chat: peer, delivered_upto: 0, read_upto: 0 }),
            1 => Request::Lookup(v1::Lookup { by: Some(v1::lookup::By::UserId(peer)), group: 0 }),
            _ => Request::History(v1::History { chat: peer, ..v1::History::default() }),
        };
        node.request(link, 10 + number, request);
        if number % 100 == 0 {
            node.settle(&mut rng);
        }
    }
    node.settle(&mut rng);
    (0..3).for_each(|_| silence(&mut node, &mut rng));
    assert_eq!((node.users(), node.logs()), (1, 0));
}
