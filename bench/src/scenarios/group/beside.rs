//! The same messages, to as many members, through another server: what a fan-out takes that keeps nothing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde::Serialize;

use super::rivals::{Rival, RivalServer};
use super::speakers::{Heard, Member, Mqtt, Nats};
use super::{GroupArgs, SILENCE_MAX, Spread, Times, speaker};
use crate::load::{Addresses, Arrivals, Happened, Pool, PoolOptions, Schedule, WAIT};
use crate::{measure, stop};

/// Connections of one ring, and of one of these servers: the limit of open files bounds both, usually to 20,000.
const CONNECTIONS_MAX: u32 = 16_000;

/// Handshakes under way at once.
const HANDSHAKES: u32 = 128;

/// Bytes at the begin of a message: its number.
const NUMBER_BYTES: usize = 8;

/// What was found.
#[derive(Debug, Serialize)]
pub struct BesideReport {
    server: String,
    errors: u64,
    messages: u64,
    #[serde(flatten)]
    times: Times,
    server_cpu_us_per_message: f64,
    missing: u64,
    duplicates: u64,
    #[serde(skip)]
    first_error: Option<String>,
}

impl BesideReport {
    /// A line for people.
    pub fn line(&self) -> String {
        let Self { server, messages, errors, missing, duplicates, server_cpu_us_per_message: cpu, .. } = self;
        let first = self.first_error.as_deref().map(|why| format!("; first: {why}")).unwrap_or_default();
        format!(
            "\n\nbeside it, {server}: {messages} messages; {errors} errors, {missing} missing, {duplicates} duplicates{first}\n\
             {cpu:.1} us of server CPU a message\n\n{}",
            self.times.table()
        )
    }
}

/// A message: what is known of it.
struct Told {
    intended: Duration,
    heard: u32,
}

struct Talk<'a> {
    arguments: &'a GroupArgs,
    pool: Pool<Member>,
    begin: Instant,
    told: Vec<Told>,
    /// The intended moments of messages that are not acknowledged, by device.
    waiting: Vec<VecDeque<Duration>>,
    spread: Spread,
    ready: u32,
    errors: u64,
    duplicates: u64,
    first_error: Option<String>,
    heard_at: Instant,
}

/// Runs it.
pub fn run(rival: Rival, version: String, arguments: &GroupArgs) -> Result<BesideReport, String> {
    let count = arguments.groups * arguments.members;
    if count > CONNECTIONS_MAX {
        return Err(format!("{rival} can have {CONNECTIONS_MAX} connections here, and not {count}"));
    }
    crate::progress(&format!("beside it: {rival}"));
    let server = RivalServer::start(rival)?;
    let options = PoolOptions { links: count, ring_entries: 1024, silent: false };
    let mut talk = Talk {
        arguments,
        pool: Pool::new(&options).map_err(|missing| missing.to_string())?,
        begin: Instant::now(),
        told: Vec::new(),
        waiting: vec![VecDeque::new(); count as usize],
        spread: Spread::default(),
        ready: 0,
        errors: 0,
        duplicates: 0,
        first_error: None,
        heard_at: Instant::now(),
    };
    talk.connect(rival, &server)?;
    let before = measure::cpu_s(server.pid());
    talk.talk()?;
    let cpu_s = measure::cpu_s(server.pid()) - before;
    Ok(BesideReport {
        server: version,
        errors: talk.errors,
        messages: talk.told.len() as u64,
        times: talk.spread.times(),
        server_cpu_us_per_message: cpu_s * 1e6 / talk.told.len().max(1) as f64,
        missing: if stop::asked() { 0 } else { talk.missing() },
        duplicates: talk.duplicates,
        first_error: talk.first_error,
    })
}

impl Talk<'_> {
    /// A connection for each member, subscribed to what its group says.
    fn connect(&mut self, rival: Rival, server: &RivalServer) -> Result<(), String> {
        let mut addresses = Addresses::new(server.address, 0);
        let count = self.arguments.groups * self.arguments.members;
        let mut dialled = 0;
        while self.ready < count {
            while dialled < count && dialled - self.ready < HANDSHAKES {
                let subject = format!("g{}", dialled / self.arguments.members);
                let member = match rival {
                    Rival::Nats => Member::Nats(Nats::new(&server.tls, subject)),
                    Rival::Mqtt => Member::Mqtt(
                        Mqtt::new(&server.tls, subject, format!("m{dialled}"))
                            .map_err(|error| error.to_string())?,
                    ),
                };
                let link = self.pool.connect(addresses.next(), member);
                // Links are given in their order, and none is given again.
                let link = link.map_err(|error| format!("connecting: {error}"))?;
                debug_assert_eq!(link, dialled);
                dialled += 1;
            }
            self.turn(WAIT)?;
            if let Some(why) = &self.first_error {
                return Err(format!("a connection to {rival} was lost: {why}"));
            }
            if self.heard_at.elapsed() > SILENCE_MAX || stop::asked() {
                return Err(format!("{} of {count} connections to {rival} are ready", self.ready));
            }
        }
        Ok(())
    }

    /// Some talk, by the schedule that tern had.
    fn talk(&mut self) -> Result<(), String> {
        let GroupArgs { rate, size, seconds, seed, .. } = *self.arguments;
        let (mut rng, time) = (Rng::with_seed(seed), Duration::from_secs_f64(seconds));
        let mut schedule = Schedule::new(Arrivals::Poisson, rate, seed);
        (self.begin, self.heard_at) = (Instant::now(), Instant::now());
        loop {
            let now = self.begin.elapsed();
            while let Some(intended) = schedule.due(now.min(time)) {
                let (_, device) = speaker(&mut rng, self.arguments);
                let mut body = (self.told.len() as u64).to_be_bytes().to_vec();
                body.resize(size.max(NUMBER_BYTES), b'x');
                self.told.push(Told { intended, heard: 0 });
                self.waiting[device as usize].push_back(intended);
                self.pool.with(device, |member| member.publish(&body));
            }
            let is_over = now > time && self.missing() == 0;
            if is_over || self.heard_at.elapsed() > SILENCE_MAX || stop::asked() {
                return Ok(());
            }
            let wait = if now < time { schedule.peek().saturating_sub(now).min(WAIT) } else { WAIT };
            self.turn(wait)?;
        }
    }

    fn missing(&self) -> u64 {
        let due = self.arguments.members - 1;
        self.told.iter().map(|told| u64::from(due.saturating_sub(told.heard))).sum()
    }

    /// Takes what has come.
    fn turn(&mut self, wait: Duration) -> Result<(), String> {
        let mut came = Vec::new();
        let turned = self.pool.turn(wait, &mut |device, happened| came.push((device, happened)));
        turned.map_err(|error| format!("the ring has failed: {error}"))?;
        let now = self.begin.elapsed();
        if !came.is_empty() {
            self.heard_at = Instant::now();
        }
        for (device, happened) in came {
            match happened {
                Happened::Ready => self.ready += 1,
                Happened::Frame(Heard::Message(body)) => self.message(now, &body),
                Happened::Frame(Heard::Acknowledged) => {
                    if let Some(intended) = self.waiting[device as usize].pop_front() {
                        self.spread.sent.record(now, now.saturating_sub(intended));
                    }
                }
                Happened::Lost(why) => {
                    self.errors += 1;
                    self.first_error.get_or_insert(why);
                }
            }
        }
        Ok(())
    }

    fn message(&mut self, now: Duration, body: &[u8]) {
        let others = self.arguments.members - 1;
        let number = body.first_chunk().map(|number| u64::from_be_bytes(*number) as usize);
        let Some(told) = number.and_then(|number| self.told.get_mut(number)) else { return };
        told.heard += 1;
        self.spread.heard(now, told.intended, told.heard, others);
        self.duplicates += u64::from(told.heard > others);
    }
}
