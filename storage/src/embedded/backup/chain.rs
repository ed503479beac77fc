//! Reading a backup: its chains, what a chain has of the log, and its bases.

use std::io;
use std::path::{Path, PathBuf};

use super::base;
use super::error::BackupError;
use super::format::{BackupId, Kind};
use super::key::Keys;
use super::records::{
    BACKUP, BASES, BackupRecord, BaseRecord, HEAD, HeadRecord, Item, Items, LogPlace, PARTIAL, TreeRecord,
    is_salt, read_record,
};
use crate::embedded::tables::{PARTS, TREES};
use crate::medium::Medium;

/// A backup that is read.
pub(super) struct Backups<'a, M> {
    pub(super) medium: &'a M,
    pub(super) dir: &'a Path,
    pub(super) keys: &'a Keys,
    pub(super) id: BackupId,
}

impl<'a, M: Medium> Backups<'a, M> {
    /// Opens the one in a directory.
    pub(super) fn open(medium: &'a M, dir: &'a Path, keys: &'a Keys) -> Result<Self, BackupError> {
        let path = dir.join(BACKUP);
        if !medium.exists(&path) {
            return Err(BackupError::Refused(format!("{} holds no backup", dir.display())));
        }
        let (header, _) = read_record::<_, BackupRecord>(medium, &path, Kind::Backup, None, keys)?;
        Ok(Self { medium, dir, keys, id: header.backup })
    }

    /// Its chains, rising.
    pub(super) fn chains(&self) -> Result<Vec<u32>, BackupError> {
        numbers(self.medium, self.dir).map_err(|error| BackupError::io(self.dir, error))
    }

    pub(super) fn chain(&self, number: u32) -> Result<Chain<'_, M>, BackupError> {
        let dir = chain_path(self.dir, number);
        let path = dir.join(HEAD);
        let (header, head): (_, HeadRecord) =
            read_record(self.medium, &path, Kind::Head, Some(self.id), self.keys)?;
        if head.chain != number {
            return Err(BackupError::damaged(&path, "it is of another chain"));
        }
        if head.first == 0 || head.last >= GROUPS_END || head.first > head.last + 1 {
            return Err(BackupError::damaged(&path, "it names groups that can't be"));
        }
        Ok(Chain { of: self, dir, key_id: header.key_id, head })
    }
}

/// No log has so many groups.
const GROUPS_END: u64 = 1 << 62;

/// Whether this is what a file within a tree's directory is called: a restore makes no other, whoever has written the manifest.
fn is_of_tree(path: &str) -> bool {
    path.split_once('/').is_some_and(|(part, number)| {
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        PARTS.contains(&part) && is_number && number.len() <= 20
    })
}

/// Where a chain lies.
pub(super) fn chain_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:04}"))
}

/// The chains of a backup, rising, readable or not.
pub(super) fn numbers<M: Medium>(medium: &M, dir: &Path) -> io::Result<Vec<u32>> {
    let listed = medium.list(dir)?;
    let number = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        name.parse().ok().filter(|number| *number > 0 && name == format!("{number:04}"))
    };
    let mut numbers: Vec<_> = listed.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// A chain that is read.
pub(super) struct Chain<'a, M> {
    of: &'a Backups<'a, M>,
    pub(super) dir: PathBuf,
    pub(super) key_id: u64,
    pub(super) head: HeadRecord,
}

impl<M: Medium> Chain<'_, M> {
    pub(super) fn backup(&self) -> BackupId {
        self.of.id
    }

    pub(super) fn keys(&self) -> &Keys {
        self.of.keys
    }

    /// The numbers of its bases, rising; of those that are being copied if that is asked for.
    pub(super) fn base_numbers(&self, partial: bool) -> Result<Vec<u32>, BackupError> {
        base_numbers(self.of.medium, &self.dir, partial).map_err(|error| BackupError::io(&self.dir, error))
    }

    /// A base.
    pub(super) fn base(&self, number: u32) -> Result<BaseRecord, BackupError> {
        let path = base::path(&self.dir, number);
        let (header, record): (_, BaseRecord) =
            read_record(self.of.medium, &path, Kind::Base, Some(self.of.id), self.of.keys)?;
        if (record.chain, record.number, header.key_id) != (self.head.chain, number, self.key_id) {
            return Err(BackupError::damaged(&path, "it is another base than its name says"));
        }
        if self.head.base == number && self.head.base_salt != header.salt[..] {
            return Err(BackupError::damaged(&path, "it is not the base that the chain's head names"));
        }
        if record.flushed > record.whole_at || record.whole_at >= GROUPS_END {
            return Err(BackupError::damaged(&path, "it names groups that can't be"));
        }
        let is_right = |tree: &TreeRecord| {
            TREES.contains(&&*tree.name)
                && tree.files.iter().all(|file| is_salt(&file.salt) && is_of_tree(&file.path))
        };
        if !record.trees.iter().all(is_right) {
            return Err(BackupError::damaged(&path, "it names files that are none"));
        }
        Ok(record)
    }

    /// The files of its log that hold groups from `first` on, from the oldest on. Each is named by the one after it, the newest by
    /// the head.
    pub(super) fn log(&self, first: u64) -> Result<Vec<LogPlace>, BackupError> {
        let mut files = Vec::new();
        let mut next = self.head.log.clone();
        while let Some(place) = next.take() {
            if !is_salt(&place.salt) {
                return Err(BackupError::damaged(&self.dir, "it names a file of the log that is none"));
            }
            let link = self.items(&place)?.next()?;
            let path = super::records::log_path(&self.dir, &place);
            let Some(Item::Link { before, first: found }) = link else {
                return Err(BackupError::damaged(&path, "it does not begin as a file of the log"));
            };
            if found != place.first || before.as_ref().is_some_and(|before| before.first >= found) {
                return Err(BackupError::damaged(&path, "it begins with another group than its name says"));
            }
            if found > first {
                next = before;
            }
            files.push(place);
        }
        files.reverse();
        Ok(files)
    }

    /// What is in a file of its log.
    pub(super) fn items(&self, place: &LogPlace) -> Result<Items<M>, BackupError> {
        Items::open(self.of.medium, &self.dir, (self.of.id, self.key_id), place, self.of.keys)
    }

    /// Goes through the log from a group on, up to the chain's end. Each group comes once, and none is missing, or it fails.
    pub(super) fn read(
        &self,
        from: u64,
        mut each: impl FnMut(Item) -> Result<bool, BackupError>,
    ) -> Result<(), BackupError> {
        let mut next = from;
        for place in self.log(from)? {
            let path = super::records::log_path(&self.dir, &place);
            let mut items = self.items(&place)?;
            while let Some(item) = items.next()? {
                match &item {
                    Item::Link { .. } => continue,
                    Item::Group { number, .. } if *number < from => continue,
                    Item::Group { number, .. } if *number != next => {
                        return Err(BackupError::damaged(&path, format!("group {next} is missing")));
                    }
                    Item::Group { .. } => next += 1,
                    Item::Time { .. } => {}
                }
                if !each(item)? {
                    return Ok(());
                }
            }
        }
        if next != (self.head.last + 1).max(from) {
            let what = format!("the groups {next} to {} are missing", self.head.last);
            return Err(BackupError::damaged(&self.dir, what));
        }
        Ok(())
    }
}

/// The numbers of a chain's bases, rising; of those that are being copied if that is asked for.
pub(super) fn base_numbers<M: Medium>(medium: &M, chain: &Path, partial: bool) -> io::Result<Vec<u32>> {
    let number = |path: &PathBuf| {
        let is_it = if partial {
            path.extension().is_some_and(|found| found == PARTIAL)
        } else {
            path.extension().is_none()
        };
        let number = path.file_stem()?.to_str()?.parse().ok();
        number.filter(|number| is_it && *number > 0)
    };
    let mut numbers: Vec<_> = medium.list(&chain.join(BASES))?.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_manifest_has_a_restore_write_beside_the_store() {
        for path in ["tables/7", "blobs/12345678901234567890"] {
            assert!(is_of_tree(path), "{path}");
        }
        for path in [
            "",
            "7",
            "/tables/7",
            "tables/",
            "tables/..",
            "../tables/7",
            "tables/../7",
            "tables//7",
            "current",
            "tables/7x",
        ] {
            assert!(!is_of_tree(path), "{path}");
        }
    }
}
