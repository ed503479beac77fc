//! The one thread that writes: takes what all ports have submitted, writes it as one group, syncs once, completes all.
//!
//! While a group is being synced the next one gathers, so groups grow with the load and with the disk's delay. Where a
//! latency is aimed at, what the disk leaves of it is spent on gathering longer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fjall::PersistMode;
use prost::Message as _;
use rtrb::{Consumer, Producer};

use super::parker::{Turn, Work};
use super::statistics::Statistics;
use super::watermark::Watermark;
use super::window::Window;
use super::{EmbeddedOptions, Tables};
use crate::batch::{Batch, Fence, Op};
use crate::engine::{CommitId, Completion, Durable, StoreError, Wake};
use crate::keys;
use crate::records::NumberRecord;
use crate::slots::{Epoch, Slot};

/// A batch on its way.
pub(super) struct Submission {
    pub(super) commit: CommitId,
    pub(super) batch: Batch,
    pub(super) fence: Fence,
    /// A slot's epoch, to be raised with this batch.
    pub(super) raise: Option<(Slot, Epoch)>,
    /// Failed commits that the port's owner knew of when it submitted this.
    pub(super) failures_seen: u64,
}

/// The committer's side of one port.
pub(super) struct Link {
    submissions: Consumer<Submission>,
    completions: Producer<Completion>,
    wake: Arc<dyn Wake>,
    failures: u64,
    last_error: Option<StoreError>,
    completed: bool,
}

impl Link {
    pub(super) fn new(
        submissions: Consumer<Submission>,
        completions: Producer<Completion>,
        wake: Arc<dyn Wake>,
    ) -> Self {
        Self { submissions, completions, wake, failures: 0, last_error: None, completed: false }
    }

    /// Why a batch must fail because one before it did. Its author decided on a state that is not in the store, unless
    /// it knew of the failure.
    fn follows_failure(&self, submission: &Submission) -> Option<StoreError> {
        if submission.failures_seen < self.failures { self.last_error.clone() } else { None }
    }

    fn complete(&mut self, commit: CommitId, result: Result<(), StoreError>) {
        let completion = match result {
            Ok(()) => Completion::Committed(Durable::new(commit)),
            Err(error) => {
                self.failures += 1;
                self.last_error = Some(error.clone());
                Completion::CommitFailed { commit, error }
            }
        };
        self.completed = true;
        // The port counts the room for every completion. An abandoned port is not told.
        let full = self.completions.push(completion).is_err();
        assert!(!full || self.completions.is_abandoned(), "a completion has a place reserved");
    }
}

/// See the module.
pub(super) struct Committer {
    tables: Tables,
    options: EmbeddedOptions,
    path: PathBuf,
    epochs: Vec<Epoch>,
    watermark: Watermark,
    /// The number of the newest group.
    groups: u64,
    statistics: Arc<Statistics>,
    links: Vec<Link>,
    window: Window,
    /// When the group that gathers got its first batch.
    opened: Option<Instant>,
    /// Set by the first failure of the medium; nothing is written after it.
    failed: Option<StoreError>,
}

impl Committer {
    pub(super) fn new(
        tables: Tables,
        options: EmbeddedOptions,
        path: &Path,
        epochs: Vec<Epoch>,
        (watermark, groups): (Watermark, u64),
        statistics: Arc<Statistics>,
    ) -> Self {
        let window = Window::new(options.ack_p99);
        Self {
            tables,
            options,
            path: path.to_owned(),
            epochs,
            watermark,
            groups,
            statistics,
            links: Vec::new(),
            window,
            opened: None,
            failed: None,
        }
    }

    /// How long the next group still gathers; `None` if it is to be written now, or there is none.
    fn gathers(&mut self) -> Option<Duration> {
        let length = self.window.length();
        if length.is_zero() || self.links.iter().all(|link| link.submissions.is_empty()) {
            return None;
        }
        let opened = *self.opened.get_or_insert_with(Instant::now);
        let left = length.saturating_sub(opened.elapsed());
        if left.is_zero() {
            self.opened = None;
        }
        (!left.is_zero()).then_some(left)
    }

    /// Takes what waits, up to a group: by link, in order.
    fn gather(&mut self) -> Vec<(usize, Submission)> {
        let mut group = Vec::new();
        let mut bytes = 0;
        for (index, link) in self.links.iter_mut().enumerate() {
            while bytes < self.options.group_bytes_max
                && let Ok(submission) = link.submissions.pop()
            {
                bytes += submission.batch.bytes();
                group.push((index, submission));
            }
        }
        group
    }

    /// Decides which of a group go into the store. A port's batches fail from the first failed one on.
    fn admit(&mut self, group: &[(usize, Submission)]) -> Vec<Result<(), StoreError>> {
        let full = self.failed.clone().or_else(|| self.full());
        let mut failed_now = vec![None; self.links.len()];
        let decide = |(index, submission): &(usize, Submission)| {
            let earlier =
                failed_now[*index].clone().or_else(|| self.links[*index].follows_failure(submission));
            let decision = match earlier.or_else(|| full.clone()) {
                Some(error) => Err(error),
                None => self.check_fence(&submission.fence),
            };
            if let Err(error) = &decision {
                failed_now[*index] = Some(error.clone());
            } else if let Some((slot, epoch)) = submission.raise {
                self.epochs[usize::from(slot.number())] = epoch;
            }
            decision
        };
        group.iter().map(decide).collect()
    }

    fn check_fence(&self, fence: &Fence) -> Result<(), StoreError> {
        let behind = |(slot, epoch): &&(Slot, Epoch)| *epoch < self.epochs[usize::from(slot.number())];
        match fence.epochs().iter().find(behind) {
            Some((slot, _)) => Err(StoreError::Fenced { slot: *slot }),
            None => Ok(()),
        }
    }

    /// A full disk is told before the journal is touched: a journal that could not be written to is beyond repair
    /// while the store is open.
    fn full(&self) -> Option<StoreError> {
        let space = rustix::fs::statvfs(&self.path).ok()?;
        (space.f_bavail * space.f_frsize < self.options.free_bytes_min).then_some(StoreError::Full)
    }

    fn write(&mut self, batches: &[&Batch]) -> Result<(), StoreError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let started = Instant::now();
        let ops = batches.iter().map(|batch| batch.len()).sum();
        if ops == 0 {
            return Ok(());
        }
        let mut write = fjall::OwnedWriteBatch::with_capacity(self.tables.database.clone(), ops + 1)
            .durability(Some(PersistMode::SyncData));
        for op in batches.iter().flat_map(|batch| batch.ops()) {
            match op {
                Op::Put(key, value) => write.insert(self.tables.of(key.as_ref()), key.as_ref(), &value[..]),
                Op::Delete(key) => write.remove(self.tables.of(key.as_ref()), key.as_ref()),
            }
        }
        let number = NumberRecord { number: self.groups + 1 };
        write.insert(&self.tables.rows, keys::meta("groups").as_ref(), number.encode_to_vec());
        let result = write.commit().map_err(|error| StoreError::Failed { reason: error.to_string() });
        match &result {
            Ok(()) => {
                self.groups += 1;
                self.watermark.set(self.groups);
            }
            Err(error) => self.failed = Some(error.clone()),
        }
        let bytes = batches.iter().map(|batch| batch.bytes()).sum();
        self.window.synced(started.elapsed());
        self.statistics.group(batches.len(), ops, bytes, started.elapsed());
        result
    }
}

impl Work<Link> for Committer {
    fn begin(&mut self) {
        (self.options.prepare_committer)();
    }

    fn link(&mut self, link: Link) {
        self.links.push(link);
    }

    fn turn(&mut self) -> Turn {
        if let Some(wait) = self.gathers() {
            return Turn::Later(wait);
        }
        let group = self.gather();
        if group.is_empty() {
            self.links.retain(|link| !link.submissions.is_abandoned());
            return Turn::Idle;
        }
        let mut decisions = self.admit(&group);
        let admitted = group.iter().zip(&decisions).filter(|(_, decision)| decision.is_ok());
        let batches: Vec<_> = admitted.map(|((_, submission), _)| &submission.batch).collect();
        if let Err(error) = self.write(&batches) {
            for decision in decisions.iter_mut().filter(|decision| decision.is_ok()) {
                *decision = Err(error.clone());
            }
        }
        for ((index, submission), decision) in group.into_iter().zip(decisions) {
            self.links[index].complete(submission.commit, decision);
        }
        for link in &mut self.links {
            if std::mem::take(&mut link.completed) {
                link.wake.wake();
            }
        }
        Turn::Worked
    }
}
