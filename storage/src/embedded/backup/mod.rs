//! Backups of a store that goes on serving: its tables' files as they were at one time (a base), and its log from there on. docs/STORAGE.md
//! has the format, and what is done when something fails.
//!
//! Commits never wait for a backup. What has not been archived yet the store keeps, within bounds; beyond them the chain is given up, and
//! a new one begins. The parts here know no thread, no clock and no entropy; a thread of the product steps them, or a simulation.

mod archive;
mod base;
mod chain;
mod error;
mod forge;
mod format;
mod key;
mod rate;
mod records;
mod restore;
mod retention;
mod state;
mod status;
mod target;
mod thread;
mod verify;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

pub use self::error::BackupError;
#[doc(hidden)]
pub use self::forge::{Forged, contents, forge};
pub use self::key::{Key, Keys};
pub use self::rate::RATE_MIN;
#[doc(hidden)]
pub use self::restore::restore_simulated;
pub use self::restore::{Point, Progress, RestoreOptions, Restored, restore};
pub use self::status::{BackupPhase, BackupStatus, BaseStatus, CopyStatus};
pub use self::thread::{Backups, Surroundings};
#[doc(hidden)]
pub use self::verify::verify_simulated;
pub use self::verify::{BaseReport, ChainReport, VerifyOptions, VerifyReport, verify};

use self::archive::{Archive, Place};
use self::base::{Copied, CopyError, Copying};
use self::rate::Rate;
use self::records::BaseRecord;
pub(super) use self::state::BackupState;
use self::target::{Opened, Opener};
use super::LAYOUT;
use super::applier::Backlog;
use super::hold::Hold;
use super::keeper::{Base, Keeper};
use super::log::{Follow, Followed, Segments};
use super::stepped::Stepped;
use super::tables::Tables;
use crate::medium::Medium;
use crate::mutations::{self, Mutation};
use crate::records::StoreRecord;

/// How long to wait after a failure: doubled with each that follows, up to the most.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// How often the store is told how far it is: a start keeps the log from there on, until it has looked.
const WRITE_EVERY: Duration = Duration::from_secs(10);

/// How often it looks for groups, if nothing else is to be done.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long to wait before a chain or a base begins after one was given up; and before the store is copied again of which a file has
/// rotted, or another chain begins when the one before came to no base either.
const AFTER_GIVING_UP: Duration = Duration::from_secs(60);
const AFTER_ROT: Duration = Duration::from_secs(600);

/// A base is made by itself when the log since the newest one has more bytes than the tables, and this many: it bounds what a
/// restore has to go through.
const LOG_BYTES_MIN: u64 = 1 << 30;

/// Bytes a second, unless somebody says otherwise.
pub const RATE: u64 = 32 << 20;

/// Bases that are kept, unless somebody says otherwise.
pub const KEEP: u32 = 2;

/// What an operator asks for.
#[derive(Clone, Debug)]
pub struct Start {
    /// Where the backup is to lie: an absolute path.
    pub dir: PathBuf,
    /// The key and its file; `None`: it is not encrypted.
    pub key: Option<(Key, PathBuf)>,
    /// An encrypted backup may go on in plain.
    pub plain: bool,
    /// Bytes a second.
    pub rate: u64,
    /// Bases that are kept.
    pub keep: u32,
    /// A new base is to be made, though there is one.
    pub base: bool,
}

/// The parts of a store that a backup looks at.
pub(super) struct Of<T: Tables> {
    pub(super) medium: T::Medium,
    pub(super) store: PathBuf,
    pub(super) keeper: Arc<Keeper<T>>,
    pub(super) backlog: Arc<Backlog>,
    pub(super) segments: Segments<T::Medium>,
    pub(super) hold: Arc<Hold>,
    /// The newest group when the store was opened.
    pub(super) opened_at: u64,
}

/// See the module.
pub(super) struct Backup<T: Tables> {
    of: Of<T>,
    /// The store's id; empty if it has none.
    id: Bytes,
    target: T::Medium,
    random: Box<dyn FnMut() -> [u8; 32] + Send>,
    phase: Phase<T::Medium>,
    state: Option<BackupState>,
    key: Option<Key>,
    rate: Rate,
    wants_base: bool,
    /// Groups up to this one were archived by this process, in the chain that it is at.
    archived: u64,
    /// When the store was told last how far that is.
    written: Duration,
    failures_in_row: u32,
    broken_in_row: u32,
    /// What is in its way; and what keeps it from making a base.
    trouble: Option<String>,
    no_base: Option<String>,
    status: BackupStatus,
}

enum Phase<M: Medium> {
    Off,
    /// It opens its directory, at this time or later. `anew`: with a new chain, whatever there is.
    Opening {
        at: Duration,
        anew: bool,
    },
    Following(Box<Following<M>>),
}

struct Following<M: Medium> {
    /// Nobody else writes there meanwhile.
    _lock: M::Lock,
    place: Place<M>,
    archive: Archive<M>,
    follow: Follow<M>,
    bases: Vec<BaseRecord>,
    /// What was copied of bases that came to no end.
    partial: Vec<BaseRecord>,
    /// The base that is being copied. When all its files are there it is told of as soon as the log goes far enough.
    copying: Option<Copying<M>>,
    /// When a base may be begun.
    base_at: Duration,
    /// What the chains before this one cover, in ms since the Unix epoch; 0 if they have no base.
    before_ms: u64,
    /// It ends when groups up to this one are archived.
    stop_at: Option<u64>,
}

/// What went wrong.
enum Trouble {
    /// The backup's directory, or the store's files for now: it is tried again.
    Again(String),
    /// What was archived can't be gone on with.
    Chain(String),
    /// The base that is copied comes to no end, and the next one waits for so long. The log goes on.
    Base(String, Duration),
}

fn at(path: &Path) -> impl Fn(io::Error) -> Trouble {
    move |error| Trouble::Again(format!("{}: {error}", path.display()))
}

fn base_fails(path: &Path, error: &io::Error) -> Trouble {
    Trouble::Base(format!("no base is copied for now: {}: {error}", path.display()), AFTER_GIVING_UP)
}

impl<T: Tables> Of<T> {
    /// Whether the log may go on. Where neither disk has room they are one, perhaps, and what is archived there commits lack.
    fn has_any_room(&self, target: &T::Medium, dir: &Path) -> Result<(), Trouble> {
        let free = |medium: &T::Medium, path: &Path| medium.free_bytes(path).map_err(at(path));
        let min = self.hold.free_bytes_min();
        let (store, backup) = (free(&self.medium, &self.store)?, free(target, dir)?);
        if store >= min || backup >= min {
            return Ok(());
        }
        Err(Trouble::Again(format!("{} has {backup} bytes free, and the store {store}", dir.display())))
    }

    /// Whether a base may take so many bytes more of the backup's disk, which may be the store's own. It leaves more than the log does, which
    /// leaves more than commits.
    fn has_room(&self, target: &T::Medium, dir: &Path, bytes: u64) -> Result<(), Trouble> {
        if bytes == 0 {
            // It takes nothing, and with it older ones go.
            return Ok(());
        }
        let lacks = |path: &Path, free: u64, needs: u64| {
            let why = format!("{} has {free} bytes free, and a base waits for {needs}", path.display());
            Err(Trouble::Base(why, AFTER_GIVING_UP))
        };
        let min = self.hold.free_bytes_min();
        let free = self.medium.free_bytes(&self.store).map_err(|error| base_fails(&self.store, &error))?;
        if free < min {
            return lacks(&self.store, free, min);
        }
        let needs = bytes.saturating_add(min.saturating_add(min / 2));
        let free = target.free_bytes(dir).map_err(|error| base_fails(dir, &error))?;
        if free < needs { lacks(dir, free, needs) } else { Ok(()) }
    }
}

impl<T: Tables> Backup<T> {
    /// That goes on with what the store says, if it says anything. `target`: what the backup lies on.
    pub(super) fn new(
        (of, state): (Of<T>, Option<BackupState>),
        id: Bytes,
        target: T::Medium,
        random: Box<dyn FnMut() -> [u8; 32] + Send>,
        read_key: &dyn Fn(&Path) -> io::Result<Key>,
    ) -> Self {
        let rate = Rate::new(state.as_ref().map_or(RATE, |state| state.rate));
        let archived = of.opened_at;
        let mut backup = Self {
            of,
            id,
            target,
            random,
            phase: Phase::Off,
            state: None,
            key: None,
            rate,
            wants_base: false,
            archived,
            written: Duration::ZERO,
            failures_in_row: 0,
            broken_in_row: 0,
            trouble: None,
            no_base: None,
            status: BackupStatus::default(),
        };
        if let Some(state) = state {
            let key = state.key_file().map(read_key).transpose();
            match key {
                Ok(key) => {
                    (backup.key, backup.phase) = (key, Phase::Opening { at: Duration::ZERO, anew: false })
                }
                // Its log is kept meanwhile: whoever starts it again with the key goes on.
                Err(error) => {
                    backup.trouble = Some(format!("the key can't be read ({error}): start the backup again"));
                    backup.status.failures += 1;
                }
            }
            backup.state = Some(state);
        }
        backup
    }

    /// What an operator is told.
    pub(super) fn status(&mut self) -> BackupStatus {
        let status = &mut self.status;
        status.newest = self.of.backlog.newest();
        status.trouble = self.trouble.clone().or_else(|| self.no_base.clone());
        status.rate = self.rate.per_s();
        status.key_id = self.key.as_ref().map_or(0, Key::id);
        status.kept_bytes = if self.of.hold.is_on() { self.of.keeper.kept_bytes().unwrap_or(0) } else { 0 };
        status.pinned = self.of.hold.pinned();
        if let Some(state) = &self.state {
            (status.dir, status.chain, status.archived) = (state.dir(), state.chain, state.archived);
        }
        status.copying = None;
        status.phase = match &self.phase {
            Phase::Off if self.state.is_some() => BackupPhase::Waiting,
            Phase::Off => BackupPhase::Off,
            Phase::Opening { .. } if status.trouble.is_some() => BackupPhase::Waiting,
            Phase::Opening { .. } => BackupPhase::Opening,
            Phase::Following(following) => {
                let head = &following.archive.head;
                let is_whole = !following.bases.is_empty();
                status.archived = head.last;
                status.covers_ms = if is_whole { head.covers_ms } else { following.before_ms };
                status.base = following.bases.last().map(|base| BaseStatus {
                    number: base.number,
                    time_ms: base.time_ms,
                    whole_at: base.whole_at,
                    bytes: base.bytes(),
                });
                status.copying = following.copying.as_ref().map(|copying| {
                    let (files_done, files) = copying.files();
                    CopyStatus {
                        number: copying.record.number,
                        files,
                        files_done,
                        bytes: copying.record.bytes(),
                        bytes_done: copying.done_bytes,
                        bytes_reused: copying.reused_bytes,
                    }
                });
                match following {
                    following if following.stop_at.is_some() => BackupPhase::Stopping,
                    _ if !is_whole => BackupPhase::Base,
                    _ => BackupPhase::Following,
                }
            }
        };
        status.clone()
    }

    /// Begins, or goes on with other settings.
    pub(super) fn start(&mut self, start: Start, now: Duration) -> Result<(), String> {
        if !start.dir.is_absolute() {
            return Err("the directory of a backup is an absolute path".to_owned());
        }
        let key_id = |key: &Option<Key>| key.as_ref().map_or(0, Key::id);
        let (key, key_file) = start.key.map_or((None, None), |(key, file)| (Some(key), Some(file)));
        let same_dir = self.state.as_ref().is_some_and(|state| state.dir() == start.dir);
        let was_encrypted = self.state.as_ref().is_some_and(|state| state.key_id != 0);
        if same_dir && was_encrypted && key.is_none() && !start.plain {
            return Err("that backup is encrypted: name its key's file, or say that it is to go on in plain"
                .to_owned());
        }
        let known = self.state.take().filter(|_| same_dir);
        let mut state = BackupState::new(&start.dir, key_file.as_deref(), key_id(&key));
        (state.rate, state.keep, state.plain) = (start.rate.max(RATE_MIN), start.keep.max(1), start.plain);
        let mut anew =
            self.of.hold.given_up().is_some() || matches!(self.phase, Phase::Opening { anew: true, .. });
        if let Some(known) = known {
            let other_key = known.key_id != state.key_id;
            (state.backup, state.archived) = (known.backup, known.archived);
            state.chain = known.chain;
            if other_key {
                self.leave();
            }
        } else {
            self.leave();
            self.of.hold.end();
            self.forget_status();
            anew = false;
        }
        (self.key, self.wants_base) = (key, self.wants_base || start.base);
        self.rate.set(state.rate);
        let written = state.write(&self.of.medium, &self.of.store);
        self.state = Some(state);
        (self.trouble, self.no_base) = (None, None);
        (self.failures_in_row, self.broken_in_row) = (0, 0);
        if let Phase::Following(following) = &mut self.phase {
            following.stop_at = None;
            following.base_at = following.base_at.min(now);
        } else {
            self.phase = Phase::Opening { at: now, anew };
        }
        written.map_err(|error| format!("that a backup goes on can't be written down: {error}"))
    }

    /// Has it end when what is durable now is archived; at once if it is in trouble.
    pub(super) fn stop(&mut self) {
        match &mut self.phase {
            Phase::Following(following) => {
                following.stop_at.get_or_insert(self.of.backlog.newest());
            }
            Phase::Opening { .. } | Phase::Off => self.end(),
        }
    }

    /// Changes how fast it copies.
    pub(super) fn set_rate(&mut self, per_s: u64) -> Result<(), String> {
        let Some(state) = &mut self.state else { return Err("no backup goes on".to_owned()) };
        self.rate.set(per_s);
        state.rate = self.rate.per_s();
        let written = state.write(&self.of.medium, &self.of.store);
        written.map_err(|error| format!("the rate holds until the next start alone: {error}"))
    }

    /// The process is about to end, and commits nothing more. Archives what there is, as far as that goes without trouble. Gives
    /// whether anything may be left to do.
    pub(super) fn finish(&mut self, now: Duration, now_ms: u64) -> bool {
        let newest = self.of.backlog.newest();
        let Phase::Following(following) = &mut self.phase else { return false };
        if following.archive.head.last >= newest {
            return false;
        }
        match self.follow(now, now_ms, true) {
            Ok(_) => true,
            Err(trouble) => {
                self.fails(trouble, now);
                false
            }
        }
    }

    /// Does a little. `now` never falls; `now_ms` is what clocks say, in ms since the Unix epoch.
    pub(super) fn step(&mut self, now: Duration, now_ms: u64) -> Stepped {
        if let Some(why) = self.of.hold.given_up()
            && matches!(self.phase, Phase::Following(_) | Phase::Opening { anew: false, .. })
        {
            return self.fails(Trouble::Chain(why), now);
        }
        let done = match self.phase {
            Phase::Off => return Stepped::Nothing,
            Phase::Opening { at, .. } if at > now => return Stepped::Later(at - now),
            Phase::Opening { anew, .. } => self.open(anew, now, now_ms).map(|()| Stepped::Did),
            Phase::Following(_) => self.follow(now, now_ms, false),
        };
        match done {
            Ok(stepped) => stepped,
            Err(trouble) => self.fails(trouble, now),
        }
    }

    fn fails(&mut self, trouble: Trouble, now: Duration) -> Stepped {
        self.status.failures += 1;
        let stops = matches!(&self.phase, Phase::Following(following) if following.stop_at.is_some());
        let (wait, anew, why) = match trouble {
            Trouble::Again(why) => {
                let wait = RETRY_MIN.saturating_mul(1 << self.failures_in_row.min(6)).min(RETRY_MAX);
                self.failures_in_row += 1;
                (wait, matches!(self.phase, Phase::Opening { anew: true, .. }), why)
            }
            Trouble::Chain(why) => {
                self.status.broken += 1;
                let wait = if self.broken_in_row == 0 { AFTER_GIVING_UP } else { AFTER_ROT };
                self.broken_in_row += 1;
                (wait, true, format!("the chain was given up: {why}"))
            }
            Trouble::Base(why, wait) => {
                self.no_base = Some(why);
                self.drop_base();
                if let Phase::Following(following) = &mut self.phase {
                    following.base_at = now + wait;
                    self.wants_base |= following.bases.is_empty();
                }
                return Stepped::Did;
            }
        };
        if stops {
            self.end();
            self.trouble = Some(format!("it has ended before all was archived: {why}"));
            return Stepped::Did;
        }
        self.trouble = Some(why);
        self.leave();
        self.phase = Phase::Opening { at: now + wait, anew };
        Stepped::Later(wait)
    }

    /// Leaves its directory, and keeps what it holds of the log.
    fn leave(&mut self) {
        self.drop_base();
        if let Phase::Following(following) = &mut self.phase {
            self.archived = self.archived.max(following.follow.number() - 1);
            self.phase = Phase::Opening { at: Duration::ZERO, anew: false };
        }
    }

    /// A base that is copied comes to no end. The next one need not copy what this one did.
    fn drop_base(&mut self) {
        if let Phase::Following(following) = &mut self.phase
            && let Some(copying) = following.copying.take()
        {
            self.wants_base = true;
            following.partial.extend(copying.abandon(&following.place, (self.random)()));
        }
        self.of.hold.unpin_all();
    }

    /// There is no backup any more.
    fn end(&mut self) {
        self.leave();
        (self.phase, self.key) = (Phase::Off, None);
        (self.trouble, self.no_base, self.wants_base) = (None, None, false);
        self.forget_status();
        if self.state.take().is_some()
            && let Err(error) = BackupState::remove(&self.of.medium, &self.of.store)
        {
            self.trouble = Some(format!("the next start goes on with it: {error}"));
        }
        self.of.hold.end();
        // What can't be let go now is let go by the next flush.
        let _ = self.of.keeper.let_go();
    }

    /// What was said of a backup is not of the next one.
    fn forget_status(&mut self) {
        let BackupStatus { failures, broken, bytes, .. } = self.status;
        self.status = BackupStatus { failures, broken, bytes, ..BackupStatus::default() };
    }

    fn open(&mut self, anew: bool, now: Duration, now_ms: u64) -> Result<(), Trouble> {
        let state = self.state.as_mut().expect("what is opened was asked for");
        let mut opener = Opener {
            of: &self.of,
            id: &self.id,
            target: &self.target,
            key: self.key.as_ref(),
            random: &mut *self.random,
            archived: self.archived,
            now_ms,
        };
        let Opened { lock, place, head, bases, partial, base, before_ms } = opener.open(state, anew)?;
        self.archived = head.last;
        let follow = Follow::new(self.of.segments.clone(), head.last + 1);
        // A new chain begins with a base, and needs no other. One that came to no end is begun again.
        let lacks_base = bases.is_empty() || !partial.is_empty();
        self.wants_base = base.is_none() && (self.wants_base || lacks_base);
        let archive = Archive::new(place.clone(), head, now);
        let following = Following {
            _lock: lock,
            place,
            archive,
            follow,
            bases,
            partial,
            copying: None,
            base_at: now,
            before_ms,
            stop_at: None,
        };
        self.phase = Phase::Following(Box::new(following));
        base.map_or(Ok(()), |base| self.begin_base(base, now, now_ms))
    }

    /// Begins to copy a base, if there is room for it.
    fn begin_base(&mut self, base: Base, now: Duration, now_ms: u64) -> Result<(), Trouble> {
        let Phase::Following(following) = &mut self.phase else { unreachable!("it follows") };
        let left_bytes = following.copy(base, now, now_ms)?;
        self.wants_base = false;
        self.of.has_room(&self.target, &following.place.dir, left_bytes)
    }

    /// A step of following. `ends`: nothing else is to be done but to archive.
    fn follow(&mut self, now: Duration, now_ms: u64, ends: bool) -> Result<Stepped, Trouble> {
        let Self { of, phase: Phase::Following(following), random, .. } = self else {
            unreachable!("it follows");
        };
        let newest = of.backlog.newest() + u64::from(mutations::is(Mutation::ArchiveBeforeSync));
        let Following { archive, follow, stop_at, place, copying, .. } = &mut **following;
        archive.note(newest, now, now_ms);
        let is_read = follow.number() > stop_at.map_or(newest, |stop_at| stop_at.min(newest));
        // A base that is copied waits for the log.
        let waits = |copying: &Copying<_>| copying.is_whole && archive.head.last < copying.record.whole_at;
        let is_waited_for = copying.as_ref().is_some_and(waits) && !mutations::is(Mutation::BaseWithoutTail);
        let is_asked = is_read && (ends || stop_at.is_some() || is_waited_for) && archive.has_gathered();
        if now >= archive.due() || archive.is_full() || is_asked {
            of.has_any_room(&self.target, &place.dir)?;
            let bytes = archive.append((now, now_ms), random).map_err(at(&place.dir))?;
            return self.archived(bytes, now);
        }
        if stop_at.is_some_and(|stop_at| archive.head.last >= stop_at) {
            self.end();
            return Ok(Stepped::Did);
        }
        if !is_read {
            return self.read(newest);
        }
        if ends {
            return Ok(Stepped::Nothing);
        }
        let due = archive.due();
        let stepped = self.base(now, now_ms)?;
        Ok(stepped.unwrap_or(Stepped::Later(due.saturating_sub(now).min(LOOK_EVERY))))
    }

    /// Takes up to a chunk of groups.
    fn read(&mut self, newest: u64) -> Result<Stepped, Trouble> {
        let Self { of, phase: Phase::Following(following), rate, .. } = self else {
            unreachable!("it follows");
        };
        let mut bytes = 0;
        while following.follow.number() <= newest && bytes < format::CHUNK_BYTES_MAX {
            let number = following.follow.number();
            match following.follow.next().map_err(at(&of.store))? {
                Followed::Group(payload) => {
                    bytes += payload.len();
                    following.archive.take(number, payload);
                }
                Followed::Gone | Followed::Damaged if number > of.backlog.newest() => break,
                Followed::Gone => return Err(Trouble::Chain(format!("group {number} has left the log"))),
                Followed::Damaged => {
                    return Err(Trouble::Chain(format!("group {number} is damaged in the store's log")));
                }
            }
        }
        rate.took(bytes as u64);
        if mutations::is(Mutation::ReleaseBeforeHead) {
            of.hold.advance(following.follow.number() - 1);
            let _ = of.keeper.let_go();
        }
        Ok(Stepped::Did)
    }

    /// More is archived than before.
    fn archived(&mut self, bytes: u64, now: Duration) -> Result<Stepped, Trouble> {
        let Self { of, phase: Phase::Following(following), state: Some(state), .. } = self else {
            unreachable!("it follows");
        };
        self.archived = following.archive.head.last;
        state.archived = self.archived;
        self.status.bytes += bytes;
        (self.failures_in_row, self.trouble) = (0, None);
        of.hold.advance(self.archived);
        if now >= self.written + WRITE_EVERY {
            self.written = now;
            state.write(&of.medium, &of.store).map_err(at(&of.store))?;
        }
        of.keeper.let_go().map_err(at(&of.store))?;
        Ok(Stepped::Did)
    }

    /// Goes on with a base, or begins one. `None`: there is nothing to do now.
    fn base(&mut self, now: Duration, now_ms: u64) -> Result<Option<Stepped>, Trouble> {
        let Self { of, phase: Phase::Following(following), random, rate, .. } = self else {
            unreachable!("it follows");
        };
        if following.copying.is_none() {
            let since = following.bases.last().map(|base| (base.log_bytes, base.bytes()));
            let is_long = since.is_some_and(|(log_bytes, bytes)| {
                following.archive.head.log_bytes.saturating_sub(log_bytes) > bytes.max(LOG_BYTES_MIN)
            });
            if now < following.base_at || !(self.wants_base || is_long) {
                return Ok(None);
            }
            let base = of.keeper.base(&of.backlog, false).map_err(|error| base_fails(&of.store, &error))?;
            self.begin_base(base, now, now_ms)?;
            return Ok(Some(Stepped::Did));
        }
        if following.copying.as_ref().is_some_and(|copying| copying.is_whole) {
            return self.finish_base();
        }
        let wait = rate.wait(now);
        if !wait.is_zero() {
            return Ok(Some(Stepped::Later(wait)));
        }
        let Following { bases, partial, place, copying, .. } = &mut **following;
        let copying = copying.as_mut().expect("there is one");
        of.has_room(&self.target, &place.dir, copying.left_bytes.min(format::CHUNK_BYTES_MAX as u64))?;
        match copying.step((&of.medium, &of.store), place, [bases, partial], now, random) {
            Ok(Copied::Bytes(bytes, whole)) => {
                rate.took(bytes);
                self.status.bytes += bytes;
                if let Some(index) = whole {
                    of.hold.unpin(index);
                }
            }
            Ok(Copied::All) => of.hold.unpin_all(),
            Err(CopyError::Target(error)) => return Err(base_fails(&place.dir, &error)),
            // The hold let it go, for the disk was full.
            Err(CopyError::Source(_, error))
                if error.kind() == io::ErrorKind::NotFound && of.hold.pinned() == 0 =>
            {
                let why = "there is no room for what a base keeps of the store: it is begun again".to_owned();
                return Err(Trouble::Base(why, AFTER_GIVING_UP));
            }
            Err(CopyError::Source(path, error)) if error.kind() != io::ErrorKind::NotFound => {
                return Err(base_fails(&path, &error));
            }
            Err(CopyError::Source(path, _) | CopyError::Rotten(path)) => {
                let why = format!("the store is damaged at {}: `ternctl check` says more", path.display());
                return Err(Trouble::Base(why, AFTER_ROT));
            }
        }
        Ok(Some(Stepped::Did))
    }

    /// Tells of a base when the log goes as far as its files do.
    fn finish_base(&mut self) -> Result<Option<Stepped>, Trouble> {
        let Self { phase: Phase::Following(following), random, state: Some(state), .. } = self else {
            unreachable!("it follows");
        };
        let copying = following.copying.as_ref().expect("there is one");
        if following.archive.head.last < copying.record.whole_at && !mutations::is(Mutation::BaseWithoutTail)
        {
            return Ok(None);
        }
        let failed = at(&following.place.dir);
        let salt = random();
        copying.finish(&following.place, salt).map_err(&failed)?;
        let record = copying.record.clone();
        (following.archive.head.base, following.archive.head.base_salt) =
            (record.number, Bytes::copy_from_slice(&salt));
        following.archive.write_head(random()).map_err(&failed)?;
        following.bases.push(record);
        following.copying = None;
        let dir = state.dir();
        let (chain, keep) = (state.chain, state.keep as usize);
        following.partial.clear();
        let bases = &mut following.bases;
        (self.no_base, self.broken_in_row) = (None, 0);
        // The base is there, and what is not needed any more goes with the next one.
        let tidied = retention::tidy(&self.target, &dir, keep, (chain, bases));
        tidied.map_err(|error| {
            let why = format!("what is not needed any more stays in {}: {error}", dir.display());
            Trouble::Base(why, AFTER_GIVING_UP)
        })?;
        Ok(Some(Stepped::Did))
    }
}

impl<M: Medium> Following<M> {
    /// What need not be copied again.
    fn known(&self) -> [&[BaseRecord]; 2] {
        [&self.bases, &self.partial]
    }

    /// Begins to copy a base, under the next number. Gives the bytes that it takes.
    fn copy(&mut self, base: Base, now: Duration, now_ms: u64) -> Result<u64, Trouble> {
        let head = &self.archive.head;
        let numbers = self.bases.iter().chain(&self.partial).map(|base| base.number);
        let number = (head.chain, numbers.max().unwrap_or(0) + 1);
        let times = (now_ms, head.log_bytes);
        let copying = Copying::new(base, &self.place, self.known(), number, LAYOUT, times, now);
        let copying = copying.map_err(|error| base_fails(&self.place.dir, &error))?;
        Ok(self.copying.insert(copying).left_bytes)
    }
}

/// The id in a store's record; empty if there is none, or it can't be read.
pub(super) fn store_id(record: Option<Bytes>) -> Bytes {
    record.and_then(|value| StoreRecord::decode(value).ok()).unwrap_or_default().id
}
