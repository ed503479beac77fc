//! What operators are told when FoundationDB does not do what it is asked.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use super::client::{Code, Version};
use super::codes::{Meaning, meaning};
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

/// What operators are told of what is asked and not done.
#[derive(Default)]
pub(super) struct Waiting {
    /// What FoundationDB has said last, unless it has done something since.
    last: Option<Code>,
    /// When operators were told last.
    told: Option<Duration>,
}

impl Waiting {
    /// FoundationDB has done something.
    pub(super) fn done(&mut self) {
        self.last = None;
    }

    /// FoundationDB has said why it does not.
    pub(super) fn not_done(&mut self, code: Code) {
        self.last = Some(code);
    }

    /// Tells operators of a lock at once, and of anything else once it is long; and that it is over. `since`: what is asked waits since
    /// then. Gives when to look again.
    pub(super) fn look(
        &mut self,
        health: &Health,
        since: Option<Duration>,
        silence: impl FnOnce() -> String,
        now: Duration,
    ) -> Option<Duration> {
        let is_locked = self.last.is_some_and(|code| meaning(code) == Meaning::Locked);
        let long_at = since.map(|since| since + SILENCE_MAX);
        if !is_locked && long_at.is_none_or(|at| at > now) {
            if self.told.take().is_some() {
                health.tell(None);
            }
            return long_at;
        }
        if let Some(told) = self.told.filter(|told| *told + SILENCE_MAX > now) {
            return Some(told + SILENCE_MAX);
        }
        self.told = Some(now);
        health.tell(Some(match self.last {
            _ if is_locked => {
                "FoundationDB is locked: a restore or a switch to another cluster runs".to_owned()
            }
            Some(Code(code)) => {
                format!("FoundationDB does not do what it is asked (error {code}): {}", silence())
            }
            None => format!("FoundationDB does not answer: {}", silence()),
        }));
        Some(now + SILENCE_MAX)
    }
}

/// The newest version that this process knows of: what reads see at least. It is forgotten before FoundationDB does.
#[derive(Default)]
pub(super) struct Seen {
    version: AtomicI64,
    /// What was read: reads never go back.
    read: AtomicI64,
}

impl Seen {
    /// The version; `None`: only FoundationDB knows.
    pub(super) fn version(&self) -> Option<Version> {
        let version = self.version.load(Ordering::Acquire);
        (version > 0).then(|| Version(version.max(self.read.load(Ordering::Acquire))))
    }

    /// Something was read at this version.
    pub(super) fn read_at(&self, version: Version) {
        self.read.fetch_max(version.0, Ordering::AcqRel);
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
