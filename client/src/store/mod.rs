//! The profile: one SQLite database, used by one process at a time. What must survive a restart lies in it as
//! [tables](crate::machine::tables), whose meaning is the machine's; beside them what no server is told: settings and drafts.
//!
//! Every transaction is synced: the server takes what was acknowledged for received, and a client id for used, so neither
//! may be forgotten by a power cut. A call here may wait for the disk: the client makes each on a thread that may.

mod local;
mod tables;
mod words;

use std::fs::{DirBuilder, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use rusqlite::Connection;

use crate::error::Error;
use crate::machine::rows::DeviceRow;
pub use crate::machine::rows::{Account, LogState, Outgoing, Person};
pub use crate::machine::tables::KEYS_MAX;
use crate::machine::{Tables as _, index_all};

/// See the module.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    /// Held as long as the profile is in use.
    _lock: Option<File>,
}

/// The database's layout, and what brought it from each version to the next.
const MIGRATIONS: [&str; 9] = [
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
    // A chat is named by one number: the other person's, or a group's. chat in outbox: 0 makes a group.
    "
ALTER TABLE logs RENAME COLUMN peer TO chat;
ALTER TABLE logs RENAME COLUMN peer_delivered TO others_delivered;
ALTER TABLE logs RENAME COLUMN peer_read TO others_read;
ALTER TABLE entries RENAME COLUMN peer TO chat;
ALTER TABLE outbox RENAME COLUMN peer TO chat;
ALTER TABLE outbox ADD COLUMN kind INTEGER NOT NULL DEFAULT 0;
ALTER TABLE gone RENAME COLUMN peer TO chat;
ALTER TABLE drafts RENAME COLUMN peer TO chat;
",
    // What is said of a message beside its body; mentions: users, 8 bytes each, little-endian. erased: it was deleted for everyone.
    "
ALTER TABLE entries ADD COLUMN about INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entries ADD COLUMN forwards INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entries ADD COLUMN mentions BLOB NOT NULL DEFAULT x'';
ALTER TABLE entries ADD COLUMN erased INTEGER NOT NULL DEFAULT 0;
ALTER TABLE gone ADD COLUMN about INTEGER NOT NULL DEFAULT 0;
ALTER TABLE gone ADD COLUMN forwards INTEGER NOT NULL DEFAULT 0;
ALTER TABLE gone ADD COLUMN mentions BLOB NOT NULL DEFAULT x'';
ALTER TABLE gone ADD COLUMN erased INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN about INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN forwards INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN mentions BLOB NOT NULL DEFAULT x'';
CREATE INDEX entries_about ON entries (chat, about) WHERE about > 0;
",
    // private: by key, the place in the private log of what counts.
    "
CREATE TABLE private (key TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
",
    // expires_ms: when an entry is erased by itself.
    "
ALTER TABLE entries ADD COLUMN expires_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE gone ADD COLUMN expires_ms INTEGER NOT NULL DEFAULT 0;
CREATE INDEX entries_ending ON entries (expires_ms) WHERE expires_ms > 0 AND NOT erased;
CREATE INDEX gone_ending ON gone (expires_ms) WHERE expires_ms > 0 AND NOT erased;
",
    words::LAYOUT,
    // What people say of themselves, what names their pictures, and the version of what one sees of them. It may be there, as the one
    // before: an older `tern` says that the layout is older again, and writes people alone.
    "
CREATE TABLE IF NOT EXISTS profiles (
    user_id INTEGER PRIMARY KEY, about TEXT NOT NULL, picture BLOB NOT NULL, version INTEGER NOT NULL);
",
];

/// Layouts below this one have no words that messages are found by: these are made when it is brought up.
const WORDS_SINCE: u32 = 8;

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
        // What is deleted for everyone is not left in free pages.
        db.pragma_update(None, "secure_delete", "ON")?;
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
        store.begin_anew(&DeviceRow::new(account.clone()))?;
        Ok(store)
    }

    fn prepare(db: Connection, lock: Option<File>) -> Result<Self, Error> {
        let mut store = Self { db, _lock: lock };
        store.db.set_prepared_statement_cache_capacity(64);
        // What is not committed goes with the connection.
        store.db.execute_batch("BEGIN IMMEDIATE")?;
        let version: u32 = store.db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        for migration in MIGRATIONS.iter().skip(version as usize) {
            store.db.execute_batch(migration)?;
        }
        add_column(&store.db, "media")?;
        add_column(&store.db, "story")?;
        if version < WORDS_SINCE {
            index_all(&mut store)?;
        }
        store.db.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
        store.commit()?;
        Ok(store)
    }
}

/// Makes a place for the media that go with a message, 16 bytes each, or for the story that it replies to, 8 bytes for whoever posted it and 8
/// for its number, both little-endian. An older `tern` leaves them alone: the layout's number stays.
fn add_column(db: &Connection, name: &str) -> Result<(), Error> {
    let has = "SELECT EXISTS (SELECT 1 FROM pragma_table_info('outbox') WHERE name = ?)";
    if db.query_row(has, [name], |row| row.get(0))? {
        return Ok(());
    }
    for table in ["entries", "gone", "outbox"] {
        db.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {name} BLOB NOT NULL DEFAULT x''"))?;
    }
    Ok(())
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

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.to_string())
    }
}

#[cfg(test)]
mod tests;
