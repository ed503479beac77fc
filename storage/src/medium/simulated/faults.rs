//! What can go wrong on a simulated medium, how often, and how often it has.

use super::super::stream::Stream;

/// One way in which the medium fails.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Fault {
    /// A file that would become longer, or new, finds no room (ENOSPC). Nothing is written.
    NoRoom,
    /// A write fails (EIO), and any part of it may have been written.
    WriteFails,
    /// A sync of a file fails (EIO). What was to be synced may be lost or torn, and the next sync says nothing of it.
    SyncFails,
    /// A sync of a directory fails (EIO).
    DirectorySyncFails,
    /// A read fails (EIO).
    ReadFails,
    /// A sync takes up to a second.
    SlowSync,
    /// At a power cut: a write that was not synced is lost, though later ones may not be.
    LostWrite,
    /// At a power cut: a part of a write that was not synced is lost: its end, or any of its sectors.
    TornWrite,
    /// At a power cut: a name that was given, changed or removed in a directory that was not synced since is as it was.
    LostName,
    /// At a power cut: a bit of a file flips.
    Rot,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::NoRoom,
        Self::WriteFails,
        Self::SyncFails,
        Self::DirectorySyncFails,
        Self::ReadFails,
        Self::SlowSync,
        Self::LostWrite,
        Self::TornWrite,
        Self::LostName,
        Self::Rot,
    ];

    /// Its name in reports. Its stream of random numbers is known by it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoRoom => "no room",
            Self::WriteFails => "write fails",
            Self::SyncFails => "sync fails",
            Self::DirectorySyncFails => "directory sync fails",
            Self::ReadFails => "read fails",
            Self::SlowSync => "slow sync",
            Self::LostWrite => "lost write",
            Self::TornWrite => "torn write",
            Self::LostName => "lost name",
            Self::Rot => "rot",
        }
    }
}

/// How often what goes wrong, in a million times that it could.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Odds([u32; Fault::ALL.len()]);

impl Odds {
    /// Nothing goes wrong.
    pub const NONE: Self = Self([0; Fault::ALL.len()]);

    /// A medium that does what is assumed of one: at a power cut, what was not synced is kept, lost or torn.
    pub const POWER_CUTS: Self = Self::NONE
        .with(Fault::LostWrite, 400_000)
        .with(Fault::TornWrite, 400_000)
        .with(Fault::LostName, 500_000);

    /// The same, with another number for one fault.
    #[must_use]
    pub const fn with(mut self, fault: Fault, per_million: u32) -> Self {
        self.0[fault as usize] = per_million;
        self
    }

    /// How often one happens.
    pub const fn of(self, fault: Fault) -> u32 {
        self.0[fault as usize]
    }
}

/// The dice: a stream for each fault, and the counts.
#[derive(Debug)]
pub(super) struct Dice {
    pub(super) odds: Odds,
    streams: Vec<Stream>,
    counts: [u64; Fault::ALL.len()],
}

impl Dice {
    pub(super) fn new(seed: u64, odds: Odds) -> Self {
        let streams = Fault::ALL.iter().map(|fault| Stream::named(seed, fault.name())).collect();
        Self { odds, streams, counts: [0; Fault::ALL.len()] }
    }

    /// Whether a fault happens now.
    pub(super) fn hits(&mut self, fault: Fault) -> bool {
        let hit = self.streams[fault as usize].hits(self.odds.of(fault));
        self.counts[fault as usize] += u64::from(hit);
        hit
    }

    /// A number below `bound`, of a fault's stream: how it happens.
    pub(super) fn below(&mut self, fault: Fault, bound: u64) -> u64 {
        self.streams[fault as usize].below(bound)
    }

    /// A fault has happened that nobody threw dice for.
    pub(super) fn count(&mut self, fault: Fault) {
        self.counts[fault as usize] += 1;
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = (Fault, u64)> {
        Fault::ALL.into_iter().zip(self.counts)
    }
}
