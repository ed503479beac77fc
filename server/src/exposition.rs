//! The counters as Prometheus and OpenMetrics read them.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tern_shard::counts::RETURN_DAYS;
use tern_storage::{Engine, StatisticValue};

use crate::counts::{ACTIVE_DAYS, Shown};
use crate::logging;
use crate::metrics::{CoreMetrics, Metrics, Unit, told_as};
use crate::process::Process;
use crate::pushes::{Lane, Pushes};

/// The forms of the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Prometheus' own, 0.0.4.
    Classic,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// What a client that says `accept` gets: OpenMetrics if it names that, as Prometheus does.
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Classic }
    }

    /// The content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Bytes that can be written where the data lies, and that must be left.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// What is left.
    pub free: u64,
    /// Below this nothing is written.
    pub free_min: u64,
}

/// Where the numbers come from.
struct Source {
    metrics: Arc<Metrics>,
    engine: Arc<dyn Engine>,
    pushes: Option<Pushes>,
    space: Box<dyn Fn() -> Option<Space> + Send + Sync>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

/// A counter's or gauge's value: whole numbers are told as such.
struct Number(f64, MetricType);

/// Up to here every whole number is one of a float's.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

impl EncodeMetric for Number {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        let Self(value, kind) = *self;
        match (kind, value.fract() == 0.0 && value.abs() < WHOLE_MAX) {
            (MetricType::Counter, true) => ConstCounter::new(value as u64).encode(encoder),
            (MetricType::Counter, false) => ConstCounter::new(value).encode(encoder),
            (_, true) => ConstGauge::new(value as i64).encode(encoder),
            (_, false) => ConstGauge::new(value).encode(encoder),
        }
    }

    fn metric_type(&self) -> MetricType {
        self.1
    }
}

/// A histogram's value: its buckets by their upper bounds, and the sum.
struct Buckets(Vec<(f64, u64)>, f64);

impl EncodeMetric for Buckets {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let Self(buckets, sum) = self;
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<[(&str, &str); 0]>(*sum, count, buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// Numbers of one name.
struct Families<'a>(DescriptorEncoder<'a>);

type Labels<'a> = Vec<(&'a str, String)>;

impl Families<'_> {
    /// A family of one kind: each value with its labels.
    fn family<M: EncodeMetric>(
        &mut self,
        (name, help): (&str, &str),
        kind: MetricType,
        values: impl IntoIterator<Item = (Labels<'static>, M)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in values {
            if labels.is_empty() {
                // It is the only one of its name.
                return value.encode(family);
            }
            value.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn counter(
        &mut self,
        about: (&str, &str),
        values: impl IntoIterator<Item = (Labels<'static>, f64)>,
    ) -> fmt::Result {
        let values = values.into_iter().map(|(labels, value)| (labels, Number(value, MetricType::Counter)));
        self.family(about, MetricType::Counter, values)
    }

    fn gauge(
        &mut self,
        about: (&str, &str),
        values: impl IntoIterator<Item = (Labels<'static>, f64)>,
    ) -> fmt::Result {
        let values = values.into_iter().map(|(labels, value)| (labels, Number(value, MetricType::Gauge)));
        self.family(about, MetricType::Gauge, values)
    }

    fn histogram(
        &mut self,
        about: (&str, &str),
        values: impl IntoIterator<Item = (Labels<'static>, Vec<(f64, u64)>, f64)>,
    ) -> fmt::Result {
        let values = values.into_iter().map(|(labels, buckets, sum)| (labels, Buckets(buckets, sum)));
        self.family(about, MetricType::Histogram, values)
    }
}

fn plain<T>(value: T) -> [(Labels<'static>, T); 1] {
    [(Vec::new(), value)]
}

impl Source {
    fn each_core(&self) -> impl Iterator<Item = (Labels<'static>, &CoreMetrics)> {
        self.metrics.cores().enumerate().map(|(core, metrics)| (vec![("core", core.to_string())], metrics))
    }

    fn cores(&self, families: &mut Families<'_>) -> fmt::Result {
        let shape = CoreMetrics::default();
        for (place, (name, help, _)) in shape.counters().into_iter().enumerate() {
            let (name, unit) = told_as(name);
            let value = |core: &CoreMetrics| unit.told(core.counters()[place].2 as f64);
            families.counter((&name, help), self.each_core().map(|(labels, core)| (labels, value(core))))?;
        }
        for (place, (name, help, _)) in shape.sent.counters().into_iter().enumerate() {
            let value = |core: &CoreMetrics| core.sent.counters()[place].2 as f64;
            let name = format!("tern_{name}");
            families.counter((&name, help), self.each_core().map(|(labels, core)| (labels, value(core))))?;
        }
        for (place, (name, help, _)) in shape.gauges().into_iter().enumerate() {
            let (name, unit) = told_as(name);
            let value = |core: &CoreMetrics| unit.told(core.gauges()[place].2 as f64);
            families.gauge((&name, help), self.each_core().map(|(labels, core)| (labels, value(core))))?;
        }
        for (place, (name, help, _)) in shape.histograms().into_iter().enumerate() {
            let (name, unit) = told_as(name);
            let value = |(labels, core): (_, &CoreMetrics)| {
                let (buckets, sum) = core.histograms()[place].2.read();
                let buckets = buckets.into_iter().map(|(bound, count)| (unit.told(bound), count));
                (labels, buckets.collect(), unit.told(sum))
            };
            families.histogram((&name, help), self.each_core().map(value))?;
        }
        Ok(())
    }

    /// What is told of the node as a whole, for a core's share says nothing to anybody.
    fn sums(&self, families: &mut Families<'_>) -> fmt::Result {
        let cores: Vec<_> = self.metrics.cores().map(|core| core.sent.by_reason()).collect();
        for (place, (name, help, reasons)) in CoreMetrics::default().sent.by_reason().into_iter().enumerate()
        {
            let values = reasons.iter().enumerate().map(|(at, (reason, _))| {
                let sum: u64 = cores.iter().map(|core| core[place].2[at].1).sum();
                (vec![("reason", reason.to_ascii_lowercase())], sum as f64)
            });
            families.counter((&format!("tern_{name}"), help), values)?;
        }
        let mut clients = std::collections::BTreeMap::<String, u64>::new();
        for (name, count) in self.metrics.cores().flat_map(|core| core.clients.list()) {
            *clients.entry(name).or_default() += count;
        }
        let values = clients.into_iter().map(|(name, count)| (vec![("client", name)], count as f64));
        families.counter(("tern_client_logins", "Logins by the name of the client program."), values)
    }

    fn node(&self, families: &mut Families<'_>) -> fmt::Result {
        let node = &self.metrics.node;
        let (dropped, limited) = logging::left_out();
        let lines = [
            ("log_lines_lost", "Lines of the log that nobody read fast enough.", dropped),
            ("log_lines_limited", "Lines of the log left out because one place said too many.", limited),
        ];
        for (name, help, value) in node.counters().into_iter().chain(lines) {
            families.counter((&format!("tern_{name}"), help), plain(value as f64))?;
        }
        for (name, help, value) in node.gauges() {
            families.gauge((&format!("tern_{name}"), help), plain(value as f64))?;
        }
        let (buckets, sum) = node.code_delivery_us.read();
        let buckets = buckets.into_iter().map(|(bound, count)| (Unit::Us.told(bound), count)).collect();
        let about =
            ("tern_code_delivery_seconds", "From making a one-time code to its being taken by the receiver.");
        families.histogram(about, [(Vec::new(), buckets, Unit::Us.told(sum))])?;
        let (buckets, sum) = node.filter_us.read();
        let buckets = buckets.into_iter().map(|(bound, count)| (Unit::Us.told(bound), count)).collect();
        let about = ("tern_filter_seconds", "From asking the content filter to its verdict.");
        families.histogram(about, [(Vec::new(), buckets, Unit::Us.told(sum))])?;
        if let Some(Space { free, free_min }) = (self.space)() {
            let about = ("tern_store_free_bytes", "Bytes left where the data lies.");
            families.gauge(about, plain(free as f64))?;
            let about = (
                "tern_store_free_min_bytes",
                "Below so many bytes left nothing is written: limits.free_bytes_min.",
            );
            families.gauge(about, plain(free_min as f64))?;
        }
        let build = vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("commit", tern_version::COMMIT.to_owned()),
        ];
        families.gauge(("tern_build_info", "Which ternd this is."), [(build, 1.0)])
    }

    /// What was counted of each day, by all nodes: each shows the same.
    fn counts(&self, families: &mut Families<'_>) -> fmt::Result {
        let Some(Shown { total, accounts, active, returned }) = self.metrics.counts.get() else {
            return Ok(());
        };
        for (name, help, value) in [
            (
                "tern_accounts_registered",
                "Accounts that were made, by all nodes since it is counted.",
                total.registered,
            ),
            (
                "tern_accounts_deleted",
                "Accounts that ended, by all nodes since it is counted.",
                total.deleted,
            ),
            ("tern_groups_made", "Groups that were made, by all nodes since it is counted.", total.groups),
        ] {
            families.counter((name, help), plain(value as f64))?;
        }
        let kinds = [("direct", total.direct), ("group", total.group)];
        let kinds = kinds.map(|(kind, count)| (vec![("chat", kind.to_owned())], count as f64));
        let about = (
            "tern_messages_sent",
            "Messages acknowledged, by all nodes since it is counted, by the kind of chat.",
        );
        families.counter(about, kinds)?;
        families.gauge(
            ("tern_accounts", "Accounts that there are, of those made since it is counted."),
            plain(accounts as f64),
        )?;
        let days = ACTIVE_DAYS.iter().zip(active);
        let days = days.map(|(days, count)| (vec![("days", days.to_string())], count as f64));
        families.gauge(
            (
                "tern_accounts_active",
                "Accounts of which a device was here today, or in so many days up to today, UTC.",
            ),
            days,
        )?;
        let returned = RETURN_DAYS.iter().zip(returned);
        let share = returned
            .map(|(after, share)| (vec![("after_days", after.to_string())], share.unwrap_or(f64::NAN)));
        let about = (
            "tern_accounts_returned_ratio",
            "Of the accounts made on a day, the share that was here so many days after: of the newest such day that is over; NaN for fewer than 5 accounts.",
        );
        families.gauge(about, share)
    }

    /// Of each push service; without any, the names alone.
    fn pushes(&self, families: &mut Families<'_>) -> fmt::Result {
        let lanes = self.pushes.as_ref().map(Pushes::lanes).unwrap_or_default();
        let service = |lane: &Lane| ("service", lane.seen.name.to_owned());
        let each = |of: PushNumber| {
            lanes.iter().map(move |lane| (vec![service(lane)], of(lane))).collect::<Vec<_>>()
        };
        for (name, help, of) in PUSH_COUNTERS {
            families.counter((&format!("tern_push_{name}"), help), each(of))?;
        }
        for (name, help, of) in PUSH_GAUGES {
            families.gauge((&format!("tern_push_{name}"), help), each(of))?;
        }
        let refusals = lanes.iter().flat_map(|lane| {
            let count = move |(reason, count): (&String, &u64)| {
                (vec![service(lane), ("reason", reason.clone())], *count as f64)
            };
            lane.reasons.iter().map(count)
        });
        families.counter(("tern_push_refusals", "Notices that push services refused, by reason."), refusals)
    }

    fn store(&self, families: &mut Families<'_>) -> fmt::Result {
        for statistic in self.engine.statistics() {
            let name = format!("tern_store_{}", statistic.name);
            let about = (name.as_str(), statistic.help);
            match statistic.value {
                StatisticValue::Counter(value) => families.counter(about, plain(value as f64))?,
                StatisticValue::Gauge(value) => families.gauge(about, plain(value as f64))?,
                StatisticValue::Histogram(buckets, sum) => {
                    families.histogram(about, [(Vec::new(), buckets, sum)])?
                }
            }
        }
        Ok(())
    }

    /// By the names that all of Prometheus' clients give them.
    fn process(families: &mut Families<'_>) -> fmt::Result {
        let Some(process) = Process::of_this() else { return Ok(()) };
        families.counter(
            ("process_cpu_seconds", "CPU time of the process, user and system."),
            plain(process.cpu_seconds),
        )?;
        for (name, help, value) in [
            (
                "process_resident_memory_bytes",
                "Memory of the process that is in RAM.",
                process.resident_bytes,
            ),
            ("process_virtual_memory_bytes", "Addresses that the process has in use.", process.virtual_bytes),
            ("process_open_fds", "Open file descriptors.", process.open_fds),
            ("process_max_fds", "File descriptors that the process may open.", process.max_fds),
            ("process_threads", "Threads of the process.", process.threads),
            (
                "process_start_time_seconds",
                "When the process began, since the Unix epoch.",
                process.start_seconds,
            ),
        ] {
            families.gauge((name, help), plain(value))?;
        }
        Ok(())
    }
}

/// A number of a push service.
type PushNumber = fn(&Lane) -> f64;

/// What is counted of each push service: name, help, value.
const PUSH_COUNTERS: [(&str, &str, PushNumber); 10] = [
    ("sent", "Requests to push services that have come back, those again among them.", |lane| {
        lane.seen.counters.sent as f64
    }),
    ("retries", "Requests to push services that were sent again.", |lane| lane.seen.counters.retried as f64),
    ("delivered", "Notices that push services took.", |lane| lane.seen.counters.delivered as f64),
    ("replaced", "Notices whose place a newer one took before they were sent.", |lane| {
        lane.seen.counters.replaced as f64
    }),
    ("expired", "Notices whose time was over before they could be sent.", |lane| {
        lane.seen.counters.expired as f64
    }),
    ("dead", "Notices for devices that their push service knows no more.", |lane| {
        lane.seen.counters.dead as f64
    }),
    ("refused", "Notices that push services will never take.", |lane| lane.seen.counters.refused as f64),
    ("dead_letters", "Notices that were tried as often as they may be, in vain.", |lane| {
        lane.seen.counters.dead_letters as f64
    }),
    ("unsent", "Notices that found no room: they wait in the store.", |lane| lane.unsent as f64),
    ("opened", "Times that a push service was taken for down.", |lane| lane.seen.counters.opened as f64),
];

/// What of each push service rises and falls.
const PUSH_GAUGES: [(&str, &str, PushNumber); 4] = [
    ("held", "Notices without an outcome.", |lane| lane.seen.held as f64),
    ("held_max", "Notices that may be held: push.held_max.", |lane| f64::from(lane.held_max)),
    ("in_flight", "Requests in flight.", |lane| lane.seen.in_flight as f64),
    ("away", "1 while a push service is taken for down, and its notices wait.", |lane| {
        f64::from(u8::from(lane.is_away()))
    }),
];

impl Collector for Source {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let families = &mut Families(encoder);
        self.cores(families)?;
        self.sums(families)?;
        self.node(families)?;
        self.counts(families)?;
        self.pushes(families)?;
        self.store(families)?;
        Self::process(families)
    }
}

/// Encodes the numbers of now.
#[derive(Debug)]
pub struct Exposition(Registry);

impl Exposition {
    /// For these counters, this store and these push services; `space` says what room the store has.
    pub fn new(
        metrics: Arc<Metrics>,
        engine: Arc<dyn Engine>,
        pushes: Option<Pushes>,
        space: impl Fn() -> Option<Space> + Send + Sync + 'static,
    ) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Source { metrics, engine, pushes, space: Box::new(space) }));
        Self(registry)
    }

    /// The text.
    pub fn text(&self, format: Format) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.0).expect("a String takes all");
        match format {
            Format::OpenMetrics => text,
            Format::Classic => classic(&text),
        }
    }
}

/// OpenMetrics as Prometheus' own format of before: a counter's family is named as its values are, and there is no end.
fn classic(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help: Option<&str> = None;
    for line in open_metrics.lines() {
        if let Some(about) = line.strip_prefix("# HELP ") {
            // What it is of is told by the next line.
            help = Some(about);
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|about| about.split_once(' '))
        {
            let end = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = help.take().and_then(|help| help.split_once(' ')) {
                text += &format!("# HELP {name}{end} {help}\n");
            }
            text += &format!("# TYPE {name}{end} {kind}\n");
        } else if !line.starts_with('#') {
            text += line;
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use tern_storage::memory::Memory;

    use super::*;

    fn exposition() -> Exposition {
        let metrics = Arc::new(Metrics::new(2));
        metrics.core(1).accepts.add(7);
        metrics.core(1).commit_us.record(300);
        metrics.core(1).cpu_ring_ns.add(1_500_000_000);
        metrics.core(0).clients.count("tern-cli 1.0");
        metrics.core(1).clients.count("tern-cli 2.0");
        let space = || Some(Space { free: 1 << 30, free_min: 1 << 20 });
        Exposition::new(metrics, Arc::new(Memory::new()), None, space)
    }

    #[test]
    fn every_number_is_exposed_for_every_core() {
        let text = exposition().text(Format::OpenMetrics);
        for line in [
            "tern_accepts_total{core=\"0\"} 0",
            "tern_accepts_total{core=\"1\"} 7",
            "tern_connections{core=\"0\"} 0",
            "tern_cpu_ring_seconds_total{core=\"1\"} 1.5",
            "tern_commit_seconds_count{core=\"1\"} 1",
            "tern_commit_seconds_bucket{le=\"0.000512\",core=\"1\"} 1",
            "tern_commit_seconds_bucket{le=\"+Inf\",core=\"1\"} 1",
            "tern_refusals_total{reason=\"rate_limited\"} 0",
            "tern_client_logins_total{client=\"tern-cli\"} 2",
            "tern_store_free_bytes 1073741824",
            "tern_store_rows 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is missing in\n{text}");
        }
        assert!(text.ends_with("# EOF\n") && text.contains("tern_build_info{version="), "{text}");
    }

    #[test]
    fn the_classic_form_names_a_counter_as_its_values_are() {
        let text = exposition().text(Format::Classic);
        for line in [
            "# TYPE tern_accepts_total counter",
            "# HELP tern_accepts_total Connections accepted.",
            "# TYPE tern_commit_seconds histogram",
            "tern_commit_seconds_bucket{le=\"+Inf\",core=\"1\"} 1",
            "# TYPE tern_connections gauge",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is missing in\n{text}");
        }
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    }

    #[test]
    fn who_names_open_metrics_gets_it() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
        assert_eq!(Format::accepted("*/*"), Format::Classic);
        assert_eq!(Format::accepted(""), Format::Classic);
    }
}
