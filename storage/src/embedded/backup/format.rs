//! A file of a backup: a header that names it, then chunks, each sealed under a key of that file alone, with its place in it.
//!
//! The header, of 80 bytes, little-endian: `"ternbak1", kind: u8, cipher: u8 (0 plain, 1 AES-256-GCM), 6 zeros, key id: u64 (0 if plain),
//! backup id: 16 bytes, salt: 32 bytes, xxh3 of all that: u64`. The salt is random, and the file's identity: whoever names a file names
//! its salt. A chunk is `bytes: u32 (at most 1 MiB), flags: u8 (1: the last one of the file), 3 zeros, the bytes, a tag of 16 bytes`. The
//! tag is over the header, the chunk's number, its first 8 bytes and its bytes: AES-256-GCM under the file's key with the number as the
//! nonce, or XXH3-128, which finds accidents and no attackers. So a chunk can't stand in another's place, nor in another file.
//!
//! A file is written by one process from its beginning, and never opened for writing again: a nonce comes once. What follows a
//! failed write is another file.

use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::super::files::UNFINISHED;
use super::error::BackupError;
use super::key::{Key, Keys};
use crate::medium::{Medium, MediumFile as _, Opening};

/// Bytes of a chunk at most.
pub(super) const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Bytes of a file that is read as a whole, at most: far more than a manifest of a full disk has.
const WHOLE_BYTES_MAX: usize = 256 << 20;

const MAGIC: &[u8; 8] = b"ternbak1";
const HEADER_BYTES: usize = 80;
const FRAME_BYTES: usize = 8;
const TAG_BYTES: usize = 16;
const LAST: u8 = 1;

/// A file's identity.
pub(super) type Salt = [u8; 32];

/// A backup's identity.
pub(super) type BackupId = [u8; 16];

/// What a file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// What a directory is the backup of.
    Backup = 0,
    /// The manifest of a base.
    Base = 1,
    /// A file of a tree.
    Table = 2,
    /// Groups of the log.
    Log = 3,
    /// Where a chain ends.
    Head = 4,
}

/// What a file's header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) kind: u8,
    /// 0: it is not encrypted.
    pub(super) key_id: u64,
    pub(super) backup: BackupId,
    pub(super) salt: Salt,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = self.kind;
        bytes[9] = u8::from(self.key_id != 0);
        bytes[16..24].copy_from_slice(&self.key_id.to_le_bytes());
        bytes[24..40].copy_from_slice(&self.backup);
        bytes[40..72].copy_from_slice(&self.salt);
        let sum = xxh3_64(&bytes[..72]);
        bytes[72..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Gives what is wrong with it.
    fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, &'static str> {
        let number = |at: usize| bytes[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        if !bytes.starts_with(MAGIC) {
            return Err("it is no file of a backup, or a newer ternd wrote it");
        }
        if number(72) != xxh3_64(&bytes[..72]) {
            return Err("its header is damaged");
        }
        let (encrypted, key_id) = (bytes[9], number(16));
        if bytes[10..16] != [0; 6] || encrypted != u8::from(key_id != 0) {
            return Err("a newer ternd wrote it");
        }
        let (mut backup, mut salt) = (BackupId::default(), Salt::default());
        backup.copy_from_slice(&bytes[24..40]);
        salt.copy_from_slice(&bytes[40..72]);
        Ok(Self { kind: bytes[8], key_id, backup, salt })
    }
}

/// What seals the chunks of a file.
enum Sealing {
    /// By a checksum, which begins with the salt.
    Plain(u64),
    Key(Box<LessSafeKey>),
}

impl Sealing {
    fn new(salt: &Salt, kind: Kind, key: Option<&Key>) -> Self {
        let plain = || salt.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        key.map_or_else(|| Self::Plain(plain()), |key| Self::Key(Box::new(key.of_file(salt, kind))))
    }

    fn sum(seed: u64, about: &[u8], bytes: &[u8]) -> [u8; TAG_BYTES] {
        let mut sum = Xxh3::with_seed(seed);
        sum.update(about);
        sum.update(bytes);
        sum.digest128().to_le_bytes()
    }

    /// Seals in place.
    fn seal(&self, number: u64, about: &[u8], bytes: &mut [u8]) -> io::Result<[u8; TAG_BYTES]> {
        match self {
            Self::Plain(seed) => Ok(Self::sum(*seed, about, bytes)),
            Self::Key(key) => {
                let tag = key.seal_in_place_separate_tag(nonce(number), Aad::from(about), bytes);
                let tag = tag.map_err(|_| io::Error::other("a chunk could not be encrypted"))?;
                Ok(tag.as_ref().try_into().expect("GCM has tags of 16 bytes"))
            }
        }
    }

    /// Opens in place what has its tag behind; gives whether it is what was sealed. The tag is taken off.
    fn open(&self, number: u64, about: &[u8], bytes: &mut Vec<u8>) -> bool {
        let length = bytes.len() - TAG_BYTES;
        let is_right = match self {
            Self::Plain(seed) => Self::sum(*seed, about, &bytes[..length]) == bytes[length..],
            Self::Key(key) => key.open_in_place(nonce(number), Aad::from(about), bytes).is_ok(),
        };
        bytes.truncate(length);
        is_right
    }
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// What a chunk's tag is over, beside its bytes. The number is the chunk's.
fn about(header: &[u8; HEADER_BYTES], number: u64, frame: [u8; FRAME_BYTES]) -> Vec<u8> {
    [&header[..], &number.to_le_bytes(), &frame].concat()
}

/// A file that is being written.
pub(super) struct Writer<M: Medium> {
    file: M::File,
    header: [u8; HEADER_BYTES],
    salt: Salt,
    sealing: Sealing,
    at: u64,
    chunks: u64,
    sealed: Vec<u8>,
    /// A write has failed: a nonce may have been used, so nothing follows.
    failed: bool,
}

impl<M: Medium> Writer<M> {
    /// Makes it, with its header. `salt` was never used before.
    pub(super) fn create(
        medium: &M,
        path: &Path,
        kind: Kind,
        (backup, salt): (BackupId, Salt),
        key: Option<&Key>,
    ) -> io::Result<Self> {
        let file = medium.open(path, Opening::Emptied)?;
        let header = Header { kind: kind as u8, key_id: key.map_or(0, Key::id), backup, salt }.encode();
        file.write_all_at(&header, 0)?;
        let sealing = Sealing::new(&salt, kind, key);
        let at = HEADER_BYTES as u64;
        Ok(Self { file, header, salt, sealing, at, chunks: 0, sealed: Vec::new(), failed: false })
    }

    pub(super) fn salt(&self) -> Salt {
        self.salt
    }

    /// Chunks so far.
    pub(super) fn chunks(&self) -> u64 {
        self.chunks
    }

    /// Bytes of the file so far.
    pub(super) fn bytes(&self) -> u64 {
        self.at
    }

    /// Appends a chunk. After a failure nothing can be appended any more.
    pub(super) fn append(&mut self, bytes: &[u8], last: bool) -> io::Result<()> {
        assert!(bytes.len() <= CHUNK_BYTES_MAX, "whoever appends cuts it");
        if std::mem::replace(&mut self.failed, true) {
            return Err(io::Error::other("a write of the file has failed before"));
        }
        let mut frame = [0; FRAME_BYTES];
        frame[..4].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        frame[4] = if last { LAST } else { 0 };
        self.sealed.clear();
        self.sealed.extend_from_slice(&frame);
        self.sealed.extend_from_slice(bytes);
        let about = about(&self.header, self.chunks, frame);
        let tag = self.sealing.seal(self.chunks, &about, &mut self.sealed[FRAME_BYTES..])?;
        self.sealed.extend_from_slice(&tag);
        self.file.write_all_at(&self.sealed, self.at)?;
        self.at += self.sealed.len() as u64;
        self.chunks += 1;
        self.failed = false;
        Ok(())
    }

    /// Makes what was appended durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Puts a small file in the place of the one that has its name, durably. Gives its bytes.
pub(super) fn replace<M: Medium>(
    medium: &M,
    path: &Path,
    kind: Kind,
    (backup, salt): (BackupId, Salt),
    key: Option<&Key>,
    content: &[u8],
) -> io::Result<u64> {
    let unfinished = path.with_extension(UNFINISHED);
    let mut writer = Writer::create(medium, &unfinished, kind, (backup, salt), key)?;
    let mut chunks = content.chunks(CHUNK_BYTES_MAX).peekable();
    if chunks.peek().is_none() {
        writer.append(&[], true)?;
    }
    while let Some(chunk) = chunks.next() {
        writer.append(chunk, chunks.peek().is_none())?;
    }
    writer.file.sync_all()?;
    medium.rename(&unfinished, path)?;
    medium.sync_dir(path.parent().expect("a file of a backup has a directory"))?;
    Ok(writer.bytes())
}

/// A file that is being read.
pub(super) struct Reader<M: Medium> {
    path: PathBuf,
    file: M::File,
    length: u64,
    raw: [u8; HEADER_BYTES],
    header: Header,
    sealing: Sealing,
    at: u64,
    chunks: u64,
}

impl<M: Medium> Reader<M> {
    /// Opens it, which must be of this kind, of this backup if one is said, and under one of these keys.
    pub(super) fn open(
        medium: &M,
        path: &Path,
        kind: Kind,
        backup: Option<BackupId>,
        keys: &Keys,
    ) -> Result<Self, BackupError> {
        let io = |error| BackupError::io(path, error);
        let file = medium.open(path, Opening::Reading).map_err(io)?;
        let length = medium.length(path).map_err(io)?;
        let mut raw = [0; HEADER_BYTES];
        if length < HEADER_BYTES as u64 {
            return Err(BackupError::damaged(path, "it ends within its header"));
        }
        file.read_exact_at(&mut raw, 0).map_err(io)?;
        let header = Header::decode(&raw).map_err(|what| BackupError::damaged(path, what))?;
        if header.kind != kind as u8 || backup.is_some_and(|backup| backup != header.backup) {
            return Err(BackupError::damaged(path, "it is another file than its name says"));
        }
        let key = match header.key_id {
            0 => None,
            id => Some(keys.find(id).ok_or(BackupError::NoKey { path: path.to_owned(), key_id: id })?),
        };
        let sealing = Sealing::new(&header.salt, kind, key);
        let (path, at) = (path.to_owned(), HEADER_BYTES as u64);
        Ok(Self { path, file, length, raw, header, sealing, at, chunks: 0 })
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// It must have the salt that whoever names it says, and be under the same key: of files that are not encrypted anybody can make one.
    pub(super) fn is_named(&self, salt: &[u8], key_id: u64) -> Result<(), BackupError> {
        if self.header.salt == salt && self.header.key_id == key_id {
            return Ok(());
        }
        Err(BackupError::damaged(&self.path, "it is not the file that is named, but another in its place"))
    }

    /// Chunks that were read.
    pub(super) fn chunks(&self) -> u64 {
        self.chunks
    }

    /// Reads the next chunk into `bytes`. Gives whether it is the last one.
    pub(super) fn next(&mut self, bytes: &mut Vec<u8>) -> Result<bool, BackupError> {
        let io = |error| BackupError::io(&self.path, error);
        let damaged = |what: String| BackupError::damaged(&self.path, what);
        let number = self.chunks;
        let cut = || damaged(format!("it ends within chunk {number}"));
        let mut frame = [0; FRAME_BYTES];
        let left = self.length - self.at;
        if left < (FRAME_BYTES + TAG_BYTES) as u64 {
            return Err(cut());
        }
        self.file.read_exact_at(&mut frame, self.at).map_err(io)?;
        let length = frame.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)) as usize;
        let last = frame[4] == LAST;
        if length > CHUNK_BYTES_MAX || frame[4] > LAST || frame[5..] != [0; 3] || (length == 0 && !last) {
            return Err(damaged(format!("chunk {number} is damaged")));
        }
        if left < (FRAME_BYTES + length + TAG_BYTES) as u64 {
            return Err(cut());
        }
        bytes.resize(length + TAG_BYTES, 0);
        self.file.read_exact_at(bytes, self.at + FRAME_BYTES as u64).map_err(io)?;
        if !self.sealing.open(number, &about(&self.raw, number, frame), bytes) {
            return Err(damaged(format!("chunk {number} is damaged")));
        }
        self.at += (FRAME_BYTES + length + TAG_BYTES) as u64;
        self.chunks += 1;
        if last && self.at != self.length {
            return Err(damaged(format!("something follows its last chunk, {number}")));
        }
        Ok(last)
    }
}

/// A small file's header and what is in it.
pub(super) fn read_whole<M: Medium>(
    medium: &M,
    path: &Path,
    kind: Kind,
    backup: Option<BackupId>,
    keys: &Keys,
) -> Result<(Header, Vec<u8>), BackupError> {
    let mut reader = Reader::open(medium, path, kind, backup, keys)?;
    let (mut content, mut chunk) = (Vec::new(), Vec::new());
    loop {
        let last = reader.next(&mut chunk)?;
        content.extend_from_slice(&chunk);
        if last {
            return Ok((*reader.header(), content));
        }
        if content.len() > WHOLE_BYTES_MAX {
            return Err(BackupError::damaged(path, "it is far too long"));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::medium::SimulatedMedium;
    use crate::medium::simulated::Odds;

    const ID: BackupId = [7; 16];

    fn key() -> Key {
        Key::new([3; 32])
    }

    /// A file of these chunks, and its bytes.
    fn written(
        medium: &SimulatedMedium,
        path: &Path,
        salt: u8,
        key: Option<&Key>,
        chunks: &[Vec<u8>],
    ) -> Vec<u8> {
        let mut writer = Writer::create(medium, path, Kind::Table, (ID, [salt; 32]), key).expect("created");
        for (at, chunk) in chunks.iter().enumerate() {
            writer.append(chunk, at + 1 == chunks.len()).expect("appended");
        }
        medium.read(path).expect("read")
    }

    /// The chunks of a file; an error if it is not what was written.
    fn read(medium: &SimulatedMedium, path: &Path, keys: &Keys) -> Result<Vec<Vec<u8>>, BackupError> {
        let mut reader = Reader::open(medium, path, Kind::Table, Some(ID), keys)?;
        let (mut chunks, mut chunk) = (Vec::new(), Vec::new());
        loop {
            let last = reader.next(&mut chunk)?;
            chunks.push(chunk.clone());
            if last {
                return Ok(chunks);
            }
        }
    }

    /// Where each chunk begins in a file's bytes, and where the last one ends.
    fn places(chunks: &[Vec<u8>]) -> Vec<usize> {
        let mut at = HEADER_BYTES;
        let ends = chunks.iter().map(|chunk| {
            at += FRAME_BYTES + chunk.len() + TAG_BYTES;
            at
        });
        [HEADER_BYTES].into_iter().chain(ends).collect()
    }

    fn put(medium: &SimulatedMedium, path: &Path, bytes: &[u8]) {
        medium.open(path, Opening::Emptied).expect("opened").write_all_at(bytes, 0).expect("written");
    }

    proptest! {
        #[test]
        fn a_file_comes_back_and_with_any_change_it_does_not(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..60), 1..6),
            encrypted: bool,
            (kind, at, other) in (0..5, any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        ) {
            let medium = SimulatedMedium::new(1, Odds::NONE);
            medium.make_dir(Path::new("d")).expect("made");
            let (path, second) = (Path::new("d/one"), Path::new("d/two"));
            let key = encrypted.then(key);
            let keys: Keys = key.clone().into_iter().collect();
            let bytes = written(&medium, path, 1, key.as_ref(), &chunks);
            prop_assert_eq!(&read(&medium, path, &keys).expect("whole"), &chunks);
            let foreign = written(&medium, second, 2, key.as_ref(), &chunks);
            let places = places(&chunks);
            let (one, two) = (at.index(chunks.len()), other.index(chunks.len()));
            let part = |bytes: &[u8], at: usize| bytes[places[at]..places[at + 1]].to_vec();
            let mut changed = bytes.clone();
            match kind {
                // A bit flips.
                0 => changed[at.index(bytes.len())] ^= 1 << other.index(8),
                // It is cut.
                1 => changed.truncate(at.index(bytes.len())),
                // A chunk is doubled.
                2 => drop(changed.splice(places[one]..places[one], part(&bytes, one))),
                // Two change places.
                3 => {
                    let (first, last) = (one.min(two), one.max(two));
                    changed.splice(places[last]..places[last + 1], part(&bytes, first));
                    changed.splice(places[first]..places[first + 1], part(&bytes, last));
                }
                // One comes from another file.
                _ => drop(changed.splice(places[one]..places[one + 1], part(&foreign, one))),
            }
            prop_assume!(changed != bytes);
            put(&medium, path, &changed);
            prop_assert!(read(&medium, path, &keys).is_err());
        }
    }

    #[test]
    fn a_file_in_the_place_of_another_is_told_and_a_missing_key_is_no_damage() {
        let medium = SimulatedMedium::new(1, Odds::NONE);
        medium.make_dir(Path::new("d")).expect("made");
        let path = Path::new("d/one");
        written(&medium, path, 1, Some(&key()), &[vec![1]]);
        let keys: Keys = [key()].into_iter().collect();
        let open = |kind, id, keys: &Keys| Reader::open(&medium, path, kind, Some(id), keys);
        let reader = open(Kind::Table, ID, &keys).expect("it is there");
        let id = key().id();
        assert!(reader.is_named(&[1; 32], id).is_ok() && reader.is_named(&[2; 32], id).is_err());
        assert!(reader.is_named(&[1; 32], 0).is_err(), "one that is encrypted names none that is not");
        assert!(open(Kind::Log, ID, &keys).is_err_and(|error| error.is_damage()));
        assert!(open(Kind::Table, [8; 16], &keys).is_err_and(|error| error.is_damage()));
        let error = open(Kind::Table, ID, &Keys::default()).err().expect("there is no key");
        assert!(!error.is_damage() && error.to_string().contains("--key-file"), "{error}");
    }

    #[test]
    fn nothing_is_written_behind_a_failed_write() {
        let medium = SimulatedMedium::new(1, Odds::NONE);
        medium.make_dir(Path::new("d")).expect("made");
        let (path, names) = (Path::new("d/one"), (ID, [1; 32]));
        let mut writer = Writer::create(&medium, path, Kind::Log, names, Some(&key())).expect("created");
        medium.set_odds(Odds::NONE.with(crate::medium::simulated::Fault::WriteFails, 1_000_000));
        assert!(writer.append(&[1], false).is_err());
        medium.set_odds(Odds::NONE);
        assert!(writer.append(&[2], false).is_err(), "its nonce may have been used");
    }
}
