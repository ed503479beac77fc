//! `mixed`: a day of people: each writes 50 messages and reads ten history pages for each of them, one message in five is
//! as large as a body may be, recipients acknowledge, and at the peak everything is ten times as much.

use std::time::Duration;

use serde::Serialize;

use super::{Load, LogArgs};
use crate::arguments;
use crate::latency::{Latencies, Micros, Percentiles, table};
use crate::load::{Arrivals, Habits, Tally};
use crate::target::{Target, TargetArgs};

/// Messages that a user writes in a day.
const MESSAGES_A_DAY: f64 = 50.0;

const DAY_S: f64 = 86_400.0;

/// Reads of history for each message.
const READS_PER_WRITE: f64 = 10.0;

/// The share of messages that are large.
const LARGE_SHARE: f64 = 0.2;

/// How much more the peak is than the usual.
const PEAK: f64 = 10.0;

#[derive(Clone, Debug, clap::Args)]
pub struct MixedArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// People, all connected
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(2..))]
    users: u32,
    /// How many times faster than life
    #[arg(long, default_value_t = 20.0, value_parser = arguments::positive)]
    speed: f64,
    /// Bytes of most messages
    #[arg(long, default_value_t = 200, value_parser = arguments::message_size)]
    size: usize,
    /// Bytes of one in five: at most what a body may have
    #[arg(long, default_value_t = 60_000, value_parser = arguments::message_size)]
    large_size: usize,
    /// Seconds: the middle third is the peak
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(3..))]
    seconds: u64,
    /// Threads of the generator
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,
    #[command(flatten)]
    log: LogArgs,
    /// Repeats the schedule of a run
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// One part of the day.
#[derive(Debug, Serialize)]
struct Part {
    writes_per_s: f64,
    reads_per_s: f64,
    ack_ms: Percentiles,
    delivery_ms: Percentiles,
    read_ms: Percentiles,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct MixedReport {
    scenario: &'static str,
    seed: u64,
    seconds: f64,
    errors: u64,
    users: u32,
    usual: Part,
    peak: Part,
    /// A write with its delivery and acknowledgements, and the ten reads that belong to it.
    server_cpu_us_per_write: Option<f64>,
    missing: u64,
    duplicates: u64,
    out_of_order: u64,
    #[serde(skip)]
    tally: Tally,
}

impl MixedReport {
    /// Whether anything was lost, doubled, reordered or refused.
    pub fn is_correct(&self) -> bool {
        self.tally.is_correct()
    }

    /// Lines for people.
    pub fn line(&self) -> String {
        let part = |name: &str, part: &Part| {
            format!(
                "{name}: {:.0} writes/s, {:.0} reads/s\n{}\n\n",
                part.writes_per_s,
                part.reads_per_s,
                table(&[
                    ("acknowledgement", &part.ack_ms),
                    ("delivery", &part.delivery_ms),
                    ("a page of history", &part.read_ms),
                ]),
            )
        };
        let cpu =
            self.server_cpu_us_per_write.map(|cpu| format!("server CPU {cpu:.0} us a write with its reads"));
        let (usual, peak) = (part("usual", &self.usual), part("peak", &self.peak));
        format!("{usual}{peak}{}{}", cpu.unwrap_or_default(), self.tally.wrong()).trim_end().to_owned()
    }
}

/// What people do all day, at `speed` times life.
pub fn habits(users: u32, speed: f64, size: usize, large_size: usize, seed: u64) -> Habits {
    let rate = f64::from(users) * MESSAGES_A_DAY / DAY_S * speed;
    Habits {
        rate: Some((rate, Arrivals::Poisson)),
        size,
        large_share: LARGE_SHARE,
        large_size,
        both_write: true,
        reads_per_write: READS_PER_WRITE,
        acknowledge: true,
        seed,
        ..Habits::default()
    }
}

/// Runs it.
pub fn run(arguments: &MixedArgs) -> Result<MixedReport, String> {
    let users = arguments.users / 2 * 2;
    let target = Target::new(&arguments.target, users, &[])?;
    let end = Duration::from_secs(arguments.seconds);
    let (rise, fall) = (end / 3, end * 2 / 3);
    let cpu = target.cpu_s_since(None);
    let tally = Load {
        target: &target,
        users: &target.users[..users as usize],
        habits: habits(users, arguments.speed, arguments.size, arguments.large_size, arguments.seed),
        threads: arguments.threads,
        measured: Duration::ZERO..end,
        interval: arguments.log.interval(),
        sample_every: 0,
    }
    .run(&|traffic| {
        traffic.go_on_until(rise)?;
        traffic.set_pace(PEAK);
        traffic.go_on_until(fall)?;
        traffic.set_pace(1.0);
        traffic.go_on_until(end)
    })?;
    let cpu_s = target.cpu_s_since(cpu);
    let kinds = [("ack", &tally.ack), ("delivery", &tally.delivery), ("read", &tally.read)];
    arguments.log.write(tally.begun, &kinds)?;
    let both = |latencies: &Latencies| {
        let mut usual = latencies.within(Duration::ZERO..rise);
        usual += latencies.within(fall..end);
        usual
    };
    let peak = |latencies: &Latencies| latencies.within(rise..fall);
    // The user may have stopped it anywhere.
    let ended = tally.ended.min(end);
    let of_peak = ended.clamp(rise, fall) - rise;
    Ok(MixedReport {
        scenario: "mixed",
        seed: arguments.seed,
        seconds: ended.as_secs_f64(),
        errors: tally.errors,
        users,
        usual: part(&tally, &both, ended - of_peak),
        peak: part(&tally, &peak, of_peak),
        server_cpu_us_per_write: cpu_s.map(|cpu_s| cpu_s * 1e6 / tally.sent_in_all.max(1) as f64),
        missing: tally.missing,
        duplicates: tally.duplicates,
        out_of_order: tally.out_of_order,
        tally,
    })
}

fn part(tally: &Tally, select: &dyn Fn(&Latencies) -> Micros, time: Duration) -> Part {
    let (ack, delivery, read) = (select(&tally.ack), select(&tally.delivery), select(&tally.read));
    // Of no time at all there is no rate.
    let per_s = |count: u64| if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() };
    Part {
        writes_per_s: per_s(ack.len()),
        reads_per_s: per_s(read.len()),
        ack_ms: Percentiles::of(&ack),
        delivery_ms: Percentiles::of(&delivery),
        read_ms: Percentiles::of(&read),
    }
}
