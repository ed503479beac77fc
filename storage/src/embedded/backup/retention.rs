//! What of a backup may go: bases beyond those that are kept, and what only they need.
//!
//! A manifest goes before what it names, so that what is named is there, whenever this is interrupted.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::base;
use super::chain::{base_numbers, chain_path, numbers};
use super::records::{BASES, BaseRecord, FILES, LOG, PARTIAL, file_path};
use crate::medium::Medium;

/// Lets go of what the newest `keep` bases do not need. `current` is the chain that is written, with its bases; none is being
/// copied.
pub(super) fn tidy<M: Medium>(
    medium: &M,
    dir: &Path,
    keep: usize,
    (current, bases): (u32, &mut Vec<BaseRecord>),
) -> io::Result<()> {
    let mut all = Vec::new();
    for chain in numbers(medium, dir)? {
        let found = base_numbers(medium, &chain_path(dir, chain), false)?;
        all.extend(found.into_iter().map(|base| (chain, base)));
    }
    let old = all.len().saturating_sub(keep.max(1));
    let kept = all.split_off(old);
    for (chain, number) in all.into_iter().filter(|(chain, _)| *chain == current) {
        medium.remove(&base::path(&chain_path(dir, chain), number))?;
        bases.retain(|base| base.number != number);
    }
    // Of older chains, those go as a whole of which no base is kept.
    for chain in numbers(medium, dir)?.into_iter().filter(|chain| *chain < current) {
        if !kept.iter().any(|(kept, _)| *kept == chain) {
            remove(medium, &chain_path(dir, chain))?;
        }
    }
    let chain = chain_path(dir, current);
    for number in base_numbers(medium, &chain, true)? {
        medium.remove(&base::path(&chain, number).with_extension(PARTIAL))?;
    }
    medium.sync_dir(&chain.join(BASES))?;
    if let Some(oldest) = bases.first() {
        tidy_log(medium, &chain, oldest.flushed)?;
    }
    tidy_files(medium, &chain, bases.iter())
}

/// Removes the chains that have no base: nothing can be restored from them.
pub(super) fn remove_baseless<M: Medium>(medium: &M, dir: &Path) -> io::Result<()> {
    for chain in numbers(medium, dir)?.into_iter().map(|chain| chain_path(dir, chain)) {
        if base_numbers(medium, &chain, false)?.is_empty() {
            remove(medium, &chain)?;
        }
    }
    Ok(())
}

/// Removes a chain: what names others before what they name.
fn remove<M: Medium>(medium: &M, chain: &Path) -> io::Result<()> {
    let bases = chain.join(BASES);
    medium.list(&bases)?.iter().try_for_each(|path| medium.remove(path))?;
    if medium.exists(&bases) {
        medium.sync_dir(&bases)?;
    }
    medium.remove_dir(chain)
}

/// Files of the log that end before what the oldest base needs go.
fn tidy_log<M: Medium>(medium: &M, chain: &Path, flushed: u64) -> io::Result<()> {
    let files = log_files(medium, chain)?;
    let ends = files.iter().skip(1).map(|(first, _)| first - 1);
    let old = files.iter().zip(ends).filter(|(_, end)| *end <= flushed);
    old.map(|((_, path), _)| path).try_for_each(|path| medium.remove(path))
}

/// Files of the trees go that no base names.
pub(super) fn tidy_files<'a, M: Medium>(
    medium: &M,
    chain: &Path,
    bases: impl Iterator<Item = &'a BaseRecord>,
) -> io::Result<()> {
    let named = bases.flat_map(BaseRecord::files).filter(|file| !file.salt.is_empty());
    let named: BTreeSet<_> = named.map(|file| file_path(chain, &file.salt)).collect();
    let files = medium.list(&chain.join(FILES))?;
    files.iter().filter(|path| !named.contains(*path)).try_for_each(|path| medium.remove(path))
}

/// The files of a chain's log by the groups that they begin with, rising.
pub(super) fn log_files<M: Medium>(medium: &M, chain: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let first = |path: &PathBuf| path.file_name()?.to_str()?.split_once('-')?.0.parse::<u64>().ok();
    let files = medium.list(&chain.join(LOG))?.into_iter();
    let mut files: Vec<_> = files.filter_map(|path| Some((first(&path)?, path))).collect();
    files.sort();
    Ok(files)
}
