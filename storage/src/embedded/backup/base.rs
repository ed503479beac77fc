//! A base: the files of the tables as they were at one time, copied while the store goes on. With the log from there on it gives
//! the store as it was at any later point.
//!
//! The files never change, so a base is the manifest that names them, and what an earlier base has of them is not copied again. What
//! is copied of one that does not come to its end is named by a manifest of its own from time to time, so that it is not copied
//! again either.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use xxhash_rust::xxh3::Xxh3;

use super::archive::Place;
use super::format::{self, CHUNK_BYTES_MAX, Kind, Salt, Writer};
use super::records::{BASES, BaseRecord, FILES, PARTIAL, StoredFile, TreeRecord, file_path};
use crate::embedded::keeper::Base;
use crate::embedded::tables::tree_path;
use crate::medium::{Medium, MediumFile as _, Opening};
use crate::mutations::{self, Mutation};

/// Bytes that are copied between two syncs: gigabytes that wait to be written are in the way of the log's own.
const SYNC_BYTES: u64 = 8 << 20;

/// After so many bytes, or this long, what was copied is named.
const NAME_BYTES: u64 = 1 << 30;
const NAME_EVERY: Duration = Duration::from_secs(60);

/// Why a base is not copied on.
pub(super) enum CopyError {
    /// The backup's side failed.
    Target(io::Error),
    /// The store's side did, at this file.
    Source(PathBuf, io::Error),
    /// A file of the store is not what was written.
    Rotten(PathBuf),
}

/// A base that is being copied.
pub(super) struct Copying<M: Medium> {
    /// What it will say; files that are not copied have no salt yet.
    pub(super) record: BaseRecord,
    /// Which file is copied: of all trees' files, in their order.
    next: usize,
    current: Option<Current<M>>,
    named: Duration,
    unnamed_bytes: u64,
    /// The files of trees that were there when it began: what an earlier base names may have gone.
    there: BTreeSet<PathBuf>,
    /// Bytes that no earlier base has, and that are not copied yet.
    pub(super) left_bytes: u64,
    /// Files that were copied, and what of them was named last.
    copied: usize,
    partial: Option<BaseRecord>,
    /// All files are there, durably.
    pub(super) is_whole: bool,
    pub(super) done_bytes: u64,
    pub(super) reused_bytes: u64,
}

struct Current<M: Medium> {
    path: PathBuf,
    file: M::File,
    writer: Writer<M>,
    at: u64,
    sum: Xxh3,
    unsynced: u64,
}

/// What came of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Copied {
    /// So many bytes were written, and if a file is whole, it is this one.
    Bytes(u64, Option<usize>),
    /// All files are there, durably.
    All,
}

impl<M: Medium> Copying<M> {
    /// Begins one, with a number and a time, in a chain whose log has so many bytes, and of which these bases are known.
    pub(super) fn new(
        base: Base,
        place: &Place<M>,
        known: [&[BaseRecord]; 2],
        (chain, number): (u32, u32),
        layout: u64,
        (time_ms, log_bytes): (u64, u64),
        now: Duration,
    ) -> io::Result<Self> {
        let trees = base.trees.into_iter().map(|tree| TreeRecord {
            name: tree.name,
            version: tree.version,
            current: tree.current,
            version_file: tree.version_file,
            files: tree
                .files
                .into_iter()
                .map(|file| StoredFile {
                    path: file.path,
                    bytes: file.bytes,
                    checksum: file.checksum,
                    covers: file.covers,
                    salt: Bytes::new(),
                    chunks: 0,
                })
                .collect(),
        });
        let (flushed, whole_at, trees) = (base.flushed, base.whole_at, trees.collect());
        let record = BaseRecord { chain, number, layout, flushed, whole_at, time_ms, trees, log_bytes };
        let there = durable(place)?;
        let left_bytes = bytes_unknown(&record, place, known, &there);
        let (current, partial, named, is_whole) = (None, None, now, false);
        let (next, unnamed_bytes, done_bytes, reused_bytes, copied) = Default::default();
        Ok(Self {
            record,
            next,
            current,
            named,
            unnamed_bytes,
            there,
            left_bytes,
            copied,
            partial,
            is_whole,
            done_bytes,
            reused_bytes,
        })
    }

    /// Files that are there, of how many.
    pub(super) fn files(&self) -> (usize, usize) {
        (self.next, self.record.files().count())
    }

    /// Goes on by a chunk, or by a file that is there already in one of these bases.
    pub(super) fn step(
        &mut self,
        store: (&M, &Path),
        place: &Place<M>,
        known: [&[BaseRecord]; 2],
        now: Duration,
        random: &mut dyn FnMut() -> Salt,
    ) -> Result<Copied, CopyError> {
        if self.current.is_some() {
            return self.copy(place, now, random);
        }
        let Some((tree, file)) = self.nth(self.next) else {
            let there = durable(place).map_err(CopyError::Target)?;
            let is_there = |file: &StoredFile| there.contains(&file_path(&place.dir, &file.salt));
            if !self.record.files().all(is_there) && !mutations::is(Mutation::KeepUnnamed) {
                let why = "files that were copied are not there any more: was it mounted anew?";
                return Err(CopyError::Target(io::Error::other(why)));
            }
            self.is_whole = true;
            return Ok(Copied::All);
        };
        let file = &self.record.trees[tree].files[file];
        let stored = find(known, &self.record.trees[tree].name, file, |stored| {
            self.there.contains(&file_path(&place.dir, &stored.salt)) || mutations::is(Mutation::KeepUnnamed)
        });
        if let Some(stored) = stored {
            let (index, bytes) = (self.next, file.bytes);
            *self.file_mut(index) = stored;
            (self.next, self.done_bytes) = (index + 1, self.done_bytes + bytes);
            self.reused_bytes += bytes;
            return Ok(Copied::Bytes(0, Some(index)));
        }
        let (medium, store) = store;
        let path = tree_path(store, &self.record.trees[tree].name).join(&file.path);
        let source = |error| CopyError::Source(path.clone(), error);
        let file = medium.open(&path, Opening::Reading).map_err(source)?;
        let salt = random();
        let written = file_path(&place.dir, &salt);
        let writer =
            Writer::create(&place.medium, &written, Kind::Table, (place.backup, salt), place.key.as_ref());
        let writer = writer.map_err(CopyError::Target)?;
        self.current = Some(Current { path, file, writer, at: 0, sum: Xxh3::new(), unsynced: 0 });
        self.copy(place, now, random)
    }

    fn copy(
        &mut self,
        place: &Place<M>,
        now: Duration,
        random: &mut dyn FnMut() -> Salt,
    ) -> Result<Copied, CopyError> {
        let index = self.next;
        let length = self.file_mut(index).bytes;
        let current = self.current.as_mut().expect("a file is being copied");
        let mut chunk = vec![0; (length - current.at).min(CHUNK_BYTES_MAX as u64) as usize];
        let read = current.file.read_exact_at(&mut chunk, current.at);
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => CopyError::Rotten(current.path.clone()),
            _ => CopyError::Source(current.path.clone(), error),
        })?;
        current.sum.update(&chunk);
        current.at += chunk.len() as u64;
        let is_last = current.at == length;
        current.writer.append(&chunk, is_last).map_err(CopyError::Target)?;
        current.unsynced += chunk.len() as u64;
        if is_last || current.unsynced >= SYNC_BYTES {
            current.writer.sync().map_err(CopyError::Target)?;
            current.unsynced = 0;
        }
        let bytes = chunk.len() as u64;
        (self.done_bytes, self.unnamed_bytes) = (self.done_bytes + bytes, self.unnamed_bytes + bytes);
        self.left_bytes = self.left_bytes.saturating_sub(bytes);
        if !is_last {
            return Ok(Copied::Bytes(bytes, None));
        }
        let checksum = current.sum.digest128().to_be_bytes();
        if self.file_mut(index).checksum != checksum[..] && !mutations::is(Mutation::SkipFileChecksum) {
            let path = self.current.as_ref().map(|current| current.path.clone());
            return Err(CopyError::Rotten(path.expect("it was just read")));
        }
        let Current { writer, .. } = self.current.take().expect("it was just read");
        let file = self.file_mut(index);
        (file.salt, file.chunks) = (Bytes::copy_from_slice(&writer.salt()), writer.chunks());
        (self.next, self.copied) = (index + 1, self.copied + 1);
        if self.unnamed_bytes >= NAME_BYTES || now >= self.named + NAME_EVERY {
            self.partial = Some(self.name(place, random()).map_err(CopyError::Target)?);
            (self.named, self.unnamed_bytes) = (now, 0);
        }
        Ok(Copied::Bytes(bytes, Some(index)))
    }

    /// It comes to no end. Gives what of it is copied, if that can be named: what is not is not durable. The rest is removed, now or at
    /// the next opening.
    pub(super) fn abandon(mut self, place: &Place<M>, salt: Salt) -> Option<BaseRecord> {
        if let Some(current) = self.current.take() {
            let _ = place.medium.remove(&file_path(&place.dir, &current.writer.salt()));
        }
        if mutations::is(Mutation::KeepUnnamed) {
            return Some(self.with(|file| !file.salt.is_empty()));
        }
        if self.copied == 0 {
            return None;
        }
        self.name(place, salt).ok().or(self.partial)
    }

    /// What it says if it comes to no end, with these of its files.
    fn with(&self, has: impl Fn(&StoredFile) -> bool) -> BaseRecord {
        let mut record = self.record.clone();
        record.trees.iter_mut().for_each(|tree| tree.files.retain(&has));
        record
    }

    /// Names what is copied, so that it is not copied again if this comes to no end.
    fn name(&self, place: &Place<M>, salt: Salt) -> io::Result<BaseRecord> {
        let there = durable(place)?;
        let record = self.with(|file| there.contains(&file_path(&place.dir, &file.salt)));
        write(place, &path(&place.dir, record.number).with_extension(PARTIAL), &record, salt)?;
        Ok(record)
    }

    /// The base is there: its manifest is written.
    pub(super) fn finish(&self, place: &Place<M>, salt: Salt) -> io::Result<()> {
        write(place, &path(&place.dir, self.record.number), &self.record, salt)
    }

    fn nth(&self, index: usize) -> Option<(usize, usize)> {
        let trees = self.record.trees.iter().enumerate();
        let mut files = trees.flat_map(|(at, tree)| (0..tree.files.len()).map(move |file| (at, file)));
        files.nth(index)
    }

    fn file_mut(&mut self, index: usize) -> &mut StoredFile {
        let (tree, file) = self.nth(index).expect("it was just looked at");
        &mut self.record.trees[tree].files[file]
    }
}

/// The files of trees that are there, durably. What was copied may have gone with a power cut of its disk, of which nobody has told.
fn durable<M: Medium>(place: &Place<M>) -> io::Result<BTreeSet<PathBuf>> {
    let dir = place.dir.join(FILES);
    place.medium.sync_dir(&dir)?;
    Ok(place.medium.list(&dir)?.into_iter().collect())
}

fn write<M: Medium>(place: &Place<M>, path: &Path, record: &BaseRecord, salt: Salt) -> io::Result<()> {
    let content = record.encode_to_vec();
    let Place { medium, backup, key, .. } = place;
    format::replace(medium, path, Kind::Base, (*backup, salt), key.as_ref(), &content).map(drop)
}

/// Where a base's manifest lies.
pub(super) fn path(chain: &Path, number: u32) -> PathBuf {
    chain.join(BASES).join(format!("{number:04}"))
}

/// What one of these bases has of a file, and is there. The same name alone says nothing: a tree gives it out again after a crash.
fn find(
    known: [&[BaseRecord]; 2],
    tree: &str,
    file: &StoredFile,
    is_there: impl Fn(&StoredFile) -> bool,
) -> Option<StoredFile> {
    let mut files = known.into_iter().flatten().flat_map(files_of);
    let is_it = |known: &(&str, &StoredFile)| identity(known.0, known.1) == identity(tree, file);
    files.find(|known| is_it(known) && is_there(known.1)).map(|(_, file)| file.clone())
}

/// Bytes of its files that none of these bases has, of those that are there.
fn bytes_unknown<M: Medium>(
    record: &BaseRecord,
    place: &Place<M>,
    known: [&[BaseRecord]; 2],
    there: &BTreeSet<PathBuf>,
) -> u64 {
    let known = known.into_iter().flatten().flat_map(files_of);
    let known = known.filter(|(_, file)| there.contains(&file_path(&place.dir, &file.salt)));
    let known: BTreeSet<_> = known.map(|(tree, file)| identity(tree, file)).collect();
    let unknown = files_of(record).filter(|(tree, file)| !known.contains(&identity(tree, file)));
    unknown.map(|(_, file)| file.bytes).sum()
}

/// A base's files, with their trees' names.
fn files_of(base: &BaseRecord) -> impl Iterator<Item = (&str, &StoredFile)> {
    base.trees.iter().flat_map(|tree| tree.files.iter().map(|file| (&*tree.name, file)))
}

/// By what a file is known to be the same.
fn identity<'a>(tree: &'a str, file: &'a StoredFile) -> (&'a str, &'a str, u64, &'a [u8]) {
    (tree, &file.path, file.bytes, &file.checksum)
}
