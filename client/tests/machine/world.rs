//! One thread, one seed: devices, the model of the server, the network between them, and what goes wrong.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use tern_client::machine::tables::{Tables as _, Which};
use tern_client::machine::{Action, Ask, Input, Memory, Now, rows};
use tern_client::{Error, NewMessage};

use crate::device::{Device, start};
use crate::server::{DeviceId, IDLE_MS, POSITIONS_MAX, Server, Troubles};

/// How long things go wrong, and how long after that everything must have come right.
const TROUBLED: Duration = Duration::from_secs(80);
const RIGHT_AFTER: Duration = Duration::from_secs(200);
const IDLE: Duration = Duration::from_secs(600);

const DEVICES: [DeviceId; 3] = [(1, 1), (1, 2), (2, 1)];

/// What happens to a connection's bytes.
struct Pipe {
    device: DeviceId,
    run: u64,
    /// Its number in the machine.
    id: u64,
    /// When the last bytes each way arrive: they keep their order.
    up_at: Duration,
    down_at: Duration,
    /// After so many bytes, either way, it breaks. `None`: it does not.
    left: Option<usize>,
    /// When it breaks, nobody is told.
    silently: bool,
    is_broken: bool,
}

enum What {
    Wake(DeviceId, u64),
    Connected(u64),
    /// Bytes for the server, or for the device.
    Up(u64, Vec<u8>),
    Down(u64, Vec<u8>),
    /// The server, or the device, hears of the end.
    UpEnd(u64),
    DownEnd(u64),
    /// The application looks at what it was told.
    App(DeviceId, u64),
    /// Something else happens in the world.
    Turn,
}

pub struct World {
    random: fastrand::Rng,
    now: Duration,
    /// How far the devices' clocks are off.
    skew_ms: u64,
    server: Server,
    devices: BTreeMap<DeviceId, Device>,
    /// Devices of which a copy has taken over.
    old: Vec<Device>,
    pipes: BTreeMap<u64, Pipe>,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    events: BTreeMap<u64, What>,
    last: u64,
    texts: u64,
    is_troubled: bool,
    pub trace: Option<Vec<String>>,
}

macro_rules! trace {
    ($world:expr, $($text:tt)*) => {
        if let Some(trace) = &mut $world.trace {
            trace.push(format!("{:>12.6} {}", $world.now.as_secs_f64(), format!($($text)*)));
        }
    };
}

impl World {
    pub fn new(seed: u64, traced: bool) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut server = Server::new(seed);
        // A part of the worlds has one trouble less each.
        let some = |random: &mut fastrand::Rng, most| if random.bool() { random.u32(0..most) } else { 0 };
        server.troubles = Troubles {
            refuses: some(&mut random, 150),
            goes_away: some(&mut random, 30),
            cuts: some(&mut random, 100),
        };
        server.now_ms = 1_000_000;
        // Or few: the list of all chats takes several.
        server.positions_max = if random.bool() { POSITIONS_MAX } else { 2 };
        let mut world = Self {
            random,
            now: Duration::ZERO,
            skew_ms: 0,
            server,
            devices: BTreeMap::new(),
            old: Vec::new(),
            pipes: BTreeMap::new(),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            last: 0,
            texts: 0,
            is_troubled: true,
            trace: traced.then(Vec::new),
        };
        for id in DEVICES {
            let session = world.server.register(id);
            let account = rows::Account::new("+1", &session, b"");
            let memory = Memory::registered(rows::DeviceRow::new(account));
            let machine = start(memory, &mut world.random);
            let run = world.number();
            world.devices.insert(id, Device::new(id, machine, run));
            world.at(Duration::ZERO, What::Wake(id, run));
        }
        world.at(Duration::ZERO, What::Turn);
        world
    }

    /// Things go wrong for a while, and must come right then.
    pub fn run(&mut self) {
        self.run_until(TROUBLED);
        self.is_troubled = false;
        self.server.troubles = Troubles::default();
        self.skew_ms = 0;
        for pipe in self.pipes.values_mut() {
            pipe.left = None;
        }
        for device in self.devices.values() {
            device.machine.tables().fail_after(None);
        }
        trace!(self, "from here on nothing goes wrong");
        self.run_until(TROUBLED + RIGHT_AFTER);
        self.everything_is_right();
        let wakes: Vec<_> = self.devices.values().map(|device| device.wakes).collect();
        self.run_until(TROUBLED + RIGHT_AFTER + IDLE);
        for (device, before) in self.devices.values().zip(wakes) {
            let pings = IDLE.as_millis() as u32 / (IDLE_MS / 3);
            let wakes = device.wakes - before;
            assert!(wakes <= pings + 1, "{:?} was woken {wakes} times for {pings} pings", device.id);
        }
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn at(&mut self, when: Duration, what: What) {
        let number = self.number();
        self.queue.push(Reverse((when.max(self.now), number)));
        self.events.insert(number, what);
    }

    fn soon(&mut self, ms_max: u64) -> Duration {
        self.now + Duration::from_micros(self.random.u64(1..ms_max * 1000))
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.is_troubled && self.random.u32(0..100) < percent
    }

    fn run_until(&mut self, end: Duration) {
        while let Some(Reverse((when, _))) = self.queue.peek()
            && *when <= end
        {
            let Reverse((when, number)) = self.queue.pop().expect("it was just seen");
            let passed = (when - self.now).as_millis() as u64;
            self.now = when;
            self.server.now_ms += passed;
            let what = self.events.remove(&number).expect("each is queued once");
            self.happens(what);
        }
    }

    fn happens(&mut self, what: What) {
        match what {
            What::Wake(id, run) => {
                if self.is_due(id, run) {
                    self.input(id, run, Input::Due);
                }
            }
            What::Connected(pipe) => {
                let Pipe { device, run, id, .. } = self.pipes[&pipe];
                self.server.connected(pipe);
                self.input(device, run, Input::Connected(id));
            }
            What::Up(pipe, bytes) => self.up(pipe, bytes),
            What::Down(pipe, bytes) => self.down(pipe, bytes),
            What::UpEnd(pipe) => self.server.lost(pipe),
            What::DownEnd(pipe) => {
                let Pipe { device, run, id, .. } = self.pipes[&pipe];
                let error = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
                self.input(device, run, Input::Lost(id, Error::from(error)));
            }
            What::App(id, run) => self.app(id, run),
            What::Turn => {
                if self.is_troubled {
                    self.something_happens();
                    let next = self.soon(1500);
                    self.at(next, What::Turn);
                }
            }
        }
    }

    fn is_due(&self, id: DeviceId, run: u64) -> bool {
        let device = self.devices.get(&id).filter(|device| device.run == run);
        device.is_some_and(|device| device.machine.wake_at().is_some_and(|at| at <= self.now))
    }

    /// Takes as much of a connection's bytes as comes through. `false`: it is broken.
    fn pass(&mut self, number: u64, bytes: &mut Vec<u8>) -> bool {
        let pipe = self.pipes.get_mut(&number).expect("pipes stay");
        if pipe.is_broken {
            return false;
        }
        if let Some(left) = &mut pipe.left {
            if bytes.len() > *left {
                bytes.truncate(*left);
                pipe.is_broken = true;
                if !pipe.silently {
                    self.at(self.now, What::UpEnd(number));
                    self.at(self.now, What::DownEnd(number));
                }
                trace!(self, "connection {number} breaks");
                return true;
            }
            *left -= bytes.len();
        }
        true
    }

    fn up(&mut self, number: u64, mut bytes: Vec<u8>) {
        if self.pass(number, &mut bytes) {
            self.server.received(number, &bytes);
            self.look_at_acknowledged();
            self.send_down();
        }
    }

    fn down(&mut self, number: u64, mut bytes: Vec<u8>) {
        if self.pass(number, &mut bytes) {
            let Pipe { device, run, id, .. } = self.pipes[&number];
            self.input(device, run, Input::Received(id, bytes));
        }
    }

    /// What the server has to say goes on its way, cut anywhere.
    fn send_down(&mut self) {
        for (number, bytes, is_last) in self.server.take_out() {
            for piece in self.cut(bytes) {
                let latency = Duration::from_micros(self.random.u64(100..20_000));
                let pipe = self.pipes.get_mut(&number).expect("pipes stay");
                pipe.down_at = pipe.down_at.max(self.now + latency);
                let when = pipe.down_at;
                self.at(when, What::Down(number, piece));
            }
            if is_last {
                let when = self.pipes[&number].down_at;
                self.at(when, What::DownEnd(number));
            }
        }
        for number in std::mem::take(&mut self.server.replaced) {
            trace!(self, "connection {number} is replaced");
        }
    }

    fn cut(&mut self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let whole = self.random.bool();
            let length = if whole { rest.len() } else { self.random.usize(1..=rest.len()) };
            pieces.push(rest[..length].to_vec());
            rest = &rest[length..];
        }
        pieces
    }

    /// What a device has acknowledged, it has as the server has it.
    fn look_at_acknowledged(&mut self) {
        for (number, chat, from, upto) in std::mem::take(&mut self.server.acknowledged) {
            let Pipe { device: id, run, .. } = self.pipes[&number];
            let mut devices = self.devices.values().chain(&self.old);
            let Some(device) = devices.find(|device| device.id == id && device.run == run) else { continue };
            for seq in (from + 1).max(self.server.began(id, chat))..=upto {
                let theirs = self.server.entry(id.0, chat, seq).expect("up to the head");
                let own = device.machine.tables().entry(chat, seq).expect("read");
                let own =
                    own.unwrap_or_else(|| panic!("{id:?}: {chat} {seq} is acknowledged, and not there"));
                let same =
                    (own.sender, own.time_ms, &own.body) == (theirs.sender, theirs.time_ms, &theirs.body);
                assert!(same, "{id:?}: {chat} {seq} is acknowledged, and another one is there: {own:?}");
            }
        }
    }

    fn input(&mut self, id: DeviceId, run: u64, input: Input) {
        if let Some(at) = self.old.iter().position(|device| device.id == id && device.run == run) {
            return self.old_hears(at, input);
        }
        let Some(mut device) = self.take_device(id, run) else { return };
        if self.chance(1) {
            trace!(self, "{id:?} crashes before {input:?}");
            return self.restart(device);
        }
        let unix_ms = self.server.now_ms + self.skew_ms;
        let shown = self.trace.is_some().then(|| format!("{input:?}"));
        if let (Some(_), Input::Received(_, bytes)) = (&self.trace, &input) {
            let mut frames = tern_wire::frame::FrameBuffer::default();
            let mut frames = frames.read(bytes);
            while let Ok(Some(frame)) = frames.next(1 << 20) {
                let frame = <tern_proto::v1::ServerFrame as prost::Message>::decode(frame);
                trace!(self, "    {}", format!("{frame:?}").chars().take(200).collect::<String>());
            }
        }
        let actions = device.turn(Now { monotonic: self.now, unix_ms }, input, &self.server);
        if let Some(shown) = shown {
            trace!(self, "{id:?} {shown} -> {actions:?}");
            let tables = device.machine.tables();
            let logs = tables.logs(Which::All(None), 9).expect("read");
            let logs: Vec<_> =
                logs.iter().map(|log| (log.chat, log.position, log.top, log.told, log.acked)).collect();
            let generations = tables.generations().expect("read");
            trace!(self, "    (chat, position, top, told, acked) {logs:?}, generations {generations:?}");
        }
        if self.chance(1) {
            trace!(self, "{id:?} crashes after that");
            return self.restart(device);
        }
        for action in actions {
            self.perform(&mut device, action);
        }
        if let Some(at) = device.machine.wake_at() {
            // Clocks of the world have microseconds.
            let at = Duration::from_micros(at.as_nanos().div_ceil(1000) as u64);
            self.at(at, What::Wake(id, run));
        }
        if !device.untaken.is_empty() {
            let when = self.soon(if self.is_troubled { 3000 } else { 50 });
            self.at(when, What::App(id, run));
        }
        self.devices.insert(id, device);
    }

    /// A device that was copied does nothing any more that others notice; but it hears that it is replaced, and then it is over.
    fn old_hears(&mut self, at: usize, input: Input) {
        let now = Now { monotonic: self.now, unix_ms: self.server.now_ms };
        if matches!(input, Input::Received(..)) && !self.old[at].is_over {
            let actions = self.old[at].turn(now, input, &self.server);
            trace!(self, "{:?} that was copied -> {actions:?}", self.old[at].id);
        }
    }

    /// How many devices have heard that they were replaced.
    pub fn replaced(&self) -> usize {
        self.old.iter().filter(|device| device.is_over).count()
    }

    /// Takes a device of this run out of the world, for it to make a turn.
    fn take_device(&mut self, id: DeviceId, run: u64) -> Option<Device> {
        let is_it = self.devices.get(&id).is_some_and(|device| device.run == run && !device.is_over);
        is_it.then(|| self.devices.remove(&id).expect("it was just seen"))
    }

    fn restart(&mut self, device: Device) {
        if let Some((number, _)) = device.connection {
            self.break_off(number);
        }
        let (id, run) = (device.id, self.number());
        let device = device.restarted(&mut self.random, run);
        self.devices.insert(id, device);
        let when = self.soon(3000);
        // Its time begins anew in the real world; here it goes on.
        self.at(when, What::Wake(id, run));
    }

    fn break_off(&mut self, number: u64) {
        self.pipes.get_mut(&number).expect("pipes stay").is_broken = true;
        let when = self.soon(2000);
        self.at(when, What::UpEnd(number));
    }

    fn perform(&mut self, device: &mut Device, action: Action) {
        match action {
            Action::Connect(id) => self.connect(device, id),
            Action::Send(id, bytes) => {
                let Some((number, _)) = device.connection.filter(|(_, of)| *of == id) else { return };
                for piece in self.cut(bytes) {
                    let latency = Duration::from_micros(self.random.u64(100..20_000));
                    let pipe = self.pipes.get_mut(&number).expect("pipes stay");
                    pipe.up_at = pipe.up_at.max(self.now + latency);
                    let when = pipe.up_at;
                    self.at(when, What::Up(number, piece));
                }
            }
            Action::Close { connection, .. } => {
                if let Some((number, _)) = device.connection.take_if(|(_, of)| *of == connection) {
                    self.break_off(number);
                }
            }
            Action::Tell { .. } | Action::Status(_) | Action::Answer(..) | Action::Over => {}
        }
    }

    fn connect(&mut self, device: &mut Device, id: u64) {
        let number = self.number();
        let left = self.chance(70).then(|| self.random.usize(0..3000));
        let silently = self.chance(20);
        let is_broken = self.chance(10);
        let (up_at, down_at) = (self.now, self.now);
        let pipe = Pipe { device: device.id, run: device.run, id, up_at, down_at, left, silently, is_broken };
        self.pipes.insert(number, pipe);
        device.connection = Some((number, id));
        let when = self.soon(30);
        if !is_broken {
            self.at(when, What::Connected(number));
        } else if !silently {
            self.at(when, What::DownEnd(number));
        }
    }

    /// The application takes some of what it was told, and has dealt with some of that.
    fn app(&mut self, id: DeviceId, run: u64) {
        let Some(device) = self.devices.get_mut(&id).filter(|device| device.run == run) else { return };
        let count =
            if self.is_troubled { self.random.usize(0..=device.untaken.len()) } else { device.untaken.len() };
        for number in device.untaken.drain(..count).collect::<Vec<_>>() {
            device.progress.taken += 1;
            if let Some(number) = number {
                device.progress.dealt_with = number;
            }
        }
        let is_left = !device.untaken.is_empty();
        device.machine.note(device.progress);
        let minds = device.machine.minds();
        if is_left {
            let when = self.soon(2000);
            self.at(when, What::App(id, run));
        }
        if minds {
            self.input(id, run, Input::Due);
        }
    }

    fn some_device(&mut self) -> (DeviceId, u64) {
        let id = DEVICES[self.random.usize(0..DEVICES.len())];
        (id, self.devices[&id].run)
    }

    fn asks(&mut self, ask: Ask) {
        let (id, run) = self.some_device();
        let device = self.devices.get_mut(&id).expect("there are always all");
        if device.machine.takes_asks() {
            let input = device.asks(ask);
            self.input(id, run, input);
        }
    }

    fn text(&mut self) -> Vec<u8> {
        self.texts += 1;
        let long = if self.random.u32(0..10) == 0 { 900 } else { 0 };
        format!("{} {}", self.texts, "x".repeat(long)).into_bytes()
    }

    fn something_happens(&mut self) {
        match self.random.u32(0..100) {
            0..30 => {
                // To another user, to oneself, to somebody who never answers, to nobody.
                let chat = [1, 2, 2, 1, 3, 101][self.random.usize(0..6)];
                for _ in 0..self.random.u32(1..6) {
                    let body = self.text();
                    self.asks(Ask::Send(NewMessage::text(chat, body)));
                }
            }
            30..40 => {
                let (from, to) = (self.random.u64(3..5), self.random.u64(1..3));
                let many = if self.random.u32(0..60) == 0 { 700 } else { 5 };
                for _ in 0..self.random.u32(1..many) {
                    let text = self.text();
                    self.server.write(from, to, &text);
                }
                self.send_down();
            }
            40..47 => {
                let (chat, upto) = (self.random.u64(1..5), self.random.u64(1..20));
                self.asks(Ask::MarkRead { chat, upto });
            }
            47..52 => self.asks(Ask::Lookup(tern_proto::v1::lookup::By::UserId(2))),
            52..55 => self.asks(Ask::Flush),
            55..62 => {
                let (id, _) = self.some_device();
                let fails_after = self.random.bool().then(|| self.random.u32(0..8));
                trace!(self, "{id:?}'s store fails after {fails_after:?}");
                self.devices[&id].machine.tables().fail_after(fails_after);
            }
            62..70 => {
                let (id, run) = self.some_device();
                if let Some(device) = self.take_device(id, run) {
                    trace!(self, "{id:?} crashes");
                    self.restart(device);
                }
            }
            70..74 => self.server_restarts(false),
            74..78 => self.server_restarts(true),
            78..81 => self.server.take_copy(),
            81..84 => {
                self.server.cut();
                self.send_down();
            }
            84..88 => self.skew_ms = self.random.u64(0..3) * 60_000,
            88..91 => self.copy_takes_over(),
            _ => {
                let numbers: Vec<_> =
                    self.pipes.iter().filter(|(_, pipe)| !pipe.is_broken).map(|(n, _)| *n).collect();
                if !numbers.is_empty() {
                    let number = numbers[self.random.usize(0..numbers.len())];
                    self.pipes.get_mut(&number).expect("pipes stay").left = Some(self.random.usize(0..300));
                }
            }
        }
    }

    fn server_restarts(&mut self, put_back: bool) {
        match put_back {
            true => self.server.put_back(),
            false => self.server.restart(),
        }
        trace!(self, "the server starts again, put back {}: {} times", put_back, self.server.put_backs);
        let open: Vec<_> =
            self.pipes.iter().filter(|(n, pipe)| !pipe.is_broken && !self.server.is_there(**n)).collect();
        let open: Vec<_> = open.into_iter().map(|(number, _)| *number).collect();
        for number in open {
            let pipe = self.pipes.get_mut(&number).expect("pipes stay");
            pipe.is_broken = true;
            if !pipe.silently {
                let when = self.soon(50);
                self.at(when, What::DownEnd(number));
            }
        }
    }

    /// A copy of a device logs in, and goes on as that device. The one before hears that it is replaced, or nothing any more.
    fn copy_takes_over(&mut self) {
        let (id, run) = self.some_device();
        let Some(device) = self.take_device(id, run) else { return };
        trace!(self, "a copy of {id:?} takes over");
        let copied_run = self.number();
        let copy = device.copied(&mut self.random, copied_run);
        self.old.push(device);
        self.devices.insert(id, copy);
        self.at(self.now, What::Wake(id, copied_run));
    }

    fn everything_is_right(&self) {
        for (id, device) in &self.devices {
            let tables = device.machine.tables();
            assert!(!device.is_over, "{id:?} is over");
            assert!(device.is_caught_up, "{id:?} has not caught up");
            assert_eq!(tables.outbox().expect("read"), [], "{id:?} has not sent everything");
            assert!(device.asked.is_empty(), "{id:?} has not answered {:?}", device.asked);
            assert_eq!(tables.logs(Which::Gaps, 9).expect("read"), [], "{id:?} has gaps");
            assert!(!tables.is_in_doubt().expect("read"), "{id:?} has something in doubt");
            for (chat, head, acked) in self.server.heads(*id) {
                let log = tables.log(chat).expect("read").unwrap_or_default();
                let state = (log.position, log.top, log.told, acked, log.acked);
                assert_eq!(state, (head, head, head, head, head), "{id:?} with {chat}: {log:?}");
                for seq in self.server.began(*id, chat)..=head {
                    let own = tables.entry(chat, seq).expect("read").expect("up to the position");
                    let theirs = self.server.entry(id.0, chat, seq).expect("up to the head");
                    assert_eq!(own.body, theirs.body, "{id:?} with {chat}: {seq}");
                }
                // With oneself there is nobody to hear of, and a device asks for news of as many chats as one `Resume` takes. What another
                // device of the user's has sent, it may learn of only when it has asked.
                let is_only_one = id.0 == 2;
                if chat != id.0 && is_only_one && self.server.positions_max == POSITIONS_MAX {
                    let (known, last) = (log.others_delivered, log.last_own);
                    let delivered = self.server.delivered(chat, id.0);
                    assert_eq!(known.min(last), delivered.min(last), "{id:?} with {chat}: what has arrived");
                }
            }
            for (text, chat) in &device.kept {
                let times = self.server.times(id.0, *chat, text);
                assert!(times <= 1, "a message is there {times} times");
                let was_sent = self.server.numbers.contains_key(&(*id, text.clone()));
                assert!(was_sent || device.refused.contains(text), "a message that was kept never came");
                let is_lost = times == 0 && self.server.put_backs == 0 && !device.refused.contains(text);
                assert!(!is_lost, "a message that was kept is not there");
            }
        }
    }
}
