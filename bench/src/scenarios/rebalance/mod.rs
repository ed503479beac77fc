//! `rebalance`: slots of people who write to each other move from core to core meanwhile. Every message is checked at its recipient; how
//! long each slot did not answer is told by the server. Before that, people who all lie on one core, and what they get when the
//! server has dealt them out.

mod skew;
mod slow;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde::Serialize;
use serde_json::json;
use tern_storage::{LogId, Slot};
use tern_testkit::{Ternd, TestUser};

use super::{Load, LogArgs};
use crate::arguments;
use crate::latency::{Latencies, Percentiles, table};
use crate::load::{Arrivals, Habits, Tally};
use crate::stop;
use crate::target::{OwnArgs, Target};

/// Before anything is measured.
const WARMUP: Duration = Duration::from_secs(2);

/// How long a closed loop is looked at, to know what a third of it is.
const CAPACITY: Duration = Duration::from_secs(4);

/// How often the generator looks whether all has moved.
const LOOK: Duration = Duration::from_millis(100);

/// Tries for each move that is to be made: a slot may be there already.
const TRIES: u32 = 20;

#[derive(Clone, Debug, clap::Args)]
pub struct RebalanceArgs {
    #[command(flatten)]
    own: OwnArgs,
    /// Pairs of a sender and a recipient
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Messages a second of all pairs together [default: a third of what a closed loop gives]
    #[arg(long, value_parser = arguments::positive)]
    rate: Option<f64>,
    /// Bytes of a message
    #[arg(long, default_value_t = 200, value_parser = arguments::message_size)]
    size: usize,
    /// Slots of these people and of their chats that move, one after another
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    moves: u32,
    /// Moves a second
    #[arg(long, default_value_t = 50.0, value_parser = arguments::positive)]
    moves_rate: f64,
    /// Seconds that are measured before the first move
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Seconds for which people are looked at who all lie on one core, before and after they are dealt out. 0: that is left out
    #[arg(long, default_value_t = 10)]
    skew_seconds: u64,
    /// Hundredths of a CPU that each core has while people lie on one of them: so it is the server that limits. 0: all of it
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=90))]
    core_percent: u32,
    /// Threads of the generator
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,
    #[command(flatten)]
    log: LogArgs,
    /// Repeats the schedule of a run, and what moves where
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct RebalanceReport {
    scenario: &'static str,
    seed: u64,
    errors: u64,
    pairs: u32,
    rate_per_s: f64,
    moves: u64,
    /// When the first slot moved, and the last, in s since the begin.
    from_s: f64,
    upto_s: f64,
    missing: u64,
    duplicates: u64,
    out_of_order: u64,
    connections_dropped: u64,
    ack_ms_before: Percentiles,
    ack_ms_during: Percentiles,
    delivery_ms_before: Percentiles,
    delivery_ms_during: Percentiles,
    /// What was asked of a slot that moved waited for so long.
    pause_ms: Percentiles,
    #[serde(flatten)]
    skew: Option<skew::Skew>,
    server_cpu_us_per_message: Option<f64>,
    #[serde(skip)]
    tally: Tally,
}

impl RebalanceReport {
    /// Whether anything was lost, doubled, reordered or refused, or a connection ended.
    pub fn is_correct(&self) -> bool {
        self.tally.is_correct() && self.skew.as_ref().is_none_or(skew::Skew::is_correct) && self.moves > 0
    }

    /// Lines for people.
    pub fn line(&self) -> String {
        let cpu = self.server_cpu_us_per_message.map(|cpu| format!(", server CPU {cpu:.1} us a message"));
        format!(
            "{:.0}/s of {} pairs; {} slots moved in {:.1} s; {} connections dropped{}\n\n{}{}{}",
            self.rate_per_s,
            self.pairs,
            self.moves,
            self.upto_s - self.from_s,
            self.connections_dropped,
            cpu.unwrap_or_default(),
            table(&[
                ("ack, before", &self.ack_ms_before),
                ("ack, during", &self.ack_ms_during),
                ("delivery, before", &self.delivery_ms_before),
                ("delivery, during", &self.delivery_ms_during),
                ("pause of a slot", &self.pause_ms),
            ]),
            self.skew.as_ref().map(skew::Skew::line).unwrap_or_default(),
            self.tally.wrong(),
        )
    }
}

/// What has moved: when, counted from the begin of the messages, and the pauses.
struct Moved {
    begin: Duration,
    end: Duration,
    pauses: Latencies,
}

/// Runs it.
pub fn run(arguments: &RebalanceArgs) -> Result<RebalanceReport, String> {
    let skew = match arguments.skew_seconds {
        0 => None,
        _ => Some(skew::run(arguments)?),
    };
    // Whoever shows what the server can is somebody else: messages of both would have the same numbers.
    let target = Target::start(&arguments.own, 4 * arguments.pairs, &[])?;
    let (first, users) = target.users.split_at(2 * arguments.pairs as usize);
    let server = target.own().expect("it was just started");
    let rate = match arguments.rate {
        Some(rate) => rate,
        None => capacity(arguments, &target, first)? / 3.0,
    };
    crate::progress(&format!("{rate:.0} messages a second; {} slots are to move", arguments.moves));
    let before = WARMUP..WARMUP + Duration::from_secs(arguments.seconds);
    let cpu = target.cpu_s_since(None);
    let load = load(arguments, &target, users, Some(rate), WARMUP..Duration::MAX);
    let (tally, moved) = beside(&load, |begun| move_slots(arguments, server, users, begun, before.end))?;
    let cpu_s = target.cpu_s_since(cpu);
    arguments.log.write(tally.begun, &[("ack", &tally.ack), ("delivery", &tally.delivery)])?;
    let during = moved.begin..moved.end;
    if during.is_empty() {
        return Err("it was stopped before anything moved".to_owned());
    }
    let of = |latencies: &Latencies, range: &std::ops::Range<Duration>| {
        Percentiles::of(&latencies.within(range.clone()))
    };
    Ok(RebalanceReport {
        scenario: "rebalance",
        seed: arguments.seed,
        errors: tally.errors,
        pairs: arguments.pairs,
        rate_per_s: rate,
        moves: moved.pauses.all().len(),
        from_s: during.start.as_secs_f64(),
        upto_s: during.end.as_secs_f64(),
        missing: tally.missing,
        duplicates: tally.duplicates,
        out_of_order: tally.out_of_order,
        connections_dropped: tally.connections_lost,
        ack_ms_before: of(&tally.ack, &before),
        ack_ms_during: of(&tally.ack, &during),
        delivery_ms_before: of(&tally.delivery, &before),
        delivery_ms_during: of(&tally.delivery, &during),
        pause_ms: Percentiles::of(&moved.pauses.all()),
        skew,
        server_cpu_us_per_message: cpu_s.map(|cpu_s| cpu_s * 1e6 / tally.sent_in_all.max(1) as f64),
        tally,
    })
}

fn load<'a>(
    arguments: &RebalanceArgs,
    target: &'a Target,
    users: &'a [TestUser],
    rate: Option<f64>,
    measured: std::ops::Range<Duration>,
) -> Load<'a> {
    let habits = Habits {
        rate: rate.map(|rate| (rate, Arrivals::Poisson)),
        window: 16,
        size: arguments.size,
        acknowledge: true,
        seed: arguments.seed,
        ..Habits::default()
    };
    Load {
        target,
        users,
        habits,
        threads: arguments.threads,
        measured,
        interval: arguments.log.interval(),
        sample_every: 0,
    }
}

/// Has a load go on until something else is done, which begins with it.
fn beside<T: Send>(
    load: &Load,
    other: impl FnOnce(Instant) -> Result<T, String> + Send,
) -> Result<(Tally, T), String> {
    let (begun, is_over) = (OnceLock::new(), AtomicBool::new(false));
    let (tally, done) = thread::scope(|scope| {
        let other = scope.spawn(|| {
            let done = other(*begun.wait());
            is_over.store(true, Ordering::Release);
            done
        });
        let act = |traffic: &mut crate::load::Traffic| {
            begun.get_or_init(|| traffic.begun());
            while !is_over.load(Ordering::Acquire) && !stop::asked() {
                traffic.go_on_until(traffic.begun().elapsed() + LOOK)?;
            }
            Ok(())
        };
        let tally = load.run(&act);
        // Whoever waits for a begin that did not come goes as well.
        is_over.store(true, Ordering::Release);
        begun.get_or_init(Instant::now);
        (tally, other.join().expect("it does not panic"))
    });
    Ok((tally?, done?))
}

/// Waits until a time after the begin has come, or it is to stop.
fn wait_until(begun: Instant, after: Duration) {
    while begun.elapsed() < after && !stop::asked() {
        thread::sleep(LOOK.min(after.saturating_sub(begun.elapsed())));
    }
}

/// Messages a second of a closed loop.
fn capacity(arguments: &RebalanceArgs, target: &Target, users: &[TestUser]) -> Result<f64, String> {
    let measured = Duration::from_secs(1)..CAPACITY;
    let load = load(arguments, target, users, None, measured.clone());
    let tally = load.run(&|traffic| traffic.go_on_until(measured.end))?;
    if !tally.is_correct() {
        return Err(tally.wrong());
    }
    let seconds = (measured.end - measured.start).as_secs_f64();
    Ok((tally.ack.within(measured).len() as f64 / seconds).max(3.0))
}

/// Moves slots of these people and their chats to cores at random, after a while.
fn move_slots(
    arguments: &RebalanceArgs,
    server: &Ternd,
    users: &[TestUser],
    begun: Instant,
    after: Duration,
) -> Result<Moved, String> {
    wait_until(begun, after);
    let of_users = users.iter().map(|user| Slot::of_user(user.id));
    let of_chats = users.chunks_exact(2).map(|pair| Slot::of_log(LogId::direct(pair[0].id, pair[1].id)));
    let slots: Vec<Slot> = of_users.chain(of_chats).collect();
    let cores =
        server.admin(&json!({ "ask": "cores" })).remove(0)["ok"]["cores"].as_array().map_or(0, Vec::len);
    if cores < 2 {
        return Err("slots move between cores: --cores 2 at least".to_owned());
    }
    let mut rng = Rng::with_seed(arguments.seed);
    let between = Duration::from_secs_f64(1.0 / arguments.moves_rate);
    let (begin, mut pauses) = (begun.elapsed(), Latencies::every(Duration::from_secs(1)));
    let (mut moved, mut tried) = (0, 0);
    while moved < arguments.moves && !stop::asked() {
        let next = begin + between * moved;
        thread::sleep(next.saturating_sub(begun.elapsed()));
        let (slot, to) = (slots[rng.usize(..slots.len())].number(), rng.usize(..cores));
        let answer = server.admin(&json!({ "ask": "move_slot", "slot": slot, "to": to })).remove(0);
        tried += 1;
        match answer["ok"]["pause_us"].as_u64() {
            Some(us) => {
                pauses.record(begun.elapsed(), Duration::from_micros(us));
                moved += 1;
            }
            None if tried > TRIES * arguments.moves => return Err(format!("slots do not move: {answer}")),
            None => {}
        }
    }
    Ok(Moved { begin, end: begun.elapsed(), pauses })
}
