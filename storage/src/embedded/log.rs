//! The log: what makes a group durable. Groups are appended to a segment that is as long as it will ever be, and synced;
//! as neither its length nor its place on the disk changes, a sync writes data alone and waits for nobody's metadata.
//!
//! A segment is a file named by the number of its first group. It begins with its salt (u64), a random number, and groups
//! follow without a gap: `"tlog", payload bytes: u32, number: u64, xxh3 of salt, number and payload: u64, payload`,
//! little-endian. The payload is the group's writes in order: `1, key bytes: u16, value bytes: u32, key, value` sets a key,
//! `2, key bytes: u16, key` removes it. What follows the last group is zeros, or bytes of what the file was before: those have
//! another salt, so that not even a message that looks like a group is taken for one. A segment ends where the next one
//! begins, whatever it holds beyond: that was never promised.
//!
//! A start begins a new segment with its first group, and leaves those before it as they are until the tables have them.

use std::collections::hash_map::RandomState;
use std::fs::{self, File};
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::files::{self, UNFINISHED};

use crate::batch::{Batch, Op};

const MAGIC: &[u8; 4] = b"tlog";
const HEADER_BYTES: usize = 24;
const SALT_BYTES: usize = 8;

const PUT: u8 = 1;
const DELETE: u8 = 2;

/// What the names of segments end with, and those of files that were segments, for the next ones to be made of.
const SEGMENT: &str = "log";
const SPARE: &str = "spare";

/// Files kept to be used again. A flush of the tables lets some segments go at once; more than that is given back.
const SPARES_MAX: usize = 4;

/// The end of the log, where groups are appended.
#[derive(Debug)]
pub(super) struct Log {
    dir: PathBuf,
    /// Bytes of a segment, unless one group is longer.
    segment_bytes: u64,
    /// None before the first group, and after a segment was left.
    segment: Option<Segment>,
    /// The group that is being made.
    record: Vec<u8>,
}

/// The segment that is written to.
#[derive(Debug)]
struct Segment {
    file: File,
    /// The number of its first group.
    first: u64,
    salt: u64,
    /// Bytes used, and bytes there are.
    used: u64,
    length: u64,
}

/// Why a group is not in the log.
#[derive(Debug)]
pub(super) enum AppendError {
    /// There is no segment for it, and none could be made: nothing was written.
    NoSegment(io::Error),
    /// Nobody knows what the disk has of it.
    Failed(io::Error),
}

impl Log {
    /// The log in a directory, which is made if it is not there. A group is appended behind all that it holds.
    pub(super) fn open(dir: &Path, segment_bytes: u64) -> io::Result<Self> {
        files::make_dir(dir)?;
        for path in with_ending(dir, UNFINISHED)? {
            fs::remove_file(path)?;
        }
        Ok(Self { dir: dir.to_owned(), segment_bytes, segment: None, record: Vec::new() })
    }

    /// The number of the first group of the segment that is written to.
    pub(super) fn first_of_segment(&self) -> u64 {
        self.segment.as_ref().map_or(0, |segment| segment.first)
    }

    /// Whether the segment is so full that the next one should be made ready.
    pub(super) fn is_half_full(&self) -> bool {
        self.segment.as_ref().is_some_and(|segment| segment.used > segment.length / 2)
    }

    /// Appends a group; it is durable when this returns.
    pub(super) fn append(&mut self, number: u64, batches: &[&Batch]) -> Result<(), AppendError> {
        let payload_bytes: usize = batches.iter().map(|batch| batch.bytes() + 7 * batch.len()).sum();
        let longest = (SALT_BYTES + HEADER_BYTES + payload_bytes) as u64;
        let has_room = |segment: &Segment| segment.used + longest <= segment.length;
        if !self.segment.as_ref().is_some_and(has_room) {
            self.segment = None;
            let length = self.segment_bytes.max(longest);
            let (file, length) = segment(&self.dir, number, length).map_err(AppendError::NoSegment)?;
            self.segment = Some(Segment { file, first: number, salt: salt(), used: 0, length });
        }
        let segment = self.segment.as_mut().expect("there is one, or was just made");
        self.record.clear();
        if segment.used == 0 {
            self.record.extend(segment.salt.to_le_bytes());
        }
        encode(segment.salt, number, batches, &mut self.record).map_err(AppendError::Failed)?;
        segment.file.write_all_at(&self.record, segment.used).map_err(AppendError::Failed)?;
        segment.file.sync_data().map_err(AppendError::Failed)?;
        segment.used += self.record.len() as u64;
        Ok(())
    }
}

/// A number that nobody can guess who writes messages.
fn salt() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn path_of(dir: &Path, first: u64, ending: &str) -> PathBuf {
    dir.join(format!("{first:020}.{ending}"))
}

/// A new segment, whole and durable, made of a spare one if there is one of that length.
fn segment(dir: &Path, first: u64, length: u64) -> io::Result<(File, u64)> {
    let path = path_of(dir, first, SEGMENT);
    let fits = |spare: &PathBuf| fs::metadata(spare).is_ok_and(|spare| spare.len() == length);
    match with_ending(dir, SPARE)?.into_iter().find(fits) {
        Some(spare) => fs::rename(&spare, &path)?,
        None => make(&path, length)?,
    }
    files::sync_dir(dir)?;
    let file = files::options().write(true).open(&path)?;
    Ok((file, length))
}

/// Makes a file of zeros that lie on the disk, and gives it its name when they do. The name is not synced.
fn make(path: &Path, length: u64) -> io::Result<()> {
    let unfinished = path.with_extension(UNFINISHED);
    let made = fill(&unfinished, length).and_then(|()| fs::rename(&unfinished, path));
    if made.is_err() {
        // Half of it would take room that is wanted.
        let _ = fs::remove_file(&unfinished);
    }
    made
}

fn fill(path: &Path, length: u64) -> io::Result<()> {
    let file = files::options().write(true).create(true).truncate(true).open(path)?;
    let zeros = vec![0; 1 << 20];
    let mut at = 0;
    while at < length {
        let bytes = zeros.len().min((length - at) as usize);
        file.write_all_at(&zeros[..bytes], at)?;
        at += bytes as u64;
    }
    file.sync_all()
}

/// Has a spare segment ready before it is needed. `next` is a number that no segment begins with yet.
pub(super) fn prepare_spare(dir: &Path, next: u64, segment_bytes: u64) -> io::Result<()> {
    if with_ending(dir, SPARE)?.is_empty() { make(&path_of(dir, next, SPARE), segment_bytes) } else { Ok(()) }
}

/// How many segments there are.
pub(super) fn count(dir: &Path) -> io::Result<usize> {
    Ok(segments(dir)?.len())
}

/// Lets the segments go whose groups are all elsewhere, durably: those up to `upto` are. The newest segment stays, for it
/// may be written to.
pub(super) fn release(dir: &Path, upto: u64, segment_bytes: u64) -> io::Result<()> {
    let segments = segments(dir)?;
    let ends = segments.iter().skip(1).map(|(first, _)| first - 1);
    let old = segments.iter().zip(ends).filter(|(_, end)| *end <= upto);
    old.map(|(segment, _)| segment).try_for_each(|segment| let_go(dir, segment, segment_bytes))?;
    files::sync_dir(dir)
}

/// Lets all segments go: all their groups are elsewhere, durably, and nobody appends any more.
pub(super) fn release_all(dir: &Path, segment_bytes: u64) -> io::Result<()> {
    segments(dir)?.iter().try_for_each(|segment| let_go(dir, segment, segment_bytes))?;
    files::sync_dir(dir)
}

fn let_go(dir: &Path, (first, path): &(u64, PathBuf), segment_bytes: u64) -> io::Result<()> {
    if with_ending(dir, SPARE)?.len() >= SPARES_MAX || fs::metadata(path)?.len() != segment_bytes {
        fs::remove_file(path)
    } else {
        fs::rename(path, path_of(dir, *first, SPARE))
    }
}

/// The segments by the numbers of their first groups, rising; none if there is no directory.
pub(super) fn segments(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    // Groups are counted from 1; no log comes near the end of the numbers.
    let number = |path: &PathBuf| {
        let number = path.file_stem()?.to_str()?.parse().ok()?;
        (1..u64::MAX / 2).contains(&number).then_some(number)
    };
    let mut found: Vec<_> =
        with_ending(dir, SEGMENT)?.into_iter().filter_map(|path| Some((number(&path)?, path))).collect();
    found.sort();
    Ok(found)
}

fn with_ending(dir: &Path, ending: &str) -> io::Result<Vec<PathBuf>> {
    Ok(files::paths_in(dir)?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect())
}

/// Reads a log from its first group to its last whole one.
#[derive(Debug)]
pub(super) struct Replay {
    segments: Vec<(u64, PathBuf)>,
    /// Groups up to this one are not needed, whole or not.
    after: u64,
    /// The segment that is being read; 0 before the first.
    segment: usize,
    bytes: Vec<u8>,
    at: usize,
    /// The number that comes next; `None` before the first segment.
    next: Option<u64>,
    salt: u64,
}

impl Replay {
    /// From the first segment on that holds groups beyond `after`.
    pub(super) fn open(dir: &Path, after: u64) -> io::Result<Self> {
        let mut segments = segments(dir)?;
        let needless = segments.iter().skip(1).take_while(|(first, _)| first - 1 <= after).count();
        segments.drain(..needless);
        Ok(Self { segments, after, segment: 0, bytes: Vec::new(), at: 0, next: None, salt: 0 })
    }

    /// The number that the log begins with, whether that group is there or not.
    pub(super) fn first(&self) -> Option<u64> {
        self.segments.first().map(|(first, _)| *first)
    }

    /// A group that must be there: a segment is begun when all groups before it are durable.
    pub(super) fn promised(&self) -> Option<u64> {
        self.segments.last().map(|(first, _)| first - 1)
    }

    /// The number of the last whole group; one less than the log begins with if there is none. After the last group was read.
    pub(super) fn last(&self) -> Option<u64> {
        self.next.map(|next| next - 1)
    }

    /// Where the next group should be: the file, and the byte in it.
    pub(super) fn place(&self) -> Option<(&Path, usize)> {
        let (_, path) = self.segments.get(self.segment.checked_sub(1)?)?;
        Some((path, self.at))
    }

    /// The next group and its number; `None` after the last whole one.
    pub(super) fn next_group(&mut self) -> io::Result<Option<(u64, Vec<RawOp<'_>>)>> {
        loop {
            let begin_of_next = self.segments.get(self.segment).map(|(first, _)| *first);
            let is_within = |next: &u64| begin_of_next.is_none_or(|begin| *next < begin);
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let next = self.next.filter(is_within);
            let found = next.and_then(|next| Some((next, decode(self.salt, rest, next)?)));
            if found.is_none() && next.is_some_and(|next| next <= self.after) && self.skip_needless() {
                continue;
            }
            if let Some((number, end)) = found {
                let payload = self.at + HEADER_BYTES..self.at + end;
                self.at += end;
                self.next = Some(number + 1);
                let unreadable =
                    || io::Error::new(io::ErrorKind::InvalidData, format!("group {number} of the log"));
                return ops(&self.bytes[payload]).map(|ops| Some((number, ops))).ok_or_else(unreadable);
            }
            let Some((first, path)) = self.segments.get(self.segment) else { return Ok(None) };
            if self.next.is_some_and(|next| next != *first) {
                return Ok(None);
            }
            (self.bytes, self.at, self.next) = (fs::read(path)?, SALT_BYTES, Some(*first));
            self.salt = self.bytes.first_chunk().map_or(0, |salt| u64::from_le_bytes(*salt));
            self.segment += 1;
        }
    }
}

impl Replay {
    /// Goes to the next whole group behind damage to groups that are not needed. Gives whether there is one, and none that is
    /// needed between.
    fn skip_needless(&mut self) -> bool {
        let (after, salt) = (self.after, self.salt);
        let found = self.next.and_then(|next| wholes(&self.bytes, self.at, salt, next).next());
        let found = found.filter(|(_, number, _)| *number <= after + 1);
        if let Some((at, number, _)) = found {
            (self.at, self.next) = (at, Some(number));
        }
        found.is_some()
    }
}

/// Where whole groups begin from a byte on, with their numbers and lengths, whatever lies between. `next` is the number that
/// a group at that byte has.
fn wholes(bytes: &[u8], begin: usize, salt: u64, next: u64) -> impl Iterator<Item = (usize, u64, usize)> {
    let (mut at, mut begin, mut next) = (begin, begin, next);
    std::iter::from_fn(move || {
        while let Some(rest) = bytes.get(at..).filter(|rest| rest.len() >= HEADER_BYTES) {
            let number = rest[8..].first_chunk().map_or(0, |number| u64::from_le_bytes(*number));
            // Those between took a header each at least. Anything else that looks like a group is of somebody's message:
            // to check the sums of many such, each as long as the segment, would take hours.
            let skipped_max = ((at - begin) / HEADER_BYTES) as u64;
            let may_be =
                rest.starts_with(MAGIC) && number.checked_sub(next).is_some_and(|n| n <= skipped_max);
            let group = if may_be { decode(salt, rest, number) } else { None };
            if let Some(length) = group {
                let found = at;
                at += length;
                (begin, next) = (at, number + 1);
                return Some((found, number, length));
            }
            let magic = rest[1..].iter().position(|byte| *byte == MAGIC[0]);
            at += 1 + magic.unwrap_or(rest.len());
        }
        None
    })
}

/// A whole group that was found in a segment, wherever it lies there.
pub(super) struct Island {
    pub(super) number: u64,
    pub(super) ops: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// All whole groups of a segment's bytes, those behind damage too: for salvage. `first` is the number in its name.
pub(super) fn islands(bytes: &[u8], first: u64) -> Vec<Island> {
    let owned = |(key, value): RawOp<'_>| (key.to_vec(), value.map(<[u8]>::to_vec));
    let island = |(at, number, length)| {
        let ops = ops(&bytes[at + HEADER_BYTES..at + length])?;
        Some(Island { number, ops: ops.into_iter().map(owned).collect() })
    };
    places(bytes, first).into_iter().filter_map(island).collect()
}

/// Where they lie: where each begins, its number, and its length.
pub(super) fn places(bytes: &[u8], first: u64) -> Vec<(usize, u64, usize)> {
    let salt = bytes.first_chunk().map(|salt| u64::from_le_bytes(*salt));
    salt.map_or(Vec::new(), |salt| wholes(bytes, SALT_BYTES, salt, first).collect())
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

    const SEGMENT_BYTES: u64 = 1 << 20;

    fn batch(number: u64) -> Batch {
        let mut batch = Batch::default();
        batch.put(keys::user(number), format!("value {number}").into_bytes());
        batch.delete(keys::user(number + 1000));
        batch
    }

    fn numbers(dir: &Path) -> Vec<u64> {
        let mut replay = Replay::open(dir, 0).expect("opens");
        let mut numbers = Vec::new();
        while let Some((number, ops)) = replay.next_group().expect("reads") {
            let value = format!("value {number}").into_bytes();
            let (put, delete) = (keys::user(number), keys::user(number + 1000));
            assert_eq!(ops, [(put.as_ref(), Some(&value[..])), (delete.as_ref(), None)]);
            numbers.push(number);
        }
        numbers
    }

    fn begin(dir: &Path, number: u64) -> Log {
        let mut log = Log::open(dir, SEGMENT_BYTES).expect("opened");
        log.append(number, &[&batch(number)]).expect("appended");
        log
    }

    fn fill_up(log: &mut Log) {
        let segment = log.segment.as_mut().expect("there is one");
        segment.used = segment.length - 10;
    }

    #[test]
    fn groups_come_back_in_order_over_segments_and_reused_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = begin(dir.path(), 5);
        (6..8).for_each(|number| log.append(number, &[&batch(number)]).expect("appended"));
        fill_up(&mut log);
        (8..10).for_each(|number| log.append(number, &[&batch(number)]).expect("appended"));
        assert_eq!(log.first_of_segment(), 8);
        // The first segment's last group does not reach its end, as the second one's name says.
        assert_eq!(numbers(dir.path()), [5, 6, 7, 8, 9]);
        release(dir.path(), 6, SEGMENT_BYTES).expect("released");
        assert_eq!(numbers(dir.path()), [5, 6, 7, 8, 9]);
        release(dir.path(), 7, SEGMENT_BYTES).expect("released");
        assert_eq!(numbers(dir.path()), [8, 9]);
        fill_up(&mut log);
        // The file of the groups 5 to 7 is used again.
        log.append(10, &[&batch(10)]).expect("appended");
        assert!(with_ending(dir.path(), SPARE).expect("listed").is_empty());
        assert_eq!(numbers(dir.path()), [8, 9, 10]);
        release_all(dir.path(), SEGMENT_BYTES).expect("released");
        assert_eq!(numbers(dir.path()), [] as [u64; 0]);
    }

    #[test]
    fn a_gap_between_segments_ends_the_log_and_says_what_is_missing() {
        let dir = tempfile::tempdir().expect("a directory");
        begin(dir.path(), 1);
        begin(dir.path(), 3);
        assert_eq!(numbers(dir.path()), [1]);
        assert_eq!(Replay::open(dir.path(), 0).expect("opens").promised(), Some(2));
    }

    #[test]
    fn what_a_segment_holds_beyond_the_begin_of_the_next_was_never_promised() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = begin(dir.path(), 1);
        log.append(2, &[&batch(7)]).expect("appended");
        begin(dir.path(), 2);
        assert_eq!(numbers(dir.path()), [1, 2]);
    }

    #[test]
    fn a_message_that_looks_like_a_group_is_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = begin(dir.path(), 1);
        let segment = log.segment.expect("there is one");
        let mut forged = Vec::new();
        encode(0, 2, &[&batch(2)], &mut forged).expect("encoded");
        segment.file.write_all_at(&forged, segment.used).expect("written");
        assert_eq!(numbers(dir.path()), [1]);
    }

    #[test]
    fn groups_behind_damage_are_found_for_salvage() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = begin(dir.path(), 1);
        let second = log.segment.as_ref().expect("there is one").used as usize;
        (2..5).for_each(|number| log.append(number, &[&batch(number)]).expect("appended"));
        let mut bytes = fs::read(path_of(dir.path(), 1, SEGMENT)).expect("read");
        bytes[second + HEADER_BYTES] ^= 1;
        let numbers: Vec<_> = islands(&bytes, 1).iter().map(|island| island.number).collect();
        assert_eq!(numbers, [1, 3, 4]);
    }

    /// Each of them has a length up to the segment's end, so to look at all took the square of it: hours for a few MiB.
    #[test]
    fn a_message_full_of_what_looks_like_groups_does_not_hold_up_the_search_behind_damage() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = Log::open(dir.path(), 16 << 20).expect("opened");
        let fake = [&MAGIC[..], &(8u32 << 20).to_le_bytes(), &2u64.to_le_bytes()].concat();
        let numbered = [&MAGIC[..], &(8u32 << 20).to_le_bytes(), &7_000_000u64.to_le_bytes()].concat();
        let mut hostile = Batch::default();
        hostile.put(keys::user(1), [fake.repeat(8), numbered.repeat(200_000)].concat());
        log.append(1, &[&hostile]).expect("appended");
        (2..5).for_each(|number| log.append(number, &[&batch(number)]).expect("appended"));
        let path = path_of(dir.path(), 1, SEGMENT);
        let mut bytes = fs::read(&path).expect("read");
        bytes[SALT_BYTES + HEADER_BYTES] ^= 1;
        fs::write(&path, &bytes).expect("written");
        let numbers: Vec<_> = islands(&bytes, 1).iter().map(|island| island.number).collect();
        assert_eq!(numbers, [2, 3, 4]);
        let mut replay = Replay::open(dir.path(), 1).expect("opens");
        assert_eq!(replay.next_group().expect("reads").map(|(number, _)| number), Some(2));
    }

    #[test]
    fn a_file_whose_name_is_no_group_of_a_log_is_no_segment() {
        let dir = tempfile::tempdir().expect("a directory");
        begin(dir.path(), 5);
        for first in [0, u64::MAX] {
            fs::copy(path_of(dir.path(), 5, SEGMENT), path_of(dir.path(), first, SEGMENT)).expect("copied");
        }
        assert_eq!(numbers(dir.path()), [5]);
        release(dir.path(), 5, SEGMENT_BYTES).expect("released");
    }

    #[test]
    fn damage_to_groups_that_are_in_the_tables_hides_none_that_are_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = begin(dir.path(), 1);
        let second = log.segment.as_ref().expect("there is one").used as usize;
        (2..6).for_each(|number| log.append(number, &[&batch(number)]).expect("appended"));
        let path = path_of(dir.path(), 1, SEGMENT);
        let mut bytes = fs::read(&path).expect("read");
        bytes[second + HEADER_BYTES] ^= 1;
        fs::write(&path, bytes).expect("written");
        let read = |after| {
            let mut replay = Replay::open(dir.path(), after).expect("opens");
            let mut numbers = Vec::new();
            while let Some((number, _)) = replay.next_group().expect("reads") {
                numbers.push(number);
            }
            numbers
        };
        assert_eq!(read(1), [1]);
        assert_eq!(read(2), [1, 3, 4, 5]);
    }

    #[test]
    fn a_group_longer_than_a_segment_gets_one_of_its_own() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = Log::open(dir.path(), SEGMENT_BYTES).expect("opened");
        let mut large = Batch::default();
        large.put(keys::user(1), vec![7; SEGMENT_BYTES as usize + 1]);
        log.append(1, &[&large]).expect("appended");
        log.append(2, &[&batch(2)]).expect("appended");
        let mut replay = Replay::open(dir.path(), 0).expect("opens");
        let (number, ops) = replay.next_group().expect("reads").expect("there");
        assert_eq!((number, ops[0].1.map(<[u8]>::len)), (1, Some(SEGMENT_BYTES as usize + 1)));
        assert!(replay.next_group().expect("reads").is_some());
        assert!(replay.next_group().expect("reads").is_none());
    }
}
