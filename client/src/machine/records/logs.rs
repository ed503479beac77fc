//! Entries, positions and watermarks.

use bytes::Bytes;
use tern_proto::v1;

use super::Records;
use crate::error::Error;
use crate::event::Message;
use crate::machine::rows::{Account, EntryRow, LogState};
use crate::machine::tables::{Change, Tables, Which};

/// An entry was kept.
pub(crate) struct Took {
    /// Its log then.
    pub(crate) log: LogState,
    /// Another content stood there: the store went back, and what was from there on is in doubt.
    pub(crate) rewound: bool,
}

impl<S: Tables> Records<S> {
    /// How far this device is with a person.
    pub(crate) fn log(&self, peer: u64) -> Result<LogState, Error> {
        Ok(self.tables.log(peer)?.unwrap_or(LogState { peer, ..LogState::default() }))
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
        let (peer, seq) = (entry.peer, entry.seq);
        let sender = if entry.sender == 0 { peer } else { entry.sender };
        let own = sender == me.user_id;
        self.note_generation(generation)?;
        if own && entry.sender_device == me.device_id {
            self.used_client_id(entry.client_id)?;
        }
        let (time_ms, kind, body) = (entry.time_ms, entry.kind, Bytes::clone(&entry.body));
        let mut row = EntryRow { seq, sender, time_ms, kind, body, seen: false };
        let mut rewound = false;
        if let Some(kept) = self.tables.entry(peer, seq)? {
            // What the server has lost to damage, this device need not.
            if kept.is_same(&row) || kind == i32::from(v1::Kind::Lost) {
                return Ok(Took { log: self.log(peer)?, rewound });
            }
            self.rewind(peer, seq - 1)?;
            rewound = true;
        }
        row.seen = self.no_longer_gone(peer, &row)?;
        self.change(Change::Entry(peer, &row))?;
        let mut log = self.log(peer)?;
        let joins_on = seq == log.position + 1;
        log.position = match joins_on && log.top < seq {
            true => seq,
            false if joins_on => self.tables.joined(peer, log.position)?,
            false => log.position,
        };
        log.top = log.top.max(seq);
        if own {
            log.last_own = log.last_own.max(seq);
        }
        self.change(Change::Log(log))?;
        Ok(Took { log, rewound })
    }

    /// An entry has come. If it is one that was in doubt or gone, it is so no more. Gives whether the application knows
    /// it, and has not been told that it was gone.
    fn no_longer_gone(&mut self, peer: u64, entry: &EntryRow) -> Result<bool, Error> {
        let mut seen = false;
        for gone in self.tables.gone_like(peer, entry)? {
            seen |= gone.entry.seen && !gone.told;
            self.change(Change::NotGone(gone.id))?;
        }
        Ok(seen)
    }

    /// The device's position in a log is at most `upto` from here on. What it has beyond is in doubt, and so are all
    /// watermarks beyond.
    pub(crate) fn rewind(&mut self, peer: u64, upto: u64) -> Result<(), Error> {
        let Some(log) = self.tables.log(peer)? else { return Ok(()) };
        self.change(Change::Doubt { peer, above: upto, told: log.told })?;
        self.change(Change::Log(LogState {
            peer,
            position: log.position.min(upto),
            acked: log.acked.min(upto),
            read_upto: log.read_upto.min(upto),
            read_acked: log.read_acked.min(upto),
            peer_delivered: log.peer_delivered.min(upto),
            peer_read: log.peer_read.min(upto),
            last_own: log.last_own.min(upto),
            told: log.told.min(upto),
            top: log.top.min(upto),
        }))
    }

    /// The watermarks that were known in a log may never have been so in this store: the server says them again.
    pub(crate) fn forget_marks_of(&mut self, peer: u64) -> Result<(), Error> {
        match self.tables.log(peer)? {
            Some(log) => self.change(Change::Log(LogState {
                acked: 0,
                read_acked: 0,
                peer_delivered: 0,
                peer_read: 0,
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
    pub(crate) fn acknowledged(&mut self, peer: u64, delivered: u64, read: u64) -> Result<(), Error> {
        let Some(log) = self.tables.log(peer)? else { return Ok(()) };
        // It may have been put back since that was under way.
        let (delivered, read) = (delivered.min(log.position), read.min(log.position));
        let (acked, read_acked) = (log.acked.max(delivered), log.read_acked.max(read));
        self.change(Change::Log(LogState { acked, read_acked, ..log }))
    }

    /// One has read up to here. `false` if that is nothing new.
    pub(crate) fn mark_read(&mut self, peer: u64, upto: u64) -> Result<bool, Error> {
        let log = self.log(peer)?;
        let read_upto = upto.min(log.position);
        let is_new = read_upto > log.read_upto;
        if is_new {
            self.change(Change::Log(LogState { read_upto, ..log }))?;
        }
        Ok(is_new)
    }

    /// The peer's watermarks. `false` if they are nothing new.
    pub(crate) fn peer_marks(
        &mut self,
        peer: u64,
        delivered: u64,
        read: u64,
        generation: u64,
    ) -> Result<bool, Error> {
        self.note_generation(generation)?;
        let log = self.log(peer)?;
        let (peer_delivered, peer_read) = (log.peer_delivered.max(delivered), log.peer_read.max(read));
        // A chat of which only this is known is one that this device has, too.
        self.change(Change::Log(LogState { peer_delivered, peer_read, ..log }))?;
        Ok((peer_delivered, peer_read) != (log.peer_delivered, log.peer_read))
    }

    /// Whether a message is kept at its place.
    pub(crate) fn is_there(&self, peer: u64, seq: u64, time_ms: u64) -> Result<bool, Error> {
        Ok(self.tables.entry(peer, seq)?.is_some_and(|entry| entry.time_ms == time_ms))
    }

    /// What is kept of a chat after a seq and up to another, at most `limit`: rising by seq, with whether the application has been
    /// told of each before the store went back.
    pub(crate) fn kept_and_seen(
        &self,
        peer: u64,
        after: u64,
        upto: u64,
        limit: u32,
    ) -> Result<Vec<(Message, bool)>, Error> {
        let entries = self.tables.entries(peer, after, upto, limit)?.into_iter();
        Ok(entries
            .map(|entry| (entry.seen, entry))
            .map(|(seen, e)| (e.into_message(peer, self.me), seen))
            .collect())
    }

    /// What is gone and the application does not know of, after an id: at most `limit`, each with its id.
    pub(crate) fn gone_untold(&self, after: u64, limit: u32) -> Result<Vec<(u64, Message)>, Error> {
        let gone = self.tables.gone_untold(after, limit)?.into_iter();
        Ok(gone.map(|gone| (gone.id, gone.entry.into_message(gone.peer, self.me))).collect())
    }

    /// The application has dealt with messages, by peer up to a seq. What follows and is known to it since before the store went back
    /// is dealt with too.
    pub(crate) fn told(&mut self, messages: &[(u64, u64)]) -> Result<(), Error> {
        for (peer, seq) in messages {
            let Some(log) = self.tables.log(*peer)? else { continue };
            let next = self.tables.first_unseen(*peer, log.told.max(*seq))?;
            let told = next.map_or(log.position, |next| log.position.min(next - 1));
            self.change(Change::Log(LogState { told, ..log }))?;
        }
        Ok(())
    }

    /// The application has dealt with messages, by peer, seq and time, which are in doubt by now, or have come again after others. They
    /// need not be told again.
    pub(crate) fn seen(&mut self, messages: &[(u64, u64, u64)]) -> Result<(), Error> {
        for (peer, seq, time_ms) in messages {
            self.change(Change::Seen { peer: *peer, seq: *seq, time_ms: *time_ms })?;
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
    pub(crate) fn both_have_written(&self, peer: u64) -> Result<bool, Error> {
        Ok(self.tables.has_written(peer)? && self.log(peer)?.last_own > 0)
    }
}
