//! Why a store could not be opened, and what the operator can do about it.

use std::fmt;
use std::path::PathBuf;

use super::LAYOUT;

/// Why a store could not be opened, by what the operator can do.
#[derive(Debug)]
pub enum OpenError {
    /// Another running process has it.
    InUse {
        /// The store's directory.
        path: PathBuf,
        /// The other process, if it has said.
        pid: Option<u32>,
    },
    /// Its files are not what was written.
    Damaged {
        /// The store's directory.
        path: PathBuf,
        /// What was found: the file, what is wrong with it, and what it covers.
        findings: Vec<String>,
    },
    /// A newer or unknown version wrote it.
    Layout {
        /// The store's directory.
        path: PathBuf,
        /// The layout found.
        found: u64,
    },
    /// A restore into it has not come to its end.
    Unfinished {
        /// The store's directory.
        path: PathBuf,
    },
    /// The system refused.
    Io {
        /// The store's directory.
        path: PathBuf,
        /// What it said.
        error: std::io::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { path, pid: Some(pid) } => {
                write!(f, "{} belongs to another running ternd (pid {pid}): stop it first", path.display())
            }
            Self::InUse { path, pid: None } => {
                write!(f, "{} belongs to another running ternd: stop it first", path.display())
            }
            Self::Damaged { path, findings } => {
                let path = path.display();
                writeln!(f, "the store in {path} is damaged, and was left as it is:")?;
                findings.iter().try_for_each(|finding| writeln!(f, "  {finding}"))?;
                write!(
                    f,
                    "restore it from a backup; or `ternctl check {path}` says what is whole, and `ternctl check {path} \
                     --salvage NEW` writes that to a new store"
                )
            }
            Self::Layout { path, found } => write!(
                f,
                "the store in {} has layout {found}, this ternd reads layout {LAYOUT}: use the version that wrote it, or begin a new store",
                path.display()
            ),
            Self::Unfinished { path } => write!(
                f,
                "a restore into the store in {} did not come to its end: remove the directory, and restore again",
                path.display()
            ),
            Self::Io { path, error } => {
                write!(
                    f,
                    "the store in {} can't be opened, and is not known to be damaged: ",
                    path.display()
                )?;
                let (what, remedy) = environment(error);
                write!(f, "{what} ({error}): {remedy}")
            }
        }
    }
}

impl std::error::Error for OpenError {}

/// What of the machine stands in the way, and what helps.
fn environment(error: &std::io::Error) -> (&'static str, &'static str) {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            ("the disk is full", "make room, then start again")
        }
        ErrorKind::PermissionDenied => {
            ("it is not permitted", "the files must belong to the user that ternd runs as")
        }
        ErrorKind::ReadOnlyFilesystem => ("the file system is read-only", "mount it for writing"),
        ErrorKind::OutOfMemory => ("there is no memory", "give it more, then start again"),
        _ if error.raw_os_error().is_some_and(is_descriptors) => {
            ("there are no file descriptors left", "raise the limit of open files (ulimit -n)")
        }
        _ => ("the disk or its driver failed", "check the disk, then start again"),
    }
}

fn is_descriptors(code: i32) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| errno.raw_os_error() == code)
}
