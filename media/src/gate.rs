//! Who may upload, and how much: what the server's other parts say.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use crate::id::MediaId;
use crate::kinds::Type;

/// What is waited for.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A medium that somebody is about to upload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Declared {
    /// What it is to be called.
    pub id: MediaId,
    /// What it is.
    pub of: Type,
    /// Bytes that it has.
    pub bytes: u64,
}

/// A medium that is whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Whole {
    /// As it was declared.
    pub declared: Declared,
    /// By which account.
    pub owner: u64,
    /// The SHA-256 of its bytes.
    pub sha256: [u8; 32],
}

/// Why not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The token is none, or is over: 401.
    Unauthenticated,
    /// The account may not upload at all: 403.
    Forbidden,
    /// The account has uploaded too much of late: 429.
    TooMany(Duration),
    /// The account has no room left: 507.
    NoRoom,
    /// It can't be known now: 503.
    Unavailable(Duration),
}

impl Refusal {
    /// Whether it will not be otherwise for the same upload.
    pub fn is_for_good(&self) -> bool {
        matches!(self, Self::Unauthenticated | Self::Forbidden | Self::NoRoom)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unauthenticated => "there is no access token, or it is over: log in, or refresh it",
            Self::Forbidden => "the account may not upload",
            Self::TooMany(_) => "the account uploads too much: try again later",
            Self::NoRoom => "the account has as many bytes as it may: delete some",
            Self::Unavailable(_) => "it can't be known now whether the account may upload: try again",
        })
    }
}

/// See the module.
pub trait Gate: Send + Sync + 'static {
    /// Whose access token this is.
    fn who<'a>(&'a self, token: &'a str) -> Doing<'a, Result<u64, Refusal>>;

    /// Whether an account may upload this. It counts as one of its uploads from then on.
    fn begin(&self, owner: u64, declared: Declared) -> Doing<'_, Result<(), Refusal>>;

    /// Whether there is such a medium. For the job that looks for bytes of which nobody knows.
    fn is_known(&self, id: MediaId) -> Doing<'_, Result<bool, Refusal>>;

    /// A medium is whole, and has its place. What it is to be known by is durable when this is done; it may be told more than once.
    fn whole(&self, whole: Whole) -> Doing<'_, Result<(), Refusal>>;
}
