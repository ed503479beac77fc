//! What the engine counts, for the operators' metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::{Statistic, StatisticValue};
use crate::times::Times;

/// Counters. Each has one writer but those of reads.
#[derive(Default)]
pub(super) struct Statistics {
    pub(super) commits: Count,
    pub(super) batches: Count,
    pub(super) rows: Count,
    pub(super) bytes: Count,
    pub(super) conflicts: Count,
    pub(super) unknown: Count,
    pub(super) unknown_was_in: Count,
    pub(super) refused: Count,
    pub(super) locked: Count,
    pub(super) fenced: Count,
    pub(super) tickets: Count,
    pub(super) reads: Count,
    pub(super) reads_failed: Count,
    pub(super) commit: Times,
    pub(super) ticket: Times,
    pub(super) lane: Times,
}

/// One of them.
#[derive(Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    /// So many more.
    pub(super) fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }
}

impl Statistics {
    /// All of it.
    pub(super) fn list(&self, busyness: f64, waits: bool) -> Vec<Statistic> {
        let counter = |name, help, of: &Count| Statistic {
            name,
            help,
            value: StatisticValue::Counter(of.0.load(Ordering::Relaxed)),
        };
        let busy = StatisticValue::Gauge((busyness * 1000.0) as u64);
        vec![
            counter("fdb_commits", "Transactions that were committed.", &self.commits),
            counter("fdb_batches", "Batches in those.", &self.batches),
            counter("fdb_rows", "Rows that those set or removed.", &self.rows),
            counter("fdb_bytes", "Bytes of keys and values of those.", &self.bytes),
            counter(
                "fdb_conflicts",
                "Commits that found what they rest on changed (1020), and were looked at again.",
                &self.conflicts,
            ),
            counter(
                "fdb_unknown",
                "Commits of which FoundationDB did not know what became of them (1021, 1031, 1039, 1101).",
                &self.unknown,
            ),
            counter("fdb_unknown_was_in", "Of those, the ones that were in.", &self.unknown_was_in),
            counter(
                "fdb_retries",
                "Commits that FoundationDB put off: throttled, behind, too old.",
                &self.refused,
            ),
            counter("fdb_locked", "Commits that found the database locked.", &self.locked),
            counter("fdb_fenced", "Batches whose slot belongs to another process.", &self.fenced),
            counter("fdb_tickets", "Versions asked for, that commits rest on.", &self.tickets),
            counter("fdb_reads", "Reads answered.", &self.reads),
            counter(
                "fdb_reads_failed",
                "Reads that FoundationDB did not answer in time.",
                &self.reads_failed,
            ),
            Statistic {
                name: "fdb_waits",
                help: "1 while FoundationDB does not answer, or is locked; the log and /readyz say which.",
                value: StatisticValue::Gauge(waits.into()),
            },
            Statistic {
                name: "fdb_client_busy_permille",
                help: "How busy the client library's thread is, of 1000.",
                value: busy,
            },
            self.commit
                .statistic("fdb_commit_seconds", "Committing a transaction, from its last sending on."),
            self.ticket.statistic("fdb_ticket_seconds", "Getting a version that commits may rest on."),
            self.lane.statistic("fdb_lane_seconds", "What a batch waits for its lane to be free."),
        ]
    }
}
