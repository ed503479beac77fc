//! `resume`: devices that come back: with nothing new, and with messages that came while they were away.

use std::time::{Duration, Instant};

use serde::Serialize;
use tern_proto::v1::{self, client_frame::Request, server_frame::Message};

use super::LogArgs;
use crate::arguments;
use crate::latency::{Latencies, Percentiles, table};
use crate::load::{Arrivals, Fleet, Happened, Schedule, WAIT};
use crate::stop;
use crate::target::{Target, TargetArgs};

/// Messages on their way at once: fewer than a server refuses.
const UNDER_WAY_MAX: u64 = 500;

/// How long nothing may happen while something is waited for.
const SILENCE_MAX: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, clap::Args)]
pub struct ResumeArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Devices that come back, each with somebody who writes to it
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    devices: u32,
    /// Messages that each has missed
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    missed: u32,
    /// Bytes of a message
    #[arg(long, default_value_t = 200, value_parser = arguments::message_size)]
    size: usize,
    /// Devices that come back in a second
    #[arg(long, default_value_t = 200.0, value_parser = arguments::positive)]
    rate: f64,
    #[command(flatten)]
    log: LogArgs,
    /// Repeats the schedule of a run
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct ResumeReport {
    scenario: &'static str,
    seed: u64,
    seconds: f64,
    errors: u64,
    devices: u32,
    missed: u32,
    /// From the intended moment of dialling, the handshake and the login included, to `CaughtUp`.
    nothing_new_ms: Percentiles,
    caught_up_ms: Percentiles,
    missing: u64,
    duplicates: u64,
    out_of_order: u64,
    #[serde(skip)]
    first_error: Option<String>,
}

impl ResumeReport {
    /// Whether every device got what it had missed, once and in order.
    pub fn is_correct(&self) -> bool {
        self.errors + self.missing + self.duplicates + self.out_of_order == 0
    }

    /// A line for people.
    pub fn line(&self) -> String {
        let Self { errors, missing, duplicates, out_of_order, .. } = self;
        let first = self.first_error.as_deref().map(|why| format!("; first: {why}")).unwrap_or_default();
        let with = format!("{} messages", self.missed);
        format!(
            "{} devices, from dialling to caught up; {errors} errors, {missing} missing, {duplicates} duplicates, \
             {out_of_order} out of order{first}\n\n{}",
            self.devices,
            table(&[("nothing new", &self.nothing_new_ms), (&with, &self.caught_up_ms)]),
        )
    }
}

/// Runs it.
pub fn run(arguments: &ResumeArgs) -> Result<ResumeReport, String> {
    let begin = Instant::now();
    let target = Target::new(&arguments.target, 2 * arguments.devices, &[])?;
    let first = target.first_number();
    let (readers, writers) = target.users.split_at(arguments.devices as usize);
    let mut writing = Fleet::new(&target, writers, 0, false)?;
    let mut reading = Reading {
        fleet: Fleet::new(&target, readers, 10, true)?,
        writers: writers.iter().map(|user| user.id).collect(),
        devices: vec![Device::default(); arguments.devices as usize],
        errors: 0,
        duplicates: 0,
        out_of_order: 0,
        first_error: None,
        run: begin,
    };
    let connected = writing.connect(0..arguments.devices)?;
    if let Some(why) = connected.first_error {
        return Err(format!("a connection was lost: {why}"));
    }
    // One message makes the chat; then nothing is new.
    let peers: Vec<u64> = readers.iter().map(|user| user.id).collect();
    write(&mut writing, &peers, first + 1..first + 2, arguments.size)?;
    let mut made = Latencies::default();
    reading.come_back(arguments, 1, &mut made)?;
    let (mut nothing_new, mut caught_up) = (Latencies::default(), Latencies::default());
    reading.come_back(arguments, 0, &mut nothing_new)?;
    let missed = u64::from(arguments.missed);
    write(&mut writing, &peers, first + 2..first + 2 + missed, arguments.size)?;
    reading.come_back(arguments, missed, &mut caught_up)?;
    arguments.log.write(begin, &[("nothing-new", &nothing_new), ("caught-up", &caught_up)])?;
    let due = 1 + missed;
    let missing = reading.devices.iter().map(|device| due.saturating_sub(device.received)).sum();
    Ok(ResumeReport {
        scenario: "resume",
        seed: arguments.seed,
        seconds: begin.elapsed().as_secs_f64(),
        errors: reading.errors,
        devices: arguments.devices,
        missed: arguments.missed,
        nothing_new_ms: Percentiles::of(&nothing_new.all()),
        caught_up_ms: Percentiles::of(&caught_up.all()),
        // What was stopped has not been waited for.
        missing: if stop::asked() { 0 } else { missing },
        duplicates: reading.duplicates,
        out_of_order: reading.out_of_order,
        first_error: reading.first_error,
    })
}

/// Writes messages with these client ids to each peer, and waits until all are acknowledged.
fn write(
    fleet: &mut Fleet,
    peers: &[u64],
    client_ids: std::ops::Range<u64>,
    size: usize,
) -> Result<(), String> {
    let of_device = |(device, chat): (usize, &u64)| {
        client_ids.clone().map(move |client_id| (device as u32, client_id)).zip(std::iter::repeat(*chat))
    };
    let all: Vec<_> = peers.iter().enumerate().flat_map(of_device).collect();
    let (mut next, mut waits) = (all.into_iter().peekable(), 0u64);
    let (mut refused, mut heard) = (None, Instant::now());
    while (waits > 0 || next.peek().is_some()) && !stop::asked() {
        while waits < UNDER_WAY_MAX
            && let Some(((device, client_id), chat)) = next.next()
        {
            let (body, kind) = (vec![b'x'; size].into(), v1::Kind::Text.into());
            let send = v1::Send { chat, client_id, body, kind, ..Default::default() };
            waits += u64::from(fleet.request(device, Request::Send(send)));
        }
        fleet.turn(WAIT, &mut |_, happened| {
            heard = Instant::now();
            match happened {
                Happened::Frame(v1::ServerFrame { message: Some(Message::Sent(_)), .. }) => waits -= 1,
                Happened::Frame(v1::ServerFrame { message: Some(Message::Refused(why)), .. }) => {
                    refused = Some(format!("{}: {}", why.reason().name(), why.detail));
                }
                Happened::Lost(why) => refused = Some(why),
                Happened::Frame(_) | Happened::Ready => {}
            }
        })?;
        if let Some(why) = refused {
            return Err(format!("a message was not taken: {why}"));
        }
        if heard.elapsed() > SILENCE_MAX {
            return Err(format!("{waits} messages were not acknowledged"));
        }
    }
    Ok(())
}

#[derive(Clone, Default)]
struct Device {
    intended: Duration,
    received: u64,
    newest_seq: u64,
    done: bool,
}

/// Those who come back.
struct Reading<'a> {
    fleet: Fleet<'a>,
    writers: Vec<u64>,
    devices: Vec<Device>,
    errors: u64,
    duplicates: u64,
    out_of_order: u64,
    first_error: Option<String>,
    /// What the times of the log are counted from.
    run: Instant,
}

impl Reading<'_> {
    /// All come by a schedule, take what is new, acknowledge it, and go.
    fn come_back(&mut self, arguments: &ResumeArgs, new: u64, taken: &mut Latencies) -> Result<(), String> {
        let mut schedule = Schedule::new(Arrivals::Poisson, arguments.rate, arguments.seed);
        let (begin, mut heard) = (Instant::now(), Instant::now());
        let mut next = 0..arguments.devices;
        self.devices.iter_mut().for_each(|device| device.done = false);
        let (mut done, mut came) = (0, 0u32);
        while done < arguments.devices && heard.elapsed() < SILENCE_MAX && !stop::asked() {
            while came < arguments.devices
                && let Some(intended) = schedule.due(begin.elapsed())
                && let Some(device) = next.next()
            {
                came += 1;
                self.devices[device as usize].intended = intended;
                self.fleet.dial(device)?;
            }
            let wait =
                if came < arguments.devices { schedule.peek().saturating_sub(begin.elapsed()) } else { WAIT };
            for device in self.take(wait.min(WAIT), begin, taken)? {
                heard = Instant::now();
                if std::mem::replace(&mut self.devices[device as usize].done, true) {
                    continue;
                }
                done += 1;
                if new == 0 {
                    self.fleet.hang_up(device);
                    continue;
                }
                let (chat, upto) = (self.writers[device as usize], self.devices[device as usize].newest_seq);
                let acknowledge = v1::Acknowledge { chat, delivered_upto: upto, read_upto: upto };
                self.fleet.request(device, Request::Acknowledge(acknowledge));
            }
        }
        self.until_silent(new)
    }

    /// Takes what comes, and gives who has caught up.
    fn take(&mut self, wait: Duration, begin: Instant, taken: &mut Latencies) -> Result<Vec<u32>, String> {
        let mut caught_up = Vec::new();
        let Self { fleet, devices, errors, duplicates, out_of_order, first_error, run, .. } = self;
        fleet.turn(wait, &mut |number, happened| {
            let device = &mut devices[number as usize];
            match happened {
                Happened::Frame(v1::ServerFrame { message: Some(Message::Entry(entry)), .. }) => {
                    if entry.seq <= device.newest_seq {
                        *duplicates += 1;
                        return;
                    }
                    *out_of_order += u64::from(device.newest_seq > 0 && entry.seq > device.newest_seq + 1);
                    device.newest_seq = entry.seq;
                    device.received += 1;
                }
                Happened::Frame(v1::ServerFrame { message: Some(Message::CaughtUp(_)), .. }) => {
                    taken.record(
                        begin - *run + device.intended,
                        begin.elapsed().saturating_sub(device.intended),
                    );
                    caught_up.push(number);
                }
                Happened::Lost(why) => {
                    *errors += 1;
                    first_error.get_or_insert(why);
                }
                Happened::Frame(_) | Happened::Ready => {}
            }
        })?;
        Ok(caught_up)
    }

    /// Waits for the acknowledgements of acknowledgements, and ends what is left.
    fn until_silent(&mut self, new: u64) -> Result<(), String> {
        let count = self.devices.len() as u32;
        let mut acknowledged = if new == 0 { count } else { 0 };
        let mut heard = Instant::now();
        let mut next = 0;
        while acknowledged < count && heard.elapsed() < SILENCE_MAX && !stop::asked() {
            // A ping behind them is answered after them.
            while next < count {
                self.fleet.request(next, Request::Ping(v1::Ping {}));
                next += 1;
            }
            self.fleet.turn(WAIT, &mut |_, happened| {
                if let Happened::Frame(v1::ServerFrame { message: Some(Message::Pong(_)), .. }) = happened {
                    acknowledged += 1;
                    heard = Instant::now();
                }
            })?;
        }
        (0..count).for_each(|device| self.fleet.hang_up(device));
        Ok(())
    }
}
