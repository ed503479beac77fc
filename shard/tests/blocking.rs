//! Who is blocked learns nothing, and is not seen: what they send from the moment on in which the block was confirmed is shown to nobody
//! else, whatever core it is on its way by, and how far the other gets they are not told. Both hold until the block's end is asked for.

#![allow(clippy::print_stdout, reason = "it says how a fault was found")]

#[allow(dead_code, reason = "the node serves other tests as well")]
mod node;

use std::collections::BTreeMap;

use fastrand::Rng;
use node::{Link, Node};
use prost::Message as _;
use tern_proto::v1::{self, Kind, client_frame::Request, private::What, server_frame::Message};
use tern_shard::admin::Provisioned;
use tern_shard::limits::Limits;
use tern_storage::Slot;
use tern_storage::memory::Memory;

const PRIVATE: u64 = 1 << 43;

/// What must become of a message by what its author's peer had said when it was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Due {
    Shown,
    Withheld,
    /// The word was on its way.
    Either,
}

struct Person {
    who: Provisioned,
    link: Link,
    /// What it has said last of the other: whether that is blocked, and whether the server has confirmed it.
    says: (bool, bool),
    /// That is asked under this request.
    asks: u64,
    /// Its messages, by client id, and what must become of each.
    sent: BTreeMap<u64, Due>,
    /// Sends under way, by request: whether they must be refused, for their author blocks the peer.
    sends: BTreeMap<u64, (u64, Option<bool>)>,
    /// What it has acknowledged at most.
    acknowledged: u64,
    /// While it blocks for certain: what it had acknowledged before.
    frozen: Option<u64>,
    requests: u64,
}

struct World {
    rng: Rng,
    store: Memory,
    node: Node,
    limits: Limits,
    cores: u16,
    people: Vec<Person>,
    client_ids: u64,
}

fn limits() -> Limits {
    Limits {
        logs_cached_max: 0,
        mark_quiet_ms: 500,
        lazy_ms: 5,
        sends_per_minute_max: 0,
        strangers_per_hour_max: 0,
        groups_per_day_max: 1_000_000,
        lookups_per_minute_max: 0,
        reports_per_day_max: 0,
        ..Limits::default()
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let (store, limits, cores) = (Memory::new(), limits(), rng.u16(1..4));
        let mut node = Node::start(&store, cores, &limits, 1_000_000);
        let mut person = |phone: &str| {
            let who = node.provision(phone, &mut rng);
            let link = node.log_in(0, &who.access_token);
            Person {
                who,
                link,
                says: (false, true),
                asks: 0,
                sent: BTreeMap::new(),
                sends: BTreeMap::new(),
                acknowledged: 0,
                frozen: None,
                requests: 10,
            }
        };
        let people = vec![person("+15550001"), person("+15550002")];
        let mut world = Self { rng, store, node, limits, cores, people, client_ids: 0 };
        world.resume();
        world
    }

    fn resume(&mut self) {
        for at in 0..2 {
            let Person { link, .. } = self.people[at];
            self.node.request(link, 3, Request::Resume(v1::Resume::default()));
        }
        self.settle();
    }

    fn settle(&mut self) {
        self.node.settle(&mut self.rng);
        self.receive();
    }

    fn ask(&mut self, at: usize, request: Request) -> u64 {
        let person = &mut self.people[at];
        person.requests += 1;
        self.node.request(person.link, person.requests, request);
        person.requests
    }

    fn peer(&self, at: usize) -> u64 {
        self.people[1 - at].who.user.get()
    }

    fn say(&mut self, at: usize) {
        self.client_ids += 1;
        let (chat, client_id) = (self.peer(at), self.client_ids);
        let (blocks, confirmed) = self.people[1 - at].says;
        let due = match (blocks, confirmed) {
            (true, true) => Due::Withheld,
            (false, true) => Due::Shown,
            _ => Due::Either,
        };
        let send = v1::Send { chat, client_id, body: "hear me".into(), ..v1::Send::default() };
        let request = self.ask(at, Request::Send(send));
        let person = &mut self.people[at];
        person.sent.insert(client_id, due);
        let (blocks, confirmed) = person.says;
        person.sends.insert(request, (client_id, confirmed.then_some(blocks)));
    }

    fn block(&mut self, at: usize, blocks: bool) {
        if !self.people[at].says.1 {
            return;
        }
        self.client_ids += 1;
        let blocked = v1::Blocked { user_id: self.peer(at), off: !blocks };
        let body = v1::Private { what: Some(What::Blocked(blocked)) }.encode_to_vec().into();
        let (chat, client_id, kind) = (PRIVATE, self.client_ids, Kind::Private.into());
        let asks =
            self.ask(at, Request::Send(v1::Send { chat, client_id, body, kind, ..v1::Send::default() }));
        let person = &mut self.people[at];
        (person.says, person.asks) = ((blocks, false), asks);
        if !blocks {
            person.frozen = None;
        }
        // What is on its way may come before or behind it.
        person.sends.values_mut().for_each(|(_, bars)| *bars = None);
        for due in self.people[1 - at].sent.values_mut() {
            *due = Due::Either;
        }
    }

    fn acknowledge(&mut self, at: usize) {
        self.settle();
        let (peer, head) = (self.peer(at), self.history(at).head);
        if head > 0 {
            let acknowledge = v1::Acknowledge { chat: peer, delivered_upto: head, read_upto: head };
            self.ask(at, Request::Acknowledge(acknowledge));
            self.people[at].acknowledged = self.people[at].acknowledged.max(head);
        }
    }

    fn history(&mut self, at: usize) -> v1::HistoryPage {
        let chat = self.peer(at);
        let id = self.ask(at, Request::History(v1::History { chat, ..v1::History::default() }));
        self.node.settle(&mut self.rng);
        let mut page = None;
        for frame in self.node.receive(self.people[at].link).expect("it stands") {
            match frame.message {
                Some(Message::HistoryPage(found)) if frame.id == id => page = Some(found),
                _ => self.take(at, frame),
            }
        }
        page.expect("it is answered")
    }

    fn receive(&mut self) {
        for at in 0..2 {
            for frame in self.node.receive(self.people[at].link).expect("it stands") {
                self.take(at, frame);
            }
        }
    }

    fn take(&mut self, at: usize, frame: v1::ServerFrame) {
        let acknowledged = self.people[at].acknowledged;
        match frame.message {
            Some(Message::Entry(entry)) if entry.chat != PRIVATE => self.sees(at, &entry),
            Some(Message::Sent(_)) if frame.id == self.people[at].asks => {
                let person = &mut self.people[at];
                person.says.1 = true;
                person.frozen = person.says.0.then_some(acknowledged);
            }
            Some(Message::Sent(_)) => {
                if let Some((_, bars)) = self.people[at].sends.remove(&frame.id) {
                    assert_ne!(bars, Some(true), "one has written to a person whom one blocks");
                }
            }
            Some(Message::Refused(refused)) => {
                let (client_id, bars) =
                    self.people[at].sends.remove(&frame.id).expect("nothing else is refused");
                assert_eq!(refused.reason(), v1::Reason::Blocked, "{}", refused.detail);
                assert_ne!(bars, Some(false), "one blocks nobody");
                self.people[at].sent.remove(&client_id);
            }
            Some(Message::Receipt(receipt)) if receipt.member == 0 && receipt.chat != PRIVATE => {
                if let Some(frozen) = self.people[1 - at].frozen {
                    let upto = receipt.delivered_upto.max(receipt.read_upto);
                    assert!(upto <= frozen, "who is blocked is told of {upto}, beyond {frozen}");
                }
            }
            _ => {}
        }
    }

    /// Somebody is shown an entry of their chat.
    fn sees(&self, at: usize, entry: &v1::Entry) {
        let is_own = entry.sender == self.people[at].who.user.get();
        if is_own {
            assert!(!entry.body.is_empty(), "one's own is shown");
        } else if entry.kind == i32::from(Kind::Withheld) {
            assert!(entry.body.is_empty() && entry.about == 0 && entry.client_id == 0);
        } else {
            assert!(!entry.body.is_empty());
        }
    }

    /// At rest, both have the same chat but for what was withheld, and each message is what it must be.
    fn check(&mut self) {
        self.settle();
        let pages = [self.history(0), self.history(1)];
        for at in 0..2 {
            let own = |page: &v1::HistoryPage| {
                let user = self.people[at].who.user.get();
                let own = page.entries.iter().filter(|entry| entry.sender == user).cloned();
                own.map(|entry| (entry.seq, entry.client_id)).collect::<Vec<_>>()
            };
            let mut shown = 0;
            for (seq, client_id) in own(&pages[at]) {
                let seen =
                    pages[1 - at].entries.iter().find(|entry| entry.seq == seq).expect("it has a place");
                let is_withheld = seen.kind == i32::from(Kind::Withheld);
                shown += u64::from(!is_withheld && seq > self.people[1 - at].acknowledged);
                match self.people[at].sent.get(&client_id) {
                    Some(Due::Shown) => assert!(!is_withheld, "seq {seq} was to be shown"),
                    Some(Due::Withheld) => assert!(is_withheld, "seq {seq} was to be withheld"),
                    Some(Due::Either) | None => {}
                }
            }
            self.lists(1 - at, shown, &pages[1 - at]);
            self.reports(1 - at, &pages[1 - at]);
        }
    }

    /// Somebody tells the operators of what the other one has said: of what was withheld from them they can't.
    fn reports(&mut self, at: usize, page: &v1::HistoryPage) {
        let (chat, by) = (self.peer(at), self.people[at].who.user.get());
        let is_theirs = |entry: &&v1::Entry| entry.sender != by && !entry.erased;
        let said: Vec<_> = page.entries.iter().filter(is_theirs).collect();
        let Some(entry) = self.rng.choice(said) else { return };
        let report =
            v1::Report { client_id: entry.seq, chat, seqs: vec![entry.seq], ..v1::Report::default() };
        let id = self.ask(at, Request::Report(report));
        self.node.settle(&mut self.rng);
        let mut answer = None;
        for frame in self.node.receive(self.people[at].link).expect("it stands") {
            if frame.id == id { answer = frame.message } else { self.take(at, frame) }
        }
        match answer.expect("it is answered") {
            Message::Reported(_) => assert_ne!(entry.kind, i32::from(Kind::Withheld), "it is withheld"),
            Message::Refused(refused) => {
                assert_eq!(refused.reason(), v1::Reason::NoSuchMessage);
                assert_eq!(entry.kind, i32::from(Kind::Withheld), "it is to be seen");
            }
            other => panic!("{other:?}"),
        }
    }

    /// The list of chats counts what is shown, and has no chat of which nothing ever was.
    fn lists(&mut self, at: usize, unread: u64, page: &v1::HistoryPage) {
        let (peer, id) = (self.peer(at), self.ask(at, Request::Chats(v1::Chats::default())));
        self.node.settle(&mut self.rng);
        let mut chats = None;
        for frame in self.node.receive(self.people[at].link).expect("it stands") {
            match frame.message {
                Some(Message::ChatsPage(found)) if frame.id == id => chats = Some(found.chats),
                _ => self.take(at, frame),
            }
        }
        let chat = chats.expect("it is answered").into_iter().find(|chat| chat.id == peer);
        let is_seen = page.entries.iter().any(|entry| entry.kind != i32::from(Kind::Withheld));
        assert_eq!(chat.is_some(), is_seen, "a chat is listed where something of it is to be seen");
        if let Some(chat) = chat {
            assert_eq!(chat.unread, unread, "what is withheld counts as nothing");
        }
    }

    /// The process ends and another begins, of which nobody remembers anything.
    fn restart(&mut self) {
        self.settle();
        let now_ms = self.node.now_ms;
        self.node = Node::start(&self.store, self.cores, &self.limits, now_ms);
        for at in 0..2 {
            let core = self.rng.u16(..self.cores);
            self.people[at].link = self.node.log_in(core, &self.people[at].who.access_token);
        }
        self.resume();
    }

    fn live(&mut self) {
        for _ in 0..120 {
            let at = self.rng.usize(..2);
            match self.rng.u8(..40) {
                0..18 => self.say(at),
                18..25 => {
                    let blocks = self.rng.bool();
                    self.block(at, blocks);
                }
                25..30 => self.acknowledge(at),
                30..33 => self.node.tick(300),
                33..36 => {
                    let user = self.people[at].who.user.get();
                    self.node.move_slot(Slot::of_user(user), self.rng.u16(..));
                }
                36 => self.restart(),
                37..39 => self.check(),
                _ => self.settle(),
            }
            for _ in 0..self.rng.usize(..30) {
                self.node.step(&mut self.rng);
            }
            self.receive();
        }
        self.check();
    }
}

fn live(seed: u64) {
    World::new(seed).live();
}

#[test]
fn who_is_blocked_is_not_seen_and_learns_nothing() {
    node::live_with_seeds("blocking", 300, live);
}

#[cfg(feature = "mutations")]
#[test]
fn each_fault_is_found() {
    node::find_each_fault("shard/tests/blocking.rs", live);
}
