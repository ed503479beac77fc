//! From a configuration to a running server, and to its end.

use std::fmt;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tern_media::store::BadBucket;
use tern_shard::identity::StoreIdentity;
use tern_shard::tokens::{BadKeys, KeysRecord};
use tern_storage::embedded::OpenError;
use tern_storage::{Engine, StoreError};
use tern_wire::tls::Tickets;

use crate::admin::{self, SocketFile};
use crate::announce::{announce, record_start, warn_of_environment};
use crate::audit::Audit;
use crate::balance::{self, Balance};
use crate::certificate::CertificateFiles;
use crate::certificates::{Certificates, Unusable};
use crate::codes::Codes;
use crate::config::{Config, EngineKind, Flags};
use crate::control::Control;
use crate::core::{self, Clock, CoresOptions, Running, Traces};
use crate::counts;
use crate::exposition::Exposition;
use crate::files;
use crate::filter::Filter;
use crate::http;
use crate::identity::begin_run;
use crate::logging;
use crate::media::Bound;
use crate::metrics::{Metrics, NodeMetrics};
use crate::minder;
use crate::operations::{Operations, notify};
use crate::pushes::{self, Pushes};
use crate::shown::{Room, State};
use crate::store;
use crate::threads;
use crate::tickets::TicketKeys;
use crate::trouble;
use tern_uring::{Missing, RingOptions, listen, raise_open_files, use_small_pages};

/// Why ternd did not start, or stopped.
#[derive(Debug)]
pub enum RunError {
    /// The data directory can't be used.
    DataDir(PathBuf, std::io::Error),
    /// The store can't be opened.
    Open(OpenError),
    /// FoundationDB can't be used, or nothing goes on with it: why.
    Fdb(String),
    /// The store can't be read or written.
    Store(StoreError),
    /// Its keys are damaged.
    Keys(BadKeys),
    /// The bucket of media is none.
    Bucket(BadBucket),
    /// A push service can't be used.
    Push(pushes::Unusable),
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
            Self::Fdb(why) => write!(f, "{why}"),
            Self::Store(error) => write!(f, "{error}"),
            Self::Keys(error) => write!(f, "{error}"),
            Self::Bucket(error) => write!(f, "media.bucket: {error}"),
            Self::Push(error) => write!(f, "{error}"),
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
    prepare_process();
    make_data_dir(config)?;
    let engine = store::open(config)?;
    let run = store::patiently(config.engine, || begin_run(&*engine, config.restored))?;
    let for_clients = |error| RunError::Listen(config.listen, "clients", error);
    let listener = listen_patiently(config.listen).map_err(for_clients)?;
    let address = listener.local_addr().map_err(for_clients)?;
    let (parts, made_certificate) = Parts::make(config, engine)?;
    store::serve_backups(&*parts.engine, &parts.clock)?;
    let media = Bound::bind(config)?;
    let keys = run.1.clone();
    let options = parts.cores_options(config, listener, run, media.as_ref());
    let running = Arc::new(core::start(options).map_err(RunError::Uring)?);
    let door = match media {
        Some(media) => Some(media.open(config, &keys, parts.certificates.https(), parts.beside(&running))?),
        None => None,
    };
    let operations = Arc::new(Operations {
        running: running.clone(),
        draining: Arc::new(AtomicBool::new(false)),
        certificates: parts.certificates.clone(),
        pushes: parts.pushes.clone(),
        clock: parts.clock.clone(),
        flags: flags.clone(),
        in_force: Mutex::new(config.clone()),
    });
    let audit = Audit::open(&config.data_dir, parts.clock.clone())
        .map_err(|error| RunError::DataDir(config.data_dir.clone(), error))?;
    let audit = Arc::new(audit);
    let balance = balance::start(running.control(), audit.clone(), config.balance.automatic)
        .map_err(|error| RunError::System("the threads that look at slots can't start", error))?;
    let state = Arc::new(parts.state(config, &running, &operations, (balance, audit)));
    let socket = config.admin_socket();
    let may_provision = config.development() || config.admin.allow_provision;
    admin::start(&socket, running.control(), state.clone(), may_provision)
        .map_err(|error| RunError::System("the admin socket can't be opened", error))?;
    let _socket_file = SocketFile(socket);
    // Before anybody reads metrics: a number is there, or never.
    let counted_every = Duration::from_millis(config.limits.counted_every_ms);
    counts::mind(running.control(), parts.metrics.clone(), parts.clock.clone(), counted_every)
        .map_err(|error| RunError::System("the thread that reads what was counted can't start", error))?;
    let mut metrics_address = None;
    if config.metrics.enabled {
        let listening = http::start(config.metrics.listen, state);
        let purpose = "metrics";
        metrics_address =
            Some(listening.map_err(|error| RunError::Listen(config.metrics.listen, purpose, error))?);
    }
    minder::start(parts.clock.clone(), parts.certificates.clone(), parts.engine.clone(), running.clone())
        .and_then(|()| {
            minder::mind_tickets(parts.certificates.clone(), parts.tickets.clone(), running.control())
        })
        .map_err(|error| RunError::System("the thread that minds the clock can't start", error))?;
    watch_signals(operations).map_err(|error| RunError::System("signals can't be watched", error))?;
    warn_of_environment(config);
    let media_address = door.as_ref().map(|door| door.address);
    let addresses = (address, metrics_address, media_address);
    record_start(config, flags, &*parts.engine, &parts.certificates, addresses);
    announce(config, addresses, made_certificate);
    notify(&[NotifyState::Ready]);
    parts.wait(config.engine, &running)
}

/// What the process itself must be, before it holds anything.
fn prepare_process() {
    files::keep_to_owner();
    if let Err(error) = use_small_pages() {
        tracing::warn!(%error, "memory may come in huge pages, and a connection take half as much again");
    }
    if let Err(error) = raise_open_files() {
        tracing::warn!(%error, "the limit of open files can't be raised");
    }
}

/// How long an address that is taken is tried: what a killed server accepted with ends some time after it.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens the clients' listener, and waits a while for an address that is being left.
fn listen_patiently(address: SocketAddr) -> std::io::Result<TcpListener> {
    let (deadline, mut told) = (Instant::now() + ADDRESS_TIMEOUT, false);
    loop {
        match listen(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                if !std::mem::replace(&mut told, true) {
                    let seconds = ADDRESS_TIMEOUT.as_secs();
                    tracing::warn!(%address, "the address is taken: it is tried for {seconds} s more");
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            done => return done,
        }
    }
}

/// What the cores and the listeners of a node share.
struct Parts {
    engine: Arc<dyn Engine>,
    metrics: Arc<Metrics>,
    clock: Clock,
    certificates: Arc<Certificates>,
    tickets: Arc<TicketKeys>,
    codes: Codes,
    filter: Option<Filter>,
    pushes: Option<Pushes>,
    traces: Arc<Traces>,
}

impl Parts {
    /// Makes them. Also whether a development certificate was made.
    fn make(config: &Config, engine: Arc<dyn Engine>) -> Result<(Self, bool), RunError> {
        let metrics = Arc::new(Metrics::new(config.core_count()));
        let clock = Clock::start();
        let tickets = store::patiently(config.engine, || {
            TicketKeys::load(engine.clone(), clock.clone(), config.limits.ticket_valid_ms)
                .map_err(RunError::Store)
        })?;
        let (certificates, made) = load_certificate(config, tickets.tickets(), metrics.node.clone())?;
        // A core that has not begun yet is not stuck.
        metrics.cores().for_each(|core| core.last_turn_timestamp_ms.set(clock.now_ms()));
        let codes = Codes::start(&config.sms, clock.clone(), metrics.node.clone())
            .map_err(|error| RunError::System("the thread that delivers codes can't start", error))?;
        let filter = Filter::start(&config.filter, metrics.node.clone()).map_err(|error| {
            RunError::System("the threads that ask the content filter can't start", error)
        })?;
        let pushes = Pushes::start(config, &clock)?;
        let traces = Arc::new(Traces::every(config.trace.every));
        let (certificates, tickets) = (Arc::new(certificates), Arc::new(tickets));
        Ok((Self { engine, metrics, clock, certificates, tickets, codes, filter, pushes, traces }, made))
    }

    fn cores_options(
        &self,
        config: &Config,
        listener: TcpListener,
        (identity, keys): (StoreIdentity, KeysRecord),
        media: Option<&Bound>,
    ) -> CoresOptions {
        CoresOptions {
            cores: config.core_count(),
            listener,
            tls: self.certificates.tls(),
            engine: self.engine.clone(),
            identity,
            media: media.map(|media| (media.removal(), media.of_brains(config, &keys))),
            keys,
            limits: config.shard_limits(),
            development: config.development(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            traces: self.traces.clone(),
            codes: Box::new(self.codes.clone()),
            filter: self.filter.clone().map(|filter| (Box::new(filter) as _, config.filter.filtering())),
            pushes: self.pushes.clone().map(|pushes| {
                let pushing = pushes.pushing();
                (Box::new(pushes) as _, pushing)
            }),
            handshake_timeout: Duration::from_millis(config.limits.handshake_timeout_ms),
            unsent_bytes_max: config.limits.unsent_bytes_max,
            strangers_max: config.limits.strangers_max,
            strangers_per_network_max: config.limits.strangers_per_network_max,
            shared_addresses: config.network.shared_addresses,
            proxies: config.network.proxy_protocol_from.clone(),
            mesh_ring_messages: config.limits.mesh_ring_messages,
            mesh_backlog_max: config.limits.mesh_backlog_max,
            ring: ring_options(config),
        }
    }

    /// What is served beside the cores needs these.
    fn beside(&self, running: &Running) -> (Arc<dyn Control>, Clock, Arc<NodeMetrics>) {
        (running.control(), self.clock.clone(), self.metrics.node.clone())
    }

    fn state(
        &self,
        config: &Config,
        running: &Arc<Running>,
        operations: &Arc<Operations>,
        (balance, audit): (Arc<Balance>, Arc<Audit>),
    ) -> State {
        let room = Room {
            dir: config.data_dir.clone(),
            free_bytes_min: match config.engine {
                EngineKind::Embedded => config.limits.free_bytes_min,
                EngineKind::Fdb | EngineKind::Memory => 0,
            },
        };
        let space = room.clone();
        State {
            operations: operations.clone(),
            exposition: Exposition::new(
                self.metrics.clone(),
                self.engine.clone(),
                self.pushes.clone(),
                move || space.now(),
            ),
            pushes: self.pushes.clone(),
            metrics: self.metrics.clone(),
            engine: self.engine.clone(),
            began: Instant::now(),
            traces: self.traces.clone(),
            clock: self.clock.clone(),
            running: running.clone(),
            draining: operations.draining.clone(),
            room,
            balance,
            audit,
        }
    }

    /// Waits until the cores have ended, and says why they did.
    fn wait(&self, engine: EngineKind, running: &Running) -> Result<(), RunError> {
        let ended_well = running.wait();
        let failed = running.store().failed().map(str::to_owned);
        self.codes.stop();
        if let Some(pushes) = &self.pushes {
            pushes.end();
        }
        self.engine.close();
        match (failed, ended_well) {
            (Some(reason), _) if engine == EngineKind::Fdb => Err(RunError::Fdb(reason)),
            (Some(reason), _) => Err(RunError::StoreFailed(reason)),
            (None, false) => Err(RunError::CoreFailed),
            (None, true) => Ok(()),
        }
    }
}

/// Makes the data directory. One that is there keeps its mode, and what ternd has in it is private by its own.
fn make_data_dir(config: &Config) -> Result<(), RunError> {
    let dir = &config.data_dir;
    let store = dir.join("store");
    let made = files::make_dir(dir).and_then(|()| match config.engine {
        EngineKind::Embedded => files::make_dir(&store).and_then(|()| files::make_private(&store)),
        EngineKind::Fdb | EngineKind::Memory => Ok(0),
    });
    let opened = made.map_err(|error| RunError::DataDir(dir.clone(), error))?;
    if opened > 0 {
        let store = store.display();
        tracing::warn!(%store, files = opened, "others on this machine could read the store: they can't any more");
    }
    Ok(())
}

fn load_certificate(
    config: &Config,
    tickets: Option<Tickets>,
    metrics: Arc<NodeMetrics>,
) -> Result<(Certificates, bool), RunError> {
    let (files, made) = match (&config.tls.certificate, &config.tls.key) {
        (Some(certificate), Some(key)) => (CertificateFiles::of_operator(certificate, key), false),
        _ => CertificateFiles::of_data_dir(&config.data_dir)
            .map_err(|error| RunError::Certificate(Unusable::Files(error)))?,
    };
    Ok((Certificates::load(files, tickets, metrics).map_err(RunError::Certificate)?, made))
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
