//! Who is not connected is told that something has come, once; what is read on one device is taken back on the others; and the number of
//! what is unread is right at the end, whatever crashes, moves, or is not sent in between.

#![allow(clippy::print_stdout, reason = "it says how a fault was found")]

#[allow(dead_code, reason = "the node serves other tests as well")]
mod node;

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use node::{Link, Node};
use prost::Message as _;
use tern_proto::v1::{
    self, Kind, Notify, PushService, client_frame::Request, private::What, server_frame::Message,
    set_push::Address,
};
use tern_shard::admin::Provisioned;
use tern_shard::effects::{Push, PushFate, PushKind, Pushing};
use tern_shard::entry::Author;
use tern_shard::limits::Limits;
use tern_storage::Slot;
use tern_storage::memory::Memory;

const PRIVATE: u64 = 1 << 43;
const WAIT_MS: u64 = 2_000;
const ROUND_MS: u64 = 3_000;
const RINGS_MS: u64 = 20_000;
/// Some ticks more than a round, a wait and what is tried again.
const QUIET_MS: u64 = 4 * (WAIT_MS + ROUND_MS + 10_000);
const PHONES: [&str; 3] = ["+15550001", "+15550002", "+15550003"];

/// A device, and what its user sees on it while it sleeps.
struct Device {
    who: Provisioned,
    link: Option<Link>,
    requests: u64,
    /// It acknowledges nothing.
    is_slow: bool,
    previews: bool,
    /// How often it has said where it is told: the last of these addresses stands.
    addresses: u64,
    /// That address is no more, and the server was told so.
    is_dead: bool,
    badge: u32,
    /// Chats of which it shows something.
    shows: BTreeSet<u64>,
    /// Messages that it was told of, by their chats, since it went; and how many there had been before.
    told: BTreeMap<u64, u64>,
    made: BTreeMap<u64, u64>,
    /// Calls that rang at it, by their chats, since it went.
    rung: BTreeMap<u64, u64>,
    sent_before: BTreeMap<(u64, u64), u64>,
    /// What has come to it by chat: the newest entry.
    newest: BTreeMap<u64, u64>,
}

struct World {
    rng: Rng,
    store: Memory,
    node: Node,
    limits: Limits,
    cores: u16,
    /// Two of each person, one after the other; of the last one it may be one.
    devices: Vec<Device>,
    group: u64,
    client_ids: u64,
    /// What the services have, and have not answered for.
    out: Vec<(u16, Push)>,
    /// Chats that make no sound, by whose they are.
    muted: BTreeSet<(u64, u64)>,
    /// Those that were muted, or not any more, since all were looked at.
    was_muted: BTreeSet<(u64, u64)>,
    /// Messages of others, by whose and in which chat, that were sent.
    sent: BTreeMap<(u64, u64), u64>,
    /// Who was called, and by whom: when that was last.
    called: BTreeMap<(u64, u64), u64>,
    /// How often that was.
    calls: BTreeMap<(u64, u64), u64>,
    /// Nothing was told twice for what a crash, a move or a service did.
    is_calm: bool,
    /// The process ends now and then, and another one begins; otherwise cores end, and others take their slots.
    starts_again: bool,
}

fn limits() -> Limits {
    Limits {
        logs_cached_max: 0,
        users_cached_max: 0,
        mark_quiet_ms: 500,
        lazy_ms: 5,
        sends_per_minute_max: 0,
        strangers_per_hour_max: 0,
        same_text_per_hour_max: 0,
        lookups_per_minute_max: 0,
        push_wait_ms: WAIT_MS,
        push_round_ms: ROUND_MS,
        call_rings_ms: RINGS_MS,
        access_token_valid_ms: 86_400_000,
        idle_timeout_ms: 86_400_000,
        ..Limits::default()
    }
}

fn start(store: &Memory, cores: u16, limits: &Limits, now_ms: u64) -> Node {
    let mut node = Node::start(store, cores, limits, now_ms);
    node.push_by(Pushing { services: vec![PushService::Webhook], ..Pushing::default() });
    node
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let (store, mut limits, cores) = (Memory::new(), limits(), rng.u16(1..4));
        if rng.u8(..3) == 0 {
            // The others wait for their turn.
            limits.push_waiting_max = 2;
        }
        let mut node = start(&store, cores, &limits, 1_000_000);
        let mut devices = Vec::new();
        let last_has = rng.usize(1..=2);
        for (phone, has) in PHONES.into_iter().zip([2, 2, last_has]) {
            for _ in 0..has {
                let who = node.provision(phone, &mut rng);
                let (shows, told, newest) = Default::default();
                devices.push(Device {
                    who,
                    link: None,
                    requests: 10,
                    is_slow: false,
                    previews: false,
                    addresses: 0,
                    is_dead: false,
                    badge: 0,
                    shows,
                    told,
                    made: BTreeMap::new(),
                    rung: BTreeMap::new(),
                    sent_before: BTreeMap::new(),
                    newest,
                });
            }
        }
        let (out, muted, sent) = Default::default();
        let (is_calm, starts_again) = (rng.u8(..3) == 0, rng.bool());
        let mut world = Self {
            rng,
            store,
            node,
            limits,
            cores,
            devices,
            group: 0,
            client_ids: 1,
            out,
            muted,
            was_muted: BTreeSet::new(),
            sent,
            called: BTreeMap::new(),
            calls: BTreeMap::new(),
            is_calm,
            starts_again,
        };
        (0..world.devices.len()).for_each(|at| world.connect(at));
        let members = (1..3).map(|person| world.user(2 * person)).collect();
        let made = v1::GroupMade { name: "three".into(), members, ..Default::default() };
        let create = v1::CreateGroup { client_id: 1, group: Some(made) };
        let Message::GroupCreated(created) = world.ask_for(0, Request::CreateGroup(create)) else {
            panic!("it is made");
        };
        world.group = created.chat;
        (0..world.devices.len()).for_each(|at| world.set_push(at));
        world.pass(QUIET_MS);
        world
    }

    fn user(&self, at: usize) -> u64 {
        self.devices[at].who.user.get()
    }

    /// The chats of somebody.
    fn chats(&self, at: usize) -> Vec<u64> {
        let others = [0, 2, 4].into_iter().filter(|other| other / 2 != at / 2);
        others.map(|other| self.user(other)).chain([self.group]).collect()
    }

    fn connect(&mut self, at: usize) {
        let core = self.rng.u16(..self.cores);
        let link = self.node.log_in(core, &self.devices[at].who.access_token);
        // Until it is known to be here, it may be told something.
        self.node.settle(&mut self.rng);
        self.look_at_pushes();
        self.devices[at].link = Some(link);
        // What waits at a service comes while it is here; or when it has gone again.
        let comes = self.is_calm;
        let (here, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.out)
            .into_iter()
            .partition(|(_, push)| comes && self.place(push.device) == at);
        self.out = others;
        for (core, push) in here {
            self.delivered(core, &push);
        }
        self.devices[at].is_slow = self.rng.u8(..5) == 0;
        self.settle();
        self.ask(at, Request::Resume(v1::Resume::default()));
        self.settle();
    }

    /// It goes, and shows how much its list of chats says.
    fn disconnect(&mut self, at: usize) {
        // What it has got, it has acknowledged.
        self.pass(1_000);
        if !self.is_connected(at) {
            return;
        }
        let (badge, _) = self.unread(at);
        let device = &mut self.devices[at];
        (device.badge, device.shows, device.told) = (badge, BTreeSet::new(), BTreeMap::new());
        device.made.clear();
        device.rung.clear();
        device.sent_before.clone_from(&self.sent);
        self.node.disconnect(device.link.take().expect("it is connected"));
        self.settle();
    }

    fn ask(&mut self, at: usize, request: Request) -> u64 {
        let device = &mut self.devices[at];
        device.requests += 1;
        self.node.request(device.link.expect("it is connected"), device.requests, request);
        device.requests
    }

    /// Asks, and waits for the answer; once more where the connection ends first.
    fn ask_for(&mut self, at: usize, request: Request) -> Message {
        let mut id = self.ask(at, request.clone());
        loop {
            self.node.settle(&mut self.rng);
            let mut answer = None;
            let frames = self.devices[at].link.and_then(|link| self.node.receive(link));
            let Some(frames) = frames else {
                self.connect(at);
                id = self.ask(at, request.clone());
                continue;
            };
            for frame in frames {
                if frame.id == id { answer = frame.message } else { self.take(at, frame) }
            }
            match answer {
                Some(answer) => return answer,
                // What is not answered for is asked again, or the connection ends.
                None => self.node.tick(100),
            }
        }
    }

    /// The same, again and again where it can't be done for now.
    fn ask_until_done(&mut self, at: usize, request: &Request) -> Message {
        loop {
            match self.ask_for(at, request.clone()) {
                Message::Refused(refused) if refused.retry_after_ms > 0 => self.node.tick(100),
                answer => return answer,
            }
        }
    }

    /// How much is unread, as somebody's list of chats says: in all, and in each.
    fn unread(&mut self, at: usize) -> (u32, BTreeMap<u64, u64>) {
        let Message::ChatsPage(page) = self.ask_for(at, Request::Chats(v1::Chats::default())) else {
            panic!("there is one");
        };
        let unread: BTreeMap<_, _> =
            page.chats.iter().filter(|chat| chat.id != PRIVATE).map(|chat| (chat.id, chat.unread)).collect();
        (unread.values().sum::<u64>() as u32, unread)
    }

    /// A device says where it is told, and how.
    fn set_push(&mut self, at: usize) {
        let device = &mut self.devices[at];
        device.addresses += 1;
        (device.previews, device.is_dead) = (self.rng.bool(), false);
        let address = Address::Webhook(v1::WebhookAddress { address: format!("{at}-{}", device.addresses) });
        let settings = Some(v1::PushSettings { previews: device.previews, quiet: None });
        let set = Request::SetPush(v1::SetPush { address: Some(address), settings });
        let answer = self.ask_until_done(at, &set);
        assert_eq!(answer, Message::PushSet(v1::PushSet {}));
        let Message::PushPlaces(places) = self.ask_for(at, Request::AboutPush(v1::AboutPush {})) else {
            panic!("there are some");
        };
        let previews = places.settings.as_ref().is_some_and(|settings| settings.previews);
        assert_eq!((places.service(), previews), (PushService::Webhook, self.devices[at].previews));
    }

    /// The same; of its address of before it may be said now that it is no more.
    fn set_another(&mut self, at: usize) {
        self.set_push(at);
        self.answer();
    }

    fn is_connected(&self, at: usize) -> bool {
        self.devices[at].link.is_some()
    }

    fn some_connected(&mut self) -> Option<usize> {
        let connected: Vec<_> = (0..self.devices.len()).filter(|at| self.is_connected(*at)).collect();
        self.rng.choice(connected)
    }

    fn send(&mut self) {
        let Some(at) = self.some_connected() else { return };
        let chats = self.chats(at);
        let chat = *self.rng.choice(&chats).expect("there are some");
        self.send_to(at, chat);
    }

    fn send_to(&mut self, at: usize, chat: u64) {
        let is_call = chat != self.group && self.rng.u8(..5) == 0;
        self.say_to(at, chat, is_call);
    }

    /// Calls somebody, or says something.
    fn say_to(&mut self, at: usize, chat: u64, is_call: bool) {
        self.client_ids += 1;
        let by = self.user(at);
        let mentions = if chat == self.group && self.rng.bool() {
            vec![self.user(2 * ((at / 2 + 1) % 3))]
        } else {
            vec![]
        };
        let (kind, body) = match is_call {
            true => (Kind::Call, Vec::new()),
            false => (Kind::Text, format!("from {by}").into()),
        };
        if is_call {
            self.called.insert((chat, by), self.node.now_ms);
            *self.calls.entry((chat, by)).or_default() += 1;
        }
        let (client_id, kind, body) = (self.client_ids, kind.into(), body.into());
        let send = v1::Send { chat, client_id, kind, body, mentions, ..v1::Send::default() };
        self.ask(at, Request::Send(send));
        for other in [0, 2, 4].into_iter().filter(|other| other / 2 != at / 2) {
            let user = self.user(other);
            if chat == self.group {
                *self.sent.entry((user, chat)).or_default() += 1;
            } else if chat == user {
                *self.sent.entry((user, by)).or_default() += 1;
            }
        }
    }

    /// Somebody reads all of a chat on a device.
    fn read(&mut self) {
        let Some(at) = self.some_connected() else { return };
        let newest: Vec<_> = self.devices[at].newest.iter().map(|(chat, seq)| (*chat, *seq)).collect();
        let Some((chat, seq)) = self.rng.choice(newest) else { return };
        self.ask(at, Request::Acknowledge(v1::Acknowledge { chat, delivered_upto: seq, read_upto: seq }));
    }

    /// Somebody has a chat make no sound, or a sound.
    fn mute(&mut self) {
        let Some(at) = self.some_connected() else { return };
        let chats = self.chats(at);
        let chat = *self.rng.choice(&chats).expect("there are some");
        let whose = (self.user(at), chat);
        let mutes = !self.muted.remove(&whose);
        self.settle();
        let notify = if mutes { Notify::None } else { Notify::All };
        let settings = v1::ChatSettings { chat, notify: notify.into(), ..v1::ChatSettings::default() };
        self.client_ids += 1;
        let body = v1::Private { what: Some(What::Chat(settings)) }.encode_to_vec().into();
        let (client_id, kind) = (self.client_ids, Kind::Private.into());
        let send = v1::Send { chat: PRIVATE, client_id, body, kind, ..v1::Send::default() };
        assert!(matches!(self.ask_until_done(at, &Request::Send(send)), Message::Sent(_)));
        if mutes {
            self.muted.insert(whose);
        }
        self.was_muted.insert(whose);
        self.settle();
    }

    fn settle(&mut self) {
        self.node.settle(&mut self.rng);
        self.receive();
        self.node.settle(&mut self.rng);
        self.look_at_pushes();
    }

    fn receive(&mut self) {
        for at in 0..self.devices.len() {
            let Some(link) = self.devices[at].link else { continue };
            match self.node.receive(link) {
                Some(frames) => frames.into_iter().for_each(|frame| self.take(at, frame)),
                // Its core is gone, or its user's.
                None => self.devices[at].link = None,
            }
        }
    }

    /// A device acknowledges what it is pushed, unless it is slow.
    fn take(&mut self, at: usize, frame: v1::ServerFrame) {
        if let Some(Message::Entry(v1::Entry { chat, seq, .. })) = frame.message
            && chat != PRIVATE
        {
            let device = &mut self.devices[at];
            let newest = device.newest.entry(chat).or_default();
            *newest = seq.max(*newest);
            if !device.is_slow {
                let upto = *newest;
                let ack = v1::Acknowledge { chat, delivered_upto: upto, read_upto: 0 };
                self.ask(at, Request::Acknowledge(ack));
            }
        }
    }

    fn place(&self, author: Author) -> usize {
        let is_it = |device: &Device| (device.who.user, device.who.device) == (author.user, author.device);
        self.devices.iter().position(is_it).expect("it is one of these")
    }

    /// What was handed to the services is for somebody who sleeps, or does not answer.
    fn look_at_pushes(&mut self) {
        for (core, push) in self.node.pushes() {
            let at = self.place(push.device);
            let device = &self.devices[at];
            // Where cores end, what it has acknowledged may be lost.
            let may_lack = device.is_slow || !self.is_calm && !self.starts_again;
            assert!(device.link.is_none() || may_lack, "{push:?}: it is connected, and has all");
            assert!(push.preview.is_none() || device.previews, "{push:?}: nobody has asked for that");
            if let Some((title, words)) = &push.preview {
                let is_right = words.starts_with("from ") || push.kind == PushKind::Call && words.is_empty();
                assert!(["somebody", "three"].contains(&&**title) && is_right, "{title}, {words}");
            }
            if push.kind == PushKind::Call {
                let called_ms = self.called.get(&(push.device.user.get(), push.chat)).copied();
                // How long it took to be taken is little.
                let until_ms = called_ms.expect("somebody called") + RINGS_MS + 1_000;
                assert!(self.node.now_ms <= until_ms, "{push:?} rings too late");
                assert!(push.expires_s * 1000 <= until_ms, "{push:?} may ring too late");
                *self.devices[at].rung.entry(push.chat).or_default() += 1;
            } else if push.kind.is_shown() {
                *self.devices[at].made.entry(push.chat).or_default() += 1;
            }
            self.out.push((core, push));
        }
    }

    /// The services answer for some of what they have.
    fn answer(&mut self) {
        // What goes to one device comes in order.
        let mut behind = BTreeSet::new();
        for (core, push) in std::mem::take(&mut self.out) {
            match self.rng.u8(..12) {
                _ if behind.contains(&push.device) => self.out.push((core, push)),
                0..4 => {
                    behind.insert(push.device);
                    self.out.push((core, push));
                }
                4 if !self.is_calm => self.node.push_ends(core, &push, PushFate::Unsent),
                5..9 if !self.is_calm && self.is_of_before(&push) => self.address_dies(core, &push),
                5 if !self.is_calm => self.address_dies(core, &push),
                _ => self.delivered(core, &push),
            }
        }
    }

    /// Whether it goes to an address in whose place the device has said another one.
    fn is_of_before(&self, push: &Push) -> bool {
        let at = self.place(push.device);
        push.to.token != format!("{at}-{}", self.devices[at].addresses)
    }

    fn address_dies(&mut self, core: u16, push: &Push) {
        let at = self.place(push.device);
        let is_of_before = self.is_of_before(push);
        let device = &mut self.devices[at];
        // It may have said another one since.
        device.is_dead |= !is_of_before;
        self.node.push_ends(core, push, PushFate::Dead);
    }

    /// A device shows what it is told.
    fn delivered(&mut self, core: u16, push: &Push) {
        let at = self.place(push.device);
        let is_of_before = self.is_of_before(push);
        let device = &mut self.devices[at];
        // What goes to an address of before is shown by nobody.
        if device.link.is_none() && !is_of_before {
            device.badge = push.badge;
            match push.kind {
                PushKind::Message | PushKind::Mention | PushKind::Call => {
                    device.shows.insert(push.chat);
                    *device.told.entry(push.chat).or_default() += 1;
                }
                PushKind::Cleared => drop(device.shows.remove(&push.chat)),
                PushKind::Badge => {}
            }
        }
        self.node.push_ends(core, push, PushFate::Over);
    }

    /// So much time passes, and whoever is to acknowledge has done so before.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(500) {
            self.settle();
            self.node.tick(500);
            self.settle();
            self.answer();
        }
        self.settle();
    }

    /// The process ends, and another one begins. What was to be told and is not answered for is told again.
    fn restart(&mut self) {
        self.is_calm = false;
        let is_clean = self.rng.bool();
        let mut owed = BTreeSet::new();
        if is_clean {
            // What is written lazily is written.
            for _ in 0..20 {
                self.settle();
                self.node.tick(100);
            }
            self.settle();
            let asleep = self.out.iter().filter(|(_, push)| !self.is_connected(self.place(push.device)));
            owed = asleep.map(|(_, push)| (push.device, push.chat)).collect();
        }
        self.out.clear();
        let now_ms = self.node.now_ms;
        self.node = start(&self.store, self.cores, &self.limits, now_ms);
        let connected: Vec<_> = (0..self.devices.len()).filter(|at| self.is_connected(*at)).collect();
        self.devices.iter_mut().for_each(|device| device.link = None);
        for at in connected {
            self.connect(at);
        }
        for (device, chat) in owed {
            let at = self.place(device);
            if self.devices[at].is_dead {
                continue;
            }
            let mut rounds = 0;
            while !self.out.iter().any(|(_, push)| push.device == device && push.chat == chat) {
                rounds += 1;
                assert!(rounds < 40, "{device:?} is told nothing of {chat} after a crash");
                self.settle();
                self.node.tick(500);
                self.settle();
            }
        }
    }

    /// A core ends as another process would, with all that it had to tell.
    fn lose_brain(&mut self) {
        self.look_at_pushes();
        let lost = self.rng.u16(..self.cores);
        if !self.node.lose_brain(lost, &mut self.rng) {
            return;
        }
        // What it had handed out for users who had moved to other cores since is told by these.
        for (_, push) in self.out.extract_if(.., |(core, _)| *core == lost) {
            self.node.push_ends((lost + 1) % self.cores, &push, PushFate::Unsent);
        }
        // Until those who are connected have said so to the next owner of their user, they may be told something.
        self.node.settle(&mut self.rng);
        self.out.extend(self.node.pushes());
        let gone = |device: &Device| device.link.is_some_and(|link| !self.node.stands(link));
        let gone: Vec<_> = (0..self.devices.len()).filter(|at| gone(&self.devices[*at])).collect();
        for at in gone {
            self.devices[at].link = None;
            self.connect(at);
        }
    }

    fn live(&mut self) {
        for _ in 0..120 {
            match self.rng.u8(..40) {
                0..12 => self.send(),
                12..17 => self.read(),
                17..23 => {
                    let at = self.rng.usize(..self.devices.len());
                    if self.is_connected(at) {
                        self.disconnect(at);
                    } else {
                        self.connect(at);
                        if self.rng.bool() {
                            self.set_another(at);
                        }
                    }
                }
                23..26 => self.pass(1_000),
                26 => self.pass(WAIT_MS + 1_000),
                27..29 => self.mute(),
                29 => {
                    if let Some(at) = self.some_connected() {
                        self.set_another(at);
                    }
                }
                30..32 if !self.is_calm => {
                    let user = self.rng.usize(..self.devices.len());
                    let slot = Slot::of_user(self.user(user));
                    self.node.move_slot(slot, self.rng.u16(..));
                }
                32 if !self.is_calm && self.starts_again => self.restart(),
                33 if !self.is_calm => {
                    let is_full = self.rng.bool();
                    self.node.fill_pushes(is_full);
                }
                34 if !self.is_calm && !self.starts_again => self.lose_brain(),
                34..37 => self.answer(),
                _ => self.settle(),
            }
            for _ in 0..self.rng.usize(..30) {
                self.node.step(&mut self.rng);
            }
            self.receive();
            self.look_at_pushes();
        }
        self.end();
    }

    /// Who sleeps at the end knows how much is unread, and of each chat that something has come.
    fn end(&mut self) {
        self.node.fill_pushes(false);
        self.pass(QUIET_MS);
        if self.is_calm {
            self.nobody_was_told_twice();
            let sleepers = (0..self.devices.len()).filter(|at| !self.is_connected(*at)).collect::<Vec<_>>();
            sleepers.into_iter().for_each(|at| self.knows_all(at));
        }
        // A crash may have come between a message and the row that says who is to be told of it: there is another one now.
        for at in 0..self.devices.len() {
            if !self.is_connected(at) {
                self.connect(at);
            }
            if self.devices[at].is_dead {
                self.set_push(at);
            }
            // From now on it acknowledges what it has.
            self.devices[at].is_slow = false;
            for (chat, upto) in self.devices[at].newest.clone() {
                let ack = v1::Acknowledge { chat, delivered_upto: upto, read_upto: 0 };
                self.ask(at, Request::Acknowledge(ack));
            }
        }
        self.pass(QUIET_MS);
        let asleep: Vec<_> = (0..self.devices.len()).filter(|at| at % 2 == 1).collect();
        for at in &asleep {
            self.disconnect(*at);
        }
        self.was_muted.clear();
        let was_calm = std::mem::replace(&mut self.is_calm, true);
        for at in [0, 2, 4] {
            for chat in self.chats(at) {
                self.send_to(at, chat);
                self.settle();
            }
        }
        self.pass(QUIET_MS);
        asleep.iter().for_each(|at| self.knows_all(*at));
        // Half of it is read elsewhere.
        for at in [0, 2, 4] {
            let newest = self.devices[at].newest.clone();
            for (chat, seq) in newest.into_iter().skip(1) {
                let ack = v1::Acknowledge { chat, delivered_upto: seq, read_upto: seq };
                self.ask(at, Request::Acknowledge(ack));
            }
        }
        self.pass(QUIET_MS);
        asleep.iter().for_each(|at| self.knows_all(*at));
        self.who_has_one_device_knows_all();
        self.is_calm = was_calm;
        self.nothing_stays_to_be_told();
    }

    /// What somebody has read on the device that sleeps now is not unread on it.
    fn who_has_one_device_knows_all(&mut self) {
        let last = self.devices.len() - 1;
        if last % 2 == 1 {
            return;
        }
        self.disconnect(last);
        for chat in [self.user(last), self.group] {
            self.send_to(0, chat);
            self.settle();
        }
        self.pass(QUIET_MS);
        self.knows_all(last);
    }

    /// A device that sleeps shows what its list of chats would say.
    fn knows_all(&mut self, at: usize) {
        let Some(other) = [at ^ 1, at].into_iter().find(|other| self.devices.get(*other).is_some()) else {
            return;
        };
        let (user, badge) = (self.user(at), self.devices[at].badge);
        if other == at {
            self.connect(at);
        }
        let was_connected = self.is_connected(other);
        if !was_connected {
            self.connect(other);
        }
        let (all, unread) = self.unread(other);
        let device = &self.devices[at];
        assert_eq!(badge, all, "{at} shows another number than its list of chats: {unread:?}");
        for (chat, unread) in unread {
            let is_loud = !self.muted.contains(&(user, chat));
            let (shows, told) = (device.shows.contains(&chat), device.told.contains_key(&chat));
            // What makes a sound now may not have made one then.
            let may_differ = self.was_muted.contains(&(user, chat));
            let may_ring = self.called.contains_key(&(user, chat));
            let newest = self.sent.get(&(user, chat)) > device.sent_before.get(&(user, chat));
            let is_due = unread > 0 && is_loud && newest && !may_differ;
            assert!(told || !is_due, "{at} was not told of {chat}");
            assert!(
                !told || is_loud || may_differ || may_ring,
                "{at} was told of {chat}, which is to make no sound"
            );
            assert!(!shows || unread > 0, "{at} shows {chat}, which is read");
        }
    }

    /// Where nothing has failed, of each message one notice has come at most.
    fn nobody_was_told_twice(&mut self) {
        for at in (0..self.devices.len()).filter(|at| !self.is_connected(*at)) {
            let user = self.user(at);
            for (chat, rung) in &self.devices[at].rung {
                let calls = self.calls.get(&(user, *chat)).copied().unwrap_or_default();
                assert!(*rung <= calls, "{rung} of {calls} calls rang at {at}");
            }
            for (chat, told) in &self.devices[at].made {
                let all = self.sent.get(&(user, *chat)).copied().unwrap_or_default();
                let before = self.devices[at].sent_before.get(&(user, *chat)).copied().unwrap_or_default();
                // One that has acknowledged nothing may be told of what came while it was here.
                let sent = if self.devices[at].is_slow { all } else { all - before };
                assert!(*told <= sent, "{at} was told {told} times of {sent} messages");
            }
        }
    }

    fn nothing_stays_to_be_told(&self) {
        let rows = self.store.rows();
        let stay = rows.iter().filter(|(key, _)| key[0] == b'z').count();
        assert_eq!(stay, 0, "all are told");
    }
}

/// Two people who know each other: the first is here with a device, the other with one, and sleeps on another one.
struct Two {
    world: World,
    caller: usize,
    awake: usize,
    asleep: usize,
}

impl Two {
    fn new() -> Self {
        let mut world = World::new(1);
        world.is_calm = true;
        world.answer();
        let (caller, awake, asleep) = (0, 2, 3);
        for at in 0..world.devices.len() {
            world.devices[at].is_slow = false;
        }
        let (one, other) = (world.user(caller), world.user(awake));
        world.say_to(caller, other, false);
        world.settle();
        world.say_to(awake, one, false);
        world.pass(QUIET_MS);
        let mut two = Self { world, caller, awake, asleep };
        two.reads();
        two.world.disconnect(asleep);
        two.world.pass(QUIET_MS);
        two.told();
        two
    }

    fn says(&mut self, is_call: bool) {
        let chat = self.world.user(self.awake);
        self.world.say_to(self.caller, chat, is_call);
        self.world.settle();
        // What comes within a second is one notice.
        self.world.node.tick(1_000);
        self.world.settle();
    }

    /// All of the chat is read on the device that is awake.
    fn reads(&mut self) {
        let chat = self.world.user(self.caller);
        let upto = self.newest();
        let ack = v1::Acknowledge { chat, delivered_upto: upto, read_upto: upto };
        self.world.ask(self.awake, Request::Acknowledge(ack));
        self.world.settle();
        self.world.node.tick(1_000);
        self.world.settle();
    }

    fn newest(&self) -> u64 {
        self.world.devices[self.awake].newest[&self.world.user(self.caller)]
    }

    fn deletes(&mut self, about: u64) {
        self.world.client_ids += 1;
        let (chat, client_id) = (self.world.user(self.awake), self.world.client_ids);
        let kind = Kind::Deletion.into();
        let send = v1::Send { chat, client_id, kind, about, ..v1::Send::default() };
        self.world.ask(self.caller, Request::Send(send));
        self.world.settle();
        self.world.node.tick(1_000);
        self.world.settle();
    }

    /// So much time passes.
    fn passes(&mut self, ms: u64) {
        for _ in 0..ms / 500 {
            self.world.node.tick(500);
            self.world.settle();
        }
    }

    /// What the device that sleeps was told since.
    fn told(&mut self) -> Vec<PushKind> {
        let out = std::mem::take(&mut self.world.out);
        let mut kinds = Vec::new();
        for (core, push) in out {
            kinds.extend((self.world.place(push.device) == self.asleep).then_some(push.kind));
            self.world.delivered(core, &push);
        }
        self.world.settle();
        kinds
    }
}

#[test]
fn a_call_rings_once_and_nothing_sounds_meanwhile_and_then_it_was_missed() {
    let mut two = Two::new();
    two.says(true);
    assert_eq!(two.told(), [PushKind::Call]);
    two.says(false);
    assert_eq!(two.told(), [PushKind::Badge]);
    two.says(true);
    assert_eq!(two.told(), [PushKind::Badge], "it rings already");
    two.passes(RINGS_MS);
    assert_eq!(two.told(), [PushKind::Message], "it was missed");
    two.passes(QUIET_MS);
    assert_eq!(two.told(), []);
}

#[test]
fn a_call_that_was_read_elsewhere_or_deleted_rings_no_more_and_was_not_missed() {
    let mut two = Two::new();
    two.says(true);
    assert_eq!(two.told(), [PushKind::Call]);
    two.reads();
    assert_eq!(two.told(), [PushKind::Cleared]);
    two.passes(RINGS_MS + QUIET_MS);
    assert_eq!(two.told(), []);
    two.says(true);
    assert_eq!(two.told(), [PushKind::Call]);
    let call = two.newest();
    two.says(false);
    assert_eq!(two.told(), [PushKind::Badge]);
    two.deletes(call);
    two.passes(RINGS_MS);
    assert_eq!(two.told(), [PushKind::Cleared, PushKind::Message], "and then what was said since");
}

#[test]
fn who_calls_again_and_again_is_no_longer_told_as_a_call() {
    let mut two = Two::new();
    let mut kinds = Vec::new();
    for _ in 0..5 {
        two.says(true);
        kinds.extend(two.told().first().copied());
        two.passes(RINGS_MS + 2_000);
        two.reads();
        two.told();
    }
    let (call, message) = (PushKind::Call, PushKind::Message);
    assert_eq!(kinds, [call, call, call, message, message]);
}

#[test]
fn a_call_that_no_service_took_rings_when_one_does_and_a_crash_loses_none() {
    let mut two = Two::new();
    two.world.node.fill_pushes(true);
    two.says(true);
    assert_eq!(two.told(), []);
    two.world.node.fill_pushes(false);
    two.passes(6_000);
    assert_eq!(two.told(), [PushKind::Call]);
    two.passes(100);
    // What was just told, and has a row, is told again.
    two.world.node.tick(10);
    two.world.settle();
    two.world.node = start(&two.world.store, two.world.cores, &two.world.limits, two.world.node.now_ms);
    two.world.devices.iter_mut().for_each(|device| device.link = None);
    two.world.connect(two.awake);
    two.passes(ROUND_MS + 1_000);
    assert_eq!(two.told(), [PushKind::Call]);
    two.passes(RINGS_MS);
    assert_eq!(two.told(), [PushKind::Message]);
}

fn live(seed: u64) {
    World::new(seed).live();
}

#[test]
fn who_sleeps_is_told_and_knows_at_the_end_how_much_is_unread() {
    node::live_with_seeds("push", 200, live);
}

#[cfg(feature = "mutations")]
#[test]
fn each_fault_is_found() {
    node::find_each_fault("shard/tests/push.rs", live);
}
