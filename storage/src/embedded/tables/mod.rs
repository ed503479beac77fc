//! The tables: an index of what the log made durable, which can be made again from the log up to where it was flushed.
//!
//! Invariants: one thread writes; what is written lies in memory until it is flushed, and is in the log until then; a read
//! sees whole writes only. The trait is what the engine uses of them: [lsm] is the product's, on trees that open their files
//! themselves; [simulated] has the same rules on a simulated medium.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::manifest::{CURRENT, TreeManifest, decode_current};
use crate::batch::Op;
use crate::engine::{Direction, Rows, ScanLimit, StoreError};
use crate::keys::{Key, KeyRange};
use crate::medium::Medium;

pub(super) mod lsm;
pub(super) mod simulated;

/// The trees' directory within the store's.
pub(super) const DIRECTORY: &str = "tables";

/// The trees, by the names of their directories.
pub(super) const TREES: [&str; 2] = ["entries", "rows"];

/// The directories with files in a tree's.
pub(super) const PARTS: [&str; 2] = ["tables", "blobs"];

/// See the module.
pub(super) trait Tables: Clone + Send + Sync + 'static {
    /// What their files lie on.
    type Medium: Medium;

    /// Opens those in a store's directory; trees that are not there are made.
    fn open(medium: &Self::Medium, store: &Path, cache_bytes: u64) -> Result<Self, TablesError>;

    /// Writes in memory, as a whole to those who read. One thread may.
    fn write<'a>(&self, ops: impl Iterator<Item = Op<'a>>);

    /// Bytes written since the last [`Tables::seal`].
    fn open_bytes(&self) -> u64;

    /// Closes what was written so far, for the next [`Tables::flush`].
    fn seal(&self);

    /// Writes what is sealed to files, durably.
    fn flush(&self) -> Result<(), TablesError>;

    /// Merges tables as far as there is reason to. Gives whether anything was done.
    fn compact(&self) -> Result<bool, TablesError>;

    /// Whether the version of each tree that its files name is the one in memory. After an error it may be the next one, whose
    /// file another attempt would write over.
    fn is_settled(&self) -> bool;

    /// Whether so many flushed tables wait to be merged that the writer should wait too.
    fn is_behind(&self) -> bool;

    /// Bytes of all files.
    fn file_bytes(&self) -> u64;

    /// What there is now, for the manifest.
    fn manifest(&self) -> io::Result<Vec<TreeManifest>> {
        Ok(self.pin()?.into_iter().map(|pinned| pinned.manifest).collect())
    }

    /// The same, of files that stay where they are until their pins are dropped, though they be merged meanwhile.
    fn pin(&self) -> io::Result<Vec<PinnedTree>>;

    /// Reads one value.
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError>;

    /// Reads a range in order.
    fn scan(&self, range: &KeyRange, direction: Direction, limit: ScanLimit) -> Result<Rows, StoreError>;
}

/// What keeps a file of the tables where it is. It must be gone when the store is opened again: the file of the same name may be
/// another one then.
pub(super) type Pin = Box<dyn Send + Sync>;

/// What a tree's files are, and what keeps each there, in their order.
pub(super) struct PinnedTree {
    pub(super) manifest: TreeManifest,
    pub(super) pins: Vec<Pin>,
}

/// Why the tables could not do something.
#[derive(Debug)]
pub(super) enum TablesError {
    /// The system or the medium did not do it, or gave less than was written.
    Io(io::Error),
    /// A file is not as it was written.
    Damaged(String),
}

impl TablesError {
    /// Whether what was written is not there as it was written.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Io(error) => is_damage(error.kind()),
            Self::Damaged(_) => true,
        }
    }
}

/// Whether a file of the tables that gives this is not there as it was written: it is gone, ends early (whoever then looks for what stands
/// before its end is told of a wrong argument), or says what makes no sense.
fn is_damage(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::NotFound
    )
}

impl std::fmt::Display for TablesError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Damaged(what) => write!(f, "{what}"),
        }
    }
}

impl From<io::Error> for TablesError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Where a tree lies.
pub(super) fn tree_path(store: &Path, name: &str) -> PathBuf {
    store.join(DIRECTORY).join(name)
}

/// Which of [`TREES`] a key lies in.
pub(super) fn tree_of(key: &[u8]) -> usize {
    usize::from(key.first() != Some(&b'e'))
}

/// The version that a tree's files name; `None` if that can't be read.
fn version_of<M: Medium>(medium: &M, tree: &Path) -> Option<u64> {
    let current = medium.read(&tree.join(CURRENT)).ok()?;
    decode_current(&current).map(|(version, _)| version)
}
