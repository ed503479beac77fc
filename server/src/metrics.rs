//! What the cores count. Each counter has one writer and is padded, so counting costs a core no more than an addition;
//! the metrics listener reads them at leisure.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_utils::CachePadded;
use tern_proto::v1::{self, Reason, server_frame::Message};

use crate::counts::SharedCounts;

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

/// What a number is in, and how it is told: Prometheus wants seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// As it is.
    Plain,
    /// Nanoseconds, told as seconds.
    Ns,
    /// Microseconds, told as seconds.
    Us,
    /// Milliseconds, told as seconds.
    Ms,
}

impl Unit {
    /// The number as it is told.
    pub fn told(self, value: f64) -> f64 {
        match self {
            Self::Plain => value,
            Self::Ns => value / 1e9,
            Self::Us => value / 1e6,
            Self::Ms => value / 1e3,
        }
    }
}

/// What a histogram counts with.
pub trait Cell: Default {
    /// Adds `count`.
    fn add(&self, count: u64);

    /// The number now.
    fn get(&self) -> u64;
}

impl Cell for Counter {
    fn add(&self, count: u64) {
        Self::add(self, count);
    }

    fn get(&self) -> u64 {
        Self::get(self)
    }
}

/// How often a value lay in which range of powers of two. With a [`Counter`] it has one writer, with a [`Shared`] many.
#[derive(Debug, Default)]
pub struct Histogram<C = Counter> {
    buckets: [C; BUCKETS],
    sum: C,
}

impl<C: Cell> Histogram<C> {
    /// Counts a value.
    pub fn record(&self, value: u64) {
        let bucket = (u64::BITS - value.saturating_sub(1).leading_zeros()) as usize;
        self.buckets[bucket.min(BUCKETS - 1)].add(1);
        self.sum.add(value);
    }

    /// The buckets as (upper bound, count), and the sum.
    pub fn read(&self) -> (Vec<(f64, u64)>, f64) {
        let bound =
            |bucket: usize| if bucket == BUCKETS - 1 { f64::INFINITY } else { (1u64 << bucket) as f64 };
        let buckets = self.buckets.iter().enumerate().map(|(n, count)| (bound(n), count.get()));
        (buckets.collect(), self.sum.get() as f64)
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
            /// What has been sent, by its kind.
            pub sent: Sent,
            /// Logins by the name of the client program.
            pub clients: Clients,
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

/// The name under which a number is told, and what it is in: a name that ends in `_ns`, `_us` or `_ms` is told in seconds.
pub fn told_as(name: &str) -> (String, Unit) {
    for (end, unit) in [("_ns", Unit::Ns), ("_us", Unit::Us), ("_ms", Unit::Ms)] {
        if let Some(name) = name.strip_suffix(end) {
            return (format!("tern_{name}_seconds"), unit);
        }
    }
    (format!("tern_{name}"), Unit::Plain)
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
    counter handshakes_resumed: "Those of them that resumed a session: of clients that came back with a ticket.",
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
    counter entries_ended: "Entries erased because their time had come.",
    counter entries_erased: "Entries erased because they were too old, where their places stay.",
    counter entries_removed: "Entries removed because they were too old.",
    counter answers_dropped: "Answers to what connections asked that came late, or once more.",
    counter turns: "Turns of the loop.",
    counter cpu_ring_ns: "CPU time of submitting and of the kernel's work for the ring; counted while trace.every is set.",
    counter cpu_events_ns: "CPU time of handling completions of the ring; as before.",
    counter cpu_mesh_ns: "CPU time of handling messages of other cores; as before.",
    counter cpu_store_ns: "CPU time of handling completions of the store; as before.",
    counter cpu_flush_ns: "CPU time of submitting batches, sealing and queueing sends; as before.",
    gauge connections: "Connections held.",
    gauge places: "Connections that the core has places for.",
    gauge sessions: "Connections that are logged in.",
    gauge users_in_memory: "Users whose state is in memory.",
    gauge logs_in_memory: "Logs whose state is in memory.",
    gauge asks: "What connections have asked of the owners of users and chats, and is not answered.",
    gauge strangers: "Connections that have not logged in.",
    gauge handshaking: "Connections in their TLS handshake.",
    gauge commits_in_flight: "Batches that the store has not completed.",
    gauge mesh_backlog: "Messages to other cores that found no room.",
    gauge last_turn_timestamp_ms: "When the last turn began, since the Unix epoch.",
    histogram handshake_us: "From accepting a connection to its complete TLS handshake.",
    histogram commit_us: "From submitting a batch to its durability.",
    histogram batch_operations: "Writes in a batch.",
    histogram turn_us: "From the return of a wait to the next one.",
}

/// Reasons of refusals and ends, by their number in the protocol.
const REASONS: usize = 96;

/// What has been sent, by its kind.
#[derive(Debug)]
pub struct Sent {
    /// Acknowledgements of messages.
    pub acknowledgements: Counter,
    /// Messages pushed to devices.
    pub entries: Counter,
    /// Receipts pushed to devices.
    pub receipts: Counter,
    /// Pages of history.
    pub pages: Counter,
    /// One-time codes that were asked for.
    pub codes: Counter,
    /// Sessions given: after a code, and for a refresh token.
    pub sessions: Counter,
    /// Logins.
    pub logins: Counter,
    refusals: [Counter; REASONS],
    farewells: [Counter; REASONS],
}

impl Default for Sent {
    fn default() -> Self {
        let none = || std::array::from_fn(|_| Counter::default());
        Self {
            acknowledgements: Counter::default(),
            entries: Counter::default(),
            receipts: Counter::default(),
            pages: Counter::default(),
            codes: Counter::default(),
            sessions: Counter::default(),
            logins: Counter::default(),
            refusals: none(),
            farewells: none(),
        }
    }
}

/// A name, what it counts, and the counts by reason.
pub type ByReason = (&'static str, &'static str, Vec<(&'static str, u64)>);

impl Sent {
    /// Counts a frame. For the one writer alone.
    pub fn count(&self, frame: &v1::ServerFrame) {
        match &frame.message {
            Some(Message::Entry(_)) => self.entries.add(1),
            Some(Message::Sent(_)) => self.acknowledgements.add(1),
            Some(Message::Receipt(_)) => self.receipts.add(1),
            Some(Message::HistoryPage(_)) => self.pages.add(1),
            Some(Message::CodeSent(_)) => self.codes.add(1),
            Some(Message::Session(_)) => self.sessions.add(1),
            Some(Message::LoggedIn(_)) => self.logins.add(1),
            Some(Message::Refused(refused)) => Self::of(&self.refusals, refused.reason).add(1),
            Some(Message::GoAway(farewell)) => Self::of(&self.farewells, farewell.reason).add(1),
            _ => {}
        }
    }

    /// A reason that is not known here counts as the first, which is none.
    fn of(counters: &[Counter; REASONS], reason: i32) -> &Counter {
        usize::try_from(reason).ok().and_then(|reason| counters.get(reason)).unwrap_or(&counters[0])
    }

    /// The kinds: name, help, value.
    pub fn counters(&self) -> Vec<(&'static str, &'static str, u64)> {
        vec![
            (
                "messages_acknowledged",
                "Messages acknowledged to their senders: durable.",
                self.acknowledgements.get(),
            ),
            ("messages_delivered", "Messages pushed to devices.", self.entries.get()),
            ("receipts_delivered", "Receipts pushed to devices.", self.receipts.get()),
            ("history_pages", "Pages of history sent.", self.pages.get()),
            ("codes_asked", "One-time codes that were asked for and made.", self.codes.get()),
            (
                "tokens_given",
                "Pairs of tokens given, after a code or for a refresh token.",
                self.sessions.get(),
            ),
            ("logins", "Logins.", self.logins.get()),
        ]
    }

    /// Refusals by their reason, and connections ended with a reason; each reason that there is.
    pub fn by_reason(&self) -> [ByReason; 2] {
        let named = |counters: &[Counter; REASONS]| {
            let each = counters.iter().enumerate().filter_map(|(number, count)| {
                let reason = Reason::try_from(number as i32).ok()?;
                Some((reason.name(), count.get()))
            });
            each.collect()
        };
        [
            ("refusals", "Requests refused, by reason.", named(&self.refusals)),
            ("go_aways", "Connections that were told why they end, by reason.", named(&self.farewells)),
        ]
    }
}

/// Names of client programs that are counted by themselves; all further ones are counted together.
const CLIENTS_MAX: usize = 32;

/// Bytes of such a name.
const CLIENT_NAME_BYTES_MAX: usize = 32;

/// Connections by the name of the client program, without its version. Strangers say it, so it is bounded and plain.
#[derive(Debug, Default)]
pub struct Clients(Mutex<BTreeMap<String, u64>>);

impl Clients {
    /// Counts one that says what it is: `name version`.
    pub fn count(&self, said: &str) {
        let name = said.split([' ', '/']).next().unwrap_or_default();
        let is_plain = |name: &str| {
            (1..=CLIENT_NAME_BYTES_MAX).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        let name = if is_plain(name) { name } else { OTHERS };
        let mut counts = self.lock();
        let has_place = counts.contains_key(name) || counts.len() + 1 < CLIENTS_MAX;
        let name = if has_place { name } else { OTHERS };
        match counts.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(counts.insert(name.to_owned(), 1)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names with their counts.
    pub fn list(&self) -> Vec<(String, u64)> {
        self.lock().iter().map(|(name, count)| (name.clone(), *count)).collect()
    }
}

/// All names that are not counted by themselves.
const OTHERS: &str = "others";

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

impl Cell for Shared {
    fn add(&self, count: u64) {
        Self::add(self, count);
    }

    fn get(&self) -> u64 {
        Self::get(self)
    }
}

macro_rules! node_metrics {
    ($(counter $counter:ident: $counter_help:literal,)* $(gauge $gauge:ident: $gauge_help:literal,)*) => {
        /// What the node counts beside its cores.
        #[derive(Debug, Default)]
        pub struct NodeMetrics {
            $(#[doc = $counter_help] pub $counter: Shared,)*
            $(#[doc = $gauge_help] pub $gauge: Shared,)*
            /// From making a one-time code to its being taken by the receiver, in microseconds.
            pub code_delivery_us: Histogram<Shared>,
            /// From asking the content filter to its verdict, in microseconds.
            pub filter_us: Histogram<Shared>,
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
    counter filter_asked: "Messages that the content filter was asked about.",
    counter filter_passed: "Messages that the content filter let pass.",
    counter filter_refused: "Messages that the content filter refused.",
    counter filter_reported: "Messages that the content filter let pass, for operators to see.",
    counter filter_timed_out: "Messages for which the content filter did not answer in time.",
    counter filter_failed: "Messages for which the content filter could not be reached, or did not answer with a verdict.",
    counter filter_unasked: "Messages that the content filter was not asked about, because it was down or too many waited.",
    counter media_removed: "Media that were removed, for nothing had them any more.",
    counter media_orphans: "Media that were removed because nobody knew of their bytes.",
    counter media_store_failures: "Requests that the bucket of media did not answer, refused, or had no room for.",
    gauge media_store_away: "Of reading from the bucket of media and writing to it: how many are left alone, because they failed again and again.",
    gauge media_previews: "1 if previews are made of media, and pictures looked at.",
    gauge certificate_stale: "1 while the certificate that was read last could not be used, and an older one serves.",
    gauge codes_waiting: "One-time codes that wait for delivery or are being delivered.",
    gauge certificate_end_timestamp_seconds: "When the certificate ends, since the Unix epoch; 0 if it does not say.",
}

/// The counters of all cores, and of the node.
#[derive(Debug)]
pub struct Metrics {
    cores: Box<[CachePadded<CoreMetrics>]>,
    /// Of the node.
    pub node: std::sync::Arc<NodeMetrics>,
    /// What was counted of each day, by all nodes.
    pub counts: SharedCounts,
}

impl Metrics {
    /// Counters for so many cores.
    pub fn new(cores: u16) -> Self {
        Self {
            cores: (0..cores).map(|_| CachePadded::default()).collect(),
            node: std::sync::Arc::default(),
            counts: SharedCounts::default(),
        }
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
    fn what_strangers_say_that_they_are_is_bounded_and_plain() {
        let clients = Clients::default();
        for said in ["tern-cli 1.2", "tern-cli/2", "", "\n{}=\"", "x".repeat(200).as_str(), "naïve 1"] {
            clients.count(said);
        }
        assert_eq!(clients.list(), [("others".to_owned(), 4), ("tern-cli".to_owned(), 2)]);
        for number in 0..1000 {
            clients.count(&format!("client{number} 1.0"));
        }
        let list = clients.list();
        assert!(list.len() <= CLIENTS_MAX, "{}", list.len());
        assert_eq!(list.iter().map(|(_, count)| count).sum::<u64>(), 1006);
    }

    #[test]
    fn every_reason_has_a_place() {
        let sent = Sent::default();
        for number in 0..1000 {
            let Ok(reason) = Reason::try_from(number) else { continue };
            assert!((number as usize) < REASONS, "{reason:?} needs one");
        }
        let refused = v1::Refused { reason: Reason::RateLimited.into(), ..v1::Refused::default() };
        sent.count(&v1::ServerFrame { id: 1, message: Some(Message::Refused(refused)) });
        let unknown = v1::GoAway { reason: 999, ..v1::GoAway::default() };
        sent.count(&v1::ServerFrame { id: 0, message: Some(Message::GoAway(unknown)) });
        let [(_, _, refusals), (_, _, farewells)] = sent.by_reason();
        assert!(refusals.contains(&("RATE_LIMITED", 1)), "{refusals:?}");
        assert!(farewells.contains(&("UNSPECIFIED", 1)), "{farewells:?}");
    }

    #[test]
    fn a_value_lies_in_the_bucket_that_bounds_it() {
        let histogram = Histogram::<Counter>::default();
        for value in [0, 1, 2, 3, 4, 1000, u64::MAX / 2] {
            histogram.record(value);
        }
        let (buckets, _) = histogram.read();
        let filled: Vec<_> = buckets.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(1.0, 2), (2.0, 1), (4.0, 2), (1024.0, 1), (f64::INFINITY, 1)]);
    }
}
