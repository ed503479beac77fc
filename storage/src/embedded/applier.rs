//! What brings durable groups into the tables, behind the committer's back: nobody who waits for durability waits for the
//! tables. Reads that must see a group wait until it is there.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::keeper::Keeper;
use super::log::Segments;
use super::tables::Tables;
use crate::batch::Batch;
use crate::mutations::{self, Mutation};

/// Bytes of groups that wait. Beyond, the committer waits.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Bytes that are brought into the tables as one write.
const WRITE_BYTES_MAX: usize = 4 << 20;

/// How long groups gather for one write, while nobody waits to read them.
const GATHER: Duration = Duration::from_millis(20);

/// Bytes from which on they do not gather.
const GATHERED_BYTES: usize = 1 << 20;

/// So many times the bytes from which on the tables' open part is flushed: beyond, groups wait, for flushing does not keep
/// up.
const OPEN_PARTS_MAX: u64 = 4;

/// Segments of the log with what is in the open part from which on it is flushed, so that the log does not grow for ever
/// under writes of few keys, and a start has not too much to read.
const OPEN_SEGMENTS_MAX: usize = 8;

/// A durable group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) number: u64,
    pub(super) batches: Vec<Batch>,
    /// The first group of the segment that it lies in.
    pub(super) segment: u64,
    /// The next segment should be made ready.
    pub(super) wants_spare: bool,
}

impl Group {
    fn bytes(&self) -> usize {
        self.batches.iter().map(Batch::bytes).sum()
    }
}

/// What lies between the committer, the applier and the readers.
#[derive(Debug)]
pub(super) struct Backlog {
    state: Mutex<State>,
    /// For the applier: there is something to do.
    work: Condvar,
    /// For the committer and the readers: something has been done.
    done: Condvar,
    /// Groups that are durable, and groups that are in the tables.
    committed: AtomicU64,
    applied: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    groups: VecDeque<Group>,
    bytes: usize,
    /// Readers that wait, and a committer that does.
    waiting: usize,
    /// The applier waits for the first group.
    sleeps: bool,
    closed: bool,
    /// Why the tables take nothing more.
    failed: Option<String>,
}

impl State {
    fn has_room(&self) -> Result<bool, String> {
        self.failed.clone().map_or(Ok(self.bytes <= WAITING_BYTES_MAX), Err)
    }

    fn take(&mut self) -> Vec<Group> {
        let mut taken = Vec::new();
        let mut bytes = 0;
        while bytes < WRITE_BYTES_MAX
            && let Some(group) = self.groups.pop_front()
        {
            bytes += group.bytes();
            taken.push(group);
        }
        self.bytes -= bytes;
        taken
    }
}

impl Backlog {
    /// Nothing waits; all groups up to this one are in the tables.
    pub(super) fn new(applied: u64) -> Self {
        Self {
            state: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
            committed: AtomicU64::new(applied),
            applied: AtomicU64::new(applied),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds this")
    }

    /// Bytes of durable groups that wait for the tables.
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Groups up to this one are durable: whoever reads from now on must see them.
    pub(super) fn committed(&self, number: u64) {
        self.committed.store(number, Ordering::Release);
    }

    /// Which groups a read that begins now must see.
    pub(super) fn newest(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// Has a durable group brought into the tables. Whoever pushes waits for room before the next one.
    pub(super) fn push(&self, group: Group) {
        let mut state = self.lock();
        state.bytes += group.bytes();
        state.groups.push_back(group);
        if std::mem::take(&mut state.sleeps) || state.bytes >= GATHERED_BYTES {
            self.work.notify_one();
        }
    }

    /// Whether another group may be pushed. Gives why the tables take nothing more.
    pub(super) fn has_room(&self) -> Result<bool, String> {
        self.lock().has_room()
    }

    /// Waits until another group may be pushed. Gives why the tables take nothing more.
    pub(super) fn wait_for_room(&self) -> Result<(), String> {
        self.wait_until(State::has_room)
    }

    /// Whether a group is in the tables. Gives why that will not be.
    pub(super) fn has_applied(&self, number: u64) -> Result<bool, String> {
        if self.applied.load(Ordering::Acquire) >= number || mutations::is(Mutation::ReadTooEarly) {
            return Ok(true);
        }
        self.is_there(&self.lock(), number)
    }

    /// Waits until a group is in the tables. Gives why that will not be.
    pub(super) fn wait_for(&self, number: u64) -> Result<(), String> {
        if self.applied.load(Ordering::Acquire) >= number {
            return Ok(());
        }
        self.wait_until(|state| self.is_there(state, number))
    }

    fn is_there(&self, state: &State, number: u64) -> Result<bool, String> {
        match &state.failed {
            _ if self.applied.load(Ordering::Acquire) >= number => Ok(true),
            Some(why) => Err(why.clone()),
            None => Ok(false),
        }
    }

    fn wait_until(&self, is_so: impl Fn(&State) -> Result<bool, String>) -> Result<(), String> {
        let mut state = self.lock();
        while !is_so(&state)? {
            state.waiting += 1;
            self.work.notify_one();
            state = self.done.wait(state).expect("no thread panics while it holds this");
            state.waiting -= 1;
        }
        Ok(())
    }

    /// No group follows.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_one();
    }

    /// Waits for groups, and takes what has gathered, up to one write; nothing after the last.
    pub(super) fn take(&self) -> Vec<Group> {
        let poisoned = "no thread panics while it holds this";
        let mut state = self.lock();
        while state.groups.is_empty() && !state.closed {
            state.sleeps = true;
            state = self.work.wait(state).expect(poisoned);
        }
        state.sleeps = false;
        let gathers = |state: &mut State| state.waiting == 0 && state.bytes < GATHERED_BYTES && !state.closed;
        let (mut state, _) = self.work.wait_timeout_while(state, GATHER, gathers).expect(poisoned);
        state.take()
    }

    /// Takes what there is, up to one write.
    pub(super) fn take_now(&self) -> Vec<Group> {
        self.lock().take()
    }

    fn applied(&self, number: u64) {
        self.applied.store(number, Ordering::Release);
        let state = self.lock();
        if state.waiting > 0 {
            self.done.notify_all();
        }
    }

    /// The tables take nothing more.
    pub(super) fn fail(&self, why: String) {
        self.lock().failed = Some(why);
        self.done.notify_all();
    }
}

/// See the module.
pub(super) struct Applier<T: Tables> {
    tables: T,
    backlog: Arc<Backlog>,
    keeper: Arc<Keeper<T>>,
    segments: Segments<T::Medium>,
    /// See [`super::EmbeddedOptions`].
    flush_bytes: u64,
    /// The segment of the newest group, and how many were begun since the last seal.
    segment: u64,
    segments_begun: usize,
    /// The segment for whose successor a spare one was made ready, or tried to.
    prepared: u64,
    /// What follows from the last write is still to be done.
    unsettled: Option<Unsettled>,
}

/// Of the newest group that was written to the tables.
#[derive(Clone, Copy)]
struct Unsettled {
    number: u64,
    segment: u64,
    wants_spare: bool,
}

impl<T: Tables> Applier<T> {
    /// `segments_begun`: of what is in the tables' memory already.
    pub(super) fn new(
        tables: T,
        backlog: Arc<Backlog>,
        keeper: Arc<Keeper<T>>,
        (segments, segments_begun): (Segments<T::Medium>, usize),
        flush_bytes: u64,
    ) -> Self {
        let (segment, prepared, unsettled) = (0, 0, None);
        Self { tables, backlog, keeper, segments, flush_bytes, segment, segments_begun, prepared, unsettled }
    }

    /// Brings groups into the tables, as one write. [`Applier::settle`] follows.
    pub(super) fn apply(&mut self, groups: &[Group]) {
        let last = groups.last().expect("there is something to be written");
        self.tables.write(groups.iter().flat_map(|group| &group.batches).flat_map(Batch::ops));
        self.backlog.applied(last.number);
        if last.segment != self.segment {
            (self.segment, self.segments_begun) = (last.segment, self.segments_begun + 1);
        }
        let Group { number, segment, wants_spare, .. } = *last;
        self.unsettled = Some(Unsettled { number, segment, wants_spare });
    }

    /// Has what was written be flushed when it is enough, and the next segment made ready. Gives whether that is done: if it
    /// is far too much and the keeper has no room, nothing is to be applied before it has. Gives why nothing is flushed any
    /// more.
    pub(super) fn settle(&mut self) -> Result<bool, String> {
        let Some(Unsettled { number, segment, wants_spare }) = self.unsettled else { return Ok(true) };
        let bytes = self.tables.open_bytes();
        if bytes >= self.flush_bytes || self.segments_begun >= OPEN_SEGMENTS_MAX {
            if bytes >= OPEN_PARTS_MAX * self.flush_bytes && !self.keeper.has_room()? {
                return Ok(false);
            }
            if self.keeper.seal(number) {
                self.segments_begun = 0;
            }
        }
        if let Some(why) = self.keeper.failed() {
            return Err(why);
        }
        self.unsettled = None;
        if wants_spare && self.prepared != segment {
            // Once a segment: without one the committer makes it when it needs it.
            self.prepared = segment;
            let _ = self.segments.prepare_spare(number);
        }
        Ok(true)
    }

    /// Has all that was written be flushed: no group follows.
    pub(super) fn finish(&mut self) {
        self.keeper.seal_last(self.backlog.applied.load(Ordering::Acquire));
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::keys;

    fn group(number: u64, bytes: usize) -> Group {
        let mut batch = Batch::default();
        batch.put(&keys::user(number), vec![0; bytes]);
        Group { number, batches: vec![batch], segment: 1, wants_spare: false }
    }

    #[test]
    fn whoever_reads_waits_for_what_it_must_see_and_no_longer() {
        let backlog = Backlog::new(3);
        backlog.committed(5);
        assert_eq!(backlog.newest(), 5);
        backlog.wait_for(3).expect("it is there");
        thread::scope(|scope| {
            let reader = scope.spawn(|| backlog.wait_for(5));
            backlog.push(group(4, 1));
            backlog.push(group(5, 1));
            let mut taken = Vec::new();
            while taken.last() != Some(&5) {
                taken.extend(backlog.take().iter().map(|group| group.number));
                backlog.applied(*taken.last().expect("a group"));
            }
            assert_eq!(taken, [4, 5]);
            reader.join().expect("it does not panic").expect("it is there");
        });
    }

    #[test]
    fn a_failure_is_told_to_all_who_wait() {
        let backlog = Backlog::new(0);
        backlog.push(group(1, WAITING_BYTES_MAX + 1));
        thread::scope(|scope| {
            let reader = scope.spawn(|| backlog.wait_for(1));
            let committer = scope.spawn(|| backlog.wait_for_room());
            backlog.fail("the disk".to_owned());
            assert_eq!(reader.join().expect("it does not panic"), Err("the disk".to_owned()));
            assert_eq!(committer.join().expect("it does not panic"), Err("the disk".to_owned()));
        });
    }
}
