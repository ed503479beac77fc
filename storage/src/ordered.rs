//! Rows in memory, in the order of their keys, read as an engine's are.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::engine::{Direction, Rows, ScanLimit};
use crate::keys::{Key, KeyRange};

/// The rows of a range up to a limit; `value` gives what is read of one, `None` if it is not there.
pub(crate) fn scan<V>(
    rows: &BTreeMap<Key, V>,
    range: &KeyRange,
    direction: Direction,
    limit: ScanLimit,
    value: impl Fn(&V) -> Option<Bytes>,
) -> Rows {
    let mut read = Rows::default();
    if range.start >= range.end {
        return read;
    }
    let mut found = rows.range((Bound::Included(&range.start), Bound::Excluded(&range.end)));
    let mut bytes = 0;
    loop {
        let next = match direction {
            Direction::Forwards => found.next(),
            Direction::Backwards => found.next_back(),
        };
        let Some((key, row)) = next else { return read };
        let Some(value) = value(row) else { continue };
        if read.rows.len() >= limit.rows || bytes >= limit.bytes {
            read.more = true;
            return read;
        }
        bytes += key.as_ref().len() + value.len();
        read.rows.push((Bytes::copy_from_slice(key.as_ref()), value));
    }
}
