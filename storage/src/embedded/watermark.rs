//! How far groups have been acknowledged, beside the log.
//!
//! The end of the log may be torn after a power cut, and then ends before the torn group. That is right for a group that
//! nobody was told of, and loses what was acknowledged if the bytes have rotted. So the number of the newest acknowledged
//! group is written to a small file of its own. It is not synced: after a power cut it may be behind the log, which is no
//! loss, and never ahead of it.

use std::io;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use crate::medium::{Medium, MediumFile, Opening};

const FILE: &str = "acknowledged";

const BYTES: usize = 16;

/// The file.
#[derive(Debug)]
pub(super) struct Watermark<F>(F);

impl<F: MediumFile> Watermark<F> {
    /// Opens a store's file, which is made if it is not there, with the number in it; 0 if there is none.
    pub(super) fn open<M: Medium<File = F>>(medium: &M, store: &Path) -> io::Result<(Self, u64)> {
        let file = medium.open(&store.join(FILE), Opening::Kept)?;
        let mut bytes = [0; BYTES];
        let number = file.read_exact_at(&mut bytes, 0).ok().and_then(|()| decode(bytes));
        Ok((Self(file), number.unwrap_or(0)))
    }

    /// Groups up to this one are about to be acknowledged.
    pub(super) fn set(&self, number: u64) {
        // A number that can't be written only makes the check at the next opening weaker.
        let _ = self.0.write_all_at(&encode(number), 0);
    }
}

/// The number in a store's file, which is left as it is; 0 if there is none.
pub(super) fn read<M: Medium>(medium: &M, store: &Path) -> io::Result<u64> {
    let bytes = medium.read_if_there(&store.join(FILE))?;
    Ok(bytes.and_then(|bytes| bytes.try_into().ok()).and_then(decode).unwrap_or(0))
}

fn encode(number: u64) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..].copy_from_slice(&xxh3_64(&number.to_le_bytes()).to_le_bytes());
    bytes
}

fn decode(bytes: [u8; BYTES]) -> Option<u64> {
    let number = u64::from_le_bytes(*bytes.first_chunk()?);
    (encode(number) == bytes).then_some(number)
}
