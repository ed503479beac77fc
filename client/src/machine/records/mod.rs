//! What a device's records mean, over whatever tables hold them: entries and positions ([`logs`]), messages on their way
//! ([`outbox`]), people ([`people`]), the session ([`session`]), what is found by which words ([`texts`]).
//!
//! Entries are kept as they come, also those beyond a gap. A log's `position` is the highest seq up to which there is no
//! gap, and `told` the one up to which the application has dealt with them: only that is acknowledged. What a server no
//! longer has (it was put back from a copy) moves from the entries to what is gone: first in doubt, and for good when the server
//! has told everything that it has.

mod logs;
mod outbox;
mod people;
mod session;
#[cfg(test)]
mod tests;
mod texts;

pub(crate) use outbox::Enqueued;
pub(crate) use texts::{end, index_all, search};

use super::rows::{Account, DeviceRow};
use super::tables::{Change, Tables};
use crate::error::Error;

/// See the module. What is changed is durable with [`Records::commit`].
#[derive(Debug)]
pub(crate) struct Records<S> {
    tables: S,
    changed: bool,
    me: u64,
    /// Nothing ends before this, in ms since the Unix epoch.
    ends_ms: u64,
}

impl<S: Tables> Records<S> {
    /// The records in these tables, and whose they are.
    pub(crate) fn open(tables: S) -> Result<(Self, Account), Error> {
        let account = tables.device()?.ok_or(Error::NotRegistered)?.account;
        Ok((Self { tables, changed: false, me: account.user_id, ends_ms: 0 }, account))
    }

    /// For reads that mean the same to everybody.
    pub(crate) fn tables(&self) -> &S {
        &self.tables
    }

    pub(crate) fn into_tables(self) -> S {
        self.tables
    }

    /// Makes all changes durable. After an error none of them has happened.
    pub(crate) fn commit(&mut self) -> Result<(), Error> {
        if !std::mem::take(&mut self.changed) {
            return Ok(());
        }
        let committed = self.tables.commit();
        if committed.is_err() {
            self.undone();
        }
        committed
    }

    /// What had ended has not.
    fn undone(&mut self) {
        self.ends_ms = 0;
    }

    /// Undoes what is not durable.
    pub(crate) fn roll_back(&mut self) {
        if std::mem::take(&mut self.changed) {
            self.tables.roll_back();
            self.undone();
        }
    }

    /// Does something that is durable, or has not happened, when this comes back.
    pub(crate) fn at_once<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        debug_assert!(!self.changed, "what was changed before would share its fate");
        let done = work(self).and_then(|done| {
            self.commit()?;
            Ok(done)
        });
        if done.is_err() {
            self.roll_back();
        }
        done
    }

    fn change(&mut self, change: Change<'_>) -> Result<(), Error> {
        self.changed = true;
        self.tables.change(change)
    }

    /// The device's own row.
    fn device(&self) -> Result<DeviceRow, Error> {
        self.tables.device()?.ok_or(Error::NotRegistered)
    }

    fn set_device(&mut self, device: &DeviceRow) -> Result<(), Error> {
        self.change(Change::Device(device))
    }
}
