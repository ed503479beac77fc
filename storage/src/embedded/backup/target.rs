//! Opening the directory of a backup to write to it: whose it is, whether its chain can be gone on with, or another begins.

use std::io;
use std::path::Path;

use bytes::Bytes;
use prost::Message as _;
use xxhash_rust::xxh3::xxh3_64;

use super::archive::Place;
use super::chain::{Backups, Chain, base_numbers, chain_path, numbers};
use super::error::BackupError;
use super::format::{self, BackupId, Kind, Salt};
use super::key::{Key, Keys};
use super::records::{
    BACKUP, BASES, BackupRecord, BaseRecord, FILES, HEAD, HeadRecord, LOCK, LOG, PARTIAL, log_path,
    read_record,
};
use super::state::BackupState;
use super::{Of, Trouble, at, base, retention};
use crate::embedded::keeper::Base;
use crate::embedded::log::{Follow, Followed};
use crate::embedded::tables::Tables;
use crate::medium::{Locking, Medium};
use crate::mutations::{self, Mutation};

/// What opens it.
pub(super) struct Opener<'a, T: Tables> {
    pub(super) of: &'a Of<T>,
    pub(super) id: &'a Bytes,
    pub(super) target: &'a T::Medium,
    pub(super) key: Option<&'a Key>,
    pub(super) random: &'a mut (dyn FnMut() -> Salt + Send),
    /// Groups up to this one are of the past of this process: those that it found, and those that it archived.
    pub(super) archived: u64,
    pub(super) now_ms: u64,
}

/// An opened directory.
pub(super) struct Opened<M: Medium> {
    pub(super) lock: M::Lock,
    pub(super) place: Place<M>,
    pub(super) head: HeadRecord,
    pub(super) bases: Vec<BaseRecord>,
    pub(super) partial: Vec<BaseRecord>,
    /// What a new chain begins with.
    pub(super) base: Option<Base>,
    /// What the chains before this one cover, in ms since the Unix epoch; 0 if they have no base.
    pub(super) before_ms: u64,
}

/// What of a chain there is to go on with.
type Found = (HeadRecord, Vec<BaseRecord>, Vec<BaseRecord>);

impl<T: Tables> Opener<'_, T> {
    /// Opens the directory that the state names, and has the state say which chain is written. `anew`: another one than before.
    pub(super) fn open(&mut self, state: &mut BackupState, anew: bool) -> Result<Opened<T::Medium>, Trouble> {
        let dir = state.dir();
        let is_first = state.backup.is_empty();
        if is_first {
            self.make(&dir).map_err(at(&dir))?;
        } else if !self.target.exists(&dir) {
            return Err(Trouble::Again(format!("{} is not there: is it mounted?", dir.display())));
        }
        let lock = match self.target.lock(&dir.join(LOCK)).map_err(at(&dir))? {
            Locking::Taken(lock) => lock,
            Locking::Held(_) => {
                return Err(Trouble::Again(format!("another ternd writes to {}", dir.display())));
            }
        };
        let backup = self.backup(&dir, state, is_first)?;
        state.backup = Bytes::copy_from_slice(&backup);
        let newest = numbers(self.target, &dir).map_err(at(&dir))?.into_iter().max().unwrap_or(0);
        let chain = if state.chain == 0 { newest } else { state.chain };
        if chain == newest && chain > 0 && !anew {
            let found = self.go_on(&dir, newest, state)?;
            if let Some((head, bases, partial)) = found {
                state.chain = chain;
                self.of.hold.begin(head.last);
                self.write(state)?;
                let place = self.place(chain_path(&dir, chain), backup);
                let before_ms = self.covered_before(&dir, chain);
                return Ok(Opened { lock, place, head, bases, partial, base: None, before_ms });
            }
        }
        let chain = newest.max(state.chain) + 1;
        self.may_begin(&dir, state)?;
        // Nothing can be restored from those. What can't be removed is in nobody's way.
        let _ = retention::remove_baseless(self.target, &dir);
        let (place, head, base) = self.begin(&dir, chain, backup)?;
        (state.chain, state.archived) = (chain, head.last);
        self.write(state)?;
        let (bases, partial, before_ms) = (Vec::new(), Vec::new(), self.covered_before(&dir, chain));
        Ok(Opened { lock, place, head, bases, partial, base: Some(base), before_ms })
    }

    /// Whether a chain may begin: not in plain where one is encrypted, unless somebody has said so.
    fn may_begin(&self, dir: &Path, state: &BackupState) -> Result<(), Trouble> {
        let keys = self.keys();
        if self.key.is_some() || state.plain {
            return Ok(());
        }
        let backups =
            Backups::open(self.target, dir, &keys).map_err(|error| Trouble::Again(error.to_string()))?;
        let chains = backups.chains().map_err(|error| Trouble::Again(error.to_string()))?;
        if chains.iter().any(|chain| matches!(backups.chain(*chain), Err(BackupError::NoKey { .. }))) {
            let why = "is encrypted: name its key's file, or say that it is to go on in plain";
            return Err(Trouble::Again(format!("the backup in {} {why}", dir.display())));
        }
        Ok(())
    }

    /// What chains before this one cover, as far as they can be read.
    fn covered_before(&self, dir: &Path, number: u32) -> u64 {
        let keys = self.keys();
        let Ok(backups) = Backups::open(self.target, dir, &keys) else { return 0 };
        let older = backups.chains().unwrap_or_default().into_iter().filter(|chain| *chain < number);
        let covers = older.filter_map(|chain| {
            let chain = backups.chain(chain).ok()?;
            let has_base = chain.base_numbers(false).is_ok_and(|bases| !bases.is_empty());
            has_base.then_some(chain.head.covers_ms)
        });
        covers.max().unwrap_or(0)
    }

    /// Has a directory be there, durably. One that is there keeps its rights: it is the operator's.
    fn make(&self, dir: &Path) -> io::Result<()> {
        if !self.target.exists(dir) {
            return self.target.make_dir(dir);
        }
        // It may have been made by an attempt that then failed. One in whose parent nobody may look was not.
        match dir.parent().map(|parent| self.target.sync_dir(parent)) {
            Some(Err(error)) if error.kind() != io::ErrorKind::PermissionDenied => Err(error),
            _ => Ok(()),
        }
    }

    fn write(&self, state: &BackupState) -> Result<(), Trouble> {
        state.write(&self.of.medium, &self.of.store).map_err(at(&self.of.store))
    }

    fn place(&self, dir: std::path::PathBuf, backup: BackupId) -> Place<T::Medium> {
        Place { medium: self.target.clone(), dir, backup, key: self.key.cloned() }
    }

    fn keys(&self) -> Keys {
        self.key.cloned().into_iter().collect()
    }

    /// The id of the backup in the directory, which must be of this store; one is begun where there is none, if it is the first time.
    fn backup(&mut self, dir: &Path, state: &BackupState, is_first: bool) -> Result<BackupId, Trouble> {
        let path = dir.join(BACKUP);
        if !self.target.exists(&path) {
            if !is_first {
                return Err(Trouble::Again(format!("{} holds no backup: is it mounted?", dir.display())));
            }
            // What is let go of one day must not be somebody else's.
            let is_ours = |path: &std::path::PathBuf| {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                [LOCK, "lost+found", "backup.unfinished"].contains(&name)
            };
            if !self.target.list(dir).map_err(at(dir))?.iter().all(is_ours) {
                let why =
                    format!("{} holds something else: a backup wants a directory of its own", dir.display());
                return Err(Trouble::Again(why));
            }
            let salt = (self.random)();
            let id: BackupId = *salt.first_chunk().expect("32 bytes");
            let record = BackupRecord { store: self.id.clone(), created_ms: self.now_ms };
            let names = (id, (self.random)());
            let content = record.encode_to_vec();
            format::replace(self.target, &path, Kind::Backup, names, None, &content).map_err(at(&path))?;
            return Ok(id);
        }
        let found = read_record::<_, BackupRecord>(self.target, &path, Kind::Backup, None, &Keys::default());
        let (header, record) = found.map_err(|error| Trouble::Again(error.to_string()))?;
        if record.store != self.id {
            return Err(Trouble::Again(format!("{} holds the backup of another store", dir.display())));
        }
        if !is_first && state.backup != header.backup[..] {
            return Err(Trouble::Again(format!("{} holds another backup than before", dir.display())));
        }
        Ok(header.backup)
    }

    /// Has the names that are found in a chain be there after a power cut too: who gave them may have failed before their directories
    /// were synced, and what the store lets go rests on them.
    fn sync_names(&self, dir: &Path, chain: &Path) -> Result<(), Trouble> {
        if mutations::is(Mutation::TrustNames) {
            return Ok(());
        }
        let parts = [FILES, BASES, LOG].map(|part| chain.join(part));
        let dirs = [dir, chain].into_iter().chain(parts.iter().map(|path| &**path));
        dirs.filter(|dir| self.target.exists(dir))
            .try_for_each(|dir| self.target.sync_dir(dir))
            .map_err(at(dir))
    }

    /// What of the newest chain there is to go on with; `None` if it can't be gone on with.
    fn go_on(&self, dir: &Path, newest: u32, state: &BackupState) -> Result<Option<Found>, Trouble> {
        self.sync_names(dir, &chain_path(dir, newest))?;
        let keys = self.keys();
        let or_none = |error: BackupError| match error {
            BackupError::Io { .. } if !error.is_damage() => Err(Trouble::Again(error.to_string())),
            _ => Ok(None),
        };
        let backups = match Backups::open(self.target, dir, &keys) {
            Ok(backups) => backups,
            Err(error) => return or_none(error),
        };
        let chain = match backups.chain(newest) {
            Ok(chain) => chain,
            Err(error) => return or_none(error),
        };
        if chain.key_id != self.key.map_or(0, Key::id) || !self.is_of_this_past(&chain.head, state)? {
            return Ok(None);
        }
        match self.read(&chain) {
            Ok((bases, partial)) => Ok(Some((chain.head, bases, partial))),
            Err(error) => or_none(error),
        }
    }

    /// What is behind the head goes, and what no base names; and the bases, those that came to no end too.
    fn read(&self, chain: &Chain<'_, T::Medium>) -> Result<(Vec<BaseRecord>, Vec<BaseRecord>), BackupError> {
        let io = |error| BackupError::io(&chain.dir, error);
        let named = chain.head.log.as_ref().map(|place| log_path(&chain.dir, place));
        for (first, path) in retention::log_files(self.target, &chain.dir).map_err(io)? {
            if first > chain.head.last && Some(&path) != named.as_ref() {
                self.target.remove(&path).map_err(io)?;
            }
        }
        if let Some(place) = &chain.head.log {
            chain.items(place)?;
        }
        let bases = chain.base_numbers(false)?.into_iter().map(|number| chain.base(number));
        let bases = bases.collect::<Result<Vec<_>, _>>()?;
        let mut partial = Vec::new();
        for number in base_numbers(self.target, &chain.dir, true).map_err(io)? {
            let path = base::path(&chain.dir, number).with_extension(PARTIAL);
            // Without it more is copied, and no more.
            let found = read_record::<_, BaseRecord>(self.target, &path, Kind::Base, None, &self.keys());
            let found = found.ok().map(|(_, record)| record);
            partial
                .extend(found.filter(|record| (record.chain, record.number) == (chain.head.chain, number)));
        }
        // A base that is there needs no word of what it was when it was copied.
        let newest = bases.last().map_or(0, |base| base.number);
        partial.retain(|partial| partial.number > newest);
        // What can't be removed now goes another time.
        let _ = retention::tidy_files(self.target, &chain.dir, bases.iter().chain(&partial));
        Ok((bases, partial))
    }

    /// Whether a chain ends in what the store has gone through, and the store still has all that follows.
    fn is_of_this_past(&self, head: &HeadRecord, state: &BackupState) -> Result<bool, Trouble> {
        let is_any = mutations::is(Mutation::ContinueForeignChain);
        if head.last > self.archived && !is_any {
            return Ok(false);
        }
        let store = at(&self.of.store);
        let follows = head.last == self.of.backlog.newest() || {
            let mut follow = Follow::new(self.of.segments.clone(), head.last + 1);
            matches!(follow.next().map_err(&store)?, Followed::Group(_))
        };
        let is_known = state.chain == head.chain;
        if head.log.is_none() {
            return Ok(follows && is_known);
        }
        // A store that was put back, or restored, may have had other groups of the same numbers.
        let mut last = Follow::new(self.of.segments.clone(), head.last);
        let is_same = match last.next().map_err(&store)? {
            Followed::Group(payload) => Some(xxh3_64(&payload) == head.last_sum),
            Followed::Gone | Followed::Damaged => None,
        };
        Ok(follows && (is_same.unwrap_or(is_known) || is_any))
    }

    /// Begins a chain.
    fn begin(
        &mut self,
        dir: &Path,
        number: u32,
        backup: BackupId,
    ) -> Result<(Place<T::Medium>, HeadRecord, Base), Trouble> {
        let place = self.place(chain_path(dir, number), backup);
        for part in [FILES, BASES, LOG] {
            let path = place.dir.join(part);
            self.target.make_dir(&path).map_err(at(&path))?;
        }
        let base = self.of.keeper.base(&self.of.backlog, true).map_err(at(&self.of.store))?;
        let (first, last) = (base.flushed + 1, base.flushed);
        let head = HeadRecord { chain: number, first, last, ..HeadRecord::default() };
        let (content, names) = (head.encode_to_vec(), (backup, (self.random)()));
        let path = place.dir.join(HEAD);
        format::replace(self.target, &path, Kind::Head, names, self.key, &content).map_err(at(&path))?;
        Ok((place, head, base))
    }
}
