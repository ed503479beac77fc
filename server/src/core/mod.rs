//! A core: one thread, one ring, one brain. Its loop turns completions into the brain's inputs, and carries out what the
//! brain says.
//!
//! Nothing here takes a lock or waits, but for the one wait of the loop. What a core shares with others it reaches
//! through the mesh, the store's port, a bounded queue of operators' calls, and counters.

mod clock;
mod conn;
mod io;
pub mod life;
mod link;
mod moves;
mod start;
mod strangers;
mod trace;
mod worker;

use std::net::TcpListener;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tern_shard::effects::{Push, Question};
use tern_shard::message::Message;
use tern_storage::StoreError;
use tern_wire::ids::{MediaId, Phone};
use tern_wire::tls::TlsServer;

pub use clock::{Clock, FOLLOW};
use link::CoreLink;
pub use link::{AnswerTo, Cores, PushedTo};
pub(crate) use start::seed;
pub use start::{CoresOptions, Running, start};
pub use strangers::{AddressRange, STRANGER_BYTES};
pub use trace::Traces;

use crate::metrics::Metrics;

/// What goes over the mesh.
enum CoreMessage {
    /// For the other brain.
    Brain(Message),
    /// A connection that has moved.
    Moved(Box<conn::Moved>),
}

/// Has one-time codes delivered. Called by cores: it must not block.
pub trait CodeDelivery: Send + Sync {
    /// `false` if too many wait.
    fn deliver(&self, phone: &Phone, code: &str, expires_ms: u64) -> bool;
}

/// Has the bytes of media removed. Called by cores: it must not block.
pub trait MediaRemoval: Send + Sync {
    /// If that can't be done now, it is asked for again.
    fn remove(&self, medium: MediaId);
}

/// Has a content filter look at what is said. Called by cores: it must not block.
pub trait ContentFilter: Send + Sync {
    /// `false` if that can't be done now. Otherwise it is answered once.
    fn ask(&self, question: Question, to: AnswerTo) -> bool;
}

/// Has devices told by push services. Called by cores: it must not block.
pub trait PushServices: Send + Sync {
    /// `false` if that can't be done now. Otherwise it is answered once.
    fn push(&self, push: Push, to: PushedTo) -> bool;

    /// Whether all that was to be told has its answer.
    fn is_quiet(&self) -> bool;
}

/// What all cores share. Read-only, but for counters and flags.
struct Shared {
    listener: TcpListener,
    tls: TlsServer,
    clock: Clock,
    metrics: std::sync::Arc<Metrics>,
    codes: Box<dyn CodeDelivery>,
    /// Who looks at what is said, if somebody does.
    filter: Option<Box<dyn ContentFilter>>,
    /// Who removes media, if the server takes any.
    media: Option<Box<dyn MediaRemoval>>,
    /// Who tells devices that sleep, if somebody does.
    pushes: Option<Box<dyn PushServices>>,
    links: Box<[CoreLink]>,
    /// Sampled messages on their way.
    traces: std::sync::Arc<Traces>,
    handshake_timeout: std::time::Duration,
    mesh_backlog_max: usize,
    /// How long a frame that nobody waits for may wait.
    lazy_for: std::time::Duration,
    /// Bytes unsent to a logged-in connection beyond which nothing more is read from it, until they have left.
    unsent_bytes_max: usize,
    strangers: strangers::Strangers,
    /// Balancers, who say where their clients are.
    proxies: Vec<AddressRange>,
    /// Addresses say nothing of who is there.
    shared_addresses: bool,
    /// The listener's addresses are of IPv6.
    is_ipv6: bool,
    /// Cores that have all connections that they may have.
    full: Box<[AtomicBool]>,
    /// Connections of a core from which on it accepts no more; the rest of its descriptors is for those that move here.
    accept_max: usize,
    /// Connections whose handshake is over, since the process began: each has its number.
    opened: AtomicU64,
    /// How the store does.
    store: std::sync::Arc<StoreHealth>,
    /// A core has ended by itself: the node must stop, for nobody else can serve its users.
    core_failed: std::sync::Arc<AtomicBool>,
    /// Cores that have nothing left to do, while draining.
    done: Box<[AtomicBool]>,
    /// The move of a slot that is under way.
    moves: std::sync::Arc<moves::Moves>,
}

/// How the store does, as the cores see it.
#[derive(Debug, Default)]
pub struct StoreHealth {
    /// It has failed, and why: the node must stop.
    failed: OnceLock<String>,
    /// When it refused to write for now, in the clock's ms; 0 if it has written since.
    refused_ms: AtomicU64,
}

impl StoreHealth {
    /// Why it has failed, if it has.
    pub fn failed(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }

    /// It has failed: the cores stop.
    pub fn fail(&self, reason: &str) {
        if self.failed.set(reason.to_owned()).is_ok() {
            tracing::error!(reason, "the store has failed: nothing more is acknowledged, ternd stops");
        }
    }

    /// Whether it has refused to write, and nothing was written since; forgotten after a while, so that somebody tries.
    pub fn refuses(&self, now_ms: u64) -> bool {
        const FORGOTTEN_MS: u64 = 10_000;
        let refused_ms = self.refused_ms.load(Ordering::Acquire);
        refused_ms != 0 && now_ms.saturating_sub(refused_ms) < FORGOTTEN_MS
    }

    /// Something was not written, or not read.
    fn refused(&self, now_ms: u64) {
        self.refused_ms.store(now_ms.max(1), Ordering::Release);
    }

    /// Something was written.
    fn wrote(&self) {
        if self.refused_ms.load(Ordering::Relaxed) != 0 {
            self.refused_ms.store(0, Ordering::Release);
        }
    }
}

impl Shared {
    fn store_trouble(&self, error: &StoreError) {
        match error {
            StoreError::Failed { reason } => self.store.fail(reason),
            StoreError::Corrupt { .. } | StoreError::Fenced { .. } => {
                tracing::error!(%error, "the store refused");
            }
            _ => {
                self.store.refused(self.clock.now_ms());
                tracing::error!(%error, "the store refused for now");
            }
        }
    }
}
