//! Whole groups of a segment wherever they lie in it, behind damage too.

use super::SALT_BYTES;
use super::group::{HEADER_BYTES, MAGIC, decode};
use crate::batch::{Op, all_ops};

/// Where whole groups begin from a byte on, with their numbers and lengths, whatever lies between. `next` is the number that
/// a group at that byte has.
pub(super) fn wholes(
    bytes: &[u8],
    begin: usize,
    salt: u64,
    next: u64,
) -> impl Iterator<Item = (usize, u64, usize)> {
    let (mut at, mut begin, mut next) = (begin, begin, next);
    std::iter::from_fn(move || {
        while let Some(rest) = bytes.get(at..).filter(|rest| rest.len() >= HEADER_BYTES) {
            let number = rest[8..].first_chunk().map_or(0, |number| u64::from_le_bytes(*number));
            // Those between took a header each at least. Anything else that looks like a group is of somebody's message:
            // to check the sums of many such, each as long as the segment, would take hours.
            let skipped_max = ((at - begin) / HEADER_BYTES) as u64;
            let may_be =
                rest.starts_with(MAGIC) && number.checked_sub(next).is_some_and(|n| n <= skipped_max);
            let group = if may_be { decode(salt, rest, number) } else { None };
            if let Some(length) = group {
                let found = at;
                at += length;
                (begin, next) = (at, number + 1);
                return Some((found, number, length));
            }
            let magic = rest[1..].iter().position(|byte| *byte == MAGIC[0]);
            at += 1 + magic.unwrap_or(rest.len());
        }
        None
    })
}

/// A whole group that was found in a segment, wherever it lies there.
pub(in super::super) struct Island {
    pub(in super::super) number: u64,
    pub(in super::super) ops: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// All whole groups of a segment's bytes, those behind damage too: for salvage. `first` is the number in its name.
pub(in super::super) fn islands(bytes: &[u8], first: u64) -> Vec<Island> {
    let owned = |(key, value): Op<'_>| (key.to_vec(), value.map(<[u8]>::to_vec));
    let island = |(at, number, length)| {
        let ops = all_ops(&bytes[at + HEADER_BYTES..at + length])?;
        Some(Island { number, ops: ops.into_iter().map(owned).collect() })
    };
    places(bytes, first).into_iter().filter_map(island).collect()
}

/// Where they lie: where each begins, its number, and its length.
pub(in super::super) fn places(bytes: &[u8], first: u64) -> Vec<(usize, u64, usize)> {
    let salt = bytes.first_chunk().map(|salt| u64::from_le_bytes(*salt));
    salt.map_or(Vec::new(), |salt| wholes(bytes, SALT_BYTES, salt, first).collect())
}
