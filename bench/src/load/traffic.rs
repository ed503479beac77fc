//! People who write to each other, checked at both ends: every message that was not refused reaches its recipient once, in
//! its order, with a seq that rises.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tern_proto::v1::{self, client_frame::Request, server_frame::Message};
use tern_testkit::TestUser;

use super::{Addresses, Arrivals, Happened, LinkId, Live, Pool, PoolOptions, Schedule};
use crate::latency::Latencies;
use crate::stop;
use crate::target::Target;

/// Bytes that a body begins with: the number of the message among its flow's, and when it was intended, in ns.
pub const STAMP_BYTES: usize = 16;

/// How long what was sent may take to arrive after the last send.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest wait for something to happen.
const WAIT_MAX: Duration = Duration::from_millis(50);

/// What people do.
#[derive(Clone, Debug, Default)]
pub struct Habits {
    /// Messages a second of all together, and how they are spread. Without: closed loop.
    pub rate: Option<(f64, Arrivals)>,
    /// Closed loop: unacknowledged messages of each sender.
    pub window: u32,
    /// Bytes of a message.
    pub size: usize,
    /// Which share of the messages has `large_size` bytes.
    pub large_share: f64,
    pub large_size: usize,
    /// Both of a pair write.
    pub both_write: bool,
    /// History pages that are read for each message, by whoever receives it.
    pub reads_per_write: f64,
    /// The rate may be more than the server can follow: what it refuses for that is no error.
    pub may_be_too_much: bool,
    /// Recipients acknowledge what they receive.
    pub acknowledge: bool,
    /// Repeats the schedule of a run.
    pub seed: u64,
}

/// What has been counted. What must hold is counted over all of the run, rates over the measured range alone.
#[derive(Clone, Debug)]
pub struct Tally {
    pub offered: u64,
    pub sent_in_all: u64,
    pub errors: u64,
    /// Messages that the server refused because too much was asked of it: at such a rate that is right.
    pub overloaded: u64,
    pub first_error: Option<String>,
    /// Connections that ended by themselves: each is an error as well.
    pub connections_lost: u64,
    pub missing: u64,
    pub duplicates: u64,
    pub out_of_order: u64,
    /// From the intended moment to the acknowledgement, to the recipient, to the history page.
    pub ack: Latencies,
    pub delivery: Latencies,
    pub read: Latencies,
    /// Sampled messages, by their sender and their client id.
    pub sampled: HashMap<(u64, u64), Sampled>,
    /// When the last one ended who sends: as it was planned, or when the user stopped it.
    pub ended: Duration,
    /// What all times are counted from.
    pub begun: Instant,
}

/// A message as its sender and its recipient saw it, in ns of the machine's monotonic clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sampled {
    pub intended: u64,
    pub acknowledged: u64,
    pub delivered: u64,
}

impl Tally {
    /// Nothing yet; latencies in histograms of `interval`.
    pub fn every(interval: Duration) -> Self {
        let latencies = || Latencies::every(interval);
        Self {
            offered: 0,
            sent_in_all: 0,
            errors: 0,
            overloaded: 0,
            first_error: None,
            connections_lost: 0,
            missing: 0,
            duplicates: 0,
            out_of_order: 0,
            ack: latencies(),
            delivery: latencies(),
            read: latencies(),
            sampled: HashMap::new(),
            ended: Duration::ZERO,
            begun: Instant::now(),
        }
    }

    /// Takes another thread's in.
    pub fn add(&mut self, other: Self) {
        self.offered += other.offered;
        self.sent_in_all += other.sent_in_all;
        self.errors += other.errors;
        self.overloaded += other.overloaded;
        self.first_error = self.first_error.take().or(other.first_error);
        self.connections_lost += other.connections_lost;
        self.missing += other.missing;
        self.duplicates += other.duplicates;
        self.out_of_order += other.out_of_order;
        self.ack.add(&other.ack);
        self.delivery.add(&other.delivery);
        self.read.add(&other.read);
        self.sampled.extend(other.sampled);
        self.ended = self.ended.max(other.ended);
        self.begun = other.begun;
    }

    /// Counts something that went wrong.
    pub fn error(&mut self, why: String) {
        self.errors += 1;
        self.first_error.get_or_insert(why);
    }

    /// Whether anything was lost, doubled, reordered or refused.
    pub fn is_correct(&self) -> bool {
        self.errors + self.missing + self.duplicates + self.out_of_order == 0
    }

    /// What was wrong, for people; empty if nothing was.
    pub fn wrong(&self) -> String {
        if self.is_correct() {
            return String::new();
        }
        let Self { errors, missing, duplicates, out_of_order, first_error, .. } = self;
        let first = first_error.as_deref().map(|why| format!("; first: {why}")).unwrap_or_default();
        format!(
            "\nNOT CORRECT: {errors} errors, {missing} missing, {duplicates} duplicates, {out_of_order} out of order{first}"
        )
    }
}

/// Messages of one sender to one recipient.
struct Flow {
    sender: LinkId,
    sender_id: u64,
    recipient: LinkId,
    recipient_id: u64,
    /// The first number of this run, and the one to be sent next.
    first: u64,
    next_to_send: u64,
    refused: u64,
    received: u64,
    /// The lowest number that may come next.
    next: u64,
    newest_seq: u64,
    /// The newest of those that the recipient has acknowledged.
    acknowledged_seq: u64,
}

impl Flow {
    /// What was not refused, and has not arrived.
    fn missing(&self) -> u64 {
        (self.next_to_send - self.first - self.refused).saturating_sub(self.received)
    }
}

/// What a request was for.
#[derive(Clone, Copy)]
enum Asked {
    Send { flow: usize, number: u64, intended: Duration },
    Read { intended: Duration },
    Acknowledge,
}

/// A connection's part in it.
#[derive(Default)]
struct Device {
    receives: Option<usize>,
    asked: HashMap<u64, Asked>,
}

/// See the module. One thread's share, on a ring of its own.
pub struct Traffic {
    habits: Habits,
    pool: Pool,
    pairs: usize,
    flows: Vec<Flow>,
    devices: Vec<Device>,
    writes: Schedule,
    reads: Option<Schedule>,
    rng: Rng,
    begin: Instant,
    /// When intended messages count as offered.
    measured: Range<Duration>,
    /// Every so many messages of a flow are sampled; 0: none.
    sample_every: u64,
    tally: Tally,
    live: Arc<Live>,
    turn: usize,
    touched: Vec<usize>,
}

impl Traffic {
    /// Connects pairs of users, from source addresses of this thread's own. Rates are for this thread.
    pub fn connect(
        habits: Habits,
        target: &Target,
        pairs: &[&[TestUser]],
        thread: u32,
        (tally, live): (Tally, Arc<Live>),
    ) -> Result<Self, String> {
        let options = PoolOptions { links: 2 * pairs.len() as u32 + 1, ring_entries: 4096, silent: false };
        let mut pool = Pool::new(&options).map_err(|missing| missing.to_string())?;
        let mut addresses = Addresses::new(target.address, thread);
        let mut devices: Vec<Device> = (0..options.links).map(|_| Device::default()).collect();
        let mut flows = Vec::new();
        let first = target.first_number();
        for pair in pairs {
            let mut dial = |user: &TestUser| {
                let dialled = pool.dial(addresses.next(), &target.tls, &user.token, true);
                dialled.map_err(|error| format!("connecting: {error}"))
            };
            let links = [dial(&pair[0])?, dial(&pair[1])?];
            let mut flow = |from: usize, to: usize| {
                devices[links[to] as usize].receives = Some(flows.len());
                flows.push(Flow {
                    sender: links[from],
                    sender_id: pair[from].id,
                    recipient: links[to],
                    recipient_id: pair[to].id,
                    first,
                    next_to_send: first,
                    refused: 0,
                    received: 0,
                    next: first,
                    newest_seq: 0,
                    acknowledged_seq: 0,
                });
            };
            flow(0, 1);
            if habits.both_write {
                flow(1, 0);
            }
            // A server takes a burst of handshakes, but not thousands at once without making all of them wait.
            pool.until_ready(2)?;
        }
        let seed = habits.seed.wrapping_add(thread.into());
        let (rate, arrivals) = habits.rate.unwrap_or((1.0, Arrivals::Constant));
        let reads = (habits.reads_per_write > 0.0)
            .then(|| Schedule::new(arrivals, rate * habits.reads_per_write, seed ^ 1));
        Ok(Self {
            writes: Schedule::new(arrivals, rate, seed),
            reads,
            rng: Rng::with_seed(seed ^ 2),
            habits,
            pool,
            pairs: pairs.len(),
            flows,
            devices,
            begin: Instant::now(),
            measured: Duration::ZERO..Duration::MAX,
            sample_every: 0,
            tally,
            live,
            turn: 0,
            touched: Vec::new(),
        })
    }

    /// Has every so many messages of a flow, by their client id, sampled.
    pub fn sample_every(&mut self, every: u64) {
        self.sample_every = every;
    }

    /// Changes the rate from now on: `factor` times the habit's.
    pub fn set_pace(&mut self, factor: f64) {
        let now = self.begin.elapsed();
        if let Some((rate, _)) = self.habits.rate {
            self.writes.set_rate(now, rate * factor);
            if let Some(reads) = &mut self.reads {
                reads.set_rate(now, rate * factor * self.habits.reads_per_write);
            }
        }
    }

    /// Begins at a moment that all threads share.
    pub fn begin(&mut self, at: Instant, measured: Range<Duration>) {
        (self.begin, self.measured) = (at, measured);
        if self.habits.rate.is_none() {
            let now = self.begin.elapsed();
            for flow in 0..self.flows.len() {
                (0..self.habits.window).for_each(|_| self.send(flow, now));
            }
        }
    }

    /// When it began.
    pub fn begun(&self) -> Instant {
        self.begin
    }

    /// Goes on until a moment of the run, or until the user stops it.
    pub fn go_on_until(&mut self, end: Duration) -> Result<(), String> {
        while self.begin.elapsed() < end && !stop::asked() {
            let mut wait = WAIT_MAX;
            if self.habits.rate.is_some() {
                wait = self.do_what_is_due(wait);
            }
            self.take(wait, true)?;
        }
        Ok(())
    }

    /// Waits for what is under way, and gives what was counted.
    pub fn end(mut self) -> Result<Tally, String> {
        (self.tally.begun, self.tally.ended) = (self.begin, self.begin.elapsed());
        let last = Instant::now();
        while self.is_waiting() && last.elapsed() < DRAIN_TIMEOUT {
            self.take(WAIT_MAX, false)?;
        }
        self.tally.missing = self.flows.iter().map(Flow::missing).sum();
        Ok(self.tally)
    }

    fn is_waiting(&self) -> bool {
        self.flows.iter().any(|flow| flow.missing() > 0)
            || self.devices.iter().any(|device| !device.asked.is_empty())
    }

    /// Sends what is due, and gives how long nothing else will be.
    fn do_what_is_due(&mut self, wait: Duration) -> Duration {
        let now = self.begin.elapsed();
        while let Some(intended) = self.writes.due(now) {
            self.turn = (self.turn + 1) % self.flows.len();
            self.send(self.turn, intended);
        }
        let mut next = self.writes.peek();
        while let Some(intended) = self.reads.as_mut().and_then(|reads| reads.due(now)) {
            self.read(intended);
        }
        if let Some(reads) = &self.reads {
            next = next.min(reads.peek());
        }
        wait.min(next.saturating_sub(self.begin.elapsed()))
    }

    fn body(&mut self, number: u64, intended: Duration) -> Vec<u8> {
        let large = self.habits.large_share > 0.0 && self.rng.f64() < self.habits.large_share;
        let size = if large { self.habits.large_size } else { self.habits.size };
        let mut body = Vec::with_capacity(size);
        body.extend_from_slice(&number.to_le_bytes());
        body.extend_from_slice(&(intended.as_nanos() as u64).to_le_bytes());
        body.resize(size, b'x');
        body
    }

    fn send(&mut self, index: usize, intended: Duration) {
        let number = self.flows[index].next_to_send;
        let body = self.body(number, intended).into();
        let flow = &mut self.flows[index];
        flow.next_to_send += 1;
        let kind = v1::Kind::Text.into();
        let send =
            v1::Send { chat: flow.recipient_id, client_id: number + 1, body, kind, ..Default::default() };
        let id = self.pool.request(flow.sender, Request::Send(send));
        let asked = Asked::Send { flow: index, number, intended };
        self.devices[flow.sender as usize].asked.insert(id, asked);
        self.tally.sent_in_all += 1;
        if self.measured.contains(&intended) {
            self.tally.offered += 1;
        }
    }

    /// Somebody reads the newest page of a chat.
    fn read(&mut self, intended: Duration) {
        let flow = &self.flows[self.rng.usize(..self.flows.len())];
        let history = v1::History { chat: flow.sender_id, from: 0, forwards: false, limit: 20 };
        let id = self.pool.request(flow.recipient, Request::History(history));
        self.devices[flow.recipient as usize].asked.insert(id, Asked::Read { intended });
    }

    fn acknowledge(&mut self) {
        for index in std::mem::take(&mut self.touched) {
            let flow = &mut self.flows[index];
            if flow.acknowledged_seq < flow.newest_seq {
                flow.acknowledged_seq = flow.newest_seq;
                let upto = flow.newest_seq;
                let chat = flow.sender_id;
                let acknowledge = v1::Acknowledge { chat, delivered_upto: upto, read_upto: upto };
                let id = self.pool.request(flow.recipient, Request::Acknowledge(acknowledge));
                self.devices[flow.recipient as usize].asked.insert(id, Asked::Acknowledge);
            }
        }
    }

    fn take(&mut self, wait: Duration, go_on: bool) -> Result<(), String> {
        let Self { pool, flows, devices, begin, tally, live, touched, habits, sample_every, .. } = self;
        let mut acknowledged = Vec::new();
        let mut watch = Watch {
            flows,
            begin: *begin,
            tally,
            live,
            touched,
            sample_every: *sample_every,
            may_be_too_much: habits.may_be_too_much,
        };
        let mut happen = |link: LinkId, happened: Happened| match happened {
            Happened::Frame(frame) if frame.id > 0 => {
                if let Some(asked) = devices[link as usize].asked.remove(&frame.id) {
                    watch.answered(asked, frame.message);
                    if let Asked::Send { flow, .. } = asked {
                        acknowledged.push(flow);
                    }
                }
            }
            Happened::Frame(v1::ServerFrame { message: Some(Message::Entry(entry)), .. }) => {
                match devices[link as usize].receives {
                    Some(flow) => watch.delivered(flow, &entry),
                    None => watch.error("an entry came to somebody who only sends".to_owned()),
                }
            }
            Happened::Frame(_) | Happened::Ready => {}
            Happened::Lost(why) => {
                watch.tally.connections_lost += 1;
                watch.error(format!("a connection was lost: {why}"));
            }
        };
        pool.turn(wait, &mut happen).map_err(|error| format!("the ring has failed: {error}"))?;
        if self.tally.connections_lost as usize == 2 * self.pairs {
            let why = self.tally.first_error.as_deref().unwrap_or_default();
            return Err(format!(
                "the server has gone after {:.1} s: of all connections none is left; {why}",
                self.begin.elapsed().as_secs_f64()
            ));
        }
        if habits.acknowledge {
            self.acknowledge();
        } else {
            self.touched.clear();
        }
        if self.habits.rate.is_none() && go_on {
            let now = self.begin.elapsed();
            acknowledged.into_iter().for_each(|flow| self.send(flow, now));
        }
        Ok(())
    }
}

/// Looks at what comes.
struct Watch<'a> {
    flows: &'a mut [Flow],
    begin: Instant,
    tally: &'a mut Tally,
    live: &'a Live,
    touched: &'a mut Vec<usize>,
    sample_every: u64,
    may_be_too_much: bool,
}

impl Watch<'_> {
    fn error(&mut self, why: String) {
        self.live.error();
        self.tally.error(why);
    }

    fn answered(&mut self, asked: Asked, answer: Option<Message>) {
        let now = self.begin.elapsed();
        match (asked, answer) {
            (Asked::Send { flow, number, intended }, Some(Message::Sent(_))) => {
                let after = now.saturating_sub(intended);
                self.tally.ack.record(intended, after);
                self.live.acknowledged(after);
                self.sample(flow, number, intended, |sampled, now| sampled.acknowledged = now);
            }
            (Asked::Read { intended }, Some(Message::HistoryPage(_))) => {
                self.tally.read.record(intended, now.saturating_sub(intended));
            }
            (Asked::Acknowledge, Some(Message::Acknowledged(_))) => {}
            (asked, Some(Message::Refused(refused))) => {
                if let Asked::Send { flow, .. } = asked {
                    self.flows[flow].refused += 1;
                }
                let may_be = matches!(asked, Asked::Send { .. }) && self.may_be_too_much;
                if may_be && refused.reason() == v1::Reason::Overloaded {
                    self.tally.overloaded += 1;
                    return;
                }
                // Who has not been written to yet has no history.
                let nothing_yet =
                    matches!(asked, Asked::Read { .. }) && refused.reason() == v1::Reason::UnknownUser;
                if !nothing_yet {
                    self.error(format!("{}: {}", refused.reason().name(), refused.detail));
                }
            }
            _ => self.error("a request was answered by something else".to_owned()),
        }
    }

    /// Checks a message that has reached its recipient.
    fn delivered(&mut self, index: usize, entry: &v1::Entry) {
        let number = |at: usize| {
            let bytes = entry.body.get(at..at + 8).and_then(|bytes| bytes.first_chunk());
            bytes.map(|bytes| u64::from_le_bytes(*bytes))
        };
        let (Some(sent), Some(intended_ns)) = (number(0), number(8)) else {
            return self.error("a body came that was not sent".to_owned());
        };
        let flow = &mut self.flows[index];
        if sent < flow.first {
            return; // Of a run before this one.
        }
        if entry.seq <= flow.newest_seq {
            self.tally.duplicates += 1;
            return;
        }
        // What was left out was refused, or is missing in the end.
        if sent < flow.next {
            self.tally.out_of_order += 1;
        }
        (flow.newest_seq, flow.next) = (entry.seq, sent + 1);
        flow.received += 1;
        self.touched.push(index);
        let intended = Duration::from_nanos(intended_ns);
        self.tally.delivery.record(intended, self.begin.elapsed().saturating_sub(intended));
        self.sample(index, sent, intended, |sampled, now| sampled.delivered = now);
    }

    fn sample(&mut self, flow: usize, number: u64, intended: Duration, set: impl FnOnce(&mut Sampled, u64)) {
        let client_id = number + 1;
        if self.sample_every == 0 || !client_id.is_multiple_of(self.sample_every) {
            return;
        }
        let now = monotonic_ns();
        let ago = self.begin.elapsed().saturating_sub(intended).as_nanos() as u64;
        let sampled = self.tally.sampled.entry((self.flows[flow].sender_id, client_id)).or_default();
        sampled.intended = now - ago;
        set(sampled, now);
    }
}

/// Ns of the machine's monotonic clock: the same for all processes.
fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
