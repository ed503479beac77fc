//! A group as it lies in a segment; the format stands in [the log's module](super).

use std::io;

use xxhash_rust::xxh3::Xxh3;

use crate::batch::Batch;
use crate::mutations::{self, Mutation};

pub(super) const MAGIC: &[u8; 4] = b"tlog";
pub(super) const HEADER_BYTES: usize = 24;

fn checksum(salt: u64, number: u64, payload: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.update(payload);
    hasher.digest()
}

/// Appends a group to `record`.
pub(super) fn encode(salt: u64, number: u64, batches: &[&Batch], record: &mut Vec<u8>) -> io::Result<()> {
    let begin = record.len();
    record.resize(begin + HEADER_BYTES, 0);
    batches.iter().for_each(|batch| record.extend_from_slice(batch.encoded()));
    let (header, payload) = record[begin..].split_at_mut(HEADER_BYTES);
    let length = u32::try_from(payload.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a group is too long for the log"))?;
    header[..4].copy_from_slice(MAGIC);
    header[4..8].copy_from_slice(&length.to_le_bytes());
    header[8..16].copy_from_slice(&number.to_le_bytes());
    header[16..24].copy_from_slice(&checksum(salt, number, payload).to_le_bytes());
    Ok(())
}

/// Where the group `number` that begins here ends; `None` if it is not here, or not whole.
pub(super) fn decode(salt: u64, bytes: &[u8], number: u64) -> Option<usize> {
    let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
    let length = u32::from_le_bytes(*header[4..].first_chunk()?) as usize;
    let found = u64::from_le_bytes(*header[8..].first_chunk()?);
    let sum = u64::from_le_bytes(*header[16..].first_chunk()?);
    let payload = rest.get(..length)?;
    let is_right = mutations::is(Mutation::AcceptTornTail) || sum == checksum(salt, number, payload);
    let whole = header[..4] == *MAGIC && found == number && is_right;
    whole.then_some(HEADER_BYTES + length)
}
