//! Tables for simulations: their rows lie in memory, and what is flushed lies on the medium too, by the rules that the
//! product's tables have.
//!
//! What is not flushed is lost with the process. A tree's files are those of an lsm-tree in outline: a file `tables/N` for
//! what was flushed or merged, a file `vN` for each version that says which of those there are, and `current`, which names
//! the version; each is synced before the next one names it. So the product's manifest, its check and its recovery run over
//! them as they are. How the rows lie in a file is of this module alone.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::super::files;
use super::super::manifest::{CURRENT, FileManifest, TreeManifest, decode_current, encode_current};
use super::{Pin, PinnedTree, TREES, Tables, TablesError, tree_of, tree_path, version_of};
use crate::batch::Op;
use crate::engine::{Direction, Rows, ScanLimit, StoreError};
use crate::keys::{self, Key, KeyRange};
use crate::medium::{Medium as _, MediumFile as _, Opening, SimulatedMedium};
use crate::mutations::{self, Mutation};

/// Files that gather before they are merged.
const GATHERED_FILES: usize = 4;

/// Files beyond which the writer waits for them to be merged.
const FILES_MAX: usize = 2 * GATHERED_FILES;

/// What a row costs in memory beside its key and value, as it is counted for flushes.
const ROW_BYTES: usize = 32;

/// The files of a tree lie in this directory of it.
const TABLES: &str = "tables";

/// See the module.
#[derive(Clone)]
pub(in super::super) struct SimulatedTables(Arc<Mutex<[Tree; 2]>>);

/// What is known of a key.
#[derive(Clone, Debug)]
enum Row {
    Value(Bytes),
    Removed,
    /// Its value on the medium is not what was written.
    Damaged,
}

type Part = BTreeMap<Vec<u8>, Row>;

struct Tree {
    medium: SimulatedMedium,
    name: &'static str,
    path: PathBuf,
    /// What is to be read: the newest of each key.
    rows: Part,
    /// What was written since the last seal, and what is sealed.
    open: Part,
    open_bytes: u64,
    sealed: Vec<Part>,
    /// The oldest first.
    files: Vec<TableFile>,
    version: u64,
    files_made: u64,
}

struct TableFile {
    number: u64,
    bytes: u64,
    checksum: u128,
    rows: Part,
    handle: Arc<Handle>,
}

/// Whoever has it keeps the file where it is.
struct Handle {
    medium: SimulatedMedium,
    path: PathBuf,
    /// The file was merged while somebody had it: the last one removes it.
    merged: AtomicBool,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.merged.load(Ordering::Relaxed) {
            // After a power cut nobody hears of it.
            let _ = self.medium.remove(&self.path);
        }
    }
}

impl SimulatedTables {
    fn lock(&self) -> MutexGuard<'_, [Tree; 2]> {
        self.0.lock().expect("nothing panics while it holds this")
    }
}

impl Tables for SimulatedTables {
    type Medium = SimulatedMedium;

    fn open(medium: &SimulatedMedium, store: &Path, _cache_bytes: u64) -> Result<Self, TablesError> {
        let open = |name| Tree::open(medium.clone(), tree_path(store, name), name);
        Ok(Self(Arc::new(Mutex::new([open(TREES[0])?, open(TREES[1])?]))))
    }

    fn write<'a>(&self, ops: impl Iterator<Item = Op<'a>>) {
        let mut trees = self.lock();
        for (key, value) in ops {
            let row = value.map_or(Row::Removed, |value| Row::Value(Bytes::copy_from_slice(value)));
            trees[tree_of(key)].write(key, row);
        }
    }

    fn open_bytes(&self) -> u64 {
        self.lock().iter().map(|tree| tree.open_bytes).sum()
    }

    fn seal(&self) {
        self.lock().iter_mut().for_each(Tree::seal);
    }

    fn flush(&self) -> Result<(), TablesError> {
        self.lock().iter_mut().try_for_each(Tree::flush)
    }

    fn compact(&self) -> Result<bool, TablesError> {
        let mut any = false;
        for tree in &mut *self.lock() {
            any |= tree.merge()?;
        }
        Ok(any)
    }

    fn is_settled(&self) -> bool {
        self.lock().iter().all(|tree| version_of(&tree.medium, &tree.path) == Some(tree.version))
    }

    fn is_behind(&self) -> bool {
        self.lock().iter().any(|tree| tree.files.len() > FILES_MAX)
    }

    fn file_bytes(&self) -> u64 {
        self.lock().iter().flat_map(|tree| &tree.files).map(|file| file.bytes).sum()
    }

    fn pin(&self) -> io::Result<Vec<PinnedTree>> {
        let pinned = |tree: &Tree| {
            let pins = tree.files.iter().map(|file| Box::new(file.handle.clone()) as Pin);
            Ok(PinnedTree { manifest: tree.manifest()?, pins: pins.collect() })
        };
        self.lock().iter().map(pinned).collect()
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        match self.lock()[tree_of(key.as_ref())].rows.get(key.as_ref()) {
            Some(Row::Value(value)) => Ok(Some(value.clone())),
            Some(Row::Removed) | None => Ok(None),
            Some(Row::Damaged) => Err(damaged(key.as_ref())),
        }
    }

    fn scan(&self, range: &KeyRange, direction: Direction, limit: ScanLimit) -> Result<Rows, StoreError> {
        let (start, end) = (range.start.as_ref(), range.end.as_ref());
        let mut rows = Rows::default();
        if start >= end {
            return Ok(rows);
        }
        let trees = self.lock();
        let within = (Bound::Included(start), Bound::Excluded(end));
        let mut found = trees[tree_of(start)].rows.range::<[u8], _>(within);
        let mut bytes = 0;
        loop {
            let next = match direction {
                Direction::Forwards => found.next(),
                Direction::Backwards => found.next_back(),
            };
            let Some((key, row)) = next else { return Ok(rows) };
            if matches!(row, Row::Removed) {
                continue;
            }
            if rows.rows.len() >= limit.rows || bytes >= limit.bytes {
                rows.more = true;
                return Ok(rows);
            }
            let Row::Value(value) = row else { return Err(damaged(key)) };
            bytes += key.len() + value.len();
            rows.rows.push((Bytes::copy_from_slice(key), value.clone()));
        }
    }
}

fn damaged(key: &[u8]) -> StoreError {
    StoreError::Corrupt { place: keys::describe(key) }
}

impl Tree {
    /// As it lies on the medium; one that is not there is made.
    fn open(medium: SimulatedMedium, path: PathBuf, name: &'static str) -> Result<Self, TablesError> {
        let (rows, open, sealed, files) = (Part::new(), Part::new(), Vec::new(), Vec::new());
        let mut tree =
            Self { medium, name, path, rows, open, open_bytes: 0, sealed, files, version: 0, files_made: 0 };
        match tree.medium.read_if_there(&tree.path.join(CURRENT))? {
            Some(current) => tree.load(&current)?,
            None => {
                tree.medium.make_dir(&tree.path)?;
                tree.medium.make_dir(&tree.path.join(TABLES))?;
                tree.persist(&[])?;
            }
        }
        Ok(tree)
    }

    /// Reads the files of the version that `current` names, and removes all others.
    fn load(&mut self, current: &[u8]) -> Result<(), TablesError> {
        let bad = |what: &str| TablesError::Damaged(what.to_owned());
        let (version, checksum) = decode_current(current).ok_or_else(|| bad("it names no version"))?;
        let content = self.medium.read(&self.version_path(version))?;
        if xxh3_128(&content) != checksum {
            return Err(bad("its version is not what was written"));
        }
        self.version = version;
        let (numbers, _) = content.as_chunks::<8>();
        for number in numbers.iter().map(|number| u64::from_le_bytes(*number)) {
            let path = self.table_path(number);
            let bytes = self.medium.read(&path)?;
            let rows = decode(&bytes).ok_or_else(|| bad("the index of a table is damaged"))?;
            self.rows.extend(rows.iter().map(|(key, row)| (key.clone(), row.clone())));
            let (bytes, checksum) = (bytes.len() as u64, xxh3_128(&bytes));
            let handle = self.handle(number);
            self.files.push(TableFile { number, bytes, checksum, rows, handle });
        }
        let named: Vec<_> = self.files.iter().map(|file| self.table_path(file.number)).collect();
        for path in self.medium.list(&self.path.join(TABLES))? {
            let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            self.files_made = self.files_made.max(number.unwrap_or(0));
            if !named.contains(&path) {
                self.medium.remove(&path)?;
            }
        }
        Ok(())
    }

    fn version_path(&self, version: u64) -> PathBuf {
        self.path.join(format!("v{version}"))
    }

    fn table_path(&self, number: u64) -> PathBuf {
        self.path.join(TABLES).join(number.to_string())
    }

    fn write(&mut self, key: &[u8], row: Row) {
        let value_bytes = if let Row::Value(value) = &row { value.len() } else { 0 };
        self.open_bytes += (key.len() + value_bytes + ROW_BYTES) as u64;
        self.rows.insert(key.to_vec(), row.clone());
        self.open.insert(key.to_vec(), row);
    }

    fn seal(&mut self) {
        if !self.open.is_empty() {
            self.sealed.push(std::mem::take(&mut self.open));
            self.open_bytes = 0;
        }
    }

    fn flush(&mut self) -> Result<(), TablesError> {
        if self.sealed.is_empty() {
            return Ok(());
        }
        let rows: Part = self.sealed.iter().flatten().map(|(key, row)| (key.clone(), row.clone())).collect();
        let file = self.make_table(rows)?;
        let mut numbers: Vec<_> = self.files.iter().map(|file| file.number).collect();
        numbers.push(file.number);
        self.persist(&numbers)?;
        self.files.push(file);
        self.sealed.clear();
        Ok(())
    }

    /// Makes one file of all, if they are many. Gives whether it did.
    fn merge(&mut self) -> Result<bool, TablesError> {
        if self.files.len() < GATHERED_FILES {
            return Ok(false);
        }
        let rows = self.files.iter().flat_map(|file| &file.rows);
        let mut rows: Part = rows.map(|(key, row)| (key.clone(), row.clone())).collect();
        rows.retain(|_, row| !matches!(row, Row::Removed));
        if let Some((key, _)) = rows.iter().find(|(_, row)| matches!(row, Row::Damaged)) {
            return Err(TablesError::Damaged(keys::describe(key)));
        }
        let file = self.make_table(rows)?;
        self.persist(&[file.number])?;
        for old in std::mem::replace(&mut self.files, vec![file]) {
            if Arc::strong_count(&old.handle) > 1 && !mutations::is(Mutation::ForgetPins) {
                old.handle.merged.store(true, Ordering::Relaxed);
            } else {
                self.medium.remove(&old.handle.path)?;
            }
        }
        Ok(true)
    }

    fn handle(&self, number: u64) -> Arc<Handle> {
        let (medium, path) = (self.medium.clone(), self.table_path(number));
        Arc::new(Handle { medium, path, merged: AtomicBool::new(false) })
    }

    /// A file, durable but named by no version yet.
    fn make_table(&mut self, rows: Part) -> Result<TableFile, TablesError> {
        self.files_made += 1;
        let (number, content) = (self.files_made, encode(&rows));
        let file = self.medium.open(&self.table_path(number), Opening::Emptied)?;
        file.write_all_at(&content, 0)?;
        file.sync_all()?;
        self.medium.sync_dir(&self.path.join(TABLES))?;
        let (bytes, checksum, handle) = (content.len() as u64, xxh3_128(&content), self.handle(number));
        Ok(TableFile { number, bytes, checksum, rows, handle })
    }

    /// Has the next version be of these files, durably.
    fn persist(&mut self, numbers: &[u64]) -> Result<(), TablesError> {
        let version = self.version + 1;
        let content: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let file = self.medium.open(&self.version_path(version), Opening::Emptied)?;
        file.write_all_at(&content, 0)?;
        file.sync_all()?;
        self.medium.sync_dir(&self.path)?;
        let current = encode_current(version, xxh3_128(&content));
        files::replace(&self.medium, &self.path.join(CURRENT), &current)?;
        let before = self.version_path(self.version);
        self.version = version;
        if self.medium.exists(&before) {
            self.medium.remove(&before)?;
        }
        Ok(())
    }

    fn manifest(&self) -> io::Result<TreeManifest> {
        let file = |file: &TableFile| FileManifest {
            path: format!("{TABLES}/{}", file.number),
            bytes: file.bytes,
            checksum: Bytes::copy_from_slice(&file.checksum.to_be_bytes()),
            covers: format!("{} rows", file.rows.len()),
        };
        Ok(TreeManifest {
            name: self.name.to_owned(),
            version: self.version,
            current: self.medium.read(&self.path.join(CURRENT))?.into(),
            version_file: self.medium.read(&self.version_path(self.version))?.into(),
            files: self.files.iter().map(file).collect(),
        })
    }
}

const VALUE: u8 = 1;
const REMOVED: u8 = 2;

/// The index (`kind: u8, key bytes: u16, value bytes: u32, xxh3 of the value: u64, key` of each row) behind its length (u64)
/// and its own xxh3 (u64), then the values; little-endian.
fn encode(rows: &Part) -> Vec<u8> {
    let (mut index, mut values) = (Vec::new(), Vec::new());
    for (key, row) in rows {
        let (kind, value) = match row {
            Row::Value(value) => (VALUE, &value[..]),
            Row::Removed => (REMOVED, &[][..]),
            Row::Damaged => {
                unreachable!("what is flushed was written by this process, and what is merged is whole")
            }
        };
        index.push(kind);
        index.extend((key.len() as u16).to_le_bytes());
        index.extend((value.len() as u32).to_le_bytes());
        index.extend(xxh3_64(value).to_le_bytes());
        index.extend(key);
        values.extend(value);
    }
    [&(index.len() as u64).to_le_bytes()[..], &xxh3_64(&index).to_le_bytes(), &index, &values].concat()
}

/// `None` if nobody knows what rows there are.
fn decode(bytes: &[u8]) -> Option<Part> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (checksum, rest) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (mut index, mut values) = rest.split_at_checked(length)?;
    if xxh3_64(index) != u64::from_le_bytes(*checksum) {
        return None;
    }
    let mut rows = Part::new();
    while let Some((kind, rest)) = index.split_first() {
        let (key_bytes, rest) = rest.split_first_chunk::<2>()?;
        let (value_bytes, rest) = rest.split_first_chunk::<4>()?;
        let (checksum, rest) = rest.split_first_chunk::<8>()?;
        let (key, rest) = rest.split_at_checked(u16::from_le_bytes(*key_bytes).into())?;
        index = rest;
        let (value, rest) = values.split_at_checked(u32::from_le_bytes(*value_bytes) as usize)?;
        values = rest;
        let row = match *kind {
            REMOVED => Row::Removed,
            _ if xxh3_64(value) == u64::from_le_bytes(*checksum) => Row::Value(Bytes::copy_from_slice(value)),
            _ => Row::Damaged,
        };
        rows.insert(key.to_vec(), row);
    }
    Some(rows)
}
