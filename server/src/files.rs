//! Files that are whole or not there, private, and never in place of another's.
//!
//! A file is made under a temporary name, synced, given its name only if nothing has it, and then the directory is synced.
//! Each may be read by its owner alone, wherever it lies: the mode of a directory above is the operator's business.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// For the owner alone.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

/// Has all files of this process begin without rights for others: behind the modes that are given, a second line.
pub fn keep_to_owner() {
    rustix::process::umask(rustix::fs::Mode::from_bits_truncate(0o077));
}

/// Makes a directory with those above it, private; those that are made are there after a power cut. One that is there stays
/// as it is.
pub fn make_dir(path: &Path) -> io::Result<()> {
    let is_missing = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
    let missing: Vec<_> = path.ancestors().take_while(is_missing).collect();
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(path)?;
    let sync =
        |dir: &Path| File::open(if dir.as_os_str().is_empty() { Path::new(".") } else { dir })?.sync_all();
    missing.into_iter().filter_map(Path::parent).try_for_each(sync)
}

/// Makes a directory of ternd's own, into which nobody else may go: also one that is there. What is in it stays as it is, for it may be very
/// much.
pub fn make_private_dir(path: &Path) -> io::Result<()> {
    make_dir(path)?;
    make_one_private(path, &fs::metadata(path)?).map(drop)
}

/// Takes the rights of others from a file or a directory. Gives whether they had some.
fn make_one_private(path: &Path, kind: &fs::Metadata) -> io::Result<bool> {
    let is_open = kind.permissions().mode() & 0o077 != 0;
    if is_open {
        fs::set_permissions(path, Permissions::from_mode(if kind.is_dir() { DIR_MODE } else { FILE_MODE }))?;
    }
    Ok(is_open)
}

/// Takes the rights of others from a directory and all that is in it. Gives how many had some.
pub fn make_private(path: &Path) -> io::Result<usize> {
    let kind = fs::symlink_metadata(path)?;
    if kind.is_symlink() {
        return Ok(0);
    }
    let mut changed = usize::from(make_one_private(path, &kind)?);
    if kind.is_dir() {
        for entry in fs::read_dir(path)? {
            changed += make_private(&entry?.path())?;
        }
    }
    Ok(changed)
}

/// Where a file lies until it has its name.
pub fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

/// Writes a file under its temporary name, in place of what a start that was cut off has left there.
pub fn prepare(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = temporary(path);
    remove_if_there(&temporary)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Gives a prepared file its name. An error, and nothing changed, if something has it.
pub fn publish(path: &Path) -> io::Result<()> {
    let temporary = temporary(path);
    match fs::hard_link(&temporary, path) {
        Ok(()) => fs::remove_file(&temporary)?,
        // A file system without links: nobody else is at work here but a ternd, and that holds the store's lock.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !fs::exists(path)? => {
            fs::rename(&temporary, path)?;
        }
        Err(error) => return Err(error),
    }
    sync_dir_of(path)
}

/// Removes a file of our own. It is no error if it is not there.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Puts a file aside under another name, and overwrites nothing. Gives that name.
pub fn put_aside(path: &Path) -> io::Result<PathBuf> {
    for number in 0..1000 {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = path.with_file_name(format!("{name}.half-{number}"));
        if !fs::exists(&aside)? {
            fs::rename(path, &aside)?;
            sync_dir_of(path)?;
            return Ok(aside);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn sync_dir_of(path: &Path) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_private_whole_and_in_nobodys_place() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("key.pem");
        prepare(&path, b"half of an earlier sta").expect("prepared");
        prepare(&path, b"content").expect("prepared anew");
        publish(&path).expect("published");
        assert_eq!(fs::read(&path).expect("read"), b"content");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(!temporary(&path).exists());
        prepare(&path, b"another").expect("prepared");
        assert_eq!(publish(&path).expect_err("it is there").kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).expect("read"), b"content", "what is there stays");
    }

    #[test]
    fn what_others_could_read_is_made_private() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (store, file) = (dir.path().join("store"), dir.path().join("store/log"));
        fs::create_dir(&store).expect("made");
        fs::write(&file, b"secret").expect("written");
        fs::set_permissions(&store, Permissions::from_mode(0o755)).expect("set");
        fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("set");
        assert_eq!(make_private(&store).expect("made private"), 2);
        assert_eq!(make_private(&store).expect("nothing is left to do"), 0);
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    }
}
