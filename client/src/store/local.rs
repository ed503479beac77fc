//! What is read and written of a profile without a machine, or beside one that runs.

use rusqlite::{OptionalExtension as _, Row, params};
use tern_proto::v1;

use super::tables::{ENTRY_COLUMNS, entry_row};
use super::{Store, words};
use crate::error::Error;
use crate::machine::rows::{Account, DeviceRow, LogState, Person};
use crate::machine::{Tables as _, end};
use crate::message::{Message, Standing};

/// Everything that belongs to one account, device and store.
const EMPTY: &str = "
DELETE FROM logs; DELETE FROM entries; DELETE FROM gone; DELETE FROM people; DELETE FROM profiles; DELETE FROM outbox;
DELETE FROM generations; DELETE FROM account; DELETE FROM keys; DELETE FROM drafts; DELETE FROM private;
";

impl Store {
    /// A remembered setting of the profile.
    pub fn setting(&self, key: &str) -> Result<Option<String>, Error> {
        let mut query = self.db.prepare_cached("SELECT value FROM settings WHERE key = ?")?;
        Ok(query.query_row([key], |row| row.get(0)).optional()?)
    }

    /// Remembers a setting of the profile.
    pub fn set_setting(&self, key: &str, value: &str) -> Result<(), Error> {
        self.db.prepare_cached("INSERT OR REPLACE INTO settings VALUES (?, ?)")?.execute([key, value])?;
        Ok(())
    }

    /// The session, if the profile is registered.
    pub fn account(&self) -> Result<Option<Account>, Error> {
        Ok(self.device()?.map(|device| device.account))
    }

    /// A new session, in the store with this id (empty: not known). It is a new device's in any case, so everything that
    /// belonged to the one before is emptied with the same transaction: its positions, numbers, people and outbox mean
    /// nothing to the new one.
    pub fn register(&self, phone: &str, session: &v1::Session, store: &[u8]) -> Result<(), Error> {
        self.begin_anew(&DeviceRow::new(Account::new(phone, session, store)))
    }

    pub(super) fn begin_anew(&self, device: &DeviceRow) -> Result<(), Error> {
        self.atomically(|| {
            self.empty_all()?;
            self.set_device(device)
        })
    }

    /// Empties the profile of everything that belongs to its account.
    pub fn empty(&self) -> Result<(), Error> {
        self.atomically(|| self.empty_all())
    }

    fn empty_all(&self) -> Result<(), Error> {
        self.db.execute_batch(EMPTY)?;
        Ok(self.db.execute_batch(words::EMPTY)?)
    }

    /// Does everything within in one transaction, or nothing of it.
    pub(super) fn atomically<T>(&self, within: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        self.db.execute_batch("BEGIN IMMEDIATE")?;
        let done = within().and_then(|done| {
            self.db.execute_batch("COMMIT")?;
            Ok(done)
        });
        if done.is_err() && !self.db.is_autocommit() {
            // The error before this one says what went wrong.
            let _ = self.db.execute_batch("ROLLBACK");
        }
        done
    }

    /// Erases what has ended by now (ms since the Unix epoch): for those who look at what is kept without a client.
    pub fn end(&mut self, now_ms: u64) -> Result<(), Error> {
        let done = end(self, now_ms).and_then(|()| self.commit());
        if done.is_err() {
            self.roll_back();
        }
        done
    }

    /// How far this device is with a person.
    pub fn log(&self, chat: u64) -> Result<LogState, Error> {
        Ok(crate::machine::Tables::log(self, chat)?.unwrap_or(LogState { chat, ..LogState::default() }))
    }

    /// A person by id.
    pub fn person(&self, user_id: u64) -> Result<Option<Person>, Error> {
        crate::machine::Tables::person(self, user_id)
    }

    /// A person by phone.
    pub fn person_by_phone(&self, phone: &str) -> Result<Option<Person>, Error> {
        crate::machine::Tables::person_by_phone(self, phone)
    }

    /// Somebody is known now, or a group.
    pub(crate) fn set_person(&self, person: &Person) -> Result<(), Error> {
        let Person { user_id, name, phone, about, picture, version } = person;
        let sql = "INSERT OR REPLACE INTO people VALUES (?, ?, ?)";
        self.db.prepare_cached(sql)?.execute(params![*user_id as i64, name, phone])?;
        let sql = "INSERT OR REPLACE INTO profiles VALUES (?, ?, ?, ?)";
        let profile = params![*user_id as i64, about, picture, *version as i64];
        self.db.prepare_cached(sql)?.execute(profile)?;
        Ok(())
    }

    /// A person's name is this, also if it is empty.
    pub(crate) fn set_name(&self, user_id: u64, name: &str) -> Result<(), Error> {
        self.db.execute("UPDATE people SET name = ? WHERE user_id = ?", params![name, user_id as i64])?;
        Ok(())
    }

    /// What is kept of a chat after a seq and up to another, at most `limit`: rising by seq.
    pub fn kept(&self, chat: u64, after: u64, upto: u64, limit: u32) -> Result<Vec<Message>, Error> {
        let me = self.me()?;
        let entries = self.entries(chat, after, upto, limit)?.into_iter();
        Ok(entries.map(|entry| entry.into_message(chat, me)).collect())
    }

    /// The newest of what is kept of a chat, rising by seq.
    pub fn kept_newest(&self, chat: u64, limit: u32) -> Result<Vec<Message>, Error> {
        let me = self.me()?;
        let sql = format!("SELECT {ENTRY_COLUMNS} FROM entries WHERE chat = ? ORDER BY seq DESC LIMIT ?");
        let mut query = self.db.prepare_cached(&sql)?;
        let rows = query.query_map([chat as i64, limit.into()], |row| message_row(row, chat, me))?;
        let mut messages: Vec<_> = rows.collect::<Result<_, _>>()?;
        messages.reverse();
        Ok(messages)
    }

    /// The newest `limit` messages of a chat that the server had and has no more, in the order of their seqs.
    pub fn gone(&self, chat: u64, limit: u32) -> Result<Vec<Message>, Error> {
        let me = self.me()?;
        let sql =
            format!("SELECT {ENTRY_COLUMNS} FROM gone WHERE chat = ? AND state = 1 ORDER BY id DESC LIMIT ?");
        let mut query = self.db.prepare_cached(&sql)?;
        let rows = query.query_map([chat as i64, limit.into()], |row| message_row(row, chat, me))?;
        let mut gone: Vec<_> = rows.collect::<Result<_, _>>()?;
        gone.sort_by_key(|message| (message.seq, message.time_ms));
        Ok(gone)
    }

    /// A message as it stands, as far as this profile knows: after all that it has received about it. `None`: there is no such message.
    pub fn standing(&self, chat: u64, seq: u64) -> Result<Option<Standing>, Error> {
        let me = self.me()?;
        let Some(entry) = self.entry(chat, seq)? else { return Ok(None) };
        let message = entry.into_message(chat, me);
        if !message.kind.is_message() {
            return Ok(None);
        }
        let mut standing = Standing::new(message);
        let sql = format!("SELECT {ENTRY_COLUMNS} FROM entries WHERE chat = ? AND about = ? ORDER BY seq");
        let mut query = self.db.prepare_cached(&sql)?;
        for about in query.query_map([chat as i64, seq as i64], |row| message_row(row, chat, me))? {
            standing.take(&about?);
        }
        Ok(Some(standing))
    }

    /// The places in the private log of what counts of each key that begins so.
    pub(crate) fn private_seqs(&self, prefix: &str) -> Result<Vec<u64>, Error> {
        let sql = "SELECT seq FROM private WHERE substr(key, 1, length(?1)) = ?1 ORDER BY seq";
        let mut query = self.db.prepare_cached(sql)?;
        let rows = query.query_map([prefix], |row| row.get::<_, i64>(0))?;
        Ok(rows.map(|seq| seq.map(|seq| seq as u64)).collect::<Result<_, _>>()?)
    }

    /// The keys that begin so of what counts in the private log, with the places there, in their order.
    pub(crate) fn private_keys(&self, prefix: &str) -> Result<Vec<(String, u64)>, Error> {
        let sql = "SELECT key, seq FROM private WHERE substr(key, 1, length(?1)) = ?1 ORDER BY seq, key";
        let mut query = self.db.prepare_cached(sql)?;
        let rows = query.query_map([prefix], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// One's own user; 0 without an account.
    fn me(&self) -> Result<u64, Error> {
        let mut query = self.db.prepare_cached("SELECT user_id FROM account")?;
        Ok(query.query_row([], |row| row.get::<_, i64>(0)).optional()?.unwrap_or(0) as u64)
    }

    /// What is being written to a person; empty if nothing is.
    pub fn draft(&self, chat: u64) -> Result<String, Error> {
        let mut query = self.db.prepare_cached("SELECT text FROM drafts WHERE chat = ?")?;
        Ok(query.query_row([chat as i64], |row| row.get(0)).optional()?.unwrap_or_default())
    }

    /// Remembers what is being written to a person; empty: nothing is.
    pub fn set_draft(&self, chat: u64, text: &str) -> Result<(), Error> {
        let sql = match text {
            "" => "DELETE FROM drafts WHERE chat = ?",
            _ => "INSERT OR REPLACE INTO drafts VALUES (?, ?)",
        };
        let mut change = self.db.prepare_cached(sql)?;
        match text {
            "" => change.execute([chat as i64])?,
            text => change.execute(params![chat as i64, text])?,
        };
        Ok(())
    }

    /// How many messages wait to be acknowledged.
    pub fn outbox_len(&self) -> Result<u64, Error> {
        Ok(self.db.query_row("SELECT count(*) FROM outbox", [], |row| row.get::<_, i64>(0))? as u64)
    }
}

/// A row that begins with [`ENTRY_COLUMNS`].
fn message_row(row: &Row<'_>, chat: u64, me: u64) -> rusqlite::Result<Message> {
    Ok(entry_row(row, 0)?.into_message(chat, me))
}
