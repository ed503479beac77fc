//! What people have told the operators of, and whether that is what the operators have.

use std::collections::{BTreeMap, BTreeSet};

use tern_shard::limits::REPORTS_OF_ONE_MAX;
use tern_storage::LogId;
use tern_storage::records::{ReportRecord, ReportedMessage};

use crate::books::{Books, is_seen};
use crate::record::Record;

/// What a report is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum About {
    /// A user.
    Person(u64),
    /// A message.
    Message(LogId, u64),
}

/// A report that was asked for.
#[derive(Debug)]
struct Asked {
    by: u64,
    about: About,
    /// The reporter was told that it is durable.
    is_durable: bool,
}

/// See the module.
#[derive(Default, Debug)]
pub(crate) struct Reports {
    /// By their numbers: no two are the same.
    asked: BTreeMap<u64, Asked>,
}

impl Reports {
    /// A report is about to be asked for: gives its number.
    pub(crate) fn asks(&mut self, by: u64, about: About) -> u64 {
        let number = self.asked.len() as u64 + 1;
        self.asked.insert(number, Asked { by, about, is_durable: false });
        number
    }

    /// Its reporter was told that it is durable.
    pub(crate) fn is_durable(&mut self, number: u64) {
        self.asked.get_mut(&number).expect("it was asked for").is_durable = true;
    }

    /// What the operators have is what was told, as its reporter saw it; and they have all of which somebody was told so.
    pub(crate) fn stand(&self, books: &Books, record: &Record) -> Result<(), String> {
        let (mut stand, mut of_one) = (BTreeSet::new(), BTreeMap::<u64, usize>::new());
        for ((reported, by, number), report) in &books.reports {
            let asked = self.asked.get(number).filter(|asked| asked.by == *by);
            let asked = asked.ok_or_else(|| format!("{by} has not made report {number}"))?;
            let is_it = match (asked.about, &report.messages[..]) {
                (About::Person(user), []) => user == *reported,
                (About::Message(log, seq), [message]) => {
                    message.seq == seq && is_as_seen(books, record, (log, *by, *reported), message)
                }
                _ => false,
            };
            if !is_it {
                return Err(format!("report {number} of {reported} by {by} is not {asked:?}: {report:?}"));
            }
            stand.insert(number);
            *of_one.entry(*reported).or_default() += 1;
        }
        // Of one of whom there are as many as are kept, no more are.
        let is_full = |asked: &Asked| {
            let reported = match asked.about {
                About::Person(user) => Some(user),
                About::Message(log, seq) => {
                    let entries = books.logs.get(&log).map(|log| &log.entries);
                    entries.and_then(|entries| entries.get(seq as usize - 1)).map(|entry| entry.sender)
                }
            };
            reported.and_then(|user| of_one.get(&user)).is_some_and(|reports| *reports >= REPORTS_OF_ONE_MAX)
        };
        let is_lost =
            |(number, asked): &(&u64, &Asked)| asked.is_durable && !stand.contains(number) && !is_full(asked);
        match self.asked.iter().find(is_lost) {
            Some((number, asked)) => Err(format!("report {number} was acknowledged, and is lost: {asked:?}")),
            None => Ok(()),
        }
    }
}

/// Whether a message that is reported was said so by this one, and was for the reporter to see.
fn is_as_seen(
    books: &Books,
    record: &Record,
    (log, reporter, reported): (LogId, u64, u64),
    message: &ReportedMessage,
) -> bool {
    let sees = |log: &crate::books::Log| {
        let entry = log.entries.get(message.seq as usize - 1);
        entry.is_some_and(|entry| is_seen(entry, reporter)) && log.may_see(reporter, message.seq)
    };
    let said_by = record.said_by(log, &message.body, message.bytes as usize);
    books.logs.get(&log).is_some_and(sees) && said_by == Some(reported)
}

/// By whom, of whom and under which number: as the store has them.
pub(crate) type Stored = BTreeMap<(u64, u64, u64), ReportRecord>;
