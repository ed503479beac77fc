//! Offline: goes through everything in a store that no ternd has open, says what is whole, and writes that to a new store.
//!
//! It reads the files themselves and opens no tree, so it changes nothing, and goes on behind damage: a damaged block costs
//! its own rows, a damaged group of the log what it wrote.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lsm_tree::{Cache, Checksum, InternalValue, Table, ValueType};
use xxhash_rust::xxh3::Xxh3;

use super::log::{self, Island};
use super::manifest::{self, FileManifest, Found, Manifest};
use super::opening::lock;
use super::tables::{self, TREES};
use super::watermark;
use super::{Embedded, EmbeddedOptions, LOG, OpenError};
use crate::batch::Batch;
use crate::engine::Engine as _;
use crate::keys::{self, Key};
use crate::medium::{Disk, Medium as _};

mod relations;
mod version;

use self::relations::Relations;

/// Lines that say what is wrong; the rest is counted.
const FINDINGS_MAX: usize = 1000;

/// Bytes of one batch of a salvage.
const BATCH_BYTES: usize = 4 << 20;

/// What was found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Report {
    /// What is damaged or missing: which file or key, and what it covers.
    pub findings: Vec<String>,
    /// Findings beyond those.
    pub more: usize,
    /// Whole rows of each table.
    pub rows: BTreeMap<char, u64>,
    /// Bytes of their keys and values.
    pub bytes: BTreeMap<char, u64>,
    /// Files of the tables, and those of them that are whole.
    pub files: usize,
    /// See `files`.
    pub files_whole: usize,
    /// Whole groups in the log.
    pub groups: u64,
}

impl Report {
    /// Whether nothing is damaged or missing.
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }

    fn find(&mut self, finding: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.more += 1;
        }
    }
}

/// Goes through a store, and changes nothing.
///
/// # Errors
/// If it is open, is none, or the system refuses to have it read.
pub fn check(store: &Path) -> Result<Report, OpenError> {
    let _lock = lock_existing(store)?;
    let mut report = Report::default();
    read_all(store, &mut report, &mut |_, _| Ok(()))?;
    Ok(report)
}

/// Writes what is whole in a store to a new one, in a directory that must not be there yet, and changes nothing in the first.
///
/// # Errors
/// As [`check`]; or if the new store can't be written.
pub fn salvage(store: &Path, to: &Path, options: EmbeddedOptions) -> Result<Report, OpenError> {
    let _lock = lock_existing(store)?;
    if to.exists() {
        let error =
            io::Error::new(io::ErrorKind::AlreadyExists, "the new store's directory is there already");
        return Err(OpenError::Io { path: to.to_owned(), error });
    }
    let new = Embedded::open(to, options)?;
    let mut report = Report::default();
    let mut batch = Batch::default();
    let mut write = |key: &[u8], value: &[u8]| {
        // Its clients must learn that something is gone: to them it is a store that was put back.
        if key == keys::meta("store").as_ref() {
            if let Some(record) = crate::records::forget_generations(value) {
                batch.put(&Key::from_raw(key), record);
            }
        } else {
            batch.put(&Key::from_raw(key), value);
        }
        if batch.bytes() > BATCH_BYTES { commit(&new, &mut batch, to) } else { Ok(()) }
    };
    let relations = read_all(store, &mut report, &mut write)?;
    for (key, value) in relations.repairs() {
        batch.put(&key, value);
        if batch.bytes() > BATCH_BYTES {
            commit(&new, &mut batch, to)?;
        }
    }
    commit(&new, &mut batch, to)?;
    new.close();
    Ok(report)
}

fn commit(new: &Embedded, batch: &mut Batch, to: &Path) -> Result<(), OpenError> {
    new.commit_blocking(std::mem::take(batch))
        .map_err(|error| OpenError::Io { path: to.to_owned(), error: io::Error::other(error.to_string()) })
}

fn lock_existing(store: &Path) -> Result<File, OpenError> {
    let has = |name: &str| store.join(name).exists();
    if has(manifest::FILE) || has(LOG) || has(tables::DIRECTORY) {
        return lock(&Disk, store);
    }
    let error = io::Error::new(io::ErrorKind::NotFound, "there is no store in this directory");
    Err(OpenError::Io { path: store.to_owned(), error })
}

type Sink<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), OpenError>;

/// Reads everything: the newest whole value of each key goes to the sink.
fn read_all(store: &Path, report: &mut Report, sink: Sink<'_>) -> Result<Relations, OpenError> {
    let io = |error| OpenError::Io { path: store.to_owned(), error };
    let manifest = match Manifest::read(&Disk, store).map_err(io)? {
        Found::Whole(manifest) => Some(manifest),
        Found::Damaged(what) => {
            report.find(format!("{}: {what}", store.join(manifest::FILE).display()));
            None
        }
        Found::Absent => {
            report.find(format!("{}: it is missing", store.join(manifest::FILE).display()));
            None
        }
    };
    let flushed = manifest.as_ref().map_or(0, |manifest| manifest.flushed);
    let mut overlay = read_log(store, flushed, manifest.is_some(), report).map_err(io)?;
    let mut relations = Relations::default();
    for name in TREES {
        let tree =
            manifest.as_ref().and_then(|manifest| manifest.trees.iter().find(|tree| tree.name == name));
        let files = match tree {
            Some(tree) => files_of(store, tree, report).map_err(io)?,
            None => all_files(&tables::tree_path(store, name)).map_err(io)?,
        };
        let of_tree = |key: &[u8]| (key.first() == Some(&b'e')) == (name == TREES[0]);
        let own = overlay.extract_if(.., |key, _| of_tree(key)).collect();
        let mut merge = Merge::open(&tables::tree_path(store, name), &files, own, report);
        while let Some((key, value)) = merge.next(report) {
            relations.saw(&key, &value, report);
            sink(&key, &value)?;
        }
    }
    relations.check(report);
    Ok(relations)
}

/// The files that a tree is made of now.
fn files_of(
    store: &Path,
    tree: &manifest::TreeManifest,
    report: &mut Report,
) -> io::Result<Vec<FileManifest>> {
    let findings = manifest::check_tree(&Disk, store, tree)?;
    findings.iter().for_each(|finding| report.find(finding.to_string()));
    let path = tables::tree_path(store, &tree.name);
    if manifest::is_at(&Disk, &path, tree)? || !findings.is_empty() {
        return Ok(tree.files.clone());
    }
    // It has gone on since. What its version says can't be read: whatever there is, is looked at.
    let Some(files) = version::files(&path)? else { return all_files(&path) };
    for file in files.iter().filter(|file| !path.join(&file.path).exists()) {
        report.find(format!("{}: it is missing ({})", path.join(&file.path).display(), file.covers));
    }
    Ok(files)
}

fn all_files(tree: &Path) -> io::Result<Vec<FileManifest>> {
    let mut found = Vec::new();
    for part in tables::PARTS {
        for path in Disk.list(&tree.join(part))? {
            let name = path.file_name().expect("a file of a directory has a name");
            let path = format!("{part}/{}", name.display());
            found.push(FileManifest { path, ..FileManifest::default() });
        }
    }
    Ok(found)
}

type Overlay = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// What the log holds beyond the tables' files.
fn read_log(store: &Path, flushed: u64, is_known: bool, report: &mut Report) -> io::Result<Overlay> {
    let mut overlay = Overlay::new();
    let segments = log::list(&Disk, &store.join(LOG))?;
    let mut next = if is_known { Some(flushed + 1) } else { None };
    for (index, (first, path)) in segments.iter().enumerate() {
        let end = segments.get(index + 1).map_or(u64::MAX, |(first, _)| *first);
        if end <= flushed + 1 {
            continue;
        }
        for Island { number, ops } in log::islands(&fs::read(path)?, *first) {
            if number <= flushed || number < *first || number >= end {
                continue;
            }
            if next.is_some_and(|next| number > next) {
                let missing = next.unwrap_or(number);
                report.find(format!(
                    "{}: the groups {missing} to {} are not whole",
                    path.display(),
                    number - 1
                ));
            }
            next = Some(number + 1);
            report.groups += 1;
            overlay.extend(ops);
        }
    }
    let newest = next.map_or(flushed, |next| next - 1);
    let acknowledged = watermark::read(&Disk, store)?;
    if acknowledged > newest {
        let log = store.join(LOG);
        report.find(format!(
            "{}: the groups {} to {acknowledged}, which were acknowledged, are not there",
            log.display(),
            newest + 1
        ));
    }
    Ok(overlay)
}

/// Goes through the tables of a tree and what the log holds beyond them, in the order of the keys.
struct Merge {
    tables: Vec<Run>,
    heads: BinaryHeap<(Reverse<Vec<u8>>, u64, usize)>,
    overlay: std::iter::Peekable<std::collections::btree_map::IntoIter<Vec<u8>, Option<Vec<u8>>>>,
    values: Values,
}

type Rows = Box<dyn Iterator<Item = lsm_tree::Result<InternalValue>>>;

/// One table, and the row that it is at.
struct Run {
    table: Table,
    /// By the table's index; behind damage to that, in the order of the file.
    rows: Rows,
    by_index: bool,
    at: Option<InternalValue>,
    /// The row before.
    last: Option<(Vec<u8>, u64)>,
    path: PathBuf,
}

impl Run {
    fn new(table: Table, path: PathBuf) -> Self {
        Self { rows: Box::new(table.iter()), by_index: true, at: None, last: None, path, table }
    }

    /// Goes on to the next whole row. Gives how many times there was damage on the way.
    fn advance(&mut self) -> u64 {
        let mut damaged = 0;
        self.at = loop {
            // What asserts is as damaged as what is refused.
            match catch_unwind(AssertUnwindSafe(|| self.rows.next())) {
                Ok(Some(Ok(row))) if self.is_behind(&row) => {}
                Ok(Some(Ok(row))) => break Some(row),
                Ok(None) => break None,
                // A damaged block is left behind with its error. A damaged index is not: it has fewer blocks than that.
                Ok(Some(Err(_))) if self.by_index && damaged <= self.table.metadata.data_block_count => {
                    damaged += 1;
                }
                Ok(Some(Err(_))) | Err(_) => {
                    damaged += 1;
                    match self.table.scan() {
                        Ok(rows) if self.by_index => (self.rows, self.by_index) = (Box::new(rows), false),
                        Ok(_) | Err(_) => break None,
                    }
                }
            }
        };
        if let Some(row) = &self.at {
            self.last = Some((row.key.user_key.to_vec(), row.key.seqno));
        }
        damaged
    }

    /// Whether a row has been seen: a key's newest row comes first.
    fn is_behind(&self, row: &InternalValue) -> bool {
        let at = (&row.key.user_key[..], std::cmp::Reverse(row.key.seqno));
        !self.by_index
            && self.last.as_ref().is_some_and(|(key, seqno)| at <= (&key[..], std::cmp::Reverse(*seqno)))
    }
}

impl Merge {
    fn open(tree: &Path, files: &[FileManifest], overlay: Overlay, report: &mut Report) -> Self {
        let mut tables = Vec::new();
        for file in files {
            let path = tree.join(&file.path);
            report.files += 1;
            match check_file(&path, &file.checksum) {
                Ok(true) => report.files_whole += 1,
                Ok(false) => {
                    let covers = if file.covers.is_empty() { "" } else { &file.covers };
                    report.find(format!("{}: its checksum does not match ({covers})", path.display()));
                }
                // Its absence has been told already, where it was known of.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => report.find(format!("{}: {error}", path.display())),
            }
            if !file.path.starts_with("tables") {
                continue;
            }
            match open_table(&path) {
                Ok(table) => tables.push(Run::new(table, path)),
                Err(why) => report.find(format!("{}: {why} ({})", path.display(), file.covers)),
            }
        }
        let mut merge = Self {
            heads: BinaryHeap::new(),
            overlay: overlay.into_iter().peekable(),
            values: Values { path: tree.join("blobs"), files: BTreeMap::new() },
            tables,
        };
        (0..merge.tables.len()).for_each(|index| merge.advance(index, report));
        merge
    }

    /// Goes on to a table's next whole row.
    fn advance(&mut self, index: usize, report: &mut Report) {
        let run = &mut self.tables[index];
        if run.advance() > 0 {
            let upto = run.at.as_ref().map_or("the end".to_owned(), |row| keys::describe(&row.key.user_key));
            report.find(format!("{}: it is damaged before {upto}", run.path.display()));
        }
        if let Some(row) = &run.at {
            self.heads.push((Reverse(row.key.user_key.to_vec()), row.key.seqno, index));
        }
    }

    /// The next key that has a value, with the newest one that is whole.
    fn next(&mut self, report: &mut Report) -> Option<(Vec<u8>, Vec<u8>)> {
        loop {
            let in_tables = self.heads.peek().map(|(Reverse(key), ..)| key.clone());
            let in_log = self.overlay.peek().map(|(key, _)| key.clone());
            let key = match (in_tables, in_log) {
                (Some(one), Some(other)) => one.min(other),
                (Some(key), None) | (None, Some(key)) => key,
                (None, None) => return None,
            };
            let mut newest = None;
            while self.heads.peek().is_some_and(|(Reverse(head), ..)| *head == key) {
                let (_, _, index) = self.heads.pop().expect("it was peeked at");
                let row = self.tables[index].at.take().expect("a head is of a row");
                self.advance(index, report);
                newest.get_or_insert(row);
            }
            let newer = self.overlay.next_if(|(head, _)| *head == key);
            let value = match (newer, newest) {
                (Some((_, value)), _) => value,
                (None, Some(row)) => self.values.resolve(row, report),
                (None, None) => None,
            };
            if let Some(value) = value {
                return Some((key, value));
            }
        }
    }
}

/// The files with the values that lie apart from their keys.
struct Values {
    path: PathBuf,
    files: BTreeMap<u64, Option<File>>,
}

impl Values {
    /// A row's value, if it has one and it is whole.
    fn resolve(&mut self, row: InternalValue, report: &mut Report) -> Option<Vec<u8>> {
        match row.key.value_type {
            ValueType::Value => Some(row.value.to_vec()),
            ValueType::Tombstone | ValueType::WeakTombstone => None,
            ValueType::Indirection => {
                let value = self.read(&row.value);
                if value.is_none() {
                    let (path, key) = (self.path.display(), keys::describe(&row.key.user_key));
                    report.find(format!("{path}: the value of {key} is damaged or missing"));
                }
                value
            }
        }
    }

    /// The value that a pointer names: `offset, file, bytes` as varints. It lies behind a head: `"BLOB", checksum: u128,
    /// number: u64, key bytes: u16, value bytes: u32, stored bytes: u32, key`, little-endian (lsm-tree 3).
    fn read(&mut self, mut pointer: &[u8]) -> Option<Vec<u8>> {
        const HEAD_BYTES: usize = 4 + 16 + 8 + 2 + 4 + 4;
        let mut varint = || prost::decode_length_delimiter(&mut pointer).ok();
        let (offset, file, bytes) = (varint()? as u64, varint()? as u64, varint()?);
        let path = self.path.join(file.to_string());
        let file = self.files.entry(file).or_insert_with(|| File::open(path).ok()).as_ref()?;
        let mut head = [0; HEAD_BYTES];
        file.read_exact_at(&mut head, offset).ok()?;
        let checksum = u128::from_le_bytes(*head[4..].first_chunk()?);
        let key_bytes = u16::from_le_bytes(*head[28..].first_chunk()?).into();
        let mut content = vec![0; key_bytes + bytes];
        file.read_exact_at(&mut content, offset + HEAD_BYTES as u64).ok()?;
        let mut hasher = Xxh3::new();
        hasher.update(&content);
        (hasher.digest128() == checksum).then(|| content.split_off(key_bytes))
    }
}

/// Whether a file is what was written, as far as that is known.
fn check_file(path: &Path, checksum: &[u8]) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let Ok(checksum) = checksum.try_into().map(u128::from_be_bytes) else { return Ok(true) };
    let mut hasher = Xxh3::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.digest128() == checksum),
            bytes => hasher.update(&buffer[..bytes]),
        }
    }
}

fn open_table(path: &Path) -> Result<Table, String> {
    let cache = Arc::new(Cache::with_capacity_bytes(0));
    let open = || Table::recover(path.to_owned(), Checksum::from_raw(0), 0, 0, cache, None, false, false);
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(opened) => opened.map_err(|error| tables::lsm::reason(&error)),
        Err(_) => Err("it contradicts itself".to_owned()),
    }
}
