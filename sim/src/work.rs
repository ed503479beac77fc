//! What is done in a world, by kind, and which faults fell while it was under way.

use std::collections::BTreeMap;

/// A kind of what people and their devices do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Work {
    /// A device is registered by phone and code.
    Register,
    /// A connection is opened, up to and with the login; tokens that have ended are exchanged.
    Login,
    /// A device catches up.
    CatchUp,
    /// A message, up to its `Sent`; some are known again by a key.
    Send,
    /// Something about a message: an edit, a deletion, a reaction, a vote, a pin.
    Talk,
    /// A person has read up to a message.
    Read,
    /// A page of a chat.
    History,
    /// A page of the list of chats.
    Chats,
    /// A person is looked up, by id or phone.
    LookUp,
    /// A person, or a device, gets another name, an account another PIN; a group is made, changed, or asked about.
    Rename,
    /// The list of one's devices, and one that is to ring, is ended, or logs out.
    Devices,
    /// An operator asks something.
    Operator,
    /// A connection of somebody who keeps to no protocol.
    Stranger,
}

impl Work {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Register,
        Self::Login,
        Self::CatchUp,
        Self::Send,
        Self::Talk,
        Self::Read,
        Self::History,
        Self::Chats,
        Self::LookUp,
        Self::Rename,
        Self::Devices,
        Self::Operator,
        Self::Stranger,
    ];

    /// As it heads a column: no longer than four letters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "reg",
            Self::Login => "open",
            Self::CatchUp => "sync",
            Self::Send => "send",
            Self::Talk => "talk",
            Self::Read => "read",
            Self::History => "hist",
            Self::Chats => "chat",
            Self::LookUp => "look",
            Self::Rename => "name",
            Self::Devices => "devs",
            Self::Operator => "oper",
            Self::Stranger => "wild",
        }
    }
}

const KINDS: usize = Work::ALL.len();

/// How much of each there was, and what fell when.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Tally {
    begun: [u64; KINDS],
    done: [u64; KINDS],
    /// By a fault's name: how often it fell, and how often while each kind was under way where it fell.
    fell: BTreeMap<&'static str, (u64, [u64; KINDS])>,
}

impl Tally {
    /// Something has begun.
    pub fn begun(&mut self, work: Work) {
        self.begun[work as usize] += 1;
    }

    /// Something has come to the end that was wanted.
    pub fn done(&mut self, work: Work) {
        self.done[work as usize] += 1;
    }

    /// A fault fell so often, while these were under way where it fell.
    pub fn fell(&mut self, name: &'static str, times: u64, under_way: &[Work]) {
        let (count, by_work) = self.fell.entry(name).or_default();
        *count += times;
        for work in under_way {
            by_work[*work as usize] += times;
        }
    }

    /// Another world's is added.
    pub fn add(&mut self, other: &Self) {
        let sum = |to: &mut [u64; KINDS], from: &[u64; KINDS]| {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        };
        sum(&mut self.begun, &other.begun);
        sum(&mut self.done, &other.done);
        for (name, (count, by_work)) in &other.fell {
            let (to_count, to) = self.fell.entry(name).or_default();
            *to_count += count;
            sum(to, by_work);
        }
    }

    /// How often a fault fell.
    pub fn times(&self, name: &str) -> u64 {
        self.fell.get(name).map_or(0, |(count, _)| *count)
    }

    /// How much of a kind was begun, and how much of that came to the end that was wanted.
    pub fn count(&self, work: Work) -> (u64, u64) {
        (self.begun[work as usize], self.done[work as usize])
    }

    /// For people: a line for what was begun and for what was done, and one for each fault; within 80 columns.
    pub fn table(&self) -> Vec<String> {
        let line = |name: &str, first: &str, cells: &mut dyn Iterator<Item = String>| {
            let cells: String = cells.map(|cell| format!("{cell:>5}")).collect();
            format!("{name:<10}{first:>5}{cells}")
        };
        let counts = |counts: &[u64; KINDS]| counts.map(short).into_iter();
        let mut lines = vec![
            line("", "", &mut Work::ALL.into_iter().map(|work| work.name().to_owned())),
            line("begun", "", &mut counts(&self.begun)),
            line("done", "", &mut counts(&self.done)),
        ];
        for (name, (count, by_work)) in &self.fell {
            lines.push(line(name, &short(*count), &mut counts(by_work)));
        }
        lines
    }
}

/// A number in no more than four characters.
fn short(number: u64) -> String {
    match number {
        0 => "-".to_owned(),
        1..10_000 => number.to_string(),
        10_000..1_000_000 => format!("{}k", number / 1000),
        1_000_000..1_000_000_000 => format!("{}M", number / 1_000_000),
        _ => format!("{}G", number / 1_000_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_no_wider_than_a_terminal_whatever_it_counts() {
        let mut tally = Tally::default();
        for work in Work::ALL {
            (0..3).for_each(|_| tally.begun(work));
            tally.done(work);
        }
        tally.fell("clock-jump", u64::MAX / 2_000_000_000, &Work::ALL);
        tally.fell("reset", 9_999, &[Work::Send]);
        tally.fell("reset", 1, &[]);
        let lines = tally.table();
        assert!(lines.iter().all(|line| line.len() <= 80), "{lines:#?}");
        let reset = lines.last().expect("it has lines");
        let words: Vec<_> = reset.split_whitespace().collect();
        assert_eq!(words[..2], ["reset", "10k"], "it fell once more than what was sent saw of it");
        assert_eq!(words.iter().filter(|word| **word == "9999").count(), 1);
        let mut twice = tally.clone();
        twice.add(&tally);
        assert_eq!((twice.times("reset"), twice.count(Work::Send)), (20_000, (6, 2)));
    }
}
