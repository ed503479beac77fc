//! `ternctl status` and `ternctl top`: how the node is, in 80 columns.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::socket::{AskError, ask};

/// Begins the screen anew.
const CLEAR: &str = "\x1b[H\x1b[2J";

fn asked(socket: &Path) -> Result<Value, AskError> {
    ask(socket, &json!({ "ask": "status" }))?.next()
}

/// Shows it once. The percentiles are of all since the start.
pub fn status(socket: &Path, json: bool) -> Result<(), AskError> {
    let status = asked(socket)?;
    if json {
        say!("{status}");
    } else {
        say!("{}", page(&status, None));
    }
    Ok(())
}

/// Shows it again and again, with what has happened since the last time; `times` 0: without end.
pub fn top(socket: &Path, json: bool, every: Duration, times: u32) -> Result<(), AskError> {
    let (mut before, mut looked) = (asked(socket)?, Instant::now());
    let mut shown = 0;
    while times == 0 || shown < times {
        thread::sleep(every);
        let (now, seconds) = (asked(socket)?, looked.elapsed().as_secs_f64());
        looked = Instant::now();
        if json {
            say!("{now}");
        } else {
            let clear = if std::io::stdout().is_terminal() { CLEAR } else { "" };
            say!("{clear}{}", page(&now, Some((&before, seconds))));
            // A terminal shows what was written before the next sleep.
            let _ = std::io::stdout().flush();
        }
        before = now;
        shown += 1;
    }
    Ok(())
}

/// A look at the node, and the one before with the seconds between them.
fn page(status: &Value, before: Option<(&Value, f64)>) -> String {
    let node = &status["node"];
    let ready = if node["ready"] == true { "ready" } else { "NOT READY" };
    let mut text = format!(
        "ternd {}, process {}\nup {}, {ready}\n\n",
        status["version"].as_str().unwrap_or("?"),
        status["pid"],
        time(number(&node["uptime_s"])),
    );
    let rows = traffic(node, before).into_iter().chain(machine(node, before)).chain(warnings(node));
    for (name, rest) in rows {
        text += &format!("{name:<12} {rest}\n");
    }
    text + "\n" + &cores(status, before)
}

/// A name, and what stands beside it.
type Line = (&'static str, String);

/// A number of an answer; 0 if it is not there.
pub(crate) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

/// Who is here, and what they do.
fn traffic(node: &Value, before: Option<(&Value, f64)>) -> Vec<Line> {
    // Since the start, or a second.
    let counted = |path: &str| {
        let of = |node: &Value| number(node.pointer(path).unwrap_or(&Value::Null));
        match before {
            Some((before, seconds)) => {
                format!("{}/s", short(((of(node) - of(&before["node"])) / seconds).max(0.0)))
            }
            None => short(of(node)),
        }
    };
    let (taken, places) = (number(&node["connections"]), number(&node["places"]).max(1.0));
    let here = format!(
        "{} of {} places ({:.0} %), {} logged in, {} not",
        short(taken),
        short(places),
        100.0 * taken / places,
        short(number(&node["sessions"])),
        short(number(&node["strangers"])),
    );
    let messages = format!(
        "{} acknowledged, {} delivered, {} pages",
        counted("/totals/messages_acknowledged"),
        counted("/totals/messages_delivered"),
        counted("/totals/history_pages"),
    );
    let coming = format!(
        "{} connections, {} logins, {} without a place",
        counted("/totals/accepts"),
        counted("/totals/logins"),
        counted("/totals/connections_refused"),
    );
    let told = format!(
        "{} refusals, {} ends; codes: {} delivered, {} not, {} wait",
        counted("/totals/refusals"),
        counted("/totals/go_aways"),
        counted("/totals/codes_delivered"),
        counted("/totals/codes_failed"),
        short(number(&node["codes_waiting"])),
    );
    vec![("connections", here), ("messages", messages), ("coming", coming), ("told", told)]
}

/// What the node takes, and how fast it is.
fn machine(node: &Value, before: Option<(&Value, f64)>) -> Vec<Line> {
    let quantiles = |name: &str| {
        let buckets = since(&node[name], before.map(|(before, _)| &before["node"][name]));
        [0.5, 0.99].map(|share| quantile(&buckets, share).map_or_else(|| "-".to_owned(), time))
    };
    let ([commit_50, commit_99], [turn_50, turn_99]) =
        (quantiles("commit_seconds"), quantiles("turn_seconds"));
    let commits = format!("p50 {commit_50}, p99 {commit_99}; a core's turn p50 {turn_50}, p99 {turn_99}");
    let store = &node["store"];
    let fdb = &store["fdb"];
    let in_fdb = || {
        format!(
            "FoundationDB: {} commits of {} batches; {} unknown, {} conflicts, {} put off",
            short(number(&fdb["commits"])),
            short(number(&fdb["batches"])),
            short(number(&fdb["unknown"])),
            short(number(&fdb["conflicts"])),
            short(number(&fdb["retries"])),
        )
    };
    let on_disk = || {
        format!(
            "{} in tables, {} segments of log, {} waiting for the tables",
            size(number(&store["table_bytes"])),
            store["log_segments"],
            size(number(&store["waiting_bytes"])),
        )
    };
    let stored = if fdb.is_object() { in_fdb() } else { on_disk() };
    let mut lines = vec![("commits", commits), ("store", stored)];
    if let Some(free) = store["free_bytes"].as_f64() {
        let least = size(number(&store["free_bytes_min"]));
        lines.push(("disk", format!("{} free; below {least} nothing is written", size(free))));
    }
    let process = &node["process"];
    let cpu = match before {
        Some((before, seconds)) => {
            let used = number(&process["cpu_seconds"]) - number(&before["node"]["process"]["cpu_seconds"]);
            format!("{:.2} CPUs", used / seconds)
        }
        None => format!("{} of CPU", time(number(&process["cpu_seconds"]))),
    };
    let process = format!(
        "{cpu}, {} of memory, {} of {} files",
        size(number(&process["resident_bytes"])),
        process["open_fds"],
        process["max_fds"],
    );
    lines.push(("process", process));
    lines
}

/// What an operator has to look after.
fn warnings(node: &Value) -> Vec<Line> {
    let ends = number(&node["certificate_end_s"]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let certificate = if ends > 0.0 {
        format!("ends in {}", time((ends - now.as_secs_f64()).max(0.0)))
    } else {
        "?".to_owned()
    };
    let alarms = node["alarms"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut alarms: Vec<Line> = alarms.map(|alarm| ("ALARM", alarm.to_owned())).collect();
    if alarms.is_empty() {
        alarms.push(("alarms", "none".to_owned()));
    }
    let mut lines = vec![("certificate", certificate)];
    lines.append(&mut alarms);
    lines
}

/// A row for each core.
fn cores(status: &Value, before: Option<(&Value, f64)>) -> String {
    let busy_head = if before.is_some() { "busy" } else { "busy s" };
    let mut text = format!(
        "{:>4} {:>6} {:>12} {:>10} {:>11} {:>11} {:>8} {busy_head:>8}",
        "core", "slots", "connections", "logged in", "users held", "logs held", "commits"
    );
    for (at, core) in status["cores"].as_array().into_iter().flatten().enumerate() {
        if core.get("error").is_some() {
            text += &format!("\n{:>4} does not answer", core["core"].to_string());
            continue;
        }
        let busy = |status: &Value| status["node"]["busy_seconds"][at].as_f64().unwrap_or(0.0);
        let busy = match before {
            Some((before, seconds)) => format!("{:.0} %", 100.0 * (busy(status) - busy(before)) / seconds),
            None => format!("{:.0}", busy(status)),
        };
        let cell = |name: &str| core[name].as_f64().map_or_else(|| "?".to_owned(), short);
        text += &format!(
            "\n{:>4} {:>6} {:>12} {:>10} {:>11} {:>11} {:>8} {busy:>8}",
            core["core"].to_string(),
            cell("slots"),
            cell("connections"),
            cell("sessions"),
            cell("users"),
            cell("logs"),
            cell("commits_in_flight"),
        );
    }
    text
}

/// The buckets of a histogram, less those of an earlier one: (upper bound in seconds, 0 without end; count).
fn since(now: &Value, before: Option<&Value>) -> Vec<(f64, f64)> {
    let buckets = |value: &Value| -> Vec<(f64, f64)> {
        let pair = |pair: &Value| Some((pair[0].as_f64()?, pair[1].as_f64()?));
        value.as_array().into_iter().flatten().filter_map(pair).collect()
    };
    let before = before.map(buckets).unwrap_or_default();
    let earlier = |at: usize| before.get(at).map_or(0.0, |(_, count)| *count);
    buckets(now).into_iter().enumerate().map(|(at, (bound, count))| (bound, count - earlier(at))).collect()
}

/// The value that a share of all lies below, as if those of a bucket lay evenly in it; `None` of nothing, or beyond all bounds.
fn quantile(buckets: &[(f64, f64)], share: f64) -> Option<f64> {
    let all: f64 = buckets.iter().map(|(_, count)| count).sum();
    let (mut below, mut lower) = (0.0, 0.0);
    for (upper, count) in buckets {
        if *count > 0.0 && below + count >= share * all {
            let within = (share * all - below) / count;
            return (*upper > 0.0).then(|| lower + (upper - lower) * within);
        }
        (below, lower) = (below + count, *upper);
    }
    None
}

/// A number, with thousands apart.
fn short(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn size(bytes: f64) -> String {
    let (mut value, mut unit) = (bytes, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    if unit == "B" || value >= 100.0 { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") }
}

/// A time in its two largest units.
fn time(seconds: f64) -> String {
    match seconds {
        s if s < 0.001 => format!("{:.0} us", s * 1e6),
        s if s < 0.1 => format!("{:.1} ms", s * 1e3),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 60.0 => format!("{s:.0} s"),
        s if s < 3600.0 => format!("{:.0} min {:.0} s", (s / 60.0).floor(), s % 60.0),
        s if s < 86_400.0 => format!("{:.0} h {:.0} min", (s / 3600.0).floor(), (s % 3600.0 / 60.0).floor()),
        s if s < 730.0 * 86_400.0 => {
            format!("{:.0} d {:.0} h", (s / 86_400.0).floor(), (s % 86_400.0 / 3600.0).floor())
        }
        s => format!("{:.0} years", s / (365.25 * 86_400.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(acknowledged: u64, fast: u64, slow: u64) -> Value {
        json!({
            "version": "0.1.0 (990e967 2026-11-26, modified)", "pid": 4_194_304,
            "cores": [
                { "core": 0, "slots": 2048, "connections": 14_000, "sessions": 13_999, "users": 100_000, "logs": 100_000, "commits_in_flight": 64 },
                { "core": 255, "error": "no answer" },
            ],
            "node": {
                "uptime_s": 90_061, "ready": false, "alarms": ["not ready: draining"],
                "connections": 1_234_567, "sessions": 1_234_000, "strangers": 567, "places": 4_000_000,
                "totals": { "messages_acknowledged": acknowledged, "messages_delivered": 123_456_789_012_u64, "history_pages": 12_345_678,
                    "logins": 1, "accepts": 2, "connections_refused": 3, "refusals": 4, "go_aways": 5, "codes_delivered": 6, "codes_failed": 7 },
                "commit_seconds": [[0.001024, fast], [0.016384, slow], [0.0, 0]],
                "turn_seconds": [[0.000064, fast], [0.0, 0]],
                "busy_seconds": [3.5, 0.0],
                "store": { "table_bytes": 12_345_678_901_u64, "log_segments": 12, "waiting_bytes": 0, "free_bytes": 98_765_432_109_u64, "free_bytes_min": 268_435_456 },
                "codes_waiting": 0, "certificate_end_s": 0,
                "process": { "cpu_seconds": 100.5, "resident_bytes": 1_234_567_890, "open_fds": 42, "max_fds": 20_000 },
            },
        })
    }

    #[test]
    fn nothing_is_wider_than_a_terminal_of_80() {
        let (before, now) = (status(1000, 10, 0), status(5000, 20, 90));
        for page in [page(&now, None), page(&now, Some((&before, 2.0)))] {
            for line in page.lines() {
                assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
            }
            assert!(
                page.contains("NOT READY") && page.contains("ALARM        not ready: draining"),
                "{page}"
            );
            assert!(page.contains("255 does not answer"), "{page}");
        }
    }

    #[test]
    fn rates_and_percentiles_are_of_the_time_between_two_looks() {
        let (before, now) = (status(1000, 100, 0), status(5000, 101, 99));
        let once = page(&now, None);
        assert!(once.contains("5,000 acknowledged") && once.contains("p50 1.0 ms, p99 16.1 ms"), "{once}");
        let since = page(&now, Some((&before, 2.0)));
        assert!(
            since.contains("2,000/s acknowledged") && since.contains("p50 8.6 ms, p99 16.2 ms"),
            "{since}"
        );
    }

    #[test]
    fn a_share_of_nothing_is_nothing() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[(0.1, 0.0)], 0.5), None);
        assert_eq!(quantile(&[(0.1, 1.0), (0.0, 99.0)], 0.5), None, "beyond all bounds");
        assert_eq!(quantile(&[(0.1, 1.0), (0.2, 1.0)], 0.5), Some(0.1));
        let three_quarters = quantile(&[(0.1, 1.0), (0.2, 1.0)], 0.75).expect("there are some");
        assert!((three_quarters - 0.15).abs() < 1e-9, "{three_quarters}");
    }
}
