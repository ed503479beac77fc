//! The page of a report: Markdown and plots, made of what the runs gave.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::Runs;
use super::figures::{Better, Figure, figures};
use super::plan::{LASTING, TARGETS_MS};
use crate::latency::{Micros, micros, read_log};
use crate::plot::{Axis, Bars, Mark, Plot, Scale, Series};

/// Points of a line of percentiles.
const QUANTILES: usize = 400;

/// The page and its plots: names and texts.
pub fn files(runs: &Runs, folder: &Path) -> Vec<(String, String)> {
    let source = source(runs);
    let mut plots = Vec::new();
    plots.extend(percentiles(runs, folder));
    plots.extend(over_time(folder, &source, &of_the_half(runs)));
    plots.extend(lasting(runs));
    plots.extend(sweep(runs));
    plots.extend(achieved(runs));
    plots.extend(targets(runs, folder));
    plots.extend(memory(runs));
    plots.extend(stages(runs));
    plots.extend(over_time(folder, &source, &of_the_storm(runs)));
    plots.extend(over_time(folder, &source, &of_the_moves(runs)));
    plots.extend(dealt_out(runs));
    let page = page(runs, &plots);
    let svgs = plots.into_iter().map(|(file, _, svg)| (file.to_owned(), svg));
    [("README.md".to_owned(), page)].into_iter().chain(svgs).collect()
}

/// A plot: its file, what it shows, its text.
type Drawn = (&'static str, String, String);

/// What stands below each plot.
fn source(runs: &Runs) -> String {
    let machine = &runs.machine;
    let quick = if runs.quick { "QUICK: says nothing; " } else { "" };
    format!(
        "{quick}tern {}, {}; {}, {} CPUs with the generator's, {} GiB, Linux {}",
        runs.commit,
        runs.day(),
        machine.cpu,
        machine.cpus,
        machine.memory_gib,
        machine.kernel
    )
}

fn page(runs: &Runs, plots: &[Drawn]) -> String {
    let (quick, says) = if runs.quick {
        (
            "Quick report",
            "**Each run was a moment, at rates of its own: the figures say that everything works, and nothing else.** ",
        )
    } else {
        ("Report", "")
    };
    let mut page = format!(
        "# {quick} of {}\n\n{says}{}. tern {}. The generator runs on the same machine and takes its share of the CPUs. Made by \
         `tern-bench report`; docs/PERFORMANCE.md says how to read it.\n\n",
        runs.begun,
        runs.machine.line(),
        runs.commit
    );
    page += "## Figures\n\n| what | median | lowest to highest | target | |\n|---|---:|---:|---:|---|\n";
    for figure in figures(runs) {
        page += &row(&figure, runs.quick);
    }
    page += "\n## Plots\n\n";
    for (file, about, _) in plots {
        page += &format!("{about}\n\n![{about}]({file})\n\n");
    }
    page += "## Commands\n\nWhat each printed is in report.json, the latencies of each second in the .hlog files (HdrHistogram's \
             interval log, in microseconds).\n\n| run | command | rounds |\n|---|---|---:|\n";
    for ran in &runs.runs {
        page += &format!("| {} | `{}` | {} |\n", ran.name, ran.command, ran.results.len());
    }
    page
}

/// A quick report judges nothing.
fn row(figure: &Figure, quick: bool) -> String {
    let (low, high) = figure.range();
    let spread = if figure.values.len() < 2 {
        "one round".to_owned()
    } else {
        format!("{} to {}", short(low), short(high))
    };
    let sign = if figure.better == Better::Higher { "at least" } else { "at most" };
    let judged = figure.target.filter(|_| !quick);
    let target = judged.map(|target| format!("{sign} {}", short(target))).unwrap_or_default();
    let met = match figure.met().filter(|_| !quick) {
        Some(true) => "met",
        Some(false) => "**not met**",
        None => "",
    };
    format!("| {} | {} | {spread} | {target} | {met} |\n", figure.name, short(figure.median()))
}

/// A number with three digits that count, and thousands apart.
pub fn short(number: f64) -> String {
    if !number.is_finite() {
        return "?".to_owned();
    }
    let decimals = match number.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{number:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        let left = whole.len() - at;
        if at > 0 && left % 3 == 0 && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

fn axis(label: &str, scale: Scale) -> Axis {
    Axis { label: label.to_owned(), scale }
}

/// The intervals of a log by their tag; none if there is no such log.
fn logged(folder: &Path, file: &str) -> Vec<(String, Vec<(Duration, Micros)>)> {
    let mut kinds: Vec<(String, Vec<(Duration, Micros)>)> = Vec::new();
    for (tag, begin, micros) in read_log(&folder.join(file)).unwrap_or_default() {
        match kinds.iter_mut().find(|(kind, _)| *kind == tag) {
            Some((_, intervals)) => intervals.push((begin, micros)),
            None => kinds.push((tag, vec![(begin, micros)])),
        }
    }
    kinds
}

/// The first seconds are for warming up.
const WARMUP: Duration = Duration::from_secs(2);

fn sum(intervals: &[(Duration, Micros)]) -> Micros {
    let mut sum = micros();
    for (_, one) in intervals.iter().filter(|(begin, _)| *begin >= WARMUP) {
        // Histograms that grow take any other.
        let _ = sum.add(one);
    }
    sum
}

fn quantiles(micros: &Micros) -> Vec<(f64, f64)> {
    if micros.is_empty() {
        return Vec::new();
    }
    // Evenly on the axis, down to the last message.
    let nines = (micros.len() as f64).log10();
    let quantile = |at: usize| 1.0 - 10f64.powf(-nines * at as f64 / QUANTILES as f64);
    (0..=QUANTILES).map(|at| (quantile(at), micros.value_at_quantile(quantile(at)) as f64 / 1000.0)).collect()
}

/// The rate of a run, as people say it.
fn rate_of(runs: &Runs, name: &str) -> String {
    let rate = runs.results(name).first().and_then(|result| result["rate_per_s"].as_f64());
    rate.map_or_else(|| "?".to_owned(), |rate| format!("{}/s", short(rate)))
}

fn percentiles(runs: &Runs, folder: &Path) -> Option<Drawn> {
    let kinds = logged(folder, "pairs-half-0.hlog");
    let series: Vec<_> =
        kinds.iter().map(|(tag, intervals)| Series::new(tag.clone(), quantiles(&sum(intervals)))).collect();
    let title = format!("Latency by percentile at {}, half of the highest rate", rate_of(runs, "pairs-half"));
    let plot = Plot {
        title: title.clone(),
        x: axis("percentile", Scale::Percentile),
        y: axis("ms", Scale::Log),
        series,
        marks: Vec::new(),
        source: source(runs),
    };
    (!plot.series.is_empty()).then(|| ("percentiles.svg", title, plot.to_svg()))
}

/// Latencies over time, of a log.
struct OverTime {
    log: &'static str,
    file: &'static str,
    title: String,
    /// What one point is of.
    point: Duration,
    marks: Vec<Mark>,
}

fn of_the_half(runs: &Runs) -> OverTime {
    OverTime {
        log: "pairs-half-0.hlog",
        file: "over-time.svg",
        title: format!("Latency over time at {}, half of the highest rate", rate_of(runs, "pairs-half")),
        point: Duration::from_secs(1),
        marks: Vec::new(),
    }
}

fn of_the_storm(runs: &Runs) -> OverTime {
    let devices = counted(runs, "storm", "devices");
    OverTime {
        log: "storm-0.hlog",
        file: "storm.svg",
        title: format!("Those who write while {devices} devices come back at once"),
        // Of a tenth of a second, the slowest of a hundred is the slowest of all.
        point: Duration::from_millis(500),
        marks: from_upto(runs, "storm", ["all are gone", "all are back"]),
    }
}

fn of_the_moves(runs: &Runs) -> OverTime {
    let moves = counted(runs, "rebalance", "moves");
    OverTime {
        log: "rebalance-0.hlog",
        file: "moves.svg",
        title: format!("Those who write while {moves} slots of theirs move"),
        point: Duration::from_millis(500),
        marks: from_upto(runs, "rebalance", ["the first moves", "the last has moved"]),
    }
}

/// A number that the first round of a run gave.
fn first_number(runs: &Runs, name: &str, key: &str) -> Option<f64> {
    runs.results(name).first().and_then(|result| result[key].as_f64())
}

/// The same for a title.
fn counted(runs: &Runs, name: &str, key: &str) -> String {
    first_number(runs, name, key).map(short).unwrap_or_default()
}

/// Where in the first round of a run something begins and ends, by these names.
fn from_upto(runs: &Runs, name: &str, [from, upto]: [&str; 2]) -> Vec<Mark> {
    let mark = |key: &str, label: &str| first_number(runs, name, key).map(|at| Mark::X(at, label.to_owned()));
    [mark("from_s", from), mark("upto_s", upto)].into_iter().flatten().collect()
}

/// What people get who lie on one core, and what when they have been dealt out.
fn dealt_out(runs: &Runs) -> Option<Drawn> {
    let of =
        |key: &'static str| runs.results("rebalance").iter().filter_map(move |result| result[key].as_f64());
    let bars = of("skewed_per_s").zip(of("balanced_per_s")).enumerate();
    let bars: Vec<_> = bars
        .flat_map(|(round, (skewed, balanced))| {
            let bar = |name: &str, per_s| {
                (format!("{name}, round {}", round + 1), vec![("messages/s".to_owned(), per_s)])
            };
            [bar("on one core", skewed), bar("dealt out", balanced)]
        })
        .collect();
    let title = "A load that lies on one of two cores, and when the node has dealt it out".to_owned();
    let drawn = Bars { title: title.clone(), unit: "messages/s".to_owned(), bars, source: source(runs) };
    (!drawn.bars.is_empty()).then(|| ("dealt-out.svg", title, drawn.to_svg()))
}

fn over_time(folder: &Path, source: &str, of: &OverTime) -> Option<Drawn> {
    let kinds = logged(folder, of.log);
    let (tag, intervals) = kinds.first()?;
    let intervals = together(intervals, of.point);
    let line = |label: &str, value: &dyn Fn(&Micros) -> u64| {
        let point =
            |(begin, micros): &(Duration, Micros)| (begin.as_secs_f64(), value(micros) as f64 / 1000.0);
        Series::new(format!("{tag} {label}"), intervals.iter().map(point).collect())
    };
    let plot = Plot {
        title: of.title.clone(),
        x: axis("seconds since the begin", Scale::Linear),
        y: axis("ms", Scale::Log),
        series: vec![
            line("p50", &|micros| micros.value_at_quantile(0.5)),
            line("p99", &|micros| micros.value_at_quantile(0.99)),
            line("max", &|micros| micros.max()),
        ],
        marks: of.marks.clone(),
        source: source.to_owned(),
    };
    Some((of.file, of.title.clone(), plot.to_svg()))
}

/// Intervals put together to longer ones.
fn together(intervals: &[(Duration, Micros)], point: Duration) -> Vec<(Duration, Micros)> {
    let mut longer: Vec<(Duration, Micros)> = Vec::new();
    for (begin, one) in intervals {
        let number = (begin.as_nanos() / point.as_nanos().max(1)) as u32;
        match longer.last_mut() {
            // Histograms that grow take any other.
            Some((begin, sum)) if *begin == point * number => drop(sum.add(one)),
            _ => longer.push((point * number, one.clone())),
        }
    }
    longer
}

/// What the long run shows second by second: its rate, what it writes, how large the store and the server become.
fn lasting(runs: &Runs) -> Vec<Drawn> {
    let samples = runs.results(LASTING).first().and_then(|result| result["samples"].as_array().cloned());
    let samples = samples.unwrap_or_default();
    let line = |name: &str, of: &dyn Fn(&Value) -> Option<f64>| {
        let point = |sample: &Value| Some((sample["at_s"].as_f64()?, of(sample)?));
        Series::new(name, samples.iter().filter_map(point).collect())
    };
    let mib = |field: &'static str| move |sample: &Value| Some(sample[field].as_f64()? / f64::from(1 << 20));
    // Over ten seconds: single ones show single flushes.
    const OVER: usize = 10;
    let a_message = |pair: &[Value]| {
        let bytes = pair[OVER]["disk_bytes"].as_f64()? - pair[0]["disk_bytes"].as_f64()?;
        let acked: f64 = pair[1..].iter().filter_map(|sample| sample["acked_per_s"].as_f64()).sum();
        (acked > 0.0).then_some((pair[OVER]["at_s"].as_f64()?, bytes / acked))
    };
    let written = Series::new(
        "bytes to the disk a message, of the ten seconds before",
        samples.windows(OVER + 1).filter_map(a_message).collect(),
    );
    let seconds = runs.results(LASTING).first().and_then(|result| result["seconds"].as_f64()).map(short);
    let loop_of = format!("{} s of closed loop", seconds.unwrap_or_default());
    let marks = |file: &str| match file {
        "lasting-written.svg" => vec![Mark::Y(1000.0, "the aim: at most 1,000".to_owned())],
        _ => Vec::new(),
    };
    let drawn = |file, what: &str, unit: &str, series: Vec<Series>| {
        let title = format!("{loop_of}: {what}");
        let shown = series.iter().any(|series| !series.points.is_empty());
        let plot = Plot {
            title: title.clone(),
            x: axis("seconds since the begin", Scale::Linear),
            y: axis(unit, Scale::Linear),
            series,
            marks: marks(file),
            source: source(runs),
        };
        shown.then(|| (file, title, plot.to_svg()))
    };
    let rate = line("acknowledged", &|sample| sample["acked_per_s"].as_f64().filter(|rate| *rate > 0.0));
    let (store, memory) = (line("store", &mib("store_bytes")), line("private memory", &mib("user_bytes")));
    [
        drawn("lasting-rate.svg", "its rate", "messages/s", vec![rate]),
        drawn("lasting-written.svg", "what is written", "bytes", vec![written]),
        drawn("lasting-store.svg", "the store's files", "MiB", vec![store]),
        drawn("lasting-memory.svg", "the server's memory", "MiB", vec![memory]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What the sweep of rates gave, by rising rate.
fn swept(runs: &Runs) -> Vec<&Value> {
    let rates = runs
        .runs
        .iter()
        .filter(|ran| ran.name.strip_prefix("pairs-").is_some_and(|rate| rate.parse::<u32>().is_ok()));
    rates.filter_map(|ran| ran.results.first()).collect()
}

fn number(result: &Value, path: &str) -> f64 {
    result.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

/// A line of something by the offered rate.
fn by_offered(swept: &[&Value], name: &str, path: &str) -> Series {
    let points = swept.iter().map(|result| (number(result, "/offered_per_s"), number(result, path)));
    Series::new(name, points.collect())
}

fn sweep(runs: &Runs) -> Option<Drawn> {
    let points = swept(runs);
    let line = |name: &str, path: &str| by_offered(&points, name, path);
    let title = "Latency by rate, until the server does not follow any more".to_owned();
    let plot = Plot {
        title: title.clone(),
        x: axis("messages/s offered (open loop)", Scale::Linear),
        y: axis("ms", Scale::Log),
        series: vec![
            line("acknowledgement p99", "/ack_ms/p99"),
            line("acknowledgement p50", "/ack_ms/p50"),
            Series { dashed: true, ..line("delivery p99", "/delivery_ms/p99") },
        ],
        marks: Vec::new(),
        source: source(runs),
    };
    (!points.is_empty()).then(|| ("throughput.svg", title, plot.to_svg()))
}

fn achieved(runs: &Runs) -> Option<Drawn> {
    let points = swept(runs);
    let line = |name: &str, path: &str| by_offered(&points, name, path);
    let title = "Acknowledged by offered rate".to_owned();
    let plot = Plot {
        title: title.clone(),
        x: axis("messages/s offered (open loop)", Scale::Linear),
        y: axis("messages/s", Scale::Linear),
        series: vec![
            line("acknowledged", "/acked_per_s"),
            Series { dashed: true, ..line("all that is offered", "/offered_per_s") },
        ],
        marks: Vec::new(),
        source: source(runs),
    };
    (!points.is_empty()).then(|| ("achieved.svg", title, plot.to_svg()))
}

fn targets(runs: &Runs, folder: &Path) -> Option<Drawn> {
    let line = |target: &&str| {
        let kinds = logged(folder, &format!("target-{target}-ms-0.hlog"));
        let (_, intervals) = kinds.into_iter().find(|(tag, _)| tag == "ack")?;
        Some(Series::new(format!("ack_p99_ms = {target}"), quantiles(&sum(&intervals))))
    };
    let series: Vec<_> = TARGETS_MS.iter().filter_map(line).collect();
    let aim = |target: &&str| Some(Mark::Y(target.parse().ok()?, format!("the aim: {target} ms")));
    let rate = rate_of(runs, &format!("target-{}-ms", TARGETS_MS[0]));
    let title = format!("Acknowledgement by percentile under three aims for its p99, at {rate}");
    let p99 = Mark::X(0.99, "p99".to_owned());
    let plot = Plot {
        title: title.clone(),
        x: axis("percentile", Scale::Percentile),
        y: axis("ms", Scale::Log),
        series,
        marks: TARGETS_MS.iter().filter_map(aim).chain([p99]).collect(),
        source: source(runs),
    };
    (!plot.series.is_empty()).then(|| ("targets.svg", title, plot.to_svg()))
}

fn memory(runs: &Runs) -> Option<Drawn> {
    let idle: Vec<&Value> = runs
        .runs
        .iter()
        .filter(|ran| ran.name.starts_with("idle-"))
        .filter_map(|ran| ran.results.first())
        .collect();
    let line = |name: &str, path: &str| {
        let point = |result: &&Value| {
            Some((result["connections"].as_f64()?, result.pointer(path).and_then(Value::as_f64)?))
        };
        Series::new(name, idle.iter().filter_map(point).collect())
    };
    let title = "Memory of an idle connection, on the server's side".to_owned();
    let plot = Plot {
        title: title.clone(),
        x: axis("connections", Scale::Log),
        y: axis("bytes a connection", Scale::Linear),
        series: vec![
            line("kernel", "/server_kernel_bytes_per_connection"),
            line("user space", "/server_user_bytes_per_connection"),
        ],
        marks: vec![Mark::Y(600.0, "the aim for user space: 600".to_owned())],
        source: source(runs),
    };
    (!idle.is_empty()).then(|| ("memory.svg", title, plot.to_svg()))
}

/// A part of a bar that is smaller has no place of its own.
const PART_US_MIN: f64 = 0.3;

fn stages(runs: &Runs) -> Option<Drawn> {
    let bar = |name: &str| {
        let cpu = runs.results(name).first()?["cpu"].as_array()?.clone();
        let part = |part: &Value| Some((part["part"].as_str()?.to_owned(), part["us_per_message"].as_f64()?));
        let (mut parts, small): (Vec<_>, Vec<_>) =
            cpu.iter().filter_map(part).partition(|(_, us)| *us >= PART_US_MIN);
        parts.push(("all others".to_owned(), small.into_iter().map(|(_, us)| us).sum()));
        Some((rate_of(runs, name), parts))
    };
    let bars: Vec<_> = ["why-slow-low", "why-slow-half"].into_iter().filter_map(bar).collect();
    let title = "Server CPU by part, at two rates".to_owned();
    let drawn = Bars { title: title.clone(), unit: "us a message".to_owned(), bars, source: source(runs) };
    (!drawn.bars.is_empty()).then(|| ("cpu.svg", title, drawn.to_svg()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_readable() {
        let cases = [
            (1_234_567.8, "1,234,568"),
            (999.6, "1,000"),
            (-12_345.0, "-12,345"),
            (42.26, "42.3"),
            (1.014, "1.01"),
            (0.0, "0"),
            (f64::NAN, "?"),
        ];
        for (number, text) in cases {
            assert_eq!(short(number), text);
        }
    }

    #[test]
    fn a_line_of_percentiles_ends_at_the_last_message() {
        let mut taken = micros();
        (1..=1000u64).for_each(|ms| crate::latency::record(&mut taken, Duration::from_millis(ms)));
        let points = quantiles(&taken);
        assert!(points.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1));
        let (quantile, ms) = points[QUANTILES];
        assert!((quantile - 0.999).abs() < 1e-6 && (ms - 1000.0).abs() < 2.0, "{quantile} {ms}");
    }
}
