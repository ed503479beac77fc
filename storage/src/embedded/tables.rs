//! The tables: an index of what the log made durable, on two log-structured merge trees (lsm-tree) without a journal.
//!
//! Invariants: one thread writes; what is written lies in memory until it is flushed, and is in the log until then; a
//! read sees whole writes only, for it reads at the number of the newest whole one. Entries lie apart from the rows, and
//! their values apart from their keys: they are many, large and written once, so that no compaction copies them.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use lsm_tree::compaction::Leveled;
use lsm_tree::config::PinningPolicy;
use lsm_tree::{
    AbstractTree as _, AnyTree, Cache, Config, DescriptorTable, Guard as _, KvSeparationOptions,
    SequenceNumberCounter,
};

use super::log::RawOp;
use crate::engine::{Direction, Rows, ScanLimit, StoreError};
use crate::keys::{self, Key, KeyRange};

/// The trees' directory within the store's.
pub(super) const DIRECTORY: &str = "tables";

/// The trees, by the names of their directories.
pub(super) const TREES: [&str; 2] = ["entries", "rows"];

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

/// Files kept open for reading; others are opened when they are read.
const FILES_OPEN_MAX: usize = 256;

/// See the module.
#[derive(Clone)]
pub(super) struct Tables {
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

impl Tables {
    /// Opens the trees in a store's directory; those that are not there are made.
    pub(super) fn open(store: &Path, cache_bytes: u64) -> lsm_tree::Result<Self> {
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
        Ok(Self { trees, next, visible, snapshots: Arc::default() })
    }

    fn of(&self, key: &[u8]) -> &AnyTree {
        &self.trees[usize::from(key.first() != Some(&b'e'))]
    }

    /// Writes in memory, as a whole to those who read. One thread may.
    pub(super) fn write<'a>(&self, ops: impl Iterator<Item = RawOp<'a>>) {
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

    /// Bytes written since the last [`Tables::seal`].
    pub(super) fn open_bytes(&self) -> u64 {
        self.trees.iter().map(|tree| tree.active_memtable().size()).sum()
    }

    /// Closes what was written so far, for the next [`Tables::flush`].
    pub(super) fn seal(&self) {
        for tree in &self.trees {
            let _ = tree.rotate_memtable();
        }
    }

    /// Writes what is sealed to files, durably.
    pub(super) fn flush(&self) -> lsm_tree::Result<()> {
        for tree in &self.trees {
            let lock = tree.get_flush_lock();
            tree.flush(&lock, self.oldest())?;
        }
        Ok(())
    }

    /// Merges tables as far as there is reason to. Gives whether anything was done.
    pub(super) fn compact(&self) -> lsm_tree::Result<bool> {
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

    /// Whether so many flushed tables wait for compaction that the writer should.
    pub(super) fn is_behind(&self) -> bool {
        self.trees.iter().any(|tree| tree.l0_run_count() > RUNS_MAX)
    }

    fn oldest(&self) -> u64 {
        self.snapshots.oldest(&self.visible)
    }

    /// Bytes of all files.
    pub(super) fn file_bytes(&self) -> u64 {
        let bytes = |tree: &AnyTree| tree.disk_space() + tree.current_version().blob_files.on_disk_size();
        self.trees.iter().map(bytes).sum()
    }

    /// The trees with their names.
    pub(super) fn trees(&self) -> impl Iterator<Item = (&'static str, &AnyTree)> {
        TREES.into_iter().zip(&self.trees)
    }

    /// Reads one value.
    pub(super) fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        let snapshot = self.snapshots.open(&self.visible);
        let read = || self.of(key.as_ref()).get(key, snapshot.at);
        let value = guarded(key.as_ref(), read)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// Reads a range in order.
    pub(super) fn scan(
        &self,
        range: &KeyRange,
        direction: Direction,
        limit: ScanLimit,
    ) -> Result<Rows, StoreError> {
        let snapshot = self.snapshots.open(&self.visible);
        guarded(range.start.as_ref(), || self.scan_at(range, direction, limit, snapshot.at))
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

/// Where a tree lies.
pub(super) fn tree_path(store: &Path, name: &str) -> PathBuf {
    store.join(DIRECTORY).join(name)
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
        lsm_tree::Error::Io(error) => match error.kind() {
            ErrorKind::UnexpectedEof
            | ErrorKind::InvalidData
            | ErrorKind::InvalidInput
            | ErrorKind::NotFound => StoreError::Corrupt { place: format!("{place}: {error}") },
            _ => StoreError::Unreachable { reason: format!("{place}: {error}") },
        },
        error => StoreError::Corrupt { place: format!("{place}: {}", reason(&error)) },
    }
}

/// A tree's error in words.
pub(super) fn reason(error: &lsm_tree::Error) -> String {
    match error {
        lsm_tree::Error::Io(error) => error.to_string(),
        lsm_tree::Error::ChecksumMismatch { .. } => "its checksum does not match".to_owned(),
        lsm_tree::Error::Unrecoverable => "its files contradict each other".to_owned(),
        lsm_tree::Error::InvalidHeader(what) => format!("the head of a {what} is not one"),
        error => format!("{error:?}"),
    }
}
