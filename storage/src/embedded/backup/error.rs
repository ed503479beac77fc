//! Why a backup can't be read, or a restore not be done, by what the operator can do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// See the module.
#[derive(Debug)]
pub enum BackupError {
    /// The system refused.
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// A file is not what was written.
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A file is encrypted, and its key was not given.
    NoKey {
        /// Which file.
        path: PathBuf,
        /// What names the key.
        key_id: u64,
    },
    /// It can't be done as it was asked for.
    Refused(String),
}

impl BackupError {
    pub(super) fn io(path: &Path, error: io::Error) -> Self {
        Self::Io { path: path.to_owned(), error }
    }

    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }

    /// Whether it says of the backup that it is not what was written; else it says of the machine, or of the question.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Io { error, .. } => error.kind() == io::ErrorKind::NotFound,
            Self::NoKey { .. } | Self::Refused(_) => false,
        }
    }
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Damaged { path, what } => write!(f, "{} is damaged: {what}", path.display()),
            Self::NoKey { path, key_id } => write!(
                f,
                "{} is encrypted under key {key_id:016x}: name that key's file with --key-file",
                path.display()
            ),
            Self::Refused(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for BackupError {}
