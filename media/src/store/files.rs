//! Files that are there as a whole, or not at all, whatever happens meanwhile.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;

use tokio::task::spawn_blocking;

use super::StoreError;

/// Does what may wait for the disk, aside.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(StoreError::Failed(error.to_string())))
}

/// Writes a file that is there as a whole, durably, or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_folder_of(path)
}

/// Removes a file, if it is there.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    fs::remove_file(path).or_else(if_not_there)
}

/// That a file is not there is no error.
pub(crate) fn if_not_there(error: io::Error) -> io::Result<()> {
    if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// What was made, renamed or removed beside a file is so after a crash.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    sync(path.parent().expect("it lies in a folder"))
}

/// What is in a folder is so after a crash.
pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
