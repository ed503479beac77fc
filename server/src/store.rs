//! Which store there is, and how it is opened.

use std::sync::Arc;
use std::time::Duration;

use tern_storage::embedded::backup::Surroundings;
use tern_storage::embedded::{Embedded, EmbeddedOptions};
use tern_storage::memory::Memory;
use tern_storage::{Engine, StoreError};

use crate::config::{Config, EngineKind};
use crate::core::Clock;
use crate::run::RunError;

/// Before something of a start is done again.
const AGAIN: Duration = Duration::from_secs(1);

/// Opens the store that the configuration names.
pub(crate) fn open(config: &Config) -> Result<Arc<dyn Engine>, RunError> {
    match config.engine {
        EngineKind::Memory => {
            tracing::warn!("the store is in memory: nothing survives the end of this process");
            Ok(Arc::new(Memory::new()))
        }
        EngineKind::Embedded => open_embedded(config),
        EngineKind::Fdb => open_fdb(config),
    }
}

/// Does something of a start again for as long as FoundationDB does not answer, and says so: it is waited for then, and not given up.
pub(crate) fn patiently<R>(
    engine: EngineKind,
    mut act: impl FnMut() -> Result<R, RunError>,
) -> Result<R, RunError> {
    loop {
        match act() {
            Err(RunError::Store(error @ StoreError::Unreachable { .. })) if engine == EngineKind::Fdb => {
                tracing::warn!(why = %error, "ternd waits for its store");
                std::thread::sleep(AGAIN);
            }
            done => return done,
        }
    }
}

fn ack_p99(config: &Config) -> Duration {
    Duration::from_millis(config.latency.ack_p99_ms.into())
}

fn open_embedded(config: &Config) -> Result<Arc<dyn Engine>, RunError> {
    let options = EmbeddedOptions {
        group_bytes_max: config.limits.commit_group_bytes_max,
        commits_in_flight_max: config.limits.commits_in_flight_max,
        reads_in_flight_max: config.limits.reads_in_flight_max,
        free_bytes_min: config.limits.free_bytes_min,
        cache_bytes: config.limits.store_cache_bytes,
        ack_p99: ack_p99(config),
        backup_log_bytes_max: config.limits.backup_log_bytes_max,
        ..EmbeddedOptions::default()
    };
    let store = Embedded::open(config.data_dir.join("store"), options).map_err(RunError::Open)?;
    Ok(Arc::new(store))
}

/// Has backups go on from here, which they did before; and be asked for.
pub(crate) fn serve_backups(engine: &dyn Engine, clock: &Clock) -> Result<(), RunError> {
    let clock = clock.clone();
    let random = || crate::core::seed().expect("the system has given entropy since the start");
    let surroundings = Surroundings { now_ms: Box::new(move || clock.now_ms()), random: Box::new(random) };
    engine.serve_backups(surroundings).map_err(RunError::Store)
}

/// Waits for FoundationDB, if it is not there yet, and says so.
#[cfg(feature = "fdb")]
fn open_fdb(config: &Config) -> Result<Arc<dyn Engine>, RunError> {
    use tern_fdb::{FdbClient, Place, Tls};
    use tern_storage::fdb::{Fdb, FdbOptions};

    let fdb = &config.fdb;
    let place = Place {
        cluster_file: fdb.cluster_file.clone(),
        prefix: fdb.prefix.clone().into_bytes(),
        datacenter_id: fdb.datacenter_id.clone(),
        machine_id: fdb.machine_id.clone(),
        tls: Tls {
            certificate: fdb.certificate.clone(),
            key: fdb.key.clone(),
            ca: fdb.ca.clone(),
            verify_peers: fdb.verify_peers.clone(),
        },
    };
    let client = FdbClient::open(place).map_err(|error| RunError::Fdb(error.to_string()))?;
    let options = FdbOptions {
        lanes: config.fdb_lanes(),
        commits_in_flight_max: config.limits.commits_in_flight_max,
        reads_in_flight_max: config.limits.reads_in_flight_max,
        ack_p99: ack_p99(config),
        ..FdbOptions::default()
    };
    let seed = crate::core::seed().map_err(|error| RunError::System("the system gives no entropy", error))?;
    let nonce = u64::from_le_bytes(*seed.first_chunk().expect("32 bytes"));
    let waits = |why: &str| tracing::warn!(%why, "ternd waits for its store");
    let store = Fdb::open(Arc::new(client), options, nonce, waits).map_err(|error| match error {
        StoreError::Failed { reason } => RunError::Fdb(reason),
        error => RunError::Store(error),
    })?;
    tracing::info!(process = store.process(), cluster_file = %fdb.cluster_file.display(), "the store is in FoundationDB");
    Ok(Arc::new(store))
}

#[cfg(not(feature = "fdb"))]
fn open_fdb(_: &Config) -> Result<Arc<dyn Engine>, RunError> {
    unreachable!("the configuration was checked")
}
