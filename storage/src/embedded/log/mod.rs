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

mod follow;
mod group;
mod islands;
mod replay;
mod segments;

use std::io;

use xxhash_rust::xxh3::xxh3_64_with_seed;

pub(super) use self::follow::{Follow, Followed};
use self::group::{HEADER_BYTES, encode};
pub(super) use self::islands::{Island, islands, places};
pub(super) use self::replay::Replay;
pub(super) use self::segments::{Segments, beyond, list};
use crate::batch::Batch;
use crate::medium::{Medium, MediumFile as _};
use crate::mutations::{self, Mutation};

const SALT_BYTES: usize = 8;

/// The salts of new segments: numbers that nobody can guess who writes messages.
#[derive(Debug)]
pub(super) struct Salts {
    /// Random, of this opening alone.
    seed: u64,
    given: u64,
}

impl Salts {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, given: 0 }
    }

    fn next(&mut self) -> u64 {
        self.given += 1;
        xxh3_64_with_seed(&self.given.to_le_bytes(), self.seed)
    }
}

/// The end of the log, where groups are appended.
#[derive(Debug)]
pub(super) struct Log<M: Medium> {
    segments: Segments<M>,
    salts: Salts,
    /// None before the first group, and after a segment was left.
    segment: Option<Segment<M::File>>,
    /// The group that is being made.
    record: Vec<u8>,
}

/// The segment that is written to.
#[derive(Debug)]
struct Segment<F> {
    file: F,
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

impl<M: Medium> Log<M> {
    /// The log of these segments, whose directory is made if it is not there. A group is appended behind all that it holds.
    pub(super) fn open(segments: Segments<M>, salts: Salts) -> io::Result<Self> {
        segments.make_dir()?;
        Ok(Self { segments, salts, segment: None, record: Vec::new() })
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
        let payload_bytes: usize = batches.iter().map(|batch| batch.encoded().len()).sum();
        let longest = (SALT_BYTES + HEADER_BYTES + payload_bytes) as u64;
        let has_room = |segment: &Segment<M::File>| segment.used + longest <= segment.length;
        if !self.segment.as_ref().is_some_and(has_room) {
            self.segment = None;
            let (file, length) = self.segments.begin(number, longest).map_err(AppendError::NoSegment)?;
            self.segment = Some(Segment { file, first: number, salt: self.salts.next(), used: 0, length });
        }
        let segment = self.segment.as_mut().expect("there is one, or was just made");
        self.record.clear();
        if segment.used == 0 {
            self.record.extend(segment.salt.to_le_bytes());
        }
        encode(segment.salt, number, batches, &mut self.record).map_err(AppendError::Failed)?;
        segment.file.write_all_at(&self.record, segment.used).map_err(AppendError::Failed)?;
        let synced =
            if mutations::is(Mutation::CompleteBeforeSync) { Ok(()) } else { segment.file.sync_data() };
        if !mutations::is(Mutation::IgnoreFailedSync) {
            synced.map_err(AppendError::Failed)?;
        }
        segment.used += self.record.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::group::MAGIC;
    use super::segments::{SEGMENT, SPARE};
    use super::*;
    use crate::keys;
    use crate::medium::Disk;

    const SEGMENT_BYTES: u64 = 1 << 20;

    fn batch(number: u64) -> Batch {
        let mut batch = Batch::default();
        batch.put(&keys::user(number), format!("value {number}").into_bytes());
        batch.delete(&keys::user(number + 1000));
        batch
    }

    fn numbers(dir: &Path) -> Vec<u64> {
        let mut replay = Replay::open(&Disk, dir, 0).expect("opens");
        let mut numbers = Vec::new();
        while let Some((number, ops)) = replay.next_group().expect("reads") {
            let value = format!("value {number}").into_bytes();
            let (put, delete) = (keys::user(number), keys::user(number + 1000));
            assert_eq!(ops, [(put.as_ref(), Some(&value[..])), (delete.as_ref(), None)]);
            numbers.push(number);
        }
        numbers
    }

    fn segments(dir: &Path) -> Segments<Disk> {
        Segments::new(Disk, dir.to_owned(), SEGMENT_BYTES)
    }

    fn path_of(dir: &Path, first: u64) -> PathBuf {
        segments(dir).path_of(first, SEGMENT)
    }

    fn open(dir: &Path, segment_bytes: u64) -> Log<Disk> {
        Log::open(Segments::new(Disk, dir.to_owned(), segment_bytes), Salts::new(7)).expect("opened")
    }

    fn begin(dir: &Path, number: u64) -> Log<Disk> {
        let mut log = open(dir, SEGMENT_BYTES);
        log.append(number, &[&batch(number)]).expect("appended");
        log
    }

    fn fill_up(log: &mut Log<Disk>) {
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
        segments(dir.path()).release(6).expect("released");
        assert_eq!(numbers(dir.path()), [5, 6, 7, 8, 9]);
        segments(dir.path()).release(7).expect("released");
        assert_eq!(numbers(dir.path()), [8, 9]);
        fill_up(&mut log);
        // The file of the groups 5 to 7 is used again.
        log.append(10, &[&batch(10)]).expect("appended");
        assert!(segments(dir.path()).with_ending(SPARE).expect("listed").is_empty());
        assert_eq!(numbers(dir.path()), [8, 9, 10]);
        segments(dir.path()).release_all().expect("released");
        assert_eq!(numbers(dir.path()), [] as [u64; 0]);
    }

    #[test]
    fn a_gap_between_segments_ends_the_log_and_says_what_is_missing() {
        let dir = tempfile::tempdir().expect("a directory");
        begin(dir.path(), 1);
        begin(dir.path(), 3);
        assert_eq!(numbers(dir.path()), [1]);
        assert_eq!(Replay::open(&Disk, dir.path(), 0).expect("opens").promised(), Some(2));
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
        crate::medium::MediumFile::write_all_at(&segment.file, &forged, segment.used).expect("written");
        assert_eq!(numbers(dir.path()), [1]);
    }

    #[test]
    fn groups_behind_damage_are_found_for_salvage() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = begin(dir.path(), 1);
        let second = log.segment.as_ref().expect("there is one").used as usize;
        (2..5).for_each(|number| log.append(number, &[&batch(number)]).expect("appended"));
        let mut bytes = fs::read(path_of(dir.path(), 1)).expect("read");
        bytes[second + HEADER_BYTES] ^= 1;
        let numbers: Vec<_> = islands(&bytes, 1).iter().map(|island| island.number).collect();
        assert_eq!(numbers, [1, 3, 4]);
    }

    /// Each of them has a length up to the segment's end, so to look at all took the square of it: hours for a few MiB.
    #[test]
    fn a_message_full_of_what_looks_like_groups_does_not_hold_up_the_search_behind_damage() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = open(dir.path(), 16 << 20);
        let fake = [&MAGIC[..], &(8u32 << 20).to_le_bytes(), &2u64.to_le_bytes()].concat();
        let numbered = [&MAGIC[..], &(8u32 << 20).to_le_bytes(), &7_000_000u64.to_le_bytes()].concat();
        let mut hostile = Batch::default();
        hostile.put(&keys::user(1), [fake.repeat(8), numbered.repeat(200_000)].concat());
        log.append(1, &[&hostile]).expect("appended");
        (2..5).for_each(|number| log.append(number, &[&batch(number)]).expect("appended"));
        let path = path_of(dir.path(), 1);
        let mut bytes = fs::read(&path).expect("read");
        bytes[SALT_BYTES + HEADER_BYTES] ^= 1;
        fs::write(&path, &bytes).expect("written");
        let numbers: Vec<_> = islands(&bytes, 1).iter().map(|island| island.number).collect();
        assert_eq!(numbers, [2, 3, 4]);
        let mut replay = Replay::open(&Disk, dir.path(), 1).expect("opens");
        assert_eq!(replay.next_group().expect("reads").map(|(number, _)| number), Some(2));
    }

    #[test]
    fn a_file_whose_name_is_no_group_of_a_log_is_no_segment() {
        let dir = tempfile::tempdir().expect("a directory");
        begin(dir.path(), 5);
        for first in [0, u64::MAX] {
            fs::copy(path_of(dir.path(), 5), path_of(dir.path(), first)).expect("copied");
        }
        assert_eq!(numbers(dir.path()), [5]);
        segments(dir.path()).release(5).expect("released");
    }

    #[test]
    fn damage_to_groups_that_are_in_the_tables_hides_none_that_are_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = begin(dir.path(), 1);
        let second = log.segment.as_ref().expect("there is one").used as usize;
        (2..6).for_each(|number| log.append(number, &[&batch(number)]).expect("appended"));
        let path = path_of(dir.path(), 1);
        let mut bytes = fs::read(&path).expect("read");
        bytes[second + HEADER_BYTES] ^= 1;
        fs::write(&path, bytes).expect("written");
        let read = |after| {
            let mut replay = Replay::open(&Disk, dir.path(), after).expect("opens");
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
        let mut log = open(dir.path(), SEGMENT_BYTES);
        let mut large = Batch::default();
        large.put(&keys::user(1), vec![7; SEGMENT_BYTES as usize + 1]);
        log.append(1, &[&large]).expect("appended");
        log.append(2, &[&batch(2)]).expect("appended");
        let mut replay = Replay::open(&Disk, dir.path(), 0).expect("opens");
        let (number, ops) = replay.next_group().expect("reads").expect("there");
        assert_eq!((number, ops[0].1.map(<[u8]>::len)), (1, Some(SEGMENT_BYTES as usize + 1)));
        assert!(replay.next_group().expect("reads").is_some());
        assert!(replay.next_group().expect("reads").is_none());
    }
}
