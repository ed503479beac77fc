//! A dense run of a log's entries.

use crate::limits::RUN_ENTRIES_MAX;

/// The entries from `first` up to, but without, `end`: 1 to [`RUN_ENTRIES_MAX`]. Not all of them need to have a text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Run {
    first: u64,
    end: u64,
}

impl Run {
    /// `None` if these are no entries, or too many.
    pub fn new(first: u64, end: u64) -> Option<Self> {
        let count = end.checked_sub(first)?;
        (1..=RUN_ENTRIES_MAX).contains(&count).then_some(Self { first, end })
    }

    /// The seq of the first entry.
    pub fn first(self) -> u64 {
        self.first
    }

    /// The seq beyond the last entry.
    pub fn end(self) -> u64 {
        self.end
    }

    /// How many entries.
    pub fn count(self) -> u64 {
        self.end - self.first
    }

    /// Is this entry one of them?
    pub fn contains(self, seq: u64) -> bool {
        (self.first..self.end).contains(&seq)
    }

    /// Where an entry of it stands, from 0.
    ///
    /// # Panics
    /// If it is none of them.
    pub(crate) fn offset(self, seq: u64) -> u32 {
        assert!(self.contains(seq), "seq {seq} is not within {self:?}");
        u32::try_from(seq - self.first).expect("a run is short")
    }

    /// Beyond where the last one stands.
    pub(crate) fn offsets_end(self) -> u32 {
        self.offset(self.end - 1) + 1
    }

    /// The entry that stands there.
    pub(crate) fn seq(self, offset: u32) -> u64 {
        self.first + u64::from(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_entries_and_not_too_many() {
        let check = |first, end, expect| assert_eq!(Run::new(first, end).is_some(), expect, "{first}..{end}");
        check(5, 5, false);
        check(6, 5, false);
        check(5, 6, true);
        check(5, 5 + RUN_ENTRIES_MAX, true);
        check(5, 6 + RUN_ENTRIES_MAX, false);
        check(u64::MAX - 1, u64::MAX, true);
    }
}
