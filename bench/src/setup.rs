//! What a run was made with: the program, the server, the machine, and what was asked for.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cpus: usize,
    pub memory_gib: u64,
    pub kernel: String,
    /// The file system that temporary directories are on, and so the bench's own servers, and its device.
    #[serde(default)]
    pub disk: String,
}

impl Machine {
    /// This one.
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
            disk: disk(&std::env::temp_dir()),
        }
    }

    /// Whether figures of both can be compared. (What a disk is was not always noted.)
    pub fn is_like(&self, other: &Self) -> bool {
        (&self.cpu, self.cpus, &self.kernel) == (&other.cpu, other.cpus, &other.kernel)
    }

    /// A line for people.
    pub fn line(&self) -> String {
        let Self { cpu, cpus, memory_gib, kernel, disk } = self;
        format!("{cpu}, {cpus} CPUs, {memory_gib} GiB, Linux {kernel}, {disk}")
    }
}

/// The file system of a directory and its device: the longest mount point above it (/proc/self/mounts, see fstab(5)).
fn disk(dir: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let above = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (device, point, kind) = (words.next()?, words.next()?, words.next()?);
        dir.starts_with(point).then(|| (point.len(), format!("{kind} on {device}")))
    });
    above.max_by_key(|(length, _)| *length).map(|(_, disk)| disk).unwrap_or_default()
}

/// The server that was loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Server {
    pub address: String,
    /// What it says of itself.
    pub version: String,
    /// The bench's own: on this machine, in a temporary directory. `cores` and `limits` are known of that alone.
    pub own: bool,
    pub cores: Option<u16>,
    /// What it was told beside its defaults.
    pub limits: Vec<String>,
}

static SERVER: OnceLock<Server> = OnceLock::new();

/// Notes which server this run loads. A run loads one.
pub fn loads(server: Server) {
    crate::progress(&format!("loading {}", server.line()));
    let _ = SERVER.set(server);
}

impl Server {
    /// A line for people.
    fn line(&self) -> String {
        let Self { address, version, own, cores, limits } = self;
        let cores = cores.map(|cores| format!(", {cores} core{}", if cores == 1 { "" } else { "s" }));
        let limits = if limits.is_empty() { String::new() } else { format!(", {}", limits.join(", ")) };
        let own = if *own { ", the bench's own" } else { "" };
        format!("{version} at {address}{own}{}{limits}", cores.unwrap_or_default())
    }
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Setup {
    pub bench: &'static str,
    /// The command line, but for the program.
    pub asked: String,
    pub server: Option<Server>,
    pub machine: Machine,
    /// UTC.
    pub ended: String,
}

impl Setup {
    /// Of a run that has ended now.
    pub fn now() -> Self {
        Self {
            bench: tern_version::VERSION,
            asked: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
            server: SERVER.get().cloned(),
            machine: Machine::here(),
            ended: now(),
        }
    }

    /// Lines for people.
    pub fn lines(&self) -> String {
        let server = self.server.as_ref().map(|server| format!("\nserver   {}", server.line()));
        format!(
            "command  tern-bench {}\nbench    {}, {}{}\nmachine  {}",
            self.asked,
            self.bench,
            self.ended,
            server.unwrap_or_default(),
            self.machine.line()
        )
    }
}

/// The time of day, UTC.
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_says_what_it_is() {
        let machine = Machine::here();
        assert!(machine.cpus > 0 && machine.memory_gib > 0 && !machine.kernel.is_empty());
        assert!(machine.disk.contains(" on "), "{machine:?}");
    }
}
