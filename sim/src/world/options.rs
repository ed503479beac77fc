//! What a world is like, and what came of it.

use std::fmt;
use std::time::Duration;

use crate::books::Sums;
use crate::trouble::Without;
use crate::work::Tally;

/// What a world is like.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Devices. Of four devices, one registers by phone and code when the world begins.
    pub devices: usize,
    /// How many of them a person has. 0: of four people, one has two.
    pub devices_each: usize,
    /// Groups that are made before anything else is done in groups; more come now and then.
    pub groups: u64,
    /// How long people talk and things go wrong.
    pub talks: Duration,
    /// Within this after that, everybody must have caught up.
    pub settles: Duration,
    /// Things go wrong.
    pub troubles: bool,
    /// But these.
    pub without: Without,
    /// The store is FoundationDB.
    pub fdb: bool,
    /// What happens is kept, for who replays it.
    pub trace: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            devices: 20,
            devices_each: 0,
            groups: 0,
            talks: Duration::from_secs(60),
            settles: Duration::from_secs(1200),
            troubles: true,
            without: Without::default(),
            fdb: false,
            trace: false,
        }
    }
}

impl Options {
    /// How many people there are.
    pub fn people(self) -> usize {
        match self.devices_each {
            0 => self.devices - self.devices / 5,
            each => (self.devices / each).max(1),
        }
    }

    /// How often each device does something, on the average: the more there are, the rarer, down to every ten seconds.
    pub fn pace(self) -> Duration {
        Duration::from_millis((30 * self.devices as u64).clamp(300, 10_000))
    }
}

/// What came of a world in which all held.
#[derive(Clone, Default, Debug)]
pub struct Outcome {
    /// How long it took, in simulated time.
    pub simulated: Duration,
    /// Messages that were acknowledged.
    pub messages: u64,
    /// Accounts that were told that they end; they are kept.
    pub ends: u64,
    /// What was done, and what went wrong meanwhile.
    pub tally: Tally,
    /// What stands in the store at the end, and who has it.
    pub sums: Sums,
    /// What happened, one after another.
    pub events: u64,
}

/// What did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// In words.
    pub what: String,
    /// What happened before, if it was kept.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)
    }
}
