//! Latencies: HDR histograms in microseconds, one for each second, and what is said of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{
    IntervalLogIterator, IntervalLogWriterBuilder, LogEntry, Tag,
};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};
use serde::Serialize;

/// Latencies in microseconds, to three digits; it grows with what it holds.
pub type Micros = Histogram<u64>;

/// An empty histogram.
pub fn micros() -> Micros {
    Micros::new(3).expect("three digits are allowed")
}

/// Counts a latency.
pub fn record(micros: &mut Micros, latency: Duration) {
    // An hour is enough for anything, and keeps the histogram from growing without end.
    let taken = latency.as_micros().clamp(1, 3_600_000_000) as u64;
    micros.record(taken).expect("a histogram that grows takes it");
}

/// Latencies of one kind, by the interval of the moment that they are counted from.
#[derive(Clone, Debug)]
pub struct Latencies {
    interval: Duration,
    intervals: BTreeMap<u32, Micros>,
}

impl Default for Latencies {
    /// A histogram a second.
    fn default() -> Self {
        Self::every(Duration::from_secs(1))
    }
}

/// What is said of them, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    pub count: u64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Percentiles {
    /// What a histogram says.
    pub fn of(micros: &Micros) -> Self {
        let ms = |micros: u64| micros as f64 / 1000.0;
        let at = |share: f64| ms(micros.value_at_quantile(share));
        Self {
            count: micros.len(),
            // Of none it is 0.
            mean: micros.mean() / 1000.0,
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: ms(micros.max()),
        }
    }
}

/// Rows of latencies for people, under a head: milliseconds.
pub fn table(rows: &[(&str, &Percentiles)]) -> String {
    let mut text = format!("{:<19} {:>9}", "ms", "count");
    for head in ["mean", "p50", "p90", "p95", "p99", "p99.9", "max"] {
        text += &format!(" {head:>6}");
    }
    for (name, of) in rows {
        text += &format!("\n{name:<19} {:>9}", of.count);
        for ms in [of.mean, of.p50, of.p90, of.p95, of.p99, of.p999, of.max] {
            // Of nothing there are no latencies.
            text += &if of.count == 0 { format!(" {:>6}", "-") } else { format!(" {:>6}", digits(ms)) };
        }
    }
    text
}

/// Three digits that count, in six columns up to a quarter of an hour.
fn digits(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.2}"),
        ms if ms < 100.0 => format!("{ms:.1}"),
        ms => format!("{ms:.0}"),
    }
}

impl Latencies {
    /// A histogram each `interval`.
    pub fn every(interval: Duration) -> Self {
        Self { interval, intervals: BTreeMap::new() }
    }

    fn number_of(&self, moment: Duration) -> u32 {
        (moment.as_nanos() / self.interval.as_nanos().max(1)) as u32
    }

    /// Counts what began at `at` (since the begin of the run).
    pub fn record(&mut self, at: Duration, latency: Duration) {
        let number = self.number_of(at);
        record(self.intervals.entry(number).or_insert_with(micros), latency);
    }

    /// Takes those of another in.
    pub fn add(&mut self, other: &Self) {
        for (number, histogram) in &other.intervals {
            let sum = self.intervals.entry(*number).or_insert_with(micros);
            sum.add(histogram).expect("a histogram that grows takes any other");
        }
    }

    /// All of them that began within a range, rounded to whole intervals, outwards.
    pub fn within(&self, range: Range<Duration>) -> Micros {
        let mut sum = micros();
        if range.is_empty() {
            return sum;
        }
        let last = self.number_of(range.end.saturating_sub(Duration::from_nanos(1)));
        for (_, histogram) in self.intervals.range(self.number_of(range.start)..=last) {
            sum.add(histogram).expect("a histogram that grows takes any other");
        }
        sum
    }

    /// All of them.
    pub fn all(&self) -> Micros {
        self.within(Duration::ZERO..self.interval.saturating_mul(u32::MAX))
    }

    fn intervals(&self) -> impl Iterator<Item = (Duration, &Micros)> {
        self.intervals.iter().map(|(number, histogram)| (self.interval.saturating_mul(*number), histogram))
    }
}

/// Writes interval logs of several kinds as HdrHistogram's tools read them: version 2, each kind with its tag, values in us.
/// `begun` is the moment that intervals are counted from.
pub fn write_log(path: &Path, begun: SystemTime, kinds: &[(&str, &Latencies)]) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    let mut serializer = V2DeflateSerializer::new();
    let failed = |error: &dyn std::fmt::Debug| io::Error::other(format!("{error:?}"));
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("tern-bench: latencies in microseconds, from the intended moment on")
        .with_base_time(begun)
        .with_max_value_divisor(1000.0)
        .begin_log_with(&mut out, &mut serializer)?;
    for (tag, latencies) in kinds {
        let tag = Tag::new(tag).ok_or_else(|| io::Error::other("a tag with a blank or comma"))?;
        for (begin, histogram) in latencies.intervals() {
            log.write_histogram(histogram, begin, latencies.interval, Some(tag))
                .map_err(|error| failed(&error))?;
        }
    }
    Ok(())
}

/// Reads what [`write_log`] wrote, or any other program's log of version 2: (tag, begin, histogram), in the file's order.
pub fn read_log(path: &Path) -> Result<Vec<(String, Duration, Micros)>, String> {
    let unusable = |why: &dyn std::fmt::Debug| format!("{}: no interval log: {why:?}", path.display());
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut deserializer = Deserializer::new();
    let mut intervals = Vec::new();
    for entry in IntervalLogIterator::new(&bytes) {
        let LogEntry::Interval(interval) = entry.map_err(|error| unusable(&error))? else { continue };
        let encoded = STANDARD.decode(interval.encoded_histogram()).map_err(|error| unusable(&error))?;
        let histogram = deserializer.deserialize(&mut &encoded[..]).map_err(|error| unusable(&error))?;
        let tag = interval.tag().map_or_else(String::new, |tag| tag.as_str().to_owned());
        intervals.push((tag, interval.start_timestamp(), histogram));
    }
    Ok(intervals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_belong_to_the_second_that_they_began_in() {
        let (mut one, mut other) = (Latencies::default(), Latencies::default());
        let s = Duration::from_millis;
        one.record(s(500), s(1));
        one.record(s(1500), s(10));
        other.record(s(1999), s(20));
        other.record(s(2000), s(30));
        one.add(&other);
        let second = one.within(s(1000)..s(2000));
        assert_eq!((second.len(), second.max() / 1000), (2, 20));
        assert_eq!(one.all().len(), 4);
        assert_eq!(one.within(s(1000)..s(1000)).len(), 0);
        assert_eq!(one.within(s(1700)..s(1800)).len(), 2, "a part of an interval counts as all of it");
    }

    #[test]
    fn latencies_of_any_length_are_counted_as_they_are() {
        let mut latencies = Latencies::default();
        for ms in [1u64, 10, 100, 10_000] {
            latencies.record(Duration::ZERO, Duration::from_millis(ms));
        }
        let said = Percentiles::of(&latencies.all());
        assert!((said.p50 - 10.0).abs() < 0.1 && (said.max - 10_000.0).abs() < 10.0, "{said:?}");
    }

    #[test]
    fn an_interval_log_gives_back_what_was_written() {
        let mut latencies = Latencies::default();
        (0..5u64).for_each(|n| latencies.record(Duration::from_secs(n), Duration::from_millis(n + 1)));
        let file = tempfile::NamedTempFile::new().expect("a file");
        write_log(file.path(), SystemTime::now(), &[("ack", &latencies)]).expect("written");
        let read = read_log(file.path()).expect("read");
        let maxima: Vec<_> = read
            .iter()
            .map(|(tag, begin, micros)| (tag.as_str(), begin.as_secs(), micros.max() / 1000))
            .collect();
        assert_eq!(maxima, (0..5).map(|n| ("ack", n, n + 1)).collect::<Vec<_>>());
    }
}
