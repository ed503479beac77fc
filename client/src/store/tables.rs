//! The tables of [`crate::machine::tables`], in SQLite.

use rusqlite::{OptionalExtension as _, Row, params};
use tern_proto::v1;
use tern_search::Needed;
use tern_wire::ids::{MediaId, PRIVATE};

use super::Store;
use crate::client::Sent;
use crate::error::Error;
use crate::machine::rows::{Account, DeviceRow, EntryRow, GoneRow, KeyRow, LogState, Outgoing, Person};
use crate::machine::tables::{Change, KEYS_MAX, Moment, Tables, Which};
use crate::message::Envelope;
use crate::stories::StoryId;

const LOG_COLUMNS: &str =
    "chat, position, acked, read_upto, read_acked, others_delivered, others_read, last_own, told, top";

pub(super) const ENTRY_COLUMNS: &str =
    "seq, sender, time_ms, kind, body, seen, about, forwards, mentions, media, erased, expires_ms, story";

/// Which rows of `logs` these are, and their order. `?1` is the peer behind which they are.
fn condition(which: Which) -> (&'static str, &'static str) {
    match which {
        Which::All(_) => ("chat > ?1", "chat"),
        Which::Unacknowledged => ("min(position, told) > acked OR read_upto > read_acked", "chat"),
        Which::ToResume => {
            ("last_own > others_read OR position > acked", "position > acked DESC, last_own DESC, chat")
        }
        Which::Marked => ("others_delivered > 0", "chat"),
        Which::Untold => ("position > told", "chat"),
        Which::Gaps => ("top > position", "chat"),
    }
}

impl Tables for Store {
    fn device(&self) -> Result<Option<DeviceRow>, Error> {
        let mut query = self.db.prepare_cached(
            "SELECT phone, user_id, device_id, access_token, access_expires_ms, refresh_token, store, nonce,
             next_client_id, newest_device FROM account",
        )?;
        Ok(query.query_row([], device_row).optional()?)
    }

    fn generations(&self) -> Result<Vec<u64>, Error> {
        let mut query = self.db.prepare_cached("SELECT generation FROM generations ORDER BY id")?;
        let rows = query.query_map([], |row| number(row, 0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn log(&self, chat: u64) -> Result<Option<LogState>, Error> {
        let sql = format!("SELECT {LOG_COLUMNS} FROM logs WHERE chat = ?");
        Ok(self.db.prepare_cached(&sql)?.query_row([chat as i64], log_row).optional()?)
    }

    fn logs(&self, which: Which, limit: u32) -> Result<Vec<LogState>, Error> {
        let after = match which {
            Which::All(Some(after)) => after as i64,
            _ => -1,
        };
        let (condition, order) = condition(which);
        let sql = format!(
            "SELECT {LOG_COLUMNS} FROM logs WHERE ?1 IS NOT NULL AND ({condition}) ORDER BY {order} LIMIT ?2"
        );
        let mut query = self.db.prepare_cached(&sql)?;
        let rows = query.query_map([after, limit.into()], log_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn entry(&self, chat: u64, seq: u64) -> Result<Option<EntryRow>, Error> {
        let sql = format!("SELECT {ENTRY_COLUMNS} FROM entries WHERE chat = ? AND seq = ?");
        let mut query = self.db.prepare_cached(&sql)?;
        Ok(query.query_row([chat as i64, seq as i64], |row| entry_row(row, 0)).optional()?)
    }

    fn entries(&self, chat: u64, after: u64, upto: u64, limit: u32) -> Result<Vec<EntryRow>, Error> {
        let sql = format!(
            "SELECT {ENTRY_COLUMNS} FROM entries WHERE chat = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
        );
        let mut query = self.db.prepare_cached(&sql)?;
        let place = [chat as i64, after as i64, upto as i64, limit.into()];
        let rows = query.query_map(place, |row| entry_row(row, 0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn joined(&self, chat: u64, after: u64) -> Result<u64, Error> {
        let sql = "SELECT seq FROM entries WHERE chat = ? AND seq > ? ORDER BY seq";
        let mut above = self.db.prepare_cached(sql)?;
        let mut rows = above.query([chat as i64, after as i64])?;
        let mut upto = after;
        while let Some(row) = rows.next()?
            && number(row, 0)? == upto + 1
        {
            upto += 1;
        }
        Ok(upto)
    }

    fn first_unseen(&self, chat: u64, after: u64) -> Result<Option<u64>, Error> {
        let sql = "SELECT min(seq) FROM entries WHERE chat = ? AND seq > ? AND NOT seen";
        let mut query = self.db.prepare_cached(sql)?;
        let first: Option<i64> = query.query_row([chat as i64, after as i64], |row| row.get(0))?;
        Ok(first.map(|seq| seq as u64))
    }

    fn has_written(&self, chat: u64) -> Result<bool, Error> {
        let sql = "SELECT EXISTS (SELECT 1 FROM entries WHERE chat = ?1 AND sender = ?1)";
        Ok(self.db.prepare_cached(sql)?.query_row([chat as i64], |row| row.get(0))?)
    }

    fn is_deleted(&self, chat: u64, seq: u64) -> Result<bool, Error> {
        let sql = "SELECT EXISTS (
            SELECT 1 FROM entries WHERE chat = ?1 AND about = ?2 AND about > 0 AND seq > ?2 AND kind IN (?3, ?4))";
        let erases = [v1::Kind::Deletion, v1::Kind::Private].map(i32::from);
        let values = params![chat as i64, seq as i64, erases[0], erases[1]];
        Ok(self.db.prepare_cached(sql)?.query_row(values, |row| row.get(0))?)
    }

    fn newest_edit(&self, chat: u64, seq: u64) -> Result<Option<EntryRow>, Error> {
        let sql = format!(
            "SELECT {ENTRY_COLUMNS} FROM entries
             WHERE chat = ?1 AND about = ?2 AND about > 0 AND seq > ?2 AND kind = ?3 AND NOT erased
             ORDER BY seq DESC LIMIT 1"
        );
        let mut query = self.db.prepare_cached(&sql)?;
        let values = params![chat as i64, seq as i64, i32::from(v1::Kind::Edit)];
        Ok(query.query_row(values, |row| entry_row(row, 0)).optional()?)
    }

    fn places(
        &self,
        needed: &[Needed],
        chat: Option<u64>,
        before: Option<Moment>,
        limit: u32,
    ) -> Result<Vec<Moment>, Error> {
        self.places_of(needed, chat, before, limit)
    }

    fn next_end(&self) -> Result<Option<u64>, Error> {
        let sql = "SELECT min(at) FROM (
             SELECT min(expires_ms) AS at FROM entries WHERE expires_ms > 0 AND NOT erased
             UNION ALL SELECT min(expires_ms) FROM gone WHERE expires_ms > 0 AND NOT erased)";
        let next: Option<i64> = self.db.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        Ok(next.map(|at_ms| at_ms as u64))
    }

    fn ending(&self, by_ms: u64) -> Result<Vec<(u64, EntryRow)>, Error> {
        let sql = format!(
            "SELECT chat, {ENTRY_COLUMNS} FROM entries WHERE expires_ms > 0 AND NOT erased AND expires_ms <= ?"
        );
        let mut query = self.db.prepare_cached(&sql)?;
        let rows = query.query_map([by_ms as i64], |row| Ok((number(row, 0)?, entry_row(row, 1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn private_seq(&self, key: &str) -> Result<Option<u64>, Error> {
        let mut query = self.db.prepare_cached("SELECT seq FROM private WHERE key = ?")?;
        Ok(query.query_row([key], |row| number(row, 0)).optional()?)
    }

    fn gone_like(&self, chat: u64, entry: &EntryRow) -> Result<Vec<GoneRow>, Error> {
        let sql = format!(
            "SELECT id, chat, told, {ENTRY_COLUMNS} FROM gone
             WHERE chat = ? AND seq = ? AND sender = ? AND time_ms = ? AND (body = ? OR erased OR ?) ORDER BY id"
        );
        let mut query = self.db.prepare_cached(&sql)?;
        let EntryRow { seq, sender, time_ms, body, erased, .. } = entry;
        let like = params![chat as i64, *seq as i64, *sender as i64, *time_ms as i64, &body[..], erased];
        let rows = query.query_map(like, gone_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn gone_untold(&self, after: u64, limit: u32) -> Result<Vec<GoneRow>, Error> {
        let sql = format!(
            "SELECT id, chat, told, {ENTRY_COLUMNS} FROM gone
             WHERE state = 1 AND told = 0 AND id > ? ORDER BY id LIMIT ?"
        );
        let mut query = self.db.prepare_cached(&sql)?;
        let rows = query.query_map([after as i64, limit.into()], gone_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn is_in_doubt(&self) -> Result<bool, Error> {
        let sql = "SELECT EXISTS (SELECT 1 FROM gone WHERE state = 0)";
        Ok(self.db.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
    }

    fn person(&self, user_id: u64) -> Result<Option<Person>, Error> {
        let sql = "SELECT * FROM people LEFT JOIN profiles USING (user_id) WHERE user_id = ?";
        Ok(self.db.prepare_cached(sql)?.query_row([user_id as i64], person_row).optional()?)
    }

    fn person_by_phone(&self, phone: &str) -> Result<Option<Person>, Error> {
        let sql = "SELECT * FROM people LEFT JOIN profiles USING (user_id) WHERE phone = ?";
        Ok(self.db.prepare_cached(sql)?.query_row([phone], person_row).optional()?)
    }

    fn outgoing(&self, client_id: u64) -> Result<Option<Outgoing>, Error> {
        let sql = "SELECT client_id, chat, kind, body, about, forwards, mentions, media, story FROM outbox WHERE client_id = ?";
        let outgoing = self.db.prepare_cached(sql)?.query_row([client_id as i64], |row| {
            Ok(Outgoing {
                client_id: number(row, 0)?,
                chat: number(row, 1)?,
                kind: row.get(2)?,
                body: row.get(3)?,
                envelope: envelope(row, 4, 8)?,
            })
        });
        Ok(outgoing.optional()?)
    }

    fn outbox(&self) -> Result<Vec<(u64, u64)>, Error> {
        let sql = "SELECT client_id, chat FROM outbox ORDER BY client_id";
        let mut query = self.db.prepare_cached(sql)?;
        let rows = query.query_map([], |row| Ok((number(row, 0)?, number(row, 1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn key(&self, key: &str) -> Result<Option<KeyRow>, Error> {
        let sql = "SELECT key, client_id, digest, seq, time_ms FROM keys WHERE key = ?";
        let key = self.db.prepare_cached(sql)?.query_row([key], |row| {
            let sent = row.get::<_, Option<i64>>(3)?.zip(row.get::<_, Option<i64>>(4)?);
            let sent = sent.map(|(seq, time_ms)| Sent { chat: 0, seq: seq as u64, time_ms: time_ms as u64 });
            Ok(KeyRow { key: row.get(0)?, client_id: number(row, 1)?, digest: row.get(2)?, sent })
        });
        Ok(key.optional()?)
    }

    fn change(&mut self, change: Change<'_>) -> Result<(), Error> {
        if self.db.is_autocommit() {
            self.db.execute_batch("BEGIN IMMEDIATE")?;
        }
        match change {
            Change::Device(device) => self.set_device(device),
            Change::Generation(generation) => {
                self.run("INSERT OR IGNORE INTO generations (generation) VALUES (?)", [generation as i64])
            }
            // None is 0, which stands for no generation.
            Change::ForgetGenerations(but) => {
                self.run("DELETE FROM generations WHERE generation <> ?", [but.unwrap_or(0) as i64])
            }
            Change::Log(log) => self.set_log(&log),
            Change::ForgetMarks => self
                .run("UPDATE logs SET acked = 0, read_acked = 0, others_delivered = 0, others_read = 0", []),
            Change::Entry(chat, entry) => self.add_entry(chat, entry),
            Change::Erase { chat, seq } => self.run(
                "UPDATE entries SET body = x'', mentions = x'', media = x'', story = x'', erased = 1
                 WHERE chat = ?1 AND (seq = ?2 OR (about = ?2 AND about > 0 AND seq > ?2 AND kind = ?3))",
                params![chat as i64, seq as i64, i32::from(v1::Kind::Edit)],
            ),
            Change::Found { chat, seq, time_ms, terms } => self.add_words((time_ms, chat, seq), terms),
            Change::NotFound { chat, seq, terms } => self.remove_words(chat, seq, terms),
            Change::End(by_ms) => self.erase_ended(by_ms),
            Change::Private(key, seq) => {
                self.run("INSERT OR REPLACE INTO private VALUES (?, ?)", params![key, seq as i64])
            }
            Change::Doubt { chat, above, told } => self.doubt(chat, above, told),
            Change::NotGone(id) => self.run("DELETE FROM gone WHERE id = ?", [id as i64]),
            Change::GoneForGood => self.run("UPDATE gone SET state = 1 WHERE state = 0", []),
            Change::Seen { chat, seq, time_ms } => {
                let place = [chat as i64, seq as i64, time_ms as i64];
                self.run("UPDATE entries SET seen = 1 WHERE chat = ? AND seq = ? AND time_ms = ?", place)?;
                self.run("UPDATE gone SET seen = 1 WHERE chat = ? AND seq = ? AND time_ms = ?", place)
            }
            Change::GoneTold(upto) => {
                let sql = "UPDATE gone SET told = 1 WHERE state = 1 AND told = 0 AND id <= ?";
                self.run(sql, [upto as i64])
            }
            Change::Person(person) => Ok(self.set_person(person)?),
            Change::Outgoing(Outgoing { client_id, chat, kind, body, envelope }) => {
                let (about, forwards, mentions, media, story) = columns_of(envelope);
                self.run(
                    "INSERT INTO outbox (client_id, chat, kind, body, about, forwards, mentions, media, story)
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    params![*client_id as i64, *chat as i64, kind, body, about, forwards, mentions, media, story],
                )
            }
            Change::Done(client_id) => self.run("DELETE FROM outbox WHERE client_id = ?", [client_id as i64]),
            Change::Key(key) => self.add_key(key),
            Change::KeySent(client_id, Sent { seq, time_ms, .. }) => {
                let sql = "UPDATE keys SET seq = ?, time_ms = ? WHERE client_id = ?";
                self.run(sql, [seq as i64, time_ms as i64, client_id as i64])
            }
            Change::ForgetKey(client_id) => {
                self.run("DELETE FROM keys WHERE client_id = ?", [client_id as i64])
            }
        }
    }

    fn commit(&mut self) -> Result<(), Error> {
        if self.db.is_autocommit() {
            return Ok(());
        }
        let done = self.db.execute_batch("COMMIT");
        if done.is_err() {
            self.roll_back();
        }
        Ok(done?)
    }

    fn roll_back(&mut self) {
        if !self.db.is_autocommit() {
            // The error before this one says what went wrong.
            let _ = self.db.execute_batch("ROLLBACK");
        }
    }
}

impl Store {
    /// Has the next key be one so much later.
    #[cfg(test)]
    pub(crate) fn skip_keys(&mut self, count: u64) {
        self.run("UPDATE sqlite_sequence SET seq = seq + ? WHERE name = 'keys'", [count as i64])
            .expect("written");
    }

    fn erase_ended(&self, by_ms: u64) -> Result<(), Error> {
        ["entries", "gone"].into_iter().try_for_each(|table| {
            let erase = "SET body = x'', mentions = x'', media = x'', story = x'', erased = 1";
            let ended = "expires_ms > 0 AND NOT erased AND expires_ms <= ?";
            self.run(&format!("UPDATE {table} {erase} WHERE {ended}"), [by_ms as i64])
        })
    }

    pub(super) fn run(&self, sql: &str, values: impl rusqlite::Params) -> Result<(), Error> {
        self.db.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    pub(super) fn set_device(&self, device: &DeviceRow) -> Result<(), Error> {
        let DeviceRow { account, nonce, next_client_id, newest_device } = device;
        self.run(
            "INSERT OR REPLACE INTO account (one, phone, user_id, device_id, access_token, access_expires_ms,
             refresh_token, store, nonce, next_client_id, newest_device)
             VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                account.phone,
                account.user_id as i64,
                account.device_id,
                account.access_token,
                account.access_expires_ms as i64,
                account.refresh_token,
                (!account.store.is_empty()).then_some(&account.store),
                nonce,
                *next_client_id as i64,
                newest_device
            ],
        )
    }

    fn set_log(&self, log: &LogState) -> Result<(), Error> {
        let sql =
            format!("INSERT OR REPLACE INTO logs ({LOG_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
        let numbers = [
            log.chat,
            log.position,
            log.acked,
            log.read_upto,
            log.read_acked,
            log.others_delivered,
            log.others_read,
            log.last_own,
            log.told,
            log.top,
        ];
        self.run(&sql, numbers.map(|number| number as i64))
    }

    fn add_entry(&self, chat: u64, entry: &EntryRow) -> Result<(), Error> {
        let EntryRow { seq, sender, time_ms, kind, body, seen, envelope, erased, expires_ms } = entry;
        let (about, forwards, mentions, media, story) = columns_of(envelope);
        let numbers = [chat, *seq, *sender, *time_ms, *expires_ms].map(|number| number as i64);
        let [chat, seq, sender, time_ms, expires_ms] = numbers;
        let sql = format!(
            "INSERT INTO entries (chat, {ENTRY_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        );
        let body = &body[..];
        let values = params![
            chat, seq, sender, time_ms, kind, body, seen, about, forwards, mentions, media, erased,
            expires_ms, story
        ];
        self.run(&sql, values)
    }

    fn doubt(&self, chat: u64, above: u64, told: u64) -> Result<(), Error> {
        self.run(
            "INSERT INTO gone (chat, seq, sender, time_ms, kind, body, seen, about, forwards, mentions, media, erased, expires_ms, story)
             SELECT chat, seq, sender, time_ms, kind, body, seen OR seq <= ?3, about, forwards, mentions, media, erased, expires_ms, story
             FROM entries WHERE chat = ?1 AND seq > ?2 ORDER BY seq",
            [chat as i64, above as i64, told as i64],
        )?;
        if chat == PRIVATE {
            self.run("DELETE FROM private WHERE seq > ?", [above as i64])?;
        }
        self.run("DELETE FROM entries WHERE chat = ? AND seq > ?", [chat as i64, above as i64])
    }

    fn add_key(&self, row: &KeyRow) -> Result<(), Error> {
        let KeyRow { key, client_id, digest, sent } = row;
        let sent = sent.map(|sent| (sent.seq as i64, sent.time_ms as i64)).unzip();
        let sql = "INSERT INTO keys (key, client_id, digest, seq, time_ms) VALUES (?, ?, ?, ?, ?)";
        self.run(sql, params![key, *client_id as i64, digest, sent.0, sent.1])?;
        let sql = "DELETE FROM keys WHERE id <= (SELECT max(id) FROM keys) - ? AND seq IS NOT NULL";
        self.run(sql, [KEYS_MAX as i64])
    }
}

fn number(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(at).map(|number| number as u64)
}

fn device_row(row: &Row<'_>) -> rusqlite::Result<DeviceRow> {
    Ok(DeviceRow {
        account: Account {
            phone: row.get(0)?,
            user_id: number(row, 1)?,
            device_id: row.get(2)?,
            access_token: row.get(3)?,
            access_expires_ms: number(row, 4)?,
            refresh_token: row.get(5)?,
            store: row.get::<_, Option<Vec<u8>>>(6)?.unwrap_or_default(),
        },
        nonce: row.get(7)?,
        next_client_id: number(row, 8)?,
        newest_device: row.get(9)?,
    })
}

fn log_row(row: &Row<'_>) -> rusqlite::Result<LogState> {
    Ok(LogState {
        chat: number(row, 0)?,
        position: number(row, 1)?,
        acked: number(row, 2)?,
        read_upto: number(row, 3)?,
        read_acked: number(row, 4)?,
        others_delivered: number(row, 5)?,
        others_read: number(row, 6)?,
        last_own: number(row, 7)?,
        told: number(row, 8)?,
        top: number(row, 9)?,
    })
}

/// A row that has [`ENTRY_COLUMNS`] from a column on.
pub(super) fn entry_row(row: &Row<'_>, at: usize) -> rusqlite::Result<EntryRow> {
    Ok(EntryRow {
        seq: number(row, at)?,
        sender: number(row, at + 1)?,
        time_ms: number(row, at + 2)?,
        kind: row.get(at + 3)?,
        body: row.get::<_, Vec<u8>>(at + 4)?.into(),
        seen: row.get(at + 5)?,
        envelope: envelope(row, at + 6, at + 12)?,
        erased: row.get(at + 10)?,
        expires_ms: number(row, at + 11)?,
    })
}

/// Of a row that has about, forwards, mentions and media from a column on, and the story in another one.
fn envelope(row: &Row<'_>, at: usize, story: usize) -> rusqlite::Result<Envelope> {
    let mentions: Vec<u8> = row.get(at + 2)?;
    let mentions = mentions.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
    let media: Vec<u8> = row.get(at + 3)?;
    let media = media.as_chunks().0.iter().map(|bytes| MediaId::from_bytes(*bytes)).collect();
    let story: Vec<u8> = row.get(story)?;
    let story = match story.as_chunks::<8>().0 {
        [user_id, number] => {
            Some(StoryId { user_id: u64::from_le_bytes(*user_id), number: u64::from_le_bytes(*number) })
        }
        _ => None,
    };
    Ok(Envelope { about: number(row, at)?, forwards: row.get(at + 1)?, mentions, media, story })
}

fn columns_of(envelope: &Envelope) -> (i64, u32, Vec<u8>, Vec<u8>, Vec<u8>) {
    let mentions = envelope.mentions.iter().flat_map(|user| user.to_le_bytes()).collect();
    let media = envelope.media.iter().flat_map(|medium| *medium.as_bytes()).collect();
    let story = envelope.story.iter().flat_map(|story| [story.user_id, story.number]);
    let story = story.flat_map(u64::to_le_bytes).collect();
    (envelope.about as i64, envelope.forwards, mentions, media, story)
}

fn gone_row(row: &Row<'_>) -> rusqlite::Result<GoneRow> {
    Ok(GoneRow { id: number(row, 0)?, chat: number(row, 1)?, told: row.get(2)?, entry: entry_row(row, 3)? })
}

fn person_row(row: &Row<'_>) -> rusqlite::Result<Person> {
    Ok(Person {
        user_id: number(row, 0)?,
        name: row.get(1)?,
        phone: row.get(2)?,
        about: row.get::<_, Option<String>>(3)?.unwrap_or_default(),
        picture: row.get::<_, Option<Vec<u8>>>(4)?.unwrap_or_default(),
        version: row.get::<_, Option<i64>>(5)?.unwrap_or_default() as u64,
    })
}
