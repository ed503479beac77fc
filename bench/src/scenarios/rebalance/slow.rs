//! Cores that have but a share of a CPU each: so the server is what limits, though the generator is on the same CPUs.
//!
//! The kernel sees to it (SCHED_DEADLINE, by `chrt` of util-linux), which takes its administrator. They stay so until their process
//! ends: a thread that is given back to its one CPU keeps its share of what the kernel promises to all (seen with Linux 6.18).

use std::fs;
use std::process::{Command, Stdio};

/// Within so long each core has its share.
const PERIOD_NS: u64 = 10_000_000;

/// Gives each core of a process so many hundredths of a CPU.
///
/// # Errors
/// If the system does not do that, why.
pub(super) fn slow_down(pid: u32, percent: u32) -> Result<(), String> {
    let (runtime, period) = ((PERIOD_NS / 100 * u64::from(percent)).to_string(), PERIOD_NS.to_string());
    let all_cpus =
        format!("0-{}", std::thread::available_parallelism().map_or(1, std::num::NonZero::get) - 1);
    for thread in &cores_of(pid)? {
        // A deadline is kept on any CPU, not on one.
        run("taskset", &["-pc", &all_cpus, thread])?;
        run("chrt", &["-d", "-T", &runtime, "-D", &period, "-P", &period, "-p", "0", thread])?;
    }
    Ok(())
}

fn cores_of(pid: u32) -> Result<Vec<String>, String> {
    let tasks = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&tasks).map_err(|error| format!("{tasks}: {error}"))?;
    let ids = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let is_core = |id: &String| {
        fs::read_to_string(format!("{tasks}/{id}/comm")).is_ok_and(|name| name.starts_with("tern-core-"))
    };
    Ok(ids.filter(is_core).collect())
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let done = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    match done {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{program}: {error}")),
    }
}
