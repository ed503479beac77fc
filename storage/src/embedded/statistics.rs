//! What the engine counts, for the operators' metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the commit-time buckets, in microseconds, with their names.
const COMMIT_BUCKETS: [(u64, &str); 10] = [
    (128, "commit_us_le_128"),
    (256, "commit_us_le_256"),
    (512, "commit_us_le_512"),
    (1024, "commit_us_le_1024"),
    (2048, "commit_us_le_2048"),
    (4096, "commit_us_le_4096"),
    (8192, "commit_us_le_8192"),
    (16384, "commit_us_le_16384"),
    (65536, "commit_us_le_65536"),
    (u64::MAX, "commit_us_le_inf"),
];

/// Counters. Each has one writer but `reads`.
#[derive(Default)]
pub(super) struct Statistics {
    groups: AtomicU64,
    batches: AtomicU64,
    ops: AtomicU64,
    bytes: AtomicU64,
    group_batches_max: AtomicU64,
    commit_us_total: AtomicU64,
    commit_us: [AtomicU64; COMMIT_BUCKETS.len()],
    reads: AtomicU64,
    flushes: AtomicU64,
    table_bytes: AtomicU64,
    log_segments: AtomicU64,
    troubles: AtomicU64,
}

impl Statistics {
    /// A group was written and synced in `took`.
    pub(super) fn group(&self, batches: usize, ops: usize, bytes: usize, took: Duration) {
        let micros = took.as_micros() as u64;
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.batches.fetch_add(batches as u64, Ordering::Relaxed);
        self.ops.fetch_add(ops as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.group_batches_max.fetch_max(batches as u64, Ordering::Relaxed);
        self.commit_us_total.fetch_add(micros, Ordering::Relaxed);
        for ((le, _), count) in COMMIT_BUCKETS.iter().zip(&self.commit_us) {
            if micros <= *le {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Reads were answered.
    pub(super) fn reads(&self, count: usize) {
        self.reads.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// So many bytes the tables had when they were opened, and so many segments the log.
    pub(super) fn opened(&self, table_bytes: u64, log_segments: usize) {
        self.table_bytes.store(table_bytes, Ordering::Relaxed);
        self.log_segments.store(log_segments as u64, Ordering::Relaxed);
    }

    /// A part of the tables was flushed; so many bytes they have now, and so many segments the log.
    pub(super) fn flushed(&self, table_bytes: u64, log_segments: usize) {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.table_bytes.store(table_bytes, Ordering::Relaxed);
        self.log_segments.store(log_segments as u64, Ordering::Relaxed);
    }

    /// The system refused something that is tried again.
    pub(super) fn trouble(&self) {
        self.troubles.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn pairs(&self) -> Vec<(&'static str, u64)> {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut pairs = vec![
            ("commit_groups", get(&self.groups)),
            ("commit_batches", get(&self.batches)),
            ("commit_ops", get(&self.ops)),
            ("commit_bytes", get(&self.bytes)),
            ("commit_group_batches_max", get(&self.group_batches_max)),
            ("commit_us_total", get(&self.commit_us_total)),
            ("reads", get(&self.reads)),
            ("flushes", get(&self.flushes)),
            ("table_bytes", get(&self.table_bytes)),
            ("log_segments", get(&self.log_segments)),
            ("refused_by_system", get(&self.troubles)),
        ];
        pairs
            .extend(COMMIT_BUCKETS.iter().zip(&self.commit_us).map(|((_, name), count)| (*name, get(count))));
        pairs
    }
}
