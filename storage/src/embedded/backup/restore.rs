//! Making a store of a backup: a base's files are put in their places, and what the log holds beyond them is brought into the tables.
//!
//! The new store has no log, and knows none of its starts: whoever was ahead of it takes their positions anew (decision 13). A file in it
//! says that it is being made; until that is gone it is not opened.

use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::chain::{Backups, Chain};
use super::error::BackupError;
use super::format::{Kind, Reader};
use super::key::Keys;
use super::records::{BaseRecord, Item, StoredFile, file_path};
use crate::batch::{Op, all_ops};
use crate::embedded::manifest::{CURRENT, Manifest};
use crate::embedded::opening::lock;
use crate::embedded::tables::lsm::LsmTables;
use crate::embedded::tables::simulated::SimulatedTables;
use crate::embedded::tables::{PARTS, Tables, TablesError, tree_path};
use crate::embedded::{LAYOUT, RESTORING};
use crate::keys;
use crate::medium::{Disk, Medium, MediumFile as _, Opening, SimulatedMedium};
use crate::mutations::{self, Mutation};
use crate::records::forget_generations;

/// Bytes that are brought into the tables as one write, and from which on what was written is flushed.
const WRITE_BYTES: usize = 4 << 20;
const FLUSH_BYTES: u64 = 64 << 20;

const CACHE_BYTES: u64 = 64 << 20;

/// The point to which a store is restored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Point {
    /// All that the chain holds.
    Newest,
    /// Up to this group, and no further.
    Group(u64),
    /// Nothing later than this time, in ms since the Unix epoch.
    Time(u64),
}

/// What is restored, and where to.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// The backup's directory.
    pub from: PathBuf,
    /// The store's directory, which must not be there, or be empty.
    pub store: PathBuf,
    /// The point to which it is restored.
    pub point: Point,
    /// Which chain; `None`: the newest.
    pub chain: Option<u32>,
    /// The keys that there are.
    pub keys: Keys,
    /// Bytes that the disk must have free afterwards.
    pub free_bytes_min: u64,
}

/// How far it has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Files of the tables that are there, and how many there are.
    pub files: (usize, usize),
    /// Bytes of them.
    pub bytes: (u64, u64),
    /// Groups of the log that are in the tables, and how many there are.
    pub groups: (u64, u64),
}

/// What was restored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Restored {
    /// Of which chain and base.
    pub chain: u32,
    /// See `chain`.
    pub base: u32,
    /// The newest group of the new store.
    pub group: u64,
    /// What was durable at this time is in it, in ms since the Unix epoch; 0 if nobody knows.
    pub time_ms: u64,
    /// Bytes of files, and groups of the log.
    pub bytes: u64,
    /// See `bytes`.
    pub groups: u64,
}

/// Restores a store onto this machine's disk.
///
/// # Errors
/// If the backup can't be read or is damaged, if it has no such point, and if there is no room. What was begun in the store's directory
/// is not opened then.
pub fn restore(
    options: &RestoreOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Restored, BackupError> {
    restore_to::<LsmTables>(&Disk, &Disk, options, progress)
}

/// The same, between simulated media.
pub fn restore_simulated(
    from: &SimulatedMedium,
    to: &SimulatedMedium,
    options: &RestoreOptions,
) -> Result<Restored, BackupError> {
    restore_to::<SimulatedTables>(from, to, options, &mut |_| {})
}

/// What is to be done.
struct Plan {
    base: BaseRecord,
    /// The newest group of the new store.
    to: u64,
    time_ms: u64,
}

fn restore_to<T: Tables>(
    from: &T::Medium,
    to: &T::Medium,
    options: &RestoreOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Restored, BackupError> {
    let store = &options.store;
    let io = |error| BackupError::io(store, error);
    if !to.list(store).map_err(io)?.is_empty() {
        let why =
            format!("{} is not empty: a restore makes a new store, and touches no other", store.display());
        return Err(BackupError::Refused(why));
    }
    let backups = Backups::open(from, &options.from, &options.keys)?;
    let chain = find_chain(&backups, options.chain)?;
    let plan = plan(&chain, options.point)?;
    to.make_dir(store).map_err(io)?;
    has_room(to, options, &chain, &plan)?;
    let _lock = lock(to, store).map_err(|error| BackupError::Refused(error.to_string()))?;
    write(to, &store.join(RESTORING), b"a restore into this store has not come to its end\n").map_err(io)?;
    to.sync_dir(store).map_err(io)?;
    let restored = fill::<T>((from, &chain), to, store, &plan, progress)?;
    to.remove(&store.join(RESTORING)).map_err(io)?;
    to.sync_dir(store).map_err(io)?;
    Ok(restored)
}

fn find_chain<'a, M: Medium>(
    backups: &'a Backups<'a, M>,
    chain: Option<u32>,
) -> Result<Chain<'a, M>, BackupError> {
    if let Some(number) = chain {
        return backups.chain(number);
    }
    // The newest may have been begun and have no base yet.
    let chains = backups.chains()?;
    let mut newest = None;
    for number in chains.into_iter().rev() {
        match backups.chain(number) {
            Ok(chain) if !chain.base_numbers(false)?.is_empty() => return Ok(chain),
            Ok(_) => {}
            Err(BackupError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => newest = newest.or(Some(error)),
        }
        if let Some(error) = newest {
            return Err(error);
        }
    }
    let why =
        format!("{} has no base that is complete yet: there is nothing to restore", backups.dir.display());
    Err(BackupError::Refused(why))
}

/// Which base serves, and up to which group.
fn plan<M: Medium>(chain: &Chain<'_, M>, point: Point) -> Result<Plan, BackupError> {
    let mut bases = chain.base_numbers(false)?.into_iter().map(|number| chain.base(number));
    let bases = bases.by_ref().collect::<Result<Vec<_>, _>>()?;
    let head = &chain.head;
    let Some(first) = bases.iter().map(|base| base.whole_at).min() else {
        let why = format!("chain {} has no base that is complete", head.chain);
        return Err(BackupError::Refused(why));
    };
    let range = format!("chain {} holds the groups {first} to {}", head.chain, head.last);
    let (to, time_ms) = match point {
        Point::Newest => (head.last, head.covers_ms),
        Point::Group(group) => (group, 0),
        Point::Time(time_ms) if time_ms > head.covers_ms => {
            let why =
                format!("that is later than what it holds: all up to {} (ms since 1970)", head.covers_ms);
            return Err(BackupError::Refused(why));
        }
        Point::Time(time_ms) => (group_at(chain, &bases, time_ms)?, time_ms),
    };
    let serves = |base: &BaseRecord| base.whole_at <= to || mutations::is(Mutation::TrustWholeAt);
    let base = bases.into_iter().rev().find(|base| serves(base) && base.flushed <= to);
    match base.filter(|_| to <= head.last) {
        Some(base) if base.layout == LAYOUT => Ok(Plan { base, to, time_ms }),
        Some(base) => Err(BackupError::Refused(format!(
            "the backup is of a store of layout {}, this ternd reads layout {LAYOUT}: use the version that wrote it",
            base.layout
        ))),
        None => Err(BackupError::Refused(format!("group {to} can't be restored: {range}"))),
    }
}

/// The newest group that was durable at a time.
fn group_at<M: Medium>(chain: &Chain<'_, M>, bases: &[BaseRecord], time_ms: u64) -> Result<u64, BackupError> {
    let from = bases.iter().map(|base| base.flushed + 1).min().unwrap_or(chain.head.first);
    let mut found = None;
    chain.read(from, |item| {
        if let Item::Time { group, time_ms: at } = item {
            if at > time_ms {
                return Ok(false);
            }
            found = found.max(Some(group));
        }
        Ok(true)
    })?;
    // Nothing was written between a base's beginning and then.
    let base = bases.iter().filter(|base| base.time_ms <= time_ms).map(|base| base.flushed).max();
    found.max(base).ok_or_else(|| BackupError::Refused("that is earlier than all that it holds".to_owned()))
}

fn has_room<M: Medium>(
    to: &M,
    options: &RestoreOptions,
    chain: &Chain<'_, impl Medium>,
    plan: &Plan,
) -> Result<(), BackupError> {
    let log_bytes = chain.head.log_bytes.saturating_sub(plan.base.log_bytes);
    let needs = plan.base.bytes().saturating_add(log_bytes).saturating_add(options.free_bytes_min);
    let free = to.free_bytes(&options.store).map_err(|error| BackupError::io(&options.store, error))?;
    if free >= needs {
        return Ok(());
    }
    let why = format!("{} has {free} bytes free of the {needs} that it takes", options.store.display());
    Err(BackupError::Refused(why))
}

fn write<M: Medium>(medium: &M, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = medium.open(path, Opening::Emptied)?;
    file.write_all_at(bytes, 0)?;
    file.sync_all()
}

fn fill<T: Tables>(
    (from, chain): (&T::Medium, &Chain<'_, T::Medium>),
    to: &T::Medium,
    store: &Path,
    plan: &Plan,
    progress: &mut dyn FnMut(Progress),
) -> Result<Restored, BackupError> {
    let io = |error| BackupError::io(store, error);
    let base = &plan.base;
    let mut shown = Progress {
        files: (0, base.files().count()),
        bytes: (0, base.bytes()),
        groups: (0, plan.to - base.flushed),
    };
    for tree in &base.trees {
        let dir = tree_path(store, &tree.name);
        PARTS.iter().try_for_each(|part| to.make_dir(&dir.join(part))).map_err(io)?;
        for file in &tree.files {
            copy((from, chain), file, (to, &dir.join(&file.path)))?;
            (shown.files.0, shown.bytes.0) = (shown.files.0 + 1, shown.bytes.0 + file.bytes);
            progress(shown);
        }
        write(to, &dir.join(format!("v{}", tree.version)), &tree.version_file).map_err(io)?;
        write(to, &dir.join(CURRENT), &tree.current).map_err(io)?;
        let parts = PARTS.iter().map(|part| dir.join(part)).chain([dir.clone()]);
        parts.map(|dir| to.sync_dir(&dir)).collect::<io::Result<Vec<_>>>().map_err(io)?;
    }
    let tables = T::open(to, store, CACHE_BYTES).map_err(|error| of_tables(store, &error))?;
    replay(chain, &tables, store, plan, |groups| {
        shown.groups.0 = groups;
        progress(shown);
    })?;
    forget(&tables, store)?;
    tables.seal();
    tables.flush().map_err(|error| of_tables(store, &error))?;
    Manifest::of(LAYOUT, plan.to, &tables).and_then(|manifest| manifest.write(to, store)).map_err(io)?;
    Ok(Restored {
        chain: base.chain,
        base: base.number,
        group: plan.to,
        time_ms: plan.time_ms,
        bytes: shown.bytes.1,
        groups: shown.groups.1,
    })
}

/// Puts a file of the trees in its place, if it is what it was.
fn copy<M: Medium>(
    (from, chain): (&M, &Chain<'_, M>),
    file: &StoredFile,
    (to, path): (&M, &Path),
) -> Result<(), BackupError> {
    let io = |error| BackupError::io(path, error);
    let written = to.open(path, Opening::Emptied).map_err(io)?;
    let mut at = 0;
    read_file(from, chain, file, |chunk| {
        written.write_all_at(chunk, at).map_err(io)?;
        at += chunk.len() as u64;
        Ok(())
    })?;
    written.sync_all().map_err(io)
}

/// Reads a file of the trees from a chain, chunk by chunk; fails at the end if it is not what it was.
pub(super) fn read_file<M: Medium>(
    from: &M,
    chain: &Chain<'_, M>,
    file: &StoredFile,
    mut each: impl FnMut(&[u8]) -> Result<(), BackupError>,
) -> Result<(), BackupError> {
    let path = file_path(&chain.dir, &file.salt);
    let mut reader = Reader::open(from, &path, Kind::Table, Some(chain.backup()), chain.keys())?;
    reader.is_named(&file.salt, chain.key_id)?;
    let (mut chunk, mut sum, mut bytes) = (Vec::new(), Xxh3::new(), 0);
    loop {
        let is_last = reader.next(&mut chunk)?;
        sum.update(&chunk);
        bytes += chunk.len() as u64;
        each(&chunk)?;
        if is_last {
            break;
        }
    }
    let is_it = (bytes, reader.chunks()) == (file.bytes, file.chunks);
    if is_it && sum.digest128().to_be_bytes()[..] == file.checksum {
        return Ok(());
    }
    Err(BackupError::damaged(&path, format!("it is not {} ({})", file.path, file.covers)))
}

/// Brings what the log holds beyond the base into the tables.
fn replay<T: Tables>(
    chain: &Chain<'_, T::Medium>,
    tables: &T,
    store: &Path,
    plan: &Plan,
    mut shown: impl FnMut(u64),
) -> Result<(), BackupError> {
    let from = plan.base.flushed + 1;
    let to = plan.to - u64::from(mutations::is(Mutation::RestoreSkipsTail) && plan.to >= from);
    let (mut payloads, mut bytes) = (Vec::new(), 0);
    let put = |payloads: &mut Vec<Vec<u8>>| {
        let ops: Option<Vec<Vec<Op<'_>>>> = payloads.iter().map(|payload| all_ops(payload)).collect();
        let ops = ops.ok_or_else(|| BackupError::damaged(&chain.dir, "a group of its log can't be read"))?;
        tables.write(ops.into_iter().flatten());
        payloads.clear();
        if tables.open_bytes() >= FLUSH_BYTES {
            flush(tables).map_err(|error| of_tables(store, &error))?;
        }
        Ok(())
    };
    chain.read(from, |item| {
        let Item::Group { number, payload } = item else { return Ok(true) };
        if number > to {
            return Ok(false);
        }
        bytes += payload.len();
        payloads.push(payload);
        if bytes >= WRITE_BYTES {
            put(&mut payloads)?;
            (bytes, _) = (0, shown(number - from + 1));
        }
        Ok(number < to)
    })?;
    put(&mut payloads)
}

fn flush<T: Tables>(tables: &T) -> Result<(), TablesError> {
    tables.seal();
    tables.flush()?;
    while tables.is_behind() && tables.compact()? {}
    Ok(())
}

/// The new store knows none of the starts of the old one, nor its keys of tickets: those of a backup seal nothing more.
fn forget<T: Tables>(tables: &T, store: &Path) -> Result<(), BackupError> {
    let (identity, tickets) = (keys::store_identity(), keys::ticket_keys());
    let read = |key| tables.get(key).map_err(|error| BackupError::damaged(store, error.to_string()));
    let record = read(&identity)?.and_then(|value| forget_generations(&value));
    let kept = record.as_ref().filter(|_| !mutations::is(Mutation::KeepGenerations));
    let identity = kept.map(|record| (identity.as_ref(), Some(&record[..])));
    let tickets = read(&tickets)?.map(|_| (tickets.as_ref().to_vec(), None::<Vec<u8>>));
    let tickets = tickets.as_ref().map(|(key, _)| (&key[..], None));
    tables.write(identity.into_iter().chain(tickets));
    Ok(())
}

fn of_tables(store: &Path, error: &TablesError) -> BackupError {
    BackupError::damaged(store, format!("its tables, as they were restored: {error}"))
}
