//! Opening a store: its directory, its lock, what recovery finds, and the engine's parts over that.

use std::path::Path;
use std::sync::Arc;

use super::LOG;
use super::applier::{Applier, Backlog};
use super::backup::{BackupState, Of};
use super::committer::Committer;
use super::hold::Hold;
use super::keeper::Keeper;
use super::log::{Log, Salts, Segments};
use super::open_error::OpenError;
use super::options::EmbeddedOptions;
use super::recovery::{self, Recovered};
use super::statistics::Statistics;
use super::tables::Tables;
use super::watermark::Watermark;
use crate::medium::{Locking, Medium};

/// The file whose lock a store's process holds.
const LOCK: &str = "lock";

/// The parts of an engine, to be driven by threads or step by step.
pub(super) struct Parts<T: Tables> {
    pub(super) tables: T,
    pub(super) committer: Committer<T::Medium>,
    pub(super) applier: Applier<T>,
    pub(super) keeper: Arc<Keeper<T>>,
    pub(super) backlog: Arc<Backlog>,
    pub(super) statistics: Arc<Statistics>,
    /// What a backup looks at, and that one goes on from before.
    pub(super) backup: (Of<T>, Option<BackupState>),
    /// Held as long as the store is open.
    pub(super) lock: <T::Medium as Medium>::Lock,
}

/// Opens the store in a directory, which is made if it is not there. `seed` is a random number of this opening.
pub(super) fn open<T: Tables>(
    medium: &T::Medium,
    path: &Path,
    options: &EmbeddedOptions,
    seed: u64,
) -> Result<Parts<T>, OpenError> {
    let io = |error| OpenError::Io { path: path.to_owned(), error };
    medium.make_dir(path).map_err(io)?;
    let lock = lock(medium, path)?;
    let (watermark, acknowledged) = Watermark::open(medium, path).map_err(io)?;
    let recovered = recovery::recover::<T>(medium, path, options, acknowledged)?;
    let Recovered { tables, newest, flushed, segments: segments_begun, epochs } = recovered;
    let segments = Segments::new(medium.clone(), path.join(LOG), options.segment_bytes);
    let log = Log::open(segments.clone(), Salts::new(seed)).map_err(io)?;

    let statistics = Arc::new(Statistics::default());
    statistics.opened(tables.file_bytes(), segments_begun);
    let backlog = Arc::new(Backlog::new(newest));
    let place = (medium.clone(), path);
    let backup = BackupState::read(medium, path).map_err(io)?;
    let archived = backup.as_ref().map(|backup| backup.archived);
    // Commits are refused below the least that must be free. A backup must be out of their way long before.
    let hold =
        Arc::new(Hold::new(archived, options.backup_log_bytes_max, options.free_bytes_min.saturating_mul(2)));
    let held = (segments.clone(), hold.clone());
    let keeper = Keeper::new(place.clone(), held, tables.clone(), flushed, statistics.clone());
    let keeper = Arc::new(keeper);
    let of = Of {
        medium: medium.clone(),
        store: path.to_owned(),
        keeper: keeper.clone(),
        backlog: backlog.clone(),
        segments: segments.clone(),
        hold: hold.clone(),
        opened_at: newest,
    };
    let applier = Applier::new(
        tables.clone(),
        backlog.clone(),
        keeper.clone(),
        (segments.clone(), segments_begun),
        options.flush_bytes,
    );
    let committer = Committer::new(
        place,
        (log, backlog.clone()),
        options.clone(),
        epochs,
        (watermark, newest),
        statistics.clone(),
    );
    let backup = (of, backup);
    Ok(Parts { tables, committer, applier, keeper, backlog, statistics, backup, lock })
}

/// Takes a store's lock.
pub(super) fn lock<M: Medium>(medium: &M, path: &Path) -> Result<M::Lock, OpenError> {
    match medium.lock(&path.join(LOCK)) {
        Ok(Locking::Taken(lock)) => Ok(lock),
        Ok(Locking::Held(pid)) => Err(OpenError::InUse { path: path.to_owned(), pid }),
        Err(error) => Err(OpenError::Io { path: path.to_owned(), error }),
    }
}
