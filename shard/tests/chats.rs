//! The list of a user's chats is what was said and read, whatever was said by whom, wherever the pages end, from memory and
//! from the store; and what a client knows of it is left out only while it is true. And what users do with their devices.

#[allow(dead_code, reason = "the node serves other tests as well")]
mod node;

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use node::{Link, Node};
use tern_proto::v1::{self, Reason, client_frame::Request, server_frame::Message};
use tern_shard::admin::Provisioned;
use tern_shard::limits::Limits;
use tern_storage::faults::Faults;
use tern_storage::memory::Memory;

const SEEDS: u64 = 40;
const STEPS: usize = 150;

/// What a chat must be told as.
#[derive(Clone, Default)]
struct Chat {
    /// Whether the listing user has written each entry, by seq.
    said: Vec<bool>,
    last: Vec<u8>,
    own_read: usize,
    peer_read: usize,
}

struct World {
    store: Memory,
    limits: Limits,
    node: Node,
    rng: Rng,
    /// The one who lists first, then the peers.
    people: Vec<Provisioned>,
    links: Vec<Link>,
    chats: BTreeMap<u64, Chat>,
    messages: u64,
}

fn log_in(node: &mut Node, person: &Provisioned, rng: &mut Rng) -> Link {
    let link = node.connect(0);
    let hello = v1::Hello { version_min: 1, version_max: 1, ..v1::Hello::default() };
    node.request(link, 1, Request::Hello(hello));
    node.request(link, 2, Request::Login(v1::Login { access_token: person.access_token.clone() }));
    node.settle(rng);
    node.receive(link);
    link
}

impl World {
    fn new(seed: u64, peers: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let store = Memory::faulty(Faults::default());
        // Much of what is asked for has to be read.
        let limits = Limits {
            tail_entries_max: rng.usize(1..5),
            logs_cached_max: rng.usize(1..4),
            lookups_per_minute_max: 0,
            sends_per_minute_max: 0,
            strangers_per_hour_max: 0,
            groups_per_day_max: 1_000_000,
            ..Limits::default()
        };
        let mut node = Node::start(&store, 3, &limits, 1_000_000);
        let people: Vec<_> =
            (0..=peers).map(|n| node.provision(&format!("+1555{n:04}0"), &mut rng)).collect();
        let mut world =
            Self { store, limits, node, rng, people, links: Vec::new(), chats: BTreeMap::new(), messages: 0 };
        world.log_in();
        world
    }

    fn log_in(&mut self) {
        let Self { node, people, rng, .. } = self;
        self.links = people.iter().map(|person| log_in(node, person, rng)).collect();
    }

    fn restart(&mut self) {
        self.node = Node::start(&self.store, 3, &self.limits, 2_000_000);
        self.log_in();
    }

    fn ask(&mut self, who: usize, request: Request) -> Message {
        self.node.request(self.links[who], 77, request);
        self.node.settle(&mut self.rng);
        let frames = self.node.receive(self.links[who]).expect("it stands");
        let answer = frames.into_iter().find(|frame| frame.id == 77);
        answer.and_then(|frame| frame.message).expect("an answer")
    }

    fn id(&self, who: usize) -> u64 {
        self.people[who].user.get()
    }

    fn say(&mut self, peer: usize, own: bool) {
        self.messages += 1;
        let (from, to) = if own { (0, peer) } else { (peer, 0) };
        let body = format!("message {}", self.messages).into_bytes();
        let send = v1::Send {
            chat: self.id(to),
            client_id: self.messages,
            body: body.clone().into(),
            ..Default::default()
        };
        let Message::Sent(sent) = self.ask(from, Request::Send(send)) else { panic!("it is sent") };
        let chat = self.chats.entry(self.people[peer].user.get()).or_default();
        chat.said.push(own);
        chat.last = body;
        assert_eq!(sent.seq, chat.said.len() as u64);
    }

    fn read(&mut self, peer: usize, by_peer: bool) {
        let Some(chat) = self.chats.get(&self.id(peer)) else { return };
        let upto = self.rng.usize(..=chat.said.len());
        let (who, of) = if by_peer { (peer, 0) } else { (0, peer) };
        let acknowledge = v1::Acknowledge { chat: self.id(of), delivered_upto: 0, read_upto: upto as u64 };
        assert!(matches!(self.ask(who, Request::Acknowledge(acknowledge)), Message::Acknowledged(_)));
        let chat = self.chats.get_mut(&self.people[peer].user.get()).expect("it is there");
        let mark = if by_peer { &mut chat.peer_read } else { &mut chat.own_read };
        *mark = upto.max(*mark);
    }

    fn page(&mut self, chats: v1::Chats) -> v1::ChatsPage {
        match self.ask(0, Request::Chats(chats)) {
            Message::ChatsPage(page) => page,
            other => panic!("expected a page, got {other:?}"),
        }
    }

    /// Lists by pages, as a client does that knows these chats, and gives what it knows then, and which it was told.
    fn list(&mut self, mut known: BTreeMap<u64, v1::Chat>) -> (BTreeMap<u64, v1::Chat>, BTreeSet<u64>) {
        let (mut after, mut told) = (0, BTreeSet::new());
        loop {
            let limit = self.rng.u32(..9);
            let asked = known.range(after + 1..).take(64);
            let versions = asked.map(|(peer, chat)| v1::KnownChat { id: *peer, version: chat.version });
            let page = self.page(v1::Chats { after, limit, known: versions.collect() });
            for chat in page.chats {
                assert!(chat.id > after, "pages rise");
                told.insert(chat.id);
                known.insert(chat.id, chat);
            }
            if page.next == 0 {
                return (known, told);
            }
            assert!(page.next > after, "each page goes on");
            after = page.next;
        }
    }

    fn check(&self, listed: &BTreeMap<u64, v1::Chat>) {
        let peers: Vec<_> = self.chats.keys().collect();
        assert_eq!(listed.keys().collect::<Vec<_>>(), peers, "the chats that there are");
        for (peer, expect) in &self.chats {
            let chat = &listed[peer];
            let (mine, me) = (self.id(0) == *peer, self.id(0));
            let last = chat.last.as_ref().expect("something was said");
            let of_peer = |own: &&bool| !**own;
            let unread = expect.said[expect.own_read..].iter().filter(of_peer).count();
            assert_eq!(chat.head as usize, expect.said.len());
            assert_eq!((last.seq, &last.body[..]), (chat.head, &expect.last[..]));
            assert_eq!(last.sender == me, mine || *expect.said.last().expect("something was said"));
            assert_eq!(chat.own_read_upto as usize, expect.own_read);
            assert_eq!(chat.read_upto as usize, if mine { expect.own_read } else { expect.peer_read });
            assert_eq!(chat.unread as usize, if mine { 0 } else { unread }, "of {:?}", expect.said);
            let (has_written, have_both) =
                (expect.said.contains(&false), expect.said.contains(&false) && expect.said.contains(&true));
            assert_eq!(chat.phone.is_empty(), !(mine || has_written), "a phone is seen by whom one wrote to");
            assert_eq!(chat.name.is_empty(), !(mine || have_both), "a name is seen if both wrote");
        }
    }
}

#[test]
fn a_list_of_chats_is_what_was_said_and_read_and_tells_again_only_what_changed() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, 9);
        let mut known = BTreeMap::new();
        for _ in 0..STEPS {
            let peer = world.rng.usize(0..world.people.len());
            match world.rng.u32(..20) {
                0..10 => {
                    let own = peer == 0 || world.rng.bool();
                    world.say(peer, own);
                }
                10..15 => {
                    let by_peer = peer != 0 && world.rng.bool();
                    world.read(peer, by_peer);
                }
                15..19 => {
                    let told;
                    (known, told) = world.list(known);
                    world.check(&known);
                    let (again, nothing) = world.list(known.clone());
                    assert!(nothing.is_empty() && again == known, "what is known is left out: {told:?}");
                }
                _ => world.restart(),
            }
        }
        let (all, told) = world.list(BTreeMap::new());
        world.check(&all);
        assert_eq!(told.len(), all.len(), "who knows nothing is told all");
    }
}

#[test]
fn a_long_list_comes_in_bounded_pages_and_one_at_a_time() {
    let mut world = World::new(1, 70);
    (1..=70).for_each(|peer| world.say(peer, false));
    let first = world.page(v1::Chats::default());
    assert_eq!(first.chats.len(), 64);
    assert_eq!(first.next, first.chats[63].id);
    let rest = world.page(v1::Chats { after: first.next, ..Default::default() });
    assert_eq!((rest.chats.len(), rest.next), (6, 0));
    // A second request behind the first is refused for now, and the first answered.
    world.node.request(world.links[0], 5, Request::Chats(v1::Chats::default()));
    world.node.request(world.links[0], 6, Request::Chats(v1::Chats::default()));
    world.node.settle(&mut world.rng);
    let frames = world.node.receive(world.links[0]).expect("it stands");
    let answer = |id| frames.iter().find(|frame| frame.id == id).and_then(|frame| frame.message.clone());
    assert!(matches!(answer(5), Some(Message::ChatsPage(_))));
    match answer(6) {
        Some(Message::Refused(refused)) => {
            assert!(refused.reason() == Reason::Overloaded && refused.retry_after_ms > 0);
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
    // Of long bodies fewer fit: the page ends before the frame does.
    let long = vec![b'x'; 60_000];
    for peer in 1..=8 {
        world.messages += 1;
        let send = v1::Send {
            chat: world.id(0),
            client_id: world.messages,
            body: long.clone().into(),
            ..Default::default()
        };
        assert!(matches!(world.ask(peer, Request::Send(send)), Message::Sent(_)));
    }
    let (mut after, mut chats, mut pages) = (0, 0, 0);
    loop {
        let page = world.page(v1::Chats { after, ..Default::default() });
        let bodies: usize =
            page.chats.iter().map(|chat| chat.last.as_ref().map_or(0, |last| last.body.len())).sum();
        assert!(bodies < (128 << 10) + 60_000, "{bodies}");
        (chats, pages) = (chats + page.chats.len(), pages + 1);
        after = page.next;
        if after == 0 {
            break;
        }
    }
    assert!(chats == 70 && pages > 2, "{chats} chats in {pages} pages");
}

/// Read by one who lists chats and keeps nothing: the device that does keep them would have lost them.
#[test]
fn what_is_read_without_being_received_is_still_pushed() {
    let mut world = World::new(5, 1);
    (0..3).for_each(|_| world.say(1, false));
    let acknowledge = v1::Acknowledge { chat: world.id(1), delivered_upto: 0, read_upto: 3 };
    assert!(matches!(world.ask(0, Request::Acknowledge(acknowledge)), Message::Acknowledged(_)));
    let chat = world.page(v1::Chats::default()).chats.remove(0);
    assert_eq!((chat.unread, chat.own_read_upto), (0, 3));
    let Message::HistoryPage(page) =
        world.ask(1, Request::History(v1::History { chat: world.id(0), ..Default::default() }))
    else {
        panic!("a page")
    };
    assert_eq!((page.delivered_upto, page.read_upto), (3, 3), "read is delivered, for the person");
    for restarted in [false, true] {
        if restarted {
            world.restart();
        }
        world.node.request(world.links[0], 8, Request::Resume(v1::Resume::default()));
        world.node.settle(&mut world.rng);
        let frames = world.node.receive(world.links[0]).expect("it stands");
        let entries = frames.iter().filter(|frame| matches!(frame.message, Some(Message::Entry(_))));
        assert_eq!(entries.count(), 3, "restarted: {restarted}");
    }
}

#[test]
fn a_damaged_chat_is_told_as_unavailable_and_the_others_are_told() {
    let mut world = World::new(2, 3);
    (1..=3).for_each(|peer| world.say(peer, false));
    let log = tern_storage::LogId::direct(world.id(0), world.id(2));
    let mut batch = tern_storage::Batch::default();
    batch.put(&tern_storage::keys::log(log), &[0x0a, 0x7f][..]);
    let mut port = tern_storage::Engine::port(&world.store, std::sync::Arc::new(NoWake));
    port.submit(batch, tern_storage::Fence::default()).expect("there is room");
    world.restart();
    let page = world.page(v1::Chats::default());
    let damaged = world.id(2);
    assert_eq!(page.chats.len(), 3);
    for chat in page.chats {
        assert_eq!(chat.unavailable, chat.id == damaged);
        assert_eq!(chat.last.is_none(), chat.id == damaged);
    }
}

struct NoWake;

impl tern_storage::Wake for NoWake {
    fn wake(&self) {}
}

#[test]
fn a_device_is_listed_ended_and_gone_and_its_end_is_answered_before_its_connection_ends() {
    let mut world = World::new(3, 1);
    let second = world.node.provision("+155500000", &mut world.rng);
    let other = log_in(&mut world.node, &second, &mut world.rng);
    let listed = |world: &mut World| match world.ask(0, Request::Devices(v1::Devices {})) {
        Message::DeviceList(list) => list.devices,
        other => panic!("expected devices, got {other:?}"),
    };
    let devices = listed(&mut world);
    assert_eq!(
        devices.iter().map(|device| (device.device_id, device.connected)).collect::<Vec<_>>(),
        [(1, true), (2, true)]
    );
    // Devices are counted for each account: what never was can't be ended, what has ended stays so.
    let end = |device_id| Request::EndDevice(v1::EndDevice { device_id });
    assert!(
        matches!(world.ask(0, end(3)), Message::Refused(refused) if refused.reason() == Reason::InvalidArgument)
    );
    assert!(matches!(world.ask(0, end(2)), Message::DeviceEnded(_)));
    let words = world.node.receive(other).expect("last words");
    assert!(matches!(
        words.last().and_then(|frame| frame.message.as_ref()),
        Some(Message::GoAway(bye)) if bye.reason() == Reason::SessionRevoked
    ));
    assert!(matches!(world.ask(0, end(2)), Message::DeviceEnded(_)), "it may be asked for again");
    assert_eq!(listed(&mut world).len(), 1);
    world.restart();
    assert_eq!(listed(&mut world).len(), 1, "it is durable");
    let refused = log_in(&mut world.node, &second, &mut world.rng);
    world.node.request(refused, 9, Request::Devices(v1::Devices {}));
    world.node.settle(&mut world.rng);
    let frames = world.node.receive(refused).expect("it stands");
    assert!(matches!(
        frames.last().and_then(|frame| frame.message.as_ref()),
        Some(Message::Refused(refused)) if refused.reason() == Reason::Unauthenticated
    ));
    // Its own end is answered before the connection ends.
    world.node.request(world.links[0], 77, end(1));
    world.node.settle(&mut world.rng);
    let words = world.node.receive(world.links[0]).expect("last words");
    let at = |wanted: fn(&Message) -> bool| {
        words.iter().position(|frame| frame.message.as_ref().is_some_and(wanted))
    };
    let (answered, ended) = (
        at(|message| matches!(message, Message::DeviceEnded(_))),
        at(|message| matches!(message, Message::GoAway(_))),
    );
    assert!(answered.is_some() && answered < ended, "{answered:?} {ended:?}");
}

#[test]
fn a_name_is_changed_durably_and_those_who_know_it_are_told() {
    let mut world = World::new(4, 2);
    world.say(1, true);
    world.say(1, false);
    world.say(2, false);
    let rename = |name: Option<&str>, device: Option<&str>| {
        Request::Rename(v1::Rename {
            name: name.map(str::to_owned),
            device_name: device.map(str::to_owned),
            ..v1::Rename::default()
        })
    };
    world.node.receive(world.links[1]);
    world.node.receive(world.links[2]);
    assert!(matches!(world.ask(0, rename(Some("Ann"), None)), Message::Renamed(_)));
    let told = |world: &mut World, who: usize| {
        let frames = world.node.receive(world.links[who]).expect("it stands");
        frames.iter().any(|frame| matches!(frame.message, Some(Message::PersonChanged(_))))
    };
    assert!(told(&mut world, 1), "with whom both wrote");
    assert!(!told(&mut world, 2), "and not whom she never wrote to");
    assert!(matches!(world.ask(0, rename(None, Some("laptop"))), Message::Renamed(_)));
    world.restart();
    let Message::Person(person) =
        world.ask(1, Request::Lookup(v1::Lookup { by: Some(v1::lookup::By::UserId(world.id(0))), group: 0 }))
    else {
        panic!("she is known")
    };
    assert_eq!(person.name, "Ann");
    let Message::DeviceList(list) = world.ask(0, Request::Devices(v1::Devices {})) else { panic!("a list") };
    assert_eq!(list.devices[0].device_name, "laptop");
    assert!(matches!(
        world.ask(0, rename(Some("a\u{202e}b"), None)),
        Message::Refused(refused) if refused.reason() == Reason::InvalidArgument
    ));
    // All who know a name are told of each change: they are counted.
    let refused = (0..30).any(|n| {
        let answer = world.ask(0, rename(Some(&format!("Ann {n}")), None));
        matches!(answer, Message::Refused(refused) if refused.reason() == Reason::RateLimited)
    });
    assert!(refused);
}
