//! What survives a restart: the session, people, what has been received, what is on its way. One SQLite database a
//! profile, used by one process at a time.
//!
//! Every transaction is synced: the server takes what was acknowledged for received, and a client id for used, so neither
//! may be forgotten by a power cut.
//!
//! Entries are kept as they come, also those beyond a gap. A log's `position` is the highest seq up to which there is no
//! gap, and `told` the one up to which the application has dealt with them: only that is acknowledged. What a server no
//! longer has (it was put back from a copy) moves from `entries` to `gone`: first in doubt, and for good when the server
//! has told everything that it has.

use std::fs::{DirBuilder, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use aws_lc_rs::digest;
use rusqlite::{Connection, OptionalExtension as _, params};
use tern_proto::v1;

use tern_wire::limits::NUMBERS_END;

use crate::client::Sent;
use crate::error::Error;
use crate::event::Message;
pub use crate::machine::rows::{Account, LogState, Outgoing, Person};
pub use crate::machine::tables::KEYS_MAX;

/// By how much at most the next client id is raised at a start. A profile that was put back from a copy so never takes a
/// number again that it had given to another message: 2^25 starts fit below 2^53 even if each raise is the largest.
const CLIENT_ID_RAISE_MAX: u64 = 1 << 28;

/// An entry was kept.
pub(crate) struct Took {
    /// Its log then.
    pub(crate) log: LogState,
    /// Another content stood there: the store went back, and what was from there on is in doubt.
    pub(crate) rewound: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    /// Held as long as the profile is in use.
    _lock: Option<File>,
}

/// What became of a message that was to be kept.
pub(crate) enum Enqueued {
    /// It is kept, under this number.
    New(u64),
    /// It was kept before, under this number, and is not sent yet.
    Waiting(u64),
    /// It was sent before.
    Sent(Sent),
}

/// The database's layout, and what brought it from each version to the next.
const MIGRATIONS: [&str; 3] = [
    "
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
",
    // store: the id of the server's store. newest_device: the newest device of the account that the person was told of.
    // told: the application has dealt with everything up to here. top: the highest seq that is kept, beyond a gap or not.
    // seen: the application was told before the server was put back. state: 0 in doubt, 1 gone for good.
    "
ALTER TABLE account ADD COLUMN store BLOB;
ALTER TABLE account ADD COLUMN newest_device INTEGER NOT NULL DEFAULT 0;
ALTER TABLE logs ADD COLUMN told INTEGER NOT NULL DEFAULT 0;
ALTER TABLE logs ADD COLUMN top INTEGER NOT NULL DEFAULT 0;
UPDATE logs SET told = position, top = position;
ALTER TABLE entries ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
CREATE TABLE gone (
    id INTEGER PRIMARY KEY AUTOINCREMENT, peer INTEGER NOT NULL, seq INTEGER NOT NULL, sender INTEGER NOT NULL,
    time_ms INTEGER NOT NULL, kind INTEGER NOT NULL, body BLOB NOT NULL, seen INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0, told INTEGER NOT NULL DEFAULT 0);
CREATE INDEX gone_places ON gone (peer, seq);
CREATE TABLE generations (id INTEGER PRIMARY KEY AUTOINCREMENT, generation INTEGER NOT NULL UNIQUE);
",
    // keys: messages that are known again by a key of the application's; seq and time_ms once they are sent. drafts: what is being
    // written to a person.
    "
CREATE TABLE keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, client_id INTEGER NOT NULL UNIQUE,
    digest BLOB NOT NULL, seq INTEGER, time_ms INTEGER);
CREATE TABLE drafts (peer INTEGER PRIMARY KEY, text TEXT NOT NULL);
",
];

/// Everything that belongs to one account, device and store.
const EMPTY: &str = "
DELETE FROM logs; DELETE FROM entries; DELETE FROM gone; DELETE FROM people; DELETE FROM outbox;
DELETE FROM generations; DELETE FROM account; DELETE FROM keys; DELETE FROM drafts;
";

const LOG_COLUMNS: &str =
    "peer, position, acked, read_upto, read_acked, peer_delivered, peer_read, last_own, told, top";

impl Store {
    /// Opens a profile's database, which is made if it is not there. Only its owner may read it: it holds tokens.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let io = |error: std::io::Error| Error::Store(format!("{}: {error}", dir.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        let lock = File::options().read(true).write(true).create(true).truncate(false).open(dir.join("lock"));
        let lock = lock.map_err(io)?;
        let lock = take_lock(lock, dir)?;
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
        let store = Self::in_memory()?;
        let session = v1::Session {
            user_id: account.user_id,
            device_id: account.device_id,
            access_token: account.access_token.clone(),
            access_expires_ms: account.access_expires_ms,
            refresh_token: account.refresh_token.clone(),
            refresh_expires_ms: 0,
        };
        store.register(&account.phone, &session, &account.store)?;
        Ok(store)
    }

    fn prepare(db: Connection, lock: Option<File>) -> Result<Self, Error> {
        let store = Self { db, _lock: lock };
        store.atomically(|| {
            let version: u32 = store.db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            for migration in MIGRATIONS.iter().skip(version as usize) {
                store.db.execute_batch(migration)?;
            }
            Ok(store.db.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?)
        })?;
        store.db.set_prepared_statement_cache_capacity(64);
        Ok(store)
    }

    /// Everything until [`Store::commit`] becomes one transaction.
    pub(crate) fn begin(&self) -> Result<(), Error> {
        Ok(self.db.execute_batch("BEGIN IMMEDIATE")?)
    }

    /// Ends what [`Store::begin`] began. If that fails, nothing of it has happened.
    pub(crate) fn commit(&self) -> Result<(), Error> {
        let done = self.db.execute_batch("COMMIT");
        if done.is_err() {
            self.roll_back();
        }
        Ok(done?)
    }

    /// Undoes what was done since [`Store::begin`].
    pub(crate) fn roll_back(&self) {
        if !self.db.is_autocommit() {
            // The error before this one says what went wrong.
            let _ = self.db.execute_batch("ROLLBACK");
        }
    }

    /// Does everything within in one transaction, or nothing of it. Within another one it is a part of that.
    pub(crate) fn atomically<T>(&self, within: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        if !self.db.is_autocommit() {
            return within();
        }
        self.db.execute_batch("BEGIN IMMEDIATE")?;
        let done = within().and_then(|done| {
            self.db.execute_batch("COMMIT")?;
            Ok(done)
        });
        if done.is_err() {
            self.roll_back();
        }
        done
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
        let columns = "phone, user_id, device_id, access_token, access_expires_ms, refresh_token, store";
        let mut query = self.db.prepare_cached(&format!("SELECT {columns} FROM account"))?;
        let account = query.query_row([], |row| {
            Ok(Account {
                phone: row.get(0)?,
                user_id: row.get::<_, i64>(1)? as u64,
                device_id: row.get(2)?,
                access_token: row.get(3)?,
                access_expires_ms: row.get::<_, i64>(4)? as u64,
                refresh_token: row.get(5)?,
                store: row.get::<_, Option<Vec<u8>>>(6)?.unwrap_or_default(),
            })
        });
        Ok(account.optional()?)
    }

    /// A new session, in the store with this id (empty: not known). It is a new device's in any case, so everything that
    /// belonged to the one before is emptied with the same transaction: its positions, numbers, people and outbox mean
    /// nothing to the new one.
    pub fn register(&self, phone: &str, session: &v1::Session, store: &[u8]) -> Result<(), Error> {
        let columns = "one, phone, user_id, device_id, access_token, access_expires_ms, refresh_token, \
                       next_client_id, store, newest_device";
        self.atomically(|| {
            self.db.execute_batch(EMPTY)?;
            self.db.execute(
                &format!("INSERT INTO account ({columns}) VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?3)"),
                params![
                    phone,
                    session.user_id as i64,
                    session.device_id,
                    session.access_token,
                    session.access_expires_ms as i64,
                    session.refresh_token,
                    (!store.is_empty()).then_some(store)
                ],
            )?;
            Ok(())
        })
    }

    /// The store that the session is of: remembered when a server names it for the first time.
    pub(crate) fn set_store_id(&self, store: &[u8]) -> Result<(), Error> {
        self.db.execute("UPDATE account SET store = ?", [store])?;
        Ok(())
    }

    /// Raises the next client id at a start: by a random part, so that a profile which went back to an older state takes
    /// none of the numbers that it had used since.
    pub(crate) fn raise_client_id(&self) -> Result<(), Error> {
        let random = getrandom::u64().map_err(|error| Error::Store(error.to_string()))?;
        let raise = 1 + random % CLIENT_ID_RAISE_MAX;
        self.db.execute("UPDATE account SET next_client_id = next_client_id + ?", [raise as i64])?;
        Ok(())
    }

    /// The newest device of the account that the person was told of; 0 before the first login.
    pub(crate) fn newest_device(&self) -> Result<u32, Error> {
        Ok(self.db.query_row("SELECT newest_device FROM account", [], |row| row.get(0))?)
    }

    /// The person was told of this device.
    pub(crate) fn set_newest_device(&self, device: u32) -> Result<(), Error> {
        self.db.execute("UPDATE account SET newest_device = max(newest_device, ?)", [device])?;
        Ok(())
    }

    /// The generations of the store under which something was stored since everything was in order.
    pub(crate) fn generations(&self) -> Result<Vec<u64>, Error> {
        let mut query = self.db.prepare_cached("SELECT generation FROM generations ORDER BY id")?;
        let rows = query.query_map([], |row| row.get::<_, i64>(0).map(|number| number as u64))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Something is stored under a generation (0: the server names none).
    fn note_generation(&self, generation: u64) -> Result<(), Error> {
        if generation != 0 {
            let sql = "INSERT OR IGNORE INTO generations (generation) VALUES (?)";
            self.db.prepare_cached(sql)?.execute([generation as i64])?;
        }
        Ok(())
    }

    /// Everything that the server has was told under this generation: what is still in doubt is gone. `true` if
    /// something is.
    pub(crate) fn caught_up(&self, generation: u64) -> Result<bool, Error> {
        self.atomically(|| {
            self.db.execute("DELETE FROM generations WHERE generation <> ?", [generation as i64])?;
            self.note_generation(generation)?;
            self.settle()
        })
    }

    /// What is in doubt is gone. `true` if something is.
    pub(crate) fn settle(&self) -> Result<bool, Error> {
        Ok(self.db.execute("UPDATE gone SET state = 1 WHERE state = 0", [])? > 0)
    }

    /// Has the server say again how much of what this device has is in the store.
    pub(crate) fn distrust(&self) -> Result<(), Error> {
        self.db.execute("DELETE FROM generations", [])?;
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

    /// Remembers a person. What the server told before and does not tell now stays; a phone is one person's.
    pub fn put_person(&self, person: &Person) -> Result<(), Error> {
        let (user, name, phone) = (person.user_id as i64, &person.name, &person.phone);
        self.atomically(|| {
            let mut others =
                self.db.prepare_cached("UPDATE people SET phone = '' WHERE phone = ? AND user_id <> ?")?;
            others.execute(params![phone, user])?;
            let mut insert = self.db.prepare_cached(
                "INSERT INTO people VALUES (?1, ?2, ?3) ON CONFLICT (user_id) DO UPDATE SET
                 name = iif(?2 = '', name, ?2), phone = iif(?3 = '', phone, ?3)",
            )?;
            insert.execute(params![user, name, phone])?;
            Ok(())
        })
    }

    /// A person's name is this, also if it is empty.
    pub(crate) fn set_name(&self, user_id: u64, name: &str) -> Result<(), Error> {
        self.db.execute("UPDATE people SET name = ? WHERE user_id = ?", params![name, user_id as i64])?;
        Ok(())
    }

    /// The server does not know a person any more: who has that phone now is asked again.
    pub(crate) fn forget_phone_of(&self, user_id: u64) -> Result<(), Error> {
        self.db.execute("UPDATE people SET phone = '' WHERE user_id = ?", [user_id as i64])?;
        Ok(())
    }

    /// How far this device is with a person.
    pub fn log(&self, peer: u64) -> Result<LogState, Error> {
        let sql = format!("SELECT {LOG_COLUMNS} FROM logs WHERE peer = ?");
        let state = self.db.prepare_cached(&sql)?.query_row([peer as i64], log_row).optional()?;
        Ok(state.unwrap_or(LogState { peer, ..LogState::default() }))
    }

    /// Logs of which the server does not know all that this device may say.
    pub(crate) fn unacknowledged(&self) -> Result<Vec<LogState>, Error> {
        self.logs("min(position, told) > acked OR read_upto > read_acked")
    }

    /// Logs of which the server should know more than it does by itself: those with own messages that have not been read
    /// yet, and those where this device has more than it has acknowledged.
    pub(crate) fn to_resume(&self, limit: u32) -> Result<Vec<LogState>, Error> {
        let wanted = "last_own > peer_read OR position > acked";
        self.logs(&format!("{wanted} ORDER BY position > acked DESC, last_own DESC LIMIT {limit}"))
    }

    /// A page of all logs, by peer.
    pub(crate) fn all_logs(&self, after: Option<u64>, limit: u32) -> Result<Vec<LogState>, Error> {
        let after = after.map_or(-1, |peer| peer as i64);
        self.logs(&format!("peer > {after} ORDER BY peer LIMIT {limit}"))
    }

    /// Logs of which the peers' watermarks are known.
    pub(crate) fn marked(&self) -> Result<Vec<LogState>, Error> {
        self.logs("peer_delivered > 0")
    }

    /// Logs of which the application has not dealt with everything.
    pub(crate) fn untold(&self) -> Result<Vec<LogState>, Error> {
        self.logs("position > told")
    }

    /// Logs in which something is missing before what came.
    pub(crate) fn gaps(&self) -> Result<Vec<LogState>, Error> {
        self.logs("top > position")
    }

    fn logs(&self, condition: &str) -> Result<Vec<LogState>, Error> {
        let sql = format!("SELECT {LOG_COLUMNS} FROM logs WHERE {condition}");
        let mut query = self.db.prepare(&sql)?;
        let rows = query.query_map([], log_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Keeps an entry of a log, wherever it stands. Gives the log as it is then.
    ///
    /// The position goes on over all entries without a gap. One whose seq is there with another content proves that the
    /// store went back: what this device has from there on is in doubt, and the new one takes its place.
    pub(crate) fn take(&self, entry: &v1::Entry, me: &Account, generation: u64) -> Result<Took, Error> {
        let (peer, seq) = (entry.peer as i64, entry.seq as i64);
        let sender = if entry.sender == 0 { entry.peer } else { entry.sender };
        let own = sender == me.user_id;
        self.atomically(|| {
            self.note_generation(generation)?;
            if own && entry.sender_device == me.device_id {
                let sql = "UPDATE account SET next_client_id = max(next_client_id, ?)";
                self.db.prepare_cached(sql)?.execute([entry.client_id.saturating_add(1) as i64])?;
            }
            let mut rewound = false;
            if let Some(kept) = self.entry(entry.peer, entry.seq)? {
                let same = (kept.sender, kept.time_ms, &kept.body[..]) == (sender, entry.time_ms, &entry.body[..]);
                // What the server has lost to damage, this device need not.
                if same || entry.kind == i32::from(v1::Kind::Lost) {
                    return Ok(Took { log: self.log(entry.peer)?, rewound });
                }
                self.rewind(entry.peer, entry.seq - 1)?;
                rewound = true;
            }
            let seen = self.no_longer_gone(entry, sender)?;
            let mut insert = self.db.prepare_cached("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)")?;
            let time_ms = entry.time_ms as i64;
            insert.execute(params![peer, seq, sender as i64, time_ms, entry.kind, &entry.body[..], seen])?;
            self.db.prepare_cached("INSERT OR IGNORE INTO logs (peer) VALUES (?)")?.execute([peer])?;
            let sql = "UPDATE logs SET top = max(top, ?2), last_own = max(last_own, iif(?3, ?2, 0)) WHERE peer = ?1";
            self.db.prepare_cached(sql)?.execute(params![peer, seq, own])?;
            self.advance(entry.peer)?;
            Ok(Took { log: self.log(entry.peer)?, rewound })
        })
    }

    /// The position goes up to the first gap.
    fn advance(&self, peer: u64) -> Result<(), Error> {
        let LogState { position, top, .. } = self.log(peer)?;
        let mut upto = position;
        let mut above =
            self.db.prepare_cached("SELECT seq FROM entries WHERE peer = ? AND seq > ? ORDER BY seq")?;
        let mut rows = above.query([peer as i64, position as i64])?;
        while upto < top
            && let Some(row) = rows.next()?
            && row.get::<_, i64>(0)? as u64 == upto + 1
        {
            upto += 1;
        }
        drop(rows);
        if upto > position {
            let sql = "UPDATE logs SET position = ? WHERE peer = ?";
            self.db.prepare_cached(sql)?.execute([upto as i64, peer as i64])?;
        }
        Ok(())
    }

    /// The device's position in a log is at most `upto` from here on. What it has beyond is in doubt, and so are all
    /// watermarks beyond.
    pub(crate) fn rewind(&self, peer: u64, upto: u64) -> Result<(), Error> {
        let place = [peer as i64, upto as i64];
        self.atomically(|| {
            let log = self.log(peer)?;
            self.db.execute(
                "INSERT INTO gone (peer, seq, sender, time_ms, kind, body, seen)
                 SELECT peer, seq, sender, time_ms, kind, body, seen OR seq <= ?3 FROM entries
                 WHERE peer = ?1 AND seq > ?2 ORDER BY seq",
                [peer as i64, upto as i64, log.told as i64],
            )?;
            self.db.execute("DELETE FROM entries WHERE peer = ? AND seq > ?", place)?;
            self.db.execute(
                "UPDATE logs SET position = min(position, ?2), told = min(told, ?2), top = min(top, ?2),
                 acked = min(acked, ?2), read_upto = min(read_upto, ?2), read_acked = min(read_acked, ?2),
                 peer_delivered = min(peer_delivered, ?2), peer_read = min(peer_read, ?2),
                 last_own = min(last_own, ?2) WHERE peer = ?1",
                place,
            )?;
            Ok(())
        })
    }

    /// The watermarks that were known in a log may never have been so in this store: the server says them again.
    pub(crate) fn forget_marks_of(&self, peer: u64) -> Result<(), Error> {
        let sql =
            "UPDATE logs SET acked = 0, read_acked = 0, peer_delivered = 0, peer_read = 0 WHERE peer = ?";
        self.db.prepare_cached(sql)?.execute([peer as i64])?;
        Ok(())
    }

    /// An entry has come. If it is one that was in doubt or gone, it is so no more. Gives whether the application knows
    /// it, and has not been told that it was gone.
    fn no_longer_gone(&self, entry: &v1::Entry, sender: u64) -> Result<bool, Error> {
        let sql = "DELETE FROM gone WHERE peer = ? AND seq = ? AND sender = ? AND time_ms = ? AND body = ?
                   RETURNING seen AND NOT told";
        let (peer, seq, time_ms) = (entry.peer as i64, entry.seq as i64, entry.time_ms as i64);
        let mut delete = self.db.prepare_cached(sql)?;
        let seen = delete
            .query_map(params![peer, seq, sender as i64, time_ms, &entry.body[..]], |row| row.get(0))?;
        let seen: Vec<bool> = seen.collect::<Result<_, _>>()?;
        Ok(seen.into_iter().any(|seen| seen))
    }

    /// The store went back: nobody's watermarks are known, the server says them again.
    pub(crate) fn forget_marks(&self) -> Result<(), Error> {
        let sql = "UPDATE logs SET acked = 0, read_acked = 0, peer_delivered = 0, peer_read = 0";
        self.db.execute(sql, [])?;
        Ok(())
    }

    fn entry(&self, peer: u64, seq: u64) -> Result<Option<Message>, Error> {
        let sql = "SELECT seq, sender, time_ms, body, kind FROM entries WHERE peer = ? AND seq = ?";
        let mut query = self.db.prepare_cached(sql)?;
        let entry = query.query_row([peer as i64, seq as i64], |row| message_row(row, peer, 0));
        Ok(entry.optional()?)
    }

    /// Whether a message is kept at its place.
    pub(crate) fn is_there(&self, peer: u64, seq: u64, time_ms: u64) -> Result<bool, Error> {
        let sql = "SELECT EXISTS (SELECT 1 FROM entries WHERE peer = ? AND seq = ? AND time_ms = ?)";
        let place = [peer as i64, seq as i64, time_ms as i64];
        Ok(self.db.prepare_cached(sql)?.query_row(place, |row| row.get(0))?)
    }

    /// What is kept of a chat after a seq and up to another, at most `limit`: rising by seq.
    pub fn kept(&self, peer: u64, after: u64, upto: u64, limit: u32) -> Result<Vec<Message>, Error> {
        Ok(self.kept_and_seen(peer, after, upto, limit)?.into_iter().map(|(message, _)| message).collect())
    }

    /// The newest of what is kept of a chat, rising by seq.
    pub fn kept_newest(&self, peer: u64, limit: u32) -> Result<Vec<Message>, Error> {
        let me = self.me()?;
        let sql =
            "SELECT seq, sender, time_ms, body, kind FROM entries WHERE peer = ? ORDER BY seq DESC LIMIT ?";
        let mut query = self.db.prepare_cached(sql)?;
        let rows = query.query_map([peer as i64, limit.into()], |row| message_row(row, peer, me))?;
        let mut messages: Vec<_> = rows.collect::<Result<_, _>>()?;
        messages.reverse();
        Ok(messages)
    }

    /// The same, with whether the application has been told of each before the store went back.
    pub(crate) fn kept_and_seen(
        &self,
        peer: u64,
        after: u64,
        upto: u64,
        limit: u32,
    ) -> Result<Vec<(Message, bool)>, Error> {
        let me = self.me()?;
        let sql = "SELECT seq, sender, time_ms, body, kind, seen FROM entries
                   WHERE peer = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?";
        let mut query = self.db.prepare_cached(sql)?;
        let place = [peer as i64, after as i64, upto as i64, limit.into()];
        let rows = query.query_map(place, |row| Ok((message_row(row, peer, me)?, row.get(5)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The newest `limit` messages of a chat that the server had and has no more, in the order of their seqs.
    pub fn gone(&self, peer: u64, limit: u32) -> Result<Vec<Message>, Error> {
        let me = self.me()?;
        let sql = "SELECT seq, sender, time_ms, body, kind FROM gone WHERE peer = ? AND state = 1 ORDER BY id DESC LIMIT ?";
        let mut query = self.db.prepare_cached(sql)?;
        let rows = query.query_map([peer as i64, limit.into()], |row| message_row(row, peer, me))?;
        let mut gone: Vec<_> = rows.collect::<Result<_, _>>()?;
        gone.sort_by_key(|message| (message.seq, message.time_ms));
        Ok(gone)
    }

    /// What is gone and the application does not know of, after an id: at most `limit`, each with its id.
    pub(crate) fn gone_untold(&self, after: u64, limit: u32) -> Result<Vec<(u64, Message)>, Error> {
        let me = self.me()?;
        let sql = "SELECT seq, sender, time_ms, body, kind, id, peer FROM gone
                   WHERE state = 1 AND told = 0 AND id > ? ORDER BY id LIMIT ?";
        let mut query = self.db.prepare_cached(sql)?;
        let rows = query.query_map([after as i64, limit.into()], |row| {
            let peer = row.get::<_, i64>(6)? as u64;
            Ok((row.get::<_, i64>(5)? as u64, message_row(row, peer, me)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The application has dealt with these: with messages by peer, up to a seq, and with what is gone, up to an id. What
    /// follows and is known to it since before the store went back is dealt with too.
    pub(crate) fn told(&self, messages: &[(u64, u64)], gone: u64) -> Result<(), Error> {
        if messages.is_empty() && gone == 0 {
            return Ok(());
        }
        self.atomically(|| {
            for (peer, seq) in messages {
                let told = (*seq).max(self.log(*peer)?.told);
                let sql = "SELECT min(seq) FROM entries WHERE peer = ? AND seq > ? AND NOT seen";
                let mut next = self.db.prepare_cached(sql)?;
                let next: Option<i64> = next.query_row([*peer as i64, told as i64], |row| row.get(0))?;
                let told = next.map_or(i64::MAX, |next| next - 1);
                let sql = "UPDATE logs SET told = min(?2, position) WHERE peer = ?1";
                self.db.prepare_cached(sql)?.execute([*peer as i64, told])?;
            }
            let sql = "UPDATE gone SET told = 1 WHERE state = 1 AND told = 0 AND id <= ?";
            self.db.prepare_cached(sql)?.execute([gone as i64])?;
            Ok(())
        })
    }

    /// One's own user; 0 without an account.
    fn me(&self) -> Result<u64, Error> {
        let mut query = self.db.prepare_cached("SELECT user_id FROM account")?;
        Ok(query.query_row([], |row| row.get::<_, i64>(0)).optional()?.unwrap_or(0) as u64)
    }

    /// Whether both have written in a chat, as far as it is kept.
    pub(crate) fn both_have_written(&self, peer: u64) -> Result<bool, Error> {
        let sql = "SELECT EXISTS (SELECT 1 FROM entries WHERE peer = ?1 AND sender = ?1)";
        let theirs: bool = self.db.prepare_cached(sql)?.query_row([peer as i64], |row| row.get(0))?;
        Ok(theirs && self.log(peer)?.last_own > 0)
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
    pub(crate) fn peer_marks(
        &self,
        peer: u64,
        delivered: u64,
        read: u64,
        generation: u64,
    ) -> Result<bool, Error> {
        self.note_generation(generation)?;
        self.db.prepare_cached("INSERT OR IGNORE INTO logs (peer) VALUES (?)")?.execute([peer as i64])?;
        let sql = "UPDATE logs SET peer_delivered = max(peer_delivered, ?1), peer_read = max(peer_read, ?2)
                   WHERE peer = ?3 AND (peer_delivered < ?1 OR peer_read < ?2)";
        Ok(self.db.prepare_cached(sql)?.execute([delivered as i64, read as i64, peer as i64])? > 0)
    }

    /// Keeps a message until the server has acknowledged it; of a key that is known it is the one that was kept before.
    pub(crate) fn enqueue(&self, peer: u64, body: &[u8], key: Option<&str>) -> Result<Enqueued, Error> {
        self.atomically(|| {
            let keyed = key.map(|key| (key, digest_of(peer, body)));
            if let Some((key, digest)) = &keyed
                && let Some(before) = self.of_key(key, digest)?
            {
                return Ok(before);
            }
            let sql = "UPDATE account SET next_client_id = next_client_id + 1 RETURNING next_client_id - 1";
            let client_id: i64 = self.db.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
            if client_id as u64 >= NUMBERS_END {
                return Err(Error::Store("its numbers are used up: register again".to_owned()));
            }
            let mut insert = self.db.prepare_cached("INSERT INTO outbox VALUES (?, ?, ?)")?;
            insert.execute(params![client_id, peer as i64, body])?;
            if let Some((key, digest)) = keyed {
                let sql = "INSERT INTO keys (key, client_id, digest) VALUES (?, ?, ?)";
                self.db.prepare_cached(sql)?.execute(params![key, client_id, digest])?;
                let sql = "DELETE FROM keys WHERE id <= (SELECT max(id) FROM keys) - ? AND seq IS NOT NULL";
                self.db.prepare_cached(sql)?.execute([KEYS_MAX as i64])?;
            }
            Ok(Enqueued::New(client_id as u64))
        })
    }

    /// The message that was kept under a key.
    fn of_key(&self, key: &str, digest: &[u8]) -> Result<Option<Enqueued>, Error> {
        let sql = "SELECT client_id, digest, seq, time_ms FROM keys WHERE key = ?";
        let found = self.db.prepare_cached(sql)?.query_row([key], |row| {
            let number = |at| row.get::<_, Option<i64>>(at).map(|number| number.unwrap_or(0) as u64);
            Ok((number(0)?, row.get::<_, Vec<u8>>(1)?, Sent { seq: number(2)?, time_ms: number(3)? }))
        });
        let found = found.optional()?;
        // One that was given up, and whose key stayed, is another message's.
        if let Some((client_id, _, Sent { seq: 0, .. })) = &found
            && self.outgoing(*client_id)?.is_none()
        {
            self.note_not_sent(*client_id)?;
            return Ok(None);
        }
        match found {
            None => Ok(None),
            Some((_, of, _)) if of != digest => Err(Error::KeyReused),
            Some((client_id, _, Sent { seq: 0, .. })) => Ok(Some(Enqueued::Waiting(client_id))),
            Some((.., sent)) => Ok(Some(Enqueued::Sent(sent))),
        }
    }

    /// A message is sent: if it has a key, that is remembered.
    pub(crate) fn note_sent(&self, client_id: u64, sent: Sent) -> Result<(), Error> {
        let sql = "UPDATE keys SET seq = ?, time_ms = ? WHERE client_id = ?";
        let numbers = params![sent.seq as i64, sent.time_ms as i64, client_id as i64];
        self.db.prepare_cached(sql)?.execute(numbers)?;
        Ok(())
    }

    /// A message was refused: one of its key is another message.
    pub(crate) fn note_not_sent(&self, client_id: u64) -> Result<(), Error> {
        self.db.prepare_cached("DELETE FROM keys WHERE client_id = ?")?.execute([client_id as i64])?;
        Ok(())
    }

    /// What is being written to a person; empty if nothing is.
    pub fn draft(&self, peer: u64) -> Result<String, Error> {
        let mut query = self.db.prepare_cached("SELECT text FROM drafts WHERE peer = ?")?;
        Ok(query.query_row([peer as i64], |row| row.get(0)).optional()?.unwrap_or_default())
    }

    /// Remembers what is being written to a person; empty: nothing is.
    pub fn set_draft(&self, peer: u64, text: &str) -> Result<(), Error> {
        let sql = match text {
            "" => "DELETE FROM drafts WHERE peer = ?",
            _ => "INSERT OR REPLACE INTO drafts VALUES (?, ?)",
        };
        let mut change = self.db.prepare_cached(sql)?;
        match text {
            "" => change.execute([peer as i64])?,
            text => change.execute(params![peer as i64, text])?,
        };
        Ok(())
    }

    /// Empties the profile of everything that belongs to its account.
    pub fn empty(&self) -> Result<(), Error> {
        self.atomically(|| Ok(self.db.execute_batch(EMPTY)?))
    }

    /// How many messages wait to be acknowledged.
    pub fn outbox_len(&self) -> Result<u64, Error> {
        Ok(self.db.query_row("SELECT count(*) FROM outbox", [], |row| row.get::<_, i64>(0))? as u64)
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

/// Takes the lock, or says who has it.
fn take_lock(mut lock: File, dir: &Path) -> Result<File, Error> {
    let io = |error: std::io::Error| Error::Store(format!("{}: {error}", dir.display()));
    if lock.try_lock().is_err() {
        let mut pid = String::new();
        // Whoever has just taken it may not have said so yet.
        let pid = lock.read_to_string(&mut pid).ok().and_then(|_| pid.trim().parse().ok());
        return Err(Error::ProfileInUse { dir: dir.to_owned(), pid });
    }
    lock.set_len(0).map_err(io)?;
    write!(lock, "{}", std::process::id()).map_err(io)?;
    Ok(lock)
}

/// By what a key that is used twice is told from a retry.
fn digest_of(peer: u64, body: &[u8]) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&peer.to_le_bytes());
    context.update(body);
    context.finish().as_ref().to_vec()
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
        told: number(8)?,
        top: number(9)?,
    })
}

/// A row that begins with seq, sender, time_ms, body, kind.
fn message_row(row: &rusqlite::Row<'_>, peer: u64, me: u64) -> rusqlite::Result<Message> {
    let number = |at| row.get::<_, i64>(at).map(|number| number as u64);
    let sender = number(1)?;
    let own = sender == me || peer == me;
    Ok(Message {
        peer,
        seq: number(0)?,
        sender,
        time_ms: number(2)?,
        body: row.get(3)?,
        own,
        kind: row.get::<_, i32>(4)?.into(),
    })
}

mod tables;
#[cfg(test)]
mod tests;
