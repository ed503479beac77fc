//! What the logs wait for from the store, and what they do when it has come, was undone, or can't be had.

use std::sync::Arc;

use bytes::Bytes;
use tern_storage::{Durable, LogId, Rows, Slot};
use tern_wire::ids::{MediaId, Seq, UserId};

use super::agenda::Look;
use super::parting::{Piece, parted};
use super::read::Reader;
use super::words::WordsRead;
use super::{Cx, Logs};
use crate::entry::{Author, Entry};
use crate::held::Load;
use crate::media::cites::link_picture;
use crate::message::{LogOp, Pull, Unreadable, Watermarks};
use crate::reply::{Asker, Origin, Parting, Undone};

/// What follows when a write of a log is durable; if it fails, the log is read again.
#[derive(Debug)]
pub(crate) enum After {
    /// Acknowledge an entry to its sender and push it to the members.
    Append(Asker, Arc<Entry>),
    /// Acknowledge an entry again, to a retry that came before the first was durable.
    Again(Asker, Arc<Entry>),
    /// Answer an `Acknowledge`, and tell the members.
    Acknowledged(Acknowledged),
    /// Answer what was acknowledged in a group, and tell its members.
    Gathered(LogId, Vec<Acknowledged>),
    /// Inbox marks of a log, of no interest to anybody else, were written.
    Marked(LogId),
    /// What was asked rests on what was not durable: go on with it.
    Ask(LogId, Box<LogOp>),
    /// The time of an entry had come, and it is erased.
    Erased(LogId, Seq),
    /// The oldest entries are removed, so that it begins here, or erased where their places stay; and whether there may be more of them.
    Cut(LogId, Seq, Vec<Seq>, bool),
    /// The mark that a pull needed was written: go on with it.
    Pull(LogId, Box<Pull>),
    /// A piece of its full-text index was written, or cleaned; that it goes up to here goes with it.
    Words(LogId, u64),
    /// Something of it is due at this time, in ms since the Unix epoch.
    Due(LogId, u64),
    /// A piece of it is gone, for somebody has gone; and what is next.
    Parting(LogId, Parting, Piece),
}

/// A device has got further in a log.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    pub(super) origin: Origin,
    pub(super) log: LogId,
    pub(super) author: Author,
    /// The device has everything up to here, and knows what was read; `None`: it does not.
    pub(super) position: Option<Seq>,
    /// Its user's watermarks, if they have risen, and whether there is more that its other devices are to know as read.
    pub(super) advanced: Option<(Watermarks, bool)>,
    /// In a direct chat: how far the peer may know that it has got.
    pub(super) told: Watermarks,
}

/// What a get of a log's is for. For a later load than this one it is too old.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum GetFor {
    /// Its record.
    Record(LogId, Load),
    /// A member's record.
    Member(LogId, Load, UserId),
    /// The entry that the message at the head of the log's queue became, if it is a retry.
    ClientMessage(LogId, Load),
    /// An entry at this place, for the message at the head of the log's queue.
    Considered(LogId, Load, Seq),
    /// A medium that the message at the head of the log's queue is to have.
    Medium(LogId, Load, MediaId),
    /// An entry at a place of which something is due since this time.
    Due(LogId, Load, u64, Seq),
    /// Whether a medium is had as a group's picture, of which somebody wants a link.
    Picture(Origin, MediaId),
}

/// What a scan of a log's is for. See [`GetFor`].
#[derive(Debug)]
pub(crate) enum ScanFor {
    /// Its newest entries, backwards.
    Tail(LogId, Load),
    /// The members of a group, by rows.
    Members(LogId, Load),
    /// The highest client id of the device whose message waits at the head of the log's queue.
    HighestClientId(LogId, Load),
    /// Entries for somebody.
    Entries(Box<Reader>),
    /// What is due in a slot.
    Due(Slot, Look),
    /// What is due in the slot of this number, and in those behind it.
    AllDue(u16),
    /// Some logs, for the job that cuts them.
    Round,
    /// The oldest entry of a log, for the same.
    Oldest(LogId),
    /// The oldest entries of a log, to be cut off.
    Cut(LogId, Load),
    /// For a log's full-text index, or in it.
    Words((LogId, Load), WordsRead),
    /// A piece of a log that goes, for somebody has gone.
    Parting(LogId, Load, Parting, Piece),
}

impl After {
    /// The log whose state in memory is ahead of the store until this happens.
    pub(super) fn log(&self) -> LogId {
        match self {
            Self::Append(_, entry) | Self::Again(_, entry) => entry.log,
            Self::Acknowledged(acknowledged) => acknowledged.log,
            Self::Marked(log)
            | Self::Pull(log, _)
            | Self::Gathered(log, _)
            | Self::Ask(log, _)
            | Self::Erased(log, _)
            | Self::Words(log, _)
            | Self::Due(log, _)
            | Self::Parting(log, ..)
            | Self::Cut(log, ..) => *log,
        }
    }
}

impl Logs {
    /// A write is durable.
    pub(crate) fn written(&mut self, cx: &mut Cx, proof: &Durable, after: After) {
        let id = after.log();
        self.pinned(id).held.settle();
        match after {
            After::Append(origin, entry) => self.appended(cx, proof, origin, entry),
            After::Again(origin, entry) => self.sent_again(cx, origin, entry),
            After::Acknowledged(acknowledged) => self.acknowledged(cx, acknowledged),
            After::Pull(log, pull) => {
                if let Some(device) = self.pinned(log).device(pull.author) {
                    device.saved = true;
                }
                self.told(cx, log, LogOp::Pull(Box::new(Pull { flushed: true, ..*pull })));
            }
            After::Ask(log, op) => self.told(cx, log, *op),
            After::Gathered(log, acknowledged) => self.gathered(cx, log, acknowledged),
            After::Erased(log, seq) => self.erased(log, seq),
            After::Cut(log, first, erased, goes_on) => self.was_cut(cx, log, first, &erased, goes_on),
            After::Parting(log, parting, next) => self.part_gone(cx, log, parting, next),
            After::Due(log, at_ms) => self.agenda.note(Slot::of_log(log), at_ms),
            After::Words(log, upto) => self.words_written(cx, log, upto),
            After::Marked(_) => {}
        }
        self.settled(cx, id);
    }

    /// A write did not become durable.
    pub(crate) fn undone(&mut self, cx: &mut Cx, after: After, undone: Undone) {
        let id = after.log();
        self.pinned(id).held.settle();
        let again = match after {
            After::Append(origin, _) | After::Again(origin, _) => {
                cx.reply(origin, undone.into());
                None
            }
            After::Acknowledged(acknowledged) => {
                cx.reply(acknowledged.origin, undone.into());
                None
            }
            After::Gathered(_, all) => {
                for acknowledged in all {
                    cx.reply(acknowledged.origin, undone.into());
                }
                None
            }
            After::Parting(_, parting, _) => {
                parted(cx, parting, false);
                None
            }
            After::Marked(_) | After::Erased(..) | After::Cut(..) | After::Words(..) | After::Due(..) => None,
            After::Ask(_, op) => Some(op),
            // A store that takes nothing must still be read.
            After::Pull(_, pull) => {
                Some(Box::new(LogOp::Pull(Box::new(Pull { writes_mark: false, ..*pull }))))
            }
        };
        self.doubt(cx, id, undone);
        if let Some(op) = again {
            self.told(cx, id, *op);
        }
    }

    /// A get has ended.
    pub(crate) fn got(&mut self, cx: &mut Cx, purpose: GetFor, result: Result<Option<Bytes>, Unreadable>) {
        match (purpose, result) {
            (GetFor::Record(log, load), Ok(value)) => self.record_read(cx, log, load, value),
            (GetFor::Member(log, load, user), Ok(value)) => self.member_read(cx, log, load, user, value),
            (GetFor::ClientMessage(log, load), Ok(value)) => self.client_message_read(cx, log, load, value),
            (GetFor::Record(log, load) | GetFor::Member(log, load, _), Err(why)) => {
                self.part_failed(cx, log, load, why);
            }
            (GetFor::Considered(log, load, seq), Ok(value)) => {
                self.considered_read(cx, log, load, seq, value);
            }
            (GetFor::Due(log, load, at_ms, seq), value) => {
                self.due_entry_read(cx, (log, load), at_ms, seq, value);
            }
            (GetFor::Picture(origin, medium), row) => link_picture(cx, origin, medium, row),
            (GetFor::Medium(log, load, medium), Ok(value)) => {
                self.medium_read(cx, (log, load), medium, value);
            }
            (
                GetFor::ClientMessage(log, load)
                | GetFor::Considered(log, load, _)
                | GetFor::Medium(log, load, _),
                Err(why),
            ) => {
                self.send_undecided(cx, log, load, why);
            }
        }
    }

    /// A scan has ended.
    pub(crate) fn scanned(&mut self, cx: &mut Cx, purpose: ScanFor, result: Result<Rows, Unreadable>) {
        match (purpose, result) {
            (ScanFor::Tail(log, load), Ok(rows)) => self.tail_read(cx, log, load, rows),
            (ScanFor::Members(log, load), Ok(rows)) => self.members_read(cx, log, load, rows.rows),
            (ScanFor::Tail(log, load) | ScanFor::Members(log, load), Err(why)) => {
                self.part_failed(cx, log, load, why);
            }
            (ScanFor::HighestClientId(log, load), Ok(rows)) => self.highest_read(cx, log, load, &rows.rows),
            (ScanFor::HighestClientId(log, load), Err(why)) => self.send_undecided(cx, log, load, why),
            (ScanFor::Round, rows) => self.round_read(cx, rows),
            (ScanFor::Oldest(log), rows) => self.oldest_read(cx, log, rows),
            (ScanFor::Cut(log, load), rows) => self.cut_read(cx, log, load, rows),
            (ScanFor::AllDue(from), rows) => self.table_read(cx, from, rows),
            (ScanFor::Due(slot, look), rows) => self.due_read(cx, slot, look, rows),
            (ScanFor::Entries(reader), rows) => self.entries_read(cx, *reader, rows),
            (ScanFor::Parting(log, load, parting, piece), rows) => {
                self.parting_read(cx, (log, load), parting, piece, rows);
            }
            (ScanFor::Words(log, read), rows) => self.words_read(cx, log, read, rows),
        }
    }
}
