//! How the node is, for operators: what `ternctl status` and `ternctl top` show.

use std::time::Instant;

use serde_json::{Value, json};
use tern_storage::StatisticValue;
use tern_storage::embedded::backup::BackupStatus;

use crate::backup;
use crate::exposition::Space;
use crate::metrics::{CoreMetrics, Histogram, Metrics, NodeMetrics, Unit};
use crate::process::Process;
use crate::pushes::Lane;

/// The share of the places that are taken from which on the operator is told.
const PLACES_SHORT: f64 = 0.9;

/// Segments of the log from which on the tables are behind.
const SEGMENTS_BEHIND: u64 = 24;

/// Seconds before the end of the certificate from which on the operator is told.
const CERTIFICATE_S: u64 = 14 * 86_400;

/// What is known of the node.
pub struct Facts<'a> {
    /// What its cores and the node count.
    pub metrics: &'a Metrics,
    /// What its store counts.
    pub store: Vec<tern_storage::Statistic>,
    /// When it began.
    pub began: Instant,
    /// In ms since the Unix epoch.
    pub now_ms: u64,
    /// Room for the store.
    pub space: Option<Space>,
    /// Why it should not get clients, if it should not.
    pub ready: Result<(), String>,
    /// What its store's backup is doing, if it makes any.
    pub backup: Option<BackupStatus>,
    /// How its push services do.
    pub pushes: Vec<Lane>,
}

impl Facts<'_> {
    fn sum(&self, of: impl Fn(&CoreMetrics) -> u64) -> u64 {
        self.metrics.cores().map(of).sum()
    }

    /// The buckets of all cores together as (upper bound in seconds, count); the last bound, without end, as 0.
    fn histogram(&self, of: impl Fn(&CoreMetrics) -> &Histogram) -> Value {
        let mut sums: Vec<(f64, u64)> = Vec::new();
        for core in self.metrics.cores() {
            let (buckets, _) = of(core).read();
            sums.resize(buckets.len(), (0.0, 0));
            for ((bound, sum), (upto, count)) in sums.iter_mut().zip(buckets) {
                *bound = if upto.is_finite() { Unit::Us.told(upto) } else { 0.0 };
                *sum += count;
            }
        }
        json!(sums)
    }

    fn gauge(&self, name: &str) -> u64 {
        let found = self.store.iter().find(|statistic| statistic.name == name);
        found.map_or(0, |statistic| match statistic.value {
            StatisticValue::Gauge(value) | StatisticValue::Counter(value) => value,
            StatisticValue::Histogram(..) => 0,
        })
    }

    /// What has become of commits, if the store is FoundationDB.
    fn foundationdb(&self) -> Option<Value> {
        let is_it = self.store.iter().any(|statistic| statistic.name == "fdb_commits");
        is_it.then(|| {
            json!({
                "commits": self.gauge("fdb_commits"),
                "batches": self.gauge("fdb_batches"),
                "rows": self.gauge("fdb_rows"),
                "conflicts": self.gauge("fdb_conflicts"),
                "unknown": self.gauge("fdb_unknown"),
                "unknown_was_in": self.gauge("fdb_unknown_was_in"),
                "retries": self.gauge("fdb_retries"),
            })
        })
    }

    /// What an operator should know at once: sentences.
    fn alarms(&self) -> Vec<String> {
        let mut alarms = Vec::new();
        if let Err(why) = &self.ready {
            alarms.push(format!("not ready: {why}"));
        }
        let (taken, places) = (self.sum(|core| core.connections.get()), self.sum(|core| core.places.get()));
        if taken as f64 > PLACES_SHORT * places as f64 {
            alarms.push(format!("{taken} of {places} places are taken: newcomers find none soon"));
        }
        if let Some(Space { free, free_min }) = self.space.filter(|space| space.free < 2 * space.free_min) {
            alarms.push(format!("{free} bytes are left; below {free_min} nothing is written"));
        }
        let segments = self.gauge("log_segments");
        if segments > SEGMENTS_BEHIND {
            alarms.push(format!("the tables are behind: the log has {segments} segments"));
        }
        for lane in self.pushes.iter().filter(|lane| lane.is_away()) {
            let held = lane.seen.held;
            alarms.push(format!("the push service {} is down: {held} notices wait", lane.seen.name));
        }
        alarms.extend(self.backup.as_ref().and_then(|status| backup::alarm(status, self.now_ms)));
        let node: &NodeMetrics = &self.metrics.node;
        let ends = node.certificate_end_timestamp_seconds.get();
        if ends > 0 && ends < self.now_ms / 1000 + CERTIFICATE_S {
            alarms.push("the certificate has ended, or ends within 14 days".to_owned());
        }
        if node.certificate_stale.get() > 0 {
            alarms.push("a certificate that was read again could not be used: see the log".to_owned());
        }
        alarms
    }

    /// All of it.
    pub fn to_json(&self) -> Value {
        let node: &NodeMetrics = &self.metrics.node;
        let sent = |of: fn(&CoreMetrics) -> u64| self.sum(of);
        let by_reason = |place: usize| {
            let count =
                |core: &CoreMetrics| core.sent.by_reason()[place].2.iter().map(|(_, count)| count).sum();
            self.sum(count)
        };
        let busy = |core: &CoreMetrics| Unit::Us.told(core.turn_us.read().1);
        let process = Process::of_this();
        json!({
            "uptime_s": self.began.elapsed().as_secs(),
            "ready": self.ready.is_ok(),
            "alarms": self.alarms(),
            "connections": self.sum(|core| core.connections.get()),
            "sessions": self.sum(|core| core.sessions.get()),
            "strangers": self.sum(|core| core.strangers.get()),
            "places": self.sum(|core| core.places.get()),
            "totals": {
                "messages_acknowledged": sent(|core| core.sent.acknowledgements.get()),
                "messages_delivered": sent(|core| core.sent.entries.get()),
                "history_pages": sent(|core| core.sent.pages.get()),
                "logins": sent(|core| core.sent.logins.get()),
                "accepts": sent(|core| core.accepts.get()),
                "connections_refused": sent(|core| core.connections_refused.get()),
                "refusals": by_reason(0),
                "go_aways": by_reason(1),
                "codes_delivered": node.codes_delivered.get(),
                "codes_failed": node.codes_failed.get() + node.codes_expired.get(),
            },
            "commit_seconds": self.histogram(|core| &core.commit_us),
            "turn_seconds": self.histogram(|core| &core.turn_us),
            "busy_seconds": self.metrics.cores().map(busy).collect::<Vec<_>>(),
            "store": {
                "table_bytes": self.gauge("table_bytes"),
                "log_segments": self.gauge("log_segments"),
                "waiting_bytes": self.gauge("waiting_bytes"),
                "commit_bytes": self.gauge("commit_bytes"),
                "commit_groups": self.gauge("commit_groups"),
                "free_bytes": self.space.map(|space| space.free),
                "free_bytes_min": self.space.map(|space| space.free_min),
                "fdb": self.foundationdb(),
            },
            "backup": self.backup.as_ref().map(backup::to_json),
            "codes_waiting": node.codes_waiting.get(),
            "certificate_end_s": node.certificate_end_timestamp_seconds.get(),
            "process": process.map(|process| json!({
                "cpu_seconds": process.cpu_seconds, "resident_bytes": process.resident_bytes as u64,
                "open_fds": process.open_fds as u64, "max_fds": process.max_fds as u64,
            })),
        })
    }
}
