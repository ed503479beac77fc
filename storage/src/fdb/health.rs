//! What operators are told when FoundationDB does not do what it is asked.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use super::client::Version;
use super::options::{SILENCE_MAX, TICKET_AGE_MAX};

/// How the store does, for whoever asks.
#[derive(Default)]
pub(super) struct Health {
    trouble: Mutex<Option<String>>,
    failed: OnceLock<String>,
}

impl Health {
    /// What is wrong with FoundationDB, in words: nothing is lost, and what is asked waits. `None`: nothing.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().expect("nothing panics while it holds this").clone()
    }

    fn tell(&self, trouble: Option<String>) {
        *self.trouble.lock().expect("nothing panics while it holds this") = trouble;
    }

    /// Why nothing is done any more; `None`: it is.
    pub(super) fn failed(&self) -> Option<String> {
        self.failed.get().cloned()
    }

    /// Nothing is done any more, for the first of these reasons.
    pub(super) fn fail(&self, reason: &str) {
        self.failed.get_or_init(|| reason.to_owned());
    }
}

/// From when on what is asked waits, and for what.
#[derive(Default)]
pub(super) struct Waiting {
    since: Option<Duration>,
    is_locked: bool,
    told: bool,
}

impl Waiting {
    /// Something was asked for, or waits.
    pub(super) fn begins(&mut self, now: Duration) {
        self.since.get_or_insert(now);
    }

    /// FoundationDB has done something: whatever waits, waits from now on.
    pub(super) fn goes_on(&mut self, health: &Health, is_work_left: bool, now: Duration) {
        self.since = is_work_left.then_some(now);
        if std::mem::take(&mut self.told) {
            health.tell(None);
        }
        self.is_locked = false;
    }

    /// An operator has locked the database.
    pub(super) fn is_locked(&mut self, health: &Health) {
        if !std::mem::replace(&mut self.is_locked, true) {
            self.told = true;
            health.tell(Some(
                "FoundationDB is locked: a restore or a switch to another cluster runs".to_owned(),
            ));
        }
    }

    /// Tells operators of a silence, once it is long. Gives when to look again.
    pub(super) fn look(
        &mut self,
        health: &Health,
        silence: impl FnOnce() -> String,
        now: Duration,
    ) -> Option<Duration> {
        let due = self.since? + SILENCE_MAX;
        if due > now {
            return Some(due);
        }
        if !self.is_locked {
            self.told = true;
            health.tell(Some(format!("FoundationDB does not answer: {}", silence())));
        }
        self.since = Some(now);
        Some(now + SILENCE_MAX)
    }
}

/// The newest version that this process knows of: what reads see at least. It is forgotten before FoundationDB does.
#[derive(Default)]
pub(super) struct Seen {
    version: AtomicI64,
}

impl Seen {
    /// The version; `None`: only FoundationDB knows.
    pub(super) fn version(&self) -> Option<Version> {
        let version = self.version.load(Ordering::Acquire);
        (version > 0).then_some(Version(version))
    }

    fn set(&self, version: Version) {
        self.version.store(version.0, Ordering::Release);
    }
}

/// The side of whoever knows.
#[derive(Default)]
pub(super) struct Sight {
    newest: Version,
    at: Option<Duration>,
}

impl Sight {
    /// A version is known.
    pub(super) fn see(&mut self, seen: &Seen, version: Version, now: Duration) {
        if version >= self.newest {
            (self.newest, self.at) = (version, Some(now));
            seen.set(version);
        }
    }

    /// Forgets one that is old. Gives when to look again.
    pub(super) fn look(&mut self, seen: &Seen, now: Duration) -> Option<Duration> {
        let due = self.at? + TICKET_AGE_MAX;
        if due > now {
            return Some(due);
        }
        self.at = None;
        seen.set(Version::default());
        None
    }
}
