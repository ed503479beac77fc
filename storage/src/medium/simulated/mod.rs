//! A medium in memory that fails as its seed says: power cuts that tear and lose what was not synced, syncs that fail and
//! leave nobody knowing what is there, bits that rot, room that ends. It has no clock: how long an operation would have
//! taken, it says, and whoever simulates lets that pass.
//!
//! The same seed and the same operations give the same faults. All clones are one medium.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::{Locking, Medium, MediumFile, Opening, from_top};

mod content;
mod faults;
mod names;

use self::content::Content;
use self::faults::Dice;
pub use self::faults::{Fault, Odds};
use self::names::{Names, Node};

/// The system's numbers of what it says (Linux).
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// What a sync takes.
const SYNC: Duration = Duration::from_micros(200);

/// What a slow one takes at most.
const SLOW_SYNC_US_MAX: u64 = 1_000_000;

/// See the module.
#[derive(Clone, Debug)]
pub struct SimulatedMedium(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    dice: Dice,
    names: Names,
    contents: BTreeMap<u64, Content>,
    contents_made: u64,
    locks: BTreeSet<PathBuf>,
    capacity_bytes: u64,
    /// What the operations since the last look took.
    took: Duration,
    /// Operations that change something, and after how many the power is cut.
    operations: u64,
    cut_after: u64,
    /// How many processes it has seen the end of: what an earlier one opened is open no more.
    life: u64,
}

impl SimulatedMedium {
    /// An empty one.
    pub fn new(seed: u64, odds: Odds) -> Self {
        Self(Arc::new(Mutex::new(State {
            dice: Dice::new(seed, odds),
            names: Names::default(),
            contents: BTreeMap::new(),
            contents_made: 0,
            locks: BTreeSet::new(),
            capacity_bytes: u64::MAX,
            took: Duration::ZERO,
            operations: 0,
            cut_after: u64::MAX,
            life: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics while it holds this")
    }

    /// From now on this is how often what goes wrong.
    pub fn set_odds(&self, odds: Odds) {
        self.state().dice.odds = odds;
    }

    /// Bytes of all files together, beyond which there is no room.
    pub fn set_capacity_bytes(&self, bytes: u64) {
        self.state().capacity_bytes = bytes;
    }

    /// Has the power be cut within the operation that comes after so many that change something. From then on nothing succeeds
    /// until [`SimulatedMedium::crash`], and what does not succeed may have been done.
    pub fn cut_after(&self, operations: u64) {
        let mut state = self.state();
        state.cut_after = state.operations.saturating_add(operations);
    }

    /// Whether the power is cut.
    pub fn is_cut(&self) -> bool {
        self.state().is_cut()
    }

    /// Operations so far that change something.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// What the operations since the last call would have taken.
    pub fn take_time(&self) -> Duration {
        std::mem::take(&mut self.state().took)
    }

    /// The power is cut, and comes back: of what was not synced, each piece is kept, lost or torn. What was open is not any
    /// more.
    pub fn crash(&self) {
        let mut state = self.state();
        let State { dice, names, contents, .. } = &mut *state;
        names.crash(dice);
        for content in contents.values_mut() {
            content.crash(dice);
        }
        state.end_life();
        let files: Vec<_> = state.names.files().map(|(_, file)| file).collect();
        for file in files {
            if state.dice.hits(Fault::Rot) {
                state.rot_in(file);
            }
        }
    }

    /// The process ends, and the system goes on: what was written is there, but what was open is not any more.
    pub fn kill(&self) {
        self.state().end_life();
    }

    /// One bit flips in what is durable of a file of those that are chosen. Gives which file; `None` if none has a byte.
    pub fn rot(&self, chosen: impl Fn(&Path) -> bool) -> Option<PathBuf> {
        let mut state = self.state();
        let files = state.names.files().filter(|(path, _)| chosen(path));
        let has_bytes =
            |file: &u64| state.contents.get(file).is_some_and(|content| content.durable_bytes() > 0);
        let files: Vec<_> =
            files.filter(|(_, file)| has_bytes(file)).map(|(path, file)| (path.to_owned(), file)).collect();
        if files.is_empty() {
            return None;
        }
        let index = state.dice.below(Fault::Rot, files.len() as u64) as usize;
        let (path, file) = files[index].clone();
        state.dice.count(Fault::Rot);
        state.rot_in(file);
        Some(path)
    }

    /// How often each fault has happened.
    pub fn counts(&self) -> Vec<(Fault, u64)> {
        self.state().dice.counts().collect()
    }

    /// All files with their lengths, for reports.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.state();
        let length = |file| state.contents.get(&file).map_or(0, |content| content.live().len() as u64);
        state.names.files().map(|(path, file)| (path.to_owned(), length(file))).collect()
    }
}

impl State {
    fn is_cut(&self) -> bool {
        self.operations > self.cut_after
    }

    /// Nothing is open any more.
    fn end_life(&mut self) {
        self.life += 1;
        self.locks.clear();
        self.cut_after = u64::MAX;
        self.contents.values_mut().for_each(|content| content.handles = 0);
        self.forget();
    }

    /// Lets the contents go that nobody can come to any more.
    fn forget(&mut self) {
        let named = self.names.named();
        self.contents.retain(|file, content| content.handles > 0 || named.contains(file));
    }

    fn rot_in(&mut self, file: u64) {
        let content = self.contents.get_mut(&file).expect("a file has a content");
        // Most of a file that was made longer than what is in it says nothing.
        let used = content.used_bytes().max(1).min(content.durable_bytes()) as u64;
        if used > 0 {
            let at = self.dice.below(Fault::Rot, used) as usize;
            content.flip(at, self.dice.below(Fault::Rot, 8) as u32);
        }
    }

    fn used_bytes(&self) -> u64 {
        self.contents.values().map(|content| content.live().len() as u64).sum()
    }

    /// For each operation that looks at something.
    fn looks(&self, life: u64) -> io::Result<()> {
        if self.is_cut() || life != self.life { Err(power_is_cut()) } else { Ok(()) }
    }

    /// For each operation that changes something. Gives whether it comes to its end; if not, it may still be done.
    fn changes(&mut self, life: u64) -> io::Result<bool> {
        self.looks(life)?;
        self.operations += 1;
        Ok(!self.is_cut())
    }

    fn content(&mut self, file: u64) -> &mut Content {
        self.contents.get_mut(&file).expect("an open file has a content")
    }

    fn has_room(&mut self, bytes: u64) -> io::Result<()> {
        if self.dice.hits(Fault::NoRoom) {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        if self.used_bytes().saturating_add(bytes) > self.capacity_bytes {
            self.dice.count(Fault::NoRoom);
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        Ok(())
    }

    fn file(&self, path: &Path) -> io::Result<u64> {
        match self.names.get(path) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Directory) => Err(io::Error::from(io::ErrorKind::IsADirectory)),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }
}

fn power_is_cut() -> io::Error {
    io::Error::other("the power is cut")
}

fn ends(comes_to_its_end: bool) -> io::Result<()> {
    if comes_to_its_end { Ok(()) } else { Err(power_is_cut()) }
}

/// An open file of a simulated medium.
#[derive(Debug)]
pub struct SimulatedFile {
    medium: SimulatedMedium,
    file: u64,
    life: u64,
}

/// A lock on a simulated medium.
#[derive(Debug)]
pub struct SimulatedLock {
    medium: SimulatedMedium,
    path: PathBuf,
    life: u64,
}

impl Medium for SimulatedMedium {
    type File = SimulatedFile;
    type Lock = SimulatedLock;

    fn open(&self, path: &Path, opening: Opening) -> io::Result<SimulatedFile> {
        let mut state = self.state();
        let life = state.life;
        let known = match state.file(path) {
            Ok(file) => Some(file),
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && matches!(opening, Opening::Kept | Opening::Emptied) =>
            {
                None
            }
            Err(error) => return Err(error),
        };
        let file = match known {
            Some(file) if opening == Opening::Emptied => {
                let ended = state.changes(life)?;
                state.content(file).empty();
                ends(ended)?;
                file
            }
            Some(file) => {
                state.looks(life)?;
                file
            }
            None => {
                if path.parent().and_then(|parent| state.names.get(parent)) != Some(Node::Directory) {
                    return Err(io::Error::from(io::ErrorKind::NotFound));
                }
                state.has_room(0)?;
                let ended = state.changes(life)?;
                state.contents_made += 1;
                let file = state.contents_made;
                state.contents.insert(file, Content::default());
                state.names.change(vec![(path.to_owned(), Some(Node::File(file)))]);
                ends(ended)?;
                file
            }
        };
        state.content(file).handles += 1;
        Ok(SimulatedFile { medium: self.clone(), file, life })
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut state = self.state();
        state.looks(state.life)?;
        let file = state.file(path)?;
        if state.dice.hits(Fault::ReadFails) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(state.content(file).live().to_vec())
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        let mut state = self.state();
        state.looks(state.life)?;
        if state.names.get(path) == Some(Node::Directory) {
            return Ok(0);
        }
        let file = state.file(path)?;
        Ok(state.content(file).live().len() as u64)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.state();
        state.looks(state.life)?;
        Ok(state.names.within(dir))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let file = state.file(from)?;
        let life = state.life;
        let ended = state.changes(life)?;
        state.names.change(vec![(from.to_owned(), None), (to.to_owned(), Some(Node::File(file)))]);
        ends(ended)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.file(path)?;
        let life = state.life;
        let ended = state.changes(life)?;
        state.names.change(vec![(path.to_owned(), None)]);
        ends(ended)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let life = state.life;
        for path in state.names.all_within(path) {
            let ended = state.changes(life)?;
            state.names.change(vec![(path, None)]);
            ends(ended)?;
        }
        Ok(())
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        let mut made = Vec::new();
        {
            let mut state = self.state();
            let life = state.life;
            for dir in from_top(path) {
                if state.names.get(dir).is_none() {
                    let ended = state.changes(life)?;
                    state.names.change(vec![(dir.to_owned(), Some(Node::Directory))]);
                    ends(ended)?;
                    made.push(dir);
                }
            }
        }
        let above = made.iter().copied().chain((made.is_empty()).then_some(path));
        above.filter_map(Path::parent).try_for_each(|parent| self.sync_dir(parent))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let life = state.life;
        ends(state.changes(life)?)?;
        if state.names.get(path) != Some(Node::Directory) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        state.took += SYNC;
        if state.dice.hits(Fault::DirectorySyncFails) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        state.names.sync(path);
        state.forget();
        Ok(())
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        let state = self.state();
        state.looks(state.life)?;
        Ok(state.capacity_bytes.saturating_sub(state.used_bytes()))
    }

    fn lock(&self, path: &Path) -> io::Result<Locking<SimulatedLock>> {
        let mut state = self.state();
        state.looks(state.life)?;
        if !state.locks.insert(path.to_owned()) {
            return Ok(Locking::Held(None));
        }
        Ok(Locking::Taken(SimulatedLock { medium: self.clone(), path: path.to_owned(), life: state.life }))
    }
}

impl MediumFile for SimulatedFile {
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut state = self.medium.state();
        state.looks(self.life)?;
        let at = usize::try_from(at).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        if state.content(self.file).grows(at, bytes.len()) {
            let longer = (at + bytes.len() - state.content(self.file).live().len()) as u64;
            state.has_room(longer)?;
        }
        let ended = state.changes(self.life)?;
        if state.dice.hits(Fault::WriteFails) {
            let written = state.dice.below(Fault::WriteFails, bytes.len() as u64 + 1) as usize;
            state.content(self.file).write(at, &bytes[..written]);
            return Err(io::Error::from_raw_os_error(EIO));
        }
        state.content(self.file).write(at, bytes);
        ends(ended)
    }

    fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let mut state = self.medium.state();
        state.looks(self.life)?;
        if state.dice.hits(Fault::ReadFails) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let found = usize::try_from(at)
            .ok()
            .and_then(|at| state.content(self.file).live().get(at..)?.get(..bytes.len()));
        bytes.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.medium.state();
        ends(state.changes(self.life)?)?;
        state.took += SYNC;
        if state.dice.hits(Fault::SlowSync) {
            let slow_us = state.dice.below(Fault::SlowSync, SLOW_SYNC_US_MAX);
            state.took += Duration::from_micros(slow_us);
        }
        let State { dice, contents, .. } = &mut *state;
        let content = contents.get_mut(&self.file).expect("an open file has a content");
        if dice.hits(Fault::SyncFails) {
            content.fail_to_sync(dice);
            return Err(io::Error::from_raw_os_error(EIO));
        }
        content.sync();
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        let mut state = self.medium.state();
        if self.life == state.life
            && let Some(content) = state.contents.get_mut(&self.file)
        {
            content.handles -= 1;
        }
    }
}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        let mut state = self.medium.state();
        if self.life == state.life {
            state.locks.remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stream;
    use super::*;

    const FILE: &str = "dir/file";

    fn medium(seed: u64) -> (SimulatedMedium, SimulatedFile) {
        let medium = SimulatedMedium::new(seed, Odds::POWER_CUTS);
        medium.make_dir(Path::new("dir")).expect("made");
        let file = medium.open(Path::new(FILE), Opening::Emptied).expect("made");
        file.write_all_at(&[1; 2000], 0).expect("written");
        file.sync_all().expect("synced");
        medium.sync_dir(Path::new("dir")).expect("synced");
        (medium, file)
    }

    fn read(medium: &SimulatedMedium, path: &str) -> Option<Vec<u8>> {
        medium.read_if_there(Path::new(path)).expect("read")
    }

    #[test]
    fn a_power_cut_keeps_loses_or_tears_what_was_not_synced_and_nothing_else() {
        let (mut kept, mut lost, mut torn) = (0, 0, 0);
        for seed in 0..200 {
            let (medium, file) = medium(seed);
            file.write_all_at(&[2; 1500], 100).expect("written");
            medium.crash();
            let found = read(&medium, FILE).expect("there");
            assert_eq!((found.len(), &found[..100], &found[1600..]), (2000, &[1; 100][..], &[1; 400][..]));
            match found[100..1600].iter().filter(|byte| **byte == 2).count() {
                1500 => kept += 1,
                0 => lost += 1,
                _ => torn += 1,
            }
            assert!(file.sync_all().is_err(), "what was open is not any more");
        }
        assert!(kept > 20 && lost > 20 && torn > 20, "{kept} {lost} {torn}");
    }

    #[test]
    fn writes_of_one_file_are_lost_in_any_order() {
        let later_alone = (0..100).filter(|seed| {
            let (medium, file) = medium(*seed);
            file.write_all_at(&[2; 10], 0).expect("written");
            file.write_all_at(&[3; 10], 1000).expect("written");
            medium.crash();
            let found = read(&medium, FILE).expect("there");
            found[..10] == [1; 10] && found[1000..1010] == [3; 10]
        });
        assert!(later_alone.count() > 5);
    }

    #[test]
    fn a_name_that_was_not_synced_stands_for_the_one_or_the_other_and_a_file_without_one_is_gone() {
        let (mut old, mut new, mut gone) = (0, 0, 0);
        for seed in 0..100 {
            let (medium, _file) = medium(seed);
            let other = medium.open(Path::new("dir/other"), Opening::Emptied).expect("made");
            other.write_all_at(&[9; 10], 0).expect("written");
            other.sync_all().expect("synced");
            medium.rename(Path::new("dir/other"), Path::new(FILE)).expect("renamed");
            assert_eq!(read(&medium, FILE).expect("there"), [9; 10]);
            medium.crash();
            match read(&medium, FILE).expect("there").len() {
                10 => new += 1,
                _ => old += 1,
            }
            gone += usize::from(read(&medium, "dir/other").is_none());
        }
        assert!(old > 20 && new > 20 && gone > new, "{old} {new} {gone}");
    }

    #[test]
    fn after_a_sync_that_failed_the_next_one_says_nothing_and_a_power_cut_shows_what_is_missing() {
        let missing = (0..100).filter(|seed| {
            let (medium, file) = medium(*seed);
            file.write_all_at(&[2; 10], 0).expect("written");
            medium.set_odds(Odds::NONE.with(Fault::SyncFails, stream::MILLION));
            assert!(file.sync_data().is_err());
            medium.set_odds(Odds::NONE);
            file.sync_data().expect("it knows of nothing");
            assert_eq!(read(&medium, FILE).expect("there")[..10], [2; 10]);
            medium.crash();
            read(&medium, FILE).expect("there")[..10] != [2; 10]
        });
        assert!(missing.count() > 20);
    }

    #[test]
    fn a_full_medium_takes_nothing_more_but_what_is_in_its_place() {
        let (medium, file) = medium(1);
        medium.set_capacity_bytes(2100);
        assert_eq!(medium.free_bytes(Path::new("dir")).expect("known"), 100);
        let error = file.write_all_at(&[0; 101], 2000).expect_err("too much");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        file.write_all_at(&[0; 2000], 0).expect("in its place");
        file.write_all_at(&[0; 100], 2000).expect("there is room");
    }

    #[test]
    fn once_the_power_is_cut_nothing_succeeds() {
        let (medium, file) = medium(1);
        medium.cut_after(1);
        file.write_all_at(&[2], 0).expect("the first");
        assert!(file.sync_data().is_err() && medium.is_cut());
        assert!(medium.read(Path::new(FILE)).is_err() && medium.sync_dir(Path::new("dir")).is_err());
        medium.crash();
        assert!(!medium.is_cut() && read(&medium, FILE).is_some());
    }
}
