//! The file system of this machine. Files and directories are their owner's alone, wherever they lie.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::{Locking, Medium, MediumFile, Opening, from_top};

/// See the module.
#[derive(Clone, Copy, Default, Debug)]
pub struct Disk;

/// How files are opened: those that are made, for their owner alone.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

impl Medium for Disk {
    type File = File;
    type Lock = File;

    fn open(&self, path: &Path, opening: Opening) -> io::Result<File> {
        match opening {
            Opening::Reading => File::open(path),
            Opening::Existing => options().open(path),
            Opening::Kept => options().create(true).truncate(false).open(path),
            Opening::Emptied => options().create(true).truncate(true).open(path),
        }
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        match fs::read_dir(dir) {
            Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        let is_missing = |dir: &&Path| !dir.exists();
        let missing: Vec<_> = from_top(path).into_iter().filter(is_missing).collect();
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let mode = fs::metadata(path)?.permissions().mode();
        if mode & 0o077 != 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o700))?;
        }
        // The directory above one that was there may have been made by a process that the power cut ended before it synced it.
        let above = missing.iter().copied().chain((missing.is_empty()).then_some(path));
        above.filter_map(Path::parent).try_for_each(|parent| self.sync_dir(parent))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let is_here = path.as_os_str().is_empty();
        File::open(if is_here { Path::new(".") } else { path })?.sync_all()
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let space = rustix::fs::statvfs(path)?;
        Ok(space.f_bavail * space.f_frsize)
    }

    /// The process writes its number into the file, for the next one to name.
    fn lock(&self, path: &Path) -> io::Result<Locking<File>> {
        let mut file = self.open(path, Opening::Kept)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                return Ok(Locking::Held(text.trim().parse().ok()));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        file.set_len(0)?;
        file.rewind()?;
        write!(file, "{}", std::process::id())?;
        Ok(Locking::Taken(file))
    }
}

impl MediumFile for File {
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, at)
    }

    fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, bytes, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        File::sync_all(self)
    }
}
