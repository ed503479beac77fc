//! A store that is backed up onto another medium while it is written to, killed, cut off and put back; and what must hold of the
//! backup whatever happens: one that was told to go so far does, each point of it is exactly what the store was then, and the
//! store itself is never held up.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tern_storage::embedded::backup::{
    BackupError, BackupPhase, Key, Keys, Point, RestoreOptions, Restored, Start, VerifyOptions, VerifyReport,
    restore_simulated, verify_simulated,
};
use tern_storage::embedded::{EmbeddedOptions, OpenError, Step, Stepped, SteppedEngine};
use tern_storage::medium::simulated::{Fault, Odds};
use tern_storage::medium::stream::Stream;
use tern_storage::medium::{Medium as _, MediumFile as _, Opening, SimulatedMedium};
use tern_storage::records::StoreRecord;
use tern_storage::{
    Batch, CommitId, Completion, Direction, Engine as _, Fence, Key as RowKey, KeyRange, LogId, Port,
    ScanLimit, StoreError, Wake, keys,
};

const STORE: &str = "node/store";
const DIR: &str = "/backup";
const LIVES: usize = 5;
const USERS: u64 = 12;

/// Bytes of the log that the store keeps for a backup at most, in a world where that is tried.
const KEPT_MAX: u64 = 16 << 10;

/// What of the log there may be beside: what is not flushed yet.
const UNFLUSHED_MAX: u64 = 80 << 10;

/// Nobody sleeps.
struct Quiet;

impl Wake for Quiet {
    fn wake(&self) {}
}

/// What a world is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Kills and power cuts: the backup goes on in its chain.
    Crashes,
    /// The backup's medium fails now and then as well, and the store's syncs.
    Troubles,
    /// It does nothing but fail, in the middle of it.
    Dead,
    /// Operators start and stop it, change its key, and clocks are set back.
    Operators,
    /// The store is put back from a copy.
    PutBack,
    /// A file of the tables rots before it is copied.
    Rot,
}

impl Kind {
    /// Each has so many seeds as another.
    pub fn of(seed: u64) -> Self {
        let all = [Self::Crashes, Self::Troubles, Self::Dead, Self::Operators, Self::PutBack, Self::Rot];
        all[(seed % all.len() as u64) as usize]
    }
}

/// What went on in a run, for the tests that ask whether anything did.
#[derive(Default, Debug)]
pub struct Tally {
    pub restores: u64,
    pub points: u64,
    pub refused: u64,
    pub times: u64,
    pub bases: u64,
    pub reused: u64,
    pub given_up: u64,
    pub told_of_rot: u64,
    pub put_back: u64,
}

type Rows = BTreeMap<Bytes, Bytes>;

/// What a batch does, in order.
type Ops = Vec<(Bytes, Option<Bytes>)>;

/// What the store was, by its groups, as long as it had one past.
#[derive(Default)]
struct Past {
    /// The last chain that may hold it.
    upto_chain: u32,
    states: BTreeMap<u64, Rows>,
    /// When each group was durable, in ms.
    times: BTreeMap<u64, u64>,
}

/// See the module.
pub struct World {
    pub kind: Kind,
    random: Stream,
    pub source: SimulatedMedium,
    pub target: SimulatedMedium,
    /// What goes wrong on the backup's medium, but while it is looked at.
    odds: Odds,
    engine: Option<SteppedEngine>,
    port: Option<Box<dyn Port>>,
    under_way: VecDeque<(CommitId, Ops)>,
    made: u64,
    rows: Rows,
    past: Past,
    /// The pasts that are over.
    pasts: Vec<Past>,
    /// Groups up to this one were told to be in the backup, and by which chain.
    told: (u32, u64),
    /// The newest base that was told of, with its chain.
    base: Option<(u32, u32)>,
    pub key: Option<Key>,
    now: Duration,
    now_ms: u64,
    /// Bytes that the store leaves free.
    pub free_bytes_min: u64,
    restores: u64,
    /// The chain may be another one than before.
    may_change: bool,
    pub tally: Tally,
}

/// What the names of keys' files say is the key.
fn key_of(path: &Path) -> io::Result<Key> {
    let number = path.to_str().and_then(|path| path.strip_prefix("/key-")?.parse().ok());
    number.map(|number: u8| Key::new([number; 32])).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = Stream::named(seed, "the backup");
        let key = (random.below(2) == 0).then(|| Key::new([1; 32]));
        Self {
            kind: Kind::of(seed),
            random,
            source: SimulatedMedium::new(seed, Odds::POWER_CUTS),
            target: SimulatedMedium::new(seed ^ 0xbac, Odds::POWER_CUTS),
            odds: Odds::POWER_CUTS,
            engine: None,
            port: None,
            under_way: VecDeque::new(),
            made: 0,
            rows: Rows::new(),
            past: Past::default(),
            pasts: Vec::new(),
            told: (0, 0),
            base: None,
            key,
            now: Duration::ZERO,
            now_ms: 1_000_000,
            free_bytes_min: 0,
            restores: 0,
            may_change: true,
            tally: Tally::default(),
        }
    }

    /// Some lives of a process.
    pub fn live(&mut self) {
        self.open();
        self.identify();
        self.start(false);
        let mut copy = None;
        for life in 0..LIVES {
            self.trouble(life);
            if !self.pasts.is_empty() {
                // The store goes on for a while before the backup is looked at again.
                self.set_odds(Odds::POWER_CUTS.with(Fault::ReadFails, 1_000_000));
                self.source.cut_after(u64::MAX);
                (0..2).for_each(|_| self.run());
                self.set_odds(Odds::POWER_CUTS);
            }
            self.run();
            if self.kind == Kind::PutBack && life == LIVES - 2 && !self.source.is_cut() {
                copy = Some(self.copy());
                self.run();
            }
            if self.kind == Kind::Rot && life == 2 {
                self.rot();
                return;
            }
            self.end();
            self.open();
            if life == LIVES - 2 && self.kind == Kind::PutBack {
                self.put_back(copy.take().unwrap_or_default());
            }
            self.check();
        }
        self.settle();
        self.check();
        self.flip();
    }

    pub fn engine(&self) -> &SteppedEngine {
        self.engine.as_ref().expect("it runs")
    }

    fn options(&mut self) -> EmbeddedOptions {
        EmbeddedOptions {
            group_bytes_max: 1 << (8 + self.random.below(6)),
            free_bytes_min: self.free_bytes_min,
            flush_bytes: 4 << 10,
            segment_bytes: 4 << 10,
            backup_log_bytes_max: if self.kind == Kind::Dead { KEPT_MAX } else { u64::MAX },
            ..EmbeddedOptions::default()
        }
    }

    fn try_open(&mut self) -> Result<(), OpenError> {
        let (options, seed) = (self.options(), self.random.number());
        let engine = SteppedEngine::open(&self.source, Path::new(STORE), options, seed)?;
        let mut salts = Stream::named(self.random.number(), "salts");
        let random = move || {
            let mut salt = [0; 32];
            salt.chunks_mut(8).for_each(|part| part.copy_from_slice(&salts.number().to_le_bytes()));
            salt
        };
        engine.serve_backups(&self.target, Box::new(random), &key_of);
        self.port = Some(engine.port(Arc::new(Quiet)));
        self.engine = Some(engine);
        Ok(())
    }

    /// Opens the store, and looks what became of what was under way.
    pub fn open(&mut self) {
        self.source.set_odds(Odds::POWER_CUTS);
        self.set_odds(Odds::POWER_CUTS);
        self.try_open().unwrap_or_else(|error| panic!("a start says: {error}"));
        let found = self.found();
        let mut rows = self.rows.clone();
        let mut is_it = rows == found;
        for (_, ops) in std::mem::take(&mut self.under_way) {
            if !is_it {
                apply(&mut rows, ops);
                is_it = rows == found;
            }
        }
        assert!(is_it, "the store is not what was committed");
        self.rows = rows;
        self.mark();
    }

    /// The newest group leaves the store as it is now.
    fn mark(&mut self) {
        let newest = self.engine().newest();
        if let Some(known) = self.past.states.get(&newest) {
            assert!(*known == self.rows, "group {newest} is another one than before");
        }
        self.past.states.insert(newest, self.rows.clone());
        let now_ms = self.now_ms;
        self.past.times.entry(newest).or_insert(now_ms);
    }

    fn found(&self) -> Rows {
        all_rows(self.engine())
    }

    /// A store has an identity, which knows its starts, and keys for tickets.
    pub fn identify(&mut self) {
        let record = StoreRecord { id: Bytes::from_static(&[9; 16]), generations: vec![1, 2] };
        for (key, value) in
            [(keys::store_identity(), record.encode_to_vec()), (keys::ticket_keys(), b"secret".to_vec())]
        {
            let mut batch = Batch::default();
            batch.put(&key, &value);
            self.engine().commit_blocking(batch).expect("nothing fails yet");
            self.rows.insert(Bytes::copy_from_slice(key.as_ref()), value.into());
            self.mark();
        }
        // Whose backup it is, is looked up when backups are served.
        self.close();
        self.source.kill();
        self.open();
    }

    pub fn close(&mut self) {
        self.engine().close();
        (self.port, self.engine) = (None, None);
    }

    pub fn start(&mut self, base: bool) {
        let key = self.key.clone().map(|key| {
            let number = if key.id() == Key::new([1; 32]).id() { 1 } else { 2 };
            (key, PathBuf::from(format!("/key-{number}")))
        });
        let (rate, keep) = (64 << 20, 1 + self.random.below(2) as u32);
        let start = Start { dir: DIR.into(), key, plain: true, rate, keep, base };
        let started = self.engine().start_backup(start);
        assert!(started.is_ok() || self.source.is_cut() || self.kind == Kind::Troubles, "{started:?}");
    }

    pub fn set_odds(&mut self, odds: Odds) {
        self.odds = odds;
        self.target.set_odds(odds);
    }

    /// What goes wrong in this life.
    fn trouble(&mut self, life: usize) {
        if matches!(self.kind, Kind::Troubles | Kind::Operators) {
            let mut odds = Odds::POWER_CUTS;
            let troubles = [
                Fault::NoRoom,
                Fault::WriteFails,
                Fault::SyncFails,
                Fault::DirectorySyncFails,
                Fault::ReadFails,
            ];
            for fault in troubles {
                odds = odds.with(fault, 1 << self.random.below(15));
            }
            self.set_odds(odds);
        }
        if self.kind == Kind::Troubles {
            self.source.set_odds(Odds::POWER_CUTS.with(Fault::SyncFails, 1 << self.random.below(14)));
        }
        if self.kind == Kind::Dead && (1..3).contains(&life) {
            let all = [Fault::NoRoom, Fault::WriteFails, Fault::SyncFails][self.random.below(3) as usize];
            self.set_odds(Odds::POWER_CUTS.with(all, 1_000_000));
        }
        let is_to_be_copied = self.kind == Kind::PutBack && life >= LIVES - 2;
        if self.kind != Kind::Dead && !is_to_be_copied && self.random.below(2) == 0 {
            let operations = self.some();
            self.source.cut_after(operations);
        }
        if self.random.below(3) == 0 {
            let operations = self.some();
            self.target.cut_after(operations);
        }
    }

    /// A number of operations, after which the power is cut.
    fn some(&mut self) -> u64 {
        let most = 1 << (4 + self.random.below(6));
        self.random.below(most)
    }

    /// Random steps, until the power is cut or it is enough.
    fn run(&mut self) {
        for _ in 0..200 + self.random.below(600) {
            match self.random.below(20) {
                0..5 => self.submit(),
                5..12 => {
                    let step = Step::ALL[self.random.below(Step::ALL.len() as u64) as usize];
                    self.step(step);
                }
                12 if self.kind == Kind::Operators && self.random.below(8) == 0 => self.operate(),
                _ => self.step_backup(),
            }
            if self.source.is_cut() {
                return;
            }
            if self.target.is_cut() {
                // It comes back, and what was open on it is not any more.
                self.target.crash();
            }
            if self.random.below(100) == 0 {
                self.complete();
                self.check();
            }
        }
    }

    pub fn step(&mut self, step: Step) -> Stepped {
        self.pass(2000);
        let stepped = self.engine().step(step, self.now);
        let (newest, now_ms) = (self.engine().newest(), self.now_ms);
        self.past.times.entry(newest).or_insert(now_ms);
        self.poll();
        if step == Step::Flush && self.kind == Kind::Dead {
            let is_segment = |path: &Path| path.extension().is_some_and(|extension| extension == "log");
            let files = self.source.files().into_iter().filter(|(path, _)| is_segment(path));
            let bytes: u64 = files.map(|(_, bytes)| bytes).sum();
            assert!(
                bytes < KEPT_MAX + UNFLUSHED_MAX,
                "the store keeps {bytes} bytes of its log for a backup"
            );
        }
        stepped
    }

    pub fn pass(&mut self, most_us: u64) {
        let passed = Duration::from_micros(self.random.below(most_us));
        self.now += passed;
        self.now_ms += passed.as_millis() as u64 + 1;
        self.now += self.source.take_time() + self.target.take_time();
    }

    pub fn step_backup(&mut self) {
        let most_us = if self.random.below(20) == 0 { 70_000_000 } else { 1_500_000 };
        self.pass(most_us);
        let (now, now_ms) = (self.now, self.now_ms);
        self.engine().step_backup(now, now_ms);
        self.look();
    }

    /// Looks at what operators are told.
    fn look(&mut self) {
        if self.source.is_cut() {
            return;
        }
        let status = self.engine().backup_status();
        if let Some(trouble) = &status.trouble {
            assert!(
                self.kind == Kind::Rot || !trouble.contains("the store is damaged"),
                "nothing has rotted, and the backup says: {trouble}"
            );
        }
        if !matches!(self.kind, Kind::Dead | Kind::PutBack) {
            assert!(status.broken == 0, "a chain was given up: {:?}", status.trouble);
        }
        if matches!(status.phase, BackupPhase::Base | BackupPhase::Following) {
            assert!(status.archived <= status.newest, "{} groups of {}", status.archived, status.newest);
            let is_same = status.chain == self.told.0;
            assert!(
                is_same || self.may_change || matches!(self.kind, Kind::Dead),
                "another chain begins, though nothing was in the way of the one before"
            );
            if is_same {
                assert!(status.archived >= self.told.1, "groups leave the backup");
            } else {
                self.tally.given_up += u64::from(self.kind == Kind::Dead);
            }
            // Of another chain it counts when that has a base.
            if status.base.is_some() || is_same || self.told.0 == 0 {
                self.told = (status.chain, status.archived);
            }
            self.may_change = self.kind == Kind::Operators || self.kind == Kind::Troubles;
        }
        let base = status.base.map(|base| (status.chain, base.number));
        if base > self.base && !self.target.is_cut() {
            // It serves from the moment that it is told of.
            self.target.set_odds(Odds::NONE);
            let report = self.verify();
            assert!(report.findings.is_empty(), "as base {base:?} is told of: {:#?}", report.findings);
            self.target.set_odds(self.odds);
            self.base = base;
        }
        self.tally.bases = self.tally.bases.max(u64::from(status.base.map_or(0, |base| base.number)));
        self.tally.reused += status.copying.map_or(0, |copying| u64::from(copying.bytes_reused > 0));
    }

    pub fn submit(&mut self) {
        self.made += 1;
        let log = LogId::direct(1, 1000);
        let text = format!("batch {} ", self.made);
        let length = if self.random.below(20) == 0 { 9000 } else { 300 };
        let body: Bytes = text.bytes().cycle().take(self.random.below(length) as usize + 20).collect();
        let mut ops = vec![
            (keys::entry(log, self.made), Some(body)),
            (keys::log(log), Some(Bytes::copy_from_slice(&self.made.to_le_bytes()))),
        ];
        if self.made > 10 && self.random.below(3) == 0 {
            ops.push((keys::entry(log, self.made - 10), None));
        }
        for _ in 0..self.random.below(4) {
            let value = (self.random.below(3) > 0).then(|| Bytes::from(text.clone()));
            ops.push((keys::user(self.random.below(USERS)), value));
        }
        let mut batch = Batch::default();
        for (key, value) in &ops {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        let port = self.port.as_mut().expect("it runs");
        if let Ok(commit) = port.submit(batch, Fence::default()) {
            let ops = ops.into_iter().map(|(key, value)| (Bytes::copy_from_slice(key.as_ref()), value));
            self.under_way.push_back((commit, ops.collect()));
        }
    }

    fn poll(&mut self) {
        let mut completions = Vec::new();
        self.port.as_mut().expect("it runs").poll(&mut completions);
        let any = !completions.is_empty();
        for completion in completions {
            match completion {
                Completion::Committed(proof) => {
                    let (commit, ops) = self.under_way.pop_front().expect("it was submitted");
                    assert_eq!(commit, proof.commit(), "they complete in their order");
                    apply(&mut self.rows, ops);
                }
                // Whether it is there, the next start says.
                Completion::CommitFailed { error: StoreError::Failed { .. }, .. } => return,
                Completion::CommitFailed { commit, error } => {
                    panic!("{commit:?}: {error}, and nothing was in the way")
                }
                Completion::Value { .. } | Completion::Rows { .. } => unreachable!("nothing was read"),
            }
        }
        if any {
            self.mark();
        }
    }

    /// Nothing is under way.
    pub fn complete(&mut self) {
        for _ in 0..1000 {
            if self.under_way.is_empty() || self.source.is_cut() {
                return;
            }
            let steps = [Step::Commit, Step::Apply, Step::Flush, Step::Merge];
            if steps.map(|step| self.step(step))[0] == Stepped::Failed {
                return;
            }
        }
    }

    fn operate(&mut self) {
        match self.random.below(5) {
            0 => {
                self.engine().stop_backup();
                (0..5).for_each(|_| self.step_backup());
                self.start(false);
            }
            1 => {
                let number = 1 + self.random.below(3) as u8;
                self.key = (number < 3).then(|| Key::new([number; 32]));
                self.start(false);
            }
            2 => self.now_ms = self.now_ms.saturating_sub(self.random.below(100_000)),
            _ => self.start(true),
        }
        self.may_change = true;
    }

    /// The backup comes to where nothing is left to do.
    pub fn settle(&mut self) {
        self.source.set_odds(Odds::POWER_CUTS);
        self.set_odds(Odds::POWER_CUTS);
        if self.engine().backup_status().phase == BackupPhase::Off {
            // The power was cut between the end of one and the start of the next.
            self.start(false);
        }
        for _ in 0..2000 {
            self.complete();
            self.step_backup();
            let status = self.engine().backup_status();
            let is_done = status.base.is_some() && status.archived == status.newest;
            if is_done && status.copying.is_none() && status.phase == BackupPhase::Following {
                return;
            }
        }
        panic!("the backup comes to no end: {:#?}", self.engine().backup_status());
    }

    /// The end of a life.
    fn end(&mut self) {
        if !self.source.is_cut() && self.random.below(3) == 0 {
            // Group by group, so that it is known what each leaves, and when.
            self.complete();
            self.step_backup();
            self.engine().close();
        }
        (self.port, self.engine) = (None, None);
        if self.random.below(3) == 0 {
            self.source.kill();
            self.target.kill();
        } else {
            self.source.crash();
            self.target.crash();
        }
    }

    /// The process is killed.
    pub fn kill(&mut self) {
        (self.port, self.engine) = (None, None);
        self.source.kill();
        self.target.kill();
    }

    /// All files of the store, as a copy of its directory has them that was made while it did not run.
    fn copy(&mut self) -> Vec<(PathBuf, Vec<u8>)> {
        self.complete();
        self.kill();
        let files =
            self.source.files().into_iter().map(|(path, _)| path).filter(|path| !path.ends_with("lock"));
        let files = files.map(|path| (path.clone(), self.source.read(&path).expect("readable"))).collect();
        self.open();
        files
    }

    /// The store is what the copy has: what came after was never written.
    fn put_back(&mut self, files: Vec<(PathBuf, Vec<u8>)>) {
        if files.is_empty() {
            return;
        }
        self.tally.put_back += 1;
        self.kill();
        self.source.remove_dir(Path::new(STORE)).expect("removed");
        let mut dirs: Vec<_> = files.iter().filter_map(|(path, _)| path.parent()).collect();
        dirs.dedup();
        for (path, bytes) in &files {
            self.source.make_dir(path.parent().expect("in a directory")).expect("made");
            let file = self.source.open(path, Opening::Emptied).expect("opened");
            file.write_all_at(bytes, 0).expect("written");
            file.sync_all().expect("synced");
        }
        dirs.iter().for_each(|dir| self.source.sync_dir(dir).expect("synced"));
        self.under_way.clear();
        self.try_open().unwrap_or_else(|error| panic!("a start of the copy says: {error}"));
        let (newest, found) = (self.engine().newest(), self.found());
        assert!(self.past.states.get(&newest) == Some(&found), "the copy is what was there");
        let chains = self.target.files().into_iter().filter_map(|(path, _)| {
            path.strip_prefix(DIR).ok()?.iter().next()?.to_str()?.parse::<u32>().ok()
        });
        let mut over = std::mem::take(&mut self.past);
        over.upto_chain = chains.max().unwrap_or(0);
        self.past.times = over.times.range(..=newest).map(|(group, at)| (*group, *at)).collect();
        self.past.states = over.states.range(..=newest).map(|(group, rows)| (*group, rows.clone())).collect();
        self.pasts.push(over);
        (self.rows, self.told, self.may_change) = (found, (0, 0), true);
    }

    /// A file of the tables is not what was written: no base comes of it.
    fn rot(&mut self) {
        if self.source.is_cut() {
            return;
        }
        self.target.cut_after(u64::MAX);
        self.source.cut_after(u64::MAX);
        self.complete();
        let is_table = |path: &Path| path.components().any(|part| part.as_os_str() == "tables");
        let is_file =
            |path: &Path| is_table(path) && path.extension().is_none() && !path.ends_with("current");
        let Some(path) = self.source.rot(|path| is_file(path)) else { return };
        self.start(true);
        for _ in 0..200 {
            self.step_backup();
        }
        let trouble = self.engine().backup_status().trouble;
        self.tally.told_of_rot += u64::from(trouble.is_some_and(|why| why.contains("the store is damaged")));
        let report = self.verify();
        assert!(report.findings.is_empty(), "{} has rotted, and in the backup: {report:#?}", path.display());
    }

    fn keys() -> Keys {
        [Key::new([1; 32]), Key::new([2; 32])].into_iter().collect()
    }

    pub fn verify(&self) -> VerifyReport {
        let options = VerifyOptions { dir: DIR.into(), keys: Self::keys(), chain: None, newest: false };
        match verify_simulated(&self.target, &options) {
            Ok(report) => report,
            Err(BackupError::Refused(_)) => VerifyReport::default(),
            Err(error) => panic!("the backup can't be gone through: {error}"),
        }
    }

    /// Restores, and reads all that there is then.
    fn restore(&mut self, point: Point, chain: Option<u32>) -> Result<(Restored, Rows), BackupError> {
        let medium = SimulatedMedium::new(self.restores, Odds::NONE);
        self.restores += 1;
        let (from, store, keys) = (DIR.into(), "new/store".into(), Self::keys());
        let options = RestoreOptions { from, store, point, chain, keys, free_bytes_min: 0 };
        let restored = restore_simulated(&self.target, &medium, &options)?;
        let opened = SteppedEngine::open(&medium, Path::new("new/store"), EmbeddedOptions::default(), 1);
        let engine = opened.unwrap_or_else(|error| panic!("a restored store says: {error}"));
        assert_eq!(engine.newest(), restored.group);
        Ok((restored, all_rows(&engine)))
    }

    /// Of which past a chain is.
    fn past_of(&self, chain: u32) -> &Past {
        self.pasts.iter().find(|past| chain <= past.upto_chain).unwrap_or(&self.past)
    }

    /// A restored store is what the store was at that group, but that it knows none of its starts and seals no tickets.
    fn compare(&self, restored: &Restored, mut rows: Rows) {
        let past = self.past_of(restored.chain);
        let group = restored.group;
        let Some(expected) = past.states.get(&group) else {
            panic!("group {group} was restored, of which nobody knows what it was")
        };
        let mut expected = expected.clone();
        let identity = Bytes::copy_from_slice(keys::store_identity().as_ref());
        let record = rows.remove(&identity).map(|value| StoreRecord::decode(value).expect("a record"));
        assert_eq!(record.is_some(), expected.remove(&identity).is_some());
        assert!(
            record.is_none_or(|record| record.generations.is_empty()),
            "it knows starts of another store"
        );
        expected.remove(keys::ticket_keys().as_ref());
        if rows != expected {
            let differs = |key: &&Bytes| rows.get(*key) != expected.get(*key);
            let keys: Vec<_> = rows.keys().chain(expected.keys()).filter(differs).collect();
            let keys: Vec<_> = keys.into_iter().map(|key| keys::describe(key)).collect();
            panic!("restored to group {group}, these rows are not as they were: {keys:?}");
        }
    }

    /// What there is of the backup is whole, and what it was told to hold it does.
    pub fn check(&mut self) {
        if self.source.is_cut() || self.target.is_cut() || !self.under_way.is_empty() {
            return;
        }
        self.target.set_odds(Odds::NONE);
        self.look_into();
        self.target.set_odds(self.odds);
    }

    fn look_into(&mut self) {
        let report = self.verify();
        assert!(report.findings.is_empty(), "nothing has rotted: {:#?}", report.findings);
        let newest = report.chains.iter().rev().find(|chain| !chain.bases.is_empty());
        let Some(chain) = newest.cloned() else { return };
        let (restored, rows) = self
            .restore(Point::Newest, None)
            .unwrap_or_else(|error| panic!("what is whole is not restored: {error}"));
        self.tally.restores += 1;
        assert_eq!((restored.chain, restored.group), (chain.chain, chain.last));
        assert!(
            chain.chain < self.told.0 || restored.group >= self.told.1,
            "told to hold the groups up to {}, and it has those up to {}",
            self.told.1,
            restored.group
        );
        self.compare(&restored, rows);
        let group = chain.groups.0.saturating_sub(1) + self.random.below(chain.last + 2 - chain.groups.0);
        let serves = |(first, last): (u64, u64)| first <= group && group <= last;
        let is_told = chain.bases.iter().filter_map(|base| base.restores).any(serves);
        match self.restore(Point::Group(group), Some(chain.chain)) {
            Ok((restored, rows)) => {
                assert_eq!((restored.group, is_told), (group, true));
                self.compare(&restored, rows);
                self.tally.points += 1;
            }
            Err(BackupError::Refused(why)) => {
                assert!(!is_told, "group {group} is told to be there: {why}");
                self.tally.refused += 1;
            }
            Err(error) => panic!("what is whole is not restored: {error}"),
        }
        self.check_time(chain.chain, chain.covers_ms);
    }

    fn check_time(&mut self, chain: u32, covers_ms: u64) {
        let time_ms = 1_000_000 + self.random.below(covers_ms.saturating_sub(1_000_000) + 1);
        match self.restore(Point::Time(time_ms), Some(chain)) {
            Ok((restored, rows)) => {
                // Where clocks are set back, nobody knows what was when.
                let durable = self.past_of(chain).times.get(&restored.group).copied();
                assert!(
                    self.kind == Kind::Operators || durable.is_none_or(|durable| durable <= time_ms),
                    "group {} of {durable:?} is restored for {time_ms}",
                    restored.group
                );
                self.compare(&restored, rows);
                self.tally.times += 1;
            }
            Err(BackupError::Refused(_)) => {}
            Err(error) => panic!("what is whole is not restored: {error}"),
        }
    }

    /// A bit flips in the backup: that is told, or the restore is right.
    fn flip(&mut self) {
        let Some(path) = self.target.rot(|path| !path.ends_with("lock")) else { return };
        let options = VerifyOptions { dir: DIR.into(), keys: Self::keys(), chain: None, newest: false };
        let report = verify_simulated(&self.target, &options);
        let is_told = report.as_ref().map_or(true, |report| !report.findings.is_empty());
        self.tally.told_of_rot += u64::from(is_told);
        match self.restore(Point::Newest, None) {
            Ok((restored, rows)) => self.compare(&restored, rows),
            Err(error) => {
                assert!(
                    is_told,
                    "a bit of {} flipped, nothing is told, and a restore says: {error}",
                    path.display()
                );
            }
        }
    }
}

fn apply(rows: &mut Rows, ops: Ops) {
    for (key, value) in ops {
        match value {
            Some(value) => rows.insert(key, value),
            None => rows.remove(&key),
        };
    }
}

/// All rows of a store, but for epochs.
fn all_rows(engine: &SteppedEngine) -> Rows {
    let mut rows = Rows::new();
    let mut port = engine.port(Arc::new(Quiet));
    // The engine applies what is durable before it reads.
    engine.get_blocking(&keys::store_identity()).expect("readable");
    for prefix in [&b"e"[..], b"l", b"m", b"u"] {
        let limit = ScanLimit { rows: usize::MAX, bytes: usize::MAX };
        let end = [prefix[0] + 1];
        let range = KeyRange { start: RowKey::from_raw(prefix), end: RowKey::from_raw(&end) };
        port.scan(range, Direction::Forwards, limit).expect("there is room");
        while engine.step(Step::Read, Duration::ZERO) == Stepped::Waits {
            engine.step(Step::Apply, Duration::ZERO);
        }
        let mut completions = Vec::new();
        port.poll(&mut completions);
        match completions.pop() {
            Some(Completion::Rows { result: Ok(found), .. }) => rows.extend(found.rows),
            other => panic!("a scan ends as {other:?}"),
        }
    }
    rows
}
