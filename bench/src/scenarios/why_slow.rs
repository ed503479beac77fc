//! `why-slow`: follows sampled messages from station to station, and says where the slow ones lose their time, and where the
//! server's CPU time goes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::Load;
use crate::arguments;
use crate::latency::{Micros, Percentiles, micros, record, table};
use crate::load::{Arrivals, Habits, Sampled, Tally};
use crate::measure::{self, ThreadTimes};
use crate::stop;
use crate::target::{OwnArgs, Target};

/// The way to the sender's acknowledgement: each step, and the stations that it lies between.
const TO_ACKNOWLEDGEMENT: [(&str, &str, &str); 8] = [
    ("reaching the core", "intended", "received"),
    ("opening and parsing", "received", "decrypted"),
    ("routing to the log's core", "decrypted", "routed"),
    ("deciding and numbering", "routed", "batched"),
    ("the rest of the core's turn", "batched", "submitted"),
    ("the store's group commit", "submitted", "committed"),
    ("acknowledging", "committed", "acknowledged"),
    ("reaching the sender", "acknowledged", "has-acknowledgement"),
];

/// And to the recipient, from the commit on.
const TO_RECIPIENT: [(&str, &str, &str); 2] =
    [("pushing", "committed", "delivered"), ("reaching the recipient", "delivered", "has-message")];

#[derive(Clone, Debug, clap::Args)]
pub struct WhySlowArgs {
    #[command(flatten)]
    own: OwnArgs,
    /// Pairs of a sender and a recipient
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Messages a second of all pairs together
    #[arg(long, default_value_t = 10_000.0, value_parser = arguments::positive)]
    rate: f64,
    /// Bytes of a message
    #[arg(long, default_value_t = 200, value_parser = arguments::message_size)]
    size: usize,
    /// Seconds of it
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Follow one message in so many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// Repeats the schedule of a run
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What one step took, in ms.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    step: &'static str,
    p50: f64,
    p99: f64,
    /// On average, of the one message in a hundred that was acknowledged last.
    mean_of_slow: f64,
}

/// CPU time of a part of the server.
#[derive(Clone, Debug, Serialize)]
pub struct Cpu {
    pub part: String,
    pub us_per_message: f64,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct WhySlowReport {
    scenario: &'static str,
    seed: u64,
    seconds: f64,
    rate_per_s: f64,
    errors: u64,
    sampled: usize,
    ack_ms: Percentiles,
    steps: Vec<Step>,
    steps_to_recipient: Vec<Step>,
    /// The step that makes the p99.
    slowest: &'static str,
    cpu: Vec<Cpu>,
    #[serde(skip)]
    tally: Tally,
}

impl WhySlowReport {
    /// Whether anything was lost, doubled, reordered or refused.
    pub fn is_correct(&self) -> bool {
        self.tally.is_correct() && (self.sampled > 0 || stop::asked())
    }

    /// Lines for people.
    pub fn line(&self) -> String {
        let mut text = format!(
            "{}\n\n{} messages followed\n{:<30} {:>8} {:>8} {:>14}\n",
            table(&[("acknowledgement", &self.ack_ms)]),
            self.sampled,
            "step (ms)",
            "p50",
            "p99",
            "in the slow 1 %"
        );
        for (at, step) in self.steps.iter().chain(&self.steps_to_recipient).enumerate() {
            if at == self.steps.len() {
                text += "from the commit to the recipient\n";
            }
            let mark = if step.step == self.slowest { "  <- makes the p99" } else { "" };
            let Step { step, p50, p99, mean_of_slow } = step;
            text += &format!("{step:<30} {p50:>8.3} {p99:>8.3} {mean_of_slow:>14.3}{mark}\n");
        }
        text += "server CPU, us a message\n";
        for Cpu { part, us_per_message } in &self.cpu {
            text += &format!("{part:<30} {us_per_message:>8.2}\n");
        }
        text.trim_end().to_owned() + &self.tally.wrong()
    }
}

/// Runs it.
pub fn run(arguments: &WhySlowArgs) -> Result<WhySlowReport, String> {
    let every = arguments.every.to_string();
    let target = Target::start(&arguments.own, 2 * arguments.pairs, &["--trace-every", &every])?;
    let Some(server) = target.own() else {
        unreachable!("it was just started");
    };
    let load = Load {
        target: &target,
        users: &target.users,
        habits: Habits {
            rate: Some((arguments.rate, Arrivals::Poisson)),
            size: arguments.size,
            seed: arguments.seed,
            ..Habits::default()
        },
        threads: 1,
        measured: Duration::ZERO..Duration::MAX,
        interval: Duration::from_secs(1),
        sample_every: arguments.every,
    };
    let over = AtomicBool::new(false);
    let cpu_before = CpuTimes::now(&target);
    let (tally, mut traces) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut traces = String::new();
            while !over.load(Ordering::Acquire) {
                thread::sleep(Duration::from_millis(200));
                traces += &server.http("/traces").1;
            }
            traces
        });
        let end = Duration::from_secs(arguments.seconds);
        let tally = load.run(&|traffic| traffic.go_on_until(end));
        over.store(true, Ordering::Release);
        let traces = reader.join().map_err(|_| "the reader of traces has panicked".to_owned())?;
        Ok::<_, String>((tally?, traces))
    })?;
    let cpu = CpuTimes::now(&target).since(&cpu_before, tally.sent_in_all);
    // The cores hand over what they have seen ten times a second.
    thread::sleep(Duration::from_millis(300));
    traces += &server.http("/traces").1;
    let messages = join(&traces, &tally.sampled);
    if messages.is_empty() && !stop::asked() {
        return Err("no message was followed from end to end: a higher --rate, more --seconds or a lower --every follow more".to_owned());
    }
    let slow = slow_ones(&messages);
    let steps = steps(&TO_ACKNOWLEDGEMENT, &messages, &slow);
    let slowest = steps.iter().max_by(|a, b| a.mean_of_slow.total_cmp(&b.mean_of_slow));
    Ok(WhySlowReport {
        scenario: "why-slow",
        seed: arguments.seed,
        seconds: tally.ended.as_secs_f64(),
        rate_per_s: arguments.rate,
        errors: tally.errors,
        sampled: messages.len(),
        ack_ms: Percentiles::of(&tally.ack.all()),
        slowest: slowest.map_or("", |step| step.step),
        steps,
        steps_to_recipient: steps_to_recipient(&messages, &slow),
        cpu,
        tally,
    })
}

fn steps_to_recipient(messages: &[Message], slow: &[&Message]) -> Vec<Step> {
    steps(&TO_RECIPIENT, messages, slow)
}

/// When a message was where, in ns.
type Message = HashMap<String, u64>;

/// Puts together what the server saw and what the clients saw, for messages that all have seen to their end.
fn join(traces: &str, sampled: &HashMap<(u64, u64), Sampled>) -> Vec<Message> {
    let mut messages: HashMap<(u64, u64), Message> = HashMap::new();
    for line in traces.lines() {
        let mut words = line.split(' ');
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        let (Some(user), Some(client_id)) = (number(), number()) else { continue };
        let (Some(station), Some(at)) = (words.next(), words.next().and_then(|word| word.parse().ok()))
        else {
            continue;
        };
        messages.entry((user, client_id)).or_default().entry(station.to_owned()).or_insert(at);
    }
    let whole = |(key, mut message): ((u64, u64), Message)| {
        let Sampled { intended, acknowledged, delivered } = *sampled.get(&key)?;
        message.insert("intended".to_owned(), intended);
        message.insert("has-acknowledgement".to_owned(), acknowledged);
        message.insert("has-message".to_owned(), delivered);
        let stations = TO_ACKNOWLEDGEMENT.iter().chain(&TO_RECIPIENT);
        let complete = acknowledged > 0
            && delivered > 0
            && stations.clone().all(|(_, from, to)| message.contains_key(*from) && message.contains_key(*to));
        complete.then_some(message)
    };
    messages.into_iter().filter_map(whole).collect()
}

fn took(message: &Message, from: &str, to: &str) -> Duration {
    Duration::from_nanos(message[to].saturating_sub(message[from]))
}

/// The hundredth that was acknowledged last; at least one.
fn slow_ones(messages: &[Message]) -> Vec<&Message> {
    let mut all: Vec<&Message> = messages.iter().collect();
    all.sort_by_key(|message| std::cmp::Reverse(took(message, "intended", "has-acknowledgement")));
    all.truncate(messages.len().div_ceil(100));
    all
}

fn steps(
    stations: &[(&'static str, &'static str, &'static str)],
    messages: &[Message],
    slow: &[&Message],
) -> Vec<Step> {
    let step = |(step, from, to): &(&'static str, &'static str, &'static str)| {
        let mut all: Micros = micros();
        messages.iter().for_each(|message| record(&mut all, took(message, from, to)));
        let of_slow: Duration = slow.iter().map(|message| took(message, from, to)).sum();
        let Percentiles { p50, p99, .. } = Percentiles::of(&all);
        Step { step, p50, p99, mean_of_slow: of_slow.as_secs_f64() * 1000.0 / slow.len().max(1) as f64 }
    };
    stations.iter().map(step).collect()
}

/// The parts of a core's loop, by the counter of each.
const PARTS: [(&str, &str); 5] = [
    ("core: the kernel's part", "tern_cpu_ring_seconds_total"),
    ("core: received frames", "tern_cpu_events_seconds_total"),
    ("core: messages of cores", "tern_cpu_mesh_seconds_total"),
    ("core: after the commit", "tern_cpu_store_seconds_total"),
    ("core: batches and sending", "tern_cpu_flush_seconds_total"),
];

/// CPU time that has been used.
struct CpuTimes {
    /// In seconds.
    parts: Vec<f64>,
    threads: ThreadTimes,
}

impl CpuTimes {
    fn now(target: &Target) -> Self {
        let parts = PARTS.iter().map(|(_, name)| target.own().map_or(0.0, |server| server.measured(name)));
        Self { parts: parts.collect(), threads: target.pid().map(measure::thread_times).unwrap_or_default() }
    }

    fn since(&self, before: &Self, messages: u64) -> Vec<Cpu> {
        let a_message = |seconds: f64| seconds * 1e6 / messages.max(1) as f64;
        let parts = PARTS.iter().zip(self.parts.iter().zip(&before.parts));
        let mut cpu: Vec<_> = parts
            .map(|((part, _), (now, then))| Cpu {
                part: (*part).to_owned(),
                us_per_message: a_message(now - then),
            })
            .collect();
        for (name, seconds) in &self.threads {
            let used = seconds - before.threads.get(name).copied().unwrap_or(0.0);
            // The cores' threads are told by their parts.
            if !name.starts_with("tern-core") && a_message(used) >= 0.01 {
                cpu.push(Cpu { part: format!("thread {name}"), us_per_message: a_message(used) });
            }
        }
        cpu
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_that_delays_the_slow_messages_is_named() {
        let mut traces = String::new();
        let mut sampled = HashMap::new();
        for number in 1..=200u64 {
            let begin = number * 1_000_000_000;
            let stall = if number % 100 == 0 { 50_000_000 } else { 0 };
            let stations = ["received", "decrypted", "routed", "batched", "submitted"];
            for (at, station) in stations.iter().enumerate() {
                traces += &format!("7 {number} {station} {}\n", begin + at as u64 * 1000);
            }
            for station in ["committed", "acknowledged", "delivered"] {
                traces += &format!("7 {number} {station} {}\n", begin + stall + 10_000);
            }
            let end = begin + stall + 20_000;
            sampled.insert((7, number), Sampled { intended: begin, acknowledged: end, delivered: end });
        }
        traces += "7 999 received 5\nnonsense\n";
        let messages = join(&traces, &sampled);
        assert_eq!(messages.len(), 200);
        let slow = slow_ones(&messages);
        let steps = steps(&TO_ACKNOWLEDGEMENT, &messages, &slow);
        let slowest = steps.iter().max_by(|a, b| a.mean_of_slow.total_cmp(&b.mean_of_slow)).expect("steps");
        assert_eq!(slowest.step, "the store's group commit");
        assert!(slowest.mean_of_slow > 49.0 && slowest.p50 < 1.0, "{slowest:?}");
    }
}
