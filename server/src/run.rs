//! From a configuration to a running server, and to its end.

use std::fmt;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tern_shard::accounts::tokens::BadKeys;
use tern_storage::embedded::{Embedded, EmbeddedOptions, OpenError};
use tern_storage::memory::Memory;
use tern_storage::{Engine, StatisticValue, StoreError};

use crate::admin::{self, Node, SocketFile};
use crate::certificate::CertificateFiles;
use crate::certificates::{Certificates, Unusable};
use crate::codes::Codes;
use crate::config::{Config, EngineKind, Flags, LogFormat};
use crate::core::{self, Clock, CoresOptions, Running, Traces};
use crate::exposition::{Exposition, Format, Space};
use crate::facts::Facts;
use crate::files;
use crate::http::{self, Health};
use crate::identity::begin_run;
use crate::logging;
use crate::metrics::{Metrics, NodeMetrics};
use crate::minder;
use crate::operations::{Operations, notify};
use crate::threads;
use crate::trouble;
use tern_uring::{Missing, RingOptions, listen, raise_open_files, use_small_pages};

/// A core that has not turned for this long is stuck.
const STUCK_MS: u64 = 5_000;

/// Why ternd did not start, or stopped.
#[derive(Debug)]
pub enum RunError {
    /// The data directory can't be used.
    DataDir(PathBuf, std::io::Error),
    /// The store can't be opened.
    Open(OpenError),
    /// The store can't be read or written.
    Store(StoreError),
    /// Its keys are damaged.
    Keys(BadKeys),
    /// The certificate can't be used.
    Certificate(Unusable),
    /// An address can't be listened on: which, for what, why.
    Listen(SocketAddr, &'static str, std::io::Error),
    /// io_uring is not to be had.
    Uring(Missing),
    /// The system refused something else.
    System(&'static str, std::io::Error),
    /// It ran, and the store failed, for this reason: everything acknowledged is safe.
    StoreFailed(String),
    /// It ran, and a core ended by itself.
    CoreFailed,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataDir(path, error) => {
                let advice = trouble::of_files(error);
                write!(
                    f,
                    "the data directory {} can't be used: {error}; {advice} (--data-dir)",
                    path.display()
                )
            }
            Self::Open(error) => write!(f, "{error}"),
            Self::Store(error) => write!(f, "{error}"),
            Self::Keys(error) => write!(f, "{error}"),
            Self::Certificate(error) => write!(f, "{error}"),
            Self::Listen(address, purpose, error) => {
                write!(f, "{}", trouble::of_listening(*address, purpose, error))
            }
            Self::Uring(missing) => write!(f, "{}", trouble::of_uring(missing, &trouble::Facts::gather())),
            Self::System(what, error) => write!(f, "{what}: {error}"),
            Self::StoreFailed(reason) => write!(
                f,
                "the store's disk failed; everything acknowledged is safe: check the disk, then start ternd again ({reason})"
            ),
            Self::CoreFailed => {
                write!(f, "a core ended by itself: see the log; everything acknowledged is safe")
            }
        }
    }
}

impl std::error::Error for RunError {}

/// Runs the server until it is told to stop.
pub fn run(config: &Config, flags: &Flags) -> Result<(), RunError> {
    files::keep_to_owner();
    if let Err(error) = use_small_pages() {
        tracing::warn!(%error, "memory may come in huge pages, and a connection take half as much again");
    }
    if let Err(error) = raise_open_files() {
        tracing::warn!(%error, "the limit of open files can't be raised");
    }
    make_data_dir(config)?;
    let engine = open_store(config)?;
    let (identity, keys) = begin_run(&*engine, config.restored)?;
    let listener =
        listen(config.listen).map_err(|error| RunError::Listen(config.listen, "clients", error))?;
    let address = listener.local_addr().map_err(|error| RunError::Listen(config.listen, "clients", error))?;
    let cores = config.core_count();
    let metrics = Arc::new(Metrics::new(cores));
    let clock = Clock::start();
    let (certificates, made_certificate) = load_certificate(config, metrics.node.clone())?;
    let certificates = Arc::new(certificates);
    // A core that has not begun yet is not stuck.
    metrics.cores().for_each(|core| core.last_turn_timestamp_ms.set(clock.now_ms()));
    let codes = Codes::start(&config.sms, clock.clone(), metrics.node.clone())
        .map_err(|error| RunError::System("the thread that delivers codes can't start", error))?;
    let traces = Arc::new(Traces::every(config.trace.every));
    let running = core::start(CoresOptions {
        cores,
        listener,
        tls: certificates.tls(),
        engine: engine.clone(),
        identity,
        keys,
        limits: config.shard_limits(),
        development: config.development(),
        clock: clock.clone(),
        metrics: metrics.clone(),
        traces: traces.clone(),
        codes: Box::new(codes.clone()),
        handshake_timeout: Duration::from_millis(config.limits.handshake_timeout_ms),
        unsent_bytes_max: config.limits.unsent_bytes_max,
        strangers_max: config.limits.strangers_max,
        strangers_per_network_max: config.limits.strangers_per_network_max,
        shared_addresses: config.network.shared_addresses,
        proxies: config.network.proxy_protocol_from.clone(),
        mesh_ring_messages: config.limits.mesh_ring_messages,
        mesh_backlog_max: config.limits.mesh_backlog_max,
        ring: ring_options(config),
    })
    .map_err(RunError::Uring)?;
    let running = Arc::new(running);

    let draining = Arc::new(AtomicBool::new(false));
    let room = Room {
        dir: config.data_dir.clone(),
        free_bytes_min: match config.engine {
            EngineKind::Embedded => config.limits.free_bytes_min,
            EngineKind::Memory => 0,
        },
    };
    let space = room.clone();
    let operations = Arc::new(Operations {
        running: running.clone(),
        draining: draining.clone(),
        certificates: certificates.clone(),
        clock: clock.clone(),
        flags: flags.clone(),
        in_force: Mutex::new(config.clone()),
    });
    let state = Arc::new(State {
        operations: operations.clone(),
        exposition: Exposition::new(metrics.clone(), engine.clone(), move || space.now()),
        metrics,
        engine: engine.clone(),
        began: Instant::now(),
        traces,
        clock: clock.clone(),
        running: running.clone(),
        draining: draining.clone(),
        room,
    });
    let socket = config.admin_socket();
    let may_provision = config.development() || config.admin.allow_provision;
    admin::start(&socket, running.control(), state.clone(), may_provision)
        .map_err(|error| RunError::System("the admin socket can't be opened", error))?;
    let _socket_file = SocketFile(socket);
    let mut metrics_address = None;
    if config.metrics.enabled {
        let listening = http::start(config.metrics.listen, state);
        let purpose = "metrics";
        metrics_address =
            Some(listening.map_err(|error| RunError::Listen(config.metrics.listen, purpose, error))?);
    }
    minder::start(clock, certificates.clone())
        .map_err(|error| RunError::System("the thread that minds the clock can't start", error))?;
    watch_signals(operations).map_err(|error| RunError::System("signals can't be watched", error))?;
    warn_of_environment(config);
    record_start(config, flags, &*engine, &certificates, (address, metrics_address));
    announce(config, address, metrics_address, made_certificate);
    notify(&[NotifyState::Ready]);

    let ended_well = running.wait();
    let failed = running.store().failed().map(str::to_owned);
    codes.stop();
    engine.close();
    match (failed, ended_well) {
        (Some(reason), _) => Err(RunError::StoreFailed(reason)),
        (None, false) => Err(RunError::CoreFailed),
        (None, true) => Ok(()),
    }
}

/// Makes the data directory. One that is there keeps its mode, and what ternd has in it is private by its own.
fn make_data_dir(config: &Config) -> Result<(), RunError> {
    let dir = &config.data_dir;
    let store = dir.join("store");
    let made = files::make_dir(dir).and_then(|()| match config.engine {
        EngineKind::Embedded => files::make_dir(&store).and_then(|()| files::make_private(&store)),
        EngineKind::Memory => Ok(0),
    });
    let opened = made.map_err(|error| RunError::DataDir(dir.clone(), error))?;
    if opened > 0 {
        let store = store.display();
        tracing::warn!(%store, files = opened, "others on this machine could read the store: they can't any more");
    }
    Ok(())
}

fn open_store(config: &Config) -> Result<Arc<dyn Engine>, RunError> {
    match config.engine {
        EngineKind::Memory => {
            tracing::warn!("the store is in memory: nothing survives the end of this process");
            Ok(Arc::new(Memory::new()))
        }
        EngineKind::Embedded => {
            let options = EmbeddedOptions {
                group_bytes_max: config.limits.commit_group_bytes_max,
                commits_in_flight_max: config.limits.commits_in_flight_max,
                reads_in_flight_max: config.limits.reads_in_flight_max,
                free_bytes_min: config.limits.free_bytes_min,
                cache_bytes: config.limits.store_cache_bytes,
                ack_p99: Duration::from_millis(config.latency.ack_p99_ms.into()),
                ..EmbeddedOptions::default()
            };
            let store = Embedded::open(config.data_dir.join("store"), options).map_err(RunError::Open)?;
            Ok(Arc::new(store))
        }
    }
}

fn load_certificate(config: &Config, metrics: Arc<NodeMetrics>) -> Result<(Certificates, bool), RunError> {
    let (files, made) = match (&config.tls.certificate, &config.tls.key) {
        (Some(certificate), Some(key)) => (CertificateFiles::of_operator(certificate, key), false),
        _ => CertificateFiles::of_data_dir(&config.data_dir)
            .map_err(|error| RunError::Certificate(Unusable::Files(error)))?,
    };
    Ok((Certificates::load(files, metrics).map_err(RunError::Certificate)?, made))
}

/// Says once what is allowed, and better otherwise.
fn warn_of_environment(config: &Config) {
    if config.tls.certificate.is_none() && !config.listen.ip().is_loopback() {
        tracing::warn!(
            "the development certificate is served to other machines: only those that were given it trust it"
        );
    }
    let in_container =
        ["/.dockerenv", "/run/.containerenv"].iter().any(|path| std::path::Path::new(path).exists())
            || std::env::var_os("container").is_some();
    if rustix::process::geteuid().is_root() && !in_container {
        tracing::warn!("ternd runs as root, and needs no such rights: give it a user of its own");
    }
}

fn ring_options(config: &Config) -> RingOptions {
    let limits = &config.limits;
    RingOptions {
        entries: limits.ring_entries,
        completions: (limits.ring_entries * 8).clamp(4096, 65_536),
        files: limits.connections_max,
        receive_buffers: limits.receive_buffers,
        receive_buffer_bytes: limits.receive_buffer_bytes,
    }
}

/// The first signal drains, the second ends the process at once; SIGHUP reads the certificate again. What is said comes
/// after what is done, so that nothing that befalls the log keeps the server from ending.
fn watch_signals(operations: Arc<Operations>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    threads::spawn("tern-signals", move || {
        let mut asked_to_end = false;
        for signal in &mut signals {
            if signal == SIGHUP {
                operations.reload().tell_log();
            } else if !std::mem::replace(&mut asked_to_end, true) {
                // An operator's tool may have begun it.
                operations.drain();
            } else {
                tracing::warn!("a second signal: ending at once; everything acknowledged is safe");
                logging::flush();
                std::process::exit(130);
            }
        }
    })?;
    Ok(())
}

/// The record of a start: everything that one asks first when something is wrong later.
fn record_start(
    config: &Config,
    flags: &Flags,
    engine: &dyn Engine,
    certificates: &Certificates,
    (address, metrics): (SocketAddr, Option<SocketAddr>),
) {
    let gauge = |name: &str| {
        let found = engine.statistics().into_iter().find(|statistic| statistic.name == name);
        found.and_then(|statistic| match statistic.value {
            StatisticValue::Gauge(value) | StatisticValue::Counter(value) => Some(value),
            StatisticValue::Histogram(..) => None,
        })
    };
    let cores = config.core_count();
    let none = || "none".to_owned();
    tracing::info!(
        version = tern_version::VERSION,
        configuration = flags.config.as_ref().map_or_else(none, |path| path.display().to_string()),
        listen = %address,
        metrics = metrics.map_or_else(none, |metrics| format!("http://{metrics}/metrics")),
        admin_socket = %config.admin_socket().display(),
        data_dir = %config.data_dir.display(),
        engine = ?config.engine,
        table_bytes = gauge("table_bytes").unwrap_or(0),
        log_segments = gauge("log_segments").unwrap_or(0),
        certificate_ends = certificates.end(),
        cores,
        places = u64::from(cores) * u64::from(config.limits.connections_max),
        development = config.development(),
        limits = config.changed_limits().join(","),
        "started"
    );
}

/// What is shown to operators' machines.
struct State {
    operations: Arc<Operations>,
    exposition: Exposition,
    metrics: Arc<Metrics>,
    engine: Arc<dyn Engine>,
    began: Instant,
    traces: Arc<Traces>,
    clock: Clock,
    running: Arc<Running>,
    draining: Arc<AtomicBool>,
    room: Room,
}

/// Where the store needs room, and how much.
#[derive(Clone)]
struct Room {
    dir: PathBuf,
    free_bytes_min: u64,
}

impl Room {
    /// What there is.
    fn now(&self) -> Option<Space> {
        let space = rustix::fs::statvfs(&self.dir).ok()?;
        Some(Space { free: space.f_bavail * space.f_frsize, free_min: self.free_bytes_min })
    }

    /// Why nothing can be written, if it is for want of room.
    fn is_short(&self) -> Option<String> {
        let Space { free, free_min: min } = self.now()?;
        let dir = self.dir.display();
        (free < min).then(|| {
            format!("nothing can be written: {dir} has {free} bytes left, and limits.free_bytes_min is {min}")
        })
    }
}

impl Node for State {
    fn facts(&self) -> serde_json::Value {
        let facts = Facts {
            metrics: &self.metrics,
            store: self.engine.statistics(),
            began: self.began,
            now_ms: self.clock.now_ms(),
            space: self.room.now(),
            ready: self.ready(),
        };
        facts.to_json()
    }

    fn operations(&self) -> &Operations {
        &self.operations
    }

    fn tracing(&self) -> &Traces {
        &self.traces
    }
}

impl Health for State {
    fn metrics(&self, format: Format) -> String {
        self.exposition.text(format)
    }

    fn traces(&self) -> String {
        self.traces.take()
    }

    fn alive(&self) -> Result<(), String> {
        let now_ms = self.clock.now_ms();
        let stuck = |core: &crate::metrics::CoreMetrics| {
            now_ms.saturating_sub(core.last_turn_timestamp_ms.get()) > STUCK_MS
        };
        match self.metrics.cores().position(stuck) {
            Some(core) => Err(format!("core {core} has not turned for {STUCK_MS} ms")),
            None => Ok(()),
        }
    }

    fn ready(&self) -> Result<(), String> {
        if self.running.store().failed().is_some() {
            return Err("the store has failed".to_owned());
        }
        if self.draining.load(Ordering::Acquire) {
            return Err("draining".to_owned());
        }
        if let Some(why) = self.room.is_short() {
            return Err(why);
        }
        if self.running.store().refuses(self.clock.now_ms()) {
            return Err("the store refuses to write for now: see the log".to_owned());
        }
        self.alive()
    }
}

/// How the client is called here: as a program that the shell finds, from the source tree that one stands in, or beside this one.
fn client_command() -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join("tern").is_file()) {
        return "tern".to_owned();
    }
    if std::path::Path::new("client/src/bin/tern").is_dir() {
        return "cargo run --release --bin tern --".to_owned();
    }
    let beside = std::env::current_exe().map(|own| own.with_file_name("tern")).ok();
    beside.filter(|tern| tern.is_file()).map_or("tern".to_owned(), |tern| tern.display().to_string())
}

/// Says that the server is ready, on stdout for programs, and what to do next, on stderr for people.
fn announce(config: &Config, address: SocketAddr, metrics: Option<SocketAddr>, made_certificate: bool) {
    // Whoever asked for JSON has it all in the record of the start.
    let for_people = config.log.format != LogFormat::Json;
    if let Some(metrics) = metrics.filter(|_| for_people) {
        logging::say(format_args!("metrics on http://{metrics}/metrics"));
    }
    if for_people && config.development() && config.tls.certificate.is_none() {
        let dir = config.data_dir.display();
        if made_certificate {
            logging::say(format_args!("made a development certificate: {dir}/cert.pem"));
        }
        let cores = config.core_count();
        logging::say(format_args!(
            "data in {dir}; cores: {cores}; development mode: one-time codes are printed here"
        ));
        // Whoever has been here before knows.
        if made_certificate {
            logging::say("try, in two more terminals, in this order:");
            let server = match address == Config::default().listen {
                true => String::new(),
                false => format!(" --server {address}"),
            };
            let tern = client_command();
            let people = [("ann", "Ann", "+15550001"), ("bob", "Bob", "+15550002")];
            for (profile, name, phone) in people {
                logging::say(format_args!(
                    "  {tern} --profile {profile}{server} --ca {dir}/cert.pem register {phone} --name {name}"
                ));
            }
            for ((profile, ..), (.., peer)) in people.iter().zip(people.iter().rev()) {
                logging::say(format_args!("  {tern} --profile {profile} chat {peer}"));
            }
        }
    }
    // Whoever started it may not want to know.
    let _ = writeln!(std::io::stdout(), "ternd ready on {address}");
}
