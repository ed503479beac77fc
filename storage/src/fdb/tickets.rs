//! Tickets: versions that commits may rest on, for all that this process relies on was so there.
//!
//! A ticket is a version at which the owner of the store and the count of epochs were read. If both are known, every epoch is known at
//! that version, and a commit that rests on it and conflicts with its epochs' rows is fenced without a read of its own.
//! The version that a commit has made is no ticket: that commit has looked at its own fence alone, and would hide the theft of another
//! slot.

use std::time::Duration;

use super::client::Version;
use super::options::TICKET_AGE_MAX;
use crate::slots::{Epoch, SLOTS, Slot};

/// See the module.
#[derive(Debug)]
pub(super) struct Tickets {
    newest: Option<Ticket>,
    /// Up to here every change of epochs is known.
    verified: Version,
    /// How often epochs were raised.
    count: u64,
    epochs: Box<[Epoch]>,
}

/// The newest one.
#[derive(Clone, Copy, Debug)]
struct Ticket {
    version: Version,
    /// When it was asked for: it is at most so old.
    asked: Duration,
    /// When it came.
    came: Duration,
}

impl Tickets {
    /// None; nothing is known of any epoch.
    pub(super) fn new() -> Self {
        let epochs = vec![Epoch::default(); usize::from(SLOTS)].into();
        Self { newest: None, verified: Version::default(), count: 0, epochs }
    }

    /// The newest ticket, unless it is too old, or older than this version. One that has just come is good, however long that took: the
    /// next one may take as long.
    pub(super) fn usable(&self, now: Duration, at_least: Version) -> Option<Version> {
        let Ticket { version, asked, came } = self.newest?;
        let is_young = now.saturating_sub(asked) <= TICKET_AGE_MAX || now == came;
        (is_young && version >= at_least).then_some(version)
    }

    /// When the newest one was asked for.
    pub(super) fn asked(&self) -> Option<Duration> {
        self.newest.map(|ticket| ticket.asked)
    }

    /// Whether every change of epochs up to a version is known.
    pub(super) fn is_verified(&self, version: Version) -> bool {
        version <= self.verified
    }

    /// At a version, which was asked for and came at these times, epochs had been raised so often. `false`: they have to be read.
    pub(super) fn learn(&mut self, version: Version, count: u64, (asked, now): (Duration, Duration)) -> bool {
        if count > self.count {
            return false;
        }
        self.verified = self.verified.max(version);
        // Where nothing is committed, versions may stand still.
        if self.newest.is_none_or(|newest| newest.version <= version) {
            self.newest = Some(Ticket { version, asked, came: now });
        }
        true
    }

    /// At a version the epochs were these, and had been raised so often.
    pub(super) fn learn_epochs(
        &mut self,
        version: Version,
        count: u64,
        epochs: impl Iterator<Item = (Slot, Epoch)>,
        when: (Duration, Duration),
    ) {
        if count >= self.count {
            self.count = count;
            for (slot, epoch) in epochs {
                self.epochs[usize::from(slot.number())] = epoch;
            }
        }
        self.learn(version, count, when);
    }

    /// A slot among these whose epoch has been raised since.
    pub(super) fn behind(&self, fence: &[(Slot, Epoch)]) -> Option<Slot> {
        let is_behind = |(slot, epoch): &&(Slot, Epoch)| *epoch < self.epochs[usize::from(slot.number())];
        fence.iter().find(is_behind).map(|(slot, _)| *slot)
    }
}
