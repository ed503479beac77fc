//! What somebody has said of what others may see, and do, holds, whoever asks by whatever way.

#![allow(clippy::print_stdout, reason = "it says how a fault was found")]

#[allow(dead_code, reason = "the node serves other tests as well")]
mod node;

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use node::{Link, Node};
use prost::Message as _;
use tern_proto::v1::{
    self, Audience, Kind, Reason, client_frame::Request, lookup::By, private::What, server_frame::Message,
};
use tern_shard::admin::Provisioned;
use tern_shard::limits::{DAY_MS, Limits};
use tern_storage::memory::Memory;
use tern_storage::records::UserRecord;
use tern_storage::{Batch, Engine as _, keys};
use tern_wire::ids::{Phone, PhoneHash};

const PRIVATE: u64 = 1 << 43;

struct World {
    rng: Rng,
    store: Memory,
    node: Node,
    requests: u64,
    /// What came beside answers, by connection.
    pushed: BTreeMap<usize, Vec<v1::ServerFrame>>,
}

struct Person {
    who: Provisioned,
    link: Link,
}

impl Person {
    fn id(&self) -> u64 {
        self.who.user.get()
    }
}

fn limits() -> Limits {
    Limits {
        logs_cached_max: 0,
        users_cached_max: 0,
        lazy_ms: 0,
        lookups_per_minute_max: 0,
        access_token_valid_ms: 365 * DAY_MS,
        idle_timeout_ms: DAY_MS,
        ..Limits::default()
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let store = Memory::new();
        let node = Node::start(&store, 3, &limits(), 1_000_000);
        Self { rng: Rng::with_seed(seed), store, node, requests: 10, pushed: BTreeMap::new() }
    }

    fn person(&mut self, number: u32) -> Person {
        let who = self.node.provision(&format!("+1555{number:04}"), &mut self.rng);
        let link = self.come(&who);
        Person { who, link }
    }

    fn come(&mut self, who: &Provisioned) -> Link {
        let link = self.node.log_in(0, &who.access_token);
        self.node.request(link, 3, Request::Resume(v1::Resume::default()));
        self.node.settle(&mut self.rng);
        self.node.receive(link);
        link
    }

    /// All that was said is durable, and nothing of it is in memory.
    fn restart(&mut self, people: &mut [&mut Person]) {
        let now_ms = self.node.now_ms;
        self.node = Node::start(&self.store, 3, &limits(), now_ms);
        for person in people {
            person.link = self.come(&person.who);
        }
    }

    fn ask(&mut self, by: &Person, request: Request) -> Result<Message, Reason> {
        self.requests += 1;
        self.node.request(by.link, self.requests, request);
        self.node.settle(&mut self.rng);
        let frames = self.node.receive(by.link).expect("it stands");
        let (answers, pushed): (Vec<_>, Vec<_>) =
            frames.into_iter().partition(|frame| frame.id == self.requests);
        self.pushed.entry(by.link.0).or_default().extend(pushed);
        let answer = answers.into_iter().next().expect("it is answered");
        match answer.message.expect("it says something") {
            Message::Refused(refused) => Err(refused.reason()),
            message => Ok(message),
        }
    }

    /// Of which versions of others somebody was told since they were asked last.
    fn told(&mut self, person: &Person) -> Vec<u64> {
        self.node.settle(&mut self.rng);
        let frames = self.node.receive(person.link).expect("it stands");
        let changed = frames.into_iter().chain(self.pushed.remove(&person.link.0).unwrap_or_default());
        changed
            .filter_map(|frame| match frame.message {
                Some(Message::PersonChanged(changed)) => Some(changed.version),
                _ => None,
            })
            .collect()
    }

    fn say(&mut self, by: &Person, what: What) -> Result<(), Reason> {
        let body = v1::Private { what: Some(what) }.encode_to_vec().into();
        let (client_id, kind) = (self.requests, Kind::Private.into());
        let send = v1::Send { chat: PRIVATE, client_id, body, kind, ..v1::Send::default() };
        self.ask(by, Request::Send(send)).map(drop)
    }

    fn write(&mut self, by: &Person, chat: u64) -> Result<u64, Reason> {
        let send = v1::Send { chat, client_id: self.requests, body: "hear me".into(), ..v1::Send::default() };
        match self.ask(by, Request::Send(send))? {
            Message::Sent(sent) => Ok(sent.seq),
            other => panic!("{other:?}"),
        }
    }

    fn knows(&mut self, by: &Person, whom: &Person, off: bool) {
        let contact = v1::Contact { user_id: whom.id(), name: "a friend".into(), off };
        let contacts = What::Contacts(v1::Contacts { contacts: vec![contact] });
        self.say(by, contacts).expect("they may be named");
    }

    fn group(&mut self, by: &Person, members: Vec<u64>) -> Result<(), Reason> {
        let group = v1::GroupMade { name: "friends".to_owned(), members, ..v1::GroupMade::default() };
        let create = v1::CreateGroup { client_id: self.requests, group: Some(group) };
        self.ask(by, Request::CreateGroup(create)).map(drop)
    }

    fn find(&mut self, by: &Person, whom: &Person) -> Result<u64, Reason> {
        let by_phone = By::Phone(whom.who.phone.as_str().to_owned());
        let found = match self.ask(by, Request::Lookup(v1::Lookup { by: Some(by_phone), group: 0 })) {
            Ok(Message::Person(person)) => Ok(person.user_id),
            Ok(other) => panic!("{other:?}"),
            Err(reason) => Err(reason),
        };
        // In an address book they are found where they are found by themselves, at whatever place.
        let nobody = |number| Phone::parse(&format!("+1666{number:04}")).expect("a phone");
        let mut phones: Vec<_> = (0..self.rng.u32(..5)).map(nobody).collect();
        let place = self.rng.usize(..=phones.len());
        phones.insert(place, whom.who.phone.clone());
        let hashes = phones.iter().map(|phone| PhoneHash::of(phone).as_bytes().to_vec().into()).collect();
        let mut due = vec![0; phones.len()];
        due[place] = found.unwrap_or_default();
        match self.ask(by, Request::Discover(v1::Discover { hashes })) {
            Ok(Message::Discovered(found)) => assert_eq!(found.user_ids, due),
            other => panic!("{other:?}"),
        }
        found
    }

    fn marks(&mut self, by: &Person, whom: &Person) -> (u64, u64) {
        let history = v1::History { chat: whom.id(), ..v1::History::default() };
        match self.ask(by, Request::History(history)) {
            Ok(Message::HistoryPage(page)) => (page.delivered_upto, page.read_upto),
            other => panic!("{other:?}"),
        }
    }

    fn read(&mut self, by: &Person, whom: &Person, upto: u64) {
        let acknowledge = v1::Acknowledge { chat: whom.id(), delivered_upto: upto, read_upto: upto };
        self.ask(by, Request::Acknowledge(acknowledge)).expect("it is there");
    }
}

fn privacy(groups: Audience, found_by_phone: Audience) -> What {
    let (groups, found_by_phone) = (groups.into(), found_by_phone.into());
    What::Privacy(v1::Privacy { groups, found_by_phone, ..v1::Privacy::default() })
}

fn live(seed: u64) {
    let mut world = World::new(seed);
    let [mut ann, mut bob, mut cat] = [1, 2, 3].map(|number| world.person(number));
    let blocked = |off| What::Blocked(v1::Blocked { user_id: 0, off });
    world.group(&ann, vec![bob.id(), cat.id()]).expect("at the beginning everybody may");

    world.say(&bob, privacy(Audience::Contacts, Audience::Contacts)).expect("he may say so");
    assert_eq!(world.group(&ann, vec![cat.id(), bob.id()]), Err(Reason::NotAllowed));
    assert_eq!(world.find(&ann, &bob), Err(Reason::UnknownUser));
    world.knows(&bob, &ann, false);
    world.restart(&mut [&mut ann, &mut bob, &mut cat]);
    world.group(&ann, vec![bob.id()]).expect("she is a contact");
    assert_eq!(world.find(&ann, &bob), Ok(bob.id()));
    assert_eq!(world.find(&cat, &bob), Err(Reason::UnknownUser));
    assert_eq!(world.find(&bob, &bob), Ok(bob.id()), "oneself one finds");

    // Who is blocked may not, contact or not; that a phone was found before stays so.
    let of_ann = What::Blocked(v1::Blocked { user_id: ann.id(), off: false });
    world.say(&bob, of_ann).expect("he may say so");
    assert_eq!(world.group(&ann, vec![bob.id()]), Err(Reason::NotAllowed));
    assert_eq!(world.find(&ann, &bob), Ok(bob.id()));
    world.say(&bob, What::Blocked(v1::Blocked { user_id: ann.id(), off: true })).expect("he may end that");
    world.group(&ann, vec![bob.id()]).expect("she is not blocked any more");
    world.knows(&bob, &ann, true);
    assert_eq!(world.group(&ann, vec![bob.id()]), Err(Reason::NotAllowed));

    world.say(&bob, privacy(Audience::Nobody, Audience::Nobody)).expect("he may say so");
    assert_eq!(world.find(&ann, &bob), Err(Reason::UnknownUser));
    assert_eq!(world.group(&cat, vec![bob.id()]), Err(Reason::NotAllowed));
    world.group(&bob, vec![ann.id()]).expect("he may take in others");
    // To whom one has written, one is known.
    world.write(&bob, ann.id()).expect("he may write");
    assert_eq!(world.find(&ann, &bob), Ok(bob.id()));
    world.say(&bob, privacy(Audience::Everyone, Audience::Everyone)).expect("he may say so");
    world.group(&cat, vec![bob.id()]).expect("everybody may again");

    // What can't be.
    assert_eq!(world.say(&bob, blocked(false)), Err(Reason::InvalidArgument), "nobody is named");
    let itself = What::Blocked(v1::Blocked { user_id: bob.id(), off: false });
    assert_eq!(world.say(&bob, itself), Err(Reason::InvalidArgument), "one can't block oneself");
    let oneself = v1::Contact { user_id: bob.id(), ..v1::Contact::default() };
    let contacts = What::Contacts(v1::Contacts { contacts: vec![oneself] });
    assert_eq!(world.say(&bob, contacts), Err(Reason::InvalidArgument));
    let unknown = What::Privacy(v1::Privacy { online: 7, ..v1::Privacy::default() });
    assert_eq!(world.say(&bob, unknown), Err(Reason::InvalidArgument));
}

/// What somebody is to others, as it is to be.
#[derive(Default)]
struct Profile {
    /// Name, about, picture: what each is, and how often it has become another.
    parts: [(u64, u64); 3],
    audiences: [Audience; 2],
    contacts: BTreeSet<usize>,
    blocked: BTreeSet<usize>,
}

impl Profile {
    /// What somebody sees, who is told the name or not.
    fn seen_by(&self, other: usize, name: bool) -> [bool; 3] {
        let lets = |audience| match audience {
            Audience::Everyone => !self.blocked.contains(&other),
            Audience::Contacts => self.contacts.contains(&other) && !self.blocked.contains(&other),
            Audience::Nobody => false,
        };
        [name, lets(self.audiences[0]), lets(self.audiences[1])]
    }

    fn version(&self, sees: [bool; 3]) -> u64 {
        self.parts.iter().zip(sees).filter(|(_, sees)| *sees).map(|((_, count), _)| count).sum()
    }
}

/// One is another now and then, and says who may see what; the others look, and are told.
fn show(seed: u64) {
    let mut world = World::new(seed);
    let mut people = [1, 2, 3, 4].map(|number| world.person(number));
    let mut profile = Profile::default();
    // With the first two there is a chat that both wrote in, with the third one that they alone wrote in.
    for (other, writes) in [(1, true), (2, true), (3, false)] {
        let (one, peer) = (&people[0], &people[other]);
        world.write(peer, one.id()).expect("they may");
        if writes {
            world.write(one, peer.id()).expect("one may");
        }
    }
    // As the test user was made.
    profile.parts[0].1 = 1;
    for _ in 0..40 {
        let (what, other) = (world.rng.u8(..6), world.rng.usize(1..4));
        let [one, ..] = &people;
        let mut changed = [false; 3];
        let saw = std::array::from_fn::<_, 4, _>(|other| profile.seen_by(other, other < 3));
        match what {
            0..2 => {
                // Less than an account may, on the average.
                world.node.tick(200_000);
                let parts = std::array::from_fn(|_| world.rng.bool().then(|| world.rng.u64(..3)));
                let [name, about, picture]: [Option<u64>; 3] = parts;
                for (place, part) in parts.into_iter().enumerate() {
                    if part.is_some_and(|part| part != profile.parts[place].0) {
                        changed[place] = true;
                        profile.parts[place] = (part.expect("it is there"), profile.parts[place].1 + 1);
                    }
                }
                let text = |part: u64| if part == 0 { String::new() } else { format!("part {part}") };
                let name = name.map(|part| if part == 0 { "somebody".to_owned() } else { text(part) });
                let picture = picture.map(|part| text(part).into());
                let rename = v1::Rename { name, about: about.map(text), picture, device_name: None };
                world.ask(one, Request::Rename(rename)).expect("one may");
            }
            2 => {
                let mut any =
                    || [Audience::Everyone, Audience::Contacts, Audience::Nobody][world.rng.usize(..3)];
                profile.audiences = [any(), any()];
                let [about, picture] = profile.audiences.map(i32::from);
                let privacy = v1::Privacy { about, picture, ..v1::Privacy::default() };
                world.say(one, What::Privacy(privacy)).expect("one may say so");
            }
            3 => {
                let off = !profile.contacts.insert(other) && profile.contacts.remove(&other);
                world.knows(one, &people[other], off);
            }
            4 => {
                let off = !profile.blocked.insert(other) && profile.blocked.remove(&other);
                let blocked = v1::Blocked { user_id: people[other].id(), off };
                world.say(one, What::Blocked(blocked)).expect("one may say so");
            }
            _ => {
                let [a, b, c, d] = &mut people;
                world.restart(&mut [a, b, c, d]);
            }
        }
        for (other, person) in people.iter().enumerate() {
            let knows_name = other < 3;
            let sees = if other == 0 { [true; 3] } else { profile.seen_by(other, knows_name) };
            let is_told = sees.iter().zip(changed).any(|(sees, changed)| *sees && changed);
            let told = world.told(person);
            // Whom one blocks is told nothing, and whoever is not told the name nothing of changes.
            let is_told = is_told && knows_name && !profile.blocked.contains(&other);
            // Whoever sees more than before, as far as there is something, is told no version.
            let sees_more = (1..3).any(|part| profile.parts[part].0 != 0 && sees[part] && !saw[other][part]);
            let due = match what {
                2 if other > 0 && sees_more && knows_name => vec![0],
                _ if is_told => vec![profile.version(sees)],
                _ => Vec::new(),
            };
            assert_eq!(told, due, "{other} is told of {changed:?}");
            let by = By::Phone(people[0].who.phone.as_str().to_owned());
            let found = match world.ask(person, Request::Lookup(v1::Lookup { by: Some(by), group: 0 })) {
                Ok(Message::Person(found)) => found,
                other => panic!("{other:?}"),
            };
            let part = |place: usize, empty: &str| match profile.parts[place].0 {
                _ if !sees[place] => String::new(),
                0 => empty.to_owned(),
                part => format!("part {part}"),
            };
            assert_eq!(found.name, part(0, "somebody"), "{other}");
            assert_eq!(found.about, part(1, ""), "{other}");
            assert_eq!(found.picture, part(2, "").as_bytes(), "{other}");
            assert_eq!(found.version, profile.version(sees), "{other}");
        }
    }
}

#[test]
fn what_one_says_of_oneself_is_seen_by_those_who_may_and_nobody_else_hears_that_it_has_changed() {
    (1..30).for_each(show);
}

#[test]
fn settings_hold_for_contacts_strangers_and_those_who_are_blocked() {
    (1..30).for_each(live);
}

#[test]
fn who_hides_what_they_read_is_not_told_what_others_read_either() {
    for seed in 1..30 {
        let mut world = World::new(seed);
        let [mut ann, mut bob] = [1, 2].map(|number| world.person(number));
        world.write(&ann, bob.id()).expect("it is taken");
        world.read(&bob, &ann, 1);
        assert_eq!(world.marks(&ann, &bob), (1, 1));
        let hides = |hides_reads| What::Privacy(v1::Privacy { hides_reads, ..v1::Privacy::default() });
        world.say(&bob, hides(true)).expect("he may say so");
        world.write(&ann, bob.id()).expect("it is taken");
        world.read(&bob, &ann, 2);
        assert_eq!(world.marks(&ann, &bob), (2, 1), "that it has come is told, that it is read is not");
        world.write(&bob, ann.id()).expect("it is taken");
        world.read(&ann, &bob, 3);
        assert_eq!(world.marks(&bob, &ann), (3, 0), "and he is not told of hers");
        world.restart(&mut [&mut ann, &mut bob]);
        assert_eq!((world.marks(&ann, &bob), world.marks(&bob, &ann)), ((2, 1), (3, 0)));
        world.say(&bob, hides(false)).expect("he may say so");
        world.write(&ann, bob.id()).expect("it is taken");
        world.read(&bob, &ann, 4);
        assert_eq!(world.marks(&ann, &bob), (4, 4));
    }
}

/// A store of before phones had hashes.
#[test]
fn an_account_of_before_is_found_in_address_books_when_a_device_of_it_has_come() {
    let mut world = World::new(1);
    let [mut ann, mut bob] = [1, 2].map(|number| world.person(number));
    let (id, phone) = (bob.id(), bob.who.phone.clone());
    let (user, hash) = (keys::user(id), keys::phone_hash(PhoneHash::of(&phone).as_bytes()));
    let record = world.store.get_blocking(&user).expect("it is read").expect("it is there");
    let record = UserRecord::decode(record).expect("a record");
    assert!(record.is_hashed && world.store.get_blocking(&hash).expect("it is read").is_some());
    let mut batch = Batch::default();
    batch.put_record(&user, &UserRecord { is_hashed: false, ..record });
    batch.delete(&hash);
    world.store.commit_blocking(batch).expect("written");
    world.restart(&mut [&mut ann]);
    let discover = || {
        let hashes = vec![PhoneHash::of(&phone).as_bytes().to_vec().into()];
        Request::Discover(v1::Discover { hashes })
    };
    let found = |message| match message {
        Ok(Message::Discovered(found)) => found.user_ids,
        other => panic!("{other:?}"),
    };
    assert_eq!(found(world.ask(&ann, discover())), [0]);
    bob.link = world.come(&bob.who);
    assert_eq!(found(world.ask(&ann, discover())), [id]);
    world.restart(&mut [&mut ann]);
    assert_eq!(found(world.ask(&ann, discover())), [id], "it is durable");
}

#[test]
fn as_many_are_blocked_as_may_be() {
    let mut world = World::new(1);
    let mut ann = world.person(1);
    for number in 1..=tern_shard::limits::BLOCKED_MAX as u64 {
        world.node.tick(700);
        let blocked = v1::Blocked { user_id: number, off: false };
        world.say(&ann, What::Blocked(blocked)).expect("so many may be");
    }
    world.restart(&mut [&mut ann]);
    let one_more = What::Blocked(v1::Blocked { user_id: 5_000, off: false });
    assert_eq!(world.say(&ann, one_more.clone()), Err(Reason::TooManyPeople));
    world.say(&ann, What::Blocked(v1::Blocked { user_id: 7, off: true })).expect("one may go");
    world.say(&ann, one_more).expect("there is room for one");
}

#[cfg(feature = "mutations")]
#[test]
fn each_fault_is_found() {
    node::find_each_fault("shard/tests/privacy.rs", |seed| {
        live(seed);
        show(seed);
    });
}
