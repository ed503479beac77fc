//! What a device lacks. Pure.
//!
//! One mechanism brings a device up to date, whatever kept it behind (it was away, it reads slowly, its credit is used
//! up): the log is noted as *behind* with what is wanted of it, and its owner is asked for page after page until
//! one says that nothing follows. While a log is behind, what is appended to it is not pushed, for a page will bring
//! it. Pages and appends come the same way, from the log's owner by the user's to the connection, in order: nothing falls between.
//!
//! What a device lacks of a log is decided from its inbox and its own word together, whatever comes first: no log is asked
//! for before the inbox has been read past it, and what is wanted later only adds. So the pushes of a log never go
//! back within a connection, but where the device itself goes back.

use std::collections::{BTreeMap, BTreeSet, VecDeque, btree_map};

use tern_storage::LogId;
use tern_wire::ids::Seq;

use crate::message::{Claim, Want, Watermarks};
use crate::mutations::{Mutation, is};

/// The logs that a device is behind in. Sorted maps: their keys are a stranger's choice, and nobody can make them slow.
#[derive(Debug, Default)]
pub(super) struct Lag {
    pub(super) behind: BTreeMap<LogId, Behind>,
    /// Those that have no pull under way, each once.
    ready: VecDeque<LogId>,
    /// Damaged ones: they are left out, and tried again when something happens to them.
    stuck: BTreeMap<LogId, Behind>,
    /// Those that the inbox has not been read past.
    unscanned: BTreeSet<LogId>,
    /// The inbox has been read up to here.
    scanned: Option<LogId>,
    /// A step of the inbox is being read.
    scanning: bool,
    /// How many of its own messages the device was told of meanwhile.
    sent: u64,
}

/// A log that the device is behind in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Behind {
    pub(super) want: Want,
    /// What was wanted when the pull that is under way began, and how many of its own messages the device had been told of.
    asked: Option<(Want, u64)>,
    /// The page that has come was passed on its way by an answer to the device, so that something of its own may be beyond its head.
    pub(super) passed: bool,
    /// The device's inbox holds the log's mark, if anything is missing.
    pub(super) marked: bool,
    /// It began behind the last acknowledgement, and nothing was pushed since.
    pub(super) clean: bool,
    /// The peer's watermarks as the device knows them.
    pub(super) known: Option<Watermarks>,
    /// The device has not heard of its own user's watermarks.
    pub(super) owes_own: bool,
}

/// Beyond the last entry of any log: nothing is missing but the watermarks.
pub(super) const NO_ENTRY: Seq = Seq(u64::MAX);

/// What is behind the device's position.
pub(super) const UNREAD: Want = Want { from: None, claim: None };

const PULLED: &str = "a log stays behind until its page has come";

impl Want {
    /// From this entry on.
    pub(super) fn from_entry(seq: Seq) -> Self {
        Self { from: Some(seq), claim: None }
    }

    /// Adds a position that the device says it has. It goes before "behind the last acknowledgement", which nothing was
    /// pushed by yet: once something was, a place to go on from is known.
    pub(super) fn add_position(&mut self, claim: Claim) {
        let from = Seq(claim.upto.0.saturating_add(1));
        self.from = Some(self.from.map_or(from, |known| known.min(from)));
        self.claim = Some(match self.claim {
            Some(other) => {
                Claim { upto: other.upto.max(claim.upto), trusted: other.trusted && claim.trusted }
            }
            None => claim,
        });
    }

    /// Adds an entry that was not pushed. "Behind the last acknowledgement" holds it already.
    fn add_entry(&mut self, seq: Seq) {
        self.from = self.from.map(|known| known.min(seq));
    }
}

impl Behind {
    fn new(want: Want) -> Self {
        let clean = want == UNREAD;
        Self { want, asked: None, passed: false, marked: false, clean, known: None, owes_own: false }
    }

    /// The device says what it has of the log.
    pub(super) fn add_position(&mut self, claim: Claim, known: Watermarks) {
        self.want.add_position(claim);
        self.clean = false;
        self.known = Some(self.known.map_or(known, |other| Watermarks {
            delivered: other.delivered.min(known.delivered),
            read: other.read.min(known.read),
        }));
    }

    /// What was on its way to the device may be lost, so that what was noted as missing may not be all. What the device says of itself
    /// holds.
    pub(super) fn begin_again(&mut self) {
        if self.want.claim.is_none() {
            self.want = UNREAD;
        }
    }

    /// An entry was appended.
    pub(super) fn add_entry(&mut self, seq: Seq) {
        self.want.add_entry(seq);
    }
}

impl Lag {
    pub(super) fn holds(&self, log: LogId) -> bool {
        self.behind.contains_key(&log) || self.stuck.contains_key(&log)
    }

    /// Whether a step of the inbox is being read.
    pub(super) fn is_scanning(&self) -> bool {
        self.scanning
    }

    /// Nothing is lacking but of damaged logs.
    pub(super) fn is_done(&self) -> bool {
        self.behind.is_empty()
    }

    /// Whether nothing is damaged either.
    pub(super) fn is_whole(&self) -> bool {
        self.stuck.is_empty()
    }

    pub(super) fn is_stuck(&self, log: LogId) -> bool {
        self.stuck.contains_key(&log)
    }

    /// Whether the inbox has been read past a log, if it is being read.
    pub(super) fn is_past(&self, log: LogId) -> bool {
        self.scanned.is_some_and(|upto| log <= upto)
    }

    /// The log among those that the device is behind in; if it is not there, it is added with this want, to be asked for at once
    /// if `is_scanned`.
    pub(super) fn behind(&mut self, log: LogId, want: Want, is_scanned: bool) -> &mut Behind {
        if let Some(behind) = self.stuck.remove(&log) {
            self.behind.insert(log, behind);
            self.ready.push_back(log);
        }
        match self.behind.entry(log) {
            btree_map::Entry::Occupied(behind) => behind.into_mut(),
            btree_map::Entry::Vacant(vacant) => {
                if is_scanned {
                    self.ready.push_back(log);
                } else {
                    self.unscanned.insert(log);
                }
                vacant.insert(Behind::new(want))
            }
        }
    }

    /// The inbox has been read up to a log, or whole: what it has not been read past before can be asked for.
    pub(super) fn scanned(&mut self, upto: Option<LogId>) {
        self.scanning = false;
        self.scanned = upto;
        let mut passed = std::mem::take(&mut self.unscanned);
        if let Some(upto) = upto {
            self.unscanned = passed.split_off(&upto);
            if self.unscanned.remove(&upto) {
                passed.insert(upto);
            }
        }
        self.ready.extend(passed);
    }

    /// The inbox is read anew. What is behind stays so, and begins anew.
    pub(super) fn begin_again(&mut self) {
        (self.scanned, self.scanning) = (None, false);
        self.behind.values_mut().for_each(Behind::begin_again);
    }

    /// Whether the next step of the inbox is to be read, and where it begins. Not before most of the last one is done with, so
    /// that a long inbox is never in memory whole.
    pub(super) fn next_scan(&mut self, under_way_max: usize) -> Option<Option<LogId>> {
        let under_way = self.behind.len() - self.unscanned.len();
        let is_due = !self.scanning && under_way <= under_way_max;
        is_due.then(|| {
            self.scanning = true;
            self.scanned
        })
    }

    /// The next log to be pulled: it is under way from here on.
    pub(super) fn next_pull(&mut self) -> Option<(LogId, Behind)> {
        let log = self.ready.pop_front()?;
        let behind = self.behind.get_mut(&log).expect("what is ready is behind");
        behind.asked = Some((behind.want, self.sent));
        Some((log, *behind))
    }

    /// A page of a log has come. `None`: more was wanted since, so that nothing of this page is pushed, and nothing goes back.
    pub(super) fn page_came(&mut self, log: LogId) -> Option<Behind> {
        let behind = self.behind.get_mut(&log).expect(PULLED);
        let (want, sent) = behind.asked.take().expect(PULLED);
        if want == behind.want || is(Mutation::PushOldPage) {
            behind.passed = sent != self.sent && !is(Mutation::RewindAnswered);
            return Some(*behind);
        }
        self.ready.push_back(log);
        None
    }

    /// The device is told of a message of its own.
    pub(super) fn sent(&mut self) {
        self.sent += 1;
    }

    /// All of a log has been pushed.
    pub(super) fn caught_up(&mut self, log: LogId) {
        self.behind.remove(&log).expect(PULLED);
    }

    /// A part of a page has been pushed: this is left.
    pub(super) fn left(&mut self, log: LogId, behind: Behind) {
        self.behind.insert(log, behind);
        self.ready.push_back(log);
    }

    /// A log is damaged. Coming back would not help, and would keep the device from all others.
    pub(super) fn damaged(&mut self, log: LogId) {
        let behind = self.behind.remove(&log).expect(PULLED);
        self.stuck.insert(log, Behind { asked: None, ..behind });
    }
}
