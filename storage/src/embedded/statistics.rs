//! What the engine counts, for the operators' metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::backup::{BackupPhase, BackupStatus};
use crate::batch::Batch;
use crate::engine::{Statistic, StatisticValue};
use crate::times::Times;

/// Counters. Each has one writer but `reads`.
#[derive(Default)]
pub(super) struct Statistics {
    groups: AtomicU64,
    batches: AtomicU64,
    ops: AtomicU64,
    bytes: AtomicU64,
    group_batches_max: AtomicU64,
    commit: Times,
    reads: AtomicU64,
    flushes: AtomicU64,
    table_bytes: AtomicU64,
    log_segments: AtomicU64,
    troubles: AtomicU64,
}

impl Statistics {
    /// A group was written and synced in `took`.
    pub(super) fn group<'a>(&self, batches: impl Iterator<Item = &'a Batch> + Clone, took: Duration) {
        let count = batches.clone().count();
        let ops: usize = batches.clone().map(Batch::len).sum();
        let bytes: usize = batches.map(Batch::bytes).sum();
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.batches.fetch_add(count as u64, Ordering::Relaxed);
        self.ops.fetch_add(ops as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.group_batches_max.fetch_max(count as u64, Ordering::Relaxed);
        self.commit.took(took);
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

    /// All of it. `waiting_bytes` are durable, and wait for the tables.
    pub(super) fn list(&self, waiting_bytes: u64) -> Vec<Statistic> {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counter =
            |name, help, of: &AtomicU64| Statistic { name, help, value: StatisticValue::Counter(get(of)) };
        let gauge = |name, help, value| Statistic { name, help, value: StatisticValue::Gauge(value) };
        vec![
            counter("commit_groups", "Groups that were written and synced.", &self.groups),
            counter("commit_batches", "Batches in those.", &self.batches),
            counter("commit_operations", "Rows that those set or removed.", &self.ops),
            counter("commit_bytes", "Bytes of those groups.", &self.bytes),
            counter("reads", "Reads answered.", &self.reads),
            counter("flushes", "Parts of the tables that were written to files.", &self.flushes),
            counter(
                "system_refusals",
                "Times that the system refused what is tried again: room, descriptors, rights.",
                &self.troubles,
            ),
            gauge(
                "commit_group_batches_max",
                "The most batches that a group has had.",
                get(&self.group_batches_max),
            ),
            gauge("table_bytes", "Bytes of the tables' files, at the last flush.", get(&self.table_bytes)),
            gauge(
                "log_segments",
                "Segments of the log that are needed, at the last flush.",
                get(&self.log_segments),
            ),
            gauge("waiting_bytes", "Bytes of durable groups that wait for the tables.", waiting_bytes),
            self.commit.statistic("commit_seconds", "Writing and syncing a group."),
        ]
    }
}

/// What is told of a backup.
pub(super) fn of_backup(status: &BackupStatus) -> Vec<Statistic> {
    let gauge = |name, help, value| Statistic { name, help, value: StatisticValue::Gauge(value) };
    let counter = |name, help, value| Statistic { name, help, value: StatisticValue::Counter(value) };
    let base = status.base.unwrap_or_default();
    vec![
        gauge("backup_running", "Whether a backup goes on.", u64::from(status.phase != BackupPhase::Off)),
        gauge("backup_archived_group", "Groups up to this one are in the backup.", status.archived),
        gauge(
            "backup_behind_groups",
            "Durable groups that are not in the backup yet.",
            if status.phase == BackupPhase::Off { 0 } else { status.newest.saturating_sub(status.archived) },
        ),
        gauge(
            "backup_covers_timestamp_seconds",
            "All that was durable at this time is in the backup; 0 if nobody knows.",
            status.covers_ms / 1000,
        ),
        gauge("backup_base_timestamp_seconds", "When its newest base was begun.", base.time_ms / 1000),
        gauge("backup_kept_bytes", "Bytes of the log that are kept for the backup alone.", status.kept_bytes),
        gauge("backup_pinned_files", "Files of the tables that stay for the backup.", status.pinned as u64),
        counter("backup_bytes", "Bytes that were written to the backup.", status.bytes),
        counter("backup_failures", "Times that something of the backup failed.", status.failures),
        counter("backup_chains_broken", "Chains of the backup that were given up.", status.broken),
    ]
}
