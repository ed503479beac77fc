//! Entries, positions and watermarks.

use bytes::Bytes;
use tern_proto::v1;
use tern_wire::group;
use tern_wire::ids::PRIVATE;

use super::Records;
use super::texts::{end, said_by};
use crate::error::Error;
use crate::machine::rows::{Account, EntryRow, LogState, Person};
use crate::machine::tables::{Change, Tables, Which};
use crate::message::{Envelope, Message, media_of};
use crate::private::Private;
use crate::stories::StoryId;

/// An entry was kept.
pub(crate) struct Took {
    /// Its log then.
    pub(crate) log: LogState,
    /// Another content stood there: the store went back, and what was from there on is in doubt.
    pub(crate) rewound: bool,
}

impl<S: Tables> Records<S> {
    /// How far this device is with a person.
    pub(crate) fn log(&self, chat: u64) -> Result<LogState, Error> {
        Ok(self.tables.log(chat)?.unwrap_or(LogState { chat, ..LogState::default() }))
    }

    /// All logs that are so.
    pub(crate) fn logs(&self, which: Which) -> Result<Vec<LogState>, Error> {
        self.tables.logs(which, u32::MAX)
    }

    /// Keeps an entry of a log, wherever it stands. Gives the log as it is then.
    ///
    /// The position goes on over all entries without a gap. One whose seq is there with another content proves that the
    /// store went back: what this device has from there on is in doubt, and the new one takes its place.
    pub(crate) fn take(&mut self, entry: &v1::Entry, me: &Account, generation: u64) -> Result<Took, Error> {
        let (chat, seq) = (entry.chat, entry.seq);
        let sender = if entry.sender == 0 { chat } else { entry.sender };
        let own = sender == me.user_id;
        self.note_generation(generation)?;
        if own && entry.sender_device == me.device_id {
            self.used_client_id(entry.client_id)?;
        }
        let mut row = row_of(entry, sender);
        let kind = entry.kind;
        let mut rewound = false;
        if let Some(kept) = self.tables.entry(chat, seq)? {
            // What the server has lost to damage, this device need not.
            if kept.is_same(&row) || kind == i32::from(v1::Kind::Lost) {
                if row.erased && !kept.erased {
                    self.erase(chat, seq)?;
                }
                return Ok(Took { log: self.log(chat)?, rewound });
            }
            self.rewind(chat, seq - 1)?;
            rewound = true;
        }
        row.seen = self.no_longer_gone(chat, &row)?;
        let mut log = self.log(chat)?;
        let message = said_by(&row);
        self.rephrase(chat, message, |records| {
            records.change(Change::Entry(chat, &row))?;
            // It may have been deleted by an entry that came before it, as its author's `Sent` may come late.
            if seq < log.top && !row.erased && records.tables.is_deleted(chat, message)? {
                records.change(Change::Erase { chat, seq: message })?;
            }
            Ok(())
        })?;
        if kind == i32::from(v1::Kind::Deletion) {
            self.erase(chat, row.envelope.about)?;
        }
        if row.expires_ms > 0 && !row.erased {
            self.ends_ms = self.ends_ms.min(row.expires_ms);
        }
        if chat == PRIVATE {
            self.note_private(&row)?;
        }
        if kind == i32::from(v1::Kind::Group) && seq > log.top {
            self.note_change(chat, &row)?;
        }
        let joins_on = seq == log.position + 1;
        log.position = match joins_on && log.top < seq {
            true => seq,
            false if joins_on => self.tables.joined(chat, log.position)?,
            false => log.position,
        };
        log.top = log.top.max(seq);
        if own {
            log.last_own = log.last_own.max(seq);
        }
        self.change(Change::Log(log))?;
        Ok(Took { log, rewound })
    }

    /// Before when nothing ends by itself, in ms since the Unix epoch.
    pub(crate) fn ends_ms(&self) -> u64 {
        self.ends_ms
    }

    /// Erases what has ended by now.
    pub(crate) fn end(&mut self, now_ms: u64) -> Result<(), Error> {
        if self.ends_ms > now_ms {
            return Ok(());
        }
        if self.tables.next_end()?.is_some_and(|at_ms| at_ms <= now_ms) {
            self.changed = true;
            end(&mut self.tables, now_ms)?;
        }
        self.ends_ms = self.tables.next_end()?.unwrap_or(u64::MAX);
        Ok(())
    }

    /// What stands at a place is deleted for everyone.
    fn erase(&mut self, chat: u64, seq: u64) -> Result<(), Error> {
        let message = self.tables.entry(chat, seq)?.map_or(seq, |entry| said_by(&entry));
        self.rephrase(chat, message, |records| records.change(Change::Erase { chat, seq }))
    }

    /// Something that one has told one's own devices: it counts, unless there is something newer of its key.
    fn note_private(&mut self, row: &EntryRow) -> Result<(), Error> {
        // What is in its own place by now has erased it all the same.
        if row.envelope.about > 0 {
            self.erase(PRIVATE, row.envelope.about)?;
        }
        if row.erased {
            return Ok(());
        }
        let Some(private) = Private::of_body(&row.body) else { return Ok(()) };
        for key in private.keys(row.seq) {
            if self.tables.private_seq(&key)?.is_none_or(|seq| seq < row.seq) {
                self.change(Change::Private(&key, row.seq))?;
            }
        }
        Ok(())
    }

    /// A group may be called something else from here on. Its name stands among those of people.
    fn note_change(&mut self, chat: u64, row: &EntryRow) -> Result<(), Error> {
        let name = match group::Change::parse(&row.body) {
            Ok(group::Change::Made(made)) => made.name,
            Ok(group::Change::Name(name)) => name,
            _ => return Ok(()),
        };
        self.put_person(&Person {
            user_id: chat,
            name: name.clone(),
            phone: String::new(),
            ..Person::default()
        })?;
        self.set_name(chat, &name)
    }

    /// An entry has come. If it is one that was in doubt or gone, it is so no more. Gives whether the application knows
    /// it, and has not been told that it was gone.
    fn no_longer_gone(&mut self, chat: u64, entry: &EntryRow) -> Result<bool, Error> {
        let mut seen = false;
        for gone in self.tables.gone_like(chat, entry)? {
            seen |= gone.entry.seen && !gone.told;
            self.change(Change::NotGone(gone.id))?;
        }
        Ok(seen)
    }

    /// The device's position in a log is at most `upto` from here on. What it has beyond is in doubt, and so are all
    /// watermarks beyond.
    pub(crate) fn rewind(&mut self, chat: u64, upto: u64) -> Result<(), Error> {
        let Some(log) = self.tables.log(chat)? else { return Ok(()) };
        self.rephrase_beyond(chat, upto, |records| {
            records.change(Change::Doubt { chat, above: upto, told: log.told })
        })?;
        self.change(Change::Log(LogState {
            chat,
            position: log.position.min(upto),
            acked: log.acked.min(upto),
            read_upto: log.read_upto.min(upto),
            read_acked: log.read_acked.min(upto),
            others_delivered: log.others_delivered.min(upto),
            others_read: log.others_read.min(upto),
            last_own: log.last_own.min(upto),
            told: log.told.min(upto),
            top: log.top.min(upto),
        }))
    }

    /// This device sees nothing of a log before an entry, and is not behind in what is before it. That is a position like any other,
    /// of this past of the store.
    pub(crate) fn begin(&mut self, chat: u64, from: u64, generation: u64) -> Result<(), Error> {
        self.note_generation(generation)?;
        let log = self.log(chat)?;
        let before = from.saturating_sub(1);
        if log.position >= before {
            return Ok(());
        }
        let told = if log.told == log.position { before } else { log.told };
        let position = self.tables.joined(chat, before)?;
        self.change(Change::Log(LogState {
            position,
            told,
            acked: log.acked.max(before),
            read_upto: log.read_upto.max(before),
            read_acked: log.read_acked.max(before),
            top: log.top.max(position),
            ..log
        }))
    }

    /// The watermarks that were known in a log may never have been so in this store: the server says them again.
    pub(crate) fn forget_marks_of(&mut self, chat: u64) -> Result<(), Error> {
        match self.tables.log(chat)? {
            Some(log) => self.change(Change::Log(LogState {
                acked: 0,
                read_acked: 0,
                others_delivered: 0,
                others_read: 0,
                ..log
            })),
            None => Ok(()),
        }
    }

    /// The store went back: nobody's watermarks are known, the server says them again.
    pub(crate) fn forget_marks(&mut self) -> Result<(), Error> {
        self.change(Change::ForgetMarks)
    }

    /// What is in doubt is gone. `true` if something is.
    pub(crate) fn settle(&mut self) -> Result<bool, Error> {
        let is_in_doubt = self.tables.is_in_doubt()?;
        if is_in_doubt {
            self.change(Change::GoneForGood)?;
        }
        Ok(is_in_doubt)
    }

    /// The server knows what this device has.
    pub(crate) fn acknowledged(&mut self, chat: u64, delivered: u64, read: u64) -> Result<(), Error> {
        let Some(log) = self.tables.log(chat)? else { return Ok(()) };
        // It may have been put back since that was under way.
        let (delivered, read) = (delivered.min(log.position), read.min(log.read_upto));
        let (acked, read_acked) = (log.acked.max(delivered), log.read_acked.max(read));
        self.change(Change::Log(LogState { acked, read_acked, ..log }))
    }

    /// One has read up to here, of what is here. `false` if that is nothing new.
    pub(crate) fn mark_read(&mut self, chat: u64, upto: u64) -> Result<bool, Error> {
        let position = self.log(chat)?.position;
        self.reads(chat, upto.min(position))
    }

    /// One has read up to here, on another device: this one may not have all of it yet.
    pub(crate) fn read_elsewhere(
        &mut self,
        chat: u64,
        read_upto: u64,
        generation: u64,
    ) -> Result<bool, Error> {
        self.note_generation(generation)?;
        self.reads(chat, read_upto)
    }

    fn reads(&mut self, chat: u64, read_upto: u64) -> Result<bool, Error> {
        let log = self.log(chat)?;
        let is_new = read_upto > log.read_upto;
        if is_new {
            self.change(Change::Log(LogState { read_upto, ..log }))?;
        }
        Ok(is_new)
    }

    /// The peer's watermarks. `false` if they are nothing new.
    pub(crate) fn others_marks(
        &mut self,
        chat: u64,
        delivered: u64,
        read: u64,
        generation: u64,
    ) -> Result<bool, Error> {
        self.note_generation(generation)?;
        let log = self.log(chat)?;
        let (others_delivered, others_read) =
            (log.others_delivered.max(delivered), log.others_read.max(read));
        // A chat of which only this is known is one that this device has, too.
        self.change(Change::Log(LogState { others_delivered, others_read, ..log }))?;
        Ok((others_delivered, others_read) != (log.others_delivered, log.others_read))
    }

    /// Whether a message is kept at its place.
    pub(crate) fn is_there(&self, chat: u64, seq: u64, time_ms: u64) -> Result<bool, Error> {
        Ok(self.tables.entry(chat, seq)?.is_some_and(|entry| entry.time_ms == time_ms))
    }

    /// What is kept of a chat after a seq and up to another, at most `limit`: rising by seq, with whether the application has been
    /// told of each before the store went back.
    pub(crate) fn kept_and_seen(
        &self,
        chat: u64,
        after: u64,
        upto: u64,
        limit: u32,
    ) -> Result<Vec<(Message, bool)>, Error> {
        let entries = self.tables.entries(chat, after, upto, limit)?.into_iter();
        Ok(entries
            .map(|entry| (entry.seen, entry))
            .map(|(seen, e)| (e.into_message(chat, self.me), seen))
            .collect())
    }

    /// What is gone and the application does not know of, after an id: at most `limit`, each with its id.
    pub(crate) fn gone_untold(&self, after: u64, limit: u32) -> Result<Vec<(u64, Message)>, Error> {
        let gone = self.tables.gone_untold(after, limit)?.into_iter();
        Ok(gone.map(|gone| (gone.id, gone.entry.into_message(gone.chat, self.me))).collect())
    }

    /// The application has dealt with messages, by peer up to a seq. What follows and is known to it since before the store went back
    /// is dealt with too.
    pub(crate) fn told(&mut self, messages: &[(u64, u64)]) -> Result<(), Error> {
        for (chat, seq) in messages {
            let Some(log) = self.tables.log(*chat)? else { continue };
            let next = self.tables.first_unseen(*chat, log.told.max(*seq))?;
            let told = next.map_or(log.position, |next| log.position.min(next - 1));
            self.change(Change::Log(LogState { told, ..log }))?;
        }
        Ok(())
    }

    /// The application has dealt with messages, by peer, seq and time, which are in doubt by now, or have come again after others. They
    /// need not be told again.
    pub(crate) fn seen(&mut self, messages: &[(u64, u64, u64)]) -> Result<(), Error> {
        for (chat, seq, time_ms) in messages {
            self.change(Change::Seen { chat: *chat, seq: *seq, time_ms: *time_ms })?;
        }
        Ok(())
    }

    /// The application knows what is gone, up to an id; 0: nothing.
    pub(crate) fn gone_told(&mut self, upto: u64) -> Result<(), Error> {
        match upto {
            0 => Ok(()),
            upto => self.change(Change::GoneTold(upto)),
        }
    }

    /// Whether both have written in a chat, as far as it is kept.
    pub(crate) fn both_have_written(&self, chat: u64) -> Result<bool, Error> {
        Ok(self.tables.has_written(chat)? && self.log(chat)?.last_own > 0)
    }
}

fn row_of(entry: &v1::Entry, sender: u64) -> EntryRow {
    let v1::Entry { seq, time_ms, kind, about, forwards, erased, expires_ms, .. } = *entry;
    let (mentions, media) = (entry.mentions.clone(), media_of(&entry.media));
    let story = entry.story.and_then(StoryId::of_wire);
    let envelope = Envelope { about, forwards, mentions, media, story };
    let body = Bytes::clone(&entry.body);
    EntryRow { seq, sender, time_ms, kind, body, envelope, erased, expires_ms, seen: false }
}
