//! What brings the tables' memory to files and lets the log's segments go that are not needed any more, and what merges
//! tables.
//!
//! The order is what makes the log the only journal: the tables' files are durable, then the manifest that names them is,
//! then segments go. What the system refuses for now (no room, no descriptors) is tried again: the log holds everything
//! meanwhile.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::LAYOUT;
use super::applier::Backlog;
use super::hold::Hold;
use super::log::Segments;
use super::manifest::{Manifest, TreeManifest};
use super::statistics::Statistics;
use super::tables::{Tables, TablesError};
use crate::medium::Medium as _;
use crate::mutations::{self, Mutation};

/// Sealed parts of the tables that wait to be flushed. Beyond, what is written gathers in the open part.
const SEALED_MAX: usize = 2;

/// See the module.
pub(super) struct Keeper<T: Tables> {
    medium: T::Medium,
    store: PathBuf,
    segments: Segments<T::Medium>,
    tables: T,
    statistics: Arc<Statistics>,
    state: Mutex<State>,
    changed: Condvar,
    /// Held while the manifest is written: the newest one wins.
    manifest: Mutex<()>,
    /// What of the log a backup has not got yet.
    hold: Arc<Hold>,
    /// Held while segments are let go.
    releasing: Mutex<()>,
}

/// What a backup begins with.
pub(super) struct Base {
    /// The files of the trees; the hold has their pins, in this order.
    pub(super) trees: Vec<TreeManifest>,
    /// All groups up to this one are in them.
    pub(super) flushed: u64,
    /// No group beyond this one is.
    pub(super) whole_at: u64,
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

/// The parts of a flush, in their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FlushPart {
    /// The tables' files.
    Tables,
    /// The manifest that names them.
    Manifest,
    /// The segments of the log that are in them.
    Segments,
}

/// What is to be done about an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Remedy {
    /// The system refuses it for now.
    Retry,
    /// A file is not as it was written.
    Damage,
    /// The disk failed.
    GiveUp,
}

pub(super) fn remedy(error: &TablesError) -> Remedy {
    match error {
        _ if error.is_damage() => Remedy::Damage,
        TablesError::Io(error) if is_refusal(error) => Remedy::Retry,
        TablesError::Io(_) | TablesError::Damaged(_) => Remedy::GiveUp,
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

impl<T: Tables> Keeper<T> {
    /// Groups up to `flushed` are in the tables' files.
    pub(super) fn new(
        (medium, store): (T::Medium, &Path),
        (segments, hold): (Segments<T::Medium>, Arc<Hold>),
        tables: T,
        flushed: u64,
        statistics: Arc<Statistics>,
    ) -> Self {
        Self {
            medium,
            store: store.to_owned(),
            segments,
            tables,
            statistics,
            state: Mutex::new(State { flushed, compact: true, ..State::default() }),
            changed: Condvar::new(),
            manifest: Mutex::default(),
            hold,
            releasing: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds this")
    }

    /// Has what was written so far, up to a group, be flushed. Gives whether it was taken: there may be enough to flush.
    pub(super) fn seal(&self, number: u64) -> bool {
        let mut state = self.lock();
        let takes = state.sealed.len() < SEALED_MAX;
        if takes {
            self.seal_in(&mut state, number);
        }
        takes
    }

    /// Has all that was written be flushed, however much waits: no write follows.
    pub(super) fn seal_last(&self, number: u64) {
        self.seal_in(&mut self.lock(), number);
    }

    fn seal_in(&self, state: &mut State, number: u64) {
        self.tables.seal();
        state.sealed.push_back(number);
        self.changed.notify_all();
    }

    /// Whether a seal would be taken and reads are quick. Gives why nothing is flushed any more.
    pub(super) fn has_room(&self) -> Result<bool, String> {
        self.has_room_in(&self.lock())
    }

    fn has_room_in(&self, state: &State) -> Result<bool, String> {
        let is_behind = self.tables.is_behind() && !state.damaged && !state.closing;
        state.failed.clone().map_or(Ok(state.sealed.len() < SEALED_MAX && !is_behind), Err)
    }

    /// Waits until [`Keeper::has_room`] is so.
    pub(super) fn wait_for_room(&self) -> Result<(), String> {
        let mut state = self.lock();
        while !self.has_room_in(&state)? {
            state = self.changed.wait(state).expect("no thread panics while it holds this");
        }
        Ok(())
    }

    /// Why nothing is flushed any more, if that is so.
    pub(super) fn failed(&self) -> Option<String> {
        self.lock().failed.clone()
    }

    /// Groups up to this one are in files.
    pub(super) fn flushed(&self) -> u64 {
        self.lock().flushed
    }

    /// Has what is sealed be finished, and no more.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.changed.notify_all();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// Up to which group there is to be flushed. What is sealed later may be flushed with it; it is flushed again then, which
    /// finds nothing to do.
    pub(super) fn next_flush(&self) -> Option<u64> {
        self.lock().sealed.back().copied()
    }

    /// Waits for [`Keeper::next_flush`]; `None` at the end, and when nothing is flushed any more.
    pub(super) fn wait_for_flush(&self) -> Option<u64> {
        let mut state = self.lock();
        while state.sealed.is_empty() && !state.closing && state.failed.is_none() {
            state = self.changed.wait(state).expect("no thread panics while it holds this");
        }
        if state.failed.is_some() { None } else { state.sealed.back().copied() }
    }

    /// Does a part of a flush up to a group. Gives the part that follows.
    pub(super) fn flush(&self, number: u64, part: FlushPart) -> Result<Option<FlushPart>, TablesError> {
        match part {
            FlushPart::Tables => {
                if mutations::is(Mutation::ReleaseBeforeFlush) {
                    self.segments.release(number)?;
                }
                if mutations::is(Mutation::ManifestBeforeTables) {
                    self.write_manifest(number)?;
                }
                self.tables.flush()?;
                Ok(Some(FlushPart::Manifest))
            }
            FlushPart::Manifest => {
                let _alone = self.manifest.lock().expect("no thread panics while it holds this");
                self.write_manifest(number)?;
                self.lock().flushed = number;
                Ok(Some(FlushPart::Segments))
            }
            FlushPart::Segments => {
                self.release(number)?;
                self.statistics.flushed(self.tables.file_bytes(), self.segments.count_beyond(number)?);
                let mut state = self.lock();
                state.sealed.retain(|sealed| *sealed > number);
                state.compact = true;
                self.changed.notify_all();
                Ok(None)
            }
        }
    }

    /// Lets the segments go that are in files, as a flush does: a backup has taken more of them.
    pub(super) fn let_go(&self) -> io::Result<()> {
        self.release(self.flushed())
    }

    /// Lets all segments go at the end, if all groups up to the newest are in files; but what a backup has not got.
    pub(super) fn let_all_go(&self, newest: u64) {
        if self.failed().is_none() && self.flushed() == newest {
            // What can't be let go now is let go after the next opening.
            let _ = self.segments.release_flushed(newest, self.hold.archived());
        }
    }

    /// Bytes of segments that are kept for a backup alone.
    pub(super) fn kept_bytes(&self) -> io::Result<u64> {
        self.segments.bytes_within(self.hold.archived(), self.flushed())
    }

    fn release(&self, flushed: u64) -> io::Result<()> {
        let _alone = self.releasing.lock().expect("no thread panics while it holds this");
        if self.hold.is_on() {
            let kept = self.segments.bytes_within(self.hold.archived(), flushed)?;
            self.hold.bound(kept, self.medium.free_bytes(&self.store)?);
        }
        self.segments.release(flushed.min(self.hold.archived()))
    }

    /// What the tables' files hold now. They stay where they are, by the hold's pins; and if a chain begins with them, so does the
    /// log beyond them.
    pub(super) fn base(&self, backlog: &Backlog, begins: bool) -> io::Result<Base> {
        let alone = self.manifest.lock().expect("no thread panics while it holds this");
        let flushed = self.flushed();
        let mut trees = Vec::new();
        let mut pins = Vec::new();
        for pinned in self.tables.pin()? {
            trees.push(pinned.manifest);
            pins.extend(pinned.pins);
        }
        self.hold.pin(pins);
        if begins {
            self.hold.begin(flushed);
        }
        drop(alone);
        // A flush takes along what was sealed after it was asked for; but nothing that was not durable before.
        Ok(Base { trees, flushed, whole_at: backlog.newest() })
    }

    /// Whoever calls it is alone.
    fn write_manifest(&self, flushed: u64) -> io::Result<()> {
        Manifest::of(LAYOUT, flushed, &self.tables)?.write(&self.medium, &self.store)
    }

    /// Deals with an error of a flush. Gives whether it is to be begun again, after a while; else nothing is flushed any more.
    pub(super) fn flush_failed(&self, error: &TablesError) -> bool {
        let retries = remedy(error) == Remedy::Retry && !self.is_closing() && self.is_settled();
        if retries {
            self.statistics.trouble();
        } else {
            self.lock().failed = Some(error.to_string());
            self.changed.notify_all();
        }
        retries
    }

    /// See [`Tables::is_settled`].
    fn is_settled(&self) -> bool {
        self.tables.is_settled() || mutations::is(Mutation::WriteOverVersion)
    }

    /// Whether there may be reason to merge tables.
    pub(super) fn wants_to_compact(&self) -> bool {
        let state = self.lock();
        state.compact && !state.closing && state.failed.is_none()
    }

    /// Waits for [`Keeper::wants_to_compact`]; false at the end.
    pub(super) fn wait_to_compact(&self) -> bool {
        let mut state = self.lock();
        while (!state.compact || state.failed.is_some()) && !state.closing {
            state = self.changed.wait(state).expect("no thread panics while it holds this");
        }
        !state.closing
    }

    /// Merges tables once. Gives what is to be done about an error, after a while.
    pub(super) fn compact(&self) -> Result<(), Remedy> {
        self.lock().compact = false;
        let merged = self.merge();
        let remedy = merged.as_ref().err().map(remedy);
        let is_settled = merged.is_ok() || self.is_settled();
        let mut state = self.lock();
        if let Err(error) = &merged
            && !is_settled
        {
            state.failed.get_or_insert(error.to_string());
        }
        state.damaged = remedy == Some(Remedy::Damage);
        // After a merge there may be reason for another one; and what failed is tried again.
        state.compact |= !matches!(merged, Ok(false));
        self.changed.notify_all();
        drop(state);
        remedy.map_or(Ok(()), |remedy| {
            self.statistics.trouble();
            Err(remedy)
        })
    }

    fn merge(&self) -> Result<bool, TablesError> {
        let any = self.tables.compact()?;
        if any {
            let _alone = self.manifest.lock().expect("no thread panics while it holds this");
            self.write_manifest(self.flushed())?;
        }
        Ok(any)
    }

    /// Waits, but not beyond the end.
    pub(super) fn pause(&self, time: Duration) {
        let state = self.lock();
        let _ = self
            .changed
            .wait_timeout_while(state, time, |state| !state.closing)
            .expect("no thread panics while it holds this");
    }
}
