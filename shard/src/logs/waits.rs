//! What the logs wait for from the store, and what they do when it has come, was undone, or can't be had.

use std::sync::Arc;

use bytes::Bytes;
use tern_storage::{Durable, LogId, Rows};
use tern_wire::ids::{Seq, UserId};

use crate::Cx;
use crate::entry::{Author, Entry};
use crate::message::{LogOp, Pull, Unreadable, Watermarks};
use crate::reply::{Origin, Reply, Undone};
use crate::shard::Shard;

/// What follows when a write of a log is durable; if it fails, the log is read again.
#[derive(Debug)]
pub(crate) enum After {
    /// Acknowledge an entry to its sender and push it to the members.
    Append(Origin, Arc<Entry>),
    /// Acknowledge an entry again, to a retry that came before the first was durable.
    Again(Origin, Arc<Entry>),
    /// Tell the members of a log that one of them has got further.
    Advance(LogId, Author, Watermarks),
    /// Answer an `Acknowledge` of a log.
    Acknowledged(Origin, LogId, Seq),
    /// Inbox marks of a log, of no interest to anybody else, were written.
    Marked(LogId),
    /// The mark that a pull needed was written: go on with it.
    Pull(LogId, Pull),
}

/// What a get of a log's is for. For a later load than the one of this number it is too old.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum GetFor {
    /// Its record.
    Record(LogId, u64),
    /// A member's record.
    Member(LogId, u64, UserId),
    /// The entry that the message at the head of the log's queue became, if it is a retry.
    ClientMessage(LogId, u64),
}

/// What a scan of a log's is for. See [`GetFor`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ScanFor {
    /// Its newest entries, backwards.
    Tail(LogId, u64),
    /// The highest client id of the device whose message waits at the head of the log's queue.
    HighestClientId(LogId, u64),
    /// Entries for the reader of this number.
    Entries(u64),
}

impl After {
    /// The log whose state in memory is ahead of the store until this happens.
    pub(crate) fn log(&self) -> LogId {
        match self {
            Self::Append(_, entry) | Self::Again(_, entry) => entry.log,
            Self::Advance(log, ..)
            | Self::Acknowledged(_, log, _)
            | Self::Marked(log)
            | Self::Pull(log, _) => *log,
        }
    }
}

impl Shard {
    pub(crate) fn log_written(&mut self, cx: &mut Cx, proof: &Durable, after: After) {
        let log = after.log();
        self.logs.settle(log);
        match after {
            After::Append(origin, entry) => self.appended(cx, proof, origin, entry),
            After::Again(origin, entry) => self.sent_again(cx, origin, &entry),
            After::Advance(log, by, marks) => self.advanced(cx, log, by, marks),
            After::Acknowledged(origin, log, position) => {
                self.reply(cx, origin, Reply::Acknowledged(log, position));
            }
            After::Pull(log, pull) => self.log_op(cx, log, LogOp::Pull(pull)),
            After::Marked(_) => {}
        }
        self.log_settled(cx, log);
    }

    pub(crate) fn log_undone(&mut self, cx: &mut Cx, after: After, undone: Undone) {
        let log = after.log();
        self.logs.settle(log);
        if let After::Append(origin, _) | After::Again(origin, _) | After::Acknowledged(origin, ..) = after {
            self.reply(cx, origin, undone.into());
        }
        self.doubt_log(cx, log, undone);
        if let After::Pull(_, pull) = after {
            // A store that takes nothing must still be read.
            self.log_op(cx, log, LogOp::Pull(Pull { writes_mark: false, ..pull }));
        }
    }

    pub(crate) fn log_got(
        &mut self,
        cx: &mut Cx,
        purpose: GetFor,
        result: Result<Option<Bytes>, Unreadable>,
    ) {
        match (purpose, result) {
            (GetFor::Record(log, load), Ok(value)) => self.log_record_read(cx, log, load, value),
            (GetFor::Member(log, load, user), Ok(value)) => self.member_read(cx, log, load, user, value),
            (GetFor::ClientMessage(log, load), Ok(value)) => self.client_message_read(cx, log, load, value),
            (GetFor::Record(log, load) | GetFor::Member(log, load, _), Err(why)) => {
                self.log_part_failed(cx, log, load, why);
            }
            (GetFor::ClientMessage(log, load), Err(why)) => self.send_undecided(cx, log, load, why),
        }
    }

    pub(crate) fn log_scanned(&mut self, cx: &mut Cx, purpose: ScanFor, result: Result<Rows, Unreadable>) {
        match (purpose, result) {
            (ScanFor::Tail(log, load), Ok(rows)) => self.tail_read(cx, log, load, rows),
            (ScanFor::Tail(log, load), Err(why)) => self.log_part_failed(cx, log, load, why),
            (ScanFor::HighestClientId(log, load), Ok(rows)) => self.highest_read(cx, log, load, &rows.rows),
            (ScanFor::HighestClientId(log, load), Err(why)) => self.send_undecided(cx, log, load, why),
            (ScanFor::Entries(reader), rows) => self.entries_read(cx, reader, rows),
        }
    }
}
