//! The log: on stderr, for people or as JSON. It never holds content, phone numbers or tokens: their types don't show
//! them.
//!
//! Nobody who logs ever waits for whoever reads the log, and nothing that happens to stderr (no reader, a reader that
//! stalls, a full disk behind it) is more than lines lost. A line goes into a bounded queue, and one thread writes it. What
//! found no room is counted, and so is what one place in the code says too often; both are told when lines go through
//! again, and in the metrics.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Context, Filter, Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::{ConfigError, LogConfig, LogFormat};
use crate::threads;

/// Lines that wait to be written. Beyond, a line is dropped and counted.
const LINES_MAX: usize = 4096;

/// Bytes of the lines that wait. Beyond, a line is dropped and counted.
const BYTES_MAX: usize = 4 << 20;

/// Lines that one place in the code may say in one [`PERIOD`], unless they are for debugging. Beyond, they are left out and
/// counted.
const SITE_LINES_MAX: u64 = 50;

/// See [`SITE_LINES_MAX`].
const PERIOD: Duration = Duration::from_secs(10);

/// Places in the code that are told apart; those that share one share its bound.
const SITES: usize = 256;

/// How often it is told how many lines were left out.
const TELL: Duration = Duration::from_secs(10);

/// How long the end of the process waits for lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

static LOG: OnceLock<Arc<Log>> = OnceLock::new();

/// Changes the filter.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

fn filter_of(config: &LogConfig) -> Result<EnvFilter, ConfigError> {
    EnvFilter::try_new(&config.filter).map_err(|error| {
        ConfigError::Contradiction(format!("the log filter {:?} is wrong: {error}", config.filter))
    })
}

/// Has the log say what another filter lets through, from now on.
pub fn use_filter(config: &LogConfig) -> Result<(), ConfigError> {
    let filter = filter_of(config)?;
    if let Some(handle) = FILTER.get() {
        // It lives as long as the process.
        let _ = handle.reload(filter);
    }
    Ok(())
}

/// Starts logging.
pub fn start(config: &LogConfig) -> Result<(), ConfigError> {
    let (filter, handle) = reload::Layer::new(filter_of(config)?);
    let _ = FILTER.set(handle);
    let log = log();
    let limiter = Limiter(log.clone());
    let layer = fmt::layer().with_writer(Lines(log)).log_internal_errors(false);
    let registry = tracing_subscriber::registry().with(filter);
    match config.format {
        LogFormat::Json => registry.with(layer.json().with_filter(limiter)).init(),
        LogFormat::Auto | LogFormat::Human => {
            registry.with(layer.with_ansi(io::stderr().is_terminal()).with_filter(limiter)).init()
        }
    }
    Ok(())
}

/// Says a line on stderr, in order with the log, whatever has become of stderr.
pub fn say(line: impl std::fmt::Display) {
    log().put(format!("{line}\n").as_bytes());
}

/// Waits until what was said is written, but not long: for the end of the process.
pub fn flush() {
    let log = log();
    let until = Instant::now() + FLUSH_TIMEOUT;
    if log.writer.get().is_some_and(|writer| writer.id() == thread::current().id()) {
        // It is about to end itself.
        while let Some(line) = log.lines.pop() {
            let _ = write(&line);
        }
        return;
    }
    while log.bytes.load(Ordering::Acquire) > 0 && Instant::now() < until {
        log.wake();
        thread::sleep(Duration::from_millis(1));
    }
}

/// Lines that found no room, and lines that one place said too often.
pub fn left_out() -> (u64, u64) {
    let log = log();
    (log.dropped.load(Ordering::Relaxed), log.limited.load(Ordering::Relaxed))
}

fn log() -> Arc<Log> {
    let start = || {
        let log = Arc::new(Log::new());
        let writing = log.clone();
        // Without the thread nothing is written, and everything else goes on.
        if let Ok(thread) = threads::spawn("tern-log", move || writing.write_all()) {
            let _ = log.writer.set(thread.thread().clone());
        }
        log
    };
    LOG.get_or_init(start).clone()
}

/// The lines on their way.
struct Log {
    lines: ArrayQueue<Box<[u8]>>,
    /// Of the lines that wait, and of the one that is being written.
    bytes: AtomicUsize,
    writer: OnceLock<Thread>,
    /// The writer waits for lines.
    idle: AtomicBool,
    dropped: AtomicU64,
    limited: AtomicU64,
    sites: [Site; SITES],
    started: Instant,
}

/// What one place in the code has said.
#[derive(Default)]
struct Site {
    /// In which period.
    period: AtomicU64,
    said: AtomicU64,
    /// Left out, and not told yet.
    untold: AtomicU64,
    place: OnceLock<&'static Metadata<'static>>,
}

impl Log {
    fn new() -> Self {
        Self {
            lines: ArrayQueue::new(LINES_MAX),
            bytes: AtomicUsize::new(0),
            writer: OnceLock::new(),
            idle: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            limited: AtomicU64::new(0),
            sites: std::array::from_fn(|_| Site::default()),
            started: Instant::now(),
        }
    }

    fn put(&self, line: &[u8]) {
        let waiting = self.bytes.fetch_add(line.len(), Ordering::AcqRel);
        if waiting + line.len() > BYTES_MAX || self.lines.push(line.into()).is_err() {
            self.bytes.fetch_sub(line.len(), Ordering::AcqRel);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        self.wake();
    }

    fn wake(&self) {
        if self.idle.swap(false, Ordering::AcqRel)
            && let Some(writer) = self.writer.get()
        {
            writer.unpark();
        }
    }

    /// Whether this place may say something now.
    fn admit(&self, place: &'static Metadata<'static>, now: Duration) -> bool {
        let hasher = BuildHasherDefault::<DefaultHasher>::new();
        let site = &self.sites[hasher.hash_one(place.callsite()) as usize % SITES];
        let period = now.as_secs() / PERIOD.as_secs();
        if site.period.swap(period, Ordering::AcqRel) != period {
            site.said.store(0, Ordering::Release);
        }
        if site.said.fetch_add(1, Ordering::AcqRel) < SITE_LINES_MAX {
            return true;
        }
        let _ = site.place.set(place);
        site.untold.fetch_add(1, Ordering::Relaxed);
        self.limited.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// The writer's life.
    fn write_all(&self) {
        let mut lost = Lost::default();
        loop {
            while let Some(line) = self.lines.pop() {
                if write(&line).is_err() {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
                self.bytes.fetch_sub(line.len(), Ordering::AcqRel);
                lost.tell(self);
            }
            self.idle.store(true, Ordering::Release);
            if self.lines.is_empty() {
                thread::park_timeout(TELL);
            }
            lost.tell(self);
        }
    }
}

/// Past std's lock, which a thread that panics holds while it says why.
fn write(line: &[u8]) -> io::Result<()> {
    let mut rest = line;
    while !rest.is_empty() {
        match rustix::io::write(rustix::stdio::stderr(), rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = &rest[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What has been told of lines that were left out.
#[derive(Default)]
struct Lost {
    dropped: u64,
    told: Option<Instant>,
}

impl Lost {
    /// Tells of new ones, in lines of the log, now and then.
    fn tell(&mut self, log: &Log) {
        if self.told.is_some_and(|told| told.elapsed() < TELL) {
            return;
        }
        let dropped = log.dropped.load(Ordering::Relaxed);
        if dropped > self.dropped {
            let lines = dropped - self.dropped;
            (self.dropped, self.told) = (dropped, Some(Instant::now()));
            tracing::warn!(lines, "lines of the log were lost: nobody read them fast enough");
        }
        for site in &log.sites {
            let lines = site.untold.swap(0, Ordering::Relaxed);
            if let Some(place) = site.place.get().filter(|_| lines > 0) {
                self.told = Some(Instant::now());
                let (file, line) = (place.file().unwrap_or("?"), place.line().unwrap_or(0));
                tracing::warn!(
                    lines,
                    file,
                    line,
                    "lines of one place were left out: it said the same too often"
                );
            }
        }
    }
}

/// Gives the formatter its way into the queue.
struct Lines(Arc<Log>);

/// One line on its way.
struct Line<'a>(&'a Log);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

impl Write for Line<'_> {
    /// The formatter hands over whole lines.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Leaves out what one place says too often, before it is formatted.
struct Limiter(Arc<Log>);

impl<S: Subscriber> Filter<S> for Limiter {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        // Whoever asks for debugging wants all of it.
        *event.metadata().level() > tracing::Level::INFO
            || self.0.admit(event.metadata(), self.0.started.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_nobody_writes_out_drops_and_counts() {
        let log = Log::new();
        for _ in 0..LINES_MAX + 10 {
            log.put(b"a line\n");
        }
        assert_eq!((log.lines.len(), log.dropped.load(Ordering::Relaxed)), (LINES_MAX, 10));
        let log = Log::new();
        let long = vec![b'x'; BYTES_MAX / 2];
        (0..3).for_each(|_| log.put(&long));
        assert_eq!((log.lines.len(), log.dropped.load(Ordering::Relaxed)), (2, 1));
    }

    #[test]
    fn one_place_says_so_much_in_a_period_and_again_in_the_next() {
        struct Place;
        static METADATA: Metadata<'static> = tracing::metadata! {
            name: "place", target: "tests", level: tracing::Level::WARN, fields: &[], callsite: &Place,
            kind: tracing::metadata::Kind::EVENT
        };
        impl tracing::Callsite for Place {
            fn set_interest(&self, _: tracing::subscriber::Interest) {}
            fn metadata(&self) -> &Metadata<'_> {
                &METADATA
            }
        }
        let log = Log::new();
        let said = |now| (0..SITE_LINES_MAX * 3).filter(|_| log.admit(&METADATA, now)).count() as u64;
        assert_eq!(said(Duration::from_secs(5)), SITE_LINES_MAX);
        assert_eq!(said(PERIOD + Duration::from_secs(5)), SITE_LINES_MAX);
        assert_eq!(log.limited.load(Ordering::Relaxed), SITE_LINES_MAX * 4);
    }
}
