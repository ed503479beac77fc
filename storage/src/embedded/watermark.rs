//! How far groups have been acknowledged, beside the store.
//!
//! fjall takes a damaged length or tag in its journal for the torn end of the last write, and cuts off everything from
//! there. That is right after a power cut, and silently loses acknowledged groups if the bytes have rotted. So every
//! group carries its number, and the number of the newest acknowledged one is written to a small file of its own. It is
//! not synced: after a power cut it may be behind the store, which is no loss, and never ahead of it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

const BYTES: usize = 16;

/// The file.
#[derive(Debug)]
pub(super) struct Watermark(File);

impl Watermark {
    /// Opens a store's file, which is made if it is not there, with the number in it; 0 if there is none.
    pub(super) fn open(store: &Path) -> std::io::Result<(Self, u64)> {
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).open(store.join("acknowledged"))?;
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
