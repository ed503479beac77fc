//! What fuzzing asks of the log's recovery: no part of the crate's interface.

use std::io;
use std::path::Path;

use super::log::{self, Replay};
use crate::medium::Disk;

/// A group as it was read: its number and its writes, each a key and the value if it is set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Its number.
    pub number: u64,
    /// Its writes in order.
    pub ops: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// What a start reads of a log's directory.
#[derive(Debug)]
pub struct Replayed {
    /// The groups, in the order in which they were read.
    pub groups: Vec<Group>,
    /// The number that the log begins with.
    pub first: Option<u64>,
    /// A group that must be there.
    pub promised: Option<u64>,
    /// The number of the last whole group.
    pub last: Option<u64>,
    /// What ended it before its end.
    pub error: Option<io::Error>,
}

/// Reads a log as a start does whose tables have the groups up to `after`.
pub fn replay(dir: &Path, after: u64) -> io::Result<Replayed> {
    let mut replay = Replay::open(&Disk, dir, after)?;
    let (mut groups, mut error) = (Vec::new(), None);
    loop {
        match replay.next_group() {
            Ok(Some((number, ops))) => {
                let owned = ops.into_iter().map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec)));
                groups.push(Group { number, ops: owned.collect() });
            }
            Ok(None) => break,
            Err(found) => {
                error = Some(found);
                break;
            }
        }
    }
    Ok(Replayed { groups, first: replay.first(), promised: replay.promised(), last: replay.last(), error })
}

/// The whole groups of a segment's bytes, as salvage finds them. `first` is the number in its name.
pub fn islands(bytes: &[u8], first: u64) -> Vec<Group> {
    let group = |island: log::Island| Group { number: island.number, ops: island.ops };
    log::islands(bytes, first).into_iter().map(group).collect()
}

/// Where the whole groups of a segment's bytes lie: where each begins, its number, and its length.
pub fn places(bytes: &[u8], first: u64) -> Vec<(usize, u64, usize)> {
    log::places(bytes, first)
}
