//! The disk alone.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use super::echo::cpu;
use crate::latency::{Percentiles, micros, record};

/// Writes that one sync of the grouped log covers.
const GROUP_WRITES: usize = 512;

/// A file that is long already, as a journal is: what is measured is the data, not the file's growth.
fn file_in(dir: &Path, bytes: u64) -> io::Result<File> {
    let mut file = tempfile::tempfile_in(dir)?;
    let zeros = vec![0; 1 << 20];
    for _ in 0..bytes >> 20 {
        file.write_all(&zeros)?;
    }
    file.sync_all()?;
    Ok(file)
}

/// How long a sync of 4 KiB takes.
pub fn fdatasync(dir: &Path, time: Duration) -> io::Result<Percentiles> {
    use std::os::unix::fs::FileExt as _;
    const FILE_BYTES: u64 = 16 << 20;
    let file = file_in(dir, FILE_BYTES)?;
    let (begin, mut at) = (Instant::now(), 0);
    let mut latencies = micros();
    while begin.elapsed() < time {
        file.write_all_at(&[at as u8; 4096], at % FILE_BYTES)?;
        let before = Instant::now();
        file.sync_data()?;
        record(&mut latencies, before.elapsed());
        at += 4096;
    }
    Ok(Percentiles::of(&latencies))
}

/// CPU time of a small write and its sync, in us, so many a second: what a thread takes that sleeps in between, beside the sleeping.
pub fn sync_cpu_us(dir: &Path, time: Duration, size: usize, per_s: f64) -> io::Result<f64> {
    use std::os::unix::fs::FileExt as _;
    const FILE_BYTES: u64 = 16 << 20;
    let file = file_in(dir, FILE_BYTES)?;
    let write = vec![b'x'; size];
    let mut at = 0;
    let with_syncs = cpu_us_each(time, per_s, || {
        file.write_all_at(&write, at % (FILE_BYTES - size as u64))?;
        at += size as u64;
        file.sync_data()
    })?;
    Ok((with_syncs - cpu_us_each(time, per_s, || Ok(()))?).max(0.0))
}

/// CPU time of this thread, in us, for each of what is done so many times a second.
fn cpu_us_each(time: Duration, per_s: f64, mut what: impl FnMut() -> io::Result<()>) -> io::Result<f64> {
    let (begin, cpu_before, mut count) = (Instant::now(), cpu(), 0);
    while begin.elapsed() < time {
        let due = Duration::from_secs_f64(f64::from(count) / per_s);
        std::thread::sleep(due.saturating_sub(begin.elapsed()));
        what()?;
        count += 1;
    }
    Ok((cpu() - cpu_before).as_secs_f64() * 1e6 / f64::from(count))
}

/// Writes a second of a log that syncs once for a group of them.
pub fn grouped_log(dir: &Path, time: Duration, size: usize) -> io::Result<f64> {
    use std::os::unix::fs::FileExt as _;
    const FILE_BYTES: u64 = 64 << 20;
    let file = file_in(dir, FILE_BYTES)?;
    let group = vec![b'x'; GROUP_WRITES * size];
    let (begin, mut at, mut count) = (Instant::now(), 0, 0);
    while begin.elapsed() < time {
        file.write_all_at(&group, at % (FILE_BYTES - group.len() as u64))?;
        file.sync_data()?;
        at += group.len() as u64;
        count += GROUP_WRITES;
    }
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}
