//! `storm`: many devices lose their connections and come back at once, while others write to each other.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde::Serialize;

use super::{Load, LogArgs};
use crate::arguments;
use crate::latency::{Percentiles, table};
use crate::load::{Arrivals, Fleet, Habits, Happened, Tally, Traffic, WAIT};
use crate::stop;
use crate::target::{Target, TargetArgs};

/// What a client waits before it tries again: a random time up to this, doubled with each try.
const BACKOFF: Duration = Duration::from_millis(500);

/// Where that doubling ends.
const BACKOFF_DOUBLINGS: u32 = 5;

/// How long a storm may last.
const STORM_MAX: Duration = Duration::from_secs(300);

/// Devices that dial between two looks at what has come.
const DIALS: usize = 64;

/// How long the live traffic goes on after all are back.
const AFTER: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, clap::Args)]
pub struct StormArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// How many come back
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    devices: u32,
    /// Pairs that write meanwhile
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Messages a second of those
    #[arg(long, default_value_t = 500.0, value_parser = arguments::positive)]
    rate: f64,
    /// Bytes of a message
    #[arg(long, default_value_t = 200, value_parser = arguments::message_size)]
    size: usize,
    /// Seconds of live traffic before the storm
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    before: u64,
    #[command(flatten)]
    log: LogArgs,
    /// Repeats the order of a run
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct StormReport {
    scenario: &'static str,
    seed: u64,
    seconds: f64,
    errors: u64,
    devices: u32,
    all_back_s: f64,
    /// When the storm began and ended, in seconds since the begin of the live traffic.
    from_s: f64,
    upto_s: f64,
    /// Connections that were refused or lost on the way, and were tried again.
    tries_again: u64,
    /// Of those who are back, how many resumed their TLS session with a ticket.
    resumed: u64,
    handshakes_per_s: f64,
    live_ack_ms_before: Percentiles,
    live_ack_ms_during: Percentiles,
    /// CPU time of the server a device that came back, live traffic included. Null if the server is not the bench's own.
    server_cpu_us_per_device: Option<f64>,
    missing: u64,
    duplicates: u64,
    out_of_order: u64,
    back: u64,
    #[serde(skip)]
    tally: Tally,
}

impl StormReport {
    /// Whether all came back and no message was lost, doubled, reordered or refused.
    pub fn is_correct(&self) -> bool {
        self.tally.is_correct() && (stop::asked() || self.back == u64::from(self.devices))
    }

    /// Lines for people.
    pub fn line(&self) -> String {
        let cpu = self.server_cpu_us_per_device.map(|cpu| format!("; server CPU {cpu:.0} us a device"));
        format!(
            "{} of {} devices back after {:.2} s ({:.0}/s, {} tries again; {} resumed their TLS session){}\n\nacknowledgements of those who write\n{}{}",
            self.back,
            self.devices,
            self.all_back_s,
            self.handshakes_per_s,
            self.tries_again,
            self.resumed,
            cpu.unwrap_or_default(),
            table(&[("before", &self.live_ack_ms_before), ("during", &self.live_ack_ms_during)]),
            self.tally.wrong(),
        )
    }
}

/// Runs it.
pub fn run(arguments: &StormArgs) -> Result<StormReport, String> {
    let target = Target::new(&arguments.target, arguments.devices + 2 * arguments.pairs, &[])?;
    let (devices, writers) = target.users.split_at(arguments.devices as usize);
    let mut storm = Storm {
        fleet: Fleet::new(&target, devices, 10, true)?,
        rng: Rng::with_seed(arguments.seed),
        later: VecDeque::new(),
        tries_again: 0,
        back: 0,
    };
    let connected = storm.fleet.connect(0..arguments.devices)?;
    let resumed_before = storm.fleet.resumed();
    if let Some(why) = connected.first_error {
        return Err(format!("a connection was lost before the storm: {why}"));
    }
    let load = Load {
        target: &target,
        users: writers,
        habits: Habits {
            rate: Some((arguments.rate, Arrivals::Poisson)),
            size: arguments.size,
            seed: arguments.seed,
            ..Habits::default()
        },
        threads: 1,
        measured: Duration::ZERO..Duration::MAX,
        interval: Duration::from_millis(100),
        sample_every: 0,
    };
    let over = AtomicBool::new(false);
    let (begun, begin) = channel();
    let (tally, blown) = thread::scope(|scope| {
        let (load, over) = (&load, &over);
        let live = scope.spawn(move || load.run(&|traffic| write_on(traffic, &begun, over)));
        let blown = begin.recv().map_err(|_| "the live traffic could not begin".to_owned());
        let blown = blown.and_then(|begin| storm.blow(&target, begin, arguments));
        over.store(true, Ordering::Release);
        let tally = live.join().map_err(|_| "the live traffic has panicked".to_owned())??;
        Ok::<_, String>((tally, blown?))
    })?;
    arguments.log.write(tally.begun, &[("live-ack", &tally.ack), ("live-delivery", &tally.delivery)])?;
    // The first moments after connecting are not the usual.
    let settled = Duration::from_secs(1).min(blown.from);
    let seconds = (blown.upto - blown.from).as_secs_f64();
    let back = storm.back;
    Ok(StormReport {
        scenario: "storm",
        seed: arguments.seed,
        seconds,
        errors: tally.errors,
        devices: arguments.devices,
        all_back_s: seconds,
        from_s: blown.from.as_secs_f64(),
        upto_s: blown.upto.as_secs_f64(),
        tries_again: storm.tries_again,
        resumed: storm.fleet.resumed() - resumed_before,
        handshakes_per_s: back as f64 / seconds,
        live_ack_ms_before: Percentiles::of(&tally.ack.within(settled..blown.from)),
        live_ack_ms_during: Percentiles::of(&tally.ack.within(blown.from..blown.upto)),
        server_cpu_us_per_device: blown.cpu_s.map(|cpu_s| cpu_s * 1e6 / back.max(1) as f64),
        missing: tally.missing,
        duplicates: tally.duplicates,
        out_of_order: tally.out_of_order,
        back,
        tally,
    })
}

/// Writes until the storm is over, and a little longer.
fn write_on(traffic: &mut Traffic, begun: &Sender<Instant>, over: &AtomicBool) -> Result<(), String> {
    // Whoever waits for it lives as long as this.
    let _ = begun.send(traffic.begun());
    while !over.load(Ordering::Acquire) && !stop::asked() {
        traffic.go_on_until(traffic.begun().elapsed() + Duration::from_millis(50))?;
    }
    traffic.go_on_until(traffic.begun().elapsed() + AFTER)
}

/// When a storm was, counted from the begin of the live traffic, and what it cost.
struct Blown {
    from: Duration,
    upto: Duration,
    cpu_s: Option<f64>,
}

struct Storm<'a> {
    fleet: Fleet<'a>,
    rng: Rng,
    /// Who tries again, and when.
    later: VecDeque<(Instant, u32)>,
    tries_again: u64,
    back: u64,
}

impl Storm<'_> {
    fn blow(&mut self, target: &Target, begin: Instant, arguments: &StormArgs) -> Result<Blown, String> {
        let idle = Duration::from_secs(arguments.before);
        while begin.elapsed() < idle && !stop::asked() {
            self.fleet.turn(WAIT, &mut |_, _| {})?;
        }
        let (from, cpu_before) = (begin.elapsed(), target.cpu_s_since(None));
        let count = arguments.devices;
        (0..count).for_each(|device| self.fleet.hang_up(device));
        self.fleet.turn(WAIT, &mut |_, _| {})?;
        let mut tries = vec![0u32; count as usize];
        let (mut next, mut told) = (0..count, Instant::now());
        while self.back < u64::from(count) && !stop::asked() {
            if begin.elapsed() > from + STORM_MAX {
                break;
            }
            for device in next.by_ref().take(DIALS) {
                self.fleet.dial(device)?;
            }
            self.dial_again()?;
            let mut lost = Vec::new();
            let back = &mut self.back;
            self.fleet.turn(WAIT, &mut |device, happened| match happened {
                Happened::Ready => *back += 1,
                Happened::Frame(_) => {}
                Happened::Lost(_) => lost.push(device),
            })?;
            lost.into_iter().for_each(|device| self.put_off(device, &mut tries));
            if told.elapsed() > Duration::from_secs(2) {
                told = Instant::now();
                crate::progress(&format!("{} of {count} back", self.back));
            }
        }
        Ok(Blown { from, upto: begin.elapsed(), cpu_s: target.cpu_s_since(cpu_before) })
    }

    fn put_off(&mut self, device: u32, tries: &mut [u32]) {
        self.tries_again += 1;
        let doublings = tries[device as usize].min(BACKOFF_DOUBLINGS);
        tries[device as usize] += 1;
        let wait = (BACKOFF * (1 << doublings)).mul_f64(self.rng.f64());
        let at = Instant::now() + wait;
        let place = self.later.partition_point(|(other, _)| *other <= at);
        self.later.insert(place, (at, device));
    }

    fn dial_again(&mut self) -> Result<(), String> {
        while let Some((_, device)) = self.later.pop_front_if(|(at, _)| *at <= Instant::now()) {
            self.fleet.dial(device)?;
        }
        Ok(())
    }
}
