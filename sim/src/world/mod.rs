//! The world: what happens when, all of it in one queue under one clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tern_client::machine::Input;
use tern_client::machine::Memory;
use tern_client::machine::rows::{Account, DeviceRow};
use tern_proto::v1;
use tern_shard::admin::Provisioned;
use tern_shard::effects::Pushed;
use tern_shard::slots::{CoreId, SlotTable};
use tern_storage::embedded::Step;
use tern_storage::medium::stream::Stream;
use tern_wire::ids::MediaId;

use self::link::Link;
pub(crate) use self::link::LinkId;
pub use self::options::{Failure, Options, Outcome};
use crate::books::{Books, Sums};
use crate::clocks::{NodeClock, Wall};
use crate::device::Device;
use crate::kept::Kept;
use crate::media::Media;
use crate::node::{Comes, Node, Token};
use crate::pushes::Pushes;
use crate::record::Record;
use crate::shape::Shape;
use crate::store::Ground;
use crate::stranger::Stranger;
use crate::suspensions::Suspensions;
use crate::trouble::Troubles;
use crate::work::{Tally, Work};

mod audit;
mod devices;
mod faults;
mod keeping;
mod life;
mod link;
mod network;
mod options;
mod process;
mod strangers;

/// Something that happens at its time.
#[derive(Debug)]
enum Event {
    /// A core has a turn. Of the process with this number, as all of the node.
    Turn(u64, CoreId),
    Store(u64, Step),
    Tick(u64),
    /// A core hears which slot is whose.
    Table(u64, CoreId, SlotTable),
    /// The node's process is killed, if it is this one.
    Kill(u64),
    /// A process starts.
    Start,
    /// A connection stands.
    Stands(LinkId),
    /// Bytes have come to the node, or to the other end.
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
    /// A device's process dies: this run of it.
    Crash(usize, u64),
    /// A stranger goes on.
    Stranger(LinkId),
    /// A code comes to a phone.
    Code(String, String),
    /// Somebody does something.
    Life,
    /// Uploads go on.
    Uploads,
    /// The bytes of a medium are gone.
    Removed(MediaId),
    /// A push service of this process's has answered, to a core.
    Pushed(u64, CoreId, Pushed),
    /// Something may go wrong.
    Tenth,
}

/// How often somebody may upload something, and what was begun goes on.
const UPLOADS_EVERY: Duration = Duration::from_millis(400);

/// Within this what was on its way has come, and whose connection is half open has noticed.
const ON_ITS_WAY_MAX: Duration = Duration::from_secs(400);

struct World {
    seed: u64,
    options: Options,
    shape: Shape,
    now: Duration,
    queue: BTreeMap<(Duration, u64), Event>,
    events: u64,
    ground: Ground,
    /// What of its faults is in the tally.
    ground_told: BTreeMap<&'static str, u64>,
    node: Option<Node>,
    /// Counts the node's processes.
    process: u64,
    clock: NodeClock,
    wall: Wall,
    ticks: u64,
    /// Turns that are in the queue already.
    turns: BTreeMap<CoreId, Duration>,
    /// Until when cores have much to do.
    busy_until: BTreeMap<CoreId, Duration>,
    steps: BTreeMap<Step, Duration>,
    links: BTreeMap<LinkId, Link>,
    links_made: u64,
    devices: Vec<Device>,
    strangers: BTreeMap<LinkId, Stranger>,
    /// The token of the account that strangers have.
    strangers_token: String,
    record: Record,
    media: Media,
    pushes: Pushes,
    suspensions: Suspensions,
    /// Accounts that may be about to end.
    ending: BTreeSet<u64>,
    kept: Kept,
    /// What the store held when it was read last.
    books: Option<Books>,
    /// The latest time that a process's clock has said.
    latest_ms: u64,
    sums: Sums,
    tally: Tally,
    troubles: Troubles,
    said: u64,
    provisioned: Option<Provisioned>,
    /// Operators' questions that are not answered.
    questions: u64,
    network: Stream,
    chance: Stream,
    life: Stream,
    /// Whether somebody has their account deleted.
    ends: Stream,
    is_over: bool,
    /// Something that must not be.
    wrong: Option<String>,
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
            ends: world.record.ends,
            tally: world.tally,
            sums: world.sums,
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
        let shape = Shape::new(seed, options.devices);
        Self {
            seed,
            options,
            kept: Kept::new(shape.history_ms),
            shape,
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            events: 0,
            ground: Ground::new(seed, options.fdb),
            ground_told: BTreeMap::new(),
            node: None,
            process: 0,
            clock: NodeClock::start(Duration::ZERO, Wall::default()),
            wall: Wall::default(),
            ticks: 0,
            turns: BTreeMap::new(),
            busy_until: BTreeMap::new(),
            steps: BTreeMap::new(),
            links: BTreeMap::new(),
            links_made: 0,
            devices: Vec::new(),
            strangers: BTreeMap::new(),
            strangers_token: String::new(),
            record: Record::default(),
            media: Media::new(seed),
            pushes: Pushes::new(seed),
            suspensions: Suspensions::default(),
            ending: BTreeSet::new(),
            books: None,
            latest_ms: 0,
            sums: Sums::default(),
            tally: Tally::default(),
            troubles,
            said: 0,
            provisioned: None,
            questions: 0,
            network: Stream::named(seed, "network"),
            chance: Stream::named(seed, "node"),
            life: Stream::named(seed, "life"),
            ends: Stream::named(seed, "ends"),
            is_over: false,
            wrong: None,
            trace: Vec::new(),
        }
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

    fn live(&mut self) -> Result<(), String> {
        self.start_process()?;
        self.populate()?;
        if self.options.troubles {
            self.ground.trouble(self.seed);
        }
        let begin = self.now;
        self.soon(1000, Event::Life);
        if self.media.are {
            self.at(self.now + UPLOADS_EVERY, Event::Uploads);
        }
        self.at(self.now + Node::TICK, Event::Tenth);
        self.run_until(begin + self.options.talks)?;
        self.calm();
        let end = self.now + self.options.settles;
        // What was on its way for long has come after that.
        let mut settled_since = self.now;
        let mut told = 0;
        while self.now < end && self.now < settled_since + ON_ITS_WAY_MAX {
            // By a clock that was set back, somebody may be suspended for long.
            if told < 10 && self.node.is_some() {
                told += 1;
                self.free_all();
            }
            self.run_until(self.now + Duration::from_secs(1))?;
            if !self.is_settled() {
                settled_since = self.now;
            }
        }
        self.look_back()
    }

    /// People and their devices: most have a session, the others register.
    fn populate(&mut self) -> Result<(), String> {
        let people = self.options.people();
        let made = self.provision("+15559999999")?;
        self.strangers_token = made.access_token;
        let mut rates = Stream::named(self.seed, "rates");
        for number in 0..self.options.devices {
            let phone = format!("+1555{:07}", number % people);
            // The first device of each person that registers makes the account.
            let session = if number % 4 == 3 {
                None
            } else {
                let made = self.provision(&phone)?;
                self.record.asks_for_session(&phone);
                let (user, device) = (made.user.get(), made.device.get());
                let token = made.refresh_token.clone();
                self.record.token(Token::Issued { user, device, token, parent: None });
                Some((made.user.get(), Memory::registered(DeviceRow::new(account_of(made)))))
            };
            let mut device = Device::new(number, phone, session, &mut self.life);
            device.clock.ahead_ppm = rates.below(20_001) as i64 - 10_000;
            device.clock.wall.jump(rates.below(240_000) as i64 - 120_000);
            self.devices.push(device);
            self.wake_device(number, 1_000_000);
        }
        Ok(())
    }

    /// From here on nothing goes wrong, and nobody begins anything.
    fn calm(&mut self) {
        self.is_over = true;
        self.troubles.end();
        self.ground.calm();
        for device in &mut self.devices {
            if let Some(machine) = device.machine() {
                machine.tables().fail_after(None);
            }
            device.reads_from = Duration::ZERO;
        }
    }

    fn is_settled(&self) -> bool {
        self.node.is_some() && self.devices.iter().all(Device::is_done)
    }

    fn run_until(&mut self, end: Duration) -> Result<(), String> {
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) {
            let ((when, _), event) = entry.remove_entry();
            self.now = when;
            self.happens(event)?;
            if let Some(what) = self.wrong.take() {
                return Err(what);
            }
        }
        self.now = end;
        Ok(())
    }

    fn happens(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Turn(process, core) => self.turn(process, core),
            Event::Store(process, step) => self.step(process, step),
            Event::Tick(process) => self.tick(process),
            Event::Kill(process) if process == self.process => self.die(false),
            Event::Kill(_) => {}
            Event::Table(process, core, table) => self.table_comes(process, core, table),
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
            Event::Crash(device, run) if self.devices[device].run == run => self.crash(device),
            Event::Crash(..) => {}
            Event::Stranger(link) => self.stranger_goes_on(link),
            Event::Code(phone, code) => self.code_comes(&phone, &code),
            Event::Life => return self.somebody_does_something(),
            Event::Uploads => self.uploads_go_on(),
            Event::Removed(medium) => self.medium_is_removed(medium),
            Event::Pushed(process, core, pushed) => self.push_has_ended(process, core, pushed),
            Event::Tenth => self.tenth(),
        }
        Ok(())
    }

    /// What is under way anywhere.
    fn under_way(&self) -> Vec<Work> {
        let of_devices = self.devices.iter().flat_map(Device::under_way);
        let of_strangers = self.strangers.first_key_value().map(|_| Work::Stranger);
        let of_operators = (self.questions > 0).then_some(Work::Operator);
        let mut kinds: Vec<_> = of_devices.chain(of_strangers).chain(of_operators).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }
}

/// What an operator was told, as a device keeps it.
fn account_of(made: Provisioned) -> Account {
    let session = v1::Session {
        phone: String::new(),
        user_id: made.user.get(),
        device_id: made.device.get(),
        access_token: made.access_token,
        access_expires_ms: made.access_expires_ms,
        refresh_token: made.refresh_token,
        refresh_expires_ms: made.refresh_expires_ms,
    };
    Account::new(made.phone.as_str(), &session, &[])
}
