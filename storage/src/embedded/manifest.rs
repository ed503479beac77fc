//! The manifest: what the tables must hold, so that absence is never taken for "never was".
//!
//! It says up to which group everything is in flushed tables, and which files each tree then had, with their sizes and
//! checksums. It is written after every flush and before any segment of the log is let go, so a store whose manifest and
//! log do not meet has lost something. Of the small files by which a tree finds its tables it holds the bytes: a tree
//! whose own are damaged can be read by them.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;
use xxhash_rust::xxh3::xxh3_128;

use super::files;
use super::tables::{Tables, tree_path};
use crate::medium::Medium;

/// Its file within the store's directory.
pub(super) const FILE: &str = "manifest";

const MAGIC: &[u8; 8] = b"ternman1";

/// The file by which a tree finds its version, and bytes of it: the version's number, the checksum of the version's file.
pub(super) const CURRENT: &str = "current";

/// See the module.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Manifest {
    /// The layout of keys and records.
    #[prost(uint64, tag = "1")]
    pub(super) layout: u64,
    /// Groups up to this one are in the files.
    #[prost(uint64, tag = "2")]
    pub(super) flushed: u64,
    /// In the order of [`super::tables::TREES`].
    #[prost(message, repeated, tag = "3")]
    pub(super) trees: Vec<TreeManifest>,
}

/// The files of a tree.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TreeManifest {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    /// The tree's own count of its changes.
    #[prost(uint64, tag = "2")]
    pub(super) version: u64,
    /// What is in `current`, and in the file of the version.
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) current: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) version_file: Bytes,
    #[prost(message, repeated, tag = "5")]
    pub(super) files: Vec<FileManifest>,
}

/// One file of a tree.
#[derive(Clone, PartialEq, Message)]
pub(super) struct FileManifest {
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
}

/// What was found where the manifest should be.
pub(super) enum Found {
    Whole(Manifest),
    Damaged(String),
    Absent,
}

impl Manifest {
    /// Of the tables as they are now.
    pub(super) fn of<T: Tables>(layout: u64, flushed: u64, tables: &T) -> io::Result<Self> {
        Ok(Self { layout, flushed, trees: tables.manifest()? })
    }

    /// Reads a store's.
    pub(super) fn read<M: Medium>(medium: &M, store: &Path) -> io::Result<Found> {
        let Some(bytes) = medium.read_if_there(&store.join(FILE))? else { return Ok(Found::Absent) };
        Ok(Self::decode_file(&bytes)
            .map_or_else(|| Found::Damaged("its checksum does not match".to_owned()), Found::Whole))
    }

    fn decode_file(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (sum, content) = rest.split_first_chunk::<16>()?;
        if u128::from_be_bytes(*sum) != xxh3_128(content) {
            return None;
        }
        Self::decode(content).ok()
    }

    /// Puts it in the place of the one before, durably.
    pub(super) fn write<M: Medium>(&self, medium: &M, store: &Path) -> io::Result<()> {
        let content = self.encode_to_vec();
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&xxh3_128(&content).to_be_bytes());
        bytes.extend_from_slice(&content);
        files::replace(medium, &store.join(FILE), &bytes)
    }
}

/// Something that is not as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Finding {
    pub(super) file: PathBuf,
    pub(super) what: String,
    /// What can't be read without it.
    pub(super) covers: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} ({})", self.file.display(), self.what, self.covers)
    }
}

/// Whether a tree's files are there with the lengths that they had, and the small ones as they were. Says nothing of a
/// tree that has gone on since the manifest was written, but that it must not be older.
pub(super) fn check_tree<M: Medium>(
    medium: &M,
    store: &Path,
    manifest: &TreeManifest,
) -> io::Result<Vec<Finding>> {
    let path = tree_path(store, &manifest.name);
    let everything = || format!("all of the tables of {}", manifest.name);
    let finding = |file: PathBuf, what: &str, covers: String| Finding { file, what: what.to_owned(), covers };
    let current = path.join(CURRENT);
    let Some(bytes) = medium.read_if_there(&current)? else {
        return Ok(vec![finding(current, "it is missing", everything())]);
    };
    let Some((version, sum)) = decode_current(&bytes) else {
        return Ok(vec![finding(current, "it is not what was written", everything())]);
    };
    let version_path = path.join(format!("v{version}"));
    let Some(bytes) = medium.read_if_there(&version_path)? else {
        let what = format!("it names version {version}, whose file v{version} is missing");
        return Ok(vec![finding(current, &what, everything())]);
    };
    if xxh3_128(&bytes) != sum {
        return Ok(vec![finding(version_path, "its checksum does not match", everything())]);
    }
    if version < manifest.version {
        let what = format!("it is of version {version}, and version {} was there", manifest.version);
        return Ok(vec![finding(current, &what, everything())]);
    }
    if version > manifest.version {
        return Ok(Vec::new());
    }
    if bytes != manifest.version_file {
        return Ok(vec![finding(version_path, "it is not what was written", everything())]);
    }
    check_lengths(medium, &path, &manifest.files)
}

/// Whether a tree is as the manifest says, and has not gone on since.
pub(super) fn is_at<M: Medium>(medium: &M, tree: &Path, manifest: &TreeManifest) -> io::Result<bool> {
    Ok(medium.read_if_there(&tree.join(CURRENT))?.is_some_and(|current| current == manifest.current))
}

fn check_lengths<M: Medium>(medium: &M, tree: &Path, expected: &[FileManifest]) -> io::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in expected {
        let path = tree.join(&file.path);
        let what = match medium.length(&path) {
            Ok(found) if found == file.bytes => continue,
            Ok(found) => format!("it has {found} bytes of {}", file.bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => "it is missing".to_owned(),
            Err(error) => return Err(error),
        };
        findings.push(Finding { file: path, what, covers: file.covers.clone() });
    }
    Ok(findings)
}

/// The version's number and the checksum of its file.
pub(super) fn decode_current(bytes: &[u8]) -> Option<(u64, u128)> {
    let (version, rest) = bytes.split_first_chunk::<8>()?;
    let (sum, kind) = rest.split_first_chunk::<16>()?;
    (kind == [0]).then(|| (u64::from_le_bytes(*version), u128::from_le_bytes(*sum)))
}

/// What `current` holds when it names a version with a file of this checksum.
pub(super) fn encode_current(version: u64, checksum: u128) -> Vec<u8> {
    [&version.to_le_bytes()[..], &checksum.to_le_bytes(), &[0]].concat()
}
