//! Why a file goes without a preview, by whose doing.

use std::{fmt, io};

use crate::preview::{Malformed, Refusal, TooLarge};

/// Why there is no preview.
#[derive(Debug)]
pub enum PreviewError {
    /// There are none of this type, or of what it can have and this file has.
    Unsupported,
    /// The file is not what its type says, or is damaged.
    Malformed(Malformed),
    /// It would take more than may be given. Of memory, the process itself may not have known: then the kernel has refused it some, for an
    /// allocation or its stack, and it has aborted; of computing it never does.
    TooLarge(TooLarge),
    /// It took longer than a process may, by the clock: the machine may be busy.
    TimedOut,
    /// The process has ended otherwise than it should: a decoder has a fault. Others are not concerned.
    Died {
        /// How.
        how: How,
    },
    /// Too many files wait: try again later.
    Busy,
    /// The program can't lock itself in, and has read nothing: the operator acts.
    NoSandbox,
    /// The program can't be started, or the file not be read: the operator acts.
    Failed(io::Error),
}

/// How a process has ended that should not have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// It panicked.
    Panicked,
    /// It tried what it may not, and was killed.
    Forbidden,
    /// By this signal.
    Signal(i32),
    /// With this exit status.
    Exit(i32),
    /// What it answered is no answer.
    Answer,
}

impl From<Refusal> for PreviewError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unsupported => Self::Unsupported,
            Refusal::Malformed(malformed) => Self::Malformed(malformed),
            Refusal::TooLarge(what) => Self::TooLarge(what),
        }
    }
}

impl From<io::Error> for PreviewError {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl fmt::Display for PreviewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported => Refusal::Unsupported.fmt(f),
            Self::Malformed(malformed) => Refusal::Malformed(*malformed).fmt(f),
            Self::TooLarge(what) => Refusal::TooLarge(*what).fmt(f),
            Self::TimedOut => f.write_str("a preview of the file takes too long"),
            Self::Died { how } => write!(f, "the process that makes the preview {how}"),
            Self::Busy => f.write_str("too many files wait for a preview: try again later"),
            Self::NoSandbox => f.write_str(
                "tern-preview can't lock itself in, and reads nothing: does the kernel have seccomp?",
            ),
            Self::Failed(error) => write!(f, "tern-preview can't be run: {error}"),
        }
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked => f.write_str("panicked"),
            Self::Forbidden => f.write_str("was killed for what it tried"),
            Self::Signal(signal) => write!(f, "was ended by signal {signal}"),
            Self::Exit(status) => write!(f, "ended with status {status}"),
            Self::Answer => f.write_str("answered what is no answer"),
        }
    }
}

impl std::error::Error for PreviewError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }
}
