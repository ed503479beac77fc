//! What one core has asked of owners and has no answer to: the **ledger**. Pure.
//!
//! Each ask has a number, which its answer carries back. Numbers rise and are never given out twice, so an answer that comes late,
//! or once more, finds nothing. In the order of their numbers asks are looked at for their deadline, and are taken out to be
//! made again when an owner is gone with what it was asked.
//!
//! An ask lies in the cell of its number, modulo the number of cells; a number whose cell is taken is passed over. So to ask is one
//! write, to answer is one look, neither hashes, searches or, once there are cells enough, allocates; and as asks are mostly
//! answered in the order in which they were made, memory is gone through in order. At least half of the cells are free.

/// The number of an ask, of one core of a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AskId(pub u64);

/// See the module. `A` is what is asked, as far as it takes to ask again.
#[derive(Debug)]
pub struct Ledger<A> {
    /// As many as a power of two, or none.
    cells: Vec<Option<Cell<A>>>,
    len: usize,
    /// The next number.
    next: u64,
    /// All before it have been answered or taken out, or have no deadline.
    oldest: u64,
    /// Answers that nobody waited for.
    late: u64,
    /// The time that it was given last, and how much has passed until then. The time falls when a clock is set back, and what waits
    /// for an answer does not wait for the clock.
    last_ms: u64,
    passed_ms: u64,
}

#[derive(Debug)]
struct Cell<A> {
    number: u64,
    /// How much time had passed.
    asked_ms: u64,
    ask: A,
}

/// Cells of a ledger that is used at all. With fewer, a thing that takes long would soon be in the way.
const CELLS_MIN: usize = 64;

/// A ledger of so many times more cells than asks gives some back.
const SPARSE: usize = 16;

impl<A> Default for Ledger<A> {
    fn default() -> Self {
        Self { cells: Vec::new(), len: 0, next: 1, oldest: 1, late: 0, last_ms: 0, passed_ms: 0 }
    }
}

impl<A> Ledger<A> {
    /// Asks that have no answer.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Answers that came late, or once more.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// The number that is above all that were given out.
    pub fn next(&self) -> AskId {
        AskId(self.next)
    }

    /// Notes an ask, and gives its number.
    pub fn insert(&mut self, now_ms: u64, ask: A) -> AskId {
        if self.cells.len() <= 2 * self.len {
            self.resize((2 * self.cells.len()).max(CELLS_MIN));
        }
        let asked_ms = self.passed_ms(now_ms);
        loop {
            let (number, place) = (self.next, self.place(self.next));
            self.next += 1;
            let cell = &mut self.cells[place];
            if cell.is_none() {
                *cell = Some(Cell { number, asked_ms, ask });
                self.len += 1;
                return AskId(number);
            }
        }
    }

    /// Takes out what an answer is to, if that is so; `None`: nobody waits for the answer, which is counted.
    pub fn answered(&mut self, id: AskId, is_its: impl FnOnce(&A) -> bool) -> Option<A> {
        let taken = self.get(id).is_some_and(is_its).then(|| self.take(id.0)).flatten();
        self.late += u64::from(taken.is_none());
        taken
    }

    /// Takes out the oldest ask of those that have a deadline, if it was made `timeout_ms` ago. Whether an ask has one does not change.
    pub fn overdue(&mut self, now_ms: u64, timeout_ms: u64, has_deadline: impl Fn(&A) -> bool) -> Option<A> {
        if self.is_empty() {
            self.oldest = self.next;
        }
        let passed_ms = self.passed_ms(now_ms);
        while self.oldest < self.next {
            match self.cell(self.oldest).filter(|cell| has_deadline(&cell.ask)) {
                Some(cell) if passed_ms - cell.asked_ms < timeout_ms => return None,
                Some(_) => return self.take(self.oldest),
                None => self.oldest += 1,
            }
        }
        self.thin_out();
        None
    }

    /// Takes out all asks of which this is true, in the order in which they were made.
    pub fn extract(&mut self, mut is_so: impl FnMut(&A) -> bool) -> Vec<A> {
        let cells = self.cells.iter().flatten();
        let mut numbers: Vec<_> = cells.filter(|cell| is_so(&cell.ask)).map(|cell| cell.number).collect();
        numbers.sort_unstable();
        numbers.into_iter().map(|number| self.take(number).expect("it is there")).collect()
    }

    /// An ask that has no answer.
    pub fn get(&self, id: AskId) -> Option<&A> {
        self.cell(id.0).map(|cell| &cell.ask)
    }

    fn passed_ms(&mut self, now_ms: u64) -> u64 {
        self.passed_ms += now_ms.saturating_sub(self.last_ms);
        self.last_ms = now_ms;
        self.passed_ms
    }

    fn place(&self, number: u64) -> usize {
        number as usize & (self.cells.len() - 1)
    }

    fn cell(&self, number: u64) -> Option<&Cell<A>> {
        if self.is_empty() {
            return None;
        }
        self.cells[self.place(number)].as_ref().filter(|cell| cell.number == number)
    }

    fn take(&mut self, number: u64) -> Option<A> {
        self.cell(number)?;
        let place = self.place(number);
        self.len -= 1;
        self.cells[place].take().map(|cell| cell.ask)
    }

    /// Gives memory back after a rush, unless two asks would have the same cell.
    fn thin_out(&mut self) {
        let fewer = self.cells.len() / 2;
        if fewer < CELLS_MIN || self.len * SPARSE > fewer {
            return;
        }
        let (front, back) = self.cells.split_at(fewer);
        let collides = front.iter().zip(back).any(|(one, other)| one.is_some() && other.is_some());
        if !collides {
            self.resize(fewer);
        }
    }

    /// Another number of cells, in which no two asks have the same.
    fn resize(&mut self, cells: usize) {
        let before = std::mem::take(&mut self.cells);
        self.cells.resize_with(cells, || None);
        for cell in before.into_iter().flatten() {
            let place = self.place(cell.number);
            self.cells[place] = Some(cell);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Call {
        Ask,
        /// Answers one of the last so many numbers, whatever has become of it.
        Answer(u64),
        /// Answers the oldest.
        AnswerOldest,
        /// So much time passes, and what is overdue is taken out.
        Wait(u64),
        /// The asks whose content leaves this rest are taken out, and made again.
        Again(u64),
    }

    const TIMEOUT_MS: u64 = 1000;

    fn calls() -> impl Strategy<Value = Vec<Call>> {
        let call = prop_oneof![
            8 => Just(Call::Ask),
            4 => (1..200_u64).prop_map(Call::Answer),
            3 => Just(Call::AnswerOldest),
            1 => (0..TIMEOUT_MS).prop_map(Call::Wait),
            1 => (0..5_u64).prop_map(Call::Again),
        ];
        proptest::collection::vec(call, 0..2000)
    }

    proptest! {
        /// Beside a sorted map: every ask has one answer, order is kept, numbers rise, what is overdue is found, and memory is
        /// bounded by what is asked.
        #[test]
        fn it_is_a_map_in_order(calls in calls()) {
            let mut ledger = Ledger::default();
            let mut plain: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
            let (mut now_ms, mut made, mut late, mut peak) = (50, 0, 0, 0);
            for call in calls {
                let numbered_before = ledger.next();
                match call {
                    Call::Ask => {
                        made += 1;
                        let id = ledger.insert(now_ms, made);
                        prop_assert!(id >= numbered_before && id < ledger.next(), "numbers rise");
                        plain.insert(id.0, (now_ms, made));
                    }
                    Call::Answer(back) => {
                        let number = ledger.next().0.saturating_sub(back);
                        let expected = plain.remove(&number).map(|(_, ask)| ask);
                        late += u64::from(expected.is_none());
                        prop_assert_eq!(ledger.answered(AskId(number), |_| true), expected);
                    }
                    Call::AnswerOldest => {
                        if let Some((number, (_, ask))) = plain.pop_first() {
                            prop_assert_eq!(ledger.answered(AskId(number), |_| false), None);
                            late += 1;
                            prop_assert_eq!(ledger.answered(AskId(number), |known| *known == ask), Some(ask));
                        }
                    }
                    Call::Wait(ms) => {
                        now_ms += ms;
                        while let Some(ask) = ledger.overdue(now_ms, TIMEOUT_MS, |_| true) {
                            let (_, (asked_ms, expected)) = plain.pop_first().expect("something is asked");
                            prop_assert!(now_ms - asked_ms >= TIMEOUT_MS, "not before its time");
                            prop_assert_eq!(ask, expected);
                        }
                        let oldest = plain.first_key_value().map(|(_, (asked_ms, _))| *asked_ms);
                        prop_assert!(oldest.is_none_or(|asked_ms| now_ms - asked_ms < TIMEOUT_MS), "all of them");
                    }
                    Call::Again(rest) => {
                        let taken = ledger.extract(|ask| ask % 5 == rest);
                        let of_rest = plain.extract_if(.., |_, (_, ask)| *ask % 5 == rest);
                        let expected: Vec<_> = of_rest.map(|(_, (_, ask))| ask).collect();
                        prop_assert_eq!(&taken, &expected, "in the order of their asking");
                        for ask in taken {
                            plain.insert(ledger.insert(now_ms, ask).0, (now_ms, ask));
                        }
                    }
                }
                peak = peak.max(plain.len());
                prop_assert_eq!(ledger.len(), plain.len());
                prop_assert_eq!(ledger.late(), late);
                prop_assert!(ledger.cells.len() <= (4 * peak).max(CELLS_MIN), "bounded by what is asked");
            }
        }
    }

    #[test]
    fn one_that_takes_long_is_in_nobodys_way_and_a_rush_leaves_no_memory_behind() {
        let mut ledger = Ledger::default();
        let slow = ledger.insert(0, 0);
        for ask in 1..1_000_000 {
            let id = ledger.insert(ask, ask);
            assert_eq!(ledger.answered(id, |_| true), Some(ask));
        }
        assert_eq!((ledger.cells.len(), ledger.len()), (CELLS_MIN, 1));
        let rush: Vec<_> = (0..10_000).map(|ask| ledger.insert(1_000_000, ask)).collect();
        assert!(rush.is_sorted() && ledger.cells.len() >= 20_000);
        for id in rush {
            ledger.answered(id, |_| true).expect("it was asked");
        }
        assert_eq!(ledger.answered(slow, |_| true), Some(0));
        for _ in 0..20 {
            assert_eq!(ledger.overdue(1_000_000, 30_000, |_| true), None);
        }
        assert_eq!((ledger.cells.len(), ledger.len()), (CELLS_MIN, 0));
    }

    #[test]
    fn what_waits_does_not_wait_for_a_clock_that_was_set_back() {
        let mut ledger = Ledger::default();
        ledger.insert(5000, 'a');
        assert_eq!(ledger.overdue(5300, 1000, |_| true), None);
        assert_eq!(ledger.overdue(4000, 1000, |_| true), None);
        assert_eq!(ledger.overdue(4699, 1000, |_| true), None);
        assert_eq!(ledger.overdue(4700, 1000, |_| true), Some('a'));
    }

    #[test]
    fn what_has_no_deadline_hides_none_behind_it() {
        let mut ledger = Ledger::default();
        let patient = ledger.insert(0, 'p');
        ledger.insert(10, 'a');
        let has_deadline = |ask: &char| *ask != 'p';
        assert_eq!(ledger.overdue(1010, 1000, has_deadline), Some('a'));
        assert_eq!(ledger.overdue(1_000_000, 1000, has_deadline), None);
        assert_eq!(ledger.answered(patient, |_| true), Some('p'));
    }
}
