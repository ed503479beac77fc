//! Cores that have but a share of a CPU each: so the server is what limits, though the generator is on the same CPUs.
//!
//! The kernel sees to it (SCHED_DEADLINE, by `chrt` of util-linux), which takes its administrator.

use std::fs;
use std::process::{Command, Stdio};

/// Within so long each core has its share.
const PERIOD_NS: u64 = 10_000_000;

/// The cores' threads, by what makes them slow; as they were when it goes.
pub(super) struct Slow {
    threads: Vec<Thread>,
}

struct Thread {
    id: String,
    /// Where it may run, by itself.
    cpus: String,
}

impl Slow {
    /// Gives each core of a process so many hundredths of a CPU.
    ///
    /// # Errors
    /// If the system does not do that, why.
    pub(super) fn new(pid: u32, percent: u32) -> Result<Self, String> {
        let slow = Self { threads: cores_of(pid)? };
        let (runtime, period) = (PERIOD_NS / 100 * u64::from(percent), PERIOD_NS.to_string());
        let all_cpus =
            format!("0-{}", std::thread::available_parallelism().map_or(1, std::num::NonZero::get) - 1);
        let runtime = runtime.to_string();
        for Thread { id, .. } in &slow.threads {
            // A deadline is kept on any CPU, not on one.
            run("taskset", &["-pc", &all_cpus, id])?;
            run("chrt", &["-d", "-T", &runtime, "-D", &period, "-P", &period, "-p", "0", id])?;
        }
        Ok(slow)
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        for Thread { id, cpus } in &self.threads {
            // A thread that has gone is no slower.
            let _ = run("chrt", &["-o", "-p", "0", id]).and_then(|()| run("taskset", &["-pc", cpus, id]));
        }
    }
}

fn cores_of(pid: u32) -> Result<Vec<Thread>, String> {
    let tasks = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&tasks).map_err(|error| format!("{tasks}: {error}"))?;
    let thread = |id: String| {
        let status = fs::read_to_string(format!("{tasks}/{id}/status")).ok()?;
        let field =
            |name: &str| status.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
        let is_core = field("Name:")?.starts_with("tern-core-");
        let cpus = field("Cpus_allowed_list:").filter(|_| is_core)?;
        Some(Thread { id, cpus })
    };
    let ids = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(ids.filter_map(thread).collect())
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let done = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    match done {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{program}: {error}")),
    }
}
