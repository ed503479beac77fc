//! What survives a restart: the session, people, what has been received, what is on its way. One SQLite database a
//! profile, used by one process at a time.
//!
//! Every transaction is synced: the server takes what was acknowledged for received, and a client id for used, so neither
//! may be forgotten by a power cut.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, params};
use tern_proto::v1;

use crate::error::Error;

/// This device's session.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// E.164.
    pub phone: String,
    /// The user.
    pub user_id: u64,
    /// The device.
    pub device_id: u32,
    pub(crate) access_token: String,
    pub(crate) access_expires_ms: u64,
    pub(crate) refresh_token: String,
}

impl Account {
    /// For tests that speak the protocol themselves.
    #[doc(hidden)]
    pub fn access_token(&self) -> &str {
        &self.access_token
    }
}

/// Shows no token.
impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("user_id", &self.user_id).field("device_id", &self.device_id).finish()
    }
}

/// A person.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Person {
    /// The user.
    pub user_id: u64,
    /// The display name.
    pub name: String,
    /// E.164; empty if the server did not tell.
    pub phone: String,
}

/// How far this device is with one person.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LogState {
    /// The person.
    pub peer: u64,
    /// Everything up to here is stored.
    pub position: u64,
    /// The server knows that it is.
    pub acked: u64,
    /// One's own read watermark.
    pub read_upto: u64,
    /// The server knows it.
    pub read_acked: u64,
    /// The peer has everything up to here.
    pub peer_delivered: u64,
    /// The peer has read up to here.
    pub peer_read: u64,
    /// The newest of one's own messages.
    pub last_own: u64,
}

/// A message that the server has not acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// Its number.
    pub client_id: u64,
    /// To whom.
    pub peer: u64,
    /// What.
    pub body: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    /// Held as long as the profile is in use.
    _lock: Option<File>,
}

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS account (
    one INTEGER PRIMARY KEY CHECK (one = 1), phone TEXT NOT NULL, user_id INTEGER NOT NULL, device_id INTEGER NOT NULL,
    access_token TEXT NOT NULL, access_expires_ms INTEGER NOT NULL, refresh_token TEXT NOT NULL, nonce BLOB,
    next_client_id INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS people (user_id INTEGER PRIMARY KEY, name TEXT NOT NULL, phone TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS logs (
    peer INTEGER PRIMARY KEY, position INTEGER NOT NULL DEFAULT 0, acked INTEGER NOT NULL DEFAULT 0,
    read_upto INTEGER NOT NULL DEFAULT 0, read_acked INTEGER NOT NULL DEFAULT 0,
    peer_delivered INTEGER NOT NULL DEFAULT 0, peer_read INTEGER NOT NULL DEFAULT 0,
    last_own INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS entries (
    peer INTEGER NOT NULL, seq INTEGER NOT NULL, sender INTEGER NOT NULL, time_ms INTEGER NOT NULL, kind INTEGER NOT NULL,
    body BLOB NOT NULL, PRIMARY KEY (peer, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (client_id INTEGER PRIMARY KEY, peer INTEGER NOT NULL, body BLOB NOT NULL);
";

const LOG_COLUMNS: &str = "peer, position, acked, read_upto, read_acked, peer_delivered, peer_read, last_own";

impl Store {
    /// Opens a profile's database, which is made if it is not there. Only its owner may read it: it holds tokens.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let io = |error: std::io::Error| Error::Store(format!("{}: {error}", dir.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        let lock = File::create(dir.join("lock")).map_err(io)?;
        lock.try_lock().map_err(|_| Error::ProfileInUse(dir.to_owned()))?;
        let path = dir.join("tern.db");
        let db = Connection::open(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(io)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        Self::prepare(db, Some(lock))
    }

    /// A database that ends with the process: for bots and tests.
    pub fn in_memory() -> Result<Self, Error> {
        Self::prepare(Connection::open_in_memory()?, None)
    }

    /// A database in memory with a session that another one has: for tests of what the server does about it.
    #[doc(hidden)]
    pub fn copy_of_session(account: &Account) -> Result<Self, Error> {
        let mut store = Self::in_memory()?;
        let session = v1::Session {
            user_id: account.user_id,
            device_id: account.device_id,
            access_token: account.access_token.clone(),
            access_expires_ms: account.access_expires_ms,
            refresh_token: account.refresh_token.clone(),
            refresh_expires_ms: 0,
        };
        store.register(&account.phone, &session)?;
        Ok(store)
    }

    fn prepare(db: Connection, lock: Option<File>) -> Result<Self, Error> {
        db.execute_batch(SCHEMA)?;
        db.set_prepared_statement_cache_capacity(64);
        Ok(Self { db, _lock: lock })
    }

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
        let columns = "phone, user_id, device_id, access_token, access_expires_ms, refresh_token";
        let mut query = self.db.prepare_cached(&format!("SELECT {columns} FROM account"))?;
        let account = query.query_row([], |row| {
            Ok(Account {
                phone: row.get(0)?,
                user_id: row.get::<_, i64>(1)? as u64,
                device_id: row.get(2)?,
                access_token: row.get(3)?,
                access_expires_ms: row.get::<_, i64>(4)? as u64,
                refresh_token: row.get(5)?,
            })
        });
        Ok(account.optional()?)
    }

    /// A new session. Everything of another user is forgotten.
    pub fn register(&mut self, phone: &str, session: &v1::Session) -> Result<(), Error> {
        let before = self.account()?;
        let write = self.db.transaction()?;
        // What waits to be sent keeps its numbers, so the new device counts on behind them.
        let next: Option<i64> =
            write.query_row("SELECT next_client_id FROM account", [], |row| row.get(0)).optional()?;
        let mut next_client_id = next.unwrap_or(1);
        if before.is_none_or(|before| before.user_id != session.user_id) {
            next_client_id = 1;
            write.execute_batch(
                "DELETE FROM logs; DELETE FROM entries; DELETE FROM people; DELETE FROM outbox;",
            )?;
        } else {
            // A new device of the same user: the server knows nothing of what this one had.
            write.execute_batch("UPDATE logs SET acked = 0, read_acked = 0;")?;
        }
        write.execute(
            "INSERT OR REPLACE INTO account VALUES (1, ?, ?, ?, ?, ?, ?, NULL, ?)",
            params![
                phone,
                session.user_id as i64,
                session.device_id,
                session.access_token,
                session.access_expires_ms as i64,
                session.refresh_token,
                next_client_id
            ],
        )?;
        write.commit()?;
        Ok(())
    }

    /// The nonce of the refresh under way: made, and kept, before the request leaves, so that a retry repeats it.
    pub(crate) fn refresh_nonce(&self) -> Result<Vec<u8>, Error> {
        let kept: Option<Vec<u8>> = self.db.query_row("SELECT nonce FROM account", [], |row| row.get(0))?;
        if let Some(nonce) = kept {
            return Ok(nonce);
        }
        let mut nonce = vec![0; tern_wire::limits::NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|error| Error::Store(error.to_string()))?;
        self.db.execute("UPDATE account SET nonce = ?", [&nonce])?;
        Ok(nonce)
    }

    /// The refreshed session.
    pub(crate) fn refreshed(&self, session: &v1::Session) -> Result<(), Error> {
        self.db.execute(
            "UPDATE account SET access_token = ?, access_expires_ms = ?, refresh_token = ?, nonce = NULL",
            params![session.access_token, session.access_expires_ms as i64, session.refresh_token],
        )?;
        Ok(())
    }

    /// A person by id.
    pub fn person(&self, user_id: u64) -> Result<Option<Person>, Error> {
        self.find_person("user_id = ?", &(user_id as i64))
    }

    /// A person by phone.
    pub fn person_by_phone(&self, phone: &str) -> Result<Option<Person>, Error> {
        self.find_person("phone = ?", &phone)
    }

    fn find_person(&self, condition: &str, value: &dyn rusqlite::ToSql) -> Result<Option<Person>, Error> {
        let sql = format!("SELECT user_id, name, phone FROM people WHERE {condition}");
        let person = self.db.prepare_cached(&sql)?.query_row([value], |row| {
            Ok(Person { user_id: row.get::<_, i64>(0)? as u64, name: row.get(1)?, phone: row.get(2)? })
        });
        Ok(person.optional()?)
    }

    /// Remembers a person.
    pub fn put_person(&self, person: &Person) -> Result<(), Error> {
        let mut insert = self.db.prepare_cached("INSERT OR REPLACE INTO people VALUES (?, ?, ?)")?;
        insert.execute(params![person.user_id as i64, person.name, person.phone])?;
        Ok(())
    }

    /// How far this device is with a person.
    pub fn log(&self, peer: u64) -> Result<LogState, Error> {
        let sql = format!("SELECT {LOG_COLUMNS} FROM logs WHERE peer = ?");
        let state = self.db.prepare_cached(&sql)?.query_row([peer as i64], log_row).optional()?;
        Ok(state.unwrap_or(LogState { peer, ..LogState::default() }))
    }

    /// Logs of which the server does not know all that this device knows.
    pub(crate) fn unacknowledged(&self) -> Result<Vec<LogState>, Error> {
        self.logs("position > acked OR read_upto > read_acked")
    }

    /// Logs with own messages that have not been read yet.
    pub(crate) fn awaiting_receipts(&self, limit: u32) -> Result<Vec<LogState>, Error> {
        self.logs(&format!("last_own > peer_read ORDER BY last_own DESC LIMIT {limit}"))
    }

    fn logs(&self, condition: &str) -> Result<Vec<LogState>, Error> {
        let sql = format!("SELECT {LOG_COLUMNS} FROM logs WHERE {condition}");
        let mut query = self.db.prepare_cached(&sql)?;
        let rows = query.query_map([], log_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Stores the next entry of a log. One's own is what the server has by itself when nothing before it is missing.
    pub(crate) fn add_entry(&mut self, entry: &v1::Entry, own: u64) -> Result<(), Error> {
        let sender = if entry.sender == 0 { entry.peer } else { entry.sender };
        let (peer, seq) = (entry.peer as i64, entry.seq as i64);
        let write = self.db.transaction()?;
        write.prepare_cached("INSERT OR IGNORE INTO entries VALUES (?, ?, ?, ?, ?, ?)")?.execute(params![
            peer,
            seq,
            sender as i64,
            entry.time_ms as i64,
            entry.kind,
            &entry.body[..]
        ])?;
        write.prepare_cached("INSERT OR IGNORE INTO logs (peer) VALUES (?)")?.execute([peer])?;
        write.prepare_cached("UPDATE logs SET position = ? WHERE peer = ?")?.execute([seq, peer])?;
        if sender == own {
            write.prepare_cached("UPDATE logs SET last_own = ? WHERE peer = ?")?.execute([seq, peer])?;
        }
        write.commit()?;
        Ok(())
    }

    /// The server knows what this device has.
    pub(crate) fn acknowledged(&self, peer: u64, delivered: u64, read: u64) -> Result<(), Error> {
        let sql = "UPDATE logs SET acked = max(acked, ?), read_acked = max(read_acked, ?) WHERE peer = ?";
        self.db.prepare_cached(sql)?.execute([delivered as i64, read as i64, peer as i64])?;
        Ok(())
    }

    /// One has read up to here. `false` if that is nothing new.
    pub(crate) fn mark_read(&self, peer: u64, upto: u64) -> Result<bool, Error> {
        let sql =
            "UPDATE logs SET read_upto = min(?1, position) WHERE peer = ?2 AND read_upto < min(?1, position)";
        Ok(self.db.prepare_cached(sql)?.execute([upto as i64, peer as i64])? > 0)
    }

    /// The peer's watermarks. `false` if they are nothing new.
    pub(crate) fn peer_marks(&self, peer: u64, delivered: u64, read: u64) -> Result<bool, Error> {
        self.db.prepare_cached("INSERT OR IGNORE INTO logs (peer) VALUES (?)")?.execute([peer as i64])?;
        let sql = "UPDATE logs SET peer_delivered = max(peer_delivered, ?1), peer_read = max(peer_read, ?2)
                   WHERE peer = ?3 AND (peer_delivered < ?1 OR peer_read < ?2)";
        Ok(self.db.prepare_cached(sql)?.execute([delivered as i64, read as i64, peer as i64])? > 0)
    }

    /// Keeps a message until the server has acknowledged it. Gives its number.
    pub(crate) fn enqueue(&mut self, peer: u64, body: &[u8]) -> Result<u64, Error> {
        let write = self.db.transaction()?;
        let sql = "UPDATE account SET next_client_id = next_client_id + 1 RETURNING next_client_id - 1";
        let client_id: i64 = write.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        let mut insert = write.prepare_cached("INSERT INTO outbox VALUES (?, ?, ?)")?;
        insert.execute(params![client_id, peer as i64, body])?;
        drop(insert);
        write.commit()?;
        Ok(client_id as u64)
    }

    /// A message that is on its way.
    pub(crate) fn outgoing(&self, client_id: u64) -> Result<Option<Outgoing>, Error> {
        let sql = "SELECT client_id, peer, body FROM outbox WHERE client_id = ?";
        Ok(self.db.prepare_cached(sql)?.query_row([client_id as i64], outgoing_row).optional()?)
    }

    /// What the server has not acknowledged, in the order of its numbers.
    pub(crate) fn outbox(&self) -> Result<Vec<Outgoing>, Error> {
        let mut query =
            self.db.prepare_cached("SELECT client_id, peer, body FROM outbox ORDER BY client_id")?;
        let rows = query.query_map([], outgoing_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A message is done with. Gives it, unless it was before.
    pub(crate) fn dequeue(&self, client_id: u64) -> Result<Option<Outgoing>, Error> {
        let sql = "DELETE FROM outbox WHERE client_id = ? RETURNING client_id, peer, body";
        Ok(self.db.prepare_cached(sql)?.query_row([client_id as i64], outgoing_row).optional()?)
    }
}

fn outgoing_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Outgoing> {
    Ok(Outgoing {
        client_id: row.get::<_, i64>(0)? as u64,
        peer: row.get::<_, i64>(1)? as u64,
        body: row.get(2)?,
    })
}

fn log_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<LogState> {
    let number = |at| row.get::<_, i64>(at).map(|number| number as u64);
    Ok(LogState {
        peer: number(0)?,
        position: number(1)?,
        acked: number(2)?,
        read_upto: number(3)?,
        read_acked: number(4)?,
        peer_delivered: number(5)?,
        peer_read: number(6)?,
        last_own: number(7)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(user_id: u64, device_id: u32) -> v1::Session {
        v1::Session { user_id, device_id, ..v1::Session::default() }
    }

    #[test]
    fn a_new_device_of_the_same_person_counts_on_behind_what_waits() {
        let mut store = Store::in_memory().expect("a store");
        store.register("+15550001", &session(7, 1)).expect("registered");
        let ids: Vec<_> = (0..5).map(|_| store.enqueue(9, b"waits").expect("kept")).collect();
        assert_eq!(ids, [1, 2, 3, 4, 5]);
        store.register("+15550001", &session(7, 2)).expect("registered again");
        assert_eq!(store.enqueue(9, b"new").expect("kept"), 6);
        assert_eq!(store.outbox().expect("read").len(), 6);
        store.register("+15550002", &session(8, 1)).expect("another person");
        assert!(store.outbox().expect("read").is_empty());
        assert_eq!(store.enqueue(9, b"first").expect("kept"), 1);
    }
}
