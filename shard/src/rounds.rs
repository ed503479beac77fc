//! A job that goes through a table now and then, by pages.

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// When it began last, in ms since the Unix epoch; 0: never, or it is to begin at once.
    began_ms: u64,
    /// A page is being read.
    reads: bool,
}

impl Round {
    /// Whether it begins now, so long after it began last; then its first page is being read.
    pub(crate) fn begins(&mut self, now_ms: u64, every_ms: u64, may_read: bool) -> bool {
        // The clock may have been set back: what is ahead of it counts as now.
        self.began_ms = self.began_ms.min(now_ms);
        let is_due = self.began_ms == 0 || now_ms - self.began_ms >= every_ms;
        let begins = is_due && !self.reads && may_read;
        if begins {
            (self.began_ms, self.reads) = (now_ms.max(1), true);
        }
        begins
    }

    /// A page is read; whether another one is being read from now on.
    pub(crate) fn is_read(&mut self, goes_on: bool) {
        self.reads = goes_on;
    }

    /// It is to begin with the next look, however long ago it did.
    pub(crate) fn is_wanted(&mut self) {
        self.began_ms = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_begins_in_time_one_at_a_time_and_waits_for_no_clock_that_was_set_back() {
        let mut round = Round::default();
        assert!(!round.begins(1_000, 100, false), "nothing may be read");
        assert!(round.begins(1_000, 100, true));
        assert!(!round.begins(2_000, 100, true), "it is under way");
        round.is_read(true);
        assert!(!round.begins(2_000, 100, true), "it goes on");
        round.is_read(false);
        assert!(round.begins(2_000, 100, true));
        round.is_read(false);
        assert!(!round.begins(2_099, 100, true));
        assert!(!round.begins(500, 100, true), "from there on it counts anew");
        assert!(round.begins(600, 100, true));
        round.is_read(false);
        round.is_wanted();
        assert!(round.begins(601, 100, true));
    }
}
