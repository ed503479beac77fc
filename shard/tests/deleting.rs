//! Whoever has their account deleted is let in no more, may take that back for a while, and is gone then: no row of theirs is left but the
//! tombstone and what others have too, whatever moves, fails or starts again meanwhile; and others keep what they had.
//!
//! `TERN_SEED=N` repeats one run.

#![allow(clippy::print_stdout, reason = "a failed run is repeated with the seed that it printed")]

#[allow(dead_code, reason = "the node serves other tests as well")]
mod node;

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use node::Node;
use prost::Message as _;
use tern_proto::v1::{self, Kind, Reason, client_frame::Request, private::What, server_frame::Message};
use tern_shard::admin::{AdminRequest, AdminResponse, Provisioned};
use tern_shard::limits::{DAY_MS, Limits};
use tern_storage::faults::Faults;
use tern_storage::memory::Memory;
use tern_storage::{LogId, Slot, keys};
use tern_wire::ids::PRIVATE;

const PEOPLE: usize = 5;
const DELAY_MS: u64 = 7 * DAY_MS;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Lives,
    /// It is to end.
    Ends,
    /// It has ended.
    Gone,
}

struct Person {
    phone: String,
    who: Provisioned,
    state: State,
    client_ids: u64,
}

struct World {
    rng: Rng,
    store: Memory,
    node: Node,
    cores: u16,
    people: Vec<Person>,
    groups: Vec<u64>,
    /// How many messages each chat has, by its two people or by its group.
    said: BTreeMap<LogId, u64>,
    seed: u64,
    /// Processes start again; otherwise owners are lost, whose slots others take over.
    starts_again: bool,
}

fn limits() -> Limits {
    Limits {
        logs_cached_max: 4,
        users_cached_max: 0,
        lazy_ms: 5,
        mark_quiet_ms: 500,
        sends_per_minute_max: 0,
        strangers_per_hour_max: 0,
        lookups_per_minute_max: 0,
        groups_per_day_max: 1_000_000,
        search_run_entries: 4,
        deletion_delay_ms: DELAY_MS,
        access_token_valid_ms: 365 * DAY_MS,
        refresh_token_valid_ms: 365 * DAY_MS,
        idle_timeout_ms: DAY_MS,
        account_idle_days: 0,
        ..Limits::default()
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let (store, cores) = (Memory::faulty(Faults::default()), rng.u16(1..4));
        let mut node = Node::start(&store, cores, &limits(), 20_000 * DAY_MS);
        let person = |number| {
            let phone = format!("+1555000{number}777");
            let who = node.provision(&phone, &mut rng);
            Person { phone, who, state: State::Lives, client_ids: 0 }
        };
        let people = (0..PEOPLE).map(person).collect();
        Self {
            rng,
            store,
            node,
            cores,
            people,
            groups: Vec::new(),
            said: BTreeMap::new(),
            seed,
            starts_again: seed.is_multiple_of(2),
        }
    }

    fn id(&self, at: usize) -> u64 {
        self.people[at].who.user.get()
    }

    /// What a device of somebody is answered, on a connection of its own.
    fn ask(&mut self, at: usize, request: Request) -> Option<Message> {
        let core = self.rng.u16(..self.cores);
        let link = self.node.log_in(core, &self.people[at].who.access_token);
        self.node.settle(&mut self.rng);
        let is_in = |frames: &[v1::ServerFrame]| {
            frames.iter().any(|frame| matches!(frame.message, Some(Message::LoggedIn(_))))
        };
        let frames = self.node.receive(link)?;
        if !is_in(&frames) {
            let answer = frames.into_iter().find(|frame| frame.id == 2);
            return answer.and_then(|frame| frame.message);
        }
        self.node.request(link, 3, request);
        self.node.settle(&mut self.rng);
        let frames = self.node.receive(link).unwrap_or_default();
        self.node.disconnect(link);
        self.node.settle(&mut self.rng);
        frames.into_iter().find(|frame| frame.id == 3).and_then(|frame| frame.message)
    }

    fn send(&mut self, at: usize, chat: u64, kind: Kind, body: Vec<u8>) -> Option<Message> {
        self.people[at].client_ids += 1;
        let client_id = self.people[at].client_ids;
        let send = v1::Send { chat, client_id, kind: kind.into(), body: body.into(), ..v1::Send::default() };
        self.ask(at, Request::Send(send))
    }

    fn private(&mut self, at: usize, what: What) {
        let body = v1::Private { what: Some(what) }.encode_to_vec();
        let answer = self.send(at, PRIVATE, Kind::Private, body);
        assert!(matches!(answer, Some(Message::Sent(_))), "{answer:?}");
    }

    /// People do what leaves rows.
    fn talk(&mut self) {
        let at = self.rng.usize(..PEOPLE);
        let other = self.rng.usize(..PEOPLE);
        let (user_id, other_log) = (self.id(other), LogId::direct(self.id(at), self.id(other)));
        match self.rng.u8(..16) {
            0..8 => {
                let answer = self.send(at, user_id, Kind::Text, b"hello there, people".to_vec());
                assert!(matches!(answer, Some(Message::Sent(_))), "{answer:?}");
                *self.said.entry(other_log).or_default() += 1;
            }
            8 => {
                let ends = v1::Timer { after_ms: 3 * DAY_MS };
                self.send(at, user_id, Kind::Timer, ends.encode_to_vec());
                *self.said.entry(other_log).or_default() += 1;
            }
            9 => {
                let chosen: Vec<_> = (0..PEOPLE).filter(|_| self.rng.bool()).collect();
                let members = chosen.into_iter().map(|at| self.id(at)).collect();
                self.people[at].client_ids += 1;
                let client_id = self.people[at].client_ids;
                let group = v1::GroupMade { name: "us".to_owned(), members, ..Default::default() };
                let create = v1::CreateGroup { client_id, group: Some(group) };
                let made = self.ask(at, Request::CreateGroup(create));
                let Some(Message::GroupCreated(made)) = made else { panic!("{made:?}") };
                self.groups.push(made.chat);
            }
            10 | 11 => {
                let Some(group) = self.rng.choice(&self.groups).copied() else { return };
                self.send(at, group, Kind::Text, b"hello, all of you".to_vec());
            }
            12 => self
                .private(at, What::Blocked(v1::Blocked { user_id: self.id((at + 1) % PEOPLE), off: true })),
            13 if other != at => {
                let contact = v1::Contact { user_id, ..v1::Contact::default() };
                self.private(at, What::Contacts(v1::Contacts { contacts: vec![contact] }));
            }
            14 => {
                let settings = v1::ChatSettings { chat: user_id, archived: true, ..Default::default() };
                self.private(at, What::Chat(settings));
            }
            _ => {
                let send = v1::Send {
                    chat: user_id,
                    kind: Kind::Text.into(),
                    body: "later".into(),
                    ..Default::default()
                };
                let at_ms = self.node.now_ms + 5 * DAY_MS;
                self.private(at, What::Scheduled(v1::Scheduled { at_ms, send: Some(send) }));
            }
        }
    }

    /// Something else becomes of the server.
    fn trouble(&mut self) {
        match self.rng.u8(..8) {
            0 if self.starts_again => {
                self.store = self.store.recover(Faults::default());
                self.node = Node::start(&self.store, self.cores, &limits(), self.node.now_ms);
            }
            1 if !self.starts_again => drop(self.node.lose_brain(self.rng.u16(..), &mut self.rng)),
            2 | 3 => {
                let at = self.rng.usize(..PEOPLE);
                let user = self.id(at);
                self.node.move_slot(Slot::of_user(user), self.rng.u16(..));
            }
            4 => self.node.tick(self.rng.u64(..12_000)),
            _ => {
                for _ in 0..self.rng.usize(..60) {
                    self.node.step(&mut self.rng);
                }
            }
        }
    }

    fn asks_to_end(&mut self, at: usize) {
        let answer = self.ask(at, Request::DeleteAccount(v1::DeleteAccount::default()));
        let Some(Message::AccountEnds(ends)) = answer else { panic!("seed {}: {answer:?}", self.seed) };
        assert!(ends.at_ms >= self.node.now_ms + DELAY_MS - 60_000);
        self.people[at].state = State::Ends;
        self.is_barred(at);
    }

    fn is_barred(&mut self, at: usize) {
        let answer = self.ask(at, Request::Ping(v1::Ping {}));
        let Some(Message::Refused(refused)) = answer else { panic!("seed {}: {answer:?}", self.seed) };
        assert_eq!(refused.reason(), Reason::AccountEnds, "seed {}", self.seed);
        assert!(refused.retry_after_ms > 0);
    }

    /// Somebody proves the phone, or an operator says so: all is as it was.
    fn keeps(&mut self, at: usize) {
        let (phone, user) = (self.people[at].phone.clone(), self.people[at].who.user);
        if self.rng.bool() {
            let made = self.node.provision(&phone, &mut self.rng);
            assert_eq!(made.user, user, "it is the same account");
        } else {
            let kept = self.node.question(&phone, &mut self.rng, |_| AdminRequest::Keep(user));
            assert!(matches!(kept, AdminResponse::Kept(true)), "{kept:?}");
        }
        self.people[at].state = State::Lives;
        self.lives(at);
    }

    fn lives(&mut self, at: usize) {
        let answer = self.ask(at, Request::Ping(v1::Ping {}));
        assert!(matches!(answer, Some(Message::Pong(_))), "seed {}: {at} is let in: {answer:?}", self.seed);
    }

    /// All that is to be done is done.
    fn settle(&mut self) {
        for _ in 0..60 {
            self.node.tick(self.rng.u64(500..11_000));
            self.node.settle(&mut self.rng);
        }
        let left: Vec<_> = self.store.rows().into_iter().filter(|(key, _)| key[0] == b'b').collect();
        let is_waiting = |at: &usize| self.people[*at].state == State::Ends;
        let waits = (0..PEOPLE).filter(is_waiting).count();
        assert_eq!(left.len(), waits, "seed {}: nobody's end is under way: {left:?}", self.seed);
    }

    fn gone(&self) -> BTreeSet<u64> {
        self.people
            .iter()
            .filter(|person| person.state == State::Gone)
            .map(|person| person.who.user.get())
            .collect()
    }

    /// Of those who are gone, the store has what others have too, and a tombstone.
    fn look_for_the_gone(&self) {
        let gone = self.gone();
        for (key, value) in self.store.rows() {
            let place = format!("seed {}: {}", self.seed, keys::describe(&key));
            for person in self.people.iter().filter(|person| person.state == State::Gone) {
                let digits = &person.phone.as_bytes()[1..];
                let has = |bytes: &[u8]| bytes.windows(digits.len()).any(|part| part == digits);
                assert!(!has(&key) && !has(&value), "{place} has a phone");
            }
            let holds = |user: &u64| key.windows(8).any(|part| part == user.to_be_bytes());
            for user in gone.iter().filter(|user| holds(user)) {
                let of_log = |at: usize| LogId::from_bytes(&key[at..at + 17]);
                let log = match key[0] {
                    b'u' => continue,
                    b'l' | b'e' | b'x' | b'w' | b'f' => of_log(3),
                    b't' => of_log(11),
                    _ => None,
                };
                let is_kept = match log {
                    // The tables of people name the other one, who has the chat.
                    None => {
                        let whose = u64::from_be_bytes(key[3..11].try_into().expect("eight bytes"));
                        whose != *user && !gone.contains(&whose)
                    }
                    Some(LogId::Direct(one, other)) => !gone.contains(&one) || !gone.contains(&other),
                    Some(LogId::Group(_)) => true,
                    Some(LogId::Private(_)) => false,
                };
                assert!(is_kept, "{place} is left of {user}");
                let names = |at: usize| key.get(at..at + 8) == Some(&user.to_be_bytes()[..]);
                let is_own = matches!(key[0], b'x' | b'w')
                    && names(20)
                    && !matches!(log, Some(LogId::Group(_)) if key[0] == b'w');
                assert!(!is_own, "{place} is {user}'s own");
            }
        }
    }

    /// Those who are left have what they had.
    fn others_have_what_they_had(&mut self) {
        for (log, said) in self.said.clone() {
            let LogId::Direct(one, other) = log else { continue };
            let Some(at) = (0..PEOPLE)
                .find(|at| [one, other].contains(&self.id(*at)) && self.people[*at].state == State::Lives)
            else {
                continue;
            };
            let chat = if self.id(at) == one { other } else { one };
            let history = v1::History { chat, from: 0, limit: 500, forwards: true };
            let page = self.ask(at, Request::History(history));
            let Some(Message::HistoryPage(page)) = page else { panic!("seed {}: {page:?}", self.seed) };
            // What was scheduled may have come since.
            assert!(
                page.entries.len() as u64 >= said,
                "seed {}: {} of {said}",
                self.seed,
                page.entries.len()
            );
        }
        let gone = self.gone();
        for group in self.groups.clone() {
            for at in (0..PEOPLE).filter(|at| self.people[*at].state == State::Lives).collect::<Vec<_>>() {
                let about = v1::AboutGroup { chat: group, ..Default::default() };
                if let Some(Message::Group(about)) = self.ask(at, Request::AboutGroup(about)) {
                    let has_left = about.members.iter().all(|member| !gone.contains(&member.user_id));
                    assert!(has_left, "seed {}: whoever is gone has left", self.seed);
                }
            }
        }
    }

    fn live(&mut self) {
        (0..60).for_each(|_| self.talk());
        let ending: Vec<_> = (0..PEOPLE).filter(|_| self.rng.u8(..5) < 3).collect();
        for at in &ending {
            self.asks_to_end(*at);
        }
        (0..self.rng.usize(..10)).for_each(|_| self.trouble());
        self.node.settle(&mut self.rng);
        self.node.tick(DELAY_MS / 2);
        self.settle();
        let kept: Vec<_> = ending.iter().copied().filter(|_| self.rng.u8(..3) == 0).collect();
        for at in &ending {
            self.is_barred(*at);
        }
        for at in kept {
            self.keeps(at);
        }
        self.node.tick(DELAY_MS / 2 + 60_000);
        (0..self.rng.usize(..60)).for_each(|_| self.trouble());
        self.node.settle(&mut self.rng);
        for person in self.people.iter_mut().filter(|person| person.state == State::Ends) {
            person.state = State::Gone;
        }
        self.settle();
        self.look_for_the_gone();
        for at in 0..PEOPLE {
            match self.people[at].state {
                State::Lives => self.lives(at),
                _ => {
                    let answer = self.ask(at, Request::Ping(v1::Ping {}));
                    let is_over = matches!(&answer, Some(Message::Refused(refused)) if refused.reason() == Reason::TokenInvalid || refused.reason() == Reason::SessionRevoked);
                    assert!(is_over, "seed {}: {answer:?}", self.seed);
                }
            }
        }
        self.others_have_what_they_had();
        self.settle();
        self.look_for_the_gone();
    }
}

fn live(seed: u64) {
    World::new(seed).live();
}

#[test]
fn who_is_deleted_leaves_nothing_of_their_own_and_others_keep_what_they_had() {
    node::live_with_seeds("deleting", 60, live);
}

/// The phone is free for somebody else, who is somebody else.
#[test]
fn the_phone_of_one_who_was_deleted_is_a_strangers() {
    let mut world = World::new(7);
    let before = world.people[0].who.user;
    world.asks_to_end(0);
    world.node.tick(DELAY_MS + 1);
    world.people[0].state = State::Gone;
    world.settle();
    let phone = world.people[0].phone.clone();
    let after = world.node.provision(&phone, &mut world.rng);
    assert_ne!(after.user, before);
}

/// Each fault that can be put into the brain is found.
#[cfg(feature = "mutations")]
#[test]
fn each_fault_is_found() {
    node::find_each_fault("shard/tests/deleting.rs", live);
}
