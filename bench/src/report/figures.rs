//! The figures that a report is judged by, and that two reports are compared by.

use serde_json::Value;

use super::Runs;
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
    pub name: &'static str,
    pub better: Better,
    /// What tern must reach.
    pub target: Option<f64>,
    pub values: Vec<f64>,
}

/// Records that cross the server for a message: one in, the acknowledgement and the delivery out. An echo's are two.
const RECORDS_TO_ECHO: f64 = 3.0 / 2.0;

/// The middle one of some values; `None` of none.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

impl Figure {
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
    let by_round = |above: Vec<f64>, below: Vec<f64>, factor: f64| -> Vec<f64> {
        above.iter().zip(&below).map(|(above, below)| above / (below * factor)).collect()
    };
    let difference = |of: Vec<f64>, from: Vec<f64>| of.iter().zip(&from).map(|(a, b)| a - b).collect();
    let figure = |name, better, target, values| Figure { name, better, target, values };
    use Better::{Higher, Lower};
    // The last one that ran has the most connections.
    let largest_idle = runs.names().filter(|name| name.starts_with("idle-")).last().unwrap_or_default();
    let all = vec![
        figure(
            "acknowledged messages/s, 16 in flight a sender",
            Higher,
            Some(100_000.0),
            of("pairs-closed", "/acked_per_s"),
        ),
        figure(
            "server CPU us a message, at that rate",
            Lower,
            Some(10.0),
            of("pairs-closed", "/server_cpu_us_per_message"),
        ),
        figure(
            "that, as a multiple of a bare TLS echo with as many records",
            Lower,
            Some(2.0),
            by_round(
                of("pairs-closed", "/server_cpu_us_per_message"),
                of("limits", "/tls_echo_cpu_us"),
                RECORDS_TO_ECHO,
            ),
        ),
        figure(
            "acknowledged messages/s over two minutes, as a multiple of those over ten seconds",
            Higher,
            Some(0.9),
            median(of("pairs-closed", "/acked_per_s"))
                .map_or(Vec::new(), |short| by_round(of(LASTING, "/acked_per_s"), vec![short], 1.0)),
        ),
        figure(
            "bytes that reach the disk for a message of 200, over two minutes",
            Lower,
            Some(1000.0),
            of(LASTING, "/disk_bytes_per_message"),
        ),
        figure("acknowledgement p50 ms at 50,000/s", Lower, None, of("pairs-floor", "/ack_ms/p50")),
        figure("acknowledgement p99 ms at 50,000/s", Lower, None, of("pairs-floor", "/ack_ms/p99")),
        figure(
            "that, as a multiple of the p99 of fdatasync",
            Lower,
            Some(2.0),
            by_round(of("pairs-floor", "/ack_ms/p99"), of("limits", "/fdatasync_ms/p99"), 1.0),
        ),
        figure(
            "p99 ms of a bare TLS echo with as many records/s as 50,000 messages/s have",
            Lower,
            None,
            of("limits", "/tls_echo_open_loop_ms/p99"),
        ),
        figure(
            "delivery p99 ms beyond the acknowledgement's",
            Lower,
            Some(1.0),
            difference(of("pairs-floor", "/delivery_ms/p99"), of("pairs-floor", "/ack_ms/p99")),
        ),
        figure(
            "acknowledgement p99 ms at half of the highest rate",
            Lower,
            None,
            of("pairs-half", "/ack_ms/p99"),
        ),
        figure(
            "server CPU a message among the most connected users, as a multiple of that among few",
            Lower,
            Some(1.2),
            by_round(
                of("among-many", "/server_cpu_us_per_message"),
                of("among-few", "/server_cpu_us_per_message"),
                1.0,
            ),
        ),
        figure(
            "two cores as a multiple of one, the generator's share subtracted (by CPU a message)",
            Higher,
            Some(1.8),
            by_round(
                of("pairs-closed-1-core", "/server_cpu_us_per_message"),
                of("pairs-closed", "/server_cpu_us_per_message"),
                0.5,
            ),
        ),
        figure(
            "user bytes an idle connection, of the most",
            Lower,
            Some(600.0),
            of(largest_idle, "/server_user_bytes_per_connection"),
        ),
        figure(
            "kernel bytes an idle connection, of the most",
            Lower,
            Some(4300.0),
            of(largest_idle, "/server_kernel_bytes_per_connection"),
        ),
        figure("idle connections held", Higher, Some(1e6), of(largest_idle, "/pings_answered")),
        figure("connections/s while they come", Higher, None, of(largest_idle, "/connected_per_s")),
        figure(
            "handshakes/s a core that the crypto allows",
            Higher,
            None,
            of("limits", "/handshakes_per_s_per_core"),
        ),
        figure("devices back/s in a storm", Higher, None, of("storm", "/handshakes_per_s")),
        figure(
            "live acknowledgement p99 in a storm, as a multiple of before",
            Lower,
            Some(3.0),
            by_round(of("storm", "/live_ack_ms_during/p99"), of("storm", "/live_ack_ms_before/p99"), 1.0),
        ),
        figure(
            "resume with nothing new, handshake included, p99 ms",
            Lower,
            None,
            of("resume", "/nothing_new_ms/p99"),
        ),
        figure("login p99 ms while devices come and go", Lower, None, of("churn", "/login_ms/p99")),
        figure(
            "the slowest login beside 500 hostile connections, ms",
            Lower,
            Some(100.0),
            of("strangers", "/login_ms_during/max"),
        ),
        figure(
            "bytes of one of those: the server's, and the kernel's at both ends",
            Lower,
            Some(65_536.0),
            of("strangers", "/bytes_per_connection"),
        ),
    ];
    all.into_iter().filter(|figure| !figure.values.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(better: Better, values: &[f64]) -> Figure {
        Figure { name: "a figure", better, target: Some(10.0), values: values.to_vec() }
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
