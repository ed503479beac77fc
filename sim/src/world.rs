//! The world: what happens when, all of it in one queue under one clock.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tern_client::Error;
use tern_client::machine::rows::{Account, DeviceRow};
use tern_client::machine::{Action, Ask, Input, Memory, Now};
use tern_proto::v1::{self, client_frame};
use tern_shard::admin::{AdminRequest, AdminResponse, Provisioned};
use tern_shard::slots::CoreId;
use tern_storage::embedded::{Step, Stepped};
use tern_storage::medium::simulated::{Fault, Odds, SimulatedMedium};
use tern_storage::medium::stream::Stream;
use tern_storage::{LogId, Slot};
use tern_wire::ids::{Name, Phone};

use crate::device::Device;
use crate::network::{Link, LinkId};
use crate::node::{Comes, Does, Node};
use crate::record::{Record, chat};
use crate::trouble::{Trouble, Troubles, Without};

/// What a world is like.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Devices. Of four people, one has two.
    pub devices: usize,
    /// How long people talk and things go wrong.
    pub talks: Duration,
    /// Within this after that, everybody must have caught up.
    pub settles: Duration,
    /// Things go wrong.
    pub troubles: bool,
    /// But these.
    pub without: Without,
    /// What happens is kept, for who replays it.
    pub trace: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            devices: 20,
            talks: Duration::from_secs(60),
            settles: Duration::from_secs(1200),
            troubles: true,
            without: Without::default(),
            trace: false,
        }
    }
}

/// What came of a world in which all held.
#[derive(Clone, Default, Debug)]
pub struct Outcome {
    /// How long it took, in simulated time.
    pub simulated: Duration,
    /// Messages that were acknowledged.
    pub messages: u64,
    /// How often each fault has happened.
    pub troubles: BTreeMap<&'static str, u64>,
    /// What happened, one after another.
    pub events: u64,
}

/// What did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// In words.
    pub what: String,
    /// What happened before, if it was kept.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)
    }
}

/// What the disk of a world is like: each may lose what is not synced; some fail, are full or slow now and then.
fn disk(stream: &mut Stream) -> Odds {
    let mut odds = Odds::POWER_CUTS;
    for (fault, per_million) in [
        (Fault::NoRoom, 10_000),
        (Fault::WriteFails, 100),
        (Fault::SyncFails, 200),
        (Fault::DirectorySyncFails, 100),
        (Fault::SlowSync, 5_000),
    ] {
        if stream.below(2) == 0 {
            odds = odds.with(fault, per_million);
        }
    }
    odds
}

/// Something that happens at its time.
#[derive(Debug)]
enum Event {
    /// A core has a turn. Of the process with this number, as all of the node.
    Turn(u64, CoreId),
    Store(u64, Step),
    Tick(u64),
    /// A process starts.
    Start,
    /// A connection stands.
    Stands(LinkId),
    /// Bytes have come to the node, or to the device.
    Up(LinkId, Vec<u8>),
    Down(LinkId, Vec<u8>),
    /// A device may read again.
    Reads(LinkId),
    /// A device hears that its connection is no more.
    Broken(LinkId),
    /// The node hears so.
    Ended(LinkId),
    /// A device is woken: in this run.
    Wake(usize, u64),
    /// Somebody does something.
    Life,
    /// Something may go wrong.
    Tenth,
}

/// Within this what was on its way has come, and whose connection is half open has noticed.
const ON_ITS_WAY_MAX: Duration = Duration::from_secs(400);

const EPOCH_MS: u64 = 1_800_000_000_000;

struct World {
    seed: u64,
    options: Options,
    now: Duration,
    queue: BTreeMap<(Duration, u64), Event>,
    events: u64,
    medium: SimulatedMedium,
    node: Option<Node>,
    /// Counts the node's processes.
    process: u64,
    /// Turns that are in the queue already.
    turns: BTreeMap<CoreId, Duration>,
    steps: BTreeMap<Step, Duration>,
    links: BTreeMap<LinkId, Link>,
    links_made: u64,
    devices: Vec<Device>,
    record: Record,
    troubles: Troubles,
    said: u64,
    answers: Vec<AdminResponse>,
    network: Stream,
    chance: Stream,
    life: Stream,
    is_over: bool,
    trace: Vec<String>,
}

/// One world, from its seed. `Err`: something that must hold did not.
pub fn run(seed: u64, options: Options) -> Result<Outcome, Box<Failure>> {
    let mut world = World::new(seed, options);
    let lived = world.live();
    let trace = std::mem::take(&mut world.trace);
    match lived {
        Ok(()) => Ok(Outcome {
            simulated: world.now,
            messages: world.record.count(),
            troubles: world.troubles(),
            events: world.events,
        }),
        Err(what) => Err(Box::new(Failure { what, trace })),
    }
}

impl World {
    fn new(seed: u64, options: Options) -> Self {
        let mut troubles = Troubles::new(seed, options.without);
        if !options.troubles {
            troubles.end();
        }
        Self {
            seed,
            options,
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            events: 0,
            medium: SimulatedMedium::new(seed, Odds::NONE),
            node: None,
            process: 0,
            turns: BTreeMap::new(),
            steps: BTreeMap::new(),
            links: BTreeMap::new(),
            links_made: 0,
            devices: Vec::new(),
            record: Record::default(),
            troubles,
            said: 0,
            answers: Vec::new(),
            network: Stream::named(seed, "network"),
            chance: Stream::named(seed, "node"),
            life: Stream::named(seed, "life"),
            is_over: false,
            trace: Vec::new(),
        }
    }

    fn troubles(&self) -> BTreeMap<&'static str, u64> {
        let of_disk = self.medium.counts().into_iter().map(|(fault, count)| (fault.name(), count));
        self.troubles.counts().iter().map(|(it, count)| (it.name(), *count)).chain(of_disk).collect()
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if self.options.trace {
            self.trace.push(format!("{:>12.6} {}", self.now.as_secs_f64(), what()));
        }
    }

    fn at(&mut self, when: Duration, event: Event) {
        self.events += 1;
        self.queue.insert((when.max(self.now), self.events), event);
    }

    fn soon(&mut self, us_max: u64, event: Event) {
        let wait = Duration::from_micros(1 + self.chance.below(us_max));
        self.at(self.now + wait, event);
    }

    fn now_ms(&self) -> u64 {
        EPOCH_MS + self.now.as_millis() as u64
    }

    // ---- the course of it

    fn live(&mut self) -> Result<(), String> {
        self.start_process()?;
        for number in 0..self.options.devices {
            let people = self.options.devices - self.options.devices / 5;
            let made = self.provision(number, number % people)?;
            let session = v1::Session {
                user_id: made.user.get(),
                device_id: made.device.get(),
                access_token: made.access_token,
                access_expires_ms: made.access_expires_ms,
                refresh_token: made.refresh_token,
                refresh_expires_ms: made.refresh_expires_ms,
            };
            let account = Account::new(made.phone.as_str(), &session, &[]);
            let tables = Memory::registered(DeviceRow::new(account));
            self.devices.push(Device::new(made.user.get(), tables, &mut self.life));
            self.wake_device(number, 1_000_000);
        }
        if self.options.troubles {
            self.medium.set_odds(disk(&mut Stream::named(self.seed, "disk")));
        }
        let begin = self.now;
        self.soon(1000, Event::Life);
        self.at(self.now + Node::TICK, Event::Tenth);
        self.run_until(begin + self.options.talks)?;
        self.is_over = true;
        self.troubles.end();
        self.medium.set_odds(Odds::NONE);
        for device in &mut self.devices {
            device.machine().tables().fail_after(None);
            device.reads_from = Duration::ZERO;
        }
        let end = self.now + self.options.settles;
        // What was on its way for long has come after that.
        let mut settled_since = self.now;
        while self.now < end && self.now < settled_since + ON_ITS_WAY_MAX {
            self.run_until(self.now + Duration::from_secs(1))?;
            if !self.is_settled() {
                settled_since = self.now;
            }
        }
        self.look_back()
    }

    fn is_settled(&self) -> bool {
        self.node.is_some() && self.devices.iter().all(Device::is_done)
    }

    fn run_until(&mut self, end: Duration) -> Result<(), String> {
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) {
            let ((when, _), event) = entry.remove_entry();
            self.now = when;
            self.happens(event)?;
        }
        self.now = end;
        Ok(())
    }

    /// All have all, and the same.
    fn look_back(&mut self) -> Result<(), String> {
        for device in &self.devices {
            if !device.is_done() {
                let (user, machine) = (device.user, device.machine());
                return Err(format!(
                    "{user} has not caught up: {machine:?}, caught up: {}",
                    device.is_caught_up
                ));
            }
        }
        let mut chats: BTreeMap<_, Vec<Vec<u8>>> = BTreeMap::new();
        for device in &self.devices {
            for (peer, texts) in device.chats() {
                let place = chat(device.user, peer);
                self.record.is_whole(place, &texts)?;
                let other = chats.entry(place).or_insert_with(|| texts.clone());
                if *other != texts {
                    return Err(format!(
                        "two devices have {} and {} texts of {place:?}",
                        other.len(),
                        texts.len()
                    ));
                }
            }
        }
        let stored: u64 = chats.values().map(|texts| texts.len() as u64).sum();
        let acknowledged = self.record.count();
        if stored < acknowledged {
            return Err(format!("{acknowledged} were acknowledged, and {stored} are there"));
        }
        Ok(())
    }

    fn happens(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Turn(process, core) => self.turn(process, core),
            Event::Store(process, step) => self.step(process, step),
            Event::Tick(process) => self.tick(process),
            Event::Start => self.start_process()?,
            Event::Stands(link) => return self.stands(link),
            Event::Up(link, bytes) => self.arrives_up(link, bytes),
            Event::Down(link, bytes) => return self.arrives_down(link, bytes),
            Event::Reads(link) => return self.reads(link),
            Event::Broken(link) => return self.broken(link),
            Event::Ended(link) => self.node_gets(link, Comes::Gone(link)),
            Event::Wake(device, run) => {
                let it = &mut self.devices[device];
                if it.run == run && it.wakes_at == Some(self.now) {
                    it.wakes_at = None;
                    return self.device(device, Input::Due);
                }
            }
            Event::Life => return self.somebody_does_something(),
            Event::Tenth => return self.tenth(),
        }
        Ok(())
    }

    // ---- the node

    fn start_process(&mut self) -> Result<(), String> {
        self.process += 1;
        (self.turns, self.steps) = (BTreeMap::new(), BTreeMap::new());
        let cores = 1 + self.chance.below(3) as u16;
        self.node = Node::start(&self.medium, cores, &mut self.chance);
        self.note(|| format!("a process of {cores} cores starts"));
        if self.node.is_none() {
            if self.is_over && !self.medium.is_cut() {
                return Err("the node does not start though nothing is wrong".to_owned());
            }
            self.die(self.medium.is_cut());
            return Ok(());
        }
        self.store();
        self.at(self.now + Node::TICK, Event::Tick(self.process));
        Ok(())
    }

    /// The process is gone, and its connections with it.
    fn die(&mut self, power: bool) {
        self.note(|| format!("the process ends, power: {power}"));
        self.node = None;
        self.process += 1;
        if power {
            self.medium.crash()
        } else {
            self.medium.kill()
        }
        for id in self.links.keys().copied().collect::<Vec<_>>() {
            // A machine that is off tells nobody.
            let tells = !power || self.chance.below(2) == 0;
            if tells {
                self.soon(20_000, Event::Broken(id));
            } else if let Some(link) = self.links.get_mut(&id) {
                link.is_dead = true;
            }
        }
        let wait = Duration::from_millis(200 + self.chance.below(3000));
        self.at(self.now + wait, Event::Start);
    }

    fn wake(&mut self, core: CoreId) {
        let when = self.now + Duration::from_micros(1 + self.chance.below(50));
        if self.turns.get(&core).is_none_or(|planned| *planned > when) {
            self.turns.insert(core, when);
            self.at(when, Event::Turn(self.process, core));
        }
    }

    fn turn(&mut self, process: u64, core: CoreId) {
        if process != self.process {
            return;
        }
        if self.turns.get(&core).is_some_and(|planned| *planned <= self.now) {
            self.turns.remove(&core);
        }
        let now_ms = self.now_ms();
        let Some(node) = &mut self.node else { return };
        for does in node.turn(core, now_ms, &mut self.chance) {
            match does {
                Does::Send(link, bytes) => self.sends_down(link, bytes),
                Does::Close(link) => {
                    if let Some(arrival) = self.arrival(link, false) {
                        self.at(arrival, Event::Broken(link));
                    }
                }
                Does::Wake(core) => self.wake(core),
                Does::Answer(answer) => self.answers.push(answer),
                Does::Store => self.store(),
                Does::Broken => return self.die(false),
            }
        }
    }

    /// The store has something to do, perhaps.
    fn store(&mut self) {
        for step in Step::ALL {
            let wait = Duration::from_micros(1 + self.chance.below(200));
            self.step_at(self.now + wait, step);
        }
    }

    fn step_at(&mut self, when: Duration, step: Step) {
        if self.steps.get(&step).is_none_or(|planned| *planned > when) {
            self.steps.insert(step, when);
            self.at(when, Event::Store(self.process, step));
        }
    }

    fn step(&mut self, process: u64, step: Step) {
        if process != self.process {
            return;
        }
        if self.steps.get(&step).is_some_and(|planned| *planned <= self.now) {
            self.steps.remove(&step);
        }
        let Some(node) = &mut self.node else { return };
        let stepped = node.engine.step(step, self.now);
        if self.medium.is_cut() {
            return self.die(true);
        }
        let took = self.medium.take_time() + Duration::from_micros(20 + self.chance.below(300));
        let node = self.node.as_ref().expect("it has just made a step");
        let ready: Vec<_> =
            (0..node.cores()).map(CoreId).filter(|core| node.has_completions(*core)).collect();
        ready.into_iter().for_each(|core| self.wake(core));
        match stepped {
            Stepped::Did => {
                for next in Step::ALL {
                    self.step_at(self.now + took, next);
                }
            }
            Stepped::Later(when) => self.step_at(when.max(self.now + Duration::from_micros(50)), step),
            Stepped::Waits => self.step_at(self.now + Duration::from_millis(1), step),
            Stepped::Nothing | Stepped::Failed => {}
        }
    }

    fn tick(&mut self, process: u64) {
        if process != self.process {
            return;
        }
        let Some(node) = &mut self.node else { return };
        let cores = node.cores();
        for core in (0..cores).map(CoreId) {
            node.comes(core, Comes::Tick);
        }
        (0..cores).map(CoreId).for_each(|core| self.wake(core));
        self.at(self.now + Node::TICK, Event::Tick(process));
    }

    fn provision(&mut self, number: usize, person: usize) -> Result<Provisioned, String> {
        let phone = Phone::parse(&format!("+1555{person:07}")).expect("a phone");
        let node = self.node.as_mut().expect("nothing has gone wrong yet");
        let owner = node.table().owner(Slot::of_phone(phone.digits()));
        let name = Name::parse("somebody").expect("a name");
        node.comes(owner, Comes::Asked(number as u64, AdminRequest::Provision { phone, name }));
        self.wake(owner);
        for _ in 0..1000 {
            self.run_until(self.now + Duration::from_millis(10))?;
            if let Some(AdminResponse::Provisioned(made)) = self.answers.pop() {
                return Ok(made);
            }
        }
        Err("nobody is provisioned".to_owned())
    }

    // ---- the network

    fn node_gets(&mut self, link: LinkId, what: Comes) {
        if let Some(core) = self.node.as_mut().and_then(|node| node.comes_on(link, what)) {
            self.wake(core);
        }
    }

    /// When what is sent now arrives; `None` if the connection is not there any more.
    fn arrival(&mut self, link: LinkId, is_up: bool) -> Option<Duration> {
        let mut takes = Duration::from_micros(200 + self.network.below(20_000));
        if self.troubles.hits(Trouble::Delay) {
            takes += Duration::from_millis(self.troubles.below(Trouble::Delay, 3000));
        }
        let now = self.now;
        Some(self.links.get_mut(&link)?.arrival(is_up, now, takes))
    }

    /// What befalls a connection on which something is sent. Gives how much of it comes through.
    fn befalls(&mut self, link: LinkId, length: usize) -> usize {
        if length > 0 && self.troubles.hits(Trouble::Reset) {
            self.note(|| format!("{link:?} is reset"));
            let through = self.troubles.below(Trouble::Reset, length as u64 + 1) as usize;
            self.soon(30_000, Event::Broken(link));
            self.soon(30_000, Event::Ended(link));
            if let Some(link) = self.links.get_mut(&link) {
                link.is_dead = true;
            }
            return through;
        }
        if self.troubles.hits(Trouble::HalfOpen) {
            self.note(|| format!("{link:?} is half open"));
            if let Some(link) = self.links.get_mut(&link) {
                link.is_dead = true;
            }
        }
        length
    }

    fn sends_down(&mut self, link: LinkId, bytes: Vec<u8>) {
        let is_dead = self.links.get(&link).is_none_or(|link| link.is_dead);
        if is_dead {
            // The kernel takes it, and nobody gets it.
            return;
        }
        let mut rest = &bytes[..];
        loop {
            let part = if self.troubles.hits(Trouble::ShortSend) {
                self.troubles.below(Trouble::ShortSend, rest.len() as u64 + 1) as usize
            } else {
                rest.len()
            };
            let through = self.befalls(link, part);
            if let Some(arrival) = self.arrival(link, false) {
                self.at(arrival, Event::Down(link, rest[..through].to_vec()));
            }
            rest = &rest[part..];
            if rest.is_empty() || through < part {
                return;
            }
        }
    }

    fn arrives_down(&mut self, id: LinkId, bytes: Vec<u8>) -> Result<(), String> {
        let Some(link) = self.links.get(&id) else { return Ok(()) };
        let (at, run, number) = (link.device, link.run, link.number);
        if self.devices[at].run != run || link.is_left {
            return Ok(());
        }
        let reads_from = self.devices[at].reads_from;
        let link = self.links.get_mut(&id).expect("it was there just before");
        if reads_from > self.now || !link.held.is_empty() {
            link.held.push_back(bytes);
            if link.held.len() == 1 {
                self.at(reads_from, Event::Reads(id));
            }
            return Ok(());
        }
        self.is_read(id, at, number, bytes)
    }

    /// A device reads what has come meanwhile, unless it is still slow.
    fn reads(&mut self, id: LinkId) -> Result<(), String> {
        let Some(link) = self.links.get_mut(&id) else { return Ok(()) };
        let (at, run, number) = (link.device, link.run, link.number);
        let reads_from = self.devices[at].reads_from;
        if reads_from > self.now {
            self.at(reads_from, Event::Reads(id));
            return Ok(());
        }
        for bytes in std::mem::take(&mut link.held) {
            if self.devices[at].run == run && self.devices[at].link == Some(id) {
                self.is_read(id, at, number, bytes)?;
            }
        }
        Ok(())
    }

    fn is_read(&mut self, id: LinkId, at: usize, number: u64, bytes: Vec<u8>) -> Result<(), String> {
        self.node_gets(id, Comes::Left(id, bytes.len()));
        if bytes.is_empty() { Ok(()) } else { self.device(at, Input::Received(number, bytes)) }
    }

    fn arrives_up(&mut self, id: LinkId, bytes: Vec<u8>) {
        self.node_gets(id, Comes::Bytes(id, bytes));
    }

    fn stands(&mut self, id: LinkId) -> Result<(), String> {
        let Some(link) = self.links.get(&id) else { return Ok(()) };
        let (at, run, number) = (link.device, link.run, link.number);
        if self.devices[at].run != run || link.is_left || link.is_dead {
            return Ok(());
        }
        let Some(node) = &mut self.node else { return self.broken(id) };
        let core = CoreId(self.network.below(u64::from(node.cores())) as u16);
        node.comes(core, Comes::Opened(id));
        self.wake(core);
        self.device(at, Input::Connected(number))
    }

    /// A device hears that its connection is no more.
    fn broken(&mut self, id: LinkId) -> Result<(), String> {
        let Some(link) = self.links.remove(&id) else { return Ok(()) };
        self.node_gets(id, Comes::Gone(id));
        let device = &mut self.devices[link.device];
        if device.run != link.run || link.is_left {
            return Ok(());
        }
        device.link = None;
        let error = Error::Connection(Arc::new(std::io::ErrorKind::ConnectionReset.into()));
        self.device(link.device, Input::Lost(link.number, error))
    }

    // ---- devices

    fn device(&mut self, at: usize, input: Input) -> Result<(), String> {
        let now = Now { monotonic: self.now, unix_ms: self.now_ms() };
        self.note(|| format!("device {at} takes {input:?}"));
        let actions = self.devices[at].turn(now, input, &mut self.record)?;
        for action in actions {
            self.note(|| format!("device {at} wants {action:?}"));
            match action {
                Action::Connect(number) => self.connect(at, number),
                Action::Send(_, bytes) => {
                    if let Some(link) = self.devices[at].link {
                        self.sends_up(link, &bytes);
                    }
                }
                Action::Close { .. } => self.leave(at),
                Action::Tell { .. } | Action::Status(_) | Action::Answer(..) | Action::Over => {}
            }
        }
        let device = &mut self.devices[at];
        let run = device.run;
        let when = if device.machine().minds() { Some(self.now) } else { device.machine().wake_at() };
        if let Some(when) = when.map(|when| when.max(self.now)).filter(|when| Some(*when) != device.wakes_at)
        {
            device.wakes_at = Some(when);
            self.at(when, Event::Wake(at, run));
        }
        Ok(())
    }

    /// A device has just started.
    fn wake_device(&mut self, at: usize, us_max: u64) {
        let when = self.now + Duration::from_micros(1 + self.life.below(us_max));
        let device = &mut self.devices[at];
        device.wakes_at = Some(when);
        let run = device.run;
        self.at(when, Event::Wake(at, run));
    }

    fn connect(&mut self, at: usize, number: u64) {
        self.leave(at);
        self.links_made += 1;
        let id = LinkId(self.links_made);
        let run = self.devices[at].run;
        let (up, down) = (self.now, self.now);
        let link =
            Link { device: at, run, number, up, down, held: VecDeque::new(), is_dead: false, is_left: false };
        self.links.insert(id, link);
        self.devices[at].link = Some(id);
        if let Some(arrival) = self.arrival(id, true) {
            self.at(arrival, Event::Stands(id));
        }
    }

    fn sends_up(&mut self, link: LinkId, bytes: &[u8]) {
        let is_dead = self.links.get(&link).is_none_or(|link| link.is_dead);
        if is_dead {
            return;
        }
        let through = self.befalls(link, bytes.len());
        if let Some(arrival) = self.arrival(link, true) {
            self.at(arrival, Event::Up(link, bytes[..through].to_vec()));
        }
    }

    /// A device ends its connection: the node hears so, unless it is dead.
    fn leave(&mut self, at: usize) {
        let Some(id) = self.devices[at].link.take() else { return };
        let arrival = self.arrival(id, true);
        if let Some(link) = self.links.get_mut(&id) {
            link.is_left = true;
            if !link.is_dead
                && let Some(arrival) = arrival
            {
                self.at(arrival, Event::Ended(id));
            }
        }
    }

    // ---- life

    fn somebody_does_something(&mut self) -> Result<(), String> {
        if self.is_over {
            return Ok(());
        }
        let wait = Duration::from_micros(1 + self.life.below(2 * 300_000 / self.options.devices as u64));
        self.at(self.now + wait, Event::Life);
        let at = self.life.below(self.devices.len() as u64) as usize;
        if !self.devices[at].machine().takes_asks() {
            return Ok(());
        }
        let peer = self.devices[self.life.below(self.devices.len() as u64) as usize].user;
        let ask = match self.life.below(20) {
            0..14 => {
                self.said += 1;
                let body =
                    format!("{} {}", self.said, "x".repeat(self.life.below(200) as usize)).into_bytes();
                self.record.asked(body.clone(), self.devices[at].user, peer);
                Ask::Send { peer, body, key: None }
            }
            14..17 => {
                let log =
                    tern_client::machine::tables::Tables::log(self.devices[at].machine().tables(), peer);
                let upto = log.ok().flatten().map_or(0, |log| log.position);
                if upto == 0 {
                    return Ok(());
                }
                Ask::MarkRead { peer, upto }
            }
            17 => Ask::Request(client_frame::Request::Chats(v1::Chats::default())),
            18 => Ask::History(v1::History { peer, from: 0, forwards: true, limit: 10 }),
            _ => Ask::Lookup(v1::lookup::By::UserId(peer)),
        };
        let input = self.devices[at].ask(ask);
        self.device(at, input)
    }

    fn tenth(&mut self) -> Result<(), String> {
        if self.is_over {
            return Ok(());
        }
        self.at(self.now + Node::TICK, Event::Tenth);
        if self.node.is_some() {
            if self.troubles.hits(Trouble::Kill) {
                self.die(false);
            } else if self.troubles.hits(Trouble::PowerCut) {
                self.medium.cut_after(self.troubles.below(Trouble::PowerCut, 20));
            }
        }
        if self.troubles.hits(Trouble::Move) {
            self.move_slot();
        }
        if self.troubles.hits(Trouble::Pause) {
            let pause = Duration::from_millis(self.troubles.below(Trouble::Pause, 2000));
            self.pause(pause);
        }
        let at = self.life.below(self.devices.len() as u64) as usize;
        if self.troubles.hits(Trouble::SlowReader) {
            let slow = Duration::from_millis(self.troubles.below(Trouble::SlowReader, 5000));
            self.devices[at].reads_from = self.now + slow;
        }
        if self.troubles.hits(Trouble::DeviceDisk) {
            let left = self.troubles.below(Trouble::DeviceDisk, 5) as u32;
            self.devices[at].machine().tables().fail_after(Some(left));
        } else {
            self.devices[at].machine().tables().fail_after(None);
        }
        if self.troubles.hits(Trouble::DeviceCrash) {
            self.leave(at);
            self.devices[at].crash(&mut self.life);
            self.note(|| format!("device {at} starts anew"));
            self.wake_device(at, 500_000);
        }
        Ok(())
    }

    /// A slot of somebody, or of a chat, becomes another core's.
    fn move_slot(&mut self) {
        let mut user = || self.devices[self.chance.below(self.devices.len() as u64) as usize].user;
        let (one, other) = (user(), user());
        let is_log = self.chance.below(2) == 0;
        let slot = if is_log { Slot::of_log(LogId::direct(one, other)) } else { Slot::of_user(one) };
        let Some(node) = &mut self.node else { return };
        let to = CoreId(self.chance.below(u64::from(node.cores())) as u16);
        if node.table().owner(slot) == to {
            return;
        }
        let table = node.table().with_moved(slot, to);
        if node.moves(table.clone()) {
            let cores = node.cores();
            for core in (0..cores).map(CoreId) {
                node.comes(core, Comes::Table(table.clone()));
            }
            (0..cores).map(CoreId).for_each(|core| self.wake(core));
        }
    }

    /// The node stands still: what was to happen in it happens later.
    fn pause(&mut self, pause: Duration) {
        let of_node = |event: &Event| matches!(event, Event::Turn(..) | Event::Store(..) | Event::Tick(_));
        let late: Vec<_> = self.queue.extract_if(.., |_, event| of_node(event)).collect();
        for ((when, number), event) in late {
            self.queue.insert((when.max(self.now + pause), number), event);
        }
    }
}
