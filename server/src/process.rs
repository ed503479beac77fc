//! What the system counts of this process (proc(5)).

use std::fs;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// User and system, of all threads.
    pub cpu_seconds: f64,
    /// In RAM.
    pub resident_bytes: f64,
    /// Addresses in use.
    pub virtual_bytes: f64,
    /// Open descriptors. Direct ones of rings are not among them.
    pub open_fds: f64,
    /// And how many there may be.
    pub max_fds: f64,
    /// How many.
    pub threads: f64,
    /// Since the Unix epoch.
    pub start_seconds: f64,
}

/// Hundredths of a second: the unit of /proc's times (USER_HZ, the same on every Linux).
const TICKS_PER_S: f64 = 100.0;

impl Process {
    /// As it is now. `None` where there is no /proc.
    pub fn of_this() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The program's name, in parentheses, may hold anything.
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        // By proc(5)'s numbers, which count from 1, the two before the name among them.
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let boot = fs::read_to_string("/proc/stat").ok()?;
        let boot = boot.lines().find_map(|line| line.strip_prefix("btime "))?.parse::<f64>().ok()?;
        let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / TICKS_PER_S,
            threads: field(20)?,
            start_seconds: boot + field(22)? / TICKS_PER_S,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * rustix::param::page_size() as f64,
            open_fds: fs::read_dir("/proc/self/fd").ok()?.count() as f64,
            max_fds: limits.current.map_or(f64::INFINITY, |limit| limit as f64),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_as_the_system_says() {
        let process = Process::of_this().expect("Linux");
        assert!(
            process.resident_bytes > 1e5 && process.virtual_bytes >= process.resident_bytes,
            "{process:?}"
        );
        assert!(process.open_fds >= 3.0 && process.max_fds >= process.open_fds, "{process:?}");
        assert!(process.threads >= 1.0 && process.start_seconds > 1.7e9, "{process:?}");
    }
}
