//! Files that are whole or not there: made under another name, synced, named, and the directory synced.

use std::io;
use std::path::Path;

use super::manifest;
use crate::medium::{Medium, MediumFile as _, Opening};
use crate::mutations::{self, Mutation};

/// What a file's name ends with while it is being made.
pub(super) const UNFINISHED: &str = "unfinished";

/// Puts a file in the place of the one that has its name, durably: whole, or not at all.
pub(super) fn replace<M: Medium>(medium: &M, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension(UNFINISHED);
    let file = medium.open(&unfinished, Opening::Emptied)?;
    file.write_all_at(bytes, 0)?;
    file.sync_all()?;
    medium.rename(&unfinished, path)?;
    if mutations::is(Mutation::UnsyncedManifest) && path.ends_with(manifest::FILE) {
        return Ok(());
    }
    medium.sync_dir(path.parent().expect("a file of the store has a directory"))
}
