//! The threads behind the tables: one writes what is sealed to files and lets the log's segments go that are not needed any
//! more, one merges tables.
//!
//! The order is what makes the log the only journal: the tables' files are durable, then the manifest that names them is,
//! then segments go. What the system refuses for now (no room, no descriptors) is tried again: the log holds everything
//! meanwhile.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::manifest::Manifest;
use super::parker::AbortOnPanic;
use super::statistics::Statistics;
use super::tables::{self, Tables};
use super::{LAYOUT, LOG, log};

/// Sealed parts of the tables that wait to be flushed. Beyond, what is written gathers in the open part.
const SEALED_MAX: usize = 2;

/// How long to wait after the system has refused something.
const RETRY: Duration = Duration::from_secs(1);

/// How long to wait before tables are merged again of which one is damaged.
const RETRY_DAMAGED: Duration = Duration::from_secs(600);

/// See the module.
pub(super) struct Keeper {
    store: PathBuf,
    log: PathBuf,
    segment_bytes: u64,
    tables: Tables,
    statistics: Arc<Statistics>,
    state: Mutex<State>,
    changed: Condvar,
    /// Held while the manifest is written: the newest one wins.
    manifest: Mutex<()>,
}

#[derive(Default)]
struct State {
    /// Up to which groups each sealed part goes, rising.
    sealed: VecDeque<u64>,
    /// Groups up to this one are in files.
    flushed: u64,
    /// There are new tables.
    compact: bool,
    /// Merging has met damage: nobody waits for it.
    damaged: bool,
    closing: bool,
    /// Why nothing is flushed any more.
    failed: Option<String>,
}

/// What is to be done about an error.
enum Remedy {
    /// The system refuses it for now.
    Retry,
    /// A file is not as it was written.
    Damage,
    /// The disk failed.
    GiveUp,
}

fn remedy(error: &lsm_tree::Error) -> Remedy {
    let lsm_tree::Error::Io(error) = error else { return Remedy::Damage };
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData => Remedy::Damage,
        _ if is_refusal(error) => Remedy::Retry,
        _ => Remedy::GiveUp,
    }
}

/// Whether the system refuses something for a reason that an operator can lift: room, descriptors, memory, permission.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    use rustix::io::Errno;
    const REFUSALS: [Errno; 8] = [
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::ACCESS,
        Errno::PERM,
        Errno::ROFS,
    ];
    error.raw_os_error().is_some_and(|code| REFUSALS.iter().any(|errno| errno.raw_os_error() == code))
}

impl Keeper {
    pub(super) fn new(
        store: &Path,
        segment_bytes: u64,
        tables: Tables,
        flushed: u64,
        statistics: Arc<Statistics>,
    ) -> Self {
        Self {
            store: store.to_owned(),
            log: store.join(LOG),
            segment_bytes,
            tables,
            statistics,
            state: Mutex::new(State { flushed, compact: true, ..State::default() }),
            changed: Condvar::new(),
            manifest: Mutex::default(),
        }
    }

    /// Starts both threads.
    pub(super) fn spawn(self: &Arc<Self>) -> io::Result<[JoinHandle<()>; 2]> {
        let start = |name: &str, run: fn(&Self)| {
            let keeper = self.clone();
            thread::Builder::new().name(name.to_owned()).spawn(move || {
                let _abort = AbortOnPanic;
                run(&keeper);
            })
        };
        Ok([start("tern-flush", Self::flush_all)?, start("tern-compact", Self::compact_all)?])
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds this")
    }

    /// Has what was written so far, up to a group, be flushed. Gives whether it was taken: there may be enough to flush.
    pub(super) fn seal(&self, number: u64) -> bool {
        let mut state = self.lock();
        let takes = state.sealed.len() < SEALED_MAX || state.closing;
        if takes {
            self.tables.seal();
            state.sealed.push_back(number);
            self.changed.notify_all();
        }
        takes
    }

    /// Waits until a seal would be taken and reads are quick. Gives why nothing is flushed any more.
    pub(super) fn wait_for_room(&self) -> Result<(), String> {
        let mut state = self.lock();
        loop {
            if let Some(why) = &state.failed {
                return Err(why.clone());
            }
            let is_behind = self.tables.is_behind() && !state.damaged && !state.closing;
            if state.sealed.len() < SEALED_MAX && !is_behind {
                return Ok(());
            }
            state = self.changed.wait(state).expect("no thread panics while it holds this");
        }
    }

    /// Why nothing is flushed any more, if that is so.
    pub(super) fn failed(&self) -> Option<String> {
        self.lock().failed.clone()
    }

    /// Groups up to this one are in files.
    pub(super) fn flushed(&self) -> u64 {
        self.lock().flushed
    }

    /// Has both threads finish what is sealed, and end.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.changed.notify_all();
    }

    fn flush_all(&self) {
        loop {
            let mut state = self.lock();
            while state.sealed.is_empty() && !state.closing {
                state = self.changed.wait(state).expect("no thread panics while it holds this");
            }
            // What is sealed from now on may be flushed with it; it is flushed again then, which finds nothing to do.
            let Some(number) = state.sealed.back().copied() else { return };
            drop(state);
            match self.flush(number) {
                Ok(()) => {}
                Err(error) => match remedy(&error) {
                    Remedy::Retry if !self.lock().closing => {
                        self.statistics.trouble();
                        self.pause(RETRY);
                    }
                    Remedy::Retry | Remedy::Damage | Remedy::GiveUp => {
                        self.lock().failed = Some(tables::reason(&error));
                        self.changed.notify_all();
                        return;
                    }
                },
            }
        }
    }

    fn flush(&self, number: u64) -> lsm_tree::Result<()> {
        self.tables.flush()?;
        {
            let _alone = self.manifest.lock().expect("no thread panics while it holds this");
            Manifest::of(&self.store, LAYOUT, number, &self.tables)?.write(&self.store)?;
            self.lock().flushed = number;
        }
        log::release(&self.log, number, self.segment_bytes)?;
        self.statistics.flushed(self.tables.file_bytes(), log::count(&self.log)?);
        let mut state = self.lock();
        state.sealed.retain(|sealed| *sealed > number);
        state.compact = true;
        self.changed.notify_all();
        Ok(())
    }

    fn compact_all(&self) {
        loop {
            let mut state = self.lock();
            while !state.compact && !state.closing {
                state = self.changed.wait(state).expect("no thread panics while it holds this");
            }
            if state.closing {
                return;
            }
            state.compact = false;
            drop(state);
            let (pause, damaged) = match self.compact() {
                Ok(()) => (None, false),
                Err(error) => match remedy(&error) {
                    Remedy::Retry | Remedy::GiveUp => (Some(RETRY), false),
                    Remedy::Damage => (Some(RETRY_DAMAGED), true),
                },
            };
            self.lock().damaged = damaged;
            self.changed.notify_all();
            if let Some(pause) = pause {
                self.statistics.trouble();
                self.pause(pause);
                self.lock().compact = true;
            }
        }
    }

    fn compact(&self) -> lsm_tree::Result<()> {
        while self.tables.compact()? {
            let _alone = self.manifest.lock().expect("no thread panics while it holds this");
            let flushed = self.flushed();
            Manifest::of(&self.store, LAYOUT, flushed, &self.tables)?.write(&self.store)?;
            self.changed.notify_all();
            if self.lock().closing {
                break;
            }
        }
        Ok(())
    }

    /// Waits, but not beyond the end.
    fn pause(&self, time: Duration) {
        let state = self.lock();
        let _ = self
            .changed
            .wait_timeout_while(state, time, |state| !state.closing)
            .expect("no thread panics while it holds this");
    }
}
