//! Where media lie.

mod breaker;
mod bucket;
pub(crate) mod files;
mod guarded;
mod local;

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub use self::bucket::{BadBucket, BucketStore};
pub use self::guarded::{Guarded, Health};
pub use self::local::LocalStore;
use crate::gate::Doing;
use crate::id::MediaId;
use crate::metadata::DIGEST_BYTES;

/// What is known of a medium where it lies.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct About {
    /// What it is: a name of the list of types.
    pub of: String,
    /// Its bytes.
    pub bytes: u64,
    /// The SHA-256 of them.
    pub sha256: [u8; DIGEST_BYTES],
    /// Who has uploaded it.
    pub owner: u64,
}

/// Why a store did not do something.
#[derive(Debug)]
pub enum StoreError {
    /// There is no room.
    Full,
    /// The medium is there no more.
    Gone,
    /// What lies there is not what was put there.
    Damaged(String),
    /// It has failed again and again, and is left alone: it may be tried again in so long.
    Away(Duration),
    /// The disk on which uploads lie has failed, and not where media lie.
    Disk(String),
    /// Anything else: it may be tried again.
    Failed(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("there is no room left for media"),
            Self::Gone => f.write_str("the medium is there no more"),
            Self::Away(_) => f.write_str("the store of media fails, and is left alone for a while"),
            Self::Damaged(what) | Self::Disk(what) | Self::Failed(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        match error.kind() {
            StorageFull | QuotaExceeded => Self::Full,
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// Pieces of a medium, in their order, as they are read. They end early where reading fails: then an error is the last.
pub type Pieces = mpsc::Receiver<Result<Bytes, StoreError>>;

/// See the module.
pub trait Store: Send + Sync + 'static {
    /// Takes a file that is whole and synced as a medium, durably. What was there under this id is taken for the same.
    fn keep<'a>(&'a self, id: MediaId, about: &'a About, file: &'a Path)
    -> Doing<'a, Result<(), StoreError>>;

    /// What is known of a medium; `None`: there is none.
    fn about(&self, id: MediaId) -> Doing<'_, Result<Option<About>, StoreError>>;

    /// Takes what is known of a medium's looks, durably, before the medium comes. It goes with the medium.
    fn keep_preview<'a>(&'a self, id: MediaId, json: &'a [u8]) -> Doing<'a, Result<(), StoreError>>;

    /// The same; `None`: there is none.
    fn preview(&self, id: MediaId) -> Doing<'_, Result<Option<Vec<u8>>, StoreError>>;

    /// Reads some of a medium that is there.
    fn read(&self, id: MediaId, bytes: Range<u64>) -> Doing<'_, Result<Pieces, StoreError>>;

    /// The media whose ids begin with this byte, each with when it was put there, and what is left of such.
    fn list(&self, first: u8) -> Doing<'_, Result<Vec<(MediaId, SystemTime)>, StoreError>>;

    /// Removes a medium, durably, if it is there.
    fn remove(&self, id: MediaId) -> Doing<'_, Result<(), StoreError>>;

    /// Where whoever has a link to a medium has it, for so long, by a request of this method, without this server; `None`: nowhere.
    fn link(
        &self,
        _id: MediaId,
        _method: hyper::Method,
        _valid: Duration,
    ) -> Doing<'_, Result<Option<String>, StoreError>> {
        Box::pin(async { Ok(None) })
    }
}
