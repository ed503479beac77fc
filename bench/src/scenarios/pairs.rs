//! `pairs`: people who write to each other, at a rate (open loop) or with a window of unacknowledged messages (closed
//! loop). Every message is checked at its recipient.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use tern_proto::v1::{self, client_frame::Request, server_frame::Message};
use tern_testkit::TestUser;

use super::until_ready;
use crate::latency::{Latencies, Percentiles};
use crate::load::{Addresses, Arrivals, Happened, LinkId, Pool, PoolOptions, Schedule};
use crate::measure;
use crate::target::{Target, TargetArgs};

/// Bytes that a body begins with: the number of the message among its pair's, and when it was intended, in ns.
const STAMP_BYTES: usize = 16;

/// How long what was sent may take to arrive after the last send.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, clap::Args)]
pub struct PairsArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Pairs of a sender and a recipient
    #[arg(long, default_value_t = 100)]
    pairs: u32,
    /// Messages a second of all pairs together (open loop)
    #[arg(long, default_value_t = 10_000.0)]
    rate: f64,
    /// How the messages of --rate are spread
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    arrivals: Arrivals,
    /// Send the next message when one is acknowledged (closed loop), in place of --rate
    #[arg(long)]
    closed: bool,
    /// Unacknowledged messages of a sender with --closed
    #[arg(long, default_value_t = 16)]
    window: u32,
    /// Bytes of a message
    #[arg(long, default_value_t = 200)]
    size: usize,
    /// Seconds that are measured
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Seconds before those
    #[arg(long, default_value_t = 2)]
    warmup: u64,
    /// Threads of the generator
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// Repeats the schedule of a run
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct PairsReport {
    scenario: &'static str,
    seed: u64,
    seconds: u64,
    errors: u64,
    pairs: u32,
    size: usize,
    offered_per_s: f64,
    acked_per_s: f64,
    delivered_per_s: f64,
    ack_ms: Percentiles,
    delivery_ms: Percentiles,
    /// Null if the server is not the bench's own.
    server_cpu_us_per_message: Option<f64>,
    missing: u64,
    duplicates: u64,
    out_of_order: u64,
    #[serde(skip)]
    counts: Counts,
}

/// What one thread has counted. Rates and latencies are of the measured time alone, what must hold is of all of it.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    offered: u64,
    acked: u64,
    delivered: u64,
    errors: u64,
    sent_in_all: u64,
    missing: u64,
    duplicates: u64,
    out_of_order: u64,
    ack: Latencies,
    delivery: Latencies,
    first_error: Option<String>,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.offered += other.offered;
        self.acked += other.acked;
        self.delivered += other.delivered;
        self.errors += other.errors;
        self.sent_in_all += other.sent_in_all;
        self.missing += other.missing;
        self.duplicates += other.duplicates;
        self.out_of_order += other.out_of_order;
        self.ack.add(&other.ack);
        self.delivery.add(&other.delivery);
        self.first_error = self.first_error.take().or(other.first_error);
    }

    fn error(&mut self, why: String) {
        self.errors += 1;
        self.first_error.get_or_insert(why);
    }
}

impl PairsReport {
    /// Whether anything was lost, doubled, reordered or refused.
    pub fn is_correct(&self) -> bool {
        self.errors + self.missing + self.duplicates + self.out_of_order == 0
    }

    /// A line for people.
    pub fn line(&self) -> String {
        let Percentiles { p50, p99, p999, max } = self.ack_ms;
        let mut line = format!(
            "{:.0}/s offered, {:.0}/s acknowledged, {:.0}/s delivered; acknowledgement p50 {p50:.2} p99 {p99:.2} \
             p99.9 {p999:.2} max {max:.1} ms; delivery p50 {:.2} p99 {:.2} ms",
            self.offered_per_s,
            self.acked_per_s,
            self.delivered_per_s,
            self.delivery_ms.p50,
            self.delivery_ms.p99,
        );
        if let Some(cpu) = self.server_cpu_us_per_message {
            line += &format!("; server CPU {cpu:.1} us a message");
        }
        let Self { errors, missing, duplicates, out_of_order, .. } = self;
        if !self.is_correct() {
            line += &format!(
                "\nNOT CORRECT: {errors} errors, {missing} missing, {duplicates} duplicates, {out_of_order} out of order"
            );
            line +=
                &self.counts.first_error.as_deref().map(|why| format!("; first: {why}")).unwrap_or_default();
        }
        line
    }
}

/// Runs it.
pub fn run(arguments: &PairsArgs) -> Result<PairsReport, String> {
    if arguments.size < STAMP_BYTES {
        return Err(format!("--size is at least {STAMP_BYTES}"));
    }
    let target = Target::new(&arguments.target, 2 * arguments.pairs, &[])?;
    let measured =
        Duration::from_secs(arguments.warmup)..Duration::from_secs(arguments.warmup + arguments.seconds);
    let begin = Instant::now() + Duration::from_millis(500);
    let threads = arguments.threads.clamp(1, arguments.pairs.max(1));
    let cpu = target.pid().map(measure::cpu_s);
    let counts = thread::scope(|scope| {
        let run = |thread: u32| {
            let users: Vec<&[TestUser]> =
                target.users.chunks_exact(2).skip(thread as usize).step_by(threads as usize).collect();
            let (target, measured) = (&target, measured.clone());
            scope.spawn(move || {
                Thread::new(arguments, target, &users, thread, threads, begin, measured)?.run()
            })
        };
        let running: Vec<_> = (0..threads).map(run).collect();
        let mut counts = Counts::default();
        for thread in running {
            counts.add(thread.join().map_err(|_| "a generator thread has panicked".to_owned())??);
        }
        Ok::<_, String>(counts)
    })?;
    // From the connecting on: the share of what is not messages is small.
    let cpu_s = target.pid().map(measure::cpu_s).zip(cpu).map(|(after, before)| after - before);
    let per_s = |count: u64| count as f64 / arguments.seconds as f64;
    Ok(PairsReport {
        scenario: "pairs",
        seed: arguments.seed,
        seconds: arguments.seconds,
        errors: counts.errors,
        pairs: arguments.pairs,
        size: arguments.size,
        offered_per_s: per_s(counts.offered),
        acked_per_s: per_s(counts.acked),
        delivered_per_s: per_s(counts.delivered),
        ack_ms: counts.ack.percentiles(),
        delivery_ms: counts.delivery.percentiles(),
        server_cpu_us_per_message: cpu_s.map(|cpu_s| cpu_s * 1e6 / counts.sent_in_all.max(1) as f64),
        missing: counts.missing,
        duplicates: counts.duplicates,
        out_of_order: counts.out_of_order,
        counts,
    })
}

/// One pair.
struct Pair {
    sender: LinkId,
    recipient_id: u64,
    sent: u64,
    refused: u64,
    /// Intended moments of what is not acknowledged, by request.
    waiting: HashMap<u64, Duration>,
    received: u64,
    /// The lowest number that may come next, and the seq that must.
    next: u64,
    next_seq: u64,
}

impl Pair {
    /// What was not refused, and has not arrived.
    fn missing(&self) -> u64 {
        (self.sent - self.refused).saturating_sub(self.received)
    }
}

/// Which end of which pair a connection is.
#[derive(Clone, Copy)]
enum Role {
    Sender(usize),
    Recipient(usize),
}

struct Thread<'a> {
    arguments: &'a PairsArgs,
    pool: Pool,
    pairs: Vec<Pair>,
    roles: HashMap<LinkId, Role>,
    schedule: Schedule,
    begin: Instant,
    measured: std::ops::Range<Duration>,
    counts: Counts,
    turn: usize,
}

impl<'a> Thread<'a> {
    fn new(
        arguments: &'a PairsArgs,
        target: &Target,
        users: &[&[TestUser]],
        thread: u32,
        threads: u32,
        begin: Instant,
        measured: std::ops::Range<Duration>,
    ) -> Result<Self, String> {
        let options = PoolOptions { links: 2 * users.len() as u32 + 1, ring_entries: 4096 };
        let mut pool = Pool::new(&options, target.tls.clone()).map_err(|missing| missing.to_string())?;
        let mut addresses = Addresses::new(target.address, thread);
        let (mut pairs, mut roles) = (Vec::new(), HashMap::new());
        for pair in users {
            let mut dial = |user: &TestUser, resumes| {
                pool.dial(addresses.next(), &user.token, resumes)
                    .map_err(|error| format!("connecting: {error}"))
            };
            let (sender, recipient) = (dial(&pair[0], false)?, dial(&pair[1], true)?);
            roles.insert(sender, Role::Sender(pairs.len()));
            roles.insert(recipient, Role::Recipient(pairs.len()));
            let recipient_id = pair[1].id;
            pairs.push(Pair {
                sender,
                recipient_id,
                sent: 0,
                refused: 0,
                waiting: HashMap::new(),
                received: 0,
                next: 0,
                next_seq: 1,
            });
            // A server takes a burst of handshakes, but not thousands at once without making all of them wait.
            until_ready(&mut pool, 2)?;
        }
        let rate = arguments.rate / f64::from(threads);
        let schedule = Schedule::new(arguments.arrivals, rate, arguments.seed.wrapping_add(thread.into()));
        let counts = Counts::default();
        Ok(Self { arguments, pool, pairs, roles, schedule, begin, measured, counts, turn: 0 })
    }

    fn run(mut self) -> Result<Counts, String> {
        // Whoever is late with connecting begins late, and the schedule does not forgive it: so all begin together.
        while let Some(wait) = self.begin.checked_duration_since(Instant::now()) {
            thread::sleep(wait);
        }
        self.begin = Instant::now();
        let end = self.measured.end;
        if self.arguments.closed {
            for pair in 0..self.pairs.len() {
                (0..self.arguments.window).for_each(|_| self.send(pair, Duration::ZERO));
            }
        }
        while self.begin.elapsed() < end {
            let mut wait = Duration::from_millis(50);
            if !self.arguments.closed {
                let now = self.begin.elapsed();
                while let Some(intended) = self.schedule.due(now) {
                    self.turn = (self.turn + 1) % self.pairs.len();
                    self.send(self.turn, intended);
                }
                wait = wait.min(self.schedule.peek().saturating_sub(self.begin.elapsed()));
            }
            self.take(wait, true)?;
        }
        let last = Instant::now();
        while self.is_waiting() && last.elapsed() < DRAIN_TIMEOUT {
            self.take(Duration::from_millis(50), false)?;
        }
        self.counts.missing = self.pairs.iter().map(Pair::missing).sum();
        Ok(self.counts)
    }

    fn is_waiting(&self) -> bool {
        self.pairs.iter().any(|pair| !pair.waiting.is_empty() || pair.missing() > 0)
    }

    fn send(&mut self, index: usize, intended: Duration) {
        let pair = &mut self.pairs[index];
        let mut body = Vec::with_capacity(self.arguments.size);
        body.extend_from_slice(&pair.sent.to_le_bytes());
        body.extend_from_slice(&(intended.as_nanos() as u64).to_le_bytes());
        body.resize(self.arguments.size, b'x');
        pair.sent += 1;
        let kind = v1::Kind::Text.into();
        let send = v1::Send { peer: pair.recipient_id, client_id: pair.sent, body: body.into(), kind };
        let id = self.pool.request(pair.sender, Request::Send(send));
        pair.waiting.insert(id, intended);
        self.counts.sent_in_all += 1;
        if self.measured.contains(&intended) {
            self.counts.offered += 1;
        }
    }

    fn take(&mut self, wait: Duration, go_on: bool) -> Result<(), String> {
        let Self { pool, pairs, roles, measured, counts, begin, .. } = self;
        let mut acknowledged = Vec::new();
        let mut happen = |link: LinkId, happened: Happened| {
            let now = begin.elapsed();
            match (roles.get(&link), happened) {
                (Some(Role::Sender(at)), Happened::Frame(frame)) => {
                    let Some(intended) = pairs[*at].waiting.remove(&frame.id) else { return };
                    match frame.message {
                        Some(Message::Sent(_)) if measured.contains(&intended) => {
                            counts.acked += 1;
                            counts.ack.record(now.saturating_sub(intended));
                        }
                        Some(Message::Sent(_)) => {}
                        Some(Message::Refused(refused)) => {
                            pairs[*at].refused += 1;
                            counts.error(format!("{}: {}", refused.reason().as_str_name(), refused.detail));
                        }
                        _ => counts.error("a Send was answered by something else".to_owned()),
                    }
                    acknowledged.push((*at, now));
                }
                (Some(Role::Recipient(at)), Happened::Frame(frame)) => {
                    if let Some(Message::Entry(entry)) = frame.message {
                        delivered(&mut pairs[*at], &entry, now, measured, counts);
                    }
                }
                (_, Happened::Lost(why)) => counts.error(format!("a connection was lost: {why}")),
                (_, Happened::Ready) | (None, Happened::Frame(_)) => {}
            }
        };
        pool.turn(wait, &mut happen).map_err(|error| format!("the ring has failed: {error}"))?;
        if self.arguments.closed && go_on {
            acknowledged.into_iter().for_each(|(at, now)| self.send(at, now));
        }
        Ok(())
    }
}

/// Checks a message that has reached its recipient.
fn delivered(
    pair: &mut Pair,
    entry: &v1::Entry,
    now: Duration,
    measured: &std::ops::Range<Duration>,
    counts: &mut Counts,
) {
    let number = |at: usize| {
        let bytes = entry.body.get(at..at + 8).and_then(|bytes| bytes.first_chunk());
        bytes.map(|bytes| u64::from_le_bytes(*bytes))
    };
    let (Some(sent), Some(intended_ns)) = (number(0), number(8)) else {
        return counts.error("a body came that was not sent".to_owned());
    };
    if entry.seq < pair.next_seq {
        counts.duplicates += 1;
        return;
    }
    if entry.seq > pair.next_seq || sent < pair.next {
        counts.out_of_order += 1;
    }
    (pair.next_seq, pair.next) = (entry.seq + 1, sent + 1);
    pair.received += 1;
    let intended = Duration::from_nanos(intended_ns);
    if measured.contains(&intended) {
        counts.delivered += 1;
        counts.delivery.record(now.saturating_sub(intended));
    }
}
