//! The end of fjall's newest journal, looked at before fjall opens it.
//!
//! A power cut can leave the last write torn: its pages reach the disk in any order, and the rest of the preallocated
//! file is zeros. fjall cuts off a tail that does not parse, but refuses to open when a whole-looking batch fails its
//! checksum, and takes rotten bytes for a torn tail. Here both are told apart by the groups' numbers: what comes after the
//! newest group that is nowhere else was never promised, or is in tern's log, and is cut; anything less is damage, and
//! nothing is touched.
//!
//! This reads the journal format of fjall 3 (little-endian): a batch is `1, items: u32, seqno: u64`, the items, and
//! `3, xxh3 of the items: u64, "FJL" 3`; an item is `2, type: u8, compression: u8, keyspace: u64, key length: u16,
//! value length: u32, stored length: u32, key, value`, or `4, keyspace: u64`. If a later fjall writes something else,
//! no group is found, nothing is cut, and all is left to fjall.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use prost::Message as _;
use xxhash_rust::xxh3::xxh3_64;

use crate::keys;
use crate::records::NumberRecord;

static ZEROS: [u8; 4096] = [0; 4096];

const MAGIC: &[u8; 4] = b"FJL\x03";

/// What the newest journal holds.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Contents {
    /// The number of its newest whole group, if there is any.
    group: Option<u64>,
    /// Where its last whole batch ends, in bytes.
    end: usize,
}

/// Cuts off a torn write at the end of the newest journal in a directory. Gives how many of the groups up to `needed` are
/// missing there, if any are; then nothing is cut.
///
/// With `has_log` what is not in the tables is in tern's log: then a journal without any whole batch, whose first one was torn,
/// is emptied.
pub(super) fn cut_torn_write(journals: &Path, needed: u64, has_log: bool) -> io::Result<Option<u64>> {
    let Some(path) = newest_journal(journals)? else { return Ok(None) };
    let bytes = read_used(&path)?;
    let Contents { group, end } = read(&bytes);
    match group {
        Some(group) if group < needed => return Ok(Some(needed - group)),
        // The groups that are needed may be in journals before it, and what this one holds is not known to be one.
        None if !has_log && (needed > 0 || end == 0) => return Ok(None),
        Some(_) | None => {}
    }
    if !is_zero(&bytes[end..]) {
        let file = OpenOptions::new().write(true).open(&path)?;
        file.set_len(end as u64)?;
        file.sync_all()?;
    }
    Ok(None)
}

/// A journal up to its end: it is made longer than what is in it, and what is in it has no such stretch of zeros.
fn read_used(path: &Path) -> io::Result<Vec<u8>> {
    const STEP: usize = 1 << 20;
    let mut file = File::open(path)?;
    let mut bytes = Vec::new();
    loop {
        let begin = bytes.len();
        let taken = file.by_ref().take(STEP as u64).read_to_end(&mut bytes)?;
        if taken == 0 || is_zero(&bytes[begin..]) {
            return Ok(bytes);
        }
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(ZEROS.len()).all(|chunk| chunk == &ZEROS[..chunk.len()])
}

fn newest_journal(journals: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest = None;
    let entries = match fs::read_dir(journals) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        let number =
            path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
        if path.extension().is_some_and(|extension| extension == "jnl")
            && number > newest.as_ref().map(|(n, _)| *n)
        {
            newest = number.map(|number| (number, path));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

fn read(bytes: &[u8]) -> Contents {
    let mut contents = Contents::default();
    let mut rest = bytes;
    while let Some(group) = read_batch(&mut rest) {
        contents.group = group.or(contents.group);
        contents.end = bytes.len() - rest.len();
    }
    contents
}

/// Takes a whole batch. Gives the group's number in it, if it has one; `None` if there is no whole batch.
fn read_batch(rest: &mut &[u8]) -> Option<Option<u64>> {
    let mut reader = Reader(rest);
    reader.tag(1)?;
    let items = reader.u32()?;
    reader.take(8)?;
    let first = reader.0;
    let mut group = None;
    for _ in 0..items {
        group = reader.item()?.or(group);
    }
    let checked = &first[..first.len() - reader.0.len()];
    reader.tag(3)?;
    let checksum = u64::from_le_bytes(*reader.take(8)?.first_chunk()?);
    (reader.take(4)? == MAGIC && checksum == xxh3_64(checked)).then_some(())?;
    *rest = reader.0;
    Some(group)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn tag(&mut self, expected: u8) -> Option<()> {
        (self.take(1)? == [expected]).then_some(())
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(*self.take(4)?.first_chunk()?))
    }

    /// Gives the group's number, if the item is that.
    fn item(&mut self) -> Option<Option<u64>> {
        match self.take(1)? {
            [2] => {
                self.take(2 + 8)?;
                let key_bytes = u16::from_le_bytes(*self.take(2)?.first_chunk()?);
                self.u32()?;
                let stored_bytes = self.u32()?;
                let key = self.take(key_bytes.into())?;
                let value = self.take(stored_bytes as usize)?;
                let is_group = key == keys::meta("groups").as_ref();
                Some(is_group.then(|| NumberRecord::decode(value).ok().map(|record| record.number)).flatten())
            }
            [4] => self.take(8).map(|_| None),
            _ => None,
        }
    }
}
