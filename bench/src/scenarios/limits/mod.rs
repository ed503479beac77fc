//! `limits`: what this machine can do at all, measured in the same run as everything else: handshakes, records, a bare echo
//! over TCP and over TLS, the disk. What tern reaches is said in shares of these.

mod disk;
mod echo;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tern_bench::crypto::Pair;

use crate::latency::Percentiles;

#[derive(Clone, Debug, clap::Args)]
pub struct LimitsArgs {
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Bytes of a record or message
    #[arg(long, default_value_t = 200)]
    size: usize,
    /// Connections of the echoes
    #[arg(long, default_value_t = 32)]
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
    records_sealed_per_s_per_core: f64,
    records_opened_per_s_per_core: f64,
    /// CPU time of the echoing thread a message, which it receives and sends.
    tcp_echo_cpu_us: f64,
    tls_echo_cpu_us: f64,
    fdatasync_ms: Percentiles,
    grouped_log_writes_per_s: f64,
}

impl LimitsReport {
    /// Lines for people.
    pub fn line(&self) -> String {
        format!(
            "handshakes {:.0}/s a core; records of the size sealed {:.0}/s, opened {:.0}/s a core\n\
             echo: TCP {:.2} us, TLS {:.2} us of CPU a message\n\
             fdatasync of 4 KiB p50 {:.2} p99 {:.2} ms; grouped log writes {:.0}/s",
            self.handshakes_per_s_per_core,
            self.records_sealed_per_s_per_core,
            self.records_opened_per_s_per_core,
            self.tcp_echo_cpu_us,
            self.tls_echo_cpu_us,
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
    let handshakes_per_s_per_core = tls.handshakes(time)?;
    let (sealed, opened) = tls.records(time, size)?;
    let io = |error: std::io::Error| format!("the echo: {error}");
    let tcp_echo_cpu_us = echo::run(time, size, connections, None).map_err(io)?;
    let tls_echo_cpu_us = echo::run(time, size, connections, Some(&tls)).map_err(io)?;
    let dir = arguments.dir.clone().unwrap_or_else(std::env::temp_dir);
    let disk = |error: std::io::Error| format!("the disk, in {}: {error}", dir.display());
    let fdatasync_ms = disk::fdatasync(&dir, time).map_err(disk)?;
    let grouped_log_writes_per_s = disk::grouped_log(&dir, time, size).map_err(disk)?;
    Ok(LimitsReport {
        scenario: "limits",
        seed: arguments.seed,
        seconds,
        errors: 0,
        handshakes_per_s_per_core,
        records_sealed_per_s_per_core: sealed,
        records_opened_per_s_per_core: opened,
        tcp_echo_cpu_us,
        tls_echo_cpu_us,
        fdatasync_ms,
        grouped_log_writes_per_s,
    })
}
