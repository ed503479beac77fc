//! What lies in a backup's files: protobuf messages in the small ones, a stream of records in those of the log.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;

use super::error::BackupError;
use super::format::{BackupId, Kind, Reader, Salt};
use super::key::Keys;
use crate::medium::Medium;

/// `backup`: what a directory is the backup of.
#[derive(Clone, PartialEq, Message)]
pub(super) struct BackupRecord {
    /// The store's id; empty if it has none.
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) store: Bytes,
    /// When it was begun, in ms since the Unix epoch.
    #[prost(uint64, tag = "2")]
    pub(super) created_ms: u64,
}

/// `bases/N`: a base, and `bases/N.partial`: what there is of one that is being copied.
#[derive(Clone, PartialEq, Message)]
pub(super) struct BaseRecord {
    #[prost(uint32, tag = "1")]
    pub(super) chain: u32,
    #[prost(uint32, tag = "2")]
    pub(super) number: u32,
    /// The layout of keys and records.
    #[prost(uint64, tag = "3")]
    pub(super) layout: u64,
    /// Groups up to this one are in its files.
    #[prost(uint64, tag = "4")]
    pub(super) flushed: u64,
    /// Its files may hold groups up to this one: with the log up to here or further it is whole.
    #[prost(uint64, tag = "5")]
    pub(super) whole_at: u64,
    /// When it was begun, in ms since the Unix epoch.
    #[prost(uint64, tag = "6")]
    pub(super) time_ms: u64,
    #[prost(message, repeated, tag = "7")]
    pub(super) trees: Vec<TreeRecord>,
    /// Bytes of the chain's log when it was begun.
    #[prost(uint64, tag = "8")]
    pub(super) log_bytes: u64,
}

/// The files of a tree.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TreeRecord {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    /// What was in `current`, and in the file of the version, with its number.
    #[prost(uint64, tag = "2")]
    pub(super) version: u64,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) current: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) version_file: Bytes,
    #[prost(message, repeated, tag = "5")]
    pub(super) files: Vec<StoredFile>,
}

/// A file of a tree, and where it lies in the backup.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredFile {
    /// Within the tree's directory.
    #[prost(string, tag = "1")]
    pub(super) path: String,
    #[prost(uint64, tag = "2")]
    pub(super) bytes: u64,
    /// XXH3, 128 bits, big-endian.
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) checksum: Bytes,
    /// What it holds, for operators.
    #[prost(string, tag = "4")]
    pub(super) covers: String,
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) salt: Bytes,
    #[prost(uint64, tag = "6")]
    pub(super) chunks: u64,
}

impl BaseRecord {
    /// Its files.
    pub(super) fn files(&self) -> impl Iterator<Item = &StoredFile> {
        self.trees.iter().flat_map(|tree| &tree.files)
    }

    /// Bytes of the tables' files.
    pub(super) fn bytes(&self) -> u64 {
        self.files().fold(0, |bytes, file| bytes.saturating_add(file.bytes))
    }
}

/// `head`: where a chain ends.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HeadRecord {
    #[prost(uint32, tag = "1")]
    pub(super) chain: u32,
    /// The first and the last group of its log; the last is one less than the first if it has none.
    #[prost(uint64, tag = "2")]
    pub(super) first: u64,
    #[prost(uint64, tag = "3")]
    pub(super) last: u64,
    /// XXH3 of the last group, of its payload.
    #[prost(fixed64, tag = "4")]
    pub(super) last_sum: u64,
    /// It holds all that was durable at this time, in ms since the Unix epoch.
    #[prost(uint64, tag = "5")]
    pub(super) covers_ms: u64,
    /// The newest file of its log.
    #[prost(message, optional, tag = "6")]
    pub(super) log: Option<LogPlace>,
    /// Bytes of its log so far, those that have gone included.
    #[prost(uint64, tag = "7")]
    pub(super) log_bytes: u64,
    /// The newest base and its manifest's salt; 0 if there is none.
    #[prost(uint32, tag = "8")]
    pub(super) base: u32,
    #[prost(bytes = "bytes", tag = "9")]
    pub(super) base_salt: Bytes,
    /// No time in its log is later than this, in ms since the Unix epoch, and none that follows is earlier.
    #[prost(uint64, tag = "10")]
    pub(super) time_ms: u64,
}

/// A file of the log, and how much of it counts.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct LogPlace {
    /// The group that it begins with.
    #[prost(uint64, tag = "1")]
    pub(super) first: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) salt: Bytes,
    #[prost(uint64, tag = "3")]
    pub(super) chunks: u64,
}

/// A part of the log's stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Item {
    /// What a file begins with: the file before, and the group that this one begins with.
    Link { before: Option<LogPlace>, first: u64 },
    /// A group, as it lies in a segment.
    Group { number: u64, payload: Vec<u8> },
    /// Groups up to this one were durable at this time, in ms since the Unix epoch.
    Time { group: u64, time_ms: u64 },
}

const LINK: u8 = 0;
const GROUP: u8 = 1;
const TIME: u8 = 2;
const LINK_BYTES: usize = 56;
const GROUP_BYTES: usize = 12;
const TIME_BYTES: usize = 16;

impl Item {
    /// Appends it to a stream.
    pub(super) fn encode(&self, stream: &mut Vec<u8>) {
        match self {
            Self::Link { before, first } => {
                let (mut salt, mut chunks, mut begun) = (Salt::default(), 0, 0);
                if let Some(before) = before {
                    salt.copy_from_slice(&before.salt);
                    (chunks, begun) = (before.chunks, before.first);
                }
                stream.push(LINK);
                stream.extend_from_slice(&salt);
                [chunks, begun, *first]
                    .iter()
                    .for_each(|number| stream.extend_from_slice(&number.to_le_bytes()));
            }
            Self::Group { number, payload } => {
                stream.push(GROUP);
                stream.extend_from_slice(&number.to_le_bytes());
                stream.extend_from_slice(&(payload.len() as u32).to_le_bytes());
                stream.extend_from_slice(payload);
            }
            Self::Time { group, time_ms } => {
                stream.push(TIME);
                stream.extend_from_slice(&group.to_le_bytes());
                stream.extend_from_slice(&time_ms.to_le_bytes());
            }
        }
    }
}

/// Reads the stream of a file of the log, up to the chunk up to which it counts.
pub(super) struct Items<M: Medium> {
    path: PathBuf,
    reader: Reader<M>,
    chunks: u64,
    /// What was read, and up to where it was taken.
    bytes: Vec<u8>,
    at: usize,
    chunk: Vec<u8>,
}

impl<M: Medium> Items<M> {
    /// Of the file that is named, in a chain's directory.
    pub(super) fn open(
        medium: &M,
        chain: &Path,
        (backup, key_id): (BackupId, u64),
        place: &LogPlace,
        keys: &Keys,
    ) -> Result<Self, BackupError> {
        let path = log_path(chain, place);
        let reader = Reader::open(medium, &path, Kind::Log, Some(backup), keys)?;
        reader.is_named(&place.salt, key_id)?;
        Ok(Self { path, reader, chunks: place.chunks, bytes: Vec::new(), at: 0, chunk: Vec::new() })
    }

    /// The next one; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Item>, BackupError> {
        if !self.fill(1)? {
            return Ok(None);
        }
        let damaged = |path: &Path, what: &str| BackupError::damaged(path, what);
        let kind = self.take(1)?[0];
        match kind {
            LINK => {
                let fixed = self.take(LINK_BYTES)?;
                let number =
                    |at: usize| fixed[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                let (chunks, begun, first) = (number(32), number(40), number(48));
                let salt = Bytes::copy_from_slice(&fixed[..32]);
                let before = (begun != 0).then_some(LogPlace { first: begun, salt, chunks });
                Ok(Some(Item::Link { before, first }))
            }
            GROUP => {
                let fixed = self.take(GROUP_BYTES)?;
                let number = fixed.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                let length = fixed[8..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
                Ok(Some(Item::Group { number, payload: self.take(length as usize)? }))
            }
            TIME => {
                let fixed = self.take(TIME_BYTES)?;
                let number =
                    |at: usize| fixed[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                Ok(Some(Item::Time { group: number(0), time_ms: number(8) }))
            }
            _ => Err(damaged(&self.path, "it holds what this ternd does not know")),
        }
    }

    /// Takes so many bytes, which must be there.
    fn take(&mut self, count: usize) -> Result<Vec<u8>, BackupError> {
        if !self.fill(count)? {
            return Err(BackupError::damaged(&self.path, "it ends within a group"));
        }
        self.at += count;
        Ok(self.bytes[self.at - count..self.at].to_vec())
    }

    /// Reads until there are so many bytes. Gives whether there are.
    fn fill(&mut self, count: usize) -> Result<bool, BackupError> {
        while self.bytes.len() - self.at < count {
            if self.reader.chunks() >= self.chunks {
                return Ok(false);
            }
            self.reader.next(&mut self.chunk)?;
            self.bytes.drain(..std::mem::take(&mut self.at));
            self.bytes.extend_from_slice(&self.chunk);
        }
        Ok(true)
    }
}

/// Where a file of the log lies in its chain's directory.
pub(super) fn log_path(chain: &Path, place: &LogPlace) -> PathBuf {
    chain.join(LOG).join(format!("{:020}-{}", place.first, hex(&place.salt, 4)))
}

/// Where a file of a tree lies in its chain's directory.
pub(super) fn file_path(chain: &Path, salt: &[u8]) -> PathBuf {
    chain.join(FILES).join(hex(salt, 8))
}

/// The first bytes of a salt, as they stand in names.
fn hex(salt: &[u8], bytes: usize) -> String {
    salt.iter().take(bytes).map(|byte| format!("{byte:02x}")).collect()
}

/// The directories of a chain.
pub(super) const FILES: &str = "files";
pub(super) const BASES: &str = "bases";
pub(super) const LOG: &str = "log";

/// The file of a chain that says where it ends.
pub(super) const HEAD: &str = "head";

/// The file of a backup that says what it is of, and the one whose lock is held by who writes.
pub(super) const BACKUP: &str = "backup";
pub(super) const LOCK: &str = "lock";

/// What the name of a base ends with that is being copied.
pub(super) const PARTIAL: &str = "partial";

/// Reads a small file as a message.
pub(super) fn read_record<M: Medium, R: Message + Default>(
    medium: &M,
    path: &Path,
    kind: Kind,
    backup: Option<BackupId>,
    keys: &Keys,
) -> Result<(super::format::Header, R), BackupError> {
    let (header, content) = super::format::read_whole(medium, path, kind, backup, keys)?;
    let record = R::decode(&content[..]);
    record
        .map(|record| (header, record))
        .map_err(|_| BackupError::damaged(path, "a newer ternd wrote it, or it is damaged"))
}

/// A salt in a message; one of another length is damage.
pub(super) fn is_salt(salt: &[u8]) -> bool {
    salt.len() == size_of::<Salt>()
}
