//! That a backup goes on, as a file of the store: so that the next start goes on with it, and keeps of the log what it has not got.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;
use xxhash_rust::xxh3::xxh3_64;

use crate::embedded::files;
use crate::medium::Medium;

/// Its name within the store's directory.
pub(in super::super) const FILE: &str = "backup";

/// See the module.
#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct BackupState {
    #[prost(string, tag = "1")]
    dir: String,
    /// Empty: it is not encrypted.
    #[prost(string, tag = "2")]
    key_file: String,
    /// What names the key; 0 if it is not encrypted.
    #[prost(uint64, tag = "3")]
    pub(super) key_id: u64,
    /// Bytes a second.
    #[prost(uint64, tag = "4")]
    pub(super) rate: u64,
    /// Bases that are kept.
    #[prost(uint32, tag = "5")]
    pub(super) keep: u32,
    /// The backup's id; empty before its directory was opened for the first time.
    #[prost(bytes = "bytes", tag = "6")]
    pub(super) backup: Bytes,
    /// The chain that is written; 0 before the first.
    #[prost(uint32, tag = "7")]
    pub(super) chain: u32,
    /// Groups up to this one are archived, or more.
    #[prost(uint64, tag = "8")]
    pub(in super::super) archived: u64,
    /// It may go on in plain where it was encrypted.
    #[prost(bool, tag = "9")]
    pub(super) plain: bool,
}

impl BackupState {
    pub(super) fn new(dir: &Path, key_file: Option<&Path>, key_id: u64) -> Self {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let (dir, key_file) = (text(dir), key_file.map(text).unwrap_or_default());
        Self { dir, key_file, key_id, ..Self::default() }
    }

    pub(super) fn dir(&self) -> PathBuf {
        PathBuf::from(&self.dir)
    }

    pub(super) fn key_file(&self) -> Option<&Path> {
        Some(Path::new(&self.key_file)).filter(|path| !path.as_os_str().is_empty())
    }

    /// A store's; `None` if no backup goes on, and if the file is damaged: a start must not fail by it.
    pub(in super::super) fn read<M: Medium>(medium: &M, store: &Path) -> io::Result<Option<Self>> {
        let bytes = medium.read_if_there(&store.join(FILE))?;
        let decode = |bytes: Vec<u8>| {
            let (sum, content) = bytes.split_first_chunk::<8>()?;
            let is_right = u64::from_le_bytes(*sum) == xxh3_64(content);
            is_right.then(|| Self::decode(content).ok()).flatten()
        };
        Ok(bytes.and_then(decode))
    }

    pub(super) fn write<M: Medium>(&self, medium: &M, store: &Path) -> io::Result<()> {
        let content = self.encode_to_vec();
        let bytes = [&xxh3_64(&content).to_le_bytes()[..], &content].concat();
        files::replace(medium, &store.join(FILE), &bytes)
    }

    pub(super) fn remove<M: Medium>(medium: &M, store: &Path) -> io::Result<()> {
        let path = store.join(FILE);
        if medium.exists(&path) {
            medium.remove(&path)?;
        }
        medium.sync_dir(store)
    }
}
