//! `pairs`: people who write to each other, at a rate (open loop) or with a window of unacknowledged messages (closed
//! loop). Every message is checked at its recipient.

use std::time::Duration;

use serde::Serialize;

use super::lasting::{Sample, Watch};
use super::{Load, LogArgs};
use crate::arguments;
use crate::latency::{Latencies, Percentiles, table};
use crate::load::{Arrivals, Fleet, Habits, Tally};
use crate::target::{Target, TargetArgs};

/// Where the addresses of silent users begin, away from those of all threads.
const SILENT_BLOCK: u32 = 100;

/// How long after the last of the silent users the messages begin: the server has let go of what it needs for those who are not.
const SETTLE: Duration = Duration::from_secs(6);

#[derive(Clone, Debug, clap::Args)]
pub struct PairsArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Pairs of a sender and a recipient
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Messages a second of all pairs together (open loop)
    #[arg(long, default_value_t = 10_000.0, value_parser = arguments::positive, conflicts_with = "closed")]
    rate: f64,
    /// How the messages of --rate are spread
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    arrivals: Arrivals,
    /// Send the next message when one is acknowledged (closed loop), in place of --rate
    #[arg(long)]
    closed: bool,
    /// Unacknowledged messages of a sender with --closed
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    window: u32,
    /// Bytes of a message
    #[arg(long, default_value_t = 200, value_parser = arguments::message_size)]
    size: usize,
    /// Seconds that are measured
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Seconds before those
    #[arg(long, default_value_t = 2)]
    warmup: u64,
    /// Threads of the generator
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,
    /// Users who are connected and silent meanwhile
    #[arg(long, default_value_t = 0)]
    silent: u32,
    #[command(flatten)]
    log: LogArgs,
    /// Repeats the schedule of a run
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct PairsReport {
    scenario: &'static str,
    seed: u64,
    /// What was measured: less than was asked for if the user stopped it.
    seconds: f64,
    errors: u64,
    pairs: u32,
    silent: u32,
    size: usize,
    /// Messages a second that were asked for; null in a closed loop.
    rate_per_s: Option<f64>,
    /// Unacknowledged messages of a sender; null in an open loop.
    window: Option<u32>,
    offered_per_s: f64,
    acked_per_s: f64,
    delivered_per_s: f64,
    /// Messages refused because the rate is more than the server can follow.
    overloaded: u64,
    ack_ms: Percentiles,
    delivery_ms: Percentiles,
    /// Null if the server is not the bench's own.
    server_cpu_us_per_message: Option<f64>,
    /// Bytes that reached the disk while it was measured, by everybody on the machine; null as above.
    disk_bytes_per_message: Option<f64>,
    /// The bench's own server, second by second.
    samples: Vec<Sample>,
    missing: u64,
    duplicates: u64,
    out_of_order: u64,
    #[serde(skip)]
    tally: Tally,
}

impl PairsReport {
    /// Whether anything was lost, doubled, reordered or refused.
    pub fn is_correct(&self) -> bool {
        self.tally.is_correct()
    }

    /// Lines for people.
    pub fn line(&self) -> String {
        let asked = match (self.rate_per_s, self.window) {
            (Some(rate), _) => format!("{rate:.0}/s asked for, "),
            (None, window) => format!("{} in flight a sender, ", window.unwrap_or_default()),
        };
        let refused = match self.overloaded {
            0 => String::new(),
            count => format!(
                "\n{count} messages were refused as too much: the server does not follow at this rate"
            ),
        };
        let cpu = self.server_cpu_us_per_message.map(|cpu| format!("\nserver CPU {cpu:.1} us a message"));
        let disk = self.disk_bytes_per_message.map(|bytes| {
            format!("{} {bytes:.0} bytes to the disk a message", if cpu.is_some() { "," } else { "\n" })
        });
        format!(
            "{asked}{:.0}/s offered, {:.0}/s acknowledged, {:.0}/s delivered{refused}{}{}\n\n{}{}",
            self.offered_per_s,
            self.acked_per_s,
            self.delivered_per_s,
            cpu.unwrap_or_default(),
            disk.unwrap_or_default(),
            table(&[("acknowledgement", &self.ack_ms), ("delivery", &self.delivery_ms)]),
            self.tally.wrong(),
        )
    }
}

/// Runs it.
pub fn run(arguments: &PairsArgs) -> Result<PairsReport, String> {
    let more: &[&str] = if arguments.silent > 0 { &["--limit", "idle_timeout_ms=3600000"] } else { &[] };
    let target = Target::new(&arguments.target, 2 * arguments.pairs + arguments.silent, more)?;
    let (writers, silent) = target.users.split_at(2 * arguments.pairs as usize);
    let mut silent = Fleet::silent(&target, silent, SILENT_BLOCK)?;
    if arguments.silent > 0 {
        let connected = silent.connect(0..arguments.silent)?;
        connected.first_error.map_or(Ok(()), Err)?;
        silent.be_silent(SETTLE)?;
    }
    let measured =
        Duration::from_secs(arguments.warmup)..Duration::from_secs(arguments.warmup + arguments.seconds);
    let cpu = target.cpu_s_since(None);
    let watch = Watch::begin(&target);
    let tally = Load {
        target: &target,
        users: writers,
        habits: habits(arguments),
        threads: arguments.threads,
        measured: measured.clone(),
        interval: arguments.log.interval(),
        sample_every: 0,
    }
    .run(&|traffic| traffic.go_on_until(measured.end))?;
    // From the connecting on: the share of what is not messages is small.
    let cpu_s = target.cpu_s_since(cpu);
    let samples = watch.map(Watch::end).unwrap_or_default();
    if arguments.silent > 0 {
        silent.be_silent(Duration::from_millis(100))?;
    }
    arguments.log.write(tally.begun, &[("ack", &tally.ack), ("delivery", &tally.delivery)])?;
    let measured = measured.start..measured.end.min(tally.ended);
    if measured.is_empty() {
        return Err("it was stopped before anything was measured".to_owned());
    }
    let seconds = (measured.end - measured.start).as_secs_f64();
    let samples = with_rates(samples, &tally.ack);
    let disk_bytes = disk_bytes_within(&samples, &measured);
    let (ack, delivery) = (tally.ack.within(measured.clone()), tally.delivery.within(measured));
    let per_s = |count: u64| count as f64 / seconds;
    Ok(PairsReport {
        scenario: "pairs",
        seed: arguments.seed,
        seconds,
        errors: tally.errors,
        pairs: arguments.pairs,
        silent: arguments.silent,
        size: arguments.size,
        rate_per_s: (!arguments.closed).then_some(arguments.rate),
        window: arguments.closed.then_some(arguments.window),
        offered_per_s: per_s(tally.offered),
        acked_per_s: per_s(ack.len()),
        delivered_per_s: per_s(delivery.len()),
        overloaded: tally.overloaded,
        ack_ms: Percentiles::of(&ack),
        delivery_ms: Percentiles::of(&delivery),
        server_cpu_us_per_message: cpu_s.map(|cpu_s| cpu_s * 1e6 / tally.sent_in_all.max(1) as f64),
        disk_bytes_per_message: disk_bytes.map(|bytes| bytes as f64 / ack.len().max(1) as f64),
        samples,
        missing: tally.missing,
        duplicates: tally.duplicates,
        out_of_order: tally.out_of_order,
        tally,
    })
}

/// The samples with the messages acknowledged in the last whole second before each.
fn with_rates(samples: Vec<Sample>, acknowledged: &Latencies) -> Vec<Sample> {
    let within = |sample: Sample| {
        // What is logged is logged by whole seconds: a range across two would have both.
        let at = Duration::from_secs(sample.at_s as u64);
        let acked = acknowledged.within(at.saturating_sub(Duration::from_secs(1))..at).len();
        Sample { acked_per_s: acked as f64, ..sample }
    };
    samples.into_iter().map(within).collect()
}

/// Bytes that reached the disk between the samples closest to the ends of what is measured.
fn disk_bytes_within(samples: &[Sample], measured: &std::ops::Range<Duration>) -> Option<u64> {
    let begin = samples.iter().find(|sample| sample.at_s >= measured.start.as_secs_f64() - 0.5)?;
    let end = samples.iter().rev().find(|sample| sample.at_s <= measured.end.as_secs_f64() + 0.5)?;
    Some(end.disk_bytes?.saturating_sub(begin.disk_bytes?))
}

fn habits(arguments: &PairsArgs) -> Habits {
    Habits {
        rate: (!arguments.closed).then_some((arguments.rate, arguments.arrivals)),
        window: arguments.window,
        may_be_too_much: !arguments.closed,
        size: arguments.size,
        seed: arguments.seed,
        ..Habits::default()
    }
}
