//! The embedded engine: fjall behind one committer thread and a few reader threads.
//!
//! Invariants: one group of batches is one write of the log and one sync, and is completed only after both; it goes into
//! the tables after that, so what a reader sees has been synced, and a read sees all that had completed before it was
//! asked for; a segment of the log goes when the tables are durable up to its end; no core ever waits for the disk or for
//! fjall. Ports talk to the threads through wait-free rings.

mod applier;
mod committer;
mod log;
mod parker;
mod port;
mod reader;
mod statistics;
mod tail;
mod watermark;
mod window;

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use prost::Message as _;

use self::applier::{Applier, Backlog};
use self::committer::Committer;
use self::log::{Log, Replay};
use self::parker::Parker;
use self::port::{EmbeddedPort, blocking_port};
use self::reader::Reader;
use self::statistics::Statistics;
use self::watermark::Watermark;
use crate::batch::{Batch, Fence};
use crate::engine::{Completion, Engine, Port, StoreError, Wake};
use crate::keys::{self, Key};
use crate::records::NumberRecord;
use crate::slots::{Epoch, SLOTS, Slot};

/// The layout of keys and records that this code reads and writes. docs/STORAGE.md has the table of versions.
pub const LAYOUT: u64 = 2;

/// Older layouts that are read: 1 had no log, and is one with an empty log.
const LAYOUT_MIN: u64 = 1;

/// fjall's directory within the store's.
const DATABASE: &str = "fjall";

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
        /// What was found.
        reason: String,
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
            Self::Damaged { path, reason } => {
                write!(f, "the store in {} is damaged ({reason}): restore it from a backup", path.display())
            }
            Self::Layout { path, found } => write!(
                f,
                "the store in {} has layout {found}, this ternd reads layouts up to {LAYOUT}: use the version that wrote it",
                path.display()
            ),
            Self::Io { path, error } => write!(f, "the store in {} can't be opened: {error}", path.display()),
        }
    }
}

impl std::error::Error for OpenError {}

/// Fjall's handles. Entries, which are many and large and written once, lie apart from the rows.
#[derive(Clone)]
struct Tables {
    database: Database,
    entries: Keyspace,
    rows: Keyspace,
}

impl Tables {
    fn of(&self, key: &[u8]) -> &Keyspace {
        if key.first() == Some(&b'e') { &self.entries } else { &self.rows }
    }
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
        fs::create_dir_all(path).map_err(io)?;
        // That the store is there must survive a power cut as well.
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(io)?;
        }
        let lock = lock(path)?;
        let (watermark, acknowledged) = Watermark::open(path).map_err(io)?;
        let (tables, groups) = recover(path, &options, acknowledged)?;
        let epochs = read_epochs(&tables).map_err(|error| open_error(path, error))?;
        let log = Log::begin(&path.join(LOG), groups + 1).map_err(io)?;

        let statistics = Arc::new(Statistics::default());
        let backlog = Arc::new(Backlog::new(groups));
        let mut threads = Threads::default();
        let applier = Applier {
            tables: tables.clone(),
            backlog: backlog.clone(),
            log: path.join(LOG),
            oldest: groups + 1,
            prepared: 0,
        };
        threads.applier = Some(applier.spawn().map_err(io)?);
        let committer = Arc::new(Parker::default());
        let state = Committer::new(
            (log, backlog.clone()),
            options.clone(),
            path,
            epochs,
            (watermark, groups),
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
        reader::get(&self.tables, key)
    }

    fn commit_blocking(&self, batch: Batch) -> Result<(), StoreError> {
        self.submit_blocking(batch, None)
    }

    fn raise_epoch(&self, slot: Slot, epoch: Epoch) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.put(keys::epoch(slot), NumberRecord { number: epoch.0 }.encode_to_vec());
        self.submit_blocking(batch, Some((slot, epoch)))
    }

    fn statistics(&self) -> Vec<(&'static str, u64)> {
        self.statistics.pairs()
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
        for thread in threads.readers {
            let _ = thread.join();
        }
    }
}

/// The engine's threads.
#[derive(Default)]
struct Threads {
    committer: Option<JoinHandle<()>>,
    applier: Option<JoinHandle<()>>,
    readers: Vec<JoinHandle<()>>,
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
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(file).map_err(io)?;
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

/// Opens the tables, and brings what the log holds into them, durably. Gives them with the number of the newest group.
fn recover(path: &Path, options: &EmbeddedOptions, acknowledged: u64) -> Result<(Tables, u64), OpenError> {
    let io = |error| OpenError::Io { path: path.to_owned(), error };
    let damaged = |reason: String| OpenError::Damaged { path: path.to_owned(), reason };
    let mut replay = Replay::open(&path.join(LOG)).map_err(io)?;
    // What is before the log was durable in the tables before its segments were let go.
    let needed = replay.first().map_or(acknowledged, |first| first - 1);
    let has_log = replay.first().is_some();
    if let Some(missing) = tail::cut_torn_write(&path.join(DATABASE), needed, has_log).map_err(io)? {
        return Err(groups_missing(path, missing));
    }
    let tables = open_tables(path, options)?;
    check_layout(path, &tables)?;
    let applied = read_groups(path, &tables)?;
    if applied < needed {
        return Err(groups_missing(path, needed - applied));
    }
    // Nothing is written before it is known that nothing is missing.
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::InvalidData => damaged(error.to_string()),
        _ => io(error),
    };
    while replay.next_group().map_err(unreadable)?.is_some() {}
    let newest = replay.last().unwrap_or(applied);
    let promised = acknowledged.max(applied).max(replay.promised().unwrap_or(0));
    if newest < promised {
        return Err(groups_missing(path, promised - newest));
    }
    // All of it: of what is in the tables and not yet durable, some may be gone, and writing it again does no harm.
    let mut replay = Replay::open(&path.join(LOG)).map_err(io)?;
    while let Some((number, ops)) = replay.next_group().map_err(unreadable)? {
        let number = number.max(applied);
        applier::write(&tables, ops.into_iter(), number).map_err(|error| open_error(path, error))?;
    }
    tables.database.persist(fjall::PersistMode::SyncAll).map_err(|error| open_error(path, error))?;
    log::release_all(&path.join(LOG)).map_err(|error| damaged(error.to_string()))?;
    Ok((tables, newest))
}

fn open_tables(path: &Path, options: &EmbeddedOptions) -> Result<Tables, OpenError> {
    let open = || {
        // fjall 3 can stall with a single worker, so it gets two.
        let builder =
            Database::builder(path.join(DATABASE)).cache_size(options.cache_bytes).worker_threads(2);
        let database = builder.open()?;
        let entries = database.keyspace("entries", KeyspaceCreateOptions::default)?;
        let rows = database.keyspace("rows", KeyspaceCreateOptions::default)?;
        Ok(Tables { database, entries, rows })
    };
    // fjall asserts some of what it reads.
    match catch_unwind(open) {
        Ok(opened) => opened.map_err(|error| open_error(path, error)),
        Err(_) => {
            let reason = "its files contradict themselves".to_owned();
            Err(OpenError::Damaged { path: path.to_owned(), reason })
        }
    }
}

fn open_error(path: &Path, error: fjall::Error) -> OpenError {
    match error {
        fjall::Error::Io(error) => OpenError::Io { path: path.to_owned(), error },
        fjall::Error::Locked => OpenError::InUse { path: path.to_owned(), pid: None },
        error => OpenError::Damaged { path: path.to_owned(), reason: error.to_string() },
    }
}

fn check_layout(path: &Path, tables: &Tables) -> Result<(), OpenError> {
    let damaged = |reason: String| OpenError::Damaged { path: path.to_owned(), reason };
    let key = keys::meta("layout");
    let stored = reader::get(tables, &key).map_err(|error| damaged(error.to_string()))?;
    let Some(stored) = stored else { return write_layout(path, tables) };
    let found = NumberRecord::decode(stored).map_err(|_| damaged("the layout's record".to_owned()))?.number;
    match found {
        LAYOUT => Ok(()),
        LAYOUT_MIN..LAYOUT => write_layout(path, tables),
        _ => Err(OpenError::Layout { path: path.to_owned(), found }),
    }
}

fn write_layout(path: &Path, tables: &Tables) -> Result<(), OpenError> {
    let mut batch = tables.database.batch().durability(Some(fjall::PersistMode::SyncAll));
    let record = NumberRecord { number: LAYOUT };
    batch.insert(&tables.rows, keys::meta("layout").as_ref(), record.encode_to_vec());
    batch.commit().map_err(|error| open_error(path, error))
}

/// The number of the newest group.
fn read_groups(path: &Path, tables: &Tables) -> Result<u64, OpenError> {
    let damaged = |reason: String| OpenError::Damaged { path: path.to_owned(), reason };
    let stored = reader::get(tables, &keys::meta("groups")).map_err(|error| damaged(error.to_string()))?;
    let record = stored.map_or(Ok(NumberRecord::default()), NumberRecord::decode);
    Ok(record.map_err(|_| damaged("the groups' record".to_owned()))?.number)
}

fn groups_missing(path: &Path, missing: u64) -> OpenError {
    let reason = format!("the newest {missing} groups that were acknowledged are missing from its log");
    OpenError::Damaged { path: path.to_owned(), reason }
}

fn read_epochs(tables: &Tables) -> fjall::Result<Vec<Epoch>> {
    let mut epochs = vec![Epoch::default(); usize::from(SLOTS)];
    for row in tables.rows.prefix(b"s") {
        let (key, value) = row.into_inner()?;
        let slot = Key::from_raw(&key).slot();
        if let (Some(slot), Ok(record)) = (slot, NumberRecord::decode(&value[..])) {
            epochs[usize::from(slot.number())] = Epoch(record.number);
        }
    }
    Ok(epochs)
}
