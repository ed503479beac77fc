//! Push services: how devices that sleep are told what their cores say. On threads of its own, beside the cores, which never wait for it.
//!
//! ```text
//! core -> queue -> desk: which core is to know -> lanes of tern-push -> APNs, FCM, browsers, the operator's program
//!                    ^                                  |
//!   what has become of it -> core                       |
//!                    +----------------------------------+
//! ```
//!
//! What always holds:
//! - Each push that was taken is answered once: that it is over, that its address is no more, or that it was not sent.
//! - No more are held than `push.held_max` for each service, and `QUEUE_MAX` before the desk.
//! - No key, no token and nothing that is said is in the log, in metrics, or on the admin socket.
//!
//! It refuses to know: why somebody is told. What is not sent is the brain's, whose outbox lies in the store.

mod badges;
mod desk;
mod notices;
mod services;
mod told;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use serde_json::Value;
use tern_push::{Backoff, LaneSnapshot, Sender, Settings, Wall};
use tern_shard::effects::{Push, Pushing};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

use self::badges::Badges;
use self::desk::{Asked, Desk};
pub use self::services::Unusable;
pub use self::told::{Lane, Told};
use crate::config::{Config, PushConfig};
use crate::core::{Clock, PushServices, PushedTo, seed};
use crate::run::RunError;

/// Pushes that wait for the desk. Beyond, a core is told that it can't be done now.
const QUEUE_MAX: usize = 16_384;

/// How long requests in flight are waited for at the end, behind the cores.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// The way to the push services.
#[derive(Clone)]
pub struct Pushes(Arc<Inner>);

struct Inner {
    asked: mpsc::Sender<Asked>,
    sender: Sender,
    shared: Arc<Shared>,
    pushing: Pushing,
    /// In base64url; empty: there is no Web Push.
    web_push_key: String,
    held_max: u32,
    /// It ends with the process.
    runtime: Mutex<Option<Runtime>>,
}

/// What the desk shares with those who ask it.
#[derive(Default)]
struct Shared {
    /// Pushes that are not answered.
    open: AtomicU64,
    stops: AtomicBool,
    told: Told,
}

impl PushServices for Pushes {
    fn push(&self, push: Push, to: PushedTo) -> bool {
        let shared = &self.0.shared;
        let service = push.to.service;
        shared.open.fetch_add(1, Ordering::AcqRel);
        let is_taken =
            !shared.stops.load(Ordering::Acquire) && self.0.asked.try_send(Asked { push, to }).is_ok();
        if !is_taken {
            shared.told.no_room(service);
            shared.open.fetch_sub(1, Ordering::AcqRel);
        }
        is_taken
    }

    fn is_quiet(&self) -> bool {
        self.0.shared.open.load(Ordering::Acquire) == 0
    }
}

impl Pushes {
    /// Begins, if there is a service by which devices are told.
    pub(crate) fn start(config: &Config, clock: &Clock) -> Result<Option<Self>, RunError> {
        let now = clock.clone();
        let wall = Wall::new(move || now.now_ms() / 1000);
        let badges = Badges::default();
        let made = services::make(&config.push, &config.data_dir, &wall, &badges).map_err(RunError::Push)?;
        if made.services.is_empty() {
            return Ok(None);
        }
        let system = |error| RunError::System("the threads that speak to push services can't start", error);
        let runtime = runtime(&config.push).map_err(system)?;
        let rng = ChaCha8Rng::from_seed(seed().map_err(system)?);
        let (sender, outcomes) = {
            let _entered = runtime.enter();
            Sender::start(settings(&config.push), made.services, &wall, rng)
        };
        let (asked, asking) = mpsc::channel(QUEUE_MAX);
        let shared = Arc::<Shared>::default();
        let desk = Desk::new(sender.clone(), badges, shared.clone(), run_number().map_err(system)?);
        runtime.spawn(desk.run(asking, outcomes));
        let web_push_key = made.web_push_key;
        if !web_push_key.is_empty() {
            tracing::info!(key = web_push_key, "browsers subscribe to this key of Web Push");
        }
        Ok(Some(Self(Arc::new(Inner {
            asked,
            sender,
            shared,
            pushing: made.pushing,
            web_push_key,
            held_max: config.push.held_max,
            runtime: Mutex::new(Some(runtime)),
        }))))
    }

    /// What the brains are to know of it.
    pub(crate) fn pushing(&self) -> Pushing {
        self.0.pushing.clone()
    }

    /// Nothing new is sent. What is in flight is waited for, by whoever asks whether it is quiet; all else stays in the store.
    pub(crate) fn stop(&self) {
        self.0.shared.stops.store(true, Ordering::Release);
        self.0.sender.stop();
    }

    /// Ends it, behind the cores.
    pub(crate) fn end(&self) {
        self.stop();
        let deadline = Instant::now() + END_TIMEOUT;
        while !self.is_quiet() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let runtime = self.0.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
    }

    /// How each service does.
    pub fn lanes(&self) -> Vec<Lane> {
        let of = |seen: LaneSnapshot| self.0.shared.told.lane(seen, self.0.held_max);
        self.0.sender.snapshot().into_iter().map(of).collect()
    }

    /// The same, for operators' tools.
    pub fn to_json(&self) -> Value {
        let lanes: Vec<_> = self.lanes().iter().map(Lane::to_json).collect();
        serde_json::json!({ "services": lanes, "web_push_key": self.0.web_push_key })
    }
}

/// Distinguishes notices of this run of the process from those of others.
fn run_number() -> io::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u64::from_le_bytes(bytes))
}

fn runtime(config: &PushConfig) -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(config.threads.into()).thread_name("tern-push").enable_all().build()
}

fn settings(config: &PushConfig) -> Settings {
    let backoff = Backoff { base: Duration::from_millis(config.retry_ms), ..Backoff::default() };
    Settings {
        held_max: config.held_max as usize,
        in_flight_max: config.in_flight_max as usize,
        tries_max: config.tries_max,
        backoff,
        failures_max: config.failures_max,
        ..Settings::default()
    }
}
