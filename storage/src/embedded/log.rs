//! The log: what makes a group durable. Groups are appended to a segment that is as long as it will ever be, and synced;
//! as neither its length nor its place on the disk changes, a sync writes data alone and waits for nobody's metadata.
//!
//! A segment is a file named by the number of its first group. It begins with its salt (u64), a random number, and groups
//! follow without a gap: `"tlog", payload bytes: u32, number: u64, xxh3 of salt, number and payload: u64, payload`,
//! little-endian. The payload is the group's writes in order: `1, key bytes: u16, value bytes: u32, key, value` sets a key,
//! `2, key bytes: u16, key` removes it. What follows the last group is zeros, or bytes of what the file was before: those have
//! another salt, so that not even a message that looks like a group is taken for one.

use std::collections::hash_map::RandomState;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::batch::{Batch, Op};

/// Bytes of a segment, unless one group is longer.
const SEGMENT_BYTES: u64 = 32 << 20;

const MAGIC: &[u8; 4] = b"tlog";
const HEADER_BYTES: usize = 24;
const SALT_BYTES: usize = 8;

const PUT: u8 = 1;
const DELETE: u8 = 2;

/// A segment that was used before, for the next one to be made of.
const SPARE: &str = "spare";

/// What the name of a segment ends with while it is being made.
const UNFINISHED: &str = "unfinished";

/// The end of the log, where groups are appended.
#[derive(Debug)]
pub(super) struct Log {
    dir: PathBuf,
    file: File,
    /// The number of the segment's first group.
    first: u64,
    salt: u64,
    /// Bytes used, and bytes there are.
    used: u64,
    length: u64,
    /// The group that is being made.
    record: Vec<u8>,
}

impl Log {
    /// Begins a log in a directory, with a segment for the group `first` and those after it.
    pub(super) fn begin(dir: &Path, first: u64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == UNFINISHED) {
                fs::remove_file(path)?;
            }
        }
        // That the directory is there must survive a power cut as well.
        if let Some(parent) = dir.parent() {
            File::open(parent)?.sync_all()?;
        }
        let (file, length) = segment(dir, first, SEGMENT_BYTES)?;
        Ok(Self { dir: dir.to_owned(), file, first, salt: salt(), used: 0, length, record: Vec::new() })
    }

    /// The number of the first group of the segment that is written to.
    pub(super) fn first_of_segment(&self) -> u64 {
        self.first
    }

    /// Whether the segment is so full that the next one should be made ready.
    pub(super) fn is_half_full(&self) -> bool {
        self.used > self.length / 2
    }

    /// Appends a group; it is durable when this returns. After an error nobody knows what the disk has.
    pub(super) fn append(&mut self, number: u64, batches: &[&Batch]) -> io::Result<()> {
        let payload_bytes: usize = batches.iter().map(|batch| batch.bytes() + 7 * batch.len()).sum();
        let longest = (SALT_BYTES + HEADER_BYTES + payload_bytes) as u64;
        if self.used + longest > self.length {
            (self.file, self.length) = segment(&self.dir, number, SEGMENT_BYTES.max(longest))?;
            (self.first, self.salt, self.used) = (number, salt(), 0);
        }
        self.record.clear();
        if self.used == 0 {
            self.record.extend(self.salt.to_le_bytes());
        }
        encode(self.salt, number, batches, &mut self.record)?;
        let bytes = self.record.len() as u64;
        self.file.write_all_at(&self.record, self.used)?;
        self.file.sync_data()?;
        self.used += bytes;
        Ok(())
    }
}

/// A number that nobody can guess who writes messages.
fn salt() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn path_of(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.log"))
}

/// A new segment, whole and durable, made of the spare one if that is there.
fn segment(dir: &Path, first: u64, length: u64) -> io::Result<(File, u64)> {
    let (path, spare) = (path_of(dir, first), dir.join(SPARE));
    if fs::metadata(&spare).is_ok_and(|spare| spare.len() >= length) {
        fs::rename(&spare, &path)?;
    } else {
        make(&path, length)?;
    }
    File::open(dir)?.sync_all()?;
    let file = OpenOptions::new().write(true).open(&path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// Makes a file of zeros that lie on the disk, and gives it its name when they do. The name is not synced.
fn make(path: &Path, length: u64) -> io::Result<()> {
    let unfinished = path.with_extension(UNFINISHED);
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(&unfinished)?;
    let zeros = vec![0; 1 << 20];
    let mut at = 0;
    while at < length {
        let bytes = zeros.len().min((length - at) as usize);
        file.write_all_at(&zeros[..bytes], at)?;
        at += bytes as u64;
    }
    file.sync_all()?;
    fs::rename(unfinished, path)
}

/// Has a spare segment ready before it is needed.
pub(super) fn prepare_spare(dir: &Path) -> io::Result<()> {
    let spare = dir.join(SPARE);
    if spare.exists() { Ok(()) } else { make(&spare, SEGMENT_BYTES) }
}

/// Lets all segments go: their groups are elsewhere, durably.
pub(super) fn release_all(dir: &Path) -> io::Result<()> {
    release(dir, u64::MAX)
}

/// Lets the segments before the one that begins with the group `first` go: all their groups are elsewhere, durably.
pub(super) fn release(dir: &Path, first: u64) -> io::Result<()> {
    let old = segments(dir)?.into_iter().filter(|(number, _)| *number < first);
    for (_, path) in old {
        let spare = dir.join(SPARE);
        if spare.exists() || fs::metadata(&path)?.len() != SEGMENT_BYTES {
            fs::remove_file(path)?;
        } else {
            fs::rename(path, spare)?;
        }
    }
    if dir.exists() { File::open(dir)?.sync_all() } else { Ok(()) }
}

/// The segments by the numbers of their first groups, rising; none if there is no directory.
fn segments(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".log"));
        if let Some(first) = name.and_then(|name| name.parse().ok()) {
            found.push((first, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a log from its first group to its last whole one.
#[derive(Debug)]
pub(super) struct Replay {
    segments: std::vec::IntoIter<(u64, PathBuf)>,
    bytes: Vec<u8>,
    at: usize,
    /// The number that comes next; `None` before the first segment.
    next: Option<u64>,
    first: Option<u64>,
    first_of_last: Option<u64>,
    salt: u64,
}

impl Replay {
    /// From the first group on.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let segments = segments(dir)?;
        let first = segments.first().map(|(first, _)| *first);
        let first_of_last = segments.last().map(|(first, _)| *first);
        let segments = segments.into_iter();
        Ok(Self { segments, bytes: Vec::new(), at: 0, next: None, first, first_of_last, salt: 0 })
    }

    /// The number that the log begins with, whether that group is there or not.
    pub(super) fn first(&self) -> Option<u64> {
        self.first
    }

    /// A group that must be there: a segment is begun when all groups before it are durable.
    pub(super) fn promised(&self) -> Option<u64> {
        self.first_of_last.map(|first| first - 1)
    }

    /// The number of the last whole group; one less than the log begins with if there is none. After the last group was read.
    pub(super) fn last(&self) -> Option<u64> {
        self.next.map(|next| next - 1)
    }

    /// The next group and its number; `None` after the last whole one.
    pub(super) fn next_group(&mut self) -> io::Result<Option<(u64, Vec<RawOp<'_>>)>> {
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let found = self.next.and_then(|next| Some((next, decode(self.salt, rest, next)?)));
            if let Some((number, end)) = found {
                let payload = self.at + HEADER_BYTES..self.at + end;
                self.at += end;
                self.next = Some(number + 1);
                let unreadable =
                    || io::Error::new(io::ErrorKind::InvalidData, format!("group {number} of the log"));
                return ops(&self.bytes[payload]).map(|ops| Some((number, ops))).ok_or_else(unreadable);
            }
            let Some((first, path)) = self.segments.next() else { return Ok(None) };
            if self.next.is_some_and(|next| next != first) {
                return Ok(None);
            }
            (self.bytes, self.at, self.next) = (fs::read(path)?, SALT_BYTES, Some(first));
            self.salt = self.bytes.first_chunk().map_or(0, |salt| u64::from_le_bytes(*salt));
        }
    }
}

/// A write as it lies in the log: the key, and the value if it is set.
pub(super) type RawOp<'a> = (&'a [u8], Option<&'a [u8]>);

fn checksum(salt: u64, number: u64, payload: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.update(payload);
    hasher.digest()
}

/// Appends a group to `record`.
fn encode(salt: u64, number: u64, batches: &[&Batch], record: &mut Vec<u8>) -> io::Result<()> {
    let too_long =
        |_| io::Error::new(io::ErrorKind::InvalidInput, "a key, value or group is too long for the log");
    let begin = record.len();
    record.resize(begin + HEADER_BYTES, 0);
    for op in batches.iter().flat_map(|batch| batch.ops()) {
        match op {
            Op::Put(key, value) => {
                record.push(PUT);
                record.extend(u16::try_from(key.as_ref().len()).map_err(too_long)?.to_le_bytes());
                record.extend(u32::try_from(value.len()).map_err(too_long)?.to_le_bytes());
                record.extend_from_slice(key.as_ref());
                record.extend_from_slice(value);
            }
            Op::Delete(key) => {
                record.push(DELETE);
                record.extend(u16::try_from(key.as_ref().len()).map_err(too_long)?.to_le_bytes());
                record.extend_from_slice(key.as_ref());
            }
        }
    }
    let (header, payload) = record[begin..].split_at_mut(HEADER_BYTES);
    header[..4].copy_from_slice(MAGIC);
    header[4..8].copy_from_slice(&u32::try_from(payload.len()).map_err(too_long)?.to_le_bytes());
    header[8..16].copy_from_slice(&number.to_le_bytes());
    header[16..24].copy_from_slice(&checksum(salt, number, payload).to_le_bytes());
    Ok(())
}

/// Where the group `number` that begins here ends; `None` if it is not here, or not whole.
fn decode(salt: u64, bytes: &[u8], number: u64) -> Option<usize> {
    let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
    let length = u32::from_le_bytes(*header[4..].first_chunk()?) as usize;
    let found = u64::from_le_bytes(*header[8..].first_chunk()?);
    let sum = u64::from_le_bytes(*header[16..].first_chunk()?);
    let payload = rest.get(..length)?;
    let whole = header[..4] == *MAGIC && found == number && sum == checksum(salt, number, payload);
    whole.then_some(HEADER_BYTES + length)
}

fn ops(mut payload: &[u8]) -> Option<Vec<RawOp<'_>>> {
    fn take<'a>(payload: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = payload.split_at_checked(bytes)?;
        *payload = rest;
        Some(taken)
    }
    let mut ops = Vec::new();
    while let Some((kind, rest)) = payload.split_first() {
        payload = rest;
        let key_bytes = u16::from_le_bytes(*take(&mut payload, 2)?.first_chunk()?);
        match *kind {
            PUT => {
                let value_bytes = u32::from_le_bytes(*take(&mut payload, 4)?.first_chunk()?);
                let key = take(&mut payload, key_bytes.into())?;
                ops.push((key, Some(take(&mut payload, value_bytes as usize)?)));
            }
            DELETE => ops.push((take(&mut payload, key_bytes.into())?, None)),
            _ => return None,
        }
    }
    Some(ops)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;

    fn batch(number: u64) -> Batch {
        let mut batch = Batch::default();
        batch.put(keys::user(number), format!("value {number}").into_bytes());
        batch.delete(keys::user(number + 1000));
        batch
    }

    fn numbers(dir: &Path) -> Vec<u64> {
        let mut replay = Replay::open(dir).expect("opens");
        let mut numbers = Vec::new();
        while let Some((number, ops)) = replay.next_group().expect("reads") {
            let value = format!("value {number}").into_bytes();
            let (put, delete) = (keys::user(number), keys::user(number + 1000));
            assert_eq!(ops, [(put.as_ref(), Some(&value[..])), (delete.as_ref(), None)]);
            numbers.push(number);
        }
        numbers
    }

    #[test]
    fn groups_come_back_in_order_over_segments_and_reused_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = Log::begin(dir.path(), 5).expect("begun");
        (5..8).for_each(|number| log.append(number, &[&batch(number)]).expect("appended"));
        log.used = log.length - 10;
        (8..10).for_each(|number| log.append(number, &[&batch(number)]).expect("appended"));
        assert_eq!(log.first_of_segment(), 8);
        // The first segment's last group does not reach its end, as the second one's name says.
        assert_eq!(numbers(dir.path()), [5, 6, 7, 8, 9]);
        release(dir.path(), 8).expect("released");
        assert_eq!(numbers(dir.path()), [8, 9]);
        log.used = log.length - 10;
        // The file of the groups 5 to 7 is used again.
        log.append(10, &[&batch(10)]).expect("appended");
        assert!(!dir.path().join(SPARE).exists());
        assert_eq!(numbers(dir.path()), [8, 9, 10]);
        release_all(dir.path()).expect("released");
        assert_eq!(numbers(dir.path()), [] as [u64; 0]);
    }

    #[test]
    fn a_gap_between_segments_ends_the_log_and_says_what_is_missing() {
        let dir = tempfile::tempdir().expect("a directory");
        Log::begin(dir.path(), 1).expect("begun").append(1, &[&batch(1)]).expect("appended");
        Log::begin(dir.path(), 3).expect("begun").append(3, &[&batch(3)]).expect("appended");
        assert_eq!(numbers(dir.path()), [1]);
        assert_eq!(Replay::open(dir.path()).expect("opens").promised(), Some(2));
    }

    #[test]
    fn a_message_that_looks_like_a_group_is_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = Log::begin(dir.path(), 1).expect("begun");
        log.append(1, &[&batch(1)]).expect("appended");
        let mut forged = Vec::new();
        encode(0, 2, &[&batch(2)], &mut forged).expect("encoded");
        log.file.write_all_at(&forged, log.used).expect("written");
        assert_eq!(numbers(dir.path()), [1]);
    }

    #[test]
    fn a_group_longer_than_a_segment_gets_one_of_its_own() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = Log::begin(dir.path(), 1).expect("begun");
        let mut large = Batch::default();
        large.put(keys::user(1), vec![7; SEGMENT_BYTES as usize + 1]);
        log.append(1, &[&large]).expect("appended");
        log.append(2, &[&batch(2)]).expect("appended");
        let mut replay = Replay::open(dir.path()).expect("opens");
        let (number, ops) = replay.next_group().expect("reads").expect("there");
        assert_eq!((number, ops[0].1.map(<[u8]>::len)), (1, Some(SEGMENT_BYTES as usize + 1)));
        assert!(replay.next_group().expect("reads").is_some());
        assert!(replay.next_group().expect("reads").is_none());
    }
}
