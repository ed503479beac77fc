//! The bounds of media, each with what happens when it is reached. Those that an operator may set are fields of [`Limits`].

use std::time::Duration;

/// What an operator may set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a picture. Beyond: 413, before a byte comes.
    pub image_bytes_max: u64,
    /// Bytes of a recording. The same.
    pub audio_bytes_max: u64,
    /// Bytes of a video. The same.
    pub video_bytes_max: u64,
    /// Bytes of a document, and of what is encrypted. The same.
    pub document_bytes_max: u64,
    /// Connections at once. Beyond, a new one waits until another one ends.
    pub connections_max: usize,
    /// Connections at once of one network: an IPv4 address, or the first half of an IPv6 one. Beyond, a new one ends at once. 0: any number.
    pub network_connections_max: usize,
    /// Uploads at once of one account. Beyond: 503. 0: any number.
    pub account_uploads_max: usize,
    /// Bytes of uploads a second, all together: what is beyond waits where it is. 0: any number.
    pub upload_bytes_per_s: u64,
    /// How long less than [`STEP_BYTES`] may come of an upload, or nothing be taken of a download. Beyond, the connection ends; what has come
    /// stays.
    pub idle_timeout: Duration,
    /// How long an upload stays to which nothing comes. Beyond, it is gone.
    pub upload_valid: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            image_bytes_max: 16 << 20,
            audio_bytes_max: 16 << 20,
            video_bytes_max: 100 << 20,
            document_bytes_max: 100 << 20,
            connections_max: 4_096,
            network_connections_max: 256,
            account_uploads_max: 16,
            upload_bytes_per_s: 32 << 20,
            idle_timeout: Duration::from_secs(30),
            upload_valid: Duration::from_secs(24 * 3600),
        }
    }
}

/// Bytes of a request's head. Beyond: 431.
pub const HEAD_BYTES_MAX: usize = 16 << 10;

/// How long the head of a request may take. Beyond, the connection ends.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of an upload by which its type is known. Fewer, if that is all.
pub const SNIFFED_BYTES: usize = 8 << 10;

/// Bytes of `Upload-Metadata`. Beyond: 400.
pub const METADATA_BYTES_MAX: usize = 4 << 10;

/// Bytes of a file that are read at once.
pub const PIECE_BYTES: usize = 64 << 10;

/// Media of one account that are looked at at once, or wait for it. Beyond: 503.
pub const ACCOUNT_LOOKS_MAX: usize = 4;

/// How long a medium waits at most until somebody has looked at it. Beyond: 503.
pub const LOOK_TIMEOUT: Duration = Duration::from_secs(40);

/// Bytes of an upload by which it gets on.
pub const STEP_BYTES: usize = 4 << 10;

/// Bytes of an upload that may have come and are not on the disk.
pub const UNSYNCED_MAX: u64 = 1 << 20;

/// How long a request waits for another one that writes to the same upload, and is told to stop. Beyond: 423.
pub const TAKE_OVER_TIMEOUT: Duration = Duration::from_secs(5);

/// How old bytes are of which nobody knows, at least, when they are removed.
pub const ORPHAN_AGE: Duration = Duration::from_secs(3600);
