//! The embedded engine: a log, tables behind it, and the threads that serve both.
//!
//! Invariants: one group of batches is one write of the log and one sync, and is completed only after both; it goes into
//! the tables after that, so what a reader sees has been synced, and a read sees all that had completed before it was
//! asked for; a segment of the log goes when all that it holds is in flushed tables, which the manifest names; no core
//! ever waits for the disk or for the tables. Ports talk to the threads through wait-free rings.

mod applier;
pub mod check;
mod committer;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod keeper;
mod log;
mod manifest;
mod parker;
mod port;
mod reader;
mod recovery;
mod statistics;
mod tables;
mod watermark;
mod window;

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use self::applier::{Applier, Backlog};
use self::committer::Committer;
use self::keeper::Keeper;
use self::log::Log;
use self::parker::Parker;
use self::port::{EmbeddedPort, blocking_port};
use self::reader::Reader;
use self::recovery::Recovered;
use self::statistics::Statistics;
use self::tables::Tables;
use self::watermark::Watermark;
use crate::batch::{Batch, Fence};
use crate::engine::{Completion, Engine, Port, Statistic, StoreError, Wake};
use crate::keys::{self, Key};
use crate::records::NumberRecord;
use crate::slots::{Epoch, Slot};

/// The layout of keys and records that this code reads and writes. docs/STORAGE.md has the table of versions.
pub const LAYOUT: u64 = 3;

/// The log's directory within the store's.
const LOG: &str = "log";

/// Bounds of the engine.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// Bytes of keys and values in one group; its last batch may exceed it.
    pub group_bytes_max: usize,
    /// Commits of one port under way. Beyond: busy.
    pub commits_in_flight_max: usize,
    /// Reads of one port under way. Beyond: busy.
    pub reads_in_flight_max: usize,
    /// Bytes that the disk must have free: below, batches fail with [`StoreError::Full`].
    pub free_bytes_min: u64,
    /// Bytes of table blocks kept in memory.
    pub cache_bytes: u64,
    /// Bytes written to the tables' memory from which on it is flushed. Larger parts cost memory, and fewer merges.
    pub flush_bytes: u64,
    /// Bytes of a segment of the log, unless one group is longer.
    pub segment_bytes: u64,
    /// Threads that read.
    pub readers: usize,
    /// Within this, 99 of 100 batches are to be durable: what syncs leave of it is used to gather larger groups. Zero:
    /// every group is written at once.
    pub ack_p99: Duration,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            group_bytes_max: 8 << 20,
            commits_in_flight_max: 64,
            reads_in_flight_max: 1024,
            free_bytes_min: 256 << 20,
            cache_bytes: 256 << 20,
            flush_bytes: 64 << 20,
            segment_bytes: 32 << 20,
            readers: 2,
            ack_p99: Duration::ZERO,
        }
    }
}

/// Why a store could not be opened, by what the operator can do.
#[derive(Debug)]
pub enum OpenError {
    /// Another running process has it.
    InUse {
        /// The store's directory.
        path: PathBuf,
        /// The other process, if it has said.
        pid: Option<u32>,
    },
    /// Its files are not what was written.
    Damaged {
        /// The store's directory.
        path: PathBuf,
        /// What was found: the file, what is wrong with it, and what it covers.
        findings: Vec<String>,
    },
    /// A newer or unknown version wrote it.
    Layout {
        /// The store's directory.
        path: PathBuf,
        /// The layout found.
        found: u64,
    },
    /// The system refused.
    Io {
        /// The store's directory.
        path: PathBuf,
        /// What it said.
        error: std::io::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { path, pid: Some(pid) } => {
                write!(f, "{} belongs to another running ternd (pid {pid}): stop it first", path.display())
            }
            Self::InUse { path, pid: None } => {
                write!(f, "{} belongs to another running ternd: stop it first", path.display())
            }
            Self::Damaged { path, findings } => {
                let path = path.display();
                writeln!(f, "the store in {path} is damaged, and was left as it is:")?;
                findings.iter().try_for_each(|finding| writeln!(f, "  {finding}"))?;
                write!(
                    f,
                    "restore it from a backup; or `ternctl check {path}` says what is whole, and `ternctl check {path} \
                     --salvage NEW` writes that to a new store"
                )
            }
            Self::Layout { path, found } => write!(
                f,
                "the store in {} has layout {found}, this ternd reads layout {LAYOUT}: use the version that wrote it, or begin a new store",
                path.display()
            ),
            Self::Io { path, error } => {
                write!(
                    f,
                    "the store in {} can't be opened, and is not known to be damaged: ",
                    path.display()
                )?;
                let (what, remedy) = environment(error);
                write!(f, "{what} ({error}): {remedy}")
            }
        }
    }
}

impl std::error::Error for OpenError {}

/// What of the machine stands in the way, and what helps.
fn environment(error: &std::io::Error) -> (&'static str, &'static str) {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            ("the disk is full", "make room, then start again")
        }
        ErrorKind::PermissionDenied => {
            ("it is not permitted", "the files must belong to the user that ternd runs as")
        }
        ErrorKind::ReadOnlyFilesystem => ("the file system is read-only", "mount it for writing"),
        ErrorKind::OutOfMemory => ("there is no memory", "give it more, then start again"),
        _ if error.raw_os_error().is_some_and(is_descriptors) => {
            ("there are no file descriptors left", "raise the limit of open files (ulimit -n)")
        }
        _ => ("the disk or its driver failed", "check the disk, then start again"),
    }
}

fn is_descriptors(code: i32) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| errno.raw_os_error() == code)
}

/// The embedded engine.
pub struct Embedded {
    tables: Tables,
    options: EmbeddedOptions,
    committer: Arc<Parker<committer::Link>>,
    readers: Vec<Arc<Parker<reader::Link>>>,
    next_reader: AtomicUsize,
    statistics: Arc<Statistics>,
    backlog: Arc<Backlog>,
    keeper: Arc<Keeper>,
    log: PathBuf,
    threads: Mutex<Threads>,
    /// Held as long as the store is open.
    _lock: File,
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
        files::make_dir(path).map_err(io)?;
        let lock = lock(path)?;
        let (watermark, acknowledged) = Watermark::open(path).map_err(io)?;
        let Recovered { tables, newest, flushed, segments, epochs } =
            recovery::recover(path, &options, acknowledged)?;
        let log_path = path.join(LOG);
        let log = Log::open(&log_path, options.segment_bytes).map_err(io)?;

        let statistics = Arc::new(Statistics::default());
        statistics.opened(tables.file_bytes(), segments);
        let backlog = Arc::new(Backlog::new(newest));
        let keeper =
            Arc::new(Keeper::new(path, options.segment_bytes, tables.clone(), flushed, statistics.clone()));
        let mut threads = Threads { keeper: keeper.spawn().map_err(io)?.into(), ..Threads::default() };
        let applier = Applier {
            tables: tables.clone(),
            backlog: backlog.clone(),
            keeper: keeper.clone(),
            log: log_path.clone(),
            flush_bytes: options.flush_bytes,
            segment_bytes: options.segment_bytes,
            segment: 0,
            segments,
            prepared: 0,
        };
        threads.applier = Some(applier.spawn().map_err(io)?);
        let committer = Arc::new(Parker::default());
        let state = Committer::new(
            (log, backlog.clone()),
            options.clone(),
            path,
            epochs,
            (watermark, newest),
            statistics.clone(),
        );
        threads.committer = Some(parker::spawn("tern-commit", committer.clone(), state).map_err(io)?);
        let mut readers = Vec::new();
        for number in 0..options.readers.max(1) {
            let parker = Arc::new(Parker::default());
            let state = Reader::new(tables.clone(), backlog.clone(), statistics.clone());
            let name = format!("tern-read-{number}");
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
            log: log_path,
            threads: Mutex::new(threads),
            _lock: lock,
        })
    }

    fn submit_blocking(&self, batch: Batch, raise: Option<(Slot, Epoch)>) -> Result<(), StoreError> {
        let (mut port, waiter) = blocking_port(|wake| self.open_port(wake));
        let busy = StoreError::Failed { reason: "the store is closing".to_owned() };
        port.submit_raising(batch, Fence::default(), raise).map_err(|_| busy.clone())?;
        let mut completions = Vec::new();
        loop {
            port.poll(&mut completions);
            match completions.pop() {
                Some(Completion::Committed(_)) => return Ok(()),
                Some(Completion::CommitFailed { error, .. }) => return Err(error),
                Some(Completion::Value { .. } | Completion::Rows { .. }) => unreachable!("nothing was read"),
                None if self.committer.is_closed() => return Err(busy),
                None => waiter.wait(),
            }
        }
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
        let mut batch = Batch::default();
        batch.put(keys::epoch(slot), NumberRecord { number: epoch.0 }.encode_to_vec());
        self.submit_blocking(batch, Some((slot, epoch)))
    }

    fn statistics(&self) -> Vec<Statistic> {
        self.statistics.list(self.backlog.bytes() as u64)
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
        if self.keeper.failed().is_none() && self.keeper.flushed() == self.backlog.newest() {
            // What can't be let go now is let go after the next opening.
            let _ = log::release_all(&self.log, self.options.segment_bytes);
        }
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

/// Takes the directory's lock, and writes this process's number into it for the next one to name.
fn lock(path: &Path) -> Result<File, OpenError> {
    let io = |error| OpenError::Io { path: path.to_owned(), error };
    let file = path.join("lock");
    let mut lock =
        files::options().read(true).write(true).create(true).truncate(false).open(file).map_err(io)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = lock.read_to_string(&mut text);
            return Err(OpenError::InUse { path: path.to_owned(), pid: text.trim().parse().ok() });
        }
        Err(TryLockError::Error(error)) => return Err(io(error)),
    }
    lock.set_len(0).map_err(io)?;
    lock.rewind().map_err(io)?;
    write!(lock, "{}", std::process::id()).map_err(io)?;
    Ok(lock)
}
