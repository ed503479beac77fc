//! Starting the cores, and waiting for their end.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tern_shard::effects::{Filtering, Pushing};
use tern_shard::identity::StoreIdentity;
use tern_shard::limits::Limits;
use tern_shard::media::MediaDoor;
use tern_shard::slots::{CoreId, ProcessId, SlotTable};
use tern_shard::tokens::{Keys, KeysRecord};
use tern_shard::{Setup, Shard};
use tern_storage::{Engine, Port, Wake as _};
use tern_wire::tls::TlsServer;

use super::io::Io;
use super::link::{CoreLink, Cores};
use super::moves::Moves;
use super::strangers::{AddressRange, Strangers};
use super::worker::Worker;
use super::{
    Clock, CodeDelivery, ContentFilter, CoreMessage, MediaRemoval, PushServices, Shared, StoreHealth, Traces,
};
use crate::mesh::{MeshEnd, mesh};
use crate::metrics::Metrics;
use tern_uring::{Missing, Ring, RingHandle, RingOptions, eventfd_waker, pin_to_cpu, stop_listening};

/// What the cores are made of.
pub struct CoresOptions {
    /// How many.
    pub cores: u16,
    /// The listening socket.
    pub listener: TcpListener,
    /// The server's TLS.
    pub tls: TlsServer,
    /// The store.
    pub engine: Arc<dyn Engine>,
    /// Which store it is, and which of its runs.
    pub identity: StoreIdentity,
    /// The installation's keys.
    pub keys: KeysRecord,
    /// The brain's bounds.
    pub limits: Limits,
    /// One-time codes may be shown to operators.
    pub development: bool,
    /// The time.
    pub clock: Clock,
    /// Where the cores count.
    pub metrics: Arc<Metrics>,
    /// Where sampled messages are followed.
    pub traces: Arc<Traces>,
    /// Who delivers one-time codes.
    pub codes: Box<dyn CodeDelivery>,
    /// Who looks at what is said, if somebody does, and at what.
    pub filter: Option<(Box<dyn ContentFilter>, Filtering)>,
    /// Where media are had, and who removes them, if the server takes any.
    pub media: Option<(Box<dyn MediaRemoval>, MediaDoor)>,
    /// Who tells devices that sleep, if somebody does, and by which services.
    pub pushes: Option<(Box<dyn PushServices>, Pushing)>,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// Messages in each ring of the mesh.
    pub mesh_ring_messages: usize,
    /// Messages to a core without room beyond which requests for it are refused.
    pub mesh_backlog_max: usize,
    /// Bytes unsent to a logged-in connection beyond which nothing more is read from it, until they have left.
    pub unsent_bytes_max: usize,
    /// Connections of the node that have not logged in.
    pub strangers_max: usize,
    /// Addresses say nothing of who is there.
    pub shared_addresses: bool,
    /// The same of one network; 0: networks are not counted.
    pub strangers_per_network_max: u32,
    /// Balancers, who say in the PROXY protocol where their clients are.
    pub proxies: Vec<AddressRange>,
    /// Each core's ring.
    pub ring: RingOptions,
}

/// The running cores.
pub struct Running {
    cores: Arc<Cores>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    shared: Arc<Shared>,
}

/// Held by a core's thread: unless it ends in order, all others are told to stop.
struct Watch {
    core_failed: Arc<AtomicBool>,
    links: Vec<CoreLink>,
    in_order: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.in_order {
            self.core_failed.store(true, Ordering::Release);
            self.links.iter().for_each(|link| link.wake());
        }
    }
}

impl Running {
    /// The way to the cores.
    pub fn control(&self) -> Arc<Cores> {
        self.cores.clone()
    }

    /// How the store does.
    pub fn store(&self) -> &StoreHealth {
        &self.shared.store
    }

    /// Waits until all cores have ended, and listens no more. `true` if they ended because they were told to drain.
    pub fn wait(&self) -> bool {
        let threads =
            std::mem::take(&mut *self.threads.lock().expect("no thread panics while it holds this"));
        for thread in threads {
            // One that panicked has said so, and set the flag.
            let _ = thread.join();
        }
        if let Err(error) = stop_listening(&self.shared.listener) {
            tracing::warn!(%error, "the listener can't be shut: its address is taken for some milliseconds more");
        }
        !self.shared.core_failed.load(Ordering::Acquire) && self.shared.store.failed().is_none()
    }
}

/// Starts the cores; they accept connections when this returns.
pub fn start(options: CoresOptions) -> Result<Running, Missing> {
    let count = options.cores;
    let slots = SlotTable::even(count);
    let ends = mesh(count, options.mesh_ring_messages);
    let mut links = Vec::new();
    for end in &ends {
        let waker = eventfd_waker().map_err(Missing::Ring)?;
        links.push(CoreLink::new(end.core(), end.sleepers(), waker));
    }
    let CoresOptions { engine, limits, identity, keys, development, ring: ring_options, .. } = &options;
    let (engine, ring_options) = (engine.clone(), ring_options.clone());
    let filtering = options.filter.as_ref().map(|(_, filtering)| *filtering);
    let media = options.media.as_ref().map(|(_, door)| door.clone());
    let pushing = options.pushes.as_ref().map(|(_, pushing)| pushing.clone());
    let setup = |core| -> Result<Setup, Missing> {
        Ok(Setup {
            process: ProcessId::default(),
            core,
            slots: slots.clone(),
            // The embedded store is one process's: what fails there fails for all slots.
            lanes: 1,
            limits: limits.clone(),
            identity: identity.clone(),
            keys: Keys::new(keys).expect("checked when they were read"),
            seed: seed().map_err(Missing::Ring)?,
            development: *development,
        })
    };
    let setups = (0..count).map(|core| setup(CoreId(core))).collect::<Result<Vec<_>, _>>()?;
    let shared = Arc::new(share(options, links.clone().into()));
    let (made, rings) = channel();
    // A ring belongs to its thread, so each thread makes its own; then all need the handles of all.
    let met = Arc::new((Mutex::new(Vec::<RingHandle>::new()), Barrier::new(usize::from(count) + 1)));
    let mut threads = Vec::new();
    for ((end, link), setup) in ends.into_iter().zip(links.clone()).zip(setups) {
        let seat = Seat {
            setup,
            filtering,
            media: media.clone(),
            pushing: pushing.clone(),
            port: engine.port(Arc::new(link.clone())),
            watch: Watch { core_failed: shared.core_failed.clone(), links: links.clone(), in_order: false },
            shared: shared.clone(),
            end,
            link,
            ring_options: ring_options.clone(),
            met: met.clone(),
        };
        let (name, made) = (format!("tern-core-{}", seat.setup.core.0), made.clone());
        let body = move || seat.run(made);
        threads.push(thread::Builder::new().name(name).spawn(body).map_err(Missing::Ring)?);
    }
    drop(made);
    let result = gather(&rings, count);
    if let Ok(handles) = &result {
        met.0.lock().expect("nothing panics while it holds this").clone_from(handles);
    }
    met.1.wait();
    result?;
    let health = (shared.store.clone(), shared.core_failed.clone());
    let cores = Cores::new(slots, links, shared.moves.clone(), health);
    Ok(Running { cores: Arc::new(cores), threads: Mutex::new(threads), shared })
}

/// What all cores share.
fn share(options: CoresOptions, links: Box<[CoreLink]>) -> Shared {
    let count = options.cores;
    Shared {
        is_ipv6: options.listener.local_addr().is_ok_and(|address| address.is_ipv6()),
        unsent_bytes_max: options.unsent_bytes_max,
        strangers: Strangers::new(
            options.strangers_max,
            if options.shared_addresses { 0 } else { options.strangers_per_network_max },
        ),
        proxies: options.proxies,
        shared_addresses: options.shared_addresses,
        full: (0..count).map(|_| AtomicBool::new(false)).collect(),
        listener: options.listener,
        tls: options.tls,
        clock: options.clock,
        metrics: options.metrics,
        traces: options.traces,
        codes: options.codes,
        filter: options.filter.map(|(filter, _)| filter),
        media: options.media.map(|(removal, _)| removal),
        pushes: options.pushes.map(|(pushes, _)| pushes),
        links,
        handshake_timeout: options.handshake_timeout,
        mesh_backlog_max: options.mesh_backlog_max,
        opened: AtomicU64::new(1),
        lazy_for: Duration::from_millis(options.limits.lazy_ms),
        accept_max: (options.ring.files - options.ring.files / 8).max(1) as usize,
        store: Arc::new(StoreHealth::default()),
        core_failed: Arc::new(AtomicBool::new(false)),
        done: (0..count).map(|_| AtomicBool::new(false)).collect(),
        moves: Arc::new(Moves::new(count)),
    }
}

/// What one core's thread begins with.
struct Seat {
    setup: Setup,
    filtering: Option<Filtering>,
    media: Option<MediaDoor>,
    pushing: Option<Pushing>,
    port: Box<dyn Port>,
    watch: Watch,
    shared: Arc<Shared>,
    end: MeshEnd<CoreMessage>,
    link: CoreLink,
    ring_options: RingOptions,
    /// Where the threads meet when each has made its ring, or could not.
    met: Arc<(Mutex<Vec<RingHandle>>, Barrier)>,
}

impl Seat {
    /// Runs the core, in its thread.
    fn run(self, made: Sender<(CoreId, Result<RingHandle, Missing>)>) {
        let Self { setup, filtering, media, pushing, port, mut watch, shared, end, link, ring_options, met } =
            self;
        let core = setup.core;
        if let Err(error) = pin_to_cpu(usize::from(core.0)) {
            tracing::warn!(core = core.0, %error, "the core's thread can't be pinned to a CPU");
        }
        let (ring, told) = match Ring::new(&ring_options, link.waker()) {
            Ok(ring) => {
                let handle = ring.handle();
                (Some(ring), made.send((core, Ok(handle))))
            }
            Err(missing) => (None, made.send((core, Err(missing)))),
        };
        drop(made);
        met.1.wait();
        let rings = met.0.lock().expect("nothing panics while it holds this").clone();
        let Some(ring) = ring.filter(|_| told.is_ok() && !rings.is_empty()) else {
            // The node does not start, and whoever starts it says why.
            watch.in_order = true;
            return;
        };
        let io = Io::new(core, ring, rings, end, port, shared);
        let brain = Shard::new(setup).with_filter(filtering).with_media(media).with_pushes(pushing);
        watch.in_order = Worker::new(brain, io, link).run();
    }
}

/// The handles of all rings, by core.
fn gather(
    made: &Receiver<(CoreId, Result<RingHandle, Missing>)>,
    count: u16,
) -> Result<Vec<RingHandle>, Missing> {
    let mut handles = Vec::new();
    for _ in 0..count {
        let (core, handle) = made.recv().expect("every thread tells before it ends");
        handles.push((core, handle?));
    }
    handles.sort_by_key(|(core, _)| *core);
    Ok(handles.into_iter().map(|(_, handle)| handle).collect())
}

/// Entropy from the system.
pub(crate) fn seed() -> std::io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(std::io::Error::other)?;
    Ok(seed)
}
