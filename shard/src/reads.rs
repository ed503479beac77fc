//! Reads under way: what each is for, and those that the store had no room for yet.

use std::collections::VecDeque;

use tern_storage::{Busy, Direction, Key, KeyRange, LogId, ReadId, ScanLimit};
use tern_wire::ids::{Phone, UserId};

use crate::effects::Effects;
use crate::limits::READS_WAITING_MAX;
use crate::maps::{Hashing, Map};
use crate::reply::ConnId;

/// What a read is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadFor {
    /// A part of a log's state, for the load of this number: for a later one it is too old.
    Log(LogId, u64, LogPart),
    /// A user's record.
    User(UserId),
    /// A user's devices.
    Devices(UserId),
    /// A phone's record.
    Phone(Phone),
    /// A user's logs, whose other members are told that the user is not as before.
    Peers(UserId),
    /// What the logs of a user have reserved.
    Reserved(UserId),
    /// Whether anybody has, or has had, the id that a new user would get.
    NewUser(UserId),
    /// A step of a device's inbox, for a connection.
    Inbox(ConnId),
    /// The logs of this page of chats, for a connection.
    Chats(ConnId, u64),
}

/// See [`ReadFor::Log`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogPart {
    /// Its record.
    Record,
    /// Its newest entries, backwards.
    Tail,
    /// A member's record.
    Member(UserId),
    /// The highest client id of the device whose message waits at the head of the log's queue.
    HighestClientId,
    /// The entry that the message at the head of the log's queue became, if it is a retry.
    ClientMessage,
    /// Entries for the reader of this number.
    Entries(u64),
}

#[derive(Debug)]
enum Ask {
    Get(Key),
    Scan(KeyRange, Direction, ScanLimit),
}

/// The reads of a core.
#[derive(Debug)]
pub struct Reads {
    under_way: Map<ReadId, ReadFor>,
    waiting: VecDeque<(Ask, ReadFor)>,
}

impl Reads {
    /// None.
    pub fn new(hashing: Hashing) -> Self {
        Self { under_way: Map::with_hasher(hashing), waiting: VecDeque::new() }
    }

    /// Reads one key.
    pub fn get(&mut self, fx: &mut dyn Effects, key: Key, purpose: ReadFor) {
        self.ask(fx, Ask::Get(key), purpose);
    }

    /// Reads a range.
    pub fn scan(
        &mut self,
        fx: &mut dyn Effects,
        range: KeyRange,
        direction: Direction,
        limit: ScanLimit,
        purpose: ReadFor,
    ) {
        self.ask(fx, Ask::Scan(range, direction, limit), purpose);
    }

    /// Whether a request may ask for something. What follows from requests that were taken is read in any case: it is a few
    /// reads for each of them.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < READS_WAITING_MAX
    }

    /// What the read that has ended was for.
    ///
    /// # Panics
    /// If the store completes a read that was never asked for.
    pub fn ended(&mut self, read: ReadId) -> ReadFor {
        self.under_way.remove(&read).expect("the store completes only what was asked for")
    }

    /// Asks again for what the store had no room for.
    pub fn retry(&mut self, fx: &mut dyn Effects) {
        while let Some((ask, purpose)) = self.waiting.pop_front() {
            if let Err(ask) = self.try_ask(fx, ask, &purpose) {
                self.waiting.push_front((ask, purpose));
                return;
            }
        }
    }

    fn ask(&mut self, fx: &mut dyn Effects, ask: Ask, purpose: ReadFor) {
        if !self.waiting.is_empty() {
            self.waiting.push_back((ask, purpose));
        } else if let Err(ask) = self.try_ask(fx, ask, &purpose) {
            self.waiting.push_back((ask, purpose));
        }
    }

    fn try_ask(&mut self, fx: &mut dyn Effects, ask: Ask, purpose: &ReadFor) -> Result<(), Ask> {
        let asked = match ask {
            Ask::Get(key) => fx.get(key).map_err(|Busy(key)| Ask::Get(key)),
            Ask::Scan(range, direction, limit) => {
                fx.scan(range, direction, limit).map_err(|Busy(range)| Ask::Scan(range, direction, limit))
            }
        };
        self.under_way.insert(asked?, purpose.clone());
        Ok(())
    }
}
