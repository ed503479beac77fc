//! Follows a log while it is written: gives the groups that are durable, as they lie in their segments.

use std::io;
use std::path::Path;

use super::SALT_BYTES;
use super::group::{HEADER_BYTES, decode};
use super::segments::Segments;
use crate::medium::{Medium, MediumFile as _, Opening};

/// See the module. Whoever follows keeps the segments from being let go.
pub(in super::super) struct Follow<M: Medium> {
    segments: Segments<M>,
    next: u64,
    /// The segment in which the next group lies, unless the next one begins with it.
    open: Option<Open<M::File>>,
}

struct Open<F> {
    file: F,
    salt: u64,
    length: u64,
    at: u64,
    /// Where the next segment begins, if there was one.
    end: Option<u64>,
}

/// What was found.
#[derive(PartialEq, Eq, Debug)]
pub(in super::super) enum Followed {
    /// A group's payload.
    Group(Vec<u8>),
    /// The log begins behind it.
    Gone,
    /// It is not as it was written.
    Damaged,
}

impl<M: Medium> Follow<M> {
    /// From a group on.
    pub(in super::super) fn new(segments: Segments<M>, next: u64) -> Self {
        Self { segments, next, open: None }
    }

    /// The number of the next group.
    pub(in super::super) fn number(&self) -> u64 {
        self.next
    }

    /// The next group, which must be durable: what is written and not synced may be another one after a power cut.
    pub(in super::super) fn next(&mut self) -> io::Result<Followed> {
        loop {
            let is_within = self.open.as_ref().is_some_and(|open| open.end.is_none_or(|end| self.next < end));
            if is_within && let Some(payload) = self.read_number(self.next)? {
                self.next += 1;
                return Ok(Followed::Group(payload));
            }
            // It lies in the next segment, which begins with it, or nowhere.
            let begins = self.open.is_some();
            self.open = None;
            if let Some(missing) = self.find(begins)? {
                return Ok(missing);
            }
        }
    }

    /// Opens the segment with the next group. Gives why there is none.
    fn find(&mut self, begins: bool) -> io::Result<Option<Followed>> {
        let segments = self.segments.list()?;
        let at = segments.iter().rposition(|(first, _)| *first <= self.next);
        let Some(at) = at else { return Ok(Some(Followed::Gone)) };
        let (first, path) = &segments[at];
        if begins && *first != self.next {
            return Ok(Some(Followed::Damaged));
        }
        let mut open = self.open(path)?;
        open.end = segments.get(at + 1).map(|(first, _)| *first);
        self.open = Some(open);
        for number in *first..self.next {
            if self.read_number(number)?.is_none() {
                self.open = None;
                return Ok(Some(Followed::Damaged));
            }
        }
        Ok(None)
    }

    fn open(&self, path: &Path) -> io::Result<Open<M::File>> {
        let file = self.segments.medium.open(path, Opening::Reading)?;
        let mut salt = [0; SALT_BYTES];
        file.read_exact_at(&mut salt, 0)?;
        let length = self.segments.medium.length(path)?;
        Ok(Open { file, salt: u64::from_le_bytes(salt), length, at: SALT_BYTES as u64, end: None })
    }

    /// Reads the group with this number where the segment was read up to; `None` if it is not there.
    fn read_number(&mut self, number: u64) -> io::Result<Option<Vec<u8>>> {
        let open = self.open.as_mut().expect("it was opened");
        let left = open.length.saturating_sub(open.at);
        let mut group = vec![0; HEADER_BYTES];
        if left < HEADER_BYTES as u64 {
            return Ok(None);
        }
        open.file.read_exact_at(&mut group, open.at)?;
        let length = group[4..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)) as usize;
        if left < (HEADER_BYTES + length) as u64 {
            return Ok(None);
        }
        group.resize(HEADER_BYTES + length, 0);
        open.file.read_exact_at(&mut group[HEADER_BYTES..], open.at + HEADER_BYTES as u64)?;
        let Some(end) = decode(open.salt, &group, number) else { return Ok(None) };
        open.at += end as u64;
        group.drain(..HEADER_BYTES);
        Ok(Some(group))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Log, Salts};
    use super::*;
    use crate::batch::Batch;
    use crate::keys;
    use crate::medium::Disk;

    fn batch(number: u64) -> Batch {
        let mut batch = Batch::default();
        batch.put(&keys::user(number), vec![number as u8; 300]);
        batch
    }

    #[test]
    fn a_follower_gets_each_group_over_segments_that_are_used_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let segments = Segments::new(Disk, dir.path().to_owned(), 1000);
        let mut log = Log::open(segments.clone(), Salts::new(1)).expect("opened");
        let mut follow = Follow::new(segments.clone(), 1);
        for number in 1..40 {
            log.append(number, &[&batch(number)]).expect("appended");
            if number % 7 == 0 {
                while follow.number() <= number {
                    let expected = batch(follow.number()).encoded().to_vec();
                    assert_eq!(follow.next().expect("read"), Followed::Group(expected));
                }
                segments.release(number).expect("released");
            }
        }
        // From the middle of a segment, and from before what there is.
        let first = segments.list().expect("listed")[0].0;
        let mut middle = Follow::new(segments.clone(), first + 1);
        assert_eq!(middle.next().expect("read"), Followed::Group(batch(first + 1).encoded().to_vec()));
        assert_eq!(Follow::new(segments.clone(), first - 1).next().expect("read"), Followed::Gone);
    }

    #[test]
    fn a_follower_tells_a_group_that_has_rotted() {
        let dir = tempfile::tempdir().expect("a directory");
        let segments = Segments::new(Disk, dir.path().to_owned(), 1 << 20);
        let mut log = Log::open(segments.clone(), Salts::new(1)).expect("opened");
        (1..4).for_each(|number| log.append(number, &[&batch(number)]).expect("appended"));
        let path = segments.list().expect("listed")[0].1.clone();
        let mut bytes = std::fs::read(&path).expect("read");
        bytes[SALT_BYTES + 2 * HEADER_BYTES + 320] ^= 1;
        std::fs::write(&path, bytes).expect("written");
        let mut follow = Follow::new(segments, 1);
        assert!(matches!(follow.next().expect("read"), Followed::Group(_)));
        assert_eq!(follow.next().expect("read"), Followed::Damaged);
    }
}
