//! The counters as Prometheus and OpenMetrics read them.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tern_storage::Engine;

use crate::logging;
use crate::metrics::{CoreMetrics, Metrics};

/// Where the numbers come from.
struct Source {
    metrics: Arc<Metrics>,
    engine: Arc<dyn Engine>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl Source {
    fn each_core(&self) -> impl Iterator<Item = ([(&'static str, String); 1], &CoreMetrics)> {
        self.metrics.cores().enumerate().map(|(core, metrics)| ([("core", core.to_string())], metrics))
    }
}

impl Collector for Source {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let shape = CoreMetrics::default();
        for (place, (name, help, _)) in shape.counters().into_iter().enumerate() {
            let name = format!("tern_{name}");
            let mut family = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
            for (label, core) in self.each_core() {
                ConstCounter::new(core.counters()[place].2).encode(family.encode_family(&label)?)?;
            }
        }
        for (place, (name, help, _)) in shape.gauges().into_iter().enumerate() {
            let name = format!("tern_{name}");
            let mut family = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
            for (label, core) in self.each_core() {
                ConstGauge::new(core.gauges()[place].2 as i64).encode(family.encode_family(&label)?)?;
            }
        }
        for (place, (name, help, _)) in shape.histograms().into_iter().enumerate() {
            let name = format!("tern_{name}");
            let mut family = encoder.encode_descriptor(&name, help, None, MetricType::Histogram)?;
            for (label, core) in self.each_core() {
                let (buckets, sum, count) = core.histograms()[place].2.read();
                family
                    .encode_family(&label)?
                    .encode_histogram::<[(&str, &str); 0]>(sum, count, &buckets, None)?;
            }
        }
        let node = &self.metrics.node;
        let (dropped, limited) = logging::left_out();
        let lines = [
            ("log_lines_lost", "Lines of the log that nobody read fast enough.", dropped),
            ("log_lines_limited", "Lines of the log left out because one place said too many.", limited),
        ];
        for (name, help, value) in node.counters().into_iter().chain(lines) {
            let name = format!("tern_{name}");
            let family = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(family)?;
        }
        for (name, help, value) in node.gauges() {
            let name = format!("tern_{name}");
            let family = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(family)?;
        }
        for (name, value) in self.engine.statistics() {
            let name = format!("tern_store_{name}");
            let help = "Of the store: see docs/STORAGE.md.";
            let family = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(family)?;
        }
        Ok(())
    }
}

/// Encodes the numbers of now.
#[derive(Debug)]
pub struct Exposition(Registry);

impl Exposition {
    /// For these counters and this store.
    pub fn new(metrics: Arc<Metrics>, engine: Arc<dyn Engine>) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Source { metrics, engine }));
        Self(registry)
    }

    /// The text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.0).expect("a String takes all");
        text
    }
}

#[cfg(test)]
mod tests {
    use tern_storage::memory::Memory;

    use super::*;

    #[test]
    fn every_number_is_exposed_for_every_core() {
        let metrics = Arc::new(Metrics::new(2));
        metrics.core(1).accepts.add(7);
        metrics.core(1).commit_us.record(300);
        let text = Exposition::new(metrics, Arc::new(Memory::new())).text();
        for line in [
            "tern_accepts_total{core=\"0\"} 0",
            "tern_accepts_total{core=\"1\"} 7",
            "tern_connections{core=\"0\"} 0",
            "tern_commit_us_count{core=\"1\"} 1",
            "tern_store_rows 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is missing in\n{text}");
        }
        assert!(text.contains("tern_commit_us_bucket{le=\"512.0\",core=\"1\"} 1"), "{text}");
        assert!(text.contains("tern_commit_us_bucket{le=\"+Inf\",core=\"1\"} 1"), "{text}");
    }
}
