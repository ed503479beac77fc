//! What a report was made on and from.

use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// The machine and the code.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cpus: usize,
    pub memory_gib: u64,
    pub kernel: String,
    /// The commit that is checked out, with `-dirty` if files differ from it; empty outside a checkout.
    pub commit: String,
    /// UTC.
    pub begun: String,
}

impl Machine {
    /// This one, now.
    pub fn here() -> Self {
        let line = |path: &str, name: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
            line.split(':').nth(1).unwrap_or_default().trim().to_owned()
        };
        let kilobytes = line("/proc/meminfo", "MemTotal");
        let kilobytes: u64 =
            kilobytes.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default();
        Self {
            cpu: line("/proc/cpuinfo", "model name"),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: (kilobytes + (1 << 19)) >> 20,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            commit: said(Command::new("git").args(["describe", "--always", "--dirty", "--exclude=*"])),
            begun: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
        }
    }

    /// The day of the report.
    pub fn day(&self) -> &str {
        self.begun.split(' ').next().unwrap_or_default()
    }
}

fn said(command: &mut Command) -> String {
    let output = command.output().ok().filter(|output| output.status.success());
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
