//! The files of a log's directory: segments, and spare files for the next ones to be made of.
//!
//! A segment has its whole length, and its name durably, before its first group is written. It is let go by removing it, or
//! by making a spare of it.

use std::io;
use std::path::{Path, PathBuf};

use super::super::files::UNFINISHED;
use crate::medium::{Medium, MediumFile as _, Opening};
use crate::mutations::{self, Mutation};

/// What the names of segments end with, and those of files that were segments, for the next ones to be made of.
pub(super) const SEGMENT: &str = "log";
pub(super) const SPARE: &str = "spare";

/// Files kept to be used again. A flush of the tables lets some segments go at once; more than that is given back.
const SPARES_MAX: usize = 4;

/// Bytes of zeros that are written at once.
const FILL_BYTES: usize = 1 << 20;

/// See the module.
#[derive(Clone, Debug)]
pub(in super::super) struct Segments<M> {
    pub(super) medium: M,
    dir: PathBuf,
    /// Bytes of a segment, unless one group is longer.
    segment_bytes: u64,
}

impl<M: Medium> Segments<M> {
    /// Those in a directory, which need not be there.
    pub(in super::super) fn new(medium: M, dir: PathBuf, segment_bytes: u64) -> Self {
        Self { medium, dir, segment_bytes }
    }

    /// Makes the directory if it is not there, and removes what was not finished in it.
    pub(super) fn make_dir(&self) -> io::Result<()> {
        self.medium.make_dir(&self.dir)?;
        self.with_ending(UNFINISHED)?.iter().try_for_each(|path| self.medium.remove(path))
    }

    pub(super) fn path_of(&self, first: u64, ending: &str) -> PathBuf {
        self.dir.join(format!("{first:020}.{ending}"))
    }

    /// A new segment for a group of so many bytes, whole and durable, made of a spare one if there is one of its length.
    /// Gives the length too.
    pub(super) fn begin(&self, first: u64, group_bytes: u64) -> io::Result<(M::File, u64)> {
        let length = self.segment_bytes.max(group_bytes);
        let path = self.path_of(first, SEGMENT);
        let fits = |spare: &PathBuf| self.medium.length(spare).is_ok_and(|bytes| bytes == length);
        match self.with_ending(SPARE)?.into_iter().find(fits) {
            Some(spare) => self.medium.rename(&spare, &path)?,
            None => self.make(&path, length)?,
        }
        if !mutations::is(Mutation::UnsyncedSegment) {
            self.medium.sync_dir(&self.dir)?;
        }
        Ok((self.medium.open(&path, Opening::Existing)?, length))
    }

    /// Makes a file of zeros that lie on the disk, and gives it its name when they do. The name is not synced.
    fn make(&self, path: &Path, length: u64) -> io::Result<()> {
        let unfinished = path.with_extension(UNFINISHED);
        let made = self.fill(&unfinished, length).and_then(|()| self.medium.rename(&unfinished, path));
        if made.is_err() {
            // Half of it would take room that is wanted.
            let _ = self.medium.remove(&unfinished);
        }
        made
    }

    fn fill(&self, path: &Path, length: u64) -> io::Result<()> {
        let file = self.medium.open(path, Opening::Emptied)?;
        let zeros = vec![0; length.min(FILL_BYTES as u64) as usize];
        let mut at = 0;
        while at < length {
            let bytes = zeros.len().min((length - at) as usize);
            file.write_all_at(&zeros[..bytes], at)?;
            at += bytes as u64;
        }
        file.sync_all()
    }

    /// Has a spare segment ready before it is needed. `next` is a number that no segment begins with yet.
    pub(in super::super) fn prepare_spare(&self, next: u64) -> io::Result<()> {
        if self.with_ending(SPARE)?.is_empty() {
            self.make(&self.path_of(next, SPARE), self.segment_bytes)
        } else {
            Ok(())
        }
    }

    /// How many segments hold groups beyond this one, or may come to. The newest one does.
    pub(in super::super) fn count_beyond(&self, group: u64) -> io::Result<usize> {
        Ok(beyond(&self.list()?, group))
    }

    /// Bytes of the segments that hold groups beyond the first of these, and none beyond the second.
    pub(in super::super) fn bytes_within(&self, after: u64, upto: u64) -> io::Result<u64> {
        let segments = self.list()?;
        let ends = segments.iter().skip(1).map(|(first, _)| first - 1);
        let within = segments.iter().zip(ends).filter(|(_, end)| *end > after && *end <= upto);
        within.map(|((_, path), _)| self.medium.length(path)).sum()
    }

    /// Lets the segments go whose groups are all elsewhere, durably: those up to `upto` are. The newest segment stays, for
    /// it may be written to.
    pub(in super::super) fn release(&self, upto: u64) -> io::Result<()> {
        let segments = self.list()?;
        let ends = segments.iter().skip(1).map(|(first, _)| first - 1);
        let old = segments.iter().zip(ends).filter(|(_, end)| *end <= upto);
        old.map(|(segment, _)| segment).try_for_each(|segment| self.let_go(segment))?;
        self.medium.sync_dir(&self.dir)
    }

    /// Lets all segments go at the end, which nobody appends to any more, when all their groups, up to `newest`, are in the tables; but those
    /// that a backup has not got, which has got them up to `archived`.
    pub(in super::super) fn release_flushed(&self, newest: u64, archived: u64) -> io::Result<()> {
        if archived >= newest { self.release_all() } else { self.release(archived) }
    }

    /// Lets all segments go: all their groups are elsewhere, durably, and nobody appends any more.
    pub(super) fn release_all(&self) -> io::Result<()> {
        self.list()?.iter().try_for_each(|segment| self.let_go(segment))?;
        self.medium.sync_dir(&self.dir)
    }

    fn let_go(&self, (first, path): &(u64, PathBuf)) -> io::Result<()> {
        let is_spare =
            self.with_ending(SPARE)?.len() < SPARES_MAX && self.medium.length(path)? == self.segment_bytes;
        if is_spare {
            self.medium.rename(path, &self.path_of(*first, SPARE))
        } else {
            self.medium.remove(path)
        }
    }

    /// The segments by the numbers of their first groups, rising; none if there is no directory.
    pub(in super::super) fn list(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        list(&self.medium, &self.dir)
    }

    pub(super) fn with_ending(&self, ending: &str) -> io::Result<Vec<PathBuf>> {
        with_ending(&self.medium, &self.dir, ending)
    }
}

/// How many of these segments hold groups beyond this one, or may come to.
pub(in super::super) fn beyond(segments: &[(u64, PathBuf)], group: u64) -> usize {
    segments.len() - segments.iter().skip(1).take_while(|(first, _)| first - 1 <= group).count()
}

/// See [`Segments::list`].
pub(in super::super) fn list<M: Medium>(medium: &M, dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    // Groups are counted from 1; no log comes near the end of the numbers.
    let number = |path: &PathBuf| {
        let number = path.file_stem()?.to_str()?.parse().ok()?;
        (1..u64::MAX / 2).contains(&number).then_some(number)
    };
    let found = with_ending(medium, dir, SEGMENT)?.into_iter();
    let mut found: Vec<_> = found.filter_map(|path| Some((number(&path)?, path))).collect();
    found.sort();
    Ok(found)
}

fn with_ending<M: Medium>(medium: &M, dir: &Path, ending: &str) -> io::Result<Vec<PathBuf>> {
    let has_it = |path: &PathBuf| path.extension().is_some_and(|found| found == ending);
    Ok(medium.list(dir)?.into_iter().filter(has_it).collect())
}
