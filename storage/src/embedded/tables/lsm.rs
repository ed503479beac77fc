//! The product's tables: two log-structured merge trees (lsm-tree) without a journal, whose files they open themselves.
//!
//! A read sees whole writes only, for it reads at the number of the newest whole one. Entries lie apart from the rows, and
//! their values apart from their keys: they are many, large and written once, so that no compaction copies them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use lsm_tree::compaction::Leveled;
use lsm_tree::config::PinningPolicy;
use lsm_tree::{
    AbstractTree as _, AnyTree, Cache, Config, DescriptorTable, Guard as _, KvSeparationOptions,
    SequenceNumberCounter,
};

use xxhash_rust::xxh3::xxh3_128;

use super::super::manifest::{CURRENT, FileManifest, TreeManifest, decode_current};
use super::{Pin, PinnedTree, TREES, Tables, TablesError, tree_of, tree_path, version_of};
use crate::batch::Op;
use crate::engine::{Direction, Rows, ScanLimit, StoreError};
use crate::keys::{self, Key, KeyRange};
use crate::medium::{Disk, Medium as _};

/// Values of entries from this length on lie apart from their keys. Below, the pointer costs as much as it saves.
const APART_BYTES_MIN: u32 = 96;

/// Bytes of one file of values.
const VALUE_FILE_BYTES: u64 = 64 << 20;

/// Bytes of one table, but for those just flushed.
const TABLE_BYTES: u64 = 16 << 20;

/// Flushed tables that gather before they are merged with what is below. More cost reads, fewer cost writes: with 16 merging
/// takes two thirds of the CPU time that it takes with 8, and pages of history, of which each may be read in all of
/// them, cost the same within the noise.
const GATHERED_RUNS: u8 = 16;

/// Flushed tables beyond which the writer waits for compaction: reads would become slow.
const RUNS_MAX: usize = 2 * GATHERED_RUNS as usize;

/// How often a tree's files are looked at that are just being changed. Beyond, nobody changes them: a change has failed.
const LOOKS_MAX: usize = 1000;

/// Files kept open for reading; others are opened when they are read.
const FILES_OPEN_MAX: usize = 256;

/// See the module.
#[derive(Clone)]
pub(in super::super) struct LsmTables {
    store: Arc<Path>,
    trees: [AnyTree; 2],
    /// The next write's number, and the one below which all writes are whole. They are the trees' own, and say nothing
    /// of groups.
    next: SequenceNumberCounter,
    visible: SequenceNumberCounter,
    snapshots: Arc<Snapshots>,
}

/// The numbers at which is being read. What such a read may need is not let go.
#[derive(Default)]
struct Snapshots(Mutex<BTreeMap<u64, usize>>);

impl Snapshots {
    fn open(&self, visible: &SequenceNumberCounter) -> Snapshot<'_> {
        let mut open = self.0.lock().expect("no thread panics while it holds this");
        // Under the lock, so that `oldest` never gives a number above one that is about to be opened.
        let at = visible.get();
        *open.entry(at).or_default() += 1;
        Snapshot { snapshots: self, at }
    }

    fn oldest(&self, visible: &SequenceNumberCounter) -> u64 {
        let open = self.0.lock().expect("no thread panics while it holds this");
        open.first_key_value().map_or_else(|| visible.get(), |(at, _)| *at)
    }
}

struct Snapshot<'a> {
    snapshots: &'a Snapshots,
    at: u64,
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        let mut open = self.snapshots.0.lock().expect("no thread panics while it holds this");
        if let Some(count) = open.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.at);
            }
        }
    }
}

impl LsmTables {
    fn open_trees(store: &Path, cache_bytes: u64) -> lsm_tree::Result<Self> {
        let (next, visible) = (SequenceNumberCounter::default(), SequenceNumberCounter::default());
        let cache = Arc::new(Cache::with_capacity_bytes(cache_bytes));
        let files = Arc::new(DescriptorTable::new(FILES_OPEN_MAX));
        let open = |name: &str, apart: Option<KvSeparationOptions>| {
            Config::new(tree_path(store, name), next.clone(), visible.clone())
                .use_cache(cache.clone())
                .use_descriptor_table(Some(files.clone()))
                // What is pinned grows with the store; what is read often stays in the cache anyway.
                .index_block_pinning_policy(PinningPolicy::new([true, false]))
                .filter_block_pinning_policy(PinningPolicy::new([true, false]))
                .with_kv_separation(apart)
                .open()
        };
        let apart = KvSeparationOptions::default()
            .separation_threshold(APART_BYTES_MIN)
            .file_target_size(VALUE_FILE_BYTES);
        let trees = [open(TREES[0], Some(apart))?, open(TREES[1], None)?];
        let newest = trees.iter().filter_map(|tree| tree.get_highest_seqno()).max();
        let first = newest.map_or(1, |newest| newest + 1);
        next.set(first);
        visible.set(first);
        let store = store.into();
        Ok(Self { store, trees, next, visible, snapshots: Arc::default() })
    }

    fn of(&self, key: &[u8]) -> &AnyTree {
        &self.trees[tree_of(key)]
    }

    fn oldest(&self) -> u64 {
        self.snapshots.oldest(&self.visible)
    }

    fn scan_at(
        &self,
        range: &KeyRange,
        direction: Direction,
        limit: ScanLimit,
        at: u64,
    ) -> lsm_tree::Result<Rows> {
        let (start, end) = (range.start.as_ref(), range.end.as_ref());
        let mut iter = self.of(start).range(start..end, at, None);
        let mut rows = Rows::default();
        let mut bytes = 0;
        loop {
            let next = match direction {
                Direction::Forwards => iter.next(),
                Direction::Backwards => iter.next_back(),
            };
            let Some(next) = next else { return Ok(rows) };
            if rows.rows.len() >= limit.rows || bytes >= limit.bytes {
                rows.more = true;
                return Ok(rows);
            }
            let (key, value) = next.into_inner()?;
            bytes += key.len() + value.len();
            rows.rows.push((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)));
        }
    }
}

impl Tables for LsmTables {
    type Medium = Disk;

    fn open(_disk: &Disk, store: &Path, cache_bytes: u64) -> Result<Self, TablesError> {
        // The trees assert some of what they read.
        match catch_unwind(AssertUnwindSafe(|| Self::open_trees(store, cache_bytes))) {
            Ok(opened) => Ok(opened?),
            Err(_) => Err(TablesError::Damaged("its files contradict themselves".to_owned())),
        }
    }

    fn write<'a>(&self, ops: impl Iterator<Item = Op<'a>>) {
        // Of a key that is written again and again, the last write is enough; neighbours together find their place sooner.
        let mut ops: Vec<_> = ops.collect();
        ops.reverse();
        ops.sort_by_key(|(key, _)| *key);
        ops.dedup_by_key(|(key, _)| *key);
        let number = self.next.next();
        for (key, value) in ops {
            match value {
                Some(value) => self.of(key).insert(key, value, number),
                None => self.of(key).remove(key, number),
            };
        }
        self.visible.fetch_max(number + 1);
    }

    fn open_bytes(&self) -> u64 {
        self.trees.iter().map(|tree| tree.active_memtable().size()).sum()
    }

    fn seal(&self) {
        for tree in &self.trees {
            let _ = tree.rotate_memtable();
        }
    }

    fn flush(&self) -> Result<(), TablesError> {
        for tree in &self.trees {
            let lock = tree.get_flush_lock();
            tree.flush(&lock, self.oldest())?;
        }
        Ok(())
    }

    fn compact(&self) -> Result<bool, TablesError> {
        let strategy =
            Leveled::default().with_l0_threshold(GATHERED_RUNS).with_table_target_size(TABLE_BYTES);
        let strategy = Arc::new(strategy);
        let mut any = false;
        for tree in &self.trees {
            let before = tree.current_version().id();
            tree.compact(strategy.clone(), self.oldest())?;
            any |= tree.current_version().id() != before;
        }
        Ok(any)
    }

    fn is_settled(&self) -> bool {
        TREES.into_iter().zip(&self.trees).all(|(name, tree)| {
            // The other of the keeper's threads may go on to the next version meanwhile.
            let before = tree.current_version().id();
            let named = version_of(&Disk, &tree_path(&self.store, name));
            named.is_some_and(|named| named == before || named == tree.current_version().id())
        })
    }

    fn is_behind(&self) -> bool {
        self.trees.iter().any(|tree| tree.l0_run_count() > RUNS_MAX)
    }

    fn file_bytes(&self) -> u64 {
        let bytes = |tree: &AnyTree| tree.disk_space() + tree.current_version().blob_files.on_disk_size();
        self.trees.iter().map(bytes).sum()
    }

    fn pin(&self) -> io::Result<Vec<PinnedTree>> {
        let trees = TREES.into_iter().zip(&self.trees);
        trees.map(|(name, tree)| pin_tree(&tree_path(&self.store, name), name, tree)).collect()
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        let snapshot = self.snapshots.open(&self.visible);
        let read = || self.of(key.as_ref()).get(key, snapshot.at);
        let value = guarded(key.as_ref(), read)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, range: &KeyRange, direction: Direction, limit: ScanLimit) -> Result<Rows, StoreError> {
        let snapshot = self.snapshots.open(&self.visible);
        guarded(range.start.as_ref(), || self.scan_at(range, direction, limit, snapshot.at))
    }
}

/// What a read gives. The trees assert some of what they read, so that damage can be a panic; no lock is held then.
fn guarded<T>(key: &[u8], read: impl FnOnce() -> lsm_tree::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result.map_err(|error| read_error(key, error)),
        Err(_) => Err(StoreError::Corrupt { place: keys::describe(key) }),
    }
}

fn read_error(key: &[u8], error: lsm_tree::Error) -> StoreError {
    let place = keys::describe(key);
    match error {
        lsm_tree::Error::Io(error) if super::is_damage(error.kind()) => {
            StoreError::Corrupt { place: format!("{place}: {error}") }
        }
        lsm_tree::Error::Io(error) => StoreError::Unreachable { reason: format!("{place}: {error}") },
        error => StoreError::Corrupt { place: format!("{place}: {}", reason(&error)) },
    }
}

/// A tree's error in words.
pub(in super::super) fn reason(error: &lsm_tree::Error) -> String {
    match error {
        lsm_tree::Error::Io(error) => error.to_string(),
        lsm_tree::Error::ChecksumMismatch { .. } => "its checksum does not match".to_owned(),
        lsm_tree::Error::Unrecoverable => "its files contradict each other".to_owned(),
        lsm_tree::Error::InvalidHeader(what) => format!("the head of a {what} is not one"),
        error => format!("{error:?}"),
    }
}

impl From<lsm_tree::Error> for TablesError {
    fn from(error: lsm_tree::Error) -> Self {
        match error {
            lsm_tree::Error::Io(error) => Self::Io(error),
            error => Self::Damaged(reason(&error)),
        }
    }
}

/// What a tree's files are now. The tree removes a file that was merged when nobody has a handle of it any more.
fn pin_tree(path: &Path, name: &str, tree: &AnyTree) -> io::Result<PinnedTree> {
    for _ in 0..LOOKS_MAX {
        let version = tree.current_version();
        let current = fs::read(path.join(CURRENT))?;
        let version_file = Disk.read_if_there(&path.join(format!("v{}", version.id())))?.unwrap_or_default();
        if decode_current(&current) != Some((version.id(), xxh3_128(&version_file))) {
            // Tables were merged meanwhile: look again, which finds the newer version.
            continue;
        }
        let tables = version.iter_tables().map(|table| {
            let range = &table.metadata.key_range;
            let covers = format!(
                "{} rows from {} to {}",
                table.metadata.item_count,
                keys::describe(range.min()),
                keys::describe(range.max()),
            );
            file_manifest(path, format!("tables/{}", table.id()), table.checksum().into_u128(), covers)
        });
        let values = version.blob_files.iter().map(|file| {
            let covers = format!("the values of {} rows of table e", file.len());
            file_manifest(path, format!("blobs/{}", file.id()), file.checksum().into_u128(), covers)
        });
        let manifest = TreeManifest {
            name: name.to_owned(),
            version: version.id(),
            files: tables.chain(values).collect::<io::Result<_>>()?,
            current: current.into(),
            version_file: version_file.into(),
        };
        let tables = version.iter_tables().map(|table| Box::new(table.clone()) as Pin);
        let values = version.blob_files.iter().map(|file| Box::new(file.clone()) as Pin);
        return Ok(PinnedTree { manifest, pins: tables.chain(values).collect() });
    }
    Err(io::Error::other(format!(
        "{} does not name the version that is in memory",
        path.join(CURRENT).display()
    )))
}

fn file_manifest(tree: &Path, path: String, checksum: u128, covers: String) -> io::Result<FileManifest> {
    let bytes = fs::metadata(tree.join(&path))?.len();
    Ok(FileManifest { path, bytes, checksum: Bytes::copy_from_slice(&checksum.to_be_bytes()), covers })
}
