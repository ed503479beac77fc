//! The engine with its thread.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::client::{Client, Outcome, Request, Want};
use super::driver::{Driver, Shared};
use super::options::FdbOptions;
use super::port::FdbPort;
use super::raising::raise;
use super::takeover::{ask, take_over};
use crate::batch::{Batch, Fence};
use crate::commits::Link;
use crate::engine::{Direction, Engine, Port, ScanLimit, Statistic, StoreError, Wake};
use crate::keys::{self, Key};
use crate::parker::{self, Parker, Turn, Work};
use crate::slots::{Epoch, Slot};
use crate::waiter::{Waiter, waiter};

/// How long a tool waits for FoundationDB, and a process for what it has under way when it ends.
const PATIENCE: Duration = Duration::from_secs(5);

/// Lane records of earlier processes that one start removes: of many lanes, and of starts that did not come so far.
const FORGOTTEN_MAX: usize = 2_000;

/// The engine over FoundationDB.
pub struct Fdb {
    client: Arc<dyn Client>,
    options: FdbOptions,
    process: u32,
    committer: Arc<Parker<Link>>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Fdb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fdb").field("process", &self.process).finish_non_exhaustive()
    }
}

impl Fdb {
    /// Takes the store over that a client leads to, as soon as FoundationDB does that: `waits` is told now and then why it does not.
    /// `nonce` is drawn for this start.
    ///
    /// # Errors
    /// [`StoreError::Failed`] or [`StoreError::Corrupt`]: it never will.
    pub fn open(
        client: Arc<dyn Client>,
        options: FdbOptions,
        nonce: u64,
        mut waits: impl FnMut(&str),
    ) -> Result<Self, StoreError> {
        let committer: Arc<Parker<Link>> = Arc::new(Parker::default());
        let mut caller = client.caller(Arc::new(WakesCommitter(committer.clone())));
        let process = take_over(&mut *caller, nonce, &|| client.silence(), &mut waits)?;
        // What was given up before is of no interest to the driver.
        let caller = client.caller(Arc::new(WakesCommitter(committer.clone())));
        let shared: Arc<Shared> = Arc::default();
        let driver = Driver::new(client.clone(), caller, process, options.clone(), shared.clone());
        let work = Driving { driver, parker: committer.clone(), began: Instant::now(), closing: None };
        let thread = parker::spawn("tern-fdb", committer.clone(), work)
            .map_err(|error| StoreError::Unreachable { reason: format!("a thread can't start: {error}") })?;
        let opened = Self { client, options, process, committer, shared, thread: Mutex::new(Some(thread)) };
        opened.forget_others();
        Ok(opened)
    }

    /// Has the lane records removed of processes that have ended: what they had under way rests on the owner's row, and lands no more.
    /// If it can't be done now, the next start does it.
    fn forget_others(&self) {
        let (wake, _) = waiter();
        let mut caller = self.client.caller(wake.clone());
        let limit = ScanLimit { rows: FORGOTTEN_MAX, bytes: usize::MAX };
        let wants = vec![Want::Rows(keys::lane_records_before(self.process), Direction::Forwards, limit)];
        let found = ask(&mut *caller, Request::Read { at: None, wants }, PATIENCE);
        let Some(Outcome::Read(_, mut found)) = found else { return };
        let mut batch = Batch::default();
        let rows = found.pop().expect("they were asked for").rows().rows;
        rows.iter().for_each(|(key, _)| batch.delete(&Key::from_raw(key)));
        // Nobody waits for it.
        let _ = self.open_port(wake).submit(batch, Fence::default());
    }

    /// The number of this process in the store: each start has another.
    pub fn process(&self) -> u32 {
        self.process
    }

    fn open_port(&self, wake: Arc<dyn Wake>) -> FdbPort {
        let caller = self.client.caller(wake.clone());
        FdbPort::open(&self.options, wake, caller, self.committer.clone(), self.shared.clone())
    }
}

/// Wakes the thread when FoundationDB has answered.
struct WakesCommitter(Arc<Parker<Link>>);

impl Wake for WakesCommitter {
    fn wake(&self) {
        self.0.wake();
    }
}

/// What the thread does.
struct Driving {
    driver: Driver,
    parker: Arc<Parker<Link>>,
    began: Instant,
    /// Since when it is to end.
    closing: Option<Duration>,
}

impl Work<Link> for Driving {
    fn link(&mut self, link: Link) {
        self.driver.link(link);
    }

    fn turn(&mut self) -> Turn {
        let turn = self.driver.turn(self.began.elapsed());
        if !self.parker.is_closed() {
            return turn;
        }
        if !self.driver.has_work() {
            return Turn::Idle;
        }
        // What FoundationDB does not take in time was not acknowledged.
        let now = self.began.elapsed();
        if now.saturating_sub(*self.closing.get_or_insert(now)) < PATIENCE {
            return turn.at_most(Duration::from_millis(100));
        }
        self.driver.give_up();
        Turn::Idle
    }
}

impl Engine for Fdb {
    fn port(&self, wake: Arc<dyn Wake>) -> Box<dyn Port> {
        Box::new(self.open_port(wake))
    }

    fn get_blocking(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        let (wake, _) = waiter();
        let mut caller = self.client.caller(wake);
        let wants = vec![Want::Value(key.clone())];
        match ask(&mut *caller, Request::Read { at: None, wants }, PATIENCE) {
            Some(Outcome::Read(_, mut found)) => Ok(found.pop().expect("it was asked for").value()),
            Some(Outcome::Failed(code)) => {
                Err(StoreError::Unreachable { reason: format!("FoundationDB: error {}", code.0) })
            }
            Some(Outcome::Committed(_)) => unreachable!("a read commits nothing"),
            None => {
                Err(StoreError::Unreachable { reason: format!("FoundationDB: {}", self.client.silence()) })
            }
        }
    }

    fn commit_blocking(&self, batch: Batch) -> Result<(), StoreError> {
        let (wake, waiter): (_, Waiter) = waiter();
        let mut port = self.open_port(wake);
        let closing = StoreError::Failed { reason: "the store is closing".to_owned() };
        port.submit(batch, Fence::default()).map_err(|_| closing.clone())?;
        waiter.committed(&mut port, || self.committer.is_closed()).unwrap_or(Err(closing))
    }

    fn raise_epoch(&self, slot: Slot, epoch: Epoch) -> Result<(), StoreError> {
        let (wake, _) = waiter();
        raise(&mut *self.client.caller(wake), slot, epoch, PATIENCE)
    }

    fn statistics(&self) -> Vec<Statistic> {
        self.shared.statistics.list(self.client.busyness(), self.trouble().is_some())
    }

    fn failed(&self) -> Option<String> {
        self.shared.health.failed()
    }

    fn trouble(&self) -> Option<String> {
        self.shared.health.trouble()
    }

    fn close(&self) {
        self.committer.close();
        let thread = self.thread.lock().expect("nothing panics while it holds this").take();
        // One that panicked has said so.
        let _ = thread.map(JoinHandle::join);
        self.client.close();
    }
}

impl Drop for Fdb {
    fn drop(&mut self) {
        self.close();
    }
}
