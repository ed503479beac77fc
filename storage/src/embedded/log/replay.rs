//! Reading a log from its first group to its last whole one, at a start.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::group::{HEADER_BYTES, decode};
use super::islands::wholes;
use super::{SALT_BYTES, segments};
use crate::batch::{Op, all_ops};
use crate::medium::{Medium, MediumFile as _, Opening};
use crate::mutations::{self, Mutation};

/// Reads a log from its first group to its last whole one.
#[derive(Debug)]
pub(in super::super) struct Replay<M> {
    medium: M,
    segments: Vec<(u64, PathBuf)>,
    /// Groups up to this one are not needed, whole or not.
    after: u64,
    /// The segment that is being read; 0 before the first.
    segment: usize,
    bytes: Vec<u8>,
    at: usize,
    /// Where the newest group that was read lies in the segment, with the salt if it is the first.
    newest: Range<usize>,
    /// The number that comes next; `None` before the first segment.
    next: Option<u64>,
    salt: u64,
}

impl<M: Medium> Replay<M> {
    /// From the first segment on that holds groups beyond `after`.
    pub(in super::super) fn open(medium: &M, dir: &Path, after: u64) -> io::Result<Self> {
        let mut segments = segments::list(medium, dir)?;
        let needless = segments.iter().skip(1).take_while(|(first, _)| first - 1 <= after).count();
        segments.drain(..needless);
        let medium = medium.clone();
        Ok(Self {
            medium,
            segments,
            after,
            segment: 0,
            bytes: Vec::new(),
            at: 0,
            newest: 0..0,
            next: None,
            salt: 0,
        })
    }

    /// The number that the log begins with, whether that group is there or not.
    pub(in super::super) fn first(&self) -> Option<u64> {
        self.segments.first().map(|(first, _)| *first)
    }

    /// A group that must be there: a segment is begun when all groups before it are durable.
    pub(in super::super) fn promised(&self) -> Option<u64> {
        self.segments.last().map(|(first, _)| first - 1)
    }

    /// The number of the last whole group; one less than the log begins with if there is none. After the last group was read.
    pub(in super::super) fn last(&self) -> Option<u64> {
        self.next.map(|next| next - 1)
    }

    /// Where the next group should be: the file, and the byte in it.
    pub(in super::super) fn place(&self) -> Option<(&Path, usize)> {
        let (_, path) = self.segments.get(self.segment.checked_sub(1)?)?;
        Some((path, self.at))
    }

    /// Has the newest group lie on the medium, after the last one was read. It may be there for those who read and nowhere else:
    /// the process that wrote it ended before its sync did, or the sync failed, after which another sync says nothing. So it
    /// is written again. All groups before it were synced before it was written.
    pub(in super::super) fn make_durable(&self) -> io::Result<()> {
        if self.newest.is_empty() || mutations::is(Mutation::TrustWhatIsRead) {
            return Ok(());
        }
        let (_, path) = &self.segments[self.segment - 1];
        let file = self.medium.open(path, Opening::Existing)?;
        file.write_all_at(&self.bytes[self.newest.clone()], self.newest.start as u64)?;
        file.sync_data()
    }

    /// The next group and its number; `None` after the last whole one.
    pub(in super::super) fn next_group(&mut self) -> io::Result<Option<(u64, Vec<Op<'_>>)>> {
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
                self.newest = if self.at == SALT_BYTES { 0 } else { self.at }..self.at + end;
                self.at += end;
                self.next = Some(number + 1);
                let unreadable =
                    || io::Error::new(io::ErrorKind::InvalidData, format!("group {number} of the log"));
                return all_ops(&self.bytes[payload]).map(|ops| Some((number, ops))).ok_or_else(unreadable);
            }
            let Some((first, path)) = self.segments.get(self.segment) else { return Ok(None) };
            if self.next.is_some_and(|next| next != *first) {
                return Ok(None);
            }
            (self.bytes, self.at, self.next) = (self.medium.read(path)?, SALT_BYTES, Some(*first));
            self.newest = 0..0;
            self.salt = self.bytes.first_chunk().map_or(0, |salt| u64::from_le_bytes(*salt));
            self.segment += 1;
        }
    }

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
