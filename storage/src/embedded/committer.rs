//! What makes batches durable: takes what all ports have submitted, appends it to the log as one group, syncs once, completes
//! all, and hands the group on to be brought into the tables.
//!
//! While a group is being synced the next one gathers, so groups grow with the load and with the disk's delay. Where a
//! latency is aimed at, what the disk leaves of it is spent on gathering longer. It goes in three steps, which its thread
//! does one after the other, and a simulation when it likes: [`Committer::take`], [`Committer::write`],
//! [`Committer::complete`]. It has no clock.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::applier::{Backlog, Group};
use super::keeper::is_refusal;
use super::log::{AppendError, Log};
use super::options::EmbeddedOptions;
use super::statistics::Statistics;
use super::watermark::Watermark;
use crate::batch::{Batch, Fence};
use crate::commits::{Link, Submission};
use crate::engine::StoreError;
use crate::lanes::Lane;
use crate::medium::Medium;
use crate::mutations::{self, Mutation};
use crate::slots::{Epoch, Slot};
use crate::window::Window;

/// See the module.
pub(super) struct Committer<M: Medium> {
    medium: M,
    log: Log<M>,
    backlog: Arc<Backlog>,
    options: EmbeddedOptions,
    path: PathBuf,
    epochs: Vec<Epoch>,
    watermark: Watermark<M::File>,
    /// The number of the newest group.
    groups: u64,
    statistics: Arc<Statistics>,
    links: Vec<Link>,
    window: Window,
    /// When the group that gathers got its first batch.
    opened: Option<Duration>,
    /// The group that is being made durable.
    under_way: Option<UnderWay>,
    /// Set by the first failure of the medium; nothing is written after it.
    failed: Option<StoreError>,
    /// What the time was when the newest group was taken.
    now: Duration,
    /// When the disk was last found to have room.
    had_room: Option<Duration>,
}

/// How long a disk that had room is taken to have it: to ask costs as much as a small write.
const HAS_ROOM_FOR: Duration = Duration::from_millis(10);

/// A group from its taking to its completion.
struct UnderWay {
    /// What it is made of, by link.
    submissions: Vec<(usize, Submission)>,
    /// What became of each, once that is known.
    decisions: Vec<Result<(), StoreError>>,
}

/// What came of [`Committer::take`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taking {
    /// There is a group to be written.
    Taken,
    /// It gathers for this long.
    Later(Duration),
    /// No batch waits.
    Nothing,
}

impl<M: Medium> Committer<M> {
    pub(super) fn new(
        (medium, path): (M, &Path),
        (log, backlog): (Log<M>, Arc<Backlog>),
        options: EmbeddedOptions,
        epochs: Vec<Epoch>,
        (watermark, groups): (Watermark<M::File>, u64),
        statistics: Arc<Statistics>,
    ) -> Self {
        let window = Window::new(options.ack_p99);
        Self {
            medium,
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
            under_way: None,
            failed: None,
            now: Duration::ZERO,
            had_room: None,
        }
    }

    /// Serves a new port.
    pub(super) fn link(&mut self, link: Link) {
        self.links.push(link);
    }

    /// Nothing is written any more.
    pub(super) fn fail(&mut self, reason: String) {
        self.failed.get_or_insert(StoreError::Failed { reason });
    }

    /// Takes what waits as a group, unless it is to gather for longer. None may be under way.
    pub(super) fn take(&mut self, now: Duration) -> Taking {
        assert!(self.under_way.is_none(), "a group is completed before the next one is taken");
        self.now = now;
        if let Some(wait) = self.gathers(now) {
            return Taking::Later(wait);
        }
        let submissions = self.gather();
        if submissions.is_empty() {
            self.links.retain(|link| !link.is_abandoned());
            return Taking::Nothing;
        }
        self.under_way = Some(UnderWay { submissions, decisions: Vec::new() });
        Taking::Taken
    }

    /// Decides what of the group goes into the store, and makes that durable.
    pub(super) fn write(&mut self) {
        let mut group = self.under_way.take().expect("a group was taken");
        group.decisions = self.admit(&group.submissions);
        let admitted = group.submissions.iter().zip(&group.decisions);
        let batches: Vec<_> = admitted
            .filter(|(_, decision)| decision.is_ok())
            .map(|((_, submission), _)| &submission.batch)
            .collect();
        if let Err(error) = self.append(&batches) {
            for decision in group.decisions.iter_mut().filter(|decision| decision.is_ok()) {
                *decision = Err(error.clone());
            }
        }
        self.under_way = Some(group);
    }

    /// Tells the ports of a group that was written in `took`, and hands what is durable to the tables.
    pub(super) fn complete(&mut self, took: Duration) {
        let UnderWay { submissions, decisions } = self.under_way.take().expect("a group was written");
        let admitted = submissions.iter().zip(&decisions).filter(|(_, decision)| decision.is_ok());
        let admitted = admitted.map(|((_, submission), _)| &submission.batch);
        if admitted.clone().any(|batch| !batch.is_empty()) {
            self.window.synced(took);
            self.statistics.group(admitted, took);
        }
        let mut durable = Vec::new();
        for ((index, submission), decision) in submissions.into_iter().zip(decisions) {
            if decision.is_ok() && !submission.batch.is_empty() {
                durable.push(submission.batch);
            }
            self.links[index].complete(submission.lane, submission.commit, decision);
        }
        for link in &mut self.links {
            link.wake();
        }
        if !durable.is_empty() {
            self.pass_on(durable);
        }
    }

    /// How long the next group still gathers; `None` if it is to be written now, or there is none.
    fn gathers(&mut self, now: Duration) -> Option<Duration> {
        let length = self.window.length();
        if length.is_zero() || self.links.iter().all(Link::is_empty) {
            return None;
        }
        let opened = *self.opened.get_or_insert(now);
        let left = length.saturating_sub(now.saturating_sub(opened));
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
                && let Some(submission) = link.take()
            {
                bytes += submission.batch.bytes();
                group.push((index, submission));
            }
        }
        if mutations::is(Mutation::ReorderLane) {
            reorder(&mut group);
        }
        group
    }

    /// Decides which of a group go into the store. The batches of a port's lane fail from the first failed one on.
    fn admit(&mut self, group: &[(usize, Submission)]) -> Vec<Result<(), StoreError>> {
        let full = self.failed.clone().or_else(|| self.full());
        // Empty but for the rare group with a failure: few lanes are looked through.
        let mut failed_now: Vec<(usize, Lane, StoreError)> = Vec::new();
        let decide = |(index, submission): &(usize, Submission)| {
            let same =
                |(port, lane, _): &&(usize, Lane, StoreError)| (*port, *lane) == (*index, submission.lane);
            let earlier = failed_now.iter().find(same).map(|(.., error)| error.clone());
            let earlier = earlier.or_else(|| self.links[*index].follows_failure(submission));
            let decision = match earlier.or_else(|| full.clone()) {
                Some(error) => Err(error),
                None => self.check_fence(&submission.fence),
            };
            if let Err(error) = &decision {
                failed_now.push((*index, submission.lane, error.clone()));
            } else if let Some((slot, epoch)) = submission.raise {
                self.epochs[usize::from(slot.number())] = epoch;
            }
            decision
        };
        group.iter().map(decide).collect()
    }

    fn check_fence(&self, fence: &Fence) -> Result<(), StoreError> {
        let behind = |(slot, epoch): &&(Slot, Epoch)| *epoch < self.epochs[usize::from(slot.number())];
        match fence.epochs().iter().find(behind).filter(|_| !mutations::is(Mutation::SkipFence)) {
            Some((slot, _)) => Err(StoreError::Fenced { slot: *slot }),
            None => Ok(()),
        }
    }

    /// A full disk is told before anything is written, and while the tables have room to be flushed.
    fn full(&mut self) -> Option<StoreError> {
        if self.had_room.is_some_and(|then| self.now.saturating_sub(then) < HAS_ROOM_FOR) {
            return None;
        }
        let free_bytes = self.medium.free_bytes(&self.path).ok()?;
        let is_full = free_bytes < self.options.free_bytes_min;
        self.had_room = (!is_full).then_some(self.now);
        is_full.then_some(StoreError::Full)
    }

    fn append(&mut self, batches: &[&Batch]) -> Result<(), StoreError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if batches.iter().all(|batch| batch.is_empty()) {
            return Ok(());
        }
        let number = self.groups + 1;
        if mutations::is(Mutation::AcknowledgeBeforeSync) {
            self.watermark.set(number);
        }
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
        Ok(())
    }

    fn pass_on(&mut self, batches: Vec<Batch>) {
        let (segment, wants_spare) = (self.log.first_of_segment(), self.log.is_half_full());
        self.backlog.push(Group { number: self.groups, batches, segment, wants_spare });
    }
}

/// For [`Mutation::ReorderLane`]: the last two batches of a lane change places.
fn reorder(group: &mut [(usize, Submission)]) {
    let Some(((port, last), before)) = group.split_last_mut() else { return };
    let same =
        |(other, submission): &&mut (usize, Submission)| (*other, submission.lane) == (*port, last.lane);
    if let Some((_, before)) = before.iter_mut().rev().find(same) {
        std::mem::swap(&mut before.batch, &mut last.batch);
    }
}

fn is_no_room(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}
