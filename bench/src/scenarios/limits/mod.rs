//! `limits`: what this machine can do at all, measured in the same run as everything else: handshakes, records, a bare echo
//! over TCP and over TLS, the disk. What tern reaches is said in shares of these.

mod disk;
mod echo;

use std::path::PathBuf;
use std::time::Duration;

use echo::Echo;
use serde::Serialize;
use tern_bench::crypto::Pair;

use crate::arguments;
use crate::latency::Percentiles;

/// Echoes a second of the open loop: two records each, where a message has three.
const OPEN_RATE: f64 = 75_000.0;

/// Messages a second at which it is measured what they take at least, one by one.
const LOW_RATES: [f64; 2] = [1_000.0, 10_000.0];

/// Echoes that take as many records as a message: one received, two sent.
const ECHOES_OF_A_MESSAGE: f64 = 1.5;

/// Syncs that the disk may do back to back before it is no low rate any more.
const SYNCS_MAX: f64 = 3_000.0;

/// Connections of the open loop.
const OPEN_CONNECTIONS: u32 = 200;

#[derive(Clone, Debug, clap::Args)]
pub struct LimitsArgs {
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2.0, value_parser = arguments::positive)]
    seconds: f64,
    /// Bytes of a record or message
    #[arg(long, default_value_t = 200, value_parser = arguments::message_size)]
    size: usize,
    /// Connections of the echoes
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Where the disk is measured [default: the directory of temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Has no effect: nothing here is random
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct LimitsReport {
    scenario: &'static str,
    seed: u64,
    seconds: f64,
    errors: u64,
    handshakes_per_s_per_core: f64,
    resumed_handshakes_per_s_per_core: f64,
    records_sealed_per_s_per_core: f64,
    records_opened_per_s_per_core: f64,
    /// CPU time of the echoing thread a message, which it receives and sends.
    tcp_echo_cpu_us: f64,
    tls_echo_cpu_us: f64,
    /// The latency of a TLS echo in an open loop that has as many records a second cross it as 50,000 messages/s have cross the server,
    /// on as many connections as the pairs of `pairs` have.
    tls_echo_open_loop_ms: Percentiles,
    fdatasync_ms: Percentiles,
    grouped_log_writes_per_s: f64,
    /// What a message takes at least when there is little to put together.
    low_rates: Vec<LowRate>,
}

/// CPU time at a low rate.
#[derive(Debug, Serialize)]
struct LowRate {
    messages_per_s: f64,
    /// Of a bare TLS echo of as many records.
    tls_echo_cpu_us_per_message: f64,
    /// Of a write of a message's size with its sync, so many a second or as many as 3,000.
    sync_cpu_us: f64,
}

impl LimitsReport {
    /// Lines for people.
    pub fn line(&self) -> String {
        let low = self.low_rates.iter().map(|low| {
            format!(
                "\nat {:.0} messages/s: TLS echo {:.0} us of CPU for the records of each; a write with its sync {:.0} us",
                low.messages_per_s, low.tls_echo_cpu_us_per_message, low.sync_cpu_us
            )
        });
        let low: String = low.collect();
        format!(
            "handshakes {:.0}/s a core, {:.0}/s with a ticket; records of the size sealed {:.0}/s, opened {:.0}/s a core\n\
             echo: TCP {:.2} us, TLS {:.2} us of CPU a message; with the records of 50,000 messages/s, p50 {:.2} p99 {:.2} ms\n\
             fdatasync of 4 KiB p50 {:.2} p99 {:.2} ms; grouped log writes {:.0}/s{low}",
            self.handshakes_per_s_per_core,
            self.resumed_handshakes_per_s_per_core,
            self.records_sealed_per_s_per_core,
            self.records_opened_per_s_per_core,
            self.tcp_echo_cpu_us,
            self.tls_echo_cpu_us,
            self.tls_echo_open_loop_ms.p50,
            self.tls_echo_open_loop_ms.p99,
            self.fdatasync_ms.p50,
            self.fdatasync_ms.p99,
            self.grouped_log_writes_per_s,
        )
    }
}

/// Runs it.
pub fn run(arguments: &LimitsArgs) -> Result<LimitsReport, String> {
    let LimitsArgs { seconds, size, connections, .. } = *arguments;
    let time = Duration::from_secs_f64(seconds);
    let tls = Pair::new()?;
    let (handshakes_per_s_per_core, resumed_handshakes_per_s_per_core) = tls.handshakes(time)?;
    let (sealed, opened) = tls.records(time, size)?;
    let io = |error: std::io::Error| format!("the echo: {error}");
    let closed = |tls| echo::run(&Echo { time, size, connections, tls, rate: None }).map_err(io);
    let (tcp, over_tls) = (closed(None)?, closed(Some(&tls))?);
    let open = Echo { connections: OPEN_CONNECTIONS, tls: Some(&tls), rate: Some(OPEN_RATE), time, size };
    let open = echo::run(&open).map_err(io)?;
    let dir = arguments.dir.clone().unwrap_or_else(std::env::temp_dir);
    let disk = |error: std::io::Error| format!("the disk, in {}: {error}", dir.display());
    let fdatasync_ms = disk::fdatasync(&dir, time).map_err(disk)?;
    let grouped_log_writes_per_s = disk::grouped_log(&dir, time, size).map_err(disk)?;
    let low_rate = |messages_per_s: f64| {
        let rate = Some(messages_per_s * ECHOES_OF_A_MESSAGE);
        let echo = Echo { connections: OPEN_CONNECTIONS, tls: Some(&tls), rate, time, size };
        let echoed = echo::run(&echo).map_err(io)?;
        Ok(LowRate {
            messages_per_s,
            tls_echo_cpu_us_per_message: echoed.cpu_us * ECHOES_OF_A_MESSAGE,
            sync_cpu_us: disk::sync_cpu_us(&dir, time, size, messages_per_s.min(SYNCS_MAX)).map_err(disk)?,
        })
    };
    let low_rates = LOW_RATES.into_iter().map(low_rate).collect::<Result<_, String>>()?;
    Ok(LimitsReport {
        scenario: "limits",
        seed: arguments.seed,
        seconds,
        errors: 0,
        handshakes_per_s_per_core,
        resumed_handshakes_per_s_per_core,
        records_sealed_per_s_per_core: sealed,
        records_opened_per_s_per_core: opened,
        tcp_echo_cpu_us: tcp.cpu_us,
        tls_echo_cpu_us: over_tls.cpu_us,
        tls_echo_open_loop_ms: Percentiles::of(&open.latencies),
        fdatasync_ms,
        grouped_log_writes_per_s,
        low_rates,
    })
}
