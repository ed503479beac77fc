//! A group as it lies in a segment; the format stands in [the log's module](super).

use std::io;

use xxhash_rust::xxh3::Xxh3;

use crate::batch::{Batch, Op};
use crate::mutations::{self, Mutation};

pub(super) const MAGIC: &[u8; 4] = b"tlog";
pub(super) const HEADER_BYTES: usize = 24;

const PUT: u8 = 1;
const DELETE: u8 = 2;

/// A write as it lies in the log: the key, and the value if it is set.
pub(in super::super) type RawOp<'a> = (&'a [u8], Option<&'a [u8]>);

fn checksum(salt: u64, number: u64, payload: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.update(payload);
    hasher.digest()
}

/// Appends a group to `record`.
pub(super) fn encode(salt: u64, number: u64, batches: &[&Batch], record: &mut Vec<u8>) -> io::Result<()> {
    let too_long =
        |_| io::Error::new(io::ErrorKind::InvalidInput, "a key, value or group is too long for the log");
    let begin = record.len();
    record.resize(begin + HEADER_BYTES, 0);
    for op in batches.iter().flat_map(|batch| batch.ops()) {
        match op {
            Op::Put(key, value) => {
                record.push(PUT);
                record.extend(u16::try_from(key.as_ref().len()).map_err(too_long)?.to_le_bytes());
                record.extend(u32::try_from(value.len()).map_err(too_long)?.to_le_bytes());
                record.extend_from_slice(key.as_ref());
                record.extend_from_slice(value);
            }
            Op::Delete(key) => {
                record.push(DELETE);
                record.extend(u16::try_from(key.as_ref().len()).map_err(too_long)?.to_le_bytes());
                record.extend_from_slice(key.as_ref());
            }
        }
    }
    let (header, payload) = record[begin..].split_at_mut(HEADER_BYTES);
    header[..4].copy_from_slice(MAGIC);
    header[4..8].copy_from_slice(&u32::try_from(payload.len()).map_err(too_long)?.to_le_bytes());
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

pub(super) fn ops(mut payload: &[u8]) -> Option<Vec<RawOp<'_>>> {
    fn take<'a>(payload: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = payload.split_at_checked(bytes)?;
        *payload = rest;
        Some(taken)
    }
    let mut ops = Vec::new();
    while let Some((kind, rest)) = payload.split_first() {
        payload = rest;
        let key_bytes = u16::from_le_bytes(*take(&mut payload, 2)?.first_chunk()?);
        match *kind {
            PUT => {
                let value_bytes = u32::from_le_bytes(*take(&mut payload, 4)?.first_chunk()?);
                let key = take(&mut payload, key_bytes.into())?;
                ops.push((key, Some(take(&mut payload, value_bytes as usize)?)));
            }
            DELETE => ops.push((take(&mut payload, key_bytes.into())?, None)),
            _ => return None,
        }
    }
    Some(ops)
}
