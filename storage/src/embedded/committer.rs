//! The one thread that makes batches durable: takes what all ports have submitted, appends it to the log as one group, syncs
//! once, completes all, and hands the group on to be brought into the tables.
//!
//! While a group is being synced the next one gathers, so groups grow with the load and with the disk's delay. Where a
//! latency is aimed at, what the disk leaves of it is spent on gathering longer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtrb::{Consumer, Producer};

use super::EmbeddedOptions;
use super::applier::{Backlog, Group};
use super::keeper::is_refusal;
use super::log::{AppendError, Log};
use super::parker::{Turn, Work};
use super::statistics::Statistics;
use super::watermark::Watermark;
use super::window::Window;
use crate::batch::{Batch, Fence};
use crate::engine::{CommitId, Completion, Durable, StoreError, Wake};
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
    log: Log,
    backlog: Arc<Backlog>,
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
        (log, backlog): (Log, Arc<Backlog>),
        options: EmbeddedOptions,
        path: &Path,
        epochs: Vec<Epoch>,
        (watermark, groups): (Watermark, u64),
        statistics: Arc<Statistics>,
    ) -> Self {
        let window = Window::new(options.ack_p99);
        Self {
            log,
            backlog,
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

    /// A full disk is told before anything is written, and while the tables have room to be flushed.
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
        let number = self.groups + 1;
        match self.log.append(number, batches) {
            Ok(()) => {}
            // Nothing was written: what the system refuses now, it may give later.
            Err(AppendError::NoSegment(error)) if is_no_room(&error) => return Err(StoreError::Full),
            Err(AppendError::NoSegment(error)) if is_refusal(&error) => {
                return Err(StoreError::Unreachable { reason: format!("a new segment of the log: {error}") });
            }
            Err(AppendError::NoSegment(error) | AppendError::Failed(error)) => {
                let failed = StoreError::Failed { reason: error.to_string() };
                self.failed = Some(failed.clone());
                return Err(failed);
            }
        }
        self.groups = number;
        self.watermark.set(number);
        self.backlog.committed(number);
        let bytes = batches.iter().map(|batch| batch.bytes()).sum();
        self.window.synced(started.elapsed());
        self.statistics.group(batches.len(), ops, bytes, started.elapsed());
        Ok(())
    }

    /// Hands what is durable to the tables.
    fn pass_on(&mut self, batches: Vec<Batch>) {
        let (segment, wants_spare) = (self.log.first_of_segment(), self.log.is_half_full());
        let group = Group { number: self.groups, batches, segment, wants_spare };
        if let Err(reason) = self.backlog.push(group) {
            self.failed.get_or_insert(StoreError::Failed { reason });
        }
    }
}

fn is_no_room(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

impl Work<Link> for Committer {
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
        let mut durable = Vec::new();
        for ((index, submission), decision) in group.into_iter().zip(decisions) {
            if decision.is_ok() && !submission.batch.is_empty() {
                durable.push(submission.batch);
            }
            self.links[index].complete(submission.commit, decision);
        }
        for link in &mut self.links {
            if std::mem::take(&mut link.completed) {
                link.wake.wake();
            }
        }
        if !durable.is_empty() {
            self.pass_on(durable);
        }
        Turn::Worked
    }
}
