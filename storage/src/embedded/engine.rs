//! The engine over the disk of this machine: its parts, each with its thread.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

use bytes::Bytes;

use super::applier::Backlog;
use super::backup::{self, BackupState, Backups, Of, Surroundings};
use super::keeper::Keeper;
use super::open_error::OpenError;
use super::opening::{self, Parts};
use super::options::EmbeddedOptions;
use super::port::{EmbeddedPort, raising};
use super::reader;
use super::reader::Reader;
use super::statistics::{self, Statistics};
use super::tables::Tables as _;
use super::tables::lsm::LsmTables;
use super::threads::{self, Committing};
use crate::batch::{Batch, Fence};
use crate::commits::Link;
use crate::engine::{Engine, Port, Statistic, StoreError, Wake};
use crate::keys::{self, Key};
use crate::lanes::Lane;
use crate::medium::{Disk, Medium};
use crate::parker::{self, Parker};
use crate::slots::{Epoch, Slot};
use crate::waiter::waiter;

/// The embedded engine.
pub struct Embedded {
    tables: LsmTables,
    options: EmbeddedOptions,
    committer: Arc<Parker<Link>>,
    readers: Vec<Arc<Parker<reader::Link>>>,
    next_reader: AtomicUsize,
    statistics: Arc<Statistics>,
    backlog: Arc<Backlog>,
    keeper: Arc<Keeper<LsmTables>>,
    /// What a backup begins with, until one is served.
    backup: Mutex<Option<(Of<LsmTables>, Option<BackupState>)>>,
    backups: OnceLock<Backups>,
    threads: Mutex<Threads>,
    /// Held as long as the store is open.
    _lock: <Disk as Medium>::Lock,
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Embedded {
    /// Opens the store in a directory, which is made if it is not there.
    pub fn open(path: impl AsRef<Path>, options: EmbeddedOptions) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let io = |error| OpenError::Io { path: path.to_owned(), error };
        let seed = RandomState::new().build_hasher().finish();
        let parts: Parts<LsmTables> = opening::open(&Disk, path, &options, seed)?;
        let Parts { tables, committer: state, applier, keeper, backlog, statistics, .. } = parts;
        let Parts { backup, lock, .. } = parts;

        let mut threads =
            Threads { keeper: threads::spawn_keeper(&keeper).map_err(io)?.into(), ..Threads::default() };
        let applying = threads::spawn_applier(applier, backlog.clone(), keeper.clone());
        threads.applier = Some(applying.map_err(io)?);
        let committer = Arc::new(Parker::default());
        let state = Committing::new(state, backlog.clone());
        threads.committer = Some(parker::spawn("tern-commit", committer.clone(), state).map_err(io)?);
        let mut readers = Vec::new();
        for number in 0..options.readers.max(1) {
            let parker = Arc::new(Parker::default());
            let state = Reader::new(tables.clone(), backlog.clone(), statistics.clone());
            let name = format!("tern-read-{number}");
            let state = (state, backlog.clone());
            threads.readers.push(parker::spawn(&name, parker.clone(), state).map_err(io)?);
            readers.push(parker);
        }
        Ok(Self {
            tables,
            options,
            committer,
            readers,
            next_reader: AtomicUsize::new(0),
            statistics,
            backlog,
            keeper,
            backup: Mutex::new(Some(backup)),
            backups: OnceLock::new(),
            threads: Mutex::new(threads),
            _lock: lock,
        })
    }

    fn submit_blocking(&self, batch: Batch, raise: Option<(Slot, Epoch)>) -> Result<(), StoreError> {
        let (wake, waiter) = waiter();
        let mut port = self.open_port(wake);
        let busy = StoreError::Failed { reason: "the store is closing".to_owned() };
        port.submit_raising((Lane::default(), batch, Fence::default()), raise).map_err(|_| busy.clone())?;
        waiter.committed(&mut port, || self.committer.is_closed()).unwrap_or(Err(busy))
    }

    fn open_port(&self, wake: Arc<dyn Wake>) -> EmbeddedPort {
        let reader = self.next_reader.fetch_add(1, Ordering::Relaxed) % self.readers.len();
        let (committer, reader) = (self.committer.clone(), self.readers[reader].clone());
        EmbeddedPort::open(&self.options, wake, committer, reader, self.backlog.clone())
    }
}

impl Engine for Embedded {
    fn port(&self, wake: Arc<dyn Wake>) -> Box<dyn Port> {
        Box::new(self.open_port(wake))
    }

    fn get_blocking(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        let newest = self.backlog.newest();
        self.backlog.wait_for(newest).map_err(|reason| StoreError::Failed { reason })?;
        self.tables.get(key)
    }

    fn commit_blocking(&self, batch: Batch) -> Result<(), StoreError> {
        self.submit_blocking(batch, None)
    }

    fn raise_epoch(&self, slot: Slot, epoch: Epoch) -> Result<(), StoreError> {
        self.submit_blocking(raising(slot, epoch), Some((slot, epoch)))
    }

    fn statistics(&self) -> Vec<Statistic> {
        let mut list = self.statistics.list(self.backlog.bytes() as u64);
        list.extend(
            self.backups.get().map(|backups| statistics::of_backup(&backups.status())).into_iter().flatten(),
        );
        list
    }

    fn serve_backups(&self, surroundings: Surroundings) -> Result<(), StoreError> {
        let failed = |reason: String| StoreError::Failed { reason };
        let id = backup::store_id(self.get_blocking(&keys::store_identity())?);
        let taken = self.backup.lock().expect("no thread panics while it holds this").take();
        let backup = taken.ok_or_else(|| failed("backups are served already".to_owned()))?;
        let backups = Backups::serve(backup, id, Disk, surroundings);
        let backups = backups.map_err(|error| failed(format!("no thread for backups: {error}")))?;
        self.backups.set(backups).expect("it was taken once");
        Ok(())
    }

    fn backups(&self) -> Option<&Backups> {
        self.backups.get()
    }

    fn close(&self) {
        let threads =
            std::mem::take(&mut *self.threads.lock().expect("no thread panics while it holds this"));
        // A panicked thread has said so; there is nothing to add while closing.
        self.committer.close();
        let _ = threads.committer.map(JoinHandle::join);
        // Readers may still wait for what the applier does.
        self.backlog.close();
        let _ = threads.applier.map(JoinHandle::join);
        self.readers.iter().for_each(|reader| reader.close());
        self.keeper.close();
        for thread in threads.readers.into_iter().chain(threads.keeper) {
            let _ = thread.join();
        }
        if let Some(backups) = self.backups.get() {
            backups.close();
        }
        self.keeper.let_all_go(self.backlog.newest());
    }
}

/// The engine's threads.
#[derive(Default)]
struct Threads {
    committer: Option<JoinHandle<()>>,
    applier: Option<JoinHandle<()>>,
    readers: Vec<JoinHandle<()>>,
    keeper: Vec<JoinHandle<()>>,
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}
