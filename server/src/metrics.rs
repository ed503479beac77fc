//! What the cores count. Each counter has one writer and is padded, so counting costs a core no more than an addition;
//! the metrics listener reads them at leisure.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`. For the one writer alone.
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// Sets it: for numbers that also fall.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many buckets a [`Histogram`] has: powers of two, the last without end.
pub const BUCKETS: usize = 24;

/// How often a value lay in which range of powers of two.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    sum: Counter,
}

impl Histogram {
    /// Counts a value. For the one writer alone.
    pub fn record(&self, value: u64) {
        let bucket = (u64::BITS - value.saturating_sub(1).leading_zeros()) as usize;
        self.buckets[bucket.min(BUCKETS - 1)].add(1);
        self.sum.add(value);
    }

    /// The buckets as (upper bound, count), the sum and the count of all.
    pub fn read(&self) -> (Vec<(f64, u64)>, f64, u64) {
        let bound =
            |bucket: usize| if bucket == BUCKETS - 1 { f64::INFINITY } else { (1u64 << bucket) as f64 };
        let buckets: Vec<_> =
            self.buckets.iter().enumerate().map(|(n, count)| (bound(n), count.get())).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        (buckets, self.sum.get() as f64, count)
    }
}

macro_rules! core_metrics {
    ($(counter $counter:ident: $counter_help:literal,)* $(gauge $gauge:ident: $gauge_help:literal,)*
     $(histogram $histogram:ident: $histogram_help:literal,)*) => {
        /// What one core counts.
        #[derive(Debug, Default)]
        pub struct CoreMetrics {
            $(#[doc = $counter_help] pub $counter: Counter,)*
            $(#[doc = $gauge_help] pub $gauge: Counter,)*
            $(#[doc = $histogram_help] pub $histogram: Histogram,)*
        }

        impl CoreMetrics {
            /// The counters: name, help, value.
            pub fn counters(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($counter), $counter_help, self.$counter.get()),)*]
            }

            /// The numbers that rise and fall: name, help, value.
            pub fn gauges(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($gauge), $gauge_help, self.$gauge.get()),)*]
            }

            /// The histograms: name, help, histogram.
            pub fn histograms(&self) -> Vec<(&'static str, &'static str, &Histogram)> {
                vec![$((stringify!($histogram), $histogram_help, &self.$histogram),)*]
            }
        }
    };
}

core_metrics! {
    counter accepts: "Connections accepted.",
    counter accept_failures: "Times that accepting ended and had to be armed again.",
    counter connections_refused: "Connections closed at once because no core had a place for them.",
    counter strangers_refused: "Connections closed at once because too many of their network, or of all, had not logged in.",
    counter strangers_shown_out: "Connections without login that had had their time, and made room for newcomers.",
    counter proxy_failures: "Connections from balancers without a proper PROXY header.",
    counter reading_queued: "Times that a connection had asked for so much in one turn that the rest waited for others.",
    counter reading_paused: "Times that a connection was not read from, because it did not take what was sent to it.",
    counter handshakes: "TLS handshakes completed.",
    counter handshake_failures: "TLS handshakes that failed or took too long.",
    counter connections_given: "Connections moved to another core.",
    counter connections_taken: "Connections moved here from another core.",
    counter frames_in: "Frames received.",
    counter frames_out: "Frames sent.",
    counter bytes_in: "Bytes received, sealed.",
    counter bytes_out: "Bytes sent, sealed.",
    counter short_sends: "Sends that the kernel took in part.",
    counter buffers_exhausted: "Times that receiving ended for want of a buffer.",
    counter mesh_messages: "Messages sent to other cores.",
    counter mesh_wakes: "Other cores woken.",
    counter commits: "Batches that became durable.",
    counter commits_failed: "Batches that failed.",
    counter turns: "Turns of the loop.",
    counter cpu_ring_ns: "CPU time of submitting and of the kernel's work for the ring, in ns; counted while trace.every is set.",
    counter cpu_events_ns: "CPU time of handling completions of the ring, in ns; as before.",
    counter cpu_mesh_ns: "CPU time of handling messages of other cores, in ns; as before.",
    counter cpu_store_ns: "CPU time of handling completions of the store, in ns; as before.",
    counter cpu_flush_ns: "CPU time of submitting batches, sealing and queueing sends, in ns; as before.",
    gauge connections: "Connections held.",
    gauge strangers: "Connections that have not logged in.",
    gauge handshaking: "Connections in their TLS handshake.",
    gauge commits_in_flight: "Batches that the store has not completed.",
    gauge mesh_backlog: "Messages to other cores that found no room.",
    gauge last_turn_ms: "When the last turn began, in ms since the Unix epoch.",
    histogram handshake_us: "From accepting a connection to its complete TLS handshake, in microseconds.",
    histogram commit_us: "From submitting a batch to its durability, in microseconds.",
    histogram batch_ops: "Writes in a batch.",
    histogram turn_us: "From the return of a wait to the next one, in microseconds.",
}

/// A number that many threads count.
#[derive(Debug, Default)]
pub struct Shared(AtomicU64);

impl Shared {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Sets it: for numbers that also fall.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! node_metrics {
    ($(counter $counter:ident: $counter_help:literal,)* $(gauge $gauge:ident: $gauge_help:literal,)*) => {
        /// What the node counts beside its cores.
        #[derive(Debug, Default)]
        pub struct NodeMetrics {
            $(#[doc = $counter_help] pub $counter: Shared,)*
            $(#[doc = $gauge_help] pub $gauge: Shared,)*
        }

        impl NodeMetrics {
            /// The counters: name, help, value.
            pub fn counters(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($counter), $counter_help, self.$counter.get()),)*]
            }

            /// The numbers that rise and fall: name, help, value.
            pub fn gauges(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($gauge), $gauge_help, self.$gauge.get()),)*]
            }
        }
    };
}

node_metrics! {
    counter codes_delivered: "One-time codes that the receiver took.",
    counter codes_failed: "One-time codes that the receiver refused, or did not take in so many tries.",
    counter codes_expired: "One-time codes whose life ended before they could be delivered.",
    counter certificate_reloads: "Times that the certificate was read again, on SIGHUP.",
    counter certificate_reload_failures: "Times that a certificate that was read again could not be used: the old one stays.",
    gauge codes_waiting: "One-time codes that wait for delivery or are being delivered.",
    gauge certificate_end_seconds: "When the certificate ends, in seconds since the Unix epoch; 0 if it does not say.",
}

/// The counters of all cores, and of the node.
#[derive(Debug)]
pub struct Metrics {
    cores: Box<[CachePadded<CoreMetrics>]>,
    /// Of the node.
    pub node: std::sync::Arc<NodeMetrics>,
}

impl Metrics {
    /// Counters for so many cores.
    pub fn new(cores: u16) -> Self {
        Self { cores: (0..cores).map(|_| CachePadded::default()).collect(), node: std::sync::Arc::default() }
    }

    /// One core's.
    pub fn core(&self, core: u16) -> &CoreMetrics {
        &self.cores[usize::from(core)]
    }

    /// All of them.
    pub fn cores(&self) -> impl Iterator<Item = &CoreMetrics> {
        self.cores.iter().map(|core| &**core)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_in_the_bucket_that_bounds_it() {
        let histogram = Histogram::default();
        for value in [0, 1, 2, 3, 4, 1000, u64::MAX / 2] {
            histogram.record(value);
        }
        let (buckets, _, count) = histogram.read();
        assert_eq!(count, 7);
        let filled: Vec<_> = buckets.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(1.0, 2), (2.0, 1), (4.0, 2), (1024.0, 1), (f64::INFINITY, 1)]);
    }
}
