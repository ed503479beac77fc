//! The engine without a thread, over a simulated FoundationDB: a simulation says when it has a turn, and what the time is. Dropping it
//! is the end of its process, without a word; what it has under way may land later.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use super::client::{Client as _, Outcome, Request, Want};
use super::driver::{Driver, Shared};
use super::options::FdbOptions;
use super::port::FdbPort;
use super::raising::raise;
use super::simulated::SimFdb;
use super::takeover::{ask, take_over};
use crate::batch::{Batch, Fence};
use crate::commits::Link;
use crate::engine::{Completion, Engine, Port, Statistic, StoreError, Wake};
use crate::keys::Key;
use crate::parker::{Parker, Turn};
use crate::slots::{Epoch, Slot};

/// Turns that a call which blocks takes at most, before it says that nothing is answered.
const TURNS_MAX: usize = 10_000;

/// See the module.
pub struct SteppedFdb {
    fdb: SimFdb,
    options: FdbOptions,
    process: u32,
    committer: Arc<Parker<Link>>,
    shared: Arc<Shared>,
    driver: Mutex<(Driver, Duration)>,
}

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

impl SteppedFdb {
    /// Takes the store over.
    ///
    /// # Errors
    /// As [`Fdb::open`](super::Fdb::open).
    pub fn open(fdb: &SimFdb, options: FdbOptions, nonce: u64, now: Duration) -> Result<Self, StoreError> {
        fdb.run_until(now);
        let mut caller = fdb.caller(Arc::new(NoWake));
        let process = take_over(&mut *caller, nonce, &|| fdb.silence(), &mut |_| {})?;
        let shared: Arc<Shared> = Arc::default();
        let client = Arc::new(fdb.clone());
        let driver =
            Driver::new(client, fdb.caller(Arc::new(NoWake)), process, options.clone(), shared.clone());
        Ok(Self {
            fdb: fdb.clone(),
            options,
            process,
            committer: Arc::default(),
            shared,
            driver: Mutex::new((driver, now)),
        })
    }

    /// The number of this process in the store.
    pub fn process(&self) -> u32 {
        self.process
    }

    /// FoundationDB does what it does up to now, and the engine what there is to do. Gives when to come back, unless something is submitted
    /// before, or FoundationDB has something to do.
    pub fn step(&self, now: Duration) -> Option<Duration> {
        self.fdb.run_until(now);
        let mut driver = self.driver.lock().expect("nothing panics while it holds this");
        driver.1 = driver.1.max(now);
        let now = driver.1;
        self.committer.new_links().into_iter().for_each(|link| driver.0.link(link));
        loop {
            match driver.0.turn(now) {
                Turn::Worked => {}
                Turn::Idle => return None,
                Turn::IdleFor(wait) | Turn::Later(wait) => return Some(now + wait),
            }
        }
    }

    /// When there is something to be done of which nobody tells: by FoundationDB.
    pub fn next(&self) -> Option<Duration> {
        self.fdb.next()
    }

    fn open_port(&self, wake: Arc<dyn Wake>) -> FdbPort {
        let caller = self.fdb.caller(wake.clone());
        FdbPort::open(&self.options, wake, caller, self.committer.clone(), self.shared.clone())
    }

    fn now(&self) -> Duration {
        self.driver.lock().expect("nothing panics while it holds this").1
    }
}

impl Engine for SteppedFdb {
    fn port(&self, wake: Arc<dyn Wake>) -> Box<dyn Port> {
        Box::new(self.open_port(wake))
    }

    /// Time passes as far as it must.
    fn get_blocking(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        let mut caller = self.fdb.caller(Arc::new(NoWake));
        let wants = vec![Want::Value(key.clone())];
        match ask(&mut *caller, Request::Read { at: None, wants }, Duration::MAX) {
            Some(Outcome::Read(_, mut found)) => Ok(found.pop().expect("it was asked for").value()),
            Some(Outcome::Failed(code)) => {
                Err(StoreError::Unreachable { reason: format!("FoundationDB: error {}", code.0) })
            }
            Some(Outcome::Committed(_)) | None => unreachable!("a read is answered as such"),
        }
    }

    /// The same.
    fn commit_blocking(&self, batch: Batch) -> Result<(), StoreError> {
        let mut port = self.open_port(Arc::new(NoWake));
        port.submit(batch, Fence::default())
            .map_err(|_| StoreError::Failed { reason: "it is closed".to_owned() })?;
        let (mut completions, mut now) = (Vec::new(), self.now());
        for _ in 0..TURNS_MAX {
            let when = self.step(now);
            port.poll(&mut completions);
            match completions.pop() {
                Some(Completion::Committed(_)) => return Ok(()),
                Some(Completion::CommitFailed { error, .. }) => return Err(error),
                Some(Completion::Value { .. } | Completion::Rows { .. }) => unreachable!("nothing was read"),
                None => now = when.into_iter().chain(self.fdb.next()).min().unwrap_or(now).max(now),
            }
        }
        Err(StoreError::Failed {
            reason: "FoundationDB takes nothing, and nobody knows what it took".to_owned(),
        })
    }

    fn raise_epoch(&self, slot: Slot, epoch: Epoch) -> Result<(), StoreError> {
        raise(&mut *self.fdb.caller(Arc::new(NoWake)), slot, epoch, Duration::MAX)
    }

    fn statistics(&self) -> Vec<Statistic> {
        self.shared.statistics.list(0.0, self.trouble().is_some())
    }

    fn failed(&self) -> Option<String> {
        self.shared.health.failed()
    }

    fn trouble(&self) -> Option<String> {
        self.shared.health.trouble()
    }

    /// What was submitted ends.
    fn close(&self) {
        let mut now = self.now();
        for _ in 0..TURNS_MAX {
            let when = self.step(now);
            if !self.driver.lock().expect("nothing panics while it holds this").0.has_work() {
                return;
            }
            now = when.into_iter().chain(self.fdb.next()).min().unwrap_or(now).max(now);
        }
    }
}
