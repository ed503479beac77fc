//! A core: one thread, one ring, one brain. Its loop turns completions into the brain's inputs, and carries out what the
//! brain says.
//!
//! Nothing here takes a lock or waits, but for the one wait of the loop. What a core shares with others it reaches
//! through the mesh, the store's port, a bounded queue of operators' calls, and counters.

mod clock;
mod conn;
mod io;
mod link;
mod start;
mod trace;
mod worker;

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};

use tern_shard::message::Message;
use tern_storage::StoreError;
use tern_wire::ids::Phone;
use tern_wire::tls::TlsServer;

pub use clock::{Clock, FOLLOW};
pub use link::Cores;
pub(crate) use start::seed;
pub use start::{CoresOptions, Running, start};
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

/// What all cores share. Read-only, but for counters and flags.
struct Shared {
    listener: TcpListener,
    tls: TlsServer,
    clock: Clock,
    metrics: std::sync::Arc<Metrics>,
    codes: Box<dyn CodeDelivery>,
    /// Sampled messages on their way.
    traces: std::sync::Arc<Traces>,
    /// Which messages are sampled: see [`trace::Tracer::new`].
    trace_every: u64,
    handshake_timeout: std::time::Duration,
    mesh_backlog_max: usize,
    /// Connections of a core from which on it accepts no more; the rest of its descriptors is for those that move here.
    accept_max: usize,
    /// The store has failed: the node must stop.
    store_failed: std::sync::Arc<AtomicBool>,
    /// A core has ended by itself: the node must stop, for nobody else can serve its users.
    core_failed: std::sync::Arc<AtomicBool>,
    /// Cores that have nothing left to do, while draining.
    done: Box<[AtomicBool]>,
}

impl Shared {
    fn store_trouble(&self, error: &StoreError) {
        match error {
            StoreError::Failed { .. } => {
                if !self.store_failed.swap(true, Ordering::AcqRel) {
                    tracing::error!(%error, "the store has failed: nothing more is acknowledged, ternd stops");
                }
            }
            StoreError::Full
            | StoreError::Unreachable { .. }
            | StoreError::Fenced { .. }
            | StoreError::Corrupt { .. } => {
                tracing::error!(%error, "the store refused");
            }
        }
    }
}
