//! The figures that a report is judged by, and that two reports are compared by.

use serde_json::Value;

use super::Runs;
use super::page::short;
use super::plan::LASTING;

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Better {
    Higher,
    Lower,
}

/// One figure, with a value for each round.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The same in all reports.
    pub key: &'static str,
    /// What it is, for people, with the rates and times that were asked for.
    pub name: String,
    pub better: Better,
    /// What tern must reach.
    pub target: Option<f64>,
    /// It says as much of another machine.
    pub is_ratio: bool,
    /// The runs that it is of.
    pub runs: Vec<String>,
    pub values: Vec<f64>,
}

/// Records that cross the server for a message: one in, the acknowledgement and the delivery out. An echo's are two.
const RECORDS_TO_ECHO: f64 = 3.0 / 2.0;

/// Silent connections that one machine must hold.
const CONNECTIONS: f64 = 1e6;

/// The middle one of some values; `None` of none.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

impl Figure {
    fn of(key: &'static str, name: impl Into<String>, better: Better) -> Self {
        let (name, runs, values) = (name.into(), Vec::new(), Vec::new());
        Self { key, name, better, target: None, is_ratio: false, runs, values }
    }

    fn aims(self, target: f64) -> Self {
        Self { target: Some(target), ..self }
    }

    fn ratio(self) -> Self {
        Self { is_ratio: true, ..self }
    }

    fn from(self, runs: &[&str], values: Vec<f64>) -> Self {
        Self { runs: runs.iter().map(|run| (*run).to_owned()).collect(), values, ..self }
    }

    /// The middle value.
    pub fn median(&self) -> f64 {
        median(self.values.clone()).unwrap_or(f64::NAN)
    }

    /// The lowest and the highest.
    pub fn range(&self) -> (f64, f64) {
        let fold = |pick: fn(f64, f64) -> f64| self.values.iter().copied().fold(f64::NAN, pick);
        (fold(f64::min), fold(f64::max))
    }

    /// Whether the target is met by the middle value; `None` without a target.
    pub fn met(&self) -> Option<bool> {
        self.target.map(|target| match self.better {
            Better::Higher => self.median() >= target,
            Better::Lower => self.median() <= target,
        })
    }
}

/// What is said of two values of one figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// The ranges of both overlap.
    WithinNoise,
    Better,
    Worse,
}

/// Compares: a difference counts where all rounds of one lie on one side of all rounds of the other.
pub fn compare(before: &Figure, after: &Figure) -> Verdict {
    let ((low, high), (low_after, high_after)) = (before.range(), after.range());
    let up = low_after > high;
    let down = high_after < low;
    match (up, down, before.better) {
        (true, _, Better::Higher) | (_, true, Better::Lower) => Verdict::Better,
        (true, _, Better::Lower) | (_, true, Better::Higher) => Verdict::Worse,
        _ => Verdict::WithinNoise,
    }
}

/// All figures that the runs give.
pub fn figures(runs: &Runs) -> Vec<Figure> {
    let of = |run: &str, path: &str| -> Vec<f64> {
        let number = |result: &Value| result.pointer(path).and_then(Value::as_f64);
        runs.results(run).iter().filter_map(number).collect()
    };
    // What runs were really asked for: a quick report has other rates and times.
    let asked = |run: &str, path: &str, usual: f64| short(of(run, path).first().copied().unwrap_or(usual));
    let by_round = |above: Vec<f64>, below: Vec<f64>, factor: f64| -> Vec<f64> {
        above.iter().zip(&below).map(|(above, below)| above / (below * factor)).collect()
    };
    let difference = |of: Vec<f64>, from: Vec<f64>| of.iter().zip(&from).map(|(a, b)| a - b).collect();
    use Better::{Higher, Lower};
    // The last one that ran has the most connections.
    let largest_idle = runs.names().filter(|name| name.starts_with("idle-")).last().unwrap_or_default();
    let tried = of(largest_idle, "/connections").first().copied().unwrap_or(CONNECTIONS);
    let floor = format!("{}/s", asked("pairs-floor", "/rate_per_s", 50_000.0));
    let lasting = format!("{} s", asked(LASTING, "/seconds", 120.0));
    let short_run = format!("{} s", asked("pairs-closed", "/seconds", 10.0));
    let crowd = asked("strangers", "/connections", 500.0);
    let all = [
        Figure::of("closed-rate", "acknowledged messages/s, 16 in flight a sender", Higher)
            .aims(100_000.0)
            .from(&["pairs-closed"], of("pairs-closed", "/acked_per_s")),
        Figure::of("closed-cpu", "server CPU us a message, at that rate", Lower)
            .aims(10.0)
            .from(&["pairs-closed"], of("pairs-closed", "/server_cpu_us_per_message")),
        Figure::of("closed-echoes", "that, as a multiple of a bare TLS echo with as many records", Lower)
            .aims(2.0)
            .ratio()
            .from(
                &["pairs-closed", "limits"],
                by_round(
                    of("pairs-closed", "/server_cpu_us_per_message"),
                    of("limits", "/tls_echo_cpu_us"),
                    RECORDS_TO_ECHO,
                ),
            ),
        Figure::of(
            "lasting-rate",
            format!("acknowledged messages/s over {lasting}, as a multiple of those over {short_run}"),
            Higher,
        )
        .aims(0.9)
        .ratio()
        .from(
            &[LASTING, "pairs-closed"],
            median(of("pairs-closed", "/acked_per_s"))
                .map_or(Vec::new(), |short| by_round(of(LASTING, "/acked_per_s"), vec![short], 1.0)),
        ),
        Figure::of(
            "lasting-bytes",
            format!("bytes that reach the disk for a message of 200, over {lasting}"),
            Lower,
        )
        .aims(1000.0)
        .from(&[LASTING], of(LASTING, "/disk_bytes_per_message")),
        Figure::of("floor-p50", format!("acknowledgement p50 ms at {floor}"), Lower)
            .from(&["pairs-floor"], of("pairs-floor", "/ack_ms/p50")),
        Figure::of("floor-p99", format!("acknowledgement p99 ms at {floor}"), Lower)
            .from(&["pairs-floor"], of("pairs-floor", "/ack_ms/p99")),
        Figure::of("floor-syncs", "that, as a multiple of the p99 of fdatasync", Lower)
            .aims(2.0)
            .ratio()
            .from(
                &["pairs-floor", "limits"],
                by_round(of("pairs-floor", "/ack_ms/p99"), of("limits", "/fdatasync_ms/p99"), 1.0),
            ),
        Figure::of(
            "echo-p99",
            "p99 ms of a bare TLS echo with as many records/s as 50,000 messages/s have",
            Lower,
        )
        .from(&["limits"], of("limits", "/tls_echo_open_loop_ms/p99")),
        Figure::of(
            "floor-delivery",
            format!("delivery p99 ms beyond the acknowledgement's, at {floor}"),
            Lower,
        )
        .aims(1.0)
        .from(
            &["pairs-floor"],
            difference(of("pairs-floor", "/delivery_ms/p99"), of("pairs-floor", "/ack_ms/p99")),
        ),
        Figure::of("half-p99", "acknowledgement p99 ms at half of the highest rate", Lower)
            .from(&["pairs-half"], of("pairs-half", "/ack_ms/p99")),
        Figure::of(
            "among-many",
            "server CPU a message among the most connected users, as a multiple of that among few",
            Lower,
        )
        .aims(1.2)
        .ratio()
        .from(
            &["among-many", "among-few"],
            by_round(
                of("among-many", "/server_cpu_us_per_message"),
                of("among-few", "/server_cpu_us_per_message"),
                1.0,
            ),
        ),
        Figure::of(
            "cores",
            "two cores as a multiple of one, the generator's share subtracted (by CPU a message)",
            Higher,
        )
        .aims(1.8)
        .ratio()
        .from(
            &["pairs-closed-1-core", "pairs-closed"],
            by_round(
                of("pairs-closed-1-core", "/server_cpu_us_per_message"),
                of("pairs-closed", "/server_cpu_us_per_message"),
                0.5,
            ),
        ),
        Figure::of("idle-user", "user bytes an idle connection, of the most", Lower)
            .aims(600.0)
            .from(&[largest_idle], of(largest_idle, "/server_user_bytes_per_connection")),
        Figure::of("idle-kernel", "kernel bytes an idle connection, of the most", Lower)
            .aims(4300.0)
            .from(&[largest_idle], of(largest_idle, "/server_kernel_bytes_per_connection")),
        Figure::of("idle-held", format!("idle connections held, of {} tried", short(tried)), Higher)
            // A report that tries fewer says nothing of the aim.
            .aims(CONNECTIONS.min(tried))
            .from(&[largest_idle], of(largest_idle, "/pings_answered")),
        Figure::of("idle-rate", "connections/s while they come", Higher)
            .from(&[largest_idle], of(largest_idle, "/connected_per_s")),
        Figure::of("handshakes", "handshakes/s a core that the crypto allows", Higher)
            .from(&["limits"], of("limits", "/handshakes_per_s_per_core")),
        Figure::of("moves-ack", "acknowledgement p99 while slots move, as a multiple of before", Lower)
            .aims(3.0)
            .ratio()
            .from(
                &["rebalance"],
                by_round(of("rebalance", "/ack_ms_during/p99"), of("rebalance", "/ack_ms_before/p99"), 1.0),
            ),
        Figure::of("moves-pause", "pause of a slot that moves, p99, ms", Lower)
            .from(&["rebalance"], of("rebalance", "/pause_ms/p99")),
        Figure::of("dealt-out", "a load on one of two cores, when dealt out, as a multiple", Higher)
            .aims(1.6)
            .ratio()
            .from(
                &["rebalance"],
                by_round(of("rebalance", "/balanced_per_s"), of("rebalance", "/skewed_per_s"), 1.0),
            ),
        Figure::of("storm-rate", "devices back/s in a storm", Higher)
            .from(&["storm"], of("storm", "/handshakes_per_s")),
        Figure::of("storm-live", "live acknowledgement p99 in a storm, as a multiple of before", Lower)
            .aims(3.0)
            .ratio()
            .from(
                &["storm"],
                by_round(of("storm", "/live_ack_ms_during/p99"), of("storm", "/live_ack_ms_before/p99"), 1.0),
            ),
        Figure::of("resume", "resume with nothing new, handshake included, p99 ms", Lower)
            .from(&["resume"], of("resume", "/nothing_new_ms/p99")),
        Figure::of("churn", "login p99 ms while devices come and go", Lower)
            .from(&["churn"], of("churn", "/login_ms/p99")),
        Figure::of(
            "strangers-login",
            format!("the slowest login beside {crowd} hostile connections, ms"),
            Lower,
        )
        .aims(100.0)
        .from(&["strangers"], of("strangers", "/login_ms_during/max")),
        Figure::of(
            "strangers-bytes",
            "bytes of one of those: the server's, and the kernel's at both ends",
            Lower,
        )
        .from(&["strangers"], of("strangers", "/bytes_per_connection")),
    ];
    all.into_iter().filter(|figure| !figure.values.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(better: Better, values: &[f64]) -> Figure {
        Figure::of("one", "a figure", better).aims(10.0).from(&["a-run"], values.to_vec())
    }

    #[test]
    fn what_overlaps_is_noise() {
        let before = figure(Better::Lower, &[9.0, 10.0, 12.0]);
        assert_eq!(compare(&before, &figure(Better::Lower, &[11.0, 13.0, 14.0])), Verdict::WithinNoise);
        assert_eq!(compare(&before, &figure(Better::Lower, &[12.5, 13.0, 14.0])), Verdict::Worse);
        assert_eq!(compare(&before, &figure(Better::Lower, &[7.0, 8.0, 8.9])), Verdict::Better);
        let before = figure(Better::Higher, &[9.0, 10.0, 12.0]);
        assert_eq!(compare(&before, &figure(Better::Higher, &[12.5, 13.0])), Verdict::Better);
    }

    #[test]
    fn a_target_is_met_by_the_middle_value() {
        assert_eq!(figure(Better::Lower, &[1.0, 9.0, 90.0]).met(), Some(true));
        assert_eq!(figure(Better::Lower, &[1.0, 11.0, 12.0]).met(), Some(false));
        assert_eq!(figure(Better::Higher, &[11.0]).met(), Some(true));
    }
}
