//! Who shows somebody is told whether they are here, as far as these let them see it, and nothing else; whoever is blocked is told
//! nothing, of what is done in chats either. Through moves, lost connections and restarts; nobody flickers.

#![allow(clippy::print_stdout, reason = "it says how a fault was found")]

#[allow(dead_code, reason = "the node serves other tests as well")]
mod node;

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use node::{Link, Node};
use prost::Message as _;
use tern_proto::v1::{
    self, Audience, Doing, Kind, Reason, client_frame::Request, private::What, server_frame::Message,
};
use tern_shard::admin::Provisioned;
use tern_shard::limits::{Limits, TOLD_PER_TURN_MAX};
use tern_storage::memory::Memory;
use tern_storage::{Slot, StoreError};

const PRIVATE: u64 = 1 << 43;
const PEOPLE: usize = 3;
const GRACE_MS: u64 = 2_000;

/// A person with one device.
struct Person {
    who: Provisioned,
    link: Option<Link>,
    away: bool,
    shows: BTreeSet<usize>,
    shows_group: bool,
    /// What it was told of each since it shows them.
    heard: BTreeMap<usize, (Option<bool>, u64)>,
    /// Who it was told that they do something, where, and how often.
    acts: Vec<(u64, u64)>,
    blocks: BTreeSet<usize>,
    contacts: BTreeSet<usize>,
    online: Audience,
    last_seen: Audience,
    /// When it was here last, not before and not after.
    left_ms: (u64, u64),
    /// The time before that, which counts again if it comes back soon.
    left_before_ms: (u64, u64),
}

impl Person {
    fn leaves(&mut self, first_ms: u64, last_ms: u64) {
        self.left_before_ms = std::mem::replace(&mut self.left_ms, (first_ms, last_ms));
    }

    fn returns(&mut self, now_ms: u64) {
        if now_ms < self.left_ms.0 + GRACE_MS {
            self.left_ms = self.left_before_ms;
        }
    }
}

struct World {
    rng: Rng,
    store: Memory,
    node: Node,
    cores: u16,
    people: Vec<Person>,
    group: u64,
    requests: u64,
}

fn limits() -> Limits {
    Limits {
        presence_grace_ms: GRACE_MS,
        logs_cached_max: 0,
        users_cached_max: 0,
        lazy_ms: 5,
        sends_per_minute_max: 0,
        subscriptions_per_minute_max: 0,
        idle_timeout_ms: 86_400_000,
        access_token_valid_ms: 365 * 86_400_000,
        ..Limits::default()
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let (store, cores) = (Memory::new(), rng.u16(1..4));
        let mut node = Node::start(&store, cores, &limits(), 1_000_000);
        let person = |number| Person {
            who: node.provision(&format!("+1555000{number}"), &mut rng),
            link: None,
            away: false,
            shows: BTreeSet::new(),
            shows_group: false,
            heard: BTreeMap::new(),
            acts: Vec::new(),
            blocks: BTreeSet::new(),
            contacts: BTreeSet::new(),
            online: Audience::Everyone,
            last_seen: Audience::Everyone,
            left_ms: (0, 0),
            left_before_ms: (0, 0),
        };
        let people = (0..PEOPLE).map(person).collect();
        let mut world = Self { rng, store, node, cores, people, group: 0, requests: 10 };
        world.come(0);
        let members = (1..PEOPLE).map(|at| world.id(at)).collect();
        let group = v1::GroupMade { name: "friends".to_owned(), members, ..v1::GroupMade::default() };
        let made = world.ask(0, Request::CreateGroup(v1::CreateGroup { client_id: 1, group: Some(group) }));
        let Some(Message::GroupCreated(made)) = made else { panic!("{made:?}") };
        world.group = made.chat;
        world
    }

    fn id(&self, at: usize) -> u64 {
        self.people[at].who.user.get()
    }

    fn at(&self, id: u64) -> usize {
        self.people.iter().position(|person| person.who.user.get() == id).expect("one of them")
    }

    fn settle(&mut self) {
        self.node.settle(&mut self.rng);
        for at in 0..PEOPLE {
            let Some(link) = self.people[at].link else { continue };
            for frame in self.node.receive(link).expect("it stands") {
                self.take(at, frame);
            }
        }
    }

    fn take(&mut self, at: usize, frame: v1::ServerFrame) {
        match frame.message {
            Some(Message::Presence(presence)) => {
                let whom = self.at(presence.user_id);
                assert!(presence.last_seen_ms <= self.node.now_ms, "nobody was here in the future");
                self.people[at].heard.insert(whom, (presence.online, presence.last_seen_ms));
            }
            Some(Message::Activity(activity)) => {
                let sender = if activity.sender == 0 { activity.chat } else { activity.sender };
                self.people[at].acts.push((activity.chat, sender));
            }
            _ => {}
        }
    }

    fn ask(&mut self, at: usize, request: Request) -> Option<Message> {
        self.requests += 1;
        let (id, link) = (self.requests, self.people[at].link?);
        self.node.request(link, id, request);
        self.node.settle(&mut self.rng);
        let frames = self.node.receive(link).expect("it stands");
        let mut answer = None;
        for frame in frames {
            if frame.id == id { answer = frame.message } else { self.take(at, frame) }
        }
        self.settle();
        Some(answer.expect("it is answered"))
    }

    fn come(&mut self, at: usize) {
        if self.people[at].link.is_some() {
            return;
        }
        let core = self.rng.u16(..self.cores);
        let link = self.node.log_in(core, &self.people[at].who.access_token);
        let now_ms = self.node.now_ms;
        let person = &mut self.people[at];
        person.returns(now_ms);
        (person.link, person.away) = (Some(link), false);
        (person.shows, person.shows_group, person.heard) = Default::default();
        self.settle();
    }

    fn go(&mut self, at: usize) {
        let before_ms = self.node.now_ms;
        if let Some(link) = self.people[at].link.take() {
            self.node.disconnect(link);
            self.settle();
            if !self.people[at].away {
                self.people[at].leaves(before_ms, self.node.now_ms);
            }
        }
    }

    /// It shows others, and may be looked at or not.
    fn show(&mut self, at: usize) {
        if self.people[at].link.is_none() {
            return;
        }
        let shows: BTreeSet<_> = (0..PEOPLE).filter(|other| *other != at && self.rng.bool()).collect();
        let (shows_group, away) = (self.rng.bool(), self.rng.u8(..4) == 0);
        let user_ids = shows.iter().map(|other| self.id(*other)).collect();
        let groups = if shows_group { vec![self.group] } else { Vec::new() };
        let before_ms = self.node.now_ms;
        let person = &mut self.people[at];
        let heard = person.heard.clone();
        person.heard.retain(|whom, _| person.shows.contains(whom) && shows.contains(whom));
        let answer = self.ask(at, Request::Subscribe(v1::Subscribe { user_ids, groups, away }));
        if matches!(&answer, Some(Message::Refused(refused)) if refused.reason() == Reason::Unavailable) {
            self.people[at].heard = heard;
            return;
        }
        assert!(matches!(answer, Some(Message::Subscribed(_))), "{answer:?}");
        let now_ms = self.node.now_ms;
        let person = &mut self.people[at];
        match (person.away, away) {
            (false, true) => person.leaves(before_ms, now_ms),
            (true, false) => person.returns(now_ms),
            _ => {}
        }
        (person.shows, person.shows_group, person.away) = (shows, shows_group, away);
    }

    fn say(&mut self, at: usize, what: What) {
        let body = v1::Private { what: Some(what) }.encode_to_vec().into();
        let (client_id, kind) = (self.requests, Kind::Private.into());
        let send = v1::Send { chat: PRIVATE, client_id, body, kind, ..v1::Send::default() };
        let answer = self.ask(at, Request::Send(send));
        assert!(matches!(answer, None | Some(Message::Sent(_))), "{answer:?}");
    }

    /// Something of what others may see becomes another.
    fn set(&mut self, at: usize) {
        if self.people[at].link.is_none() {
            return;
        }
        let other = (at + self.rng.usize(1..PEOPLE)) % PEOPLE;
        let (user_id, is_so) = (self.id(other), self.rng.bool());
        let toggle = |set: &mut BTreeSet<usize>| if is_so { set.insert(other) } else { set.remove(&other) };
        match self.rng.u8(..3) {
            0 => {
                toggle(&mut self.people[at].blocks);
                self.say(at, What::Blocked(v1::Blocked { user_id, off: !is_so }));
            }
            1 => {
                toggle(&mut self.people[at].contacts);
                let contact = v1::Contact { user_id, off: !is_so, ..v1::Contact::default() };
                self.say(at, What::Contacts(v1::Contacts { contacts: vec![contact] }));
            }
            _ => {
                let mut any =
                    || [Audience::Everyone, Audience::Contacts, Audience::Nobody][self.rng.usize(..3)];
                let (online, last_seen) = (any(), any());
                (self.people[at].online, self.people[at].last_seen) = (online, last_seen);
                let (online, last_seen) = (online.into(), last_seen.into());
                self.say(at, What::Privacy(v1::Privacy { online, last_seen, ..v1::Privacy::default() }));
            }
        }
    }

    /// Somebody does something in a chat: those hear it who show it, and are to.
    fn act(&mut self, at: usize) {
        if self.people[at].link.is_none() {
            return;
        }
        self.node.tick(7_000);
        // What is told to a connection on its way to another core is lost.
        self.settle();
        let in_group = self.rng.bool();
        let other = (at + self.rng.usize(1..PEOPLE)) % PEOPLE;
        let chat = if in_group { self.group } else { self.id(other) };
        self.people.iter_mut().for_each(|person| person.acts.clear());
        let activity = v1::Activity { chat, doing: Doing::Typing.into(), sender: 0 };
        if self.rng.bool() {
            let answer = self.ask(at, Request::Activity(activity));
            assert!(matches!(answer, Some(Message::ActivityTold(_))), "{answer:?}");
        } else if let Some(link) = self.people[at].link {
            self.node.request(link, 0, Request::Activity(activity));
            self.settle();
        }
        let sender = self.id(at);
        for (hearer, person) in self.people.iter().enumerate().filter(|(hearer, _)| *hearer != at) {
            let blocked = self.people[at].blocks.contains(&hearer);
            let hears = person.link.is_some()
                && match in_group {
                    true => person.shows_group && !blocked,
                    false => {
                        let shows = hearer == other && person.shows.contains(&at);
                        shows && !blocked && !person.blocks.contains(&at)
                    }
                };
            let heard = if in_group { (self.group, sender) } else { (sender, sender) };
            let expected = if hears { vec![heard] } else { Vec::new() };
            assert_eq!(person.acts, expected, "what {hearer} heard of {at}");
        }
    }

    fn lets(&self, at: usize, other: usize, audience: Audience) -> bool {
        !self.people[at].blocks.contains(&other)
            && match audience {
                Audience::Everyone => true,
                Audience::Contacts => self.people[at].contacts.contains(&other),
                Audience::Nobody => false,
            }
    }

    /// When those who have gone have faded, everybody knows what they are to.
    fn check(&mut self) {
        for _ in 0..6 {
            self.node.tick(GRACE_MS / 2);
            self.settle();
        }
        for at in 0..PEOPLE {
            let person = &self.people[at];
            for whom in person.shows.iter().copied().filter(|_| person.link.is_some()) {
                let of = &self.people[whom];
                let mutual = |audience: fn(&Person) -> Audience| {
                    self.lets(whom, at, audience(of)) && self.lets(at, whom, audience(person))
                };
                let is_here = of.link.is_some() && !of.away;
                let (sees_online, sees_last) =
                    (mutual(|person| person.online), mutual(|person| person.last_seen));
                let (online, last_seen_ms) = person.heard.get(&whom).copied().unwrap_or_default();
                assert_eq!(online, sees_online.then_some(is_here), "what {at} knows of {whom}");
                let (first, last) = of.left_ms;
                let expected = match sees_last && !(is_here && sees_online) {
                    true => first..=last,
                    false => 0..=0,
                };
                assert!(
                    expected.contains(&last_seen_ms),
                    "{at} knows that {whom} was here at {last_seen_ms}, and not at {expected:?}"
                );
            }
        }
    }

    /// Whoever comes back at once has never been away, whatever came back with them.
    fn blink(&mut self, at: usize) {
        let shown_by: Vec<_> = (0..PEOPLE).filter(|other| self.people[*other].shows.contains(&at)).collect();
        if self.people[at].link.is_none() || self.people[at].away {
            return;
        }
        self.check();
        let before: Vec<_> =
            shown_by.iter().map(|other| self.people[*other].heard.get(&at).copied()).collect();
        self.go(at);
        self.node.tick(GRACE_MS / 4);
        self.come(at);
        for (other, before) in shown_by.into_iter().zip(before) {
            assert_eq!(self.people[other].heard.get(&at).copied(), before, "{other} saw {at} flicker");
        }
    }

    fn restart(&mut self) {
        // What fades when a process ends is lost with it, but for what was written.
        self.check();
        let now_ms = self.node.now_ms;
        let here: Vec<_> = (0..PEOPLE).filter(|at| self.people[*at].link.take().is_some()).collect();
        self.node = Node::start(&self.store, self.cores, &limits(), now_ms);
        self.node.tick(1);
        for at in here {
            self.come(at);
        }
    }

    fn live(&mut self) {
        for _ in 0..120 {
            let at = self.rng.usize(..PEOPLE);
            match self.rng.u8(..40) {
                0..5 => self.come(at),
                5..8 => self.go(at),
                8..14 => self.show(at),
                14..22 => self.set(at),
                22..32 => self.act(at),
                32..34 => self.blink(at),
                34..37 => {
                    let user = self.people[at].who.user.get();
                    self.node.move_slot(Slot::of_user(user), self.rng.u16(..));
                    self.settle();
                }
                37 => self.restart(),
                _ => self.check(),
            }
        }
        self.check();
    }
}

/// While the store can be read again and again not, people come and show others.
fn live_with_outages(seed: u64) {
    let mut world = World::new(seed);
    (0..PEOPLE).for_each(|at| world.come(at));
    for _ in 0..6 {
        for _ in 0..6 {
            let at = world.rng.usize(..PEOPLE);
            world.set(at);
        }
        // Whoever is not needed is read again.
        world.check();
        world.store.fail_reads(Some(StoreError::Unreachable { reason: "a test".to_owned() }));
        for _ in 0..4 {
            let at = world.rng.usize(..PEOPLE);
            world.show(at);
        }
        world.node.tick(world.rng.u64(..3_000));
        world.settle();
        world.store.fail_reads(None);
        world.check();
        let at = world.rng.usize(..PEOPLE);
        world.go(at);
        world.check();
        world.come(at);
    }
}

fn live(seed: u64) {
    World::new(seed).live();
}

/// More people show somebody than are told in a turn: each is told once that they are here, and once that they are not.
#[test]
fn whoever_is_shown_by_more_than_are_told_at_once_is_told_of_to_all_of_them() {
    const LOOKERS: usize = 3 * TOLD_PER_TURN_MAX + 7;
    let mut rng = Rng::with_seed(7);
    let store = Memory::new();
    let mut node = Node::start(&store, 2, &limits(), 1_000_000);
    let star = node.provision("+15550000", &mut rng);
    let lookers: Vec<Link> = (0..LOOKERS)
        .map(|at| {
            let who = node.provision(&format!("+1556{at:07}"), &mut rng);
            let link = node.log_in((at % 2) as u16, &who.access_token);
            let user_ids = vec![star.user.get()];
            let (groups, away) = (Vec::new(), false);
            node.request(link, 10, Request::Subscribe(v1::Subscribe { user_ids, groups, away }));
            link
        })
        .collect();
    let told = |node: &mut Node, rng: &mut Rng| -> Vec<Vec<Option<bool>>> {
        node.settle(rng);
        let presences = |link: &Link| {
            let frames = node.receive(*link).expect("it stands").into_iter();
            let of_star = frames.filter_map(|frame| match frame.message {
                Some(Message::Presence(presence)) => Some(presence.online),
                _ => None,
            });
            of_star.collect()
        };
        lookers.iter().map(presences).collect()
    };
    assert!(told(&mut node, &mut rng).iter().all(|told| told[..] == [Some(false)]));
    let link = node.log_in(0, &star.access_token);
    assert!(told(&mut node, &mut rng).iter().all(|told| told[..] == [Some(true)]));
    node.disconnect(link);
    node.settle(&mut rng);
    node.tick(2 * GRACE_MS);
    assert!(told(&mut node, &mut rng).iter().all(|told| told[..] == [Some(false)]));
}

#[test]
fn whoever_shows_somebody_knows_what_they_are_to_and_nothing_else() {
    node::live_with_seeds("presence", 200, live);
}

#[test]
fn whoever_shows_somebody_while_nothing_can_be_read_hears_of_them_when_it_can() {
    node::live_with_seeds("presence", 100, live_with_outages);
}

#[cfg(feature = "mutations")]
#[test]
fn each_fault_is_found() {
    node::find_each_fault("shard/tests/presence.rs", live);
}
