//! The core's open batch, and what follows when it is durable.
//!
//! Whatever the brain writes in one turn becomes one batch. Nothing that depends on it leaves before its
//! [`tern_storage::engine::Durable`] proof: it waits as an [`After`] beside the batch.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tern_storage::{Batch, Busy, CommitId, Epoch, Fence, Key, LogId, SLOTS, Slot};
use tern_wire::ids::{DeviceId, Phone, Seq, UserId};

use crate::accounts::phones::Delivery;
use crate::admin::AdminResponse;
use crate::effects::Effects;
use crate::entry::{Author, Entry};
use crate::limits::BATCH_ANSWERS_MAX;
use crate::message::{Pull, Watermarks};
use crate::reply::{Origin, Reply};

/// What is done when a batch is durable; if it fails, the state that it came from is read again.
#[derive(Debug)]
pub enum After {
    /// Acknowledge an entry to its sender and push it to the members.
    Append(Origin, Arc<Entry>),
    /// Acknowledge an entry again, to a retry that came before the first was durable.
    Again(Origin, Arc<Entry>),
    /// Tell the members of a log that one of them has got further.
    Advance(LogId, Author, Watermarks),
    /// Answer an `Acknowledge` of a log.
    Acknowledged(Origin, LogId, Author, Seq),
    /// Deliver a one-time code, and say that it was.
    Deliver(Box<Delivery>),
    /// Answer a request about a phone or its user.
    Account(Origin, Phone, Option<UserId>, Reply),
    /// Answer a request about a user.
    User(Origin, UserId, Reply),
    /// The devices of a user have changed.
    Devices(UserId),
    /// A device was added to a user.
    Joined(UserId, DeviceId),
    /// A user has another name.
    Renamed(UserId),
    /// A user is deleted.
    Deleted(UserId),
    /// Answer an operator's question about a phone.
    Answer(u64, Phone, Option<UserId>, AdminResponse),
    /// A record of a user, of no interest to anybody else, was written.
    Noted(UserId),
    /// Inbox marks of a log, of no interest to anybody else, were written.
    Marked(LogId),
    /// The mark that a pull needed was written: go on with it.
    Pull(LogId, Pull),
}

impl After {
    /// The log whose state in memory is ahead of the store until this happens.
    pub fn log(&self) -> Option<LogId> {
        match self {
            Self::Append(_, entry) | Self::Again(_, entry) => Some(entry.log),
            Self::Advance(log, ..)
            | Self::Acknowledged(_, log, ..)
            | Self::Marked(log)
            | Self::Pull(log, _) => Some(*log),
            Self::Deliver(..)
            | Self::Account(..)
            | Self::User(..)
            | Self::Devices(_)
            | Self::Joined(..)
            | Self::Renamed(_)
            | Self::Deleted(_)
            | Self::Answer(..)
            | Self::Noted(_) => None,
        }
    }

    /// The user whose state in memory is ahead of the store until this happens.
    pub fn user(&self) -> Option<UserId> {
        match self {
            Self::Account(_, _, user, _) | Self::Answer(_, _, user, _) => *user,
            Self::User(_, user, _)
            | Self::Devices(user)
            | Self::Joined(user, _)
            | Self::Renamed(user)
            | Self::Deleted(user)
            | Self::Noted(user) => Some(*user),
            Self::Append(..)
            | Self::Again(..)
            | Self::Advance(..)
            | Self::Acknowledged(..)
            | Self::Marked(_)
            | Self::Pull(..)
            | Self::Deliver(..) => None,
        }
    }

    /// The phone whose state in memory is ahead of the store until this happens.
    pub fn phone(&self) -> Option<&Phone> {
        match self {
            Self::Deliver(delivery) => Some(&delivery.phone),
            Self::Account(_, phone, ..) | Self::Answer(_, phone, ..) => Some(phone),
            Self::Append(..)
            | Self::Again(..)
            | Self::Advance(..)
            | Self::Acknowledged(..)
            | Self::Marked(_)
            | Self::Pull(..)
            | Self::User(..)
            | Self::Devices(_)
            | Self::Joined(..)
            | Self::Renamed(_)
            | Self::Deleted(_)
            | Self::Noted(_) => None,
        }
    }
}

/// The open batch and those under way.
#[derive(Debug)]
pub struct Commits {
    open: Batch,
    then: Vec<After>,
    in_flight: VecDeque<(CommitId, Vec<After>)>,
    /// The epochs in which this core owns its slots.
    epochs: Box<[Epoch]>,
    /// The slots that the open batch touches: a bit each, and a list of them.
    is_touched: Box<[u64]>,
    touched: Vec<Slot>,
}

/// Nothing open; every slot in its first epoch.
impl Default for Commits {
    fn default() -> Self {
        Self {
            open: Batch::default(),
            then: Vec::new(),
            in_flight: VecDeque::new(),
            epochs: vec![Epoch::default(); usize::from(SLOTS)].into(),
            is_touched: vec![0; usize::from(SLOTS) / 64].into(),
            touched: Vec::new(),
        }
    }
}

impl Commits {
    /// Writes a record.
    pub fn put(&mut self, key: Key, record: &impl Message) {
        self.put_bytes(key, record.encode_to_vec().into());
    }

    /// Writes a value.
    pub fn put_bytes(&mut self, key: Key, value: Bytes) {
        self.touch(&key);
        self.open.put(key, value);
    }

    /// Removes a key.
    pub fn delete(&mut self, key: Key) {
        self.touch(&key);
        self.open.delete(key);
    }

    /// Has `after` happen when what was written so far is durable.
    pub fn then(&mut self, after: After) {
        self.then.push(after);
    }

    /// Whether a request may write so many bytes: the store may be busy, and the batch stay open. `bytes_max` bounds it but for
    /// what follows from requests that were taken.
    pub fn has_room(&self, bytes: usize, bytes_max: usize) -> bool {
        self.open.bytes() + bytes <= bytes_max && self.then.len() < BATCH_ANSWERS_MAX
    }

    /// Commits that the store has not completed.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether nothing waits for the store.
    pub fn is_quiet(&self) -> bool {
        self.open.is_empty() && self.then.is_empty() && self.in_flight.is_empty()
    }

    /// Submits the open batch. If the store is busy it stays open, and grows no further than its bound.
    pub fn submit(&mut self, fx: &mut dyn Effects) {
        if self.open.is_empty() && self.then.is_empty() {
            return;
        }
        match fx.submit(std::mem::take(&mut self.open), self.fence()) {
            Ok(commit) => {
                self.in_flight.push_back((commit, std::mem::take(&mut self.then)));
                self.untouch();
            }
            Err(Busy((batch, _))) => self.open = batch,
        }
    }

    /// What follows the oldest commit, which has ended.
    ///
    /// # Panics
    /// If the store completes commits out of order.
    pub fn ended(&mut self, commit: CommitId) -> Vec<After> {
        let (oldest, then) = self.in_flight.pop_front().expect("the store completes only what was submitted");
        assert_eq!(oldest, commit, "a port's commits complete in the order of their submission");
        then
    }

    /// Discards the open batch: it was decided on a state that did not become durable.
    pub fn discard_open(&mut self) -> Vec<After> {
        self.open = Batch::default();
        self.untouch();
        std::mem::take(&mut self.then)
    }

    fn touch(&mut self, key: &Key) {
        if let Some(slot) = key.slot() {
            let (word, bit) = (usize::from(slot.number() / 64), 1 << (slot.number() % 64));
            if self.is_touched[word] & bit == 0 {
                self.is_touched[word] |= bit;
                self.touched.push(slot);
            }
        }
    }

    fn untouch(&mut self) {
        for slot in self.touched.drain(..) {
            self.is_touched[usize::from(slot.number() / 64)] = 0;
        }
    }

    fn fence(&self) -> Fence {
        self.touched.iter().map(|slot| (*slot, self.epochs[usize::from(slot.number())])).collect()
    }
}
