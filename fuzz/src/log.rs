//! The log's recovery over damaged segments: each group that is given is one that was written, in its order, none behind a gap;
//! and none that lies before the first damage is missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use tempfile::TempDir;
use tern_storage::embedded::fuzzing::{self, Group, Replayed};

use crate::fixtures::{SEGMENTS, first_of};
use crate::script::Script;

/// Bytes before a segment's first group: its salt.
const SALT_BYTES: usize = 8;

/// Bytes of a group before its writes.
const HEADER_BYTES: usize = 24;

/// A segment is made longer by no more than this.
const SEGMENT_BYTES_MAX: usize = 64 << 10;

/// A group where it was written.
struct Written {
    segment: usize,
    at: usize,
    bytes: usize,
    group: Group,
}

/// All groups of the real log, in order.
static WRITTEN: LazyLock<Vec<Written>> = LazyLock::new(|| {
    let mut written = Vec::new();
    for (segment, bytes) in SEGMENTS.iter().enumerate() {
        let first = first_of(bytes);
        let islands = fuzzing::islands(bytes, first);
        for ((at, number, bytes), group) in fuzzing::places(bytes, first).into_iter().zip(islands) {
            assert_eq!(number, group.number);
            written.push(Written { segment, at, bytes, group });
        }
    }
    assert!(written.is_sorted_by(|one, next| one.group.number + 1 == next.group.number));
    written
});

thread_local! {
    static DIRECTORY: TempDir = directory();
}

/// In memory where there is such a place, for each run writes a log.
fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a temporary directory")
}

fn path_of(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.log"))
}

/// Script: up to which group the tables have all; then what is changed in the real segments.
pub fn log(data: &[u8]) {
    let mut script = Script::new(data);
    let (begin, end) = (WRITTEN[0].group.number, WRITTEN[WRITTEN.len() - 1].group.number);
    let after = begin - 1 + script.below((end - begin + 3) as usize) as u64;
    let segments = damaged(script);
    let read = DIRECTORY.with(|dir| {
        for (segment, bytes) in segments.iter().enumerate() {
            fs::write(path_of(dir.path(), first_of(SEGMENTS[segment])), bytes).expect("written");
        }
        fuzzing::replay(dir.path(), after).expect("the directory is there")
    });
    check(&read, after, &segments);
    for (segment, bytes) in segments.iter().enumerate() {
        check_islands(bytes, first_of(SEGMENTS[segment]));
    }
}

fn damaged(mut script: Script) -> Vec<Vec<u8>> {
    let mut segments: Vec<Vec<u8>> = SEGMENTS.iter().map(|bytes| bytes.to_vec()).collect();
    while !script.is_done() {
        let segment = script.below(segments.len());
        let at = script.below(segments[segment].len() + 1);
        match script.byte() % 6 {
            0 => overwrite(&mut segments[segment], at, script.piece()),
            1 => {
                let (from, begin) = (script.below(segments.len()), script.word().into());
                let source = segments[from].iter().skip(begin).take(script.word().into());
                let copy: Vec<u8> = source.copied().collect();
                overwrite(&mut segments[segment], at, &copy);
            }
            2 => segments[segment].truncate(at),
            3 => {
                let begin = at / 512 * 512;
                let zeros = vec![0; 512.min(segments[segment].len() - begin)];
                overwrite(&mut segments[segment], begin, &zeros);
            }
            4 => {
                if let Some(byte) = segments[segment].get_mut(at) {
                    *byte ^= 1 << (script.byte() % 8);
                }
            }
            _ => {
                let other = script.below(segments.len());
                segments.swap(segment, other);
            }
        }
    }
    segments
}

fn overwrite(segment: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = (at + bytes.len()).min(SEGMENT_BYTES_MAX);
    if at < end {
        segment.resize(segment.len().max(end), 0);
        segment[at..end].copy_from_slice(&bytes[..end - at]);
    }
}

fn check(read: &Replayed, after: u64, segments: &[Vec<u8>]) {
    assert!(read.error.is_none(), "a whole group is unreadable: {:?}", read.error);
    for group in &read.groups {
        let written = WRITTEN.iter().any(|written| written.group == *group);
        assert!(written, "group {} was given, but is not what was written", group.number);
    }
    for pair in read.groups.windows(2) {
        let (one, next) = (pair[0].number, pair[1].number);
        assert!(next > one, "group {next} was given behind {one}");
        assert!(
            next == one + 1 || next <= after + 1,
            "group {next} was given behind a gap from {one}, after {after}"
        );
    }
    let first = read.first.expect("there are segments");
    if let Some(begin) = read.groups.first() {
        assert!(begin.number == first || begin.number <= after + 1, "the log begins with a gap");
    }
    if let Some(last) = read.groups.last() {
        assert_eq!(read.last, Some(last.number));
    }
    let intact = |written: &&Written| {
        let (bytes, whole) = (&segments[written.segment], SEGMENTS[written.segment]);
        let range = written.at..written.at + written.bytes;
        bytes.get(..SALT_BYTES) == whole.get(..SALT_BYTES) && bytes.get(range.clone()) == whole.get(range)
    };
    let mut given = read.groups.iter();
    for written in WRITTEN.iter().filter(|written| written.group.number >= first).take_while(intact) {
        assert_eq!(given.next(), Some(&written.group), "a group before the first damage is not given");
    }
    assert_eq!(read.promised, Some(first_of(SEGMENTS[SEGMENTS.len() - 1]) - 1));
}

/// What salvage finds is of what was written.
fn check_islands(bytes: &[u8], first: u64) {
    for island in fuzzing::islands(bytes, first) {
        let written = WRITTEN.iter().any(|written| written.group == island);
        assert!(written, "salvage found group {}, which is not what was written", island.number);
    }
}

/// The data is a segment, named by the number that its first group should have: what is found in it is whole, and as it lies
/// there.
pub fn segment(data: &[u8]) {
    let first = first_of(data);
    let places = fuzzing::places(data, first);
    let mut end = SALT_BYTES;
    for (at, number, bytes) in &places {
        assert!(*at >= end && *bytes >= HEADER_BYTES, "two groups lie in the same place");
        end = at + bytes;
        assert_eq!(data[at + 8..at + 16], number.to_le_bytes());
    }
    assert!(end <= data.len().max(SALT_BYTES));
    let islands = fuzzing::islands(data, first);
    assert!(islands.len() <= places.len());
    let read = SEGMENT.path().join(format!("{first:020}.log"));
    fs::write(&read, data).expect("written");
    let replayed = fuzzing::replay(SEGMENT.path(), 0).expect("the directory is there");
    fs::remove_file(&read).expect("it is there");
    for (at, group) in replayed.groups.iter().enumerate() {
        assert_eq!(group.number, first + at as u64, "groups are given out of order");
        assert!(islands.contains(group), "a group was given that salvage does not find");
    }
}

static SEGMENT: LazyLock<TempDir> = LazyLock::new(directory);
