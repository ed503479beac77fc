//! `fdb`: what the FoundationDB engine makes of FoundationDB, beside a bare client that commits the same rows in the same lanes and
//! sizes: in alternating rounds of one run.

mod bare;
mod engine;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tern_fdb::{FdbClient, Place, Tls};
use tern_storage::{Batch, LogId, keys};
use tern_testkit::FoundationDb;

use crate::arguments;
use crate::latency::{Micros, Percentiles, record, table};
use crate::{progress, stop};

/// The engine is to reach this share of the bare client's rows.
const RATIO_AIM: f64 = 0.8;

/// And its acknowledgements at half load so many times the bare client's at most.
const P99_AIM: f64 = 2.0;

#[derive(Clone, Debug, clap::Args)]
pub struct FdbArgs {
    /// FoundationDB's cluster file [default: a FoundationDB of its own, of the fdbserver on PATH]
    #[arg(long, value_name = "FILE")]
    cluster_file: Option<PathBuf>,
    /// Transactions under way at once; as many threads submit
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    lanes: u16,
    /// Batches that each thread has under way, in the closed loop
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    window: u16,
    /// Bytes of a message: the value of one of a batch's three rows
    #[arg(long, default_value_t = 200, value_parser = arguments::message_size)]
    size: usize,
    /// Seconds of each part of a round
    #[arg(long, default_value_t = 4.0, value_parser = arguments::positive)]
    seconds: f64,
    /// Rounds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=50))]
    rounds: u8,
}

/// What was found: medians over the rounds, and each round.
#[derive(Debug, Serialize)]
pub struct FdbReport {
    scenario: &'static str,
    errors: u64,
    lanes: u16,
    engine_rows_per_s: f64,
    bare_rows_per_s: f64,
    /// Of those, by rounds.
    ratio: f64,
    /// At half load, of all rounds together.
    engine_ack_ms: Percentiles,
    bare_ack_ms: Percentiles,
    /// Of the p99s, by rounds.
    p99_ratio: f64,
    rounds: Vec<Round>,
}

/// One round.
#[derive(Debug, Serialize)]
struct Round {
    rows_per_transaction: f64,
    engine_rows_per_s: f64,
    bare_rows_per_s: f64,
    engine_half_p99_ms: f64,
    bare_half_p99_ms: f64,
}

impl FdbReport {
    /// Whether everything was committed, and both aims are reached.
    pub fn is_correct(&self) -> bool {
        self.errors == 0 && !self.rounds.is_empty()
    }

    /// For people.
    pub fn line(&self) -> String {
        let reached = |is: bool| if is { "reached" } else { "MISSED" };
        let rounds = self.rounds.iter().map(|round| {
            format!(
                "  {:>8.0} of {:>8.0} rows/s ({:.2}), {:>5.0} a transaction; at half load p99 {:.1} and {:.1} ms ({:.2})\n",
                round.engine_rows_per_s,
                round.bare_rows_per_s,
                round.engine_rows_per_s / round.bare_rows_per_s,
                round.rows_per_transaction,
                round.engine_half_p99_ms,
                round.bare_half_p99_ms,
                round.engine_half_p99_ms / round.bare_half_p99_ms,
            )
        });
        format!(
            "{} errors; the engine, then the bare client, a round a line:\n{}\nrows: {:.2} of the bare client's, aim {RATIO_AIM}: {}\n\
             p99 of an acknowledgement at half load: {:.2} times the bare client's, aim {P99_AIM}: {}\n\n{}",
            self.errors,
            rounds.collect::<String>(),
            self.ratio,
            reached(self.ratio >= RATIO_AIM),
            self.p99_ratio,
            reached(self.p99_ratio <= P99_AIM),
            table(&[("engine, half load", &self.engine_ack_ms), ("bare, half load", &self.bare_ack_ms)]),
        )
    }
}

/// What a part of a round has done.
struct Done {
    rows_per_s: f64,
    transactions: u64,
    rows: u64,
    latencies: Micros,
    errors: u64,
}

/// The three rows of a message: the entry, under which number it was sent, and the log's head.
fn message(thread: u16, number: u64, body: &[u8]) -> Batch {
    let log = LogId::direct(u64::from(thread) + 1, 1_000_000);
    let mut batch = Batch::default();
    batch.put(&keys::entry(log, number), body);
    batch.put(&keys::client_message(log, 1, 1, number), [0; 16]);
    batch.put(&keys::log(log), number.to_le_bytes());
    batch
}

/// Rows of a message.
const ROWS: u64 = 3;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Runs it.
pub fn run(arguments: &FdbArgs) -> Result<FdbReport, String> {
    let own = match &arguments.cluster_file {
        Some(_) => None,
        None => {
            Some(FoundationDb::start().ok_or("fdbserver is not on PATH, and no --cluster-file was given")?)
        }
    };
    let cluster_file =
        arguments.cluster_file.clone().or_else(|| own.as_ref().map(FoundationDb::cluster_file));
    let cluster_file = cluster_file.expect("one of both");
    let place = |prefix: &str| Place {
        cluster_file: cluster_file.clone(),
        prefix: prefix.as_bytes().to_vec(),
        datacenter_id: String::new(),
        machine_id: String::new(),
        tls: Tls::default(),
    };
    let client = |prefix| FdbClient::open(place(prefix)).map(Arc::new).map_err(|error| error.to_string());
    let engine = engine::Engine::open(client("tern-bench/engine/")?, arguments)?;
    let bare = bare::Bare::new(client("tern-bench/bare/")?, arguments);
    let lasts = Duration::from_secs_f64(arguments.seconds);
    // Files grow, and clients learn where what lies.
    engine.closed(lasts);
    bare.closed(lasts, 96);
    let (mut rounds, mut errors) = (Vec::new(), 0);
    let (mut of_engine, mut of_bare) = (crate::latency::micros(), crate::latency::micros());
    for round in 1..=arguments.rounds {
        if stop::asked() {
            break;
        }
        progress(&format!("round {round} of {}", arguments.rounds));
        let full = engine.closed(lasts);
        let rows_per_transaction = full.rows as f64 / full.transactions.max(1) as f64;
        let messages = (rows_per_transaction / ROWS as f64).round().max(1.0) as u64;
        let bare_full = bare.closed(lasts, messages);
        let half = engine.open_loop(lasts, full.rows_per_s / ROWS as f64 / 2.0);
        let bare_half =
            bare.open_loop(lasts, messages, bare_full.rows_per_s / (messages * ROWS) as f64 / 2.0);
        errors += full.errors + bare_full.errors + half.errors + bare_half.errors;
        of_engine.add(&half.latencies).expect("histograms of one kind");
        of_bare.add(&bare_half.latencies).expect("histograms of one kind");
        let p99_ms = |done: &Done| Percentiles::of(&done.latencies).p99;
        rounds.push(Round {
            rows_per_transaction,
            engine_rows_per_s: full.rows_per_s,
            bare_rows_per_s: bare_full.rows_per_s,
            engine_half_p99_ms: p99_ms(&half),
            bare_half_p99_ms: p99_ms(&bare_half),
        });
    }
    let by_round = |value: fn(&Round) -> f64| median(rounds.iter().map(value).collect());
    Ok(FdbReport {
        scenario: "fdb",
        errors,
        lanes: arguments.lanes,
        engine_rows_per_s: by_round(|round| round.engine_rows_per_s),
        bare_rows_per_s: by_round(|round| round.bare_rows_per_s),
        ratio: by_round(|round| round.engine_rows_per_s / round.bare_rows_per_s),
        engine_ack_ms: Percentiles::of(&of_engine),
        bare_ack_ms: Percentiles::of(&of_bare),
        p99_ratio: by_round(|round| round.engine_half_p99_ms / round.bare_half_p99_ms),
        rounds,
    })
}

/// Adds a latency to what was done.
fn took(done: &mut Done, latency: Duration) {
    record(&mut done.latencies, latency);
}

impl Done {
    fn nothing() -> Self {
        Self { rows_per_s: 0.0, transactions: 0, rows: 0, latencies: crate::latency::micros(), errors: 0 }
    }

    /// What several threads have done in a time.
    fn together(threads: impl Iterator<Item = Self>, lasted: Duration) -> Self {
        let mut sum = threads.fold(Self::nothing(), |mut sum, done| {
            sum.transactions += done.transactions;
            sum.rows += done.rows;
            sum.errors += done.errors;
            sum.latencies.add(&done.latencies).expect("histograms of one kind");
            sum
        });
        sum.rows_per_s = sum.rows as f64 / lasted.as_secs_f64();
        sum
    }
}
