//! What lies under a store: the few things that the embedded engine asks of a file system.
//!
//! The engine's log, manifest, recovery and hand-over are generic over [`Medium`], so that what runs on a disk
//! (`Disk`) is what runs on a simulated one ([`SimulatedMedium`]), where power cuts tear and lose what was not synced.
//! Dispatch is static: on the disk it costs what the calls themselves cost. This module refuses to know what lies in the
//! files.

use std::io;
use std::path::{Path, PathBuf};

#[cfg(feature = "embedded")]
mod disk;
pub mod simulated;
pub mod stream;

#[cfg(feature = "embedded")]
pub use self::disk::Disk;
pub use self::simulated::SimulatedMedium;

/// A file system, as far as a store needs one. What it names or removes is durable after [`Medium::sync_dir`] alone, unless it
/// says otherwise.
pub trait Medium: Clone + Send + Sync + 'static {
    /// An open file.
    type File: MediumFile;
    /// What holds a lock until it is dropped.
    type Lock: Send + Sync;

    /// Opens a file for reading, and for writing unless that is not asked for.
    fn open(&self, path: &Path, opening: Opening) -> io::Result<Self::File>;

    /// What is in a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Bytes of a file; anything for a directory.
    fn length(&self, path: &Path) -> io::Result<u64>;

    /// What is in a directory, in any order; nothing if there is none.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;

    /// Gives a file another name in its directory, in the place of what has it. Others see the one or the other.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with all that is in it, if it is there.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes a directory with those above it, if it is not there, and has it be its owner's alone. Then it is durable, and so are
    /// those above it that were made.
    fn make_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes what was named or removed in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Bytes that may still be written, where this directory lies.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Takes a lock that no other process can take meanwhile, by a file that is made if it is not there.
    fn lock(&self, path: &Path) -> io::Result<Locking<Self::Lock>>;

    /// What is in a file; `None` if there is none.
    fn read_if_there(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match self.read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether there is a file or a directory of this name.
    fn exists(&self, path: &Path) -> bool {
        self.length(path).is_ok()
    }
}

/// An open file of a [`Medium`]. What was written is durable after a sync alone.
pub trait MediumFile: Send + Sync + 'static {
    /// Writes all of `bytes`, or fails with nobody knowing what was written.
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Fills `bytes`, or fails.
    fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;

    /// Makes the content durable, and the length if that has changed. After a failure nobody knows what the medium has.
    fn sync_data(&self) -> io::Result<()>;

    /// As [`MediumFile::sync_data`], with all that is known of the file.
    fn sync_all(&self) -> io::Result<()>;
}

/// A directory and those above it, from the top on.
fn from_top(path: &Path) -> Vec<&Path> {
    let mut dirs: Vec<_> = path.ancestors().filter(|dir| !dir.as_os_str().is_empty()).collect();
    dirs.reverse();
    dirs
}

/// What a file is to be when it is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opening {
    /// As it is, for reading alone; it must be there.
    Reading,
    /// As it is; it must be there.
    Existing,
    /// As it is, or new.
    Kept,
    /// Empty, or new.
    Emptied,
}

/// What came of an attempt to take a lock.
#[derive(Debug)]
pub enum Locking<L> {
    /// It is held as long as this lives.
    Taken(L),
    /// Another process has it: this one, if it has said so.
    Held(Option<u32>),
}
