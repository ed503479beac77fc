//! What is measured beside latencies: the server's CPU time and memory, the kernel's memory.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Hundredths of a second: the unit of /proc's CPU times (USER_HZ, the same on every Linux).
const TICKS_PER_S: f64 = 100.0;

/// The CPU time that a process has used, in seconds, user and system together.
pub fn cpu_s(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The program's name, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    (ticks(11) + ticks(12)) as f64 / TICKS_PER_S
}

/// CPU seconds by the name of the thread; threads of one name are counted together.
pub type ThreadTimes = BTreeMap<String, f64>;

/// The CPU time that each thread of a process has used.
pub fn thread_times(pid: u32) -> ThreadTimes {
    let mut times = ThreadTimes::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default().trim().to_owned();
        // Ns on a CPU: far finer than the ticks of stat.
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let ns: u64 = text.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
        *times.entry(name).or_default() += ns as f64 / 1e9;
    }
    times
}

/// A process's private memory, in bytes.
pub fn anonymous_bytes(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    kilobytes(&text, "Anonymous:") * 1024
}

/// Memory at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// A process's private bytes; `None` without a process.
    pub user: Option<u64>,
    /// The kernel's small objects and the queues of its sockets, of the whole machine.
    pub kernel: u64,
}

impl Memory {
    /// Now, of a process and of the kernel.
    pub fn now(pid: Option<u32>) -> Self {
        Self { user: pid.map(anonymous_bytes), kernel: slab_bytes() + socket_bytes() }
    }
}

/// Bytes that were written to the device under a file since the machine was started, by everybody; `None` where the system
/// does not count them. (A process's own count is of pages that it has made dirty, and of a large page as a whole.)
pub fn device_bytes_written(file: &Path) -> Option<u64> {
    const SECTOR_BYTES: u64 = 512;
    let device = fs::metadata(file).ok()?.dev();
    // The numbers as Linux packs them into 64 bits (glibc's gnu_dev_major and gnu_dev_minor).
    let major = (device >> 8) & 0xfff | (device >> 32) & !0xfff;
    let minor = device & 0xff | (device >> 12) & !0xff;
    let text = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    let sectors: u64 = text.split_whitespace().nth(6)?.parse().ok()?;
    Some(sectors * SECTOR_BYTES)
}

/// Bytes of all files in a directory.
pub fn directory_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    // What goes away meanwhile counts as nothing.
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => directory_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(bytes).sum()
}

/// Files that a process has open.
pub fn open_files(pid: u32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |files| files.count() as u64)
}

/// The kernel's memory for small objects (sockets, files, requests of rings), of the whole machine, in bytes.
pub fn slab_bytes() -> u64 {
    kilobytes(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "Slab:") * 1024
}

/// Bytes in the queues of all TCP sockets of the machine.
pub fn socket_bytes() -> u64 {
    const PAGE_BYTES: u64 = 4096;
    let text = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
    let pages = line.split_whitespace().last().and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE_BYTES
}

fn kilobytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory() {
        let pid = std::process::id();
        let held = vec![1u8; 64 << 20];
        assert!(anonymous_bytes(pid) > 64 << 20, "{} bytes held", held.len());
        assert!(slab_bytes() > 0);
        let begin = std::time::Instant::now();
        while cpu_s(pid) == 0.0 {
            assert!(begin.elapsed().as_secs() < 60, "time is counted");
        }
    }
}
