//! What survives a restart, behind one small trait: reads, changes, and the end of a transaction.
//!
//! Whoever holds the tables decides nothing. What an entry does to a log's position, what a message in doubt becomes, whose a phone
//! is: that is `records`, which is the same over SQLite ([`crate::store::Store`]) and over plain memory
//! ([`super::Memory`]).

use tern_search::{Needed, Term};

use super::rows::{DeviceRow, EntryRow, GoneRow, KeyRow, LogState, Outgoing, Person};
use crate::client::Sent;
use crate::error::Error;

/// How many keys of messages are remembered, beside those of messages that are not sent.
pub const KEYS_MAX: u64 = 1 << 16;

/// Where something stands among all chats: its time, in ms since the Unix epoch, its chat and its seq. The greatest is the newest.
pub type Moment = (u64, u64, u64);

/// Which logs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// All behind this peer, or from the first: by peer.
    All(Option<u64>),
    /// The server does not know all that this device may say.
    Unacknowledged,
    /// The server should know more than it does by itself: there are own messages that have not been read yet, or this device
    /// has more than it has acknowledged. Those where it has more come first, then those with the newest own messages.
    ToResume,
    /// The peer's watermarks are known.
    Marked,
    /// The application has not dealt with everything.
    Untold,
    /// Something is missing before what came.
    Gaps,
}

impl Which {
    /// Whether this log is one of them.
    pub fn matches(self, log: &LogState) -> bool {
        match self {
            Self::All(after) => after.is_none_or(|after| log.chat > after),
            Self::Unacknowledged => log.position.min(log.told) > log.acked || log.read_upto > log.read_acked,
            Self::ToResume => log.last_own > log.others_read || log.position > log.acked,
            Self::Marked => log.others_delivered > 0,
            Self::Untold => log.position > log.told,
            Self::Gaps => log.top > log.position,
        }
    }
}

/// One change. Those until [`Tables::commit`] happen together or not at all.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// The device's own row becomes this.
    Device(&'a DeviceRow),
    /// A generation of the server's store is remembered, unless it is already.
    Generation(u64),
    /// All generations are forgotten but this one. `None`: all.
    ForgetGenerations(Option<u64>),
    /// A log becomes this.
    Log(LogState),
    /// In all logs nobody's watermarks are known any more: neither what this device has acknowledged, nor the peer's.
    ForgetMarks,
    /// An entry is kept, at a place where none is.
    Entry(u64, &'a EntryRow),
    /// What stands at a place is deleted for everyone: its body goes, and those of its edits.
    Erase {
        /// The chat.
        chat: u64,
        /// The place.
        seq: u64,
    },
    /// What ends by this time, in ms since the Unix epoch, is erased: its body goes.
    End(u64),
    /// Of what has this key in the private log, the entry at this place counts.
    Private(&'a str, u64),
    /// The message at a place, which was not found, is found by these terms: at least one, distinct and sorted.
    Found {
        /// The chat.
        chat: u64,
        /// The place.
        seq: u64,
        /// When the server committed it.
        time_ms: u64,
        /// By what.
        terms: &'a [Term],
    },
    /// The message at a place, which was found by these terms and no others, is not found any more.
    NotFound {
        /// The chat.
        chat: u64,
        /// The place.
        seq: u64,
        /// By what it was found.
        terms: &'a [Term],
    },
    /// Entries of a chat beyond `above` are in doubt. The application has seen those up to `told`, and those that it had seen before.
    Doubt {
        /// The chat.
        chat: u64,
        /// The last that is not in doubt.
        above: u64,
        /// Up to where the application knows them.
        told: u64,
    },
    /// The record of an entry in doubt or gone is dropped: the entry is there.
    NotGone(u64),
    /// What is in doubt is gone for good.
    GoneForGood,
    /// The application has seen what stands or stood at a place since this time, be it there, in doubt or gone.
    Seen {
        /// The chat.
        chat: u64,
        /// The place.
        seq: u64,
        /// When the server committed it.
        time_ms: u64,
    },
    /// The application knows of what is gone for good, up to this id.
    GoneTold(u64),
    /// What is known of a person becomes this.
    Person(&'a Person),
    /// A message is kept until it is sent.
    Outgoing(&'a Outgoing),
    /// It need not be kept any more.
    Done(u64),
    /// A new key. Beyond [`KEYS_MAX`] the oldest are forgotten, if their messages are sent.
    Key(&'a KeyRow),
    /// The message of a number is sent: if it has a key, that is remembered with it.
    KeySent(u64, Sent),
    /// The key of the message with this number is forgotten.
    ForgetKey(u64),
}

/// See the module. A read sees the changes made before it, committed or not.
pub trait Tables {
    /// The device's own row, if the profile is registered.
    fn device(&self) -> Result<Option<DeviceRow>, Error>;

    /// The generations, in the order in which they were remembered.
    fn generations(&self) -> Result<Vec<u64>, Error>;

    /// The log with a person.
    fn log(&self, chat: u64) -> Result<Option<LogState>, Error>;

    /// Logs, at most `limit`.
    fn logs(&self, which: Which, limit: u32) -> Result<Vec<LogState>, Error>;

    /// The entry at a place.
    fn entry(&self, chat: u64, seq: u64) -> Result<Option<EntryRow>, Error>;

    /// Entries after a seq and up to another, rising: at most `limit`.
    fn entries(&self, chat: u64, after: u64, upto: u64, limit: u32) -> Result<Vec<EntryRow>, Error>;

    /// Up to where entries follow on a seq without a gap.
    fn joined(&self, chat: u64, after: u64) -> Result<u64, Error>;

    /// The first entry after a seq that the application has not seen before the server was put back.
    fn first_unseen(&self, chat: u64, after: u64) -> Result<Option<u64>, Error>;

    /// Whether an entry of a chat is by the peer.
    fn has_written(&self, chat: u64) -> Result<bool, Error>;

    /// Whether an entry of a chat says that the one at this place is deleted for everyone, or replaces it.
    fn is_deleted(&self, chat: u64, seq: u64) -> Result<bool, Error>;

    /// The newest edit of the message at a place that is not erased.
    fn newest_edit(&self, chat: u64, seq: u64) -> Result<Option<EntryRow>, Error>;

    /// The messages that are found by all of this, the newest first: of one chat or of all, before a moment, at most `limit`.
    fn places(
        &self,
        needed: &[Needed],
        chat: Option<u64>,
        before: Option<Moment>,
        limit: u32,
    ) -> Result<Vec<Moment>, Error>;

    /// When the next entry ends, in ms since the Unix epoch; `None`: none does.
    fn next_end(&self) -> Result<Option<u64>, Error>;

    /// The entries that end by this time, in ms since the Unix epoch, and are not erased, each with its chat.
    fn ending(&self, by_ms: u64) -> Result<Vec<(u64, EntryRow)>, Error>;

    /// The place in the private log of what counts of a key.
    fn private_seq(&self, key: &str) -> Result<Option<u64>, Error>;

    /// Entries in doubt or gone that are the same as this one.
    fn gone_like(&self, chat: u64, entry: &EntryRow) -> Result<Vec<GoneRow>, Error>;

    /// What is gone for good and the application does not know of, after an id, rising by it: at most `limit`.
    fn gone_untold(&self, after: u64, limit: u32) -> Result<Vec<GoneRow>, Error>;

    /// Whether anything is in doubt.
    fn is_in_doubt(&self) -> Result<bool, Error>;

    /// A person by id.
    fn person(&self, user_id: u64) -> Result<Option<Person>, Error>;

    /// A person by phone.
    fn person_by_phone(&self, phone: &str) -> Result<Option<Person>, Error>;

    /// A message that is not sent yet.
    fn outgoing(&self, client_id: u64) -> Result<Option<Outgoing>, Error>;

    /// The numbers of all messages that are not sent yet, rising, and to whom they are.
    fn outbox(&self) -> Result<Vec<(u64, u64)>, Error>;

    /// What is remembered under a key.
    fn key(&self, key: &str) -> Result<Option<KeyRow>, Error>;

    /// Makes a change. After an error the rest of the transaction can only be rolled back.
    fn change(&mut self, change: Change<'_>) -> Result<(), Error>;

    /// Makes durable what was changed since the last commit. After an error nothing of it has happened.
    fn commit(&mut self) -> Result<(), Error>;

    /// Undoes what was changed since the last commit.
    fn roll_back(&mut self);
}

/// Tables that somebody holds.
impl<H> Tables for H
where
    H: std::ops::DerefMut,
    H::Target: Tables,
{
    fn device(&self) -> Result<Option<DeviceRow>, Error> {
        (**self).device()
    }

    fn generations(&self) -> Result<Vec<u64>, Error> {
        (**self).generations()
    }

    fn log(&self, chat: u64) -> Result<Option<LogState>, Error> {
        (**self).log(chat)
    }

    fn logs(&self, which: Which, limit: u32) -> Result<Vec<LogState>, Error> {
        (**self).logs(which, limit)
    }

    fn entry(&self, chat: u64, seq: u64) -> Result<Option<EntryRow>, Error> {
        (**self).entry(chat, seq)
    }

    fn entries(&self, chat: u64, after: u64, upto: u64, limit: u32) -> Result<Vec<EntryRow>, Error> {
        (**self).entries(chat, after, upto, limit)
    }

    fn joined(&self, chat: u64, after: u64) -> Result<u64, Error> {
        (**self).joined(chat, after)
    }

    fn first_unseen(&self, chat: u64, after: u64) -> Result<Option<u64>, Error> {
        (**self).first_unseen(chat, after)
    }

    fn has_written(&self, chat: u64) -> Result<bool, Error> {
        (**self).has_written(chat)
    }

    fn is_deleted(&self, chat: u64, seq: u64) -> Result<bool, Error> {
        (**self).is_deleted(chat, seq)
    }

    fn newest_edit(&self, chat: u64, seq: u64) -> Result<Option<EntryRow>, Error> {
        (**self).newest_edit(chat, seq)
    }

    fn places(
        &self,
        needed: &[Needed],
        chat: Option<u64>,
        before: Option<Moment>,
        limit: u32,
    ) -> Result<Vec<Moment>, Error> {
        (**self).places(needed, chat, before, limit)
    }

    fn next_end(&self) -> Result<Option<u64>, Error> {
        (**self).next_end()
    }

    fn ending(&self, by_ms: u64) -> Result<Vec<(u64, EntryRow)>, Error> {
        (**self).ending(by_ms)
    }

    fn private_seq(&self, key: &str) -> Result<Option<u64>, Error> {
        (**self).private_seq(key)
    }

    fn gone_like(&self, chat: u64, entry: &EntryRow) -> Result<Vec<GoneRow>, Error> {
        (**self).gone_like(chat, entry)
    }

    fn gone_untold(&self, after: u64, limit: u32) -> Result<Vec<GoneRow>, Error> {
        (**self).gone_untold(after, limit)
    }

    fn is_in_doubt(&self) -> Result<bool, Error> {
        (**self).is_in_doubt()
    }

    fn person(&self, user_id: u64) -> Result<Option<Person>, Error> {
        (**self).person(user_id)
    }

    fn person_by_phone(&self, phone: &str) -> Result<Option<Person>, Error> {
        (**self).person_by_phone(phone)
    }

    fn outgoing(&self, client_id: u64) -> Result<Option<Outgoing>, Error> {
        (**self).outgoing(client_id)
    }

    fn outbox(&self) -> Result<Vec<(u64, u64)>, Error> {
        (**self).outbox()
    }

    fn key(&self, key: &str) -> Result<Option<KeyRow>, Error> {
        (**self).key(key)
    }

    fn change(&mut self, change: Change<'_>) -> Result<(), Error> {
        (**self).change(change)
    }

    fn commit(&mut self) -> Result<(), Error> {
        (**self).commit()
    }

    fn roll_back(&mut self) {
        (**self).roll_back();
    }
}
