//! What is shown of a running node to operators' machines, and whether it is well.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tern_storage::Engine;
use tern_storage::embedded::backup::Backups;

use crate::admin::Node;
use crate::audit::Audit;
use crate::balance::Balance;
use crate::core::{Clock, Running, Traces};
use crate::exposition::{Exposition, Format, Space};
use crate::facts::Facts;
use crate::http::Health;
use crate::metrics::{CoreMetrics, Metrics};
use crate::operations::Operations;
use crate::pushes::Pushes;

/// A core that has not turned for this long is stuck.
const STUCK_MS: u64 = 5_000;

/// What is shown to operators' machines.
pub(crate) struct State {
    pub(crate) operations: Arc<Operations>,
    pub(crate) exposition: Exposition,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) pushes: Option<Pushes>,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) began: Instant,
    pub(crate) traces: Arc<Traces>,
    pub(crate) clock: Clock,
    pub(crate) running: Arc<Running>,
    pub(crate) draining: Arc<AtomicBool>,
    pub(crate) room: Room,
    pub(crate) balance: Arc<Balance>,
    pub(crate) audit: Arc<Audit>,
}

/// Where the store needs room, and how much.
#[derive(Clone)]
pub(crate) struct Room {
    pub(crate) dir: PathBuf,
    pub(crate) free_bytes_min: u64,
}

impl Room {
    /// What there is.
    pub(crate) fn now(&self) -> Option<Space> {
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
            backup: self.engine.backups().map(Backups::status),
            pushes: self.pushes.as_ref().map(Pushes::lanes).unwrap_or_default(),
        };
        facts.to_json()
    }

    fn operations(&self) -> &Operations {
        &self.operations
    }

    fn tracing(&self) -> &Traces {
        &self.traces
    }

    fn pushes(&self) -> Option<&Pushes> {
        self.pushes.as_ref()
    }

    fn balance(&self) -> &Balance {
        &self.balance
    }

    fn backups(&self) -> Option<&Backups> {
        self.engine.backups()
    }

    fn audit(&self) -> &Audit {
        &self.audit
    }

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
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
        let stuck = |core: &CoreMetrics| now_ms.saturating_sub(core.last_turn_timestamp_ms.get()) > STUCK_MS;
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
        if let Some(trouble) = self.engine.trouble() {
            return Err(trouble);
        }
        if self.running.store().refuses(self.clock.now_ms()) {
            return Err("the store refuses to write for now: see the log".to_owned());
        }
        self.alive()
    }
}
