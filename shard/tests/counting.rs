//! What is counted of each day: who is here is counted once a day, whatever moves, fails or starts again; and nothing says who it was.
//!
//! `TERN_SEED=N` repeats one run.

#![allow(clippy::print_stdout, reason = "a failed run is repeated with the seed that it printed")]

#[allow(dead_code, reason = "the node serves other tests as well")]
mod node;

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use node::{Link, Node};
use tern_proto::v1::{self, Reason, client_frame::Request, server_frame::Message};
use tern_shard::admin::AdminResponse;
use tern_shard::counts::{BEFORE, Counts, RETURN_DAYS, of_row};
use tern_shard::limits::{DAY_MS, DAYS_COUNTED, Limits};
use tern_storage::faults::Faults;
use tern_storage::memory::Memory;
use tern_storage::{Slot, StoreError};
use tern_wire::ids::PRIVATE;

/// Twelve o'clock on some day, UTC.
const FIRST_DAY: u32 = 20_000;
const BEGIN_MS: u64 = FIRST_DAY as u64 * DAY_MS + DAY_MS / 2;

fn limits() -> Limits {
    Limits { refresh_token_valid_ms: 365 * DAY_MS, devices_max: 3, account_idle_days: 0, ..Limits::default() }
}

fn counts_of(store: &Memory) -> Counts {
    let mut counts = Counts::default();
    for (key, value) in store.rows().iter().filter(|(key, _)| key[0] == b'n') {
        let (day, _, part) = of_row(key, value).expect("what was written");
        counts.add(day, &part);
    }
    counts
}

/// Parts that are not added up, and days that are.
fn parts_and_days(store: &Memory) -> (usize, usize) {
    let rows = store.rows();
    let parts = rows.iter().filter_map(|(key, _)| tern_storage::keys::day_of_counts(key));
    let (days, parts): (Vec<_>, Vec<_>) = parts.partition(|(_, part)| *part == 0);
    (parts.len(), days.len())
}

/// Time passes until what was counted is added up.
fn add_up(node: &mut Node, rng: &mut Rng) {
    for _ in 0..3 {
        node.tick(limits().counted_every_ms);
        node.settle(rng);
    }
}

fn say(node: &mut Node, link: Link, id: u64, request: Request, rng: &mut Rng) -> Option<Message> {
    node.request(link, id, request);
    node.settle(rng);
    node.receive(link)?.into_iter().find(|frame| frame.id == id)?.message
}

fn connect(node: &mut Node, core: u16, rng: &mut Rng) -> Link {
    let link = node.connect(core);
    let hello = v1::Hello { version_min: 1, version_max: 1, ..v1::Hello::default() };
    say(node, link, 1, Request::Hello(hello), rng);
    link
}

/// A device comes: with another pair of tokens, for the last one may be days old.
fn come(node: &mut Node, core: u16, refresh: &mut String, rng: &mut Rng) -> Option<Link> {
    let link = connect(node, core, rng);
    // A retry of what a crash has left unanswered repeats the nonce.
    let (refresh_token, nonce) = (refresh.clone(), vec![1; 16].into());
    let session = say(node, link, 2, Request::Refresh(v1::Refresh { refresh_token, nonce }), rng);
    let Some(Message::Session(session)) = session else { return None };
    *refresh = session.refresh_token;
    let login = Request::Login(v1::Login { access_token: session.access_token });
    let answer = say(node, link, 3, login, rng);
    assert!(matches!(answer, Some(Message::LoggedIn(_))), "{answer:?}");
    Some(link)
}

#[derive(Default)]
struct Account {
    phone: String,
    refresh: Vec<String>,
    days: BTreeSet<u32>,
    made: u32,
}

struct World {
    rng: Rng,
    store: Memory,
    node: Node,
    here: BTreeMap<usize, Account>,
    gone: Vec<(Account, u32)>,
    made: usize,
    /// Processes start again; otherwise owners are lost, whose slots others take over.
    starts_again: bool,
}

impl World {
    fn today(&self) -> u32 {
        (self.node.now_ms / DAY_MS) as u32
    }

    fn core(&mut self) -> u16 {
        self.rng.u16(..3)
    }

    fn restart(&mut self) {
        self.store = self.store.recover(Faults::default());
        self.node = Node::start(&self.store, 3, &limits(), self.node.now_ms);
    }

    /// A new account, or another device of one.
    fn provision(&mut self, account: Option<usize>) {
        let number = account.unwrap_or(self.made);
        let (phone, today) = (format!("+1555{number:07}"), self.today());
        // A lost owner may be known to be lost by the store alone: then nothing has changed.
        let AdminResponse::Provisioned(made) = self.node.try_provision(&phone, &mut self.rng) else { return };
        let account = self.here.entry(number).or_insert_with(|| {
            self.made += 1;
            Account { phone, made: today, ..Account::default() }
        });
        account.refresh.push(made.refresh_token);
        account.days.insert(today);
    }

    fn somebody(&mut self) -> Option<usize> {
        let place = self.rng.usize(..self.here.len().max(1));
        self.here.keys().nth(place).copied()
    }

    fn do_something(&mut self) {
        match (self.rng.u32(..20), self.somebody()) {
            (0, _) | (_, None) => self.provision(None),
            (1, account) => self.provision(account),
            (2, Some(number)) if self.rng.u32(..6) == 0 => {
                let today = self.today();
                let answer = self.node.delete(&self.here[&number].phone, &mut self.rng);
                if matches!(answer, AdminResponse::Deleted(true)) {
                    let account = self.here.remove(&number).expect("it is there");
                    self.gone.push((account, today));
                }
            }
            (3, _) if self.starts_again => self.restart(),
            (4..=6, Some(number)) => {
                let slot = Slot::of_phone(&self.here[&number].phone[1..]);
                let slot = if self.rng.bool() { Slot::of_day(self.today()) } else { slot };
                let to = self.core();
                self.node.move_slot(slot, to);
            }
            (7, _) if !self.starts_again => {
                let core = self.core();
                self.node.lose_brain(core, &mut self.rng);
            }
            (8..=9, _) => self.node.tick(limits().counted_every_ms),
            (_, Some(number)) => self.comes(number),
        }
    }

    fn comes(&mut self, number: usize) {
        let (core, today) = (self.core(), self.today());
        let account = self.here.get_mut(&number).expect("it is there");
        let device = self.rng.usize(..account.refresh.len());
        let refresh = &mut account.refresh[device];
        // An owner was lost before it answered; or the device had to go for another one.
        let comes = (0..3).find_map(|_| come(&mut self.node, core, refresh, &mut self.rng));
        let Some(link) = comes else { return };
        account.days.insert(today);
        // A connection that stands is here again when another owner hears of it.
        if !self.starts_again || self.rng.bool() {
            self.node.disconnect(link);
        }
    }

    fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.here.values().chain(self.gone.iter().map(|(account, _)| account))
    }

    fn is_counted(&self) {
        let counts = counts_of(&self.store);
        for day in FIRST_DAY..=self.today() {
            for days in [1, 7, 30] {
                let were_here =
                    |account: &&Account| account.days.range(day + 1 - days..=day).next().is_some();
                let expected = self.accounts().filter(were_here).count() as u64;
                assert_eq!(counts.active(day, days), expected, "in {days} days up to {day}");
            }
            let registered = self.accounts().filter(|account| account.made == day).count() as u64;
            let deleted = self.gone.iter().filter(|(_, at)| *at == day).count() as u64;
            let counted = counts.day(day);
            assert_eq!((counted.registered, counted.deleted), (registered, deleted), "on {day}");
            for (place, after) in RETURN_DAYS.into_iter().enumerate() {
                let again = |account: &&Account| account.made == day && account.days.contains(&(day + after));
                let expected = self.accounts().filter(again).count() as u64;
                assert_eq!(counts.returned(day, place), expected, "{after} days after {day}");
            }
        }
        assert_eq!(counts.accounts(), self.here.len() as u64);
    }
}

fn live(seed: u64) {
    let rng = Rng::with_seed(seed);
    let store = Memory::faulty(Faults::default());
    let node = Node::start(&store, 3, &limits(), BEGIN_MS);
    let mut world = World {
        rng,
        store,
        node,
        here: BTreeMap::new(),
        gone: Vec::new(),
        made: 0,
        starts_again: seed.is_multiple_of(2),
    };
    for _ in 0..40 {
        // One does something each day, another one every few days.
        for _ in 0..world.rng.u32(..12) {
            world.do_something();
            world.node.settle(&mut world.rng);
        }
        world.is_counted();
        let hours = world.rng.u64(1..40);
        world.node.now_ms += hours * 3_600_000;
        if world.starts_again {
            world.restart();
        }
    }
    // All days are looked at within an hour.
    world.node.now_ms += 3_600_000;
    add_up(&mut world.node, &mut world.rng);
    let (parts, days) = parts_and_days(&world.store);
    assert!(parts == 0 && days <= 70, "{parts} parts, {days} days");
    world.is_counted();
}

#[test]
fn an_account_counts_once_a_day_whatever_moves_and_starts_again() {
    node::live_with_seeds("counting", 25, live);
}

/// The power goes at every moment of a login: the account counts once then or when it comes back, and its day says which.
#[test]
fn who_was_not_counted_when_the_power_went_is_when_they_come_back_and_nobody_twice() {
    let mut rng = Rng::with_seed(7);
    let mut counted = BTreeSet::new();
    for survivors in 0..4 {
        let store = Memory::new();
        let mut node = Node::start(&store, 2, &limits(), BEGIN_MS);
        let ann = node.provision("+15550001", &mut rng);
        node.now_ms += DAY_MS;
        let (today, mut refresh) = (FIRST_DAY + 1, ann.refresh_token.clone());
        let link = connect(&mut node, 0, &mut rng);
        store.hold();
        let (refresh_token, nonce) = (refresh.clone(), vec![1; 16].into());
        node.request(link, 3, Request::Refresh(v1::Refresh { refresh_token, nonce }));
        node.settle_without_store(&mut rng);
        let store = store.crash(survivors);
        counted.insert(counts_of(&store).active(today, 1));
        let mut node = Node::start(&store, 2, &limits(), node.now_ms);
        for _ in 0..2 {
            come(&mut node, 0, &mut refresh, &mut rng).expect("it is let in");
            assert_eq!(counts_of(&store).active(today, 1), 1, "{survivors} batches were there");
        }
        assert_eq!(counts_of(&store).returned(FIRST_DAY, 0), 1);
    }
    assert_eq!(counted, BTreeSet::from([0, 1]), "it went before, and after");
}

/// A store that is full takes neither the day nor what is counted of it; both come later, once.
#[test]
fn who_the_store_did_not_take_counts_later_and_once() {
    let mut rng = Rng::with_seed(8);
    let store = Memory::new();
    let mut node = Node::start(&store, 2, &limits(), BEGIN_MS);
    let ann = node.provision("+15550001", &mut rng);
    let mut refresh = ann.refresh_token;
    node.now_ms += 7 * DAY_MS;
    let link = come(&mut node, 0, &mut refresh, &mut rng).expect("it is let in");
    node.disconnect(link);
    node.now_ms += DAY_MS;
    store.fail_next(StoreError::Full);
    let before = counts_of(&store);
    // The pair of tokens is not given, or the day is not noted: whichever the store did not take.
    let first = come(&mut node, 1, &mut refresh, &mut rng);
    assert!(first.is_none() && counts_of(&store) == before);
    for _ in 0..2 {
        come(&mut node, 0, &mut refresh, &mut rng).expect("it is let in");
    }
    let counts = counts_of(&store);
    assert_eq!((counts.active(FIRST_DAY + 8, 1), counts.active(FIRST_DAY + 8, 30)), (1, 1));
    assert_eq!((counts.returned(FIRST_DAY, 1), counts.returned(FIRST_DAY, 0)), (1, 0));
}

/// What was counted of days that are kept no longer goes into one row, and the sums stay.
#[test]
fn days_are_kept_so_long_and_their_sums_for_ever() {
    let mut rng = Rng::with_seed(9);
    let store = Memory::new();
    let mut node = Node::start(&store, 2, &limits(), BEGIN_MS);
    node.provision("+15550001", &mut rng);
    node.provision("+15550002", &mut rng);
    node.delete("+15550002", &mut rng);
    add_up(&mut node, &mut rng);
    assert_eq!(counts_of(&store).days().collect::<Vec<_>>(), [FIRST_DAY]);
    node.now_ms += u64::from(DAYS_COUNTED) * DAY_MS;
    add_up(&mut node, &mut rng);
    assert_eq!(counts_of(&store).days().collect::<Vec<_>>(), [FIRST_DAY], "it is kept for so long");
    node.now_ms += DAY_MS;
    node.provision("+15550003", &mut rng);
    for _ in 0..3 {
        node.now_ms += 3_600_000;
        add_up(&mut node, &mut rng);
    }
    let counts = counts_of(&store);
    assert_eq!(counts.days().collect::<Vec<_>>(), [FIRST_DAY + DAYS_COUNTED + 1]);
    let before = counts.day(BEFORE);
    assert_eq!((before.registered, before.deleted, before.active.len()), (2, 1, 0));
    assert_eq!((counts.accounts(), counts.total().registered), (2, 3));
    assert_eq!(parts_and_days(&store), (0, 2), "each is one row");
}

fn send(node: &mut Node, link: Link, chat: u64, client_id: u64, rng: &mut Rng) {
    let kind = v1::Kind::Text.into();
    let send = v1::Send { chat, client_id, body: "hello".into(), kind, ..Default::default() };
    let answer = say(node, link, 50 + client_id, Request::Send(send), rng);
    assert!(matches!(answer, Some(Message::Sent(_))), "{answer:?}");
}

/// Messages count when they are acknowledged, once however often they are sent, and what is told to one's own devices does not.
#[test]
fn messages_count_once_and_a_crash_loses_those_that_were_not_written() {
    let mut rng = Rng::with_seed(10);
    let store = Memory::new();
    let mut node = Node::start(&store, 3, &limits(), BEGIN_MS);
    let [ann, bob] = ["+15550001", "+15550002"].map(|phone| node.provision(phone, &mut rng));
    let link = node.log_in(0, &ann.access_token);
    for client_id in [1, 2, 3, 2, 3] {
        send(&mut node, link, bob.user.get(), client_id, &mut rng);
    }
    let made = v1::GroupMade { name: "us".into(), ..Default::default() };
    let create = Request::CreateGroup(v1::CreateGroup { client_id: 4, group: Some(made) });
    let Some(Message::GroupCreated(group)) = say(&mut node, link, 20, create, &mut rng) else {
        panic!("a group is made")
    };
    send(&mut node, link, group.chat, 5, &mut rng);
    let kind = v1::Kind::Private.into();
    let body = prost::Message::encode_to_vec(&v1::Private::default()).into();
    let note = v1::Send { chat: PRIVATE, client_id: 6, body, kind, ..Default::default() };
    let refused = say(&mut node, link, 21, Request::Send(note), &mut rng);
    assert!(
        matches!(refused, Some(Message::Refused(refused)) if refused.reason() == Reason::InvalidArgument)
    );
    let counted = |store: &Memory| {
        let day = counts_of(store).day(FIRST_DAY);
        (day.direct, day.group, day.groups)
    };
    assert_eq!(counted(&store), (0, 0, 0), "nothing is written for one message");
    add_up(&mut node, &mut rng);
    assert_eq!(counted(&store), (3, 1, 1));
    send(&mut node, link, group.chat, 7, &mut rng);
    let mut node = Node::start(&store, 3, &limits(), node.now_ms);
    add_up(&mut node, &mut rng);
    assert_eq!(counted(&store), (3, 1, 1), "what a crash loses is bounded, and nothing counts twice");
}

/// What is counted is written by a slot of the core's, though nothing follows it: the slot stays until that is in the store. Otherwise its
/// next owner would be written beside, and a core that is gone would still write.
#[test]
fn a_slot_is_not_let_go_while_what_was_counted_by_it_is_being_written() {
    let mut rng = Rng::with_seed(12);
    let store = Memory::held();
    let mut node = Node::start(&store, 2, &limits(), BEGIN_MS);
    let [ann, bob] = ["+15550001", "+15550002"].map(|phone| node.provision(phone, &mut rng));
    let link = node.log_in(0, &ann.access_token);
    add_up(&mut node, &mut rng);
    send(&mut node, link, bob.user.get(), 1, &mut rng);
    let slot = Slot::of_log(tern_storage::LogId::direct(ann.user.get(), bob.user.get()));
    let other = 1 - node.owner(slot);
    node.tick(limits().counted_every_ms);
    assert!(node.move_slot(slot, other));
    node.settle_without_store(&mut rng);
    assert!(!node.has_moved(), "it waits for what was counted");
    node.settle(&mut rng);
    assert!(node.has_moved());
}

/// The rows hold numbers alone: no id, no phone, no hash of either, and a number that is drawn.
#[test]
fn nothing_that_is_counted_says_who() {
    let mut rng = Rng::with_seed(11);
    let store = Memory::new();
    let mut node = Node::start(&store, 2, &limits(), BEGIN_MS);
    let made = ["+15550001", "+15550002", "+15550003"].map(|phone| node.provision(phone, &mut rng));
    let rows: Vec<_> = store.rows().into_iter().filter(|(key, _)| key[0] == b'n').collect();
    assert_eq!(rows.len(), 3);
    let values: BTreeSet<_> = rows.iter().map(|(_, value)| value.clone()).collect();
    assert_eq!(values.len(), 1, "one account is counted as any other");
    for (key, value) in &rows {
        let (all, slot) = ([&key[..], &value[..]].concat(), &key[1..3]);
        assert_eq!(slot, Slot::of_day(FIRST_DAY).number().to_be_bytes(), "where it lies says nothing");
        for user in &made {
            let id = user.user.get().to_be_bytes();
            assert!(!all.windows(5).any(|bytes| bytes == &id[3..]));
        }
    }
}

/// Each fault that can be put into the brain is found.
#[cfg(feature = "mutations")]
#[test]
fn each_fault_is_found() {
    node::find_each_fault("shard/tests/counting.rs", live);
}
